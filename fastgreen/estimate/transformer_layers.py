"""The layers of one forward pass of a transformer, as the models of transformers run them on PyTorch.

Layers that every block repeats are listed once, with the number of blocks. The order is that of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastgreen.estimate.layers import Layer
from fastgreen.estimate.number_widths import with_widths
from fastgreen.estimate.transformer import Transformer

__all__ = ["Repeated", "parameters_of", "pass_layers"]


@dataclass(frozen=True)
class Repeated:
    """A layer and how many times a pass runs it."""

    layer: Layer
    times: int


def pass_layers(model: Transformer, rows: int, cache: int = 0) -> list[Repeated]:
    """Layers of one pass over `rows` new tokens of each sequence, behind `cache` tokens of stored keys and values.

    Parameters
    ----------
    model : Transformer
    rows : int
        New tokens of each sequence, at least 1.
    cache : int
        Tokens before them; 0 for an encoder.

    Returns
    -------
    list of Repeated
        Sizes are those of one sequence; the batch is not among them.
    """
    builder, bits = _Pass(model, rows, cache), 8 * model.number_bytes
    parts = ((builder.begin(), 1), (builder.block(), model.blocks), (builder.end(), 1))
    return [Repeated(layer, times) for layers, times in parts for layer in with_widths(layers, bits, bits)]


def parameters_of(model: Transformer) -> int:
    """Learnt numbers of the model, a shared table once; the same for any length."""
    from fastgreen.estimate.counts import parameters

    return sum(
        one.times * int(parameters(one.layer.kind, **one.layer.sizes))
        for one in pass_layers(model, 1)
        if one.layer.name != "lm_head" or not model.tied
    )


class _Pass:
    def __init__(self, model: Transformer, rows: int, cache: int) -> None:
        self.m, self.rows, self.cache = model, rows, cache
        self.elements = rows * model.hidden

    def linear(self, name: str, inputs: int, outputs: int, bias: bool, rows: int | None = None) -> Layer:
        rows = self.rows if rows is None else rows
        return Layer("Linear", {"input_size": inputs, "output_size": outputs, "rows": rows, "bias": int(bias)}, name)

    def norm(self, name: str, elements: int | None = None, channels: int | None = None) -> Layer:
        learnt = 1 if self.m.norm == "RMSNorm" else 2
        size = self.elements if elements is None else elements
        return Layer(self.m.norm, {"input_size": size, "channels": channels or self.m.hidden, "learnt": learnt}, name)

    @staticmethod
    def pointwise(name: str, elements: int, kind: str = "Elementwise") -> Layer:
        return Layer(kind, {"input_size": elements}, name)

    def begin(self) -> Iterator[Layer]:
        m = self.m
        yield self.table("tokens", m.vocabulary, self.rows)
        if m.positions:
            yield self.table("positions", m.positions, self.rows)
            yield self.pointwise("add_positions", self.elements)
        if m.segments:
            yield self.table("segments", m.segments, self.rows)
            yield self.pointwise("add_segments", self.elements)
        if not m.decoder:
            yield self.norm("norm_embeddings")
        if m.family == "gemma":
            yield self.pointwise("scale_embeddings", self.elements)

    def table(self, name: str, entries: int, rows: int) -> Layer:
        return Layer("Embedding", {"entries": entries, "embed_size": self.m.hidden, "rows": rows}, name)

    def block(self) -> Iterator[Layer]:
        m = self.m
        if m.decoder:
            yield self.norm("norm_attention")
        yield from self.attention()
        yield self.pointwise("add_attention", self.elements)
        yield self.norm("norm_feed_forward")
        yield from self.feed_forward()
        yield self.pointwise("add_feed_forward", self.elements)
        if not m.decoder:
            yield self.norm("norm_output")

    def attention(self) -> Iterator[Layer]:
        m = self.m
        wide, narrow = m.heads * m.head_size, m.kv_heads * m.head_size
        if m.joined:
            yield self.linear("qkv", m.hidden, wide + 2 * narrow, m.attention_bias)
        else:
            for name, outputs in (("query", wide), ("key", narrow), ("value", narrow)):
                yield self.linear(name, m.hidden, outputs, m.attention_bias)
        if m.normed_heads:
            yield self.norm("norm_query", self.rows * wide, m.head_size)
            yield self.norm("norm_key", self.rows * narrow, m.head_size)
        if m.family == "opt":
            yield self.pointwise("scale_query", self.rows * wide)
        if m.rotary:
            for name, heads in (("query", m.heads), ("key", m.kv_heads)):
                yield from self.rotation(name, heads)
        shape = {"kv_heads": m.kv_heads, "head_size": m.head_size, "rows": self.rows, "cache": self.cache}
        if m.decoder:
            yield Layer("CacheAppend", shape, "cache")
        yield Layer("CachedAttention", {"heads": m.heads, **shape, "causal": int(m.decoder)}, "attention")
        yield self.linear("output", wide, m.hidden, m.output_bias)

    def rotation(self, name: str, heads: int) -> Iterator[Layer]:
        """``x cos + rotate_half(x) sin``; a part that is not rotated is joined to it by one more copy."""
        elements = self.rows * heads * self.m.rotary
        yield self.pointwise(f"rotate_{name}_negate", max(1, elements // 2))
        yield self.pointwise(f"rotate_{name}_halves", elements, "Copy")
        for step in ("cos", "sin", "add"):
            yield self.pointwise(f"rotate_{name}_{step}", elements)
        if self.m.rotary < self.m.head_size:
            yield self.pointwise(f"rotate_{name}_join", self.rows * heads * self.m.head_size, "Copy")

    def feed_forward(self) -> Iterator[Layer]:
        m = self.m
        inner = self.rows * m.inner
        if m.gated and m.joined:
            yield self.linear("gate_up", m.hidden, 2 * m.inner, m.inner_bias)
        elif m.gated:
            yield self.linear("gate", m.hidden, m.inner, m.inner_bias)
            yield self.linear("up", m.hidden, m.inner, m.inner_bias)
        else:
            yield self.linear("up", m.hidden, m.inner, m.inner_bias)
        yield from self.activation(inner)
        if m.gated:
            yield self.pointwise("gate_product", inner)
        yield self.linear("down", m.inner, m.hidden, m.inner_bias)

    def activation(self, elements: int) -> Iterator[Layer]:
        name = self.m.activation
        if name == "gelu_new":
            # 0.5 x (1 + tanh(c (x + 0.044715 x^3))), a function at a time.
            for step in ("half", "cube", "scale", "add", "scale_again", "one", "product"):
                yield self.pointwise(f"gelu_{step}", elements)
            yield self.pointwise("gelu_tanh", elements, "Tanh")
            return
        kind = {"silu": "SiLU", "swish": "SiLU", "relu": "ReLU", "tanh": "Tanh"}.get(name)
        kind = kind or ("GELU" if name.startswith("gelu") else "Elementwise")
        yield self.pointwise("activation", elements, kind)

    def end(self) -> Iterator[Layer]:
        m = self.m
        if not m.decoder:
            if m.pooled:
                yield self.linear("pooler", m.hidden, m.hidden, True, rows=1)
                yield self.pointwise("pooler_tanh", m.hidden, "Tanh")
            return
        yield self.norm("norm_end")
        # A generation takes the last token's logits only.
        yield self.linear("lm_head", m.hidden, m.vocabulary, False, rows=1)
        yield self.pointwise("logits_copy", m.vocabulary, "Copy")
        yield self.pointwise("next_token", m.vocabulary)
