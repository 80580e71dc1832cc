# SPDX-License-Identifier: Apache-2.0
"""The result of a monitor that kept totals only: energies of the run, of each window name and of each ledger."""

from __future__ import annotations

from functools import cached_property

from fastgreen.errors import FastgreenError
from fastgreen.results.result import Result
from fastgreen.results.trace import Bounded, Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

    import numpy as np
    import pyarrow as pa

    from fastgreen.results.bounded import Windows
    from fastgreen.results.name_totals import LedgerTotal, WindowTotal

__all__ = ["TotalTrace", "TotalsResult"]


def refuse(wanted: str) -> NoReturn:
    """Raise the one error of a question that needs what was not kept."""
    raise FastgreenError(f'{wanted} need keep="samples" or record=; this monitor kept totals only')


class _NoSamples:
    """In the place of a trace's samples."""

    def __call__(self) -> Iterable[np.ndarray]:
        refuse("samples")


class TotalTrace(Trace):
    """One channel of which the totals are known, and no samples."""

    has_samples = False

    def __init__(self, channel: Any, counted: bool, tally: dict[str, Any], total: Bounded) -> None:
        super().__init__(channel, counted, tally, _NoSamples())
        self._total = total

    @property
    def lied(self) -> bool:
        """False: what the account judged while it ran is all there is."""
        return False

    @cached_property
    def unknown(self) -> list[tuple[int, int]]:
        """Nothing: what was unknown has widened the totals already."""
        return []

    @cached_property
    def in_turn(self) -> tuple[int, int] | None:
        return None

    @cached_property
    def pauses(self) -> list[Any]:
        return []

    @property
    def jumps(self) -> int:
        return int(self.tally.get("jumps", 0))

    def total(self) -> Bounded:
        return self._total


class TotalsResult(Result):
    """A `Result` without samples: energies, channels, summary and ledgers, of a run of any length.

    A question that needs samples raises a FastgreenError. The percentiles of the tables are null.
    """

    def __init__(
        self,
        traces: list[TotalTrace],
        windows: list[WindowTotal],
        ledgers: list[LedgerTotal],
        metadata: dict[str, Any],
        start_ns: int,
        end_ns: int,
        notes: list[str],
    ) -> None:
        super().__init__(list(traces), [], metadata, start_ns, end_ns, notes)
        self._window_totals, self._ledger_totals = windows, ledgers

    @cached_property
    def totals(self) -> dict[str, Bounded]:
        return {t.channel.id: t.total() for t in self.traces}

    @property
    def names(self) -> list[str]:
        return [w.name for w in self._window_totals]

    @property
    def ledger_names(self) -> list[str]:
        return [ledger.name for ledger in self._ledger_totals]

    @property
    def _unions(self) -> dict[str, Bounded]:  # type: ignore[override]
        return {w.name: w.union for w in self._window_totals if w.union is not None}

    def stretches(self) -> dict[str, list[Windows]]:
        """The names; their stretches were not kept."""
        return {name: [] for name in self.names}

    def summary(self) -> pa.Table:
        from fastgreen.results import total_tables

        return total_tables.summary_table(self, self._window_totals)

    @cached_property
    def ledgers(self) -> pa.Table:
        from fastgreen.results import total_tables

        return total_tables.ledger_table(self._ledger_totals)

    # ---- what was not kept ----

    def samples(self, channel: str | None = None) -> pa.Table:
        refuse("samples")

    def windows(self, name: str | None = None, per_channel: bool = False) -> pa.Table:
        refuse("the energies of single windows")

    def power(self, step_s: float | None = None, per_channel: bool = False) -> pa.Table:
        refuse("powers over time")

    def energy_between(self, begin_ns: Any, end_ns: Any) -> Bounded:
        refuse("energies between two instants")

    def spans(self, name: str, by: Any = None) -> pa.Table:
        refuse("single spans")

    def share(self, *args: Any, **options: Any) -> pa.Table:
        refuse("shares of other spans")

    def save(self, path: Any) -> None:
        refuse("saved runs")

    @property
    def following(self) -> Any:  # type: ignore[override]
        refuse("estimates that follow the load")
