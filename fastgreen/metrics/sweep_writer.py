"""Writer of a sweep to one Arrow IPC file, tile by tile in constant memory; `stored_sweep` reads it.

Dense: a row for each combination of the slower axes, with the values along the fastest axis in a tensor column. Long: a
row for each point. The axes are in the schema metadata, under the key ``fastgreen``, as JSON; an axis of more than
65536 points is ``{"float64": base64 of the little-endian bytes}``.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

import fastgreen
from fastgreen.atomic_file import new_file
from fastgreen.guards.arguments import path_text
from fastgreen.metrics.parallel import cpu_count, thread_count
from fastgreen.progress_bar import progress_bar
from fastgreen.units import unit_metadata

__all__ = ["FORMAT", "KEY", "computed", "layout_of", "write_sweep"]

FORMAT = 1
KEY = b"fastgreen"
_TILE = 2 << 20  # bytes; small enough to stay in cache, large enough for few calls
_MOST_WORKERS = 4  # each has a tile of memory
_LISTED = 1 << 16  # longer axes are base64 of their bytes in the metadata instead of lists
_ROW_LIMIT = 32 << 20  # bytes; a row of a tensor column is written in one piece


class Plan(Protocol):
    """Object that fills tiles with values."""

    def fill(self, out: np.ndarray, first: int, streaming: bool) -> None: ...


class Grid(Protocol):
    """The part of a `Sweep` that is written."""

    metric: str
    unit: str | None
    axes: dict[str, np.ndarray]
    shape: tuple[int, ...]
    size: int

    @property
    def plan(self) -> Plan: ...


def write_sweep(
    sweep: Grid,
    path: str | os.PathLike[str],
    dtype: np.dtype,
    layout: str,
    compression: str | None,
    threads: int | None,
    progress: bool,
    overwrite: bool,
) -> None:
    """Write a sweep to a file; see `Sweep.write` for the parameters."""
    # This thread writes and needs a CPU of its own; a few computing threads are faster than any disk.
    workers = min(_MOST_WORKERS, max(1, cpu_count() - 1)) if threads is None else thread_count(threads)
    tiles = layout_of(sweep, dtype, layout, compression)
    target = Path(path_text("path", path))
    with new_file(target, overwrite) as place:
        if compression is None:
            _check_space(target, tiles.file_bytes)
        options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
        with (
            _NamesFile(target, tiles.file_bytes),
            pa.OSFile(place, "ab") as sink,
            pa.ipc.new_file(sink, tiles.schema, options=options) as writer,
            progress_bar(sweep.metric, sweep.size, progress) as advance,
        ):
            for batch, points in computed(tiles, workers, 0, sweep.size):
                writer.write_batch(batch)
                advance(points)


def layout_of(sweep: Grid, dtype: np.dtype, layout: str, compression: str | None) -> _Layout:
    """The form of a sweep in files. ValueError for an unknown layout or compression."""
    layouts: dict[str, type[_Layout]] = {"dense": _Dense, "long": _Long}
    if layout not in layouts:
        raise ValueError(f"layout must be dense or long, not {layout!r}")
    if compression not in (None, "lz4", "zstd"):
        raise ValueError(f"compression must be lz4, zstd or None, not {compression!r}")
    return layouts[layout](sweep, dtype)


class _Layout:
    """Conversion of points to record batches.

    Attributes
    ----------
    schema : pyarrow.Schema
        Schema of the file.
    tile_points : int
        Points of a full tile.
    file_bytes : int
        Bytes of the values on disk.
    """

    schema: pa.Schema
    tile_points: int
    file_bytes: int

    def __init__(self, sweep: Grid, dtype: np.dtype) -> None:
        self.sweep, self.dtype = sweep, dtype
        self.values = pa.from_numpy_dtype(dtype)

    def _schema(self, name: str, columns: list[pa.Field]) -> pa.Schema:
        metadata = {
            "kind": "sweep",
            "format": FORMAT,
            "version": fastgreen.__version__,
            "metric": self.sweep.metric,
            "layout": name,
            "unit": self.sweep.unit,
            "axes": {axis: _to_json(values) for axis, values in self.sweep.axes.items()},
        }
        return pa.schema(columns, metadata={KEY: json.dumps(metadata)})

    def _field(self, name: str, kind: pa.DataType) -> pa.Field:
        unit = self.sweep.unit if name.startswith(("consumption", "cost")) else None
        return pa.field(name, kind, metadata=unit_metadata(unit) if unit else None)

    def batch(self, first: int, values: np.ndarray) -> pa.RecordBatch:
        raise NotImplementedError


class _Dense(_Layout):
    def __init__(self, sweep: Grid, dtype: np.dtype) -> None:
        super().__init__(sweep, dtype)
        self.length = sweep.shape[-1]
        row_bytes = self.length * dtype.itemsize
        if row_bytes > _ROW_LIMIT:
            raise ValueError(
                f"a dense row holds the whole axis {list(sweep.axes)[-1]}, {row_bytes / 1e6:,.0f} MB, and the most is "
                f"{_ROW_LIMIT / 1e6:,.0f} MB; use layout='long'"
            )
        self.tile_points = max(1, _TILE // row_bytes) * self.length
        self.file_bytes = sweep.size * dtype.itemsize
        self.tensor = pa.fixed_shape_tensor(self.values, [self.length], dim_names=[list(sweep.axes)[-1]])
        columns = [self._field(name, pa.from_numpy_dtype(axis.dtype)) for name, axis in list(sweep.axes.items())[:-1]]
        self.schema = self._schema("dense", [*columns, pa.field(sweep.metric, self.tensor)])

    def batch(self, first: int, values: np.ndarray) -> pa.RecordBatch:
        rows = np.arange(first // self.length, (first + values.size) // self.length)
        places = np.unravel_index(rows, self.sweep.shape[:-1])
        columns = [
            pa.array(axis[place]) for axis, place in zip(list(self.sweep.axes.values())[:-1], places, strict=True)
        ]
        flat = pa.Array.from_buffers(self.values, values.size, [None, pa.py_buffer(values)])
        cells = pa.FixedSizeListArray.from_arrays(flat, type=self.tensor.storage_type)
        return pa.record_batch([*columns, pa.ExtensionArray.from_storage(self.tensor, cells)], schema=self.schema)


class _Long(_Layout):
    def __init__(self, sweep: Grid, dtype: np.dtype) -> None:
        super().__init__(sweep, dtype)
        # Coordinates have the dtype of the values.
        self.axes = {n: axis.astype(dtype) if axis.dtype == np.float64 else axis for n, axis in sweep.axes.items()}
        widths = [axis.dtype.itemsize for axis in self.axes.values()]
        self.tile_points = _TILE // sum(widths)
        self.file_bytes = sweep.size * (sum(widths) + dtype.itemsize)
        columns = [self._field(name, pa.from_numpy_dtype(axis.dtype)) for name, axis in self.axes.items()]
        self.schema = self._schema("long", [*columns, pa.field(sweep.metric, self.values)])

    def batch(self, first: int, values: np.ndarray) -> pa.RecordBatch:
        *slower, fastest = self.axes.values()
        last = first + values.size
        rows = np.arange(first // fastest.size, -(-last // fastest.size))
        counts = np.diff(np.maximum(rows * fastest.size, first), append=last)
        places = np.unravel_index(rows, self.sweep.shape[:-1])
        columns = [np.repeat(axis[place], counts) for axis, place in zip(slower, places, strict=True)]
        columns.append(fastest[np.arange(first, last) % fastest.size])
        return pa.record_batch([pa.array(column) for column in (*columns, values)], schema=self.schema)


def computed(tiles: _Layout, workers: int, begin: int, end: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield the tiles of the points begin..end-1 in order, with the number of their points.

    A batch is valid until the next one is requested.

    While the caller writes a tile, the workers compute the next ones into other buffers.
    """
    points = tiles.tile_points
    buffers = [np.empty(min(points, end - begin), tiles.dtype) for _ in range(workers + 1)]

    def tile(first: int, buffer: np.ndarray) -> tuple[pa.RecordBatch, int]:
        values = buffer[: min(points, end - first)]
        tiles.sweep.plan.fill(values, first, False)
        return tiles.batch(first, values), values.size

    begins = iter(range(begin, end, points))
    pending: deque[tuple[Future[tuple[pa.RecordBatch, int]], np.ndarray]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for buffer, first in zip(buffers, begins, strict=False):
            pending.append((pool.submit(tile, first, buffer), buffer))
        while pending:
            future, buffer = pending.popleft()
            yield future.result()
            following = next(begins, None)
            if following is not None:
                pending.append((pool.submit(tile, following, buffer), buffer))
    finally:
        pool.shutdown(cancel_futures=True)


class _NamesFile:
    """Adds the file and the size of the whole sweep to an OSError."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(
                error.errno, f"{reason}: the sweep takes {self.size / 1e9:,.3g} GB; it was not written", str(self.path)
            ) from error


def _check_space(path: Path, needed: int) -> None:
    import errno

    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(
            errno.ENOSPC, f"the sweep takes {needed / 1e9:,.3g} GB, but only {free / 1e9:,.3g} GB are free", str(path)
        )


def _to_json(values: np.ndarray) -> Any:
    if values.size > _LISTED and values.dtype.kind != "U":
        # As text, millions of numbers would take minutes.
        return {values.dtype.name: base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()}
    # JSON has no NaN; only a target may be NaN.
    return [None if value != value else value for value in values.tolist()]
