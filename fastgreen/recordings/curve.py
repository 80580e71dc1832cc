"""The cumulative energy of one power channel."""

from __future__ import annotations

import numpy as np

from fastgreen.units import NS_PER_S

__all__ = ["Curve"]


class Curve:
    """The cumulative energy of one power channel, for any stretch inside what it covers.

    Parameters
    ----------
    time_ns : int64 moments, in order within a segment
    segment : segment numbers
    watts : values, NaN where absent
    """

    def __init__(self, time_ns: np.ndarray, segment: np.ndarray, watts: np.ndarray) -> None:
        good = np.isfinite(watts)
        self.time_ns, self.watts = time_ns[good], watts[good]
        # An absent value ends a stretch just as the end of a segment does.
        holes = np.cumsum(~good)[good]
        self.stretch = np.concatenate([[0], np.cumsum((np.diff(segment[good]) != 0) | (np.diff(holes) != 0))])[
            : good.sum()
        ]

    def spans(self) -> list[tuple[int, int]]:
        """(first, last) moment of each stretch without a hole."""
        if not self.time_ns.size:
            return []
        starts = np.flatnonzero(np.diff(self.stretch, prepend=-1))
        ends = np.concatenate([starts[1:], [self.time_ns.size]]) - 1
        return [(int(self.time_ns[a]), int(self.time_ns[b])) for a, b in zip(starts, ends, strict=True) if b > a]

    def energy_j(self, start_ns: int, end_ns: int) -> float:
        """Joules from `start_ns` to `end_ns`, which lie inside one stretch: trapezoids, the two edges interpolated."""
        for a, b in self._runs():
            times = self.time_ns[a:b]
            if times[0] <= start_ns and end_ns <= times[-1]:
                inside = (times > start_ns) & (times < end_ns)
                # Relative to the start: nanoseconds since 1970 do not fit a double.
                seconds = (times - start_ns) / NS_PER_S
                edges = np.array([0.0, (end_ns - start_ns) / NS_PER_S])
                t = np.concatenate([edges[:1], seconds[inside], edges[1:]])
                w = np.interp(t, seconds, self.watts[a:b])
                return float((np.diff(t) * 0.5 * (w[1:] + w[:-1])).sum())
        raise ValueError("start_ns: the stretch is not covered by the recording")

    def _runs(self) -> list[tuple[int, int]]:
        starts = np.flatnonzero(np.diff(self.stretch, prepend=-1))
        return list(zip(starts, [*starts[1:], self.time_ns.size], strict=True))
