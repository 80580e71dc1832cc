"""Questions to the samples of traces, all answered in one pass.

A recording holds the samples of all channels interleaved, and can be larger than the memory. So a question takes the
samples of its trace chunk by chunk, and `ask` reads each file once for all questions to it.
"""

from __future__ import annotations

from fastgreen import _resolver
from fastgreen.results import resolving, settled_samples
from fastgreen.results.bounded import Bounded, Pause
from fastgreen.results.pauses import blind_pauses
from fastgreen.units import NS_PER_S, joules_per_unit, watts_to_units_per_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Protocol

    import numpy as np

    from fastgreen.sensors.channel import Channel

    Array = np.ndarray

    class Asked(Protocol):
        """What a question needs to know of its trace."""

        channel: Channel
        tally: dict[str, Any]
        source: Callable[[], Iterable[Array]]

        @property
        def ceiling_w(self) -> float: ...
        @property
        def learnt(self) -> dict[str, Any]: ...
        @property
        def unknown(self) -> list[tuple[int, int]]: ...
        @property
        def pauses(self) -> list[Pause]: ...
        def undoing(self) -> settled_samples.Undoing | None: ...

    class Question(Protocol):
        @property
        def trace(self) -> Asked: ...

        def feed(self, settled: Array, undone: Array) -> None:
            """The next samples: without those that tell nothing, and without the false ones only."""


__all__ = ["LearntQuestion", "PausesQuestion", "TallyQuestion", "WindowsQuestion", "ask", "in_joules", "resolver_facts"]

LEARNT = ("period_ns", "period_mean_ns", "period_lower_ns", "period_upper_ns", "periods", "peak_per_ns", "resets")


class TallyQuestion:
    """The counts and totals of a trace that has no tally yet; the samples are changed as a sampler would have."""

    def __init__(self, trace: Asked) -> None:
        self.trace = trace
        self._account = _resolver.Account(trace.channel.traits)

    def feed(self, settled: Array, undone: Array) -> None:
        self._account.feed(settled)

    def answer(self) -> dict[str, Any]:
        return self._account.tally()


class LearntQuestion:
    """What is learnt of a counter that lied, from its settled samples; the answer is the tally with it."""

    def __init__(self, trace: Asked) -> None:
        self.trace = trace
        self._account = _resolver.Account({**trace.channel.traits, "tick_ns": trace.tally.get("tick_ns", 0)})

    def feed(self, settled: Array, undone: Array) -> None:
        self._account.feed(settled.copy())  # which it changes

    def answer(self) -> dict[str, Any]:
        found = self._account.tally()
        return {**self.trace.tally, **{name: value for name, value in found.items() if name in LEARNT}}


class PausesQuestion:
    """The stretches in which wraps may have gone unseen, see `fastgreen.results.trace.Trace.pauses`."""

    def __init__(self, trace: Asked) -> None:
        self.trace = trace
        self._last: Array | None = None
        self._found: list[Pause] = []

    @staticmethod
    def possible(trace: Asked) -> bool:
        """Whether any two samples are so far apart that the counter can have wrapped between them."""
        modulus, longest_s = trace.channel.traits["modulus"], trace.tally["step_longest_ns"] / NS_PER_S
        most_j = longest_s * trace.ceiling_w
        return trace.channel.kind == "energy" and 0 < modulus * joules_per_unit(trace.channel.unit) <= most_j

    def feed(self, settled: Array, undone: Array) -> None:
        import numpy as np

        trace = self.trace
        modulus, scale = trace.channel.traits["modulus"], joules_per_unit(trace.channel.unit)
        samples = settled if self._last is None else np.concatenate([self._last, settled])
        self._found += blind_pauses(samples, modulus, trace.ceiling_w / NS_PER_S / scale, scale)
        self._last = samples[-1:].copy()

    def answer(self) -> list[Pause]:
        return self._found


def resolver_facts(trace: Asked) -> tuple[dict[str, Any], float]:
    """The traits and the ceiling (in the channel's own unit per ns) to resolve the trace with."""
    traits = {**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}
    return traits, watts_to_units_per_ns(trace.ceiling_w, trace.channel.unit)


