# SPDX-License-Identifier: Apache-2.0
"""The timeline of a run: a reader of the format accepts it, joules are the run's, profiles keep their events."""

from __future__ import annotations

import collections
import gzip
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.recordings.span_files import charged_table, read_spans
from fastgreen.reports.timeline import trace_of, write_trace
from fastgreen.results.trace import Windows
from tests.oracles.long_runs import METADATA, SECOND, START_NS, long_run, with_spans

UNIX_NS = METADATA["realtime_ns"] - METADATA["monotonic_ns"]


class Timeline:
    """A reader of the Trace Event Format that raises where a viewer would show something else or nothing."""

    def __init__(self, trace):
        self.counters = collections.defaultdict(list)
        self.slices = collections.defaultdict(list)
        self.labels = {}
        opened, ids = {}, set()
        for event in json.loads(json.dumps(trace, allow_nan=False))["traceEvents"]:
            phase = event["ph"]
            assert isinstance(event["name"], str)
            assert isinstance(event["pid"], int)
            assert isinstance(event["tid"], int)
            assert math.isfinite(event["ts"])
            if phase == "M":
                assert event["name"] in ("process_name", "thread_name")
                self.labels[event["name"], event["pid"], event["tid"]] = event["args"]["name"]
            elif phase == "C":
                assert all(isinstance(v, float) for v in event["args"].values())
                self.counters[event["name"]].append((event["ts"], event["args"]["W"]))
            elif phase == "X":
                assert event["dur"] >= 0
                self._add(event, event["ts"] + event["dur"], (event["pid"], event["tid"]))
            elif phase == "b":
                key = (event["cat"], event["id"])
                around = opened.setdefault(key, [])
                assert around or key not in ids, "an id is used twice"
                assert not around or event["ts"] >= around[-1]["ts"] - 1e-3
                ids.add(key)
                around.append(event)
            else:
                assert phase == "e", phase
                begun = opened[event["cat"], event["id"]].pop()
                assert (begun["name"], begun["pid"]) == (event["name"], event["pid"])
                assert event["ts"] >= begun["ts"]
                self._add(begun, event["ts"], "async")
        assert not any(opened.values()), "an asynchronous slice has no end"
        for track, found in self.slices.items():
            if track != "async":
                self._check_nesting(found)
        for values in self.counters.values():
            assert values == sorted(values, key=lambda value: value[0])

    def _add(self, event, until, track):
        self.slices[track].append((event["ts"], until, event["name"], event["args"]))

    @staticmethod
    def _check_nesting(found):
        ends = []
        for begin, end, *_ in sorted(found, key=lambda one: (one[0], -one[1])):
            while ends and ends[-1] <= begin + 1e-3:
                ends.pop()
            assert not ends or end <= ends[-1] + 1e-3, "slices of one track overlap"
            ends.append(end)


def with_windows(run, *windows):
    return fg.Result(run.traces, list(windows), METADATA, run.start_ns, run.end_ns)


def between(name, handle, *pairs):
    begin, end = (START_NS + (np.array(column) * SECOND).astype(np.int64) for column in zip(*pairs, strict=True))
    return Windows(name, handle, begin, end)


def test_counters_hold_the_energy_of_the_run():
    run = long_run(30)
    found = Timeline(trace_of(run))
    assert set(found.counters) == {
        "power of all counted channels (W)",
        "power rapl:package-0 (W)",
        "power rapl:dram (W)",
    }
    for name, values in found.counters.items():
        ts, watts = np.array(values).T
        joules = float(np.sum(np.diff(ts) / 1e6 * watts[:-1]))
        wanted = run.totals[name[6:-4]].energy_j if "rapl" in name else run.energy_j
        assert joules == pytest.approx(wanted, rel=1e-5)
        assert watts[-1] == 0
        assert ts[0] == 0


def test_slices_are_the_windows_of_the_result_with_their_energies():
    run = long_run(30, windows=200, names=("infer", "load"))
    found = Timeline(trace_of(run))
    for track, slices in found.slices.items():
        name = found.labels["thread_name", *track]
        rows = run.windows(name).to_pylist()
        assert len(rows) == len(slices) == 100
        for row, (begin, end, shown, said) in zip(rows, slices, strict=True):
            assert shown == name
            assert begin * 1000 + START_NS == pytest.approx(row["start_ns"], abs=1)
            assert (end - begin) / 1e6 == pytest.approx(row["duration_s"], abs=1e-8)
            for column in ("energy_j", "energy_low_j", "energy_high_j", "index"):
                assert said[column] == row[column]


