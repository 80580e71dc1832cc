"""How often each source is read, told and seen; and where the package is built."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

import fastgreen as fg
from fastgreen.measuring.rates import rates
from tests.fakes.amdsmi import Board
from tests.fakes.hwmon import amdgpu
from tests.fakes.nvml import Gpu
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT


@pytest.fixture
def channels(powercap, nvml, hwmon) -> list[fg.Channel]:
    powercap(Zone("package-0", watts=20.0), move=True)
    nvml(Gpu(power=100.0))
    hwmon(amdgpu(average_uw=30_000_000))
    return fg.channels()


def test_each_source_has_its_default_rate(channels):
    assert rates(None, channels) == {"rapl": 100, "nvml": 40, "hwmon": 100, "procstat": 10}


@pytest.mark.parametrize(("period_s", "hz"), [(0.1, 40.0), (0.05, 80.0), (0.02, 100.0), (1.0, 4.0)])
def test_a_board_is_read_four_times_an_update_but_not_within_ten_milliseconds(channels, period_s, hz):
    learnt = [replace(c, period_s=period_s if c.source == "nvml" else None) for c in channels]
    assert rates(None, learnt)["nvml"] == hz


def test_a_board_of_amd_is_read_as_often(amdsmi):
    amdsmi(Board())
    boards = [c for c in fg.channels() if c.source == "amdsmi"]
    assert rates(None, boards) == {"amdsmi": 40}
    assert rates({"amdsmi": 10}, boards) == {"amdsmi": 10}
    assert rates(None, [replace(c, period_s=0.02) for c in boards]) == {"amdsmi": 100}


def test_a_counter_of_perhaps_32_bits_is_read_twice_a_wrap(amdsmi):
    amdsmi(Board(start=1000.0, cap_w=750.0))  # wraps every 87 s at its limit
    with pytest.raises(ValueError, match="too low for amdsmi:0"):
        fg.Monitor("amdsmi:0", hz=0.02)
    fg.Monitor("amdsmi:0", hz=0.03)


def test_a_rate_is_for_all_sources_or_for_those_it_names(channels):
    assert rates(1000, channels) == dict.fromkeys(("rapl", "nvml", "hwmon", "procstat"), 1000.0)
    assert rates({"rapl": 500, "nvml": None}, channels) == {"rapl": 500, "nvml": 40, "hwmon": 100, "procstat": 10}


def test_the_default_rate_is_the_one_it_is_read_at(channels):
    with fg.Monitor(["rapl:*", "nvml:0", "procstat:*"], dither=False) as monitor:
        time.sleep(1.3)
    rows = {row["id"]: row for row in monitor.result.channels.to_pylist()}
    for channel, step_ns in (("rapl:package-0", 10e6), ("nvml:0", 25e6), ("procstat:cpu", 100e6)):
        tally, row = monitor.result.trace(channel).tally, rows[channel]
        deadlines = (tally["end_at_ns"] - tally["first_at_ns"]) / step_ns
        # Kept or missed; the last reading comes besides, and one that was kept waiting is stamped in its middle.
        late = 1 + tally["read_longest_ns"] / step_ns
        assert row["samples"] - 1 + row["missed"] == pytest.approx(deadlines, abs=late + 1e-6), channel


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "i686")])
def test_elsewhere_the_engine_is_not_built_and_one_sentence_says_so(system, machine):
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    code = f"""
import platform, runpy, sys
import Cython.Build, numpy, setuptools
sys.platform, platform.machine = {system!r}, lambda: {machine!r}
runpy.run_path("setup.py")
"""
    asked = {**os.environ, "FASTGREEN_ENGINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=asked)
    assert done.returncode == 1
    assert done.stderr.startswith("The engine needs Linux on x86-64 or aarch64"), done.stderr
    assert done.stderr.endswith(f"not {system} on {machine}.\n")
    assert done.stderr.count("\n") == 1


def test_until_it_is_learnt_an_update_is_taken_to_come_within_a_period_that_no_sensor_exceeds(channels):
    periods_ns = {(c.source, c.traits["period_ns"]) for c in channels}
    assert periods_ns == {("rapl", 1e6), ("nvml", 1e8), ("hwmon", 1e8), ("procstat", 1e7)}
