"""Load a network: from an ONNX file, a list of layers (JSON, TOML, CSV), a built-in name or a Python object."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastgreen.errors import FastgreenWarning, TraceError
from fastgreen.estimate.builtin import NAMES, zoo
from fastgreen.estimate.inputs import Shapes, as_shapes
from fastgreen.estimate.layers import FREE, KINDS, Layer
from fastgreen.guards.untrusted import read_small, read_toml

__all__ = ["from_file", "from_list", "load_network"]

_LARGEST_LIST = 64 << 20  # bytes


def from_list(entries: Any, where: str = "layers") -> list[Layer]:
    """Make layers from a list of mappings.

    Parameters
    ----------
    entries : list of mapping
        Each with ``kind``, an optional ``name``, and the sizes of the kind.
    where : str
        Name of the list in errors.

    Returns
    -------
    list of Layer

    Raises
    ------
    ValueError
        If the list is empty, an entry has no kind, or a layer is impossible.

    Examples
    --------
    >>> from_list([{"kind": "Linear", "input_size": 8, "output_size": 2}])[0].kind
    'Linear'
    """
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{where} must be a list of at least one layer")
    layers = []
    for index, entry in enumerate(entries, start=1):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("kind"), str):
            raise ValueError(f"{where}: layer {index} must have a kind")
        kind, name = _kind(entry["kind"]), str(entry.get("name") or f"{index}.{entry['kind']}")
        sizes = {key: value for key, value in entry.items() if key not in ("kind", "name")}
        layers.append(Layer(kind, {} if kind in FREE else sizes, name))
    return layers


@functools.lru_cache(maxsize=1024)
def _near(name: str) -> str:
    """The most similar known kind in lower case, or an empty text; a very long name is similar to no kind."""
    known = [kind.lower() for kind in (*KINDS, *FREE)]
    if len(name) > 2 * max(map(len, known)):
        return ""
    return next(iter(difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.75)), "")


def _kind(name: str) -> str:
    """The kind in its correct case; warns if an unknown kind is similar to a known one."""
    spelt = {kind.lower(): kind for kind in (*KINDS, *FREE)}
    if name.lower() in spelt:
        return spelt[name.lower()]
    if near := _near(name):
        warnings.warn(f"kind {name!r} is not known; did you mean {spelt[near]}?", FastgreenWarning, stacklevel=3)
    return name


def from_file(path: str | Path, input_shape: Shapes = None) -> list[Layer]:
    """Read the layers of a network from a file.

    Parameters
    ----------
    path : path
        An ONNX model (``.onnx``), or a list of layers in ``.json``, ``.toml`` (``[[layer]]``) or ``.csv``.
    input_shape : tuple of int, InputShape, or a list of these, optional
        Shape of one sample of each input, without the batch; for ONNX models with dynamic sizes.

    Returns
    -------
    list of Layer

    Raises
    ------
    TraceError
        If the file is damaged or of another format.
    ValueError
        If the name of the file has another ending, or a layer is impossible.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        raise ValueError(f"{path} must be the file of a network, not a folder")
    if suffix == ".onnx":
        from fastgreen.estimate.onnx_reader import from_onnx

        return from_onnx(path, input_shape)
    if suffix not in _LISTS:
        found = suffix or "a file without suffix"
        raise ValueError(f"{path} must end in .onnx, {', '.join(_LISTS)}, not {found}")
    try:
        entries = _LISTS[suffix](path)
    except _UNREADABLE as error:
        raise TraceError(f"{path}: not a list of layers ({type(error).__name__}: {error})") from error
    except ValueError as error:  # a number of thousands of digits, which Python does not convert
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"{path}: not a list of layers ({error})") from error
    return from_list(entries, str(path))


def _from_json(path: Path) -> Any:
    document = json.loads(_text(path), object_pairs_hook=_once)
    return document["layers"] if isinstance(document, dict) else document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ValueError if a key is there twice, where JSON would keep the last one only."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice in one object")
        found[key] = value
    return found


def _text(path: Path) -> str:
    return read_small(path, most=_LARGEST_LIST).decode("utf-8-sig")


