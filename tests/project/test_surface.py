# SPDX-License-Identifier: Apache-2.0
"""The public surface is the committed list; a name that goes has had its notice."""

from __future__ import annotations

import warnings

import pytest

import fastgreen as fg
from fastgreen.guards import deprecation
from tests.oracles.places import ROOT
from tests.project.surface import LIST, MODULES, of, surface

HOW = "`python -m tests.project.surface` writes the list again"


def test_the_public_surface_is_the_committed_list():
    listed, found = LIST.read_text(encoding="utf-8").splitlines(), surface()
    added = [line for line in found if line not in listed]
    gone = [line for line in listed if line not in found]
    assert not gone, f"{gone} gone or changed. A user may rely on it: keep it, and give notice in deprecation.py. {HOW}"
    assert not added, f"{added} not in the list. Give each its page and its line of CHANGELOG.md. {HOW}"
    assert found == listed, HOW


def test_a_change_of_an_argument_a_default_or_a_base_changes_a_line():
    def call(a, b=1, *, c=2): ...

    class Kind:
        def __init__(self, x): ...
        def method(self, y=0): ...
        @property
        def value(self): ...

    assert list(of("f", call)) == ["f(a, b=1, *, c=2)"]
    assert list(of("K", Kind)) == ["K(x)", "K.method(self, y=0)", "K.value"]
    assert list(of("fg.errors.TraceError", fg.errors.TraceError)) == [
        "fg.errors.TraceError(FastgreenError, ValueError)"
    ]
    assert list(of("apc", fg.ufuncs.apc)) == ["apc: ufunc of 4"]


def test_every_public_name_is_stable_or_provisional_by_the_page():
    page = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    for module in MODULES:
        assert f"`fastgreen.{module}`" in page
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("file "):
            _, kind, _, number = line.split()
            assert f"| {kind} | {number} |" in page, line


@pytest.fixture
def old_name(monkeypatch):
    monkeypatch.setitem(deprecation.RENAMED, "apc_score", deprecation.Notice("apc", "1.1", "2.0"))


def test_a_deprecated_name_works_and_names_its_successor(old_name):
    with pytest.warns(DeprecationWarning, match="ends with") as caught:
        found = fg.apc_score
    assert found is fg.apc
    (warning,) = caught
    assert str(warning.message) == "fastgreen.apc_score is deprecated since 1.1 and ends with 2.0: use fastgreen.apc"
    assert warning.filename == __file__


def test_a_deprecated_name_is_not_listed_and_unknown_names_stay_errors(old_name):
    assert "apc_score" not in dir(fg)
    with pytest.raises(AttributeError, match="has no attribute 'apc_scores'"):
        fg.apc_scores  # noqa: B018


def test_no_public_name_is_deprecated_without_a_successor():
    for name, notice in deprecation.RENAMED.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert getattr(fg, name) is getattr(fg, notice.instead)
