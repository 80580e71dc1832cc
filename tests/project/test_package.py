"""House rules that are tests reading the source: sizes, and what may be in which file."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.build import compiler
from tests.oracles.places import ROOT

PACKAGE = ROOT / "fastgreen"
CSRC = ROOT / "csrc"


def python_files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


def test_the_init_imports_only_the_standard_library():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    top = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert {getattr(node, "module", None) or node.names[0].name for node in top} <= {
        "__future__",
        "importlib",
        "importlib.util",
        "typing",
        "types",
    }


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
            assert not re.search(r"\bexcept( Exception| BaseException)?\s*:", text), path
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
    files.extend([f"fastgreen/{door.stem}.c" for door in PACKAGE.glob("*.pyx")])
    for line in Path("MANIFEST.in").read_text(encoding="utf-8").splitlines():
        files.process_template_line(line)
    present = {name for name in listed.splitlines() if (ROOT / name).exists()}
    assert present - set(files.files) == set()
    assert {
        name
        for name in files.files
        if (name.startswith("fastgreen/_") and name.endswith(".c")) or name.endswith((".so", ".o"))
    } == set()


def test_no_file_names_this_machine():
    # Put together here, lest this file be the one that names them.
    names = ["/" + "work/", "/" + "tmp/wt", "/" + "root/", "/" + "home/"]
    for path in [*source_files(), ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "setup.py"]:
        text = path.read_text(encoding="utf-8")
        for name in names:
            assert not re.search(rf"(?<![\w./]){re.escape(name)}", text), f"{path.relative_to(ROOT)} names {name}"
