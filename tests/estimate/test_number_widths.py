"""Widths of numbers: found from weights and casts, priced by bytes where a model has prices of bytes."""

import numpy as np
import pytest

from fastgreen.errors import FastgreenWarning
from fastgreen.estimate.counts import macs
from fastgreen.estimate.layers import KINDS, USUAL_BITS, WEIGHTED, Layer, complete
from fastgreen.estimate.modelfile import ModelSet, default_models
from fastgreen.estimate.network import Network
from fastgreen.estimate.number_widths import bits_of_name, with_widths
from fastgreen.estimate.physical import PhysicalModel
from fastgreen.estimate.tables import Table
from fastgreen.estimate.work import TERMS, terms

LINEAR = {"input_size": 4096, "output_size": 4096, "bias": 0}


@pytest.mark.parametrize(("name", "bits"), [
    ("FLOAT", 32), ("torch.float32", 32), ("torch.bfloat16", 16), ("FLOAT16", 16), ("DOUBLE", 64), ("UINT4", 4),
    ("torch.float8_e4m3fn", 8), ("FLOAT8E5M2", 8), ("BOOL", 8), ("INT64", 64), ("torch.qint8", 8), ("STRING", 0),
    ("UNDEFINED", 0), ("", 0),
])  # fmt: skip
def test_a_type_has_the_bits_that_its_name_says(name, bits):
    assert bits_of_name(name) == bits


def test_usual_widths_are_left_out_and_layers_without_weights_have_no_width_of_weights():
    layers = [Layer("Linear", LINEAR), Layer("ReLU", {"input_size": 9}), Layer("Reshape"), Layer("Wavelet")]
    assert with_widths(layers, 32, 32) == layers
    assert with_widths(layers, 0) == layers
    linear, relu, *others = with_widths(layers, 16, 4)
    assert (linear.sizes["bits"], linear.sizes["weight_bits"]) == (16, 4)
    assert relu.sizes == {"input_size": 9, "bits": 16}
    assert others == layers[2:]


def test_the_weights_are_as_wide_as_the_other_numbers_unless_given():
    for kind, spec in KINDS.items():
        needs = dict.fromkeys(spec.needs, 1)
        columns = complete(kind, {"batch_size": 1, **needs, "bits": 16})
        assert columns.get("weight_bits", 16) == 16
        assert ("weight_bits" in columns) == (kind in WEIGHTED)
        assert complete(kind, {"batch_size": 1, **needs})["bits"] == USUAL_BITS


@pytest.mark.parametrize("which", list(TERMS))
@pytest.mark.parametrize("kind", list(TERMS["basic"]))
def test_bytes_follow_the_width_and_products_do_not(kind, which):
    sizes = {"batch_size": 2, "image_size": 9, "kernel_size": 3, "in_channels": 20, "out_channels": 30,
             "input_size": 70, "output_size": 80, "channels": 7, "embed_size": 16, "entries": 9, "heads": 4,
             "kv_heads": 2, "head_size": 8, "rows": 3, "cache": 5, "blocks": 2, "steps": 3, "rotary": 1}  # fmt: skip
    layer = {name: sizes[name] for name in ("batch_size", *KINDS[kind].needs)}
    full, half = (terms(kind, complete(kind, {**layer, "bits": bits}), which) for bits in (32, 16))
    for name in full:
        factor = 2 if name.startswith(("bytes", "fresh", "huge")) else 1
        np.testing.assert_allclose(full[name], factor * half[name], err_msg=name)


def test_a_batch_of_one_pays_for_the_width_of_the_weights_and_little_else():
    priced = {bits: Network([Layer("Linear", {**LINEAR, "weight_bits": bits})]).estimate(1) for bits in (32, 16, 4)}
    calls = default_models().models["Linear"].prices["calls"]
    assert priced[16].energy_j < priced[32].energy_j
    weights = 4096 * 4096 * default_models().models["Linear"].prices["bytes_weights"]
    assert priced[32].energy_j - priced[4].energy_j == pytest.approx(3.5 * weights, rel=1e-6)
    assert priced[4].energy_j > calls
    assert priced[4].layers["basis"].to_pylist() == ["outside range"]
    assert "weight_bits=4 was never varied" in priced[4].layers["note"][0].as_py()


def test_another_width_counts_the_same_products():
    assert macs("Linear", batch_size=3, bits=16, **LINEAR) == macs("Linear", batch_size=3, **LINEAR)


def test_a_stand_in_moves_bytes_of_the_same_width():
    sizes = {"embed_size": 256, "rows": 64, "heads": 4}
    parts = Network([Layer("Attention", {**sizes, "bits": 16, "weight_bits": 8})]).parts
    assert {(part.kind, part.sizes["bits"], part.sizes.get("weight_bits")) for part in parts} == {
        ("Linear", 16, 8), ("Softmax", 16, None),
    }  # fmt: skip
    norm = [Layer("LayerNorm", {"input_size": 10**6, "channels": 10, "bits": bits}) for bits in (32, 16)]
    full, half = (Network([one]).estimate(1).energy_j for one in norm)
    assert half == pytest.approx(full / 2, rel=0.01)


