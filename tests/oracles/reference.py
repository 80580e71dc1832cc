"""The slow and obvious twins of the metrics, in plain Python and NumPy: the kernels must agree with them to the bit."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def weighted_consumption(consumption, accuracy, alpha):
    return consumption * ((1 - alpha) * (1 - accuracy) + alpha)


def apc(consumption, accuracy, alpha, beta):
    """The published formula, for arrays of one dtype: NumPy rounds after every operation, as the kernels must."""
    return accuracy / (beta * (consumption * ((1 - alpha) * (1 - accuracy) + alpha)) + 1)


def grid(beta, alpha, accuracy, consumption):
    """The formula on the product of four axes, slowest first."""
    b, a, acc = beta[:, None, None, None], alpha[:, None, None], accuracy[:, None]
    return apc(consumption, acc, a, b)


def cells(consumption: float, accuracy: float, consumption_delta: float, accuracy_delta: float) -> tuple[int, int]:
    top = math.ceil(1 / accuracy_delta - 1e-9) - 1
    i = min(max(math.floor(accuracy / accuracy_delta + 1e-9), 0), top)
    return i, max(0, math.floor(consumption / consumption_delta + 1e-9))


def closest_apc(
    consumption: float, accuracy: float, consumption_delta: float, accuracy_delta: float, alpha: float, beta: float
) -> float:
    i, j = cells(consumption, accuracy, consumption_delta, accuracy_delta)
    return apc((j + 0.5) * consumption_delta, min((i + 0.5) * accuracy_delta, 1.0), alpha, beta)


def time_to_closest(time, accuracy, consumption, target, consumption_delta, accuracy_delta, alpha, beta, quantize=True):
    """(time, index) of the first checkpoint to reach the target, or of the first of the best where it is None."""
    best_index, best = -1, -1.0
    for n, (acc, c) in enumerate(zip(accuracy, consumption, strict=True)):
        if math.isnan(acc) or math.isnan(c) or math.isnan(time[n]):
            continue
        if quantize:
            q = closest_apc(c, acc, consumption_delta, accuracy_delta, alpha, beta)
        else:
            q = apc(c, acc, alpha, beta)
        if target is not None and q >= target:
            return time[n], n
        if target is None and q > best:
            best_index, best = n, q
    return (time[best_index], best_index) if best_index >= 0 else (math.inf, -1)


def first_best(values: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k highest values, the first of equals first, by sorting all of them."""
    flat = values.ravel()
    return np.lexsort((np.arange(flat.size), -flat))[:k]


def exact_apc(consumption: float, accuracy: float, alpha: float, beta: float) -> Fraction:
    """The formula without any rounding."""
    c, acc, a, b = (Fraction(value) for value in (consumption, accuracy, alpha, beta))
    return acc / (b * c * ((1 - a) * (1 - acc) + a) + 1)
