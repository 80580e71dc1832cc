"""Schemas and files of a run: a folder of channels.arrow, samples.arrow and windows.arrow.

Samples and windows are appended as Arrow IPC streams while the run goes on, each batch of samples holding one channel;
a file that ends in the middle of a batch is read up to there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

try:
    import pyarrow as pa
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("the files of a run need pyarrow: pip install pyarrow", name=missing.name) from None

from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import open_regular
from fastgreen.results.open_folder import KeptFile, OpenFolder, name_of
from fastgreen.results.run_checks import EARLIEST_NS, LARGEST, LATEST_NS, check_integer, parse_json
from fastgreen.results.run_metadata import FORMAT
from fastgreen.results.window_amounts import AMOUNTS, amount_column
from fastgreen.units import unit_metadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.results.bounded import Amounts

__all__ = ["RunFolder", "read_stream", "sample_batch", "samples_of"]

FILES = ("channels.arrow", "samples.arrow", "windows.arrow")
SPANS_FILE = "spans.arrow"  # only where there are ledgers

_KEY = b"fastgreen"
_END = b"\xff\xff\xff\xff\0\0\0\0"  # Arrow columnar format, "IPC Streaming Format": a continuation mark, length 0


def field(name: str, kind: pa.DataType, unit: str | None = None) -> pa.Field:
    return pa.field(name, kind, metadata=unit_metadata(unit) if unit else None)


NAME = pa.dictionary(pa.int32(), pa.string())
SAMPLES = pa.schema(
    [
        field("channel", NAME),
        field("time", pa.timestamp("ns", "UTC")),
        field("monotonic_ns", pa.int64(), "ns"),
        field("raw", pa.int64(), "the channel's"),
        field("half_read_ns", pa.uint32(), "ns"),
        field("wraps", pa.uint16()),
        field("flags", pa.uint16()),
    ]
)
WINDOWS = pa.schema(
    [
        field("name", NAME),
        field("handle", pa.int32()),
        field("start_ns", pa.int64(), "ns"),
        field("end_ns", pa.int64(), "ns"),
        field("amounts", AMOUNTS),  # not in earlier files
    ]
)


# A row is a piece of a span, see `fastgreen.results.ledger_spans`.
SPANS = pa.schema(
    [
        field("ledger", NAME),
        field("number", pa.int64()),
        field("id", pa.string()),
        field("start_ns", pa.int64(), "ns"),
        field("end_ns", pa.int64(), "ns"),  # null: not yet closed
        field("last", pa.bool_()),
        field("phase", NAME),
        field("weight", pa.float64()),
        field("amounts", pa.map_(pa.string(), pa.float64())),
    ]
)


def with_metadata(schema: pa.Schema, metadata: dict[str, Any]) -> pa.Schema:
    return schema.with_metadata({**(schema.metadata or {}), _KEY: json.dumps(metadata).encode()})


def metadata_of(schema: pa.Schema, path: Path) -> dict[str, Any]:
    """The run metadata of a schema. TraceError where there is none, or it is of a newer format."""
    try:
        metadata = parse_json((schema.metadata or {})[_KEY])
        version = metadata["format"]
        check_integer("format", version, least=1)
        if version <= FORMAT:
            check_integer("monotonic_ns", metadata["monotonic_ns"], EARLIEST_NS, LATEST_NS)
            check_integer("realtime_ns", metadata["realtime_ns"], -LARGEST)
            check_integer("their difference", metadata["realtime_ns"] - metadata["monotonic_ns"], EARLIEST_NS)
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"{path} was not written by fastgreen") from error
    if version > FORMAT:
        raise TraceError(
            f"{path} is of format {version}, written by fastgreen {metadata.get('version')}; "
            f"this version reads up to format {FORMAT}"
        )
    return metadata


def named(name: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([name]))


def sample_batch(channel: str, samples: np.ndarray, metadata: dict[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    """Samples of one channel (dtype `_resolver.SAMPLE`) as a record batch."""
    monotonic = np.ascontiguousarray(samples["at_ns"])
    realtime = monotonic + (metadata["realtime_ns"] - metadata["monotonic_ns"])
    columns = [
        named(channel, len(samples)),
        pa.array(realtime).cast(pa.timestamp("ns", "UTC")),
        pa.array(monotonic),
        *(pa.array(np.ascontiguousarray(samples[key])) for key in ("raw", "half_ns", "wraps", "flags")),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def check_nulls(batch: pa.RecordBatch, path: Path) -> None:
    """TraceError for a batch of samples or windows that lacks a value."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name == "amounts":
            continue
        values = column.dictionary if isinstance(column, pa.DictionaryArray) else column
        if column.null_count or values.null_count:
            raise TraceError(f"{path} is damaged: a value of {name} is missing")


