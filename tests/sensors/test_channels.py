"""What exists, what it is called, what counts toward a total, why a channel cannot be read and what mends it."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import time

import pytest

import fastgreen as fg
from fastgreen.errors import ChannelNotFound, ChannelPermission, ChannelReadError
from fastgreen.sensors.catalog import discover, select
from fastgreen.sensors.channel import Seams
from tests.fakes.hwmon import Chip, amd_energy, amdgpu, i915, ina3221, power_meter, xe
from tests.fakes.permissions import without_dac_override
from tests.fakes.powercap import FAULTS, RANGE_15UJ, RANGE_61UJ, Zone
from tests.fakes.proc import ProcRoot


def by_id(**options) -> dict[str, fg.Channel]:
    return {c.id: c for c in fg.channels(**options)}


def roots(**options) -> set[str]:
    return {c.id for c in fg.channels(**options) if c.root}


def test_package_and_dram_count_while_core_uncore_psys_and_the_mmio_twin_do_not(powercap):
    inner = (Zone("core"), Zone("uncore"), Zone("dram"))
    powercap(
        Zone("package-0", counter_start_uj=1000, children=inner),
        Zone("psys", counter_start_uj=5000),
        Zone("package-0", counter_start_uj=1000, control="intel-rapl-mmio"),
    )
    found = by_id()
    assert {i for i, c in found.items() if c.source == "rapl"} == {
        "rapl:package-0",
        "rapl:package-0/core",
        "rapl:package-0/uncore",
        "rapl:package-0/dram",
        "rapl:psys",
        "rapl:package-0@mmio",
    }
    assert roots() == {"rapl:package-0", "rapl:package-0/dram"}
    assert found["rapl:package-0/dram"].parent == "rapl:package-0"
    assert "inside package-0" in found["rapl:package-0/core"].note


def test_every_die_of_every_package_counts(powercap):
    dies = [f"package-{p}-die-{d}" for p in range(2) for d in range(2)]
    powercap(*(Zone(die, counter_start_uj=10_000 * (n + 1)) for n, die in enumerate(dies)))
    assert roots() == {f"rapl:{die}" for die in dies}


def test_zone_ids_are_read_as_hexadecimal_and_listed_in_their_order(powercap):
    powercap(*(Zone(f"package-{n}", counter_start_uj=100 + n) for n in range(18)))
    found = [c for c in fg.channels() if c.source == "rapl"]
    assert [c.id for c in found] == [f"rapl:package-{n}" for n in range(18)]
    assert found[10].device == "intel-rapl:a"
    assert found[17].device == "intel-rapl:11"


def test_a_zone_that_mirrors_another_counts_once_with_its_children(powercap):
    powercap(
        Zone("package-0", counter_start_uj=777_000, children=(Zone("dram", counter_start_uj=333),)),
        Zone("package-1", mirror_of="intel-rapl:0", children=(Zone("dram", mirror_of="intel-rapl:0:0"),)),
    )
    assert roots() == {"rapl:package-0", "rapl:package-0/dram"}
    assert by_id()["rapl:package-1"].note == "mirrors rapl:package-0"


def test_a_moving_mirror_is_recognised(powercap):
    powercap(Zone("package-0", 80.0, 10**6), Zone("package-1", 80.0, mirror_of="intel-rapl:0"), move=True)
    assert roots() == {"rapl:package-0"}


def test_two_packages_that_have_counted_nothing_yet_are_no_mirrors(powercap):
    powercap(Zone("package-0"), Zone("package-1"))
    assert roots() == {"rapl:package-0", "rapl:package-1"}


def test_two_zones_of_one_name_keep_apart(powercap):
    powercap(Zone("package-0", counter_start_uj=11), Zone("package-0", counter_start_uj=99))
    ids = [c.id for c in fg.channels() if c.source == "rapl"]
    assert len(set(ids)) == 2


def test_only_psys_is_better_than_nothing(powercap):
    powercap(Zone("psys"))
    assert roots() == {"rapl:psys"}


@pytest.mark.parametrize(("range_uj", "unit"), [(RANGE_61UJ, 61), (RANGE_15UJ, 15)])
def test_the_counter_wraps_one_unit_past_its_range(powercap, range_uj, unit):
    powercap(Zone(range_uj=range_uj))
    channel = by_id()["rapl:package-0"]
    assert channel.wrap_j == pytest.approx((range_uj + unit) * 1e-6, rel=1e-12)
    assert channel.traits["modulus"] == range_uj + unit
    assert channel.unit == "uJ"


@pytest.mark.parametrize(
    "text", [None, "0", "hello", "", " ", "-1", "0x10", "9223372036854775807", "9" * 30, "9" * 400]
)
def test_a_missing_or_impossible_range_is_said_and_the_channel_still_read(powercap, text):
    tree = powercap(Zone(range_text="placeholder"))
    path = tree["package-0"].folder / "max_energy_range_uj"
    path.unlink() if text is None else path.write_text(f"{text}\n")
    channel = by_id()["rapl:package-0"]
    assert channel.readable
    assert channel.wrap_j is None
    assert "range is not known" in channel.note


@pytest.mark.parametrize("text", ["0", "-5", "9" * 19, "9" * 30, "9" * 400, "x", ""])
def test_a_limit_that_no_package_has_is_no_ceiling(powercap, text):
    tree = powercap()
    for path in tree["package-0"].folder.glob("constraint_*_*_uw"):
        path.write_text(f"{text}\n")
    assert by_id()["rapl:package-0"].ceiling_w is None
    with fg.Monitor(hz=1000) as monitor:
        time.sleep(0.01)
    assert 0 <= monitor.result.energy_low_j <= monitor.result.energy_high_j < math.inf


def test_a_current_that_flows_back_draws_nothing(hwmon, tmp_path):
    tree = hwmon(ina3221({"VDD": (5000, -10)}))
    with fg.Monitor("hwmon:*", hz=1000) as monitor, monitor.window("w"):
        time.sleep(0.01)
        tree.set(0, "curr1_input", 2000)
        time.sleep(0.01)
    monitor.result.save(tmp_path / "run")
    for result in (monitor.result, fg.load(tmp_path / "run")):
        for row in (*result.channels.to_pylist(), *result.windows().to_pylist(), *result.summary().to_pylist()):
            assert 0 <= row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]


def test_a_current_that_only_flows_back_is_zero_joules(hwmon):
    hwmon(ina3221({"VDD": (5000, -10)}))
    with fg.Monitor("hwmon:*", hz=1000) as monitor, monitor.window("w"):
        time.sleep(0.01)
    assert monitor.result.energy_j == 0.0
    assert monitor.result.windows()["energy_j"].to_pylist() == [0.0]


def test_an_unreadable_counter_is_listed_with_the_command_that_mends_it(powercap):
    tree = powercap()
    tree.break_file("package-0", "unreadable")
    with without_dac_override():
        channel = by_id()["rapl:package-0"]
    assert not channel.readable
    assert "permission denied" in channel.reason
    assert channel.remedy == f"sudo chmod a+r {os.path.realpath(tree['package-0'].energy)}"
    command = shlex.split(channel.remedy)
    subprocess.run(command[1:], check=True)
    with without_dac_override():
        assert by_id()["rapl:package-0"].readable


@pytest.mark.parametrize("fault", sorted({*FAULTS, "directory", "dangling", "loop", "missing"} - {"no-newline"}))
def test_a_spoilt_counter_file_is_listed_with_its_reason(powercap, fault):
    tree = powercap(Zone("package-0"), Zone("package-1", counter_start_uj=5))
    tree.break_file("package-0", fault)
    found = by_id()
    channel = found["rapl:package-0"]
    if fault in ("truncated", "negative"):  # an integer all the same: the sampler tells
        return
    assert not channel.readable
    assert channel.reason
    assert found["rapl:package-1"].readable
    with pytest.raises(ChannelReadError, match="package-0"):
        fg.Monitor("rapl:package-0")


def test_a_fifo_in_the_place_of_a_counter_does_not_hang(powercap, python):
    tree = powercap()
    path = tree["package-0"].energy
    path.unlink()
    os.mkfifo(path)
    done = python("import fastgreen as fg; print([c.readable for c in fg.channels()][0])")
    assert done.stdout.strip() == "False", done.stderr


def test_a_zone_that_may_not_be_listed_does_not_hide_the_others(powercap):
    tree = powercap(Zone("package-0"), Zone("package-1", counter_start_uj=5))
    tree["package-0"].folder.chmod(0)
    try:
        with without_dac_override():
            assert by_id()["rapl:package-1"].readable
    finally:
        tree["package-0"].folder.chmod(0o755)


def test_a_forbidden_powercap_root_is_not_taken_for_a_missing_one(tmp_path):
    root = tmp_path / "locked"
    root.mkdir(mode=0)
    with without_dac_override():
        state = next(s for s in discover(Seams.of(powercap_root=root))[1] if s.source == "rapl")
    assert "ermission" in state.reason
    assert "modprobe" not in (state.remedy or "")


def test_a_missing_tree_says_what_to_do(tmp_path):
    found, states = discover(Seams.of(powercap_root=tmp_path / "nowhere"))
    state = next(s for s in states if s.source == "rapl")
    assert state.found == 0
    assert "modprobe" in state.remedy
    assert [c.id for c in found if c.root] == ["procstat:cpu"]


def test_sgx_is_said_on_every_rapl_channel(powercap, proc):
    ProcRoot(proc.root, sgx=True)
    powercap(Zone("package-0"), Zone("psys"))
    assert all("SGX" in c.note for c in fg.channels() if c.source == "rapl")


def test_amd_zone_names_are_read_and_amd_energy_is_not_counted_beside_them(powercap, hwmon, proc):
    powercap(Zone("package-0", children=(Zone("core"),)))
    hwmon(amd_energy(cores=2, sockets=1))
    assert roots() == {"rapl:package-0"}
    assert "hwmon:amd_energy/Esocket0" in by_id()


def test_amd_energy_counts_where_rapl_cannot_be_read_and_no_estimate_stands_in(powercap, hwmon):
    powercap().break_file("package-0", "unreadable")
    hwmon(amd_energy(cores=2, sockets=2))
    with without_dac_override():
        found, _ = discover()
    chosen, unreadable = select(found, None)
    assert {c.id for c in chosen} == {"hwmon:amd_energy/Esocket0", "hwmon:amd_energy/Esocket1"}
    assert [c.id for c in unreadable] == ["rapl:package-0"]


def test_cores_of_amd_energy_lie_inside_their_socket(hwmon):
    hwmon(amd_energy(cores=3, sockets=1))
    assert roots() == {"hwmon:amd_energy/Esocket0"}


@pytest.mark.parametrize(
    ("chip", "root", "kind", "unit"),
    [
        (amdgpu(), "hwmon:amdgpu/PPT", "power", "uW"),
        (amdgpu(average_uw=1, input_uw=2), "hwmon:amdgpu/PPT", "power", "uW"),
        (i915(5), "hwmon:i915/energy1", "energy", "uJ"),
        (xe(5, 3), "hwmon:xe/card", "energy", "uJ"),
        (ina3221({"VDD_IN": (5000, 100), "VDD_CPU": (5000, 10)}), "hwmon:ina3221/VDD_IN", "power", "uW"),
    ],
)
def test_the_whole_device_counts_and_its_parts_do_not(hwmon, chip, root, kind, unit):
    hwmon(chip)
    found = [c for c in fg.channels() if c.source == "hwmon"]
    assert [c.id for c in found if c.root] == [root]
    assert (found[0].kind, found[0].unit) == (kind, unit)


def test_instant_power_is_preferred_to_the_average(hwmon):
    tree = hwmon(amdgpu(average_uw=1, input_uw=2))
    found = [c for c in fg.channels() if c.source == "hwmon"]
    assert [c.sensor["path"] for c in found] == [str(tree.path(0, "power1_input"))]


def test_a_power_supply_of_unknown_relation_never_counts(hwmon):
    hwmon(power_meter())
    assert "hwmon:power_meter/power1" not in roots()


def test_equal_labels_and_equal_drivers_give_different_ids(hwmon):
    rail = {f"in{n}_label": "NC" for n in (1, 2)} | {f"in{n}_input": 5000 for n in (1, 2)}
    chip = Chip("ina3221", rail | {"curr1_input": 100, "curr2_input": 300})
    hwmon(chip, Chip("ina3221", chip.files, "platform/other"), amdgpu(), amdgpu(bus="0000:04:00.0"))
    ids = [c.id for c in fg.channels()]
    assert len(set(ids)) == len(ids) == 7


def test_both_radeons_count(hwmon):
    hwmon(amdgpu(), amdgpu(bus="0000:04:00.0"))
    assert {c for c in roots() if "amdgpu" in c} == {"hwmon:amdgpu/PPT", "hwmon:amdgpu@hwmon1/PPT"}


def test_an_hwmon_folder_that_may_not_be_listed_does_not_hide_the_others(hwmon):
    tree = hwmon(amdgpu(), i915())
    folder = tree.path(0, "name").parent.resolve()
    folder.chmod(0o100)
    try:
        with without_dac_override():
            assert "hwmon:i915/energy1" in by_id()
    finally:
        folder.chmod(0o755)


def test_the_estimate_is_marked_says_its_coefficients_and_stands_in_only_where_nothing_is_measured(powercap):
    alone = by_id()["procstat:cpu"]
    assert alone.estimated
    assert alone.root
    assert "1.48 W idle to 7 W busy" in alone.note
    given = by_id(estimate=(10.0, 50.0))["procstat:cpu"]
    assert (given.floor_w, given.ceiling_w) == (10.0, 50.0)
    powercap()
    assert not by_id()["procstat:cpu"].root


@pytest.mark.parametrize("bad", [(5.0, 1.0), (-1.0, 5.0), (0.0, float("inf")), (float("nan"), 5.0), (1.0,), 5.0, "ab"])
def test_a_bad_estimate_is_a_value_error_that_names_it(bad):
    with pytest.raises(ValueError, match="estimate"):
        fg.channels(estimate=bad)


def test_an_unknown_channel_suggests_the_nearest(powercap):
    powercap()
    with pytest.raises(ChannelNotFound, match=r"Did you mean 'rapl:package-0'\?") as raised:
        fg.Monitor("rapl:pakage-0")
    assert isinstance(raised.value, LookupError)
    with pytest.raises(ChannelNotFound, match="This machine has"):
        fg.Monitor(["rapl:package-0", "zzzzzzz"])


def test_patterns_choose_what_is_readable_and_an_id_asked_for_must_be(powercap):
    tree = powercap(Zone("package-0"), Zone("package-1", counter_start_uj=5))
    tree.break_file("package-1", "unreadable")
    with without_dac_override():
        assert [c.id for c in fg.Monitor("rapl:*").channels] == ["rapl:package-0"]
        with pytest.raises(ChannelPermission, match="chmod") as raised:
            fg.Monitor("rapl:package-1")
        with pytest.warns(fg.errors.FastgreenWarning, match="package-1.*chmod"):
            monitor = fg.Monitor()
    assert isinstance(raised.value, PermissionError)
    assert [c.id for c in monitor.channels] == ["rapl:package-0"]


def test_an_id_with_brackets_can_be_asked_for_by_name(hwmon):
    hwmon(Chip("power_meter", {"power1_input": 5, "power1_label": "PSU [left]"}))
    assert [c.id for c in fg.Monitor("hwmon:power_meter/PSU [left]").channels] == ["hwmon:power_meter/PSU [left]"]


@pytest.mark.parametrize("bad", [[1], [None], b"rapl:*", 5])
def test_channels_that_are_no_names_are_refused_by_name(bad):
    with pytest.raises((TypeError, ValueError), match="channels"):
        fg.Monitor(bad)


def test_seams_are_keywords_and_an_unknown_one_is_refused(powercap, tmp_path):
    tree = powercap()
    assert "rapl:package-0" in {c.id for c in fg.channels(powercap_root=tree.root)}
    assert "rapl:package-0" not in {c.id for c in fg.channels(powercap_root=tmp_path)}
    with pytest.raises(TypeError, match="powercap_rot"):
        fg.Monitor(powercap_rot="x")
