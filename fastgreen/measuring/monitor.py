"""The monitor: starts the sampling threads, empties their rings, keeps the windows, and hands over the result.

Nothing here is on a hot path: sampling is C threads, windows are two timestamps in C; one Python thread (see
`fastgreen.measuring.live_run`) wakes a few times a second to move samples from the rings to memory or to the disk.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
import warnings

from fastgreen import _window
from fastgreen.errors import FastgreenError, FastgreenWarning
from fastgreen.guards.arguments import number, path_text
from fastgreen.measuring import at_exit
from fastgreen.measuring.notes import Notes
from fastgreen.measuring.rates import check_wraps, rates
from fastgreen.measuring.source_sampler import Group, open_groups
from fastgreen.measuring.standstill import CounterJudge
from fastgreen.measuring.window_handles import WindowHandles, check_sync
from fastgreen.sensors.board_notes import board_notes
from fastgreen.sensors.catalog import discover, names_of, select
from fastgreen.sensors.channel import Channel, Seams
from fastgreen.sensors.counter_identity import boot_id, machine_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal, NoReturn

    from fastgreen import _steps
    from fastgreen.measuring.gpu_timeline import Events
    from fastgreen.measuring.gpu_windows import GpuWindow
    from fastgreen.measuring.live_run import LiveRun
    from fastgreen.measuring.source_sampler import Reading
    from fastgreen.results.result import Result
    from fastgreen.training.log import TrainingLog

__all__ = ["Monitor"]

_SETTLE_NS = 250_000_000


class Monitor:
    """Measures energy from `start` to `stop`, or as a context manager.

    Parameters
    ----------
    channels : str or iterable of str, optional
        Ids, patterns (``"rapl:*"``) or the words ``"gpu"`` (GPU boards), ``"cpu"`` (CPU packages, or the estimate
        where no package can be read) and ``"dram"`` (memory); or ``"replay:PATH"`` to play a saved run. Default: every
        readable channel that counts toward a total, and the power beside a GPU's energy counter.
    hz : float or dict of float, optional
        Readings per second, for all sources or by source (``{"rapl": 1000}``); up to a million. Above a few ten
        thousand a source's thread no longer sleeps: it takes a core, and 24 bytes for every sample.
    record : path, optional
        A folder to write samples and windows to while running, in constant memory; needs pyarrow. Under a launcher
        (torchrun, srun, mpirun) each rank writes to its own folder in it, named after host and rank,
        and `fastgreen.load` opens the folder of all. ``{rank}``,
        ``{host}``, ``{time}`` and ``{pid}`` may be in the path; one with ``{time}`` gets a number where it is taken.
    sync : callable, optional
        Called at both edges of every window before its time is taken, e.g. ``torch.cuda.synchronize``: without it, a
        window around asynchronous GPU work measures the launch.
    settle : bool
        At the end, wait for one more update of every counter (at most 250 ms), which tightens the last bounds.
    estimate : (float, float), optional
        Watts of the machine's CPUs at idle and at full load, for the ``procstat`` estimate.
    dither : bool, optional
        Whether the time between two readings varies from half to one and a half of ``1 / hz``, around the same mean.
        Then no loop keeps step with the readings, and the energy of short windows is known better. Default: for a
        source whose counters all update faster than they are read. Elsewhere it does harm.
    speed : float
        For a replay: 1 in real time, 2 twice as fast, 0 as fast as it can.
    report_on_exit : bool
        Print the report to stderr when the program ends, also by Ctrl-C or another exception that it does not catch. A
        program that a signal kills, as SIGTERM does unless the program handles it, prints nothing; `record` keeps what
        it measured.
    keep : "samples" or "totals"
        With ``"totals"`` the monitor runs for months in constant memory without `record`: it keeps the energies of the
        run, of each window name and of each ledger. The result has no samples, single windows or single spans.
    **seams
        ``powercap_root``, ``nvml_library``, ``hwmon_root``, ``proc_root``, ``event_source_root``, ``grant_socket``,
        ``cpu_root``, ``power_supply_root``, ``amdsmi_library``, ``kfd_root``; see `fastgreen.sensors.channel.Seams`.

    Raises
    ------
    ChannelNotFound, ChannelPermission, ChannelReadError
        For a channel asked for by name. One that was only chosen by default warns (FastgreenWarning).
    ValueError
        For a bad `hz`, `speed`, `dither`, `estimate` or `keep`, or for `record` with ``keep="totals"``.
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
        dither: bool | None = None,
        speed: float = 1.0,
        report_on_exit: bool = False,
        keep: Literal["samples", "totals"] = "samples",
        **seams: str | os.PathLike | None,
    ) -> None:
        check_sync(sync)
        if dither not in (None, True, False):
            raise ValueError(f"dither must be True, False or None, not {dither!r}")
        if keep not in ("samples", "totals"):
            raise ValueError(f'keep must be "samples" or "totals", not {keep!r}')
        if keep == "totals" and record is not None:
            raise ValueError('keep must be "samples" where record is given, not "totals"')
        if not (isinstance(speed, (int, float)) and 0 <= speed < math.inf):
            raise ValueError(f"speed must be 0 or above, not {speed!r}")
        self._seams = Seams.of(**seams)
        self._settle_ns = _SETTLE_NS if settle else 0
        self._speed = number("speed", speed)
        self._dither = dither
        self._record = path_text("record", record) if record is not None else None
        self._notes = Notes()
        self._asked: list[str] | None = None
        self._judge = CounterJudge([])
        self._identity: tuple[str, dict[str, str]] = "", {}
        self.channels = self._choose(channels, estimate)
        self._hz = rates(hz, self.channels)
        check_wraps(self.channels, self._hz)
        self._notes.say()
        self._groups: list[Group] = []
        self._run: LiveRun | None = None
        self._lock = threading.RLock()
        self._keep = keep
        self.window_handles = WindowHandles(sync, self._lock, keep)
        self._state: Literal["new", "running", "stopping", "stopped", "inert"] = "new"
        self._ending = False
        self._report_on_exit = report_on_exit
        if report_on_exit:
            at_exit.prepare_report()

    def _choose(self, wanted: str | Iterable[str] | None, estimate: tuple[float, float] | None) -> list[Channel]:
        patterns = self._asked = None if wanted is None else names_of(wanted)
        if patterns and any(p.startswith("replay:") for p in patterns):
            from fastgreen.measuring.replay import replay_channels

            if len(patterns) > 1:
                raise ValueError("a replay is measured alone: give only the one 'replay:PATH'")
            return replay_channels(patterns[0].removeprefix("replay:"), self._speed)
        found, _ = discover(self._seams, estimate)
        self._judge = CounterJudge(found)
        self._identity = boot_id(self._seams.proc_root), machine_of(found, self._seams.proc_root)
        chosen, unreadable = select(found, patterns)
        for channel in unreadable:
            self._notes.add(str(channel.error()))
        for text in board_notes(found, chosen, by_default=patterns is None):
            self._notes.add(text, warn=False)
        return chosen

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
                raise RuntimeError(f"this monitor is {self._state}; a monitor measures only once, so make another one")
            needed = self._asked or [c.id for c in self.channels if c.source == "replay"]
            groups, lost = open_groups(
                self.channels, self._hz, self._seams.nvml_library, self._speed, needed, self._dither
            )
            self.channels = [c for group in groups for c in group.channels]
            for text in self._judge.lose(lost):
                self._notes.add(text)
            # What the end needs loads now: while the interpreter exits, nothing can be imported.
            from fastgreen.measuring.live_run import LiveRun
            from fastgreen.results import resolving  # noqa: F401

            run = LiveRun(
                self.channels,
                groups,
                self.window_handles,
                self._notes,
                self._record,
                self._judge,
                self._asked is None,
                self._identity,
                self._keep,
            )
            self._groups, self._run = groups, run
            self._state = "running"  # from here on, also of a start that an exception cuts, there is an end to make
            at_exit.running.add(self)
            run.start()
            if self.window_handles.ledgers is not None:  # those that were asked for before
                self.window_handles.ledgers.go_live(run)
        return self

    def stop(self) -> Result | None:
        """Take a last reading of every channel and end. Any thread may call it; a second call does nothing.

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
        """The one end of a running monitor: of `stop`, a ``with`` block, the program, and a monitor that is dropped.

        An exception at any instruction, as Ctrl-C raises one, leaves an end that the next call completes.
        """
        self._ending = True
        if self._state == "running":
            if "training_log" in self.__dict__:
                self.training_log.stop()  # outside the lock, because it waits for a thread that reads this monitor
            if self._speed == 0.0:
                self.wait()
            with self._lock:
                if self._state == "running":  # another thread may have come further
                    self._state = "stopping"
        if self._state == "stopping" and self._run is not None:
            with self._lock:
                self._run.ask_to_end(self._settle_ns)
            self._run.wait_for_end()  # without the lock, which a signal handler's stop may find held by this thread
            if self._run.ended:
                self._state = "stopped"
        if self._report_on_exit and self._state == "stopped":
            at_exit.report(self.result)
        at_exit.running.discard(self)  # not before: a child that is forked meanwhile must become inert
        self._notes.say(3)

    def __enter__(self) -> Monitor:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    def __del__(self) -> None:
        state = getattr(self, "_state", None)
        if state == "running":
            warnings.warn(f"{self!r} was deleted while it was measuring", ResourceWarning, stacklevel=2)
        if state in ("running", "stopping"):
            self._end()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a monitor cannot be pickled or copied: it measures in this process; take its result instead")

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
        deadline = time.monotonic() + number("timeout", timeout) if timeout is not None else math.inf
        while not all(g.sampler.finished() for g in self._groups if g.channels[0].source == "replay"):
            if time.monotonic() >= deadline:
                return False
            if self._run is not None:
                self._run.poke()
            time.sleep(0.005)
        return True

    @property
    def folder(self) -> str | None:
        """The folder that it records to; None without `record`, and before `start`."""
        return self._run.folder if self._run is not None else None

    # ---- windows ----

    def window(self, name: str) -> _window.Window:
        """A handle for windows of this name; use it in the thread that asked for it.

        Parameters
        ----------
        name : str
            What the stretches are called. The same thread and name give the same handle again, unless it is open: then
            another one, for nesting and for tasks. A handle that nobody holds any more is used again. Handles of one
            name are one name in the result. Where stretches of a name overlap, each holds the same energy, and the
            result says so: use a `ledger` for their shares. Half a surrogate pair, which no file can hold, becomes its
            escape.

        Returns
        -------
        Window
            A context manager, with ``begin()`` and ``end()`` for where a block does not fit. Both only store a
            timestamp; a window that is begun twice, or ended without a begin, is a RuntimeError. ``add(tokens=128)``
            counts the work of the stretch that is open: the result has its joules per token.

        Raises
        ------
        TypeError
            When `name` is no string.
        """
        return self.window_handles.window(name)

    def gpu_window(self, name: str, backend: str | Events = "torch", device: int = 0) -> GpuWindow:
        """A handle like that of `window`, with CUDA events as edges, which do not wait for the GPU.

        `backend` is ``"torch"``, ``"cupy"`` or an `Events`, `device` a number as the backend counts; see `GpuWindows`.
        """
        from fastgreen.measuring.gpu_windows import GpuWindows

        with self._lock:
            for windows in self.window_handles.deferred:
                if isinstance(windows, GpuWindows) and (windows.backend, windows.device) == (backend, device):
                    return windows.window(name)
            return GpuWindows(self, backend, device).window(name)

    def ledger(
        self,
        name: str,
        channels: str | Iterable[str] | None = None,
        baseline_w: float | dict[str, float] | None = None,
        weights: Literal["known", "at close"] = "known",
        patience: float = 60,
    ) -> _steps.SteppedLedger:
        """A ledger for work that overlaps: its spans share the energy, and the shares add up.

        Parameters
        ----------
        name : str
            The same name gives the same ledger again.
        channels : str or iterable of str, optional
            Ids or patterns of the channels to share; those of the total by default.
        baseline_w : float or dict of float, optional
            Power that is set apart before, in W, of all channels together or by channel.
        weights : "known" or "at close"
            Whether a weight counts from when it is set, or a stretch has the weight that it ends with.
        patience : float
            Seconds after which an open span of weights "at close" counts with the weight that it has.

        Returns
        -------
        Ledger
            ``with ledger.span(id):`` or ``async with ledger.span(id):``, or ``ledger.open(id)`` and ``close()``, from
            any thread or task. `Result.spans` has their energy.

        Raises
        ------
        ChannelNotFound
            For a channel that this monitor does not read.
        ValueError
            For a bad `weights`, `baseline_w` or `patience`, or a ledger of this name with others.
        """
        from fastgreen.measuring.ledger import listed

        self._check_not_inert()
        wanted = listed(channels)
        if wanted is not None:
            select(self.channels, wanted)
        with self._lock:
            ledgers = self.window_handles.all_ledgers()
            if self._run is not None and self._state == "running":
                ledgers.go_live(self._run)
            return ledgers.ledger(name, wanted, baseline_w, weights, patience)

    # ---- training ----

    @functools.cached_property
    def training_log(self) -> TrainingLog:
        """The `fastgreen.experiment.TrainingLog` of this monitor's checkpoints, from its start on.

        RuntimeError before `start`.
        """
        from fastgreen.training.log import TrainingLog

        if self._run is None:
            raise RuntimeError("this monitor was not started; a training log needs one that was")
        with self._lock:  # two threads get one log
            if (log := self.__dict__.get("training_log")) is None:
                log = self.__dict__["training_log"] = TrainingLog(self, started_ns=self._run.start_ns)
        if not self.running:
            log.stop()
        return log

    def checkpoint(self, accuracy: float, **values: Any) -> None:
        """Note a moment of a training: accuracy and energy so far. See `fastgreen.experiment.TrainingLog.checkpoint`.

        The table and time to closest APC are asked of `training_log`.
        """
        if self._state != "running":
            raise RuntimeError(f"this monitor is {self._state}; a checkpoint needs a running monitor")
        self.training_log.checkpoint(accuracy, **values)

    # ---- numbers ----

    def energy_j(self) -> dict[str, float]:
        """Energy so far by channel, in J: exact differences of counters, up to each channel's last reading.

        Returns
        -------
        dict of str to float
            J by channel id, counted or not (`Channel.root` says which add up); after `stop` that of the result.
        """
        self._check_not_inert()
        if self._run is not None and self._run.ended:
            return {identity: float(total.energy_j) for identity, total in self.result.totals.items()}
        return {identity: reading.energy_j for identity, reading in self.readings().items()}

    def readings(self) -> dict[str, Reading]:
        """The last reading of each channel: energy so far and its instant. It reads no sensor.

        Returns
        -------
        dict of str to Reading
            By channel id: ``energy_j`` in J since the start, ``at_ns`` in ns of CLOCK_MONOTONIC (0 before the first
            reading).
        """
        self._check_not_inert()
        return {identity: reading for group in self._groups for identity, reading in group.readings().items()}

    @property
    def finished_result(self) -> Callable[[], Result | None]:
        """A function that returns the result once this run has ended, and None before.

        It keeps the measurement alive and not the monitor. RuntimeError before `start`.
        """
        if self._run is None:
            raise RuntimeError("this monitor was not started")
        return self._run.result

    @property
    def result(self) -> Result:
        """The `Result`, after `stop`; RuntimeError before. It completes a `stop` that an exception interrupted."""
        self._check_not_inert()
        if self._ending and self._state != "stopped":
            self._end()
        if self._run is None or self._state != "stopped":
            raise RuntimeError("the result exists only after the monitor has stopped; energy_j() works while it runs")
        result = self._run.result()
        assert result is not None
        return result

    def _check_not_inert(self) -> None:
        if self._state == "inert":
            raise FastgreenError("this monitor belongs to the parent process; after a fork it does not measure here")

    def _become_inert(self) -> None:
        self._state = "inert"
        self._lock = threading.RLock()
        self.window_handles.become_inert(self._lock)