def samples_of(batch: pa.RecordBatch) -> np.ndarray:
    """The inverse of `sample_batch`."""
    out = np.empty(batch.num_rows, _resolver.SAMPLE)
    for key, column in (
        ("at_ns", "monotonic_ns"),
        ("raw", "raw"),
        ("half_ns", "half_read_ns"),
        ("wraps", "wraps"),
        ("flags", "flags"),
    ):
        out[key] = batch.column(column).to_numpy(zero_copy_only=False)
    return out


def window_batch(
    name: str, handle: int, begin: np.ndarray, end: np.ndarray, schema: pa.Schema, amounts: Amounts, first: int
) -> pa.RecordBatch:
    handles = pa.array(np.full(len(begin), handle, np.int32))
    done = amount_column(amounts, first, len(begin))
    return pa.RecordBatch.from_arrays(
        [named(name, len(begin)), handles, pa.array(begin), pa.array(end), done], schema=schema
    )


def is_whole(path: Path) -> bool:
    """Whether a stream ends with its end mark; that of a killed process, or one that was cut, does not."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_END)))
        return file.read() == _END


def read_stream(path: Path, mapped: bool = True) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Schema and batches of an IPC stream; the batches end where the file does, even in mid-batch.

    `mapped`: the batches are views of the memory-mapped file, which stays in memory as long as one of them is used.

    TraceError when it is missing, no Arrow stream, or (while the batches are read) damaged before its end.
    """
    try:
        handle = open_regular(path)  # a pipe would be waited for
        try:
            name = os.fsencode(name_of(handle, path))  # the same file, whatever has its name by now
            reader = pa.ipc.open_stream(pa.memory_map(name) if mapped else pa.OSFile(name))
        finally:
            os.close(handle)
    except FileNotFoundError as error:
        raise TraceError(f"{path} is missing") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise TraceError(f"{path} cannot be read: {os.strerror(error.errno)}") from error
        raise TraceError(f"{path} is not an Arrow stream: {error}") from error

    def batches() -> Iterator[pa.RecordBatch]:
        while True:
            try:
                batch = reader.read_next_batch()
                batch.validate(full=True)
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:
                if is_whole(path):
                    raise TraceError(f"{path} is damaged: {error}") from error
                return
            yield batch

    return reader.schema, batches()


def read_columns(path: Path, wanted: pa.Schema, mapped: bool = True) -> Iterator[pa.RecordBatch]:
    """The batches of an IPC stream, of the wanted columns only; a later version may have added others.

    TraceError as of `read_stream`, and where a wanted column is missing, is there twice, or of another type.
    """
    schema, batches = read_stream(path, mapped)
    for column in wanted:
        at = schema.get_field_index(column.name)  # -1 if there are two
        if at < 0 or schema.field(at).type != column.type:
            found = f"is {schema.field(at).type}, not {column.type}" if at >= 0 else "is not there once"
            raise TraceError(f"{path} holds other columns than those of a run: {column.name} {found}")
    return (batch.select(wanted.names) for batch in batches)


def check_names(schema: pa.Schema) -> None:
    """ValueError where two columns have one name: a row would show the last one, silently."""
    for name in schema.names:
        if schema.get_field_index(name) < 0:
            raise ValueError(f"there are two columns {name}")


