"""Where the updates of a counter were, as far as its samples tell.

Where samples come slower than updates, an update is in the last period before its sample. Where they come faster,
updates follow each other by a period that has a shortest and a longest length, and the brackets of all updates together
tell more of each one (csrc/fg_follow.h). The two lengths are those that make the brackets most likely. They are learnt
again for each part of a run if its updates came at another rate.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgreen import _follow
from fastgreen._light_dataclass import dataclass, field

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Updates", "learn_period", "update_instants"]

MISSED = 0.02  # least chance that an update is missed
_MOST_MISSED = 0.5
FLOOR = 1e-3  # chance of a link that is not any number of periods long
_MOST_FLOORED = 0.02  # share of such links beyond which the period does not hold
_LEARNABLE = 0.5  # ticks in periods: beyond, brackets tell neither the period nor of each other
_SHORTEST_ASSUMED = (0.5, 0.7, 0.85, 0.97)  # of the longest period, where brackets do not tell
_SHORTEST_TRIED = 0.2  # of the usual period: a shorter one has no effect but takes long
_PART = 300  # least number of updates from which a period is learnt
_PARTS = 8
_LEARN = 1500  # most updates from which a period is learnt
_NARROWEST = 0.01  # of the usual period: a narrower band could not be told from one cell
_STEP = 0.05  # of the usual period: the first step of the search
_STEPS = 32  # the last step is so many times shorter
_FEW, _STEPS_OF_MANY = 150, 2  # updates that longer steps look at; the longest step that looks at `_LEARN` updates
_FAR = 64  # updates between two that are compared
_TIMER = 0.2  # share of the growth of their difference, as it would be in a chain, below which a timer makes updates
_AROUND = 100  # updates to each side that tell when one was due
_LEAST_JITTER, _JITTERS = 0.005, 100  # of the usual period
_SIDES = ((1, 1), (-1, -1), (-1, 1), (1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))


@dataclass
class Updates:
    """Changes of a counter and the chance of each cell of their brackets.

    Attributes
    ----------
    changes : (changes, 4) int64
        Columns ``_follow.CHANGE_COLUMNS``.
    cells : (changes or 1, _follow.CELLS) float32
        One row if it is that of all changes.
    learnt : bool
        Whether the samples tell how far apart updates are; if not, it is assumed.
    shapes : list of float32 arrays
        All forms that `cells` may have, where the brackets do not tell. The growths do.
    note : str or None
        Where the period does not hold.
    """

    changes: NDArray[np.int64]
    cells: NDArray[np.float32]
    learnt: bool = False
    shapes: list[NDArray[np.float32]] = field(default_factory=list)
    note: str | None = None


def update_instants(changes: NDArray[np.int64], learnt: dict[str, Any]) -> Updates:
    """Where the updates were that the changes of a counter show.

    Parameters
    ----------
    changes : (changes, 4) int64
    learnt : dict
        What is learnt of the channel, see `Trace.learnt`.
    """
    steps = max(learnt["samples"] - 1, 1)
    tick_ns = learnt.get("tick_ns") or (learnt["last_at_ns"] - learnt["first_at_ns"]) / steps
    period_ns = learnt["period_ns"]
    if tick_ns > _LEARNABLE * period_ns:
        part = min(tick_ns / period_ns, 1.0)
        shapes = [_ages(part, shortest)[None] for shortest in _SHORTEST_ASSUMED]
        return Updates(changes, shapes[0], shapes=shapes)
    cells = np.empty((len(changes), _follow.CELLS), np.float32)
    uneven = 0
    for part in _parts(changes):
        followed = _follow.Followed(changes[part])
        shortest, longest = learn_period(changes[part])
        missed = _missed(changes[part], (shortest + longest) / 2)
        timed = _by_a_timer(changes[part], shortest, longest)
        if timed is not None:
            cells[part] = timed
            continue
        cells[part], _, links, floored = followed.chain(shortest, longest, missed, FLOOR)
        if floored > _MOST_FLOORED * max(links, 1):
            cells[part] = 1.0 / _follow.CELLS
            uneven += len(changes[part])
    share = uneven / max(len(changes), 1)
    note = f"updates came at no steady period for {100 * share:.0f} % of them" if uneven else None
    return Updates(changes, cells, True, note=note)


def _ages(part: float, shortest: float) -> NDArray[np.float32]:
    """Chance of each cell of the last `part` of the longest period before a sample.

    An update is t old at a sample if the period that it began lasts longer than t. Each period is between the shortest
    and the longest.
    """
    edges = np.linspace(part, 0.0, _follow.CELLS + 1)  # age in longest periods: the first cell is the oldest
    lasts = np.clip((1.0 - (edges[:-1] + edges[1:]) / 2) / (1.0 - shortest), 0.0, 1.0)
    return (lasts / lasts.sum()).astype(np.float32)


def _by_a_timer(changes: NDArray[np.int64], shortest: float, longest: float) -> NDArray[np.float32] | None:
    """Chance of each cell if updates are due at even steps and each is off by itself; None if they are not.

    If each update is due some time after the one before, how far updates are from even steps adds up: the difference
    between two of them grows with the updates between them. If a timer makes them, it does not grow. The error of one
    is then not that of the next, and a chain of updates would be wrong about all of them.
    """
    width, middle = changes[:, 1] - changes[:, 0], changes[:, :2].mean(axis=1)
    known = middle[width <= 1.5 * np.median(width)]  # reads that are late tell little, and could make numbers wrong
    if not changes[1:, 3].all() or len(known) < 4 * _FAR:
        return None
    number = np.append(0, np.cumsum(np.maximum(np.rint(np.diff(known) / _usual_step(known)), 1)))
    steps = np.polyfit(number, known, 1)
    off = known - np.polyval(steps, number)
    near, far = (float(np.var(off[lag:] - off[:-lag])) for lag in (1, _FAR))
    if far - near > _TIMER * (_FAR - 1) * (longest - shortest) ** 2 / 12:
        return None
    weight = np.ones(2 * _AROUND + 1)
    slow = np.convolve(off, weight, "same") / np.convolve(np.ones(len(off)), weight, "same")
    each = np.rint(np.interp(middle, known, number))
    due = np.polyval(steps, each) + np.interp(each, number, slow)
    low, high = changes[:, 0] - due, changes[:, 1] - due
    best, most = 0.0, -np.inf
    for jitter in np.linspace(_LEAST_JITTER, 0.5, _JITTERS) * (longest + shortest) / 2:
        inside = np.maximum(np.minimum(high, jitter) - np.maximum(low, -jitter), 0.0) / (2 * jitter)
        likely = float(np.sum(np.log(inside * (1 - FLOOR) + FLOOR * (high - low) / (longest + shortest))))
        if likely > most:
            best, most = float(jitter), likely
    edges = np.linspace(low, high, _follow.CELLS + 1, axis=1)
    share = np.maximum(np.minimum(edges[:, 1:], best) - np.maximum(edges[:, :-1], -best), 0.0)
    share += FLOOR * np.maximum(high - low, 1.0)[:, None] / _follow.CELLS
    return (share / share.sum(axis=1, keepdims=True)).astype(np.float32)


def _usual_step(middle: NDArray[np.float64]) -> float:
    """The mean time between two updates. A gap of several such times contains updates that were missed."""
    apart = np.diff(middle)
    step = float(np.median(apart))
    for _ in range(3):
        step = float(apart.sum() / np.maximum(np.rint(apart / step), 1).sum())
    return step


def _parts(changes: NDArray[np.int64]) -> list[slice]:
    """The whole, or parts of it if updates came at different rates in them."""
    count = min(_PARTS, len(changes) // _PART)
    whole = [slice(0, len(changes))]
    if count < 2:
        return whole
    edges = np.linspace(0, len(changes), count + 1).astype(int)
    middle = changes[:, :2].mean(axis=1)
    apart = np.diff(middle)
    usual = apart < 1.5 * np.median(apart)  # without missed updates
    means = [float(np.mean(apart[a : b - 1][usual[a : b - 1]])) for a, b in pairwise(edges.tolist())]
    error = float(np.std(apart[usual])) / np.sqrt(len(changes) / count)
    if max(means) - min(means) < 6 * error:
        return whole
    return [slice(a, b) for a, b in pairwise(edges.tolist())]


def _missed(changes: NDArray[np.int64], period_ns: float) -> float:
    """The share of updates that are missed, by how far apart the others are."""
    periods = np.rint(np.diff(changes[:, :2].mean(axis=1)) / period_ns)
    periods = periods[(periods >= 1) & (periods <= 4) & (changes[1:, 3] != 0)]
    share = 1.0 - len(periods) / max(float(periods.sum()), 1.0)
    return min(max(share, MISSED), _MOST_MISSED)


def learn_period(changes: NDArray[np.int64]) -> tuple[float, float]:
    """Shortest and longest period in ns that make the brackets of the changes most likely.

    A coarse grid, then steps to a better neighbour, which get shorter where there is not one. A few updates are enough
    for the long steps.

    Parameters
    ----------
    changes : (changes, 4) int64
    """
    apart = np.diff(changes[:_LEARN, :2].mean(axis=1))
    usual = float(np.median(apart))
    # Of several periods with missed updates between them, the longest and the shortest rarely come together.
    changes = changes[:_LEARN].copy()
    changes[1:, 3] &= apart < 1.5 * usual
    few, many = (_follow.Followed(changes[:most]) for most in (_FEW, _LEARN))
    unit = _STEP * usual / _STEPS
    known: dict[tuple[bool, int, int], float] = {}

    def likelihood(step: int, low: int, high: int) -> float:
        if not _SHORTEST_TRIED * usual <= low * unit <= high * unit - _NARROWEST * usual:
            return -np.inf
        long = step > _STEPS_OF_MANY
        if (long, low, high) not in known:
            followed = few if long else many
            known[long, low, high] = followed.chain(low * unit, high * unit, MISSED, FLOOR, False)[1]
        return known[long, low, high]

    units = round(usual / unit)
    longest = [round(part * units) for part in np.linspace(0.7, 1.4, 11)]
    pairs = [(round(ratio * high), high) for high in longest for ratio in (0.4, 0.65, 0.8, 0.9, 0.97)]
    best, step, sides = max(pairs, key=lambda pair: likelihood(_STEPS, *pair)), _STEPS, list(_SIDES)
    while step:
        value = likelihood(step, *best)
        for side in sides:
            pair = (best[0] + side[0] * step, best[1] + side[1] * step)
            if likelihood(step, *pair) > value:
                best = pair
                sides.remove(side)
                sides.insert(0, side)  # the next step probably goes there too
                break
        else:
            step //= 2
    return best[0] * unit, best[1] * unit
