"""Command line as ``python -m fastgreen``."""

import os
import sys

# `python -m` puts the current folder first; the command does not import from it, and nor does this.
if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from fastgreen.cli import program

program()
