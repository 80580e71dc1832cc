# SPDX-License-Identifier: Apache-2.0
"""Each energy once: machines as they are sold, measured from start to end, against what they drew."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import fastgreen as fg
from fastgreen.sensors.channel import Channel
from fastgreen.sensors.settlement import RULES, settle
from tests.fakes import hwmon as chips
from tests.fakes.amdsmi import JOULES_PER_COUNT, Board, FakeAmdSmi
from tests.fakes.hwmon import Chip, HwmonTree
from tests.fakes.nvml import FakeNvml, Gpu, Rule
from tests.fakes.permissions import without_dac_override
from tests.fakes.power_supply import laptop
from tests.fakes.power_zones import power_zones
from tests.fakes.powercap import PowercapTree, Zone
from tests.sensors.test_nvml_boards import ENERGY

W = 1_000_000  # uW


@dataclass
class Machine:
    """What a machine has, and what it draws.

    `watts` are of sensors that show a power: what each root shows all the time. `joules` are of counters: what each
    root counts during the run, in uJ; `counts` are the same of AMD's boards, in 2^-16 J. `said` is a word that the note
    of a channel must hold.
    """

    chips: tuple[Chip, ...] = ()
    zones: tuple[Zone, ...] = ()
    power_zones: dict[str, tuple[str, int]] = field(default_factory=dict)
    boards: tuple[Gpu, ...] = ()  # without an energy counter
    amd_boards: tuple[Board, ...] = ()
    battery: bool = False
    forbidden: bool = False  # powercap may not be read
    watts: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    joules: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)


GRACE_FIRST = tuple(
    chips.acpi_meter(f"{part} Power Socket {n}", watts * W, number)
    for number, (n, (part, watts)) in enumerate(
        itertools.product(range(2), [("Module", 700), ("Grace", 150), ("CPU", 120), ("SysIO", 10)])
    )
)
GRACE_SECOND = tuple(
    chips.acpi_meter(name, value, number, at_device=False)
    for number, (name, value) in enumerate(
        [
            ("Total Power in uW socket 0", 150 * W),
            ("CPU Rail Power in uW socket 0", 70 * W),
            ("SOC Rail Power in uW socket 0", 6 * W),
            ("DRAM Power in uW socket 0", 8 * W),
            ("CPU Rail Output Power in uW socket 0", 55 * W),
            ("Total CPU Energy In uJ socket 0", 1_000_000),
            ("Chipthrot DDR Throttle (samples x1000) socket 0", 2_000),
            ("Total Input Power in uW socket 1", 160 * W),
            ("Total CPU Energy In uJ socket 1", 2_000_000),
        ]
    )
)
ORIN_AGX = chips.ina3221(
    {"VDD_GPU_SOC": (19000, 400), "VDD_CPU_CV": (19000, 400), "VIN_SYS_5V0": (5000, 1520)},
)
ORIN_NANO = chips.ina3221({"VDD_IN": (5000, 2000), "VDD_CPU_GPU_CV": (5000, 800), "VDD_SOC": (5000, 300)})
THOR = chips.ina3221({"VDD_GPU": (19000, 100), "VDD_CPU_SOC_MSS": (19000, 300), "VIN_SYS_5V0": (5000, 1200)})
AUX = chips.Chip(
    "ina3221", chips.ina3221({"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5000, 200)}).files, "platform/i2c-1/1-0041"
)
PACKAGE = Zone("package-0", counter_start_uj=30_000_000)
AMD_BOARDS = tuple(
    Board(uuid=f"6aff74a1-0000-1000-8012-00000000000{n}", bus=f"0000:{bus}:00.0", fixed=fixed, code=code)
    for n, (bus, fixed, code) in enumerate([("03", 10**10, 0), ("83", 2**32 - 5, 0), ("c3", 0, 2)])
)
EPYC_POWER = (chips.amd_hsmp(90 * W), chips.amd_hsmp(80 * W, socket=1))

MACHINES: dict[str, Machine] = {
    "an AMD laptop on its battery": Machine(
        (chips.apu(25 * W),),
        (PACKAGE,),
        battery=True,
        joules={"rapl:package-0": 5_000_000},
        said={
            "hwmon:amdgpu/PPT": "not added to rapl:package-0",
            "battery:BAT0": "whole machine",
            "procstat:cpu": "rapl:package-0 measures the CPU",
        },
    ),
    "an AMD laptop with a graphics card": Machine(
        (chips.apu(25 * W), chips.amdgpu(input_uw=60 * W)),
        (PACKAGE,),
        joules={"rapl:package-0": 5_000_000},
        watts={"hwmon:amdgpu@hwmon1/PPT": 60},
        said={"hwmon:amdgpu/PPT": "CPU included"},
    ),
    "an AMD laptop whose counters are forbidden": Machine(
        (chips.apu(25 * W),),
        (PACKAGE,),
        forbidden=True,
        watts={"hwmon:amdgpu/PPT": 25},
        said={"procstat:cpu": "hwmon:amdgpu/PPT measures the CPU"},
    ),
    "EPYC with everything": Machine(
        (chips.amd_energy(cores=2, sockets=1), chips.amd_hsmp(90 * W)),
        (PACKAGE,),
        joules={"rapl:package-0": 5_000_000},
        said={
            "hwmon:amd_energy/Esocket0": "the same sockets as rapl:package-0",
            "hwmon:amd_hsmp_hwmon/power1": "the same sockets as rapl:package-0",
        },
    ),
    "EPYC whose powercap is forbidden": Machine(
        (chips.amd_energy(cores=2, sockets=1), chips.amd_hsmp(90 * W)),
        (PACKAGE,),
        forbidden=True,
        joules={"hwmon:amd_energy/Esocket0": 3_000_001},
        said={
            "hwmon:amd_hsmp_hwmon/power1": "the same sockets as hwmon:amd_energy/Esocket0",
            "hwmon:amd_energy/Ecore000": "inside its socket",
        },
    ),
    "EPYC with HSMP alone": Machine(
        EPYC_POWER,
        watts={"hwmon:amd_hsmp_hwmon/power1": 90, "hwmon:amd_hsmp_hwmon@hwmon1/power1": 80},
        said={"procstat:cpu": "hwmon:amd_hsmp_hwmon/power1 and 1 more measures"},
    ),
    "a Grace superchip, first naming, older kernel": Machine(
        GRACE_FIRST,
        watts={
            "hwmon:power_meter@hwmon1/Grace Power Socket 0": 150,
            "hwmon:power_meter@hwmon5/Grace Power Socket 1": 150,
        },
        said={
            "hwmon:power_meter/Module Power Socket 0": "GPU, memory and CPU together",
            "hwmon:power_meter@hwmon6/CPU Power Socket 1": "inside hwmon:power_meter@hwmon5/Grace Power Socket 1",
            "hwmon:power_meter@hwmon1/Grace Power Socket 0": "the mean of 50 ms",
        },
    ),
    "a Grace superchip, second naming, newer kernel": Machine(
        GRACE_SECOND,
        watts={
            "hwmon:power_meter/Total Power in uW socket 0": 150,
            "hwmon:power_meter@hwmon7/Total Input Power in uW socket 1": 160,
        },
        said={
            "hwmon:power_meter@hwmon5/Total CPU Energy In uJ socket 0": "inside hwmon:power_meter/Total Power",
            "hwmon:power_meter@hwmon8/Total CPU Energy In uJ socket 1": "inside hwmon:power_meter@hwmon7/Total Input",
        },
    ),
    "a Grace that shows nothing but its counter and rails": Machine(
        (GRACE_SECOND[5], GRACE_SECOND[1], GRACE_SECOND[3]),
        joules={"hwmon:power_meter/Total CPU Energy In uJ socket 0": 2_000_003},
        said={"hwmon:power_meter@hwmon1/CPU Rail Power in uW socket 0": "inside"},
    ),
    "GH200": Machine(
        GRACE_FIRST[:4],
        boards=(Gpu(name="NVIDIA GH200 480GB", power=400.0),),
        watts={"hwmon:power_meter@hwmon1/Grace Power Socket 0": 150, "nvml:0": 400},
    ),
    "a server with an ACPI meter for the chassis": Machine(
        (chips.acpi_meter("", 300 * W), chips.power_meter(310 * W)),
        (PACKAGE,),
        joules={"rapl:package-0": 5_000_000},
        said={"hwmon:power_meter/power1": "the whole machine", "hwmon:power_meter@hwmon1/power1": "the whole machine"},
    ),
    "a server with a meter whose name is in another language": Machine(
        (chips.acpi_meter("Gesamtleistung Gehäuse", 300 * W),),
        (PACKAGE,),
        joules={"rapl:package-0": 5_000_000},
        said={"hwmon:power_meter/Gesamtleistung Gehäuse": "the whole machine"},
    ),
    "Ampere Altra with two sockets": Machine(
        (chips.altra(3), chips.altra(2, socket=1)),
        joules={
            **{f"hwmon:altra_hwmon/Core Energy {n:03}": 1_000 * (n + 1) for n in range(3)},
            **{f"hwmon:altra_hwmon@hwmon1/Core Energy {n:03}": 7 for n in range(2)},
        },
        said={"procstat:cpu": "and 4 more", "hwmon:altra_hwmon/Core Energy 000": "together are the CPU"},
    ),
    "X-Gene": Machine(
        (chips.apm_xgene(30 * W, 10 * W),),
        watts={"hwmon:apm_xgene/CPU power": 30, "hwmon:apm_xgene/IO power": 10},
        said={"procstat:cpu": "hwmon:apm_xgene/CPU power measures"},
    ),
    "an Arm board whose firmware shows zones": Machine(
        power_zones={
            "arm-scmi:0": ("soc", 12 * W),
            "arm-scmi:0:0": ("big", 6 * W),
            "arm-scmi:0:1": ("little", 2 * W),
            "arm-scmi:1": ("gpu", 5 * W),
        },
        watts={"scmi:soc": 12, "scmi:gpu": 5},
        said={"scmi:soc/big": "inside scmi:soc", "procstat:cpu": "scmi:soc measures the CPU"},
    ),
    "Jetson AGX Orin": Machine(
        (ORIN_AGX, AUX),
        watts={
            "hwmon:ina3221/VDD_GPU_SOC": 7.6,
            "hwmon:ina3221/VDD_CPU_CV": 7.6,
            "hwmon:ina3221/VIN_SYS_5V0": 7.6,
        },
        said={
            "hwmon:ina3221@hwmon1/VDDQ_VDD2_1V8AO": "unless its id is given",
            "procstat:cpu": "hwmon:ina3221/VDD_CPU_CV measures",
        },
    ),
    "Jetson Orin Nano": Machine(
        (ORIN_NANO,),
        watts={"hwmon:ina3221/VDD_IN": 10},
        said={"hwmon:ina3221/VDD_SOC": "inside hwmon:ina3221/VDD_IN", "procstat:cpu": "VDD_IN measures the CPU"},
    ),
    "Jetson Thor": Machine(
        (THOR, chips.ina238(19000, 1000, "VIN")),
        boards=(Gpu(name="NVIDIA Thor", power=3.0),),
        watts={"hwmon:ina238/VIN": 19},
        said={
            "hwmon:ina3221/VIN_SYS_5V0": "inside hwmon:ina238/VIN",
            "nvml:0": "a part of the module that hwmon:ina238/VIN",
            "procstat:cpu": "VIN measures",
        },
    ),
    "EPYC with two AMD boards and a Radeon without a counter": Machine(
        tuple(chips.amdgpu(w * W, bus=f"0000:{bus}:00.0") for w, bus in ((300, "03"), (280, "83"), (40, "c3"))),
        (PACKAGE, Zone("package-1", counter_start_uj=40_000_000)),
        amd_boards=AMD_BOARDS,
        joules={"rapl:package-0": 5_000_000, "rapl:package-1": 4_000_003},
        counts={"amdsmi:0": 1_234_567, "amdsmi:1": 7},
        watts={"hwmon:amdgpu@hwmon2/PPT": 40},
        said={
            "hwmon:amdgpu/PPT": "the board whose energy amdsmi:0 counts",
            "hwmon:amdgpu@hwmon1/PPT": "the board whose energy amdsmi:1 counts",
            "amdsmi:2": "hwmon:amdgpu@hwmon2/PPT counts this board",
        },
    ),
    "an AMD laptop whose APU and graphics card both show a counter": Machine(
        (chips.apu(25 * W, bus="0000:03:00.0"), chips.amdgpu(input_uw=60 * W, bus="0000:83:00.0")),
        (PACKAGE,),
        amd_boards=AMD_BOARDS[:2],
        joules={"rapl:package-0": 5_000_000},
        counts={"amdsmi:1": 65_537},
        said={"amdsmi:0": "the chip of hwmon:amdgpu/PPT, CPU included", "hwmon:amdgpu/PPT": "not added to"},
    ),
    "an Intel graphics card by xe": Machine(
        (chips.xe(1000, 500),),
        (PACKAGE,),
        joules={"rapl:package-0": 5_000_000, "hwmon:xe/card": 4_000_001},
        said={"hwmon:xe/pkg": "inside the card"},
    ),
}


@dataclass
class Built:
    tree: HwmonTree | None
    powercap: PowercapTree | None
    amd: FakeAmdSmi | None

    def move(self, machine: Machine, channels: dict[str, Channel]) -> None:
        """Every counter counts what the machine says."""
        if self.amd is not None:
            grown = [machine.counts.get(f"amdsmi:{n}", 0) for n in range(len(self.amd.boards))]
            moved = [replace(b, fixed=(b.fixed or 0) + g) for b, g in zip(self.amd.boards, grown, strict=True)]
            self.amd.write(boards=moved)
        for identity, grown_uj in machine.joules.items():
            path = Path(channels[identity].sensor["path"])
            if identity.startswith("rapl:"):
                assert self.powercap is not None
                zone = identity.removeprefix("rapl:")
                self.powercap.set_uj(zone, self.powercap.read_uj(zone) + grown_uj)
                continue
            path.write_text(f"{int(path.read_text()) + grown_uj}\n")


@pytest.fixture
def build(tmp_path, monkeypatch) -> Callable[[Machine], Built]:
    def make(machine: Machine) -> Built:
        tree = powercap = amd = None
        if machine.chips:
            tree = HwmonTree(tmp_path / "hwmon", machine.chips)
            monkeypatch.setenv("FASTGREEN_HWMON_ROOT", str(tree.root))
        if machine.zones:
            powercap = PowercapTree(tmp_path / "powercap", machine.zones)
            monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(powercap.root))
            if machine.forbidden:
                powercap["package-0"].energy.chmod(0)
        if machine.power_zones:
            root = power_zones(tmp_path / "zones", machine.power_zones)
            monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(root))
        if machine.boards:
            fake = FakeNvml(tmp_path / "nvml", devices=machine.boards, rules=[Rule(ENERGY, code=3)])
            monkeypatch.setenv("FASTGREEN_NVML_LIBRARY", str(fake.library))
        if machine.amd_boards:
            amd = FakeAmdSmi(tmp_path / "amdsmi", machine.amd_boards)
            monkeypatch.setenv("FASTGREEN_AMDSMI_LIBRARY", str(amd.library))
        if machine.battery:
            monkeypatch.setenv("FASTGREEN_POWER_SUPPLY_ROOT", str(laptop(tmp_path / "supplies")))
        return Built(tree, powercap, amd)

    return make


@pytest.mark.filterwarnings("ignore:.*permission denied")
@pytest.mark.parametrize("name", MACHINES)
def test_what_a_machine_draws_is_counted_once_and_exactly(build, name, soon):
    machine = MACHINES[name]
    built = build(machine)
    with without_dac_override():
        found = {c.id: c for c in fg.channels()}
        with fg.Monitor(hz=100) as monitor:
            soon(lambda: all(reading.at_ns for reading in monitor.readings().values()))
            built.move(machine, found)
            time.sleep(0.05)
    assert {c.id for c in found.values() if c.root and c.readable} == {*machine.watts, *machine.joules, *machine.counts}
    for identity, words in machine.said.items():
        assert words in found[identity].note, found[identity].note
    total_j = 0.0
    for row in monitor.result.channels.to_pylist():
        if not row["counted"]:
            continue
        report = monitor.result.trace(row["id"]).tally
        span_s = (report["end_at_ns"] - report["first_at_ns"]) * 1e-9
        truth_j = machine.watts.get(row["id"], 0.0) * span_s + machine.joules.get(row["id"], 0) * 1e-6
        truth_j += machine.counts.get(row["id"], 0) * JOULES_PER_COUNT
        assert row["energy_j"] == pytest.approx(truth_j, abs=0.9e-6), row["id"]
        total_j += truth_j
    assert monitor.result.energy_j == pytest.approx(total_j, abs=1e-6)


@pytest.mark.parametrize("name", MACHINES)
def test_every_channel_that_is_left_out_says_why(build, name):
    build(MACHINES[name])
    with without_dac_override():
        found = fg.channels()
    silent = [c.id for c in found if not c.root and not c.note and not c.reason]
    assert silent == []


def test_a_module_whose_gpu_refuses_its_own_scope_holds_grace(build, monkeypatch, tmp_path):
    build(Machine(GRACE_FIRST[:4], boards=(Gpu(name="NVIDIA GH200", power=500.0, scopes=(0.0, 1.0, 0.0)),)))
    found = {c.id: c for c in fg.channels()}
    assert [i for i, c in found.items() if c.root] == ["nvml:0"]
    assert "inside the module whose power nvml:0 shows" in found["hwmon:power_meter@hwmon1/Grace Power Socket 0"].note
    assert "nvml:0 measures the CPU" in found["procstat:cpu"].note


def test_only_a_module_is_better_than_nothing(build):
    build(Machine(GRACE_FIRST[:1]))
    assert [c.id for c in fg.channels() if c.root] == ["hwmon:power_meter/Module Power Socket 0"]


# ---- the table ----


def test_every_rule_says_why():
    for rule in RULES:
        assert rule.reason
        assert rule.aside
        assert not set(rule.aside) & set(rule.beside), rule


SLOTS = ("", "0000:03:00.0", "0000:03:00.1", "0000:83:00.0")
ROLES = sorted({role for rule in RULES for role in (*rule.aside, *rule.beside)} | {"gpu"})


def channel(number: int, role: str, **fields: Any) -> Channel:
    return Channel(f"x:{number}", "x", "power", f"meter {number % 2}", "uW", role=role, **fields)


def slow_settle(channels: list[Channel]) -> set[str]:
    """The ids that count, by the words of the table alone."""
    counting = [c for c in channels if c.root]
    for rule in RULES:
        if any(c.role in rule.unless and c.readable for c in counting):
            continue
        kept = []
        for c in counting:
            others = [o for o in counting if o.role in rule.beside and (o.readable or rule.unread)]
            if rule.per_socket:
                others = [o for o in others if o.name == c.name]
            if rule.per_board:
                others = [o for o in others if not o.bus or not c.bus or o.bus[:-2] == c.bus[:-2]]
            if c.role not in rule.aside or (rule.beside and not others) or (rule.unreadable and c.readable):
                kept.append(c)
        counting = kept
    return {c.id for c in counting}


def test_random_machines_are_settled_as_the_table_says():
    rng = random.Random(11)
    for _ in range(3000):
        roles = rng.choices(ROLES, k=rng.randint(0, 9))
        made = [
            channel(n, r, readable=rng.random() < 0.8, root=rng.random() < 0.9, bus=rng.choice(SLOTS))
            for n, r in enumerate(roles)
        ]
        settled = settle(made)
        assert [c.id for c in settled] == [c.id for c in made]
        assert {c.id for c in settled if c.root} == slow_settle(made)
        for before, after in zip(made, settled, strict=True):
            assert (before.root, before.note) == (after.root, after.note) or (before.root and after.note)
        assert settle(settled) == settled
