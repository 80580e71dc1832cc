"""Savings of a pruned network: zeros save nothing; kernels that skip the zeros, and smaller matrices, save energy.

    python examples/sparse/savings.py

A network of 784-1024-1024-10 learns the digits, whole and pruned by SNIP. Each pruned network then answers in dense
matrices with zeros, by scipy.sparse and by torch.sparse. Beside them is a network from which whole neurons were taken,
with as many weights. The folder gets the study of the inferences, the table and the picture.

The interval of an energy holds all runs and the bounds of the meter. Where the energy is estimated, it holds the runs
only. APC is that of Wh for a million inferences. TTCAPC is the time of the training up to the best APC of the whole
network, or "never".
"""

import csv
import math
from pathlib import Path

from measure import claim, options, show, train  # first: it reports a missing package

# isort: split
import torch
from kernels import KERNELS, RUN, run_dense, without_neurons
from networks import dense_network, digits, weights
from pruning import apply, kept_weights, snip
from torch import nn

import fastgreen as fg
from fastgreen.experiment import Study, compile_study, for_callable

WIDTHS = (784, 1024, 1024, 10)
PER = 1e6 / 3600  # Wh of a million inferences for a J of one
DELTA = 0.01  # of the consumption in TTCAPC, Wh of a million inferences
STRUCTURED = "smaller matrices"


class Trained:
    """The networks of the study, each trained when it is asked for."""

    def __init__(self, widths: tuple[int, ...], epochs: int, images: int | None = None) -> None:
        self.widths, self.epochs = widths, epochs
        self.data = digits(1, 28, images)
        self._done: dict[tuple[float, bool], tuple[nn.Module, dict]] = {}

    def of(self, pruned: float, structured: bool) -> tuple[nn.Module, dict]:
        """The network and its training."""
        if (pruned, structured) not in self._done:
            torch.manual_seed(0)
            network = dense_network(*self.widths)
            x, y = self.data[0][:100], self.data[1][:100]
            if structured:
                network = without_neurons(network, x, y, kept_weights(network, pruned))
            elif pruned:
                apply(network, snip(network, x, y, pruned))
            optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)

            def step() -> None:
                optimiser.step()
                optimiser.zero_grad()

            found = train(network, self.data, step, epochs=self.epochs, batch=50, seed=0)
            self._done[pruned, structured] = network.eval(), found
        return self._done[pruned, structured]


def variants(levels: list[float]) -> dict[str, tuple[float, str]]:
    """Name of each variant -> share of the weights pruned, and how it is run."""
    out = {"whole": (0.0, "whole")}
    for pruned in levels:
        for how in (*KERNELS, STRUCTURED):
            out[f"{how}, {100 * pruned:g} %"] = pruned, how
    return out


def study(folder: Path, trained: Trained, levels: list[float], batch: int, iterations: int, repeats: int) -> list[dict]:
    """Measure every variant; its row: energy of one inference with its interval, time, accuracy, APC and TTCAPC."""
    chosen = variants(levels)
    images = trained.data[2][:batch]

    def build(name: str):
        pruned, how = chosen[name]
        network, _ = trained.of(pruned, how == STRUCTURED)
        once = RUN.get(how, run_dense)(network, images)
        torch.testing.assert_close(torch.as_tensor(once()), run_dense(network, images)(), atol=1e-3, rtol=1e-3)
        return once

    protocol = for_callable(
        build, list(chosen), factory=True, iterations=iterations, warmup=20, name="sparse", batch=batch
    )
    Study(folder, protocol, repeats=repeats, order="rounds").run()
    compiled = compile_study(folder)
    rows = []
    for size in compiled.sizes.to_pylist():
        name = size["size"]
        pruned, how = chosen[name]
        network, training = trained.of(pruned, how == STRUCTURED)
        runs = [run for run in compiled.runs.to_pylist() if run["size"] == name]
        ends = ("energy_j", "energy_j") if compiled.estimated else ("energy_low_j", "energy_high_j")
        low, high = min(run[ends[0]] for run in runs) / batch, max(run[ends[1]] for run in runs) / batch
        rows.append(
            {
                "variant": how,
                "pruned": pruned,
                "weights": sum(int(torch.count_nonzero(w)) for w in weights(network)),
                "accuracy": training["accuracy"],
                "joules": size["energy_j"] / batch,
                "low": low,
                "high": high,
                "seconds": size["latency_s"] / batch,
                "estimated": compiled.estimated,
                "log": training["log"],
            }
        )
    return scored(rows)


