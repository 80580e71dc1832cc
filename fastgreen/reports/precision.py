# SPDX-License-Identifier: Apache-2.0
"""The number of repeats that a wanted precision asks for: one rule for comparisons and for studies.

Repeats go on until each value is known to the wanted precision, that is until the half width of its interval for the
scatter and the bounds of the meter together are within it. The scatter is learnt from the first eight repeats (C.
Stein, 1945), so that the interval keeps its 95 % although its length decides when to stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fastgreen.reports.ratio import FIRST_PAIRS, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MOST_UNTIL", "Known", "Verdict", "check_repeats", "enough"]

MOST_UNTIL = 1000  # repeats of a series that never gets as precise as wanted


@dataclass(frozen=True)
class Known:
    """How well a value is known, in natural logarithms.

    Attributes
    ----------
    what : str
        The value in a sentence: "the ratio of B".
    scatter : float
        Half width of the interval for the scatter between repeats.
    meter : float
        The larger distance of the bounds of the meter from the value.
    """

    what: str
    scatter: float
    meter: float

    @property
    def whole(self) -> float:
        """Half width of the interval for both."""
        return self.scatter + self.meter


class Verdict(NamedTuple):
    """Whether the repeats end, and the reason where the wanted precision was not reached."""

    ended: bool
    note: str | None = None


def check_repeats(repeats: int | None, until: float | None, usual: int) -> int:
    """The largest number of repeats: as given, else `usual`, or 1000 beside a wanted precision.

    Raises
    ------
    ValueError
        If a precision is wanted and the number is less than the eight repeats from which the scatter is learnt.
    """
    if until is not None and repeats is not None and repeats < FIRST_PAIRS:
        raise ValueError(f"--repeats must be at least {FIRST_PAIRS} with --until, not {repeats}")
    if repeats is not None:
        return repeats
    return usual if until is None else MOST_UNTIL


def enough(known: Sequence[Known], until: float, repeats: int, most: int) -> Verdict:
    """Decide after a repeat whether the values are known well enough.

    Parameters
    ----------
    known : sequence of Known
    until : float
        Wanted precision as a fraction: 0.02 is 2 %.
    repeats, most : int
        Repeats so far, and the largest number of them.

    Returns
    -------
    Verdict
        Ended too where the bounds of the meter alone are wider than wanted, because no number of repeats helps.
    """
    if repeats < min(FIRST_PAIRS, most):
        return Verdict(False)
    wanted = math.log1p(until)
    for value in known:
        if value.meter >= wanted:
            return Verdict(
                True,
                f"the sensors know {value.what} to ±{percent(value.meter)} %, so no number of repeats reaches "
                f"±{percent(wanted)} %; it takes longer runs",
            )
    if all(value.whole <= wanted for value in known):
        return Verdict(True)
    if repeats >= most:
        widest = max(value.whole for value in known)
        return Verdict(True, f"{repeats} repeats reach ±{percent(widest)} %, not ±{percent(wanted)} %")
    return Verdict(False)
