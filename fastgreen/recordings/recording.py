"""Recordings of other tools' meters: power channels in segments, with their holes.

The file of a meter holds times and watts, with holes: stops and restarts, values that could not be read, a last line
cut in two. :class:`Recording` keeps all of these. The energy between two adjacent points of one segment is a trapezoid.
A hole (the end of a segment, an absent value) is not integrated; it counts as missing time.
"""

from __future__ import annotations

import math
import mmap
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa

from fastgreen.errors import ChannelNotFound
from fastgreen.units import NS_PER_S, counted, joules_per_unit

__all__ = ["Recording", "RecordingBuilder", "recording_of"]

_GAP, _RESET = 1, 2  # flags of a sample
_LARGEST = {"power": 1e9, "gauge": 1e18}  # the power of a power station, an exabyte of memory
_CHANNEL_FIELDS = [
    ("id", pa.string(), ""),
    ("kind", pa.string(), ""),
    ("unit", pa.string(), ""),
    ("root", pa.bool_(), ""),
    ("parent", pa.string(), ""),
    ("energy_j", pa.float64(), "J"),
    ("energy_low_j", pa.float64(), "J"),
    ("energy_high_j", pa.float64(), "J"),
    ("mean_power_w", pa.float64(), "W"),
    ("covered_s", pa.float64(), "s"),
    ("missing_s", pa.float64(), "s"),
    ("mean", pa.float64(), ""),
    ("max", pa.float64(), ""),
    ("samples", pa.int64(), ""),
    ("absent", pa.int64(), ""),
    ("segments", pa.int64(), ""),
]


class _Spool:
    """Columns of points: in memory if they are few, else in a memory-mapped temporary file.

    Channels that are read together share one column of times.
    """

    def __init__(self, limit_points: int) -> None:
        self.limit_points = limit_points
        self.points = 0
        self.arrays: list[np.ndarray | tuple[int, int, np.dtype]] = []
        self.pieces: dict[int, list[tuple[int, int, int]]] = {}
        self._stamps: tuple[Any, int, int] = (None, 0, 0)
        self._file: IO[bytes] | None = None

    def add(self, channel: int, time_ns: np.ndarray, segment: np.ndarray, value: np.ndarray) -> None:
        given, time_at, segment_at = self._stamps
        if given is not time_ns:
            time_at, segment_at = self._keep(time_ns), self._keep(segment)
            self._stamps = (time_ns, time_at, segment_at)
        self.pieces.setdefault(channel, []).append((time_at, segment_at, self._keep(value)))
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
        return (tuple(self.arrays[i] for i in piece) for piece in self.pieces.get(channel, []))  # type: ignore[misc]


@dataclass
class _Channel:
    """Running totals of one channel. ``add`` takes its points in order, chunk by chunk."""

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

    def add(self, time_ns: np.ndarray, segment: np.ndarray, value: np.ndarray) -> None:
        good = np.isfinite(value)
        self.samples += int(good.sum())
        self.absent += int(value.size - good.sum())
        if good.any():
            self.total += float(value[good].sum())
            self.largest = max(self.largest, float(value[good].max()))
        if self._last is None:
            self.segments += 1
        else:
            time_ns = np.concatenate([[self._last[0]], time_ns])
            segment = np.concatenate([[self._last[1]], segment])
            value = np.concatenate([[self._last[2]], value])
        if not time_ns.size:
            return
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
        self.covered_ns += int(step_ns[both].sum())
        self.missing_ns += int(step_ns[(step_ns > 0) & ~both].sum())
        self.energy.append(float((0.5 * (left + right) * step_s).sum()))
        self.low.append(float((np.minimum(left, right) * step_s).sum()))
        self.high.append(float((np.maximum(left, right) * step_s).sum()))

    def row(self) -> dict[str, Any]:
        power = self.kind == "power" and self.covered_ns > 0
        seconds = self.covered_ns / NS_PER_S
        energy = math.fsum(self.energy) if power else None
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
            "mean": self.total / self.samples if self.samples else None,
            "max": self.largest if self.samples else None,
            "samples": self.samples,
            "absent": self.absent,
            "segments": self.segments,
        }


