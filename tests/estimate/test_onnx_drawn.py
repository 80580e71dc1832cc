"""Graphs drawn at random, each with the MACs that it was drawn with; and the small graphs in the folder of cases."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastgreen.errors import FastgreenWarning
from fastgreen.estimate.onnx_reader import from_onnx
from tests.estimate.test_onnx_branches import standard, unknown
from tests.oracles.onnx_account import missing_nodes, name_nodes
from tests.oracles.places import CASES

onnx = pytest.importorskip("onnx")
h, T = onnx.helper, onnx.TensorProto
RIGHT = {  # MACs; the README of the folder has them
    "if-known": 3 * 147456, "attention-past": 2 * 524288, "qlinear": 147456, "matmul-integer": 32768,
    "time-major": 51200 + 25600, "half-inside": 147456, "groupnorm-18": 0, "transposed-1d": 51200,
}  # fmt: skip
UNKNOWN = "If of an unknown condition"


class Drawn:
    """A graph that grows by one node after the other, and counts products as it grows."""

    def __init__(self, draw):
        self.draw, self.nodes, self.weights, self.inputs = draw, [], [], []
        self.shape = [1, draw(st.integers(1, 3)) * 2, draw(st.integers(3, 9)), draw(st.integers(3, 9))]
        self.first, self.last, self.macs, self.conditions = list(self.shape), "x", 0, 0

    def weight(self, *shape, values=None):
        name = f"w{len(self.weights)}"
        array = np.zeros(shape, np.float32) if values is None else np.array(values)
        self.weights.append(onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, op, *more, **attributes):
        result = f"t{len(self.nodes)}"
        self.nodes.append(h.make_node(op, [self.last, *more], [result], **attributes))
        self.last = result

    def grow(self):
        steps = [self.conv, self.transposed, self.linear, self.pointwise, self.transpose, self.square, self.same]
        self.draw(st.sampled_from([*steps, self.condition, self.known_condition]))()

    def conv(self):
        groups, outputs = self.draw(st.integers(1, 2)), self.draw(st.integers(1, 3)) * 2
        if self.shape[1] % groups:
            groups = 1
        kernel, stride, pads, dilations = [], [], [], []
        for size in self.shape[2:]:
            low, high = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 2))
            dilation = self.draw(st.integers(1, 2))
            kernel.append(self.draw(st.integers(1, max(1, min(3, (size + low + high - 1) // dilation + 1)))))
            stride.append(self.draw(st.integers(1, 2)))
            pads.append((low, high))
            dilations.append(dilation)
        weight = self.weight(outputs, self.shape[1] // groups, *kernel)
        padding = [low for low, _ in pads] + [high for _, high in pads]
        self.add("Conv", weight, group=groups, strides=stride, dilations=dilations, pads=padding)
        inputs, spatial = self.shape[1] // groups, []
        for size, k, s, (low, high), d in zip(self.shape[2:], kernel, stride, pads, dilations, strict=True):
            # Windows walked one by one.
            places = [at for at in range(-low, size + high, s) if at + d * (k - 1) <= size + high - 1]
            spatial.append(len(places))
        self.shape = [1, outputs, *spatial]
        self.macs += outputs * spatial[0] * spatial[1] * inputs * kernel[0] * kernel[1]

    def transposed(self):
        k, s, outputs = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2)), self.draw(st.integers(1, 4))
        _, inputs, high, wide = self.shape
        self.add("ConvTranspose", self.weight(inputs, outputs, k, k), strides=[s, s])
        self.macs += high * wide * inputs * outputs * k * k
        self.shape = [1, outputs, (high - 1) * s + k, (wide - 1) * s + k]

    def linear(self):
        outputs = self.draw(st.integers(1, 6))
        self.add("MatMul", self.weight(self.shape[-1], outputs))
        self.macs += self.shape[1] * self.shape[2] * self.shape[3] * outputs
        self.shape[-1] = outputs
        if self.draw(st.booleans()):
            self.add("Add", self.weight(outputs))

    def square(self):
        """The scores of each row with each row."""
        _, channels, rows, width = self.shape
        before = self.last
        self.add("Transpose", perm=[0, 1, 3, 2])
        turned, self.last = self.last, before
        self.add("MatMul", turned)
        self.macs += channels * rows * rows * width
        self.shape = [1, channels, rows, rows]

    def pointwise(self):
        self.add(self.draw(st.sampled_from(["Relu", "Tanh", "Exp", "Identity"])))

    def transpose(self):
        self.add("Transpose", perm=[0, 1, 3, 2])
        self.shape[2:] = self.shape[:1:-1]

    def same(self):
        """A reshape to a shape that the network computes from itself."""
        image = self.last
        self.add("Shape")
        shape, self.last = self.last, image
        self.add("Reshape", shape)

    def _branches(self, condition):
        result = f"t{len(self.nodes)}"
        weight = self.weight(self.shape[-1], self.shape[-1])
        graphs = [
            h.make_graph([h.make_node(op, [self.last, *more], ["r"])], op, [], [onnx.ValueInfoProto(name="r")])
            for op, more in (("MatMul", [weight]), ("Relu", []))
        ]
        self.nodes.append(h.make_node("If", [condition], [result], then_branch=graphs[0], else_branch=graphs[1]))
        self.last = result

    def condition(self):
        self.inputs.append(f"c{len(self.inputs)}")
        self.conditions += 1
        self._branches(self.inputs[-1])

    def known_condition(self):
        value = self.draw(st.booleans())
        self._branches(self.weight(values=value))
        self.macs += value * self.shape[1] * self.shape[2] * self.shape[3] ** 2

    def model(self):
        value = h.make_tensor_value_info
        inputs = [value("x", T.FLOAT, self.first), *(value(name, T.BOOL, []) for name in self.inputs)]
        graph = h.make_graph(self.nodes, "g", inputs, [onnx.ValueInfoProto(name=self.last)], self.weights)
        return name_nodes(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_drawn_graph_has_the_macs_it_was_drawn_with(tmp_path, data):
    check_one(data, tmp_path)


def check_one(data, folder):
    drawn = Drawn(data.draw)
    for _ in range(data.draw(st.integers(1, 8))):
        drawn.grow()
    model = drawn.model()
    onnx.save(model, folder / "m.onnx")
    layers = from_onnx(folder / "m.onnx")
    assert standard(layers) == drawn.macs
    assert unknown(layers) == [UNKNOWN] * drawn.conditions
    assert missing_nodes(model, layers) == []


@pytest.mark.parametrize("name", RIGHT)
def test_a_case_gives_what_is_right(tmp_path, name):
    path = CASES / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model = name_nodes(onnx.load(path))
    onnx.save(model, tmp_path / "m.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastgreenWarning)
        layers = from_onnx(tmp_path / "m.onnx")
    assert standard(layers) == RIGHT[name]
    assert unknown(layers) == []
    assert missing_nodes(model, layers) == []


def test_the_account_misses_a_layer_that_is_left_out(tmp_path):
    path = tmp_path / "m.onnx"
    nodes = [h.make_node("Relu", ["x"], ["a"]), h.make_node("Tanh", ["a"], ["y"])]
    shape = h.make_tensor_value_info("x", T.FLOAT, [1, 4])
    model = name_nodes(h.make_model(h.make_graph(nodes, "g", [shape], [onnx.ValueInfoProto(name="y")])))
    onnx.save(model, path)
    layers = from_onnx(path)
    assert missing_nodes(model, layers) == []
    assert missing_nodes(model, layers[:1]) == ["n1"]
