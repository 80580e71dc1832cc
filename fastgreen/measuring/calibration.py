"""Watching the sensors for a while, faster than they update, under a load that goes on and off."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastgreen.measuring.monitor import Monitor
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel
from fastgreen.sensors.sensor_facts import SensorFacts, averaging, learn, remember, with_averaging

__all__ = ["calibrate", "square_wave"]

# Readings per second while watching: several times what each kind of sensor updates.
_HZ = {"rapl": 5000.0, "perf": 5000.0, "hwmon": 1000.0, "nvml": 200.0, "amdsmi": 200.0, "scmi": 200.0, "battery": 10.0}


@contextlib.contextmanager
def square_wave(
    work: Callable[[], object], on_s: float = 0.4, off_s: float = 0.3, threads: int | None = None
) -> Iterator[None]:
    """Call `work` over and over in `threads` threads for `on_s`, pause for `off_s`, and so on, while the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            until = time.monotonic() + on_s
            while time.monotonic() < until and not over.is_set():
                work()
            over.wait(off_s)

    pool = [threading.Thread(target=run, daemon=True) for _ in range(threads or os.cpu_count() or 1)]
    for thread in pool:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in pool:
            thread.join()


def cpu_work() -> None:
    hashlib.sha256(bytes(1 << 20)).digest()  # releases the GIL


def gpu_work() -> Callable[[], object] | None:
    """A short burst of matrix products on the first CUDA device; None without PyTorch or a device."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    a = torch.randn(4096, 4096, device="cuda")

    def work() -> None:
        for _ in range(4):
            a @ a
        torch.cuda.synchronize()

    return work


def calibrate(
    channels: str | list[str] | None = None,
    *,
    seconds: float = 12.0,
    load: Callable[[], object] | None = cpu_work,
    cache_dir: str | os.PathLike | None = None,
    save: bool = True,
    **options: Any,
) -> dict[str, SensorFacts]:
    """Learn the sensors of this machine and remember them for later monitors.

    Parameters
    ----------
    channels : str or list of str, optional
        Ids or patterns; default: those a `Monitor` would choose. Estimates are left out: there is no sensor to learn.
    seconds : float
        How long to watch. The averaging of a power channel is fitted over windows of up to 2 s: give it 10 s or more.
    load : callable, optional
        Work to call over and over, half a second on and off, so that there is something to see; None for no load.
    cache_dir : path, optional
        Where to remember; default the user's cache folder.
    save : bool
        Whether to remember at all.
    **options
        Passed to `Monitor`: the seams.

    Returns
    -------
    dict
        Channel id -> `SensorFacts`.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, not {seconds!r}")
    probe = Monitor(channels, **options)
    wanted = [c.id for c in probe.channels if not c.estimated]
    if not wanted:
        return {}
    under_load = square_wave(load) if load is not None else contextlib.nullcontext()
    with Monitor(wanted, hz=_HZ, **options) as monitor, under_load:
        time.sleep(seconds)
    return _facts(monitor.result.traces, cache_dir, save)


def _samples(trace: Trace) -> np.ndarray:
    return np.concatenate(list(trace.chunks()))


def _facts(traces: list[Trace], cache_dir: str | os.PathLike | None, save: bool) -> dict[str, SensorFacts]:
    by_id = {t.channel.id: t for t in traces if t.has_data}
    out: dict[str, SensorFacts] = {}
    for identity, trace in by_id.items():
        channel: Channel = trace.channel
        facts = learn(_samples(trace), channel.unit)
        counter = by_id.get(channel.parent or "")
        if channel.kind == "power" and counter is not None and counter.channel.kind == "energy":
            fit = averaging(_samples(trace), channel.unit, _samples(counter), counter.channel.unit)
            resolution_s = out[counter.channel.id].period_s if counter.channel.id in out else None
            facts = with_averaging(facts, fit, 1.5 * (resolution_s or 0.1))
        out[identity] = facts
        if save:
            remember(channel, facts, cache_dir)
    return out
