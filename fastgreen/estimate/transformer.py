"""A transformer as a few integers, read from its configuration in the form of transformers. No weights are needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import read_small

__all__ = ["FAMILIES", "Transformer", "holds_transformer", "read_transformer"]

_LARGEST = 16 << 20  # bytes of a configuration
_MOST = 2**31 - 1
_WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")


@dataclass(frozen=True)
class Transformer:
    """Sizes of a transformer: a decoder that generates text, or an encoder that reads it in one pass.

    Attributes
    ----------
    family : str
        The ``model_type`` of transformers.
    hidden, blocks, heads, kv_heads, head_size, inner, vocabulary : int
        Width, blocks, heads of queries, heads of keys and values, width of a head, width inside the feed-forward part,
        tokens.
    norm : str
        ``"RMSNorm"`` or ``"LayerNorm"``.
    activation : str
        ``hidden_act`` of transformers.
    gated : bool
        Whether the feed-forward part has a gate: three products instead of two.
    rotary : int
        Width of a head that is rotated by its position; 0 for learnt positions.
    positions : int
        Learnt positions with a row in a table; 0 for rotary ones.
    longest : int
        Most tokens of a sequence; 0 if the configuration does not give it.
    window : int
        Tokens that attention sees; 0 for all.
    attention_bias, output_bias, inner_bias : bool
        Whether the projections to queries, keys and values, the projection back, and the feed-forward part have a bias.
    joined : bool
        Whether queries, keys and values are one product, and gate and value of the feed-forward part another.
    normed_heads : bool
        Whether queries and keys have a norm for each head.
    parallel : bool
        Whether attention and feed-forward part read the same input.
    tied : bool
        Whether the last product uses the table of tokens.
    decoder : bool
        Whether it generates text and keeps a cache.
    pooled : bool
        Whether an encoder ends in a product over its first token.
    segments : int
        Rows of the table of segments of an encoder.
    number_type : str
        Type of the numbers, such as ``"bfloat16"``.
    """

    family: str
    hidden: int
    blocks: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    norm: str
    activation: str
    gated: bool = False
    rotary: int = 0
    positions: int = 0
    longest: int = 0
    window: int = 0
    attention_bias: bool = False
    output_bias: bool = False
    inner_bias: bool = False
    joined: bool = False
    normed_heads: bool = False
    parallel: bool = False
    tied: bool = False
    decoder: bool = True
    pooled: bool = False
    segments: int = 0
    number_type: str = "float32"

    @property
    def number_bytes(self) -> int:
        """Bytes of one number."""
        return _WIDTHS[self.number_type]

    @property
    def token_cache_bytes(self) -> int:
        """Bytes of keys and values that one token keeps in all blocks; 0 for an encoder."""
        return 2 * self.blocks * self.kv_heads * self.head_size * self.number_bytes if self.decoder else 0


def holds_transformer(path: str | Path) -> bool:
    """Whether a path is a folder with the ``config.json`` of transformers, or such a file."""
    path = Path(path)
    file = path / "config.json" if path.is_dir() else path
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    try:
        found = json.loads(read_small(file, most=_LARGEST).decode("utf-8-sig"))
    except (ValueError, RecursionError, OSError):
        return False
    return isinstance(found, dict) and "model_type" in found


def read_transformer(config: Any) -> Transformer:
    """Read the sizes of a transformer from its configuration.

    Parameters
    ----------
    config : path, mapping or transformers.PretrainedConfig
        ``config.json``, a folder that holds one, its contents, or the object of transformers.

    Returns
    -------
    Transformer

    Raises
    ------
    TraceError
        If the file is not JSON.
    ValueError
        If the family is not one of :data:`FAMILIES`, the layers that run depend on the tokens (mixture of experts), the
        weights are quantised, or a size is missing or impossible.

    Examples
    --------
    >>> small = read_transformer({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100})
    >>> small.hidden, small.head_size, small.inner, small.tied
    (64, 16, 256, True)
    """
    name, given = _mapping(config)
    family = given.get("model_type")
    if not isinstance(family, str):
        raise ValueError(f"{name}: model_type must be one of {', '.join(FAMILIES)}, not {family!r}")
    if experts := next((key for key in _EXPERTS if given.get(key)), None) or ("moe" in family and "model_type"):
        raise ValueError(
            f"{name} is a mixture of experts ({experts}: {given[experts]}): the weights that are read depend on the "
            "tokens, so it must be measured, not estimated"
        )
    if given.get("quantization_config"):
        raise ValueError(f"{name} has quantised weights (quantization_config); the layers are priced in float32 only")
    if family not in FAMILIES:
        inside = next((key for key in ("text_config", "llm_config") if isinstance(given.get(key), Mapping)), None)
        hint = f"; it contains a {inside}, give that" if inside else ""
        raise ValueError(f"{name}: model_type must be one of {', '.join(FAMILIES)}, not {family!r}{hint}")
    return FAMILIES[family](Reader(name, given))


def _mapping(config: Any) -> tuple[str, Mapping[str, Any]]:
    """Name and contents of a configuration."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return str(config.get("_name_or_path") or "config"), config
    if not isinstance(config, str | Path):
        raise ValueError(
            f"config must be a path, a mapping or a configuration of transformers, not {type(config).__name__}"
        )
    path = Path(config)
    file = path / "config.json" if path.is_dir() else path
    try:
        found = json.loads(read_small(file, most=_LARGEST).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"{file}: not a configuration in JSON ({error})") from error
    if not isinstance(found, dict):
        raise TraceError(f"{file}: not a configuration of transformers (no mapping)")
    return str(path), found