class _Stream:
    """An IPC stream that grows; every batch has been handed to the kernel when `write` returns.

    A failed write is undone, so that the file ends with the last whole batch.
    """

    def __init__(self, folder: OpenFolder, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.handle = folder.create(name)
        self.file = pa.OSFile(name_of(self.handle, folder.path / name), "wb")
        self.writer = pa.ipc.new_stream(self.file, schema)
        self.good = 0
        self.failed = False
        # The schema goes with the first batch: an empty one, lest a process killed soon leave a file of no kind.
        self.write(pa.RecordBatch.from_pylist([], schema=schema))

    def __del__(self) -> None:
        if getattr(self, "handle", -1) >= 0:
            os.close(self.handle)

    def write(self, batch: pa.RecordBatch) -> None:
        try:
            self.writer.write_batch(batch)
        except (OSError, pa.ArrowInvalid):
            self.failed = True
            os.ftruncate(self.handle, self.good)
            raise
        self.good = self.file.tell()

    def close(self) -> None:
        try:
            if not self.failed:  # else the file stays without its end mark, as that of a killed process
                self.writer.close()
        finally:
            self.file.close()

    def take_handle(self) -> int:
        """A descriptor of the file, which the caller closes."""
        handle, self.handle = self.handle, -1
        return handle


class RunFolder:
    """The folder of a run that is being recorded. FileExistsError when it holds a run already."""

    def __init__(self, path: str | os.PathLike, metadata: dict[str, Any], channels: pa.Table) -> None:
        self.path = Path(path).absolute()  # the program may change its folder while it is measured
        self.metadata = metadata
        self.failed = False  # set by the writer's owner: a stream that failed once is not written again
        self.folder = OpenFolder(self.path)
        taken = [name for name in (*FILES, SPANS_FILE) if self.folder.has(name)]
        if taken:
            raise FileExistsError(f"{self.path} holds a run already ({taken[0]}); choose another folder or remove it")
        self.sample_schema = with_metadata(SAMPLES, metadata)
        self.window_schema = with_metadata(WINDOWS, metadata)
        self.span_schema = with_metadata(SPANS, metadata)
        self.write_channels(channels)
        self.samples = _Stream(self.folder, FILES[1], self.sample_schema)
        self.windows = _Stream(self.folder, FILES[2], self.window_schema)
        self.samples_file: Path | KeptFile = self.path / FILES[1]
        self.spans: _Stream | None = None
        self.spans_file: Path | KeptFile = self.path / SPANS_FILE

    def write_channels(self, channels: pa.Table) -> None:
        """Write the table of the channels, whole or not at all."""
        table = channels.replace_schema_metadata(with_metadata(channels.schema, self.metadata).metadata)
        partial = FILES[0] + ".partial"
        self.folder.remove(partial)  # of a process that was killed
        handle = self.folder.create(partial)
        try:
            with (
                pa.OSFile(name_of(handle, self.path / partial), "wb") as sink,
                pa.ipc.new_stream(sink, table.schema) as writer,
            ):
                writer.write_table(table)
            self.folder.rename(partial, FILES[0])
        finally:
            os.close(handle)
            self.folder.remove(partial)

    def add_samples(self, channel: str, samples: np.ndarray | bytearray) -> None:
        """Samples of one channel, as an array or as the engine gave them."""
        batch = sample_batch(channel, _resolver.samples(samples), self.metadata, self.sample_schema)
        self.samples.write(batch)

    def add_windows(
        self,
        name: str,
        handle: int,
        begin: np.ndarray,
        end: np.ndarray,
        amounts: Amounts | None = None,
        first: int = 0,
    ) -> None:
        """Stretches of a handle from number `first` on, and their amounts."""
        self.windows.write(window_batch(name, handle, begin, end, self.window_schema, amounts or {}, first))

    def add_spans(self, spans: pa.RecordBatch) -> None:
        """Pieces of spans; the file is made with the first."""
        if self.spans is None:
            self.spans = _Stream(self.folder, SPANS_FILE, self.span_schema)
        self.spans.write(spans.replace_schema_metadata(self.span_schema.metadata))

    def _streams(self) -> list[_Stream]:
        return [self.samples, self.windows, *([self.spans] if self.spans is not None else [])]

    def close(self) -> None:
        """End samples, windows and spans."""
        with contextlib.ExitStack() as ends:
            for stream in self._streams():
                ends.callback(stream.close)

    def leave(self) -> bool:
        """After the last write: whether the paths of the run still lead to what was written.

        If not, `samples_file` and `spans_file` are the open files, which go on to be read.
        """
        found = all(self.folder.leads_to(stream.name, stream.handle) for stream in self._streams())
        if not found:
            self.samples_file = KeptFile(self.samples.take_handle(), self.path / FILES[1])
            if self.spans is not None:
                self.spans_file = KeptFile(self.spans.take_handle(), self.path / SPANS_FILE)
        self.folder.close()
        return found
