# SPDX-License-Identifier: Apache-2.0
"""The launcher of this process: torchrun, Slurm or MPI give each rank its number in environment variables.

The variables are those of torch.distributed.run (https://docs.pytorch.org/docs/stable/elastic/run.html), of srun
(https://slurm.schedmd.com/srun.html), of Open MPI's mpirun, and of PMI, which MPICH and Intel MPI set.
"""

from __future__ import annotations

import os

from fastgreen._light_dataclass import dataclass, field
from fastgreen.guards.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Launch", "launch", "recorded_launch"]

_WORDS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"),
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
    *("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    *("SLURM_NODEID", "SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_START_TIME"),
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_MCA_ess_base_jobid"),
    *("PMI_RANK", "PMI_SIZE", "PMI_LOCAL_RANK", "PMIX_RANK", "PMIX_NAMESPACE"),
    *("POD_NAME", "POD_NAMESPACE", "NODE_NAME", "JOB_COMPLETION_INDEX", "CONTAINER_NAME"),
)
_LONGEST = 200  # characters of a word
_MOST_RANKS = 1 << 24
# Steps of Slurm with such a number are the shells of salloc and sbatch, and no job of ranks (slurm.h, SLURM_MAX_*).
_FIRST_SPECIAL_STEP = 0xFFFFFFF0


@dataclass(frozen=True)
class Launch:
    """What a launcher said.

    Attributes
    ----------
    rank, size : int or None
        Number of this process in its job, and how many there are; None outside of a launcher.
    launcher : str
        ``torchrun``, ``Slurm``, ``Open MPI`` or ``PMI``; empty outside of a launcher.
    job : str
        What the launcher calls the job, as ``Slurm job 17``; empty where it has no name.
    words : dict of str
        The variables themselves.
    """

    rank: int | None = None
    size: int | None = None
    launcher: str = ""
    job: str = ""
    words: dict[str, str] = field(default_factory=dict)


def launch(environment: Mapping[str, str] | None = None) -> Launch:
    """What the launcher says in `environment`, by default that of this process.

    The innermost launcher counts: torchrun inside a step of Slurm numbers the ranks. Rank 0 in the shell of sbatch or
    salloc, and a step of one task, are no job of ranks.
    """
    given = os.environ if environment is None else environment
    words = {name: printable(given[name], most=_LONGEST) for name in _WORDS if given.get(name)}
    if "KUBERNETES_SERVICE_HOST" in given and "POD_NAME" not in words and given.get("HOSTNAME"):
        words["POD_NAME"] = printable(given["HOSTNAME"], most=_LONGEST)  # Kubernetes names the host of a pod after it
    return _of_words(words)


def _of_words(words: Mapping[str, str]) -> Launch:
    rank, size, launcher = _rank(words)
    return Launch(rank, size, launcher, _job(words), dict(words))


def recorded_launch(words: object) -> Launch:
    """The same of words that a run folder has, which may be anybody's."""
    if not isinstance(words, dict):
        return Launch()
    return _of_words({k: v for k, v in words.items() if k in _WORDS and isinstance(v, str)})


def _rank(words: Mapping[str, str]) -> tuple[int | None, int | None, str]:
    if "TORCHELASTIC_RUN_ID" in words or "LOCAL_RANK" in words:  # RANK alone may be anything
        found = _pair(words, "RANK", "WORLD_SIZE")
        if found is not None:
            return (*found, "torchrun")
    found = _pair(words, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
    if found is not None:
        return (*found, "Open MPI")
    step = _whole(words.get("SLURM_STEP_ID"))
    if step is not None and step < _FIRST_SPECIAL_STEP:
        found = _pair(words, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
        return (None, None, "") if found is None or found[1] == 1 else (*found, "Slurm")
    found = _pair(words, "PMI_RANK", "PMI_SIZE")
    return (None, None, "") if found is None else (*found, "PMI")


def _pair(words: Mapping[str, str], rank_name: str, size_name: str) -> tuple[int, int] | None:
    rank, size = _whole(words.get(rank_name)), _whole(words.get(size_name))
    return None if rank is None or size is None or not rank < size <= _MOST_RANKS else (rank, size)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 12 else None


def _job(words: Mapping[str, str]) -> str:
    if "SLURM_JOB_ID" in words:
        return f"Slurm job {words['SLURM_JOB_ID']}"
    run = words.get("TORCHELASTIC_RUN_ID", "none")
    if run != "none":
        return f"torchrun job {run}"
    return f"MPI job {words['PMIX_NAMESPACE']}" if "PMIX_NAMESPACE" in words else ""
