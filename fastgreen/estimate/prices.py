"""Prices of work terms: the fit, and predictions of layers that were left out of it."""

from __future__ import annotations

import numpy as np

from fastgreen.estimate.tables import Table
from fastgreen.estimate.work import terms

__all__ = ["FOLDS", "alike_folds", "fit_prices", "folds", "held_out_ratio", "range_out_ratio", "term_matrix"]

FOLDS = 5
SEED = 20231
# Splits of the layers of a table into halves: 8 folds of alike layers.
HALVINGS = 3
LEAST_ROWS_A_FOLD = 5


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


def alike_folds(table: Table) -> np.ndarray:
    """Fold of each row, with layers of like sizes in one fold, so that a held-out layer is unlike the fitted ones.

    The rows are split three times into halves, at the median of the size (as a logarithm) that varies most among them.
    A table of fewer than 40 rows has shuffled folds instead.
    """
    if len(table) < LEAST_ROWS_A_FOLD * 2**HALVINGS:
        return folds(len(table))
    sizes = np.log1p(table.matrix())
    sizes = sizes[:, sizes.max(axis=0) > sizes.min(axis=0)]
    sizes /= sizes.std(axis=0)
    if not sizes.shape[1]:
        return folds(len(table))
    parts = [np.arange(len(table))]
    for _ in range(HALVINGS):
        parts = [half for part in parts for half in _halves(sizes, part)]
    fold = np.empty(len(table), dtype=np.int64)
    for number, part in enumerate(parts):
        fold[part] = number
    return fold


def _halves(sizes: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    widest = int(np.argmax(sizes[part].std(axis=0)))
    order = part[np.argsort(sizes[part, widest], kind="stable")]
    return order[: len(order) // 2], order[len(order) // 2 :]


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
