"""APC, APEC and weighted consumption: the ufuncs with checked arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgreen import _kernels
from fastgreen.metrics.domains import ACCURACY, ALPHA, AMOUNT, Domain, check, check_shapes, has_mask

__all__ = ["apc", "apec", "weighted_consumption"]


def _score(ufunc: np.ufunc, out: Any, arguments: dict[str, tuple[Any, Domain]]) -> Any:
    values = {name: check(name, value, domain) for name, (value, domain) in arguments.items()}
    if out is not None and not has_mask(out):
        for name, value in values.items():
            if has_mask(value) and np.ma.is_masked(value):
                raise ValueError(f"out must be a masked array as {name} is, not {type(out).__name__}")
    try:
        return ufunc(*values.values(), out=out)
    except ValueError:
        shape = check_shapes(**values)
        if out is not None and np.shape(out) != shape:
            raise ValueError(f"out must be an array of shape {shape}, not {np.shape(out)}") from None
        raise


def weighted_consumption(consumption: Any, accuracy: Any, alpha: Any = 0.1, *, out: Any = None) -> Any:
    """Consumption in which energy spent on right answers counts `alpha` times.

    ``consumption * ((1 - alpha) * (1 - accuracy) + alpha)``

    Parameters
    ----------
    consumption : array_like
        Energy, finite and not negative; the result has its unit.
    accuracy : array_like
        Fraction of right answers, 0..1.
    alpha : array_like, default 0.1
        Weight of the energy spent on right answers, 0..1.
    out : ndarray, optional
        Where the result goes.

    Returns
    -------
    ndarray or float
        Of the shape the arguments broadcast to; NaN where one of them is NaN.

    Raises
    ------
    ValueError
        If an argument leaves its range, naming it and its first bad value, or if the shapes do not fit.

    References
    ----------
    Jurj, Opritoiu, Vladutiu, "Environmentally-Friendly Metrics for Evaluating the Performance of Deep Learning Models
    and Systems", ICONIP 2020.

    Examples
    --------
    >>> import fastgreen as fg
    >>> print(round(fg.weighted_consumption(5.0, 0.95), 6))
    0.725
    """
    arguments = {"consumption": (consumption, AMOUNT), "accuracy": (accuracy, ACCURACY), "alpha": (alpha, ALPHA)}
    return _score(_kernels.weighted_consumption, out, arguments)


def apc(consumption: Any, accuracy: Any, alpha: Any = 0.1, beta: Any = 1.0, *, out: Any = None) -> Any:
    """Accuracy per consumption (APC): the accuracy, lowered by the energy that it took.

    ``accuracy / (beta * weighted_consumption(consumption, accuracy, alpha) + 1)``

    Parameters
    ----------
    consumption : array_like
        Energy, finite and not negative, in any unit: the published figures use Wh per inference and Wh per hour, and
        `beta` belongs to that unit.
    accuracy : array_like
        Fraction of right answers, 0..1.
    alpha : array_like, default 0.1
        Weight of the energy spent on right answers, 0..1.
    beta : array_like, default 1.0
        Weight of consumption against accuracy, per unit of `consumption`, finite and not negative.
    out : ndarray, optional
        Where the result goes.

    Returns
    -------
    ndarray or float
        0..1, of the shape the arguments broadcast to; NaN where one of them is NaN, and masked where one of them is
        masked, as everywhere in `fastgreen.metrics`. A float64 result has exactly the
        bits of the formula in NumPy; the result is float32 if all arrays are float32.

    Raises
    ------
    ValueError
        If an argument leaves its range, naming it and its first bad value, or if the shapes do not fit.

    References
    ----------
    Jurj, Opritoiu, Vladutiu, "Environmentally-Friendly Metrics for Evaluating the Performance of Deep Learning Models
    and Systems", ICONIP 2020.

    Examples
    --------
    >>> import fastgreen as fg
    >>> print(round(fg.apc(5.0, 0.95), 12))
    0.550724637681
    """
    arguments = {
        "consumption": (consumption, AMOUNT),
        "accuracy": (accuracy, ACCURACY),
        "alpha": (alpha, ALPHA),
        "beta": (beta, AMOUNT),
    }
    return _score(_kernels.apc, out, arguments)


def apec(cost: Any, accuracy: Any, alpha: Any = 0.1, beta: Any = 1.0, *, out: Any = None) -> Any:
    """Accuracy per energy cost (APEC): `apc` of the price of the energy instead of its amount.

    ``accuracy / (beta * cost * ((1 - alpha) * (1 - accuracy) + alpha) + 1)``

    Parameters
    ----------
    cost : array_like
        Price of the energy, finite and not negative, in any unit: the published figures use cents per inference, and
        `beta` belongs to that unit. At cost 0 the score is the accuracy.
    accuracy, alpha, beta, out
        As in `apc`.

    Returns
    -------
    ndarray or float
        As in `apc`.

    Raises
    ------
    ValueError
        As in `apc`.

    References
    ----------
    As in `apc`.

    Examples
    --------
    >>> import fastgreen as fg
    >>> print(round(fg.apec(10.4 * 0.00305, 0.9056, beta=50), 12))
    0.700199024769
    """
    arguments = {
        "cost": (cost, AMOUNT),
        "accuracy": (accuracy, ACCURACY),
        "alpha": (alpha, ALPHA),
        "beta": (beta, AMOUNT),
    }
    return _score(_kernels.apec, out, arguments)
