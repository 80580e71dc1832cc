"""Language models that run: counts against PyTorch's own, and a whole path from a collection to joules per token."""

from __future__ import annotations

import numpy as np
import pytest

from fastgreen.estimate import LanguageModel, read_transformer
from fastgreen.estimate.collector import collect
from fastgreen.estimate.counts import macs
from fastgreen.estimate.modelfile import fit_physical
from fastgreen.estimate.sampling import plan_from
from fastgreen.estimate.tables import read_tables
from fastgreen.estimate.transformer_layers import parameters_of, pass_layers
from fastgreen.estimate.workload import torch_workload

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

END = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
SIZES = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "vocab_size": 211,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
CONFIGS = {
    "llama": ("LlamaConfig", GROUPED | END),
    "llama with biases": ("LlamaConfig", {**GROUPED, "attention_bias": True, "mlp_bias": True, "head_dim": 24} | END),
    "mistral": ("MistralConfig", GROUPED | END),
    "qwen2, tied": ("Qwen2Config", {**GROUPED, "tie_word_embeddings": True} | END),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 32} | END),
    "gemma": ("GemmaConfig", {**GROUPED, "head_dim": 32} | END),
    "phi3": ("Phi3Config", GROUPED | END),
    "gpt2": ("GPT2Config", {"n_embd": 96, "n_layer": 3, "n_head": 6, "vocab_size": 211} | END),
    "opt": (
        "OPTConfig",
        {"hidden_size": 96, "ffn_dim": 200, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 211,
         "word_embed_proj_dim": 96} | END,
    ),
    "gpt_neox": ("GPTNeoXConfig", SIZES | END),
    "gpt_neox in a row": (
        "GPTNeoXConfig", {**SIZES, "use_parallel_residual": False, "tie_word_embeddings": True} | END,
    ),
    "bert": ("BertConfig", SIZES),
    "roberta": ("RobertaConfig", SIZES),
    "distilbert": ("DistilBertConfig", {"dim": 96, "n_layers": 3, "n_heads": 6, "hidden_dim": 160, "vocab_size": 211}),
}  # fmt: skip
BATCH, PROMPT = 2, 17


def run_macs(model, *args, **kwargs):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = model(*args, **kwargs)
    return counter.get_total_flops() // 2, result


