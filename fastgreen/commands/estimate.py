"""``fastgreen estimate``: energy of a network, predicted from its layers."""

from __future__ import annotations

import math
import os
import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.text import Text

from fastgreen.commands.common import (
    JsonAnswer,
    OutputPath,
    json_options,
    load_object,
    names_object,
    of_file,
    say,
    table,
    warned,
)
from fastgreen.commands.generations import answer_generation, names_transformer
from fastgreen.commands.ranges import Range
from fastgreen.errors import FastgreenWarning
from fastgreen.results.console import quantity, with_bounds
from fastgreen.table_files import save_table

if TYPE_CHECKING:
    from fastgreen.estimate.network import Network

__all__ = ["estimate_command"]

_ROWS_SHOWN = 20  # of a grid
_ENDINGS = (".onnx", ".json", ".toml", ".csv")
MOST_BATCH = 2**31 - 1
MOST_BATCHES = 1_000_000
MOST_TOKENS = 2**24


class Shape(click.ParamType):
    name = "[NAME=]C,H,W[:DTYPE]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from fastgreen.estimate.inputs import InputShape

        try:
            return value if isinstance(value, InputShape) else InputShape.parse(value)
        except ValueError as error:
            self.fail(str(error).removeprefix("input_shape: "), param, ctx)


