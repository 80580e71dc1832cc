"""Windows of one name that are open at the same time: each holds the same energy, so their sum counts it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen.results.bounded import Bounded, Windows
from fastgreen.results.console import with_bounds
from fastgreen.results.result_tables import together_by_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastgreen.results.result_tables import Followable

__all__ = ["overlap_notes", "union_energies", "union_of"]


def union_of(begin_ns: np.ndarray, end_ns: np.ndarray) -> Windows:
    """The time in which any of the stretches was open; the stretches may be in any order."""
    begin, end = np.sort(begin_ns), np.sort(end_ns)
    # Before the i-th begin all have ended that began before, if the i-th end is not later.
    first = np.append(0, np.flatnonzero(end[:-1] <= begin[1:]) + 1)
    return Windows("", 0, begin[first], end[np.append(first[1:], len(end)) - 1])


def _overlap(handles: list[Windows]) -> Windows | None:
    """The union of the stretches of some handles, each without overlap; None where they do not overlap."""
    if len(handles) < 2:
        return None
    begin = np.concatenate([w.begin_ns for w in handles])
    end = np.concatenate([w.end_ns for w in handles])
    union = union_of(begin, end)
    return union if int(np.sum(end - begin)) > int(np.sum(union.end_ns - union.begin_ns)) else None


def union_energies(result: Followable, named: Mapping[str, list[Windows]]) -> dict[str, Bounded]:
    """Of each name whose stretches overlap, the energy of the time in which any of them was open, in J."""
    unions = {name: [union] for name, handles in named.items() if (union := _overlap(handles)) is not None}
    return together_by_name(result.traces, unions, result.following) if unions else {}


def overlap_notes(unions: Mapping[str, Bounded], known: bool) -> list[str]:
    """A sentence for each name whose stretches overlap."""
    out = []
    for name, energy in unions.items():
        text, between = with_bounds(float(energy.energy_j), float(energy.low_j), float(energy.high_j), "J")
        held = f" The time in which any was open holds {text} ({between})." if known else ""
        out.append(
            f"windows {name!r} overlap, and each holds the same energy.{held} For the share of each use a ledger: "
            "Monitor.ledger"
        )
    return out
