"""Sweeps: the grid is the formula, the answers without a grid are those of the grid, the file is whole or not there."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgreen as fg
from tests.oracles import reference

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def small(**changes: object) -> fg.Sweep:
    axes = {
        "consumption": np.arange(13) * 0.7,
        "accuracy": [0.0, 0.5, 0.9, 1.0],
        "alpha": [0.1, 0.5],
        "beta": [0.0, 1, 20],
    }
    return fg.Sweep("apc", **{**axes, **changes})


def twin(sweep: fg.Sweep, dtype: type = np.float64) -> np.ndarray:
    return reference.grid(*[axis.astype(dtype) for axis in sweep.axes.values()])


# ---- compute


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_the_grid_is_the_formula_to_the_bit(dtype, threads):
    rng = np.random.default_rng(0)
    # Large enough for several threads and for streaming stores.
    sweep = fg.Sweep(
        "apc", consumption=rng.random(997) * 9, accuracy=rng.random(301), alpha=rng.random(3), beta=[1, 5.0]
    )
    wanted = twin(sweep, np.dtype(dtype).type)
    assert np.array_equal(sweep.compute(dtype=dtype, threads=threads), wanted)
    out = np.empty(sweep.shape, dtype)
    assert sweep.compute(threads=threads, out=out) is out
    assert np.array_equal(out, wanted)


def test_a_grid_larger_than_the_cache_is_the_formula_too():
    sweep = fg.Sweep("apc", consumption=np.linspace(0, 9, 3001), accuracy=np.linspace(0, 1, 2000))
    grid = sweep.compute()
    for row in (0, 1, 999, 1999):
        assert np.array_equal(
            grid[0, 0, row], reference.apc(sweep.axes["consumption"], sweep.axes["accuracy"][row], 0.1, 1.0)
        )


def test_the_published_heat_maps():
    grid = fg.Sweep("apc", consumption=np.arange(101) * 0.1 + 0.05, accuracy=np.arange(100) * 0.01 + 0.005).compute()[
        0, 0
    ]
    assert grid.shape == (100, 101)
    assert grid.sum() == pytest.approx(2205.3501743037255, rel=1e-14)
    wanted = [0.004762925389, 0.134495409179, 0.485312587643]
    assert [grid[0, 0], grid[50, 50], grid[99, 100]] == pytest.approx(wanted, abs=1e-12)
    large = fg.Sweep("apc", consumption=np.arange(10001) * 0.1 + 0.05, accuracy=np.arange(1000) * 0.001 + 0.0005)
    assert large.compute().sum() == pytest.approx(95237.58100989895, rel=1e-14)


def test_a_sweep_knows_its_axes():
    sweep = small()
    assert list(sweep.axes) == ["beta", "alpha", "accuracy", "consumption"]
    assert sweep.shape == (3, 2, 4, 13)
    assert (sweep.size, sweep.nbytes) == (312, 2496)
    assert "312 points" in repr(sweep)
    assert list(fg.Sweep("apec", cost=[1, 2], accuracy=0.5).axes) == ["beta", "alpha", "accuracy", "cost"]
    with pytest.raises(ValueError, match="read-only"):
        sweep.axes["alpha"][0] = 2
    defaults = {"beta": [1.0], "alpha": [0.1], "accuracy": [0.5], "consumption": [1.0]}
    bare = fg.Sweep("apc", consumption=1, accuracy=0.5)
    assert {name: axis.tolist() for name, axis in bare.axes.items()} == defaults
    times = fg.Sweep("ttcapec", time=[1.0], accuracy=[0.5], cost=[1.0]).axes
    assert list(times) == ["beta", "alpha", "accuracy_delta", "cost_delta", "target", "run"]
    assert [float(axis[0]) for axis in times.values()] == pytest.approx([1, 0.1, 0.01, 0.1, np.nan, 0], nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": [50, 90]}, "accuracy .* not 50 at index 0; if it is in percent"),
        ({"consumption": [0, -1]}, "consumption .* not -1 at index 1"),
        ({"consumption": [0, np.inf]}, "consumption .* not inf at index 1"),
        ({"consumption": [0, np.nan]}, "axis consumption must not hold NaN, as at index 1"),
        ({"consumption": []}, "axis consumption must not be empty"),
        ({"alpha": []}, "axis alpha must not be empty"),
        ({"alpha": [0.1, -0.1]}, "alpha .* not -0.1 at index 1"),
        ({"beta": -1}, "beta .* not -1"),
        ({"consumption": [[1, 2]]}, "one-dimensional"),
        ({"consumption": ["a"]}, "consumption must be numbers"),
        ({"consumption": np.array([1, None])}, "consumption must be numbers"),
        ({"consumption": None}, "consumption must be given"),
        ({"cost": [1]}, "consumption must be given .*, not cost"),
        ({"time": [1]}, "time must be left out"),
        ({"target": 0.5}, "target must be left out"),
    ],
)
def test_a_bad_axis_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="metric must be one of"):
        fg.Sweep("acp", consumption=[1], accuracy=[0.5])
    for call, message in (
        (lambda: small().compute(dtype="int32"), "float64 or float32"),
        (lambda: small().compute(dtype="grue"), "float64 or float32"),
        (lambda: small().compute(threads=0), "threads"),
        (lambda: small().compute(out=np.empty(3)), "shape"),
        (lambda: small().compute(out=np.empty(small().shape, int)), "float64 or float32"),
        (
            lambda: small().compute(dtype="float32", out=np.empty(small().shape)),
            "out must be float32 as dtype is, not float64",
        ),
        (lambda: small().compute(out=np.empty(small().shape[::-1]).T), "C-contiguous"),
        (lambda: small().best(0), "k must be"),
        (lambda: small().where(0.5, 0.4), "low must be at most high"),
        (lambda: small().where(float("nan")), "low must be at most high"),
        (lambda: small().write(tmp_path / "x", layout="wide"), "layout"),
        (lambda: small().write(tmp_path / "x", compression="rar"), "compression"),
        (lambda: small().write(tmp_path / "x", dtype="int8"), "float64 or float32"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert not list(tmp_path.iterdir())


def test_a_sweep_larger_than_memory_says_its_size_and_points_to_write():
    axis = np.linspace(0, 1, 10_000)
    sweep = fg.Sweep("apc", consumption=axis, accuracy=axis, alpha=axis, beta=[1.0])
    with pytest.raises(MemoryError, match=r"8,000\.0 GB \(1,000,000,000,000 points\).*write\(path\)"):
        sweep.compute()
    with pytest.raises(MemoryError, match=r"points are in low..high"):
        sweep.where(0, 1)


# ---- best and where

ties = st.sampled_from([0.0, 0.25, 0.5, 1.0])
costs = st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 7.0]) | st.floats(0, 10), min_size=1, max_size=30)


@given(
    costs,
    st.lists(ties | st.floats(0, 1), min_size=1, max_size=5),
    st.lists(ties, min_size=1, max_size=3),
    st.lists(st.sampled_from([0.0, 1.0, 50.0]), min_size=1, max_size=3),
    st.integers(1, 400),
)
def test_the_best_are_those_that_sorting_everything_finds(c, acc, a, b, k):
    sweep = fg.Sweep("apc", consumption=c, accuracy=acc, alpha=a, beta=b)
    grid = sweep.compute()
    wanted = reference.first_best(grid, k)
    assert np.array_equal(sweep.plan.best(min(k, sweep.size)), wanted)
    table = sweep.best(k)
    assert table == sweep.best(np.int64(k))
    assert np.array_equal(table["apc"], grid.ravel()[wanted])
    assert np.array_equal(table["consumption"], np.asarray(c, float)[wanted % len(c)])


@given(costs, st.lists(ties | st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1) | ties, st.floats(0, 1) | ties)
def test_where_finds_what_looking_at_everything_finds(c, acc, low, high):
    low, high = sorted((low, high))
    sweep = fg.Sweep("apc", consumption=c, accuracy=acc, beta=[0.0, 1.0])
    grid = sweep.compute().ravel()
    assert np.array_equal(sweep.plan.where(low, high), np.flatnonzero((grid >= low) & (grid <= high)))
    assert sweep.where(low, high).num_rows == ((grid >= low) & (grid <= high)).sum()


def test_best_and_where_look_through_many_rows_in_pieces(monkeypatch):
    # A seam would be an argument nobody else needs; the piece is only a number.
    monkeypatch.setattr("fastgreen.metrics.score_grid._ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(3)
    axes = {"consumption": rng.choice([0.1, 0.5, 3.0, 4.0], 9), "accuracy": rng.random(10), "alpha": rng.random(4)}
    sweep = fg.Sweep("apc", **axes, beta=[1.0, 2.0])
    grid = sweep.compute()
    for k in (1, 5, 50, 720):
        assert np.array_equal(sweep.plan.best(k), reference.first_best(grid, k))
    assert np.array_equal(sweep.plan.where(0.2, 0.4), np.flatnonzero((grid >= 0.2) & (grid <= 0.4)))


# ---- times


def run_sweep(**changes: object) -> tuple[fg.Sweep, dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    runs = {
        "time": np.sort(rng.random((7, 40)), axis=1),
        "accuracy": rng.random((7, 40)),
        "consumption": rng.random((7, 40)),
    }
    axes = {"alpha": [0.1, 0.9], "beta": [1.0, 3.0], "accuracy_delta": [0.01, 0.1], "target": [None, 0.3, (0.8, 0.4)]}
    return fg.Sweep("ttcapc", **runs, **{**axes, **changes}), runs


def test_a_sweep_of_times_is_time_to_closest_for_each_combination(tmp_path):
    sweep, runs = run_sweep()
    assert list(sweep.axes) == ["beta", "alpha", "accuracy_delta", "consumption_delta", "target", "run"]
    assert sweep.shape == (2, 2, 2, 1, 3, 7)
    grid = sweep.compute()
    for i, beta in enumerate([1.0, 3.0]):
        for j, alpha in enumerate([0.1, 0.9]):
            for k, delta in enumerate([0.01, 0.1]):
                for t, target in enumerate([None, 0.3, (0.8, 0.4)]):
                    wanted = fg.ttcapc(**runs, alpha=alpha, beta=beta, accuracy_delta=delta, target=target).time
                    assert np.array_equal(grid[i, j, k, 0, t], wanted)
    assert np.array_equal(sweep.compute(threads=2, dtype="float32"), grid.astype("f4"))
    flat = grid.ravel()
    assert np.array_equal(sweep.plan.best(30), np.lexsort((np.arange(flat.size), flat))[:30])
    assert np.array_equal(sweep.where(0.2, 0.5)["ttcapc"], flat[(flat >= 0.2) & (flat <= 0.5)])
    for layout in ("dense", "long"):
        sweep.write(tmp_path / layout, layout=layout)
        stored = fg.open_sweep(tmp_path / layout)
        assert np.array_equal(stored.to_numpy(), grid)
        assert stored.axes["target"].tolist() == ["best", "0.3", "(0.8, 0.4)"]


def test_a_sweep_of_times_over_ragged_runs_and_on_cost():
    lists = [pa.array(x) for x in ([[1.0, 2.0], [1.0], []], [[0.5, 0.9], [0.7], []], [[1.0, 1.0], [2.0], []])]
    sweep = fg.Sweep("ttcapec", time=lists[0], accuracy=lists[1], cost=lists[2], cost_delta=0.5, target=[None, 0.9])
    assert sweep.compute()[0, 0, 0, 0].tolist() == [[2, 1, np.inf], [np.inf] * 3]
    assert np.isnan(sweep.axes["target"][0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": None}, "time must be given"),
        ({"accuracy_delta": [0.1, 0.0]}, "accuracy_delta .* not 0 at index 1"),
        ({"consumption_delta": [-1.0]}, "consumption_delta .* not -1"),
        ({"cost_delta": [1.0]}, "consumption must be given .*, not cost"),
        ({"target": []}, "axis target must not be empty"),
        ({"target": [0.5, 50]}, "target .* not 50"),
        ({"time": np.zeros((6, 40))}, "must (fit|broadcast) together"),
    ],
)
def test_a_bad_sweep_of_times_is_told_what_is_wrong(changes, message):
    _, runs = run_sweep()
    with pytest.raises(ValueError, match=message):
        fg.Sweep("ttcapc", **{**runs, **changes})
    with pytest.raises(ValueError, match=r"must be \[0.9, 0.5\] .two scores. or \[\(0.9, 0.5\)\]"):
        fg.Sweep("ttcapc", **runs, target=(0.9, 0.5))
    for axis, wanted in (([0.9, 0.5], [0.9, 0.5]), ([(0.9, 0.5)], ["(0.9, 0.5)"]), ((0.9, 0.5, 0.4), [0.9, 0.5, 0.4])):
        assert fg.Sweep("ttcapc", **runs, target=axis).axes["target"].tolist() == wanted
    backwards = {**runs, "time": runs["time"][:, ::-1]}
    with pytest.raises(ValueError, match=r"time goes back .* of run 0"):
        fg.Sweep("ttcapc", **backwards).compute()


FLOAT32_MOST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("name", ["consumption", "beta"])
@pytest.mark.filterwarnings("error")
def test_what_float32_cannot_hold_is_refused_there_and_not_taken_for_infinite(tmp_path, name):
    sweep = small(**{name: [0.0, FLOAT32_MOST, 1e39, 1e300]})
    assert np.isfinite(sweep.compute()).all()
    sweep.write(tmp_path / "wide.arrow")
    for call in (
        lambda: sweep.compute("float32"),
        lambda: sweep.compute(out=np.empty(sweep.shape, "f4")),
        lambda: sweep.write(tmp_path / "narrow.arrow", dtype="float32"),
        lambda: sweep.write(tmp_path / "narrow.arrow", dtype="float32", layout="long"),
    ):
        with pytest.raises(ValueError, match=rf"{name} must be at most 3\.4e\+38 for float32, not 1e\+39 at index 2"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["wide.arrow"]
    assert np.isfinite(small(**{name: [0.0, FLOAT32_MOST]}).compute("float32")).all()


@pytest.mark.filterwarnings("error")
def test_a_time_that_float32_cannot_hold_is_not_taken_for_never():
    runs = {"accuracy": [0.1, 0.2, 0.9], "consumption": [0.0, 1.0, 2.0]}
    sweep = fg.Sweep("ttcapc", time=[0.0, 1e38, 1e39], **runs)
    assert sweep.compute().item() == 1e39
    with pytest.raises(ValueError, match=r"time must be at most .* for float32, not 1e\+39 at index 2"):
        sweep.compute("float32")
    with pytest.raises(ValueError, match="time must be finite"):
        fg.Sweep("ttcapc", time=[0.0, 1.0, np.inf], **runs).compute("float32")
    never = fg.Sweep("ttcapc", time=[0.0, 1e38, float("nan")], target=0.99, **runs)
    assert never.compute("float32").item() == np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_output_that_lies_across_its_items_is_refused(dtype):
    sweep = fg.Sweep("apc", consumption=np.linspace(0, 1, 50), accuracy=[0.5])
    size = np.dtype(dtype).itemsize
    memory = np.zeros(sweep.size * size + size, np.uint8)
    out = memory[1 : 1 + sweep.size * size].view(dtype).reshape(sweep.shape)
    with pytest.raises(ValueError, match="aligned to its items"):
        sweep.compute(out=out)
