"""Reader of logs of ``nvidia-smi --query-gpu=timestamp,power.draw,... --format=csv -l 1``, with units or without."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.series import Series, first_of_moment
from fastgreen.recordings.readers.tables import Tables, trimmed
from fastgreen.recordings.readers.text import begins_with_time, csv_rows, open_text, shown
from fastgreen.recordings.readers.timestamps import ABSENT_NS, check_zone, segments_of, to_utc_ns
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import counted

__all__ = ["is_header", "read_nvidia_smi"]

_REMARKS = 100  # lines before the header
_TWO_DECIMALS = re.compile(r"^\d+\.\d\d$")
_NUMBER = re.compile(r"^\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*(\[?[A-Za-z%]*\]?)\s*$")
_TO_WATT = {"": 1.0, "w": 1.0, "mw": 1e-3, "kw": 1e3}
_TO_BYTE = {
    "": float(1 << 20),
    "mib": float(1 << 20),
    "kib": 1024.0,
    "gib": float(1 << 30),
    "mb": 1e6,
    "gb": 1e9,
    "b": 1.0,
}
_TO_ONE = {"": 0.01, "%": 0.01}
_TO_SAME = {"": 1.0, "c": 1.0}

# header without unit -> (channel, kind, unit, scales by the unit that the value or the header carries)
_COLUMNS = {
    "power.draw": ("", "power", "W", _TO_WATT),
    "gpu_power_draw": ("", "power", "W", _TO_WATT),
    "power_draw": ("", "power", "W", _TO_WATT),
    "power.draw.instant": ("/instant", "power", "W", _TO_WATT),
    "power.draw.average": ("/average", "power", "W", _TO_WATT),
    "utilization.gpu": ("/use", "gauge", "1", _TO_ONE),
    "gpu_usage": ("/use", "gauge", "1", _TO_ONE),
    "utilization.memory": ("/memory_use", "gauge", "1", _TO_ONE),
    "gpu_memory_usage": ("/memory_use", "gauge", "1", _TO_ONE),
    "memory.used": ("/memory", "gauge", "B", _TO_BYTE),
    "gpu_memory_used": ("/memory", "gauge", "B", _TO_BYTE),
    "memory.total": ("/memory_total", "gauge", "B", _TO_BYTE),
    "gpu_total_memory": ("/memory_total", "gauge", "B", _TO_BYTE),
    "temperature.gpu": ("/temperature", "gauge", "C", _TO_SAME),
    "gpu_temperature": ("/temperature", "gauge", "C", _TO_SAME),
    "power.limit": ("/power_limit", "gauge", "W", _TO_WATT),
    "enforced.power.limit": ("/power_limit", "gauge", "W", _TO_WATT),
    "gpu_max_power": ("/power_limit", "gauge", "W", _TO_WATT),
}
# The first of these columns tells boards apart; an index may change with a restart, and is the last.
_BOARD_COLUMNS = ("uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id", "serial", "gpu_serial", "index", "gpu_index")
_NAME_COLUMNS = ("name", "gpu_name")
_INDEX_COLUMNS = ("index", "gpu_index")


def read_nvidia_smi(
    path: str | Path,
    *,
    timezone: str = "UTC",
    drop_first: int = 0,
    drop_last: int = 0,
    columns: Sequence[str] | None = None,
    max_gap_s: float | None = None,
) -> Recording:
    """Read a CSV log of nvidia-smi.

    Parameters
    ----------
    path : path
        The file.
    timezone : str
        Time zone of the machine that wrote it; the timestamps are local times without offset.
    drop_first, drop_last : int
        Rows to leave out at the start and at the end, before and after the work.
    columns : sequence of str, optional
        Names of the columns, as given to ``--query-gpu``, for a file without a header. By default such a file must have
        one column that can be the power: with the unit W, or with two decimals.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        ``gpu:<index>`` in watts, a root per GPU (power.draw; else power.draw.instant; else power.draw.average), and
        gauges ``gpu:<index>/use`` (fraction), ``/memory`` (bytes),
        ``/temperature``. Units in a value (``53.93 W``) or in the header (``power.draw [W]``) are used.

    Raises
    ------
    TraceError
        If the file cannot be read, has no column of time or no other known column, or has rows of several boards that
        cannot be told apart.
    ValueError
        If `drop_first` or `drop_last` is negative, or `max_gap_s` is not above 0.
    """
    check_zone(timezone)
    for name, value in (("drop_first", drop_first), ("drop_last", drop_last)):
        if value < 0:
            raise ValueError(f"{name} must be 0 or above, not {value}")
    path = Path(path)
    builder = RecordingBuilder("nvidia-smi", str(path), max_gap_s=max_gap_s)
    try:
        with open_text(path) as stream:
            rows = csv_rows(stream)
            header = list(columns) if columns else _header(builder, rows)
            first = []
            if not is_header(header) and not columns:
                first, header = [header], _guessed(builder, header)
            _Reader(builder, timezone).read(header, trimmed(chain(first, rows), drop_first, drop_last))
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    return builder.finish()


def _header(builder: RecordingBuilder, rows: Iterator[list[str]]) -> list[str]:
    """The first row that is a header or has a time; the lines before it are remarks of a driver."""
    first: list[str] = []
    for number, row in enumerate(islice(rows, _REMARKS)):
        if is_header(row) or begins_with_time(row):
            if number:
                builder.note(f"{counted(number, 'line')} before the table: left out")
            return row
        first = first or row
    return first


def _guessed(builder: RecordingBuilder, row: list[str]) -> list[str]:
    """Names for the columns of a file without a header."""
    if not begins_with_time(row):
        return row
    cells = [cell.strip() for cell in row]
    powers = [i for i, cell in enumerate(cells) if i and cell.upper().endswith(" W")]
    powers = powers or [i for i, cell in enumerate(cells) if i and _TWO_DECIMALS.match(cell)]
    example = "--columns timestamp,index,power.draw"
    if len(powers) != 1:
        raise TraceError(
            f"{builder.path} has no header, and it is not clear which column is the power; name them, as in {example}"
        )
    builder.note(f"no header: column {powers[0] + 1} is taken as power.draw (otherwise name them, as in {example})")
    return ["timestamp", *("power.draw" if i in powers else f"column {i + 1}" for i in range(1, len(cells)))]


def is_header(row: list[str]) -> bool:
    """Whether a row names a time and a quantity of nvidia-smi."""
    names = [_split_header(text)[0] for text in row]
    return "timestamp" in names and any(name in _COLUMNS for name in names)


class _Reader:
    def __init__(self, builder: RecordingBuilder, timezone: str) -> None:
        self.builder = builder
        self.timezone = timezone
        self.series = Series(builder, "add index to --query-gpu")
        self.open: dict[str, tuple[int, int]] = {}
        self.bad_values = self.back = self.negative = self.twice = 0

    def read(self, header: list[str], rows: Iterator[list[str]]) -> None:
        if not is_header(header):
            among = shown(header) or "nothing"
            raise TraceError(
                f"{self.builder.path}: not a log of nvidia-smi; no timestamp and power.draw among: {among}"
            )
        for names, chunk in Tables(self.builder, is_header).read(header, rows):
            self._columns(names)
            if chunk:
                self._chunk(chunk)
        self.series.finish()
        for gpu in self.open:
            name = f"gpu:{gpu}"
            self.builder.count_first([name, f"{name}/instant", f"{name}/average"], "power.draw has no value")
        if self.back:
            self.builder.note(f"time goes back {counted(self.back, 'time')}; a new segment begins at each")
        if self.twice:
            self.builder.note(f"{counted(self.twice, 'row')} twice in the file: read once")
        if self.negative:
            self.builder.note(f"{counted(self.negative, 'negative power')}: absent")
        if self.bad_values:
            self.builder.note(
                f"{counted(self.bad_values, 'value')} without a number or with a unit that does not fit: absent"
            )
        if self.builder.dropped:
            self.builder.note(f"{self.builder.dropped} of {self.builder.lines} rows could not be used")

    def _columns(self, header: list[str]) -> None:
        split = [_split_header(text) for text in header]
        names = [name for name, _ in split]
        self.units = [unit for _, unit in split]
        self.time_at = names.index("timestamp")
        self.board_at, self.name_at, self.index_at = (
            next((names.index(name) for name in wanted if name in names), None)
            for wanted in (_BOARD_COLUMNS, _NAME_COLUMNS, _INDEX_COLUMNS)
        )
        self.known = [(i, _COLUMNS[n]) for i, n in enumerate(names) if n in _COLUMNS]

    def _chunk(self, rows: list[list[str]]) -> None:
        stamps = to_utc_ns([row[self.time_at].replace("/", "-") for row in rows], self.timezone)
        good = stamps != ABSENT_NS
        self.builder.dropped += int((~good).sum())
        rows = [row for row, fine in zip(rows, good, strict=True) if fine]
        stamps = stamps[good]
        if self.board_at is not None:
            # One board has one row for a moment, so an equal row is a copy and no second board.
            new = first_of_moment(stamps, rows)
            self.twice += len(rows) - len(new)
            rows, stamps = [rows[place] for place in new], stamps[new]
        if not rows:
            return
        key = self.board_at if self.board_at is not None else self.name_at
        devices = [row[key] if key is not None else "" for row in rows]
        wished = [row[self.index_at] if self.index_at is not None else "" for row in rows]
        exact = "." in rows[0][self.time_at]
        for gpu, mine in self.series.split(stamps, devices, [w if w.isdigit() else "" for w in wished], exact):
            self._gpu(gpu, stamps[mine], [rows[i] for i in mine])

    def _gpu(self, gpu: str, stamps: np.ndarray, rows: list[list[str]]) -> None:
        if not stamps.size:
            return
        last_ns, segment = self.open.get(gpu, (None, 0))
        numbers, segment, back = segments_of(stamps, np.zeros(stamps.size, bool), last_ns, segment)
        self.back += back
        self.open[gpu] = (int(stamps[-1]), segment)
        for at, (suffix, kind, unit, scales) in self.known:
            name = f"gpu:{gpu}{suffix}"
            power = kind == "power"
            self.builder.channel(
                name, kind=kind, unit=unit, root=power and not suffix, parent=f"gpu:{gpu}" if suffix else ""
            )
            values = np.array([self._value(row[at], self.units[at], scales) for row in rows])
            if power:
                self.negative += int((values < 0).sum())
                values = np.where(values < 0, math.nan, values)
            self.builder.add(name, stamps, numbers, values)

    def _value(self, text: str, header_unit: str, scales: dict[str, float]) -> float:
        match = _NUMBER.match(text)
        if match is None:
            self.bad_values += 1
            return math.nan
        scale = scales.get((match[2] or header_unit).strip("[]").lower())
        if scale is None:
            self.bad_values += 1
            return math.nan
        return float(match[1]) * scale if scale != 1.0 else float(match[1])


def _split_header(text: str) -> tuple[str, str]:
    """``power.draw [W]`` -> (``power.draw``, ``W``)."""
    name, _, unit = text.strip().partition(" [")
    return name.strip().lower(), unit.rstrip("] ")
