"""The command line: one lazy table of commands, so that ``fastgreen --help`` imports none of them."""

from __future__ import annotations

import importlib

import click

from fastgreen import __version__

# name -> (module, attribute). A command's module is imported when it is called, or listed by --help.
COMMANDS = {
    "channels": ("fastgreen.commands.measure", "channels"),
    "calibrate": ("fastgreen.commands.calibrate", "calibrate"),
    "run": ("fastgreen.commands.measure", "run"),
    "report": ("fastgreen.commands.measure", "report"),
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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Joules with bounds for every inference, and the green metrics over grids of any size."""
