"""The readings of a counter that lied: all that can be false, found in the finished samples.

A counter never goes down. So a fall that is no wrap proves that a reading before it was too high or that the readings
from it on are too low, unless the counter restarted. A stretch of equal jumps has two edges of about the same size:
the fall, and a rise before it (a spike) or after it (a dip). A rise that is as high as the fall may be that edge, so
every reading up to the farthest of them can be false and tells nothing. It makes no difference whether the rise itself
was plausible. Where a jump is larger than the growth between two readings there is one such rise, and the stretch is
exact; where it is smaller, the stretch is as wide as it can be.

The account (csrc/fg_jump.h) judges each reading when it comes, and keeps the live totals. This module sees what came
afterwards, and widens the bounds. A jump so small that the counter never falls leaves no trace: the same samples come
from a sound counter.
"""

from __future__ import annotations

from collections import deque

from fastgreen import _resolver
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    Chunks = Callable[[], Iterable[NDArray[np.void]]]
    Range = tuple[int, int]

__all__ = ["LeftOut", "false_readings", "restart_places", "without_places"]

LONGEST = 4095  # readings: the longest stretch that the account undoes too
NEAR_NS, NEAR = 5 * NS_PER_S, 8  # a rise so near may be the other edge though a nearer one may be it as well
BURST_NS = 50_000_000  # as csrc/fg_jump.h
APART_NS, APART = 300_000_000, 4  # falls nearer than this are of one stretch, in which the counter lied all the time
WILD_NS, WILD = NS_PER_S, 8  # so far from them it may have begun and may end
MARGIN_NS, MARGIN = 150_000_000, 2  # then its first and last readings may fit to the true ones by chance
ROUNDS = 8
ZERO_QUANTA = 64  # a counter that goes farther than this between two readings hardly gets to exactly 0


def false_readings(chunks: Chunks, traits: dict[str, Any]) -> list[Range]:
    """The readings that can be false, as ranges of their places from the first on, sorted and apart.

    Parameters
    ----------
    chunks : callable
        Returns an iterable of arrays of dtype SAMPLE, in time order.
    traits : dict
        The members of struct fg_traits.
    """
    found: list[Range] = []
    for _ in range(ROUNDS):  # what is left without the first ones can show others
        more = _once(without_places(chunks(), found), traits)
        if not more:
            break
        found = _joined(found + _as_before(more, found))
    return found


class LeftOut:
    """Takes samples chunk by chunk, and gives copies of those that are not at `places`.

    The first sample after a place follows a gap, and no known wrap. `restarted` is the mask of those samples of the
    last chunk that are at one of the places `restarts`.
    """

    def __init__(self, places: list[Range], restarts: Collection[int] = ()) -> None:
        import numpy as np

        self._restarts = np.array(sorted(restarts), np.int64)
        self.restarted = np.empty(0, bool)
        self._begin = np.array([-1, *(b for b, _ in places)], np.int64)
        self._end = np.array([-1, *(e for _, e in places)], np.int64)
        self._before = 0  # samples so far

    def take(self, chunk: NDArray[np.void]) -> NDArray[np.void]:
        import numpy as np

        place = np.arange(self._before, self._before + len(chunk))
        self._before += len(chunk)
        keep = place >= self._end[np.searchsorted(self._begin, place, side="right") - 1]
        out = chunk[keep]
        self.restarted = np.isin(place[keep], self._restarts)
        jumped = np.isin(place[keep], self._end) | ((out["flags"] & _resolver.RETURN) != 0)
        out["flags"][jumped] = _resolver.GAP
        out["wraps"][jumped] = 0
        return out


def without_places(chunks: Iterable[NDArray[np.void]], places: list[Range]) -> Iterator[NDArray[np.void]]:
    """Copies of the samples but those at `places`, see `LeftOut`."""
    left_out = LeftOut(places)
    return (left_out.take(chunk) for chunk in chunks)


def restart_places(chunks: Iterable[NDArray[np.void]], traits: dict[str, Any], false: list[Range]) -> set[int]:
    """The places after the ranges `false` at which the counter may have started again from 0 instead of a lie.

    The samples cannot tell the two apart, so the energy of the range is not known. A line that is lower after the range
    than before is left to the account: it takes that for a wrap or a restart already.
    """
    waiting = deque((begin, end) for begin, end in false if begin > 0)  # sorted, and apart
    parts: list[NDArray[np.void]] = []  # of the first range that waits
    found: set[int] = set()
    before = 0
    for chunk in chunks:
        after = before + len(chunk)
        while waiting and waiting[0][0] <= after:
            begin, end = waiting[0]
            parts.append(chunk[max(begin - 1 - before, 0) : end + 1 - before].copy())
            if end >= after:
                break
            if _may_restart(parts, traits):
                found.add(end)
            waiting.popleft()
            parts = []
        before = after
    return found


