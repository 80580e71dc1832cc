"""The commands of the metrics, which need no sensor: sweep, plot, figures, metrics."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fastgreen.commands.common import InputPath, JsonAnswer, OutputPath, did_you_mean, json_options, of_file, say, table
from fastgreen.commands.ranges import Range
from fastgreen.units import counted

if TYPE_CHECKING:
    from fastgreen.metrics.sweep import Sweep

__all__ = ["figures", "metrics", "plot", "sweep"]

_RUNS_HELP = """Table of training runs, one row per checkpoint (CSV, Parquet or Arrow), with the columns run, time,
accuracy, and consumption (ttcapc) or cost (ttcapec)."""
_ROWS_SHOWN, _COLUMNS_SHOWN = 1000, 48  # a terminal table of more takes minutes to lay out
_LONG_SWEEP = 200_000_000  # points: from about a second on, a progress bar is welcome


class TargetAxis(click.ParamType):
    """Targets: scores, ``best``, or pairs ``accuracy/consumption``, separated by commas."""

    name = "targets"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        try:
            return [_target(part) for part in value.split(",")]
        except ValueError:
            self.fail(
                f"{value!r} is not a target: it must be best, 0.55, or 0.9/2.5 (accuracy/consumption)", param, ctx
            )


def _target(text: str) -> float | tuple[float, float] | None:
    if text == "best":
        return None
    if "/" in text:
        accuracy, amount = text.split("/")
        return float(accuracy), float(amount)
    return float(text)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@click.command()
@click.argument("metric", type=click.Choice(["apc", "apec", "ttcapc", "ttcapec"]))
@click.option("--consumption", type=Range(), help="Consumption, such as energy (apc).")
@click.option("--cost", type=Range(), help="Cost (apec).")
@click.option("--accuracy", type=Range(), help="Accuracy, as a fraction (apc, apec).")
@click.option("--alpha", type=Range(), help="Alpha, the weight of energy spent on right answers.  [default: 0.1]")
@click.option("--beta", type=Range(), help="Beta, the weight of consumption.  [default: 1]")
@click.option("--runs", type=InputPath(dir_okay=False), help=_RUNS_HELP)
@click.option("--accuracy-delta", type=Range(), help="Size of a cell in accuracy.  [default: 0.01]")
@click.option("--consumption-delta", type=Range(), help="Size of a cell in consumption.  [default: 0.1]")
@click.option("--cost-delta", type=Range(), help="Size of a cell in cost.  [default: 0.1]")
@click.option(
    "--target", type=TargetAxis(), help="Targets: best, 0.55 or 0.9/2.5 (accuracy/consumption).  [default: best]"
)
@click.option("--unit", help="Unit of consumption or cost, to note in the file.")
@click.option("-o", "--output", type=click.Path(), help="Arrow file to write; with --cluster, or as a URI, a folder.")
@click.option(
    "--cluster", metavar="ADDRESS", help="Compute on the Dask cluster at this address, such as tcp://HOST:8786."
)
@click.option("--best", type=click.IntRange(min=1), help="Print this many of the best points.")
@json_options("Print the best points as JSON.")
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="Type of the scores.",
)
@click.option("--layout", type=click.Choice(["dense", "long"]), default="dense", show_default=True,
              help="dense: scores only; long: one row per point, with its coordinates.")  # fmt: skip
@click.option("--compression", type=click.Choice(["lz4", "zstd"]), help="Compress the file.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads for computing.  [default: enough to keep the disk busy]"
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option(
    "--progress/--no-progress", default=None, help="Show a progress bar.  [default: for a long sweep on a terminal]"
)
def sweep(
    metric: str,
    runs: str | None,
    output: str | None,
    cluster: str | None,
    best: int | None,
    answer: JsonAnswer,
    dtype: str,
    layout: str,
    compression: str | None,
    threads: int | None,
    overwrite: bool,
    progress: bool | None,
    **axes: Any,
) -> None:
    """Compute a metric for every point of a grid.

    Each axis of the grid is a RANGE: START:STOP:STEP (STOP included), a list A,B,C or one number.

    \b
    fastgreen sweep apc --consumption 0:10:0.01 --accuracy 0:1:0.01 --alpha 0.1,0.25 -o grid.arrow
    fastgreen sweep ttcapc --runs runs.csv --target best,0.55 -o times.arrow
    fastgreen sweep apc ... --cluster tcp://scheduler:8786 -o s3://bucket/grid
    """
    from fastgreen.metrics.sweep import Sweep

    if output is None and best is None:
        raise click.UsageError("give a file to write (-o FILE) or a number of best points to print (--best N)")
    if answer.wanted and best is None:
        raise click.UsageError("--json and --json-file need --best")
    given = _given(**axes)
    if runs is None:
        made = Sweep(metric, **given)
    else:
        columns = _runs(metric, runs, given)
        with of_file():
            made = Sweep(metric, **columns, **given)
    shown = made.size >= _LONG_SWEEP and sys.stderr.isatty() if progress is None else progress
    if cluster is not None or (output is not None and "://" in output):
        if threads is not None or overwrite:
            raise click.UsageError("--threads and --overwrite are for one file, not for a cluster or a URI")
        options: dict[str, Any] = {"layout": layout, "compression": compression, "dtype": dtype, "progress": shown}
        _sweep_on_cluster(made, cluster, output, best, answer, options)
        return
    if best is not None:
        _show_table(made.best(best), answer)
    if output is not None:
        options = {"layout": layout, "compression": compression, "threads": threads}
        made.write(output, dtype=dtype, progress=shown, overwrite=overwrite, **options)
        click.echo(f"{_points(made)}, {Path(output).stat().st_size / 1e6:,.1f} MB, in {output}", err=True)


def _points(made: Sweep) -> str:
    return f"{made.size:,} point" + ("" if made.size == 1 else "s")


def _sweep_on_cluster(
    made: Sweep, cluster: str | None, output: str | None, best: int | None, answer: JsonAnswer, options: dict[str, Any]
) -> None:
    """The same on a Dask cluster; without an address, in this process."""
    from fastgreen import distributed
    from fastgreen.distributed.cluster import connected
    from fastgreen.distributed.sweep_dataset import public_target

    with connected(cluster) if cluster is not None else nullcontext() as client:
        if best is not None:
            _show_table(distributed.best(made, best, client), answer)
        if output is not None:
            written = distributed.write(made, output, client, **options)
            click.echo(f"{_points(made)}, {counted(written, 'part')} written, in {public_target(output)}", err=True)


def _runs(metric: str, path: str, given: dict[str, Any]) -> dict[str, Any]:
    """Columns time, accuracy and consumption (cost) of a table as list arrays, a list for each value of run."""
    import pyarrow as pa

    from fastgreen.metrics.sweep import METRICS

    names = ("time", "accuracy", METRICS[metric])
    if not metric.startswith("ttc"):
        raise ValueError(f"a sweep of {metric} takes axes, not --runs; ttc{metric} takes runs")
    for name in names:
        if name in given:
            raise ValueError(f"{name} comes from --runs, so it must not be given too")
    from fastgreen.table_files import load_table

    with of_file():
        table = load_table(path)
    for name in names:
        if name not in table.schema.names:
            raise click.ClickException(f"{path} has no column {name}; it has {', '.join(table.schema.names)}")
    if "run" not in table.schema.names:
        return {name: pa.array([table[name].to_pylist()]) for name in names}
    columns = table.group_by("run", use_threads=False).aggregate([(name, "list") for name in names])
    return {**{name: columns[f"{name}_list"] for name in names}, "run_names": columns["run"].to_pylist()}


def _best_named(rows: Any) -> Any:
    """Show the target NaN by its word, best; in JSON it is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    place = rows.schema.get_field_index("target")
    if place < 0 or not pa.types.is_floating(rows["target"].type) or not pc.any(pc.is_nan(rows["target"])).as_py():
        return rows
    texts = ["best" if math.isnan(value) else f"{value:g}" for value in rows["target"].to_pylist()]
    return rows.set_column(place, "target", pa.array(texts))


def _show_table(rows: Any, answer: JsonAnswer) -> None:
    if answer.give(rows.to_pylist):
        return
    rows = _best_named(rows)
    shown = rows.select(rows.column_names[:_COLUMNS_SHOWN] + rows.column_names[_COLUMNS_SHOWN:][-2:])
    more = (
        [f"{counted(rows.num_rows - _ROWS_SHOWN, 'more row')}: --json shows all"] if rows.num_rows > _ROWS_SHOWN else []
    )
    if rows.num_columns > shown.num_columns:
        more.append(f"{counted(rows.num_columns - shown.num_columns, 'more column')}: --json shows all")
    say(table("", shown.slice(0, _ROWS_SHOWN).to_pylist(), ruled=False), *more, wide=True)


@click.command()
@click.argument("grid", type=InputPath(dir_okay=False))
@click.option(
    "-o", "--output", type=OutputPath(dir_okay=False), help="Picture to write.  [default: GRID with the ending .png]"
)
@click.option("--alpha", type=float, help="Alpha to draw.  [default: the first of the sweep]")
@click.option("--beta", type=float, help="Beta to draw.  [default: the first of the sweep]")
@click.option(
    "--models", type=InputPath(dir_okay=False), help="Table of models to draw as points, as for `fastgreen metrics`."
)
@click.option("--title", help="Title of the picture.  [default: the metric with alpha and beta]")
def plot(
    grid: str, output: str | None, alpha: float | None, beta: float | None, models: str | None, title: str | None
) -> None:
    """Draw a sweep as a heat map.

    GRID is a file that `fastgreen sweep` has written.

    \b
    fastgreen plot grid.arrow
    """
    from fastgreen import plot as pictures
    from fastgreen.metrics.stored_sweep import open_sweep

    stored = open_sweep(grid)
    points = None
    if models is not None:
        from fastgreen.table_files import load_table

        with of_file():
            read = load_table(models)
            amount = _column(read, "cost" if stored.metric == "apec" else "consumption", models)
            points = list(zip(_model_names(read), amount, _column(read, "accuracy", models), strict=True))
    target = output or str(Path(grid).with_suffix(".png"))
    pictures.heat_map(stored, alpha=alpha, beta=beta, models=points, title=title, path=target)
    click.echo(target)


