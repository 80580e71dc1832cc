"""The tables of ledgers: a row per span with its share, and a row per ledger, phase and amount."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastgreen.results.activity import open_parts
from fastgreen.results.ledger_spans import LedgerSpans
from fastgreen.results.overlaps import union_of
from fastgreen.results.share_rules import ledger_rule
from fastgreen.results.share_table import chosen_traces, energy_columns, totals_metadata
from fastgreen.results.shares import Shares, Spans, share
from fastgreen.results.trace import Bounded, Trace
from fastgreen.units import NS_PER_S, unit_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastgreen.results.energies import Energies
    from fastgreen.results.following import MeanInterval

__all__ = ["ledger_rows", "ledger_table", "span_table"]

_BY = (None, "phase", "channel")


class _Parts:
    """The phases of a ledger's spans, as spans that look on: pieces of one phase that follow each other are one."""

    def __init__(self, ledger: LedgerSpans) -> None:
        pieces = ledger.pieces
        assert pieces.span is not None
        names = np.array([p or "" for p in ledger.phases], object)
        new = np.ones(len(names), bool)
        new[1:] = (pieces.span[1:] != pieces.span[:-1]) | (names[1:] != names[:-1])
        self.of_piece = np.cumsum(new) - 1
        first = np.flatnonzero(new)
        self.span = pieces.span[first]
        self.phase = [ledger.phases[i] for i in first.tolist()]
        self.begin_ns = pieces.begin_ns[first]
        self.end_ns = pieces.end_ns[np.append(first[1:], len(new)) - 1]

    def beside(self, pieces: Spans) -> Spans:
        """The spans, and behind them the phases."""
        assert pieces.span is not None
        return Spans(
            np.tile(pieces.begin_ns, 2),
            np.tile(pieces.end_ns, 2),
            np.tile(pieces.weight, 2),
            np.append(pieces.span, self.of_piece + len(pieces)).astype(np.uint32),
            np.append(np.ones(len(pieces), bool), np.zeros(len(self.span), bool)),
        )


def _split(found: Shares, count: int) -> tuple[Shares, Shares]:
    """The shares of the first spans, and of those behind them."""
    out = []
    for part in (slice(0, count), slice(count, None)):
        by_channel = {k: b[part] for k, b in found.by_channel.items()}
        out.append(Shares(by_channel, found.unattributed_j, found.drawn_j, found.time_s[part]))
    return out[0], out[1]