def _may_restart(parts: list[NDArray[np.void]], traits: dict[str, Any]) -> bool:
    """Whether readings, from the one before a range to the one after it, can be those of a counter that restarted.

    A restart goes to what can be counted since the reading before; all that follows is growth. Between two readings a
    counter seldom gets beyond half of what is plausible.
    """
    import numpy as np

    samples = np.concatenate(parts)
    raw, step = samples["raw"][1:], np.diff(samples["raw"])
    per_ns = traits["plausible_per_s"] / 2 / NS_PER_S or np.inf
    most = per_ns * (np.diff(samples["at_ns"]) + traits["period_ns"] + BURST_NS) + 2.0 * traits["quantum"]
    fresh = (step < 0) & (raw <= most)
    impossible = ((step < 0) & ~fresh) | (step > most)  # a lie for certain
    return bool(fresh.any() and not impossible.any()) and samples["raw"][0] <= samples["raw"][-1]


def _as_before(ranges: list[Range], gone: list[Range]) -> list[Range]:
    """Places among the samples that are left, as places among all."""
    import numpy as np

    begin = np.array([b for b, _ in gone], np.int64)
    length = np.array([e - b for b, e in gone], np.int64)
    removed = np.concatenate([[0], np.cumsum(length)])
    left = begin - removed[:-1]  # how many samples are left before each range that is gone

    def of(place: int) -> int:
        return place + int(removed[np.searchsorted(left, place, side="right")])

    return [(of(b), of(e - 1) + 1) for b, e in ranges]


def _once(chunks: Iterable[NDArray[np.void]], traits: dict[str, Any]) -> list[Range]:
    found: list[Range] = []
    for before, view, begin, end in _views(chunks):
        found += [(before + b, before + e) for b, e in _View(view, traits).ranges(begin, end)]
    return _joined(found)


def _joined(ranges: list[Range], apart: int = 0) -> list[Range]:
    out: list[Range] = []
    for begin, end in sorted(ranges):
        if out and begin <= out[-1][1] + apart:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return out


def _views(chunks: Iterable[NDArray[np.void]]) -> Iterator[tuple[int, NDArray[np.void], int, int]]:
    """Stretches of the samples that overlap by what a false stretch can span: the place of the first sample, the
    samples, and which of them (begin, end) to look at."""
    import numpy as np

    view, before, begin = np.zeros(0, _resolver.SAMPLE), 0, 0
    for chunk in chunks:
        view = np.concatenate([view, chunk])
        end = len(view) - LONGEST
        if end - begin < LONGEST:
            continue
        yield before, view, begin, end
        gone = max(end - 2 * LONGEST, 0)
        view, before, begin = view[gone:], before + gone, end - gone - APART
    yield before, view, begin, len(view)