class Accuracy(click.FloatRange):
    """A fraction; click's own range lets NaN pass."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        accuracy = float(super().convert(value, param, ctx))
        if accuracy != accuracy:
            self.fail(f"{value} is not in the range 0<=x<=1", param, ctx)
        return accuracy


@click.command("estimate")
@click.argument("model")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, MOST_BATCH), help="Samples in one batch.")
@click.option(
    "--models", "models_path", type=OutputPath(dir_okay=False), help="Use these models, written by `fastgreen fit`."
)
@click.option("--input-shape", "input_shapes", multiple=True, type=Shape(),
              help="Shape of one sample without the batch, such as 3,224,224. Repeat it for each further input, "
                   "such as ids=128:int64.")  # fmt: skip
@click.option("--accuracy", type=Accuracy(0, 1), help="Accuracy of the network, as a fraction; adds APC.")
@click.option("--alpha", default=0.1, show_default=True, help="For APC: weight of energy spent on right answers.")
@click.option("--beta", default=1.0, show_default=True, help="For APC: weight of one Wh per inference.")
@click.option(
    "--grid",
    type=Range(whole=True, least=1, most=MOST_BATCH, most_numbers=MOST_BATCHES),
    help="Predict for these batch sizes, one row each: START:STOP[:STEP] (STOP included) or A,B,C.",
)
@click.option(
    "-o", "--output", type=OutputPath(dir_okay=False), help="Write the table to this file: .csv, .parquet or Arrow."
)
@click.option(
    "--sweep", "sweep_path", type=click.Path(), help="With --grid: write APC over accuracy and batch size to this file."
)
@click.option(
    "--picture",
    type=OutputPath(dir_okay=False),
    help="Draw the share of energy by kind of layer; with --grid, energy by batch size.",
)
@click.option(
    "--prompt",
    "prompts",
    type=Range(whole=True, least=1, most=MOST_TOKENS, most_numbers=MOST_BATCHES),
    help="Tokens of a language model's prompt. A range or a list gives a row each.",
)
@click.option(
    "--tokens",
    type=Range(whole=True, least=0, most=MOST_TOKENS, most_numbers=MOST_BATCHES),
    help="Tokens that a language model adds to each sequence. A range or a list gives a row each.",
)
@click.option("--strict", is_flag=True, help="Stop at a layer of unknown kind; without this option, it counts as 0 J.")
@json_options()
def estimate_command(
    model: str,
    batch: int,
    models_path: str | None,
    input_shapes: tuple[Any, ...],
    accuracy: float | None,
    alpha: float,
    beta: float,
    grid: np.ndarray | None,
    output: str | None,
    sweep_path: str | None,
    picture: str | None,
    prompts: np.ndarray | None,
    tokens: np.ndarray | None,
    strict: bool,
    answer: JsonAnswer,
) -> None:
    """Predict the energy of a network from its layers.

    MODEL is an .onnx file, a list of layers (.json, .toml, .csv), a name (alexnet, vgg11, vgg13, vgg16), or a PyTorch
    module, or a function that makes one, as module:function or file.py:function. With --prompt and --tokens it is a
    language model: the config.json of transformers, or a folder with one; its weights are not needed.
    """
    if names_transformer(model):
        others = {"--input-shape": input_shapes, "--accuracy": accuracy is not None, "--grid": grid is not None,
                  "--sweep": sweep_path, "--picture": picture}  # fmt: skip
        if given := [name for name, value in others.items() if value]:
            raise click.UsageError(f"{given[0]} is not for a language model")
        answer_generation(model, prompts, tokens, batch, models_path, output, strict, answer)
        return
    if prompts is not None or tokens is not None:
        raise click.UsageError(
            f"--prompt and --tokens need a language model: the config.json of transformers or a folder with one, not "
            f"{model!r}"
        )
    if grid is None and sweep_path:
        raise click.UsageError("--sweep needs --grid")
    from fastgreen.metrics.scores import apc

    apc(0.0, 1.0, alpha, beta)  # wrong weights are refused before the network is read
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise ValueError(f"alpha and beta must be numbers, not {alpha:g} and {beta:g}")
    network, said = _read_network(model, input_shapes, models_path, strict)
    if grid is not None:
        if sweep_path:
            network.sweep(grid, np.arange(0.005, 1.0, 0.01), alpha, beta).write(sweep_path)
        priced = network.grid(grid, accuracy, alpha, beta)
        if picture:
            from fastgreen.estimate.pictures import draw_grid
            from fastgreen.plot import finish

            finish(draw_grid({network.name: priced}), picture, dpi=150)
        _show_grid(priced, output, answer, said + _grid_warnings(network, priced))
        return
    estimate = network.estimate(batch)
    estimate.warnings[:0] = said
    score = None if accuracy is None else estimate.apc(accuracy, alpha, beta)
    if output:
        save_table(estimate.layers, output)
    if picture:
        from fastgreen.estimate.pictures import draw_shares
        from fastgreen.plot import finish

        finish(draw_shares({f"{network.name}, batch {batch}": estimate}), picture, dpi=150)
    if not answer.give(lambda: _as_mapping(estimate, score, alpha, beta)):
        _show_estimate(estimate, accuracy, score, (alpha, beta), own=models_path is not None)


def _read_network(
    model: str, input_shapes: tuple[Any, ...], models_path: str | None, strict: bool
) -> tuple[Network, list[str]]:
    """The network, and the warnings of its reader."""
    from fastgreen.estimate.modelfile import load_models
    from fastgreen.estimate.network import Network
    from fastgreen.estimate.plain import from_object, load_network

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FastgreenWarning)
        if names_object(model) and not os.path.exists(model):
            name, layers = model, from_object(model, load_object(model), input_shapes)
        else:
            with of_file() if os.path.exists(model) or model.lower().endswith(_ENDINGS) else nullcontext():
                name, layers = load_network(model, input_shapes)
    said = [str(one.message) for one in caught if issubclass(one.category, FastgreenWarning)]
    with of_file():
        return Network(layers, name, load_models(models_path) if models_path else None, strict), said


def _as_mapping(estimate: Any, score: float | None, alpha: float, beta: float) -> dict[str, Any]:
    names = ("name", "batch_size", "energy_j", "energy_low_j", "energy_high_j", "energy_per_inference_j")
    found = {name: getattr(estimate, name) for name in names}
    found |= {"consumption_wh": estimate.consumption_wh, "machine": estimate.machine, "predicted": True}
    found["fitted_on_estimates"] = estimate.estimated
    found |= {"warnings": estimate.warnings, "layers": estimate.layers.to_pylist()}
    return found if score is None else {**found, "apc": score, "alpha": alpha, "beta": beta}


def _show_estimate(
    estimate: Any, accuracy: float | None, score: float | None, weights: tuple[float, float], own: bool
) -> None:
    batch = estimate.batch_size
    say(table(f"{estimate.name}, batch {batch}", [_layer_row(row) for row in estimate.layers.to_pylist()]))
    low_j, high_j = estimate.energy_low_j, estimate.energy_high_j
    whole, whole_between = with_bounds(estimate.energy_j, low_j, high_j, "J", 3)
    single, between = with_bounds(estimate.energy_per_inference_j, low_j / batch, high_j / batch, "J", 3)
    say(f"forward pass   {whole}  ({whole_between})")
    say(f"per inference  {single}  ({between}), {quantity(estimate.consumption_wh, 'Wh', 3)}")
    if accuracy is not None and score is not None:
        say(f"APC            {score:.6f} at accuracy {accuracy:g}, alpha {weights[0]:g}, beta {weights[1]:g} per Wh")
        if accuracy - score < 1e-3 * accuracy and weights[1] > 0:
            used = quantity(estimate.consumption_wh, "Wh", 3)
            say(f"APC hardly differs from the accuracy: {used} is small beside 1 Wh / beta. Choose a larger --beta.")
    say(_predicted(estimate.machine))
    if not own:
        say("for your own machine: fastgreen collect, then fastgreen fit, then --models")
    say(*map(warned, estimate.warnings))


def _layer_row(row: dict[str, Any]) -> dict[str, str]:
    energy, between = with_bounds(row["energy_j"], row["energy_low_j"], row["energy_high_j"], "J", 3)
    return {
        "layer": row["name"],
        "MACs": _count(row["macs"]),
        "energy": energy,
        "range": between,
        "share": f"{row['share']:.1%}",
        "basis": row["basis"] + (f": {row['note']}" if row["note"] else ""),
    }


def _predicted(machine: str) -> Text:
    return Text.assemble(("predicted", "bold"), f", not measured; these are joules of: {machine}")


def _show_grid(grid: Any, output: str | None, answer: JsonAnswer, said: list[str]) -> None:
    if output:
        save_table(grid, output)
    rows = grid.to_pylist()
    if answer.give(lambda: rows):
        say(*map(warned, said), err=True)
        return
    say(table("", rows[:_ROWS_SHOWN]))
    if len(rows) > _ROWS_SHOWN:
        rest = f" in {output}" if output else "; -o writes them all"
        say(f"... {len(rows) - _ROWS_SHOWN} more{rest}")
    say(_predicted(grid.schema.metadata[b"machine"].decode()), *map(warned, said))


def _grid_warnings(network: Network, priced: Any) -> list[str]:
    found = []
    for column, text in (
        ("outside_share", "in layers outside the range the models were fitted on"),
        ("stand_in_share", "in layers of a kind without a table, priced by a similar kind"),
    ):
        share = priced[column].to_numpy()
        if share.any():
            found.append(f"{share.min():.1%} to {share.max():.1%} of the energy is {text}")
    return found + network.standing_warnings


def _count(value: int) -> str:
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return str(value)
