"""Networks from ONNX files and plain lists: the same layers as from PyTorch, and clear errors."""

import json

import numpy as np
import pytest

from fastgreen.errors import FastgreenWarning, TraceError
from fastgreen.estimate.counts import macs, parameters
from fastgreen.estimate.inputs import InputShape
from fastgreen.estimate.layers import FREE, KINDS
from fastgreen.estimate.network import Network
from fastgreen.estimate.plain import from_file, from_list, load_network


def counted(layers, batch):
    known = [layer for layer in layers if layer.kind in KINDS]
    return sum(int(macs(layer.kind, batch_size=batch, convention="standard", **layer.sizes)) for layer in known)


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


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_that_onnx_works_out_itself(tmp_path, auto):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=auto, strides=[2, 3])
    onnx.save(onnx_model([node], {"x": ["N", 3, 11, 17]}, {"w": (5, 3, 4, 5)}), tmp_path / "m.onnx")
    (layer,) = from_file(tmp_path / "m.onnx")
    high, wide = (6, 6) if auto.startswith("SAME") else (4, 5)
    assert counted([layer], 1) == high * wide * 5 * 3 * 4 * 5


def attention_onnx(path, batch="N", length="T"):
    """Heads as exporters write them: the reshape's target is worked out from the input's shape while it runs."""
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    split = [
        [
            node("MatMul", ["x", f"w{n}"], [f"p{n}"]), node("Reshape", [f"p{n}", "split"], [f"s{n}"]),
            node("Transpose", [f"s{n}"], [f"h{n}"], perm=[0, 2, 1, 3]),
        ]
        for n in "qkv"
    ]  # fmt: skip
    model = onnx_model(
        [
            node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["n"]),
            node("Gather", ["shape", "one"], ["t"]),
            node("Unsqueeze", ["n", "zero1"], ["n1"]), node("Unsqueeze", ["t", "zero1"], ["t1"]),
            node("Concat", ["n1", "t1", "heads"], ["split"], axis=0),
            node("Concat", ["n1", "t1", "minus"], ["joined"], axis=0),
            *(one for three in split for one in three),
            node("Transpose", ["hk"], ["kt"], perm=[0, 1, 3, 2]), node("MatMul", ["hq", "kt"], ["scores"]),
            node("Softmax", ["scores"], ["soft"]), node("MatMul", ["soft", "hv"], ["values"]),
            node("Transpose", ["values"], ["back"], perm=[0, 2, 1, 3]), node("Reshape", ["back", "joined"], ["y"]),
        ],
        {"x": [batch, length, 32]},
        {
            **{f"w{n}": (32, 32) for n in "qkv"}, "zero": np.array(0), "one": np.array(1), "zero1": np.array([0]),
            "heads": np.array([4, 8]), "minus": np.array([-1]),
        },
    )  # fmt: skip
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("batch", "length"), [("N", "T"), ("N", 12), (1, 12), (3, 12), (1, "T")])
def test_shapes_that_a_model_works_out_as_it_runs_are_known(tmp_path, batch, length):
    path = attention_onnx(tmp_path / "m.onnx", batch, length)
    layers = from_file(path, None if length == 12 else (12, 32))
    kinds = [layer.kind for layer in layers if layer.kind not in (*FREE, "Copy")]
    assert kinds == ["Linear", "Linear", "Linear", "MatMul", "Softmax", "MatMul"]
    assert counted(layers, 1) == 3 * 12 * 32 * 32 + 2 * 4 * 12 * 12 * 8
    assert [layer.sizes["input_size"] for layer in layers if layer.kind == "Softmax"] == [4 * 12 * 12]


def test_a_product_and_the_vector_added_to_it_are_one_linear_layer(tmp_path):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    model = onnx_model(
        [
            node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["l"]),
            node("MatMul", ["l", "w"], ["n"]), node("Add", ["n", "n"], ["y"]),
        ],
        {"x": ["N", 7, 64]}, {"w": (64, 64), "b": (64,)},
    )  # fmt: skip
    onnx.save(model, tmp_path / "m.onnx")
    layers = from_file(tmp_path / "m.onnx")
    assert [(layer.kind, layer.sizes.get("bias")) for layer in layers] == [
        ("Linear", 1), ("Linear", 0), ("Elementwise", None)
    ]  # fmt: skip


