"""Checks of the arguments of public functions, with messages of one form."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["number", "path_text"]


def _shown(value: object) -> str:
    """Text of a value for a message; Python refuses to convert integers of thousands of digits."""
    if isinstance(value, int) and abs(value) >= 10**100:
        return "a number of over 100 digits"
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."


def path_text(name: str, value: Any) -> str:
    """Convert a path to text. TypeError if it is neither text nor a path."""
    if isinstance(value, (str, os.PathLike)):
        found = os.fspath(value)
        if isinstance(found, str):
            return found
    raise TypeError(f"{name} must be a path, not {_shown(value)}")


def number(name: str, value: Any) -> float:
    """Convert a real number (of Python, NumPy or PyTorch) to a float.

    Parameters
    ----------
    name : str
        Name of the argument in errors.
    value : number

    Raises
    ------
    TypeError
        If it is not a real number.
    ValueError
        If it is too large for a float.

    Examples
    --------
    >>> number("timeout", 2)
    2.0
    """
    try:
        found = float(value) if not isinstance(value, (str, bytes)) else None
    except (TypeError, ValueError):
        found = None
    except OverflowError:
        raise ValueError(f"{name} must be a number that a float can hold, not {_shown(value)}") from None
    if found is None:
        raise TypeError(f"{name} must be a number, not {_shown(value)}")
    return found
