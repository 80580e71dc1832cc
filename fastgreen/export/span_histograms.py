# SPDX-License-Identifier: Apache-2.0
"""Histograms of the energy of spans and of their tokens, by ledger, in constant memory."""

from __future__ import annotations

import threading
from bisect import bisect_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BUCKETS_J", "Histogram", "SpanHistograms"]

# Upper edges in J: 1, 2 and 5 in each decade from 1 mJ to 1 MJ.
BUCKETS_J = (*(float(f"{digit}e{power}") for power in range(-3, 6) for digit in (1, 2, 5)), 1e6)


class Histogram:
    """Counts of values in J by bucket, and their sum.

    Attributes
    ----------
    counts : list of int
        One for each edge of `BUCKETS_J`, and one for larger values.
    sum_j : float
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_J) + 1)
        self.sum_j = 0.0

    def add(self, value_j: float) -> None:
        self.counts[bisect_left(BUCKETS_J, value_j)] += 1
        self.sum_j += value_j

    def copy(self) -> Histogram:
        out = Histogram()
        out.counts, out.sum_j = list(self.counts), self.sum_j
        return out


class SpanHistograms:
    """The final spans of all ledgers: joules per span, joules per token, and the number of tokens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, tuple[Histogram, Histogram, list[float]]] = {}

    def add(self, ledger: str, energy_j: float, amounts: Mapping[str, float]) -> None:
        """Add a span with a final energy in J. Its amount ``tokens`` divides the energy."""
        if not energy_j >= 0.0:  # NaN: no channel was read
            return
        tokens = float(amounts.get("tokens", 0.0))
        with self._lock:
            spans, per_token, sums = self._of.setdefault(ledger, (Histogram(), Histogram(), [0.0]))
            spans.add(energy_j)
            if tokens > 0:
                per_token.add(energy_j / tokens)
                sums[0] += tokens

    def now(self) -> dict[str, tuple[Histogram, Histogram, float]]:
        """By ledger: energy of spans, energy per token, tokens."""
        with self._lock:
            return {name: (a.copy(), b.copy(), tokens[0]) for name, (a, b, tokens) in self._of.items()}
