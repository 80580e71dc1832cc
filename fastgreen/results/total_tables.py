# SPDX-License-Identifier: Apache-2.0
"""The tables of totals: the columns of `Result.summary` and `Result.ledgers`, null where single values are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgreen.results import result_tables, span_tables
from fastgreen.results.quantiles import Quantiles
from fastgreen.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from fastgreen.results.bounded import Bounded
    from fastgreen.results.energies import Energies
    from fastgreen.results.name_totals import LedgerTotal, PhaseTotal, WindowTotal

__all__ = ["ledger_table", "summary_table"]

_NO_INTERVAL = "only totals were kept"


def _three(energy: Bounded | None) -> list[float | None]:
    if energy is None:
        return [None] * 3
    return [float(x) for x in (energy.energy_j, energy.low_j, energy.high_j)]


def _over(values: list[float | None], count: float | None) -> list[float | None]:
    return [x / count if x is not None and count and count > 0 else None for x in values]


def summary_table(result: Energies, windows: Sequence[WindowTotal]) -> pa.Table:
    """A row per window name."""
    amounts = list(dict.fromkeys(amount for w in windows for amount in w.amounts))
    rows = []
    for w in windows:
        energies, seconds = _three(w.energy), w.time_ns / NS_PER_S
        per_amount = [x for name in amounts for x in (w.amounts.get(name), *_over(energies, w.amounts.get(name)))]
        row = (
            *(w.name, w.count),
            *energies,
            *_over(energies, w.count),
            *_over(energies[:1], seconds),
            seconds,
            *w.durations_s.percentiles(50, 95, 99),
            *(result.estimated, result.bounds),
            *(None, None),
            "even",
            _NO_INTERVAL,
            *_three(w.union),
            *per_amount,
        )
        rows.append(row)
    return result_tables.summary_rows(rows, amounts)


def ledger_table(ledgers: Sequence[LedgerTotal]) -> pa.Table:
    """A row per ledger and phase, and one for each name of its amounts."""
    rows: list[tuple[Any, ...]] = []
    for ledger in (found for found in ledgers if found.count):
        rest = ledger.unattributed_j, ledger.window_factor
        rows.append(_row(ledger.name, None, None, ledger, ledger.energies_j, *rest))
        for amount in ledger.amounts:
            rows.append(_row(ledger.name, None, amount, ledger, ledger.per_amount_j.get(amount)))
        for name, phase in ledger.phases.items():
            rows.append(_row(ledger.name, name, None, phase, phase.energies_j))
            rows += [_row(ledger.name, name, amount, phase, None) for amount in phase.amounts]
    baselines = {ledger.name: ledger.baseline_j for ledger in ledgers}
    return span_tables.ledger_rows(rows, {ledger.name: ledger.rule for ledger in ledgers}, baselines)


def _row(
    ledger: str,
    phase: str | None,
    amount: str | None,
    total: LedgerTotal | PhaseTotal,
    values: Quantiles | None,
    unattributed_j: float | None = None,
    factor: float | None = None,
) -> tuple[Any, ...]:
    energies = _three(total.energy)
    count = float(total.count) if amount is None else total.amounts[amount]
    marks = (values or Quantiles()).percentiles(50, 95, 99)
    head = (ledger, phase, amount, total.count, count)
    return (*head, *energies, *_over(energies, count), *marks, unattributed_j, factor, None, None, "even", _NO_INTERVAL)
