"""Work of a layer: executed multiply-accumulates, moved bytes, newly mapped memory, calls.

Each term is a non-negative quantity that energy can be proportional to. ``"basic"`` terms follow from the layer alone.
``"caches"`` terms are the basic ones, the bytes of a layer beyond 1, 4, 16 and 64 MiB, and all bytes of a layer of at
least these sizes, so that bytes may cost more where a cache ends. ``"rows"`` terms are the basic ones, with another
price for the weights of a linear layer with one row, which are read once, than for those with more rows, which are
copied first. ``"kernel"`` terms follow from the usual libraries of CPUs:

- oneDNN convolves in blocks of 16 channels: it copies the image into that layout, padded to full blocks, and the result
  likewise. A convolution of fewer than 16 input channels reads the plain image. If the padding is at least as large as
  the kernel, oneDNN writes out all windows (im2col) and multiplies matrices.
- Taps (products of one kernel value) inside the padding are skipped, so an image of 14 x 14 under a padded 3 x 3 kernel
  costs (40/42)^2 of its nominal multiply-accumulates. im2col does not skip them.
- Max pooling takes a mispredicted branch for each new maximum: H(n) - 1 times for n values in random order, where H is
  the harmonic number.
- glibc maps new memory for every allocation of 32 MiB or more (the ceiling of M_MMAP_THRESHOLD on 64-bit machines), and
  Linux zeroes each of its pages; smaller buffers are reused. In the measured data, buffers over 1 GiB cost even more.

``"library"`` terms are the kernel ones and two more:

- A convolution with a stride above 1 uses less of each line of the image that it loads into registers.
- A linear layer of few rows waits for weights that do not fit into the last cache (16 MiB here). From 64 rows on, the
  products hide the wait. Fewer than 4 rows are multiplied one by one, without the copy that more rows need.

No term but this wait falls when the batch, the channels or the image grow. Bytes follow the width of the numbers
(``bits``, ``weight_bits``); multiply-accumulates count alike at any width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastgreen.estimate.counts import count, window_outputs
from fastgreen.estimate.layers import Columns
from fastgreen.estimate.sequence_work import SEQUENCE_TERMS, sequence_terms

__all__ = ["FRESH_BYTES", "TERMS", "taps", "terms"]

FRESH_BYTES = 32 * 2**20
HUGE_BYTES = 2**30
BLOCK = 16
LAST_CACHE_BYTES = 2**24
HIDING_ROWS = 64
COPIED_ROWS = 4
CACHE_MIB = (1, 4, 16, 64)

_ELEMENTWISE = ("ReLU", "Sigmoid", "Tanh", "Softmax", "GELU", "SiLU", "Elementwise", "Copy")
_BASIC: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Conv2d", "Linear"), ("macs", "bytes_in", "bytes_out", "bytes_weights", "calls")),
    "MaxPool2d": ("macs", "bytes_in", "bytes_out", "calls"),
    **dict.fromkeys(_ELEMENTWISE, ("bytes_in", "calls")),
    **SEQUENCE_TERMS,
}
_KERNEL: dict[str, tuple[str, ...]] = {
    "Conv2d": (
        "macs_blocked", "macs_shallow", "macs_im2col", "bytes_reordered", "fresh_reordered", "bytes_written",
        "fresh_written", "bytes_windows", "bytes_in_im2col", "bytes_weights_blocked", "fresh_weights",
        "bytes_weights_again", "calls",
    ),
    "MaxPool2d": ("comparisons", "new_maxima", "outputs", "bytes_in", "fresh_bytes", "calls"),
    "Linear": ("macs", "bytes_in", "bytes_out", "bytes_weights", "calls"),
    **dict.fromkeys(_ELEMENTWISE, ("bytes_moved", "fresh_bytes", "huge_bytes", "calls")),
    **SEQUENCE_TERMS,
}  # fmt: skip
_MORE = {"Conv2d": ("macs_strided",), "Linear": ("bytes_weights_waited",)}
_BEYOND = tuple(f"bytes_beyond_{size}_mib" for size in CACHE_MIB)
_FROM = tuple(f"bytes_from_{size}_mib" for size in CACHE_MIB)


def _has_bytes(names: tuple[str, ...]) -> bool:
    return any(name.startswith("bytes") for name in names)


TERMS: dict[str, dict[str, tuple[str, ...]]] = {
    "basic": _BASIC,
    "caches": {kind: (*names, *_BEYOND, *_FROM) if _has_bytes(names) else names for kind, names in _BASIC.items()},
    "rows": {**_BASIC, "Linear": ("macs", "bytes_in", "bytes_out", "bytes_one_row", "bytes_more_rows", "calls")},
    "kernel": _KERNEL,
    "library": {kind: (*names, *_MORE.get(kind, ())) for kind, names in _KERNEL.items()},
}


def terms(kind: str, columns: Columns, which: str = "kernel") -> dict[str, np.ndarray]:
    """Work terms of layers.

    Parameters
    ----------
    kind : str
        A kind with an entry in :data:`TERMS`.
    columns : dict of str to int64 ndarray
        The result of :func:`~fastgreen.estimate.layers.complete`; the arrays broadcast together.
    which : {"basic", "caches", "rows", "kernel", "library"}
        The set of terms.

    Returns
    -------
    dict of str to float64 ndarray
        In the order of :data:`TERMS`, each of a shape that broadcasts to that of the layers.

    Raises
    ------
    ValueError
        If the kind has no terms in this set.
    """
    if kind not in TERMS[which]:
        raise ValueError(f"kind must be one of {', '.join(TERMS[which])} for {which} terms, not {kind!r}")
    wide = {name: np.asarray(value, dtype=np.float64) for name, value in columns.items()}
    make: Callable[[Columns, Columns], dict[str, np.ndarray]]
    if kind in SEQUENCE_TERMS or which in ("basic", "caches", "rows"):
        found = sequence_terms(kind, wide) if kind in SEQUENCE_TERMS else _basic(kind, columns, wide)
        found |= _beyond_caches(sum((found[name] for name in _BASIC[kind] if name.startswith("bytes")), np.zeros(())))
    else:
        make = {"Conv2d": _conv2d, "MaxPool2d": _maxpool2d, "Linear": _linear}.get(kind, _elementwise)
        found = make(columns, wide)
    found["calls"] = np.ones(())
    return {name: found[name] for name in TERMS[which][kind]}


def taps(columns: Columns, axis: str = "height") -> np.ndarray:
    """Count the products along one axis that fall on the image and not on the padding, over all outputs.

    For each place j in the kernel, it counts the outputs y with ``0 <= y stride + j dilation - padding < image``: all
    outputs without those that the edges cut off. The counts are integers in float64, since sizes may be large.
    """
    wide = axis == "width"
    image = columns["image_width" if wide else "image_size"]
    kernel = columns["kernel_width" if wide else "kernel_size"]
    stride = columns["stride_width" if wide else "stride"]
    padding = columns["padding_width" if wide else "padding"]
    dilation = columns["dilation_width" if wide else "dilation"]
    outputs = window_outputs(columns, axis)
    offset = padding - (outputs - 1) * stride
    # Number of places in the kernel with a first output before the image, or a last output behind it.
    before = np.minimum(kernel, -(-padding // dilation))
    behind = np.minimum(kernel, kernel - -(-(image + offset) // dilation))
    total: np.ndarray = np.multiply(outputs, kernel, dtype=np.float64)
    for place in range(int(np.max(before, initial=0))):
        # Outputs y of this place with y stride + place dilation - padding < 0.
        lost = np.minimum(outputs, -(-(padding - place * dilation) // stride))
        total = total - np.where(place < before, lost, 0)
    for step in range(int(np.max(behind, initial=0))):
        inside = (image - 1 + padding - (kernel - 1 - step) * dilation) // stride + 1
        total = total - np.where(step < behind, outputs - np.clip(inside, 0, outputs), 0)
    return total


def _up(size: np.ndarray, block: int = BLOCK) -> np.ndarray:
    return np.ceil(size / block) * block


def _fresh(size: np.ndarray) -> np.ndarray:
    return np.where(size >= FRESH_BYTES, size, 0.0)


def _basic(kind: str, c: Columns, f: Columns) -> dict[str, np.ndarray]:
    found = {"macs": np.asarray(count(kind, c), dtype=np.float64)}
    if kind == "Linear":
        return found | _linear(c, f)
    if "kernel_size" not in c:
        return found | {"bytes_in": f["bits"] / 8 * f["batch_size"] * f["input_size"]}
    pixels = f["batch_size"] * window_outputs(c) * window_outputs(c, "width")
    found["bytes_in"] = f["bits"] / 8 * f["batch_size"] * f["in_channels"] * f["image_size"] * f["image_width"]
    found["bytes_out"] = f["bits"] / 8 * pixels * f.get("out_channels", f["in_channels"])
    if kind == "Conv2d":
        inner = f["kernel_size"] * f["kernel_width"] * f["in_channels"] / f["groups"]
        found["bytes_weights"] = f["weight_bits"] / 8 * inner * f["out_channels"]
    return found


def _beyond_caches(touched: np.ndarray) -> dict[str, np.ndarray]:
    found = {}
    for beyond, whole, mib in zip(_BEYOND, _FROM, CACHE_MIB, strict=True):
        found[beyond] = np.maximum(0.0, touched - mib * 2**20)
        found[whole] = np.where(touched >= mib * 2**20, touched, 0.0)
    return found


def _conv2d(c: Columns, f: Columns) -> dict[str, np.ndarray]:
    grouped = c["groups"] > 1
    inputs, outputs = f["in_channels"], f["out_channels"]
    # Libraries have other kernels for grouped convolutions; they count unpadded, always outside the fitted range.
    inputs16, outputs16 = np.where(grouped, inputs, _up(inputs)), np.where(grouped, outputs, _up(outputs))
    im2col = (c["kernel_size"] <= c["padding"]) | (c["kernel_width"] <= c["padding_width"])
    shallow = (c["in_channels"] < BLOCK) & ~im2col & ~grouped
    blocked = ~im2col & ~shallow
    area, number_bytes = f["kernel_size"] * f["kernel_width"], f["bits"] / 8
    image = number_bytes * f["batch_size"] * f["image_size"] * f["image_width"]
    pixels = f["batch_size"] * window_outputs(c) * window_outputs(c, "width")
    met = f["batch_size"] * taps(c) * taps(c, "width")
    weights16 = f["weight_bits"] / 8 * area * inputs16 * outputs16 / f["groups"]
    plain_out, blocked_out = number_bytes * pixels * outputs, number_bytes * pixels * outputs16
    macs_blocked = blocked * met * outputs16 * inputs16 / f["groups"]
    return {
        "macs_blocked": macs_blocked,
        "macs_strided": macs_blocked * ((c["stride"] > 1) | (c["stride_width"] > 1)),
        "macs_shallow": shallow * met * outputs16 * inputs,
        "macs_im2col": im2col * pixels * outputs * area * inputs / f["groups"],
        "bytes_reordered": blocked * image * (inputs16 + inputs),
        "fresh_reordered": blocked * _fresh(image * inputs16),
        "bytes_written": plain_out + ~im2col * 2 * blocked_out,
        "fresh_written": _fresh(plain_out) + ~im2col * _fresh(blocked_out),
        "bytes_windows": im2col * number_bytes * pixels * area * inputs,
        "bytes_in_im2col": im2col * image * inputs,
        "bytes_weights_blocked": ~im2col * weights16,
        "fresh_weights": ~im2col * _fresh(weights16),
        # Weights beyond a second-level cache of 1 MiB are read again for each image.
        "bytes_weights_again": blocked * f["batch_size"] * np.maximum(0.0, weights16 - 2**20),
    }


def _maxpool2d(c: Columns, f: Columns) -> dict[str, np.ndarray]:
    planes = f["batch_size"] * f["in_channels"]
    outputs = planes * window_outputs(c) * window_outputs(c, "width")
    area = f["kernel_size"] * f["kernel_width"]
    values = f["bits"] / 8 * outputs
    return {
        "comparisons": planes * taps(c) * taps(c, "width"),
        "new_maxima": outputs * (_harmonic(area) - 1.0),
        "outputs": outputs,
        "bytes_in": f["bits"] / 8 * planes * f["image_size"] * f["image_width"],
        # The pool writes its values and their positions, which have 8 bytes.
        "fresh_bytes": _fresh(values) + _fresh(8 * outputs),
    }


def _harmonic(count: np.ndarray) -> np.ndarray:
    """Harmonic number 1 + 1/2 + ... + 1/count: a sum up to 1000, an asymptotic series beyond."""
    few = np.cumsum(1.0 / np.arange(1, 1001))
    many = np.log(count) + np.euler_gamma + 1 / (2 * count) - 1 / (12 * np.square(count))
    return np.where(count <= len(few), few[np.minimum(count, len(few)).astype(np.int64) - 1], many)


def _linear(c: Columns, f: Columns) -> dict[str, np.ndarray]:
    rows = f["batch_size"] * f["rows"]
    weights = f["weight_bits"] / 8 * f["input_size"] * f["output_size"]
    exposed = np.where(rows >= COPIED_ROWS, np.maximum(0.0, 1 - rows / HIDING_ROWS), 0.0)
    return {
        "macs": np.asarray(count("Linear", c), dtype=np.float64),
        "bytes_in": f["bits"] / 8 * rows * f["input_size"],
        "bytes_out": f["bits"] / 8 * rows * f["output_size"],
        "bytes_weights": weights,
        "bytes_one_row": np.where(rows == 1, weights, 0.0),
        "bytes_more_rows": np.where(rows > 1, weights, 0.0),
        "bytes_weights_waited": exposed * np.maximum(0.0, weights - LAST_CACHE_BYTES),
    }


def _elementwise(c: Columns, f: Columns) -> dict[str, np.ndarray]:
    size = f["bits"] / 8 * f["batch_size"] * f["input_size"]
    apart = c["inplace"] == 0
    return {
        # Read, fetch the line to be written, write; in place, reading is the fetch, and no memory is allocated.
        "bytes_moved": size * np.where(apart, 3, 2),
        "fresh_bytes": apart * _fresh(size),
        "huge_bytes": apart * np.maximum(0.0, size - HUGE_BYTES),
    }
