# SPDX-License-Identifier: Apache-2.0
"""The figures as an Arrow file, as a Markdown table, and as sentences that say where fastgreen is not first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

__all__ = ["ROWS", "Figure", "Row", "Sheet", "merged", "splice", "to_arrow"]

BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
OURS = "fastgreen"
HANDLES_WRAPS = 0.01  # an error below this share of the truth, in both cases of a wrap

SCHEMA = pa.schema(
    [
        pa.field("tool", pa.string()),
        pa.field("version", pa.string()),
        pa.field("case", pa.string()),
        pa.field("figure", pa.string()),
        pa.field("unit", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("repeats", pa.int64()),
        pa.field("note", pa.string()),
    ]
)


@dataclass(frozen=True)
class Figure:
    """One number of one tool in one case; `value` is None where there is none, and `note` says why.

    `low` and `high` are quartiles over the repeats (for a reported energy: the tool's own bounds, where it gives any).
    """

    tool: str
    case: str
    figure: str
    unit: str
    value: float | None
    low: float | None = None
    high: float | None = None
    repeats: int = 1
    note: str = ""


def to_arrow(figures: Iterable[Figure], versions: dict[str, str], facts: dict[str, str]) -> pa.Table:
    """A row per tool, case and figure; `facts` about the machine and the day become the schema's metadata."""
    rows = [dataclasses.asdict(figure) | {"version": versions.get(figure.tool)} for figure in figures]
    return pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(facts))


def merged(old: pa.Table, new: pa.Table) -> pa.Table:
    """The new rows, and the old ones of a tool and case that the new table lacks; tools stay in the old order."""
    fresh = set(zip(new["tool"].to_pylist(), new["case"].to_pylist(), strict=True))
    order = list(dict.fromkeys([*old["tool"].to_pylist(), *new["tool"].to_pylist()]))
    rows = [row for row in old.to_pylist() if (row["tool"], row["case"]) not in fresh] + new.to_pylist()
    return pa.Table.from_pylist(sorted(rows, key=lambda row: order.index(row["tool"])), schema=new.schema)


@dataclass(frozen=True)
class Row:
    """A row of the table: which figure, how it is written, and which is better.

    `scale` times the value is written with `decimals`; `tie` says whether a value counts as good as the best one.
    """

    label: str
    case: str
    figure: str
    scale: float = 1.0
    digits: int = 3
    largest: bool = False
    tie: Callable[[float, float], bool] = lambda value, best: value <= best * 1.02
    enough: float = math.inf  # a value above is not better: a rate above the one asked for


def _rate_tie(value: float, best: float) -> bool:
    return value >= best * 0.97


def _error_tie(value: float, best: float) -> bool:
    return value <= max(best, 0.25)


def _rates() -> list[Row]:
    return [
        Row(
            f"rate asked for {ms} ms, main thread {state}, 1/s",
            f"{ms} ms, {state}",
            "rate",
            1,
            3,
            True,
            _rate_tie,
            1000 / ms,
        )
        for ms in (10, 1)
        for state in ("asleep", "busy")
    ]


ROWS = (
    Row("import, ms", "import", "time", 1e3),
    Row("empty window, µs", "window", "begin and end", 1e6),
    Row("empty window with its number, µs", "window", "with its number", 1e6),
    Row("CPU of one sample, one after the other, µs", "fastest", "CPU per sample", 1e6),
    *_rates(),
    Row("CPU while sampling (asked for 10 ms), % of a core", "10 ms, asleep", "CPU", 100, 2),
    Row("memory while sampling, MiB", "10 ms, asleep", "memory", 1 / 2**20),
    Row("error when the counter wraps in the window, J", "wrap", "error", tie=_error_tie),
    Row("… when it wraps 20 ms before the end, J", "late wrap", "error", tie=_error_tie),
    Row("error with 1000 J in 4 ms, 20 ms before the end, J", "burst inside", "error", tie=_error_tie),
    Row("… 20 ms after the end, J", "burst outside", "error", tie=_error_tie),
    Row("error of the sum of 8 requests at once, J", "overlap", "error", tie=_error_tie),
    Row("error of the sum of 2 ranks on one machine, J", "ranks", "error", tie=_error_tie),
    Row("page of a run of 1000 windows, ms", "page", "time", 1e3),
)


