"""Published figures of APC and APEC, drawn from their formulas.

Axes, parameters, accuracies and models are those of Jurj, Opritoiu, Vladutiu, "Environmentally-Friendly Metrics for
Evaluating the Performance of Deep Learning Models and Systems" (2020) and of the files that its first author published.
The figures of models draw the curves of the models' own accuracies instead of those of the seven accuracies, so that
each point is on its curve; their titles report it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastgreen import plot
from fastgreen.metrics.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "draw_figures"]

ACCURACIES = (0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999)
ACCURACY = {"VGG-19": 0.9056, "InceptionV3": 0.9341, "ResNet-50": 0.9349, "MobileNetV2": 0.9454}
TX2_WH = (10.4, 10.6, 9.8, 8.88)
GTX1060_WH = (52.58, 55.06, 54.35, 50.51)
TX2_SINGLE_WH = (
    (11.07, 9.92, 10.67, 8.0, 12.58),
    (10.5, 9.73, 11.82, 10.68, 10.29),
    (9.74, 9.34, 9.91, 10.1),
    (8.78, 8.77, 8.95, 8.96),
)
# The publication does not give the unit, dollars or cents: 3.05 ct/kWh if the costs are cents.
PRICE_PER_WH = 0.00305

_INFERENCE, _CENTS = "Wh per inference", "cents per inference"
_HOUR, _PRICE = "Wh per hour", "price per hour, unit as published"
_CONSUMPTION, _COST = np.arange(0, 10, 0.01), np.arange(0, 5, 0.05)


def _models(consumption: tuple, suffix: str = "", price: float = 1.0) -> list[tuple]:
    scaled = [np.asarray(value) * price for value in consumption]
    return [(f"{name}{suffix}", value, ACCURACY[name]) for name, value in zip(ACCURACY, scaled, strict=True)]


def _drawn(title: str) -> str:
    return f"{title}\n(the curves are those of the models' own accuracies)"


def _kinds(table: list[tuple]) -> list[str]:
    """The model of each row, whatever its board."""
    return [name.split(",")[0] for name, *_ in table]


def _models_apc(table: list[tuple], last: float, title: str) -> Figure:
    along = np.arange(0, last, 0.1)
    return plot.models(
        table, alpha=0.1, beta=0.1, consumption=along, unit=_HOUR, kinds=_kinds(table), title=_drawn(title)
    )


def _models_apec(table: list[tuple], last: float, title: str) -> Figure:
    along = np.arange(0, last, 0.001)
    return plot.models(
        table,
        metric="apec",
        alpha=0.1,
        beta=50,
        consumption=along,
        unit=_PRICE,
        kinds=_kinds(table),
        title=_drawn(title),
    )


def _grid() -> Figure:
    # The values at the cells' centres.
    consumption, accuracy = np.arange(101) * 0.1 + 0.05, np.arange(100) * 0.01 + 0.005
    sweep = Sweep("apc", consumption=consumption, accuracy=accuracy, unit=_INFERENCE)
    return plot.heat_map(sweep, title="APC grid: cells of 0.1 Wh and 0.01, alpha = 0.1, beta = 1")


# File name -> function that draws it
FIGURES: dict[str, Callable[[], Figure]] = {
    "apc-default": lambda: plot.curves(_CONSUMPTION, ACCURACIES, unit=_INFERENCE),
    "apec-default": lambda: plot.curves(_COST, ACCURACIES, metric="apec", beta=10, unit=_CENTS),
    "apc-by-alpha": lambda: plot.curves(_CONSUMPTION, ACCURACIES, alpha=(0, 0.25, 0.5), unit=_INFERENCE),
    "apec-by-alpha": lambda: plot.curves(_COST, ACCURACIES, metric="apec", alpha=(0, 0.25, 0.5), beta=10, unit=_CENTS),
    "apc-by-beta": lambda: plot.curves(
        _CONSUMPTION, ACCURACIES, beta=(5, 100, 1000), unit=_INFERENCE, logarithmic=True
    ),
    "apec-by-beta": lambda: plot.curves(
        _COST, ACCURACIES, metric="apec", beta=(5, 100, 1000), unit=_CENTS, logarithmic=True
    ),
    "apc-models-tx2": lambda: _models_apc(_models(TX2_WH), 20, "APC of models on a Jetson TX2"),
    "apc-models-tx2-gtx1060": lambda: _models_apc(
        _models(TX2_WH, ", TX2") + _models(GTX1060_WH, ", GTX 1060"), 60, "APC of models on a Jetson TX2 and a GTX 1060"
    ),
    "apec-models-grid-solar": lambda: _models_apec(
        _models(TX2_WH, ", grid", PRICE_PER_WH) + _models(TX2_WH, ", solar", 0.0),
        0.035,
        "APEC of models on a Jetson TX2, grid and solar power",
    ),
    "apc-measurements": lambda: _models_apc(_models(TX2_SINGLE_WH), 20, "APC of single measurements on a Jetson TX2"),
    "apec-measurements": lambda: _models_apec(
        _models(TX2_SINGLE_WH, "", PRICE_PER_WH), 0.045, "APEC of single measurements on a Jetson TX2"
    ),
    "apc-grid": _grid,
}


def draw_figures(
    folder: str | os.PathLike[str], kind: str = "png", names: Sequence[str] = tuple(FIGURES)
) -> list[Path]:
    """Draw the published figures into a folder; existing pictures of these names are replaced.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    kind : {"png", "pdf", "svg"}
        Format of the pictures.
    names : sequence of str
        Names in FIGURES; by default all.

    Returns
    -------
    list of Path
        The pictures, in the order of the publication.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    paths = [place / f"{name}.{kind}" for name in names]
    for path, name in zip(paths, names, strict=True):
        plot.finish(FIGURES[name](), path)
    return paths
