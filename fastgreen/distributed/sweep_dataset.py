# SPDX-License-Identifier: Apache-2.0
"""A sweep as a dataset of Arrow files, written by a cluster to any file system of pyarrow; it can be resumed.

The folder holds ``_sweep.json``, with the axes, and ``part-00000.arrow`` and so on. A part appears when it is complete,
and the same sweep makes the same bytes. So a run that was killed is started again, and keeps the parts that it finds.
pyarrow.dataset, Polars and DuckDB leave out names that begin with an underscore.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import fs

from fastgreen._light_dataclass import dataclass
from fastgreen.atomic_file import new_file
from fastgreen.distributed.cluster import each
from fastgreen.guards.arguments import path_text
from fastgreen.metrics.sweep_writer import KEY, computed, layout_of

if TYPE_CHECKING:
    from distributed import Client

    from fastgreen.metrics.sweep import Sweep

__all__ = ["public_target", "write"]

_PART_BYTES = 128 << 20
_MANIFEST = "_sweep.json"


def write(
    sweep: Sweep,
    target: str | os.PathLike[str],
    client: Client | None = None,
    *,
    filesystem: fs.FileSystem | None = None,
    dtype: Any = "float64",
    layout: str = "dense",
    compression: str | None = None,
    part_bytes: int = _PART_BYTES,
    progress: bool = False,
) -> int:
    """Write a sweep to a folder of Arrow files, on a cluster. A second call goes on after the parts that exist.

    Parameters
    ----------
    sweep : Sweep
    target : path or URI
        The folder: a path, or a URI such as ``s3://bucket/folder``. Each worker must reach it.
    client : distributed.Client, optional
        By default threads of this process work.
    filesystem : pyarrow.fs.FileSystem, optional
        The file system of `target`, which is then a path in it.
    dtype, layout, compression
        As of `Sweep.write`.
    part_bytes : int
        Size of a part, about; it is part of the sweep's identity.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    int
        Number of parts that this call wrote.

    Raises
    ------
    FileExistsError
        If the folder holds another sweep, or other files.
    FastgreenError
        If a worker lacks fastgreen, or has another version.
    OSError
        If the target refuses. The finished parts stay.
    ValueError
        If an argument has another value.
    """
    if isinstance(part_bytes, bool) or not isinstance(part_bytes, int) or part_bytes < 1:
        raise ValueError(f"part_bytes must be a whole number above 0, not {part_bytes!r}")
    where, folder = _place(target, filesystem)
    form = layout_of(sweep, sweep._checked_dtype(dtype), layout, compression)
    manifest = {**json.loads(form.schema.metadata[KEY]), "kind": "sweep dataset", "dtype": str(form.dtype)}
    tiles = max(1, part_bytes // max(1, form.file_bytes * form.tile_points // sweep.size))
    manifest |= {"compression": compression, "part_points": tiles * form.tile_points}
    form.schema = form.schema.with_metadata({KEY: json.dumps({"kind": "sweep part", "sweep": _hash(manifest)})})
    with _named(target):
        _begin(where, folder, manifest)
        there = {info.base_name for info in where.get_file_info(fs.FileSelector(folder))}
    parts = _Parts(where, folder, form, compression, tiles * form.tile_points)
    count = math.ceil(sweep.size / parts.points)
    left = [n for n in range(count) if parts.name(n) not in there]
    written = 0
    with _shown(sweep.metric, count, count - len(left), progress) as advance, _named(target):
        for _ in each(_write_part, parts, left, client):
            written += 1
            advance()
    return written


@dataclass(frozen=True)
class _Parts:
    """What each worker needs to write any part."""

    filesystem: fs.FileSystem
    folder: str
    form: Any
    compression: str | None
    points: int

    def name(self, number: int) -> str:
        return f"part-{number:05d}.arrow"


def _write_part(parts: _Parts, number: int) -> int:
    path = f"{parts.folder}/{parts.name(number)}"
    if isinstance(parts.filesystem, fs.LocalFileSystem):
        with new_file(path, overwrite=True) as place, pa.OSFile(place, "ab") as sink:
            _fill(parts, number, sink)
        return number
    # An object is stored by one call with all its bytes: an interrupted worker leaves no half of it.
    memory = pa.BufferOutputStream()
    _fill(parts, number, memory)
    with parts.filesystem.open_output_stream(path) as stream:
        stream.write(memory.getvalue())
    return number


def _fill(parts: _Parts, number: int, sink: Any) -> None:
    begin = number * parts.points
    end = min(begin + parts.points, parts.form.sweep.size)
    options = pa.ipc.IpcWriteOptions(compression=parts.compression, use_threads=False)
    with pa.ipc.new_file(sink, parts.form.schema, options=options) as writer:
        for batch, _ in computed(parts.form, 1, begin, end):  # one tile is computed while another one is written
            writer.write_batch(batch)


def _place(target: str | os.PathLike[str], filesystem: fs.FileSystem | None) -> tuple[fs.FileSystem, str]:
    text = path_text("target", target)
    if filesystem is not None:
        return filesystem, text.rstrip("/")
    if "://" not in text:
        return fs.LocalFileSystem(), os.path.abspath(text)
    try:
        where, folder = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, ValueError) as error:
        raise ValueError(f"target must be a path or the URI of a folder, not {text!r}: {error}") from error
    return where, folder.rstrip("/")


def _begin(where: fs.FileSystem, folder: str, manifest: dict[str, Any]) -> None:
    """Make the folder and its manifest, or check that it holds this sweep."""
    path = f"{folder}/{_MANIFEST}"
    text = json.dumps(manifest).encode()
    if where.get_file_info(path).type != fs.FileType.NotFound:
        with where.open_input_stream(path) as stream:
            try:
                found = json.loads(stream.read())
            except ValueError:
                found = None
        if found != manifest:
            raise FileExistsError(f"{folder} holds another sweep, or one in other parts; choose another folder")
        return
    if where.get_file_info(folder).type == fs.FileType.File:
        raise FileExistsError(f"{folder} is a file, and a dataset needs a folder")
    if any(
        i.size or i.type == fs.FileType.File for i in where.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    ):
        raise FileExistsError(f"{folder} holds other files; choose an empty folder")
    if isinstance(where, fs.LocalFileSystem):
        os.makedirs(folder, exist_ok=True)
        with new_file(path, overwrite=True) as place, open(place, "wb") as local:
            local.write(text)
    else:
        with where.open_output_stream(path) as stream:
            stream.write(text)


def _hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def public_target(target: Any) -> str:
    """The target without what a URI may hold of keys: the part before an @, and the query."""
    scheme, found, rest = str(target).partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}" if found else str(target)


@contextmanager
def _named(target: Any) -> Iterator[None]:
    """Adds the target to an OSError that does not name it."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        place, words = public_target(target), f"{error.strerror or error}; finished parts stay"
        raise (OSError(f"{place}: {words}") if error.errno is None else OSError(error.errno, words, place)) from error


@contextmanager
def _shown(metric: str, count: int, done: int, shown: bool) -> Iterator[Any]:
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(metric), BarColumn(), MofNCompleteColumn(), TextColumn("parts"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=count, completed=done)
        yield lambda: bar.advance(task)
