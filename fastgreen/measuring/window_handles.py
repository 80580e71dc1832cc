"""The windows of one monitor: handles by thread and name, windows of GPUs, and what happens to open ones at the end."""

from __future__ import annotations

import threading

from fastgreen import _window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from fastgreen.measuring.gpu_timeline import Lane

    class LateWindows(Protocol):
        """Windows whose edges are known only after a while: `GpuWindows`."""

        def finish(self) -> list[str]: ...
        def become_inert(self) -> None: ...


__all__ = ["WindowHandles"]


class WindowHandles:
    """Hands out windows while the monitor runs, and ends those that are open when it stops.

    Attributes
    ----------
    lock : RLock
        The monitor's; whoever adds windows holds it.
    windows : list of Window and Lane
        Everything whose stretches the result holds.
    late : list of GpuWindows
        What ends with the monitor.
    """

    def __init__(self, sync: Callable[[], object] | None, lock: threading.RLock) -> None:
        self.lock = lock
        self.windows: list[_window.Window | Lane] = []
        self._gate = _window.Gate(sync)
        self.late: list[LateWindows] = []
        self._by_thread: dict[tuple[int, str], _window.Window] = {}
        self.state = "new"

    def open(self) -> None:
        """The monitor runs: windows may begin."""
        self.state = "running"
        self._gate.open()

    def window(self, name: str) -> _window.Window:
        """See `Monitor.window`."""
        if not isinstance(name, str):
            raise TypeError(f"a window's name must be a string, not {name!r}")
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
            raise RuntimeError(f"GPU windows need a running monitor; this one is {self.state}")

    def close(self) -> list[str]:
        """End what is open. Returns notes for the result."""
        self._gate.close()  # first, so that no window of another thread begins meanwhile
        notes = [text for late in self.late for text in late.finish()]
        for window in self.windows:
            if window.is_open:
                window.end()
                notes.append(f"window {window.name!r} was still open at the end of the measurement and ended there")
        self.state = "stopped"
        return notes

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
