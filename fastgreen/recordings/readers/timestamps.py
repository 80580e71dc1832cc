"""Timestamps of other tools (local time, time with an offset, seconds since 1970), converted to int64 ns of UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ABSENT_NS", "LATEST_NS", "check_zone", "segments_of", "to_utc_ns", "zone_of"]

_PASSES: tuple[Literal["earliest", "latest"], ...] = ("earliest", "latest")
ABSENT_NS = np.iinfo(np.int64).min
LATEST_NS = 1 << 62  # in the year 2116; the difference of two moments from 1970 to then fits an int64


def check_zone(timezone: str) -> str:
    """Return the name of a time zone; ValueError if it is unknown."""
    try:
        zone_of(timezone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError(f"timezone must be the name of a zone, as Europe/Paris or UTC, not {timezone!r}") from None
    return timezone


def zone_of(timezone: str) -> tzinfo:
    """Time zone of a name. UTC needs no database of zones, which a small system or Windows may lack.

    Raises
    ------
    ZoneInfoNotFoundError, ValueError
        If the zone is unknown.
    """
    return UTC if timezone == "UTC" else ZoneInfo(timezone)


def to_utc_ns(texts: Sequence[str | None] | pa.Array, timezone: str = "UTC") -> np.ndarray:
    """Convert ISO 8601 texts to ns since 1970 UTC.

    Text without an offset is local time of `timezone`. In the hour that occurs twice in autumn, times are of the first
    pass until time goes back, and of the second pass afterwards. The hour that spring leaves out does not exist, and
    its times are absent.

    Parameters
    ----------
    texts : (n,) sequence of str or pyarrow.Array
    timezone : str
        Name of a time zone.

    Returns
    -------
    (n,) int64 ndarray
        ``ABSENT_NS`` for a text that is not a time from 1970 to ``LATEST_NS``.

    Raises
    ------
    ValueError
        If the time zone is unknown.
    """
    moments = _any_moment(texts, timezone)
    return np.where((moments < 0) | (moments > LATEST_NS), ABSENT_NS, moments)


def _any_moment(texts: Sequence[str | None] | pa.Array, timezone: str) -> np.ndarray:
    try:
        array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
        naive = array.cast(pa.timestamp("ns"))
    except (pa.ArrowInvalid, UnicodeEncodeError):  # half of a surrogate pair is no time, but the other texts may be
        return _one_by_one(texts.to_pylist() if isinstance(texts, pa.Array) else texts, timezone)
    if timezone == "UTC":
        return _filled(naive)
    first, later = (
        _filled(pc.assume_timezone(naive, timezone, ambiguous=pass_, nonexistent=pass_)) for pass_ in _PASSES
    )
    if np.array_equal(first, later):
        return first
    return _unfold(*(np.where(later - first == 1, ABSENT_NS, moments) for moments in (first, later)))


def _filled(stamps: pa.Array) -> np.ndarray:
    return stamps.cast(pa.int64()).fill_null(ABSENT_NS).to_numpy(zero_copy_only=False)


def _unfold(first: np.ndarray, later: np.ndarray) -> np.ndarray:
    out = first.copy()
    for i in range(1, out.size):
        if out[i] < out[i - 1] <= later[i]:
            out[i] = later[i]
    return out


def _one_by_one(texts: Sequence[object], timezone: str) -> np.ndarray:
    zone = zone_of(timezone)
    out = np.full(len(texts), ABSENT_NS, np.int64)
    for i, text in enumerate(texts):
        try:
            moment = datetime.fromisoformat(str(text).strip().replace("/", "-"))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
            if moment.astimezone(UTC).astimezone(moment.tzinfo).replace(tzinfo=None) != moment.replace(tzinfo=None):
                continue  # in the hour that spring leaves out
            out[i] = _exact_ns(moment)
            if i and out[i] < out[i - 1] <= (again := _exact_ns(moment.replace(fold=1))):
                out[i] = again
        except (ValueError, OverflowError):
            out[i] = ABSENT_NS
    return out


def _exact_ns(moment: datetime) -> int:
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def segments_of(
    time_ns: np.ndarray, marks: np.ndarray, last_ns: int | None, segment: int
) -> tuple[np.ndarray, int, int]:
    """Number the segments of a chunk: a new one starts at each mark, and where time goes back.

    Parameters
    ----------
    time_ns : (n,) int64 ndarray
        Times of the chunk.
    marks : (n,) bool ndarray
        True if a new segment begins before that point.
    last_ns : int or None
        Time before the chunk; None at the beginning.
    segment : int
        Number of the segment open before the chunk.

    Returns
    -------
    segments : (n,) ndarray
        Segment of each point.
    segment : int
        Number of the segment open after the chunk.
    back : int
        How often time went back without a mark.
    """
    if not time_ns.size:
        return np.empty(0, np.int32), segment, 0
    before = np.empty_like(time_ns)
    before[0] = time_ns[0] if last_ns is None else last_ns
    before[1:] = time_ns[:-1]
    back = (time_ns < before) & ~marks
    numbers = segment + np.cumsum(marks | back)
    return numbers.astype(np.int32), int(numbers[-1]), int(back.sum())
