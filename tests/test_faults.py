# SPDX-License-Identifier: Apache-2.0
"""Plays every row of the table of faults (tests/faults), and keeps docs/faults.md in step with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import fastgreen as fg
from tests.faults import ROWS, Fault, Scene
from tests.faults.render import document
from tests.oracles.places import ROOT

DOCUMENT = ROOT / "docs" / "faults.md"

PLAYED = [row for row in ROWS if row.acts]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else []) for row in PLAYED],
)
def test_what_must_come_out_comes_out(row: Fault, tmp_path, powercap, nvml, hwmon, python, monkeypatch):
    row.play(Scene(tmp_path, powercap, nvml, hwmon, python, monkeypatch.setenv))


def test_every_proof_named_by_the_table_exists():
    for row in ROWS:
        assert row.expect, row.name
        for proof in row.proofs:
            file, _, name = proof.test.partition("::")
            defines = rf"FG_TEST\({name}\)" if file.endswith(".c") else rf"^def {name}\("
            assert re.search(defines, (ROOT / file).read_text(), re.MULTILINE), proof.test


def test_no_two_rows_bear_one_name():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)


def test_the_engine_under_test_is_that_of_this_tree():
    """A run under a sanitizer that imported another build would show nothing."""
    assert Path(fg._core.__file__).is_relative_to(ROOT)
    wanted = os.environ.get("FASTGREEN_SANITIZED")
    if wanted:
        assert {"address": b"__asan_init", "thread": b"__tsan_init"}[wanted] in Path(fg._core.__file__).read_bytes()


def test_the_document_is_in_step_with_the_table():
    assert DOCUMENT.read_text() == document(ROWS), "run: python -m tests.faults.render > docs/faults.md"
