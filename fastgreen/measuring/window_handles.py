"""The windows of one monitor: handles by thread and name, windows of GPUs, and the end of open windows."""

from __future__ import annotations

import threading

from fastgreen import _window
from fastgreen.guards.printable import encodable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from fastgreen.measuring.gpu_timeline import Lane

    class LateWindows(Protocol):
        """Windows with edges that are known only later: `GpuWindows`."""

        notes: list[str]

        def finish(self) -> None: ...
        def become_inert(self) -> None: ...


__all__ = ["WindowHandles"]


class WindowHandles:
    """Hands out windows while the monitor runs, and ends those that are open when it stops.

    Attributes
    ----------
    lock : RLock
        The monitor's lock; a caller that adds windows holds it.
    windows : list of Window and Lane
        Everything whose stretches the result holds.
    late : list of GpuWindows
        What ends with the monitor.
    notes : list of str
        After `close` and `finish_late`: windows that were open then.
    """

    def __init__(self, sync: Callable[[], object] | None, lock: threading.RLock) -> None:
        self.lock = lock
        self.windows: list[_window.Window | Lane] = []
        self._gate = _window.Gate(sync)
        self.late: list[LateWindows] = []
        self._by_thread: dict[tuple[int, str], _window.Window] = {}
        self.state = "new"
        self._ended: dict[int, str] = {}

    def open(self) -> None:
        """The monitor runs: windows may begin."""
        self.state = "running"
        self._gate.open()

    def window(self, name: str) -> _window.Window:
        """See `Monitor.window`."""
        if not isinstance(name, str):
            raise TypeError(f"a window's name must be a string, not {name!r}")
        name = encodable(name)
        key = (threading.get_ident(), name)
        window = self._by_thread.get(key)
        if window is None or window.is_open:
            window = _window.Window(name, self._gate)
            with self.lock:
                self.windows.append(window)
                self._by_thread[key] = window
        return window

    def add_lane(self, lane: Lane) -> None:
        """Take in windows that were placed afterwards; the caller holds the lock."""
        self.windows.append(lane)

    def check_running(self) -> None:
        """RuntimeError if the monitor does not run."""
        if self.state != "running":
            raise RuntimeError(f"GPU windows need a running monitor; this monitor is {self.state}")

    def close(self) -> None:
        """End the open windows. Idempotent: after an exception the next call ends the rest."""
        self._gate.close()  # first, so that no window of another thread begins meanwhile
        for i, window in enumerate(self.windows):
            if window.is_open:
                self._ended[i] = f"window {window.name!r} was still open at the end, and was ended there"
                window.end()
        self.state = "stopped"

    def finish_late(self) -> None:
        """End the windows of GPUs, after `close`; this waits for the GPUs."""
        for late in self.late:
            late.finish()

    @property
    def notes(self) -> list[str]:
        return [text for late in self.late for text in late.notes] + list(self._ended.values())

    def make_inert(self) -> None:
        """While the interpreter ends, windows of threads that still run do nothing."""
        self._gate.make_inert()

    def become_inert(self, lock: threading.RLock) -> None:
        """In a forked child nothing is measured. The parent's lock may be held by a thread that is not here."""
        self.state = "inert"
        for late in self.late:
            late.become_inert()
        self.make_inert()
        self.lock = lock
