"""The energy of many windows together, bounded as one, in memory that does not grow with their number.

The edges of the windows are resolved block by block. A block begins where the samples come to its first edge: its
resolver goes on from a base, which has taken all samples before. So a block costs what its own samples cost.
"""

from __future__ import annotations

from itertools import zip_longest

from fastgreen import _resolver
from fastgreen.results.bounded import Bounded, Windows
from fastgreen.results.questions import in_joules, resolver_facts, shown_ns
from fastgreen.units import NS_PER_S, joules_per_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import numpy as np

    from fastgreen.results.questions import Asked

    Array = np.ndarray

__all__ = ["BLOCK", "TogetherQuestion", "sorted_column"]

BLOCK = 1 << 15  # windows; each channel and handle holds the answers of one block, 1.5 MB
_PIECE = 1 << 16  # samples that each block of their time sees again
_ANSWERS = ("low", "estimate", "high", "unknown", "rounding")


def sorted_column(column: Array) -> Array:
    """The column itself where it is sorted already, as that of a handle is."""
    import numpy as np

    for first in range(0, len(column), BLOCK):
        part = column[first : first + BLOCK + 1]
        if np.any(part[1:] < part[:-1]):
            return np.sort(column)
    return column


def _apart(begin_ns: Array, end_ns: Array) -> bool:
    """Whether each window of two sorted columns ends before the next one begins."""
    import numpy as np

    return all(
        not np.any(end_ns[first : first + BLOCK][: len(rest)] > rest)
        for first in range(0, len(begin_ns) - 1, BLOCK)
        for rest in (begin_ns[first + 1 : first + 1 + BLOCK],)
    )


class _Edges:
    """Answers at the two edges of consecutive windows, or of one edge each of a row of stretches."""

    def __init__(self, begin_ns: Array, end_ns: Array, begins: dict[str, Array], ends: dict[str, Array]) -> None:
        self.begin_ns, self.end_ns, self.begins, self.ends = begin_ns, end_ns, begins, ends

    def __getitem__(self, index: Any) -> _Edges:
        parts = ({k: v[index] for k, v in side.items()} for side in (self.begins, self.ends))
        return _Edges(self.begin_ns[index], self.end_ns[index], *parts)

    def of_sum(self) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
        """The begins and the ends as `_resolver.Sum` takes them."""
        first, last = self.begins, self.ends
        return (self.begin_ns, first["low"], first["high"]), (self.end_ns, last["low"], last["high"])

    def between(self, later: _Edges) -> _Edges:
        """From each end to the begin of the window after it, or back where they overlap."""
        import numpy as np

        gap = self.end_ns <= later.begin_ns
        first = {k: np.where(gap, self.ends[k], later.begins[k]) for k in self.ends}
        last = {k: np.where(gap, later.begins[k], self.ends[k]) for k in self.ends}
        ns = np.minimum(self.end_ns, later.begin_ns), np.maximum(self.end_ns, later.begin_ns)
        return _Edges(*ns, first, last)

    def until(self, last: _Edges) -> _Edges:
        """From the begin of each to the end of its counterpart."""
        return _Edges(self.begin_ns, last.end_ns, self.begins, last.ends)

    def energies(self, trace: Asked) -> Bounded:
        import numpy as np

        first, last = self.begins, self.ends
        lowest, highest = ("high", "low") if trace.channel.kind == "energy" else ("low", "high")
        low, high = last["low"] - first[lowest], last["high"] - first[highest]
        low[low < 0.0] = 0.0
        estimate = last["estimate"] - first["estimate"]
        if "unknown" in last:
            high += first["unknown"] + (last["rounding"] - last["unknown"])
        if "undone" in last:
            estimate = last["undone"] - first["undone"]
            np.clip(estimate, low, high, out=estimate)
        return in_joules(trace, self.begin_ns, self.end_ns, low, estimate, high)


