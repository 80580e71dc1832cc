# SPDX-License-Identifier: Apache-2.0
"""AMD boards measured through their own energy counter: its law, its lies, its versions, and what counts beside it."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from dataclasses import replace

import pytest

import fastgreen as fg
from fastgreen.errors import ChannelReadError, FastgreenWarning
from fastgreen.sensors.amdsmi import amdsmi as look
from fastgreen.sensors.amdsmi import library_path
from fastgreen.sensors.catalog import discover
from fastgreen.sensors.channel import Seams
from tests.fakes import hwmon as chips
from tests.fakes.amdsmi import JOULES_PER_COUNT, Board, FakeAmdSmi
from tests.fakes.powercap import Zone
from tests.fakes.wave import Sine, Square
from tests.oracles.interpreter import without_fork_warning

BOARD = Board(150.0)
SECOND = replace(BOARD, uuid="6aff74a1-0000-1000-8012-000000000002", bus="0000:c3:00.0", power=90.0)
W = 1_000_000  # uW


def rows(monitor: fg.Monitor) -> dict[str, dict]:
    return {row["id"]: row for row in monitor.result.channels.to_pylist()}


def found(identity: str) -> fg.Channel:
    return next(c for c in fg.channels() if c.id == identity)


def holds(fake: FakeAmdSmi, monitor: fg.Monitor, board: int = 0) -> bool:
    """Whether the true energy lies within the channel's bounds."""
    tally = monitor.result.trace(f"amdsmi:{board}").tally
    total = monitor.result.totals[f"amdsmi:{board}"]
    return total.low_j <= fake.energy_j(board, tally["first_at_ns"], tally["end_at_ns"]) <= total.high_j


@pytest.mark.parametrize("power", [120.0, Sine(150.0, 100.0, 0.3), Square(60.0, 300.0, 0.25)])
@pytest.mark.parametrize("period_s", [0.001, 0.02, 0.1])
@pytest.mark.parametrize("stamp", ["boot", "zero", "old"])
def test_a_counter_holds_the_true_energy(amdsmi, power, period_s, stamp):
    fake = amdsmi(replace(BOARD, power=power, period_s=period_s, stamp=stamp))
    with fg.Monitor("amdsmi:0", settle=True) as monitor:
        time.sleep(0.4)
    assert holds(fake, monitor)
    assert rows(monitor)["amdsmi:0"]["method"] == "counter"


def test_the_unit_is_a_65536th_of_a_joule_although_the_library_says_15_3(amdsmi):
    fake = amdsmi(replace(BOARD, fixed=10**10))
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.05)
        fake.write(boards=[replace(BOARD, fixed=10**10 + 1_000_003)])
        time.sleep(0.05)
    assert monitor.result.energy_j == 1_000_003 * JOULES_PER_COUNT


@pytest.mark.parametrize("resolution_uj", [1.0, 0.5, 1000.0, 61.035])
def test_another_resolution_is_taken_at_its_word(amdsmi, resolution_uj):
    fake = amdsmi(replace(BOARD, fixed=1_000_000, resolution_uj=resolution_uj))
    assert found("amdsmi:0").unit == "uJ"
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.05)
        fake.write(boards=[replace(BOARD, fixed=1_004_321, resolution_uj=resolution_uj)])
        time.sleep(0.05)
    drawn_j = 4_321 * resolution_uj * 1e-6
    assert monitor.result.energy_j == pytest.approx(drawn_j, abs=1.1e-6, rel=1e-6)
    assert monitor.result.energy_low_j <= drawn_j <= monitor.result.energy_high_j


def test_a_resolution_that_changes_in_mid_run_is_a_failed_read(amdsmi):
    fake = amdsmi(BOARD)
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.05)
        fake.write(boards=[replace(BOARD, resolution_uj=1.0)])
        time.sleep(0.05)
        fake.write(boards=[BOARD])
        time.sleep(0.05)
    row = rows(monitor)["amdsmi:0"]
    assert row["read_errors"] >= 1
    assert row["restarts"] == row["jumps"] == 0
    assert holds(fake, monitor)


@pytest.mark.parametrize("resolution_uj", [0.0, -15.3, float("nan"), float("inf"), 1e30])
def test_an_impossible_resolution_is_not_measured(amdsmi, resolution_uj):
    amdsmi(replace(BOARD, fixed=10**9, resolution_uj=resolution_uj))
    assert "impossible resolution" in (found("amdsmi:0").reason or "")


