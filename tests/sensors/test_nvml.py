"""NVIDIA boards measured through the library: quantities, failures of every kind, lost boards, a driver loaded anew."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenWarning
from tests.fakes.nvml import FakeNvml, Gpu, Rule, Sensor, gpu_is_lost
from tests.fakes.powercap import Zone
from tests.fakes.wave import Sine, Square, Steps, Updates

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
FAST = Updates(0.01)
BOARD = Gpu(150.0, energy_updates=FAST, instant=Sensor(FAST), average=Sensor(FAST, 0.1), usage=Sensor(FAST, 0.1))
CODES = (1, 2, 3, 4, 6, 9, 12, 13, 15, 16, 18, 27, 999)
ENDS = (15, 16)  # GPU_IS_LOST, RESET_REQUIRED: for good
UNSUPPORTED = (3, 13)


def rows(monitor: fg.Monitor) -> dict[str, dict]:
    return {row["id"]: row for row in monitor.result.channels.to_pylist()}


def span_s(monitor: fg.Monitor, identity: str) -> float:
    """From the channel's own first reading to its last."""
    tally = monitor.result.trace(identity).tally
    return (tally["end_at_ns"] - tally["first_at_ns"]) * 1e-9


def holds(fake: FakeNvml, monitor: fg.Monitor, identity: str, device: int = 0, slack: float = 0.0) -> bool:
    """Whether the true energy lies within the channel's bounds."""
    tally = monitor.result.trace(identity).tally
    total = monitor.result.totals[identity]
    true_j = fake.energy_j(device, tally["first_at_ns"], tally["end_at_ns"])
    return total.low_j * (1 - slack) <= true_j <= total.high_j * (1 + slack)


@pytest.mark.parametrize("power", [120.0, Sine(150.0, 100.0, 0.3), Square(60.0, 300.0, 0.25)])
@pytest.mark.parametrize("updates", [Updates(0.02), Updates(0.1, jitter=0.02)], ids=["20ms", "100ms"])
def test_a_counter_holds_the_true_energy(nvml, power, updates):
    fake = nvml(replace(BOARD, power=power, energy_updates=updates))
    with fg.Monitor("nvml:0", settle=True) as monitor:
        time.sleep(0.5)
    assert holds(fake, monitor, "nvml:0")
    assert rows(monitor)["nvml:0"]["method"] == "counter"


def test_power_beside_the_counter_is_sampled_and_not_counted_twice(nvml):
    fake = nvml(BOARD)
    with fg.Monitor(hz=200) as monitor:
        time.sleep(0.4)
    found = rows(monitor)
    assert found["nvml:0"]["counted"]
    assert not found["nvml:0/power"]["counted"]
    assert found["nvml:0/power"]["energy_j"] == pytest.approx(150.0 * span_s(monitor, "nvml:0/power"), rel=1e-6)
    total_j = sum(row["energy_j"] for row in found.values() if row["counted"])
    assert monitor.result.energy_j == pytest.approx(total_j)
    assert holds(fake, monitor, "nvml:0")


def test_a_sampler_asks_for_energy_and_power_and_for_nothing_else(nvml):
    """Process lists, fans and memory take the driver's lock for long, and the user's work waits for it."""
    fake = nvml(Gpu(100.0), Gpu(50.0))
    monitor = fg.Monitor("nvml:*", hz=200).start()
    before = fake.calls()
    while fake.calls()[ENERGY] < before[ENERGY] + 20:
        time.sleep(0.01)
    after = fake.calls()
    monitor.stop()
    assert {name for name in after if after[name] != before.get(name)} == {
        "*",
        ENERGY,
        "nvmlDeviceGetFieldValues",
        "field:186",
    }


@pytest.mark.parametrize("failing", [(), ("field:186",), ("field:186", "field:185")])
def test_power_without_a_counter_is_integrated_from_the_best_quantity(nvml, soon, failing):
    fake = nvml(BOARD, rules=[Rule(ENERGY, code=3), *(Rule(name, code=3) for name in failing)])
    asked = {0: "field:186", 1: "field:185", 2: "nvmlDeviceGetPowerUsage"}[len(failing)]
    with fg.Monitor(hz=100) as monitor:
        soon(lambda: fake.calls().get(asked, 0) > 20)
    row = rows(monitor)["nvml:0"]
    assert row["counted"]
    assert row["method"] == "trapezoid"
    assert row["energy_j"] == pytest.approx(150.0 * span_s(monitor, "nvml:0"), rel=1e-6)
    meaning = ("instant power", "average power", "power usage")[len(failing)]
    assert row["note"].startswith(meaning)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("times", [1, 3])
