"""Share of a process tree in the machine's energy: first the arithmetic, then the collection of its inputs.

Processor energy is divided by CPU time (the tree's over the machine's), memory energy by resident memory (PSS if it is
readable, else RSS) over the memory in use, GPU energy by use of the streaming processors; the GPU's idle power is
divided among the processes active on it. The shares never exceed the drawn energy, however much the readings jitter.
The recorder's own work is not part of the tree.
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

from fastgreen.sensors.channel_kinds import kind_of
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
    """Divide the energy of a device among its users, in proportion to their use.

    Parameters
    ----------
    drawn_j : float
        Energy of the device in J, finite and not negative.
    use : mapping of hashable to float
        Use of each process or tree (CPU seconds, bytes), finite and not negative.
    machine : float
        Use of the whole machine in the same unit. If the users together have more, their sum is taken instead.

    Returns
    -------
    dict of hashable to float
        Joules of each user; together never above `drawn_j`.

    Raises
    ------
    ValueError
        If an argument leaves its range.
    """
    _check(drawn_j, use)
    total = max(machine, sum(use.values()))
    if total <= 0:
        return dict.fromkeys(use, 0.0)
    return _at_most(drawn_j, {key: drawn_j * (amount / total) for key, amount in use.items()})


def share_out_gpu(drawn_j: float, use: Mapping[K, float], *, idle_j: float = 0.0) -> dict[K, float]:
    """Divide the energy of a GPU among processes: idle energy equally among the active ones, the rest by use.

    Parameters
    ----------
    drawn_j : float
        Energy of the GPU in J, finite and not negative.
    use : mapping of hashable to float
        Use of the streaming processors by each process, 0..1; a process is active if its use is above 0.
    idle_j : float
        Energy that the GPU would have drawn without work, in J.

    Returns
    -------
    dict of hashable to float
        Joules of each process; together never above `drawn_j`, and all 0 without an active process.

    Raises
    ------
    ValueError
        If an argument leaves its range.
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
        raise ValueError(f"drawn_j must be finite and not negative, not {drawn_j}")
    for key, amount in use.items():
        if not 0 <= amount < float("inf"):
            raise ValueError(f"use must be finite and not negative, not {amount} of {key!r}")


