"""Points of a recording's channels: in memory or in a temporary file, cut at holes, and integrated."""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import numpy as np

from fastgreen.units import NS_PER_S

__all__ = ["ChannelTotals", "Holes", "PointStore"]

_HOLE = 10  # a step above this many steps of the rhythm is a hole
_SHORTEST_HOLE_S = 1.0
_ENOUGH = 1 << 20  # points from which the rhythm is found


class _Piece(NamedTuple):
    """Where the columns of a piece are, the positions at which a hole ends, and the number of holes before."""

    time: int
    segment: int
    value: int
    cuts: np.ndarray = np.empty(0, np.int64)
    before: int = 0


@dataclass
class Holes:
    """Stretches in which nothing was recorded, found by :meth:`PointStore.cut`.

    Attributes
    ----------
    longest_s : float
        Longest step in s that is not a hole, the smallest of all channels.
    at_ns : set of int
        Beginnings of the holes.
    back : set of int
        Moments from which a channel went back in time inside a segment.
    """

    longest_s: float = math.inf
    at_ns: set[int] = field(default_factory=set)
    back: set[int] = field(default_factory=set)


class PointStore:
    """Columns of points: in memory if they are few, else in a memory-mapped temporary file.

    Channels that are read together share one column of times.
    """

    def __init__(self, limit_points: int) -> None:
        self.limit_points = limit_points
        self.points = 0
        self.arrays: list[np.ndarray | tuple[int, int, np.dtype]] = []
        self.pieces: dict[int, list[_Piece]] = {}
        self._stamps: tuple[Any, int, int] = (None, 0, 0)
        self._file: IO[bytes] | None = None

    def add(self, channel: int, time_ns: np.ndarray, segment: np.ndarray, value: np.ndarray) -> None:
        given, time_at, segment_at = self._stamps
        if given is not time_ns:
            time_at, segment_at = self._keep(time_ns), self._keep(segment)
            self._stamps = (time_ns, time_at, segment_at)
        self.pieces.setdefault(channel, []).append(_Piece(time_at, segment_at, self._keep(value)))
        self.points += value.size
        if self._file is None and self.points > self.limit_points:
            self._file = tempfile.TemporaryFile(prefix="fastgreen-")  # noqa: SIM115, it stays open until close()
            self.arrays = [self._written(array) for array in self.arrays if isinstance(array, np.ndarray)]

    def _keep(self, array: np.ndarray) -> int:
        self.arrays.append(array if self._file is None else self._written(array))
        return len(self.arrays) - 1

    def _written(self, array: np.ndarray) -> tuple[int, int, np.dtype]:
        assert self._file is not None
        at = self._file.tell()
        self._file.write(array.data)
        self._file.write(bytes(-array.nbytes % 8))
        return at, array.size, array.dtype

    def close(self) -> None:
        """End the writing: map the file into memory. The file is deleted with the recording."""
        self._stamps = (None, 0, 0)
        if self._file is None:
            return
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
        self._file.close()
        for i, array in enumerate(self.arrays):
            if isinstance(array, tuple):
                at, size, dtype = array
                self.arrays[i] = np.frombuffer(mapped, dtype, size, at)

    def of(self, channel: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return map(self._columns, self.pieces.get(channel, []))

    def _columns(self, piece: _Piece) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        time_ns, segment, value = (self._array(i) for i in piece[:3])
        if piece.before or piece.cuts.size:
            more = np.zeros(segment.size, np.int32)
            more[piece.cuts] = 1
            segment = segment + np.cumsum(more, dtype=np.int32) + np.int32(piece.before)
        return time_ns, segment, value

    def _array(self, number: int) -> np.ndarray:
        array = self.arrays[number]
        assert isinstance(array, np.ndarray)
        return array

    def cut(self, max_gap_s: float | None) -> Holes:
        """Begin a new segment after each hole, and where time goes back inside a segment. Call it after `close`.

        Parameters
        ----------
        max_gap_s : float or None
            Longest step in s that is not a hole. None: ten times the channel's median step, and at least 1 s.
        """
        holes = Holes()
        done: dict[tuple[tuple[int, int], ...], list[tuple[np.ndarray, int]]] = {}
        for channel, pieces in self.pieces.items():
            key = tuple((piece.time, piece.segment) for piece in pieces)
            if key not in done:
                limit_s = self._longest_step_s(pieces) if max_gap_s is None else max_gap_s
                holes.longest_s = min(holes.longest_s, limit_s)
                done[key] = self._cuts(pieces, limit_s, holes)
            self.pieces[channel] = [
                piece._replace(cuts=cuts, before=before)
                for piece, (cuts, before) in zip(pieces, done[key], strict=True)
            ]
        return holes

    def _steps(self, pieces: list[_Piece]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each piece: the time before each point, whether it is of the same segment, and the step in ns."""
        last: tuple[int, int] | None = None
        for piece in pieces:
            time_ns, segment = self._array(piece.time), self._array(piece.segment)
            if not time_ns.size:
                yield time_ns, np.empty(0, bool), time_ns
                continue
            first_ns, first = last or (int(time_ns[0]), int(segment[0]))
            earlier = np.concatenate([[first_ns], time_ns[:-1]])
            yield earlier, np.diff(segment, prepend=first) == 0, time_ns - earlier
            last = (int(time_ns[-1]), int(segment[-1]))

    def _cuts(self, pieces: list[_Piece], limit_s: float, holes: Holes) -> list[tuple[np.ndarray, int]]:
        out: list[tuple[np.ndarray, int]] = []
        before = 0
        for earlier, same, step_ns in self._steps(pieces):
            hole, back = same & (step_ns > limit_s * NS_PER_S), same & (step_ns < 0)
            holes.at_ns.update(earlier[hole].tolist())
            holes.back.update(earlier[back].tolist())
            cuts = np.flatnonzero(hole | back)
            out.append((cuts, before))
            before += cuts.size
        return out

    def _longest_step_s(self, pieces: list[_Piece]) -> float:
        each = sum(self._array(piece.time).size for piece in pieces) // _ENOUGH + 1
        steps = [step_ns[same & (step_ns > 0)][::each] for _, same, step_ns in self._steps(pieces)]
        joined = np.concatenate(steps) if steps else np.empty(0, np.int64)
        if joined.size < 2:
            return math.inf
        middle = (joined.size - 1) // 2
        return max(_SHORTEST_HOLE_S, _HOLE * int(np.partition(joined, middle)[middle]) / NS_PER_S)


@dataclass
class ChannelTotals:
    """Running totals of one channel; both methods take its points in order, piece by piece."""

    name: str
    kind: str
    unit: str
    root: bool
    parent: str
    energy: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    covered_ns: int = 0
    missing_ns: int = 0
    samples: int = 0
    absent: int = 0
    total: float = 0.0
    largest: float = -math.inf
    segments: int = 0
    _last: tuple[int, int, float] | None = None

    def count(self, value: np.ndarray) -> None:
        """Count the present and the absent values of a piece."""
        good = np.isfinite(value)
        self.samples += int(good.sum())
        self.absent += int(value.size - good.sum())
        if good.any():
            self.total += float(value[good].sum())
            self.largest = max(self.largest, float(value[good].max()))

    def add(self, time_ns: np.ndarray, segment: np.ndarray, value: np.ndarray) -> None:
        """Integrate the next piece, from the last point of the piece before."""
        if not time_ns.size:
            return
        if self._last is None:
            self.segments += 1
        else:
            time_ns = np.concatenate([[self._last[0]], time_ns])
            segment = np.concatenate([[self._last[1]], segment])
            value = np.concatenate([[self._last[2]], value])
        self._last = (int(time_ns[-1]), int(segment[-1]), float(value[-1]))
        self.segments += int(np.count_nonzero(np.diff(segment)))
        self._integrate(time_ns, segment, value)

    def _integrate(self, time_ns: np.ndarray, segment: np.ndarray, value: np.ndarray) -> None:
        step_ns = np.diff(time_ns)
        left, right = value[:-1], value[1:]
        same = segment[1:] == segment[:-1]
        both = same & np.isfinite(left) & np.isfinite(right)
        step_s = step_ns[both] / NS_PER_S
        left, right = left[both], right[both]
        self.covered_ns += _exact_sum(step_ns[both])
        self.missing_ns += _exact_sum(step_ns[(step_ns > 0) & ~both])
        self.energy.append(float((0.5 * (left + right) * step_s).sum()))
        self.low.append(float((np.minimum(left, right) * step_s).sum()))
        self.high.append(float((np.maximum(left, right) * step_s).sum()))

    def row(self) -> dict[str, Any]:
        power = self.kind == "power" and self.covered_ns > 0
        seconds = self.covered_ns / NS_PER_S
        area = math.fsum(self.energy)
        energy = area if power else None
        return {
            "id": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "root": self.root,
            "parent": self.parent,
            "energy_j": energy,
            "energy_low_j": math.fsum(self.low) if power else None,
            "energy_high_j": math.fsum(self.high) if power else None,
            "mean_power_w": energy / seconds if energy is not None and seconds else None,
            "covered_s": seconds,
            "missing_s": self.missing_ns / NS_PER_S,
            "mean": area / seconds if seconds else self.total / self.samples if self.samples else None,
            "max": self.largest if self.samples else None,
            "samples": self.samples,
            "absent": self.absent,
            "segments": self.segments,
        }


def _exact_sum(step_ns: np.ndarray) -> int:
    """Sum of steps in ns, exact beyond int64: clocks of damaged files jump by decades."""
    return (int((step_ns >> 32).sum()) << 32) + int((step_ns & 0xFFFFFFFF).sum())
