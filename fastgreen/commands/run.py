"""``fastgreen run``: measure a command that need not know of it."""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastgreen.commands.child import check_command, run_child
from fastgreen.commands.common import JsonAnswer, channel_option, json_options, say, sentence
from fastgreen.commands.cost_options import CostOptions, cost_options
from fastgreen.guards.printable import printable

if TYPE_CHECKING:
    from fastgreen.reports.repeats import Idle
    from fastgreen.results.result import Result

__all__ = ["run"]

_REPEAT = "repeat"


def _not_started(name: str, error: OSError) -> int:
    """Print why; the exit code that a shell gives."""
    click.echo(f"fastgreen run: {name}: {error.strerror}", err=True)
    return 127 if error.errno == errno.ENOENT else 126


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Save the run in this folder.")
@click.option(
    "-r",
    "--repeat",
    type=click.IntRange(1),
    default=1,
    help="Number of times to run the command; the report shows the mean.",
)
@click.option("--idle", is_flag=True, help="Measure the idle power first, and show the energy above it.")
@click.option("--idle-seconds", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True,
              help="Time of --idle.")  # fmt: skip
@click.option("--hz", type=float, help="Readings per second.")
@channel_option()
@cost_options()
@json_options("Print the report as JSON, on stderr.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    output: Path | None,
    repeat: int,
    idle: bool,
    idle_seconds: float,
    hz: float | None,
    channels: list[str] | None,
    costing: CostOptions,
    answer: JsonAnswer,
    command: tuple[str, ...],
) -> None:
    """Measure a command, such as: fastgreen run -- python train.py

    The report goes to stderr. The exit code is that of the command. A repeat that fails ends the repeats.
    """
    from fastgreen.measuring.monitor import Monitor

    try:
        check_command(command[0])
    except OSError as error:
        sys.exit(_not_started(command[0], error))
    costing.check_now()
    report = _Report(answer, output, costing, repeat)
    if idle:
        report.rest(channels, hz, idle_seconds)
    monitor = Monitor(channels, hz=hz, record=output).start()
    window = monitor.window(_REPEAT) if repeat > 1 else None
    code = 0
    try:
        for _ in range(repeat):
            code = run_child(list(command), around=window)
            if code:
                break
    except OSError as error:  # no format that the system runs
        sys.exit(_not_started(command[0], error))
    finally:
        monitor.stop()
    with contextlib.suppress(SystemExit):  # a report that cannot be written is no reason to lose the command's code
        report.output = Path(monitor.folder) if monitor.folder is not None else None  # a rank's own
        report.give(monitor.result, code)
    sys.exit(code)


class _Report:
    """What `run` prints after the command, and where."""

    def __init__(self, answer: JsonAnswer, output: Path | None, costing: CostOptions, repeat: int) -> None:
        self.answer, self.output, self.costing, self.repeat = answer, output, costing, repeat
        self.idle: Idle | None = None

    def rest(self, channels: list[str] | None, hz: float | None, seconds: float) -> None:
        """Measure the power of the machine at rest."""
        from fastgreen.measuring.monitor import Monitor
        from fastgreen.reports.repeats import Idle

        with Monitor(channels, hz=hz, settle=True) as monitor:
            time.sleep(seconds)
        self.idle = Idle.of(monitor.result)
        if self.idle is None:
            click.echo("note: no channel gave a reading, so the idle power is unknown", err=True)

    def give(self, result: Result, code: int) -> None:
        from fastgreen.results.console import people_console, show

        try:
            found = self.costing.of(result, strict=False)
            more, lines = self._more(result, code)
            if not self.answer.give(lambda: {**self.costing.merged(result.to_dict(), found), **more}, err=True):
                show(result, people_console(stderr=True))
                say(*lines, *self.costing.shown(found), err=True)
                if self.output is not None:
                    click.echo(printable(f"saved in {self.output}; `fastgreen report` shows it again"), err=True)
        except OSError as error:
            with contextlib.suppress(OSError):
                click.echo(f"fastgreen run: {sentence(error)}", err=True)

    def _more(self, result: Result, code: int) -> tuple[dict[str, Any], list[str]]:
        """Repeats, idle power and a run that is too short: for JSON, and in sentences."""
        from fastgreen.reports.repeats import Repeats, slowest_period_s, too_short

        if not result.known:
            return {}, []
        more: dict[str, Any] = {}
        lines: list[str] = []
        energy = result.energy_j, result.energy_low_j, result.energy_high_j
        seconds, of = result.duration_s, "energy"
        if self.repeat > 1 and _REPEAT in result.names:
            repeats = Repeats.of(result, _REPEAT)
            more["repeats"] = repeats.to_dict()
            lines.append(repeats.sentence())
            energy, seconds, of = repeats.mean(), float(repeats.outcomes.duration_s.mean()), "one repeat"
            if code:
                lines.append(f"note: repeat {len(repeats)} ended with exit code {code}, so the repeats ended there")
        if self.idle is not None:
            more["idle"] = self.idle.to_dict(energy, seconds)
            lines.append(self.idle.sentence(energy, seconds, of))
        short = None
        if seconds > 0 and result.bounds == "certain":
            short = too_short("the command", energy, seconds, [slowest_period_s(result)])
        if short is not None:
            lines.append(f"note: {short}")
            more["too_short"] = short
        return more, lines
