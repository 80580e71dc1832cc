"""The ratio of two energies, with an interval for the bounds of the meter and for the scatter between repeats.

The scatter is a statistical range: Student's t interval of the mean of log ratios, 95 %. The bounds of the meter are
certain, whatever the direction of its errors. So the interval is the sum of the two: from the mean of
ln(low of B / high of A) less the half width of the t interval, to the mean of ln(high of B / low of A) plus it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastgreen.units import counted, two_digits

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "FIRST_PAIRS",
    "Outcomes",
    "Ratio",
    "alone",
    "paired",
    "percent",
    "repeats_to_reach",
    "student_t",
    "unpaired",
]

CONFIDENCE = 0.95
FIRST_PAIRS = 8  # of a comparison with a wanted precision: the scatter is learnt from them (Stein, 1945)
_POWER_Z = 0.8416  # normal quantile of 80 %: the chance to show a difference with the number of repeats advised
_COARSE = math.log(1.05)  # bounds that alone hide a difference of 5 % are too wide to say "no difference"
_MOST_REPEATS = 1_000_000
_JACKKNIFE = 29  # degrees of freedom of the interval of an energy that follows the load


@dataclass
class Outcomes:
    """Repeated measurements of one thing, in order: columns of shape (n,).

    Attributes
    ----------
    energy_j, low_j, high_j : ndarray
        Energies and their bounds, J.
    duration_s : ndarray
    """

    energy_j: np.ndarray
    low_j: np.ndarray
    high_j: np.ndarray
    duration_s: np.ndarray

    @classmethod
    def of(cls, rows: list[tuple[float, float, float, float]]) -> Outcomes:
        """From rows (energy_j, low_j, high_j, duration_s)."""
        return cls(*np.array(rows, float).reshape(-1, 4).T)

    def __len__(self) -> int:
        return len(self.energy_j)


@dataclass(frozen=True)
class Ratio:
    """Energy of B over energy of A.

    Attributes
    ----------
    ratio : float
        The geometric mean of the ratios of pairs, or the ratio of the means of unpaired values.
    low, high : float
        Its interval: the bounds of the meter and 95 % of the scatter together.
    scatter : float
        Half width of the interval for the scatter alone, natural logarithm; NaN where only one value is known.
    meter : float
        The larger distance of the bounds of the meter from `ratio`, natural logarithm.
    spread : float
        Standard deviation of the log ratio of one pair of repeats.
    repeats : int
        Number of repeats, or of blocks of repeats, of the smaller side.
    verdict : str
        ``less``, ``more``, ``no difference``, ``sensors cannot tell``, or ``one run`` where no scatter is known.
    """

    ratio: float
    low: float
    high: float
    scatter: float
    meter: float
    spread: float
    repeats: int
    verdict: str

    @property
    def _log(self) -> float:
        return math.log(self.ratio) if self.ratio > 0 else -math.inf

    @property
    def difference_to_show(self) -> float:
        """The log ratio that `enough_repeats` is for: the one seen, or 2 % where that is too small for the meter."""
        seen = abs(self._log)
        return seen if math.isfinite(seen) and seen > self.meter + 0.005 else max(math.log(1.02), 2 * self.meter)

    @property
    def enough_repeats(self) -> int | None:
        """Number of repeats that show `difference_to_show` with a chance of 80 %; None where that is not known."""
        return repeats_to_reach(self.spread, self.difference_to_show - self.meter, _POWER_Z)

    @property
    def times_longer(self) -> float | None:
        """Factor by which a run must be longer for the meter to show 5 %, or the difference seen; None: unknown."""
        if not math.isfinite(self.meter):
            return None
        seen = abs(self._log)
        return max(self.meter / (seen / 2 if seen > self.scatter else _COARSE), 1.0)

    def sentence(self, a: str = "A", b: str = "B", noun: str = "repeat") -> str:
        """The verdict for people.

        Parameters
        ----------
        a, b : str
            Names of the two.
        noun : str
            Name of one value: repeat, stretch, block.
        """
        if self.verdict == "sensors cannot tell":
            return f"these sensors cannot tell {a} from {b}: {self._too_coarse()}"
        if self.verdict == "no difference":
            most = max(-math.log(self.low), math.log(self.high))
            text = f"no difference that {counted(self.repeats, noun)} could show: {self._range(b, a)}"
            enough = self.enough_repeats
            if enough is not None and enough > self.repeats and self.difference_to_show < most:
                text += (
                    f"; about {counted(enough, noun)} would show a difference of {percent(self.difference_to_show)} %"
                )
            return text
        tail = "; the scatter between runs is not known from one run each" if self.verdict == "one run" else ""
        if self.low <= 1 <= self.high:
            return f"{self._range(b, a)}{tail}"
        word = "less" if self.ratio < 1 else "more"
        ends = sorted(abs(100 * (x - 1)) for x in (self.low, self.high))
        decimals = _decimals(abs(100 * (self.ratio - 1)))
        first, last = (f"{x:.{decimals}f}" for x in ends)
        return f"{b} uses {percent(self._log)} % {word} ({first} to {last}) than {a}{tail}"

    def _range(self, b: str, a: str) -> str:
        low, high = (100 * (x - 1) for x in (self.low, self.high))
        decimals = max(_decimals(abs(low)), _decimals(abs(high)))
        return f"the difference of {b} to {a} is between {low:+.{decimals}f} and {high:+.{decimals}f} %"

    def _too_coarse(self) -> str:
        if not math.isfinite(self.meter):
            return "the runs are too short, the bounds of an energy reach down to 0"
        text = f"their bounds alone are ±{percent(self.meter)} %"
        longer = self.times_longer
        return text if longer is None else f"{text}; runs that are {two_digits(longer)} times longer would do"

    def to_dict(self) -> dict[str, Any]:
        """As plain Python, for JSON."""
        return {
            "ratio": self.ratio,
            "ratio_low": self.low,
            "ratio_high": self.high,
            "verdict": self.verdict,
            "repeats": self.repeats,
            "scatter_percent": 100 * math.expm1(self.scatter),
            "meter_percent": 100 * math.expm1(min(self.meter, 700.0)),
            "enough_repeats": self.enough_repeats,
            "times_longer": self.times_longer,
        }


def percent(log: float) -> str:
    """A log ratio as percent without its sign: "33", "5.1"."""
    value = abs(100 * math.expm1(min(log, 700.0)))
    return f"{value:.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return 0 if value >= 9.95 else 1 if value >= 0.995 else 2


# ---- Student's t ----


def _within(t: float, freedom: int) -> float:
    """Probability that Student's t is between -t and t: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if odd else 2, freedom, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