def counted(transformer, rows, cache):
    return sum(
        one.times * int(macs(one.layer.kind, batch_size=BATCH, convention="standard", **one.layer.sizes))
        for one in pass_layers(transformer, rows, cache)
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_macs_parameters_and_cache_are_those_of_the_module(name):
    kind, sizes = CONFIGS[name]
    config = getattr(transformers, kind)(**sizes)
    transformer = read_transformer(config)
    auto = transformers.AutoModelForCausalLM if transformer.decoder else transformers.AutoModel
    # In eager attention every product is a function that PyTorch's counter knows.
    model = auto.from_config(config, attn_implementation="eager").eval()
    assert parameters_of(transformer) == model.num_parameters()
    ids = torch.ones((BATCH, PROMPT), dtype=torch.int64)
    count, result = run_macs(model, ids, **({"logits_to_keep": 1} if transformer.decoder else {}))
    assert counted(transformer, PROMPT, 0) == count
    if transformer.decoder:
        count, result = run_macs(model, ids[:, :1], past_key_values=result.past_key_values)
        assert counted(transformer, 1, PROMPT) == count
        stored = sum(one.keys.numel() + one.values.numel() for one in result.past_key_values.layers)
        assert BATCH * (PROMPT + 1) * transformer.token_cache_bytes == 4 * stored


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("Linear", {"input_size": 8, "output_size": 4}),
        ("Linear", {"input_size": 8, "output_size": 4, "rows": 3, "bias": 0}),
        ("CachedAttention", {"heads": 4, "kv_heads": 2, "head_size": 8, "rows": 5, "cache": 0}),
        ("CachedAttention", {"heads": 4, "kv_heads": 4, "head_size": 8, "rows": 1, "cache": 9}),
        ("CacheAppend", {"kv_heads": 2, "head_size": 8, "rows": 1, "cache": 9}),
        ("CacheAppend", {"kv_heads": 2, "head_size": 8, "rows": 4, "cache": 0}),
        ("RMSNorm", {"input_size": 32, "channels": 8}),
        ("LayerNorm", {"input_size": 32, "channels": 8}),
        ("Embedding", {"entries": 20, "embed_size": 8, "rows": 3}),
        ("Elementwise", {"input_size": 10}), ("Copy", {"input_size": 10}), ("GELU", {"input_size": 10}),
        ("SiLU", {"input_size": 10}), ("Generation", {"blocks": 1, "steps": 2}),
        ("RotaryGeneration", {"blocks": 2, "steps": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rotate_bytes", [0.0, 4096.0])
def test_every_layer_of_a_language_model_can_be_collected(kind, sizes, rotate_bytes):
    forward = torch_workload(rotate_bytes=rotate_bytes)(kind, {"batch_size": 2, **sizes})
    first, second = forward(), forward()
    if kind == "Linear" and rotate_bytes:
        assert not torch.equal(first, second)  # the weights of the next layer
    shape = first[0].shape if isinstance(first, tuple) else first.shape
    assert shape[0] == 2


PLAN = {
    "collect": {"seconds": 1e-4, "repeats": 1, "seed": 3},
    "layer": {
        "Linear": {"count": 24, "batch_size": {"low": 1, "high": 256, "log": True},
                   "input_size": {"values": [32, 64, 128, 256]}, "output_size": {"values": [32, 64, 128, 512]}},
        "CachedAttention": {
            "count": 30, "batch_size": [1, 4], "heads": {"values": [2, 4, 8]}, "kv_heads": {"values": [1, 2, 4]},
            "head_size": {"values": [16, 32, 64]}, "rows": {"values": [1, 8, 32, 128]},
            "cache": {"values": [0, 16, 64, 256]}, "rules": ["rows == 1 or cache == 0", "heads % kv_heads == 0"],
        },
        "CacheAppend": {
            "count": 16, "batch_size": [1, 4], "kv_heads": {"values": [1, 2, 4]}, "head_size": {"values": [16, 32, 64]},
            "rows": {"values": [1, 8, 32, 128]}, "cache": {"values": [0, 16, 64, 256]},
            "rules": ["rows == 1 or cache == 0"],
        },
        **{kind: {"count": 12, "batch_size": [1, 4], "input_size": {"values": [64, 256, 4096, 65536]},
                  "channels": {"values": [16, 32, 64]}} for kind in ("RMSNorm", "LayerNorm")},
        **{kind: {"count": 12, "batch_size": [1, 4], "input_size": {"low": 32, "high": 200_000, "log": True}}
           for kind in ("Elementwise", "Copy", "SiLU", "GELU", "ReLU", "Tanh")},
        "Embedding": {"count": 12, "batch_size": [1, 4], "entries": 500, "embed_size": {"values": [32, 64, 256]},
                      "rows": {"low": 1, "high": 128, "log": True}},
        **{kind: {"sample": "grid", "batch_size": 1, "blocks": {"values": [1, 2, 3]}, "steps": {"values": [1, 2, 4, 7]}}
           for kind in ("Generation", "RotaryGeneration")},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Models of a machine of a known law, collected from layers that run."""
    from tests.oracles.operator_law import OperatorLaw, OperatorMeter

    law, build, folder = OperatorLaw(), torch_workload(1), tmp_path_factory.mktemp("law")

    def workload(kind, sizes):
        forward = build(kind, sizes)

        def measured():
            with law:
                return forward()

        return measured

    collect(plan_from(PLAN), folder, monitor=lambda _: OperatorMeter(law), workload=workload)
    models = fit_physical(read_tables(folder), machine="a known law")
    path = folder / "models.json"
    models.save(path)
    return path


HELD_OUT = {
    "LlamaConfig": {
        "hidden_size": 192, "intermediate_size": 320, "num_hidden_layers": 5, "num_attention_heads": 6,
        "num_key_value_heads": 6, "vocab_size": 301,
    },
    "Qwen2Config": {
        "hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 4, "num_attention_heads": 5,
        "num_key_value_heads": 1, "vocab_size": 401, "tie_word_embeddings": True,
    },
    "GPT2Config": {"n_embd": 144, "n_layer": 5, "n_head": 6, "vocab_size": 350},
    "OPTConfig": {
        "hidden_size": 176, "ffn_dim": 500, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 450,
        "word_embed_proj_dim": 176,
    },
}  # fmt: skip
LENGTHS = [(11, 6, 1), (90, 5, 2), (40, 20, 3)]


@pytest.mark.slow
def test_joules_per_token_of_models_and_lengths_that_were_not_collected(fitted):
    from fastgreen.estimate import load_models
    from tests.oracles.operator_law import OperatorLaw

    models, errors = load_models(fitted), []
    for kind, sizes in HELD_OUT.items():
        config = getattr(transformers, kind)(**sizes, **END)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        language_model = LanguageModel(config, models)
        for prompt, tokens, batch in LENGTHS:
            ids = torch.ones((batch, prompt), dtype=torch.int64)
            law = OperatorLaw()
            with law, torch.no_grad():
                made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                                      min_new_tokens=tokens, do_sample=False)  # fmt: skip
            assert made.shape == (batch, prompt + tokens)
            true = law.joules / (batch * tokens)
            estimate, _, _ = language_model.generation(prompt, tokens, batch).j_per_token
            errors.append(estimate / true - 1)
    assert np.median(np.abs(errors)) < 0.05, errors
    assert np.max(np.abs(errors)) < 0.15, errors
