# SPDX-License-Identifier: Apache-2.0
"""Reads the text that a user sees, and finds the words that CONTRIBUTING.md asks to avoid.

The text is: the prose of the pages, the help of every command, the first paragraph of every docstring that `help` shows
for a public name, and the messages of exceptions, warnings, notes, reasons and remedies.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

import fastgreen as fg
from tests.oracles.places import ROOT
from tests.project.pages import PAGES

# The column "avoid" of CONTRIBUTING.md -> a pattern that finds it, case-insensitive.
AVOID = {
    "who, what, that which (for things)": r"\b(what|that which)\b|(?<!person |people )(?<!user )(?<!users )\bwhom?\b",
    'none (for "not one", "not a")': r"(?-i:\bnone\b)",
    "told, said": r"\b(told|said)\b",
    "mends": r"\bmend(s|ed|ing)?\b",
    "round (a loop)": r"\bround (the|a|an|it|them|and)\b",
    "anew": r"\banew\b",
    "stands, lies": r"\b(stands?|stood)\b(?! still|-)|\blies\b",
    "such": r"\bsuch\b(?! as)",
    "lest, whoever, meanwhile": r"\b(lest|whoever|meanwhile|therein)\b",
    'a sentence that begins with "Of" or "That"': r"(?-i:(?:^|[.!?:] )(?:Of|That)\b)",
}


def offences(text: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """The words to avoid in a text, each with the words around it; `allowed` phrases do not count."""
    text = re.sub(r"\s+", " ", text)
    for phrase in allowed:
        text = text.replace(phrase, "")
    found = []
    for pattern in AVOID.values():
        found += [text[max(0, m.start() - 40) : m.end() + 40] for m in re.finditer(pattern, text, re.IGNORECASE)]
    return found


def prose(page: Path) -> Iterator[tuple[str, str]]:
    """Place and text of each paragraph of a page, without code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->|`[^`]*`", "``", text, flags=re.DOTALL)
    if page.name == "CONTRIBUTING.md":
        text = re.sub(r"^\| avoid \| write \|$.*?\n\n", "", text, flags=re.MULTILINE | re.DOTALL)
    for number, paragraph in enumerate(re.split(r"\n\n|\n(?=\||[-*] |\d+\. )", text), 1):
        yield f"{page.name}, paragraph {number}", re.sub(r"^[-*|#] *|^\d+\. ", "", paragraph.strip())


def helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """Place and text of the help of a command, of its options, and of its own commands."""
    yield path, command.help or ""
    for parameter in command.params:
        yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from helps(command.get_command(context, name), f"{path} {name}")


def constants(node: ast.AST) -> Iterator[str]:
    """The texts of an expression; an f-string is one text, with `…` for each value."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        for part in node.values:
            yield from constants(part) if isinstance(part, ast.FormattedValue) else ()
    else:
        for child in ast.iter_child_nodes(node):
            yield from constants(child)


# Calls whose texts a user sees: warnings, notes of a result, lines of a command.
SPEAKERS = {"warn", "add", "say", "echo", "fail", "note", "print", "SourceStatus", "UsageError", "ClickException"}
SHOWN = {"reason", "remedy", "note"}


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each message in Python source: of errors, warnings, notes, reasons and remedies."""
    for node in ast.walk(ast.parse(source)):
        spoken: list[ast.AST] = []
        if isinstance(node, ast.Raise) and node.exc is not None:
            spoken = [node.exc]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in SPEAKERS:
            spoken = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Call):
            spoken = [keyword.value for keyword in node.keywords if keyword.arg in SHOWN]
        elif isinstance(node, ast.Dict):
            keys = [getattr(key, "value", None) for key in node.keys]
            spoken = [value for key, value in zip(keys, node.values, strict=True) if key in SHOWN]
        for part in spoken:
            yield from ((node.lineno, text) for text in constants(part) if " " in text.strip())


def public_docstrings() -> Iterator[tuple[str, str]]:
    """Place and first paragraph of the docstring of each public name, and of the public members of each class."""
    seen = set()
    for module in (fg, fg.errors, fg.estimate, fg.experiment, fg.metrics, fg.plot, fg.ufuncs):
        yield module.__name__, (inspect.getdoc(module) or "").partition("\n\n")[0]
        for name in module.__all__:
            value = getattr(module, name)
            members = [(name, value)]
            if inspect.isclass(value):
                members += [(f"{name}.{key}", member) for key, member in vars(value).items() if key[0] != "_"]
            for path, member in members:
                if id(member) not in seen and not isinstance(member, str | int | float | tuple | dict):
                    seen.add(id(member))
                    yield f"{module.__name__}.{path}", (inspect.getdoc(member) or "").partition("\n\n")[0]


def everything() -> Iterator[tuple[str, str]]:
    """Place and text of all that a user reads."""
    from fastgreen.cli import main

    for page in PAGES:
        yield from prose(page)
    yield from helps(main, "fastgreen")
    yield from public_docstrings()
    for path in sorted((ROOT / "fastgreen").rglob("*.py")):
        for line, text in messages(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}:{line}", text
