"""fastgreen: energy of code and of trained models, in joules with bounds.

The parts of the package, from the bottom up. A part imports only parts above it in this list; tests/project/layers.py
has the full table::

    errors, units                     errors and units for all parts
    _resolver, _core, _window         bindings to C: samples to joules, the sampling engine, windows
    _follow                           bindings to C: estimates that follow the load
    _shares, _ledger, _steps          bindings to C: work that overlaps
    _kernels                          bindings to C: the metrics
    sensors                           the channels of this machine
    costs                             prices and carbon intensities of electricity
    metrics, ufuncs                   APC, APEC, TTCAPC, TTCAPEC, and sweeps over grids
    results, training                 energy with bounds; training logs
    measuring, recordings, plot       the monitor; recordings of other tools; pictures
    reports, export, distributed      comparisons, pages and timelines of runs; exporters for fleets; clusters
    serving                           energy of requests: ASGI, vLLM, transformers
    estimate, experiment              predictions without a run; studies
    notebook                          `%load_ext fastgreen`: curves beside tables, and `%%energy`
    commands, cli                     the command line

Names load on first use (PEP 562). A monitor measures without NumPy; NumPy loads with the first number of a result.
"""

from __future__ import annotations

import importlib
import importlib.util

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it; None if the name is a module.
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
    "compare": "reports.compare",
    "current_span": "measuring.ledger",
    "distributed": None,
    "errors": None,
    "estimate": None,
    "experiment": None,
    "export": None,
    "fit_weights": "results.step_weights",
    "load": "results.loading",
    "merge": "results.loading",
    "measure": "measuring.measure",
    "metrics": None,
    "open_sweep": "metrics.stored_sweep",
    "plot": None,
    "time_to_closest_apc": "metrics.closest",
    "time_to_closest_apec": "metrics.closest",
    "to_html": "reports.page",
    "ttcapc": "metrics.closest",
    "ttcapec": "metrics.closest",
    "ufuncs": None,
    "weighted_consumption": "metrics.scores",
}

# The compiled modules. `from fastgreen import _core` comes here first, so a missing module is noticed here.
_DOORS = ("_core", "_follow", "_kernels", "_ledger", "_resolver", "_shares", "_steps", "_window")
_ENGINE = ("_core", "_ledger", "_steps", "_window")
_NO_ENGINE = (
    "this build of fastgreen cannot measure, because the engine needs Linux on x86-64 or aarch64: it reads saved runs, "
    "and computes metrics, sweeps and estimates"
)

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        return _door(name)
    if name not in _HOME:
        return _deprecated(name)
    home = _HOME[name]
    try:
        value = importlib.import_module(f"{__name__}.{home or name}")
    except ImportError as error:
        if home is None or str(error) != _NO_ENGINE:
            raise
        return _without_engine(name)
    if home is not None:
        value = getattr(value, name)
    globals()[name] = value
    return value


def _without_engine(name: str) -> Any:
    """The stand-in of a name that measures, in a build without the engine: a call of it raises the one sentence."""

    def __init__(self: object, *args: object, **options: object) -> None:
        raise ImportError(_NO_ENGINE)

    return type(name, (), {"__doc__": _NO_ENGINE, "__module__": __name__, "__init__": __init__})


def _has_engine() -> bool:
    """Whether this build can measure: only on Linux does it hold more than the portable modules."""
    find = importlib.util.find_spec
    return find(f"{__name__}._kernels") is None or find(f"{__name__}._core") is not None


def _deprecated(name: str) -> Any:
    """The successor of a deprecated name, with a warning; AttributeError for other names."""
    deprecation = importlib.import_module(f"{__name__}.guards.deprecation")
    if name not in deprecation.RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    notice = deprecation.RENAMED[name]
    deprecation.warn(f"{__name__}.{name}", notice._replace(instead=f"{__name__}.{notice.instead}"), stacklevel=3)
    return __getattr__(notice.instead)


def _door(name: str) -> Any:
    """Import a compiled module; if it is missing, the ImportError shows the fix."""
    full_name = f"{__name__}.{name}"
    try:
        return importlib.import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            raise
        if name in _ENGINE and not _has_engine():
            raise ImportError(_NO_ENGINE, name=full_name, path=error.path) from None
        raise ImportError(
            f"{name} is not compiled for this Python in the source folder {__path__[0]}: use the package from "
            "another folder, or run `pip install --editable .` in the clone",
            name=full_name,
            path=error.path,
        ) from None


def load_ipython_extension(shell: Any) -> None:
    """Make ``%load_ext fastgreen`` work: see `fastgreen.notebook`."""
    importlib.import_module(f"{__name__}.notebook").load(shell)


def __dir__() -> list[str]:
    return __all__
