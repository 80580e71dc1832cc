# SPDX-License-Identifier: Apache-2.0
"""Money and carbon of an energy that grows: what an exporter shows."""

from __future__ import annotations

import threading
import time

from fastgreen.costs.settings import Costs
from fastgreen.errors import TraceError

__all__ = ["RunningCosts"]


class RunningCosts:
    """Sums money and carbon of a growing energy, each growth at the rate of its moment.

    The sums are as fine as the calls: with a file of rates, call it at least a few times per hour.

    Parameters
    ----------
    costs : Costs
    """

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self._lock = threading.Lock()
        self._energy_j = 0.0
        self._sums = [0.0, 0.0]
        self.uncovered_j = 0.0

    def upto(self, energy_j: float, at_s: float | None = None) -> tuple[float | None, float | None]:
        """Money and g CO2e up to this energy; None without a rate.

        Parameters
        ----------
        energy_j : float
            J since the start; one that falls counts as unchanged.
        at_s : float, optional
            Seconds since 1970; now by default. Energy of a moment that a file does not cover is in `uncovered_j`.
        """
        with self._lock:
            growth = max(energy_j - self._energy_j, 0.0)
            self._energy_j += growth
            try:
                found = self.costs.of(growth, time.time() if at_s is None else at_s)
            except TraceError:
                self.uncovered_j += growth
                found = (0.0, 0.0)
            self._sums = [x + (y or 0.0) for x, y in zip(self._sums, found, strict=True)]
            price, carbon = self.costs.price, self.costs.carbon
            return (None if price is None else self._sums[0]), (None if carbon is None else self._sums[1])
