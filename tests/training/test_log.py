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
from fastgreen.training.gauges import Gauges
from fastgreen.training.log import Series, TrainingLog, root_energy_j


class Meter:
    """A monitor whose energy is told."""

    def __init__(self):
        self.channels = [
            SimpleNamespace(id="rapl:package-0", root=True, parent=None),
            SimpleNamespace(id="rapl:package-0/core", root=False, parent="rapl:package-0"),
        ]
        self.joules = 100.0
        self.running = True

    def energy_j(self):
        return {"rapl:package-0": self.joules, "rapl:package-0/core": self.joules / 2}


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
        soon(lambda: root_energy_j(monitor) > 0)
        for _ in range(3):
            end = time.monotonic() + 0.15
            while time.monotonic() < end:
                sum(range(1000))
            log.checkpoint(accuracy=0.5)
        live = root_energy_j(monitor)
    energy = log.table().column("energy_j").to_pylist()
    assert 0 < energy[0] <= energy[1] <= energy[2] <= live


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
        soon(lambda: root_energy_j(monitor) > 0)
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
@pytest.mark.filterwarnings("ignore:.*dropped while measuring:ResourceWarning")
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
