"""``fastgreen compile``: the tables and pictures of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastgreen.commands.common import JsonAnswer, json_options, say, table
from fastgreen.commands.cost_options import CostOptions, cost_options
from fastgreen.results.console import money, quantity
from fastgreen.units import counted, two_digits

__all__ = ["compile_"]

# Column of a size -> (heading, unit); a column that the study lacks is left out.
_SHOWN = {
    "size": ("size", None),
    "runs": ("runs", None),
    "failed": ("failed", None),
    "energy_j": ("energy", "J"),
    "energy_low_j": ("low", "J"),
    "energy_high_j": ("high", "J"),
    "precision": ("known to", "%"),
    "batch": ("batch", None),
    "energy_per_sample_j": ("per sample", "J"),
    "latency_s": ("latency", "s"),
    "throughput_per_s": ("throughput", "1/s"),
    "mean_power_w": ("power", "W"),
    "cost": ("cost", "money"),
    "carbon_g": ("CO2e", "g"),
    "sci_g": ("SCI", "g"),
}


@click.command("compile")
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for tables and pictures.  [default: compiled, inside STUDY]",
)
@click.option("--no-pictures", is_flag=True, help="Write tables only.")
@click.option(
    "--rule",
    type=click.Choice(["integral", "aipowermeter"]),
    default="integral",
    show_default=True,
    help="Energy of runs of AIPowerMeter: the integral of the power, or AIPowerMeter's own median of steps.",
)
@cost_options(scores=False)
@json_options()
def compile_(
    folder: Path, output: Path | None, no_pictures: bool, rule: str, costing: CostOptions, answer: JsonAnswer
) -> None:
    """Make the tables and pictures of a study.

    The tables have one row per size, with medians and spreads, and the correlations over the sizes. STUDY is a folder
    of `fastgreen bench` or of AIPowerMeter, with the runs in input_<size>/run_<k>/.
    """
    from fastgreen.experiment.compile import compile_study, sample_run

    compiled = compile_study(folder, costing.costs, rule)
    if not any(compiled.sizes.column("runs").to_pylist()):
        runs = counted(sum(compiled.sizes.column("failed").to_pylist()), "run")
        why = "".join(compiled.notes[:1])
        raise click.ClickException(f"{folder}: 0 of {runs} succeeded; {why}")
    target = output or folder / "compiled"
    files = compiled.save(target)
    if not no_pictures:
        from fastgreen.experiment.pictures import draw_study

        name, sample = sample_run(folder) or ("", None)
        files += draw_study(compiled, target, sample=sample, name=name)
    if answer.give(lambda: _as_mapping(compiled, files)):
        return
    rows = [_shown(row, costing.costs.currency) for row in compiled.sizes.to_pylist()]
    title = f"{compiled.name}: medians per inference" + (", ESTIMATED, not measured" if compiled.estimated else "")
    related = _with_energy(compiled)
    say(table(title, rows, ruled=False), *(["", related] if related else []), *compiled.notes)
    say(f"tables{'' if no_pictures else ' and pictures'}: {target}")


def _shown(row: dict[str, Any], currency: str) -> dict[str, Any]:
    """A row for people: "2.854 uJ"."""
    out = {}
    for name, (heading, unit) in _SHOWN.items():
        if name not in row:
            continue
        value = row[name]
        if unit == "money":
            out[heading] = "-" if value is None else money(value, currency)
        elif unit == "%":
            out[heading] = "-" if value is None else f"±{two_digits(100 * value)} %"
        elif unit == "1/s":
            out[heading] = "-" if value is None else f"{value:.4g} /s"
        else:
            out[heading] = value if unit is None else quantity(value, unit)
    return out


def _as_mapping(compiled: Any, files: list[Path]) -> dict[str, Any]:
    tables = {name: getattr(compiled, name).to_pylist() for name in ("sizes", "channels", "pearson", "spearman")}
    return {**tables, "notes": compiled.notes, "estimated": compiled.estimated, "files": list(map(str, files))}


def _with_energy(compiled: Any) -> Any:
    """A table of correlations with the energy of an inference over the sizes; None where no correlation is known."""
    names = compiled.pearson.column("column").to_pylist()
    if "energy_j" not in names:
        return None
    pairs = zip(
        *(matrix.column("energy_j").to_pylist() for matrix in (compiled.pearson, compiled.spearman)), strict=True
    )
    rows = [
        {"over the sizes": name, "Pearson": _places(pearson), "Spearman": _places(spearman)}
        for name, (pearson, spearman) in zip(names, pairs, strict=True)
        if name != "energy_j" and pearson is not None
    ]
    return table("correlation with energy_j", rows, ruled=False) if rows else None


def _places(value: float) -> str:
    return f"{value:.3f}"
