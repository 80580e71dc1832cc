"""Windows and spans on the page: a lane for each name and each ledger, and the most expensive spans as tables.

A run with many stretches gets densities: how many of a lane were open in each part of the run. No stretch is left out.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen.guards.printable import printable
from fastgreen.reports.curves import Part, packed, shares
from fastgreen.results.html_tables import html_table
from fastgreen.units import NS_PER_S, counted, unit_metadata

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["lane_data", "lanes_beside_others", "span_tables"]

_LANES = 40  # names with a lane of their own, the most expensive first; the others share one
_BESIDE = 8  # names of each of several runs
_EACH = 20_000  # windows and spans of the whole run that are kept one by one; more become densities
_IDS = 100_000  # characters of all ids of spans; longer ones become numbers
_BUCKETS = 2000  # of a density
_NAME = 120  # characters of a name
_TICKS = (1 << 32) - 1  # a window's begin and length are parts of the run's length
_TOP = 20  # spans of a table


class _Stretches(NamedTuple):
    """Windows or spans, a value for each: the lane, the number, the edges in ns, and the energies in J."""

    lane: np.ndarray
    number: np.ndarray
    begin_ns: np.ndarray
    end_ns: np.ndarray
    energies: list[np.ndarray]
    ids: list[str] | None


def lane_data(result: Result | Part, summary: pa.Table) -> dict[str, Any]:
    """The lanes of a page: each stretch, or how densely they lie.

    Parameters
    ----------
    result : Result
    summary : pyarrow.Table
        Its `Result.summary`.

    Returns
    -------
    dict
        ``lanes``: a dictionary for each one, with its name, the count and the kind of its stretches. ``windows``: their
        columns in base64, or None where each lane has a density as its ``share``.
    """
    span_ns = result.end_ns - result.start_ns
    if span_ns <= 0 or not (summary.num_rows or result.ledger_names):
        return {"lanes": [], "windows": None}
    lanes: list[dict[str, Any]] = []
    parts = [_windows(result, summary, lanes)] if summary.num_rows else []
    parts += [_spans(result, name, lanes) for name in result.ledger_names]
    parts = [_inside(part, result) for part in parts]
    if sum(len(part.lane) for part in parts) > _EACH:
        edges = result.start_ns + span_ns * np.arange(_BUCKETS + 1) // _BUCKETS
        for i, lane in enumerate(lanes):
            most = 1.0 if lane["kind"] == "window" else np.inf
            stretches = [(p.begin_ns[p.lane == i], p.end_ns[p.lane == i]) for p in parts]
            begin_ns, end_ns = (np.concatenate(column) for column in zip(*stretches, strict=True))
            lane["share"] = packed(shares(begin_ns, end_ns, edges, most))
        return {"lanes": lanes, "windows": None}
    return {"lanes": lanes, "windows": _columns(result, parts, max(span_ns / _TICKS, 1.0))}


def lanes_beside_others(title: str, result: Result, duration_s: float) -> list[dict[str, Any]]:
    """The lanes of one of several runs on a page, whose axis is `duration_s` long: densities, a few names a run."""
    span_ns = round(duration_s * NS_PER_S)
    summary = result.summary()
    if span_ns <= 0 or not (summary.num_rows or result.ledger_names):
        return []
    lanes: list[dict[str, Any]] = []
    parts = [_windows(result, summary, lanes, _BESIDE)] if summary.num_rows else []
    parts += [_spans(result, name, lanes) for name in result.ledger_names[:_BESIDE]]
    edges = result.start_ns + span_ns * np.arange(_BUCKETS + 1) // _BUCKETS
    for i, lane in enumerate(lanes):
        most = 1.0 if lane["kind"] == "window" else np.inf
        stretches = [(p.begin_ns[p.lane == i], p.end_ns[p.lane == i]) for p in parts]
        begin_ns, end_ns = (np.concatenate(column) for column in zip(*stretches, strict=True))
        lane |= {"name": f"{title}: {lane['name']}", "share": packed(shares(begin_ns, end_ns, edges, most))}
    return lanes


def _windows(result: Result | Part, summary: pa.Table, lanes: list[dict[str, Any]], most: int = _LANES) -> _Stretches:
    rows = sorted(summary.to_pylist(), key=lambda row: -(row["energy_j"] or 0.0))
    places = {row["name"]: min(i, most) for i, row in enumerate(rows)}
    lanes += [
        {"name": printable(row["name"], most=_NAME), "count": row["count"], "kind": "window"} for row in rows[:most]
    ]
    if len(rows) > most:
        rest = rows[most:]
        count = sum(row["count"] for row in rest)
        lanes.append({"name": f"{len(rest)} other names", "count": count, "kind": "window"})
    table = result.windows().combine_chunks()
    names = table["name"].combine_chunks()
    lane = np.array([places[n] for n in names.dictionary.to_pylist()], np.int64)[names.indices.to_numpy()]
    return _stretches(lane, table["index"].to_numpy(), table, None)


def _spans(result: Result | Part, name: str, lanes: list[dict[str, Any]]) -> _Stretches:
    table = result.spans(name)
    lanes.append({"name": printable(name, most=_NAME), "count": table.num_rows, "kind": "span"})
    if not table.num_rows:
        empty = np.empty(0, np.int64)
        return _Stretches(empty, empty, empty, empty, [np.empty(0)] * 3, [])
    ids = [printable(i, most=_NAME) for i in table["id"].to_pylist()] if table.num_rows <= _EACH else None
    return _stretches(np.full(table.num_rows, len(lanes) - 1), np.arange(table.num_rows), table, ids)


def _stretches(lane: np.ndarray, index: np.ndarray, table: pa.Table, ids: list[str] | None) -> _Stretches:
    begin_ns = table["start_ns"].to_numpy()
    end_ns = begin_ns + np.rint(table["duration_s"].to_numpy() * NS_PER_S).astype(np.int64)
    energies = [table[name].to_numpy(zero_copy_only=False) for name in ("energy_j", "energy_low_j", "energy_high_j")]
    return _Stretches(lane, index, begin_ns, end_ns, energies, ids)


def _inside(part: _Stretches, result: Result | Part) -> _Stretches:
    """Those that are open somewhere in the part of the run, cut to it."""
    keep = (part.end_ns >= result.start_ns) & (part.begin_ns <= result.end_ns)
    begin_ns, end_ns = (np.clip(e, result.start_ns, result.end_ns)[keep] for e in (part.begin_ns, part.end_ns))
    return _Stretches(part.lane[keep], part.number[keep], begin_ns, end_ns, [e[keep] for e in part.energies], part.ids)


def _columns(result: Result | Part, parts: list[_Stretches], unit_ns: float) -> dict[str, Any]:
    lane, index, begin_ns, end_ns = (np.concatenate([part[i] for part in parts]) for i in range(4))
    order = np.argsort(begin_ns, kind="stable")
    columns = {
        "lane": (lane, "<u2"),
        "index": (index, "<u4"),
        "begin": (np.clip(np.rint((begin_ns - result.start_ns) / unit_ns), 0, _TICKS), "<u4"),
        "length": (np.clip(np.rint((end_ns - begin_ns) / unit_ns), 0, _TICKS), "<u4"),
    }
    for place, key in enumerate(("energy", "low", "high")):
        columns[key] = (np.concatenate([part.energies[place] for part in parts]), "<f4")
    sent: dict[str, Any] = {
        key: base64.b64encode(values[order].astype(kind).tobytes()).decode() for key, (values, kind) in columns.items()
    }
    ids = {str(int(p.lane[0])): p.ids for p in parts if p.ids and len(p.lane)}
    if sum(len(i) for some in ids.values() for i in some) <= _IDS:
        sent["ids"] = ids
    return {**sent, "unit_s": unit_ns / NS_PER_S, "known": result.known}


def span_tables(result: Result) -> str:
    """The most expensive spans of each ledger as HTML tables."""
    out = []
    for name in result.ledger_names:
        table = result.spans(name)
        if not table.num_rows:
            continue
        top = table.take(pc.sort_indices(table, [("energy_j", "descending")])[:_TOP])
        began = pc.divide(pc.subtract(top["start_ns"], result.start_ns).cast(pa.float64()), float(NS_PER_S))
        place = top.schema.get_field_index("start_ns")
        top = top.set_column(place, pa.field("began_s", pa.float64(), metadata=unit_metadata("s")), began)
        left = table.num_rows - top.num_rows
        shown = (
            f"Spans of {printable(name, most=_NAME)}: the most expensive {top.num_rows}"
            if left
            else f"Spans of {printable(name, most=_NAME)}"
        )
        out.append(html_table(top, shown))
        if left:
            rest_j = float(pc.sum(table["energy_j"]).as_py() or 0.0) - float(pc.sum(top["energy_j"]).as_py() or 0.0)
            out.append(f"<p>{counted(left, 'more span')} took {rest_j:.4g} J together.</p>")
    return "".join(out)
