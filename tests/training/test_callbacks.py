"""Callbacks, called in the order of their libraries, and by the libraries themselves where they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastgreen.errors import FastgreenWarning
from fastgreen.training.callbacks import huggingface_callback, keras_callback, lightning_callback
from tests.training.test_log import Meter, log_of


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
    code = f"import sys, fastgreen.training.callbacks; print({names} & set(sys.modules))"
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


def test_with_keras_installed_its_fit_accepts_the_callback(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
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
