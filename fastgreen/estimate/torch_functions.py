"""Translation of each function of PyTorch into layers, from its name, its arguments and its result.

Tensors are those of one sample: the batch is 1, in any of the dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastgreen.estimate.contraction import attention_products, contraction
from fastgreen.estimate.counts import GATES
from fastgreen.estimate.layers import KINDS, Layer, for_images, window_sizes

__all__ = ["layers_of"]


@dataclass(frozen=True)
class Call:
    """One call of a function of PyTorch.

    Attributes
    ----------
    called : str
        Name of the function, without the underscores of operators and of in-place functions.
    name : str
        Name of the layer.
    args, kwargs, result
        Arguments and result of the call.
    inplace : bool
        Whether the function overwrote its first argument.
    weights : set of int
        Memory addresses of the module's own tensors.
    """

    called: str
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    inplace: bool
    weights: set[int]

    def bound(self, *names: str) -> dict[str, Any]:
        """All arguments by name, also those given by position; None for those not given."""
        return {**dict.fromkeys(names), **dict(zip(names, self.args, strict=False)), **self.kwargs}

    def learnt(self, tensor: Any) -> bool:
        return int(tensor.untyped_storage().data_ptr()) in self.weights

    @property
    def elements(self) -> int:
        """Elements of the largest input or output that is not a weight."""
        flowing = [t for t in _tensors((self.args, self.kwargs)) if not self.learnt(t)]
        return max(1, *(math.prod(t.shape) for t in (*flowing, *_tensors(self.result))))

    def layer(self, kind: str, sizes: dict[str, Any], name: str = "") -> Layer:
        return Layer(kind, {key: int(value) for key, value in sizes.items()}, name or self.name)


def layers_of(
    torch: Any,
    function: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
    weights: set[int],
    name_of: Callable[[str], str],
) -> list[Layer]:
    """Layers of one call; empty if it only queries a tensor, or makes one from a shape alone."""
    given = list(_tensors((args, kwargs)))
    if not given or (not any(True for _ in _tensors(result)) and function != "__setitem__"):
        return []
    called = _PLAIN.get(function.strip("_"), function.strip("_"))
    if called.startswith("new_") or called.endswith("_like"):
        return []
    inplace = (function.endswith("_") and not function.endswith("__")) or bool(kwargs.get("inplace"))
    inplace = inplace or function.startswith("__i")
    reader = _READERS.get(called)
    if reader is None and not inplace and called not in _DROPOUT and _is_view(result, given):
        return [Layer("Reshape", {}, name_of(called))]
    call = Call(called, name_of(called), args, kwargs, result, inplace, weights)
    if reader is not None:
        return reader(call) or [_unknown(call)]
    if called in _DROPOUT:
        return [Layer("Dropout", {}, call.name)]
    kind = _POINTWISE.get(called)
    return [call.layer(kind, {"input_size": call.elements, "inplace": inplace})] if kind else [_unknown(call)]


def _unknown(call: Call) -> Layer:
    return Layer(call.called if call.called not in KINDS else f"torch.{call.called}", {}, call.name)


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "untyped_storage"):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _is_view(result: Any, given: list[Any]) -> bool:
    """Whether all results share memory with the arguments: no data was moved."""
    places = {tensor.untyped_storage().data_ptr() for tensor in given}
    return all(tensor.untyped_storage().data_ptr() in places for tensor in _tensors(result))


def _axes(value: Any, count: int) -> list[int]:
    """One number for each axis; a single number holds for all axes."""
    values = [int(value)] if isinstance(value, int) else [int(one) for one in value]
    return values * count if len(values) == 1 else values


def _window(image: Sequence[int], kernel: Any, stride: Any, padding: Any, dilation: Any) -> dict[str, int]:
    """Sizes of a window over the last axes of an image; a single number holds for all axes."""
    axes = len(kernel)
    last = [int(size) for size in image[-axes:]]
    return window_sizes(last, _axes(kernel, axes), _axes(stride, axes), _axes(padding, axes), _axes(dilation, axes))


def _conv(call: Call) -> list[Layer] | None:
    given = call.bound("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    kernel = list(given["weight"].shape[2:])
    axes = len(kernel)
    *images, channels = given["input"].shape[:-axes]
    image = list(given["input"].shape[-axes:])
    dilation = _axes(given["dilation"] or 1, axes)
    padding = 0 if given["padding"] in (None, "valid") else given["padding"]
    if padding == "same":
        total = [reach * (size - 1) for reach, size in zip(dilation, kernel, strict=True)]
        # An even reach pads one side more, as if the image were one larger.
        image, padding = [size + t % 2 for size, t in zip(image, total, strict=True)], [t // 2 for t in total]
    sizes = _window(image, kernel, given["stride"] or 1, padding, dilation)
    sizes |= {
        "in_channels": channels, "out_channels": given["weight"].shape[0],
        "groups": given["groups"] or 1, "bias": given["bias"] is not None,
    }  # fmt: skip
    return [call.layer("Conv3d" if axes == 3 else "Conv2d", for_images(sizes, math.prod(images)))]


def _transposed(call: Call) -> list[Layer] | None:
    given = call.bound("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    kernel = list(given["weight"].shape[2:])
    axes, groups, dilation = len(kernel), given["groups"] or 1, given["dilation"] or 1
    sizes = _window(given["input"].shape, kernel, given["stride"] or 1, given["padding"] or 0, dilation)
    extra = _axes(given["output_padding"] or 0, axes)
    *images, channels = given["input"].shape[:-axes]
    sizes |= {
        "in_channels": channels, "out_channels": given["weight"].shape[1] * groups, "groups": groups,
        "output_padding": extra[-2] if axes > 1 else 0, "output_padding_width": extra[-1],
        "bias": given["bias"] is not None,
    }  # fmt: skip
    if axes == 3:
        sizes["output_padding_depth"] = extra[0]
    sizes = for_images(sizes, math.prod(images))
    return [call.layer("ConvTranspose3d" if axes == 3 else "ConvTranspose2d", sizes)]


def _pool(call: Call) -> list[Layer] | None:
    axes = int(call.called[-2])
    rest = ("dilation", "ceil_mode") if call.called.startswith("max") else ("ceil_mode", "count_include_pad")
    given = call.bound("input", "kernel_size", "stride", "padding", *rest)
    kernel = _axes(given["kernel_size"], axes)
    if axes == 3:
        return [
            call.layer("Elementwise", {"input_size": math.prod(next(_tensors(call.result)).shape) * math.prod(kernel)})
        ]
    image = given["input"].shape
    dilation = given.get("dilation") or 1
    sizes = _window(image, kernel, given["stride"] or kernel, given["padding"] or 0, dilation)
    more = {"in_channels": math.prod(image[:-axes]), "ceil_mode": bool(given["ceil_mode"])}
    return [call.layer("MaxPool2d" if call.called.startswith("max") else "AvgPool2d", sizes | more)]


def _adaptive(call: Call) -> list[Layer] | None:
    axes = int(call.called[-2])
    image, result = call.args[0].shape, next(_tensors(call.result)).shape
    high, wide = math.prod(image[-axes:-1]), image[-1]
    sizes = {"image_size": high, "image_width": wide, "in_channels": math.prod(image[:-axes])}
    return [call.layer(
        "AdaptiveAvgPool2d", {**sizes, "output_size": math.prod(result[-axes:-1]), "output_width": result[-1]}
    )]  # fmt: skip


def _linear(call: Call) -> list[Layer]:
    given = call.bound("input", "weight", "bias")
    outputs, inputs = given["weight"].shape
    rows = max(1, math.prod(given["input"].shape[:-1]))
    sizes = {"input_size": inputs, "output_size": outputs, "rows": rows, "bias": given["bias"] is not None}
    return [call.layer("Linear", sizes)]


def _product(call: Call) -> list[Layer]:
    """A matrix product; a product with weights is a linear layer, and a vector is a matrix of one row or column."""
    factors = list(_tensors((call.args, call.kwargs)))[-2:]
    left, right = (tuple(tensor.shape) for tensor in factors)
    left, right = left if len(left) > 1 else (1, *left), right if len(right) > 1 else (*right, 1)
    rows = max(1, math.prod(call.result.shape) // right[-1])
    sizes = {"input_size": left[-1], "output_size": right[-1], "rows": rows}
    if call.learnt(factors[0]) and not call.learnt(factors[1]):
        # Weights from the left: their rows are the outputs.
        turned = {"output_size": left[-2], "rows": max(1, rows * right[-1] // left[-2])}
        return [call.layer("Linear", {**sizes, **turned, "bias": 0})]
    if call.learnt(factors[1]):
        return [call.layer("Linear", {**sizes, "bias": call.called == "addmm"})]
    return [call.layer("MatMul", sizes)]


def _einsum(call: Call) -> list[Layer] | None:
    tensors = list(_tensors(call.args))
    products = contraction(str(call.args[0]), [tuple(tensor.shape) for tensor in tensors])
    if products is None:
        return None
    if not products:
        return [call.layer("Elementwise", {"input_size": call.elements, "inplace": 0})]
    return [
        call.layer("Linear", {**sizes, "bias": 0}) if call.learnt(tensor) else call.layer("MatMul", sizes)
        for sizes, tensor in zip(products, tensors[1:], strict=True)
    ]


def _attention(call: Call) -> list[Layer]:
    given = call.bound("query", "key", "value")
    width, keys, value_width = given["query"].shape[-1], given["key"].shape[-2], given["value"].shape[-1]
    return attention_products(call.name, math.prod(given["query"].shape[:-1]), width, keys, value_width)


def _multi_head(call: Call) -> list[Layer]:
    """PyTorch's multi-head attention: projections, scores, softmax, values; dimensions are length, then sequence."""
    given = call.bound("query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias")
    query, key = given["query"], given["key"]
    sizes = {
        "embed_size": query.shape[-1], "rows": query.shape[0], "key_rows": key.shape[0], "heads": given["num_heads"],
        "bias": given["in_proj_bias"] is not None, "sequences": query.shape[1] if query.dim() == 3 else 1,
    }  # fmt: skip
    return [call.layer("Attention", sizes)]