def scored(rows: list[dict]) -> list[dict]:
    """APC of each row with its interval, and the time to the best closest APC of the whole network."""
    (whole,) = (row for row in rows if row["variant"] == "whole")
    target = reached(whole, whole["joules"]).apc
    for row in rows:
        row["apc"], row["apc_low"], row["apc_high"] = (
            float(fg.apc(row[name] * PER, row["accuracy"])) for name in ("joules", "high", "low")
        )
        row["ttcapc"], row["ttcapc_low"], row["ttcapc_high"] = (
            reached(row, row[name], target).time for name in ("joules", "low", "high")
        )
    order = ["whole", *KERNELS, STRUCTURED]
    return sorted(rows, key=lambda row: (row["pruned"], order.index(row["variant"])))


def reached(row: dict, joules: float, target: float | None = None):
    """Time to the closest APC of a training, with the energy of an inference as its consumption."""
    table = row["log"].table()
    times, accuracies = (table.column(name).to_numpy() for name in ("elapsed_s", "accuracy"))
    consumption = [joules * PER] * len(times)
    return fg.time_to_closest_apc(times, accuracies, consumption, target=target, consumption_delta=DELTA)


# ---- what a reader sees ----


def table(rows: list[dict], batch: int) -> None:
    (whole,) = (row for row in rows if row["variant"] == "whole")
    lines = [
        [
            row["variant"],
            f"{100 * row['pruned']:g} %",
            f"{row['weights']:,}",
            f"{row['accuracy']:.4f}",
            f"{1e6 * row['seconds']:.0f}",
            f"{1e3 * row['joules']:.3g} ({1e3 * row['low']:.3g} to {1e3 * row['high']:.3g})",
            f"{row['joules'] / whole['joules']:.2f}",
            f"{row['apc']:.3f} ({row['apc_low']:.3f} to {row['apc_high']:.3f})",
            f"{time_of(row['ttcapc'])} ({time_of(row['ttcapc_low'])} to {time_of(row['ttcapc_high'])})",
        ]
        for row in rows
    ]
    header = ["run by", "pruned", "weights", "accuracy", "us", "mJ of an inference", "of whole", "APC", "TTCAPC in s"]
    show(f"savings by kernel, batch {batch}", header, lines, rows[0]["estimated"])


def time_of(seconds: float) -> str:
    return "never" if math.isinf(seconds) else f"{seconds:.1f}"


def picture(rows: list[dict], file: Path, batch: int) -> None:
    """Energy of an inference by level of pruning: a line per way to run it, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
    (whole,) = (row for row in rows if row["variant"] == "whole")
    axes.axhspan(1e3 * whole["low"], 1e3 * whole["high"], color="0.85", label="whole network, interval")
    axes.axhline(1e3 * whole["joules"], color="0.3", linewidth=1.2, label="whole network")
    styles = zip((*KERNELS, STRUCTURED), "osD^", ("#D55E00", "#0072B2", "#009E73", "#CC79A7"), strict=True)
    for i, (how, marker, colour) in enumerate(styles):
        mine = [row for row in rows if row["variant"] == how]
        place = [j + 0.06 * (i - 1.5) for j in range(len(mine))]
        middle = [1e3 * row["joules"] for row in mine]
        ends = [[1e3 * max(row["joules"] - row["low"], 0) for row in mine]]
        ends.append([1e3 * max(row["high"] - row["joules"], 0) for row in mine])
        axes.errorbar(place, middle, ends, marker=marker, color=colour, label=how, capsize=3, linewidth=1.3)
    levels = sorted({row["pruned"] for row in rows if row["pruned"]})
    axes.set_xticks(range(len(levels)), [f"{100 * level:g} %" for level in levels])
    axes.set_xlabel("weights pruned")
    axes.set_ylabel("mJ of an inference" + (" (estimated)" if whole["estimated"] else ""))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.set_title(f"Zeros in dense matrices save nothing (batch {batch})")
    axes.grid(alpha=0.3, which="both", axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def save(rows: list[dict], file: Path) -> None:
    with file.open("w", newline="") as stream:
        columns = [name for name in rows[0] if name != "log"]
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = options(__doc__, "out/savings", seeds=1, epochs=10)
    parser.add_argument("--levels", nargs="+", type=float, default=[0.9, 0.95, 0.98])
    parser.add_argument("--batch", type=int, default=1, help="images in an inference")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each variant")
    parser.add_argument("--iterations", type=int, default=1000, help="inferences in a run")
    given = parser.parse_args()
    claim(given)
    trained = Trained(WIDTHS, given.epochs)
    rows = study(given.output / "study", trained, given.levels, given.batch, given.iterations, given.repeats)
    table(rows, given.batch)
    save(rows, given.output / "table.csv")
    picture(rows, given.output / "savings.png", given.batch)
    print(f"picture and table: {given.output}")


if __name__ == "__main__":
    main()
