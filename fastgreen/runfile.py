"""A saved run: written whole, read back whole or as far as a killed process got."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen import _core, arrow
from fastgreen.channel import Channel
from fastgreen.errors import TraceError
from fastgreen.result import Result
from fastgreen.trace import Trace, Windows

__all__ = ["channel_table", "load", "save_result", "stored_chunks"]

_COLUMNS = {f.name for f in fields(Channel)} - {"sensor", "traits"}


def channel_table(traces: list[Trace], notes: list[str]) -> pa.Table:
    """channels.arrow: a row per channel, what it is; `traits` and `report` as JSON, null while the run goes on."""
    rows = []
    for t in traces:
        row: dict[str, Any] = {name: getattr(t.channel, name) for name in _COLUMNS}
        row.update(
            counted=t.counted,
            traits=json.dumps(t.channel.traits),
            notes=json.dumps(notes),
            report=json.dumps(t.report) if t.report.get("samples") is not None else None,
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
    schema = pa.schema([arrow.field(n, kinds.get(n, text), units.get(n)) for n in names])
    return pa.Table.from_pylist(rows, schema=schema)


def stored_chunks(path: Path, channel: str) -> Iterator[np.ndarray]:
    """Samples of one channel of a samples.arrow, batch by batch."""
    schema, batches = arrow.read_stream(path)
    if not set(arrow.SAMPLES.names) <= set(schema.names):
        raise TraceError(f"{path} has no samples: its columns are {schema.names}")
    for batch in batches:
        column = batch.column(schema.get_field_index("channel"))
        names = column.dictionary.to_pylist()
        if names != [channel]:
            if channel not in names:
                continue
            batch = batch.filter(pc.equal(column.indices, names.index(channel)))
        yield arrow.samples_of(batch)


def save_result(result: Result, path: Path) -> None:
    folder = arrow.RunFolder(path, result.metadata, channel_table(result.traces, result.given_notes))
    try:
        for trace in result.traces:
            for chunk in trace.chunks():
                folder.add_samples(trace.channel.id, chunk)
        for w in result._windows:
            folder.add_windows(w.name, w.handle, w.begin_ns, w.end_ns)
    finally:
        folder.close()


def _read_windows(path: Path) -> list[Windows]:
    schema, batches = arrow.read_stream(path)
    if not set(arrow.WINDOWS.names) <= set(schema.names):
        raise TraceError(f"{path} has no windows: its columns are {schema.names}")
    parts: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for batch in batches:
        if batch.num_rows == 0:
            continue
        name, handle = batch.column("name")[0].as_py(), batch.column("handle")[0].as_py()
        if len(batch.column("name").unique()) > 1 or len(batch.column("handle").unique()) > 1:
            raise TraceError(f"{path} mixes handles in one batch")
        parts.setdefault((name, handle), []).append(
            (batch.column("start_ns").to_numpy(), batch.column("end_ns").to_numpy())
        )
    return [
        Windows(name, handle, *(np.concatenate(column) for column in zip(*edges, strict=True)))
        for (name, handle), edges in parts.items()
    ]


def _channel(row: dict[str, Any]) -> Channel:
    try:
        return Channel(**{n: row[n] for n in _COLUMNS if n in row}, traits=json.loads(row["traits"]))
    except (TypeError, KeyError, ValueError) as error:
        raise TraceError(f"channels.arrow is damaged: {error}") from error


def _recount(channel: Channel, chunks: Callable[[], Iterator[np.ndarray]]) -> dict[str, Any]:
    """The report of a run that was killed before it wrote one."""
    account = _core.Account(channel.traits)
    for chunk in chunks():
        account.feed(chunk)
    report = account.report()
    return {
        **report,
        "end_at_ns": report["last_at_ns"],
        "end_total": report["total"],
        "missed": None,
        "lost": None,
        "read_errors": None,
        "why_ended": "the recording process ended before the run was stopped",
        "last_error": None,
    }


def load(path: str | os.PathLike) -> Result:
    """Open a saved or recorded run.

    Parameters
    ----------
    path : path
        The folder that `Result.save` or ``Monitor(record=)`` wrote. Its samples stay on disk and are read when needed.

    Returns
    -------
    Result
        Of a run whose process was killed, what was recorded up to then; `Result.notes` says so.

    Raises
    ------
    TraceError
        When the folder holds no run, a damaged one, or one of a newer format.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise TraceError(f"{folder} is not a folder")
    schema, batches = arrow.read_stream(folder / "channels.arrow")
    metadata = arrow.metadata_of(schema, folder / "channels.arrow")
    rows = [row for batch in batches for row in batch.to_pylist()]
    samples = folder / "samples.arrow"
    arrow.metadata_of(arrow.read_stream(samples)[0], samples)
    traces = []
    for row in rows:
        channel = _channel(row)
        chunks = _chunks_of(samples, channel.id)
        report = json.loads(row["report"]) if row.get("report") else _recount(channel, chunks)
        traces.append(Trace(channel, bool(row["counted"]), report, chunks))
    notes = json.loads(rows[0]["notes"]) if rows and rows[0].get("notes") else []
    at_ns = metadata["monotonic_ns"]
    return Result(traces, _read_windows(folder / "windows.arrow"), metadata, at_ns, at_ns, notes)


def _chunks_of(path: Path, channel: str) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: stored_chunks(path, channel)
