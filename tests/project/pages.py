"""Reads the pages of the documentation: their blocks, the marks in front of them, and the commands inside.

A block is run unless an HTML comment stands in front of it::

    <!-- not run: needs root -->          its commands are checked and not run
    <!-- run where: torch -->             run where that package is installed
    <!-- output -->                       the text is the output of the block before it

A Python block that begins with the comment ``# NAME.py`` is also saved under that name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from tests.oracles.places import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
_FENCE = re.compile(r"^(?:<!-- ([^\n]*?) -->\n\n?)?```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Programs of the system that the pages name. Each other program is one whose arguments are checked here.
SYSTEM = {
    "torchrun",
    "chmod",
    "groupadd",
    "usermod",
    "systemd-tmpfiles",
    "sysctl",
    "setcap",
    "modprobe",
    "export",
    "cat",
    "cd",
    "rm",
    "cp",
    "systemctl",
    "kubectl",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    mark: str
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def not_run(self) -> str | None:
        """The reason why it is not run; None: it is."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else None

    @property
    def packages(self) -> list[str]:
        """Packages without which it is not run."""
        return self.mark.removeprefix("run where: ").split(", ") if self.mark.startswith("run where: ") else []

    @property
    def file(self) -> str | None:
        """The name under which a Python block is saved."""
        found = re.match(r"# (\w+\.py)\n", self.text) if self.language == "python" else None
        return found[1] if found else None

    def script(self) -> str:
        """A shell block as it is pasted: of a dialogue, the lines behind the prompt."""
        if self.language != "console":
            return self.text
        return "".join(line[2:] for line in self.text.splitlines(keepends=True) if line.startswith("$ "))

    def commands(self) -> Iterator[list[str]]:
        """The words of each command of a shell block, without `sudo` and assignments of variables."""
        script = re.sub(r"<<'(\w+)'\n.*?^\1$", "", self.script(), flags=re.MULTILINE | re.DOTALL)
        for line in script.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
            lexer.whitespace_split = True
            command: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("&|;"):
                    while command and (command[0] in ("sudo", "time") or re.match(r"\w+=", command[0])):
                        del command[0]
                    if command:
                        yield command
                    command = []
                else:
                    command.append(word)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page from top to bottom."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start(2)) + 1, found[1] or "", found[2], found[3])
        for found in _FENCE.finditer(text)
    ]


def command_fault(words: list[str]) -> str | None:
    """What is wrong with a command of the documentation; None: nothing."""
    program = words[0]
    if program == "fastgreen":
        return fastgreen_fault(words[1:])
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        named = [word for word in words[1:] if "=" not in word and word[0] != "-"]
        return None if set(named) <= targets else f"make has no target {set(named) - targets}"
    if program in ("python", "python3"):
        return _python_fault(words[1:])
    if program in ("pip", "pre-commit"):
        return None  # the extras that they name are checked wherever they are named
    return None if program in SYSTEM else f"{program} is not a program that the pages may name"


def _python_fault(words: list[str]) -> str | None:
    if words[:1] == ["-m"] and words[1] not in ("pip", "pytest", "venv"):
        module = ROOT / words[1].replace(".", "/")
        return None if module.with_suffix(".py").exists() or module.is_dir() else f"there is no module {words[1]}"
    files = [word for word in words if word.endswith(".py")]
    return next((f"there is no file {name}" for name in files if not (ROOT / name).exists()), None)


def fastgreen_fault(words: list[str]) -> str | None:
    """What click has against these arguments of ``fastgreen``, short of looking for files; None: nothing."""
    from fastgreen.cli import main

    command = main.get_command(click.Context(main), words[0])
    if command is None:
        return f"there is no command {words[0]}"
    context = click.Context(command, info_name=words[0])
    words = words[1 : _redirected(words)]
    if "--help" in words:
        return None
    try:
        given, _, _ = command.make_parser(context).parse_args(list(words))
        for parameter in command.params:
            value = given.get(parameter.name or "")
            missing = not isinstance(value, (str, int, float, list, tuple)) or value == ()
            if missing and parameter.required:
                return f"{words}: {parameter.human_readable_name} is missing"
            if not missing and not isinstance(parameter.type, (click.Path, click.File)):
                parameter.type_cast_value(context, value)
    except click.ClickException as error:
        return f"{words}: {error.format_message()}"
    return None


def _redirected(words: list[str]) -> int:
    """Where a redirection begins."""
    return next((n for n, word in enumerate(words) if set(word) <= set("<>") and word), len(words))
