"""A result as a table for people."""

from __future__ import annotations

import io
import json
import math
import os
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from fastgreen.guards.printable import printable
from fastgreen.units import counted, two_digits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

    from fastgreen.results.trace import Trace

__all__ = [
    "MOST_ROWS",
    "PlainTable",
    "PrintableConsole",
    "bounds",
    "known_lines",
    "ledger_means",
    "money",
    "people_console",
    "plain_table",
    "quantity",
    "render",
    "show",
    "titled",
    "with_bounds",
]

MOST_ROWS = 2000  # of one table: a terminal shows fewer, and to lay out more takes seconds
_LONGEST_CELL = 300  # characters: more of one name would be a screen of its own
_LEAST_NAME = 12  # characters of a name that is cut
_MOST_DIGITS = 9  # of a bound: what float64 tells apart well
_MOST_NAMES = 40  # of windows, the most expensive first
_LONGEST_NAME = 60  # of a name in a sentence
_MOST_LINES = 20  # about how well a window is known
_GOALS = (0.05, 0.01, 1e-3, 1e-4, 1e-5)  # shares of the mean to which a window may be known after a longer run
_PER = "energy_per_"
_FAULTS = (("missed", "missed"), ("lost", "lost"), ("read_errors", "failed"))
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def quantity(value: float | None, unit: str, digits: int = 4) -> str:
    """A number with an SI prefix: 0.00123 J is "1.230 mJ". Nobody says kiloseconds, so 18260 s has none."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0 or math.isinf(value):
        return f"{value:g} {unit}"
    value = float(f"{value:.{digits}g}")  # 999.96 is 1.000 k
    scale, prefix = next((p for p in _PREFIXES if abs(value) >= p[0]), _PREFIXES[-1])
    if unit == "s" and scale > 1:
        scale, prefix = 1.0, ""
    scaled = value / scale
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(scaled))) if scaled else 0)
    return f"{scaled:.{decimals}f} {prefix}{unit}"


def money(value: float, currency: str = "") -> str:
    """An amount of money in decimal form with four digits: "0.00001234 EUR"."""
    if value == 0 or not math.isfinite(value):
        text = f"{value:g}"
    elif abs(value) < 1e-12:
        text = f"{value:.3e}"
    else:
        text = f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    return f"{text} {currency}" if currency else text


def bounds(low: float | None, high: float | None, unit: str) -> str:
    """Two ends of an interval: "0.96 .. 1.30 J", the prefix once where both share it.

    The printed interval holds the true one. It has as many digits as keep it nearly as narrow.
    """
    return with_bounds(None, low, high, unit)[1]


def with_bounds(
    value: float | None,
    low: float | None,
    high: float | None,
    unit: str,
    least_digits: int = 4,
    quality: str = "certain",
    resolved: bool = False,
) -> tuple[str, str]:
    """An estimate and its bounds as text, with as many digits as keep the printed estimate within them.

    `quality` is `Channel.bounds`: the bounds of a sensor that does not look all the time are no bounds. Where nothing
    proves that any energy was used, the estimate is only "less than the upper bound", but for one that other facts
    support (`resolved`), as a mean with an interval of its own.

    Examples
    --------
    >>> with_bounds(100.06, 99.51, 100.4, "J")
    ('100.1 J', '99.51 .. 100.4 J')
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return quantity(value, unit, least_digits), "-"
    if quality == "sampled":
        return quantity(value, unit, least_digits), "sampled, not bounded"
    if low == high:  # every digit would be shown
        return quantity(value, unit), f"{quantity(low, unit).split(' ')[0]} .. {quantity(high, unit)}"
    digits = 3
    least, most = _outward(low, digits, math.floor), _outward(high, digits, math.ceil)
    while digits < _MOST_DIGITS and most - least > 1.5 * (high - low):
        digits += 1
        least, most = _outward(low, digits, math.floor), _outward(high, digits, math.ceil)
    first, last = quantity(least, unit, digits), quantity(most, unit, digits)
    if quality == "certain" and low <= 0 < high < math.inf and value is not None and not resolved:
        return f"< {last}", f"{first.split(' ')[0]} .. {last}"
    shared = first.split(" ")[1:] == last.split(" ")[1:]
    return quantity(value, unit, max(least_digits, digits)), f"{first.split(' ')[0] if shared else first} .. {last}"


