"""Quantised operators, transposed convolutions, Einstein sums and ONNX Runtime's own operators: MACs counted by hand.

ONNX Runtime runs each graph, so that every one is valid and the shape of its result is a second opinion.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from fastgreen.errors import FastgreenWarning
from fastgreen.estimate.contraction import contraction
from fastgreen.estimate.network import Network
from fastgreen.estimate.onnx_reader import from_onnx
from fastgreen.estimate.onnx_shapes import TensorShapes
from tests.estimate.test_onnx_branches import standard, unknown
from tests.oracles.onnx_account import missing_nodes, name_nodes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
h, T = onnx.helper, onnx.TensorProto
MS = "com.microsoft"
F32, F16, U8, I8, I32 = np.float32, np.float16, np.uint8, np.int8, np.int32


def read(tmp_path, nodes, inputs, weights=None, opset=17):
    """Layers of a graph that ONNX Runtime can run; no node is lost, no layer unknown, and the result's shape agrees."""
    types = {name: h.np_dtype_to_tensor_dtype(np.dtype(kind)) for name, (kind, _) in inputs.items()}
    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info(name, types[name], shape) for name, (_, shape) in inputs.items()],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(np.asarray(of), name) for name, of in (weights or {}).items()],
    )  # fmt: skip
    versions = [h.make_opsetid("", opset), h.make_opsetid(MS, 1)]
    model = name_nodes(h.make_model(graph, opset_imports=versions, ir_version=10))
    onnx.save(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(["y"], {name: np.zeros(shape, kind) for name, (kind, shape) in inputs.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastgreenWarning)
        layers = from_onnx(tmp_path / "m.onnx")
    assert missing_nodes(model, layers) == []
    assert unknown(layers) == []
    assert TensorShapes(onnx, model, Path("m.onnx"), {}).shape("y") == result.shape
    assert Network(layers, strict=True).estimate(2).energy_j > 0
    return layers


def zeros(*shape, kind=F32):
    return np.zeros(shape, kind)


SCALES = {
    **{name: F32(0.1) for name in ("xs", "ws", "ys")}, "xz": U8(0), "wz": I8(0), "uz": U8(0), "yz": U8(0),
    "axes": np.array([2, 3]),
}  # fmt: skip
IMAGE, KERNEL = {"x": (U8, (1, 4, 9, 7))}, zeros(6, 4, 3, 2, kind=I8)


@pytest.mark.parametrize(("node", "inputs", "weights", "macs"), [
    (h.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], strides=[2, 1]),
     IMAGE, {"w": KERNEL}, 4 * 6 * 6 * 4 * 6),
    (h.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], group=2),
     IMAGE, {"w": zeros(6, 2, 3, 3, kind=I8), "b": zeros(6, kind=I32)}, 7 * 5 * 6 * 2 * 9),
    (h.make_node("ConvInteger", ["x", "w", "xz"], ["y"], pads=[1, 1, 1, 1]), IMAGE, {"w": zeros(6, 4, 3, 3, kind=U8)},
     9 * 7 * 6 * 4 * 9),
    (h.make_node("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"]), {"x": (U8, (1, 5, 8))},
     {"w": zeros(8, 3, kind=I8)}, 5 * 8 * 3),
    (h.make_node("MatMulInteger", ["x", "w"], ["y"]), {"x": (U8, (1, 2, 5, 8))}, {"w": zeros(8, 3, kind=I8)},
     10 * 8 * 3),
    (h.make_node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz"], ["y"], domain=MS), {"x": (F32, (1, 5, 8))},
     {"w": zeros(8, 3, kind=I8)}, 5 * 8 * 3),
    (h.make_node("QGemm", ["x", "xs", "xz", "w", "ws", "wz", "", "ys", "yz"], ["y"], domain=MS, transB=1),
     {"x": (U8, (1, 8))}, {"w": zeros(3, 8, kind=I8)}, 8 * 3),
    (h.make_node("QLinearAdd", ["x", "xs", "xz", "x", "xs", "xz", "ys", "yz"], ["y"], domain=MS), IMAGE, {}, 0),
    (h.make_node("QLinearSigmoid", ["x", "xs", "xz", "ys", "yz"], ["y"], domain=MS), IMAGE, {}, 0),
    (h.make_node("QLinearGlobalAveragePool", ["x", "xs", "xz", "ys", "yz"], ["y"], domain=MS), IMAGE, {}, 0),
    (h.make_node("QLinearAveragePool", ["x", "xs", "xz", "ys", "yz"], ["y"], domain=MS, kernel_shape=[2, 2]),
     IMAGE, {}, 0),
    (h.make_node("QLinearConcat", ["ys", "yz", "x", "xs", "xz", "x", "xs", "xz"], ["y"], domain=MS, axis=1),
     IMAGE, {}, 0),
])  # fmt: skip
def test_quantised_operators(tmp_path, node, inputs, weights, macs):
    used = {name: value for name, value in SCALES.items() if name in node.input}
    layers = read(tmp_path, [node], inputs, {**used, **weights})
    assert standard(layers) == macs
    with pytest.warns(FastgreenWarning, match="numbers are int8; models with prices of bytes"):
        from_onnx(tmp_path / "m.onnx")


