"""Notes on a measurement: each is a sentence of the result, and a warning once."""

from __future__ import annotations

import warnings

from fastgreen.errors import FastgreenWarning

__all__ = ["Notes"]


class Notes:
    """Notes for the reader of the result, a sentence each; each is also a warning, once.

    Attributes
    ----------
    texts : list of str
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._unsaid: list[str] = []

    def add(self, text: str, warn: bool = True) -> None:
        """Keep a note; without `warn` it is only a sentence of the result and no warning."""
        self.texts.append(text)
        if warn:
            self._unsaid.append(text)

    def say(self, stacklevel: int = 2) -> None:
        """Warn; apart from `add`, because a warning can be made an exception."""
        while self._unsaid:
            try:
                text = self._unsaid.pop(0)
            except IndexError:  # another thread says it
                return
            warnings.warn(text, FastgreenWarning, stacklevel=stacklevel + 1)
