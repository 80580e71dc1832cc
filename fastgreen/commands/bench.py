"""``fastgreen bench``: a study of the energy and latency of inference by input size."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastgreen.commands.common import (
    AskedWrongly,
    channel_option,
    did_you_mean,
    load_object,
    names_object,
    parse_percent,
    say,
    table,
)
from fastgreen.commands.ranges import Range
from fastgreen.guards.printable import printable
from fastgreen.results.console import bounds, quantity
from fastgreen.units import counted

if TYPE_CHECKING:
    import numpy as np

__all__ = ["bench"]

_REPEATS = 10
MODEL_FILES = (".onnx", ".pt", ".pt2", ".pth")


class OrAuto(click.ParamType):
    """A number of 0 or above, or ``auto``."""

    name = "number"

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto" or not isinstance(value, str):
            return value
        try:
            number = int(value) if self.whole else float(value)
        except ValueError:
            number = -1
        if not 0 <= number < float("inf"):
            kind = "a whole number" if self.whole else "a number"
            self.fail(f"must be {kind} of 0 or above, or auto, not {value!r}", param, ctx)
        return number


@click.command()
@click.argument("what", metavar="TARGET")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the study; an unfinished study continues.",
)
@click.option("--sizes", type=Range(whole=True),
              help="Input sizes: START:STOP[:STEP] (STOP included) or A,B,C.")  # fmt: skip
@click.option("-r", "--repeats", type=int, help="Runs of each size; 10 by default.")
@click.option(
    "--until", callback=parse_percent, help="Repeat until the energy of each size is known this well, as in 2%."
)
@click.option("--iterations", type=int, help="Timed inferences in one run.  [default: 100; 1 for a command]")
@click.option("--scale", type=float, help="Fraction of the iterations of a published series, such as 0.001.")
@click.option("--warmup", type=OrAuto(whole=True), metavar="N|auto",
              help="Untimed inferences before the timed ones; auto: until time and power have settled.")  # fmt: skip
@click.option("--pause", "pause_s", type=OrAuto(whole=False), default="0", show_default=True, metavar="SECONDS|auto",
              help="Rest before each run; auto: until the power is back at idle.")  # fmt: skip
@click.option(
    "--order",
    type=click.Choice(["sizes", "rounds"]),
    default="sizes",
    show_default=True,
    help="sizes: all runs of a size, then the next size; rounds: one run of every size, then again.",
)
@channel_option()
@click.option("--hz", type=float, help="Readings per second.")
@click.option("--trust", is_flag=True, help="Load a .pt, .pt2 or .pth file, which can run any code of its author.")
@click.option("--device", help="Device of a PyTorch model, such as cpu, cuda or cuda:1.")
@click.option("--retry-failed", is_flag=True, help="Repeat the failed runs.")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def bench(what: str, arguments: tuple[str, ...], output: Path, sizes: np.ndarray | None, **options: Any) -> None:
    """Run a study: energy and latency by input size.

    TARGET is a published series (alexnet, resnet50, bert, convnets, summary), a model file (.onnx, .pt, .pt2), a Python
    function (module:function or file.py:function), or "command" with a program after --. The function takes a size and
    returns a function that makes one inference. In the arguments of the program, {size} is the size.

    \b
        fastgreen bench alexnet --scale 0.001 -o study
        fastgreen bench summary --scale 0.1 -o study
        fastgreen bench model.onnx --sizes 32,64,128 -o study
        fastgreen bench mine.py:build --sizes 1:20:1 -o study
        fastgreen bench command --sizes 1,2 -o study -- sleep {size}
    """
    from fastgreen.experiment.runner import Study
    from fastgreen.reports.precision import check_repeats

    protocol = _protocol(what, arguments, sizes, options)
    try:
        repeats = check_repeats(options["repeats"], options["until"], _REPEATS)
    except ValueError as error:
        raise AskedWrongly(str(error)) from None
    keep = {name: options[name] for name in ("pause_s", "order", "hz", "until")}
    study = Study(output, protocol, channels=options["channels"], repeats=repeats, **keep)
    if not study.pending(retry_failed=options["retry_failed"]):
        click.echo(f"{output}: nothing is left to do", err=True)
    statuses = study.run(progress=not options["quiet"], retry_failed=options["retry_failed"])
    failed = [s for s in statuses if s.state == "failed"]
    click.echo(f"{counted(len(statuses) - len(failed), 'run')} done, {len(failed)} failed, in {output}", err=True)
    for note in [*study.precision_notes(), *study.settling_notes()]:
        click.echo(f"note: {printable(note)}", err=True)
    _show_failures(failed, output)
    if failed and len(failed) == len(statuses):
        sys.exit(1)
    if protocol.name == "summary":
        _show_summary(output)
    click.echo(f"next: fastgreen compile {output}", err=True)


def _show_summary(output: Path) -> None:
    """The published first table: energy of one sample, batch, use of the streaming processors, memory."""
    from fastgreen.experiment.compile import compile_study

    compiled = compile_study(output)
    rows = []
    for row in compiled.sizes.to_pylist():
        batch, use = row.get("batch", 1), row.get("gpu_use")
        memory = row.get("gpu_memory_b") or row.get("memory_b")
        joules = [
            None if row[name] is None else row[name] / batch for name in ("energy_j", "energy_low_j", "energy_high_j")
        ]
        rows.append(
            {
                "model": row["size"],
                "J per inference": quantity(joules[0], "J"),
                "between": "-" if joules[0] is None else bounds(joules[1], joules[2], "J"),
                "batch": batch,
                "SM use": "-" if use is None else f"{100 * use:.0f} %",
                "memory": "-" if memory is None else f"{memory / 2**30:.2f} GiB",
            }
        )
    say(table("energy of one sample" + (", ESTIMATED, not measured" if compiled.estimated else ""), rows, ruled=False))


def _show_failures(failed: list[Any], output: Path) -> None:
    """Each reason once, with the sizes that it stopped."""
    from fastgreen.recordings.published_layout import run_folder

    tried = [status for status in failed if not status.error.startswith("not tried")]
    sizes: dict[str, list[str]] = {}
    for status in tried:
        of = sizes.setdefault(status.error, [])
        if status.size not in of:
            of.append(status.size)
    for error, of in sizes.items():
        click.echo(printable(f"size{'s' * (len(of) > 1)} {', '.join(of)}: {error}"), err=True)
    if tried:
        place = run_folder(output, tried[0].size, tried[0].repeat) / "error.txt"
        click.echo(f"the first failure is in {place}; --retry-failed repeats the failed runs", err=True)


def _protocol(what: str, arguments: tuple[str, ...], sizes: np.ndarray | None, options: dict[str, Any]) -> Any:
    from fastgreen.experiment import protocols

    given = {name: options[name] for name in ("iterations", "warmup") if options[name] is not None}
    series = what in protocols.SERIES
    _refuse_ignored(what, series, arguments, options)
    if series:
        if sizes is not None or "iterations" in given:
            raise ValueError(f"sizes: the series {what} has its own sizes and iterations; --scale reduces them")
        scale = 1.0 if options["scale"] is None else options["scale"]
        made = protocols.SERIES[what](scale=scale, device=options["device"])
        return made if options["warmup"] is None else replace(made, warmup=options["warmup"])
    file, _, name = what.rpartition(":")
    found = load_object(what) if names_object(what) else None
    if found is not None and not (callable(found) or isinstance(found, protocols.Protocol)):
        raise click.UsageError(f"{file}: {name!r} must be a function or a protocol, not {type(found).__name__}")
    if isinstance(found, protocols.Protocol):
        if sizes is not None or given:
            raise ValueError(f"sizes: the protocol {name} has its own sizes and iterations")
        return found
    if sizes is None:
        raise click.UsageError("--sizes is missing: give the input sizes")
    chosen = sizes.tolist()
    if what == "command":
        return protocols.for_command(list(arguments), chosen, **given)
    if what.endswith(MODEL_FILES) and not Path(what).is_file():
        raise click.ClickException(f"{what}: this model file does not exist")
    if what.endswith(".onnx"):
        return protocols.for_onnx(what, chosen, **given)
    if what.endswith(MODEL_FILES):
        return protocols.for_torch(what, chosen, device=options["device"], trust=options.get("trust", False), **given)
    if found is None:
        known, near = ", ".join(protocols.SERIES), did_you_mean(what, [*protocols.SERIES, "command"])
        raise click.UsageError(
            f"{what!r} is not a series ({known}), model file, module:function, file.py:function or 'command'.{near}"
        )
    label = f"{Path(file).stem}:{name}"
    return protocols.for_callable(found, chosen, factory=True, name=label, what=f"{Path(file).name}:{name}", **given)


def _refuse_ignored(what: str, series: bool, arguments: tuple[str, ...], options: dict[str, Any]) -> None:
    """Refuse an option that would have no effect."""
    if arguments and what != "command":
        raise click.UsageError(f"{' '.join(arguments)}: only 'command' takes arguments")
    if options["scale"] is not None and not series:
        raise click.UsageError("--scale: only a published series can be scaled; use --iterations")
    torch_file = what.endswith(MODEL_FILES) and not what.endswith(".onnx")
    if options.get("trust") and not torch_file:
        raise click.UsageError("--trust: only a .pt, .pt2 or .pth file needs it")
    if options["device"] is not None and not (series or torch_file):
        raise click.UsageError("--device: only PyTorch models take a device; a function chooses its own")
    if what.endswith(".py"):
        raise click.UsageError(f"{what}: add the name of the function: {what}:NAME")
