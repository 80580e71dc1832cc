# SPDX-License-Identifier: Apache-2.0
"""Runs whose files are sound Arrow but say what no run says: a field at a time, to values that code trusts not to be.

Bytes set at random hardly ever get past the checks of the format; these do, and reach what is computed from them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

FILES = ("channels.arrow", "samples.arrow", "windows.arrow")
NUMBERS = [0, 1, -1, 2, 1000, 2**31, 2**32 - 1, 2**53 + 1, 2**60, 2**62, 2**62 + 1, 2**63 - 1, -(2**62), -(2**63)]
NUMBERS += [2**64, 10**30, 10**400, 0.0, -0.0, 0.5, -1.5, 1e-9, 5e-324, 1e18, 1e300, -1e300]
NUMBERS += [math.nan, math.inf, -math.inf]
OTHERS: list[Any] = [None, True, False, "", "x", "[/b]", "\ud800", "\x00", "energy", "power", "J", "W", "uJ", "uW"]
OTHERS += ["J/2^32", "rapl:package-0", "null", "nan", "1", [], {}, [1], {"x": 1}, [[[]]]]
VALUES = NUMBERS + OTHERS
DEEP = "[" * 100_000  # JSON that no parser nests


class Choice(Protocol):
    def number(self, below: int) -> int: ...

    def left(self) -> bool: ...


class Run:
    """The tables of a saved run, changed in memory and written somewhere else."""

    def __init__(self, folder: Path) -> None:
        self.schemas, self.batches = {}, {}
        for name in FILES:
            with pa.ipc.open_stream((folder / name).read_bytes()) as reader:
                self.schemas[name], self.batches[name] = reader.schema, list(reader)

    def spoilt(self, take: Choice) -> Run:
        """A copy with as many changes as the input asks for."""
        copy = object.__new__(Run)
        copy.schemas = dict(self.schemas)
        copy.batches = {name: list(batches) for name, batches in self.batches.items()}
        while take.left():
            (copy._channel, copy._channel, copy._column, copy._batch, copy._metadata)[take.number(5)](take)
        return copy

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            with pa.ipc.new_stream(folder / name, self.schemas[name]) as writer:
                for batch in self.batches[name]:
                    writer.write_batch(batch)

    def _channel(self, take: Choice) -> None:
        """One cell of channels.arrow, or one member of the JSON in it."""
        table = pa.Table.from_batches(self.batches[FILES[0]], self.schemas[FILES[0]])
        if table.num_rows == 0:
            return
        row, column = take.number(table.num_rows), ("traits", "report", None, None)[take.number(4)]
        column = column or table.schema.names[take.number(table.num_columns)]
        cells = table[column].to_pylist()
        cells[row] = (
            spoilt_member(cells[row], take) if column in ("traits", "report") else VALUES[take.number(len(VALUES))]
        )
        field = table.schema.field(column)
        array = as_array(cells, field.type)
        if array is None:
            return
        table = table.set_column(table.schema.get_field_index(column), field, array)
        self.batches[FILES[0]] = table.combine_chunks().to_batches()

    def _column(self, take: Choice) -> None:
        """One value, or the rest of a column from there on, of a batch of samples or windows."""
        name = FILES[1 + take.number(2)]
        batches = [i for i, batch in enumerate(self.batches[name]) if batch.num_rows]
        if not batches:
            return
        number = batches[take.number(len(batches))]
        batch = self.batches[name][number]
        index, row = take.number(batch.num_columns), take.number(batch.num_rows)
        column, value, how = batch.column(index), VALUES[take.number(len(VALUES))], take.number(4)
        cells = column.to_pylist() if not pa.types.is_timestamp(column.type) else column.cast(pa.int64()).to_pylist()
        if how == 0:
            cells[row:] = [value] * (len(cells) - row)
        elif how == 1:
            cells[row:] = cells[row:][::-1]
        else:
            cells[row] = value
        array = as_array(cells, column.type)
        if array is not None:
            columns = [array if i == index else c for i, c in enumerate(batch.columns)]
            self.batches[name][number] = pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def _batch(self, take: Choice) -> None:
        """A batch left out, doubled, moved, or cut."""
        name = FILES[take.number(3)]
        batches = self.batches[name]
        if not batches:
            return
        one, other, how = take.number(len(batches)), take.number(len(batches)), take.number(4)
        if how == 0:
            del batches[one]
        elif how == 1:
            batches.insert(other, batches[one])
        elif how == 2:
            batches[one], batches[other] = batches[other], batches[one]
        else:
            batches[one] = batches[one][take.number(batches[one].num_rows + 1) :]

    def _metadata(self, take: Choice) -> None:
        """One member of the metadata, of one file or of all alike."""
        key = sorted(self.schemas[FILES[0]].metadata)[take.number(2)]
        text = spoilt_member(self.schemas[FILES[0]].metadata[key].decode("utf-8", "surrogatepass"), take)
        only = take.number(4) if key == b"fastgreen" else 0
        for i, name in enumerate(FILES):
            if text is not None and (only == 3 or only == i):
                metadata = {**self.schemas[name].metadata, key: text.encode("utf-8", "surrogatepass")}
                self.schemas[name] = self.schemas[name].with_metadata(metadata)
                self.batches[name] = [b.replace_schema_metadata(metadata) for b in self.batches[name]]


def spoilt_member(text: str | None, take: Choice) -> str | None:
    """The JSON text with one member of its object changed, left out, or all of it replaced."""
    how = take.number(12)
    if text is None or how == 0:
        return (None, "", "null", "[]", "{}", "1", DEEP)[take.number(7)]
    try:
        known = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(known, dict) or not known:
        return text
    key = sorted(known)[take.number(len(known))]
    if how == 1:
        del known[key]
    elif how < 5 and isinstance(known[key], (int, float)):
        known[key] += (1, -1, 1000, -1000, 10**9, -(10**9), known[key], -2 * known[key])[take.number(8)]
    else:
        known[key] = VALUES[take.number(len(VALUES))]
    return json.dumps(known)


def as_array(cells: list[Any], kind: pa.DataType) -> pa.Array | None:
    """The cells as a column of that kind; None where it cannot hold them."""
    try:
        if pa.types.is_dictionary(kind):
            return pa.array(cells, pa.string()).dictionary_encode().cast(kind)
        if pa.types.is_timestamp(kind):
            return pa.array(cells, pa.int64()).cast(kind)
        return pa.array(cells, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
