"""Command line ``fastgreen``: a table of commands. A command's module is imported when the command is used."""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from fastgreen import __version__
from fastgreen.commands.common import did_you_mean, errors_as_sentences

# name -> (module, attribute). A command's module is imported when it is called, or listed by --help.
COMMANDS = {
    "channels": ("fastgreen.commands.channels", "channels"),
    "calibrate": ("fastgreen.commands.calibrate", "calibrate"),
    "run": ("fastgreen.commands.run", "run"),
    "compare": ("fastgreen.commands.compare", "compare"),
    "report": ("fastgreen.commands.report", "report"),
    "merge": ("fastgreen.commands.merge", "merge"),
    "share": ("fastgreen.commands.share", "share"),
    "watch": ("fastgreen.commands.watch", "watch"),
    "export": ("fastgreen.commands.export", "export"),
    "grant": ("fastgreen.commands.grant", "grant"),
    "sweep": ("fastgreen.commands.metrics", "sweep"),
    "plot": ("fastgreen.commands.metrics", "plot"),
    "figures": ("fastgreen.commands.metrics", "figures"),
    "metrics": ("fastgreen.commands.metrics", "metrics"),
    "demo": ("fastgreen.commands.demo", "demo"),
    "estimate": ("fastgreen.commands.estimate", "estimate_command"),
    "collect": ("fastgreen.commands.layers", "collect_command"),
    "fit": ("fastgreen.commands.layers", "fit_command"),
    "ablation": ("fastgreen.commands.layers", "ablation_command"),
    "bench": ("fastgreen.commands.bench", "bench"),
    "compile": ("fastgreen.commands.compile_study", "compile_"),
    "import": ("fastgreen.commands.import_recording", "import_"),
    "tradeoff": ("fastgreen.commands.tradeoff", "tradeoff"),
}

# PyArrow imports pandas, where installed, for its first array: half of the time of a short command. These commands need
# no pandas, and run no code of the user in this process.
WITHOUT_PANDAS = frozenset(("channels", "run", "compare", "report", "merge", "share", "watch"))


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name]
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"there is no command {name!r}.{did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        with errors_as_sentences():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Measure energy in joules with bounds, and compare accuracy with energy.

    Exit code 2: the command line is wrong. Exit code 1: the work could not be done.
    """
    _fill_standard_places()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the locale cannot write is no reason to fail


def _fill_standard_places() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that the caller closed.

    Otherwise a file that we open gets that number, and a child writes into it.
    """
    for place in (0, 1, 2):
        try:
            os.fstat(place)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor


class _WithoutPandas:
    """A finder that finds no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("this command needs no pandas", name=name)


def program() -> None:
    """Run the command line as a program of its own."""
    if WITHOUT_PANDAS.intersection(sys.argv[1:2]):
        sys.meta_path.insert(0, _WithoutPandas)
    main(prog_name="fastgreen")
