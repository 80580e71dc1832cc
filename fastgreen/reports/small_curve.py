"""Power over time as a small picture in SVG, for a place beside a table."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from fastgreen.reports.curves import lines
from fastgreen.results.console import quantity

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["small_curve"]

_WIDTH, _HEIGHT, _EDGE = 560, 90, 16
_STEPS = 280


def small_curve(result: Result) -> str:
    """An SVG of the power of all counted channels, its bounds as a band, and its peaks; "" where there is none.

    Parameters
    ----------
    result : Result
    """
    found = lines(result)
    if not found.levels or not result.known:
        return ""
    level = found.levels[0]
    name = (
        ""
        if "" in level.curves
        else next(t.channel.id for t in result.traces if t.counted and t.channel.id in level.curves)
    )
    edges = np.asarray(level.edges_ns, float)
    together = max(1, -(-(len(edges) - 1) // _STEPS))
    begins = np.arange(0, len(edges) - 1, together)
    curve = {key: np.nan_to_num(values, posinf=0.0) for key, values in level.curves[name].items()}
    lengths = np.diff(edges)
    mean = np.add.reduceat(curve["mean"] * lengths, begins) / np.add.reduceat(lengths, begins)
    low, high = np.minimum.reduceat(curve["low"], begins), np.maximum.reduceat(curve["high"], begins)
    peak = float(np.max(curve["most"], initial=0.0))
    top = max(peak, min(float(np.max(high, initial=0.0)), 2 * peak)) * 1.05 or 1.0
    x = np.append(edges[begins], edges[-1])
    x = _WIDTH * (x - x[0]) / (x[-1] - x[0])

    def steps(watts: np.ndarray, back: bool = False) -> str:
        y = _HEIGHT - _HEIGHT * np.clip(watts, 0.0, top) / top
        points = [p for i in range(len(y)) for p in ((x[i], y[i]), (x[i + 1], y[i]))]
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in (reversed(points) if back else points))

    said = (
        f"power: mean {quantity(result.mean_power_w, 'W')}, peak {quantity(peak, 'W')} "
        f"(over {quantity(found.peak_s, 's', 2)}), in {quantity(result.duration_s, 's')}"
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _EDGE}" width="{_WIDTH}" style="max-width:100%" role="img" '
        f'aria-label="{escape(said)}"><polygon points="{steps(high)} {steps(low, back=True)}" fill="#00549f" '
        f'fill-opacity="0.25"/><polyline points="{steps(mean)}" fill="none" stroke="#2f7fd0" stroke-width="1.3"/>'
        f'<text x="0" y="{_HEIGHT + _EDGE - 4}" font-size="11" fill="currentColor">{escape(said)}</text></svg>'
    )
