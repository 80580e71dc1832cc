# SPDX-License-Identifier: Apache-2.0
"""Settings of a report: which origin wins, and what is refused."""

from __future__ import annotations

import pytest

from fastgreen.costs.settings import costs_from
from fastgreen.errors import FastgreenWarning, TraceError


def test_an_option_wins_over_the_environment_that_over_fastgreen_toml_and_that_over_pyproject(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.fastgreen.report]\nprice = 0.1\npue = 1.1\n")
    assert costs_from({}, inner, {}).price.values[0] == 0.1
    (tmp_path / "fastgreen.toml").write_text('[report]\nprice = "0.2 EUR"\ncarbon = "grid.csv"\n')
    (tmp_path / "grid.csv").write_text("time (UTC),g/kWh\n2025-01-01 00:00,5\n")
    costs = costs_from({}, inner, {})
    assert (costs.price.values[0], costs.currency, costs.pue) == (0.2, "EUR", 1.0)
    assert costs.carbon.values[0] == 5, "a file is beside the settings that name it"
    costs = costs_from({}, inner, {"FASTGREEN_PRICE": "0.3", "FASTGREEN_MACHINE_SHARE": "1/8"})
    assert (costs.price.values[0], costs.machine_share) == (0.3, 0.125)
    costs = costs_from({"price": "0.4 €/kWh"}, inner, {"FASTGREEN_PRICE": "0.3"})
    assert (costs.price.values[0], costs.currency, costs.chosen) == (0.4, "€", {"price"})
    assert not costs_from({}, tmp_path.parent, {})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"price": "-0.3"}, "price must lie in 0..1e+06 per kWh, not -0.3"),
        ({"price": "nan"}, "not nan"),
        ({"price": float("inf")}, "not inf"),
        ({"price": True}, "must be a number"),
        ({"price": "nowhere.csv"}, "or a CSV file that exists, not 'nowhere.csv'"),
        ({"carbon": "232 EUR"}, "carbon must be g/kWh"),
        ({"carbon": "232000"}, "0..10000 g/kWh, not 232000"),
        ({"pue": 0.9}, "pue must lie in 1..10, not 0.9"),
        ({"pue": "120"}, "not 120"),
        ({"pue": "nan"}, "not nan"),
        ({"embodied": -1}, "0 or more, not -1"),
        ({"lifespan": 0}, "a day to 1000 years, not 0"),
        ({"machine_share": "2"}, "at most 1, not 2"),
        ({"machine_share": "1/0"}, "0.125 or 1/8"),
        ({"machine_share": []}, "must be a number"),
    ],
)
def test_an_impossible_value_is_refused_by_its_name(tmp_path, given, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        costs_from(given, tmp_path, {})
    assert words in str(caught.value)


def test_a_bad_setting_names_its_file_or_variable(tmp_path):
    settings = tmp_path / "fastgreen.toml"
    settings.write_text("[report]\npirce = 1\n")
    with pytest.raises(ValueError, match=r"fastgreen.toml, \[report\]: 'pirce' must be .* Did you mean 'price'"):
        costs_from({}, tmp_path, {})
    settings.write_text("[report]\npue = 0\n")
    with pytest.raises(ValueError, match=r"fastgreen.toml, \[report\]: pue must lie in 1..10, not 0"):
        costs_from({}, tmp_path, {})
    settings.write_text("report = 1\n")
    with pytest.raises(ValueError, match="must be a table"):
        costs_from({}, tmp_path, {})
    settings.write_text("[report\n")
    with pytest.raises(TraceError, match="not a TOML file"):
        costs_from({}, tmp_path, {})
    settings.unlink()
    with pytest.raises(ValueError, match="FASTGREEN_PUE: pue must"):
        costs_from({}, tmp_path, {"FASTGREEN_PUE": "x"})
    (tmp_path / "pyproject.toml").write_text("[broken\n")
    with pytest.warns(FastgreenWarning, match="no settings from"):
        assert not costs_from({}, tmp_path, {})


def test_embodied_emissions_and_an_energy_at_one_moment():
    costs = costs_from({"embodied": 150_000, "machine_share": "1/8", "price": 0.3, "carbon": 232, "pue": 1.5})
    assert costs.embodied_of(2 * 3600) == pytest.approx(1.070205, rel=1e-6)  # shared/metrics.md, SCI
    assert costs.of(3.6e6, 0.0) == pytest.approx((0.45, 348.0))


def test_a_growing_energy_is_priced_by_its_moments(tmp_path):
    from fastgreen.costs.running import RunningCosts

    (tmp_path / "p.csv").write_text("time (UTC),EUR/kWh\n1971-01-01 00:00,0.1\n1971-01-01 01:00,-0.5\n")
    day = 365 * 86400
    running = RunningCosts(costs_from({"price": tmp_path / "p.csv", "carbon": 100, "pue": 2}, tmp_path, {}))
    assert running.upto(3.6e6, day) == pytest.approx((0.2, 200))
    assert running.upto(2 * 3.6e6, day + 3600) == pytest.approx((0.2 - 1.0, 400))
    assert running.upto(1.0, day + 3600) == pytest.approx((-0.8, 400))  # it fell: unchanged
    running.upto(3 * 3.6e6, 2 * day)
    assert running.uncovered_j == 3.6e6
    only = RunningCosts(costs_from({"carbon": 100}, tmp_path, {}))
    assert only.upto(3.6e6) == (None, 100)
