# SPDX-License-Identifier: Apache-2.0
"""Reader of the log of SPEC PTDaemon, which reads power analyzers for SPECpower and MLPerf."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.any_table import Columns, add_rows
from fastgreen.recordings.readers.text import open_text, shown
from fastgreen.recordings.readers.timestamps import check_zone, to_utc_ns
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import NS_PER_S, counted

__all__ = ["is_ptdaemon", "read_ptdaemon"]

_BEGIN = re.compile(r"Time,(?=\d\d?-\d\d?-\d{4} )")
_STAMP = re.compile(r"(\d\d?)-(\d\d?)-(\d{4}) (\d\d:\d\d:\d\d(?:\.\d+)?)")
_CHANNEL = re.compile(r"Ch\d+")
_HEADER = ["time", "channel", "power"]
_WHOLE = "analyzer"


def is_ptdaemon(line: str) -> bool:
    """Whether a line is one of PTDaemon with a power."""
    return _cells(line[5:]) is not None if _BEGIN.match(line) else False


def read_ptdaemon(path: str | Path, *, timezone: str = "UTC", max_gap_s: float | None = None) -> Recording:
    """Read the log of SPEC PTDaemon (``ptd_logs.txt``), or the part of it that MLPerf keeps (``spl.txt``).

    Parameters
    ----------
    path : path
    timezone : str
        Time zone of the machine that wrote it.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        ``analyzer`` in watts; ``analyzer:Ch1`` and so on are its parts. ``extra["marks"]`` has the joules of each mark,
        which is the name of a measurement.

    Raises
    ------
    TraceError
        If the file cannot be read or no line has a time, a power and a mark.
    """
    path = Path(path)
    builder = RecordingBuilder("PTDaemon", str(path), max_gap_s=max_gap_s)
    rows: list[list[str]] = []
    marks: dict[str, str] = {}
    glued = other = 0
    try:
        with open_text(path) as stream:
            for line in stream:
                before, *pieces = _BEGIN.split(line.strip())
                glued += max(0, len(pieces) - 1) + bool(before.strip() and pieces)
                other += bool(before.strip()) and not pieces
                for piece in pieces:
                    cells = _cells(piece)
                    if cells is None:
                        builder.lines += 1
                        builder.dropped += 1
                        continue
                    time, mark, powers = cells
                    marks[time] = mark
                    rows += [[time, name, watts] for name, watts in powers.items()]
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    if not rows:
        raise TraceError(f"{path}: no line of PTDaemon with Time, Watts and Mark")
    names = dict.fromkeys(name for _, name, _ in rows)
    for name in names:
        builder.channel(name, root=name == _WHOLE, parent="" if name == _WHOLE else _WHOLE)
    if glued:
        builder.note(f"{counted(glued, 'line')} without a line of its own: read as a line")
    if other:
        builder.note(f"{counted(other, 'line')} without a power: left out")
    _add(builder, rows, check_zone(timezone))
    builder.stand_in(_WHOLE, re.compile(rf"{_WHOLE}:Ch\d+"))
    recording = builder.finish()
    recording.extra["marks"] = _by_mark(recording, marks, timezone)
    if len(recording.extra["marks"]) > 1:
        joules = (f"{mark} {value:.6g} J" for mark, value in recording.extra["marks"].items())
        recording.notes.append(f"several marks, which all count: {shown(joules)}")
    return recording


def _add(builder: RecordingBuilder, rows: list[list[str]], timezone: str) -> None:
    """Each channel by itself, so that a doubled line is not a second analyzer."""
    for name in dict.fromkeys(name for _, name, _ in rows):
        mine = (["", *row] for row in rows if row[1] == name)
        wanted = Columns("time", "power", None, None, "W", None, timezone)
        add_rows(builder, wanted, ["", *_HEADER], mine, name)


def _cells(piece: str) -> tuple[str, str, dict[str, str]] | None:
    """Time, mark, and powers by channel, of a line without its first word; None if the line is not whole."""
    cells = [cell.strip() for cell in piece.split(",")]
    stamp = _STAMP.fullmatch(cells[0])
    mark, channel, at = None, _WHOLE, 1
    powers: dict[str, str] = {}
    while at < len(cells):
        if _CHANNEL.fullmatch(cells[at]):
            channel, at = f"{_WHOLE}:{cells[at]}", at + 1
            continue
        if at + 1 == len(cells):
            return None
        if cells[at] == "Watts":
            powers[channel] = cells[at + 1]
        elif cells[at] == "Mark":
            mark = cells[at + 1]
        at += 2
    if stamp is None or mark is None or _WHOLE not in powers:
        return None
    return "{2}-{0:0>2}-{1:0>2} {3}".format(*stamp.groups()), mark, powers


def _by_mark(recording: Recording, marks: dict[str, str], timezone: str) -> dict[str, float]:
    """Joules of the steps that have the same mark at both ends, over the channels that count."""
    moments = dict(zip(to_utc_ns(list(marks), timezone).tolist(), marks.values(), strict=True))
    found: dict[str, float] = dict.fromkeys(marks.values(), 0.0)
    for row in recording.channels.to_pylist():
        if not row["root"]:
            continue
        points = zip(*(column.tolist() for column in recording.points(row["id"])), strict=True)
        for (begin, first, low), (end, second, high) in pairwise(points):
            joules = (end - begin) / NS_PER_S * (low + high) / 2
            if first == second and moments.get(begin) == moments.get(end) and joules == joules:  # not NaN
                found[moments[end]] += joules
    return found
