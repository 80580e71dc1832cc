# SPDX-License-Identifier: Apache-2.0
"""One callback for the trainers of Hugging Face, Lightning and Keras: windows, and joules in the trainer's logs.

It needs no accuracy. The three libraries give their hooks different names or different arguments, so one object serves
all. This file imports none of them; the object is derived from the callback classes of the libraries that are loaded.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from fastgreen.errors import FastgreenWarning
from fastgreen.training.callbacks import Quiet
from fastgreen.training.log import root_total
from fastgreen.units import NS_PER_S

__all__ = ["energy_callback"]

_BASES = {
    "keras": "callbacks.Callback",
    "lightning.pytorch": "Callback",
    "pytorch_lightning": "Callback",
    "transformers": "TrainerCallback",
}
_PREFIX = "energy/"


class _Meter:
    """Means per step and per token of the stretch since they were last shown."""

    def __init__(self, monitor: Any, every_s: float) -> None:
        self._monitor, self._every_ns = monitor, every_s * NS_PER_S
        self.steps = 0
        self.tokens = 0
        self.shown: dict[str, float] = {}
        self._since: tuple[float, int, int, int] | None = None

    def begin(self) -> None:
        """Begin a stretch here."""
        self._since = (*root_total(self._monitor), self.steps, self.tokens)

    def scalars(self, now: bool = False) -> dict[str, float]:
        """The means; those shown last, if less than `every_s` has passed and nobody needs them now."""
        energy_j, at_ns = root_total(self._monitor)
        assert self._since is not None
        first_j, first_ns, steps, tokens = self._since
        steps, tokens = self.steps - steps, self.tokens - tokens
        if steps and at_ns > first_ns and (now or at_ns - first_ns >= self._every_ns):
            used_j = energy_j - first_j
            self.shown = {"j_per_step": used_j / steps, "power_w": used_j * NS_PER_S / (at_ns - first_ns)}
            if tokens:
                self.shown["j_per_token"] = used_j / tokens
            self._since = energy_j, at_ns, self.steps, self.tokens
        return {**self.shown, "total_j": energy_j}


class _EnergyCallback:
    def __init__(
        self,
        monitor: Any,
        tracker: Callable[[dict[str, float], int], None] | None,
        tokens: Callable[[Any], int] | int | None,
        every_s: float,
    ) -> None:
        super().__init__()
        self._energy = _Meter(monitor, every_s)
        self._monitor, self._tracker, self._tokens = monitor, tracker, tokens
        self._windows: dict[str, Any] = {}
        self._model: Any = None
        self._live = False
        self._epoch_start: tuple[float, int] = (0.0, 0)
        self._seen_tokens = 0
        self._sanity = False

    # ---- windows and numbers, for all libraries ----

    def _train_begin(self) -> None:
        if not getattr(self._monitor, "running", False):
            self._say("the monitor is not running, so no energy of this training is measured; start it before")
            return
        if not any(channel.root for channel in self._monitor.channels):
            self._say("the monitor reads no channel, so the energies in the logs are 0; see `fastgreen channels`")
        self._live = True
        self._energy.begin()

    def _train_end(self) -> None:
        self._end(*self._windows)
        if self._live and not self._energy.steps:
            self._say("the trainer made no step, so there is no energy per step")
        self._live = False

    @staticmethod
    def _say(text: str) -> None:
        warnings.warn(f"energy callback: {text}", FastgreenWarning, stacklevel=4)

    def _begin(self, name: str) -> None:
        if getattr(self._monitor, "running", False) and name not in self._windows:
            window = self._windows[name] = self._monitor.window(name)
            window.begin()

    def _end(self, *names: str) -> None:
        for name in names:
            window = self._windows.pop(name, None)
            if window is not None and window.is_open:
                window.end()

    def _step_end(self, batch: Any = None) -> None:
        self._end("step")
        if not self._live:
            return
        self._energy.steps += 1
        if isinstance(self._tokens, int):
            self._energy.tokens += self._tokens
        elif self._tokens is not None and batch is not None:
            self._energy.tokens += int(self._tokens(batch))

    def _epoch_begin(self) -> None:
        self._begin("epoch")
        if self._live:
            self._epoch_start = root_total(self._monitor)[0], self._energy.steps

    def _scalars(self, now: bool = False) -> dict[str, float]:
        """For a log; empty where nothing is measured."""
        if not (self._live and getattr(self._monitor, "running", False)):
            return {}
        return {_PREFIX + name: value for name, value in self._energy.scalars(now).items()}

    def _epoch_scalars(self) -> dict[str, float]:
        found = self._scalars(now=True)
        if found:
            used_j, steps = found[f"{_PREFIX}total_j"] - self._epoch_start[0], self._energy.steps - self._epoch_start[1]
            found[f"{_PREFIX}epoch_j"] = used_j
            if steps:
                found[f"{_PREFIX}j_per_step"] = used_j / steps
        return found

    def _track(self, scalars: Mapping[str, float], step: int) -> None:
        if self._tracker is not None and scalars:
            self._tracker(dict(scalars), step)

    # ---- Keras: (logs), (batch, logs), (epoch, logs) ----

    def set_params(self, params: Any) -> None:
        self.params = params or {}

    def set_model(self, model: Any) -> None:
        self._model = model

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._begin("step")

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if len(args) < 3:  # Keras: (batch, logs)
            self._step_end()
            self._track(self._scalars(), self._energy.steps)
            return
        _, module, _, batch, *_ = args  # Lightning: (trainer, module, outputs, batch, index)
        self._step_end(batch)
        found = self._scalars()
        for name, value in found.items():
            module.log(name, value, on_step=True, on_epoch=False, batch_size=1)
        self._track(found, self._energy.steps)

    def on_test_begin(self, *args: Any, **kwargs: Any) -> None:
        self._begin("evaluation")

    def on_test_end(self, *args: Any, **kwargs: Any) -> None:
        self._end("evaluation")

    # ---- Hugging Face: (args, state, control, **kwargs), and Keras with fewer arguments ----

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._train_begin()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self._train_end()

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self._epoch_begin()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self._end("epoch")
        if len(args) < 3:  # Keras: (epoch, logs)
            found = self._epoch_scalars()
            logs = args[1] if len(args) > 1 else kwargs.get("logs")
            if isinstance(logs, dict):
                logs.update(found)
            self._track(found, self._energy.steps)
        else:
            self._evaluation_next(args[2])

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._begin("step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._step_end()
        seen = int(getattr(state, "num_input_tokens_seen", 0) or 0)
        if self._tokens is None:
            self._energy.tokens += max(seen - self._seen_tokens, 0)
        self._seen_tokens = seen
        self._evaluation_next(control)

    def _evaluation_next(self, control: Any) -> None:
        if getattr(control, "should_evaluate", False):
            self._begin("evaluation")

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        self._begin("evaluation")  # of `trainer.evaluate()` alone: its first step is over by now

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self._end("evaluation")

    def on_predict(self, *args: Any, **kwargs: Any) -> None:
        self._end("evaluation")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        found = self._scalars(now=True)
        if isinstance(logs, dict):
            logs.update(found)
        history = getattr(state, "log_history", None)
        if history:
            history[-1].update(found)
        self._track(found, int(state.global_step))

    # ---- Lightning: (trainer, module, ...) ----

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._train_begin()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int, *more: Any) -> None:
        self._begin("step")

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._epoch_begin()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._end("epoch")
        found = self._epoch_scalars()
        for name, value in found.items():
            if name.endswith("epoch_j"):  # the others are logged by step
                module.log(name, value, on_step=False, on_epoch=True, batch_size=1)
        self._track(found, self._energy.steps)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        if not getattr(trainer, "sanity_checking", False):
            self._begin("evaluation")

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self._end("evaluation")

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self._end(*self._windows)


def energy_callback(
    monitor: Any,
    *,
    tracker: Callable[[dict[str, float], int], None] | None = None,
    tokens: Callable[[Any], int] | int | None = None,
    every_s: float = 1.0,
) -> Any:
    """Make a callback for the trainers of Hugging Face, Lightning and Keras. Import the library first.

    The monitor gets the windows ``step``, ``epoch`` and ``evaluation``. The trainer's own logs get
    ``energy/j_per_step``, ``energy/power_w``, ``energy/total_j``, ``energy/epoch_j``, and ``energy/j_per_token`` where
    tokens are known. These are live numbers without bounds; the windows of the result have bounds.

    Parameters
    ----------
    monitor : Monitor
        A running monitor.
    tracker : callable, optional
        Gets each dictionary of numbers and the step: see `fastgreen.training.trackers`.
    tokens : int or callable, optional
        Tokens of a step: a number, or a function of the batch (Lightning). Hugging Face counts them itself with
        ``include_num_input_tokens_seen``.
    every_s : float
        Seconds of a mean in logs of single steps: shorter than a few updates of the sensor, it would jump.

    Returns
    -------
    callback

    Raises
    ------
    TypeError
        If `tracker` is not callable, or `tokens` is neither a number nor callable.
    """
    if tracker is not None and not callable(tracker):
        raise TypeError(f"tracker must be callable, not {tracker!r}")
    if tokens is not None and not callable(tokens) and (not isinstance(tokens, int) or tokens < 0):
        raise TypeError(f"tokens must be a number of 0 or more, or a function of the batch, not {tokens!r}")
    if not every_s >= 0:
        raise ValueError(f"every_s must be 0 or more, not {every_s!r}")
    bases: list[type] = []
    for library, path in _BASES.items():
        base: Any = sys.modules.get(library)
        for part in path.split("."):
            base = getattr(base, part, None)
        if isinstance(base, type) and base not in bases:
            bases.append(base)
    made = type("EnergyCallback", (_EnergyCallback, *(bases or [Quiet])), {})
    return made(monitor, tracker, tokens, every_s)
