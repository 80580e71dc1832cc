# SPDX-License-Identifier: Apache-2.0
"""Which board was measured: reports name it, and say where CUDA hides boards or counts them in another order."""

from __future__ import annotations

import json

import pytest

import fastgreen as fg
from tests.commands.test_cli import cli
from tests.fakes.nvml import Gpu

SMALL = Gpu(uuid="GPU-aaaaaaaa-0000-0000-0000-000000000001", name="NVIDIA GT 1030", power=20.0)
LARGE = Gpu(uuid="GPU-bbbbbbbb-0000-0000-0000-000000000002", name="NVIDIA GeForce RTX 4090", power=400.0)
ORDER = "CUDA_VISIBLE_DEVICES counts fastest first unless CUDA_DEVICE_ORDER=PCI_BUS_ID"


def flat(text: str) -> str:
    return " ".join(text.split())


def test_run_says_that_cuda_may_use_another_board(nvml):
    nvml(SMALL, LARGE)
    done = cli("run", "--", "true", env={"CUDA_VISIBLE_DEVICES": "0"})
    said = flat(done.stderr)
    assert done.returncode == 0
    assert f"note: nvml:0 (NVIDIA GT 1030) is measured, but {ORDER}; boards differ here" in said
    assert "note: nvml:1 (NVIDIA GeForce RTX 4090) is hidden by CUDA_VISIBLE_DEVICES and is not measured" in said
    assert "nvml:0 (NVIDIA GT 1030)" in said.partition("note:")[0]


def test_a_saved_report_and_json_say_the_same(nvml, tmp_path):
    nvml(SMALL, LARGE)
    env = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    done = cli("run", "--json", "-o", tmp_path / "run", "--", "true", env=env)
    notes = json.loads(done.stderr)["notes"]
    assert notes == ["nvml:0 (NVIDIA GT 1030) is hidden by CUDA_VISIBLE_DEVICES and is not measured"]
    shown = flat(cli("report", tmp_path / "run").stdout)
    assert f"note: {notes[0]}" in shown
    assert "nvml:1 (NVIDIA GeForce RTX 4090)" in shown
    assert fg.load(tmp_path / "run").notes == notes


FIRST, SECOND = "nvml:0 (NVIDIA GT 1030) is", "nvml:1 (NVIDIA GeForce RTX 4090) is"


@pytest.mark.parametrize(
    ("shown", "order", "wanted", "said"),
    [
        (None, None, None, []),
        ("0,1", "PCI_BUS_ID", None, []),
        ("0,1", None, None, [f"{FIRST} measured, but", f"{SECOND} measured, but"]),
        (LARGE.uuid, None, None, [f"{FIRST} hidden"]),
        ("", None, None, [f"{FIRST} hidden", f"{SECOND} hidden"]),
        ("0", None, ["procstat:*"], []),
        (LARGE.uuid, None, ["nvml:0"], [f"{FIRST} hidden by CUDA_VISIBLE_DEVICES and is measured"]),
        (LARGE.uuid, None, ["nvml:1/power"], []),
    ],
)
def test_a_monitor_notes_what_concerns_its_boards_and_warns_of_nothing(
    nvml, monkeypatch, recwarn, shown, order, wanted, said
):
    variables = {"CUDA_VISIBLE_DEVICES": shown, "CUDA_DEVICE_ORDER": order}
    nvml(SMALL, LARGE)
    for name, value in variables.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    with fg.Monitor(wanted) as monitor:
        pass
    notes = monitor.result.notes
    assert len(notes) == len(said)
    assert all(note.startswith(beginning) for note, beginning in zip(notes, said, strict=True))
    assert not recwarn.list


def test_boards_of_one_name_are_not_in_doubt(nvml, monkeypatch):
    nvml(SMALL, Gpu(uuid=LARGE.uuid, name=SMALL.name))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with fg.Monitor() as monitor:
        pass
    assert monitor.result.notes == []


def test_the_tables_name_the_boards(nvml):
    nvml(SMALL, LARGE)
    listed = flat(cli("channels", env={"COLUMNS": "200"}).stdout)
    assert "nvml:0 (NVIDIA GT 1030)" in listed
    assert "nvml:1 (NVIDIA GeForce RTX 4090)" in listed
    with fg.Monitor("nvml:*") as monitor:
        pass
    names = {row["id"]: row["name"] for row in monitor.result.channels.to_pylist()}
    assert names["nvml:1"] == LARGE.name
    assert "nvml:1 (NVIDIA GeForce RTX 4090)" in flat(str(monitor.result))
    watched = flat(cli("watch", "--seconds", "0.2", "--every", "0.1", "-c", "nvml:1").stdout)
    assert "nvml:1 (NVIDIA GeForce RTX 4090)" in watched