# ---- counters that wrap, restart, go back, or rest ----


@pytest.mark.parametrize("bits", [32, 64])
def test_a_wrap_is_exact(amdsmi, bits):
    board = replace(BOARD, power=1000.0, bits=bits, start=2**32 - 5e6)  # wraps after 76 J
    fake = amdsmi(board)
    with fg.Monitor("amdsmi:0", hz=200, settle=True) as monitor:
        time.sleep(0.4)
    report = monitor.result.trace("amdsmi:0").tally
    drawn_j = fake.energy_j(0, report["first_at_ns"], report["end_at_ns"])
    assert monitor.result.energy_j == pytest.approx(drawn_j, abs=50.0)  # a wrap is 65.5 kJ
    assert drawn_j > 100
    assert holds(fake, monitor)
    assert (report["resets"], report["jumps"]) == (0, 0)


def test_a_wrap_of_the_whole_64_bits_is_exact(amdsmi):
    before, after = 2**64 - 1_000, 500
    fake = amdsmi(replace(BOARD, fixed=before))
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.05)
        fake.write(boards=[replace(BOARD, fixed=after)])
        time.sleep(0.05)
    assert monitor.result.energy_j == 1_500 * JOULES_PER_COUNT


@pytest.mark.parametrize("drop", [400_000, -90_000_000], ids=["back", "up"])
def test_a_counter_that_is_wrong_for_moments_loses_and_invents_nothing(amdsmi, drop):
    """6 J too low, or 1.4 kJ too high, for 30 ms of every 200 ms; right when the run begins and when it ends."""
    fake = amdsmi(BOARD)
    with fg.Monitor("amdsmi:0", hz=200, settle=True) as monitor:
        time.sleep(0.1)
        fake.write(boards=[replace(BOARD, slip=(0.2, 0.03, drop))])
        time.sleep(0.7)
        fake.write(boards=[BOARD])
        time.sleep(0.15)
    row = rows(monitor)["amdsmi:0"]
    assert holds(fake, monitor)
    assert row["jumps"] + row["restarts"] >= 1


def test_a_driver_loaded_again_is_a_restart(amdsmi):
    fake = amdsmi(BOARD)
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.2)
        fake.write(boards=[replace(BOARD, start=1000.0)])
        time.sleep(0.2)
    assert rows(monitor)["amdsmi:0"]["restarts"] == 1
    assert holds(fake, monitor)


def test_a_counter_that_stands_still_while_the_drivers_power_shows_load_is_a_fault(amdsmi, hwmon):
    amdsmi(replace(BOARD, fixed=8_152_136))  # as an MI100 under ROCm 6.0 showed
    hwmon(chips.amdgpu(average_uw=220 * W))
    with fg.Monitor() as monitor:
        time.sleep(2.4)
    row = rows(monitor)["amdsmi:0"]
    assert (row["standstills"], row["energy_j"]) == (1, None)
    assert row["energy_high_j"] > 220 * 2
    assert "showed 220 W" in " ".join(monitor.result.notes)


def test_a_counter_that_shows_0_is_not_measured_and_the_drivers_power_counts(amdsmi, hwmon):
    amdsmi(replace(BOARD, fixed=0))
    hwmon(chips.amdgpu(average_uw=30 * W))
    assert "shows 0" in found("amdsmi:0").reason
    assert [c.id for c in fg.channels() if c.root and c.readable] == ["hwmon:amdgpu/PPT", "procstat:cpu"]


# ---- versions ----


@pytest.mark.parametrize("version", [(23, 4, 0, 0), (24, 7, 1, 0), (25, 5, 1, 0), (26, 0, 0, 0)])
def test_every_known_version_is_read(amdsmi, version):
    fake = amdsmi(BOARD, version=version)
    channel = found("amdsmi:0")
    assert channel.name == BOARD.name
    assert channel.driver == "amdsmi " + ".".join(map(str, version[: 4 if version[0] < 26 else 3]))
    assert channel.ceiling_w == (None if version[0] == 23 else 750.0)
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.15)
    assert holds(fake, monitor)


