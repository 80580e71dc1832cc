"""Cumulative energy of one power channel."""

from __future__ import annotations

import numpy as np

from fastgreen.units import NS_PER_S

__all__ = ["Curve"]


class Curve:
    """Cumulative energy of one power channel, over any covered stretch of time.

    Parameters
    ----------
    time_ns : (n,) int64 ndarray
        Times in ns, in order within a segment.
    segment : (n,) integer ndarray
        Number of each point's segment.
    watts : (n,) float64 ndarray
        Power in W, NaN where absent.
    """

    def __init__(self, time_ns: np.ndarray, segment: np.ndarray, watts: np.ndarray) -> None:
        good = np.isfinite(watts)
        self.time_ns, self.watts = time_ns[good], watts[good]
        # An absent value ends a stretch, as the end of a segment does.
        holes = np.cumsum(~good)[good]
        self.stretch = np.concatenate([[0], np.cumsum((np.diff(segment[good]) != 0) | (np.diff(holes) != 0))])[
            : good.sum()
        ]

    def spans(self) -> list[tuple[int, int]]:
        """First and last time in ns of each stretch without a hole."""
        if not self.time_ns.size:
            return []
        starts = np.flatnonzero(np.diff(self.stretch, prepend=-1))
        ends = np.concatenate([starts[1:], [self.time_ns.size]]) - 1
        return [(int(self.time_ns[a]), int(self.time_ns[b])) for a, b in zip(starts, ends, strict=True) if b > a]

    def energy_j(self, start_ns: int, end_ns: int) -> float:
        """Integrate power from `start_ns` to `end_ns`, in J (trapezoids, edges interpolated).

        Raises
        ------
        ValueError
            If no stretch holds both times.
        """
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
        raise ValueError(f"start_ns and end_ns must be in one covered stretch, not {start_ns} and {end_ns}")

    def _runs(self) -> list[tuple[int, int]]:
        starts = np.flatnonzero(np.diff(self.stretch, prepend=-1))
        return list(zip(starts, [*starts[1:], self.time_ns.size], strict=True))
