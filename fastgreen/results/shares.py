"""Shares of spans that overlap: from the traces of a run to joules for each span and channel, with bounds."""

from __future__ import annotations

import numpy as np

from fastgreen import _shares
from fastgreen._light_dataclass import dataclass
from fastgreen.results.activity import activity_of, edges_of, shares_j
from fastgreen.results.charged_spans import Spans
from fastgreen.results.load_states import merged_edges
from fastgreen.results.trace import Bounded, Trace
from fastgreen.units import NS_PER_S, joules_per_unit, watts_to_units_per_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from fastgreen.results.energies import Energies
    from fastgreen.results.following import Following

__all__ = [
    "Apart",
    "Shares",
    "Spans",
    "check_baseline",
    "follow_spans",
    "set_apart",
    "share",
    "weight_units",
    "within_model",
]

_MOST_WEIGHT = 2.0**40
_MOST_KINDS = 20  # that have powers of their own


@dataclass
class Shares:
    """Energies of spans in J.

    Attributes
    ----------
    by_channel : dict of str to Bounded
        An entry per span for each channel.
    unattributed_j : dict of str to float
        The rest of each channel's energy in the run: that of the time without a span. At the ends of a run, the curve
        that windows and spans are on and the readings of the counter can differ by up to the energy between two
        updates. This difference is part of the rest; only where spans reach over an end can it bring it below 0.
    drawn_j : dict of str to float
        Energy of each channel in the run, as of `Result.channels`.
    time_s : array
        The part of the time that was each span's: its length where it was alone.
    """

    by_channel: dict[str, Bounded]
    unattributed_j: dict[str, float]
    drawn_j: dict[str, float]
    time_s: NDArray[np.float64]

    @property
    def together(self) -> Bounded:
        return sum(self.by_channel.values(), Bounded.zeros(len(self.time_s)))


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


def share(result: Energies, traces: Sequence[Trace], spans: Spans, following: Following | None = None) -> Shares:
    """Share the energy of some channels among spans.

    The estimate of a span is the integral of its weight over the sum of all weights; its bounds contain every energy
    that the samples allow (csrc/fg_share.h has the rule, and why no rule gives closer bounds). The integral is on the
    curve of `following` where the channel has one; it is within the bounds.

    Parameters
    ----------
    result : Energies
        The run.
    traces : sequence of Trace
        Channels of it that were read.
    spans : Spans
    following : Following, optional
        It knows what the spans do and all their edges (`fastgreen.results.activity`).
    """
    time_ns, values = _engine(traces, [t.settled() for t in traces], spans)
    time_s = time_ns / NS_PER_S
    charged = slice(None) if spans.charged is None else spans.charged
    by_channel, alone, drawn = {}, {}, {}
    for i, trace in enumerate(traces):
        identity, scale = trace.channel.id, joules_per_unit(trace.channel.unit)
        low, estimate, high = (values[:, i] * scale).T
        followed = None if following is None else following.of(trace)
        on_curve = None if followed is None else shares_j(followed, spans)
        if trace.unknown:  # within the bounds the counter is still the best guess
            estimate = _engine([trace], [trace._undone()], spans)[1][:, 0, 1] * scale
        elif on_curve is not None:
            estimate = on_curve
        if trace.unknown or on_curve is not None:  # the curve is within the bounds, its sums are rounded
            low, high = np.minimum(low, estimate), np.maximum(high, estimate)
        by_channel[identity] = _widened(trace, Bounded(estimate, low, high), spans, time_s)
        drawn[identity] = float(result.totals[identity].energy_j)
        alone[identity] = drawn[identity] - float(np.sum(estimate[charged]))
    return Shares(by_channel, alone, drawn, time_s)


def follow_spans(
    result: Energies, traces: Sequence[Trace], spans: Spans, kinds: NDArray[np.int64] | None = None
) -> Following:
    """Estimates that follow what these spans do, beside the windows and ledgers of the run.

    Parameters
    ----------
    result : Energies
    traces : sequence of Trace
    spans : Spans
    kinds : (pieces,) int64, optional
        What each piece does, as the name of a function; each kind is then open or not. By default, how many spans are
        open matters and not what they do.
    """
    from fastgreen.results.following import Following

    did, edges_ns = result._followed_work()
    here = activity_of("spans", spans, kinds, _MOST_KINDS, counted=kinds is None)
    own_ns = edges_of(spans)
    return Following(traces, [*did, *here], own_ns if edges_ns is None else merged_edges([edges_ns, own_ns]))


def _engine(
    traces: Sequence[Trace], chunks: Sequence[Iterable[NDArray[np.void]]], spans: Spans
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The part of the time of each span, and its shares by channel."""
    channels = [
        ({**t.channel.traits, "period_ns": t.learnt["period_ns"]}, watts_to_units_per_ns(t.ceiling_w, t.channel.unit))
        for t in traces
    ]
    if not channels:
        return np.zeros(len(spans)), np.zeros((len(spans), 0, 3))
    shown = [_when_drawn(t, c) for t, c in zip(traces, chunks, strict=True)]
    if spans.charged is not None:
        return _shares.share_events(channels, shown, spans.events(), spans.charged)[:2]
    return _shares.share_columns(channels, shown, spans.begin_ns, spans.end_ns, spans.weight)[:2]


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
