"""Fitted models in one JSON file (no pickle): coefficients, the ranges they were fitted on, and their source.

The version of the file changes when an older reader would misread it; a reader refuses any other version.
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
from fastgreen.estimate.physical import PhysicalModel
from fastgreen.estimate.spread import LARGEST_DEVIATION, Spread
from fastgreen.estimate.tables import Table
from fastgreen.estimate.work import TERMS
from fastgreen.guards.untrusted import read_small

__all__ = ["VERSION", "Model", "ModelSet", "default_models", "fit_physical", "load_models"]

_LARGEST_FILE = 64 << 20  # bytes

FORMAT = "fastgreen-estimate"
VERSION = 1
MOST_DEGREE = 8
# Far above any price, factor or spread; sums of products of sizes and numbers up to here stay finite.
LARGEST = 1e30

Model = PhysicalModel | LinearModel


@dataclass(frozen=True)
class ModelSet:
    """Predictors by kind of layer, with the machine and the data that they were fitted on.

    Attributes
    ----------
    models : dict of str to PhysicalModel or LinearModel
        By kind.
    machine : str
        The machine and the part of it that was measured.
    source : str
        The measurements used, and their licence.
    estimated : bool
        Whether those measurements came from an estimate and not from a sensor.
    """

    models: Mapping[str, Model]
    machine: str = "unknown machine"
    source: str = ""
    estimated: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the models as a JSON file; it appears complete or not at all.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
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


def fit_physical(tables: dict[str, Table], which: str | None = None, **about: Any) -> ModelSet:
    """Fit a physical predictor on every table.

    Parameters
    ----------
    tables : dict of str to Table
        Measured layers by kind.
    which : {"basic", "caches", "rows", "kernel", "library"}, optional
        The set of terms. By default, cross-validation chooses one for each table.
    **about
        ``machine``, ``source``, ``estimated`` and ``notes`` of the result.

    Returns
    -------
    ModelSet

    Raises
    ------
    ValueError
        If a table is too short, or its energy is constant or not above 0.
    """
    about.setdefault("estimated", any(table.estimated for table in tables.values()))
    return ModelSet({kind: PhysicalModel.fit(table, which) for kind, table in tables.items()}, **about)


def default_models() -> ModelSet:
    """Models of the package: physical predictors, fitted on published measurements of one machine's CPU energy."""
    return load_models(Path(__file__).with_name("xeon_gold_5120.json"))


def load_models(path: str | Path) -> ModelSet:
    """Read a file of :meth:`ModelSet.save`.

    Raises
    ------
    TraceError
        If the file is not a model file, is damaged, or is of another version.
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
            raise ValueError(f"{name} must be {_NAMES[kind]}, not {str(document[name])[:60]!r}")
    if not document["models"]:
        raise ValueError("models must have at least one entry")
    models = {kind: _from_json(kind, entry) for kind, entry in document["models"].items()}
    return ModelSet(models, document["machine"], document["source"], document["estimated"], document["notes"])


def _to_json(model: Model) -> dict[str, Any]:
    common = {"ranges": {name: list(pair) for name, pair in model.ranges.items()}, "rows": model.rows}
    if isinstance(model, PhysicalModel):
        own = {
            "type": "physical",
            "terms": model.which,
            "prices": model.prices,
            "residual": list(model.residual),
            "residual_outside": list(model.residual_outside),
        }
        if (spread := model.spread) is not None:
            own["spread"] = {"terms": dict(spread.terms), "rest": spread.rest, "low": spread.low, "high": spread.high}
        return own | common
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


_NAMES = {str: "text", bool: "true or false", dict: "a mapping"}


def _number(name: str, value: Any, low: float = -np.inf, high: float = LARGEST) -> float:
    """Check that a value is a number within bounds; text and truth values are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {str(value)[:60]}")
    return float(value)


