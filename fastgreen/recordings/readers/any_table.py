"""Reader of any table of times and powers, with the columns that the user names; dmon and rocm-smi are such tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.series import Series
from fastgreen.recordings.readers.tables import Tables
from fastgreen.recordings.readers.text import csv_rows, open_text, shown
from fastgreen.recordings.readers.timestamps import ABSENT_NS, LATEST_NS, check_zone, segments_of, to_utc_ns
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.table_files import JOULES_PER
from fastgreen.units import NS_PER_S, counted

__all__ = ["Columns", "add_rows", "read_dmon", "read_rocm_smi", "read_table"]

WATTS_PER = {"mW": 1e-3, "W": 1.0, "kW": 1e3, "MW": 1e6}
_REMARKS = 200  # lines before the header
_NUMBER = re.compile(r"^([-+]?[\d.,]*\d[\d.,]*(?:[eE][-+]?\d+)?)\s*([A-Za-z]*)$")
_BRACKETS = re.compile(r"[(\[]\s*([^()\[\]]+?)\s*[)\]]$")
_LAST_WORD = re.compile(r"_([A-Za-z]+)$")
_IN_FULL = {"watt": "W", "watts": "W", "milliwatt": "mW", "milliwatts": "mW", "kilowatt": "kW", "kilowatts": "kW"}
_IN_FULL |= {"joule": "J", "joules": "J", "millijoules": "mJ", "kilojoules": "kJ"}
# Seconds since 1970 or since a begin that a table does not name.
_TIME_UNITS = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6, "s": 10**9, "sec": 10**9}
_TIME_UNITS |= {"seconds": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_EARLY = 10**8 * 10**9  # in 1973, before any recording
_GROUPING = re.compile("(?<=\\d)['\u2019\u00a0\u202f\u2009](?=\\d\\d\\d)")
_DAY_FIRST = re.compile(r"^(\d\d)\.(\d\d)\.(\d{4})")
_PACKED_DAY = re.compile(r"^(\d{4})(\d\d)(\d\d)(?=[ T])")
# Seconds since 1970 in these units; the numbers of our age tell them apart.
_EPOCH = ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3), (1e20, 1))


@dataclass
class Columns:
    """The columns of a table: `time` (None: rows have the distance `period_s`), power or energy, and a device."""

    time: str | None
    power: str | None
    energy: str | None = None
    device: str | None = None
    unit: str | None = None
    period_s: float | None = None
    timezone: str = "UTC"

    @property
    def value(self) -> str:
        return self.power or self.energy or ""

    def named(self) -> list[str]:
        return [name for name in (self.time, self.value, self.device) if name]


def read_table(
    path: str | Path,
    *,
    time: str | None = None,
    power: str | None = None,
    energy: str | None = None,
    device: str | None = None,
    unit: str | None = None,
    period_s: float | None = None,
    columns: Sequence[str] | None = None,
    timezone: str = "UTC",
    max_gap_s: float | None = None,
) -> Recording:
    """Read a table of any tool: text with a header, and columns separated by commas, semicolons, tabs, bars or blanks.

    Parameters
    ----------
    path : path
    time : str, optional
        Column of the times: ISO 8601, with or without an offset, day.month.year, or seconds, ms, us or ns since 1970.
    power, energy : str, optional
        Column of the power, or of a counter of energy that only grows. One of them is needed. Numbers may have a unit,
        and a decimal comma where the comma does not part columns.
    device : str, optional
        Column that tells devices apart.
    unit : str, optional
        Unit of the column, if neither its name nor its values give one: mW, W (default), kW, MW for power; mJ to GJ, Wh
        or kWh for energy.
    period_s : float, optional
        Seconds between two rows of a device, in a file without times.
    columns : sequence of str, optional
        Names of the columns of a file without a header.
    timezone : str
        Zone of times without an offset.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s. The steps of a
        counter of energy are never holes.

    Returns
    -------
    Recording
        A root ``<column>`` or, with several devices, ``<column>:<device>``.

    Raises
    ------
    TraceError
        If the file cannot be read or lacks a column.
    ValueError
        If an argument is missing or not possible.
    """
    if (power is None) == (energy is None):
        raise ValueError("power or energy must be given, one of them")
    if (time is None) == (period_s is None):
        raise ValueError("time or period_s must be given, one of them")
    if period_s is not None and not 0 < period_s < 1e9:
        raise ValueError(f"period_s must be above 0, not {period_s}")
    units = WATTS_PER if power else JOULES_PER
    if unit is not None and unit not in units:
        raise ValueError(f"unit must be one of {', '.join(units)}, not {unit!r}")
    check_zone(timezone)
    wanted = Columns(time, power, energy, device, unit, period_s, timezone)
    builder = RecordingBuilder("table", str(path), max_gap_s=float("inf") if energy else max_gap_s)
    header, rows = _table_in(Path(path), wanted, list(columns) if columns else None, builder)
    add_rows(builder, wanted, header, rows)
    return builder.finish()


def read_rocm_smi(
    path: str | Path, *, period_s: float | None = None, timezone: str = "UTC", max_gap_s: float | None = None
) -> Recording:
    """Read the CSV of ``rocm-smi --showpower --csv`` in a loop, which has no times.

    Parameters
    ----------
    path : path
    period_s : float
        Seconds between two passes of the loop.
    timezone, max_gap_s
        Not used here; other readers have them.

    Raises
    ------
    TraceError
        If the file cannot be read, has no column of power, or `period_s` is not given.
    """
    if period_s is None:
        raise TraceError(
            f"{path}: rocm-smi writes no times; give the seconds between two passes of its loop, as in --period 1"
        )
    try:
        with open_text(Path(path)) as stream:
            first = next(csv_rows(stream), [])
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    power = next((name.strip() for name in first if re.search(r"power.*\(W\)", name, re.IGNORECASE)), None)
    if power is None:
        raise TraceError(f"{path}: no column of power in W among: {shown(first) or 'nothing'}")
    return read_table(path, power=power, device=first[0].strip(), period_s=period_s, max_gap_s=max_gap_s)


def read_dmon(
    path: str | Path, *, timezone: str = "UTC", period_s: float | None = None, max_gap_s: float | None = None
) -> Recording:
    """Read the output of ``nvidia-smi dmon -s p -o DT``.

    Parameters
    ----------
    path : path
    timezone : str
        Time zone of the machine that wrote it.
    period_s : float, optional
        Seconds between two rows of a GPU (``-d``), for an output without the option ``-o DT``.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Raises
    ------
    TraceError
        If the file cannot be read, has no column pwr, or neither times nor `period_s`.
    """
    builder = RecordingBuilder("nvidia-smi dmon", str(path), max_gap_s=max_gap_s)
    try:
        with open_text(Path(path)) as stream:
            lines = [line.split() for line in stream if line.strip()]
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    header = [name.lstrip("#") for name in lines[0] if name != "#"] if lines else []
    timed = "Date" in header and "Time" in header
    if "pwr" not in header:
        raise TraceError(f"{path}: no column pwr among: {shown(header) or 'nothing'}")
    if not timed and period_s is None:
        raise TraceError(f"{path}: there is no date and time; give the seconds between two rows, as in --period 1")
    rows = [row for row in lines[1:] if not row[0].startswith("#")]
    if timed:
        header = ["Date Time", *(name for name in header if name not in ("Date", "Time"))]
        rows = [[" ".join(row[:2]), *row[2:]] for row in rows]
    wanted = Columns(
        "Date Time" if timed else None, "pwr", None, "gpu", "W", None if timed else period_s, check_zone(timezone)
    )
    add_rows(builder, wanted, header, iter(rows), "gpu")
    return builder.finish()


def _table_in(
    path: Path, wanted: Columns, columns: list[str] | None, builder: RecordingBuilder
) -> tuple[list[str], Iterator[list[str]]]:
    """The header and the rows below it, by the first separator that gives the named columns."""
    first: list[str] = []
    for separator in (";", "\t", ",", "|", " "):
        try:
            with open_text(path) as stream:
                head = list(islice(csv_rows(stream, separator), _REMARKS))
        except OSError as error:
            raise TraceError(f"{path}: {error.strerror}") from None
        first = head[0] if head and (not first or len(head[0]) > len(first)) else first
        names = [[cell.strip() for cell in row] for row in head]
        if columns is not None:
            if names and len(names[0]) == len(columns):
                return _checked(path, columns, wanted), _rows(path, separator, 0)
            continue
        found = next((n for n, row in enumerate(names) if set(wanted.named()) <= set(row)), None)
        if found is not None:
            if found:
                builder.note(f"{counted(found, 'line')} before the header: left out")
            return names[found], _rows(path, separator, found + 1)
    if columns is not None:
        raise TraceError(f"{path}: the first row has {len(first)} columns, and {len(columns)} are named")
    raise TraceError(f"{path}: no columns {', '.join(wanted.named())} among: {shown(first) or 'nothing'}")


def _checked(path: Path, columns: list[str], wanted: Columns) -> list[str]:
    missing = [name for name in wanted.named() if name not in columns]
    if missing:
        raise TraceError(f"{path}: {missing[0]!r} is not one of the named columns {', '.join(columns)}")
    return columns


def _rows(path: Path, separator: str, skip: int) -> Iterator[list[str]]:
    with open_text(path) as stream:
        yield from islice(csv_rows(stream, separator), skip, None)


def add_rows(
    builder: RecordingBuilder, wanted: Columns, header: list[str], rows: Iterator[list[str]], name: str | None = None
) -> None:
    """Add the rows of a table as channels, and the notes about rows that are left out."""
    adder = _Adder(builder, wanted, name or wanted.value)
    need = set(wanted.named())
    for names, chunk in Tables(builder, lambda row: need <= set(row)).read(header, rows):
        if chunk:
            adder.add(names, chunk)
    adder.finish()


class _Adder:
    def __init__(self, builder: RecordingBuilder, wanted: Columns, name: str) -> None:
        self.builder, self.wanted, self.name = builder, wanted, name
        self.series = Series(builder, "name it with --device")
        self.passes: dict[str, int] = {}
        self.open: dict[str, tuple[int, int]] = {}
        self.counters: dict[str, tuple[int, float]] = {}
        self.back = self.bad = self.restarts = self.negative = 0
        self.mark = self.below = ""

    def add(self, header: list[str], rows: list[list[str]]) -> None:
        wanted = self.wanted
        at = header.index(wanted.value)
        for name in wanted.named():
            if header.count(name) > 1:
                self.builder.note(f"{header.count(name)} columns have the name {name}: the first counts")
        units = WATTS_PER if wanted.power else JOULES_PER
        if (below := _unit_in(rows[0][at], units)) is not None and wanted.unit is None:
            self.below = below  # some tools write the units below the names
            rows = rows[1:]
        scale = _scale(wanted, header[at], self.builder, self.below)
        texts = [_GROUPING.sub("", row[at]) for row in rows]
        self.mark = self.mark or _decimal_mark(texts)
        values = np.array([_value(text, scale, units, self.mark) for text in texts])
        self.bad += int(np.isnan(values).sum())
        self.negative += int((values < 0).sum())
        device_at = header.index(wanted.device) if wanted.device else None
        devices = [row[device_at] if device_at is not None else "" for row in rows]
        if wanted.time is None:
            stamps, exact = self._counted_moments(devices), True
        else:
            time_at = header.index(wanted.time)
            texts = [row[time_at] for row in rows]
            stamps, exact = _moments(texts, wanted.timezone, header[time_at]), any("." in t[8:] for t in texts[:100])
            if ((stamps != ABSENT_NS) & (stamps < _EARLY)).any():
                self.builder.note("times that are small numbers are taken as seconds, or in the unit in their name")
        good = stamps != ABSENT_NS
        self.builder.dropped += int((~good).sum())
        stamps, values = stamps[good], values[good]
        devices = [device for device, fine in zip(devices, good, strict=True) if fine]
        for label, mine in self.series.split(stamps, devices, devices, exact):
            self._one(label if wanted.device or label != "0" else "", stamps[mine], values[mine])

    def _counted_moments(self, devices: list[str]) -> np.ndarray:
        out = np.empty(len(devices), np.int64)
        for i, device in enumerate(devices):
            out[i] = round(self.passes.get(device, 0) * (self.wanted.period_s or 0) * NS_PER_S)
            self.passes[device] = self.passes.get(device, 0) + 1
        return out

    def _one(self, label: str, stamps: np.ndarray, values: np.ndarray) -> None:
        if not stamps.size:
            return
        channel = f"{self.name}:{label}" if label else self.name
        self.builder.channel(channel, root=True)
        values = np.where(values < 0, np.nan, values)
        if self.wanted.energy:
            stamps, values = self._powers(channel, stamps, values)
        last_ns, segment = self.open.get(channel, (None, 0))
        numbers, segment, back = segments_of(stamps, np.zeros(stamps.size, bool), last_ns, segment)
        self.back += back
        if stamps.size:
            self.open[channel] = (int(stamps[-1]), segment)
        self.builder.add(channel, stamps, numbers, values)

    def _powers(self, channel: str, stamps: np.ndarray, joules: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean powers between two readings of a counter, each at the two ends of its step."""
        good = np.isfinite(joules)
        stamps, joules = stamps[good], joules[good]
        if channel in self.counters:
            stamps = np.concatenate([[self.counters[channel][0]], stamps])
            joules = np.concatenate([[self.counters[channel][1]], joules])
        if not stamps.size:
            return stamps, joules
        self.counters[channel] = (int(stamps[-1]), float(joules[-1]))
        step_ns, growth = np.diff(stamps), np.diff(joules)
        self.restarts += int((growth < 0).sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            watts = np.where((growth >= 0) & (step_ns > 0), growth / (step_ns / NS_PER_S), np.nan)
        return np.column_stack([stamps[:-1], stamps[1:]]).ravel(), np.repeat(watts, 2)

    def finish(self) -> None:
        self.series.finish()
        builder = self.builder
        if self.back:
            builder.note(f"time goes back {counted(self.back, 'time')}; a new segment begins at each")
        if self.restarts:
            builder.note(f"the counter of energy goes back {counted(self.restarts, 'time')}: that step is unknown")
        if self.negative:
            builder.note(f"{counted(self.negative, 'negative value')}: absent")
        if self.bad:
            builder.note(f"{counted(self.bad, 'value')} without a number or with a unit that does not fit: absent")
        if builder.dropped:
            builder.note(f"{builder.dropped} of {builder.lines} rows could not be used")


def _unit_in(text: str, units: dict[str, float]) -> str | None:
    """The unit that a text names, in any case. "MW" is megawatts; "mw" and "Mw" are taken as milliwatts."""
    text = text.strip()
    known = {**{unit.lower(): unit for unit in reversed(units)}, **_IN_FULL, **{unit: unit for unit in units}}
    found = known.get(text) or known.get(text.lower())
    return found if found in units else None


def _scale(wanted: Columns, header: str, builder: RecordingBuilder, below: str) -> float:
    units = WATTS_PER if wanted.power else JOULES_PER
    brackets, word = _BRACKETS.search(header), _LAST_WORD.search(header)
    named = _unit_in(brackets[1], units) if brackets else _unit_in(word[1], units) if word else None
    unit = wanted.unit or below or named
    if unit is None and wanted.energy:
        raise TraceError(f"{builder.path}: the unit of {wanted.energy!r} is not known; give it, as in --unit kWh")
    if unit is None and brackets and not brackets[1].isdigit():
        builder.note(f"the unit {shown([brackets[1]], 20)} is not one of {', '.join(units)}: taken as W")
    return units[unit or "W"]


def _decimal_mark(texts: list[str]) -> str:
    """The mark before the decimals, by the numbers that can have one only; empty if none of them tells."""
    votes: set[str] = set()
    for text in texts:
        match = _NUMBER.match(text.strip())
        marks = re.findall(r"[.,]", match[1]) if match else []
        if len(set(marks)) == 2:
            votes.add(marks[-1])
        elif len(marks) > 1:
            votes.add("," if marks[0] == "." else ".")
        elif marks and match and len(re.split(r"[.,eE]", match[1])[1]) != 3:
            votes.add(marks[0])
    return votes.pop() if len(votes) == 1 else ""


def _value(text: str, scale: float, units: dict[str, float], mark: str = "") -> float:
    match = _NUMBER.match(text.strip())
    if match is None or (match[2] and match[2] not in units):
        return np.nan
    number = match[1]
    other = "," if mark == "." else "." if mark == "," else ""
    if not mark and "," in number and "." in number:
        other = "," if number.rfind(".") > number.rfind(",") else "."
    number = number.replace(other, "") if other else number
    try:
        return float(number.replace(",", ".")) * (units[match[2]] if match[2] else scale)
    except ValueError:
        return np.nan


def _moments(texts: list[str], timezone: str, header: str = "") -> np.ndarray:
    word = _BRACKETS.search(header) or _LAST_WORD.search(header)
    scale = _TIME_UNITS.get(word[1].lower(), 10**9) if word else 10**9
    numbers = [_epoch_ns(text, scale) for text in texts]
    if sum(number is not None for number in numbers) * 2 > len(texts):
        return np.array([ABSENT_NS if number is None else number for number in numbers], np.int64)
    plain = (_PACKED_DAY.sub(r"\1-\2-\3", _DAY_FIRST.sub(r"\3-\2-\1", text.strip())) for text in texts)
    return to_utc_ns([text.replace("/", "-") for text in plain], timezone)


def _epoch_ns(text: str, small: int = 10**9) -> int | None:
    """Moment of a number; `small` is the unit in ns of a small one, which is no second since 1970 of our age."""
    try:
        number = Decimal(text.strip().replace(",", "."))
        scale = next((scale for limit, scale in _EPOCH if 0 <= number < limit), None)
        scale = small if scale == 10**9 and (number < 10**8 or small < 10**9) else scale
    except InvalidOperation:
        return None
    moment = int(number * scale) if scale is not None else -1
    return moment if 0 <= moment <= LATEST_NS else ABSENT_NS
