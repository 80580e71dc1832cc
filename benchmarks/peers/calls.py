# SPDX-License-Identifier: Apache-2.0
"""Time of one NVML call through each Python binding and from C, as in fastgreen's sampler, in the same library."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.fakes.build import build
from tests.fakes.nvml import FakeNvml

from .environments import InstallError, environment, installed_version
from .table import Figure
from .tools import Tool

__all__ = ["measure"]

CALLS, BLOCKS = 2000, 15
LOOP = f"""
import time
for _ in range({BLOCKS}):
    start = time.perf_counter_ns()
    for _ in range({CALLS}):
        read(device)
    print((time.perf_counter_ns() - start) / {CALLS})
"""
PROGRAMS = {
    "nvidia-ml-py": """
import pynvml
pynvml.nvmlInit()
device, read = pynvml.nvmlDeviceGetHandleByIndex(0), pynvml.nvmlDeviceGetTotalEnergyConsumption
""",
    "cuda-bindings": """
from cuda.bindings import nvml
nvml.init_v2()
device, read = nvml.device_get_handle_by_index_v2(0), nvml.device_get_total_energy_consumption
""",
}


def measure(nvml: FakeNvml, tools: Sequence[Tool], venvs: Path, versions: dict[str, str]) -> list[Figure]:
    """A figure for C, and one for each binding."""
    program = build("bare_call", (Path(__file__).with_name("bare_call.c"),), (), ())
    figures = [_timed("C, as in fastgreen's sampler", [str(program), str(nvml.library), str(CALLS), str(BLOCKS)], nvml)]
    for tool in tools:
        try:
            python = environment(tool, venvs).absolute()
        except InstallError as error:
            figures.append(Figure(tool.name, "call", "why not", "", None, note=str(error)))
            continue
        versions[tool.name] = installed_version(python, tool)
        figures.append(_timed(tool.name, [str(python), "-P", "-c", PROGRAMS[tool.name] + LOOP], nvml))
    return figures


def _timed(name: str, command: list[str], nvml: FakeNvml) -> Figure:
    env = dict(os.environ) | {"LD_LIBRARY_PATH": str(nvml.folder)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=nvml.folder, timeout=120)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return Figure(name, "call", "why not", "", None, note=last[:200])
    seconds = [float(line) * 1e-9 for line in done.stdout.split()]
    low, _, high = statistics.quantiles(seconds, n=4)
    return Figure(name, "call", "time", "s", statistics.median(seconds), low, high, len(seconds))