class _Blocks:
    """Resolves two sorted columns of edges in blocks, in their order."""

    def __init__(self, trace: Asked, begin_ns: Array, end_ns: Array, restarts: bool, block: int) -> None:
        self._facts = resolver_facts(trace)
        self._columns = begin_ns, end_ns
        self._delay_ns = shown_ns(trace.channel)
        self._restarts, self._block = restarts, block
        self._base = _resolver.Edges(*self._facts)
        self._reach_ns = -(1 << 63)  # instants from here on are still open
        self._open: list[_resolver.Edges] = []
        self._next = 0
        if len(begin_ns) <= block:
            self._begin_block()

    @property
    def _left(self) -> bool:
        return self._next < len(self._columns[0])

    def _begin_block(self, base: _resolver.Edges | None = None) -> _resolver.Edges:
        begin, end = (column[self._next : self._next + self._block] for column in self._columns)
        if self._delay_ns:
            begin, end = begin + self._delay_ns, end + self._delay_ns
        self._next += self._block
        block = _resolver.Edges(*self._facts, begin, end, self._restarts, base)
        self._open.append(block)
        return block

    def feed(self, samples: Array) -> Iterator[_resolver.Edges]:
        """The blocks that are resolved with the next samples; all must be taken."""
        for first in range(0, len(samples), _PIECE):
            yield from self._feed(samples[first : first + _PIECE] if len(samples) > _PIECE else samples)

    def _feed(self, samples: Array) -> Iterator[_resolver.Edges]:
        for block in self._open:
            block.feed(samples)
        yield from self._resolved()
        if not self._left:
            return
        self._reach_ns = max(self._reach_ns, int((samples["at_ns"] + samples["half_ns"]).max()))
        while self._left and int(self._columns[0][self._next]) + self._delay_ns < self._reach_ns:
            self._begin_block(self._base).feed(samples)
            yield from self._resolved()
        if self._left:
            self._base.feed(samples)

    def _resolved(self) -> Iterator[_resolver.Edges]:
        while self._open and self._open[0].done:
            block = self._open.pop(0)
            block.finish()
            yield block

    def rest(self) -> Iterator[_resolver.Edges]:
        """The other blocks, after the last sample."""
        while self._open or self._left:
            if not self._open:
                self._begin_block(self._base)
            block = self._open.pop(0)
            block.finish()
            yield block


