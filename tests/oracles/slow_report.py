# SPDX-License-Identifier: Apache-2.0
"""The slow twin of reports: every channel alone, every question alone, each reading all samples again with pyarrow.

It holds all answers of a question at once, and looks ahead for the samples that a jump makes false.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow.compute as pc

from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.results import resolving, run_folder
from fastgreen.results.bounded import Bounded, Pause
from fastgreen.results.run_checks import SamplesCheck
from fastgreen.results.trace import Trace
from fastgreen.units import NS_PER_S, joules_per_unit, watts_to_units_per_ns
from tests.oracles.sums import slow_sum

LEARNT = ("period_ns", "period_mean_ns", "period_lower_ns", "period_upper_ns", "periods", "peak_per_ns", "resets")


def slow_chunks(path, channel):
    """The samples of one channel of a samples.arrow, batch by batch."""
    for batch in run_folder.read_columns(path, run_folder.SAMPLES):
        run_folder.check_nulls(batch, path)
        column = batch.column("channel")
        names = column.dictionary.to_pylist()
        if names != [channel]:
            if channel not in names:
                continue
            batch = batch.filter(pc.equal(column.indices, names.index(channel)))
        yield run_folder.samples_of(batch)


def checked(path, channel, tally):
    """The same, looked at. TraceError for samples that cannot be those of the tally."""
    check = SamplesCheck(channel, tally)
    try:
        for samples in slow_chunks(path, channel.id):
            check.take(samples)
            yield samples
        check.finish()
    except ValueError as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"{path} is damaged: {error}") from error


def undone(chunks, traits, false, restarts):
    """The samples but those at the places `false`, all at once, accounted without them."""
    samples = np.concatenate([np.empty(0, _resolver.SAMPLE), *chunks()])
    keep, after = np.ones(len(samples), bool), np.zeros(len(samples) + 1, bool)
    for begin, end in false:
        keep[begin:end] = False
        after[end] = True
    torn = (after[:-1] | ((samples["flags"] & _resolver.RETURN) != 0)) & keep
    samples["flags"][torn], samples["wraps"][torn] = _resolver.GAP, 0
    restarted = np.zeros(len(samples), bool)
    restarted[list(restarts)] = True
    out = samples[keep]
    _resolver.Account(traits).feed(out)
    back = ((out["flags"] & _resolver.RETURN) != 0) | restarted[keep]
    out["flags"][back], out["wraps"][back] = _resolver.RESET, 0
    yield out


def without(samples, stretches):
    """The samples that do not lie inside one of the stretches (begin_ns, end_ns), which are sorted and apart."""
    begin = np.array([b for b, _ in stretches], np.int64)
    end = np.array([e for _, e in stretches], np.int64)
    passed = 0  # stretches after which a sample was kept
    for chunk in samples:
        at_ns = chunk["at_ns"]
        last = np.searchsorted(begin, at_ns, side="left") - 1  # the stretch that began before
        inside = (last >= 0) & (at_ns < end[last])
        out, ended = chunk[~inside].copy(), np.searchsorted(end, at_ns[~inside], side="right")
        torn = np.diff(ended, prepend=passed) > 0
        out["flags"][torn] |= _resolver.RESET
        out["wraps"][torn] = 0
        passed = int(ended[-1]) if len(ended) else passed
        yield out


class SlowTrace(Trace):
    """A trace whose every question reads all samples."""

    def _undone(self):
        if not self.lied:
            return iter(self.source())
        traits = {**self.channel.traits, "tick_ns": self.tally.get("tick_ns", 0)}
        left = self.tally["samples"] - sum(end - begin for begin, end in self._false)
        if self.in_turn is not None or left < 2:
            return undone(self.source, traits, [], [])
        return undone(self.source, traits, self._false, self._may_restart)

    def settled(self):
        """The samples without those that tell nothing; all of them where the counter never lied."""
        return without(self._undone(), self.unknown) if self.unknown else self._undone()

    @cached_property
    def learnt(self):
        """The report, but what is learnt of a counter that lied is learnt of its settled samples."""
        if not self.lied and not self.unknown:
            return self.tally
        account = _resolver.Account({**self.channel.traits, "tick_ns": self.tally.get("tick_ns", 0)})
        for chunk in self.settled():
            account.feed(chunk)
        return {**self.tally, **{name: value for name, value in account.tally().items() if name in LEARNT}}

    @cached_property
    def pauses(self):
        """Where wraps may have gone unseen: the process was stopped, the machine suspended, reads failed for long."""
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

    def total(self):
        """Energy from the first sample to the last one asked for; the estimate is the counter's own difference."""
        begin, end = self.tally["first_at_ns"], self.tally["end_at_ns"]
        if not self.has_data:
            return Bounded(float("nan"), float("nan"), float("nan"))
        energy_j = self.tally["end_total"] * joules_per_unit(self.channel.unit)
        shown_ns = round((self.channel.delay_s or 0.0) * NS_PER_S) if self.channel.kind == "power" else 0
        bounds = self.windows(np.array([begin - shown_ns]), np.array([end - shown_ns]))[0]
        if self.channel.estimated or self.lied:
            return Bounded(min(max(energy_j, bounds.low_j), bounds.high_j), bounds.low_j, bounds.high_j)
        energy_j = max(energy_j, 0.0)
        return Bounded(energy_j, min(bounds.low_j, energy_j), max(bounds.high_j, energy_j))

    def windows(self, begin_ns, end_ns):
        """Energy of the stretches [begin_ns, end_ns], both columns sorted. ValueError where they are not."""
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

    def _simple(self, begin, end):
        """Whether the samples are those of a counter without restarts and doubts, and no windows overlap."""
        doubts = self.learnt["resets"] or self.unknown or self.pauses or not self.tally["samples"]
        return self.channel.kind == "energy" and not doubts and bool(np.all(end[:-1] <= begin[1:]))

    def together(self, windows):
        """Energy of all stretches of a handle together, bounded as one; see `Trace.together`.

        Where the counter is in doubt or windows overlap: stretches near each other are bounded from the first begin to
        the last end, less the gaps between them. Where a gap is so long that samples bound it better than the ceiling,
        the stretches on its two sides are bounded on their own. What overlaps counts as often as it occurs.
        """
        # The sum is that of E(end) less that of E(begin): which begin belongs to which end does not matter.
        begin, end = np.sort(windows.begin_ns), np.sort(windows.end_ns)
        alone = self.windows(begin, end)
        energy_j = float(np.sum(alone.energy_j))
        if len(begin) < 2 or self.channel.estimated:
            return Bounded(energy_j, float(np.sum(alone.low_j)), float(np.sum(alone.high_j)))
        if self._simple(begin, end):
            traits = {**self.channel.traits, "period_ns": self.learnt["period_ns"]}
            ceiling, scale = (
                watts_to_units_per_ns(self.ceiling_w, self.channel.unit),
                joules_per_unit(self.channel.unit),
            )
            low, _, high, _ = _resolver.resolve_instants(traits, ceiling, self.settled(), begin)
            end_low, _, end_high, _ = _resolver.resolve_instants(traits, ceiling, self.settled(), end)
            least, most = slow_sum((begin, low, high), (end, end_low, end_high), ceiling)
            least, most = least * scale, most * scale
            return Bounded(min(max(energy_j, least), most), least, most)
        between = self.windows(np.minimum(end[:-1], begin[1:]), np.maximum(end[:-1], begin[1:]))
        ceiling_j = self.ceiling_w * np.abs(begin[1:] - end[:-1]) / NS_PER_S
        gap = begin[1:] >= end[:-1]
        apart = gap & (between.high_j < ceiling_j)
        most_j = np.maximum(np.minimum(between.high_j, ceiling_j), between.low_j)  # no ceiling holds what was proven
        first = np.concatenate([[0], np.flatnonzero(apart) + 1])
        last = np.concatenate([np.flatnonzero(apart), [len(end) - 1]])
        whole = self.windows(begin[first], end[last])

        def of_each(column):
            return np.add.reduceat(column, first)

        within_low = np.append(np.where(apart, 0.0, np.where(gap, -most_j, between.low_j)), 0.0)
        within_high = np.append(np.where(apart, 0.0, np.where(gap, -between.low_j, most_j)), 0.0)
        low_j = float(np.sum(np.maximum(whole.low_j + of_each(within_low), of_each(alone.low_j))))
        high_j = float(np.sum(np.minimum(whole.high_j + of_each(within_high), of_each(alone.high_j))))
        return Bounded(min(max(energy_j, low_j), high_j), low_j, high_j)
