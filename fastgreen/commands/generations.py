"""The part of ``fastgreen estimate`` for generations by language models: its output as tables, text and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.text import Text

from fastgreen.commands.common import JsonAnswer, of_file, say, table, warned
from fastgreen.results.console import quantity, with_bounds
from fastgreen.table_files import save_table

__all__ = ["answer_generation", "names_transformer"]

MOST_COMBINATIONS = 10_000
_ROWS_SHOWN = 20


def names_transformer(model: str) -> bool:
    """Whether MODEL is the configuration of a transformer, or a folder with one."""
    from fastgreen.estimate.transformer import holds_transformer

    return holds_transformer(model)


def answer_generation(
    model: str,
    prompts: np.ndarray | None,
    tokens: np.ndarray | None,
    batch: int,
    models_path: str | None,
    output: str | None,
    strict: bool,
    answer: JsonAnswer,
) -> None:
    """Predict a generation, or one for every combination of lengths, and show it."""
    from fastgreen.estimate.language_model import LanguageModel
    from fastgreen.estimate.modelfile import load_models

    if prompts is None:
        raise click.UsageError(f"{model} is a language model: give --prompt, the tokens of a prompt, and --tokens")
    path = Path(model)
    path = path.resolve()
    name = path.name if path.is_dir() else path.parent.name if path.name == "config.json" else path.stem
    with of_file():
        language_model = LanguageModel(path, load_models(models_path) if models_path else None, name)
    tokens = np.array([int(language_model.transformer.decoder)]) if tokens is None else tokens
    if len(prompts) * len(tokens) > MOST_COMBINATIONS:
        raise click.UsageError(f"--prompt and --tokens give more than {MOST_COMBINATIONS} combinations")
    made = [language_model.generation(int(p), int(t), batch) for p in prompts for t in tokens]
    if strict and (unknown := [kind for kind, basis in _bases(made[0]) if basis == "unknown"]):
        raise ValueError(f"{unknown[0]} is not known to the models, and --strict is given")
    if len(made) > 1:
        _show_grid(made, output, answer)
        return
    if output:
        save_table(made[0].layers, output)
    if not answer.give(lambda: _as_mapping(made[0])):
        _show(made[0], own=models_path is not None)


def _bases(made: Any) -> list[tuple[str, str]]:
    return [(row["kind"], row["basis"]) for row in made.layers.to_pylist()]


def _as_mapping(made: Any) -> dict[str, Any]:
    from fastgreen.estimate.language_model import row_of

    about = {"name": made.name, **row_of(made), "weights_bytes": made.weights_bytes}
    about |= {"macs_prefill": made.macs_prefill, "macs_decode": made.macs_decode}
    for name in ("prefill", "decode"):
        energy = getattr(made, f"{name}_j")
        about |= {f"{name}_low_j": energy[1], f"{name}_high_j": energy[2]}
    about |= {"machine": made.machine, "predicted": True, "fitted_on_estimates": made.estimated}
    return {**about, "warnings": made.warnings, "layers": made.layers.to_pylist()}


def _show(made: Any, own: bool) -> None:
    lengths = f"prompt {made.prompt}, tokens {made.tokens}, batch {made.batch_size}"
    say(table(f"{made.name}: {lengths}", _by_kind(made)))
    per = "per token of the prompt"
    for name, energy, single, what in (
        ("prefill", made.prefill_j, made.j_per_prompt_token, per),
        ("decode", made.decode_j, made.j_per_decoded_token, "per token"),
        ("together", made.energy_j, made.j_per_token, "per token made"),
    ):
        if single is None:
            continue
        whole, between = with_bounds(energy[0], energy[1], energy[2], "J", 3)
        each, _ = with_bounds(single[0], single[1], single[2], "J", 3)
        say(f"{name:9}  {whole}  ({between}); {each} {what}")
    cache = f", keys and values at the end {quantity(made.cache_bytes, 'B', 3)}" if made.cache_bytes else ""
    say(f"{'memory':9}  weights {quantity(made.weights_bytes, 'B', 3)}{cache}")
    say(Text.assemble(("predicted", "bold"), f", not measured; these are joules of: {made.machine}"))
    if not own:
        say("for your own machine: fastgreen collect --preset transformers, then fastgreen fit, then --models")
    say(*map(warned, made.warnings))


def _by_kind(made: Any) -> list[dict[str, str]]:
    """A row for each kind of layer, the largest first."""
    found: dict[str, dict[str, Any]] = {}
    for row in made.layers.to_pylist():
        one = found.setdefault(row["kind"], {"prefill": 0.0, "decode": 0.0, "macs": 0, "share": 0.0, "basis": {}})
        one[row["phase"]] += row["energy_j"]
        one["macs"] += row["macs"]
        one["share"] += row["share"]
        one["basis"][row["basis"]] = None
    rows = sorted(found.items(), key=lambda item: -item[1]["share"])
    return [
        {
            "layers": kind,
            "MACs": quantity(float(one["macs"]), "", 3).strip(),
            "prefill": quantity(one["prefill"], "J", 3),
            "decode": quantity(one["decode"], "J", 3),
            "share": f"{one['share']:.1%}",
            "basis": ", ".join(one["basis"]),
        }
        for kind, one in rows
    ]


def _show_grid(made: list[Any], output: str | None, answer: JsonAnswer) -> None:
    import pyarrow as pa

    from fastgreen.estimate.language_model import row_of

    rows = [row_of(one) for one in made]
    if output:
        save_table(pa.Table.from_pylist(rows), output)
    said = list(dict.fromkeys(text for one in made for text in one.warnings if "%" not in text))
    if answer.give(lambda: rows):
        say(*map(warned, said), err=True)
        return
    keys = ("prompt", "tokens", "batch_size", "prefill_j", "decode_j", "energy_j", "j_per_token", "j_per_decoded_token")
    shown = [{key: quantity(row[key], "J", 3) if "j" in key.split("_") else str(row[key]) for key in keys}
             for row in rows[:_ROWS_SHOWN]]  # fmt: skip
    say(table("", shown))
    if len(rows) > _ROWS_SHOWN:
        say(f"... {len(rows) - _ROWS_SHOWN} more{f' in {output}' if output else '; -o writes them all'}")
    say(Text.assemble(("predicted", "bold"), f", not measured; these are joules of: {made[0].machine}"))
    say(*map(warned, said))