class TogetherQuestion:
    """Energy of all stretches of a handle together, see `fastgreen.results.trace.Trace.together`.

    Up to `block` windows are added up as one; more are added up block by block, which rounds in another order.
    """

    def __init__(self, trace: Asked, windows: Windows, block: int = BLOCK) -> None:
        self.trace, self._block = trace, block
        # The sum is that of E(end) less that of E(begin): which begin belongs to which end does not matter.
        begin, end = sorted_column(windows.begin_ns), sorted_column(windows.end_ns)
        self._count = len(begin)
        self._settled = _Blocks(trace, begin, end, trace.learnt["resets"] > 0, block)
        self._undone = _Blocks(trace, begin, end, False, block) if trace.unknown else None
        self._columns, self._taken, self._delay_ns = (begin, end), 0, shown_ns(trace.channel)
        self._waiting: tuple[list[_resolver.Edges], list[_resolver.Edges]] = [], []
        self._sums = [0.0, 0.0, 0.0]
        self._sum = _resolver.Sum(resolver_facts(trace)[1]) if self._simple(begin, end) else None
        self._last: tuple[_Edges, list[float]] | None = None  # an open row of windows: its edges and its sums

    def _simple(self, begin: Array, end: Array) -> bool:
        """Whether the tightest bounds are those of `_resolver.Sum`: a counter without restarts and doubts."""
        trace = self.trace
        counter = trace.channel.kind == "energy" and not trace.channel.estimated and trace.tally["samples"] > 0
        known = counter and not trace.learnt["resets"] and not trace.unknown and not trace.pauses
        return known and self._count > 1 and _apart(begin, end)

    def feed(self, settled: Array, undone: Array) -> None:
        self._take(self._settled.feed(settled), self._undone.feed(undone) if self._undone is not None else iter(()))

    def answer(self) -> Bounded:
        self._take(self._settled.rest(), self._undone.rest() if self._undone is not None else iter(()))
        energy_j, low_j, high_j = self._sums
        if self._sum is not None:
            low_j, high_j = (value * joules_per_unit(self.trace.channel.unit) for value in self._sum.bounds)
        if self._count < 2 or self.trace.channel.estimated:
            return Bounded(energy_j, low_j, high_j)
        return Bounded(min(max(energy_j, low_j), high_j), low_j, high_j)

    def _take(self, settled: Iterator[_resolver.Edges], undone: Iterator[_resolver.Edges]) -> None:
        """Add blocks up, each of the settled samples with the same one of the undone samples, if these are asked."""
        for pair in zip_longest(settled, undone):
            for block, waiting in zip(pair, self._waiting, strict=True):
                if block is not None:
                    waiting.append(block)
            while self._waiting[0] and (self._undone is None or self._waiting[1]):
                self._take_block(self._waiting[0].pop(0), self._waiting[1].pop(0) if self._waiting[1] else None)

    def _take_block(self, block: _resolver.Edges, other: _resolver.Edges | None) -> None:
        begins, ends = (
            {name: column for name in _ANSWERS if len(column := getattr(side, name))}
            for side in (block.begins, block.ends)
        )
        if other is not None:
            begins["undone"], ends["undone"] = other.begins.estimate, other.ends.estimate
        place = slice(self._taken, self._taken + self._block)
        begin, end = (column[place] + self._delay_ns for column in self._columns)
        self._taken += len(begin)
        self._add(_Edges(begin, end, begins, ends), self._taken >= self._count)

    # ---- the sum ----

    def _add(self, edges: _Edges, final: bool) -> None:
        """The next windows, `final` with the last one."""
        import numpy as np

        alone = edges.energies(self.trace)
        self._sums[0] += float(np.sum(alone.energy_j))
        if self._sum is not None:
            self._sum.add(*edges.of_sum())
            return
        if self._count < 2 or self.trace.channel.estimated:
            self._sums[1] += float(np.sum(alone.low_j))
            self._sums[2] += float(np.sum(alone.high_j))
            return
        apart, within_low, within_high = self._gaps(edges[:-1], edges[1:])
        first = np.concatenate([[0], np.flatnonzero(apart) + 1])
        last = np.concatenate([np.flatnonzero(apart), [len(edges.begin_ns) - 1]])
        columns = np.append(within_low, 0.0), np.append(within_high, 0.0), alone.low_j, alone.high_j
        sums = [np.add.reduceat(column, first) for column in columns]
        rows = edges[first].until(edges[last])
        if self._last is not None:
            self._join(rows, sums)
        closed = len(first) if final else len(first) - 1
        self._close(rows[:closed], [column[:closed] for column in sums])
        self._last = None if final else (rows[-1:], [float(column[-1]) for column in sums])

    def _gaps(self, earlier: _Edges, later: _Edges) -> tuple[Array, Array, Array]:
        """Between windows: whether their two sides are bounded on their own, and else what comes off or on."""
        import numpy as np

        trace = self.trace
        between = earlier.between(later).energies(trace)
        ceiling_j = trace.ceiling_w * np.abs(later.begin_ns - earlier.end_ns) / NS_PER_S
        gap = later.begin_ns >= earlier.end_ns
        apart = gap & (between.high_j < ceiling_j)
        most_j = np.maximum(np.minimum(between.high_j, ceiling_j), between.low_j)  # no ceiling holds what was proven
        within_low = np.where(apart, 0.0, np.where(gap, -most_j, between.low_j))
        within_high = np.where(apart, 0.0, np.where(gap, -between.low_j, most_j))
        return apart, within_low, within_high

    def _join(self, rows: _Edges, sums: list[Array]) -> None:
        """The row that was open goes on in the first of these rows, or ends."""
        import numpy as np

        assert self._last is not None
        open_row, open_sums = self._last
        apart, within_low, within_high = self._gaps(open_row, rows[:1])
        if apart[0]:
            self._close(open_row, [np.array([value]) for value in open_sums])
            return
        for column, value in zip(sums, open_sums, strict=True):
            column[0] += value
        sums[0][0] += within_low[0]
        sums[1][0] += within_high[0]
        rows.begin_ns[0] = open_row.begin_ns[0]
        for name, column in rows.begins.items():
            column[0] = open_row.begins[name][0]

    def _close(self, rows: _Edges, sums: list[Array]) -> None:
        """Rows of windows that no later window joins."""
        import numpy as np

        within_low, within_high, alone_low, alone_high = sums
        whole = rows.energies(self.trace)
        self._sums[1] += float(np.sum(np.maximum(whole.low_j + within_low, alone_low)))
        self._sums[2] += float(np.sum(np.minimum(whole.high_j + within_high, alone_high)))
