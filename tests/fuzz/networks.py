# SPDX-License-Identifier: Apache-2.0
"""Targets for the files of `collect`, `fit` and `estimate`: plans, measured layers, models, lists of layers, graphs."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastgreen.estimate.builtin import zoo
from fastgreen.estimate.layerfile import SCHEMA, read_conditions
from fastgreen.estimate.linear import FeatureSet, LinearModel
from fastgreen.estimate.modelfile import ModelSet, default_models, fit_physical, load_models
from fastgreen.estimate.network import Network
from fastgreen.estimate.plain import from_file
from fastgreen.estimate.sampling import read_plan
from fastgreen.estimate.tables import Table, read_networks, read_tables
from tests.fuzz.fields import NUMBERS
from tests.fuzz.guard import HERE, Take, fresh
from tests.fuzz.readers import run
from tests.fuzz.spoil import CELLS, spoilt_bytes, spoilt_json, spoilt_rows, spoilt_table

ROOT = Path(__file__).resolve().parents[2]
_LINEAR = "batch_size,input_size,output_size,cpu_energy\n"
_LINEAR += "".join(f"{b},{i},{o},{1e-12 * b * i * o + 1e-9}\n" for b in (1, 8, 32) for i in (64, 500) for o in (10, 99))
_RELU = "batch_size,input_size,cpu_energy\n"
_RELU += "".join(f"{b},{i},{1e-12 * b * i + 1e-9}\n" for b in (1, 8, 32) for i in (64, 500, 1000, 5000))
_PROJECT = '"module:VGG,rep_no:1,macs:30076,batch_size:19{},freeText:architecture=vgg16;layer_idx={},forward_passes:{}"'
_MEASURED = "project_name,cpu_energy\n" + "".join(f"{_PROJECT.format(i % 2, i, i + 1)},0.000{i}\n" for i in range(4))
_PLAN = """[collect]
seconds = 2.0
repeats = 3
channels = ["rapl:*"]
seed = 1
max_bytes = 1e9
[layer.Conv2d]
count = 5
sample = "random"
batch_size = [1, 8]
kernel_size = {values = [1, 3]}
image_size = {low = 4, high = 24, log = true}
in_channels = [1, 4]
out_channels = [1, 4]
rules = ["kernel_size <= image_size", "in_channels + 1 <= 4 * out_channels"]
[layer.ReLU]
sample = "grid"
batch_size = [1, 2]
input_size = {values = [10, 20]}
"""
_RULES = ["1", "a", "()", "kernel_size <= 10 ** 99", "batch_size // 0 == 1", "-batch_size", "(" * 90 + "1" + ")" * 90]
_RULES += [
    "1 < " * 400 + "2",
    "'a' * batch_size",
    "batch_size % 0 < 1",
    "9" * 5000 + " < 1",
    "lambda: 0",
    "x.y",
    "\ud800",
]


@functools.cache
def _layers() -> pa.Table:
    rows = []
    for repeat in range(2):
        for kind, more in (("Linear", {"output_size": 10}), ("ReLU", {})):
            for b in (1, 4, 16):
                for i in (64, 500):
                    joules = 1e-9 * b * i + 1e-6
                    rows.append({
                        "kind": kind, "sizes": list({"batch_size": b, "input_size": i, **more}.items()),
                        "repeat": repeat,
                        "passes": 10, "duration_s": 0.1, "energy_j": joules, "energy_low_j": joules, "estimated": False,
                        "energy_high_j": joules, "channels": [{"id": "a", "energy_j": joules}],
                    })  # fmt: skip
    return pa.Table.from_pylist(rows, SCHEMA)


def layers(take: Take) -> None:
    """Any files as measured layers: an error of the package, or tables that can be fitted or are refused."""
    folder = fresh("layers")
    how = take.number(4)
    if how == 0:
        with pa.OSFile(str(folder / "layers.arrow"), "wb") as sink:
            changed = spoilt_table(_layers(), take)
            with pa.ipc.new_stream(sink, changed.schema) as writer:
                writer.write_table(changed)
        if take.number(8) == 0:
            (folder / "layers.arrow").write_bytes(spoilt_bytes((folder / "layers.arrow").read_bytes(), take))
        read_conditions(folder / "layers.arrow")
    for name, text in (("linear.csv", _LINEAR), ("relu.csv", _RELU)) if how else ():
        content = spoilt_rows(text, take).encode("utf-8", "surrogatepass")
        (folder / name).write_bytes(content if how < 3 else spoilt_bytes(text.encode(), take))
    channel = (None, None, "a", "cpu_energy")[take.number(4)]
    if take.number(4) == 0:
        (folder / "net.csv").write_bytes(spoilt_rows(_MEASURED, take).encode("utf-8", "surrogatepass"))
        read_networks(folder / "net.csv", repeats=("agreeing", "all", "median")[take.number(3)])
    if take.number(8) == 0:
        preset = ("physical", "basic", "caches", "published")[take.number(4)]
        run("fit", folder, "--preset", preset, "-o", HERE / "out" / "fitted.json")
        return
    _use_models(fit_physical(read_tables(folder, channel), (None, "kernel", "basic")[take.number(3)]))


def _use_models(models: ModelSet) -> None:
    for name, batch in (("alexnet", 1), ("vgg11", 32)):
        estimate = Network(zoo(name), name, models).estimate(batch)
        # A linear model may price below 0, and knows no upper bound outside its range.
        assert math.isfinite(estimate.energy_j), estimate
        assert estimate.energy_low_j <= estimate.energy_j <= estimate.energy_high_j, estimate


@functools.cache
def _model_files() -> list[str]:
    default_models().save(HERE / "default.json")
    sizes = {name: np.array([1, 8, 32] * 4) for name in ("batch_size", "input_size")}
    sizes |= {"output_size": np.arange(12) * 9 + 1}
    table = Table("Linear", sizes, 1e-9 * sizes["batch_size"] * sizes["output_size"] + 1e-6, "here")
    linear = LinearModel.fit(table, FeatureSet(("parameters", "log1p", "macs"), degree=2))
    ModelSet({"Linear": linear}, "here", "here").save(HERE / "linear.json")
    return [(HERE / name).read_text() for name in ("linear.json", "default.json")]


def models(take: Take) -> None:
    """Any file as fitted models: an error of the package, or models that price a network within their bounds."""
    path, text = HERE / "models.json", _model_files()[take.number(2)]
    how = take.number(8)
    path.write_bytes(spoilt_json(text, take).encode() if how else spoilt_bytes(text.encode(), take))
    _use_models(load_models(path))


_LIST = '{"layers": [{"kind": "Conv2d", "image_size": 28, "kernel_size": 5, "in_channels": 1, "out_channels": 6}, '
_LIST += '{"kind": "MaxPool2d", "image_size": 28, "kernel_size": 2, "in_channels": 6, "ceil_mode": 1}, '
_LIST += '{"kind": "LSTM", "input_size": 8, "hidden_size": 4}, {"kind": "GroupNorm", "x": 1}, {"kind": "Attention", '
_LIST += '"embed_size": 8, "rows": 4, "heads": 2}, {"kind": "ConvTranspose2d", "image_size": 7, "kernel_size": 3, '
_LIST += '"in_channels": 6, "out_channels": 8, "stride": 2}, {"kind": "Embedding", "embed_size": 9, "entries": 99}]}'
_CSV = "kind,name,input_size,output_size,inplace\nLinear,a,8,2,\nReLU,b,8,,1\nFlatten,,,,\nBatchnorm,c,4,,\n"


def network(take: Take) -> None:
    """Any file as a list of layers or a plan: an error of the package, or a network with a price."""
    how = take.number(4)
    if how == 3:
        return _plan(take)
    suffix, text = ((".json", _LIST), (".csv", _CSV), (".toml", (ROOT / "examples/lenet.toml").read_text()))[how]
    path = HERE / f"network{suffix}"
    content = text.encode()
    if suffix == ".json" and take.number(8):
        content = spoilt_json(text, take).encode()
    elif suffix == ".csv" and take.number(8):
        content = spoilt_rows(text, take).encode("utf-8", "surrogatepass")
    elif take.number(4):
        content = _spoilt_values(text, take)
    else:
        content = spoilt_bytes(content, take)
    path.write_bytes(content)
    if take.number(4) == 0:
        run(
            "estimate",
            path,
            *(("--grid", "1:64:21"), ("--json",), ("--strict",), ("--batch", "2147483647"))[take.number(4)],
        )
        return None
    _price(path, take)
    return None


def _spoilt_values(text: str, take: Take) -> bytes:
    """TOML with values, keys and lines changed."""
    lines = text.splitlines()
    for _ in range(1 + take.number(6)):
        at, how = take.number(len(lines)), take.number(6)
        name, _, value = lines[at].partition("=")
        if how < 3 and value:
            cell, rule = CELLS[take.number(len(CELLS))], repr(_RULES[take.number(len(_RULES))])
            number = str(NUMBERS[take.number(len(NUMBERS))])
            values = (cell, number, rule, f"[{rule}]", "[1, 2]", "{low = 9, high = 1}", "{values = []}")
            value = values[take.number(len(values))]
            lines[at] = f"{name}= {value}"
        elif how == 3:
            lines[at] = lines[take.number(len(lines))]
        elif how == 4:
            del lines[at : at + (len(lines) > 1)]
        else:
            lines.insert(at, lines[take.number(len(lines))])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _plan(take: Take) -> None:
    path = HERE / "plan.toml"
    path.write_bytes(_spoilt_values(_PLAN, take) if take.number(8) else spoilt_bytes(_PLAN.encode(), take))
    plan = read_plan(path)
    assert plan.layers
    assert 0 < plan.duration_s < math.inf, plan.duration_s


def _price(path: Path, take: Take) -> None:
    found = from_file(path, [(), (3, 8, 8), (128,)][take.number(3)] if take.number(4) == 0 else None)
    priced = Network(found, path.stem, strict=take.number(4) == 0)
    estimate = priced.estimate(1 + take.number(64))
    assert 0 <= estimate.energy_low_j <= estimate.energy_j <= estimate.energy_high_j, estimate
    assert estimate.layers.num_rows == len(found)


def graph(take: Take) -> None:
    """Any file as an ONNX graph: an error of the package, or a network with a price."""
    from tests.fuzz.graphs import seeds, spoilt_model

    path = HERE / "graph.onnx"
    content = spoilt_model(take) if take.number(8) else spoilt_bytes(seeds()[take.number(len(seeds()))], take)
    path.write_bytes(content)
    _price(path, Take(content[-8:]))
