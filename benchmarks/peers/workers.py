# SPDX-License-Identifier: Apache-2.0
"""A tool at work in a process of its own, seen from outside: what it says, its CPU time, its memory."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

__all__ = ["CaseError", "Worker", "cpu_s", "memory_bytes"]

HERE = Path(__file__).parent


class CaseError(RuntimeError):
    """A tool could not do a case; the text says why."""


def processes(pid: int) -> list[int]:
    """The process and all its descendants."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return [pid]


def cpu_s(pid: int) -> float:
    """CPU time of a process and its living descendants so far, to the nanosecond."""
    total = 0.0
    for member in processes(pid):
        try:
            total += time.clock_gettime((~member << 3) | 2)  # Linux: the CPU clock of any process
        except OSError:
            continue
    return total


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; what they share counts once (proportional set size)."""
    total = 0
    for member in processes(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


class Worker:
    """One case of one tool. A context manager; leaving it ends all of its processes."""

    def __init__(self, python: Path, tool: str, case: str, env: dict[str, str], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._errors = folder / f"{tool}-{case}.log"
        adapter = HERE / "adapters" / f"{tool}.py"
        with open(self._errors, "w") as errors:
            self._process = subprocess.Popen(
                [str(python), "-P", str(HERE / "worker.py"), str(adapter), case],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env=env | {"HOME": str(folder)},
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._heard = b""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *unused: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()

    def tell(self, options: dict[str, Any]) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(options).encode() + b"\n")
            self._process.stdin.flush()

    def hear(self, timeout_s: float) -> dict[str, Any]:
        """The worker's next line; CaseError when it ended instead, or said nothing for so long."""
        end = time.monotonic() + timeout_s
        pipe = self._process.stdout
        if pipe is None:
            raise CaseError("no pipe")
        while b"\n" not in self._heard:
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise CaseError(f"no answer within {timeout_s:.0f} s")
            part = os.read(pipe.fileno(), 65536)
            if not part:
                raise CaseError(self._last_words())
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        return json.loads(line)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else f"ended with {self._process.wait()} and no message"
