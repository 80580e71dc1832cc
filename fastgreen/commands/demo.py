"""The demonstration: train small classifiers, then measure the energy of their inferences."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from fastgreen.commands.common import JsonAnswer, json_options, table
from fastgreen.metrics.scores import apc, apec
from fastgreen.metrics.sweep import Sweep
from fastgreen.results.console import people_console, quantity, with_bounds

if TYPE_CHECKING:
    from fastgreen.measuring.monitor import Monitor

__all__ = ["demo"]


@dataclass
class Row:
    """One classifier's outcome; energies per inference in J, latency per batch in s."""

    model: str
    accuracy: float
    inferences: int
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    mean_power_w: float
    latency_p50_s: float
    latency_p99_s: float
    training_j: float
    estimated: bool
    bounds: str
    wh_per_million: float
    apc: float
    apec: float


def _classifiers() -> dict[str, Any]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "naive Bayes": GaussianNB(),
        "5 nearest neighbours": KNeighborsClassifier(5),
        "random forest, 100 trees": RandomForestClassifier(100, random_state=0),
        "SVM, RBF kernel": make_pipeline(StandardScaler(), SVC()),
        "MLP, 64-32": make_pipeline(StandardScaler(), MLPClassifier((64, 32), max_iter=300, random_state=0)),
    }


def _work(monitor: Monitor, seconds: float, batch: int, console: Console) -> dict[str, tuple[float, int]]:
    """Train and run every classifier; name -> (accuracy, inferences a batch)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(digits, labels, test_size=0.4, random_state=0, stratify=labels)
    batches = [test_x[i : i + batch] for i in range(0, len(test_x) - batch + 1, batch)]
    outcome = {}
    for name, model in _classifiers().items():
        console.print(f"  {name} ...")
        with monitor.window(f"train {name}"):
            model.fit(train_x, train_y)
        outcome[name] = (float(np.mean(model.predict(test_x) == test_y)), batch)
        infer = monitor.window(f"infer {name}")
        until = time.monotonic() + seconds
        count = 0
        while time.monotonic() < until:
            with infer:
                model.predict(batches[count % len(batches)])
            count += 1
    return outcome


def _rows(summary: list[dict[str, Any]], outcome: dict[str, tuple[float, int]], price: float) -> list[Row]:
    """`price` is in cents per kWh; APC scores Wh, APEC (beta 10, as published) cents, of a million inferences."""
    by_name = {row["name"]: row for row in summary}
    rows = []
    for name, (accuracy, batch) in outcome.items():
        wh = by_name[f"infer {name}"]["mean_energy_j"] / batch * 1e6 / 3600
        infer, train = by_name[f"infer {name}"], by_name[f"train {name}"]
        rows.append(
            Row(
                name,
                accuracy,
                infer["count"] * batch,
                infer["mean_energy_j"] / batch,
                infer["mean_energy_low_j"] / batch,
                infer["mean_energy_high_j"] / batch,
                infer["mean_power_w"],
                infer["duration_p50_s"],
                infer["duration_p99_s"],
                train["energy_j"],
                infer["estimated"],
                infer["bounds"],
                wh,
                float(apc(wh, accuracy)),
                float(apec(wh / 1000 * price, accuracy, beta=10.0)),
            )
        )
    return rows


def _table(rows: list[Row]) -> Table:
    return table("energy of one inference", [_cells(row) for row in rows])


def _cells(r: Row) -> dict[str, str]:
    energy, between = with_bounds(r.energy_j, r.energy_low_j, r.energy_high_j, "J", 3, r.bounds)
    return {
        "model": r.model,
        "accuracy": f"{r.accuracy:.4f}",
        "mean": energy,
        "between": between,
        "power": quantity(r.mean_power_w, "W", 3),
        "batch p50": quantity(r.latency_p50_s, "s", 3),
        "p99": quantity(r.latency_p99_s, "s", 3),
        "APC": f"{r.apc:.4f}",
        "APEC": f"{r.apec:.4f}",
    }


def _draw(rows: list[Row], path: Path) -> Path:
    """The classifiers on the heat map of APC."""
    from fastgreen.plot import heat_map

    consumption = np.linspace(0, 1.15 * max(r.wh_per_million for r in rows), 201)
    accuracy = np.linspace(max(0.0, min(r.accuracy for r in rows) - 0.15), 1, 201)
    mark = ", estimated energy" if any(r.estimated for r in rows) else ""
    heat_map(
        Sweep("apc", consumption=consumption, accuracy=accuracy, unit="Wh per million inferences"),
        models=[(r.model, r.wh_per_million, r.accuracy) for r in rows],
        title=f"APC of six classifiers of handwritten digits{mark}",
        path=path,
    )
    return path


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("out/demo"),
    show_default=True,
    help="Folder for the saved run and the picture.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, help="Seconds of inference per model."
)
@click.option(
    "--batch",
    type=click.IntRange(1, 700),
    default=32,
    show_default=True,
    help="Inferences per batch; each batch is one window.",
)
@click.option(
    "--price",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Price of energy in cents per kWh, for APEC.",
)
@json_options()
def demo(output: Path, seconds: float, batch: int, price: float, answer: JsonAnswer) -> None:
    """Train six small classifiers and measure their inferences.

    scikit-learn trains the classifiers to read handwritten digits. The demo measures each batch of inferences.
    """
    from fastgreen.measuring.monitor import Monitor

    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            "the demo needs scikit-learn and matplotlib: pip install 'fastgreen[demo]'"
        ) from error
    console = people_console(stderr=answer.printed)
    folder = output / time.strftime("run-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    with Monitor(record=folder) as monitor:
        if any(c.estimated for c in monitor.channels):
            console.print(
                "[bold]No CPU energy counter can be read here: CPU energies are ESTIMATED from CPU time.[/bold] "
                "`fastgreen channels` gives the reason."
            )
        if not monitor.channels:
            console.print("[bold]No channel can be read here; `fastgreen channels` gives the reasons.[/bold]")
        console.print(f"measuring {', '.join(c.id for c in monitor.channels)}", markup=False)
        outcome = _work(monitor, seconds, batch, console)
    result = monitor.result
    rows = _rows(result.summary().to_pylist(), outcome, price)
    picture = _draw(rows, folder / "apc.png")
    if answer.give(lambda: {"run": str(folder), "picture": str(picture), "models": [asdict(r) for r in rows]}):
        return
    console.print(_table(rows))
    console.print(
        f"whole run: {quantity(result.energy_j, 'J')} in {quantity(result.duration_s, 's')}"
        + (" (estimated)" if result.estimated else "")
    )
    console.print(
        f"APC compares accuracy with the Wh, APEC with the cents (at {price:g} ct/kWh) of a million inferences.\n"
        f"picture: {picture}",
        markup=False,
        soft_wrap=True,
    )
    console.print(f"saved: {folder}; show it again with: fastgreen report {folder}", markup=False)
