# SPDX-License-Identifier: Apache-2.0
"""The energy callback and the trackers: in the real libraries where they are installed, on a counter of 60 W."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenWarning
from fastgreen.experiment import (
    energy_callback,
    huggingface_callback,
    keras_callback,
    lightning_callback,
    mlflow_tracker,
    scalars_of,
    tensorboard_tracker,
)
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT
from tests.training.test_log import Meter, log_of


@pytest.fixture
def tree(powercap):
    return powercap(Zone("package-0", 60.0), move=True)


class Tracker:
    def __init__(self):
        self.seen = []

    def __call__(self, scalars, step):
        self.seen.append((step, scalars))


def counts(monitor) -> dict[str, int]:
    return {row["name"]: row["count"] for row in monitor.result.summary().to_pylist()}


def is_60_w(j_per_step: float, seconds_per_step: float) -> bool:
    return 30 * seconds_per_step < j_per_step < 120 * seconds_per_step


def test_windows_joules_and_tokens_without_a_library(tree):
    """The calls of Hugging Face's trainer: three epochs of two steps, an evaluation after each."""
    code = SimpleNamespace
    tracker = Tracker()
    with fg.Monitor() as monitor:
        callback = energy_callback(monitor, tracker=tracker)
        args, control = code(), code(should_evaluate=False)
        state = code(global_step=0, num_input_tokens_seen=0, log_history=[])
        callback.on_init_end(args, state, control)
        callback.on_train_begin(args, state, control, model=None)
        for _ in range(3):
            callback.on_epoch_begin(args, state, control)
            for _ in range(2):
                callback.on_step_begin(args, state, control)
                time.sleep(0.05)
                state.global_step += 1
                state.num_input_tokens_seen += 100
                callback.on_step_end(args, state, control)
            logs = {"loss": 1.0}
            state.log_history.append({**logs, "step": state.global_step})
            callback.on_log(args, state, control, logs=logs)
            control.should_evaluate = True
            callback.on_epoch_end(args, state, control)
            callback.on_prediction_step(args, state, control)
            callback.on_evaluate(args, state, control, metrics={"eval_loss": 1.0})
            control.should_evaluate = False
        callback.on_train_end(args, state, control)
        callback.on_prediction_step(args, state, control)  # trainer.evaluate() alone
        callback.on_evaluate(args, state, control)
    assert counts(monitor) == {"step": 6, "epoch": 3, "evaluation": 4}
    assert logs["energy/j_per_step"] == state.log_history[-1]["energy/j_per_step"]
    for step, scalars in tracker.seen:
        assert is_60_w(scalars["energy/j_per_step"], 0.05), scalars
        assert scalars["energy/j_per_token"] == pytest.approx(scalars["energy/j_per_step"] / 100)
        assert step in (2, 4, 6)
    found = scalars_of(monitor.result)
    assert found["energy/step/mean_low_j"] <= found["energy/step/mean_j"] <= found["energy/step/mean_high_j"]
    assert found["energy/run_j"] == monitor.result.energy_j


def test_a_callback_with_nothing_to_do_says_so(tree):
    monitor = fg.Monitor()
    callback = energy_callback(monitor)
    with pytest.warns(FastgreenWarning, match="the monitor is not running"):
        callback.on_train_begin({})
    callback.on_train_batch_begin(0)
    callback.on_train_batch_end(0, {})
    callback.on_epoch_end(0, {})
    callback.on_train_end({})
    with monitor:
        callback.on_train_begin({})
        with pytest.warns(FastgreenWarning, match="the trainer made no step"):
            callback.on_train_end({})


@pytest.mark.parametrize("accuracy", [None, "val_top5"])
def test_a_training_whose_metric_has_another_name_is_reported_with_the_names_that_there_were(accuracy):
    state = SimpleNamespace(global_step=1, epoch=1.0)
    trainer = SimpleNamespace(sanity_checking=False, current_epoch=0, callback_metrics={"val_score": 0.5})
    words = "no checkpoint was logged: no metric was .*; there were 'val_score'; accuracy= gives the name"
    callback = keras_callback(log_of(Meter()), accuracy=accuracy)
    callback.on_epoch_end(0, {"val_score": 0.5})
    with pytest.warns(FastgreenWarning, match=words):
        callback.on_train_end({})
    callback = lightning_callback(log_of(Meter()), accuracy=accuracy)
    callback.on_validation_epoch_end(trainer, None)
    with pytest.warns(FastgreenWarning, match=words):
        callback.on_train_end(trainer, None)
    callback = huggingface_callback(log_of(Meter()), accuracy=accuracy)
    callback.on_evaluate(SimpleNamespace(), state, None, metrics={"val_score": 0.5})
    with pytest.warns(FastgreenWarning, match=words):
        callback.on_train_end(None, state, None)
    callback = huggingface_callback(log_of(Meter()))
    with pytest.warns(FastgreenWarning, match="the trainer reported no metrics"):
        callback.on_train_end(None, state, None)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tracker": 1}, TypeError),
        ({"tokens": "x"}, TypeError),
        ({"tokens": -1}, TypeError),
        ({"every_s": -1}, ValueError),
        ({"every_s": float("nan")}, ValueError),
    ],
)
def test_bad_options_are_refused(options, error):
    with pytest.raises(error, match="must be"):
        energy_callback(None, **options)


