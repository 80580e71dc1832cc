"""Physical predictors: energy as a sum of work terms, each with a price that is never negative.

A price is joules per unit of work (per multiply-accumulate, per byte, per call). So the energy of a layer is never
negative, does not fall when any kind of work grows, and an empty layer costs one call. Prices are fitted on relative
error: a layer of a millijoule matters to the designer of a small network as much as one of a kilojoule to the designer
of a large one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastgreen.estimate.layers import Columns, complete
from fastgreen.estimate.tables import Table
from fastgreen.estimate.work import TERMS, terms

__all__ = ["PhysicalModel", "choose_terms", "fit_prices", "held_out_ratio", "range_out_ratio", "term_matrix"]

FOLDS = 5
LEAST_ROWS_A_TERM = 15
SEED = 20231


@dataclass(frozen=True)
class PhysicalModel:
    """A fitted physical predictor of one kind of layer, in joules per forward pass.

    Attributes
    ----------
    kind : str
        The kind of layer.
    which : str
        The set of terms, see :data:`fastgreen.estimate.work.TERMS`.
    prices : dict of str to float
        Joules per unit of each term, never negative.
    ranges : dict of str to (int, int)
        Smallest and largest value of every size in the fitted table.
    rows : int
        Number of layers in the fitted table.
    residual : (float, float)
        5th and 95th percentile of measured over predicted energy, for layers left out of the fit.
    residual_outside : (float, float)
        The same outside the fitted range: for the fifth of the table with the least energy, then the fifth with the
        most, each predicted by prices fitted on the rest.
    """

    kind: str
    which: str
    prices: dict[str, float]
    ranges: dict[str, tuple[int, int]]
    rows: int
    residual: tuple[float, float] = (1.0, 1.0)
    residual_outside: tuple[float, float] = (1.0, 1.0)
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, price in self.prices.items():
            if not (price >= 0 and np.isfinite(price)):
                raise ValueError(f"prices: {name} of {self.kind} must be finite and not negative, not {price}")
        if set(self.prices) != set(TERMS[self.which][self.kind]):
            raise ValueError(f"prices: {self.kind} needs exactly {', '.join(TERMS[self.which][self.kind])}")

    @classmethod
    def fit(cls, table: Table, which: str = "kernel") -> PhysicalModel:
        """Fit prices on a table, and the spread of its layers by cross-validation.

        Parameters
        ----------
        table : Table
            Measured layers, energies above 0 J.
        which : {"kernel", "basic"}
            The set of terms.

        Raises
        ------
        ValueError
            If the table is too short, or its energy is constant or not above 0.
        ImportError
            If scipy is not installed.
        """
        table.check_fittable()
        if (bad := table.energy_j <= 0).any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"{table.source or table.kind}: energy of row {row} must be above 0, not {table.energy_j[row]:g} J"
            )
        matrix = term_matrix(table, which)
        prices = fit_prices(matrix, table.energy_j)
        inside = _spread(held_out_ratio(matrix, table.energy_j))
        outside = _spread(range_out_ratio(matrix, table.energy_j))
        ranges = {name: (int(value.min()), int(value.max())) for name, value in table.sizes.items()}
        named = dict(zip(TERMS[which][table.kind], (float(price) for price in prices), strict=True))
        return cls(table.kind, which, named, ranges, len(table), inside, outside)

    def predict_j(self, sizes: Columns) -> np.ndarray:
        """Predict joules per forward pass; `sizes` may be arrays of any shapes that broadcast together."""
        columns = complete(self.kind, sizes)
        shape = np.broadcast_shapes(*(np.shape(value) for value in columns.values()))
        total = np.zeros(shape)
        for name, work in terms(self.kind, columns, self.which).items():
            if self.prices[name] > 0:
                total += self.prices[name] * work
        return total

    def bounds_j(self, energy_j: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of predictions in joules: the spread of left-out layers, inside the fitted range or outside it."""
        low, high = (np.where(outside, out, within) for out, within in zip(self._wider(), self.residual, strict=True))
        return energy_j * low, energy_j * high

    def _wider(self) -> tuple[float, float]:
        return min(self.residual[0], self.residual_outside[0]), max(self.residual[1], self.residual_outside[1])


