"""The trace of one channel: what it is, what was counted, its samples; and the energy of any stretch of it.

A trace does not care whether its samples lie in memory or in a recorded file; it asks for chunks.
"""

from __future__ import annotations

from functools import cached_property

from fastgreen import _resolver
from fastgreen._light_dataclass import dataclass
from fastgreen.results import settled_samples
from fastgreen.sensors.channel import Channel
from fastgreen.units import NS_PER_S, counted, joules_per_unit, watts_to_units_per_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

    import numpy as np

    Array: TypeAlias = np.ndarray

__all__ = ["Bounded", "Trace", "Windows"]

_LEARNT = ("period_ns", "period_mean_ns", "period_lower_ns", "period_upper_ns", "periods", "peak_per_ns", "resets")

# For a channel that says nothing of its limits and has not been seen to draw anything.
FALLBACK_CEILING_W = 1000.0


@dataclass
class Bounded:
    """Energies in J with their bounds; scalars or arrays of one shape. They add."""

    energy_j: Any
    low_j: Any
    high_j: Any

    def __add__(self, other: Bounded) -> Bounded:
        return Bounded(self.energy_j + other.energy_j, self.low_j + other.low_j, self.high_j + other.high_j)

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.energy_j[index], self.low_j[index], self.high_j[index])

    @classmethod
    def zeros(cls, count: int) -> Bounded:
        import numpy as np

        return cls(np.zeros(count), np.zeros(count), np.zeros(count))


@dataclass
class Windows:
    """The stretches of one handle, in order and without overlap."""

    name: str
    handle: int
    begin_ns: Array
    end_ns: Array

    def __len__(self) -> int:
        return len(self.begin_ns)


@dataclass(frozen=True)
class Pause:
    """A stretch between two samples so long that the counter can have wrapped more often than shows."""

    begin_ns: int
    end_ns: int
    hidden_j: float


