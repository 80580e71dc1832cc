# SPDX-License-Identifier: Apache-2.0
"""The runner of `make test`: what goes side by side, what goes alone, the exit code and the last line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.oracles.places import ROOT
from tests.run import PUNCTUAL, Part, exit_code, punctual, summary, workers

GOOD, BAD, NO_TESTS, BROKEN = Part(0, 5, 0, 1, 60.4), Part(1, 4, 2, 0, 3.0), Part(5), Part(4)


@pytest.mark.parametrize(
    ("paths", "alone"),
    [
        ((ROOT / "tests",), (PUNCTUAL,)),
        ((ROOT,), (PUNCTUAL,)),
        ((PUNCTUAL,), (PUNCTUAL,)),
        ((ROOT / "tests/guards", ROOT / "tests"), (PUNCTUAL,)),
        ((f"{PUNCTUAL}/test_rates.py::test_x", ROOT / "tests/guards"), (f"{PUNCTUAL}/test_rates.py::test_x",)),
        ((ROOT / "tests/guards",), ()),
    ],
)
def test_the_folder_of_punctual_tests_runs_alone_wherever_it_is_asked_for(paths, alone):
    assert punctual(tuple(map(str, paths))) == tuple(map(str, alone))


def test_files_run_without_workers_and_folders_with_two_a_core(monkeypatch):
    monkeypatch.delenv("WORKERS", raising=False)
    assert workers(("tests/test_c.py", "tests/test_fuzz.py::test_x")) == 0
    assert workers(("tests/guards", "tests/test_c.py")) == 2 * len(os.sched_getaffinity(0))
    monkeypatch.setenv("WORKERS", "3")
    assert workers(("tests/test_c.py",)) == 3
    monkeypatch.setenv("WORKERS", "many")
    with pytest.raises(click.UsageError, match="WORKERS must be a whole number, not 'many'"):
        workers(())


@pytest.mark.parametrize(
    ("parts", "code", "says"),
    [
        ([GOOD, GOOD], 0, "All tests passed: 10 passed, 0 failed, 2 skipped, in 2 min 1 s."),
        ([GOOD, NO_TESTS], 0, "All tests passed: 5 passed"),
        ([NO_TESTS, GOOD], 0, "All tests passed: 5 passed"),
        ([BAD, GOOD], 1, "Tests failed: 9 passed, 2 failed, 1 skipped, in 1 min 3 s."),
        ([GOOD, BAD], 1, "Tests failed"),
        ([NO_TESTS], 2, "could not run"),
        ([BROKEN], 2, "could not run"),
        ([BAD, BROKEN], 2, "could not run"),
        ([GOOD, Part(-11)], 2, "could not run"),
    ],
)
def test_the_exit_code_and_the_last_line_are_those_of_all_parts(parts, code, says):
    assert exit_code(parts) == code
    assert says in summary(parts)


def ran(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.run", *map(str, arguments)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_") and name != "WORKERS"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


TESTS = """
import pytest

def test_right():
    pass

@pytest.mark.slow
def test_wrong():
    assert False
"""


def test_a_failure_is_named_and_quick_leaves_slow_tests_out(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(TESTS)
    done = ran(tmp_path / "test_it.py")
    assert done.returncode == 1
    assert "\nTests failed: 1 passed, 1 failed, 0 skipped" in done.stdout
    assert "test_wrong" in done.stdout
    done = ran("--quick", tmp_path / "test_it.py")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("All tests passed: 1 passed, 0 failed, 0 skipped, in ")


def test_without_a_test_the_run_fails(tmp_path: Path):
    assert ran(tmp_path / "nothing.py").returncode == 2