def test_windows_of_one_name_that_overlap_are_asynchronous_and_others_are_not():
    run = long_run(10)
    nested = between("outer", 0, (1, 9)), between("inner", 1, (2, 3), (3, 4))
    threads = between("request", 2, (1, 3), (5, 6)), between("request", 3, (2, 4), (5, 6))
    touching = between("step", 4, (1, 2), (2, 3), (3, 3))
    found = Timeline(trace_of(with_windows(run, *nested, *threads, touching)))
    assert {name for _, _, name, _ in found.slices["async"]} == {"request"}
    assert len(found.slices["async"]) == 4
    named = {found.labels["thread_name", *track]: len(s) for track, s in found.slices.items() if track != "async"}
    assert named == {"outer": 1, "inner": 2, "step": 3}


def test_spans_are_asynchronous_slices_with_their_phases_inside():
    run = with_spans(long_run(20), 50)
    found = Timeline(trace_of(run)).slices["async"]
    spans = [s for s in found if s[2] == "chat"]
    assert sorted(s[3]["energy_j"] for s in spans) == sorted(run.spans("chat")["energy_j"].to_pylist())
    assert {s[3]["id"] for s in spans} == {f"request {n}" for n in range(50)}
    for phase in ("prefill", "decode"):
        inside = [s for s in found if s[2] == phase]
        assert len(inside) == 50
        assert sum(s[3]["energy_j"] for s in inside) <= run.energy_j
    assert sum(s[3]["energy_j"] for s in found) == pytest.approx(2 * sum(s[3]["energy_j"] for s in spans), rel=1e-9)
    plain = Timeline(trace_of(with_spans(long_run(20), 50, phases=False)))
    assert {s[2] for s in plain.slices["async"]} == {"chat"}


@pytest.mark.parametrize(
    "run",
    [
        fg.Result([], [], METADATA, 0, 0),
        fg.Result([], [between("x", 0, (1, 2))], METADATA, START_NS, START_NS + SECOND),
        with_windows(long_run(2), between("</script>\x1b[0m 😀", 0, (0, 0))),
        fg.Result(long_run(0.001).traces[:1], [], METADATA, START_NS, START_NS),
    ],
    ids=["nothing", "windows only", "odd name", "one reading"],
)
def test_an_odd_run_has_a_timeline(run, tmp_path):
    found = Timeline(trace_of(run))
    assert sum(map(len, found.slices.values())) == sum(map(len, run._windows))
    write_trace(run, tmp_path / "trace.json")


# ---- merging ----


def profile(begin_ns, base_ns=1_700_000_000 * SECOND):
    """A profile in the form of Kineto, whose events begin at this instant of CLOCK_MONOTONIC."""
    ts = (begin_ns + UNIX_NS - base_ns) / 1000
    same = {"pid": 4242, "tid": 4242, "cat": "cpu_op"}
    return {
        "schemaVersion": 1,
        "baseTimeNanoseconds": base_ns,
        "displayTimeUnit": "ms",
        "traceEvents": [
            {"ph": "M", "name": "process_name", "ts": ts, "pid": "Spans", "tid": 0, "args": {"name": "python"}},
            {"ph": "X", "name": "aten::mm", "ts": ts, "dur": 1000.0, **same},
            {"ph": "X", "name": "aten::add", "ts": ts + 2000, "dur": 500.0, **same},
            {"ph": "i", "name": "Record Window End", "ts": ts + 3000, "s": "g", "pid": "", "tid": ""},
        ],
    }


@pytest.mark.parametrize("base_ns", [1_700_000_000 * SECOND, 0])
def test_a_profile_keeps_its_events_and_gets_those_of_the_run_on_its_clock(tmp_path, base_ns):
    run = long_run(10)
    run = with_windows(run, between("mm", 0, (1, 1.001)))
    given = profile(START_NS + SECOND, base_ns)
    (tmp_path / "profile.json").write_text(json.dumps(given))
    write_trace(run, tmp_path / "out.json", merge=tmp_path / "profile.json")
    merged = json.loads((tmp_path / "out.json").read_text())
    count = len(given["traceEvents"])
    assert merged["traceEvents"][:count] == given["traceEvents"]
    assert {k: v for k, v in merged.items() if k != "traceEvents"} == {
        k: v for k, v in given.items() if k != "traceEvents"
    }
    added = merged["traceEvents"][count:]
    Timeline({"traceEvents": added})
    assert {event["pid"] for event in added} == {4243, 4244}
    (window,) = (event for event in added if event["ph"] == "X" and event["cat"] == "window")
    assert window["ts"] == pytest.approx(given["traceEvents"][1]["ts"], abs=1)
    assert window["dur"] == pytest.approx(1000.0, abs=0.01)


