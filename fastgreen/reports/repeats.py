# SPDX-License-Identifier: Apache-2.0
"""Repeated runs of one command: their mean and scatter, the energy above idle, and a run that is too short."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastgreen.reports.ratio import Outcomes, student_t
from fastgreen.results.console import quantity, with_bounds
from fastgreen.units import counted, two_digits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastgreen.results.result import Result

__all__ = ["Idle", "Repeats", "slowest_period_s", "too_short"]

COARSE = 0.05  # an energy that is known less well is reported as that of too short a run


@dataclass(frozen=True)
class Repeats:
    """Runs of one command, one after another.

    Attributes
    ----------
    outcomes : Outcomes
    """

    outcomes: Outcomes

    @classmethod
    def of(cls, result: Result, window: str) -> Repeats:
        """From the stretches of a window."""
        rows = result.windows(window).to_pylist()
        names = ("energy_j", "energy_low_j", "energy_high_j", "duration_s")
        return cls(Outcomes.of([tuple(row[name] for name in names) for row in rows]))  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self.outcomes)

    def mean(self) -> tuple[float, float, float]:
        """Mean energy of one and its bounds, J."""
        these = self.outcomes
        return float(these.energy_j.mean()), float(these.low_j.mean()), float(these.high_j.mean())

    def scatter(self, name: str = "energy_j") -> float:
        """Half width of the 95 % interval of the mean over the mean (Student's t); NaN for one run."""
        values = getattr(self.outcomes, name)
        mean = float(values.mean())
        if len(values) < 2 or not mean > 0:
            return math.nan
        return student_t(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values)) / mean

    def sentence(self) -> str:
        """Mean energy and time for people."""
        energy, between = with_bounds(*self.mean(), "J")
        seconds = float(self.outcomes.duration_s.mean())
        parts = []
        for shown, name in ((f"{energy} ({between})", "energy_j"), (quantity(seconds, "s"), "duration_s")):
            scatter = self.scatter(name)
            parts.append(shown if math.isnan(scatter) else f"{shown} ± {two_digits(100 * scatter)} %")
        return f"one of {counted(len(self), 'repeat')}: {parts[0]} in {parts[1]}; ± is 95 % of the scatter of the mean"

    def to_dict(self) -> dict[str, Any]:
        """As plain Python, for JSON."""
        energy, low, high = self.mean()
        these = self.outcomes
        columns = (these.energy_j, these.low_j, these.high_j, these.duration_s)
        keys = ("energy_j", "energy_low_j", "energy_high_j", "duration_s")
        return {
            "count": len(self),
            "mean_energy_j": energy,
            "mean_energy_low_j": low,
            "mean_energy_high_j": high,
            "mean_duration_s": float(these.duration_s.mean()),
            "energy_scatter_percent": 100 * self.scatter(),
            "duration_scatter_percent": 100 * self.scatter("duration_s"),
            "runs": [dict(zip(keys, map(float, one), strict=True)) for one in zip(*columns, strict=True)],
        }


@dataclass(frozen=True)
class Idle:
    """Power of the machine at rest, measured before a run.

    Attributes
    ----------
    power_w, low_w, high_w : float
        Mean power and its bounds.
    duration_s : float
        Time of the measurement.
    """

    power_w: float
    low_w: float
    high_w: float
    duration_s: float

    @classmethod
    def of(cls, result: Result) -> Idle | None:
        """From a run in which nothing was done; None if its energy is not known."""
        seconds = result.duration_s
        if not result.known or not seconds > 0:
            return None
        power, low, high = (x / seconds for x in (result.energy_j, result.energy_low_j, result.energy_high_j))
        return cls(power, low, high, seconds)

    def above(self, energy: tuple[float, float, float], duration_s: float) -> tuple[float, float, float]:
        """Energy of a run less that of the same time at rest, with bounds; it can be negative."""
        value, low, high = energy
        return (
            value - self.power_w * duration_s,
            low - self.high_w * duration_s,
            high - self.low_w * duration_s,
        )

    def sentence(self, energy: tuple[float, float, float], duration_s: float, of: str) -> str:
        """Both energies for people."""
        power, watts = with_bounds(self.power_w, self.low_w, self.high_w, "W")
        above, between = with_bounds(*self.above(energy, duration_s), "J")
        whole, joules = with_bounds(*energy, "J")
        return (
            f"{of} above idle: {above} ({between}) of {whole} ({joules}); idle power {power} ({watts}) "
            f"over {quantity(self.duration_s, 's', 3)}"
        )

    def to_dict(self, energy: tuple[float, float, float], duration_s: float) -> dict[str, Any]:
        """As plain Python, for JSON."""
        above, low, high = self.above(energy, duration_s)
        return {
            "idle_power_w": self.power_w,
            "idle_power_low_w": self.low_w,
            "idle_power_high_w": self.high_w,
            "idle_duration_s": self.duration_s,
            "energy_above_idle_j": above,
            "energy_above_idle_low_j": low,
            "energy_above_idle_high_j": high,
        }


def slowest_period_s(result: Result) -> float:
    """Longest update period of the counted channels, s."""
    return max((t.learnt["period_ns"] for t in result.traces if t.counted), default=0) / 1e9


def too_short(
    name: str, energy: tuple[float, float, float], duration_s: float, periods_s: Iterable[float]
) -> str | None:
    """A note about a run whose energy the sensors know badly, with the time that it would have to take.

    Parameters
    ----------
    name : str
    energy : (energy_j, low_j, high_j)
    duration_s : float
        Above 0.
    periods_s : iterable of float
        Update periods of the sensors.
    """
    value, low, high = energy
    half = (high - low) / 2
    if value > 0 and half <= COARSE * value:
        return None
    # An edge of a run is known to one update of the counter, so 20 updates are known to 5 %.
    longer = max(half / value / COARSE if value > 0 else 0.0, max(periods_s, default=0.0) / COARSE / duration_s)
    known = f"known to ±{two_digits(100 * half / value)} %" if value > 0 else "not known: no counter moved"
    factor = f"{two_digits(longer)} times longer" if longer > 1 else "for longer than an update of the sensors"
    return (
        f"{name} is too short for the sensors: in {quantity(duration_s, 's', 2)} its energy is {known}; "
        f"it would have to run {factor} for ±{100 * COARSE:.0f} %"
    )
