"""Between a recording of others and a result of ours: either can be asked as the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastgreen.experiment.recording import Recording, RecordingBuilder

__all__ = ["recording_of", "result_of"]

_NW_PER_W = 1e9
_GAP, _RESET = 1, 2  # flags of a sample


def recording_of(source: Any) -> Recording:
    """A recording as it is, or the curves of a :class:`fastgreen.Result` as one.

    A counter becomes steps of mean power between the moments at which it was seen to change, so that the trapezoid over
    them is the counter's own difference. A gap ends a segment.
    """
    if isinstance(source, Recording):
        return source
    from fastgreen.units import joules_per_unit

    builder = RecordingBuilder("fastgreen", "result")
    shift_ns = source.metadata["realtime_ns"] - source.metadata["monotonic_ns"]
    for trace in source.traces:
        channel = trace.channel
        name = channel.id
        builder.channel(name, root=trace.counted, parent=channel.parent or "")
        if channel.estimated:
            builder.note(f"{name} is an estimate")
        samples = list(trace.chunks())
        if not samples:
            continue
        joined = np.concatenate(samples)
        if channel.kind == "power":
            time_ns, watts = joined["at_ns"], joined["raw"] * joules_per_unit(channel.unit) * 1e9
            segment = np.cumsum((joined["flags"] & _GAP) != 0).astype(np.int32)
        else:
            time_ns, segment, watts = _steps(joined, channel.traits["modulus"], joules_per_unit(channel.unit))
        builder.add(name, time_ns + shift_ns, segment, watts)
    return builder.finish()


def _steps(samples: np.ndarray, modulus: int, joules: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean powers between changes of a counter, each at both ends of its stretch."""
    growth = np.diff(samples["raw"]) + samples["wraps"][1:].astype(np.int64) * modulus
    growth[(samples["flags"][1:] & _RESET) != 0] = 0  # what a restarted counter lost is not known
    keep = np.ones(samples.size, bool)
    keep[1:-1] = growth[:-1] != 0
    moments, total = samples["at_ns"][keep], np.concatenate([[0], np.cumsum(growth)])[keep]
    step_ns, energy = np.diff(moments), np.diff(total) * joules
    good = step_ns > 0
    time_ns = np.column_stack([moments[:-1][good], moments[1:][good]]).ravel()
    watts = energy[good] / (step_ns[good] * 1e-9)
    return time_ns, np.zeros(time_ns.size, np.int32), np.repeat(watts, 2)


def result_of(recording: Recording) -> Any:
    """A recording as a :class:`fastgreen.Result`: a power channel per power channel, a window per segment.

    Watts become whole nanowatts, the integers that the engine counts in. Between segments the power is taken as 0,
    for that time was not recorded; where a value is absent inside a segment it is 0 too, and the bounds say that it
    is not known.
    """
    from fastgreen import __version__, _core
    from fastgreen.channel import Channel, traits
    from fastgreen.result import Result
    from fastgreen.runinfo import FORMAT
    from fastgreen.trace import Trace, Windows

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
        chunks = _Chunks(recording, row["id"], later_ns, _core.SAMPLE)
        account = _core.Account(kinds)
        for chunk in chunks():
            account.feed(chunk)
        report = account.report()
        report |= {
            "end_at_ns": report["last_at_ns"],
            "end_total": report["total"],
            "why_ended": None,
            "last_error": None,
        }
        report |= {"missed": None, "lost": row["absent"], "read_errors": row["absent"]}
        built.append(Trace(channel, row["root"], report, chunks))
        spans += _spans(recording, row["id"], later_ns)
    windows = [Windows("segment", 0, *np.array(_union(spans), np.int64).T)] if spans else []
    start = min((t.report["first_at_ns"] for t in built), default=0)
    about = {"format": FORMAT, "version": __version__, "host": "", "realtime_ns": start, "monotonic_ns": start}
    notes = [*recording.notes, *(f"{name} is absent" for name in recording.absent)]
    if later_ns.any():
        notes.append("segments whose times overlap are laid one after the other")
    return Result(built, windows, about, start, start, notes)


def _laid_out(recording: Recording, channels: list[str]) -> np.ndarray:
    """How much later each segment is laid, in ns by its number, so that none begins before the one before it ends.

    The clock of a result never goes back; that of a recording does. All channels move alike.
    """
    begin: dict[int, int] = {}
    end: dict[int, int] = {}
    for name in channels:
        for time_ns, segment, _ in recording.chunks(name):
            starts = np.flatnonzero(np.diff(segment, prepend=segment[0] - 1))
            stops = np.append(starts[1:], segment.size) - 1
            for a, b in zip(starts, stops, strict=True):
                number = int(segment[a])
                begin[number] = min(int(time_ns[a]), begin.get(number, int(time_ns[a])))
                end[number] = max(int(time_ns[b]), end.get(number, int(time_ns[b])))
    later_ns = np.zeros(max(begin, default=0) + 1, np.int64)
    so_far = 0
    for number in sorted(begin):
        later_ns[number] = max(0, so_far - begin[number])
        so_far = end[number] + int(later_ns[number])
    return later_ns


class _Chunks:
    """The samples of one channel, made anew each time they are asked for."""

    def __init__(self, recording: Recording, channel: str, later_ns: np.ndarray, dtype: np.dtype) -> None:
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
        """Two samples of no power, at the two edges of the hole, at every break; between segments that is all there
        is to say, inside one the second is flagged: there was power, and it is not known."""
        ends = np.where(breaks > 0, samples["at_ns"][breaks - 1], last[0] if last else 0)
        zeros = np.zeros(2 * breaks.size, self.dtype)
        zeros["at_ns"][::2], zeros["at_ns"][1::2] = ends, samples["at_ns"][breaks]
        zeros["flags"][1::2] = np.where(turns[breaks], 0, _GAP)
        return np.insert(samples, np.repeat(breaks, 2), zeros)


def _spans(recording: Recording, channel: str, later_ns: np.ndarray) -> list[tuple[int, int]]:
    from fastgreen.experiment.comparison import Curve

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
