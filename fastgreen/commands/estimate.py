"""``fastgreen estimate``, ``collect``, ``fit``, ``ablation``: energy of layers and networks, predicted and measured."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.markup import escape

from fastgreen.commands.measure import dump
from fastgreen.commands.wording import sentence
from fastgreen.errors import FastgreenError, FastgreenWarning
from fastgreen.report import bounds, people_console, plain_table, quantity
from fastgreen.units import counted

if TYPE_CHECKING:
    from fastgreen.estimate.network import Network

__all__ = ["ablation_command", "collect_command", "estimate_command", "fit_command"]

POOR = 0.3
PREDICTED = "[bold]predicted[/bold], not measured; these are joules of: "
MOST_BATCH = 2**31 - 1
MOST_BATCHES = 1_000_000
USER_ERRORS = (FastgreenError, ValueError, OverflowError, ImportError, OSError)


def _friendly(command: Callable[..., Any]) -> Callable[..., Any]:
    """A user's mistake is one sentence and exit code 1, not a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except USER_ERRORS as error:
            raise click.ClickException(sentence(error)) from error

    return run


class Shape(click.ParamType):
    name = "[NAME=]C,H,W[:DTYPE]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from fastgreen.estimate.inputs import InputShape

        try:
            return value if isinstance(value, InputShape) else InputShape.parse(value)
        except ValueError as error:
            self.fail(str(error).removeprefix("input_shape: "), param, ctx)


class Range(click.ParamType):
    name = "FROM:TO[:STEP]"

    def convert(self, value: Any, param: Any, ctx: Any) -> np.ndarray:
        if isinstance(value, np.ndarray):
            return value
        try:
            if ":" in value:
                first, last, *step = (int(one) for one in value.split(":"))
                found: Sequence[int] = range(first, last + 1, *step)
            else:
                found = [int(one) for one in value.split(",")]
            count = len(found)
        except (ValueError, TypeError, OverflowError):
            self.fail(f"{value!r} is neither FROM:TO[:STEP] nor whole numbers with commas between", param, ctx)
        if not 1 <= count <= MOST_BATCHES:
            self.fail(f"{value!r} has {'no batch size' if not count else f'more than {MOST_BATCHES}'}", param, ctx)
        if not 1 <= min(found) <= max(found) <= MOST_BATCH:
            self.fail(f"{value!r} has a batch size below 1 or above {MOST_BATCH}", param, ctx)
        return np.array(found)


class Accuracy(click.FloatRange):
    """A fraction; click's own range lets NaN pass."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        accuracy = float(super().convert(value, param, ctx))
        if accuracy != accuracy:
            self.fail(f"{value} is not in the range 0<=x<=1", param, ctx)
        return accuracy


@click.command("estimate")
@click.argument("model")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, MOST_BATCH), help="Batch size.")
@click.option("--models", "models_path", type=click.Path(dir_okay=False), help="Models of `fastgreen fit`.")
@click.option("--input-shape", "input_shapes", multiple=True, type=Shape(),
              help="Shape of one sample without the batch, as 3,224,224; again for each further input, "
                   "as ids=128:int64.")  # fmt: skip
@click.option("--accuracy", type=Accuracy(0, 1), help="Accuracy as a fraction; adds APC.")
@click.option("--grid", type=Range(), help="Price these batch sizes instead, a row each.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the table as an Arrow file.")
@click.option("--sweep", "sweep_path", type=click.Path(), help="With --grid: write APC over accuracy and batch.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False),
    help="Draw the share of energy by kind of layer; with --grid, energy by batch.",
)
@click.option("--strict", is_flag=True, help="Fail on a layer of unknown kind instead of counting it as 0 J.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_friendly
def estimate_command(
    model: str,
    batch: int,
    models_path: str | None,
    input_shapes: tuple[Any, ...],
    accuracy: float | None,
    grid: np.ndarray | None,
    output: str | None,
    sweep_path: str | None,
    picture: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Energy of MODEL by layer and in all, without running it.

    MODEL is an .onnx file, a list of layers (.json, .toml, .csv), alexnet, vgg11, vgg13 or vgg16, or
    package.module:name of a PyTorch module.
    """
    if grid is None and sweep_path:
        raise click.UsageError("--sweep needs --grid")
    network, said = _read_network(model, input_shapes, models_path, strict)
    if grid is not None:
        if sweep_path:
            network.sweep(grid, np.arange(0.005, 1.0, 0.01)).write(sweep_path)
        table = network.grid(grid, accuracy)
        if picture:
            from fastgreen.estimate.pictures import plot_grid

            plot_grid({network.name: table}).savefig(picture, dpi=150)
        _show_grid(table, output, as_json, said + _grid_warnings(network, table))
        return
    estimate = network.estimate(batch)
    estimate.warnings[:0] = said
    apc = None if accuracy is None else estimate.apc(accuracy)
    if output:
        _write(estimate.layers, output)
    if picture:
        from fastgreen.estimate.pictures import plot_shares

        plot_shares({f"{network.name}, batch {batch}": estimate}).savefig(picture, dpi=150)
    if as_json:
        dump(_as_mapping(estimate, apc))
    else:
        _show_estimate(estimate, accuracy, apc)


