# SPDX-License-Identifier: Apache-2.0
"""The bars of the benchmarks: a row for each, with the figure seen, kept in docs/bars.md.

A run of some benchmarks replaces their rows and keeps the others; a file that no longer exists loses its rows.
"""

from __future__ import annotations

import operator
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NO_BAR", "Row", "machine", "page", "read", "replaced"]

NO_BAR = "none"
_SIGNS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_ROW = re.compile(r"^\| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$")
_HEADER = ("measurement", "bar", "seen", "machine")
_INTRO = """# Bars: the demand of each benchmark, and the figure seen

`make bench` runs every benchmark and writes this page. A benchmark asserts its answer, measures, and fails if the
figure misses its bar. A ratio compares two sides that run in turn, in the same run; in brackets are its quartiles. A
row without a bar is information. Times of a shared machine vary; a row that missed its bar says so.

`python -m pytest benchmarks/bench_window.py --bars docs/bars.md` measures the rows of one file again and keeps the
others.
"""


@dataclass(frozen=True)
class Row:
    """A bar: what is measured, ``"<= 1.2 x two clock reads"``, the figure, its quartiles, and where it was seen."""

    what: str
    bar: str
    seen: float
    spread: tuple[float, float] | None = None
    machine: str = ""

    @property
    def unit(self) -> str:
        """The words after the number of the bar."""
        return "" if self.bar == NO_BAR else _parts(self.bar)[2]

    @property
    def is_met(self) -> bool:
        """Whether the figure is on the right side of the bar."""
        if self.bar == NO_BAR:
            return True
        sign, limit, _ = _parts(self.bar)
        return bool(_SIGNS[sign](self.seen, limit))

    def cells(self) -> tuple[str, str, str, str]:
        """The cells of its row."""
        spread = f" ({figure(self.spread[0])} to {figure(self.spread[1])})" if self.spread else ""
        missed = "" if self.is_met else " **missed**"
        bar = "–" if self.bar == NO_BAR else self.bar
        return self.what, bar, f"{figure(self.seen)}{spread}{missed}", self.machine


def _parts(bar: str) -> tuple[str, float, str]:
    found = re.fullmatch(r"(<=|>=|<|>) ([\d.e+-]+)(?: (\S.*))?", bar)
    if not found:
        raise ValueError(f"bar must be a sign, a number and perhaps a unit, as '<= 1.2 x two clock reads', not {bar!r}")
    return found[1], float(found[2]), found[3] or ""


def figure(value: float) -> str:
    """Three digits, without an exponent where people write none."""
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e7 else text


def machine() -> str:
    """This machine in general words, as ``2-core AMD EPYC VM, Linux, Python 3.11``."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    words = re.sub(r"\((R|TM|C)\)|CPU|Processor|\d+-Core", "", named[1]).split("@")[0].split() if named else []
    family = [word for word in words if not re.search(r"\d", word)] or [platform.machine()]
    kind = " VM" if re.search(r"^flags\s*:.*\bhypervisor\b", info, re.MULTILINE) else ""
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{os.cpu_count()}-core {' '.join(family)}{kind}, {platform.system()}, Python {python}"


Sections = dict[str, dict[str, tuple[str, str, str, str]]]


def read(text: str) -> Sections:
    """The rows of a page, by file and by what is measured."""
    found: Sections = {}
    for line in text.splitlines():
        if line.startswith("## "):
            found["bench_" + line.removeprefix("## ").lower().replace(" ", "_")] = {}
        elif (row := _ROW.match(line)) and row.groups() != _HEADER and found:
            found[list(found)[-1]][row[1]] = (row[1], row[2], row[3], row[4])
    return found


def replaced(old: Sections, new: dict[str, list[Row]], whole: set[str], files: dict[str, str]) -> Sections:
    """The old rows with the new ones in their places; a file in `whole` keeps no old row."""
    found: Sections = {}
    for name in sorted(files):
        kept = {} if name in whole and new.get(name) else dict(old.get(name, {}))
        found[name] = kept | {row.what: row.cells() for row in new.get(name, [])}
    return {name: rows for name, rows in found.items() if rows}


def page(sections: Sections, files: dict[str, str]) -> str:
    """The page, with the first sentence of each file."""
    text = _INTRO
    for name, rows in sections.items():
        title = name.removeprefix("bench_").replace("_", " ").capitalize()
        text += f"\n## {title}\n\n{files[name]}\n\n| {' | '.join(_HEADER)} |\n|---|---|---|---|\n"
        text += "".join(f"| {' | '.join(cells)} |\n" for cells in rows.values())
    return text