def _spread(ratio: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(ratio, (0.05, 0.95))
    return float(min(low, 1.0)), float(max(high, 1.0))


def choose_terms(table: Table, which: str = "kernel") -> str:
    """Set of terms for a table: the basic ones if it has fewer than 15 rows for each term of `which`."""
    return which if len(table) >= LEAST_ROWS_A_TERM * len(TERMS[which][table.kind]) else "basic"


def term_matrix(table: Table, which: str) -> np.ndarray:
    """Work terms of a table: a row per measured layer, a column per term."""
    found = terms(table.kind, table.columns, which)
    return np.column_stack([np.broadcast_to(value, (len(table),)) for value in found.values()])


def fit_prices(matrix: np.ndarray, energy_j: np.ndarray, rounds: int = 30) -> np.ndarray:
    """Fit non-negative prices that minimise the absolute log ratio of predicted to measured energy.

    Non-negative least squares on ``predicted / measured - 1``, reweighted in each round: by the predicted ratio, so
    that twice and half are equally wrong, and by the size of the error, so that a wrong measurement has no more weight
    than a good one (iteratively reweighted least squares, after Huber and Lawson).

    Parameters
    ----------
    matrix : (n, k) ndarray
        Work terms, never negative.
    energy_j : (n,) ndarray
        Measured joules, all positive.
    rounds : int
        Most rounds of reweighting.

    Returns
    -------
    (k,) ndarray
        Joules per unit of work.

    Raises
    ------
    ValueError
        If an energy is not positive.
    ImportError
        If scipy is not installed.
    """
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise ImportError("fitting needs scipy: pip install 'fastgreen[estimate]'") from error
    if (bad := energy_j <= 0).any():
        raise ValueError(f"energy_j must be positive to be fitted on relative error, not {energy_j[bad][0]:g}")
    relative = matrix / energy_j[:, None]
    size = relative.mean(axis=0)
    size[size == 0] = 1.0
    relative = relative / size
    weight = np.ones(len(energy_j))
    prices = np.zeros(matrix.shape[1])
    for _ in range(rounds):
        prices, _residual = nnls(relative * weight[:, None], weight)
        ratio = np.maximum(relative @ prices, 1e-6)
        weight = 1 / np.sqrt(ratio * np.maximum(np.abs(np.log(ratio)), 0.05))
    return prices / size


def folds(rows: int, parts: int = FOLDS, seed: int = SEED) -> np.ndarray:
    """Fold of each row, 0 to `parts` - 1: shuffled with a fixed seed, in sizes that differ by at most one row."""
    return np.random.default_rng(seed).permutation(np.arange(rows) % parts)


def held_out_ratio(matrix: np.ndarray, energy_j: np.ndarray, fold: np.ndarray | None = None) -> np.ndarray:
    """Measured over predicted energy of every row, predicted by prices fitted without its fold."""
    fold = folds(len(energy_j)) if fold is None else fold
    predicted = np.empty(len(energy_j))
    for part in np.unique(fold):
        held = fold == part
        predicted[held] = matrix[held] @ fit_prices(matrix[~held], energy_j[~held])
    return energy_j / np.maximum(predicted, 1e-300)


def range_out_ratio(matrix: np.ndarray, energy_j: np.ndarray, share: float = 0.2) -> np.ndarray:
    """Measured over predicted energy outside the fitted range.

    The fraction `share` of rows with the least energy, then that with the most, is left out of the fit and predicted.
    """
    low, high = np.quantile(energy_j, (share, 1 - share))
    ratios = []
    for held in (energy_j < low, energy_j > high):
        predicted = matrix[held] @ fit_prices(matrix[~held], energy_j[~held])
        ratios.append(energy_j[held] / np.maximum(predicted, 1e-300))
    return np.concatenate(ratios)
