# SPDX-License-Identifier: Apache-2.0
"""The best points of a sweep, and those between limits, found by a cluster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgreen.distributed.cluster import each
from fastgreen.guards.arguments import number
from fastgreen.metrics.sweep_blocks import stretches

if TYPE_CHECKING:
    import pyarrow as pa
    from distributed import Client

    from fastgreen.metrics.sweep import Sweep

__all__ = ["best", "where"]

_POINTS = 1 << 24


def best(sweep: Sweep, k: int = 10, client: Client | None = None) -> pa.Table:
    """Find the k best points of a sweep on a cluster; see `Sweep.best`.

    Parameters
    ----------
    sweep : Sweep
    k : int
        Number of points, at least 1.
    client : distributed.Client, optional
        By default threads of this process work.

    Returns
    -------
    pyarrow.Table
        That of ``sweep.best(k)``.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number above 0, not {k!r}")
    points, values = np.empty(0, np.int64), np.empty(0)
    for found, scores in each(_best, (sweep.plan, int(k)), stretches(sweep.shape, _POINTS), client):
        points, values = np.concatenate([points, found]), np.concatenate([values, scores])
        keep = np.lexsort((points, -values if sweep.plan.rising_is_better else values))[: int(k)]
        points, values = points[keep], values[keep]
    return sweep._table(points)


def _best(shared: tuple[Any, int], stretch: tuple[int, tuple[slice, ...]]) -> tuple[np.ndarray, np.ndarray]:
    (plan, k), (first, part) = shared, stretch
    own = plan.part(part)
    points = own.best(min(k, math.prod(own.shape)))
    return first + points, own.at(points)


def where(sweep: Sweep, low: float = -math.inf, high: float = math.inf, client: Client | None = None) -> pa.Table:
    """Find the points of a sweep with a value in low..high on a cluster; see `Sweep.where`.

    Parameters
    ----------
    sweep : Sweep
    low, high : float
        Limits of the metric, both included.
    client : distributed.Client, optional
        By default threads of this process work.

    Returns
    -------
    pyarrow.Table
        That of ``sweep.where(low, high)``.
    """
    low, high = number("low", low), number("high", high)
    if not low <= high:
        raise ValueError(f"low must be at most high, not {low!r} with high {high!r}")
    found = list(each(_where, (sweep.plan, low, high), stretches(sweep.shape, _POINTS), client))
    found.sort(key=lambda one: one[0])
    return sweep._table(np.concatenate([points for _, points in found]))


def _where(shared: tuple[Any, float, float], stretch: tuple[int, tuple[slice, ...]]) -> tuple[int, np.ndarray]:
    (plan, low, high), (first, part) = shared, stretch
    return first, first + plan.part(part).where(low, high)
