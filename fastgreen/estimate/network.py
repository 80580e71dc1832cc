"""Energy of a network: the sum over its layers, with shares, bounds, and the basis of each layer's number.

The basis of a layer is one of:

``fitted``         its kind has a model, and its sizes are in the fitted range
``outside range``  its kind has a model, but a size is outside the fitted range; the bounds are wider
``stand-in``       its kind has no model; a kind of similar work is used instead, with bounds of 0 and twice its energy
``free``           it returns a view or its own input: 0 J
``unknown``        no model fits: 0 J, with a warning
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.estimate.counts import macs, parameters
from fastgreen.estimate.layers import FREE, KINDS, Layer, complete
from fastgreen.estimate.modelfile import ModelSet, default_models
from fastgreen.estimate.standins import stand_ins
from fastgreen.units import J_PER_WH, counted

__all__ = ["Estimate", "Network"]

STAND_IN_RANGE = (0.0, 2.0)


@dataclass(frozen=True)
class Part:
    """A part of a layer that one model prices. A layer of a kind without a model may have several parts."""

    layer: int
    kind: str
    sizes: dict[str, int]
    stand_in: bool = False
    times: int = 1


@dataclass(frozen=True)
class Estimate:
    """Estimated energy of a network at one batch size.

    Attributes
    ----------
    name : str
        Name of the network.
    batch_size : int
        Samples in the batch.
    energy_j, energy_low_j, energy_high_j : float
        Joules of one forward pass of the whole batch, with bounds. The bounds are sums of the layers' bounds, as if all
        layers erred in the same direction; those of a layer hold for about nine in ten layers of its kind.
    layers : pyarrow.Table
        name, kind, sizes, macs, parameters, energy_j, energy_low_j, energy_high_j, share, basis, note.
    machine : str
        The machine that the models were fitted on.
    estimated : bool
        Whether the models were fitted on estimated energies instead of a sensor's.
    warnings : list of str
        The parts of this number that are guesses, a sentence each; empty if there are no guesses.
    """

    name: str
    batch_size: int
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    layers: pa.Table
    machine: str
    estimated: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def energy_per_inference_j(self) -> float:
        """Joules per sample of the batch."""
        return self.energy_j / self.batch_size

    @property
    def consumption_wh(self) -> float:
        """Watt-hours per inference: the consumption of APC."""
        return self.energy_per_inference_j / J_PER_WH

    def apc(self, accuracy: float, alpha: float = 0.1, beta: float = 1.0) -> float:
        """Accuracy per consumption (APC), see :func:`fastgreen.apc`; consumption is in Wh per inference.

        Parameters
        ----------
        accuracy : float
            Fraction of right answers, 0..1.
        alpha, beta : float
            As in :func:`fastgreen.apc`.
        """
        import fastgreen

        return float(fastgreen.apc(self.consumption_wh, accuracy, alpha, beta))


class Network:
    """A network as a list of layers, to estimate at any batch size.

    Parameters
    ----------
    layers : sequence of Layer
        The layers in order.
    name : str
        Name of the network in tables and messages.
    models : ModelSet, optional
        The predictors; by default those of the package.
    strict : bool
        Whether an unknown layer is an error instead of a warning.

    Raises
    ------
    ValueError
        If there is no layer, or with `strict` an unknown one.

    Examples
    --------
    >>> from fastgreen.estimate import Network, zoo
    >>> estimate = Network(zoo("alexnet"), "alexnet").estimate(32)
    >>> 10 < estimate.energy_j < 100
    True
    """

    def __init__(
        self, layers: Sequence[Layer], name: str = "network", models: ModelSet | None = None, strict: bool = False
    ) -> None:
        if not layers:
            raise ValueError(f"layers of {name} must be at least one, not empty")
        self.layers, self.name = list(layers), name
        self.models = default_models() if models is None else models
        self.parts: list[Part] = []
        self.unknown: list[int] = []
        for index, layer in enumerate(self.layers):
            if layer.kind in FREE:
                continue
            parts = self._parts(index, layer)
            if parts is None:
                self.unknown.append(index)
            self.parts += parts or []
        if strict and self.unknown:
            raise ValueError(f"layers: {self._describe_unknown()}")

    def _parts(self, index: int, layer: Layer) -> list[Part] | None:
        """The parts to price; None if no model fits the layer."""
        if layer.kind in self.models.models:
            return [Part(index, layer.kind, dict(layer.sizes))]
        similar = stand_ins(layer)
        if similar is None or any(kind not in self.models.models for kind, _, _ in similar):
            return None
        return [Part(index, kind, sizes, True, times) for kind, sizes, times in similar]

    def energy_j(self, batches: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Energy of every layer at every batch size.

        Parameters
        ----------
        batches : (b,) sequence of int
            Batch sizes of at least 1.

        Returns
        -------
        energy, low, high : (layers, batches) float64 ndarray
            Joules per forward pass of the whole batch.
        outside : (layers, batches) bool ndarray
            True if a size is outside the fitted range.

        Raises
        ------
        ValueError
            If a batch size is not a whole number of at least 1.
        """
        batch = np.atleast_1d(np.asarray(batches))
        if batch.ndim != 1 or batch.dtype.kind not in "iu" or (batch.size and batch.min() < 1):
            first = next((b for b in batch.ravel() if not float(b).is_integer() or b < 1), batches)
            raise ValueError(f"batches: batch sizes must be whole numbers of at least 1, not {first}")
        batch = batch.astype(np.int64)[None, :]
        shape = (len(self.layers), batch.shape[1])
        energy, low, high = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        outside = np.zeros(shape, dtype=bool)
        for kind in dict.fromkeys(part.kind for part in self.parts):
            parts = [part for part in self.parts if part.kind == kind]
            sizes, rows = self._stack(kind, parts)
            sizes["batch_size"] = batch
            model = self.models.models[kind]
            found = np.broadcast_to(model.predict_j(sizes), (len(rows), shape[1]))
            beyond = np.broadcast_to(_outside(model, sizes), found.shape)
            below, above = model.bounds_j(found, beyond, sizes)
            guess = np.array([part.stand_in for part in parts])[:, None]
            times = np.array([part.times for part in parts], dtype=np.float64)[:, None]
            np.add.at(energy, rows, times * found)
            np.add.at(low, rows, times * np.where(guess, STAND_IN_RANGE[0] * found, below))
            np.add.at(high, rows, times * np.where(guess, STAND_IN_RANGE[1] * found, above))
            np.logical_or.at(outside, rows, beyond & ~guess)
        return energy, low, high, outside

    @staticmethod
    def _stack(kind: str, parts: list[Part]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Sizes of the parts as columns of shape (parts, 1), and the layer of each part."""
        filled = [complete(kind, {"batch_size": 1, **part.sizes}) for part in parts]
        sizes = {name: np.array([[int(f[name])] for f in filled]) for name in filled[0]}
        return sizes, np.array([part.layer for part in parts])

    def estimate(self, batch_size: int = 1) -> Estimate:
        """Estimate the energy of one forward pass, with a table of the layers.

        Parameters
        ----------
        batch_size : int
            Samples in the batch, at least 1.

        Returns
        -------
        Estimate
        """
        energy, low, high, outside = (array[:, 0] for array in self.energy_j([batch_size]))
        total = float(energy.sum())
        rows: dict[str, list[Any]] = {
            name: [] for name in ("name", "kind", "sizes", "macs", "parameters", "basis", "note")
        }
        guessed: dict[int, list[str]] = {}  # layer -> the kinds that price it
        for part in self.parts:
            if part.stand_in or part.layer in guessed:
                guessed.setdefault(part.layer, []).append(part.kind)
        unknown = frozenset(self.unknown)
        for index, layer in enumerate(self.layers):
            if index in unknown:
                basis, note = "unknown", "counted as 0 J"
            else:
                basis, note = self._basis(layer, batch_size, bool(outside[index]), guessed.get(index))
            known = layer.kind in KINDS
            rows["name"].append(layer.name or f"{index + 1}.{layer.kind}")
            rows["kind"].append(layer.kind)
            rows["sizes"].append(" ".join(f"{name}={value}" for name, value in layer.sizes.items()))
            count = macs(layer.kind, batch_size=batch_size, convention="standard", **layer.sizes) if known else 0
            rows["macs"].append(int(count))
            rows["parameters"].append(int(parameters(layer.kind, **layer.sizes)) if known else 0)
            rows["basis"].append(basis)
            rows["note"].append(note)
        table = _layer_table(rows, energy, low, high, total)
        return Estimate(
            self.name, batch_size, total, float(low.sum()), float(high.sum()), table, self.models.machine,
            self.models.estimated, self._warnings(table),
        )  # fmt: skip

    def _basis(self, layer: Layer, batch: int, outside: bool, guess: list[str] | None) -> tuple[str, str]:
        if layer.kind in FREE:
            return "free", "moves no data"
        if guess is not None:
            return "stand-in", f"no table; priced as {', '.join(dict.fromkeys(guess))}"
        if not outside:
            return "fitted", ""
        ranges = self.models.models[layer.kind].ranges
        sizes = complete(layer.kind, {"batch_size": batch, **layer.sizes})
        beyond = [
            f"{name}={int(value)} not in {ranges[name][0]}..{ranges[name][1]}" if name in ranges
            else f"{name}={int(value)} was never varied"
            for name, value in _as_measured(layer.kind, sizes).items()
            if not _within(self.models.models[layer.kind], name, value, sizes).all()
        ]  # fmt: skip
        return "outside range", ", ".join(beyond)

    def _warnings(self, table: pa.Table) -> list[str]:
        basis, share = np.array(table["basis"].to_pylist()), table["share"].to_numpy()
        found = []
        for what, text in (
            ("outside range", "outside the range the models were fitted on"),
            ("stand-in", "of a kind without a table, priced by a similar kind"),
        ):
            if (which := basis == what).any():
                some = f"{which.sum()} of {counted(len(basis), 'layer')}"
                verb, they = ("is", "it is") if which.sum() == 1 else ("are", "they are")
                found.append(f"{some} {verb} {text}; {they} {share[which].sum():.1%} of the total")
        if below := int((table["energy_j"].to_numpy() < 0).sum()):
            verb, they = ("is", "its model is") if below == 1 else ("are", "their models are")
            found.append(f"{counted(below, 'layer')} {verb} predicted below 0 J, which cannot be: {they} not physical")
        return found + self.standing_warnings

    @property
    def standing_warnings(self) -> list[str]:
        """Warnings for every batch size: unknown layers, models that were fitted on estimates."""
        found = [self._describe_unknown()] if self.unknown else []
        if self.models.estimated:
            found.append("the models were fitted on estimated energies, not on a sensor's")
        return found

    def _describe_unknown(self) -> str:
        kinds = dict.fromkeys(self.layers[index].kind for index in self.unknown)
        alone = len(self.unknown) == 1
        return (
            f"{counted(len(self.unknown), 'layer')} {'is' if alone else 'are'} of an unknown kind "
            f"({', '.join(kinds)}); {'it counts' if alone else 'they count'} as 0 J, so the total is too low by "
            f"{'its' if alone else 'their'} energy"
        )

    def grid(
        self, batches: Sequence[int] | np.ndarray, accuracy: float | None = None, alpha: float = 0.1, beta: float = 1.0
    ) -> pa.Table:
        """Estimate the energy at many batch sizes.

        Parameters
        ----------
        batches : (b,) sequence of int
            Batch sizes of at least 1.
        accuracy : float, optional
            Fraction of right answers, 0..1; adds a column of APC.
        alpha, beta : float
            As in :func:`fastgreen.apc`, with consumption in Wh per inference.

        Returns
        -------
        pyarrow.Table
            batch_size, energy_j, energy_low_j, energy_high_j, energy_per_inference_j, outside_share and stand_in_share
            (fractions of the energy in layers outside the fitted range, and in layers of a kind without a model), and
            apc. The metadata of a field is its unit; the metadata of the table are network, machine, estimated,
            warnings.
        """
        batch = np.atleast_1d(np.asarray(batches))
        energy, low, high, outside = self.energy_j(batch)
        total = energy.sum(axis=0)
        guessed = np.zeros((len(self.layers), 1), dtype=bool)
        guessed[[part.layer for part in self.parts if part.stand_in]] = True
        shares = [
            np.divide((energy * which).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
            for which in (outside, guessed)
        ]
        columns = [
            ("batch_size", batch.astype(np.int64), ""), ("energy_j", total, "J"),
            ("energy_low_j", low.sum(axis=0), "J"), ("energy_high_j", high.sum(axis=0), "J"),
            ("energy_per_inference_j", total / batch, "J"),
            ("outside_share", shares[0], "1"), ("stand_in_share", shares[1], "1"),
        ]  # fmt: skip
        if accuracy is not None:
            import fastgreen

            columns.append(("apc", np.asarray(fastgreen.apc(total / batch / J_PER_WH, accuracy, alpha, beta)), "1"))
        about = {"network": self.name, "machine": self.models.machine, "estimated": str(self.models.estimated).lower()}
        about["warnings"] = "\n".join(self.standing_warnings)
        return _with_units(columns, about)

    def sweep(self, batches: Sequence[int] | np.ndarray, accuracy: Any, alpha: Any = (0.1,), beta: Any = (1.0,)) -> Any:
        """Make a :class:`fastgreen.Sweep` of APC over accuracy and the consumption at each batch size.

        Parameters
        ----------
        batches : (b,) sequence of int
            Batch sizes of at least 1.
        accuracy, alpha, beta : array_like
            Axes of the sweep, see :func:`fastgreen.apc`; consumption is in Wh per inference.
        """
        import fastgreen

        batch = np.atleast_1d(np.asarray(batches))
        consumption = self.energy_j(batch)[0].sum(axis=0) / batch / J_PER_WH
        return fastgreen.Sweep("apc", consumption=consumption, accuracy=accuracy, alpha=alpha, beta=beta)


def _within(model: Any, name: str, value: np.ndarray, sizes: dict[str, np.ndarray]) -> np.ndarray:
    if name in model.ranges:
        low, high = model.ranges[name]
        return (value >= low) & (value <= high)
    # A size that the table never varied must have its value there; a width must equal the height.
    default = KINDS[model.kind].defaults.get(name)
    if default is None or name in ("inplace", "bias"):
        return np.asarray(True)
    return value == (sizes[default] if isinstance(default, str) else default)


def _outside(model: Any, sizes: dict[str, np.ndarray]) -> np.ndarray:
    beyond = np.asarray(False)
    for name, value in _as_measured(model.kind, sizes).items():
        beyond = beyond | ~_within(model, name, value, sizes)
    return beyond


def _as_measured(kind: str, sizes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sizes as the tables have them: a linear layer over many rows counts as one with a larger batch."""
    if kind != "Linear":
        return sizes
    kept = {name: value for name, value in sizes.items() if name != "rows"}
    return {**kept, "batch_size": sizes["batch_size"] * sizes["rows"]}


def _layer_table(
    rows: dict[str, list[Any]], energy: np.ndarray, low: np.ndarray, high: np.ndarray, total: float
) -> pa.Table:
    share = energy / total if total > 0 else np.zeros_like(energy)
    columns: list[tuple[str, Any, str]] = [
        (name, rows[name], "") for name in ("name", "kind", "sizes", "macs", "parameters")
    ]
    columns += [
        ("energy_j", energy, "J"),
        ("energy_low_j", low, "J"),
        ("energy_high_j", high, "J"),
        ("share", share, "1"),
    ]
    return _with_units([*columns, ("basis", rows["basis"], ""), ("note", rows["note"], "")])


def _with_units(columns: list[tuple[str, Any, str]], about: dict[str, str] | None = None) -> pa.Table:
    arrays = [pa.array(value) for _, value, _ in columns]
    fields = [
        pa.field(name, array.type, metadata={"unit": unit} if unit else None)
        for (name, _, unit), array in zip(columns, arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=about))
