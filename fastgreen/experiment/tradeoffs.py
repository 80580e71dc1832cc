"""Trade-offs between energy and quality of architectures or environments, from any table of runs.

The statistics follow del Rey, Martinez-Fernandez, Cruz, Franch, "Do DL models and training environments have an impact
on energy consumption?", SEAA 2023: energy per unit of work, medians of groups, relative reduction (E_x - E_y) / E_x,
the Pareto-efficient set, Kruskal-Wallis with eta squared, Dunn with Holm, Cliff's delta, Spearman.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.experiment.statistics import (
    GroupTest,
    cliffs_delta,
    delta_size,
    dunn_holm,
    kruskal,
    pareto,
    rank_correlation,
)
from fastgreen.table_files import column, joules_per_unit, load_table

__all__ = ["Tradeoff", "tradeoff"]

_ENERGY = ("energy (MJ)", "energy_j", "energy (J)", "energy (kWh)", "energy_kwh", "energy_wh", "energy_consumed")
_WORK = ("total seen images", "total seen samples", "seen_samples", "inferences")
_QUALITY = ("f1-score", "f1", "accuracy")
_FACTORS = ("architecture", "training environment", "environment", "gpu model", "model", "device")
_MOST_GROUPS = 500
_MOST_CORRELATED = 200  # columns
_RUN = "run"
# No quantities of their own, so no row in a table of what goes with the energy.
_UNCORRELATED = (_RUN, "energy_per_work_j", "energy low (MJ)", "energy high (MJ)", "energy_low_j", "energy_high_j")


@dataclass
class Tradeoff:
    """Comparison of groups of runs, as tables.

    Attributes
    ----------
    by : (str, str)
        The two factors that make the groups; ``(factor, "")`` with one factor.
    quality, work : str
        Names of the columns of quality and work.
    runs : pyarrow.Table
        The runs that were used, with ``energy_per_work_j``.
    groups : pyarrow.Table
        A row per group, lowest energy first: runs, median and quartiles of energy per work, median quality, ``pareto``.
    pairs : pyarrow.Table
        A row per ordered pair of groups: relative reduction of the median energy, change of the median quality.
    changes : pyarrow.Table
        A row per pair of groups that differ in one factor, in the direction that saves energy: reduction, change of
        quality, and Cliff's delta and p of each.
    tests : pyarrow.Table
        Kruskal-Wallis tests of energy and of quality, by each factor and by group.
    dunn : pyarrow.Table
        p (after Holm) of each pair of levels, by the same factors.
    spearman : pyarrow.Table
        Rank correlation of energy per work with the other numeric columns, the first 200 of them.
    left_out : int
        Number of runs without a factor, or with missing, zero or negative energy or work.
    beyond : int
        Number of good runs beyond the first `repeats` of their group.
    """

    by: tuple[str, str]
    quality: str
    work: str
    runs: pa.Table
    groups: pa.Table
    pairs: pa.Table
    changes: pa.Table
    tests: pa.Table
    dunn: pa.Table
    spearman: pa.Table
    left_out: int
    beyond: int

    @property
    def largest(self) -> dict[str, Any]:
        """The row of `pairs` with the largest reduction; empty if there is only one group."""
        rows = self.pairs.to_pylist()
        return max(rows, key=lambda row: row["reduction"], default={})

    @property
    def pareto(self) -> list[str]:
        """Labels of the groups that no other group beats in both energy and quality."""
        return [row["group"] for row in self.groups.to_pylist() if row["pareto"]]


def tradeoff(
    table: Any,
    by: Sequence[str] | None = None,
    *,
    energy: str | None = None,
    work: str | None = None,
    quality: str | None = None,
    energy_unit: str | None = None,
    repeats: int | None = None,
) -> Tradeoff:
    """Compare groups of runs by energy per unit of work and by quality.

    Parameters
    ----------
    table : path, table or mapping of str to list
        A row per run; see :func:`fastgreen.table_files.load_table`.
    by : str or sequence of str, optional
        One or two columns that make the groups. By default the first two existing ones of architecture, training
        environment, environment, gpu model, model, device.
    energy, work, quality : str, optional
        Columns of the energy of a run, of its work (images seen; without a column, 1 per run) and of its quality
        (higher is better).
    energy_unit : str, optional
        Unit of the energy, if neither the name of the column ("energy (MJ)") nor the metadata of the field gives it.
    repeats : int, optional
        Use only this number of runs of each group, the first ones by the column ``run`` or by the order of the table,
        so that all groups have the same weight.

    Returns
    -------
    Tradeoff

    Raises
    ------
    ValueError
        If a column is missing or does not hold numbers, or no run is left.

    Examples
    --------
    >>> runs = {"architecture": ["a", "b"], "energy_j": [4.0, 1.0], "accuracy": [0.9, 0.8]}
    >>> tradeoff(runs).largest["reduction"]
    0.75
    """
    runs = load_table(table)
    if not runs.num_rows:
        raise ValueError("table must have at least one row")
    factors = _factors(runs, by)
    names = [
        _pick(runs, energy, _ENERGY, "energy"),
        _pick(runs, work, _WORK, "work", optional=True),
        _pick(runs, quality, _QUALITY, "quality"),
    ]
    joules = column(runs, names[0], "energy") * joules_per_unit(runs, names[0], energy_unit)
    amount = column(runs, names[1], "work") if names[1] else np.ones(runs.num_rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_work = joules / amount
    good = np.isfinite(per_work) & (joules > 0) & (amount > 0) & _named(runs, factors)
    runs = runs.append_column(pa.field("energy_per_work_j", pa.float64(), metadata={"unit": "J"}), pa.array(per_work))
    taken = good if repeats is None else _first_runs(runs, factors, repeats, good)
    if not good.any():
        raise ValueError(f"table must have a run with a positive {names[0]} and {names[1] or 'work'}")
    dropped = runs.num_rows - int(good.sum()), int(good.sum() - taken.sum())
    return _compare(runs.filter(pa.array(taken)), factors, names[2], names[1] or "run", dropped)


def _factors(runs: pa.Table, by: Sequence[str] | None) -> tuple[str, str]:
    chosen = [by] if isinstance(by, str) else list(by or [f for f in _FACTORS if f in runs.column_names][:2])
    for name in chosen:
        if name not in runs.column_names:
            raise ValueError(f"by must be of the columns {', '.join(map(repr, runs.column_names))}, not {name!r}")
    if not 1 <= len(chosen) <= 2:
        raise ValueError(f"by must be one or two columns of {', '.join(runs.column_names)}, not {len(chosen)}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"by must name different columns, not {chosen[0]!r} twice")
    return chosen[0], chosen[1] if len(chosen) == 2 else ""


def _pick(runs: pa.Table, given: str | None, known: tuple[str, ...], argument: str, optional: bool = False) -> str:
    found = given or next((name for name in known if name in runs.column_names), "")
    if not found and not optional:
        raise ValueError(f"{argument} must be given: one of {', '.join(map(repr, runs.column_names))}")
    if found and found not in runs.column_names:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, runs.column_names))}, not {found!r}")
    return found


def _levels(runs: pa.Table, factor: str) -> np.ndarray:
    if not factor:
        return np.full(runs.num_rows, "", object)
    return np.array([str(v) for v in runs.column(factor).to_pylist()], object)


def _named(runs: pa.Table, factors: tuple[str, str]) -> np.ndarray:
    """True for runs with a value for every factor; other runs belong to no group."""
    columns = (runs.column(factor).to_pylist() for factor in factors if factor)
    return np.array([all(str("" if v is None else v).strip() for v in row) for row in zip(*columns, strict=True)])


def _first_runs(runs: pa.Table, factors: tuple[str, str], repeats: int, good: np.ndarray) -> np.ndarray:
    """True for the first `repeats` good runs of each group."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    keys = list(zip(_levels(runs, factors[0]), _levels(runs, factors[1]), strict=True))
    order = np.arange(runs.num_rows)
    if _RUN in runs.column_names:
        order = np.argsort(column(runs, _RUN, "run"), kind="stable")
    keep, seen = np.zeros(runs.num_rows, bool), dict[Any, int]()
    for i in order[good[order]]:
        seen[keys[i]] = seen.get(keys[i], 0) + 1
        keep[i] = seen[keys[i]] <= repeats
    return keep


