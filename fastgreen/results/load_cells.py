"""Cells of the stretches of a load: heads of windows, and what comes after a window.

The power of a window need not be constant: a processor takes time to wake up, a board draws on for a while after its
kernels. If such a part comes in step with the windows, one power for all of it makes the energies of windows wrong. So
the stretches of a state may be cut some time after their begin, and each cell has a power of its own. A stretch is cut
only if the samples ask for it: if powers that are fitted to all blocks of the run but one then explain the growth in
that block clearly better, over all blocks. Without such parts nothing is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _follow
from fastgreen._light_dataclass import dataclass, field
from fastgreen.results.load_states import RESTS
from fastgreen.results.powers import GAIN, BlockSums, explained, gain, ridge_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fastgreen.results.load_states import Load

__all__ = ["Cells", "choose_cells", "fine_cells", "joined_states", "near_cells"]

# Ends of the cells that a stretch can be divided into, in mean lengths of the stretches of its state.
_ENDS = tuple(2 ** (-n / 2) for n in range(8, 0, -1))
_MOST_DIVIDED = 20  # states that can be divided: those with the most time
_LEAST_TIME = 0.005  # share of the time of a state that can be divided
_MOST_CUTS = 6
_MOST_TRIED = 8  # cuts at a time, of those that explain most
_APART = 3.0  # standard errors by which two powers must be apart


@dataclass
class Cells:
    """How the stretches of each state of a load are divided.

    Attributes
    ----------
    ends_ns : list of list of int
        For each state, where its cells end but the last, from the begin of a stretch on.
    joined : dict of int
        States whose power the samples do not tell from that of another state, and that state.
    """

    ends_ns: list[list[int]]
    joined: dict[int, int] = field(default_factory=dict)

    @property
    def base(self) -> NDArray[np.int64]:
        """The state of the load that each divided state belongs to. Those of state 0 begin with its last cell."""
        return np.repeat(np.arange(len(self.ends_ns)), [len(ends) + 1 for ends in self.ends_ns])

    @property
    def divided(self) -> bool:
        return any(self.ends_ns)

    def timeline(self, load: Load, begin_ns: int | None = None, end_ns: int | None = None) -> _follow.Timeline:
        """The divided timeline of a load, or of the part of it that is needed between two instants."""
        if not self.divided:
            return load.timeline
        line = load.timeline
        if begin_ns is not None and end_ns is not None:
            first = max(int(np.searchsorted(load.edges_ns, begin_ns, side="right")) - 1, 0)
            part = slice(first, int(np.searchsorted(load.edges_ns, end_ns)))
            line = _follow.Timeline(load.edges_ns[part], load.states[part], len(self.ends_ns))
        sizes = [len(ends) + 1 for ends in self.ends_ns]
        numbers = np.arange(sum(sizes))
        numbers[: sizes[0]] = np.roll(numbers[: sizes[0]], -1)  # what is before the first edge is state 0
        flat = [end for ends in self.ends_ns for end in (*ends, 0)]
        return line.divided(np.cumsum([0, *sizes]), flat, numbers, len(numbers))


def fine_cells(load: Load, least_ns: float = 0.0) -> Cells:
    """All cells that can be chosen, none shorter than `least_ns`."""
    states = len(load.time_ns)
    count = load.stretches
    mean_ns = load.time_ns / np.maximum(count, 1)
    if count[RESTS:].sum():
        mean_ns[0] = 2 * load.time_ns[RESTS:].sum() / count[RESTS:].sum()  # what comes after a window is about as long
    most = np.argsort(-load.time_ns, kind="stable")[:_MOST_DIVIDED]
    ends: list[list[int]] = [[] for _ in range(states)]
    for state in most.tolist():
        if load.time_ns[state] > _LEAST_TIME * load.time_ns.sum():
            mean = float(mean_ns[state])
            ends[state] = sorted({int(mean * e) for e in _ENDS if least_ns <= mean * e <= mean - least_ns} - {0})
    return Cells(ends)


def joined_states(sums: BlockSums, load: Load) -> dict[int, int]:
    """States whose power the samples cannot separate from that of the rest, and the state whose power each gets.

    The rest is the state between windows, or the one with the most time. A load that goes its own way is in no step
    with the windows, and to explain its growth by them would be arbitrary. So such a state gets the power of the most
    similar state, by open windows: of the rest, or of a state whose power the samples can separate.
    """
    time_ns = sums.time_ns.sum(axis=0)
    rest = 1 if time_ns[1] > 0 else int(np.argmax(time_ns[1:])) + 1
    blocks, without, covariance = len(sums.grown), sums.without_each(), sums.covariance
    apart = without - without[:, [rest]]
    variance = (blocks - 1) / blocks * ((apart - apart.mean(axis=0)) ** 2).sum(axis=0)
    expected = np.diag(covariance) + covariance[rest, rest] - 2 * covariance[rest]
    separate = apart.mean(axis=0) ** 2 > _APART**2 * np.maximum(variance, expected)
    states = [s for s in range(1, len(time_ns)) if s != rest and time_ns[s] > 0]
    like = [rest, *sorted((s for s in states if separate[s]), key=lambda s: -time_ns[s])]
    far = np.abs(load.open_windows[:, None, :] - load.open_windows[None, like, :]).sum(axis=2)
    return {s: like[int(np.argmin(far[s]))] for s in states if not separate[s]}


def choose_cells(sums: BlockSums, fine: Cells, joined: dict[int, int], period: NDArray[np.int64]) -> Cells:
    """The cells that the samples ask for: one cut after the other, the best first.

    Parameters
    ----------
    sums : BlockSums
        Of the finest cells.
    fine : Cells
    joined : dict of int
        From `joined_states`: these are not cut.
    period : (blocks,) int
        The period of each block.
    """
    cuts: list[list[int]] = [[] for _ in fine.ends_ns]
    in_step = any(s >= RESTS and s not in joined for s in range(len(fine.ends_ns)))
    can = [ends if in_step and s not in joined else [] for s, ends in enumerate(fine.ends_ns)]
    parts = [sums.some(period == p) for p in np.unique(period)]
    if min(len(part.grown) for part in parts) < 2:
        parts = [sums]

    def losses_of(more: list[list[int]]) -> NDArray[np.float64]:
        into = _into(fine, more, joined)
        return np.concatenate([part.merged(into).losses() for part in parts])

    now: NDArray[np.float64] | None = None
    before = _explained(parts, [_into(fine, cuts, joined)])[0]
    for _ in range(_MOST_CUTS):
        tried = list(_with_one_more(can, cuts))
        found = _explained(parts, [_into(fine, more, joined) for more in tried]) if tried else np.empty(0)
        # Others hardly explain the blocks that their powers are fitted to better: a power more explains 1 by chance.
        better = np.flatnonzero(found > before + GAIN + len(parts))
        losses = {i: losses_of(tried[i]) for i in better[np.argsort(-found[better])][:_MOST_TRIED].tolist()}
        if not losses:
            break
        now = losses_of(cuts) if now is None else now
        best = min(losses, key=lambda i: losses[i].sum())
        if not gain(now, losses[best]):
            break
        now, before, cuts = losses[best], found[best], tried[best]
    return Cells([[ends[cut] for cut in chosen] for ends, chosen in zip(fine.ends_ns, cuts, strict=True)], joined)


def _explained(parts: Sequence[BlockSums], intos: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """What the powers of each way to merge the states explain, over all parts of the run."""
    out = np.zeros(len(intos))
    for sums in parts:
        matrix, vector, time_ns = (a.sum(axis=0)[None] for a in (sums.matrix, sums.vector, sums.time_ns))
        one = BlockSums(matrix, vector, time_ns, sums.grown)
        merged = [one.merged(into) for into in intos]
        matrices, vectors = (np.concatenate([getattr(m, name) for m in merged]) for name in ("matrix", "vector"))
        ridge = ridge_of(np.concatenate([m.time_ns for m in merged]), sums.mean)
        out += explained(matrices, vectors, ridge, sums.mean)
    return out


def near_cells(fine: Cells, chosen: Cells) -> tuple[Cells, list[NDArray[np.int64]]]:
    """The finest cells of the states that are divided, and how they merge: as chosen, and with any one cut elsewhere.

    The samples tell only about where a cut is.
    """
    needed = Cells([all_of if some else [] for all_of, some in zip(fine.ends_ns, chosen.ends_ns, strict=True)])
    cuts = [[all_of.index(end) for end in some] for all_of, some in zip(fine.ends_ns, chosen.ends_ns, strict=True)]
    models = [_into(needed, cuts, chosen.joined)]
    for state, some in enumerate(cuts):
        for cut in some:
            rest = [other for other in some if other != cut]
            for place in set(range(len(needed.ends_ns[state]))) - set(some):
                moved = [sorted([*rest, place]) if s == state else c for s, c in enumerate(cuts)]
                models.append(_into(needed, moved, chosen.joined))
    return needed, models


def _with_one_more(can: list[list[int]], cuts: list[list[int]]) -> Iterator[list[list[int]]]:
    for state, ends in enumerate(can):
        for cut in range(len(ends)):
            if cut not in cuts[state]:
                yield [sorted([*some, cut]) if s == state else some for s, some in enumerate(cuts)]


def _into(fine: Cells, cuts: list[list[int]], joined: dict[int, int]) -> NDArray[np.int64]:
    """The number that each of the finest states becomes."""
    out: list[int] = []
    of, first = {}, 0
    for state, (ends, chosen) in enumerate(zip(fine.ends_ns, cuts, strict=True)):
        places = np.searchsorted(chosen, np.arange(len(ends) + 1), side="left")
        of[state] = len(out), len(out) + len(ends) + 1, first + len(chosen)
        if state == 0:  # its cells begin with the last one
            places = (np.roll(places, 1) + 1) % (len(chosen) + 1)
        out += (first + places).tolist()
        first += len(chosen) + 1
    for state, rest in joined.items():
        begin, end, _ = of[state]
        out[begin:end] = [of[rest][2]] * (end - begin)  # the last cell of the rest
    return _renumbered(np.array(out)) if joined else np.array(out)


def _renumbered(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same with numbers from 0 on without gaps."""
    return np.unique(numbers, return_inverse=True)[1].ravel()
