"""Whole studies instead of single measurements: many sizes, many repeats, resumed, compiled, tested, drawn.

The map, an arrow never pointing up or sideways::

    recording  <-  readers (text, timestamps; one per format)  <-  comparison, bridge  <-  writers
    tables, statistics  <-  tradeoffs                    protocols (models_torch)  <-  runner  <-  compile  <-  pictures
    gauges  <-  training  <-  callbacks                  gauges  <-  attribution, runner

Names load on first use, so that importing this costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Compiled": "compile",
    "Protocol": "protocols",
    "Recording": "recording",
    "Series": "training",
    "Study": "runner",
    "Tradeoff": "tradeoffs",
    "TrainingLog": "training",
    "TreeMeter": "attribution",
    "alexnet_series": "protocols",
    "attribute": "attribution",
    "bert_series": "protocols",
    "compare": "comparison",
    "compile_study": "compile",
    "convnet_series": "protocols",
    "draw_study": "pictures",
    "for_callable": "protocols",
    "for_command": "protocols",
    "for_onnx": "protocols",
    "for_torch": "protocols",
    "huggingface_callback": "callbacks",
    "keras_callback": "callbacks",
    "lightning_callback": "callbacks",
    "pareto_front": "pictures",
    "power_over_time": "pictures",
    "read": "readers",
    "read_aipowermeter": "readers",
    "read_codecarbon": "readers",
    "read_nvidia_smi": "readers",
    "read_omegawatt": "readers",
    "recording_of": "bridge",
    "resnet50_series": "protocols",
    "tradeoff": "tradeoffs",
    "write_power_metrics": "writers",
    "write_run": "writers",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
