"""The other files in a folder of AIPowerMeter: latencies, a summary of the model, results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.guards.untrusted import read_small
from fastgreen.recordings.recording import Recording
from fastgreen.units import counted

__all__ = ["read_beside"]

_MOST_BESIDE = 64 << 20  # bytes of a file of latencies: four million of them
_LONGEST_S = 1e9  # of one inference: 30 years


def read_beside(folder: Path, recording: Recording) -> None:
    """Read the other files of the folder; one that cannot be read becomes a note."""
    readers: dict[str, Callable[[str], Any]] = {
        "latency.csv": lambda text: np.array([float(x) for x in text.split()]),
        "latency.json": lambda text: np.array(json.loads(text), np.float64),
        "model_summary.json": json.loads,
        "results_exp.json": _documents,
    }
    for name, parse in readers.items():
        try:
            parsed = parse(read_small(folder / name, folder, _MOST_BESIDE).decode())
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, RecursionError, OverflowError) as error:
            recording.notes.append(f"{name} could not be read: {error}")
            continue
        if name.startswith("latency"):
            good = np.isfinite(parsed) & (parsed >= 0) & (parsed < _LONGEST_S)
            recording.latency_s = parsed[good]
            if not good.all():
                recording.notes.append(f"{counted(int((~good).sum()), 'line')} of {name} without a time: left out")
        else:
            recording.extra[name.removesuffix(".json")] = parsed


def _documents(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
