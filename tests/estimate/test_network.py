"""Networks: built-in tables equal to PyTorch modules, totals, shares, what a guess counts for, batch grids."""

import time

import numpy as np
import pytest

from fastgreen.estimate.builtin import NAMES, zoo
from fastgreen.estimate.counts import macs, parameters
from fastgreen.estimate.layers import FREE, Layer
from fastgreen.estimate.linear import FeatureSet, LinearModel
from fastgreen.estimate.modelfile import ModelSet, default_models
from fastgreen.estimate.network import Network
from fastgreen.estimate.tables import Table

SIZES = {"conv": {"image_size": 8, "kernel_size": 3, "in_channels": 16, "out_channels": 16, "padding": 1}}


def torch_network(name):
    """AlexNet and the VGGs as PyTorch modules, written from their papers independently of the tables."""
    nn = pytest.importorskip("torch").nn
    if name == "alexnet":
        body = [
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(True), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(True), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(True),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(3, 2),
            nn.AdaptiveAvgPool2d(6), nn.Flatten(),
            nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(True),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True), nn.Linear(4096, 1000),
        ]  # fmt: skip
        return nn.Sequential(*body)
    depth = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3)}[name]
    body, channels = [], 3
    for stage, width in zip(depth, (64, 128, 256, 512, 512), strict=True):
        for _ in range(stage):
            body += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(True)]
            channels = width
        body.append(nn.MaxPool2d(2, 2))
    body += [
        nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(25088, 4096), nn.ReLU(True), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 1000),
    ]  # fmt: skip
    return nn.Sequential(*body)


@pytest.mark.parametrize("name", NAMES)
def test_built_in_tables_equal_the_pytorch_modules(name):
    from fastgreen.estimate.torch_reader import from_torch

    module = torch_network(name)
    read = [layer for layer in from_torch(module, (3, 224, 224)) if layer.kind != "Reshape"]
    assert [layer.kind for layer in read] == [layer.kind for layer in zoo(name)]
    for ours, theirs in zip(zoo(name), read, strict=True):
        if ours.kind not in FREE:
            for convention in ("table", "standard"):
                assert macs(ours.kind, batch_size=3, convention=convention, **ours.sizes) == macs(
                    theirs.kind, batch_size=3, convention=convention, **theirs.sizes
                )
    total = sum(int(parameters(layer.kind, **layer.sizes)) for layer in zoo(name))
    assert total == sum(p.numel() for p in module.parameters())
    assert Network(zoo(name)).estimate(8).energy_j == pytest.approx(Network(read).estimate(8).energy_j, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "count"), [("alexnet", 61100840), ("vgg11", 132863336), ("vgg13", 133047848), ("vgg16", 138357544)]
)
def test_built_in_networks_have_their_known_parameters(name, count):
    assert sum(int(parameters(layer.kind, **layer.sizes)) for layer in zoo(name)) == count


def test_a_network_is_the_sum_of_its_layers():
    estimate = Network(zoo("vgg16"), "vgg16").estimate(32)
    energy = estimate.layers["energy_j"].to_numpy()
    assert estimate.energy_j == pytest.approx(energy.sum())
    assert estimate.layers["share"].to_numpy().sum() == pytest.approx(1)
    by_hand = 0.0
    for layer in zoo("vgg16"):
        if layer.kind in default_models().models:
            by_hand += float(default_models().models[layer.kind].predict_j({"batch_size": 32, **layer.sizes}))
    assert by_hand == pytest.approx(estimate.energy_j, rel=1e-3)  # the adaptive pool is the rest
    assert estimate.energy_low_j < estimate.energy_j < estimate.energy_high_j
    assert estimate.energy_per_inference_j == estimate.energy_j / 32
    assert estimate.layers.schema.field("energy_j").metadata == {b"unit": b"J"}


def test_what_is_a_guess_is_said_layer_by_layer_and_in_all():
    estimate = Network(zoo("vgg16"), "vgg16").estimate(32)
    basis = dict(zip(estimate.layers["name"].to_pylist(), estimate.layers["basis"].to_pylist(), strict=True))
    note = dict(zip(estimate.layers["name"].to_pylist(), estimate.layers["note"].to_pylist(), strict=True))
    assert basis["1.Conv2d"] == "fitted"
    assert basis["32.AdaptiveAvgPool2d"] == "stand-in"
    assert basis["33.Linear"] == "outside range"
    assert note["33.Linear"] == "input_size=25088 not in 4..4991"
    assert basis["35.Dropout"] == "free"
    assert any("outside the range" in warning for warning in estimate.warnings)
    assert any("without a table" in warning for warning in estimate.warnings)


