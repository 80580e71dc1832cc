"""Callbacks that log checkpoints of Keras, PyTorch Lightning and Hugging Face trainers.

This file imports none of the three libraries. If one is loaded already, the callback is derived from its base class, as
current trainers require. Otherwise it accepts every hook that begins with ``on_``.
"""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

from fastgreen.errors import FastgreenWarning
from fastgreen.training.log import TrainingLog

__all__ = ["Quiet", "huggingface_callback", "keras_callback", "lightning_callback"]

_MOST_NAMES = 20  # of metrics in a message
_ACCURACY: tuple[str, ...] = (
    "val_accuracy",
    "val_acc",
    "eval_accuracy",
    "val_binary_accuracy",
    "val_sparse_categorical_accuracy",
)
_ACCURACY += ("accuracy", "acc", "train_accuracy", "binary_accuracy", "sparse_categorical_accuracy")
_OTHERS = {"loss": ("val_loss", "eval_loss", "loss"), "precision": ("precision",), "recall": ("recall",)}
_OTHERS |= {"auc": ("auc",), "f1": ("f1", "f1_score")}


class Quiet:
    """Base class that accepts any other hook and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_") or name in ("setup", "teardown"):
            return lambda *args, **kwargs: None
        raise AttributeError(name)


def _callback(mixin: type, library: str, path: str, *args: Any) -> Any:
    """Instance of `mixin`; derived from the base class of the library as well if the library is loaded."""
    base: Any = sys.modules.get(library)
    for part in path.split("."):
        base = getattr(base, part, None)
    return type(mixin.__name__.lstrip("_"), (mixin, base or Quiet), {})(*args)


def _checkpoint(
    log: TrainingLog, values: Any, accuracy: str | None, seen: int | None, epoch: int | None = None
) -> bool:
    """Log the accuracy in a library's dict of metrics; False if there is none, or the log has ended.

    Wrong metrics give a warning and never end a training.
    """
    if log.stopped:
        return False
    numbers = {str(k): v for k, v in dict(values or {}).items()}
    names = [accuracy] if accuracy else _ACCURACY
    found = next((name for name in names if numbers.get(name) is not None), None)
    if found is None:
        return False
    extra = {}
    for name, ends in _OTHERS.items():
        key = next((k for end in ends for k in numbers if k == end or k.endswith("_" + end)), None)
        if key is not None and (value := _number(numbers[key])) is not None:
            extra[name] = value
    value = _number(numbers[found])
    try:
        log.checkpoint(math.nan if value is None else value, seen=seen, epoch=epoch, **extra)
    except ValueError as error:
        warnings.warn(f"no checkpoint: {error}", FastgreenWarning, stacklevel=3)
        return False
    return True


class _Checkpoints:
    """Logs checkpoints, and reports a training that had no accuracy in its metrics."""

    def __init__(self, log: TrainingLog, accuracy: str | None) -> None:
        super().__init__()
        self.training_log, self.accuracy = log, accuracy
        self._logged = 0
        self._names: dict[str, None] = {}

    def _checkpoint(self, values: Any, seen: int | None, epoch: int | None = None) -> bool:
        stopped = self.training_log.stopped
        logged = _checkpoint(self.training_log, values, self.accuracy, seen, epoch)
        self._logged += logged
        if not stopped and not logged:
            self._names.update(dict.fromkeys(map(str, values or ())))
        return logged

    def _stop(self) -> None:
        if not self._logged and not self.training_log.stopped:
            wanted = repr(self.accuracy) if self.accuracy else "an accuracy under its usual names"
            seen = ", ".join(repr(name) for name in list(self._names)[:_MOST_NAMES])
            warnings.warn(
                f"no checkpoint was logged: no metric was {wanted}; "
                + (f"there were {seen}; accuracy= gives the name" if seen else "the trainer reported no metrics"),
                FastgreenWarning,
                stacklevel=3,
            )
        self.training_log.stop()


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # text, a list, a tensor of several elements
        return None


class _KerasCallback(_Checkpoints):
    def __init__(self, log: TrainingLog, accuracy: str | None, seen_per_epoch: int | None) -> None:
        super().__init__(log, accuracy)
        self.seen = seen_per_epoch
        self.params: Any = {}
        self._model: Any = None

    def set_params(self, params: Any) -> None:
        self.params = params or {}

    def set_model(self, model: Any) -> None:
        self._model = model

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._checkpoint(logs, self.seen, epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        self._stop()


class _LightningCallback(_Checkpoints):
    # Not `log`: the trainer sets its own function of that name on every callback.
    def __init__(self, log: TrainingLog, accuracy: str | None, seen_per_epoch: int | None) -> None:
        super().__init__(log, accuracy)
        self.seen = seen_per_epoch
        self._done = -1

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        self._note(trainer)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._note(trainer)

    def _note(self, trainer: Any) -> None:
        # Validation runs inside the epoch; the epoch itself counts only if validation had no accuracy.
        if getattr(trainer, "sanity_checking", False) or trainer.current_epoch == self._done:
            return
        if self._checkpoint(trainer.callback_metrics, self.seen, trainer.current_epoch + 1):
            self._done = trainer.current_epoch

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._stop()


class _HuggingFaceCallback(_Checkpoints):
    def __init__(self, log: TrainingLog, accuracy: str | None) -> None:
        super().__init__(log, accuracy)
        self._step = 0

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        world = getattr(args, "world_size", 1) or 1
        batch = getattr(args, "train_batch_size", 0) * getattr(args, "gradient_accumulation_steps", 1) * world
        seen = (state.global_step - self._step) * batch
        epoch = None if state.epoch is None else round(state.epoch)
        if self._checkpoint(metrics, seen, epoch):
            self._step = state.global_step

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stop()


def keras_callback(log: TrainingLog, *, accuracy: str | None = None, seen_per_epoch: int | None = None) -> Any:
    """Make a callback for ``model.fit(..., callbacks=[...])`` of Keras: a checkpoint at the end of each epoch.

    Parameters
    ----------
    log : TrainingLog
        Gets the checkpoints.
    accuracy : str, optional
        Key in the logs; by default the first of val_accuracy, accuracy and their usual variants.
    seen_per_epoch : int, optional
        Samples in an epoch.

    Returns
    -------
    callback
    """
    return _callback(_KerasCallback, "keras", "callbacks.Callback", log, accuracy, seen_per_epoch)


def lightning_callback(log: TrainingLog, *, accuracy: str | None = None, seen_per_epoch: int | None = None) -> Any:
    """Make a callback for ``Trainer(callbacks=[...])`` of PyTorch Lightning: a checkpoint after each validation epoch.

    Parameters
    ----------
    log, accuracy, seen_per_epoch
        As in :func:`keras_callback`.

    Returns
    -------
    callback
    """
    arguments = (log, accuracy, seen_per_epoch)
    library = next(
        (name for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules), "lightning.pytorch"
    )
    return _callback(_LightningCallback, library, "Callback", *arguments)


def huggingface_callback(log: TrainingLog, *, accuracy: str | None = None) -> Any:
    """Make a callback for ``Trainer(callbacks=[...])`` of Hugging Face: a checkpoint after each evaluation.

    The trainer needs a ``compute_metrics`` that returns an accuracy.

    Parameters
    ----------
    log, accuracy
        As in :func:`keras_callback`.

    Returns
    -------
    callback
    """
    return _callback(_HuggingFaceCallback, "transformers", "TrainerCallback", log, accuracy)
