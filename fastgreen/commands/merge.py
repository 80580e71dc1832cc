# SPDX-License-Identifier: Apache-2.0
"""``fastgreen merge``: the runs of all ranks of a job as one."""

from __future__ import annotations

from pathlib import Path

import click

from fastgreen.commands.common import JsonAnswer, json_options, of_file, say
from fastgreen.commands.cost_options import CostOptions, cost_options
from fastgreen.progress_bar import progress_bar

__all__ = ["merge"]


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Save the merged runs in this folder.")
@click.option(
    "--parquet", type=click.Path(path_type=Path), help="Write windows, channels and spans to this folder, as Parquet."
)
@json_options()
@cost_options()
def merge(
    folders: tuple[Path, ...], output: Path | None, parquet: Path | None, answer: JsonAnswer, costing: CostOptions
) -> None:
    """Show the runs of all ranks of a job as one.

    RUN is the folder of a run, or a folder of them. Each sensor counts once, whatever number of ranks read it.
    """
    from fastgreen.results.console import people_console, show
    from fastgreen.results.loading import merge as merged

    with progress_bar("merging", None):
        result = merged(folders)
        found = costing.of(result)
    with of_file():
        if output is not None:
            with progress_bar("saving", None):
                result.save(output)
        if parquet is not None:
            with progress_bar("Parquet", None):
                result.write_dataset(parquet)
    if not answer.give(lambda: costing.merged(result.to_dict(), found)):
        show(result, people_console())
        say(*costing.shown(found))
        say(*[f"saved in {path}" for path in (output, parquet) if path is not None])
