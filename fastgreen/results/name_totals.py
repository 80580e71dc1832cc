# SPDX-License-Identifier: Apache-2.0
"""Sums of all windows of a name and of all spans of a ledger."""

from __future__ import annotations

from fastgreen._light_dataclass import dataclass, field
from fastgreen.results.quantiles import Quantiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.results.bounded import Bounded

__all__ = ["LedgerTotal", "PhaseTotal", "WindowTotal"]


@dataclass
class WindowTotal:
    """All stretches of one window name together; `union` is the energy of their union where they overlap."""

    name: str
    count: int = 0
    time_ns: int = 0
    amounts: dict[str, float] = field(default_factory=dict)
    energy: Bounded | None = None
    union: Bounded | None = None
    durations_s: Quantiles = field(default_factory=Quantiles)


@dataclass
class PhaseTotal:
    """One phase of all spans of a ledger together."""

    count: int = 0
    amounts: dict[str, float] = field(default_factory=dict)
    energy: Bounded | None = None
    energies_j: Quantiles = field(default_factory=Quantiles)


@dataclass
class LedgerTotal:
    """All closed spans of one ledger together; the energies are those of spans whose share is known."""

    name: str
    count: int = 0
    time_ns: int = 0
    amounts: dict[str, float] = field(default_factory=dict)
    energy: Bounded | None = None
    unattributed_j: float | None = None
    baseline_j: float = 0.0
    channels: list[str] = field(default_factory=list)
    window_factor: float | None = None
    rule: str = ""
    energies_j: Quantiles = field(default_factory=Quantiles)
    per_amount_j: dict[str, Quantiles] = field(default_factory=dict)
    phases: dict[str, PhaseTotal] = field(default_factory=dict)
