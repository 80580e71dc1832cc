# SPDX-License-Identifier: Apache-2.0
"""Sound documents, spoilt a field at a time: JSON, tables of text, Arrow tables, bytes; the input makes each choice."""

from __future__ import annotations

import copy
import csv
import io
import json
from typing import Any

import pyarrow as pa

from tests.fuzz.fields import DEEP, VALUES, Choice, as_array, spoilt_member

_MOST = 12  # changes of one document
_DIGITS = "@@digits@@"
_NESTED = (json.loads("[" * 300 + "1" + "]" * 300), json.loads('{"a":' * 300 + "1" + "}" * 300))
CELLS = [str(value) for value in VALUES if isinstance(value, (int, float)) and not isinstance(value, bool)]
CELLS += ["", " ", "x", '"', "'", "=1+1", "-", "nan", "NaN", "-inf", "1e400", "9" * 5000, "0x10", "1_000", "١", "\x00"]
CELLS += ["[N/A]", "50 W", "1e300 W", "5 kW", "True", "False", "null", "[/b]", "\x1b[2J", "𝟙", "é" * 3000, ",", "\n"]
CELLS += ["2023/05/01 10:00:00.000", "9999-12-31 23:59:59", "0001-01-01 00:00:00", "2262-04-12 00:00:00"]
CELLS += ["2023-05-01T10:00:00+23:59", "2023-10-29 02:30:00", "1970-01-01", "24:00", "1704110400.5", "1e18", "-1"]
_TYPES = [pa.string(), pa.large_string(), pa.binary(), pa.int64(), pa.float64(), pa.float32(), pa.bool_(), pa.null()]
_TYPES += [pa.decimal128(38, 10), pa.timestamp("ns"), pa.list_(pa.float64()), pa.uint64(), pa.date32(), pa.int8()]


def _positions(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value inside a JSON document."""
    found, waiting = [], [value]
    while waiting and len(found) < 500:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def spoilt_json(text: str, take: Choice) -> str:
    """The text of a JSON document with values changed, left out, copied, or nested without end."""
    value = [json.loads(text)]
    for _ in range(1 + take.number(_MOST)):
        container, key = (places := _positions(value))[take.number(len(places))]
        how = take.number(8)
        if how < 4:
            new: Any = VALUES[take.number(len(VALUES))]
        elif how == 4:
            new = (_DIGITS, DEEP, {"": None}, [[]], {"x" * 1000: 1}, "\x1b[2J\u202e", *_NESTED)[take.number(8)]
        else:
            other, inner = places[take.number(len(places))]
            new = json.loads(json.dumps(other[inner])) if how < 7 else None
        if how == 7 and container is not value:
            del container[key]
        else:
            container[key] = copy.deepcopy(new)  # the values are shared by all inputs
    return json.dumps(value[0]).replace(f'"{_DIGITS}"', "9" * 5000).replace(json.dumps(DEEP), DEEP)


def spoilt_rows(text: str, take: Choice) -> str:
    """The text of a table with cells, rows and columns changed."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    for _ in range(1 + take.number(_MOST)):
        if not rows:
            break
        at, how = take.number(len(rows)), take.number(8)
        cell = take.number(len(rows[at]) or 1)
        if how < 4 and rows[at]:
            rows[at][cell] = CELLS[take.number(len(CELLS))]
        elif how == 4:
            rows.insert(take.number(len(rows)), list(rows[at]))
        elif how == 5:
            del rows[at]
        elif how == 6:
            for row in rows:
                del row[cell : cell + 1]
        else:
            rows[at] = rows[at][:cell]
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_MINIMAL, lineterminator="\n").writerows(rows)
    return out.getvalue()


def spoilt_bytes(content: bytes, take: Any) -> bytes:
    """The bytes with some set, cut out, put in or repeated."""
    data = bytearray(content)
    for _ in range(1 + take.number(_MOST)):
        at, how = take.number(len(data) + 1), take.number(5)
        if how == 0:
            data = data[:at]
        elif how == 1:
            data[at:at] = take.bytes(16)
        elif how == 2:
            data[at : at + 1 + take.number(64)] = b""
        elif how == 3:
            data[at:at] = data[take.number(len(data) + 1) :][:4096]
        else:
            piece = take.bytes(8)
            data[at : at + len(piece)] = piece
    return bytes(data)


def spoilt_table(table: pa.Table, take: Choice) -> pa.Table:
    """An Arrow table with cells, types, columns, rows or metadata changed."""
    for _ in range(1 + take.number(_MOST)):
        how = take.number(8)
        if how < 2:
            table = _spoilt_metadata(table, take)
            continue
        if not table.num_columns:
            return table
        at = take.number(table.num_columns)
        field = table.schema.field(at)
        if how < 5 and table.num_rows:
            cells = table.column(at).to_pylist()
            cells[take.number(len(cells))] = VALUES[take.number(len(VALUES))]
            kind = field.type if how < 4 else _TYPES[take.number(len(_TYPES))]
            array = as_array(cells, kind) if how < 4 else as_array([None] * len(cells), kind)
            if array is not None:
                table = table.set_column(at, pa.field(field.name, array.type, metadata=field.metadata), array)
        elif how == 5:
            table = table.remove_column(at)
        elif how == 6:
            first = take.number(table.num_rows + 1)
            table = table.slice(first, take.number(table.num_rows + 1))
        else:
            names = list(table.column_names)
            names[at] = ("", "x", "\x1b[2J", names[take.number(len(names))])[take.number(4)]
            table = table.rename_columns(names)
    return table


def _spoilt_metadata(table: pa.Table, take: Choice) -> pa.Table:
    metadata = dict(table.schema.metadata or {})
    if not metadata:
        return table
    key = sorted(metadata)[take.number(len(metadata))]
    how = take.number(4)
    if how == 0:
        del metadata[key]
    elif how == 1:
        metadata[key] = take.number(2**32).to_bytes(4, "little")
    else:
        text = metadata[key].decode("utf-8", "surrogateescape")
        try:
            json.loads(text)
            text = spoilt_json(text, take) if how == 2 else spoilt_member(text, take) or ""
        except (ValueError, RecursionError):
            text = CELLS[take.number(len(CELLS))]
        metadata[key] = text.encode("utf-8", "surrogatepass")
    return table.replace_schema_metadata(metadata)
