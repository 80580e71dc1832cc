"""Whether what the files of a run say can be so: every number that is computed with later, and the samples' order.

Each check raises ValueError that names the member and what it holds; the reader of the file adds its name.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgreen import _resolver
from fastgreen.units import UNITS, counted

if TYPE_CHECKING:
    from fastgreen.sensors.channel import Channel

__all__ = [
    "EARLIEST_NS",
    "LARGEST",
    "LATEST_NS",
    "LONGEST_NS",
    "SamplesCheck",
    "check_channel",
    "check_integer",
    "check_tally",
    "parse_json",
]

LARGEST = 1 << 62
# Sums and differences of such instants and lengths fit in 64 bits. Instants count from a machine's start, or, of
# recordings by other meters, from 1970.
EARLIEST_NS, LATEST_NS = -(1 << 60), (1 << 62) - (1 << 34)  # 1933 to 2116
LONGEST_NS = 1 << 60  # 36 years
_MOST_COUNTS = (1 << 63) - (1 << 12)  # what a counter can have grown by: 64 bits, and room for rounding
_MOST_QUANTUM = 1 << 40  # millions of restarts of such a counter fit in 64 bits
_MOST_W = 1e15
_MOST_S = 1e9

_KEPT = 1 << (16 - _resolver.BETWEEN)  # samples that a later one can come back across

_TEXTS = ("id", "source", "kind", "name", "unit", "device", "driver")
_TEXTS_OR_NONE = ("parent", "reason", "remedy", "note")
_FLAGS = ("root", "readable", "estimated", "visible", "counted")
_NUMBERS_OR_NONE = {
    "wrap_j": _MOST_W,
    "ceiling_w": _MOST_W,
    "floor_w": _MOST_W,
    "period_s": _MOST_S,
    "averaging_s": _MOST_S,
    "delay_s": _MOST_S,
    "coverage": 1.0,
}
_TRAITS = {
    "modulus": (0, _MOST_COUNTS + (1 << 12)),
    "quantum": (1, _MOST_QUANTUM),
    "period_ns": (1, LONGEST_NS),
    "plausible_per_s": (0, _MOST_COUNTS),
}
_COUNTS = ("samples", "updates", "gaps", "resets", "periods")
_INSTANTS = ("first_at_ns", "last_at_ns", "end_at_ns")
_LENGTHS = ("read_longest_ns", "step_longest_ns", "period_lower_ns", "period_upper_ns")
_FAULTS = ("missed", "lost", "read_errors")


def parse_json(text: str | bytes) -> Any:
    """What the text stands for; ValueError for what is no JSON, nests too deep or cannot be written as UTF-8."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("JSON that nests too deep") from error
    return value


def check_integer(name: str, value: Any, least: int = 0, most: int = LARGEST) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _check_number(name: str, value: Any, least: float, most: float) -> None:
    # An integer can be too large for a float; NaN is in no range.
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"{name} is {_shown(value)}")


