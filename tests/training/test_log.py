"""The training log: energy, price and carbon over time, and the published row."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgreen
from fastgreen.measuring.monitor import Monitor
from fastgreen.measuring.source_sampler import Reading
from fastgreen.training.gauges import Gauges
from fastgreen.training.log import TrainingLog, root_total
from fastgreen.training.prices import Series
from tests.fakes.hwmon import Chip
from tests.fakes.nvml import Gpu
from tests.fakes.powercap import Zone


class Meter:
    """A monitor whose energy a test sets."""

    def __init__(self):
        self.channels = [
            SimpleNamespace(id="rapl:package-0", root=True, parent=None),
            SimpleNamespace(id="rapl:package-0/core", root=False, parent="rapl:package-0"),
        ]
        self.joules = 100.0
        self.running = True

    def readings(self):
        joules = {"rapl:package-0": self.joules, "rapl:package-0/core": self.joules / 2}
        return {name: Reading(value, time.monotonic_ns()) for name, value in joules.items()}


def log_of(meter, **options):
    log = TrainingLog(meter, **{"period_s": 1000.0, **options})
    log.meter = meter  # a log does not keep its monitor alive
    return log


def test_checkpoints_hold_accuracy_and_energy_since_the_start_of_the_roots_alone():
    meter = Meter()
    with log_of(meter) as log:
        meter.joules = 110.0
        log.checkpoint(accuracy=0.5, seen=100, loss=1.5)
        meter.joules = 130.0
        log.checkpoint(accuracy=0.75, seen=100, f1=0.7)
    rows = log.table().to_pylist()
    assert [r["energy_j"] for r in rows] == [10.0, 30.0]
    assert [r["seen"] for r in rows] == [100, 200]
    assert [r["epoch"] for r in rows] == [1, 2]
    assert (rows[0]["loss"], rows[0]["f1"], rows[1]["f1"]) == (1.5, None, 0.7)
    assert rows[0]["elapsed_s"] < rows[1]["elapsed_s"]
    assert log.table().schema.field("energy_j").metadata == {b"unit": b"J"}
    assert log.energy_j == 30.0


def test_energy_so_far_never_goes_back_even_if_a_live_reading_does():
    meter = Meter()
    with log_of(meter) as log:
        for joules in (150.0, 140.0, 160.0):
            meter.joules = joules
            log.checkpoint(accuracy=0.1)
    assert log.table().column("energy_j").to_pylist() == [50.0, 50.0, 60.0]


@pytest.mark.parametrize(
    ("accuracy", "hint"),
    [(75.0, "percent"), (-0.1, "lie in 0"), (float("nan"), "lie in 0"), (101, "lie in 0")],
)
def test_an_accuracy_that_is_no_fraction_is_refused(accuracy, hint):
    with log_of(Meter()) as log, pytest.raises(ValueError, match=f"accuracy.*{hint}"):
        log.checkpoint(accuracy=accuracy)


def test_a_stopped_log_takes_no_checkpoint_and_stopping_twice_does_nothing():
    log = log_of(Meter())
    log.stop()
    log.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        log.checkpoint(accuracy=0.5)
    with pytest.raises(ValueError, match="no checkpoint"):
        log.time_to_closest_apc()
    with pytest.raises(ValueError, match="price_per_kwh must be given"):
        log.time_to_closest_apec()
    with pytest.raises(ValueError, match="period_s must be above 0, not 0"):
        TrainingLog(Meter(), period_s=0)


# ---- the energy of an instant ----


def fixed_power(machine, nvml, powercap, hwmon):
    """A machine whose one source draws a fixed power, which the source's way of counting hides.

    The channel, the power in W, and what says how late the source's numbers were, in s.
    """
    if machine == "rapl":
        tree = powercap(Zone(watts=50.0), move=True)
        return "rapl:package-0", 50.0, lambda: max(tree.punctuality_ns()[0] * 1e-9 - 0.001, 0.0)
    if machine in ("nvml", "nvml power"):
        nvml(Gpu(power=200.0))
        return ("nvml:0" if machine == "nvml" else "nvml:0/power"), 200.0, lambda: 0.0
    hwmon(Chip("xe", {"power1_average": 30_000_000, "power1_label": "pkg"}))
    return "hwmon:*", 30.0, lambda: 0.0


@pytest.mark.parametrize("machine", ["rapl", "nvml", "nvml power", "hwmon"])
@pytest.mark.parametrize("apart_s", [0.001, 0.02, 0.4])
def test_the_truth_lies_within_the_bounds_of_every_checkpoint(machine, apart_s, nvml, powercap, hwmon):
    channel, watts, late_s = fixed_power(machine, nvml, powercap, hwmon)
    monitor = Monitor(channel).start()
    log = TrainingLog(monitor)
    for _ in range(5):
        time.sleep(apart_s)
        log.checkpoint(accuracy=0.5)
    log.stop()
    monitor.stop()
    if machine == "nvml power":  # a child channel counts only where its counter is not measured
        assert monitor.result.trace(channel).counted
    for row in log.table().to_pylist():
        truth_j, late_j = watts * row["elapsed_s"], watts * late_s()
        assert row["energy_low_j"] <= truth_j * (1 + 1e-6) + late_j
        assert row["energy_high_j"] >= truth_j * (1 - 1e-6) - late_j
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        assert row["energy_high_j"] > 0
        assert row["read_s"] == row["elapsed_s"]


@pytest.mark.slow
def test_checkpoints_ten_seconds_apart_are_known_to_a_per_cent(powercap, nvml, hwmon):
    channel, watts, late_s = fixed_power("rapl", nvml, powercap, hwmon)
    with Monitor(channel) as monitor:
        for _ in range(2):
            time.sleep(10)
            monitor.checkpoint(0.5)
    for row in monitor.training_log.table().to_pylist():
        truth_j, late_j = watts * row["elapsed_s"], watts * late_s()
        assert row["energy_low_j"] - late_j <= truth_j <= row["energy_high_j"] + late_j
        assert row["energy_high_j"] - row["energy_low_j"] < 0.01 * row["energy_j"] + 2 * late_j


def test_a_training_shorter_than_a_reading_of_the_estimate_has_its_energy():
    with Monitor() as monitor, TrainingLog(monitor) as log:  # the estimate is read at 10 Hz
        time.sleep(0.02)
        log.checkpoint(accuracy=0.5)
    (row,) = log.table().to_pylist()
    assert 0 < row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
    published = log.row()
    assert 0 < published["energy low (MJ)"] <= published["energy (MJ)"] <= published["energy high (MJ)"]
    assert published["mean power (W)"] == pytest.approx(published["energy (MJ)"] * 1e6 / log.duration_s)
    assert log.time_to_closest_apc().apc > 0


def test_a_live_energy_says_up_to_which_reading_it_holds(powercap, soon):
    tree = powercap(Zone())
    with Monitor("rapl:*", hz=100) as monitor:
        log = TrainingLog(monitor)
        first_ns = monitor.readings()["rapl:package-0"].at_ns
        tree.set_uj("package-0", 5_000_000)
        soon(lambda: root_total(monitor)[0] == 5.0)
        log.checkpoint(accuracy=0.5)
        (row,) = log.table().to_pylist()
        assert not log.resolved
        assert row["energy_j"] == 5.0
        assert row["energy_low_j"] is row["energy_high_j"] is None
        assert 0 < row["read_s"] <= row["elapsed_s"]
        assert monitor.readings()["rapl:package-0"].at_ns > first_ns
    assert log.resolved
    (row,) = log.table().to_pylist()
    assert row["energy_low_j"] <= 5.0 <= row["energy_high_j"]


def test_a_log_resolves_after_its_monitor_is_gone(powercap):
    tree = powercap(Zone(watts=50.0), move=True)
    monitor = Monitor("rapl:*").start()
    log = TrainingLog(monitor, price_per_kwh=0.3)
    time.sleep(0.05)
    log.checkpoint(accuracy=0.5)
    log.stop()
    monitor.stop()
    del monitor
    gc.collect()
    (row,) = log.table().to_pylist()
    late_j = 50.0 * tree.punctuality_ns()[0] * 1e-9
    assert row["energy_low_j"] <= 50.0 * row["elapsed_s"] <= row["energy_high_j"] + late_j
    assert row["cost"] == pytest.approx(0.3 * row["energy_j"] / 3.6e6)


def test_where_no_channel_gave_a_reading_an_energy_is_unknown_and_not_0(proc):
    (proc.root / "stat").unlink()
    monitor = Monitor()
    with monitor, TrainingLog(monitor) as log:
        log.checkpoint(accuracy=0.5)
    (row,) = log.table().to_pylist()
    assert row["energy_j"] is None
    assert log.row()["energy (MJ)"] is None
    assert log.row()["mean power (W)"] is None
    assert np.isnan(log.energy_j)


def test_joules_that_the_caller_gives_stay_as_they_are():
    with Monitor() as monitor, TrainingLog(monitor, energy_j=iter((1.0, 3.0, 5.0)).__next__, period_s=1000) as log:
        log.checkpoint(accuracy=0.5)
    (row,) = log.table().to_pylist()
    assert (row["energy_j"], row["energy_low_j"]) == (2.0, None)
    assert not log.resolved


# ---- prices over time ----


def test_a_price_that_changes_is_paid_for_the_joules_it_applied_to():
    elapsed, energy = np.array([0.0, 100.0]), np.array([0.0, 7.2e6])  # 2 kWh, evenly
    assert Series(0.25).over(elapsed, energy, 0.0).tolist() == [0.0, 0.5]
    series = Series([(0, 0.2), (75, 1.0)])
    assert series.over(elapsed, energy, 0.0)[-1] == pytest.approx(1.5 * 0.2 + 0.5 * 1.0)
    since_1970 = Series([(1.7e9, 0.2), (1.7e9 + 75, 1.0)])
    assert since_1970.over(elapsed, energy, 1.7e9)[-1] == pytest.approx(0.8)


SERIES = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 2)), min_size=1, max_size=6).map(sorted)
STEPS = st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 1e7)), min_size=1, max_size=8)


@given(SERIES, STEPS)
def test_the_cost_equals_adding_up_a_thousand_little_stretches(pairs, steps):
    elapsed = np.concatenate([[0.0], np.cumsum([t for t, _ in steps])])
    energy = np.concatenate([[0.0], np.cumsum([j for _, j in steps])])
    turns = [moment for moment, _ in pairs if moment < elapsed[-1]]
    fine = np.union1d(np.linspace(0, elapsed[-1], 1001), [*elapsed, *turns])
    middle = (fine[1:] + fine[:-1]) / 2
    price = np.full(middle.size, pairs[0][1])
    for moment, value in pairs:
        price[middle >= moment] = value
    slow = (np.diff(np.interp(fine, elapsed, energy)) * price).sum() / 3.6e6
    assert Series(pairs).over(elapsed, energy, 0.0)[-1] == pytest.approx(slow, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "at least one pair"),
        ([(5, 1), (3, 1)], "not go back to 3"),
        ([(0, float("nan"))], "must be finite, not nan"),
        ([(float("nan"), 1)], "not NaN"),
        (float("inf"), "must be finite, not inf"),
        ("0.3", "must be a number or pairs .*not '0.3'"),
        ([0.3, 0.4], "must be a number or pairs"),
    ],
)
def test_bad_series_name_the_argument_and_the_value(value, message):
    with pytest.raises(ValueError, match=f"price_per_kwh.*{message}"):
        TrainingLog(Meter(), price_per_kwh=value)


def test_a_price_may_be_any_number_and_a_moment_a_date():
    assert Series(np.float32(0.5)).at([7.0]).tolist() == [0.5]
    assert Series(1).at([7.0]).tolist() == [1.0]
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    dated = Series([(noon, 0.2), (noon + timedelta(seconds=75), 1.0)])
    assert dated.since_1970
    elapsed, energy = np.array([0.0, 100.0]), np.array([0.0, 3.6e6])
    assert dated.over(elapsed, energy, noon.timestamp())[-1] == pytest.approx(0.75 * 0.2 + 0.25)


def test_cost_and_carbon_stand_in_the_table_and_in_the_row():
    meter = Meter()
    with log_of(meter, price_per_kwh=0.3, carbon_g_per_kwh=232) as log:
        meter.joules = 100.0 + 3.6e6
        log.checkpoint(accuracy=0.9)
    row = log.table().to_pylist()[0]
    assert (row["cost"], row["carbon_g"]) == pytest.approx((0.3, 232.0))
    assert log.row()["emissions (gCO2e)"] == pytest.approx(232.0)


# ---- the published row ----

PUBLISHED = """training environment|architecture|run|training duration (h)|gpu model|gpu working time (h)|gpu usage (%)
gpu memory working time (h)|gpu memory usage|average memory used (MB)|memory used std (MB)|total power (W)
average power draw (W)|power draw std (W)|max power limit (W)|average temperature (Celsius)|temperature std (Celsius)
energy (MJ)|emissions (gCO2e)|training size|validation size|batch size|GFLOPs|accuracy|precision|recall|AUC
trained epochs|total seen images|f1-score"""


class Nvml:
    """A GPU that always says the same."""

    class NVMLError(Exception):
        pass

    def __getattr__(self, name):
        answers = {
            "nvmlDeviceGetHandleByIndex": 0,
            "nvmlDeviceGetName": b"Fake GPU",
            "nvmlDeviceGetEnforcedPowerLimit": 350000,
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=40, memory=10),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=1 << 30),
            "nvmlDeviceGetPowerUsage": 150000,
        }
        if name == "nvmlDeviceGetTemperature":

            def fails(*args):
                raise self.NVMLError("not supported")

            return fails
        return lambda *args: answers.get(name)


def test_the_row_has_the_columns_of_the_published_table_and_reads_the_gpu():
    meter = Meter()
    gauges = Gauges(Nvml())
    log = TrainingLog(meter, period_s=0.02, gauges=gauges)
    time.sleep(0.15)
    meter.joules += 5e5
    log.checkpoint(accuracy=0.9, seen=1000, precision=0.8, recall=0.7, auc=0.95, f1=0.75)
    log.stop()
    row = log.row(
        training_environment="Cloud",
        architecture="vgg16",
        run=3,
        training_size=900,
        validation_size=100,
        batch_size=32,
        GFLOPs=1.0,
    )
    assert set(PUBLISHED.replace("\n", "|").split("|")) <= set(row)
    assert row["energy (MJ)"] == pytest.approx(0.5)
    assert row["gpu model"] == "Fake GPU"
    assert row["gpu usage (%)"] == pytest.approx(40.0)
    assert row["average memory used (MB)"] == pytest.approx(1024.0)
    assert row["max power limit (W)"] == pytest.approx(350.0)
    assert row["average temperature (Celsius)"] is None
    assert (row["accuracy"], row["precision"], row["recall"], row["AUC"], row["f1-score"]) == (
        0.9,
        0.8,
        0.7,
        0.95,
        0.75,
    )
    assert row["total seen images"] == 1000
    assert row["average process memory (MB)"] > 1


def test_working_time_is_use_times_duration():
    gauges = Gauges(Nvml())
    with log_of(Meter(), period_s=0.05, gauges=gauges) as log:
        time.sleep(0.3)
    hours = log.row()["gpu working time (h)"]
    assert hours == pytest.approx(0.4 * log.duration_s / 3600)


def test_without_a_gpu_its_columns_are_none():
    with log_of(Meter()) as log:
        log.checkpoint(accuracy=0.1)
    assert log.row()["gpu model"] is None or isinstance(log.row()["gpu model"], str)
    assert log.row()["precision"] is None


def test_the_thread_ends_with_the_log():
    ours = lambda: [thread.name for thread in threading.enumerate()].count("fg-training")  # noqa: E731
    before = ours()
    with log_of(Meter()):
        assert ours() == before + 1
    assert ours() == before


def test_a_real_monitor_gives_a_log_that_grows(soon):
    with Monitor("procstat:*", hz=50) as monitor, TrainingLog(monitor, period_s=0.05) as log:
        soon(lambda: root_total(monitor)[0] > 0)
        for _ in range(3):
            end = time.monotonic() + 0.15
            while time.monotonic() < end:
                sum(range(1000))
            log.checkpoint(accuracy=0.5)
    energy = log.table().column("energy_j").to_pylist()
    assert 0 < energy[0] < energy[1] < energy[2] <= monitor.result.energy_high_j


def test_a_log_of_a_monitor_that_does_not_run_says_so_instead_of_standing_still():
    monitor = Monitor("procstat:*", hz=50)
    with pytest.raises(RuntimeError, match="monitor must be running"):
        TrainingLog(monitor)
    with monitor:
        begun = time.monotonic()
        log = TrainingLog(monitor, period_s=0.05)
        time.sleep(0.2)
        log.checkpoint(accuracy=0.5)
    ran_s = time.monotonic() - begun
    time.sleep(0.2)
    with pytest.raises(RuntimeError, match="monitor must be running"):
        log.checkpoint(accuracy=0.6)
    log.stop()
    assert log.stopped
    assert log.table().num_rows == 1
    assert 0.2 <= log.duration_s <= ran_s
    assert not any(thread.name == "fg-training" for thread in threading.enumerate())


def test_a_monitor_takes_checkpoints_itself_from_its_own_start(soon):
    monitor = Monitor("procstat:*", hz=50)
    with pytest.raises(RuntimeError, match="monitor is new"):
        monitor.checkpoint(accuracy=0.5)
    with monitor:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            sum(range(1000))
        soon(lambda: root_total(monitor)[0] > 0)
        monitor.checkpoint(accuracy=0.5, seen=10, loss=1.0)
    with pytest.raises(RuntimeError, match="monitor is stopped"):
        monitor.checkpoint(accuracy=0.6)
    (row,) = monitor.training_log.table().to_pylist()
    assert row["elapsed_s"] >= 0.29
    assert 0 < row["energy_j"] <= monitor.result.energy_j
    assert monitor.training_log.time_to_closest_apc().index == 0


def training_threads():
    return [thread for thread in threading.enumerate() if thread.name == "fg-training"]


@pytest.mark.parametrize("end", ["with", "stop", "exception", "dropped"])
@pytest.mark.filterwarnings("ignore:.*deleted while it was measuring:ResourceWarning")
def test_the_log_of_a_monitor_ends_with_it_however_it_ends(end):
    monitor = Monitor("procstat:*", hz=50).start()
    monitor.checkpoint(0.5)
    assert len(training_threads()) == 1
    if end == "with":
        monitor.__exit__(None, None, None)
    elif end == "exception":
        monitor.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    elif end == "stop":
        monitor.stop()
    held = weakref.ref(monitor)
    del monitor
    gc.collect()
    assert held() is None
    assert training_threads() == []


def test_a_log_does_not_keep_its_monitor_alive_nor_its_thread_the_log(soon):
    monitor = Monitor("procstat:*", hz=50).start()
    log = TrainingLog(monitor, period_s=0.02)
    held, thread = weakref.ref(monitor), log._thread
    monitor.stop()
    del monitor
    gc.collect()
    assert held() is None
    with pytest.raises(RuntimeError, match="monitor must be running"):
        log.checkpoint(0.5)
    del log
    soon(lambda: not thread.is_alive())


def test_the_log_goes_straight_into_time_to_closest_apc_and_apec():
    meter = Meter()
    with log_of(meter, price_per_kwh=0.3) as log:
        for accuracy in (0.3, 0.6, 0.8, 0.82):
            meter.joules += 3600.0
            log.checkpoint(accuracy=accuracy)
    table = log.table().to_pylist()
    found = log.time_to_closest_apc()
    slow = fastgreen.time_to_closest_apc(
        [r["elapsed_s"] for r in table], [r["accuracy"] for r in table], [r["energy_j"] / 3600 for r in table]
    )
    assert found == slow
    assert found.time == table[found.index]["elapsed_s"]
    assert log.time_to_closest_apec(cost_delta=0.0001).index == 3
