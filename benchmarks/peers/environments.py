# SPDX-License-Identifier: Apache-2.0
"""An environment of its own for each peer, made once by pip from the index that is configured, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from .tools import Tool

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"

__all__ = ["InstallError", "environment", "installed_version"]

PIP_TIMEOUT_S = 600


class InstallError(RuntimeError):
    """A peer could not be installed; the text is pip's last line."""


def environment(tool: Tool, root: Path, run: Callable[[list[str]], None] | None = None) -> Path:
    """The Python that has `tool`; made on the first call, with a stamp that names what was asked for.

    fastgreen's own holds its dependencies and nothing else, as a peer's does; the package comes from this tree. `run`
    runs a command; InstallError when one fails.
    """
    run = run or _run
    packages = list(tool.requirements) or tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    wanted = json.dumps([sys.version_info[:2], packages])
    folder = root / f"{tool.name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    python, stamp = folder / "bin" / "python", folder / "complete"
    if stamp.exists() and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(folder)])
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    stamp.write_text(wanted)
    return python


def installed_version(python: Path, tool: Tool) -> str:
    """The version of the tool's distribution, as its own environment has it."""
    distribution = (tool.requirements or (tool.name,))[0].partition("[")[0]
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() or "this tree"


def _run(command: list[str]) -> None:
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    done = subprocess.run(
        [*nice, *command], capture_output=True, text=True, timeout=PIP_TIMEOUT_S, env=os.environ | {"PIP_NO_INPUT": "1"}
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InstallError(lines[-1] if lines else f"{command[0]} ended with {done.returncode}")
