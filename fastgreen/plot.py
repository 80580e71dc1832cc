"""Pictures, with matplotlib: metrics as a heat map, as curves, with models as points; and the power of a run over time.

Colours come from cividis, which rises evenly in lightness and looks the same to colour-blind readers, and from the
palette of Okabe and Ito. Lines also differ in dashes, and points in shape and fill, so colour alone never carries a
meaning. Every function returns a matplotlib Figure, made without pyplot, so the figures of a script do not change.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgreen.atomic_file import new_file
from fastgreen.guards.printable import picture_text
from fastgreen.metrics.domains import ACCURACY, AMOUNT, check
from fastgreen.metrics.scores import apc
from fastgreen.metrics.sweep import METRICS, Sweep
from fastgreen.results.console import quantity, with_bounds
from fastgreen.results.picture_style import DASHES, FILLS, blank_figure, mark
from fastgreen.units import NS_PER_S, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastgreen.metrics.stored_sweep import StoredSweep
    from fastgreen.results.result import Result

__all__ = ["curves", "heat_map", "models", "power"]

_PIXELS = 1000  # along either side of a heat map: more would not be seen
_MOST_NAMES, _LONGEST = 10, 24  # windows below a power curve, and letters of their names
_LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def new_figure(columns: int = 1, width: float = 7.0, height: float = 4.6) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side that share their vertical axis; ModuleNotFoundError without matplotlib."""
    figure = blank_figure(width, height)
    return figure, list(figure.subplots(1, columns, sharey=True, squeeze=False)[0])


def shade(place: int, count: int) -> Any:
    """The colour of the place-th of count things: cividis without its light third, which fades on white."""
    from matplotlib import colormaps

    return colormaps["cividis"](0.7 * place / max(1, count - 1))


def axis_label(metric: str, unit: str | None) -> str:
    """The label of the axis of consumption or cost."""
    return f"Energy {METRICS[metric]} ({unit})" if unit else f"Energy {METRICS[metric]} (unit as given)"


def _amount(metric: str) -> str:
    """What the metric calls its energy. ValueError for one that has no curve."""
    if metric not in ("apc", "apec"):
        raise ValueError(f"metric must be apc or apec, not {metric!r}")
    return METRICS[metric]


def finish(figure: Figure, path: str | os.PathLike[str] | None, **options: Any) -> Figure:
    """Save the figure where a path was given; the ending of its name decides the format, which is png without one.

    The file appears whole, or stays what it was. The options go to the figure's ``savefig``, as ``dpi``.
    """
    if path is not None:
        with new_file(Path(path), overwrite=True) as place:
            try:
                figure.savefig(place, format=Path(path).suffix.removeprefix(".") or "png", **options)
            except ValueError as error:
                raise ValueError(f"cannot draw to {os.fspath(path)}: {error}") from None
    return figure


