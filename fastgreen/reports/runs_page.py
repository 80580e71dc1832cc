"""Several runs on one page: power one below the other on one time axis, and differences by window name with bounds."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgreen.atomic_file import write_text
from fastgreen.errors import TraceError
from fastgreen.guards.arguments import path_text
from fastgreen.guards.printable import printable
from fastgreen.reports.compare import Comparison, Row, compare_named
from fastgreen.reports.curves import Lines, lines
from fastgreen.reports.lanes import lanes_beside_others
from fastgreen.reports.page import bar_list, nothing_noted, packed_curve, step_of, whole_page
from fastgreen.results.console import quantity, with_bounds
from fastgreen.results.html_tables import html_table

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["comparison_html", "runs_to_html"]

_NAME = 120  # characters of a name


def runs_to_html(
    runs: Mapping[str, Result], path: str | os.PathLike[str], *, title: str = "Energy of several runs"
) -> None:
    """Write one page about several runs; the first is the base of all differences.

    Parameters
    ----------
    runs : dict of str to Result
        By the name to show.
    path : path
        The file; an existing one is replaced.
    title : str

    Raises
    ------
    OSError
        If the file cannot be written.
    TraceError
        If the recorded samples of a run are damaged.
    """
    names = [printable(name, most=_NAME) for name in runs]
    results = list(runs.values())
    compared, failed = _compared(list(zip(names, results, strict=True)))
    curves = [lines(result) for result in results]
    html = {
        "TOTAL": _totals(names, results, compared),
        "IDENTITY": _identities(names, results),
        "CURVE_NOTE": "The time of each run begins at its first reading. The line is the mean power of a step, the "
        "dark band holds that mean, the light band reaches from the lowest to the highest power in a step. The lanes "
        "below show when each window or span was open.",
        "NAMES": "Energy by run",
        "BARS": _bars(names, results),
        "WINDOWS": "".join(comparison_html(c, notes=False) for c in compared),
        "CHANNELS": "".join(html_table(r.channels, f"Channels of {n}") for n, r in zip(names, results, strict=True)),
        "NOTES": _notes(names, results, compared, failed),
    }
    write_text(Path(path_text("path", path)), whole_page(html, _data(names, results, curves), title))


def _compared(sides: list[tuple[str, Result]]) -> tuple[list[Comparison], list[str]]:
    """The comparisons with the first run, and why others could not be."""
    found, failed = [], []
    for other in sides[1:]:
        try:
            found.append(compare_named([sides[0], other]))
        except TraceError as error:
            failed.append(str(error))
    return found, failed


def _totals(names: list[str], results: list[Result], compared: list[Comparison]) -> str:
    said = [comparison.ratio().sentence(names[0], row.name, comparison.noun) for comparison in compared
            for row in comparison.rows[1:2]]  # fmt: skip
    guessed = [name for name, result in zip(names, results, strict=True) if result.estimated]
    if guessed:
        said.append(f"Estimated by a model, not measured: {', '.join(guessed)}")
    head = f"{len(names)} runs"
    return f'<p class="total">{head}</p>' + "".join(f"<p>{escape(sentence)}.</p>" for sentence in said)


def _identities(names: list[str], results: list[Result]) -> str:
    rows = []
    for name, result in zip(names, results, strict=True):
        text = "energy unknown"
        if result.known:
            energy, between = with_bounds(
                result.energy_j, result.energy_low_j, result.energy_high_j, "J", quality=result.bounds
            )
            text = f"{energy} ({between}), {quantity(result.mean_power_w, 'W')} on average"
        text += f" in {quantity(result.duration_s, 's')}, on {printable(str(result.metadata.get('host')), most=_NAME)}"
        rows.append(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>")
    return f"<dl>{''.join(rows)}</dl>"


def _bars(names: list[str], results: list[Result]) -> str:
    rows: list[dict[str, Any]] = [
        {"name": n, "energy_j": r.energy_j, "energy_low_j": r.energy_low_j, "energy_high_j": r.energy_high_j,
         "bounds": r.bounds}
        for n, r in zip(names, results, strict=True) if r.known
    ]  # fmt: skip
    most = max([row["energy_high_j"] for row in rows], default=0.0)
    return bar_list(rows, most) if 0 < most < float("inf") else ""


def comparison_html(comparison: Comparison, notes: bool = True) -> str:
    """A comparison as a table, with its sentences."""
    text = lambda cell: escape(printable(cell, most=160))  # noqa: E731
    header, rows = comparison.cells()
    words = 2 if header[0] == "of" else 1
    head = "".join(f'<th scope="col">{text(h)}</th>' for h in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in cells[:words])}"
        f"{''.join(map(_number_cell, cells[words:], _numbers(row)))}</tr>"
        for cells, row in zip(rows, comparison.rows, strict=True)
    )
    sentences = comparison.sentences + (comparison.notes if notes else [])
    said = "".join(f"<p>{escape(printable(s))}.</p>" for s in sentences)
    base, other = (escape(printable(row.name, most=_NAME)) for row in comparison.rows[:2])
    caption = f"<caption>{other} and {base}</caption>"
    return f"<div><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{said}</div>"


def _number_cell(text: str, number: float | None) -> str:
    value = "" if number is None or not math.isfinite(number) else f' data-v="{number!r}"'
    return f'<td class="n"{value}>{escape(text)}</td>'


def _numbers(row: Row) -> list[float | None]:
    """What to sort each number of a row by, in the order of `Comparison.cells`."""
    ratio = row.ratio if row.ratio is not None and math.isfinite(row.ratio.meter) else None
    known = [None, None] if ratio is None else [ratio.ratio, ratio.low]
    return [row.count, row.energy_j, row.low_j, row.duration_s, row.power_w, *known]


def _notes(names: list[str], results: list[Result], compared: list[Comparison], failed: list[str]) -> str:
    said = [f"{name}: {note}" for name, result in zip(names, results, strict=True) for note in result.notes]
    said += failed + [note for comparison in compared for note in comparison.notes]
    items = "".join(f"<li>{escape(printable(note))}</li>" for note in dict.fromkeys(said))
    return f"<ul>{items}</ul>" if items else f"<p>{nothing_noted(*results)}</p>"


def _data(names: list[str], results: list[Result], curves: list[Lines]) -> dict[str, Any]:
    """What is drawn: a curve for each run, of all its counted channels together."""
    drawn = [(n, r, c.levels) for n, r, c in zip(names, results, curves, strict=True) if c.levels and r.known]
    levels = []
    for place in range(max((len(found) for *_, found in drawn), default=0)):
        each = []
        for _, result, found in drawn:
            level = found[min(place, len(found) - 1)]
            counted = next(t.channel.id for t in result.traces if t.counted and t.channel.id in level.curves)
            own = {**step_of(level), "duration_s": result.duration_s}
            each.append({**packed_curve(level, "" if "" in level.curves else counted), "own": own})
        steps = [curve["own"]["step_s"] for curve in each]
        levels.append({"step_s": max(steps), "count": max(c["own"]["count"] for c in each), "curves": each})
    duration_s = max((result.duration_s for _, result, _ in drawn), default=0.0)
    lanes = [lane for name, result, _ in drawn for lane in lanes_beside_others(name, result, duration_s)]
    titles = [name for name, *_ in drawn]
    return {
        "duration_s": duration_s,
        "titles": titles,
        "levels": levels,
        "lanes": lanes,
        "windows": None,
        "equal": True,
    }
