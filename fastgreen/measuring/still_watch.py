# SPDX-License-Identifier: Apache-2.0
"""Counters that stand still under load, found while samples come and go. See `fastgreen.measuring.standstill`."""

from __future__ import annotations

from collections import deque

import numpy as np

from fastgreen.measuring.standstill import BUSY_CPUS, DRAWN_W, is_of_the_cpu
from fastgreen.results.settled_samples import LEAST_STILL_NS, STILL_UPDATES
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastgreen.measuring.standstill import LoadWitness
    from fastgreen.sensors.channel import Channel

__all__ = ["StillWatch"]

_KEPT = 100  # stretches that are listed; later ones make the last one longer


class StillWatch:
    """Watches one energy counter.

    Parameters
    ----------
    channel : Channel
    witness : LoadWitness
    own_power : (str, callable), optional
        A power of the same board: its id, and what gives its energy so far in J.

    Attributes
    ----------
    stretches : list of (begin_ns, end_ns)
        Where it stood still though there was load.
    why : str
        What showed the load in the longest of them.
    """

    def __init__(
        self, channel: Channel, witness: LoadWitness, own_power: tuple[str, Callable[[], float]] | None = None
    ) -> None:
        self.channel, self._witness, self._own_power = channel, witness, own_power
        self.stretches: list[list[int]] = []
        self.why, self._longest_ns = "", 0
        self._recent: deque[tuple[int, int]] = deque(maxlen=_KEPT)  # that cuts may still ask about
        self._since_ns = self._last_ns = self._last_raw = 0
        self._own_j = 0.0  # of the power, at the last change
        self._begun = self._still = False
        self._least_ns = LEAST_STILL_NS

    def take(self, samples: np.ndarray, tally: dict[str, Any]) -> None:
        """The next samples, and what the account of the channel has learnt with them."""
        self._least_ns = self._least(tally)
        at_ns, raw = samples["at_ns"], samples["raw"]
        if not self._begun:
            self._since_ns, self._last_raw, self._begun = int(at_ns[0]), int(raw[0]), True
        changes = at_ns[np.diff(raw, prepend=self._last_raw) != 0]
        edges = np.append(self._since_ns, changes)
        for i in np.flatnonzero(np.diff(edges) > self._least_ns).tolist():
            self._judge(int(edges[i]), int(edges[i + 1]), tally)
        self._since_ns, self._last_raw, self._last_ns = int(edges[-1]), int(raw[-1]), int(at_ns[-1])
        if len(changes):
            self._still = False
            self._own_j = self._own_power[1]() if self._own_power else 0.0
        if self._last_ns - self._since_ns > self._least_ns:
            self._judge(self._since_ns, self._last_ns, tally)
            self._still = True

    def doubts(self, begin_ns: int, end_ns: int) -> bool | None:
        """Whether the counter told nothing in a part of a stretch; None if only later samples can say."""
        if any(begin < end_ns and end > begin_ns for begin, end in self._recent):
            return True
        if self._begun and end_ns > self._since_ns and not self._still:
            return None
        return False

    def _least(self, tally: dict[str, Any]) -> int:
        period_ns = tally["period_mean_ns"] or 0
        if 2 * period_ns < 3 * tally["tick_ns"] or not period_ns:
            period_ns = self.channel.traits["period_ns"]
        return max(LEAST_STILL_NS, STILL_UPDATES * round(period_ns))

    def _judge(self, begin_ns: int, end_ns: int, tally: dict[str, Any]) -> None:
        why = self._load(begin_ns, end_ns, tally)
        if not why:
            return
        if self._recent and self._recent[-1][0] == begin_ns:
            self._recent.pop()
        self._recent.append((begin_ns, end_ns))
        if self.stretches and (self.stretches[-1][0] == begin_ns or len(self.stretches) == _KEPT):
            last = self.stretches[-1]
            last[1] = end_ns if last[0] == begin_ns else last[1] + end_ns - begin_ns
        else:
            self.stretches.append([begin_ns, end_ns])
        if end_ns - begin_ns >= self._longest_ns:
            self._longest_ns, self.why = end_ns - begin_ns, why

    def _load(self, begin_ns: int, end_ns: int, tally: dict[str, Any]) -> str:
        """What shows load in a stretch or in its last second; "" where nothing does."""
        if self._own_power is not None:
            watts = (self._own_power[1]() - self._own_j) * NS_PER_S / (end_ns - begin_ns)
            if watts >= DRAWN_W:
                return f"{self._own_power[0]} showed {watts:.3g} W"
        if not is_of_the_cpu(self.channel):
            return ""
        busy = self._witness.busy_cpus(begin_ns, end_ns)
        if busy is None:
            whole = tally["updates"] == 0 and self.channel.root
            return "the load of the CPUs is not known" if whole else ""
        last_s = self._witness.busy_cpus(max(begin_ns, end_ns - 2 * LEAST_STILL_NS), end_ns) or 0.0
        busy = max(busy, last_s)
        return f"{busy:.2f} CPUs were busy" if busy >= BUSY_CPUS else ""
