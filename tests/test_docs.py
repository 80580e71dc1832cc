"""The documentation leads somewhere, and its Python is Python."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

from .conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_examples_are_python(page: Path):
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        dialogue = doctest.DocTestParser().get_examples(code)
        ast.parse("".join(example.source for example in dialogue) or code)


def test_every_command_and_extra_that_the_documentation_names_exists():
    from fastgreen.cli import COMMANDS

    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    for page in [*PAGES, *(ROOT / "fastgreen").rglob("*.py")]:
        text = page.read_text(encoding="utf-8")
        fenced = re.findall(r"```[a-z]*\n.*?```", text, re.DOTALL)
        named = (
            re.findall(r"^(?:\$ |sudo )*fastgreen ([a-z]+)", "".join(fenced), re.MULTILINE)
            if page.suffix == ".md"
            else []
        )
        assert set(named) <= set(COMMANDS), page
        for listed in re.findall(r"fastgreen\[([a-z,]+)\]", text):
            assert set(listed.split(",")) <= set(extras), page
