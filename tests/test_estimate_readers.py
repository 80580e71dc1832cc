"""Networks from PyTorch modules, ONNX files and plain lists: the same layers from each, and clear errors."""

import json
import warnings

import numpy as np
import pytest

from fastgreen.errors import FastgreenWarning, TraceError
from fastgreen.estimate.counts import macs
from fastgreen.estimate.layers import FREE, KINDS
from fastgreen.estimate.network import Network
from fastgreen.estimate.plain import from_file, from_list, load_network


def torch_macs(module, *shape):
    """Half of the FLOPs that PyTorch's own counter finds."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.zeros(shape))
    return counter.get_total_flops() // 2


def counted(layers, batch):
    known = [layer for layer in layers if layer.kind in KINDS]
    return sum(int(macs(layer.kind, batch_size=batch, convention="standard", **layer.sizes)) for layer in known)


def residual_network():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, groups=2), nn.BatchNorm2d(width)

        def forward(self, x):
            y = nn.functional.relu(self.norm1(self.conv1(x)))
            return torch.relu(self.norm2(self.conv2(y)) + x)

    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding="valid"), nn.MaxPool2d(3, 2, 1), Block(16), Block(16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(16, 10), nn.Softmax(dim=1),
    )  # fmt: skip


def test_a_traced_module_sees_modules_functions_and_operators():
    from fastgreen.estimate.torch_reader import from_torch

    module = residual_network()
    module.train()
    layers = from_torch(module, (3, 40, 48))
    assert module.training
    assert all(part.training for part in module.modules())
    kinds = [layer.kind for layer in layers]
    assert kinds.count("Conv2d") == 5
    assert kinds.count("ReLU") == 4
    assert kinds.count("Elementwise") == 2
    assert kinds.count("BatchNorm2d") == 4
    assert counted(layers, 2) == torch_macs(residual_network(), 2, 3, 40, 48)
    assert all(layer.kind in KINDS or layer.kind in FREE for layer in layers)


def test_a_module_that_cannot_be_traced_is_read_with_hooks_and_a_warning():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(6, 6)

        def forward(self, x):
            for _ in range(3 if float(x.sum()) == 0 else 1):
                x = self.layer(x)
            return x

    with pytest.warns(FastgreenWarning, match=r"torch\.fx cannot trace"):
        layers = from_torch(Branching(), (6,))
    assert [layer.kind for layer in layers] == ["Linear"] * 3


def test_a_transformer_block_is_read_layer_by_layer():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    block = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastgreenWarning)
        layers = from_torch(block, (10, 32))
    kinds = [layer.kind for layer in layers]
    assert kinds.count("Attention") == 1
    assert kinds.count("Linear") == 2
    assert kinds.count("LayerNorm") == 2
    assert counted(layers, 3) == 3 * (4 * 10 * 32 * 32 + 2 * 10 * 10 * 32 + 2 * 10 * 32 * 64)


def test_functions_of_torch_are_read_like_their_modules():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    nn, functional = torch.nn, torch.nn.functional

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.weight = nn.Conv2d(3, 4, 3), nn.Parameter(torch.zeros(5, 4 * 5 * 5))

        def forward(self, x):
            x = functional.relu(self.conv(x), inplace=True)
            x = functional.avg_pool2d(functional.max_pool2d(x, 3, stride=2, padding=1), 2, stride=1)
            return functional.linear(torch.flatten(x, 1), self.weight).softmax(dim=1)

    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1), nn.Flatten(),
        nn.Linear(100, 5, bias=False), nn.Softmax(dim=1),
    )  # fmt: skip
    ours, theirs = from_torch(Functional(), (3, 14, 14)), from_torch(module, (3, 14, 14))
    assert [layer.kind for layer in ours] == [layer.kind for layer in theirs]
    assert Network(ours).estimate(4).energy_j == pytest.approx(Network(theirs).estimate(4).energy_j, rel=1e-12)


@pytest.mark.parametrize("batch", ["N", 2])
def test_an_onnx_graph_may_move_its_batch(tmp_path, batch):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    model = onnx_model(
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), node("MatMul", ["t", "w"], ["m"]),
            node("Relu", ["m"], ["y"]),
        ],
        {"x": [batch, 12, 64]}, {"w": (64, 32)},
    )  # fmt: skip
    onnx.save(model, tmp_path / "m.onnx")
    copy, linear, relu = from_file(tmp_path / "m.onnx")
    assert copy.sizes["input_size"] == 12 * 64
    assert linear.sizes["rows"] == 12
    assert relu.sizes["input_size"] == 12 * 32


def test_an_unknown_module_is_listed_by_its_name():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    layers = from_torch(torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 4, 2), torch.nn.ReLU()), (3, 8, 8))
    assert [layer.kind for layer in layers] == ["ConvTranspose2d", "ReLU"]
    assert "ConvTranspose2d" in Network(layers).estimate(1).warnings[-1]


@pytest.mark.parametrize("shape", [(3, 40), (4, 40, 40), (0, 8, 8), ()])
def test_a_sample_that_does_not_fit_is_a_value_error(shape):
    from fastgreen.estimate.torch_reader import from_torch

    with pytest.raises(ValueError, match=r"sample of shape|input_shape"):
        from_torch(residual_network(), shape)


def onnx_model(nodes, inputs, weights, outputs=("y",), opset=17):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.zeros(shape, np.float32) if isinstance(shape, tuple) else shape, name)
         for name, shape in weights.items()],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def small_onnx(path, batch="N", height=40, width=48):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    model = onnx_model(
        [
            node("Conv", ["x", "w1", "b1"], ["c1"], pads=[0, 1, 2, 1], strides=[2, 2]),
            node("BatchNormalization", ["c1", "s", "s", "s", "s"], ["n1"]),
            node("Relu", ["n1"], ["r1"]),
            node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["p1", "w2"], ["c2"], group=8, dilations=[2, 2]),
            node("GlobalAveragePool", ["c2"], ["g"]),
            node("Shape", ["g"], ["shape"]),
            node("Gather", ["shape", "zero"], ["n"]),
            node("Unsqueeze", ["n", "zero1"], ["n1d"]),
            node("Concat", ["n1d", "minus"], ["target"], axis=0),
            node("Reshape", ["g", "target"], ["f"]),
            node("Gemm", ["f", "w3", "b3"], ["l"], transB=1),
            node("MatMul", ["l", "w4"], ["m"]),
            node("Softmax", ["m"], ["y"]),
        ],
        {"x": [batch, 3, height, width]},
        {
            "w1": (8, 3, 3, 3), "b1": (8,), "s": (8,), "w2": (8, 1, 3, 3), "w3": (12, 8), "b3": (12,), "w4": (12, 5),
            "zero": np.array(0), "zero1": np.array([0]), "minus": np.array([-1]),
        },
    )  # fmt: skip
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_an_onnx_file_gives_layers_whatever_its_batch(tmp_path, batch):
    layers = from_file(small_onnx(tmp_path / "m.onnx", batch))
    kinds = [layer.kind for layer in layers if layer.kind not in FREE]
    assert kinds == [
        "Conv2d",
        "BatchNorm2d",
        "ReLU",
        "MaxPool2d",
        "Conv2d",
        "AdaptiveAvgPool2d",
        "Linear",
        "Linear",
        "Softmax",
    ]
    by_hand = 20 * 24 * 8 * 27 + 8 * 6 * 8 * 8 * 0 + (10 - 4) * (12 - 4) * 8 * 9 + 8 * 12 + 12 * 5
    assert counted(layers, 1) == by_hand
    assert layers[2].sizes["input_size"] == 8 * 20 * 24
    assert not [layer for layer in layers if layer.kind not in KINDS and layer.kind not in FREE]


def test_an_onnx_file_equals_the_torch_module_it_describes(tmp_path):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8 * 80, 12), nn.Tanh(),
    )  # fmt: skip
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    model = onnx_model(
        [
            node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
            node("BatchNormalization", ["c", "s", "s", "s", "s"], ["n"]), node("Relu", ["n"], ["r"]),
            node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "w3", "b3"], ["l"], transB=1), node("Tanh", ["l"], ["y"]),
        ],
        {"x": ["N", 3, 32, 40]},
        {"w": (8, 3, 3, 3), "b": (8,), "s": (8,), "w3": (12, 640), "b3": (12,)},
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    from fastgreen.estimate.torch_reader import from_torch

    ours, theirs = from_file(path), from_torch(module, (3, 32, 40))
    assert [layer.kind for layer in ours] == [layer.kind for layer in theirs]
    assert Network(ours).estimate(8).energy_j == pytest.approx(Network(theirs).estimate(8).energy_j, rel=1e-12)


def test_a_dynamic_size_is_an_error_that_names_the_input_and_the_option(tmp_path):
    path = small_onnx(tmp_path / "m.onnx", "N", "H", "W")
    with pytest.raises(ValueError, match=r"input 'x' .* dynamic size \(H\).*--input-shape"):
        from_file(path)
    layers = from_file(path, (3, 40, 48))
    assert counted(layers, 1) == counted(from_file(small_onnx(tmp_path / "n.onnx")), 1)
    with pytest.raises(ValueError, match="3 sizes besides the batch, not 2"):
        from_file(path, (40, 48))
    with pytest.raises(ValueError, match="fixed at 3, not 4"):
        from_file(path, (4, 40, 48))


def test_a_kernel_larger_than_the_image_is_named_in_onnx_too(tmp_path):
    path = small_onnx(tmp_path / "m.onnx", "N", "H", "W")
    with pytest.raises(ValueError, match=r"kernel of 5 .* larger than the padded image of 1"):
        from_file(path, (3, 4, 4))


def test_an_unknown_operator_is_listed_and_counted_as_nothing(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx_model([onnx.helper.make_node("Det", ["x"], ["y"])], {"x": ["N", 3, 3]}, {})
    onnx.save(model, tmp_path / "m.onnx")
    network = Network(from_file(tmp_path / "m.onnx"))
    assert "Det" in network.estimate(1).warnings[-1]


@pytest.mark.parametrize("content", [b"", b"not onnx at all", b"\x00\x01\x02"])
def test_a_file_that_is_no_onnx_model_is_a_trace_error(tmp_path, content):
    pytest.importorskip("onnx")
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(TraceError, match="ONNX model"):
        from_file(path)


LIST = [
    {"kind": "Conv2d", "image_size": 32, "kernel_size": 3, "in_channels": 3, "out_channels": 8, "padding": 1},
    {"kind": "ReLU", "input_size": 8192, "inplace": 1, "name": "act"},
    {"kind": "Dropout"},
    {"kind": "Linear", "input_size": 8192, "output_size": 10},
]


@pytest.mark.parametrize("suffix", ["json", "toml", "csv"])
def test_a_plain_list_is_read_from_json_toml_and_csv(tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"
    columns = list(dict.fromkeys(key for entry in LIST for key in entry))
    texts = {
        "json": json.dumps({"layers": LIST}),
        "toml": "\n".join(
            "[[layer]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in entry.items()) for entry in LIST
        ),
        "csv": "\n".join([",".join(columns), *(",".join(str(e.get(c, "")) for c in columns) for e in LIST)]),
    }
    path.write_text(texts[suffix])
    layers = from_file(path)
    assert [(layer.kind, dict(layer.sizes)) for layer in layers] == [
        (layer.kind, dict(layer.sizes)) for layer in from_list(LIST)
    ]
    assert layers[1].name == "act"
    assert layers[0].sizes["image_size"] == 32


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("net.json", "{", TraceError), ("net.json", "{}", TraceError), ("net.json", "[]", ValueError),
        ("net.json", '[{"kind": "Linear", "input_size": 0, "output_size": 3}]', ValueError),
        ("net.json", "[3]", ValueError), ("net.toml", "x = ", TraceError), ("net.csv", "", ValueError),
        ("net.txt", "x", ValueError),
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(tmp_path, name, text, error):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(error, match=r"net\.|1\.Linear"):
        from_file(path)


def test_a_network_is_found_by_name_file_and_python_object(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    assert load_network("VGG16")[0] == "vgg16"
    assert load_network("alexnet", (3, 112, 112))[1][0].sizes["image_size"] == 112
    (tmp_path / "my_nets.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(4, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_network("my_nets:make", (4,))[1][0].kind == "Linear"
    with pytest.raises(ValueError, match="--input-shape"):
        load_network("my_nets:make")
    with pytest.raises(ValueError, match="cannot be imported"):
        load_network("my_nets:nothing", (4,))
    with pytest.raises(ValueError, match="is no file"):
        load_network("resnet1000")
