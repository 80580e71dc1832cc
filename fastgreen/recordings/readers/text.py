"""Text of unknown origin: opened by its byte order mark, split into rows whatever it holds, shown without harm."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from fastgreen.guards.printable import printable
from fastgreen.guards.untrusted import open_regular

__all__ = ["csv_rows", "open_text", "shown"]

# Logs that were redirected to a file on Windows are in two-byte characters.
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"))


def open_text(path: Path) -> TextIO:
    """A file as text, line ends as they are; what is no character becomes a replacement mark.

    Raises
    ------
    TraceError
        If it is not a regular file, but a pipe or a device, say.
    OSError
        If it is not there, or may not be read.
    """
    stream = os.fdopen(open_regular(path), "rb")
    head = stream.peek(3)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    return io.TextIOWrapper(stream, newline="", encoding=encoding, errors="replace")


def csv_rows(stream: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a CSV file, empty lines apart; a line that is not CSV comes as one empty field."""
    reader = csv.reader(stream, skipinitialspace=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = [""]
        if row:
            yield row


def shown(words: Iterable[str], limit: int = 300) -> str:
    """Words of a file for an error message: nothing in them that a terminal obeys, and not too many."""
    text = ", ".join(words)
    text = text if len(text) <= limit else text[:limit] + "..."
    return printable(text)
