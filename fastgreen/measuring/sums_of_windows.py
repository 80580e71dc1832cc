# SPDX-License-Identifier: Apache-2.0
"""The energy of windows by name while samples come and go: sums with bounds, and no window is kept.

Each time the rings are emptied, the windows are cut at that instant. So all pieces of one cut lie between two instants,
and only the samples around these are held. Adjoining pieces have the bounds of the whole (`fastgreen._resolver.Sum`).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from fastgreen import _resolver
from fastgreen.results.pauses import blind_pauses
from fastgreen.results.trace import Bounded
from fastgreen.sensors.channel import UNLIMITED_W
from fastgreen.units import NS_PER_S, joules_per_unit, watts_to_units_per_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from fastgreen.measuring.still_watch import StillWatch
    from fastgreen.results.bounded import Pause
    from fastgreen.sensors.channel import Channel

    Instants: TypeAlias = NDArray[np.int64]
    Pieces: TypeAlias = tuple[Instants, Instants]
    Edge: TypeAlias = tuple[Instants, NDArray[np.float64], NDArray[np.float64]]

__all__ = ["OVERLAPPING", "RUN", "ChannelSums"]

RUN = ""  # the row of the whole run
OVERLAPPING = "o"  # a row of pieces that may overlap; only its estimate means something
_LEARNT = 8  # updates, before which the time between two is not known
_LEARN_NS = 5 * NS_PER_S
_PATIENCE_NS = 2 * NS_PER_S  # for samples after a cut; a channel that ended gives no more
_STILL_PATIENCE_NS = 10 * NS_PER_S  # for a change of a counter that may stand still under load
_LOOKED_BACK = 1 << 13  # samples before a cut that are held while a counter stands still
_CHANGES = 3
_DOUBTS = _resolver.RESET | _resolver.RETURN | _resolver.BETWEEN


class _Row:
    """The sum of one row of pieces on one channel, in the channel's unit."""

    def __init__(self) -> None:
        self.estimate = self._low = self._high = 0.0
        self._sum: _resolver.Sum | None = None

    def add(self, begins: Edge, ends: Edge, estimate: float, ceiling: float) -> None:
        """Pieces with (at_ns, low, high) of a counter at their edges."""
        if self._sum is None:
            self._sum = _resolver.Sum(ceiling)
        self._sum.ceiling_per_ns = max(self._sum.ceiling_per_ns, ceiling)
        self._sum.add(begins, ends)
        self.estimate += estimate

    def add_alone(self, low: NDArray, estimate: NDArray, high: NDArray) -> None:
        """Pieces that are bounded one by one; what follows is bounded apart from what was before."""
        self.fold()
        self._low += float(np.sum(low))
        self._high += float(np.sum(high))
        self.estimate += float(np.sum(np.clip(estimate, low, high)))

    def hide(self, most: float) -> None:
        """As much more may have been drawn unseen."""
        self._high += most

    def fold(self) -> None:
        if self._sum is not None:
            low, high = self._sum.bounds
            self._low, self._high, self._sum = self._low + low, self._high + high, None

    def bounded(self, scale: float) -> Bounded:
        self.fold()
        low, high = min(self._low, self._high), max(self._low, self._high)
        return Bounded(min(max(self.estimate, low), high) * scale, low * scale, high * scale)


