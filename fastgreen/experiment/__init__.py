"""Studies: many sizes and repeats, resumed after a break, compiled into tables, tested and drawn.

The files of this folder; a file imports only files to the left of its arrow::

    statistics  <-  tradeoffs        protocols (models_torch)  <-  runner  <-  compile  <-  pictures        attribution

This module also exports names of fastgreen.recordings (files of other tools) and of fastgreen.training (training logs).

Names load on first use, so that importing this module is fast.
"""

from __future__ import annotations

from fastgreen.guards.lazy_names import lazy_names

_HOME = {
    "Compiled": "fastgreen.experiment.compile",
    "Protocol": "fastgreen.experiment.protocols",
    "Recording": "fastgreen.recordings.recording",
    "Series": "fastgreen.training.log",
    "Study": "fastgreen.experiment.runner",
    "Tradeoff": "fastgreen.experiment.tradeoffs",
    "TrainingLog": "fastgreen.training.log",
    "TreeMeter": "fastgreen.experiment.attribution",
    "alexnet_series": "fastgreen.experiment.protocols",
    "attribute": "fastgreen.experiment.attribution",
    "bert_series": "fastgreen.experiment.protocols",
    "compare": "fastgreen.recordings.comparison",
    "compile_study": "fastgreen.experiment.compile",
    "convnet_series": "fastgreen.experiment.protocols",
    "draw_study": "fastgreen.experiment.pictures",
    "energy_callback": "fastgreen.training.energy_callback",
    "for_callable": "fastgreen.experiment.protocols",
    "for_command": "fastgreen.experiment.protocols",
    "for_onnx": "fastgreen.experiment.protocols",
    "for_torch": "fastgreen.experiment.protocols",
    "huggingface_callback": "fastgreen.training.callbacks",
    "keras_callback": "fastgreen.training.callbacks",
    "lightning_callback": "fastgreen.training.callbacks",
    "median_energies": "fastgreen.recordings.energy_rules",
    "window_energies": "fastgreen.recordings.energy_rules",
    "mlflow_tracker": "fastgreen.training.trackers",
    "pareto_front": "fastgreen.experiment.pictures",
    "power_over_time": "fastgreen.experiment.pictures",
    "read": "fastgreen.recordings.readers",
    "read_aipowermeter": "fastgreen.recordings.readers",
    "read_codecarbon": "fastgreen.recordings.readers",
    "read_dmon": "fastgreen.recordings.readers",
    "read_nvidia_smi": "fastgreen.recordings.readers",
    "read_omegawatt": "fastgreen.recordings.readers",
    "read_perf_stat": "fastgreen.recordings.readers",
    "read_perun": "fastgreen.recordings.readers",
    "read_ptdaemon": "fastgreen.recordings.readers",
    "read_rocm_smi": "fastgreen.recordings.readers",
    "read_table": "fastgreen.recordings.readers",
    "read_tegrastats": "fastgreen.recordings.readers",
    "read_turbostat": "fastgreen.recordings.readers",
    "read_amd_smi": "fastgreen.recordings.readers",
    "read_carbontracker": "fastgreen.recordings.readers",
    "read_home_assistant": "fastgreen.recordings.readers",
    "read_influxdb": "fastgreen.recordings.readers",
    "read_zeus": "fastgreen.recordings.readers",
    "recording_of": "fastgreen.recordings.recording",
    "resnet50_series": "fastgreen.experiment.protocols",
    "summary_series": "fastgreen.experiment.protocols",
    "scalars_of": "fastgreen.training.trackers",
    "tensorboard_tracker": "fastgreen.training.trackers",
    "tradeoff": "fastgreen.experiment.tradeoffs",
    "wandb_tracker": "fastgreen.training.trackers",
    "write_power_metrics": "fastgreen.recordings.published_layout",
    "write_run": "fastgreen.recordings.published_layout",
}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
