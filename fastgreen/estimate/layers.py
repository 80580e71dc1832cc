"""Layers: kinds, sizes per sample, and the check that a layer can exist.

Sizes are those of one sample; the batch size is an argument of counts and energies. Every kind lists its required sizes
and the sizes with a default, so that the columns of a table, an ONNX node and a PyTorch module all become the same few
integers. Every kind also has ``bits``, the width of the numbers that flow through it; kinds with weights have
``weight_bits``, which is the same unless given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

__all__ = [
    "FREE",
    "KINDS",
    "USUAL_BITS",
    "WEIGHTED",
    "Columns",
    "Kind",
    "Layer",
    "check",
    "complete",
    "for_images",
    "transposed_outputs",
    "whole",
    "window_sizes",
]

Columns = dict[str, np.ndarray]

_WINDOW = ("image_size", "kernel_size")
_AXIS = ("image_size", "kernel_size", "stride", "padding", "dilation")
_WIDTHS = ("image_width", "kernel_width", "stride_width", "padding_width", "dilation_width")
_DEPTHS = ("image_depth", "kernel_depth", "stride_depth", "padding_depth", "dilation_depth")
_BY_AXIS = {"height": _AXIS, "width": _WIDTHS, "depth": _DEPTHS}
# work.taps() has a loop over the padding.
MOST_PADDING = 65_536
# A float64 can hold every integer up to here.
MOST_SIZE = 2**53


@dataclass(frozen=True)
class Kind:
    """A kind of layer: the sizes it needs and the ones it may leave out.

    Attributes
    ----------
    needs : tuple of str
        Sizes without a default.
    defaults : dict
        Sizes with a default; a string default names the size it copies.
    zero : frozenset of str
        Sizes that may be 0; other sizes are at least 1.
    """

    needs: tuple[str, ...]
    defaults: Mapping[str, int | str] = field(default_factory=dict)
    zero: frozenset[str] = frozenset()


def _window(needs: tuple[str, ...], **defaults: int | str) -> Kind:
    widths = dict(zip(_WIDTHS, _AXIS, strict=True))
    zero = {"padding", "padding_width", "padding_depth", "bias", "ceil_mode"}
    zero |= {"output_padding", "output_padding_width", "output_padding_depth"}
    return Kind(needs, {**defaults, **widths}, frozenset(zero))


def _convolution(**more: int | str) -> Kind:
    defaults: dict[str, int | str] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": 1}
    return _window((*_WINDOW, "in_channels", "out_channels"), **defaults, **more)


def _pointwise(**defaults: int) -> Kind:
    return Kind(("input_size",), defaults, frozenset(defaults))


def _norm() -> Kind:
    # Scale and shift are learnt for each channel; either may be missing.
    return Kind(("input_size", "channels"), {"learnt": 2}, frozenset({"learnt"}))


def _recurrent() -> Kind:
    return Kind(("input_size", "hidden_size"), {"rows": 1, "bias": 1}, frozenset({"bias"}))


KINDS: dict[str, Kind] = {
    "Conv2d": _convolution(),
    "Conv3d": _convolution(**dict(zip(_DEPTHS, _AXIS, strict=True))),
    "ConvTranspose2d": _convolution(output_padding=0, output_padding_width="output_padding"),
    "ConvTranspose3d": _convolution(
        output_padding=0,
        output_padding_width="output_padding",
        output_padding_depth="output_padding",
        **dict(zip(_DEPTHS, _AXIS, strict=True)),
    ),
    "MaxPool2d": _window((*_WINDOW, "in_channels"), stride="kernel_size", padding=0, dilation=1, ceil_mode=0),
    "AvgPool2d": _window((*_WINDOW, "in_channels"), stride="kernel_size", padding=0, dilation=1, ceil_mode=0),
    "AdaptiveAvgPool2d": Kind(
        ("image_size", "output_size", "in_channels"), {"image_width": "image_size", "output_width": "output_size"}
    ),
    "Linear": Kind(("input_size", "output_size"), {"rows": 1, "bias": 1}, frozenset({"bias"})),
    "ReLU": _pointwise(inplace=0),
    "Sigmoid": _pointwise(inplace=0),
    "Tanh": _pointwise(inplace=0),
    "Softmax": _pointwise(inplace=0),
    "GELU": _pointwise(inplace=0),
    "SiLU": _pointwise(inplace=0),
    "Elementwise": _pointwise(inplace=0),
    "Copy": _pointwise(inplace=0),
    "BatchNorm2d": _norm(),
    "LayerNorm": _norm(),
    "RMSNorm": _norm(),
    "MatMul": Kind(("input_size", "output_size"), {"rows": 1}),
    "Attention": Kind(
        ("embed_size", "rows"), {"heads": 1, "key_rows": "rows", "bias": 1, "sequences": 1}, frozenset({"bias"})
    ),
    "LSTM": _recurrent(),
    "GRU": _recurrent(),
    "RNN": _recurrent(),
    "Embedding": Kind(("embed_size", "entries"), {"rows": 1}),
    # `rows` new tokens of each sequence, behind `cache` tokens with stored keys and values.
    "CachedAttention": Kind(
        ("heads", "kv_heads", "head_size", "rows", "cache"), {"causal": 1}, frozenset({"cache", "causal"})
    ),
    "CacheAppend": Kind(("kv_heads", "head_size", "rows", "cache"), {}, frozenset({"cache"})),
    # The framework's own work of a generation: of a model so small that its layers cost nothing else. Blocks with
    # rotary positions call more functions than others.
    "Generation": Kind(("blocks", "steps")),
    "RotaryGeneration": Kind(("blocks", "steps")),
}
WEIGHTED = frozenset({
    "Conv2d", "Conv3d", "ConvTranspose2d", "ConvTranspose3d", "Linear", "Attention", "LSTM", "GRU", "RNN", "Embedding",
})  # fmt: skip
USUAL_BITS = 32


def _with_bits(kind: str, spec: Kind) -> Kind:
    weights = {"weight_bits": "bits"} if kind in WEIGHTED else {}
    return replace(spec, defaults={**spec.defaults, "bits": USUAL_BITS, **weights})


KINDS.update({kind: _with_bits(kind, spec) for kind, spec in KINDS.items()})

# Layers that move no data in a forward pass without gradients: they return a view of their input or the input itself.
FREE = frozenset({"Dropout", "Flatten", "Identity", "Reshape"})


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Parameters
    ----------
    kind : str
        A name in :data:`KINDS` or :data:`FREE`. A layer with any other name is unknown: it counts 0 J, with a warning.
    sizes : dict of str to int
        Sizes per sample; the batch is not among them.
    name : str
        Name of the layer in its network.

    Raises
    ------
    ValueError
        If a size is missing, unknown or impossible.

    Examples
    --------
    >>> Layer("Linear", {"input_size": 9216, "output_size": 4096}).sizes["output_size"]
    4096
    """

    kind: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind in KINDS:
            where = self.name or self.kind
            for name, value in self.sizes.items():
                if np.ndim(value):
                    raise ValueError(f"{where}: {name} must be one whole number, not {value!r}")
            if "batch_size" in self.sizes:
                raise ValueError(f"{where}: sizes must be those of one sample, without batch_size")
            filled = complete(self.kind, {"batch_size": 1, **self.sizes}, where=where)
            object.__setattr__(self, "sizes", {name: int(filled[name]) for name in self.sizes})


