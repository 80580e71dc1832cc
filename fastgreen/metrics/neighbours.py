"""Published metrics of efficiency other than APC: EDP, carbon, SCI, NetScore, time to accuracy and others.

Accuracies are fractions, energies are joules and times are seconds, unless the name of an argument has another unit.
Arguments may be arrays; they broadcast as in NumPy. A ValueError names the argument outside its range and its first bad
value; NaN gives NaN. An array of `numpy.ma` gives one: its masked elements stay masked, and no number under a mask
counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fastgreen.metrics.closest import (
    Closest,
    closest_apc,
    closest_apec,
    time_to_closest_apc,
    time_to_closest_apec,
    ttcapc,
    ttcapec,
)
from fastgreen.metrics.domains import ACCURACY, ALPHA, AMOUNT, DELTA, Domain, as_numbers, check, check_shapes, has_mask
from fastgreen.metrics.scores import apc, apec, weighted_consumption
from fastgreen.units import J_PER_KWH

__all__ = [
    "Closest",
    "accuracy_per_joule",
    "apc",
    "apec",
    "carbon",
    "closest_apc",
    "closest_apec",
    "ed2p",
    "edp",
    "embodied_carbon",
    "energy_to_accuracy",
    "netscore",
    "sci",
    "time_to_accuracy",
    "time_to_closest_apc",
    "time_to_closest_apec",
    "ttcapc",
    "ttcapec",
    "weighted_consumption",
    "zeus_cost",
]

_PERCENT = Domain(0.0, 100.0, "must lie in 0..100")


def _arrays(**arguments: tuple[Any, Domain]) -> list[Any]:
    """Checked arguments as float64; pandas, xarray and Dask objects keep their type."""
    values = {name: _float64(check(name, value, domain)) for name, (value, domain) in arguments.items()}
    if all(isinstance(value, np.ndarray | np.generic) for value in values.values()):
        check_shapes(**values)  # the others fit by their own rules
    return list(values.values())


def _float64(value: Any) -> Any:
    if has_mask(value) or (hasattr(value, "astype") and not isinstance(value, np.ndarray)):
        return value.astype(np.float64)
    return np.asarray(value, np.float64)[()]


def edp(energy_j: Any, time_s: Any) -> Any:
    """Energy-delay product in J s: ``energy * time``.

    Parameters
    ----------
    energy_j, time_s : array_like
        Energy in J and time in s, finite and not negative.

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
    Gonzalez, Horowitz, "Energy dissipation in general purpose microprocessors", IEEE JSSC 31(9), 1996.

    Examples
    --------
    >>> print(edp(20.0, 3.0))
    60.0
    """
    energy, time = _arrays(energy_j=(energy_j, AMOUNT), time_s=(time_s, AMOUNT))
    return energy * time


def ed2p(energy_j: Any, time_s: Any) -> Any:
    """Energy-delay-squared product in J s²: ``energy * time**2``; it hardly depends on the supply voltage.

    Parameters
    ----------
    energy_j, time_s : array_like
        Energy in J and time in s, finite and not negative.

    Returns
    -------
    ndarray or float
        As in `edp`.

    Raises
    ------
    ValueError
        As in `edp`.

    References
    ----------
    Martin, Nyström, Pénzes, "ET²: a metric for time and energy efficiency of computation", in Power Aware Computing,
    2002.

    Examples
    --------
    >>> print(ed2p(20.0, 3.0))
    180.0
    """
    energy, time = _arrays(energy_j=(energy_j, AMOUNT), time_s=(time_s, AMOUNT))
    return energy * (time * time)


def accuracy_per_joule(accuracy: Any, energy_j: Any) -> Any:
    """Accuracy over energy, in 1/J: ``accuracy / energy``; inf where the energy is 0.

    Parameters
    ----------
    accuracy : array_like
        Fraction of right answers, 0..1.
    energy_j : array_like
        In J, finite and not negative.

    Returns
    -------
    ndarray or float
        As in `edp`.

    Raises
    ------
    ValueError
        As in `edp`.

    Examples
    --------
    >>> print(accuracy_per_joule(0.9, 3.0))
    0.3
    """
    fraction, energy = _arrays(accuracy=(accuracy, ACCURACY), energy_j=(energy_j, AMOUNT))
    return _by_plain_numbers(_ratio, fraction, energy)


def _ratio(fraction: Any, energy: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(fraction, energy)


def _by_plain_numbers(formula: Callable[..., Any], *values: Any) -> Any:
    """Compute a formula with numbers; `numpy.ma` itself would mask each infinite result."""
    if not any(map(has_mask, values)):
        return formula(*values)
    found = formula(*(value.data if has_mask(value) else value for value in values))
    hidden = [np.ma.getmaskarray(value) for value in values if has_mask(value)]
    return np.ma.MaskedArray(found, np.broadcast_to(functools.reduce(np.logical_or, hidden), np.shape(found)))


def carbon(energy_j: Any, intensity_g_per_kwh: Any) -> Any:
    """Operational emissions in g CO2e: energy in kWh times the carbon intensity of the grid.

    Parameters
    ----------
    energy_j : array_like
        In J, finite and not negative.
    intensity_g_per_kwh : array_like
        Of the grid, in g CO2e per kWh, finite and not negative.

    Returns
    -------
    ndarray or float
        As in `edp`.

    Raises
    ------
    ValueError
        As in `edp`.

    References
    ----------
    The operational part O = E * I of the SCI specification, see `sci`.

    Examples
    --------
    >>> print(round(carbon(1e6, 232.0), 6))
    64.444444
    """
    energy, intensity = _arrays(energy_j=(energy_j, AMOUNT), intensity_g_per_kwh=(intensity_g_per_kwh, AMOUNT))
    return energy / J_PER_KWH * intensity


def embodied_carbon(
    total_g: Any, hours: Any, lifespan_hours: Any, resources: Any = 1.0, total_resources: Any = 1.0
) -> Any:
    """Share of a machine's embodied carbon in g CO2e: ``total * (hours / lifespan) * (resources / total_resources)``.

    Parameters
    ----------
    total_g : array_like
        Emissions of making the machine (TE), in g CO2e.
    hours, lifespan_hours : array_like
        Reserved time (TiR) and expected lifespan (EL, above 0), in hours.
    resources, total_resources : array_like
        Reserved resources (RR) and all resources of the machine (ToR, above 0), in the same unit.

    Returns
    -------
    ndarray or float
        As in `edp`.

    Raises
    ------
    ValueError
        As in `edp`.

    References
    ----------
    M = TE * TS * RS of the SCI specification, see `sci`.

    Examples
    --------
    >>> print(round(embodied_carbon(150_000, 2, 4 * 8760, 1, 8), 6))
    1.070205
    """
    total, used, lifespan, reserved, available = _arrays(
        total_g=(total_g, AMOUNT),
        hours=(hours, AMOUNT),
        lifespan_hours=(lifespan_hours, DELTA),
        resources=(resources, AMOUNT),
        total_resources=(total_resources, DELTA),
    )
    return total * (used / lifespan) * (reserved / available)


def sci(energy_kwh: Any, intensity_g_per_kwh: Any, embodied_g: Any = 0.0, functional_units: Any = 1.0) -> Any:
    """Software carbon intensity in g CO2e per functional unit: ``(energy * intensity + embodied) / functional_units``.

    Parameters
    ----------
    energy_kwh : array_like
        In kWh (E), finite and not negative.
    intensity_g_per_kwh : array_like
        Of the grid (I), in g CO2e per kWh.
    embodied_g : array_like
        Share of the embodied carbon (M), in g CO2e, see `embodied_carbon`.
    functional_units : array_like
        Number of functional units (R): inferences, users, ...; above 0.

    Returns
    -------
    ndarray or float
        As in `edp`.

    Raises
    ------
    ValueError
        As in `edp`.

    References
    ----------
    Green Software Foundation, "Software Carbon Intensity (SCI) Specification", ISO/IEC 21031:2024.

    Examples
    --------
    >>> print(round(sci(1.2, 232.0, embodied_carbon(150_000, 2, 4 * 8760, 1, 8), 1000), 9))
    0.279470205
    """
    energy, intensity, embodied, units = _arrays(
        energy_kwh=(energy_kwh, AMOUNT),
        intensity_g_per_kwh=(intensity_g_per_kwh, AMOUNT),
        embodied_g=(embodied_g, AMOUNT),
        functional_units=(functional_units, DELTA),
    )
    return (energy * intensity + embodied) / units


def zeus_cost(energy_j: Any, time_s: Any, *, eta: Any = 0.5, max_power_w: Any) -> Any:
    """Cost of a training in J: ``eta * energy + (1 - eta) * max_power * time``; 1 counts energy only, 0 time only.

    Parameters
    ----------
    energy_j, time_s : array_like
        Energy in J and time in s, finite and not negative.
    eta : array_like, default 0.5
        Weight of energy against time, 0..1.
    max_power_w : array_like
        Maximum power of the device, in W.

    Returns
    -------
    ndarray or float
        As in `edp`.

    Raises
    ------
    ValueError
        As in `edp`.

    References
    ----------
    You, Chung, Chowdhury, "Zeus: understanding and optimizing GPU energy consumption of DNN training", NSDI 2023.

    Examples
    --------
    >>> print(zeus_cost(3.6e6, 7200.0, eta=0.5, max_power_w=300.0))
    2880000.0
    """
    energy, time, weight, power = _arrays(
        energy_j=(energy_j, AMOUNT), time_s=(time_s, AMOUNT), eta=(eta, ALPHA), max_power_w=(max_power_w, AMOUNT)
    )
    return weight * energy + (1 - weight) * power * time


def netscore(accuracy_percent: Any, parameters_millions: Any, macs_billions: Any) -> Any:
    """NetScore: ``20 * log10(accuracy**2 / (parameters**0.5 * macs**0.5))``, accuracy in percent.

    Parameters
    ----------
    accuracy_percent : array_like
        0..100; 0 scores minus infinity.
    parameters_millions, macs_billions : array_like
        Size of the network in millions of parameters, and of an inference in 1e9 multiply-accumulates; above 0.

    Returns
    -------
    ndarray or float
        As in `edp`.

    Raises
    ------
    ValueError
        As in `edp`.

    References
    ----------
    Wong, "NetScore: towards universal metrics for large-scale performance analysis of deep neural networks for
    practical on-device edge usage", ICIAR 2019.

    Examples
    --------
    >>> print(round(netscore(71.5, 138.36, 15.47), 6))
    40.867233
    """
    accuracy, parameters, macs = _arrays(
        accuracy_percent=(accuracy_percent, _PERCENT),
        parameters_millions=(parameters_millions, DELTA),
        macs_billions=(macs_billions, DELTA),
    )
    return _by_plain_numbers(_netscore, accuracy, parameters, macs)


def _netscore(accuracy: Any, parameters: Any, macs: Any) -> Any:
    with np.errstate(divide="ignore"):
        return 20 * np.log10(accuracy**2 / (parameters**0.5 * macs**0.5))


def _at_target(name: str, values: Any, accuracy: Any, target: Any) -> Any:
    checked = check(name, values, AMOUNT)
    column, fractions = as_numbers(name, checked), as_numbers("accuracy", accuracy)
    check("accuracy", fractions, ACCURACY)
    if np.ndim(target) or np.ma.is_masked(target) or np.isnan(check("target", target, ACCURACY)):
        raise ValueError(f"target must be one number, not {target!r}")
    if fractions.ndim not in (1, 2) or column.shape not in (fractions.shape, fractions.shape[-1:]):
        raise ValueError(f"shapes must fit together, not {name} {column.shape}, accuracy {fractions.shape}")
    reached = fractions >= target
    if fractions.shape[-1] == 0:
        return np.full(fractions.shape[:-1], np.inf)[()]
    at = reached.argmax(axis=-1)

    def there(values: Any) -> Any:
        return np.take_along_axis(np.broadcast_to(values, fractions.shape), at[..., None], axis=-1)[..., 0]

    found = np.where(reached.any(axis=-1), there(column), np.inf)[()]
    if not has_mask(checked):
        return found
    return np.ma.MaskedArray(found, there(np.ma.getmaskarray(checked)) & reached.any(axis=-1))[()]


def time_to_accuracy(time: Any, accuracy: Any, target: float) -> Any:
    """Time of the first checkpoint whose accuracy reaches the target, in the unit of `time`; inf if never reached.

    Parameters
    ----------
    time, accuracy : array_like
        One run as 1-D arrays, or many as 2-D arrays with a row per run. A masked accuracy does not reach the target; a
        masked time of the checkpoint gives a masked result.
    target : float
        The accuracy to reach, 0..1.

    Returns
    -------
    float or ndarray
        A number for one run, an array with a value per run for many.

    Raises
    ------
    ValueError
        If accuracy or target leaves 0..1, a time is negative or infinite, or the shapes do not fit.

    References
    ----------
    Coleman et al., "DAWNBench: an end-to-end deep learning benchmark and competition", 2017.

    Examples
    --------
    >>> print(time_to_accuracy([0.5, 1.0, 1.5], [0.6, 0.8, 0.9], 0.8))
    1.0
    """
    return _at_target("time", time, accuracy, target)


def energy_to_accuracy(energy: Any, accuracy: Any, target: float) -> Any:
    """Energy to the first checkpoint whose accuracy reaches the target, in the unit of `energy`; inf if never reached.

    Parameters
    ----------
    energy : array_like
        Energy since the start of the training, in any unit.
    accuracy, target
        As in `time_to_accuracy`.

    Returns
    -------
    float or ndarray
        As in `time_to_accuracy`.

    Raises
    ------
    ValueError
        As in `time_to_accuracy`.

    References
    ----------
    You, Chung, Chowdhury, NSDI 2023, see `zeus_cost`.

    Examples
    --------
    >>> print(energy_to_accuracy([10.0, 20.0, 30.0], [0.6, 0.8, 0.9], 0.85))
    30.0
    """
    return _at_target("energy", energy, accuracy, target)
