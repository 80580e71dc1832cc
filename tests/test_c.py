# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the C tests, one pytest test per program; `make -C tests/c all` runs them under sanitizers too."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "c"
PROGRAMS = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.c"))


@pytest.fixture(scope="module")
def built():
    """All programs, built by one process: two that compile one object at a time would link half of it."""
    missing = [tool for tool in ("make", "gcc") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the C tests are built with {' and '.join(missing)}, which this machine lacks")
    (HERE / "bin").mkdir(exist_ok=True)
    with open(HERE / "bin" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(["make", "-s", "-C", HERE, "build"], capture_output=True, text=True, timeout=840)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)  # the first one builds all
@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("program", PROGRAMS)
def test_c_program_passes(program):
    done = subprocess.run(["make", "-s", "-C", HERE, f"run-{program}"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed" in done.stdout
