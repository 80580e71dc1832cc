"""`Result.share`: rows of any origin get joules that add up."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

import fastgreen as fg
from fastgreen.errors import ChannelNotFound
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel, traits
from tests.oracles import simulation as sim

S = sim.SECOND


def result_of(scenarios, kind="energy"):
    """A finished run of simulated counters, and their truths."""
    traces, truths = [], []
    for i, scenario in enumerate(scenarios):
        truth = sim.Truth(scenario)
        samples, _, _ = sim.record(scenario, truth)
        channel = Channel(
            f"rapl:package-{i}", "rapl", kind, f"package-{i}", "uJ", ceiling_w=scenario.unit_per_s / 1e6,
            traits=traits(kind, "uJ", period_ns=scenario.update_ns),
        )  # fmt: skip
        traces.append(Trace.recounted(channel, True, lambda samples=samples: [samples], missed=0, lost=0))
        truths.append(truth)
    metadata = {"format": 2, "realtime_ns": 1_700_000_000 * S, "monotonic_ns": 0, "version": "0", "host": "h"}
    return fg.Result(traces, [], metadata, S // 2, 10 * S), truths


@pytest.fixture(scope="module")
def run():
    return result_of([sim.Scenario("a", seconds=10, seed=1), sim.Scenario("b", seconds=10, seed=2)])


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    begin = rng.integers(S, 8 * S, 200)
    weights = rng.choice([0.0, 1.0, 2.5], 200)
    names = [f"r{i}" for i in range(200)]
    return pa.table({"name": names, "begin_ns": begin, "end_ns": begin + rng.integers(0, S, 200), "w": weights})


def total(found, name):
    return float(found.schema.metadata[name.encode()])


@pytest.mark.parametrize("baseline_w", [None, 5.0, 200.0, {"rapl:package-0": 3.0}])
@pytest.mark.parametrize("per_channel", [False, True])
def test_shares_unattributed_and_baseline_add_up_to_what_the_channels_drew(run, table, baseline_w, per_channel):
    result, _ = run
    found = result.share(table, weight="w", baseline_w=baseline_w, per_channel=per_channel)
    shared = sum(found["energy_j"].to_pylist()) + total(found, "unattributed_j") + total(found, "baseline_j")
    drawn = sum(result.channels["energy_j"].to_pylist())
    assert shared == pytest.approx(drawn, rel=1e-9)
    assert total(found, "drawn_j") == pytest.approx(drawn, rel=1e-9)
    assert sum(found["baseline_j"].to_pylist()) == pytest.approx(total(found, "baseline_j"))
    assert min(found["energy_j"].to_pylist()) >= 0
    assert len(found) == 200 * (1 + per_channel)


def window_of(traces, begin_ns, end_ns):
    """The row of one window of a run."""
    windows = [Windows("w", 0, np.array([begin_ns]), np.array([end_ns]))]
    return fg.Result(traces, windows, {"realtime_ns": 0, "monotonic_ns": 0}, 0, 1).windows().to_pylist()[0]


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_shares_of_a_run_that_is_all_spans_are_the_energy_of_a_window_of_it(run, count):
    """Independent of the rest: each instant of the run lies in `count` spans."""
    result, _ = run
    cuts = np.sort(np.random.default_rng(count).integers(result.start_ns, result.end_ns, 20))
    begin, end = np.append(result.start_ns, cuts), np.append(cuts, result.end_ns)
    found = result.share({"begin_ns": np.repeat(begin, count), "end_ns": np.repeat(end, count)})
    window = window_of(result.traces, result.start_ns, result.end_ns)["energy_j"]
    assert sum(found["energy_j"].to_pylist()) == pytest.approx(window, rel=1e-9)
    drawn = sum(result.channels["energy_j"].to_pylist())
    assert total(found, "unattributed_j") == pytest.approx(drawn - window, abs=1e-9 * drawn)


def test_rows_keep_their_columns_and_their_order_and_the_truth_is_within(run, table):
    from tests.results.test_shares_engine import true_shares

    result, truths = run
    found = result.share(table, weight="w")
    assert found.select(table.schema.names).equals(table)
    units = np.rint(np.array(table["w"]) * 2**20)
    true = sum(true_shares(t, np.array(table["begin_ns"]), np.array(table["end_ns"]), units) for t in truths) / 1e6
    assert np.all(np.array(found["energy_low_j"]) <= true + 1e-9)
    assert np.all(true <= np.array(found["energy_high_j"]) + 1e-9)
    assert "column w" in found.schema.metadata[b"rule"].decode()


def test_a_single_span_has_the_energy_of_a_window(run):
    result, _ = run
    row = result.share({"begin_ns": [2 * S], "end_ns": [3 * S]}, channels="rapl:package-1").to_pylist()[0]
    window = window_of([result.trace("rapl:package-1")], 2 * S, 3 * S)
    for name in ("energy_j", "energy_low_j", "energy_high_j"):
        assert row[name] == pytest.approx(window[name]), name


def test_instants_may_be_seconds_timestamps_and_of_the_other_clock(run):
    result, _ = run
    at = 1_700_000_000 * S
    wanted = result.share({"begin_ns": [2 * S], "end_ns": [3 * S]})["energy_j"]
    stamps = (
        pa.array([at + 2 * S]).cast(pa.timestamp("ns", "UTC")),
        pa.array([(at + 3 * S) // 1000]).cast(pa.timestamp("us")),
    )
    assert result.share({"begin_ns": [2.0], "end_ns": [3.0]})["energy_j"] == wanted
    assert result.share(pa.table({"a": stamps[0], "b": stamps[1]}), "a", "b", clock="realtime")["energy_j"] == wanted
    assert result.share({"begin_ns": [at + 2 * S], "end_ns": [at + 3 * S]}, clock="realtime")["energy_j"] == wanted


def test_a_frame_of_pandas_or_polars_will_do(run):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    result, _ = run
    rows = {"begin_ns": [2 * S, 2 * S], "end_ns": [3 * S, 4 * S]}
    wanted = result.share(rows)["energy_j"]
    assert result.share(pandas.DataFrame(rows))["energy_j"] == wanted
    assert result.share(polars.DataFrame(rows))["energy_j"] == wanted


def test_spans_beyond_the_run_are_unknown_there_and_never_0(run):
    result, _ = run
    rows = {"begin_ns": [0, 2 * S, 12 * S, None], "end_ns": [S, 30 * S, 13 * S, 5 * S]}
    found = result.share(rows)
    first, second, outside, missing = found.to_pylist()
    ceiling_w = sum(t.ceiling_w for t in result.traces)
    assert first["energy_high_j"] > ceiling_w * 0.4
    assert second["energy_high_j"] > ceiling_w * 15
    assert outside["energy_j"] is None
    assert missing["energy_j"] is None
    notes = json.loads(found.schema.metadata[b"notes"])
    assert "3 spans reach beyond the run" in notes[1]
    assert "1 row without" in notes[0]


@pytest.mark.parametrize(
    ("rows", "options", "error", "text"),
    [
        ({"w": [-1.0]}, {"weight": "w"}, ValueError, "weight must be a number from 0 to 2^40, not -1.0 (row 0)"),
        ({"w": [np.nan]}, {"weight": "w"}, ValueError, "not nan"),
        ({"w": [np.inf]}, {"weight": "w"}, ValueError, "not inf"),
        ({"w": ["a"]}, {"weight": "w"}, TypeError, "weight must be a column of numbers, not string"),
        ({}, {"weight": "v"}, ValueError, "weight must be one column of the table"),
        ({"end_ns": [S]}, {}, ValueError, "row 0 ends at 1000000000 ns and begins at 2000000000 ns"),
        ({}, {"begin": "start"}, ValueError, "begin must be one column"),
        ({}, {"clock": "tai"}, ValueError, 'clock must be "monotonic" or "realtime", not'),
        ({}, {"clock": "realtime"}, ValueError, 'is clock="realtime" right?'),
        ({}, {"channels": "gpu9"}, ChannelNotFound, "gpu9"),
        ({}, {"baseline_w": -1}, ValueError, "baseline_w must be a number of watts from 0 on, not -1"),
        ({}, {"baseline_w": {"nvml:0": 1}}, ValueError, "baseline_w must name channels that are shared"),
        ({"begin_ns": ["x"]}, {}, TypeError, "begin must be a column of instants"),
        ({"energy_j": [1.0]}, {}, ValueError, "has a column energy_j already"),
        ({"begin_ns": [2e18]}, {}, ValueError, "begin must be in seconds"),
    ],
)
def test_what_cannot_be_shared_is_refused(run, rows, options, error, text):
    result, _ = run
    with pytest.raises(error) as caught:
        result.share({"begin_ns": [2 * S], "end_ns": [3 * S], **rows}, **options)
    assert text in str(caught.value)


def test_spans_of_no_length_or_no_weight_are_charged_nothing(run):
    result, _ = run
    rows = {"begin_ns": [2 * S, 3 * S], "end_ns": [2 * S, 4 * S], "w": [1.0, 0.0]}
    found = result.share(rows, weight="w")
    for name in ("energy_j", "energy_low_j", "energy_high_j"):
        assert found[name].to_pylist() == [0.0, 0.0]
    assert total(found, "unattributed_j") == pytest.approx(total(found, "drawn_j"))


def test_an_empty_table_leaves_everything_unattributed(run):
    result, _ = run
    found = result.share(pa.table({"begin_ns": pa.array([], pa.int64()), "end_ns": pa.array([], pa.int64())}))
    assert len(found) == 0
    assert total(found, "unattributed_j") == total(found, "drawn_j") > 0


def test_a_counter_at_0_w_for_ever_has_a_quantum_above_and_nothing_below():
    result, _ = result_of([sim.Scenario("still", seconds=10, seed=1, unit_per_s=1e-3)])
    begin = np.arange(S, 5 * S, S // 100)
    found = result.share({"begin_ns": begin, "end_ns": begin + S // 20})
    assert set(found["energy_low_j"].to_pylist()) == {0.0}
    assert min(found["energy_high_j"].to_pylist()) >= 1e-6 / 6


def test_a_power_channel_is_shared(run):
    scenario = sim.Scenario("p", seconds=10, seed=5)
    result, _ = result_of([scenario], kind="power")
    found = result.share({"begin_ns": [2 * S, 2 * S], "end_ns": [3 * S, 3 * S]})
    window = result.traces[0].windows([2 * S], [3 * S])[0]
    assert found["energy_j"].to_pylist() == pytest.approx([float(window.energy_j) / 2] * 2)
    assert found["energy_high_j"].to_pylist() == pytest.approx([float(window.high_j) / 2] * 2)
