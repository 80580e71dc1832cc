"""The trace of one channel: what it is, what was counted, its samples; and the energy of any stretch of it.

A trace does not care whether its samples lie in memory or in a recorded file; it asks for chunks.
"""

from __future__ import annotations

from functools import cached_property

from fastgreen import _resolver
from fastgreen.results import questions, settled_samples
from fastgreen.results.bounded import Bounded, Pause, Windows
from fastgreen.results.together import TogetherQuestion
from fastgreen.sensors.channel import UNLIMITED_W, Channel
from fastgreen.units import NS_PER_S, counted, joules_per_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

    import numpy as np

    Array: TypeAlias = np.ndarray

__all__ = ["Bounded", "Totals", "Trace", "Windows", "learn", "recount", "together"]

# Two counters are shown in turn, and it is not one that jumps, where so large a share of the readings is doubtful.
IN_TURN = 0.5


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
        self.source = chunks

    has_samples = True  # whether its samples can be asked for

    @classmethod
    def recounted(
        cls, channel: Channel, counted: bool, chunks: Callable[[], Iterable[Array]], **known: int | str | None
    ) -> Trace:
        """The trace of samples that no sampler tallied: counted here, its faults unknown but for those given."""
        trace = cls(channel, counted, {}, chunks)
        recount([trace], **known)
        return trace

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
        return max(self.channel.ceiling_w or 2 * peak_w or UNLIMITED_W, peak_w)

    def chunks(self) -> Iterator[Array]:
        return iter(self.source())

    @cached_property
    def unknown(self) -> list[tuple[int, int]]:
        """Stretches (begin_ns, end_ns) in which the counter tells nothing: its ceiling alone bounds the energy."""
        stretches = [(int(b), int(e)) for b, e in self.tally.get("still_ns", [])]
        if self.in_turn is not None:
            stretches.append(self.in_turn)
        out: list[tuple[int, int]] = []
        for begin, end in sorted(stretches):
            if out and begin <= out[-1][1]:
                out[-1] = (out[-1][0], max(end, out[-1][1]))
            else:
                out.append((begin, end))
        return out

    @cached_property
    def in_turn(self) -> tuple[int, int] | None:
        """The stretch (begin_ns, end_ns) in which two counters are shown in turn, if there is one.

        The account suspects it of a counter that leaves its line often. Two counters in turn are each shown for a good
        part of the time; the readings of a counter that only jumps are few, and the others are sound.
        """
        if not self.tally.get("in_turn_ns"):
            return None
        begin_ns, end_ns = self.tally["in_turn_ns"]
        samples = doubtful = before = 0
        for chunk in self.chunks():
            first, last = (before + int(i) for i in chunk["at_ns"].searchsorted([begin_ns, end_ns + 1]))
            samples += last - first
            doubtful += sum(max(min(e, last) - max(b, first), 0) for b, e in self._false)
            before += len(chunk)
        return (begin_ns, end_ns) if doubtful >= IN_TURN * samples else None

    @cached_property
    def restarts(self) -> int:
        """How often the counter restarted, as far as that is not one of its jumps."""
        if not self.lied:
            return self.tally["resets"]
        return sum(int(((chunk["flags"] & _resolver.RESET) != 0).sum()) for chunk in self._undone())

    @property
    def jumps(self) -> int:
        """How often the counter left its line and came back."""
        return self.tally.get("jumps", 0) + max(self.tally["resets"] - self.restarts, 0)

    @property
    def lied(self) -> bool:
        """Whether the account met a reading that does not follow from the one before."""
        return self.channel.kind == "energy" and bool(self.tally.get("jumps") or self.tally.get("resets"))

    @cached_property
    def _false(self) -> list[tuple[int, int]]:
        from fastgreen.results.false_readings import false_readings

        return false_readings(self.source, self.channel.traits)

    @cached_property
    def _may_restart(self) -> set[int]:
        from fastgreen.results.false_readings import restart_places

        return restart_places(self.source(), self.channel.traits, self._false)

    def undoing(self) -> settled_samples.Undoing | None:
        """A new filter that leaves out the false readings; None where there are none."""
        if not self.lied:
            return None
        traits = {**self.channel.traits, "tick_ns": self.tally.get("tick_ns", 0)}
        left = self.tally["samples"] - sum(end - begin for begin, end in self._false)
        # Of two counters in turn, all between the first jump and the last is unknown. Where no reading would be left,
        # the account's own judgement is the better one.
        if self.in_turn is not None or left < 2:
            return settled_samples.Undoing(traits, [])
        return settled_samples.Undoing(traits, self._false, self._may_restart)

    def _undone(self) -> Iterator[Array]:
        undoing = self.undoing()
        return self.chunks() if undoing is None else (undoing.take(chunk) for chunk in self.source())

    def settled(self) -> Iterator[Array]:
        """The samples without those that tell nothing; all of them where the counter never lied."""
        return settled_samples.without(self._undone(), self.unknown) if self.unknown else self._undone()

    @cached_property
    def learnt(self) -> dict[str, Any]:
        """The report, but what is learnt of a counter that lied is learnt of its settled samples."""
        if not self.lied and not self.unknown:
            return self.tally
        question = questions.LearntQuestion(self)
        questions.ask([question])
        return question.answer()

    @cached_property
    def pauses(self) -> list[Pause]:
        """Where wraps may have gone unseen: the process was stopped, the machine suspended, reads failed for long."""
        if not questions.PausesQuestion.possible(self):
            return []
        question = questions.PausesQuestion(self)
        questions.ask([question])
        return question.answer()

    def total(self) -> Bounded:
        """Energy from the first sample to the last one asked for; the estimate is the counter's own difference."""
        return Totals([self]).answers()[0]

    def windows(self, begin_ns: Array, end_ns: Array) -> Bounded:
        """Energy of the stretches [begin_ns, end_ns], both columns sorted. ValueError where they are not."""
        question = questions.WindowsQuestion(self, begin_ns, end_ns)
        questions.ask([question])
        return question.answer()

    def together(self, windows: Windows) -> Bounded:
        """Energy of all stretches of a handle together, bounded as one.

        The energy between the stretches is at least what the samples prove, and at most the ceiling times their length.
        So ten thousand adjoining windows are as well known as one of their length. Gaps cost certainty: nothing proves
        that the channel did not draw all its energy outside, up to its ceiling, or all inside. If the gaps together
        last a share g of the time, the low bound is lower by up to g times the ceiling's energy, and the high bound
        still contains the energy of the gaps. For a counter without restarts these are the tightest bounds
        (csrc/fg_resolver_sum.h). Overlapping parts count as often as they occur.
        """
        question = TogetherQuestion(self, windows)
        questions.ask([question])
        return question.answer()


