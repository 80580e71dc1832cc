"""A network's layers from a PyTorch module: traced with torch.fx where that works, with forward hooks where not.

torch.fx also sees functions (``torch.relu``, ``x + y``, ``flatten``); hooks see only modules, and a warning says so.
The module runs once on a sample of zeros without gradients, in evaluation mode, and is given back as it was.
"""

from __future__ import annotations

import math
import operator
import warnings
from typing import Any

from fastgreen.errors import FastgreenWarning
from fastgreen.estimate.layers import Layer

__all__ = ["from_torch"]


def from_torch(module: Any, input_shape: tuple[int, ...], dtype: Any = None) -> list[Layer]:
    """Layers of a PyTorch module, in the order they run.

    Parameters
    ----------
    module : torch.nn.Module
        Any module that takes one tensor.
    input_shape : tuple of int
        Shape of one sample, without the batch.
    dtype : torch.dtype, optional
        Of the input; float32 without it, ``torch.int64`` for tokens.

    Raises
    ------
    ValueError
        If the module cannot run on such an input.

    Examples
    --------
    >>> import torch
    >>> [layer.kind for layer in from_torch(torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()), (8,))]
    ['Linear', 'ReLU']
    """
    try:
        import torch
        import torch.fx
    except ImportError as error:
        raise ImportError("reading a PyTorch module needs torch: pip install 'fastgreen[torch]'") from error
    if not input_shape or any(int(size) < 1 for size in input_shape):
        raise ValueError(f"input_shape: sizes must be at least 1, not {input_shape}")
    sample = torch.zeros((1, *(int(size) for size in input_shape)), dtype=dtype or torch.float32)
    training = {name: part.training for name, part in module.named_modules()}
    module.eval()
    try:
        with torch.no_grad():
            return _trace(torch, module, sample)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"module: does not run on a sample of shape {tuple(input_shape)}: {error}") from error
    finally:
        for name, part in module.named_modules():
            part.training = training[name]


def _trace(torch: Any, module: Any, sample: Any) -> list[Layer]:
    try:
        graph = torch.fx.symbolic_trace(module)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError, ValueError, NotImplementedError) as error:
        warnings.warn(
            f"torch.fx cannot trace this module ({str(error).splitlines()[0]}); only its modules are seen, not the "
            "functions between them",
            FastgreenWarning,
            stacklevel=3,
        )
        return _hooked(torch, module, sample)
    layers: list[Layer] = []

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node: Any) -> Any:
            args, kwargs = self.fetch_args_kwargs_from_env(node)
            result = super().run_node(node)
            if node.op == "call_module":
                part = self.fetch_attr(node.target)
                if _is_leaf(torch, part):
                    _append(layers, _of_module(torch, part, args, result, str(node.target)))
                else:
                    # fx takes all of torch.nn as one node; the layers within (a transformer block's) are wanted.
                    layers.extend(_hooked(torch, part, *args, prefix=f"{node.target}."))
            elif node.op in ("call_function", "call_method"):
                _append(layers, _of_function(torch, node, args, kwargs, result))
            return result

    Recorder(graph).run(sample)
    return layers


def _append(layers: list[Layer], layer: Layer | None) -> None:
    if layer is not None:
        layers.append(layer)


def _hooked(torch: Any, module: Any, *sample: Any, prefix: str = "") -> list[Layer]:
    layers: list[Layer] = []
    handles = []
    inside: set[int] = set()
    for name, part in module.named_modules():
        if id(part) in inside or not _is_leaf(torch, part):
            continue
        inside.update(id(child) for child in part.modules())

        def record(part: Any, args: Any, result: Any, name: str = name) -> None:
            _append(layers, _of_module(torch, part, args, result, prefix + name))

        handles.append(part.register_forward_hook(record))
    try:
        module(*sample)
    finally:
        for handle in handles:
            handle.remove()
    return layers


def _is_leaf(torch: Any, module: Any) -> bool:
    return isinstance(module, torch.nn.MultiheadAttention) or not any(True for _ in module.children())


