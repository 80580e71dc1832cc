"""What all sparse studies measure: one training, and one inference, with bounds."""

import argparse
import csv
import json
import math
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

# Before the first run, not after the last.
MISSING = [name for name in ("torch", "sklearn", "scipy", "matplotlib") if find_spec(name) is None]
if MISSING:
    raise SystemExit(f"this example needs {', '.join(MISSING)}: pip install 'fastgreen[study,torch]'")

import torch
from networks import accuracy, batches
from torch import nn

import fastgreen as fg
from fastgreen.experiment import TrainingLog, compare, read, recording_of


def monitor() -> fg.Monitor:
    """A monitor; a machine without sensors is reported in the table instead of a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.errors.FastgreenWarning)
        return fg.Monitor(settle=True)


def train(network: nn.Module, data: tuple, step, *, prepare=None, epochs: int, batch: int, seed: int) -> dict:
    """Measure a training: `prepare` before it, if given, and `step` after the gradients of each batch.

    Returns
    -------
    dict
        ``seconds``, ``accuracy`` (the best), ``joules`` with ``low`` and ``high``, ``estimated``, the ``result`` and
        the ``log`` with a checkpoint for each epoch.
    """
    x, y, x_test, y_test = data
    order = torch.Generator().manual_seed(seed)
    meter = monitor()
    with meter, TrainingLog(meter, period_s=0.5) as log:
        if prepare is not None:
            prepare()
        for _ in range(epochs):
            for places in batches(len(x), batch, order):
                nn.functional.cross_entropy(network(x[places]), y[places]).backward()
                step()
            log.checkpoint(accuracy=accuracy(network, x_test, y_test), seen=len(x))
    result, table = meter.result, log.table()
    end = {name: table.column(name)[-1].as_py() for name in ("elapsed_s", "energy_j", "energy_low_j", "energy_high_j")}
    return {
        "seconds": end["elapsed_s"],
        "accuracy": max(table.column("accuracy").to_pylist()),
        "joules": end["energy_j"],
        "low": end["energy_low_j"],
        "high": end["energy_high_j"],
        "estimated": result.estimated,
        "result": result,
        "log": log,
    }


def inference(once, seconds: float = 0.5, repeats: int = 5) -> dict:
    """Measure inferences for `seconds`, several times: the medians of one with its bounds, and its time."""
    for _ in range(3):
        once()
    rows = []
    for _ in range(repeats):
        meter = monitor()
        with meter:
            window, count = meter.window("inference"), 0
            with window:
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    once()
                    count += 1
        row = meter.result.windows("inference").to_pylist()[0]
        rows.append([row[k] / count for k in ("energy_j", "energy_low_j", "energy_high_j", "duration_s")])
    middle = [sorted(column)[len(column) // 2] for column in zip(*rows, strict=True)]
    energies = [row[0] for row in rows]
    return {
        **dict(zip(("joules", "low", "high", "seconds"), middle, strict=True)),
        "least": min(energies),
        "most": max(energies),
        "estimated": meter.result.estimated,
    }


def at_the_wall(result, wall: Path | None) -> float:
    """Energy of a wall meter's recording over the time of a result, J; NaN without a recording."""
    return math.nan if wall is None else compare(recording_of(result), read(wall)).outer_j


# ---- tables ----


class Rows:
    """The finished rows of a study in a CSV file, so that an interrupted study continues."""

    def __init__(self, file: Path, identity: tuple[str, ...]) -> None:
        self.file, self.identity = file, identity
        file.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text() if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a row that was cut off is done again
        if whole != text:
            file.write_text(whole)
        self.rows = list(csv.DictReader(whole.splitlines()))

    def done(self, *identity: object) -> bool:
        """Whether there is a row of this identity."""
        return any(all(row[k] == str(v) for k, v in zip(self.identity, identity, strict=True)) for row in self.rows)

    def add(self, row: dict) -> None:
        """Write a row at once."""
        with self.file.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, list(row))
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        self.rows.append({name: str(value) for name, value in row.items()})

    def mean(self, name: str, **wanted: object) -> float:
        """Mean of a column over the rows with these values; NaN without a row."""
        values = [float(r[name]) for r in self.rows if all(r[k] == str(v) for k, v in wanted.items())]
        return sum(values) / len(values) if values else math.nan

    @property
    def estimated(self) -> bool:
        return any(row.get("estimated") == "True" for row in self.rows)


def show(title: str, header: list[str], lines: list[list[str]], estimated: bool) -> None:
    """Print a table; the title says whether the energies are estimated."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    print(f"\n{title}{', ESTIMATED, not measured' if estimated else ''}")
    for line in [header, *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def joules(value: float, low: float, high: float) -> str:
    """``1.23 (1.20 to 1.26)``"""
    return f"{value:.3g} ({low:.3g} to {high:.3g})"


def options(text: str, output: str, seeds: int, epochs: int | None) -> argparse.ArgumentParser:
    """The options that all studies have."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(output), help="folder; the study continues there")
    parser.add_argument("--seeds", type=int, default=seeds, help="trainings of each row")
    parser.add_argument("--epochs", type=int, default=epochs, help="of each training")
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    return parser


def claim(given: argparse.Namespace) -> None:
    """Set the threads, and refuse a folder that holds a study with other settings."""
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    settings = {k: v if isinstance(v, (int, float, list, type(None))) else str(v) for k, v in vars(given).items()}
    settings = {k: v for k, v in settings.items() if k not in ("output", "threads", "seeds")}
    file = given.output / "settings.json"
    given.output.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text(json.dumps(settings))
    elif (there := json.loads(file.read_text())) != settings:
        raise SystemExit(f"{given.output} holds a study with {there}; choose another folder with -o")
