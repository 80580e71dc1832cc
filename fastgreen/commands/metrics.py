"""The commands that need no sensor: sweep, plot, figures, metrics."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from fastgreen.commands.measure import dump
from fastgreen.commands.wording import sentence
from fastgreen.errors import FastgreenError

__all__ = ["figures", "metrics", "plot", "sweep"]

_RUNS_HELP = """Training runs, a row each checkpoint: CSV, Parquet or Arrow with run, time, accuracy and consumption or
cost (ttcapc, ttcapec)."""
_AXIS_BYTES = 48  # of each point of an axis while a sweep is made: it is copied, and put in order
_LONG_SWEEP = 200_000_000  # points: from about a second on, a progress bar is welcome


class Axis(click.ParamType):
    """``start:stop:step`` as numpy.arange means it but with an exact count, ``a,b,c``, or one number."""

    name = "axis"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> np.ndarray:
        if isinstance(value, np.ndarray):
            return value
        try:
            if ":" in value:
                start, stop, step = (float(part) for part in value.split(":"))
                return _range(start, stop, step)
            return np.array([float(part) for part in value.split(",")])
        except (MemoryError, OverflowError) as error:
            self.fail(f"{value!r} has more points than memory can hold ({error})", param, ctx)
        except ValueError as error:
            reason = str(error) if "step" in str(error) else "use START:STOP:STEP, A,B,C or one number"
            self.fail(f"{value!r} is no axis: {reason}", param, ctx)


def _range(start: float, stop: float, step: float) -> np.ndarray:
    """start, start + step, ... up to stop, which is left out; 0:1:0.1 has ten points, whatever the rounding."""
    if not step > 0 or not np.isfinite([start, stop, step]).all():
        raise ValueError("the step must be above 0 and all three finite")
    steps = (stop - start) / step
    if steps > 2**40:
        raise ValueError(f"the step leads to {steps:.3g} points")
    near = round(steps)
    count = near if abs(steps - near) < 1e-9 * max(1.0, abs(steps)) else int(np.ceil(steps))
    if count < 1:
        raise ValueError("the step leads to no point: START must be below STOP")
    needed, available = count * _AXIS_BYTES, psutil.virtual_memory().available
    if needed > available:
        raise MemoryError(f"{count:,} take {needed / 1e9:,.0f} GB, and {available / 1e9:,.1f} GB are free")
    return start + np.arange(count) * step


class TargetAxis(click.ParamType):
    """Targets: scores, ``best``, or pairs ``accuracy/consumption``, separated by commas."""

    name = "targets"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        try:
            return [_target(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is no list of targets: use best, 0.55, or 0.9/2.5 (accuracy/consumption)", param, ctx)


def _target(text: str) -> float | tuple[float, float] | None:
    if text == "best":
        return None
    if "/" in text:
        accuracy, amount = text.split("/")
        return float(accuracy), float(amount)
    return float(text)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what a user can mend into one sentence; a bug keeps its traceback."""
    try:
        yield
    except (FastgreenError, ValueError, MemoryError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(sentence(error)) from error


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@click.command()
@click.argument("metric", type=click.Choice(["apc", "apec", "ttcapc", "ttcapec"]))
@click.option("--consumption", type=Axis(), help="Axis of energy (apc).")
@click.option("--cost", type=Axis(), help="Axis of cost (apec).")
@click.option("--accuracy", type=Axis(), help="Axis of accuracy, fractions (apc, apec).")
@click.option("--alpha", type=Axis(), help="Axis of alpha; 0.1 by default.")
@click.option("--beta", type=Axis(), help="Axis of beta; 1 by default.")
@click.option("--runs", type=click.Path(exists=True, dir_okay=False), help=_RUNS_HELP)
@click.option("--accuracy-delta", type=Axis(), help="Axis of accuracy cells; 0.01 by default.")
@click.option("--consumption-delta", type=Axis(), help="Axis of consumption cells; 0.1 by default.")
@click.option("--cost-delta", type=Axis(), help="Axis of cost cells; 0.1 by default.")
@click.option(
    "--target", type=TargetAxis(), help="Targets: best, 0.55 or 0.9/2.5 (accuracy/consumption); best by default."
)
@click.option("--unit", help="Unit of consumption or cost, kept in the file.")
@click.option("-o", "--output", type=click.Path(), help="The Arrow file to write.")
@click.option("--best", type=click.IntRange(min=1), help="Print the best points instead of writing all.")
@click.option("--json", "as_json", is_flag=True, help="Print the best points as JSON.")
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@click.option("--layout", type=click.Choice(["dense", "long"]), default="dense", show_default=True)
@click.option("--compression", type=click.Choice(["lz4", "zstd"]))
@click.option("--threads", type=click.IntRange(min=1), help="That compute; as many as keep the disk busy by default.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--progress/--no-progress", default=None, help="By default for long sweeps on a terminal.")
def sweep(
    metric: str,
    runs: str | None,
    output: str | None,
    best: int | None,
    as_json: bool,
    dtype: str,
    layout: str,
    compression: str | None,
    threads: int | None,
    overwrite: bool,
    progress: bool | None,
    **axes: Any,
) -> None:
    """A metric over the product of axes, into an Arrow file.

    \b
    fastgreen sweep apc --consumption 0:10:0.01 --accuracy 0:1:0.01 --alpha 0.1,0.25 -o grid.arrow
    fastgreen sweep ttcapc --runs runs.csv --target best,0.55 -o times.arrow
    """
    from fastgreen.metrics.sweep import Sweep

    if output is None and best is None:
        raise click.UsageError("say where to write it (-o FILE) or how many of the best points to print (--best N)")
    with plain_errors():
        given = _given(**axes)
        made = Sweep(metric, **_runs(metric, runs, given), **given) if runs else Sweep(metric, **given)
        if best is not None:
            _print_table(made.best(best), as_json)
        if output is not None:
            shown = made.size >= _LONG_SWEEP and sys.stderr.isatty() if progress is None else progress
            options: dict[str, Any] = {"layout": layout, "compression": compression, "threads": threads}
            made.write(output, dtype=dtype, progress=shown, overwrite=overwrite, **options)
            points = f"{made.size:,} point" + ("" if made.size == 1 else "s")
            click.echo(f"{points}, {Path(output).stat().st_size / 1e6:,.1f} MB, in {output}", err=True)


def _runs(metric: str, path: str, given: dict[str, Any]) -> dict[str, Any]:
    """Columns time, accuracy and consumption (cost) of a table as list arrays, a list for each value of run."""
    import pyarrow as pa

    from fastgreen.metrics.sweep import METRICS

    names = ("time", "accuracy", METRICS[metric])
    if not metric.startswith("ttc"):
        raise ValueError(f"a sweep of {metric} takes axes, not --runs; ttc{metric} takes runs")
    for name in names:
        if name in given:
            raise ValueError(f"{name} comes from --runs, do not give it besides")
    table = _read_table(path)
    for name in names:
        if name not in table.schema.names:
            raise ValueError(f"{path} has no column {name}; it has {', '.join(table.schema.names)}")
    if "run" not in table.schema.names:
        return {name: pa.array([table[name].to_pylist()]) for name in names}
    columns = table.group_by("run", use_threads=False).aggregate([(name, "list") for name in names])
    return {name: columns[f"{name}_list"] for name in names}


def _read_table(path: str) -> Any:
    """A table from CSV, Parquet or Arrow (file or stream), by the ending of its name. ValueError."""
    table = _opened(path)
    for name in table.schema.names:
        if table.schema.get_field_index(name) < 0:
            raise ValueError(f"{path} has two columns {name}")
    return table


def _opened(path: str) -> Any:
    import pyarrow as pa

    ending = Path(path).suffix.lower()
    try:
        if ending in (".csv", ".tsv"):
            from pyarrow import csv

            return csv.read_csv(path, parse_options=csv.ParseOptions(delimiter="\t" if ending == ".tsv" else ","))
        if ending == ".parquet":
            from pyarrow import parquet

            return parquet.read_table(path)
        with pa.memory_map(path) as source:
            try:
                return pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid:
                source.seek(0)
                return pa.ipc.open_stream(source).read_all()
    except (pa.ArrowException, OSError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise ValueError(f"{path} cannot be read as a table: {reason}") from None


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


def _print_table(table: Any, as_json: bool) -> None:
    if as_json:
        dump(table.to_pylist())
        return
    from rich.console import Console

    from fastgreen.results.console import PlainTable

    shown = PlainTable(box=None, header_style="bold")
    for field in table.schema:
        shown.add_column(field.name, justify="left" if str(field.type) == "string" else "right")
    for row in table.to_pylist():
        shown.add_row(*[_cell(value) for value in row.values()])
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no edge to wrap at
    console.print(shown)


@click.command()
@click.argument("grid", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="The picture; GRID with .png by default.")
@click.option("--alpha", type=float, help="Which of the sweep's alphas; the first by default.")
@click.option("--beta", type=float, help="Which of the sweep's betas; the first by default.")
@click.option(
    "--models", type=click.Path(exists=True, dir_okay=False), help="Models to draw as points: a table as for metrics."
)
@click.option("--title", help="Instead of the metric with alpha and beta.")
def plot(
    grid: str, output: str | None, alpha: float | None, beta: float | None, models: str | None, title: str | None
) -> None:
    """Draw the heat map of a sweep's file.

    \b
    fastgreen plot grid.arrow
    """
    from fastgreen.metrics.stored_sweep import open_sweep

    with plain_errors():
        from fastgreen import plot as pictures

        stored = open_sweep(grid)
        points = None
        if models is not None:
            table = _read_table(models)
            names, amount = (
                _model_names(table),
                _column(table, "cost" if stored.metric == "apec" else "consumption", models),
            )
            points = list(zip(names, amount, _column(table, "accuracy", models), strict=True))
        target = output or str(Path(grid).with_suffix(".png"))
        pictures.heat_map(stored, alpha=alpha, beta=beta, models=points, title=title, path=target)
        click.echo(target)


@click.command()
@click.option("-o", "--output", type=click.Path(file_okay=False), required=True, help="The folder for the pictures.")
@click.option("--format", "kind", type=click.Choice(["png", "pdf", "svg"]), default="png", show_default=True)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only the figure of that name, as in apc-grid; may be repeated."
)
def figures(output: str, kind: str, only: tuple[str, ...]) -> None:
    """Draw the published figures of APC and APEC anew."""
    with plain_errors():
        from fastgreen.published_figures import FIGURES, draw_figures

        for name in only:
            if name not in FIGURES:
                raise ValueError(f"there is no figure {name!r}; there are {', '.join(FIGURES)}")
        for path in draw_figures(output, kind, only or tuple(FIGURES)):
            click.echo(path)


@click.command()
@click.argument("table", type=click.Path(exists=True, dir_okay=False))
@click.option("--alpha", type=float, default=0.1, show_default=True)
@click.option("--beta", type=float, default=1.0, show_default=True, help="Of APC, per unit of consumption.")
@click.option("--cost-beta", type=float, help="Of APEC, per unit of cost; as --beta by default.")
@click.option("--price", type=float, help="Cost of a unit of consumption, where the table has no column cost.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def metrics(table: str, alpha: float, beta: float, cost_beta: float | None, price: float | None, as_json: bool) -> None:
    """APC and APEC of a table of models.

    TABLE is CSV, Parquet or Arrow with a column accuracy and a column consumption or cost or both; a first column of
    text names the models.

    \b
    fastgreen metrics models.csv --price 0.003
    """
    with plain_errors():
        for name, value in {"alpha": alpha, "beta": beta, "cost-beta": cost_beta, "price": price}.items():
            if value is not None and math.isnan(value):
                raise ValueError(f"{name} must be a number, not nan")
        _print_table(_scored(table, alpha, beta, beta if cost_beta is None else cost_beta, price), as_json)


def _scored(path: str, alpha: float, beta: float, cost_beta: float, price: float | None) -> Any:
    from fastgreen.metrics.domains import AMOUNT, check
    from fastgreen.metrics.scores import apc, apec

    table = _read_table(path)
    accuracy = _column(table, "accuracy", path)
    has = {name for name in ("consumption", "cost") if name in table.schema.names}
    if not has:
        raise ValueError(f"{path} has neither a column consumption nor cost; it has {', '.join(table.schema.names)}")
    columns: dict[str, Any] = {}
    if "consumption" in has:
        consumption = _column(table, "consumption", path)
        columns["apc"] = apc(consumption, accuracy, alpha, beta)
        if price is not None and "cost" not in has:
            columns["cost"] = consumption * check("price", price, AMOUNT)
            columns["apec"] = apec(columns["cost"], accuracy, alpha, cost_beta)
    if "cost" in has:
        columns["apec"] = apec(_column(table, "cost", path), accuracy, alpha, cost_beta)
    for name, values in columns.items():
        if name in table.schema.names:
            table = table.drop_columns([name])
        table = table.append_column(name, [values])
    return table


def _column(table: Any, name: str, path: str) -> np.ndarray:
    import pyarrow as pa

    from fastgreen.metrics.domains import as_numbers

    if name not in table.schema.names:
        raise ValueError(f"{path} has no column {name}; it has {', '.join(table.schema.names)}")
    column = table[name]
    if pa.types.is_null(column.type):  # no row has a value, or there is none
        return np.full(len(column), math.nan)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"{name} must be numbers, and {path} has {column.type}")
    return as_numbers(name, column.to_numpy()).astype(np.float64)


def _model_names(table: Any) -> list[str]:
    for field in table.schema:
        if str(field.type) in ("string", "large_string"):
            return [str(value) for value in table[field.name].to_pylist()]
    return [f"model {place}" for place in range(1, table.num_rows + 1)]
