# SPDX-License-Identifier: Apache-2.0
"""Energy beside the loss curve: numbers for MLflow, Weights & Biases and TensorBoard.

A tracker is a function of a dictionary of numbers and a step. `energy_callback` calls it; so can a loop of yours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

__all__ = ["mlflow_tracker", "scalars_of", "tensorboard_tracker", "wandb_tracker"]


def mlflow_tracker(run_id: str | None = None) -> Callable[[dict[str, float], int], None]:
    """A tracker for the active run of MLflow, or for the run of this id."""
    import mlflow

    def track(scalars: dict[str, float], step: int) -> None:
        mlflow.log_metrics(scalars, step=step, run_id=run_id)

    return track


def wandb_tracker(run: Any) -> Callable[[dict[str, float], int], None]:
    """A tracker for a run of Weights & Biases, as ``wandb.init`` returns it; the numbers have a step of their own."""
    run.define_metric("energy/step")
    run.define_metric("energy/*", step_metric="energy/step")

    def track(scalars: dict[str, float], step: int) -> None:
        run.log({**scalars, "energy/step": step})

    return track


def tensorboard_tracker(writer: Any) -> Callable[[dict[str, float], int], None]:
    """A tracker for a ``SummaryWriter`` of TensorBoard (torch.utils.tensorboard, tensorboardX)."""

    def track(scalars: dict[str, float], step: int) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)

    return track


def scalars_of(result: Any) -> dict[str, float]:
    """Numbers of a finished run for a tracker: its total, and the mean energy of each window, with bounds.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of str to float
        ``energy/run_j``, ``energy/run_low_j``, ..., ``energy/step/mean_j``; values that are not known are left out.
    """
    found = {"energy/run_j": result.energy_j, "energy/run_low_j": result.energy_low_j}
    found |= {"energy/run_high_j": result.energy_high_j, "energy/run_power_w": result.mean_power_w}
    for row in result.summary().to_pylist():
        for part in ("", "_low", "_high"):
            found[f"energy/{row['name']}/mean{part}_j"] = row[f"mean_energy{part}_j"]
    return {name: float(x) for name, x in found.items() if x is not None and math.isfinite(x)} if result.known else {}
