"""The documentation leads somewhere, and its Python is Python."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
from pathlib import Path

import pytest

from tests.oracles.places import ROOT

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


def test_every_make_target_that_the_documentation_names_exists_and_make_lists_it():
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", rules, re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = "\n".join(re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL))
        named = re.findall(r"^(?:sudo )?make ([a-z][a-z-]*)", lines, re.MULTILINE)
        assert {*named, *re.findall(r"`(?:sudo )?make ([a-z][a-z-]*)", text)} <= targets, page
    listed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "bench", "sanitize", "lint"):
        assert re.search(rf"^make {target} +\S", listed, re.MULTILINE), listed
    phony = re.findall(r"^\.PHONY: (.*)$", rules, re.MULTILINE)[0].split()
    assert {name for name in targets if re.search(rf"^{name}:.*##", rules, re.MULTILINE)} <= set(phony)


def test_every_option_that_the_documentation_names_is_one_of_its_command():
    from fastgreen.cli import COMMANDS, main

    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
        for name, rest in re.findall(r"\bfastgreen ([a-z]+)((?: [^\n`|]*)?)", text):
            if name not in COMMANDS:
                continue
            command = main.get_command(None, name)
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            given = re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest.partition(" -- ")[0].partition("#")[0])
            assert set(given) <= known | {"--help"}, f"{page.name}: fastgreen {name}{rest}"


def test_every_name_of_the_package_that_the_documentation_uses_exists():
    import fastgreen as fg

    for page in PAGES:
        for path in re.findall(r"\bfg(?!\.h\b)((?:\.[A-Za-z_]\w*)+)", page.read_text(encoding="utf-8")):
            value = fg
            for name in path.split(".")[1:]:
                assert hasattr(value, name), f"{page.name}: fg{path}"
                value = getattr(value, name)


def test_the_readme_lists_every_command():
    from fastgreen.cli import COMMANDS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (listing,) = re.findall(r"## Command line\n\n```\n(.*?)```", readme, re.DOTALL)
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", listing)] == []