def _summed(ledger: LedgerSpans, place: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Amounts by span or phase; NaN where there are none."""
    out = {}
    for name, values in ledger.amounts.items():
        given = ~np.isnan(values)
        total = np.bincount(place[given], values[given], count)
        out[name] = np.where(np.bincount(place[given], minlength=count) > 0, total, np.nan)
    return out


def _traces(result: Energies, ledger: LedgerSpans) -> list[Trace]:
    return chosen_traces(result, ledger.definition["channels"])


def span_table(result: Energies, ledger: LedgerSpans, by: str | None) -> pa.Table:
    """See `fastgreen.Result.spans`."""
    if by not in _BY:
        raise ValueError(f'by must be None, "phase" or "channel", not {by!r}')
    traces = _traces(result, ledger)
    pieces, parts = ledger.pieces, _Parts(ledger)
    assert pieces.span is not None
    found = share(result, traces, parts.beside(pieces) if by == "phase" else pieces, result.following)
    begin_ns, end_ns = pieces.edges
    place, ids = pieces.span, ledger.ids
    phase = None
    if by == "phase":
        found, begin_ns, end_ns = _split(found, len(pieces))[1], parts.begin_ns, parts.end_ns
        place, ids, phase = parts.of_piece, [ids[i] for i in parts.span.tolist()], parts.phase
    columns, baseline_j = energy_columns(found, ledger.definition["baseline_w"], by == "channel")
    lengths = (end_ns - begin_ns) / NS_PER_S
    tables = []
    for channel, energies in columns:
        out = pa.table({"id": pa.array(ids, pa.string())})
        if phase is not None:
            out = out.append_column("phase", pa.array(phase, pa.string()).dictionary_encode())
        if channel is not None:
            codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(ids), np.int32)), pa.array([channel]))
            out = out.append_column("channel", codes)
        out = out.append_column(_field("start_ns", pa.int64(), "ns"), pa.array(begin_ns))
        out = out.append_column(_field("duration_s", pa.float64(), "s"), pa.array(lengths))
        out = out.append_column("weight", pa.array(_mean_weight(ledger, place, len(ids))))
        for name, values in _summed(ledger, place, len(ids)).items():
            out = out.append_column(name, pa.array(values, mask=np.isnan(values)))
        for name, values in energies.items():
            out = out.append_column(_field(name, pa.float64(), "J"), pa.array(values))
        tables.append(out)
    table = pa.concat_tables(tables).unify_dictionaries() if tables else pa.table({"id": pa.array([], pa.string())})
    return table.replace_schema_metadata(totals_metadata(found, baseline_j, traces, ledger.notes, _rule(ledger)))


def _rule(ledger: LedgerSpans) -> str:
    return ledger_rule(ledger.definition, bool(np.all(ledger.weights == 1)))


def _field(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    return pa.field(name, kind, metadata=unit_metadata(unit))


def _mean_weight(ledger: LedgerSpans, place: np.ndarray, count: int) -> np.ndarray:
    """The weight over the time of a span; that of its pieces where no time passed."""
    pieces = ledger.pieces
    lengths = (pieces.end_ns - pieces.begin_ns).astype(float)
    time = np.bincount(place, lengths, count)
    plain = np.bincount(place, ledger.weights, count) / np.maximum(np.bincount(place, minlength=count), 1)
    return np.where(time > 0, np.bincount(place, lengths * ledger.weights, count) / np.maximum(time, 1.0), plain)


# ---- a row per ledger ----


def ledger_table(result: Energies, ledgers: Sequence[LedgerSpans]) -> pa.Table:
    """See `fastgreen.Result.ledgers`."""
    baselines: dict[str, float] = {}
    rows = [row for ledger in ledgers for row in _rows(result, ledger, baselines)]
    return ledger_rows(rows, {ledger.name: _rule(ledger) for ledger in ledgers}, baselines)


def ledger_rows(rows: list[tuple[Any, ...]], rules: dict[str, str], baseline_j: dict[str, float]) -> pa.Table:
    """The rows of ledgers as their table; its metadata hold rules and baselines by ledger, in JSON."""
    kinds = [pa.string()] * 3 + [pa.int64()] + [pa.float64()] * 14 + [pa.string()] * 2
    names = "ledger phase amount count total energy_j energy_low_j energy_high_j mean_energy_j mean_energy_low_j"
    names += (
        " mean_energy_high_j energy_p50_j energy_p95_j energy_p99_j unattributed_j window_factor mean_energy_ci_low_j"
    )
    names += " mean_energy_ci_high_j method interval_note"
    fields = [
        pa.field(name, kind, metadata=unit_metadata("J") if name.endswith("_j") else None)
        for name, kind in zip(names.split(), kinds, strict=True)
    ]
    about = {"rules": json.dumps(rules), "baselines_j": json.dumps(baseline_j)}
    return pa.Table.from_pylist(
        [dict(zip(names.split(), row, strict=True)) for row in rows], schema=pa.schema(fields, about)
    )


def _rows(result: Energies, ledger: LedgerSpans, baselines: dict[str, float]) -> list[tuple[Any, ...]]:
    traces = _traces(result, ledger)
    parts, pieces = _Parts(ledger), ledger.pieces
    assert pieces.span is not None
    if not len(pieces):
        return []
    found, by_phase = _split(share(result, traces, parts.beside(pieces), result.following), len(pieces))
    together = _together(traces, ledger)
    columns, _ = energy_columns(found, ledger.definition["baseline_w"], False)
    energies, none = columns[0][1], sum(found.unattributed_j.values())
    baseline_j = baselines[ledger.name] = float(np.sum(energies["baseline_j"]))
    # What all spans are charged together is known better than what each is.
    low, high = (max(x - baseline_j, 0.0) for x in (together.low_j, together.high_j))
    low, high = max(low, float(np.sum(energies["energy_low_j"]))), min(high, float(np.sum(energies["energy_high_j"])))
    total_j = float(np.sum(energies["energy_j"]))
    low, high = min(low, total_j), max(high, total_j)  # of a model, see `shares.within_model`
    factor = _window_factor(result, traces, ledger, found)
    head = (ledger.name, None)
    interval = partial(_interval, result, traces, ledger)
    every = np.ones(len(pieces.begin_ns), bool)
    out = [_row(head, None, energies, (low, high), None, interval(every), none, factor)]
    for name, values in _summed(ledger, pieces.span, len(pieces)).items():
        out.append(_row(head, name, energies, (low, high), values, interval(every)))
    phases = [p for p in dict.fromkeys(parts.phase) if p is not None]
    columns, _ = energy_columns(by_phase, ledger.definition["baseline_w"], False)
    amounts = _summed(ledger, parts.of_piece, len(parts.span))
    for phase in phases:
        mine = np.array([p == phase for p in parts.phase])
        energies = {k: v[mine] for k, v in columns[0][1].items()}
        both = float(np.sum(energies["energy_low_j"])), float(np.sum(energies["energy_high_j"]))
        in_phase = interval(mine[parts.of_piece])
        out.append(_row((ledger.name, phase), None, energies, both, None, in_phase))
        for name, values in amounts.items():
            if np.any(~np.isnan(values[mine])):
                out.append(_row((ledger.name, phase), name, energies, both, values[mine], in_phase))
    return out


def _row(
    head: tuple[str, str | None],
    amount: str | None,
    energies: dict[str, np.ndarray],
    bounds: tuple[float, float],
    values: np.ndarray | None,
    interval: MeanInterval,
    unattributed_j: float | None = None,
    factor: float | None = None,
) -> tuple[Any, ...]:
    """One row; `values` are the amounts of the spans, and what is meant is then the energy per amount.

    `interval` is of the energy of all these spans together.
    """
    each = energies["energy_j"]
    count, energy_j = len(each), float(np.sum(each))
    total = float(count) if values is None else float(np.nansum(values))
    if values is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            each = (each / values)[values > 0]
    marks = [float(x) for x in np.percentile(each, [50, 95, 99])] if len(each) else [None] * 3
    means = [x / total if total > 0 else None for x in (energy_j, *bounds)]
    around = interval.over(total).around(means[0]) if means[0] is not None else (None, None)
    shown = (*around, interval.method, interval.reason)
    return (*head, amount, count, total, energy_j, *bounds, *means, *marks, unattributed_j, factor, *shown)


def _interval(result: Energies, traces: Sequence[Trace], ledger: LedgerSpans, some: np.ndarray) -> MeanInterval:
    """The interval of the energy of some pieces together."""
    return result.following.interval(lambda load: open_parts(load, ledger.pieces, some), [t.channel.id for t in traces])


def _together(traces: Sequence[Trace], ledger: LedgerSpans) -> Bounded:
    charged = ledger.pieces.weight > 0
    if not charged.any():
        return Bounded(0.0, 0.0, 0.0)
    union = union_of(ledger.pieces.begin_ns[charged], ledger.pieces.end_ns[charged])
    return sum((t.together(union) for t in traces), Bounded(0.0, 0.0, 0.0))


def _window_factor(result: Energies, traces: Sequence[Trace], ledger: LedgerSpans, found: Shares) -> float | None:
    """How many times the energy plain windows around the spans would have counted."""
    begin_ns, end_ns = (np.sort(column) for column in ledger.pieces.edges)
    # The sum of windows is that of E(end) less that of E(begin), whichever belong together.
    windows_j = 0.0
    for trace in traces:
        followed = result.following.of(trace)
        if followed is None:
            windows_j += float(np.sum(trace.windows(begin_ns, end_ns).energy_j))
        else:
            windows_j += float(np.sum(followed.kept_j(end_ns)) - np.sum(followed.kept_j(begin_ns)))
    shared_j = float(np.sum(found.together.energy_j))
    return windows_j / shared_j if shared_j > 0 else None
