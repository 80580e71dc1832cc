# SPDX-License-Identifier: Apache-2.0
"""Energy of `generate` of transformers: a span per sequence, with phases "prefill" and "decode" and its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastgreen._ledger import Ledger, Span

__all__ = ["generate"]


def generate(
    model: Any, ledger: Ledger, *inputs: Any, ids: Sequence[str | int | bytes] | None = None, **options: Any
) -> Any:
    """Call ``model.generate`` and charge the sequences of its batch.

    A sequence pays until its own end: the step that makes its end token is its last one, and those that are still
    computed share the rest. The first token ends the phase "prefill". Streamers and other options work as they do
    without this function.

    Parameters
    ----------
    model : transformers.GenerationMixin
    ledger : Ledger
        Of `Monitor.ledger`.
    *inputs, **options
        Arguments of ``model.generate``.
    ids : sequence, optional
        An id for each sequence of the batch; by default 0, 1, ...

    Returns
    -------
    What ``model.generate`` returns.

    Raises
    ------
    ValueError
        If the number of ids is not that of the sequences, or the arguments hold no batch.
    """
    rows, prompts = _batch(model, inputs, options)
    if ids is not None and len(ids) != rows:
        raise ValueError(f"ids must be one for each of {rows} sequences, not {len(ids)}")
    follower = _Follower(_ends(model, options))
    options["stopping_criteria"] = [*(options.get("stopping_criteria") or []), follower]
    try:
        follower.begin(ledger, list(range(rows)) if ids is None else list(ids), prompts)
        return model.generate(*inputs, **options)
    finally:
        follower.close()


def _batch(model: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, list[int | None]]:
    """The number of sequences, and the tokens of each prompt."""
    names = (getattr(model, "main_input_name", "input_ids"), "input_ids", "inputs", "inputs_embeds")
    given = next((options[name] for name in names if options.get(name) is not None), inputs[0] if inputs else None)
    if given is None or not hasattr(given, "shape") or len(given.shape) < 2:
        raise ValueError(f"inputs must be a batch of sequences, not {type(given).__name__}")
    rows, mask = int(given.shape[0]), options.get("attention_mask")
    if mask is not None and tuple(mask.shape) == tuple(given.shape[:2]):
        return rows, [int(n) for n in mask.sum(-1).tolist()]
    return rows, [int(given.shape[1]) if "input" in names[0] else None] * rows


def _ends(model: Any, options: dict[str, Any]) -> set[int]:
    config = options.get("generation_config") or getattr(model, "generation_config", None)
    found: Any = options.get("eos_token_id", getattr(config, "eos_token_id", None))
    if hasattr(found, "tolist"):
        found = found.tolist()
    return set() if found is None else {int(one) for one in (found if isinstance(found, (list, tuple)) else [found])}


class _Follower:
    """Called after each step of `generate`, as a stopping criterion that never stops.

    With beams or several sequences per prompt, the rows of one prompt follow each other, and belong to one span.
    """

    def __init__(self, ends: set[int]) -> None:
        self.ends = ends
        self.spans: list[Span] = []
        self.ended: list[bool] | None = None

    def begin(self, ledger: Ledger, ids: list[str | int | bytes], prompts: list[int | None]) -> None:
        for one, tokens in zip(ids, prompts, strict=True):
            span = ledger.open(one)
            self.spans.append(span)
            span.phase("prefill")
            if tokens is not None:
                span.add(prompt_tokens=tokens)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        last = input_ids[:, -1].tolist()
        each = max(len(last) // len(self.spans), 1)
        if self.ended is None:
            self.ended = [False] * len(last)
            for span in self.spans:
                span.phase("decode")
        for i, span in enumerate(self.spans):
            mine = range(i * each, min((i + 1) * each, len(last)))
            made = sum(not self.ended[row] for row in mine)
            if made and span.is_open:
                span.add(tokens=made)
            for row in mine:
                self.ended[row] = self.ended[row] or last[row] in self.ends
            if span.is_open and all(self.ended[row] for row in mine):
                span.close()
        return torch.zeros(len(last), dtype=torch.bool, device=input_ids.device)

    def close(self) -> None:
        for span in self.spans:
            if span.is_open:
                span.close()
