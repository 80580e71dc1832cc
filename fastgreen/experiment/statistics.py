"""Statistics of groups of runs, with scipy and scikit-posthocs; data that cannot be compared give a clear answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = [
    "GroupTest",
    "cliffs_delta",
    "correlations",
    "delta_size",
    "dunn_holm",
    "kruskal",
    "pareto",
    "rank_correlation",
]

_MOST_CORRELATED = 100  # columns; the time grows with the number of pairs
# Spread of another column, and what the study itself chose: no quantities of their own.
_SPREAD = re.compile(r"_(q1|q3|low|high|p95)(_|$)|^(precision|warmup_s|rest_s)$")


@dataclass(frozen=True)
class GroupTest:
    """Result of a Kruskal-Wallis test.

    Attributes
    ----------
    groups, n : int
        Number of groups k, and of values in all groups together.
    h, p, eta_squared : float or None
        H, its p, and the effect size (H - k + 1) / (n - k), which can be slightly below 0. None if the groups cannot be
        compared; `answer` has the reason.
    answer : str
        The result in one sentence.
    """

    groups: int
    n: int
    h: float | None
    p: float | None
    eta_squared: float | None
    answer: str


def _scipy_stats() -> Any:
    try:
        import scipy.stats
    except ImportError:
        raise ImportError("statistics of runs need scipy: pip install 'fastgreen[experiment]'") from None
    return scipy.stats


def _clean(groups: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = {name: np.asarray(v, float)[np.isfinite(np.asarray(v, float))] for name, v in groups.items()}
    return {name: values for name, values in kept.items() if values.size}


def kruskal(groups: Mapping[str, np.ndarray]) -> GroupTest:
    """Test whether at least one group differs, by ranks (Kruskal and Wallis, 1952).

    Parameters
    ----------
    groups : mapping of str to (n,) ndarray
        Values of each group; those that are not finite are left out.

    Returns
    -------
    GroupTest

    Raises
    ------
    ImportError
        If scipy is not installed.
    """
    kept = _clean(groups)
    k, n = len(kept), sum(v.size for v in kept.values())
    if k < 2:
        return GroupTest(k, n, None, None, None, f"{k} group{'s' * (k != 1)}: nothing to compare")
    everything = np.concatenate(list(kept.values()))
    if np.all(everything == everything[0]):
        return GroupTest(k, n, None, None, None, f"all {n} values are equal: no difference to find")
    if n <= k:
        return GroupTest(k, n, None, None, None, "one value per group: no spread to compare with")
    h, p = (float(x) for x in _scipy_stats().kruskal(*kept.values()))
    eta = (h - k + 1) / (n - k)
    found = "the groups differ" if p < 0.05 else "no difference is shown"
    return GroupTest(k, n, h, p, eta, f"{found} (H = {h:.4g}, p = {p:.3g}, eta^2 = {eta:.3f})")


def dunn_holm(groups: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Dunn's test (1964) of each pair of groups, corrected after Holm (1979).

    Parameters
    ----------
    groups : mapping of str to (n,) ndarray
        Values of each group; those that are not finite are left out.

    Returns
    -------
    dict of (str, str) to float
        p of each pair; empty if :func:`kruskal` cannot compare the groups.

    Raises
    ------
    ImportError
        If scipy or scikit-posthocs is not installed.
    """
    kept = _clean(groups)
    if kruskal(kept).h is None:
        return {}
    try:
        from fastgreen.results.picture_style import load_matplotlib

        load_matplotlib()  # scikit_posthocs imports it, and fails if a notebook's backend is in the environment
        import scikit_posthocs
    except ImportError:
        raise ImportError("Dunn's test needs scikit-posthocs: pip install 'fastgreen[experiment]'") from None
    names = list(kept)
    table = np.asarray(scikit_posthocs.posthoc_dunn(list(kept.values())))
    first, second = np.triu_indices(len(names), 1)
    adjusted = _holm(table[first, second])
    return {(names[i], names[j]): float(p) for i, j, p in zip(first, second, adjusted, strict=True)}


def _holm(p: np.ndarray) -> np.ndarray:
    """Correct p of m tests after Holm (1979): the k-th smallest times m - k + 1, never below the previous one.

    The correction of the library runs Python's garbage collector at each call, which takes longer than the test.
    """
    order = np.argsort(p, kind="stable")
    out = np.empty(p.size)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * (p.size - np.arange(p.size))), 1.0)
    return out