# ---- the real libraries ----


def classifier(torch):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x, labels):
            time.sleep(0.02)
            logits = self.layer(x)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    return Model()


def test_hugging_face(tree, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    data = [{"x": torch.rand(3), "labels": i % 2} for i in range(16)]
    options = {"eval_strategy": "epoch", "per_device_train_batch_size": 4, "num_train_epochs": 2, "report_to": "none"}
    tracker = Tracker()
    with fg.Monitor() as monitor:
        trainer = transformers.Trainer(
            classifier(torch),
            transformers.TrainingArguments(
                str(tmp_path), use_cpu=True, disable_tqdm=True, save_strategy="no", logging_steps=2, **options
            ),
            train_dataset=data,
            eval_dataset=data,
            callbacks=[energy_callback(monitor, tracker=tracker)],
        )
        trainer.train()
    assert counts(monitor) == {"step": 8, "epoch": 2, "evaluation": 2}
    logged = [row["energy/j_per_step"] for row in trainer.state.log_history if "loss" in row]
    assert len(logged) == 4
    assert all(0.02 * 30 < x < 1 * 120 for x in logged)
    assert tracker.seen


def test_keras(tree, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    keras = pytest.importorskip("keras", reason="keras is not installed")
    model = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
    model.compile(loss="sparse_categorical_crossentropy")
    x, y = np.random.default_rng(0).random((16, 3)), np.arange(16) % 2
    tracker = Tracker()
    with fg.Monitor() as monitor:
        callback = energy_callback(monitor, tracker=tracker, tokens=12)
        history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, validation_data=(x, y), callbacks=[callback])
    assert counts(monitor) == {"step": 8, "epoch": 2, "evaluation": 2}
    assert len(history.history["energy/j_per_step"]) == 2
    assert history.history["energy/epoch_j"][0] > 0
    assert any("energy/j_per_token" in scalars for _, scalars in tracker.seen)


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning(tree, tmp_path, name):
    lightning = pytest.importorskip(name, reason=f"{name} is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = classifier(torch)

        def training_step(self, batch, index):
            return self.model(*batch)["loss"]

        def validation_step(self, batch, index):
            self.model(*batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    data = torch.utils.data.DataLoader([(torch.rand(3), i % 2) for i in range(16)], batch_size=4)
    tracker = Tracker()
    with fg.Monitor() as monitor:
        callback = energy_callback(monitor, tracker=tracker, tokens=lambda batch: batch[0].numel(), every_s=0)
        trainer = lightning.Trainer(
            max_epochs=2, callbacks=[callback], logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, accelerator="cpu", log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(Model(), data, data)
    assert counts(monitor) == {"step": 8, "epoch": 2, "evaluation": 2}
    assert {"energy/j_per_step", "energy/j_per_token", "energy/epoch_j"} <= set(trainer.logged_metrics) | set(
        trainer.callback_metrics
    )
    assert tracker.seen[-1][1]["energy/epoch_j"] > 0


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with mlflow.start_run() as run:
        mlflow_tracker()({"energy/j_per_step": 2.5}, 7)
    mlflow_tracker(run.info.run_id)({"energy/j_per_step": 3.5}, 8)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "energy/j_per_step")
    assert [(point.step, point.value) for point in history] == [(7, 2.5), (8, 3.5)]


def test_tensorboard(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        tensorboard_tracker(writer)({"energy/j_per_step": 2.5}, 7)
    events = tensorboard.EventAccumulator(str(tmp_path)).Reload().Scalars("energy/j_per_step")
    assert [(event.step, event.value) for event in events] == [(7, 2.5)]


def test_wandb(tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    code = """
        import sys, wandb
        from fastgreen.experiment import wandb_tracker
        run = wandb.init(mode="offline", dir=sys.argv[1], project="p")
        track = wandb_tracker(run)
        track({"energy/j_per_step": 2.5}, 7)
        print(run.summary["energy/j_per_step"], run.summary["energy/step"])
        run.finish()
    """
    import textwrap

    env = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_SILENT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2.5", "7"]
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
