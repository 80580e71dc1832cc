"""fastgreen: how much energy each piece of work used, and how sure that is.

The map of the package, from the bottom up. An import points only down; tests/project/layers.py has the whole table::

    errors, units                     words and units that everything shares
    _resolver, _core, _window         the doors to C: samples into joules, the sampling engine, windows
    _shares, _ledger                  the same for work that overlaps
    _kernels                          the door to C of the metrics
    sensors                           which channels this machine has
    metrics, ufuncs                   APC, APEC, TTCAPC, TTCAPEC, and sweeps over grids
    results, training                 energy with bounds; training logs
    measuring, recordings, plot       the monitor; recordings of other tools; pictures
    estimate, experiment              predictions without a run; studies
    commands, cli                     the command line

Names load on first use (PEP 562). A monitor measures without NumPy, which loads with the first number of a result.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

# public name -> the module that defines it; a name that is a module itself maps to None.
_HOME: dict[str, str | None] = {
    "Channel": "sensors.channel",
    "Closest": "metrics.closest",
    "GpuWindows": "measuring.gpu_windows",
    "Monitor": "measuring.monitor",
    "Result": "results.result",
    "Sweep": "metrics.sweep",
    "apc": "metrics.scores",
    "apec": "metrics.scores",
    "calibrate": "measuring.calibration",
    "channels": "sensors.catalog",
    "closest_apc": "metrics.closest",
    "closest_apec": "metrics.closest",
    "current_span": "measuring.ledger",
    "errors": None,
    "estimate": None,
    "experiment": None,
    "load": "results.result",
    "measure": "measuring.measure",
    "metrics": None,
    "open_sweep": "metrics.stored_sweep",
    "plot": None,
    "time_to_closest_apc": "metrics.closest",
    "time_to_closest_apec": "metrics.closest",
    "ttcapc": "metrics.closest",
    "ttcapec": "metrics.closest",
    "ufuncs": None,
    "weighted_consumption": "metrics.scores",
}

# The compiled modules. `from fastgreen import _core` asks here first, so this is where a missing one is first noticed.
_DOORS = ("_core", "_kernels", "_ledger", "_resolver", "_shares", "_window")

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        return _door(name)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME[name]
    value = importlib.import_module(f"{__name__}.{home or name}")
    if home is not None:
        value = getattr(value, name)
    globals()[name] = value
    return value


def _door(name: str) -> Any:
    """Import a compiled module; where it is missing, say what to do."""
    whole = f"{__name__}.{name}"
    try:
        return importlib.import_module(whole)
    except ModuleNotFoundError as error:
        if error.name != whole:
            raise
        raise ImportError(
            f"fastgreen is imported from its source folder, {__path__[0]}, where {name} is not compiled for this "
            "Python: change to another folder to use the installed package, or run `pip install --editable .` in "
            "this one",
            name=whole,
            path=error.path,
        ) from None


def __dir__() -> list[str]:
    return __all__
