# SPDX-License-Identifier: Apache-2.0
"""A real libamd_smi.so whose boards, counters and faults a test writes down.

Each `FakeAmdSmi` is a copy of the built library in a folder of its own, beside its script and its counts. The script is
read at every call, so `write` changes a library that is in use. Everything follows CLOCK_MONOTONIC.
"""

from __future__ import annotations

import os
import shutil
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .build import amdsmi_library
from .wave import Wave, as_wave

JOULES_PER_COUNT = 2.0**-16
COUNTS = struct.Struct("QQ8QQ")


@dataclass(frozen=True)
class Board:
    """One GPU.

    `start` is the counter at the epoch, in its own steps; it has `bits` and shows a new value every `period_s`. `fixed`
    is a value that never moves. `slip` is (every s, for s, steps): the counter shows so many steps less for a while, or
    more where negative. `code` is what reading it answers.
    """

    power: Wave | float = 100.0
    uuid: str = "6aff74a1-0000-1000-8012-000000000001"
    name: str = "AMD Instinct MI300X OAM"
    bus: str | None = "0000:03:00.0"
    socket: int | None = None
    cap_w: float = 750.0
    start: float = 1e10
    resolution_uj: float = 15.3
    bits: int = 64
    period_s: float = 0.001
    fixed: int | None = None
    slip: tuple[float, float, int] | None = None
    code: int = 0
    stamp: str = "boot"
    gone: bool = False
    slow_s: float = 0.0

    def text(self, number: int) -> str:
        lines = [f"board {self.uuid}", f"name {self.name}", f"cap {round(self.cap_w * 1e6)}"]
        lines.append(f"socket {number if self.socket is None else self.socket}")
        domain, bus, rest = (self.bus or ":: ").split(":")
        lines.append("bus " + (f"{domain} {bus} {rest.replace('.', ' ')}" if self.bus else "none"))
        lines.append(f"energy {self.start!r} {self.resolution_uj!r} {self.bits} {round(self.period_s * 1e9)}")
        lines.append(f"power {as_wave(self.power).text()}")
        lines += [f"fixed {self.fixed}"] if self.fixed is not None else []
        if self.slip is not None:
            every_s, length_s, drop = self.slip
            lines.append(f"slip {round(every_s * 1e9)} {round(length_s * 1e9)} {drop}")
        lines += [f"code {self.code}", f"stamp {self.stamp}", f"slow {round(self.slow_s * 1e9)}"]
        return "\n".join(lines + (["gone"] if self.gone else []))

    def energy_j(self, begin_s: float, end_s: float) -> float:
        """What it draws between two times since the epoch."""
        power = as_wave(self.power)
        return power.energy_j(end_s) - power.energy_j(begin_s)


@dataclass
class FakeAmdSmi:
    """The library at `library`; `fault` is a name that the C file knows, `init` the code of its initialisation."""

    folder: Path
    boards: Sequence[Board] = (Board(),)
    version: tuple[int, int, int, int] = (26, 1, 0, 0)
    init: int = 0
    fault: str = ""
    omit: Sequence[str] = ()
    epoch_ns: int = field(default_factory=time.monotonic_ns)
    library: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.library = self.folder / "libamd_smi.so"
        shutil.copyfile(amdsmi_library(tuple(self.omit)), self.library)
        self.write()

    def write(self, **changes: object) -> None:
        """Changes any of the constructor's scripted arguments; seen by the very next call of every process."""
        for name, value in changes.items():
            if name not in ("boards", "version", "init", "fault", "epoch_ns"):
                raise ValueError(f"not part of the script: {name}")
            setattr(self, name, value)
        lines = [f"epoch {self.epoch_ns}", f"version {' '.join(map(str, self.version))}", f"init {self.init}"]
        lines.append(f"fault {self.fault}")
        lines += [board.text(number) for number, board in enumerate(self.boards)]
        new = self.folder / "script.new"
        new.write_text("\n".join(lines) + "\n")
        os.replace(new, self.folder / "script")

    def counts(self) -> dict[str, int]:
        """Calls so far, of all processes: inits, shutdowns, reads of energy, and calls side by side."""
        try:
            inits, shutdowns, *energies, together = COUNTS.unpack((self.folder / "counts").read_bytes())
        except FileNotFoundError:
            inits = shutdowns = together = 0
            energies = [0]
        return {"inits": inits, "shutdowns": shutdowns, "energies": sum(energies), "side_by_side": together}

    def energy_j(self, board: int, begin_ns: int, end_ns: int) -> float:
        """What a board draws between two instants of CLOCK_MONOTONIC."""
        return self.boards[board].energy_j((begin_ns - self.epoch_ns) * 1e-9, (end_ns - self.epoch_ns) * 1e-9)