def _outward(value: float, digits: int, rounded: Callable[[Decimal], int]) -> float:
    """The value with so many digits, rounded away from its interval."""
    if value == 0 or not math.isfinite(value):
        return value
    exact = Decimal(repr(value))
    step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return float(rounded(exact / step) * step)


class PrintableConsole(Console):
    """A console that prints only printable text, whatever names and notes hold: no escape sequence but its own.

    It is text in a notebook too, where Rich would display HTML of its own and leave the file of the console empty.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(force_jupyter=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if not segment.control and not segment.text.isprintable():
                segment = Segment(printable(segment.text, lines=True, most=len(segment.text)), segment.style)
            yield segment


def people_console(stderr: bool = False) -> Console:
    """A console for tables: as wide as COLUMNS, else as the terminal, else 120."""
    console = PrintableConsole(stderr=stderr, highlight=False)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return PrintableConsole(stderr=stderr, highlight=False, width=120)


class PlainTable(Table):
    """A table that prints its cells unchanged: names come from others, and "[/b]" is not markup."""

    def add_column(self, header: RenderableType = "", *args: Any, **options: Any) -> None:
        super().add_column(_cell(header), *args, **options)

    most_rows: int | None = None
    left_out = 0

    def add_row(self, *cells: Any, **options: Any) -> None:
        if self.most_rows is not None and self.row_count >= self.most_rows:
            self.left_out += 1
            return
        super().add_row(*map(_cell, cells), **options)

    # Columns that a narrow screen can do without, the first one first; names and numbers are never folded for it.
    spare: tuple[str, ...] = ()

    def _fitting(self, width: int) -> list[Column]:
        """The columns, without spare ones where not all fit; then the first column is cut, with an ellipsis."""
        columns = list(self.columns)
        if not self.spare:
            return columns
        for name in self.spare:
            if sum(map(_cell_width, columns)) + 2 <= width:
                return columns
            columns = [column for column in columns if str(column.header) != name]
        rest = width - 2 - sum(map(_cell_width, columns[1:]))
        if rest < _cell_width(columns[0]) and rest >= _LEAST_NAME:
            columns[0] = replace(columns[0], max_width=rest - 2, overflow="ellipsis", no_wrap=True)
        return [replace(column, _index=i) for i, column in enumerate(columns)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept, self.columns = self.columns, self._fitting(options.max_width)
        try:
            yield from super().__rich_console__(console, options)
        finally:
            self.columns = kept
        if self.left_out:
            yield Text(f"... {counted(self.left_out, 'more row')}; --json prints them all")


def _cell_width(column: Column) -> int:
    """Characters of a column of texts, with the two spaces behind it."""
    texts = [column.header, *column.cells]
    return 2 + max(cell.cell_len if isinstance(cell, Text) else len(str(cell)) for cell in texts)


def _cell(cell: Any) -> Any:
    return Text(printable(cell, most=_LONGEST_CELL)) if isinstance(cell, str) else cell


def plain_table(title: str, *columns: str) -> PlainTable:
    """A table without vertical rules; the first column is text, the others are numbers."""
    table = PlainTable(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.most_rows = MOST_ROWS
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    return table


class Printable(Protocol):
    """An object that can be printed: a `Result`."""

    traces: list[Trace]

    @property
    def known(self) -> bool: ...
    @property
    def estimated(self) -> bool: ...
    @property
    def bounds(self) -> str: ...
    @property
    def energy_j(self) -> float: ...
    @property
    def energy_low_j(self) -> float: ...
    @property
    def energy_high_j(self) -> float: ...
    @property
    def energy_wh(self) -> float: ...
    @property
    def mean_power_w(self) -> float: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def channels(self) -> pa.Table: ...
    @property
    def ledger_names(self) -> list[str]: ...
    @property
    def ledgers(self) -> pa.Table: ...
    def summary(self) -> pa.Table: ...


def show(result: Printable, console: Console) -> None:
    """Print totals, channels and windows."""
    if result.known:
        energy, between = with_bounds(
            result.energy_j, result.energy_low_j, result.energy_high_j, "J", quality=result.bounds
        )
        console.print(
            f"[bold]{energy}[/bold] ({between}) "
            f"in {quantity(result.duration_s, 's')}: {quantity(result.mean_power_w, 'W')}, "
            f"{quantity(result.energy_wh, 'Wh')}"
        )
    else:
        console.print(f"[bold]energy unknown[/bold] in {quantity(result.duration_s, 's')}")
    if result.estimated:
        console.print(f"[bold]estimated[/bold]: {_estimated_part(result)}", highlight=False)
    if not result.traces:
        console.print("No channel could be read; `fastgreen channels` gives the reasons.")
    else:
        console.print(_channel_table(result))
    if result.names and result.known:
        summary = result.summary().to_pylist()
        summary.sort(key=lambda row: -row["energy_j"])
        console.print(_window_table(summary[:_MOST_NAMES]))
        if rest := summary[_MOST_NAMES:]:
            joules = quantity(sum(row["energy_j"] for row in rest), "J")
            console.print(f"... {counted(len(rest), 'more name')}, {joules} together; --json prints them all")
        for line in known_lines(summary[:_MOST_LINES]):
            console.print(line, markup=False, highlight=False)
        if any(key.startswith(_PER) for key in summary[0]):
            console.print(_amount_table(summary))
    if result.ledger_names and result.known:
        console.print(_ledger_table(result))
        for line in known_lines(ledger_means(result.ledgers)[:_MOST_LINES]):
            console.print(line, markup=False, highlight=False)
        rules = json.loads((result.ledgers.schema.metadata or {}).get(b"rules", b"{}"))
        for text in dict.fromkeys(rules.values()):
            names = ", ".join(printable(name) for name, rule in rules.items() if rule == text)
            console.print(f"note: rule of {names}: {text}", markup=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"note: {printable(note)}", markup=False, soft_wrap=True)


def _estimated_part(result: Printable) -> str:
    """Which part of the energy is estimated, with its joules."""
    rows = [r for r in result.channels.to_pylist() if r["counted"] and r["estimated"] and r["energy_j"] is not None]
    measured = any(t.counted and t.has_data and not t.channel.estimated for t in result.traces)
    text = "from a model of the CPU, not a measurement"
    if not measured or not rows:
        return text
    joules = quantity(sum(row["energy_j"] for row in rows), "J")
    return f"{joules} of {quantity(result.energy_j, 'J')} ({', '.join(row['id'] for row in rows)}), {text}"


def _faults(row: dict) -> str:
    said = [f"{row[key]} {word}" for key, word in _FAULTS if row[key]]
    said += [counted(row[name + "s"], name) for name in ("restart", "jump", "standstill") if row[name + "s"]]
    return ", ".join(said) or "none"


def titled(identity: str, name: str) -> str:
    """The id of a channel; for a whole GPU also the name of the board, because a number does not identify it."""
    board = identity.startswith(("nvml:", "amdsmi:")) and "/" not in identity and name != identity
    return f"{identity} ({name})" if board else identity


def _channel_table(result: Printable) -> PlainTable:
    table = plain_table("channels", "channel", "energy", "between", "power", "samples", "faults", "method")
    table.spare = ("method", "samples")
    for row in result.channels.to_pylist():
        table.add_row(
            titled(row["id"], row["name"]) + ("" if row["counted"] else " *"),
            *with_bounds(row["energy_j"], row["energy_low_j"], row["energy_high_j"], "J", quality=row["bounds"]),
            quantity(row["mean_power_w"], "W"),
            str(row["samples"]),
            _faults(row),
            row["method"],
        )
    channels = result.channels.select(["counted", "bounds"]).to_pydict()
    remarks = [] if all(channels["counted"]) else ["* not part of the total"]
    if "sampled" in channels["bounds"]:
        remarks.append("sampled: a power sensor shows nothing of the time in which it does not look")
    table.caption = "\n".join(remarks) or None
    table.caption_justify = "left"
    return table


def known_lines(rows: list[dict[str, Any]]) -> list[str]:
    """`known_to` of each row, then why others have no interval: one sentence for all that share the reason."""
    without: dict[str, list[str]] = {}
    for row in rows:
        note = row["interval_note"] or ""
        # A run of few updates needs no line about it.
        if row["mean_energy_ci_high_j"] is None and note.endswith("would help"):
            without.setdefault(note, []).append(printable(row["name"], most=_LONGEST_NAME))
    lines = list(filter(None, map(known_to, rows)))
    for note, names in without.items():
        reason, _, remedy = note.rpartition(": ")
        said = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(f"{said} {'has' if len(names) == 1 else 'have'} no 95 % interval: {reason}:\n  {remedy}")
    return lines


def known_to(row: dict[str, Any]) -> str:
    """How well the mean energy of a window is known, and how many more windows would make it 1 %, or less; or "".

    Parameters
    ----------
    row : dict
        A row of `Result.summary`, or of `Result.ledgers` with a ``name``.
    """
    low, high, mean = row["mean_energy_ci_low_j"], row["mean_energy_ci_high_j"], row["mean_energy_j"]
    name = printable(row["name"], most=_LONGEST_NAME)
    if high is None or not mean > 0:
        return ""
    share = (high - max(low, 2 * mean - high)) / 2 / mean
    text = f"{name} is known to {_percent(share)} (95 %)"
    goals = [g for g in _GOALS if g < share and _percent(g) != _percent(share)]
    wanted = []
    for goal in goals[: 2 if goals[:1] == [_GOALS[0]] else 1]:  # 5 % is not yet good, so 1 % is shown too
        more = float(f"{math.ceil(row['count'] * ((share / goal) ** 2 - 1)):.2g}")
        wanted.append(f"{more:,.0f} more {'gives' if more == 1 else 'give'} {_percent(goal)}")
    return "; ".join([text, ", ".join(wanted)] if wanted else [text])


def ledger_means(ledgers: pa.Table) -> list[dict[str, Any]]:
    """A row per ledger and phase of `Result.ledgers`, as `known_to` wants them."""
    rows = [row for row in ledgers.to_pylist() if row["amount"] is None]
    return [{**row, "name": " ".join(filter(None, (row["ledger"], row["phase"])))} for row in rows]


def _percent(share: float) -> str:
    return f"{two_digits(100 * share)} %"


def _window_table(rows: list[dict[str, Any]]) -> Table:
    table = plain_table(
        "windows, energy of one", "window", "count", "mean", "between", "power", "time p50", "p95", "p99"
    )
    table.spare = ("p95", "power")
    for row in rows:
        table.add_row(
            row["name"] + ("" if row["union_energy_j"] is None else " *"),
            str(row["count"]),
            *with_bounds(
                row["mean_energy_j"],
                row["mean_energy_low_j"],
                row["mean_energy_high_j"],
                "J",
                quality=row["bounds"],
                resolved=row["mean_energy_ci_high_j"] is not None,
            ),
            quantity(row["mean_power_w"], "W"),
            *(quantity(row[f"duration_{p}_s"], "s", 3) for p in ("p50", "p95", "p99")),
        )
    if any(row["union_energy_j"] is not None for row in rows):
        table.caption = "* these windows overlap, and each holds the same energy: a ledger gives the share of each"
        table.caption_justify = "left"
    return table


def _amount_table(rows: list[dict[str, Any]]) -> Table:
    table = plain_table("windows, energy of one amount", "window", "count", "energy of one", "between", "per joule")
    for row in rows:
        for key in row:
            if key.startswith(_PER) and f"{key[:-2]}_low_j" in row and row[key] is not None:
                amount, low, high = key[len(_PER) : -2], row[f"{key[:-2]}_low_j"], row[f"{key[:-2]}_high_j"]
                table.add_row(
                    f"{row['name']}, per {amount}",
                    f"{row[f'total_{amount}']:g}",
                    *with_bounds(row[key], low, high, "J", quality=row["bounds"]),
                    f"{1 / row[key]:.4g}" if row[key] else "-",
                )
    return table


def _ledger_table(result: Printable) -> Table:
    columns = ("ledger", "count", "share", "between", "energy p50", "p95", "p99", "windows would count")
    table = plain_table("ledgers, energy of one span or amount", *columns)
    table.spare = ("p95", "windows would count", "p99")
    for row in result.ledgers.to_pylist():
        head = row["ledger"] if row["phase"] is None else f"{row['ledger']} {row['phase']}"
        factor = row["window_factor"]
        table.add_row(
            head if row["amount"] is None else f"{head}, per {row['amount']}",
            f"{row['total']:g}",
            *with_bounds(row["mean_energy_j"], row["mean_energy_low_j"], row["mean_energy_high_j"], "J"),
            *(quantity(row[f"energy_{p}_j"], "J", 3) for p in ("p50", "p95", "p99")),
            "" if factor is None else f"{factor:.3g} times",
        )
    return table


def render(result: Printable, width: int = 120) -> str:
    buffer = io.StringIO()
    show(result, PrintableConsole(file=buffer, width=width, highlight=False, color_system=None))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).rstrip("\n")
