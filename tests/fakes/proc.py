# SPDX-License-Identifier: Apache-2.0
"""A /proc in a folder: `stat` with CPU times driven by hand, and `cpuinfo` with or without the sgx flag."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class ProcRoot:
    """`cpus` processors, all times 0 at first; `ticks` has a dict of columns for each, to set before `write()`."""

    root: Path
    cpus: int = 2
    sgx: bool = False
    vendor: str = "GenuineIntel"
    model: str = "Fake Xeon"
    ticks: list[dict[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.ticks = [dict.fromkeys(COLUMNS, 0) for _ in range(self.cpus)]
        flags = "fpu vme sse2 avx2" + (" sgx sgx_lc" if self.sgx else "")
        blocks = [
            f"processor\t: {n}\nvendor_id\t: {self.vendor}\nmodel name\t: {self.model}\nflags\t\t: {flags}\n\n"
            for n in range(self.cpus)
        ]
        (self.root / "cpuinfo").write_text("".join(blocks))
        self.write()

    def advance(self, cpu: int | None = None, **seconds: float) -> None:
        """Adds seconds by column (``user=0.5, idle=1.5``) to one processor, or to each, and writes `stat`."""
        for times in self.ticks if cpu is None else [self.ticks[cpu]]:
            for column, value in seconds.items():
                times[column] += round(value * TICKS_PER_S)
        self.write()

    def write(self) -> None:
        """Writes `stat` in place, so that a descriptor already open sees the new times."""
        total = {column: sum(times[column] for times in self.ticks) for column in COLUMNS}
        lines = ["cpu  " + " ".join(str(total[column]) for column in COLUMNS)]
        lines += [f"cpu{n} " + " ".join(str(times[c]) for c in COLUMNS) for n, times in enumerate(self.ticks)]
        lines += ["intr 0", "ctxt 0", "btime 1700000000", "processes 1", "procs_running 1", "procs_blocked 0"]
        fd = os.open(self.root / "stat", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.ftruncate(fd, os.pwrite(fd, ("\n".join(lines) + "\n").encode(), 0))
        finally:
            os.close(fd)
