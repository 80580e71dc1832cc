"""The batch among the axes of a graph's inputs.

It is the first axis, except for inputs of recurrent layers, which take ``[steps, batch, features]``, and states of
``[directions, batch, size]`` by ONNX's definition, unless their attribute ``layout`` is 1. The axis is followed from
each recurrent layer back through the nodes before it, as far as these keep their axes or move them in a known way.
"""

from __future__ import annotations

from typing import Any

from fastgreen.estimate.counts import GATES

__all__ = ["batch_axes"]

# These keep the axes of their first input.
_SAME = frozenset(
    {
        "Identity", "Cast", "CastLike", "Dropout", "Relu", "Sigmoid", "Tanh", "Gelu", "Elu", "Selu", "LeakyRelu",
        "Clip", "Erf", "Sqrt", "Exp", "Log", "Neg", "Abs", "Softmax", "LogSoftmax", "HardSwish", "HardSigmoid",
        "Softplus", "LayerNormalization", "RMSNormalization", "QuantizeLinear", "DequantizeLinear", "Swish",
        "Slice", "Pad",
    }
)  # fmt: skip
# These keep the axes of all inputs with as many axes as the result.
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Concat", "Where", "Min", "Max", "Sum", "Mean", "Pow"})


def batch_axes(graph: Any) -> dict[str, int]:
    """Axis of the batch by input; inputs that are not in it have the batch first.

    Parameters
    ----------
    graph : onnx.GraphProto
        A graph whose functions are expanded.

    Examples
    --------
    >>> import onnx.helper as h
    >>> x = h.make_tensor_value_info("x", 1, [100, 1, 8])
    >>> node = h.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=8)
    >>> batch_axes(h.make_graph([node], "g", [x], []))
    {'x': 1}
    """
    weights = {tensor.name for tensor in graph.initializer}
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim) for value in graph.input if value.name not in weights
    }  # fmt: skip
    makers = {name: node for node in graph.node for name in node.output if name}
    found: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    waiting = [pair for node in graph.node if node.op_type in GATES and not node.domain for pair in _of_recurrent(node)]
    waiting.reverse()
    while waiting:
        pair = waiting.pop()
        if pair in seen or pair[0] in weights:
            continue
        seen.add(pair)
        name, axis = pair
        if name in makers:
            waiting += _before(makers[name], name, axis, weights)
        elif axis < ranks.get(name, 0):
            found.setdefault(name, axis)
    return {name: axis for name, axis in found.items() if axis}


def _of_recurrent(node: Any) -> list[tuple[str, int]]:
    """The batch's axis in each input of a recurrent layer: the sequence, the lengths, the first states."""
    layout = next((one.i for one in node.attribute if one.name == "layout"), 0)
    axes = {0: 0 if layout else 1, 4: 0, 5: 0 if layout else 1, 6: 0 if layout else 1}
    return [(name, axes[place]) for place, name in enumerate(node.input) if name and place in axes]


def _before(node: Any, name: str, axis: int, weights: set[str]) -> list[tuple[str, int]]:
    """Inputs of a node, each with the axis that becomes this axis of its output; empty if it is not known."""
    given = {one.name: one for one in node.attribute}
    if node.op_type in _SAME and name == node.output[0]:
        return [(node.input[0], axis)]
    if node.op_type in _ELEMENTWISE:
        # The first one only: the others may have fewer axes.
        flowing = [one for one in node.input if one and one not in weights]
        return [(one, axis) for one in flowing[:1]]
    if node.op_type == "Transpose" and "perm" in given and axis < len(given["perm"].ints):
        return [(node.input[0], given["perm"].ints[axis])]
    if node.op_type == "Gather" and node.input[0] in weights and not ("axis" in given and given["axis"].i):
        return [(node.input[1], axis)]
    if node.op_type == "MatMul" and len(node.input) == 2 and node.input[1] in weights:
        return [(node.input[0], axis)]
    return []
