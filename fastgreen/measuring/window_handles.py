"""The windows of one monitor: handles by thread and name, windows of GPUs, and the end of open windows."""

from __future__ import annotations

import sys
import threading

from fastgreen import _window
from fastgreen.errors import FastgreenWarning
from fastgreen.guards.printable import encodable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from fastgreen.measuring.gpu_timeline import Lane
    from fastgreen.measuring.ledger import Ledgers

    class DeferredWindows(Protocol):
        """Windows with edges that are known only later: `GpuWindows`."""

        notes: list[str]

        def finish(self) -> None: ...
        def become_inert(self) -> None: ...


__all__ = ["WindowHandles", "check_sync"]

_TRIED = 8  # handles that are looked at before another one is made


def check_sync(sync: object) -> None:
    """Raise a ValueError if `sync` cannot be called, or is torch's for a device that torch does not see."""
    if sync is None:
        return
    if not callable(sync):
        raise ValueError(f"sync must be callable, not {sync!r}")
    home = getattr(sync, "__module__", None) or ""
    available = getattr(sys.modules.get(home), "is_available", None) if home.startswith("torch.") else None
    if available is not None and not available():
        raise ValueError(
            f"sync must be a function that works here, not {home}.{getattr(sync, '__name__', 'synchronize')}: this "
            "torch sees no device to wait for; leave sync out"
        )


class WindowHandles:
    """Makes windows while the monitor runs, and ends open windows when it stops.

    Attributes
    ----------
    lock : RLock
        The monitor's lock; a caller that adds windows holds it.
    windows : list of Window and Lane
        All windows of the result.
    deferred : list of GpuWindows
        GPU windows; their edges are known after the GPU has done its work.
    notes : list of str
        Sentences about windows that were open at the end, after `close` and `finish_deferred`.
    """

    def __init__(self, sync: Callable[[], object] | None, lock: threading.RLock, keep: str = "samples") -> None:
        self.lock, self._keep = lock, keep
        self.windows: list[_window.Window | Lane] = []
        self._gate = _window.Gate(sync)
        self.ledgers: Ledgers | None = None
        self.deferred: list[DeferredWindows] = []
        self._by_thread: dict[tuple[int, str], _window.Window] = {}
        self._alone = 0  # references to a handle that only this object holds
        self._shelves: dict[tuple[int, str], list[_window.Window]] = {}
        self.state = "new"
        self._ended: dict[int, str] = {}

    def go_live(self, live: object) -> None:
        """What gives the energy of a window while the monitor runs; None from the end on."""
        self._gate.go_live(live)

    def open(self) -> None:
        """Allow windows to begin; the monitor is running."""
        self.state = "running"
        self._gate.open()

    def window(self, name: str) -> _window.Window:
        """Get a window; see `Monitor.window`."""
        if not isinstance(name, str):
            raise TypeError(f"a window's name must be a string, not {name!r}")
        name = encodable(name)
        key = (threading.get_ident(), name)
        window = self._by_thread.get(key)
        if window is not None and not window.is_open:
            window.hand_out()
            return window
        del window  # so that this function does not hold it
        return self._unused(key) or self._made(key)

    def _made(self, key: tuple[int, str]) -> _window.Window:
        window = _window.Window(key[1], self._gate)
        with self.lock:
            self.windows.append(window)
        self._alone = sys.getrefcount(window)
        if key in self._shelves:
            window.put_on(self._shelves[key])
        else:
            self._by_thread[key] = window
        return window

    def _unused(self, key: tuple[int, str]) -> _window.Window | None:
        """Where stretches of this thread and name overlap, a handle that nobody else holds any more."""
        shelf = self._shelves.get(key)
        if shelf is None:
            if key in self._by_thread:
                shelf = self._shelves[key] = []
                self._by_thread.pop(key).put_on(shelf)
            return None
        for _ in range(min(len(shelf), _TRIED)):
            window = shelf.pop(0)
            if window.is_open:  # its holder entered it again, and it comes back to the shelf
                window.take_off()
            elif sys.getrefcount(window) > self._alone:
                shelf.append(window)
            else:
                window.take_off()
                window.hand_out()
                return window
        return None

    def all_ledgers(self) -> Ledgers:
        """The ledgers of the monitor, made with the first."""
        from fastgreen.measuring.ledger import Ledgers

        with self.lock:
            if self.ledgers is None:
                self.ledgers = Ledgers(self._gate, self._keep)
            return self.ledgers

    def finish_ledgers(self) -> None:
        """The last samples were taken out: every share is known."""
        if self.ledgers is not None:
            self.ledgers.finish_live()

    def add_lane(self, lane: Lane) -> None:
        """Add GPU windows after their times are known; the caller holds the lock."""
        self.windows.append(lane)

    def only_windows(self) -> list[_window.Window]:
        """The windows of a monitor that keeps totals, which has no others."""
        return self.windows  # type: ignore[return-value]

    def check_running(self) -> None:
        """Raise a RuntimeError if the monitor is not running, or keeps no windows of GPUs."""
        if self._keep == "totals":
            raise RuntimeError('GPU windows need keep="samples" or record=; this monitor keeps totals only')
        if self.state != "running":
            raise RuntimeError(f"GPU windows need a running monitor; this monitor is {self.state}")

    def close(self) -> None:
        """End the open windows. Idempotent: after an exception the next call ends the rest."""
        self._gate.close()  # first, so that no window of another thread begins from now on
        for i, window in enumerate(self.windows):
            if window.is_open:
                self._ended[i] = f"window {window.name!r} was still open at the end, and was ended there"
                window.end()
        self.state = "stopped"

    def finish_deferred(self) -> None:
        """End GPU windows, after `close`; waits for the GPUs."""
        for windows in self.deferred:
            windows.finish()
        if self.ledgers is not None:
            self.ledgers.end()

    @property
    def notes(self) -> list[str]:
        of_ledgers = self.ledgers.notes if self.ledgers is not None else []
        return [text for windows in self.deferred for text in windows.notes] + [*self._ended.values(), *of_ledgers]

    def make_inert(self) -> None:
        """Make windows do nothing: the interpreter is ending, and other threads may still use them."""
        self._gate.make_inert()

    def become_inert(self, lock: threading.RLock) -> None:
        """Stop measuring in a forked child. It needs a new lock: a thread of the parent may hold the old one."""
        self.state = "inert"
        for windows in self.deferred:
            windows.become_inert()
        text = (
            "windows in this forked process measure nothing: their monitor belongs to the parent process; make a "
            "monitor here, or open the windows in the parent"
        )
        self._gate.make_inert(FastgreenWarning(text))
        self.lock = lock
