"""Comparison of two meters over the same time, for example one inside the machine and one at the wall."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from fastgreen.recordings.curve import Curve
from fastgreen.recordings.readers.timestamps import LATEST_NS
from fastgreen.recordings.recording import Recording
from fastgreen.units import NS_PER_S

__all__ = ["Comparison", "NoOverlap", "compare"]


class NoOverlap(ValueError):
    """Two recordings do not overlap in time; `when` gives their times."""

    def __init__(self, when: str) -> None:
        super().__init__(f"outer: {when}; is it the time zone (timezone=) or a shifted clock (shift_s=)?")
        self.when = when


@dataclass(frozen=True)
class Comparison:
    """Energies of two meters over the time that both cover.

    Attributes
    ----------
    inner, outer : str
        Tools and channels of the two meters.
    inner_j, outer_j : float
        Energies in J.
    ratio : float
        inner / outer.
    difference_j : float
        outer - inner, in J.
    missing_share : float
        Fraction of the outer meter's energy that the inner one does not see; negative if it sees more.
    seconds : float
        Compared time in s.
    left_out_s : float
        Time that only one of the two covers, in s.
    """

    inner: str
    outer: str
    inner_j: float
    outer_j: float
    seconds: float
    left_out_s: float

    @property
    def ratio(self) -> float:
        return self.inner_j / self.outer_j if self.outer_j else float("nan")

    @property
    def difference_j(self) -> float:
        return self.outer_j - self.inner_j

    @property
    def missing_share(self) -> float:
        return 1.0 - self.ratio

    def __str__(self) -> str:
        return (
            f"{self.inner} {self.inner_j:.6g} J, {self.outer} {self.outer_j:.6g} J over {self.seconds:.3f} s: "
            f"ratio {self.ratio:.4f}, missing {self.missing_share:.1%}"
        )


def compare(
    inner: Recording,
    outer: Recording,
    *,
    inner_channels: list[str] | None = None,
    outer_channels: list[str] | None = None,
    shift_s: float = 0.0,
) -> Comparison:
    """Compare two recordings over the time that every chosen channel of both covers.

    Parameters
    ----------
    inner, outer : Recording
        For example AIPowerMeter's and a wattmeter's.
    inner_channels, outer_channels : list of str, optional
        Ids of the channels to add up; by default the root channels.
    shift_s : float
        Seconds added to the inner recording's clock.

    Raises
    ------
    ValueError
        If a recording has no power channel, or `shift_s` is not finite.
    NoOverlap
        If the two recordings do not overlap in time.
    """
    if not abs(shift_s) < LATEST_NS / NS_PER_S:
        raise ValueError(f"shift_s must be a number of seconds, not {shift_s}")
    shift_ns = round(shift_s * NS_PER_S)
    ours, theirs = _curves(inner, inner_channels, shift_ns), _curves(outer, outer_channels, 0)
    common = _common(list(ours.values()) + list(theirs.values()))
    if not common:
        raise NoOverlap(f"the two recordings do not overlap: {_when(ours)} against {_when(theirs)}")
    joules = [sum(c.energy_j(a, b) for c in curves.values() for a, b in common) for curves in (ours, theirs)]
    seconds = sum(b - a for a, b in common) / NS_PER_S
    covered = [sum(b - a for a, b in _common(list(curves.values()))) / NS_PER_S for curves in (ours, theirs)]
    left_out = sum(covered) - 2 * seconds
    return Comparison(_name(inner, ours), _name(outer, theirs), joules[0], joules[1], seconds, max(0.0, left_out))


def _curves(recording: Recording, channels: list[str] | None, shift_ns: int) -> dict[str, Curve]:
    rows = recording.channels.to_pylist()
    chosen = channels or [row["id"] for row in rows if row["root"] and row["energy_j"] is not None]
    if not chosen:
        raise ValueError(f"channels must be given for {recording.path}: it has no root power channel with a value")
    curves = {}
    for name in chosen:
        time_ns, segment, watts = recording.points(name)
        curves[name] = Curve(time_ns + shift_ns, segment, watts)
    return curves


def _common(curves: list[Curve]) -> list[tuple[int, int]]:
    """Time spans that all curves cover."""
    common = curves[0].spans()
    for curve in curves[1:]:
        spans, merged, i, j = curve.spans(), [], 0, 0
        while i < len(common) and j < len(spans):
            start, end = max(common[i][0], spans[j][0]), min(common[i][1], spans[j][1])
            if start < end:
                merged.append((start, end))
            if common[i][1] <= spans[j][1]:
                i += 1
            else:
                j += 1
        common = merged
    return common


def _when(curves: dict[str, Curve]) -> str:
    spans = [span for curve in curves.values() for span in curve.spans()]
    if not spans:
        return "no time at all"
    first, last = min(a for a, _ in spans), max(b for _, b in spans)
    return " to ".join(datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S") for ns in (first, last))


def _name(recording: Recording, curves: dict[str, Curve]) -> str:
    return f"{recording.source} ({' + '.join(curves)})"
