# SPDX-License-Identifier: Apache-2.0
"""Traces in the format of Chrome: of torch.profiler, py-spy and others.

The "Trace Event Format" has events with a phase ``ph`` and a time ``ts`` in microseconds. Complete events (X), pairs
(B, E) and asynchronous pairs (b, e) are spans. Spans of one thread contain each other: one that begins while another is
open is inside of it. torch.profiler counts ``ts`` from ``baseTimeNanoseconds``, which is an instant since 1970.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import is_number
from fastgreen.recordings.span_files.span_file import LARGEST_NS, Names, SpanFile, opened, parse
from fastgreen.results.nested_spans import NestedSpans
from fastgreen.units import counted

__all__ = ["chrome_spans", "read_chrome"]

_BASE = "baseTimeNanoseconds"
_US = 1000  # ns
_SINCE_1970_US = 10**15  # an instant of the year 2001: smaller ones count from something else
# Categories of Kineto. An annotation on a GPU lasts from its first kernel to its last one: it only sums up.
_ON_GPU = frozenset({"kernel", "concurrent_kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation"})
_SUMS_UP = frozenset({"gpu_user_annotation"})
_LEFT_OUT = frozenset({"Trace", "overhead", "cuda_sync"})  # the recording itself, its own cost, waiting on a GPU
_MOST_DEVICES = 4096


def read_chrome(path: str | Path) -> SpanFile:
    """Read a trace in the format of Chrome, packed by gzip or not.

    Raises
    ------
    TraceError
        If it is not a trace, has no spans, or a span ends before it begins.
    """
    path = Path(path)
    with opened(path) as stream:
        return chrome_spans(parse(stream.read(), str(path)), path)


def chrome_spans(found: Any, path: Path) -> SpanFile:
    """The spans of a trace that was read already; `path` is for messages. TraceError as of `read_chrome`."""
    about = found if isinstance(found, dict) else {}
    events = found if isinstance(found, list) else about.get("traceEvents")
    if not isinstance(events, list):
        raise TraceError(f"{path} must be a trace of Chrome with a list of traceEvents")
    base = about.get(_BASE, 0)
    if not (is_number(base) and abs(base) < LARGEST_NS):
        raise TraceError(f"{path}: {_BASE} must be a number of ns, not {str(base)[:50]!r}")
    reader = _Reader(path, int(base))
    for place, event in enumerate(events):
        if isinstance(event, dict):
            reader.take(place, event)
    host = about.get("host_name")
    return reader.finish(_BASE in about, host if isinstance(host, str) else None)


class _Reader:
    """Collects the spans of a trace; `finish` finds the span around each one."""

    def __init__(self, path: Path, base_ns: int) -> None:
        self.path, self.base_ns = path, base_ns
        self.names, self.tracks = Names(), dict[Any, int]()
        # begin, end, place of the begin in the file, name, track, device, weight
        self.rows: list[tuple[int, int, int, int, int, int, float]] = []
        self.open: dict[Any, list[tuple[int, int, Any]]] = {}
        self.untimed = self.unmatched = 0
        self.latest_ns = -LARGEST_NS
        self.spy = self.gpu = False
        self.torch = base_ns != 0

    def take(self, place: int, event: dict[str, Any]) -> None:
        phase = event.get("ph")
        if phase not in ("X", "B", "E", "b", "e") or _category(event) in _LEFT_OUT:
            return
        at_ns = self._ns(event.get("ts"))
        length_ns = self._ns(event.get("dur", 0), 0) if phase == "X" else 0
        if at_ns is None or length_ns is None:
            self.untimed += 1
            return
        if length_ns < 0:
            raise TraceError(
                f"{self.path}: the end of a span must not be before its begin, and event {place} "
                f"({str(event.get('name'))[:80]!r}) has the length {event['dur']} us"
            )
        self.latest_ns = max(self.latest_ns, at_ns + length_ns)
        if phase == "X":
            self._add(event, at_ns, at_ns + length_ns, place, self._track(event))
        else:
            self._pair(phase, event, at_ns, place)

    def _pair(self, phase: str, event: dict[str, Any], at_ns: int, place: int) -> None:
        if phase in "BE":
            key = self._track(event)
        else:
            key = ("async", _word(event.get("cat")), _word(event.get("id", event.get("id2"))), _word(event.get("pid")))
        waiting = self.open.setdefault(key, [])
        if phase in "Bb":
            waiting.append((at_ns, place, event))
        elif waiting:
            begun_ns, place, begun = waiting.pop()
            if at_ns < begun_ns:
                raise TraceError(
                    f"{self.path}: the end of a span must not be before its begin, as of "
                    f"{str(begun.get('name'))[:80]!r}"
                )
            self._add(begun, begun_ns, at_ns, place, key)
        else:
            self.unmatched += 1

    def _track(self, event: dict[str, Any]) -> Any:
        return (_word(event.get("pid")), _word(event.get("tid")))

    def _ns(self, value: Any, base: int | None = None) -> int | None:
        if not is_number(value) or abs(value) >= LARGEST_NS / _US:
            return None
        whole = math.floor(value)
        ns = whole * _US + round((value - whole) * _US) + (self.base_ns if base is None else base)
        return ns if abs(ns) < LARGEST_NS else None

    def _add(self, event: dict[str, Any], begin_ns: int, end_ns: int, place: int, key: Any) -> None:
        category, device = _category(event), -1
        if category in _ON_GPU:
            device, self.gpu = self._device(event), True
        self.spy = self.spy or category == "py-spy"
        self.torch = self.torch or category == "cpu_op"
        track = self.tracks.setdefault((device, key), len(self.tracks))
        weight = 0.0 if category in _SUMS_UP else 1.0
        self.rows.append((begin_ns, end_ns, place, self.names.number(event.get("name")), track, device, weight))

    def _device(self, event: dict[str, Any]) -> int:
        arguments = event.get("args")
        for value in ((arguments or {}).get("device") if isinstance(arguments, dict) else None, event.get("pid")):
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_DEVICES:
                return value
        return 0

    def finish(self, absolute: bool, host: str | None) -> SpanFile:
        notes = []
        still = sum(len(waiting) for waiting in self.open.values())
        for key, waiting in self.open.items():
            for begun_ns, place, begun in waiting:
                self._add(begun, begun_ns, self.latest_ns, place, key)
        if still:
            notes.append(f"{counted(still, 'span')} without an end: taken as open until the last instant of the trace")
        if self.unmatched:
            notes.append(f"{counted(self.unmatched, 'end')} of spans without a begin: left out")
        if self.untimed:
            notes.append(f"{counted(self.untimed, 'event')} without a time: left out")
        if not self.rows:
            raise TraceError(f"{self.path} must hold at least one span, and it has no event with a begin and an end")
        table = np.array([row[:6] for row in self.rows], np.int64)
        weight = np.array([row[6] for row in self.rows])
        begin, end, places, name, track, device = table.T
        order = np.lexsort((places, -end, begin, track))
        begin, end, name, track, device, places = (c[order] for c in (begin, end, name, track, device, places))
        weight = weight[order]
        parent = _around(begin.tolist(), end.tolist(), track.tolist())
        recent = int(begin.min()) > _SINCE_1970_US * _US
        clock = "realtime" if (absolute and self.base_ns) or recent else "start" if self.spy else None
        source = "torch.profiler" if self.torch else "py-spy" if self.spy else "a trace of Chrome"
        spans = NestedSpans(begin, end, parent, weight)
        return SpanFile(
            self.path, source, spans, self.names.all, name, device, clock, self.torch or self.gpu, host, notes,
            place=places,
        )  # fmt: skip


def _category(event: dict[str, Any]) -> str:
    found = event.get("cat")
    return found if isinstance(found, str) else ""


def _word(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else str(value)


def _around(begin: list[int], end: list[int], track: list[int]) -> np.ndarray:
    """For spans sorted by track and begin, the latest one of the same track that is still open."""
    out = np.full(len(begin), -1, np.int64)
    stack: list[int] = []
    for i, at in enumerate(begin):
        if stack and track[stack[-1]] != track[i]:
            stack = []
        while stack and end[stack[-1]] <= at:
            stack.pop()
        if stack:
            out[i] = stack[-1]
        if end[i] > at:
            stack.append(i)
    return out
