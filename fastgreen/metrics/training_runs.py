"""Training runs as flat columns, the input of the search for the closest APC."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgreen import _kernels
from fastgreen.metrics.domains import ACCURACY, AMOUNT, Domain, as_numbers, check
from fastgreen.metrics.parallel import for_each_range

if TYPE_CHECKING:
    from fastgreen.metrics.search import Search

__all__ = ["Runs"]

_TIME = Domain(0.0, AMOUNT.high, "must be finite and not negative")


class Runs:
    """Checkpoints of all runs, one run after the other.

    Attributes
    ----------
    offset : ndarray of int64, runs + 1
        Run r has the checkpoints ``offset[r]`` to ``offset[r + 1]`` of the columns.
    time, accuracy, cost : ndarray
        The columns; if all runs share their times, `time` has the length of one run.
    many : bool
        True if the caller gave a list of runs, even of one run.
    """

    def __init__(self, columns: dict[str, np.ndarray], offset: np.ndarray, many: bool, shared_time: bool) -> None:
        self.names = tuple(columns)
        time, accuracy, cost = columns.values()
        dtype = np.float32 if accuracy.dtype == cost.dtype == np.float32 else np.float64
        self.time = np.ascontiguousarray(time, np.float64)
        self.accuracy = np.ascontiguousarray(accuracy, dtype)
        self.cost = np.ascontiguousarray(cost, dtype)
        self.offset, self.many, self.shared_time = offset, many, shared_time
        self.count = offset.size - 1

    @classmethod
    def of(cls, time: Any, accuracy: Any, cost: Any, cost_name: str) -> Runs:
        """Make runs from 1-D arrays (one run), 2-D arrays (a row per run; time may be 1-D) or Arrow list arrays.

        `reach` checks the values, while they are in the cache.

        Raises
        ------
        ValueError
            If the shapes do not fit or the values are not numbers.
        """
        columns = {"time": time, "accuracy": accuracy, cost_name: cost}
        lists = {name: value for name, value in columns.items() if _is_arrow_list(value)}
        if lists and len(lists) < 3:
            raise ValueError(
                f"{', '.join(set(columns) - set(lists))} must be an Arrow list array, as {', '.join(lists)} is"
            )
        return cls._ragged(lists) if lists else cls._regular(columns)

    @classmethod
    def _ragged(cls, lists: dict[str, Any]) -> Runs:
        flat = {name: _flatten(name, value) for name, value in lists.items()}
        (first, (offset, _)), *others = flat.items()
        for name, (other, _) in others:
            if other.size != offset.size:
                raise ValueError(f"{name} must have {offset.size - 1} runs as {first}, not {other.size - 1}")
            if not np.array_equal(other, offset):
                run = int(np.argmax(np.diff(other) != np.diff(offset)))
                raise ValueError(
                    f"run {run} must have as many checkpoints in {name} as in {first}, {np.diff(offset)[run]}, not "
                    f"{np.diff(other)[run]}"
                )
        return cls({name: values for name, (_, values) in flat.items()}, offset, many=True, shared_time=False)

    @classmethod
    def _regular(cls, columns: dict[str, Any]) -> Runs:
        arrays = {name: as_numbers(name, value) for name, value in columns.items()}
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        time, accuracy, cost = arrays.values()
        if any(array.ndim not in (1, 2) for array in arrays.values()):
            raise ValueError(f"a run must be 1-D arrays, many runs 2-D arrays, not {shapes}")
        if not (accuracy.shape == cost.shape and time.shape in (cost.shape, cost.shape[-1:])):
            raise ValueError(
                f"shapes must fit together, not {shapes}; give runs of different lengths as Arrow list arrays"
            )
        many = accuracy.ndim == 2
        count, length = accuracy.shape if many else (1, accuracy.size)
        flat = {name: array.reshape(-1) for name, array in arrays.items()}
        offset = np.arange(count + 1, dtype=np.int64)
        offset *= length
        shared_time = many and time.ndim == 1
        if shared_time and np.isnan(time).any():  # each run's accuracy decides which checkpoints lack a time
            flat["time"], shared_time = np.tile(time, count), False
        if shared_time:
            check("time", time, _TIME)
            _check_rising("time", time, "")
        return cls(flat, offset, many, shared_time)

    def reach(self, search: Search, first: int = 0, last: int | None = None) -> dict[str, np.ndarray]:
        """Search the runs first..last-1; returns the columns index, score, time, accuracy_cell and cost_cell.

        Raises
        ------
        ValueError
            If a value leaves its range or time goes back.
        """
        count = (self.count if last is None else last) - first
        found = _columns(count)
        for_each_range(
            count,
            self.accuracy.size * count // max(1, self.count),
            lambda low, high: self._reach_into(search, first + low, {n: c[low:high] for n, c in found.items()}),
        )
        return found

    def _reach_into(self, search: Search, first: int, found: dict[str, np.ndarray]) -> None:
        time = None if self.shared_time else self.time
        bad = _kernels.reach(self.offset, time, self.cost, self.accuracy, *search, first, found)
        if bad >= 0 and time is not None and np.isnan(time[slice(*self.offset[bad : bad + 2])]).any():
            self._timed._reach_into(search, first, found)
            return
        if bad >= 0:
            self._complain(bad)
        if self.shared_time:
            index = found["index"]
            found["time"][:] = np.where(index >= 0, self.time[index], np.inf) if self.time.size else np.inf

    @cached_property
    def _timed(self) -> Runs:
        """Copy of the runs with NaN as the accuracy of each checkpoint without a time, so that the search skips it.

        Its time becomes that of the previous checkpoint, so that a time going back across it is still found.
        """
        lacking = np.isnan(self.time)
        begin = np.repeat(self.offset[:-1], np.diff(self.offset))
        known = np.maximum.accumulate(np.where(lacking, -1, np.arange(self.time.size)))
        time = np.where(known >= begin, self.time[known], 0.0)
        columns = (time, np.where(lacking, np.nan, self.accuracy).astype(self.accuracy.dtype), self.cost)
        return Runs(dict(zip(self.names, columns, strict=True)), self.offset, self.many, shared_time=False)

    def _complain(self, run: int) -> None:
        """Raise a ValueError with the first bad value of a run."""
        begin, end = self.offset[run : run + 2]
        where = f" of run {run}" if self.many else ""
        columns = ((self.time, _TIME), (self.accuracy, ACCURACY), (self.cost, AMOUNT))
        for (column, domain), name in zip(columns, self.names, strict=True):
            if column is self.time and self.shared_time:
                continue
            values = np.asarray(column[begin:end], np.float64)
            outside = (values < domain.low) | (values > domain.high)
            if outside.any():
                at = int(np.argmax(outside))
                raise domain.complaint(name, float(values[at]), f" at checkpoint {at}{where}")
        _check_rising(self.names[0], self.time[begin:end], where)


def _columns(count: int) -> dict[str, np.ndarray]:
    """Columns for the results of so many runs."""
    # One block for all columns: from 4 MB on NumPy asks for huge pages, so that there are 500 times fewer page faults.
    room = np.empty((len(_kernels.FOUND), max(count, 1 << 17) if count > 1 << 15 else count), np.int64)
    return {name: row[:count].view(dtype) for row, (name, dtype) in zip(room, _kernels.FOUND.items(), strict=True)}


def _check_rising(name: str, time: np.ndarray, where: str) -> None:
    back = time[1:] < time[:-1]
    if back.any():
        at = int(np.argmax(back)) + 1
        raise ValueError(f"{name} goes back from {time[at - 1]:g} to {time[at]:g} at checkpoint {at}{where}")


def _is_arrow_list(value: Any) -> bool:
    pa = sys.modules.get("pyarrow")  # without its import no value can be one of its arrays
    if pa is None or not isinstance(value, pa.Array | pa.ChunkedArray):
        return False
    return pa.types.is_list(value.type) or pa.types.is_large_list(value.type)


def _flatten(name: str, lists: Any) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and values of an Arrow list array; a null run becomes an empty run, a null value NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    offset = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(np.asarray(lengths), out=offset[1:])
    values = pc.list_flatten(lists)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return offset, as_numbers(name, values.to_numpy(zero_copy_only=False))
