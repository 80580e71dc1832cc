# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus server sees the energy that was drawn."""

from __future__ import annotations

import pytest

import fastgreen as fg
from tests.export.scrapes import PROMETHEUS, scraping
from tests.fakes.powercap import Zone


@pytest.mark.skipif(PROMETHEUS is None, reason="needs the program prometheus, of the package of that name")
def test_a_real_prometheus_sees_the_increase_of_the_truth(powercap, tmp_path, soon):
    powercap(Zone("package-0", 80.0), move=True)
    with (
        fg.Monitor("rapl:*", hz=200) as monitor,
        fg.export.prometheus(monitor, "127.0.0.1:0") as endpoint,
        scraping(endpoint.address, tmp_path) as ask,
    ):
        soon(lambda: ask("count_over_time(hw_energy_joules_total[4s])") >= 16)
        increase_j = ask("increase(hw_energy_joules_total[3s])")
        watts = ask("hw_power_watts")
    assert increase_j == pytest.approx(80.0 * 3, rel=0.01)
    assert watts == pytest.approx(80.0, rel=0.05)
