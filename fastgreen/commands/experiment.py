"""The commands of studies: bench, compile, import, tradeoff."""

from __future__ import annotations

import importlib.util
import math
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from fastgreen.commands.measure import dump
from fastgreen.commands.wording import sentence
from fastgreen.errors import FastgreenError, FastgreenWarning
from fastgreen.printable import printable
from fastgreen.units import counted

MODEL_FILES = (".onnx", ".pt", ".pt2", ".pth")

__all__ = ["bench", "compile_", "import_", "tradeoff"]


def _say_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """What the user got wrong is one sentence and exit code 2; what could not be read, exit code 1; a warning is a
    line.
    """

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_say_warning, warnings.showwarning)
                return function(*args, **kwargs)
        except FastgreenError as error:
            raise click.ClickException(str(error)) from None
        except (ImportError, OSError) as error:
            raise click.ClickException(sentence(error)) from None
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    return wrapper


def _say_warning(otherwise: Callable[..., Any], message: Warning | str, category: type[Warning], *where: Any) -> None:
    if issubclass(category, FastgreenWarning):
        click.echo(printable(f"note: {message}"), err=True)
    else:
        otherwise(message, category, *where)


def _table(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich.text import Text

    from fastgreen.results.console import PlainTable

    table = PlainTable(title=Text(title, "bold"), title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(rows[0] if rows else []):
        words = i == 0 or any(isinstance(row[name], str) and row[name][:1].isalpha() for row in rows)
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _print(*things: Any) -> None:
    from fastgreen.results.console import people_console

    console = people_console()
    for thing in things:
        console.print(thing, markup=False) if isinstance(thing, str) else console.print(thing)


@click.command()
@click.argument("what")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the study; resumes it.")
@click.option("--sizes", help="first:last:step with both ends, or a list: 1,2,4.")
@click.option("--repeats", default=10, show_default=True)
@click.option(
    "--iterations", type=int, help="Timed inferences per size; default: the series' own, else 100 (command: 1)."
)
@click.option("--scale", type=float, help="Of a published series: this part of its iterations.")
@click.option("--warmup", type=int, help="Inferences before the timed ones.")
@click.option("--pause", "pause_s", default=0.0, show_default=True, help="Seconds of rest before each run.")
@click.option(
    "--order",
    type=click.Choice(["sizes", "rounds"]),
    default="sizes",
    show_default=True,
    help="All runs of a size at once, or each size once a round.",
)
@click.option("--channel", "channels", multiple=True, help="Channel or pattern to measure; repeatable.")
@click.option("--hz", type=float, help="Readings per second.")
@click.option("--device", help="For PyTorch: cpu, cuda, cuda:1.")
@click.option("--trust", is_flag=True, help="Load a .pt, .pt2 or .pth file, which can run any code of its author.")
@click.option("--retry-failed", is_flag=True, help="Try the failed runs again.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@_say_errors
def bench(what: str, arguments: tuple[str, ...], output: Path, sizes: str | None, **options: Any) -> None:
    """Run a study: energy and latency of inference by input size.

    WHAT is a published series (alexnet, resnet50, bert, convnets), a model file (.onnx, .pt, .pt2), a Python function
    (file.py:name, called with the size, returns what makes one inference), or "command", with the program and {size}
    after --:

    \b
        fastgreen bench alexnet --scale 0.001 -o study
        fastgreen bench model.onnx --sizes 32,64,128 -o study
        fastgreen bench model.pt2 --trust --sizes 32,64,128 -o study
        fastgreen bench mine.py:build --sizes 1:20:1 -o study
        fastgreen bench command --sizes 1,2 -o study -- sleep {size}
    """
    from fastgreen.experiment.runner import Study

    protocol = _protocol(what, arguments, sizes, options)
    keep = {name: options[name] for name in ("repeats", "pause_s", "order", "hz")}
    study = Study(output, protocol, channels=list(options["channels"]) or None, **keep)
    if not study.pending(retry_failed=options["retry_failed"]):
        click.echo(f"{output}: nothing is left to do", err=True)
    statuses = study.run(progress=not options["quiet"], retry_failed=options["retry_failed"])
    failed = [s for s in statuses if s.state == "failed"]
    click.echo(f"{counted(len(statuses) - len(failed), 'run')} done, {len(failed)} failed, in {output}", err=True)
    _tell_failures(failed, output)
    if failed and len(failed) == len(statuses):
        sys.exit(1)
    click.echo(f"next: fastgreen compile {output}", err=True)


def _tell_failures(failed: list[Any], output: Path) -> None:
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
        click.echo(f"where the first failed: {place}; once mended, --retry-failed tries again", err=True)


def _protocol(what: str, arguments: tuple[str, ...], sizes: str | None, options: dict[str, Any]) -> Any:
    from fastgreen.experiment import protocols

    given = {name: options[name] for name in ("iterations", "warmup") if options[name] is not None}
    series = what in protocols.SERIES
    _refuse_ignored(what, series, arguments, options)
    if series:
        if sizes or "iterations" in given:
            raise ValueError(f"sizes: the series {what} has its own sizes and iterations; --scale makes them fewer")
        scale = 1.0 if options["scale"] is None else options["scale"]
        made = protocols.SERIES[what](scale=scale, device=options["device"])
        return made if options["warmup"] is None else replace(made, warmup=options["warmup"])
    file, colon, name = what.rpartition(":")
    found = _from_file(Path(file), name) if colon and file.endswith(".py") else None
    if isinstance(found, protocols.Protocol):
        if sizes or given:
            raise ValueError(f"sizes: the protocol {name} has its own sizes and iterations")
        return found
    if sizes is None:
        raise click.UsageError("--sizes: which input sizes?")
    chosen = _sizes(sizes)
    if what == "command":
        return protocols.for_command(list(arguments), chosen, **given)
    if what.endswith(MODEL_FILES) and not Path(what).is_file():
        raise click.UsageError(f"{what}: no such model file")
    if what.endswith(".onnx"):
        return protocols.for_onnx(what, chosen, **given)
    if what.endswith(MODEL_FILES):
        return protocols.for_torch(what, chosen, device=options["device"], trust=options.get("trust", False), **given)
    if found is None:
        known = ", ".join(protocols.SERIES)
        raise click.UsageError(f"{what!r} is no series ({known}), model file, file.py:function or 'command'")
    label = f"{Path(file).stem}:{name}"
    return protocols.for_callable(found, chosen, factory=True, name=label, what=f"{Path(file).name}:{name}", **given)


def _refuse_ignored(what: str, series: bool, arguments: tuple[str, ...], options: dict[str, Any]) -> None:
    """What was asked for and would not be done is a mistake of the user's."""
    if arguments and what != "command":
        raise click.UsageError(f"{' '.join(arguments)}: only 'command' takes arguments")
    if options["scale"] is not None and not series:
        raise click.UsageError("--scale: only a published series has counts to scale; --iterations sets them")
    torch_file = what.endswith(MODEL_FILES) and not what.endswith(".onnx")
    if options["device"] is not None and not (series or torch_file):
        raise click.UsageError("--device: only PyTorch models take one; a function of yours chooses its own")
    if options.get("trust") and not torch_file:
        raise click.UsageError("--trust: only a .pt, .pt2 or .pth file needs it")
    if what.endswith(".py"):
        raise click.UsageError(f"{what}: which function of it? {what}:NAME")


def _sizes(text: str) -> list[Any]:
    try:
        if ":" in text:
            first, last, step = (int(part) for part in text.split(":"))
            return list(range(first, last + (1 if step > 0 else -1), step))
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--sizes: {text!r} is neither first:last:step nor a list like 1,2,4") from None


def _from_file(file: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.exists():
        raise click.UsageError(f"{file}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    # The file is the user's, and so is whatever it raises.
    except (Exception, SystemExit) as error:
        raise click.UsageError(f"{file}: {type(error).__name__}: {error}{_line_in(file, error)}") from None
    from fastgreen.experiment.protocols import Protocol

    found = getattr(module, name, None)
    if not (callable(found) or isinstance(found, Protocol)):
        raise click.UsageError(f"{file}: has no function or protocol {name!r}")
    return found


def _line_in(file: Path, error: BaseException) -> str:
    """`` (line N)``: the last line of the file that was being run."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file.absolute())]
    return f" (line {lines[-1]})" if lines else ""


@click.command("compile")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for tables and pictures [FOLDER/compiled]."
)
@click.option("--no-pictures", is_flag=True, help="Tables only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_say_errors
def compile_(folder: Path, output: Path | None, no_pictures: bool, as_json: bool) -> None:
    """Make the tables and pictures of a study: a row per size, medians, spreads, correlations.

    FOLDER is a study of `fastgreen bench` or of AIPowerMeter: input_<size>/run_<k>/.
    """
    from fastgreen.experiment.compile import compile_study, sample_run

    compiled = compile_study(folder)
    if not any(compiled.sizes.column("runs").to_pylist()):
        runs = counted(sum(compiled.sizes.column("failed").to_pylist()), "run")
        why = "".join(compiled.notes[:1])
        raise click.ClickException(f"{folder}: none of its {runs} succeeded; {why}")
    target = output or folder / "compiled"
    files = compiled.save(target)
    if not no_pictures:
        from fastgreen.experiment.pictures import draw_study

        name, sample = sample_run(folder) or ("", None)
        files += draw_study(compiled, target, sample=sample, name=name)
    if as_json:
        tables = {name: getattr(compiled, name).to_pylist() for name in ("sizes", "channels", "pearson", "spearman")}
        dump({**tables, "notes": compiled.notes, "estimated": compiled.estimated, "files": list(map(str, files))})
        return
    shown = (
        "size",
        "runs",
        "failed",
        "energy_j",
        "energy_low_j",
        "energy_high_j",
        "latency_s",
        "throughput_per_s",
        "mean_power_w",
    )
    rows = [{name: row[name] for name in shown} for row in compiled.sizes.to_pylist()]
    title = f"{compiled.name}: medians per inference" + (", ESTIMATED, not measured" if compiled.estimated else "")
    related = _with_energy(compiled)
    _print(_table(title, rows), *(["", related] if related else []), *compiled.notes)
    _print(f"tables{'' if no_pictures else ' and pictures'}: {target}")


def _with_energy(compiled: Any) -> Any:
    """A table of what goes with the energy of an inference over the sizes; nothing where nothing is known."""
    names = compiled.pearson.column("column").to_pylist()
    if "energy_j" not in names:
        return None
    pairs = zip(*(table.column("energy_j").to_pylist() for table in (compiled.pearson, compiled.spearman)), strict=True)
    rows = [
        {"over the sizes": name, "Pearson": _places(pearson), "Spearman": _places(spearman)}
        for name, (pearson, spearman) in zip(names, pairs, strict=True)
        if name != "energy_j" and pearson is not None
    ]
    return _table("correlation with energy_j", rows) if rows else None


def _places(value: float) -> str:
    return f"{value:.3f}"


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "format_", help="aipowermeter, nvidia-smi, codecarbon or omegawatt; else by the first lines.")
@click.option("--timezone", default="UTC", show_default=True, help="Zone of naive stamps: Europe/Paris.")
@click.option("--drop", default=0, show_default=True, help="nvidia-smi: rows to leave out at each end.")
@click.option(
    "--against", type=click.Path(path_type=Path), help="A second recording of the same time, to compare with."
)
@click.option("--shift", "shift_s", default=0.0, help="Seconds to add to FILE's clock before they are compared.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Save it as a run that `fastgreen report` opens.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_say_errors
def import_(
    file: Path,
    format_: str | None,
    timezone: str,
    drop: int,
    against: Path | None,
    shift_s: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Read another meter's recording: AIPowerMeter, nvidia-smi, CodeCarbon, OmegaWatt."""
    recording = _read(file, format_, timezone, drop)
    comparison = _compared(recording, _read(against, None, timezone, 0), shift_s) if against is not None else None
    if output is not None:
        recording.to_result().save(output)
    rows = [row for row in recording.channels.to_pylist() if row["samples"]]
    if as_json:
        figures = ("difference_j", "inner_j", "missing_share", "outer_j", "ratio", "seconds")
        dump(
            {
                "source": recording.source,
                "total_j": recording.total_j,
                "channels": rows,
                "absent": recording.absent,
                "notes": recording.notes,
                "comparison": {name: getattr(comparison, name) for name in figures} if comparison else None,
            }
        )
        return
    shown = ("id", "unit", "energy_j", "mean", "max", "covered_s", "missing_s", "samples", "absent", "segments")
    table = _table(f"{recording.source}: {file}", [{name: row[name] for name in shown} for row in rows])
    said = [f"together {recording.total_j:.9g} J over {recording.duration_s:.6g} s"] if recording.energy_j() else []
    absent = [f"absent: {', '.join(recording.absent)}"] if recording.absent else []
    _print(table, *said, *absent, *recording.notes, *([str(comparison)] if comparison else []))
    if not rows:
        raise click.ClickException(f"{file}: nothing is recorded in it")


def _compared(inner: Any, outer: Any, shift_s: float) -> Any:
    from fastgreen.recordings.comparison import NoOverlap, compare

    try:
        return compare(inner, outer, shift_s=shift_s)
    except NoOverlap as error:
        raise click.UsageError(
            f"{error.when}; is it the time zone (--timezone) or a shifted clock (--shift)?"
        ) from None


def _read(file: Path, format_: str | None, timezone: str, drop: int) -> Any:
    from fastgreen.recordings.readers import format_of, read

    known = format_ or format_of(file)
    options: dict[str, Any] = {} if known == "omegawatt" else {"timezone": timezone}
    if known == "nvidia-smi":
        options |= {"drop_first": drop, "drop_last": drop}
    elif drop:
        raise click.UsageError(f"--drop: only logs of nvidia-smi have rows to leave out; this is of {known}")
    return read(file, known, **options)


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--by", multiple=True, help="Column that makes the groups; once or twice.")
@click.option("--energy", help="Column with the energy of a run.")
@click.option("--energy-unit", help="J, kJ, MJ, Wh, kWh; else by the column's name.")
@click.option("--work", help="Column with the work of a run, such as images seen.")
@click.option("--quality", help="Column with what should stay high, such as f1-score.")
@click.option("--repeats", type=int, help="Only the first so many runs of each group.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for all tables and the picture of the front."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_say_errors
def tradeoff(table: Path, output: Path | None, as_json: bool, by: tuple[str, ...], **options: Any) -> None:
    """What a change of architecture or environment saves, and what it costs in correctness.

    TABLE (.parquet, .arrow, .csv) has a row per training run.
    """
    from fastgreen.experiment.tradeoffs import tradeoff as compute

    result = compute(table, list(by) or None, **options)
    names = ("groups", "changes", "pairs", "tests", "dunn", "spearman")
    if output is not None:
        from fastgreen.experiment.pictures import pareto_front
        from fastgreen.table_files import save_table

        output.mkdir(parents=True, exist_ok=True)
        for name in names:
            save_table(getattr(result, name), output / f"{name}.csv")
            save_table(getattr(result, name), output / f"{name}.arrow")
        pareto_front(result).savefig(output / "pareto_front.png")
    if as_json:
        tables = {name: getattr(result, name).to_pylist() for name in names}
        dropped = {"left_out": result.left_out, "beyond": result.beyond}
        dump({**tables, "largest": result.largest, "pareto": result.pareto, **dropped})
        return
    _show_tradeoff(result)
    if output is not None:
        _print(f"tables and picture: {output}")


def _show_tradeoff(result: Any) -> None:
    """The tables for people: what saves most comes first, and of many rows the first stand for all."""
    groups = [
        {k: row[k] for k in ("group", "runs", "energy_per_work_j", "quality", "pareto")}
        for row in result.groups.to_pylist()
    ]
    changes = [_change_row(row, result.quality) for row in result.changes.to_pylist()]
    tests = [{k: row[k] for k in ("value", "by", "answer")} for row in result.tests.to_pylist()]
    related = [row for row in result.spearman.to_pylist() if row["rho"] is not None]
    related.sort(key=lambda row: -abs(row["rho"]))
    _print(_short_table(f"energy per {result.work}, medians", groups), "")
    if changes:
        _print(
            _short_table("what a change saves and costs", changes), "?: a difference that the test does not show", ""
        )
    else:
        _print("one group: there is no change to weigh", "")
    _print(_table("tests", tests), "")
    if related:
        _print(_short_table("what goes with energy (Spearman)", related), "")
    _print(f"Pareto-efficient: {', '.join(result.pareto) or 'none, for no quality is known'}")
    if result.largest:
        _print("largest reduction: {reduction:.10g}, {from} to {to}".format(**result.largest))
    if result.left_out:
        _print(f"left out, without energy, work or a group: {counted(result.left_out, 'run')}")
    if result.beyond:
        _print(f"left out, beyond the first of their group: {counted(result.beyond, 'run')}")


def _change_row(row: dict[str, Any], quality: str) -> dict[str, Any]:
    """A line of the table of changes; a question mark stands where the test (Dunn, Holm) finds no difference."""
    doubts = ["?" if p is not None and p >= 0.05 else "" for p in (row["p_holm"], row["quality_p_holm"])]
    changed = row["quality_change"]
    cost = f"{changed:+.4f}{doubts[1]}" if changed else "0"
    said = {quality: cost if math.isfinite(changed) else "-"}
    where = {"changed": row["changed"], "held": row["held"], "from": row["from"], "to": row["to"]}
    return {**where, "saves": f"{row['reduction']:.1%}{doubts[0]}", **said, "effect": row["effect"]}


def _short_table(title: str, rows: list[dict[str, Any]], most: int = 40) -> Any:
    shown = title if len(rows) <= most else f"{title}; the first {most} of {len(rows)}, the others with -o or --json"
    return _table(shown, rows[:most])
