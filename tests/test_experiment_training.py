"""The training log: energy, price and carbon over time, the published row, and callbacks in the order their
libraries call.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgreen
from fastgreen.errors import FastgreenWarning
from fastgreen.experiment.callbacks import huggingface_callback, keras_callback, lightning_callback
from fastgreen.experiment.gauges import Gauges
from fastgreen.experiment.training import Series, TrainingLog, root_energy_j
from fastgreen.monitor import Monitor


class Meter:
    """A monitor whose energy is told."""

    def __init__(self):
        self.channels = [
            SimpleNamespace(id="rapl:package-0", root=True, parent=None),
            SimpleNamespace(id="rapl:package-0/core", root=False, parent="rapl:package-0"),
        ]
        self.joules = 100.0

    def energy_j(self):
        return {"rapl:package-0": self.joules, "rapl:package-0/core": self.joules / 2}


def log_of(meter, **options):
    return TrainingLog(meter, **{"period_s": 1000.0, **options})


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
    ("accuracy", "hint"), [(75.0, "percent"), (-0.1, "between"), (float("nan"), "between"), (101, "between")]
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
    with pytest.raises(ValueError, match="without a price"):
        log.time_to_closest_apec()
    with pytest.raises(ValueError, match="period_s: 0"):
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


@settings(deadline=None)
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
        ([], "an empty series"),
        ([(5, 1), (3, 1)], "go back at 3"),
        ([(0, float("nan"))], "nan is not finite"),
        ([(float("nan"), 1)], "the moment nan is none"),
        (float("inf"), "inf is not finite"),
        ("0.3", "'0.3' is neither a number nor pairs of a moment and a number"),
        ([0.3, 0.4], "is neither a number nor pairs"),
    ],
)
def test_bad_series_name_the_argument_and_the_value(value, message):
    with pytest.raises(ValueError, match=f"price_per_kwh: .*{message}"):
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
    with TrainingLog(Meter(), period_s=0.05, gauges=gauges) as log:
        time.sleep(0.3)
    hours = log.row()["gpu working time (h)"]
    assert hours == pytest.approx(0.4 * log.duration_s / 3600)


def test_without_a_gpu_its_columns_are_none():
    with log_of(Meter()) as log:
        log.checkpoint(accuracy=0.1)
    assert log.row()["gpu model"] is None or isinstance(log.row()["gpu model"], str)
    assert log.row()["precision"] is None


def test_the_thread_ends_with_the_log():
    before = threading.active_count()
    with log_of(Meter()):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_real_monitor_gives_a_log_that_grows():
    with Monitor("procstat:*", hz=50) as monitor, TrainingLog(monitor, period_s=0.05) as log:
        for _ in range(3):
            end = time.monotonic() + 0.15
            while time.monotonic() < end:
                sum(range(1000))
            log.checkpoint(accuracy=0.5)
        live = root_energy_j(monitor)
    energy = log.table().column("energy_j").to_pylist()
    assert 0 < energy[0] <= energy[1] <= energy[2] <= live


def test_a_monitor_takes_checkpoints_itself_from_its_own_start():
    monitor = Monitor("procstat:*", hz=50)
    with pytest.raises(RuntimeError, match="monitor is new"):
        monitor.checkpoint(accuracy=0.5)
    with monitor:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            sum(range(1000))
        monitor.checkpoint(accuracy=0.5, seen=10, loss=1.0)
    with pytest.raises(RuntimeError, match="monitor is stopped"):
        monitor.checkpoint(accuracy=0.6)
    (row,) = monitor.training_log.table().to_pylist()
    assert row["elapsed_s"] >= 0.29
    assert 0 < row["energy_j"] <= monitor.result.energy_j
    assert monitor.training_log.time_to_closest_apc().index == 0


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


# ---- callbacks, by trainers that call hooks in the documented order ----


def keras_fit(callback, epochs):
    callback.set_params({"epochs": epochs})
    callback.set_model(object())
    callback.on_train_begin({})
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch, {})
        for batch in range(2):
            callback.on_train_batch_begin(batch, {})
            callback.on_train_batch_end(batch, {"loss": 1.0})
        callback.on_test_begin({})
        callback.on_test_end({})
        callback.on_epoch_end(epoch, {"loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.1 * (epoch + 1), "val_auc": 0.6})
    callback.on_train_end({})


def test_keras_epochs_become_checkpoints_by_validation_accuracy():
    log = log_of(Meter())
    keras_fit(keras_callback(log, seen_per_epoch=64), 3)
    rows = log.table().to_pylist()
    assert [r["accuracy"] for r in rows] == pytest.approx([0.1, 0.2, 0.3])
    assert [r["epoch"] for r in rows] == [1, 2, 3]
    assert rows[-1]["seen"] == 192
    assert rows[0]["auc"] == 0.6
    with pytest.raises(RuntimeError):
        log.checkpoint(accuracy=0.5)  # on_train_end stopped it


def test_keras_can_be_told_which_metric_is_the_accuracy():
    log = log_of(Meter())
    keras_fit(keras_callback(log, accuracy="accuracy"), 2)
    assert log.table().column("accuracy").to_pylist() == [0.5, 0.5]


def lightning_fit(callback, epochs, validation=True):
    trainer = SimpleNamespace(sanity_checking=True, current_epoch=0, callback_metrics={"val_acc": 0.0})
    callback.log = lambda *args: None  # as Lightning's trainer does to every callback
    callback.setup(trainer, None, "fit")
    callback.on_validation_epoch_end(trainer, None)  # the sanity check
    trainer.sanity_checking = False
    callback.on_train_start(trainer, None)
    for epoch in range(epochs):
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"train_loss": 1.0}
        callback.on_train_batch_end(trainer, None, None, None, 0)
        if validation:
            trainer.callback_metrics["val_acc"] = np.float32(0.25 * (epoch + 1))
            callback.on_validation_epoch_end(trainer, None)
        else:
            trainer.callback_metrics["train_accuracy"] = 0.5
        callback.on_train_epoch_end(trainer, None)
    callback.on_train_end(trainer, None)


def test_lightning_notes_each_epoch_once_and_not_its_sanity_check():
    log = log_of(Meter())
    lightning_fit(lightning_callback(log), 2)
    assert log.table().column("accuracy").to_pylist() == [0.25, 0.5]
    log = log_of(Meter())
    lightning_fit(lightning_callback(log), 3, validation=False)
    assert log.table().column("epoch").to_pylist() == [1, 2, 3]


def test_hugging_face_evaluations_become_checkpoints():
    log = log_of(Meter())
    callback = huggingface_callback(log)
    args = SimpleNamespace(train_batch_size=8, gradient_accumulation_steps=2, world_size=1)
    state, control = SimpleNamespace(global_step=0, epoch=0.0), object()
    callback.on_init_end(args, state, control)
    callback.on_train_begin(args, state, control, model=None)
    for epoch in (1, 2):
        state.global_step, state.epoch = 10 * epoch, float(epoch)
        callback.on_step_end(args, state, control)
        callback.on_evaluate(
            args, state, control, metrics={"eval_loss": 1.0, "eval_accuracy": 0.4 * epoch, "eval_f1": 0.3}
        )
    callback.on_evaluate(args, state, control, metrics={"eval_loss": 1.0})  # no accuracy: no checkpoint
    callback.on_train_end(args, state, control)
    rows = log.table().to_pylist()
    assert [r["accuracy"] for r in rows] == pytest.approx([0.4, 0.8])
    assert [r["seen"] for r in rows] == [160, 320]
    assert rows[0]["f1"] == 0.3


def every_callback(log):
    """What each library does at the end of an epoch, with the metrics that it has then."""
    keras, lightning, hugging_face = keras_callback(log), lightning_callback(log), huggingface_callback(log)
    state = SimpleNamespace(global_step=1, epoch=1.0)
    trainer = SimpleNamespace(sanity_checking=False, current_epoch=0, callback_metrics={})

    def lightnings(metrics):
        trainer.current_epoch += 1
        trainer.callback_metrics = metrics
        lightning.on_validation_epoch_end(trainer, None)

    return {
        "keras": (lambda metrics: keras.on_epoch_end(0, metrics), lambda: keras.on_train_end({})),
        "lightning": (lightnings, lambda: lightning.on_train_end(trainer, None)),
        "hugging face": (
            lambda metrics: hugging_face.on_evaluate(SimpleNamespace(), state, None, metrics=metrics),
            lambda: hugging_face.on_train_end(None, state, None),
        ),
    }


@pytest.mark.parametrize("library", ["keras", "lightning", "hugging face"])
@pytest.mark.parametrize("accuracy", [float("nan"), 93.5, -0.1, [0.5, 0.6], "high"])
def test_a_metric_that_is_no_accuracy_is_told_and_does_not_end_a_training(library, accuracy):
    with log_of(Meter()) as log:
        epoch, _ = every_callback(log)[library]
        with pytest.warns(FastgreenWarning, match="no checkpoint: accuracy"):
            epoch({"val_accuracy": accuracy})
        epoch({"val_accuracy": 0.5, "precision": [0.1, 0.2], "loss": "low"})
    assert log.table().column("accuracy").to_pylist() == [0.5]


@pytest.mark.parametrize("library", ["keras", "lightning", "hugging face"])
def test_an_evaluation_after_the_training_is_no_checkpoint_and_no_error(library):
    log = log_of(Meter())
    epoch, end = every_callback(log)[library]
    epoch({"val_accuracy": 0.5})
    end()
    epoch({"val_accuracy": 0.6})
    assert log.table().column("accuracy").to_pylist() == [0.5]


def test_the_callbacks_import_none_of_their_libraries():
    names = "{'keras', 'lightning', 'transformers'}"
    code = f"import sys, fastgreen.experiment.callbacks; print({names} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_with_hugging_face_installed_its_trainer_accepts_the_callback(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x, labels):
            logits = self.layer(x)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    data = [{"x": torch.rand(3), "labels": i % 2} for i in range(16)]
    log = log_of(Meter())
    options = {"eval_strategy": "epoch", "per_device_train_batch_size": 4, "num_train_epochs": 2, "report_to": "none"}
    trainer = transformers.Trainer(
        Model(),
        transformers.TrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True, save_strategy="no", **options),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
        callbacks=[huggingface_callback(log)],
    )
    trainer.train()
    rows = log.table().to_pylist()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["seen"] for row in rows] == [16, 32]
    assert rows[-1]["accuracy"] == trainer.evaluate()["eval_accuracy"]


def test_with_keras_installed_its_fit_accepts_the_callback():
    keras = pytest.importorskip("keras", reason="keras is not installed")
    log = log_of(Meter())
    model = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        np.random.default_rng(0).random((16, 3)),
        np.arange(16) % 2,
        epochs=2,
        verbose=0,
        callbacks=[keras_callback(log)],
    )
    assert log.table().num_rows == 2


def test_with_lightning_installed_its_trainer_accepts_the_callback():
    lightning = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def training_step(self, batch, index):
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def validation_step(self, batch, index):
            self.log("val_acc", (self.layer(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    data = torch.utils.data.TensorDataset(torch.rand(16, 3), torch.arange(16) % 2)
    log, loader = log_of(Meter()), torch.utils.data.DataLoader(data, 8)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    lightning.Trainer(max_epochs=2, callbacks=[lightning_callback(log)], **quiet).fit(Model(), loader, loader)
    assert log.table().num_rows == 2
