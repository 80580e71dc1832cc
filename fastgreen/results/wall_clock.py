# SPDX-License-Identifier: Apache-2.0
"""The wall clock of a run beside CLOCK_MONOTONIC: pairs of instants, a minute apart.

The two clocks drift apart by up to 8 s a day. The wall clock can be set, and CLOCK_MONOTONIC stands still while the
machine sleeps. Between two pairs the difference is interpolated, and an instant is uncertain by what they disagree.
"""

from __future__ import annotations

from fastgreen.results.run_checks import EARLIEST_NS, LARGEST, LATEST_NS, check_integer
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy as np

    Instants = np.ndarray

__all__ = ["CLOCK", "WallClock", "checked_pairs", "shifted_clock"]

CLOCK = "clock"  # the member of a run's metadata: [[realtime_ns, monotonic_ns], ...]
_MOST_PAIRS = 4000
_PAIR_NS = 1000  # an instant of a pair is known to


def checked_pairs(found: Any) -> list[list[int]]:
    """Pairs as a file has them. ValueError for those that cannot be."""
    if not (isinstance(found, list) and len(found) <= _MOST_PAIRS):
        raise ValueError("its pairs of clocks are no short list")
    before_ns = EARLIEST_NS
    for pair in found:
        if not (isinstance(pair, list) and len(pair) == 2):
            raise ValueError("a pair of its clocks is not two numbers")
        check_integer("realtime_ns of a pair", pair[0], -LARGEST)
        check_integer("monotonic_ns of a pair", pair[1], before_ns, LATEST_NS)
        check_integer("the difference of a pair", pair[0] - pair[1], EARLIEST_NS)
        before_ns = pair[1]
    return found


def shifted_clock(metadata: Mapping[str, Any], by_ns: int) -> dict[str, Any]:
    """The metadata of a run whose monotonic instants were moved."""
    out = {**metadata, "monotonic_ns": metadata["monotonic_ns"] + by_ns}
    if CLOCK in metadata:
        out[CLOCK] = [[realtime_ns, monotonic_ns + by_ns] for realtime_ns, monotonic_ns in metadata[CLOCK]]
    return out


class WallClock:
    """Converts instants since 1970.

    Parameters
    ----------
    metadata : mapping
        Of a run.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        first = [int(metadata["realtime_ns"]), int(metadata["monotonic_ns"])]
        self.pairs = [first, *(p for p in metadata.get(CLOCK, ()) if p[1] > first[1])]

    @property
    def apart_s(self) -> float:
        """How far the two clocks moved apart during the run, in s."""
        offsets = [realtime - monotonic for realtime, monotonic in self.pairs]
        return (max(offsets) - min(offsets)) / NS_PER_S

    def monotonic(self, realtime_ns: Instants) -> tuple[Instants, Instants]:
        """Instants since 1970 as ns of CLOCK_MONOTONIC, and the ns that each is uncertain by."""
        import numpy as np

        realtime, monotonic = np.array(self.pairs, np.int64).T
        offset = realtime - monotonic
        if len(offset) == 1:
            return realtime_ns - offset[0], np.zeros(len(realtime_ns), np.int64)
        upper = np.maximum.accumulate(realtime)  # a clock that was set back shows an instant twice: the first one
        after = np.clip(np.searchsorted(upper, realtime_ns, side="left"), 1, len(offset) - 1)
        step = offset[after] - offset[after - 1]
        length = np.maximum(realtime[after] - realtime[after - 1], 1)
        part = np.clip((realtime_ns - realtime[after - 1]) / length, 0.0, 1.0)
        found = realtime_ns - offset[after - 1] - np.rint(part * step).astype(np.int64)
        return found, np.abs(step) + _PAIR_NS
