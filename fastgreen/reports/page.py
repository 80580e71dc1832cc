"""One self-contained HTML file of a run: power over time, windows, tables, and how far to trust them.

The file needs no network and asks for none: its policy forbids every request, and of scripts only its own two run.
Everything that comes from the run is text: escaped in the tables, or JSON in an element that no browser executes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgreen.atomic_file import write_text
from fastgreen.guards.arguments import path_text
from fastgreen.guards.printable import printable
from fastgreen.reports.curves import Level, Lines, Part, lines, packed
from fastgreen.reports.lanes import lane_data, span_tables
from fastgreen.results.console import known_lines, ledger_means, quantity, titled, with_bounds
from fastgreen.results.html_tables import html_table
from fastgreen.results.identity import identity
from fastgreen.units import NS_PER_S, counted

if TYPE_CHECKING:
    import pyarrow as pa

    from fastgreen.results.footprint import Footprint
    from fastgreen.results.result import Result

__all__ = ["bar_list", "nothing_noted", "packed_curve", "page_parts", "step_of", "to_html", "whole_page"]

_BARS = 20
_PARTS = 4000  # steps of the finest level from which on a part would have narrower ones
_SAID = 3  # names in a sentence
_NAME = 120  # characters of a name
_NOTE = 600


def to_html(
    result: Result,
    path: str | os.PathLike[str],
    *,
    title: str = "Energy of a run",
    from_s: float | None = None,
    to_s: float | None = None,
    footprint: Footprint | None = None,
) -> None:
    """Write a page about a run: one HTML file that any browser shows, without a network.

    Parameters
    ----------
    result : Result
        A finished run.
    path : path
        The file; an existing one is replaced. The file appears whole, or stays what it was.
    title : str
        Heading of the page.
    from_s, to_s : float, optional
        The part of the run to draw, in s since its begin; the numbers and tables are of the whole run.
    footprint : Footprint, optional
        Money and carbon to show, from `Result.footprint`.

    Raises
    ------
    ValueError
        If the part is not within the run.
    OSError
        If the file cannot be written.
    TraceError
        If the recorded samples of the run are damaged.

    Examples
    --------
    >>> import fastgreen as fg
    >>> with fg.Monitor() as monitor:
    ...     pass
    >>> fg.to_html(monitor.result, "/dev/null")
    """
    write_text(Path(path_text("path", path)), whole_page(*page_parts(result, from_s, to_s, footprint), title))


def page_parts(
    result: Result, from_s: float | None = None, to_s: float | None = None, footprint: Footprint | None = None
) -> tuple[dict[str, str], dict[str, Any]]:
    """The parts of a page that change with the run: pieces of HTML by the name of their place, and data to draw."""
    summary = result.summary()
    part = result if from_s is None and to_s is None else Part(result, from_s, to_s)
    curves = lines(part)
    html = {
        "TOTAL": _total(result, summary),
        "IDENTITY": _identity(result),
        "CURVE_NOTE": escape(_curve_note(curves, part, result)),
        "BARS": _bars(result, summary),
        "WINDOWS": _window_table(result, summary) + _ledger_table(result),
        "COSTS": _costs(footprint),
        "CHANNELS": html_table(result.channels, "Channels") if result.traces else "<p>No channel could be read.</p>",
        "NOTES": _notes(result),
    }
    return html, {**_curve_data(part, curves), **lane_data(part, summary), "begin_s": _begin_s(part, result)}


def _begin_s(part: Result | Part, result: Result) -> float:
    return (part.start_ns - result.start_ns) / NS_PER_S


def whole_page(html: dict[str, str], data: dict[str, Any], title: str, live: bool = False) -> str:
    """The HTML file of these parts. A live page asks its own origin for newer ones."""
    text = json.dumps({**data, "live": live}, allow_nan=False)
    scripts = [_asset("vendor/uplot/uPlot.iife.min.js"), _asset("assets/page.js")]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'"
    shown = {
        "COSTS": "",
        "NAMES": "Energy by window",
        **html,
        "TITLE": escape(printable(title)),
        "POLICY": policy + ("; connect-src 'self'" if live else ""),
        "STYLE": _asset("vendor/uplot/uPlot.min.css") + _asset("assets/page.css"),
        # `<` alone could end the element, or open a comment in it.
        "DATA": text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
        "PLOT": scripts[0],
        "SCRIPT": scripts[1],
    }
    return "".join(
        shown[part] if place % 2 else part for place, part in enumerate(_asset("assets/page.html").split("%%"))
    )


def _asset(name: str) -> str:
    return files("fastgreen.reports").joinpath(name).read_text(encoding="utf-8")


# ---- what a reader sees first ----


def _total(result: Result, summary: pa.Table) -> str:
    if not result.known:
        said = f"No channel gave a reading in {quantity(result.duration_s, 's')}."
        return f'<p class="total">Energy unknown</p><p>{said}</p>'
    energy, between = with_bounds(
        result.energy_j, result.energy_low_j, result.energy_high_j, "J", quality=result.bounds
    )
    said = f"between {between.replace(' .. ', ' and ')}, in {_long(result.duration_s)}"
    mean = f"{quantity(result.mean_power_w, 'W')} on average, {quantity(result.energy_wh, 'Wh')}"
    sentences = [said, mean, _kind(result), _sure(result), *_where(result, summary)]
    return f'<p class="total">{escape(energy)}</p>' + "".join(f"<p>{escape(line)}</p>" for line in sentences if line)


def _sure(result: Result) -> str:
    """How well the total is known, in a sentence."""
    if result.bounds == "sampled":
        return "A power sensor was read from time to time. The true energy can be outside of what it showed."
    half = (result.energy_high_j - result.energy_low_j) / 2
    if not result.energy_j > 0 or not half < float("inf"):
        return ""
    share = max(float(f"{100 * half / result.energy_j:.2g}"), 0.001)
    return f"Known to ±{share:g} %" + (", if the model fits." if result.estimated else ".")


def _where(result: Result, summary: pa.Table) -> list[str]:
    """Where most of the energy went: by channel, and by window or ledger."""
    if not result.energy_j > 0:
        return []
    parts = {
        t.channel.id: float(result.totals[t.channel.id].energy_j) for t in result.traces if t.counted and t.has_data
    }
    out = [f"By channel: {_shares(parts, result.energy_j)}."] if len(parts) > 1 else []
    names = dict(zip(summary["name"].to_pylist(), summary["energy_j"].to_pylist(), strict=True))
    names = {name: joules for name, joules in names.items() if joules}
    if names:
        out.append(f"By window: {_shares(names, result.energy_j)}.")
    ledgers = result.ledgers.to_pylist() if result.ledger_names else []
    charged = {row["ledger"]: row["energy_j"] for row in ledgers if row["phase"] is None and row["amount"] is None}
    return [*out, f"By ledger of spans: {_shares(charged, result.energy_j)}."] if charged else out


def _shares(joules: dict[str, float], total_j: float) -> str:
    most = sorted(joules, key=lambda name: -joules[name])
    said = [f"{printable(n, most=40)} {float(f'{100 * joules[n] / total_j:.2g}'):g} %" for n in most[:_SAID]]
    return ", ".join(said) + (f" and {len(most) - _SAID} more" if len(most) > _SAID else "")


def _kind(result: Result) -> str:
    """Measured or estimated, with the joules of the estimated part."""
    guessed = [t.channel.id for t in result.traces if t.counted and t.has_data and t.channel.estimated]
    if not guessed:
        return "Measured by sensors of the machine."
    joules = quantity(sum(float(result.totals[name].energy_j) for name in guessed), "J")
    return f"Estimated by a model, not measured: {joules} of it ({', '.join(guessed)})."


def _identity(result: Result) -> str:
    said = identity(result.metadata, result.start_ns)
    said |= {"duration": _long(result.duration_s), "channels": str(len(result.traces))}
    rows = (f"<dt>{escape(k)}</dt><dd>{escape(text)}</dd>" for k, text in said.items())
    return f"<dl>{''.join(rows)}</dl>"


def _long(seconds: float) -> str:
    """A length of time: hours and minutes where it has any."""
    if not 120 <= seconds < 1e9:
        return quantity(seconds, "s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min {rest:02} s" if hours else f"{minutes} min {rest:02} s"


def _curve_note(curves: Lines, part: Result | Part, result: Result) -> str:
    if not curves.levels:
        return "There is no power to draw: nothing was read, or no time passed."
    steps = [float(level.edges_ns[1] - level.edges_ns[0]) / NS_PER_S for level in curves.levels]
    note = (
        f"The line is the mean power of steps of {' or '.join(quantity(s, 's', 3) for s in dict.fromkeys(steps))}. "
        "The dark band holds that mean for certain (an estimated channel: within its model). "
        f"The light band reaches from the lowest to the highest mean over {quantity(curves.peak_s, 's', 3)} in a step."
    )
    if "" in curves.levels[0].curves:
        note += " Colored areas stack the channels of the total."
    if result.names or result.ledger_names:
        note += " The lanes below show when each window or span was open."
    if part is not result:
        begin_s = _begin_s(part, result)
        shown = f"{quantity(begin_s, 's')} to {quantity(begin_s + part.duration_s, 's')}"
        return f"{note} Curves and lanes show {shown} of the run; the numbers and tables are of the whole run."
    if part.duration_s > _PARTS * steps[-1]:
        return f"{note} `fastgreen report RUN --html FILE --from S --to S` draws a part with narrower steps."
    return note


def _notes(result: Result) -> str:
    notes = result.notes
    if not notes:
        return f"<p>{nothing_noted(result)}</p>"
    return f"<ul>{''.join(f'<li>{escape(printable(note))}</li>' for note in notes)}</ul>"


def nothing_noted(*results: Result) -> str:
    """What to say of runs without a note: whether the table of their channels counts faults all the same."""
    rows = [row for result in results for row in result.channels.to_pylist()]
    if any(row[fault] for row in rows for fault in ("missed", "lost", "read_errors")):
        return "Some readings came late or failed: the table has their numbers, and the bounds contain the effect."
    return "No faults, gaps or doubts were noted."


def _costs(footprint: Footprint | None) -> str:
    """A section with money and carbon; empty if nobody asked."""
    if footprint is None:
        return ""
    lines = "".join(f"<p>{escape(printable(line))}</p>" for line in footprint.lines())
    heads, rows = footprint.cells()
    table = ""
    if rows:
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
        body = "".join(
            f"<tr>{''.join(map(_cost_cell, row, numbers))}</tr>"
            for row, numbers in zip(rows, footprint.numbers(), strict=True)
        )
        label = "Table of money and carbon"
        table = (
            f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table><caption>Money and carbon of '
            f"one</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
    return f'<section aria-labelledby="costs"><h2 id="costs">Money and carbon</h2>{lines}{table}</section>'


def _cost_cell(text: str, number: float | None) -> str:
    value = "" if number is None else f' class="n" data-v="{number!r}"'
    return f"<td{value}>{escape(printable(text, most=_NAME))}</td>"


# ---- windows ----


def _window_table(result: Result, summary: pa.Table) -> str:
    if not summary.num_rows:
        return "<p>No window was entered.</p>" if not result.ledger_names else ""
    if not result.known:
        summary = summary.select([n for n in summary.schema.names if "energy" not in n and "power" not in n])
    rows = sorted(summary.to_pylist(), key=lambda row: -row["energy_j"])[:_BARS] if result.known else []
    return html_table(summary.drop_columns("interval_note"), "Windows by name") + _how_well_known(rows)


def _how_well_known(rows: list[dict[str, Any]]) -> str:
    """How well the mean energies are known, with what would help."""
    lines = (printable(" ".join(line.split()), most=_NOTE) for line in known_lines(rows))
    return "".join(f'<p class="small">{escape(line)}.</p>' for line in lines)


def _ledger_table(result: Result) -> str:
    if not result.ledger_names or not result.known:
        return ""
    table = result.ledgers
    rules = json.loads((table.schema.metadata or {}).get(b"rules", b"{}"))
    said = (f"{printable(name, most=_NAME)}: {text}" for name, text in rules.items())
    rule = "".join(f'<p class="small">{escape(printable(line))}.</p>' for line in said)
    known = _how_well_known(ledger_means(table)[:_BARS])
    return (
        html_table(table.drop_columns("interval_note"), "Ledgers of overlapping spans")
        + rule
        + known
        + span_tables(result)
    )


def _bars(result: Result, summary: pa.Table) -> str:
    """A bar for the energy of each name, with a line from its lower to its upper bound."""
    if not result.known or not summary.num_rows:
        return ""
    rows = sorted(summary.to_pylist(), key=lambda row: -row["energy_j"])
    most = max(result.energy_high_j, *(row["energy_high_j"] for row in rows))
    if not 0 < most < float("inf"):
        return ""
    nested = "<p>Windows can lie within each other, so these energies can add up to more than the run's.</p>"
    return bar_list(rows, most, result.energy_j) + nested


def bar_list(rows: list[dict[str, Any]], most: float, total_j: float = 0.0) -> str:
    """Bars for rows with a name, an energy and its bounds; `most` is the longest length that is needed, in J."""
    scale = 100 / min(most, 1.25 * max(total_j, *(row["energy_j"] for row in rows)) or most)
    out = []
    for row in rows[:_BARS]:
        value, low, high = row["energy_j"], row["energy_low_j"], row["energy_high_j"]
        energy, between = with_bounds(value, low, high, "J", quality=row["bounds"])
        left, right = (min(max(x * scale, 0.0), 100.0) for x in (low, high))
        out.append(
            f'<li><span class="name">{escape(printable(row["name"], most=_NAME))}</span>'
            f'<span class="amount">{escape(energy)} <small>({escape(between)})</small></span>'
            f'<span class="bar"><i style="width:{value * scale:.3f}%"></i>'
            f'<b style="left:{left:.3f}%;width:{right - left:.3f}%"></b></span></li>'
        )
    rest = rows[_BARS:]
    more = ""
    if rest:
        joules = quantity(sum(row["energy_j"] for row in rest), "J")
        more = f"<p>{counted(len(rest), 'more name')} took {joules} together.</p>"
    return f'<ol class="bars">{"".join(out)}</ol>{more}'


# ---- curves ----


def _curve_data(result: Result | Part, curves: Lines) -> dict[str, Any]:
    titles = {t.channel.id: titled(t.channel.id, t.channel.name or t.channel.id) for t in result.traces}
    uncounted = {t.channel.id for t in result.traces if not t.counted}
    names = list(curves.levels[0].curves) if curves.levels else []
    shown = [
        printable(titles.get(n, "all counted channels"), most=_NAME) + (" (not counted)" if n in uncounted else "")
        for n in names
    ]
    counted_names = {t.channel.id for t in result.traces if t.counted}
    stack = [place for place, name in enumerate(names) if name in counted_names] if "" in names else []
    levels = [{**step_of(level), "curves": [packed_curve(level, name) for name in names]} for level in curves.levels]
    return {"duration_s": result.duration_s, "titles": shown, "stack": stack or None, "levels": levels}


def step_of(level: Level) -> dict[str, Any]:
    """How wide the steps of a level are, and how many there are."""
    return {"step_s": float(level.edges_ns[1] - level.edges_ns[0]) / NS_PER_S, "count": len(level.edges_ns) - 1}


def packed_curve(level: Level, name: str) -> dict[str, Any]:
    """One curve of a level, as the page takes it."""
    rounding = {"low": "down", "high": "up"}
    return {key: packed(values, rounding.get(key, "nearest")) for key, values in level.curves[name].items()}
