"""Fitted models in one JSON file: numbers, the ranges they were fitted on, where they come from. No pickle.

The file's version changes when an older reader would misread it; a reader refuses a version that is not its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.estimate.linear import FeatureSet, LinearModel
from fastgreen.estimate.physical import PhysicalModel, choose_terms
from fastgreen.estimate.tables import Table

__all__ = ["VERSION", "Model", "ModelSet", "default_models", "fit_physical", "load_models"]

FORMAT = "fastgreen-estimate"
VERSION = 1

Model = PhysicalModel | LinearModel


@dataclass(frozen=True)
class ModelSet:
    """Predictors by kind of layer, and where they come from.

    Attributes
    ----------
    models : dict of str to PhysicalModel or LinearModel
        By kind.
    machine : str
        The machine, and what of it, whose joules these are.
    source : str
        The measurements fitted on, and their licence.
    estimated : bool
        Whether those measurements came from an estimate and not from a sensor.
    """

    models: Mapping[str, Model]
    machine: str = "unknown machine"
    source: str = ""
    estimated: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the models as JSON."""
        entries = {kind: _to_json(model) for kind, model in self.models.items()}
        document = {
            "format": FORMAT,
            "version": VERSION,
            "unit": "J per forward pass of the whole batch",
            "machine": self.machine,
            "source": self.source,
            "estimated": self.estimated,
            "notes": self.notes,
            "models": entries,
        }
        Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def fit_physical(tables: dict[str, Table], which: str = "kernel", **about: Any) -> ModelSet:
    """Fit a physical predictor on every table, on fewer terms where it is short; `about` goes into the ModelSet."""
    about.setdefault("estimated", any(table.estimated for table in tables.values()))
    return ModelSet(
        {kind: PhysicalModel.fit(table, choose_terms(table, which)) for kind, table in tables.items()}, **about
    )


def default_models() -> ModelSet:
    """The models that come with the package: physical, fitted on the published tables of one machine's CPU energy."""
    return load_models(Path(__file__).with_name("xeon_gold_5120.json"))


def load_models(path: str | Path) -> ModelSet:
    """Read what :meth:`ModelSet.save` wrote.

    Raises
    ------
    TraceError
        If the file is no such file, is damaged, or is of another version.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise TraceError(f"{path}: not a model file of fastgreen ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TraceError(f"{path}: not a model file of fastgreen (its format is not {FORMAT!r})")
    if document.get("version") != VERSION:
        raise TraceError(
            f"{path}: model file of version {document.get('version')!r}; this fastgreen reads version {VERSION}. "
            "Fit it again with `fastgreen fit`, or use the fastgreen that wrote it"
        )
    try:
        models = {kind: _from_json(kind, entry) for kind, entry in document["models"].items()}
        return ModelSet(
            models, document["machine"], document["source"], bool(document["estimated"]), document.get("notes", {})
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TraceError(f"{path}: damaged model file ({type(error).__name__}: {error})") from error


def _to_json(model: Model) -> dict[str, Any]:
    common = {"ranges": {name: list(pair) for name, pair in model.ranges.items()}, "rows": model.rows}
    if isinstance(model, PhysicalModel):
        return {
            "type": "physical",
            "terms": model.which,
            "prices": model.prices,
            "residual": list(model.residual),
            "residual_outside": list(model.residual_outside),
            **common,
        }
    return {
        "type": "linear",
        "names": list(model.names),
        "sets": list(model.feature_set.sets),
        "degree": model.feature_set.degree,
        "interaction_only": model.feature_set.interaction_only,
        "mean": model.mean.tolist(),
        "scale": model.scale.tolist(),
        "powers": model.powers.tolist(),
        "coefficients": model.coefficients.tolist(),
        "intercept": model.intercept,
        "spread_j": model.spread_j,
        **common,
    }


def _pair(values: list[float]) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)


def _from_json(kind: str, entry: dict[str, Any]) -> Model:
    ranges = {name: (int(low), int(high)) for name, (low, high) in entry["ranges"].items()}
    if entry["type"] == "physical":
        prices = {name: float(price) for name, price in entry["prices"].items()}
        inside, outside = (_pair(entry[name]) for name in ("residual", "residual_outside"))
        return PhysicalModel(kind, entry["terms"], prices, ranges, int(entry["rows"]), inside, outside)
    if entry["type"] != "linear":
        raise ValueError(f"type: {entry['type']!r} is not physical or linear")
    features = FeatureSet(tuple(entry["sets"]), entry["degree"], entry["interaction_only"])
    numbers = {name: np.asarray(entry[name], dtype=np.float64) for name in ("mean", "scale", "coefficients")}
    powers = np.asarray(entry["powers"], dtype=np.int64)
    if powers.shape != (len(numbers["coefficients"]), len(numbers["mean"])):
        raise ValueError(f"powers: shape {powers.shape} does not fit the coefficients")
    return LinearModel(
        kind, tuple(entry["names"]), features, numbers["mean"], numbers["scale"], powers, numbers["coefficients"],
        float(entry["intercept"]), ranges, int(entry["rows"]), float(entry["spread_j"]),
    )  # fmt: skip