def test_a_failure_that_passes_is_counted_and_leaves_no_hole_in_the_energy(nvml, soon, code, times):
    fake = nvml(BOARD)
    monitor = fg.Monitor("nvml:0", hz=200)
    first = fake.calls()[ENERGY] + 10
    fake.write(rules=[Rule(ENERGY, code=code, first=first, last=first + times - 1)])
    with monitor:
        sampler = monitor._groups[0].sampler
        soon(lambda: fake.calls()[ENERGY] > first + times + 10 or sampler.live(0)["ended"])
    row = rows(monitor)["nvml:0"]
    assert holds(fake, monitor, "nvml:0")
    if code in ENDS or (code in UNSUPPORTED and times == 3):
        assert row["status"] != "ok"
        assert f"NVML {code}" in row["status"]
        return
    # 1, UNINITIALIZED, is answered by initialising again and asking once more
    assert row["read_errors"] == (times // 2 if code == 1 else times)
    assert row["status"] == "ok"
    assert row["samples"] > 15
    flags = [flag & 1 for flag in monitor.result.samples("nvml:0")["flags"].to_pylist()]
    assert sum(flags) == (row["read_errors"] > 0)


@pytest.mark.filterwarnings("ignore:nvml.0 gave no reading")
@pytest.mark.parametrize("code", CODES)
def test_a_failure_that_stays_ends_in_counts_or_in_a_reason_and_spares_the_other_board(nvml, soon, code):
    fake = nvml(BOARD, BOARD)
    with fg.Monitor(["nvml:0", "nvml:1"], hz=200) as monitor:
        sampler = monitor._groups[0].sampler
        soon(lambda: sampler.live(1)["samples"] > 5)
        fake.write(rules=[Rule(ENERGY, code=code, device=0)])
        soon(lambda: sampler.live(0)["read_errors"] >= 1)
        seen = sampler.live(1)["samples"]
        soon(lambda: sampler.live(1)["samples"] > seen + 20)
    found = rows(monitor)
    ended = code in ENDS or code in UNSUPPORTED
    assert (found["nvml:0"]["status"] != "ok") == ended
    assert found["nvml:0"]["read_errors"] >= (3 if code in UNSUPPORTED else 1 if ended else 15)
    assert found["nvml:1"]["status"] == "ok"
    assert found["nvml:1"]["read_errors"] == 0
    assert holds(fake, monitor, "nvml:1", 1)
    if ended:
        assert any("nvml:0 ended early: GPU-" in n and f"NVML {code}" in n for n in monitor.result.notes)
    assert "failed" in str(monitor.result)


def test_a_board_lost_while_running_keeps_what_it_had_and_the_rest_goes_on(nvml, soon):
    fake = nvml(*[replace(BOARD, power=100.0 + n) for n in range(8)])
    with fg.Monitor(hz=100) as monitor:
        sampler = monitor._groups[[c.id for c in monitor.channels].index("nvml:0")].sampler
        soon(lambda: monitor.energy_j()["nvml:5"] > 20)
        had_j = monitor.energy_j()["nvml:5"]
        fake.write(rules=[gpu_is_lost(5)])
        lost_ns = time.monotonic_ns()
        seen = sampler.live(0)["samples"]
        soon(lambda: sampler.live(0)["samples"] > seen + 20)
    found = rows(monitor)
    assert len([row for row in found.values() if row["counted"] and not row["estimated"]]) == 8
    assert "lost" in found["nvml:5"]["status"].lower()
    assert had_j <= found["nvml:5"]["energy_j"]
    assert monitor.result.trace("nvml:5").tally["end_at_ns"] <= lost_ns
    assert holds(fake, monitor, "nvml:5", 5)
    for n in set(range(8)) - {5}:
        assert found[f"nvml:{n}"]["status"] == "ok"
        assert holds(fake, monitor, f"nvml:{n}", n)
    assert sum("ended early" in note for note in monitor.result.notes) == 2  # its counter and its power


def test_a_driver_loaded_anew_restarts_the_counter_and_the_energy_before_it_stays(nvml, soon):
    fake = nvml(*[replace(BOARD, energy_start_mj=5e9)] * 2)
    with fg.Monitor(["nvml:0", "nvml:1"], hz=200) as monitor:
        soon(lambda: monitor.energy_j()["nvml:0"] > 40)
        before_j = monitor.energy_j()["nvml:0"]
        fake.reload_driver()
        sampler = monitor._groups[0].sampler
        seen = sampler.live(0)["samples"]
        soon(lambda: sampler.live(0)["samples"] > seen + 40)
    row = rows(monitor)["nvml:0"]
    assert row["restarts"] == 1
    assert row["energy_j"] >= before_j > 40
    assert row["status"] == "ok"
    assert holds(fake, monitor, "nvml:0")
    assert holds(fake, monitor, "nvml:1", 1)


def test_a_lost_board_does_not_keep_the_others_from_a_driver_loaded_anew(nvml, soon):
    fake = nvml(BOARD, BOARD, BOARD)
    with fg.Monitor(["nvml:0", "nvml:1", "nvml:2"], hz=200) as monitor:
        sampler = monitor._groups[0].sampler
        soon(lambda: sampler.live(2)["samples"] > 10)
        fake.write(rules=[gpu_is_lost(0)])
        soon(lambda: sampler.live(0)["ended"])
        fake.reload_driver()
        seen = sampler.live(2)["samples"]
        soon(lambda: sampler.live(2)["samples"] > seen + 10)
    for n in (1, 2):
        row = rows(monitor)[f"nvml:{n}"]
        assert (row["status"], row["read_errors"]) == ("ok", 0)


def test_a_library_that_blocks_for_seconds_does_not_delay_the_cpu(nvml, powercap, soon):
    fake = nvml(BOARD)
    powercap(Zone("package-0", 50.0), move=True)
    monitor = fg.Monitor(hz=100)
    fake.write(rules=[Rule(ENERGY, delay_us=5_000_000)])
    monitor.start()
    cpu, board = (group.sampler for group in monitor._groups)
    soon(lambda: cpu.live(0)["samples"] > 25)
    assert board.live(0)["samples"] == 0  # it is still in its first call
    assert monitor.energy_j()["rapl:package-0"] > 0
    monitor.stop()
    found = rows(monitor)
    assert found["rapl:package-0"]["samples"] > 25
    assert found["nvml:0"]["samples"] <= 2
    assert found["nvml:0"]["mean_read_s"] > 4.5


def test_a_power_of_zero_is_a_failed_read_and_not_a_measurement(nvml, soon):
    fake = nvml(BOARD, rules=[Rule(ENERGY, code=3)])
    monitor = fg.Monitor("nvml:0", hz=200)
    first = fake.calls()["field:186"] + 10
    fake.write(rules=[Rule("field:186", first=first, last=first + 4, value=0.0)])
    with monitor:
        soon(lambda: fake.calls()["field:186"] > first + 20)
    row = rows(monitor)["nvml:0"]
    assert row["read_errors"] == 5
    assert min(monitor.result.samples()["raw"].to_pylist()) > 0
    assert holds(fake, monitor, "nvml:0", slack=0.01)


def test_a_gap_in_power_widens_the_bounds_up_to_the_boards_limit(nvml, soon):
    fake = nvml(BOARD, rules=[Rule(ENERGY, code=3)])
    with fg.Monitor("nvml:0", hz=200) as monitor:
        sampler = monitor._groups[0].sampler
        soon(lambda: sampler.live(0)["samples"] > 10)
        fake.write(rules=[Rule("field:186", code=999)])
        time.sleep(0.3)
        fake.write(rules=[])
        seen = sampler.live(0)["samples"]
        soon(lambda: sampler.live(0)["samples"] > seen + 5)
    result = monitor.result
    assert result.energy_high_j - result.energy_low_j > 0.25 * 400 * 0.8
    assert result.energy_low_j <= 150 * span_s(monitor, "nvml:0") <= result.energy_high_j


def test_a_stall_in_which_no_power_was_read_widens_the_bounds_too(nvml, soon):
    """No read failed and no sample was lost, and still nobody knows what was drawn meanwhile."""
    fake = nvml(replace(BOARD, power=Steps(((0.0, 150.0),))), rules=[Rule(ENERGY, code=3)])
    monitor = fg.Monitor("nvml:0", hz=200)
    at = fake.calls(0)["nvmlDeviceGetFieldValues"] + 10
    fake.write(rules=[Rule(ENERGY, code=3), Rule("nvmlDeviceGetFieldValues", first=at, last=at, delay_us=1_000_000)])
    with monitor:
        soon(lambda: fake.calls(0)["nvmlDeviceGetFieldValues"] > at + 10)
    result = monitor.result
    assert result.energy_high_j - result.energy_low_j > 0.8 * 400
    assert result.energy_low_j <= 150 * span_s(monitor, "nvml:0") <= result.energy_high_j


def test_windows_round_bursts_of_a_slow_counter_hold_the_truth(nvml):
    fake = nvml(Gpu(Square(80.0, 350.0, 0.07, 0.4), energy_updates=Updates(0.1)))
    with fg.Monitor("nvml:0", settle=True) as monitor:
        window = monitor.window("w")
        for n in range(30):
            with window:
                time.sleep(0.01 + 0.001 * n)
    for row in monitor.result.windows().to_pylist():
        true_j = fake.energy_j(0, row["start_ns"], row["start_ns"] + round(row["duration_s"] * 1e9))
        assert row["energy_low_j"] <= true_j <= row["energy_high_j"]
    summary = monitor.result.summary().to_pylist()[0]
    steps_s = np.diff(monitor.result.samples()["monotonic_ns"].to_numpy()) * 1e-9
    unread_j = 350.0 * np.maximum(steps_s - 0.05, 0).sum()  # where a busy machine kept the sampler from reading
    assert summary["energy_high_j"] < 1.6 * summary["energy_low_j"] + unread_j


def test_a_board_that_cannot_be_read_at_all_warns_and_the_others_are_measured(nvml):
    fake = nvml(BOARD, BOARD, rules=[gpu_is_lost(1)])
    with pytest.warns(FastgreenWarning, match=r"nvml:1.*NVML 15"):
        monitor = fg.Monitor(hz=100)
    with monitor:
        time.sleep(0.1)
    assert set(rows(monitor)) == {"nvml:0", "nvml:0/power", "procstat:cpu"}
    assert any("nvml:1" in note for note in monitor.result.notes)
    assert holds(fake, monitor, "nvml:0")
