# SPDX-License-Identifier: Apache-2.0
"""An AMD library as no driver makes it: nothing crashes, nothing waits for ever, nothing absurd is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenWarning
from fastgreen.sensors.amdsmi import amdsmi as look
from fastgreen.sensors.catalog import discover
from fastgreen.sensors.channel import Seams
from tests.fakes.amdsmi import Board
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT

BOARD = Board(150.0)
TEXTS = [f"{what} {how}" for what in ("uuid", "name") for how in ("without end", "of bytes")]
CODES = ["codes without text", "codes without end", "codes of bytes"]


def measured(identity: str = "amdsmi:0", hz: float = 500) -> dict:
    with fg.Monitor(identity, hz=hz) as monitor:
        time.sleep(0.1)
    (row,) = monitor.result.channels.to_pylist()
    return row


@pytest.mark.parametrize("version", [(23, 1, 0, 0), (26, 0, 0, 0)])
@pytest.mark.parametrize("fault", ["", *TEXTS])
def test_texts_without_an_end_or_of_bytes_are_cut_to_their_room(amdsmi, version, fault):
    amdsmi(BOARD, version=version, fault=fault)
    channel = next(c for c in fg.channels() if c.source == "amdsmi")
    for text in (channel.name, channel.device, channel.driver):
        assert text.isascii()
        assert text.isprintable()
        assert len(text) <= 256
    assert "V" not in channel.name  # nothing of what follows the name
    assert measured()["samples"] > 0


@pytest.mark.parametrize("fault", CODES)
def test_names_of_codes_without_an_end_or_of_bytes_are_cut(amdsmi, fault):
    amdsmi(replace(BOARD, code=7), fault=fault)
    reason = next(c.reason for c in fg.channels() if c.source == "amdsmi")
    assert "(AMD SMI 7)" in reason
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) < 150


@pytest.mark.parametrize("fault", ["many sockets", "many processors"])
def test_a_count_that_no_driver_has_is_refused(amdsmi, fault):
    amdsmi(BOARD, fault=fault)
    assert "reports 4000000000, more than" in look(Seams.of())[1].reason


def test_a_library_of_other_processors_lists_no_gpu(amdsmi):
    amdsmi(BOARD, fault="no GPU")
    assert look(Seams.of())[1].reason == "the library lists no GPU"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("init crashes", "crashed (SIGSEGV) while it listed the boards"),
        ("energy crashes", "crashed (SIGSEGV) while it listed the boards"),
        ("init ends the process", "ended its process with code 3"),
    ],
)
def test_a_library_that_crashes_is_reported_and_the_others_measure(amdsmi, powercap, fault, said):
    powercap(Zone("package-0", counter_start_uj=30_000_000))
    amdsmi(BOARD, fault=fault)
    channels, states = discover()
    (state,) = (s for s in states if s.source == "amdsmi")
    assert said in state.reason
    assert [c.id for c in channels if c.root] == ["rapl:package-0"]
    with fg.Monitor() as monitor:
        time.sleep(0.05)
    assert monitor.result.channels["id"].to_pylist() == ["rapl:package-0"]


def test_a_file_that_is_no_library_is_reported(tmp_path):
    (tmp_path / "libamd_smi.so").write_bytes(b"\x7fELF but not for long")
    _, state = look(Seams.of(amdsmi_library=tmp_path / "libamd_smi.so"))
    assert "libamd_smi.so" in state.reason


def test_a_name_with_odd_characters_is_a_name(amdsmi, tmp_path):
    odd = tmp_path / "a folder; with \"quotes\" and 'ümlaut'"
    fake = amdsmi(BOARD)
    fake.folder.rename(odd)
    assert [c.id for c in look(Seams.of(amdsmi_library=odd / "libamd_smi.so"))[0]] == ["amdsmi:0"]


@pytest.mark.parametrize("fault", ["init hangs", "energy hangs"])
def test_a_library_that_blocks_is_left_behind_and_not_asked_again_until_it_answers(amdsmi, soon, fault):
    fake = amdsmi(BOARD, fault=fault)
    seams = Seams.of()
    found, state = look(seams, patience_s=0.5)
    assert found == []
    assert "does not answer" in state.reason
    begun = time.monotonic()
    assert "does not answer" in look(seams, patience_s=60)[1].reason
    assert time.monotonic() - begun < 30
    fake.write(fault="")  # and lets go
    soon(lambda: len(look(seams)[0]) == 1)


BLOCKS_AT_START = """
import time
import fastgreen as fg
monitor = fg.Monitor(["amdsmi:0", "rapl:package-0"])
import sys, pathlib
script = pathlib.Path(sys.argv[1])
script.write_text(script.read_text().replace("fault ", "fault init hangs"))
begun = time.monotonic()
try:
    monitor.start()
