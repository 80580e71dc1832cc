"""Conditions and loops in ONNX graphs: a known branch is followed, an unknown one is said, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.estimate.counts import macs
from fastgreen.estimate.layers import FREE, KINDS
from fastgreen.estimate.network import Network
from fastgreen.estimate.onnx_reader import from_onnx
from tests.oracles.onnx_account import missing_nodes, name_nodes

onnx = pytest.importorskip("onnx")
h, T = onnx.helper, onnx.TensorProto
CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
MACS = 8 * 8 * 9 * 16 * 16
IMAGE = ["N", 8, 16, 16]


def value(name, shape=None, kind=T.FLOAT):
    return h.make_tensor_value_info(name, kind, shape)


def array(name, what):
    return onnx.numpy_helper.from_array(np.asarray(what), name)


WEIGHT = array("w", np.zeros((8, 8, 3, 3), np.float32))


def conv(source, result):
    return h.make_node("Conv", [source, "w"], [result], **CONV)


def branch(name, nodes, result, weights=()):
    return h.make_graph(nodes, name, [], [value(result, IMAGE)], list(weights))


def write(path, nodes, weights, inputs=(), opset=17):
    graph = h.make_graph(nodes, "g", [value("x", IMAGE), *inputs], [value("y")], [WEIGHT, *weights])
    model = name_nodes(h.make_model(graph, opset_imports=[h.make_opsetid("", opset)]))
    onnx.save(model, path)
    return path, model


def standard(layers):
    return sum(int(macs(one.kind, batch_size=1, convention="standard", **one.sizes)) for one in layers
               if one.kind in KINDS)  # fmt: skip


def unknown(layers):
    return [one.kind for one in layers if one.kind not in KINDS and one.kind not in FREE]


ONE = branch("then", [conv("a", "t")], "t")
TWO = branch("else", [conv("a", "s"), conv("s", "t")], "t")
AROUND = ([conv("x", "a")], [conv("b", "y")])


def known_by(kind):
    """Nodes and weights that make the condition ``yes`` a constant."""
    if kind == "weight":
        return [], [array("yes", True)]
    if kind == "one-element vector":
        return [], [array("yes", [True])]
    if kind == "constant node":
        return [h.make_node("Constant", [], ["yes"], value=array("v", True))], []
    nodes = [
        h.make_node("Shape", ["a"], ["shape"]), h.make_node("Gather", ["shape", "axis"], ["size"]),
        h.make_node("Equal", ["size", "eight"], ["yes"]),
    ]  # fmt: skip
    return nodes, [array("axis", 1), array("eight", 8)]


@pytest.mark.parametrize("kind", ["weight", "one-element vector", "constant node", "a size of the network"])
def test_a_known_condition_is_followed(tmp_path, kind):
    made, weights = known_by(kind)
    node = h.make_node("If", ["yes"], ["b"], then_branch=TWO, else_branch=ONE)
    path, model = write(tmp_path / "m.onnx", [*AROUND[0], *made, node, *AROUND[1]], weights)
    layers = from_onnx(path)
    assert standard(layers) == 4 * MACS
    assert unknown(layers) == []
    assert missing_nodes(model, layers) == []


def test_a_false_condition_takes_the_other_branch(tmp_path):
    node = h.make_node("If", ["yes"], ["b"], then_branch=TWO, else_branch=ONE)
    path, _ = write(tmp_path / "m.onnx", [*AROUND[0], node, *AROUND[1]], [array("yes", False)])
    assert standard(from_onnx(path)) == 3 * MACS


def test_branches_with_own_weights_in_branches_keep_their_names_apart(tmp_path):
    own = array("k", np.zeros((8, 8, 1, 1), np.float32))
    inner = branch("inner", [h.make_node("Conv", ["t", "k"], ["u"])], "u", [own])
    deep = h.make_node("If", ["yes"], ["v"], then_branch=inner, else_branch=inner)
    outer = branch("outer", [conv("a", "t"), deep], "v")
    first = h.make_node("If", ["yes"], ["a2"], then_branch=outer, else_branch=outer)
    # The second one has the same names inside, and a tensor of the outer graph as its result.
    around = branch("around", [], "a2")
    second = h.make_node("If", ["yes"], ["b"], then_branch=around, else_branch=around)
    path, model = write(tmp_path / "m.onnx", [*AROUND[0], first, second, *AROUND[1]], [array("yes", True)])
    layers = from_onnx(path)
    assert standard(layers) == 3 * MACS + 8 * 8 * 16 * 16
    assert unknown(layers) == []
    assert missing_nodes(model, layers) == []
    assert len({layer.name for layer in layers}) == len(layers)


def test_an_unknown_condition_is_said_and_the_rest_is_counted(tmp_path):
    node = h.make_node("If", ["yes"], ["b"], then_branch=ONE, else_branch=TWO)
    path, _ = write(tmp_path / "m.onnx", [*AROUND[0], node, *AROUND[1]], [], [value("yes", [], T.BOOL)])
    layers = from_onnx(path)
    assert standard(layers) == 2 * MACS
    assert unknown(layers) == ["If of an unknown condition"]
    assert "If of an unknown condition" in Network(layers).estimate(1).warnings[-1]
    done = CliRunner().invoke(main, ["estimate", "--strict", str(path)])
    assert done.exit_code == 1, done.output
    assert "If of an unknown condition" in done.output


def loop():
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["on"]), conv("state", "after")], "body",
        [value("i", [], T.INT64), value("go", [], T.BOOL), value("state", IMAGE)],
        [value("on", [], T.BOOL), value("after", IMAGE)],
    )  # fmt: skip
    return h.make_node("Loop", ["times", "yes", "a"], ["b"], body=body)


def captured_only():
    """A loop with constants as its inputs: the image comes in from around it."""
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["on"]), h.make_node("Add", ["a", "state"], ["after"])], "body",
        [value("i", [], T.INT64), value("go", [], T.BOOL), value("state")], [value("on", [], T.BOOL), value("after")],
    )  # fmt: skip
    return h.make_node("Loop", ["times", "yes", "zero"], ["b"], body=body)


def scan():
    body = h.make_graph([h.make_node("Add", ["one", "a"], ["two"])], "body", [value("one")], [value("two")])
    return h.make_node("Scan", ["rows"], ["b"], num_scan_inputs=1, body=body)


@pytest.mark.parametrize("make", [loop, captured_only, scan])
def test_a_loop_is_an_unknown_layer_and_what_follows_is_listed(tmp_path, make):
    node = make()
    weights = [array("times", 3), array("yes", True), array("zero", np.float32(0)),
               array("rows", np.zeros((3, 1), np.float32))]  # fmt: skip
    path, model = write(tmp_path / "m.onnx", [*AROUND[0], node, *AROUND[1]], weights)
    layers = from_onnx(path)
    assert node.op_type in unknown(layers)
    assert len(layers) == 3  # the first convolution, the loop and the last convolution
    assert missing_nodes(model, layers) == []
    with pytest.raises(ValueError, match=node.op_type):
        Network(layers, strict=True)


def test_a_loop_over_constants_alone_is_a_constant(tmp_path):
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["on"]), h.make_node("Add", ["state", "zero"], ["after"])], "body",
        [value("i", [], T.INT64), value("go", [], T.BOOL), value("state")], [value("on", [], T.BOOL), value("after")],
    )  # fmt: skip
    node = h.make_node("Loop", ["times", "yes", "zero"], ["c"], body=body)
    weights = [array("times", 3), array("yes", True), array("zero", np.float32(0))]
    path, model = write(tmp_path / "m.onnx", [node, conv("x", "y")], weights)
    layers = from_onnx(path)
    assert [layer.kind for layer in layers] == ["Conv2d"]
    assert missing_nodes(model, layers) == []


def test_conditions_inside_each_other_are_read_at_once(tmp_path):
    """Each level has two branches; a reader that goes through a level twice would not come to an end."""
    inner = branch("b0", [h.make_node("Relu", ["a"], ["r0"])], "r0")
    for level in range(1, 20):
        node = h.make_node("If", ["yes"], [f"r{level}"], then_branch=inner, else_branch=ONE)
        inner = branch(f"b{level}", [node], f"r{level}")
    last = h.make_node("If", ["yes"], ["b"], then_branch=inner, else_branch=ONE)
    for name, weights, inputs in (
        ("known", [array("yes", True)], []), ("unknown", [], [value("yes", [], T.BOOL)])
    ):  # fmt: skip
        path, _ = write(tmp_path / f"{name}.onnx", [*AROUND[0], last, *AROUND[1]], weights, inputs)
        assert standard(from_onnx(path)) == 2 * MACS
