# SPDX-License-Identifier: Apache-2.0
"""The fixture `bar`, by which a benchmark states its bar, and the option `--bars FILE`, which keeps all of them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from benchmarks.bars import Row, machine, page, read, replaced

FOLDER = Path(__file__).parent
_ROWS = pytest.StashKey[dict[str, list[Row]]]()
_PARTIAL = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bars", metavar="FILE", help="write the bar of each benchmark and the figure seen to a page")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = defaultdict(list)
    config.stash[_PARTIAL] = set()


@pytest.fixture
def bar(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compare a figure with its bar: ``bar("window", "<= 1.2 x two clock reads", seen)``.

    It prints both, keeps a row for the page, and fails the benchmark if the bar is missed. The bar ``"none"`` is never
    missed. Further figures are keywords.
    """
    rows = request.config.stash[_ROWS][request.node.path.stem]

    def check(what: str, limit: str, seen: float, **more: float) -> None:
        row = Row(what, limit, float(seen), getattr(seen, "spread", None), machine())
        assert what not in [other.what for other in rows], f"two bars are named {what!r}"
        rows.append(row)
        if "benchmark" in request.fixturenames:
            info = {"seen": row.seen, "bar": limit, "quartiles": row.spread}
            request.getfixturevalue("benchmark").extra_info.setdefault("bars", {})[what] = {**info, **more}
        _, _, text, _ = row.cells()
        print(f"\n{what}: {text}, bar {limit}" + "".join(f", {name} {value:.4g}" for name, value in more.items()))
        assert row.is_met, f"{what}: {text}, bar {limit}"

    return check


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[_PARTIAL].add(item.path.stem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not report.passed:  # it may have stated no bar, or not all
        item.config.stash[_PARTIAL].add(item.path.stem)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("bars")
    rows = session.config.stash[_ROWS]
    if not path or not rows:
        return
    target = Path(path)
    old = read(target.read_text(encoding="utf-8")) if target.exists() else {}
    files = {path.stem: _first_sentence(path) for path in sorted(FOLDER.glob("bench_*.py"))}
    named = {Path(argument.partition("::")[0]).stem for argument in session.config.args if "::" in argument}
    whole = set(rows) - session.config.stash[_PARTIAL] - named
    target.write_text(page(replaced(old, rows, whole, files), files), encoding="utf-8")


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())
