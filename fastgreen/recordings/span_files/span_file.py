# SPDX-License-Identifier: Apache-2.0
"""Spans as read from a file, and the opening of large JSON files of strangers."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fastgreen._light_dataclass import dataclass, field
from fastgreen.errors import TraceError
from fastgreen.guards.printable import encodable
from fastgreen.guards.untrusted import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from fastgreen.results.nested_spans import NestedSpans

__all__ = ["MOST_BYTES", "Names", "SpanFile", "opened", "parse"]

MOST_BYTES = 2 << 30  # of a file, unpacked
LARGEST_NS = 1 << 62


@dataclass
class SpanFile:
    """Spans of one file.

    Attributes
    ----------
    path : Path
    source : str
        The program that wrote it, as a noun: "torch.profiler", "py-spy", "OpenTelemetry", "a table".
    spans : NestedSpans
        Instants on the clock of the file.
    names : list of str
        Distinct names; `name` has the place of each span's name in it.
    name : array of int64
    device : array of int64
        The number of a GPU, or -1 for work that does not run on a GPU.
    clock : str or None
        "realtime", "monotonic" or "start" (from the begin of the recording); None: unknown.
    knows_devices : bool
        The file tells work of CPUs from work of GPUs.
    host : str or None
        The machine.
    notes : list of str
    columns : pyarrow.Table, optional
        A row per span: what the file has of each one beside its name and time.
    place : array of int64, optional
        Of each span of a trace of Chrome: the place of its event in the file.
    """

    path: Path
    source: str
    spans: NestedSpans
    names: list[str]
    name: NDArray[np.int64]
    device: NDArray[np.int64]
    clock: str | None
    knows_devices: bool = False
    host: str | None = None
    notes: list[str] = field(default_factory=list)
    columns: pa.Table | None = None
    place: NDArray[np.int64] | None = None


class Names:
    """Numbers of texts."""

    def __init__(self) -> None:
        self.place: dict[str, int] = {}

    def number(self, text: Any) -> int:
        name = encodable(text) if isinstance(text, str) else str(text) if text is not None else ""
        return self.place.setdefault(name[:1000], len(self.place))

    @property
    def all(self) -> list[str]:
        return list(self.place)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A regular file as a stream of at most `MOST_BYTES`, unpacked if it is packed by gzip."""
    with os.fdopen(open_regular(path), "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        raw = gzip.GzipFile(fileobj=stream) if packed else stream
        try:
            yield io.BufferedReader(_Limited(raw, path))
        except (EOFError, gzip.BadGzipFile) as error:
            raise TraceError(f"{path} is not complete: {error}") from None


class _Limited(io.RawIOBase):
    def __init__(self, raw: Any, path: Path) -> None:
        self.raw, self.path, self.left = raw, path, MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.raw.read(len(buffer))
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise TraceError(f"{self.path} cannot be read: {error}") from None
        self.left -= len(data)
        if self.left < 0:
            raise TraceError(f"{self.path} is larger than {MOST_BYTES} bytes")
        buffer[: len(data)] = data
        return len(data)


def parse(data: bytes | str, place: str) -> Any:
    """JSON; TraceError for anything else, with `place` in the message."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise TraceError(f"{place} is not JSON, or was cut off: {reason}") from None
