# SPDX-License-Identifier: Apache-2.0
"""Counters that stand still: under load a fault, at rest a measurement; and sources that are broken."""

import itertools
import os
import threading
import time

import pytest

import fastgreen as fg
from fastgreen.errors import ChannelReadError, FastgreenWarning
from fastgreen.sensors.catalog import discover
from tests.fakes.amdsmi import Board
from tests.fakes.hwmon import i915
from tests.fakes.nvml import Gpu
from tests.fakes.powercap import Zone

START_UJ = 123_456_789


def monitored(proc, seconds, idle, **options):
    """A monitor's result while the two CPUs of `proc` work, or rest."""
    done = threading.Event()

    def advance():
        while not done.wait(0.05):
            proc.advance(**({"idle": 0.05} if idle else {"user": 0.05}))

    thread = threading.Thread(target=advance)
    thread.start()
    try:
        with fg.Monitor(**options) as monitor:
            time.sleep(seconds)
    finally:
        done.set()
        thread.join()
    return monitor.result


def test_an_estimate_counts_in_the_place_of_a_counter_that_never_moves_under_load(powercap, proc, tmp_path):
    powercap(Zone("package-0", counter_start_uj=START_UJ))
    with pytest.warns(FastgreenWarning, match="replaces rapl:package-0"):
        result = monitored(proc, 1.4, idle=False, record=tmp_path / "run")
    for seen in (result, fg.load(tmp_path / "run")):
        dead, estimate = seen.channels.to_pylist()
        assert (dead["energy_j"], dead["counted"], dead["standstills"]) == (None, False, 1)
        assert dead["energy_high_j"] == pytest.approx(125 * 1.4, rel=0.3)
        assert (estimate["id"], estimate["counted"], seen.estimated) == ("procstat:cpu", True, True)
        assert 0.8 * 7 * 1.3 < estimate["energy_j"] == seen.energy_j  # 3.5 W of each CPU
        assert "CPUs were busy" in " ".join(seen.notes)
        assert "1 standstill" in str(seen)


def test_a_counter_asked_for_by_name_is_not_replaced_and_its_bound_is_open(powercap, proc):
    powercap(Zone("package-0", counter_start_uj=START_UJ))
    result = monitored(proc, 1.3, idle=False, channels="rapl:package-0")
    assert [row["id"] for row in result.channels.to_pylist()] == ["rapl:package-0"]
    assert not result.known
    assert result.energy_high_j > 125


def test_a_counter_at_rest_on_an_idle_machine_is_a_measurement(powercap, proc):
    powercap(Zone("package-0", counter_start_uj=START_UJ))
    result = monitored(proc, 1.4, idle=True)
    (row,) = result.channels.to_pylist()
    assert (row["energy_j"], row["standstills"], row["counted"]) == (0.0, 0, True)
    assert result.known


def test_a_stat_file_that_stands_still_is_said(only_fakes):
    with fg.Monitor() as monitor:
        time.sleep(1.2)
    result = monitor.result
    assert result.channels["standstills"].to_pylist() == [1]
    assert "did not change" in " ".join(result.notes)
    assert result.energy_low_j < result.energy_high_j


SOURCES = {
    "rapl": "FASTGREEN_POWERCAP_ROOT",
    "nvml": "FASTGREEN_NVML_LIBRARY",
    "amdsmi": "FASTGREEN_AMDSMI_LIBRARY",
    "hwmon": "FASTGREEN_HWMON_ROOT",
    "perf": "FASTGREEN_EVENT_SOURCE_ROOT",
    "procstat": "FASTGREEN_PROC_ROOT",
}
ONE_OR_TWO = [*itertools.combinations(SOURCES, 1), *itertools.combinations(SOURCES, 2)]
BROKEN = ["missing", "file", "empty"]


def breaks(tmp_path, how):
    path = tmp_path / f"broken-{how}"
    if how == "file":
        path.write_bytes(b"\x00\xff")
    elif how == "empty":
        path.mkdir(exist_ok=True)
        (path / "stat").write_bytes(b"")
    return str(path)


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize(
    "broken", [*itertools.combinations(SOURCES, 1), *itertools.combinations(SOURCES, 2)], ids="+".join
)
def test_where_any_two_sources_are_broken_the_others_measure(
    powercap, nvml, amdsmi, hwmon, tmp_path, monkeypatch, broken, how
):
    powercap(Zone("package-0", counter_start_uj=START_UJ))
    nvml(Gpu())
    amdsmi(Board())
    hwmon(i915(1000))
    for source in broken:
        monkeypatch.setenv(SOURCES[source], breaks(tmp_path, how))
    found, states = discover()
    assert {"rapl", "perf", "nvml", "amdsmi", "hwmon", "procstat"} <= {s.source for s in states}
    assert all(s.reason for s in states if s.source in broken)
    alive = {"rapl", "nvml", "amdsmi", "hwmon", "procstat"} - set(broken)
    assert {c.source for c in found} == alive
    with fg.Monitor(channels=[c.id for c in found if c.readable]) as monitor:
        time.sleep(0.12)
    assert {t.channel.source for t in monitor.result.traces if t.has_data} == alive


@pytest.mark.parametrize("text", ["", "\n", "cpu\n", "cpu 1 2\n", "cpu a b c d\n", "garbage"])
def test_a_stat_file_that_is_no_stat_makes_procstat_not_there(only_fakes, text):
    (only_fakes / "proc" / "stat").write_text(text)
    found, states = discover()
    assert found == []
    assert "has no CPU times" in states[-1].reason


def test_a_zone_that_vanishes_before_the_start_ends_no_other_unless_it_was_asked_for(powercap):
    tree = powercap(Zone("package-0", counter_start_uj=1), Zone("package-1", counter_start_uj=2))
    monitor, asked = fg.Monitor(), fg.Monitor(channels=["rapl:package-0", "rapl:package-1"])
    os.unlink(tree["package-1"].energy)
    with pytest.raises((ChannelReadError, LookupError), match="intel-rapl:1"):
        asked.start()
    with pytest.warns(FastgreenWarning, match="could not be opened"), monitor:
        time.sleep(0.05)
    assert [row["id"] for row in monitor.result.channels.to_pylist()] == ["rapl:package-0"]
    assert "rapl:package-1 could not be opened" in " ".join(monitor.result.notes)


@pytest.mark.parametrize("limit_uw", ["1000000", "0", "-5", "999999999999999999", "x"])
def test_a_limit_that_changes_in_mid_run_is_no_fault_of_the_counter(powercap, limit_uw):
    tree = powercap(Zone("package-0", 40.0, counter_start_uj=START_UJ), move=True)
    with fg.Monitor("rapl:package-0", hz=200) as monitor:
        time.sleep(0.2)
        for path in tree["package-0"].folder.glob("constraint_*_power_limit_uw"):
            path.write_text(f"{limit_uw}\n")  # power capping, or a broken firmware
        time.sleep(0.3)
    (row,) = monitor.result.channels.to_pylist()
    assert (row["jumps"], row["restarts"], row["standstills"], monitor.result.known) == (0, 0, 0, True)
    assert row["energy_j"] == pytest.approx(40.0 * monitor.result.duration_s, rel=0.25)
