"""``fastgreen report``: a saved run for people, as JSON, as a picture, a page, a trace, and a table."""

from __future__ import annotations

from pathlib import Path

import click

from fastgreen.commands.common import InputPath, JsonAnswer, json_options, of_file, say
from fastgreen.commands.cost_options import CostOptions, cost_options

__all__ = ["report"]


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@json_options()
@click.option("--picture", type=click.Path(path_type=Path), help="Draw power over time and the windows to this file.")
@click.option(
    "--power", type=click.Path(path_type=Path), help="Write power over time to this file: .csv, .parquet or Arrow."
)
@click.option(
    "--step", "step_s", type=click.FloatRange(0, min_open=True), help="Seconds between two points of power over time."
)
@click.option("--html", type=click.Path(path_type=Path), help="Write a page about the run to this file.")
@click.option(
    "--trace", type=click.Path(path_type=Path), help="Write power and windows to this file, for Perfetto or Chrome."
)
@click.option(
    "--merge",
    type=InputPath(dir_okay=False, path_type=Path),
    help="With --trace: add them to this trace of torch.profiler.",
)
@click.option("--per-channel", is_flag=True, help="With --power: one row per step and channel, instead of the total.")
@cost_options()
def report(
    folder: Path,
    answer: JsonAnswer,
    picture: Path | None,
    power: Path | None,
    step_s: float | None,
    html: Path | None,
    trace: Path | None,
    merge: Path | None,
    per_channel: bool,
    costing: CostOptions,
) -> None:
    """Show a saved run.

    RUN is the folder of the run.
    """
    from fastgreen.results.console import people_console, show
    from fastgreen.results.result import load

    if step_s is not None and not (picture or power):
        raise click.UsageError("--step needs --power or --picture")
    if per_channel and not power:
        raise click.UsageError("--per-channel needs --power")
    if merge and not trace:
        raise click.UsageError("--merge needs --trace")
    result = load(folder)
    found = costing.of(result)
    if picture is not None:
        from fastgreen import plot

        plot.power(result, step_s=step_s, path=picture)
    if power is not None:
        from fastgreen.table_files import save_table

        save_table(result.power(step_s, per_channel), power)
    if html is not None:
        from fastgreen.reports.page import to_html

        to_html(result, html, title=f"Energy of {folder.resolve().name}", footprint=found)
    if trace is not None:
        from fastgreen.reports.timeline import write_trace

        with of_file():
            write_trace(result, trace, merge)
    if not answer.give(lambda: costing.merged(result.to_dict(), found)):
        show(result, people_console())
        say(*costing.shown(found))
