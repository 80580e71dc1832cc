"""The commands that measure: channels, run, report."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from fastgreen.commands.child import check_command, run_child
from fastgreen.commands.wording import sentence
from fastgreen.errors import FastgreenError
from fastgreen.sensors.channel import Channel, Seams, SourceStatus

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["channels", "report", "run"]


def dump(value: Any) -> None:
    """JSON to stdout; NaN and infinities, which JSON has not, become null."""
    click.echo(json.dumps(_plain(value), indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not (value == value and abs(value) != float("inf")):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def channels(as_json: bool) -> None:
    """List what can be measured here; for what cannot, why, and the command that mends it."""
    from fastgreen.results.console import people_console
    from fastgreen.sensors.catalog import discover

    found, states = discover(Seams.of())
    if as_json:
        hidden = ("sensor", "traits", "role")
        dump(
            {
                "channels": [{k: v for k, v in dataclasses.asdict(c).items() if k not in hidden} for c in found],
                "sources": [dataclasses.asdict(s) for s in states],
            }
        )
        return
    console = people_console()
    console.print(_channel_table(found))
    _explain(console, found, states)


def _channel_table(found: list[Channel]) -> Table:
    from fastgreen.results.console import plain_table, titled

    table = plain_table("channels", "channel", "kind", "in total", "readable", "wraps at")
    table.add_column("note", justify="left", overflow="fold")
    for c in found:
        table.add_row(
            titled(c.id, c.name),
            "estimate" if c.estimated else c.kind,
            "yes" if c.root and c.visible else "-",
            "yes" if c.readable else "NO",
            f"{c.wrap_j / 1000:.1f} kJ" if c.wrap_j else "-",
            c.note or "",
        )
    return table


def _explain(console: Console, found: list[Channel], states: list[SourceStatus]) -> None:
    say = lambda text: console.print(text, markup=False, soft_wrap=True)  # noqa: E731
    for state in states:
        if not state.found and state.reason:
            say(f"{state.source}: nothing found: {state.reason}" + (f"\n    {state.remedy}" if state.remedy else ""))
    for channel in found:
        if not channel.readable:
            say(f"{channel.id}: {channel.reason}" + (f"\n    {channel.remedy}" if channel.remedy else ""))
    remedies = [c for c in found if not c.readable and c.remedy and c.source == "rapl"]
    if remedies:
        say("The chmod lasts until the next boot. docs/permissions.md has ways that stay, with their risks;")
        say("`sudo fastgreen grant` is one of them.")
    if any(c.estimated and c.root for c in found):
        say("No CPU energy counter can be read, so CPU energy is estimated from CPU time.")


def _not_started(name: str, error: OSError) -> int:
    """Say so; the exit code that a shell gives."""
    click.echo(f"fastgreen run: {name}: {error.strerror}", err=True)
    return 127 if error.errno == errno.ENOENT else 126


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Record the run into this folder.")
@click.option("--hz", type=float, help="Readings per second.")
@click.option("-c", "--channel", "wanted", multiple=True, help="Channel id or pattern; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON, on stderr.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    output: Path | None, hz: float | None, wanted: tuple[str, ...], as_json: bool, command: tuple[str, ...]
) -> None:
    """Measure a command: fastgreen run -- python train.py

    The report goes to stderr and the command's own exit code comes back.
    """
    from fastgreen.measuring.monitor import Monitor

    try:
        check_command(command[0])
    except OSError as error:
        sys.exit(_not_started(command[0], error))
    try:
        monitor = Monitor(list(wanted) or None, hz=hz, record=output).start()
    except (FastgreenError, ValueError, OSError, ModuleNotFoundError) as error:
        raise click.ClickException(sentence(error)) from error
    try:
        code = run_child(list(command))
    except OSError as error:  # no format that the system runs
        sys.exit(_not_started(command[0], error))
    finally:
        monitor.stop()
    with contextlib.suppress(OSError, SystemExit):  # a report that nobody takes is no reason to lose the child's code
        _report_to_stderr(monitor.result, as_json)
    sys.exit(code)


def _report_to_stderr(result: Result, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_plain(result.to_dict()), indent=2), err=True)
        return
    from fastgreen.results.console import people_console, show

    show(result, people_console(stderr=True))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw power over time, and the windows, to this file.")
@click.option(
    "--power", type=click.Path(path_type=Path), help="Write power over time to this file: .csv, .parquet or Arrow."
)
@click.option(
    "--step", "step_s", type=click.FloatRange(0, min_open=True), help="Seconds between two points of power over time."
)
@click.option("--per-channel", is_flag=True, help="With --power: of each channel instead of all counted together.")
def report(
    folder: Path, as_json: bool, picture: Path | None, power: Path | None, step_s: float | None, per_channel: bool
) -> None:
    """Show a run that was saved or recorded."""
    from fastgreen.results.console import people_console, show
    from fastgreen.results.result import load

    if step_s is not None and not (picture or power):
        raise click.UsageError("--step needs --power or --picture")
    if per_channel and not power:
        raise click.UsageError("--per-channel needs --power")
    try:
        result = load(folder)
        if picture is not None:
            from fastgreen import plot

            plot.power(result, step_s=step_s, path=picture)
        if power is not None:
            from fastgreen.table_files import save_table

            save_table(result.power(step_s, per_channel), power)
    except (FastgreenError, ValueError, OSError, ModuleNotFoundError) as error:
        raise click.ClickException(sentence(error)) from error
    if as_json:
        dump(result.to_dict())
    else:
        show(result, people_console())
