"""Every path of the metric kernels gives NumPy's bits, whatever the values, lengths, strides and alignments."""

from __future__ import annotations

import gc
import warnings

import numpy as np
import pytest

from fastgreen import _kernels, ufuncs
from tests.oracles import reference

PATHS = _kernels.usable_paths()
DTYPES = [np.float64, np.float32]
LENGTHS = [1, 2, 3, 7, 8, 15, 16, 31, 33, 63, 255, 257, 1000, 1001]


def same_bits(seen: np.ndarray, wanted: np.ndarray) -> bool:
    bits = f"u{wanted.dtype.itemsize}"
    equal = (seen.view(bits) == wanted.view(bits)) | (np.isnan(seen) & np.isnan(wanted))
    return seen.shape == wanted.shape and seen.dtype == wanted.dtype and bool(equal.all())


def amounts(rng: np.random.Generator, n: int, dtype: type) -> np.ndarray:
    """Consumptions of every magnitude, with zeros, denormals and the largest number among them."""
    values = (10.0 ** rng.uniform(-30, 30, n)).astype(dtype)
    special = np.array([0, np.finfo(dtype).tiny / 4, np.finfo(dtype).smallest_subnormal, 1, np.finfo(dtype).max], dtype)
    some = rng.random(n) < 0.2
    values[some] = rng.choice(special, int(some.sum()))
    return values


def fractions(rng: np.random.Generator, n: int, dtype: type) -> np.ndarray:
    values = rng.random(n).astype(dtype)
    special = np.array([0, 1, np.finfo(dtype).smallest_subnormal, 1 - np.finfo(dtype).epsneg, 0.5], dtype)
    some = rng.random(n) < 0.2
    values[some] = rng.choice(special, int(some.sum()))
    return values


def room(count: int) -> dict[str, np.ndarray]:
    return {name: np.full(count, -7, dtype) for name, dtype in _kernels.FOUND.items()}


def test_the_last_path_runs_everywhere_and_the_first_is_the_default():
    assert PATHS[-1] in ("sse2", "neon")
    with pytest.raises(ValueError, match=r"path must be one of .*, not 'abacus'"):
        _kernels.make_ufuncs("abacus")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_the_ufuncs_give_the_bits_of_numpy(path, dtype):
    rng = np.random.default_rng(1)
    made = _kernels.make_ufuncs(path)
    for n in LENGTHS:
        c, acc, a, b = (
            amounts(rng, n, dtype),
            fractions(rng, n, dtype),
            fractions(rng, n, dtype),
            amounts(rng, n, dtype),
        )
        with np.errstate(all="ignore"):
            for arguments in (
                (c, acc, a, b),
                (c, acc, a[0], b[0]),
                (c, acc[0], a[0], b[0]),
                (c[0], acc, a[0], b[0]),
                (c, acc, a, b[0]),
            ):
                assert same_bits(made["apc"](*arguments), reference.apc(*arguments)), (
                    n,
                    [np.ndim(x) for x in arguments],
                )
            assert same_bits(made["weighted_consumption"](c, acc, a), reference.weighted_consumption(c, acc, a))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_strides_offsets_and_the_output_among_the_inputs_change_nothing(path, dtype):
    rng = np.random.default_rng(2)
    ufunc = _kernels.make_ufuncs(path)["apc"]
    c, acc = amounts(rng, 4000, dtype), fractions(rng, 4000, dtype)
    a, b = dtype(0.1), dtype(2)
    with np.errstate(all="ignore"):
        for view in (np.s_[1:1000], np.s_[::3], np.s_[::-1], np.s_[5:900:2]):
            assert same_bits(ufunc(c[view], acc[view], a, b), reference.apc(c[view], acc[view], a, b))
        packed = np.zeros(500, np.dtype([("pad", "u1"), ("c", dtype)]))  # unaligned
        packed["c"] = c[:500]
        assert same_bits(ufunc(packed["c"], acc[:500], a, b), reference.apc(c[:500], acc[:500], a, b))
        wanted = reference.apc(c, acc, a, b)
        for out in (c.copy(), acc.copy()):
            inputs = (out, acc) if out[7] == c[7] else (c, out)
            assert ufunc(*inputs, a, b, out=out) is out
            assert same_bits(out, wanted)
        shifted = np.concatenate([c, c])
        wanted = reference.apc(shifted[:4000], acc, a, b)
        ufunc(shifted[:4000], acc, a, b, out=shifted[3:4003])  # overlaps, but not element upon element
        assert same_bits(shifted[3:4003], wanted)


