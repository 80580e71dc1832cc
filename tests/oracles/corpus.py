"""Networks of other people, and second counters of their multiply-accumulates: of PyTorch, and of a graph that ran."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Not for this counter: their work depends on what they find in the image.
LEFT_OUT = ("rcnn", "retinanet", "ssd", "fcos", "quantized_")

# Networks whose published count is off by more than 0.35 %, with the reason.
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
        return [(3, 128, 128), (3, 128, 128)]
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

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = (
            {"weights_backbone": None}
            if "segmentation" in torchvision.models.get_model_builder(name).__module__
            else {}
        )
        options |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        module = torchvision.models.get_model(name, weights=None, **options)
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


def language_modules() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Six architectures of transformers with random weights: name, module, inputs of one sample by name."""
    import torch
    import transformers as t

    small = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 97}
    ids = {"input_ids": torch.ones((1, SEQUENCE), dtype=torch.int64)}
    mask = {"attention_mask": torch.ones((1, SEQUENCE), dtype=torch.int64)}
    wide = {"hidden_size": 32, "intermediate_size": 48}
    yield "bert", t.BertModel(t.BertConfig(**small, **wide)), ids | mask
    yield "distilbert", t.DistilBertModel(t.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=97)), ids | mask  # fmt: skip
    yield "gpt2", t.GPT2LMHeadModel(t.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=97)), ids
    yield "llama", t.LlamaForCausalLM(t.LlamaConfig(**small, **wide, num_key_value_heads=2)), ids
    yield "opt", t.OPTForCausalLM(t.OPTConfig(hidden_size=32, ffn_dim=48, word_embed_proj_dim=32, **small)), ids | mask  # fmt: skip
    image = {"pixel_values": torch.zeros((1, 3, 32, 32))}
    yield "vit", t.ViTModel(t.ViTConfig(**{**small, **wide}, image_size=32, patch_size=8)), image


class _Plain:
    """A module of transformers that returns tensors only and keeps no cache."""

    def __new__(cls, module: Any, names: list[str]) -> Any:
        import torch

        class Plain(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = module

            def forward(self, *values: Any) -> Any:
                options = {} if "pixel_values" in names else {"use_cache": False}
                return module(**dict(zip(names, values, strict=True)), return_dict=False, **options)[0]

        return Plain().eval()


def export(module: Any, inputs: dict[str, Any], path: Path, new: bool) -> None:
    """Write a module of transformers as ONNX by the exporter of torch.export (`new`) or of TorchScript."""
    import torch

    module.config._attn_implementation = "eager" if not new else module.config._attn_implementation
    names = list(inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Plain(module.eval(), names), tuple(inputs.values()), str(path), input_names=names, dynamo=new,
            **({"external_data": False, "verbose": False} if new else {"opset_version": 17}),
        )  # fmt: skip
