# SPDX-License-Identifier: Apache-2.0
"""Sums of all windows of a name and of all spans of a ledger."""

from __future__ import annotations

from fastgreen._light_dataclass import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.results.bounded import Bounded

__all__ = ["LedgerTotal", "WindowTotal"]


@dataclass
class WindowTotal:
    """All stretches of one window name together; `union` is the energy of their union where they overlap."""

    name: str
    count: int = 0
    time_ns: int = 0
    amounts: dict[str, float] = field(default_factory=dict)
    energy: Bounded | None = None
    union: Bounded | None = None


@dataclass
class LedgerTotal:
    """All closed spans of one ledger together; the energies are those of spans whose share is known."""

    name: str
    of_all: bool = True  # its channels are those of the run's total
    count: int = 0
    time_ns: int = 0
    amounts: dict[str, float] = field(default_factory=dict)
    energy: Bounded | None = None
    unattributed_j: float | None = None
