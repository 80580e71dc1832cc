# SPDX-License-Identifier: Apache-2.0
"""Meters, zones, batteries and rails as they are found on machines, and as no machine should show them."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

import fastgreen as fg
from fastgreen.measuring.rates import DEFAULT_HZ, LONGEST_UNREAD_S
from fastgreen.sensors import acpi_meters
from tests.fakes.hwmon import (
    Chip,
    HwmonTree,
    acpi_meter,
    altra,
    amd_hsmp,
    amdgpu,
    apm_xgene,
    apu,
    i915,
    ina238,
    ina3221,
    xe,
)
from tests.fakes.permissions import without_dac_override
from tests.fakes.power_supply import laptop, supply
from tests.fakes.power_zones import power_zones


def by_id(**seams) -> dict[str, fg.Channel]:
    return {c.id: c for c in fg.channels(**seams)}


def roots() -> set[str]:
    return {c.id for c in fg.channels() if c.root}


def mean_w(identity: str, **options) -> float:
    with fg.Monitor(identity, hz=200, **options) as monitor:
        time.sleep(0.03)
    (row,) = monitor.result.channels.to_pylist()
    assert row["counted"]
    return row["mean_power_w"]


# ---- ACPI meters ----


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Grace Power Socket 0", "grace-total"),
        ("grace power socket 1", "grace-total"),
        ("Total Power socket 0", "grace-total"),
        ("Total Power in uW socket 0", "grace-total"),
        ("Total Input Power in uW socket 1", "grace-total"),
        ("CPU Power Socket 1", "grace-cpu-part"),
        ("CPU Rail Power in uW socket 0", "grace-cpu-part"),
        ("CPU Rail Input Power in uW socket 0", "grace-cpu-part"),
        ("SysIO Power Socket 0", "grace-part"),
        ("SoC Rail Input Power in uW socket 0", "grace-part"),
        ("SOC Rail Power in uW socket 1", "grace-part"),
        ("DRAM Power socket 0", "grace-part"),
        ("DRAM Input Power in uW socket 1", "grace-part"),
        ("Module Power Socket 3", "grace-module"),
        ("Module Socket A", "grace-module"),
        ("Total CPU Energy In uJ socket 0", "grace-counter"),
        ("CPU Rail Output Power in uW socket 0", ""),
        ("Total Output Power in uW socket 0", ""),
        ("Chipthrot DDR Throttle (samples x1000) socket 0", ""),
        ("", "chassis"),
        ("power1", "chassis"),
        ("Chassis", "chassis"),
        ("サーバー全体", "chassis"),
        ("Puissance totale", "chassis"),
    ],
)
def test_a_meter_is_known_by_its_name(name, role):
    assert acpi_meters.meaning(name).role == role


def test_an_attribute_in_both_folders_is_taken_once(hwmon):
    tree = hwmon(acpi_meter("Grace Power Socket 0", 150_000_000))
    for file in ("power1_average", "power1_oem_info"):
        tree.path(0, file).symlink_to(os.path.join("device", file))
    assert [i for i in by_id() if i.startswith("hwmon:")] == ["hwmon:power_meter/Grace Power Socket 0"]


def test_two_chips_of_one_device_show_its_attributes_once(hwmon):
    meter = acpi_meter("Grace Power Socket 0", 150_000_000)
    tree = hwmon(meter, amdgpu())
    (tree.path(1, "device")).unlink()
    tree.path(1, "device").symlink_to(tree.path(0, "device").resolve())
    assert sorted(i for i in by_id() if i.startswith("hwmon:")) == [
        "hwmon:amdgpu/PPT",
        "hwmon:power_meter/Grace Power Socket 0",
    ]


def test_a_second_total_of_one_socket_is_listed_and_not_added(hwmon):
    hwmon(acpi_meter("Grace Power Socket 0", 150, 0), acpi_meter("Total Power in uW socket 0", 150, 1))
    assert roots() == {"hwmon:power_meter/Grace Power Socket 0"}
    second = by_id()["hwmon:power_meter@hwmon1/Total Power in uW socket 0"]
    assert "repeats that of hwmon:power_meter/Grace Power Socket 0" in second.note


def test_a_total_that_cannot_be_read_lets_the_next_one_count(hwmon):
    tree = hwmon(acpi_meter("Grace Power Socket 0", 150, 0), acpi_meter("CPU Power Socket 0", 120, 1))
    (tree.path(0, "device") / "power1_average").chmod(0)
    with without_dac_override():
        found = by_id()
    assert {i for i, c in found.items() if c.root and c.readable} == {"hwmon:power_meter@hwmon1/CPU Power Socket 0"}
    assert not found["procstat:cpu"].root


def test_what_is_not_power_is_listed_with_the_reason_and_not_read(hwmon):
    hwmon(acpi_meter("CPU Rail Output Power in uW socket 0", 150))
    channel = by_id()["hwmon:power_meter/CPU Rail Output Power in uW socket 0"]
    assert (channel.readable, channel.root, channel.reason) == (False, False, "it shows no power in use")


def test_a_counter_in_a_file_of_power_counts_joules(hwmon):
    tree = hwmon(acpi_meter("Total CPU Energy In uJ socket 0", 1 << 40, at_device=False))
    channel = by_id()["hwmon:power_meter/Total CPU Energy In uJ socket 0"]
    assert (channel.kind, channel.unit, channel.root) == ("energy", "uJ", True)
    with fg.Monitor() as monitor:
        tree.set(0, "power1_average", (1 << 40) + 123_456)
    assert monitor.result.energy_j == 0.123456


@pytest.mark.parametrize(
    ("interval", "said"), [("50", True), ("0", False), ("-5", False), ("x", False), ("9" * 25, False)]
)
def test_the_length_of_a_mean_is_said_where_it_is_one(hwmon, interval, said):
    tree = hwmon(acpi_meter("Grace Power Socket 0", 1, at_device=False))
    tree.set(0, "power1_average_interval", interval)
    note = by_id()["hwmon:power_meter/Grace Power Socket 0"].note or ""
    assert ("the mean of" in note) == said


# ---- labels ----


@pytest.mark.parametrize(
    ("chip", "identity"),
    [
        (Chip("amdgpu", {"power1_input": 5, "power1_label": "Leistung"}), "hwmon:amdgpu/Leistung"),
        (Chip("amdgpu", {"power1_input": 5, "power1_label": ""}), "hwmon:amdgpu/power1"),
        (Chip("amdgpu", {"power1_input": 5, "power1_label": "  "}), "hwmon:amdgpu/power1"),
        (Chip("amd_hsmp_hwmon", {"power1_input": 5, "power1_label": "pinput"}), "hwmon:amd_hsmp_hwmon/pinput"),
        (Chip("xe", {"energy1_input": 5, "energy1_label": "卡"}), "hwmon:xe/卡"),
        (Chip("apm_xgene", {"power1_input": 5, "power1_label": "ЦП"}), "hwmon:apm_xgene/ЦП"),
    ],
)
def test_a_label_in_any_language_counts_by_its_attribute(hwmon, chip, identity):
    hwmon(chip)
    assert identity in roots()


def test_one_label_on_two_sensors_of_a_chip_counts_once(hwmon):
    hwmon(Chip("amdgpu", {"power1_input": 5, "power2_input": 7, "power1_label": "PPT", "power2_label": "PPT"}))
    assert {i for i in roots() if i.startswith("hwmon")} == {"hwmon:amdgpu/PPT"}
    assert "repeats that of hwmon:amdgpu/PPT" in by_id()["hwmon:amdgpu/PPT#power2"].note


def test_two_inputs_of_the_module_count_once(hwmon):
    hwmon(ina3221({"VDD_IN": (5000, 100)}), ina238(19000, 100, "VIN"))
    assert roots() == {"hwmon:ina3221/VDD_IN"}


def test_rails_without_names_are_listed_and_not_added(hwmon):
    names = {f"in{n}_label": "" for n in (1, 2)} | {f"in{n}_input": 5000 for n in (1, 2)}
    hwmon(Chip("ina3221", names | {"curr1_input": 100, "curr2_input": 200}))
    found = by_id()
    assert {"hwmon:ina3221/in1", "hwmon:ina3221/in2"} <= set(found)
    assert roots() == {"procstat:cpu"}
    assert "unless its id is given" in found["hwmon:ina3221/in1"].note


# ---- which voltage goes with which current ----

VOLTS = {f"in{n}_input": 1000 * (n + 1) for n in range(4)}


@pytest.mark.parametrize(
    ("driver", "currents", "watts"),
    [
        ("ina219", 1, {"in1": 2.0}),
        ("ina226", 1, {"in1": 2.0}),
        ("ina238", 1, {"in1": 2.0}),
        ("ina3221", 3, {"in1": 2.0, "in2": 3.0, "in3": 4.0}),
        ("ltc2992", 2, {"in0": 1.0, "in2": 3.0}),
        ("max20730", 1, {"in2": 3.0}),
    ],
)
def test_a_current_is_multiplied_by_the_voltage_of_its_own_rail(hwmon, driver, currents, watts):
    hwmon(Chip(driver, VOLTS | {f"curr{n}_input": 1000 for n in range(1, currents + 1)}))
    assert {i.rpartition("/")[2] for i in by_id() if i.startswith("hwmon:")} == set(watts)
    for label, power_w in watts.items():
        assert mean_w(f"hwmon:{driver}/{label}") == pytest.approx(power_w, abs=1e-9)


def test_a_chip_that_multiplies_by_itself_is_read_once(hwmon):
    hwmon(ina238(19000, 1000))
    assert [i for i in by_id() if i.startswith("hwmon:")] == ["hwmon:ina238/power1"]


@pytest.mark.parametrize("number", ["1", "4", "99", "0"])
def test_a_current_without_its_voltage_is_not_multiplied(hwmon, number):
    hwmon(Chip("ina3221", {f"curr{number}_input": 100, "in7_input": 5}))
    assert not [c for c in fg.channels() if c.source == "hwmon"]


def test_a_chip_whose_pairs_are_not_known_is_listed_with_the_reason(hwmon):
    hwmon(Chip("ucsi_source_psy", VOLTS | {"curr1_input": 3000, "curr1_label": "USB-C"}))
    channel = by_id()["hwmon:ucsi_source_psy/USB-C"]
    assert (channel.readable, channel.root) == (False, False)
    assert "the voltage of curr1_input is not known for the chip ucsi_source_psy" in channel.reason
    with pytest.raises(fg.errors.ChannelReadError, match="no power can be computed"):
        fg.Monitor("hwmon:ucsi_source_psy/USB-C")


# ---- zones of power ----


@pytest.fixture
def zones(tmp_path, monkeypatch):
    def make(listed: dict[str, tuple[str, int]]) -> Path:
        root = power_zones(tmp_path / "zones", listed)
        monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(root))
        return root

    return make


def test_zones_count_at_their_top_and_dtpm_is_an_estimate_that_never_counts(zones):
    zones({"arm-scmi:0": ("soc", 5), "arm-scmi:0:0": ("big", 3), "dtpm:0": ("soc", 7), "dtpm:0:0": ("cpu0", 2)})
    found = by_id()
    assert roots() == {"scmi:soc"}
    assert found["scmi:soc/big"].parent == "scmi:soc"
    assert [found[i].estimated for i in ("dtpm:soc", "dtpm:soc/cpu0")] == [True, True]
    assert "computed by the kernel" in found["dtpm:soc"].note
    assert mean_w("scmi:soc") == pytest.approx(5e-6)


def test_an_estimate_by_the_kernel_can_be_asked_for_saved_and_is_marked(zones, tmp_path):
    zones({"dtpm:0": ("soc", 7_000_000)})
    with fg.Monitor("dtpm:soc", record=tmp_path / "run") as monitor:
        time.sleep(0.25)
    assert monitor.result.estimated
    assert monitor.result.mean_power_w == pytest.approx(7.0)
    assert fg.load(tmp_path / "run").energy_j == monitor.result.energy_j


def test_below_a_zone_that_cannot_be_read_the_children_count(zones):
    root = zones({"arm-scmi:0": ("soc", 5), "arm-scmi:0:0": ("cpus", 3), "arm-scmi:0:1": ("gpu", 1)})
    (root / "arm-scmi:0" / "power_uw").write_text("\n")
    found = by_id()
    assert {i for i, c in found.items() if c.root and c.readable} == {"scmi:soc/cpus", "scmi:soc/gpu"}
    assert "cannot be read" in found["scmi:soc/gpu"].note


def test_a_zone_that_is_not_the_cpu_leaves_the_estimate_its_place(zones):
    zones({"arm-scmi:0": ("gpu", 5_000_000)})
    assert roots() == {"scmi:gpu", "procstat:cpu"}


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "9" * 30])
def test_a_limit_that_no_zone_has_is_no_ceiling(zones, text):
    root = zones({"arm-scmi:0": ("soc", 5)})
    (root / "arm-scmi:0" / "max_power_range_uw").write_text(f"{text}\n")
    assert by_id()["scmi:soc"].ceiling_w is None


def test_zones_of_one_name_keep_apart(zones):
    zones({"arm-scmi:0": ("soc", 5), "arm-scmi:1": ("soc", 6)})
    assert roots() == {"scmi:soc", "scmi:soc#1"}


# ---- batteries ----


@pytest.fixture
def supplies(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "power_supply"
    root.mkdir()
    monkeypatch.setenv("FASTGREEN_POWER_SUPPLY_ROOT", str(root))
    return root


def test_a_battery_is_listed_and_counts_only_alone(supplies, hwmon):
    laptop(supplies, power_uw=8_000_000)
    hwmon(amdgpu(input_uw=5_000_000))
    found = by_id()
    assert not found["battery:BAT0"].root
    assert found["battery:BAT0"].name == "L20M4PC2"
    assert [i for i in found if i.startswith("battery:")] == ["battery:BAT0"]
    assert mean_w("battery:BAT0") == pytest.approx(8.0)
    with fg.Monitor(["battery:BAT0", "hwmon:amdgpu/PPT"], hz=100) as monitor:
        time.sleep(0.05)
    counted = {row["id"]: row["counted"] for row in monitor.result.channels.to_pylist()}
    assert counted == {"battery:BAT0": False, "hwmon:amdgpu/PPT": True}


@pytest.mark.parametrize(
    ("current_ua", "voltage_uv", "power_w"),
    [
        (1_500_000, 12_000_000, 18.0),
        (-1_500_000, 12_000_000, 18.0),
        (0, 12_000_000, 0.0),
        (9_000_000, 60_000_000, 540.0),
    ],
)
def test_current_times_voltage_is_power_whatever_the_sign(supplies, current_ua, voltage_uv, power_w):
    supply(supplies, "BAT1", current_now=current_ua, voltage_now=voltage_uv)
    assert mean_w("battery:BAT1") == pytest.approx(power_w, rel=1e-12)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", ""])
def test_a_battery_that_is_plugged_in_in_mid_run_counts_no_discharge(supplies, status, tmp_path):
    laptop(supplies, power_uw=8_000_000)
    with fg.Monitor("battery:BAT0", hz=100, record=tmp_path / "run") as monitor:
        time.sleep(0.3)
        plugged_in_s = time.monotonic()
        (supplies / "BAT0" / "status").write_text(f"{status}\n")
        (supplies / "BAT0" / "power_now").write_text("45000000\n")  # what flows into it
        time.sleep(0.6)
        (supplies / "BAT0" / "power_now").write_text("8000000\n")
        (supplies / "BAT0" / "status").write_text("Discharging\n")
        plugged_s = time.monotonic() - plugged_in_s  # a busy machine sleeps longer
        time.sleep(0.3)
    result = monitor.result
    for seen in (result, fg.load(tmp_path / "run")):
        assert seen.energy_j == pytest.approx(8.0 * (result.duration_s - plugged_s), abs=0.6)
        assert seen.energy_low_j <= seen.energy_j
        assert seen.energy_high_j >= 8.0 * result.duration_s - 0.6  # the machine went on at 8 W or more
        assert "battery:BAT0 did not discharge for 0." in " ".join(seen.notes)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown", ""])
def test_a_battery_that_does_not_discharge_is_not_read(supplies, status):
    laptop(supplies, status=status)
    channel = by_id()["battery:BAT0"]
    assert not channel.readable
    assert "only while it discharges" in channel.reason
    assert channel.remedy == "unplug the charger"


@pytest.mark.parametrize("missing", ["power_now", "status", "model_name", "type"])
def test_a_battery_without_a_file_is_listed_all_the_same(supplies, missing):
    laptop(supplies)
    (supplies / "BAT0" / missing).unlink()
    found = by_id()
    assert ("battery:BAT0" in found) == (missing != "type")
    if missing == "power_now":
        assert "No such file" in found["battery:BAT0"].reason
    elif missing != "type":
        assert found["battery:BAT0"].readable


def test_a_batterys_second_face_in_hwmon_is_not_listed_again(supplies, hwmon):
    laptop(supplies)
    tree = hwmon(Chip("BAT0", {"in0_input": 12000, "curr1_input": 700, "power1_input": 8_000_000}))
    tree.path(0, "device").unlink()
    tree.path(0, "device").symlink_to(supplies / "BAT0")
    assert [c.id for c in fg.channels() if c.source in ("hwmon", "battery")] == ["battery:BAT0"]


# ---- kept polled ----


@pytest.mark.parametrize(("chip", "identity"), [(xe(1, 1), "hwmon:xe/card"), (i915(1), "hwmon:i915/energy1")])
def test_a_register_that_counts_only_when_read_is_read_once_a_minute(hwmon, chip, identity):
    hwmon(chip)
    assert DEFAULT_HZ["hwmon"] * LONGEST_UNREAD_S >= 1
    fg.Monitor(identity, hz=1 / 59)
    with pytest.raises(ValueError, match="its driver must be read once every 60 s"):
        fg.Monitor(identity, hz=1 / 61)


# ---- what vanishes, what is damaged ----

CHIPS = [
    lambda: apu(),
    lambda: acpi_meter("Grace Power Socket 0", 5),
    lambda: acpi_meter("Total CPU Energy In uJ socket 0", 5, at_device=False),
    lambda: altra(3),
    lambda: apm_xgene(5, 6),
    lambda: amd_hsmp(5),
    lambda: ina238(5000, 100, "VIN"),
    lambda: ina3221({"VDD_GPU_SOC": (5, 5), "VDD_CPU_CV": (5, 5), "VIN_SYS_5V0": (5, 5)}),
    lambda: xe(5, 4),
]
TEXTS = ["", "\n", "x", "-7", "9" * 40, "1 2", "\0\xff"]


def test_whatever_a_file_holds_or_lacks_the_rest_is_found_and_measured(hwmon, monkeypatch, tmp_path):
    rng = random.Random(5)
    for n in range(40):
        made = [rng.choice(CHIPS)() for _ in range(3)]
        made = [Chip(c.name, c.files, f"{c.device}.{i}", c.at_device) for i, c in enumerate(made)]
        root = tmp_path / f"machine{n}"
        tree = HwmonTree(root, made)
        files = sorted(p for p in (root / "devices").rglob("*") if p.is_file())
        for path in rng.sample(files, k=min(3, len(files))):
            if rng.random() < 0.4:
                path.unlink()
            else:
                path.write_text(rng.choice(TEXTS), encoding="latin-1")
        monkeypatch.setenv("FASTGREEN_HWMON_ROOT", str(tree.root))
        found = fg.channels()
        assert len({c.id for c in found}) == len(found)
        assert all(c.reason for c in found if not c.readable)
        assert any(c.root and c.readable for c in found)
        with fg.Monitor([c.id for c in found if c.readable], hz=500) as monitor:
            time.sleep(0.005)
        assert 0 <= monitor.result.energy_low_j <= monitor.result.energy_high_j


@pytest.mark.filterwarnings("ignore:.*gave no reading in the last")
def test_a_meter_that_vanishes_in_mid_run_leaves_the_others(hwmon):
    tree = hwmon(apm_xgene(30_000_000, 10_000_000))
    with fg.Monitor(hz=200) as monitor:
        time.sleep(0.03)
        tree.set(0, "power2_input", "")
        time.sleep(0.05)
    rows = {row["id"]: row for row in monitor.result.channels.to_pylist()}
    assert rows["hwmon:apm_xgene/CPU power"]["read_errors"] == 0
    assert rows["hwmon:apm_xgene/IO power"]["read_errors"] > 0
    assert rows["hwmon:apm_xgene/CPU power"]["mean_power_w"] == pytest.approx(30.0)
