# SPDX-License-Identifier: Apache-2.0
"""Where a rank records, and what launchers say."""

from __future__ import annotations

import re

import pytest

from fastgreen.measuring.record_path import record_path
from fastgreen.results.launcher import Place, place_of

SRUN = {"SLURM_PROCID": "2", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "none"}


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (TORCHRUN, Place(3, 8)),
        ({**TORCHRUN, "SLURM_JOB_ID": "99"}, Place(3, 8, "99")),
        (
            {"SLURM_PROCID": "2", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_ID": "5"},
            Place(2, 4, "5"),
        ),
        # the shell of sbatch, without srun
        ({"SLURM_PROCID": "0", "SLURM_JOB_ID": "5", "SLURM_NTASKS": "4"}, None),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Place(1, 2)),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Place(0, 1)),
        ({"RANK": "first", "WORLD_SIZE": "2"}, None),
        ({"RANK": "1"}, None),
        ({}, None),
    ],
)
def test_the_place_of_a_process(words, place):
    assert place_of(words) == place


def test_a_rank_records_below_the_folder_and_a_restart_beside_it(tmp_path):
    job = str(tmp_path / "run")
    assert record_path(job, TORCHRUN, "node1") == f"{job}/node1-3"
    for number in ("", "-2"):
        folder = tmp_path / "run" / f"node1-3{number}"
        folder.mkdir(parents=True)
        (folder / "channels.arrow").touch()
    assert record_path(job, TORCHRUN, "node1") == f"{job}/node1-3-3"
    assert record_path(f"{job}/{{host}}/{{rank}}", TORCHRUN, "n/1") == f"{job}/n_1/3"


def test_a_process_alone_records_where_it_was_asked_to(tmp_path):
    assert record_path(str(tmp_path), {}) == str(tmp_path)
    (tmp_path / "channels.arrow").touch()
    assert record_path(str(tmp_path), {}) == str(tmp_path)  # refused when it is opened
    named = record_path(str(tmp_path / "runs" / "{time}"), {})
    assert re.fullmatch(r"\d{8}T\d{6}Z", named.rsplit("/", 1)[1])
    assert record_path("{braces} of others", {}) == "{braces} of others"
