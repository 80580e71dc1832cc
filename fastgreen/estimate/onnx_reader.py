"""A network's layers from an ONNX file, by static shape inference: nothing runs, weights are not read.

The first dimension of every input is the batch; it may be dynamic. Any other dynamic dimension is an error that names
the input and the option that fixes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastgreen.errors import TraceError
from fastgreen.estimate.layers import Layer
from fastgreen.units import counted

__all__ = ["from_onnx"]


def from_onnx(path: str | Path, input_shape: tuple[int, ...] | None = None) -> list[Layer]:
    """Layers of an ONNX model, in the order of its graph.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.
    input_shape : tuple of int, optional
        Shape of one sample of the first input, without the batch; for models with dynamic sizes.

    Raises
    ------
    TraceError
        If the file is no ONNX model, or its shapes contradict each other.
    ValueError
        If a size other than the batch is dynamic and `input_shape` is not given.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImportError("reading an ONNX file needs onnx: pip install 'fastgreen[onnx]'") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TraceError(f"{path}: not an ONNX model ({why})") from error
    if not model.graph.node:
        raise TraceError(f"{path}: an ONNX model without a single node")
    _fix_inputs(model, str(path), input_shape)
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise TraceError(f"{path}: shapes do not fit together: {str(error).strip().splitlines()[0]}") from error
    return _Graph(onnx, model).layers()


def _fix_inputs(model: Any, path: str, input_shape: tuple[int, ...] | None) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if not inputs:
        raise TraceError(f"{path}: an ONNX model without an input")
    for place, value in enumerate(inputs):
        dims = value.type.tensor_type.shape.dim
        if place == 0 and input_shape is not None:
            if len(input_shape) != len(dims) - 1:
                raise ValueError(
                    f"input_shape: input {value.name!r} has {counted(len(dims) - 1, 'size')} besides the batch, "
                    f"not {len(input_shape)}"
                )
            for dim, size in zip(list(dims)[1:], input_shape, strict=True):
                if dim.dim_value > 0 and dim.dim_value != size:
                    raise ValueError(f"input_shape: input {value.name!r} is fixed at {dim.dim_value}, not {size}")
                dim.dim_value = int(size)
        for axis, dim in enumerate(dims):
            if dim.dim_value > 0:
                continue
            if axis:
                named = dim.dim_param or f"dimension {axis}"
                raise ValueError(
                    f"input {value.name!r} of {path} has a dynamic size ({named}); give the shape of one sample "
                    "without the batch, for example --input-shape 3,224,224"
                )
            dim.dim_value = 1


