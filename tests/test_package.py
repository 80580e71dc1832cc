"""House rules that are tests reading the source: layers, sizes, what may stand where."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT
from .fakes.build import compiler

PACKAGE = ROOT / "fastgreen"
CSRC = ROOT / "csrc"

# A module imports, anywhere in it, only modules of the rows above its own.
LAYERS = [
    {"dataclass", "errors", "units", "newfile", "parallel"},
    {"_core", "_kernels"},
    {"attributes", "channel", "checks", "runcheck", "runinfo", "ufuncs", "report"},
    {"arrow", "discovery", "discovery_nvml", "discovery_perf", "facts", "grant", "runs", "scores", "trace"},
    {"catalog", "closest", "granting", "runfile", "sweep_file", "sweep_score", "tables"},
    {"metrics", "rates", "recorder", "result", "sweep_search"},
    {"group", "replay", "sweep", "experiment", "estimate", "distributed", "gpu_edges"},
    {"gpu_windows"},
    {"monitor", "plot"},
    {"measurement", "calibration", "figures"},
    {"commands", "cli"},
]
C_LAYERS = [
    {"fg_error", "fg_clock"},
    {"fg_ring", "fg_energy", "fg_account", "fg_resolver*", "fg_metric", "fg_thread"},
    {"fg_source", "fg_sysfs", "fg_nvml", "fg_perf", "fg_channel"},
    {"fg_source_*"},
    {"fg_sampler"},
    {"fg"},
]


def layer_of(name: str) -> int | None:
    return next((n for n, row in enumerate(LAYERS) if name in row), None)


def python_files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


def room(path: Path) -> str:
    """The module, or the folder that it is a room of."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """First names below fastgreen that a file imports at run time."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastgreen":
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fastgreen.")}
    return found - {"__version__"}


def test_every_module_has_a_layer():
    homeless = {room(p) for p in python_files()} - set().union(*LAYERS)
    assert not homeless, f"say in LAYERS where {sorted(homeless)} belong"


def test_python_imports_never_point_up_or_sideways():
    wrong = []
    for path in python_files():
        mine = layer_of(room(path))
        for name in imports(path) - {room(path)}:
            theirs = layer_of(name)
            if mine is not None and theirs is not None and theirs >= mine:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, wrong


def test_python_imports_go_in_no_circle():
    graph: dict[str, set[str]] = {}
    for path in python_files():
        graph.setdefault(room(path), set()).update(imports(path) - {room(path)})

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        for other in graph.get(name, ()):
            walk(other, (*path, name))

    for name in graph:
        walk(name, ())


def test_only_the_engines_modules_know_c():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (ctypes|cffi)\b", path.read_text(encoding="utf-8"), re.MULTILINE), path
    doors = {p.stem for p in PACKAGE.rglob("*.pyx")}
    assert doors == {"_core", "_kernels"} or doors == {"_core"}


def test_the_init_imports_only_the_standard_library():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    top = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert {getattr(node, "module", None) or node.names[0].name for node in top} <= {
        "__future__",
        "importlib",
        "typing",
        "types",
    }


def c_layer(stem: str) -> int | None:
    exact = next((n for n, row in enumerate(C_LAYERS) if stem in row), None)
    if exact is not None:
        return exact
    for n, row in enumerate(C_LAYERS):
        if any(name.endswith("*") and stem.startswith(name[:-1]) for name in row):
            return n
    return c_layer("fg_metric") if stem.startswith("fg_metric") else None


def test_c_includes_never_point_up_or_sideways_and_know_no_python():
    for path in sorted(CSRC.glob("*.[ch]")):
        text = path.read_text(encoding="utf-8")
        assert "Python.h" not in text, path
        assert "SPDX-License-Identifier: Apache-2.0" in text, path
        mine = c_layer(path.stem)
        assert mine is not None, f"say in C_LAYERS where {path.name} belongs"
        for included in re.findall(r'#include "(\w+)\.h"', text):
            theirs = c_layer(included)
            if included == path.stem or theirs is None:
                continue
            assert theirs <= mine, f"{path.name} includes {included}.h"
            if path.stem.startswith("fg_source_") and included.startswith("fg_source"):
                assert included == "fg_source", f"{path.name} knows {included}"
            if mine == c_layer("fg_source_rapl"):
                assert included not in ("fg_ring", "fg_channel", "fg_sampler")


