# SPDX-License-Identifier: Apache-2.0
"""What a monitor with ``keep="totals"`` keeps: sums by channel, window name and ledger, in constant memory."""

from __future__ import annotations

import numpy as np

from fastgreen import _core, _resolver
from fastgreen._light_dataclass import dataclass, replace
from fastgreen.measuring.stand_in import StandIn
from fastgreen.measuring.still_watch import StillWatch
from fastgreen.measuring.sums_of_windows import RUN, ChannelSums
from fastgreen.results.name_totals import WindowTotal
from fastgreen.results.totals_result import TotalsResult, TotalTrace
from fastgreen.results.trace import Bounded
from fastgreen.sensors.catalog import counted_ids
from fastgreen.units import NS_PER_S, joules_per_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from fastgreen import _window
    from fastgreen.measuring.standstill import CounterJudge
    from fastgreen.measuring.sums_of_windows import Pieces
    from fastgreen.results.name_totals import LedgerTotal
    from fastgreen.sensors.channel import Channel

__all__ = ["KeptTotals"]

_UNKNOWN = float("nan")


@dataclass
class _Handle:
    """A window handle: up to where it was cut, and what ended after the last cut."""

    name: str
    key: str
    cut_ns: int = 0
    left: list[tuple[int, int]] | None = None


def _union_key(name: str) -> str:
    return f"u{name}"


