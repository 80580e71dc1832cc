"""Importing is cheap, every public name resolves and stays what it is, and the stubs say what the module has."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastgreen as fg
from fastgreen import _core, _resolver, _window
from tests.fakes.powercap import Zone
from tests.oracles.interpreter import without_fork_warning

PACKAGE = Path(fg.__file__).parent
HEAVY = ("pyarrow", "pandas", "matplotlib", "scipy", "sklearn", "torch", "rich", "click", "psutil", "pynvml", "numba")


def loaded_after(python, code: str, *arguments: object) -> set[str]:
    done = python(f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))", *arguments, pandas=True)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_package_loads_nothing_heavy(python):
    assert not loaded_after(python, "import fastgreen") & set(HEAVY)


def test_measuring_loads_numpy_only_when_numbers_are_asked_for(python, powercap):
    powercap(Zone("package-0", watts=20.0), move=True)
    code = """
        import sys, time
        before = {*sys.modules}
        import fastgreen as fg
        heavy = {"numpy", "pyarrow", "dataclasses", "inspect", "typing", "pathlib", "socket"}

        def loaded():
            return heavy & ({*sys.modules} - before)

        with fg.Monitor("rapl:*", hz=1000) as monitor:
            work = monitor.window("work")
            for _ in range(100):
                with work:
                    pass
            until = time.monotonic() + 60
            time.sleep(0.6)  # in which the rings are emptied
            while monitor._groups[0].sampler.live(0)["samples"] < 200 and time.monotonic() < until:
                time.sleep(0.1)
            while monitor.energy_j()["rapl:package-0"] == 0 and time.monotonic() < until:
                time.sleep(0.1)
            assert monitor.energy_j()["rapl:package-0"] > 0
        result = monitor.stop()
        assert result.duration_s > 0.5
        assert not loaded(), loaded()
        assert result.energy_j > 0
        assert "pyarrow" not in loaded()
        assert result.windows("work").num_rows == 100
        assert result.samples().num_rows > 100
        """
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_at_exit_and_in_a_forked_child_nothing_is_loaded(python, powercap):
    powercap(Zone("package-0", watts=20.0), move=True)
    code = """
        import atexit, linecache, os, sys, tokenize  # Python 3.12 shows the line of its warning about fork

        @atexit.register  # before the package's own, so called after it
        def check():
            assert "stopped" in repr(monitor), monitor
            print(sorted({*sys.modules} - running))

        import fastgreen as fg
        monitor = fg.Monitor("rapl:*", hz=1000).start()
        running = {*sys.modules}
        child = os.fork()
        if child == 0:
            work = monitor.window("work")
            with work:
                pass
            os._exit(len({*sys.modules} - running))
        assert os.waitpid(child, 0)[1] == 0
        """
    done = python(code)
    (warned,) = without_fork_warning(done.stderr).splitlines()
    assert "windows in this forked process measure nothing" in warned
    assert (done.returncode, done.stdout.strip()) == (0, "[]")


def test_measuring_without_a_recording_needs_no_arrow(python):
    code = """
import fastgreen as fg
fg.channels()
with fg.Monitor(hz=100) as monitor, monitor.window("w"):
    pass
monitor.energy_j()
monitor.result.energy_j
"""
    assert not loaded_after(python, code) & {"pyarrow", "pandas", "matplotlib"}


def test_a_command_that_runs_no_code_of_ours_goes_without_pandas(python, powercap, tmp_path):
    powercap(Zone())
    code = """
import sys
from fastgreen import cli
folder = sys.argv[1]
for arguments in (["run", "-o", folder, "--", "true"], ["report", folder]):
    sys.argv[1:] = arguments
    try:
        cli.program()
    except SystemExit as end:
        assert end.code in (None, 0), end.code
"""
    loaded = loaded_after(python, code, tmp_path / "run")
    assert "pyarrow" in loaded
    assert "pandas" not in loaded


def test_help_imports_no_command(python):
    code = """
