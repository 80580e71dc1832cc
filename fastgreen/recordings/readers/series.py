"""Series of one table told apart: by the columns that name a device, or by rows that come in groups of equal time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.recording import RecordingBuilder
from fastgreen.units import counted

__all__ = ["Series", "first_of_moment"]

_GROUP = 0.1  # rows of one group are closer than this part of the time between groups
_MOST_DEVICES = 1024
_WHOLE = 0.75  # part of the groups that have the same number of rows


class Series:
    """Numbers for the devices of a file, the same in all its tables and pieces.

    Parameters
    ----------
    builder : RecordingBuilder
        It gets the notes.
    add : str
        What a user adds to a table in which the devices cannot be told apart, for the error.
    """

    def __init__(self, builder: RecordingBuilder, add: str) -> None:
        self.builder = builder
        self.add = add
        self.names: dict[tuple[str, int], str] = {}
        self.sizes: dict[str, int] = {}
        self.broken = 0

    def split(
        self, stamps: np.ndarray, devices: Sequence[str], wished: Sequence[str], exact: bool
    ) -> list[tuple[str, np.ndarray]]:
        """Positions of the rows of each device.

        Parameters
        ----------
        stamps : (n,) int64 ndarray
            Times in ns.
        devices : (n,) sequence of str
            Names that tell devices apart, such as uuids; all empty if the table has no such column.
        wished : (n,) sequence of str
            The number or name that each device should have here, such as its index; may be empty.
        exact : bool
            Whether times have fractions of a second, so that equal times are one moment.

        Raises
        ------
        TraceError
            If the rows come in groups, but not so that the devices can be told apart.
        """
        out = []
        places: dict[str, list[int]] = {}
        for row, device in enumerate(devices):
            places.setdefault(device, []).append(row)
        for device, rows_of in places.items():
            if device not in self.sizes and len(self.sizes) == _MOST_DEVICES:
                self.builder.note(f"more than {_MOST_DEVICES} devices: the rows of the others are left out")
                self.builder.dropped += len(rows_of)
                continue
            mine = np.array(rows_of)
            for place, rows in self._places(device, stamps[mine], exact):
                out.append((self._name((device, place), wished[mine[0]] if place == 0 else ""), mine[rows]))
        return out

    def finish(self) -> None:
        """Add the notes."""
        if self.broken:
            self.builder.note(f"{counted(self.broken, 'row')} of groups without a row of each device: left out")
            self.builder.dropped += self.broken

    def _name(self, key: tuple[str, int], wished: str) -> str:
        if key not in self.names:
            taken = set(self.names.values())
            free = next(str(n) for n in range(len(taken) + 1) if str(n) not in taken)
            self.names[key] = wished if wished and wished not in taken else free
            if wished and wished in taken:
                self.builder.note(f"{wished} is the number of two devices: that of {key[0]} is {free} here")
        return self.names[key]

    def _places(self, device: str, stamps: np.ndarray, exact: bool) -> list[tuple[int, np.ndarray]]:
        starts = _starts(stamps)
        counts = np.diff(np.append(starts, stamps.size))
        if device not in self.sizes:
            self.sizes[device] = self._rows_per_group(device, counts, exact)
        size = self.sizes[device]
        if size == 1:
            return [(0, np.arange(stamps.size))]
        whole = counts == size
        self.broken += int(counts[~whole].sum())
        return [(place, starts[whole] + place) for place in range(size)]

    def _rows_per_group(self, device: str, counts: np.ndarray, exact: bool) -> int:
        """Number of devices that share a name. Twice the same row is not a second device."""
        several = int((counts > 1).sum())
        if counts.size < 2 or 4 * several < counts.size:
            return 1
        size, times = Counter(counts.tolist()).most_common(1)[0]
        # The first and the last group may be cut.
        regular = size > 1 and times >= max(2, _WHOLE * (counts.size - 2))
        if device and not regular:
            return 1
        if regular and exact:
            self.builder.note(f"{size} rows have the same time each: read as {size} devices, in the order of the rows")
            return size
        if regular or exact:
            raise TraceError(
                f"{self.builder.path}: several rows have the same time, and no column tells their devices apart; "
                f"{self.add}"
            )
        self.builder.note("several rows have the same time, of a clock in whole seconds: read as one device")
        return 1


def _starts(stamps: np.ndarray) -> np.ndarray:
    """Positions at which a group of rows with almost the same time begins."""
    if not stamps.size:
        return np.empty(0, np.int64)
    steps = np.diff(stamps)
    later = steps[steps > 0]
    lap = np.quantile(later, 0.9, method="lower") if later.size else 0
    new = (steps > _GROUP * lap) | (steps < 0)
    return np.concatenate([[0], np.flatnonzero(new) + 1])


def first_of_moment(stamps: np.ndarray, rows: Sequence[Sequence[str]]) -> list[int]:
    """Places of the rows that are no copies of an earlier row with the same time."""
    kept: list[int] = []
    seen: set[tuple[str, ...]] = set()
    now = None
    for place, (stamp, row) in enumerate(zip(stamps.tolist(), rows, strict=True)):
        if stamp != now:
            now = stamp
            seen.clear()
        if tuple(row) not in seen:
            seen.add(tuple(row))
            kept.append(place)
    return kept
