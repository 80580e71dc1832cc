"""Closest APC and the time to reach it, over one training run or many.

Jurj, Opritoiu and Vladutiu (2020) published the names TTCAPC and TTCAPEC, that these combine accuracy, energy and
training time, the two deltas with their values 0.01 and 0.1, and a grid of cells with the APC of their centres. The
other rules are this package's interpretation: a point belongs to the cell that contains it; the centre of the last cell
is never above 1; the time is that of the first checkpoint that reaches a target, or without a target that of the best
checkpoint, the earliest of equals.
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
    """Checkpoint at which a training run reached its target. For many runs every field is an array, a value per run.

    Attributes
    ----------
    time : float or ndarray
        Elapsed time of the checkpoint, in the unit of the given times; inf if the target was never reached.
    index : int or ndarray of int64
        The checkpoint, counted from 0; -1 if the target was never reached.
    apc : float or ndarray
        Its closest APC (APEC), or its APC where `quantize` is off; NaN if the target was never reached.
    accuracy_cell, consumption_cell : int or ndarray of int64
        Indices of its cell; -1 if the target was never reached.
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
    """APC at the centre of a point's cell, so that differences smaller than a cell do not count.

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
    Jurj, Opritoiu, Vladutiu, 2020, for the grid and the deltas. The rounding is this package's interpretation.

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
    """APEC at the centre of a point's cell: `closest_apc` of cost, with `cost_delta` in the unit of cost.

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
        Energy at each checkpoint: either since the start of the training, or of one inference with the checkpoint's
        model.
    target : float, (accuracy, consumption) or None
        The APC to reach, or a point with the closest APC to reach. None searches for the best closest APC of the run,
        and its earliest checkpoint.
    accuracy_delta, consumption_delta : float
        The size of a cell, see `closest_apc`.
    alpha, beta : float
        As in `apc`.
    quantize : bool, default True
        False compares the APC of the checkpoints themselves and of the target itself, without cells.

    Returns
    -------
    Closest
        Numbers for one run (three 1-D arrays), arrays for many runs. Many runs are 2-D arrays with a row per run
        (`time` may be 1-D), or Arrow list arrays if runs differ in length. Checkpoints with a NaN or a masked
        element are skipped.

    Raises
    ------
    ValueError
        If time goes back, an argument leaves its range, or shapes do not fit; it names the argument and the first bad
        value.

    References
    ----------
    Jurj, Opritoiu, Vladutiu, 2020, for the names, the deltas and the grid. The search is this package's interpretation.

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
    """Time that a training needed to reach a closest APEC (TTCAPEC): `time_to_closest_apc` of cost.

    The `consumption_cell` of the result is in units of `cost_delta`.

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
