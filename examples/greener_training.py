"""A small greener-training study: architecture x environment, several runs of each, then the savings and costs of a
change.

    python examples/greener_training.py [-o out/training] [--repeats 5]

Architectures are networks of different depth and width on the digits data; environments are the number of processor
threads. Every run adds its row to runs.csv, with the columns of the published table, so an interrupted study
continues. For your own study, change `ARCHITECTURES`, `ENVIRONMENTS` and `train`.
"""

import argparse
import csv
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

# Before the first run, not after the last.
MISSING = [name for name in ("sklearn", "scipy", "pandas", "scikit_posthocs", "matplotlib") if find_spec(name) is None]
if MISSING:
    raise SystemExit(f"this example needs {', '.join(MISSING)}: pip install 'fastgreen[study]'")

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

import fastgreen as fg
from fastgreen.experiment import TrainingLog

ARCHITECTURES = {"narrow": (16,), "deep": (64, 64, 64), "wide": (1024,)}
ENVIRONMENTS = {"1 thread": 1, "2 threads": 2}
EPOCHS = 25


def train(architecture: str, environment: str, seed: int) -> dict:
    """Measure one training; its row of the table."""
    pixels, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(pixels / 16, labels, test_size=0.3, random_state=seed, stratify=labels)
    model = MLPClassifier(ARCHITECTURES[architecture], random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.errors.FastgreenWarning)
        monitor = fg.Monitor()
    with threadpool_limits(ENVIRONMENTS[environment]), monitor, TrainingLog(monitor, carbon_g_per_kwh=232) as log:
        for _ in range(EPOCHS):
            model.partial_fit(x, y, classes=np.arange(10))
        chances = model.predict_proba(x_test)
        guess = chances.argmax(axis=1)
        log.checkpoint(
            accuracy=np.mean(guess == y_test),
            seen=EPOCHS * len(x),
            epoch=EPOCHS,
            f1=f1_score(y_test, guess, average="macro"),
            precision=precision_score(y_test, guess, average="macro", zero_division=0),
            recall=recall_score(y_test, guess, average="macro"),
            auc=roc_auc_score(y_test, chances, multi_class="ovr"),
        )
    return log.row(architecture=architecture, training_environment=environment, run=seed, batch_size=200)


def whole_rows(table: Path) -> list[dict]:
    """The rows of the runs so far. An incomplete last row is removed, so its run is done again."""
    if not table.exists():
        return []
    text = table.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        table.write_text(whole)
    return list(csv.DictReader(whole.splitlines()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("out/training"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / "runs.csv"
    done = {(row["architecture"], row["training environment"], int(row["run"])) for row in whole_rows(table)}
    for seed in range(options.repeats):
        for architecture in ARCHITECTURES:
            for environment in ENVIRONMENTS:
                if (architecture, environment, seed) in done:
                    continue
                row = train(architecture, environment, seed)
                with table.open("a", newline="") as stream:
                    writer = csv.DictWriter(stream, list(row))
                    if stream.tell() == 0:
                        writer.writeheader()
                    writer.writerow(row)
                print(f"run {seed}, {architecture}, {environment}: {row['energy (MJ)'] * 1e6:.1f} J", flush=True)
    command = [sys.executable, "-m", "fastgreen", "tradeoff", str(table), "-o", str(options.output / "tradeoff")]
    factors = ["--by", "architecture", "--by", "training environment"]
    raise SystemExit(subprocess.call([*command, *factors]))


if __name__ == "__main__":
    main()
