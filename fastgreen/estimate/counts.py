"""Multiply-accumulates and parameters of a layer: exact integers, vectorised, in two conventions.

``"table"`` is the convention of the published layer tables (Getzner, Charpentier, Günnemann, "Accuracy is not the only
metric that matters: estimating the energy consumption of deep learning models", 2023): a bias counts one per output,
pooling counts half of its comparisons rounded down, ReLU one per element, the other activations nothing.
``"standard"`` is what counters of FLOPs agree on: convolutions, linear and recurrent layers and the matrix products of
attention, without biases; everything else counts nothing. Its double is the FLOPs of ``torch.utils.flop_counter``.

Counts are int64; a count that could pass 2**63 raises ``OverflowError`` instead of wrapping.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fastgreen.estimate.layers import FREE, Columns, complete, transposed_outputs

__all__ = ["CONVENTIONS", "GATES", "count", "macs", "output_size", "parameters", "window_outputs"]

CONVENTIONS = ("table", "standard")

# A little below 2**63, for the rounding of the check in floats.
MOST_COUNT = 2.0**63 * (1 - 1e-12)

# Matrix products of a recurrent layer at each step, of its input and of its state alike.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def window_outputs(columns: Columns, axis: str = "height") -> np.ndarray:
    """Outputs of a convolution or pooling window along one axis: ``floor((image + 2 padding - reach) / stride) + 1``.

    ``reach = dilation (kernel - 1) + 1``. With ``ceil_mode`` the division rounds up, and a last window that would begin
    in the far padding is left out, as PyTorch does.
    """
    suffix = {"height": "", "width": "_width", "depth": "_depth"}[axis]
    image, kernel = (columns[f"{name}{suffix or '_size'}"] for name in ("image", "kernel"))
    stride, padding = (columns[f"{name}{suffix}"] for name in ("stride", "padding"))
    span = image + 2 * padding - columns["dilation"] * (kernel - 1) - 1
    outputs = span // stride + 1
    if "ceil_mode" in columns:
        up = -(-span // stride) + 1
        up = np.where((up - 1) * stride >= image + padding, up - 1, up)
        outputs = np.where(columns["ceil_mode"] != 0, up, outputs)
    return outputs


def output_size(kind: str, **sizes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of what a window layer gives.

    Examples
    --------
    >>> [int(n) for n in output_size("Conv2d", image_size=224, kernel_size=11, in_channels=3, out_channels=64,
    ...                              stride=4, padding=2)]
    [55, 55]
    """
    columns = complete(kind, {"batch_size": 1, **sizes})
    if "kernel_size" not in columns:
        raise ValueError(f"kind: {kind} has no window")
    if kind == "ConvTranspose2d":
        return transposed_outputs(columns), transposed_outputs(columns, "width")
    return window_outputs(columns), window_outputs(columns, "width")


def macs(kind: str, *, convention: str = "table", **sizes: Any) -> np.ndarray:
    """Multiply-accumulates of one forward pass of the whole batch.

    Parameters
    ----------
    kind : str
        A kind of layer.
    convention : {"table", "standard"}
        See the module's description.
    **sizes
        ``batch_size`` and the kind's sizes, integers or arrays that broadcast together.

    Returns
    -------
    int64 ndarray
        Exact counts, of the broadcast shape.

    Examples
    --------
    >>> int(macs("Linear", batch_size=472, input_size=4645, output_size=1920))
    4210391040
    """
    if kind in FREE:
        return np.zeros(np.shape(sizes.get("batch_size", 1)), dtype=np.int64)
    return count(kind, complete(kind, sizes), convention)


