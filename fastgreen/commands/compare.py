"""``fastgreen compare``: commands measured in turn, two saved runs, or two files of benchmarks."""

from __future__ import annotations

import itertools
import random
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastgreen.commands.child import check_command, run_child
from fastgreen.commands.common import (
    AskedWrongly,
    JsonAnswer,
    OutputPath,
    channel_option,
    json_options,
    parse_percent,
    say,
    sentence,
    warned,
)

if TYPE_CHECKING:
    from fastgreen.reports.compare import Comparison
    from fastgreen.reports.precision import Known

__all__ = ["compare"]

_REPEATS = 10


@dataclass
class Plan:
    """The commands and how to measure them."""

    commands: dict[str, list[str]]
    repeats: int
    until: float | None
    warmup: int
    seed: int
    setup: list[list[str]]
    channels: list[str] | None
    hz: float | None
    ignore_failure: bool
    notes: list[str] = field(default_factory=list)
    estimated: bool = False
    periods_s: list[float] = field(default_factory=list)


@click.command()
@click.option("-r", "--repeats", type=click.IntRange(2), help="Repeats of each command; 10 by default.")
@click.option(
    "--until", callback=parse_percent, help="Repeat until the error of each ratio is at most this, such as 2%."
)
@click.option(
    "-w",
    "--warmup",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Runs of each command before those that count.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the order within each repeat.")
@click.option("--setup", "setups", multiple=True,
              help="A command to run once before all runs; repeat it to give each command its own.")  # fmt: skip
@click.option("--parameter", "parameters", type=(str, str), multiple=True, metavar="NAME VALUES",
              help="Run the commands once for each value in place of {NAME}; commas separate values.")  # fmt: skip
@click.option("-i", "--ignore-failure", is_flag=True, help="Count runs that end with an exit code other than 0.")
@click.option("--force", is_flag=True, help="Compare runs or benchmarks of different machines.")
@click.option("--hz", type=float, help="Readings per second.")
@channel_option()
@click.option("--markdown", type=OutputPath(dir_okay=False, path_type=Path), help="Also write Markdown to this file.")
@click.option("--csv", "csv_file", type=OutputPath(dir_okay=False, path_type=Path), help="Also write CSV to this file.")
@json_options()
@click.argument("sides", nargs=-1, required=True, type=click.UNPROCESSED)
def compare(
    sides: tuple[str, ...],
    repeats: int | None,
    until: float | None,
    warmup: int,
    seed: int,
    setups: tuple[str, ...],
    parameters: tuple[tuple[str, str], ...],
    ignore_failure: bool,
    force: bool,
    hz: float | None,
    channels: list[str] | None,
    markdown: Path | None,
    csv_file: Path | None,
    answer: JsonAnswer,
) -> None:
    """Compare the energy of commands, runs or benchmarks.

    For example: fastgreen compare 'python a.py' 'python b.py'

    SIDES are: two or more commands, each quoted, or each after its own --; or two folders of runs; or two JSON files of
    pytest-benchmark. The first is the base. Commands run in turn, without a shell, and their output is hidden.
    """
    saved = None if parameters else _saved(sides, force)
    if saved is None:
        commands = _commands(sides)
        variants = _variants(commands, parameters)
        count = _repeats(repeats, until)
        first = _setups(setups, commands, parameters)
        plan = Plan(variants, count, until, warmup, seed, first, channels, hz, ignore_failure)
        found = _measured(plan)
    else:
        found = saved()
    for file, text in ((markdown, found.to_markdown), (csv_file, found.to_csv)):
        if file is not None:
            _write(file, text())
    if not answer.give(found.to_dict):
        say(found.to_table(), *(f"{text}." for text in found.sentences))
        if found.estimated:
            say(warned("an energy is estimated: it is from a model of the CPU, not a measurement"))
        say(*(f"note: {note}" for note in found.notes))


def _write(file: Path, text: str) -> None:
    from fastgreen.atomic_file import new_file

    with new_file(file, overwrite=True) as name:
        Path(name).write_text(text, encoding="utf-8")


# ---- the command line ----


def _saved(sides: Sequence[str], force: bool) -> Callable[[], Comparison] | None:
    """What compares two folders or two JSON files; None where commands are meant."""
    if len(sides) != 2:
        return None
    from fastgreen.reports import compare as reports

    a, b = sides
    if all(Path(x).is_dir() for x in sides):
        return lambda: reports.compare(a, b, force=force)
    if all(x.endswith(".json") for x in sides):
        return lambda: reports.compare_benchmarks(a, b, force=force)
    return None


def _repeats(repeats: int | None, until: float | None) -> int:
    from fastgreen.reports.precision import check_repeats

    try:
        return check_repeats(repeats, until, _REPEATS)
    except ValueError as error:
        raise AskedWrongly(str(error)) from None


def _commands(sides: Sequence[str]) -> list[list[str]]:
    if "--" in sides:
        return [list(part) for mark, part in itertools.groupby(sides, lambda word: word == "--") if not mark]
    return [_words(text, "a command") for text in sides]


def _words(text: str, place: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise AskedWrongly(f"{place} must be a command as in a shell, not {text!r}: {error}") from None
    if not words:
        raise AskedWrongly(f"{place} must not be empty")
    return words


def _replaced(words: list[str], parameters: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The words with each combination of values."""
    out = []
    for values in itertools.product(*(values.split(",") for _, values in parameters)):
        these = words
        for (name, _), value in zip(parameters, values, strict=True):
            these = [word.replace(f"{{{name}}}", value.strip()) for word in these]
        out.append(these)
    return out


def _setups(setups: Sequence[str], commands: list[list[str]], parameters: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The commands to run before all others, each once."""
    if len(setups) > 1 and len(setups) != len(commands):
        raise AskedWrongly(
            f"--setup must be given once, or once for each of {len(commands)} commands, not {len(setups)} times"
        )
    words = [these for text in setups for these in _replaced(_words(text, "--setup"), parameters)]
    return [list(these) for these in dict.fromkeys(map(tuple, words))]


def _variants(commands: list[list[str]], parameters: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    for name, _ in parameters:
        if not any(f"{{{name}}}" in word for words in commands for word in words):
            raise AskedWrongly(f"--parameter {name} must occur as {{{name}}} in a command")
    variants = [these for words in commands for these in _replaced(words, parameters)]
    if parameters:
        variants = [list(x) for x in dict.fromkeys(map(tuple, variants))]
    if len(variants) < 2:
        raise AskedWrongly("compare needs two commands or more: quote each, as in 'python a.py' 'python b.py'")
    names = [shlex.join(words) for words in variants]
    return {
        name if names.count(name) == 1 else f"{name} ({n})": words
        for n, (name, words) in enumerate(zip(names, variants, strict=True), 1)
    }


# ---- measuring ----


def _run(plan: Plan, name: str, words: list[str]) -> tuple[float, float, float, float]:
    """Energy with bounds (J) and duration (s) of one run."""
    from fastgreen.measuring.monitor import Monitor
    from fastgreen.reports.repeats import slowest_period_s

    monitor = Monitor(plan.channels, hz=plan.hz, settle=True)
    with monitor:
        code = run_child(words, around=monitor.window("command"), quiet=True)
    if code and not plan.ignore_failure:
        raise click.ClickException(f"{name} ended with exit code {code}; --ignore-failure counts its runs too")
    result = monitor.result
    if not result.known:
        raise click.ClickException("no channel gave a reading; `fastgreen channels` gives the reasons")
    plan.estimated |= result.estimated
    plan.periods_s.append(slowest_period_s(result))
    row = result.windows("command").to_pylist()[0]
    return row["energy_j"], row["energy_low_j"], row["energy_high_j"], row["duration_s"]


def _measured(plan: Plan) -> Comparison:
    from fastgreen.reports.compare import compare_outcomes
    from fastgreen.reports.precision import enough
    from fastgreen.reports.ratio import FIRST_PAIRS, Outcomes

    for words in [*plan.setup, *plan.commands.values()]:
        try:
            check_command(words[0])
        except OSError as error:
            raise click.ClickException(f"{words[0]}: {sentence(error)}") from None
    for words in plan.setup:
        if code := run_child(words, quiet=True):
            raise click.ClickException(f"{shlex.join(words)} of --setup ended with exit code {code}")
    for name, words in plan.commands.items():
        for _ in range(plan.warmup):
            _run(plan, name, words)
    rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in plan.commands}
    order, shuffle = list(plan.commands), random.Random(plan.seed).shuffle
    first = FIRST_PAIRS if plan.until is not None else None
    for count in range(1, plan.repeats + 1):
        shuffle(order)
        for name in order:
            rows[name].append(_run(plan, name, plan.commands[name]))
        _progress(count, plan)
        if plan.until is not None and count >= FIRST_PAIRS:
            found = compare_outcomes({name: Outcomes.of(these) for name, these in rows.items()}, first)
            verdict = enough(_known(found), plan.until, count, plan.repeats)
            plan.notes += [verdict.note] if verdict.note else []
            if verdict.ended:
                break
    found = compare_outcomes({name: Outcomes.of(these) for name, these in rows.items()}, first)
    found.estimated = plan.estimated
    found.notes += plan.notes + [note for name, these in rows.items() if (note := _short(plan, name, these))]
    return found


def _progress(count: int, plan: Plan) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rrepeat {count}" + (" " * 10 + "\r" if count == plan.repeats else ""), err=True, nl=False)


def _known(found: Comparison) -> list[Known]:
    """How well each ratio is known."""
    from fastgreen.reports.precision import Known

    ratios = [(row.name, row.ratio) for row in found.rows if row.ratio is not None]
    return [Known(f"the ratio of {name}", ratio.scatter, ratio.meter) for name, ratio in ratios]


def _short(plan: Plan, name: str, rows: list[tuple[float, float, float, float]]) -> str | None:
    from fastgreen.reports.repeats import too_short

    energy, low, high, duration = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return too_short(name, (energy, low, high), duration, plan.periods_s)