def _merged(begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> Pieces:
    """The union of pieces in any order."""
    order = np.argsort(begin_ns, kind="stable")
    begin_ns, reach = begin_ns[order], np.maximum.accumulate(end_ns[order])
    new = np.append(True, begin_ns[1:] > reach[:-1])
    return begin_ns[new], reach[np.append(np.flatnonzero(new)[1:] - 1, len(reach) - 1)]


class KeptTotals:
    """The totals of a run, fed with samples and windows as they come.

    Parameters
    ----------
    channels : list of Channel
    start_ns : int
    judge : CounterJudge
        Watches the load of the CPUs.

    Attributes
    ----------
    watches : dict of str to StillWatch
        By energy counter.
    """

    def __init__(self, channels: list[Channel], start_ns: int, judge: CounterJudge) -> None:
        self.channels, self._cut_ns = channels, start_ns
        self._counted = counted_ids(channels)
        self._sums: dict[str, ChannelSums] = {}
        self.watches: dict[str, StillWatch] = {}
        for channel in sorted(channels, key=lambda c: c.kind == "energy"):  # a power before the counter of its board
            if channel.kind == "energy" and not channel.estimated and channel.source != "replay":
                own = next((c for c in channels if c.kind == "power" and c.parent == channel.id), None)
                power = (own.id, self._sums[own.id].power_so_far_j) if own is not None else None
                self.watches[channel.id] = StillWatch(channel, judge.witness, power)
            self._sums[channel.id] = ChannelSums(channel, channel.id in self._counted, self.watches.get(channel.id))
        self._judge, self._stand_in = judge, StandIn(channels, judge)
        self._handles: list[_Handle] = []
        self._windows: dict[str, WindowTotal] = {}
        self._handles_of: dict[str, int] = {}
        self._overlap: set[str] = set()

    def drain(self, samples: Mapping[str, bytearray], handles: Sequence[_window.Window]) -> None:
        """Take in samples that were just taken out of the rings, and the windows until now."""
        for identity, sums in self._sums.items():
            if identity in samples:
                taken = _resolver.samples(samples[identity])
                sums.take(taken.copy())
                if identity in self.watches:
                    self.watches[identity].take(taken, sums.tally())
        self._stand_in.look(self._sums)
        self._cut(handles, _core.now_ns())

    def finish(self, handles: Sequence[_window.Window], tallies: Mapping[str, Mapping[str, Any]]) -> None:
        """No window is open and no sample comes any more. Idempotent."""
        self._stand_in.look(self._sums, last=True)
        self._cut(handles, max(_core.now_ns(), self._cut_ns + 1))
        for identity, sums in self._sums.items():
            sums.finish(tallies[identity]["end_at_ns"])

    def _cut(self, handles: Sequence[_window.Window], now_ns: int) -> None:
        pieces: dict[str, Pieces] = {}
        by_name: dict[str, list[Pieces]] = {}
        for i in range(len(handles)):
            if i == len(self._handles):
                self._add_handle(handles[i].name)
            found = self._taken(self._handles[i], handles[i], now_ns)
            if len(found[0]):
                pieces[self._handles[i].key] = found
                by_name.setdefault(self._handles[i].name, []).append(found)
        for name, parts in by_name.items():
            begin_ns, end_ns = (np.concatenate(columns) for columns in zip(*parts, strict=True))
            union = _merged(begin_ns, end_ns) if len(parts) > 1 else parts[0]
            if len(parts) > 1 and (end_ns - begin_ns).sum() > (union[1] - union[0]).sum():
                self._overlap.add(name)
            pieces[_union_key(name)] = union
        for sums in self._sums.values():
            sums.cut(self._cut_ns, now_ns, pieces)
        self._stand_in.cut(self._cut_ns, now_ns, pieces)
        self._cut_ns = now_ns

    def _add_handle(self, name: str) -> None:
        number = self._handles_of[name] = self._handles_of.get(name, 0) + 1
        self._handles.append(_Handle(name, f"h{number} {name}"))

    def _taken(self, known: _Handle, window: _window.Window, now_ns: int) -> Pieces:
        """The parts of a handle's stretches that lie before now and after the last cut."""
        begin_ns, end_ns, amounts, open_ns = window.take()
        if len(begin_ns) or known.left:
            total = self._windows.setdefault(known.name, WindowTotal(known.name))
            total.count += len(begin_ns)
            total.time_ns += int((end_ns - begin_ns).sum())
            total.durations_s.add_all((end_ns - begin_ns) / NS_PER_S)
            for name, value in amounts.items():
                total.amounts[name] = total.amounts.get(name, 0.0) + value
        if known.left:
            earlier = np.array(known.left, np.int64).T
            begin_ns, end_ns = np.append(earlier[0], begin_ns), np.append(earlier[1], end_ns)
            known.left = None
        if open_ns >= 0:
            begin_ns, end_ns = np.append(begin_ns, open_ns), np.append(end_ns, max(now_ns, open_ns))
        begin_ns = np.maximum(begin_ns, known.cut_ns)
        late = end_ns > now_ns
        if late.any():
            known.left = list(zip(np.maximum(begin_ns[late], now_ns).tolist(), end_ns[late].tolist(), strict=True))
        known.cut_ns = now_ns
        end_ns = np.minimum(end_ns, now_ns)
        some = end_ns > begin_ns
        return begin_ns[some], end_ns[some]

    # ---- what came out ----

    def windows(self) -> list[WindowTotal]:
        """The totals of the window names, in the order of their first end."""
        energies: dict[str, Bounded] = {}
        counted = [self._sums[identity].rows() for identity in self._counted - self._judge.replaced]
        for rows in (*counted, *([self._stand_in.rows()] if self._judge.replaced else [])):
            for key, energy in rows.items():
                energies[key] = energies.get(key, Bounded(0.0, 0.0, 0.0)) + energy
        out = []
        for name, total in self._windows.items():
            count = self._handles_of[name]
            none = Bounded(0.0, 0.0, 0.0)
            energy = sum((energies.get(f"h{i + 1} {name}", none) for i in range(count)), none)
            union = energies.get(_union_key(name), none)
            if name not in self._overlap:  # then the union is all of them, bounded as one
                energy = union
            out.append(replace(total, energy=energy, union=union if name in self._overlap else None))
        return out

    def traces(self, channels: Sequence[Channel], tallies: Mapping[str, dict[str, Any]]) -> list[TotalTrace]:
        """The channels with their energies."""
        counted = self._counted - self._judge.replaced
        return [
            TotalTrace(c, c.id in counted, tallies.get(c.id, {}), self._total(c, tallies.get(c.id, {})))
            for c in channels
        ] + [TotalTrace(t.channel, True, t.tally, t.total()) for t in self._judge.stand_ins]

    def judge(self, tallies: dict[str, dict[str, Any]], may_replace: bool) -> str | None:
        """Say in the tallies where counters stood still under load, as `CounterJudge.decide` does for kept samples."""
        for identity, watch in self.watches.items():
            if watch.stretches:
                tallies[identity] |= {"still_ns": watch.stretches, "still_why": watch.why}
        for channel in self.channels:
            tally = tallies[channel.id]
            if channel.source == "procstat" and self._judge.witness.stood_still and tally["samples"]:
                tally["still_ns"] = [[tally["first_at_ns"], tally["last_at_ns"]]]
        return self._judge.replace(self.traces(self.channels, tallies)) if may_replace else None

    def _total(self, channel: Channel, tally: Mapping[str, Any]) -> Bounded:
        if not tally.get("samples"):
            return Bounded(_UNKNOWN, _UNKNOWN, _UNKNOWN)
        energy_j = tally["end_total"] * joules_per_unit(channel.unit)
        found = self._sums[channel.id].rows().get(RUN, Bounded(energy_j, energy_j, energy_j))
        if channel.estimated:
            return Bounded(min(max(energy_j, found.low_j), found.high_j), found.low_j, found.high_j)
        return Bounded(max(energy_j, 0.0), min(found.low_j, energy_j), max(found.high_j, energy_j))

    def notes(self, tallies: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Sentences on bounds that rest on too short an update period."""
        out = []
        for identity, sums in self._sums.items():
            period_ns = tallies.get(identity, {}).get("period_ns", 0)
            if 0 < sums.period_least_ns < period_ns and sums.channel.kind == "energy":
                out.append(
                    f"{identity} updates each {period_ns / NS_PER_S:.3g} s, which was seen only later: the bounds of "
                    f"totals before rest on {sums.period_least_ns / NS_PER_S:.3g} s and may be too close"
                )
        return out

    def result(
        self,
        traces: list[TotalTrace],
        ledgers: list[LedgerTotal],
        metadata: dict[str, Any],
        edges_ns: tuple[int, int],
        notes: list[str],
    ) -> TotalsResult:
        """The result of the run. What no span of a ledger was charged is the rest of the energy of its channels."""
        drawn_j = {t.channel.id: t.total().energy_j for t in traces if t.has_data}
        for ledger in ledgers:
            if ledger.energy is not None:
                of_channels = sum(drawn_j.get(identity, 0.0) for identity in ledger.channels)
                ledger.unattributed_j = of_channels - ledger.energy.energy_j - ledger.baseline_j
        if ledgers and self._judge.replaced:
            notes = [*notes, "ledgers share the counters that did not move, not the estimate that replaces them"]
        return TotalsResult(traces, self.windows(), ledgers, metadata, *edges_ns, notes)