class Recording:
    """A recording of another tool: its channels, their energies and curves, and remarks about the file.

    Attributes
    ----------
    source : str
        Name of the format: ``aipowermeter``, ``nvidia-smi``, ``codecarbon`` or ``omegawatt``.
    path : str
        The file or folder.
    channels : pyarrow.Table
        A row per channel: id, kind (``power`` or ``gauge``), unit, root, parent, energy_j with its low and high bound
        (every step at its smaller and its larger end), mean_power_w, covered_s, missing_s, mean, max, samples,
        absent, segments.
    absent : list of str
        Channels of the format that this file does not have.
    notes : list of str
        Problems of the file, a sentence each: lines cut or not valid, time going back, values that mean "not read".
    lines, dropped : int
        Number of lines in the file, and of lines that could not be used.
    latency_s : numpy.ndarray or None
        Seconds of each inference, where the folder has them.
    extra : dict
        Contents of other files in the folder (a summary of the model, results).
    """

    def __init__(self, source: str, path: str, entries: list[_Channel], spool: _Spool) -> None:
        self.source = source
        self.path = path
        self.absent: list[str] = []
        self.notes: list[str] = []
        self.lines = 0
        self.dropped = 0
        self.latency_s: np.ndarray | None = None
        self.extra: dict[str, Any] = {}
        self._entries = entries
        self._spool = spool
        rows = [entry.row() for entry in entries]
        schema = pa.schema([pa.field(n, t, metadata={"unit": u} if u else None) for n, t, u in _CHANNEL_FIELDS])
        self.channels = pa.Table.from_pylist(rows, schema=schema)

    def __repr__(self) -> str:
        channels = counted(self.channels.num_rows, "channel")
        return f"<Recording {self.source} {self.path!r}: {channels}, {self.duration_s:.3f} s>"

    def _index(self, channel: str) -> int:
        names = [entry.name for entry in self._entries]
        if channel not in names:
            raise ChannelNotFound(f"{self.path} has no channel {channel!r}; it has {', '.join(names) or 'none'}")
        return names.index(channel)

    def energy_j(self) -> dict[str, float]:
        """Joules by power channel, integrated within segments. Channels without two adjacent points are left out."""
        return {e.name: math.fsum(e.energy) for e in self._entries if e.kind == "power" and e.covered_ns}

    @property
    def total_j(self) -> float:
        """Joules of all root channels together; a channel inside another channel is not counted."""
        energies = self.energy_j()
        return math.fsum(energies[e.name] for e in self._entries if e.root and e.name in energies)

    @property
    def duration_s(self) -> float:
        """Longest time in s that one channel covers."""
        return max((e.covered_ns for e in self._entries), default=0) / NS_PER_S

    def points(self, channel: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points of a channel.

        Returns
        -------
        time_ns : (n,) int64 ndarray
            Times in ns since 1970 UTC.
        segment : (n,) integer ndarray
            Number of each point's segment.
        value : (n,) float64 ndarray
            Values in the unit of the channel, NaN where absent.

        Raises
        ------
        ChannelNotFound
            If there is no such channel.
        """
        pieces = list(self._spool.of(self._index(channel)))
        if not pieces:
            return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0)
        time_ns, segment, value = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
        return time_ns, segment, value

    def chunks(self, channel: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the result of :meth:`points` in pieces, for recordings that do not fit into memory."""
        return self._spool.of(self._index(channel))

    def to_result(self) -> Any:
        """Convert the recording to a :class:`fastgreen.Result`."""
        from fastgreen.recordings.conversion import result_of

        return result_of(self)

    def power(self, channel: str) -> pa.Table:
        """Curve of one channel as a table: time (UTC), segment, value with its unit."""
        time_ns, segment, value = self.points(channel)
        unit = self._entries[self._index(channel)].unit
        schema = pa.schema(
            [
                pa.field("time", pa.timestamp("ns", "UTC")),
                pa.field("segment", pa.int32()),
                pa.field("value", pa.float64(), metadata={"unit": unit}),
            ]
        )
        times = pa.array(time_ns).cast(pa.timestamp("ns", "UTC"))
        return pa.Table.from_arrays([times, pa.array(segment, pa.int32()), pa.array(value)], schema=schema)


class RecordingBuilder:
    """Collector of a reader's points, in constant memory.

    Parameters
    ----------
    source, path : str
        Name of the format, and the file.
    limit_points : int
        Points kept in memory before they move to a temporary file (8 bytes each and 12 per time, in ``TMPDIR``).
    """

    def __init__(self, source: str, path: str, *, limit_points: int = 1 << 22) -> None:
        self.source = source
        self.path = path
        self.notes: list[str] = []
        self.lines = 0
        self.dropped = 0
        self._absurd = 0
        self._entries: dict[str, _Channel] = {}
        self._spool = _Spool(limit_points)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def channel(self, name: str, *, kind: str = "power", unit: str = "W", root: bool = False, parent: str = "") -> None:
        """Declare a channel. Only the first declaration of a name counts."""
        self._entries.setdefault(name, _Channel(name, kind, unit, root, parent))

    def add(self, name: str, time_ns: np.ndarray, segment: np.ndarray, value: np.ndarray) -> None:
        """Add the next points of a channel: int64 times in ns, rising segment numbers, values (NaN if absent)."""
        time_ns = np.ascontiguousarray(time_ns, np.int64)
        segment = np.ascontiguousarray(segment, np.int32)
        value = self._sensible(name, np.ascontiguousarray(value, np.float64))
        self._entries[name].add(time_ns, segment, value)
        self._spool.add(list(self._entries).index(name), time_ns, segment, value)

    def _sensible(self, name: str, value: np.ndarray) -> np.ndarray:
        """Replace impossibly large values by NaN; they would overflow every sum."""
        absurd = np.abs(value) > _LARGEST[self._entries[name].kind]
        if not absurd.any():
            return value
        self._absurd += int(np.count_nonzero(np.isfinite(value) & absurd))
        return np.where(absurd, math.nan, value)

    def stand_in(self, root: str, parts: re.Pattern[str]) -> None:
        """If a root channel has no value, count the channels that it is the sum of instead."""
        if root in self._entries and self._entries[root].samples:
            return
        for entry in self._entries.values():
            if entry.parent == root and entry.samples and parts.fullmatch(entry.name):
                entry.root, entry.parent = True, ""

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def finish(self, known: list[str] | None = None) -> Recording:
        """Make the recording; the channels in ``known`` (those of the format) without a value are its absent ones."""
        self._spool.close()
        if self._absurd:
            self.note(f"{counted(self._absurd, 'value')} larger than any possible reading: absent")
        for entry in self._entries.values():
            if not entry.samples:
                entry.root = False
        recording = Recording(self.source, self.path, list(self._entries.values()), self._spool)
        seen = {entry.name for entry in self._entries.values() if entry.samples}
        recording.absent = [name for name in known or [] if name not in seen]
        recording.notes = self.notes
        recording.lines, recording.dropped = self.lines, self.dropped
        return recording


def recording_of(source: Any) -> Recording:
    """Return a recording unchanged, or convert a :class:`fastgreen.Result` to one.

    A counter becomes steps of mean power between its observed changes, so that the integral over them equals the
    difference of the counter. A gap ends a segment.
    """
    if isinstance(source, Recording):
        return source
    builder = RecordingBuilder("fastgreen", "result")
    shift_ns = source.metadata["realtime_ns"] - source.metadata["monotonic_ns"]
    for trace in source.traces:
        channel = trace.channel
        name = channel.id
        builder.channel(name, root=trace.counted, parent=channel.parent or "")
        if channel.estimated:
            builder.note(f"{name} is an estimate")
        samples = list(trace.settled())  # without readings from between two jumps of a counter
        if not samples:
            continue
        joined = np.concatenate(samples)
        if channel.kind == "power":
            time_ns, watts = joined["at_ns"], joined["raw"] * joules_per_unit(channel.unit) * NS_PER_S
            segment = np.cumsum((joined["flags"] & _GAP) != 0).astype(np.int32)
        else:
            time_ns, segment, watts = _steps(joined, channel.traits["modulus"], joules_per_unit(channel.unit))
        builder.add(name, time_ns + shift_ns, segment, watts)
    return builder.finish()


def _steps(samples: np.ndarray, modulus: int, joules: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean powers between changes of a counter, each as two points at the ends of its stretch."""
    growth = np.diff(samples["raw"]) + samples["wraps"][1:].astype(np.int64) * modulus
    growth[(samples["flags"][1:] & _RESET) != 0] = 0  # the loss of a restarted counter is not known
    keep = np.ones(samples.size, bool)
    keep[1:-1] = growth[:-1] != 0
    moments, total = samples["at_ns"][keep], np.concatenate([[0], np.cumsum(growth)])[keep]
    step_ns, energy = np.diff(moments), np.diff(total) * joules
    good = step_ns > 0
    time_ns = np.column_stack([moments[:-1][good], moments[1:][good]]).ravel()
    watts = energy[good] / (step_ns[good] / NS_PER_S)
    return time_ns, np.zeros(time_ns.size, np.int32), np.repeat(watts, 2)
