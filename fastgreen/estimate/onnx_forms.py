"""Quantised operators and those of ONNX Runtime, as operators of the standard with the same sizes.

``QLinearConv`` is a convolution with scales among its inputs, ``FusedConv`` one with an activation after it. The
sources are ONNX's "Operators.md" and ONNX Runtime's "ContribOperators.md".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["RUNTIME", "attributes_of", "quantised_bits", "result_type_from", "standard_form", "written_shapes"]

RUNTIME = "com.microsoft"
Shape = tuple[int, ...]
# The shape of a tensor by its name; None if it is not known.
ShapeOf = Callable[[str], Shape | None]


@dataclass(frozen=True)
class Form:
    """An operator of the standard and the places of its inputs among those of the other operator."""

    op_type: str
    inputs: tuple[int, ...]
    keep: tuple[str, ...] = ()


_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", "ceil_mode")
_FORMS: dict[str, dict[str, Form]] = {
    "": {
        "QLinearConv": Form("Conv", (0, 3, 8), _WINDOW), "ConvInteger": Form("Conv", (0, 1), _WINDOW),
        "QLinearMatMul": Form("MatMul", (0, 3)), "MatMulInteger": Form("MatMul", (0, 1)),
        "SimplifiedLayerNormalization": Form("RMSNormalization", (0, 1), ("axis",)),
    },
    RUNTIME: {
        "FusedConv": Form("Conv", (0, 1, 2), _WINDOW), "FusedGemm": Form("Gemm", (0, 1, 2), ("transA", "transB")),
        "QGemm": Form("Gemm", (0, 3, 6), ("transA", "transB")),
        "DynamicQuantizeMatMul": Form("MatMul", (0, 1)), "MatMulIntegerToFloat": Form("MatMul", (0, 1)),
        "MatMulInteger16": Form("MatMul", (0, 1)), "QLinearMatMul": Form("MatMul", (0, 3)),
        "QLinearConv": Form("Conv", (0, 3, 8), _WINDOW),
        "QLinearAdd": Form("Add", (0, 3)), "QLinearMul": Form("Mul", (0, 3)), "QLinearWhere": Form("Where", (0, 1, 4)),
        "QLinearSigmoid": Form("Sigmoid", (0,)), "QLinearLeakyRelu": Form("LeakyRelu", (0,)),
        "QLinearSoftmax": Form("Softmax", (0,)),
        "QLinearAveragePool": Form("AveragePool", (0,), _WINDOW),
        "QLinearGlobalAveragePool": Form("GlobalAveragePool", (0,)),
        "QLinearReduceMean": Form("ReduceMean", (0,), ("axes", "keepdims")),
        "QuantizeLinear": Form("QuantizeLinear", (0, 1, 2)), "DequantizeLinear": Form("DequantizeLinear", (0, 1, 2)),
        "Gelu": Form("Gelu", (0,)), "FastGelu": Form("Gelu", (0,)), "BiasGelu": Form("Gelu", (0,)),
        "QuickGelu": Form("Swish", (0,)), "BiasAdd": Form("Add", (0, 1)), "RotaryEmbedding": Form("Mul", (0, 0)),
        "SimplifiedLayerNormalization": Form("RMSNormalization", (0, 1)),
        "SkipLayerNormalization": Form("LayerNormalization", (0, 2, 3)),
        "SkipSimplifiedLayerNormalization": Form("RMSNormalization", (0, 2)),
    },
}  # fmt: skip


def attributes_of(node: Any) -> dict[str, Any]:
    """Numbers and texts among a node's attributes."""
    return {one.name: one.i or one.s or list(one.ints) for one in node.attribute}


def standard_form(node: Any) -> Any:
    """The node as one of the standard's operators, with the first result alone; None if there is no such operator."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if domain == RUNTIME and node.op_type == "QLinearConcat":
        return _plain(node, "Concat", list(node.input[2::3]), ("axis",))
    form = _FORMS.get(domain, {}).get(node.op_type)
    if form is None or len(node.input) <= max(form.inputs[:2]) or not node.output:
        return None
    inputs = [node.input[place] for place in form.inputs if place < len(node.input)]
    while inputs and not inputs[-1]:
        inputs.pop()
    return _plain(node, form.op_type, inputs, form.keep) if inputs else None


def _plain(node: Any, op_type: str, inputs: list[str], keep: tuple[str, ...]) -> Any:
    made = type(node)(op_type=op_type, name=node.name, input=inputs, output=node.output[:1])
    made.attribute.extend(one for one in node.attribute if one.name in keep)
    return made


def quantised_bits(node: Any) -> int:
    """Bits of a number that a quantised operator takes; 0 for other operators, or if the operator does not say it."""
    if node.op_type == "MatMulNBits":
        return int(attributes_of(node).get("bits") or 4)
    return 8 if any(word in node.op_type for word in ("QLinear", "Integer", "Quantize", "QGemm", "QAttention")) else 0


def result_type_from(node: Any) -> int:
    """Place of the input with the type of numbers that the node's result has: a scale for real numbers."""
    places = {"MatMulIntegerToFloat": 2, "DequantizeLinear": 1, "QuantizeLinear": 2, "QGemm": 8}
    place = places.get(node.op_type, 0)
    return place if place < len(node.input) and node.input[place] else 0


