"""Pictures: predicted against measured, the share of energy by kind of layer, R^2 by feature set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.estimate.evaluate import score
from fastgreen.estimate.network import Estimate

__all__ = ["plot_ablation", "plot_predicted", "plot_shares"]


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, np.ndarray]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install 'fastgreen[plot]'") from error
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()


def plot_predicted(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> Any:
    """Predicted against measured energy, a panel per name, on logarithmic axes.

    Parameters
    ----------
    pairs : mapping of str to (measured_j, predicted_j)
        By kind of layer or by network.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not pairs:
        raise ValueError("pairs: nothing to plot")
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
        axis.set_title(f"{name}\nR² {found.r2:.3f}, error {found.mape:.1%}, {found.rows} rows", fontsize=9)
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


def plot_shares(estimates: Mapping[str, Estimate]) -> Any:
    """Share of a network's energy by kind of layer, a bar per network."""
    if not estimates:
        raise ValueError("estimates: nothing to plot")
    figure, axes = _figure(1, 1, 7.0, 0.9 + 0.5 * len(estimates) + 0.8)
    axis = axes[0]
    shares: dict[str, np.ndarray] = {}
    for row, estimate in enumerate(estimates.values()):
        kinds, values = estimate.layers["kind"].to_pylist(), estimate.layers["share"].to_numpy()
        for kind, share in zip(kinds, values, strict=True):
            shares.setdefault(kind, np.zeros(len(estimates)))[row] += share
    left = np.zeros(len(estimates))
    colours = ("#1b7837", "#7fbf7b", "#d9a441", "#b35806", "#542788", "#998ec3", "#666666", "#bbbbbb")
    ordered = sorted(
        ((kind, share) for kind, share in shares.items() if share.max() > 0), key=lambda pair: -pair[1].sum()
    )
    for index, (kind, share) in enumerate(ordered):
        axis.barh(list(estimates), share, left=left, label=kind, color=colours[index % len(colours)], height=0.7)
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
    figure.legend(loc="outside upper center", ncols=min(len(ordered), 4), fontsize=8, frameon=False)
    return figure


def plot_ablation(tables: Mapping[str, pa.Table], top: int = 8) -> Any:
    """R^2 by feature set: the best subset of each size for every kind, and the best of all by name.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table
        What :func:`fastgreen.estimate.ablation` gave, by kind.
    top : int
        How many of the best subsets to name.
    """
    if not tables:
        raise ValueError("tables: nothing to plot")
    figure, axes = _figure(len(tables), 2, 5.6, 3.0)
    for index, (kind, table) in enumerate(tables.items()):
        size, r2 = table["size"].to_numpy(), table["r2"].to_numpy()
        curve, names = axes[2 * index], axes[2 * index + 1]
        sizes = np.unique(size)
        best = [r2[size == n].max() for n in sizes]
        middle = [np.median(r2[size == n]) for n in sizes]
        curve.plot(sizes, best, marker="o", markersize=4, color="#1b7837", label="best")
        curve.plot(sizes, middle, marker="o", markersize=3, color="0.6", label="median")
        curve.set(xlabel="features in the set", ylabel="cross-validated R²", ylim=(min(0, *middle), 1.02))
        curve.set_title(f"{kind}: {len(table)} subsets", fontsize=9)
        curve.legend(fontsize=8, frameon=False)
        shown = table.slice(0, top)
        labels = [_short(features) for features in shown["features"].to_pylist()]
        names.barh(range(len(labels)), shown["r2"].to_numpy(), color="#7fbf7b")
        names.set_yticks(range(len(labels)), labels, fontsize=7)
        names.invert_yaxis()
        names.set(xlabel="cross-validated R²", xlim=(min(0.9, float(shown["r2"].to_numpy().min())), 1.0))
        for axis in (curve, names):
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(axis="x", labelsize=8)
    return figure


def _short(features: list[str], most: int = 4) -> str:
    names = [name.replace("_size", "").replace("_channels", "").replace("log1p", "log") for name in features]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
