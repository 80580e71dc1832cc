"""Parameters of a search for the closest APC: deltas, weights and target, checked."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastgreen import _kernels
from fastgreen.metrics.domains import ACCURACY, ALPHA, AMOUNT, DELTA, FRACTION_DELTA, check
from fastgreen.metrics.scores import apc

__all__ = ["Search"]


class Search(NamedTuple):
    """Checked parameters of one search."""

    cost_delta: float
    accuracy_delta: float
    alpha: float
    beta: float
    target: float  # NaN: without a target, search for the best
    quantize: bool

    @classmethod
    def checked(
        cls, cost_name: str, cost_delta: Any, accuracy_delta: Any, alpha: Any, beta: Any, target: Any, quantize: bool
    ) -> Search:
        given = {f"{cost_name}_delta": DELTA, "accuracy_delta": FRACTION_DELTA, "alpha": ALPHA, "beta": AMOUNT}
        values: list[float] = []
        for (name, domain), value in zip(given.items(), (cost_delta, accuracy_delta, alpha, beta), strict=True):
            if np.ndim(value) or np.ma.is_masked(value) or not np.isfinite(check(name, value, domain)):
                raise ValueError(f"{name} must be one finite number, not {value!r}")
            values.append(float(value))
        first, second, third, fourth = values
        search = cls(first, second, third, fourth, math.nan, bool(quantize))
        return search._replace(target=search._score_of(target, cost_name))

    def _score_of(self, target: Any, cost_name: str) -> float:
        """Score to reach: the target itself, or the (quantised) score of a pair (accuracy, consumption)."""
        if target is None:
            return math.nan
        if np.ma.is_masked(target):
            raise ValueError(f"target must be a number or a pair without a mask, not {target!r}")
        if np.ndim(target) == 0:
            score = float(check("target", target, ACCURACY))
        elif np.shape(target) == (2,):
            accuracy, cost = target
            check("target accuracy", accuracy, ACCURACY)
            check(f"target {cost_name}", cost, AMOUNT)
            if self.quantize:
                score = float(_kernels.closest_apc(cost, accuracy, *self[:4]))
            else:
                score = float(apc(cost, accuracy, self.alpha, self.beta))
        else:
            raise ValueError(
                f"target must be a score, a pair (accuracy, {cost_name}) or None, not an array of {np.shape(target)}"
            )
        if math.isnan(score):
            raise ValueError(f"target must be a number, not {target!r}; leave it out to search for the best")
        return score
