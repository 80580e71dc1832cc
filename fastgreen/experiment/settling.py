# SPDX-License-Identifier: Apache-2.0
"""Warm-up until time and power have settled, and rest until the power is back at idle.

**The rule of settling.** The work is cut into blocks of a fifth of a second. A block has the median time of its
inferences and the mean power. The newest half of all blocks so far is cut into two halves again. Their two means give a
rate of change, with its 95 % interval (Student's t). The series has settled when the run that follows would change by
at most 5 % at this rate, at either end of the interval. The time of that run is taken as 1 to 30 s. At least 16 blocks
are needed. So a drift, or a step among the newest blocks, prolongs the warm-up. Scatter prolongs it too, until enough
blocks have averaged it out. A step that comes later cannot be seen.

**The rule of rest.** Before the first run of a study, the machine rests until its power has settled: the idle power.
Before each later run it rests until the median power of the last five blocks is at most 5 % above the lowest idle power
so far. A power that settles above that is taken as it is, because something else draws it.

Both are bounded. What was found is kept with the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fastgreen.guards.untrusted import is_number, read_object
from fastgreen.reports.ratio import student_t
from fastgreen.sensors.catalog import counted_ids
from fastgreen.units import NS_PER_S, counted, two_digits

__all__ = [
    "BLOCK_S",
    "FILE",
    "LivePower",
    "Rest",
    "Settled",
    "Settling",
    "WarmUp",
    "drift",
    "read_settling",
    "rest",
    "settling_notes",
    "settling_of",
    "warm_up",
]

FILE = "settling.json"  # of a run: its warm-up and its rest
BLOCK_S = 0.2
TOLERANCE = 0.05
_LEAST_BLOCKS = 16
_NEWEST = 5  # blocks whose median power tells that the machine is back at idle
MOST_WARM_UP_S = 60.0
MOST_REST_S = 120.0
_REST_AHEAD_S = 10.0  # for which the idle power must have settled
NOT_SEEN = (
    "no power is measured here, and the estimate follows the use of the processor, not its heat: "
    "how long a run must rest cannot be seen"
)


# ---- the rule ----


def drift(values: np.ndarray) -> tuple[float, float]:
    """Change of a series per block, from the two halves of its newest half.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Above 0.

    Returns
    -------
    change, half_width : float
        Natural logarithm of the ratio of the two means, by the number of blocks between their middles, and half the
        width of its 95 % interval by Student's t; NaN for fewer than 16 values.
    """
    values = np.asarray(values, float)
    half = (len(values) - len(values) // 2) // 2
    if len(values) < _LEAST_BLOCKS or not (values > 0).all():
        return math.nan, math.nan
    older, newer = values[-2 * half : -half], values[-half:]
    means = older.mean(), newer.mean()
    squares = [part.var(ddof=1) / half / mean**2 for part, mean in zip((older, newer), means, strict=True)]
    return math.log(means[1] / means[0]) / half, student_t(2 * half - 2) * math.sqrt(sum(squares)) / half


@dataclass
class Settling:
    """Blocks of one series, and whether it has settled.

    Attributes
    ----------
    ahead : float
        Blocks of the run that follows.
    values : list of float
    """

    ahead: float
    values: list[float] = field(default_factory=list)

    @property
    def change(self) -> float:
        """Largest change of the run that follows, as a natural logarithm; NaN where it is not known yet."""
        per_block, half_width = drift(np.array(self.values))
        return (abs(per_block) + half_width) * self.ahead

    @property
    def settled(self) -> bool:
        """Whether that change is at most 5 %."""
        return self.change <= math.log1p(TOLERANCE)

    @property
    def level(self) -> float:
        """Mean of the newest half."""
        return float(np.mean(self.values[len(self.values) // 2 :]))


@dataclass(frozen=True)
class Settled:
    """A warm-up that has ended.

    Attributes
    ----------
    state : str
        ``settled``, or ``limit`` where the time was used up before.
    inferences : int
    seconds : float
    time_drift, power_drift : float or None
        Largest change of the run that follows at the rate seen, as a fraction; None where it is not known. The power
        is not used where only an estimate of it exists.
    note : str
        What a reader should know; empty if nothing.
    """

    state: str
    inferences: int
    seconds: float
    time_drift: float | None
    power_drift: float | None
    note: str = ""


@dataclass(frozen=True)
class Rest:
    """A rest before a run.

    Attributes
    ----------
    state : str
        ``settled`` (the first rest of a study), ``back at idle``, ``settled above idle``, ``limit``, or ``not seen``.
    seconds : float
    power_w, idle_w : float or None
        Power at the end, and the lowest idle power of the study.
    note : str
    """

    state: str
    seconds: float
    power_w: float | None = None
    idle_w: float | None = None
    note: str = ""


# ---- the power so far ----


class LivePower:
    """Mean power of the measured channels between two looks at a running monitor.

    Parameters
    ----------
    monitor : fastgreen.Monitor
    """

    def __init__(self, monitor: Any) -> None:
        counted = counted_ids(monitor.channels)
        self._ids = [c.id for c in monitor.channels if c.id in counted and not c.estimated]
        self._monitor = monitor
        self._last: dict[str, tuple[float, int]] = {}

    @property
    def seen(self) -> bool:
        """Whether a channel measures the power."""
        return bool(self._ids)

    def watts(self) -> float | None:
        """Power since the last call, W; None at the first one, or where a channel had no new reading."""
        if not self._ids:
            return None
        readings = self._monitor.readings()
        total: float | None = 0.0
        for name in self._ids:
            now = readings[name]
            energy_j, at_ns = self._last.get(name, (0.0, 0))
            if at_ns == 0 or now.at_ns <= at_ns:
                total = None
            elif total is not None:
                total += (now.energy_j - energy_j) * NS_PER_S / (now.at_ns - at_ns)
            if now.at_ns > at_ns:
                self._last[name] = now.energy_j, now.at_ns
        return total


# ---- warm-up ----


class WarmUp:
    """The state of a warm-up: add blocks until it has ended.

    Parameters
    ----------
    power : bool
        Whether the power must settle too.
    ahead_s : float
        Time of the run that follows.
    most_s : float
        The longest warm-up.
    """

    def __init__(self, power: bool, ahead_s: float = 1.0, most_s: float = MOST_WARM_UP_S) -> None:
        self.time = Settling(_blocks(ahead_s))
        self.power = Settling(_blocks(ahead_s)) if power else None
        self.most_s = most_s
        self.inferences = 0
        self.seconds = 0.0

    def add(self, latencies_s: list[float], watts: float | None) -> None:
        """Add a block: the time of each of its inferences, and the mean power."""
        self.inferences += len(latencies_s)
        self.seconds += sum(latencies_s)
        self.time.values.append(float(np.median(latencies_s)))
        if self.power is not None and watts is not None:
            self.power.values.append(watts)

    @property
    def settled(self) -> bool:
        """Whether time and power have settled."""
        return self.time.settled and (self.power is None or self.power.settled)

    @property
    def ended(self) -> bool:
        """Whether it has settled or used up its time."""
        return self.seconds >= self.most_s or self.settled

    def outcome(self) -> Settled:
        """What was found."""
        time_drift = _most(self.time)
        power_drift = None if self.power is None else _most(self.power)
        note = ""
        if not self.settled:
            series = {"time": time_drift} if self.power is None else {"time": time_drift, "power": power_drift}
            known = {k: "is not known" if x is None else f"±{two_digits(100 * x)} %" for k, x in series.items()}
            parts = [f"{name} {text}" for name, text in known.items()]
            note = f"not settled within {self.most_s:g} s; the run may change by: {', '.join(parts)}"
        return Settled(
            "settled" if self.settled else "limit", self.inferences, self.seconds, time_drift, power_drift, note
        )


def _blocks(seconds: float) -> float:
    """Blocks of a time between 1 and 30 s."""
    return min(max(seconds, 1.0), 30.0) / BLOCK_S


def _most(series: Settling) -> float | None:
    change = series.change
    return None if math.isnan(change) else math.expm1(min(change, 700.0))


def warm_up(
    inference: Callable[[], Any],
    monitor: Any,
    iterations: int,
    *,
    most_s: float = MOST_WARM_UP_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Settled:
    """Run inferences until time and power have settled.

    Parameters
    ----------
    inference : callable
    monitor : fastgreen.Monitor
        Not started; it measures the power meanwhile.
    iterations : int
        Inferences of the run that follows.
    most_s : float
        The longest warm-up, s.
    clock : callable
        Seconds.

    Returns
    -------
    Settled
    """
    with monitor:
        power = LivePower(monitor)
        first = _block(inference, clock)
        state = WarmUp(power.seen, iterations * float(np.median(first)), most_s)
        state.add(first, power.watts())
        while not state.ended:
            state.add(_block(inference, clock), power.watts())
    return state.outcome()


def _block(inference: Callable[[], Any], clock: Callable[[], float]) -> list[float]:
    """Times of the inferences of one block, at least one."""
    times = [clock()]
    while len(times) < 2 or times[-1] - times[0] < BLOCK_S:
        inference()
        times.append(clock())
    return np.diff(times).tolist()


# ---- rest ----


class Resting:
    """The state of a rest: add the power of blocks until it has ended.

    Parameters
    ----------
    idle_w : float or None
        The lowest idle power so far; None before the first rest.
    most_s : float
        The longest rest.
    """

    def __init__(self, idle_w: float | None, most_s: float = MOST_REST_S) -> None:
        self.idle_w, self.most_s = idle_w, most_s
        self.power = Settling(_blocks(_REST_AHEAD_S))
        self.seconds = 0.0

    def add(self, seconds: float, watts: float | None) -> None:
        """Add a block."""
        self.seconds += seconds
        if watts is not None:
            self.power.values.append(watts)

    @property
    def back(self) -> bool:
        """Whether the power is back at the idle power."""
        newest = self.power.values[-_NEWEST:]
        return (
            self.idle_w is not None
            and len(newest) == _NEWEST
            and float(np.median(newest)) <= self.idle_w * (1 + TOLERANCE)
        )

    @property
    def ended(self) -> bool:
        """Whether it is back at idle, has settled or has used up its time."""
        return self.back or self.power.settled or self.seconds >= self.most_s

    def outcome(self) -> Rest:
        """What was found."""
        values = self.power.values
        now_w = float(np.median(values[-_NEWEST:])) if values else None
        if self.idle_w is not None and now_w is not None and self.back:
            return Rest("back at idle", self.seconds, now_w, min(self.idle_w, now_w))
        if self.power.settled:
            level = self.power.level
            if self.idle_w is None or level <= self.idle_w * (1 + TOLERANCE):
                return Rest("settled", self.seconds, level, min(level, self.idle_w or level))
            note = f"the power settled at {level:.4g} W, above the idle power of {self.idle_w:.4g} W before"
            return Rest("settled above idle", self.seconds, level, self.idle_w, note)
        power = "" if now_w is None else f"; it is {now_w:.4g} W"
        target = "settled" if self.idle_w is None else f"come back to the idle power of {self.idle_w:.4g} W"
        note = f"the power had not {target} within {self.most_s:g} s of rest{power}"
        return Rest("limit", self.seconds, now_w, self.idle_w, note)


def rest(
    monitor: Any,
    idle_w: float | None,
    *,
    most_s: float = MOST_REST_S,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], Any] = time.sleep,
) -> Rest:
    """Do nothing until the power is back at idle.

    Parameters
    ----------
    monitor : fastgreen.Monitor
        Not started; it measures the power meanwhile.
    idle_w : float or None
        The lowest idle power of the study so far; None before the first run.
    most_s : float
        The longest rest, s.
    clock, sleep : callable
        Seconds.

    Returns
    -------
    Rest
        Of 0 s where no channel measures the power.
    """
    if not LivePower(monitor).seen:
        return Rest("not seen", 0.0, note=NOT_SEEN)
    with monitor:
        power = LivePower(monitor)
        state = Resting(idle_w, most_s)
        power.watts()
        before = clock()
        while not state.ended:
            sleep(BLOCK_S)
            now = clock()
            state.add(now - before, power.watts())
            before = now
    return state.outcome()


# ---- the file of a run ----


def settling_of(warm: Settled | None, resting: Rest | None) -> dict[str, Any]:
    """The contents of the file."""
    return {name: asdict(value) for name, value in (("warmup", warm), ("rest", resting)) if value is not None}


def read_settling(folder: Any) -> tuple[Settled | None, Rest | None]:
    """Warm-up and rest of a run; None for what the file does not hold, or holds damaged."""
    from fastgreen.errors import TraceError

    try:
        there = read_object(folder / FILE, folder)
    except (OSError, TraceError):
        return None, None
    return _checked(Settled, there.get("warmup")), _checked(Rest, there.get("rest"))


def settling_notes(runs: Iterable[tuple[str, Settled | None, Rest | None]]) -> list[str]:
    """Sentences about the runs of a study: the warm-up and the rest that were found, and those with a doubt.

    Parameters
    ----------
    runs : iterable of (name, Settled or None, Rest or None)
    """
    runs = list(runs)
    warm = [one for _, one, _ in runs if one is not None]
    rests = [one for _, _, one in runs if one is not None and one.state != "not seen"]
    notes = []
    if warm:
        power = "time and power" if any(one.power_drift is not None for one in warm) else "time (no power is measured)"
        counts = _between([one.inferences for one in warm])
        notes.append(f"warm-up, found from {power}: {_between([one.seconds for one in warm])} s, {counts} inferences")
    if rests:
        notes.append(f"rest before a run, found from the power: {_between([one.seconds for one in rests])} s")
    doubts: dict[str, list[str]] = {}
    for name, *found in runs:
        for one in found:
            if one is not None and one.note:
                doubts.setdefault(one.note, []).append(name)
    for note, names in doubts.items():
        if note == NOT_SEEN:
            notes.append(note)
        else:
            others = f" and {counted(len(names) - 1, 'other run')}" if len(names) > 1 else ""
            notes.append(f"{names[0]}{others}: {note}")
    return notes


def _between(values: list[float]) -> str:
    low, high = (f"{value:.3g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _checked(kind: Any, value: Any) -> Any:
    """An instance from a mapping of a file; None where a field has another type."""
    if not isinstance(value, dict) or value.keys() != kind.__dataclass_fields__.keys():
        return None
    for name, one in value.items():
        if name in ("state", "note"):
            fine = isinstance(one, str) and len(one) < 1000
        elif name in ("seconds", "inferences"):
            fine = is_number(one) and one >= 0
        else:
            fine = one is None or is_number(one)
        if not fine:
            return None
    return kind(**value)
