"""Other rules for the energy of a recording: AIPowerMeter's own, to repeat tables that were published with it.

Its script of compilation takes the median of the trapezoids between adjacent readings, times their number, for the
energy of a run. Its summary of a period takes the steps between readings inside the period, and nothing of the steps at
its edges. Neither is the integral: the first replaces every step by the middle one, the second loses up to a step at
each edge.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastgreen.units import NS_PER_S

__all__ = ["median_energies", "window_energies"]


def median_energies(recording: Any) -> dict[str, float]:
    """Joules of each power channel by AIPowerMeter's rule of compilation.

    The median of ``(t2 - t1) (w1 + w2) / 2`` over the adjacent readings of a segment, times the number of these steps.
    The original counts -1 as a power and stops at the marker of a segment. Here an absent value ends a step, and no
    step crosses a marker.

    Parameters
    ----------
    recording : Recording

    Returns
    -------
    dict of str to float
        By channel; a channel without two adjacent readings is left out.

    References
    ----------
    AIPowerMeter (GreenAI-Uppa), ``deep_learning_benchmark/concat_power_measure.py``, 2021.
    """
    found = {}
    for name in _powers(recording):
        seconds, watts, segment, _ = _columns(recording, name)
        steps = _trapezoids(seconds, watts, segment)
        if steps.size:
            found[name] = float(np.median(steps)) * steps.size
    return found


def window_energies(
    recording: Any, start_s: float = -math.inf, end_s: float = math.inf, *, whole_steps: bool = False
) -> dict[str, float]:
    """Joules of each power channel from one moment to another.

    Parameters
    ----------
    recording : Recording
    start_s, end_s : float
        Moments in s since 1970 UTC.
    whole_steps : bool
        True is AIPowerMeter's rule: only steps with both readings inside the window. False cuts the steps at its edges,
        where the power is on the line between the two readings.

    Returns
    -------
    dict of str to float
        By channel; 0 if no step is inside.

    Raises
    ------
    ValueError
        If `end_s` is before `start_s`, or one of them is not a number.

    References
    ----------
    AIPowerMeter (GreenAI-Uppa), ``power_measure/experiment.py``, functions ``integrate`` and ``total``, 2023.
    """
    if not start_s <= end_s:
        raise ValueError(f"end_s must be at least start_s ({start_s}), not {end_s}")
    found = {}
    for name in _powers(recording):
        seconds, watts, segment, origin = _columns(recording, name)
        low, high = start_s - origin, end_s - origin
        if whole_steps:
            inside = (seconds >= low) & (seconds <= high)
            found[name] = float(_trapezoids(seconds[inside], watts[inside], segment[inside]).sum())
        else:
            found[name] = _cut_at_edges(seconds, watts, segment, low, high)
    return found


def _powers(recording: Any) -> list[str]:
    return [row["id"] for row in recording.channels.to_pylist() if row["kind"] == "power" and row["samples"]]


def _columns(recording: Any, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Times in s since the first point, values, segments, and the time of the first point in s since 1970."""
    time_ns, segment, value = recording.points(name)
    first = int(time_ns[0]) if time_ns.size else 0
    return (time_ns - first) / NS_PER_S, value, segment, first / NS_PER_S


def _steps(seconds: np.ndarray, watts: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Places of the steps with a value at both ends, in one segment."""
    if seconds.size < 2:
        return np.empty(0, np.int64)
    known = np.isfinite(watts)
    return np.flatnonzero((segment[1:] == segment[:-1]) & known[1:] & known[:-1])


def _trapezoids(seconds: np.ndarray, watts: np.ndarray, segment: np.ndarray) -> np.ndarray:
    at = _steps(seconds, watts, segment)
    energy: np.ndarray = (seconds[at + 1] - seconds[at]) * (watts[at + 1] + watts[at]) / 2
    return energy


def _cut_at_edges(seconds: np.ndarray, watts: np.ndarray, segment: np.ndarray, low: float, high: float) -> float:
    at = _steps(seconds, watts, segment)
    begin, end = seconds[at], seconds[at + 1]
    at, begin, end = (column[end > begin] for column in (at, begin, end))
    first, last = np.clip(low, begin, end), np.clip(high, begin, end)
    slope = (watts[at + 1] - watts[at]) / (end - begin)
    middle = watts[at] + slope * ((first + last) / 2 - begin)
    return float(((last - first) * middle).sum())
