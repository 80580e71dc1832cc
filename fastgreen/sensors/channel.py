"""One channel, the places to look for channels, and the outcome of looking."""

from __future__ import annotations

import os

from fastgreen._light_dataclass import dataclass, field, replace
from fastgreen.errors import ChannelPermission, ChannelReadError
from fastgreen.guards.arguments import path_text
from fastgreen.units import UNITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = [
    "ENGINE_SOURCE",
    "Channel",
    "Found",
    "Seams",
    "SourceStatus",
    "by_own_limit",
    "least_certain",
    "plausible_w",
    "traits",
]

# Sources that the engine reads in the way of another one: attributes of sysfs that hold an integer.
ENGINE_SOURCE = {"scmi": "hwmon", "dtpm": "hwmon", "battery": "hwmon"}

# No limit above this is believed, and no model draws more: no channel of one machine draws a megawatt.
PLAUSIBLE_W = 1e6
# Growth beyond the plausible power, over the time since the counter last changed and 50 ms (csrc/fg_jump.h), is no
# energy. A channel's own limit is a mean over its window, can be raised in mid-run, and is 0 or absurd in some
# firmware: hence the headroom, a least and a most. A channel without a limit counts as one of 1 kW.
HEADROOM = 4.0
LEAST_PLAUSIBLE_W, MOST_PLAUSIBLE_W = 200.0, 20_000.0
UNLIMITED_W = 1000.0


_CERTAINTIES = ("certain", "modelled", "sampled")


@dataclass(frozen=True)
class Seams:
    """Where sensors are looked for; every member is also an environment variable and a keyword of `Monitor`.

    Attributes
    ----------
    powercap_root : str
        ``FASTGREEN_POWERCAP_ROOT``, default ``/sys/class/powercap``.
    nvml_library : str
        ``FASTGREEN_NVML_LIBRARY``, default ``libnvidia-ml.so.1``.
    amdsmi_library : str
        ``FASTGREEN_AMDSMI_LIBRARY``, default ``libamd_smi.so`` in the folders of ROCm or the system.
    hwmon_root : str
        ``FASTGREEN_HWMON_ROOT``, default ``/sys/class/hwmon``.
    event_source_root : str
        ``FASTGREEN_EVENT_SOURCE_ROOT``, default ``/sys/bus/event_source/devices``: the second road to RAPL.
    grant_socket : str
        ``FASTGREEN_GRANT_SOCKET``, default ``/run/fastgreen/grant.sock``: who hands out counters.
    proc_root : str
        ``FASTGREEN_PROC_ROOT``, default ``/proc``.
    cpu_root : str
        ``FASTGREEN_CPU_ROOT``, default ``/sys/devices/system/cpu``: which CPUs share a package.
    power_supply_root : str
        ``FASTGREEN_POWER_SUPPLY_ROOT``, default ``/sys/class/power_supply``: batteries.
    kfd_root : str
        ``FASTGREEN_KFD_ROOT``, default ``/sys/class/kfd/kfd/topology/nodes``: the order in which ROCm counts boards.
    """

    powercap_root: str = "/sys/class/powercap"
    nvml_library: str = "libnvidia-ml.so.1"
    hwmon_root: str = "/sys/class/hwmon"
    proc_root: str = "/proc"
    event_source_root: str = "/sys/bus/event_source/devices"
    grant_socket: str = "/run/fastgreen/grant.sock"
    cpu_root: str = "/sys/devices/system/cpu"
    power_supply_root: str = "/sys/class/power_supply"
    amdsmi_library: str = "libamd_smi.so"
    kfd_root: str = "/sys/class/kfd/kfd/topology/nodes"

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
        ``rapl``, ``perf``, ``nvml``, ``amdsmi``, ``hwmon``, ``scmi``, ``dtpm``, ``battery``, ``procstat`` or
        ``replay``.
    kind : str
        ``energy`` (a cumulative counter) or ``power``.
    name : str
        What the sensor calls itself.
    parent : str or None
        Id of the channel that this one lies inside of.
    root : bool
        True when it counts toward a total.
    readable : bool
        Whether it can be read now.
    reason, remedy : str or None
        Why it cannot be read, and the command or step that makes it readable.
    estimated : bool
        True when it is computed from a model and not measured.
    unit : str
        Unit of the raw integer: uJ, mJ, J/2^32, pW, uW or mW.
    wrap_j : float or None
        Energy at which the counter starts again from 0, in J; None when it does not, or when it is not known.
    note : str or None
        What a reader of its numbers should know.
    visible : bool
        False for a GPU that CUDA_VISIBLE_DEVICES hides, or ROCR_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES for an AMD
        board; this channel is read only if it is named.
    ceiling_w, floor_w : float or None
        Most and least power the channel can draw, where the machine says so.
    device, driver : str
        What is read (a zone, a board's UUID, a chip) and through which kernel or driver.
    period_s, averaging_s, delay_s, coverage : float or None
        What `fastgreen.sensors.sensor_facts` remembers of the sensor: time between updates, length and age of the mean
        that a power channel shows, and the share of time it looks at.
    bus : str
        PCI address of the device, as ``0000:03:00.0``; empty where it is not known or the device has none.
    role : str
        The word of `fastgreen.sensors.settlement` for its kind of sensor; the source where that says enough.
    counter : str
        The physical counter that it reads, see `fastgreen.sensors.counter_identity`; empty where that is not known.
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
    bus: str = field(default_factory=str, repr=False, compare=False)
    role: str = field(default_factory=str, repr=False, compare=False)
    counter: str = field(default_factory=str, repr=False, compare=False)

    @property
    def bounds(self) -> str:
        """Quality of the bounds of its energies: ``certain``, ``modelled`` or ``sampled``.

        The bounds of a counter hold as long as its update period does. Those of an estimate hold as far as its model
        does. A power sensor shows nothing of the time in which it does not look, and a mean hides what it averages
        over. So its readings bound no energy, whatever its coverage is.
        """
        if self.estimated:
            return "modelled"
        return "certain" if self.kind == "energy" else "sampled"

    def error(self) -> ChannelPermission | ChannelReadError:
        """The exception to raise for a channel that was asked for and cannot be read."""
        text = f"{self.id}: {self.reason}" + (f"; {self.remedy}" if self.remedy else "")
        permission = self.reason is not None and "ermission" in self.reason
        return (ChannelPermission if permission else ChannelReadError)(text)


@dataclass(frozen=True)
class SourceStatus:
    """Outcome of discovery for one source: the number of its channels; without a channel, the reason and a remedy."""

    source: str
    found: int
    reason: str | None = None
    remedy: str | None = None


def least_certain(channels: Iterable[Channel]) -> str:
    """`Channel.bounds` of a sum of channels: that of its least certain part."""
    return max((channel.bounds for channel in channels), key=_CERTAINTIES.index, default=_CERTAINTIES[0])


def plausible_w(limit_w: float | None) -> float:
    """The power above which a channel's growth is no energy, in W; `limit_w` is its own limit, if there is one."""
    limit_w = limit_w if limit_w is not None and limit_w > 0 else UNLIMITED_W
    return min(max(HEADROOM * limit_w, LEAST_PLAUSIBLE_W), MOST_PLAUSIBLE_W)


def by_own_limit(channel: Channel) -> Channel:
    """The channel with the plausibility of its own limit; an estimate follows its model, whatever that says."""
    if channel.kind != "energy" or channel.estimated:
        return channel
    most = round(plausible_w(channel.ceiling_w) / UNITS[channel.unit])
    return replace(channel, traits={**channel.traits, "plausible_per_s": most})


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