def complete(kind: str, sizes: Mapping[str, Any], where: str = "") -> Columns:
    """Fill in the defaults of a kind and check every size.

    Parameters
    ----------
    kind : str
        A name in :data:`KINDS`.
    sizes : mapping
        ``batch_size`` and the kind's sizes; scalars or integer arrays that broadcast together.
    where : str
        Name of the layer in an error.

    Returns
    -------
    dict of str to int64 ndarray
        ``batch_size``, every size and every default.

    Raises
    ------
    ValueError
        If the kind is unknown, a size is unknown, missing, not a whole number or out of range, or the kernel or the
        number of groups is impossible.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    spec, where = KINDS[kind], where or kind
    known = {"batch_size", *spec.needs, *spec.defaults}
    if unknown := sorted(set(sizes) - known):
        raise ValueError(f"{where}: {kind} has no size {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if missing := [name for name in ("batch_size", *spec.needs) if name not in sizes]:
        raise ValueError(f"{where}: {kind} needs {', '.join(missing)}")
    for name, value in sizes.items():
        if isinstance(value, (bool, np.bool_)) and name not in spec.zero:  # a flag, such as a bias, is 0 or 1
            raise ValueError(f"{where}: {name} must be a whole number, not {value}")
    columns = {name: whole(where, name, value) for name, value in sizes.items()}
    for name, default in spec.defaults.items():
        if name not in columns:
            columns[name] = columns[default] if isinstance(default, str) else np.asarray(default, dtype=np.int64)
    check(kind, columns, where)
    return columns


def whole(where: str, name: str, value: Any) -> np.ndarray:
    """Convert a size, or an array of sizes, to int64; ValueError if it is not a whole number up to 2**53."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: {name} must be a whole number, not {value!r}") from error
    if array.dtype.kind not in "iub":
        # Integers beyond int64 become objects here, as None and text do.
        try:
            as_float = array.astype(np.float64)
        except OverflowError as error:
            raise ValueError(f"{where}: {name} must be at most 2**53, not a number of over 300 digits") from error
        except (ValueError, TypeError) as error:
            first = next((one for one in array.ravel().tolist() if not isinstance(one, int | float)), value)
            raise ValueError(f"{where}: {name} must be a whole number, not {first!r}") from error
        bad = ~np.isfinite(as_float) | (as_float != np.floor(as_float))
        if bad.any():
            raise ValueError(f"{where}: {name} must be a whole number, not {array[bad].flat[0]}")
        array = as_float
    if (bad := np.abs(array.astype(np.float64)) > MOST_SIZE).any():
        raise ValueError(f"{where}: {name} must be at most 2**53, not {array[bad].flat[0]:g}")
    return array.astype(np.int64)


