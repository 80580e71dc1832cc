"""Runs a study: every size, every repeat, each with its own monitor; what is finished is kept and never run twice.

A study is a folder::

    study.json                          what is being run; a second start with other parameters is refused
    input_<size>/run_<k>/run/           the saved run: channels, samples, and one window per inference
    input_<size>/run_<k>/latency.csv    seconds of each inference, a line each, as the published layout has it
    input_<size>/run_<k>/status.json    written last, in one step: a folder without it was interrupted and is run anew

The timed loop holds nothing but the inference and its window.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgreen.errors import TraceError
from fastgreen.experiment.protocols import CommandFailed, Protocol
from fastgreen.experiment.writers import run_folder

__all__ = ["WINDOW", "RunStatus", "Study"]

WINDOW = "inference"
_FORMAT = 1


@dataclass(frozen=True)
class RunStatus:
    """How a run of a study ended."""

    size: str
    repeat: int
    state: str
    """``done`` or ``failed``."""
    iterations: int
    error: str = ""
    exit_code: int | None = None


class Study:
    """A study in a folder.

    Parameters
    ----------
    folder : where everything goes; made if it is not there
    protocol : what is run
    repeats : runs of each size
    pause_s : seconds of rest before each run, so that one does not warm up the next
    channels, hz : handed to the monitor
    monitor : what makes a monitor, by default :class:`fastgreen.Monitor`

    Raises
    ------
    ValueError
        The folder holds a study of another model, command, sizes, repeats or counts, or is a file.

    Examples
    --------
    >>> from fastgreen.experiment import Study, for_callable
    >>> protocol = for_callable(lambda n: sorted(range(n)), [10**4, 10**5], iterations=20)
    >>> study = Study("my-study", protocol, repeats=3)      # doctest: +SKIP
    >>> study.run()                                         # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path,
        protocol: Protocol,
        *,
        repeats: int = 10,
        pause_s: float = 0.0,
        channels: list[str] | None = None,
        hz: float | None = None,
        monitor: Callable[..., Any] | None = None,
    ) -> None:
        if repeats < 1:
            raise ValueError(f"repeats: {repeats} is below 1")
        if not 0 <= pause_s < float("inf"):
            raise ValueError(f"pause_s: {pause_s} is not a time to wait")
        self.folder = Path(folder)
        self.protocol = protocol
        self.repeats = repeats
        self.pause_s = pause_s
        self._options = {"channels": channels, "hz": hz}
        self._monitor = monitor or _monitor
        self._claim()

    def _claim(self) -> None:
        """Write study.json, or see that the one there is the same study."""
        wanted = {
            "format": _FORMAT,
            "protocol": self.protocol.name,
            "what": self.protocol.what,
            "size_unit": self.protocol.size_unit,
            "batch": self.protocol.batch,
            "repeats": self.repeats,
            "iterations": {str(size): self.protocol.iterations(size) for size in self.protocol.sizes},
            "warmup": self.protocol.warmup,
        }
        file = self.folder / "study.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"folder: {self.folder} is a file")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _write_whole(file, wanted)
            return
        there = _read(file)
        for key, value in wanted.items():
            if there.get(key, "" if key == "what" else None) != value:
                raise ValueError(
                    f"folder: {self.folder} holds a study with {key} = {there.get(key)!r}, not {value!r}; "
                    "go on with the same parameters or choose another folder"
                )

    def pending(self, *, retry_failed: bool = False) -> list[tuple[Any, int]]:
        """(size, repeat) of the runs that are still to be done, in order."""
        out = []
        for size in self.protocol.sizes:
            for repeat in range(self.repeats):
                status = read_status(run_folder(self.folder, size, repeat))
                if status is None or (retry_failed and status.state == "failed"):
                    out.append((size, repeat))
        return out

    def run(self, *, progress: bool = True, retry_failed: bool = False) -> list[RunStatus]:
        """Do what is still to be done.

        A size whose model raises is kept as failed and the rest goes on: if none of its runs has succeeded yet, its
        other repeats are not tried. Ctrl-C and the like end the study; starting it again goes on where it was.

        Returns
        -------
        list of RunStatus
            Of the whole study, in order.
        """
        pending = self.pending(retry_failed=retry_failed)
        weights = {size: self.protocol.iterations(size) for size in self.protocol.sizes}
        with _bar(self.protocol.name, sum(weights[size] for size, _ in pending), progress) as advance:
            for size in self.protocol.sizes:
                mine = [repeat for other, repeat in pending if other == size]
                if mine:
                    self._size(size, mine, weights[size], advance)
        return list(self.statuses())

    def statuses(self) -> Iterator[RunStatus]:
        """The runs that ended so far."""
        for size in self.protocol.sizes:
            for repeat in range(self.repeats):
                status = read_status(run_folder(self.folder, size, repeat))
                if status is not None:
                    yield status

    def _size(self, size: Any, repeats: list[int], iterations: int, advance: Callable[[int, str], None]) -> None:
        inference: Callable[[], Any] | None = None
        succeeded = any(s.size == str(size) and s.state == "done" for s in self.statuses())
        failed: RunStatus | None = None
        for repeat in repeats:
            advance(0, f"{size} {self.protocol.size_unit}, run {repeat + 1}/{self.repeats}")
            folder = run_folder(self.folder, size, repeat)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if failed is not None and not succeeded:
                status = RunStatus(
                    str(size), repeat, "failed", iterations, f"not tried: {failed.error}", failed.exit_code
                )
            else:
                try:
                    inference = inference or self.protocol.build(size)
                    self._once(folder, inference, iterations)
                    status = RunStatus(str(size), repeat, "done", iterations)
                    succeeded = True
                # The model is the user's: whatever it raises must not end the study of the other sizes.
                except Exception as error:
                    (folder / "error.txt").write_text(traceback.format_exc())
                    code = error.returncode if isinstance(error, CommandFailed) else None
                    failed = status = RunStatus(str(size), repeat, "failed", iterations, _sentence(error), code)
                    inference = None
            _write_whole(folder / "status.json", vars(status))
            advance(iterations, "")

    def _once(self, folder: Path, inference: Callable[[], Any], iterations: int) -> None:
        time.sleep(self.pause_s)
        for _ in range(self.protocol.warmup):
            inference()
        monitor = self._monitor(**{name: value for name, value in self._options.items() if value is not None})
        with monitor:
            window = monitor.window(WINDOW)
            for _ in range(iterations):
                with window:
                    inference()
        result = monitor.result
        result.save(folder / "run")
        seconds = result.windows(WINDOW).column("duration_s").to_pylist()
        (folder / "latency.csv").write_text("".join(f"{s!r}\n" for s in seconds))


def _monitor(**options: Any) -> Any:
    import fastgreen

    return fastgreen.Monitor(**options)


def _sentence(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _write_whole(file: Path, value: dict[str, Any]) -> None:
    """All of the file or nothing of it, whenever the process is killed."""
    partial = file.with_name(file.name + ".part")
    with open(partial, "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TraceError(f"{file}: not readable as a study: {error}") from None
    if not isinstance(value, dict):
        raise TraceError(f"{file}: not a study")
    return value


def read_status(folder: Path) -> RunStatus | None:
    """How the run in a folder ended, None if it did not."""
    file = folder / "status.json"
    if not file.exists():
        return None
    value = _read(file)
    try:
        return RunStatus(**value)
    except TypeError as error:
        raise TraceError(f"{file}: not the status of a run: {error}") from None


@contextlib.contextmanager
def _bar(name: str, total: int, shown: bool) -> Iterator[Callable[[int, str], None]]:
    """A progress bar with the time left, counted in inferences."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
    ]
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(name, total=total)

        def advance(done: int, doing: str) -> None:
            bar.update(task, advance=done, description=f"{name}: {doing}" if doing else None)

        yield advance
