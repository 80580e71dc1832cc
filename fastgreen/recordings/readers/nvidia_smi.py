"""Reader of logs of ``nvidia-smi --query-gpu=timestamp,power.draw,... --format=csv -l 1``, with units or without."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.text import csv_rows, open_text, shown
from fastgreen.recordings.readers.timestamps import ABSENT_NS, check_zone, segments_of, to_utc_ns
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import counted

__all__ = ["read_nvidia_smi"]

_ROWS = 1 << 16
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
_GPU_COLUMNS = ("index", "gpu_index", "uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id")


def read_nvidia_smi(path: str | Path, *, timezone: str = "UTC", drop_first: int = 0, drop_last: int = 0) -> Recording:
    """Read a CSV log of nvidia-smi.

    Parameters
    ----------
    path : path
        The file.
    timezone : str
        Time zone of the machine that wrote it; the timestamps are local times without offset.
    drop_first, drop_last : int
        Rows to leave out at the start and at the end, before and after the work.

    Returns
    -------
    Recording
        ``gpu:<index>`` in watts, a root per GPU, and gauges ``gpu:<index>/use`` (fraction), ``/memory`` (bytes),
        ``/temperature``. Units in a value (``53.93 W``) or in the header (``power.draw [W]``) are used.

    Raises
    ------
    TraceError
        If the file cannot be read, or has no column of time or no other known column.
    ValueError
        If `drop_first` or `drop_last` is negative.
    """
    check_zone(timezone)
    for name, value in (("drop_first", drop_first), ("drop_last", drop_last)):
        if value < 0:
            raise ValueError(f"{name} must be 0 or above, not {value}")
    path = Path(path)
    builder = RecordingBuilder("nvidia-smi", str(path))
    try:
        with open_text(path) as stream:
            rows = _trimmed(csv_rows(stream), drop_first, drop_last)
            _Reader(builder, timezone, next(rows, [])).read(rows)
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    return builder.finish()


def _trimmed(rows: Iterator[list[str]], first: int, last: int) -> Iterator[list[str]]:
    header = next(rows, None)
    if header is None:
        return
    yield header
    waiting: list[list[str]] = []
    for number, row in enumerate(rows):
        if number < first:
            continue
        waiting.append(row)
        if len(waiting) > last:
            yield waiting.pop(0)


class _Reader:
    def __init__(self, builder: RecordingBuilder, timezone: str, header: list[str]) -> None:
        self.builder = builder
        self.timezone = timezone
        self.header = header
        split = [_split_header(text) for text in header]
        names = [name for name, _ in split]
        self.units = [unit for _, unit in split]
        self.time_at = names.index("timestamp") if "timestamp" in names else -1
        self.gpu_at = next((names.index(n) for n in _GPU_COLUMNS if n in names), -1)
        self.known = [(i, _COLUMNS[n]) for i, n in enumerate(names) if n in _COLUMNS]
        if self.time_at < 0 or not self.known:
            among = shown(header) or "nothing"
            raise TraceError(f"{builder.path}: not a log of nvidia-smi; no timestamp and power.draw among: {among}")
        self.open: dict[str, tuple[int, int]] = {}
        self.gpus: dict[str, int] = {}
        self.bad_values = self.back = 0

    def read(self, rows: Iterator[list[str]]) -> None:
        chunk: list[list[str]] = []
        for row in rows:
            self.builder.lines += 1
            if row == self.header:
                continue
            if len(row) < len(self.header):
                self.builder.dropped += 1
                continue
            chunk.append(row)
            if len(chunk) == _ROWS:
                self._chunk(chunk)
                chunk = []
        self._chunk(chunk)
        if self.back:
            self.builder.note(f"time goes back {counted(self.back, 'time')}; a new segment begins at each")
        if self.bad_values:
            self.builder.note(
                f"{counted(self.bad_values, 'value')} without a number or with a unit that does not fit: absent"
            )
        if self.builder.dropped:
            self.builder.note(f"{self.builder.dropped} of {self.builder.lines} rows could not be used")

    def _chunk(self, rows: list[list[str]]) -> None:
        stamps = to_utc_ns([row[self.time_at].replace("/", "-") for row in rows], self.timezone)
        good = stamps != ABSENT_NS
        self.builder.dropped += int((~good).sum())
        gpus = [row[self.gpu_at] if self.gpu_at >= 0 else "0" for row in rows]
        for gpu in dict.fromkeys(gpus):
            mine = np.flatnonzero(good & np.array([g == gpu for g in gpus]))
            if mine.size:
                self._gpu(gpu, stamps[mine], [rows[i] for i in mine])

    def _gpu(self, gpu: str, stamps: np.ndarray, rows: list[list[str]]) -> None:
        number = gpu if gpu.isdigit() else str(self.gpus.setdefault(gpu, len(self.gpus)))
        last_ns, segment = self.open.get(gpu, (None, 0))
        numbers, segment, back = segments_of(stamps, np.zeros(stamps.size, bool), last_ns, segment)
        self.back += back
        self.open[gpu] = (int(stamps[-1]), segment)
        for at, (suffix, kind, unit, scales) in self.known:
            name = f"gpu:{number}{suffix}"
            power = kind == "power"
            self.builder.channel(
                name, kind=kind, unit=unit, root=power and not suffix, parent=f"gpu:{number}" if suffix else ""
            )
            values = np.array([self._value(row[at], self.units[at], scales) for row in rows])
            if power:
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
