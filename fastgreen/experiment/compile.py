"""Tables of a study: medians over the runs of each size, by channel; correlations; files for other tools.

A study is a folder ``input_<size>/run_<k>/`` of fastgreen or AIPowerMeter. The energy of an inference in a saved run is
that of its windows; in a ``power_metrics.json`` it is the integral of power (trapezoids) over the number of latencies.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastgreen.errors import TraceError
from fastgreen.experiment.published_runs import RULES, load_published
from fastgreen.experiment.run_energy import RunEnergy, precision_of, run_energy
from fastgreen.experiment.runner import WINDOW, read_status
from fastgreen.experiment.settling import Rest, Settled, read_settling, settling_notes
from fastgreen.experiment.statistics import correlations
from fastgreen.experiment.study_costs import SPENT_UNITS, spent_at_any_time, spent_by_run
from fastgreen.guards.printable import encodable
from fastgreen.guards.untrusted import check_inside, check_outputs, read_object
from fastgreen.recordings.readers.aipowermeter import read_aipowermeter
from fastgreen.table_files import save_table
from fastgreen.training.gauges import GAUGE_UNITS

if TYPE_CHECKING:
    from fastgreen.costs.settings import Costs

__all__ = ["Compiled", "compile_study", "sample_run"]

_TABLES = ("sizes", "channels", "runs", "pearson", "spearman")
_MOST_BATCH = 10**9
_LONGEST_NAME = 200  # characters of a study's name and of the unit of its sizes
_LARGEST = 1e15  # of a mean of memory, use or temperature; a larger value is not a reading
_RUN = re.compile(r"run_\d{1,9}")
_INTERRUPTED = ("interrupted", "the run was cut off; it is repeated when the study goes on")


@dataclass
class _Run:
    size: str
    repeat: int
    state: str
    note: str = ""
    energy: RunEnergy = field(default_factory=RunEnergy)
    estimated: bool = False
    gauges: dict[str, float] = field(default_factory=dict)
    spent: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # money, carbon and SCI of an inference
    doubt: str = ""  # why `spent` is not known
    warmup: Settled | None = None
    rest: Rest | None = None

    @property
    def name(self) -> str:
        return f"size {self.size}, run {self.repeat}"

    @property
    def latency_s(self) -> np.ndarray:
        return self.energy.latency_s

    @property
    def channels(self) -> dict[str, tuple[float, float, float, float]]:
        return self.energy.channels

    @property
    def counted(self) -> list[str]:
        return self.energy.counted

    @property
    def total(self) -> tuple[float, float, float, float]:
        return self.energy.total


@dataclass
class Compiled:
    """The tables of a study.

    Attributes
    ----------
    sizes : pyarrow.Table
        A row per size: runs, failed, iterations, energy of one inference in J over the counted channels (median,
        quartiles, bounds) and of each channel (``energy_j[id]``), latency, throughput and power; memory, use and
        temperature if they were read; the times of warm-up and rest that were found. ``precision`` is the half width of
        the interval of the mean energy of the runs, as a fraction: 95 % of the scatter, and the bounds of the meter.
    channels : pyarrow.Table
        The same energies with their spread, a row per size and channel.
    runs : pyarrow.Table
        A row per run, failed ones included, with their reason.
    pearson, spearman : pyarrow.Table
        Correlations between the numeric columns of `sizes` over the sizes; null where a column does not vary.
    notes : list of str
        Remarks for the reader: failed or empty runs, channels that only some runs have.
    size_unit, name, estimated, folder : str, str, bool, Path
        The unit of the sizes; the name of the study; whether an energy is an estimate; the folder of the study.
    """

    sizes: pa.Table
    channels: pa.Table
    runs: pa.Table
    pearson: pa.Table
    spearman: pa.Table
    notes: list[str]
    size_unit: str = ""
    name: str = ""
    estimated: bool = False
    folder: Path = Path()

    def save(self, folder: str | Path) -> list[Path]:
        """Write every table as Arrow and as CSV; returns the files.

        Raises
        ------
        TraceError
            If one of the files would be written through a link.
        """
        names = [name + suffix for name in _TABLES for suffix in (".arrow", ".csv")]
        folder = self.output_folder(folder, names)
        for name in names:
            save_table(getattr(self, Path(name).stem), folder / name)
        return [folder / name for name in names]

    def output_folder(self, folder: str | Path, names: list[str]) -> Path:
        """Make a folder for files of these names. TraceError if one of them would be written through a link."""
        folder = Path(folder)
        check_outputs(folder, names, self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def compile_study(folder: str | Path, costs: Costs | None = None, rule: str = "integral") -> Compiled:
    """Compile the study in a folder into tables.

    Parameters
    ----------
    folder : path
        Folder of the study.
    costs : Costs, optional
        Rates for money and carbon per inference (`fastgreen.costs.settings.costs_from`); they become columns.
    rule : {"integral", "aipowermeter"}
        Energy of a run of AIPowerMeter: the integral of its power, or AIPowerMeter's own rule, to repeat published
        tables: the median of the steps times their number, and so for memory and use.

    Returns
    -------
    Compiled

    Raises
    ------
    TraceError
        If the folder does not exist or holds no run.
    ValueError
        If `rule` is unknown.
    """
    folder = Path(folder)
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, not {rule!r}")
    if not folder.is_dir():
        raise TraceError(f"{folder}: no such folder")
    about = _about(folder)
    places = _places(folder)
    if not places:
        raise TraceError(f"{folder}: no run in it; a study has folders input_<size>/run_<k>")
    runs = [_load(place, folder, costs or None, rule) for place in places]
    sizes = list(dict.fromkeys(run.size for run in runs))
    table = _size_table(runs, sizes, about)
    pearson, spearman = correlations(table)
    return Compiled(
        table,
        _channel_table(runs, sizes),
        _run_table(runs),
        pearson,
        spearman,
        [
            *about.notes,
            *_notes(runs),
            *RULES[rule],
            *settling_notes((f"size {run.size}, run {run.repeat}", run.warmup, run.rest) for run in runs),
        ],
        about.size_unit,
        about.name,
        any(run.estimated for run in runs),
        folder,
    )


def _places(folder: Path) -> list[Path]:
    """The folders of the runs, by size and number."""
    found = (p for p in folder.glob("input_*/run_*") if p.is_dir() and _RUN.fullmatch(p.name))
    return sorted(found, key=lambda p: (_order(p.parent.name), int(p.name[4:])))


def sample_run(folder: str | Path) -> tuple[str, Any] | None:
    """First readable run of the largest size, for its curves: (name, Result or Recording); None without one."""
    import fastgreen

    for place in sorted(_places(Path(folder)), key=lambda p: _order(p.parent.name), reverse=True):
        name = f"size {encodable(place.parent.name.removeprefix('input_'))}, run {place.name[4:]}"
        try:
            check_inside(place / "run", Path(folder))
            status = read_status(place)
            if (status is None or status.state == "done") and (place / "run").is_dir():
                return name, fastgreen.load(place / "run")
            if (place / "power_metrics.json").exists():
                return name, read_aipowermeter(place)
        except (TraceError, OSError):
            continue
    return None


@dataclass
class _About:
    """Contents of study.json, as far as they are valid."""

    name: str
    size_unit: str = ""
    batch: int | dict[str, int] = 1
    until: float | None = None
    notes: list[str] = field(default_factory=list)

    def batch_of(self, size: str) -> int:
        return self.batch.get(size, 1) if isinstance(self.batch, dict) else self.batch


def _about(folder: Path) -> _About:
    about = _About(encodable(folder.name))
    try:
        there = read_object(folder / "study.json", folder)
    except FileNotFoundError:
        return about
    except (OSError, TraceError) as error:
        about.notes.append(f"study.json is not read: {error}")
        return about
    name, unit, batch = there.get("protocol", about.name), there.get("size_unit", ""), there.get("batch", 1)
    if isinstance(name, str) and isinstance(unit, str):
        about.name, about.size_unit = encodable(name)[:_LONGEST_NAME], encodable(unit)[:_LONGEST_NAME]
    else:
        about.notes.append("study.json: the name of the study or the unit of its sizes is not a text: not used")
    batches = list(batch.values()) if isinstance(batch, dict) else [batch]
    if batches and all(type(n) is int and 1 <= n <= _MOST_BATCH for n in batches):
        about.batch = batch
    else:
        about.notes.append(f"study.json: batch must be a whole number above 0, not {str(batch)[:60]!r}: taken as 1")
    until = there.get("until")
    if isinstance(until, float) and 0 < until < 1:
        about.until = until
    return about


def _order(name: str) -> tuple[int, float, str]:
    text = name.removeprefix("input_")
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    return (0, size, text) if math.isfinite(size) else (1, 0.0, text)


def _load(place: Path, study: Path, costs: Costs | None, rule: str) -> _Run:
    run = _Run(encodable(place.parent.name.removeprefix("input_")), int(place.name[4:]), "done")
    try:
        check_inside(place / "run", study)
        status = read_status(place)
        if status is not None and status.state == "failed":
            run.state, run.note = "failed", status.error
        elif (place / "run" / "channels.arrow").exists():
            _load_saved(run, place / "run", costs)
            run.gauges = _saved_gauges(place)
            run.warmup, run.rest = read_settling(place)
            if status is None:
                run.state, run.note = _INTERRUPTED
        elif (place / "power_metrics.json").exists():
            load_published(run, place, rule)
            if costs is not None and run.counted:
                run.spent, run.doubt = spent_at_any_time(run.total[:3], run.latency_s, costs)
        elif status is None and (place.parent.parent / "study.json").exists():
            run.state, run.note = _INTERRUPTED
        else:
            run.state, run.note = "empty", "this folder holds no recording"
    except (TraceError, KeyError, OSError) as error:
        run.state, run.note = "damaged", encodable(str(error if isinstance(error, OSError) else error.args[0]))
    return run


def _load_saved(run: _Run, place: Path, costs: Costs | None) -> None:
    import fastgreen

    result = fastgreen.load(place)
    run.energy = run_energy(result, WINDOW)
    run.estimated = result.estimated
    if costs is not None and run.latency_s.size and run.counted:
        run.spent, run.doubt = spent_by_run(result, costs, WINDOW)


def _saved_gauges(place: Path) -> dict[str, float]:
    """Means of memory, use and temperature, without impossible values."""
    try:
        there = read_object(place / "gauges.json", place)
    except (OSError, TraceError):
        return {}
    known = [(name, there.get(name)) for name in GAUGE_UNITS]
    return {n: float(v) for n, v in known if isinstance(v, (int, float)) and -_LARGEST <= v <= _LARGEST}


def _notes(runs: list[_Run]) -> list[str]:
    alike: dict[tuple[str, str, str], list[_Run]] = {}
    for run in runs:
        if run.state != "done":
            alike.setdefault((run.size, run.state, run.note.removeprefix("not tried: ")), []).append(run)
    notes = []
    for (size, state, note), mine in alike.items():
        others = f"; so {len(mine) - 1} more of its runs" if len(mine) > 1 else ""
        notes.append(f"size {size}, run {mine[0].repeat}: {state}: {note}{others}")
    doubts = dict.fromkeys(run.doubt for run in runs if run.doubt)
    notes += [f"cost and carbon of some runs are unknown: {doubt}" for doubt in doubts]
    sets: dict[frozenset[str], list[_Run]] = {}
    for run in runs:
        if run.state == "done":
            sets.setdefault(frozenset(run.channels), []).append(run)
    if len(sets) > 1:
        everywhere = frozenset.intersection(*sets)
        some = sorted(frozenset.union(*sets) - everywhere)
        notes.append(f"only some runs have the channels {', '.join(some)}; totals of such runs do not compare")
    return notes


_RUN_FIELDS = [
    ("size", pa.string(), ""),
    ("run", pa.int64(), ""),
    ("state", pa.string(), ""),
    ("note", pa.string(), ""),
    ("iterations", pa.int64(), ""),
    ("energy_j", pa.float64(), "J"),
    ("energy_low_j", pa.float64(), "J"),
    ("energy_high_j", pa.float64(), "J"),
    ("mean_power_w", pa.float64(), "W"),
    ("latency_s", pa.float64(), "s"),
    ("latency_p95_s", pa.float64(), "s"),
    ("latency_total_s", pa.float64(), "s"),
    ("warmup_s", pa.float64(), "s"),
    ("warmup", pa.string(), ""),
    ("rest_s", pa.float64(), "s"),
    ("rest", pa.string(), ""),
]


def _schema(fields: list[tuple[str, Any, str]]) -> pa.Schema:
    return pa.schema([pa.field(n, t, metadata={"unit": u} if u else None) for n, t, u in fields])


def _run_table(runs: list[_Run]) -> pa.Table:
    rows = []
    for run in runs:
        row = {"size": run.size, "run": run.repeat, "state": run.state, "note": run.note}
        row["iterations"] = run.latency_s.size
        if run.latency_s.size and run.counted:
            row |= dict(zip(("energy_j", "energy_low_j", "energy_high_j", "mean_power_w"), run.total, strict=True))
        if run.latency_s.size:
            row |= {"latency_s": float(np.median(run.latency_s)), "latency_total_s": float(run.latency_s.sum())}
            row["latency_p95_s"] = float(np.quantile(run.latency_s, 0.95))
        for name, found in (("warmup", run.warmup), ("rest", run.rest)):
            if found is not None:
                row |= {f"{name}_s": found.seconds, name: found.state}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_schema(_RUN_FIELDS))


def _quartiles(values: list[float]) -> tuple[float | None, float | None, float | None]:
    good = [v for v in values if np.isfinite(v)]
    if not good:
        return None, None, None
    q1, middle, q3 = np.quantile(good, [0.25, 0.5, 0.75])
    return float(middle), float(q1), float(q3)


def _precision(totals: list[tuple[float, float, float, float]], chosen: bool) -> float | None:
    """How well the mean energy is known, as a fraction; None where that is not known."""
    width = math.expm1(min(sum(precision_of(totals, chosen)), 700.0)) if len(totals) > 1 else math.nan
    return width if math.isfinite(width) else None


def _size_table(runs: list[_Run], sizes: list[str], about: _About) -> pa.Table:
    names = list(dict.fromkeys(name for run in runs for name in run.channels))
    numeric = all(_order(size)[0] == 0 for size in sizes)
    fields: list[tuple[str, Any, str]] = [("size", pa.float64() if numeric else pa.string(), "")]
    fields += [("runs", pa.int64(), ""), ("failed", pa.int64(), ""), ("iterations", pa.int64(), "")]
    fields += [
        (n, pa.float64(), "J") for n in ("energy_j", "energy_q1_j", "energy_q3_j", "energy_low_j", "energy_high_j")
    ]
    fields += [("precision", pa.float64(), "1")]
    batched = any(about.batch_of(size) > 1 for size in sizes)
    if batched:
        fields += [("batch", pa.int64(), ""), ("energy_per_sample_j", pa.float64(), "J")]
    fields += [(n, pa.float64(), "s") for n in ("latency_s", "latency_q1_s", "latency_q3_s", "latency_p95_s")]
    fields += [("throughput_per_s", pa.float64(), "1/s"), ("mean_power_w", pa.float64(), "W")]
    fields += [(f"energy_j[{name}]", pa.float64(), "J") for name in names]
    spent = [name for name in SPENT_UNITS if any(name in run.spent for run in runs)]
    fields += [(f"{name}{part}", pa.float64(), SPENT_UNITS[name]) for name in spent for part in ("", "_low", "_high")]
    gauges = [name for name in GAUGE_UNITS if any(name in run.gauges for run in runs)]
    fields += [(name, pa.float64(), GAUGE_UNITS[name]) for name in gauges]
    waits = [name for name in ("warmup", "rest") if any(getattr(run, name) is not None for run in runs)]
    fields += [(f"{name}_s", pa.float64(), "s") for name in waits]
    rows = []
    by_size: dict[str, list[_Run]] = {}
    for run in runs:
        by_size.setdefault(run.size, []).append(run)
    for size in sizes:
        mine = by_size[size]
        done = [run for run in mine if run.state == "done"]
        row: dict[str, Any] = {
            "size": float(size) if numeric else size,
            "runs": len(done),
            "failed": len(mine) - len(done),
        }
        row["iterations"] = sum(run.latency_s.size for run in done)
        totals = [run.total for run in done]
        row["energy_j"], row["energy_q1_j"], row["energy_q3_j"] = _quartiles([t[0] for t in totals])
        row["energy_low_j"], row["energy_high_j"] = (_quartiles([t[i] for t in totals])[0] for i in (1, 2))
        row["mean_power_w"] = _quartiles([t[3] for t in totals])[0]
        row["precision"] = _precision(totals, about.until is not None)
        batch = about.batch_of(size)
        if batched:
            energy_j = row["energy_j"]
            row |= {"batch": batch, "energy_per_sample_j": None if energy_j is None else energy_j / batch}
        latency = [float(np.median(run.latency_s)) for run in done]
        row["latency_s"], row["latency_q1_s"], row["latency_q3_s"] = _quartiles(latency)
        row["latency_p95_s"] = _quartiles([float(np.quantile(run.latency_s, 0.95)) for run in done])[0]
        timed = [run.latency_s for run in done if run.latency_s.sum() > 0]
        row["throughput_per_s"] = _quartiles([batch * seconds.size / seconds.sum() for seconds in timed])[0]
        for name in names:
            row[f"energy_j[{name}]"] = _quartiles([r.channels[name][0] for r in done if name in r.channels])[0]
        for name in spent:
            known = [run.spent[name] for run in done if name in run.spent]
            for part, n in (("", 0), ("_low", 1), ("_high", 2)):
                row[f"{name}{part}"] = _quartiles([value[n] for value in known])[0]
        for name in gauges:
            row[name] = _quartiles([r.gauges[name] for r in done if name in r.gauges])[0]
        for name in waits:
            found = [getattr(run, name) for run in done]
            row[f"{name}_s"] = _quartiles([one.seconds for one in found if one is not None])[0]
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_schema(fields))


def _channel_table(runs: list[_Run], sizes: list[str]) -> pa.Table:
    fields: list[tuple[str, Any, str]] = [
        ("size", pa.string(), ""),
        ("channel", pa.string(), ""),
        ("runs", pa.int64(), ""),
    ]
    columns = ("energy_j", "energy_q1_j", "energy_q3_j", "energy_low_j", "energy_high_j")
    fields += [(n, pa.float64(), "J") for n in columns] + [("mean_power_w", pa.float64(), "W")]
    rows = []
    for size in sizes:
        done = [run for run in runs if run.size == size and run.state == "done"]
        for name in dict.fromkeys(n for run in done for n in run.channels):
            numbers = np.array([run.channels[name] for run in done if name in run.channels])
            energy = dict(zip(columns[:3], _quartiles(numbers[:, 0].tolist()), strict=True))
            low, high, power = (float(np.median(numbers[:, i])) for i in (1, 2, 3))
            row = {"size": size, "channel": name, "runs": len(numbers), **energy}
            rows.append({**row, "energy_low_j": low, "energy_high_j": high, "mean_power_w": power})
    return pa.Table.from_pylist(rows, schema=_schema(fields))
