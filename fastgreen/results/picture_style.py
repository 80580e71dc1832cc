# SPDX-License-Identifier: Apache-2.0
"""Empty figures of matplotlib, and the colours, shapes, fills and dashes that separate things in a picture."""

from __future__ import annotations

import functools
import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "DASHES", "FILLS", "SHAPES", "blank_figure", "load_matplotlib", "mark", "shown_in_notebooks"]

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3)), (0, (3, 5, 1, 5)))
# Okabe and Ito's palette.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d")
FILLS = ("full", "none", "left", "top", "right", "bottom")
_LIGHT = ("white", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442")  # seen on a dark heat map


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


def blank_figure(width: float, height: float, dpi: float = 150) -> Figure:
    """A figure without axes; ModuleNotFoundError without matplotlib."""
    load_matplotlib()
    from matplotlib.figure import Figure

    return shown_in_notebooks(Figure(figsize=(width, height), layout="constrained", dpi=dpi))


def mark(place: int, light: bool = False) -> dict[str, Any]:
    """Colour, shape and fill of the place-th of many points; no two of the first 500 (light: 390) are the same."""
    # The numbers of colours and of shapes have no common divisor, so their pairs repeat late.
    colours = _LIGHT if light else COLOURS
    fill = FILLS[place // (len(colours) * len(SHAPES)) % len(FILLS)]
    return {"color": colours[place % len(colours)], "marker": SHAPES[place % len(SHAPES)], "fillstyle": fill}


def shown_in_notebooks(figure: Figure) -> Figure:
    """The same figure, which a notebook shows as a picture though pyplot does not know it."""
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010  (no attribute that Figure declares)
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()