class Sheet:
    """The figures of a table, asked for by tool, case and name."""

    def __init__(self, table: pa.Table) -> None:
        self.metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        rows = table.to_pylist()
        self.tools = list(dict.fromkeys(row["tool"] for row in rows if row["case"] != "call"))
        self.versions = {row["tool"]: row["version"] for row in rows}
        self.rows = rows
        self._by_key = {(row["tool"], row["case"], row["figure"]): row for row in rows}

    def value(self, tool: str, case: str, figure: str) -> float | None:
        """The number, or None where the tool has none."""
        row = self._by_key.get((tool, case, figure))
        return None if row is None else row["value"]

    def note(self, tool: str, case: str, figure: str) -> str:
        """Why there is no number, or what the number is."""
        row = self._by_key.get((tool, case, figure)) or self._by_key.get((tool, case, "why not"))
        return (row or {}).get("note") or ""

    def first(self, row: Row) -> list[str]:
        """The tools that are best in a row, ties included.

        CPU while sampling is compared among those that keep at least half the rate.
        """
        values = {tool: self.value(tool, row.case, row.figure) for tool in self.tools}
        kept = {tool: abs(v) for tool, v in values.items() if v is not None and math.isfinite(v)}
        if row.figure == "CPU":
            kept = {tool: v for tool, v in kept.items() if (self.value(tool, row.case, "rate") or 0) >= 50}
        if not kept:
            return []
        kept = {tool: min(value, row.enough) for tool, value in kept.items()}
        best = max(kept.values()) if row.largest else min(kept.values())
        return [tool for tool, value in kept.items() if row.tie(value, best)]

    def handles_wraps(self, tool: str) -> bool:
        """Whether the tool is right in both cases of a wrap."""
        for case in ("wrap", "late wrap"):
            error, truth = self.value(tool, case, "error"), self.value(tool, case, "truth")
            if error is None or truth is None or not abs(error) <= HANDLES_WRAPS * truth:
                return False
        return True

    def window_ratio(self) -> tuple[str, float] | None:
        """The cheapest peer that handles wraps, and how many of our windows (with their numbers) one of its costs."""
        costs = {t: self.value(t, "window", "with its number") for t in self.tools if self.handles_wraps(t)}
        ours = costs.pop(OURS, None)
        peers = {tool: cost for tool, cost in costs.items() if cost}
        if not ours or not peers:
            return None
        cheapest = min(peers, key=lambda tool: peers[tool])
        return cheapest, peers[cheapest] / ours

    def busy_ratio(self) -> float | None:
        """Our rate at 1 ms with a busy main thread over that with one asleep."""
        busy, asleep = (self.value(OURS, f"1 ms, {state}", "rate") for state in ("busy", "asleep"))
        return busy / asleep if busy and asleep else None

    def not_first(self) -> list[str]:
        """A line per row in which fastgreen is not first, with who is."""
        out = []
        for row in ROWS:
            best = self.first(row)
            if best and OURS not in best:
                ours = self._written(OURS, row)
                out.append(f"{row.label}: {' and '.join(best)} ({self._written(best[0], row)}; fastgreen {ours})")
        return out

    def markdown(self) -> str:
        """The table, its notes, and where fastgreen is not first."""
        notes: list[str] = []
        head = ["", *(f"{tool} {self.versions[tool]}" if self.versions[tool] else tool for tool in self.tools)]
        lines = [_line(head), _line(["---", *["---:"] * len(self.tools)])]
        for row in ROWS:
            best = self.first(row)
            cells = [self._cell(tool, row, tool in best, notes) for tool in self.tools]
            lines.append(_line([row.label, *cells]))
        lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), "", *self._sentences()]
        return "\n".join(lines)

    def _sentences(self) -> list[str]:
        out = []
        if (ratio := self.window_ratio()) is not None:
            out.append(
                f"A window of fastgreen, its number included, costs 1/{ratio[1]:.0f} of one of {ratio[0]}, "
                "the cheapest peer that is right when the counter wraps."
            )
        if (busy := self.busy_ratio()) is not None:
            out.append(f"A busy main thread leaves fastgreen {busy * 100:.1f} % of its rate at 1 ms.")
        behind = self.not_first()
        out.append("fastgreen is first, or tied for it, in every row." if not behind else "fastgreen is not first in:")
        text = [" ".join(out)]
        return text + ([""] if behind else []) + [f"- {line}" for line in behind] + ["", *self._calls(), self._facts()]

    def _calls(self) -> list[str]:
        calls = [row for row in self.rows if row["case"] == "call" and row["value"] is not None]
        parts = [f"{row['tool']} {row['value'] * 1e9:.0f} ns" for row in calls]
        return [f"One NVML call (total energy, of the same library): {', '.join(parts)}.", ""] if parts else []

    def _facts(self) -> str:
        return "Measured " + ", ".join(f"{key} {value}" for key, value in sorted(self.metadata.items())) + "."

    def _written(self, tool: str, row: Row) -> str:
        value = self.value(tool, row.case, row.figure)
        if value is None:
            return "none"
        return f"{significant(value * row.scale, row.digits)}"

    def _cell(self, tool: str, row: Row, best: bool, notes: list[str]) -> str:
        value, note = self.value(tool, row.case, row.figure), self.note(tool, row.case, row.figure)
        if row.figure not in ("error", "CPU per sample") and value is not None:
            note = ""
        mark = ""
        if value is None and not note:
            note = "not measured"
        if note:
            if note not in notes:
                notes.append(note)
            mark = f" <sup>{notes.index(note) + 1}</sup>"
        text = "–" if value is None else self._written(tool, row)
        return (f"**{text}**" if best else text) + mark


def significant(value: float, digits: int) -> str:
    """A number with so many significant digits and no exponent; whole numbers stay whole."""
    if value == 0 or not math.isfinite(value):
        return str(value if not math.isfinite(value) else 0)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(decimals, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and float(text) == 0 else text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def splice(path: Path, text: str) -> None:
    """Puts the text between the markers of a Markdown file. ValueError where it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.name} has no {BEGIN} ... {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
