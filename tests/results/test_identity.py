# SPDX-License-Identifier: Apache-2.0
"""The head of a report: what a run was, from metadata that may be anybody's."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.results.identity import identity

KNOWN = {
    "realtime_ns": 1_800_000_000_000_000_000,
    "monotonic_ns": 5_000_000_000,
    "version": "0.1.0",
    "host": "node7",
    "command": "python train.py --lr 0.1",
    "python": "3.11.7",
    "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
    "machine": {"cpu": "AMD EPYC 9654", "gpus": "NVIDIA H100, NVIDIA H100", "driver": "580.1"},
    "launcher": {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "SLURM_JOB_ID": "17", "POD_NAME": "train-2"},
}


def test_each_fact_has_its_row_in_order():
    assert identity(KNOWN, 4_000_000_000) == {
        "command": "python train.py --lr 0.1",
        "began": "2027-01-15 07:59:59 UTC",
        "host": "node7",
        "container": "train-2",
        "job": "rank 2 of 4, by torchrun, Slurm job 17",
        "CPU": "AMD EPYC 9654",
        "GPU": "NVIDIA H100, NVIDIA H100",
        "driver": "580.1",
        "Python": "3.11.7",
        "packages": "torch 2.13.0, numpy 2.4.6",
        "recorded by": "fastgreen 0.1.0",
    }


def test_several_runs_are_a_number_and_their_hosts():
    said = identity({**KNOWN, "runs": 8, "hosts": ["node7", "node8"]}, 0)
    assert said["job"] == "8 runs, by torchrun, Slurm job 17"
    assert said["host"] == "node7, node8"


@pytest.mark.parametrize("wrong", [None, 5, [], {"a": 1}, "\x1b[31mred", "x" * 100_000])
@pytest.mark.parametrize("name", [*KNOWN, "runs", "hosts"])
def test_a_strangers_metadata_is_left_out_or_made_printable(name, wrong):
    said = identity({**KNOWN, name: wrong}, 0)
    assert all(isinstance(text, str) and text.isprintable() and len(text) < 300 for text in said.values())


def test_report_and_page_begin_with_it(tmp_path):
    with fg.Monitor(record=tmp_path / "run"):
        pass
    result = fg.load(tmp_path / "run")
    printed = CliRunner().invoke(main, ["report", str(tmp_path / "run")], catch_exceptions=False).output.splitlines()
    said = identity(result.metadata, result.start_ns)
    assert printed[0] == said["command"]
    assert said["began"] in printed[1]
    assert f"host {said['host']}" in printed[1]
    fg.to_html(result, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(f"<dt>{name}</dt>" in page for name in said)
