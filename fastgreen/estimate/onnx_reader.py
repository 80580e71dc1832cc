"""Layers of an ONNX file, from the shapes of its tensors: the network does not run, its weights are not read.

The first dimension of every input is the batch, or the second one before a recurrent layer; it may be dynamic. Any
other dynamic dimension is an error that names the input and the option that fixes it. A size with a name that several
inputs share needs to be given once.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastgreen.errors import FastgreenWarning, TraceError
from fastgreen.estimate.inputs import InputShape, Shapes, as_shapes
from fastgreen.estimate.layers import Layer
from fastgreen.estimate.number_widths import PRICED, bits_of_name, with_widths
from fastgreen.estimate.onnx_batch import batch_axes
from fastgreen.estimate.onnx_branches import captured, inner_graphs
from fastgreen.estimate.onnx_forms import RUNTIME, quantised_bits, standard_form
from fastgreen.estimate.onnx_limits import check_expansion
from fastgreen.estimate.onnx_nodes import FREE_NODES, POINTWISE_NODES, READERS, WINDOWS, unknown
from fastgreen.estimate.onnx_runtime_nodes import RUNTIME_READERS, extra_layers
from fastgreen.estimate.onnx_shapes import TensorShapes
from fastgreen.guards.untrusted import open_regular
from fastgreen.units import counted

__all__ = ["from_onnx"]

# Exceptions of onnx and its C++ parts for a damaged file.
_DAMAGE = (UnicodeDecodeError, KeyError, TypeError, IndexError, OverflowError, RuntimeError)
_LARGEST_FILE = 1 << 31  # Protocol Buffers, "Proto Limits": a message has at most 2 GiB


def from_onnx(path: str | Path, input_shape: Shapes = None) -> list[Layer]:
    """Layers of an ONNX model, in the order of its graph.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.
    input_shape : tuple of int, InputShape, or a list of these, optional
        Shape of one sample of the first input, or of each input in order or by name, without the batch; for models with
        dynamic sizes.

    Raises
    ------
    TraceError
        If the file is not an ONNX model, or its shapes contradict each other.
    ValueError
        If a size other than the batch is dynamic and `input_shape` does not give it.
    """
    try:
        import onnx
        import onnx.inliner
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImportError("reading an ONNX file needs onnx: pip install 'fastgreen[onnx]'") from error
    path = Path(path)
    try:
        with os.fdopen(open_regular(path), "rb") as stream:
            if os.fstat(stream.fileno()).st_size > _LARGEST_FILE:
                raise TraceError(f"{path}: not an ONNX model (larger than 2 GiB, the most that the format can hold)")
            model = onnx.load_model_from_string(stream.read())
    except (DecodeError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TraceError(f"{path}: not an ONNX model ({why})") from error
    try:
        _refuse_damage(model, path)
        if model.functions:
            check_expansion(model, str(path))
            model = onnx.inliner.inline_local_functions(model)
        symbols, batch = _fix_inputs(model, str(path), as_shapes(input_shape))
        return Graph(onnx, model, TensorShapes(onnx, model, path, symbols), batch).layers()
    except (*_DAMAGE, onnx.checker.ValidationError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TraceError(f"{path}: not a valid ONNX model ({why})") from error


def _refuse_damage(model: Any, path: Path) -> None:
    if not model.graph.node:
        raise TraceError(f"{path}: an ONNX model without a single node")
    for node in model.graph.node:
        # A damaged name is bytes instead of text.
        names = (node.op_type, node.domain, *node.input, *node.output, *(one.name for one in node.attribute))
        if not node.op_type or not node.output or not all(isinstance(name, str) for name in names):
            raise TraceError(
                f"{path}: not a valid ONNX model (a node without an operator, an output or a readable name)"
            )


def _fix_inputs(model: Any, path: str, given: list[InputShape]) -> tuple[dict[str, int], int]:
    """Replace names of sizes in the inputs' shapes by numbers, the batch by 1; returns the sizes by name, the batch."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    if not inputs:
        raise TraceError(f"{path}: an ONNX model without an input")
    named = _assign(inputs, given)
    axes = batch_axes(model.graph)
    symbols: dict[str, int] = {}
    for name, sizes in named.items():
        _fill(inputs[name], sizes, symbols, axes.get(name, 0))
    # All batches first: an input may have the name of the batch on another axis, before the input that explains it.
    batches, fixed = [], []
    for name, value in inputs.items():
        dims = list(value.type.tensor_type.shape.dim)
        dim = dims[axes.get(name, 0)] if dims else None
        if dim is None:
            continue
        fixed.append(max(1, dim.dim_value))
        if dim.dim_value <= 0 and dim.dim_param not in symbols:
            if dim.dim_param:
                batches.append(dim.dim_param)
            dim.dim_value = 1
    symbols |= dict.fromkeys(batches, 1)
    if len(set(batches)) > 1:
        names = ", ".join(dict.fromkeys(batches))
        warnings.warn(f"its inputs begin with the sizes {names}; each is taken as a batch of 1", FastgreenWarning,
                      stacklevel=3)  # fmt: skip
    for value in inputs.values():
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
            if dim.dim_value <= 0:
                unknown, batch = dim.dim_param or f"dimension {axis}", axes.get(value.name, 0)
                raise ValueError(_dynamic(value, unknown, path, len(inputs) > 1, batch))
    # An input of another size than the batch begins with another axis, such as the layers of a state.
    return symbols, 1 if not fixed or 1 in fixed else fixed[0]