def source_files() -> list[Path]:
    folders = (PACKAGE, CSRC, ROOT / "tests", ROOT / "benchmarks")
    kinds = ("*.py", "*.pyx", "*.pxd", "*.pxi", "*.pyi", "*.c", "*.h")
    generated = {p.with_suffix(".c") for p in PACKAGE.glob("*.pyx")}
    return sorted({p for f in folders for kind in kinds for p in f.rglob(kind)} - generated)


def test_no_file_is_longer_than_five_hundred_lines():
    sizes = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in source_files()}
    assert {name: size for name, size in sizes.items() if size > 500} == {}


def test_no_python_function_is_longer_than_a_screen():
    wrong = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - (body[0].lineno if body else node.lineno) + 1
            if lines > 60:
                wrong.append(f"{path.relative_to(ROOT)}:{node.name} {lines}")
    assert not wrong, wrong


def test_no_blanket_except_and_nothing_left_to_do():
    for path in PACKAGE.rglob("*.py*"):
        if path.suffix in (".py", ".pyx"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"except( Exception| BaseException)?\s*:", text), path
            assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text), path
    for path in CSRC.glob("*.[ch]"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text), path
        assert "volatile" not in re.sub(r"__asm__ volatile|/\*.*?\*/", "", text, flags=re.DOTALL), path


def test_c_has_no_globals_that_change(tmp_path):
    command = compiler()
    if command is None or shutil.which("nm") is None:
        pytest.skip("no C compiler or no nm")
    sources = [p for p in sorted(CSRC.glob("fg_*.c")) if not p.stem.startswith("fg_metric")]
    include = [f"-I{CSRC}"]
    done = subprocess.run(
        [*command, "-std=gnu11", "-O2", "-c", *include, *map(str, sources)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    objects = sorted(tmp_path.glob("*.o"))
    assert len(objects) == len(sources)
    listing = subprocess.run(["nm", "-A", *map(str, objects)], capture_output=True, text=True, check=True).stdout
    # D d: data, B b: zeroed, C: common; relocated constants lie in .data.rel.ro, which nm also calls d.
    changing = [line for line in listing.splitlines() if re.search(r" [DdBbCGgSs] ", line)]
    for line in changing:
        name = line.split()[-1]
        section = subprocess.run(
            ["objdump", "-t", line.split(":")[0]], capture_output=True, text=True, check=True
        ).stdout
        entry = next(entry for entry in section.splitlines() if entry.endswith(f" {name}"))
        assert ".data.rel.ro" in entry or ".rodata" in entry, entry


def test_the_source_distribution_holds_every_file_of_the_repository(monkeypatch):
    files = pytest.importorskip("setuptools.command.egg_info").FileList()
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no working copy of the repository")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True).stdout
    monkeypatch.chdir(ROOT)
    # What setuptools adds by itself: from pyproject.toml, and what cythonize makes of the extensions' sources.
    files.extend(["README.md", "LICENSE", "setup.py", "pyproject.toml", "MANIFEST.in"])
    files.extend(["fastgreen/_core.c", "fastgreen/_kernels.c"])
    for line in Path("MANIFEST.in").read_text(encoding="utf-8").splitlines():
        files.process_template_line(line)
    present = {name for name in listed.splitlines() if (ROOT / name).exists()}
    assert present - set(files.files) == set()
    assert {name for name in files.files if name.endswith(("_core.c", "_kernels.c", ".so", ".o"))} == set()


def test_no_file_names_this_machine():
    # Put together here, lest this file be the one that names them.
    names = ["/" + "work/", "/" + "tmp/wt", "/" + "root/", "/" + "home/"]
    for path in [*source_files(), ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "setup.py"]:
        text = path.read_text(encoding="utf-8")
        for name in names:
            assert not re.search(rf"(?<![\w./]){re.escape(name)}", text), f"{path.relative_to(ROOT)} names {name}"
