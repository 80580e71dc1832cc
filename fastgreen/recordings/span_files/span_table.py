# SPDX-License-Identifier: Apache-2.0
"""Spans from a table: a row per span, in CSV, Parquet or Arrow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen.errors import TraceError
from fastgreen.recordings.span_files.span_file import LARGEST_NS, Names, SpanFile
from fastgreen.results.nested_spans import NestedSpans
from fastgreen.table_files import load_table
from fastgreen.units import NS_PER_S, counted

__all__ = ["read_span_table"]

_MOST_WEIGHT = 2.0**40
_BEGINS = ("begin_ns", "start_ns", "begin", "start", "start_time")
_ENDS = ("end_ns", "end", "end_time")
_SINCE_1970_NS = 10**18


def read_span_table(
    path: str | Path,
    begin: str | None = None,
    end: str | None = None,
    name: str | None = None,
    weight: str | None = None,
) -> SpanFile:
    """Read spans from a table.

    Parameters
    ----------
    path : path
    begin, end : str, optional
        Columns of instants: integers are ns, numbers with decimals s, or timestamps. By default a usual name, such as
        begin_ns and end_ns.
    name : str, optional
        Column of the names; "name" if the table has it.
    weight : str, optional
        Column of the weights.

    Raises
    ------
    TraceError
        If the file is not a table, or a value in it is not possible.
    ValueError
        For a column that the table does not have.
    """
    path = Path(path)
    table = load_table(path)
    begin, end = _chosen(table, "begin", begin, _BEGINS), _chosen(table, "end", end, _ENDS)
    (begin_ns, begins, stamped), (end_ns, ends, _) = _instants(path, table, begin), _instants(path, table, end)
    known = begins & ends
    weights = np.ones(len(table)) if weight is None else _weights(path, table, _chosen(table, "weight", weight, ()))
    notes = []
    if missing := len(table) - int(known.sum()):
        notes.append(f"{counted(missing, 'row')} without a begin or an end: left out")
    wrong = np.flatnonzero(known & (end_ns < begin_ns))
    if len(wrong):
        at = int(wrong[0])
        raise TraceError(
            f"{path}: the end of a span must not be before its begin, and row {at} ends at {end_ns[at]} ns and begins "
            f"at {begin_ns[at]} ns"
        )
    if not known.any():
        raise TraceError(f"{path} must hold at least one span with a begin and an end")
    names = Names()
    if name is not None or "name" in table.column_names:
        texts = table.column(_chosen(table, "name", name, ("name",))).to_pylist()
        code = np.array([names.number(text) for text in texts], np.int64)[known]
    else:
        code = np.full(int(known.sum()), names.number("all spans"))
    parent = np.full(len(code), -1)
    used = {begin, end, *(["name"] if name is None else [name])}
    rest = table.select([n for n in table.column_names if n not in used]).filter(pa.array(known))
    spans = NestedSpans(begin_ns[known], end_ns[known], parent, weights[known])
    clock = "realtime" if stamped or int(begin_ns[known].min()) > _SINCE_1970_NS else None
    return SpanFile(path, "a table", spans, names.all, code, np.full(len(code), -1), clock, notes=notes, columns=rest)


def _chosen(table: pa.Table, argument: str, name: str | None, usual: tuple[str, ...]) -> str:
    found = name if name is not None else next((n for n in usual if n in table.column_names), None)
    if found is None or found not in table.column_names:
        columns = ", ".join(map(repr, table.column_names[:50]))
        raise ValueError(f"{argument} must be one of the columns {columns}, not {found!r}")
    return found


def _instants(path: Path, table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """A column as ns, which of its rows are known, and whether it holds timestamps."""
    column, kind = table.column(name), table.column(name).type
    if pa.types.is_null(kind):
        return np.zeros(len(table), np.int64), np.zeros(len(table), bool), False
    stamped = pa.types.is_timestamp(kind)
    if stamped:
        try:
            column = column.cast(pa.timestamp("ns", kind.tz)).cast(pa.int64())
        except pa.ArrowInvalid:
            raise TraceError(f"{path}: column {name!r} holds an instant that is too far away") from None
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise TraceError(f"{path}: column {name!r} must hold instants, as integers (ns), numbers (s) or timestamps")
    known = ~np.asarray(pc.is_null(column, nan_is_null=True))
    if pa.types.is_floating(kind):
        values = np.where(known, np.asarray(pc.fill_null(column.cast(pa.float64()), 0.0)), 0.0)
        if np.any(np.abs(values) > LARGEST_NS / NS_PER_S):
            raise TraceError(f"{path}: column {name!r} must be in s where it has decimals")
        whole = np.floor(values)
        return whole.astype(np.int64) * NS_PER_S + np.rint((values - whole) * NS_PER_S).astype(np.int64), known, stamped
    try:
        found = np.asarray(pc.fill_null(column.cast(pa.int64()), 0))
    except pa.ArrowInvalid:
        raise TraceError(f"{path}: column {name!r} holds an instant that is too far away") from None
    if np.any(np.abs(found.astype(float)) > LARGEST_NS):
        raise TraceError(f"{path}: column {name!r} holds an instant that is too far away")
    return found, known, stamped


def _weights(path: Path, table: pa.Table, name: str) -> np.ndarray:
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise TraceError(f"{path}: column {name!r} must hold weights, as numbers")
    values = np.asarray(column.cast(pa.float64(), safe=False))
    wrong = np.flatnonzero(~((values >= 0) & (values <= _MOST_WEIGHT)))
    if len(wrong):
        raise TraceError(
            f"{path}: a weight must be a number from 0 to 2^40, not {values[wrong[0]]:g} (row {int(wrong[0])})"
        )
    return values
