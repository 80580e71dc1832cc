# SPDX-License-Identifier: Apache-2.0
"""`generate` of a real, tiny model of transformers with random weights: sequences of a batch, phases and tokens."""

from __future__ import annotations

import pytest

import fastgreen as fg
from fastgreen.serving.transformers import generate

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def model():
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=64, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


def spans_of(monitor, by=None):
    return monitor.result.spans("chat", by=by).to_pylist()


def test_a_batch_has_a_span_per_sequence_with_phases_and_tokens(model):
    prompts = torch.tensor([[0, 0, 5], [3, 4, 5]])
    mask = torch.tensor([[0, 0, 1], [1, 1, 1]])
    with fg.Monitor() as monitor:
        ledger = monitor.ledger("chat")
        out = generate(model, ledger, prompts, attention_mask=mask, ids=["a", "b"], max_new_tokens=6, min_new_tokens=6)
    assert out.shape == (2, 9)
    rows = {row["id"]: row for row in spans_of(monitor)}
    assert {(i, r["tokens"], r["prompt_tokens"]) for i, r in rows.items()} == {("a", 6, 1), ("b", 6, 3)}
    phases = {(row["id"], row["phase"]): row["tokens"] for row in spans_of(monitor, "phase") if row["phase"]}
    assert set(phases) == {(i, p) for i in "ab" for p in ("prefill", "decode")}
    table = monitor.result.spans("chat")
    shared = sum(table["energy_j"].to_pylist()) + float(table.schema.metadata[b"unattributed_j"])
    assert shared == pytest.approx(float(table.schema.metadata[b"drawn_j"]), rel=1e-9)


def test_a_sequence_pays_until_its_own_end_token(model):
    class EndFirst(transformers.LogitsProcessor):
        """The first row ends after two tokens, the second goes on."""

        def __call__(self, input_ids, scores):
            scores[:, 2] = -1e9
            if input_ids.shape[1] == 4:
                scores[0] = -1e9
                scores[0, 2] = 0.0
            return scores

    with fg.Monitor() as monitor:
        generate(model, monitor.ledger("chat"), torch.tensor([[3, 4, 5], [6, 7, 8]]), max_new_tokens=8,
                 logits_processor=[EndFirst()])  # fmt: skip
    first, second = spans_of(monitor)
    assert (first["tokens"], second["tokens"]) == (2, 8)
    assert first["duration_s"] < second["duration_s"]


def test_streaming_and_keywords_and_several_sequences_per_prompt(model):
    class Kept(transformers.generation.streamers.BaseStreamer):
        pieces = 0

        def put(self, value):
            self.pieces += 1

        def end(self):
            self.pieces += 100

    streamer = Kept()
    with fg.Monitor() as monitor:
        ledger = monitor.ledger("chat")
        generate(model, ledger, input_ids=torch.tensor([[3, 4]]), max_new_tokens=4, min_new_tokens=4, streamer=streamer)
        generate(model, ledger, torch.tensor([[3, 4], [5, 6]]), max_new_tokens=3, min_new_tokens=3, do_sample=True,
                 num_return_sequences=2, ids=["c", "d"])  # fmt: skip
    assert streamer.pieces == 100 + 5
    assert [(row["id"], row["tokens"]) for row in spans_of(monitor)] == [("0", 4), ("c", 6), ("d", 6)]


def test_an_error_closes_the_spans_and_wrong_arguments_are_refused(model):
    with fg.Monitor() as monitor:
        ledger = monitor.ledger("chat")
        with pytest.raises(ValueError, match="ids must be one for each of 1"):
            generate(model, ledger, torch.tensor([[3]]), ids=["a", "b"])
        with pytest.raises(ValueError, match="must be a batch"):
            generate(model, ledger)
        with pytest.raises(IndexError):
            generate(model, ledger, torch.tensor([[3, 4000]]), max_new_tokens=2)
    assert not any("open at the end" in note for note in monitor.result.notes)
    assert len(spans_of(monitor)) == 1
