# SPDX-License-Identifier: Apache-2.0
"""All attacks of docs/permissions.md at random for a while, and the table itself: each line has its test.

FASTGREEN_ATTACK_SECONDS sets the time; `make fuzz` plays a minute.
"""

from __future__ import annotations

import ast
import os
import re

import pytest

from tests.oracles.places import ROOT
from tests.sensors.grant_attacks import ATTACKS, play

SECONDS = float(os.environ.get("FASTGREEN_ATTACK_SECONDS", "12"))
LONGEST_S = 0.5
GROWTH_KIB = 1024
TABLE = ROOT / "docs" / "permissions.md"


def _rows() -> list[list[str]]:
    text = TABLE.read_text(encoding="utf-8").partition("### Threats")[2]
    lines = [line for line in text.partition("\n#")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_line_of_the_threats_names_a_test_that_is_there():
    rows = _rows()
    assert len(rows) >= 20
    for attack, outcome, named in rows:
        places = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", named)
        assert attack, rows
        assert outcome, attack
        assert places, attack
        for file, test in places:
            nodes = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
            assert test in [node.name for node in nodes if isinstance(node, ast.FunctionDef)], attack


def test_every_attack_that_is_played_is_a_threat_and_the_other_way_around():
    played = {name for attack, _, _ in _rows() for name in re.findall(r"\(`([a-z_]+)`\)", attack)}
    assert played == set(ATTACKS)


@pytest.mark.statistical
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become the friend, the greedy user and the stranger")
@pytest.mark.timeout(SECONDS + 120)
def test_the_helper_serves_its_friends_under_all_attacks_at_once():
    felt = play(SECONDS)
    assert felt["alive"], felt
    assert felt["broken"] == [], felt
    assert felt["asked"] > 2 * SECONDS, felt
    assert felt["failed"] == 0, felt
    assert felt["longest_by_helper_s"] <= LONGEST_S, felt
    assert felt["longest_s"] <= LONGEST_S + felt["busiest_s"], felt
    assert felt["descriptors_afterwards"] == felt["descriptors_at_rest"], felt
    assert felt["descriptors_most"] <= 256, felt
    assert felt["memory_most_kib"] <= felt["memory_warm_kib"] + GROWTH_KIB, felt
