"""The tables of a result as HTML, for notebooks and reports: plain elements, every text of a run escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from fastgreen.guards.printable import printable
from fastgreen.results.console import quantity, with_bounds
from fastgreen.units import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from fastgreen.results.console import Printable

__all__ = ["html_table", "notebook_html"]

MOST_ROWS = 500
_LONGEST_CELL = 160
_UNITS = ("_j", "_w", "_s", "_ns", "_wh")
# A fault that did not happen and a mark that no row carries need no column.
_ONLY_IF_ANY = {"missed", "lost", "read_errors", "restarts", "jumps", "standstills", "estimated"}


def html_table(table: pa.Table, caption: str, by: str = "energy_j") -> str:
    """An Arrow table as an HTML table, the rows with the most energy first.

    A column ``x_j`` with neighbours ``x_low_j`` and ``x_high_j`` becomes an estimate and a range. Any other column is
    shown under its own name, with the unit of its field. Columns without a value are left out. Each number also has
    its exact value in ``data-v``, to sort by.

    Parameters
    ----------
    table : pyarrow.Table
    caption : str
        Text of the ``<caption>``.
    by : str
        Column to order the rows by; the largest is first.
    """
    columns = {name: table[name].to_pylist() for name in table.schema.names}
    units = {f.name: (f.metadata or {}).get(b"unit", b"").decode() for f in table.schema}
    rows = list(range(table.num_rows))
    if by in columns:
        rows = sorted(rows, key=lambda i: -(columns[by][i] or 0.0))
    shown, left = rows[:MOST_ROWS], max(table.num_rows - MOST_ROWS, 0)
    heads: list[str] = []
    cells: list[list[str]] = [[] for _ in shown]
    for name in table.schema.names:
        ends = _ends(name)
        if _empty(name, columns[name]) or any(_ends(other) and name in _ends(other) for other in columns):
            continue
        heads.append(_head(name))
        between = all(end in columns for end in ends) and bool(ends)
        if between:
            heads.append(_head(f"{_label(name)} between"))
        for row, i in zip(cells, shown, strict=True):
            value = columns[name][i]
            if between:
                low, high = (columns[end][i] for end in ends)
                quality = columns["bounds"][i] if "bounds" in columns else "certain"
                interval = columns.get(name.removesuffix("_j") + "_ci_high_j")
                resolved = interval is not None and interval[i] is not None
                text, span = with_bounds(value, low, high, units[name], quality=quality, resolved=resolved)
                row += [_cell(value, text), _cell(low, span)]
            else:
                row.append(_cell(value, _text(value, units[name])))
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    more = f"<p>{counted(left, 'more row')} not shown, each with less energy.</p>" if left else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{''.join(heads)}</tr></thead>"
        f"<tbody>{body}</tbody></table>{more}"
    )


def notebook_html(result: Printable) -> str:
    """Total, channels, windows and notes of a result, as a notebook shows them."""
    energy, between = with_bounds(
        result.energy_j, result.energy_low_j, result.energy_high_j, "J", quality=result.bounds
    )
    total = f"<strong>{energy}</strong> ({between})" if result.known else "<strong>energy unknown</strong>"
    parts = [f"<p>{total} in {quantity(result.duration_s, 's')}{', estimated' if result.estimated else ''}</p>"]
    if result.traces:
        parts.append(html_table(result.channels, "Channels"))
    if result.names and result.known:
        parts.append(html_table(result.summary(), "Windows by name"))
    if result.ledger_names and result.known:
        parts.append(html_table(result.ledgers, "Ledgers"))
    parts += [f"<p>note: {escape(printable(note))}</p>" for note in result.notes]
    return "<div>" + "".join(parts) + "</div>"


def _ends(name: str) -> tuple[str, ...]:
    """Names of the columns with the bounds of this one: energy_low_j and energy_high_j of energy_j."""
    stem, _, unit = name.rpartition("_")
    if f"_{unit}" not in _UNITS or stem.endswith(("low", "high")):
        return ()
    return (f"{stem}_low_{unit}", f"{stem}_high_{unit}")


def _empty(name: str, values: list[Any]) -> bool:
    return all(v is None for v in values) or (name in _ONLY_IF_ANY and not any(values))


def _label(name: str) -> str:
    stem, _, unit = name.rpartition("_")
    return (stem if f"_{unit}" in _UNITS else name).replace("_", " ")


def _head(name: str) -> str:
    return f'<th scope="col">{escape(_label(name) if "_" in name else name)}</th>'


def _text(value: Any, unit: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return quantity(value, unit) if unit else f"{value:.4g}"
    return str(value)


def _cell(value: Any, text: str) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    shown = escape(printable(text, most=_LONGEST_CELL))
    return f'<td class="n" data-v="{value!r}">{shown}</td>' if number else f"<td>{shown}</td>"
