"""Ledgers: spans of threads and tasks share what the channels drew, and everything adds up."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

import fastgreen as fg
from fastgreen.errors import ChannelNotFound, TraceError
from tests.fakes.powercap import Zone

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")
ENERGIES = ["energy_j", "energy_low_j", "energy_high_j"]


@pytest.fixture
def zones(powercap):
    powercap(Zone("package-0", 80.0), Zone("package-1", 40.0), move=True)


def total(table, name):
    return float(table.schema.metadata[name.encode()])


def check_sum(result, table):
    """Shares, unattributed and baseline are what the channels drew."""
    ids = json.loads(table.schema.metadata[b"channels"])
    drawn = sum(row["energy_j"] for row in result.channels.to_pylist() if row["id"] in ids)
    shared = sum(table["energy_j"].to_pylist()) + total(table, "unattributed_j") + total(table, "baseline_j")
    assert shared == pytest.approx(drawn, rel=1e-9)
    assert total(table, "drawn_j") == pytest.approx(drawn, rel=1e-9)
    low, energy, high = (np.array(table[c]) for c in ("energy_low_j", "energy_j", "energy_high_j"))
    assert np.all((low <= energy + 1e-9) & (energy <= high + 1e-9))


def test_requests_of_a_server_add_up_where_windows_count_each_joule_many_times(zones):
    async def request(i):
        async with ledger.span(f"r{i}") as span:
            assert fg.current_span() is span
            await asyncio.sleep(0.05 + 0.01 * (i % 5))
            span.add(tokens=10)
            span.phase("decode")
            await asyncio.sleep(0.05)
            span.add(tokens=i, images=1)
        assert fg.current_span() is None

    async def serve():
        await asyncio.gather(*(request(i) for i in range(50)))

    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat")
        time.sleep(0.05)
        asyncio.run(serve())
        time.sleep(0.05)
    result = monitor.result
    table = result.spans("chat")
    assert sorted(table["id"].to_pylist()) == sorted(f"r{i}" for i in range(50))
    check_sum(result, table)
    assert sum(table["tokens"].to_pylist()) == 50 * 10 + sum(range(50))
    assert table["images"].to_pylist() == [1.0] * 50
    rows = {(r["phase"], r["amount"]): r for r in result.ledgers.to_pylist()}
    whole = rows[None, None]
    assert whole["count"] == 50
    assert 30 < whole["window_factor"] < 51
    assert whole["mean_energy_low_j"] <= whole["mean_energy_j"] <= whole["mean_energy_high_j"]
    assert whole["energy_high_j"] - whole["energy_low_j"] < 0.5 * whole["energy_j"]
    tokens = rows[None, "tokens"]
    assert tokens["mean_energy_j"] == pytest.approx(whole["energy_j"] / tokens["total"])
    assert ("decode", "tokens") in rows
    phases = result.spans("chat", by="phase")
    assert len(phases) == 100
    assert set(phases["phase"].to_pylist()) == {None, "decode"}
    check_sum(result, phases)
    by_span = phases.group_by("id").aggregate([(c, "sum") for c in ENERGIES])
    for name, low, high in zip(table["id"].to_pylist(), *(table[c].to_pylist() for c in ENERGIES[1:]), strict=True):
        row = by_span.filter(np.array(by_span["id"].to_pylist()) == name).to_pylist()[0]
        assert row["energy_low_j_sum"] <= low + 1e-9
        assert high <= row["energy_high_j_sum"] + 1e-9
    check_sum(result, result.spans("chat", by="channel"))
    assert "chat" in str(result)
    assert result.to_dict()["ledgers"]


def test_threads_share_and_nothing_is_lost(zones):
    def work(n):
        for i in range(75):
            with ledger.span(n * 1000 + i, weight=1 + n % 3):
                assert fg.current_span().id == n * 1000 + i
        assert fg.current_span() is None

    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("work", channels="rapl:package-1", baseline_w=5.0)
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(work, range(64)))
    table = monitor.result.spans("work")
    assert len(table) == 4800
    assert len(set(table["id"].to_pylist())) == 4800
    check_sum(monitor.result, table)
    assert json.loads(table.schema.metadata[b"channels"]) == ["rapl:package-1"]


@pytest.mark.parametrize("record", [False, True])
def test_spans_are_saved_recorded_and_loaded(zones, tmp_path, record):
    with fg.Monitor("rapl:*", hz=200, record=tmp_path / "run" if record else None) as monitor:
        ledger = monitor.ledger("chat", baseline_w={"rapl:package-0": 2.0})
        for i in range(5):
            with ledger.span(["a", 7, b"\xff", "\ud800", "a"][i]) as span:
                span.add(tokens=i)
                time.sleep(0.01)
                span.weight = 2.0
                time.sleep(0.01)
    if not record:
        monitor.result.save(tmp_path / "run")
    wanted, loaded = monitor.result.spans("chat"), fg.load(tmp_path / "run")
    assert loaded.spans("chat").equals(wanted)
    assert loaded.spans("chat").schema.metadata == wanted.schema.metadata
    assert loaded.spans("chat", by="phase").equals(monitor.result.spans("chat", by="phase"))
    assert loaded.ledgers.equals(monitor.result.ledgers)
    assert wanted["id"].to_pylist() == ["a", "7", "\\xff", "\\ud800", "a"]  # the same id twice is two rows
    assert all(1 < w < 2 for w in wanted["weight"].to_pylist())
    loaded.save(tmp_path / "again")
    assert fg.load(tmp_path / "again").spans("chat").equals(wanted)


def test_a_killed_process_leaves_the_spans_it_closed(zones, tmp_path):
    child = os.fork()
    if child == 0:
        monitor = fg.Monitor("rapl:*", hz=200, record=tmp_path / "run").start()
        ledger = monitor.ledger("chat")
        for i in range(20):
            with ledger.span(i):
                time.sleep(0.005)
        kept = ledger.open("never")
        time.sleep(1.6)
        assert kept.is_open
        os._exit(1)
    os.waitpid(child, 0)
    result = fg.load(tmp_path / "run")
    assert len(result.spans("chat")) == 21
    assert result.spans("chat")["id"].to_pylist()[-1] == "never"
    assert any("1 of the spans of ledger 'chat' were never closed" in note for note in result.notes)
    check_sum(result, result.spans("chat"))


def test_a_thousand_tasks_at_once_add_up(zones):
    async def request(i):
        async with ledger.span(i) as span:
            await asyncio.sleep(0.02)
            span.phase("late")
            await asyncio.sleep(0.02)
            assert fg.current_span() is span

    async def serve():
        await asyncio.gather(*(request(i) for i in range(1000)))

    with fg.Monitor("rapl:*", hz=200) as monitor:
        ledger = monitor.ledger("chat", baseline_w=30.0)
        asyncio.run(serve())
    for by in (None, "phase", "channel"):
        table = monitor.result.spans("chat", by=by)
        assert len(table) == 1000 * (1 if by is None else 2)
        check_sum(monitor.result, table)


def rewritten(path, change):
    """Write the spans of a run folder again, changed."""
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        table = change(reader.read_all())
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def column(name, values):
    def change(table):
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        return table.set_column(at, field, pa.array(values[: len(table)], field.type))

    return change


def renamed(table):
    return table.rename_columns(["x", *table.schema.names[1:]]).replace_schema_metadata(table.schema.metadata)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (column("start_ns", [1] * 4), "pieces of a span do not follow each other"),
        (column("end_ns", [1] * 4), "a piece ends before it begins"),
        (column("start_ns", [None] * 4), "a value of start_ns is missing"),
        (column("end_ns", [2**62] * 4), "end_ns is no instant"),
        (column("weight", [float("nan")] * 4), "weight must be a number"),
        (column("number", [-1, -1, -1, -1]), "the definition of ledger 'chat' is damaged"),
        (renamed, "holds other columns than those of a run: ledger is not there once"),
    ],
)
def test_damaged_spans_are_an_error_and_no_crash(zones, tmp_path, change, text):
    with fg.Monitor("rapl:*", hz=200, record=tmp_path / "run") as monitor:
        ledger = monitor.ledger("chat")
        with ledger.span("x"):
            time.sleep(0.01)
        with ledger.span("y") as span:
            span.phase("late")
    rewritten(tmp_path / "run" / "spans.arrow", change)
    with pytest.raises(TraceError, match=text):
        fg.load(tmp_path / "run").spans("chat")


def test_spans_of_another_run_or_no_spans_are_refused(zones, tmp_path):
    for name in ("one", "two"):
        with fg.Monitor("rapl:*", hz=200, record=tmp_path / name) as monitor, monitor.ledger("chat").span("x"):
            pass
    shutil.copy(tmp_path / "one" / "spans.arrow", tmp_path / "two" / "spans.arrow")
    with pytest.raises(TraceError, match="belongs to another run"):
        fg.load(tmp_path / "two")
    (tmp_path / "two" / "spans.arrow").write_text("no spans")
    with pytest.raises(TraceError, match="not an Arrow stream"):
        fg.load(tmp_path / "two")
    for name in ("channels", "samples", "windows"):
        os.remove(tmp_path / "one" / f"{name}.arrow")
    with pytest.raises(FileExistsError, match="holds a run already"):
        fg.Monitor("rapl:*", record=tmp_path / "one").start()


def test_weights_at_close_are_those_of_the_whole_stretch(zones):
    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat", weights="at close")
        one, other = ledger.open("one"), ledger.open("other")
        time.sleep(0.1)
        one.weight = 3.0
        one.close(tokens=5)
        other.close()
    energy = dict(zip(*(monitor.result.spans("chat")[c].to_pylist() for c in ("id", "energy_j")), strict=True))
    assert energy["one"] == pytest.approx(3 * energy["other"], rel=0.01)
    assert monitor.result.spans("chat")["tokens"].to_pylist() == [5.0, None]


@pytest.fixture
def ledger(zones):
    with fg.Monitor("rapl:*", hz=100) as monitor:
        yield monitor.ledger("chat")


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), 2.0**41])
def test_a_weight_is_finite_and_not_below_0(ledger, weight):
    with pytest.raises(ValueError, match="weight must be a number from 0 to 2\\^40"):
        ledger.open("a", weight)
    span = ledger.open("a")
    with pytest.raises(ValueError, match="weight must be a number"):
        span.weight = weight
    with pytest.raises(TypeError, match="weight must be a number, not 'x'"):
        ledger.open("a", "x")
    span.close()


@pytest.mark.parametrize("identity", [None, 1.5, [1], {"a": 1}])
def test_an_id_is_text_an_integer_or_bytes(ledger, identity):
    with pytest.raises(TypeError, match="id must be a text, an integer or bytes, not"):
        ledger.open(identity)


def test_a_span_is_opened_once_and_closed_once_and_takes_nothing_more(ledger):
    span = ledger.open("a")
    with pytest.raises(ValueError, match="tokens must be a finite number"):
        span.add(tokens=float("nan"))
    with pytest.raises(RuntimeError, match="opened twice"), span:
        pass
    span.close()
    for act in (span.close, lambda: span.add(tokens=1), lambda: span.phase("x"), lambda: setattr(span, "weight", 2)):
        with pytest.raises(RuntimeError, match="of span 'a', which is closed"):
            act()
    with ledger.span("b") as other:
        other.close()
        assert fg.current_span() is None  # it was closed
    with pytest.raises(RuntimeError, match="not open"):
        ledger.span("c").close()


def test_an_exception_and_a_cancelled_task_close_the_span(ledger):
    with pytest.raises(KeyError), ledger.span("a") as span:
        raise KeyError
    assert not span.is_open

    async def cancelled():
        async with ledger.span("b") as inner:
            spans.append(inner)
            await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    spans = []
    asyncio.run(main())
    assert not spans[0].is_open


def test_an_async_generator_that_another_task_closes_closes_its_span(ledger):
    async def stream():
        async with ledger.span("s") as span:
            spans.append(span)
            while True:
                yield 1

    async def main():
        generator = stream()
        await asyncio.create_task(generator.__anext__())
        await asyncio.create_task(generator.aclose())  # in another context: ContextVar.reset raises ValueError

    spans = []
    asyncio.run(main())
    assert not spans[0].is_open


def test_aexit_does_not_wait(ledger):
    span = ledger.span("a")
    with pytest.raises(StopIteration) as entered:
        span.__aenter__().__await__().__next__()
    assert entered.value.value is span
    with pytest.raises(StopIteration):
        span.__aexit__(None, None, None).__await__().__next__()
    assert not span.is_open


def test_a_span_that_is_never_closed_ends_with_the_run_and_one_that_is_dropped_ends_then(zones):
    with fg.Monitor("rapl:*", hz=200) as monitor:
        ledger = monitor.ledger("chat")
        kept = ledger.open("kept")
        before = time.monotonic()
        dropped = ledger.open("dropped")
        dropped.add(tokens=3)
        time.sleep(0.05)
        del dropped
        gc.collect()
        held_s = time.monotonic() - before
        time.sleep(0.15)
    result = monitor.result
    assert not kept.is_open
    with pytest.raises(RuntimeError, match="opened while its monitor is not running"):
        ledger.open("late")
    rows = {r["id"]: r for r in result.spans("chat").to_pylist()}
    assert 0.05 <= rows["dropped"]["duration_s"] <= held_s
    assert rows["kept"]["duration_s"] >= held_s + 0.15
    assert rows["dropped"]["tokens"] == 3
    assert any("1 span of ledger 'chat' was still open at the end" in n for n in result.notes)
    assert any("1 span of ledger 'chat' dropped without a close" in n for n in result.notes)
    check_sum(result, result.spans("chat"))


def test_a_cycle_of_dropped_spans_is_collected(ledger):
    class Holder:
        pass

    def leave():
        holder = Holder()
        holder.span, holder.self = ledger.open("x"), holder

    leave()
    gc.collect()
    assert ledger.dropped == 1
    assert ledger.open_weights() == {}


def test_nested_spans_and_two_ledgers_are_noted(zones):
    with fg.Monitor("rapl:*", hz=200) as monitor:
        ledger, other = monitor.ledger("chat"), monitor.ledger("other")
        with ledger.span("outer"), ledger.span("inner"), other.span("x"):
            time.sleep(0.02)
        assert monitor.ledger("chat") is ledger
        with pytest.raises(ValueError, match="was made with other channels"):
            monitor.ledger("chat", baseline_w=1)
    notes = " ".join(monitor.result.notes)
    assert "1 span of ledger 'chat' opened within another span of the same ledger" in notes
    assert "the ledgers 'chat', 'other' each share all energy" in notes
    for name in ("chat", "other"):
        check_sum(monitor.result, monitor.result.spans(name))


def test_what_a_ledger_cannot_be_is_refused(zones):
    with fg.Monitor("rapl:*", hz=100) as monitor:
        with pytest.raises(ChannelNotFound, match="nvml"):
            monitor.ledger("a", channels="nvml:0")
        with pytest.raises(ValueError, match='weights must be "known" or "at close"'):
            monitor.ledger("a", weights="late")
        with pytest.raises(ValueError, match="baseline_w must be a number of watts from 0 on"):
            monitor.ledger("a", baseline_w=-1)
        with pytest.raises(ValueError, match="patience must be"):
            monitor.ledger("a", patience=0)
        with pytest.raises(TypeError, match="name must be a string"):
            monitor.ledger(7)
        with monitor.ledger("a").span(1):
            pass
    with pytest.raises(KeyError, match="no ledger 'b'"):
        monitor.result.spans("b")
    with pytest.raises(ValueError, match="by must be None"):
        monitor.result.spans("a", by="day")


def test_a_forked_child_does_nothing_with_the_spans_of_its_parent(zones):
    with fg.Monitor("rapl:*", hz=200) as monitor:
        ledger = monitor.ledger("chat")
        with ledger.span("parent") as span, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    span.add(tokens=1)
                    with ledger.span("child") as inner:
                        inner.add(tokens=1)
                    span.close()
                    status = 0 if len(ledger.take()[0]) == 0 else 2
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
    assert monitor.result.spans("chat")["id"].to_pylist() == ["parent"]


def test_weight_0_is_charged_nothing_and_leaves_the_energy_unattributed(zones):
    with fg.Monitor("rapl:*", hz=200) as monitor, monitor.ledger("chat").span("free", weight=0):
        time.sleep(0.05)
    table = monitor.result.spans("chat")
    assert [table[c].to_pylist() for c in ENERGIES] == [[0.0]] * 3
    assert total(table, "unattributed_j") == total(table, "drawn_j") > 0


def test_current_span_is_that_of_the_thread_and_outlives_nothing(ledger):
    seen = []
    with ledger.span("a"):
        thread = threading.Thread(target=lambda: seen.append(fg.current_span()))
        thread.start()
        thread.join()
    assert seen == [None]

    async def late():
        await asyncio.sleep(0.02)
        seen.append(fg.current_span())

    async def main():
        async with ledger.span("b"):
            task = asyncio.create_task(late())  # it copies the context, and goes on when the span is closed
        await task

    asyncio.run(main())
    assert seen == [None, None]


def test_a_share_of_an_estimate_lies_within_its_bounds_though_cpu_time_has_steps(proc):
    with fg.Monitor("procstat:*", hz=200, estimate=(1.0, 8.0)) as monitor:
        ledger = monitor.ledger("chat")
        for i in range(40):
            with ledger.span(i):
                proc.advance(user=0.05)  # ten times what fits into 5 ms
                time.sleep(0.005)
    rows = monitor.result.spans("chat").to_pylist()
    assert len(rows) == 40
    assert any(row["energy_j"] > 8.0 * row["duration_s"] for row in rows)
    for row in [*rows, *monitor.result.ledgers.to_pylist()]:
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
