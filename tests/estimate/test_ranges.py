"""What a range promises: about nine in ten layers, also those of networks, which no model was fitted on."""

import numpy as np
import pytest

from fastgreen.estimate.evaluate import layer_ranges
from fastgreen.estimate.modelfile import ModelSet, default_models, load_models
from fastgreen.estimate.physical import PhysicalModel
from fastgreen.estimate.spread import Spread
from fastgreen.estimate.tables import Table, read_networks
from tests.oracles.layer_data import LAYERWISE, needs_data, tables
from tests.oracles.made_up_laws import SERVER, measured

DEFAULT = default_models()
# Median of (high - low) / prediction inside networks, of ranges that were percentiles over a whole table.
EARLIER_WIDTH = {"Conv2d": 0.3695, "MaxPool2d": 0.1722, "Linear": 0.1799, "ReLU": 2.2584}
MOST_WIDENED = {"Conv2d": 1.5, "MaxPool2d": 1.7, "Linear": 2.7, "ReLU": 1.5}


@needs_data
def test_nine_in_ten_is_true_enough_for_layers_inside_networks():
    found = layer_ranges(read_networks(*LAYERWISE), DEFAULT)
    for kind, most in MOST_WIDENED.items():
        measured_j, predicted, low, high, outside = found[kind]
        inside = ~outside.astype(bool)
        held = (low <= measured_j) & (measured_j <= high)
        assert held[inside].mean() >= 0.85, kind
        width = (high - low) / predicted
        assert np.median(width[inside]) <= most * EARLIER_WIDTH[kind], kind


@needs_data
def test_ranges_of_the_tables_themselves_hold_nine_in_ten():
    for kind, table in tables().items():
        model = DEFAULT.models[kind]
        predicted = model.predict_j(table.sizes)
        low, high = model.bounds_j(predicted, np.asarray(False), table.sizes)
        held = (low <= table.energy_j) & (table.energy_j <= high)
        assert 0.87 <= held.mean() <= 0.97, kind


@needs_data
def test_a_layer_of_products_has_a_narrower_range_than_one_of_new_memory():
    model = DEFAULT.models["Conv2d"]

    def width(**sizes):
        layer = {"batch_size": 64, "stride": 1, "padding": 1, **sizes}
        low, high = model.bounds_j(np.asarray(1.0), np.asarray(False), layer)
        return float(high - low)

    products = width(image_size=28, kernel_size=3, in_channels=512, out_channels=512)
    memory = width(image_size=224, kernel_size=3, in_channels=3, out_channels=64)
    assert products < 0.6 * memory


def test_a_price_that_differs_from_layer_to_layer_widens_the_layers_that_pay_it():
    rng = np.random.default_rng(4)
    table = measured("products, bytes and calls", "Linear", SERVER, count=400, noise=0)
    weights = 4 * table.sizes["input_size"] * table.sizes["output_size"]
    energy = table.energy_j + 5e-10 * weights * np.exp(rng.normal(0, 0.5, 400))
    model = PhysicalModel.fit(Table("Linear", table.sizes, energy), "basic")
    sizes = {"batch_size": np.array([4, 512]), "input_size": 3000, "output_size": 3000}
    low, high = model.bounds_j(np.ones(2), np.asarray(False), sizes)
    few, many = np.log(high / low)
    assert few > 1.8 * many
    # The true factors are spread by 0.5 over most of the energy: nine in ten are within 1.65 on a logarithmic scale.
    assert 0.6 * 1.65 < few < 1.3 * 1.65


def test_the_range_of_an_exact_law_has_no_width():
    table = measured("products, bytes and calls", "Linear", SERVER, noise=0)
    model = PhysicalModel.fit(table, "basic")
    low, high = model.bounds_j(np.asarray(1.0), np.asarray(False), {"batch_size": 8, "input_size": 9, "output_size": 9})
    assert float(high - low) < 1e-3


@pytest.mark.parametrize("noise", [0.03, 0.2])
def test_nine_in_ten_unseen_layers_are_inside_their_range(noise):
    model = PhysicalModel.fit(measured("dear bytes", "Conv2d", SERVER, noise=noise))
    fresh = measured("dear bytes", "Conv2d", SERVER, count=1000, seed=9, noise=noise)
    low, high = model.bounds_j(model.predict_j(fresh.sizes), np.asarray(False), fresh.sizes)
    assert 0.86 <= ((low <= fresh.energy_j) & (fresh.energy_j <= high)).mean() <= 0.96


def test_outside_the_fitted_sizes_the_range_is_not_narrower():
    for kind, model in DEFAULT.models.items():
        sizes = {name: np.array([low, high]) for name, (low, high) in model.ranges.items()}
        if "kernel_size" in sizes:
            sizes |= {"image_size": np.array([32, 224]), "padding": np.array([0, 0])}
        (low, out_low), (high, out_high) = (
            np.array([model.bounds_j(np.ones(2), np.asarray(out), sizes)[side] for out in (False, True)])
            for side in (0, 1)
        )
        assert (out_low <= low).all(), kind
        assert (out_high >= high).all(), kind


def test_a_range_survives_its_file(tmp_path):
    model = PhysicalModel.fit(measured("two caches", "Conv2d", SERVER))
    ModelSet({"Conv2d": model}, "made up").save(tmp_path / "models.json")
    assert load_models(tmp_path / "models.json").models["Conv2d"].spread == model.spread


def test_a_model_without_errors_of_prices_keeps_its_one_range():
    prices = {"macs": 1e-9, "bytes_in": 0.0, "bytes_out": 0.0, "bytes_weights": 0.0, "calls": 0.0}
    model = PhysicalModel("Linear", "basic", prices, {}, 10, (0.9, 1.2), (0.5, 1.1))
    sizes = {"batch_size": 2, "input_size": 3, "output_size": 4}
    inside, outside = (model.bounds_j(np.asarray(2.0), np.asarray(out), sizes) for out in (False, True))
    assert [float(one) for one in inside] == pytest.approx([1.8, 2.4])
    assert [float(one) for one in outside] == pytest.approx([1.0, 2.4])


@pytest.mark.parametrize("change", [{"rest": -1.0}, {"rest": float("nan")}, {"low": 0.5}, {"high": -0.5},
                                    {"terms": {"macs": -0.1}}])  # fmt: skip
def test_errors_of_prices_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError, match="deviations"):
        Spread(**{"terms": {"macs": 0.1}, "rest": 0.1, "low": -1.0, "high": 1.0, **change})


def test_errors_of_other_prices_are_refused():
    prices = {"macs": 1e-9, "bytes_in": 0.0, "bytes_out": 0.0, "bytes_weights": 0.0, "calls": 0.0}
    with pytest.raises(ValueError, match="exactly the terms"):
        PhysicalModel("Linear", "basic", prices, {}, 10, spread=Spread({"macs": 0.1}, 0.1, -1.0, 1.0))