def test_a_machine_measured_at_two_widths_has_prices_for_both():
    rng = np.random.default_rng(3)
    sizes = {name: rng.integers(1, 2000, 200) for name in ("input_size", "output_size")}
    sizes |= {"batch_size": rng.integers(1, 64, 200), "bits": rng.choice([16, 32], 200)}
    numbers = (
        sizes["batch_size"] * (sizes["input_size"] + sizes["output_size"]) + sizes["input_size"] * sizes["output_size"]
    )
    energy = 1e-9 * numbers * sizes["bits"] / 8 + 1e-6
    model = PhysicalModel.fit(Table("Linear", sizes, energy))
    assert float(model.predict_j({"batch_size": 1, **LINEAR, "bits": 16})) == pytest.approx(
        2 * 4096 * 4098e-9, rel=0.02
    )
    estimate = Network([Layer("Linear", {"input_size": 900, "output_size": 900, "bits": 16})], "n",
                       ModelSet({"Linear": model}, "made up")).estimate(1)  # fmt: skip
    assert estimate.layers["basis"].to_pylist() == ["fitted"]


def test_a_pytorch_module_in_half_width_has_layers_of_16_bits():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.inputs import InputShape
    from fastgreen.estimate.torch_reader import from_torch

    module = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
    plain = from_torch(module, (8,))
    assert not any("bits" in layer.sizes for layer in plain)
    with pytest.warns(FastgreenWarning, match="bfloat16; models with prices of bytes price their width"):
        half = from_torch(module.bfloat16(), InputShape.parse("8:bfloat16"))
    assert [layer.sizes["bits"] for layer in half] == [16, 16]
    assert [{**layer.sizes, "bits": 32} for layer in half] == [{**layer.sizes, "bits": 32} for layer in plain]


def test_tokens_are_wide_and_what_they_look_up_is_not():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.inputs import InputShape
    from fastgreen.estimate.torch_reader import from_torch

    (layer,) = from_torch(torch.nn.Embedding(50, 8), InputShape.parse("7:int64"))
    assert "bits" not in layer.sizes


def test_numbers_cast_within_a_module_are_found():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    class Cast(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x.to(torch.float16)).float()

    found = {layer.kind: layer.sizes.get("bits", 32) for layer in from_torch(Cast(), (64,))}
    assert found["ReLU"] == 16


def onnx_layers(tmp_path, nodes, inputs, weights):
    h = pytest.importorskip("onnx").helper
    import onnx

    from fastgreen.estimate.onnx_reader import from_onnx

    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [h.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    opsets = [h.make_opsetid("", 21), h.make_opsetid("com.microsoft", 1)]
    onnx.save(h.make_model(graph, opset_imports=opsets), tmp_path / "m.onnx")
    with pytest.warns(FastgreenWarning, match="models with prices of bytes"):
        return [layer for layer in from_onnx(tmp_path / "m.onnx") if layer.kind in KINDS]


def test_an_onnx_graph_has_the_width_of_its_casts_and_weights(tmp_path):
    h = pytest.importorskip("onnx").helper
    from onnx import TensorProto as T

    nodes = [h.make_node("Cast", ["x"], ["a"], to=T.FLOAT16), h.make_node("MatMul", ["a", "w"], ["b"]),
             h.make_node("Cast", ["b"], ["c"], to=T.FLOAT), h.make_node("Relu", ["c"], ["y"])]  # fmt: skip
    layers = onnx_layers(tmp_path, nodes, {"x": (T.FLOAT, (1, 5, 8))}, {"w": np.zeros((8, 3), np.float16)})
    # A cast reads one width and writes the other: the wider one counts.
    assert [(layer.kind, layer.sizes.get("bits", 32)) for layer in layers] == [
        ("Copy", 32), ("Linear", 16), ("Copy", 32), ("ReLU", 32),
    ]  # fmt: skip
    assert "weight_bits" not in layers[1].sizes


def test_weights_of_4_bits_and_weights_that_are_unpacked_are_as_narrow_as_they_are_stored(tmp_path):
    h = pytest.importorskip("onnx").helper
    from onnx import TensorProto as T

    packed = h.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=6, bits=4,
                         block_size=32)  # fmt: skip
    weights = {"w": np.zeros((6, 1, 16), np.uint8), "s": np.zeros(6, np.float32)}
    (linear,) = onnx_layers(tmp_path, [packed], {"x": (T.FLOAT, (1, 5, 32))}, weights)
    assert (linear.sizes.get("bits", 32), linear.sizes["weight_bits"]) == (32, 4)
    nodes = [h.make_node("DequantizeLinear", ["w", "s", "z"], ["k"]), h.make_node("MatMul", ["x", "k"], ["y"])]
    weights = {"w": np.zeros((8, 3), np.int8), "s": np.float32(1), "z": np.int8(0)}
    weights = {name: np.asarray(value) for name, value in weights.items()}
    (linear,) = onnx_layers(tmp_path, nodes, {"x": (T.FLOAT, (1, 5, 8))}, weights)
    assert (linear.sizes.get("bits", 32), linear.sizes["weight_bits"]) == (32, 8)


def test_a_layer_is_collected_at_the_width_of_its_plan():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.workload import torch_workload

    sizes = {"batch_size": 2, "input_size": 8, "output_size": 4}
    build = torch_workload(threads=1)
    with torch.no_grad():
        assert build("Linear", {**sizes, "bits": 16})().dtype == torch.bfloat16
        assert build("Linear", sizes)().dtype == torch.float32
    with pytest.raises(ValueError, match="bits of LayerNorm must be 32"):
        build("LayerNorm", {"batch_size": 2, "input_size": 8, "channels": 8, "bits": 16})
    for wrong in ({"bits": 8}, {"bits": 16, "weight_bits": 4}):
        with pytest.raises(ValueError, match="must be 16, 32 or 64 and the same"):
            build("Linear", {**sizes, **wrong})
