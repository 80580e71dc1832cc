# SPDX-License-Identifier: Apache-2.0
"""The configuration of the wheels that a release has."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.oracles.places import ROOT


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_a_release_has_wheels_for_each_python_and_both_c_libraries(architecture):
    pytest.importorskip("cibuildwheel", reason="cibuildwheel is not installed")
    command = [sys.executable, "-m", "cibuildwheel", "--platform", "linux", "--archs", architecture]
    done = subprocess.run(
        [*command, "--print-build-identifiers", str(ROOT)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        f"cp3{minor}-{library}_{architecture}" for minor in (11, 12, 13, 14) for library in ("manylinux", "musllinux")
    }
