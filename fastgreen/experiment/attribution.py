"""The share of a process tree in what was drawn: pure arithmetic first, then the collectors that feed it.

Processor energy goes by CPU time (the tree's over the machine's), memory energy by resident memory (PSS where it may
be read, else RSS) over the memory in use, a GPU's by its use of the streaming processors, its idle power shared among
the processes that are active on it. What is shared out never exceeds what was drawn, however much the readings
jitter, and the recorder's own work is left out of the tree.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np
import psutil
import pyarrow as pa

from fastgreen.training.gauges import name_thread
from fastgreen.units import NS_PER_S

__all__ = [
    "Interval",
    "Snapshot",
    "TreeMeter",
    "attribute",
    "between",
    "share_out",
    "share_out_gpu",
    "snapshot",
    "tree_share",
]

K = TypeVar("K", bound=Hashable)


def share_out(drawn_j: float, use: Mapping[K, float], machine: float) -> dict[K, float]:
    """Joules of each user of a device, by its use out of the machine's.

    Parameters
    ----------
    drawn_j : energy that was drawn, J
    use : use of each process or tree (CPU seconds, bytes), >= 0
    machine : use of the whole machine in the same unit; where the parts add up to more, their sum counts instead

    Returns
    -------
    dict
        Joules; together never above `drawn_j`.
    """
    _check(drawn_j, use)
    whole = max(machine, sum(use.values()))
    if whole <= 0:
        return dict.fromkeys(use, 0.0)
    return _at_most(drawn_j, {key: drawn_j * (amount / whole) for key, amount in use.items()})


def share_out_gpu(drawn_j: float, use: Mapping[K, float], *, idle_j: float = 0.0) -> dict[K, float]:
    """Joules of each process on one GPU: its idle energy in equal parts to the active ones, the rest by use.

    Parameters
    ----------
    drawn_j : energy that the GPU drew, J
    use : use of the streaming processors by each process, 0..1; a process is active if it is above 0
    idle_j : what the GPU would have drawn with nothing to do, J

    Returns
    -------
    dict
        Joules; together never above `drawn_j`. With no active process nothing is shared out.
    """
    _check(drawn_j, use)
    active = {key: amount for key, amount in use.items() if amount > 0}
    if not active:
        return dict.fromkeys(use, 0.0)
    idle_j = min(max(idle_j, 0.0), drawn_j)
    whole = sum(active.values())
    shares = {key: idle_j / len(active) + (drawn_j - idle_j) * (amount / whole) for key, amount in active.items()}
    return _at_most(drawn_j, {key: shares.get(key, 0.0) for key in use})


def _check(drawn_j: float, use: Mapping[Any, float]) -> None:
    if not 0 <= drawn_j < float("inf"):
        raise ValueError(f"drawn_j: {drawn_j} is not an energy")
    for key, amount in use.items():
        if not 0 <= amount < float("inf"):
            raise ValueError(f"use: {amount} of {key!r} is negative or not finite")


def _at_most(drawn_j: float, shares: dict[K, float]) -> dict[K, float]:
    """Take back the last bit that rounding may have added."""
    while (over := sum(shares.values()) - drawn_j) > 0:
        largest = max(shares, key=lambda key: shares[key])
        shares[largest] = max(0.0, min(shares[largest] - over, shares[largest] * (1 - 2**-52)))
    return shares


class Nvml(Protocol):
    """The part of pynvml that the collector calls."""

    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetProcessUtilization(self, handle: Any, last_seen_us: int) -> list[Any]: ...


@dataclass(frozen=True)
class Snapshot:
    """What the processes had used up to one moment.

    Attributes
    ----------
    at_ns : CLOCK_MONOTONIC
    cpu_s : CPU seconds by pid of the tree
    memory_bytes : PSS, else RSS, by pid of the tree
    machine_cpu_s : busy CPU seconds of the machine
    machine_memory_bytes : memory in use on the machine
    gpu_use : mean use since the snapshot before, by GPU and pid, all processes
    reaped_s : CPU seconds of its children that ended and were waited for, theirs included, by pid of the tree
    left_out_s : CPU seconds, those of ended children included, by pid of the processes that are left out
    recorder_s : CPU seconds of the threads of this process that measure, which are in `cpu_s` too
    """

    at_ns: int
    cpu_s: dict[int, float]
    memory_bytes: dict[int, int]
    machine_cpu_s: float
    machine_memory_bytes: int
    gpu_use: dict[int, dict[int, float]] = field(default_factory=dict)
    reaped_s: dict[int, float] = field(default_factory=dict)
    left_out_s: dict[int, float] = field(default_factory=dict)
    recorder_s: float = 0.0


@dataclass(frozen=True)
class Interval:
    """The use of a tree between two snapshots, and the machine's; of the GPUs, by GPU and pid of any process."""

    start_ns: int
    end_ns: int
    tree_cpu_s: float
    machine_cpu_s: float
    tree_memory_bytes: float
    machine_memory_bytes: float
    gpu_use: dict[int, dict[int, float]]
    tree_pids: frozenset[int] = frozenset()


