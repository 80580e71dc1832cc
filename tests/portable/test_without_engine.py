# SPDX-License-Identifier: Apache-2.0
"""The package without its engine, as on macOS and Windows. `make portable` builds it and runs these tests."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.cli import COMMANDS
from tests.oracles.places import EXAMPLES, ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fastgreen._core") is not None, reason="this build has the engine: see `make portable`"
)
RUN = ROOT / "tests" / "fixtures" / "format_1" / "run"
COLUMNS = ("--time", "timestamp", "--power", "power_W")
ONE_SENTENCE = "this build of fastgreen cannot measure, because the engine needs Linux on x86-64 or aarch64"
HERE = (sys.executable, "-S", "-m", "fastgreen")
ELSEWHERE = (sys.executable, "-S", "-m", "tests.portable.other_system")


def call(system: tuple[str, ...], *words: object, code: int = 0) -> str:
    """What a command prints; its exit code is `code`."""
    done = subprocess.run([*system, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_only_the_portable_modules_were_built():
    built = {path.name.split(".")[0] for path in (ROOT / "fastgreen").glob("_*.so")}
    assert built == {"_follow", "_kernels", "_resolver", "_shares"}


@pytest.mark.parametrize("name", ["Monitor", "calibrate", "current_span"])
def test_a_name_that_measures_exists_and_a_call_says_in_one_sentence_that_it_cannot(name):
    with pytest.raises(ImportError, match=ONE_SENTENCE):
        getattr(fg, name)()


def test_every_public_name_loads():
    assert [name for name in fg.__all__ if getattr(fg, name) is None] == []


def test_measure_as_a_block_raises_the_sentence():
    with pytest.raises(ImportError, match=ONE_SENTENCE), fg.measure():
        pass


def test_a_saved_run_has_its_energy():
    result = fg.load(RUN)
    assert 0 < result.energy_low_j <= result.energy_j <= result.energy_high_j
    assert re.search(r"\d J", str(result))


def test_metrics_and_sweeps_are_those_of_the_formula():
    accuracy = np.linspace(0.1, 0.9, 9)
    expected = accuracy / (2.0 * (0.3 * ((1 - 0.5) * (1 - accuracy) + 0.5)) + 1)
    assert fg.apec(0.3, accuracy, alpha=0.5, beta=2.0) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("system", [HERE, ELSEWHERE], ids=["here", "without the names of Unix"])
class TestCommands:
    def test_help_lists_every_command(self, system):
        text = call(system, "--help")
        assert [name for name in COMMANDS if name not in text] == []

    @pytest.mark.parametrize("words", [("run", "true"), ("demo",), ("watch",)], ids=" ".join)
    def test_a_command_that_measures_ends_with_the_sentence(self, system, words):
        assert ONE_SENTENCE in call(system, *words, code=1)

    def test_a_report_and_its_page(self, system, tmp_path: Path):
        answer = json.loads(call(system, "report", RUN, "--json"))
        assert answer["energy_j"] == pytest.approx(35.77, rel=1e-6)
        call(system, "report", RUN, "--html", tmp_path / "page.html")
        assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")[:400]

    def test_a_recording_of_another_tool_becomes_a_run(self, system, tmp_path: Path):
        (tmp_path / "plug.csv").write_text("timestamp,power_W\n" + "".join(f"{t},50\n" for t in range(11)))
        call(system, "import", tmp_path / "plug.csv", *COLUMNS, "-o", tmp_path / "run")
        assert fg.load(tmp_path / "run").energy_j == pytest.approx(500, rel=0.11)

    def test_an_estimate_of_a_network(self, system):
        assert " J" in call(system, "estimate", EXAMPLES / "lenet.toml", "--batch", 16)
