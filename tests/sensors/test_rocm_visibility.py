# SPDX-License-Identifier: Apache-2.0
"""AMD boards that ROCm's variables hide: which, in which order, and the word that a run gives about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import fastgreen as fg
from fastgreen.sensors.catalog import select
from fastgreen.sensors.rocm_visibility import boards_in_order, hidden_boards
from tests.fakes import hwmon as chips
from tests.fakes.amdsmi import Board

BUSES = ("0000:43:00.0", "0000:03:00.0", "0001:03:00.0")  # in the kernel's order, which is not that of the addresses
UUIDS = ("GPU-00000000000000aa", "GPU-00000000000000bb", "")


@pytest.fixture
def kfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A topology of one CPU and three boards; node 10 comes after node 2."""
    root = tmp_path / "nodes"
    nodes = {0: "cpu_cores_count 16\nsimd_count 0\nlocation_id 0"}
    for node, domain, bus, unique in [(1, 0, 0x43, 0xAA), (2, 0, 0x03, 0xBB), (10, 1, 0x03, 0)]:
        nodes[node] = f"simd_count 256\nlocation_id {bus << 8}\ndomain {domain}\nunique_id {unique}"
    for node, text in nodes.items():
        (root / str(node)).mkdir(parents=True)
        (root / str(node) / "properties").write_text(text + "\n")
    monkeypatch.setenv("FASTGREEN_KFD_ROOT", str(root))
    return root


def test_boards_have_the_order_of_the_kernels_nodes(kfd):
    assert boards_in_order(str(kfd)) == list(zip(BUSES, UUIDS, strict=True))


@pytest.mark.parametrize(
    ("environment", "hidden"),
    [
        ({}, {}),
        ({"ROCR_VISIBLE_DEVICES": ""}, {}),
        ({"ROCR_VISIBLE_DEVICES": "0,1,2"}, {}),
        ({"ROCR_VISIBLE_DEVICES": "1"}, {0: "ROCR", 2: "ROCR"}),
        ({"ROCR_VISIBLE_DEVICES": "gpu-00000000000000AA, 2"}, {1: "ROCR"}),
        ({"HIP_VISIBLE_DEVICES": "2"}, {0: "HIP", 1: "HIP"}),
        ({"HIP_VISIBLE_DEVICES": "0,7,1"}, {1: "HIP", 2: "HIP"}),
        ({"HIP_VISIBLE_DEVICES": "-1"}, {0: "HIP", 1: "HIP", 2: "HIP"}),
        ({"CUDA_VISIBLE_DEVICES": "0"}, {1: "CUDA", 2: "CUDA"}),
        ({"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1"}, {0: "HIP", 2: "HIP"}),
        ({"ROCR_VISIBLE_DEVICES": "2,0", "HIP_VISIBLE_DEVICES": "0"}, {1: "ROCR", 0: "HIP"}),
        ({"ROCR_VISIBLE_DEVICES": "2", "HIP_VISIBLE_DEVICES": "2"}, {0: "ROCR", 1: "ROCR", 2: "HIP"}),
        ({"ROCR_VISIBLE_DEVICES": "①"}, {0: "ROCR", 1: "ROCR", 2: "ROCR"}),
    ],
)
def test_hidden_boards(kfd, environment, hidden):
    expected = {BUSES[board]: f"{variable}_VISIBLE_DEVICES" for board, variable in hidden.items()}
    assert hidden_boards(str(kfd), environment) == expected


def test_without_the_kernels_topology_no_board_is_hidden(tmp_path):
    assert hidden_boards(str(tmp_path / "absent"), {"HIP_VISIBLE_DEVICES": "0"}) == {}


@pytest.mark.parametrize("text", ["", "simd_count\n", "simd_count x\n", "simd_count 1 2\n", "simd_count ٣\n", "\0"])
def test_a_damaged_node_is_no_board(kfd, text):
    (kfd / "1" / "properties").write_text(text)
    assert [bus for bus, _ in boards_in_order(str(kfd))] == list(BUSES[1:])


def test_a_run_leaves_out_the_hidden_board_and_says_so(kfd, amdsmi, monkeypatch):
    board = Board(150.0)
    other = replace(board, uuid="6aff74a1-0000-1000-8012-000000000002", bus="0000:43:00.0")
    amdsmi(board, other)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")  # 0000:03:00.0, the first of the library
    assert [c.id for c in select(fg.channels(), None)[0] if c.source == "amdsmi"] == ["amdsmi:0"]
    with fg.Monitor() as monitor:
        pass
    assert [n for n in monitor.result.notes if n.startswith("amdsmi:1 ")] == [
        f"amdsmi:1 ({other.name}) is hidden by HIP_VISIBLE_DEVICES and is not measured"
    ]
    with fg.Monitor("amdsmi:1") as monitor:
        pass
    assert any("is hidden by HIP_VISIBLE_DEVICES and is measured" in note for note in monitor.result.notes)


def test_hwmons_power_of_a_hidden_board_is_left_out_too(kfd, hwmon, monkeypatch):
    hwmon(chips.amdgpu(bus=BUSES[0]), chips.amdgpu(bus=BUSES[1]))
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0")
    visible = {c.bus: c.visible for c in fg.channels() if c.source == "hwmon"}
    assert visible == {BUSES[0]: True, BUSES[1]: False}


def test_the_power_of_a_chip_that_holds_the_cpu_is_never_hidden(kfd, hwmon, monkeypatch):
    hwmon(chips.apu(bus=BUSES[1]))
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "-1")
    assert [c.visible for c in fg.channels() if c.source == "hwmon"] == [True]