class Trace:
    """One channel of a finished run.

    Parameters
    ----------
    channel : Channel
    counted : bool
        Whether it is part of the total.
    tally : dict
        The final counts and totals of the channel, see ``_core.Sampler.tally``.
    chunks : callable
        Returns an iterable of sample arrays (dtype ``_resolver.SAMPLE``) in time order.
    """

    def __init__(
        self, channel: Channel, counted: bool, tally: dict[str, Any], chunks: Callable[[], Iterable[Array]]
    ) -> None:
        self.channel = channel
        self.counted = counted
        self.tally = tally
        self._chunks = chunks

    @classmethod
    def recounted(
        cls, channel: Channel, counted: bool, chunks: Callable[[], Iterable[Array]], **known: int | str | None
    ) -> Trace:
        """The trace of samples that no sampler tallied: counted here, its faults unknown but for those given."""
        account = _resolver.Account(channel.traits)
        for chunk in chunks():
            account.feed(chunk)
        tally = account.tally()
        ends = {"end_at_ns": tally["last_at_ns"], "end_total": tally["total"]}
        unknown = dict.fromkeys(("missed", "lost", "read_errors", "why_ended", "last_error"))
        return cls(channel, counted, {**tally, **ends, **unknown, **known}, chunks)

    def __repr__(self) -> str:
        return f"<trace of {self.channel.id}: {counted(self.tally['samples'], 'sample')}>"

    @property
    def has_data(self) -> bool:
        return self.tally["samples"] > 0

    @property
    def dead(self) -> bool:
        """Whether its counter never moved though there was load: it has measured nothing."""
        still = not self.channel.estimated and bool(self.tally.get("still_ns"))
        return still and self.tally["updates"] == 0

    @property
    def method(self) -> str:
        """How its energy comes about: ``counter``, ``trapezoid`` or ``estimate``."""
        if self.channel.estimated:
            return "estimate"
        return "counter" if self.channel.kind == "energy" else "trapezoid"

    @property
    def ceiling_w(self) -> float:
        """The most the channel can draw: its own limit, else twice the highest seen, and never less than seen."""
        scale = joules_per_unit(self.channel.unit)
        peak_w = self.learnt["peak_per_ns"] * scale * NS_PER_S
        if self.channel.estimated:
            return self.channel.ceiling_w or 0.0
        return max(self.channel.ceiling_w or 2 * peak_w or FALLBACK_CEILING_W, peak_w)

    def chunks(self) -> Iterator[Array]:
        return iter(self._chunks())

    @cached_property
    def unknown(self) -> list[tuple[int, int]]:
        """Stretches (begin_ns, end_ns) in which the counter tells nothing: its ceiling alone bounds the energy."""
        stretches = [(int(b), int(e)) for b, e in self.tally.get("still_ns", [])]
        if self.tally.get("in_turn_ns"):
            stretches.append(tuple(self.tally["in_turn_ns"]))
        out: list[tuple[int, int]] = []
        for begin, end in sorted(stretches):
            if out and begin <= out[-1][1]:
                out[-1] = (out[-1][0], max(end, out[-1][1]))
            else:
                out.append((begin, end))
        return out

    def _undone(self) -> Iterator[Array]:
        return settled_samples.undone(self._chunks) if self.tally.get("jumps") else self.chunks()

    def settled(self) -> Iterator[Array]:
        """The samples without those that tell nothing; all of them where the counter never lied."""
        return settled_samples.without(self._undone(), self.unknown) if self.unknown else self._undone()

    @cached_property
    def learnt(self) -> dict[str, Any]:
        """The report, but what is learnt of a counter that lied is learnt of its settled samples."""
        if not self.tally.get("jumps") and not self.unknown:
            return self.tally
        account = _resolver.Account({**self.channel.traits, "tick_ns": self.tally.get("tick_ns", 0)})
        for chunk in self.settled():
            account.feed(chunk)
        return {**self.tally, **{name: value for name, value in account.tally().items() if name in _LEARNT}}

    @cached_property
    def pauses(self) -> list[Pause]:
        """Where wraps may have gone unseen: the process was stopped, the machine suspended, reads failed for long."""
        import numpy as np

        modulus, longest_s = self.channel.traits["modulus"], self.tally["step_longest_ns"] / NS_PER_S
        scale, ceiling_w = joules_per_unit(self.channel.unit), self.ceiling_w
        if self.channel.kind != "energy" or not 0 < modulus * scale <= longest_s * ceiling_w:
            return []
        out, last = [], None
        for chunk in self.settled():
            samples = chunk if last is None else np.concatenate([last, chunk])
            grown = np.diff(samples["raw"]) + samples["wraps"][1:].astype(np.int64) * modulus
            most = np.diff(samples["at_ns"]) * (ceiling_w / NS_PER_S / scale)
            wraps = np.where(samples["flags"][1:] & _resolver.RESET, 0, (most - grown) // modulus)
            at_ns = samples["at_ns"].tolist()
            out += [Pause(at_ns[i], at_ns[i + 1], float(wraps[i]) * modulus * scale) for i in np.flatnonzero(wraps > 0)]
            last = samples[-1:]
        return out

    def total(self) -> Bounded:
        """Energy from the first sample to the last one asked for; the estimate is the counter's own difference."""
        import numpy as np

        begin, end = self.tally["first_at_ns"], self.tally["end_at_ns"]
        if not self.has_data:
            return Bounded(float("nan"), float("nan"), float("nan"))
        energy_j = self.tally["end_total"] * joules_per_unit(self.channel.unit)
        shown_ns = round((self.channel.delay_s or 0.0) * NS_PER_S) if self.channel.kind == "power" else 0
        bounds = self.windows(np.array([begin - shown_ns]), np.array([end - shown_ns]))[0]
        if self.channel.estimated:
            return Bounded(min(max(energy_j, bounds.low_j), bounds.high_j), bounds.low_j, bounds.high_j)
        energy_j = max(energy_j, 0.0)
        return Bounded(energy_j, min(bounds.low_j, energy_j), max(bounds.high_j, energy_j))

    def windows(self, begin_ns: Array, end_ns: Array) -> Bounded:
        """Energy of the stretches [begin_ns, end_ns], both columns sorted. ValueError where they are not."""
        import numpy as np

        from fastgreen.results import resolving

        begin_ns, end_ns = np.asarray(begin_ns), np.asarray(end_ns)
        channel = self.channel
        if channel.kind == "power" and channel.delay_s:
            # The value shown at t is of t - delay: look for the window where its power was shown.
            delay_ns = round(channel.delay_s * NS_PER_S)
            begin_ns, end_ns = begin_ns + delay_ns, end_ns + delay_ns
        traits = {**channel.traits, "period_ns": self.learnt["period_ns"]}
        ceiling = watts_to_units_per_ns(self.ceiling_w, channel.unit)
        low, estimate, high = resolving.resolve_windows(
            traits, ceiling, self.settled(), begin_ns, end_ns, restarts=self.learnt["resets"] > 0
        )
        if self.unknown:  # within the bounds the counter is still the best guess
            _, estimate, _ = resolving.resolve_windows(traits, ceiling, self._undone(), begin_ns, end_ns)
            np.clip(estimate, low, high, out=estimate)
        scale = joules_per_unit(channel.unit)
        if channel.estimated:
            # Sampling says how well the model was followed, not how well it describes the machine: between its own
            # idle and full power everything is possible.
            seconds = (end_ns - begin_ns) / NS_PER_S
            least, most = seconds * (channel.floor_w or 0.0), seconds * self.ceiling_w
            return Bounded(np.clip(estimate * scale, least, most), least, most)
        for column in (low, estimate, high):
            column *= scale
        if channel.kind == "power":  # a current sensor can show a little less than nothing
            np.maximum(high, low, out=high)
            np.clip(estimate, low, high, out=estimate)
        for pause in self.pauses:
            overlap_ns = np.minimum(end_ns, pause.end_ns) - np.maximum(begin_ns, pause.begin_ns)
            high += np.clip(self.ceiling_w * overlap_ns / NS_PER_S, 0.0, pause.hidden_j)
        return Bounded(estimate, low, high)

    def together(self, windows: Windows) -> Bounded:
        """Energy of all stretches of a handle together, bounded as one.

        Stretches near each other are bounded from the first begin to the last end, and what the gaps between them hold
        is taken off: at least what the samples prove, at most the ceiling times their length. So ten thousand adjoining
        windows are as well known as one of their length. Where a gap is so long that samples bound it better than the
        ceiling, the stretches on its two sides are bounded on their own. What overlaps counts as often as it occurs.
        """
        import numpy as np

        # The sum is that of E(end) less that of E(begin): which begin belongs to which end does not matter.
        begin, end = np.sort(windows.begin_ns), np.sort(windows.end_ns)
        alone = self.windows(begin, end)
        energy_j = float(np.sum(alone.energy_j))
        if len(begin) < 2 or self.channel.estimated:
            return Bounded(energy_j, float(np.sum(alone.low_j)), float(np.sum(alone.high_j)))
        between = self.windows(np.minimum(end[:-1], begin[1:]), np.maximum(end[:-1], begin[1:]))
        ceiling_j = self.ceiling_w * np.abs(begin[1:] - end[:-1]) / NS_PER_S
        gap = begin[1:] >= end[:-1]
        apart = gap & (between.high_j < ceiling_j)
        most_j = np.maximum(np.minimum(between.high_j, ceiling_j), between.low_j)  # no ceiling holds what was proven
        first = np.concatenate([[0], np.flatnonzero(apart) + 1])
        last = np.concatenate([np.flatnonzero(apart), [len(end) - 1]])
        whole = self.windows(begin[first], end[last])

        def of_each(column: Array) -> Array:
            return np.add.reduceat(column, first)

        within_low = np.append(np.where(apart, 0.0, np.where(gap, -most_j, between.low_j)), 0.0)
        within_high = np.append(np.where(apart, 0.0, np.where(gap, -between.low_j, most_j)), 0.0)
        low_j = float(np.sum(np.maximum(whole.low_j + of_each(within_low), of_each(alone.low_j))))
        high_j = float(np.sum(np.minimum(whole.high_j + of_each(within_high), of_each(alone.high_j))))
        return Bounded(min(max(energy_j, low_j), high_j), low_j, high_j)
