"""What ties a run's time axis and numbers to the world, and what the run was."""

from __future__ import annotations

import os
import sys
import time

from fastgreen import __version__
from fastgreen.guards.printable import encodable
from fastgreen.results.launcher import Launch, launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FORMAT", "run_metadata", "started"]

FORMAT = 1  # of the files of a run
_LONGEST = 500  # characters of a command
_PACKAGES = ("torch", "tensorflow", "jax", "transformers", "lightning", "vllm", "onnxruntime", "sklearn", "numpy")


def _packages() -> dict[str, str]:
    """Versions of the packages that the program has loaded."""
    found = ((name, getattr(sys.modules.get(name), "__version__", None)) for name in _PACKAGES)
    return {name: encodable(str(version)) for name, version in found if isinstance(version, str)}


def _command() -> str:
    from shlex import join

    text = encodable(join(getattr(sys, "orig_argv", sys.argv)))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def run_metadata(
    boot: str = "", machine: dict[str, str] | None = None, clock_error_s: float | None = None
) -> dict[str, Any]:
    """Format, package version, host, one instant on the realtime and the monotonic clock, and what the run was.

    Parameters
    ----------
    boot : str
        The boot id of the host.
    machine : dict of str, optional
        Names of its CPU, GPUs and driver.
    clock_error_s : float, optional
        The most that its wall clock can be off by; None where nothing disciplines the clock.
    """
    before = time.monotonic_ns()
    realtime_ns = time.time_ns()
    monotonic_ns = (before + time.monotonic_ns()) // 2
    return {
        "format": FORMAT,
        "version": __version__,
        "host": encodable(os.uname().nodename),
        "realtime_ns": realtime_ns,
        "monotonic_ns": monotonic_ns,
        "boot": boot,
        "pid": os.getpid(),
        "command": _command(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": _packages(),
        "machine": dict(machine or {}),
        "launcher": launch().words,
        "clock_error_s": clock_error_s,
    }


def started(said: Launch) -> str:
    """The start as 20261126-195240 (UTC), the same for the ranks of a job on one host: of the job, or its launcher."""
    began = said.words.get("SLURM_JOB_START_TIME", "")
    if said.rank is not None and began.isdigit() and len(began) < 12:
        at_s = float(began)
    elif said.rank is not None:
        import psutil

        at_s = psutil.Process(os.getppid()).create_time()
    else:
        at_s = run_metadata()["realtime_ns"] / 1e9
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(at_s))