def test_quantised_weights_before_a_plain_convolution(tmp_path):
    nodes = [
        h.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        h.make_node("DequantizeLinear", ["q", "xs", "xz"], ["f"]),
        h.make_node("DequantizeLinear", ["w", "ws", "wz"], ["k"]), h.make_node("Conv", ["f", "k"], ["y"]),
    ]  # fmt: skip
    used = {name: SCALES[name] for name in ("xs", "xz", "ws", "wz")}
    layers = read(tmp_path, nodes, {"x": (F32, (1, 4, 9, 7))}, {"w": KERNEL, **used})
    assert [layer.kind for layer in layers] == ["Elementwise", "Elementwise", "Conv2d"]
    assert standard(layers) == 7 * 6 * 6 * 4 * 6
    with pytest.warns(FastgreenWarning, match="numbers are int8"):
        from_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(("inside", "said"), [(F16, "float16"), (np.float64, "double")])
def test_a_width_inside_the_graph_is_said(tmp_path, inside, said):
    kind = h.np_dtype_to_tensor_dtype(np.dtype(inside))
    nodes = [h.make_node("Cast", ["x"], ["a"], to=kind), h.make_node("MatMul", ["a", "w"], ["b"]),
             h.make_node("Cast", ["b"], ["y"], to=T.FLOAT)]  # fmt: skip
    read(tmp_path, nodes, {"x": (F32, (1, 5, 8))}, {"w": zeros(8, 3, kind=inside)})
    with pytest.warns(FastgreenWarning, match=f"numbers are {said}; models"):
        from_onnx(tmp_path / "m.onnx")


