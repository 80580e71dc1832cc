"""Reader of CodeCarbon's ``emissions.csv``: a row per run (or per flush of a run) with energies in kWh."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fastgreen.errors import TraceError
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
        ``extra["runs"]`` is the table as read.

    Raises
    ------
    TraceError
        If the file cannot be read or has no known column.
    """
    check_zone(timezone)
    path = Path(path)
    file = path / "emissions.csv" if path.is_dir() else path
    try:
        with open_text(file) as stream:
            lines = csv_rows(stream)
            names = next(lines, [])
            rows = [dict(zip(names, line, strict=False)) for line in lines]
    except FileNotFoundError:
        raise TraceError(f"{file}: no such file") from None
    except OSError as error:
        raise TraceError(f"{file}: {error.strerror}") from None
    if "duration" not in names or not any(column in names for column in _PARTS.values()):
        raise TraceError(f"{file}: not an emissions.csv of CodeCarbon; its columns are {shown(names) or 'none'}")
    builder = RecordingBuilder("codecarbon", str(path))
    runs = _last_of_each_run([row for row in rows if 0 < _number(row, "duration") < _LONGEST_S])
    builder.lines, builder.dropped = len(rows), len(rows) - len(runs)
    _fill(builder, runs, timezone)
    nothing = sum(not 0 < _number(row, "duration") < _LONGEST_S for row in rows)
    if nothing:
        builder.note(f"{counted(nothing, 'row')} without a duration: left out")
    recording = builder.finish(list(_PARTS))
    recording.extra["runs"] = rows
    return recording


def _last_of_each_run(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    kept: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows):
        run = row.get("run_id") or f"row {number}"
        if run not in kept or _number(row, "duration") >= _number(kept[run], "duration"):
            kept[run] = row
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
