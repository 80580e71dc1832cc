"""Gauges that are read once a second: memory, temperature and use of CPU and GPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

__all__ = ["GAUGE_UNITS", "Gauges", "name_thread", "watching"]

# Gauge and its unit.
GAUGE_UNITS = {
    "cpu_use": "1",
    "memory_b": "B",
    "cpu_c": "C",
    "gpu_use": "1",
    "gpu_memory_use": "1",
    "gpu_memory_b": "B",
    "gpu_c": "C",
    "gpu_w": "W",
}
_MIB = float(1 << 20)


class Gauges:
    """Reader of gauges; it summarises its readings as the columns of the published run table.

    Parameters
    ----------
    nvml : module, optional
        ``pynvml`` or a module with its functions; by default ``pynvml`` is imported. Without a driver there are no GPU
        gauges.
    gpu : int
        Number of the GPU; the published table has one GPU.
    """

    def __init__(self, nvml: Any = None, *, gpu: int = 0) -> None:
        self.gpu = gpu
        self.readings: dict[str, list[float]] = {}
        self.model: str | None = None
        self.power_limit_w: float | None = None
        self._nvml = nvml
        self._handle: Any = None
        self._process = psutil.Process()

    def open(self) -> None:
        """Open the GPU if there is one."""
        if self._nvml is None:
            import pynvml

            self._nvml = pynvml
        psutil.cpu_percent()  # the first call starts the interval; its result has no meaning
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError:
            return
        try:
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(self.gpu)
            name = self._nvml.nvmlDeviceGetName(self._handle)
            self.model = name.decode() if isinstance(name, bytes) else name
            self.power_limit_w = self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle) / 1000.0
        except self._nvml.NVMLError:
            pass  # each column that depends on it stays empty

    def close(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):  # it may never have been opened
            self._nvml.nvmlShutdown()
        self._handle = None

    def look(self) -> None:
        """Read all gauges once; those that cannot be read are left out."""
        self._note("cpu_use", psutil.cpu_percent() / 100.0)
        self._note("memory_b", float(self._process.memory_info().rss))
        if (celsius := _cpu_celsius()) is not None:
            self._note("cpu_c", celsius)
        if self._handle is None:
            return
        nvml, handle = self._nvml, self._handle
        readers = {
            "gpu_use": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0,
            "gpu_memory_use": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).memory / 100.0,
            "gpu_memory_b": lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).used),
            "gpu_c": lambda: float(nvml.nvmlDeviceGetTemperature(handle, 0)),
            "gpu_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0,
        }
        for name, reader in readers.items():
            try:
                self._note(name, reader())
            except nvml.NVMLError:
                continue

    def _note(self, name: str, value: float) -> None:
        self.readings.setdefault(name, []).append(value)

    def _of(self, name: str, how: Any, scale: float = 1.0) -> float | None:
        values = self.readings.get(name)
        return float(how(values)) * scale if values else None

    def means(self) -> dict[str, float]:
        """Mean of each gauge by its name in `GAUGE_UNITS`, without gauges that could not be read."""
        return {name: float(np.mean(values)) for name, values in self.readings.items()}

    def columns(self, duration_s: float) -> dict[str, Any]:
        """Columns of the published run table, and columns of the processor.

        Parameters
        ----------
        duration_s : float
            Duration of the training in s.

        Returns
        -------
        dict of str to float, str or None
            By name of the column; None if nothing could be read. Working time is the mean use times the duration: the
            time of the same work at full use of the GPU.
        """
        hours = duration_s / 3600.0
        return {
            "gpu model": self.model,
            "gpu working time (h)": self._of("gpu_use", np.mean, hours),
            "gpu usage (%)": self._of("gpu_use", np.mean, 100.0),
            "gpu memory working time (h)": self._of("gpu_memory_use", np.mean, hours),
            "gpu memory usage": self._of("gpu_memory_use", np.mean),
            "average memory used (MB)": self._of("gpu_memory_b", np.mean, 1 / _MIB),
            "memory used std (MB)": self._of("gpu_memory_b", _std, 1 / _MIB),
            "total power (W)": self._of("gpu_w", np.sum),
            "average power draw (W)": self._of("gpu_w", np.mean),
            "power draw std (W)": self._of("gpu_w", _std),
            "max power limit (W)": self.power_limit_w,
            "average temperature (Celsius)": self._of("gpu_c", np.mean),
            "temperature std (Celsius)": self._of("gpu_c", _std),
            "cpu usage (%)": self._of("cpu_use", np.mean, 100.0),
            "average process memory (MB)": self._of("memory_b", np.mean, 1 / _MIB),
            "average cpu temperature (Celsius)": self._of("cpu_c", np.mean),
        }


def name_thread(name: str) -> None:
    """Set the kernel's name of the calling thread, so that its CPU time can be separated from that of the work.

    Before Python 3.14 the kernel does not get the name of a Python thread.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


@contextlib.contextmanager
def watching(gauges: Gauges, period_s: float = 1.0) -> Iterator[Gauges]:
    """Context manager that reads the gauges once per period, and once at the end."""
    stop = threading.Event()

    def watch() -> None:
        name_thread("fg-gauges")
        while not stop.wait(period_s):
            gauges.look()

    gauges.open()
    thread = threading.Thread(target=watch, name="fg-gauges", daemon=True)
    thread.start()
    try:
        yield gauges
    finally:
        stop.set()
        thread.join()
        gauges.look()
        gauges.close()


def _std(values: list[float]) -> float:
    """Standard deviation of a sample, as in pandas; 0 for one reading."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _cpu_celsius() -> float | None:
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    for name in ("coretemp", "k10temp", "cpu_thermal", "zenpower"):
        if sensors.get(name):
            return float(sensors[name][0].current)
    return None
