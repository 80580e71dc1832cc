"""Work of the layers of language models: norms, embeddings, attention on a cache, the cache, the framework itself.

The first pass over a prompt multiplies matrices; each later token reads all weights and the cache for a few products.
So bytes have their own prices:

- PyTorch's attention on a CPU skips what a causal mask hides: query i of `rows` meets ``cache + i`` keys.
- A cache grows by a copy: transformers' dynamic cache concatenates the stored keys and values with the new ones.
- A generation costs the interpreter and the framework the same whatever the sizes: a step for each token, and a price
  for each block in it. Blocks with rotary positions call more functions than others, so they are a kind of their own.
"""

from __future__ import annotations

import numpy as np

from fastgreen.estimate.layers import Columns

__all__ = ["SEQUENCE_TERMS", "sequence_terms"]

FRESH_BYTES = 32 * 2**20  # as in work.py: newly mapped memory

SEQUENCE_TERMS: dict[str, tuple[str, ...]] = {
    "LayerNorm": ("bytes_moved", "rows", "calls"),
    "RMSNorm": ("bytes_moved", "fresh_bytes", "rows", "calls"),
    "Embedding": ("bytes_moved", "rows", "calls"),
    "CachedAttention": ("products", "scores", "bytes_cache", "bytes_queries", "heads", "calls"),
    "CacheAppend": ("bytes_moved", "fresh_bytes", "calls"),
    **dict.fromkeys(("Generation", "RotaryGeneration"), ("calls", "steps", "blocks")),
}


def sequence_terms(kind: str, f: Columns) -> dict[str, np.ndarray]:
    """Work terms of layers of language models, without the call; `f` holds all sizes as float64."""
    return {
        "LayerNorm": _norm, "RMSNorm": _norm, "Embedding": _embedding, "CachedAttention": _attention,
        "CacheAppend": _append, "Generation": _generation,
        "RotaryGeneration": _generation,
    }[kind](f)  # fmt: skip


def _fresh(size: np.ndarray) -> np.ndarray:
    return np.where(size >= FRESH_BYTES, size, 0.0)


def _norm(f: Columns) -> dict[str, np.ndarray]:
    elements = f["batch_size"] * f["input_size"]
    size = f["bits"] / 8 * elements
    return {"bytes_moved": 2 * size, "fresh_bytes": _fresh(size), "rows": elements / f["channels"]}


def _embedding(f: Columns) -> dict[str, np.ndarray]:
    rows = f["batch_size"] * f["rows"]
    return {"bytes_moved": (f["weight_bits"] + f["bits"]) / 8 * rows * f["embed_size"], "rows": rows}


def _attention(f: Columns) -> dict[str, np.ndarray]:
    """Products and scores that the mask leaves; every key and value is read once, also for several groups of heads."""
    keys = f["cache"] + np.where(f["causal"] != 0, (f["rows"] + 1) / 2, f["rows"])
    heads = f["batch_size"] * f["heads"]
    scores = heads * f["rows"] * keys
    stored = f["batch_size"] * f["kv_heads"] * (f["cache"] + f["rows"])
    return {
        "products": 2 * scores * f["head_size"],
        "scores": scores,
        "bytes_cache": f["bits"] / 4 * stored * f["head_size"],
        "bytes_queries": f["bits"] / 4 * heads * f["rows"] * f["head_size"],
        "heads": heads,
    }


def _append(f: Columns) -> dict[str, np.ndarray]:
    """Keys and values are read and written; each of the two is an allocation of its own."""
    one = f["bits"] / 8 * f["batch_size"] * f["kv_heads"] * f["head_size"] * (f["cache"] + f["rows"])
    return {"bytes_moved": 4 * one, "fresh_bytes": 2 * _fresh(one)}


def _generation(f: Columns) -> dict[str, np.ndarray]:
    return {"steps": f["steps"], "blocks": f["steps"] * f["blocks"]}
