"""Reader of sweeps in files of `sweep_writer`: memory-mapped, checked, read piece by piece."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.errors import TraceError
from fastgreen.guards.arguments import path_text
from fastgreen.guards.untrusted import name_of_regular
from fastgreen.metrics.sweep_writer import FORMAT, KEY

__all__ = ["StoredSweep", "open_sweep"]

_DTYPES: dict[Any, np.dtype[Any]] = {pa.float64(): np.dtype(np.float64), pa.float32(): np.dtype(np.float32)}


class StoredSweep:
    """A sweep in a memory-mapped file; values are read when they are used.

    Attributes
    ----------
    path : Path
        The file.
    metric, layout : str
        Name of the metric; "dense" or "long".
    unit : str or None
        Unit of consumption or cost.
    axes : dict of str to ndarray
        Name and values of each axis, slowest first.
    shape : tuple of int
        Points along each axis.
    size, nbytes : int
        Number of points, and bytes of their values.
    dtype : numpy.dtype
        Type of the values.
    table : pyarrow.Table
        The contents of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path_text("path", path))
        with self._errors_named(), name_of_regular(self.path) as name:
            reader = pa.ipc.open_file(pa.memory_map(name))
        metadata = self._metadata(reader.schema)
        with self._errors_named():
            self.table = reader.read_all()
            self.table.validate()
        try:
            self._describe(metadata)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, TraceError):
                raise
            raise TraceError(f"{self.path} is damaged: its metadata do not describe its points: {error!r}") from error

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn pyarrow's errors about a damaged file into TraceError; errors of the system stay OSError."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise TraceError(f"{self.path} is not an Arrow file, or it is damaged: {error}") from error

    def _describe(self, metadata: dict[str, Any]) -> None:
        self.metric, self.layout, self.unit = (metadata[key] for key in ("metric", "layout", "unit"))
        if not isinstance(self.metric, str) or not (self.unit is None or isinstance(self.unit, str)):
            raise TraceError(f"{self.path} is damaged: its metric or its unit is not a text")
        self.axes = {name: _from_json(values) for name, values in metadata["axes"].items()}
        self.shape = tuple(axis.size for axis in self.axes.values())
        self.size = math.prod(self.shape)
        column = self.table.column(self.metric)
        dense = isinstance(column.type, pa.FixedShapeTensorType)
        kind = column.type.value_type if dense else column.type
        if self.layout != ("dense" if dense else "long") or kind not in _DTYPES:
            raise TraceError(f"{self.path} is damaged: {self.metric} is {column.type}, of layout {self.layout}")
        if column.null_count:
            raise TraceError(f"{self.path} is damaged: values are missing")
        self.dtype = _DTYPES[kind]
        self.nbytes = self.size * self.dtype.itemsize
        if dense and tuple(column.type.shape) != self.shape[-1:]:
            raise TraceError(f"{self.path} is damaged: {self.metric} is {column.type} for {self.shape} points")
        if self.table.num_rows * (self.shape[-1] if dense else 1) != self.size:
            raise TraceError(f"{self.path} is damaged: {self.table.num_rows} rows do not make {self.shape} points")

    def _metadata(self, schema: pa.Schema) -> dict[str, Any]:
        try:
            metadata = json.loads((schema.metadata or {})[KEY])
            if metadata["kind"] != "sweep" or type(metadata["format"]) is not int:
                raise KeyError("kind")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise TraceError(f"{self.path} holds no sweep of fastgreen") from error
        if metadata["format"] > FORMAT:
            raise TraceError(
                f"{self.path} is of format {metadata['format']}, written by fastgreen {metadata.get('version')}; this "
                f"version reads up to {FORMAT}"
            )
        return metadata

    def __repr__(self) -> str:
        shape = " x ".join(f"{count} {name}" for name, count in zip(self.axes, self.shape, strict=True))
        return f"<{self.layout} sweep of {self.metric} in {self.path}: {shape}>"

    def tiles(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the values in the pieces of the file, without a copy unless the file is compressed.

        Yields
        ------
        first : int
            Position of the piece's first point, in row-major order.
        values : ndarray
            One-dimensional, read-only.
        """
        first = 0
        for chunk in self.table.column(self.metric).chunks:
            flat = chunk.storage.flatten() if self.layout == "dense" else chunk
            yield first, flat.to_numpy()
            first += len(flat)

    def read(self, first: int, last: int) -> np.ndarray:
        """Copy of the values of the points first..last-1, counted in row-major order.

        Raises
        ------
        ValueError
            If the points are not in the sweep.
        """
        if not 0 <= first <= last <= self.size:
            raise ValueError(f"first and last must be in 0..{self.size}, in order, not {first} and {last}")
        values = np.empty(last - first, self.dtype)
        for begin, tile in self.tiles():
            low, high = max(first, begin), min(last, begin + tile.size)
            if low < high:
                values[low - first : high - first] = tile[low - begin : high - begin]
        return values

    def to_numpy(self) -> np.ndarray:
        """Read the whole grid into an array of the sweep's shape.

        Raises
        ------
        MemoryError
            If the grid is larger than the free memory.
        """
        import psutil

        available = psutil.virtual_memory().available
        if self.nbytes > available:
            raise MemoryError(
                f"the sweep takes {self.nbytes / 1e9:,.1f} GB, but only {available / 1e9:,.1f} GB of memory are free; "
                "read it by tiles()"
            )
        grid = np.empty(self.size, self.dtype)
        for first, values in self.tiles():
            grid[first : first + values.size] = values
        return grid.reshape(self.shape)


def _from_json(values: Any) -> np.ndarray:
    if isinstance(values, dict):
        ((dtype, text),) = values.items()
        return np.frombuffer(base64.b64decode(text), np.dtype(dtype).newbyteorder("<")).astype(dtype)
    if all(isinstance(value, str) for value in values) or all(isinstance(value, int) for value in values):
        return np.array(values)
    return np.array([math.nan if value is None else value for value in values], np.float64)


def open_sweep(path: str | os.PathLike[str]) -> StoredSweep:
    """Open a file of `Sweep.write`, memory-mapped.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    StoredSweep

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    TraceError
        If the file is not a sweep, is damaged, or is of a version that this package cannot read.
    """
    return StoredSweep(path)