class _Graph:
    """The shapes of a model's tensors, and its nodes as layers."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, self.graph = onnx, model.graph
        self.weights = {tensor.name: tuple(tensor.dims) for tensor in self.graph.initializer}
        self.shapes: dict[str, tuple[int, ...] | None] = dict(self.weights)
        self.integers: set[str] = set()
        for value in (*self.graph.value_info, *self.graph.input, *self.graph.output):
            tensor = value.type.tensor_type
            dims = tuple(dim.dim_value for dim in tensor.shape.dim)
            self.shapes.setdefault(value.name, dims if all(dim > 0 for dim in dims) else None)
            if tensor.elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL):
                self.integers.add(value.name)
        self.constant = set(self.weights)
        flowing = [value for value in self.graph.input if value.name not in self.weights]
        self.batch = self.shape(flowing[0].name)[0] if self.shape(flowing[0].name) else 1

    def layers(self) -> list[Layer]:
        found = []
        for index, node in enumerate(self.graph.node, start=1):
            if all(name in self.constant for name in node.input if name):
                # Nothing of the input flows through it: its result is known before the network runs.
                self.constant.update(node.output)
                for name in node.output:
                    self.weights.setdefault(name, self.shapes.get(name) or ())
                continue
            name = node.name or f"{index}.{node.op_type}"
            if node.output[0] in self.integers and node.op_type not in ("ArgMax", "TopK"):
                continue
            found.append(self._layer(node, name))
        return found

    def _layer(self, node: Any, name: str) -> Layer:
        if node.op_type in _FREE:
            return Layer("Reshape" if node.op_type != "Dropout" else "Dropout", {}, name)
        needed = node.input[:2] if node.op_type in _WINDOWS else (*node.input[:2], node.output[0])
        shapes = [self.shapes.get(tensor) for tensor in needed if tensor]
        if any(shape is None for shape in shapes):
            return Layer(f"{node.op_type} of unknown shape", {}, name)
        reader: Callable[[_Graph, Any, str], Layer] | None = _READERS.get(node.op_type)
        if reader is not None:
            return reader(self, node, name)
        if node.op_type in _POINTWISE:
            return Layer(_POINTWISE[node.op_type], {"input_size": self._largest(node), "inplace": 0}, name)
        return Layer(node.op_type, {}, name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name) or ()

    def per_sample(self, sizes: Sequence[int]) -> int:
        """The product of sizes for one sample. The batch need not stand first: attention often moves it."""
        return max(1, -(-math.prod(sizes) // self.batch))

    def _largest(self, node: Any) -> int:
        """Elements per sample of the largest tensor in or out; weights are not of a sample."""
        flowing = [tensor for tensor in (*node.input, *node.output) if tensor and tensor not in self.weights]
        return max(self.per_sample(self.shape(tensor)) for tensor in flowing)

    def attributes(self, node: Any) -> dict[str, Any]:
        return {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}

    def window(self, node: Any, kernel: Sequence[int]) -> dict[str, int] | None:
        """Sizes of a window, None of one with three dimensions or unequal dilation.

        One-dimensional ones become images of height 1, and uneven padding an image that much larger or smaller.
        """
        image, given = self.shape(node.input[0]), self.attributes(node)
        axes = len(image) - 2
        stride = list(given.get("strides", [1] * axes))
        dilation = list(given.get("dilations", [1] * axes))
        pads = list(given.get("pads", [0] * 2 * axes))
        spatial = list(image[2:])
        if axes not in (1, 2) or len(set(dilation)) != 1:
            return None
        auto = given.get("auto_pad", b"NOTSET").decode()
        if auto.startswith("SAME"):
            pads = [0] * axes
            spatial = [
                (-(-size // s) - 1) * s + d * (k - 1) + 1
                for size, s, d, k in zip(spatial, stride, dilation, kernel, strict=True)
            ]
        low, high = pads[:axes], pads[axes:]
        spatial = [size + after - before for size, before, after in zip(spatial, low, high, strict=True)]
        if axes == 1:
            spatial, kernel, stride, low = [1, *spatial], [1, *kernel], [1, *stride], [0, *low]
        return {
            "image_size": spatial[0], "image_width": spatial[1], "kernel_size": kernel[0], "kernel_width": kernel[1],
            "stride": stride[0], "stride_width": stride[1], "padding": low[0], "padding_width": low[1],
            "dilation": dilation[0], "in_channels": image[1],
        }  # fmt: skip


def _conv(graph: _Graph, node: Any, name: str) -> Layer:
    weights = graph.shape(node.input[1])
    sizes = graph.window(node, list(weights[2:]))
    if sizes is None:
        return Layer(f"Conv of {len(weights) - 2} dimensions", {}, name)
    groups = int(graph.attributes(node).get("group", 1))
    return Layer(
        "Conv2d", {**sizes, "out_channels": weights[0], "groups": groups, "bias": int(len(node.input) > 2)}, name
    )


def _pool(graph: _Graph, node: Any, name: str) -> Layer:
    given = graph.attributes(node)
    sizes = graph.window(node, list(given["kernel_shape"]))
    if sizes is None:
        return Layer(f"{node.op_type} of {len(given['kernel_shape'])} dimensions", {}, name)
    kind = "MaxPool2d" if node.op_type == "MaxPool" else "AvgPool2d"
    return Layer(kind, {**sizes, "ceil_mode": int(given.get("ceil_mode", 0))}, name)


def _global_pool(graph: _Graph, node: Any, name: str) -> Layer:
    image = graph.shape(node.input[0])
    high, wide = (image[2], image[3]) if len(image) == 4 else (1, math.prod(image[2:]))
    sizes = {"image_size": high, "image_width": wide, "output_size": 1, "output_width": 1, "in_channels": image[1]}
    return Layer("AdaptiveAvgPool2d", sizes, name)


def _gemm(graph: _Graph, node: Any, name: str) -> Layer:
    weights, given = graph.shape(node.input[1]), graph.attributes(node)
    outputs, inputs = weights if given.get("transB") else weights[::-1]
    left = graph.shape(node.input[0])
    rows = graph.per_sample(left[1:] if given.get("transA") else left[:-1])
    sizes = {"input_size": inputs, "output_size": outputs, "rows": rows, "bias": int(len(node.input) > 2)}
    return Layer("Linear", sizes, name)


def _matmul(graph: _Graph, node: Any, name: str) -> Layer:
    left, right, result = (graph.shape(tensor) for tensor in (node.input[0], node.input[1], node.output[0]))
    if len(left) < 2 or len(right) < 2:
        return Layer("MatMul of a vector", {}, name)
    rows = graph.per_sample(result[:-1])
    return Layer("Linear", {"input_size": left[-1], "output_size": right[-1], "rows": rows, "bias": 0}, name)


def _norm(graph: _Graph, node: Any, name: str) -> Layer:
    kind = "LayerNorm" if node.op_type == "LayerNormalization" else "BatchNorm2d"
    channels = math.prod(graph.shape(node.input[1]))
    return Layer(kind, {"input_size": graph.per_sample(graph.shape(node.input[0])), "channels": max(1, channels)}, name)


# Their output's shape is worked out here, so that an impossible window is an error and not an unknown shape.
_WINDOWS = frozenset({"Conv", "MaxPool", "AveragePool"})

_READERS: dict[str, Any] = {
    "Conv": _conv, "MaxPool": _pool, "AveragePool": _pool, "GlobalAveragePool": _global_pool, "Gemm": _gemm,
    "MatMul": _matmul, "BatchNormalization": _norm, "LayerNormalization": _norm,
}  # fmt: skip

_POINTWISE = {
    "Relu": "ReLU", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Softmax": "Softmax", "Gelu": "GELU",
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Neg", "Abs", "Erf", "Clip", "LeakyRelu", "Elu",
         "PRelu", "HardSigmoid", "HardSwish", "Softplus", "LogSoftmax", "Min", "Max", "Where", "Reciprocal",
         "ReduceMean", "ReduceSum", "ReduceMax", "Sum"),
        "Elementwise",
    ),
    **dict.fromkeys(("Concat", "Transpose", "Pad", "Slice", "Split", "Gather", "Expand", "Resize", "Tile"), "Copy"),
}  # fmt: skip

_FREE = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Shape", "Constant", "Cast"})
