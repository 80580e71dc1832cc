"""Ranges of numbers, as every command takes them: ``START:STOP:STEP``, a list ``A,B,C``, or one number.

STOP belongs to the range where a step reaches it: 0:1:0.1 has eleven numbers, 1:20:5 has 1, 6, 11 and 16.
"""

from __future__ import annotations

import math
from typing import Any

import click
import numpy as np
import psutil

__all__ = ["Range"]

_BYTES = 48  # of memory for each number while a sweep is made: it is copied, and put in order
_MOST_NUMBERS = 2**40
_REACHED = 1e-9  # steps: how near to STOP counts as STOP, since 0.1 has no exact double


class Range(click.ParamType):
    """Numbers as ``START:STOP:STEP``, ``A,B,C`` or ``A``.

    Parameters
    ----------
    whole : bool
        Whole numbers only; a step that is left out is then 1.
    least, most : int
        Limits of each number, where they are whole.
    most_numbers : int
        Limit of their count.
    """

    name = "range"

    def __init__(
        self, whole: bool = False, least: int = -(2**63), most: int = 2**63 - 1, most_numbers: int = _MOST_NUMBERS
    ) -> None:
        self.whole, self.least, self.most, self.most_numbers = whole, least, most, most_numbers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> np.ndarray:
        if isinstance(value, np.ndarray):
            return value
        try:
            return self._whole(value) if self.whole else self._decimal(value)
        except (MemoryError, OverflowError) as error:
            self.fail(f"{value!r} has more numbers than memory can hold ({error})", param, ctx)
        except ValueError as error:
            self.fail(f"{value!r} is not a range: {error}", param, ctx)

    def _whole(self, text: str) -> np.ndarray:
        if ":" in text:
            parts = _parts(text.split(":"), int)
            if len(parts) not in (2, 3):
                raise ValueError("it must be START:STOP:STEP, A,B,C or one number")
            first, last, step = (*parts, 1)[:3]
            _check_direction(first, last, step)
            count = (last - first) // step + 1
            ends = (first, first + (count - 1) * step)
        else:
            listed = _parts(text.split(","), int)
            count, ends = len(listed), (min(listed), max(listed))
        if count > self.most_numbers:
            raise ValueError(f"it has more than {self.most_numbers} numbers")
        if min(ends) < self.least or max(ends) > self.most:
            raise ValueError(f"its numbers must be from {self.least} to {self.most}")
        _check_memory(count)
        return np.array(range(first, last + (1 if step > 0 else -1), step) if ":" in text else listed, np.int64)

    def _decimal(self, text: str) -> np.ndarray:
        if ":" not in text:
            return np.array(_parts(text.split(","), float))
        parts = _parts(text.split(":"), float)
        if len(parts) != 3:
            raise ValueError("it must be START:STOP:STEP, A,B,C or one number")
        start, stop, step = parts
        if not all(map(math.isfinite, parts)):
            raise ValueError("START, STOP and STEP must be finite")
        _check_direction(start, stop, step)
        steps = (stop - start) / step
        if steps > self.most_numbers:
            raise ValueError(f"it has {steps:.3g} numbers, more than {self.most_numbers}")
        near = round(steps)
        reached = abs(steps - near) < _REACHED * max(1.0, abs(steps))
        count = (near if reached else math.floor(steps)) + 1
        _check_memory(count)
        numbers = start + np.arange(count) * step
        if reached:
            numbers[-1] = stop
        return numbers


def _parts(texts: list[str], number: Any) -> list[Any]:
    try:
        return [number(text) for text in texts]
    except ValueError:
        kind = "whole numbers" if number is int else "numbers"
        raise ValueError(f"it must be START:STOP:STEP, A,B,C or one number, all of them {kind}") from None


def _check_direction(start: float, stop: float, step: float) -> None:
    if step == 0:
        raise ValueError("STEP must be above 0, or below 0 to count down, not 0")
    if (stop - start) * step < 0:
        raise ValueError(f"STOP must be {'at least' if step > 0 else 'at most'} START")


def _check_memory(count: int) -> None:
    needed, available = count * _BYTES, psutil.virtual_memory().available
    if needed > available:
        raise MemoryError(f"{count:,} take {needed / 1e9:,.0f} GB, and {available / 1e9:,.1f} GB are free")
