"""``fastgreen collect``, ``fit``, ``ablation``: measured layers, and models of their energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.text import Text

from fastgreen.commands.common import (
    InputPath,
    JsonAnswer,
    OutputPath,
    channel_option,
    json_options,
    of_file,
    say,
    split_channels,
    table,
    warned,
)
from fastgreen.progress_bar import progress_bar
from fastgreen.results.console import people_console
from fastgreen.table_files import save_table
from fastgreen.units import counted

__all__ = ["ablation_command", "collect_command", "fit_command"]

POOR = 0.3
WHOLE = ("networks, layer-wise files", "networks, all files")
SETS = ("basic", "caches", "rows", "kernel", "library")
INTERRUPTED = 130  # what a shell gives for SIGINT


@click.command("collect")
@click.argument("config", required=False, type=InputPath(dir_okay=False))
@click.option("--preset", type=click.Choice(["transformers"]),
              help="A plan of the package instead of CONFIG. transformers: the layers of language models.")  # fmt: skip
@click.option("-o", "--output", default="layers", show_default=True, type=OutputPath(file_okay=False),
              help="Folder for the table of layers.")  # fmt: skip
@channel_option()
@click.option(
    "--channels", "more_channels", multiple=True, callback=split_channels, hidden=True, help="Old name of --channel."
)
@click.option("--dry-run", is_flag=True, help="Print the number of layers and the time, and measure nothing.")
def collect_command(
    config: str | None,
    preset: str | None,
    output: str,
    channels: list[str] | None,
    more_channels: list[str] | None,
    dry_run: bool,
) -> None:
    """Measure layers on this machine, for `fastgreen fit`.

    CONFIG is a TOML file that lists the layers. The same command continues a measurement that was stopped.
    """
    import dataclasses

    from fastgreen.estimate.collector import collect
    from fastgreen.estimate.sampling import PRESETS, read_plan

    if (config is None) == (preset is None):
        raise click.UsageError("give either CONFIG or --preset")
    console = people_console(stderr=True)
    with of_file():
        plan = read_plan(config or PRESETS[str(preset)])
    if channels or more_channels:
        plan = dataclasses.replace(plan, channels=[*(channels or []), *(more_channels or [])])
    time = f"{plan.duration_s:.0f} seconds" if plan.duration_s < 120 else f"{plan.duration_s / 60:.0f} minutes"
    console.print(f"{counted(len(plan.layers), 'configuration')}, about {time} of passes")
    if dry_run:
        return
    reached = 0

    def show_progress(done: int, _all: int) -> None:
        nonlocal reached
        reached, before = done, reached
        advance(done - before)

    try:
        with progress_bar("layers", len(plan.layers)) as advance:
            path = collect(plan, output, progress=show_progress)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command continues with the rest, in {output}", markup=False)
        raise SystemExit(INTERRUPTED) from None
    _show_collected(path, output)


def _show_collected(path: Path, output: str) -> None:
    from fastgreen.estimate.layerfile import read_rows

    rows = read_rows(path)
    reasons = dict.fromkeys(reason for reason in rows["failure"].to_pylist() if reason is not None)
    failed = rows.num_rows - rows["failure"].null_count
    say(f"{path}: {counted(rows.num_rows, 'row')}", err=True)
    if reasons:
        said = f"{counted(failed, 'row')} of layers that could not run: {'; '.join(reasons)}"
        say(warned(said), err=True)
    if any(rows["estimated"].to_pylist()):
        said = " no energy sensor was read; these energies come from CPU use"
        say(Text.assemble(("estimated:", "yellow"), said), err=True)
    say(f"Next: fastgreen fit {output} -o models.json", err=True)


@click.command("fit")
@click.argument("folder", type=InputPath(file_okay=False))
@click.option("-o", "--output", type=OutputPath(dir_okay=False), help="Write the models to this file (JSON).")
@click.option(
    "--preset", type=click.Choice(["physical", *SETS, "published"]), default="physical", show_default=True,
    help="physical: non-negative prices of the terms that cross-validation chooses for each kind of layer; "
         "basic, caches, kernel, library: non-negative prices of these terms; published: the seven published "
         "regressions.",
)  # fmt: skip
@channel_option("Channel to fit; for published tables, the column.  [default: all that count toward a total]")
@click.option("--machine", help="Name of the machine that was measured.")
@click.option("--source", help="Origin of the measurements, and their licence.")
@click.option("--repeats", type=click.Choice(["agreeing", "all", "median"]), default="agreeing", show_default=True,
              help="Repeats of measured networks to average.")  # fmt: skip
@click.option(
    "--pictures", type=OutputPath(file_okay=False), help="Draw predicted against measured energy, into this folder."
)
@json_options()
def fit_command(
    folder: str,
    output: str | None,
    preset: str,
    channels: list[str] | None,
    machine: str | None,
    source: str | None,
    repeats: str,
    pictures: str | None,
    answer: JsonAnswer,
) -> None:
    """Fit energy models to measured layers, and score them.

    FOLDER holds the table of `fastgreen collect`, or published tables (conv2d.csv, ...). Its measured networks
    (*_architectures-*.csv) test the models; no model is fitted to them.
    """
    from fastgreen.estimate.modelfile import ModelSet, fit_physical
    from fastgreen.estimate.published import fit_published
    from fastgreen.estimate.tables import read_tables

    channel = _one_channel(channels)
    with of_file():
        tables = read_tables(folder, channel)
    about: dict[str, Any] = {
        "machine": machine or _machine(Path(folder)),
        "source": source or str(Path(folder).name),
        "estimated": any(table.estimated for table in tables.values()),
    }
    with progress_bar("fitting", None):
        if preset == "published":
            models = ModelSet(fit_published(tables), **about)
        else:
            models = fit_physical(tables, None if preset == "physical" else preset, **about)
        rows = _layer_scores(tables, models, preset)
    files = sorted(Path(folder).glob("*_architectures-*.csv"))
    if files:
        inside, whole = _network_scores(files, tables, models, preset, repeats)
        rows = inside + rows + whole
    chosen = {kind: model.which for kind, model in models.models.items() if hasattr(model, "which")}
    if pictures:
        _draw_fit(Path(pictures), tables, files, models, repeats)
    if output:
        models.save(output)
    if answer.give(lambda: {**about, "terms": chosen, "scores": rows}):
        return
    _show_scores(rows, about, chosen, warn=preset != "published")
    if output:
        click.echo(f"{output}: models of {', '.join(models.models)}")


def _one_channel(channels: list[str] | None) -> str | None:
    if channels and len(channels) > 1:
        raise click.UsageError("--channel must be one channel: one table holds one energy")
    return channels[0] if channels else None


def _machine(folder: Path) -> str:
    """Where the layers in a folder were measured, as far as it says."""
    from fastgreen.estimate.layerfile import read_conditions

    collected = folder / "layers.arrow"
    named = read_conditions(collected).get("machine") if collected.exists() else None
    return str(named or f"the machine that {folder.resolve().name} was measured on")


def _layer_scores(tables: dict[str, Any], models: Any, preset: str) -> list[dict[str, Any]]:
    from fastgreen.estimate.baseline import mac_price, table_by_mac
    from fastgreen.estimate.evaluate import cross_validate, extrapolate, split_scores
    from fastgreen.estimate.published import PRESET

    tests = split_scores(tables, None if preset == "physical" else preset)
    price = mac_price(tables)
    rows = []
    for kind, measured in tables.items():
        what = PRESET[kind] if preset == "published" else models.models[kind].which
        cross, ends = cross_validate(measured, what), extrapolate(measured, what)
        row = {"what": f"{kind}, cross-validated", **vars(cross)}
        rows.append(row | _by_mac(table_by_mac(measured, price)))
        rows.append({"what": f"{kind}, least and most energy left out", **vars(ends)})
        if kind in tests:
            rows.append({"what": f"{kind}, test rows", **vars(tests[kind])})
    return rows


def _by_mac(pair: tuple[np.ndarray, np.ndarray] | None) -> dict[str, Any]:
    """The score of the simplest predictor, one price per multiply-accumulate; nothing where it predicts nothing."""
    from fastgreen.estimate.evaluate import score

    if pair is None or not np.isfinite(pair[1]).all():
        return {}
    simplest = score(*pair)
    return {"mac_r2": simplest.r2, "mac_mape": simplest.mape}


def _network_scores(
    files: list[Path], tables: dict[str, Any], models: Any, preset: str, repeats: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Scores of single layers inside networks, and of whole networks."""
    from fastgreen.estimate.baseline import layers_by_mac, mac_price, networks_by_mac
    from fastgreen.estimate.evaluate import layer_ranges, networks, score
    from fastgreen.estimate.tables import read_networks

    layered = [path for path in files if "layerwise" in path.name]
    groups = {WHOLE[0]: layered} if layered else {}
    if len(files) > len(layered):
        groups[WHOLE[1]] = files
    price, whole, inside = mac_price(tables), [], []
    for name, paths in groups.items():
        measured = read_networks(*paths, repeats=repeats)
        found, simple = networks(measured, models, stand_ins=preset != "published"), networks_by_mac(measured, price)
        row = {"what": name, **vars(score(found["measured_j"], found["predicted_j"]))}
        whole.append(row | _by_mac((simple["measured_j"], simple["predicted_j"])))
    if layered:
        measured = read_networks(*layered, repeats=repeats)
        simplest = layers_by_mac(measured, price)
        for kind, (energy, predicted, low, high, outside) in layer_ranges(measured, models).items():
            if kind not in models.models:
                continue
            row = {"what": f"networks, their {kind}", **vars(score(energy, predicted)), **_by_mac(simplest.get(kind))}
            if (fitted := outside == 0).any():
                row["in_range"] = float(((low <= energy) & (energy <= high))[fitted].mean())
            inside.append(row)
    return inside, whole


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


