"""``python -m fastgreen`` is the command ``fastgreen``."""

from fastgreen.cli import main

main(prog_name="fastgreen")
