"""Arguments of the public functions: what they must be, in one dialect of sentences."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["number", "path_text"]


def _shown(value: object) -> str:
    """A value for a sentence; Python refuses to write integers of thousands of digits."""
    if isinstance(value, int) and abs(value) >= 10**100:
        return "a number of over 100 digits"
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."


def path_text(name: str, value: Any) -> str:
    """A path as text. TypeError for anything else than a text or a path."""
    if isinstance(value, (str, os.PathLike)):
        found = os.fspath(value)
        if isinstance(found, str):
            return found
    raise TypeError(f"{name} must be a path, not {_shown(value)}")


def number(name: str, value: Any) -> float:
    """A real number as a float, also one of NumPy or PyTorch. TypeError for anything else, ValueError where too large.

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