@pytest.mark.parametrize("form", ["list", "gzip"])
def test_a_profile_may_be_a_list_or_compressed(tmp_path, form):
    given = profile(START_NS + SECOND, 0)
    path = tmp_path / "profile.json"
    if form == "list":
        path.write_text(json.dumps(given["traceEvents"]))
    else:
        path.write_bytes(gzip.compress(json.dumps(given).encode()))
    write_trace(long_run(3), tmp_path / "out.json.gz", merge=path)
    merged = json.loads(gzip.decompress((tmp_path / "out.json.gz").read_bytes()))
    assert merged["traceEvents"][:4] == given["traceEvents"]


BAD = {
    "not JSON": (b"{", "must be a trace in JSON"),
    "damaged gzip": (b"\x1f\x8b\x00", "must be a trace in JSON"),
    "deep": (b"[" * 100_000, "must be a trace"),
    "a number": (b"1", "list of traceEvents"),
    "no events": (b'{"traceEvents": 3}', "list of traceEvents"),
    "events of numbers": (b'{"traceEvents": [3]}', "list of traceEvents"),
    "no time": (b'{"traceEvents": [{"ph": "X", "ts": "soon"}]}', "an event that has a time|one event that has a time"),
    "no base": (b'{"baseTimeNanoseconds": "x", "traceEvents": []}', "a number as baseTimeNanoseconds"),
    "later": (json.dumps(profile(START_NS + 99 * SECOND)).encode(), r"are 96 s after the run"),
    "earlier": (json.dumps(profile(START_NS - 99 * SECOND)).encode(), r"are 98.997\d* s before the run"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_profile_is_refused_and_nothing_is_written(tmp_path, name):
    data, message = BAD[name]
    (tmp_path / "profile.json").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        write_trace(long_run(3), tmp_path / "out.json", merge=tmp_path / "profile.json")
    assert not (tmp_path / "out.json").exists()


def test_the_command_writes_a_trace_and_says_what_is_wrong(tmp_path):
    long_run(3).save(tmp_path / "run")
    out, bad = str(tmp_path / "out.json"), tmp_path / "bad.json"
    run = lambda *more: CliRunner().invoke(main, ["report", str(tmp_path / "run"), *more])  # noqa: E731
    done = run("--trace", out)
    assert done.exit_code == 0, done.output
    Timeline(json.loads((tmp_path / "out.json").read_text()))
    bad.write_text("[]")
    assert run("--trace", out, "--merge", str(bad)).exit_code == 1
    assert run("--trace", out, "--merge", str(tmp_path / "absent.json")).exit_code == 1
    done = run("--merge", out)
    assert done.exit_code == 2
    assert "--merge needs --trace" in done.output


def test_the_trace_of_a_real_profiler_keeps_every_event_and_covers_its_windows(tmp_path, powercap):
    torch = pytest.importorskip("torch", reason="needs torch")
    from tests.fakes.powercap import Zone

    powercap(Zone("package-0", watts=50.0), move=True)
    with fg.Monitor("rapl:*", hz=500) as monitor, torch.profiler.profile() as profiler:
        for _ in range(3):
            with monitor.window("mm"), torch.profiler.record_function("same"):
                torch.ones(300, 300) @ torch.ones(300, 300)
    profiler.export_chrome_trace(str(tmp_path / "profile.json"))
    given = json.loads((tmp_path / "profile.json").read_text())
    write_trace(monitor.result, tmp_path / "out.json", merge=tmp_path / "profile.json")
    merged = json.loads((tmp_path / "out.json").read_text())["traceEvents"]
    count = len(given["traceEvents"])
    assert merged[:count] == given["traceEvents"]
    ops = [e for e in merged[:count] if e["name"] == "same" and e.get("cat") == "user_annotation"]
    windows = [e for e in merged[count:] if e["ph"] == "X" and e["cat"] == "window"]
    assert len(ops) == len(windows) == 3
    file = read_spans(tmp_path / "profile.json")
    shared = charged_table(monitor.result, file, each=True).to_pylist()
    slices = [e for e in merged[count:] if e.get("cat") == "share"]
    assert len(slices) == len(shared) > 10
    for key in ("energy_j", "energy_low_j", "energy_high_j", "total_energy_j"):
        assert [(e["name"], e["args"][key]) for e in slices] == [(row["name"], row[key]) for row in shared]
    assert sum(row["total_energy_high_j"] > 0 for row in shared if row["name"] == "same") == 3
    Timeline({"traceEvents": [e for e in merged[count:] if e.get("cat") == "share"]})
    for op, window in zip(ops, windows, strict=True):
        assert abs(op["ts"] - window["ts"]) < 50_000  # us: a clock of another kind is off by far more
        assert window["ts"] + window["dur"] >= op["ts"] + op["dur"] - 2000