def _check_member(name: str, value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise ValueError(f"{name} is {_shown(value)}")


def check_channel(row: dict[str, Any], traits: dict[str, Any]) -> None:
    """A row of channels.arrow without the report in it. ValueError or KeyError."""
    for name in _TEXTS:
        _check_member(name, row[name], str)
    for name in _TEXTS_OR_NONE:
        if row[name] is not None:
            _check_member(name, row[name], str)
    _check_member("counter", row.get("counter", ""), str)
    for name in _FLAGS:
        _check_member(name, row[name], bool)
    for name, most in _NUMBERS_OR_NONE.items():
        if row[name] is not None:
            _check_number(name, row[name], 0.0, most)
    most_w = row["ceiling_w"] if row["ceiling_w"] is not None or row["estimated"] else math.inf
    if most_w is None or (row["floor_w"] or 0.0) > most_w:
        raise ValueError(f"floor_w is {row['floor_w']!r}, ceiling_w {row['ceiling_w']!r}")
    if row["unit"] not in UNITS:
        raise ValueError(f"unit is {_shown(row['unit'])}")
    if row["kind"] != ("energy" if "J" in row["unit"] else "power") or traits["kind"] != row["kind"]:
        raise ValueError(f"kind is {row['kind']!r}, of traits {_shown(traits['kind'])}, in {row['unit']}")
    for name, (least, most) in _TRAITS.items():
        check_integer(name, traits[name], least, most)


def check_tally(tally: dict[str, Any], channel: Channel) -> None:
    """The final counts of a channel (``_core.Sampler.tally``). ValueError or KeyError where one cannot be."""
    for name in _COUNTS:
        check_integer(name, tally[name])
    for name in _INSTANTS:
        check_integer(name, tally[name], EARLIEST_NS, LATEST_NS)
    for name in _LENGTHS:
        check_integer(name, tally[name], 0, 3 * LONGEST_NS)
    check_integer("period_ns", tally["period_ns"], 1, 3 * LONGEST_NS)
    for name in _FAULTS:
        if tally[name] is not None:
            check_integer(name, tally[name])
    _check_number("read_mean_ns", tally["read_mean_ns"], 0.0, LARGEST)
    _check_number("peak_per_ns", tally["peak_per_ns"], 0.0, 2.0**64)
    if tally["period_mean_ns"] is not None:
        _check_number("period_mean_ns", tally["period_mean_ns"], 0.0, LARGEST)
    for name in ("total", "end_total"):
        if channel.kind == "energy":
            check_integer(name, tally[name], most=(1 << 63) - 1)
        else:
            _check_number(name, tally[name], -1e38, 1e38)
    for name in ("why_ended", "last_error"):
        if tally[name] is not None:
            _check_member(name, tally[name], str)
    check_integer("jumps", tally.get("jumps", 0), most=tally["samples"])
    check_integer("tick_ns", tally.get("tick_ns", 0))
    _check_member("still_why", tally.get("still_why", ""), str)
    _check_stretches("still_ns", tally.get("still_ns", []))
    _check_stretches("in_turn_ns", [tally["in_turn_ns"]] if tally.get("in_turn_ns") else [])
    _check_order(tally)


def _check_stretches(name: str, stretches: Any) -> None:
    """Pairs of instants, each before the next."""
    if type(stretches) is not list or not all(type(pair) is list and len(pair) == 2 for pair in stretches):
        raise ValueError(f"{name} is {_shown(stretches)}")
    instants = [instant for pair in stretches for instant in pair]
    for instant in instants:
        check_integer(name, instant, EARLIEST_NS, LATEST_NS)
    if instants != sorted(instants):
        raise ValueError(f"{name} is {_shown(stretches)}, which runs backwards")


def _check_order(tally: dict[str, Any]) -> None:
    """Its counts and instants beside each other."""
    for name in ("updates", "gaps", "resets", "periods"):
        if tally[name] > tally["samples"]:
            raise ValueError(f"{name} is {tally[name]}, of {counted(tally['samples'], 'sample')}")
    for earlier, later in (("first_at_ns", "end_at_ns"), ("first_at_ns", "last_at_ns"), ("end_at_ns", "last_at_ns")):
        if tally["samples"] > 0 and tally[earlier] > tally[later]:
            raise ValueError(f"{earlier} is {tally[earlier]}, after {later}, {tally[later]}")


class SamplesCheck:
    """Looks at the samples of one channel, chunk by chunk: that they go forwards and fit its tally.

    Parameters
    ----------
    channel : Channel
    tally : dict or None
        None where the recording process was killed before it wrote one.
    """

    def __init__(self, channel: Channel, tally: dict[str, Any] | None) -> None:
        self.channel, self.tally = channel, tally
        self._last: np.ndarray | None = None
        self._count = self._resets = self._grown = 0
        self._totals = [np.zeros(1, np.int64)]  # of the last samples: one may come back to any of them
        self._until_end: float = 0  # a counter's stays an integer
        self._rounding = 0.0
        self._raws = [np.zeros(1, np.int64)]

    def take(self, samples: np.ndarray) -> None:
        """The next samples (dtype ``_resolver.SAMPLE``). ValueError."""
        if len(samples) == 0:
            return
        if self._last is None:
            self._raws = [samples["raw"][:1].copy()]
        joined = samples if self._last is None else np.concatenate([self._last, samples])
        self._last = samples[-1:].copy()
        self._count += len(samples)
        at_ns = joined["at_ns"]
        if np.any(at_ns[1:] < at_ns[:-1]):
            raise ValueError(f"the time of {self.channel.id} runs backwards")
        if at_ns[0] < EARLIEST_NS or at_ns[-1] > LATEST_NS:
            raise ValueError(f"samples of {self.channel.id} lie from {at_ns[0]} to {at_ns[-1]} ns")
        if self.channel.kind == "energy":
            self._take_counts(joined)
        else:
            self._take_powers(joined)
        if self.tally is not None:
            self._compare(int(samples["at_ns"][0]), int(at_ns[-1]), self.tally)

    def _take_counts(self, joined: np.ndarray) -> None:
        raw, wraps, flags = joined["raw"], joined["wraps"][1:], joined["flags"][1:]
        identity, modulus = self.channel.id, self.channel.traits["modulus"]
        restarted = (flags & _resolver.RESET) != 0
        if int(raw.max()) - int(raw.min()) > _MOST_COUNTS:
            raise ValueError(f"the counter of {identity} jumps from {raw.min()} to {raw.max()}")
        steps = np.diff(raw)
        most = np.where(restarted, 0.0, steps + wraps * float(modulus))
        if self._grown + float(most.sum()) > _MOST_COUNTS:
            raise ValueError(f"the counter of {identity} wraps more often than 64 bits can count")
        steps = np.where(restarted, 0, steps + wraps.astype(np.int64) * modulus)
        if np.any(steps < 0):
            raise ValueError(f"the counter of {identity} runs backwards, and neither wraps nor restarts")
        self._grown += int(steps.sum())
        self._resets += int(np.count_nonzero(restarted))
        self._add_up(joined, steps)

    def _add_up(self, joined: np.ndarray, steps: np.ndarray) -> None:
        """Totals after each sample; one that comes back goes on from the sample before the jump."""
        flags, identity, modulus = joined["flags"][1:], self.channel.id, self.channel.traits["modulus"]
        totals = self._totals[-1][-1] + np.cumsum(steps)
        returns = np.flatnonzero(flags & _resolver.RETURN).tolist()
        if returns:
            first = sum(map(len, self._totals))
            totals, raw = np.concatenate([*self._totals, totals]), np.concatenate([*self._raws, joined["raw"][1:]])
            for i in returns:
                place = first + i
                before = place - 1 - (int(flags[i]) >> _resolver.BETWEEN)
                if before < 0:
                    raise ValueError(f"the counter of {identity} comes back to a sample before its first")
                grown = int(raw[place]) - int(raw[before]) + int(joined["wraps"][1 + i]) * modulus
                totals[place:] += int(totals[before]) + grown - int(totals[place])
            totals = totals[first:]
        if self.tally is not None and len(totals):
            until = int(np.searchsorted(joined["at_ns"][1:], self.tally["end_at_ns"], side="right"))
            self._until_end = int(totals[until - 1]) if until else self._until_end
        self._keep(totals, joined["raw"][1:])

    def _keep(self, totals: np.ndarray, raw: np.ndarray) -> None:
        """As many as a later sample can come back across, and some more."""
        if not len(totals):
            return
        self._totals.append(totals[-_KEPT:].copy())
        self._raws.append(raw[-_KEPT:].copy())
        kept = sum(map(len, self._totals))
        while kept - len(self._totals[0]) >= _KEPT:
            kept -= len(self._totals.pop(0))
            self._raws.pop(0)

    def _take_powers(self, joined: np.ndarray) -> None:
        if self.tally is None:
            return
        raw, at_ns = joined["raw"].astype(np.float64), joined["at_ns"]
        if raw.max() > self.tally["peak_per_ns"]:
            raise ValueError(
                f"{self.channel.id} shows {raw.max():.0f}, channels.arrow says {self.tally['peak_per_ns']:.0f} at most"
            )
        parts = (raw[1:] + raw[:-1]) / 2 * np.diff(at_ns)
        self._until_end += float(parts[at_ns[1:] <= self.tally["end_at_ns"]].sum())
        self._rounding += 1e-9 * float(np.abs(parts).sum())

    def _compare(self, first_ns: int, last_ns: int, tally: dict[str, Any]) -> None:
        identity = self.channel.id
        if first_ns < tally["first_at_ns"] or last_ns > tally["last_at_ns"]:
            raise ValueError(
                f"samples of {identity} lie from {first_ns} to {last_ns} ns, "
                f"channels.arrow says from {tally['first_at_ns']} to {tally['last_at_ns']}"
            )
        taken_back = tally["samples"] if tally.get("jumps") else 0  # restarts of a counter that came back after all
        if self._count > tally["samples"] or self._resets > tally["resets"] + taken_back:
            raise ValueError(
                f"{identity} has {counted(self._count, 'sample')} with {counted(self._resets, 'restart')} or "
                f"more, channels.arrow says {tally['samples']} with {tally['resets']}"
            )

    def finish(self) -> None:
        """All have been taken. ValueError where every sample is there and they do not sum up to the tally's total."""
        if self.tally is None or self._count != self.tally["samples"]:
            return
        stored = self.tally["end_total"]
        if abs(self._until_end - stored) > self._rounding:
            raise ValueError(f"{self.channel.id} sums up to {self._until_end:.0f}, channels.arrow says {stored:.0f}")
