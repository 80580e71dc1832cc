# SPDX-License-Identifier: Apache-2.0
"""A real libnvidia-ml.so.1 whose devices, power and failures a test writes down.

Each `FakeNvml` is a copy of the built library in a folder of its own, beside its script and its counts, so several live
in one process. Use it in either of two ways:

* by path, for what can be told where the library is: ``library=str(fake.library)``;
* unmodified programs (pynvml and everything built on it load ``libnvidia-ml.so.1`` by name) in a subprocess whose
  environment is ``fake.env()``: LD_LIBRARY_PATH leads the loader to the copy.

Everything follows CLOCK_MONOTONIC, as `time.monotonic_ns()` does. `write()` changes the script while programs use it.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .build import nvml_library
from .wave import Constant, Steps, Updates, Wave, as_wave

ARCHITECTURES = {"pascal": 4, "volta": 5, "turing": 6, "ampere": 7, "ada": 8, "hopper": 9, "blackwell": 10}
FOR_EVER = (1 << 64) - 1
EVERY_100_MS = Updates(0.1)
HEADER = struct.Struct("QQq40x")
ENTRY = struct.Struct("64s17Q")


@dataclass(frozen=True)
class Sensor:
    """A power reading: at each update the mean over the last `window` seconds (0: that moment), times `gain`.

    ``Sensor(Updates(0.1), window=0.025)`` looks at 25 ms of every 100 ms.
    """

    updates: Updates = EVERY_100_MS
    window: float = 0.0
    gain: float = 1.0

    def text(self) -> str:
        return f"{round(self.window * 1e9)} {self.gain!r} {self.updates.text()}"


MEAN_OF_1_S = Sensor(window=1.0)


@dataclass(frozen=True)
class Gpu:
    """One device. `scopes` are (GPU, module, memory) as multiples of its power, 0 where not supported.

    `mig` is None (cannot), False (off) or True, then with one MIG device per name in `mig_uuids`. `processes` are
    (pid, bytes); pid 0 stands for whichever process asks.
    """

    power: Wave | float = 100.0
    uuid: str | None = None
    name: str = "NVIDIA Fake H100"
    bus: str | None = None
    energy_updates: Updates = EVERY_100_MS
    energy_start_mj: float = 0.0
    energy_quantum_mj: float = 1.0
    instant: Sensor = Sensor()
    average: Sensor = MEAN_OF_1_S
    usage: Sensor = MEAN_OF_1_S
    power_quantum_mw: int = 1
    scopes: tuple[float, float, float] = (1.0, 0.0, 0.0)
    mig: bool | None = None
    mig_uuids: tuple[str, ...] = ()
    limits_mw: tuple[int, int, int] = (400_000, 100_000, 400_000)
    architecture: str = "hopper"
    brand: int = 14
    compute: tuple[int, int] = (9, 0)
    utilization: tuple[int, int] = (50, 20)
    temperature: int = 45
    fan_speed: int = 30
    clocks: tuple[int, int, int, int] = (1410, 1410, 1593, 1200)
    max_clocks: tuple[int, int, int, int] = (1980, 1980, 2619, 1980)
    memory: tuple[int, int] = (80 << 30, 1 << 30)
    samples: int = 120
    processes: tuple[tuple[int, int], ...] = ()

    def text(self) -> str:
        def numbers(values: Sequence[float]) -> str:
            return " ".join(repr(value) for value in values)

        lines = {
            "name": self.name,
            "power": as_wave(self.power).text(),
            "energy_updates": self.energy_updates.text(),
            "energy": f"{self.energy_start_mj!r} {self.energy_quantum_mj!r}",
            "instant": self.instant.text(),
            "average": self.average.text(),
            "usage": self.usage.text(),
            "power_quantum_mw": self.power_quantum_mw,
            "scopes": numbers(self.scopes),
            "mig": -1 if self.mig is None else int(self.mig),
            "mig_uuids": " ".join(self.mig_uuids),
            "limits_mw": numbers(self.limits_mw),
            "architecture": f"{ARCHITECTURES[self.architecture]} {self.brand} {numbers(self.compute)}",
            "utilization": numbers(self.utilization),
            "temperature": self.temperature,
            "fan_speed": self.fan_speed,
            "clocks": numbers(self.clocks),
            "max_clocks": numbers(self.max_clocks),
            "memory": numbers(self.memory),
            "samples": self.samples,
            "processes": " ".join(f"{pid}:{memory}" for pid, memory in self.processes),
        }
        if self.uuid is not None:
            lines["uuid"] = self.uuid
        if self.bus is not None:
            lines["bus"] = self.bus
        return "[device]\n" + "".join(f"{key}={value}\n" for key, value in lines.items())


@dataclass(frozen=True)
class Rule:
    """What happens to calls number `first` to `last` (from 1; None: for ever) of the functions it names.

    `function` is a name ("nvmlDeviceGetPowerUsage"), a beginning ("nvmlInit*"), "*" (all calls, numbered together), or
    a value inside nvmlDeviceGetFieldValues ("field:186", likewise 185, 83 and 191, "field:other", "field:*").
    With `device`, calls are numbered within that device. Numbers are those of `FakeNvml.calls()`, over all processes.
    `code` is returned instead of an answer; `delay_us` comes first (fields do not delay); `value` (mJ or mW) is shown
    instead of the true energy or power.
    """

    function: str = "*"
    code: int = 0
    first: int = 1
    last: int | None = None
    device: int | None = None
    delay_us: int = 0
    value: float | None = None

    def text(self) -> str:
        lines = [
            "[rule]",
            f"function={self.function}",
            f"device={-1 if self.device is None else self.device}",
            f"from={self.first}",
            f"to={FOR_EVER if self.last is None else self.last}",
            f"code={self.code}",
            f"delay_us={self.delay_us}",
        ]
        if self.value is not None:
            lines.append(f"value={self.value!r}")
        return "\n".join(lines) + "\n"


def gpu_is_lost(device: int, at_call: int = 1) -> Rule:
    """From call number `at_call` of that device on, every call answers GPU_IS_LOST."""
    return Rule("*", code=15, first=at_call, device=device)


@dataclass
class FakeNvml:
    """A copy of the library in `folder`, ready to load. `omit` names functions that it does not export."""

    folder: Path
    devices: Sequence[Gpu] = (Gpu(),)
    rules: Sequence[Rule] = ()
    omit: tuple[str, ...] = ()
    reload_at: Sequence[int] = ()
    epoch_ns: int = field(default_factory=time.monotonic_ns)
    driver: str = "570.86.15"
    cuda: int = 12080
    serialise: bool = False
    field_stamp: str = "update"

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.library = self.folder / "libnvidia-ml.so.1"
        shutil.copyfile(nvml_library(tuple(self.omit)), self.library)
        self._counts = self.folder / "counts"
        if not self._counts.exists():
            self._counts.write_bytes(bytes(HEADER.size))
        self.write()

    def env(self, base: dict[str, str] | None = None) -> dict[str, str]:
        """An environment in which programs find this library under its usual name."""
        env = dict(os.environ if base is None else base)
        paths = [str(self.folder), *filter(None, [env.get("LD_LIBRARY_PATH")])]
        return env | {"LD_LIBRARY_PATH": os.pathsep.join(paths), "FASTGREEN_NVML_LIBRARY": str(self.library)}

    def write(self, **changes: object) -> None:
        """Changes any of the constructor's scripted arguments; seen by the very next call of every process."""
        for name, value in changes.items():
            if name not in ("devices", "rules", "reload_at", "epoch_ns", "driver", "cuda", "serialise", "field_stamp"):
                raise ValueError(f"not part of the script: {name}")
            setattr(self, name, value)
        general = {
            "epoch_ns": self.epoch_ns,
            "driver": self.driver,
            "nvml": f"12.{self.driver}",
            "cuda": self.cuda,
            "serialise": int(self.serialise),
            "field_stamp": self.field_stamp,
        }
        text = "".join(f"{key}={value}\n" for key, value in general.items())
        text += "".join(f"reload_at={number}\n" for number in self.reload_at)
        text += "".join(part.text() for part in (*self.devices, *self.rules))
        fresh = self.folder / "script.new"
        fresh.write_text(text)
        fresh.rename(self.folder / "script")
        self._change_header(version=1)

    def step(self, device: int, watts: float, lead_s: float = 0.05) -> None:
        """Appends a step of power, `lead_s` from now, to a device of constant power or `Steps`; `energy_j` stays exact.

        The lead is the time to write the script in: what is past never changes, so the counter never goes back.
        """
        wave = as_wave(self.devices[device].power)
        if isinstance(wave, Constant):
            wave = Steps(((0.0, wave.watts),))
        if not isinstance(wave, Steps):
            raise ValueError(f"only steps can be appended to: {wave}")
        at_ns = time.monotonic_ns() + round(lead_s * 1e9)
        devices = list(self.devices)
        devices[device] = replace(devices[device], power=Steps((*wave.steps, (self._seconds(at_ns), watts))))
        self.write(devices=devices)
        if time.monotonic_ns() > at_ns:
            raise RuntimeError(f"writing the script took longer than {lead_s} s: give the step a longer lead")

    def reload_driver(self) -> None:
        """As if the driver was loaded anew: counters start at 0, every call answers 1 until the program inits again."""
        self._change_header(reloaded_ns=time.monotonic_ns())

    def calls(self, device: int | None = None) -> dict[str, int]:
        """Calls so far by function, over all processes (of one device, if given); "*" is all of them, fields apart."""
        counts = {}
        for name, total, *by_device in ENTRY.iter_unpack(self._entries()):
            number = total if device is None else by_device[device]
            if number:
                counts[name.rstrip(b"\0").decode()] = number
        return counts

    def energy_j(self, device: int, begin_ns: int, end_ns: int) -> float:
        """The true energy between two monotonic times, whatever the sensor shows."""
        wave = as_wave(self.devices[device].power)
        return wave.energy_j(self._seconds(end_ns)) - wave.energy_j(self._seconds(begin_ns))

    def counter_mj(self, device: int, now_ns: int) -> int:
        """What nvmlDeviceGetTotalEnergyConsumption shows at that time."""
        gpu = self.devices[device]
        wave = as_wave(gpu.power)
        seen = self._seconds(gpu.energy_updates.last_ns(self.epoch_ns, now_ns))
        energy = gpu.energy_start_mj + wave.energy_j(seen) * 1000
        if reloaded_ns := self._header()[2]:
            energy = (wave.energy_j(seen) - wave.energy_j(self._seconds(reloaded_ns))) * 1000
        return int(math.floor(max(energy, 0.0) / gpu.energy_quantum_mj) * gpu.energy_quantum_mj)

    def power_mw(self, device: int, now_ns: int, reading: str = "usage") -> int:
        """What a power reading ("instant", "average", "usage") shows at that time."""
        gpu = self.devices[device]
        wave = as_wave(gpu.power)
        sensor: Sensor = getattr(gpu, reading)
        update_ns = sensor.updates.last_ns(self.epoch_ns, now_ns)
        at, begin = self._seconds(update_ns), self._seconds(update_ns - round(sensor.window * 1e9))
        watts = (wave.energy_j(at) - wave.energy_j(begin)) / (at - begin) if at > begin else wave.power_w(at)
        return math.floor(watts * sensor.gain * 1000 / gpu.power_quantum_mw + 0.5) * gpu.power_quantum_mw

    def _seconds(self, at_ns: int) -> float:
        return (at_ns - self.epoch_ns) * 1e-9

    def _header(self) -> tuple[int, int, int]:
        return HEADER.unpack(self._counts.read_bytes()[: HEADER.size])

    def _entries(self) -> bytes:
        entries = self._counts.read_bytes()[HEADER.size :]
        return entries[: len(entries) // ENTRY.size * ENTRY.size]

    def _change_header(self, version: int = 0, reloaded_ns: int | None = None) -> None:
        with open(self._counts, "r+b") as file, mmap.mmap(file.fileno(), HEADER.size) as header:
            seen, reloads, _ = HEADER.unpack(header[:])
            if version:
                header[0:8] = struct.pack("Q", seen + version)
            if reloaded_ns is not None:
                header[16:24] = struct.pack("q", reloaded_ns)
                header[8:16] = struct.pack("Q", reloads + 1)
