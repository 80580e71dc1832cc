"""Made-up machines: laws of energy that no set of work terms was written for, and tables measured on them."""

from __future__ import annotations

import numpy as np

from fastgreen.estimate.builtin import zoo
from fastgreen.estimate.counts import output_size
from fastgreen.estimate.layers import FREE, complete
from fastgreen.estimate.tables import Table

SERVER = {
    "Conv2d": {"batch_size": (1, 128), "image_size": (4, 224), "kernel_size": (1, 11), "in_channels": (1, 512),
               "out_channels": (1, 512), "stride": (1, 5), "padding": (0, 3)},
    "MaxPool2d": {"batch_size": (1, 128), "image_size": (4, 224), "kernel_size": (1, 11), "in_channels": (1, 512),
                  "stride": (1, 5), "padding": (0, 3)},
    "Linear": {"batch_size": (1, 512), "input_size": (1, 5000), "output_size": (1, 5000)},
    "ReLU": {"batch_size": (1, 512), "input_size": (4000, 5000000)},
}  # fmt: skip
BOARD = {"Conv2d": {**SERVER["Conv2d"], "in_channels": (1, 40), "out_channels": (1, 40), "batch_size": (1, 8)}}


def work(kind: str, sizes: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Multiply-accumulates (operations where there are none) and bytes, written down again from the layer alone."""
    c = {name: np.asarray(value, dtype=np.float64) for name, value in complete(kind, sizes).items()}
    batch = c["batch_size"]
    if kind == "Linear":
        weights = c["input_size"] * c["output_size"]
        return batch * weights, 4 * (batch * (c["input_size"] + c["output_size"]) + weights)
    if kind == "ReLU":
        return batch * c["input_size"], 8 * batch * c["input_size"]
    high, wide = (np.asarray(side, dtype=np.float64) for side in output_size(kind, **sizes))
    read, area = batch * c["in_channels"] * c["image_size"] ** 2, c["kernel_size"] ** 2
    if kind == "MaxPool2d":
        written = batch * c["in_channels"] * high * wide
        return written * area, 4 * (read + written)
    written, weights = batch * c["out_channels"] * high * wide, area * c["in_channels"] * c["out_channels"]
    return written * area * c["in_channels"], 4 * (read + written + weights)


LAWS = {
    "products, bytes and calls": lambda m, b: 1e-11 * m + 1.5e-10 * b + 5e-5,
    "dear bytes": lambda m, b: 1e-12 * m + 3e-9 * b + 1e-4,
    "cheap bytes": lambda m, b: 5e-11 * m + 1e-11 * b + 1e-5,
    "two caches": lambda m, b: 2e-11 * m + b * np.select([b < 2.5e6, b < 4e7], [2e-11, 8e-11], 3e-10) + 2e-5,
    "GPU with a launch": lambda m, b: 2e-3 + 5e-12 * m + 1e-10 * b,
    "GPU with a launch floor": lambda m, b: np.maximum(2e-3, 5e-12 * m + 1e-10 * b),
}


def draw(ranges: dict[str, tuple[int, int]], count: int, seed: int, pool: bool = False) -> dict[str, np.ndarray]:
    """Random layers within ranges, without impossible ones."""
    generator = np.random.default_rng(seed)
    found: list[dict[str, int]] = []
    while len(found) < count:
        one = {name: int(generator.integers(low, high, endpoint=True)) for name, (low, high) in ranges.items()}
        kernel = one.get("kernel_size", 1)
        if kernel <= one.get("image_size", kernel) and not (pool and one["padding"] > kernel // 2):
            found.append(one)
    return {name: np.array([one[name] for one in found]) for name in ranges}


def measured(law: str, kind: str, ranges: dict, count: int = 300, seed: int = 5, noise: float = 0.03) -> Table:
    """A table of random layers, measured on a made-up machine with normal noise."""
    sizes = draw(ranges[kind], count, seed, kind == "MaxPool2d")
    scatter = np.random.default_rng(seed + 100).normal(1, noise, count) if noise else 1.0
    return Table(kind, sizes, LAWS[law](*work(kind, sizes)) * scatter, f"{law}, {kind}")


def network_j(law: str, name: str, batch: int) -> float:
    """Energy of a built-in network on a made-up machine; layers that were not measured are left out."""
    total = 0.0
    for layer in zoo(name):
        if layer.kind in SERVER and layer.kind not in FREE:
            sizes = {size: value for size, value in layer.sizes.items() if size != "inplace"}
            total += float(LAWS[law](*work(layer.kind, {"batch_size": np.asarray(batch), **sizes})))
    return total
