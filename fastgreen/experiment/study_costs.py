# SPDX-License-Identifier: Apache-2.0
"""Money, carbon and SCI of an inference in the runs of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgreen.errors import TraceError
from fastgreen.units import J_PER_KWH

if TYPE_CHECKING:
    import numpy as np

    from fastgreen.costs.settings import Costs
    from fastgreen.results.result import Result

    Amount = tuple[float, float, float]

__all__ = ["SPENT_UNITS", "spent_at_any_time", "spent_by_run"]

SPENT_UNITS = {"cost": "", "carbon_g": "g", "sci_g": "g"}  # column -> unit


def spent_by_run(result: Result, costs: Costs, window: str) -> tuple[dict[str, Amount], str]:
    """Amounts (value, low, high) of one window by column, and the reason if they are not known."""
    from fastgreen.results.footprint import footprint

    try:
        row = next(row for row in footprint(result, costs).rows if row.name == window)
    except StopIteration:
        return {}, "the energy of the run is unknown"
    except TraceError as error:
        return {}, str(error)
    found = {"cost": row.cost, "carbon_g": row.carbon_g, "sci_g": row.sci_g}
    return {name: value for name, value in found.items() if value is not None}, ""


def spent_at_any_time(energy_j: Amount, latency_s: np.ndarray, costs: Costs) -> tuple[dict[str, Amount], str]:
    """The same for a recording without a date, from the energy of an inference (value, low, high) and the latencies."""
    spent: dict[str, Amount] = {}
    doubt = ""
    for name, rate in (("cost", costs.price), ("carbon_g", costs.carbon)):
        if rate is not None and not rate.is_constant:
            doubt = f"the recording has no date, so {rate.source} cannot be used"
        elif rate is not None:
            factor = float(rate.values[0]) * costs.pue / J_PER_KWH
            value, low, high = (float(x) * factor for x in energy_j)
            spent[name] = value, low, high
    if "carbon_g" in spent:
        embodied_g = costs.embodied_of(float(latency_s.sum())) / latency_s.size
        value, low, high = (x + embodied_g for x in spent["carbon_g"])
        spent["sci_g"] = value, low, high
    return spent, doubt
