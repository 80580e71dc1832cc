"""The amounts of windows, as tokens or images: how they are written down, and joules for each of them.

Of each handle and name there are two columns: which stretches have an amount, and how much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from fastgreen.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from fastgreen.results.bounded import Amounts, Windows

__all__ = ["AMOUNTS", "Gathered", "amount_column", "amount_columns", "summed"]

AMOUNTS = pa.map_(pa.string(), pa.float64())
_MOST_NAMES = 64  # of one handle; more would be ids by mistake

_Columns: TypeAlias = "tuple[list[np.ndarray], list[np.ndarray]]"


def amount_column(amounts: Amounts, first: int, count: int) -> pa.Array:
    """The amounts of the stretches from `first` on as a column of maps, null for those without."""
    if not amounts:
        return pa.nulls(count, AMOUNTS)
    places = np.concatenate([places - first for places, _ in amounts.values()])
    codes = np.repeat(np.arange(len(amounts)), [len(places) for places, _ in amounts.values()])
    order = np.lexsort((codes, places))
    names = pa.array(list(amounts), pa.string()).take(pa.array(codes[order]))
    values = np.concatenate([values for _, values in amounts.values()])[order]
    each = np.bincount(places, minlength=count)
    offsets = np.append(0, np.cumsum(each)).astype(np.int32)
    empty = np.append(each == 0, False)
    return pa.MapArray.from_arrays(pa.array(offsets, mask=empty), names, pa.array(values))


class Gathered:
    """The amounts of one handle, as they are read; TraceError for damaged ones."""

    def __init__(self, path: Path) -> None:
        self._path, self._count = path, 0
        self._columns: dict[str, _Columns] = {}

    def add(self, column: pa.Array) -> None:
        if column.null_count < len(column):
            offsets = np.asarray(column.offsets)
            place, flat = np.repeat(np.arange(len(column)), np.diff(offsets)), slice(offsets[0], offsets[-1])
            names, values = column.keys[flat].to_pylist(), np.asarray(column.items[flat], float)
            if not np.all(np.isfinite(values)) or not all(isinstance(name, str) for name in names):
                raise TraceError(f"{self._path} is damaged: an amount of a window is not a number")
            for name in dict.fromkeys(names):
                mine = np.flatnonzero(np.array(names, object) == name)
                if len(self._columns) >= _MOST_NAMES and name not in self._columns:
                    raise TraceError(f"{self._path} is damaged: a window has more than {_MOST_NAMES} names of amounts")
                places, found = self._columns.setdefault(name, ([], []))
                places.append(place[mine] + self._count)
                found.append(values[mine])
        self._count += len(column)

    def taken(self) -> Amounts:
        return {k: (np.concatenate(p), np.concatenate(v)) for k, (p, v) in self._columns.items()}


def amount_columns(chosen: Sequence[Windows], taken: Iterable[str]) -> dict[str, pa.Array]:
    """A column for each name of amounts, null where a stretch has none; a name that is taken gets ``_amount``."""
    names = dict.fromkeys(name for w in chosen for name in w.amounts)
    out = {}
    for name in names:
        values = np.full(sum(map(len, chosen)), np.nan)
        before = 0
        for w in chosen:
            if name in w.amounts:
                places, found = w.amounts[name]
                values[before + places] = found
            before += len(w)
        out[f"{name}_amount" if name in taken else name] = pa.array(values, mask=np.isnan(values))
    return out


def summed(named: Mapping[str, Sequence[Windows]]) -> dict[str, dict[str, float]]:
    """The sum of each amount of each name of windows."""
    out: dict[str, dict[str, float]] = {}
    for window, handles in named.items():
        sums: dict[str, Any] = {}
        for w in handles:
            for name, (_, values) in w.amounts.items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
        out[window] = sums
    return out
