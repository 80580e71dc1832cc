"""What a saved run was, for the head of its report: command, host, processors, versions, launcher."""

from __future__ import annotations

import time
from collections.abc import Mapping

from fastgreen.guards.printable import printable
from fastgreen.results.launcher import recorded_launch
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["began", "identity"]

_LONGEST = 120  # characters of a value


def began(metadata: Mapping[str, Any], start_ns: int) -> str | None:
    """The wall clock at the begin of a run, in UTC; None if its folder does not give it."""
    try:
        at_ns = start_ns + metadata["realtime_ns"] - metadata["monotonic_ns"]
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ns / NS_PER_S))
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _texts(value: object) -> dict[str, str]:
    """The texts of a mapping in a folder, which may hold anything."""
    return {k: v for k, v in value.items() if isinstance(v, str) and v} if isinstance(value, dict) else {}


def _job(words: object, runs: object) -> str | None:
    """Rank, launcher and name of the job; of several runs their number in place of the rank."""
    said = recorded_launch(words)
    rank = f"rank {said.rank} of {said.size}" if said.rank is not None else ""
    parts = [f"{runs} runs" if runs else rank, f"by {said.launcher}" if said.launcher else "", said.job]
    return ", ".join(filter(None, parts)) or None


def _hosts(metadata: Mapping[str, Any]) -> str | None:
    several = metadata.get("hosts")
    return ", ".join(map(str, several)) if isinstance(several, list) else metadata.get("host")


def _place(words: object) -> str | None:
    named = _texts(words)
    return named.get("POD_NAME") or named.get("CONTAINER_NAME")


def identity(metadata: Mapping[str, Any], start_ns: int) -> dict[str, str]:
    """The identity of a run in the order of its report, as ``{"command": "python train.py", "host": ...}``.

    Parameters
    ----------
    metadata : mapping
        `fastgreen.Result.metadata`. A member that is absent, or of another type, is left out.
    start_ns : int
        Begin of the run (ns, monotonic clock).
    """
    machine, packages = _texts(metadata.get("machine")), _texts(metadata.get("packages"))
    words = metadata.get("launcher")
    rows: dict[str, object] = {
        "command": metadata.get("command"),
        "began": began(metadata, start_ns),
        "host": _hosts(metadata),
        "container": _place(words),
        "job": _job(words, metadata.get("runs")),
        "CPU": machine.get("cpu"),
        "GPU": machine.get("gpus"),
        "driver": machine.get("driver"),
        "Python": metadata.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "recorded by": f"fastgreen {metadata['version']}" if isinstance(metadata.get("version"), str) else None,
    }
    return {name: printable(said, most=_LONGEST) for name, said in rows.items() if isinstance(said, str) and said}
