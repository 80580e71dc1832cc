# SPDX-License-Identifier: Apache-2.0
"""Readers of logs that tools print at intervals: tegrastats, ``perf stat -I -x,`` and turbostat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.any_table import Columns, add_rows
from fastgreen.recordings.readers.text import open_text, shown
from fastgreen.recordings.readers.timestamps import check_zone
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import NS_PER_S, counted

__all__ = ["is_perf", "is_tegrastats", "is_turbostat", "read_perf_stat", "read_tegrastats", "read_turbostat"]

_HEADER = ["time", "rail", "power"]
_RAIL = re.compile(r"\b((?:VDD|VIN|POM|CV|GPU|CPU|SOC|SYS|DDR|VDDRQ)[A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?= |$)")
_STAMP = re.compile(r"^(\d\d)-(\d\d)-(\d{4}) (\d\d:\d\d:\d\d)\b")
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")
_EVENT = re.compile(r"power/energy-(\w+)/")
_DOMAINS = ("pkg", "ram", "psys")  # the others are parts of pkg
_WATTS = ("PkgWatt", "RAMWatt", "GFXWatt", "CorWatt")
_COUNTED = ("PkgWatt", "RAMWatt")  # the others are parts of the package


def is_tegrastats(line: str) -> bool:
    """Whether a line is one of tegrastats with a power."""
    return "RAM " in line and "CPU [" in line and _RAIL.search(line) is not None


def is_perf(line: str) -> bool:
    """Whether a line is one of ``perf stat -I -x,`` with an energy."""
    return _perf_cells(line) is not None


def is_turbostat(line: str) -> bool:
    """Whether a line is a header of turbostat with a power."""
    return "PkgWatt" in line.split()


def _lines(path: Path) -> Iterator[str]:
    try:
        with open_text(path) as stream:
            yield from (line.rstrip("\r\n") for line in stream if line.strip())
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None


def read_tegrastats(
    path: str | Path, *, timezone: str = "UTC", period_s: float | None = None, max_gap_s: float | None = None
) -> Recording:
    """Read the output of tegrastats, of Jetson boards.

    Parameters
    ----------
    path : path
    timezone : str
        Time zone of the machine that wrote it.
    period_s : float, optional
        Seconds between two lines (``--interval``), for lines without a date, or several lines a second.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        ``tegrastats:<rail>`` in watts. VDD_IN or POM_5V_IN is the whole board, and counts alone; without one of them,
        each rail counts.

    Raises
    ------
    TraceError
        If the file cannot be read, has no power, or there is no way to know the times.
    """
    builder = RecordingBuilder("tegrastats", str(path), max_gap_s=max_gap_s)
    rows: list[list[str]] = []
    stamps: list[str] = []
    rails: dict[str, None] = {}
    for line in _lines(Path(path)):
        found = {name: int(now) for name, now, _ in _RAIL.findall(line)}
        stamp = _STAMP.match(line)
        if not found or (stamp is None and period_s is None):
            builder.lines += 1
            builder.dropped += 1
            continue
        time = "{2}-{0}-{1} {3}".format(*stamp.groups()) if stamp else ""
        stamps.append(time)
        rails.update(dict.fromkeys(found))
        rows += [[time, name, f"{milliwatts / 1e3:.3f}"] for name, milliwatts in found.items()]
    if not rows:
        raise TraceError(
            f"{path}: no line of tegrastats with a date and a power; "
            "give the seconds between two lines, as in --period 1, if they have no date"
        )
    if period_s is None and len(stamps) > 1.5 * len(set(stamps)):
        raise TraceError(f"{path}: several lines a second; give the seconds between two lines, as in --period 0.1")
    whole = next((name for name in _WHOLE_BOARD if name in rails), None)
    for name in rails:
        _declare(builder, "tegrastats", name, whole)
    if whole is None:
        builder.note("no rail is that of the whole board: the sum of the rails counts")
    wanted = Columns("time" if period_s is None else None, "power", None, "rail", "W", period_s, check_zone(timezone))
    add_rows(builder, wanted, _HEADER, iter(rows), "tegrastats")
    return builder.finish()


def _declare(builder: RecordingBuilder, source: str, name: str, whole: str | None) -> None:
    part = whole is not None and name != whole
    builder.channel(f"{source}:{name}", root=not part, parent=f"{source}:{whole}" if part else "")


def read_perf_stat(path: str | Path, *, timezone: str = "UTC", max_gap_s: float | None = None) -> Recording:
    """Read the output of ``perf stat -I MS -x, -e power/energy-pkg/,...``.

    Parameters
    ----------
    path : path
    timezone, max_gap_s
        Not used here: perf counts seconds from its start, and its energies have no holes.

    Returns
    -------
    Recording
        ``<domain>`` or ``<domain>:<socket>`` in watts, the mean of each interval. energy-pkg and energy-ram count, and
        energy-psys where it is alone. Times begin at 1970-01-01 00:00.

    Raises
    ------
    TraceError
        If the file cannot be read or has no energy.
    """
    builder = RecordingBuilder("perf stat", str(path), max_gap_s=float("inf"))
    points: dict[str, list[tuple[int, float]]] = {}
    for line in _lines(Path(path)):
        builder.lines += 1
        cells = _perf_cells(line)
        if cells is None:
            builder.dropped += not line.startswith("#")
            continue
        at_ns, name, joules = cells
        points.setdefault(name, []).append((at_ns, joules))
    if not points:
        raise TraceError(f"{path}: no line of perf stat -I -x, with an energy in Joules")
    domains = {name.partition(":")[0] for name in points}
    roots = ("pkg", "ram") if "pkg" in domains else _DOMAINS
    for name, pairs in points.items():
        domain, _, socket = name.partition(":")
        part = domain not in roots
        parent = f"pkg:{socket}" if socket else "pkg"
        builder.channel(name, root=not part, parent=parent if part and domain != "psys" and parent in points else "")
        _add_intervals(builder, name, pairs)
    if builder.dropped:
        builder.note(f"{builder.dropped} of {builder.lines} lines could not be used")
    return builder.finish()


def _perf_cells(line: str) -> tuple[int, str, float] | None:
    """End of the interval in ns, name of the channel, and energy in J."""
    cells = [cell.strip() for cell in line.split(",")]
    at = next((i for i, cell in enumerate(cells) if _EVENT.fullmatch(cell)), None)
    # Behind the event are the time it ran, in ns, and its share in percent: without them the line is cut.
    if at is None or at not in (3, 5) or len(cells) < at + 3 or cells[at - 1] != "Joules":
        return None
    try:
        seconds, joules, ran_ns = float(cells[0]), float(cells[at - 2]), float(cells[at + 1])
    except ValueError:
        return None
    if not (0 < seconds < 1e9 and joules >= 0 and ran_ns > 0):
        return None
    match = _EVENT.fullmatch(cells[at])
    domain = match[1] if match else ""
    return round(seconds * NS_PER_S), f"{domain}:{cells[1]}" if at == 5 else domain, joules


def _add_intervals(builder: RecordingBuilder, name: str, pairs: list[tuple[int, float]]) -> None:
    """Mean powers, each at the two ends of its interval; lost lines are holes of the usual length of an interval."""
    kept = dict(pairs)
    ends = np.array(sorted(kept), np.int64)
    usual = float(np.median(np.diff(ends, prepend=0)))
    back = len(pairs) - len(kept) + sum(b < a for (a, _), (b, _) in pairwise(pairs))
    time_ns: list[int] = []
    watts: list[float] = []
    segment: list[int] = []
    last = number = lost = 0
    for end in ends.tolist():
        joules, begin = kept[end], last
        if end - last > 1.5 * usual:
            begin, number, lost = int(end - usual), number + 1, lost + 1
        power = joules / ((end - begin) / NS_PER_S)
        time_ns += [begin, end]
        watts += [power, power]
        segment += [number, number]
        last = end
    if lost:
        builder.note(f"{name}: {counted(lost, 'stretch')} without lines: not counted")
    if back:
        builder.note(f"{name}: {counted(back, 'line')} twice or out of order: read once, in order")
    builder.add(name, np.array(time_ns, np.int64), np.array(segment, np.int32), np.array(watts))


def read_turbostat(
    path: str | Path, *, timezone: str = "UTC", period_s: float | None = None, max_gap_s: float | None = None
) -> Recording:
    """Read the output of turbostat with the column PkgWatt; the lines of the whole system are used.

    Parameters
    ----------
    path : path
    timezone : str
        Not used here: Time_Of_Day_Seconds are seconds since 1970.
    period_s : float, optional
        Seconds between two lines (``--interval``), for an output without Time_Of_Day_Seconds.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        ``turbostat:PkgWatt`` and ``turbostat:RAMWatt`` count; GFXWatt and CorWatt are parts of the first.

    Raises
    ------
    TraceError
        If the file cannot be read, has no line of the whole system, or there is no way to know the times.
    """
    builder = RecordingBuilder("turbostat", str(path), max_gap_s=max_gap_s)
    header: list[str] = []
    rows: list[list[str]] = []
    before = changed = 0
    for line in _lines(Path(path)):
        cells = line.split()
        if "PkgWatt" in cells:
            changed += bool(header) and cells != header
            header = cells
        elif not header:
            before += 1
        else:
            rows += _summary(builder, header, cells, period_s)
    if not header or ("Time_Of_Day_Seconds" not in header and period_s is None):
        among = shown(header) or "nothing"
        raise TraceError(
            f"{path}: no PkgWatt and Time_Of_Day_Seconds among: {among}; run turbostat with "
            "--enable Time_Of_Day_Seconds, or give the seconds between two lines, as in --period 5"
        )
    if not rows:
        raise TraceError(f"{path}: no line of the whole system, which has - in the column CPU")
    if before:
        builder.note(f"{counted(before, 'line')} before the table: left out")
    if changed:
        builder.note(f"the columns change {counted(changed, 'time')}; a new table begins at each header")
    for name in _WATTS:
        if any(row[1] == name for row in rows):
            _declare(builder, "turbostat", name, None if name in _COUNTED else "PkgWatt")
    wanted = Columns("time" if period_s is None else None, "power", None, "rail", "W", period_s)
    add_rows(builder, wanted, _HEADER, iter(rows), "turbostat")
    return builder.finish()


def _summary(builder: RecordingBuilder, header: list[str], cells: list[str], period_s: float | None) -> list[list[str]]:
    """Rows of time, rail and power of one line, if it is that of the whole system."""
    keys = [name for name in ("Package", "Die", "Node", "Core", "CPU") if name in header]
    if keys and cells[: header.index(keys[-1]) + 1].count("-") < len(keys):
        return []
    time = None
    if len(cells) == len(header):
        time = (
            cells[header.index("Time_Of_Day_Seconds")] if period_s is None and "Time_Of_Day_Seconds" in header else ""
        )
    if time is None:
        builder.lines += 1
        builder.dropped += 1
        return []
    return [[time, name, cells[header.index(name)]] for name in _WATTS if name in header]
