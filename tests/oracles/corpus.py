"""Networks of other people, and second counters of their multiply-accumulates: of PyTorch, and of a graph that ran."""

from __future__ import annotations

import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

# Not for this counter: their work depends on what they find in the image.
LEFT_OUT = ("rcnn", "retinanet", "ssd", "fcos", "quantized_")

PUBLISHED_TO = 1e6  # the published counts have three decimals of 10^9

# Networks with a published count that differs by more than 0.35 %, with the reason.
PUBLISHED_OTHERWISE: dict[str, str] = {}


def vision_names() -> list[str]:
    """Networks of torchvision: classification, video, segmentation, optical flow."""
    import torchvision

    return [name for name in torchvision.models.list_models() if not any(word in name for word in LEFT_OUT)]


def vision_inputs(name: str) -> list[tuple[int, ...]]:
    """Shape of one sample of each input, as the default weights were measured."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    if name.startswith("raft"):
        return [(3, 512, 512), (3, 512, 512)]
    if "video" in weights.__class__.__module__ + torchvision.models.get_model_builder(name).__module__:
        crop = weights.transforms().crop_size
        return [(3, 16, crop[0], crop[1])]
    if "segmentation" in torchvision.models.get_model_builder(name).__module__:
        return [(3, 520, 520)]
    return [(3, *2 * tuple(weights.transforms().crop_size))]


def vision_module(name: str) -> Any:
    """The network with zeros as weights; large ones are not initialised first."""
    import torch
    import torchvision

    segmentation = "segmentation" in torchvision.models.get_model_builder(name).__module__
    options: dict[str, Any] = {"weights_backbone": None} if segmentation else {}
    # The published weights have a second head.
    options |= {"aux_loss": True} if name.startswith(("fcn", "deeplab")) else {}
    options |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    # The default weights of the largest one take larger images than it does without them.
    options |= {"image_size": vision_inputs(name)[0][-1]} if name.startswith("vit") else {}
    # Some builders compute with numbers, which tensors of the device "meta" do not have.
    with torch.device("cpu" if name.startswith("regnet") else "meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torchvision.models.get_model(name, weights=None, **options)
    if not name.startswith("regnet"):
        module = module.to_empty(device="cpu")
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.zero_()
    return module.eval()


def published_macs(name: str) -> float:
    """What torchvision publishes; its GFLOPS are multiply-accumulates."""
    import torchvision

    return float(torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]) * 1e9


def torch_macs(module: Any, shapes: list[tuple[int, ...]]) -> int:
    """PyTorch's own count for one sample, half its FLOPs. It runs without numbers."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = module.to("meta")
    samples = [torch.zeros((1, *shape), device="meta") for shape in shapes]
    # With gradients, so that attention takes the functions that the counter knows.
    with FlopCounterMode(display=False) as counter:
        module(*samples)
    return int(counter.get_total_flops()) // 2


def ran_macs(path: str | Path, feeds: dict[str, Any]) -> int:
    """Count of an ONNX graph from the shapes that its tensors have while onnxruntime runs it, nothing fused."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    weights = {one.name: tuple(one.dims) for one in model.graph.initializer}
    wanted = [node for node in model.graph.node if node.op_type in _PRODUCTS]
    unread = {node.op_type for node in model.graph.node} & {"If", "Loop", "Scan", "Einsum", "LSTM", "GRU", "RNN"}
    assert not unread, f"this counter does not know {unread}"
    names = {name for node in wanted for name in (*node.input[:2], *node.output[:1])} - set(weights) - set(feeds)
    present = {one.name for one in model.graph.output}
    for name in sorted(names - present):
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "m.onnx"
        onnx.save(model, copy)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(copy), options, providers=["CPUExecutionProvider"])
        outputs = [one.name for one in session.get_outputs()]
        found = {name: value.shape for name, value in zip(outputs, session.run(outputs, feeds), strict=True)}
    shapes = {**weights, **{name: value.shape for name, value in feeds.items()}, **found}
    return sum(_PRODUCTS[node.op_type](node, shapes) for node in wanted)


def _conv(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    weight = shapes[node.input[1]]
    return math.prod(shapes[node.output[0]]) * math.prod(weight[1:])


def _transposed(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _product(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    turned = any(one.name == "transA" and one.i for one in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if turned else 1]


_PRODUCTS = {"Conv": _conv, "ConvTranspose": _transposed, "MatMul": _product, "Gemm": _gemm}

SEQUENCE = 12
LANGUAGE_NAMES = ("bert", "distilbert", "gpt2", "llama", "opt", "vit")
EXPORTED_VISION = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "vit_b_16", "swin_t")


def language_module(name: str) -> tuple[Any, dict[str, Any]]:
    """A small model of transformers with random weights, and the inputs of one sample by name."""
    import torch
    import transformers as t

    small = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 97}
    wide = {"hidden_size": 32, "intermediate_size": 48}
    ids = {"input_ids": torch.ones((1, SEQUENCE), dtype=torch.int64)}
    masked = ids | {"attention_mask": torch.ones((1, SEQUENCE), dtype=torch.int64)}
    if name == "bert":
        return t.BertModel(t.BertConfig(**small, **wide)), masked
    if name == "distilbert":
        return t.DistilBertModel(
            t.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=97)
        ), masked
    if name == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=97)), masked
    if name == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(**small, **wide, num_key_value_heads=2)), masked
    if name == "opt":
        return t.OPTForCausalLM(t.OPTConfig(hidden_size=32, ffn_dim=48, word_embed_proj_dim=32, **small)), masked
    small.pop("vocab_size")
    config = t.ViTConfig(**small, **wide, image_size=32, patch_size=8)
    return t.ViTModel(config), {"pixel_values": torch.zeros((1, 3, 32, 32))}


def _plain(module: Any, names: list[str]) -> Any:
    """A module that takes its inputs in order, returns one tensor and keeps no cache."""
    import torch

    options = {} if "pixel_values" in names else {"use_cache": False}
    if type(module).__name__.startswith("DistilBert"):
        options = {}

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *values: Any) -> Any:
            return self.inner(**dict(zip(names, values, strict=True)), return_dict=False, **options)[0]

    return Plain().eval()


def export(module: Any, inputs: dict[str, Any], path: Path, new: bool) -> None:
    """Write a module as ONNX by the exporter of torch.export (`new`) or of TorchScript."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, tuple(inputs.values()), str(path), input_names=list(inputs), dynamo=new,
            **({"external_data": False, "verbose": False} if new else {"opset_version": 17}),
        )  # fmt: skip


