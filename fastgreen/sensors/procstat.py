"""The estimate from CPU time, for machines without a readable counter of the CPU."""

from __future__ import annotations

import os

from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import Channel, Found, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_MS, NS_PER_S

__all__ = ["IDLE_W_PER_CPU", "MAX_W_PER_CPU", "cpu_times_ns", "procstat"]

# Cloud Carbon Footprint, "Methodology", average over its server microarchitectures: watts per virtual CPU.
IDLE_W_PER_CPU = 0.74
MAX_W_PER_CPU = 3.50


def _holds_cpu_times(text: str) -> bool:
    """Whether the file begins as the engine wants it: "cpu", then user, nice, system, idle and perhaps more."""
    name, *times = text.partition("\n")[0].split() or [""]
    return name == "cpu" and len(times) >= 4 and all(t.isascii() and t.isdigit() and len(t) < 19 for t in times)


def cpu_times_ns(path: str) -> tuple[int, int] | None:
    """Busy and all CPU time of the machine since its start, in ns; None where the file does not tell.

    Guest time lies inside user and nice; waiting for disks is idle time (proc(5)).
    """
    text = sysfs.text(path)
    if text is None or not _holds_cpu_times(text):
        return None
    user, nice, system, idle, *more = (int(t) for t in text.partition("\n")[0].split()[1:9])
    waiting, *busy = more or [0]
    tick_ns = NS_PER_S // os.sysconf("SC_CLK_TCK")
    total = user + nice + system + sum(busy)
    return total * tick_ns, (total + idle + waiting) * tick_ns


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