from click.testing import CliRunner
from fastgreen.cli import main
assert CliRunner().invoke(main, ["--version"]).exit_code in (0, 1)
"""
    assert not loaded_after(python, code) & {"pyarrow", "pandas", "matplotlib", "sklearn"}


def test_every_public_name_resolves():
    for name in fg.__all__:
        assert getattr(fg, name) is not None
    assert set(fg.__all__) <= set(dir(fg))
    with pytest.raises(AttributeError, match="no attribute 'chanels'"):
        _ = fg.chanels


def test_the_names_of_the_design_are_there():
    for name in ("channels", "Channel", "Monitor", "Result", "measure", "load", "errors"):
        assert name in fg.__all__


def test_no_submodule_takes_the_name_of_a_public_function(python):
    modules = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
    taken = {name for name, home in fg._HOME.items() if home is not None and name in modules}
    assert taken == set()
    done = python("""
        import importlib, pkgutil, fastgreen as fg
        for module in pkgutil.iter_modules(fg.__path__):
            if module.name != "__main__":
                try:
                    importlib.import_module(f"fastgreen.{module.name}")
                except ImportError as error:
                    assert "pip install" in str(error) or error.name, error
        print(all(callable(getattr(fg, n)) for n, home in fg._HOME.items() if home is not None and n != "metrics"))
        """)
    assert done.stdout.strip() == "True", done.stderr


def every_module() -> list[str]:
    return sorted(
        info.name
        for info in pkgutil.walk_packages([str(PACKAGE)], "fastgreen.")
        if info.name not in ("fastgreen.__main__", "fastgreen.experiment.models_torch")
    )


@pytest.mark.parametrize("name", every_module())
def test_each_modules_all_is_true(name):
    module = importlib.import_module(name)
    for member in getattr(module, "__all__", []):
        assert hasattr(module, member), member


def test_no_module_of_a_folder_takes_the_name_of_a_name_that_the_folder_forwards():
    for init in PACKAGE.rglob("*/__init__.py"):
        folder = importlib.import_module(f"fastgreen.{init.parent.relative_to(PACKAGE).as_posix().replace('/', '.')}")
        modules = {module.name for module in pkgutil.iter_modules([str(init.parent)])}
        assert not modules & set(getattr(folder, "_HOME", {})), folder.__name__


# The finder of an editable install gives a source folder the compiled modules of another: as if there were none.
PLAIN = "import sys; sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]; "
MISSING = r"ImportError: _\w+ is not compiled for this Python in the source folder .*: use .* in the clone$"


@pytest.mark.parametrize(
    "code",
    [
        "import fastgreen; fastgreen.Monitor()",
        "import fastgreen; fastgreen.apc(1, 0.5)",
        "import fastgreen; fastgreen.load('run')",
        "import fastgreen.ufuncs",
        "from fastgreen import _window",
    ],
)
def test_a_source_folder_that_hides_the_installed_package_says_what_to_do(python, tmp_path, code):
    shutil.copytree(PACKAGE, tmp_path / "fastgreen", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    done = python(PLAIN + code, cwd=tmp_path)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert re.match(MISSING, said), done.stderr
    assert f"{tmp_path}/fastgreen" in said
    assert python("import fastgreen; print(fastgreen.__version__)", cwd=tmp_path).returncode == 0


def test_a_module_that_a_compiled_one_lacks_is_not_taken_for_the_compiled_one(python, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "fastgreen", ignore=shutil.ignore_patterns("*.so", "*.pyx", "__pycache__"))
    (tmp_path / "fastgreen" / "_window.py").write_text("import not_there")
    done = python(PLAIN + "import fastgreen; fastgreen.Monitor()", cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'not_there'"


def test_errors_are_also_the_builtins_that_they_are_closest_to():
    errors = fg.errors
    for kind, builtin in (
        (errors.ChannelNotFound, LookupError),
        (errors.ChannelPermission, PermissionError),
        (errors.ChannelReadError, OSError),
        (errors.TraceError, ValueError),
    ):
        assert issubclass(kind, builtin)
        assert issubclass(kind, errors.FastgreenError)
        assert str(kind("what went wrong", code=5)) == "what went wrong"
        assert kind("x", code=5).code == 5
    assert issubclass(errors.FastgreenWarning, UserWarning)


DOORS = (_core, _resolver, _window)


def stub(door: ModuleType) -> ast.Module:
    return ast.parse((PACKAGE / f"{door.__name__.rpartition('.')[2]}.pyi").read_text(encoding="utf-8"))


@pytest.mark.parametrize("door", DOORS)
def test_the_stub_names_exactly_what_the_engine_has(door):
    assert _resolver.SAMPLE.names  # comes on first use
    here = {name for name, value in vars(door).items() if not name.startswith("_") and not inspect.ismodule(value)}
    imported = {"ChannelNotFound", "ChannelPermission", "ChannelReadError", "FastgreenError"}
    stubbed: dict[str, ast.stmt] = {}
    for node in stub(door).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            stubbed[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            stubbed[node.target.id] = node
    assert {name for name in stubbed if not name.startswith("_")} == here - imported
    for name, node in stubbed.items():
        if not isinstance(node, ast.ClassDef):
            continue
        members = {m.name for m in node.body if isinstance(m, ast.FunctionDef)}
        members |= {m.target.id for m in node.body if isinstance(m, ast.AnnAssign) and isinstance(m.target, ast.Name)}
        public = {m for m in vars(getattr(door, name)) if not m.startswith("_")}
        assert {m for m in members if not m.startswith("_")} == public, name
        for member in members - {"__init__"}:
            assert hasattr(getattr(door, name), member), f"{name}.{member}"


@pytest.mark.parametrize("door", DOORS)
def test_the_stub_gives_the_arguments_that_the_engine_takes(door):
    for node in ast.walk(stub(door)):
        if not isinstance(node, ast.ClassDef):
            continue
        for method in node.body:
            if not isinstance(method, ast.FunctionDef) or method.name.startswith("__"):
                continue
            signature = (getattr(getattr(door, node.name), method.name).__doc__ or "").splitlines()[:1]
            if any(isinstance(d, ast.Name) and d.id == "property" for d in method.decorator_list) or not signature:
                continue
            told = [a.arg for a in method.args.args][1:]
            told += [f"**{method.args.kwarg.arg}"] if method.args.kwarg else []
            inside = signature[0].partition("(")[2].rpartition(")")[0]
            real = [part.split("=")[0].split()[-1] for part in inside.split(",") if part.strip()][1:]
            assert told == real, f"{node.name}.{method.name}"


@pytest.mark.slow
def test_stubtest_finds_no_difference(tmp_path):
    pytest.importorskip("mypy")
    allowed = tmp_path / "allowed"
    # Python 3.13 invents a `self` for a compiled function of a module that takes no arguments.
    allowed.write_text("fastgreen._core.now_ns\n" if sys.version_info >= (3, 13) else "")
    command = [
        sys.executable,
        "-m",
        "mypy.stubtest",
        *(door.__name__ for door in DOORS),
        "--ignore-missing-stub",
        "--ignore-disjoint-bases",
        "--allowlist",
        str(allowed),
        "--mypy-config-file",
        "pyproject.toml",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