def _read_network(
    model: str, input_shapes: tuple[Any, ...], models_path: str | None, strict: bool
) -> tuple[Network, list[str]]:
    """The network, and what its reader warned of."""
    from fastgreen.estimate.modelfile import load_models
    from fastgreen.estimate.network import Network
    from fastgreen.estimate.plain import load_network

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FastgreenWarning)
        name, layers = load_network(model, input_shapes)
    said = [str(one.message) for one in caught if issubclass(one.category, FastgreenWarning)]
    return Network(layers, name, load_models(models_path) if models_path else None, strict), said


def _as_mapping(estimate: Any, apc: float | None) -> dict[str, Any]:
    names = ("name", "batch_size", "energy_j", "energy_low_j", "energy_high_j", "energy_per_inference_j")
    found = {name: getattr(estimate, name) for name in names}
    found |= {"consumption_wh": estimate.consumption_wh, "machine": estimate.machine, "predicted": True}
    found["fitted_on_estimates"] = estimate.estimated
    found |= {"warnings": estimate.warnings, "layers": estimate.layers.to_pylist()}
    return found if apc is None else {**found, "apc": apc}


def _show_estimate(estimate: Any, accuracy: float | None, apc: float | None) -> None:
    table = plain_table(f"{estimate.name}, batch {estimate.batch_size}", "layer", "MACs", "energy", "range", "share")
    table.add_column("basis", justify="left", overflow="fold")
    for row in estimate.layers.to_pylist():
        basis = row["basis"] + (f": {row['note']}" if row["note"] else "")
        span = bounds(row["energy_low_j"], row["energy_high_j"], "J")
        energy = quantity(row["energy_j"], "J", 3)
        table.add_row(row["name"], _count(row["macs"]), energy, span, f"{row['share']:.1%}", basis)
    console, batch = people_console(), estimate.batch_size
    console.print(table)
    whole = bounds(estimate.energy_low_j, estimate.energy_high_j, "J")
    single = bounds(estimate.energy_low_j / batch, estimate.energy_high_j / batch, "J")
    say = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    say(f"forward pass   {quantity(estimate.energy_j, 'J', 3)}  ({whole})")
    per_inference = quantity(estimate.energy_per_inference_j, "J", 3)
    say(f"per inference  {per_inference}  ({single}), {quantity(estimate.consumption_wh, 'Wh', 3)}")
    if apc is not None:
        say(f"APC            {apc:.6f} at accuracy {accuracy:g}")
    say(f"{PREDICTED}{escape(estimate.machine)}")
    say("for your own machine: fastgreen collect, then fastgreen fit, then --models")
    for warning in estimate.warnings:
        say(_warned(warning))


def _warned(text: str) -> str:
    return f"[yellow]warning:[/yellow] {escape(text)}"


def _show_grid(table: Any, output: str | None, as_json: bool, said: list[str]) -> None:
    if output:
        _write(table, output)
    rows = table.to_pylist()
    if as_json:
        dump(rows)
        for warning in said:
            people_console(stderr=True).print(_warned(warning), soft_wrap=True)
        return
    shown = plain_table("", *table.column_names)
    for row in rows[:20]:
        shown.add_row(*(f"{value:.6g}" for value in row.values()))
    console = people_console()
    console.print(shown)
    if len(rows) > 20:
        rest = f" in {output}" if output else "; -o writes them all"
        console.print(f"... {len(rows) - 20} more{rest}", markup=False)
    machine = table.schema.metadata[b"machine"].decode()
    console.print(f"{PREDICTED}{escape(machine)}", soft_wrap=True)
    for warning in said:
        console.print(_warned(warning), soft_wrap=True)


