"""gpu, cpu and dram as plain words for channels, on machines of every kind."""

from __future__ import annotations

import pytest

import fastgreen as fg
from fastgreen.sensors.catalog import discover, select
from tests.fakes.amdsmi import Board
from tests.fakes.hwmon import amd_energy, amdgpu, i915
from tests.fakes.permissions import without_dac_override
from tests.fakes.powercap import Zone

SERVER = (
    Zone("package-0", children=(Zone("core"), Zone("dram"))),
    Zone("package-1", children=(Zone("core"), Zone("dram"))),
    Zone("psys"),
)


def chosen(*words: str) -> set[str]:
    return {c.id for c in select(discover()[0], words)[0]}


def test_cpu_is_the_packages_and_dram_the_memory_inside_them(powercap):
    powercap(*SERVER)
    assert chosen("cpu") == {"rapl:package-0", "rapl:package-1"}
    assert chosen("dram") == {"rapl:package-0/dram", "rapl:package-1/dram"}
    assert chosen("cpu", "dram") == chosen("cpu") | chosen("dram")
    assert chosen("dram", "rapl:*/core") == chosen("dram") | {"rapl:package-0/core", "rapl:package-1/core"}


def test_cpu_is_the_estimate_where_no_package_can_be_read(powercap):
    assert chosen("cpu") == {"procstat:cpu"}
    powercap().break_file("package-0", "unreadable")
    with without_dac_override():
        assert chosen("cpu") == {"procstat:cpu"}


def test_cpu_is_the_sockets_of_amd_energy_without_rapl(hwmon):
    hwmon(amd_energy(cores=2, sockets=2))
    assert chosen("cpu") == {"hwmon:amd_energy/Esocket0", "hwmon:amd_energy/Esocket1"}


def test_gpu_is_every_board_of_whatever_source(hwmon, nvml):
    nvml()
    hwmon(amdgpu(), i915(5), amd_energy(cores=2, sockets=1))
    assert chosen("gpu") == {"nvml:0", "hwmon:amdgpu/PPT", "hwmon:i915/energy1"}


def test_gpu_is_the_counter_of_an_amd_board_and_not_its_power_as_well(hwmon, amdsmi):
    amdsmi(Board())
    hwmon(amdgpu(), amdgpu(bus="0000:83:00.0"))
    assert chosen("gpu") == {"amdsmi:0", "hwmon:amdgpu@hwmon1/PPT"}


def test_gpu_leaves_out_the_boards_that_cuda_does_not_see(nvml, monkeypatch):
    nvml()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(fg.errors.ChannelNotFound, match="no channel matches 'gpu'"):
        chosen("gpu")
    assert chosen("nvml:0") == {"nvml:0"}


@pytest.mark.parametrize("word", ["gpu", "dram"])
def test_a_word_that_matches_nothing_says_what_this_machine_has(word):
    with pytest.raises(fg.errors.ChannelNotFound) as caught:
        fg.Monitor(channels=word)
    assert str(caught.value) == f"no channel matches {word!r}. This machine has: procstat:cpu"


def test_memory_that_cannot_be_read_is_refused_with_its_reason(powercap):
    tree = powercap(*SERVER)
    for zone in ("package-0/dram", "package-1/dram"):
        tree.break_file(zone, "unreadable")
    with without_dac_override(), pytest.raises(fg.errors.ChannelPermission, match="package-0/dram"):
        chosen("dram")


def test_a_monitor_takes_words_and_suggests_one_for_a_slip(powercap):
    powercap(*SERVER)
    assert {c.id for c in fg.Monitor("cpu").channels} == {"rapl:package-0", "rapl:package-1"}
    with pytest.raises(fg.errors.ChannelNotFound, match=r"Did you mean 'dram'\?"):
        fg.Monitor(["drma"])
