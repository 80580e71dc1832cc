"""Widths of the numbers of a layer, found from the types of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastgreen.estimate.layers import KINDS, USUAL_BITS, WEIGHTED, Layer

__all__ = ["PRICED", "bits_of_name", "with_widths"]

# What a reader says after it has named the widths.
PRICED = "models with prices of bytes price their width, all else is priced as float32"

_ONNX_NAMES = {"FLOAT": 32, "DOUBLE": 64, "BFLOAT16": 16, "COMPLEX64": 64, "COMPLEX128": 128, "BOOL": 8}


def bits_of_name(name: str) -> int:
    """Bits of a number, from the name that ONNX or PyTorch gives its type; 0 for an unknown name.

    Examples
    --------
    >>> [bits_of_name(name) for name in ("FLOAT16", "INT4", "FLOAT8E4M3FN", "torch.bfloat16", "STRING")]
    [16, 4, 8, 16, 0]
    """
    plain = name.removeprefix("torch.").upper()
    if plain in _ONNX_NAMES:
        return _ONNX_NAMES[plain]
    digits = ""
    for letter in plain.lstrip("QUINTFLOABD"):
        if not letter.isdecimal():
            break
        digits += letter
    return int(digits) if digits and int(digits) in (2, 4, 8, 16, 32, 64, 128) else 0


def with_widths(layers: Iterable[Layer], bits: int, weight_bits: int = 0) -> list[Layer]:
    """Layers with the width of their numbers; a width of 0 is not known, and the usual 32 bits are left out.

    Parameters
    ----------
    layers : iterable of Layer
        The layers of one operator.
    bits : int
        Width of the numbers that flow through it.
    weight_bits : int
        Width of its weights, if there are any.
    """
    flow = bits or USUAL_BITS
    found = []
    for layer in layers:
        sizes: Mapping[str, int] = layer.sizes
        if layer.kind in KINDS:
            if flow != USUAL_BITS:
                sizes = {**sizes, "bits": flow}
            if weight_bits and layer.kind in WEIGHTED and weight_bits != flow:
                sizes = {**sizes, "weight_bits": weight_bits}
        found.append(layer if sizes is layer.sizes else Layer(layer.kind, sizes, layer.name))
    return found
