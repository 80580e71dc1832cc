"""Conversion of another tool's recording to a `fastgreen.Result`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.recordings.curve import Curve
from fastgreen.recordings.readers.timestamps import LATEST_NS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["result_of"]

_NW_PER_W = 1e9
_GAP = 1  # flag of a sample


class Curves(Protocol):
    """The part of a `Recording` that the conversion uses."""

    source: str
    notes: list[str]
    absent: list[str]

    @property
    def channels(self) -> pa.Table: ...
    def points(self, channel: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def chunks(self, channel: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]: ...


def result_of(recording: Curves) -> Any:
    """Convert a recording to a :class:`fastgreen.Result`: a channel per power channel, a window per segment.

    Watts become integers of nanowatts, the unit of the engine. Between segments nothing was recorded, and the power is
    taken as 0. Where a value is absent inside a segment, the power is 0 as well, with wide bounds.
    """
    from fastgreen import __version__, _resolver
    from fastgreen.results.result import Result
    from fastgreen.results.run_metadata import FORMAT
    from fastgreen.results.trace import Trace, Windows
    from fastgreen.sensors.channel import Channel, traits

    built, spans = [], []
    rows = [row for row in recording.channels.to_pylist() if row["energy_j"] is not None]
    later_ns = _laid_out(recording, [row["id"] for row in rows])
    for row in rows:
        name = f"{recording.source}:{row['id']}"
        kinds = traits("power", "nW", period_ns=1)
        parent = f"{recording.source}:{row['parent']}" if row["parent"] else None
        channel = Channel(
            name, recording.source, "power", row["id"], "nW", parent=parent, root=row["root"], traits=kinds
        )
        chunks = _Chunks(recording, row["id"], later_ns, _resolver.SAMPLE)
        absent = row["absent"]
        built.append(Trace.recounted(channel, row["root"], chunks, lost=absent, read_errors=absent))
        spans += _spans(recording, row["id"], later_ns)
    windows = [Windows("segment", 0, *np.array(_union(spans), np.int64).T)] if spans else []
    start = min((t.tally["first_at_ns"] for t in built), default=0)
    about = {"format": FORMAT, "version": __version__, "host": "", "realtime_ns": start, "monotonic_ns": start}
    notes = [*recording.notes, *(f"{name} is absent" for name in recording.absent)]
    if later_ns.any():
        notes.append("segments with overlapping times are placed one after the other")
    return Result(built, windows, about, start, start, notes)


def _laid_out(recording: Curves, channels: list[str]) -> np.ndarray:
    """Delay of each segment in ns, by its number, so that no segment begins before the end of the previous one.

    The clock of a result never goes back, but that of a recording may. All channels get the same delays, the
    longest that one of them needs.
    """
    begin: dict[int, dict[str, int]] = {}
    end: dict[int, dict[str, int]] = {}
    for name in channels:
        for time_ns, segment, _ in recording.chunks(name):
            starts = np.flatnonzero(np.diff(segment, prepend=segment[0] - 1))
            stops = np.append(starts[1:], segment.size) - 1
            for a, b in zip(starts, stops, strict=True):
                number = int(segment[a])
                begin.setdefault(number, {}).setdefault(name, int(time_ns[a]))
                end.setdefault(number, {})[name] = int(time_ns[b])
    later_ns = np.zeros(max(begin, default=0) + 1, np.int64)
    so_far: dict[str, int] = {}
    for number in sorted(begin):
        delay = max(0, *(so_far.get(name, at) - at for name, at in begin[number].items()))
        if max(end[number].values()) + delay > LATEST_NS:
            raise TraceError("the segments of the recording are too long to be placed one after the other")
        later_ns[number] = delay
        so_far |= {name: at + delay for name, at in end[number].items()}
    return later_ns


class _Chunks:
    """The samples of one channel; each call computes them again, chunk by chunk."""

    def __init__(self, recording: Curves, channel: str, later_ns: np.ndarray, dtype: np.dtype) -> None:
        self.recording, self.channel, self.later_ns, self.dtype = recording, channel, later_ns, dtype

    def __call__(self) -> Iterator[np.ndarray]:
        last: tuple[int, int] | None = None
        hole = False
        for time_ns, segment, watts in self.recording.chunks(self.channel):
            good = np.isfinite(watts)
            gap = np.concatenate([[hole], ~good[:-1]])[good]
            hole = bool(~good[-1]) if good.any() else True
            if not good.any():
                continue
            out = np.zeros(int(good.sum()), self.dtype)
            where = segment[good]
            out["at_ns"], out["raw"] = time_ns[good] + self.later_ns[where], np.rint(watts[good] * _NW_PER_W)
            turns = np.diff(where, prepend=where[0] if last is None else last[1]) != 0
            gap[0] &= last is not None
            yield self._with_zeros(out, np.flatnonzero(turns | gap), turns, last)
            last = (int(out["at_ns"][-1]), int(where[-1]))

    def _with_zeros(
        self, samples: np.ndarray, breaks: np.ndarray, turns: np.ndarray, last: tuple[int, int] | None
    ) -> np.ndarray:
        """Add two samples of 0 W at every break, one at each edge of the hole. Inside a segment the second one is
        flagged as a gap, since the power is unknown there."""
        ends = np.where(breaks > 0, samples["at_ns"][breaks - 1], last[0] if last else 0)
        zeros = np.zeros(2 * breaks.size, self.dtype)
        zeros["at_ns"][::2], zeros["at_ns"][1::2] = ends, samples["at_ns"][breaks]
        zeros["flags"][1::2] = np.where(turns[breaks], 0, _GAP)
        return np.insert(samples, np.repeat(breaks, 2), zeros)


def _spans(recording: Curves, channel: str, later_ns: np.ndarray) -> list[tuple[int, int]]:
    time_ns, segment, watts = recording.points(channel)
    return Curve(time_ns + later_ns[segment], segment, watts).spans()


def _union(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and start < out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out
