"""Run a study: every size, every repeat, each with its own monitor. Finished runs are kept and not repeated.

A study is a folder::

    study.json                          the parameters; a second start with other parameters is refused
    input_<size>/run_<k>/run/           the saved run: channels, samples, and one window per inference
    input_<size>/run_<k>/latency.csv    seconds of each inference, a line each, as the published layout has it
    input_<size>/run_<k>/gauges.json    means of memory, use and temperature, of the processor and of the GPU
    input_<size>/run_<k>/settling.json  the warm-up and the rest that were found, if they were to be found
    input_<size>/run_<k>/status.json    written last, atomically: a folder without it was interrupted and is repeated

The timed loop holds only the inference and its window. An exception of the model is kept as the failure of its run; an
exception of the meter or the disk ends the study, and the run remains to be done.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from fastgreen.atomic_file import write_text
from fastgreen.errors import FastgreenWarning, TraceError
from fastgreen.experiment.protocols import AUTO, CommandFailed, Protocol
from fastgreen.experiment.run_energy import precision_of, run_energy
from fastgreen.experiment.settling import FILE as SETTLING
from fastgreen.experiment.settling import Rest, read_settling, rest, settling_notes, settling_of, warm_up
from fastgreen.guards.printable import encodable
from fastgreen.guards.untrusted import read_object
from fastgreen.progress_bar import progress_bar
from fastgreen.recordings.published_layout import run_folder, write_latencies
from fastgreen.reports.precision import Known, Verdict, enough
from fastgreen.reports.ratio import FIRST_PAIRS
from fastgreen.training.gauges import Gauges, watching

__all__ = ["WINDOW", "RunStatus", "Study", "read_status"]

WINDOW = "inference"
_FORMAT = 1


@dataclass(frozen=True)
class RunStatus:
    """Outcome of one run of a study; `state` is ``done`` or ``failed``."""

    size: str
    repeat: int
    state: str
    iterations: int
    error: str = ""
    exit_code: int | None = None


class Study:
    """A study in a folder.

    Parameters
    ----------
    folder : path
        Folder of the study; made if it does not exist.
    protocol : Protocol
        The sizes and the inference.
    repeats : int
        Runs of each size, at least 1. More than a study in the folder has adds runs to it, also if it is finished.
    pause_s : float or "auto"
        Seconds of rest before each run, so that one run does not warm up the next. ``"auto"``: until the power is back
        at idle (:mod:`fastgreen.experiment.settling`).
    until : float, optional
        Repeat each size until the mean energy of an inference is known to this fraction, at most `repeats` times: 95 %
        of the scatter between runs and the bounds of the meter together.
    order : {"sizes", "rounds"}
        ``"sizes"``: all runs of a size in a row, as published. ``"rounds"``: every size once, then every size again, so
        that a machine that becomes warmer or busier does not look like an effect of size; a model is built for each
        run.
    channels, hz
        Arguments of the monitor.
    monitor : callable, optional
        Makes a monitor; by default :class:`fastgreen.Monitor`.
    gauges : callable
        Makes the gauges of a run; by default :class:`fastgreen.training.gauges.Gauges` of GPU 0.

    Raises
    ------
    ValueError
        If the folder holds a study of another model, command, device, sizes, counts or channels, or of more repeats,
        or is a file.
    ChannelNotFound, ChannelPermission
        If the channels cannot be measured here.

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
        pause_s: float | str = 0.0,
        until: float | None = None,
        order: str = "sizes",
        channels: list[str] | None = None,
        hz: float | None = None,
        monitor: Callable[..., Any] | None = None,
        gauges: Callable[[], Gauges] = Gauges,
    ) -> None:
        if repeats < 1:
            raise ValueError(f"repeats must be at least 1, not {repeats}")
        if pause_s != AUTO and not (isinstance(pause_s, (int, float)) and 0 <= pause_s < float("inf")):
            raise ValueError(f"pause_s must be 0 or above, or {AUTO!r}, not {pause_s!r}")
        if until is not None and not 0 < until < 1:
            raise ValueError(f"until must be above 0 and below 1, not {until}")
        if until is not None and repeats < FIRST_PAIRS:
            raise ValueError(f"repeats must be at least {FIRST_PAIRS} with until, not {repeats}")
        if order not in ("sizes", "rounds"):
            raise ValueError(f"order must be sizes or rounds, not {order!r}")
        self.folder = Path(folder)
        self.protocol = protocol
        self.repeats = repeats
        self.pause_s = pause_s
        self.until = until
        self.order = order
        self._options = {name: value for name, value in (("channels", channels), ("hz", hz)) if value is not None}
        self._monitor = monitor or _monitor
        self._gauges = gauges
        self._totals: dict[tuple[str, int], tuple[float, float, float, float]] = {}
        self._idle_w: float | None = None
        self._monitor(**self._options)  # a channel or a rate that does not exist is an error before anything is written
        self._claim()

    def _claim(self) -> None:
        """Write study.json, or check that an existing one is of the same study."""
        wanted = {
            "format": _FORMAT,
            "protocol": self.protocol.name,
            "what": self.protocol.what,
            "size_unit": self.protocol.size_unit,
            "batch": self.protocol.batch,
            "repeats": self.repeats,
            "iterations": {str(size): self.protocol.iterations(size) for size in self.protocol.sizes},
            "warmup": self.protocol.warmup,
            "channels": self._options.get("channels"),
            "hz": self._options.get("hz"),
            "until": self.until,
        }
        file = self.folder / "study.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"folder must not be a file, as {self.folder} is")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _write_json(file, wanted)
            return
        try:
            there = _read(file)
        except TraceError as error:
            raise TraceError(f"{error}; the runs beside it are complete; delete it if they are of this study") from None
        before = there.get("repeats")
        more = type(before) is int and 1 <= before < self.repeats
        for key, value in wanted.items():
            if key == "repeats" and more:
                continue
            if there.get(key, "" if key == "what" else None) != value:
                raise ValueError(
                    f"folder: {self.folder} holds a study with {key} = {there.get(key)!r}, not {value!r}; "
                    "continue with the same parameters or choose another folder"
                )
        if more:
            _write_json(file, {**there, "repeats": self.repeats})

    def pending(self, *, retry_failed: bool = False) -> list[tuple[Any, int]]:
        """List (size, repeat) of the runs to be done, in order. A damaged run is to be done again, with a warning.

        Where the precision decides, these are the runs that are sure to be needed: the first eight of a size, or the
        next one.
        """
        out = []
        for size in self.protocol.sizes:
            for repeat in range(self.repeats):
                status = self._kept(size, repeat)
                if status is None or (retry_failed and status.state == "failed"):
                    if self._verdict(size, repeat).ended:
                        break
                    out.append((size, repeat))
                    if self.until is not None and repeat >= FIRST_PAIRS - 1:
                        break
        return out

    def _runs(self) -> Iterator[tuple[Any, int]]:
        """(size, repeat) of every run, as published: all runs of a size in a row."""
        return product(self.protocol.sizes, range(self.repeats))

    def _verdict(self, size: Any, repeats: int) -> Verdict:
        """Whether this many runs of a size are enough for the precision asked for."""
        if self.until is None:
            return Verdict(False)
        ended = [n for n in range(repeats) if self._ended(size, n)]
        totals = [total for n in ended if (total := self._total(size, n)) is not None]
        if ended and not totals:
            return Verdict(True)  # the size fails
        if len(ended) < repeats or len(totals) < 2:
            return Verdict(False)
        known = Known(f"the energy at size {size}", *precision_of(totals, True))
        return enough([known], self.until, len(totals), self.repeats)

    def _ended(self, size: Any, repeat: int) -> bool:
        """Whether a run is done or has failed."""
        if (str(size), repeat) in self._totals:
            return True
        try:
            return read_status(run_folder(self.folder, size, repeat)) is not None
        except TraceError:
            return False

    def _total(self, size: Any, repeat: int) -> tuple[float, float, float, float] | None:
        """Energy of an inference of a run that is done."""
        key = str(size), repeat
        if key not in self._totals:
            import fastgreen

            folder = run_folder(self.folder, size, repeat)
            try:
                status = read_status(folder)
                if status is None or status.state != "done":
                    return None
                self._totals[key] = run_energy(fastgreen.load(folder / "run"), WINDOW).total
            except (TraceError, KeyError):
                return None
        return self._totals[key]

    def precision_notes(self) -> list[str]:
        """A sentence for each size whose energy is not known as well as asked for."""
        done = [(size, sum(1 for s in self.statuses() if s.size == str(size))) for size in self.protocol.sizes]
        notes = [self._verdict(size, count).note for size, count in done]
        return [note for note in notes if note is not None]

    def settling_notes(self) -> list[str]:
        """Sentences about the warm-up and the rest that were found."""
        done = [(s, run_folder(self.folder, s.size, s.repeat)) for s in self.statuses()]
        return settling_notes((f"size {s.size}, run {s.repeat}", *read_settling(folder)) for s, folder in done)

    def _kept(self, size: Any, repeat: int) -> RunStatus | None:
        """Outcome of a run; None if it has not ended, or its files are damaged."""
        folder = run_folder(self.folder, size, repeat)
        try:
            status = read_status(folder)
            if status is not None and status.state == "done" and (str(size), repeat) not in self._totals:
                _check_saved(folder / "run", self.protocol.iterations(size))
            return status
        except (TraceError, KeyError) as error:
            warnings.warn(f"{folder} is damaged and is repeated: {error.args[0]}", FastgreenWarning, stacklevel=2)
            return None

    def run(self, *, progress: bool = True, retry_failed: bool = False) -> list[RunStatus]:
        """Do all runs that are not done yet.

        If a model raises an exception, its run is kept as failed and the study continues. If no run of that size has
        succeeded yet, its other repeats are not tried. Ctrl-C ends the study; a new start continues it.

        Parameters
        ----------
        progress : bool
            Show a progress bar on stderr.
        retry_failed : bool
            Repeat failed runs as well.

        Returns
        -------
        list of RunStatus
            Outcomes of all runs of the study, in order.
        """
        pending = self.pending(retry_failed=retry_failed)
        weights = {size: self.protocol.iterations(size) for size in self.protocol.sizes}
        succeeded = {s.size for s in self.statuses(besides=pending) if s.state == "done"}
        hopeless: dict[str, RunStatus] = {}
        model = _Model(self.protocol.build)
        total = sum(weights[size] for size, _ in pending) if self.until is None else None
        with progress_bar(self.protocol.name, total, progress and bool(pending)) as advance:
            for size, repeat in self._in_turn(pending, retry_failed):
                of = f"run {repeat + 1}/{self.repeats}" if self.until is None else f"run {repeat + 1}"
                advance(0, f"{size} {self.protocol.size_unit}".rstrip() + f", {of}")
                status = self._run(size, repeat, model, hopeless.get(str(size)))
                if status.state == "done":
                    succeeded.add(status.size)
                elif status.size not in succeeded:
                    hopeless.setdefault(status.size, status)
                advance(weights[size], "")
        return list(self.statuses())

    def _in_turn(self, pending: list[tuple[Any, int]], retry_failed: bool) -> Iterator[tuple[Any, int]]:
        """The runs in the order of the study; more and more of them where the precision decides."""
        tried: set[tuple[Any, int]] = set()
        while pending:
            if self.order == "rounds":
                pending = sorted(pending, key=lambda run: run[1])
            for size, repeat in pending:
                tried.add((size, repeat))
                if not self._verdict(size, repeat).ended:  # a size that fails ends early
                    yield size, repeat
            if self.until is None:
                return
            pending = [run for run in self.pending(retry_failed=retry_failed) if run not in tried]

    def statuses(self, besides: Collection[tuple[Any, int]] = ()) -> Iterator[RunStatus]:
        """Outcomes of the runs that have ended, without those in `besides`."""
        for size, repeat in self._runs():
            if (size, repeat) not in besides:
                status = read_status(run_folder(self.folder, size, repeat))
                if status is not None:
                    yield status

    def _run(self, size: Any, repeat: int, model: _Model, failed: RunStatus | None) -> RunStatus:
        """Do one run, unless its size has `failed` before, and save its outcome."""
        iterations = self.protocol.iterations(size)
        folder = run_folder(self.folder, size, repeat)
        self._totals.pop((str(size), repeat), None)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        if failed is not None:
            status = replace(failed, repeat=repeat, error=f"not tried: {failed.error}")
        else:
            try:
                with _blaming_the_model():
                    inference = model.of(size)
                self._once(folder, inference, iterations)
                status = RunStatus(str(size), repeat, "done", iterations)
            except _ModelRaised as raised:
                status = raised.status(size, repeat, iterations)
                write_text(folder / "error.txt", raised.traceback)
                model.forget()
        _write_json(folder / "status.json", vars(status))
        return status

    def _once(self, folder: Path, inference: Callable[[], Any], iterations: int) -> None:
        resting = self._rest()
        warm = None
        if self.protocol.warmup == AUTO:
            warm = warm_up(_blamed(inference), self._monitor(**self._options), iterations)
        else:
            with _blaming_the_model():
                for _ in range(int(self.protocol.warmup)):
                    inference()
        monitor = self._monitor(**self._options)
        with watching(self._gauges()) as gauges, monitor:
            window = monitor.window(WINDOW)
            with _blaming_the_model():
                for _ in range(iterations):
                    with window:
                        inference()
        result = monitor.result
        result.save(folder / "run")
        write_latencies(folder, result.windows(WINDOW).column("duration_s").to_pylist())
        means = gauges.means()
        if not self.protocol.inside:
            del means["memory_b"]
        _write_json(folder / "gauges.json", means)
        if found := settling_of(warm, resting):
            _write_json(folder / SETTLING, found)

    def _rest(self) -> Rest | None:
        """Rest before a run; what was found, if it was to be found."""
        if self.pause_s != AUTO:
            time.sleep(float(self.pause_s))
            return None
        if self._idle_w is None:  # of the runs before a break
            places = self.folder.glob("input_*/run_*")
            known = [found.idle_w for place in places if (found := read_settling(place)[1]) is not None]
            self._idle_w = min((watts for watts in known if watts is not None), default=None)
        found = rest(self._monitor(**self._options), self._idle_w)
        self._idle_w = self._idle_w if found.idle_w is None else found.idle_w
        return found


