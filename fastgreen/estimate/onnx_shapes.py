"""Shapes of an ONNX model's tensors, and the values of small constants.

Exported models compute shapes while they run: ``Shape -> Gather -> Concat -> Reshape``. With fixed inputs all of these
are constants. So this code goes through the graph once, in order: it computes the nodes that depend on constants only,
and gives every other node to ONNX's shape inference together with the constants it uses.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.estimate.onnx_branches import branches, captured, inlined, inner_graphs
from fastgreen.estimate.onnx_forms import result_type_from, standard_form, written_shapes
from fastgreen.estimate.onnx_limits import MOST_BYTES, MOST_GROWTH, FoldingBudget

__all__ = ["TensorShapes"]

# Constants of more values than this are weights, not shapes.
MOST_VALUES = 4096


class TensorShapes:
    """Types, shapes and constant values of the tensors of a graph with fixed inputs.

    Parameters
    ----------
    onnx : module
        The package.
    model : onnx.ModelProto
        A model with inputs of fixed sizes.
    path : Path
        Its file; small weights may be in files beside it.
    symbols : dict of str to int
        Values of named sizes.

    Attributes
    ----------
    types : dict of str to onnx.TypeProto
        Types by tensor.
    values : dict of str to ndarray
        Values of small constants by tensor.
    constant : set of str
        Tensors that do not depend on an input: weights, and results computed from weights.
    nodes : list of onnx.NodeProto
        All nodes in order; a node ``If`` with a known condition gives its place to the nodes of its branch.
    """

    def __init__(self, onnx: Any, model: Any, path: Path, symbols: dict[str, int]) -> None:
        self.onnx, self.model, self.path, self.symbols = onnx, model, path, symbols
        self.types: dict[str, Any] = {}
        self.values: dict[str, np.ndarray] = {}
        self.constant: set[str] = set()
        self.budget = FoldingBudget()
        self.nodes: list[Any] = []
        self._growth = MOST_GROWTH
        self.said = {value.name: value.type for value in (*model.graph.value_info, *model.graph.output)}
        for tensor in model.graph.initializer:
            self._weight(tensor)
        for value in model.graph.input:
            self.types.setdefault(value.name, value.type)
        for node in model.graph.node:
            self._walk(node)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Sizes of a tensor; None if one of them is not known."""
        kind = self.types.get(name)
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            return None
        sizes = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.tensor_type.shape.dim)
        return None if any(size < 0 for size in sizes) else sizes

    def element_type(self, name: str) -> int:
        return self.types[name].tensor_type.elem_type if name in self.types else 0

    def _weight(self, tensor: Any, name: str = "") -> None:
        name = name or tensor.name
        self.types[name] = self.onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        self.constant.add(name)
        if math.prod(tensor.dims) > MOST_VALUES or tensor.ByteSize() > MOST_BYTES:
            return
        try:
            self.values[name] = self.onnx.numpy_helper.to_array(tensor, base_dir=str(self.path.parent))
        except (OSError, ValueError, TypeError, KeyError, self.onnx.checker.ValidationError):
            # Its file is missing or not to be trusted. It is most often a small weight; if it is a shape, what
            # depends on it is listed as unknown.
            return

    def is_constant(self, node: Any) -> bool:
        """Whether a node depends on constants only, those that its inner graphs capture included."""
        return all(name in self.constant for name in node.input if name) and captured(node) <= self.constant

    def _walk(self, node: Any) -> None:
        taken = [name for name in node.input if name]
        if node.op_type == "If" and self._follow(node):
            return
        self.nodes.append(node)
        if self.is_constant(node):
            self.constant.update(node.output)
        if any(True for _ in inner_graphs(node)):
            self._try_inner(node)
        else:
            self._infer(node)
            for name, shape in written_shapes(node, self.shape).items():
                if self.shape(name) is None:
                    self.types[name] = self.onnx.helper.make_tensor_type_proto(self.element_type(node.input[0]), shape)
            if node.op_type in ("Shape", "Size") or all(name in self.values for name in taken):
                self._compute(node)
        for name in node.output:
            if name and self.shape(name) is None:
                self._as_declared(name)

    def _follow(self, node: Any) -> bool:
        """Walk through the branch that a known condition takes; False if the condition is not known."""
        condition = self.values.get(node.input[0]) if node.input else None
        if condition is None or condition.size != 1:
            return False
        graph = branches(node).get(bool(condition.item()))
        if graph is None or len(graph.output) != len(node.output) or not self._affordable(graph):
            return False
        defined = {name for one in graph.node for name in one.output}
        prefix = node.name or f"{len(self.nodes) + 1}.If"
        results: dict[str, str] = {}
        for inner, outer in zip(graph.output, node.output, strict=True):
            if inner.name in defined and outer:
                results.setdefault(inner.name, outer)
        renamed = self._walk_inner(graph, prefix, results)
        for inner, outer in zip(graph.output, node.output, strict=True):
            if outer and results.get(inner.name) != outer:
                source = renamed.get(inner.name, inner.name)
                self._walk(self.onnx.helper.make_node("Identity", [source], [outer], f"{prefix}.{outer}"))
        return True

    def _affordable(self, graph: Any) -> bool:
        self._growth -= sum(node.ByteSize() for node in graph.node)
        return self._growth >= 0

    def _walk_inner(self, graph: Any, prefix: str, results: dict[str, str]) -> dict[str, str]:
        nodes, renamed = inlined(graph, prefix, results)
        for value in (*graph.value_info, *graph.output):
            if value.name in renamed:
                self.said.setdefault(renamed[value.name], value.type)
        for tensor in graph.initializer:
            self._weight(tensor, renamed[tensor.name])
        for inner in nodes:
            self._walk(inner)
        return renamed

    def _try_inner(self, node: Any) -> None:
        """Find the types of an unknown branch's outputs: those on which both branches agree."""
        both = list(branches(node).values())
        if node.op_type != "If" or len(both) != 2 or any(len(one.output) != len(node.output) for one in both):
            return
        if not all(self._affordable(graph) for graph in both):
            return
        kept, self.nodes = self.nodes, []
        prefix = node.name or f"{len(kept)}.If"
        found = []
        for place, graph in enumerate(both):
            renamed = self._walk_inner(graph, f"{prefix}/{place}", {})
            found.append([renamed.get(value.name, value.name) for value in graph.output])
        self.nodes = kept
        for name, first, second in zip(node.output, *found, strict=True):
            if name and self.shape(first) is not None and self.types[first] == self.types.get(second):
                self.types[name] = self.types[first]

    def _infer(self, node: Any) -> None:
        versions = {one.domain: one.version for one in self.model.opset_import}
        schema = self._schema(node, versions.get(node.domain, 1))
        form = standard_form(node) if schema is None else None
        if form is not None:
            schema = self._schema(form, versions.get("", 1))
        if schema is None:
            return
        unknown, original, node = self.onnx.TypeProto(), node, form or node
        types = {name: self.types.get(name, unknown) for name in node.input if name}
        if form is not None:
            # The standard's operator takes no integers.
            types = {name: self._typed(kind, self.onnx.TensorProto.FLOAT) for name, kind in types.items()}
        numpy_helper = self.onnx.numpy_helper
        data = {name: numpy_helper.from_array(self.values[name], name) for name in types if name in self.values}
        if node.op_type == "Split":
            _check_split(node, str(self.path))
        try:
            found = self.onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=list(self.model.opset_import), ir_version=self.model.ir_version
            )
        except (self.onnx.shape_inference.InferenceError, ValueError) as error:
            why = next(iter(str(error).strip().splitlines()), "no reason given")
            raise TraceError(
                f"{self.path}: shapes do not fit together at {node.name or node.op_type}: {why}"
            ) from error
        if form is not None:
            number = self.element_type(original.input[result_type_from(original)])
            found = {name: self._typed(kind, number) for name, kind in found.items()}
        self.types.update(found)

    def _typed(self, kind: Any, number: int) -> Any:
        copy = self.onnx.TypeProto()
        copy.CopyFrom(kind)
        copy.tensor_type.elem_type = number
        return copy

    def _schema(self, node: Any, version: int) -> Any:
        """Definition of an operator; of a later version, else an earlier one, if this version has none in force.

        Some runtimes take an operator earlier or longer than the standard does: GroupNormalization of version 18,
        normalizations in files of an early version.
        """
        defs = self.onnx.defs
        newest = defs.onnx_opset_version()  # a file may name any version
        versions = (version, newest, *range(min(version - 1, newest), 0, -1)) if not node.domain else (version,)
        for one in versions:
            try:
                schema = defs.get_schema(node.op_type, one, node.domain)
            except defs.SchemaError:
                if one < version:
                    return None
                continue
            if not schema.deprecated:
                return schema
        return None

    def _compute(self, node: Any) -> None:
        """Compute a node of constants if its value is small enough to be a shape."""
        if node.op_type in ("Shape", "Size"):
            shape = self.shape(node.input[0])
            if shape is None:
                return
            given = {one.name: one.i for one in node.attribute}
            cut = slice(given.get("start"), given.get("end"))
            value = np.array(shape[cut] if node.op_type == "Shape" else math.prod(shape), dtype=np.int64)
            self._keep(node.output[0], value)
            return
        sizes = [self.shape(name) for name in node.output if name]
        if node.op_type.startswith("Random") or any(size is None or math.prod(size) > MOST_VALUES for size in sizes):
            return
        if not self.budget.take(node):
            return
        from onnx.reference import ReferenceEvaluator

        inputs = {name: self.values[name] for name in node.input if name}
        try:
            results = ReferenceEvaluator(node, opsets={one.domain: one.version for one in self.model.opset_import}).run(
                None, inputs
            )
        except (NotImplementedError, RuntimeError, ValueError, TypeError, IndexError):
            # The reference evaluator lacks this operator, or fails on these values: only the shape is known then.
            return
        for name, value in zip(node.output, results, strict=False):
            if name and isinstance(value, np.ndarray | np.generic) and np.size(value) <= MOST_VALUES:
                self._keep(name, np.asarray(value))

    def _keep(self, name: str, value: np.ndarray) -> None:
        self.values[name] = value
        self.types[name] = self.onnx.helper.make_tensor_type_proto(
            self.onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )

    def _as_declared(self, name: str) -> None:
        """Use the shape that the file declares, with numbers for the names of sizes, if inference found no shape."""
        said = self.said.get(name)
        if said is None or not said.HasField("tensor_type") or not said.tensor_type.HasField("shape"):
            return
        filled = self.onnx.TypeProto()
        filled.CopyFrom(said)
        for dim in filled.tensor_type.shape.dim:
            if dim.dim_param in self.symbols:
                dim.dim_value = self.symbols[dim.dim_param]
        self.types[name] = filled


def _check_split(node: Any, where: str) -> None:
    """TraceError unless the parts are as many as the outputs; else shape inference (onnx 1.23) ends the process."""
    for one in node.attribute:
        if one.name == "num_outputs" and one.i != len(node.output):
            raise TraceError(f"{where}: shapes do not fit together at {node.name or 'Split'}: {one.i} parts")
