# SPDX-License-Identifier: Apache-2.0
"""Sweeps on a Dask cluster, and the energy of Dask's tasks."""

from __future__ import annotations

from fastgreen.guards.lazy_names import lazy_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.distributed.sweep_answers import best as best
    from fastgreen.distributed.sweep_answers import where as where
    from fastgreen.distributed.sweep_dataset import write as write
    from fastgreen.distributed.task_energy import TaskEnergy as TaskEnergy

_HOME = {
    "TaskEnergy": ".task_energy",
    "best": ".sweep_answers",
    "where": ".sweep_answers",
    "write": ".sweep_dataset",
}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
