# SPDX-License-Identifier: Apache-2.0
"""Small sound ONNX models, spoilt a field of their protobuf messages at a time."""

from __future__ import annotations

import functools
from typing import Any

import onnx
from onnx import TensorProto as T
from onnx import helper as h

from tests.fuzz.fields import Choice

INTS = [
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    16,
    64,
    255,
    4096,
    65_537,
    2**20,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**53 + 1,
    2**62,
    2**63 - 1,
]
INTS += [-1, -2, -3, -(2**31), -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e30, -1e30, float("inf"), float("-inf"), float("nan")]
NAMES = [
    "",
    "x",
    "y",
    "w",
    "a",
    "b",
    "n",
    "f",
    "ai.onnx",
    "ai.onnx.ml",
    "\x1b[2J",
    "a" * 2000,
    "[/b]",
    "then_branch",
    "$",
]
OPS = ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "Gemm", "MatMul", "Einsum", "Attention"]
OPS += ["Gather", "LSTM", "GRU", "RNN", "BatchNormalization", "LayerNormalization", "GroupNormalization", "Relu", "Add"]
OPS += ["Softmax", "Concat", "Resize", "Reshape", "Shape", "Size", "Constant", "ConstantOfShape", "Range", "Tile", "If"]
OPS += [
    "Loop",
    "Scan",
    "Pad",
    "Slice",
    "Split",
    "Expand",
    "Pow",
    "Mod",
    "Cast",
    "Where",
    "TopK",
    "QLinearConv",
    "ReduceSum",
]
OPS += [
    "RegexFullMatch",
    "Unsqueeze",
    "Transpose",
    "GatherND",
    "ScatterND",
    "OneHot",
    "CumSum",
    "NonZero",
    "Clip",
    "Div",
]
ATTRIBUTES = ["kernel_shape", "strides", "pads", "dilations", "group", "auto_pad", "axis", "axes", "perm", "equation"]
ATTRIBUTES += [
    "hidden_size",
    "direction",
    "layout",
    "ceil_mode",
    "q_num_heads",
    "kv_num_heads",
    "num_outputs",
    "to",
    "value",
]
ATTRIBUTES += ["output_padding", "output_shape", "start", "end", "transA", "transB", "keepdims", "mode", "allowzero"]
EQUATIONS = [
    "ij,jk->ik",
    "...ij,...jk->...ik",
    "bhid,bhjd->bhij",
    "ij",
    "->",
    "ii->i",
    "a" * 60,
    "ij,,jk->ik",
    "i...,j->",
]
_MOST_CHANGES = 10
_MOST_PLACES = 600
_MOST_REPEATED = 64


def _value(name: str, shape: Any, kind: int = T.FLOAT) -> Any:
    return h.make_tensor_value_info(name, kind, shape)


def _model(nodes: list[Any], shape: list[Any], weights: dict[str, list[int]], **more: Any) -> Any:
    tensors = [_weights(name, dims) for name, dims in weights.items()]
    tensors += [h.make_tensor(n, T.INT64, [len(v)], v) for n, v in more.get("numbers", {}).items()]
    tensors += more.get("tensors", [])
    graph = h.make_graph(nodes, "g", [_value("x", shape), *more.get("inputs", [])], [_value("y", None)], tensors)
    opsets = [h.make_opsetid("", more.get("opset", 18)), h.make_opsetid("f", 1)]
    return h.make_model(graph, opset_imports=opsets, functions=more.get("functions", []))


def _weights(name: str, dims: list[int]) -> Any:
    count = functools.reduce(int.__mul__, dims, 1)
    return h.make_tensor(name, T.FLOAT, dims, bytes(4 * count), raw=True)


def _functions() -> list[Any]:
    opsets = [h.make_opsetid("", 18), h.make_opsetid("f", 1)]
    inner = h.make_function("f", "f0", ["t"], ["u"], [h.make_node("Relu", ["t"], ["u"])], opsets)
    twice = [h.make_node("f0", ["t"], ["s"], domain="f"), h.make_node("f0", ["s"], ["u"], domain="f")]
    return [inner, h.make_function("f", "f1", ["t"], ["u"], twice, opsets)]


