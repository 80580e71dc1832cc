"""Networks from strangers: no file hangs `estimate`, fills the memory, or ends in a traceback."""

from __future__ import annotations

import contextlib
import math
import os
import time
import tracemalloc
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.estimate.onnx_reader import from_onnx
from fastgreen.estimate.plain import from_file

onnx = pytest.importorskip("onnx")
h, T = onnx.helper, onnx.TensorProto
OPSETS = [h.make_opsetid("", 18), h.make_opsetid("f", 1)]


def model(nodes, weights=(), functions=(), shape=(1, 3, 8, 8)) -> bytes:
    value = h.make_tensor_value_info
    graph = h.make_graph(
        nodes, "g", [value("x", T.FLOAT, list(shape))], [value("y", T.FLOAT, None)], initializer=list(weights)
    )
    return h.make_model(graph, opset_imports=OPSETS, functions=list(functions)).SerializeToString()


def function(name: str, called: list[str]):
    """A function whose body calls others one after the other."""
    nodes = [
        h.make_node(other, [f"t{i}"], [f"t{i + 1}"], domain="f" if other.startswith("f") else "")
        for i, other in enumerate(called)
    ]
    return h.make_function("f", name, ["t0"], [f"t{len(called)}"], nodes, OPSETS)


def doubling(depth: int) -> list:
    return [function("f0", ["Relu"]), *(function(f"f{i}", [f"f{i - 1}"] * 2) for i in range(1, depth))]


def within(seconds: float, path: Path):
    begun = time.process_time()
    try:
        return from_onnx(path)
    finally:
        assert time.process_time() - begun < seconds


@pytest.mark.parametrize("depth", [18, 42, 400])
def test_functions_that_expand_without_end_are_refused_at_once(tmp_path, depth):
    file = tmp_path / "m.onnx"
    file.write_bytes(model([h.make_node(f"f{depth - 1}", ["x"], ["y"], domain="f")], functions=doubling(depth)))
    assert file.stat().st_size < 60_000
    with pytest.raises(TraceError, match="expand to more than"):
        within(2, file)


def test_functions_that_expand_a_little_are_read(tmp_path):
    file = tmp_path / "m.onnx"
    file.write_bytes(model([h.make_node("f5", ["x"], ["y"], domain="f")], functions=doubling(6)))
    assert [layer.kind for layer in from_onnx(file)] == ["ReLU"] * 32


@pytest.mark.parametrize("circle", [["f0"], ["f1", "f0"]])
def test_a_function_that_calls_itself_is_refused(tmp_path, circle):
    file = tmp_path / "m.onnx"
    functions = [function(f"f{i}", [one]) for i, one in enumerate(circle)]
    file.write_bytes(model([h.make_node("f0", ["x"], ["y"], domain="f")], functions=functions))
    with pytest.raises(TraceError, match="calls itself"):
        within(2, file)


def test_a_function_that_is_called_twice_is_no_circle(tmp_path):
    file = tmp_path / "m.onnx"
    functions = [function("f0", ["Relu"]), function("f1", ["f0", "f0"]), function("f2", ["f0", "f1", "f0"])]
    file.write_bytes(model([h.make_node("f2", ["x"], ["y"], domain="f")], functions=functions))
    assert len(from_onnx(file)) == 4


def test_a_function_hidden_in_a_branch_counts_too(tmp_path):
    value = h.make_tensor_value_info
    branch = h.make_graph([h.make_node("f40", ["x"], ["z"], domain="f")], "b", [], [value("z", T.FLOAT, None)])
    yes = h.make_tensor("yes", T.BOOL, [], [True])
    node = h.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    file = tmp_path / "m.onnx"
    file.write_bytes(model([node], [yes], doubling(41)))
    with pytest.raises(TraceError, match="expand to more than"):
        within(2, file)


def test_functions_full_of_constants_are_refused_by_their_bytes(tmp_path):
    constant = h.make_node("Constant", [], ["c"], value=h.make_tensor("v", T.FLOAT, [60_000], [1.0] * 60_000))
    first = h.make_function("f", "f0", ["t"], ["u"], [constant, h.make_node("Relu", ["t"], ["u"])], OPSETS)
    functions = [first, *(function(f"f{i}", [f"f{i - 1}"] * 2) for i in range(1, 14))]
    file = tmp_path / "m.onnx"
    file.write_bytes(model([h.make_node("f13", ["x"], ["y"], domain="f")], functions=functions))
    with pytest.raises(TraceError, match="MiB"):
        within(2, file)


