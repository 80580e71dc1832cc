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
from fastgreen.experiment.runner import WINDOW, read_status
from fastgreen.experiment.study_costs import SPENT_UNITS, spent_at_any_time, spent_by_run
from fastgreen.guards.printable import encodable
from fastgreen.guards.untrusted import check_inside, check_outputs, read_object
from fastgreen.recordings.readers.aipowermeter import read_aipowermeter
from fastgreen.table_files import save_table
from fastgreen.training.gauges import GAUGE_UNITS
from fastgreen.units import NS_PER_S

if TYPE_CHECKING:
    from fastgreen.costs.settings import Costs

__all__ = ["Compiled", "compile_study", "correlations", "sample_run"]

_TABLES = ("sizes", "channels", "runs", "pearson", "spearman")
_MOST_BATCH = 10**9
_LONGEST_NAME = 200  # characters of a study's name and of the unit of its sizes
_LARGEST = 1e15  # of a mean of memory, use or temperature; a larger value is not a reading
_MOST_CORRELATED = 100  # columns; the time grows with the number of pairs
_RUN = re.compile(r"run_\d{1,9}")
_INTERRUPTED = ("interrupted", "the run was cut off; it is repeated when the study goes on")
_SPREAD = re.compile(r"_(q1|q3|low|high|p95)(_|$)")  # spread of another column, not a quantity of its own


@dataclass
class _Run:
    size: str
    repeat: int
    state: str
    note: str = ""
    latency_s: np.ndarray = field(default_factory=lambda: np.empty(0))
    channels: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)
    estimated: bool = False
    gauges: dict[str, float] = field(default_factory=dict)
    spent: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # money, carbon and SCI of an inference
    doubt: str = ""  # why `spent` is not known

    @property
    def total(self) -> tuple[float, float, float, float]:
        parts = [self.channels[name] for name in self.counted]
        sums = [sum(column) for column in zip(*parts, strict=True)] if parts else [float("nan")] * 4
        return sums[0], sums[1], sums[2], sums[3]


@dataclass
class Compiled:
    """The tables of a study.

    Attributes
    ----------
    sizes : pyarrow.Table
        A row per size: runs, failed, iterations, energy of one inference in J over the counted channels (median,
        quartiles, bounds) and of each channel (``energy_j[id]``), latency, throughput and power; memory, use and
        temperature if they were read.
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
    table = _size_table(runs, sizes, about.batch)
    pearson, spearman = correlations(table)
    return Compiled(
        table,
        _channel_table(runs, sizes),
        _run_table(runs),
        pearson,
        spearman,
        [*about.notes, *_notes(runs), *RULES[rule]],
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
    batch: int = 1
    notes: list[str] = field(default_factory=list)


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
    if type(batch) is int and 1 <= batch <= _MOST_BATCH:
        about.batch = batch
    else:
        about.notes.append(f"study.json: batch must be a whole number above 0, not {str(batch)[:60]!r}: taken as 1")
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
    from fastgreen.results.trace import Windows, together

    result = fastgreen.load(place)
    table = result.windows(WINDOW)
    run.latency_s = table.column("duration_s").to_numpy()
    begin_ns = table.column("start_ns").to_numpy()
    windows = Windows(WINDOW, 0, begin_ns, begin_ns + np.rint(run.latency_s * NS_PER_S).astype(np.int64))
    seconds, count = float(run.latency_s.sum()), run.latency_s.size
    read = [trace for trace in result.traces if trace.has_data and count]
    for trace, energy in zip(read, together(read, windows), strict=True):
        run.channels[trace.channel.id] = (
            float(energy.energy_j) / count,
            float(energy.low_j) / count,
            float(energy.high_j) / count,
            float(energy.energy_j) / seconds,
        )
    run.counted = [trace.channel.id for trace in read if trace.counted]
    run.estimated = result.estimated
    if costs is not None and count and run.counted:
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
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_schema(_RUN_FIELDS))


def _quartiles(values: list[float]) -> tuple[float | None, float | None, float | None]:
    good = [v for v in values if np.isfinite(v)]
    if not good:
        return None, None, None
    q1, middle, q3 = np.quantile(good, [0.25, 0.5, 0.75])
    return float(middle), float(q1), float(q3)


def _size_table(runs: list[_Run], sizes: list[str], batch: int) -> pa.Table:
    names = list(dict.fromkeys(name for run in runs for name in run.channels))
    numeric = all(_order(size)[0] == 0 for size in sizes)
    fields: list[tuple[str, Any, str]] = [("size", pa.float64() if numeric else pa.string(), "")]
    fields += [("runs", pa.int64(), ""), ("failed", pa.int64(), ""), ("iterations", pa.int64(), "")]
    fields += [
        (n, pa.float64(), "J") for n in ("energy_j", "energy_q1_j", "energy_q3_j", "energy_low_j", "energy_high_j")
    ]
    fields += [(n, pa.float64(), "s") for n in ("latency_s", "latency_q1_s", "latency_q3_s", "latency_p95_s")]
    fields += [("throughput_per_s", pa.float64(), "1/s"), ("mean_power_w", pa.float64(), "W")]
    fields += [(f"energy_j[{name}]", pa.float64(), "J") for name in names]
    spent = [name for name in SPENT_UNITS if any(name in run.spent for run in runs)]
    fields += [(f"{name}{part}", pa.float64(), SPENT_UNITS[name]) for name in spent for part in ("", "_low", "_high")]
    gauges = [name for name in GAUGE_UNITS if any(name in run.gauges for run in runs)]
    fields += [(name, pa.float64(), GAUGE_UNITS[name]) for name in gauges]
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


def correlations(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Pearson and Spearman correlations between the float columns of a table, quartiles and bounds apart.

    Parameters
    ----------
    table : pyarrow.Table
        Rows with a null in one of two columns are left out for that pair.

    Returns
    -------
    pearson, spearman : pyarrow.Table
        A column ``column`` of names, and one column per name; null if fewer than three rows have both values, or one
        of the two columns is constant.
    """
    names = [
        f.name
        for f in table.schema
        if pa.types.is_floating(f.type)
        and table.column(f.name).null_count < table.num_rows
        and not _SPREAD.search(f.name)
    ][:_MOST_CORRELATED]
    columns = [table.column(name).to_numpy().astype(float) for name in names]
    out = []
    for how in (lambda x: x, _ranks):
        matrix: dict[str, list[Any]] = {"column": names}
        for name, b in zip(names, columns, strict=True):
            matrix[name] = [_correlation(a, b, how) for a in columns]
        schema = pa.schema([("column", pa.string()), *((name, pa.float64()) for name in names)])
        out.append(pa.table(matrix, schema=schema))
    return out[0], out[1]


def _correlation(a: np.ndarray, b: np.ndarray, how: Any) -> float | None:
    good = np.isfinite(a) & np.isfinite(b)
    a, b = a[good], b[good]
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    a, b = how(a) - how(a).mean(), how(b) - how(b).mean()
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1.0, 1.0))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values get the mean of their ranks."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2.0)[where]
