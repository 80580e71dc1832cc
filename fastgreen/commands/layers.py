"""``fastgreen collect``, ``fit``, ``ablation``: layers measured on one's own machine, and models of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.markup import escape

from fastgreen.commands.estimate import friendly, warned, write
from fastgreen.commands.measure import dump
from fastgreen.results.console import people_console, plain_table
from fastgreen.units import counted

__all__ = ["ablation_command", "collect_command", "fit_command"]

POOR = 0.3
INTERRUPTED = 130  # what a shell gives for SIGINT


@click.command("collect")
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", default="layers", show_default=True, type=click.Path(file_okay=False), help="Folder.")
@click.option("--channels", help="Channels with commas between, as `fastgreen channels` lists them.")
@click.option("--dry-run", is_flag=True, help="Only say what would be measured.")
@friendly
def collect_command(config: str, output: str, channels: str | None, dry_run: bool) -> None:
    """Measure the layers that CONFIG (TOML) asks for, on this machine; goes on where it was stopped."""
    import dataclasses

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fastgreen.estimate.collector import collect
    from fastgreen.estimate.sampling import read_plan

    console = people_console(stderr=True)
    plan = read_plan(config)
    if channels:
        plan = dataclasses.replace(plan, channels=channels.split(","))
    time = f"{plan.duration_s:.0f} seconds" if plan.duration_s < 120 else f"{plan.duration_s / 60:.0f} minutes"
    console.print(f"{counted(len(plan.layers), 'configuration')}, about {time} of passes")
    if dry_run:
        return
    columns = (TextColumn("layers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("layers", total=len(plan.layers))
        try:
            path = collect(plan, output, progress=lambda done, _all: progress.update(task, completed=done))
        except KeyboardInterrupt:
            progress.stop()
            console.print(f"stopped; the same command goes on, and what is done is in {output}", markup=False)
            raise SystemExit(INTERRUPTED) from None
    _show_collected(path, output)


def _show_collected(path: Path, output: str) -> None:
    from fastgreen.estimate.layerfile import read_rows

    console, rows = people_console(stderr=True), read_rows(path)
    reasons = dict.fromkeys(reason for reason in rows["failure"].to_pylist() if reason is not None)
    failed = rows.num_rows - rows["failure"].null_count
    console.print(f"{path}: {counted(rows.num_rows, 'row')}", markup=False)
    if reasons:
        said = f"{counted(failed, 'row')} of layers that could not run: {'; '.join(reasons)}"
        console.print(warned(said), soft_wrap=True)
    if any(rows["estimated"].to_pylist()):
        console.print("[yellow]estimated:[/yellow] no energy sensor was read; these energies come from CPU use")
    console.print(f"Next: fastgreen fit {output} -o models.json", markup=False)


@click.command("fit")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the models (JSON).")
@click.option(
    "--preset", type=click.Choice(["physical", "basic", "published"]), default="physical", show_default=True,
    help="Physical on kernel terms, physical on basic terms, or the seven published regressions.",
)  # fmt: skip
@click.option("--channel", help="Channel (or, of published tables, column) whose energy to fit.")
@click.option("--machine", help="What to call the machine whose joules these are.")
@click.option("--source", help="Where the measurements are from, and their licence.")
@click.option("--repeats", type=click.Choice(["agreeing", "all", "median"]), default="agreeing", show_default=True,
              help="Which repeats of measured networks to average.")  # fmt: skip
@click.option("--pictures", type=click.Path(file_okay=False), help="Draw predicted against measured into this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@friendly
def fit_command(
    folder: str,
    output: str | None,
    preset: str,
    channel: str | None,
    machine: str | None,
    source: str | None,
    repeats: str,
    pictures: str | None,
    as_json: bool,
) -> None:
    """Fit models on the layer tables in FOLDER and say how good they are.

    FOLDER holds what `fastgreen collect` wrote, or published tables (conv2d.csv, ...). Measured networks in it
    (*_architectures-*.csv) are only compared with, never fitted on.
    """
    from fastgreen.estimate.modelfile import ModelSet, fit_physical
    from fastgreen.estimate.published import fit_published
    from fastgreen.estimate.tables import read_networks, read_tables

    tables = read_tables(folder, channel)
    about: dict[str, Any] = {
        "machine": machine or _machine(Path(folder)),
        "source": source or str(Path(folder).name),
        "estimated": any(table.estimated for table in tables.values()),
    }
    if preset == "published":
        models = ModelSet(fit_published(tables), **about)
    else:
        models = fit_physical(tables, "kernel" if preset == "physical" else "basic", **about)
    rows = _layer_scores(tables, preset)
    files = sorted(Path(folder).glob("*_architectures-*.csv"))
    if files:
        rows += _network_scores(files, models, preset, repeats, read_networks)
    if pictures:
        _draw_fit(Path(pictures), tables, files, models, repeats)
    if output:
        models.save(output)
    if as_json:
        dump({**about, "scores": rows})
        return
    _show_scores(rows, about, warn=preset != "published")
    if output:
        click.echo(f"{output}: models of {', '.join(models.models)}")


def _machine(folder: Path) -> str:
    """Where the layers in a folder were measured, as far as it says."""
    from fastgreen.estimate.layerfile import read_conditions

    collected = folder / "layers.arrow"
    named = read_conditions(collected).get("machine") if collected.exists() else None
    return str(named or f"the machine that {folder.name} was measured on")


def _layer_scores(tables: dict[str, Any], preset: str) -> list[dict[str, Any]]:
    from fastgreen.estimate.evaluate import cross_validate, extrapolate, split_scores
    from fastgreen.estimate.physical import choose_terms
    from fastgreen.estimate.published import PRESET

    which = {"physical": "kernel", "basic": "basic", "published": "published"}[preset]
    tests = split_scores(tables, which)
    rows = []
    for kind, table in tables.items():
        what = PRESET[kind] if preset == "published" else choose_terms(table, which)
        cross, ends = cross_validate(table, what), extrapolate(table, what)
        rows.append({"what": f"{kind}, cross-validated", **vars(cross)})
        rows.append({"what": f"{kind}, least and most energy left out", **vars(ends)})
        if kind in tests:
            rows.append({"what": f"{kind}, test rows", **vars(tests[kind])})
    return rows


def _network_scores(files: list[Path], models: Any, preset: str, repeats: str, read: Any) -> list[dict[str, Any]]:
    from fastgreen.estimate.evaluate import networks, networks_by_layer, score

    rows = []
    layered = [path for path in files if "layerwise" in path.name]
    groups = {"layer-wise files": layered} if layered else {}
    if len(files) > len(layered):
        groups["all files"] = files
    for name, paths in groups.items():
        measured = read(*paths, repeats=repeats)
        found = networks(measured, models, stand_ins=preset != "published")
        rows.append({"what": f"networks, {name}", **vars(score(found["measured_j"], found["predicted_j"]))})
    if layered:
        pairs = networks_by_layer(read(*layered, repeats=repeats), models)
        for kind, (energy, predicted) in pairs.items():
            if kind in models.models:
                rows.append({"what": f"networks, their {kind}", **vars(score(energy, predicted))})
    return rows


def _draw_fit(folder: Path, tables: dict[str, Any], files: list[Path], models: Any, repeats: str) -> None:
    from fastgreen.estimate.evaluate import networks
    from fastgreen.estimate.pictures import draw_predicted
    from fastgreen.estimate.tables import read_networks
    from fastgreen.plot import finish

    folder.mkdir(parents=True, exist_ok=True)
    pairs = {kind: (table.energy_j, models.models[kind].predict_j(table.sizes)) for kind, table in tables.items()}
    finish(draw_predicted(pairs, "layers that were fitted on"), folder / "layers.png", dpi=150)
    if files:
        found = networks(read_networks(*files, repeats=repeats), models)
        names = found["name"]
        by_name = {
            str(name): (found["measured_j"][names == name], found["predicted_j"][names == name])
            for name in np.unique(names)
        }
        finish(draw_predicted(by_name, "networks, never fitted on"), folder / "networks.png", dpi=150)


def _show_scores(rows: list[dict[str, Any]], about: dict[str, Any], warn: bool) -> None:
    shown = plain_table("", "what", "rows", "R²", "MSE (J²)", "mean abs. error")
    for row in rows:
        shown.add_row(row["what"], str(row["rows"]), f"{row['r2']:.4f}", f"{row['mse']:.4g}", f"{row['mape']:.1%}")
    console = people_console()
    console.print(shown)
    estimated = " (estimated, no sensor was read)" if about["estimated"] else ""
    console.print(f"joules of: {escape(about['machine'])}{estimated}", soft_wrap=True)
    for row in rows:
        if warn and row["what"].endswith("cross-validated") and row["mape"] > POOR:
            off = f"{escape(row['what'])}: {row['mape']:.0%} off"
            console.print(f"[yellow]warning:[/yellow] {off}; too few rows, or too noisy")


@click.command("ablation")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--kind", "kinds", multiple=True, help="Kind of layer; all without it.")
@click.option("--channel", help="Channel (or, of published tables, column) whose energy to explain.")
@click.option("--most", type=click.IntRange(1), help="The largest subset to try.")
@click.option("--degree", default=1, show_default=True, type=click.IntRange(1, 2), help="2 adds products and squares.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many to print of each kind.")
@click.option("--jobs", default=-1, show_default=True, help="Processes; -1 for one a core.")
@click.option("-o", "--output", type=click.Path(file_okay=False), help="Write all subsets, an Arrow file per kind.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw R² by feature set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@friendly
def ablation_command(
    folder: str,
    kinds: tuple[str, ...],
    channel: str | None,
    most: int | None,
    degree: int,
    top: int,
    jobs: int,
    output: str | None,
    picture: str | None,
    as_json: bool,
) -> None:
    """Cross-validated R² of least squares on every subset of the features of the layer tables in FOLDER."""
    from fastgreen.estimate.subsets import ablation
    from fastgreen.estimate.tables import read_tables

    tables = read_tables(folder, channel)
    if unknown := [kind for kind in kinds if kind not in tables]:
        raise click.UsageError(f"--kind: {unknown[0]!r} is not one of {', '.join(tables)}")
    found = {kind: ablation(tables[kind], most=most, degree=degree, jobs=jobs) for kind in kinds or tables}
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
        for kind, table in found.items():
            write(table, str(Path(output) / f"{kind.lower()}.arrow"))
    if picture:
        from fastgreen.estimate.pictures import draw_ablation
        from fastgreen.plot import finish

        finish(draw_ablation(found), picture, dpi=150)
    if as_json:
        dump({kind: table.slice(0, top).to_pylist() for kind, table in found.items()})
        return
    shown = plain_table("", "kind", "subsets", "R²")
    shown.add_column("features", justify="left", overflow="fold")
    for kind, table in found.items():
        for row in table.slice(0, top).to_pylist():
            shown.add_row(kind, str(table.num_rows), f"{row['r2']:.5f}", ", ".join(row["features"]))
    people_console().print(shown)
