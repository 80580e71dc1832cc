"""Recordings of other tools' meters: power channels in segments, with their holes.

The file of a meter holds times and watts, with holes: stops and restarts, values that could not be read, a last line
cut in two. :class:`Recording` keeps all of these. The energy between two adjacent points of one segment is a trapezoid.
A hole (the end of a segment, an absent value, a step far above the rhythm of the log) is not integrated; it counts as
missing time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.errors import ChannelNotFound
from fastgreen.recordings.stored_points import ChannelTotals, PointStore
from fastgreen.units import NS_PER_S, counted, joules_per_unit

__all__ = ["Recording", "RecordingBuilder", "recording_of"]

_GAP, _RESET = 1, 2  # flags of a sample
_MOST_CHANNELS = 1024  # a machine with 16 GPUs has some hundred
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

    def __init__(self, source: str, path: str, entries: list[ChannelTotals], spool: PointStore) -> None:
        self.source = source
        self.path = path
        self.absent: list[str] = []
        self.notes: list[str] = []
        self.lines = 0
        self.dropped = 0
        self.latency_s: np.ndarray | None = None
        self.extra: dict[str, Any] = {}
        self._entries = entries
        self._places = {entry.name: place for place, entry in enumerate(entries)}
        self._spool = spool
        rows = [entry.row() for entry in entries]
        schema = pa.schema([pa.field(n, t, metadata={"unit": u} if u else None) for n, t, u in _CHANNEL_FIELDS])
        self.channels = pa.Table.from_pylist(rows, schema=schema)

    def __repr__(self) -> str:
        channels = counted(self.channels.num_rows, "channel")
        return f"<Recording {self.source} {self.path!r}: {channels}, {self.duration_s:.3f} s>"

    def _index(self, channel: str) -> int:
        if channel not in self._places:
            known = ", ".join(self._places) or "none"
            raise ChannelNotFound(f"{self.path} has no channel {channel!r}; it has {known}")
        return self._places[channel]

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
        """Convert the recording to a :class:`fastgreen.Result`.

        Raises
        ------
        TraceError
            If its segments, placed one after the other, end later than in the year 2116.
        """
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
    max_gap_s : float, optional
        Longest step in s inside a segment, above 0; a longer one is a hole, which is not integrated. By default ten
        times the median step of a channel, and at least 1 s.

    Raises
    ------
    ValueError
        If `max_gap_s` is not above 0.
    """

    def __init__(self, source: str, path: str, *, limit_points: int = 1 << 22, max_gap_s: float | None = None) -> None:
        if max_gap_s is not None and not max_gap_s > 0:
            raise ValueError(f"max_gap_s must be above 0, not {max_gap_s}")
        self.source = source
        self.path = path
        self.notes: list[str] = []
        self.lines = 0
        self.dropped = 0
        self._absurd = 0
        self._max_gap_s = max_gap_s
        self._entries: dict[str, ChannelTotals] = {}
        self._places: dict[str, int] = {}
        self._spool = PointStore(limit_points)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def channel(self, name: str, *, kind: str = "power", unit: str = "W", root: bool = False, parent: str = "") -> None:
        """Declare a channel. Only the first declaration of a name counts."""
        if len(self._entries) == _MOST_CHANNELS and name not in self._entries:
            self.note(f"more than {_MOST_CHANNELS} channels: the others are left out")
        elif name not in self._entries:
            self._places[name] = len(self._entries)
            self._entries[name] = ChannelTotals(name, kind, unit, root, parent)

    def add(self, name: str, time_ns: np.ndarray, segment: np.ndarray, value: np.ndarray) -> None:
        """Add the next points of a channel: int64 times in ns, rising segment numbers, values (NaN if absent)."""
        if name not in self._entries:
            return
        time_ns = np.ascontiguousarray(time_ns, np.int64)
        segment = np.ascontiguousarray(segment, np.int32)
        value = self._sensible(name, np.ascontiguousarray(value, np.float64))
        self._entries[name].count(value)
        self._spool.add(self._places[name], time_ns, segment, value)

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

    def count_first(self, names: list[str], why: str) -> None:
        """Make a root of the first of `names` with a value; a later one than the first is named in a note."""
        have = [name for name in names if name in self._entries and self._entries[name].samples]
        for name in names:
            if name in self._entries:
                self._entries[name].root = name in have[:1]
        if have and have[0] != names[0]:
            self._entries[have[0]].parent = ""
            self.note(f"{have[0]} counts: {why}")

    def _integrate(self) -> None:
        holes = self._spool.cut(self._max_gap_s)
        for number, entry in enumerate(self._entries.values()):
            for piece in self._spool.of(number):
                entry.add(*piece)
        if holes.at_ns:
            self.note(f"{counted(len(holes.at_ns), 'hole')} longer than {holes.longest_s:.6g} s: not integrated")
        if holes.back and not any(note.startswith("time goes back") for note in self.notes):
            self.note(f"time goes back {counted(len(holes.back), 'time')}; a new segment begins at each")

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def finish(self, known: list[str] | None = None) -> Recording:
        """Make the recording; the channels in ``known`` (those of the format) without a value are its absent ones."""
        self._spool.close()
        self._integrate()
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
    builder = RecordingBuilder("fastgreen", "result", max_gap_s=math.inf)
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