@dataclass
class _Group:
    first: str
    second: str
    energy: np.ndarray
    quality: np.ndarray

    @property
    def label(self) -> str:
        return f"{self.first} / {self.second}" if self.second else self.first

    @cached_property
    def middle(self) -> tuple[float, float]:
        good = self.quality[np.isfinite(self.quality)]
        return float(np.median(self.energy)), float(np.median(good)) if good.size else float("nan")


def _places(keys: Iterable[Hashable]) -> dict[Any, list[int]]:
    """Rows by key. NumPy's == would take away the NULs at the end of a text."""
    places: dict[Any, list[int]] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    return places


def _compare(runs: pa.Table, factors: tuple[str, str], quality: str, work: str, dropped: tuple[int, int]) -> Tradeoff:
    energy, good = runs.column("energy_per_work_j").to_numpy(), column(runs, quality, "quality")
    first, second = _levels(runs, factors[0]), _levels(runs, factors[1])
    places = _places(zip(first, second, strict=True))
    if len(places) > _MOST_GROUPS:
        raise ValueError(f"by must make at most {_MOST_GROUPS} groups, not {len(places)}; every two are compared")
    groups = [_Group(a, b, energy[mine], good[mine]) for (a, b), mine in places.items()]
    tests, dunn = _tests(groups, factors, first, second, {"energy per work": energy, quality: good})
    return Tradeoff(
        factors,
        quality,
        work,
        runs,
        _group_table(groups, factors),
        _pair_table(groups),
        _change_table(groups, factors),
        tests,
        dunn,
        _spearman(runs, energy),
        *dropped,
    )


