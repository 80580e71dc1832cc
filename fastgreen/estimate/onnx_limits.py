"""Limits for untrusted ONNX files: how far functions are expanded, and how much is computed while a file is read.

A file of a few kilobytes can hold functions that call each other 2^40 times, and operators that run for hours on a
constant. A real model is far within these limits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from fastgreen.errors import TraceError

__all__ = ["FOLDED", "MOST_BYTES", "FoldingBudget", "check_expansion"]

MOST_NODES = 50_000  # of a model with its functions expanded; the largest published ones have some ten thousand
MOST_GROWTH = 256 << 20  # bytes that expanding may add
MOST_BYTES = 1 << 20  # of a constant that is a shape
_MOST_EVALUATIONS = 20_000
_MOST_S = 3.0  # of CPU time

# Operators that exporters compute shapes with. Time and memory of each are bounded by its inputs and its result.
FOLDED = frozenset(
    {
        "Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape",
        "CumSum", "Div", "Equal", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Greater",
        "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or",
        "Pad", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round",
        "ScatterElements", "ScatterND", "Sign", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tile", "Transpose",
        "Unsqueeze", "Where", "Xor",
    }
)  # fmt: skip


class FoldingBudget:
    """Budget of operators, evaluations and seconds of CPU time for computing constants while one file is read.

    The time of day would give a file other layers on a busy machine.
    """

    def __init__(self) -> None:
        self._left = _MOST_EVALUATIONS
        self._until_s = 0.0

    def take(self, node: Any) -> bool:
        """Whether this node may be computed; if so, it is counted."""
        now_s = time.thread_time()
        self._until_s = self._until_s or now_s + _MOST_S
        if node.domain not in ("", "ai.onnx") or node.op_type not in FOLDED or self._left <= 0 or now_s > self._until_s:
            return False
        self._left -= 1
        return True


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes of a graph or a function, those of inner graphs included."""
    waiting = list(graph.node)
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                waiting.extend(inner.node)


def _key(one: Any) -> tuple[str, str, str]:
    """The identity of a function, of itself or of a node that calls it."""
    return (one.domain, getattr(one, "op_type", "") or one.name, getattr(one, "overload", ""))


def check_expansion(model: Any, where: str) -> None:
    """Raise TraceError if a model is too large with its functions expanded, or a function calls itself.

    Each function is counted once, after those that it calls, so this takes no longer than reading the file.
    """
    functions = {_key(one): one for one in model.functions}
    calls: dict[Any, list[Any]] = {}
    own: dict[Any, tuple[int, int]] = {}
    for key, body in [*functions.items(), (None, model.graph)]:
        nodes = list(_nodes(body))
        calls[key] = [called for called in map(_key, nodes) if called in functions]
        own[key] = len(nodes), body.ByteSize()
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        name = error.args[1][0][1]
        raise TraceError(f"{where}: not a valid ONNX model (the function {name!r} calls itself)") from None
    most_bytes = own[None][1] + MOST_GROWTH
    expanded: dict[Any, tuple[int, int]] = {}
    for key in order:
        counts, sizes = zip(own[key], *(expanded[called] for called in calls[key]), strict=True)
        # Counts stop just beyond the limits: a number that doubles 2^20 times fills the memory itself.
        expanded[key] = min(sum(counts), MOST_NODES + 1), min(sum(sizes), most_bytes + 1)
    if expanded[None][0] > MOST_NODES or expanded[None][1] > most_bytes:
        raise TraceError(f"{where}: its functions expand to more than {MOST_NODES} nodes or {MOST_GROWTH >> 20} MiB")
