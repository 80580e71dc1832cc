"""The documentation as a reader uses it: each block is run as pasted, links lead somewhere, names and options exist."""

from __future__ import annotations

import collections
import contextlib
import doctest
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.powercap import Zone
from tests.oracles.places import EXAMPLES, ROOT
from tests.project.pages import PAGES, Block, blocks, command_fault

BLOCKS = [block for page in PAGES for block in blocks(page)]
LANGUAGES = {"python", "sh", "console", "text", "ini", "toml", ""}
# Why a block may stay unrun, and how many do. A block that needs nothing of this is run.
NOT_RUN = {
    "needs root": 6,
    "needs a GPU": 4,
    "needs a cluster": 3,
    "makes an environment": 9,
    "takes hours": 1,
    "takes minutes": 2,
    "serves until Ctrl-C": 3,
}
README = ROOT / "README.md"


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("python", "sh", "console") and not block.not_run]


class Reader:
    """Pastes the blocks of a page into one folder, and its Python into one session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, object] = {"__name__": "__main__"}
        (folder / "bin").mkdir()
        (folder / "page").mkdir()
        (folder / "page" / "examples").symlink_to(EXAMPLES)
        for name, arguments in (("fastgreen", "-m fastgreen"), ("python", ""), ("python3", "")):
            program = folder / "bin" / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            program.chmod(0o755)

    def paste(self, block: Block) -> str:
        """Run a block; what it printed."""
        if block.language != "python":
            return self._shell(block)
        if block.file:
            Path(block.file).write_text(block.text)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if ">>> " in block.text:
                parsed = doctest.DocTestParser().get_doctest(block.text, self.names, block.place, block.place, 0)
                failed, tried = doctest.DocTestRunner().run(parsed, clear_globs=False, out=sys.stderr.write)
                assert tried
                assert not failed, block.place
                self.names = parsed.globs
            else:
                exec(compile(block.text, block.place, "exec"), self.names)
        return printed.getvalue()

    def _shell(self, block: Block) -> str:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.script()], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"
        return done.stdout


def shape(text: str) -> list[str]:
    """Printed text without its numbers, the prefixes of their units, and the widths that follow from them."""
    text = re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", text)
    text = re.sub(r"# [munkM]?(?=(J|W|Wh|s|Hz)\b)", "# ", text)
    text = text.replace("# missed", "none")  # a busy machine misses deadlines
    return [re.sub(r"─+", "─", re.sub(r"\s+", " ", line)).strip() for line in text.strip().splitlines()]


def pages() -> list:
    """The pages with blocks; those whose blocks take more than ten seconds are marked."""
    slow = ("estimate.md", "experiments.md", "metrics.md", "recordings.md", "training.md")
    marks = {name: [pytest.mark.slow] for name in slow}
    return [pytest.param(p, id=p.name, marks=marks.get(p.name, [])) for p in PAGES if runnable(p)]


@pytest.mark.parametrize("page", pages())
def test_every_block_runs_as_pasted_twice_in_a_row(page: Path, tmp_path, powercap, monkeypatch):
    powercap(Zone("package-0", watts=50.0, children=(Zone("dram", watts=6.0),)), move=True)
    reader = Reader(tmp_path)
    monkeypatch.chdir(tmp_path / "page")
    monkeypatch.setenv("MPLBACKEND", "agg")
    printed = ""
    for block in blocks(page):
        if block.mark == "output":
            assert shape(block.text) == shape(printed), block.place
        if block not in runnable(page) or not all(importlib.util.find_spec(name) for name in block.packages):
            continue
        for _ in range(2):
            printed = reader.paste(block)


def test_each_block_has_a_language_and_a_mark_that_means_something():
    for block in BLOCKS:
        assert block.language in LANGUAGES, block.place
        assert block.not_run in (None, *NOT_RUN), block.place
        assert re.match(r"(not run|run where): \w|output$|$|peers:begin$", block.mark), f"{block.place}: {block.mark}"
        if block.language == "":
            assert not re.search(r"^(\$ |sudo )?(fastgreen|make|python3?|pip) ", block.text, re.MULTILINE), block.place
    fences = sum(len(re.findall(r"^```", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS), "a fence is not closed, or has no mark that is read"


def test_the_blocks_that_are_not_run_are_counted():
    found = collections.Counter(block.not_run for block in BLOCKS if block.not_run)
    assert {reason: found[reason] for reason in NOT_RUN} == NOT_RUN


SHELL = [block for block in BLOCKS if block.language in ("sh", "console")]


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_the_commands_of_every_shell_block_exist_with_their_arguments(block: Block):
    commands = list(block.commands())
    assert commands
    assert [fault for words in commands if (fault := command_fault(words))] == []


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("fastgreen rum -- true", "no command rum"),
        ("fastgreen report", "is missing"),
        ("fastgreen run --hertz 5 -- true", "No such option"),
        ("fastgreen run --hz", "requires an argument"),
        ("fastgreen run --hz often -- true", "not a valid float"),
        ("sudo make polish", "no target"),
        ("python -m benchmarks.nothing", "no module"),
        ("python examples/nothing.py", "no file"),
        ("true && sudo FAST=1 fastgrin", "fastgrin is not a program"),
    ],
)
def test_a_wrong_command_is_found(script, fault):
    block = Block(README, 1, "", "sh", script)
    faults = [found for words in block.commands() if (found := command_fault(words))]
    assert any(fault in found for found in faults), faults


def test_marks_files_and_dialogues_are_read_off_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n<!-- not run: needs root -->\n```console\n$ sudo true\nfine\n$ false\n```\n\n"
        "<!-- run where: torch, onnx -->\n\n```python\n# mine.py\nx = 1\n```\n\n```text\nout\n```\n"
    )
    root, python, text = blocks(page)
    assert (root.not_run, root.line, root.script()) == ("needs root", 4, "sudo true\nfalse\n")
    assert list(root.commands()) == [["true"], ["false"]]
    assert (python.packages, python.file, python.not_run) == (["torch", "onnx"], "mine.py", None)
    assert (text.language, text.packages, text.file) == ("text", [], None)


def test_output_is_compared_without_its_numbers_alone():
    assert shape("window   567.0 mJ  1 .. 2 J\n───") == shape("window 1.2 J  0.3 .. 12.5 J\n─")
    assert shape("window 5 J") != shape("windows 5 J")
    assert shape("5 J") != shape("5 W")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_of_a_table_has_the_cells_of_its_header(page: Path):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+(?:\S.*\n)?", text, re.MULTILINE):
        rows = [row for row in table.splitlines() if row]
        cells = [len(re.split(r"(?<!\\)\|", row)) for row in rows]
        assert [row for row, count in zip(rows, cells, strict=True) if count != cells[0]] == []


def test_the_index_leads_to_every_page():
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages == set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8")))


def test_the_readme_is_a_front_door():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert re.search(r"!\[[^\]]+\]\(docs/\w+\.png\)", text)
    for page in ("index", "command-line", "metrics", "accuracy", "peers"):
        assert f"(docs/{page}.md)" in text
    name = r"\b(APC|APEC|TTCAPC|TTCAPEC)\b \([^)]+\)"
    assert set(re.findall(name, text.replace("\n", " "))) == {"APC", "APEC", "TTCAPC", "TTCAPEC"}


def test_the_comparison_of_the_readme_is_that_of_the_page():
    def cells(row: str) -> list[str]:
        return [re.sub(r" *<sup>.*?</sup>", "", cell).strip() for cell in row.strip("|\n").split("|")]

    page = [
        cells(row) for row in (ROOT / "docs" / "peers.md").read_text(encoding="utf-8").splitlines() if row[:1] == "|"
    ]
    rows = [cells(row) for row in README.read_text(encoding="utf-8").splitlines() if row.startswith("|")]
    assert len(rows) == 5
    assert [name.lower() for name in rows[0]] == [name.partition(" ")[0] for name in page[0]]
    assert [row for row in rows[2:] if row not in page] == []


def test_every_extra_that_the_documentation_names_exists():
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    for page in [*PAGES, *(ROOT / "fastgreen").rglob("*.py")]:
        for listed in re.findall(r"(?:fastgreen|')\.?\[([a-z,]+)\]", page.read_text(encoding="utf-8")):
            assert set(listed.split(",")) <= set(extras), page


def test_every_make_target_that_the_documentation_names_exists_and_make_lists_it():
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", rules, re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`(?:sudo )?make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"))) <= targets, page
    listed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "bench", "sanitize", "lint"):
        assert re.search(rf"^make {target} +\S", listed, re.MULTILINE), listed
    phony = re.findall(r"^\.PHONY: (.*)$", rules, re.MULTILINE)[0].split()
    assert {name for name in targets if re.search(rf"^{name}:.*##", rules, re.MULTILINE)} <= set(phony)


def test_every_command_and_option_in_the_text_exists():
    from fastgreen.cli import COMMANDS, main

    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for name, rest in re.findall(r"`(?:sudo )?fastgreen ([a-z]+)((?: [^`|]*)?)`", text):
            assert name in COMMANDS, f"{page.name}: fastgreen {name}"
            command = main.get_command(None, name)
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            given = re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest.partition(" -- ")[0])
            assert set(given) <= known | {"--help"}, f"{page.name}: fastgreen {name}{rest}"


def test_every_name_of_the_package_that_the_documentation_uses_exists():
    import fastgreen as fg

    for page in PAGES:
        for path in re.findall(r"\bfg(?!\.h\b)((?:\.[A-Za-z_]\w*)+)", page.read_text(encoding="utf-8")):
            value = fg
            for name in path.split(".")[1:]:
                assert hasattr(value, name), f"{page.name}: fg{path}"
                value = getattr(value, name)


def test_the_page_of_the_command_line_has_every_command():
    from fastgreen.cli import COMMANDS

    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `fastgreen (\w+)", page, re.MULTILINE)) == set(COMMANDS)
