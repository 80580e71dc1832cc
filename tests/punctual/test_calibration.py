# SPDX-License-Identifier: Apache-2.0
"""Sensors learnt end to end from the fakes: a program that reads late learns longer periods."""

from __future__ import annotations

import json

import pytest

import fastgreen as fg
from fastgreen.sensors.sensor_facts import cache_file
from tests.fakes.nvml import Gpu, Sensor
from tests.fakes.powercap import Zone
from tests.fakes.wave import Square, Updates


def test_calibrating_a_moving_powercap_tree_finds_its_period(powercap, tmp_path):
    powercap(Zone("package-0", watts=50.0), move=True, period_s=0.02)
    facts = fg.calibrate(seconds=2.0, load=None, cache_dir=tmp_path)["rapl:package-0"]
    assert facts.period_s == pytest.approx(0.02, rel=0.2)
    assert facts.updates >= 60
    assert json.loads(cache_file(tmp_path).read_text())


@pytest.mark.slow
def test_calibrating_a_board_finds_update_period_and_averaging(nvml, tmp_path):
    nvml(
        Gpu(
            power=Square(60, 300, 1.4),
            energy_updates=Updates(0.02),
            instant=Sensor(Updates(0.1), window=0.5),
        )
    )
    facts = fg.calibrate("nvml:*", seconds=9.0, load=None, cache_dir=tmp_path)
    assert facts["nvml:0"].period_s == pytest.approx(0.02, rel=0.3)
    power = facts["nvml:0/power"]
    assert power.period_s == pytest.approx(0.1, rel=0.3)
    assert power.averaging_s == pytest.approx(0.5, rel=0.3)
    assert power.coverage == 1.0
