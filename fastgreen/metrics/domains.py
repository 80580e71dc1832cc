"""Checks that arguments are numbers in their range: one pass in C, and a message with the first wrong value."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgreen import _kernels

__all__ = [
    "ACCURACY",
    "ALPHA",
    "AMOUNT",
    "DELTA",
    "FRACTION_DELTA",
    "Domain",
    "as_numbers",
    "check",
    "check_shapes",
    "has_mask",
    "masked",
]

_MOST = float(np.finfo(np.float64).max)
_LEAST = math.ulp(0.0)


@dataclass(frozen=True)
class Domain:
    """Closed range of an argument, and the text of its error. NaN is always accepted."""

    low: float
    high: float
    rule: str
    percent: bool = False  # a value of 1 to 100 was probably meant in percent

    def holds(self, value: float) -> bool:
        return not (value < self.low or value > self.high)

    def complaint(self, name: str, value: float, where: str = "") -> ValueError:
        hint = ""
        if self.percent and 1 < value <= 100:
            hint = f"; if it is in percent, divide it by 100 ({name} is a fraction)"
        try:
            shown = f"{value:g}"
        except OverflowError:  # an integer that no float can hold
            shown = "a number of over 300 digits"
        return ValueError(f"{name} {self.rule}, not {shown}{where}{hint}")


ACCURACY = Domain(0.0, 1.0, "must lie in 0..1", percent=True)
ALPHA = Domain(0.0, 1.0, "must lie in 0..1")
AMOUNT = Domain(0.0, _MOST, "must be finite and not negative")
DELTA = Domain(_LEAST, _MOST, "must be finite and above 0")
FRACTION_DELTA = Domain(_LEAST, 1.0, "must lie in 0..1 and not be 0")


def as_numbers(name: str, value: Any) -> np.ndarray:
    """Convert a value to an array of real numbers; a masked element becomes NaN.

    Raises
    ------
    ValueError
        If it holds text, objects, complex numbers, dates, truth values, or nested lists of unequal lengths.
    """
    try:
        array = _unmasked(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from None
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise ValueError(f"{name} must be numbers (float64, float32 or integers), not {array.dtype}")
    return array


def has_mask(value: Any) -> bool:
    """True for an array of `numpy.ma`, and for a list or tuple with one among its items."""
    if isinstance(value, list | tuple):
        return any(has_mask(one) for one in value if not isinstance(one, float | int))
    ma = sys.modules.get("numpy.ma")  # without its import no value can be one of its arrays
    return ma is not None and isinstance(value, ma.MaskedArray)


def masked(name: str, value: Any, data: np.ndarray) -> Any:
    """Give the numbers `data` the mask of `value`."""
    mask = np.ma.getmaskarray(np.ma.array(value))
    if mask.shape != data.shape:
        raise ValueError(f"the mask of {name} must have its shape {data.shape}, not {mask.shape}")
    return np.ma.MaskedArray(data, mask)


def _hides(value: Any, array: np.ndarray) -> bool:
    """True if the array lacks a mask of the value, as NumPy drops the masks of the rows in a list."""
    return has_mask(value) if array.ndim > 1 or not isinstance(value, list | tuple) else False


def _unmasked(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if not _hides(value, array):
        return array
    hidden = np.ma.array(value)
    if not np.ma.getmaskarray(hidden).any() or hidden.dtype.kind not in "fiu":
        return np.asarray(hidden)
    return np.asarray(np.where(hidden.mask, np.nan, hidden.data), hidden.dtype if hidden.dtype.kind == "f" else float)


def check(name: str, value: Any, domain: Domain) -> Any:
    """Return the value, ready for a ufunc, if all of it is in the domain; else raise a ValueError.

    A masked array stays one; NaN replaces each number under its mask, so that nothing is computed from it.

    Arrays with ufuncs of their own (xarray, pandas) are returned unchanged. The values of a Dask array are not checked,
    since that would compute it.
    """
    if type(value) is float or type(value) is int:
        if domain.holds(value):
            return value
        raise domain.complaint(name, value)
    if type(value) is not np.ndarray and hasattr(value, "__dask_graph__") and value.__dask_graph__() is not None:
        return value
    array = as_numbers(name, value)
    distinct = array
    if not array.flags.c_contiguous:
        # A broadcast axis holds one value many times.
        distinct = array[tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)]
    if distinct.dtype.char not in "df":
        distinct = distinct.astype(np.float64)
    if _kernels.first_outside(distinct.ravel(order="K"), domain.low, domain.high) >= 0:
        outside = (array < domain.low) | (array > domain.high)
        index = np.unravel_index(int(np.argmax(outside)), array.shape)
        where = f" at index {', '.join(map(str, index))}" if array.ndim else ""
        raise domain.complaint(name, float(array[index]), where)
    if _hides(value, array):
        return masked(name, value, array)
    return value if hasattr(type(value), "__array_ufunc__") else array


def check_shapes(**arrays: Any) -> tuple[int, ...]:
    """Shape that the arguments broadcast to; ValueError with all shapes if they do not broadcast."""
    shapes = {name: np.shape(value) for name, value in arrays.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if shape)
        raise ValueError(f"shapes must broadcast together, not {listed}") from None