def _elements(tensor: Any) -> int:
    """Elements of a tensor, which are those of one sample: the batch is 1, wherever it stands."""
    return max(1, math.prod(tensor.shape))


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _window(module: Any, image: Any, **more: int) -> dict[str, int]:
    """Sizes of a two-dimensional window; a one-dimensional one is an image of height 1."""
    if image.dim() == 3:
        ones = {"image_size": 1, "kernel_size": 1, "stride": 1, "padding": 0}
        wide = (image.shape[2], *(_pair(v)[1] for v in (module.kernel_size, module.stride, _padding(module))))
    else:
        kernel, stride, padding = (_pair(v) for v in (module.kernel_size, module.stride, _padding(module)))
        ones = {"image_size": image.shape[2], "kernel_size": kernel[0], "stride": stride[0], "padding": padding[0]}
        wide = (image.shape[3], kernel[1], stride[1], padding[1])
    names = ("image_width", "kernel_width", "stride_width", "padding_width")
    sizes = {**ones, **dict(zip(names, wide, strict=True)), "in_channels": image.shape[1], **more}
    return {name: int(size) for name, size in sizes.items()}


def _padding(module: Any) -> Any:
    if module.padding == "same":
        reach = [d * (k - 1) for d, k in zip(_pair(module.dilation), _pair(module.kernel_size), strict=True)]
        if any(r % 2 for r in reach):
            raise ValueError("padding='same' of an even reach pads one side more, which is not supported")
        return tuple(r // 2 for r in reach)
    return 0 if module.padding == "valid" else module.padding


def _of_module(torch: Any, module: Any, args: Any, result: Any, name: str) -> Layer | None:
    nn, first = torch.nn, args[0]
    kind = type(module).__name__
    if isinstance(module, (nn.Conv1d, nn.Conv2d)) and not module.transposed:
        dilation = _pair(module.dilation)
        if isinstance(module, nn.Conv2d) and dilation[0] != dilation[1]:
            return Layer(f"{kind} of unequal dilation", {}, name)
        sizes = _window(
            module, first, out_channels=module.out_channels, dilation=dilation[-1], groups=module.groups,
            bias=int(module.bias is not None),
        )  # fmt: skip
        return Layer("Conv2d", sizes, name)
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        more = {"ceil_mode": int(module.ceil_mode), "dilation": _pair(getattr(module, "dilation", 1))[0]}
        return Layer(
            "MaxPool2d" if isinstance(module, nn.MaxPool2d) else "AvgPool2d", _window(module, first, **more), name
        )
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return _adaptive(first, result, name)
    if isinstance(module, nn.Linear):
        rows = max(1, math.prod(first.shape[:-1]))
        sizes = {"input_size": module.in_features, "output_size": module.out_features, "rows": rows}
        return Layer("Linear", {**sizes, "bias": int(module.bias is not None)}, name)
    if isinstance(module, nn.MultiheadAttention):
        rows, keys = (_tokens(module, tensor) for tensor in args[:2])
        bias = int(module.in_proj_bias is not None)
        sizes = {
            "embed_size": module.embed_dim,
            "rows": rows,
            "key_rows": keys,
            "heads": module.num_heads,
            "bias": bias,
        }
        return Layer("Attention", sizes, name)
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return Layer("BatchNorm2d", {"input_size": _elements(result), "channels": module.num_features}, name)
    if isinstance(module, nn.LayerNorm):
        channels = math.prod(module.normalized_shape)
        return Layer("LayerNorm", {"input_size": _elements(result), "channels": channels}, name)
    if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout):
        return Layer("Dropout", {}, name)
    if kind in ("Flatten", "Unflatten", "Identity"):
        return Layer("Identity" if kind == "Identity" else "Reshape", {}, name)
    if kind in _POINTWISE:
        inplace = int(bool(getattr(module, "inplace", False)))
        return Layer(_POINTWISE[kind], {"input_size": _elements(result), "inplace": inplace}, name)
    if not any(True for _ in module.children()):
        return Layer(kind, {}, name)
    return None


def _pool_function(called: str, args: Any, kwargs: Any, name: str) -> Layer:
    """``torch.nn.functional.max_pool2d`` and its like: arguments by place or by name."""
    given = dict(zip(("input", "kernel_size", "stride", "padding"), args, strict=False)) | kwargs
    kernel, padding = _pair(given["kernel_size"]), _pair(given.get("padding") or 0)
    stride, image = _pair(given.get("stride") or kernel), given["input"].shape
    sizes = {
        "image_size": int(image[-2]), "image_width": int(image[-1]), "in_channels": int(image[-3]),
        "kernel_size": kernel[0], "kernel_width": kernel[1], "stride": stride[0], "stride_width": stride[1],
        "padding": padding[0], "padding_width": padding[1], "ceil_mode": int(bool(given.get("ceil_mode"))),
    }  # fmt: skip
    return Layer("MaxPool2d" if called == "max_pool2d" else "AvgPool2d", sizes, name)


