# SPDX-License-Identifier: Apache-2.0
"""Spans of OpenTelemetry: the JSON of OTLP, a request a line, as its collector's file exporter writes them.

The names of the fields are those of opentelemetry-proto (trace.proto) in camel case; instants are ns since 1970.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.errors import TraceError
from fastgreen.guards.printable import encodable
from fastgreen.recordings.span_files.span_file import LARGEST_NS, Names, SpanFile, opened, parse
from fastgreen.results.nested_spans import NestedSpans
from fastgreen.units import counted

__all__ = ["read_otlp"]

_LONGEST = 100  # characters of an id


def read_otlp(path: str | Path) -> SpanFile:
    """Read the spans of OpenTelemetry from lines of JSON, packed by gzip or not.

    A last line that was cut off is left out, and a note says so.

    Raises
    ------
    TraceError
        If a line is not JSON, there are no spans, or a span ends before it begins.
    """
    path = Path(path)
    reader, notes = _Reader(path), []
    with opened(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                request = parse(line, f"{path}, line {number},")
            except TraceError:
                if number == 1:  # one request over several lines
                    reader.take(parse(line + stream.read(), str(path)))
                    break
                if line.endswith(b"\n"):
                    raise
                notes.append("the last line was cut off: left out")
                break
            reader.take(request)
    return reader.finish(notes)


def _list(value: Any, *keys: str) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    found = next((value[key] for key in keys if key in value), None)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path, self.names = path, Names()
        self.place: dict[tuple[str, str], int] = {}
        self.rows: list[tuple[int, int, int]] = []
        self.parents: list[tuple[str, str] | None] = []
        self.ids: list[tuple[str, str]] = []
        self.untimed = self.twice = 0
        self.hosts: set[str] = set()

    def take(self, request: Any) -> None:
        for resource in _list(request, "resourceSpans", "resource_spans"):
            for attribute in _list(resource.get("resource"), "attributes"):
                value = attribute.get("value")
                if attribute.get("key") == "host.name" and isinstance(value, dict):
                    self.hosts.add(str(value.get("stringValue"))[:200])
            for scope in _list(resource, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
                for span in _list(scope, "spans"):
                    self._span(span)

    def _span(self, span: dict[str, Any]) -> None:
        begin_ns, end_ns = _ns(span.get("startTimeUnixNano")), _ns(span.get("endTimeUnixNano"))
        if begin_ns is None or end_ns is None:  # 0: not known, by the protocol
            self.untimed += 1
            return
        if end_ns < begin_ns:
            raise TraceError(
                f"{self.path}: the end of a span must not be before its begin, and {str(span.get('name'))[:80]!r} ends "
                f"at {end_ns} ns and begins at {begin_ns} ns"
            )
        trace, own = str(span.get("traceId")), str(span.get("spanId"))
        if span.get("spanId"):
            if (trace, own) in self.place:  # sent twice, after a timeout
                self.twice += 1
                return
            self.place[trace, own] = len(self.rows)
        self.ids.append((encodable(trace)[:_LONGEST], encodable(own)[:_LONGEST]))
        around = span.get("parentSpanId")
        self.parents.append((trace, str(around)) if around else None)
        self.rows.append((begin_ns, end_ns, self.names.number(span.get("name"))))

    def finish(self, notes: list[str]) -> SpanFile:
        if self.untimed:
            notes.append(f"{counted(self.untimed, 'span')} without a begin or an end: left out")
        if self.twice:
            notes.append(f"{counted(self.twice, 'span')} sent twice: counted once")
        if not self.rows:
            raise TraceError(f"{self.path} must hold at least one span of OpenTelemetry with a begin and an end")
        begin, end, name = np.array(self.rows, np.int64).T
        parent = np.array([self.place.get(key, -1) if key else -1 for key in self.parents], np.int64)
        spans = NestedSpans(begin, end, parent, np.ones(len(begin)))
        if lost := sum(key is not None for key in self.parents) - int(np.sum(parent >= 0)):
            notes.append(f"{counted(lost, 'span')} inside of spans that the file does not have")
        host = self.hosts.pop() if len(self.hosts) == 1 else None
        device = np.full(len(begin), -1)
        ids = pa.table({"trace_id": [one[0] for one in self.ids], "span_id": [one[1] for one in self.ids]})
        return SpanFile(
            self.path, "OpenTelemetry", spans, self.names.all, name, device, "realtime", False, host, notes, ids
        )  # fmt: skip


def _ns(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value < LARGEST_NS else None