def check(kind: str, columns: Columns, where: str = "") -> None:
    """Raise a ValueError with the name and value of the first size that makes the layer impossible."""
    where = where or kind
    zero = KINDS[kind].zero
    for name, value in columns.items():
        low = 0 if name in zero else 1
        if (bad := value < low).any():
            raise ValueError(f"{where}: {name} must be at least {low}, not {int(value[bad].flat[0])}")
    axes = {axis: names for axis, names in _BY_AXIS.items() if names[1] in columns}
    transposed = kind.startswith("ConvTranspose")
    for axis, (image, kernel, _, padding, dilation) in axes.items():
        _refuse(where, columns[padding] > MOST_PADDING, padding, columns[padding], f"is more than {MOST_PADDING}")
        if transposed:
            size = transposed_outputs(columns, axis)
            _refuse(where, size < 1, padding, columns[padding], "leaves nothing of the image")
        else:
            _check_window(where, columns, image, kernel, padding, dilation)
        if kind == "MaxPool2d":
            half = columns[kernel] // 2
            _refuse(where, columns[padding] > half, padding, columns[padding], "is more than half the kernel")
    if "groups" in columns:
        for name in ("in_channels", "out_channels"):
            _refuse(where, columns[name] % columns["groups"] != 0, name, columns[name], "does not divide into groups")
    if "heads" in columns and "embed_size" in columns:
        embed = columns["embed_size"]
        _refuse(where, embed % columns["heads"] != 0, "embed_size", embed, "does not divide into heads")


def for_images(sizes: dict[str, Any], images: int) -> dict[str, Any]:
    """Sizes of a window over several images of one sample, such as two pictures or the heads of an attention.

    They are as many groups of channels, which is the same work; only the weights count once for each image.
    """
    widened = ("in_channels", "out_channels", "groups")
    return {name: size * max(1, images) if name in widened else size for name, size in sizes.items()}


def window_sizes(
    image: list[int], kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]
) -> dict[str, int]:
    """Sizes of a convolution or pooling layer with one, two or three axes; one axis becomes an image of height 1.

    A dilation is left out where the height's holds.
    """
    found = {}
    for name, sizes in (("image", image), ("kernel", kernel), ("stride", stride), ("padding", padding)):
        high = sizes[-2] if len(sizes) > 1 else int(name != "padding")
        found[f"{name}_size" if name in ("image", "kernel") else name] = high
        found[f"{name}_width"] = sizes[-1]
        if len(sizes) == 3:
            found[f"{name}_depth"] = sizes[0]
    found["dilation"] = dilation[-2] if len(dilation) > 1 else dilation[-1]
    for name, size in (("dilation_width", dilation[-1]), ("dilation_depth", dilation[0])):
        if size != found["dilation"]:
            found[name] = size
    return found


def transposed_outputs(columns: Columns, axis: str = "height") -> np.ndarray:
    """Output size of a transposed convolution: ``(image - 1) stride - 2 padding + reach + output padding``."""
    image, kernel, stride, padding, dilation = (columns[name] for name in _BY_AXIS[axis])
    reach = dilation * (kernel - 1) + 1
    extra = columns["output_padding" if axis == "height" else f"output_padding_{axis}"]
    return (image - 1) * stride - 2 * padding + reach + extra


def _check_window(where: str, columns: Columns, image: str, kernel: str, padding: str, dilation: str) -> None:
    reach = np.multiply(columns[dilation], columns[kernel] - 1.0) + 1
    room = columns[image] + 2 * columns[padding]
    reach, room = np.broadcast_arrays(reach, room)
    if (bad := reach > room).any():
        raise ValueError(
            f"{where}: a kernel of {int(reach[bad].flat[0])} ({kernel} with {dilation}) is larger than the padded "
            f"image of {int(room[bad].flat[0])} ({image} + 2 {padding})"
        )


def _refuse(where: str, bad: np.ndarray, name: str, value: np.ndarray, why: str) -> None:
    if bad.any():
        raise ValueError(f"{where}: {name} {int(np.broadcast_to(value, bad.shape)[bad].flat[0])} {why}")
