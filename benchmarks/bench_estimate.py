"""Time of estimates and ablations, compared with one batch or one subset at a time."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ratios import interleaved
from fastgreen.estimate.builtin import zoo
from fastgreen.estimate.network import Network
from fastgreen.estimate.subsets import ablation
from fastgreen.estimate.tables import Table

BATCHES = np.arange(1, 10_001)


def test_vgg16_for_ten_thousand_batch_sizes_takes_less_than_a_second(benchmark, bar):
    network = Network(zoo("vgg16"), "vgg16")
    single = [network.estimate(int(batch)).energy_j for batch in BATCHES[::2500]]
    np.testing.assert_allclose(network.grid(BATCHES)["energy_j"].to_numpy()[::2500], single, rtol=1e-12)
    benchmark(network.grid, BATCHES)
    bar("VGG16 for 10000 batch sizes", "< 1 s", benchmark.stats["median"])


def test_a_grid_is_a_hundred_times_as_fast_as_its_estimates_one_by_one(benchmark, bar):
    network = Network(zoo("vgg16"), "vgg16")
    some = BATCHES[:100]

    def one_by_one():
        return [network.energy_j([int(batch)])[0].sum() for batch in some]

    np.testing.assert_allclose(one_by_one(), network.grid(some)["energy_j"].to_numpy(), rtol=1e-12)
    ratio = interleaved(one_by_one, lambda: network.grid(BATCHES), rounds=7) * len(BATCHES) / len(some)
    benchmark.pedantic(network.grid, args=(some,), rounds=5)
    bar("estimates one by one, over a grid of them", "> 100", ratio)


@pytest.fixture
def table():
    rng = np.random.default_rng(6)
    names = ("batch_size", "image_size", "kernel_size", "in_channels", "out_channels", "stride", "padding")
    sizes = {name: rng.integers(4, 30, 976) for name in names}
    sizes["kernel_size"] = rng.integers(1, 4, 976)
    return Table("Conv2d", sizes, rng.uniform(1, 2, 976) * sizes["batch_size"])


def test_every_subset_of_up_to_three_features_is_three_times_as_fast_as_refitting_them(table, benchmark, bar):
    from sklearn.linear_model import LinearRegression

    from fastgreen.estimate.linear import SETS, features
    from fastgreen.estimate.prices import folds

    x = features(table.sizes, "Conv2d", tuple(table.sizes), SETS)
    fold = folds(len(table))
    found = ablation(table, most=3, jobs=1)
    assert found.num_rows == 15 + 105 + 455

    def refit_twenty():
        for column in range(20):
            chosen = x[:, [column % 15, (column + 1) % 15, (column + 2) % 15]]
            for part in range(5):
                LinearRegression().fit(chosen[fold != part], table.energy_j[fold != part]).predict(chosen[fold == part])

    ratio = interleaved(refit_twenty, lambda: ablation(table, most=3, jobs=1), rounds=7) * found.num_rows / 20
    benchmark.pedantic(ablation, args=(table,), kwargs={"most": 2, "jobs": 1}, rounds=3)
    bar("refits of every subset of three features, over `ablation`", "> 3", ratio)
