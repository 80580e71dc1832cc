"""The examples go on where they were stopped, and print what they promise."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from fastgreen.commands.common import sentence
from tests.oracles.places import EXAMPLES

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("cut", [0, 1, 5, 10])
def test_a_row_that_was_cut_off_is_taken_away_and_its_run_done_anew(tmp_path, cut):
    table = tmp_path / "runs.csv"
    text = "architecture,training environment,run,accuracy\na,x,0,0.5\nb,y,0,0.75\n"
    table.write_text(text[: len(text) - cut])
    rows = loaded("greener_training").whole_rows(table)
    assert [row["architecture"] for row in rows] == (["a", "b"] if cut == 0 else ["a"])
    assert table.read_text().endswith("\n")
    assert loaded("greener_training").whole_rows(tmp_path / "none.csv") == []


def test_the_study_of_the_readme_has_twenty_sizes_and_runs(tmp_path):
    protocol = loaded("own_model_study").protocol
    assert len(protocol.sizes) == 20
    assert protocol.build(50)().shape == (50, 10)


@pytest.mark.slow
def test_the_time_to_closest_apc_of_a_real_training_is_printed():
    environment = {"PYTHONPATH": str(EXAMPLES.parent), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, EXAMPLES / "train_digits.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "time to closest APC: " in done.stdout
    assert "gCO2e" in done.stdout


def test_a_full_disk_is_said_in_the_systems_words():
    arrow = OSError(28, "Error writing bytes to file. Detail: [errno 28] No space left on device")
    assert sentence(arrow) == "No space left on device"
    named = OSError(2, "Failed to open local file '/x/y'. Detail: [errno 2] No such file or directory")
    assert sentence(named) == "/x/y: No such file or directory"


@pytest.mark.parametrize("name", ["greener_training", "own_model_study", "train_digits"])
def test_a_missing_package_is_one_sentence_before_the_first_run(name):
    """`-S` leaves the installed packages out."""
    done = subprocess.run([sys.executable, "-S", EXAMPLES / f"{name}.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("this example needs sklearn, ")
    assert "pip install 'fastgreen[" in done.stderr
    assert len(done.stderr.splitlines()) == 1
