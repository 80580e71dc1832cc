"""Least squares with coefficients that are not negative, from normal equations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _follow

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["fit_powers", "fit_powers_of_each", "least_squares"]


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
    return fit_powers_of_each(matrix[None], vector[None], ridge, expected)[0]


def fit_powers_of_each(
    matrices: NDArray[np.float64], vectors: NDArray[np.float64], ridge: NDArray[np.float64], expected: ArrayLike
) -> NDArray[np.float64]:
    """`fit_powers` of each matrix and vector of a stack.

    Parameters
    ----------
    matrices, vectors : (count, n, n) and (count, n) float64
    ridge : (n,) float64
    expected : (n,) or scalar

    Returns
    -------
    (count, n) float64
    """
    return _follow.powers(matrices + np.diag(ridge), vectors + ridge * np.asarray(expected, np.float64))


def least_squares(matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """x >= 0 that minimises x'Mx - 2v'x.

    Parameters
    ----------
    matrix : (n, n) float64
        Symmetric and positive semidefinite.
    vector : (n,) float64

    Returns
    -------
    (n,) float64
    """
    return _follow.powers(matrix[None], vector[None])[0]
