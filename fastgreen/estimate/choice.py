"""The set of work terms that suits a table of measured layers, chosen by cross-validation on that table."""

from __future__ import annotations

import numpy as np

from fastgreen.estimate.prices import alike_folds, held_out_ratio, term_matrix
from fastgreen.estimate.tables import Table
from fastgreen.estimate.work import TERMS

__all__ = ["candidates", "choose_terms", "held_out_errors"]

# Sets of terms whose further prices are 0 predict the same; their errors differ by rounding, as the processor has it.
ROUNDING = 1e-9


def candidates(table: Table) -> list[str]:
    """Sets of terms for a table, the ones with the fewest terms first; sets with equal terms appear once."""
    found: dict[tuple[str, ...], str] = {}
    for which, by_kind in TERMS.items():
        found.setdefault(by_kind[table.kind], which)
    return [found[names] for names in sorted(found, key=len)]


def held_out_errors(table: Table, which: str) -> np.ndarray:
    """Error of each fold of alike layers, predicted by prices that were fitted without it.

    Returns
    -------
    (folds,) float64 ndarray
        Mean of ``|log(measured / predicted)|`` over the layers of a fold.
    """
    fold = alike_folds(table)
    error = np.abs(np.log(held_out_ratio(term_matrix(table, which), table.energy_j, fold)))
    return np.array([error[fold == part].mean() for part in np.unique(fold)])


def choose_terms(table: Table) -> str:
    """Choose the set of terms by cross-validation, with the rule of one standard error.

    The layers are held out in folds of alike layers. The choice is the set with the fewest terms of which the mean
    error exceeds that of the best set by at most one standard error of their difference. A difference of rounding alone
    is no difference. Nothing is drawn at random.

    Parameters
    ----------
    table : Table
        Measured layers, energies above 0 J.

    Returns
    -------
    str
        A name in :data:`fastgreen.estimate.work.TERMS`.

    References
    ----------
    Breiman, Friedman, Olshen, Stone, "Classification and Regression Trees", 1984, section 3.4.3 (the rule).
    """
    errors = {which: held_out_errors(table, which) for which in candidates(table)}
    best = min(errors.values(), key=lambda error: float(error.mean()))
    for which, error in errors.items():
        more = error - best
        if more.mean() <= more.std(ddof=1) / np.sqrt(len(more)) + ROUNDING * best.mean():
            return which
    raise AssertionError("the best set is within its own error")