class Reader:
    """Values of a configuration, checked; every error names the file and the key."""

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        self.name, self.given = name, given

    def size(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number; a missing one or null is the default."""
        value = self.given.get(key)
        value = default if value is None else value
        if type(value) is not int or not least <= value <= _MOST:
            raise ValueError(f"{self.name}: {key} must be a whole number of at least {least}, not {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.given.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise ValueError(f"{self.name}: {key} must be true or false, not {value!r}")
        return value

    def text(self, key: str, default: str) -> str:
        value = self.given.get(key) or default
        if not isinstance(value, str):
            raise ValueError(f"{self.name}: {key} must be text, not {value!r}")
        return value

    def refuse(self, key: str, default: Any, only: Any) -> None:
        """Refuse a value with another order of layers."""
        value = self.given.get(key, default)
        if value != only:
            raise ValueError(f"{self.name}: {key} must be {only!r} to be estimated, not {value!r}")

    def number_type(self) -> str:
        found = self.given.get("dtype") or self.given.get("torch_dtype") or "float32"
        found = str(found).removeprefix("torch.")
        if found not in _WIDTHS:
            raise ValueError(f"{self.name}: dtype must be one of {', '.join(_WIDTHS)}, not {found!r}")
        return found

    def heads(self, hidden: int, heads: str = "num_attention_heads") -> dict[str, Any]:
        """Heads, heads of keys and values, and the width of a head."""
        count = self.size(heads)
        kv_heads = self.size("num_key_value_heads", count)
        if count % kv_heads:
            raise ValueError(f"{self.name}: num_key_value_heads must divide {heads} ({count}), not be {kv_heads}")
        if not self.given.get("head_dim") and hidden % count:
            raise ValueError(f"{self.name}: {heads} must divide the width ({hidden}), not be {count}")
        return {"heads": count, "kv_heads": kv_heads, "head_size": self.size("head_dim", hidden // count)}

    def rotated(self, head_size: int, default: float = 1.0) -> int:
        """Width of a head that is rotated."""
        inside = self.given.get("rope_parameters")
        share = inside.get("partial_rotary_factor") if isinstance(inside, Mapping) else None
        share = share or self.given.get("partial_rotary_factor") or self.given.get("rotary_pct") or default
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"{self.name}: partial_rotary_factor must be more than 0 and at most 1, not {share!r}")
        return int(head_size * share)


def _llama(r: Reader) -> Transformer:
    """Llama, Mistral, Qwen2, Qwen3, Gemma, Phi3: RMSNorm, rotary positions, a gate, perhaps grouped queries."""
    family = r.text("model_type", "llama")
    hidden = r.size("hidden_size")
    heads = r.heads(hidden)
    windowed = r.flag("use_sliding_window", False) if family.startswith("qwen") else True
    return Transformer(
        family, hidden, r.size("num_hidden_layers"), **heads, inner=r.size("intermediate_size"),
        vocabulary=r.size("vocab_size"), norm="RMSNorm", gated=True,
        activation=r.text("hidden_act", "gelu_pytorch_tanh" if family == "gemma" else "silu"),
        rotary=r.rotated(heads["head_size"]), longest=r.size("max_position_embeddings", 0, 0),
        window=r.size("sliding_window", 0, 0) if windowed else 0,
        attention_bias=family == "qwen2" or r.flag("attention_bias", False),
        output_bias=family != "qwen2" and r.flag("attention_bias", False), inner_bias=r.flag("mlp_bias", False),
        joined=family == "phi3", normed_heads=family == "qwen3", tied=r.flag("tie_word_embeddings", family == "gemma"),
        number_type=r.number_type(),
    )  # fmt: skip


def _gpt2(r: Reader) -> Transformer:
    hidden = r.size("n_embd")
    r.refuse("add_cross_attention", False, False)
    r.refuse("reorder_and_upcast_attn", False, False)
    positions = r.size("n_positions", 1024)
    return Transformer(
        "gpt2", hidden, r.size("n_layer"), **r.heads(hidden, "n_head"), inner=r.size("n_inner", 4 * hidden),
        vocabulary=r.size("vocab_size"), norm="LayerNorm", activation=r.text("activation_function", "gelu_new"),
        positions=positions, longest=positions, attention_bias=True, output_bias=True, inner_bias=True, joined=True,
        tied=r.flag("tie_word_embeddings", True), number_type=r.number_type(),
    )  # fmt: skip


def _opt(r: Reader) -> Transformer:
    hidden = r.size("hidden_size")
    r.refuse("do_layer_norm_before", True, True)
    r.refuse("_remove_final_layer_norm", False, False)
    r.refuse("layer_norm_elementwise_affine", True, True)
    r.refuse("word_embed_proj_dim", hidden, hidden)
    bias, longest = r.flag("enable_bias", True), r.size("max_position_embeddings")
    return Transformer(
        "opt", hidden, r.size("num_hidden_layers"), **r.heads(hidden), inner=r.size("ffn_dim"),
        vocabulary=r.size("vocab_size"), norm="LayerNorm", activation=r.text("activation_function", "relu"),
        positions=longest + 2, longest=longest, attention_bias=bias, output_bias=bias, inner_bias=bias,
        tied=r.flag("tie_word_embeddings", True), number_type=r.number_type(),
    )  # fmt: skip


def _gpt_neox(r: Reader) -> Transformer:
    hidden, bias = r.size("hidden_size"), r.flag("attention_bias", True)
    heads = r.heads(hidden)
    return Transformer(
        "gpt_neox", hidden, r.size("num_hidden_layers"), **heads, inner=r.size("intermediate_size"),
        vocabulary=r.size("vocab_size"), norm="LayerNorm", activation=r.text("hidden_act", "gelu"),
        rotary=r.rotated(heads["head_size"], 0.25), longest=r.size("max_position_embeddings", 0, 0),
        attention_bias=bias, output_bias=bias, inner_bias=True, joined=True,
        parallel=r.flag("use_parallel_residual", True), tied=r.flag("tie_word_embeddings", False),
        number_type=r.number_type(),
    )  # fmt: skip


def _bert(r: Reader) -> Transformer:
    """BERT and RoBERTa: every token sees every other one, in one pass."""
    hidden = r.size("hidden_size")
    r.refuse("is_decoder", False, False)
    r.refuse("add_cross_attention", False, False)
    positions = r.size("max_position_embeddings")
    return Transformer(
        r.text("model_type", "bert"), hidden, r.size("num_hidden_layers"), **r.heads(hidden),
        inner=r.size("intermediate_size"), vocabulary=r.size("vocab_size"), norm="LayerNorm",
        activation=r.text("hidden_act", "gelu"), positions=positions, longest=positions, attention_bias=True,
        output_bias=True, inner_bias=True, decoder=False, pooled=True, segments=r.size("type_vocab_size", 2),
        number_type=r.number_type(),
    )  # fmt: skip


def _distilbert(r: Reader) -> Transformer:
    hidden, positions = r.size("dim"), r.size("max_position_embeddings")
    return Transformer(
        "distilbert", hidden, r.size("n_layers"), **r.heads(hidden, "n_heads"), inner=r.size("hidden_dim"),
        vocabulary=r.size("vocab_size"), norm="LayerNorm", activation=r.text("activation", "gelu"),
        positions=positions, longest=positions, attention_bias=True, output_bias=True, inner_bias=True, decoder=False,
        number_type=r.number_type(),
    )  # fmt: skip


FAMILIES = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3"), _llama), "gpt2": _gpt2, "opt": _opt,
    "gpt_neox": _gpt_neox, "bert": _bert, "roberta": _bert, "distilbert": _distilbert,
}  # fmt: skip
