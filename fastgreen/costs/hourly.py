# SPDX-License-Identifier: Apache-2.0
"""Prices and carbon intensities by hour from a CSV file: ElectricityMaps' export, ENTSO-E's, or any other.

The file has a column of times and a column of values; a row per hour, or per quarter of an hour. Each row counts until
the next one. Where rows are missing, the time has no value.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path

import numpy as np

from fastgreen.costs.rate import CARBON, Quantity, Rate
from fastgreen.errors import TraceError
from fastgreen.guards.printable import printable
from fastgreen.guards.untrusted import read_small

__all__ = ["read_hourly"]

_MOST_BYTES = 64 << 20
_LONGEST_S = 32 * 86400.0  # of one row
_TIME = re.compile(r"\b(time|date|datetime|mtu|timestamp|hour|begin|start)\b", re.IGNORECASE)
_VALUE = {
    "carbon": re.compile(r"carbon.?intensity|co.?2|\bg/kwh", re.IGNORECASE),
    "price": re.compile(r"price|/\s*[km]wh", re.IGNORECASE),
}
# Of several columns of one kind the first of these words decides.
_BETTER = {"carbon": ("life cycle", "lifecycle", "lca"), "price": ("day-ahead", "day ahead")}
_PER = re.compile(r"(?:\b([A-Z]{3})|([€$£¥]))\s*/\s*([kM])Wh", re.IGNORECASE)
_MASS = re.compile(r"\b(kg|g|t|lbs?)\s*(?:CO.?2?.?e?q?)?\s*/\s*([kM])Wh", re.IGNORECASE)
_GRAMS = {"kg": 1e3, "g": 1.0, "t": 1e6, "lb": 453.59237, "lbs": 453.59237}
_EMPTY = {"", "-", "n/e", "n/a", "na", "nan", "null", "none"}
# European exports name the zone by its two abbreviations.
_ZONES = {"CET": "Europe/Brussels", "CEST": "Europe/Brussels", "WET": "Europe/Lisbon", "WEST": "Europe/Lisbon"}
_ZONES |= {"EET": "Europe/Helsinki", "EEST": "Europe/Helsinki"}
_OFFSETS = {"UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3}
_DAY_FIRST = re.compile(r"(\d{2})[./](\d{2})[./](\d{4})(?: (\d{2}):(\d{2})(?::(\d{2}))?)?")
_MARKED = re.compile(r"\s*\(([A-Z]{1,4})\)$")
_MOST_SHOWN = 8  # columns in a message


def read_hourly(path: Path, quantity: Quantity, column: str | None = None) -> Rate:
    """Read a CSV file with a value per hour.

    Parameters
    ----------
    path : Path
    quantity : Quantity
        `CARBON` (g/kWh) or `PRICE` (per kWh). Other units in the header of the column are converted.
    column : str, optional
        Header of the column with the values. By default it is found by its name.

    Returns
    -------
    Rate

    Raises
    ------
    TraceError
        If the file cannot be understood: no such column, times without a zone, values that contradict each other or
        are impossible.
    OSError
        If it cannot be read.
    """
    try:
        text = read_small(path, most=_MOST_BYTES).decode("utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path} is not a CSV file: {error}") from None
    try:
        if len(rows) < 2:
            raise ValueError("the file must have a header and a row")
        return _rate([cell.strip() for cell in rows[0]], rows[1:], quantity, column, delimiter == ";", path)
    except ValueError as error:
        raise TraceError(f"{path}: {printable(str(error))}") from None


def _rate(
    header: list[str], rows: list[list[str]], quantity: Quantity, column: str | None, comma: bool, path: Path
) -> Rate:
    when = next((n for n, name in enumerate(header) if _TIME.search(name.replace("_", " "))), None)
    if when is None:
        raise ValueError(f"a column must have times, as 'time (UTC)'; there are {_shown(header)}")
    what = _value_column(header, when, quantity.name, column)
    scale, currency = _unit(header[what], quantity)
    texts, numbers, currencies = [], [], set()
    named = next((n for n, name in enumerate(header) if name.casefold() == "currency"), None)
    for row in rows:
        if len(row) <= max(when, what):
            raise ValueError(f"each row must have {len(header)} cells, not {len(row)}: {row[:3]}")
        texts.append(row[when].strip())
        numbers.append(_number(row[what].strip(), comma) * scale)
        if named is not None and named < len(row):
            currencies.add(row[named].strip())
    if len(currencies) == 1:
        currency = currencies.pop()[:8]
    values = np.array(numbers)
    moments, ends = _moments(texts, header[when], ~np.isnan(values))
    keep = ~(np.isnan(values) | np.isnan(moments))
    if not keep.any():
        raise ValueError(f"column {header[what]!r} has no values")
    for value, text in zip(values[keep], np.array(texts)[keep], strict=True):
        quantity.check(float(value), f" at {text}", from_file=True)
    every = np.unique(moments[~np.isnan(moments)])  # an empty row ends the one before it
    begins, ends, values = _in_order(moments[keep], ends[keep], values[keep], every)
    return Rate(begins, ends, values, currency, path.name)


def _shown(header: list[str]) -> str:
    names = [repr(name[:60]) for name in header[:_MOST_SHOWN]]
    return ", ".join(names) + (", ..." if len(header) > _MOST_SHOWN else "")


def _value_column(header: list[str], when: int, kind: str, column: str | None) -> int:
    others = [n for n in range(len(header)) if n != when]
    if column is not None:
        found = [n for n in others if header[n].casefold() == column.strip().casefold()]
        if len(found) != 1:
            raise ValueError(f"column must be one of {_shown([header[n] for n in others])}, not {column!r}")
        return found[0]
    found = [n for n in others if _VALUE[kind].search(header[n])]
    for word in _BETTER[kind]:
        better = [n for n in found if word in header[n].casefold()]
        found = better if len(better) == 1 else found
    if not found and len(others) == 1:
        found = others
    if len(found) != 1:
        several = "more than one column" if found else "no column"
        raise ValueError(
            f"{several} looks like {'prices' if kind == 'price' else 'carbon intensities'}; name it as FILE::COLUMN, "
            f"of {_shown([header[n] for n in found or others])}"
        )
    return found[0]


def _unit(name: str, quantity: Quantity) -> tuple[float, str]:
    """Factor from the column's unit to g/kWh or a currency per kWh, and the currency."""
    if quantity is CARBON:
        found = _MASS.search(name)
        return (_GRAMS[found[1].lower()] * (1e-3 if found[2] == "M" else 1.0), "") if found else (1.0, "")
    found = _PER.search(name)
    if not found:
        return 1.0, ""
    return (1e-3 if found[3] == "M" else 1.0), (found[1] or found[2]).upper()


