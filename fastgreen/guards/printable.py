"""Text of any origin, made safe for terminals and files.

A name from a file, a driver or a stranger can hold escape sequences (they rename windows, hide lines or type commands),
bidirectional overrides (they reorder the line) and halves of surrogate pairs (they cannot be written to a file).
"""

from __future__ import annotations

import re
from unicodedata import east_asian_width

__all__ = ["encodable", "picture_text", "printable"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST = 4000
# Harmless spaces of several widths that `str.isprintable` does not count as printable.
_SPACES = frozenset("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")


def encodable(text: str) -> str:
    """Escape halves of surrogate pairs, which UTF-8 cannot encode.

    Examples
    --------
    >>> encodable("caf\\udce9")
    'caf\\\\udce9'
    """
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable(text: str, *, lines: bool = False, most: int = _LONGEST) -> str:
    """Escape all characters that a terminal could execute, reorder or hide.

    Parameters
    ----------
    text : str
    lines : bool
        Whether to keep line ends and tabs.
    most : int
        Most characters to keep; a longer text ends in "...".

    Returns
    -------
    str

    Examples
    --------
    >>> printable("\\x1b]0;root\\x07 \\u202egnp.exe")
    '\\\\x1b]0;root\\\\x07 \\\\u202egnp.exe'
    """
    if len(text) > most:
        text = text[:most] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _SPACES or (lines and c in "\n\t") else _escaped(c) for c in text)


def picture_text(text: str, most: int = 80) -> str:
    """Escape a name for Matplotlib, so that dollar signs do not make it a formula.

    `most` letters are kept; a wide one, such as of Chinese or an emoji, counts as two.

    Examples
    --------
    >>> print(picture_text("cost in $, $x_{$"))
    cost in \\$, \\$x_{\\$
    """
    kept = width = 0
    for letter in text[:most]:
        width += 2 if east_asian_width(letter) in "WF" else 1
        kept += width <= most
    return printable(text, most=kept).replace("$", r"\$")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
