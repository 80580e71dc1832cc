# SPDX-License-Identifier: Apache-2.0
"""Pages of the reference, made from the committed list of public names and from the commands themselves."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "project" / "surface.txt"
# Names of the list that are reached by a method of the monitor -> the class that has their documentation.
MADE = {"Ledger": "_steps.SteppedLedger", "Span": "_ledger.Span", "Window": "_window.Window"}
# Page -> its title, its first sentence, and the names of `fastgreen` on it. Each module has a page of its own name.
SUBJECTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "measuring": (
        "Measuring",
        "A monitor reads the channels of a machine; its windows are the stretches of time that have an energy.",
        ("Monitor", "Window", "measure", "GpuWindows", "channels", "Channel", "calibrate"),
    ),
    "sharing": (
        "Sharing",
        "The spans of a ledger share the energy of work that overlaps.",
        ("Ledger", "Span", "current_span", "fit_weights"),
    ),
    "results": (
        "Results",
        "A finished measurement: energies with bounds, tables, run folders, pages and comparisons.",
        ("Result", "load", "merge", "compare", "to_html"),
    ),
    "scores": (
        "Scores and sweeps",
        "APC and its relatives, for single models, for runs of a training and for grids.",
        (
            *("apc", "apec", "weighted_consumption", "closest_apc", "closest_apec"),
            *("time_to_closest_apc", "time_to_closest_apec", "Closest", "Sweep", "open_sweep"),
        ),
    ),
}
# The same function under its published short name.
SAME = {"ttcapc": "time_to_closest_apc", "ttcapec": "time_to_closest_apec"}
MODULES = {
    "metrics": "Related metrics. The scores of `fastgreen` itself are here too.",
    "ufuncs": "The metrics as NumPy ufuncs: positional arguments, no checks.",
    "plot": "Pictures of sweeps, models and runs. `pip install 'fastgreen[plot]'`.",
    "experiment": "Studies, training logs, recordings of other tools. `pip install 'fastgreen[study]'`.",
    "estimate": "Predictions without a run.",
    "export": "Exporters for Prometheus and OpenTelemetry. `pip install 'fastgreen[export]'`.",
    "distributed": "Sweeps and tasks on a Dask cluster. `pip install 'fastgreen[distributed]'`.",
    "errors": "Errors and warnings.",
}


@functools.cache
def listed() -> dict[str, list[str]]:
    """Each public name of the list, with its public members: ``fastgreen.Monitor`` -> ``energy_j``, ..."""
    found: dict[str, list[str]] = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if not line.startswith("fastgreen."):
            continue
        path = re.match(r"[\w.]+", line)[0]  # type: ignore[index]
        parent = path.rpartition(".")[0]
        if parent in found:
            found[parent].append(path.rpartition(".")[2])
        else:
            found[path] = []
    return found


def anchor(path: str) -> str:
    """The place of a public name in the reference."""
    parts = path.split(".")
    if parts[-1] in SAME:
        return f"fastgreen.{SAME[parts[-1]]}"
    if parts[1] == "metrics" and len(parts) > 2 and f"fastgreen.{parts[2]}" in listed():
        return ".".join(["fastgreen", *parts[2:]])
    return path


@functools.cache
def anchors() -> dict[str, str]:
    """Each public name and member without ``fastgreen.``, with its place in the reference."""
    found = {}
    for path, members in listed().items():
        for name in (path, *(f"{path}.{member}" for member in members)):
            found[name.removeprefix("fastgreen.")] = anchor(name)
    return found


@functools.cache
def short_names() -> dict[str, str]:
    """Names that need no module to be known: classes, and functions of several words; with their places."""
    found: dict[str, list[str]] = {}
    for path in listed():
        name = path.rpartition(".")[2]
        if name[0].isupper() or "_" in name:
            found.setdefault(name, []).append(anchor(path))
    return {name: places[0] for name, places in found.items() if len(set(places)) == 1}


def public_object(path: str) -> object:
    """The object of a public name."""
    _, *parents, name = path.split(".")
    if name in MADE and not parents:
        module, _, name = MADE[name].partition(".")
        return getattr(importlib.import_module(f"fastgreen.{module}"), name)
    return getattr(importlib.import_module(".".join(["fastgreen", *parents])), name)


def has_entry(owner: object, member: str) -> bool:
    """Whether a member has an entry of its own: a method or a property. The class describes its other attributes."""
    value = inspect.getattr_static(owner, member)
    if isinstance(value, types.GetSetDescriptorType):  # an attribute or a property of a compiled class
        return bool(value.__doc__)
    return isinstance(value, (property, functools.cached_property)) or callable(getattr(owner, member))


def directive(path: str, members: list[str]) -> str:
    """What mkdocstrings makes the entry of a name from; attributes without an entry lead to their class."""
    owner = public_object(path)
    shown = [member for member in members if has_entry(owner, member)]
    places = "".join(f'<span id="{path}.{member}"></span>' for member in members if member not in shown)
    options = f"      members: {shown}\n" if shown else "      members: false\n      inherited_members: false\n"
    if path.startswith("fastgreen.errors."):
        options += "      show_bases: true\n"
    if path.rpartition(".")[2] in (*MADE, "Result"):  # no user calls the class
        options += "      merge_init_into_class: false\n      show_signature: false\n"
    return f"::: {path}\n    options:\n{options}\n{places}\n"


def pages() -> Iterator[tuple[str, str]]:
    """Name and Markdown of each page of the reference."""
    names = listed()
    left = set(names)
    for page, (title, first, entries) in SUBJECTS.items():
        yield page, _page(title, first, [f"fastgreen.{name}" for name in entries], names)
        left -= {f"fastgreen.{name}" for name in (*entries, *SAME)}
    for module, first in MODULES.items():
        entries = [path for path in names if path.startswith(f"fastgreen.{module}.")]
        yield module, _page(f"fastgreen.{module}", first, [path for path in entries if anchor(path) == path], names)
        left -= set(entries)
    if left:
        raise LookupError(f"no page of the reference has {sorted(left)}: add them to docs/site/reference.py")
    yield "commands", _commands()


def _page(title: str, first: str, entries: list[str], names: dict[str, list[str]]) -> str:
    same = [f"`fastgreen.{short}` is the same as `fastgreen.{long}`." for short, long in SAME.items()]
    note = " ".join(same) + "\n\n" if "fastgreen.apc" in entries else ""
    return f"# {title}\n\n{first}\n\n{note}" + "\n".join(directive(path, names[path]) for path in entries)


def _commands() -> str:
    from fastgreen.cli import COMMANDS, main

    text = "# Commands and options\n\n[Command line](../command-line.md) has the commands by purpose.\n\n"
    for name in sorted(COMMANDS):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        context = click.Context(command, info_name=f"fastgreen {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        text += f"## fastgreen {name}\n\n```text\nfastgreen {name} {usage}\n```\n\n{_prose(command.help or '')}\n\n"
        rows = [r for p in command.params if isinstance(p, click.Option) and (r := p.get_help_record(context))]
        if rows:
            text += "| option | meaning |\n|---|---|\n"
            text += "".join(f"| `{names}` | {_cell(meaning)} |\n" for names, meaning in rows) + "\n"
    return text


def _prose(text: str) -> str:
    """Help of a command as Markdown: a paragraph that click does not wrap is a block."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    blocks = [f"```text\n{p.removeprefix(chr(8)).strip(chr(10))}\n```" if p[:1] == chr(8) else p for p in paragraphs]
    return "\n\n".join(blocks)


def _cell(text: str) -> str:
    text = re.sub(r"\s+", " ", text).replace("<", "&lt;")
    return re.sub(r"([|\[\]*_])", r"\\\1", text)
