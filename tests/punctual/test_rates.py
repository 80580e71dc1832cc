# SPDX-License-Identifier: Apache-2.0
"""Readings and glances that keep their time, and a command that takes seconds."""

from __future__ import annotations

import json
import statistics
import time

import numpy as np
import pytest

import fastgreen as fg
from tests.commands.test_watch import glances
from tests.experiment.test_hostile_study import STATUS, compiled
from tests.fakes.nvml import Gpu
from tests.fakes.powercap import Zone


def test_readings_slower_than_updates_are_dithered_and_others_are_not(powercap, nvml):
    powercap(Zone("package-0", watts=20.0), move=True)
    nvml(Gpu(power=100.0))
    with fg.Monitor(["rapl:package-0", "nvml:0"]) as monitor:
        time.sleep(2.0)
    apart = {}
    for channel, tick_ns in (("rapl:package-0", 10e6), ("nvml:0", 25e6)):
        at_ns = np.concatenate([chunk["at_ns"] for chunk in monitor.result.trace(channel).chunks()])
        apart[channel] = np.diff(at_ns)[:-1] / tick_ns
    assert np.mean(np.abs(apart["rapl:package-0"] - 1) > 0.2) > 0.4
    assert np.mean(apart["rapl:package-0"]) == pytest.approx(1.0, abs=0.1)
    assert np.mean(np.abs(apart["nvml:0"] - 1) > 0.2) < 0.3
    with pytest.raises(ValueError, match="dither must be"):
        fg.Monitor(["rapl:package-0"], dither="yes")


def test_powers_are_those_drawn_and_add_up_to_the_energy(powercap):
    powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0), Zone("core", 20.0))), move=True)
    seen = glances("--every", 0.3, "--seconds", 3, "--hz", 200)
    durations_s = [glance["duration_s"] for glance in seen]
    assert sum(durations_s) >= 3.0 - 1e-6
    assert 0.3 - 1e-6 <= min(durations_s[:-1]) < 0.4  # later where the machine was busy
    assert not any(glance["estimated"] for glance in seen)
    assert set(seen[0]["channels"]) == {"rapl:package-0", "rapl:package-0/dram"}
    for name, watts in (("rapl:package-0", 60.0), ("rapl:package-0/dram", 6.0)):
        energies = [glance["channels"][name]["energy_j"] for glance in seen]
        assert energies == sorted(energies)
        channels = [glance["channels"][name] for glance in seen[1:]]
        drawn = sum(channel["power_w"] * channel["between_readings_s"] for channel in channels)
        assert all(0 <= channel["age_s"] < 3 for channel in channels)
        assert drawn == pytest.approx(energies[-1] - energies[0], rel=1e-9)
        # the fake moves by the clock, but on a busy machine by jumps, which spoil the glances on both sides
        powers_w = [glance["channels"][name]["power_w"] for glance in seen[1:]]
        assert statistics.median(powers_w) == pytest.approx(watts, rel=0.35)
    last = seen[-1]
    assert last["energy_j"] == pytest.approx(sum(c["energy_j"] for c in last["channels"].values()))


def test_ten_thousand_sizes_take_seconds(tmp_path):
    for size in range(3000):
        place = tmp_path / "study" / f"input_{size}" / "run_0"
        place.mkdir(parents=True)
        (place / "status.json").write_text(json.dumps({**STATUS, "state": "failed", "error": "no"}))
    assert compiled(tmp_path / "study")[0] == 1
