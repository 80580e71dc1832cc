# SPDX-License-Identifier: Apache-2.0
"""Sweeps on a Dask cluster, and the energy of Dask's tasks."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastgreen.distributed.sweep_answers import best as best
    from fastgreen.distributed.sweep_answers import where as where
    from fastgreen.distributed.sweep_dataset import write as write
    from fastgreen.distributed.task_energy import TaskEnergy as TaskEnergy

_HOME: dict[str, str | None] = {
    "TaskEnergy": ".task_energy",
    "best": ".sweep_answers",
    "where": ".sweep_answers",
    "write": ".sweep_dataset",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home, __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__
