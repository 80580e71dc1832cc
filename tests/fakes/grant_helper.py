# SPDX-License-Identifier: Apache-2.0
"""The granting helper as a process, with the counters of a fake tree.

The command takes no tree from anybody. This is the same code, with a folder as its root and a check that believes it:
``python -m tests.fakes.grant_helper SOCKET POWERCAP_ROOT MODE REFUSE_RIGHTS UID...``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.oracles.places import ROOT


def of_tree(powercap_root: str | Path) -> dict[str, Any]:
    """Options of a `Granter` for the counters of a `PowercapTree`: its folder, and a check that believes any file."""
    return {"root": str(Path(powercap_root).parents[1]), "check": lambda number: True}


@contextlib.contextmanager
def helper(
    path: Path, powercap_root: Path, *users: int, mode: int = 0o660, refuse_rights: bool = True, **options: Any
) -> Iterator[subprocess.Popen]:
    """A helper that serves `path` to these users; options of Popen. Wait for its first line, or for its socket."""
    command = [sys.executable, "-m", "tests.fakes.grant_helper", path, powercap_root]
    command += [f"{mode:o}", int(refuse_rights), *users]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def main(path: str, powercap_root: str, mode: str, refuse_rights: str, *users: str) -> None:
    from fastgreen.commands.grant import serve
    from fastgreen.sensors.channel import Seams
    from fastgreen.sensors.grant_log import Log
    from fastgreen.sensors.grant_server import Allowed, Granter, counters

    found = counters(Seams(powercap_root=powercap_root))
    log = Log()
    options = {"mode": int(mode, 8), "refuse_rights": refuse_rights == "1", "say": log, **of_tree(powercap_root)}
    serve(Granter(path, found, Allowed([int(user) for user in users]), **options), log)


if __name__ == "__main__":
    main(*sys.argv[1:])
