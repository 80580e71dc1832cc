"""Least squares with coefficients that are not negative, from normal equations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["fit_powers", "fit_powers_of_each", "least_squares"]

_DEPENDENT = 1e-10  # least eigenvalue, of a matrix whose diagonal is 1, below which its columns are taken as dependent


def fit_powers(
    matrix: NDArray[np.float64], vector: NDArray[np.float64], ridge: ArrayLike, expected: ArrayLike
) -> NDArray[np.float64]:
    """Powers p >= 0 that minimise p'Mp - 2v'p + sum of ridge (p - expected)^2.

    Parameters
    ----------
    matrix, vector : (n, n) and (n,) float64
        X'WX and X'Wy of the growths y and the expected times X.
    ridge : (n,) or scalar
        Weight of the expected power.
    expected : (n,) or scalar
    """
    ridge = np.broadcast_to(np.asarray(ridge, np.float64), vector.shape)
    return least_squares(matrix + np.diag(ridge), vector + ridge * np.asarray(expected, np.float64))


def fit_powers_of_each(
    matrices: NDArray[np.float64], vectors: NDArray[np.float64], ridge: NDArray[np.float64], expected: ArrayLike
) -> NDArray[np.float64]:
    """`fit_powers` of each matrix and vector of a stack: at once where no power would be negative, as is usual.

    Parameters
    ----------
    matrices, vectors : (count, n, n) and (count, n) float64
    ridge : (n,) float64
    expected : (n,) or scalar

    Returns
    -------
    (count, n) float64
    """
    matrices, vectors = matrices + np.diag(ridge), vectors + ridge * np.asarray(expected, np.float64)
    scale = np.sqrt(np.einsum("bii->bi", matrices))
    if scale.size == 0 or not scale.min() > 0:
        return np.stack([least_squares(m, v) for m, v in zip(matrices, vectors, strict=True)])
    scaled = matrices / (scale[:, :, None] * scale[:, None, :])
    plain = np.linalg.eigvalsh(scaled)[:, 0] > _DEPENDENT
    powers = np.zeros_like(vectors)
    powers[plain] = np.linalg.solve(scaled[plain], (vectors / scale)[plain, :, None])[:, :, 0] / scale[plain]
    for i in np.flatnonzero(~plain | (powers <= 0).any(axis=1)).tolist():
        powers[i] = least_squares(matrices[i], vectors[i])
    return powers


def least_squares(matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """x >= 0 that minimises x'Mx - 2v'x, by active sets.

    Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23.

    Parameters
    ----------
    matrix : (n, n) float64
        Symmetric and positive semidefinite.
    vector : (n,) float64

    Returns
    -------
    (n,) float64
    """
    scale = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    used = scale > 0
    scale = np.where(used, scale, 1.0)
    m, v = matrix / np.outer(scale, scale), vector / scale
    x, free = np.zeros(len(v)), np.zeros(len(v), bool)
    tolerance = 1e-12 * max(float(np.abs(v).max(initial=0.0)), 1e-300)
    for _ in range(3 * len(v) + 10):
        pull = np.where(free | ~used, -np.inf, v - m @ x)
        best = int(np.argmax(pull)) if len(v) else 0
        if not len(v) or pull[best] <= tolerance:
            break
        free[best] = True
        x = _within(m, v, x, free)
    return x / scale


def _within(m: NDArray[np.float64], v: NDArray[np.float64], x: NDArray[np.float64], free: NDArray[np.bool_]):
    """The minimum over the free coefficients; those that would be negative on the way stop at 0. Changes `free`."""
    while True:
        goal = np.zeros(len(v))
        goal[free] = np.linalg.lstsq(m[np.ix_(free, free)], v[free], rcond=1e-13)[0]
        below = free & (goal <= 0)
        if not below.any():
            return goal
        steps = x[below] / np.maximum(x[below] - goal[below], 1e-300)
        x = x + min(float(steps.min()), 1.0) * (goal - x)
        stopped = free & (x <= 1e-15 * max(float(x.max()), 1e-300))
        free &= ~(stopped | (below & (x <= 0)))
        if not free.any():
            return np.zeros(len(v))
