# SPDX-License-Identifier: Apache-2.0
"""Spans from files of other programs: what each reader finds, and the sentence for each damaged or wrong file."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

import fastgreen as fg
from fastgreen.errors import TraceError
from fastgreen.recordings.span_files import charged_table, format_of, read_spans
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel, traits
from tests.oracles import simulation as sim

S = sim.SECOND
UNIX_NS = 1_700_000_000 * S


def machine(gpus=1):
    """A run of 10 s of a CPU and GPUs, and their true energies."""
    traces, truths = [], []
    for i, identity in enumerate(["rapl:package-0", *(f"nvml:{g}" for g in range(gpus))]):
        scenario = sim.Scenario("a", seconds=10, seed=i + 1)
        truth = sim.Truth(scenario)
        samples, _, _ = sim.record(scenario, truth)
        source = identity.partition(":")[0]
        facts = traits("energy", "uJ", period_ns=scenario.update_ns)
        channel = Channel(identity, source, "energy", identity, "uJ", ceiling_w=scenario.unit_per_s / 1e6, traits=facts)
        traces.append(Trace.recounted(channel, True, lambda samples=samples: [samples], missed=0, lost=0))
        truths.append(truth)
    metadata = {"format": 2, "realtime_ns": UNIX_NS, "monotonic_ns": 0, "version": "0", "host": "h"}
    return fg.Result(traces, [], metadata, S // 2, 10 * S), truths


@pytest.fixture(scope="module")
def run():
    return machine()


def x(name, begin_s, end_s, track=1, **more):
    ts, dur = begin_s * 1e6, round((end_s - begin_s) * 1e6, 3)
    return {"ph": "X", "name": name, "ts": ts, "dur": dur, "pid": 1, "tid": track, "cat": "cpu_op", **more}


def kernel(name, begin_s, end_s, device=0, stream=7, cat="kernel"):
    return x(name, begin_s, end_s, stream, cat=cat, pid=device, args={"device": device, "stream": stream})


def written(path, events, base_ns=UNIX_NS, **more):
    about = {"baseTimeNanoseconds": base_ns} if base_ns else {}
    path.write_text(json.dumps({**about, **more, "traceEvents": events}))
    return path


def rows(table):
    return {(row["name"], row["device"]): row for row in table.to_pylist()}


def check_sum(table, result):
    about = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
    own = sum(row["energy_j"] or 0.0 for row in table.to_pylist())
    assert own + float(about["unattributed_j"]) + float(about["baseline_j"]) == pytest.approx(
        float(about["drawn_j"]), rel=1e-9
    )
    drawn = sum(float(t.windows([result.start_ns], [result.end_ns])[0].energy_j) for t in result.traces)
    assert float(about["drawn_j"]) == pytest.approx(drawn, rel=0.01)


def true_j(truth, *pieces):
    return sum(float(truth.until(b * S) - truth.until(a * S)) for a, b in pieces) / 1e6


def notes(table):
    return json.loads(table.schema.metadata[b"notes"])


# ---- traces of Chrome ----


def test_operators_get_own_and_total_energies_and_kernels_are_on_their_gpu(run, tmp_path):
    result, (cpu, gpu) = run
    events = [
        x("linear", 1, 5), x("mm", 2, 4), x("linear", 6, 8),
        kernel("gemm", 3, 6), kernel("step", 2, 7, cat="gpu_user_annotation"), kernel("copy", 6.5, 7, cat="gpu_memcpy"),
        x("PyTorch Profiler (0)", 0, 9, cat="Trace", pid="Spans", tid="PyTorch Profiler"),
        {"ph": "i", "name": "[memory]", "ts": 2e6, "pid": 1, "tid": 1}, {"ph": "M", "name": "process_name"},
    ]  # fmt: skip
    file = read_spans(written(tmp_path / "t.json", events))
    assert (file.source, file.clock, file.knows_devices) == ("torch.profiler", "realtime", True)
    table = charged_table(result, file)
    check_sum(table, result)
    found = rows(table)
    assert [found["linear", "cpu"]["count"], found["mm", "cpu"]["count"]] == [2, 1]
    for key, kind, truth, pieces in (
        (("linear", "cpu"), "", cpu, [(1, 2), (4, 5), (6, 8)]),
        (("linear", "cpu"), "total_", cpu, [(1, 5), (6, 8)]),
        (("mm", "cpu"), "total_", cpu, [(2, 4)]),
        (("gemm", "gpu 0"), "", gpu, [(3, 6)]),
        (("copy", "gpu 0"), "", gpu, [(6.5, 7)]),
        (("step", "gpu 0"), "total_", gpu, [(3, 6), (6.5, 7)]),
    ):
        row, wanted = found[key], true_j(truth, *pieces)
        assert row[f"{kind}energy_low_j"] <= wanted <= row[f"{kind}energy_high_j"], key
        assert row[f"{kind}energy_j"] == pytest.approx(wanted, rel=0.1)
    assert found["step", "gpu 0"]["energy_j"] == 0.0
    assert found["linear", "cpu"]["mean_energy_j"] == pytest.approx(found["linear", "cpu"]["total_energy_j"] / 2)


def test_two_threads_share_what_both_hold(run, tmp_path):
    result, (cpu, _) = run
    file = read_spans(written(tmp_path / "t.json", [x("a", 2, 8, 1), x("b", 2, 8, 2)]))
    found = rows(charged_table(result, file, channels="cpu"))
    both = found["a", "cpu"]["energy_j"] + found["b", "cpu"]["energy_j"]
    assert found["a", "cpu"]["energy_j"] == pytest.approx(found["b", "cpu"]["energy_j"], rel=1e-12)
    assert both == pytest.approx(true_j(cpu, (2, 8)), rel=0.05)


def test_work_of_a_gpu_without_a_channel_is_unknown_and_an_idle_gpu_is_charged_to_no_span(run, tmp_path):
    result, _ = run
    table = charged_table(result, read_spans(written(tmp_path / "t.json", [x("a", 1, 2), kernel("k", 3, 4, device=3)])))
    assert rows(table)["k", "gpu 3"]["energy_j"] is None
    assert any(note.startswith("gpu 3: the run has no channel") for note in notes(table))
    assert any(note.startswith("nvml:0: no span runs on it") for note in notes(table))
    check_sum(table, result)
    other = charged_table(
        result, read_spans(written(tmp_path / "t.json", [kernel("k", 3, 4, device=3)])), gpus={3: "nvml:0"}
    )
    assert rows(other)["k", "gpu 3"]["energy_j"] > 0


def test_a_row_per_span_adds_up_to_the_rows_per_name(run, tmp_path):
    result, _ = run
    rng = np.random.default_rng(2)
    events = []
    for track in range(3):
        at = 1.0
        while at < 8:
            long = float(rng.uniform(0.01, 1))
            events += [x(f"f{rng.integers(3)}", at, at + long, track), x("inner", at + long / 4, at + long / 2, track)]
            at += long * float(rng.uniform(0.9, 1.5))
    file = read_spans(written(tmp_path / "t.json", events))
    by_name, each = charged_table(result, file), charged_table(result, file, each=True)
    check_sum(each, result)
    assert len(each) == len(events)
    sums = each.group_by("name").aggregate([("energy_j", "sum"), ("energy_low_j", "sum"), ("energy_high_j", "sum")])
    for row in sums.to_pylist():
        whole = rows(by_name)[row["name"], "cpu"]
        assert row["energy_j_sum"] == pytest.approx(whole["energy_j"], rel=1e-9)
        assert row["energy_low_j_sum"] <= whole["energy_low_j"] + 1e-9
        assert row["energy_high_j_sum"] >= whole["energy_high_j"] - 1e-9


def test_pairs_and_asynchronous_pairs_are_spans(run, tmp_path):
    events = [
        {"ph": phase, "name": name, "ts": ts * 1e6, "pid": 1, "tid": 1, "id": track, "cat": "w"}
        for phase, name, ts, track in [
            ("B", "f", 1, 0), ("B", "g", 2, 0), ("E", "g", 3, 0), ("E", "f", 4, 0), ("E", "", 5, 0),
            ("B", "open", 5, 0),
            ("b", "r", 1, 2), ("b", "r", 2, 3), ("e", "r", 6, 2), ("e", "r", 7, 3),
        ]
    ]  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(events))
    file = read_spans(tmp_path / "t.json")
    found = sorted(
        (file.names[n], b // 10**9, e // 10**9)
        for n, b, e in zip(file.name, file.spans.begin_ns, file.spans.end_ns, strict=True)
    )
    assert found == [("f", 1, 4), ("g", 2, 3), ("open", 5, 7), ("r", 1, 6), ("r", 2, 7)]
    assert len(file.notes) == 2
    result, _ = run  # times in seconds of CLOCK_MONOTONIC: the clock by which the trace overlaps the run
    check_sum(charged_table(result, file), result)


def test_a_span_that_crosses_the_end_of_another_gets_the_rest_of_its_own_time(run, tmp_path):
    result, (cpu, _) = run
    found = rows(charged_table(result, read_spans(written(tmp_path / "t.json", [x("a", 1, 5), x("b", 3, 7)]))))
    assert found["a", "cpu"]["energy_j"] == pytest.approx(true_j(cpu, (1, 3)), rel=0.1)
    assert found["b", "cpu"]["energy_j"] == pytest.approx(true_j(cpu, (3, 7)), rel=0.1)


def test_of_spans_with_the_same_begin_and_end_the_one_that_began_first_is_outside(run, tmp_path):
    pairs = [{"ph": ph, "name": n, "ts": t * 1e6, "pid": 1, "tid": 1} for ph, n, t in
             [("B", "outer", 2), ("B", "inner", 2), ("E", "inner", 4), ("E", "outer", 4)]]  # fmt: skip
    found = rows(charged_table(run[0], read_spans(written(tmp_path / "t.json", pairs, 0))))
    assert found["outer", "all"]["energy_j"] == 0.0
    assert found["inner", "all"]["energy_j"] == found["outer", "all"]["total_energy_j"] > 0


# ---- other clocks, other times, other machines ----


def test_what_is_beyond_the_run_is_unknown_and_said(run, tmp_path):
    result, _ = run
    table = charged_table(result, read_spans(written(tmp_path / "t.json", [x("out", 20, 30), x("half", 8, 40, 2)])))
    assert rows(table)["out", "cpu"]["energy_j"] is None
    assert rows(table)["out", "cpu"]["outside"] == 1
    assert rows(table)["half", "cpu"]["energy_high_j"] > 5 * rows(table)["half", "cpu"]["energy_j"]
    assert [n for n in notes(table) if "beyond the run" in n] != []
    check = sum(r["energy_j"] or 0 for r in table.to_pylist()) + float(table.schema.metadata[b"unattributed_j"])
    assert check == pytest.approx(float(table.schema.metadata[b"drawn_j"]), rel=1e-9)


@pytest.mark.parametrize(
    ("base_ns", "clock", "words"),
    [
        (UNIX_NS + 3600 * S, "auto", r"on the clock realtime its spans are 359\d[.\d]* s after the run"),
        (0, "realtime", "before the run"),
        (UNIX_NS, "monotonic", "after the run"),
    ],
)
def test_a_trace_of_another_time_or_clock_is_refused_in_a_sentence(run, tmp_path, base_ns, clock, words):
    file = read_spans(written(tmp_path / "t.json", [x("a", 1, 2)], base_ns))
    with pytest.raises(TraceError, match=words):
        charged_table(run[0], file, clock)


def test_a_trace_without_a_clock_needs_the_begin_of_the_run(run, tmp_path):
    result, (cpu, _) = run
    file = read_spans(written(tmp_path / "t.json", [x("a", 0.2, 0.3)], 0))
    with pytest.raises(TraceError, match="Give --clock start"):
        charged_table(result, file)
    found = rows(charged_table(result, read_spans(written(tmp_path / "t.json", [x("a", 1, 4)], 0)), "start", 1.5))
    assert found["a", "cpu"]["energy_j"] == pytest.approx(true_j(cpu, (3, 6)), rel=0.1)


def test_another_machine_is_said(run, tmp_path):
    file = read_spans(written(tmp_path / "t.json", [x("a", 1, 2)], host_name="node7"))
    assert any("'node7'" in note for note in notes(charged_table(run[0], file)))


def test_a_baseline_is_set_apart_and_the_sum_holds(run, tmp_path):
    result, _ = run
    events = [x("a", 1, 5), x("b", 2, 6, 2)]
    file = read_spans(written(tmp_path / "t.json", events))
    check_sum(charged_table(result, file, channels=["*"], baseline_w=5.0), result)
    both = read_spans(written(tmp_path / "t.json", [*events, kernel("k", 2, 4)]))
    check_sum(charged_table(result, both, baseline_w={"rapl:package-0": 3.0, "nvml:0": 1e9}), result)
    with pytest.raises(ValueError, match="baseline_w must be given by channel"):
        charged_table(result, both, baseline_w=5.0)


def test_fields_of_any_kind_are_no_error(tmp_path):
    odd = [{}, [], 5, None, True, 1e300]
    events = [{**x("a", 1, 2), key: value} for key in ("cat", "name", "pid", "tid", "args", "ph") for value in odd]
    events += [{"ph": p, "cat": c, "id": c, "ts": 1e6, "name": "b"} for p in "be" for c in odd]
    assert len(read_spans(written(tmp_path / "t.json", events)).spans) > 20


# ---- damaged and hostile files ----


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"traceEvents": [{"ph": "X", "ts": 1', "is not JSON, or was cut off"),
        ('{"traceEvents": 5}', "with a list of traceEvents"),
        ('{"traceEvents": []}', "at least one span"),
        ('{"baseTimeNanoseconds": "x", "traceEvents": []}', "must be a number of ns"),
        ('{"traceEvents": [{"ph": "X", "name": "a", "ts": 5, "dur": -1}]}', "must not be before its begin"),
        ('[{"ph": "B", "name": "a", "ts": 5}, {"ph": "E", "ts": 4}]', "must not be before its begin"),
        (
            '{"traceEvents": [{"ph": "X", "ts": NaN, "dur": 1}, {"ph": "X", "ts": 1e300, "dur": 1}]}',
            "at least one span",
        ),
        ("[" * 100_000, "nested too deep"),
        ("", "is not a table"),
        ("begin_ns,end_ns\n5,4\n", "must not be before its begin"),
        ("begin_ns,end_ns\n,\n", "at least one span"),
        ("begin_ns,end_ns\na,b\n", "must hold instants"),
        ("begin_ns,end_ns\n1e300,1e300\n", "in s where it has decimals"),
        ("begin_ns,end_ns,w\n1,2,-1\n", "a weight must be a number from 0"),
    ],
)
def test_a_damaged_file_gets_a_sentence(tmp_path, text, words):
    path = tmp_path / "spans"
    path.write_text(text)
    options = {"weight": "w"} if ",w\n" in text else {}
    with pytest.raises(TraceError, match=words):
        read_spans(path, **options)


def test_a_device_whose_spans_are_all_beyond_the_run_stands_beside_the_others(run, tmp_path):
    result, _ = run
    path = written(tmp_path / "t.json", [x("a", 1, 2), kernel("late", 80, 90)])
    found = rows(charged_table(result, read_spans(path), gpus={0: "nvml:0"}))
    assert found["a", "cpu"]["energy_j"] > 0
    (late,) = (row for (name, _), row in found.items() if name == "late")
    assert (late["count"], late["outside"], late["energy_j"], late["duration_s"]) == (0, 1, None, None)


def test_a_number_that_no_float_can_hold_is_no_time(tmp_path):
    path = written(tmp_path / "t.json", [x("a", 1, 2), {**x("b", 1, 2), "ts": 10**400}])
    assert read_spans(path).names == ["a"]
    with pytest.raises(TraceError, match="baseTimeNanoseconds must be a number"):
        read_spans(written(tmp_path / "u.json", [x("a", 1, 2)], 10**400))


def test_events_without_a_time_are_counted_and_left_out(tmp_path):
    events = [x("a", 1, 2), {**x("b", 1, 2), "ts": float("nan")}, {**x("b", 1, 2), "dur": None}, {"ph": "X"}, 7, None]
    file = read_spans(written(tmp_path / "t.json", events))
    assert len(file.spans) == 1
    assert file.notes == ["3 events without a time: left out"]


def test_a_packed_trace_is_read_and_a_cut_one_is_refused(tmp_path):
    whole = gzip.compress(written(tmp_path / "t.json", [x("a", 1, 2)] * 50).read_bytes())
    (tmp_path / "t.json.gz").write_bytes(whole)
    assert len(read_spans(tmp_path / "t.json.gz").spans) == 50
    for data in (whole[:-20], whole[:30], whole[:20] + b"\xff" * 30 + whole[50:]):
        (tmp_path / "t.json.gz").write_bytes(data)
        with pytest.raises(TraceError):
            read_spans(tmp_path / "t.json.gz")


def test_a_pipe_is_refused_without_waiting(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TraceError, match="not a regular file"):
        read_spans(tmp_path / "pipe")


def test_a_hundred_thousand_events_take_seconds(run, tmp_path):
    result, _ = run
    events = [x(f"f{i % 50}", 1 + i * 8e-5, 1 + (i + 4) * 8e-5, i % 4) for i in range(100_000)]
    path = written(tmp_path / "t.json", events)
    began = time.process_time()
    check_sum(charged_table(result, read_spans(path)), result)
    assert time.process_time() - began < 20


# ---- OpenTelemetry ----


def span(name, begin_s, end_s, identity, parent="", **more):
    times = {"startTimeUnixNano": str(UNIX_NS + int(begin_s * S)), "endTimeUnixNano": str(UNIX_NS + int(end_s * S))}
    return {"traceId": "t", "spanId": identity, "parentSpanId": parent, "name": name, **times, **more}


def request(*spans, host=None):
    resource = {"attributes": [{"key": "host.name", "value": {"stringValue": host}}]} if host else {}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]})


def test_spans_of_a_request_are_charged_where_no_span_inside_is_open(run, tmp_path):
    result, _ = run
    path = tmp_path / "spans.jsonl"
    lines = [request(span("db", 2, 4, "b", "a"), span("model", 3, 6, "c", "a")), request(span("GET /", 1, 8, "a"))]
    lines.append(request(span("GET /", 1, 8, "a"), span("lost", 1, 2, "e", "nowhere"), host="h"))
    path.write_text("\n".join(lines) + "\n")
    assert format_of(path) == "otlp"
    file = read_spans(path)
    table = charged_table(result, file)
    check_sum(table, result)
    found = {key[0]: row for key, row in rows(table).items()}
    inside = found["GET /"]["energy_j"] + found["db"]["energy_j"] + found["model"]["energy_j"]
    assert found["GET /"]["total_energy_j"] == pytest.approx(inside, rel=1e-9)
    each = charged_table(result, file, each=True).to_pylist()
    assert [(row["name"], row["trace_id"], row["span_id"]) for row in each[:2]] == [
        ("db", "t", "b"),
        ("model", "t", "c"),
    ]
    assert file.notes == ["1 span sent twice: counted once", "1 span inside of spans that the file does not have"]


def test_a_last_line_that_was_cut_off_is_left_out_and_one_in_the_middle_is_refused(tmp_path):
    path, good = tmp_path / "spans.jsonl", request(span("a", 1, 2, "a"))
    path.write_text(f"{good}\n{good[:50]}")
    assert read_spans(path).notes == ["the last line was cut off: left out"]
    path.write_text(f"{good}\n{good[:50]}\n{good}\n")
    with pytest.raises(TraceError, match="line 2, is not JSON"):
        read_spans(path)
    path.write_text(json.dumps(json.loads(good), indent=2))
    assert len(read_spans(path).spans) == 1


def test_spans_that_the_sdk_of_opentelemetry_made_are_read(tmp_path):
    pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")
    common = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder", reason="no OTLP exporter")
    from google.protobuf.json_format import MessageToJson
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("test")
    with fg.Monitor() as monitor, tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
        time.sleep(0.3)
    path = tmp_path / "spans.jsonl"
    path.write_text(MessageToJson(common.encode_spans(kept.get_finished_spans()), indent=None) + "\n")
    table = charged_table(monitor.result, read_spans(path))
    found = {row["name"]: row for row in table.to_pylist()}
    assert found["inner"]["energy_j"] > 0
    assert found["outer"]["total_energy_j"] >= found["inner"]["energy_j"]


# ---- tables ----


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow"])
def test_a_table_gets_what_result_share_gives(run, tmp_path, suffix):
    from fastgreen.table_files import save_table

    result, _ = run
    rng = np.random.default_rng(5)
    begin = rng.integers(S, 8 * S, 100)
    data = {"name": [f"r{i % 7}" for i in range(100)], "begin_ns": begin, "end_ns": begin + rng.integers(1, S, 100)}
    data["id"] = [f"request {i}" for i in range(100)]
    table = pa.table({**data, "w": rng.choice([0.0, 1.0, 2.5], 100)})
    save_table(table, tmp_path / f"t.{suffix}")
    file = read_spans(tmp_path / f"t.{suffix}", weight="w")
    assert file.clock is None  # small numbers: the clock by which they overlap the run
    each = charged_table(result, file, each=True)
    wanted = result.share(table, weight="w")
    assert each["id"].to_pylist() == table["id"].to_pylist()
    for name in ("energy_j", "energy_low_j", "energy_high_j"):
        np.testing.assert_allclose(each[name].to_numpy(), wanted[name].to_numpy(), rtol=1e-9, atol=1e-9)
    check_sum(charged_table(result, file), result)


def test_timestamps_and_seconds_are_instants(run, tmp_path):
    result, (cpu, gpu) = run
    stamps = pa.array([UNIX_NS + 2 * S, UNIX_NS + 6 * S], pa.timestamp("ns", "UTC"))
    from fastgreen.table_files import save_table

    save_table(pa.table({"start": stamps[:1], "end": stamps[1:]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("t0,t1\n2.0,6.0\n")
    a = charged_table(result, read_spans(tmp_path / "a.parquet"))
    b = charged_table(result, read_spans(tmp_path / "b.csv", begin="t0", end="t1"))
    assert a["energy_j"].to_pylist() == pytest.approx(b["energy_j"].to_pylist())
    assert a["energy_j"][0].as_py() == pytest.approx(true_j(cpu, (2, 6)) + true_j(gpu, (2, 6)), rel=0.05)


# ---- programs that write traces ----


@pytest.mark.slow
def test_a_real_trace_of_torch_profiler_fits_the_run(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from torch.profiler import ProfilerActivity, profile, record_function

    x, layer = torch.ones(64, 64), torch.nn.Linear(64, 64)
    with fg.Monitor() as monitor:
        before_ns = time.monotonic_ns()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                with record_function("step"):
                    layer(x)
        after_ns = time.monotonic_ns()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    file = read_spans(tmp_path / "trace.json")
    table = charged_table(monitor.result, file, each=True)
    begin = table["begin_ns"].to_numpy()
    slack_ns = S // 20
    assert before_ns - slack_ns <= begin.min() <= begin.max() <= after_ns + slack_ns, "the clocks do not agree"
    found = {row["name"]: row for row in charged_table(monitor.result, file).to_pylist()}
    assert (
        0 < found["aten::addmm"]["energy_j"] < found["aten::linear"]["total_energy_j"] < found["step"]["total_energy_j"]
    )


def test_a_real_trace_of_py_spy_counts_from_its_begin(tmp_path):
    from shutil import which

    spy = which("py-spy", path=f"{sys.prefix}/bin:/usr/bin:/usr/local/bin")
    if spy is None:
        pytest.skip("py-spy is not installed")
    program = "import time\ndef hot():\n    until = time.time() + 0.4\n    while time.time() < until: pass\nhot()\n"
    (tmp_path / "p.py").write_text(program)
    with fg.Monitor() as monitor:
        done = subprocess.run(
            [spy, "record", "-f", "chrometrace", "-o", tmp_path / "spy.json", "--", sys.executable, tmp_path / "p.py"],
            capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        pytest.skip(f"py-spy may not look at processes here: {done.stderr.strip()[-200:]}")
    file = read_spans(tmp_path / "spy.json")
    assert (file.source, file.clock) == ("py-spy", "start")
    found = {row["name"]: row for row in charged_table(monitor.result, file, "start").to_pylist()}
    assert 0 < found["hot"]["energy_j"] <= found["<module>"]["total_energy_j"]
