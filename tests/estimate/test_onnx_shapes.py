"""Shapes that ONNX files may have: caches, time before the batch, several batches, odd windows; their MACs by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from fastgreen.errors import FastgreenWarning
from fastgreen.estimate.counts import output_size
from fastgreen.estimate.layers import KINDS
from fastgreen.estimate.network import Network
from fastgreen.estimate.onnx_reader import from_onnx
from tests.estimate.test_onnx_branches import standard, unknown
from tests.oracles.onnx_account import missing_nodes, name_nodes

onnx = pytest.importorskip("onnx")
h, T = onnx.helper, onnx.TensorProto


def read(tmp_path, nodes, inputs, weights=None, outputs=("y",), opset=17, shape=None, clean=True):
    """Layers of a graph; no node may be lost, nor may a layer be unknown."""
    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info(name, T.FLOAT, sizes) for name, sizes in inputs.items()],
        [h.make_tensor_value_info(name, T.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.zeros(of, np.float32) if isinstance(of, tuple) else of, name)
         for name, of in (weights or {}).items()],
    )  # fmt: skip
    model = name_nodes(h.make_model(graph, opset_imports=[h.make_opsetid("", opset)]))
    onnx.save(model, tmp_path / "m.onnx")
    layers = from_onnx(tmp_path / "m.onnx", shape)
    assert missing_nodes(model, layers) == []
    if clean:
        assert unknown(layers) == []
        Network(layers, strict=True).estimate(2)
    return layers


@pytest.mark.parametrize(("past", "rows", "shape"), [(0, 5, 3), (7, 1, 3), (31, 4, 4), (1, 1, 4)])
def test_a_cache_adds_its_keys(tmp_path, past, rows, shape):
    """8 heads of queries, 2 of keys and values; a head has 16 numbers, a value 24."""
    three = {"q": ["N", rows, 128], "k": ["N", rows, 32], "v": ["N", rows, 48]}
    four = {"q": ["N", 8, rows, 16], "k": ["N", 2, rows, 16], "v": ["N", 2, rows, 24]}
    cache = {"pk": ["N", 2, past, 16], "pv": ["N", 2, past, 24]} if past else {}
    names = ["q", "k", "v", "", "pk", "pv"] if past else ["q", "k", "v"]
    node = h.make_node("Attention", names, ["y", "nk", "nv"] if past else ["y"], q_num_heads=8, kv_num_heads=2)
    if shape == 4:
        del node.attribute[:]
    layers = read(tmp_path, [node], {**(three if shape == 3 else four), **cache}, opset=23)
    assert standard(layers) == 8 * rows * (past + rows) * (16 + 24)


RECURRENT = {"W": (1, 32, 8), "R": (1, 32, 8), "w": (8, 5), "one": np.array([1]), "table": (50, 8)}
STEPS = 12


@pytest.mark.parametrize("batch", [1, 3, "N"])
@pytest.mark.parametrize("before", ["nothing", "pointwise", "embedding", "transposed", "linear", "state"])
def test_time_before_the_batch(tmp_path, before, batch):
    first = {
        "pointwise": [h.make_node("Tanh", ["x"], ["t"]), h.make_node("Dropout", ["t"], ["z"])],
        "embedding": [h.make_node("Cast", ["x"], ["t"], to=T.INT64), h.make_node("Gather", ["table", "t"], ["z"])],
        "transposed": [h.make_node("Transpose", ["x"], ["z"], perm=[1, 0, 2])],
        "linear": [h.make_node("MatMul", ["x", "square"], ["z"])],
    }.get(before, [h.make_node("Identity", ["x"], ["z"])])
    inputs = {"x": [STEPS, batch] if before == "embedding" else [STEPS, batch, 8]}
    if before == "transposed":
        inputs = {"x": [batch, STEPS, 8]}
    names = ["z", "W", "R"]
    if before == "state":
        # The state has the batch on its second axis, and is the first input.
        names, inputs = ["z", "W", "R", "", "", "h0"], {"h0": [1, batch, 8], **inputs}
    nodes = [
        *first, h.make_node("LSTM", names, ["l"], hidden_size=8), h.make_node("Squeeze", ["l", "one"], ["s"]),
        h.make_node("MatMul", ["s", "w"], ["y"]),
    ]  # fmt: skip
    layers = read(tmp_path, nodes, inputs, {**RECURRENT, "square": (8, 8)})
    linear = STEPS * 8 * 8 if before == "linear" else 0
    assert standard(layers) == linear + STEPS * 32 * (8 + 8) + STEPS * 8 * 5


def test_a_length_before_the_batch_is_asked_for(tmp_path):
    nodes = [h.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=8)]
    with pytest.raises(ValueError, match=r"dynamic size \(T\).*--input-shape 128,8"):
        read(tmp_path, nodes, {"x": ["T", "N", 8]}, RECURRENT)
    assert standard(read(tmp_path, nodes, {"x": ["T", "N", 8]}, RECURRENT, shape=(7, 8))) == 7 * 32 * 16


def test_a_recurrent_layer_with_the_batch_first_keeps_it_first(tmp_path):
    nodes = [h.make_node("GRU", ["x", "W", "R"], ["y"], hidden_size=8, layout=1)]
    layers = read(tmp_path, nodes, {"x": ["N", 9, 8]}, {"W": (1, 24, 8), "R": (1, 24, 8)}, clean=False)
    assert layers[0].sizes["rows"] == 9


def test_several_batches_are_said(tmp_path):
    nodes = [h.make_node("Relu", ["a"], ["p"]), h.make_node("Relu", ["b"], ["y"])]
    with pytest.warns(FastgreenWarning, match="the sizes N, boxes; each is taken as a batch of 1"):
        read(tmp_path, nodes, {"a": ["N", 7], "b": ["boxes", 4]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path, nodes, {"a": ["N", 7], "b": ["N", 4]})


@pytest.mark.parametrize("inputs", [{"a": [7, "N"], "b": ["N", 7]}, {"b": ["N", 7], "a": [7, "N"]}])
def test_the_batch_on_another_axis_is_known_by_its_name(tmp_path, inputs):
    nodes = [h.make_node("Relu", ["a"], ["p"]), h.make_node("Relu", ["b"], ["y"])]
    assert [layer.sizes["input_size"] for layer in read(tmp_path, nodes, inputs)] == [7, 7]


def outputs(size, kernel, stride, pads, dilation, ceil=False):
    room = size + sum(pads) - dilation * (kernel - 1) - 1
    return (math.ceil(room / stride) if ceil else room // stride) + 1


WINDOWS = [  # image, kernel, stride, pads before and after, dilations
    ((9, 11), (3, 3), (1, 1), (0, 0, 0, 0), (1, 2)),
    ((16, 16), (3, 2), (2, 1), (1, 0, 1, 0), (3, 1)),
    ((1, 16), (3, 3), (1, 1), (2, 1, 0, 1), (1, 1)),
    ((1, 16), (3, 3), (1, 1), (0, 1, 2, 1), (1, 1)),
    ((16, 2), (1, 5), (1, 2), (0, 4, 0, 0), (1, 1)),
    ((1, 1), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((5,), (4,), (1,), (9, 0), (3,)),
    ((2,), (5,), (1,), (4, 0), (1,)),
    ((5, 6, 7), (2, 3, 3), (1, 2, 1), (1, 0, 2, 0, 1, 0), (1, 1, 2)),
]


@pytest.mark.parametrize(("image", "kernel", "stride", "pads", "dilations"), WINDOWS)
def test_a_valid_convolution_has_the_macs_of_its_windows(tmp_path, image, kernel, stride, pads, dilations):
    node = h.make_node("Conv", ["x", "w"], ["y"], strides=stride, pads=pads, dilations=dilations)
    (layer,) = read(tmp_path, [node], {"x": ["N", 4, *image]}, {"w": (6, 4, *kernel)})
    axes = len(image)
    per_axis = [outputs(image[i], kernel[i], stride[i], (pads[i], pads[axes + i]), dilations[i]) for i in range(axes)]
    assert standard([layer]) == math.prod(per_axis) * 6 * 4 * math.prod(kernel)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("image", "kernel", "pads", "ceil"), [
    ((6, 6), (3, 3), (2, 2, 2, 2), 0), ((1, 8), (2, 2), (0, 0, 0, 0), 1), ((7, 7), (4, 3), (3, 0, 0, 2), 0),
    ((3, 5), (3, 3), (0, 0, 1, 1), 1), ((1,), (3,), (1, 0), 1),
])  # fmt: skip
def test_a_valid_pool_has_its_outputs(tmp_path, kind, image, kernel, pads, ceil):
    axes = len(image)
    node = h.make_node(kind, ["x"], ["y"], kernel_shape=kernel, strides=[2] * axes, pads=pads, ceil_mode=ceil)
    (layer,) = read(tmp_path, [node], {"x": ["N", 4, *image]}, opset=19)
    expected = [outputs(image[i], kernel[i], 2, (pads[i], pads[axes + i]), 1, bool(ceil)) for i in range(axes)]
    found = [int(n) for n in output_size(layer.kind, **layer.sizes)]
    assert found == expected if axes == 2 else found == [1, *expected]


def test_a_convolution_with_no_result_is_still_an_error(tmp_path):
    with pytest.raises(ValueError, match="larger than the padded image"):
        read(tmp_path, [h.make_node("Conv", ["x", "w"], ["y"])], {"x": ["N", 4, 2, 9]}, {"w": (6, 4, 3, 3)})


def test_unequal_dilations_are_those_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from fastgreen.estimate.torch_reader import from_torch

    nn = torch.nn
    for module, shape in (
        (nn.Conv2d(4, 6, 3, dilation=(1, 3), padding=(1, 3)), (4, 12, 14)),
        (nn.Conv3d(4, 6, (2, 3, 3), dilation=(2, 1, 3)), (4, 8, 9, 10)),
        (nn.ConvTranspose1d(4, 6, 4, stride=3, padding=1, output_padding=2), (4, 20)),
        (nn.ConvTranspose2d(4, 6, (3, 4), stride=(2, 3), dilation=(1, 2), output_padding=(1, 0)), (4, 7, 8)),
        (nn.ConvTranspose3d(4, 6, (2, 3, 3), stride=2, output_padding=(1, 0, 1), groups=2), (4, 5, 6, 7)),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            result = module.eval()(torch.zeros(1, *shape))
        (layer,) = from_torch(module, shape)
        assert layer.kind in KINDS
        assert 2 * standard([layer]) == counter.get_total_flops(), module
        assert [int(n) for n in output_size(layer.kind, **layer.sizes)][-1] == result.shape[-1]
        energy = Network([layer], strict=True).estimate(1).energy_j
        assert energy > 0


# In one sample 4 images: [N, 12, 9, 9] becomes [4 N, 3, 9, 9], as heads, windows or two pictures do.
IMAGES = {"Conv": (5, 3, 3, 3), "ConvTranspose": (3, 5, 3, 3)}


@pytest.mark.parametrize("batch", [1, 2, "N"])
@pytest.mark.parametrize("operator", [*IMAGES, "MaxPool", "GlobalAveragePool"])
def test_every_image_of_a_sample_counts(tmp_path, operator, batch):
    given = {"kernel_shape": [3, 3]} if operator == "MaxPool" else {}
    nodes = [
        h.make_node("Reshape", ["x", "to"], ["i"], name="r"),
        h.make_node(operator, ["i", "w"] if operator in IMAGES else ["i"], ["y"], name="n", **given),
    ]
    weights = {"to": np.array([-1, 3, 9, 9])} | ({"w": IMAGES[operator]} if operator in IMAGES else {})
    layer = read(tmp_path, nodes, {"x": [batch, 12, 9, 9]}, weights)[-1]
    work = {"Conv": 4 * 49 * 5 * 27, "ConvTranspose": 4 * 81 * 5 * 27}
    assert standard([layer]) == work.get(operator, 0)
    assert layer.sizes["in_channels"] == 12
