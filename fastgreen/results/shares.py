"""Shares of spans that overlap: from the traces of a run to joules for each span and channel, with bounds."""

from __future__ import annotations

import numpy as np

from fastgreen import _shares
from fastgreen._light_dataclass import dataclass
from fastgreen.results.trace import Bounded, Trace
from fastgreen.units import NS_PER_S, joules_per_unit, watts_to_units_per_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["Apart", "Shares", "Spans", "check_baseline", "set_apart", "share", "weight_units", "within_model"]

_MOST_WEIGHT = 2.0**40


@dataclass
class Spans:
    """What is shared among: columns with an entry per piece of a span, which has one weight.

    Attributes
    ----------
    begin_ns, end_ns : arrays of int64
    weight : array of uint64
        Units of 2^-20, see `weight_units`.
    span : array of uint32, optional
        Which span each piece is of; those of a span follow each other in time, each begins where the one before ends.
        By default each is a span of its own.
    charged : array of bool, optional
        By span: False for one that only looks on, as the phases of spans that are charged do.
    """

    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    weight: NDArray[np.uint64]
    span: NDArray[np.uint32] | None = None
    charged: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.begin_ns) if self.charged is None else len(self.charged)

    @property
    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Begin and end of each span."""
        if self.span is None:
            return self.begin_ns, self.end_ns
        first = np.flatnonzero(np.diff(self.span, prepend=-1))
        return self.begin_ns[first], self.end_ns[np.append(first[1:], len(self.span)) - 1]

    def events(self) -> NDArray[np.void]:
        """What happens to the spans, in the order of time; at one instant openings are first and closings last."""
        assert self.span is not None
        count = len(self.span)
        first = np.diff(self.span, prepend=-1) != 0
        out = np.zeros(count + len(self), _shares.event_dtype())
        out["at_ns"] = np.append(self.begin_ns, self.edges[1])
        out["weight"][:count] = self.weight
        out["span"] = np.append(self.span, np.arange(len(self)))
        out["kind"] = np.append(~first, np.full(len(self), 2))
        return out[np.lexsort((np.arange(len(out)), out["kind"], out["at_ns"]))]


@dataclass
class Shares:
    """Energies of spans in J.

    Attributes
    ----------
    by_channel : dict of str to Bounded
        An entry per span for each channel.
    unattributed_j : dict of str to float
        Energy of each channel while no span was open, from `begin_ns` to `end_ns`.
    time_s : array
        The part of the time that was each span's: its length where it was alone.
    begin_ns, end_ns : int
        The stretch that is shared out: the run, and the spans where they reach beyond it.
    """

    by_channel: dict[str, Bounded]
    unattributed_j: dict[str, float]
    time_s: NDArray[np.float64]
    begin_ns: int
    end_ns: int

    @property
    def together(self) -> Bounded:
        return sum(self.by_channel.values(), Bounded.zeros(len(self.time_s)))

    @property
    def drawn_j(self) -> float:
        """What the channels drew in the stretch, by the curve that windows are looked up on."""
        shared = sum(float(np.sum(b.energy_j)) for b in self.by_channel.values())
        return shared + sum(self.unattributed_j.values())


@dataclass
class Apart:
    """Shares without the baseline, and the baseline's part of each span, in J."""

    left: Bounded
    baseline_j: NDArray[np.float64]


def weight_units(weights: Any) -> NDArray[np.uint64]:
    """Weights as whole multiples of 2^-20; one above 0 is at least one. ValueError for a weight that cannot be one."""
    column = np.asarray(weights, np.float64)
    wrong = np.flatnonzero(~((column >= 0) & (column <= _MOST_WEIGHT)))
    if len(wrong):
        raise ValueError(f"weight must be a number from 0 to 2^40, not {float(column[wrong[0]])} (row {int(wrong[0])})")
    units = np.rint(column * _shares.WEIGHT).astype(np.uint64)
    return np.maximum(units, (column > 0).astype(np.uint64))


def share(traces: Sequence[Trace], spans: Spans, run: tuple[int, int]) -> Shares:
    """Share the energy of some channels among spans.

    The estimate of a span is the integral of its weight over the sum of all weights; its bounds contain every energy
    that the samples allow (csrc/fg_share.h has the rule, and why no rule gives closer bounds).

    Parameters
    ----------
    traces : sequence of Trace
        Channels that were read.
    spans : Spans
    run : (int, int)
        Begin and end of the run, ns.
    """
    begin_ns, end_ns = int(np.min(spans.begin_ns, initial=run[0])), int(np.max(spans.end_ns, initial=run[1]))
    # A span of no weight makes the engine look at both ends of the stretch.
    whole = Spans(
        np.append(spans.begin_ns, begin_ns).astype(np.int64),
        np.append(spans.end_ns, end_ns).astype(np.int64),
        np.append(spans.weight, 0).astype(np.uint64),
        None if spans.span is None else np.append(spans.span, len(spans)).astype(np.uint32),
        None if spans.charged is None else np.append(spans.charged, True),
    )
    time_ns, values, _, unattributed = _engine(traces, [t.settled() for t in traces], whole)
    time_s = time_ns[:-1] / NS_PER_S
    by_channel, alone = {}, {}
    for i, trace in enumerate(traces):
        scale = joules_per_unit(trace.channel.unit)
        low, estimate, high = (values[:-1, i] * scale).T
        alone[trace.channel.id] = unattributed[i] * scale
        if trace.unknown:  # within the bounds the counter is still the best guess
            _, guess, _, rest = _engine([trace], [trace._undone()], whole)
            estimate, alone[trace.channel.id] = guess[:-1, 0, 1] * scale, rest[0] * scale
            low, high = np.minimum(low, estimate), np.maximum(high, estimate)
        by_channel[trace.channel.id] = _widened(trace, Bounded(estimate, low, high), spans, time_s)
    return Shares(by_channel, alone, time_s, begin_ns, end_ns)


