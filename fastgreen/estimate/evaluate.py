"""How good a predictor is: scores, cross-validation, and the comparison on measured networks.

Models are never fitted on networks. A score covers exactly the values that were passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgreen.estimate.builtin import zoo
from fastgreen.estimate.layers import FREE, Layer
from fastgreen.estimate.linear import FeatureSet, build_pipeline, features
from fastgreen.estimate.modelfile import ModelSet
from fastgreen.estimate.network import Network
from fastgreen.estimate.physical import PhysicalModel
from fastgreen.estimate.prices import fit_prices, folds, term_matrix
from fastgreen.estimate.published import PRESET, split
from fastgreen.estimate.tables import MeasuredNetwork, Table

__all__ = [
    "Score",
    "cross_validate",
    "extrapolate",
    "layer_ranges",
    "networks",
    "networks_by_layer",
    "score",
    "split_scores",
]


LEAST_TEST_ROWS = 5


@dataclass(frozen=True)
class Score:
    """Agreement of predictions with measurements.

    Attributes
    ----------
    rows : int
        Number of predictions.
    r2 : float
        ``1 - sum((y - p)^2) / sum((y - mean y)^2)``; can be below 0.
    mse : float
        Mean squared error, J^2.
    mape : float
        Mean of ``|p / y - 1|``, a fraction.
    """

    rows: int
    r2: float
    mse: float
    mape: float


def score(measured_j: np.ndarray, predicted_j: np.ndarray) -> Score:
    """Score predictions against measurements.

    Parameters
    ----------
    measured_j, predicted_j : (n,) array_like
        Joules, at least two of each.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        If the shapes differ, or all measurements are equal.

    Examples
    --------
    >>> score(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.3])).mape.__round__(3)
    0.033
    """
    measured, predicted = np.asarray(measured_j, dtype=np.float64), np.asarray(predicted_j, dtype=np.float64)
    if measured.shape != predicted.shape or measured.size < 2:
        raise ValueError(
            f"predicted_j must have the shape of measured_j, at least 2 values, not {predicted.shape} for "
            f"{measured.shape}"
        )
    square = float(((measured - predicted) ** 2).sum())
    spread = float(((measured - measured.mean()) ** 2).sum())
    if spread == 0:
        raise ValueError(f"measured_j must hold different values for R^2, not {measured.flat[0]:g} J everywhere")
    with np.errstate(divide="ignore"):
        mape = float(np.mean(np.abs(predicted / measured - 1)))
    return Score(measured.size, 1 - square / spread, square / measured.size, mape)


def cross_validate(table: Table, what: FeatureSet | str, parts: int = 5) -> Score:
    """Score a predictor by cross-validation: each row is predicted by a model fitted without its fold.

    Parameters
    ----------
    table : Table
        Measured layers.
    what : FeatureSet or str
        A feature set for least squares, or a set of physical terms.
    parts : int
        Number of folds. The rows are shuffled with a fixed seed.

    Returns
    -------
    Score
    """
    fold = folds(len(table), parts)
    predicted = np.empty(len(table))
    for part in range(parts):
        held = fold == part
        predicted[held] = _fit_and_predict(table, what, held)
    return score(table.energy_j, predicted)


def extrapolate(table: Table, what: FeatureSet | str, share: float = 0.2) -> Score:
    """Score a predictor outside its fitted range: at the layers of least and of most energy.

    Parameters
    ----------
    table : Table
        Measured layers.
    what : FeatureSet or str
        As in :func:`cross_validate`.
    share : float
        Fraction of the rows at each end of the energies; each end is predicted by a model fitted without it.

    Returns
    -------
    Score
    """
    low, high = np.quantile(table.energy_j, (share, 1 - share))
    ends = (table.energy_j < low, table.energy_j > high)
    predicted = np.concatenate([_fit_and_predict(table, what, held) for held in ends])
    return score(np.concatenate([table.energy_j[held] for held in ends]), predicted)


def _fit_and_predict(table: Table, what: FeatureSet | str, held: np.ndarray) -> np.ndarray:
    if isinstance(what, str):
        matrix = term_matrix(table, what)
        return matrix[held] @ fit_prices(matrix[~held], table.energy_j[~held])
    x = features(table.sizes, table.kind, tuple(table.sizes), what.sets)
    return build_pipeline(what).fit(x[~held], table.energy_j[~held]).predict(x[held])


def split_scores(tables: dict[str, Table], which: str | None = "published") -> dict[str, Score]:
    """Score models on the published test rows, fitted on the published training rows (70 %).

    Parameters
    ----------
    tables : dict of str to Table
        By kind.
    which : {"published", "basic", "caches", "rows", "kernel", "library"} or None
        The published predictors, or a set of physical terms; None lets cross-validation on the training rows choose.

    Returns
    -------
    dict of str to Score
        By kind; a table with fewer than 5 test rows is left out.
    """
    from fastgreen.estimate.linear import LinearModel

    scores = {}
    for kind, table in tables.items():
        train, _validation, test = split(table)
        if len(test) < LEAST_TEST_ROWS:
            continue
        fitted: Any = LinearModel.fit(train, PRESET[kind]) if which == "published" else PhysicalModel.fit(train, which)
        scores[kind] = score(test.energy_j, fitted.predict_j(test.sizes))
    return scores


def _priced(layers: Sequence[Layer], models: ModelSet) -> list[Layer]:
    return [layer for layer in layers if layer.kind in models.models or layer.kind in FREE]


def networks(measured: Sequence[MeasuredNetwork], models: ModelSet, stand_ins: bool = True) -> dict[str, np.ndarray]:
    """Predicted and measured energy of networks.

    Parameters
    ----------
    measured : sequence of MeasuredNetwork
        Measurements of the built-in architectures.
    models : ModelSet
        The predictors.
    stand_ins : bool
        True prices layers without a table (adaptive pooling) by similar layers; False counts them 0 J, as the published
        sums do.

    Returns
    -------
    dict of str to ndarray
        name, batch_size, measured_j, predicted_j, low_j, high_j; a value per network.
    """
    found: dict[str, list[Any]] = {
        name: [] for name in ("name", "batch_size", "measured_j", "predicted_j", "low_j", "high_j")
    }
    for name in sorted({one.name for one in measured}):
        ours = [one for one in measured if one.name == name]
        layers = zoo(name) if stand_ins else _priced(zoo(name), models)
        energy, low, high, _ = Network(layers, name, models).energy_j([one.batch_size for one in ours])
        found["name"] += [name] * len(ours)
        found["batch_size"] += [one.batch_size for one in ours]
        found["measured_j"] += [one.energy_j for one in ours]
        for column, array in (("predicted_j", energy), ("low_j", low), ("high_j", high)):
            found[column] += array.sum(axis=0).tolist()
    return {name: np.array(values) for name, values in found.items()}


def networks_by_layer(
    measured: Sequence[MeasuredNetwork], models: ModelSet
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Measured and predicted energy of single layers of networks, by kind.

    Parameters
    ----------
    measured : sequence of MeasuredNetwork
        Measurements of the built-in architectures; those without single layers are left out.
    models : ModelSet
        The predictors.

    Returns
    -------
    dict of str to (measured_j, predicted_j)
        By kind; two float64 arrays of one length.

    Raises
    ------
    ValueError
        If a measured layer is not of the kind that the architecture has at its place.
    """
    return {kind: (found[0], found[1]) for kind, found in layer_ranges(measured, models).items()}


