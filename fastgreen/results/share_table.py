"""The table of shares: a table of spans of any origin goes in, each row gets its joules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen.results.share_rules import EQUAL, rule
from fastgreen.results.shares import Shares, Spans, check_baseline, follow_spans, set_apart, share, weight_units
from fastgreen.results.trace import Bounded, Trace
from fastgreen.results.wall_clock import WallClock
from fastgreen.sensors.catalog import select
from fastgreen.units import NS_PER_S, counted, unit_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastgreen.results.energies import Energies

__all__ = ["chosen_traces", "energy_columns", "share_table", "table_edges", "totals_metadata"]


def chosen_traces(result: Energies, channels: str | Iterable[str] | None) -> list[Trace]:
    """The channels to share: those of the total, or those asked for. ChannelNotFound for one that is not there."""
    if channels is None:
        return [t for t in result.traces if t.counted and t.has_data]
    wanted = {c.id for c in select([t.channel for t in result.traces], channels)[0]}
    return [t for t in result.traces if t.channel.id in wanted and t.has_data]


def share_table(
    result: Energies,
    table: Any,
    begin: str,
    end: str,
    weight: str | None,
    clock: str,
    channels: str | Iterable[str] | None,
    baseline_w: float | Mapping[str, float] | None,
    per_channel: bool,
) -> pa.Table:
    """See `fastgreen.Result.share`."""
    if clock not in ("monotonic", "realtime"):
        raise ValueError(f'clock must be "monotonic" or "realtime", not {clock!r}')
    given = table if isinstance(table, pa.Table) else pa.table(table)
    traces = chosen_traces(result, channels)
    begin_ns, begins, end_ns, ends, unsure_ns = table_edges(result, given, begin, end, clock)
    units, weighted = _weights(given, weight)
    known = begins & ends & weighted
    spans = Spans(begin_ns[known], end_ns[known], units[known])
    _check_order(spans, np.flatnonzero(known))
    inside = (spans.end_ns >= result.start_ns) & (spans.begin_ns <= result.end_ns)
    if len(spans) and not inside.any():
        raise ValueError(
            f"{begin} and {end} must lie within the run, {result.start_ns} .. {result.end_ns} ns of CLOCK_MONOTONIC, "
            f'and no row does; the first is {begin_ns[known][0]} .. {end_ns[known][0]}: is clock="{clock}" right?'
        )
    found = share(result, traces, spans, follow_spans(result, traces, spans))
    _widen(found, traces, unsure_ns[known])
    if not traces:
        inside[:] = False
    for identity, energies in found.by_channel.items():  # rows that get no energy
        found.unattributed_j[identity] += float(np.sum(energies.energy_j[~inside]))
    notes = _notes(len(given), known, spans, (result.start_ns, result.end_ns))
    if clock == "realtime" and len(spans):
        longest_s = float(unsure_ns.max()) / 2 / NS_PER_S
        notes.append(f"each edge is known to {longest_s:.2g} s: the wall clock and CLOCK_MONOTONIC drift apart")
    place = np.flatnonzero(known)[inside]
    columns, baseline_j = energy_columns(found, baseline_w, per_channel)
    parts = [_rows(given, name, values, place, inside) for name, values in columns]
    weighted_by = f"the weight is the column {weight}" if weight else EQUAL
    totals = totals_metadata(found, baseline_j, traces, notes, rule(weighted_by))
    return pa.concat_tables(parts).replace_schema_metadata({**(given.schema.metadata or {}), **totals})


def energy_columns(
    found: Shares, baseline_w: float | Mapping[str, float] | None, per_channel: bool
) -> tuple[list[tuple[str | None, dict[str, np.ndarray]]], float]:
    """Columns of energies, of all channels together or for each one, and the energy of the baseline in J.

    A baseline of all channels together is not split: the rows of single channels then hold their whole shares.
    """
    baseline = check_baseline(baseline_w, list(found.by_channel))
    watts = baseline if isinstance(baseline, dict) else {}
    if per_channel or watts:
        apart = {k: set_apart(b, found.time_s, watts.get(k, 0.0)) for k, b in found.by_channel.items()}
    if per_channel:
        out: list[tuple[str | None, dict[str, np.ndarray]]] = [
            (k, _columns(a.left, a.baseline_j)) for k, a in apart.items()
        ]
    elif watts:
        zeros = Bounded.zeros(len(found.time_s))
        out = [
            (None, _columns(sum((a.left for a in apart.values()), zeros), _sum(a.baseline_j for a in apart.values())))
        ]
    else:
        whole = set_apart(found.together, found.time_s, 0.0 if isinstance(baseline, dict) else baseline)
        out = [(None, _columns(whole.left, whole.baseline_j))]
    return out, float(sum(np.sum(columns["baseline_j"]) for _, columns in out))


def _sum(columns: Iterable[np.ndarray]) -> Any:
    return sum(columns, np.float64(0.0))


def _columns(energies: Bounded, baseline_j: Any) -> dict[str, np.ndarray]:
    return {
        "energy_j": energies.energy_j,
        "energy_low_j": energies.low_j,
        "energy_high_j": energies.high_j,
        "baseline_j": baseline_j + np.zeros(len(energies.energy_j)),
    }


def totals_metadata(
    found: Shares, baseline_j: float, traces: Sequence[Trace], notes: list[str], rule: str
) -> dict[str, str]:
    """What the schema's metadata say: energies that no span is charged, the rule, notes."""
    return {
        "unattributed_j": repr(sum(found.unattributed_j.values())),
        "baseline_j": repr(baseline_j),
        "drawn_j": repr(sum(found.drawn_j.values())),
        "channels": json.dumps([t.channel.id for t in traces]),
        "estimated": str(any(t.channel.estimated for t in traces)).lower(),
        "rule": rule,
        "notes": json.dumps(notes),
    }