def cliffs_delta(a: np.ndarray, b: np.ndarray) -> float:
    """Cliff's delta (1993): (pairs with a > b - pairs with a < b) / all pairs.

    Parameters
    ----------
    a, b : (n,), (m,) ndarray
        Values of two groups; those that are not finite are left out.

    Returns
    -------
    float
        1 if every a is larger than every b, -1 if every a is smaller; NaN if a group is empty.
    """
    a, b = (np.asarray(v, float)[np.isfinite(np.asarray(v, float))] for v in (a, b))
    if not a.size or not b.size:
        return float("nan")
    b = np.sort(b)
    above = np.searchsorted(b, a, side="left").sum()
    below = b.size * a.size - np.searchsorted(b, a, side="right").sum()
    return float((int(above) - int(below)) / (a.size * b.size))


def delta_size(delta: float) -> str:
    """Word for the size of Cliff's delta (Romano et al., 2006): negligible, small, medium, large or unknown."""
    if not np.isfinite(delta):
        return "unknown"
    return next(
        (word for limit, word in ((0.147, "negligible"), (0.33, "small"), (0.474, "medium")) if abs(delta) < limit),
        "large",
    )


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float | None, int]:
    """Spearman's rank correlation.

    Parameters
    ----------
    x, y : (n,) ndarray
        Pairs of values; pairs with a value that is not finite are left out.

    Returns
    -------
    rho, p : float or None
        None if a column is constant or fewer than three pairs are left.
    pairs : int
        Number of pairs used.

    Raises
    ------
    ImportError
        If scipy is not installed.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if x.size < 3 or np.all(x == x[0]) or np.all(y == y[0]):
        return None, None, int(x.size)
    rho, p = _scipy_stats().spearmanr(x, y)
    return float(rho), float(p), int(x.size)


def pareto(cost: np.ndarray, benefit: np.ndarray) -> np.ndarray:
    """Find the Pareto-efficient points: no other point is as good in both values and better in one.

    Parameters
    ----------
    cost, benefit : (n,) array_like
        Lower cost and higher benefit are better.

    Returns
    -------
    (n,) bool ndarray
        True for efficient points. Equal points are all efficient or all not; a point with a value that is not finite is
        never efficient.
    """
    cost, benefit = np.asarray(cost, float), np.asarray(benefit, float)
    keep = np.zeros(cost.size, bool)
    good = np.flatnonzero(np.isfinite(cost) & np.isfinite(benefit))
    best, best_cost = -np.inf, np.nan
    for i in good[np.lexsort((-benefit[good], cost[good]))]:
        if benefit[i] > best or (benefit[i] == best and cost[i] == best_cost):
            keep[i] = True
            best, best_cost = benefit[i], cost[i]
    return keep


def correlations(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Pearson and Spearman correlations between the float columns of a table, quartiles and bounds apart.

    Parameters
    ----------
    table : pyarrow.Table
        Rows with a null in one of two columns are left out for that pair.

    Returns
    -------
    pearson, spearman : pyarrow.Table
        A column ``column`` of names, and one column per name; null if fewer than three rows have both values, or one
        of the two columns is constant.
    """
    names = [
        f.name
        for f in table.schema
        if pa.types.is_floating(f.type)
        and table.column(f.name).null_count < table.num_rows
        and not _SPREAD.search(f.name)
    ][:_MOST_CORRELATED]
    columns = [table.column(name).to_numpy().astype(float) for name in names]
    out = []
    for how in (lambda x: x, _ranks):
        matrix: dict[str, list[Any]] = {"column": names}
        for name, b in zip(names, columns, strict=True):
            matrix[name] = [_correlation(a, b, how) for a in columns]
        schema = pa.schema([("column", pa.string()), *((name, pa.float64()) for name in names)])
        out.append(pa.table(matrix, schema=schema))
    return out[0], out[1]


def _correlation(a: np.ndarray, b: np.ndarray, how: Any) -> float | None:
    good = np.isfinite(a) & np.isfinite(b)
    a, b = a[good], b[good]
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    a, b = how(a) - how(a).mean(), how(b) - how(b).mean()
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1.0, 1.0))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values get the mean of their ranks."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2.0)[where]