def layer_ranges(measured: Sequence[MeasuredNetwork], models: ModelSet) -> dict[str, np.ndarray]:
    """Measured and predicted energy of single layers of networks with the ranges, by kind.

    Parameters
    ----------
    measured : sequence of MeasuredNetwork
        Measurements of the built-in architectures; those without single layers are left out.
    models : ModelSet
        The predictors.

    Returns
    -------
    dict of str to (5, n) float64 ndarray
        By kind; measured J, predicted J, low J, high J, and 1 if a size is outside the fitted range, else 0.

    Raises
    ------
    ValueError
        If a measured layer is not of the kind that the architecture has at its place.
    """
    rows: dict[str, list[tuple[float, ...]]] = {}
    for name in sorted({one.name for one in measured}):
        ours = [one for one in measured if one.name == name and one.layers_j]
        if not ours:
            continue
        layers = zoo(name)
        found = Network(layers, name, models).energy_j([one.batch_size for one in ours])
        for column, one in enumerate(ours):
            for index, joules in one.layers_j.items():
                layer = layers[index - 1]
                if layer.kind != one.kinds[index]:
                    raise ValueError(f"measured: layer {index} of {name} must be {layer.kind}, not {one.kinds[index]}")
                rows.setdefault(layer.kind, []).append((joules, *(float(one[index - 1, column]) for one in found)))
    return {kind: np.array(values).T for kind, values in rows.items()}
