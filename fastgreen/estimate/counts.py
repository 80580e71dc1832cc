"""Exact counts of a layer's multiply-accumulates and parameters, in two conventions.

``"table"`` is the convention of the published layer tables (Getzner, Charpentier, Günnemann, "Accuracy is not the only
metric that matters: estimating the energy consumption of deep learning models", 2023): a bias counts one per output,
pooling counts half of its comparisons rounded down, ReLU one per element, the other activations nothing.
``"standard"`` is the convention of FLOP counters: convolutions, linear and recurrent layers and the matrix products of
attention, without biases; all other layers count 0. Twice this count is the FLOPs of ``torch.utils.flop_counter``.

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

_UNCOUNTED = frozenset(
    ("Sigmoid", "Tanh", "Softmax", "GELU", "SiLU", "Copy", "Embedding", "CacheAppend", "Generation", "RotaryGeneration")
)

# Matrix products of a recurrent layer at each step; its input and its state have the same number.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def window_outputs(columns: Columns, axis: str = "height") -> np.ndarray:
    """Outputs of a convolution or pooling window along one axis: ``floor((image + 2 padding - reach) / stride) + 1``.

    ``reach = dilation (kernel - 1) + 1``. With ``ceil_mode`` the division rounds up, and a last window that would begin
    in the far padding is left out, as PyTorch does.
    """
    suffix = {"height": "", "width": "_width", "depth": "_depth"}[axis]
    image, kernel = (columns[f"{name}{suffix or '_size'}"] for name in ("image", "kernel"))
    stride, padding, dilation = (columns[f"{name}{suffix}"] for name in ("stride", "padding", "dilation"))
    span = image + 2 * padding - dilation * (kernel - 1) - 1
    outputs = span // stride + 1
    if "ceil_mode" in columns:
        up = -(-span // stride) + 1
        up = np.where((up - 1) * stride >= image + padding, up - 1, up)
        outputs = np.where(columns["ceil_mode"] != 0, up, outputs)
    return outputs


def output_size(kind: str, **sizes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of the output of a convolution or pooling layer.

    Parameters
    ----------
    kind : str
        A kind of layer with a window.
    **sizes
        The kind's sizes, integers or arrays that broadcast together.

    Returns
    -------
    height, width : int64 ndarray
        Of the broadcast shape.

    Raises
    ------
    ValueError
        If the kind has no window, or a size is missing, unknown or impossible.

    Examples
    --------
    >>> [int(n) for n in output_size("Conv2d", image_size=224, kernel_size=11, in_channels=3, out_channels=64,
    ...                              stride=4, padding=2)]
    [55, 55]
    """
    columns = complete(kind, {"batch_size": 1, **sizes})
    if "kernel_size" not in columns:
        raise ValueError(f"kind must be one with a window, not {kind}")
    if kind.startswith("ConvTranspose"):
        return transposed_outputs(columns), transposed_outputs(columns, "width")
    return window_outputs(columns), window_outputs(columns, "width")


def macs(kind: str, *, convention: str = "table", **sizes: Any) -> np.ndarray:
    """Multiply-accumulates of one forward pass of the whole batch.

    Parameters
    ----------
    kind : str
        A kind of layer.
    convention : {"table", "standard"}
        ``"table"`` counts biases, pooling and ReLU as the published tables do; ``"standard"`` counts as FLOP counters
        do. The top of this file has both in full.
    **sizes
        ``batch_size`` and the kind's sizes, integers or arrays that broadcast together.

    Returns
    -------
    int64 ndarray
        Exact counts, of the broadcast shape.

    Raises
    ------
    ValueError
        If the kind or convention is unknown, or a size is missing, unknown or impossible.
    OverflowError
        If a count could reach 2**63.

    References
    ----------
    Getzner, Charpentier, Günnemann, 2023, for the convention of the tables; the top of this file has the title.

    Examples
    --------
    >>> int(macs("Linear", batch_size=472, input_size=4645, output_size=1920))
    4210391040
    """
    if kind in FREE:
        return np.zeros(np.shape(sizes.get("batch_size", 1)), dtype=np.int64)
    return count(kind, complete(kind, sizes), convention)


