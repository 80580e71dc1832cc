"""The observed behaviour of a sensor: its update period, steps, read time and averaging time.

The arithmetic works on recorded samples; `remember` and `recall` keep the facts in the user's cache folder, by machine,
device and driver, because the same board behaves differently under another driver.
"""

from __future__ import annotations

import os

from fastgreen._light_dataclass import dataclass, replace
from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import Channel
from fastgreen.units import NS_PER_S, UNITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import numpy as np

__all__ = ["Averaging", "SensorFacts", "apply", "averaging", "cache_file", "learn", "recall", "remember"]

# Fewer changes than this teach nothing.
_ENOUGH = 8
_MOST = 1e9  # s, or samples: what is remembered is of minutes


@dataclass(frozen=True)
class SensorFacts:
    """Facts of one channel; None where too little was seen.

    Attributes
    ----------
    period_s, period_longest_s, jitter_s : float or None
        Median and longest interval between two updates, and the width of its middle 90 %, in s.
    quantum : float or None
        Step of the value, in J or W: every change seen was a multiple of it.
    read_s, read_p99_s : float
        Median and 99th percentile of the duration of one read, in s.
    averaging_s, delay_s : float or None
        For a power channel beside a counter: over how long the value averages (0: shorter than the counter resolves),
        and how old it is, in s.
    coverage : float or None
        averaging_s / period_s, at most 1: the share of time that the sensor looks at.
    samples, updates : int
    """

    period_s: float | None
    period_longest_s: float | None
    jitter_s: float | None
    quantum: float | None
    read_s: float
    read_p99_s: float
    samples: int
    updates: int
    averaging_s: float | None = None
    delay_s: float | None = None
    coverage: float | None = None


@dataclass(frozen=True)
class Averaging:
    """The running mean that explains a power channel best: ``window_s`` long, ``delay_s`` old.

    ``residual`` is the RMS of what it leaves unexplained over the power's standard deviation.
    """

    window_s: float
    delay_s: float
    residual: float


