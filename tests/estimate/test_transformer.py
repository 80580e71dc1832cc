"""Transformers from their configurations: counts against published ones, sums over steps, refusals, the command."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.estimate import LanguageModel, Network, default_models, read_transformer
from fastgreen.estimate.counts import macs
from fastgreen.estimate.language_model import without_calls
from fastgreen.estimate.transformer import holds_transformer
from fastgreen.estimate.transformer_layers import parameters_of, pass_layers

TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 64,
}  # fmt: skip


def decoder(family, hidden, inner, blocks, heads, kv, vocab, **more):
    return {
        "model_type": family, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": blocks,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocab, **more,
    }  # fmt: skip


# Configurations as published, with the parameters that the models have (safetensors of the Hugging Face hub).
PUBLISHED = {
    "gpt2": ({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}, 124_439_808),
    "opt-125m": (
        {"model_type": "opt", "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
         "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": 768}, 125_239_296,
    ),
    "llama-3-8b": (decoder("llama", 4096, 14336, 32, 32, 8, 128256, dtype="bfloat16"), 8_030_261_248),
    "mistral-7b": (decoder("mistral", 4096, 14336, 32, 32, 8, 32000, sliding_window=4096), 7_241_732_096),
    "qwen2-0.5b": (decoder("qwen2", 896, 4864, 24, 14, 2, 151936, tie_word_embeddings=True), 494_032_768),
    "qwen3-0.6b": (
        decoder("qwen3", 1024, 3072, 28, 16, 8, 151936, tie_word_embeddings=True, head_dim=128), 596_049_920,
    ),
    "gemma-2b": (decoder("gemma", 2048, 16384, 18, 8, 1, 256000, head_dim=256), 2_506_172_416),
    "phi-3-mini": (decoder("phi3", 3072, 8192, 32, 32, 32, 32064), 3_821_079_552),
    "pythia-160m": (
        decoder("gpt_neox", 768, 3072, 12, 12, 12, 50304, max_position_embeddings=2048, rotary_pct=0.25), 162_322_944,
    ),
    "bert-base": (decoder("bert", 768, 3072, 12, 12, 12, 30522, max_position_embeddings=512), 109_482_240),
    "distilbert": (
        {"model_type": "distilbert", "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "vocab_size": 30522,
         "max_position_embeddings": 512}, 66_362_880,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_the_parameters_that_it_is_published_with(name):
    config, parameters = PUBLISHED[name]
    assert parameters_of(read_transformer(config)) == parameters


def test_the_cache_of_a_token_has_the_heads_of_keys_and_values_only():
    assert read_transformer(PUBLISHED["llama-3-8b"][0]).token_cache_bytes == 2 * 32 * 8 * 128 * 2
    assert read_transformer(PUBLISHED["gpt2"][0]).token_cache_bytes == 2 * 12 * 768 * 4
    assert read_transformer(PUBLISHED["bert-base"][0]).token_cache_bytes == 0


@pytest.mark.parametrize(("prompt", "tokens", "batch"), [(7, 1, 1), (7, 2, 3), (5, 9, 2), (20, 44, 1)])
def test_the_decode_is_the_sum_of_its_steps(prompt, tokens, batch):
    model = LanguageModel(TINY)
    made = model.generation(prompt, tokens, batch)
    energy, count = 0.0, 0
    for step in range(tokens - 1):
        layers = pass_layers(model.transformer, 1, prompt + step)
        priced = Network([one.layer for one in layers], "step").energy_j([batch])[0][:, 0]
        energy += sum(one.times * float(joules) for one, joules in zip(layers, priced, strict=True))
        count += sum(
            one.times * int(macs(one.layer.kind, batch_size=batch, convention="standard", **one.layer.sizes))
            for one in layers
        )
    assert made.decode_j[0] == pytest.approx(energy, rel=1e-6)
    assert made.macs_decode == count
    assert made.energy_j == pytest.approx([a + b for a, b in zip(made.prefill_j, made.decode_j, strict=True)])


def test_a_generation_adds_up_over_its_layers_and_tokens():
    made = LanguageModel(TINY).generation(20, 11, 2)
    rows = made.layers.to_pylist()
    for phase, energy in (("prefill", made.prefill_j), ("decode", made.decode_j)):
        for name, value in zip(("energy_j", "energy_low_j", "energy_high_j"), energy, strict=True):
            assert sum(row[name] for row in rows if row["phase"] == phase) == pytest.approx(value)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert sum(row["macs"] for row in rows) == made.macs_prefill + made.macs_decode
    assert made.j_per_token[0] == pytest.approx(made.energy_j[0] / 22)
    assert made.j_per_decoded_token[0] == pytest.approx(made.decode_j[0] / 20)
    assert made.j_per_prompt_token[0] == pytest.approx(made.prefill_j[0] / 40)
    assert made.energy_j[1] <= made.energy_j[0] <= made.energy_j[2]
    assert made.cache_bytes == 2 * 30 * 2 * 3 * 2 * 16 * 4
    assert made.weights_bytes == 4 * parameters_of(read_transformer(TINY))


def test_energy_grows_with_the_prompt_the_tokens_and_the_batch():
    model = LanguageModel({**TINY, "max_position_embeddings": 4096})
    for name, values in (("prompt", (1, 10, 100, 1000)), ("tokens", (1, 2, 10, 100)), ("batch_size", (1, 2, 7, 20))):
        energies = [model.generation(**{"prompt": 50, "tokens": 20, name: value}).energy_j[0] for value in values]
        assert energies == sorted(energies)
        assert energies[0] < energies[-1]


def test_grouped_queries_make_the_cache_smaller_and_the_energy_less():
    full, grouped = (LanguageModel({**TINY, "num_key_value_heads": heads}).generation(40, 20) for heads in (4, 1))
    assert grouped.cache_bytes * 4 == full.cache_bytes
    assert grouped.energy_j[0] < full.energy_j[0]


def test_a_grid_has_a_row_for_each_combination():
    model = LanguageModel(TINY)
    table = model.grid([5, 10], [2, 3], [1, 4])
    assert table.num_rows == 8
    for row in table.to_pylist():
        made = model.generation(row["prompt"], row["tokens"], row["batch_size"])
        assert row["energy_j"] == made.energy_j[0]
        assert row["j_per_token"] == made.j_per_token[0]


def test_an_encoder_reads_its_input_in_one_pass():
    bert = LanguageModel(PUBLISHED["bert-base"][0])
    made = bert.generation(128)
    assert made.decode_j == (0.0, 0.0, 0.0)
    assert made.j_per_token is None
    assert made.cache_bytes == 0
    with pytest.raises(ValueError, match="tokens must be 0 for bert, which reads its input in one pass, not 4"):
        bert.generation(128, 4)


def test_what_is_a_guess_is_said():
    said = LanguageModel({**TINY, "dtype": "bfloat16"}).generation(60, 20).warnings
    assert any("the framework's own work is not collected" in text for text in said)
    assert any("numbers are bfloat16: bytes are priced by their width" in text for text in said)
    assert any("79 tokens are more than the model is made for (64)" in text for text in said)
    assert any("priced by a similar kind" in text for text in said)


def test_numbers_of_half_the_width_cost_less_and_are_marked():
    full, half = (LanguageModel({**TINY, "dtype": name}).generation(20, 20) for name in ("float32", "bfloat16"))
    assert half.energy_j[0] < full.energy_j[0]
    assert half.weights_bytes * 2 == full.weights_bytes
    assert half.cache_bytes * 2 == full.cache_bytes
    assert half.macs_decode == full.macs_decode


def test_models_without_calls_are_cheaper_by_a_call_for_each_layer():
    models = default_models()
    plain = without_calls(models)
    size = {"batch_size": 4, "input_size": 64, "output_size": 32}
    before, after = (set_.models["Linear"].predict_j(size) for set_ in (models, plain))
    assert before - after == pytest.approx(models.models["Linear"].prices["calls"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, r"mixture of experts (num_local_experts: 8)"),
        ({"model_type": "qwen2_moe"}, r"mixture of experts (model_type: qwen2_moe)"),
        ({"quantization_config": {"bits": 4}}, "has quantised weights"),
        ({"model_type": "mamba"}, "model_type must be one of llama, "),
        ({"model_type": "llava", "text_config": {}}, "it contains a text_config, give that"),
        ({"model_type": None}, "not None"),
        ({"hidden_size": None}, "hidden_size must be a whole number of at least 1, not None"),
        ({"hidden_size": 64.0}, "hidden_size must be a whole number of at least 1, not 64.0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers must be a whole number of at least 1, not -1"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "num_attention_heads must divide the width (64), not"),
        ({"num_key_value_heads": 3}, "num_key_value_heads must divide num_attention_heads (4), not be 3"),
        ({"dtype": "int8"}, "dtype must be one of float64, float32, float16, bfloat16, not 'int8'"),
        ({"attention_bias": "yes"}, "attention_bias must be true or false, not 'yes'"),
        ({"partial_rotary_factor": 2}, "partial_rotary_factor must be more than 0 and at most 1, not 2"),
        ({"vocab_size": True}, "vocab_size must be a whole number"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_estimated_is_refused_with_the_reason(change, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        read_transformer({**TINY, **change})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({**PUBLISHED["opt-125m"][0], "do_layer_norm_before": False}, "do_layer_norm_before must be True"),
        ({**PUBLISHED["opt-125m"][0], "word_embed_proj_dim": 512}, "word_embed_proj_dim must be 768"),
        ({**PUBLISHED["gpt2"][0], "add_cross_attention": True}, "add_cross_attention must be False"),
        ({**PUBLISHED["bert-base"][0], "is_decoder": True}, "is_decoder must be False"),
    ],
)
def test_another_order_of_layers_is_refused(config, said):
    with pytest.raises(ValueError, match=said):
        read_transformer(config)


@pytest.mark.parametrize(
    ("config", "given", "said"),
    [
        (TINY, {"prompt": 0, "tokens": 1}, "prompt must be a whole number of at least 1, not 0"),
        (TINY, {"prompt": 5, "tokens": 0}, "tokens must be a whole number of at least 1, not 0"),
        (TINY, {"prompt": 5, "tokens": 2.5}, "tokens must be a whole number of at least 1, not 2.5"),
        (TINY, {"prompt": 5, "tokens": 1, "batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        (PUBLISHED["gpt2"][0], {"prompt": 1000, "tokens": 100}, "fit into the 1024 positions of the model, not 1099"),
        (PUBLISHED["mistral-7b"][0], {"prompt": 4096, "tokens": 2}, r"the window of attention \(4096\)"),
    ],
)
def test_lengths_that_cannot_be_are_refused(config, given, said):
    with pytest.raises(ValueError, match=said):
        LanguageModel(config).generation(**given)


@pytest.mark.parametrize("text", ["", "[1]", "{", '"text"', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_file_that_is_no_configuration_is_damaged(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert not holds_transformer(tmp_path)
    with pytest.raises(TraceError, match="not a configuration"):
        read_transformer(tmp_path)


def test_a_list_of_layers_is_no_transformer(tmp_path):
    (tmp_path / "layers.json").write_text('[{"kind": "ReLU", "input_size": 4}]')
    assert not holds_transformer(tmp_path / "layers.json")
    assert not holds_transformer(tmp_path)
    assert not holds_transformer(tmp_path / "nothing.json")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "Tiny-0.1"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(TINY))
    return place


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_shows_both_phases_and_the_memory(folder):
    done = call("estimate", folder, "--prompt", 20, "--tokens", 8, "--batch", 2)
    assert done.exit_code == 0, done.output
    for words in ("Tiny-0.1: prompt 20, tokens 8, batch 2", "prefill ", "decode ", "per token made", "keys and values",
                  "not measured", "fastgreen collect --preset transformers"):  # fmt: skip
        assert words in done.output


def test_the_command_answers_in_json_as_python_does(folder):
    done = call("estimate", folder / "config.json", "--prompt", 20, "--tokens", 8, "--batch", 2, "--json")
    found = json.loads(done.stdout)
    made = LanguageModel(TINY).generation(20, 8, 2)
    assert found["name"] == "Tiny-0.1"
    assert (found["energy_j"], found["energy_low_j"], found["energy_high_j"]) == made.energy_j
    assert found["j_per_token"] == made.j_per_token[0]
    assert found["macs_prefill"] == made.macs_prefill
    assert len(found["layers"]) == made.layers.num_rows
    assert found["predicted"] is True


def test_lists_of_lengths_give_a_row_each(folder, tmp_path):
    done = call("estimate", folder, "--prompt", "5,10,20", "--tokens", "2:4", "-o", tmp_path / "grid.csv", "--json")
    rows = json.loads(done.stdout)
    assert [(row["prompt"], row["tokens"]) for row in rows] == [(p, t) for p in (5, 10, 20) for t in (2, 3, 4)]
    assert len((tmp_path / "grid.csv").read_text().splitlines()) == 10
    shown = call("estimate", folder, "--prompt", "1:30", "--tokens", 2).output
    assert "10 more; -o writes them all" in shown


def test_an_encoder_needs_no_tokens(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED["distilbert"][0]))
    done = call("estimate", tmp_path, "--prompt", 64)
    assert done.exit_code == 0, done.output
    assert "decode " not in done.output.replace("decode  share", "")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["FOLDER"], 2, "give --prompt"),
        (["FOLDER", "--prompt", "4", "--grid", "1:3"], 2, "--grid is not for a language model"),
        (["FOLDER", "--prompt", "4", "--accuracy", "0.5"], 2, "--accuracy is not for a language model"),
        (["vgg11", "--prompt", "4"], 2, "need a language model"),
        (["FOLDER", "--prompt", "1:200", "--tokens", "1:200"], 2, "more than 10000 combinations"),
        (["FOLDER", "--prompt", "0"], 2, "must be from 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(folder, words, code, said):
    done = call("estimate", *[str(folder) if word == "FOLDER" else word for word in words])
    assert done.exit_code == code
    assert said in " ".join(done.output.split())


def test_a_collection_has_a_plan_of_the_package_or_of_the_user(tmp_path):
    done = call("collect", "--preset", "transformers", "--dry-run", "-o", tmp_path / "layers")
    assert done.exit_code == 0, done.output
    assert "configurations, about" in done.output
    assert not (tmp_path / "layers").exists()
    assert "give either CONFIG or --preset" in call("collect").output