def _numbers(name: str, values: Any) -> np.ndarray:
    return np.array([_number(name, value, -LARGEST) for value in values], dtype=np.float64)


def _ratios(name: str, values: Any) -> tuple[float, float]:
    """Check a pair of ratios, measured over predicted: the low one is at most 1, the high one at least 1."""
    low, high = values
    return _number(name, low, 0, 1), _number(name, high, 1)


def _spread(entry: dict[str, Any]) -> Spread:
    deviations = {name: _number(name, value, 0, LARGEST_DEVIATION) for name, value in entry["terms"].items()}
    return Spread(
        deviations,
        _number("rest", entry["rest"], 0, LARGEST_DEVIATION),
        _number("low", entry["low"], -LARGEST_DEVIATION, 0),
        _number("high", entry["high"], 0, LARGEST_DEVIATION),
    )


def _ranges(kind: str, entry: dict[str, Any]) -> dict[str, tuple[int, int]]:
    known = {"batch_size", *KINDS[kind].needs, *KINDS[kind].defaults}
    found = {}
    for name, (low, high) in entry["ranges"].items():
        if name not in known:
            raise ValueError(f"ranges must be of sizes of {kind}, not {name!r}")
        found[name] = (int(_number(name, low, 0)), int(_number(name, high, low)))
    if missing := [name for name in ("batch_size", *KINDS[kind].needs) if name not in found]:
        raise ValueError(f"ranges of {kind} must include {missing[0]}")
    return found


def _from_json(kind: str, entry: dict[str, Any]) -> Model:
    if kind not in TERMS["basic"]:
        raise ValueError(f"models must be of {', '.join(TERMS['basic'])}, not {kind!r}")
    ranges, rows = _ranges(kind, entry), int(_number("rows", entry["rows"], 1))
    if entry["type"] == "physical":
        if entry["terms"] not in TERMS:
            raise ValueError(f"terms must be one of {', '.join(TERMS)}, not {entry['terms']!r}")
        prices = {name: _number(name, price, 0) for name, price in entry["prices"].items()}
        inside, outside = (_ratios(name, entry[name]) for name in ("residual", "residual_outside"))
        spread = _spread(entry["spread"]) if "spread" in entry else None
        return PhysicalModel(kind, entry["terms"], prices, ranges, rows, inside, outside, spread=spread)
    if entry["type"] != "linear":
        raise ValueError(f"type must be physical or linear, not {entry['type']!r}")
    return _linear_from_json(kind, entry, ranges, rows)


def _linear_from_json(kind: str, entry: dict[str, Any], ranges: dict[str, tuple[int, int]], rows: int) -> LinearModel:
    names = tuple(entry["names"])
    if set(names) != set(ranges):
        raise ValueError(f"names must be the sizes with a range, not {', '.join(names)}")
    features = FeatureSet(tuple(entry["sets"]), int(_number("degree", entry["degree"], 1, MOST_DEGREE)),
                          bool(entry["interaction_only"]))  # fmt: skip
    mean, scale, coefficients = (_numbers(name, entry[name]) for name in ("mean", "scale", "coefficients"))
    columns = len(names) * sum(one in features.sets for one in ("parameters", "log1p")) + ("macs" in features.sets)
    powers = np.array([[_number("powers", one, 0, features.degree) for one in row] for row in entry["powers"]])
    if powers.shape != (len(coefficients), columns) or len(mean) != columns or len(scale) != columns:
        raise ValueError(
            f"powers must have the shape ({len(coefficients)}, {columns}), mean and scale {columns} values, not "
            f"{powers.shape}, {len(mean)} and {len(scale)}"
        )
    if (scale == 0).any():
        raise ValueError("scale must not be 0")
    return LinearModel(
        kind, names, features, mean, scale, powers.astype(np.int64), coefficients,
        _number("intercept", entry["intercept"], -LARGEST), ranges, rows, _number("spread_j", entry["spread_j"], 0),
    )  # fmt: skip