def changes(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index, earliest ns, latest ns) of every change of value: after the sample before, by the one that shows it."""
    import numpy as np

    index = np.flatnonzero(np.diff(samples["raw"]) != 0) + 1
    half = samples["half_ns"].astype(np.int64)
    return index, (samples["at_ns"] - half)[index - 1], (samples["at_ns"] + half)[index]


def learn(samples: np.ndarray, unit: str) -> SensorFacts:
    """Facts of a channel from its samples (dtype ``_resolver.SAMPLE``), taken several times faster than it updates."""
    import numpy as np

    index, earliest, latest = changes(samples)
    read_s = 2 * samples["half_ns"].astype(float) / NS_PER_S
    middle = (earliest + latest) / 2 / NS_PER_S
    periods = np.diff(middle)
    known = len(periods) >= _ENOUGH
    steps = np.abs(np.diff(samples["raw"])[index - 1])
    low, high = np.percentile(periods, [5, 95]) if known else (0.0, 0.0)
    return SensorFacts(
        period_s=float(np.median(periods)) if known else None,
        period_longest_s=float(np.max((latest[1:] - earliest[:-1]) / NS_PER_S)) if known else None,
        jitter_s=float(high - low) if known else None,
        quantum=float(np.gcd.reduce(steps)) * UNITS[unit] if len(steps) else None,
        read_s=float(np.median(read_s)) if len(read_s) else 0.0,
        read_p99_s=float(np.percentile(read_s, 99)) if len(read_s) else 0.0,
        samples=len(samples),
        updates=len(index),
    )


def averaging(power: np.ndarray, power_unit: str, energy: np.ndarray, energy_unit: str) -> Averaging | None:
    """Fit a running mean of the energy counter to a power channel's readings.

    For a mean over W that is d old, reading(t) = (E(t - d) - E(t - d - W)) / W, with E interpolated between the
    counter's changes; the best of a grid of W (20 ms to 2 s) and d (0 to 300 ms) is returned. None when the load was
    too steady to tell (the power's spread is below 2 % of its mean), or too little was seen.
    """
    import numpy as np

    index, earliest, latest = changes(energy)
    updates, after, _ = changes(power)
    if len(index) < 4 * _ENOUGH or len(updates) < _ENOUGH:
        return None
    knot_s = (earliest + latest) / 2 / NS_PER_S
    counter_j = energy["raw"][index].astype(float) * UNITS[energy_unit]
    at_s = after / NS_PER_S
    watts = power["raw"][updates].astype(float) * UNITS[power_unit]
    best: Averaging | None = None
    inside = (at_s > knot_s[0] + 2.3) & (at_s < knot_s[-1])
    if inside.sum() < _ENOUGH or np.std(watts[inside]) < 0.02 * np.mean(watts[inside]):
        return None
    at_s, watts = at_s[inside], watts[inside]
    for window_s in np.geomspace(0.02, 2.0, 41):
        for delay_s in np.linspace(0.0, 0.3, 31):
            end, begin = np.interp([at_s - delay_s, at_s - delay_s - window_s], knot_s, counter_j)
            residual = float(np.sqrt(np.mean(((end - begin) / window_s - watts) ** 2)) / np.std(watts))
            if best is None or residual < best.residual:
                best = Averaging(float(window_s), float(delay_s), residual)
    return best


def with_averaging(facts: SensorFacts, fit: Averaging | None, resolution_s: float) -> SensorFacts:
    """Facts of a power channel with the result of `averaging`; a window below `resolution_s` counts as instant."""
    if fit is None or fit.residual > 0.5:
        return facts
    window_s = fit.window_s if fit.window_s > resolution_s else 0.0
    coverage = min(1.0, window_s / facts.period_s) if window_s and facts.period_s else None
    return replace(facts, averaging_s=window_s, delay_s=fit.delay_s + window_s / 2, coverage=coverage)


# ---- the cache ----


def cache_file(folder: str | os.PathLike | None = None) -> Path:
    """The file of remembered facts: in `folder`, else FASTGREEN_CACHE_DIR, else the user's cache folder."""
    from pathlib import Path

    return Path(_cache_path(folder))


def _cache_path(folder: str | os.PathLike | None) -> str:
    base = folder or os.environ.get("FASTGREEN_CACHE_DIR")
    if base is None:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fastgreen")
    return os.path.join(base, "sensors.json")


def _key(channel: Channel) -> str:
    return "|".join((os.uname().nodename, channel.id, channel.device, channel.driver))


def _stored(path: str) -> dict[str, Any]:
    text = sysfs.text(path)  # which no fifo in its place hangs
    if text is None:
        return {}
    import json

    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def remember(channel: Channel, facts: SensorFacts, folder: str | os.PathLike | None = None) -> Path:
    """Keep the facts of a channel of this machine. Returns the file. OSError when it cannot be written."""
    import json
    from dataclasses import asdict

    from fastgreen.atomic_file import write_text

    path = cache_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = _stored(str(path))
    stored[_key(channel)] = asdict(facts)
    write_text(path, json.dumps(stored, indent=1, sort_keys=True))
    return path


def recall(channels: list[Channel], folder: str | os.PathLike | None = None) -> list[Channel]:
    """The channels with the saved facts applied; a damaged cache has no effect."""
    stored = _stored(_cache_path(folder))
    out = []
    for channel in channels:
        try:
            out.append(apply(channel, _sound(SensorFacts(**stored[_key(channel)]))))
        except (KeyError, TypeError, ValueError):
            out.append(channel)
    return out


def _sound(facts: SensorFacts) -> SensorFacts:
    """The facts; ValueError where one is no number that a sensor can have."""
    for name, value in vars(facts).items():
        most = 1.0 if name == "coverage" else _MOST
        if value is not None and not (type(value) in (int, float) and 0 <= value <= most):
            raise ValueError(f"{name} is {value!r}")
    return facts


def apply(channel: Channel, facts: SensorFacts) -> Channel:
    """The channel with its update period, averaging and delay as seen; the period for bounds is the longest seen."""
    if facts.period_longest_s is None or facts.period_s is None:
        return channel
    traits = {**channel.traits, "period_ns": max(1, round(facts.period_longest_s * NS_PER_S))}
    return replace(
        channel,
        traits=traits,
        period_s=facts.period_s,
        averaging_s=facts.averaging_s,
        delay_s=facts.delay_s,
        coverage=facts.coverage,
    )
