"""Text of unknown origin: decoded by its byte order mark, split into rows, made safe for a terminal."""

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

# Logs redirected to a file on Windows are in UTF-16.
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"))


def open_text(path: Path) -> TextIO:
    """Open a file as text, with its line ends; invalid bytes become replacement characters.

    Raises
    ------
    TraceError
        If it is not a regular file, for example a pipe or a device.
    OSError
        If it does not exist or cannot be read.
    """
    stream = os.fdopen(open_regular(path), "rb")
    head = stream.peek(3)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    return io.TextIOWrapper(stream, newline="", encoding=encoding, errors="replace")


def csv_rows(stream: Iterable[str]) -> Iterator[list[str]]:
    """Yield the rows of a CSV file without empty lines; a line that is not CSV becomes one empty field."""
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
    """Join words of a file for an error message, shortened and without control characters."""
    text = ", ".join(words)
    text = text if len(text) <= limit else text[:limit] + "..."
    return printable(text)
