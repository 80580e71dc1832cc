"""``fastgreen report``: a saved run for people, as JSON, as a picture, a page, a trace, and a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastgreen.commands.common import InputPath, JsonAnswer, json_options, of_file, say
from fastgreen.commands.cost_options import CostOptions, cost_options
from fastgreen.progress_bar import progress_bar

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["report"]

_PLAIN = ("began", "job", "CPU", "GPU", "packages", "recorded by")  # values that need no name


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
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
    help="With --trace: write the contents of this trace of torch.profiler too.",
)
@click.option("--from", "from_s", type=click.FloatRange(0), help="With --html: draw the run from this second on.")
@click.option("--to", "to_s", type=click.FloatRange(0), help="With --html: draw the run up to this second.")
@click.option("--per-channel", is_flag=True, help="With --power: one row per step and channel, instead of the total.")
@cost_options()
def report(
    folders: tuple[Path, ...],
    answer: JsonAnswer,
    picture: Path | None,
    power: Path | None,
    step_s: float | None,
    html: Path | None,
    trace: Path | None,
    merge: Path | None,
    from_s: float | None,
    to_s: float | None,
    per_channel: bool,
    costing: CostOptions,
) -> None:
    """Show a saved run.

    RUN is the folder of the run. With --html, several runs make one page; the first is the base of all differences.
    """
    from fastgreen.results.console import people_console, show
    from fastgreen.results.loading import load

    if step_s is not None and not (picture or power):
        raise click.UsageError("--step needs --power or --picture")
    if per_channel and not power:
        raise click.UsageError("--per-channel needs --power")
    if merge and not trace:
        raise click.UsageError("--merge needs --trace")
    if (from_s is not None or to_s is not None) and (html is None or len(folders) > 1):
        raise click.UsageError("--from and --to need --html, and one run")
    if len(folders) > 1:
        if html is None or picture or power or trace or answer.wanted:
            raise click.UsageError("several runs need --html, and no other output; `fastgreen compare A B` prints")
        _page_of_runs(folders, html)
        return
    (folder,) = folders
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

        with progress_bar("page", None):
            title = f"Energy of {folder.resolve().name}"
            to_html(result, html, title=title, from_s=from_s, to_s=to_s, footprint=found)
    if trace is not None:
        from fastgreen.reports.timeline import write_trace

        with of_file(), progress_bar("timeline", None):
            write_trace(result, trace, merge)
    if not answer.give(lambda: costing.merged(result.to_dict(), found)):
        say(*_head(result))
        show(result, people_console())
        say(*costing.shown(found))


def _head(result: Result) -> list[str]:
    """The command in one line, and the rest of the run's identity in another."""
    from fastgreen.results.identity import identity

    said = identity(result.metadata, result.start_ns)
    command = said.pop("command", "")
    shown = (text if name in _PLAIN else f"{name} {text}" for name, text in said.items())
    return [line for line in (command, "; ".join(shown)) if line]


def _page_of_runs(folders: tuple[Path, ...], html: Path) -> None:
    from fastgreen.reports.runs_page import runs_to_html
    from fastgreen.results.loading import load

    short = [folder.resolve().name for folder in folders]
    names = [str(folder) if short.count(name) > 1 else name for folder, name in zip(folders, short, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} ({n})" for n, name in enumerate(names, start=1)]
    with progress_bar("page", None):
        runs_to_html(dict(zip(names, map(load, folders), strict=True)), html, title=f"Energy of {len(folders)} runs")
