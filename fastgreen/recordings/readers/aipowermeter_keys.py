"""Keys of AIPowerMeter's ``power_metrics.json``, of all versions, and the channel of each."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CHANNELS", "KEYS", "KNOWN_KEYS", "PER_GPU", "STREAMING", "Key"]


class Key(NamedTuple):
    """One quantity: its keys in older and newer versions of the format, and its channel here."""

    name: str
    part: str
    keys: tuple[str, ...]
    kind: str = "power"
    unit: str = "W"
    root: bool = False
    parent: str = ""
    scale: tuple[float, ...] = (1.0,)


# The first key with a value counts. A dict by process is summed; each entry of a dict by GPU is a channel of `PER_GPU`.
KEYS = (
    Key("package", "cpu", ("intel_power",), root=True),
    Key("core", "cpu", ("total_cpu_power",), parent="package"),
    Key("uncore", "cpu", ("uncore_power",), parent="package"),
    Key("psys", "cpu", ("psys_power",)),
    Key("dram", "cpu", ("total_dram_power",), root=True),
    Key("process/package", "cpu", ("rel_intel_power",), parent="package"),
    Key("process/core", "cpu", ("per_process_cpu_power",), parent="core"),
    Key("process/dram", "cpu", ("per_process_dram_power",), parent="dram"),
    Key("memory", "cpu", ("total_mem_use",), "gauge", "B"),
    Key("process/memory", "cpu", ("per_process_mem_use_abs",), "gauge", "B"),
    Key("process/memory_uss", "cpu", ("per_process_mem_use_uss",), "gauge", "B"),
    Key("process/memory_use", "cpu", ("per_process_mem_use_percent",), "gauge", "1"),
    Key("process/cpu_use", "cpu", ("per_process_cpu_uses",), "gauge", "1"),
    Key("process/cpu_time", "cpu", ("absolute_cpu_time_per_pid",), "gauge", "s"),
    Key("gpu", "gpu", ("nvidia_draw_absolute", "nvidia_power"), root=True),
    Key("process/gpu", "gpu", ("nvidia_estimated_attributable_power_draw",), parent="gpu"),
    Key("gpu_memory", "gpu", ("nvidia_memory",), "gauge", "B"),
    Key("process/gpu_memory", "gpu", ("per_gpu_attributable_mem_use",), "gauge", "B"),
    Key("gpu_use", "gpu", ("nvidia_use_rate",), "gauge", "1", scale=(0.01,)),
)
PER_GPU = (
    Key("gpu:{}", "gpu", ("per_gpu_power_draw", "per_gpu_power", "per_gpu_nvidia_power"), parent="gpu"),
    Key("process/gpu:{}", "gpu", ("per_gpu_attributable_power",), parent="gpu:{}"),
    Key("gpu_memory:{}", "gpu", ("per_gpu_memory", "per_gpu_nvidia_memory"), "gauge", "B"),
    Key(
        "gpu_use:{}",
        "gpu",
        ("per_gpu_absolute_percent_usage", "per_gpu_use_rate", "per_gpu_nvidia_use_rate"),
        "gauge",
        "1",
        scale=(1.0, 0.01, 0.01),
    ),
    Key("process/gpu_use:{}", "gpu", ("per_gpu_estimated_attributable_utilization",), "gauge", "1"),
)
STREAMING = (
    "per_gpu_average_estimated_utilization_absolute"  # oldest version: a list of processes with their percent of SMs
)
_UNUSED = frozenset({STREAMING, "per_gpu_per_pid_utilization_absolute", "per_gpu_performance_state", "date"})
CHANNELS = [key.name for key in KEYS]
KNOWN_KEYS = frozenset(n for key in (*KEYS, *PER_GPU) for n in key.keys) | _UNUSED
