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

from fastgreen.atomic_file import write_text
from fastgreen.errors import TraceError
from fastgreen.estimate.layers import KINDS
from fastgreen.estimate.linear import FeatureSet, LinearModel
from fastgreen.estimate.physical import PhysicalModel, choose_terms
from fastgreen.estimate.tables import Table
from fastgreen.estimate.work import TERMS
from fastgreen.guards.untrusted import read_small

__all__ = ["VERSION", "Model", "ModelSet", "default_models", "fit_physical", "load_models"]

_LARGEST_FILE = 64 << 20  # bytes

FORMAT = "fastgreen-estimate"
VERSION = 1
MOST_DEGREE = 8
# No price, factor or spread comes near; sums of products of such numbers and of sizes stay finite.
LARGEST = 1e30

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
        """Write the models as JSON, whole or not at all."""
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
        write_text(path, json.dumps(document, indent=1) + "\n")


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
        document = json.loads(read_small(Path(path), most=_LARGEST_FILE).decode())
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{path}: not a model file of fastgreen ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TraceError(f"{path}: not a model file of fastgreen (its format is not {FORMAT!r})")
    if type(document.get("version")) is not int or document["version"] != VERSION:
        raise TraceError(
            f"{path}: model file of version {document.get('version')!r}; this fastgreen reads version {VERSION}. "
            "Fit it again with `fastgreen fit`, or use the fastgreen that wrote it"
        )
    try:
        return _model_set(document)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise TraceError(f"{path}: damaged model file ({type(error).__name__}: {error})") from error


def _model_set(document: dict[str, Any]) -> ModelSet:
    for name, kind in (("machine", str), ("source", str), ("estimated", bool), ("notes", dict), ("models", dict)):
        if not isinstance(document[name], kind):
            raise ValueError(f"{name}: {str(document[name])[:60]!r} is not {_NAMES[kind]}")
    if not document["models"]:
        raise ValueError("models: there are none")
    models = {kind: _from_json(kind, entry) for kind, entry in document["models"].items()}
    return ModelSet(models, document["machine"], document["source"], document["estimated"], document["notes"])


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


_NAMES = {str: "words", bool: "true or false", dict: "a mapping"}


def _number(name: str, value: Any, low: float = -np.inf, high: float = LARGEST) -> float:
    """A finite number within bounds; words and truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name}: {str(value)[:60]} is not a number from {low:g} to {high:g}")
    return float(value)


def _numbers(name: str, values: Any) -> np.ndarray:
    return np.array([_number(name, value, -LARGEST) for value in values], dtype=np.float64)


def _ratios(name: str, values: Any) -> tuple[float, float]:
    """Measured over predicted at the low end and at the high one; 1 lies between."""
    low, high = values
    return _number(name, low, 0, 1), _number(name, high, 1)


def _ranges(kind: str, entry: dict[str, Any]) -> dict[str, tuple[int, int]]:
    known = {"batch_size", *KINDS[kind].needs, *KINDS[kind].defaults}
    found = {}
    for name, (low, high) in entry["ranges"].items():
        if name not in known:
            raise ValueError(f"ranges: {kind} has no size {name!r}")
        found[name] = (int(_number(name, low, 0)), int(_number(name, high, low)))
    if missing := [name for name in ("batch_size", *KINDS[kind].needs) if name not in found]:
        raise ValueError(f"ranges: {kind} has none of {missing[0]}")
    return found


def _from_json(kind: str, entry: dict[str, Any]) -> Model:
    if kind not in TERMS["basic"]:
        raise ValueError(f"models: {kind!r} is not one of {', '.join(TERMS['basic'])}")
    ranges, rows = _ranges(kind, entry), int(_number("rows", entry["rows"], 1))
    if entry["type"] == "physical":
        if entry["terms"] not in TERMS:
            raise ValueError(f"terms: {entry['terms']!r} is not one of {', '.join(TERMS)}")
        prices = {name: _number(name, price, 0) for name, price in entry["prices"].items()}
        inside, outside = (_ratios(name, entry[name]) for name in ("residual", "residual_outside"))
        return PhysicalModel(kind, entry["terms"], prices, ranges, rows, inside, outside)
    if entry["type"] != "linear":
        raise ValueError(f"type: {entry['type']!r} is not physical or linear")
    return _linear_from_json(kind, entry, ranges, rows)


def _linear_from_json(kind: str, entry: dict[str, Any], ranges: dict[str, tuple[int, int]], rows: int) -> LinearModel:
    names = tuple(entry["names"])
    if set(names) != set(ranges):
        raise ValueError(f"names: {', '.join(names)} are not the sizes with a range")
    features = FeatureSet(tuple(entry["sets"]), int(_number("degree", entry["degree"], 1, MOST_DEGREE)),
                          bool(entry["interaction_only"]))  # fmt: skip
    mean, scale, coefficients = (_numbers(name, entry[name]) for name in ("mean", "scale", "coefficients"))
    columns = len(names) * sum(one in features.sets for one in ("parameters", "log1p")) + ("macs" in features.sets)
    powers = np.array([[_number("powers", one, 0, features.degree) for one in row] for row in entry["powers"]])
    if powers.shape != (len(coefficients), columns) or len(mean) != columns or len(scale) != columns:
        raise ValueError(f"powers: shape {powers.shape} does not fit {len(coefficients)} coefficients")
    if (scale == 0).any():
        raise ValueError("scale: must not be 0")
    return LinearModel(
        kind, names, features, mean, scale, powers.astype(np.int64), coefficients,
        _number("intercept", entry["intercept"], -LARGEST), ranges, rows, _number("spread_j", entry["spread_j"], 0),
    )  # fmt: skip
