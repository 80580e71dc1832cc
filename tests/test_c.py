# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the C tests, one pytest test per program; `make -C tests/c all` runs them under sanitizers too."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "c"
PROGRAMS = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.c"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_c_program_passes(program):
    missing = [tool for tool in ("make", "gcc") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the C tests are built with {' and '.join(missing)}, which this machine lacks")
    done = subprocess.run(["make", "-s", "-C", HERE, f"run-{program}"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed" in done.stdout
