# SPDX-License-Identifier: Apache-2.0
"""Files of pytest-benchmark from a stranger: energies, or a sentence."""

from __future__ import annotations

import json
import os

import pytest

from fastgreen.errors import TraceError
from fastgreen.reports.compare import read_benchmarks

ENERGY = {"block_energy_j": [1.0], "estimated": False}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 200_000,
        json.dumps(
            {"benchmarks": [{"fullname": "a", "extra_info": {"energy": {**ENERGY, "block_energy_j": [10**400]}}}]}
        ),
        json.dumps({"benchmarks": [{"fullname": "a", "extra_info": [1]}]}),
        json.dumps({"benchmarks": 1}),
    ],
    ids=["empty", "deep", "huge integer", "another type", "no list"],
)
def test_a_damaged_file_gets_a_sentence(text, tmp_path):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(TraceError, match="must be JSON of pytest-benchmark"):
        read_benchmarks(tmp_path / "b.json")


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "b.json")
    with pytest.raises((TraceError, OSError), match=r"b\.json"):
        read_benchmarks(tmp_path / "b.json")
