# SPDX-License-Identifier: Apache-2.0
"""Targets for files of spans: traces of Chrome, OpenTelemetry, tables."""

from __future__ import annotations

import functools
import gzip
import json

import numpy as np

import fastgreen as fg
from tests.fuzz.guard import HERE, Take
from tests.fuzz.readers import run
from tests.fuzz.spoil import spoilt_bytes, spoilt_json, spoilt_rows
from tests.oracles.long_runs import METADATA, SECOND, START_NS, long_run

_UNIX_NS = METADATA["realtime_ns"] - METADATA["monotonic_ns"]
_X = {"ph": "X", "cat": "cpu_op", "pid": 1, "tid": 1}
_EVENTS = [
    {**_X, "name": "a", "ts": 6.1e6, "dur": 1e6},
    {**_X, "name": "b", "ts": 6.2e6, "dur": 5e5},
    {**_X, "name": "k", "ts": 6.2e6, "dur": 5e5, "cat": "kernel", "args": {"device": 0}},
    {"ph": "B", "name": "f", "ts": 6.3e6, "pid": 2, "tid": 1, "cat": "py-spy"},
    {"ph": "E", "name": "f", "ts": 6.5e6, "pid": 2, "tid": 1},
    {"ph": "b", "name": "r", "ts": 6.3e6, "pid": 2, "cat": "c", "id": 1},
    {"ph": "e", "name": "r", "ts": 6.4e6, "pid": 2, "cat": "c", "id": 1},
]
_CHROME = json.dumps({"baseTimeNanoseconds": _UNIX_NS, "host_name": "h", "traceEvents": _EVENTS})
_SPAN = '{"traceId": "t", "spanId": "%s", "parentSpanId": "%s", "name": "n", "startTimeUnixNano": "%d", '
_SPAN += '"endTimeUnixNano": "%d"}'
_FIRST_NS = _UNIX_NS + START_NS
_SPANS = ", ".join(
    _SPAN % (a, b, _FIRST_NS + i * SECOND // 10, _FIRST_NS + (9 - i) * SECOND // 10)
    for i, (a, b) in enumerate([("a", ""), ("b", "a"), ("c", "a"), ("d", "x")])
)
_OTLP = '{"resourceSpans": [{"scopeSpans": [{"spans": [' + _SPANS + "]}]}]}"
_TABLE = "name,begin_ns,end_ns,w\n" + "".join(
    f"n{i},{START_NS + i * 10**8},{START_NS + 9 * 10**8},{i}\n" for i in range(5)
)
_OPTIONS = (
    [],
    ["--json"],
    ["--clock", "start"],
    ["--weight", "w"],
    ["--baseline", "5"],
    ["-c", "cpu"],
    ["--shift", "1"],
)


@functools.cache
def _run() -> str:
    folder = HERE / "share-run"
    if not folder.exists():
        long_run(seconds=2.0, windows=4).save(folder)
    return str(folder)


def spans(take: Take) -> None:
    """Any bytes as spans: a sentence, or energies that add up and lie within their bounds."""
    from fastgreen.recordings.span_files import charged_table, read_spans

    which, how = take.number(3), take.number(4)
    text = (_CHROME, _OTLP, _TABLE)[which]
    if how == 0:
        content = spoilt_bytes(text.encode(), take)
    elif which == 2:
        content = spoilt_rows(text, take).encode("utf-8", "surrogatepass")
    else:
        lines = [spoilt_json(text, take) for _ in range(1 + (which == 1 and take.number(3)))]
        content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if take.number(8) == 0:
        content = gzip.compress(content)
        content = spoilt_bytes(content, take) if take.number(2) else content
    path = HERE / "spans.json"
    path.write_bytes(content)
    if take.number(8) == 0:
        run("share", _run(), "--spans", path, *_OPTIONS[take.number(len(_OPTIONS))])
        return
    found = charged_table(fg.load(_run()), read_spans(path), each=bool(take.number(2)))
    columns = {n: np.array(found[n].to_pylist(), float) for n in found.column_names if n.endswith("_j")}
    for kind in ("", "total_"):
        low, energy, high = (columns[f"{kind}energy_{k}j"] for k in ("low_", "", "high_"))
        known = ~np.isnan(energy)
        assert np.all((low <= energy + 1e-9)[known]), found
        assert np.all((energy <= high * (1 + 1e-9) + 1e-9)[known]), found
    totals = {key: float(found.schema.metadata[key]) for key in (b"unattributed_j", b"baseline_j", b"drawn_j")}
    whole = np.nansum(columns["energy_j"]) + totals[b"unattributed_j"] + totals[b"baseline_j"]
    assert abs(whole - totals[b"drawn_j"]) <= 1e-9 * max(totals[b"drawn_j"], 1.0), (whole, totals)
