"""Rows of a table in text: repeated and changed headers, two rows in one line, rows of another width."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from fastgreen.recordings.recording import RecordingBuilder
from fastgreen.units import counted

__all__ = ["Tables", "trimmed"]

_ROWS = 1 << 16
_DATE = re.compile(r"(?:19|20)\d\d[-/]\d\d[-/]\d\d[T ]\d")


class Tables:
    """The tables of one file, one after another; each row that is left out is counted, and named in a note.

    Parameters
    ----------
    builder : RecordingBuilder
        Its lines and dropped rows are counted, and it gets the notes.
    is_header : callable
        Whether a row begins a new table.
    ragged : bool
        Whether rows shorter than their header are kept as they are.
    """

    def __init__(
        self, builder: RecordingBuilder, is_header: Callable[[list[str]], bool], *, ragged: bool = False
    ) -> None:
        self.builder = builder
        self.is_header = is_header
        self.ragged = ragged
        self.changed = self.glued = self.wide = self.short = 0

    def read(self, header: list[str], rows: Iterator[list[str]]) -> Iterator[tuple[list[str], list[list[str]]]]:
        """Yield pieces of a table: its header, and rows of the same width."""
        header = _cells(header)
        chunk: list[list[str]] = []
        for row in rows:
            self.builder.lines += 1
            cells = _cells(row)
            if self.is_header(cells):
                if cells == header:
                    continue
                yield header, chunk
                header, chunk = cells, []
                self.changed += 1
                continue
            chunk += self._fitting(cells, len(header))
            if len(chunk) >= _ROWS:
                yield header, chunk
                chunk = []
        yield header, chunk
        self._notes()

    def _fitting(self, row: list[str], width: int) -> list[list[str]]:
        while len(row) > width and not row[-1]:
            row = row[:-1]
        if len(row) == width or (self.ragged and len(row) < width):
            return [row]
        if len(row) > width and (parts := _unglued(row, width)):
            self.glued += len(parts) - 1
            return parts
        self.builder.dropped += 1
        self.wide += len(row) > width
        self.short += len(row) < width
        return []

    def _notes(self) -> None:
        if self.changed:
            self.builder.note(f"the columns change {counted(self.changed, 'time')}; a new table begins at each header")
        if self.glued:
            self.builder.note(f"{counted(self.glued, 'row')} without a line of its own: read as a row")
        if self.wide:
            self.builder.note(f"{counted(self.wide, 'row')} wider than the header: left out")


def trimmed(rows: Iterator[list[str]], first: int, last: int) -> Iterator[list[str]]:
    """Leave out the first and the last rows of a table."""
    waiting: list[list[str]] = []
    for number, row in enumerate(rows):
        if number < first:
            continue
        waiting.append(row)
        if len(waiting) > last:
            yield waiting.pop(0)


def _cells(row: list[str]) -> list[str]:
    return [cell.strip() for cell in row]


def _unglued(row: list[str], width: int) -> list[list[str]]:
    """Rows that a lost line end joined: the last cell of one holds the date that begins the next. Empty if it fails."""
    parts: list[list[str]] = []
    while len(row) > width > 1:
        dates = list(_DATE.finditer(row[width - 1]))
        if not dates or not dates[-1].start():
            return []
        at = dates[-1].start()
        parts.append([*row[: width - 1], row[width - 1][:at].strip()])
        row = [row[width - 1][at:], *row[width:]]
    return [*parts, row] if len(row) == width else []
