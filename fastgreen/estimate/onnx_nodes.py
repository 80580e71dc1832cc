"""Translation of each ONNX operator into layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fastgreen.estimate.contraction import attention_products, contraction
from fastgreen.estimate.counts import GATES
from fastgreen.estimate.layers import KINDS, Layer, window_sizes

__all__ = ["FREE_NODES", "POINTWISE_NODES", "READERS", "WINDOWS", "unknown"]


class Graph(Protocol):
    """The part of the graph that a node's reader uses."""

    tensors: Any
    biases: dict[str, str]

    def shape(self, name: str) -> tuple[int, ...]: ...
    def per_sample(self, sizes: Sequence[int]) -> int: ...
    def attributes(self, node: Any) -> dict[str, Any]: ...


def unknown(node: Any, name: str, why: str = "") -> Layer:
    """A layer of an unknown kind, named after the operator and the reason."""
    kind = f"{node.op_type} {why}".strip()
    return Layer(kind if kind not in KINDS else f"ONNX {kind}", {}, name)


def _window(graph: Graph, node: Any, kernel: Sequence[int]) -> dict[str, int] | None:
    """Sizes of a window; None if it has more than three dimensions or unequal dilation.

    A one-dimensional window becomes an image of height 1. Uneven padding becomes a larger or smaller image.
    """
    image, given = graph.shape(node.input[0]), graph.attributes(node)
    axes = len(image) - 2
    dilation = list(given.get("dilations", [1] * axes))
    if axes not in (1, 2, 3) or len(set(dilation)) != 1:
        return None
    stride, pads = list(given.get("strides", [1] * axes)), list(given.get("pads", [0] * 2 * axes))
    spatial, auto = list(image[2:]), given.get("auto_pad", b"NOTSET").decode()
    if auto.startswith("SAME"):
        pads = [0] * 2 * axes
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        spatial = [(-(-size // s) - 1) * s + r for size, s, r in zip(spatial, stride, reach, strict=True)]
    low, high = pads[:axes], pads[axes:]
    spatial = [size + after - before for size, before, after in zip(spatial, low, high, strict=True)]
    sizes = window_sizes(spatial, list(kernel), stride, low)
    return {**sizes, "dilation": dilation[0], "in_channels": image[1]}


def _conv(graph: Graph, node: Any, name: str) -> Layer:
    weights, given = graph.shape(node.input[1]), graph.attributes(node)
    sizes = _window(graph, node, weights[2:])
    if sizes is None:
        return unknown(node, name, "of such dimensions")
    more = {"out_channels": weights[0], "groups": int(given.get("group", 1)), "bias": int(len(node.input) > 2)}
    return Layer("Conv3d" if len(weights) == 5 else "Conv2d", {**sizes, **more}, name)


def _transposed(graph: Graph, node: Any, name: str) -> Layer:
    weights, given, image = graph.shape(node.input[1]), graph.attributes(node), graph.shape(node.input[0])
    result = graph.shape(node.output[0])
    stride, dilation = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    if len(image) != 4 or len(set(dilation)) != 1 or not result:
        return unknown(node, name, "of such dimensions")
    groups = int(given.get("group", 1))
    sizes = {"in_channels": image[1], "out_channels": weights[1] * groups, "groups": groups, "dilation": dilation[0]}
    # The padding follows from the size of the result, whether the file gives the padding or the size.
    reach = [(image[2 + axis] - 1) * stride[axis] + dilation[0] * (weights[2 + axis] - 1) + 1 for axis in (0, 1)]
    padding = [max(0, -(-(reach[axis] - result[2 + axis]) // 2)) for axis in (0, 1)]
    extra = max(0, result[2] - (reach[0] - 2 * padding[0]))
    sizes |= {
        "image_size": image[2], "image_width": image[3], "kernel_size": weights[2], "kernel_width": weights[3],
        "stride": stride[0], "stride_width": stride[1], "padding": padding[0], "padding_width": padding[1],
        "output_padding": extra, "bias": int(len(node.input) > 2),
    }  # fmt: skip
    return Layer("ConvTranspose2d", sizes, name)


def _pool(graph: Graph, node: Any, name: str) -> Layer:
    given = graph.attributes(node)
    kernel = list(given["kernel_shape"])
    sizes = _window(graph, node, kernel)
    if sizes is None:
        return unknown(node, name, "of such dimensions")
    if len(kernel) == 3:
        values = graph.per_sample(graph.shape(node.output[0])) * math.prod(kernel)
        return Layer("Elementwise", {"input_size": values}, name)
    kind = "MaxPool2d" if node.op_type == "MaxPool" else "AvgPool2d"
    return Layer(kind, {**sizes, "ceil_mode": int(given.get("ceil_mode", 0))}, name)


def _global_pool(graph: Graph, node: Any, name: str) -> Layer:
    image = graph.shape(node.input[0])
    high, wide = (image[2], image[3]) if len(image) == 4 else (1, math.prod(image[2:]))
    sizes = {"image_size": high, "image_width": wide, "output_size": 1, "output_width": 1, "in_channels": image[1]}
    return Layer("AdaptiveAvgPool2d", sizes, name)


def _gemm(graph: Graph, node: Any, name: str) -> Layer:
    given, left, right = graph.attributes(node), graph.shape(node.input[0]), graph.shape(node.input[1])
    outputs, inputs = right if given.get("transB") else right[::-1]
    rows = graph.per_sample(left[1:] if given.get("transA") else left[:-1])
    sizes = {"input_size": inputs, "output_size": outputs, "rows": rows}
    if node.input[1] not in graph.tensors.constant:
        return Layer("MatMul", sizes, name)
    return Layer("Linear", {**sizes, "bias": int(len(node.input) > 2)}, name)


def _matmul(graph: Graph, node: Any, name: str) -> Layer:
    left, right = graph.shape(node.input[0]), graph.shape(node.input[1])
    if len(left) < 2 or len(right) < 2:
        # A vector is a matrix of one row, or of one column.
        left, right = left if len(left) > 1 else (1, *left), right if len(right) > 1 else (*right, 1)
    rows = math.prod(graph.shape(node.output[0])) // right[-1] or 1
    if node.input[0] in graph.tensors.constant:
        # Weights from the left: their rows are the outputs.
        sizes = {
            "input_size": left[-1],
            "output_size": left[-2],
            "rows": graph.per_sample((rows, right[-1])) // left[-2],
        }
        return Layer("Linear", {**sizes, "rows": max(1, sizes["rows"]), "bias": 0}, name)
    sizes = {"input_size": left[-1], "output_size": right[-1], "rows": graph.per_sample((rows,))}
    if node.input[1] in graph.tensors.constant:
        return Layer("Linear", {**sizes, "bias": int(node.output[0] in graph.biases)}, name)
    return Layer("MatMul", sizes, name)


def _einsum(graph: Graph, node: Any, name: str) -> Layer:
    shapes = [graph.shape(tensor) for tensor in node.input]
    sizes = contraction(graph.attributes(node)["equation"].decode(), shapes)
    if sizes is None:
        return unknown(node, name)
    sizes["rows"] = graph.per_sample((sizes["rows"],))
    constant = node.input[1] in graph.tensors.constant
    return Layer("Linear", {**sizes, "bias": 0}, name) if constant else Layer("MatMul", sizes, name)


def _attention(graph: Graph, node: Any, name: str) -> list[Layer] | Layer:
    """Scores, softmax and weighted values; projections are nodes of their own."""
    query, key, given = graph.shape(node.input[0]), graph.shape(node.input[1]), graph.attributes(node)
    if len(query) == 4:
        heads, rows, width = query[1:]
        keys = key[2]
    elif len(query) == 3 and "q_num_heads" in given:
        heads = int(given["q_num_heads"])
        rows, width, keys = query[1], query[2] // heads, key[1]
    else:
        return unknown(node, name)
    return attention_products(name, heads * rows, width, keys)


def _recurrent(graph: Graph, node: Any, name: str) -> list[Layer]:
    steps, _batch, inputs = graph.shape(node.input[0])
    directions, gates, _ = graph.shape(node.input[1])
    if graph.attributes(node).get("layout"):
        steps = graph.shape(node.input[0])[1]
    bias = int(len(node.input) > 3 and bool(node.input[3]))
    sizes = {"input_size": inputs, "hidden_size": gates // GATES[node.op_type], "rows": steps, "bias": bias}
    names = [name] if directions == 1 else [f"{name}.forward", f"{name}.reverse"]
    return [Layer(node.op_type, sizes, one) for one in names]


def _norm(graph: Graph, node: Any, name: str) -> Layer:
    kind = "BatchNorm2d" if node.op_type == "BatchNormalization" else "LayerNorm"
    learnt = sum(bool(tensor) for tensor in node.input[1:3])
    channels = math.prod(graph.shape(node.input[1])) if learnt else 1
    sizes = {"input_size": graph.per_sample(graph.shape(node.input[0])), "channels": max(1, channels), "learnt": learnt}
    return Layer(kind, sizes, name)


def _gather(graph: Graph, node: Any, name: str) -> Layer:
    """Rows of a table of weights are an embedding; rows of any other tensor are a copy."""
    table, result = graph.shape(node.input[0]), graph.shape(node.output[0])
    if node.input[0] in graph.tensors.constant and len(table) == 2 and not graph.attributes(node).get("axis", 0):
        rows = graph.per_sample(result[:-1])
        return Layer("Embedding", {"embed_size": table[1], "entries": table[0], "rows": rows}, name)
    return Layer("Copy", {"input_size": graph.per_sample(result), "inplace": 0}, name)


# For these the output's shape is computed here, so that an impossible window is an error and not an unknown shape.
WINDOWS = frozenset({"Conv", "MaxPool", "AveragePool"})

READERS: dict[str, Callable[[Any, Any, str], Layer | list[Layer]]] = {
    "Conv": _conv, "ConvTranspose": _transposed, "MaxPool": _pool, "AveragePool": _pool,
    "GlobalAveragePool": _global_pool, "GlobalMaxPool": _global_pool, "Gemm": _gemm, "MatMul": _matmul,
    "Einsum": _einsum, "Attention": _attention, "Gather": _gather, **dict.fromkeys(GATES, _recurrent),
    **dict.fromkeys(
        ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"),
        _norm,
    ),
}  # fmt: skip

POINTWISE_NODES = {
    "Relu": "ReLU", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Softmax": "Softmax", "Gelu": "GELU", "Swish": "SiLU",
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Neg", "Abs", "Erf", "Clip", "LeakyRelu", "Elu",
         "Selu", "Celu", "Mish", "PRelu", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "LogSoftmax", "Min",
         "Max", "Where", "Reciprocal", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
         "ReduceL2", "ReduceSumSquare", "Sum", "Mean", "Mod", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Equal",
         "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf", "ArgMax",
         "ArgMin", "TopK", "CumSum", "Trilu", "LRN", "LpNormalization", "Hardmax", "ThresholdedRelu", "GridSample"),
        "Elementwise",
    ),
    **dict.fromkeys(
        ("Concat", "Transpose", "Pad", "Slice", "Split", "Expand", "Resize", "Upsample", "Tile", "DepthToSpace",
         "SpaceToDepth", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "ConstantOfShape", "OneHot"),
        "Copy",
    ),
}  # fmt: skip

FREE_NODES = frozenset(
    {
        "Dropout",
        "Flatten",
        "Identity",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Shape",
        "Size",
        "Constant",
        "Cast",
        "CastLike",
    }
)
