# SPDX-License-Identifier: Apache-2.0
"""What stands for /sys/devices/system/cpu: which CPUs are there, which of them are online, and where each lies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def cpu_folder(
    root: Path, packages: int = 1, dies: int = 1, cpus: int = 4, threads: int = 1, offline: Iterable[int] = ()
) -> Path:
    """`packages` of `dies` of `cpus` each, numbered through in that order, `threads` of them to a core.

    A CPU that is offline keeps its folder and loses its topology, as in the kernel.
    """
    offline = set(offline)
    root.mkdir(parents=True)
    for cpu in range(packages * dies * cpus):
        folder = root / f"cpu{cpu}"
        folder.mkdir()
        if cpu:  # the first cannot be switched off and has no such file
            (folder / "online").write_text(f"{int(cpu not in offline)}\n")
        if cpu in offline:
            continue
        package, inside = divmod(cpu, dies * cpus)
        topology = folder / "topology"
        topology.mkdir()
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "die_id").write_text(f"{inside // cpus}\n")
        (topology / "core_id").write_text(f"{inside // threads}\n")
    there = [cpu for cpu in range(packages * dies * cpus) if cpu not in offline]
    (root / "online").write_text(",".join(map(str, there)) + "\n")
    return root
