"""A saved run: written whole, read back whole or as far as a killed process got."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import check_inside
from fastgreen.results import ledger_spans, run_folder
from fastgreen.results.run_checks import (
    EARLIEST_NS,
    LATEST_NS,
    SamplesCheck,
    check_channel,
    check_integer,
    check_tally,
    parse_json,
)
from fastgreen.results.sample_file import SampleFile, StoredChunks
from fastgreen.results.trace import Trace, Windows, recount
from fastgreen.results.wall_clock import CLOCK, checked_pairs
from fastgreen.results.window_amounts import Gathered
from fastgreen.sensors.channel import Channel

__all__ = ["UNFINISHED", "channel_table", "read_run", "save_run"]

_COLUMNS = {f.name for f in fields(Channel)} - {"sensor", "traits", "role", "bus"}


_ROWS = 1 << 18  # of windows, looked at at one time
_SPAN = b"fastgreen_span"
# Why the channels ended of a run that was not stopped: it was killed, or it goes on.
UNFINISHED = "the recording process ended before the run was stopped"

Span = tuple[int, int]


def channel_table(
    traces: list[Trace], notes: list[str], span: Span | None = None, clock: list[list[int]] | None = None
) -> pa.Table:
    """channels.arrow: a row per channel, `traits` and `report` (the tally) as JSON, null while the run goes on.

    When the run began and ended (ns) stands in the schema's metadata, with the notes and the pairs of `WallClock`: it
    may have no channel.
    """
    rows = []
    for t in traces:
        row: dict[str, Any] = {name: getattr(t.channel, name) for name in _COLUMNS}
        row.update(
            counted=t.counted,
            traits=json.dumps(t.channel.traits),
            notes=json.dumps(notes),
            report=json.dumps(t.tally) if t.tally.get("samples") is not None else None,
        )
        rows.append(row)
    text, number, flag = pa.string(), pa.float64(), pa.bool_()
    kinds = {
        "root": flag,
        "readable": flag,
        "estimated": flag,
        "visible": flag,
        "counted": flag,
        "wrap_j": number,
        "ceiling_w": number,
        "floor_w": number,
        "period_s": number,
        "averaging_s": number,
        "delay_s": number,
        "coverage": number,
    }
    units = {"wrap_j": "J", "ceiling_w": "W", "floor_w": "W", "period_s": "s", "averaging_s": "s", "delay_s": "s"}
    names = ["id", *sorted(_COLUMNS - {"id"}), "counted", "traits", "report", "notes"]
    schema = pa.schema([run_folder.field(n, kinds.get(n, text), units.get(n)) for n in names])
    if span is not None:
        known = {"start_ns": span[0], "end_ns": span[1], "notes": notes, CLOCK: clock or []}
        schema = schema.with_metadata({_SPAN: json.dumps(known)})
    return pa.Table.from_pylist(rows, schema=schema)


def save_run(
    path: Path,
    traces: list[Trace],
    windows: list[Windows],
    metadata: dict[str, Any],
    notes: list[str],
    span: Span | None = None,
    spans: pa.Table | None = None,
) -> None:
    """The inverse of `read_run`. FileExistsError when the folder holds a run."""
    metadata, clock = {k: v for k, v in metadata.items() if k != CLOCK}, metadata.get(CLOCK)
    folder = run_folder.RunFolder(path, metadata, channel_table(traces, notes, span, clock))
    try:
        for trace in traces:
            for chunk in trace.chunks():
                folder.add_samples(trace.channel.id, chunk)
        for w in windows:
            folder.add_windows(w.name, w.handle, w.begin_ns, w.end_ns, w.amounts)
        for batch in spans.to_batches() if spans is not None else []:
            folder.add_spans(batch)
    finally:
        folder.close()
        folder.leave()


def stored_spans(path: Path, metadata: dict[str, Any]) -> Callable[[], pa.Table | None] | None:
    """What reads the spans of a run's ledgers; None where it has none. TraceError for those of another run."""
    file = path.absolute() / run_folder.SPANS_FILE
    if not file.exists():
        return None
    check_inside(file, path)
    found = run_folder.metadata_of(run_folder.read_stream(file)[0], file)
    if found != {k: v for k, v in metadata.items() if k != CLOCK}:
        raise TraceError(f"{file} belongs to another run than {run_folder.FILES[0]}")
    return partial(ledger_spans.stored_spans, file)


