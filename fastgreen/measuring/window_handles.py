"""The windows of one monitor: handles by thread and name, windows of GPUs, and what happens to open ones at the end."""

from __future__ import annotations

import threading

from fastgreen import _window
from fastgreen.guards.printable import encodable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from fastgreen.measuring.gpu_timeline import Lane
    from fastgreen.measuring.ledger import Ledgers

    class LateWindows(Protocol):
        """Windows whose edges are known only after a while: `GpuWindows`."""

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
    ledgers : Ledgers or None
        Those of the monitor, if it has any.
    notes : list of str
        After `close` and `finish_late`: windows that were open then.
    """

    def __init__(self, sync: Callable[[], object] | None, lock: threading.RLock) -> None:
        self.lock = lock
        self.windows: list[_window.Window | Lane] = []
        self._gate = _window.Gate(sync)
        self.ledgers: Ledgers | None = None
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

    def all_ledgers(self) -> Ledgers:
        """The ledgers of the monitor, made with the first."""
        from fastgreen.measuring.ledger import Ledgers

        with self.lock:
            if self.ledgers is None:
                self.ledgers = Ledgers(self._gate)
            return self.ledgers

    def add_lane(self, lane: Lane) -> None:
        """Take in windows that were placed afterwards; the caller holds the lock."""
        self.windows.append(lane)

    def check_running(self) -> None:
        """RuntimeError if the monitor does not run."""
        if self.state != "running":
            raise RuntimeError(f"GPU windows need a running monitor; this one is {self.state}")

    def close(self) -> None:
        """End what is open. Idempotent: after an exception the next call ends the rest."""
        self._gate.close()  # first, so that no window of another thread begins meanwhile
        for i, window in enumerate(self.windows):
            if window.is_open:
                self._ended[i] = f"window {window.name!r} was still open at the end of the measurement and ended there"
                window.end()
        self.state = "stopped"

    def finish_late(self) -> None:
        """End the windows of GPUs, after `close`; this waits for the GPUs."""
        for late in self.late:
            late.finish()
        if self.ledgers is not None:
            self.ledgers.end()

    @property
    def notes(self) -> list[str]:
        of_ledgers = self.ledgers.notes if self.ledgers is not None else []
        return [text for late in self.late for text in late.notes] + list(self._ended.values()) + of_ledgers

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