@pytest.mark.parametrize("first", [0, 1, 22, 27, 4_000_000_000])
def test_an_unknown_version_is_refused_in_a_sentence(amdsmi, hwmon, first):
    amdsmi(BOARD, version=(first, 4, 0, 0))
    hwmon(chips.amdgpu())
    channels, states = discover()
    (state,) = (s for s in states if s.source == "amdsmi")
    assert f"interface version {first}, which is not known: fastgreen knows 23 to 26" in state.reason
    assert "hwmon:amdgpu/PPT" in {c.id for c in channels if c.root}


@pytest.mark.parametrize("required", ["init", "get_socket_handles", "get_processor_handles", "get_energy_count"])
def test_a_library_without_a_required_function_is_too_old(amdsmi, required):
    amdsmi(BOARD, omit=[f"amdsmi_{required}"])
    _, state = look(Seams.of())
    assert f"has no function amdsmi_{required}: ROCm is too old" in state.reason


OPTIONAL = ["get_processor_type", "get_gpu_asic_info", "get_power_cap_info", "status_code_to_string"]


@pytest.mark.parametrize("missing", [[name] for name in OPTIONAL] + [OPTIONAL])
def test_a_library_without_an_optional_function_measures(amdsmi, missing):
    fake = amdsmi(BOARD, omit=[f"amdsmi_{name}" for name in missing])
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.1)
    assert holds(fake, monitor)


@pytest.mark.parametrize("missing", ["get_gpu_device_bdf", "get_gpu_device_uuid"])
def test_a_board_is_found_by_its_address_or_its_uuid(amdsmi, missing):
    fake = amdsmi(BOARD, SECOND, omit=[f"amdsmi_{missing}"])
    with fg.Monitor("amdsmi:*", hz=200) as monitor:
        time.sleep(0.1)
    assert holds(fake, monitor, 0)
    assert holds(fake, monitor, 1)


def test_a_board_without_address_and_uuid_is_not_measured_in_the_place_of_another(amdsmi):
    amdsmi(BOARD, SECOND, omit=["amdsmi_get_gpu_device_bdf", "amdsmi_get_gpu_device_uuid"])
    assert all("cannot be told from another board" in c.reason for c in fg.channels() if c.source == "amdsmi")


# ---- what counts ----


def test_the_drivers_power_is_the_check_of_the_counter(amdsmi, hwmon):
    fake = amdsmi(BOARD, SECOND)
    hwmon(chips.amdgpu(average_uw=150 * W, bus="0000:03:00.0"), chips.amdgpu(average_uw=99 * W, bus="0000:c3:00.0"))
    with fg.Monitor(hz=200, settle=True) as monitor:
        time.sleep(0.4)
    table = rows(monitor)
    assert {i for i, row in table.items() if row["counted"]} == {"amdsmi:0", "amdsmi:1", "procstat:cpu"}
    parents = {c.id: c.parent for c in monitor.channels}
    assert parents["hwmon:amdgpu/PPT"] == "amdsmi:0"
    assert parents["hwmon:amdgpu@hwmon1/PPT"] == "amdsmi:1"
    assert table["hwmon:amdgpu/PPT"]["ratio_to_counter"] == pytest.approx(1.0, rel=0.1)
    assert table["hwmon:amdgpu@hwmon1/PPT"]["ratio_to_counter"] == pytest.approx(1.1, rel=0.1)
    assert holds(fake, monitor, 0)
    assert holds(fake, monitor, 1)


def test_a_board_without_a_counter_is_counted_by_its_drivers_power(amdsmi, hwmon):
    amdsmi(BOARD, replace(SECOND, code=2))
    hwmon(chips.amdgpu(bus="0000:03:00.0"), chips.amdgpu(average_uw=99 * W, bus="0000:c3:00.0"))
    channels = {c.id: c for c in fg.channels()}
    counted = {i for i, c in channels.items() if c.root and c.readable}
    assert counted == {"amdsmi:0", "hwmon:amdgpu@hwmon1/PPT", "procstat:cpu"}
    assert "Not supported (AMD SMI 2)" in channels["amdsmi:1"].reason
    assert "hwmon:amdgpu@hwmon1/PPT counts this board" in channels["amdsmi:1"].note
    with fg.Monitor() as monitor:  # and warns of nothing
        pass
    assert not [text for text in monitor.result.notes if "amdsmi:1" in text]


