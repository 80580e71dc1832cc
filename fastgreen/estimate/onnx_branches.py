"""Inner graphs of ONNX nodes: the tensors that they capture, and their nodes as nodes of the outer graph.

The branches of ``If`` and the bodies of ``Loop`` and ``Scan`` use tensors of the graph around them without naming them
as inputs. A node depends on these tensors as well. A branch with a known condition becomes part of the outer graph; its
own tensors get new names, because both branches of a node, or two nodes, may use one name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["branches", "captured", "inlined", "inner_graphs", "own_names"]


def inner_graphs(node: Any) -> Iterator[Any]:
    """Graphs among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def branches(node: Any) -> dict[bool, Any]:
    """Branches of an ``If`` by its condition."""
    by_name = {one.name: one.g for one in node.attribute if one.HasField("g")}
    return {value: by_name[name] for value, name in ((True, "then_branch"), (False, "else_branch")) if name in by_name}


def own_names(graph: Any) -> set[str]:
    """Names of the tensors that a graph defines itself."""
    names = {one.name for one in (*graph.input, *graph.initializer)}
    return names | {name for node in graph.node for name in node.output}


def captured(node: Any) -> set[str]:
    """Tensors of the outer graph that the inner graphs of a node use.

    Examples
    --------
    >>> import onnx.helper as h
    >>> branch = h.make_graph([h.make_node("Relu", ["a"], ["b"])], "branch", [], [])
    >>> captured(h.make_node("If", ["yes"], ["c"], then_branch=branch, else_branch=branch))
    {'a'}
    """
    found: set[str] = set()
    for graph in inner_graphs(node):
        used = {one.name for one in graph.output}
        for inner in graph.node:
            used.update(inner.input)
            used |= captured(inner)
        found |= used - own_names(graph)
    return found - {""}


def inlined(graph: Any, prefix: str, results: Mapping[str, str]) -> tuple[list[Any], dict[str, str]]:
    """Nodes of an inner graph for use in the outer graph.

    Parameters
    ----------
    graph : onnx.GraphProto
        The inner graph.
    prefix : str
        Name of the node that has this graph; it begins the new names.
    results : mapping of str to str
        New names for some of the graph's tensors, such as the names of its outputs in the outer graph.

    Returns
    -------
    nodes : list of onnx.NodeProto
        Copies with new names.
    renamed : dict of str to str
        New names by the old ones, of all tensors that the graph defines.
    """
    renamed = {name: results.get(name) or f"{prefix}/{graph.name}/{name}" for name in own_names(graph) if name}
    nodes = []
    for index, node in enumerate(graph.node, start=1):
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = f"{prefix}.{node.name or f'{index}.{node.op_type}'}"
        _rename(copy, renamed)
        nodes.append(copy)
    return nodes, renamed


def _rename(node: Any, renamed: Mapping[str, str]) -> None:
    node.input[:] = [renamed.get(name, name) for name in node.input]
    node.output[:] = [renamed.get(name, name) for name in node.output]
    for graph in inner_graphs(node):
        inside = own_names(graph)
        outer = {old: new for old, new in renamed.items() if old not in inside}
        for inner in graph.node:
            _rename(inner, outer)
        for value in graph.output:
            value.name = outer.get(value.name, value.name)
