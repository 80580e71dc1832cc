"""``fastgreen estimate``: energy of a network, predicted from its layers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.markup import escape

from fastgreen.commands.measure import dump
from fastgreen.commands.wording import sentence
from fastgreen.errors import FastgreenError, FastgreenWarning
from fastgreen.results.console import bounds, people_console, plain_table, quantity

if TYPE_CHECKING:
    from fastgreen.estimate.network import Network

__all__ = ["estimate_command", "friendly", "warned", "write"]

PREDICTED = "[bold]predicted[/bold], not measured; these are joules of: "
MOST_BATCH = 2**31 - 1
MOST_BATCHES = 1_000_000
USER_ERRORS = (FastgreenError, ValueError, OverflowError, ImportError, OSError)


def friendly(command: Callable[..., Any]) -> Callable[..., Any]:
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
@friendly
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
            from fastgreen.estimate.pictures import draw_grid
            from fastgreen.plot import finish

            finish(draw_grid({network.name: table}), picture, dpi=150)
        _show_grid(table, output, as_json, said + _grid_warnings(network, table))
        return
    estimate = network.estimate(batch)
    estimate.warnings[:0] = said
    apc = None if accuracy is None else estimate.apc(accuracy)
    if output:
        write(estimate.layers, output)
    if picture:
        from fastgreen.estimate.pictures import draw_shares
        from fastgreen.plot import finish

        finish(draw_shares({f"{network.name}, batch {batch}": estimate}), picture, dpi=150)
    if as_json:
        dump(_as_mapping(estimate, apc))
    else:
        _show_estimate(estimate, accuracy, apc, own=models_path is not None)


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


def _show_estimate(estimate: Any, accuracy: float | None, apc: float | None, own: bool) -> None:
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
    if not own:
        say("for your own machine: fastgreen collect, then fastgreen fit, then --models")
    for warning in estimate.warnings:
        say(warned(warning))


def warned(text: str) -> str:
    return f"[yellow]warning:[/yellow] {escape(text)}"


def _show_grid(table: Any, output: str | None, as_json: bool, said: list[str]) -> None:
    if output:
        write(table, output)
    rows = table.to_pylist()
    if as_json:
        dump(rows)
        for warning in said:
            people_console(stderr=True).print(warned(warning), soft_wrap=True)
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
        console.print(warned(warning), soft_wrap=True)


def _grid_warnings(network: Network, table: Any) -> list[str]:
    found = []
    for column, text in (
        ("outside_share", "in layers outside the range the models were fitted on"),
        ("stand_in_share", "in layers of a kind without a table, priced by a similar kind"),
    ):
        share = table[column].to_numpy()
        if share.any():
            found.append(f"{share.min():.1%} to {share.max():.1%} of the energy is {text}")
    return found + network.standing_warnings


def write(table: Any, path: str) -> None:
    from fastgreen.table_files import save_arrow

    save_arrow(table, path)


def _count(value: int) -> str:
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return str(value)
