"""Spans whose share is known: what a callback gets, and the thread that calls it.

Callbacks run in a thread of their own, so that a slow one delays neither the sampling nor the emptying of the rings.
"""

from __future__ import annotations

import contextlib
import queue
import threading

from fastgreen._light_dataclass import dataclass
from fastgreen.units import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastgreen.results.trace import Bounded

__all__ = ["Deliveries", "FinalSpan", "final_span"]

_MOST = 100_000  # spans that wait for a callback; more are left out and counted
_PATIENCE_S = 5.0  # at the end of the run


@dataclass
class FinalSpan:
    """A span that is closed and whose share does not change any more.

    Attributes
    ----------
    ledger : str
    id : str, int or bytes
    start_ns, end_ns : int
        CLOCK_MONOTONIC.
    weight : float
        The last one.
    amounts : dict of str to float
        The sums of all phases.
    phases : list of (str or None, int, int, dict)
        Name, begin and end (ns) and amounts of each piece.
    energy : Bounded
        ``energy_j``, ``low_j`` and ``high_j`` in J, without the baseline.
    """

    ledger: str
    id: str | int | bytes
    start_ns: int
    end_ns: int
    weight: float
    amounts: dict[str, float]
    phases: list[tuple[str | None, int, int, dict[str, float]]]
    energy: Bounded


def final_span(ledger: str, row: tuple[Any, ...], energy: Bounded) -> FinalSpan:
    """From what `Span.row` gave."""
    _, identity, begin_ns, end_ns, weight, pieces = row
    pieces = pieces or [(begin_ns, None, weight, None)]
    ends = [*(piece[0] for piece in pieces[1:]), end_ns]
    phases = [
        (phase, start_ns, end, dict(done or {})) for (start_ns, phase, _, done), end in zip(pieces, ends, strict=True)
    ]
    amounts: dict[str, float] = {}
    for *_, done in phases:
        for name, value in done.items():
            amounts[name] = amounts.get(name, 0.0) + value
    return FinalSpan(ledger, identity, begin_ns, end_ns, weight, amounts, phases, energy)


class Deliveries:
    """Calls functions with final spans, one span after the other."""

    def __init__(self, ledger: str) -> None:
        self._of = f"of ledger {ledger!r}"
        self._callbacks: list[Callable[[FinalSpan], object]] = []
        self._waiting: queue.Queue[FinalSpan | None] = queue.Queue(_MOST)
        self._thread: threading.Thread | None = None
        self._left_out = self._failed = 0
        self._why = ""

    def add(self, callback: Callable[[FinalSpan], object]) -> None:
        self._callbacks.append(callback)

    @property
    def wanted(self) -> bool:
        """Whether there is a callback."""
        return bool(self._callbacks)

    def put(self, span: FinalSpan) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="fastgreen-spans", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            self._left_out += 1

    def finish(self) -> None:
        """Wait until the callbacks had all spans, for some seconds at most."""
        if self._thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_PATIENCE_S)
        self._thread.join(_PATIENCE_S)
        self._left_out += self._waiting.qsize()

    def _work(self) -> None:
        while (span := self._waiting.get()) is not None:
            for callback in list(self._callbacks):
                try:
                    callback(span)
                except Exception as error:
                    self._failed += 1
                    self._why = f"{type(error).__name__}: {error}"

    @property
    def notes(self) -> list[str]:
        out = []
        if self._failed:
            out.append(
                f"a callback {self._of} failed for {counted(self._failed, 'span')}, the last time by {self._why}"
            )
        if self._left_out:
            out.append(f"a callback {self._of} was too slow: {counted(self._left_out, 'span')} did not reach it")
        return out
