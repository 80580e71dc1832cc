"""Draws the picture of the README from a run on moving counters: ``python -m tests.project.picture docs/power.png``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fastgreen as fg
from tests.fakes.powercap import Zone, moving
from tests.fakes.wave import Steps

# A package at rest, then under two kinds of load; updates every 20 ms, so that a step of the curve has visible bounds.
PACKAGE = Steps(((0.0, 18.0), (0.5, 62.0), (1.3, 30.0), (1.6, 85.0), (2.4, 18.0)))
WINDOWS = (("load", 0.3, 0.25), ("infer", 0.62, 0.6), ("train", 1.65, 0.7))
UPDATE_S = 0.02


def record(folder: Path) -> Path:
    """Measure the made-up load in real time; the folder of the run."""
    with (
        moving(folder / "powercap", Zone("package-0", watts=PACKAGE), period_s=UPDATE_S) as tree,
        fg.Monitor("rapl:*", hz=100, record=folder / "run", powercap_root=tree.root) as monitor,
    ):
        begin = time.monotonic()
        for name, start_s, seconds in WINDOWS:
            time.sleep(max(0.0, begin + start_s - time.monotonic()))
            with monitor.window(name):
                time.sleep(seconds)
        time.sleep(max(0.0, begin + 2.8 - time.monotonic()))
    return folder / "run"


def main(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = record(Path(folder))
        report = [sys.executable, "-m", "fastgreen", "report", str(run), "--picture", path, "--step", "0.04"]
        subprocess.run(report, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