def _group_table(groups: list[_Group], factors: tuple[str, str]) -> pa.Table:
    middles = np.array([g.middle for g in groups])
    efficient = pareto(middles[:, 0], middles[:, 1])
    rows = []
    for i in np.argsort(middles[:, 0], kind="stable"):
        group = groups[i]
        q1, q3 = np.quantile(group.energy, [0.25, 0.75])
        rows.append(
            {
                "group": group.label,
                factors[0]: group.first,
                **({factors[1]: group.second} if factors[1] else {}),
                "runs": group.energy.size,
                "energy_per_work_j": middles[i, 0],
                "energy_q1_j": float(q1),
                "energy_q3_j": float(q3),
                "quality": middles[i, 1],
                "pareto": bool(efficient[i]),
            }
        )
    return _units(pa.Table.from_pylist(rows))


def _units(table: pa.Table) -> pa.Table:
    fields = [f.with_metadata({"unit": "J"}) if f.name.endswith("_j") else f for f in table.schema]
    return table.cast(pa.schema(fields))


def _pair_table(groups: list[_Group]) -> pa.Table:
    schema = pa.schema(
        [("from", pa.string()), ("to", pa.string()), ("reduction", pa.float64()), ("quality_change", pa.float64())]
    )
    rows = []
    for x in groups:
        for y in groups:
            if x is not y:
                (ex, qx), (ey, qy) = x.middle, y.middle
                rows.append({"from": x.label, "to": y.label, "reduction": (ex - ey) / ex, "quality_change": qy - qx})
    return pa.Table.from_pylist(rows, schema=schema)


def _change_table(groups: list[_Group], factors: tuple[str, str]) -> pa.Table:
    """Pairs of groups that differ in one factor; each pair once, in the direction that saves energy."""
    rows = []
    for which, factor in enumerate(factors):
        if not factor:
            continue
        held_name = "second" if which == 0 else "first"
        moved_name = "first" if which == 0 else "second"
        for held in dict.fromkeys(getattr(g, held_name) for g in groups):
            inside = sorted((g for g in groups if getattr(g, held_name) == held), key=lambda g: -g.middle[0])
            p = _either_way(dunn_holm({getattr(g, moved_name): g.energy for g in inside}))
            p_quality = _either_way(dunn_holm({getattr(g, moved_name): g.quality for g in inside}))
            for i, x in enumerate(inside):
                for y in inside[i + 1 :]:
                    a, b = getattr(x, moved_name), getattr(y, moved_name)
                    where = {"changed": factor, "held": held, "from": a, "to": b}
                    rows.append({**where, **_change(x, y, p.get((a, b)), p_quality.get((a, b)))})
    rows.sort(key=lambda row: -row["reduction"])
    names = [("changed", pa.string()), ("held", pa.string()), ("from", pa.string()), ("to", pa.string())]
    measures = ("reduction", "cliffs_delta", "p_holm", "quality_change", "quality_cliffs_delta", "quality_p_holm")
    numbers = [(name, pa.float64()) for name in measures]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([*names, *numbers, ("effect", pa.string()), ("answer", pa.string())])
    )


