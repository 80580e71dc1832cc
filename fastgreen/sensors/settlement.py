"""Which channels count toward the total where several sensors show the same energy: one table of rules.

A source marks every channel that is the whole of something (`Channel.root`) and says which kind of sensor it is
(`Channel.role`; without one, the source's name is the role). It knows nothing of other sources. Here the rules are
applied in their order: a root that another root holds, or repeats, is set aside, and its note gets the reason.
"""

from __future__ import annotations

from fastgreen._light_dataclass import dataclass, replace
from fastgreen.sensors.channel import Channel

__all__ = ["RULES", "Rule", "settle"]


@dataclass(frozen=True)
class Rule:
    """Roots of the roles `aside` do not count where a root of a role in `beside` does.

    Attributes
    ----------
    aside : tuple of str
        Roles of the channels that are set aside.
    beside : tuple of str
        Roles of the channels that count instead, if they are readable; empty: the rule always holds.
    reason : str
        What the note says; ``{beside}`` becomes the id of the channel that counts.
    inside : bool
        Whether what is set aside becomes a child of the channel that counts.
    per_socket : bool
        Whether both must name the same socket, by the number that ends their names.
    unless : tuple of str
        Roles of which no root may be readable, or the rule does not hold.
    per_board : bool
        Whether both must be at the same PCI address; a channel without an address may be any board.
    unreadable : bool
        Whether only a channel that cannot be read is set aside.
    unread : bool
        Whether a channel that cannot be read also counts as being beside: it is reported as missing, not replaced.
    """

    aside: tuple[str, ...]
    beside: tuple[str, ...]
    reason: str
    inside: bool = False
    per_socket: bool = False
    per_board: bool = False
    unreadable: bool = False
    unless: tuple[str, ...] = ()
    unread: bool = False


_X86 = ("rapl", "perf")
_GRACE_CPU = ("grace-total", "grace-counter", "grace-cpu-part")
_GRACE = (*_GRACE_CPU, "grace-part")
_JETSON_RAILS = ("jetson-cpu-rail", "jetson-rail")
_ARM_CPU = ("altra-core", "xgene-cpu")
# Sensors that hold all CPUs of the machine, so that an estimate of the CPUs would count them twice.
_CPU = (
    *_X86,
    "amd-energy",
    "amd-hsmp",
    "apu",
    *_GRACE_CPU,
    "grace-module",
    "nvml-module",
    "jetson-module",
    "jetson-cpu-rail",
    *_ARM_CPU,
    "scmi-cpu",
)

