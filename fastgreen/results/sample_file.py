"""The samples.arrow of a run: the samples of its channels, of all of them in one pass."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import open_regular
from fastgreen.results import run_folder
from fastgreen.results.batch_forms import find_forms

__all__ = ["SampleFile"]

# A block holds all samples of a stretch of the file: 6 MB of samples, or of so many batches.
_ROWS, _BATCHES = 1 << 18, 1 << 15
_PROBED = 4  # batches in which pyarrow looks for the first with rows

Part = tuple[int, np.ndarray]


class SampleFile:
    """Reads a samples.arrow, again for each call.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def parts(self, names: list[str]) -> Iterator[Part]:
        """(place in `names`, samples) in the order of time for each channel, each an array of dtype SAMPLE.

        TraceError where the file is missing, holds no samples or is damaged before its end.
        """
        batches = run_folder.read_columns(self.path, run_folder.SAMPLES)
        passed = 0
        with self._mapped() as data:
            scan = self._scan(data, names)
            if scan is not None:
                first, reader = scan
                end = _resolver.FULL
                while end == _resolver.FULL:
                    end, samples, ends = reader.next(_ROWS, _BATCHES)
                    for i, (begin, until) in enumerate(zip([0, *ends], ends, strict=False)):
                        if until > begin:
                            yield i, samples[begin:until]
                if end == _resolver.END:
                    return
                if end == _resolver.CUT:
                    if run_folder.is_whole(self.path):
                        raise TraceError(f"{self.path} is damaged: a batch ends early")
                    return
                passed = first + reader.passed
        places = {name: i for i, name in enumerate(names)}
        for batch in islice(batches, passed, None):
            yield from self._parts_of(batch, places)

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """The samples of one channel. TraceError as of `parts`."""
        return (samples for _, samples in self.parts([name]))

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[Any]:
        handle = open_regular(self.path)
        try:
            data = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
        try:
            yield data
        finally:
            with contextlib.suppress(BufferError):  # a reader that an exception keeps; the garbage collector comes
                data.close()

    def _scan(self, data: Any, names: list[str]) -> tuple[int, _resolver.Batches] | None:
        """Batches before the first with rows, and the reader from there on. None: only pyarrow can read this file."""
        found = find_forms(data, len(run_folder.SAMPLES))
        if found is None or run_folder.read_stream(self.path)[0].remove_metadata() != run_folder.SAMPLES:
            return None
        first, empty, name, batch = found
        with contextlib.suppress(TraceError):
            for probe in islice(run_folder.read_columns(self.path, run_folder.SAMPLES), _PROBED):
                if probe.num_rows:
                    encoded = [n.encode("utf-8", "surrogatepass") for n in names]
                    return empty, _resolver.Batches(data, first, name, batch, encoded)
        return None

    def _parts_of(self, batch: pa.RecordBatch, places: dict[str, int]) -> Iterator[Part]:
        run_folder.check_nulls(batch, self.path)
        column = batch.column("channel")
        names = column.dictionary.to_pylist()
        if len(names) == 1:
            if names[0] in places:
                yield places[names[0]], run_folder.samples_of(batch)
            return
        for name in dict.fromkeys(names):
            if name in places:
                rows = batch.filter(pc.equal(column.indices, names.index(name)))
                yield places[name], run_folder.samples_of(rows)