def _dynamic(value: Any, unknown: str, path: str, several: bool, batch: int) -> str:
    dims = list(value.type.tensor_type.shape.dim)
    of_sample = dims[:batch] + dims[batch + 1 :]
    usual = ",".join(str(one.dim_value or (224 if len(dims) == 4 else 128)) for one in of_sample)
    return (
        f"input {value.name!r} of {path} has a dynamic size ({unknown}); give the shape of one sample without the "
        f"batch, for example --input-shape {f'{value.name}={usual}' if several else usual}"
    )


def _assign(inputs: dict[str, Any], given: list[InputShape]) -> dict[str, tuple[int, ...]]:
    """Sizes by input: a shape belongs to the input it names, else to the next input in order."""
    named = {shape.name: shape.sizes for shape in given if shape.name}
    if unknown := [name for name in named if name not in inputs]:
        raise ValueError(f"input_shape must name one of {', '.join(inputs)}, not {unknown[0]!r}")
    free = [name for name in inputs if name not in named]
    unnamed = [shape.sizes for shape in given if not shape.name]
    if len(unnamed) > len(free):
        raise ValueError(
            f"input_shape must have at most {counted(len(inputs), 'shape')} ({', '.join(inputs)}), not {len(given)}"
        )
    return named | dict(zip(free, unnamed, strict=False))


def _fill(value: Any, sizes: tuple[int, ...], symbols: dict[str, int], batch: int) -> None:
    dims = list(value.type.tensor_type.shape.dim)
    if len(sizes) != len(dims) - 1:
        wanted = counted(len(dims) - 1, "size")
        raise ValueError(f"input_shape of {value.name!r} must have {wanted} without the batch, not {len(sizes)}")
    for dim, size in zip(dims[:batch] + dims[batch + 1 :], sizes, strict=True):
        fixed = dim.dim_value or symbols.get(dim.dim_param, size)
        if fixed != size:
            raise ValueError(f"input_shape of {value.name!r} must be the fixed size {fixed}, not {size}")
        if dim.dim_param:
            symbols[dim.dim_param] = size
        dim.dim_value = size