except fg.errors.ChannelReadError as error:
    print("does not answer" in str(error), time.monotonic() - begun < 60)
with fg.Monitor("rapl:package-0") as other:
    time.sleep(0.1)
print(other.result.channels["samples"].to_pylist()[0] > 0)
"""


@pytest.mark.slow
def test_a_library_that_blocks_at_the_start_is_left_behind(amdsmi, powercap, python):
    powercap(Zone("package-0", counter_start_uj=30_000_000))
    fake = amdsmi(BOARD)
    done = python(BLOCKS_AT_START, fake.folder / "script")
    assert done.stdout.splitlines() == ["True True", "True"], done.stderr
    assert done.returncode == 0


HANGS_AT = """
import pathlib, sys, time
import fastgreen as fg
script = pathlib.Path(sys.argv[1])
monitor = fg.Monitor("amdsmi:0", hz=500).start()
until = time.monotonic() + 60
while monitor._groups[0].sampler.live(0)["samples"] <= 10:
    assert time.monotonic() < until
    time.sleep(0.01)
script.write_text(script.read_text().replace("fault ", "fault energy hangs"))
begun = time.monotonic()
monitor.stop()
(row,) = monitor.result.channels.to_pylist()
print(row["samples"] > 10, row["energy_j"] > 0, "does not answer" in " ".join(monitor.result.notes))
try:
    fg.Monitor("amdsmi:0").start()
except fg.errors.FastgreenError as error:  # discovery waits for its own child in vain
    print("no channel matches 'amdsmi:0'" in str(error) or "has not come back" in str(error))
del monitor
print(time.monotonic() - begun < 100)
"""


@pytest.mark.slow
def test_a_library_that_hangs_for_good_keeps_no_program_from_its_end(amdsmi):
    fake = amdsmi(BOARD)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HANGS_AT, str(fake.folder / "script")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.stdout == "True True True\nTrue\nTrue\n", done.stderr
    assert done.returncode == 0


def test_a_child_without_an_answer_ends_with_the_program(amdsmi, python):
    amdsmi(BOARD, fault="init hangs")
    done = python(
        """
        from fastgreen.sensors import amdsmi
        from fastgreen.sensors.channel import Seams
        print(amdsmi.amdsmi(Seams.of(), patience_s=0.5)[1].reason)
        (child,) = amdsmi._silent.values()
        print(child.pid)
        """
    )
    reason, pid = done.stdout.splitlines()
    assert "does not answer" in reason
    until = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # nobody takes note of its end in a container without init
            break
        time.sleep(0.05)
    assert time.monotonic() < until


def test_an_energy_past_63_bits_is_a_failed_read(amdsmi):
    fake = amdsmi(replace(BOARD, fixed=10**15, resolution_uj=1000.0))
    monitor = fg.Monitor("amdsmi:0", hz=200).start()
    time.sleep(0.05)
    fake.write(boards=[replace(BOARD, fixed=2**64 - 2, resolution_uj=1000.0)])
    time.sleep(0.1)
    with pytest.warns(FastgreenWarning, match="impossible energy"):
        monitor.stop()
    (row,) = monitor.result.channels.to_pylist()
    assert row["read_errors"] > 3
    assert row["energy_j"] == 0


def test_a_value_that_the_driver_does_not_have_is_not_supported(amdsmi):
    amdsmi(replace(BOARD, fixed=2**64 - 1))
    assert "AMD SMI 2" in next(c.reason for c in fg.channels() if c.source == "amdsmi")


@pytest.mark.parametrize("cap_w", [0.0, 0.5, 1e9])
def test_a_limit_that_no_board_has_is_no_ceiling(amdsmi, cap_w):
    amdsmi(replace(BOARD, cap_w=cap_w))
    assert next(c.ceiling_w for c in fg.channels() if c.source == "amdsmi") is None


def test_sixty_starts_leave_no_descriptor_and_no_thread_behind(amdsmi, soon):
    amdsmi(BOARD)

    def open_now() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    measured()
    before = open_now()
    for _ in range(60):
        with fg.Monitor("amdsmi:0", hz=500):
            pass
    soon(lambda: all(now <= then for now, then in zip(open_now(), before, strict=True)))


def test_a_frozen_program_starts_no_copy_of_itself(amdsmi, python):
    amdsmi(BOARD)
    done = python(
        """
        import sys
        sys.frozen = True
        from fastgreen.sensors.catalog import discover
        channels, states = discover()
        print([c.id for c in channels if c.source == "amdsmi"], [s.reason for s in states if s.source == "amdsmi"])
        """
    )
    assert "[] ['a child process must list the boards" in done.stdout


def test_what_the_library_prints_is_not_its_answer(amdsmi, tmp_path):
    """The child's standard output is read; AMD's library prints on it."""
    amdsmi(BOARD, fault="prints")
    assert len(look(Seams.of())[0]) == 1
