"""Pictures of studies and trade-offs. Points differ in shape as well as in colour, so that grey prints are legible."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.experiment.compile import Compiled
from fastgreen.experiment.tradeoffs import Tradeoff
from fastgreen.guards.printable import picture_text
from fastgreen.plot import finish
from fastgreen.results.picture_style import COLOURS, DASHES, blank_figure, mark
from fastgreen.units import NS_PER_S, counted

__all__ = [
    "draw_study",
    "energy_by_size",
    "latency_against_energy",
    "pareto_front",
    "power_over_time",
    "twin_axes",
]

_COLOURS = COLOURS
_MANY = 40  # points; above this number only important points get a label


def _new(width: float = 7.0, height: float = 4.5) -> tuple[Any, Any]:
    figure = blank_figure(width, height)
    axes = figure.add_subplot()
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(i: int) -> dict[str, Any]:
    return {
        **mark(i),
        "linestyle": DASHES[i % len(DASHES)],
        "markersize": 5,
        "linewidth": 1.4,
    }


def _scale(top: float, unit: str) -> tuple[float, str]:
    """A factor and a unit that bring the largest value to 1..1000."""
    for factor, prefix in ((1.0, ""), (1e3, "m"), (1e6, "µ"), (1e9, "n")):
        if top * factor >= 1.0:
            return factor, prefix + unit
    return 1.0, unit


def _sizes(compiled: Compiled) -> tuple[list[Any], list[str] | None]:
    sizes = compiled.sizes.column("size").to_pylist()
    if all(isinstance(s, float) for s in sizes):
        return sizes, None
    return list(range(len(sizes))), [str(s) for s in sizes]


def _size_axis(axes: Any, compiled: Compiled) -> None:
    _, words = _sizes(compiled)
    unit = picture_text(compiled.size_unit)
    axes.set_xlabel(f"input size ({unit})" if unit else "input size")
    if words is None:
        whole = all(size.is_integer() for size in compiled.sizes.column("size").to_pylist())
        axes.xaxis.get_major_locator().set_params(integer=whole)
    else:
        axes.set_xticks(range(len(words)), [picture_text(w, 24) for w in words], rotation=30 if len(words) > 6 else 0)


def _title(compiled: Compiled, what: str) -> str:
    return f"{picture_text(compiled.name)}: {what}" + (" (estimated)" if compiled.estimated else "")


def energy_by_size(compiled: Compiled) -> Any:
    """Draw the energy of one inference by size: a line per channel, with the quartiles of its runs."""
    figure, axes = _new()
    sizes = [str(s) for s in compiled.channels.column("size").to_pylist()]
    rows = list(zip(sizes, compiled.channels.to_pylist(), strict=True))
    places = dict(zip(dict.fromkeys(sizes), _done_places(compiled, sizes), strict=True))
    known = [row["energy_q3_j"] for _, row in rows if row["energy_q3_j"] is not None]
    factor, unit = _scale(max(known, default=1.0), "J")
    for i, name in enumerate(dict.fromkeys(row["channel"] for _, row in rows)):
        mine = [(places[size], row) for size, row in rows if row["channel"] == name and row["energy_j"] is not None]
        x = [place for place, _ in mine]
        middle, low, high = (
            np.array([row[k] for _, row in mine]) * factor for k in ("energy_j", "energy_q1_j", "energy_q3_j")
        )
        axes.errorbar(x, middle, yerr=[middle - low, high - middle], label=picture_text(name), capsize=2.5, **_style(i))
    lowest = min((row["energy_q1_j"] for _, row in rows if row["energy_q1_j"] is not None), default=0.0) * factor
    axes.set_ylim(bottom=min(0.0, 1.05 * lowest))
    axes.set_ylabel(f"energy per inference ({unit})")
    _size_axis(axes, compiled)
    axes.set_title(_title(compiled, "energy by size, median and quartiles"), fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _done_places(compiled: Compiled, sizes: list[str]) -> list[Any]:
    """Positions on the axis of the sizes with energies."""
    _, words = _sizes(compiled)
    if words is None:
        return [float(size) for size in dict.fromkeys(sizes)]
    return [words.index(size) for size in dict.fromkeys(sizes)]


def latency_against_energy(compiled: Compiled) -> Any:
    """Draw latency against energy, a point per size, with their correlation."""
    figure, axes = _new()
    rows = [r for r in compiled.sizes.to_pylist() if r["energy_j"] is not None and r["latency_s"] is not None]
    energy, latency = np.array([r["energy_j"] for r in rows]), np.array([r["latency_s"] for r in rows])
    fe, energy_unit = _scale(energy.max(initial=0.0) or 1.0, "J")
    fl, latency_unit = _scale(latency.max(initial=0.0) or 1.0, "s")
    axes.plot(latency * fl, energy * fe, "o", color=_COLOURS[0], markersize=5)
    # A little below zero, so that the smallest size does not sit on the frame.
    axes.set_xlim(-0.03 * max(latency * fl, default=1.0), 1.1 * max(latency * fl, default=1.0))
    axes.set_ylim(-0.04 * max(energy * fe, default=1.0), 1.1 * max(energy * fe, default=1.0))
    at = compiled.pearson.column("column").to_pylist()
    r = (
        compiled.pearson.column("energy_j").to_pylist()[at.index("latency_s")]
        if "energy_j" in at and "latency_s" in at
        else None
    )
    correlation = f", Pearson r = {r:.3f}" if r is not None else ""
    axes.set_xlabel(f"median latency ({latency_unit})")
    axes.set_ylabel(f"energy per inference ({energy_unit})")
    axes.set_title(_title(compiled, f"a point per size{correlation}"), fontsize=10)
    _label_points(axes, latency * fl, energy * fe, [_short(r["size"]) for r in rows])
    return figure


def twin_axes(compiled: Compiled) -> Any:
    """Draw energy (left axis) and latency (right axis) by size."""
    figure, axes = _new()
    x, _ = _sizes(compiled)
    energy = np.array([v if v is not None else np.nan for v in compiled.sizes.column("energy_j").to_pylist()])
    latency = np.array([v if v is not None else np.nan for v in compiled.sizes.column("latency_s").to_pylist()])
    fe, energy_unit = _scale(np.nanmax(energy, initial=0.0) or 1.0, "J")
    fl, latency_unit = _scale(np.nanmax(latency, initial=0.0) or 1.0, "s")
    right = axes.twinx()
    right.spines["top"].set_visible(False)
    lines = [
        *axes.plot(x, energy * fe, label="energy", **_style(0)),
        *right.plot(x, latency * fl, label="latency", **_style(1)),
    ]
    for side, style, text in (
        (axes, 0, f"energy per inference ({energy_unit})"),
        (right, 1, f"median latency ({latency_unit})"),
    ):
        side.set_ylabel(text, color=_COLOURS[style])
        side.tick_params(axis="y", colors=_COLOURS[style])
        side.set_ylim(bottom=None if side.dataLim.y0 < 0 else 0)
    _size_axis(axes, compiled)
    axes.legend(handles=lines, frameon=False, fontsize=8, loc="upper left")
    axes.set_title(_title(compiled, "energy and latency by size"), fontsize=10)
    return figure


def power_over_time(source: Any, *, windows: str | None = None, title: str = "") -> Any:
    """Draw the power of every channel over time, with the windows marked.

    Parameters
    ----------
    source : fastgreen.Result or Recording
    windows : str, optional
        Name of the windows of a Result to mark; by default all. Adjacent windows are drawn as one.
    title : str
        Title of the picture.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from fastgreen.recordings.recording import recording_of

    recording = recording_of(source)
    figure, axes = _new(8.0, 4.0)
    rows = [row for row in recording.channels.to_pylist() if row["kind"] == "power" and row["samples"]]
    curves = {row["id"]: recording.points(row["id"]) for row in rows}
    start_ns = min((c[0][0] for c in curves.values()), default=0)
    counters = {t.channel.id for t in getattr(source, "traces", ()) if t.channel.kind != "power"}
    for name in counters & curves.keys():
        curves[name] = _without_tail(*curves[name])
    for i, (name, (time_ns, segment, watts)) in enumerate(curves.items()):
        breaks = np.flatnonzero(np.diff(segment)) + 1
        seconds = np.insert((time_ns - start_ns) / NS_PER_S, breaks, np.nan)
        style = {**_style(i), "marker": None}
        axes.plot(seconds, np.insert(watts, breaks, np.nan), label=picture_text(name), **style)
    shown = _mark_windows(axes, source, windows, start_ns) if hasattr(source, "windows") else None
    top = max((float(np.nanmax(w, initial=0.0)) for _, _, w in curves.values()), default=1.0) or 1.0
    axes.set_ylim(
        1.06 * min(float(np.nanmin(w, initial=0.0)) for _, _, w in curves.values()) if curves else 0, 1.06 * top
    )
    axes.set_xlabel("time (s)")
    axes.set_ylabel("power (W)")
    figure.set_label(title)
    axes.set_title((picture_text(title) or "power over time") + (f", shaded: {shown}" if shown else ""), fontsize=10)
    if curves:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _without_tail(
    time_ns: np.ndarray, segment: np.ndarray, watts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a last step of 0 W that is no longer than an update of the counter: its next value was not awaited."""
    lengths = np.diff(time_ns)[::2]
    steps = lengths[:-1][watts[:-2:2] > 0]
    cut = -2 if len(watts) > 2 and watts[-1] == 0 and steps.size and lengths[-1] <= 2 * steps.max() else None
    return time_ns[:cut], segment[:cut], watts[:cut]


def _mark_windows(axes: Any, result: Any, name: str | None, start_ns: int) -> str | None:
    table = result.windows(name)
    if not table.num_rows:
        return None
    shift = result.metadata["realtime_ns"] - result.metadata["monotonic_ns"] - start_ns
    begin = (table.column("start_ns").to_numpy() + shift) / NS_PER_S
    end = begin + table.column("duration_s").to_numpy()
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.maximum.accumulate(end[order])
    # Windows closer than a thousandth of the picture cannot be told apart; draw them as one.
    apart = np.flatnonzero(begin[1:] - end[:-1] > (end[-1] - begin[0]) / 1000) + 1
    for a, b in zip([0, *apart], [*(apart - 1), len(end) - 1], strict=True):
        axes.axvspan(begin[a], end[b], color="#888888", alpha=0.18, linewidth=0)
    names = list(dict.fromkeys(table.column("name").to_pylist()))
    return f"{counted(table.num_rows, 'window')} of {picture_text(', '.join(map(repr, names)))}"


def pareto_front(result: Tradeoff) -> Any:
    """Draw quality against energy per unit of work; the groups on the Pareto front are joined and labelled."""
    figure, axes = _new(8.0, 5.5)
    rows = result.groups.to_pylist()
    energy, quality = np.array([r["energy_per_work_j"] for r in rows]), np.array([r["quality"] for r in rows])
    factor, unit = _scale(float(np.nanmax(energy)), "J")
    on = np.array([r["pareto"] for r in rows])
    seconds = list(dict.fromkeys(r.get(result.by[1], "") for r in rows))
    for i, level in enumerate(seconds):
        mine = np.array([r.get(result.by[1], "") == level for r in rows])
        style = {**mark(i), "linestyle": "", "markersize": 6}
        axes.plot(energy[mine] * factor, quality[mine], label=picture_text(str(level)) or None, **style)
    front = np.flatnonzero(on)[np.argsort(energy[on], kind="stable")]
    axes.plot(energy[front] * factor, quality[front], color="#000000", linewidth=1.2, zorder=1, label="Pareto front")
    named = picture_text(result.quality)
    axes.set_xlabel(f"median energy per unit of work: {picture_text(result.work)} ({unit})")
    axes.set_ylabel(f"median {named}")
    axes.set_title(f"what saves energy, and what it costs in {named}", fontsize=10)
    axes.margins(0.08)
    if _spread_near_one(axes, quality):
        axes.set_ylabel(f"median {named} (logarithmic scale of 1 - {named})")
    axes.legend(frameon=False, fontsize=8, loc="best")
    words = [picture_text(str(r[result.by[0]])) for r in rows]
    if len(rows) > _MANY:  # labels of all of them would overlap
        words = [word if front else "" for word, front in zip(words, on, strict=True)]
    _label_points(axes, energy * factor, quality, words, bold=on)
    return figure


def _spread_near_one(axes: Any, quality: np.ndarray) -> bool:
    """Use an axis of 1 - quality if some fractions are close to 1 and others far, so that the close ones differ.

    True if it does.
    """
    good = quality[np.isfinite(quality)]
    if not good.size or good.min() < 0 or good.max() >= 1 or (1 - good.min()) < 5 * (1 - good.max()):
        return False
    axes.set_yscale("function", functions=(lambda q: -np.log10(np.maximum(1 - q, 1e-9)), lambda v: 1 - 10.0**-v))
    low, high = 1 - 1.3 * (1 - good.min()), 1 - (1 - good.max()) / 1.3
    ticks = [
        t for t in (0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999) if low <= t <= high
    ]
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    return True


def _short(size: Any) -> str:
    return f"{size:g}" if isinstance(size, float) else picture_text(str(size), 24)


def _label_points(axes: Any, x: np.ndarray, y: np.ndarray, words: list[str], bold: np.ndarray | None = None) -> None:
    """Write a label beside each point, at a place that hides nothing; call it last, after limits and legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    figure.set_layout_engine("none")  # the places below are pixels of this layout
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    worded = [i for i in finite if words[i]]
    spots = axes.transData.transform(np.column_stack([x, y]))
    reach = 4.0 * figure.dpi / 72
    taken = [(px - reach, py - reach, px + reach, py + reach) for px, py in spots[finite]]
    taken += _line_boxes(axes, reach / 2)
    if axes.get_legend() is not None:
        taken.append(axes.get_legend().get_window_extent(renderer).extents)
    bounds = axes.get_window_extent(renderer).extents
    for i in worded:
        text = axes.annotate(
            words[i], (x[i], y[i]), fontsize=7, weight="bold" if bold is not None and bold[i] else "normal"
        )
        box = text.get_window_extent(renderer)
        text.remove()
        boxes = [_beside(spots[i], place, box.width, box.height, figure.dpi) for place in _PLACES]
        costs = [_cost(box, place, taken, bounds) for box, place in zip(boxes, _PLACES, strict=True)]
        best = int(np.argmin(costs))
        _annotate(axes, words[i], (x[i], y[i]), _PLACES[best], text.get_weight())
        taken.append(boxes[best])


def _sides(place: tuple[float, float]) -> tuple[float, float]:
    """Anchor of a label as fractions of its width and height: the side that faces the point."""
    dx, dy = place
    return (0.0 if dx > 2 else 1.0 if dx < -2 else 0.5), (0.0 if dy > 2 else 1.0 if dy < -2 else 0.5)


def _beside(
    spot: Any, place: tuple[float, float], width: float, height: float, dpi: float
) -> tuple[float, float, float, float]:
    """Box in pixels of a label at an offset in points."""
    across, up = _sides(place)
    left = float(spot[0]) + place[0] * dpi / 72 - across * width
    bottom = float(spot[1]) + place[1] * dpi / 72 - up * height
    return left, bottom, left + width, bottom + height


def _cost(box: tuple[float, ...], place: tuple[float, float], taken: list[Any], bounds: Any) -> float:
    """Cost of a label's place: hidden square pixels, and a little for the distance from its point."""
    outside = box[0] < bounds[0] or box[2] > bounds[2] or box[1] < bounds[1] or box[3] > bounds[3]
    return sum(_overlap(box, other) for other in taken) + 1e6 * outside + 0.5 * float(np.hypot(*place))


def _annotate(axes: Any, word: str, point: tuple[float, float], place: tuple[float, float], weight: str) -> None:
    across, up = _sides(place)
    line = {"arrowstyle": "-", "linewidth": 0.4, "color": "#888888", "shrinkA": 0, "shrinkB": 2}
    axes.annotate(
        word,
        point,
        place,
        textcoords="offset points",
        fontsize=7,
        weight=weight,
        ha={0.0: "left", 0.5: "center", 1.0: "right"}[across],
        va={0.0: "bottom", 0.5: "center", 1.0: "top"}[up],
        arrowprops=line if np.hypot(*place) > 12 else None,
    )


def _line_boxes(axes: Any, reach: float) -> list[tuple[float, float, float, float]]:
    """Small boxes along the drawn lines."""
    out = []
    for line in axes.get_lines():
        if line.get_linestyle() in ("None", "", " "):
            continue
        ends = axes.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float))
        for (x0, y0), (x1, y1) in pairwise(ends):
            for t in np.linspace(0, 1, 2 + int(np.hypot(x1 - x0, y1 - y0) / (2 * reach))):
                px, py = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
                out.append((px - reach, py - reach, px + reach, py + reach))
    return out


_PLACES = [
    (radius * float(np.cos(angle)), radius * float(np.sin(angle)))
    for radius in (7, 14, 22, 32, 44)
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False)
]


def _overlap(a: Any, b: Any) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return float(width * height) if width > 0 and height > 0 else 0.0


def draw_study(compiled: Compiled, folder: str | Path, *, sample: Any = None, name: str = "") -> list[Path]:
    """Draw the pictures of a study into a folder; returns the files.

    Parameters
    ----------
    compiled : Compiled
        The tables of the study.
    folder : path
        Folder for the pictures; made if it does not exist.
    sample : fastgreen.Result or Recording, optional
        One of its runs, for power over time.
    name : str
        Name of that run.
    """
    figures = {
        "energy_by_size": energy_by_size(compiled),
        "latency_against_energy": latency_against_energy(compiled),
        "twin_axes": twin_axes(compiled),
    }
    if sample is not None:
        figures["power_over_time"] = power_over_time(sample, title=f"{compiled.name}: {name}" if name else "")
    folder = compiled.output_folder(folder, [f"{name}.png" for name in figures])
    out = []
    for name, figure in figures.items():
        out.append(folder / f"{name}.png")
        finish(figure, out[-1], metadata={"Title": figure.get_label() or name})
    return out
