# SPDX-License-Identifier: Apache-2.0
"""Money and carbon of runs whose true energy is known at each moment."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.costs.settings import costs_from
from fastgreen.results.footprint import footprint
from fastgreen.results.result import Result
from fastgreen.results.trace import Windows
from tests.oracles.long_runs import counter_trace
from tests.oracles.places import ROOT

HOUR = 3_600_000_000_000
BEGAN = int(datetime(2025, 3, 1, 0, 30, tzinfo=UTC).timestamp() * 1e9)


def made_run(watts: np.ndarray) -> Result:
    """A counter that is read each minute, and moves at each reading."""
    at_ns = np.arange(len(watts) + 1) * (HOUR // 60)
    trace = counter_trace("rapl:package-0", at_ns, np.append(0, watts), 1000.0)
    windows = [
        Windows("first", 0, np.array([0]), np.array([HOUR // 2])),
        Windows("both", 0, np.array([HOUR // 4]), np.array([HOUR])),
    ]
    return Result([trace], windows, {"realtime_ns": BEGAN, "monotonic_ns": 0}, 0, int(at_ns[-1]))


@pytest.fixture
def run():
    """Three hours from 00:30 UTC: 100 W, then 200 W from the first hour's end, then 400 W in the last 40 minutes."""
    minute = np.arange(180)
    return made_run(np.where(minute < 30, 100, np.where(minute < 140, 200, 400)))


PRICES = "time (UTC),EUR/kWh\n2025-03-01 00:00,0.1\n2025-03-01 01:00,0.5\n2025-03-01 02:00,-0.2\n2025-03-01 03:00,0.3\n"


def test_each_hour_has_its_own_price(run, tmp_path):
    (tmp_path / "prices.csv").write_text(PRICES)
    found = footprint(run, costs_from({"price": tmp_path / "prices.csv", "carbon": 200, "pue": 1.5}))
    kwh = np.array([0.1 * 0.5, 0.2, 0.2 * 50 / 60 + 0.4 * 10 / 60, 0.4 * 0.5])  # by hour of the clock
    truth = 1.5 * float(np.dot(kwh, [0.1, 0.5, -0.2, 0.3]))
    value, low, high = found.rows[0].cost
    assert low <= truth <= high
    assert value == pytest.approx(truth, rel=0.01)
    assert high - low < 0.2 * abs(truth)  # each edge is known to a minute
    assert found.rows[0].carbon_g[0] == pytest.approx(1.5 * kwh.sum() * 200, rel=1e-3)
    by_name = {row.name: row for row in found.rows}
    assert by_name["first"].cost[0] == pytest.approx(1.5 * 0.05 * 0.1, rel=0.03)
    truth = 1.5 * (0.1 * 0.25 * 0.1 + 0.2 * 0.5 * 0.5)
    value, low, high = by_name["both"].cost
    assert low <= truth <= high
    assert value == pytest.approx(truth, rel=0.03)
    assert found.costs.currency == "EUR"


def test_sci_has_the_embodied_emissions_of_the_time(run):
    found = footprint(run, costs_from({"carbon": 232, "embodied": 150_000, "lifespan": 4, "machine_share": 0.125}))
    whole = found.rows[0]
    embodied = 150_000 * 3 / (4 * 8760) / 8
    for sci, carbon in zip(whole.sci_g, whole.carbon_g, strict=True):
        assert sci == pytest.approx(carbon + embodied, rel=1e-9)


def test_an_accuracy_gives_apc_and_with_a_price_apec(run):
    found = footprint(run, costs_from({"price": 0.3}), accuracy=0.9, beta=0.1).rows[0]
    wh = [x / 3600 for x in found.energy_j]
    assert found.apc == pytest.approx([fg.apc(wh[n], 0.9, 0.1, 0.1) for n in (0, 2, 1)])
    assert found.apc[1] <= found.apc[0] <= found.apc[2]
    assert found.apec == pytest.approx([fg.apec(found.cost[n], 0.9, 0.1, 0.1) for n in (0, 2, 1)])
    assert footprint(run, costs_from({"carbon": 1}), accuracy=0.9).rows[0].apec is None
    for bad in (90, -0.1, float("nan"), [0.5, 0.6]):
        with pytest.raises(ValueError, match="accuracy"):
            footprint(run, costs_from({}), accuracy=bad)


