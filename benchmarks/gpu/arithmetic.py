"""Analysis of recorded series of a GPU's sensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WindowFit:
    """Fit of a running mean over `window_s`, delayed by `delay_s`, between `low_w` and `high_w`; with its residual."""

    window_s: float
    delay_s: float
    low_w: float
    high_w: float
    residual: float


def on_time(edges: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """Seconds under load until each time; `edges` is (begin, end) of every stretch of load, in s."""
    begin, end = edges[:, 0], edges[:, 1]
    knots = np.stack([begin, end], axis=1).ravel()
    done = np.cumsum(end - begin)
    return np.interp(at_s, knots, np.stack([done - (end - begin), done], axis=1).ravel(), left=0.0)


def fit_window(at_s: np.ndarray, watts: np.ndarray, edges: np.ndarray) -> WindowFit | None:
    """Find the running mean of an on-off load that fits power readings best, over a grid of 5 ms to 2 s and delays.

    Readings are those at which the value changed. None where they are too few or the load made no difference.
    """
    inside = (at_s > edges[0, 0] + 2.4) & (at_s < edges[-1, 1])
    at_s, watts = at_s[inside], watts[inside]
    if len(at_s) < 16 or np.std(watts) < 0.02 * np.mean(watts):
        return None
    best: WindowFit | None = None
    for window_s in np.geomspace(0.005, 2.0, 61):
        for delay_s in np.linspace(0.0, 0.3, 61):
            end, begin = on_time(edges, at_s - delay_s), on_time(edges, at_s - delay_s - window_s)
            share = (end - begin) / window_s
            design = np.stack([1 - share, share], axis=1)
            levels = np.linalg.lstsq(design, watts, rcond=None)[0]
            if levels[1] <= levels[0]:
                continue  # half a wave late: the load lowers no power
            residual = float(np.sqrt(np.mean((design @ levels - watts) ** 2)) / np.std(watts))
            if best is None or residual < best.residual:
                best = WindowFit(float(window_s), float(delay_s), *map(float, levels), residual)
    return best


def bracketed(samples: np.ndarray, others: np.ndarray) -> dict[str, int]:
    """Whether the values of another reader of the same counter lie between our samples around its call.

    `others` has rows of (before_ns, after_ns, value). Counters only grow, so each value must lie between our last one
    before the call and our first one after it.
    """
    begin, end = (
        samples["at_ns"] - samples["half_ns"].astype(np.int64),
        samples["at_ns"] + samples["half_ns"].astype(np.int64),
    )
    last = np.searchsorted(end, others[:, 0], "right") - 1
    first = np.searchsorted(begin, others[:, 1], "left")
    inside = (last >= 0) & (first < len(samples))
    low, high = samples["raw"][last[inside]], samples["raw"][first[inside]]
    value = others[inside, 2]
    return {
        "compared": int(inside.sum()),
        "outside": int(((value < low) | (value > high)).sum()),
        "equal_to_a_neighbour": int(((value == low) | (value == high)).sum()),
    }


def percentiles_us(latencies_ns: np.ndarray) -> dict[str, float]:
    p50, p99, p999 = np.percentile(latencies_ns, [50, 99, 99.9]) / 1000
    return {
        "p50_us": float(p50),
        "p99_us": float(p99),
        "p999_us": float(p999),
        "max_us": float(np.max(latencies_ns)) / 1000,
        "mean_us": float(np.mean(latencies_ns)) / 1000,
        "launches": len(latencies_ns),
    }


def ages(rows: np.ndarray) -> dict[str, float]:
    """Age of a driver's own timestamps at the read, and how often they change.

    `rows` are (realtime in us, half way through the call; stamp in us).
    """
    age_us = rows[:, 0] - rows[:, 1]
    return {
        "readings": len(rows),
        "stamps": len(np.unique(rows[:, 1])),
        "age_p5_us": float(np.percentile(age_us, 5)),
        "age_p50_us": float(np.median(age_us)),
        "age_p95_us": float(np.percentile(age_us, 95)),
    }
