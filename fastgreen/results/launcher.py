# SPDX-License-Identifier: Apache-2.0
"""What a launcher tells a process: its rank, how many there are, and the job. torchrun, srun, mpirun and PMI.

Names of variables: https://docs.pytorch.org/docs/stable/elastic/run.html (torchrun), ``man srun``, OUTPUT ENVIRONMENT
VARIABLES (Slurm), https://docs.open-mpi.org, "Environment variables that Open MPI sets" (Open MPI), and the PMI-1 of
MPICH's Hydra.
"""

from __future__ import annotations

import os

from fastgreen._light_dataclass import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Place", "launcher_words", "place_of"]

# Rank and size; srun sets the step as well, the shell of sbatch does not, though it has rank 0.
_RANKS = (
    ("RANK", "WORLD_SIZE", None),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", None),
    ("PMI_RANK", "PMI_SIZE", None),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID"),
)
_JOBS = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "PBS_JOBID", "LSB_JOBID")
_WORDS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
    *("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
    *("SLURM_STEP_NUM_TASKS", "SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"),
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE"),
    *("PBS_JOBID", "LSB_JOBID", "POD_NAME", "POD_NAMESPACE", "NODE_NAME", "CONTAINER_NAME", "container"),
)
_LONGEST = 256  # characters of one word


@dataclass(frozen=True)
class Place:
    """Where a process stands in its job.

    Attributes
    ----------
    rank, size : int
    job : str
        Id of the job; empty where the launcher gives none.
    """

    rank: int
    size: int
    job: str = ""


def place_of(words: Mapping[str, str]) -> Place | None:
    """The place that the words of a launcher give; None for a process that no launcher started.

    Parameters
    ----------
    words : mapping
        The environment of a process, or `launcher_words` of one.
    """
    for rank, size, step in _RANKS:
        if rank not in words or size not in words or (step is not None and not words.get(step, "").isdigit()):
            continue
        found = words[rank], words[size]
        if all(text.isascii() and text.isdigit() and len(text) < 10 for text in found) and int(found[1]) > 0:
            job = next((words[name] for name in _JOBS if words.get(name, "none") != "none"), "")
            return Place(int(found[0]), int(found[1]), job)
    return None


def launcher_words(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of launchers, pods and containers that the environment has."""
    return {name: environ[name][:_LONGEST] for name in _WORDS if environ.get(name)}