def between(first: Snapshot, last: Snapshot) -> Interval:
    """What happened from one snapshot to the next."""
    tree = _growth(first.cpu_s, last.cpu_s) + _of_ended(first, last) - max(0.0, last.recorder_s - first.recorder_s)
    memory = 0.5 * (sum(first.memory_bytes.values()) + sum(last.memory_bytes.values()))
    machine = 0.5 * (first.machine_memory_bytes + last.machine_memory_bytes)
    busy = max(0.0, last.machine_cpu_s - first.machine_cpu_s)
    pids = frozenset(first.cpu_s) | frozenset(last.cpu_s)
    return Interval(first.at_ns, last.at_ns, max(0.0, tree), busy, memory, machine, last.gpu_use, pids)


def _growth(before: Mapping[int, float], now: Mapping[int, float]) -> float:
    return sum(max(0.0, seconds - before.get(pid, 0.0)) for pid, seconds in now.items())


def _of_ended(first: Snapshot, last: Snapshot) -> float:
    """CPU seconds of the processes that ended in between: the kernel adds them to the parent that waits for them.

    What they had used up before the interval is taken off. One whose parent ended before it goes to another tree, and
    its last stretch is lost: too little is counted, never too much.
    """
    gone = [pid for pid in first.cpu_s if pid not in last.cpu_s]
    before = sum(first.cpu_s[pid] + first.reaped_s.get(pid, 0.0) for pid in gone)
    before += sum(seconds for pid, seconds in first.left_out_s.items() if pid not in last.left_out_s)
    return max(0.0, _growth(first.reaped_s, last.reaped_s) - before)


def tree_share(interval: Interval, kind: str, drawn_j: float, *, gpu: int = 0, idle_w: float = 0.0) -> float:
    """Joules of the tree in an interval.

    Parameters
    ----------
    kind : ``"cpu"``, ``"dram"`` or ``"gpu"``
    drawn_j : what the device drew in the interval, J
    gpu, idle_w : for ``"gpu"``: which one, and its idle power
    """
    if kind == "cpu":
        return share_out(drawn_j, {"tree": interval.tree_cpu_s}, interval.machine_cpu_s)["tree"]
    if kind == "dram":
        return share_out(drawn_j, {"tree": interval.tree_memory_bytes}, interval.machine_memory_bytes)["tree"]
    if kind == "gpu":
        seconds = (interval.end_ns - interval.start_ns) / NS_PER_S
        shares = share_out_gpu(drawn_j, interval.gpu_use.get(gpu, {}), idle_j=idle_w * seconds)
        return min(drawn_j, sum(joules for pid, joules in shares.items() if pid in interval.tree_pids))
    raise ValueError(f"kind must be cpu, dram or gpu, not {kind!r}")


def snapshot(
    root: psutil.Process,
    *,
    leave_out: frozenset[int] = frozenset(),
    nvml: Nvml | ModuleType | None = None,
    since_us: int = 0,
) -> Snapshot:
    """Look at a process and its descendants now; a process that is gone or may not be read counts as far as it can.

    With a process that is left out goes all that it started.
    """
    cpu, reaped, left_out, memory, recorder = {}, {}, {}, {}, 0.0
    for process in _tree(root):
        pid = process.pid
        try:
            with process.oneshot():
                times = process.cpu_times()
                own, ended = times.user + times.system, times.children_user + times.children_system
                if pid in leave_out or process.ppid() in left_out:
                    left_out[pid] = own + ended
                    continue
                cpu[pid], reaped[pid] = own, ended
                if pid == os.getpid():
                    recorder = _own_threads_s()
                memory[pid] = _memory(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # Linux counts guests inside user as well
    used = psutil.virtual_memory()
    return Snapshot(
        time.monotonic_ns(),
        cpu,
        memory,
        sum(times) - idle - guest,
        used.total - used.available,
        _gpu_use(nvml, since_us) if nvml is not None else {},
        reaped,
        left_out,
        recorder,
    )


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.AccessDenied, AttributeError):
        return int(process.memory_info().rss)