def test_a_batch_outside_the_fitted_range_is_flagged():
    layers = [Layer("Conv2d", SIZES["conv"])]
    assert Network(layers).estimate(256).layers["basis"].to_pylist() == ["fitted"]
    beyond = Network(layers).estimate(257)
    assert beyond.layers["note"].to_pylist() == ["batch_size=257 not in 1..256"]
    width = beyond.energy_high_j / beyond.energy_low_j
    inside = Network(layers).estimate(256)
    assert width > inside.energy_high_j / inside.energy_low_j


@pytest.mark.parametrize(("change", "note"), [
    ({"groups": 16}, "groups=16 was never varied"), ({"dilation": 2}, "dilation=2 was never varied"),
    ({"image_width": 9}, "image_width=9 was never varied"),
])  # fmt: skip
def test_a_size_the_tables_never_varied_is_outside_the_range(change, note):
    estimate = Network([Layer("Conv2d", {**SIZES["conv"], **change})]).estimate(4)
    assert estimate.layers["basis"].to_pylist() == ["outside range"]
    assert note in estimate.layers["note"].to_pylist()[0]


def test_rows_of_a_linear_layer_are_a_larger_batch():
    once = Network([Layer("Linear", {"input_size": 300, "output_size": 200, "rows": 16})]).estimate(4)
    many = Network([Layer("Linear", {"input_size": 300, "output_size": 200})]).estimate(64)
    assert once.energy_j == pytest.approx(many.energy_j)
    assert once.layers["basis"].to_pylist() == ["fitted"]


def test_an_unknown_layer_counts_nothing_and_is_named():
    layers = [Layer("Linear", {"input_size": 8, "output_size": 8}), Layer("Wavelet"), Layer("Wavelet")]
    estimate = Network(layers).estimate(16)
    assert estimate.layers["basis"].to_pylist()[1:] == ["unknown", "unknown"]
    assert estimate.layers["energy_j"].to_pylist()[1:] == [0.0, 0.0]
    assert "2 layers are of an unknown kind (Wavelet)" in estimate.warnings[-1]
    alone = Network(layers[:2]).estimate(16).warnings[-1]
    assert "1 layer is of an unknown kind (Wavelet); it counts as 0 J" in alone
    with pytest.raises(ValueError, match="Wavelet"):
        Network(layers, strict=True)


def test_every_kind_is_priced_fitted_standing_in_or_free():
    from fastgreen.estimate.layers import KINDS

    given = {
        "image_size": 8, "kernel_size": 2, "in_channels": 4, "out_channels": 4, "input_size": 64, "output_size": 4,
        "embed_size": 8, "rows": 5, "channels": 4, "hidden_size": 6, "entries": 20,
        "heads": 4, "kv_heads": 2, "head_size": 8, "cache": 6,
    }  # fmt: skip
    for kind, spec in KINDS.items():
        if kind.endswith("Generation"):  # the framework's own work, of no layer
            continue
        estimate = Network([Layer(kind, {name: given[name] for name in spec.needs})]).estimate(8)
        assert estimate.energy_j > 0, kind
        assert estimate.layers["basis"].to_pylist()[0] in ("fitted", "outside range", "stand-in"), kind


def test_attention_stands_in_with_the_macs_it_has():
    layer = Layer("Attention", {"embed_size": 64, "rows": 10, "key_rows": 12, "heads": 4})
    network = Network([layer])
    counted = sum(
        int(macs("Linear", batch_size=3, convention="standard", **part.sizes))
        for part in network.parts
        if part.kind == "Linear"
    )
    assert counted == int(macs("Attention", batch_size=3, convention="standard", **layer.sizes))


def test_attention_over_several_sequences_is_that_many_attentions():
    sizes = {"embed_size": 64, "rows": 10, "heads": 4}
    one, four = (Network([Layer("Attention", {**sizes, "sequences": n})]).estimate(3) for n in (1, 4))
    assert four.energy_j == pytest.approx(4 * one.energy_j, rel=1e-12)
    assert four.energy_high_j == pytest.approx(4 * one.energy_high_j, rel=1e-12)
    assert four.layers["macs"][0].as_py() == 4 * one.layers["macs"][0].as_py()


CONV = {"image_size": 9, "image_width": 11, "kernel_size": 3, "in_channels": 4, "out_channels": 6, "stride": 2}