def test_a_product_of_activations_has_no_parameters_and_is_no_measured_layer(tmp_path):
    estimate = Network(from_file(attention_onnx(tmp_path / "m.onnx"), (12, 32))).estimate(2)
    rows = [row for row in estimate.layers.to_pylist() if row["kind"] == "MatMul"]
    assert {(row["basis"], row["parameters"]) for row in rows} == {("stand-in", 0)}


def test_inputs_share_the_names_of_their_sizes_and_are_given_by_name(tmp_path):
    onnx = pytest.importorskip("onnx")
    nodes = [onnx.helper.make_node("Add", ["a", "b"], ["s"]), onnx.helper.make_node("Mul", ["s", "c"], ["y"])]
    onnx.save(onnx_model(nodes, {"a": ["N", "T"], "b": ["N", "T"], "c": ["N", "U"]}, {}), tmp_path / "m.onnx")
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match=r"input 'c' .* dynamic size \(U\).*--input-shape c="):
        from_file(path, (7,))
    for given in ([InputShape((7,)), InputShape((7,), "c")], [InputShape((7,), "b"), InputShape((7,), "c")]):
        assert [layer.sizes["input_size"] for layer in from_file(path, given)] == [7, 7]
    with pytest.raises(ValueError, match="fixed size 7, not 8"):
        from_file(path, [(7,), (8,), (7,)])
    with pytest.raises(ValueError, match="one of a, b, c, not 'd'"):
        from_file(path, InputShape((7,), "d"))
    with pytest.raises(ValueError, match="at most 3 shapes"):
        from_file(path, [(7,)] * 4)


def test_recurrent_and_transposed_layers_and_functions_of_the_file_are_read(tmp_path):
    onnx = pytest.importorskip("onnx")
    node, helper = onnx.helper.make_node, onnx.helper
    model = onnx_model(
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "w", "r", "b"], ["all", "last"], hidden_size=8, direction="bidirectional"),
            node("Twice", ["last"], ["y"], domain="mine"),
        ],
        {"x": ["N", 5, 6]}, {"w": (2, 32, 6), "r": (2, 32, 8), "b": (2, 64)},
    )  # fmt: skip
    body = [node("Mul", ["v", "v"], ["q"]), node("Add", ["q", "v"], ["u"])]
    versions = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("mine", "Twice", ["v"], ["u"], body, versions))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    onnx.save(model, tmp_path / "m.onnx")
    layers = from_file(tmp_path / "m.onnx")
    assert [layer.kind for layer in layers] == ["Copy", "LSTM", "LSTM", "Elementwise", "Elementwise"]
    assert layers[-1].sizes["input_size"] == 16
    assert counted(layers, 1) == 2 * 5 * 32 * (6 + 8)
    assert int(parameters("LSTM", **layers[1].sizes)) == 32 * (6 + 8 + 2)
    mirrored = onnx_model(
        [node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])],
        {"x": ["N", 6, 9, 8]}, {"w": (6, 4, 3, 3), "b": (4,)},
    )  # fmt: skip
    onnx.save(mirrored, tmp_path / "t.onnx")
    (layer,) = from_file(tmp_path / "t.onnx")
    assert counted([layer], 1) == 9 * 8 * 6 * 4 * 9
    assert (layer.sizes["padding"], layer.sizes["output_padding"]) == (1, 1)


def test_a_weight_in_a_missing_file_is_no_hindrance(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx_model([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 64]}, {"w": (64, 64)})
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert from_file(tmp_path / "m.onnx")[0].sizes["output_size"] == 64


