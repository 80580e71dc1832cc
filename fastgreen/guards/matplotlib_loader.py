# SPDX-License-Identifier: Apache-2.0
"""Matplotlib, whatever backend the environment names."""

from __future__ import annotations

import os
import sys

__all__ = ["load_matplotlib"]


def load_matplotlib() -> None:
    """Import matplotlib, in spite of a backend that a notebook left in the environment: a file needs no backend.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is missing.
    """
    try:
        try:
            import matplotlib.figure
        except ValueError:
            backend = os.environ.pop("MPLBACKEND", None)
            if backend is None:
                raise
            for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
                del sys.modules[name]  # parts of the failed import, which a second import would not bind again
            try:
                import matplotlib.figure  # noqa: F401
            finally:
                os.environ["MPLBACKEND"] = backend
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'fastgreen[plot]'", name=error.name) from None