def heat_map(
    sweep: Sweep | StoredSweep,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    models: Iterable[tuple[str, float, float]] | None = None,
    levels: Sequence[float] = _LEVELS,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """APC or APEC over consumption (or cost) and accuracy, with isolines.

    Parameters
    ----------
    sweep : Sweep or StoredSweep
        Of "apc" or "apec", with at least two accuracies and two consumptions.
    alpha, beta : float, optional
        Which of the sweep's values to show; by default its first.
    models : iterable of (name, consumption, accuracy), optional
        Points to draw, in the sweep's unit, one shape for each name. Points beyond the sweep widen the picture's axes.
    levels : sequence of float
        Values of the isolines.
    title : str, optional
        By default the metric with alpha and beta.
    path : path, optional
        Where to save the picture; the ending decides the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the sweep is not of two dimensions at least or does not hold `alpha` or `beta`.
    ModuleNotFoundError
        If matplotlib is missing.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgreen as fg
    >>> sweep = fg.Sweep("apc", consumption=np.arange(0, 10, 0.1), accuracy=np.linspace(0, 1, 101), unit="Wh")
    >>> figure = fg.plot.heat_map(sweep, models=[("mine", 2.5, 0.93)])
    """
    cost, accuracy, values, chosen = _plane(sweep, alpha, beta)
    figure, (axes,) = new_figure(width=7.6)
    from matplotlib.patheffects import AbstractPathEffect, withStroke

    mesh = axes.pcolormesh(cost, accuracy, values, cmap="cividis", shading="nearest", rasterized=True)
    bar = figure.colorbar(mesh, ax=axes, label=sweep.metric.upper())
    inside = [level for level in levels if values.min() < level < values.max()]
    if inside:
        lines = axes.contour(cost, accuracy, values, levels=inside, colors="black", linewidths=0.8)
        halo: list[AbstractPathEffect] = [withStroke(linewidth=2.5, foreground="white")]
        spans = np.array([np.ptp(cost), np.ptp(accuracy)])
        for text in axes.clabel(lines, fmt="%g", fontsize=8, manual=_label_places(lines.allsegs, spans)):
            text.set_path_effects(halo)
        bar.add_lines(lines)
    points = [
        (name, check(METRICS[sweep.metric], c, AMOUNT), check("accuracy", a, ACCURACY)) for name, c, a in models or ()
    ]
    _draw_points(axes, points, on_dark=True)
    # The cells of a coarse grid reach beyond what there is.
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    axes.set_ylim(max(0.0, axes.get_ylim()[0]), min(1.0, axes.get_ylim()[1]))
    axes.set(xlabel=axis_label(sweep.metric, sweep.unit), ylabel="Accuracy (fraction)")
    axes.set_title(title or f"{sweep.metric.upper()} for {chosen}")
    if points:
        figure.legend(loc="outside lower center", ncols=min(4, len({name for name, *_ in points})), frameon=False)
    return finish(figure, path)


def _label_places(isolines: Sequence[Sequence[np.ndarray]], spans: np.ndarray) -> list[tuple[float, float]]:
    """The middle of each isoline, away from the picture's edges; an isoline too short for a number has no middle."""
    places = []
    for pieces in isolines:
        longest = max(pieces, key=len, default=np.empty((0, 2)))
        if len(longest) < 2:
            continue
        path = np.concatenate([[0.0], np.cumsum(np.hypot(*(np.diff(longest, axis=0) / spans).T))])
        if path[-1] > 0.1:
            x, y = (float(np.interp(path[-1] / 2, path, along)) for along in longest.T)
            places.append((x, y))
    return places


def _plane(
    sweep: Sweep | StoredSweep, alpha: float | None, beta: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Rising axes and values of one alpha and beta, thinned to the visible number, and the alpha and beta."""
    if sweep.metric not in ("apc", "apec"):
        raise ValueError(f"a heat map shows apc or apec, not {sweep.metric}")
    amount = METRICS[sweep.metric]
    cost, accuracy = sweep.axes[amount], sweep.axes["accuracy"]
    if np.unique(cost).size < 2 or np.unique(accuracy).size < 2:
        raise ValueError(
            f"a heat map needs two values of {amount} and of accuracy at least, not {cost.size}, {accuracy.size}"
        )
    at_beta, at_alpha = _place(sweep, "beta", beta), _place(sweep, "alpha", alpha)
    across, along = _thinned(cost), _thinned(accuracy)
    chosen = {"alpha": float(sweep.axes["alpha"][at_alpha]), "beta": float(sweep.axes["beta"][at_beta])}
    if isinstance(sweep, Sweep):
        axes: dict[str, Any] = {amount: cost[across], "accuracy": accuracy[along], **chosen}
        values = Sweep(sweep.metric, **axes).compute()[0, 0]
    else:
        first = (at_beta * sweep.shape[1] + at_alpha) * accuracy.size
        values = np.stack([sweep.read((first + i) * cost.size, (first + i + 1) * cost.size)[across] for i in along])
    return cost[across], accuracy[along], values, f"alpha = {chosen['alpha']:g}, beta = {chosen['beta']:g}"


def _thinned(axis: np.ndarray) -> np.ndarray:
    """Positions of at most _PIXELS values of an axis, rising, each value once."""
    places = np.unique(axis, return_index=True)[1]
    return places[np.linspace(0, places.size - 1, min(places.size, _PIXELS)).round().astype(np.int64)]


def _place(sweep: Sweep | StoredSweep, name: str, value: float | None) -> int:
    if value is None:
        return 0
    found = np.flatnonzero(np.isclose(sweep.axes[name], value, rtol=1e-9, atol=0))
    if not found.size:
        some = ", ".join(f"{one:g}" for one in sweep.axes[name][:8])
        raise ValueError(
            f"the sweep has no {name} of {value:g}; it has {some}{' ...' if sweep.axes[name].size > 8 else ''}"
        )
    return int(found[0])


def _draw_points(
    axes: Axes, points: list[tuple[str, float, float]], on_dark: bool = False, kinds: dict[str, str] | None = None
) -> None:
    """Points (name, x, y), a shape and fill for each name, listed once in the legend; a kind keeps its shape."""
    names = list(dict.fromkeys(name for name, *_ in points))
    shapes = {kind: place for place, kind in enumerate(dict.fromkeys(kinds.values()))} if kinds else {}
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        x, y = zip(*[(x, y) for one, x, y in points if one == name], strict=True)
        kind = kinds[name] if kinds else name
        turn = seen[kind] = seen.get(kind, -1) + 1
        look = mark(place, light=on_dark)
        if kinds:
            look = {**mark(shapes[kind]), "fillstyle": FILLS[turn % len(FILLS)]}
        axes.plot(
            x,
            y,
            linestyle="none",
            **look,
            markersize=8 if on_dark else 7,
            markerfacecoloralt="white",
            markeredgecolor="black",
            markeredgewidth=0.8,
            label=picture_text(name),
            zorder=3,
            clip_on=False,  # one on the edge is shown whole
        )


def curves(
    consumption: Any,
    accuracies: Sequence[float],
    *,
    metric: str = "apc",
    alpha: float | Sequence[float] = 0.1,
    beta: float | Sequence[float] = 1.0,
    unit: str | None = None,
    logarithmic: bool = False,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """APC or APEC along consumption (or cost), a line for each accuracy and a panel for each alpha or beta.

    Parameters
    ----------
    consumption : array_like
        The horizontal axis; cost for "apec".
    accuracies : sequence of float
        0..1.
    metric : {"apc", "apec"}
    alpha, beta : float or sequence of float
        At most one of them a sequence.
    unit : str, optional
        Of `consumption`.
    logarithmic : bool
        Draw the metric on a logarithmic scale, for large `beta`.
    title, path
        As in `heat_map`.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> import fastgreen as fg
    >>> figure = fg.plot.curves(np.arange(0, 10, 0.01), [0.7, 0.9, 0.99], alpha=[0.0, 0.5], unit="Wh per inference")
    """
    alphas, betas = np.atleast_1d(alpha), np.atleast_1d(beta)
    if alphas.size > 1 and betas.size > 1:
        raise ValueError("only one of alpha and beta can be a sequence")
    amount = _amount(metric)
    along = np.asarray(check(amount, consumption, AMOUNT))
    panels = max(alphas.size, betas.size)
    figure, all_axes = new_figure(panels, width=3.4 * panels + 2.6 if panels > 1 else 7.6)
    for axes, a, b in zip(all_axes, np.resize(alphas, panels), np.resize(betas, panels), strict=True):
        for place, accuracy in enumerate(accuracies):
            line = {"color": shade(place, len(accuracies)), "linestyle": DASHES[place % len(DASHES)]}
            axes.plot(along, apc(along, accuracy, a, b), label=f"{accuracy:g}", **line)
        axes.set(xlabel=axis_label(metric, unit), xlim=(along.min(), along.max()))
        axes.set_title(f"alpha = {a:g}, beta = {b:g}", fontsize="medium")
        axes.grid(alpha=0.3)
    # The axes share their vertical scale.
    all_axes[0].set(**{"yscale": "log"} if logarithmic else {"ylim": (0, 1.02)})
    all_axes[0].set_ylabel(f"{metric.upper()} (0 to 1{', logarithmic' if logarithmic else ''})")
    figure.suptitle(title or f"{metric.upper()} by {amount} and accuracy")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="Accuracy", loc="outside right center", frameon=False)
    return finish(figure, path)


def models(
    table: Iterable[tuple[str, float | Sequence[float], float]],
    *,
    metric: str = "apc",
    alpha: float = 0.1,
    beta: float = 1.0,
    consumption: Any = None,
    unit: str | None = None,
    kinds: Sequence[str] | None = None,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Models as points on the curve of their accuracy.

    Parameters
    ----------
    table : iterable of (name, consumption, accuracy)
        One row per model; consumption (cost for "apec") may be several measurements. Rows of equal accuracy share a
        curve.
    metric, alpha, beta, unit, title, path
        As in `curves`.
    consumption : array_like, optional
        The horizontal axis; by default from 0 to a little beyond the models.
    kinds : sequence of str, optional
        The model of each row, such as one network on several boards: rows of a model have the same shape and differ in
        fill. By default every name is a model.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import fastgreen as fg
    >>> figure = fg.plot.models([("ResNet-50", 9.8, 0.9349), ("MobileNetV2", [8.78, 8.96], 0.9454)], beta=0.1)
    """
    amount = _amount(metric)
    rows = [(name, np.atleast_1d(check(amount, c, AMOUNT)), check("accuracy", a, ACCURACY)) for name, c, a in table]
    if not rows:
        raise ValueError("the table of models is empty")
    furthest = max(float(values.max()) for _, values, _ in rows)
    along = np.linspace(0, 1.1 * furthest or 1.0, 500) if consumption is None else np.asarray(consumption)
    figure, (axes,) = new_figure(width=8.2)
    accuracies = list(dict.fromkeys(float(accuracy) for *_, accuracy in rows))
    for place, accuracy in enumerate(accuracies):
        line = {"color": shade(place, len(accuracies)), "linestyle": DASHES[place % len(DASHES)], "linewidth": 1}
        axes.plot(along, apc(along, accuracy, alpha, beta), label=f"accuracy {accuracy:g}", **line)
    points = [(n, float(c), float(apc(c, a, alpha, beta))) for n, values, a in rows for c in values]
    if kinds is not None and len(kinds) != len(rows):
        raise ValueError(f"kinds must be {len(rows)} names, one for each row, not {len(kinds)}")
    groups = None if kinds is None else {name: kind for (name, *_), kind in zip(rows, kinds, strict=True)}
    _draw_points(axes, points, kinds=groups)
    axes.set(xlabel=axis_label(metric, unit), ylabel=f"{metric.upper()} (0 to 1)")
    axes.grid(alpha=0.3)
    figure.suptitle(title or f"{metric.upper()} of models, alpha = {alpha:g}, beta = {beta:g}")
    figure.legend(loc="outside right center", frameon=False)
    return finish(figure, path)


def power(
    result: Result,
    *,
    step_s: float | None = None,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Power over the time of a run with its bounds, and below it the times of the windows.

    Parameters
    ----------
    result : Result
        A finished run.
    step_s : float, optional
        As in `fastgreen.Result.power`. By default wide enough for narrow bounds: ten to twenty times as wide as what
        the samples resolve, if the run is long enough.
    title, path
        As in `heat_map`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        When no counted channel was read, or no time passed.
    """
    from fastgreen.results.result_tables import picture_step_s

    step_s = picture_step_s(result) if step_s is None else step_s
    table = result.power(step_s)
    if not result.known or not table.num_rows:
        raise ValueError("there is no power to draw: " + ("no time passed" if result.known else "nothing was read"))
    names = result.names
    shown = names[:_MOST_NAMES]
    figure = blank_figure(8.2, 4.2 + 0.25 * len(shown))
    ratios = [3.6, 0.25 * len(shown) + 0.15] if shown else [1]
    axes = list(figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0])
    _draw_power(axes[0], result, table, step_s)
    if shown:
        _draw_windows(axes[1], result, shown)
    left_out = f"; not shown: {counted(len(names) - len(shown), 'window')}" if len(names) > len(shown) else ""
    axes[-1].set(xlabel=f"Time since the first reading (s){left_out}", xlim=(0, result.duration_s))
    energy, between = with_bounds(
        result.energy_j, result.energy_low_j, result.energy_high_j, "J", quality=result.bounds
    )
    figure.suptitle(title or f"{energy} ({between}) in {quantity(result.duration_s, 's')}")
    return finish(figure, path)


def _draw_power(axes: Axes, result: Result, table: Any, step_s: float | None) -> None:
    """The total as steps with its bounds as a band; the counted channels as lines where there are several."""
    edges = np.append((table["start_ns"].to_numpy() - result.start_ns) / NS_PER_S, result.duration_s)
    column = {name: table[name].to_numpy() for name in ("power_w", "power_low_w", "power_high_w")}
    axes.stairs(
        column["power_high_w"],
        edges,
        baseline=column["power_low_w"],
        fill=True,
        color="0.8",
        label="between readings (sampled, not bounded)" if result.bounds == "sampled" else "its bounds",
    )
    axes.stairs(column["power_w"], edges, baseline=None, color="black", label="power")
    parts = [t.channel.id for t in result.traces if t.counted and t.has_data]
    if len(parts) > 1:
        each = result.power(step_s, per_channel=True)
        of = np.asarray(each["channel"].to_pylist())
        for place, name in enumerate(parts):
            line = {"color": shade(place, len(parts)), "linestyle": DASHES[1 + place % (len(DASHES) - 1)]}
            axes.stairs(each["power_w"].to_numpy()[of == name], edges, baseline=None, label=picture_text(name), **line)
    axes.set_ylabel("Power (W), estimated" if result.estimated else "Power (W)")
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(column["power_low_w"]))))
    axes.grid(alpha=0.3)
    axes.figure.legend(loc="outside lower center", frameon=False, ncols=4, fontsize="small")


def _draw_windows(axes: Axes, result: Result, names: list[str]) -> None:
    """A row of bars for each name. Stretches too near each other to be drawn apart become one bar."""
    least_s = result.duration_s / _PIXELS
    for row, name in enumerate(names):
        windows = result.windows(name)
        begin = (windows["start_ns"].to_numpy() - result.start_ns) / NS_PER_S
        order = np.argsort(begin, kind="stable")
        begin = begin[order]
        end = np.maximum.accumulate(begin + windows["duration_s"].to_numpy()[order])
        first = np.flatnonzero(np.append(True, begin[1:] - end[:-1] > least_s))
        last = np.append(first[1:], len(begin)) - 1
        lengths = np.maximum(end[last] - begin[first], least_s)
        left = np.minimum(begin[first], result.duration_s - least_s)  # one at the very end is seen too
        axes.broken_barh(list(zip(left, lengths, strict=True)), (row - 0.35, 0.7), color=shade(row, len(names)))
    axes.set_yticks(range(len(names)), [picture_text(n, _LONGEST) for n in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", labelsize="small", length=0)
