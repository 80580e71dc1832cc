# SPDX-License-Identifier: Apache-2.0
"""Energy of one inference in a saved run of a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastgreen.reports.ratio import FIRST_PAIRS, Outcomes, alone
from fastgreen.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastgreen.results.result import Result

    Four = tuple[float, float, float, float]

__all__ = ["RunEnergy", "precision_of", "run_energy"]


@dataclass
class RunEnergy:
    """Energy of one inference of a run.

    Attributes
    ----------
    latency_s : ndarray
        Of each inference.
    channels : dict of str to (energy_j, low_j, high_j, power_w)
        Of one inference, by channel id.
    counted : list of str
        The channels that add up to the total.
    """

    latency_s: np.ndarray = field(default_factory=lambda: np.empty(0))
    channels: dict[str, Four] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)

    @property
    def total(self) -> Four:
        """Sums over the counted channels; NaN where there are no such channels."""
        parts = [self.channels[name] for name in self.counted]
        sums = [sum(column) for column in zip(*parts, strict=True)] if parts else [float("nan")] * 4
        return sums[0], sums[1], sums[2], sums[3]


def run_energy(result: Result, window: str) -> RunEnergy:
    """The energy of one stretch of a window: of all its stretches, bounded together, by their number."""
    from fastgreen.results.trace import Windows, together

    table = result.windows(window)
    latency_s = table.column("duration_s").to_numpy()
    begin_ns = table.column("start_ns").to_numpy()
    windows = Windows(window, 0, begin_ns, begin_ns + np.rint(latency_s * NS_PER_S).astype(np.int64))
    seconds, count = float(latency_s.sum()), latency_s.size
    read = [trace for trace in result.traces if trace.has_data and count]
    found = RunEnergy(latency_s, counted=[trace.channel.id for trace in read if trace.counted])
    for trace, energy in zip(read, together(read, windows), strict=True):
        found.channels[trace.channel.id] = (
            float(energy.energy_j) / count,
            float(energy.low_j) / count,
            float(energy.high_j) / count,
            float(energy.energy_j) / seconds,
        )
    return found


def precision_of(totals: Sequence[Four], chosen_by_precision: bool) -> tuple[float, float]:
    """How well the mean energy of runs is known: scatter and meter, half widths in natural logarithms.

    Parameters
    ----------
    totals : sequence of (energy_j, low_j, high_j, power_w)
    chosen_by_precision : bool
        Whether the number of runs follows from their scatter; then the scatter is that of the first eight.
    """
    outcomes = Outcomes.of([(*total[:3], 0.0) for total in totals])
    return alone(outcomes, FIRST_PAIRS if chosen_by_precision else None)
