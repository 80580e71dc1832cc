# SPDX-License-Identifier: Apache-2.0
"""One trace of each physical counter of a host, from the traces of all processes that read it."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastgreen import _resolver
from fastgreen._light_dataclass import dataclass, replace
from fastgreen.results.trace import Trace, recount
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

    Array: TypeAlias = np.ndarray

__all__ = ["Copy", "merged_traces"]

_BOARDS = ("nvml", "amdsmi")  # a process can know a board by another number
_OWN_BEGIN = ("perf", "procstat")  # each process counts from its own begin
_FAULTS = ("missed", "lost", "read_errors")


@dataclass
class Copy:
    """A trace, and the run (by its label) that it comes from."""

    run: str
    trace: Trace

    @property
    def key(self) -> tuple[str, str]:
        """What is read: the same for each process of a host, whatever number it knows a board by."""
        channel = self.trace.channel
        if channel.counter:
            return channel.counter, channel.id.partition("/")[2] if channel.source in _BOARDS else ""
        if not channel.device or channel.source not in _BOARDS:
            return "", channel.id
        return channel.device, channel.id.partition("/")[2]

    @property
    def first_ns(self) -> int:
        return int(self.trace.tally["first_at_ns"])

    @property
    def last_ns(self) -> int:
        return int(self.trace.tally["end_at_ns"])


def merged_traces(copies: list[Copy]) -> tuple[list[Trace], list[str]]:
    """Traces of the physical counters of a host, and notes.

    The samples of a counter are those of the process that began first, then those of the process that went on longest,
    and so on. Where no process read it for a while, a new trace begins, so that the energy in between is not counted.
    """
    by_counter: dict[tuple[str, str], list[Copy]] = {}
    for copy in copies:
        by_counter.setdefault(copy.key, []).append(copy)
    out: list[Trace] = []
    notes: list[str] = []
    taken: dict[str, int] = {}
    for found in by_counter.values():
        notes += _disagreements(found)
        for chain in _chains(found):
            trace = _trace(chain, any(copy.trace.counted for copy in found))
            identity = trace.channel.id
            taken[identity] = taken.get(identity, 0) + 1
            if taken[identity] > 1:
                trace.channel = replace(trace.channel, id=f"{identity}#{taken[identity]}")
            out.append(trace)
    _without_models(out, notes)
    return out, notes


def _chains(copies: list[Copy]) -> Iterator[list[Copy]]:
    """Copies that follow each other without a hole: each begins before the last one ends, and ends later."""
    read = sorted((c for c in copies if c.trace.has_data), key=lambda c: (c.first_ns, -c.last_ns))
    if not read:
        yield copies[:1]
        return
    chain: list[Copy] = [read[0]]
    while True:
        end = chain[-1].last_ns
        going_on = [c for c in read if c.first_ns <= end < c.last_ns]
        if going_on:
            chain.append(max(going_on, key=lambda c: c.last_ns))
            continue
        yield chain
        later = [c for c in read if c.first_ns > end]
        if not later:
            return
        chain = [later[0]]


def _trace(chain: list[Copy], counted: bool) -> Trace:
    first = chain[0].trace
    if len(chain) == 1:
        return Trace(first.channel, counted, first.tally, first.source)
    own_begin, sources = first.channel.source in _OWN_BEGIN, [copy.trace.source for copy in chain]
    trace = Trace(first.channel, counted, {}, partial(_joined, first.channel.traits, own_begin, sources))
    faults = {name: sum(copy.trace.tally.get(name) or 0 for copy in chain) for name in _FAULTS}
    tallies = [copy.trace.tally for copy in chain]
    still = [stretch for tally in tallies for stretch in tally.get("still_ns") or []]
    recount([trace], **faults)
    if still:
        trace.tally["still_ns"] = still
    return trace


def _joined(traits: dict[str, Any], own_begin: bool, sources: list[Callable[[], Iterable[Array]]]) -> Iterator[Array]:
    """The samples of the first source, then of each next one those after it, with the wraps between them.

    `own_begin`: each process counts from its own begin, so the next one goes on from where the one before ended.
    """
    account = _resolver.Account(traits)
    last: Array | None = None
    for source in sources:
        until = last
        before: Array | None = None
        shift: int | None = None if own_begin and until is not None else 0
        for chunk in source():
            if until is not None:
                first = int(chunk["at_ns"].searchsorted(until["at_ns"], side="right"))
                before = chunk[first - 1] if first else before
                chunk = chunk[first:]
            if not len(chunk):
                continue
            if shift is None and until is not None:
                shift = int(until["raw"]) - _raw_at(before, chunk[0], int(until["at_ns"]))
            chunk = chunk.copy()
            chunk["raw"] += shift or 0
            last = chunk[-1].copy()
            account.feed(chunk)
            yield chunk


def _raw_at(before: Array | None, after: Array, at_ns: int) -> int:
    """What a counter showed between two of its samples, on a line."""
    if before is None:
        return int(after["raw"])
    part = (at_ns - int(before["at_ns"])) / max(int(after["at_ns"]) - int(before["at_ns"]), 1)
    return int(before["raw"]) + round(part * (int(after["raw"]) - int(before["raw"])))


def _disagreements(copies: list[Copy]) -> list[str]:
    """A note for each copy whose energy cannot be that of the first one over the time that both read."""
    read = [c for c in copies if c.trace.has_data]
    notes = []
    for other in read[1:]:
        first = read[0]
        begin, end = max(first.first_ns, other.first_ns), min(first.last_ns, other.last_ns)
        if begin >= end or first.trace.channel.estimated:
            continue
        edges = np.array([begin]), np.array([end])
        a, b = (copy.trace.windows(*edges)[0] for copy in (first, other))
        if a.low_j > b.high_j or b.low_j > a.high_j:
            notes.append(
                f"{first.trace.channel.id}: {first.run} read {a.energy_j:.4g} J ({a.low_j:.4g} .. {a.high_j:.4g}) and "
                f"{other.run} {b.energy_j:.4g} J ({b.low_j:.4g} .. {b.high_j:.4g}) in the same "
                f"{(end - begin) / NS_PER_S:.3g} s; the first counts"
            )
    return notes


def _without_models(traces: list[Trace], notes: list[str]) -> None:
    """Where one process could read the counters of the CPU, the model of another is not added to them."""
    measured = any(
        t.counted and not t.channel.estimated and t.has_data and t.channel.source in ("rapl", "perf") for t in traces
    )
    powercap = any(t.counted and t.has_data and t.channel.source == "rapl" for t in traces)
    for trace in traces:
        again = trace.channel.estimated if trace.channel.source != "perf" else powercap
        if measured and trace.counted and again:
            trace.counted = False
            notes.append(f"{trace.channel.id} is not counted: another process of this host read the CPU's counters")