class _Column:
    """A column that grows in place: while a hundred million windows are read, no second copy of them is there."""

    def __init__(self) -> None:
        self._values, self.count = np.empty(0, np.int64), 0

    def add(self, values: np.ndarray) -> None:
        until = self.count + len(values)
        if until > len(self._values):
            self._values.resize(max(until, len(self._values) * 17 // 16), refcheck=False)
        self._values[self.count : until] = values
        self.count = until

    def taken(self) -> np.ndarray:
        self._values.resize(self.count, refcheck=False)
        return self._values


class _Edges:
    """The stretches of a handle, as they are read: in order and without overlap, or TraceError."""

    def __init__(self, path: Path, name: str) -> None:
        self.begin_ns, self.end_ns = _Column(), _Column()
        self.amounts = Gathered(path)
        self._path, self._name = path, name
        self._last_ns: int | None = None

    def add(self, begin_ns: np.ndarray, end_ns: np.ndarray) -> None:
        back = self._last_ns is not None and begin_ns[0] < self._last_ns
        if back or np.any(end_ns < begin_ns) or np.any(begin_ns[1:] < end_ns[:-1]):
            raise TraceError(f"{self._path} is damaged: the stretches of {self._name!r} run backwards")
        if begin_ns[0] < EARLIEST_NS or end_ns[-1] > LATEST_NS:
            raise TraceError(
                f"{self._path} is damaged: the stretches of {self._name!r} lie from {begin_ns[0]} to {end_ns[-1]} ns"
            )
        self._last_ns = int(end_ns[-1])
        self.begin_ns.add(begin_ns)
        self.end_ns.add(end_ns)


def _read_windows(path: Path) -> list[Windows]:
    found: dict[tuple[str, int], _Edges] = {}
    wanted = run_folder.WINDOWS
    schema = run_folder.read_stream(path, mapped=False)[0]
    if schema.get_field_index("amounts") < 0:  # an earlier version wrote it; names of a damaged file may be no text
        wanted = pa.schema([field for field in wanted if field.name != "amounts"])
    for batch in run_folder.read_columns(path, wanted, mapped=False):
        if batch.num_rows == 0:
            continue
        run_folder.check_nulls(batch, path)
        name, handle = batch.column("name")[0].as_py(), batch.column("handle")[0].as_py()
        if len(batch.column("name").unique()) > 1 or len(batch.column("handle").unique()) > 1:
            raise TraceError(f"{path} mixes handles in one batch")
        edges = found.get((name, handle))
        if edges is None:
            edges = found[name, handle] = _Edges(path, name)
        begin_ns, end_ns = (batch.column(c).to_numpy() for c in ("start_ns", "end_ns"))
        for first in range(0, batch.num_rows, _ROWS):
            edges.add(begin_ns[first : first + _ROWS], end_ns[first : first + _ROWS])
        if len(wanted) == len(run_folder.WINDOWS):
            edges.amounts.add(batch.column("amounts"))
    return [
        Windows(name, handle, edges.begin_ns.taken(), edges.end_ns.taken(), edges.amounts.taken())
        for (name, handle), edges in found.items()
    ]


def _channel(row: dict[str, Any]) -> Channel:
    """The channel that a row of channels.arrow describes; KeyError, TypeError or ValueError where it does not."""
    traits = parse_json(row["traits"])
    check_channel(row, traits)
    members: dict[str, Any] = {n: row[n] for n in _COLUMNS if n in row or n != "counter"}  # files of before have none
    return Channel(**members, traits=traits)


def _traces(rows: list[dict[str, Any]], samples: Path) -> list[Trace]:
    file, traces, cut = SampleFile(samples), [], []
    for row in rows:
        channel = _channel(row)
        if row["report"] is None:
            trace = Trace(
                channel, row["counted"], {}, StoredChunks(file, channel, partial(SamplesCheck, channel, None))
            )
            cut.append(trace)
        else:
            tally = parse_json(row["report"])
            check_tally(tally, channel)
            check = partial(SamplesCheck, channel, tally)
            trace = Trace(channel, row["counted"], tally, StoredChunks(file, channel, check))
        traces.append(trace)
    ids = [t.channel.id for t in traces]
    if len(set(ids)) < len(ids):
        raise ValueError(f"two channels are called {max(ids, key=ids.count)!r}")
    recount(cut, why_ended=UNFINISHED)
    return traces


def _notes(found: Any) -> list[str]:
    if not (isinstance(found, list) and all(isinstance(note, str) for note in found)):
        raise ValueError("its notes are no list of texts")
    return found


def _span(schema: pa.Schema, metadata: dict[str, Any]) -> tuple[Span, list[str]]:
    """When the run began and ended, and its notes; without them, of a killed run, it ended when it began.

    The pairs of its clocks go into the metadata.
    """
    if _SPAN not in (schema.metadata or {}):
        return (metadata["monotonic_ns"], metadata["monotonic_ns"]), []
    known = parse_json(schema.metadata[_SPAN])
    check_integer("start_ns", known["start_ns"], EARLIEST_NS, LATEST_NS)
    check_integer("end_ns", known["end_ns"], known["start_ns"], LATEST_NS)
    if pairs := checked_pairs(known.get(CLOCK, [])):
        metadata[CLOCK] = pairs
    return (known["start_ns"], known["end_ns"]), _notes(known["notes"])


def read_run(path: Path) -> tuple[list[Trace], list[Windows], dict[str, Any], list[str], Span]:
    """Traces, windows, metadata, notes, begin and end of a run. TraceError: see `fastgreen.load`."""
    if not path.is_dir():
        raise TraceError(f"{path} is not a folder")
    tables, samples, windows = (path / name for name in run_folder.FILES)
    for file in (tables, samples, windows):
        check_inside(file, path)
    schema, batches = run_folder.read_stream(tables)
    metadata = run_folder.metadata_of(schema, tables)
    if not run_folder.is_whole(tables):
        raise TraceError(f"{tables} is cut short")
    for other in (samples, windows):
        if run_folder.metadata_of(run_folder.read_stream(other)[0], other) != metadata:
            raise TraceError(f"{other} belongs to another run than {tables.name}")
    try:
        run_folder.check_names(schema)
        rows = [row for batch in batches for row in batch.to_pylist()]
        traces, (span, notes) = _traces(rows, samples), _span(schema, metadata)
        notes = _notes(parse_json(rows[0]["notes"])) if rows else notes
    except TraceError:
        raise
    except KeyError as error:
        raise TraceError(f"{tables} is damaged: {error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise TraceError(f"{tables} is damaged: {error}") from error
    read = _read_windows(windows)
    if all(row["report"] is not None for row in rows):  # else the process was killed, and each trace says so
        notes += [
            f"{p} is cut short: curve or windows are not whole"
            for p in (samples, windows)
            if not run_folder.is_whole(p)
        ]
    return traces, read, metadata, notes, span