def counted_macs(layers: list[Any]) -> int:
    from fastgreen.estimate.counts import macs
    from fastgreen.estimate.layers import KINDS

    known = [one for one in layers if one.kind in KINDS]
    return sum(int(macs(one.kind, batch_size=1, convention="standard", **one.sizes)) for one in known)


def vision_differences(name: str) -> tuple[float, float]:
    """Relative differences from PyTorch's counter, and from the published count beyond its rounding.

    No layer may be unknown.
    """
    from fastgreen.estimate.layers import FREE, KINDS
    from fastgreen.estimate.torch_reader import from_torch

    shapes, module = vision_inputs(name), vision_module(name)
    layers = from_torch(module, shapes)
    assert [one.kind for one in layers if one.kind not in KINDS and one.kind not in FREE] == [], name
    found = counted_macs(layers)
    published = published_macs(name)
    rest = max(0.0, abs(found - published) - PUBLISHED_TO / 2)
    return abs(found / torch_macs(module, shapes) - 1), rest / published


def graph_difference(path: Path, feeds: dict[str, Any]) -> float:
    """Relative difference from the macs that ran. Every node that works on the inputs must have a layer."""
    import onnx
    import onnx.inliner

    from fastgreen.estimate.onnx_reader import from_onnx
    from tests.oracles.onnx_account import missing_nodes, name_nodes

    model = name_nodes(onnx.inliner.inline_local_functions(onnx.load(path)))
    onnx.save(model, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = from_onnx(path)
    assert missing_nodes(model, layers) == []
    return abs(counted_macs(layers) / ran_macs(path, feeds) - 1)


def language_difference(name: str, new: bool, folder: Path) -> float:
    """Relative difference of an exported model of transformers from the macs that ran."""
    import pytest

    for package in ("torch", "transformers", "onnxruntime", *(["onnxscript"] if new else [])):
        pytest.importorskip(package, reason=f"{package} is not installed")
    module, inputs = language_module(name)
    module.eval()
    if not new:
        # The older exporter does not know how transformers chooses its attention.
        module.set_attn_implementation("eager")
    names = list(inputs)
    export(_plain(module, names), inputs, folder / "m.onnx", new)
    return graph_difference(folder / "m.onnx", {key: value.numpy() for key, value in inputs.items()})


def exported_vision_difference(name: str, new: bool, folder: Path) -> float:
    """Relative difference of an exported network of torchvision from the macs that ran."""
    import pytest
    import torch

    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    (shape,) = vision_inputs(name)
    image = torch.zeros((1, *shape))
    export(vision_module(name), {"image": image}, folder / "m.onnx", new)
    return graph_difference(folder / "m.onnx", {"image": image.numpy()})


def check_drawn(count: int, folder: Path) -> None:
    """Graphs that hypothesis draws have the macs that they were drawn with, and no node is lost."""
    from hypothesis import given, settings
    from hypothesis import strategies as st

    from tests.estimate.test_onnx_drawn import check_one

    @settings(max_examples=count, deadline=None)
    @given(st.data())
    def check(data: Any) -> None:
        check_one(data, folder)

    check()
