"""Closest APC and the time to reach it, over one training run or many.

What is published (Jurj, Opritoiu, Vladutiu, 2020) are the names TTCAPC and TTCAPEC, that they combine accuracy, energy
and training time, the two deltas with their values 0.01 and 0.1, and a grid whose cells hold the APC of their centres.
The rest is this package's reading: that a point belongs to the cell it lies in, that the last cell's centre is never
above 1, that the time is that of the first checkpoint to reach a target, or else of the best checkpoint, the earliest
of equals.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastgreen import _kernels
from fastgreen.metrics.domains import ACCURACY, ALPHA, AMOUNT, DELTA, FRACTION_DELTA, check, check_shapes
from fastgreen.metrics.search import Search
from fastgreen.metrics.training_runs import Runs

__all__ = [
    "Closest",
    "closest_apc",
    "closest_apec",
    "time_to_closest_apc",
    "time_to_closest_apec",
    "ttcapc",
    "ttcapec",
]


class Closest(NamedTuple):
    """Where a run got to. For many runs every field is an array with one value per run.

    Attributes
    ----------
    time : float or ndarray
        Elapsed time of the checkpoint, in the unit of the given times; inf if the target was never reached.
    index : int or ndarray of int64
        The checkpoint, counted from 0; -1 if the target was never reached.
    apc : float or ndarray
        Its closest APC (APEC), or its APC where `quantize` is off; NaN if the target was never reached.
    accuracy_cell, consumption_cell : int or ndarray of int64
        The cell that it lies in; -1 if the target was never reached.
    """

    time: Any
    index: Any
    apc: Any
    accuracy_cell: Any
    consumption_cell: Any


def _closest(
    cost_name: str, cost: Any, accuracy: Any, cost_delta: Any, accuracy_delta: Any, alpha: Any, beta: Any
) -> Any:
    values = {
        cost_name: check(cost_name, cost, AMOUNT),
        "accuracy": check("accuracy", accuracy, ACCURACY),
        f"{cost_name}_delta": check(f"{cost_name}_delta", cost_delta, DELTA),
        "accuracy_delta": check("accuracy_delta", accuracy_delta, FRACTION_DELTA),
        "alpha": check("alpha", alpha, ALPHA),
        "beta": check("beta", beta, AMOUNT),
    }
    try:
        return _kernels.closest_apc(*values.values())
    except ValueError:
        check_shapes(**values)
        raise


def closest_apc(
    consumption: Any,
    accuracy: Any,
    *,
    consumption_delta: Any = 0.1,
    accuracy_delta: Any = 0.01,
    alpha: Any = 0.1,
    beta: Any = 1.0,
) -> Any:
    """APC at the centre of the cell that a point lies in, so that differences below a cell count for nothing.

    The cell of accuracy is ``clamp(floor(accuracy / accuracy_delta + 1e-9), 0, ceil(1 / accuracy_delta - 1e-9) - 1)``
    and that of consumption ``floor(consumption / consumption_delta + 1e-9)``; a centre lies half a delta further, that
    of accuracy never above 1. Consumption 0 is therefore scored as half a delta.

    Parameters
    ----------
    consumption, accuracy, alpha, beta : array_like
        As in `apc`.
    consumption_delta : array_like, default 0.1
        Height of a cell in the unit of `consumption`, above 0.
    accuracy_delta : array_like, default 0.01
        Width of a cell, above 0 and at most 1.

    Returns
    -------
    ndarray or float
        0..1, of the shape the arguments broadcast to; NaN where one of them is NaN.

    Raises
    ------
    ValueError
        If an argument leaves its range, naming it and its first bad value, or if the shapes do not fit.

    References
    ----------
    The grid and the deltas: Jurj, Opritoiu, Vladutiu, 2020. The rounding is this package's reading.

    Examples
    --------
    >>> import fastgreen as fg
    >>> print(round(fg.closest_apc(0.74, 0.558), 12))
    0.403526311006
    """
    return _closest("consumption", consumption, accuracy, consumption_delta, accuracy_delta, alpha, beta)


def closest_apec(
    cost: Any, accuracy: Any, *, cost_delta: Any = 0.1, accuracy_delta: Any = 0.01, alpha: Any = 0.1, beta: Any = 1.0
) -> Any:
    """APEC at the centre of the cell that a point lies in: `closest_apc` on cost, with `cost_delta` in its unit.

    Parameters
    ----------
    cost, accuracy, alpha, beta : array_like
        As in `apec`.
    cost_delta, accuracy_delta : array_like
        As `consumption_delta` and `accuracy_delta` of `closest_apc`.

    Returns
    -------
    ndarray or float
        As in `closest_apc`.

    Raises
    ------
    ValueError
        As in `closest_apc`.

    Examples
    --------
    >>> import fastgreen as fg
    >>> print(round(fg.closest_apec(0.74, 0.558), 12))
    0.403526311006
    """
    return _closest("cost", cost, accuracy, cost_delta, accuracy_delta, alpha, beta)


def _time_to_closest(runs: Runs, search: Search) -> Closest:
    found = runs.reach(search)
    fields = tuple(found[name] for name in ("time", "index", "score", "accuracy_cell", "cost_cell"))
    return Closest(*fields) if runs.many else Closest(*(field[0].item() for field in fields))


def time_to_closest_apc(
    time: Any,
    accuracy: Any,
    consumption: Any,
    *,
    target: Any = None,
    accuracy_delta: float = 0.01,
    consumption_delta: float = 0.1,
    alpha: float = 0.1,
    beta: float = 1.0,
    quantize: bool = True,
) -> Closest:
    """Time that a training needed to reach a closest APC (TTCAPC).

    Parameters
    ----------
    time : array_like
        Elapsed time of each checkpoint, never falling within a run, in any unit.
    accuracy : array_like
        Accuracy at each checkpoint, 0..1.
    consumption : array_like
        Energy at each checkpoint: since the start of the training, or of one inference of the checkpoint's model,
        whichever you want to judge by.
    target : float, (accuracy, consumption) or None
        The APC to reach, or the point whose closest APC is to be reached. Without a target, the best closest APC of the
        run is meant, and the earliest checkpoint that has it.
    accuracy_delta, consumption_delta : float
        The size of a cell, see `closest_apc`.
    alpha, beta : float
        As in `apc`.
    quantize : bool, default True
        False compares the APC of the checkpoints themselves and of the target itself, without cells.

    Returns
    -------
    Closest
        Of numbers for one run (three 1-D arrays) and of arrays for many: 2-D arrays with a row per run (`time` may stay
        1-D), or Arrow list arrays where runs differ in length. A checkpoint with a NaN is passed over.

    Raises
    ------
    ValueError
        If time goes back, an argument leaves its range, or shapes do not fit; it names the argument and the first bad
        value.

    References
    ----------
    Jurj, Opritoiu, Vladutiu, 2020, for the names, the deltas and the grid; see the module for what is our reading.

    Examples
    --------
    >>> import fastgreen as fg
    >>> hours, accuracy, energy_wh = [0.25, 0.5, 0.75, 1.0], [0.312, 0.558, 0.701, 0.783], [0.37, 0.74, 1.11, 1.48]
    >>> fg.time_to_closest_apc(hours, accuracy, energy_wh, target=0.55).time
    1.0
    """
    search = Search.checked("consumption", consumption_delta, accuracy_delta, alpha, beta, target, quantize)
    return _time_to_closest(Runs.of(time, accuracy, consumption, "consumption"), search)


def time_to_closest_apec(
    time: Any,
    accuracy: Any,
    cost: Any,
    *,
    target: Any = None,
    accuracy_delta: float = 0.01,
    cost_delta: float = 0.1,
    alpha: float = 0.1,
    beta: float = 1.0,
    quantize: bool = True,
) -> Closest:
    """Time that a training needed to reach a closest APEC (TTCAPEC): `time_to_closest_apc` on cost.

    The result's `consumption_cell` counts in `cost_delta`.

    Parameters
    ----------
    time, accuracy, target, accuracy_delta, alpha, beta, quantize
        As in `time_to_closest_apc`; the target is an APEC or a pair (accuracy, cost).
    cost : array_like
        Price of the energy at each checkpoint, in any unit.
    cost_delta : float
        The size of a cell in that unit.

    Returns
    -------
    Closest
        As in `time_to_closest_apc`.

    Raises
    ------
    ValueError
        As in `time_to_closest_apc`.

    Examples
    --------
    >>> import fastgreen as fg
    >>> fg.time_to_closest_apec([0.5, 1.0, 1.5], [0.5, 0.7, 0.71], [0.1, 0.2, 0.6], cost_delta=0.05).index
    1
    """
    search = Search.checked("cost", cost_delta, accuracy_delta, alpha, beta, target, quantize)
    return _time_to_closest(Runs.of(time, accuracy, cost, "cost"), search)


ttcapc = time_to_closest_apc
ttcapec = time_to_closest_apec