RULES: tuple[Rule, ...] = (
    # Two ways to the same registers.
    Rule(("rapl",), ("perf",), "read through perf instead", unless=("rapl",)),
    Rule(("perf",), ("rapl",), "the same counters as rapl", unread=True),
    # AMD's boards: the energy counter goes before the driver's power, which becomes its check. These rules need the
    # APUs that later rules set aside.
    Rule(("amdsmi",), ("amdgpu", "apu"), "{beside} counts this board", per_board=True, unreadable=True),
    Rule(("amdsmi",), ("apu",), "the chip of {beside}, CPU included", per_board=True, unread=True),
    Rule(("amdgpu",), ("amdsmi",), "the board whose energy {beside} counts", inside=True, per_board=True),
    # Further counters and meters of the same sockets. A counter goes before a power.
    Rule(("amd-energy",), _X86, "the same sockets as {beside}"),
    Rule(("amd-hsmp",), (*_X86, "amd-energy"), "the same sockets as {beside}"),
    Rule(("xgene-cpu",), ("altra-core",), "the same cores as {beside}"),
    # An APU is one chip: its driver's power holds the CPU cores that the package counter holds as well.
    Rule(("apu",), (*_X86, "amd-energy", "amd-hsmp"), "not added to {beside}, which counts this chip's CPU"),
    # NVIDIA Grace. A superchip's module holds GPU, memory and CPU.
    Rule((*_GRACE, "grace-module"), ("nvml-module",), "inside the module whose power {beside} shows"),
    Rule(("grace-counter",), ("grace-total",), "inside {beside}", inside=True, per_socket=True),
    Rule(("grace-cpu-part", "grace-part"), ("grace-total",), "inside {beside}", inside=True, per_socket=True),
    Rule(("grace-cpu-part", "grace-part"), ("grace-counter",), "inside {beside}", inside=True, per_socket=True),
    Rule(("grace-module",), (*_GRACE, "nvml"), "not added to {beside}: a module is GPU, memory and CPU together"),
    # NVIDIA Jetson: the module's input holds every rail and the GPU; where it is not measured, the rails add up.
    Rule(_JETSON_RAILS, ("jetson-module",), "inside {beside}, the input of the whole module", inside=True),
    Rule(("nvml-integrated",), ("jetson-module", *_JETSON_RAILS), "a part of the module that {beside} counts"),
    # Firmware of Arm systems shows zones of a chip that its own meters count better.
    Rule(("scmi-cpu", "scmi"), (*_X86, *_GRACE, "jetson-module", *_JETSON_RAILS, *_ARM_CPU), "a zone of the same chip"),
    # These hold everything, so they fit beside no other channel.
    Rule(("chassis",), (), "the whole machine, so not added to any other channel; give its id to measure it"),
    Rule(("battery",), (), "the whole machine while it discharges: in no total unless its id is given"),
    # Models.
    Rule(("dtpm",), (), "computed by the kernel from clock rates and load, not measured"),
    Rule(("procstat",), _CPU, "not counted, because {beside} measures the CPU"),
)


def _role(channel: Channel) -> str:
    return channel.role or channel.source


def _socket(channel: Channel) -> str:
    import re

    number = re.search(r"([0-9]+)\W*$", channel.name)
    return number[1] if number else ""


def _board(channel: Channel) -> str:
    """The address of the slot; the parts of a board in partition mode differ by function."""
    return channel.bus.partition(".")[0].lower()


def _fit(rule: Rule, holder: Channel, channel: Channel) -> bool:
    """Whether the two show the same thing, where the rule asks for that."""
    if rule.per_socket and _socket(holder) != _socket(channel):
        return False
    boards = {_board(holder), _board(channel)} - {""}
    return not rule.per_board or len(boards) < 2


def _applied(rule: Rule, channels: list[Channel]) -> list[Channel]:
    """The channels after one rule."""
    roots = [c for c in channels if c.root]
    if any(c.readable and _role(c) in rule.unless for c in roots):
        return channels
    holders = [c for c in roots if _role(c) in rule.beside and (c.readable or rule.unread)]
    if rule.beside and not holders:
        return channels
    out = []
    for channel in channels:
        if channel.root and _role(channel) in rule.aside and not (rule.unreadable and channel.readable):
            mine = [h for h in holders if _fit(rule, h, channel)]
            if mine or not rule.beside:
                channel = _set_aside(channel, mine, rule)
        out.append(channel)
    return out


def _set_aside(channel: Channel, holders: list[Channel], rule: Rule) -> Channel:
    names = holders[0].id if holders else ""
    if len(holders) > 1 and not rule.per_socket:
        names += f" and {len(holders) - 1} more"
    note = "; ".join(filter(None, [channel.note, rule.reason.format(beside=names)]))
    parent = holders[0].id if rule.inside and holders else channel.parent
    return replace(channel, root=False, note=note, parent=parent)


def settle(channels: list[Channel]) -> list[Channel]:
    """The channels, each energy in one root only: `RULES`, applied one after the other.

    Parameters
    ----------
    channels : list of Channel
        Of all sources together.

    Returns
    -------
    list of Channel
        In the same order; only `root`, `note` and `parent` can differ.
    """
    roles = {_role(c) for c in channels if c.root}
    for rule in RULES:
        if not roles.isdisjoint(rule.aside):
            channels = _applied(rule, channels)
    return channels
