"""The range of a predicted layer, from the errors of the prices that its energy consists of.

A price is wrong by a factor that is nearly the same for all layers: one price for all bytes hides that some come from a
cache. So a layer that consists of products has a narrow range, and a layer that consists of new memory has a wide one.
The errors come from layers that were held out a fifth of a size at a time (the smallest batches, the largest kernels),
because the layers of a network are unlike those of a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastgreen.estimate.prices import FOLDS, held_out_ratio
from fastgreen.estimate.tables import Table

__all__ = ["LARGEST_DEVIATION", "Spread"]

# Share of the largest squared errors that count as much as the largest of the others: one wrong measurement must not
# widen all ranges.
CUT = 0.02
LEAST_DEVIATION = 1e-3
# Of logarithms: far beyond any useful range, and small enough that no bound overflows.
LARGEST_DEVIATION = 10.0


@dataclass(frozen=True)
class Spread:
    """Errors of the prices of one kind of layer.

    Attributes
    ----------
    terms : dict of str to float
        Standard deviation of the logarithm of each price.
    rest : float
        Standard deviation of the logarithm of energy that belongs to no price.
    low, high : float
        5th and 95th percentile of ``log(measured / predicted)`` in units of the standard deviation of the layer, for
        layers left out of the fit.
    """

    terms: Mapping[str, float]
    rest: float
    low: float
    high: float

    def __post_init__(self) -> None:
        values = [*self.terms.values(), self.rest, -self.low, self.high]
        if not all(np.isfinite(value) and value >= 0 for value in values):
            raise ValueError("spread: deviations and high must be finite and not negative, low not above 0")

    @classmethod
    def fit(cls, table: Table, matrix: np.ndarray, prices: np.ndarray, names: tuple[str, ...]) -> Spread:
        """Fit the errors of prices on a table.

        The squared error of a held-out layer is the sum, over terms, of the squared share of the term in its energy
        times the variance of the price. The variances are fitted by non-negative least squares.

        Parameters
        ----------
        table : Table
            Measured layers.
        matrix : (n, k) ndarray
            Their work terms.
        prices : (k,) ndarray
            The prices fitted on all of them.
        names : tuple of str
            Names of the terms.
        """
        from scipy.optimize import nnls

        share = _shares(matrix * prices)
        rows, error = _held_out(table, matrix)
        error = np.clip(error, -LARGEST_DEVIATION / 2, LARGEST_DEVIATION / 2)
        square = np.minimum(error**2, np.quantile(error**2, 1 - CUT))
        variance, _residual = nnls(np.column_stack([share[rows] ** 2, np.ones(len(rows))]), square)
        deviation = np.sqrt(variance)
        named = dict(zip(names, (float(one) for one in deviation[:-1]), strict=True))
        found = cls(named, max(float(deviation[-1]), LEAST_DEVIATION), 0.0, 0.0)
        low, high = np.quantile(error / found._deviation(share)[rows], (0.05, 0.95))
        low, high = np.clip(low, -LARGEST_DEVIATION, 0.0), np.clip(high, 0.0, LARGEST_DEVIATION)
        return cls(named, found.rest, float(low), float(high))

    def _deviation(self, share: np.ndarray) -> np.ndarray:
        """Standard deviation of the logarithm of energy, from the share of each term in it (the last axis)."""
        variance: np.ndarray = np.square(share) @ np.square(list(self.terms.values())) + self.rest**2
        return np.sqrt(variance)

    def factors(self, prices: Mapping[str, float], work: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of measured over predicted energy of layers, from their work terms."""
        parts = np.broadcast_arrays(*(prices[name] * np.asarray(work[name]) for name in self.terms))
        deviation = self._deviation(_shares(np.stack(parts, axis=-1)))
        return np.exp(self.low * deviation), np.exp(self.high * deviation)


def _shares(parts: np.ndarray) -> np.ndarray:
    total = parts.sum(axis=-1, keepdims=True)
    return np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)


def _held_out(table: Table, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and the log error of each, held out in fifths of one size after the other."""
    rows, errors = [], []
    for values in table.sizes.values():
        cuts = np.quantile(values, np.arange(1, FOLDS) / FOLDS)
        fold = np.searchsorted(cuts, values, side="right")
        if len(np.unique(fold)) > 1:
            rows.append(np.arange(len(table)))
            errors.append(np.log(held_out_ratio(matrix, table.energy_j, fold)))
    if not rows:
        return np.arange(len(table)), np.log(held_out_ratio(matrix, table.energy_j))
    return np.concatenate(rows), np.concatenate(errors)
