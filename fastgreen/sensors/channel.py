"""One channel, the places to look for channels, and the outcome of looking."""

from __future__ import annotations

import os

from fastgreen._light_dataclass import dataclass, field
from fastgreen.arguments import path_text
from fastgreen.errors import ChannelPermission, ChannelReadError
from fastgreen.units import UNITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Channel", "Found", "Seams", "SourceStatus", "traits"]

# A counter that seems to have drawn more than this has restarted: no channel of one machine draws a megawatt.
PLAUSIBLE_W = 1e6


@dataclass(frozen=True)
class Seams:
    """Where sensors are looked for; every member is also an environment variable and a keyword of `Monitor`.

    Attributes
    ----------
    powercap_root : str
        ``FASTGREEN_POWERCAP_ROOT``, default ``/sys/class/powercap``.
    nvml_library : str
        ``FASTGREEN_NVML_LIBRARY``, default ``libnvidia-ml.so.1``.
    hwmon_root : str
        ``FASTGREEN_HWMON_ROOT``, default ``/sys/class/hwmon``.
    event_source_root : str
        ``FASTGREEN_EVENT_SOURCE_ROOT``, default ``/sys/bus/event_source/devices``: the second road to RAPL.
    grant_socket : str
        ``FASTGREEN_GRANT_SOCKET``, default ``/run/fastgreen/grant.sock``: who hands out counters.
    proc_root : str
        ``FASTGREEN_PROC_ROOT``, default ``/proc``.
    """

    powercap_root: str = "/sys/class/powercap"
    nvml_library: str = "libnvidia-ml.so.1"
    hwmon_root: str = "/sys/class/hwmon"
    proc_root: str = "/proc"
    event_source_root: str = "/sys/bus/event_source/devices"
    grant_socket: str = "/run/fastgreen/grant.sock"

    @classmethod
    def of(cls, **given: str | os.PathLike | None) -> Seams:
        """The given seams, else those of the environment, else the defaults. TypeError for an unknown one."""
        unknown = given.keys() - cls.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown argument {sorted(unknown)[0]!r}")
        values = {
            name: os.environ[f"FASTGREEN_{name.upper()}"]
            for name in cls.__annotations__
            if os.environ.get(f"FASTGREEN_{name.upper()}")
        }
        values.update({name: path_text(name, value) for name, value in given.items() if value is not None})
        return cls(**values)


@dataclass(frozen=True)
class Channel:
    """One readable quantity of a source.

    Attributes
    ----------
    id : str
        ``rapl:package-0``, ``rapl:package-0/dram``, ``nvml:0``, ...
    source : str
        ``rapl``, ``perf``, ``nvml``, ``hwmon``, ``procstat`` or ``replay``.
    kind : str
        ``energy`` (a cumulative counter) or ``power``.
    name : str
        What the sensor calls itself.
    parent : str or None
        Id of the channel that this one lies inside of.
    root : bool
        True when it counts toward a total.
    readable : bool
    reason, remedy : str or None
        Why it cannot be read, and the command or step that mends it.
    estimated : bool
        True when it is computed from a model and not measured.
    unit : str
        Unit of the raw integer: uJ, mJ, J/2^32, uW or mW.
    wrap_j : float or None
        Energy at which the counter starts again from 0, in J; None when it does not, or when it is not known.
    note : str or None
        What a reader of its numbers should know.
    visible : bool
        False for a GPU that CUDA_VISIBLE_DEVICES hides; such a channel is read only when asked for by name.
    ceiling_w, floor_w : float or None
        Most and least power the channel can draw, where the machine says so.
    device, driver : str
        What is read (a zone, a board's UUID, a chip) and through which kernel or driver.
    period_s, averaging_s, delay_s, coverage : float or None
        What `fastgreen.sensors.sensor_facts` remembers of the sensor: time between updates, length and age of the mean
        that a power channel shows, and the share of time it looks at.
    """

    id: str
    source: str
    kind: str
    name: str
    unit: str
    parent: str | None = None
    root: bool = True
    readable: bool = True
    reason: str | None = None
    remedy: str | None = None
    estimated: bool = False
    wrap_j: float | None = None
    note: str | None = None
    visible: bool = True
    ceiling_w: float | None = None
    floor_w: float | None = None
    device: str = ""
    driver: str = ""
    period_s: float | None = None
    averaging_s: float | None = None
    delay_s: float | None = None
    coverage: float | None = None
    sensor: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    traits: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def error(self) -> ChannelPermission | ChannelReadError:
        """The exception to raise for a channel that was asked for and cannot be read."""
        text = f"{self.id}: {self.reason}" + (f"; {self.remedy}" if self.remedy else "")
        permission = self.reason is not None and "ermission" in self.reason
        return (ChannelPermission if permission else ChannelReadError)(text)


@dataclass(frozen=True)
class SourceStatus:
    """Outcome of discovery for one source: the number of its channels; where there is none, the reason and a remedy."""

    source: str
    found: int
    reason: str | None = None
    remedy: str | None = None


Found = tuple[list[Channel], SourceStatus]


def traits(kind: str, unit: str, *, modulus: int = 0, quantum: int = 1, period_ns: int) -> dict[str, Any]:
    """struct fg_traits as a dictionary."""
    return {
        "kind": kind,
        "modulus": modulus,
        "quantum": quantum,
        "period_ns": period_ns,
        "plausible_per_s": round(PLAUSIBLE_W / UNITS[unit]) if kind == "energy" else 0,
    }
