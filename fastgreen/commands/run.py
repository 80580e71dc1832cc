"""``fastgreen run``: measure a command that need not know of it."""

from __future__ import annotations

import contextlib
import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastgreen.commands.child import check_command, run_child
from fastgreen.commands.common import JsonAnswer, channel_option, json_options, sentence
from fastgreen.guards.printable import printable

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["run"]


def _not_started(name: str, error: OSError) -> int:
    """Print why; the exit code that a shell gives."""
    click.echo(f"fastgreen run: {name}: {error.strerror}", err=True)
    return 127 if error.errno == errno.ENOENT else 126


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Save the run in this folder.")
@click.option("--hz", type=float, help="Readings per second.")
@channel_option()
@json_options("Print the report as JSON, on stderr.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    output: Path | None, hz: float | None, channels: list[str] | None, answer: JsonAnswer, command: tuple[str, ...]
) -> None:
    """Measure a command, as in: fastgreen run -- python train.py

    The report goes to stderr. The exit code is that of the command.
    """
    from fastgreen.measuring.monitor import Monitor

    try:
        check_command(command[0])
    except OSError as error:
        sys.exit(_not_started(command[0], error))
    monitor = Monitor(channels, hz=hz, record=output).start()
    try:
        code = run_child(list(command))
    except OSError as error:  # no format that the system runs
        sys.exit(_not_started(command[0], error))
    finally:
        monitor.stop()
    with contextlib.suppress(SystemExit):  # a report that cannot be written is no reason to lose the command's code
        _report(monitor.result, answer, monitor.folder)
    sys.exit(code)


def _report(result: Result, answer: JsonAnswer, output: str | None) -> None:
    from fastgreen.results.console import people_console, show

    try:
        if not answer.give(result.to_dict, err=True):
            show(result, people_console(stderr=True))
            if output is not None:
                click.echo(printable(f"saved in {output}; `fastgreen report` shows it again"), err=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            click.echo(f"fastgreen run: {sentence(error)}", err=True)
