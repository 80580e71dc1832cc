# SPDX-License-Identifier: Apache-2.0
"""A server under a counter: spans that overlap, the power that they cause, and the true share of each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from fastgreen.results import run_folder
from fastgreen.results.result import Result
from tests.oracles.loops import SECOND, Loop

IDLE_W, FIRST_W, MORE_W = 60.0, 240.0, 25.0  # at rest; with one span; with each further one


@dataclass
class Server:
    """Spans of a ledger at random times. Each has a first part, in which it alone draws more, as a prefill does.

    Power is idle, or that of the spans that are open: the first costs most. `prefill` is the length of the first part
    as a share of the span, and how many W it draws above the rest.
    """

    rate_per_s: float
    lengths_s: tuple[float, float]
    seconds: float = 120.0
    update_ms: float = 100.0
    tick_ms: float = 25.0
    prefill: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    loop: Loop = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 29])
        count = int(self.rate_per_s * (self.seconds - 3))
        begin = np.sort(rng.integers(SECOND, int((self.seconds - 2) * SECOND), count))
        self.begin_ns, self.end_ns = begin, begin + (rng.uniform(*self.lengths_s, count) * SECOND).astype(np.int64)
        self.first_ns = begin + ((self.end_ns - begin) * self.prefill[0]).astype(np.int64)
        self.weight = rng.choice([1.0, 2.0], count)
        edges = np.unique(np.concatenate([[0], self.begin_ns, self.first_ns, self.end_ns]))
        opened, first = (self._open(edges, end) for end in (self.end_ns, self.first_ns))
        power = IDLE_W + FIRST_W * (opened > 0) + MORE_W * np.maximum(opened - 1, 0) + self.prefill[1] * first
        loop = Loop({"w": (5, 1.0)}, 20, self.update_ms, self.tick_ms, seconds=self.seconds, seed=self.seed)
        loop._edges, loop._power = np.append(edges, 2 * loop.end_ns), power
        loop._energy = np.concatenate([[0.0], np.cumsum(power * np.diff(loop._edges) / 1000)])
        loop.windows, self.loop = {}, loop

    def _open(self, edges: np.ndarray, end_ns: np.ndarray) -> np.ndarray:
        step = np.zeros(len(edges), np.int64)
        np.add.at(step, np.searchsorted(edges, self.begin_ns), 1)
        np.subtract.at(step, np.searchsorted(edges, end_ns), 1)
        return np.cumsum(step)

    @property
    def pieces(self) -> list[tuple[int, int, int, str | None, float, bool]]:
        """(span, begin_ns, end_ns, phase, weight, whether it is the span's last)."""
        columns = (self.begin_ns, self.first_ns, self.end_ns, self.weight)
        rows = zip(*(c.tolist() for c in columns), strict=True)
        if not self.prefill[0]:
            return [(i, begin, end, None, w, True) for i, (begin, _, end, w) in enumerate(rows)]
        out: list[tuple[int, int, int, str | None, float, bool]] = []
        for i, (begin, first, end, w) in enumerate(rows):
            out += [(i, begin, first, "prefill", w, False), (i, first, end, "decode", w, True)]
        return out

    def true_j(self) -> np.ndarray:
        """The true share of each piece."""
        _, begin, end, _, weight, _ = (np.array(c) for c in zip(*self.pieces, strict=True))
        edges = np.unique(np.concatenate([begin, end]))
        step = np.zeros(len(edges))
        np.add.at(step, np.searchsorted(edges, begin), weight)
        np.subtract.at(step, np.searchsorted(edges, end), weight)
        together = np.cumsum(step)[:-1]  # whole numbers
        per_weight = np.diff(self.loop.until(edges)) / 1e6 / np.where(together > 0, together, np.inf)
        until = np.concatenate([[0.0], np.cumsum(per_weight)])
        return weight * (until[np.searchsorted(edges, end)] - until[np.searchsorted(edges, begin)])

    def result(self) -> Result:
        """The run, with a ledger named chat."""
        trace = self.loop.trace()
        metadata = {"realtime_ns": 0, "monotonic_ns": 0, "host": "here", "format": 1, "version": "0"}
        ends = trace.tally["first_at_ns"], trace.tally["end_at_ns"]
        return Result([trace], [], metadata, *ends, spans=lambda: ledger_table(self.pieces))


def ledger_table(pieces: list[tuple[int, int, int, str | None, float, bool]]) -> pa.Table:
    """Pieces as a run keeps them, of a ledger named chat."""
    definition = json.dumps({"channels": None, "baseline_w": None, "weights": "known"})
    number, begin, end, phase, weight, last = zip(*[(-1, 0, 0, None, 0.0, False), *pieces], strict=True)
    ids = [definition, *(f"r{i}" for i in number[1:])]
    columns = [["chat"] * len(ids), number, ids, begin, end, last, phase, weight, [None] * len(ids)]
    arrays = []
    for kind, column in zip(run_folder.SPANS, columns, strict=True):
        is_code = pa.types.is_dictionary(kind.type)
        arrays.append(pa.array(column, pa.string()).dictionary_encode() if is_code else pa.array(column, kind.type))
    return pa.Table.from_batches([pa.RecordBatch.from_arrays(arrays, schema=run_folder.SPANS)])
