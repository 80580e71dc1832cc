# SPDX-License-Identifier: Apache-2.0
"""Ranks of a job: each records to its own folder and says which counters it read."""

from __future__ import annotations

import shlex
import sys

import pytest

import fastgreen as fg
from fastgreen.measuring.record_paths import claimed_folder
from fastgreen.results.launcher import launch
from tests.fakes.powercap import Zone

TORCHRUN = {"RANK": "2", "LOCAL_RANK": "2", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "none"}
SBATCH = {"SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}
SRUN = {**SBATCH, "SLURM_PROCID": "3", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("words", "rank"),
    [
        (TORCHRUN, 2),
        (SRUN, 3),
        ({**SRUN, **TORCHRUN}, 2),
        (SBATCH, None),
        ({**SRUN, "SLURM_STEP_ID": "4294967291"}, None),
        ({**SRUN, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, 1),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, 1),
        ({"RANK": "1", "WORLD_SIZE": "4"}, None),
        ({**TORCHRUN, "RANK": "4"}, None),
        ({**TORCHRUN, "RANK": "x\n"}, None),
        ({}, None),
    ],
)
def test_only_a_launcher_gives_a_rank(words, rank):
    assert launch(words).rank == rank


def test_a_rank_takes_its_own_folder_and_the_next_number_where_that_is_taken(tmp_path):
    said = launch(TORCHRUN)
    folders = [claimed_folder(str(tmp_path / "run"), said) for _ in range(3)]
    assert [name.removeprefix(folders[0]) for name in folders] == ["", "-2", "-3"]


def test_words_in_braces_are_filled_and_others_refused(tmp_path):
    assert claimed_folder(str(tmp_path / "{rank}"), launch({})) == str(tmp_path / "0")
    first, second = (
        claimed_folder(str(tmp_path / "{time}"), launch({**SRUN, "SLURM_JOB_START_TIME": "0"})) for _ in "ab"
    )
    assert first.startswith(str(tmp_path / "19700101-000000"))
    assert second == first + "-2"
    with pytest.raises(ValueError, match=r"record must use only .* not \{ranks\}"):
        claimed_folder("{ranks}", launch({}))


def test_a_run_keeps_its_counters_its_command_and_the_words_of_its_launcher(powercap, proc, tmp_path, monkeypatch):
    powercap(Zone("package-0", 90.0))
    boot = proc.root / "sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("0b6f3a60-0000-4000-8000-000000000001\n")
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with fg.Monitor("rapl:*", record=tmp_path / "run") as monitor:
        pass
    run = fg.load(monitor.folder)
    assert run.traces[0].channel.counter == "0b6f3a60-0000-4000-8000-000000000001/rapl/intel-rapl:0"
    assert run.metadata["launcher"].items() >= TORCHRUN.items()
    assert run.metadata["machine"]["cpu"] == "Fake Xeon"
    assert run.metadata["python"].startswith("3.")
    assert run.metadata["command"].startswith(shlex.quote(sys.orig_argv[0]))


def test_outside_a_launcher_a_taken_folder_is_refused_and_a_path_with_the_time_numbers_itself(powercap, tmp_path):
    powercap(Zone("package-0", 90.0))
    with fg.Monitor(record=tmp_path / "run"):
        pass
    with pytest.raises(FileExistsError), fg.Monitor(record=tmp_path / "run"):
        pass
    folders = []
    for _ in range(2):
        with fg.Monitor(record=tmp_path / "{time}") as monitor:
            pass
        folders.append(monitor.folder)
    assert folders[0] != folders[1]
