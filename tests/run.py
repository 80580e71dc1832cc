# SPDX-License-Identifier: Apache-2.0
"""Runs the tests in two parts: most of them side by side, then alone those that need a punctual machine.

``python -m tests.run [--quick] [PATH ...]``; `make test` and `make check` call it. ``--quick`` leaves out the tests
marked slow or statistical. WORKERS=N sets the number of processes of the first part (0: one, without xdist), and
PYTEST_ADDOPTS adds options of pytest. The exit code is 0 if no test failed, 1 if one did, 2 if the tests could not run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import click

from tests.oracles.places import ROOT

PUNCTUAL = ROOT / "tests" / "punctual"
QUICK = "not slow and not statistical"
# A test waits for half of its time, on average: two processes a core keep the cores busy.
WORKERS_PER_CORE = 2
# Exit codes of pytest.
FAILED, INTERRUPTED, NO_TESTS = 1, 2, 5


@dataclass(frozen=True)
class Part:
    """What pytest reported of one part."""

    code: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0


def workers(paths: tuple[str, ...]) -> int:
    """The processes of the first part; 0: pytest's own. A few files are done before the processes have started."""
    given = os.environ.get("WORKERS", "")
    if given:
        if not given.isdigit():
            raise click.UsageError(f"WORKERS must be a whole number, not {given!r}")
        return int(given)
    if paths and all(Path(path.partition("::")[0]).suffix == ".py" for path in paths):
        return 0
    return WORKERS_PER_CORE * len(os.sched_getaffinity(0))


def punctual(paths: tuple[str, ...]) -> tuple[str, ...]:
    """The paths of the second part: what of these is in the folder of punctual tests, or this folder."""
    inside = [path for path in paths if _place(path).is_relative_to(PUNCTUAL)]
    above = any(PUNCTUAL.is_relative_to(_place(path)) for path in paths if path not in inside)
    return (str(PUNCTUAL),) if above else tuple(inside)


def _place(path: str) -> Path:
    return Path(path.partition("::")[0]).resolve()


def run(options: list[str], paths: tuple[str, ...]) -> Part:
    """Run pytest on these paths; what it reported."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *options, *paths]
        # The processes of the tests start some hundred interpreters: each reads what the first one compiled.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        begun = time.monotonic()
        try:
            code = subprocess.run(command, env=environment).returncode
        except KeyboardInterrupt:  # pytest got it too, and has said what it had done
            return Part(INTERRUPTED, seconds=time.monotonic() - begun)
        seconds = time.monotonic() - begun
        if code not in (0, FAILED) or not report.exists():
            return Part(code, seconds=seconds)
        (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    tests, failures, errors, skipped = (int(suite.attrib[n]) for n in ("tests", "failures", "errors", "skipped"))
    failed = failures + errors
    return Part(code, tests - failed - skipped, failed, skipped, seconds)


def exit_code(parts: list[Part]) -> int:
    """0: no test failed; 1: one did; 2: the tests could not run, or there are none."""
    codes = {part.code for part in parts}
    if not codes:
        return 0
    if codes - {0, FAILED, NO_TESTS} or codes == {NO_TESTS}:
        return 2
    return 1 if FAILED in codes else 0


def summary(parts: list[Part]) -> str:
    """The last line that a reader sees."""
    passed, failed, skipped = (sum(getattr(part, n) for part in parts) for n in ("passed", "failed", "skipped"))
    minutes, seconds = divmod(round(sum(part.seconds for part in parts)), 60)
    took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    code = exit_code(parts)
    if code == 2:
        return "The tests could not run to their end: the message of pytest is above."
    tail = f"{passed} passed, {failed} failed, {skipped} skipped, in {took}."
    if code:
        return f"Tests failed: {tail} Above, a line that begins with FAILED or ERROR names each."
    reasons = " A line that begins with SKIPPED gives the reason of each skip." if skipped else ""
    return f"All tests passed: {tail}{reasons}"


@click.command()
@click.option("--quick", is_flag=True, help="Leave out the tests marked slow or statistical.")
@click.argument("paths", nargs=-1)
def main(quick: bool, paths: tuple[str, ...]) -> None:
    """Run the tests below PATHS (all tests without PATHS): side by side, then alone those that need punctuality."""
    paths = paths or (str(ROOT / "tests"),)
    chosen = ["-m", QUICK] if quick else []
    alone = punctual(paths)
    parts = []
    if set(paths) - set(alone):
        count = workers(paths)
        beside = ["-n", str(count), "--dist", "worksteal"] if count else []
        how = f"in {count} processes side by side" if count else "one after the other"
        click.echo(f"Part 1 of {1 + bool(alone)}: the tests that any machine can run, {how}.")
        parts.append(run([*chosen, f"--ignore={PUNCTUAL}", *beside], paths))
    if alone and exit_code(parts) < 2:
        click.echo("\nLast part: the tests that need a punctual machine, alone. A test that fails is repeated once.")
        parts.append(run(chosen, alone))
    click.echo(f"\n{summary(parts)}")
    sys.exit(exit_code(parts))


if __name__ == "__main__":
    main()
