# SPDX-License-Identifier: Apache-2.0
"""A library as no driver makes it: nothing crashes, nothing waits for ever, nothing absurd is measured."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import time

import pytest

import fastgreen as fg
from fastgreen.sensors.catalog import discover
from fastgreen.sensors.channel import Seams
from fastgreen.sensors.nvml import nvml
from tests.fakes.build import build
from tests.oracles.places import ROOT

SOURCES = ROOT / "tests" / "fakes" / "nvml_hostile"


@pytest.fixture
def hostile(monkeypatch):
    """Makes the machine's NVIDIA library one with this fault."""
    library = build("libhostile.so", (SOURCES / "hostile.c",), (), ("-fPIC", "-shared"))
    monkeypatch.setenv("FASTGREEN_NVML_LIBRARY", str(library))
    return lambda wrong: monkeypatch.setenv("HOSTILE_NVML", wrong)


def boards() -> list[fg.Channel]:
    return [c for c in fg.channels() if c.source == "nvml"]


def measured(reads: int = 20) -> dict[str, dict]:
    """What was measured in so many rounds of reading, good or bad."""
    with fg.Monitor("nvml:*", hz=500) as monitor:
        live, until = monitor._groups[0].sampler.live, time.monotonic() + 60
        channels = range(len(monitor.channels))
        while time.monotonic() < until and not all(
            live(i)["samples"] + live(i)["read_errors"] > reads or live(i)["ended"] for i in channels
        ):
            time.sleep(0.005)
    return {row["id"]: row for row in monitor.result.channels.to_pylist()}


TEXTS = [f"{what} {how}" for what in ("driver", "uuid", "name") for how in ("without end", "of bytes")]


@pytest.mark.parametrize(
    "wrong", ["", *TEXTS, "errors without text", "errors of bytes", "parts that fail", "shutdown fails"]
)
def test_texts_without_an_end_or_of_bytes_are_told_within_their_room(hostile, wrong):
    hostile(wrong)
    found = boards()
    assert {c.id.partition("/")[0] for c in found} == {"nvml:0", "nvml:1"}
    for channel in found:
        for text in (channel.name, channel.device, channel.driver, channel.reason or "", channel.note or ""):
            assert text.isascii()
            assert text.isprintable()
            assert len(text) < 250
    readable = not wrong.startswith("uuid")
    assert all(c.readable == readable for c in found)
    if readable:
        assert all(row["samples"] > 0 for row in measured().values())


@pytest.mark.parametrize(
    ("wrong", "said"), [("one uuid", "UUID of nvml:1"), ("no uuid", "no UUID"), ("uuid of bytes", "no")]
)
def test_a_board_that_cannot_be_found_again_is_not_measured_in_the_place_of_another(hostile, wrong, said):
    hostile(wrong)
    first, second = boards()
    assert not first.readable
    assert not second.readable
    assert said in first.reason


def test_a_count_that_no_driver_has_is_refused(hostile):
    hostile("too many boards")
    _, states = discover()
    (state,) = (s for s in states if s.source == "nvml")
    assert "4000000000 devices" in state.reason


@pytest.mark.parametrize("wrong", ["power of 63 bits", "negative power"])
def test_a_power_that_no_board_draws_is_a_failed_read(hostile, wrong):
    hostile(wrong)
    row = measured()["nvml:0/power"]
    assert row["samples"] == 0
    assert row["read_errors"] > 10
    assert row["energy_j"] is None


@pytest.mark.parametrize("wrong", ["power of NaN", "power of 1e300", "power of no type"])
def test_a_power_that_is_no_integer_is_not_supported(hostile, wrong):
    hostile(wrong)
    assert [c.id for c in boards()] == ["nvml:0", "nvml:1"]


def test_an_energy_past_63_bits_is_a_failed_read_and_one_that_jumps_a_restart(hostile):
    hostile("energy past 63 bits")
    assert measured()["nvml:0"]["samples"] == 0
    hostile("energy jumps")
    row = measured()["nvml:0"]
    assert row["restarts"] + row["jumps"] > 10
    assert row["energy_j"] < 1
    assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"] < math.inf


@pytest.mark.parametrize("wrong", ["no limit", "limit of a milliwatt"])
def test_a_limit_that_no_board_has_is_no_ceiling(hostile, wrong):
    hostile(wrong)
    assert [c.ceiling_w for c in boards()] == [None] * 4


@pytest.mark.parametrize("where", ["init hangs", "count hangs", "energy hangs", "shutdown hangs"])
def test_a_driver_that_hangs_while_it_is_looked_at_is_said_and_not_asked_again(hostile, where, soon):
    hostile(where)
    seams = Seams.of()
    threads = len(os.listdir("/proc/self/task"))
    found, state = nvml(seams, patience_s=0.2)
    assert found == []
    assert "does not answer" in state.reason
    begun = time.monotonic()
    assert "does not answer" in nvml(seams, patience_s=60)[1].reason
    assert time.monotonic() - begun < 30
    hostile("")  # and lets go
    soon(lambda: len(nvml(seams)[0]) == 4)  # who waited has an answer, and nobody keeps others from asking
    soon(lambda: len(os.listdir("/proc/self/task")) <= threads)  # fewer, where others were just ending then


def test_sixty_starts_leave_no_descriptor_and_no_thread_behind(hostile, soon):
    hostile("")

    def open_now() -> tuple[int, int]:
        gc.collect()  # what tests before have left in cycles
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    measured()
    before = open_now()
    for _ in range(60):
        with fg.Monitor("nvml:*", hz=500):
            pass
    soon(lambda: all(now <= then for now, then in zip(open_now(), before, strict=True)))


HANGS_AT = """
import os, sys, time
import fastgreen as fg
monitor = fg.Monitor("nvml:0", hz=500).start()
until = time.monotonic() + 60
while monitor._groups[0].sampler.live(0)["samples"] <= 10 or monitor.energy_j()["nvml:0"] == 0:
    assert time.monotonic() < until
    time.sleep(0.01)
os.environ["HOSTILE_NVML"] = sys.argv[1]
begun = time.monotonic()
monitor.stop()
(row,) = monitor.result.channels.to_pylist()
print(row["samples"] > 10, row["energy_j"] > 0, "does not answer" in " ".join(monitor.result.notes))
del monitor
print(time.monotonic() - begun < 100)
"""


@pytest.mark.slow
def test_a_driver_that_hangs_for_good_keeps_no_program_from_its_end(hostile):
    hostile("")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    said = {"energy hangs": "True True True\nTrue\n", "shutdown hangs": "True True False\nTrue\n"}
    programs = {
        where: subprocess.Popen([sys.executable, "-c", HANGS_AT, where], env=env, stdout=subprocess.PIPE, text=True)
        for where in said
    }
    for where, program in programs.items():
        assert program.communicate(timeout=240)[0] == said[where]
        assert program.returncode == 0
