"""Runs of a study that AIPowerMeter measured: energy, memory and use of an inference, by one of two rules."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.recordings.energy_rules import median_energies
from fastgreen.recordings.readers.aipowermeter import read_aipowermeter

__all__ = ["RULES", "load_published"]

# The remark of each rule for the tables.
RULES: dict[str, list[str]] = {
    "integral": [],
    "aipowermeter": [
        "by AIPowerMeter's rule: median of the steps times their number, for energy, memory and use of its runs; "
        "such an energy has no bounds"
    ],
}
_GAUGES = {
    "cpu_use": ("process/cpu_use",),
    "memory_b": ("process/memory", "process/memory_uss", "memory"),
    "gpu_use": ("gpu_use",),
    "gpu_memory_b": ("gpu_memory", "process/gpu_memory"),
}


def load_published(run: Any, place: Path, rule: str) -> None:
    """Fill a run of a study from a folder of AIPowerMeter."""
    recording = read_aipowermeter(place)
    if recording.latency_s is None or not recording.latency_s.size:
        run.state, run.note = "empty", "no latencies: the energy of one inference is not known"
        return
    run.energy.latency_s = recording.latency_s
    count = run.latency_s.size
    rows = recording.channels.to_pylist()
    own = rule == "aipowermeter"
    run.gauges = _gauges({row["id"]: _per_inference(recording, row, count) if own else row["mean"] for row in rows})
    medians = median_energies(recording) if own else {}
    for row in rows:
        if row["energy_j"] is not None and (not own or row["id"] in medians):
            joules = (medians[row["id"]],) * 3 if own else (row["energy_j"], row["energy_low_j"], row["energy_high_j"])
            run.channels[row["id"]] = (*(j / count for j in joules), row["mean_power_w"])
            if row["root"]:
                run.counted.append(row["id"])
    if not run.channels:
        run.state, run.note = "empty", "; ".join(recording.notes) or "no power in the recording"


def _per_inference(recording: Any, row: dict[str, Any], count: int) -> float | None:
    """The median of a gauge times its readings, for each inference, as AIPowerMeter's tables have it."""
    if row["kind"] != "gauge" or not row["samples"]:
        return None
    value = recording.points(row["id"])[2]
    value = value[np.isfinite(value)]
    middle = float(np.median(value)) if value.size else math.nan
    return middle * value.size / count if math.isfinite(middle) else None


def _gauges(values: dict[str, float | None]) -> dict[str, float]:
    """Values of AIPowerMeter's channels; for each quantity, the first of its channels that exists."""
    out = {}
    for name, channels in _GAUGES.items():
        value = next((values[c] for c in channels if values.get(c) is not None), None)
        if value is not None:
            out[name] = value
    return out