def _show_scores(rows: list[dict[str, Any]], about: dict[str, Any], chosen: dict[str, str], warn: bool) -> None:
    simple, ranged = any("mac_mape" in row for row in rows), any("in_range" in row for row in rows)
    shown = [
        {
            "what": row["what"],
            "rows": str(row["rows"]),
            "mean abs. error": f"{row['mape']:.1%}",
            **({"by MACs alone": _share(row.get("mac_mape"))} if simple else {}),
            **({"in range": _share(row.get("in_range"), 0)} if ranged else {}),
            "R²": f"{row['r2']:.4f}",
            **({"R² by MACs": f"{row['mac_r2']:.4f}" if "mac_r2" in row else ""} if simple else {}),
            "MSE (J²)": f"{row['mse']:.4g}",
        }
        for row in rows
    ]
    estimated = " (estimated, no sensor was read)" if about["estimated"] else ""
    say(table("", shown), f"joules of: {about['machine']}{estimated}")
    if chosen:
        say(f"terms: {', '.join(f'{kind} {which}' for kind, which in chosen.items())}")
    whole = [row for row in rows if row["what"] in WHOLE]
    if whole and "mac_mape" in whole[0]:
        say(
            f"One price per multiply-accumulate gives R² {whole[0]['mac_r2']:.3f} and {whole[0]['mac_mape']:.1%} over "
            "whole networks, so R² there says little. Look at the errors of single layers."
        )
    for row in rows:
        if warn and row["what"].endswith("cross-validated") and row["mape"] > POOR:
            say(warned(f"{row['what']}: {row['mape']:.0%} off; too few rows, or too much noise"))


