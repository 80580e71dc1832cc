# SPDX-License-Identifier: Apache-2.0
"""The page about accuracy shows numbers that the code gives."""

import doctest

from tests.oracles.places import ROOT


def test_the_worked_example_runs_as_shown():
    page = ROOT / "docs" / "accuracy.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried >= 12
    assert failed == 0
