# SPDX-License-Identifier: Apache-2.0
"""Every benchmark states its bar; the page of bars keeps what was seen."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bars import Row, figure, machine, page, read, replaced
from tests.oracles.places import ROOT

FOLDER = ROOT / "benchmarks"
PAGE = ROOT / "docs" / "bars.md"
# Asserts counts and measures nothing.
WITHOUT_A_FIGURE = {"bench_corpus"}
FILES = sorted({path.stem for path in FOLDER.glob("bench_*.py")} - WITHOUT_A_FIGURE)


@pytest.mark.parametrize("name", FILES)
def test_every_benchmark_states_its_bar(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert tests
    for test in tests:
        called = {node.func.id for node in ast.walk(test) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
        assert "bar" in called, f"{name}.{test.name} states no bar"


def test_the_page_has_tables_of_files_that_exist_and_reads_back_as_it_was():
    text = PAGE.read_text(encoding="utf-8")
    sections = read(text)
    assert set(sections) <= set(FILES)
    assert len(sections) >= 8
    assert all(sections.values())
    for rows in sections.values():
        for what, (again, bar, seen, where) in rows.items():
            assert what == again
            assert seen
            assert where
            assert bar == "–" or Row(what, bar, 0.0).unit is not None  # else ValueError
    intros = {path.stem: "x" for path in FOLDER.glob("bench_*.py")}
    assert read(page(sections, intros)) == sections


@pytest.mark.parametrize(
    ("bar", "seen", "met"),
    [
        ("<= 1.2 x two clock reads", 1.2, True),
        ("<= 1.2 x two clock reads", 1.2001, False),
        ("< 1 %", 1.0, False),
        (">= 0.9", 0.9, True),
        ("> 1 x numba", 1.0, False),
        (">= 1e3 Hz", 999.0, False),
        ("none", 7.0, True),
        ("<= 1", float("nan"), False),
    ],
)
def test_a_bar_is_met_or_missed(bar, seen, met):
    row = Row("x", bar, seen)
    assert row.is_met is met
    assert ("missed" in row.cells()[2]) is not met


@pytest.mark.parametrize("bar", ["1.2", "<=1.2", "== 1", "<= x", "", "<= 1 "])
def test_a_bar_that_cannot_be_read_is_refused(bar):
    with pytest.raises(ValueError, match="bar must be a sign, a number and perhaps a unit"):
        Row("x", bar, 1.0).is_met  # noqa: B018


def test_figures_have_three_digits():
    assert [figure(x) for x in (0.93456, 12345.6, 0.00012345, 999.6, 5.0)] == [
        "0.935",
        "12346",
        "0.000123",
        "1000",
        "5",
    ]


def test_the_machine_is_named_in_general_words():
    words = machine()
    assert words.endswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}")
    assert not any(any(c.isdigit() for c in word) for word in words.partition("-core ")[2].partition(",")[0].split())


def test_a_part_of_a_file_keeps_its_other_rows_and_a_whole_file_does_not():
    files = {"bench_a": "A.", "bench_b": "B."}
    old = read(page(replaced({}, {"bench_a": [Row("x", "<= 1", 0.5), Row("y", "none", 2.0)]}, set(), files), files))
    old["bench_gone"] = dict(old["bench_a"])
    new = {"bench_a": [Row("x", "<= 1", 0.7)], "bench_b": [Row("z", "> 1", 3.0, (2.0, 4.0))]}
    part = replaced(old, new, set(), files)
    assert {name: list(rows) for name, rows in part.items()} == {"bench_a": ["x", "y"], "bench_b": ["z"]}
    assert part["bench_a"]["x"][2] == "0.7"
    assert part["bench_b"]["z"][2] == "3 (2 to 4)"
    assert list(replaced(old, new, {"bench_a"}, files)["bench_a"]) == ["x"]


BENCHMARKS = '''"""Two figures.

More."""
from benchmarks.ratios import interleaved


def test_fast(bar):
    bar("fast", "<= 2 x nothing", 1.5, calls=3)


def test_slow(bar):
    bar("slow", "<= 2 x nothing", 2.5)


def test_ratio(benchmark, bar):
    ratio = interleaved(lambda: None, lambda: None, 5)
    benchmark.pedantic(lambda: None)
    bar("ratio", "none", ratio)
    assert benchmark.extra_info["bars"]["ratio"]["seen"] == ratio
'''


@pytest.fixture
def bench(tmp_path):
    """Runs benchmarks of a copy of the folder that has these alone; returns what pytest printed, and the page."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("bars.py", "conftest.py", "ratios.py"):
        shutil.copy(FOLDER / name, folder)
    (folder / "bench_two.py").write_text(BENCHMARKS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\npythonpath = .\n")

    def run(*arguments: str) -> tuple[subprocess.CompletedProcess, Path]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
        done = subprocess.run(
            [*command, *arguments, "--bars", "bars.md"], cwd=tmp_path, capture_output=True, text=True, env={"PATH": ""}
        )
        return done, tmp_path / "bars.md"

    return run


def test_a_missed_bar_fails_and_is_on_the_page(bench):
    done, kept = bench("benchmarks")
    assert done.returncode == 1
    assert "1 failed, 2 passed" in done.stdout
    assert "slow: 2.5 **missed**, bar <= 2 x nothing" in done.stdout
    rows = read(kept.read_text())["bench_two"]
    assert {what: (row[1], row[2]) for what, row in rows.items() if what != "ratio"} == {
        "fast": ("<= 2 x nothing", "1.5"),
        "slow": ("<= 2 x nothing", "2.5 **missed**"),
    }
    assert rows["ratio"][1] == "–"
    assert "## Two\n\nTwo figures.\n" in kept.read_text()
    done, kept = bench("benchmarks/bench_two.py::test_fast")
    assert done.returncode == 0
    assert list(read(kept.read_text())["bench_two"]) == ["fast", "slow", "ratio"]