def _either_way(of_pairs: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {**of_pairs, **{(b, a): p for (a, b), p in of_pairs.items()}}


def _change(x: _Group, y: _Group, p: float | None, p_quality: float | None) -> dict[str, Any]:
    """Row of the change from group x to group y: the energy it saves, the quality it costs."""
    (ex, qx), (ey, qy) = x.middle, y.middle
    delta, saved, lost = cliffs_delta(x.energy, y.energy), (ex - ey) / ex, qx - qy
    if not np.isfinite(lost):
        cost = "correctness unknown"
    else:
        cost = f"costs {lost:.4f}" if lost > 0 else f"gains {-lost:.4f}" if lost < 0 else "costs nothing"
    return {
        "reduction": saved,
        "cliffs_delta": delta,
        "p_holm": p,
        "quality_change": qy - qx,
        "quality_cliffs_delta": cliffs_delta(x.quality, y.quality),
        "quality_p_holm": p_quality,
        "effect": delta_size(delta),
        "answer": f"saves {saved:.1%}, {cost}{_doubt(p, p_quality if lost else None)}",
    }


def _doubt(p: float | None, p_quality: float | None) -> str:
    """Addition to the answer: the differences that a test did not find."""
    energy, quality = (value is not None and value >= 0.05 for value in (p, p_quality))
    if energy and quality:
        return "; neither is shown by the test"
    if energy or quality:
        return f"; the difference in {'energy' if energy else 'correctness'} is not shown by the test"
    return ""


def _tests(
    groups: list[_Group], factors: tuple[str, str], first: np.ndarray, second: np.ndarray, values: dict[str, np.ndarray]
) -> tuple[pa.Table, pa.Table]:
    labels = np.array([f"{a} / {b}" if b else a for a, b in zip(first, second, strict=True)], object)
    ways = {factors[0]: first}
    if factors[1]:
        ways |= {factors[1]: second, f"{factors[0]} and {factors[1]}": labels}
    tests, pairs = [], []
    for value, numbers in values.items():
        for way, levels in ways.items():
            split = {level: numbers[mine] for level, mine in _places(levels).items()}
            tests.append(_test_row(value, way, kruskal(split)))
            for (a, b), p in dunn_holm(split).items():
                delta = cliffs_delta(split[a], split[b])
                pairs.append({"value": value, "by": way, "a": a, "b": b, "p_holm": p, "cliffs_delta": delta})
    text, number = pa.string(), pa.float64()
    dunn = pa.schema(
        [("value", text), ("by", text), ("a", text), ("b", text), ("p_holm", number), ("cliffs_delta", number)]
    )
    schema = [("value", text), ("by", text), ("groups", pa.int64()), ("n", pa.int64())]
    schema += [("h", number), ("p", number), ("eta_squared", number), ("answer", text)]
    return pa.Table.from_pylist(tests, schema=pa.schema(schema)), pa.Table.from_pylist(pairs, schema=dunn)


def _test_row(value: str, way: str, test: GroupTest) -> dict[str, Any]:
    return {"value": value, "by": way, **vars(test)}


def _spearman(runs: pa.Table, energy: np.ndarray) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for field in runs.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        if not numeric or field.name in _UNCORRELATED:
            continue
        if len(rows) == _MOST_CORRELATED:
            break
        rho, p, n = rank_correlation(column(runs, field.name, "table"), energy)
        rows.append({"column": field.name, "rho": rho, "p": p, "n": n})
    schema = pa.schema([("column", pa.string()), ("rho", pa.float64()), ("p", pa.float64()), ("n", pa.int64())])
    return pa.Table.from_pylist(rows, schema=schema)
