# SPDX-License-Identifier: Apache-2.0
"""The public surface as text: a line for each name with its arguments, each command with its options, each format.

``python -m tests.project.surface`` writes it to tests/project/surface.txt, with which test_surface.py compares it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import numpy as np

import fastgreen as fg

LIST = Path(__file__).with_name("surface.txt")
# Made by the package alone: no user calls the class.
MADE = {"Ledger", "Result", "Span", "Window"}
# Members that the monitor uses; not for users, and free to change.
INTERNAL = {
    *("Ledger.end_all", "Ledger.settle_late", "Ledger.go_live", "Ledger.live", "Ledger.open_weights"),
    *("Ledger.opened", "Ledger.dropped"),
    *("Ledger.nested", "Ledger.take", "Ledger.take_changes", "Ledger.take_open", "Window.edges", "Span.settle"),
    *("Span.settled", "Span.number_in_ledger", "GpuWindows.become_inert", "GpuWindows.finish"),
    *("Window.amounts", "Window.hand_out", "Window.put_on", "Window.take", "Window.take_off", "Ledger.deliver_by"),
    *("Ledger.stepped", "Ledger.take_steps", "Result.stretches"),
    *("Monitor.finished_result", "Result.following", "Result.totals", "Result.known", "Result.trace"),
}
MODULES = sorted(name for name, home in fg._HOME.items() if home is None)


def signature(function: object) -> str:
    """The arguments with their defaults, without annotations."""
    first = (inspect.getdoc(function) or "").partition("\n")[0]
    compiled = re.match(rf"(?:\w+\.)?{getattr(function, '__name__', '')}\((.*)\)", first)
    if compiled and not inspect.isfunction(function):  # Pythons differ in what they read off it
        return f"({compiled[1]})"
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return "(...)"
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    text = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _of_class(name: str, kind: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    if issubclass(kind, BaseException):
        yield f"{name}({bases})"
        return
    short = name.rpartition(".")[2]
    yield name if short in MADE else f"{name}{signature(kind)}"
    for member in sorted(n for n in dir(kind) if not n.startswith("_") and f"{short}.{n}" not in INTERNAL):
        found = inspect.getattr_static(kind, member)
        if member in vars(tuple) and found is vars(tuple)[member]:
            continue
        value = getattr(kind, member)
        called = callable(value) and not isinstance(found, property)
        yield f"{name}.{member}{signature(value) if called else ''}"


def of(name: str, value: object) -> Iterator[str]:
    """The lines of a public object."""
    if isinstance(value, type):
        yield from _of_class(name, value)
    elif isinstance(value, np.ufunc):
        yield f"{name}: ufunc of {value.nin}"
    else:
        yield f"{name}{signature(value) if callable(value) else ''}"


def names() -> Iterator[str]:
    """The lines of all public names; a name whose optional package is absent has none."""
    from fastgreen._ledger import Span
    from fastgreen._steps import SteppedLedger
    from fastgreen._window import Window

    yield from of("fastgreen.Ledger", SteppedLedger)
    for kind in (Span, Window):  # made by a monitor
        yield from of(f"fastgreen.{kind.__name__}", kind)
    for name in sorted(fg._HOME):
        value = getattr(fg, name)
        if not isinstance(value, ModuleType):
            yield from of(f"fastgreen.{name}", value)
    for module in MODULES:
        home = getattr(fg, module)
        for name in sorted(home.__all__):
            try:
                yield from of(f"fastgreen.{module}.{name}", getattr(home, name))
            except ImportError:
                continue


def commands() -> Iterator[str]:
    """The lines of the command line."""
    from fastgreen.cli import COMMANDS, main

    for name in sorted(COMMANDS):
        command = main.get_command(click.Context(main), name)
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                names = "/".join(parameter.opts + parameter.secondary_opts)
                yield f"command {name} {names}" + ("" if parameter.is_flag else f" {parameter.type.name}")
            else:
                yield f"command {name} {parameter.human_readable_name}" + ("..." if parameter.nargs != 1 else "")


def formats() -> Iterator[str]:
    """The lines of the files that later versions read."""
    from fastgreen.estimate import modelfile
    from fastgreen.experiment import runner
    from fastgreen.metrics import sweep_writer
    from fastgreen.recordings import readers
    from fastgreen.results import run_metadata

    yield f"file models format {modelfile.VERSION}"
    yield f"file run format {run_metadata.FORMAT}"
    yield f"file study format {runner._FORMAT}"
    yield f"file sweep format {sweep_writer.FORMAT}"
    yield from (f"recording {name}" for name in sorted(readers.FORMATS))


def surface() -> list[str]:
    return [*names(), *commands(), *formats()]


if __name__ == "__main__":
    LIST.write_text("\n".join(surface()) + "\n", encoding="utf-8")
