"""Pruning before the training: what SNIP and FORCE change in time, accuracy and energy.

    python examples/sparse/prune.py snip
    python examples/sparse/prune.py force --architecture VGG-D

A row per architecture, level of pruning and seed goes to runs.csv, so an interrupted study continues. The published
study trained LeNet5-Caffe on MNIST and VGG-D on CIFAR-10. Here both see scikit-learn's digits, enlarged, so that a
study takes minutes. The pruned weights stay in their dense matrices as zeros.
"""

from measure import Rows, claim, inference, joules, options, show, train  # first: it reports a missing package

# isort: split
import torch
from networks import ARCHITECTURES, digits, weights
from pruning import METHODS, apply, count_nonzero, kept_weights

LEVELS = {"LeNet5-Caffe": [0.0, 0.5, 0.9, 0.98], "VGG-D": [0.0, 0.95]}
IMAGES = {"LeNet5-Caffe": None, "VGG-D": 400}  # to train with
EPOCHS = {"LeNet5-Caffe": 15, "VGG-D": 3}
BATCH = {"LeNet5-Caffe": 50, "VGG-D": 25}
LEARNING_RATE = {"LeNet5-Caffe": 0.05, "VGG-D": 0.01}
STEPS = {"LeNet5-Caffe": 20, "VGG-D": 5}  # of FORCE; published: 60


def run(method: str, architecture: str, pruned: float, seed: int, epochs: int | None) -> dict:
    """Prune, train and measure once; its row."""
    make, channels, pixels = ARCHITECTURES[architecture]
    data = digits(channels, pixels, IMAGES[architecture])
    torch.manual_seed(seed)
    network = make()
    optimiser = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE[architecture], momentum=0.9, weight_decay=5e-4)

    def prepare() -> None:
        if pruned:
            steps = {"steps": STEPS[architecture]} if method == "force" else {}
            apply(network, METHODS[method](network, data[0][:100], data[1][:100], pruned, **steps))

    def step() -> None:
        optimiser.step()
        optimiser.zero_grad()

    # The method is a part of the training, so its energy counts.
    epochs = epochs or EPOCHS[architecture]
    found = train(network, data, step, prepare=prepare, epochs=epochs, batch=BATCH[architecture], seed=seed)
    network.eval()
    images = data[2][:16]
    with torch.inference_mode():
        one = inference(lambda: network(images))
    assert count_nonzero(network) <= kept_weights(network, pruned)
    return {
        "architecture": architecture,
        "pruned": pruned,
        "seed": seed,
        "parameters": kept_weights(network, pruned) if pruned else sum(w.numel() for w in weights(network)),
        **{name: found[name] for name in ("seconds", "accuracy", "joules", "low", "high", "estimated")},
        **{f"inference_{name}": one[name] / len(images) for name in ("seconds", "joules", "low", "high")},
    }


def table(rows: Rows, method: str) -> None:
    """The published table, by the means over the seeds."""
    lines, levels = [], []
    for architecture, pruned in dict.fromkeys((r["architecture"], r["pruned"]) for r in rows.rows):
        of = {"architecture": architecture, "pruned": pruned}
        wh = [rows.mean(name, **of) / 3600 for name in ("joules", "low", "high")]
        seconds, best = rows.mean("seconds", **of), rows.mean("accuracy", **of)
        share = f"{100 * float(pruned):g} %" if float(pruned) else "no"
        count = f"{rows.mean('parameters', **of):,.0f}"
        lines.append([architecture, "digits", share, count, f"{seconds:.1f} s", f"{best:.4f}", joules(*wh)])
        one = [rows.mean(f"inference_{name}", **of) * 1e3 for name in ("joules", "low", "high")]
        ms = rows.mean("inference_seconds", **of) * 1e3
        levels.append([architecture, share, f"{best:.4f}", f"{ms:.3g} ms", joules(*one)])
    header = ["architecture", "data", "pruned", "parameters", "time", "best accuracy", "Wh"]
    show(f"{method}: means over the seeds", header, lines, rows.estimated)
    header = ["architecture", "pruned", "best accuracy", "time of an inference", "mJ of an inference"]
    show(f"{method}: by level of pruning, batches of 16", header, levels, rows.estimated)


def main() -> None:
    parser = options(__doc__, "out/pruning", seeds=3, epochs=None)
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("--architecture", nargs="+", choices=list(ARCHITECTURES), default=["LeNet5-Caffe"])
    parser.add_argument("--levels", nargs="+", type=float, help="shares of the weights that are pruned")
    given = parser.parse_args()
    given.output = given.output / given.method
    architectures, given.architecture = given.architecture, None  # a folder may hold both
    claim(given)
    rows = Rows(given.output / "runs.csv", ("architecture", "pruned", "seed"))
    for architecture in architectures:
        for seed in range(given.seeds):
            for pruned in given.levels or LEVELS[architecture]:
                if not rows.done(architecture, pruned, seed):
                    rows.add(run(given.method, architecture, pruned, seed, given.epochs))
                    last = rows.rows[-1]
                    print(f"{architecture}, pruned {pruned:g}, seed {seed}: {float(last['accuracy']):.4f}", flush=True)
    table(rows, given.method)


if __name__ == "__main__":
    main()