@functools.lru_cache(maxsize=4096)
def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t that Student's distribution stays within, on both sides, with this probability.

    Parameters
    ----------
    freedom : int
        Degrees of freedom, at least 1; above 1000 that of 1000 (0.06 % larger than the normal quantile).
    confidence : float

    Returns
    -------
    float
    """
    freedom = min(freedom, 1000)
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def repeats_to_reach(spread: float, half_width: float, extra_z: float = 0.0) -> int | None:
    """Smallest number of repeats n with (t of n - 1 degrees + extra_z) * spread / sqrt(n) <= half_width.

    None where no number up to a million does.
    """
    if not (half_width > 0 and math.isfinite(spread)):
        return None

    def does(n: int) -> bool:
        return (student_t(n - 1) + extra_z) * spread <= half_width * math.sqrt(n)

    if not does(_MOST_REPEATS):
        return None
    low, high = 1, 2
    while not does(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle, high)
    return high


# ---- ratios ----


def paired(a: Outcomes, b: Outcomes, first: int | None = None) -> Ratio:
    """Ratio of B to A from pairs of repeats that were measured in turn.

    Parameters
    ----------
    a, b : Outcomes
        Of one length, at least 1.
    first : int, optional
        Take the scatter from this many pairs at the beginning. A number of pairs that follows from the scatter must be
        chosen so (Stein, 1945): with the scatter of all pairs, the interval would be too narrow.

    Returns
    -------
    Ratio
    """
    logs = _logs(b.energy_j, a.energy_j)
    spread, scatter = _scatter(logs, first)
    low, high = float(np.mean(_logs(b.low_j, a.high_j))), float(np.mean(_logs(b.high_j, a.low_j)))
    return _ratio(float(np.mean(logs)), low, high, scatter, spread, len(logs))


def alone(a: Outcomes, first: int | None = None) -> tuple[float, float]:
    """How well the geometric mean of repeats is known: (scatter, meter), half widths in natural logarithms.

    Parameters
    ----------
    a : Outcomes
    first : int, optional
        As of `paired`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = _logs(a.energy_j, np.ones(len(a)))
        apart = np.maximum(_logs(a.high_j, a.energy_j), _logs(a.energy_j, a.low_j))
    meter = float(np.mean(apart)) if np.isfinite(logs).all() else math.inf
    return _scatter(logs, first)[1], math.inf if math.isnan(meter) else max(meter, 0.0)


