"""Energy of a generation by a language model, from its configuration: the prompt, then token after token.

``generate`` of transformers makes one pass over the prompt, which gives the first token, and a pass for each token
after it. The model of each layer gives its work; the framework's own work (kinds ``Generation`` and
``RotaryGeneration``) is measured whole, on models with nothing else to do. With it, the price of a call of a single
layer is left out, because its calls are in it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.estimate.counts import macs
from fastgreen.estimate.layers import Layer
from fastgreen.estimate.modelfile import ModelSet, default_models
from fastgreen.estimate.network import Network
from fastgreen.estimate.physical import PhysicalModel
from fastgreen.estimate.transformer import Transformer, read_transformer
from fastgreen.estimate.transformer_layers import Repeated, parameters_of, pass_layers
from fastgreen.units import counted

__all__ = ["Generation", "LanguageModel"]

# Lengths of the cache at which a pass is priced; between them its energy is nearly a line.
POINTS = 9


@dataclass(frozen=True)
class Generation:
    """Estimated energy of a generation.

    Attributes
    ----------
    name : str
    batch_size, prompt, tokens : int
        Sequences; tokens of each prompt; tokens that each sequence gets.
    prefill_j, decode_j : (energy, low, high) of float
        Joules of the pass over the prompts, which also gives the first tokens, and of the passes for the other tokens.
    macs_prefill, macs_decode : int
        Multiply-accumulates of the two, as FLOP counters count them.
    weights_bytes, cache_bytes : int
        Bytes of all weights, and of the keys and values at the end, in the number type of the configuration.
    layers : pyarrow.Table
        phase, name, kind, times, macs, energy_j, energy_low_j, energy_high_j, share, basis.
    machine : str
        The machine that the models were fitted on.
    estimated : bool
        Whether the models were fitted on estimated energies instead of a sensor's.
    warnings : list of str
        The parts of this number that are guesses.
    """

    name: str
    batch_size: int
    prompt: int
    tokens: int
    prefill_j: tuple[float, float, float]
    decode_j: tuple[float, float, float]
    macs_prefill: int
    macs_decode: int
    weights_bytes: int
    cache_bytes: int
    layers: pa.Table
    machine: str
    estimated: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def energy_j(self) -> tuple[float, float, float]:
        """Joules of the whole generation: energy, low, high."""
        first, rest = self.prefill_j, self.decode_j
        return first[0] + rest[0], first[1] + rest[1], first[2] + rest[2]

    @property
    def j_per_token(self) -> tuple[float, float, float] | None:
        """Joules of the whole generation for each token that it makes; None for an encoder."""
        made = self.batch_size * self.tokens
        return _divided(self.energy_j, made) if made else None

    @property
    def j_per_prompt_token(self) -> tuple[float, float, float]:
        """Joules of the first pass for each token of the prompts."""
        return _divided(self.prefill_j, self.batch_size * self.prompt)

    @property
    def j_per_decoded_token(self) -> tuple[float, float, float] | None:
        """Joules of the later passes for each token that they make; None without later passes."""
        made = self.batch_size * (self.tokens - 1)
        return _divided(self.decode_j, made) if made > 0 else None


def _divided(energy: tuple[float, float, float], count: int) -> tuple[float, float, float]:
    return energy[0] / count, energy[1] / count, energy[2] / count


class LanguageModel:
    """A transformer whose generations are estimated from its configuration; its weights are not needed.

    Parameters
    ----------
    config : path, mapping, transformers.PretrainedConfig or Transformer
        As :func:`~fastgreen.estimate.transformer.read_transformer` takes it.
    models : ModelSet, optional
        The predictors; by default those of the package. Collect your own with
        ``fastgreen collect --preset transformers``.
    name : str, optional
        Name in tables and messages.

    Raises
    ------
    ValueError
        If the configuration cannot be estimated; the message has the reason.
    TraceError
        If the file of the configuration is damaged.

    Examples
    --------
    >>> model = LanguageModel({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100})
    >>> made = model.generation(prompt=10, tokens=5, batch_size=2)
    >>> made.weights_bytes, made.cache_bytes
    (688128, 28672)
    """

    def __init__(self, config: Any, models: ModelSet | None = None, name: str = "") -> None:
        self.transformer = config if isinstance(config, Transformer) else read_transformer(config)
        self.name = name or self.transformer.family
        self.models = default_models() if models is None else models
        self.parameters = parameters_of(self.transformer)
        self._framework_kind = "RotaryGeneration" if self.transformer.rotary else "Generation"
        self._whole = self._framework_kind in self.models.models
        self._priced = without_calls(self.models) if self._whole else self.models

    @property
    def weights_bytes(self) -> int:
        """Bytes of all weights in the number type of the configuration; a shared table counts once."""
        return self.parameters * self.transformer.number_bytes

    def generation(self, prompt: int, tokens: int | None = None, batch_size: int = 1) -> Generation:
        """Estimate a generation without a sampled or early end: every sequence gets all its tokens.

        Parameters
        ----------
        prompt : int
            Tokens of each prompt, at least 1.
        tokens : int, optional
            Tokens that each sequence gets; 1 is the pass over the prompt alone. An encoder makes none.
        batch_size : int
            Sequences.

        Returns
        -------
        Generation

        Raises
        ------
        ValueError
            If a number is below 1, an encoder is to make tokens, or the length is beyond the learnt positions or the
            window of attention.
        """
        tokens = int(self.transformer.decoder) if tokens is None else tokens
        self._check(prompt, tokens, batch_size)
        m = self.transformer
        first = self._phase("prefill", [(pass_layers(m, prompt), 1.0)], batch_size, steps=1, calls=True)
        rest = self._phase("decode", self._decode_passes(prompt, tokens), batch_size, steps=tokens - 1, calls=False)
        rows = [*first.rows, *rest.rows]
        total = first.energy[0] + rest.energy[0]
        for row in rows:
            row["share"] = row["energy_j"] / total if total > 0 else 0.0
        return Generation(
            self.name, batch_size, prompt, tokens, first.energy, rest.energy, first.macs, rest.macs,
            self.weights_bytes, batch_size * (prompt + max(0, tokens - 1)) * m.token_cache_bytes, _table(rows),
            self.models.machine, self.models.estimated, self._warnings(rows, prompt + tokens),
        )  # fmt: skip

    def grid(self, prompts: Any, tokens: Any, batches: Any = (1,)) -> pa.Table:
        """Estimate every combination of lengths and batch sizes.

        Parameters
        ----------
        prompts, tokens, batches : sequence of int
            As in :meth:`generation`.

        Returns
        -------
        pyarrow.Table
            batch_size, prompt, tokens, prefill_j, decode_j, energy_j (+ bounds), j_per_token (+ bounds),
            j_per_prompt_token, j_per_decoded_token, cache_bytes; a row for each combination.
        """
        rows = []
        for batch in batches:
            for prompt in prompts:
                for count in tokens:
                    rows.append(row_of(self.generation(int(prompt), int(count), int(batch))))
        return pa.Table.from_pylist(rows)

    def _check(self, prompt: int, tokens: int, batch: int) -> None:
        m = self.transformer
        for name, value, least in (("prompt", prompt, 1), ("tokens", tokens, int(m.decoder)), ("batch_size", batch, 1)):
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if tokens and not m.decoder:
            raise ValueError(f"tokens must be 0 for {m.family}, which reads its input in one pass, not {tokens}")
        length = prompt + max(0, tokens - 1)
        if m.positions and length > m.longest:
            raise ValueError(f"prompt and tokens must fit into the {m.longest} positions of the model, not {length}")
        if m.window and length > m.window:
            raise ValueError(
                f"prompt and tokens must fit into the window of attention ({m.window}), beyond which the work of a "
                f"token is another, not {length}"
            )

    def _decode_passes(self, prompt: int, tokens: int) -> list[tuple[list[Repeated], float]]:
        """Passes at some lengths of the cache, each with the number of passes that it counts for (trapezoid rule)."""
        last = tokens - 2  # the first token comes from the prompt
        if last < 0:
            return []
        at = np.unique(np.linspace(0, last, POINTS).round().astype(int))
        weight = np.zeros(len(at))
        for place, gap in enumerate(np.diff(at)):
            # Both ends belong to neighbours as well: a step is an end of each.
            weight[place] += (gap + 1) / 2 - (0.5 if place else 0)
            weight[place + 1] += (gap + 1) / 2 - (0.5 if place + 2 < len(at) else 0)
        weight = np.ones(1) if len(at) == 1 else weight
        return [
            (pass_layers(self.transformer, 1, prompt + int(step)), float(w)) for step, w in zip(at, weight, strict=True)
        ]

    def _phase(self, name: str, passes: Any, batch: int, steps: int, calls: bool) -> _Phase:
        phase = _Phase(name)
        for layers, weight in passes:
            phase.add(Network([one.layer for one in layers], self.name, self._priced), layers, weight, batch)
        if self._whole and steps > 0:
            phase.add_framework(self._framework(batch, steps, calls))
        return phase

    def _framework(self, batch: int, steps: int, calls: bool) -> tuple[Layer, tuple[float, float, float], bool]:
        layer = Layer(self._framework_kind, {"blocks": self.transformer.blocks, "steps": steps}, "framework")
        models = self.models if calls else without_calls(self.models)
        energy, low, high, outside = Network([layer], self.name, models).energy_j([batch])
        return layer, (float(energy[0, 0]), float(low[0, 0]), float(high[0, 0])), bool(outside[0, 0])

    def _warnings(self, rows: list[dict[str, Any]], length: int) -> list[str]:
        m, found = self.transformer, []
        total = sum(row["energy_j"] for row in rows)
        for basis, text in (
            ("outside range", "outside the range that was collected"),
            ("stand-in", "of a kind that was not collected, priced by a similar kind"),
        ):
            some = [row for row in rows if row["basis"] == basis]
            if some:
                share = sum(row["energy_j"] for row in some) / total if total > 0 else 0.0
                names = ", ".join(dict.fromkeys(row["kind"] for row in some))
                found.append(f"{share:.1%} of the energy is in layers {text} ({names})")
        if unknown := sorted({row["kind"] for row in rows if row["basis"] == "unknown"}):
            found.append(f"{', '.join(unknown)} counts as 0 J: no model fits it, so the total is too low")
        if not self._whole:
            found.append("the framework's own work is not collected: a small model uses more than this")
        if m.number_type != "float32":
            found.append(f"its numbers are {m.number_type}: bytes are priced by their width, all else as float32")
        if m.longest and length - 1 > m.longest:
            found.append(f"{counted(length - 1, 'token')} are more than the model is made for ({m.longest})")
        if self.models.estimated:
            found.append("the models were fitted on estimated energies, not on a sensor's")
        return found


def without_calls(models: ModelSet) -> ModelSet:
    """The same models with a price of 0 for a call."""
    found = {}
    for kind, model in models.models.items():
        if isinstance(model, PhysicalModel) and "calls" in model.prices:
            model = dataclasses.replace(model, prices={**model.prices, "calls": 0.0})
        found[kind] = model
    return dataclasses.replace(models, models=found)


_RANK = {"fitted": 0, "free": 0, "outside range": 1, "stand-in": 2, "unknown": 3}


class _Phase:
    """Sums over the passes of one phase: totals, and a row for each layer."""

    def __init__(self, name: str) -> None:
        self.name, self.macs = name, 0
        self.energy = (0.0, 0.0, 0.0)
        self.by_name: dict[str, dict[str, Any]] = {}

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.by_name.values())

    def add(self, network: Network, layers: list[Repeated], weight: float, batch: int) -> None:
        energy, low, high, outside = (array[:, 0] for array in network.energy_j([batch]))
        unknown, guessed = set(network.unknown), {part.layer for part in network.parts if part.stand_in}
        counted_macs = 0.0
        for index, one in enumerate(layers):
            times = one.times * weight
            count = times * int(macs(one.layer.kind, batch_size=batch, convention="standard", **one.layer.sizes))
            basis = "outside range" if outside[index] else "fitted"
            basis = "stand-in" if index in guessed else "unknown" if index in unknown else basis
            self._add_row(one.layer, times, count, tuple(times * a[index] for a in (energy, low, high)), basis)
            counted_macs += count
        self.macs += round(counted_macs)

    def add_framework(self, priced: tuple[Layer, tuple[float, float, float], bool]) -> None:
        layer, energy, outside = priced
        self._add_row(layer, 1.0, 0.0, energy, "outside range" if outside else "fitted")

    def _add_row(self, layer: Layer, times: float, count: float, energy: Any, basis: str) -> None:
        row = self.by_name.setdefault(
            layer.name,
            {"phase": self.name, "name": layer.name, "kind": layer.kind, "times": 0.0, "macs": 0.0, "energy_j": 0.0,
             "energy_low_j": 0.0, "energy_high_j": 0.0, "share": 0.0, "basis": basis},
        )  # fmt: skip
        row["times"] += times
        row["macs"] += count
        for name, value in zip(("energy_j", "energy_low_j", "energy_high_j"), energy, strict=True):
            row[name] += float(value)
        row["basis"] = max(row["basis"], basis, key=_RANK.__getitem__)
        self.energy = tuple(a + float(b) for a, b in zip(self.energy, energy, strict=True))  # type: ignore[assignment]


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    units = {"macs": "1", "energy_j": "J", "energy_low_j": "J", "energy_high_j": "J", "share": "1"}
    whole = [{**row, "times": round(row["times"]), "macs": round(row["macs"])} for row in rows]
    table = pa.Table.from_pylist(whole)
    fields = [one.with_metadata({"unit": units[one.name]} if one.name in units else None) for one in table.schema]
    return table.cast(pa.schema(fields))


def row_of(made: Generation) -> dict[str, Any]:
    """The numbers of a generation as one flat row; an absent number is None."""
    row: dict[str, Any] = {"batch_size": made.batch_size, "prompt": made.prompt, "tokens": made.tokens}
    row |= {"prefill_j": made.prefill_j[0], "decode_j": made.decode_j[0]}
    for name, value in (("energy", made.energy_j), ("j_per_token", made.j_per_token)):
        first, low, high = value or (None, None, None)
        plain = {"energy": ("energy_j", "energy_low_j", "energy_high_j")}
        keys = plain.get(name, (name, f"{name}_low", f"{name}_high"))
        row |= dict(zip(keys, (first, low, high), strict=True))
    row["j_per_prompt_token"] = made.j_per_prompt_token[0]
    row["j_per_decoded_token"] = made.j_per_decoded_token[0] if made.j_per_decoded_token else None
    return {**row, "cache_bytes": made.cache_bytes}