@click.command()
@click.option("-o", "--output", type=OutputPath(file_okay=False), required=True, help="Folder for the pictures.")
@click.option(
    "--format", "kind", type=click.Choice(["png", "pdf", "svg"]), default="png", show_default=True, help="File format."
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Draw only this figure, such as apc-grid; repeat it for more."
)
def figures(output: str, kind: str, only: tuple[str, ...]) -> None:
    """Draw the published figures of APC and APEC."""
    from fastgreen.published_figures import FIGURES, draw_figures

    for name in only:
        if name not in FIGURES:
            near = did_you_mean(name, FIGURES)
            raise ValueError(f"there is no figure {name!r}.{near} There are {', '.join(FIGURES)}")
    for path in draw_figures(output, kind, only or tuple(FIGURES)):
        click.echo(path)


@click.command()
@click.argument("path", metavar="TABLE", type=InputPath(dir_okay=False))
@click.option("--alpha", type=float, default=0.1, show_default=True, help="Weight of energy spent on right answers.")
@click.option("--beta", type=float, default=1.0, show_default=True, help="Weight of one unit of consumption, for APC.")
@click.option("--cost-beta", type=float, help="Weight of one unit of cost, for APEC.  [default: --beta]")
@click.option("--price", type=float, help="Cost of one unit of consumption, if the table has no column cost.")
@json_options()
def metrics(
    path: str, alpha: float, beta: float, cost_beta: float | None, price: float | None, answer: JsonAnswer
) -> None:
    """Compute APC and APEC for a table of models.

    TABLE is a CSV, Parquet or Arrow file. It has the column accuracy, and consumption or cost or both. The first
    column of text names the models.

    \b
    fastgreen metrics models.csv --price 0.003
    """
    for name, value in {"alpha": alpha, "beta": beta, "cost-beta": cost_beta, "price": price}.items():
        if value is not None and math.isnan(value):
            raise ValueError(f"{name} must be a number, not nan")
    cost_beta = beta if cost_beta is None else cost_beta
    _check_weights(alpha, beta, cost_beta, price)
    with of_file():
        scored = _scored(path, alpha, beta, cost_beta, price)
    _show_table(scored, answer)


def _check_weights(alpha: float, beta: float, cost_beta: float, price: float | None) -> None:
    """ValueError for an option out of its domain, before the table is read; bad values in it have their own errors."""
    from fastgreen.metrics.domains import AMOUNT, check
    from fastgreen.metrics.scores import apc, apec

    apc(0.0, 1.0, alpha, beta)
    apec(0.0, 1.0, alpha, cost_beta)
    if price is not None:
        check("price", price, AMOUNT)


def _scored(path: str, alpha: float, beta: float, cost_beta: float, price: float | None) -> Any:
    from fastgreen.metrics.domains import AMOUNT, check
    from fastgreen.metrics.scores import apc, apec
    from fastgreen.table_files import load_table

    table = load_table(path)
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