def in_joules(trace: Asked, begin_ns: Array, end_ns: Array, low: Array, estimate: Array, high: Array) -> Bounded:
    """What a resolver says of the stretches [begin_ns, end_ns], in J and with all else that is known of the channel.

    The three columns are changed.
    """
    import numpy as np

    channel, scale = trace.channel, joules_per_unit(trace.channel.unit)
    if channel.estimated:
        # Sampling says how well the model was followed, not how well it describes the machine: between its own
        # idle and full power everything is possible.
        seconds = (end_ns - begin_ns) / NS_PER_S
        least, most = seconds * (channel.floor_w or 0.0), seconds * trace.ceiling_w
        return Bounded(np.clip(estimate * scale, least, most), least, most)
    for column in (low, estimate, high):
        column *= scale
    if channel.kind == "power":  # a current sensor can show a little less than nothing
        np.maximum(high, low, out=high)
        np.clip(estimate, low, high, out=estimate)
    for pause in trace.pauses:
        overlap_ns = np.minimum(end_ns, pause.end_ns) - np.maximum(begin_ns, pause.begin_ns)
        high += np.clip(trace.ceiling_w * overlap_ns / NS_PER_S, 0.0, pause.hidden_j)
    return Bounded(estimate, low, high)


def shown_ns(channel: Channel) -> int:
    """The value that a power shows at t is of t - delay: windows look for it where it was shown."""
    return round(channel.delay_s * NS_PER_S) if channel.kind == "power" and channel.delay_s else 0


class WindowsQuestion:
    """The energy of the stretches [begin_ns, end_ns] of a trace, both columns sorted."""

    def __init__(self, trace: Asked, begin_ns: Array, end_ns: Array) -> None:
        import numpy as np

        self.trace = trace
        delay_ns = shown_ns(trace.channel)
        begin_ns, end_ns = np.asarray(begin_ns), np.asarray(end_ns)
        if delay_ns:
            begin_ns, end_ns = begin_ns + delay_ns, end_ns + delay_ns
        self._edges = begin_ns, end_ns
        traits, ceiling = resolver_facts(trace)
        self._settled = resolving.WindowResolver(traits, ceiling, begin_ns, end_ns, restarts=trace.learnt["resets"] > 0)
        # Within the bounds the counter is still the best guess.
        self._undone = resolving.WindowResolver(traits, ceiling, begin_ns, end_ns) if trace.unknown else None

    def feed(self, settled: Array, undone: Array) -> None:
        self._settled.feed(settled)
        if self._undone is not None:
            self._undone.feed(undone)

    def answer(self) -> Bounded:
        """ValueError where a column is not sorted."""
        import numpy as np

        low, estimate, high = self._settled.answers()
        if self._undone is not None:
            _, estimate, _ = self._undone.answers()
            np.clip(estimate, low, high, out=estimate)
        return in_joules(self.trace, *self._edges, low, estimate, high)


class _Reading:
    """The samples of one trace, on their way to the questions to it."""

    def __init__(self, trace: Asked) -> None:
        self.trace = trace
        self.questions: list[Question] = []
        self._undoing = trace.undoing()
        self._leaving = settled_samples.Leaving(trace.unknown) if trace.unknown else None

    def feed(self, samples: Array) -> None:
        self._pass_on(samples if self._undoing is None else self._undoing.take(samples))

    def _pass_on(self, undone: Array) -> None:
        settled = undone if self._leaving is None else self._leaving.take(undone)
        for question in self.questions:
            question.feed(settled, undone)


def ask(questions: Sequence[Question]) -> None:
    """Show the samples of their traces to the questions: each file is read once.

    A question to a trace whose pauses are not known yet brings that question with it. TraceError where a file is
    damaged.
    """
    readings: dict[int, _Reading] = {}
    pauses: list[PausesQuestion] = []
    for question in questions:
        trace = question.trace
        if id(trace) not in readings:
            readings[id(trace)] = _Reading(trace)
            learning = isinstance(question, (TallyQuestion, LearntQuestion, PausesQuestion))
            if not learning and "pauses" not in vars(trace):
                if PausesQuestion.possible(trace):
                    pauses.append(PausesQuestion(trace))
                    readings[id(trace)].questions.append(pauses[-1])
                else:
                    vars(trace)["pauses"] = []
        readings[id(trace)].questions.append(question)
    _read(list(readings.values()))
    for asked in pauses:
        vars(asked.trace)["pauses"] = asked.answer()


def _read(readings: list[_Reading]) -> None:
    files: dict[Any, list[_Reading]] = {}
    for reading in readings:
        file = getattr(reading.trace.source, "file", None)
        if file is not None:
            files.setdefault(file.path, []).append(reading)
            continue
        for samples in reading.trace.source():
            reading.feed(samples)
    for together in files.values():
        sources: list[Any] = [reading.trace.source for reading in together]
        names = list(dict.fromkeys(source.channel.id for source in sources))
        places = {name: [i for i, s in enumerate(sources) if s.channel.id == name] for name in names}
        checks = [source.check() for source in sources]
        for n, samples in sources[0].file.parts(names):
            for i in places[names[n]]:
                checks[i].take(samples)
                together[i].feed(samples)
        for reading, source, check in zip(together, sources, checks, strict=True):
            check.finish()
            for samples in source.kept():
                reading.feed(samples)