def _share(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}%}"


@click.command("ablation")
@click.argument("folder", type=InputPath(file_okay=False))
@click.option(
    "--kind", "kinds", multiple=True, help="Kind of layer, such as Linear; repeat it for more.  [default: all]"
)
@channel_option("Channel to explain; for published tables, the column.  [default: all that count toward a total]")
@click.option("--most", type=click.IntRange(1), help="Largest number of features in one subset.")
@click.option(
    "--degree",
    default=1,
    show_default=True,
    type=click.IntRange(1, 2),
    help="Degree of the polynomial: 2 adds products and squares.",
)
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Subsets to print for each kind.")
@click.option("--jobs", default=-1, show_default=True, help="Processes; -1 means one per core.")
@click.option(
    "-o",
    "--output",
    type=OutputPath(file_okay=False),
    help="Write all subsets to this folder, one Arrow file per kind.",
)
@click.option("--picture", type=OutputPath(dir_okay=False), help="Draw R² by feature set.")
@json_options()
def ablation_command(
    folder: str,
    kinds: tuple[str, ...],
    channels: list[str] | None,
    most: int | None,
    degree: int,
    top: int,
    jobs: int,
    output: str | None,
    picture: str | None,
    answer: JsonAnswer,
) -> None:
    """Find the features of layers that explain energy best.

    For every subset of features, the command cross-validates a least-squares model on the layer tables in FOLDER.
    """
    from fastgreen.estimate.subsets import ablation
    from fastgreen.estimate.tables import read_tables

    channel = _one_channel(channels)
    with of_file():
        tables = read_tables(folder, channel)
    if unknown := [kind for kind in kinds if kind not in tables]:
        raise click.UsageError(f"--kind: {unknown[0]!r} is not one of {', '.join(tables)}")
    found = {kind: ablation(tables[kind], most=most, degree=degree, jobs=jobs) for kind in kinds or tables}
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
        for kind, subsets in found.items():
            save_table(subsets, Path(output) / f"{kind.lower()}.arrow")
    if picture:
        from fastgreen.estimate.pictures import draw_ablation
        from fastgreen.plot import finish

        finish(draw_ablation(found), picture, dpi=150)
    if answer.give(lambda: {kind: subsets.slice(0, top).to_pylist() for kind, subsets in found.items()}):
        return
    shown = [
        {
            "kind": kind,
            "subsets": subsets.num_rows,
            "R²": f"{row['r2']:.5f}",
            "features": ", ".join(row["features"]),
        }
        for kind, subsets in found.items()
        for row in subsets.slice(0, top).to_pylist()
    ]
    say(table("", shown))
