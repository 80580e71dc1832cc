"""Where samples and windows go while a monitor measures, and from where its result takes them.

Nothing here knows a monitor: a result, which holds some of it, outlives its own.
"""

from __future__ import annotations

import functools

from fastgreen import _resolver, _window
from fastgreen.results.trace import Windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Any

    import numpy as np
    import pyarrow as pa

    from fastgreen.measuring.gpu_timeline import Lane
    from fastgreen.results.open_folder import KeptFile
    from fastgreen.results.sample_file import SampleFile
    from fastgreen.sensors.channel import Channel

__all__ = ["Recorder", "finished_windows", "kept_chunks"]


class Recorder:
    """Writes a run into a folder while it is measured; from its first failure on, it takes nothing any more.

    Parameters
    ----------
    path : str
        The folder. FileExistsError when it holds a run, OSError when it cannot be written.
    metadata : dict
        Of the run, see `fastgreen.results.run_metadata.run_metadata`.
    channels : callable
        Gives the table of the channels, as far as they are known.
    """

    def __init__(self, path: str, metadata: dict[str, Any], channels: Callable[[], pa.Table]) -> None:
        from fastgreen.results import run_folder  # first: it says what a recording needs

        self._path = path
        self._folder = run_folder.RunFolder(path, metadata, channels())
        self._written: list[int] = []
        self._problems: list[str] = []

    @property
    def samples_file(self) -> SampleFile:
        """What was written of the samples: found by its path, or, where that was lost, the open file."""
        from fastgreen.results.sample_file import SampleFile

        return SampleFile(self._folder.samples_file)

    def add_samples(self, channel: str, samples: bytearray) -> bool:
        """False when they were not written, and memory has to take them."""
        return self._try(self._folder.add_samples, channel, samples)

    @property
    def spans_file(self) -> Path | KeptFile:
        """The same of the spans of ledgers."""
        return self._folder.spans_file

    def define_ledger(self, name: str, definition: dict[str, Any]) -> bool:
        """False when it was not written."""
        from fastgreen.results.ledger_spans import definition_batch

        return self._try(lambda: self._folder.add_spans(definition_batch(name, definition)))

    def add_spans(
        self, name: str, rows: np.ndarray, ids: list[Any], details: list[Any], still_open: bool = False
    ) -> bool:
        """What a ledger gave. False when it was not written."""
        from fastgreen.results.ledger_spans import span_batch

        return self._try(lambda: self._folder.add_spans(span_batch(name, rows, ids, details, still_open)))

    def add_windows(self, handles: list[_window.Window | Lane]) -> None:
        """Write the windows that the handles gained since the last call, always in the same order."""
        handles = list(handles)  # other threads may add to them
        self._written += [0] * (len(handles) - len(self._written))
        for i, handle in enumerate(handles):
            begin, end = handle.edges(self._written[i])
            amounts = handle.amounts(self._written[i])
            if len(begin) and self._try(
                self._folder.add_windows, handle.name, i, begin, end, amounts, self._written[i]
            ):
                self._written[i] += len(begin)

    def _try(self, write: Callable[..., None], *given: Any) -> bool:
        if self._folder.failed:
            return False
        try:
            write(*given)
        except (OSError, ValueError) as error:
            self._folder.failed = True
            self._problems.append(f"recording to {self._path} failed, and the run continues in memory: {error}")
            return False
        return True

    def close(self) -> None:
        """End the samples and windows. What was written stays, whatever happens."""
        self._at_the_end(self._folder.close)

    def write_channels(self, channels: Callable[[], pa.Table]) -> None:
        """Write the channels as they are known in the end, after `close`, and leave the folder."""
        self._at_the_end(lambda: self._folder.write_channels(channels()))
        if not self._folder.leave():
            self._problems.append(
                f"{self._path} was removed, moved or replaced while the run was recorded, so the recording is lost"
            )

    def _at_the_end(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, ValueError) as error:
            self._problems.append(f"the end of the run could not be recorded in {self._path}: {error}")

    def take_problems(self) -> list[str]:
        """What went wrong since the last call, a sentence each."""
        taken, self._problems = self._problems, []
        return taken


def _windows(handle: _window.Window | Lane, number: int) -> Windows:
    begin_ns, end_ns = handle.edges()
    return Windows(handle.name, number, begin_ns, end_ns, handle.amounts())


def finished_windows(handles: list[_window.Window | Lane]) -> list[Windows]:
    """The stretches of a monitor's handles."""
    return [_windows(handle, i) for i, handle in enumerate(handles)]


def kept_chunks(file: SampleFile | None, channel: Channel, kept: list[bytearray]) -> Callable[[], Iterable[np.ndarray]]:
    """Gives the samples of a channel: those on disk, then those in memory."""
    if file is not None:
        from fastgreen.results.sample_file import StoredChunks

        return StoredChunks(file, channel, None, kept)
    return functools.partial(map, _resolver.samples, kept)
