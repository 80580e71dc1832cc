"""Multiply-accumulates and parameters of a layer: exact integers, vectorised, in two conventions.

``"table"`` is the convention of the published layer tables (Getzner, Charpentier, Günnemann, "Accuracy is not the only
metric that matters: estimating the energy consumption of deep learning models", 2023): a bias counts one per output,
pooling counts half of its comparisons rounded down, ReLU one per element, the other activations nothing.
``"standard"`` is what counters of FLOPs agree on: convolutions, linear layers and the matrix products of attention,
without biases; everything else counts nothing. Its double is the FLOPs of ``torch.utils.flop_counter``.

Counts are int64; a count that could pass 2**63 raises ``OverflowError`` instead of wrapping.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgreen.estimate.layers import FREE, Columns, complete

__all__ = ["CONVENTIONS", "count", "macs", "output_size", "parameters", "window_outputs"]

CONVENTIONS = ("table", "standard")


def window_outputs(columns: Columns, axis: str = "height") -> np.ndarray:
    """Outputs of a convolution or pooling window along one axis: ``floor((image + 2 padding - reach) / stride) + 1``.

    ``reach = dilation (kernel - 1) + 1``. With ``ceil_mode`` the division rounds up, and a last window that would begin
    in the far padding is left out, as PyTorch does.
    """
    wide = axis == "width"
    image, kernel, stride, padding = (
        columns[name]
        for name in (
            ("image_width", "kernel_width", "stride_width", "padding_width")
            if wide
            else ("image_size", "kernel_size", "stride", "padding")
        )
    )
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
    factors, halve = _factors(kind, c, table)
    _refuse_overflow(factors)
    total = np.ones((), dtype=np.int64)
    for factor in factors:
        total = total * factor
    return total // 2 if halve else total


def _factors(kind: str, c: Columns, table: bool) -> tuple[list[np.ndarray], bool]:
    """The whole numbers whose product is the count, and whether the product is halved (rounding down)."""
    batch, zero = c["batch_size"], np.zeros((), dtype=np.int64)
    if kind == "Conv2d":
        per_output = c["kernel_size"] * c["kernel_width"] * (c["in_channels"] // c["groups"])
        outputs = window_outputs(c) * window_outputs(c, "width")
        return [batch, outputs, c["out_channels"], per_output + (c["bias"] if table else 0)], False
    if kind == "Linear":
        return [batch, c["rows"], c["output_size"], c["input_size"] + (c["bias"] if table else 0)], False
    if kind == "Attention":
        embed, rows, keys = c["embed_size"], c["rows"], c["key_rows"]
        bias = c["bias"] * embed * 2 * (rows + keys) if table else 0
        return [batch, embed * embed * 2 * (rows + keys) + 2 * rows * keys * embed + bias], False
    if not table or kind in ("Sigmoid", "Tanh", "Softmax", "GELU", "SiLU", "Copy"):
        return [batch, zero], False
    if kind in ("MaxPool2d", "AvgPool2d"):
        area = c["kernel_size"] * c["kernel_width"]
        return [area, window_outputs(c) * window_outputs(c, "width"), c["in_channels"], batch], True
    if kind == "AdaptiveAvgPool2d":
        return [batch, c["in_channels"], c["image_size"] * c["image_width"]], False
    return [batch, c["input_size"]], False


def _refuse_overflow(factors: list[np.ndarray]) -> None:
    bits = np.zeros(())
    for factor in factors:
        bits = bits + np.log2(np.maximum(factor, 1).astype(np.float64))
    if (bits >= 62.99).any():
        raise OverflowError(f"sizes: a layer of 2**{float(np.max(bits)):.0f} multiply-accumulates is beyond int64")


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
    if kind == "Conv2d":
        weights = c["kernel_size"] * c["kernel_width"] * (c["in_channels"] // c["groups"])
        return c["out_channels"] * (weights + c["bias"])
    if kind == "Linear":
        return c["output_size"] * (c["input_size"] + c["bias"])
    if kind in ("BatchNorm2d", "LayerNorm"):
        return 2 * c["channels"]
    if kind == "Attention":
        return 4 * c["embed_size"] * (c["embed_size"] + c["bias"])
    return np.zeros((), dtype=np.int64)