def test_a_board_without_an_address_may_be_any_board_and_is_counted_once(amdsmi, hwmon):
    amdsmi(replace(BOARD, bus=None))
    hwmon(chips.amdgpu(average_uw=150 * W))
    assert {c.id for c in fg.channels() if c.root} == {"amdsmi:0", "procstat:cpu"}


def test_the_parts_of_a_board_in_partition_mode_count_once(amdsmi, hwmon):
    parts = [replace(BOARD, bus=f"0000:03:00.{n}", socket=0, uuid=f"{BOARD.uuid[:-1]}{n}") for n in range(4)]
    amdsmi(*[replace(p, code=2 if n == 0 else 0) for n, p in enumerate(parts)], replace(SECOND, socket=1))
    hwmon(chips.amdgpu(average_uw=150 * W))
    channels = {c.id: c for c in fg.channels()}
    assert [i for i, c in channels.items() if c.root] == ["amdsmi:1", "amdsmi:4", "procstat:cpu"]
    assert channels["amdsmi:2"].note == "a part of the board that amdsmi:1 counts"
    assert channels["hwmon:amdgpu/PPT"].parent == "amdsmi:1"


def test_an_apu_that_shows_a_counter_is_not_added_to_its_package(amdsmi, hwmon, powercap):
    powercap(Zone("package-0", counter_start_uj=30_000_000))
    amdsmi(replace(BOARD, bus="0000:c4:00.0"))
    hwmon(chips.apu())
    channels = {c.id: c for c in fg.channels()}
    assert [i for i, c in channels.items() if c.root] == ["rapl:package-0"]
    assert "CPU included" in channels["amdsmi:0"].note


def test_gpu_means_the_boards_of_amd_too(amdsmi, hwmon):
    amdsmi(BOARD, SECOND)
    hwmon(chips.amdgpu(bus="0000:03:00.0"), chips.i915(5))
    with fg.Monitor("gpu") as monitor:
        pass
    assert {c.id for c in monitor.channels} == {"amdsmi:0", "amdsmi:1", "hwmon:i915/energy1"}


# ---- turns, forks, other users ----


def test_calls_are_never_side_by_side(amdsmi):
    boards = [replace(BOARD, slow_s=0.002), replace(SECOND, slow_s=0.002)]
    fake = amdsmi(*boards)
    monitors = [fg.Monitor(f"amdsmi:{n % 2}", hz=300) for n in range(4)]
    threads = [threading.Thread(target=monitor.start) for monitor in monitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.5)
    for monitor in monitors:
        monitor.stop()
    counts = fake.counts()
    assert counts["side_by_side"] == 0
    assert counts["energies"] > 40
    assert all(holds(fake, monitor, n % 2) for n, monitor in enumerate(monitors))


def test_the_library_stays_initialised_for_its_other_users(amdsmi):
    fake = amdsmi(BOARD)
    other = ctypes.CDLL(str(fake.library))
    assert other.amdsmi_init(2) == 0
    for _ in range(3):
        with fg.Monitor("amdsmi:0", hz=200):
            time.sleep(0.02)
    assert fake.counts()["shutdowns"] == 0
    sockets = ctypes.c_uint32()
    assert other.amdsmi_get_socket_handles(ctypes.byref(sockets), None) == 0
    assert sockets.value == 1


def test_a_shutdown_by_another_user_is_recovered_from(amdsmi):
    fake = amdsmi(BOARD)
    other = ctypes.CDLL(str(fake.library))
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        for _ in range(3):
            time.sleep(0.05)
            other.amdsmi_shut_down()
        time.sleep(0.05)
    row = rows(monitor)["amdsmi:0"]
    assert (row["read_errors"], row["restarts"], row["status"]) == (0, 0, "ok")
    assert holds(fake, monitor)


FORKS = """
import os, sys, threading, time
import fastgreen as fg
with fg.Monitor("amdsmi:0", hz=500):
    for _ in range(20):
        time.sleep(0.003)
        child = os.fork()
        if child == 0:
            with fg.Monitor("amdsmi:0", hz=100) as monitor:
                time.sleep(0.05)
            os._exit(0 if monitor.result.energy_j > 0 else 1)
        print(os.waitpid(child, 0)[1], end=" ")
"""


def test_a_child_of_a_fork_waits_for_no_turn_that_its_parent_had(amdsmi, python):
    amdsmi(replace(BOARD, slow_s=0.0015))
    done = python(FORKS)
    assert (done.stdout.split(), without_fork_warning(done.stderr)) == (["0"] * 20, "")


