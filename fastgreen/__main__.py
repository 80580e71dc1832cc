"""Command line as ``python -m fastgreen``."""

from fastgreen.cli import main

main(prog_name="fastgreen")
