"""The last minutes of powers, as lines of small bars."""

from __future__ import annotations

from collections import deque
from typing import Any

__all__ = ["Histories", "History"]

_KEPT_S = 300.0
_MOST = 6000  # glances
_BARS = "▁▂▃▄▅▆▇█"


class History:
    """Powers of one channel in W, with the length of each in s."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque(maxlen=_MOST)
        self.seconds = 0.0

    def add(self, power_w: float, seconds: float) -> None:
        if len(self._values) == _MOST:
            self.seconds -= self._values[0][1]
        self._values.append((power_w, seconds))
        self.seconds += seconds
        while len(self._values) > 1 and self.seconds > _KEPT_S:
            self.seconds -= self._values.popleft()[1]

    @property
    def peak(self) -> float:
        """The highest power."""
        return max((power for power, _ in self._values), default=0.0)

    @property
    def mean(self) -> float:
        """The mean power over the time."""
        seconds = sum(s for _, s in self._values)
        return sum(power * s for power, s in self._values) / seconds if seconds > 0 else 0.0

    def sparkline(self, width: int) -> str:
        """A bar for each glance; where they are too many, for the highest of neighbours. The tallest is the peak."""
        powers = [power for power, _ in self._values]
        each = -(-len(powers) // max(width, 1)) or 1
        tops = [max(powers[i : i + each]) for i in range(0, len(powers), each)]
        peak = max(tops, default=0.0)
        steps = len(_BARS) - 1
        return "".join(_BARS[round(max(top, 0.0) / peak * steps) if peak > 0 else 0] for top in tops)


class Histories:
    """A `History` for each channel, and one of all together by the name ""."""

    def __init__(self) -> None:
        self._by_name: dict[str, History] = {}

    def of(self, name: str) -> History:
        return self._by_name.setdefault(name, History())

    def add(self, glance: dict[str, Any]) -> None:
        """Take in what a glance showed."""
        self.of("").add(glance["power_w"], glance["duration_s"])
        for name, channel in glance["channels"].items():
            self.of(name).add(channel["power_w"], glance["duration_s"])

    @property
    def length(self) -> str:
        """The time that is kept so far: "40 s", "5 min"."""
        seconds = self.of("").seconds
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
