"""What ties a run to the world: its time axis, its machine, its program, and its place in a job."""

from __future__ import annotations

import os
import sys
import time

from fastgreen import __version__
from fastgreen.guards.printable import encodable
from fastgreen.results.launcher import launcher_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FORMAT", "boot_id", "run_metadata"]

FORMAT = 1  # of the files of a run
# Packages whose versions tell what ran, if the program has loaded them.
_PACKAGES = ("numpy", "pyarrow", "torch", "transformers", "jax", "tensorflow", "vllm", "lightning", "keras", "sklearn")
_LONGEST = 1000  # characters of a command


def run_metadata(proc_root: str | None = None, clock_error_s: float | None = None) -> dict[str, Any]:
    """Format, version, host and one instant on the realtime and the monotonic clock; the machine and the program.

    Parameters
    ----------
    proc_root : str, optional
        ``FASTGREEN_PROC_ROOT`` by default, or ``/proc``.
    clock_error_s : float, optional
        The most that the wall clock can be off by.
    """
    proc = proc_root or os.environ.get("FASTGREEN_PROC_ROOT") or "/proc"
    before = time.monotonic_ns()
    realtime_ns = time.time_ns()
    metadata = {
        "format": FORMAT,
        "version": __version__,
        "host": encodable(os.uname().nodename),
        "realtime_ns": realtime_ns,
        "monotonic_ns": (before + time.monotonic_ns()) // 2,
        "pid": os.getpid(),
        "boot_id": boot_id(proc),
        "command": encodable(" ".join(getattr(sys, "orig_argv", sys.argv))[:_LONGEST]),
        "python": sys.version.split()[0],
        "packages": _versions(),
        "cpu": _after_colon(f"{proc}/cpuinfo", ("model name", "Model", "CPU part")),
        "gpu_driver": _first_line(f"{proc}/driver/nvidia/version"),
    }
    metadata["launcher"] = {name: encodable(text) for name, text in launcher_words().items()}
    metadata["clock_error_s"] = clock_error_s
    return {name: value for name, value in metadata.items() if value not in (None, "", {})}


def boot_id(proc_root: str = "/proc") -> str | None:
    """The id of this boot of the kernel, which all containers of a host share; None where it cannot be read."""
    return _first_line(f"{proc_root}/sys/kernel/random/boot_id")


def _versions() -> dict[str, str]:
    found = {name: getattr(sys.modules.get(name), "__version__", None) for name in _PACKAGES}
    return {name: encodable(str(version)) for name, version in found.items() if version is not None}


def _first_line(path: str) -> str | None:
    lines = _lines(path)
    return lines[0].strip() if lines else None


def _after_colon(path: str, names: tuple[str, ...]) -> str | None:
    for line in _lines(path):
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).splitlines()
    except OSError:
        return []
