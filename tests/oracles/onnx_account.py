"""The nodes of an ONNX graph that a list of layers does not explain: a slow twin of the reader's own choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastgreen.estimate.layers import Layer


def name_nodes(model: Any) -> Any:
    """Give every node, those of inner graphs included, a name of its own."""
    for index, node in enumerate(_all_nodes(model.graph)):
        node.name = f"n{index}"
    return model


def missing_nodes(model: Any, layers: Sequence[Layer]) -> list[str]:
    """Names of nodes that work on the network's inputs and have no layer.

    A node needs no layer if no input reaches it except through ``Shape`` or ``Size``, or if it adds a vector of weights
    to the one matrix product before it. Of an ``If`` it is enough that all nodes of one branch have layers.
    """
    weights = {one.name for one in model.graph.initializer}
    flowing = {one.name for one in model.graph.input} - weights
    return _missing(model.graph, flowing, {layer.name for layer in layers}, "")


def _missing(graph: Any, flowing: set[str], names: set[str], prefix: str) -> list[str]:
    flowing, lost = set(flowing), []
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        used = _used(node)
        if node.op_type in ("Shape", "Size") or not used & flowing:
            continue
        flowing.update(node.output)
        name = prefix + node.name
        if any(one == name or (one.startswith(f"{name}.") and node.op_type != "If") for one in names):
            continue
        if node.op_type == "Add" and any(makers[one].op_type == "MatMul" for one in node.input if one in makers):
            continue
        if node.op_type == "If":
            inner = [_missing(one.g, flowing, names, f"{name}.") for one in node.attribute]
            lost += min(inner, key=len)
            continue
        lost.append(name)
    return lost


def _used(node: Any) -> set[str]:
    found = set(node.input)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                found |= _used(inner)
            found |= {one.name for one in graph.output}
    return found - {""}


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _all_nodes(inner)
