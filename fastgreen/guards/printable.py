"""Text of any origin, made fit for a terminal and for files.

A name that comes from a file, a driver or a stranger can hold what a terminal obeys (escape sequences, which rename
windows, hide lines or type commands), what reorders the line round it (bidirectional overrides), and halves of
characters, which no file can hold.
"""

from __future__ import annotations

import re

__all__ = ["encodable", "picture_text", "printable"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST = 4000
# Spaces of several widths, which `str.isprintable` does not count as printable though they do no harm.
_SPACES = frozenset("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")


def encodable(text: str) -> str:
    """The text with halves of surrogate pairs, which UTF-8 cannot write, as escapes.

    Examples
    --------
    >>> encodable("caf\\udce9")
    'caf\\\\udce9'
    """
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable(text: str, *, lines: bool = False, most: int = _LONGEST) -> str:
    """The text with everything that a terminal may obey, reorder or hide as escapes.

    Parameters
    ----------
    text : str
    lines : bool
        Keep line ends and tabs.
    most : int
        Characters to keep; a longer text ends in "...".

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
    """The text as Matplotlib draws it, letter by letter: a name with dollar signs is no formula.

    Examples
    --------
    >>> print(picture_text("cost in $, $x_{$"))
    cost in \\$, \\$x_{\\$
    """
    return printable(text, most=most).replace("$", r"\$")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
