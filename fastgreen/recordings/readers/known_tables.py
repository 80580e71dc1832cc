# SPDX-License-Identifier: Apache-2.0
"""Readers of tables with fixed columns: amd-smi, Zeus, Home Assistant, InfluxDB; and of Carbontracker's log."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.any_table import Columns, add_rows
from fastgreen.recordings.readers.text import csv_rows, open_text, shown
from fastgreen.recordings.readers.timestamps import ABSENT_NS, check_zone, to_utc_ns
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import NS_PER_S, counted

__all__ = ["known_table", "read_amd_smi", "read_carbontracker", "read_home_assistant", "read_influxdb", "read_zeus"]

_AMD_POWERS = ("socket_power", "current_socket_power", "average_socket_power", "power_usage", "power")
_POWER_NAME = re.compile(r"power|watt", re.IGNORECASE)
_ZEUS = ["start_time", "window_name", "elapsed_time"]
_HOME = ["entity_id", "state", "last_changed"]
_TRACKER = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) - (.*)$")
_DURATION = re.compile(r"^Duration: (?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)$")
_AVERAGE = re.compile(r"^Average power usage \(W\) for (\w+): \[?([^\]]*)\]?$")


def known_table(row: list[str]) -> str | None:
    """Name of the format that a row of a CSV file is the header of."""
    if row[:3] == _ZEUS:
        return "zeus"
    if row[:3] == _HOME:
        return "home-assistant"
    if "_time" in row and "_value" in row:
        return "influxdb"
    if "timestamp" in row and "gpu" in row and any(name in row for name in _AMD_POWERS):
        return "amd-smi"
    return None


def _rows(builder: RecordingBuilder, path: Path, form: str) -> tuple[list[str], Iterator[list[str]]]:
    """The header, and the rows below it; a note reports lines before it that are no comments."""
    before = 0
    rows = _all_rows(path)
    first: list[str] = []
    for number, row in enumerate(rows):
        first = first or row
        if known_table(row) == form:
            if before:
                builder.note(f"{counted(before, 'line')} before the header: left out")
            return row, rows
        before += not row[0].startswith("#")
        if number > 1000:
            break
    raise TraceError(f"{path}: no header of {form} among: {shown(first) or 'nothing'}")


def _all_rows(path: Path) -> Iterator[list[str]]:
    try:
        with open_text(path) as stream:
            for row in csv_rows(stream):
                yield [cell.strip() for cell in row]
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None


def read_amd_smi(path: str | Path, *, timezone: str = "UTC", max_gap_s: float | None = None) -> Recording:
    """Read the output of ``amd-smi metric -p --csv -w S`` or ``amd-smi monitor -p --csv -w S``.

    Parameters
    ----------
    path : path
    timezone : str
        Time zone of times that are not seconds since 1970.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        ``gpu:<index>`` in watts, a root per GPU.

    Raises
    ------
    TraceError
        If the file cannot be read, or has no columns timestamp, gpu and a power.
    """
    path = Path(path)
    builder = RecordingBuilder("amd-smi", str(path), max_gap_s=max_gap_s)
    header, rows = _rows(builder, path, "amd-smi")
    power = next(name for name in _AMD_POWERS if name in header)
    if "xcp" in header:  # a row for each part of a GPU; the first has the power of the whole
        at = header.index("xcp")
        rows = (row for row in rows if len(row) <= at or row[at] in ("0", "xcp", "", "N/A"))
    add_rows(builder, Columns("timestamp", power, None, "gpu", "W", None, check_zone(timezone)), header, rows, "gpu")
    return builder.finish()


def read_influxdb(path: str | Path, *, timezone: str = "UTC", max_gap_s: float | None = None) -> Recording:
    """Read an annotated CSV file of InfluxDB, as ``influx query`` and its page export it.

    Parameters
    ----------
    path : path
    timezone : str
        Time zone of times without an offset.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        ``power:<series>`` in watts, for each series whose _field has power or watt in its name.

    Raises
    ------
    TraceError
        If the file cannot be read or no series is a power.
    """
    path = Path(path)
    builder = RecordingBuilder("InfluxDB", str(path), max_gap_s=max_gap_s)
    header, rows = _rows(builder, path, "influxdb")
    long: list[list[str]] = []
    left: dict[str, None] = {}
    for row in rows:
        if row[0].startswith("#"):
            continue
        if known_table(row) == "influxdb":
            header = row
        elif len(row) != len(header):
            builder.lines += 1
            builder.dropped += 1
        else:
            _influx_row(header, row, long, left)
    if left:
        builder.note(f"series without power or watt in the name: left out, as {shown(left, 100)}")
    if not long:
        raise TraceError(
            f"{path}: no series with power or watt in its name; name the columns: --time _time --power _value"
        )
    add_rows(builder, Columns("time", "power", None, "series", "W", None, check_zone(timezone)),
             ["time", "series", "power"], iter(long), "power")  # fmt: skip
    return builder.finish()


def _influx_row(header: list[str], row: list[str], long: list[list[str]], left: dict[str, None]) -> None:
    cells = dict(zip(header, row, strict=True))
    tags = [v for k, v in cells.items() if k and not k.startswith("_") and k not in ("result", "table")]
    names = [cells.get("_measurement", ""), cells.get("_field", ""), *tags]
    series = "/".join(dict.fromkeys(name for name in names if name)) or cells.get("table", "")
    if not _POWER_NAME.search(series):
        left[series] = None
        return
    unit = next((u for u in ("mW", "kW") if re.search(rf"(?:_|\b){u}$", cells.get("_field", ""), re.IGNORECASE)), "")
    long.append([cells["_time"], series, cells["_value"] + unit])


def read_home_assistant(path: str | Path, *, timezone: str = "UTC") -> Recording:
    """Read a CSV file that the page History of Home Assistant exports, with sensors in W.

    It has a row for each change, so a power holds until the next row of its sensor.

    Parameters
    ----------
    path : path
    timezone : str
        Time zone of times without an offset.

    Returns
    -------
    Recording
        A root for each sensor with power or watt in its name. A state without a number is a gap.

    Raises
    ------
    TraceError
        If the file cannot be read or no sensor is a power.
    """
    path = Path(path)
    builder = RecordingBuilder("Home Assistant", str(path), max_gap_s=math.inf)
    _, rows = _rows(builder, path, "home-assistant")
    sensors: dict[str, list[tuple[str, float]]] = {}
    left: dict[str, None] = {}
    for row in rows:
        if known_table(row):
            continue
        builder.lines += 1
        if len(row) < 3:
            builder.dropped += 1
        elif not _POWER_NAME.search(row[0]):
            left[row[0]] = None
        else:
            sensors.setdefault(row[0], []).append((row[2], _watts(row[1])))
    if not sensors:
        raise TraceError(
            f"{path}: no sensor with power or watt in its name among: {shown(left) or 'nothing'}; name the columns: "
            "--time last_changed --power state --device entity_id"
        )
    if left:
        builder.note(f"sensors without power or watt in the name: left out, as {shown(left, 100)}")
    builder.note("only changes are in the file: each power holds until the next row, and is taken as W")
    for name, states in sensors.items():
        builder.channel(name, root=True)
        stamps = to_utc_ns([time for time, _ in states], check_zone(timezone))
        good = stamps != ABSENT_NS
        builder.dropped += int((~good).sum())
        _add_steps(builder, name, stamps[good], np.array([watts for _, watts in states])[good])
    if builder.dropped:
        builder.note(f"{builder.dropped} of {builder.lines} rows could not be used")
    return builder.finish()


def _watts(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan


def _add_steps(builder: RecordingBuilder, name: str, stamps: np.ndarray, watts: np.ndarray) -> None:
    """Powers that hold until the next row; a segment for each step."""
    order = np.argsort(stamps, kind="stable")
    if (np.diff(stamps) < 0).any():
        builder.note(f"{name}: rows out of order are sorted")
    stamps, watts = stamps[order], watts[order]
    time_ns = np.column_stack([stamps[:-1], stamps[1:]]).ravel()
    builder.add(name, time_ns, np.repeat(np.arange(stamps.size - 1), 2), np.repeat(watts[:-1], 2))


def read_zeus(path: str | Path, *, timezone: str = "UTC") -> Recording:
    """Read a log file of ZeusMonitor: a row for each measurement window.

    Parameters
    ----------
    path : path
    timezone : str
        Not used here: start_time is seconds since 1970.

    Returns
    -------
    Recording
        ``gpu:<index>`` in watts, the mean of each window. Windows inside a longer window do not count.

    Raises
    ------
    TraceError
        If the file cannot be read or has no column gpuN_energy.
    """
    path = Path(path)
    builder = RecordingBuilder("Zeus", str(path), max_gap_s=math.inf)
    header, rows = _rows(builder, path, "zeus")
    gpus = [name.removesuffix("_energy") for name in header[3:] if re.fullmatch(r"gpu\d+_energy", name)]
    if not gpus or len(gpus) != len(header) - 3:
        raise TraceError(f"{path}: no columns gpu0_energy and so on alone among: {shown(header[3:]) or 'nothing'}")
    windows: dict[tuple[int, int, str], list[float]] = {}
    twice = 0
    for row in rows:
        if row == header:
            continue
        builder.lines += 1
        # The name of a window may hold commas.
        numbers = [_watts(cell) for cell in (row[0], *row[-len(gpus) - 1 :])]
        if len(row) < len(header) or not all(map(math.isfinite, numbers)) or not 0 < numbers[1] < 1e9 > numbers[0] / 4:
            builder.dropped += 1
            continue
        begin = round(numbers[0] * NS_PER_S)
        key = (begin, -round(numbers[1] * NS_PER_S), ",".join(row[1 : -len(gpus) - 1]))
        twice += key in windows
        windows[key] = numbers[2:]
    _add_windows(builder, gpus, windows)
    if twice:
        builder.note(f"{counted(twice, 'window')} twice in the file: read once")
    if builder.dropped:
        builder.note(f"{builder.dropped} of {builder.lines} rows could not be used")
    return builder.finish()


def _add_windows(builder: RecordingBuilder, gpus: list[str], windows: dict[tuple[int, int, str], list[float]]) -> None:
    last = inside = overlapping = 0
    outer: list[tuple[int, int, list[float]]] = []
    for begin, negative, name in sorted(windows):
        end = begin - negative
        if end <= last:
            inside += 1
        elif begin < last:
            overlapping += 1
        elif end > begin:
            outer.append((begin, end, windows[begin, negative, name]))
            last = end
    if inside:
        builder.note(f"{counted(inside, 'window')} inside a longer one: not counted")
    if overlapping:
        builder.note(f"{counted(overlapping, 'window')} that overlap an earlier one: not counted")
    for place, gpu in enumerate(gpus):
        name = f"gpu:{gpu.removeprefix('gpu')}"
        builder.channel(name, root=True)
        watts = np.array([joules[place] / ((end - begin) / NS_PER_S) for begin, end, joules in outer])
        time_ns = np.array([moment for begin, end, _ in outer for moment in (begin, end)], np.int64)
        builder.add(name, time_ns, np.repeat(np.arange(len(outer)), 2), np.repeat(watts, 2))


def read_carbontracker(path: str | Path, *, timezone: str = "UTC") -> Recording:
    """Read the log of Carbontracker (``*_carbontracker.log``): a mean power and a duration for each epoch.

    Parameters
    ----------
    path : path
    timezone : str
        Time zone of the machine that wrote it.

    Returns
    -------
    Recording
        ``gpu:<n>`` and ``cpu:<n>`` in watts, as measured, without the factor for the building that the log's own sums
        hold.

    Raises
    ------
    TraceError
        If the file cannot be read or has no epoch.
    """
    path = Path(path)
    builder = RecordingBuilder("Carbontracker", str(path), max_gap_s=math.inf)
    epochs: dict[str, list[tuple[int, int, float]]] = {}
    length = 0
    for row in _lines(path):
        builder.lines += 1
        match = _TRACKER.match(row)
        if match is None:
            builder.dropped += 1
            continue
        if match[2].startswith("Epoch "):
            length = 0
        elif (duration := _DURATION.match(match[2])) is not None:
            days, hours, minutes, seconds = duration.groups()
            whole = timedelta(days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
            length = round(whole.total_seconds() * NS_PER_S)
        elif (average := _AVERAGE.match(match[2])) is not None:
            end = int(to_utc_ns([match[1]], check_zone(timezone))[0])
            values = [_watts(text) for text in re.split(r"[,\s]+", average[2].strip())]
            if end == ABSENT_NS or length <= 0 or not all(map(math.isfinite, values)):
                builder.dropped += 1
                continue
            for number, watts in enumerate(values):
                epochs.setdefault(f"{average[1]}:{number}", []).append((end - length, end, watts))
    if not epochs:
        raise TraceError(f"{path}: no epoch of Carbontracker with a duration and a power")
    for name, stretches in epochs.items():
        _add_epochs(builder, name, stretches)
    if builder.dropped:
        builder.note(f"{builder.dropped} of {builder.lines} lines could not be used")
    builder.note("powers as measured, without the factor for the building in Carbontracker's own sums")
    return builder.finish()


def _lines(path: Path) -> Iterator[str]:
    try:
        with open_text(path) as stream:
            yield from (line.strip() for line in stream if line.strip())
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None


def _add_epochs(builder: RecordingBuilder, name: str, stretches: list[tuple[int, int, float]]) -> None:
    """Epochs end at whole seconds in the log, so one may begin a little before the end of the last."""
    builder.channel(name, root=True)
    kept: list[tuple[int, int, float]] = []
    again = 0
    for begin, end, watts in sorted(stretches):
        if kept and (begin, end) == kept[-1][:2]:
            again += 1
            continue
        shift = max(0, kept[-1][1] - begin) if kept else 0
        if shift > (end - begin) / 2 + NS_PER_S:
            again += 1
            continue
        kept.append((begin + shift, end + shift, watts))
    if again:
        builder.note(f"{name}: {counted(again, 'epoch')} twice, or inside another one: read once")
    time_ns = np.array([moment for begin, end, _ in kept for moment in (begin, end)], np.int64)
    watts_of = np.repeat([watts for *_, watts in kept], 2)
    builder.add(name, time_ns, np.repeat(np.arange(len(kept)), 2), watts_of)