def test_a_file_that_does_not_cover_the_run_is_refused(run, tmp_path):
    (tmp_path / "prices.csv").write_text("\n".join(PRICES.splitlines()[:4]))
    with pytest.raises(fg.errors.TraceError, match=r"prices.csv has no value for 2025-03-01 03:00:00 UTC to .* 03:30"):
        run.footprint(price=tmp_path / "prices.csv")
    with pytest.raises(ValueError, match="price, carbon or accuracy must be given"):
        run.footprint()
    with pytest.raises(TypeError, match="not 'prize'"):
        run.footprint(prize=1)


def test_random_prices_hold_the_truth(tmp_path):
    """A slow twin: the energy of each minute times the price of its hour, for counters of random power."""
    draw = np.random.default_rng(7)
    for _ in range(20):
        watts = draw.integers(1, 400, 180)
        run = made_run(watts)
        prices = draw.uniform(-0.5, 1, 4)
        (tmp_path / "p.csv").write_text(
            "time (UTC),price\n" + "".join(f"2025-03-01 0{h}:00,{p!r}\n" for h, p in enumerate(map(float, prices)))
        )
        truth = sum(w * 60 / 3.6e6 * prices[(30 + minute) // 60] for minute, w in enumerate(watts))
        value, low, high = run.footprint(price=tmp_path / "p.csv").rows[0].cost
        assert low <= truth <= high
        assert low <= value <= high


def test_spans_tokens_page_and_commands(powercap, tmp_path, monkeypatch):
    import time

    from tests.fakes.powercap import Zone

    powercap(Zone("package-0", 60.0), move=True)
    with fg.Monitor(record=tmp_path / "run") as monitor:
        ledger = monitor.ledger("chat")
        with monitor.window("step <b>"):
            for n in range(3):
                with ledger.span(n) as span:
                    time.sleep(0.05)
                    span.add(tokens=10)
    now = datetime.now(UTC)
    (tmp_path / "grid.csv").write_text(f"time (UTC),g/kWh\n{now:%Y-%m-%d} 00:00,100\n{now:%Y-%m-%d} 23:59,100\n")
    found = monitor.result.footprint(price="0.3 EUR", carbon=tmp_path / "grid.csv", embodied=1e6)
    rows = {row.name: row for row in found.rows}
    assert rows["chat, per tokens"].count == 30
    assert rows["chat, per tokens"].sci_g[0] == pytest.approx(rows["chat"].sci_g[0] / 10)
    assert rows["chat"].sci_g[0] > rows["chat"].carbon_g[0]
    fg.to_html(monitor.result, tmp_path / "page.html", footprint=found)
    page = (tmp_path / "page.html").read_text()
    assert "Money and carbon" in page
    assert "step &lt;b&gt;" in page
    monkeypatch.setenv("FASTGREEN_PRICE", "0.5 USD")

    def fastgreen(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "fastgreen", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = fastgreen("report", tmp_path / "run", "--carbon", 232, "--accuracy", 0.9, "--html", tmp_path / "two.html")
    assert done.returncode == 0, done.stderr
    assert "USD (" in done.stdout
    assert "ug CO2e (" in done.stdout
    assert "APC " in done.stdout
    assert "Money and carbon" in (tmp_path / "two.html").read_text()
    found = json.loads(fastgreen("report", tmp_path / "run", "--json").stdout)["footprint"]
    row = found["rows"][0]
    assert row["cost_low"] <= row["cost"] <= row["cost_high"]
    assert (found["currency"], row["carbon_g"], row["energy_low_j"]) == ("USD", None, monitor.result.energy_low_j)
    (tmp_path / "old.csv").write_text("time (UTC),g/kWh\n2025-03-01 00:00,100\n")
    for command, words in (
        (("report", tmp_path / "run", "--carbon", "old.csv"), "old.csv has no value for"),
        (("run", "--carbon", "old.csv", "--", "true"), "old.csv has no value for"),
    ):
        done = fastgreen(*command)
        assert done.returncode == 1
        assert words in done.stderr
    assert fastgreen("report", tmp_path / "run", "--pue", "0.5").returncode == 2
    (tmp_path / "fastgreen.toml").write_text('[report]\ncarbon = "old.csv"\n')
    done = fastgreen("report", tmp_path / "run")  # a file of settings does not make every report fail
    assert done.returncode == 0, done.stderr
    assert "cost and carbon are unknown: old.csv has no value" in done.stdout
