"""Layers of ONNX Runtime's own operators: fused products, attention with its projections, normalizations with a sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastgreen.estimate.contraction import attention_products
from fastgreen.estimate.layers import Layer
from fastgreen.estimate.onnx_forms import attributes_of

__all__ = ["RUNTIME_READERS", "extra_layers"]

_ACTIVATIONS = {"Relu": "ReLU", "Sigmoid": "Sigmoid", "Tanh": "Tanh"}


def extra_layers(graph: Any, node: Any, name: str) -> list[Layer]:
    """Layers beside the standard form: the activation of a fused operator, the sum before a normalization."""
    given = attributes_of(node)
    size = {"input_size": graph.per_sample(graph.shape(node.output[0]))}
    found = []
    if node.op_type.startswith("Skip") or node.op_type == "BiasGelu":
        found.append(Layer("Elementwise", {**size, "inplace": 0}, f"{name}.sum"))
    if activation := given.get("activation") or b"":
        kind = _ACTIVATIONS.get(activation.decode(), "Elementwise")
        found.append(Layer(kind, {**size, "inplace": 1}, f"{name}.activation"))
    return found


def _input(node: Any, place: int) -> str:
    return str(node.input[place]) if len(node.input) > place else ""


def _fused_product(graph: Any, node: Any, name: str) -> list[Layer]:
    left, right, result = (graph.shape(one) for one in (node.input[0], node.input[1], node.output[0]))
    inner = left[-2] if attributes_of(node).get("transA") else left[-1]
    constant = node.input[1] in graph.tensors.constant and len(right) == 2
    sizes = {"input_size": inner, "output_size": result[-1], "rows": graph.per_sample(result[:-1])}
    return [Layer("Linear", {**sizes, "bias": 0}, name) if constant else Layer("MatMul", sizes, name)]


def _n_bits(graph: Any, node: Any, name: str) -> list[Layer]:
    image, result = graph.shape(node.input[0]), graph.shape(node.output[0])
    sizes = {"input_size": image[-1], "output_size": result[-1], "rows": graph.per_sample(result[:-1])}
    return [Layer("Linear", {**sizes, "bias": int(bool(_input(node, 5)))}, name)]


def _packed(graph: Any, node: Any, name: str) -> list[Layer] | None:
    """Attention with one table of weights for queries, keys and values."""
    image, weights, given = graph.shape(node.input[0]), graph.shape(node.input[1]), attributes_of(node)
    rows, widths, heads = image[1], given.get("qkv_hidden_sizes") or [weights[1] // 3] * 3, given["num_heads"]
    place = 8 if node.op_type == "QAttention" else 4
    past = _past(graph, node, place, 3)
    if past is None:
        return None
    linear = {"input_size": weights[0], "output_size": weights[1], "rows": rows, "bias": int(bool(_input(node, 2)))}
    return [
        Layer("Linear", linear, f"{name}.projection"),
        *attention_products(name, heads * rows, widths[0] // heads, past + rows, widths[2] // heads),
    ]


def _past(graph: Any, node: Any, place: int, axis: int) -> int | None:
    """Length of a cache; 0 without one, None if its shape is not known."""
    if not _input(node, place):
        return 0
    shape = graph.tensors.shape(_input(node, place))
    return shape[axis] if shape is not None and len(shape) > axis else None


def _multi_head(graph: Any, node: Any, name: str) -> list[Layer] | None:
    query, heads, past = graph.shape(node.input[0]), attributes_of(node)["num_heads"], _past(graph, node, 6, 2)
    key, value = graph.shape(_input(node, 1)), graph.shape(_input(node, 2))
    if past is None:
        return None
    if len(query) == 5:  # [batch, rows, heads, 3, size]
        rows, width, keys, value_width = query[1], query[4], query[1], query[4]
    elif len(key) == 5:  # [batch, keys, heads, 2, size]
        rows, width, keys, value_width = query[1], query[2] // heads, key[1], key[4]
    else:
        rows, width, keys = query[1], query[2] // heads, key[2] if len(key) == 4 else key[1]
        value_width = value[3] if len(value) == 4 else value[2] // heads
    return attention_products(name, heads * rows, width, past + keys, value_width)


def _grouped(graph: Any, node: Any, name: str) -> list[Layer] | None:
    query, given, past = graph.shape(node.input[0]), attributes_of(node), _past(graph, node, 3, 2)
    if past is None:
        return None
    heads, rows = given["num_heads"], query[1]
    width = query[2] // (heads if _input(node, 1) else heads + 2 * given["kv_num_heads"])
    keys = past + rows
    total = graph.tensors.values.get(_input(node, 6))
    if total is not None and total.size == 1:
        # The cache may be a buffer for more keys than there are.
        keys = max(1, min(keys, int(total.item())))
    return attention_products(name, heads * rows, width, keys)


def _embedded(graph: Any, node: Any, name: str) -> list[Layer]:
    """Rows of up to three tables, their sum and its normalization."""
    result = graph.shape(node.output[0])
    rows = graph.per_sample(result[:-1])
    tables = [(place, graph.shape(_input(node, place))) for place in (2, 3, 4) if _input(node, place)]
    layers = [
        Layer("Embedding", {"embed_size": table[1], "entries": table[0], "rows": rows}, f"{name}.{place}")
        for place, table in tables
    ]
    size = graph.per_sample(result)
    norm = {"input_size": size, "channels": result[-1], "learnt": 2}
    return [*layers, Layer("Elementwise", {"input_size": size * (len(tables) - 1 or 1)}, f"{name}.sum"),
            Layer("LayerNorm", norm, f"{name}.norm")]  # fmt: skip


RUNTIME_READERS: dict[str, Callable[[Any, Any, str], list[Layer] | None]] = {
    "FusedMatMul": _fused_product, "TransposeMatMul": _fused_product, "MatMulNBits": _n_bits, "Attention": _packed,
    "QAttention": _packed, "MultiHeadAttention": _multi_head, "GroupQueryAttention": _grouped,
    "EmbedLayerNormalization": _embedded,
}  # fmt: skip