@functools.cache
def seeds() -> list[bytes]:
    """Models that are read without an error, in bytes."""
    n = h.make_node
    conv = [
        n("Conv", ["x", "w", "b"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        n("Relu", ["a"], ["c"]),
        n("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        n("GlobalAveragePool", ["d"], ["e"]),
        n("Flatten", ["e"], ["f"]),
        n("Gemm", ["f", "m"], ["y"], transB=1),
    ]
    shapes = [
        n("Shape", ["x"], ["s"]),
        n("Gather", ["s", "zero"], ["n"]),
        n("Concat", ["n", "rest"], ["t"], axis=0),
        n("Reshape", ["x", "t"], ["r"]),
        n("Transpose", ["r"], ["q"], perm=[0, 2, 1]),
        n("MatMul", ["r", "q"], ["p"]),
        n("Softmax", ["p"], ["o"]),
        n("Einsum", ["o", "r"], ["k"], equation="bij,bjk->bik"),
        n("MatMul", ["k", "m"], ["l"]),
        n("Add", ["l", "b"], ["y"]),
    ]
    fold = [
        n("Range", ["zero1", "four", "one"], ["a"]),
        n("Mul", ["a", "two"], ["b"]),
        n("Tile", ["b", "two"], ["c"]),
        n("ReduceSum", ["c"], ["d"], keepdims=1),
        n("Slice", ["b", "two", "three"], ["e"]),
        n("Unsqueeze", ["e", "zero"], ["f"]),
        n("Pad", ["b", "pads"], ["g"]),
        n("Expand", ["x", "wide"], ["h"]),
        n("ConstantOfShape", ["two"], ["i"]),
        n("Resize", ["h", "", "scales"], ["j"], mode="nearest"),
        n("Where", ["yes", "j", "j"], ["y"]),
    ]
    recurrent = [
        n("LSTM", ["x", "w", "r", "b"], ["a"], hidden_size=4),
        n("Squeeze", ["a", "one_"], ["c"]),
        n("GRU", ["c", "wg", "rg"], ["d"], hidden_size=3, direction="bidirectional"),
        n("Relu", ["d"], ["y"]),
    ]
    odd = [
        n("ConvTranspose", ["x", "w"], ["a"], strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1]),
        n("InstanceNormalization", ["a", "s", "s"], ["c"]),
        n("BatchNormalization", ["c", "s", "s", "s", "s"], ["d"]),
        n("AveragePool", ["d"], ["e"], kernel_shape=[2, 2], ceil_mode=1),
        n("LayerNormalization", ["e", "l"], ["f"]),
        n("Split", ["f"], ["g", "i"], axis=1, num_outputs=2),
        n("Concat", ["g", "i"], ["y"], axis=1),
    ]
    then = h.make_graph([n("Relu", ["x"], ["z"])], "t", [], [_value("z", None)])
    branch = [n("If", ["yes"], ["a"], then_branch=then, else_branch=then), n("Gather", ["table", "ids"], ["y"])]
    heads = [n("Attention", ["x", "x", "x"], ["y"], q_num_heads=2, kv_num_heads=2)]
    numbers = {
        "zero": [0],
        "one_": [0],
        "two": [2],
        "three": [3],
        "rest": [4, 16],
        "wide": [2, 3, 8, 8],
        "pads": [1, 1],
    }
    scalars = [h.make_tensor(name, T.INT64, [], [v]) for name, v in (("zero1", 0), ("four", 4), ("one", 1))]
    scalars += [h.make_tensor("scales", T.FLOAT, [4], [1.0, 1.0, 2.0, 2.0]), h.make_tensor("yes", T.BOOL, [1], [True])]
    models = [
        _model(conv, [1, 3, 8, 8], {"w": [4, 3, 3, 3], "b": [4], "m": [10, 4]}),
        _model(shapes, ["batch", 4, 16], {"m": [16, 8], "b": [8]}, numbers=numbers),
        _model(fold, [1, 3, 8, 8], {}, numbers=numbers, tensors=scalars),
        _model(recurrent, [5, 1, 6], {"w": [1, 16, 6], "r": [1, 16, 4], "b": [1, 32], "wg": [2, 9, 4], "rg": [2, 9, 3]},
               numbers={"one_": [1]}),
        _model(odd, [1, 4, 5, 5], {"w": [4, 6, 3, 3], "s": [6], "l": [9]}),
        _model(branch, [1, 3], {"table": [10, 4]}, tensors=scalars, inputs=[_value("ids", ["batch", 7], T.INT64)]),
        _model(heads, [1, 4, 8], {}, opset=23),
        _model([n("f1", ["x"], ["y"], domain="f")], [1, 3], {}, functions=_functions()),
    ]  # fmt: skip
    return [model.SerializeToString() for model in models]


def _places(message: Any) -> list[tuple[Any, Any]]:
    """(message, field) of every field that is set, and every empty field of the messages near the top."""
    found, waiting = [], [(message, 0)]
    while waiting and len(found) < _MOST_PLACES:
        one, depth = waiting.pop(0)
        present = {field.name for field, _ in one.ListFields()}
        for field in one.DESCRIPTOR.fields:
            if field.name in present or depth < 6:
                found.append((one, field))
            if field.message_type is not None and field.name in present:
                inner = getattr(one, field.name)
                waiting += [(child, depth + 1) for child in (list(inner)[:40] if _repeated(field) else [inner])]
    return found


def _repeated(field: Any) -> bool:
    known = getattr(field, "is_repeated", None)
    return field.label == field.LABEL_REPEATED if known is None else bool(known)


def _scalar(field: Any, take: Choice) -> Any:
    """A value of the field's type; one near to its meaning where the field has one."""
    if field.name in ("op_type", "name") and take.number(2):
        names = (OPS, ATTRIBUTES)[take.number(2)]
        return names[take.number(len(names))]
    kind = field.cpp_type
    if kind == field.CPPTYPE_STRING:
        texts = (NAMES, EQUATIONS)[take.number(4) == 0]
        text = texts[take.number(len(texts))]
        return text.encode() if field.type == field.TYPE_BYTES else text
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return FLOATS[take.number(len(FLOATS))]
    if kind == field.CPPTYPE_ENUM:
        return take.number(30)
    if kind == field.CPPTYPE_BOOL:
        return bool(take.number(2))
    number = INTS[take.number(len(INTS))]
    bits = 32 if kind in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    if kind in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return number % 2**bits
    return (number + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def _spoil_one(message: Any, field: Any, places: list[tuple[Any, Any]], take: Choice) -> None:
    how, repeated = take.number(6), _repeated(field)
    if how == 0:
        message.ClearField(field.name)
    elif field.message_type is not None:
        others = [getattr(m, f.name) for m, f in places if f.message_type is field.message_type]
        other = others[take.number(len(others))]
        copies = list(other) if hasattr(other, "add") else [other]
        if repeated and how == 1 and len(getattr(message, field.name)):
            del getattr(message, field.name)[take.number(len(getattr(message, field.name)))]
        elif copies:
            copy = type(copies[0])()
            copy.CopyFrom(copies[take.number(len(copies))])
            (getattr(message, field.name).add() if repeated else getattr(message, field.name)).CopyFrom(copy)
    elif repeated:
        values = list(getattr(message, field.name))
        at = take.number(len(values) + 1)
        values[at : at + (how < 4)] = [_scalar(field, take)] * (1 + (how == 5) * take.number(_MOST_REPEATED))
        getattr(message, field.name)[:] = values[: how == 1 or None]
    else:
        setattr(message, field.name, _scalar(field, take))


def spoilt_model(take: Choice) -> bytes:
    """The bytes of one of the models with fields changed."""
    model = onnx.ModelProto()
    model.ParseFromString(seeds()[take.number(len(seeds()))])
    for _ in range(_MOST_CHANGES):
        if not take.left():
            break
        places = _places(model)
        try:
            _spoil_one(*places[take.number(len(places))], places, take)
        except (ValueError, UnicodeEncodeError):
            continue
        if model.ByteSize() > 1 << 19:
            break
    return model.SerializeToString()