def test_a_regular_expression_on_a_constant_is_not_run(tmp_path):
    text = h.make_tensor("s", T.STRING, [1], [b"a" * 28 + b"!"])
    nodes = [h.make_node("RegexFullMatch", ["s"], ["m"], pattern="(a+)+$"), h.make_node("Relu", ["x"], ["y"])]
    file = tmp_path / "m.onnx"
    file.write_bytes(model(nodes, [text]))
    assert [layer.kind for layer in within(2, file)] == ["ReLU"]


def test_folding_has_an_end(tmp_path):
    first = h.make_tensor("i0", T.INT64, [4], [1, 2, 3, 4])
    nodes = [h.make_node("Add", [f"i{k}", f"i{k}"], [f"i{k + 1}"]) for k in range(25_000)]
    file = tmp_path / "m.onnx"
    file.write_bytes(model([*nodes, h.make_node("Relu", ["x"], ["y"])], [first]))
    assert [layer.kind for layer in within(10, file)] == ["ReLU"]


@pytest.mark.parametrize("kind", [0, 99, -1, 8, 14, 15, 16, 17, 21, 22, 23])
def test_an_element_type_that_is_undefined_or_odd_is_a_sentence(tmp_path, kind):
    weight = h.make_tensor("w", T.FLOAT, [2], [1, 2])
    weight.data_type = kind
    file = tmp_path / "m.onnx"
    file.write_bytes(model([h.make_node("Relu", ["w"], ["q"]), h.make_node("Add", ["x", "w"], ["y"])], [weight]))
    done = CliRunner().invoke(main, ["estimate", str(file)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


DIGITS = "9" * 5000
LISTS = {
    "a.json": f'[{{"kind": "Linear", "input_size": {DIGITS}, "output_size": 2}}]',
    "b.json": f'[{{"kind": "Linear", "input_size": {DIGITS[:4000]}, "output_size": 2}}]',
    "c.json": '[{"kind": "Linear", "input_size": 1e999, "output_size": NaN}]',
    "d.json": "[" * 100_000,
    "e.json": '[{"kind": "' + "k" * 500_000 + '"}]',
    "f.json": "[" + ",".join(['{"kind": "zz"}'] * 40_000) + "]",
    "a.toml": f'[[layer]]\nkind = "Linear"\ninput_size = {DIGITS}\noutput_size = 2\n',
    "b.toml": f'[[layer]]\nkind = "Linear"\ninput_size = {DIGITS[:4000]}\noutput_size = 2\n',
    "c.toml": "a = " + "[" * 100_000,
    "a.csv": f"kind,input_size,output_size\nLinear,{DIGITS},2\n",
    "b.csv": f"kind,input_size,output_size\nLinear,{DIGITS}.5,2\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_sizes_of_thousands_of_digits_and_lists_without_end_are_sentences(tmp_path, name):
    (tmp_path / name).write_text(LISTS[name])
    begun = time.process_time()
    done = CliRunner().invoke(main, ["estimate", str(tmp_path / name)])
    assert time.process_time() - begun < 5
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert len(done.output) < 2_000_000


@pytest.mark.parametrize("name", ["x.onnx", "x.json", "x.toml", "x.csv"])
@pytest.mark.parametrize("kind", ["fifo", "zero"])
def test_a_network_that_is_a_pipe_or_a_device_is_refused_at_once(tmp_path, name, kind):
    if kind == "fifo":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(TraceError, match="not a regular file"):
        from_file(tmp_path / name)
    done = CliRunner().invoke(main, ["estimate", "alexnet", "--models", str(tmp_path / name)])
    assert isinstance(done.exception, SystemExit), done.exception


SMALL = model(
    [
        h.make_node("Conv", ["x", "k"], ["a"]),
        h.make_node("Shape", ["a"], ["s"]),
        h.make_node("Reshape", ["a", "s"], ["b"]),
        h.make_node("f2", ["b"], ["y"], domain="f"),
    ],
    [h.make_tensor("k", T.FLOAT, [2, 3, 3, 3], [0.0] * 54)],
    doubling(3),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=3)), max_size=4))
def test_damaged_models_are_read_or_refused_in_a_sentence(tmp_path, changes):
    data = bytearray(SMALL)
    for place, noise in changes:
        data[place : place + len(noise)] = noise
    file = tmp_path / "m.onnx"
    file.write_bytes(bytes(data))
    begun = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from_onnx(file)
    except ValueError:  # TraceError is one
        assert time.process_time() - begun < 5