def _rows(
    given: pa.Table, channel: str | None, columns: dict[str, np.ndarray], place: np.ndarray, inside: np.ndarray
) -> pa.Table:
    out = given
    if channel is not None:
        ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(given), np.int32)), pa.array([channel]))
        out = out.append_column("channel", ids)
    for name, values in columns.items():
        if name in out.schema.names:
            raise ValueError(f"the table has a column {name} already; rename it before")
        whole, unknown = np.zeros(len(given)), np.ones(len(given), bool)
        whole[place], unknown[place] = values[inside], False
        field = pa.field(name, pa.float64(), metadata=unit_metadata("J"))
        out = out.append_column(field, pa.array(whole, mask=unknown))
    return out


def _column(table: pa.Table, argument: str, name: str) -> pa.ChunkedArray:
    if table.schema.get_field_index(name) < 0:
        raise ValueError(f"{argument} must be one column of the table, {table.schema.names}, not {name!r}")
    return table.column(name)


def table_edges(result: Energies, table: pa.Table, begin: str, end: str, clock: str) -> tuple[np.ndarray, ...]:
    """Begins and ends as ns of CLOCK_MONOTONIC, each with the rows that are known, and how unsure a row's edges are.

    The last column is the sum of both edges' uncertainties in ns.
    """
    begin_ns, begins = _instants(table, "begin", begin)
    end_ns, ends = _instants(table, "end", end)
    if clock != "realtime":
        return begin_ns, begins, end_ns, ends, np.zeros(len(table), np.int64)
    wall = WallClock(result.metadata)
    (begin_ns, before), (end_ns, after) = wall.monotonic(begin_ns), wall.monotonic(end_ns)
    return begin_ns, begins, end_ns, ends, before + after


def _widen(found: Shares, traces: Sequence[Trace], unsure_ns: np.ndarray) -> None:
    """Widen the bounds by the most that a channel draws while it is unknown whether a span was open."""
    for trace in traces if unsure_ns.any() else ():
        energy, most_j = found.by_channel[trace.channel.id], trace.ceiling_w * unsure_ns / NS_PER_S
        low = np.minimum(np.maximum(energy.low_j - most_j, 0.0), energy.low_j)
        found.by_channel[trace.channel.id] = Bounded(energy.energy_j, low, energy.high_j + most_j)


def _instants(table: pa.Table, argument: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column as ns of its clock, and which of its rows are known.

    Integers are ns, floating numbers s; a timestamp has its own unit.
    """
    column = _column(table, argument, name)
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("ns", kind.tz)).cast(pa.int64())
    elif pa.types.is_duration(kind):
        column = column.cast(pa.duration("ns")).cast(pa.int64())
    elif not pa.types.is_integer(kind) and not pa.types.is_floating(kind):
        raise TypeError(
            f"{argument} must be a column of instants, as integers (ns), numbers (s) or timestamps, not {kind}"
        )
    known = ~np.asarray(pc.is_null(column, nan_is_null=True))
    values = np.asarray(pc.fill_null(column, 0))
    if values.dtype.kind == "f":
        whole = np.floor(np.where(known, values, 0.0))
        if np.any(np.abs(whole) > 9e9):
            raise ValueError(
                f"{argument} must be in seconds where it has decimals; {name} holds {float(whole.max()):g}"
            )
        values = whole.astype(np.int64) * NS_PER_S + np.rint((np.where(known, values, 0.0) - whole) * NS_PER_S).astype(
            int
        )
    return values.astype(np.int64), known


def _weights(table: pa.Table, name: str | None) -> tuple[np.ndarray, np.ndarray]:
    if name is None:
        return weight_units(np.ones(len(table))), np.ones(len(table), bool)
    column = _column(table, "weight", name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise TypeError(f"weight must be a column of numbers, not {column.type}")
    return weight_units(np.asarray(column.cast(pa.float64()))), np.ones(len(table), bool)


def _check_order(spans: Spans, row: np.ndarray) -> None:
    wrong = np.flatnonzero(spans.end_ns < spans.begin_ns)
    if len(wrong):
        at = wrong[0]
        raise ValueError(
            f"the end of a span must not be before its begin, and row {row[at]} ends at {spans.end_ns[at]} ns and "
            f"begins at {spans.begin_ns[at]} ns"
        )


def _notes(rows: int, known: np.ndarray, spans: Spans, run: tuple[int, int]) -> list[str]:
    out = []
    if missing := rows - int(known.sum()):
        out.append(f"{counted(missing, 'row')} without a begin or an end: left out")
    beyond = int(np.sum((spans.begin_ns < run[0]) | (spans.end_ns > run[1])))
    if beyond:
        out.append(
            f"{counted(beyond, 'span')} reach beyond the run; the energy there is unknown, and only the upper bound "
            "holds it (null for spans that lie wholly beyond it)"
        )
    return out