def _recurrent(call: Call) -> list[Layer] | None:
    """A layer for each stacked layer and direction; its first tensor of weights gives the sizes."""
    kind = call.called.split("_")[0].upper()
    if call.called.endswith("_cell"):
        given = call.bound("input", "hx", "w_ih", "w_hh", "b_ih", "b_hh")
        gates, inputs = given["w_ih"].shape
        sizes = {"input_size": inputs, "hidden_size": gates // GATES[kind], "bias": given["b_ih"] is not None}
        return [call.layer(kind, sizes)]
    given = call.bound(
        "input", "hx", "weights", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first"
    )
    if not isinstance(given["weights"], (list, tuple)):
        return None  # packed sequences: their lengths are in the data
    weights, image = given["weights"], given["input"].shape
    each = 4 if given["has_biases"] else 2
    directions = 2 if given["bidirectional"] else 1
    if len(weights) != each * directions * given["num_layers"]:
        return None  # projected states have one more tensor
    steps = image[0] if len(image) == 2 or not given["batch_first"] else image[1]
    times = 1 if len(image) == 2 or given["batch_first"] else image[1]
    layers = []
    for place in range(0, len(weights), each):
        gates, inputs = weights[place].shape
        sizes = {"input_size": inputs, "hidden_size": gates // GATES[kind], "rows": steps * times, "bias": each == 4}
        index, reverse = divmod(place // each, directions)
        layers.append(call.layer(kind, sizes, f"{call.name}.l{index}{'_reverse' if reverse else ''}"))
    return layers


def _norm(call: Call) -> list[Layer]:
    between = ("running_mean", "running_var") if call.called in ("batch_norm", "instance_norm") else ("groups",)
    given = call.bound("input", *between, "weight", "bias")
    learnt = [given[name] for name in ("weight", "bias") if given[name] is not None]
    channels = math.prod(learnt[0].shape) if learnt else 1
    size = {"input_size": math.prod(call.result.shape), "channels": channels, "learnt": len(learnt)}
    return [call.layer("BatchNorm2d" if call.called == "batch_norm" else "LayerNorm", size)]


def _embedding(call: Call) -> list[Layer]:
    given = call.bound("input", "weight")
    entries, size = given["weight"].shape
    rows = max(1, math.prod(given["input"].shape))
    return [call.layer("Embedding", {"entries": entries, "embed_size": size, "rows": rows})]


_READERS: dict[str, Callable[[Call], list[Layer] | None]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **{f"{kind}_pool{axes}d": _pool for kind in ("max", "avg") for axes in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{axes}d": _adaptive for kind in ("max", "avg") for axes in (1, 2, 3)},
    "linear": _linear, "einsum": _einsum, "embedding": _embedding, "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head,
    **dict.fromkeys(("matmul", "bmm", "mm", "mv", "dot", "addmm", "baddbmm"), _product),
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"), _norm),
    **dict.fromkeys(
        ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _recurrent
    ),
}  # fmt: skip

# Operators by the names of their functions.
_PLAIN = {
    "iadd": "add", "radd": "add", "isub": "sub", "rsub": "sub", "imul": "mul", "rmul": "mul", "truediv": "div",
    "rtruediv": "div", "rdiv": "div", "itruediv": "div", "idiv": "div", "rpow": "pow", "ipow": "pow",
    "rmatmul": "matmul",
}  # fmt: skip

_POINTWISE = {
    "relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax", "gelu": "GELU", "silu": "SiLU",
    **dict.fromkeys(
        ("add", "sub", "mul", "div", "pow", "neg", "abs", "exp", "log", "log1p", "sqrt", "rsqrt", "square", "erf",
         "reciprocal", "sin", "cos", "clamp", "clip", "minimum", "maximum", "hardtanh", "relu6", "leaky_relu", "elu",
         "selu", "celu", "prelu", "rrelu", "hardswish", "hardsigmoid", "softplus", "softsign", "mish", "logsigmoid",
         "log_softmax", "softmin", "tanhshrink", "hardshrink", "softshrink", "threshold", "glu", "normalize",
         "local_response_norm", "addcmul", "addcdiv", "lerp", "floor", "ceil", "round", "sign", "floor_divide",
         "remainder", "fmod", "where", "masked_fill", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or",
         "logical_not", "and", "or", "invert", "isnan", "isinf", "mean", "sum", "prod", "max", "min", "amax", "amin",
         "argmax", "argmin", "any", "all", "var", "std", "var_mean", "norm", "logsumexp", "cumsum", "topk", "sort",
         "argsort", "tril", "triu", "cosine_similarity", "pairwise_distance", "grid_sample"),
        "Elementwise",
    ),
    **dict.fromkeys(
        ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "contiguous", "clone", "pad", "interpolate",
         "upsample", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "repeat", "repeat_interleave", "tile",
         "roll", "flip", "gather", "scatter", "index_select", "getitem", "setitem", "masked_select", "unfold", "fold",
         "reshape", "flatten", "to", "float", "half", "bfloat16", "double", "long", "int", "bool", "type", "type_as",
         "copy", "fill", "zero", "one_hot", "take_along_dim"),
        "Copy",
    ),
}  # fmt: skip

_DROPOUT = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"})