class ChannelSums:
    """The sums of one channel, by the keys of rows.

    Parameters
    ----------
    channel : Channel
    windows : bool
        Whether rows of windows are summed; else only that of the run.
    watch : StillWatch, optional
        Says where the counter tells nothing. It has the samples of `take` already.
    """

    def __init__(self, channel: Channel, windows: bool, watch: StillWatch | None = None) -> None:
        self.channel, self._windows, self._watch = channel, windows, watch
        self._pauses: list[tuple[Pause, dict[str, float]]] = []  # and what of it is in each row already
        self._account = _resolver.Account(channel.traits)
        self._delay_ns = round((channel.delay_s or 0.0) * NS_PER_S) if channel.kind == "power" else 0
        self._tail = np.empty(0, _resolver.SAMPLE)
        self._tail_total = 0  # what the counter had counted at the first sample that is held
        self._cuts: deque[tuple[int, int, dict[str, Pieces]]] = deque()  # begin, end, pieces by row
        self._rows: dict[str, _Row] = {}
        self._first_ns: int | None = None
        self._at_cut: tuple[int, list[float]] | None = None
        self.period_least_ns = 0  # the shortest update period that bounds rest on

    @property
    def held(self) -> int:
        """The samples that are held."""
        return len(self._tail)

    def take(self, samples: NDArray[np.void]) -> None:
        """The next samples."""
        self._account.feed(samples)
        self._find_pauses(samples)
        samples["at_ns"] -= self._delay_ns
        if self._first_ns is None:
            self._first_ns = int(samples["at_ns"][0])
        self._tail = np.concatenate([self._tail, samples])

    def cut(self, begin_ns: int, end_ns: int, pieces: dict[str, Pieces]) -> None:
        """Windows of the time between two cuts, which are summed once the samples tell of it."""
        self._cuts.append((begin_ns, end_ns, pieces if self._windows else {}))
        self._settle(end_ns)

    def finish(self, end_ns: int | None = None) -> None:
        """No samples come any more; the last reading was asked for at an instant, or is the last sample."""
        self._settle(None, end_ns)

    def rows(self) -> dict[str, Bounded]:
        """The energies so far, in J."""
        scale = joules_per_unit(self.channel.unit)
        return {key: row.bounded(scale) for key, row in self._rows.items()}

    def tally(self) -> dict[str, int | float]:
        """What the account of the channel has learnt."""
        return self._account.tally()

    def power_so_far_j(self) -> float:
        """The energy of a power until its last sample, in J."""
        return float(self._account.tally()["total"]) * joules_per_unit(self.channel.unit)

    def _find_pauses(self, samples: NDArray[np.void]) -> None:
        modulus = int(self.channel.traits["modulus"])
        if self.channel.kind != "energy" or not modulus or self.channel.estimated:
            return
        both = np.concatenate([self._tail[-1:], samples])
        ceiling = self._ceiling(self._account.tally()["peak_per_ns"])
        if float(np.diff(both["at_ns"]).max(initial=0)) * ceiling >= modulus:
            self._pauses += [(pause, {}) for pause in blind_pauses(both, modulus, ceiling, 1.0)]

    def _hide(self, key: str, begin: Instants, end: Instants, ceiling: float) -> None:
        """Widen a row by what pauses may hide in its pieces."""
        for pause, hidden in self._pauses:
            inside = np.minimum(end, pause.end_ns) - np.maximum(begin, pause.begin_ns)
            most = min(ceiling * float(np.clip(inside, 0, None).sum()), pause.hidden_j - hidden.get(key, 0.0))
            hidden[key] = hidden.get(key, 0.0) + most
            self._rows[key].hide(most)

    # ---- one cut ----

    def _settle(self, now_ns: int | None, end_ns: int | None = None) -> None:
        while self._cuts:
            begin, end, pieces = self._cuts[0]
            late = now_ns is None or now_ns - end > _PATIENCE_NS
            if not late and self._learning(now_ns or 0):
                return
            doubt = self._watch.doubts(begin, end) if self._watch is not None else False
            if doubt is None and now_ns is not None and now_ns - end < _STILL_PATIENCE_NS:
                return
            if not self._resolve(begin, end, pieces, late, end_ns, bool(doubt)):
                return
            self._cuts.popleft()
            self._shorten(end)
            self._pauses = [found for found in self._pauses if found[0].end_ns > end]

    def _learning(self, now_ns: int) -> bool:
        """Whether the time between two updates is not yet known of a counter that is read more often."""
        if self.channel.kind != "energy" or self._first_ns is None or now_ns - self._first_ns > _LEARN_NS:
            return False
        tally = self._account.tally()
        return tally["samples"] > 2 * tally["updates"] and tally["updates"] < _LEARNT

    def _resolve(
        self,
        begin_ns: int,
        end_ns: int,
        pieces: dict[str, Pieces],
        late: bool,
        last_ns: int | None,
        doubt: bool,
    ) -> bool:
        if self._first_ns is None or not len(self._tail):
            return late
        run = max(begin_ns, self._first_ns), end_ns
        if late:
            run = run[0], min(end_ns, last_ns if last_ns is not None else int(self._tail["at_ns"][-1]))
        if run[1] > run[0]:
            pieces = {RUN: (np.array([run[0]]), np.array([run[1]])), **pieces}
        at_ns = np.unique(np.concatenate([column for both in pieces.values() for column in both] or [np.empty(0, int)]))
        if not len(at_ns):
            return True
        tally = self._account.tally()
        ceiling = self._ceiling(tally["peak_per_ns"])
        traits = {**self.channel.traits, "period_ns": tally["period_ns"]}
        edges = _resolver.Edges(traits, ceiling, at_ns, at_ns)
        edges.feed(self._tail)
        if not edges.done and not late:
            return False
        edges.finish()
        self.period_least_ns = min(self.period_least_ns or tally["period_ns"], tally["period_ns"])
        counted = float(self._tail_total) if self.channel.kind == "energy" else 0.0
        found = [column + counted for column in (edges.begins.low, edges.begins.high, edges.begins.estimate)]
        self._as_before(at_ns, found)
        for key, (begin, end) in pieces.items():
            first, last = at_ns.searchsorted(begin), at_ns.searchsorted(end)
            row, both = self._rows.setdefault(key, _Row()), [(c[first], c[last]) for c in found]
            if key == OVERLAPPING:
                row.estimate += float(np.sum(both[2][1] - both[2][0]))
                row.hide(float("inf"))
                continue
            self._add(row, begin, end, both, ceiling, doubt)
            self._hide(key, begin, end, ceiling)
        return True

    def _as_before(self, at_ns: Instants, found: list[NDArray[np.float64]]) -> None:
        """At the instant of a cut the pieces on both sides have one answer, so the cut costs no certainty."""
        if self.channel.kind != "energy":
            return
        if self._at_cut is not None and at_ns[0] == self._at_cut[0]:
            for column, value in zip(found, self._at_cut[1], strict=True):
                column[0] = value
        self._at_cut = int(at_ns[-1]), [float(column[-1]) for column in found]

    def _ceiling(self, peak_per_ns: float) -> float:
        most = watts_to_units_per_ns(self.channel.ceiling_w or 0.0, self.channel.unit)
        return max(most or 2 * peak_per_ns or watts_to_units_per_ns(UNLIMITED_W, self.channel.unit), peak_per_ns)

    def _add(
        self,
        row: _Row,
        begin: Instants,
        end: Instants,
        found: list[tuple[NDArray, NDArray]],
        ceiling: float,
        doubt: bool,
    ) -> None:
        """Add the pieces of a row; `found` are low, high and estimate at the begins and the ends."""
        length = (end - begin).astype(float)
        (low0, low1), (high0, high1), (estimate0, estimate1) = found
        if self.channel.estimated:
            least, most = (watts_to_units_per_ns(w or 0.0, self.channel.unit) for w in self._model)
            row.add_alone(least * length, estimate1 - estimate0, most * length)
        elif self.channel.kind == "power":
            low, high = low1 - low0, high1 - high0
            row.add_alone(np.minimum(low, high), estimate1 - estimate0, np.maximum(low, high))
        elif doubt or np.any(self._tail["flags"] & _DOUBTS):  # the samples around here were judged only later
            row.add_alone(0.0 * length, estimate1 - estimate0, ceiling * length)
        else:
            row.add(
                (np.ascontiguousarray(begin), low0, high0),
                (np.ascontiguousarray(end), low1, high1),
                float(np.sum(estimate1 - estimate0)),
                ceiling,
            )

    @property
    def _model(self) -> tuple[float | None, float | None]:
        return self.channel.floor_w, self.channel.ceiling_w

    def _shorten(self, at_ns: int) -> None:
        """Leave out the samples that no instant from here on needs: all before the third change before it."""
        tail = self._tail
        place = int((tail["at_ns"] + tail["half_ns"].astype("i8")).searchsorted(at_ns))
        before = tail["raw"][:place]
        changes = np.flatnonzero(before[1:] != before[:-1])
        known = int(changes[-_CHANGES]) if len(changes) >= _CHANGES else 0
        first = max(known if self.channel.kind == "energy" else place - _CHANGES, place - _LOOKED_BACK, 0)
        if not first:
            return
        if self.channel.kind == "energy":
            grown = np.diff(tail["raw"][: first + 1].astype(np.int64))
            grown += tail["wraps"][1 : first + 1].astype(np.int64) * int(self.channel.traits["modulus"])
            grown[(tail["flags"][1 : first + 1] & _DOUBTS) != 0] = 0
            self._tail_total += int(grown.sum())
        self._tail = tail[first:].copy()