def _engine(
    traces: Sequence[Trace], chunks: Sequence[Iterable[NDArray[np.void]]], spans: Spans
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float], list[float]]:
    channels = [
        ({**t.channel.traits, "period_ns": t.learnt["period_ns"]}, watts_to_units_per_ns(t.ceiling_w, t.channel.unit))
        for t in traces
    ]
    if not channels:
        return np.zeros(len(spans)), np.zeros((len(spans), 0, 3)), [], []
    shown = [_when_drawn(t, c) for t, c in zip(traces, chunks, strict=True)]
    if spans.charged is not None:
        return _shares.share_events(channels, shown, spans.events(), spans.charged)
    return _shares.share_columns(channels, shown, spans.begin_ns, spans.end_ns, spans.weight)


def _when_drawn(trace: Trace, chunks: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
    """The samples at the time of what they show: a power sensor can be late."""
    delay_ns = round((trace.channel.delay_s or 0.0) * NS_PER_S) if trace.channel.kind == "power" else 0
    for chunk in chunks:
        if delay_ns:
            chunk = chunk.copy()
            chunk["at_ns"] -= delay_ns
        yield np.ascontiguousarray(chunk)


def _widened(trace: Trace, found: Bounded, spans: Spans, time_s: NDArray[np.float64]) -> Bounded:
    """The bounds with what the samples alone do not say: of a model, and of wraps that went unseen."""
    if trace.channel.estimated:
        return within_model(found.energy_j, time_s, trace.channel.floor_w or 0.0, trace.ceiling_w)
    high = found.high_j
    for pause in trace.pauses:
        overlap_ns = np.minimum(spans.edges[1], pause.end_ns) - np.maximum(spans.edges[0], pause.begin_ns)
        hidden = np.clip(trace.ceiling_w * overlap_ns / NS_PER_S, 0.0, pause.hidden_j)
        high = high + np.where(time_s > 0, hidden, 0.0)
    if trace.channel.kind == "power":  # a current sensor can show a little less than nothing
        high = np.maximum(high, found.low_j)
    return Bounded(found.energy_j, found.low_j, high)


def within_model(energy_j: Any, time_s: Any, floor_w: float, ceiling_w: float) -> Bounded:
    """The bounds of a model, as of a window: between its own idle and full power everything is possible.

    CPU time has steps of 10 ms, so a share can be a step outside of that. A cut share would not add up to what was
    drawn; the bounds take the share in.
    """
    return Bounded(energy_j, np.minimum(time_s * floor_w, energy_j), np.maximum(time_s * ceiling_w, energy_j))


def set_apart(found: Bounded, time_s: NDArray[np.float64], baseline_w: float) -> Apart:
    """Take a baseline off each span: what it would have drawn in its part of the time, at most its share.

    What is above the share stays in the baseline, so that the sum holds and no share is negative.
    """
    floor_j = baseline_w * time_s
    apart_j = np.minimum(found.energy_j, floor_j)
    left = Bounded(
        found.energy_j - apart_j, np.maximum(found.low_j - floor_j, 0.0), np.maximum(found.high_j - floor_j, 0.0)
    )
    return Apart(left, apart_j)


def check_baseline(baseline_w: Any, channels: Sequence[str]) -> float | dict[str, float]:
    """The baseline as watts of all channels together, or by channel. ValueError for one that cannot be."""
    from fastgreen.guards.arguments import number

    if baseline_w is None:
        return 0.0
    by_channel = isinstance(baseline_w, dict)
    given = baseline_w if by_channel else {"": baseline_w}
    for identity, value in given.items():
        name = f"baseline_w[{identity!r}]" if by_channel else "baseline_w"
        if by_channel and identity not in channels:
            raise ValueError(f"baseline_w must name channels that are shared, {list(channels)}, not {identity!r}")
        if not 0 <= number(name, value) < float("inf"):
            raise ValueError(f"{name} must be a number of watts from 0 on, not {value!r}")
    return {k: float(v) for k, v in given.items()} if by_channel else float(baseline_w)
