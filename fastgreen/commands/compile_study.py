"""``fastgreen compile``: the tables and pictures of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastgreen.commands.common import JsonAnswer, json_options, say, table
from fastgreen.units import counted

__all__ = ["compile_"]

_SHOWN = (
    "size",
    "runs",
    "failed",
    "energy_j",
    "energy_low_j",
    "energy_high_j",
    "latency_s",
    "throughput_per_s",
    "mean_power_w",
)


@click.command("compile")
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for tables and pictures.  [default: compiled, inside STUDY]",
)
@click.option("--no-pictures", is_flag=True, help="Write tables only.")
@json_options()
def compile_(folder: Path, output: Path | None, no_pictures: bool, answer: JsonAnswer) -> None:
    """Make the tables and pictures of a study.

    The tables have one row per size, with medians and spreads, and the correlations over the sizes. STUDY is a folder
    of `fastgreen bench` or of AIPowerMeter, with the runs in input_<size>/run_<k>/.
    """
    from fastgreen.experiment.compile import compile_study, sample_run

    compiled = compile_study(folder)
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
    rows = [{name: row[name] for name in _SHOWN} for row in compiled.sizes.to_pylist()]
    title = f"{compiled.name}: medians per inference" + (", ESTIMATED, not measured" if compiled.estimated else "")
    related = _with_energy(compiled)
    say(table(title, rows, ruled=False), *(["", related] if related else []), *compiled.notes)
    say(f"tables{'' if no_pictures else ' and pictures'}: {target}")


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
