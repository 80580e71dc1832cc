"""A metric over the product of its axes: computed into memory, written to a file, or only asked for its best."""

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

# metric -> what its energy is called
METRICS = {"apc": "consumption", "apec": "cost", "ttcapc": "consumption", "ttcapec": "cost"}

_LINE = 64  # bytes of a cache line: no two threads should write to one


class Sweep:
    """A metric over the product of axes.

    Parameters
    ----------
    metric : {"apc", "apec", "ttcapc", "ttcapec"}
        What is computed.
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
        Only for "ttcapc" and "ttcapec": an axis of targets, each a score, a pair (accuracy, consumption) or None. One
        pair needs a list as well.
    quantize : bool
        Only for "ttcapc" and "ttcapec", see `time_to_closest_apc`.
    unit : str, optional
        Unit of consumption or cost, for files and pictures.

    Attributes
    ----------
    axes : dict of str to ndarray
        The axes, slowest first: beta, alpha, accuracy, consumption (or cost); for the times beta, alpha,
        accuracy_delta, consumption_delta (or cost_delta), target, run.
    shape : tuple of int
        Points along each axis.
    size : int
        Points in all.
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
            raise ValueError(
                f"a sweep of {metric} takes {name}, not {'cost' if name == 'consumption' else 'consumption'}"
            )
        parameters = {"beta": _axis("beta", beta, AMOUNT), "alpha": _axis("alpha", alpha, ALPHA)}
        if metric.startswith("ttc"):
            self._require(**{"time": time, "accuracy": accuracy, name: amount})
            parameters["accuracy_delta"] = _axis("accuracy_delta", _or(accuracy_delta, 0.01), FRACTION_DELTA)
            parameters[f"{name}_delta"] = _axis(f"{name}_delta", _or(delta, 0.1), DELTA)
            runs = Runs.of(time, accuracy, amount, name)
            targets = _targets(target)
            self.plan: ScoreGrid | SearchGrid = SearchGrid(runs, name, parameters, targets, quantize)
        else:
            given = {"time": time, "accuracy_delta": accuracy_delta, f"{name}_delta": delta, "target": target}
            for key, value in given.items():
                if value is not None:
                    raise ValueError(f"a sweep of {metric} takes no {key}; a sweep of ttc{metric} does")
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
                raise ValueError(f"a sweep of {self.metric} needs {name}")

    def __repr__(self) -> str:
        shape = " x ".join(f"{count} {name}" for name, count in zip(self.axes, self.shape, strict=True))
        return f"<Sweep of {self.metric}: {shape} = {self.size:,} points>"

    def compute(self, dtype: Any = None, threads: int | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """The whole grid in memory.

        Parameters
        ----------
        dtype : {"float64", "float32"}, optional
            That of `out`, or else float64. In float32 the formula is evaluated in float32.
        threads : int, optional
            By default one for each CPU.
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
            If `out` does not fit, or an axis or a time holds more than float32 can where that is asked for.
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
            raise ValueError(f"out is {out.dtype}, dtype is {np.dtype(dtype)}")
        if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
            raise ValueError("out must be C-contiguous, writeable and aligned to its items")
        return out

    def _checked_dtype(self, dtype: Any) -> np.dtype:
        """The dtype. ValueError if it is not float64 or float32, or if a coordinate would become infinite in it."""
        wanted = as_dtype(dtype)
        most = float(np.finfo(wanted).max)
        for name, values in self.plan.inputs.items():
            beyond = (values > most) & (values < np.inf)
            if beyond.any():
                at = int(np.argmax(beyond))
                raise ValueError(
                    f"{name} holds {values[at]:g} at index {at}, more than {wanted} can ({most:.2g}); use float64"
                )
        return wanted

    def _check_memory(self, itemsize: int) -> None:
        import psutil

        needed, available = self.size * itemsize, psutil.virtual_memory().available
        if needed > available:
            raise MemoryError(
                f"the sweep takes {needed / 1e9:,.1f} GB ({self.size:,} points), {available / 1e9:,.1f} GB are free; "
                "write(path) streams it to a file in constant memory"
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
        """Stream the grid to an Arrow IPC file, computing some tiles while others are written.

        Parameters
        ----------
        path : path
            The file. It appears when it is complete; interrupted or killed, the writing leaves nothing.
        dtype : {"float64", "float32"}
            Of the values.
        layout : {"dense", "long"}
            "dense": a row for each combination of the slower axes, with the values along the fastest axis as an
            ``arrow.fixed_shape_tensor``. "long": a row for each point.
        compression : {"lz4", "zstd"}, optional
            Of the file's buffers; a compressed file cannot be read without a copy.
        threads : int, optional
            That compute; by default one for each CPU but one, which writes, and at most 4.
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
            If an argument is not one of those above, or an axis or a time exceeds the range of float32 where
            float32 is asked for.
        """
        from fastgreen.metrics.sweep_writer import write_sweep

        write_sweep(self, path, self._checked_dtype(dtype), layout, compression, threads, progress, overwrite)

    def best(self, k: int = 10) -> pa.Table:
        """The k best points: the highest scores, or the shortest times.

        Without computing the grid: scores fall along consumption, so that few rows need to be looked into.

        Parameters
        ----------
        k : int
            How many; all points if there are fewer.

        Returns
        -------
        pyarrow.Table
            A row per point, best first and the first of equals first: a column for each axis, then the float64 value.

        Raises
        ------
        ValueError
            If `k` is no whole number above 0.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k must be a whole number above 0, not {k!r}")
        return self._table(self.plan.best(min(int(k), self.size)))

    def where(self, low: float = -math.inf, high: float = math.inf) -> pa.Table:
        """The points whose value lies in low..high, both included.

        Parameters
        ----------
        low, high : float
            Of the metric, or for "ttcapc" and "ttcapec" of the time.

        Returns
        -------
        pyarrow.Table
            A row per point in the grid's order: a column for each axis, then the float64 value.

        Raises
        ------
        ValueError
            If a limit is no number or `low` is above `high`.
        MemoryError
            If the answer is larger than the free memory.
        """
        low, high = number("low", low), number("high", high)
        if not low <= high:
            raise ValueError(f"low must not be above high, got low={low!r}, high={high!r}")
        return self._table(self.plan.where(low, high))

    def _table(self, points: np.ndarray) -> pa.Table:
        import pyarrow as pa

        places = np.unravel_index(points, self.shape)
        columns = {name: axis[place] for (name, axis), place in zip(self.axes.items(), places, strict=True)}
        return pa.table({**columns, self.metric: self.plan.at(points)})


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _axis(name: str, value: Any, domain: Domain) -> np.ndarray:
    """A read-only float64 axis; a coordinate can be anything in the domain but NaN."""
    axis = as_numbers(name, value)
    if axis.ndim > 1:
        raise ValueError(f"the axis {name} must be one-dimensional, got shape {axis.shape}")
    axis = np.array(axis, np.float64, ndmin=1)
    if axis.size == 0:
        raise ValueError(f"the axis {name} is empty")
    check(name, axis, domain)
    if np.isnan(axis).any():
        raise ValueError(f"the axis {name} holds NaN at index {int(np.argmax(np.isnan(axis)))}")
    axis.flags.writeable = False
    return axis


def _targets(target: Any) -> list[Any]:
    if isinstance(target, tuple) and len(target) == 2 and np.ndim(target) == 1 and None not in target:
        raise ValueError(f"target {target!r} may be two scores or one pair: give {[*target]!r} or [{target!r}]")
    if target is None or np.ndim(target) == 0 if not isinstance(target, list | tuple) else False:
        return [target]
    targets = [tuple(one) if np.ndim(one) else one for one in target]
    if not targets:
        raise ValueError("the axis target is empty")
    return targets


def as_dtype(dtype: Any) -> np.dtype:
    """float64 by default; ValueError for anything but float64 and float32."""
    try:
        found = np.dtype("float64" if dtype is None else dtype)
    except TypeError:
        found = None
    if found not in (np.float64, np.float32):
        raise ValueError(f"dtype must be float64 or float32, not {dtype!r}")
    return found


def _cache_bytes() -> int:
    """The last-level cache; where the system does not tell, 8 MiB."""
    try:
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or 8 << 20
    except (ValueError, OSError):
        return 8 << 20
