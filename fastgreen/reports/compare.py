"""Comparisons of energy: of commands measured in turn, of saved runs by window name, of files of benchmarks."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.guards.printable import printable
from fastgreen.guards.untrusted import read_small
from fastgreen.reports.ratio import Outcomes, Ratio, paired, unpaired
from fastgreen.results.console import PlainTable, quantity, with_bounds
from fastgreen.results.loading import load
from fastgreen.results.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

__all__ = [
    "Comparison",
    "Row",
    "block_means",
    "compare",
    "compare_benchmarks",
    "compare_named",
    "compare_outcomes",
    "ratio_of_benchmarks",
    "read_benchmarks",
]

_LARGEST_FILE = 256 << 20
_BLOCKS = 20  # of the stretches of a name: neighbours depend on each other, the means of blocks hardly
_NAME = 60  # characters of a name in a sentence
WHOLE = "whole run"


@dataclass(frozen=True)
class Row:
    """One side of a comparison.

    Attributes
    ----------
    subject : str
        The window or benchmark that is compared; the same in all rows of one comparison of commands.
    name : str
        The side: a command, a folder, a file.
    count : int
        Repeats, stretches or rounds.
    energy_j, low_j, high_j, duration_s : float
        Means of one, in J and s.
    ratio : Ratio or None
        To the first side; None for that one.
    """

    subject: str
    name: str
    count: int
    energy_j: float
    low_j: float
    high_j: float
    duration_s: float
    ratio: Ratio | None = None

    @property
    def power_w(self) -> float:
        """Mean power, W; NaN where no time passed."""
        return self.energy_j / self.duration_s if self.duration_s > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """As plain Python, for JSON and CSV."""
        numbers = {
            "subject": self.subject,
            "name": self.name,
            "count": self.count,
            "energy_j": self.energy_j,
            "energy_low_j": self.low_j,
            "energy_high_j": self.high_j,
            "duration_s": self.duration_s,
            "power_w": self.power_w,
        }
        return numbers | (self.ratio.to_dict() if self.ratio is not None else {})


@dataclass
class Comparison:
    """Energies side by side, with the ratio of each to the first.

    Attributes
    ----------
    rows : list of Row
        The sides of a subject follow each other, the base first.
    noun : str
        Name of one value: repeat, stretch, block.
    notes : list of str
        Sentences that a reader should know.
    estimated : bool
        Whether an energy is from a model and not a measurement.
    runs : dict
        For commands: the outcomes of all repeats by command, for JSON.
    """

    rows: list[Row]
    noun: str = "repeat"
    notes: list[str] = field(default_factory=list)
    estimated: bool = False
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def sentences(self) -> list[str]:
        """A sentence for each ratio."""
        out, base, several = [], "", len({row.subject for row in self.rows}) > 1
        for row in self.rows:
            if row.ratio is None:
                base = row.name
                continue
            text = row.ratio.sentence(base, row.name, self.noun)
            out.append(f"{printable(row.subject, most=_NAME)}: {text}" if several else text)
        return out

    def ratio(self, subject: str | None = None) -> Ratio:
        """The ratio of a subject, or the first of all. KeyError for a subject that was not compared."""
        for row in self.rows:
            if row.ratio is not None and subject in (None, row.subject):
                return row.ratio
        raise KeyError(f"nothing named {subject!r} was compared; there are {sorted({r.subject for r in self.rows})}")

    def to_dict(self) -> dict[str, Any]:
        """As plain Python, for JSON."""
        rows = [row.to_dict() for row in self.rows]
        for row in rows:
            if row["name"] in self.runs:
                row["runs"] = self.runs[row["name"]]
        return {"rows": rows, "sentences": self.sentences, "notes": self.notes, "estimated": self.estimated}

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table for people."""
        several = len({row.subject for row in self.rows}) > 1
        header = ["name", f"{self.noun}s", "energy", "between", "time", "power", "ratio", "interval"]
        lines = []
        for row in self.rows:
            ratio = row.ratio
            lines.append(
                [row.subject] * several
                + [
                    row.name,
                    str(row.count),
                    *with_bounds(row.energy_j, row.low_j, row.high_j, "J"),
                    quantity(row.duration_s, "s"),
                    quantity(row.power_w, "W"),
                    *_ratio_cells(ratio),
                ]
            )
        return ["of"] * several + header, lines

    def to_table(self) -> Table:
        """A table for a console."""
        from rich import box

        header, lines = self.cells()
        shown = PlainTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        words = 2 if header[0] == "of" else 1
        if words == 2:
            shown.spare = ("power", "time", header[2])  # and where that is not enough, the names of windows are cut
        for n, name in enumerate(header):
            shown.add_column(name, justify="left" if n < words else "right", overflow="fold")
        for line in lines:
            shown.add_row(*line)
        return shown

    def to_markdown(self) -> str:
        """A table and the sentences in Markdown."""
        header, lines = self.cells()
        words = 2 if header[0] == "of" else 1
        rule = ["---"] * words + ["---:"] * (len(header) - words)
        table = [header, rule, *([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)]
        text = "".join(f"| {' | '.join(line)} |\n" for line in table)
        return text + "".join(f"\n{sentence}.\n" for sentence in [*self.sentences, *self.notes])

    def to_csv(self) -> str:
        """A row per side, with the ratio to the first."""
        rows = [row.to_dict() for row in self.rows]
        out = io.StringIO()
        writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()

    def __str__(self) -> str:
        from fastgreen.results.console import PrintableConsole

        buffer = io.StringIO()
        PrintableConsole(file=buffer, width=120, highlight=False, color_system=None).print(self.to_table())
        table = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")
        return "\n".join([table, *self.sentences, *(f"note: {note}" for note in self.notes)])


def _ratio_cells(ratio: Ratio | None) -> tuple[str, str]:
    """The ratio and its interval; "-" where an energy is not resolved, so that any ratio is possible."""
    if ratio is None:
        return "1", ""
    if not math.isfinite(ratio.meter):
        return "-", "-"
    return f"{ratio.ratio:.4g}", f"{ratio.low:.4g} .. {ratio.high:.4g}"


# ---- commands ----


def compare_outcomes(outcomes: dict[str, Outcomes], first: int | None = None) -> Comparison:
    """Compare repeats that were measured in turn; the first name is the base.

    Parameters
    ----------
    outcomes : dict of str to Outcomes
        All of one length.
    first : int, optional
        As of `paired`.

    Returns
    -------
    Comparison
    """
    base = next(iter(outcomes.values()))
    rows, runs = [], {}
    for name, these in outcomes.items():
        ratio = None if these is base else paired(base, these, first)
        energy, low, high, duration = (
            float(np.mean(x)) for x in (these.energy_j, these.low_j, these.high_j, these.duration_s)
        )
        rows.append(Row("command", name, len(these), energy, low, high, duration, ratio))
        columns = (these.energy_j, these.low_j, these.high_j, these.duration_s)
        keys = ("energy_j", "energy_low_j", "energy_high_j", "duration_s")
        runs[name] = [dict(zip(keys, map(float, one), strict=True)) for one in zip(*columns, strict=True)]
    return Comparison(rows, runs=runs)


# ---- saved runs ----


def compare(a: Result | str | os.PathLike, b: Result | str | os.PathLike, *, force: bool = False) -> Comparison:
    """Compare two finished runs: the whole runs, and each window name that both have.

    The interval of a ratio holds the bounds of the meter and, for windows, the scatter between the stretches of each
    run. For windows whose bounds are wider than the 95 % interval of their mean (`Result.summary`), it holds this
    interval in place of the bounds. It does not hold the scatter between runs, which one run of each cannot show.

    Parameters
    ----------
    a, b : Result or path
        Runs, or the folders that hold them. `a` is the base.
    force : bool
        Compare runs of different machines all the same.

    Returns
    -------
    Comparison
        ``print`` shows it; ``ratio(name)`` has the numbers.

    Raises
    ------
    TraceError
        If a folder holds no run, an energy of a run is not known, or the runs are of different machines.
    """
    sides = [(_name(x, n), x if isinstance(x, Result) else load(x)) for x, n in ((a, "A"), (b, "B"))]
    if sides[0][0] == sides[1][0]:
        sides = [(f"{name} ({letter})", result) for (name, result), letter in zip(sides, "AB", strict=True)]
    return compare_named(sides, force)


def compare_named(sides: Sequence[tuple[str, Result]], force: bool = False) -> Comparison:
    """The same of two runs with names; the first is the base."""
    for name, result in sides:
        if not result.known:
            raise TraceError(f"{name}: no channel gave a reading, so the energy of this run is unknown")
    (_, first), (_, second) = sides
    rows = [Row(WHOLE, n, 1, r.energy_j, r.energy_low_j, r.energy_high_j, r.duration_s) for n, r in sides]
    rows[1] = _with_ratio(rows[0], rows[1], np.empty(0), np.empty(0))
    found = [_of_window(name, sides) for name in first.names if name in second.names]
    rows += [row for some, _ in found for row in some]
    notes = [note for _, note in found if note]
    notes += [f"window {n!r} is only in {sides[0][0]}" for n in first.names if n not in second.names]
    notes += [f"window {n!r} is only in {sides[1][0]}" for n in second.names if n not in first.names]
    hosts = [result.metadata.get("host") for _, result in sides]
    notes += _of_one_machine("runs", str(hosts[0]), str(hosts[1]), force)
    counted = [sorted(t.channel.id for t in result.traces if t.counted) for _, result in sides]
    if counted[0] != counted[1]:
        notes.append(f"the runs count different channels: {', '.join(counted[0])}; and {', '.join(counted[1])}")
    return Comparison(rows, "block", notes, first.estimated or second.estimated)


def _of_one_machine(things: str, a: str, b: str, force: bool) -> list[str]:
    """Notes on two machines; TraceError unless forced."""
    if a == b:
        return []
    text = f"the {things} are of different machines: {a} and {b}"
    if not force:
        raise TraceError(f"{text}; --force (in Python: force=True) compares them all the same")
    return [text]


def _name(side: Any, letter: str) -> str:
    return letter if isinstance(side, Result) else os.fspath(side)


def _with_ratio(
    base: Row, row: Row, base_blocks: np.ndarray, blocks: np.ndarray, halves: tuple[float, float] | None = None
) -> Row:
    means = [(r.energy_j, r.low_j, r.high_j) for r in (base, row)]
    return replace(row, ratio=unpaired(means[0], means[1], base_blocks, blocks, halves))


def _of_window(window: str, sides: Sequence[tuple[str, Result]]) -> tuple[list[Row], str]:
    """The rows of a window, and what their ratio rests on: a note, or ""."""
    rows: list[Row] = []
    blocks, halves, reasons = [], [], []
    for name, result in sides:
        summary = next(row for row in result.summary().to_pylist() if row["name"] == window)
        energies = result.windows(window)["energy_j"].to_numpy(zero_copy_only=False)
        blocks.append(block_means(energies))
        energy, low, high = (_float(summary[f"mean_energy{part}_j"]) for part in ("", "_low", "_high"))
        count = summary["count"]
        rows.append(Row(window, name, count, energy, low, high, summary["total_duration_s"] / count))
        halves.append(_float(summary["mean_energy_ci_high_j"]) - energy)
        if "would help" in (summary["interval_note"] or ""):
            reasons.append(f"window {window!r} of {name} has no 95 % interval: {summary['interval_note']}")
    # A mean without an interval has a half of NaN, which no bounds are wider than.
    wider = [(row.high_j - row.low_j) / 2 > half for row, half in zip(rows, halves, strict=True)]
    if all(wider):
        rows[1] = _with_ratio(rows[0], rows[1], blocks[0], blocks[1], (halves[0], halves[1]))
        return rows, f"the ratio of {window!r} rests on the 95 % intervals of energies that follow the load"
    rows[1] = _with_ratio(rows[0], rows[1], blocks[0], blocks[1])
    return rows, "; ".join(reasons)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def block_means(energies: np.ndarray) -> np.ndarray:
    """Means of at most 20 blocks of consecutive values."""
    energies = np.asarray(energies, float)
    return np.array([part.mean() for part in np.array_split(energies, min(_BLOCKS, len(energies)))])


# ---- files of pytest-benchmark ----


def compare_benchmarks(a: str | os.PathLike, b: str | os.PathLike, *, force: bool = False) -> Comparison:
    """Compare the energies in two files that pytest-benchmark wrote with ``--benchmark-energy``.

    Parameters
    ----------
    a, b : path
        JSON files; `a` is the base. Benchmarks are joined by their full name.
    force : bool
        Compare files of different machines all the same.

    Returns
    -------
    Comparison
        In J per round.

    Raises
    ------
    TraceError
        If a file is no such file, no benchmark with an energy is in both, or the files are of different machines.
    """
    names = [os.fspath(a), os.fspath(b)]
    files = [read_benchmarks(x) for x in (a, b)]
    (first, host_a), (second, host_b) = files
    rows: list[Row] = []
    for benchmark in (x for x in first if x in second):
        base, other = first[benchmark], second[benchmark]
        row = benchmark_row(benchmark, names[1], other)
        rows += [benchmark_row(benchmark, names[0], base), replace(row, ratio=ratio_of_benchmarks(base, other))]
    if not rows:
        raise TraceError(f"{names[0]} and {names[1]} have no benchmark in common that has an energy")
    notes = _of_one_machine("files", host_a, host_b, force)
    notes += [f"{x} has an energy only in {names[0]}" for x in first if x not in second]
    notes += [f"{x} has an energy only in {names[1]}" for x in second if x not in first]
    return Comparison(rows, "block", notes, any(e["estimated"] for side in (first, second) for e in side.values()))


def ratio_of_benchmarks(base: dict[str, Any], energy: dict[str, Any]) -> Ratio:
    """Ratio of the energies of two rounds, each as in ``extra_info``."""
    means = [tuple(float(side[f"per_round{part}_j"]) for part in ("", "_low", "_high")) for side in (base, energy)]
    blocks = (np.asarray(side["block_energy_j"], float) for side in (base, energy))
    return unpaired(*means, *blocks)  # type: ignore[arg-type]


def benchmark_row(benchmark: str, name: str, energy: dict[str, Any]) -> Row:
    """The row of one benchmark from the energy in its ``extra_info``."""
    middle, low, high = (float(energy[key]) for key in ("per_round_j", "per_round_low_j", "per_round_high_j"))
    return Row(benchmark, name, int(energy["rounds"]), middle, low, high, float(energy["mean_round_s"]))


def read_benchmarks(path: str | os.PathLike) -> tuple[dict[str, dict[str, Any]], str]:
    """Energies by full name of the benchmark, and the name of the machine. TraceError where the file is no such file.

    A benchmark without an energy is left out.
    """
    path = Path(path)
    try:
        content = json.loads(read_small(path, most=_LARGEST_FILE))
        benchmarks = [(str(x["fullname"]), (x.get("extra_info") or {}).get("energy")) for x in content["benchmarks"]]
        host = str((content.get("machine_info") or {}).get("node", ""))
        out = {name: energy for name, energy in benchmarks if energy is not None}
        for name, energy in out.items():
            benchmark_row(name, "", energy)
            np.asarray(energy["block_energy_j"], float).reshape(-1)
            bool(energy["estimated"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise TraceError(f"{path} must be JSON of pytest-benchmark with energies: {error!r}") from None
    return out, host
