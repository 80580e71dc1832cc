# SPDX-License-Identifier: Apache-2.0
"""Spans that contain others: the innermost one is charged, and groups of them get their own and their total energy.

At every instant the charged spans are the open ones without an open span inside. They share the energy by weight. The
*own* energy of a group is charged to its spans; the *total* also holds the energy of the spans inside them. Each group
is bounded as a whole: its weight over time goes to the engine as one span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen._light_dataclass import dataclass
from fastgreen.results.shares import Shares, Spans, follow_spans, share, weight_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastgreen.results.energies import Energies
    from fastgreen.results.trace import Trace

__all__ = ["NestedSpans", "own_and_total"]

_DEEPEST = 1000


@dataclass
class NestedSpans:
    """Columns with an entry per span.

    Attributes
    ----------
    begin_ns, end_ns : arrays of int64
        CLOCK_MONOTONIC.
    parent : array of int64
        The row of the span around it; -1 where there is not one. A span of no length is never charged.
    weight : array of float64
        0 for a span that only sums up the spans inside it.
    """

    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    parent: NDArray[np.int64]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.begin_ns)

    def where(self, kept: NDArray[np.bool_]) -> NestedSpans:
        """Some of the spans; one whose parent is left out gets the nearest span around it that is kept."""
        return NestedSpans(
            self.begin_ns[kept],
            self.end_ns[kept],
            _nearest_kept(self.parent, kept),
            self.weight[kept],
        )


def _nearest_kept(parent: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    place = np.append(np.cumsum(kept) - 1, -1)
    around = parent.copy()
    for _ in range(_DEEPEST + 1):
        gone = (around >= 0) & ~np.append(kept, True)[around]
        if not gone.any():
            break
        around[gone] = parent[around[gone]]
    return place[around][kept]


def check_depth(parent: NDArray[np.int64]) -> None:
    """ValueError for spans around themselves, and for more than 1000 spans around one."""
    around = parent[parent >= 0]
    for _ in range(_DEEPEST):
        if not len(around):
            return
        around = parent[around]
        around = np.unique(around[around >= 0])
    raise ValueError(f"a span must be inside of at most {_DEEPEST} others, and never inside of itself")


def own_and_total(
    result: Energies,
    traces: Sequence[Trace],
    spans: NestedSpans,
    group: NDArray[np.int64],
    groups: int,
    kinds: NDArray[np.int64] | None = None,
) -> tuple[Shares, Shares]:
    """Energy of groups of spans on some channels.

    Parameters
    ----------
    result : Energies
        The run.
    traces : sequence of Trace
        Channels of it that were read.
    spans : NestedSpans
    group : array of int
        The group of each span, from 0 on.
    groups : int
        The number of groups.
    kinds : (groups,) int64, optional
        Groups of one kind draw alike; by default each is a kind of its own.

    Returns
    -------
    own, total : Shares
        An entry per group. The sum of `own` and `unattributed_j` is what the channels drew.
    """
    check_depth(spans.parent)
    own, total = _Sweep(spans, group).changes()
    pieces = [_pieces(changes, groups, result.start_ns) for changes in (own, total)]
    columns = [np.concatenate([p[i] for p in pieces]) for i in range(4)]
    columns[3][len(pieces[0][3]) :] += groups
    charged = np.arange(2 * groups) < groups
    pieces_of = Spans(columns[0], columns[1], columns[2], columns[3].astype(np.uint32), charged)
    of = columns[3] if kinds is None else np.tile(kinds, 2)[columns[3]]
    found = share(result, traces, pieces_of, follow_spans(result, traces, pieces_of, of))
    halves = []
    for part in (slice(0, groups), slice(groups, None)):
        by_channel = {k: b[part] for k, b in found.by_channel.items()}
        halves.append(Shares(by_channel, found.unattributed_j, found.drawn_j, found.time_s[part]))
    return halves[0], halves[1]


Changes = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]


class _Sweep:
    """Goes through the edges of all spans in time and notes how the weights of groups change."""

    def __init__(self, spans: NestedSpans, group: NDArray[np.int64]) -> None:
        self.spans = spans
        self.parent: list[int] = spans.parent.tolist()
        self.group: list[int] = group.tolist()
        self.weight: list[int] = weight_units(spans.weight).astype(np.int64).tolist()
        self.first = self._first_of_group()
        self.open = bytearray(len(spans))
        self.held = [-1] * len(spans)  # the nearest open span around it when it began
        self.inside = [0] * len(spans)  # open spans whose nearest open span around them is this one
        self.own: list[tuple[int, int, int]] = []
        self.total: list[tuple[int, int, int]] = []

    def _first_of_group(self) -> bytearray:
        """Whether no span around it is of its group."""
        out = bytearray(len(self.parent))
        for i, mine in enumerate(self.group):
            around = self.parent[i]
            while around >= 0 and self.group[around] != mine:
                around = self.parent[around]
            out[i] = around < 0
        return out

    def changes(self) -> tuple[Changes, Changes]:
        begin, end = self.spans.begin_ns, self.spans.end_ns
        long = np.flatnonzero(end > begin)
        at = np.concatenate([end[long], begin[long]])
        opens = np.repeat([0, 1], len(long))
        row = np.concatenate([long, long])
        # Of ends at one instant the inner one is first, of begins the outer one.
        depth = _depths(self.spans.parent)[row]
        order = np.lexsort((np.where(opens, depth, -depth), opens, at))
        for instant, is_open, i in zip(at[order].tolist(), opens[order].tolist(), row[order].tolist(), strict=True):
            (self._begin if is_open else self._end)(instant, i)
        return _columns(self.own), _columns(self.total)

    def _around(self, i: int, held: list[int]) -> int:
        around = held[i]
        while around >= 0 and not self.open[around]:
            around = held[around]
        return around

    def _begin(self, at: int, i: int) -> None:
        around = self.held[i] = self._around(i, self.parent)
        self.open[i] = 1
        off = -1
        if around >= 0:
            self.inside[around] += 1
            if self.inside[around] == 1:
                off = around
        self._hand_over(at, off, i)

    def _end(self, at: int, i: int) -> None:
        around = self._around(i, self.held)
        self.open[i] = 0
        on = -1
        if around >= 0:
            self.inside[around] += self.inside[i] - 1
            if self.inside[around] == 0:
                on = around
        off = i if self.inside[i] == 0 else -1
        self.inside[i] = 0
        self._hand_over(at, off, on)

    def _hand_over(self, at: int, off: int, on: int) -> None:
        """`off` is no longer charged and `on` is; -1: no span. One is inside of the other where both are given."""
        less, more = self.weight[off] if off >= 0 else 0, self.weight[on] if on >= 0 else 0
        if less:
            self.own.append((at, self.group[off], -less))
        if more:
            self.own.append((at, self.group[on], more))
        common = on if off >= 0 and on >= 0 and less == more else -1
        if common >= 0:  # what is around both of them stays as it is
            if self.parent[off] == on:
                self._change_total(at, off, on, -less)
            elif self.parent[on] == off:
                self._change_total(at, on, off, more)
            else:
                common = -1
        if common < 0:
            self._change_total(at, off, -1, -less)
            self._change_total(at, on, -1, more)

    def _change_total(self, at: int, i: int, until: int, change: int) -> None:
        while change and i >= 0 and i != until:
            if self.first[i]:
                self.total.append((at, self.group[i], change))
            i = self.parent[i]


def _depths(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    depth, around = np.zeros(len(parent), np.int64), parent
    while np.any(around >= 0):
        depth += around >= 0
        around = np.where(around >= 0, parent[around], -1)
    return depth


def _columns(changes: list[tuple[int, int, int]]) -> Changes:
    table = np.array(changes, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _pieces(
    changes: Changes, groups: int, early_ns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """The weight of each group over time as pieces: begin, end, weight, group. Each group has at least one."""
    at, group, change = changes
    empty = np.setdiff1d(np.arange(groups), group)  # each group needs a piece, if only one without a weight
    at = np.concatenate([at, np.full(len(empty), early_ns), np.full(len(empty), early_ns + 1)])
    group = np.concatenate([group, empty, empty])
    change = np.concatenate([change, np.zeros(2 * len(empty), np.int64)])
    order = np.lexsort((at, group))
    at, group, change = at[order], group[order], change[order]
    new = np.ones(len(at), bool)
    new[1:] = (at[1:] != at[:-1]) | (group[1:] != group[:-1])
    first = np.flatnonzero(new)
    at, group, weight = at[first], group[first], np.cumsum(change)[np.append(first[1:], len(change)) - 1]
    # A piece lasts until the next change of its group. The last change of a group ends its last piece.
    begins = np.append(group[1:] == group[:-1], False)
    return at[begins], np.append(at[1:], 0)[begins], weight[begins].astype(np.uint64), group[begins]
