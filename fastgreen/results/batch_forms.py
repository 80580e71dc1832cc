"""The two forms that all messages of a recording have, found in its first messages.

The C reader of recordings (``_resolver.Batches``) knows no format: it compares messages with an example and reads the
numbers that may differ. The example comes from the recording itself, after pyarrow has read it without complaint.
Layout: Arrow's Message.fbs and Schema.fbs, and the FlatBuffers binary format.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["find_forms"]

_HEAD = struct.Struct("<II")  # a mark, the length of the metadata
_MARK = 0xFFFFFFFF
_FIRST = 16  # messages in which the examples must be
_LONGEST = 1 << 16  # bytes of metadata
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3  # Message.header_type
_V5 = 4

Slots = Callable[[int], int]


def _read(code: str, data: bytes, at: int) -> int:
    return struct.unpack_from("<" + code, data, at)[0]


def _table(data: bytes, at: int) -> Slots:
    """The places of a table's members; 0 for a member that has its default."""
    vtable = at - _read("i", data, at)
    count = (_read("H", data, vtable) - 4) // 2

    def slot(number: int) -> int:
        place = _read("H", data, vtable + 4 + 2 * number) if number < count else 0
        return at + place if place else 0

    return slot


def _follow(data: bytes, at: int) -> int:
    if at == 0:
        raise ValueError("a member is missing")
    return at + _read("I", data, at)


def _vector(data: bytes, at: int, count: int) -> int:
    """The place of the first element of a vector of so many."""
    place = _follow(data, at)
    if _read("I", data, place) != count:
        raise ValueError("a vector has another length")
    return place + 4


def _form(data: bytes, body_at: int, records: Slots, columns: int, buffers: int, numbers: bool) -> dict[str, Any]:
    """The form of a message; `numbers`: the counts of rows may differ too."""
    nodes, places, free = _vector(data, records(1), columns), _vector(data, records(2), buffers), bytearray(len(data))
    rows_at = records(0)
    counts = [(_read("q", data, nodes + 16 * i), _read("q", data, nodes + 16 * i + 8)) for i in range(columns)]
    if not body_at or not rows_at or records(3) or counts != [(_read("q", data, rows_at), 0)] * columns:
        raise ValueError("the batch is empty, compressed, or lacks values")
    eights = [body_at, *range(places, places + 16 * buffers, 8)]
    if numbers:
        eights += [rows_at, *range(nodes, nodes + 16 * columns, 16)]
    for at in eights:
        if at + 8 > len(data):
            raise ValueError("a number is past the end")
        free[at : at + 8] = b"\1" * 8
    known = {"bytes": data, "free": bytes(free), "body_at": body_at, "buffers_at": places}
    return {**known, "rows_at": rows_at, "nodes_at": nodes} if numbers else known


def find_forms(data: Any, columns: int) -> tuple[int, int, dict[str, Any], dict[str, Any]] | None:
    """Where the first dictionary with a name begins, how many batches lie before, and the forms of names and batches.

    Parameters
    ----------
    data : bytes-like
        The file.
    columns : int
        Its number of columns; the first one is a dictionary of text with 32-bit keys.

    Returns
    -------
    tuple or None
        None where the first messages are not as this package writes them.
    """
    if sys.byteorder != "little":
        return None
    try:
        return _found(data, columns)
    except (struct.error, ValueError, IndexError):
        return None


def _found(data: Any, columns: int) -> tuple[int, int, dict[str, Any], dict[str, Any]] | None:
    at, empty, first, name = 0, 0, 0, None
    for number in range(_FIRST):
        mark, size = _HEAD.unpack_from(data, at)
        if mark != _MARK or not 0 < size <= _LONGEST:
            return None
        metadata = bytes(data[at + 8 : at + 8 + size])
        message = _table(metadata, _read("I", metadata, 0))
        kind, body_at = _read("B", metadata, message(1)), message(3)
        header = _table(metadata, _follow(metadata, message(2)))
        if _read("h", metadata, message(0)) != _V5 or (kind == _SCHEMA) != (number == 0):
            return None
        if kind == _SCHEMA and header(0) and _read("h", metadata, header(0)) != 0:  # big-endian
            return None
        if kind == _DICTIONARY:
            records = _table(metadata, _follow(metadata, header(1)))
            if (header(2) and _read("B", metadata, header(2))) or (header(0) and _read("q", metadata, header(0))):
                return None
            if records(0):
                if _read("q", metadata, records(0)) != 1:
                    return None
                first, name = at, _form(metadata, body_at, records, 1, 3, False)
        elif kind == _BATCH:
            if header(0) and name is not None:
                return first, empty, name, _form(metadata, body_at, header, columns, 2 * columns, True)
            empty += 1
        at += 8 + size + (_read("q", metadata, body_at) if body_at else 0)
    return None
