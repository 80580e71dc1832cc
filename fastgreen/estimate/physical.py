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

from fastgreen.estimate.choice import choose_terms
from fastgreen.estimate.layers import Columns, complete
from fastgreen.estimate.prices import fit_prices, held_out_ratio, range_out_ratio, term_matrix
from fastgreen.estimate.spread import Spread
from fastgreen.estimate.tables import Table
from fastgreen.estimate.work import TERMS, terms

__all__ = ["PhysicalModel"]


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
    spread : Spread, optional
        The error of each price, so that the range of a layer follows from its own work. Without it, the range is that
        of `residual`.
    """

    kind: str
    which: str
    prices: dict[str, float]
    ranges: dict[str, tuple[int, int]]
    rows: int
    residual: tuple[float, float] = (1.0, 1.0)
    residual_outside: tuple[float, float] = (1.0, 1.0)
    notes: dict[str, Any] = field(default_factory=dict)
    spread: Spread | None = None

    def __post_init__(self) -> None:
        for name, price in self.prices.items():
            if not (price >= 0 and np.isfinite(price)):
                raise ValueError(f"prices: {name} of {self.kind} must be finite and not negative, not {price}")
        if set(self.prices) != set(TERMS[self.which][self.kind]):
            raise ValueError(f"prices: {self.kind} needs exactly {', '.join(TERMS[self.which][self.kind])}")
        if self.spread is not None and set(self.spread.terms) != set(self.prices):
            raise ValueError(f"spread: {self.kind} needs exactly the terms of its prices")

    @classmethod
    def fit(cls, table: Table, which: str | None = None) -> PhysicalModel:
        """Fit prices on a table, and their errors by cross-validation.

        Parameters
        ----------
        table : Table
            Measured layers, energies above 0 J.
        which : {"basic", "caches", "rows", "kernel", "library"}, optional
            The set of terms. By default, cross-validation on this table chooses it, see
            :func:`~fastgreen.estimate.choice.choose_terms`.

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
        which = choose_terms(table) if which is None else which
        matrix = term_matrix(table, which)
        prices = fit_prices(matrix, table.energy_j)
        inside = _middle(held_out_ratio(matrix, table.energy_j))
        outside = _middle(range_out_ratio(matrix, table.energy_j))
        spread = Spread.fit(table, matrix, prices, TERMS[which][table.kind])
        ranges = {name: (int(value.min()), int(value.max())) for name, value in table.sizes.items()}
        named = dict(zip(TERMS[which][table.kind], (float(price) for price in prices), strict=True))
        return cls(table.kind, which, named, ranges, len(table), inside, outside, spread=spread)

    def predict_j(self, sizes: Columns) -> np.ndarray:
        """Predict joules per forward pass; `sizes` may be arrays of any shapes that broadcast together."""
        columns = complete(self.kind, sizes)
        shape = np.broadcast_shapes(*(np.shape(value) for value in columns.values()))
        total = np.zeros(shape)
        for name, work in terms(self.kind, columns, self.which).items():
            if self.prices[name] > 0:
                total += self.prices[name] * work
        return total

    def bounds_j(
        self, energy_j: np.ndarray, outside: np.ndarray, sizes: Columns | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of predictions in joules: the spread of left-out layers, inside the fitted range or outside it.

        Parameters
        ----------
        energy_j : ndarray
            Predictions in joules.
        outside : ndarray of bool
            Whether a size is outside the fitted range.
        sizes : dict of str to ndarray, optional
            The sizes of the layers. Without them, the bounds are those of all layers of the kind together.

        Returns
        -------
        low, high : ndarray
            In joules.
        """
        low, high = (np.asarray(one) for one in self.residual)
        if self.spread is not None and sizes is not None:
            low, high = self.spread.factors(self.prices, terms(self.kind, complete(self.kind, sizes), self.which))
        low = np.where(outside, np.minimum(low, self.residual_outside[0]), low)
        high = np.where(outside, np.maximum(high, self.residual_outside[1]), high)
        return energy_j * low, energy_j * high


def _middle(ratio: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(ratio, (0.05, 0.95))
    return float(min(low, 1.0)), float(max(high, 1.0))