def test_weights_and_pixels_that_become_float32_are_no_other_width(tmp_path):
    nodes = [h.make_node("Cast", ["x"], ["a"], to=T.FLOAT), h.make_node("Cast", ["w"], ["k"], to=T.FLOAT),
             h.make_node("MatMul", ["a", "k"], ["y"])]  # fmt: skip
    read(tmp_path, nodes, {"x": (U8, (1, 5, 8))}, {"w": zeros(8, 3, kind=F16)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(("image", "kernel", "more"), [
    ((20,), (4,), {"strides": [2], "pads": [1, 1]}), ((20,), (5,), {"strides": [3], "output_padding": [2]}),
    ((20,), (5,), {"dilations": [2], "pads": [3, 0]}), ((6, 7), (3, 2), {"strides": [2, 3], "dilations": [1, 2]}),
    ((6, 7), (3, 3), {"strides": [2, 2], "output_padding": [0, 1]}), ((4, 5, 6), (2, 3, 3), {"strides": [1, 2, 2]}),
    ((4, 5, 6), (2, 2, 3), {"strides": [2, 2, 2], "output_padding": [1, 0, 1], "pads": [0, 1, 1, 0, 0, 1]}),
])  # fmt: skip
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_of_every_dimension(tmp_path, image, kernel, more, groups):
    node = h.make_node("ConvTranspose", ["x", "w"], ["y"], group=groups, **more)
    layers = read(tmp_path, [node], {"x": (F32, (1, 4, *image))}, {"w": zeros(4, 6 // groups, *kernel)})
    assert standard(layers) == math.prod(image) * 4 * (6 // groups) * math.prod(kernel)


@pytest.mark.parametrize(("equation", "shapes", "macs"), [
    ("...ij,...jk->...ik", [(1, 3, 4, 5), (1, 3, 5, 6)], 3 * 4 * 5 * 6),
    ("...ij,jk->...ik", [(1, 3, 4, 5), (5, 6)], 3 * 4 * 5 * 6), ("b...d,d->b...", [(1, 3, 4, 5), (5,)], 3 * 4 * 5),
    ("bi,ij,jk->bk", [(1, 4), (4, 5), (5, 6)], 4 * 5 + 5 * 6), ("bij,jk", [(1, 3, 4), (4, 5)], 3 * 4 * 5),
    ("...i,...j,ij->...", [(1, 3, 4), (1, 3, 5), (4, 5)], 3 * 4 * 5 + 3 * 4 * 5), ("bij->bi", [(1, 3, 4)], 0),
    ("bij,bk->bik", [(1, 3, 4), (1, 5)], 3 * 5), ("oi,bi->bo", [(6, 4), (1, 4)], 24),
])  # fmt: skip
def test_einstein_sums(tmp_path, equation, shapes, macs):
    names = [f"x{i}" for i in range(len(shapes))]
    node = h.make_node("Einsum", names, ["y"], equation=equation)
    inputs = {name: (F32, shape) for name, shape in zip(names, shapes, strict=True)}
    assert standard(read(tmp_path, [node], inputs)) == macs
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    if (
        "..." not in equation or len(shapes) == 2
    ) and equation != "bij,bk->bik":  # an outer product counts nothing there
        with FlopCounterMode(display=False) as counter:
            torch.einsum(equation, *(torch.zeros(shape) for shape in shapes))
        assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize(("equation", "shapes"), [
    ("ij,jk->il", [(2, 3), (3, 4)]), ("ij", [(2, 3), (3, 4)]), ("ijk,k->i", [(2, 3), (3,)]), ("", []),
    ("i.j,j->i", [(2, 3), (3,)]), ("...ijk,j->i", [(2, 3), (3,)]),
])  # fmt: skip
def test_an_equation_that_does_not_fit_is_unknown(equation, shapes):
    assert contraction(equation, shapes) is None


def fused(op, names, **more):
    return h.make_node(op, names, ["y"], domain=MS, **more)


TOKENS, ONES = (F32, (1, 5, 32)), {"s": zeros(32), "b": zeros(32)}
NBITS = {"B": zeros(24, 2, 8, kind=U8), "scales": zeros(48)}


@pytest.mark.parametrize(("node", "inputs", "weights", "macs", "count"), [
    (fused("FusedConv", ["x", "w", "b"], activation="Relu", pads=[1, 1, 1, 1]), {"x": (F32, (1, 4, 9, 7))},
     {"w": zeros(6, 4, 3, 3), "b": zeros(6)}, 9 * 7 * 6 * 4 * 9, 2),
    (fused("FusedGemm", ["x", "w", "b"], activation="Sigmoid", transB=1), {"x": (F32, (1, 8))},
     {"w": zeros(3, 8), "b": zeros(3)}, 24, 2),
    (fused("FusedMatMul", ["x", "x"], transB=1, alpha=0.5), {"x": (F32, (1, 4, 5, 8))}, {}, 4 * 5 * 8 * 5, 1),
    (fused("FusedMatMul", ["x", "x"], transA=1), {"x": (F32, (1, 5, 8))}, {}, 8 * 5 * 8, 1),
    (fused("FusedMatMul", ["x", "w"]), {"x": (F32, (1, 5, 8))}, {"w": zeros(8, 3)}, 5 * 8 * 3, 1),
    (fused("Attention", ["x", "w", "b"], num_heads=4), {"x": TOKENS}, {"w": zeros(32, 96), "b": zeros(96)},
     5 * 32 * 96 + 2 * 4 * 5 * 5 * 8, 4),
    (fused("Attention", ["x", "w", "b", "", "p"], num_heads=4), {"x": TOKENS, "p": (F32, (2, 1, 4, 7, 8))},
     {"w": zeros(32, 96), "b": zeros(96)}, 5 * 32 * 96 + 2 * 4 * 5 * 12 * 8, 4),
    (fused("MultiHeadAttention", ["q", "k", "k"], num_heads=4), {"q": TOKENS, "k": (F32, (1, 9, 32))}, {},
     2 * 4 * 5 * 9 * 8, 3),
    (fused("MultiHeadAttention", ["q", "k", "v"], num_heads=4), {"q": TOKENS, "k": (F32, (1, 9, 32)),
     "v": (F32, (1, 9, 64))}, {}, 4 * 5 * 9 * (8 + 16), 3),
    (fused("MatMulNBits", ["x", "B", "scales"], K=32, N=24, bits=4, block_size=16), {"x": TOKENS}, NBITS,
     5 * 32 * 24, 1),
    (fused("SkipLayerNormalization", ["x", "k", "s", "b"]), {"x": TOKENS, "k": TOKENS}, ONES, 0, 2),
    (fused("SkipSimplifiedLayerNormalization", ["x", "k", "s"]), {"x": TOKENS, "k": TOKENS}, {"s": ONES["s"]}, 0, 2),
    (fused("BiasGelu", ["x", "b"]), {"x": TOKENS}, {"b": ONES["b"]}, 0, 2),
    (fused("FastGelu", ["x"]), {"x": TOKENS}, {}, 0, 1), (fused("QuickGelu", ["x"]), {"x": TOKENS}, {}, 0, 1),
    (h.make_node("SimplifiedLayerNormalization", ["x", "s"], ["y"], axis=-1), {"x": TOKENS}, {"s": ONES["s"]}, 0, 1),
])  # fmt: skip
def test_operators_of_onnx_runtime(tmp_path, node, inputs, weights, macs, count):
    if "p" in node.input:
        node.output.append("present")
    layers = read(tmp_path, [node], inputs, weights)
    assert standard(layers) == macs
    assert len(layers) == count


@pytest.mark.parametrize(("past", "rows"), [(0, 5), (7, 1), (3, 1)])
@pytest.mark.parametrize("packed", [False, True])
def test_grouped_queries_with_a_cache(tmp_path, past, rows, packed):
    """8 heads of queries over 2 of keys, each of 16 numbers."""
    names = ["q", "", ""] if packed else ["q", "k", "v"]
    caches = ["pk", "pv"] if past else ["", ""]
    node = fused("GroupQueryAttention", [*names, *caches, "last", "total"], num_heads=8, kv_num_heads=2)
    node.output.extend(["nk", "nv"])
    inputs = {"q": (F32, (1, rows, 16 * (12 if packed else 8)))}
    inputs |= {} if packed else dict.fromkeys("kv", (F32, (1, rows, 32)))
    inputs |= {name: (F32, (1, 2, past, 16)) for name in caches if past}
    weights = {"last": np.array([past + rows - 1], I32), "total": np.array(past + rows, I32)}
    assert standard(read(tmp_path, [node], inputs, weights)) == 2 * 8 * rows * (past + rows) * 16


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization_of_every_version(tmp_path, opset):
    nodes = [h.make_node("GroupNormalization", ["x", "s", "s"], ["y"], num_groups=4)]
    count = 4 if opset == 18 else 8
    layers = read(tmp_path, nodes, {"x": (F32, (1, 8, 6, 6))}, {"s": zeros(count)}, opset)
    assert layers[0].sizes["input_size"] == 8 * 36


@pytest.mark.parametrize("node", [
    fused("MoE", ["x", "x", "x", "x"]), fused("Attention", ["x"], num_heads=4), fused("FusedConv", ["x"]),
    fused("GroupQueryAttention", ["x", "x", "x", "gone", "gone"], num_heads=4, kv_num_heads=0),
    fused("MatMulNBits", ["x"]), h.make_node("Relu", ["x"], ["y"], domain="ai.other"),
])  # fmt: skip
def test_an_operator_without_its_inputs_or_of_another_domain_is_unknown(tmp_path, node):
    graph = h.make_graph(
        [node], "g", [h.make_tensor_value_info("x", T.FLOAT, [1, 4, 8])], [onnx.ValueInfoProto(name="y")]
    )
    versions = [h.make_opsetid("", 17), h.make_opsetid(MS, 1), h.make_opsetid("ai.other", 1)]
    onnx.save(h.make_model(graph, opset_imports=versions), tmp_path / "m.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastgreenWarning)
        assert len(unknown(from_onnx(tmp_path / "m.onnx"))) == 1