def count(kind: str, c: Columns, convention: str = "table") -> np.ndarray:
    """:func:`macs` of columns that :func:`~fastgreen.estimate.layers.complete` has filled in."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention: {convention!r} is not one of {', '.join(CONVENTIONS)}")
    table = convention == "table"
    halve = table and kind in ("MaxPool2d", "AvgPool2d")
    total = _exact(lambda columns: np.asarray(prod(_factors(kind, columns, table))), c, "multiply-accumulates")
    return total // 2 if halve else total


def _exact(work: Callable[[Columns], np.ndarray], c: Columns, what: str) -> np.ndarray:
    """`work` in integers, after the same in floats has shown that nothing wraps on the way."""
    rough = work({name: value.astype(np.float64) for name, value in c.items()})
    if (rough >= MOST_COUNT).any():
        raise OverflowError(f"sizes: a layer of 2**{np.log2(rough.max()):.0f} {what} is beyond int64")
    return work(c)


def _factors(kind: str, c: Columns, table: bool) -> list[np.ndarray]:
    """The whole numbers whose product is the count; of pooling in the table's convention, is twice the count."""
    batch, zero = c["batch_size"], np.zeros_like(c["batch_size"], shape=())
    if kind in ("Conv2d", "Conv3d"):
        per_output = c["kernel_size"] * c["kernel_width"] * (c["in_channels"] // c["groups"])
        outputs = window_outputs(c) * window_outputs(c, "width")
        if kind == "Conv3d":
            per_output, outputs = per_output * c["kernel_depth"], outputs * window_outputs(c, "depth")
        return [batch, outputs, c["out_channels"], per_output + (c["bias"] if table else 0)]
    if kind == "ConvTranspose2d":
        # Every value of the image meets the whole kernel; the bias is not counted.
        per_value = c["kernel_size"] * c["kernel_width"] * (c["out_channels"] // c["groups"])
        return [batch, c["image_size"] * c["image_width"], c["in_channels"], per_value]
    if kind == "Linear":
        return [batch, c["rows"], c["output_size"], c["input_size"] + (c["bias"] if table else 0)]
    if kind == "MatMul":
        return [batch, c["rows"], c["output_size"], c["input_size"]]
    if kind in GATES:
        inputs = c["input_size"] + c["hidden_size"] + (2 * c["bias"] if table else 0)
        return [batch, c["rows"], GATES[kind] * c["hidden_size"], inputs]
    if kind == "Attention":
        embed, rows, keys = c["embed_size"], c["rows"], c["key_rows"]
        bias = c["bias"] * 2 * (rows + keys) if table else 0
        return [batch, c["sequences"], embed, embed * 2 * (rows + keys) + 2 * rows * keys + bias]
    if not table or kind in ("Sigmoid", "Tanh", "Softmax", "GELU", "SiLU", "Copy", "Embedding"):
        return [batch, zero]
    if kind in ("MaxPool2d", "AvgPool2d"):
        area = c["kernel_size"] * c["kernel_width"]
        return [area, window_outputs(c) * window_outputs(c, "width"), c["in_channels"], batch]
    if kind == "AdaptiveAvgPool2d":
        return [batch, c["in_channels"], c["image_size"] * c["image_width"]]
    return [batch, c["input_size"]]


def parameters(kind: str, **sizes: Any) -> np.ndarray:
    """Learnt parameters of a layer: weights and biases; running statistics are not parameters.

    Examples
    --------
    >>> int(parameters("Conv2d", image_size=224, kernel_size=3, in_channels=3, out_channels=64))
    1792
    """
    if kind in FREE:
        return np.zeros((), dtype=np.int64)
    c = complete(kind, {"batch_size": 1, **sizes})
    return _exact(lambda columns: _parameters(kind, columns), c, "parameters")


def _parameters(kind: str, c: Columns) -> np.ndarray:
    if kind in ("Conv2d", "Conv3d", "ConvTranspose2d"):
        depth = c.get("kernel_depth", 1)
        weights = depth * c["kernel_size"] * c["kernel_width"] * (c["in_channels"] // c["groups"])
        return c["out_channels"] * (weights + c["bias"])
    if kind == "Linear":
        return c["output_size"] * (c["input_size"] + c["bias"])
    if kind in GATES:
        return GATES[kind] * c["hidden_size"] * (c["input_size"] + c["hidden_size"] + 2 * c["bias"])
    if kind == "Embedding":
        return c["entries"] * c["embed_size"]
    if kind in ("BatchNorm2d", "LayerNorm"):
        return c["learnt"] * c["channels"]
    if kind == "Attention":
        return 4 * c["embed_size"] * (c["embed_size"] + c["bias"])
    return np.zeros_like(c["batch_size"], shape=())
