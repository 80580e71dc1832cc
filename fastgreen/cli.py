"""The command line: one lazy table of commands, so that ``fastgreen --help`` imports none of them."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys

import click

from fastgreen import __version__
from fastgreen.printable import printable

# name -> (module, attribute). A command's module is imported when it is called, or listed by --help.
COMMANDS = {
    "channels": ("fastgreen.commands.measure", "channels"),
    "calibrate": ("fastgreen.commands.calibrate", "calibrate"),
    "run": ("fastgreen.commands.measure", "run"),
    "report": ("fastgreen.commands.measure", "report"),
    "watch": ("fastgreen.commands.watch", "watch"),
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
    "bench": ("fastgreen.commands.experiment", "bench"),
    "compile": ("fastgreen.commands.experiment", "compile_"),
    "import": ("fastgreen.commands.experiment", "import_"),
    "tradeoff": ("fastgreen.commands.experiment", "tradeoff"),
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name]
        return getattr(importlib.import_module(module), attribute)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what the system refused (a full disk behind stdout, say) is told in a sentence."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = printable(error.message, lines=True)  # it may hold names of a stranger's file
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:  # who reads us has read enough: click ends quietly
                raise
            where = f"{error.filename}: " if isinstance(error.filename, str) else ""
            raise click.ClickException(printable(f"{where}{error.strerror or error}", lines=True)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Joules with bounds for every inference, and the green metrics over grids of any size."""
    _fill_standard_places()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the locale cannot write is no reason to fail


def _fill_standard_places() -> None:
    """Open what the caller closed of stdin, stdout and stderr, lest a file that we open takes its place, into which a
    child would then write."""
    for place in (0, 1, 2):
        try:
            os.fstat(place)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor
