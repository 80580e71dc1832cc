"""Sweeps: a metric over the product of its axes, computed in memory, written to a file, or searched for its best."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgreen.guards.arguments import number
from fastgreen.metrics.domains import ACCURACY, ALPHA, AMOUNT, DELTA, FRACTION_DELTA, Domain, as_numbers, check
from fastgreen.metrics.parallel import for_each_range
from fastgreen.metrics.score_grid import ScoreGrid
from fastgreen.metrics.search_grid import SearchGrid
from fastgreen.metrics.training_runs import Runs

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["METRICS", "Sweep"]

# metric -> name of its energy axis
METRICS = {"apc": "consumption", "apec": "cost", "ttcapc": "consumption", "ttcapec": "cost"}

_LINE = 64  # bytes of a cache line: no two threads should write to one


class Sweep:
    """A metric over the product of axes.

    Parameters
    ----------
    metric : {"apc", "apec", "ttcapc", "ttcapec"}
        The metric to compute.
    consumption, cost : array_like
        For "apc" and "apec" the fastest axis, finite and not negative. For "ttcapc" and "ttcapec" the energy or cost of
        each checkpoint, as in `time_to_closest_apc`.
    accuracy : array_like
        An axis of fractions; for "ttcapc" and "ttcapec" the accuracy of each checkpoint.
    alpha, beta : array_like
        Axes; a number is an axis of one point.
    time : array_like
        Only for "ttcapc" and "ttcapec": elapsed time of each checkpoint.
    accuracy_delta, consumption_delta, cost_delta : array_like
        Only for "ttcapc" and "ttcapec": axes of cell sizes.
    target : list, optional
        Only for "ttcapc" and "ttcapec": an axis of targets, each a score, a pair (accuracy, consumption) or None. A
        single pair must be in a list too.
    quantize : bool
        Only for "ttcapc" and "ttcapec", see `time_to_closest_apc`.
    unit : str, optional
        Unit of consumption or cost, for files and pictures.
    run_names : sequence of int or str, optional
        Only for "ttcapc" and "ttcapec": the axis of runs; by default they are counted from 0.

    Attributes
    ----------
    axes : dict of str to ndarray
        The axes, slowest first: beta, alpha, accuracy, consumption (or cost); for the times beta, alpha,
        accuracy_delta, consumption_delta (or cost_delta), target, run.
    shape : tuple of int
        Points along each axis.
    size : int
        Number of all points.
    nbytes : int
        Bytes of the whole grid in float64.

    Raises
    ------
    ValueError
        If an axis is empty, holds NaN or leaves its range, naming the axis and its first bad value.

    Examples
    --------
    >>> import fastgreen as fg
    >>> sweep = fg.Sweep("apc", consumption=[0.0, 1.0, 5.0], accuracy=[0.9, 0.95])
    >>> sweep.shape
    (1, 1, 2, 3)
    >>> print(sweep.compute()[0, 0, 1].round(6))
    [0.95     0.829694 0.550725]
    """

    def __init__(
        self,
        metric: str,
        *,
        consumption: Any = None,
        cost: Any = None,
        accuracy: Any = None,
        alpha: Any = 0.1,
        beta: Any = 1.0,
        time: Any = None,
        accuracy_delta: Any = None,
        consumption_delta: Any = None,
        cost_delta: Any = None,
        target: Any = None,
        quantize: bool = True,
        unit: str | None = None,
        run_names: Any = None,
    ) -> None:
        if not isinstance(metric, str) or metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
        self.metric, self.unit = metric, unit
        name = METRICS[metric]
        amount, other = (consumption, cost) if name == "consumption" else (cost, consumption)
        delta, other_delta = (
            (consumption_delta, cost_delta) if name == "consumption" else (cost_delta, consumption_delta)
        )
        if other is not None or other_delta is not None:
            wrong = "cost" if name == "consumption" else "consumption"
            raise ValueError(f"{name} must be given for a sweep of {metric}, not {wrong}")
        parameters = {"beta": _axis("beta", beta, AMOUNT), "alpha": _axis("alpha", alpha, ALPHA)}
        if metric.startswith("ttc"):
            self._require(**{"time": time, "accuracy": accuracy, name: amount})
            parameters["accuracy_delta"] = _axis("accuracy_delta", _or(accuracy_delta, 0.01), FRACTION_DELTA)
            parameters[f"{name}_delta"] = _axis(f"{name}_delta", _or(delta, 0.1), DELTA)
            runs = Runs.of(time, accuracy, amount, name)
            targets = _targets(target)
            self.plan: ScoreGrid | SearchGrid = SearchGrid(
                runs, name, parameters, targets, quantize, _run_names(run_names, runs.count)
            )
        else:
            given = {"time": time, "accuracy_delta": accuracy_delta, f"{name}_delta": delta, "target": target}
            given["run_names"] = run_names
            for key, value in given.items():
                if value is not None:
                    raise ValueError(f"{key} must be left out of a sweep of {metric}; it is for ttc{metric}")
            self._require(**{"accuracy": accuracy, name: amount})
            parameters["accuracy"] = _axis("accuracy", accuracy, ACCURACY)
            parameters[name] = _axis(name, amount, AMOUNT)
            self.plan = ScoreGrid(parameters)
        self.axes = self.plan.axes
        self.shape = self.plan.shape
        self.size = math.prod(self.shape)
        self.nbytes = self.size * 8

    def _require(self, **arguments: Any) -> None:
        for name, value in arguments.items():
            if value is None:
                raise ValueError(f"{name} must be given for a sweep of {self.metric}")

    def __repr__(self) -> str:
        shape = " x ".join(f"{count} {name}" for name, count in zip(self.axes, self.shape, strict=True))
        return f"<Sweep of {self.metric}: {shape} = {self.size:,} points>"

    def compute(self, dtype: Any = None, threads: int | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """Compute the whole grid in memory.

        Parameters
        ----------
        dtype : {"float64", "float32"}, optional
            By default that of `out`, or float64. In float32 the formula is evaluated in float32.
        threads : int, optional
            Number of threads; by default one per CPU.
        out : ndarray, optional
            C-contiguous array of the sweep's shape to write into.

        Returns
        -------
        ndarray
            `out` or a new array, of the sweep's shape.

        Raises
        ------
        MemoryError
            If the grid is larger than the free memory; `write` has no such limit.
        ValueError
            If `out` does not fit, or an axis or a time is too large for float32.
        """
        if out is None:
            wanted = self._checked_dtype(dtype)
            self._check_memory(wanted.itemsize)
            out = np.empty(self.shape, wanted)
        else:
            out = self._checked_out(out, dtype)
        flat = out.reshape(-1)
        stream = out.nbytes > _cache_bytes()
        for_each_range(
            self.size,
            self.size,
            lambda first, last: self.plan.fill(flat[first:last], first, stream),
            threads,
            align=_LINE // out.itemsize,
        )
        return out

    def _checked_out(self, out: Any, dtype: Any) -> np.ndarray:
        if not isinstance(out, np.ndarray) or out.shape != self.shape:
            raise ValueError(
                f"out must be an array of shape {self.shape}, not {getattr(out, 'shape', type(out).__name__)}"
            )
        if out.dtype != self._checked_dtype(out.dtype if dtype is None else dtype):
            raise ValueError(f"out must be {np.dtype(dtype)} as dtype is, not {out.dtype}")
        if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
            raise ValueError("out must be C-contiguous, writeable and aligned to its items")
        return out

    def _checked_dtype(self, dtype: Any) -> np.dtype:
        """Check a dtype. ValueError if it is not float64 or float32, or a coordinate would become infinite in it."""
        wanted = as_dtype(dtype)
        most = float(np.finfo(wanted).max)
        for name, values in self.plan.inputs.items():
            beyond = (values > most) & (values < np.inf)
            if beyond.any():
                at = int(np.argmax(beyond))
                raise ValueError(
                    f"{name} must be at most {most:.2g} for {wanted}, not {values[at]:g} at index {at}; use float64"
                )
        return wanted

    def _check_memory(self, itemsize: int) -> None:
        import psutil

        needed, available = self.size * itemsize, psutil.virtual_memory().available
        if needed > available:
            raise MemoryError(
                f"the sweep takes {needed / 1e9:,.1f} GB ({self.size:,} points), but only {available / 1e9:,.1f} GB "
                "are free; write(path) streams it to a file in constant memory"
            )

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        dtype: Any = "float64",
        layout: str = "dense",
        compression: str | None = None,
        threads: int | None = None,
        progress: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Stream the grid to an Arrow IPC file; computing and writing run in parallel.

        Parameters
        ----------
        path : path
            The file. It appears when it is complete; an interrupted or killed process leaves no file.
        dtype : {"float64", "float32"}
            Type of the values.
        layout : {"dense", "long"}
            "dense": a row for each combination of the slower axes, with the values along the fastest axis as an
            ``arrow.fixed_shape_tensor``. "long": a row for each point.
        compression : {"lz4", "zstd"}, optional
            Compression of the file's buffers; a compressed file cannot be read without a copy.
        threads : int, optional
            Number of computing threads; by default the number of CPUs less one for writing, and at most 4.
        progress : bool
            Show a progress bar on stderr.
        overwrite : bool
            Replace an existing file.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is off.
        OSError
            If the disk is full or cannot be written to; no file is left.
        ValueError
            If an argument has another value, or an axis or a time is too large for float32.
        """
        from fastgreen.metrics.sweep_writer import write_sweep

        write_sweep(self, path, self._checked_dtype(dtype), layout, compression, threads, progress, overwrite)

    def dask(self, chunks: Any = "auto", dtype: Any = None) -> Any:
        """The grid as a lazy array; each block is computed when it is needed, by the kernels of `compute`.

        Parameters
        ----------
        chunks : int, tuple or str
            Size of the blocks along each axis, as for ``dask.array.zeros``.
        dtype : {"float64", "float32"}, optional
            By default float64.

        Returns
        -------
        dask.array.Array
            Of the sweep's shape.

        Raises
        ------
        ImportError
            Without Dask.
        ValueError
            If an axis or a time is too large for float32, or the chunks do not fit.
        """
        from fastgreen.metrics.sweep_blocks import to_dask

        return to_dask(self.plan, chunks, self._checked_dtype(dtype))

    def best(self, k: int = 10) -> pa.Table:
        """Find the k best points: the highest scores, or the shortest times.

        The grid of scores is not computed: scores fall along consumption, so a search of few rows is enough.

        Parameters
        ----------
        k : int
            Number of points, at least 1; all points if the sweep has fewer.

        Returns
        -------
        pyarrow.Table
            A row per point, best first and the first of equals first: a column for each axis, then the float64 value.

        Raises
        ------
        ValueError
            If `k` is not a whole number above 0.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k must be a whole number above 0, not {k!r}")
        return self._table(self.plan.best(min(int(k), self.size)))

    def where(self, low: float = -math.inf, high: float = math.inf) -> pa.Table:
        """Find the points with a value in low..high, both included.

        Parameters
        ----------
        low, high : float
            Limits of the metric; for "ttcapc" and "ttcapec" limits of the time.

        Returns
        -------
        pyarrow.Table
            A row per point in the grid's order: a column for each axis, then the float64 value.

        Raises
        ------
        ValueError
            If a limit is not a number or `low` is above `high`.
        MemoryError
            If the result is larger than the free memory.
        """
        low, high = number("low", low), number("high", high)
        if not low <= high:
            raise ValueError(f"low must be at most high, not {low!r} with high {high!r}")
        return self._table(self.plan.where(low, high))

    def _table(self, points: np.ndarray) -> pa.Table:
        import pyarrow as pa

        places = np.unravel_index(points, self.shape)
        columns = {name: axis[place] for (name, axis), place in zip(self.axes.items(), places, strict=True)}
        return pa.table({**columns, self.metric: self.plan.at(points)})


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _axis(name: str, value: Any, domain: Domain) -> np.ndarray:
    """Check an axis and return it as read-only float64; a coordinate must be in the domain and not NaN."""
    if np.ma.is_masked(value):
        raise ValueError(f"the axis {name} must not hold a masked element")
    axis = as_numbers(name, value)
    if axis.ndim > 1:
        raise ValueError(f"the axis {name} must be one-dimensional, not of shape {axis.shape}")
    axis = np.array(axis, np.float64, ndmin=1)
    if axis.size == 0:
        raise ValueError(f"the axis {name} must not be empty")
    check(name, axis, domain)
    if np.isnan(axis).any():
        raise ValueError(f"the axis {name} must not hold NaN, as at index {int(np.argmax(np.isnan(axis)))}")
    axis.flags.writeable = False
    return axis


def _run_names(names: Any, count: int) -> np.ndarray | None:
    if names is None:
        return None
    axis = list(names)
    if len(axis) != count or len(set(axis)) != count:
        raise ValueError(f"run_names must be {count} different names, one for each run, not {names!r:.80}")
    whole = all(isinstance(name, int | np.integer) and not isinstance(name, bool) for name in axis)
    return np.array(axis, np.int64) if whole else np.array([str(name) for name in axis])


def _targets(target: Any) -> list[Any]:
    if isinstance(target, tuple) and len(target) == 2 and np.ndim(target) == 1 and None not in target:
        raise ValueError(f"target must be {[*target]!r} (two scores) or [{target!r}] (one pair), not {target!r}")
    if target is None or np.ndim(target) == 0 if not isinstance(target, list | tuple) else False:
        return [target]
    targets = [tuple(one) if np.ndim(one) else one for one in target]
    if not targets:
        raise ValueError("the axis target must not be empty")
    return targets


def as_dtype(dtype: Any) -> np.dtype:
    """Convert to a dtype, None to float64; ValueError if it is not float64 or float32."""
    try:
        found = np.dtype("float64" if dtype is None else dtype)
    except TypeError:
        found = None
    if found not in (np.float64, np.float32):
        raise ValueError(f"dtype must be float64 or float32, not {dtype!r}")
    return found


def _cache_bytes() -> int:
    """Size of the last-level cache in bytes; 8 MiB if the system does not report it."""
    try:
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or 8 << 20
    except (ValueError, OSError):
        return 8 << 20