def count(kind: str, c: Columns, convention: str = "table") -> np.ndarray:
    """Multiply-accumulates, as :func:`macs`, from columns made by :func:`~fastgreen.estimate.layers.complete`."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, not {convention!r}")
    table = convention == "table"
    halve = table and kind in ("MaxPool2d", "AvgPool2d")
    total = _exact(lambda columns: np.asarray(prod(_factors(kind, columns, table))), c, "multiply-accumulates")
    return total // 2 if halve else total


def _exact(work: Callable[[Columns], np.ndarray], c: Columns, what: str) -> np.ndarray:
    """Result of `work` in int64; computed in float64 first, to refuse sizes that would overflow."""
    rough = work({name: value.astype(np.float64) for name, value in c.items()})
    if (rough >= MOST_COUNT).any():
        raise OverflowError(f"sizes must give less than 2**63 {what}, not about 2**{np.log2(rough.max()):.0f}")
    return work(c)


def _factors(kind: str, c: Columns, table: bool) -> list[np.ndarray]:
    """Integers with the count as their product (for pooling in the tables' convention, twice the count)."""
    batch, zero = c["batch_size"], np.zeros_like(c["batch_size"], shape=())
    if kind in ("Conv2d", "Conv3d"):
        per_output = c["kernel_size"] * c["kernel_width"] * (c["in_channels"] // c["groups"])
        outputs = window_outputs(c) * window_outputs(c, "width")
        if kind == "Conv3d":
            per_output, outputs = per_output * c["kernel_depth"], outputs * window_outputs(c, "depth")
        return [batch, outputs, c["out_channels"], per_output + (c["bias"] if table else 0)]
    if kind in ("ConvTranspose2d", "ConvTranspose3d"):
        # Every value of the image meets the whole kernel; the bias is not counted.
        per_value = c["kernel_size"] * c["kernel_width"] * (c["out_channels"] // c["groups"])
        values = c["image_size"] * c["image_width"]
        if kind == "ConvTranspose3d":
            per_value, values = per_value * c["kernel_depth"], values * c["image_depth"]
        return [batch, values, c["in_channels"], per_value]
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
    if kind == "CachedAttention":
        # As FLOP counters do: every query meets every key, also those that a causal mask hides.
        return [batch, c["heads"], c["rows"], c["cache"] + c["rows"], 2 * c["head_size"]]
    if not table or kind in _UNCOUNTED:
        return [batch, zero]
    if kind in ("MaxPool2d", "AvgPool2d"):
        area = c["kernel_size"] * c["kernel_width"]
        return [area, window_outputs(c) * window_outputs(c, "width"), c["in_channels"], batch]
    if kind == "AdaptiveAvgPool2d":
        return [batch, c["in_channels"], c["image_size"] * c["image_width"]]
    return [batch, c["input_size"]]


def parameters(kind: str, **sizes: Any) -> np.ndarray:
    """Number of learnt parameters of a layer: weights and biases, without running statistics.

    Parameters
    ----------
    kind : str
        A kind of layer.
    **sizes
        The kind's sizes, integers or arrays that broadcast together; no batch is needed.

    Returns
    -------
    int64 ndarray
        Exact counts, of the broadcast shape.

    Raises
    ------
    ValueError
        If the kind is unknown, or a size is missing, unknown or impossible.
    OverflowError
        If a count could reach 2**63.

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
    if kind in ("Conv2d", "Conv3d", "ConvTranspose2d", "ConvTranspose3d"):
        depth = c.get("kernel_depth", 1)
        weights = depth * c["kernel_size"] * c["kernel_width"] * (c["in_channels"] // c["groups"])
        return c["out_channels"] * (weights + c["bias"])
    if kind == "Linear":
        return c["output_size"] * (c["input_size"] + c["bias"])
    if kind in GATES:
        return GATES[kind] * c["hidden_size"] * (c["input_size"] + c["hidden_size"] + 2 * c["bias"])
    if kind == "Embedding":
        return c["entries"] * c["embed_size"]
    if kind in ("BatchNorm2d", "LayerNorm", "RMSNorm"):
        return c["learnt"] * c["channels"]
    if kind == "Attention":
        return 4 * c["embed_size"] * (c["embed_size"] + c["bias"])
    return np.zeros_like(c["batch_size"], shape=())
