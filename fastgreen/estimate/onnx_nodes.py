"""Translation of each ONNX operator into layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fastgreen.estimate.contraction import attention_products, contraction
from fastgreen.estimate.counts import GATES
from fastgreen.estimate.layers import KINDS, Layer, for_images, window_sizes

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
    """Sizes of a window; None if it has more than three dimensions.

    A one-dimensional window becomes an image of height 1. The image becomes larger by uneven padding, by padding beyond
    half of a pool's kernel, and by the part of a last window (``ceil_mode``) outside the image.
    """
    image, given = graph.shape(node.input[0]), graph.attributes(node)
    axes = len(image) - 2
    if axes not in (1, 2, 3) or len(kernel) != axes:
        return None
    dilation, stride = list(given.get("dilations", [1] * axes)), list(given.get("strides", [1] * axes))
    pads, auto = list(given.get("pads", [0] * 2 * axes)), given.get("auto_pad", b"NOTSET").decode()
    spatial = list(image[2:])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if auto.startswith("SAME"):
        pads = [0] * 2 * axes
        spatial = [(-(-size // s) - 1) * s + r for size, s, r in zip(spatial, stride, reach, strict=True)]
    padding = [min(pads[axis], pads[axes + axis]) for axis in range(axes)]
    if node.op_type in _POOLS:
        padding = [min(size, k // 2) for size, k in zip(padding, kernel, strict=True)]
    spatial = [size + pads[i] + pads[axes + i] - 2 * padding[i] for i, size in enumerate(spatial)]
    if given.get("ceil_mode"):
        needed = [r - 2 * p for r, p in zip(reach, padding, strict=True)]
        spatial = [max(n, size) if size + s > n else size
                   for n, size, s in zip(needed, spatial, stride, strict=True)]  # fmt: skip
    return {**window_sizes(spatial, list(kernel), stride, padding, dilation), "in_channels": image[1]}


def _conv(graph: Graph, node: Any, name: str) -> Layer:
    weights, given = graph.shape(node.input[1]), graph.attributes(node)
    sizes = _window(graph, node, weights[2:])
    if sizes is None:
        return unknown(node, name, "of such dimensions")
    groups = int(given.get("group", 1))
    if sizes["in_channels"] != weights[1] * groups:  # shape inference lets this pass; no runtime does
        return unknown(node, name, "whose weights are for another number of channels")
    more = {
        "out_channels": weights[0],
        "groups": groups,
        "bias": int(len(node.input) > 2 and bool(node.input[2])),
    }
    sizes = for_images({**sizes, **more}, graph.per_sample(graph.shape(node.input[0])[:1]))
    return Layer("Conv3d" if len(weights) == 5 else "Conv2d", sizes, name)


def _transposed(graph: Graph, node: Any, name: str) -> Layer:
    weights, given, image = graph.shape(node.input[1]), graph.attributes(node), graph.shape(node.input[0])
    result, axes = graph.shape(node.output[0]), len(image) - 2
    if axes not in (1, 2, 3) or len(weights) != len(image) or len(result) != len(image):
        return unknown(node, name, "of such dimensions")
    stride, dilation = list(given.get("strides", [1] * axes)), list(given.get("dilations", [1] * axes))
    groups = int(given.get("group", 1))
    if image[1] != weights[0]:
        return unknown(node, name, "whose weights are for another number of channels")
    # The padding follows from the size of the result, whether the file gives the padding or the size.
    reach = [(image[2 + i] - 1) * stride[i] + dilation[i] * (weights[2 + i] - 1) + 1 for i in range(axes)]
    padding = [max(0, -(-(reach[i] - result[2 + i]) // 2)) for i in range(axes)]
    extra = [max(0, result[2 + i] - (reach[i] - 2 * padding[i])) for i in range(axes)]
    sizes = window_sizes(list(image[2:]), list(weights[2:]), stride, padding, dilation)
    sizes |= {"in_channels": image[1], "out_channels": weights[1] * groups, "groups": groups}
    sizes |= {"output_padding": extra[-2] if axes > 1 else 0, "bias": int(len(node.input) > 2 and bool(node.input[2]))}
    for axis, more in (("width", extra[-1]), ("depth", extra[0] if axes == 3 else sizes["output_padding"])):
        if more != sizes["output_padding"]:
            sizes[f"output_padding_{axis}"] = more
    sizes = for_images(sizes, graph.per_sample(image[:1]))
    return Layer("ConvTranspose3d" if axes == 3 else "ConvTranspose2d", sizes, name)


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
    sizes = for_images(sizes, graph.per_sample(graph.shape(node.input[0])[:1]))
    return Layer(kind, {**sizes, "ceil_mode": int(given.get("ceil_mode", 0))}, name)


def _global_pool(graph: Graph, node: Any, name: str) -> Layer:
    image = graph.shape(node.input[0])
    high, wide = (image[2], image[3]) if len(image) == 4 else (1, math.prod(image[2:]))
    sizes = {"image_size": high, "image_width": wide, "output_size": 1, "output_width": 1, "in_channels": image[1]}
    return Layer("AdaptiveAvgPool2d", for_images(sizes, graph.per_sample(image[:1])), name)


def _gemm(graph: Graph, node: Any, name: str) -> Layer:
    given, left, right = graph.attributes(node), graph.shape(node.input[0]), graph.shape(node.input[1])
    outputs, inputs = right if given.get("transB") else right[::-1]
    rows = graph.per_sample(left[1:] if given.get("transA") else left[:-1])
    sizes = {"input_size": inputs, "output_size": outputs, "rows": rows}
    if node.input[1] not in graph.tensors.constant:
        return Layer("MatMul", sizes, name)
    return Layer("Linear", {**sizes, "bias": int(len(node.input) > 2 and bool(node.input[2]))}, name)


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


def _einsum(graph: Graph, node: Any, name: str) -> Layer | list[Layer]:
    """A matrix product for each operand after the first, from left to right; weights from the left change places."""
    tensors = list(node.input)
    equation = graph.attributes(node)["equation"].decode()
    if len(tensors) == 2 and tensors[0] in graph.tensors.constant:
        first, comma, rest = equation.partition(",")
        second, arrow, result = rest.partition("->")
        if comma and arrow:
            equation, tensors = f"{second},{first}->{result}", tensors[::-1]
    products = contraction(equation, [graph.shape(tensor) for tensor in tensors])
    if products is None:
        return unknown(node, name)
    if not products:
        size = graph.per_sample(graph.shape(tensors[0]))
        return Layer("Elementwise", {"input_size": size, "inplace": 0}, name)
    layers = []
    for place, sizes in enumerate(products, start=1):
        sizes["rows"] = graph.per_sample((sizes["rows"],))
        one = name if len(products) == 1 else f"{name}.{place}"
        constant = tensors[place] in graph.tensors.constant
        layers.append(Layer("Linear", {**sizes, "bias": 0}, one) if constant else Layer("MatMul", sizes, one))
    return layers


def _attention(graph: Graph, node: Any, name: str) -> list[Layer] | Layer:
    """Scores, softmax and weighted values; projections are nodes of their own. A cache adds its keys."""
    query, key, value = (graph.shape(tensor) for tensor in node.input[:3])
    given = graph.attributes(node)
    cache = node.input[4] if len(node.input) > 4 else ""
    past = graph.tensors.shape(cache) if cache else (0, 0, 0, 0)
    if past is None or len(past) != 4:
        return unknown(node, name, "of unknown shape")
    if len(query) == len(key) == len(value) == 4:
        heads, rows, width = query[1:]
        keys, value_width = key[2], value[3]
    elif len(query) == len(key) == len(value) == 3 and given.get("q_num_heads") and given.get("kv_num_heads"):
        heads = int(given["q_num_heads"])
        rows, width, keys = query[1], query[2] // heads, key[1]
        value_width = value[2] // int(given["kv_num_heads"])
    else:
        return unknown(node, name)
    return attention_products(name, heads * rows, width, keys + past[2], value_width)


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
_POOLS = frozenset({"MaxPool", "AveragePool"})

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
         "ArgMin", "TopK", "CumSum", "Trilu", "LRN", "LpNormalization", "Hardmax", "ThresholdedRelu", "GridSample",
         "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "RotaryEmbedding", "BitShift", "Acos", "Asin",
         "Atan", "Cosh", "Sinh", "Tan", "Acosh", "Asinh", "Atanh", "Shrink", "ReduceLogSum", "ReduceLogSumExp",
         "MeanVarianceNormalization"),
        "Elementwise",
    ),
    **dict.fromkeys(
        ("Concat", "Transpose", "Pad", "Slice", "Split", "Expand", "Resize", "Upsample", "Tile", "DepthToSpace",
         "SpaceToDepth", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "ConstantOfShape", "OneHot",
         "Cast", "CastLike", "Scatter", "ReverseSequence", "CenterCropPad"),
        "Copy",
    ),
}  # fmt: skip

FREE_NODES = frozenset(
    {"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Shape", "Size", "Constant"}
)