def test_a_damaged_onnx_file_is_told_and_nothing_else(tmp_path):
    pytest.importorskip("onnx")
    whole = attention_onnx(tmp_path / "m.onnx").read_bytes()[:1500] + small_onnx(tmp_path / "n.onnx").read_bytes()
    rng = np.random.default_rng(8)
    told = 0
    for _ in range(300):
        data = bytearray(whole if rng.random() < 0.2 else (tmp_path / "n.onnx").read_bytes())
        for place in rng.integers(0, min(len(data), 1200), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        (tmp_path / "d.onnx").write_bytes(data)
        try:
            Network(from_file(tmp_path / "d.onnx", (3, 40, 48))).estimate(2)
        except (ValueError, OverflowError):
            told += 1
    assert told > 30


def test_numbers_of_another_width_are_said_and_their_bytes_priced(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx_model([onnx.helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", 64]}, {})
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.warns(FastgreenWarning, match="float16; models with prices of bytes"):
        from_file(tmp_path / "m.onnx")


@pytest.mark.parametrize("operator", ["LSTM", "Attention", "Embedding", "Conv2d"])
def test_an_operator_of_another_domain_is_unknown_whatever_its_name(tmp_path, operator):
    onnx = pytest.importorskip("onnx")
    model = onnx_model([onnx.helper.make_node(operator, ["x", "x"], ["y"], domain="theirs")], {"x": ["N", 5, 6]}, {})
    model.graph.output[0].type.CopyFrom(model.graph.input[0].type)
    model.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    onnx.save(model, tmp_path / "m.onnx")
    (layer,) = from_file(tmp_path / "m.onnx")
    assert layer.kind not in KINDS


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
    with pytest.raises(ValueError, match="3 sizes without the batch, not 2"):
        from_file(path, (40, 48))
    with pytest.raises(ValueError, match="fixed size 3, not 4"):
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
        ("net.json", '[{"kind": "ReLU", "input_size": 3, "input_size": 30}]', TraceError),
        ("net.json", "[3]", ValueError), ("net.toml", "x = ", TraceError), ("net.csv", "", ValueError),
        ("net.txt", "x", ValueError), ("net", "x", ValueError), ("net.json", "[" * 100_000, TraceError),
        ("net.json", '[{"kind": "ReLU", "input_size": [1, 2]}]', ValueError),
        ("net.json", '[{"kind": "ReLU", "input_size": []}]', ValueError),
        ("net.json", '[{"kind": "ReLU", "input_size": "many"}]', ValueError),
        ("net.json", '[{"kind": "ReLU", "input_size": null}]', ValueError),
        ("net.json", '[{"kind": "ReLU", "input_size": 99999999999999999999999}]', ValueError),
        ("net.json", '[{"kind": "ReLU", "input_size": 3, "batch_size": 3}]', ValueError),
        ("net.csv", "kind;input_size\nReLU;3\n", ValueError), ("net.csv", "kind,input_size\nReLU,many\n", ValueError),
        ("net.csv", "kind,input_size\nReLU,3,4\n", ValueError), ("net.csv", "size\n3\n", ValueError),
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(tmp_path, name, text, error):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(error, match=r"net|1\.Linear|1\.ReLU: |column 'kind'|more cells"):
        from_file(path)


def test_a_kind_in_other_letters_is_understood_and_a_slip_is_said(tmp_path):
    path = tmp_path / "net.json"
    path.write_text('\ufeff[{"kind": "relu", "input_size": 3}, {"kind": "FLATTEN"}]', encoding="utf-8")
    assert [layer.kind for layer in from_file(path)] == ["ReLU", "Flatten"]
    with pytest.warns(FastgreenWarning, match="'MaxPool' is not known; did you mean MaxPool2d"):
        assert from_list([{"kind": "MaxPool", "image_size": 3}])[0].kind == "MaxPool"


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
    with pytest.raises(ValueError, match="model must be a file"):
        load_network("resnet1000")
    with pytest.raises(ValueError, match=r"existing file, not 'nets/a\.onnx'"):
        load_network("nets/a.onnx")
    with pytest.raises(ValueError, match="a folder"):
        load_network(".")
    for name, why in (
        ("os:sep", "must be a PyTorch module"), ("json:loads", "without arguments"), ("os:", "must be package"),
        (":x", "must be package"), ("os:getcwd", "must be a PyTorch module"), ("torch.nn:Linear", "without arguments"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            load_network(name, (4,))
