# SPDX-License-Identifier: Apache-2.0
"""A powercap tree in a folder, laid out as the kernel does: devices nested, a flat class folder of links to all zones.

By hand: `tree.set_uj("package-0", 123)` writes the number, exactly. By itself: ``with tree:`` starts a small C program
that moves every zone along its waveform, about every millisecond, without torn reads (powercap_mover.c says how).
While it moves, `energy_uj` leads to a number that the mover holds, so descriptors opened meanwhile end with it: stop
what reads before leaving the ``with``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .build import powercap_mover
from .wave import Wave, as_wave

RANGE_61UJ = 262_143_328_850
RANGE_15UJ = 65_532_610_987


@dataclass(frozen=True)
class Zone:
    """A zone and its children. `watts` moves it; the counter wraps at `range_uj` + `unit_uj`.

    `number` is its place among its siblings (printed in hexadecimal), by default the next; `mirror_of` names the zone
    (by id or path of names) whose counter this one repeats; a `range_text` stands in max_energy_range_uj as it is
    (None: the file is missing).
    """

    name: str = "package-0"
    watts: Wave | float = 0.0
    counter_start_uj: int = 0
    range_uj: int = RANGE_61UJ
    children: Sequence[Zone] = ()
    number: int | None = None
    control: str = "intel-rapl"
    unit_uj: int = 1
    mirror_of: str | None = None
    limit_uw: int | None = 125_000_000
    max_power_uw: int | None = 125_000_000
    enabled: bool = True
    range_text: str | None = ""


@dataclass
class PlacedZone:
    """A zone in the tree: `id` as in the class folder, `path` the names from its package down ("package-0/dram")."""

    id: str
    path: str
    zone: Zone
    folder: Path
    index: int
    mirror: PlacedZone | None = None
    counter_uj: int = 0
    started_uj: int = 0

    @property
    def energy(self) -> Path:
        return self.folder / "energy_uj"


FAULTS = {
    "empty": b"",
    "blank": b"\n",
    "truncated": b"26214",
    "no-newline": b"262143",
    "not-a-number": b"hello\n",
    "half-a-number": b"123abc\n",
    "negative": b"-5\n",
    "huge": b"123456789012345678901234567890\n",
    "binary": b"\x00\xff\x00\xff",
}


@dataclass
class PowercapTree:
    """Zones below `folder`; `root` is what stands for /sys/class/powercap."""

    folder: Path
    zones: Sequence[Zone] = (Zone(),)
    period_s: float = 0.001
    mode: str | None = None
    epoch_ns: int = 0
    placed: list[PlacedZone] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = Path(self.folder) / "class" / "powercap"
        self._devices = Path(self.folder) / "devices" / "virtual" / "powercap"
        self._mover: subprocess.Popen[str] | None = None
        self.root.mkdir(parents=True)
        numbers: dict[str, int] = {}
        for zone in self.zones:
            number = numbers.get(zone.control, 0) if zone.number is None else zone.number
            numbers[zone.control] = number + 1
            self._place(zone, f"{zone.control}:{number:x}", self._control(zone.control), "")
        for placed in self.placed:
            if placed.zone.mirror_of is not None:
                placed.mirror = self[placed.zone.mirror_of]
                self.set_uj(placed.id, placed.mirror.counter_uj)

    def __getitem__(self, key: str) -> PlacedZone:
        """By id, else by path of names, else by name where one zone only bears it."""
        for wanted in ("id", "path"):
            for placed in self.placed:
                if getattr(placed, wanted) == key:
                    return placed
        found = [placed for placed in self.placed if placed.zone.name == key]
        if len(found) != 1:
            raise KeyError(f"{len(found)} zones named {key}")
        return found[0]

    def set_uj(self, key: str, value_uj: int) -> None:
        """Shows this value; a moving zone stays at it from now on (in mode "kernel", 0 shows as 1).

        At rest the file is rewritten, which a concurrent reader may catch half done: while something samples, set the
        values of a started tree (zones of 0 W do not move), whose numbers change in one piece.
        """
        placed = self[key]
        placed.counter_uj = value_uj
        if self._mover is not None:
            self._ask(f"set {placed.index} {value_uj}")
        else:
            _rewrite(placed.energy, f"{value_uj}\n".encode())

    def read_uj(self, key: str) -> int:
        return int(self[key].energy.read_text())

    def energy_j(self, key: str, begin_ns: int, end_ns: int) -> float:
        """The true energy of a moving zone between two monotonic times, wraps apart."""
        placed = self[key].mirror or self[key]
        wave = as_wave(placed.zone.watts)
        return wave.energy_j((end_ns - self.epoch_ns) * 1e-9) - wave.energy_j((begin_ns - self.epoch_ns) * 1e-9)

    def counter_uj(self, key: str, now_ns: int) -> int:
        """What a moving zone's counter is at that time, whenever the mover shows it."""
        placed = self[key].mirror or self[key]
        zone = placed.zone
        energy = as_wave(zone.watts).energy_j((now_ns - self.epoch_ns) * 1e-9)
        total = placed.started_uj + int(max(energy * 1e6, 0))
        return total // zone.unit_uj * zone.unit_uj % (zone.range_uj + zone.unit_uj)

    @property
    def moving(self) -> bool:
        return self._mover is not None

    def punctuality_ns(self) -> tuple[int, int]:
        """The oldest that a moving number ever was, and the longest it took from its instant to its being shown.

        So the T that this sensor kept; its period only where the machine was not too busy to let it.
        """
        age, delay = self._ask("punctual").split()
        return int(age), int(delay)

    def start(self) -> PowercapTree:
        """Starts the mover: the kernel's own numbers where allowed, else mapped files (`mode` says which)."""
        if self._mover is not None:
            raise RuntimeError("already moving")
        reasons = []
        for mode in ("kernel", "file") if self.mode is None else (self.mode,):
            reason = self._launch(mode)
            if reason is None:
                self.mode = mode
                return self
            reasons.append(f"{mode}: {reason}")
        raise RuntimeError("; ".join(reasons))

    def stop(self) -> None:
        """Ends the mover; the counters stay, as plain files, where they stood."""
        if self._mover is None:
            return
        values = [int(value) for value in self._ask("freeze").split()]
        self._end()
        for placed, value_uj in zip(self.placed, values, strict=True):
            placed.counter_uj = value_uj
            if self.mode == "kernel" and placed.energy.is_symlink():
                _replace(placed.energy, f"{value_uj}\n".encode())

    def __enter__(self) -> PowercapTree:
        return self.start() if self._mover is None else self

    def __exit__(self, *unused: object) -> None:
        self.stop()

    def mover_cpu_s(self) -> float:
        """CPU time that the mover has used so far."""
        if self._mover is None:
            raise RuntimeError("not moving")
        fields = Path(f"/proc/{self._mover.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def break_file(self, key: str, fault: str, file: str = "energy_uj") -> None:
        """Replaces a zone's file by a faulty one; a descriptor already open keeps the old.

        A name in `FAULTS`, or "unreadable" (mode 000: binds for root too inside `without_dac_override`), "directory"
        (opens, then EISDIR), "dangling" (a link to nothing), "loop" (ELOOP), "missing".
        """
        path = self[key].folder / file
        _remove(path)
        if fault == "directory":
            path.mkdir()
        elif fault == "dangling":
            path.symlink_to("nowhere")
        elif fault == "loop":
            path.symlink_to(path.name)
        elif fault == "unreadable":
            path.write_bytes(b"1\n")
            path.chmod(0)
        elif fault != "missing":
            path.write_bytes(FAULTS[fault])

    def spoil(self, key: str, fault: str) -> None:
        """Puts a text of `FAULTS` into the counter of a zone at rest, seen through descriptors already open."""
        if self._mover is not None:
            raise RuntimeError("stop the mover first: a moving counter always holds a number")
        _rewrite(self[key].energy, FAULTS[fault])

    def mend(self, key: str) -> None:
        """Gives a zone at rest its counter back, as a new file."""
        _remove(self[key].energy)
        self[key].energy.write_bytes(f"{self[key].counter_uj}\n".encode())

    def remove_zone(self, key: str) -> None:
        """Takes a zone out of the tree, with its children, as when a driver is unloaded."""
        gone = self[key]
        for placed in self.placed:
            if placed.id == gone.id or placed.id.startswith(gone.id + ":"):
                (self.root / placed.id).unlink()
        shutil.rmtree(gone.folder)

    def _control(self, control: str) -> Path:
        folder = self._devices / control
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "enabled").write_text("1\n")
            self._link(control, folder)
        return folder

    def _link(self, name: str, folder: Path) -> None:
        (self.root / name).symlink_to(os.path.relpath(folder, self.root))

    def _place(self, zone: Zone, zone_id: str, parent: Path, prefix: str) -> None:
        folder = parent / zone_id
        placed = PlacedZone(zone_id, prefix + zone.name, zone, folder, len(self.placed))
        placed.counter_uj = zone.counter_start_uj
        self.placed.append(placed)
        folder.mkdir()
        self._link(zone_id, folder)
        texts = {"name": zone.name, "enabled": str(int(zone.enabled)), "energy_uj": str(zone.counter_start_uj)}
        if zone.range_text is not None:
            texts["max_energy_range_uj"] = zone.range_text or str(zone.range_uj)
        if zone.limit_uw is not None:
            texts |= {"constraint_0_name": "long_term", "constraint_0_power_limit_uw": str(zone.limit_uw)}
        if zone.max_power_uw is not None:
            texts["constraint_0_max_power_uw"] = str(zone.max_power_uw)
        for name, text in texts.items():
            (folder / name).write_text(text + "\n")
        for number, child in enumerate(zone.children):
            child_id = f"{zone_id}:{number if child.number is None else child.number:x}"
            self._place(child, child_id, folder, f"{placed.path}/")

    def _launch(self, mode: str) -> str | None:
        """None when it moves, else why it does not."""
        period_us = max(1, round(self.period_s * 1e6))
        command = [str(powercap_mover()), str(period_us), mode]
        self._mover = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.epoch_ns = time.monotonic_ns()
        lines = []
        for placed in self.placed:
            zone = placed.zone
            placed.started_uj = placed.counter_uj
            mirror = -1 if placed.mirror is None else placed.mirror.index
            numbers = f"{placed.counter_uj} {zone.unit_uj} {zone.range_uj + zone.unit_uj} {self.epoch_ns} {mirror}"
            lines.append(f"zone {numbers} {placed.folder}/energy_uj.moving|{as_wave(zone.watts).text()}\n")
        try:
            answer = self._ask("".join(lines) + "go", "ready")
            if mode == "file":
                for placed in self.placed:
                    (placed.folder / "energy_uj.moving").rename(placed.energy)
                return None
            targets = [Path("/proc", tid, "timerslack_ns") for tid in answer.split()]
            for placed, target in zip(self.placed, targets, strict=True):
                int(target.read_bytes())
                _replace(placed.energy, target)
        except (OSError, RuntimeError) as error:
            self._end()
            return str(error)
        return None

    def _ask(self, line: str, answer: str = "ok") -> str:
        if self._mover is None or self._mover.stdin is None or self._mover.stdout is None:
            raise RuntimeError("not moving")
        self._mover.stdin.write(line + "\n")
        self._mover.stdin.flush()
        said = self._mover.stdout.readline().strip()
        if said.partition(" ")[0] != answer:
            raise RuntimeError(f"the mover says: {said or 'nothing'}")
        return said.partition(" ")[2]

    def _end(self) -> None:
        if self._mover is not None:
            self._mover.communicate()
            self._mover = None


@contextlib.contextmanager
def moving(folder: Path, *zones: Zone, period_s: float = 0.001) -> Iterator[PowercapTree]:
    """A tree that moves within the ``with``."""
    tree = PowercapTree(folder, zones, period_s)
    with tree:
        yield tree


def _rewrite(path: Path, content: bytes) -> None:
    """The same file with other content: a descriptor already open sees it.

    Of another length, by way of nothing: who reads meanwhile finds the file empty, but no beginning of a number.
    """
    fd = os.open(path, os.O_WRONLY)
    try:
        if os.fstat(fd).st_size != len(content):
            os.ftruncate(fd, 0)
        os.pwrite(fd, content, 0)
    finally:
        os.close(fd)


def _replace(path: Path, content: bytes | Path) -> None:
    """Another file (or a link) under the same name, in one step."""
    fresh = path.with_name(path.name + ".new")
    if isinstance(content, Path):
        fresh.symlink_to(content)
    else:
        fresh.write_bytes(content)
    fresh.rename(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