def _grid_warnings(network: Network, table: Any) -> list[str]:
    found = []
    for column, text in (
        ("outside_share", "in layers outside the range the models were fitted on"),
        ("stand_in_share", "in layers of a kind without a table, priced by a similar kind"),
    ):
        share = table[column].to_numpy()
        if share.max() > 0:
            found.append(f"{share.min():.1%} to {share.max():.1%} of the energy is {text}")
    return found + network.standing_warnings


def _write(table: Any, path: str) -> None:
    import pyarrow.ipc

    with pyarrow.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def _count(value: int) -> str:
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return str(value)


@click.command("collect")
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", default="layers", show_default=True, type=click.Path(file_okay=False), help="Folder.")
@click.option("--channels", help="Channels with commas between, as `fastgreen channels` lists them.")
@click.option("--dry-run", is_flag=True, help="Only say what would be measured.")
@_friendly
def collect_command(config: str, output: str, channels: str | None, dry_run: bool) -> None:
    """Measure the layers that CONFIG (TOML) asks for, on this machine; goes on where it was stopped."""
    import dataclasses

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fastgreen.estimate.collector import collect, read_rows
    from fastgreen.estimate.sampling import read_plan

    console = people_console(stderr=True)
    plan = read_plan(config)
    if channels:
        plan = dataclasses.replace(plan, channels=channels.split(","))
    console.print(f"{counted(len(plan.layers), 'configuration')}, about {plan.duration_s / 60:.1f} minutes of passes")
    if dry_run:
        return
    columns = (TextColumn("layers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("layers", total=len(plan.layers))
        path = collect(plan, output, progress=lambda done, _all: progress.update(task, completed=done))
    rows = read_rows(path)
    failed = sum(passes == 0 for passes in rows["passes"].to_pylist())
    marked = any(rows["estimated"].to_pylist())
    said = f"{path}: {counted(rows.num_rows, 'row')}, {failed} of configurations that could not run"
    console.print(said, markup=False)
    if marked:
        console.print("[yellow]estimated:[/yellow] no energy sensor was read; these energies come from CPU use")
    console.print(f"Next: fastgreen fit {output}", markup=False)


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
@_friendly
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
    if not (folder / "layers.arrow").exists():
        return f"the machine that {folder.name} was measured on"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "this machine"


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
    from fastgreen.estimate.pictures import plot_predicted
    from fastgreen.estimate.tables import read_networks

    folder.mkdir(parents=True, exist_ok=True)
    pairs = {kind: (table.energy_j, models.models[kind].predict_j(table.sizes)) for kind, table in tables.items()}
    plot_predicted(pairs, "layers that were fitted on").savefig(folder / "layers.png", dpi=150)
    if files:
        found = networks(read_networks(*files, repeats=repeats), models)
        names = found["name"]
        by_name = {
            str(name): (found["measured_j"][names == name], found["predicted_j"][names == name])
            for name in np.unique(names)
        }
        plot_predicted(by_name, "networks, never fitted on").savefig(folder / "networks.png", dpi=150)


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
@click.option("--most", type=click.IntRange(1), help="The largest subset to try.")
@click.option("--degree", default=1, show_default=True, type=click.IntRange(1, 2), help="2 adds products and squares.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many to print of each kind.")
@click.option("--jobs", default=-1, show_default=True, help="Processes; -1 for one a core.")
@click.option("-o", "--output", type=click.Path(file_okay=False), help="Write all subsets, an Arrow file per kind.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw R² by feature set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_friendly
def ablation_command(
    folder: str,
    kinds: tuple[str, ...],
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

    tables = read_tables(folder)
    if unknown := [kind for kind in kinds if kind not in tables]:
        raise click.UsageError(f"--kind: {unknown[0]!r} is not one of {', '.join(tables)}")
    found = {kind: ablation(tables[kind], most=most, degree=degree, jobs=jobs) for kind in kinds or tables}
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
        for kind, table in found.items():
            _write(table, str(Path(output) / f"{kind.lower()}.arrow"))
    if picture:
        from fastgreen.estimate.pictures import plot_ablation

        plot_ablation(found).savefig(picture, dpi=150)
    if as_json:
        dump({kind: table.slice(0, top).to_pylist() for kind, table in found.items()})
        return
    shown = plain_table("", "kind", "subsets", "R²")
    shown.add_column("features", justify="left", overflow="fold")
    for kind, table in found.items():
        for row in table.slice(0, top).to_pylist():
            shown.add_row(kind, str(table.num_rows), f"{row['r2']:.5f}", ", ".join(row["features"]))
    people_console().print(shown)
