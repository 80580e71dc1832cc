"""The samples.arrow of a run: the samples of its channels, of all of them in one pass."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import open_regular
from fastgreen.results import run_folder
from fastgreen.results.batch_forms import find_forms
from fastgreen.results.open_folder import KeptFile
from fastgreen.results.run_checks import SamplesCheck

if TYPE_CHECKING:
    from fastgreen.sensors.channel import Channel

__all__ = ["SampleFile", "StoredChunks"]

# A block holds all samples of a stretch of the file: 25 MB of samples, or those of so many batches.
_ROWS, _BATCHES = 1 << 20, 1 << 16
_CHUNK = 1 << 16  # samples of one channel that are passed on at one time
_PROBED = 4  # batches in which pyarrow looks for the first with rows

Part = tuple[int, np.ndarray]


class SampleFile:
    """Reads a samples.arrow, again for each call.

    Parameters
    ----------
    place : Path or KeptFile
        A path may be relative: the reader may change its folder, or be another process.
    """

    def __init__(self, place: Path | KeptFile) -> None:
        self._place = place if isinstance(place, KeptFile) else place.absolute()

    @property
    def path(self) -> Path:
        return self._place.path if isinstance(self._place, KeptFile) else self._place

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
                        for at in range(begin, until, _CHUNK):
                            yield i, samples[at : min(at + _CHUNK, until)]
                    del samples
                    data.madvise(mmap.MADV_DONTNEED, 0, reader.at // mmap.PAGESIZE * mmap.PAGESIZE)
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


class StoredChunks:
    """The samples of one channel: those of a file, again for each call, and those that memory kept after them.

    Parameters
    ----------
    file : SampleFile
    channel : Channel
    examine : callable, optional
        Makes a `SamplesCheck`. The samples are looked at until they were found sound once.
    kept : list of bytearray
        As the engine gave them.
    """

    def __init__(
        self,
        file: SampleFile,
        channel: Channel,
        examine: Callable[[], SamplesCheck] | None = None,
        kept: list[bytearray] | None = None,
    ) -> None:
        self.file, self.channel = file, channel
        self._examine, self._kept = examine, kept if kept is not None else []

    def __call__(self) -> Iterator[np.ndarray]:
        check = self.check()
        for samples in self.file.chunks(self.channel.id):
            check.take(samples)
            yield samples
        check.finish()
        yield from self.kept()

    def kept(self) -> Iterator[np.ndarray]:
        return map(_resolver.samples, self._kept)

    def check(self) -> _Check:
        """For the samples of the file, in one pass."""
        return _Check(self, self._examine() if self._examine is not None else None)

    def found_sound(self) -> None:
        self._examine = None


class _Check:
    """Raises TraceError for samples that cannot be."""

    def __init__(self, chunks: StoredChunks, check: SamplesCheck | None) -> None:
        self._chunks, self._check = chunks, check

    def take(self, samples: np.ndarray) -> None:
        if self._check is not None:
            self._try(self._check.take, samples)

    def finish(self) -> None:
        if self._check is not None:
            self._try(self._check.finish)
            self._chunks.found_sound()

    def _try(self, step: Callable[..., None], *given: Any) -> None:
        try:
            step(*given)
        except ValueError as error:
            raise TraceError(f"{self._chunks.file.path} is damaged: {error}") from error