def _adaptive(image: Any, result: Any, name: str) -> Layer:
    sizes = {
        "image_size": image.shape[-2], "image_width": image.shape[-1], "in_channels": image.shape[1],
        "output_size": result.shape[-2], "output_width": result.shape[-1],
    }  # fmt: skip
    return Layer("AdaptiveAvgPool2d", {key: int(value) for key, value in sizes.items()}, name)


def _tokens(attention: Any, tensor: Any) -> int:
    return int(tensor.shape[1 if attention.batch_first else 0]) if tensor.dim() == 3 else int(tensor.shape[0])


_POINTWISE = {
    "ReLU": "ReLU", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Softmax": "Softmax", "GELU": "GELU", "SiLU": "SiLU",
    **dict.fromkeys(("ReLU6", "LeakyReLU", "ELU", "Hardtanh", "PReLU"), "Elementwise"),
    **dict.fromkeys(("Hardswish", "Hardsigmoid", "Softplus", "Mish", "LogSoftmax"), "Elementwise"),
}  # fmt: skip

# What a traced function or method is, by its name.
_FUNCTIONS = {
    **dict.fromkeys(("relu", "relu_"), "ReLU"), **dict.fromkeys(("sigmoid", "sigmoid_"), "Sigmoid"),
    **dict.fromkeys(("tanh", "tanh_"), "Tanh"), "softmax": "Softmax", "gelu": "GELU", "silu": "SiLU",
    **dict.fromkeys(("add", "add_", "iadd", "sub", "mul", "mul_", "imul", "truediv", "div", "pow"), "Elementwise"),
    **dict.fromkeys(("hardtanh", "relu6", "leaky_relu", "hardswish", "clamp", "exp", "sqrt", "neg"), "Elementwise"),
    **dict.fromkeys(("mean", "sum"), "Elementwise"),
    **dict.fromkeys(("cat", "stack", "contiguous", "pad", "clone"), "Copy"),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "chunk"), "Reshape"),
    **dict.fromkeys(("getitem", "getattr", "split", "expand", "unbind"), "Reshape"),
    **dict.fromkeys(("dropout", "identity", "detach"), "Dropout"),
}  # fmt: skip

_SILENT: tuple[Any, ...] = (getattr, operator.getitem)


def _of_function(torch: Any, node: Any, args: Any, kwargs: Any, result: Any) -> Layer | None:
    """The layer that a traced function or method is; None where it only asks for a shape."""
    name = str(node.name)
    called = node.target if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    if not isinstance(result, torch.Tensor) or not result.dim() or node.target in _SILENT:
        return None
    if called in ("matmul", "bmm") and args[0].dim() >= 2 and args[1].dim() >= 2:
        inner, outer = int(args[0].shape[-1]), int(args[1].shape[-1])
        rows = max(1, math.prod(result.shape[:-1]))
        return Layer("Linear", {"input_size": inner, "output_size": outer, "rows": rows, "bias": 0}, name)
    if called == "linear":
        outputs, inputs = (int(size) for size in args[1].shape)
        bias = int((len(args) > 2 and args[2] is not None) or kwargs.get("bias") is not None)
        sizes = {"input_size": inputs, "output_size": outputs, "rows": _elements(result) // outputs, "bias": bias}
        return Layer("Linear", sizes, name)
    if called in ("max_pool2d", "avg_pool2d"):
        return _pool_function(called, args, kwargs, name)
    if called == "adaptive_avg_pool2d":
        return _adaptive(args[0], result, name)
    if called == "scaled_dot_product_attention":
        heads, rows, width = (int(size) for size in args[0].shape[-3:])
        keys = int(args[1].shape[-2])
        sizes = {"input_size": width, "output_size": 2 * keys, "rows": heads * rows, "bias": 0}
        return Layer("Linear", sizes, name)
    kind = _FUNCTIONS.get(called.strip("_") if called.startswith("__") else called)
    if kind is None:
        return Layer(called, {}, name)
    if kind in ("Reshape", "Dropout"):
        return Layer(kind, {}, name)
    inplace = int(called.endswith("_") or called in ("iadd", "imul") or bool(kwargs.get("inplace")))
    largest = max((t for t in args if isinstance(t, torch.Tensor)), key=_elements, default=result)
    return Layer(kind, {"input_size": max(_elements(result), _elements(largest)), "inplace": inplace}, name)
