"""Text of unknown origin: decoded by its byte order mark, split into rows, made safe for a terminal."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from fastgreen.errors import TraceError
from fastgreen.guards.printable import printable
from fastgreen.guards.untrusted import open_regular

__all__ = ["begins_with_time", "csv_rows", "open_text", "shown"]

# Logs redirected to a file on Windows are in UTF-16.
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"))

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip, as a spreadsheet is"),
)

_TIME = re.compile(r"\s*(?:19|20)\d\d[-/]\d\d[-/]\d\d[T ]\d\d:\d\d")


def begins_with_time(row: list[str]) -> bool:
    """Whether the first cell is a date with a time."""
    return bool(row) and _TIME.match(row[0]) is not None


def open_text(path: Path) -> TextIO:
    """Open a file as text, with its line ends; invalid bytes become replacement characters.

    Raises
    ------
    TraceError
        If it is not a regular file, for example a pipe or a device, or if it is compressed.
    OSError
        If it does not exist or cannot be read.
    """
    stream = os.fdopen(open_regular(path), "rb")
    head = stream.peek(6)
    packed = next((name for mark, name in _PACKED if head.startswith(mark)), None)
    if packed is not None:
        stream.close()
        raise TraceError(f"{path}: it is compressed ({packed}); unpack it, or save it as CSV")
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    return io.TextIOWrapper(stream, newline="", encoding=encoding, errors="replace")


def csv_rows(stream: Iterable[str], delimiter: str = ",") -> Iterator[list[str]]:
    """Yield the rows of a CSV file without empty lines; a line that is not CSV becomes one empty field.

    A single quote mark would make one field of all lines up to the next one. Such lines are read one by one.
    """
    reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = [""]
        if any("\n" in cell for cell in row):
            lines = delimiter.join(row).splitlines()
            yield from filter(
                None, csv.reader(lines, delimiter=delimiter, skipinitialspace=True, quoting=csv.QUOTE_NONE)
            )
        elif row:
            yield row


def shown(words: Iterable[str], limit: int = 300) -> str:
    """Join words of a file for an error message, shortened and without control characters."""
    text = ", ".join(words)
    text = text if len(text) <= limit else text[:limit] + "..."
    return printable(text)
