"""Least-squares predictors over feature sets, fitted with scikit-learn and kept as plain numbers.

A pipeline is sizes -> features -> standard scaling -> polynomial terms -> least squares. The scaling comes before the
polynomial: raw products of sizes and counts span 1 to 1e13, and least squares on them loses digits. A fitted model
(:class:`LinearModel`) holds only numbers, predicts with NumPy alone and fits into a JSON file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastgreen.estimate.counts import count
from fastgreen.estimate.layers import Columns, complete
from fastgreen.estimate.tables import Table

__all__ = ["SETS", "FeatureSet", "LinearModel", "build_pipeline", "features"]

SETS = ("parameters", "log1p", "macs")


@dataclass(frozen=True)
class FeatureSet:
    """Features of a layer that a least-squares predictor uses.

    Attributes
    ----------
    sets : tuple of str
        Any of ``"parameters"`` (the sizes), ``"log1p"`` (their logarithms), ``"macs"``.
    degree : int
        Highest degree of the polynomial; 1 leaves the features as they are.
    interaction_only : bool
        True adds products of different features only, without squares.

    Raises
    ------
    ValueError
        If `sets` is empty or has an unknown name, or `degree` is below 1.
    """

    sets: tuple[str, ...] = ("macs",)
    degree: int = 1
    interaction_only: bool = False

    def __post_init__(self) -> None:
        if not self.sets or (unknown := [name for name in self.sets if name not in SETS]):
            raise ValueError(f"sets must be of {', '.join(SETS)}, not {unknown[0] if self.sets else 'empty'!r}")
        if self.degree < 1:
            raise ValueError(f"degree must be at least 1, not {self.degree}")


def features(sizes: Columns, kind: str, names: tuple[str, ...], sets: tuple[str, ...]) -> np.ndarray:
    """Feature matrix: a row per layer; the sizes, their log1p and the MACs, as far as `sets` names them."""
    raw = np.column_stack([np.asarray(sizes[name], dtype=np.float64).ravel() for name in names])
    blocks = []
    if "parameters" in sets:
        blocks.append(raw)
    if "log1p" in sets:
        blocks.append(np.log1p(raw))
    if "macs" in sets:
        own = {name: sizes[name] for name in names}
        blocks.append(np.asarray(count(kind, complete(kind, own)), dtype=np.float64).reshape(-1, 1))
    return np.hstack(blocks)


def build_pipeline(feature_set: FeatureSet, ridge: float = 0.0) -> Any:
    """Unfitted scikit-learn pipeline from features to joules: scaling, polynomial terms, least squares (or ridge).

    Parameters
    ----------
    feature_set : FeatureSet
        Gives the degree of the polynomial.
    ridge : float
        Weight of the squared coefficients; 0 is ordinary least squares.

    Returns
    -------
    sklearn.pipeline.Pipeline

    Raises
    ------
    ImportError
        If scikit-learn is not installed.

    Examples
    --------
    >>> [name for name, _ in build_pipeline(FeatureSet(("macs",), degree=2)).steps]
    ['scale', 'polynomial', 'regressor']
    """
    try:
        from sklearn.linear_model import LinearRegression, Ridge
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import PolynomialFeatures, StandardScaler
    except ImportError as error:
        raise ImportError("fitting needs scikit-learn: pip install 'fastgreen[estimate]'") from error
    expand = PolynomialFeatures(feature_set.degree, interaction_only=feature_set.interaction_only, include_bias=False)
    regressor = Ridge(alpha=ridge) if ridge > 0 else LinearRegression()
    return Pipeline([("scale", StandardScaler()), ("polynomial", expand), ("regressor", regressor)])


@dataclass(frozen=True)
class LinearModel:
    """A fitted least-squares predictor of one kind of layer, in joules per forward pass.

    A prediction can be below 0 J, and its intercept is larger than the energy of a small layer;
    :class:`~fastgreen.estimate.physical.PhysicalModel` has neither fault. ``spread_j`` is the 90th percentile of the
    absolute error on the rows it was fitted on, in joules.
    """

    kind: str
    names: tuple[str, ...]
    feature_set: FeatureSet
    mean: np.ndarray
    scale: np.ndarray
    powers: np.ndarray
    coefficients: np.ndarray
    intercept: float
    ranges: dict[str, tuple[int, int]]
    rows: int
    spread_j: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(cls, table: Table, feature_set: FeatureSet, ridge: float = 0.0) -> LinearModel:
        """Fit a predictor on the measured layers of a table.

        Parameters
        ----------
        table : Table
            Measured layers.
        feature_set : FeatureSet
            The features to use.
        ridge : float
            Weight of the squared coefficients; 0 is ordinary least squares.

        Raises
        ------
        ValueError
            If the table is too short, or its energy or all its features are constant.
        ImportError
            If scikit-learn is not installed.
        """
        table.check_fittable()
        names = tuple(table.sizes)
        x = features(table.sizes, table.kind, names, feature_set.sets)
        if (constant := x.max(axis=0) == x.min(axis=0)).all():
            raise ValueError(f"{table.source}: all {len(constant)} features are constant, nothing can be fitted")
        pipeline = build_pipeline(feature_set, ridge).fit(x, table.energy_j)
        scaler, expand, regressor = (step for _, step in pipeline.steps)
        ranges = {name: (int(v.min()), int(v.max())) for name, v in table.sizes.items()}
        spread = float(np.quantile(np.abs(pipeline.predict(x) - table.energy_j), 0.9))
        return cls(
            table.kind, names, feature_set, scaler.mean_, scaler.scale_, expand.powers_.astype(np.int64),
            regressor.coef_, float(regressor.intercept_), ranges, len(table), spread,
        )  # fmt: skip

    def predict_j(self, sizes: Columns) -> np.ndarray:
        """Predict joules per forward pass; `sizes` may be arrays of any shapes that broadcast together."""
        full = complete(self.kind, sizes)
        shape = np.broadcast_shapes(*(np.shape(value) for value in full.values()))
        flat = {name: np.broadcast_to(full[name], shape).ravel() for name in self.names}
        x = (features(flat, self.kind, self.names, self.feature_set.sets) - self.mean) / self.scale
        terms = np.ones((len(x), len(self.powers)))
        for column in range(x.shape[1]):
            for power in range(1, int(self.powers[:, column].max(initial=0)) + 1):
                terms[:, self.powers[:, column] >= power] *= x[:, [column]]
        return (terms @ self.coefficients + self.intercept).reshape(shape)

    def bounds_j(
        self, energy_j: np.ndarray, outside: np.ndarray, sizes: Columns | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of predictions in joules: plus and minus the spread; 0 to infinity outside the fitted range.

        The sizes do not matter here.
        """
        low = np.where(outside, np.minimum(energy_j, 0.0), energy_j - self.spread_j)
        return low, np.where(outside, np.inf, energy_j + self.spread_j)