def _number(text: str, comma: bool) -> float:
    if text.casefold() in _EMPTY:
        return float("nan")
    try:
        return float(text.replace(",", ".") if comma else text)
    except ValueError:
        raise ValueError(f"a value must be a number, not {text[:40]!r}") from None


# ---- times ----


def _moments(texts: list[str], header: str, valued: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end of each row in seconds since 1970; an end that the file does not give is NaN.

    A begin that cannot be known is NaN.
    """
    zone = _header_zone(header)
    ranges = [text.split(" - ") for text in texts]
    begins = [_parsed(parts[0]) for parts in ranges]
    naive = [b for b in begins if b.tzinfo is None]
    if naive and zone is None:
        raise ValueError(
            "times must have a time zone, as in a header 'time (UTC)' or in 2026-03-29T02:00:00+01:00, "
            f"not {texts[0][:40]!r}"
        )
    if len(naive) > 1 and naive[0] > naive[-1]:  # the newest first: the later of two equal hours comes first too
        back = _placed(begins[::-1], zone, valued[::-1])
        moments = back[::-1]
    else:
        moments = _placed(begins, zone, valued)
    ends = np.full(len(begins), np.nan)
    for n, parts in enumerate(ranges):
        if len(parts) == 2:
            length = (_parsed(parts[1]).replace(tzinfo=None) - begins[n].replace(tzinfo=None)).total_seconds()
            if length > 0:
                ends[n] = moments[n] + length
    return moments, ends


def _placed(begins: list[datetime], zone: tzinfo | None, valued: np.ndarray) -> np.ndarray:
    """Seconds since 1970. Where a clock is set back, the first of two equal hours is that of summer."""
    seen: Counter[datetime] = Counter()
    often = Counter(begin for begin in begins if begin.tzinfo is None)
    out = np.full(len(begins), np.nan)
    for n, begin in enumerate(begins):
        if begin.tzinfo is not None:
            out[n] = begin.timestamp()
            continue
        first, second = (begin.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        if first.utcoffset() == second.utcoffset():
            out[n] = first.timestamp()
        elif first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != begin:  # the clock skips this hour
            if valued[n]:
                raise ValueError(f"the time {begin} does not exist in its zone: the clock is set forward over it")
        elif often[begin] == 2:  # an hour that is there once could be either: it has no value
            out[n] = (first if seen[begin] == 0 else second).timestamp()
            seen[begin] += 1
    return out


def _header_zone(header: str) -> tzinfo | None:
    found = re.search(r"[(\[]([^()\[\]]+)[)\]]", header)
    if found is None:
        return UTC if re.search(r"\butc\b", header.replace("_", " "), re.IGNORECASE) else None
    name = found[1].strip()
    first = name.split("/")[0].strip().upper()
    if first in ("UTC", "GMT", "Z"):
        return UTC
    name = _ZONES.get(first, name)
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"time zone {name!r} is not known to this system: pip install tzdata, if the name is right"
        ) from None


def _parsed(text: str) -> datetime:
    text = text.strip()
    marked = _MARKED.search(text)
    if marked:
        text = text[: marked.start()]
    found = _DAY_FIRST.fullmatch(text)
    try:
        if found:
            day, month, year, hour, minute, second = (int(x or 0) for x in found.groups())
            moment = datetime(year, month, day, hour, minute, second)
        else:
            moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"a time must have the form 2026-03-29T14:00:00Z or 29.03.2026 14:00, not {text[:40]!r}"
        ) from None
    if marked and moment.tzinfo is None:
        if marked[1] not in _OFFSETS:
            raise ValueError(f"time zone {marked[1]!r} is not known; write the offset, as in 14:00:00+01:00")
        moment = moment.replace(tzinfo=timezone(timedelta(hours=_OFFSETS[marked[1]])))
    if not 1970 < moment.year < 9999:
        raise ValueError(f"a time must be after 1970, not {text[:40]!r}")
    return moment


def _in_order(
    moments: np.ndarray, ends: np.ndarray, values: np.ndarray, every: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted periods without overlap. `every` has the begins of all rows, also of those without a value, in order."""
    order = np.argsort(moments, kind="stable")
    moments, ends, values = moments[order], ends[order], values[order]
    same = np.diff(moments) == 0
    clash = np.flatnonzero(same & (np.diff(values) != 0))
    if clash.size:
        at = datetime.fromtimestamp(moments[clash[0]], UTC)
        raise ValueError(
            f"one time must have one value, not {values[clash[0]]:g} and {values[clash[0] + 1]:g} at "
            f"{at:%Y-%m-%d %H:%M} UTC: keep the rows of one area and one sequence"
        )
    first = np.concatenate([[True], ~same])
    moments, ends, values = moments[first], ends[first], values[first]
    steps = np.diff(every)
    usual = float(Counter(steps.tolist()).most_common(1)[0][0]) if len(steps) else 3600.0
    if usual > _LONGEST_S:
        raise ValueError(f"rows must be at most a month apart, not {usual / 86400:.0f} days")
    ends = np.where(np.isnan(ends), moments + usual, ends)
    following = np.append(every, np.inf)[np.searchsorted(every, moments, side="right")]
    return moments, np.minimum(ends, following), values
