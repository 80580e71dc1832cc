"""The estimate from CPU time, for machines whose CPU has no counter that may be read."""

from __future__ import annotations

from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import Channel, Found, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_MS

__all__ = ["IDLE_W_PER_CPU", "MAX_W_PER_CPU", "procstat"]

# Cloud Carbon Footprint, "Methodology", average over its server microarchitectures: watts per virtual CPU.
IDLE_W_PER_CPU = 0.74
MAX_W_PER_CPU = 3.50


def _holds_cpu_times(text: str) -> bool:
    """Whether the file begins as the engine wants it: "cpu", then user, nice, system, idle and perhaps more."""
    name, *times = text.partition("\n")[0].split() or [""]
    return name == "cpu" and len(times) >= 4 and all(t.isascii() and t.isdigit() and len(t) < 19 for t in times)


def procstat(seams: Seams, estimate: tuple[float, float] | None) -> Found:
    path = f"{seams.proc_root}/stat"
    text = sysfs.text(path)
    if text is None or not _holds_cpu_times(text):
        return [], SourceStatus("procstat", 0, f"{path} cannot be read or has no CPU times")
    cpus = max(1, sum(line[:3] == "cpu" and line[3:4].isdecimal() for line in text.splitlines()))
    if estimate is None:
        idle_w, max_w = IDLE_W_PER_CPU * cpus, MAX_W_PER_CPU * cpus
        origin = f"{IDLE_W_PER_CPU} to {MAX_W_PER_CPU} W per CPU, a published mean"
    else:
        idle_w, max_w = estimate
        origin = "as given"
    channel = Channel(
        id="procstat:cpu",
        source="procstat",
        kind="energy",
        name=f"{cpus} CPUs",
        unit="uJ",
        estimated=True,
        note=f"estimated for the whole machine: {idle_w:.4g} W idle to {max_w:.4g} W busy ({origin})",
        floor_w=idle_w,
        ceiling_w=max_w,
        sensor={"path": path, "idle_mw": round(idle_w * 1000), "slope_mw": round((max_w - idle_w) * 1000 / cpus)},
        traits=traits("energy", "uJ", period_ns=10 * NS_PER_MS),
    )
    return [channel], SourceStatus("procstat", 1)
