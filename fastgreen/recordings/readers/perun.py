# SPDX-License-Identifier: Apache-2.0
"""Reader of the table that ``perun export FILE csv`` makes of perun's measurements."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.text import csv_rows, open_text, shown
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import NS_PER_S, counted

__all__ = ["is_perun", "other_perun", "read_perun"]

_NAMES = ["run id", "hostname", "device_group", "sensor", "unit", "magnitude", "timestep", "value"]
# perun replaces a counter of energy by the mean powers of its steps.
_COUNTER = re.compile(r"(?:cpu|ram)_\d+_")
_GRACE = re.compile(r"(module|grace|cpu|sysio)_power_socket_(\d+)_")
_LONGEST_S = 1e9


def is_perun(line: str) -> bool:
    """Whether a line is the header of perun's table."""
    return [cell.strip() for cell in line.split(",")][-len(_NAMES) :] == _NAMES


def other_perun(head: str) -> bool:
    """Whether a text is another output of perun, which has no table of powers."""
    kinds = '"deviceType"' in head and '"nodes"' in head
    return head.startswith("\ufffdHDF") or head.lstrip().startswith("PERUN REPORT") or kinds


def read_perun(path: str | Path, *, timezone: str = "UTC", max_gap_s: float | None = None) -> Recording:
    """Read the table that ``perun export FILE csv`` makes.

    Parameters
    ----------
    path : path
    timezone : str
        Not used here: perun writes seconds from the begin of each run.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        A channel per sensor with the unit W or J; with several hosts their names come first. Runs follow each other
        from 1970-01-01 00:00 on, a segment each. On a Grace processor the largest part of a socket that was measured
        counts.

    Raises
    ------
    TraceError
        If the file cannot be read, is another output of perun, or has no sensor with a power or an energy.
    """
    path = Path(path)
    builder = RecordingBuilder("perun", str(path), max_gap_s=max_gap_s)
    runs: dict[str, dict[tuple[str, str], list[tuple[float, float, str]]]] = {}
    numbers: dict[str, None] = {}
    twice = back = 0
    last = -1
    for row in _rows(builder, path):
        if len(row) == len(_NAMES) + 1:
            twice += row[0] in numbers
            if row[0] in numbers:
                continue
            numbers[row[0]] = None
            back += row[0].isdigit() and int(row[0]) < last
            last = int(row[0]) if row[0].isdigit() and len(row[0]) < 19 else last
        run, host, _, sensor, unit, magnitude, time, value = row[-len(_NAMES) :]
        point = _number(time), _number(value) * _number(magnitude), unit
        if unit not in ("W", "J"):
            continue
        if not (0 <= point[0] < _LONGEST_S):
            builder.dropped += 1
            continue
        runs.setdefault(run, {}).setdefault((host, sensor), []).append(point)
    if not runs:
        raise TraceError(f"{path}: no sensor of perun with a power in W or an energy in J")
    _note_numbers(builder, numbers, twice, back)
    _add_runs(builder, runs)
    builder.note("perun writes no date: the runs follow each other from 1970 on")
    if builder.dropped:
        builder.note(f"{builder.dropped} of {builder.lines} rows could not be used")
    return builder.finish()


def _rows(builder: RecordingBuilder, path: Path) -> Iterator[list[str]]:
    """Rows below the header, each as wide as it."""
    begun = 0
    first: list[str] = []
    try:
        with open_text(path) as stream:
            if other_perun(stream.read(65536)):
                raise TraceError(f"{path}: no table of perun; make one with `perun export FILE csv`")
        with open_text(path) as stream:
            for row in csv_rows(stream):
                cells = [cell.strip() for cell in row]
                first = first or cells
                if cells[-len(_NAMES) :] == _NAMES:
                    begun = len(cells)
                elif not begun:
                    builder.lines += 1
                    builder.dropped += 1
                else:
                    builder.lines += 1
                    if len(cells) == begun:
                        yield cells
                    else:
                        builder.dropped += 1
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    if not begun:
        raise TraceError(f"{path}: no columns {', '.join(_NAMES)} among: {shown(first) or 'nothing'}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _note_numbers(builder: RecordingBuilder, numbers: dict[str, None], twice: int, back: int) -> None:
    """The rows of perun have numbers, so a row that was lost, repeated or moved shows."""
    if twice:
        builder.note(f"{counted(twice, 'row')} twice in the file: read once")
    if back:
        builder.note(f"{counted(back, 'row')} out of order")
    known = [int(number) for number in numbers if number.isdigit() and len(number) < 19]
    missing = max(known) + 1 - len(known) if known else 0
    if missing > 0:
        builder.note(f"{counted(missing, 'row')} missing, by the numbers of the rows")


def _add_runs(
    builder: RecordingBuilder, runs: dict[str, dict[tuple[str, str], list[tuple[float, float, str]]]]
) -> None:
    sensors = dict.fromkeys(key for run in runs.values() for key in run)
    several = len({host for host, _ in sensors}) > 1
    names = {key: f"{key[0]}/{key[1]}" if several else key[1] for key in sensors}
    for key, name in names.items():
        whole = _whole_of(key, sensors)
        builder.channel(name, root=whole is None, parent=names[whole] if whole else "")
    begin_ns = segment = unsorted = restarts = absent = 0
    for run in runs.values():
        end_ns = begin_ns
        for key, points in run.items():
            ordered = sorted(points, key=lambda point: point[0])
            unsorted += ordered != points
            time_ns = np.array([begin_ns + round(at * NS_PER_S) for at, *_ in ordered], np.int64)
            values = np.array([value if value >= 0 else math.nan for _, value, _ in ordered])
            absent += int(np.isnan(values).sum())
            end_ns = max(end_ns, int(time_ns[-1]))
            if ordered[0][2] == "J":
                growth = np.diff(values, prepend=math.nan)
                restarts += int((growth < 0).sum())
                time_ns, values = _steps(time_ns, np.where(growth < 0, math.nan, growth) / _seconds(time_ns))
            elif _COUNTER.match(key[1]):
                time_ns, values = _steps(time_ns, values)
            builder.add(names[key], time_ns, np.full(time_ns.size, segment, np.int32), values)
        begin_ns, segment = end_ns + 1, segment + 1
    if unsorted:
        builder.note("rows out of order are sorted")
    if restarts:
        builder.note(f"a counter of energy goes back {counted(restarts, 'time')}: that step is unknown")
    if absent:
        builder.note(f"{counted(absent, 'value')} negative or without a number: absent")


def _seconds(time_ns: np.ndarray) -> np.ndarray:
    """Length of the step before each point, NaN where it has none."""
    steps = np.diff(time_ns, prepend=time_ns[0]) / NS_PER_S
    return np.where(steps > 0, steps, math.nan)


def _steps(time_ns: np.ndarray, watts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean powers of the steps that end at each point, each at both ends of its step."""
    return np.column_stack([time_ns[:-1], time_ns[1:]]).ravel(), np.repeat(watts[1:], 2)


def _whole_of(key: tuple[str, str], sensors: dict[tuple[str, str], None]) -> tuple[str, str] | None:
    """The sensor of a Grace processor that holds this one: the module holds all, the socket its CPU and SysIO."""
    match = _GRACE.match(key[1])
    if match is None or match[1] == "module":
        return None
    for kind in ("module", "grace") if match[1] != "grace" else ("module",):
        for other in sensors:
            found = _GRACE.match(other[1])
            if other[0] == key[0] and found and found[1] == kind and found[2] == match[2]:
                return other
    return None