def _scatter(logs: np.ndarray, first: int | None) -> tuple[float, float]:
    """Standard deviation of the first values, and with it the half width of the interval of the mean of all."""
    known = logs[:first]
    if len(known) < 2:
        return math.nan, math.nan
    spread = float(np.std(known, ddof=1)) if np.isfinite(known).all() else math.nan
    return spread, student_t(len(known) - 1) * spread / math.sqrt(len(logs))


def unpaired(
    a: tuple[float, float, float],
    b: tuple[float, float, float],
    a_blocks: np.ndarray,
    b_blocks: np.ndarray,
    halves: tuple[float, float] | None = None,
) -> Ratio:
    """Ratio of the means of two series that were measured apart.

    The scatter follows from the means of consecutive blocks of each series (Welch's t interval of the log ratio by the
    delta method).

    Parameters
    ----------
    a, b : (energy_j, low_j, high_j)
        Mean energy of one with its bounds, J.
    a_blocks, b_blocks : ndarray, shapes (m,), (n,)
        Mean energies of the blocks, J.
    halves : (float, float), optional
        Halves of the 95 % intervals of the two means where these follow the load. They take the place of the bounds:
        the error of a mean is then that of its interval and the scatter of its blocks together.

    Returns
    -------
    Ratio
    """
    middle, low, high = map(float, _logs(np.array(b, float), np.array([a[0], a[2], a[1]], float)))
    if halves is not None:
        low = high = middle
    sizes = len(a_blocks), len(b_blocks)
    scatter = spread = math.nan
    if min(sizes) > 1 and math.isfinite(middle):
        parts = [float(np.var(x, ddof=1)) / mean[0] ** 2 for x, mean in ((a_blocks, a), (b_blocks, b))]
        if halves is not None:
            errors = (half / student_t(_JACKKNIFE) / mean[0] for half, mean in zip(halves, (a, b), strict=True))
            parts = [part + n * error**2 for part, n, error in zip(parts, sizes, errors, strict=True)]
        squares = [part / n for part, n in zip(parts, sizes, strict=True)]
        below = sum(x * x / (n - 1) for x, n in zip(squares, sizes, strict=True))
        freedom = math.floor(sum(squares) ** 2 / below) if below > 0 else min(sizes) - 1
        scatter = student_t(max(freedom, 1)) * math.sqrt(sum(squares))
        spread = math.sqrt(sum(parts))
    return _ratio(middle, low, high, scatter, spread, min(sizes))


def _logs(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """ln(over / under); an energy of 0 or less has no logarithm, so the ratio is unbounded there."""
    with np.errstate(divide="ignore", invalid="ignore"):
        upper = np.where(over > 0, np.log(np.where(over > 0, over, 1.0)), -np.inf)
        lower = np.where(under > 0, np.log(np.where(under > 0, under, 1.0)), -np.inf)
        return np.asarray(upper - lower)


def _ratio(middle: float, low: float, high: float, scatter: float, spread: float, repeats: int) -> Ratio:
    if not math.isfinite(middle):  # an energy of 0, or one that is not known
        return Ratio(math.nan, 0.0, math.inf, scatter, math.inf, spread, repeats, "sensors cannot tell")
    meter = max(middle - low, high - middle, 0.0)
    known = not math.isnan(scatter)
    wide = scatter if known else 0.0
    interval = low - wide, high + wide
    if not known:
        verdict = "one run" if math.isfinite(meter) else "sensors cannot tell"
    elif interval[1] < 0:
        verdict = "less"
    elif interval[0] > 0:
        verdict = "more"
    elif abs(middle) > scatter or meter > max(_COARSE, scatter):
        verdict = "sensors cannot tell"
    else:
        verdict = "no difference"
    ends = [math.exp(min(x, 700.0)) if x < math.inf else math.inf for x in interval]
    return Ratio(math.exp(middle), ends[0], ends[1], scatter, meter, spread, repeats, verdict)
