# SPDX-License-Identifier: Apache-2.0
"""Every fuzz target on its kept inputs and on some more, the same ones every time; `make fuzz` draws new ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.fakes.build import compiler
from tests.oracles.places import ROOT

# Inputs beside the kept ones, and the packages that a target needs.
RUNS: dict[str, tuple[int, tuple[str, ...]]] = {
    "powercap": (150, ()),
    "facts": (100, ()),
    "load": (300, ()),
    "replay": (300, ()),
    "sweep": (200, ()),
    "recording": (200, ()),
    "table": (100, ("scipy", "scikit_posthocs")),
    "spans": (100, ()),
    "hourly": (300, ()),
    "study": (20, ("scipy", "matplotlib")),
    "layers": (100, ("scipy", "sklearn")),
    "models": (200, ("sklearn",)),
    "network": (200, ()),
    "graph": (300, ("onnx",)),
    "words": (1000, ()),
}
C_RUNS = {"text": 50_000, "share": 2_000}


@pytest.mark.statistical
@pytest.mark.parametrize("target", RUNS)
def test_fuzzing_finds_nothing(target, tmp_path):
    runs, packages = RUNS[target]
    for package in packages:
        pytest.importorskip(package)
    command = [sys.executable, "-m", "tests.fuzz.targets", target, f"-runs={runs}", tmp_path]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.statistical
@pytest.mark.parametrize("target", C_RUNS)
def test_fuzzing_in_c_finds_nothing(target, tmp_path):
    if compiler() is None:
        pytest.skip("no C compiler")
    sources = [p for p in (ROOT / "csrc").glob("fg_*.c") if not p.name.startswith("fg_metric")]
    flags = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-DSTANDALONE", f"-I{ROOT / 'csrc'}"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program, source = tmp_path / "fuzz", ROOT / f"tests/fuzz/fuzz_{target}.c"
    built = [*compiler(), *flags, source, *sources, "-o", program, "-pthread", "-ldl", "-lm"]
    subprocess.run(built, check=True)
    done = subprocess.run([program, f"-runs={C_RUNS[target]}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) == C_RUNS[target]
