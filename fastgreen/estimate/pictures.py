"""Pictures of predictions: predicted against measured energy, shares by kind of layer, R^2 by feature set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.estimate.evaluate import score
from fastgreen.estimate.network import Estimate
from fastgreen.plot import DASHES, SHAPES, blank_figure

__all__ = ["draw_ablation", "draw_grid", "draw_predicted", "draw_shares"]

_COLOURS = ("#1b7837", "#7fbf7b", "#d9a441", "#b35806", "#542788", "#998ec3", "#666666", "#a6611a",
            "#2166ac", "#92c5de", "#d6604d", "#bbbbbb")  # fmt: skip
_HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "++", "**")


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, np.ndarray]:
    figure = blank_figure(width * columns, height * rows, dpi=100)
    return figure, np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()


def draw_predicted(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> Any:
    """Draw predicted against measured energy, a panel per name, on logarithmic axes.

    Parameters
    ----------
    pairs : mapping of str to (measured_j, predicted_j)
        By kind of layer or by network.
    title : str
        Title of the picture.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `pairs` is empty.
    """
    if not pairs:
        raise ValueError("pairs must have at least one entry, not be empty")
    columns = min(len(pairs), 4)
    rows = -(-len(pairs) // columns)
    figure, axes = _figure(rows, columns, 3.4, 3.5)
    for axis, (name, (measured, predicted)) in zip(axes, pairs.items(), strict=False):
        found = score(measured, predicted)
        shown = predicted > 0
        low = min(measured.min(), predicted[shown].min(initial=np.inf)) / 1.5
        high = max(measured.max(), predicted.max()) * 1.5
        axis.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=1)
        axis.scatter(measured[shown], predicted[shown], s=9, alpha=0.5, linewidths=0, color="#1b7837", zorder=2)
        axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
        axis.set_title(f"{name}\nR² {found.r2:.4f}, error {found.mape:.1%}, {found.rows} rows", fontsize=9)
        if hidden := int((~shown).sum()):
            axis.text(0.97, 0.04, f"{hidden} predicted below 0 J", transform=axis.transAxes, ha="right", fontsize=8)
        axis.tick_params(labelsize=8)
    for axis in axes[len(pairs) :]:
        axis.set_visible(False)
    figure.supxlabel("measured (J per forward pass)", fontsize=9)
    figure.supylabel("predicted (J per forward pass)", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def draw_shares(estimates: Mapping[str, Estimate]) -> Any:
    """Draw the share of energy by kind of layer, a bar per network.

    Parameters
    ----------
    estimates : mapping of str to Estimate
        By name of the network.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `estimates` is empty.
    """
    if not estimates:
        raise ValueError("estimates must have at least one entry, not be empty")
    figure, axes = _figure(1, 1, 7.0, 0.9 + 0.5 * len(estimates) + 0.8)
    axis = axes[0]
    shares: dict[str, np.ndarray] = {}
    for row, estimate in enumerate(estimates.values()):
        kinds, values = estimate.layers["kind"].to_pylist(), estimate.layers["share"].to_numpy()
        for kind, share in zip(kinds, values, strict=True):
            shares.setdefault(kind, np.zeros(len(estimates)))[row] += share
    left = np.zeros(len(estimates))
    ordered = sorted(
        ((kind, share) for kind, share in shares.items() if share.max() > 0), key=lambda pair: -pair[1].sum()
    )
    for index, (kind, share) in enumerate(ordered):
        axis.barh(list(estimates), share, left=left, label=kind, height=0.7, **_fill(index))
        for row, value in enumerate(share):
            if value >= 0.04:
                axis.text(
                    left[row] + value / 2, row, f"{value:.0%}", ha="center", va="center", color="white", fontsize=8
                )
        left += share
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share of the estimated energy")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=min(len(ordered), 6), fontsize=8, frameon=False)
    return figure


def _fill(index: int) -> dict[str, Any]:
    """Colour and hatching of a bar; 96 differ."""
    hatch = _HATCHES[index // len(_COLOURS) % len(_HATCHES)]
    return {"color": _COLOURS[index % len(_COLOURS)], "hatch": hatch, "edgecolor": "white", "linewidth": 0}


def draw_grid(grids: Mapping[str, pa.Table]) -> Any:
    """Draw energy per inference by batch size, a line with bounds per network.

    Parameters
    ----------
    grids : mapping of str to pyarrow.Table
        Tables of :meth:`fastgreen.estimate.Network.grid`, by network.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `grids` is empty.
    """
    if not grids:
        raise ValueError("grids must have at least one entry, not be empty")
    figure, (axis,) = _figure(1, 1, 6.5, 3.6)
    for index, (name, table) in enumerate(grids.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        line = {"linestyle": DASHES[index // len(_COLOURS) % len(DASHES)], "markersize": 3}
        batch = table["batch_size"].to_numpy()
        order = np.argsort(batch)
        energy, low, high = ((table[f"energy{bound}_j"].to_numpy() / batch)[order] for bound in ("", "_low", "_high"))
        finite = np.isfinite(high)
        axis.fill_between(batch[order], low, high, where=finite, color=colour, alpha=0.2, linewidth=0)
        shape = SHAPES[index % len(SHAPES)] if len(batch) < 20 else None
        axis.plot(batch[order], energy, color=colour, label=name, marker=shape, **line)
    axis.set(xlabel="batch size", ylabel="predicted energy (J per inference)")
    axis.set_ylim(bottom=None if axis.dataLim.y0 < 0 else 0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
    return figure


def draw_ablation(tables: Mapping[str, pa.Table], most: int = 8) -> Any:
    """Draw the unexplained part (1 - R^2) of feature sets: by number of features, and for the best set of each number.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table
        Tables of :func:`fastgreen.estimate.ablation`, by kind.
    most : int
        Best sets are shown by name up to this number of features.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `tables` is empty.
    """
    if not tables:
        raise ValueError("tables must have at least one entry, not be empty")
    figure, axes = _figure(len(tables), 2, 6.0, 2.8)
    for index, (kind, table) in enumerate(tables.items()):
        left = np.maximum(1 - table["r2"].to_numpy(), 1e-6)
        size = table["size"].to_numpy()
        sizes = np.unique(size)
        _by_size(axes[2 * index], kind, size, left)
        # The table is sorted, so the first of a size is its best.
        first = [int(np.argmax(size == n)) for n in sizes if n <= most]
        _by_name(axes[2 * index + 1], [table["features"][i].as_py() for i in first], left[first])
    return figure


def _by_size(axis: Any, kind: str, size: np.ndarray, left: np.ndarray) -> None:
    sizes = np.unique(size)
    axis.plot(sizes, [left[size == n].min() for n in sizes], marker="o", markersize=4, color="#1b7837", label="best")
    middle = [np.median(left[size == n]) for n in sizes]
    axis.plot(sizes, middle, marker="o", markersize=3, color="0.6", label="median")
    axis.set(xlabel="features in the set", ylabel="1 - R² (cross-validated)", yscale="log")
    _few_ticks(axis.yaxis, left)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_title(f"{kind}: {len(left)} feature sets", fontsize=9)
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _by_name(axis: Any, sets: list[list[str]], left: np.ndarray) -> None:
    rows = np.arange(len(sets))
    axis.hlines(rows, left.min() * 0.8, left, color="0.85", linewidth=1)
    axis.plot(left, rows, "o", markersize=4, color="#1b7837")
    axis.set_yticks(rows, [_short(features) for features in sets], fontsize=7)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="1 - R² of the best set of each size")
    _few_ticks(axis.xaxis, left)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="x", labelsize=8)


def _few_ticks(axis: Any, values: np.ndarray) -> None:
    """Label 1, 2 and 5 of each decade of a logarithmic axis, or 1 alone: more labels would overlap."""
    from matplotlib.ticker import LogLocator, NullFormatter

    wide = values.max() > 300 * values.min()
    axis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axis.set_major_formatter(lambda value, _: f"{value:.7g}")
    axis.set_minor_formatter(NullFormatter())


def _short(features: list[str], most: int = 5) -> str:
    """Abbreviated names of a feature set, macs first."""
    names = sorted(features, key=lambda name: name != "macs")
    names = [name.replace("_size", "").replace("_channels", "").replace("log1p", "log") for name in names]
    return ", ".join(names[:most]) + (f" + {len(names) - most} more" if len(names) > most else "")
