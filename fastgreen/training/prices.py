"""Prices and carbon intensities that are constant or change over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from numbers import Real
from typing import Any

import numpy as np

from fastgreen.units import J_PER_KWH

__all__ = ["Series"]


class Series:
    """Quantity per kWh (price, carbon intensity) that is constant or changes at given times.

    Parameters
    ----------
    value : float or iterable of (time, float)
        A number counts from its time until the next one; the first number counts before its time as well. Times are
        seconds since the start of the training, seconds since 1970 (numbers above 1e8), or `datetime` objects.
    name : str
        Name of the argument in errors.

    Raises
    ------
    ValueError
        If there is no pair, times go back, or a number is not finite.

    Examples
    --------
    >>> Series([(0, 0.30), (3600, 0.10)]).at([0, 3599, 3600, 9999]).tolist()
    [0.3, 0.3, 0.1, 0.1]
    """

    def __init__(self, value: float | Iterable[tuple[float, float]], name: str = "value") -> None:
        pairs = _pairs(value, name)
        if not pairs:
            raise ValueError(f"{name} must have at least one pair")
        self.moments = np.array([t for t, _ in pairs])
        self.values = np.array([v for _, v in pairs])
        if np.any(np.isnan(self.moments)):
            raise ValueError(f"{name} must have numbers as moments, not NaN")
        if np.any(np.diff(self.moments) < 0):
            back = self.moments[1:][np.diff(self.moments) < 0][0]
            raise ValueError(f"{name} must have rising moments, not go back to {back}")
        if not np.all(np.isfinite(self.values)):
            raise ValueError(f"{name} must be finite, not {self.values[~np.isfinite(self.values)][0]}")
        self.since_1970 = bool(self.moments[-1] > 1e8)

    def at(self, moments: Sequence[float] | np.ndarray) -> np.ndarray:
        """Value at each of (n,) times, as (n,) float64."""
        index = np.searchsorted(self.moments, moments, side="right") - 1
        return self.values[np.maximum(index, 0)]

    def over(self, elapsed_s: np.ndarray, energy_j: np.ndarray, started_s: float) -> np.ndarray:
        """Cumulative value x kWh at each of (n,) points, with constant power between two points.

        Parameters
        ----------
        elapsed_s : (n,) ndarray
            Seconds since the start, rising.
        energy_j : (n,) ndarray
            Cumulative energy in J.
        started_s : float
            Start of the training, seconds since 1970.
        """
        moments = elapsed_s + (started_s if self.since_1970 else 0.0)
        turns = self.moments[(self.moments > moments[0]) & (self.moments < moments[-1])]
        grid = np.union1d(moments, turns)
        joules = np.interp(grid, moments, energy_j)
        paid = np.concatenate([[0.0], np.cumsum(np.diff(joules) * self.at(grid[:-1]))]) / J_PER_KWH
        return np.interp(moments, grid, paid)


def _pairs(value: Any, name: str) -> list[tuple[float, float]]:
    if isinstance(value, Real):
        return [(-math.inf, float(value))]
    try:
        return [(t.timestamp() if isinstance(t, datetime) else float(t), float(v)) for t, v in value]
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or pairs (moment, number), not {value!r}") from None
