"""``fastgreen tradeoff``: energy against quality, between groups of training runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from fastgreen.commands.common import JsonAnswer, json_options, say, spoken, table
from fastgreen.units import counted

__all__ = ["tradeoff"]


@click.command()
@click.argument("path", metavar="TABLE", type=click.Path(path_type=Path))
@click.option("--by", multiple=True, help="Column that makes the groups; repeat it for a second one.")
@click.option("--energy", help="Column with the energy of a training run.")
@click.option("--energy-unit", help="Unit of --energy: J, kJ, MJ, Wh or kWh.  [default: from the name of the column]")
@click.option("--work", help="Column with the work of a training run, such as images seen.")
@click.option("--quality", help="Column with the quality, such as f1-score; more is better.")
@click.option("--repeats", type=int, help="Use only this many training runs of each group, from the first.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for all tables and the picture of the Pareto front."
)
@json_options()
def tradeoff(path: Path, output: Path | None, answer: JsonAnswer, by: tuple[str, ...], **options: Any) -> None:
    """Compare energy and accuracy between groups of training runs.

    The tables show the energy that each change of architecture or environment saves, and the quality that it costs.
    TABLE (.parquet, .arrow, .csv) has one row per training run.
    """
    from fastgreen.experiment.tradeoffs import tradeoff as compute

    result = compute(path, list(by) or None, **options)
    names = ("groups", "changes", "pairs", "tests", "dunn", "spearman")
    if output is not None:
        from fastgreen.experiment.pictures import pareto_front
        from fastgreen.plot import finish
        from fastgreen.table_files import save_table

        output.mkdir(parents=True, exist_ok=True)
        for name in names:
            save_table(getattr(result, name), output / f"{name}.csv")
            save_table(getattr(result, name), output / f"{name}.arrow")
        finish(pareto_front(result), output / "pareto_front.png")
    if answer.give(lambda: _as_mapping(result, names)):
        return
    _show_tradeoff(result)
    if output is not None:
        say(f"tables and picture: {output}")


def _as_mapping(result: Any, names: tuple[str, ...]) -> dict[str, Any]:
    tables = {name: getattr(result, name).to_pylist() for name in names}
    dropped = {"left_out": result.left_out, "beyond": result.beyond}
    return {**tables, "largest": result.largest, "pareto": result.pareto, **dropped}


def _show_tradeoff(result: Any) -> None:
    """Print the tables for people; the largest saving comes first, and a long table is cut."""
    groups = [
        spoken({k: row[k] for k in ("group", "runs", "energy_per_work_j", "quality", "pareto")})
        for row in result.groups.to_pylist()
    ]
    changes = [_change_row(row, result.quality) for row in result.changes.to_pylist()]
    tests = [{k: row[k] for k in ("value", "by", "answer")} for row in result.tests.to_pylist()]
    related = [row for row in result.spearman.to_pylist() if row["rho"] is not None]
    related.sort(key=lambda row: -abs(row["rho"]))
    say(_short_table(f"energy per {result.work}, medians", groups), "")
    if changes:
        say(_short_table("savings and costs of a change", changes), "?: the test finds no difference", "")
    else:
        say("one group: there is no change to compare", "")
    say(table("tests", tests, ruled=False), "")
    if related:
        say(_short_table("correlation with energy (Spearman)", related), "")
    say(f"Pareto-efficient: {', '.join(result.pareto) or 'unknown, because no quality is known'}")
    if result.largest:
        say("largest reduction: {reduction:.10g}, {from} to {to}".format(**result.largest))
    if result.left_out:
        say(f"left out, without energy, work or a group: {counted(result.left_out, 'run')}")
    if result.beyond:
        say(f"left out, beyond the first of their group: {counted(result.beyond, 'run')}")


def _change_row(row: dict[str, Any], quality: str) -> dict[str, Any]:
    """A line of the table of changes; a question mark where the test (Dunn, Holm) finds no difference."""
    doubts = ["?" if p is not None and p >= 0.05 else "" for p in (row["p_holm"], row["quality_p_holm"])]
    changed = row["quality_change"]
    cost = f"{changed:+.4f}{doubts[1]}" if changed else "0"
    said = {quality: cost if math.isfinite(changed) else "-"}
    where = {"changed": row["changed"], "held": row["held"], "from": row["from"], "to": row["to"]}
    return {**where, "saves": f"{row['reduction']:.1%}{doubts[0]}", **said, "effect": row["effect"]}


def _short_table(title: str, rows: list[dict[str, Any]], most: int = 40) -> Any:
    shown = title if len(rows) <= most else f"{title}; the first {most} of {len(rows)}, the others with -o or --json"
    return table(shown, rows[:most], ruled=False)
