"""Substitutes for layers of a kind without a model: measured kinds of similar work, with their sizes."""

from __future__ import annotations

from collections.abc import Callable

from fastgreen.estimate.counts import GATES, window_outputs
from fastgreen.estimate.layers import KINDS, WEIGHTED, Columns, Layer, complete, transposed_outputs

__all__ = ["StandIn", "stand_ins"]

# A kind, its sizes, and how many times a forward pass runs it.
StandIn = tuple[str, dict[str, int], int]

_SIMILAR = {
    "GELU": "Tanh", "SiLU": "Sigmoid", "LayerNorm": "Softmax", "RMSNorm": "Softmax",
    "BatchNorm2d": "ReLU", "Elementwise": "ReLU", "Copy": "ReLU",
}  # fmt: skip


def stand_ins(layer: Layer) -> list[StandIn] | None:
    """Layers of similar work that price a layer of a kind without a model; None if there are none."""
    make = _MAKERS.get(layer.kind)
    if make is None:
        return None
    columns = complete(layer.kind, {"batch_size": 1, **layer.sizes})
    found = make(layer.kind, columns, {name: int(value) for name, value in columns.items()})
    bits = {name: layer.sizes[name] for name in ("bits", "weight_bits") if name in layer.sizes}
    return [(kind, sizes | _bits_of(kind, bits), times) for kind, sizes, times in found]


def _bits_of(kind: str, bits: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in bits.items() if name == "bits" or kind in WEIGHTED}


def _pointwise(kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    inplace = {"inplace": s["inplace"]} if "inplace" in s else {}
    return [(_SIMILAR[kind], {"input_size": s["input_size"], **inplace}, 1)]


def _embedding(_kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    return [("ReLU", {"input_size": s["rows"] * s["embed_size"]}, 1)]


def _average_pool(_kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    spec = KINDS["MaxPool2d"]
    return [("MaxPool2d", {name: s[name] for name in (*spec.needs, *spec.defaults)}, 1)]


def _adaptive_pool(_kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    high, wide = s["image_size"] // s["output_size"], s["image_width"] // s["output_width"]
    sizes = {
        "image_size": s["image_size"], "image_width": s["image_width"], "in_channels": s["in_channels"],
        "stride": max(high, 1), "stride_width": max(wide, 1),
        "kernel_size": max(s["image_size"] - (s["output_size"] - 1) * high, 1),
        "kernel_width": max(s["image_width"] - (s["output_width"] - 1) * wide, 1),
    }  # fmt: skip
    return [("MaxPool2d", sizes, 1)]


def _conv3d(_kind: str, columns: Columns, s: dict[str, int]) -> list[StandIn]:
    """A two-dimensional convolution for each place along the output's depth, over one image per depth of the kernel."""
    depth = int(window_outputs(columns, "depth"))
    sizes = {name: s[name] for name in (*KINDS["Conv2d"].needs, *KINDS["Conv2d"].defaults)}
    return [("Conv2d", {**sizes, "in_channels": s["in_channels"] * s["kernel_depth"]}, depth)]


def _transposed(kind: str, columns: Columns, s: dict[str, int]) -> list[StandIn]:
    """The convolution with this one as its transpose, from the output's size to the image's: it has the same MACs."""
    sizes = {name: s[name] for name in (*KINDS["Conv2d"].needs, *KINDS["Conv2d"].defaults)}
    sizes |= {
        "image_size": int(transposed_outputs(columns)), "image_width": int(transposed_outputs(columns, "width")),
        "in_channels": s["out_channels"], "out_channels": s["in_channels"],
    }  # fmt: skip
    if kind == "ConvTranspose3d":
        # One convolution for each place along the image's depth, over one image per depth of the kernel.
        return [("Conv2d", {**sizes, "in_channels": sizes["in_channels"] * s["kernel_depth"]}, s["image_depth"])]
    return [("Conv2d", sizes, 1)]


def _product(_kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    return [("Linear", {name: s[name] for name in ("input_size", "output_size", "rows")}, 1)]


def _attention(_kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    """Projections of queries, keys, values and the result; scores; softmax; the weighted values."""
    embed, rows, keys, heads, times = (s[n] for n in ("embed_size", "rows", "key_rows", "heads", "sequences"))
    per_head = embed // heads
    linear = [(embed, embed, n) for n in (rows, keys, keys, rows)]
    linear += [(per_head, keys, rows * heads), (keys, per_head, rows * heads)]
    return [
        *(("Linear", {"input_size": i, "output_size": o, "rows": n}, times) for i, o, n in linear),
        ("Softmax", {"input_size": rows * keys * heads}, times),
    ]


def _cached_attention(_kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    """Scores of all heads, softmax, weighted values; a causal mask is not used, as in attention with a mask."""
    keys, rows = s["cache"] + s["rows"], s["rows"] * s["heads"]
    return [
        ("Linear", {"input_size": s["head_size"], "output_size": keys, "rows": rows}, 1),
        ("Softmax", {"input_size": rows * keys}, 1),
        ("Linear", {"input_size": keys, "output_size": s["head_size"], "rows": rows}, 1),
    ]


def _cache_append(_kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    return [("ReLU", {"input_size": (s["cache"] + s["rows"]) * s["kv_heads"] * s["head_size"]}, 2)]


def _recurrent(kind: str, _columns: Columns, s: dict[str, int]) -> list[StandIn]:
    """One product for the input at all steps; at each step one for the state, and the gates."""
    gates, steps = GATES[kind] * s["hidden_size"], s["rows"]
    return [
        ("Linear", {"input_size": s["input_size"], "output_size": gates, "rows": steps}, 1),
        ("Linear", {"input_size": s["hidden_size"], "output_size": gates}, steps),
        ("Sigmoid", {"input_size": gates}, steps),
    ]


_MAKERS: dict[str, Callable[[str, Columns, dict[str, int]], list[StandIn]]] = {
    **dict.fromkeys(_SIMILAR, _pointwise), **dict.fromkeys(GATES, _recurrent), "Embedding": _embedding,
    "AvgPool2d": _average_pool, "AdaptiveAvgPool2d": _adaptive_pool, "Conv3d": _conv3d, "ConvTranspose2d": _transposed,
    "ConvTranspose3d": _transposed,
    "MatMul": _product, "Attention": _attention, "CachedAttention": _cached_attention, "CacheAppend": _cache_append,
}  # fmt: skip
