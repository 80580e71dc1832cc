"""The end of the program, and forks: running monitors are stopped, and reports are printed.

Python calls this after the traceback of an exception that ended the program, Ctrl-C's as well, and not in a process
that a signal kills.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import weakref

from fastgreen.errors import FastgreenError, FastgreenWarning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from fastgreen.measuring.window_handles import WindowHandles
    from fastgreen.results.result import Result

    class Stops(Protocol):
        """What runs until the program ends: a `Monitor`."""

        window_handles: WindowHandles

        def stop(self) -> Result | None: ...
        def _become_inert(self) -> None: ...


__all__ = ["prepare_arrow", "prepare_report", "report", "running"]

_MOST_INTERRUPTS = 3  # of one monitor's end; after more presses of Ctrl-C the program ends at once

running: weakref.WeakSet[Stops] = weakref.WeakSet()
_to_report: dict[int, Result] = {}


def report(result: Result) -> None:
    """Print this result to stderr when the program ends. Idempotent."""
    _to_report[id(result)] = result


def prepare_report() -> None:
    """Import the modules of a report now: later, those that start threads cannot be imported."""
    from fastgreen.results import console, following, result_tables

    prepare_arrow(console.quantity(1.0, "J"), following.__name__, result_tables.__name__)


def prepare_arrow(*words: str) -> None:
    """Let PyArrow import now what it imports for its first arrays: pandas where there is one, parts of NumPy, dateutil.

    Some of these compile text. At the end of a program, that makes the interpreter forget that Ctrl-C ended it: its
    exit code would be 1.
    """
    import numpy as np
    import pyarrow as pa

    pa.array(words or ["word"]).to_pylist()
    pa.array(np.zeros(1)).to_pylist()


def _after_fork_in_child() -> None:
    for monitor in list(running):
        monitor._become_inert()
    running.clear()
    _to_report.clear()


def _at_exit() -> None:
    for monitor in list(running):
        monitor.window_handles.make_inert()  # other threads may still hold windows; those become no-ops
        for _ in range(_MOST_INTERRUPTS):
            try:
                with contextlib.suppress(FastgreenWarning):
                    monitor.stop()
                break
            except KeyboardInterrupt:  # the program ends already
                continue
    if _to_report:
        with contextlib.suppress(KeyboardInterrupt):
            _print_reports()


def _print_reports() -> None:
    from fastgreen.results.console import people_console, show

    for result in _to_report.values():
        try:
            console = people_console(stderr=True)
            console.print("fastgreen: energy up to the end of the program")
            show(result, console)
        except (FastgreenError, OSError, ValueError) as error:  # its recording was removed, or stderr is closed
            with contextlib.suppress(OSError, ValueError):
                print(f"fastgreen: the report could not be printed: {error}", file=sys.stderr)


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