def _own_threads_s() -> float:
    """CPU seconds of the threads of this process that measure rather than work: their names begin with ``fg-``."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = 0.0
    for task in Path("/proc/self/task").iterdir():
        try:
            if not (task / "comm").read_text().startswith("fg-"):
                continue
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds += (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def _gpu_use(nvml: Any, since_us: int) -> dict[int, dict[int, float]]:
    out: dict[int, dict[int, float]] = {}
    failed = getattr(nvml, "NVMLError", OSError)
    for gpu in range(nvml.nvmlDeviceGetCount()):
        readings: dict[int, list[float]] = {}
        try:
            for sample in nvml.nvmlDeviceGetProcessUtilization(nvml.nvmlDeviceGetHandleByIndex(gpu), since_us):
                readings.setdefault(sample.pid, []).append(min(sample.smUtil, 100) / 100.0)
        except failed:
            continue  # no sample since then, or not supported: then nothing is shared out
        out[gpu] = {pid: sum(values) / len(values) for pid, values in readings.items()}
    return out


class TreeMeter:
    """Looks at a process tree about once a second while something runs, and once at its end.

    Parameters
    ----------
    pid : the root of the tree, by default this process
    period_s : time between two looks
    leave_out : pids that are not work, such as that of a recorder
    nvml : ``pynvml`` after ``nvmlInit``, or nothing

    Examples
    --------
    >>> with TreeMeter(period_s=0.05) as tree:
    ...     _ = sum(range(10**6))
    >>> len(tree.intervals) >= 1
    True
    """

    def __init__(
        self,
        pid: int | None = None,
        *,
        period_s: float = 1.0,
        leave_out: frozenset[int] = frozenset(),
        nvml: Nvml | ModuleType | None = None,
    ) -> None:
        if not period_s > 0:
            raise ValueError(f"period_s must be above 0, not {period_s}")
        self.root = psutil.Process(pid)
        self.period_s = period_s
        self.leave_out = leave_out
        self.nvml = nvml
        self.intervals: list[Interval] = []
        self._last: Snapshot | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Take one snapshot and close the interval that it ends."""
        now = snapshot(self.root, leave_out=self.leave_out, nvml=self.nvml, since_us=self._since_us())
        if self._last is not None:
            self.intervals.append(between(self._last, now))
        self._last = now

    def _since_us(self) -> int:
        # NVML stamps its samples with the wall clock.
        return int((time.time() - self.period_s) * 1e6)

    def __enter__(self) -> TreeMeter:
        self.look()
        self._thread = threading.Thread(target=self._run, name="fg-tree", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        name_thread("fg-tree")
        stopped = False
        while not stopped:  # the last look too is this thread's, so that it is known to be no work
            stopped = self._stop.wait(self.period_s)
            self.look()


def attribute(result: Any, intervals: list[Interval], *, idle_w: Mapping[str, float] | None = None) -> pa.Table:
    """The tree's part of a run, by counted channel.

    Parameters
    ----------
    result : fastgreen.Result
        Of a monitor that ran while the intervals were taken.
    intervals : of a :class:`TreeMeter`
    idle_w : idle power by GPU channel, shared among the active processes

    Returns
    -------
    pyarrow.Table
        channel, kind (``cpu``, ``dram``, ``gpu``), drawn_j, tree_j, share. A channel that none of the three describes
        is left out.
    """
    begin = np.array([i.start_ns for i in intervals], np.int64)
    end = np.array([i.end_ns for i in intervals], np.int64)
    rows = []
    for trace in result.traces:
        kind = channel_kind(trace.channel)
        if kind is None or not trace.counted or not trace.has_data or not intervals:
            continue
        drawn = np.maximum(trace.windows(begin, end).energy_j, 0.0)
        gpu = int(trace.channel.id.rpartition(":")[2]) if kind == "gpu" and trace.channel.id[-1].isdigit() else 0
        idle = (idle_w or {}).get(trace.channel.id, 0.0)
        mine = [tree_share(i, kind, float(j), gpu=gpu, idle_w=idle) for i, j in zip(intervals, drawn, strict=True)]
        whole, tree = float(drawn.sum()), float(sum(mine))
        rows.append({"channel": trace.channel.id, "kind": kind, "drawn_j": whole, "tree_j": min(tree, whole)})
        rows[-1]["share"] = rows[-1]["tree_j"] / whole if whole else None
    joules = [pa.field(name, pa.float64(), metadata={"unit": "J"}) for name in ("drawn_j", "tree_j")]
    schema = pa.schema([("channel", pa.string()), ("kind", pa.string()), *joules, ("share", pa.float64())])
    return pa.Table.from_pylist(rows, schema=schema)


def channel_kind(channel: Any) -> str | None:
    """Which rule shares a channel out: cpu, dram, gpu, or none. By its id, which a replay and a saved run keep."""
    family = channel.id.partition(":")[0]
    if family == "nvml":
        return "gpu"
    if channel.id.endswith("dram"):
        return "dram"
    sockets = family == "hwmon" and "/Esocket" in channel.id
    return "cpu" if sockets or family in ("rapl", "perf", "procstat") or "package" in channel.id else None
