# SPDX-License-Identifier: Apache-2.0
"""``sudo fastgreen`` in a folder of another: nothing in it is imported unless it is named.

The folder holds a trap for every module that the command line imports. A trap leaves a mark when it is imported.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.oracles.places import ROOT

# What pip makes of an entry of [project.scripts]; its first folder for imports is its own.
LAUNCHER = """#!{python}
import sys
from fastgreen.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""
EVERY_MODULE = """
import sys, runpy
import fastgreen
before = set(sys.modules)
import importlib
from fastgreen.cli import COMMANDS
for module, _ in COMMANDS.values():
    importlib.import_module(module)
import fastgreen.sensors.catalog, fastgreen.sensors.grant_server, fastgreen.sensors.grant_log, fastgreen.plot
import ctypes, resource, select, shlex, multiprocessing, array
print(*sorted({name.split(".")[0] for name in sys.modules}), sep=",")
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before} - {n.split(".")[0] for n in before}), sep=",")
"""


@pytest.fixture(scope="module")
def modules() -> tuple[list[str], list[str]]:
    """(every module that the commands import, those that Python itself has not imported before they start)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", EVERY_MODULE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    every, late = (line.split(",") for line in done.stdout.splitlines()[-2:])
    return [n for n in every if n not in ("__main__", "__mp_main__")], late


@pytest.fixture
def trapped(tmp_path, monkeypatch) -> Callable[[list[str]], Path]:
    """Makes the current folder one of traps for these modules; the file that a trap makes."""

    def make(names: list[str]) -> Path:
        folder, mark = tmp_path / "traps", tmp_path / "mark"
        folder.mkdir()
        for name in names:
            (folder / name).mkdir()
            trap = f"open({str(mark)!r}, 'a').write({name!r} + ' ')\n"
            (folder / name / "__init__.py").write_text(trap)
            (folder / f"{name}.py").write_text(trap)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PYTHONSTARTUP", str(folder / "startup.py"))
        (folder / "startup.py").write_text(f"open({str(mark)!r}, 'a').write('startup')\n")
        return mark

    return make


CALLS = [["--version"], ["--help"], ["channels"], ["run", "true"], ["report", "nowhere"], ["grant", "--user", "0"]]
CALLS += [["estimate", "alexnet"], ["compile", "nowhere"]]  # the list of --help imports every command


def call(*command: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTGREEN_GRANT_SOCKET": "nowhere/sock"}
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=120)


def test_the_installed_command_imports_nothing_from_the_current_folder(modules, trapped, tmp_path):
    mark = trapped([*modules[0], "sitecustomize", "usercustomize"])
    launcher = tmp_path / "bin" / "fastgreen"
    launcher.parent.mkdir()
    launcher.write_text(LAUNCHER.format(python=sys.executable))
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    for arguments in CALLS:
        if arguments[0] == "grant":
            arguments = [*arguments, "--socket", "nowhere/sock"]
        done = call(launcher, *arguments)
        assert "Traceback" not in done.stderr
        assert not mark.exists(), f"{arguments}: {mark.read_text()}"


def test_python_with_a_safe_path_imports_nothing_from_the_current_folder(modules, trapped):
    mark = trapped([*modules[0], "sitecustomize", "usercustomize"])
    assert call(sys.executable, "-P", "-m", "fastgreen", "--help").returncode == 0
    assert call(sys.executable, "-P", "-m", "fastgreen", "channels").returncode == 0
    assert not mark.exists()


def test_python_m_imports_nothing_more_from_the_current_folder_once_it_runs(modules, trapped):
    """What Python imports before, nobody here can help; docs/permissions.md says so."""
    mark = trapped(modules[1])
    assert {"click", "numpy", "pyarrow"} <= set(modules[1])
    assert call(sys.executable, "-m", "fastgreen", "--help").returncode == 0
    assert call(sys.executable, "-m", "fastgreen", "channels").returncode == 0
    assert not mark.exists(), mark.read_text()


def test_the_traps_work(modules, trapped):
    mark = trapped(modules[0])
    call(sys.executable, "-m", "fastgreen", "--help")
    assert mark.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is warned")
def test_root_is_warned_of_folders_that_others_can_write(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    command = [sys.executable, "-P", "-m", "fastgreen", "grant", "--user", "0", "--socket", "nowhere/sock"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path / 'open'}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert f"warning: not only root can write {tmp_path / 'open'}, " in done.stderr
