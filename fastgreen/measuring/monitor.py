"""The monitor: starts the sampling threads, empties their rings, keeps the windows, and hands over the result.

Nothing here is on a hot path: sampling is C threads, windows are two timestamps in C; one Python thread wakes a few
times a second to move samples from the rings to memory or to the disk.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import math
import os
import threading
import time
import warnings
import weakref

from fastgreen import _core, _window
from fastgreen._light_dataclass import replace
from fastgreen.errors import FastgreenError, FastgreenWarning
from fastgreen.measuring.rates import check_wraps, rates
from fastgreen.measuring.source_sampler import Group, open_groups
from fastgreen.measuring.standstill import CounterJudge
from fastgreen.measuring.window_handles import WindowHandles
from fastgreen.results.trace import Trace
from fastgreen.sensors.catalog import counted_ids, discover, names_of, select
from fastgreen.sensors.channel import Channel, Seams
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal

    import pyarrow as pa

    from fastgreen.measuring.gpu_timeline import Events
    from fastgreen.measuring.gpu_windows import GpuWindow
    from fastgreen.measuring.recorder import Recorder
    from fastgreen.results.result import Result
    from fastgreen.training.log import TrainingLog

__all__ = ["Monitor"]

_DRAIN_S = 0.25
_PATIENCE_NS = 200_000_000  # for the first reading of a source; one that blocks longer starts late
_SETTLE_NS = 250_000_000

_running: weakref.WeakSet[Monitor] = weakref.WeakSet()


class Monitor:
    """Measures energy from `start` to `stop`, or as a context manager.

    Parameters
    ----------
    channels : str or iterable of str, optional
        Ids or patterns (``"rapl:*"``), or ``"replay:PATH"`` to play a saved run; default: every readable channel that
        counts toward a total, and the power beside a GPU's energy counter.
    hz : float or dict of float, optional
        Readings per second, for all sources or by source (``{"rapl": 1000}``); up to a million. Above a few ten
        thousand a source's thread no longer sleeps: it takes a core, and 24 bytes for every sample.
    record : path, optional
        A folder to write samples and windows to while running, in constant memory; needs pyarrow.
    sync : callable, optional
        Called at both edges of every window before its time is taken, e.g. ``torch.cuda.synchronize``: without it, a
        window round asynchronous GPU work measures the launch.
    settle : bool
        At the end, wait for one more update of every counter (at most 250 ms), which tightens the last bounds.
    estimate : (float, float), optional
        Watts of the machine's CPUs at idle and at full load, for the ``procstat`` estimate.
    speed : float
        For a replay: 1 in real time, 2 twice as fast, 0 as fast as it can.
    **seams
        ``powercap_root``, ``nvml_library``, ``hwmon_root``, ``proc_root``, ``event_source_root``, ``grant_socket``; see
        `fastgreen.sensors.channel.Seams`.

    Raises
    ------
    ChannelNotFound, ChannelPermission, ChannelReadError
        For a channel asked for by name. One that was only chosen by default warns (FastgreenWarning).
    ValueError
        For a bad `hz`, `speed` or `estimate`.
    FileExistsError
        When `record` holds a run already.

    Examples
    --------
    >>> import fastgreen as fg
    >>> with fg.Monitor() as monitor:
    ...     work = monitor.window("work")
    ...     for _ in range(3):
    ...         with work:
    ...             _ = sum(range(1000))
    >>> monitor.result.summary()["count"].to_pylist()
    [3]
    """

    def __init__(
        self,
        channels: str | Iterable[str] | None = None,
        hz: float | dict[str, float] | None = None,
        record: str | os.PathLike | None = None,
        sync: Callable[[], object] | None = None,
        *,
        settle: bool = False,
        estimate: tuple[float, float] | None = None,
        speed: float = 1.0,
        **seams: str | os.PathLike | None,
    ) -> None:
        if sync is not None and not callable(sync):
            raise ValueError(f"sync must be callable, not {sync!r}")
        if not (isinstance(speed, (int, float)) and math.isfinite(speed) and speed >= 0):
            raise ValueError(f"speed must be 0 or above, not {speed!r}")
        self._seams = Seams.of(**seams)
        self._settle_ns = _SETTLE_NS if settle else 0
        self._speed = float(speed)
        self._record = os.fspath(record) if record is not None else None
        self._asked: list[str] | None = None
        self._judge = CounterJudge([])
        self._notes: list[str] = []
        self._unsaid: list[str] = []
        self.channels = self._choose(channels, estimate)
        self._hz = rates(hz, self.channels)
        check_wraps(self.channels, self._hz)
        self._say()
        self._groups: list[Group] = []
        self._recorder: Recorder | None = None
        self._lock = threading.RLock()
        self.window_handles = WindowHandles(sync, self._lock)
        self._wake = threading.Event()
        self._drainer: threading.Thread | None = None
        self._state: Literal["new", "running", "stopped", "inert"] = "new"
        self._metadata: dict[str, Any] = {}
        self._reports: dict[str, dict[str, Any]] = {}
        self._result: Result | None = None
        self._start_ns = self._end_ns = 0

    def _choose(self, wanted: str | Iterable[str] | None, estimate: tuple[float, float] | None) -> list[Channel]:
        patterns = self._asked = None if wanted is None else names_of(wanted)
        if patterns and any(p.startswith("replay:") for p in patterns):
            from fastgreen.measuring.replay import replay_channels

            if len(patterns) > 1:
                raise ValueError("a replay is measured alone: give only the one 'replay:PATH'")
            return replay_channels(patterns[0].removeprefix("replay:"), self._speed)
        found, _ = discover(self._seams, estimate)
        self._judge = CounterJudge(found)
        chosen, unreadable = select(found, patterns)
        for channel in unreadable:
            self._note(str(channel.error()))
        return chosen

    def _note(self, text: str) -> None:
        self._notes.append(text)
        self._unsaid.append(text)

    def _say(self) -> None:
        """Warn of what was noted; apart from noting, because a warning can be made an exception."""
        while self._unsaid:
            warnings.warn(self._unsaid.pop(0), FastgreenWarning, stacklevel=3)

    # ---- life ----

    def start(self) -> Monitor:
        """Open the channels and start one sampling thread per source.

        Returns
        -------
        Monitor
            Itself.

        Raises
        ------
        RuntimeError
            When it was started before: a monitor measures once.
        ChannelReadError, ChannelPermission
            When a sensor that was found cannot be opened after all.
        FileExistsError, OSError
            When `record` holds a run already, or cannot be written.
        """
        with self._lock:
            if self._state != "new":
                raise RuntimeError(f"this monitor is {self._state}; a monitor measures once, make another")
            needed = self._asked or [c.id for c in self.channels if c.source == "replay"]
            groups, lost = open_groups(self.channels, self._hz, self._seams.nvml_library, self._speed, needed)
            self.channels = [c for group in groups for c in group.channels]
            for text in self._judge.lose(lost):
                self._note(text)
            # What the end needs loads now: while the interpreter exits, nothing can be imported.
            from fastgreen.measuring import recorder
            from fastgreen.results import resolving, result, run_metadata  # noqa: F401

            self._metadata = run_metadata.run_metadata()
            if self._record is not None:
                self._recorder = recorder.Recorder(self._record, self._metadata, self._channel_table)
            self._groups = groups
            self._start_ns = _core.now_ns()
            self._judge.look()
            for group in groups:
                group.sampler.start(_PATIENCE_NS)
            self._state = "running"
            self.window_handles.open()
            pause_s = min([_DRAIN_S, *(group.full_s / 4 for group in groups)])
            self._drainer = threading.Thread(
                target=_drain_loop, args=(weakref.ref(self), self._wake, pause_s), name="fastgreen-drain", daemon=True
            )
            self._drainer.start()
            _running.add(self)
        return self

    def _channel_table(self) -> pa.Table:
        from fastgreen.results.run_reader import channel_table

        span = (self._start_ns, self._end_ns) if self._state == "stopped" else None
        return channel_table(self._traces(self._reports or None), self._notes, span)

    def stop(self) -> Result | None:
        """Take a last reading of every channel and end. Idempotent, from any thread.

        Windows that are still open end here, and the result's notes say so.

        Returns
        -------
        Result or None
            What was measured; None, with a FastgreenWarning, in the child of a fork, where nothing is.

        Raises
        ------
        RuntimeError
            When it was not started.
        """
        if self._state == "new":
            raise RuntimeError("this monitor was not started")
        if self._state == "inert":
            warnings.warn(
                "this monitor belongs to the parent process; stopping it here does nothing",
                FastgreenWarning,
                stacklevel=2,
            )
            return None
        self._end()
        return self.result

    def _end(self) -> None:
        """The one end of a running monitor: `stop`, the end of a ``with`` block and `__del__` come here."""
        if self._state == "running" and "training_log" in self.__dict__:
            self.training_log.stop()  # outside the lock, because it waits for a thread that reads this monitor
        with self._lock:
            if self._state == "running":
                self._finish()
        _running.discard(self)  # not before: a child that is forked meanwhile must become inert
        self._say()

    def _finish(self) -> None:
        if self._speed == 0.0 and any(c.source == "replay" for c in self.channels):
            self.wait()
        for text in self.window_handles.close():
            self._note(text)
        self._end_ns = _core.now_ns()
        for group in self._groups:
            group.sampler.stop_soon(self._settle_ns)
        for group in self._groups:
            group.sampler.stop(self._settle_ns)
        self._state = "stopped"
        self._wake.set()
        if self._drainer is not None and self._drainer is not threading.current_thread():
            self._drainer.join()
        self._drain()
        self._reports = {identity: report for group in self._groups for identity, report in group.reports().items()}
        self._judge_counters()
        self._note_silence()
        self._close_record()

    def _judge_counters(self) -> None:
        """Find the counters that stood still under load; where none of the CPU's moved, the estimate counts."""
        note = self._judge.decide(self._traces(self._reports), self._recorder, may_replace=self._asked is None)
        if note is not None:
            self._note(note)

    def _note_silence(self) -> None:
        """A channel whose last reading failed was measured up to its last good one only."""
        for channel in self.channels:
            report = self._reports[channel.id]
            silent_s = (self._end_ns - report["end_at_ns"]) / NS_PER_S
            if report["samples"] and not report["why_ended"] and channel.source != "replay" and silent_s > 0:
                reason = report["last_error"] or "unknown reason"
                self._note(f"{channel.id} gave no reading in the last {silent_s:.3g} s: {reason}")

    def _close_record(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
            self._note_problems(self._recorder)
            self._recorder.write_channels(self._channel_table)
            self._note_problems(self._recorder)

    def _note_problems(self, recorder: Recorder) -> None:
        for text in recorder.take_problems():
            self._note(text)

    def __enter__(self) -> Monitor:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    def __del__(self) -> None:
        if getattr(self, "_state", None) == "running":
            warnings.warn(f"{self!r} was dropped while measuring", ResourceWarning, stacklevel=2)
            self._end()

    def __repr__(self) -> str:
        return f"<fastgreen.Monitor {self._state}: {', '.join(c.id for c in self.channels) or 'no channels'}>"

    @property
    def running(self) -> bool:
        """Whether it measures: after `start` and before `stop`."""
        return self._state == "running"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a replay has played everything.

        Returns
        -------
        bool
            False when `timeout` seconds passed before. True at once where nothing is replayed.
        """
        self._check_not_inert()
        deadline = time.monotonic() + timeout if timeout is not None else math.inf
        while not all(g.sampler.finished() for g in self._groups if g.channels[0].source == "replay"):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
            self._drain()
        return True

    # ---- windows ----

    def window(self, name: str) -> _window.Window:
        """A handle for stretches of time whose energy is wanted; use it in the thread that asked for it.

        Parameters
        ----------
        name : str
            What the stretches are called. The same thread and name give the same handle again, unless it is open: then
            a new one, for nesting. Handles of one name are one name in the result.

        Returns
        -------
        Window
            A context manager, with ``begin()`` and ``end()`` for where a block does not fit. Both only store a
            timestamp; a window that is begun twice, or ended without a begin, is a RuntimeError.

        Raises
        ------
        TypeError
            When `name` is no string.
        """
        return self.window_handles.window(name)

    def gpu_window(self, name: str, backend: str | Events = "torch", device: int = 0) -> GpuWindow:
        """A handle as of `window`, whose edges are CUDA events and do not wait for the GPU.

        `backend` is ``"torch"``, ``"cupy"`` or an `Events`, `device` a number as the backend counts; see `GpuWindows`.
        """
        from fastgreen.measuring.gpu_windows import GpuWindows

        with self._lock:
            for late in self.window_handles.late:
                if isinstance(late, GpuWindows) and (late.backend, late.device) == (backend, device):
                    return late.window(name)
            return GpuWindows(self, backend, device).window(name)

    # ---- training ----

    @functools.cached_property
    def training_log(self) -> TrainingLog:
        """The `fastgreen.experiment.TrainingLog` of this monitor's checkpoints, from its start on."""
        from fastgreen.training.log import TrainingLog

        return TrainingLog(self, started_ns=self._start_ns)

    def checkpoint(self, accuracy: float, **values: Any) -> None:
        """Note a moment of a training: accuracy and energy so far. See `fastgreen.experiment.TrainingLog.checkpoint`.

        The table and time to closest APC are asked of `training_log`.
        """
        if self._state != "running":
            raise RuntimeError(f"this monitor is {self._state}; a checkpoint needs one that runs")
        self.training_log.checkpoint(accuracy, **values)

    # ---- numbers ----

    def energy_j(self) -> dict[str, float]:
        """Energy so far. Live: exact counter differences up to each channel's last reading.

        Returns
        -------
        dict of str to float
            J by channel id, counted or not (`Channel.root` says which add up); after `stop` that of the result.
        """
        self._check_not_inert()
        if self._reports:
            return {identity: float(total.energy_j) for identity, total in self.result.totals.items()}
        return {identity: joules for group in self._groups for identity, joules in group.energy_j().items()}

    @property
    def result(self) -> Result:
        """The `Result`, after `stop`. RuntimeError before."""
        self._check_not_inert()
        if self._state != "stopped":
            raise RuntimeError("the result is there after the monitor has stopped; energy_j() is live")
        with self._lock:
            if self._result is None:
                self._result = self._make_result()
            return self._result

    def _check_not_inert(self) -> None:
        if self._state == "inert":
            raise FastgreenError("this monitor belongs to the parent process; after a fork it measures nothing here")

    def _make_result(self) -> Result:
        from fastgreen.measuring.recorder import finished_windows
        from fastgreen.results.result import Result

        traces = self._traces(self._reports)
        windows = functools.partial(finished_windows, self.window_handles.windows)
        return Result(traces, windows, self._metadata, self._start_ns, self._end_ns, self._notes)

    def _traces(self, reports: dict[str, dict[str, Any]] | None) -> list[Trace]:
        from fastgreen.measuring.recorder import kept_chunks

        counted = counted_ids(self.channels)
        kept = {c.id: samples for g in self._groups for c, samples in zip(g.channels, g.samples, strict=True)}
        recorded = self._recorder.samples_path if self._recorder is not None else None
        return [
            Trace(
                replace(c, sensor={}),  # a replay's is the whole recording
                c.id in counted - self._judge.replaced,
                reports[c.id] if reports else {},
                functools.partial(kept_chunks, recorded, c.id, kept.get(c.id, [])),
            )
            for c in self.channels
        ] + self._judge.stand_ins

    # ---- the drainer ----

    def _drain(self) -> None:
        """Move what waits in the rings to memory or to the recording."""
        recorder = self._recorder
        self._judge.look()
        with self._lock:
            for group in self._groups:
                for i, channel in enumerate(group.channels):
                    samples = group.sampler.drain(i)
                    if samples and not (recorder and recorder.add_samples(channel.id, samples)):
                        group.samples[i].append(samples)
            if recorder is not None:
                recorder.add_windows(self.window_handles.windows)
                self._note_problems(recorder)

    def _become_inert(self) -> None:
        self._state = "inert"
        self._lock = threading.RLock()
        self.window_handles.become_inert(self._lock)


def _drain_loop(monitor: weakref.ref[Monitor], wake: threading.Event, pause_s: float) -> None:
    while not wake.wait(pause_s):
        target = monitor()
        if target is None or target._state != "running":
            return
        # While it stops, the lock is held by who waits for this thread to end.
        if target._lock.acquire(blocking=False):
            try:
                target._drain()
            finally:
                target._lock.release()
        with contextlib.suppress(FastgreenWarning):  # made an exception, it must not end this thread
            target._say()
        del target


def _after_fork_in_child() -> None:
    for monitor in list(_running):
        monitor._become_inert()
    _running.clear()


def _stop_all() -> None:
    for monitor in list(_running):
        monitor.window_handles.make_inert()  # other threads may still hold windows; those become no-ops
        with contextlib.suppress(FastgreenWarning):
            monitor.stop()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_stop_all)
