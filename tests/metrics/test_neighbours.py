"""The metrics: published values, properties of the closed form, what bad input is answered with."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgreen as fg
from fastgreen import metrics
from tests.oracles import reference

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ACCURACY = np.array([0.9056, 0.9341, 0.9349, 0.9454])
TX2 = np.array([10.4, 10.6, 9.8, 8.88])
GTX1060 = np.array([52.58, 55.06, 54.35, 50.51])

HOURS = np.arange(1, 9) * 0.25
RUN_ACCURACY = [0.312, 0.558, 0.701, 0.783, 0.829, 0.858, 0.861, 0.874]
RUN_WH = [0.37, 0.74, 1.11, 1.48, 1.85, 2.22, 2.59, 2.96]

unit = st.floats(0, 1)
amount = st.floats(0, 1e12)


def near(wanted: object) -> object:
    return pytest.approx(wanted, rel=0, abs=1e-12)


# ---- published values


def test_apc_of_the_published_models():
    assert fg.apc(TX2, ACCURACY, 0.1, 0.1) == near([0.759503182936, 0.799148852146, 0.809144256166, 0.834837229523])
    assert fg.apc(GTX1060, ACCURACY, 0.1, 0.1) == near([0.459108220406, 0.497613188035, 0.502111605140, 0.539209883791])


def test_apec_of_the_published_models():
    wanted = [0.700199024769, 0.742808521486, 0.755772320230, 0.786545111397]
    assert fg.apec(TX2 * 0.00305, ACCURACY, 0.1, 50) == near(wanted)
    assert np.array_equal(fg.apec(np.zeros(4), ACCURACY, 0.1, 50), ACCURACY)


def test_apc_of_the_published_points():
    assert fg.apc(5, 0.95) == near(0.550724637681)
    assert fg.apc(5, 0.7, alpha=[0, 0.25, 0.5]) == near([0.28, 0.207407407407, 0.164705882353])
    assert fg.apc(5, 0.99, beta=[5, 100, 1000]) == near([0.265771812081, 0.017837837838, 0.001813186813])
    assert fg.apc(1e6, 1, 0, 1000) == 1


def test_closest_apc_of_the_published_run():
    wanted = [0.251843856809, 0.403526311006, 0.496365268512, 0.550654998860]
    wanted += [0.558801117602, 0.563009301177, 0.552777467129, 0.537840952747]
    assert fg.closest_apc(RUN_WH, RUN_ACCURACY) == near(wanted)
    assert fg.closest_apec(RUN_WH, RUN_ACCURACY) == near(wanted)


@pytest.mark.parametrize(
    ("value", "delta", "cell"), [(0.58, 0.01, 58), (0.29, 0.01, 29), (0.57, 0.01, 57), (1.0, 0.01, 99), (0.0, 0.01, 0)]
)
def test_accuracies_fall_into_the_cell_that_the_decimals_name(value, delta, cell):
    for dtype in (np.float64, np.float32):
        centre = min((cell + 0.5) * delta, 1.0)
        assert fg.closest_apc(dtype(0), dtype(value), beta=0.0, accuracy_delta=delta) == dtype(centre)
    assert fg.time_to_closest_apc([1.0], [value], [0.0]).accuracy_cell == cell


@pytest.mark.parametrize(("value", "cell"), [(0.3, 3), (2.3, 23), (0.0, 0), (1e9, 10**10)])
def test_consumptions_fall_into_the_cell_that_the_decimals_name(value, cell):
    assert fg.time_to_closest_apc([1.0], [0.5], [value]).consumption_cell == cell
    assert fg.closest_apc(value, 0.5) == reference.apc((cell + 0.5) * 0.1, 0.505, 0.1, 1.0)


def test_a_delta_that_does_not_divide_1_never_scores_above_1():
    assert fg.closest_apc(0.0, 1.0, accuracy_delta=0.3, beta=0.0) == 1.0
    assert fg.closest_apc(0.0, 0.95, accuracy_delta=0.3, beta=0.0) == 1.0
    assert fg.closest_apc(0.0, 0.3, accuracy_delta=1.0, beta=0.0) == 0.5


def test_the_published_run_reaches_its_best_and_its_targets_when_stated():
    best = fg.ttcapc(HOURS, RUN_ACCURACY, RUN_WH)
    assert (best.time, best.index, best.accuracy_cell, best.consumption_cell) == (1.5, 5, 85, 22)
    assert best.apc == near(0.563009301177)
    assert fg.ttcapc(HOURS, RUN_ACCURACY, RUN_WH, target=0.55).time == 1.0
    assert fg.ttcapc(HOURS, RUN_ACCURACY, RUN_WH, target=0.55, quantize=False).time == 1.25
    never = fg.ttcapc(HOURS, RUN_ACCURACY, RUN_WH, target=0.6)
    assert (never.time, never.index, never.accuracy_cell, never.consumption_cell) == (math.inf, -1, -1, -1)
    assert math.isnan(never.apc)
    assert fg.ttcapec(HOURS, RUN_ACCURACY, RUN_WH) == best
    assert fg.time_to_closest_apc is fg.ttcapc


def test_a_target_may_be_a_point_and_is_then_quantised_as_the_run_is():
    # (0.7859, 1.41) lies in the cell of the checkpoint at 1.00 h but scores better than it unrounded.
    assert fg.ttcapc(HOURS, RUN_ACCURACY, RUN_WH, target=(0.7859, 1.41)).time == 1.0
    assert fg.ttcapc(HOURS, RUN_ACCURACY, RUN_WH, target=(0.7859, 1.41), quantize=False).time == 1.25
    # That of 0.50 h scores 0.4078 itself and 0.4035 in its cell, where one of 0.4036 would stand for it too.
    assert fg.ttcapc(HOURS, [0.312, 0.553, *RUN_ACCURACY[2:]], RUN_WH, target=(0.558, 0.74)).time == 0.5
    worse = fg.ttcapc(HOURS, [0.312, 0.553, *RUN_ACCURACY[2:]], RUN_WH, target=(0.558, 0.74), quantize=False)
    assert worse.time == 0.75


# ---- the closed form


@given(amount, unit, unit, amount)
def test_apc_is_the_published_formula_to_the_bit(c, acc, a, b):
    assert fg.apc(c, acc, a, b) == reference.apc(*(np.float64(x) for x in (c, acc, a, b)))


@given(amount, unit, unit, amount)
def test_apc_lies_within_a_few_roundings_of_the_exact_value(c, acc, a, b):
    exact, seen = reference.exact_apc(c, acc, a, b), Fraction(float(fg.apc(c, acc, a, b)))
    # 1 - accuracy and its weight can cancel no more than their own last bit, which c * b then scales.
    slack = exact * Fraction(2, 10**15) + Fraction(1, 10**300)
    weight_error = Fraction(2, 10**16) * Fraction(c) * Fraction(b) * exact * exact / (Fraction(acc) if acc else 1)
    assert abs(seen - exact) <= slack + weight_error


@given(amount, unit, unit, amount)
def test_apc_lies_between_0_and_the_accuracy(c, acc, a, b):
    assert 0 <= fg.apc(c, acc, a, b) <= acc
    assert fg.apc(0, acc, a, b) == acc
    assert fg.apc(c, 0, a, b) == 0


@given(st.lists(amount, min_size=2), unit, unit, amount)
def test_apc_never_rises_with_consumption(cs, acc, a, b):
    assert (np.diff(fg.apc(np.sort(cs), acc, a, b)) <= 0).all()


@given(amount, st.lists(unit, min_size=2), unit, amount)
def test_apc_never_falls_with_accuracy(c, accs, a, b):
    assert (np.diff(fg.apc(c, np.sort(accs), a, b)) >= 0).all()


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.01, 1), st.floats(0.01, 100))
def test_the_isoline_leads_back_to_its_value(acc, share, a, b):
    wanted = share * acc
    c = (acc / wanted - 1) / (b * ((1 - a) * (1 - acc) + a))
    assert fg.apc(c, acc, a, b) == pytest.approx(wanted, rel=1e-12)


@given(amount, unit, st.floats(1e-3, 10), st.floats(1e-4, 1), unit, amount)
def test_closest_apc_is_its_twin_to_the_bit(c, acc, cost_delta, accuracy_delta, a, b):
    seen = fg.closest_apc(c, acc, consumption_delta=cost_delta, accuracy_delta=accuracy_delta, alpha=a, beta=b)
    assert seen == reference.closest_apc(c, acc, cost_delta, accuracy_delta, a, b)
    assert 0 <= seen <= 1


runs = st.lists(st.tuples(unit, st.floats(0, 20)), max_size=90)


@given(runs, st.none() | unit, st.sampled_from([0.01, 0.3, 1.0]), st.sampled_from([0.1, 2.5]), st.booleans())
def test_time_to_closest_is_its_twin(run, target, accuracy_delta, consumption_delta, quantize):
    acc, c = [x for x, _ in run], [x for _, x in run]
    time = np.arange(len(run)) * 0.5
    deltas = {"accuracy_delta": accuracy_delta, "consumption_delta": consumption_delta}
    seen = fg.ttcapc(time, acc, c, target=target, quantize=quantize, **deltas)
    wanted = reference.time_to_closest(time, acc, c, target, consumption_delta, accuracy_delta, 0.1, 1.0, quantize)
    assert (seen.time, seen.index) == wanted
    if seen.index >= 0:
        at = seen.index
        assert (seen.accuracy_cell, seen.consumption_cell) == reference.cells(
            c[at], acc[at], consumption_delta, accuracy_delta
        )


# ---- many runs


def test_many_runs_are_as_each_of_them_alone():
    rng = np.random.default_rng(0)
    time, acc, c = np.sort(rng.random((50, 80)), axis=1), rng.random((50, 80)), rng.random((50, 80)) * 5
    for target in (None, 0.4, (0.8, 1.0)):
        many = fg.ttcapc(time, acc, c, target=target)
        for run in range(50):
            alone = fg.ttcapc(time[run], acc[run], c[run], target=target)
            assert tuple(np.nan_to_num(field[run]) for field in many) == tuple(np.nan_to_num(list(alone)))
    one = fg.ttcapc(time[:1], acc[:1], c[:1])
    assert [field.shape for field in one] == [(1,)] * 5
    shared = fg.ttcapc(time[0], acc, c)
    assert np.array_equal(shared.time, time[0][shared.index])


def test_runs_of_unequal_length_go_in_arrow_lists():
    rng = np.random.default_rng(1)
    lengths = [3, 0, 40, 1, 100]
    times = [np.cumsum(rng.random(n)).tolist() for n in lengths]
    accs, cs = ([rng.random(n).tolist() for n in lengths] for _ in range(2))
    for kind in (pa.list_(pa.float64()), pa.large_list(pa.float64())):
        columns = [pa.array([*x, None], kind) for x in (times, accs, cs)]
        for given_columns in (columns, [pa.chunked_array([x[:2], x[2:]]) for x in columns]):
            seen = fg.ttcapc(*given_columns)
            for run in range(5):
                wanted = fg.ttcapc(times[run], accs[run], cs[run])
                assert (seen.time[run], seen.index[run]) == wanted[:2]
            assert seen.index[5] == -1
    tail = [x[2:] for x in columns]  # a slice begins in the middle of its values
    assert fg.ttcapc(*tail).index[0] == fg.ttcapc(times[2], accs[2], cs[2]).index


def test_checkpoints_with_nan_are_passed_over():
    acc = [np.nan, 0.5, 0.9, np.nan]
    assert fg.ttcapc([1, 2, 3, 4], acc, [1, 1, 1, 1]).index == 2
    assert fg.ttcapc([1, 2], [np.nan, np.nan], [1, 1]).index == -1
    assert fg.ttcapc([], [], []).time == math.inf


def test_checkpoints_without_a_time_are_passed_over_and_hide_no_time_that_goes_back():
    acc, c = [0.5, 0.9, 0.6, 0.95], [1, 1, 1, 1]
    nan = math.nan
    for time, wanted in (([1, nan, 3, nan], (3, 2)), ([nan, 2, 2, 3], (3, 3)), ([nan] * 4, (math.inf, -1))):
        assert fg.ttcapc(time, acc, c)[:2] == wanted
        many = fg.ttcapc([time, [1, 2, 3, 4], time], [acc] * 3, np.array([c] * 3, np.float32))
        assert [(t, i) for t, i in zip(*many[:2], strict=True)] == [wanted, (4, 3), wanted]
        shared = fg.ttcapc(time, [acc, acc], [c, c])
        assert [(t, i) for t, i in zip(*shared[:2], strict=True)] == [wanted, wanted]
        kind = pa.list_(pa.float64())
        lists = [pa.array([[], x, x[:1]], kind) for x in ([None if t != t else float(t) for t in time], acc, [1.0] * 4)]
        assert fg.ttcapc(*lists)[1].tolist() == [-1, wanted[1], -1 if time[0] != time[0] else 0]
    for time in ([3, nan, 1, 4], [[3, nan, 1, 4]]):
        with pytest.raises(ValueError, match=r"time goes back from 3 to 1 at checkpoint 2"):
            fg.ttcapc(time, *([acc, c] if np.ndim(time) == 1 else [[acc], [c]]))
    with pytest.raises(ValueError, match=r"accuracy .* not 60 at checkpoint 3 of run 1"):
        fg.ttcapc([[1, nan, 3, 4]] * 2, [acc, [*acc[:3], 60]], [c, c])
    rng = np.random.default_rng(3)
    time, acc, c = np.sort(rng.random((60, 70)), axis=1), rng.random((60, 70)), rng.random((60, 70)) * 5
    time[rng.random(time.shape) < 0.2] = nan
    for target in (None, 0.4):
        seen = fg.ttcapc(time, acc, c, target=target)
        for run in range(60):
            twin = reference.time_to_closest(time[run], acc[run], c[run], target, 0.1, 0.01, 0.1, 1.0)
            assert (seen.time[run], seen.index[run]) == twin


# ---- arguments


def test_numbers_in_every_dress_are_taken():
    assert fg.apc(5, 1) == reference.apc(5.0, 1.0, 0.1, 1.0)
    assert isinstance(fg.apc(5, 0.95), float)
    assert fg.apc([1, 2], [0.5, 0.6]).shape == (2,)
    assert fg.apc(pa.array([1.0, 2.0]), 0.5).shape == (2,)
    assert fg.apc(np.ones(3, np.float32), np.float32(0.5)).dtype == np.float32
    assert fg.apc(np.ones((2, 1)), np.full(3, 0.5)).shape == (2, 3)
    assert np.isnan(fg.apc([np.nan, 1], 0.5)[0])
    assert fg.apc(np.empty(0), 0.5).shape == (0,)
    out = np.empty(2)
    assert fg.apc([1.0, 2.0], 0.5, out=out) is out
    assert fg.weighted_consumption(2, 0.5, 0.5) == 1.5


def test_pandas_xarray_and_dask_keep_their_kind():
    pd, xr, da = (pytest.importorskip(name) for name in ("pandas", "xarray", "dask.array"))
    series = pd.Series([1.0, 2.0], index=["a", "b"])
    assert fg.apc(series, 0.5).index.tolist() == ["a", "b"]
    assert fg.apc(xr.DataArray([1.0, 2.0], dims="x"), 0.5).dims == ("x",)
    assert isinstance(fg.apc(da.ones(10, chunks=5), 0.5), da.Array)
    with pytest.raises(ValueError, match="consumption"):
        fg.apc(pd.Series([1.0, -2.0]), 0.5)
    whole = pd.Series([1, 2], index=["a", "b"])
    for neighbour in (metrics.edp(whole, 3), metrics.carbon(whole, 232), metrics.netscore(whole, 1, 1)):
        assert neighbour.index.tolist() == ["a", "b"]
    assert metrics.ed2p(pd.Series([2**31]), pd.Series([2**31]))[0] == 2.0**93
    assert metrics.accuracy_per_joule(xr.DataArray([0.5, 0.6], dims="model"), xr.DataArray([1, 2, 3], dims="x")).shape
    assert isinstance(metrics.sci(da.ones(10, chunks=5), 100.0), da.Array)
    with pytest.raises(ValueError, match=r"time_s .* not -1 at index 1"):
        metrics.edp(series, pd.Series([1, -1]))


BAD = [
    ({"accuracy": 93.5}, "accuracy must lie in 0..1, not 93.5; if it is in percent, divide it by 100"),
    ({"accuracy": [0.5, 93.5]}, "accuracy .* not 93.5 at index 1; if it is in percent"),
    ({"accuracy": 100}, "accuracy .* not 100; if it is in percent, divide it by 100"),
    ({"accuracy": 101}, "accuracy must lie in 0..1, not 101$"),
    ({"accuracy": -0.1}, "accuracy must lie in 0..1, not -0.1"),
    ({"accuracy": math.inf}, "accuracy"),
    ({"consumption": [1, 2, -3, -4]}, "consumption must be finite and not negative, not -3 at index 2"),
    ({"consumption": np.array([[1, 2], [math.inf, 4]])}, "consumption .* not inf at index 1, 0"),
    ({"consumption": -1}, "consumption .* not -1"),
    ({"alpha": 1.1}, "alpha must lie in 0..1, not 1.1"),
    ({"beta": -2.0}, "beta must be finite and not negative, not -2"),
    ({"beta": math.inf}, "beta"),
    ({"consumption": "five"}, "consumption must be numbers"),
    ({"consumption": [1, None]}, "consumption must be numbers .* not object"),
    ({"consumption": [1j]}, "consumption must be numbers .* complex"),
    ({"accuracy": [True]}, "accuracy must be numbers .* bool"),
    ({"accuracy": True}, "accuracy must be numbers .* bool"),
    ({"consumption": np.array(["2020-01-01"], "M8[D]")}, "consumption must be numbers .* datetime64"),
    ({"consumption": [[1, 2], [3]]}, "consumption must be an array"),
    ({"consumption": np.longdouble([1])}, "consumption must be numbers .* not float128|longdouble"),
    (
        {"consumption": [1, 2, 3], "accuracy": [0.5, 0.6]},
        r"broadcast together, not consumption \(3,\), accuracy \(2,\)",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
@pytest.mark.parametrize("function", [fg.apc, fg.closest_apc])
def test_a_bad_argument_is_named_with_its_first_bad_value(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(**{"consumption": 1.0, "accuracy": 0.5, **arguments})


def test_a_failed_check_leaves_out_alone():
    out = np.full(2, 7.0)
    with pytest.raises(ValueError, match="consumption"):
        fg.apc([1.0, -1.0], 0.5, out=out)
    with pytest.raises(ValueError, match=r"out must be an array of shape \(3,\), not \(2,\)"):
        fg.apc([1.0, 1.0, 1.0], 0.5, out=out)
    assert (out == 7).all()


def test_the_check_looks_through_views_and_broadcasts():
    base = np.ones((4, 6))
    base[2, 3] = -5
    with pytest.raises(ValueError, match="not -5 at index 1, 1"):
        fg.apc(base[::2, 1::2], 0.5)
    with pytest.raises(ValueError, match="not -5 at index 3, 2"):
        fg.apc(base.T, 0.5)
    assert fg.apc(np.broadcast_to(2.0, (3, 4)), 0.5).shape == (3, 4)
    with pytest.raises(ValueError, match="not -2 at index 0, 0"):
        fg.apc(np.broadcast_to(-2.0, (3, 4)), 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": [1, 3, 2]}, "time goes back from 3 to 2 at checkpoint 2"),
        ({"time": [-1, 2, 3]}, "time must be finite and not negative, not -1 at checkpoint 0"),
        ({"time": [1, 2]}, r"fit together, not time \(2,\), accuracy \(3,\), consumption \(3,\)"),
        ({"accuracy": [0.5, 60, 0.7]}, "accuracy .* not 60 at checkpoint 1; if it is in percent"),
        ({"consumption": [1, 2, math.inf]}, "consumption .* not inf at checkpoint 2"),
        ({"accuracy_delta": 0}, "accuracy_delta must lie in 0..1 and not be 0, not 0"),
        ({"accuracy_delta": 1.5}, "accuracy_delta .* not 1.5"),
        ({"consumption_delta": 0.0}, "consumption_delta must be finite and above 0, not 0"),
        ({"consumption_delta": math.nan}, "consumption_delta must be one finite number"),
        ({"alpha": [0.1, 0.2]}, "alpha must be one finite number"),
        ({"target": 55}, "target must lie in 0..1, not 55; if it is in percent"),
        ({"target": math.nan}, "target must be a number"),
        ({"target": (90, 1)}, "target accuracy .* not 90"),
        ({"target": (0.9, -1)}, "target consumption .* not -1"),
        ({"target": (0.9, 1, 2)}, "target must be a score, a pair"),
        ({"accuracy": ["a", "b", "c"]}, "accuracy must be numbers"),
        ({"accuracy": np.zeros((1, 1, 3))}, "1-D array"),
    ],
)
def test_a_bad_run_is_told_what_is_wrong_with_it(arguments, message):
    good = {"time": [1, 2, 3], "accuracy": [0.5, 0.6, 0.7], "consumption": [1, 2, 3]}
    with pytest.raises(ValueError, match=message):
        fg.time_to_closest_apc(**{**good, **arguments})


def test_among_many_runs_the_bad_one_is_named():
    time, acc, c = np.tile(np.arange(5.0), (4, 1)), np.full((4, 5), 0.5), np.ones((4, 5))
    time[2, 3] = 0.5
    with pytest.raises(ValueError, match=r"time goes back from 2 to 0\.5 at checkpoint 3 of run 2"):
        fg.ttcapc(time, acc, c)
    lists = [pa.array([[1.0], [1.0, 2.0]]), pa.array([[0.5], [0.5]]), pa.array([[1.0], [1.0, 2.0]])]
    with pytest.raises(ValueError, match="run 1 must have as many checkpoints in accuracy as in time, 2, not 1"):
        fg.ttcapc(*lists)
    with pytest.raises(ValueError, match="accuracy must have 2 runs as time, not 1"):
        fg.ttcapc(lists[0], lists[1][:1], lists[2])
    with pytest.raises(ValueError, match="must be an Arrow list array"):
        fg.ttcapc(lists[0], [[0.5]], lists[2])
    with pytest.raises(ValueError, match=r"time goes back from 2 to 1 at checkpoint 1"):
        fg.ttcapc([2.0, 1.0], np.full((3, 2), 0.5), np.ones((3, 2)))


# ---- neighbours


@pytest.mark.filterwarnings("error")
def test_the_neighbours_give_their_published_values():
    assert metrics.edp(2.0, 3.0) == 6
    assert metrics.ed2p(2.0, 3.0) == 18
    assert metrics.zeus_cost(3.6e6, 7200, eta=0.5, max_power_w=300) == 2_880_000
    assert metrics.netscore(71.5, 138.36, 15.47) == pytest.approx(40.867233, abs=5e-7)
    embodied = metrics.embodied_carbon(150_000, 2, 4 * 8760, 1, 8)
    assert metrics.sci(1.2, 232, embodied, 1000) == pytest.approx(0.279470205, abs=5e-10)
    assert metrics.carbon(1e6, 232) == pytest.approx(64.444444, abs=5e-7)
    assert metrics.accuracy_per_joule(0.9, 3.0) == pytest.approx(0.3)
    assert metrics.accuracy_per_joule(0.9, 0.0) == math.inf
    assert math.isnan(metrics.accuracy_per_joule(0.0, 0.0))
    assert metrics.netscore(0.0, 1.0, 1.0) == -math.inf
    assert math.isnan(metrics.edp(math.nan, 1.0))


def test_time_and_energy_to_accuracy_are_those_of_the_first_checkpoint_to_reach_it():
    assert metrics.time_to_accuracy(HOURS, RUN_ACCURACY, 0.783) == 1.0
    assert metrics.energy_to_accuracy(RUN_WH, RUN_ACCURACY, 0.8) == 1.85
    assert metrics.time_to_accuracy(HOURS, RUN_ACCURACY, 0.9) == math.inf
    many = metrics.time_to_accuracy([1, 2, 3], [[0.5, 0.9, 0.9], [0.1, 0.2, 0.3], [0.9, 0.1, 0.1]], 0.9)
    assert many.tolist() == [2, math.inf, 1]
    assert metrics.time_to_accuracy([], [], 0.5) == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.edp(-1, 2), "energy_j"),
        (lambda: metrics.ed2p(1, [1, -2]), "time_s .* not -2 at index 1"),
        (lambda: metrics.edp([1, 2], [1, 2, 3]), "must (fit|broadcast) together"),
        (lambda: metrics.zeus_cost(1, 1, eta=2, max_power_w=1), "eta"),
        (lambda: metrics.netscore(120, 1, 1), "accuracy_percent"),
        (lambda: metrics.netscore(70, 0, 1), "parameters_millions"),
        (lambda: metrics.sci(1, 1, 0, 0), "functional_units"),
        (lambda: metrics.accuracy_per_joule(90, 1), "accuracy .* percent"),
        (lambda: metrics.time_to_accuracy([1, 2], [0.5], 0.5), "must fit together"),
        (lambda: metrics.time_to_accuracy([1], [0.5], 50), "target .* percent"),
    ],
)
def test_the_neighbours_name_a_bad_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_public_name_leads_somewhere_and_says_what_it_is():
    for name in metrics.__all__:
        assert getattr(metrics, name).__doc__
