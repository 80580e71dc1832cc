"""Networks from files: an ONNX model, a plain list of layers (JSON, TOML, CSV), a built-in name, a Python object."""

from __future__ import annotations

import csv
import importlib
import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastgreen.errors import TraceError
from fastgreen.estimate.builtin import NAMES, zoo
from fastgreen.estimate.layers import FREE, Layer

__all__ = ["from_file", "from_list", "load_network"]


def from_list(entries: Any, where: str = "layers") -> list[Layer]:
    """Layers from a list of mappings: ``kind``, an optional ``name``, and the kind's sizes.

    Examples
    --------
    >>> from_list([{"kind": "Linear", "input_size": 8, "output_size": 2}])[0].kind
    'Linear'
    """
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{where}: a network is a list of at least one layer")
    layers = []
    for index, entry in enumerate(entries, start=1):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("kind"), str):
            raise ValueError(f"{where}: layer {index} has no kind")
        kind, name = entry["kind"], str(entry.get("name") or f"{index}.{entry['kind']}")
        sizes = {key: value for key, value in entry.items() if key not in ("kind", "name")}
        layers.append(Layer(kind, {} if kind in FREE else sizes, name))
    return layers


def from_file(path: str | Path, input_shape: tuple[int, ...] | None = None) -> list[Layer]:
    """Layers of an ``.onnx`` file or of a plain list in ``.json``, ``.toml`` (``[[layer]]``) or ``.csv``.

    Raises
    ------
    TraceError
        If the file cannot be understood.
    ValueError
        For an impossible layer.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from fastgreen.estimate.onnx_reader import from_onnx

        return from_onnx(path, input_shape)
    try:
        if suffix == ".json":
            document = json.loads(path.read_text(encoding="utf-8"))
            return from_list(document["layers"] if isinstance(document, dict) else document, str(path))
        if suffix == ".toml":
            return from_list(tomllib.loads(path.read_text(encoding="utf-8")).get("layer"), str(path))
        if suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                return from_list([_cells(row) for row in csv.DictReader(file)], str(path))
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise TraceError(f"{path}: not a list of layers ({type(error).__name__}: {error})") from error
    raise ValueError(
        f"{path}: a network is read from .onnx, .json, .toml or .csv, not {suffix or 'a file without suffix'!r}"
    )


def _cells(row: dict[str, str]) -> dict[str, Any]:
    kept = {key: value for key, value in row.items() if key and value not in ("", None)}
    return {key: value if key in ("kind", "name") else float(value) for key, value in kept.items()}


def load_network(model: str, input_shape: tuple[int, ...] | None = None) -> tuple[str, list[Layer]]:
    """A network by what a user would type.

    Parameters
    ----------
    model : str
        A built-in name, the path of a file, or ``package.module:name`` of a PyTorch module or of a callable that
        gives one.
    input_shape : tuple of int, optional
        Shape of one sample, without the batch.

    Returns
    -------
    name, layers
    """
    if model.lower() in NAMES:
        if input_shape is None:
            return model.lower(), zoo(model)
        if len(input_shape) != 3 or input_shape[1] != input_shape[2]:
            raise ValueError(f"input_shape: {model} takes channels, height and the same width, not {input_shape}")
        return model.lower(), zoo(model, image_size=input_shape[1], in_channels=input_shape[0])
    if os.path.exists(model):
        return Path(model).stem, from_file(model, input_shape)
    if ":" in model and not model.lower().endswith((".onnx", ".json", ".toml", ".csv")):
        return model, _from_python(model, input_shape)
    raise ValueError(
        f"model: {model!r} is no file, not one of {', '.join(NAMES)}, and not package.module:name of a PyTorch module"
    )


def _from_python(model: str, input_shape: tuple[int, ...] | None) -> list[Layer]:
    from fastgreen.estimate.torch_reader import from_torch

    if input_shape is None:
        raise ValueError(
            "input_shape: a PyTorch module needs the shape of one sample, for example --input-shape 3,224,224"
        )
    module_name, _, attribute = model.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"model: {model!r} cannot be imported ({error})") from error
    finally:
        sys.path.pop(0)
    module = target if hasattr(target, "named_modules") and not isinstance(target, type) else target()
    return from_torch(module, input_shape)