class Graph:
    """The nodes of a model as layers, from the shapes of its tensors."""

    def __init__(self, onnx: Any, model: Any, tensors: TensorShapes, batch: int) -> None:
        self.onnx, self.graph, self.tensors, self.batch = onnx, model.graph, tensors, batch
        self.biases = self._find_biases()
        self.type_names = {number: name for name, number in onnx.TensorProto.DataType.items()}
        # Weights that are stored in fewer bits and unpacked before use: the tensor of the file.
        self.packed = {
            node.output[0]: node.input[0] for node in tensors.nodes
            if node.op_type == "DequantizeLinear" and tensors.is_constant(node)
        }  # fmt: skip
        if widths := self._widths():
            warnings.warn(f"its numbers are {', '.join(widths)}; {PRICED}", FastgreenWarning, stacklevel=3)

    def _widths(self) -> list[str]:
        """Types other than float32 with which the network computes, from inputs, weights, casts and operators."""
        floats = {name for name in self.type_names.values() if name.startswith(("FLOAT", "BFLOAT", "DOUBLE"))} - {
            "FLOAT"
        }
        found = set()
        for node in self.tensors.nodes:
            if node.op_type in ("Shape", "Size") or node.output[0] in self.tensors.values:
                continue
            names = [one for one in (*node.input, *node.output) if one]
            kinds = {self._type(name) for name in names}
            if bits := quantised_bits(node):
                found.add(f"int{bits}")
                found |= {kind.lower() for kind in kinds if kind in ("UINT4", "INT4", "INT16", "UINT16")}
            elif not self.tensors.is_constant(node):
                found |= {kind.lower() for kind in kinds & floats}
                stored = (self.packed[name] for name in node.input if name in self.packed)
                found |= {self._type(name).lower() for name in stored} - {""}
        return sorted(found)

    def layers(self) -> list[Layer]:
        found = []
        for index, node in enumerate(self.tensors.nodes, start=1):
            if self.tensors.is_constant(node):
                # It depends on constants only: its result is known before the network runs.
                continue
            if node.output[0] in self.tensors.values or node.output[0] in self.biases.values():
                # It only computes a shape, or is part of the layer before it.
                continue
            name = node.name or f"{index}.{node.op_type}"
            found += with_widths(self._layers(node, name), *self._bits(node))
        return found

    def _bits(self, node: Any) -> tuple[int, int]:
        """Bits of the numbers that flow through a node, and of its weights; 0 where they are not known."""
        constant = self.tensors.constant
        flowing = [one for one in (*node.input[:1], *node.output[:1]) if one and one not in constant]
        flow = max((bits_of_name(self._type(one)) for one in flowing), default=0)
        weights = [one for one in node.input if one in constant]
        largest = max(weights, key=lambda one: math.prod(self.shape(one)), default="")
        stored = bits_of_name(self._type(self.packed.get(largest, largest)))
        if node.op_type == "MatMulNBits":
            stored = quantised_bits(node)
        return flow, stored

    def _type(self, name: str) -> str:
        return self.type_names.get(self.tensors.element_type(name), "")

    def _find_biases(self) -> dict[str, str]:
        """Matrix products with one use, the addition of a vector of weights: exporters write linear layers so."""
        uses: dict[str, list[Any]] = {}
        for node in self.tensors.nodes:
            for name in (*node.input, *captured(node)):
                uses.setdefault(name, []).append(node)
        found = {}
        for node in self.tensors.nodes:
            then = uses.get(node.output[0], [])
            if node.op_type != "MatMul" or len(then) != 1 or then[0].op_type != "Add":
                continue
            (other,) = [name for name in then[0].input if name != node.output[0]] or [""]
            last = self.shape(node.output[0])[-1:]
            if last and other in self.tensors.constant and self.shape(other) == last:
                found[node.output[0]] = then[0].output[0]
        return found

    def _layers(self, node: Any, name: str) -> list[Layer]:
        if any(True for _ in inner_graphs(node)):
            why = "of an unknown condition" if node.op_type == "If" else ""
            return [unknown(node, name, why)]
        more = extra_layers(self, node, name) if node.domain == RUNTIME else []
        own = RUNTIME_READERS.get(node.op_type) if node.domain == RUNTIME else None
        node = (standard_form(node) or node) if own is None else node
        if own is None and node.domain not in ("", "ai.onnx"):
            return [unknown(node, name)]
        if own is None and node.op_type in FREE_NODES:
            return [Layer("Reshape" if node.op_type != "Dropout" else "Dropout", {}, name)]
        needed = node.input[:2] if own is None and node.op_type in WINDOWS else (*node.input[:2], node.output[0])
        if any(self.tensors.shape(tensor) is None for tensor in needed if tensor):
            return [unknown(node, name, "of unknown shape")]
        if any(0 in self.shape(tensor) for tensor in needed):
            return [Layer("Reshape", {}, name)]
        reader = own or READERS.get(node.op_type)
        if reader is not None:
            return self._read(reader, node, name) + more
        if node.op_type in ("Cast", "CastLike") and self._same_type(node):
            return [Layer("Reshape", {}, name)]
        if node.op_type in POINTWISE_NODES:
            size = {"input_size": self._largest(node), "inplace": 0}
            return [Layer(POINTWISE_NODES[node.op_type], size, name), *more]
        return [unknown(node, name)]

    def _read(self, reader: Any, node: Any, name: str) -> list[Layer]:
        """Layers of a node by its reader; only sizes that leave no result are an error of the file."""
        try:
            found = reader(self, node, name)
        except (ValueError, KeyError, IndexError, ZeroDivisionError):
            result = self.shape(node.output[0])
            if not result or min(result) < 1:
                raise
            found = None
        if found is None:
            return [unknown(node, name, "of such sizes")]
        return found if isinstance(found, list) else [found]

    def _same_type(self, node: Any) -> bool:
        return self.tensors.element_type(node.input[0]) == self.tensors.element_type(node.output[0])

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors.shape(name) or ()

    def per_sample(self, sizes: Sequence[int]) -> int:
        """Product of sizes for one sample; the batch may be in any place, since attention often moves it."""
        return max(1, -(-math.prod(sizes) // self.batch))

    def _largest(self, node: Any) -> int:
        """Elements per sample of the largest input or output, without weights."""
        flowing = [tensor for tensor in (*node.input, *node.output) if tensor and tensor not in self.tensors.constant]
        return max(self.per_sample(self.shape(tensor)) for tensor in flowing)

    def attributes(self, node: Any) -> dict[str, Any]:
        try:
            return {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}
        except ValueError as error:  # it refers to the attribute of a function, or is of an unknown type
            why = str(error).splitlines()[0]
            raise TraceError(f"{self.tensors.path}: not a valid ONNX model ({node.op_type}: {why})") from error