def _at_most(drawn_j: float, shares: dict[K, float]) -> dict[K, float]:
    """Remove the last bit that rounding may have added."""
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
    """Use of CPU, memory and GPU by the processes of a tree, up to one moment.

    Attributes
    ----------
    at_ns : int
        Time of the snapshot, CLOCK_MONOTONIC.
    cpu_s : dict of int to float
        CPU seconds by pid of the tree.
    memory_bytes : dict of int to int
        PSS, else RSS, by pid of the tree.
    machine_cpu_s : float
        Busy CPU seconds of the machine.
    machine_memory_bytes : int
        Memory in use on the machine.
    gpu_use : dict of int to dict of int to float
        Mean use (0..1) since the previous snapshot, by GPU and pid, for all processes.
    reaped_s : dict of int to float
        CPU seconds of children (and their children) that ended and were waited for, by pid of the tree.
    left_out_s : dict of int to float
        CPU seconds of the processes that are left out, with their ended children, by pid.
    recorder_s : float
        CPU seconds of the measuring threads of this process; `cpu_s` includes them.
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
    """Use of CPU and memory between two snapshots, by the tree and by the machine; use of GPUs by GPU and pid."""

    start_ns: int
    end_ns: int
    tree_cpu_s: float
    machine_cpu_s: float
    tree_memory_bytes: float
    machine_memory_bytes: float
    gpu_use: dict[int, dict[int, float]]
    tree_pids: frozenset[int] = frozenset()


def between(first: Snapshot, last: Snapshot) -> Interval:
    """Use of the tree and the machine from one snapshot to the next."""
    tree = _growth(first.cpu_s, last.cpu_s) + _of_ended(first, last) - max(0.0, last.recorder_s - first.recorder_s)
    memory = 0.5 * (sum(first.memory_bytes.values()) + sum(last.memory_bytes.values()))
    machine = 0.5 * (first.machine_memory_bytes + last.machine_memory_bytes)
    busy = max(0.0, last.machine_cpu_s - first.machine_cpu_s)
    pids = frozenset(first.cpu_s) | frozenset(last.cpu_s)
    return Interval(first.at_ns, last.at_ns, max(0.0, tree), busy, memory, machine, last.gpu_use, pids)


def _growth(before: Mapping[int, float], now: Mapping[int, float]) -> float:
    return sum(max(0.0, seconds - before.get(pid, 0.0)) for pid, seconds in now.items())


def _of_ended(first: Snapshot, last: Snapshot) -> float:
    """CPU seconds in the interval of processes that ended in it; Linux adds them to the parent that waits for them.

    Their CPU seconds from before the interval are subtracted. A process that outlives its parent moves to another
    tree, and its last seconds are lost: the result can be too small, never too large.
    """
    gone = [pid for pid in first.cpu_s if pid not in last.cpu_s]
    before = sum(first.cpu_s[pid] + first.reaped_s.get(pid, 0.0) for pid in gone)
    before += sum(seconds for pid, seconds in first.left_out_s.items() if pid not in last.left_out_s)
    return max(0.0, _growth(first.reaped_s, last.reaped_s) - before)


def tree_share(interval: Interval, kind: str, drawn_j: float, *, gpu: int = 0, idle_w: float = 0.0) -> float:
    """Energy of the tree in an interval, in J.

    Parameters
    ----------
    interval : Interval
        Use by the tree and the machine.
    kind : {"cpu", "dram", "gpu"}
        The device.
    drawn_j : float
        Energy of the device in the interval, in J.
    gpu : int
        Number of the GPU, for ``"gpu"``.
    idle_w : float
        Idle power of the GPU in W, for ``"gpu"``.

    Raises
    ------
    ValueError
        If `kind` is unknown, or an energy or use is negative or not finite.
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
    """Read the use of a process and its descendants now. Values that cannot be read are left out.

    Parameters
    ----------
    root : psutil.Process
        Root of the tree.
    leave_out : frozenset of int
        pids to leave out, together with their descendants.
    nvml : module, optional
        ``pynvml`` after ``nvmlInit``; without it no GPU is read.
    since_us : int
        Read NVML's samples after this time, in us since 1970.
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
    """CPU seconds of the measuring threads of this process; their names begin with ``fg-``."""
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
            continue  # no sample since then, or not supported: this GPU's energy is not divided
        out[gpu] = {pid: sum(values) / len(values) for pid, values in readings.items()}
    return out


class TreeMeter:
    """Context manager that reads the use of a process tree about once a second, and once at the end.

    Parameters
    ----------
    pid : int, optional
        Root of the tree; by default this process.
    period_s : float
        Seconds between two snapshots, above 0.
    leave_out : frozenset of int
        pids that are not work, for example a recorder's.
    nvml : module, optional
        ``pynvml`` after ``nvmlInit``; without it no GPU is read.

    Attributes
    ----------
    intervals : list of Interval
        The intervals so far.

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
        """Take a snapshot and add the interval since the previous one."""
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
        while not stopped:  # this thread takes the last snapshot too, so that it does not count as work
            stopped = self._stop.wait(self.period_s)
            self.look()


def attribute(result: Any, intervals: list[Interval], *, idle_w: Mapping[str, float] | None = None) -> pa.Table:
    """Energy of a process tree in a result, by counted channel.

    Parameters
    ----------
    result : fastgreen.Result
        Result of a monitor that ran during the intervals.
    intervals : list of Interval
        The intervals of a :class:`TreeMeter`.
    idle_w : mapping of str to float, optional
        Idle power in W by GPU channel, divided among the active processes.

    Returns
    -------
    pyarrow.Table
        channel, kind (``cpu``, ``dram``, ``gpu``), drawn_j, tree_j, share. Channels of other kinds are left out.
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
    """Kind of a channel that is shared out: cpu, dram, gpu or None. See `fastgreen.sensors.channel_kinds`."""
    kind = kind_of(channel.id)
    if kind == "gpu" and not channel.id.startswith("nvml:"):
        return None  # NVML alone knows the use of a board by each process
    return None if kind == "board" else kind
