"""Power over the time of a run at several step widths, and the windows below it, as small arrays.

Each level of a curve has its own bounds: those of a wide step are far narrower than the sum of those of its parts. A
level also keeps the smallest and largest power of the finest steps that the samples resolve, so that a short peak shows
at any width.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastgreen.results.questions import WindowsQuestion, ask
from fastgreen.results.result_tables import resolved_s
from fastgreen.results.trace import Bounded, Trace, learn
from fastgreen.units import NS_PER_S

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["Level", "Lines", "Part", "lines", "packed", "shares"]

_STEPS = 8000  # of the finest level of three curves; a page of more curves has fewer of each
_OVERVIEW = 1000  # steps of the widest level: as many as a screen has pixels
_FINEST = 1_200_000  # steps of all channels together in which peaks are looked for
_GOOD, _ENOUGH, _FEW = 20, 10, 100
_MISSING = 65535


class Level(NamedTuple):
    """One width of steps: their edges in ns, and for each curve the columns of `_COLUMNS` in W."""

    edges_ns: np.ndarray
    curves: dict[str, dict[str, np.ndarray]]


class Part:
    """A stretch of a run, for curves and lanes; all else is that of the whole run.

    Parameters
    ----------
    result : Result
    from_s, to_s : float or None
        Seconds since the first reading; None for the begin and the end of the run.

    Raises
    ------
    ValueError
        If the stretch is not within the run.
    """

    def __init__(self, result: Result, from_s: float | None, to_s: float | None) -> None:
        begin_s, end_s = from_s or 0.0, result.duration_s if to_s is None else min(to_s, result.duration_s)
        if not 0 <= begin_s < end_s:
            raise ValueError(
                f"from and to must be a stretch within the run of {result.duration_s:.6g} s, "
                f"not {begin_s:g} to {end_s:g}"
            )
        self._result = result
        self.start_ns = result.start_ns + round(begin_s * NS_PER_S)
        self.end_ns = result.end_ns if to_s is None else result.start_ns + round(end_s * NS_PER_S)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / NS_PER_S


class Lines(NamedTuple):
    """Curves of a run, the widest steps first; `peak_s` is the length of time over which a peak is a mean."""

    levels: list[Level]
    peak_s: float


def lines(result: Result | Part) -> Lines:
    """Power of each channel and of all counted channels together.

    A step is twenty times as wide as what the samples resolve (see `resolved_s`), so that its bounds are narrow; ten
    times in a run of fewer than 100 such steps.

    Parameters
    ----------
    result : Result

    Returns
    -------
    Lines
        No levels where nothing was read or no time passed. The sum of several counted channels is named "".
    """
    shown = [t for t in result.traces if t.has_data and not t.dead]
    counted = [t for t in shown if t.counted]
    span_ns = result.end_ns - result.start_ns
    if not shown or span_ns <= 0:
        return Lines([], 0.0)
    learn(shown)
    finest, middle, widest = _edges(result, resolved_s(counted or shown), len(shown) + 1)
    edges = {id(e): e for e in (finest, middle, widest)}
    asked = {key: [WindowsQuestion(t, e[:-1], e[1:]) for t in shown] for key, e in edges.items()}
    ask([question for questions in asked.values() for question in questions])
    energies = {key: [question.answer() for question in questions] for key, questions in asked.items()}
    fine_w = _powers(energies[id(finest)], shown, finest)
    levels = []
    for level in dict.fromkeys((id(widest), id(middle))):
        curves = _powers(energies[level], shown, edges[level])
        begins = np.searchsorted(finest, edges[level][:-1])
        for name, curve in curves.items():
            fine = fine_w[name]["mean"]
            curve["least"] = np.minimum(np.minimum.reduceat(fine, begins), curve["mean"])
            curve["most"] = np.maximum(np.maximum.reduceat(fine, begins), curve["mean"])
        levels.append(Level(edges[level], curves))
    return Lines(levels, float(finest[1] - finest[0]) / NS_PER_S)


def _edges(result: Result | Part, resolved: float, curves: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of the finest steps, of the middle ones, which are whole numbers of them, and of the widest."""
    duration_s = result.duration_s
    most = max(_STEPS * 3 // max(curves, 3), _OVERVIEW)
    wanted_s = resolved * (_GOOD if duration_s >= resolved * _GOOD * _FEW else _ENOUGH)
    step_s = _round_up(max(wanted_s, duration_s / most))
    count = max(1, round(duration_s / step_s))
    step_ns = max(1, round(step_s * NS_PER_S))
    least_s = max(resolved, duration_s * curves / _FINEST)
    parts = max(1, min(math.floor(step_s / least_s), step_ns))
    middle = np.append(result.start_ns + step_ns * np.arange(count, dtype=np.int64), result.end_ns)
    inside = (step_ns * np.arange(parts, dtype=np.int64)) // parts
    finest = np.append((middle[:-1, None] + inside).ravel(), result.end_ns)
    finest = np.append(np.unique(finest[finest < result.end_ns]), result.end_ns)
    together = math.ceil(count / _OVERVIEW)
    widest = middle if together == 1 else np.append(middle[:-1:together], result.end_ns)
    return finest, middle, widest


def _round_up(seconds: float) -> float:
    decade = 10.0 ** math.floor(math.log10(seconds))
    return next(n * decade for n in (1.0, 2.0, 5.0, 10.0, 20.0) if n * decade >= seconds)


def _powers(energies: list[Bounded], traces: list[Trace], edges: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    seconds = np.diff(edges) / NS_PER_S
    found = {t.channel.id: e for t, e in zip(traces, energies, strict=True)}
    counted = [e for t, e in zip(traces, energies, strict=True) if t.counted]
    if len(counted) > 1:
        found = {"": sum(counted, Bounded.zeros(len(seconds))), **found}
    return {
        name: {"mean": e.energy_j / seconds, "low": e.low_j / seconds, "high": e.high_j / seconds}
        for name, e in found.items()
    }


# ---- windows ----


def shares(begin_ns: np.ndarray, end_ns: np.ndarray, edges_ns: np.ndarray, most: float = 1.0) -> np.ndarray:
    """The part of each stretch between two edges in which windows were open, 0 to 1.

    The time of overlapping windows is added, up to `most`: infinity gives the mean number that was open. A stretch in
    which a window began has a share above 0, even if the window was short.
    """
    begins, ends = np.sort(begin_ns), np.sort(end_ns)
    inside = (_until(edges_ns, begins) - _until(edges_ns, ends)).astype(float)
    open_ns, lengths = np.diff(inside), np.diff(edges_ns)
    out = np.clip(open_ns / np.maximum(lengths, 1), 0.0, most)
    entered = np.diff(np.searchsorted(begins, edges_ns, side="left"))
    return np.where(entered > 0, np.maximum(out, 1e-3), out)


def _until(edges_ns: np.ndarray, instants_ns: np.ndarray) -> np.ndarray:
    """The sum over all instants of the time from it to the edge, where the edge is later."""
    first = int(edges_ns[0])
    places = np.searchsorted(instants_ns, edges_ns)
    total = np.concatenate([[0.0], np.cumsum((instants_ns - first).astype(float))])
    return places * (edges_ns - first).astype(float) - total[places]


# ---- small arrays ----


def packed(values: np.ndarray, direction: str = "nearest") -> dict[str, Any]:
    """Numbers as 16-bit integers of one scale and offset, in base64.

    Parameters
    ----------
    values : ndarray of float
        NaN and infinities become missing.
    direction : {"nearest", "down", "up"}
        Lower bounds are rounded down and upper bounds up.
    """
    finite = np.isfinite(values)
    known = values[finite]
    offset = float(min(known.min(initial=0.0), 0.0))
    scale = float(known.max(initial=0.0) - offset) / (_MISSING - 2) or 1.0
    rounded = {"nearest": np.rint, "down": np.floor, "up": np.ceil}[direction]
    steps = np.full(values.shape, _MISSING, np.float64)
    steps[finite] = np.clip(rounded((known - offset) / scale), 0, _MISSING - 1)
    return {"scale": scale, "offset": offset, "data": base64.b64encode(steps.astype("<u2").tobytes()).decode()}
