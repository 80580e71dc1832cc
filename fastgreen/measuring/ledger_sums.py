# SPDX-License-Identifier: Apache-2.0
"""All spans of a ledger together, where only totals are kept: known far better than the sum of its single spans."""

from __future__ import annotations

import numpy as np

from fastgreen.measuring.sums_of_windows import OVERLAPPING, ChannelSums
from fastgreen.results.name_totals import LedgerTotal, PhaseTotal
from fastgreen.results.quantiles import Quantiles
from fastgreen.results.share_rules import ledger_rule
from fastgreen.results.trace import Bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from fastgreen import _steps
    from fastgreen.measuring.still_watch import StillWatch
    from fastgreen.sensors.channel import Channel

__all__ = ["LedgerSums"]

_UNION = "u"
_ZERO = Bounded(0.0, 0.0, 0.0)


class LedgerSums:
    """The total of one ledger, fed with samples, with what happens to its spans, and with the shares that are known.

    Parameters
    ----------
    ledger : Ledger
    channels : sequence of Channel
    start_ns : int
        No span began before.
    watches : mapping of str to StillWatch
        By channel, see `ChannelSums`.
    """

    def __init__(
        self,
        ledger: _steps.SteppedLedger,
        channels: Sequence[Channel],
        start_ns: int,
        watches: Mapping[str, StillWatch],
    ) -> None:
        self._ledger = ledger
        self.total = LedgerTotal(ledger.name, channels=[c.id for c in channels])
        self._sums = {c.id: ChannelSums(c, True, watches.get(c.id)) for c in channels}
        self._cut_ns = start_ns
        self._open = self._before = 0  # spans that are open, now and at the last cut
        self._edges: tuple[list[int], list[int]] = [], []  # begins and ends since the last cut
        self._paying: set[int] = set()  # spans of weight above 0
        self._since_ns: int | None = None
        self._union: list[tuple[int, int]] = []
        self._equal = True

    def take(self, identity: str, samples: np.ndarray) -> None:
        """The next samples of a channel."""
        self._sums[identity].take(samples.copy())

    # ---- what happens to spans, in the order of time ----

    def opened(self, number: int, at_ns: int, weight: float) -> None:
        self._open += 1
        self._edges[0].append(at_ns)
        self.weighed(number, at_ns, weight)

    def weighed(self, number: int, at_ns: int, weight: float) -> None:
        self._equal = self._equal and weight == 1.0
        if weight > 0:
            self._paying.add(number)
            if self._since_ns is None:
                self._since_ns = at_ns
        else:
            self._pays_no_more(number, at_ns)

    def closed(self, number: int, at_ns: int) -> None:
        self._open -= 1
        self._edges[1].append(at_ns)
        self._pays_no_more(number, at_ns)

    def _pays_no_more(self, number: int, at_ns: int) -> None:
        self._paying.discard(number)
        if not self._paying and self._since_ns is not None:
            self._union.append((self._since_ns, at_ns))
            self._since_ns = None

    def cut(self, until_ns: int) -> None:
        """All that happened until an instant is known."""
        if until_ns <= self._cut_ns:
            return
        pieces = {}
        if self._since_ns is not None:
            self._union.append((self._since_ns, until_ns))
            self._since_ns = until_ns
        if union := [(begin, end) for begin, end in self._union if end > begin]:
            pieces[_UNION] = tuple(np.array(union, np.int64).T)
        begins = np.append(np.full(self._before, self._cut_ns, np.int64), np.array(self._edges[0], np.int64))
        ends = np.append(np.array(self._edges[1], np.int64), np.full(self._open, until_ns, np.int64))
        if len(begins):
            pieces[OVERLAPPING] = begins, ends
        for sums in self._sums.values():
            sums.cut(self._cut_ns, until_ns, pieces)
        self._cut_ns, self._before, self._union = until_ns, self._open, []
        self._edges = [], []

    # ---- what is known of shares ----

    def count(self, rows: np.ndarray, details: list[Any]) -> None:
        """Count closed spans, as `Ledger.take` gave them."""
        total = self.total
        total.count += len(rows)
        total.time_ns += int((rows["end_ns"] - rows["begin_ns"]).sum())
        for pieces in details:
            for _, phase, _, amounts in pieces or ():
                of_phase = self._phase(phase) if phase is not None and amounts else None
                for name, value in (amounts or {}).items():
                    total.amounts[name] = total.amounts.get(name, 0.0) + value
                    if of_phase is not None:
                        of_phase.amounts[name] = of_phase.amounts.get(name, 0.0) + value

    def settle(self, row: tuple[Any, ...], energy: Bounded) -> None:
        """The share of a span is known; `row` is its `Span.row`."""
        self.total.energies_j.add(energy.energy_j)
        amounts: dict[str, float] = {}
        for *_, done in row[5] or ():
            for name, value in (done or {}).items():
                amounts[name] = amounts.get(name, 0.0) + value
        for name, value in amounts.items():
            if value > 0:
                self.total.per_amount_j.setdefault(name, Quantiles()).add(energy.energy_j / value)

    def settle_phase(self, name: str, energy: Bounded) -> None:
        """The share of one phase of a span is known."""
        phase = self._phase(name)
        phase.count += 1
        phase.energy = (phase.energy or _ZERO) + energy
        phase.energies_j.add(energy.energy_j)

    def _phase(self, name: str) -> PhaseTotal:
        return self.total.phases.setdefault(name, PhaseTotal())

    def finish(self, charged: Bounded, baseline_j: float) -> LedgerTotal:
        """No sample comes any more. The total; `charged` is the sum of the shares without the baseline."""
        for sums in self._sums.values():
            sums.finish()
        rows = [sums.rows() for sums in self._sums.values()]
        together = sum((found.get(_UNION, _ZERO) for found in rows), _ZERO)
        windows_j = sum(found[OVERLAPPING].energy_j for found in rows if OVERLAPPING in found)
        low, high = (max(x - baseline_j, 0.0) for x in (together.low_j, together.high_j))
        energy_j = charged.energy_j
        low, high = min(max(low, charged.low_j), energy_j), max(min(high, charged.high_j), energy_j)
        total = self.total
        total.energy, total.baseline_j = Bounded(energy_j, low, high), baseline_j
        shared_j = energy_j + baseline_j
        total.window_factor = windows_j / shared_j if shared_j > 0 else None
        definition = {"weights": self._ledger.weights, "rule": self._ledger.rule}
        total.rule = ledger_rule(definition, self._equal)
        return total