@pytest.mark.parametrize(("layer", "expected"), [
    (Layer("ConvTranspose2d", {**CONV, "padding": 1, "output_padding": 1, "groups": 2}), 9 * 11 * 9 * 4 * 6 // 2),
    (Layer("Conv3d", {**CONV, "image_depth": 7, "kernel_depth": 2, "stride_depth": 1}), 6 * 4 * 5 * 6 * 18 * 4),
    (Layer("MatMul", {"input_size": 7, "output_size": 5, "rows": 3}), 7 * 5 * 3),
    (Layer("LSTM", {"input_size": 7, "hidden_size": 5, "rows": 3}), 3 * 4 * 5 * (7 + 5)),
    (Layer("GRU", {"input_size": 7, "hidden_size": 5, "rows": 3}), 3 * 3 * 5 * (7 + 5)),
])  # fmt: skip
def test_what_stands_in_for_a_product_has_its_macs(layer, expected):
    parts = Network([layer]).parts
    standing = sum(
        part.times * int(macs(part.kind, batch_size=1, convention="standard", **part.sizes)) for part in parts
    )
    assert standing == expected == int(macs(layer.kind, batch_size=1, convention="standard", **layer.sizes))


def test_a_recurrent_layer_pays_for_its_weights_at_every_step():
    once, often = (Network([Layer("LSTM", {"input_size": 64, "hidden_size": 512, "rows": n})]) for n in (1, 100))
    assert often.estimate(1).energy_j > 50 * once.estimate(1).energy_j


def test_layers_without_a_model_and_without_a_similar_one_are_unknown():
    models = ModelSet({"ReLU": default_models().models["ReLU"]}, "mine")
    basis = Network(zoo("alexnet"), models=models).estimate(2).layers
    found = dict(zip(basis["kind"].to_pylist(), basis["basis"].to_pylist(), strict=True))
    assert {kind: found[kind] for kind in ("Conv2d", "Linear", "AdaptiveAvgPool2d")} == dict.fromkeys(
        ("Conv2d", "Linear", "AdaptiveAvgPool2d"), "unknown"
    )
    assert found["ReLU"] != "unknown"


def test_a_grid_equals_one_estimate_after_the_other():
    network = Network(zoo("alexnet"), "alexnet")
    batches = [1, 7, 32, 200]
    grid = network.grid(batches).to_pydict()
    for place, batch in enumerate(batches):
        single = network.estimate(batch)
        assert grid["energy_j"][place] == pytest.approx(single.energy_j, rel=1e-12)
        assert grid["energy_low_j"][place] == pytest.approx(single.energy_low_j, rel=1e-12)
        assert grid["energy_high_j"][place] == pytest.approx(single.energy_high_j, rel=1e-12)
        basis = np.array(single.layers["basis"].to_pylist())
        share = single.layers["share"].to_numpy()
        assert grid["outside_share"][place] == pytest.approx(share[basis == "outside range"].sum())


def test_vgg16_for_ten_thousand_batch_sizes_takes_less_than_a_second():
    network = Network(zoo("vgg16"), "vgg16")
    best = np.inf
    for _ in range(3):
        begin = time.process_time()  # of all threads; others on the machine do not count
        table = network.grid(np.arange(1, 10001))
        best = min(best, time.process_time() - begin)
    assert table.num_rows == 10000
    assert np.all(np.diff(table["energy_j"].to_numpy()) > 0)
    assert best < 1.0


def test_energies_below_zero_are_said_to_be_impossible():
    sizes = {"batch_size": np.arange(1, 21), "input_size": np.arange(1000, 21000, 1000)}
    line = LinearModel.fit(Table("ReLU", sizes, np.arange(20) - 5.0), FeatureSet(("macs",)))
    estimate = Network([Layer("ReLU", {"input_size": 1000})], models=ModelSet({"ReLU": line}, "mine")).estimate(1)
    assert estimate.energy_j < 0
    assert "1 layer is predicted below 0 J, which cannot be: its model is not physical" in estimate.warnings


@pytest.mark.parametrize("batches", [[0], [3, -1], [1.5], [[1, 2]]])
def test_a_batch_that_is_none_is_refused(batches):
    with pytest.raises(ValueError, match="batches"):
        Network(zoo("alexnet")).grid(batches)


def test_an_empty_network_and_an_unknown_name_are_refused():
    with pytest.raises(ValueError, match="must be at least one"):
        Network([])
    with pytest.raises(ValueError, match="vgg99"):
        zoo("vgg99")


def test_models_fitted_on_estimates_are_marked():
    models = ModelSet(default_models().models, machine="mine", estimated=True)
    estimate = Network(zoo("alexnet"), models=models).estimate(1)
    assert estimate.estimated
    assert any("estimated energies" in warning for warning in estimate.warnings)


def test_apc_is_that_of_the_consumption_in_watt_hours_per_inference():
    network = Network(zoo("alexnet"))
    estimate = network.estimate(32)
    consumption = estimate.energy_j / 32 / 3600
    expected = 0.57 / (consumption * (0.9 * 0.43 + 0.1) + 1)
    assert estimate.apc(0.57) == pytest.approx(expected, rel=1e-12)
    assert network.grid([32], accuracy=0.57)["apc"][0].as_py() == pytest.approx(expected, rel=1e-12)
    sweep = network.sweep([16, 32], accuracy=[0.5, 0.57])
    assert sweep.compute()[0, 0, 1, 1] == pytest.approx(expected, rel=1e-12)
