"""fastgreen: how much energy each piece of work used, and how sure that is.

The map of the package, an arrow never pointing up or sideways::

    errors, units  <-  _core (the engine's door to C), _kernels (the metrics' door to C)
                   <-  catalog, metrics, arrow  <-  result, sweep  <-  monitor  <-  plot, cli

Names load on first use (PEP 562), and a monitor measures without NumPy: that loads when numbers are asked for.
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

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME[name]
    value = importlib.import_module(f"{__name__}.{home or name}")
    if home is not None:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
