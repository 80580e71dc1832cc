"""Reader of logs of an OmegaWatt wattmeter: watts at the wall, about every 10 ms, at seconds since 1970."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.text import csv_rows, open_text
from fastgreen.recordings.readers.timestamps import LATEST_NS, segments_of
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import NS_PER_S, counted

__all__ = ["read_omegawatt"]

_ROWS = 1 << 16
_TRUE = frozenset({"true", "1", "t", "yes"})


def read_omegawatt(path: str | Path, *, max_gap_s: float | None = None) -> Recording:
    """Read the CSV of an OmegaWatt wattmeter.

    Rows with a ``#frame_is_ok`` other than true and a cut last row are dropped. The integral bridges a few dropped
    frames; a hole longer than `max_gap_s` ends a segment.

    Parameters
    ----------
    path : path
        The file, or the folder with ``omegawatt.csv``.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        A root ``wall:<n>`` per ``#activepow<n>`` column, in watts.

    Raises
    ------
    TraceError
        If the file cannot be read or lacks these columns.
    ValueError
        If `max_gap_s` is not above 0.
    """
    path = Path(path)
    file = path / "omegawatt.csv" if path.is_dir() else path
    builder = RecordingBuilder("omegawatt", str(path), max_gap_s=max_gap_s)
    try:
        with open_text(file) as stream:
            rows = csv_rows(stream)
            before, header = 0, next(rows, None)
            while header is not None and "#timestamp" not in header:
                before, header = before + 1, next(rows, None)
            if header is None or not any(name.startswith("#activepow") for name in header):
                raise TraceError(f"{file}: no columns #timestamp and #activepow; not a log of an OmegaWatt wattmeter")
            if before:
                builder.note(f"{counted(before, 'line')} before the header: left out")
            _read(builder, [h.strip() for h in header], rows)
    except FileNotFoundError:
        raise TraceError(f"{file}: no such file") from None
    except OSError as error:
        raise TraceError(f"{file}: {error.strerror}") from None
    return builder.finish()


def _read(builder: RecordingBuilder, header: list[str], rows: Iterator[list[str]]) -> None:
    meters = {i: f"wall:{name.removeprefix('#activepow')}" for i, name in enumerate(header) if "#activepow" in name}
    for name in meters.values():
        builder.channel(name, root=True)
    ok_at = header.index("#frame_is_ok") if "#frame_is_ok" in header else -1
    time_at = header.index("#timestamp")
    last_ns, segment, back = None, 0, 0
    while chunk := list(islice(rows, _ROWS)):
        builder.lines += len(chunk)
        whole = [r for r in chunk if len(r) >= len(header) and (ok_at < 0 or r[ok_at].strip().lower() in _TRUE)]
        seconds = np.array([_number(r[time_at]) for r in whole])
        good = (seconds >= 0) & (seconds <= LATEST_NS / NS_PER_S)
        whole = [r for r, fine in zip(whole, good, strict=True) if fine]
        builder.dropped += len(chunk) - len(whole)
        if not whole:
            continue
        stamps = np.array([_to_ns(r[time_at]) for r in whole], np.int64)
        numbers, segment, went_back = segments_of(stamps, np.zeros(stamps.size, bool), last_ns, segment)
        last_ns, back = int(stamps[-1]), back + went_back
        for at, name in meters.items():
            values = np.array([_number(r[at]) for r in whole])
            builder.add(name, stamps, numbers, np.where(values < 0, math.nan, values))
    if back:
        builder.note(f"time goes back {counted(back, 'time')}; a new segment begins at each")
    if builder.dropped:
        builder.note(f"{builder.dropped} of {builder.lines} rows are cut or not marked as good frames and were dropped")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _to_ns(text: str) -> int:
    """Convert the text of seconds since 1970 to ns, exactly: a double is only precise to a quarter of a microsecond."""
    whole, _, fraction = text.strip().partition(".")
    if whole.isdigit() and (fraction.isdigit() or not fraction):
        return int(whole) * NS_PER_S + int((fraction + "000000000")[:9])
    return round(float(text) * NS_PER_S)
