"""Reader of CodeCarbon's ``emissions.csv``: a row per run (or per flush of a run) with energies in kWh."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.tables import Tables
from fastgreen.recordings.readers.text import csv_rows, open_text, shown
from fastgreen.recordings.readers.timestamps import ABSENT_NS, check_zone, to_utc_ns
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import J_PER_KWH, NS_PER_S, counted

__all__ = ["read_codecarbon"]

_LONGEST_S = 1e9  # thirty years
_PARTS = {"cpu": "cpu_energy", "gpu": "gpu_energy", "ram": "ram_energy", "total": "energy_consumed"}


def read_codecarbon(path: str | Path, *, timezone: str = "UTC") -> Recording:
    """Read the energies of an ``emissions.csv`` of CodeCarbon.

    A row is the energy of a run in the `duration` before its `timestamp`. It becomes one segment of constant mean
    power, with the same energy. If several rows have the same run_id (flushes of growing energy), the longest counts.
    In a file of tasks (column task_name) each row is a task.

    Parameters
    ----------
    path : path
        The file, or the folder with ``emissions.csv``.
    timezone : str
        Time zone of the machine that wrote it.

    Returns
    -------
    Recording
        Roots ``cpu``, ``gpu``, ``ram``; or the root ``total`` for versions of CodeCarbon that wrote only the total.
        ``extra["runs"]`` is the table as read, ``extra["tasks"]`` the seconds and joules of each task.

    Raises
    ------
    TraceError
        If the file cannot be read or has no known column.
    """
    check_zone(timezone)
    path = Path(path)
    file = path / "emissions.csv" if path.is_dir() else path
    builder = RecordingBuilder("codecarbon", str(path), max_gap_s=math.inf)
    try:
        with open_text(file) as stream:
            lines = csv_rows(stream)
            names = next(lines, [])
            tables = Tables(builder, _is_header).read(names, lines) if _is_header(names) else ()
            rows = [dict(zip(header, line, strict=True)) for header, chunk in tables for line in chunk]
    except FileNotFoundError:
        raise TraceError(f"{file}: no such file") from None
    except OSError as error:
        raise TraceError(f"{file}: {error.strerror}") from None
    if not _is_header(names):
        raise TraceError(f"{file}: not an emissions.csv of CodeCarbon; its columns are {shown(names) or 'none'}")
    timed = [row for row in rows if 0 < _number(row, "duration") < _LONGEST_S]
    runs = _counted_once(builder, timed)
    _fill(builder, runs, timezone)
    if len(timed) < len(rows):
        builder.note(f"{counted(len(rows) - len(timed), 'row')} without a duration: left out")
    if builder.dropped:
        builder.note(f"{builder.dropped} of {builder.lines} rows could not be used")
    builder.dropped += len(rows) - len(runs)
    recording = builder.finish(list(_PARTS))
    recording.extra["runs"] = rows
    recording.extra["tasks"] = tasks = [_task(row) for row in runs if "task_name" in row]
    if tasks:
        shown_tasks = [f"{task['name']} {task['energy_j']:.6g} J" for task in tasks]
        recording.notes.append(f"{counted(len(tasks), 'task')}: {shown(shown_tasks)}")
    return recording


def _is_header(row: list[str]) -> bool:
    return "duration" in row and any(column in row for column in _PARTS.values())


def _task(row: dict[str, str]) -> dict[str, Any]:
    total = _number(row, "energy_consumed")
    if not math.isfinite(total):
        parts = (_number(row, _PARTS[part]) for part in ("cpu", "gpu", "ram"))
        total = math.fsum(part for part in parts if math.isfinite(part))
    run = {"name": row["task_name"], "run_id": row.get("run_id", ""), "timestamp": row.get("timestamp", "")}
    return {**run, "seconds": _number(row, "duration"), "energy_j": total * J_PER_KWH}


def _counted_once(builder: RecordingBuilder, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Leave out the earlier flushes of each run, and rows that are there twice. The rest is in a note."""
    kept: dict[str, dict[str, str]] = {}
    flushes = twice = 0
    for number, row in enumerate(rows):
        task = row.get("task_name")
        run = f"task {sorted(row.items())}" if task is not None else row.get("run_id") or f"row {number}"
        twice += run in kept and row == kept[run]
        flushes += run in kept and row != kept[run]
        if run not in kept or _number(row, "duration") >= _number(kept[run], "duration"):
            kept[run] = row
    if flushes:
        builder.note(f"{counted(flushes, 'row')} of a run that has a longer row: not counted")
    if twice:
        builder.note(f"{counted(twice, 'row')} repeated: counted once")
    return list(kept.values())


def _fill(builder: RecordingBuilder, rows: list[dict[str, str]], timezone: str) -> None:
    stamps = to_utc_ns([row.get("timestamp") for row in rows], timezone)
    seconds = np.array([_number(row, "duration") for row in rows])
    good = stamps != ABSENT_NS
    if not good.all():
        builder.dropped += int((~good).sum())
        builder.note(f"{counted(int((~good).sum()), 'run')} without a time: left out")
    order = np.flatnonzero(good)
    order = order[np.argsort(stamps[order], kind="stable")]
    parts = {}
    for name, column in _PARTS.items():
        values = np.array([_number(row, column) for row in rows]) * J_PER_KWH
        if np.isfinite(values[good]).any():
            parts[name] = np.where(values < 0, math.nan, values)
    for name in _PARTS:
        builder.channel(name, root=name != "total" or set(parts) == {"total"})
    length_ns = np.rint(seconds * NS_PER_S).astype(np.int64)
    segment = np.repeat(np.arange(order.size), 2)
    ends = np.repeat(stamps[order], 2)
    ends[::2] -= length_ns[order]
    for name, energy in parts.items():
        power = energy[order] / (length_ns[order] / NS_PER_S)
        builder.add(name, ends, segment, np.repeat(power, 2))


def _number(row: dict[str, str], column: str) -> float:
    try:
        return float(row.get(column) or "nan")
    except ValueError:
        return math.nan