# ---- boards that fail ----


def test_a_board_that_vanishes_ends_its_own_channel(amdsmi):
    fake = amdsmi(BOARD, SECOND)
    with fg.Monitor("amdsmi:*", hz=200) as monitor:
        time.sleep(0.1)
        fake.write(boards=[replace(BOARD, gone=True), SECOND])
        time.sleep(0.2)
    table = rows(monitor)
    assert "is gone (AMD SMI 31)" in table["amdsmi:0"]["status"]
    assert table["amdsmi:1"]["status"] == "ok"
    assert holds(fake, monitor, 1)


@pytest.mark.parametrize("code", [1, 7, 8, 12, 30, 0x7FFFFFFE])
def test_a_read_that_fails_is_counted_and_leaves_a_gap(amdsmi, code):
    fake = amdsmi(BOARD)
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.1)
        fake.write(boards=[replace(BOARD, code=code)])
        time.sleep(0.1)
        fake.write(boards=[BOARD])
        time.sleep(0.1)
    row = rows(monitor)["amdsmi:0"]
    assert row["read_errors"] >= 3
    assert row["status"] == "ok"
    assert holds(fake, monitor)


def test_three_times_not_supported_end_a_channel(amdsmi):
    fake = amdsmi(BOARD)
    with fg.Monitor("amdsmi:0", hz=200) as monitor:
        time.sleep(0.1)
        fake.write(boards=[replace(BOARD, code=2)])
        time.sleep(0.1)
    row = rows(monitor)["amdsmi:0"]
    assert row["read_errors"] == 3
    assert "AMD SMI 2" in row["status"]


def test_no_permission_names_the_groups(amdsmi):
    amdsmi(replace(BOARD, code=10))
    channel = found("amdsmi:0")
    assert "Permission Denied" in channel.reason
    assert "render" in channel.remedy
    amdsmi(BOARD, init=10)
    assert "render" in look(Seams.of())[1].remedy


@pytest.mark.parametrize("code", [1, 4, 18, 34])
def test_an_initialisation_that_fails_is_the_reason(amdsmi, code):
    amdsmi(BOARD, init=code)
    channels, state = look(Seams.of())
    assert channels == []
    assert f"amdsmi_init: An unknown error occurred (AMD SMI {code})" in state.reason or code < 3


def test_a_library_that_fails_at_the_start_ends_no_other_source(amdsmi, powercap):
    powercap(Zone("package-0", counter_start_uj=1))
    fake = amdsmi(BOARD)
    monitor = fg.Monitor()
    fake.write(init=18)
    with pytest.warns(FastgreenWarning, match="amdsmi:0 could not be opened"), monitor:
        time.sleep(0.05)
    assert [row["id"] for row in monitor.result.channels.to_pylist()] == ["rapl:package-0"]
    with pytest.raises(ChannelReadError, match="amdsmi_init"):
        fg.Monitor("amdsmi:0").start()


# ---- where it is ----


def test_the_library_is_looked_for_in_the_folders_of_rocm(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    newest = tmp_path / "lib" / "libamd_smi.so.26"
    newest.touch()
    assert library_path("libamd_smi.so") != str(newest)
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    assert library_path("libamd_smi.so") == str(newest)
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path}")
    (tmp_path / "libamd_smi.so").touch()
    assert library_path("libamd_smi.so") == str(tmp_path / "libamd_smi.so")
    assert library_path(str(newest)) == str(newest)
    assert library_path("/nowhere/libamd_smi.so") is None


def test_the_seam_is_an_argument_and_a_variable(amdsmi, tmp_path, monkeypatch):
    fake = amdsmi(BOARD)
    monkeypatch.setenv("FASTGREEN_AMDSMI_LIBRARY", str(tmp_path / "nothing"))
    assert [c.id for c in fg.channels(amdsmi_library=fake.library) if c.source == "amdsmi"] == ["amdsmi:0"]
    _, state = look(Seams.of())
    assert "there is no such library" in state.reason
    assert "FASTGREEN_AMDSMI_LIBRARY" in state.remedy
    with fg.Monitor("amdsmi:0", amdsmi_library=os.fspath(fake.library)) as monitor:
        time.sleep(0.05)
    assert monitor.result.energy_j > 0