class _Model:
    """Holder of one model at a time: there may be no memory for two."""

    def __init__(self, build: Callable[[Any], Callable[[], Any]]) -> None:
        self.build = build
        self.size: Any = None
        self.inference: Callable[[], Any] | None = None

    def of(self, size: Any) -> Callable[[], Any]:
        if self.inference is None or self.size != size:
            self.forget()
            self.size, self.inference = size, self.build(size)
        return self.inference

    def forget(self) -> None:
        self.inference = None


class _ModelRaised(Exception):
    """An exception of the user's model, to distinguish it from exceptions of the meter or the disk."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.traceback = "".join(traceback.format_exception(error))

    def status(self, size: Any, repeat: int, iterations: int) -> RunStatus:
        code = self.error.returncode if isinstance(self.error, CommandFailed) else None
        return RunStatus(str(size), repeat, "failed", iterations, _sentence(self.error), code)


@contextlib.contextmanager
def _blaming_the_model() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _ModelRaised(error) from error


def _blamed(inference: Callable[[], Any]) -> Callable[[], None]:
    def once() -> None:
        with _blaming_the_model():
            inference()

    return once


def _monitor(**options: Any) -> Any:
    import fastgreen

    return fastgreen.Monitor(**options)


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return encodable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def _write_json(file: Path, value: dict[str, Any]) -> None:
    """Write a JSON file; it is complete or absent, even if the process is killed or the power fails."""
    write_text(file, json.dumps(value, indent=1), durable=True)


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_object(file, file.parent)
    except (OSError, TraceError) as error:
        raise TraceError(f"{file} cannot be read as a study: {error}") from None


_OPTIONAL = {"error": "", "exit_code": None}
_KINDS: dict[str, tuple[type, ...]] = {
    "size": (str,),
    "repeat": (int,),
    "state": (str,),
    "iterations": (int,),
    "error": (str,),
    "exit_code": (int, type(None)),
}
_LONGEST = 4000  # characters of an error that is shown


def read_status(folder: Path) -> RunStatus | None:
    """Outcome of the run in a folder; None if it has not ended.

    Raises
    ------
    TraceError
        If the file of the outcome is damaged.
    """
    file = folder / "status.json"
    if not os.path.lexists(file):
        return None
    value = {**_OPTIONAL, **_read(file)}
    for field, kinds in _KINDS.items():
        if type(value.get(field)) not in kinds:
            raise TraceError(f"{file}: not the status of a run: its {field} is {str(value.get(field))[:60]!r}")
    if value["state"] not in ("done", "failed"):
        raise TraceError(f"{file}: not the status of a run: its state is {value['state'][:60]!r}")
    texts = {field: encodable(value[field])[:_LONGEST] for field in ("size", "state", "error")}
    return RunStatus(**{field: texts.get(field, value[field]) for field in _KINDS})


def _check_saved(folder: Path, iterations: int) -> None:
    """TraceError unless the saved run opens and holds a window per inference."""
    import fastgreen

    if not folder.is_dir():
        raise TraceError(f"{folder} is missing")
    windows = fastgreen.load(folder).windows(WINDOW).num_rows
    if windows != iterations:
        raise TraceError(f"{folder} has {windows} inferences of {iterations}")
