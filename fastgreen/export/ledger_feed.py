# SPDX-License-Identifier: Apache-2.0
"""Final spans of all ledgers of a monitor, passed on to an exporter."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastgreen.measuring.final_spans import FinalSpan
    from fastgreen.measuring.monitor import Monitor

    Add = Callable[[str, float, Mapping[str, float]], None]

__all__ = ["LedgerFeed"]


class LedgerFeed:
    """Listens to each ledger from the first look at it on.

    Parameters
    ----------
    add : callable
        Called with the ledger's name, J and amounts of each final span, in a thread of the ledger.
    """

    def __init__(self, add: Add) -> None:
        self._add = add
        self._heard: dict[str, object] = {}
        self.closed = False

    def look(self, monitor: Monitor) -> None:
        """Listen to ledgers that are new."""
        ledgers = monitor.window_handles.ledgers
        for ledger in list(ledgers.by_name.values()) if ledgers is not None else []:
            if self._heard.get(ledger.name) is not ledger:
                self._heard[ledger.name] = ledger
                ledger.on_final(self._take)

    def _take(self, span: FinalSpan) -> None:
        if not self.closed:
            self._add(span.ledger, float(span.energy.energy_j), span.amounts)
