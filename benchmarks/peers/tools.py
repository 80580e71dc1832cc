# SPDX-License-Identifier: Apache-2.0
"""The tools that are compared: what to install, what a user imports, and how their samples are counted.

Each tool has a file in `adapters/` that uses it as its documentation shows. Nothing here imports any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BINDINGS", "TOOLS", "Tool"]


@dataclass(frozen=True)
class Tool:
    """A tool.

    `requirements` are what pip installs, the tool first (none: run from this tree); `import_line` is what a user
    writes to have it. Samples are counted where they arrive: `reading` is the function of NVML that a round of its
    sampler calls, `readings_per_sample` times.
    """

    name: str
    requirements: tuple[str, ...]
    import_line: str
    reading: str = "nvmlDeviceGetPowerUsage"
    readings_per_sample: int = 1
    note: str = ""


TOOLS = (
    Tool("fastgreen", (), "import fastgreen; fastgreen.Monitor", "nvmlDeviceGetTotalEnergyConsumption"),
    Tool("zeus", ("zeus",), "from zeus.monitor import ZeusMonitor", "field:186"),
    Tool(
        "codecarbon",
        ("codecarbon",),
        "from codecarbon import OfflineEmissionsTracker",
        "nvmlDeviceGetTotalEnergyConsumption",
    ),
    Tool("pyrapl", ("pyRAPL",), "import pyRAPL"),
    Tool("pyjoules", ("pyJoules[nvidia]",), "from pyJoules.energy_meter import EnergyMeter"),
    Tool("nvitop", ("nvitop",), "from nvitop import ResourceMetricCollector"),
    Tool("perun", ("perun[nvidia]",), "from perun import monitor"),
    Tool("carbontracker", ("carbontracker",), "from carbontracker.tracker import CarbonTracker"),
    Tool("eco2ai", ("eco2ai", "setuptools<81", "pandas<3"), "from eco2ai import Tracker"),
)

# Bindings of NVML, of which only the price of one call is compared.
BINDINGS = (
    Tool("nvidia-ml-py", ("nvidia-ml-py",), "import pynvml"),
    Tool("cuda-bindings", ("cuda-bindings", "numpy"), "from cuda.bindings import nvml"),
)
