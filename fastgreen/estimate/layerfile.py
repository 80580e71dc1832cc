"""``layers.arrow``: the rows of a collection, an Arrow stream that grows configuration by configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from fastgreen.atomic_file import new_file
from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import open_regular

__all__ = ["SCHEMA", "appending", "read_conditions", "read_rows"]

VERSION = b"1"
CONDITIONS = b"fastgreen.layers.conditions"

_CHANNEL = pa.struct(
    [
        pa.field("id", pa.string()), pa.field("energy_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_low_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_high_j", pa.float64(), metadata={"unit": "J"}),
    ]
)  # fmt: skip

SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string()),
        pa.field("sizes", pa.map_(pa.string(), pa.int64())),
        pa.field("repeat", pa.int64()),
        pa.field("passes", pa.int64()),
        pa.field("duration_s", pa.float64(), metadata={"unit": "s"}),
        pa.field("energy_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_low_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_high_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_per_pass_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_per_pass_low_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_per_pass_high_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("channels", pa.list_(_CHANNEL)),
        pa.field("estimated", pa.bool_()),
        pa.field("failure", pa.string()),
    ],
    metadata={"fastgreen.layers.version": VERSION, "energy_j": "of all passes of the window together"},
)


def read_rows(path: str | Path) -> pa.Table:
    """Rows of ``layers.arrow``; of a collection that was killed, the rows up to the last complete configuration."""
    return pa.Table.from_batches(_read(path)[1], schema=SCHEMA)


def read_conditions(path: str | Path) -> dict[str, Any]:
    """Conditions of a collection: machine, device, threads; empty if the file does not give them."""
    try:
        found = json.loads(_read(path)[0].metadata.get(CONDITIONS, b"{}"))
    except ValueError as error:
        raise TraceError(f"{path}: its conditions are not JSON ({error})") from error
    return found if isinstance(found, dict) else {}


def _read(path: str | Path) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    os.close(open_regular(Path(path)))
    try:
        with pa.OSFile(str(path)) as file:
            reader = pa.ipc.open_stream(file)
            schema = reader.schema
            if schema.metadata is None or b"fastgreen.layers.version" not in schema.metadata:
                raise TraceError(f"{path}: not a collection of layers")
            if (version := schema.metadata[b"fastgreen.layers.version"]) != VERSION:
                found = version.decode(errors="replace")
                raise TraceError(f"{path}: version {found} of a collection; this fastgreen reads {VERSION.decode()}")
            if not schema.equals(SCHEMA):
                raise TraceError(f"{path}: a collection with other columns than this fastgreen writes")
            return schema, _complete_batches(reader)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise TraceError(f"{path}: not an Arrow stream, or it is damaged ({error})") from error


def _complete_batches(reader: Any) -> list[pa.RecordBatch]:
    """All batches up to the end, without one that was being written when the collection was killed."""
    batches = []
    while True:
        try:
            batch = reader.read_next_batch()
            batch.validate(full=True)  # an offset outside its buffer would crash the process
            batches.append(batch)
        except (StopIteration, pa.ArrowException, OSError):
            return batches


@contextmanager
def appending(path: Path, done: pa.Table | None, conditions: dict[str, Any]) -> Iterator[Any]:
    """Open the file for appending; yields a function that appends rows and flushes them.

    The rows in `done` are written to a new file first. It replaces the old one when it is complete, and grows then.

    Raises
    ------
    TraceError
        If another process is appending to a file in this folder.
    """
    import fcntl  # Windows, where nothing is measured, has none

    folder = os.open(path.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TraceError(f"{path.parent}: another collection is writing there") from error
        schema = SCHEMA.with_metadata({**SCHEMA.metadata, CONDITIONS: json.dumps(conditions).encode()})
        with ExitStack() as opened:
            with new_file(path, overwrite=True) as place:
                file = opened.enter_context(open(place, "wb"))
                writer = opened.enter_context(pa.ipc.new_stream(file, schema))
                # Without a batch there is no header, and a collection killed before its first row could not be read.
                writer.write_batch(pa.RecordBatch.from_pylist([], schema=schema))
                for batch in done.to_batches() if done is not None else []:
                    writer.write_batch(batch.replace_schema_metadata(schema.metadata))
                file.flush()

            def append(rows: list[dict[str, Any]]) -> None:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
                file.flush()

            yield append
    finally:
        os.close(folder)