def test_an_attribute_of_a_function_outside_of_it_is_damage(tmp_path):
    node = h.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)
    node.attribute[0].ref_attr_name = "size"
    weights = [h.make_tensor(n, T.FLOAT, [1, 16, k], bytes(64 * k), raw=True) for n, k in (("w", 6), ("r", 4))]
    file = tmp_path / "m.onnx"
    file.write_bytes(model([node], weights, shape=(5, 1, 6)))
    with contextlib.suppress(TraceError):
        assert within(2, file)


@pytest.mark.parametrize("parts", [1, 2, 4, 0, -1, 2**62])
def test_a_split_into_another_number_of_parts_does_not_end_the_process(tmp_path, parts):
    nodes = [h.make_node("Split", ["x"], ["a", "b", "c"], axis=1, num_outputs=parts), h.make_node("Relu", ["a"], ["y"])]
    file = tmp_path / "m.onnx"
    file.write_bytes(model(nodes, shape=(1, 6, 8, 8)))
    with pytest.raises(TraceError, match="do not fit together at Split"):
        within(2, file)


@pytest.mark.parametrize("kind", [-3, 99, 2**31 - 1])
def test_an_input_of_an_unknown_type_is_damage_or_unknown(tmp_path, kind):
    made = onnx.ModelProto.FromString(model([h.make_node("Flux", ["x"], ["a"]), h.make_node("Relu", ["x"], ["y"])]))
    made.graph.input[0].type.tensor_type.elem_type = kind
    file = tmp_path / "m.onnx"
    file.write_bytes(made.SerializeToString())
    with contextlib.suppress(TraceError):
        assert within(2, file)


@pytest.mark.parametrize("kind", [0, 99, -1])
def test_a_weight_without_a_known_type_is_damage_or_unknown(tmp_path, kind):
    weight = h.make_tensor("w", T.INT64, [1], [2])
    weight.data_type = kind
    file = tmp_path / "m.onnx"
    file.write_bytes(model([h.make_node("Reshape", ["x", "w"], ["a"]), h.make_node("Relu", ["a"], ["y"])], [weight]))
    with contextlib.suppress(TraceError):
        assert within(2, file)


@pytest.mark.parametrize("version", [2**31 - 1, 2**40, 2**63 - 1, -(2**63)])
def test_a_version_of_operators_from_far_away_takes_no_memory(tmp_path, version):
    made = onnx.ModelProto.FromString(model([h.make_node("Relu", ["x"], ["y"])]))
    made.opset_import[0].version = version
    file = tmp_path / "m.onnx"
    file.write_bytes(made.SerializeToString())
    tracemalloc.start()
    with contextlib.suppress(TraceError):
        within(2, file)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "shape", "group"),
    [("Conv", (4, 4, 3, 3), 1), ("Conv", (4, 1, 3, 3), 1), ("Conv", (6, 1, 3, 3), 2), ("Conv", (4, 2, 3), 1),
     ("ConvTranspose", (4, 3, 3, 3), 1), ("ConvTranspose", (2, 3, 3, 3), 1)],
)  # fmt: skip
def test_weights_for_another_number_of_channels_are_not_priced(tmp_path, kind, shape, group):
    weights = h.make_tensor("w", T.FLOAT, shape, [0.0] * math.prod(shape))
    image = (1, 3, *(8,) * (len(shape) - 2))
    file = tmp_path / "m.onnx"
    file.write_bytes(model([h.make_node(kind, ["x", "w"], ["y"], group=group)], [weights], shape=image))
    for options, code in (([], 0), (["--strict"], 1)):
        result = CliRunner().invoke(main, ["estimate", str(file), *options])
        assert result.exit_code == code, result.output
        assert "another number of channels" in " ".join(result.output.split())


@pytest.mark.parametrize(
    "text",
    [
        '[{"kind": "Linear", "input_size": 10, "input_size": 1000, "output_size": 10}]',
        '{"layers": [{"kind": "Linear", "input_size": 10, "output_size": 10, "output_size": 10}]}',
        '{"layers": [{"kind": "ReLU", "input_size": 10}], "layers": [{"kind": "Tanh", "input_size": 10}]}',
    ],
)
def test_a_size_that_a_list_gives_twice_is_refused(tmp_path, text):
    file = tmp_path / "m.json"
    file.write_text(text)
    with pytest.raises(TraceError, match="given twice"):
        from_file(file)