def written_shapes(node: Any, shape: ShapeOf) -> dict[str, Shape]:
    """Shapes of the results of operators without inference of shapes, as their documents define them.

    These are ONNX Runtime's own operators without a standard form, and normalizations.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    shape : callable
        Gives the shape of a tensor, or None.
    """
    if node.domain in ("", "ai.onnx") and node.op_type in _SAME_SHAPE and node.input and node.output:
        same = shape(node.input[0])
        return {} if same is None else {node.output[0]: same}
    make = _SHAPES.get(node.op_type) if node.domain == RUNTIME else None
    sizes = [shape(name) if name else None for name in node.input]
    if make is None or not sizes or sizes[0] is None:
        return {}
    sizes += [None] * (8 - len(sizes))
    try:
        found = make(sizes, attributes_of(node))
    except (IndexError, TypeError, ZeroDivisionError):
        return {}  # an input is missing or has another number of axes
    return {name: one for name, one in zip(node.output, found, strict=False) if name and one is not None}


_SAME_SHAPE = frozenset(
    {"GroupNormalization", "LayerNormalization", "MeanVarianceNormalization", "RMSNormalization", "RotaryEmbedding"}
)


def _product(sizes: list[Any], given: dict[str, Any]) -> list[Shape]:
    left, right = (list(one) for one in sizes[:2])
    if given.get("transA"):
        left[-2:] = left[:-3:-1]
    if given.get("transB"):
        right[-2:] = right[:-3:-1]
    longest = max(len(left), len(right))
    before = [max(pair) for pair in zip(*([1] * (longest - len(m)) + m[:-2] for m in (left, right)), strict=True)]
    return [(*before, left[-2], right[-1])]


def _n_bits(sizes: list[Any], given: dict[str, Any]) -> list[Shape]:
    return [(*sizes[0][:-1], given["N"] if "N" in given else sizes[1][0])]


def _packed(sizes: list[Any], given: dict[str, Any]) -> list[Shape]:
    batch, rows, _ = sizes[0]
    widths = given.get("qkv_hidden_sizes") or [sizes[1][1] // 3] * 3
    past = sizes[4][3] if sizes[4] else 0
    heads = given["num_heads"]
    return [(batch, rows, widths[2]), (2, batch, heads, past + rows, widths[2] // heads)]


def _multi_head(sizes: list[Any], given: dict[str, Any]) -> list[Shape]:
    query, key, value, heads = sizes[0], sizes[1], sizes[2], given["num_heads"]
    if len(query) == 5:
        return [(query[0], query[1], heads * query[4])]
    if key is not None and len(key) == 5:
        return [query]
    width = value[1] * value[3] if len(value) == 4 else value[2]
    keys = (key[2] if len(key) == 4 else key[1]) + (sizes[6][2] if sizes[6] else 0)
    cache = (query[0], heads, keys, query[2] // heads)
    return [(query[0], query[1], width), cache, (*cache[:3], width // heads)]


def _grouped(sizes: list[Any], given: dict[str, Any]) -> list[Shape]:
    batch, rows, width = sizes[0]
    heads, stored = given["num_heads"], given["kv_num_heads"]
    head = width // heads if sizes[1] else width // (heads + 2 * stored)
    past = sizes[3][2] if sizes[3] else 0
    cache = (batch, stored, past + rows, head)
    return [(batch, rows, heads * head), cache, cache]


def _embedded(sizes: list[Any], _given: dict[str, Any]) -> list[Shape]:
    return [(*sizes[0], sizes[2][1])]


_SHAPES: dict[str, Callable[[list[Any], dict[str, Any]], list[Shape]]] = {
    "FusedMatMul": _product, "TransposeMatMul": _product, "MatMulNBits": _n_bits, "Attention": _packed,
    "QAttention": _packed, "MultiHeadAttention": _multi_head, "GroupQueryAttention": _grouped,
    "EmbedLayerNormalization": _embedded,
}  # fmt: skip
