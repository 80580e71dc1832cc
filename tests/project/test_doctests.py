"""The examples in the docstrings of every public name run as they stand."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.oracles.places import ROOT

PACKAGE = ROOT / "fastgreen"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)

OPTIONAL = {"fastgreen.estimate.torch_reader": "torch"}  # what the example of a module needs, and the tests may lack


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name], reason=f"{OPTIONAL[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried
    assert not failed
