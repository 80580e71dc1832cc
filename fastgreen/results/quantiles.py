# SPDX-License-Identifier: Apache-2.0
"""Percentiles of any number of values in constant memory: counts of values in buckets that are 2 % wide."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Quantiles"]

_WIDTH = math.log(1.02)
_LEAST = 1e-15  # smaller values count as 0


class Quantiles:
    """The distribution of values from 0 on, known to 1 %.

    The buckets are those of Masson et al. (2019), "DDSketch". From 1e-15 to 1e15 they are 3500.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._zeros = 0

    def __len__(self) -> int:
        return self._zeros + sum(self._counts.values())

    def add(self, value: float) -> None:
        """Count a value; one below 0 counts as 0, NaN and infinity do not count."""
        if value > _LEAST:
            if value < math.inf:
                bucket = math.ceil(math.log(value) / _WIDTH)
                self._counts[bucket] = self._counts.get(bucket, 0) + 1
        elif value == value:
            self._zeros += 1

    def add_all(self, values: NDArray) -> None:
        """Count the values of an array."""
        import numpy as np

        above = values[(values > _LEAST) & np.isfinite(values)]
        self._zeros += int(np.sum(values <= _LEAST))
        buckets, counts = np.unique(np.ceil(np.log(above) / _WIDTH).astype(np.int64), return_counts=True)
        for bucket, count in zip(buckets.tolist(), counts.tolist(), strict=True):
            self._counts[bucket] = self._counts.get(bucket, 0) + count

    def percentiles(self, *wanted: float) -> list[float | None]:
        """The values below which these percentages lie; None without values."""
        count = len(self)
        if not count:
            return [None] * len(wanted)
        buckets = sorted(self._counts)
        out: list[float | None] = []
        for percentage in wanted:
            left, found = percentage / 100 * (count - 1) - self._zeros, 0.0
            for bucket in buckets:
                if left < 0:
                    break
                found = math.exp((bucket - 0.5) * _WIDTH)
                left -= self._counts[bucket]
            out.append(found)
        return out