class _View:
    """Samples in a row, and how far the counter went from each to the next."""

    def __init__(self, samples: NDArray[np.void], traits: dict[str, Any]) -> None:
        import numpy as np

        self.at_ns, self.raw = samples["at_ns"], samples["raw"]
        self.modulus = traits["modulus"]
        self.step = np.zeros(len(samples), np.int64)  # [i]: from i - 1 to i; up or down, whichever is less
        if len(samples) < 2:
            self.falls = self.zeros = self.step[:0]
            return
        self.most = np.concatenate([[np.inf], self._most(traits)])
        grown = np.diff(self.raw)
        if self.modulus:
            wrapped = (samples["wraps"][1:] > 0) & (samples["flags"][1:] & _resolver.RETURN == 0)
            up = grown % self.modulus
            fits = (up <= self.most[1:]) & ((grown >= 0) | (up < self.modulus // 2)) | wrapped
            grown = np.where(fits, up, (grown + self.modulus // 2) % self.modulus - self.modulus // 2)
        self.step[1:] = grown
        self.line = np.cumsum(self.step)
        self.falls = np.flatnonzero(self.step < 0)
        far = abs(self.step[1:]) > ZERO_QUANTA * traits["quantum"]
        if self.modulus:  # a counter that wraps all the time may get to 0
            far &= self.step[1:] < self.modulus // ZERO_QUANTA
        self.zeros = 1 + np.flatnonzero((self.raw[1:] == 0) & far)

    def _most(self, traits: dict[str, Any]) -> NDArray[np.float64]:
        """The largest plausible growth up to each sample but the first; the value before may be a step older."""
        import numpy as np

        if traits["plausible_per_s"] <= 0:
            return np.full(len(self.at_ns) - 1, np.inf)
        since_ns = np.concatenate([self.at_ns[:1], self.at_ns[:-2]])
        allowed_ns = self.at_ns[1:] - since_ns + traits["period_ns"] + BURST_NS
        return traits["plausible_per_s"] / NS_PER_S * allowed_ns + 2.0 * traits["quantum"]

    def ranges(self, begin: int, end: int) -> list[Range]:
        """The samples that the falls and zeros in [begin, end) make doubtful."""
        groups = [(0, 0), *self._groups(), (len(self.step), len(self.step))]
        found = [self._zeros_from(i) for i in self.zeros.tolist() if begin <= i < end]
        if any(found):  # without them the other falls are easier to read
            return _joined([f for f in found if f is not None])
        for (_, before), (first, last), (after, _) in zip(groups, groups[1:], groups[2:], strict=False):
            if begin <= first < end:
                low, high = max(before + 1, first - LONGEST), min(after, last + LONGEST)
                found.append(self._jump(first, low, high) if first == last else self._wild(first, last, low, high))
        return _joined([f for f in found if f is not None])

    def _groups(self) -> list[Range]:
        """The first and the last of falls that are so near each other that the counter lied all the time between."""
        import numpy as np

        falls = self.falls
        if not len(falls):
            return []
        apart = (np.diff(falls) > APART) & (np.diff(self.at_ns[falls]) > APART_NS)
        firsts, lasts = falls[np.append(True, apart)], falls[np.append(apart, True)]
        return list(zip(firsts.tolist(), lasts.tolist(), strict=True))

    def _zeros_from(self, i: int) -> Range | None:
        last = i
        while last < len(self.raw) and self.raw[last] == 0 and last - i <= LONGEST:
            last += 1
        return (i, last) if last < len(self.raw) and last - i <= LONGEST else None

    def _edges(self, low: int, high: int, least: int) -> NDArray[np.intp]:
        """Where in [low, high) the counter rose by so much."""
        import numpy as np

        return low + np.flatnonzero(self.step[low:high] >= least)

    def _reach(self, i: int, ns: int, count: int) -> Range:
        """The samples that are so near to `i`, in time or in number."""
        first = min(int(self.at_ns.searchsorted(self.at_ns[i] - ns)), i - count)
        last = max(int(self.at_ns.searchsorted(self.at_ns[i] + ns, side="right")), i + count + 1)
        return max(first, 0), min(last, len(self.at_ns))

    def _climbs(self, first: int, last: int, low: int, high: int) -> tuple[list[int], list[int]]:
        """The ends of climbs, in any number of steps, as high as the falls from `first` to `last`: before and after."""
        import numpy as np

        ups = low + np.flatnonzero(self.line[low - 1 : first - 1] <= self.line[last])
        downs = last + np.flatnonzero(self.line[last:high] >= self.line[first - 1])
        return ups[-1:].tolist(), downs[:1].tolist()

    def _jump(self, i: int, low: int, high: int) -> Range | None:
        """What a single fall makes doubtful, within [low, high); None if it is a restart."""
        fall = -int(self.step[i])
        near, few = self._reach(i, NEAR_NS, NEAR), self._reach(i, APART_NS, APART)
        ups = self._edges(max(low, near[0]), i, fall // 2).tolist()  # the edge of a jump may come in two steps
        downs = self._edges(i + 1, min(high, near[1]), fall // 2).tolist()
        uneven = max(self.step[ups + downs], default=0) < fall
        if fall > 2 * self.most[i]:  # no growth is like these edges: each is one, and the nearest is the other one
            ups, downs = ups[-1:], downs[:1]
        if ups and downs:  # a line that is shown much longer than the other is the true one
            spike, dip = i - ups[0], downs[-1] - i
            if downs[0] - i > 2 * spike + 1:
                downs = []
            elif i - ups[-1] > 2 * dip + 1:
                ups = []
        before, after = self._climbs(i, i, max(low, few[0]), min(high, few[1]))
        places = [*ups, *downs, *(p for p in (*before, *after) if self.step[p] < fall // 2)]  # else it is an edge
        if (places and uneven) or (not places and self._stirs(i, low, high, fall // 4)):
            places += self._wild(i, i, low, high)
        if not places:
            far = [*self._edges(low, i, fall)[-1:].tolist(), *self._edges(i + 1, high, fall)[:1].tolist()]
            places = sorted(far, key=lambda place: abs(place - i))[:1]
        return (min(*places, i), max(*places, i)) if places else None

    def _stirs(self, i: int, low: int, high: int, least: int) -> bool:
        """Whether the counter rose by so much just before or after."""
        before, after = self._reach(i, APART_NS, APART)
        return bool((self.step[max(low, before) : min(high, after)] >= least).any())

    def _wild(self, first: int, last: int, low: int, high: int) -> Range:
        """What several falls in a row make doubtful: all between them, and a margin."""
        before, after = self._reach(first, WILD_NS, WILD)[0], self._reach(last, WILD_NS, WILD)[1]
        low, high = max(low, before), min(high, after)
        climbs = self._climbs(first, last, low, high)
        begin = min([first, *climbs[0], *self._edges(low, first, -int(self.step[first]) // 2).tolist()])
        end = max([last, *climbs[1], *self._edges(last + 1, high, -int(self.step[last]) // 2).tolist()])
        return self._reach(begin, MARGIN_NS, MARGIN)[0], self._reach(end - 1, MARGIN_NS, MARGIN)[1]
