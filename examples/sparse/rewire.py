"""Deep rewiring: joules, time and accuracy of Deep R, its global constraint and soft Deep R.

    python examples/sparse/rewire.py
    python examples/sparse/rewire.py --wall wattmeter.csv     # a recording that covers the whole study

The network is LeNet-300-100 (266 200 weights), of which a tenth is connected. A row per variant and seed goes to
runs.csv, so an interrupted study continues. The dense training of the same network is beside them.
"""

import math
from pathlib import Path

from measure import Rows, at_the_wall, claim, joules, options, show, train  # first: it reports a missing package

# isort: split
import torch
from networks import dense_network, digits, weights
from rewiring import VARIANTS, Rewiring

WIDTHS = (784, 300, 100, 10)


def run(variant: str, connectivity: float, seed: int, epochs: int, wall: Path | None) -> dict:
    """Train and measure once; its row."""
    data = digits(1, 28)
    torch.manual_seed(seed)
    network = dense_network(*WIDTHS)
    total = sum(w.numel() for w in weights(network))
    if variant == "dense":
        optimiser = torch.optim.SGD(network.parameters(), lr=0.05)

        def step() -> None:
            optimiser.step()
            optimiser.zero_grad()

        active = lambda: total  # noqa: E731
    else:
        rewiring = Rewiring(network, variant, connectivity, seed=seed)
        step, active = rewiring.step, lambda: rewiring.active
    found = train(network, data, step, epochs=epochs, batch=10, seed=seed)
    return {
        "variant": variant,
        "seed": seed,
        "active": active(),
        **{name: found[name] for name in ("seconds", "accuracy", "joules", "low", "high", "estimated")},
        "wall": at_the_wall(found["result"], wall),
    }


def table(rows: Rows) -> None:
    lines = []
    for variant in dict.fromkeys(r["variant"] for r in rows.rows):
        of = {"variant": variant}
        inner = [rows.mean(name, **of) for name in ("joules", "low", "high")]
        wall = rows.mean("wall", **of)
        lines.append(
            [
                variant,
                f"{rows.mean('active', **of):,.0f}",
                joules(*inner),
                "-" if math.isnan(wall) else f"{wall:.4g}",
                f"{rows.mean('seconds', **of):.1f}",
                f"{rows.mean('accuracy', **of):.4f}",
            ]
        )
    header = ["variant", "active connections", "J inside", "J at the wall", "s", "best accuracy"]
    show("deep rewiring: means over the seeds", header, lines, rows.estimated)


def main() -> None:
    parser = options(__doc__, "out/rewiring", seeds=3, epochs=10)
    parser.add_argument("--connectivity", type=float, default=0.1)
    parser.add_argument("--wall", type=Path, help="recording of a wall meter, in a form that `fastgreen import` reads")
    given = parser.parse_args()
    claim(given)
    rows = Rows(given.output / "runs.csv", ("variant", "seed"))
    for seed in range(given.seeds):
        for variant in ("dense", *VARIANTS):
            if not rows.done(variant, seed):
                rows.add(run(variant, given.connectivity, seed, given.epochs, given.wall))
                print(f"{variant}, seed {seed}: {float(rows.rows[-1]['accuracy']):.4f}", flush=True)
    table(rows)


if __name__ == "__main__":
    main()
