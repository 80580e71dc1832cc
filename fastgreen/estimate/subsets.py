"""Feature ablation: least squares on every subset of the features, cross-validated, on all cores.

A least-squares fit needs only the products of its columns. They are computed once for each fold; a subset then costs
one small solve per fold, and its held-out error follows from the held-out products. 32767 subsets of 15 features take
seconds.
"""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement
from math import comb

import numpy as np
import pyarrow as pa

from fastgreen.estimate.linear import SETS, features
from fastgreen.estimate.prices import folds
from fastgreen.estimate.tables import Table

__all__ = ["MOST_SUBSETS", "ablation", "feature_names"]

MOST_SUBSETS = 2**18
CHUNK = 512


def feature_names(table: Table, sets: tuple[str, ...] = SETS) -> list[str]:
    """Names of the columns of :func:`fastgreen.estimate.linear.features`, in order."""
    sizes = list(table.sizes)
    blocks = {"parameters": sizes, "log1p": [f"log1p({name})" for name in sizes], "macs": ["macs"]}
    return [name for one in SETS if one in sets for name in blocks[one]]


def ablation(
    table: Table,
    sets: tuple[str, ...] = SETS,
    most: int | None = None,
    degree: int = 1,
    parts: int = 5,
    jobs: int = -1,
) -> pa.Table:
    """Cross-validated R^2 of least squares on every non-empty subset of the features.

    Parameters
    ----------
    table : Table
        Measured layers of one kind.
    sets : tuple of str
        The features to choose from: ``"parameters"``, ``"log1p"``, ``"macs"``.
    most : int, optional
        Most features in a subset; by default all of them.
    degree : {1, 2}
        2 adds the products and squares of the features to each subset.
    parts : int
        Number of folds.
    jobs : int
        Number of processes; -1 for one per core.

    Returns
    -------
    pyarrow.Table
        features (list of names), size, r2, mse (J^2); best R^2 first.

    Raises
    ------
    ValueError
        If no feature varies, `degree` is not 1 or 2, or there are more than 2**18 subsets; `most` limits them.
    ImportError
        If joblib is not installed.
    """
    names = feature_names(table, sets)
    x = features(table.sizes, table.kind, tuple(table.sizes), sets)
    keep = [i for i in range(len(names)) if x[:, i].max() > x[:, i].min()]
    if not keep:
        raise ValueError(f"{table.source or table.kind}: a feature of {', '.join(sets)} must vary; all are constant")
    names, x = [names[i] for i in keep], x[:, keep]
    most = len(names) if most is None else most
    total = sum(comb(len(names), size) for size in range(1, most + 1))
    if degree not in (1, 2):
        raise ValueError(f"degree must be 1 or 2, not {degree}")
    if most < 1 or total > MOST_SUBSETS:
        raise ValueError(f"most must give 1 to {MOST_SUBSETS} subsets of {len(names)} features, not {total}")
    chosen = [subset for size in range(1, most + 1) for subset in combinations(range(len(names)), size)]
    factors = [
        column for size in range(1, degree + 1) for column in combinations_with_replacement(range(len(names)), size)
    ]
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    wide = np.column_stack([scaled[:, column].prod(axis=1) for column in factors])
    products = _fold_products(wide, table.energy_j, folds(len(table), parts))
    chunks = [chosen[i : i + CHUNK] for i in range(0, len(chosen), CHUNK)]
    errors = np.concatenate(_run(products, factors, chunks, jobs))
    return _ranked(table, names, chosen, errors)


def _ranked(table: Table, names: list[str], chosen: list[tuple[int, ...]], errors: np.ndarray) -> pa.Table:
    """Table of the subsets, best first; `errors` are sums of squares over all held-out rows."""
    spread = float(((table.energy_j - table.energy_j.mean()) ** 2).sum())
    order = np.argsort(errors, kind="stable")
    columns = [
        (pa.field("features", pa.list_(pa.string())), [[names[i] for i in chosen[k]] for k in order]),
        (pa.field("size", pa.int64()), [len(chosen[k]) for k in order]),
        (pa.field("r2", pa.float64(), metadata={"unit": "1"}), 1 - errors[order] / spread),
        (pa.field("mse", pa.float64(), metadata={"unit": "J^2"}), errors[order] / len(table)),
    ]
    schema = pa.schema([field for field, _ in columns], metadata={"kind": table.kind})
    return pa.Table.from_arrays([pa.array(value, type=field.type) for field, value in columns], schema=schema)


def _fold_products(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each fold, the products of [1, x, y] over the rows to fit on, and over the rows held out."""
    wide = np.column_stack([np.ones(len(y)), x, y])
    return [tuple(rows.T @ rows for rows in (wide[fold != part], wide[fold == part])) for part in np.unique(fold)]


def _run(products: list, factors: list, chunks: list, jobs: int) -> list[np.ndarray]:
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise ImportError("ablation needs joblib: pip install 'fastgreen[estimate]'") from error
    return Parallel(n_jobs=jobs)(delayed(_errors)(products, factors, chunk) for chunk in chunks)


def _errors(
    products: list[tuple[np.ndarray, np.ndarray]], factors: list[tuple[int, ...]], subsets: list[tuple[int, ...]]
) -> np.ndarray:
    """Held-out sum of squared errors of each subset: ``y'y - 2 b'X'y + b'X'X b`` over the held-out rows."""
    found = np.zeros(len(subsets))
    for which, subset in enumerate(subsets):
        chosen = set(subset)
        columns = [0, *(place for place, column in enumerate(factors, start=1) if chosen.issuperset(column))]
        for fit, held in products:
            inner, outer = fit[np.ix_(columns, columns)], fit[columns, -1]
            weights = np.linalg.lstsq(inner, outer, rcond=1e-13)[0]
            error = held[-1, -1] - 2 * weights @ held[columns, -1] + weights @ held[np.ix_(columns, columns)] @ weights
            found[which] += max(error, 0.0)
    return found
