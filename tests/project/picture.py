"""Draws the picture of the README from a run on moving counters: ``python -m tests.project.picture docs/power.png``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fastgreen as fg
from tests.fakes.powercap import PowercapTree, Zone, moving
from tests.fakes.wave import Steps

# Seconds since the counter began: a package at rest, then three kinds of load, each in a window of its own.
PACKAGE = Steps(((0.0, 18.0), (4.5, 38.0), (4.9, 24.0), (5.1, 62.0), (5.8, 24.0), (6.0, 85.0), (6.8, 18.0)))
WINDOWS = (("load", 4.5, 0.4), ("infer", 5.1, 0.7), ("train", 6.0, 0.8))
BEGIN_S, END_S = 4.2, 7.1
UPDATE_S = 0.004  # slow enough that a step of the curve has visible bounds


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


def _sleep_until(tree: PowercapTree, second: float) -> None:
    time.sleep(max(0.0, (tree.epoch_ns - time.monotonic_ns()) * 1e-9 + second))


def main(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = record(Path(folder))
        report = [sys.executable, "-m", "fastgreen", "report", str(run), "--picture", path, "--step", "0.04"]
        subprocess.run(report, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