def _from_csv(path: Path) -> list[dict[str, Any]]:
    from fastgreen.table_files import load_table

    read_small(path, most=_LARGEST_LIST)  # a pipe or an endless file is refused
    table = load_table(path)
    if "kind" not in table.column_names:
        raise ValueError(f"a list of layers needs a column 'kind'; there are {', '.join(table.column_names)}")
    return [_cells(row) for row in table.to_pylist()]


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in row.items() if value not in ("", None)}
    return {key: str(value) if key in ("kind", "name") else _number(value) for key, value in kept.items()}


def _number(value: Any) -> Any:
    """Text as an int if possible, else a float; `Layer` refuses any other size, by its name."""
    try:
        return int(value) if isinstance(value, str) else value
    except ValueError:
        return float(value) if value.replace(".", "", 1).isdecimal() else value


_UNREADABLE = (
    json.JSONDecodeError, UnicodeDecodeError, KeyError, RecursionError,
)  # fmt: skip
_LISTS: dict[str, Callable[[Path], Any]] = {
    ".json": _from_json,
    ".toml": lambda path: read_toml(path, _LARGEST_LIST).get("layer"),
    ".csv": _from_csv,
}


def load_network(model: str, input_shape: Shapes = None) -> tuple[str, list[Layer]]:
    """Load a network by its name, its file or its Python object, as the command line does.

    Parameters
    ----------
    model : str
        A built-in name, the path of a file, or ``package.module:name`` of a PyTorch module or of a callable that
        returns one.
    input_shape : tuple of int, InputShape, or a list of these, optional
        Shape of one sample of each input, without the batch.

    Returns
    -------
    name : str
    layers : list of Layer

    Raises
    ------
    ValueError
        If there is no such network, or `input_shape` does not fit it.
    TraceError
        If its file is damaged.
    """
    if model.lower() in NAMES:
        return model.lower(), _built_in(model.lower(), input_shape)
    if os.path.exists(model):
        return Path(model).stem, from_file(model, input_shape)
    if model.lower().endswith((".onnx", *_LISTS)):
        raise ValueError(f"model must be an existing file, not {model!r}")
    if ":" in model:
        return model, _from_python(model, input_shape)
    raise ValueError(
        f"model must be a file, one of {', '.join(NAMES)}, or package.module:name of a PyTorch module, not {model!r}"
    )


def _built_in(name: str, input_shape: Shapes) -> list[Layer]:
    shapes = as_shapes(input_shape)
    if not shapes:
        return zoo(name)
    sizes = shapes[0].sizes
    if len(shapes) > 1 or len(sizes) != 3 or sizes[1] != sizes[2]:
        raise ValueError(f"input_shape of {name} must be channels, height and the same width, not {sizes}")
    return zoo(name, image_size=sizes[1], in_channels=sizes[0])


def _from_python(model: str, input_shape: Shapes) -> list[Layer]:
    module_name, _, attribute = model.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"model must be package.module:name, not {model!r}")
    sys.path.insert(0, os.getcwd())
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ValueError(f"model: {model!r} cannot be imported ({error})") from error
    finally:
        sys.path.pop(0)
    return from_object(model, target, input_shape)


def from_object(model: str, target: Any, input_shape: Shapes) -> list[Layer]:
    """Layers of a PyTorch module, or of the module that a callable returns; `model` is its name in errors."""
    from fastgreen.estimate.torch_reader import from_torch

    if not as_shapes(input_shape):
        raise ValueError(
            "input_shape must be given for a PyTorch module: the shape of one sample, for example "
            "--input-shape 3,224,224"
        )
    return from_torch(_made(model, target), input_shape)


def _made(model: str, target: Any) -> Any:
    """The module itself, or the result of the callable."""
    if hasattr(target, "named_modules") and not isinstance(target, type):
        return target
    if not callable(target):
        raise ValueError(f"model must be a PyTorch module or a callable that returns one, not {model!r}")
    try:
        inspect.signature(target).bind()
    except (TypeError, ValueError) as error:
        raise ValueError(f"model: {model!r} cannot be called without arguments ({error})") from error
    return target()