@pytest.mark.parametrize("path", PATHS)
def test_a_nan_that_comes_in_goes_out_without_a_warning(path):
    ufunc = _kernels.make_ufuncs(path)["apc"]
    c = np.linspace(0, 5, 700)
    c[[0, 3, 300, 699]] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ufunc(c, 0.9, 0.1, 1.0)
        assert np.isnan(ufunc(np.nan, 2.0, 0.1, 1.0))  # NaN explains the NaN, whatever else is wrong
    assert np.array_equal(np.isnan(result), np.isnan(c))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "bad",
    [(-1, 0.5, 0.1, 1), (np.inf, 0.5, 0.1, 1), (1, 1.5, 0.1, 1), (1, -0.1, 0.1, 1), (1, 0.5, 2, 1), (1, 0.5, 0.1, -1)],
)
def test_the_bare_ufunc_answers_nan_with_a_warning_outside_the_domain(path, bad, dtype):
    ufunc = _kernels.make_ufuncs(path)["apc"]
    for n, at in ((1, 0), (40, 39), (1000, 500)):
        arguments = [np.full(n, good, dtype) for good in (1, 0.5, 0.1, 1)]
        for column, value in zip(arguments, bad, strict=True):
            column[at] = value
        for scalar_parameters in (False, True):
            given = arguments if not scalar_parameters else [*arguments[:2], dtype(bad[2]), dtype(bad[3])]
            with pytest.warns(RuntimeWarning, match="invalid value"):
                result = ufunc(*given)
            assert np.isnan(result[at])
            if not scalar_parameters:
                assert np.isnan(result).sum() == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_grid_gives_the_bits_of_numpy_from_any_point_to_any_other(path, dtype, stream):
    rng = np.random.default_rng(3)
    for n in (1, 2, 5, 31, 100, 1001, 5000, 20_000):
        axes = [amounts(rng, 3, dtype), fractions(rng, 2, dtype), fractions(rng, 5, dtype), amounts(rng, n, dtype)]
        with np.errstate(all="ignore"):
            wanted = reference.grid(*axes).ravel()
        kernel = _kernels.Grid(*axes, dtype=dtype, path=path)
        for first, last in ((0, wanted.size), (wanted.size // 3, wanted.size), (1, wanted.size // 2 + 1), (n // 2, n)):
            room = np.full(last - first + 5, -1, dtype)
            out = room[3 : 3 + last - first]  # not aligned to a vector
            kernel.fill(out, first, stream)
            assert same_bits(out, wanted[first:last]), (n, first, last)
            assert (room[:3] == -1).all()
            assert (room[3 + last - first :] == -1).all()


@pytest.mark.parametrize("path", PATHS)
def test_quotients_are_correctly_rounded_where_they_are_hard(path):
    # Denominators whose mantissa is all ones or nearly so, and accuracies one step apart: w = 1 and b = 1 make the
    # denominator c + 1, so that it can be chosen.
    rng = np.random.default_rng(4)
    low = (2.0 ** rng.integers(1, 200, 50_000)) * (1 - rng.integers(0, 4, 50_000) * 2.0**-53)
    c = np.concatenate([low - 1, np.nextafter(low, 0) - 1, rng.random(50_000) * 1e3])
    accuracy = np.array([1e-300, 1e-120, 0.1, 1 / 3, np.nextafter(1, 0), 1.0])
    out = np.empty(accuracy.size * c.size)
    _kernels.Grid([1.0], [1.0], accuracy, c, path=path).fill(out)
    assert same_bits(out.reshape(accuracy.size, -1), reference.apc(c, accuracy[:, None], 1.0, 1.0))


def test_a_grid_refuses_what_does_not_fit():
    kernel = _kernels.Grid([1.0], [0.1], [0.5], [1.0, 2.0])
    with pytest.raises(ValueError, match="must leave"):
        kernel.fill(np.empty(3))
    with pytest.raises(ValueError, match="must leave"):
        kernel.fill(np.empty(1), 2)
    with pytest.raises(ValueError, match="float64"):
        kernel.fill(np.empty(2, np.float32))
    with pytest.raises(ValueError, match="empty"):
        _kernels.Grid([1.0], [], [0.5], [1.0])
    with pytest.raises(ValueError, match="float64 or float32"):
        _kernels.Grid([1.0], [0.1], [0.5], [1.0], dtype="int64")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_search_agrees_with_its_twin_on_every_path(path, dtype):
    rng = np.random.default_rng(5)
    lengths = rng.integers(0, 150, 60)
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    accuracy = np.round(rng.random(offset[-1]), 3).astype(dtype)
    cost = np.round(rng.random(offset[-1]) * 3, 2).astype(dtype)
    accuracy[::37] = np.nan
    cost[::41] = np.nan
    time = np.arange(offset[-1], dtype=np.float64)
    found = room(60)
    for target in (np.nan, 0.3, 0.6, 0.99):
        for quantize in (True, False) if dtype == np.float64 else (True,):
            for deltas in ((0.1, 0.01), (0.25, 0.3)):
                goal = (*deltas, 0.1, 1.0, target, quantize)
                assert _kernels.reach(offset, time, cost, accuracy, *goal, 0, found, path=path) == -1
                for run in range(60):
                    span = slice(offset[run], offset[run + 1])
                    # What a float stands for: the decimal it was made from.
                    columns = [[float(str(x)) for x in column[span]] for column in (time, accuracy, cost)]
                    wanted = reference.time_to_closest(
                        *columns, None if np.isnan(target) else target, *deltas, 0.1, 1.0, quantize
                    )
                    assert found["index"][run] == wanted[1], (run, target, quantize, deltas)


def closest_in_numpy(cost, accuracy, cost_delta, accuracy_delta, alpha, beta):
    """The definition in float64, operation after operation."""
    i = np.minimum(np.floor(accuracy / accuracy_delta + 1e-9), np.ceil(1 / accuracy_delta - 1e-9) - 1)
    j = np.floor(cost / cost_delta + 1e-9)
    return reference.apc((j + 0.5) * cost_delta, np.minimum((i + 0.5) * accuracy_delta, 1.0), alpha, beta)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("length", [1, 3, 8, 13])
def test_the_search_scores_to_the_bit_where_cells_meet(path, length):
    # Each checkpoint is an edge of a cell, or the next number but a few; runs of one let every score be seen.
    rng = np.random.default_rng(6)
    n = 2000 * length
    offset = np.arange(0, n + 1, length)
    found = room(2000)
    for cost_delta, accuracy_delta in (
        (0.1, 0.01),
        (0.3, 0.07),
        (1 / 3, 1.0),
        (1e-12, 1e-9),
        (2.0**60, 0.6),
        (1e-150, 1e-150),
    ):
        near = 1 + rng.integers(-3, 4, (2, n)) * 2.0**-52
        accuracy = np.clip(np.floor(rng.random(n) / accuracy_delta) * accuracy_delta * near[0], 0, 1)
        cost = rng.integers(0, 1 << 40, n) * cost_delta * near[1]
        cost[::17] = amounts(rng, cost[::17].size, np.float64)
        with np.errstate(over="ignore"):
            q = closest_in_numpy(cost, accuracy, cost_delta, accuracy_delta, 0.1, 1.5).reshape(-1, length)
        goal = (cost_delta, accuracy_delta, 0.1, 1.5, np.nan, True)
        assert _kernels.reach(offset, None, cost, accuracy, *goal, 0, found, path=path) == -1
        assert same_bits(found["score"], q.max(axis=1)), (cost_delta, accuracy_delta)
        assert np.array_equal(found["index"], q.argmax(axis=1))
        target = float(np.median(q))
        assert _kernels.reach(offset, None, cost, accuracy, *goal[:4], target, True, 0, found, path=path) == -1
        reached = (q >= target).any(axis=1)
        assert np.array_equal(found["index"], np.where(reached, (q >= target).argmax(axis=1), -1))


# Without (float32, True): a float32 is allowed its own rounding there, which only the twin above knows.
@pytest.mark.parametrize(("dtype", "quantize"), [(np.float64, True), (np.float64, False), (np.float32, False)])
@pytest.mark.parametrize("path", PATHS)
def test_the_search_bears_what_is_rare_anywhere_in_a_run(path, dtype, quantize):
    # NaN, minus nothing and the largest amounts leave the fast way; the answer is that of the ufunc and of argmax.
    rng = np.random.default_rng(7)
    rare = [np.nan, -0.0, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal, 2.0**100]
    ufuncs = _kernels.make_ufuncs(path)
    for length in (1, 7, 8, 9, 30):
        cost = (rng.random((200, length)) * 10).astype(dtype)
        accuracy = rng.random((200, length)).astype(dtype)
        for run in range(150):
            cost[run, rng.integers(length)] = rare[run % 5]
            accuracy[run, rng.integers(length)] = [np.nan, -0.0, 1.0][run % 3]
        with np.errstate(over="ignore"):
            if quantize:
                q = ufuncs["closest_apc"](cost, accuracy, 0.1, 0.01, 0.1, 1.0)
            else:
                q = ufuncs["apc"](cost, accuracy, dtype(0.1), dtype(1.0))
        found = room(200)
        offset = np.arange(201) * length
        goal = (0.1, 0.01, 0.1, 1.0, np.nan, quantize)
        assert _kernels.reach(offset, None, cost.ravel(), accuracy.ravel(), *goal, 0, found, path=path) == -1
        none = np.isnan(q).all(axis=1)
        wanted = np.where(none, -1, np.nan_to_num(q, nan=-1).argmax(axis=1))
        assert np.array_equal(found["index"], wanted), length
        assert np.array_equal(
            found["score"], np.where(none, np.nan, np.nan_to_num(q, nan=-1).max(axis=1)), equal_nan=True
        )


@pytest.mark.parametrize("path", PATHS)
def test_the_search_stops_at_the_run_with_a_bad_value(path):
    offset = np.array([0, 100, 200, 300])
    for column, value in (
        ("cost", -1),
        ("cost", np.inf),
        ("accuracy", 1.01),
        ("accuracy", -0.1),
        ("time", 3),
        ("time", -1),
    ):
        for at in (100, 131, 163, 199):
            columns = {"time": np.arange(300.0), "cost": np.ones(300), "accuracy": np.full(300, 0.5)}
            if column == "time" and at == 100 and value == 3:
                continue  # a run may begin before the one before it ended
            columns[column][at] = value
            goal = (0.1, 0.01, 0.1, 1.0, np.nan, True)
            assert _kernels.reach(offset, *columns.values(), *goal, 0, room(3), path=path) == 1, (
                column,
                value,
                at,
            )


def test_the_binding_refuses_offsets_that_lead_astray():
    columns = (np.zeros(3), np.zeros(3), np.zeros(3))
    goal = (0.1, 0.01, 0.1, 1.0, np.nan, True)
    for offset in ([0, 4], [0, -1], [2, 1], [-1, 2]):
        with pytest.raises(ValueError, match="offset"):
            _kernels.reach(np.array(offset), *columns, *goal, 0, room(1))
    with pytest.raises(ValueError, match="offset must have"):
        _kernels.reach(np.array([0, 3]), *columns, *goal, 0, room(2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_the_first_value_outside_is_found_wherever_it_is(path, dtype):
    for n in (1, 5, 1024, 1025, 5000):
        for at in {0, n // 2, n - 1}:
            for value in (-1, 2, np.inf, -np.inf):
                x = np.full(n, 0.5, dtype)
                assert _kernels.first_outside(x, 0, 1, path=path) == -1
                x[at] = value
                assert _kernels.first_outside(x, 0, 1, path=path) == at
            x[at] = np.nan
            assert _kernels.first_outside(x, 0, 1, path=path) == -1
    x = np.array([1, np.inf], dtype)
    assert _kernels.first_outside(x, 0, np.finfo(np.float64).max, path=path) == 1


def test_the_ufuncs_are_true_ufuncs():
    for name in ufuncs.__all__:
        assert isinstance(getattr(ufuncs, name), np.ufunc)
    assert ufuncs.apc.types == ["ffff->f", "dddd->d"]
    c, acc = np.array([1.0, 2.0, 3.0]), np.array([[0.5], [0.9]])
    assert np.array_equal(ufuncs.apc(c, acc, 0.1, 1.0), reference.apc(c, acc, 0.1, 1.0))
    out = np.full(3, 7.0)
    ufuncs.apc(c, 0.5, 0.1, 1.0, out=out, where=[True, False, True])
    assert out[1] == 7
    assert out[0] == reference.apc(1.0, 0.5, 0.1, 1.0)
    assert ufuncs.apc(c.astype("f4"), np.float32(0.5), 0.1, 1).dtype == np.float32
    assert ufuncs.apc(np.array([1, 2]), 0.5, 0.1, 1).dtype == np.float64
    with pytest.raises(TypeError):
        ufuncs.apc(np.array([1j]), 0.5, 0.1, 1)


def test_the_ufuncs_work_inside_dask_and_xarray():
    da, xr = pytest.importorskip("dask.array"), pytest.importorskip("xarray")
    c = np.linspace(0, 10, 101)
    lazy = ufuncs.apc(da.from_array(c, chunks=20), 0.9, 0.1, 1.0)
    assert isinstance(lazy, da.Array)
    assert np.array_equal(lazy.compute(), reference.apc(c, 0.9, 0.1, 1.0))
    labelled = ufuncs.apc(xr.DataArray(c, dims="consumption"), xr.DataArray([0.5, 0.9], dims="accuracy"), 0.1, 1.0)
    assert labelled.dims == ("consumption", "accuracy")


def test_making_ufuncs_anew_leaves_the_old_ones_working():
    made = _kernels.make_ufuncs(PATHS[-1])["apc"]
    _kernels.make_ufuncs(PATHS[0])
    gc.collect()
    assert made(1.0, 0.5, 0.1, 1.0) == reference.apc(1.0, 0.5, 0.1, 1.0)
    assert made.__name__ == "apc"
    assert "NaN" in made.__doc__