class Totals:
    """The energies of whole traces, asked together; see `Trace.total`."""

    def __init__(self, traces: list[Trace]) -> None:
        import numpy as np

        self.traces = traces
        self._asked: list[questions.WindowsQuestion | None] = []
        learn(traces)
        for trace in traces:
            begin, end = trace.tally["first_at_ns"], trace.tally["end_at_ns"]
            shown_ns = questions.shown_ns(trace.channel)
            edges = np.array([begin - shown_ns]), np.array([end - shown_ns])
            self._asked.append(questions.WindowsQuestion(trace, *edges) if trace.has_data else None)

    def answers(self) -> list[Bounded]:
        """One for each trace; NaN for a trace without samples."""
        questions.ask([question for question in self._asked if question is not None])
        return [self._answer(*pair) for pair in zip(self.traces, self._asked, strict=True)]

    @staticmethod
    def _answer(trace: Trace, question: questions.WindowsQuestion | None) -> Bounded:
        if question is None:
            return Bounded(float("nan"), float("nan"), float("nan"))
        energy_j = trace.tally["end_total"] * joules_per_unit(trace.channel.unit)
        bounds = question.answer()[0]
        if trace.channel.estimated or trace.lied:  # the account judged the readings of a lie one by one
            return Bounded(min(max(energy_j, bounds.low_j), bounds.high_j), bounds.low_j, bounds.high_j)
        energy_j = max(energy_j, 0.0)
        return Bounded(energy_j, min(bounds.low_j, energy_j), max(bounds.high_j, energy_j))


def together(traces: list[Trace], windows: Windows) -> list[Bounded]:
    """`Trace.together` of each trace, all in one pass."""
    learn(traces)
    asked = [TogetherQuestion(trace, windows) for trace in traces]
    questions.ask(asked)
    return [question.answer() for question in asked]


def learn(traces: list[Trace]) -> None:
    """What is learnt of counters that lied, of all traces in one pass."""
    unknown = [t for t in traces if "learnt" not in vars(t) and (t.lied or t.unknown)]
    asked = [questions.LearntQuestion(trace) for trace in unknown]
    questions.ask(asked)
    for question in asked:
        vars(question.trace)["learnt"] = question.answer()


def recount(traces: list[Trace], **known: int | str | None) -> None:
    """Count what no sampler tallied, of all traces in one pass; faults are unknown but for those given."""
    asked = [questions.TallyQuestion(trace) for trace in traces]
    questions.ask(asked)
    for trace, question in zip(traces, asked, strict=True):
        tally = question.answer()
        ends = {"end_at_ns": tally["last_at_ns"], "end_total": tally["total"]}
        unknown = dict.fromkeys(("missed", "lost", "read_errors", "why_ended", "last_error"))
        trace.tally = {**tally, **ends, **unknown, **known}
        for name in ("unknown", "learnt", "pauses", "in_turn", "restarts", "_false", "_may_restart"):
            vars(trace).pop(name, None)
