# SPDX-License-Identifier: Apache-2.0
"""A price or a carbon intensity of electricity: one number, or a number for each hour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from fastgreen.errors import TraceError

if TYPE_CHECKING:
    from typing import Any

__all__ = ["CARBON", "PRICE", "Quantity", "Rate"]


@dataclass(frozen=True)
class Quantity:
    """A price or a carbon intensity, and the numbers that are possible.

    Attributes
    ----------
    name : str
        Name of the option.
    unit : str
        Unit of a rate, for messages.
    low, high : float
        Least and largest possible value of one number.
    file_low : float
        Least possible value in a file: prices of an hour can be negative on an exchange.
    """

    name: str
    unit: str
    low: float
    high: float
    file_low: float

    def check(self, value: float, where: str = "", from_file: bool = False) -> float:
        """ValueError for a value that is not possible."""
        least = self.file_low if from_file else self.low
        if not least <= value <= self.high:  # NaN as well
            rule = f"must lie in {least:g}..{self.high:g} {self.unit}"
            raise ValueError(f"{self.name} {rule}, not {value:g}{where}")
        return value


# The dirtiest grids have about 1,300 g/kWh, a diesel generator less. A currency with small units has prices of
# thousands per kWh.
CARBON = Quantity("carbon", "g/kWh", 0.0, 10_000.0, 0.0)
PRICE = Quantity("price", "per kWh", 0.0, 1e6, -1e6)


@dataclass(frozen=True)
class Rate:
    """Values per kWh, each for a period.

    Attributes
    ----------
    begins_s, ends_s : ndarray, shape (n,)
        Periods in seconds since 1970: sorted, without overlap.
    values : ndarray, shape (n,)
        Currency or g CO2e per kWh.
    currency : str
        Name or sign of the currency; empty if it is not known, or for carbon.
    source : str
        Name of the file; empty for one number.
    """

    begins_s: np.ndarray
    ends_s: np.ndarray
    values: np.ndarray
    currency: str = ""
    source: str = ""

    @classmethod
    def constant(cls, value: float, currency: str = "") -> Rate:
        """The same value at all times."""
        return cls(np.array([-math.inf]), np.array([math.inf]), np.array([float(value)]), currency)

    @property
    def is_constant(self) -> bool:
        return len(self.values) == 1 and math.isinf(self.begins_s[0])

    def check_covers(self, begin_s: float, end_s: float) -> None:
        """TraceError if a part of [begin_s, end_s], in seconds since 1970, has no value."""
        first, last = self._places(begin_s, end_s)
        at = begin_s
        for place in range(first, last):
            if self.begins_s[place] > at:
                break
            at = self.ends_s[place]
        if at < end_s or first == last:
            missing = min((x for x in self.begins_s if x > at), default=math.inf)
            until = min(missing, end_s)
            raise TraceError(f"{self.source} has no value for {_instant(at)} to {_instant(until)}; {self._range()}")

    def _range(self) -> str:
        return f"its values are of {_instant(self.begins_s[0])} to {_instant(self.ends_s[-1])}"

    def _places(self, begin_s: float, end_s: float) -> tuple[int, int]:
        """First and last + 1 of the periods that touch the time."""
        first = int(np.searchsorted(self.ends_s, begin_s, side="right"))
        last = int(np.searchsorted(self.begins_s, end_s, side="left"))
        if begin_s == end_s:
            last = int(np.searchsorted(self.begins_s, end_s, side="right"))
        return first, max(last, first)

    def steps(self, begin_s: float, end_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Inner edges (seconds since 1970) and values of the periods of a time, which must be covered.

        Returns
        -------
        edges_s : ndarray, shape (n - 1,)
        values : ndarray, shape (n,)

        Raises
        ------
        TraceError
            If a part of the time has no value.
        """
        self.check_covers(begin_s, end_s)
        first, last = self._places(begin_s, end_s)
        return self.begins_s[first + 1 : last], self.values[first:last]

    def at(self, moment_s: float) -> float:
        """Value at a moment in seconds since 1970. TraceError if there is no value."""
        return float(self.steps(moment_s, moment_s)[1][0])

    def mean(self, begin_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
        """Mean over each of (n,) stretches of a time that is covered; the value at `begin_s` of one without length."""
        lengths = self.ends_s - self.begins_s
        if self.is_constant:
            return np.full(len(begin_s), self.values[0])
        sums = np.concatenate([[0.0], np.cumsum(lengths * self.values)])

        def integral(at_s: np.ndarray) -> np.ndarray:
            place = np.clip(np.searchsorted(self.begins_s, at_s, side="right") - 1, 0, len(lengths) - 1)
            return sums[place] + (np.minimum(at_s, self.ends_s[place]) - self.begins_s[place]) * self.values[place]

        place = np.clip(np.searchsorted(self.begins_s, begin_s, side="right") - 1, 0, len(lengths) - 1)
        length = end_s - begin_s
        with np.errstate(divide="ignore", invalid="ignore"):
            means = (integral(end_s) - integral(begin_s)) / length
        return np.where(length > 1e-3, means, self.values[place])

    def words(self, per: str) -> str:
        """The rate for people: "0.3 EUR/kWh", "210 .. 260 g/kWh (grid.csv)"."""
        low, high = float(self.values.min()), float(self.values.max())
        value = f"{low:g}" if low == high else f"{low:g} .. {high:g}"
        return f"{value} {per}" + (f" ({self.source})" if self.source else "")

    def to_dict(self) -> dict[str, Any]:
        """As plain Python, for JSON."""
        if self.is_constant:
            return {"value": float(self.values[0]), "currency": self.currency}
        return {"file": self.source, "currency": self.currency}


def _instant(moment_s: float) -> str:
    try:
        return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{moment_s:g} s"
