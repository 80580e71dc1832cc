"""Physical models: the bars they must clear, and that they are physical."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgreen.estimate.baseline import layers_by_mac, mac_price, networks_by_mac
from fastgreen.estimate.evaluate import (
    cross_validate,
    extrapolate,
    networks,
    networks_by_layer,
    score,
    split_scores,
)
from fastgreen.estimate.layers import complete
from fastgreen.estimate.modelfile import default_models, fit_physical, load_models
from fastgreen.estimate.physical import PhysicalModel
from fastgreen.estimate.prices import fit_prices
from fastgreen.estimate.published import PRESET
from fastgreen.estimate.tables import Table, read_networks
from fastgreen.estimate.work import TERMS, terms
from tests.oracles.layer_data import ALL_NETWORKS, LAYERWISE, needs_data, tables

DEFAULT = default_models()


@functools.cache
def fitted():
    return fit_physical(tables())


@needs_data
@pytest.mark.parametrize(("files", "count"), [(LAYERWISE, 62), (ALL_NETWORKS, 167)])
@pytest.mark.parametrize("repeats", ["agreeing", "all", "median"])
def test_whole_networks_are_within_five_percent_without_ever_being_fitted_on(files, count, repeats):
    found = networks(read_networks(*files, repeats=repeats), fitted())
    one = score(found["measured_j"], found["predicted_j"])
    assert one.rows == count
    assert one.r2 >= 0.995
    assert one.mape <= (0.05 if repeats == "all" else 0.03)


@needs_data
def test_test_rows_of_conv_pool_and_linear():
    found = split_scores(tables(), "kernel")
    assert all(found[kind].r2 >= 0.99 for kind in ("Conv2d", "MaxPool2d", "Linear"))


@needs_data
def test_cross_validation_on_the_layer_tables_alone_prefers_the_kernel_terms():
    for kind, table in tables().items():
        assert cross_validate(table, "kernel").mape <= cross_validate(table, "basic").mape, kind


@needs_data
@pytest.mark.parametrize(("kind", "most"), [("Conv2d", 0.062), ("MaxPool2d", 0.037), ("Linear", 0.041)])
def test_published_test_rows_are_as_near_as_promised(kind, most):
    assert split_scores({kind: tables()[kind]}, None)[kind].mape <= most


@needs_data
def test_layers_of_networks_are_as_near_as_promised_and_convolutions_without_a_bias():
    pairs = networks_by_layer(read_networks(*LAYERWISE), DEFAULT)
    for kind, most in {"Conv2d": 0.062, "MaxPool2d": 0.0975, "Linear": 0.124, "ReLU": 0.291}.items():
        assert score(*pairs[kind]).mape <= most, kind
    measured, predicted = pairs["Conv2d"]
    assert abs(np.median(predicted / measured) - 1) < 0.02


@needs_data
def test_one_price_per_product_is_nearly_as_good_for_networks_and_far_worse_for_layers():
    measured, price = read_networks(*LAYERWISE), mac_price(tables())
    found = networks_by_mac(measured, price)
    one = score(found["measured_j"], found["predicted_j"])
    assert (round(one.r2, 3), round(one.mape, 3)) == (0.996, 0.063)
    layers = layers_by_mac(measured, price)["Conv2d"]
    assert score(*layers).mape > 4 * score(*networks_by_layer(measured, DEFAULT)["Conv2d"]).mape


@needs_data
@pytest.mark.parametrize("kind", ["Conv2d", "MaxPool2d", "Linear"])
def test_beyond_the_fitted_energies_physical_models_err_less_than_the_published_ones(kind):
    physical, published = (extrapolate(tables()[kind], what) for what in ("kernel", PRESET[kind]))
    assert physical.mape < 0.25 * published.mape


@needs_data
def test_layers_of_networks_are_better_than_the_published_models_in_every_kind():
    pairs = networks_by_layer(read_networks(*LAYERWISE), DEFAULT)
    found = {kind: score(*pair).r2 for kind, pair in pairs.items() if kind in DEFAULT.models}
    published = {"Conv2d": 0.314, "MaxPool2d": 0.559, "Linear": 0.977, "ReLU": -21.5}
    assert all(found[kind] > published[kind] for kind in published)


@needs_data
def test_the_range_of_a_network_holds_most_measured_ones():
    found = networks(read_networks(*ALL_NETWORKS), DEFAULT)
    inside = (found["low_j"] <= found["measured_j"]) & (found["measured_j"] <= found["high_j"])
    assert inside.mean() >= 0.9


@needs_data
def test_the_models_that_come_with_the_package_are_the_fit_of_the_published_tables(tmp_path):
    path = tmp_path / "models.json"
    fitted().save(path)
    again = load_models(path)
    assert list(again.models) == list(DEFAULT.models)
    for kind, model in DEFAULT.models.items():
        for name, price in model.prices.items():
            assert again.models[kind].prices[name] == pytest.approx(price, rel=1e-6, abs=1e-20)
        assert again.models[kind].ranges == model.ranges
        assert again.models[kind].residual == pytest.approx(model.residual, rel=1e-6)


def test_the_models_that_come_with_the_package_say_where_they_are_from():
    assert "Xeon Gold 5120" in DEFAULT.machine
    assert "MIT" in DEFAULT.source
    assert "Getzner" in DEFAULT.source
    assert DEFAULT.estimated is False


sizes = {
    "Conv2d": {"image_size": (1, 300), "kernel_size": (1, 13), "in_channels": (1, 700), "out_channels": (1, 700),
               "stride": (1, 6), "padding": (0, 6)},
    "MaxPool2d": {"image_size": (1, 300), "kernel_size": (1, 13), "in_channels": (1, 700), "stride": (1, 6)},
    "Linear": {"input_size": (1, 30000), "output_size": (1, 30000)},
    **{kind: {"input_size": (1, 10**7)} for kind in ("ReLU", "Sigmoid", "Tanh", "Softmax")},
}  # fmt: skip
WORK = ("batch_size", "image_size", "in_channels", "out_channels", "input_size", "output_size")


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_energy_is_positive_and_does_not_fall_when_work_grows(data):
    kind = data.draw(st.sampled_from(sorted(sizes)))
    layer = {name: data.draw(st.integers(*pair), label=name) for name, pair in sizes[kind].items()}
    layer["batch_size"] = data.draw(st.integers(1, 1000), label="batch_size")
    if kind in ("Conv2d", "MaxPool2d"):
        layer["kernel_size"] = min(layer["kernel_size"], layer["image_size"] + 2 * layer.get("padding", 0))
    grown = data.draw(st.sampled_from([name for name in WORK if name in layer]), label="grown")
    more = {**layer, grown: layer[grown] + data.draw(st.integers(1, 200), label="by")}
    model = DEFAULT.models[kind]
    small, large = float(model.predict_j(layer)), float(model.predict_j(more))
    assert small > 0
    assert large >= small * (1 - 1e-12)


@pytest.mark.parametrize("which", list(TERMS))
@pytest.mark.parametrize("kind", sorted(sizes))
def test_terms_are_never_negative_and_broadcast(kind, which):
    layer = {
        name: np.array([[max(low, 1)], [min(high, 40)]])
        for name, (low, high) in sizes[kind].items()
        if name != "padding"
    }
    found = terms(kind, complete(kind, {**layer, "batch_size": np.array([[1, 2, 3]])}), which)
    assert tuple(found) == TERMS[which][kind]
    for value in found.values():
        assert (value >= 0).all()
        assert np.broadcast_shapes(value.shape, (2, 3)) == (2, 3)


def test_a_smallest_layer_costs_a_call_and_not_the_intercept_of_a_large_one():
    tiny = {"batch_size": 1, "image_size": 1, "kernel_size": 1, "in_channels": 1, "out_channels": 1}
    assert 0 < float(DEFAULT.models["Conv2d"].predict_j(tiny)) < 0.02


def test_prices_that_made_the_data_are_found_again_despite_rows_gone_astray():
    rng = np.random.default_rng(8)
    work = rng.uniform(0, 1, (300, 3)) * [1e9, 1e7, 1.0] + [0, 0, 0.5]
    true = np.array([2e-9, 5e-8, 0.5])
    energy = work @ true * rng.normal(1, 0.01, 300)
    energy[::20] *= 0.5
    np.testing.assert_allclose(fit_prices(work, energy), true, rtol=0.05)


def test_a_term_that_lowers_energy_gets_the_price_zero():
    work = np.column_stack([np.arange(1.0, 51), np.arange(50.0, 0, -1)])
    assert fit_prices(work, 3.0 * np.arange(1.0, 51))[1] == pytest.approx(0, abs=1e-9)


def test_a_row_without_energy_is_named():
    layer = {"batch_size": np.arange(1, 21), "input_size": np.full(20, 9)}
    with pytest.raises(ValueError, match="energy of row 2 must be above 0, not 0 J"):
        PhysicalModel.fit(Table("ReLU", layer, np.where(np.arange(20) == 2, 0.0, np.arange(1.0, 21))))
    with pytest.raises(ValueError, match="energy of row 2 must be at most 1e\\+15 J"):
        Table("ReLU", layer, np.where(np.arange(20) == 2, 1e300, np.arange(1.0, 21)))


def test_energies_of_zero_and_below_cannot_be_fitted_on_relative_error():
    with pytest.raises(ValueError, match="positive"):
        fit_prices(np.ones((20, 1)), np.arange(20.0) - 3)


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_not_physical_is_refused(price):
    prices = {**DEFAULT.models["Linear"].prices, "macs": price}
    with pytest.raises(ValueError, match="macs of Linear"):
        PhysicalModel("Linear", "kernel", prices, {}, 10)


def test_a_model_must_have_a_price_for_every_term():
    with pytest.raises(ValueError, match="needs exactly"):
        PhysicalModel("Linear", "kernel", {"macs": 1.0}, {}, 10)


def test_one_table_fits_the_way_its_prices_say():
    rng = np.random.default_rng(2)
    layer = {
        "batch_size": rng.integers(1, 300, 200),
        "input_size": rng.integers(10, 3000, 200),
        "output_size": rng.integers(10, 3000, 200),
    }
    truth = DEFAULT.models["Linear"]
    energy = truth.predict_j(layer) * rng.normal(1, 0.02, 200)
    model = PhysicalModel.fit(Table("Linear", layer, energy), truth.which)
    np.testing.assert_allclose(model.predict_j(layer), truth.predict_j(layer), rtol=0.03)
    assert 0.94 < model.residual[0] < 1 < model.residual[1] < 1.06
