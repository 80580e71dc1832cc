"""Reader of AIPowerMeter's ``power_metrics.json``, all versions: a line of JSON per averaging interval.

For speed most lines never become Python objects. A few lines are parsed one by one and give the shape of the recording;
with that shape Arrow's JSON reader turns blocks of lines into columns on all cores. A block with other lines (a new
process, a list instead of a scalar, a cut line) is halved until those lines are alone; they are parsed one by one and
extend the shape. A timestamp is the end of its averaging interval, so the time before the first timestamp of a segment
has an unknown length: it is left out, and a segment is integrated from its first timestamp to its last.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import open_regular
from fastgreen.recordings.readers.aipowermeter_files import read_beside
from fastgreen.recordings.readers.aipowermeter_keys import CHANNELS, KEYS, KNOWN_KEYS, PER_GPU, STREAMING, Key
from fastgreen.recordings.readers.aipowermeter_lines import (
    fields_of,
    is_line,
    merged,
    number_of,
    objects_only,
    plain,
    shape_of,
    text_of,
    type_of,
)
from fastgreen.recordings.readers.timestamps import ABSENT_NS, check_zone, segments_of, to_utc_ns
from fastgreen.recordings.recording import Recording, RecordingBuilder
from fastgreen.units import counted

__all__ = ["SEGMENT_END", "read_aipowermeter"]

SEGMENT_END = "END OF RECORDING SEGMENT"
CHUNK_BYTES = 8 << 20
LONGEST_LINE = 64 << 20
_MOST_USELESS = 64 << 20  # bytes in a row without a line that says anything: a sparse file has terabytes of them
_FEW_LINES = 16
_MANY_FIELDS = 400  # a shape with more processes is dropped: each process would be a column of every block
_MOST_UNKNOWN = 50  # keys that get a note each
_READ = pa.json.ReadOptions(block_size=1 << 20)
_ONE_GPU = re.compile(r"gpu:\d+")


def read_aipowermeter(
    path: str | Path, *, timezone: str = "UTC", limit_points: int = 1 << 22, max_gap_s: float | None = None
) -> Recording:
    """Read a recording of AIPowerMeter, of any version or a mixture of versions.

    Parameters
    ----------
    path : path
        The folder with ``power_metrics.json``, or the file itself.
    timezone : str
        Time zone of the recording machine; the timestamps are local times without offset.
    limit_points : int
        Points kept in memory before they move to a temporary file.
    max_gap_s : float, optional
        Longest step in s that is not a hole; by default ten times the median step, and at least 1 s.

    Returns
    -------
    Recording
        Channels ``package`` (roots: package, dram, gpu), ``core``, ``uncore``, ``psys``, ``gpu:<n>``, ``process/...``
        in watts, and gauges (memory in bytes, use as a fraction). -1 and any negative power mean "not read" and are
        absent.

    Raises
    ------
    TraceError
        If the file or folder does not exist or cannot be opened. Damaged contents raise nothing; they become notes.
    """
    check_zone(timezone)
    path = Path(path)
    file = path / "power_metrics.json" if path.is_dir() else path
    builder = RecordingBuilder("aipowermeter", str(path), limit_points=limit_points, max_gap_s=max_gap_s)
    for key in KEYS:
        builder.channel(key.name, kind=key.kind, unit=key.unit, root=key.root, parent=key.parent)
    try:
        with os.fdopen(open_regular(file, path if path.is_dir() else None), "rb") as stream:
            _Reader(builder, timezone).read(stream)
    except FileNotFoundError:
        if not path.is_dir():
            raise TraceError(f"{path}: no such file or folder") from None
        builder.note("no power_metrics.json in this folder")
    except OSError as error:
        raise TraceError(f"{file}: {error.strerror}") from None
    builder.stand_in("gpu", _ONE_GPU)
    recording = builder.finish(CHANNELS)
    if path.is_dir():
        read_beside(path, recording)
    return recording


class _Reader:
    def __init__(self, builder: RecordingBuilder, timezone: str) -> None:
        self.builder = builder
        self.timezone = timezone
        self.last_ns: int | None = None
        self.segment = 0
        self.ended = False
        self.sentinels = 0
        self.back = 0
        self.unknown: set[str] = set()
        self.shape: dict[str, Any] = {}
        self.schema: pa.Schema | None = None

    def read(self, stream: io.BufferedReader) -> None:
        tail, useless, good = b"", 0, 0
        while block := stream.read(CHUNK_BYTES):
            useless = useless + len(block) if self.builder.lines - self.builder.dropped == good else 0
            good = self.builder.lines - self.builder.dropped
            if useless > _MOST_USELESS:
                self.builder.note(f"{useless} bytes say nothing, and the rest of the file is not read")
                tail = b""
                break
            whole, newline, rest = block.rpartition(b"\n")
            if newline:
                self._segments(tail + whole)
                tail = rest
            else:
                tail += block
            if len(tail) > LONGEST_LINE:
                self.builder.note(f"a line longer than {LONGEST_LINE} bytes was left out")
                self._drop(1)
                tail = b""
        before = self.builder.dropped
        self._segments(tail)
        if self.builder.dropped > before:
            self.builder.note("the last line is cut and was left out")
        self._add_notes()

    def _add_notes(self) -> None:
        builder = self.builder
        if self.back:
            builder.note(f"time goes back {counted(self.back, 'time')}; a new segment begins at each")
        if self.sentinels:
            builder.note(f"{counted(self.sentinels, 'negative value')} counted as absent; the format means 'not read'")
        if builder.dropped:
            builder.note(f"{builder.dropped} of {builder.lines} lines could not be used")

    def _drop(self, count: int) -> None:
        self.builder.dropped += count
        self.builder.lines += count

    def _segments(self, data: bytes) -> None:
        """Split a block at the markers of segments, and read the lines between them."""
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        marker = SEGMENT_END.encode()
        start = 0
        while (found := data.find(marker, start)) >= 0:
            line_start = data.rfind(b"\n", start, found) + 1 or start
            line_end = data.find(b"\n", found)
            line_end = len(data) if line_end < 0 else line_end
            self._block(data[start:line_start])
            if data[line_start:line_end].strip(b' \t\r"') == marker:
                self.ended = True
            else:
                self._block(data[line_start:line_end])
            start = line_end + 1
        self._block(data[start:])

    def _block(self, data: bytes) -> None:
        if not data.strip(b" \r\n\t\0"):
            return
        try:
            if not self.shape or not objects_only(data):
                raise pa.ArrowInvalid("no shape yet, or a line that is no object")
            parse = pa.json.ParseOptions(explicit_schema=self.schema, unexpected_field_behavior="error")
            table = pa.json.read_json(pa.BufferReader(data), read_options=_READ, parse_options=parse)
            table.validate(full=True)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowIndexError):
            lines = data.splitlines()
            begin = 0
            while not self.shape and begin < len(lines):  # without a shape yet, take only a few lines at a time
                self._few(lines[begin : begin + _FEW_LINES])
                begin += _FEW_LINES
            if len(lines) - begin > _FEW_LINES:
                cut = (begin + len(lines)) // 2
                self._block(b"\n".join(lines[begin:cut]))
                self._block(b"\n".join(lines[cut:]))
            else:
                self._few(lines[begin:])
            return
        if table.num_rows:
            self._rows(table.column("date").combine_chunks(), pa.concat_arrays(table.column("metrics").chunks))

    def _few(self, lines: list[bytes]) -> None:
        """Parse lines one by one: every value becomes a number or a dict of numbers, so that one schema fits all."""
        documents = []
        for line in lines:
            if not line.strip(b" \t\0"):
                continue
            try:
                document = json.loads(line)
            except (ValueError, RecursionError):
                document = None
            if is_line(document):
                documents.append(document)
            else:
                self._drop(1)
        if not documents:
            return
        self._learn([d for d in documents if isinstance(d.get("date"), str)])
        dates = pa.array([text_of(d.get("date")) for d in documents], pa.string())
        self._rows(dates, pa.array([plain(d["metrics"]) for d in documents]))

    def _learn(self, documents: list[dict[str, Any]]) -> None:
        for document in documents:
            self.shape = merged(self.shape, shape_of(document))
        if fields_of(self.shape) > _MANY_FIELDS and documents:
            self.shape = shape_of(documents[-1])
        self.schema = pa.schema(type_of(self.shape)) if self.shape else None

    def _rows(self, dates: pa.Array, metrics: pa.StructArray) -> None:
        self.builder.lines += len(metrics)
        stamps = to_utc_ns(dates, self.timezone)
        good = (stamps != ABSENT_NS) & metrics.is_valid().to_numpy(zero_copy_only=False)
        if not good.all():
            self.builder.dropped += int((~good).sum())
            stamps, metrics = stamps[good], metrics.filter(pa.array(good))
        if not stamps.size:
            return
        marks = np.zeros(stamps.size, bool)
        marks[0], self.ended = self.ended, False
        numbers, self.segment, back = segments_of(stamps, marks, self.last_ns, self.segment)
        self.back += back
        self.last_ns = int(stamps[-1])
        fields = _fields(metrics)
        # The first version had no level between the metrics and their names.
        flat = {name: column for name, column in fields.items() if name not in ("cpu", "gpu")}
        for part in ("cpu", "gpu"):
            inner = fields.get(part)
            columns = {**flat, **(_fields(inner) if inner is not None and pa.types.is_struct(inner.type) else {})}
            self._unknown(columns)
            self._part(part, columns, stamps, numbers)

    def _part(self, part: str, columns: dict[str, pa.Array], stamps: np.ndarray, numbers: np.ndarray) -> None:
        found: dict[str, np.ndarray] = {}
        for key in KEYS:
            if key.part == part:
                _keep(found, key.name, _first(key, columns))
        for key in PER_GPU if part == "gpu" else ():
            gpus = {name: _fields(columns[name]) for name in key.keys if _is_struct(columns.get(name))}
            for gpu in sorted({g for inner in gpus.values() for g in inner}):
                values = _first(key, {name: inner[gpu] for name, inner in gpus.items() if gpu in inner})
                if values is not None:
                    _keep(found, self._gpu_channel(key, gpu), values)
        if part == "gpu" and STREAMING in columns:
            _keep(found, "gpu_use", _streaming_processors(columns[STREAMING]))
        for name, values in found.items():
            self._add(name, values, stamps, numbers)

    def _gpu_channel(self, key: Key, gpu: str) -> str:
        name, parent = key.name.format(gpu), key.parent.format(gpu)
        if gpu == "all":
            name, parent = key.name.removesuffix(":{}"), "gpu"
        self.builder.channel(name, kind=key.kind, unit=key.unit, parent=parent)
        return name

    def _add(self, name: str, values: np.ndarray, stamps: np.ndarray, numbers: np.ndarray) -> None:
        negative = values < 0
        if negative.any():
            self.sentinels += int(negative.sum())
            values = np.where(negative, math.nan, values)
        self.builder.add(name, stamps, numbers, values)

    def _unknown(self, columns: dict[str, pa.Array]) -> None:
        for name in columns:
            if name in KNOWN_KEYS or name in self.unknown:
                continue
            self.unknown.add(name)
            if len(self.unknown) <= _MOST_UNKNOWN:
                self.builder.note(f"the key {name!r} is not known and was left out")
            elif len(self.unknown) == _MOST_UNKNOWN + 1:
                self.builder.note("more keys are not known and were left out")


def _keep(found: dict[str, np.ndarray], name: str, values: np.ndarray | None) -> None:
    """Keep the values of a channel. A channel may be under two keys; each row counts the first one with a value."""
    if values is not None:
        found[name] = np.where(np.isfinite(found[name]), found[name], values) if name in found else values


def _fields(array: pa.StructArray) -> dict[str, pa.Array]:
    # flatten(), unlike field(), gives null where the parent is null.
    return dict(zip((f.name for f in array.type), array.flatten(), strict=True))


def _is_struct(array: pa.Array | None) -> bool:
    return array is not None and pa.types.is_struct(array.type)


def _first(key: Key, columns: dict[str, pa.Array]) -> np.ndarray | None:
    """Values of a quantity, from the first of its keys with a value in each row; None if no row has a value."""
    values = None
    for name, scale in zip(key.keys, key.scale * len(key.keys), strict=False):
        if name not in columns or columns[name].null_count == len(columns[name]):
            continue
        column = _numbers(columns[name]) * scale
        values = column if values is None else np.where(np.isfinite(values), values, column)
    return values


def _numbers(array: pa.Array) -> np.ndarray:
    """A column as float64: lists and dicts are summed over present values (-1 in a list is absent), text is parsed."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _sum([_numbers(child) for child in array.flatten()], len(array))
    if pa.types.is_list(kind):
        flat = _numbers(array.flatten())
        good = flat >= 0
        rows = pc.list_parent_indices(array).to_numpy()[good]
        total = np.bincount(rows, flat[good], len(array))
        return np.where(np.bincount(rows, minlength=len(array)) > 0, total, math.nan)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if pa.types.is_string(kind):
        return np.array([number_of(v) for v in array.to_pylist()], np.float64)
    return np.full(len(array), math.nan)


def _sum(columns: list[np.ndarray], rows: int) -> np.ndarray:
    total, seen = np.zeros(rows), np.zeros(rows, bool)
    for column in columns:
        good = column >= 0
        total += np.where(good, column, 0.0)
        seen |= good
    return np.where(seen, total, math.nan)


def _streaming_processors(array: pa.Array) -> np.ndarray | None:
    """Fraction of the streaming processors in use, from the percent per process of the oldest version."""
    if not pa.types.is_list(array.type) or not pa.types.is_struct(array.type.value_type):
        return None
    inner = _fields(array.flatten())
    if "sm" not in inner:
        return None
    rows = pc.list_parent_indices(array).to_numpy()
    total = np.bincount(rows, np.nan_to_num(_numbers(inner["sm"])), len(array)) / 100.0
    return np.where(np.bincount(rows, minlength=len(array)) > 0, total, math.nan)
