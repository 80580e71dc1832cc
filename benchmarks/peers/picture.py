# SPDX-License-Identifier: Apache-2.0
"""One picture of the table: what a window and a sample cost, which rate is kept, and how wrong the number can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .table import OURS, Sheet

__all__ = ["draw"]

GREEN, GREY, PALE = "#2a9d54", "#8d99a6", "#c9d1d9"
FLOOR_J = 0.01


def draw(sheet: Sheet, path: Path) -> None:
    """Writes the picture (its format follows the suffix). Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.4), layout="constrained")
    _bars(axes[0, 0], sheet, "window", "with its number", 1e6, "An empty window with its number (µs)")
    _bars(axes[0, 1], sheet, "fastest", "CPU per sample", 1e6, "CPU of one sample, one after the other (µs)")
    _rates(axes[1, 0], sheet)
    _errors(axes[1, 1], sheet)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _prepare(axes: Any, tools: list[str], title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_yticks(range(len(tools)), tools)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _bars(axes: Any, sheet: Sheet, case: str, figure: str, scale: float, title: str) -> None:
    values = {tool: sheet.value(tool, case, figure) for tool in sheet.tools}
    known = {tool: value * scale for tool, value in values.items() if value}
    tools = sorted(known, key=lambda tool: known[tool])
    axes.barh(range(len(tools)), [known[t] for t in tools], color=[GREEN if t == OURS else GREY for t in tools])
    axes.set_xscale("log")
    if known:  # not where only other cases were measured
        axes.set_xlim(min(known.values()) / 3, max(known.values()) * 12)
    for place, tool in enumerate(tools):
        text = f"{known[tool]:.3g}" if known[tool] < 1000 else f"{known[tool]:,.0f}"
        axes.text(known[tool] * 1.15, place, text, va="center", fontsize=9)
    _prepare(axes, tools, title)


def _rates(axes: Any, sheet: Sheet) -> None:
    rates = {
        tool: [sheet.value(tool, f"1 ms, {state}", "rate") for state in ("asleep", "busy")] for tool in sheet.tools
    }
    known = {tool: both for tool, both in rates.items() if None not in both}
    tools = sorted(known, key=lambda tool: -(known[tool][1] or 0))
    for shift, index, colours, label in (
        (-0.2, 0, (PALE, PALE), "main thread asleep"),
        (0.2, 1, (GREEN, GREY), "main thread busy in Python"),
    ):
        heights = [known[tool][index] or 0 for tool in tools]
        shades = [colours[0] if tool == OURS else colours[1] for tool in tools]
        axes.barh([i + shift for i in range(len(tools))], heights, height=0.38, color=shades, label=label)
        for place, value in enumerate(heights):
            axes.text(
                value + 8, place + shift, f"{value:.3g}" if value < 100 else f"{value:.0f}", va="center", fontsize=8
            )
    axes.axvline(1000, color=PALE, linewidth=0.8, zorder=0)
    axes.set_xlim(0, 1180)
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(0.82, 0.0))
    _prepare(axes, tools, "Samples per second when asked for 1000")


def _errors(axes: Any, sheet: Sheet) -> None:
    cases = {"wrap": "o", "late wrap": "D", "burst inside": "s", "burst outside": "^"}
    tools = [t for t in sheet.tools if any(sheet.value(t, case, "error") is not None for case in cases)]
    for number, (case, marker) in enumerate(cases.items()):
        points = [(place, sheet.value(tool, case, "error")) for place, tool in enumerate(tools)]
        known = [(place + (number - 1.5) * 0.17, max(abs(e), FLOOR_J)) for place, e in points if e is not None]
        axes.scatter([x for _, x in known], [y for y, _ in known], marker=marker, s=34, label=case, alpha=0.9)
    axes.set_xscale("log")
    axes.axvline(1000, color=PALE, linewidth=0.8, zorder=0)
    axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
    axes.set_ylim(len(tools) - 0.4, -1.6)
    _prepare(axes, tools, "Error of a window (J): wraps, and 1000 J near its end")
    axes.set_ylim(len(tools) - 0.4, -1.6)
