"""Forward passes of the layers of language models in PyTorch, with weights and caches that come from memory.

In a network larger than the processor's cache every layer reads its weights from memory. A layer that runs alone, again
and again, reads them from the cache, which costs a third. So a `Pool` holds the weights or the cache of many equal
layers, which run in turn.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

__all__ = ["POOLED", "Pool", "pooled", "sequence_module", "small_model"]

FLOAT_BYTES = 4
MOST_TURNS = 20_000

POOLED = frozenset({"Linear", "CachedAttention", "CacheAppend"})


class Pool:
    """Numbers that layers take as their weights or caches: one tensor, cut into equal parts.

    Parameters
    ----------
    torch : module
    size_bytes : float
        Size of all parts together; 0 gives every layer one part.
    device : str
        PyTorch's name of the device.
    """

    def __init__(self, torch: Any, size_bytes: float, device: str) -> None:
        self.torch, self.device, self.elements = torch, device, int(size_bytes) // FLOAT_BYTES

    @functools.cached_property
    def numbers(self) -> Any:
        return self.torch.rand(self.elements, device=self.device) - 0.5

    def parts(self, *shapes: tuple[int, ...]) -> list[tuple[Any, ...]]:
        """Tensors of these shapes for each layer, as often as they fit, at least once."""
        sizes = [self.torch.Size(shape).numel() for shape in shapes]
        each = sum(sizes)
        turns = max(1, min(self.elements // max(1, each), MOST_TURNS))
        numbers = self.numbers if each <= self.elements else self.torch.rand(each, device=self.device) - 0.5
        found = []
        for turn in range(turns):
            cut = numbers[turn * each : (turn + 1) * each].split(sizes)
            found.append(tuple(part.view(shape) for part, shape in zip(cut, shapes, strict=True)))
        return found


def pooled(kind: str, s: dict[str, int], pool: Pool) -> Callable[[], Any]:
    """A pass of a linear layer, of attention on a cache, or of a growing cache, each time on the next part."""
    torch, batch = pool.torch, s["batch_size"]
    if kind == "Linear":
        rows = (s["rows"],) if s.get("rows", 1) > 1 else ()
        sample = torch.rand((batch, *rows, s["input_size"]), device=pool.device)
        bias = torch.rand(s["output_size"], device=pool.device) if s.get("bias", 1) else None
        weights = itertools.cycle(pool.parts((s["output_size"], s["input_size"])))
        return lambda: torch.nn.functional.linear(sample, next(weights)[0], bias)
    keys = s["cache"] + (s["rows"] if kind == "CachedAttention" else 0)
    stored = (batch, s["kv_heads"], keys, s["head_size"])
    parts = itertools.cycle(pool.parts(stored, stored))
    if kind == "CacheAppend":
        # Keys are views of the result of a linear layer.
        new = torch.rand((batch, s["rows"], s["kv_heads"], s["head_size"]), device=pool.device).transpose(1, 2)

        def append() -> Any:
            key, value = next(parts)
            return torch.cat([key, new], dim=-2), torch.cat([value, new], dim=-2)

        return append
    query = torch.rand((batch, s["rows"], s["heads"], s["head_size"]), device=pool.device).transpose(1, 2)
    options = {"is_causal": bool(s.get("causal", 1)) and s["rows"] > 1 and not s["cache"]}
    if s["kv_heads"] != s["heads"]:
        options["enable_gqa"] = True
    attention = torch.nn.functional.scaled_dot_product_attention
    return lambda: attention(query, *next(parts), **options)


def sequence_module(torch: Any, kind: str, s: dict[str, int], device: str) -> Callable[[], Any]:
    """A pass of a norm, an embedding, or another layer without a module of its own in `workload`."""
    batch, functional = s["batch_size"], torch.nn.functional
    if kind == "Embedding":
        table = torch.rand((s["entries"], s["embed_size"]), device=device)
        ids = torch.randint(s["entries"], (batch, s.get("rows", 1)), device=device)
        return lambda: functional.embedding(ids, table)
    if kind in ("LayerNorm", "RMSNorm"):
        rows, channels = max(1, s["input_size"] // s["channels"]), s["channels"]
        sample = torch.rand((batch, rows, channels), device=device)
        weight, bias = torch.rand(channels, device=device), torch.rand(channels, device=device)
        if kind == "LayerNorm":
            return lambda: functional.layer_norm(sample, (channels,), weight, bias)
        # The functions that the models of transformers call, one by one.
        return lambda: weight * (sample * torch.rsqrt(sample.pow(2).mean(-1, keepdim=True) + 1e-6))
    sample = torch.rand((batch, s["input_size"]), device=device)
    other = torch.rand((batch, s["input_size"]), device=device)
    return {
        "Elementwise": lambda: sample * other, "Copy": sample.clone, "GELU": lambda: functional.gelu(sample),
        "SiLU": lambda: functional.silu(sample),
    }[kind]  # fmt: skip


def small_model(kind: str, s: dict[str, int], device: str) -> Callable[[], Any]:
    """A generation of `steps` tokens by a model of this many blocks that are as small as transformers allows.

    Raises
    ------
    ImportError
        If transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError("collecting Generation needs transformers: pip install transformers") from error
    import torch

    blocks = s["blocks"]
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
    config: Any
    if kind == "RotaryGeneration":
        config = transformers.LlamaConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=blocks, num_attention_heads=2,
            num_key_value_heads=1, vocab_size=64, max_position_embeddings=4096, **ends,
        )  # fmt: skip
    else:
        config = transformers.GPT2Config(
            n_embd=16, n_layer=blocks, n_head=2, n_inner=16, vocab_size=64, n_positions=4096, **ends
        )
    model = transformers.AutoModelForCausalLM.from_config(config).eval().to(device)
    ids = torch.randint(64, (s["batch_size"], 4), device=device)
    mask = torch.ones_like(ids)
    return lambda: model.generate(
        ids, attention_mask=mask, max_new_tokens=s["steps"], min_new_tokens=s["steps"], do_sample=False
    )
