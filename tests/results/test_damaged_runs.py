"""Runs whose files are sound Arrow and say what no run can say: refused by name, one field at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.results import run_folder
from fastgreen.results.run_checks import EARLIEST_NS, LATEST_NS
from tests.fuzz.saved import METADATA, MS, SECOND, save_a_run

ROWS = range(4)  # the counter, one inside it, an estimate, a power


@pytest.fixture
def run(tmp_path) -> Path:
    save_a_run(tmp_path / "run")
    return tmp_path / "run"


def rewrite(path: Path, change: Callable[[list[pa.RecordBatch]], list[pa.RecordBatch]]) -> None:
    with pa.ipc.open_stream(path.read_bytes()) as reader:  # not mapped: it is written anew
        schema, batches = reader.schema, list(reader)
    with pa.ipc.new_stream(path, schema) as writer:
        for batch in change(batches):
            writer.write_batch(batch)


def set_cell(path: Path, column: str, value: Any, row: int = 0) -> None:
    def change(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        table = pa.Table.from_batches(batches).combine_chunks()
        field, cells = table.schema.field(column), table[column].to_pylist()
        cells[row] = value
        array = pa.array(cells, pa.string()).cast(field.type) if column == "name" else pa.array(cells, field.type)
        return table.set_column(table.schema.get_field_index(column), field, array).to_batches(max_chunksize=10)

    rewrite(path, change)


def set_member(run: Path, column: str, name: str, value: Any, row: int = 0) -> None:
    """One member of the JSON in a column of channels.arrow; `value` can be a function of what was there."""
    path = run / "channels.arrow"
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        known = json.loads(reader.read_all()[column][row].as_py())
    if value is ...:
        del known[name]
    else:
        known[name] = value(known[name]) if callable(value) else value
    set_cell(path, column, json.dumps(known), row)


def set_sample(run: Path, column: str, value: Any, sample: int = 50, channel: int = 0) -> None:
    """A value of a channel's samples, batches of 40 and 60."""

    def change(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        full = [i for i, batch in enumerate(batches) if batch.num_rows]
        number, row = full[2 * channel + (sample >= 40)], sample - 40 * (sample >= 40)
        batch = batches[number]
        index = batch.schema.get_field_index(column)
        cells = batch.column(index).to_pylist()
        cells[row] = value(cells[row]) if callable(value) else value
        columns = [pa.array(cells, c.type) if i == index else c for i, c in enumerate(batch.columns)]
        batches[number] = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
        return batches

    rewrite(run / "samples.arrow", change)


def ask(run: Path) -> fg.Result:
    loaded = fg.load(run)
    _ = loaded.to_dict(), loaded.windows(per_channel=True), loaded.samples(), str(loaded)
    return loaded


def test_the_run_itself_is_sound(run):
    loaded = ask(run)
    joules = loaded.channels["energy_j"].to_pylist()
    assert joules == pytest.approx([49.5, 49.5, 9.9, 12.88], rel=0.01)
    assert loaded.energy_j == sum(joules) - joules[1]
    assert loaded.summary()["count"].to_pylist() == [20]
    assert loaded.notes[0] == "a note"


@pytest.mark.parametrize(
    "start_ns", [0, 1_700_000_000 * SECOND, 4_500_000_000 * SECOND, EARLIEST_NS, LATEST_NS - SECOND]
)
def test_instants_may_count_from_any_start(tmp_path, start_ns):
    save_a_run(tmp_path / "run", start_ns)
    assert ask(tmp_path / "run").energy_j == pytest.approx(49.5 + 9.9 + 12.88, rel=0.01)
    with fg.Monitor(f"replay:{tmp_path / 'run'}", speed=0) as monitor:
        pass
    assert monitor.result.energy_j == pytest.approx(49.5 + 9.9 + 12.88, rel=0.01)


NUMBERS = [math.nan, math.inf, -math.inf, 1e300, True, "x", [], {}]

REPORT = [
    *((name, value) for name in ("samples", "updates", "gaps", "resets", "periods") for value in (-1, 2.5, 1 << 63)),
    *((name, value) for name in ("first_at_ns", "last_at_ns", "end_at_ns") for value in (1 << 62, -(1 << 61), 0.5)),
    *((name, value) for name in ("period_ns", "period_lower_ns", "step_longest_ns") for value in (-1, 1 << 63, None)),
    *((name, value) for name in ("read_mean_ns", "peak_per_ns", "end_total") for value in (None, -1, *NUMBERS)),
    *(("period_mean_ns", value) for value in (-1, *NUMBERS)),
    *((name, value) for name in ("missed", "lost", "read_errors") for value in (-1, 0.5, "x")),
    *((name, value) for name in ("why_ended", "last_error") for value in (1, [], "\ud800")),
    ("period_ns", 0),
    ("resets", 101),
    ("end_total", ...),
    ("samples", ...),
]


@pytest.mark.parametrize(("name", "value"), REPORT, ids=lambda x: repr(x)[:12])
def test_a_report_that_no_engine_gives_is_refused_by_name(run, name, value):
    set_member(run, "report", name, value)
    with pytest.raises(TraceError, match=rf"channels\.arrow is damaged: .*({name}|surrogates)"):
        fg.load(run)


@pytest.mark.parametrize(
    ("name", "other"), [("last_at_ns", "first_at_ns"), ("end_at_ns", "first_at_ns"), ("last_at_ns", "end_at_ns")]
)
def test_a_report_that_ends_before_it_begins_is_refused(run, name, other):
    with pa.ipc.open_stream((run / "channels.arrow").read_bytes()) as reader:
        tally = json.loads(reader.read_all()["report"][0].as_py())
    set_member(run, "report", name, tally[other] - 1)
    with pytest.raises(TraceError, match=f"after {name}"):
        fg.load(run)


COUNTS = ("modulus", "quantum", "period_ns", "plausible_per_s")
TRAITS = [
    *((name, value) for name in COUNTS for value in (-1, 0.5, None, ...)),
    ("quantum", 0), ("quantum", 1 << 41), ("period_ns", 0), ("period_ns", 1 << 61), ("modulus", 1 << 64),
    ("kind", "power"), ("kind", "x"), ("kind", None), ("kind", ...),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), TRAITS, ids=lambda x: repr(x)[:12])
def test_traits_that_no_sensor_has_are_refused_by_name(run, name, value):
    set_member(run, "traits", name, value)
    with pytest.raises(TraceError, match=rf"channels\.arrow is damaged: .*{name}"):
        fg.load(run)


CHANNEL = [
    *((name, None) for name in ("id", "source", "kind", "name", "unit", "device", "root", "estimated", "counted")),
    *((name, value) for name in ("wrap_j", "ceiling_w", "floor_w", "delay_s", "period_s", "averaging_s", "coverage")
      for value in (math.nan, math.inf, -1.0, 1e300)),
    ("coverage", 1.5), ("floor_w", 126.0), ("kind", "power"), ("kind", "x"), ("unit", "W"), ("unit", "kWh"),
    ("unit", ""), ("traits", None), ("traits", "[]"), ("traits", "[" * 100_000), ("report", "["), ("report", "{}"),
    ("notes", "{}"), ("notes", "[1]"), ("notes", '["\\ud800"]'), ("notes", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANNEL, ids=lambda x: repr(x)[:12])
def test_a_channel_that_no_machine_has_is_refused(run, name, value):
    set_cell(run / "channels.arrow", name, value)
    with pytest.raises(TraceError, match=r"channels\.arrow is damaged: "):
        fg.load(run)


def test_an_estimate_without_its_full_power_is_refused(run):
    set_cell(run / "channels.arrow", "ceiling_w", None)
    set_cell(run / "channels.arrow", "estimated", True)
    with pytest.raises(TraceError, match="ceiling_w None"):
        fg.load(run)


def test_two_channels_of_one_name_are_refused(run):
    set_cell(run / "channels.arrow", "id", "hwmon:x")
    with pytest.raises(TraceError, match="two channels are called 'hwmon:x'"):
        fg.load(run)


SAMPLES = [
    ("monotonic_ns", lambda at: at - 20 * MS, "the time of rapl:package-0 runs backwards"),
    ("monotonic_ns", (1 << 63) - 1, "runs backwards"),
    ("raw", lambda raw: raw - 1_000_000, "runs backwards, and neither wraps nor restarts"),
    ("raw", 1 << 62, "runs backwards"),
    ("wraps", 1, "sums up to 69500000, channels.arrow says 49500000"),
    ("flags", _resolver.RESET, "with 1 restart or more"),
    *((name, None, f"a value of {name} is missing") for name in ("monotonic_ns", "raw", "wraps", "flags", "time")),
]


@pytest.mark.parametrize(("name", "value", "words"), SAMPLES, ids=lambda x: repr(x)[:20])
@pytest.mark.parametrize("sample", [40, 70])  # the first of a batch, and within one
def test_samples_that_no_counter_gives_are_refused(run, name, value, words, sample):
    set_sample(run, name, value, sample)
    with pytest.raises(TraceError, match=r"samples\.arrow is damaged: ") as caught:
        ask(run)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "words"), [(17_000_000, "shows 17000000, channels.arrow says 16000000"), (-9_000_000, "sums up to 12")]
)
def test_a_power_that_its_report_does_not_know_is_refused(run, raw, words):
    set_sample(run, "raw", raw, channel=3)
    with pytest.raises(TraceError, match=words):
        ask(run)


@pytest.mark.parametrize(("sample", "value"), [(0, 5 * SECOND), (99, 7 * SECOND)])
def test_samples_outside_of_their_report_are_refused(run, sample, value):
    set_sample(run, "monotonic_ns", value, sample)
    with pytest.raises(TraceError, match="samples of rapl:package-0 lie from"):
        ask(run)


def test_samples_of_a_thousand_years_are_refused_of_a_killed_run_too(run):
    for row in ROWS:
        set_cell(run / "channels.arrow", "report", None, row)
    assert ask(run).energy_j == pytest.approx(49.5 + 9.9 + 12.88, rel=0.01)
    set_sample(run, "monotonic_ns", (1 << 63) - 1, 99)
    with pytest.raises(TraceError, match="9223372036854775807"):
        fg.load(run)


def test_more_wraps_than_64_bits_can_count_are_refused(run):
    for row in ROWS:
        set_cell(run / "channels.arrow", "report", None, row)
    set_member(run, "traits", "modulus", 1 << 62)
    set_sample(run, "wraps", 65535)
    with pytest.raises(TraceError, match="wraps more often than 64 bits can count"):
        fg.load(run)


def test_a_batch_twice_is_refused(run):
    rewrite(run / "samples.arrow", lambda batches: [*batches, batches[-1]])
    with pytest.raises(TraceError, match="the time of hwmon:x runs backwards"):
        ask(run)


def test_samples_that_are_not_there_widen_and_are_no_contradiction(run):
    rewrite(run / "samples.arrow", lambda batches: [b for b in batches if b.num_rows != 40])
    loaded = ask(run)
    assert loaded.energy_low_j <= loaded.energy_j <= loaded.energy_high_j


WINDOWS = [
    ("start_ns", -(1 << 63), "lie from -9223372036854775808"),
    ("end_ns", (1 << 63) - 1, "run backwards"),
    ("start_ns", None, "start_ns is missing"),
    ("end_ns", None, "end_ns is missing"),
    ("handle", None, "handle is missing"),
    ("name", None, "name is missing"),
]


@pytest.mark.parametrize(("name", "value", "words"), WINDOWS)
def test_windows_that_no_clock_gives_are_refused(run, name, value, words):
    set_cell(run / "windows.arrow", name, value)
    with pytest.raises(TraceError, match=r"windows\.arrow is damaged") as caught:
        fg.load(run)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["[/b]", "a [red]b", "\x1b[31m", "é\n", ""])
def test_names_are_shown_as_they_are(run, name):
    set_cell(run / "channels.arrow", "note", name)
    for row in range(10):
        set_cell(run / "windows.arrow", "name", name, row)
    loaded = ask(run)
    assert name in loaded.names
    assert name.split("\n")[0].strip("\x1b") in str(loaded)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("realtime_ns", 1 << 63),
        ("realtime_ns", -(1 << 61)),
        ("monotonic_ns", 1 << 62),
        ("monotonic_ns", 0.5),
        ("format", True),
        ("format", 0.5),
    ],
)
def test_clocks_that_no_machine_has_are_refused(run, name, value):
    for file in run_folder.FILES:
        with pa.ipc.open_stream((run / file).read_bytes()) as reader:
            table = reader.read_all()
        text = json.dumps({**METADATA, name: value})
        with pa.ipc.new_stream(run / file, table.replace_schema_metadata({b"fastgreen": text}).schema) as writer:
            writer.write_table(table.replace_schema_metadata({b"fastgreen": text}))
    with pytest.raises(TraceError, match="was not written by fastgreen"):
        fg.load(run)


@pytest.mark.parametrize(
    "span", ["", "[]", "{}", '{"start_ns": 2, "end_ns": 1, "notes": []}', '{"start_ns": 0, "end_ns": 0, "notes": "x"}']
)
def test_a_begin_and_end_that_are_none_are_refused(run, span):
    path = run / "channels.arrow"
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        table = reader.read_all()
    table = table.replace_schema_metadata({**table.schema.metadata, b"fastgreen_span": span})
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(TraceError, match=r"channels\.arrow is damaged: "):
        fg.load(run)


# ---- played again ----


def test_a_replay_cares_for_no_wrap_that_its_recording_saw(run):
    set_cell(run / "channels.arrow", "wrap_j", 1e-3)  # 8 us at 125 W: no live channel could be read that often
    with fg.Monitor(f"replay:{run}", speed=0, hz=1) as monitor:
        pass
    assert monitor.result.channels["energy_j"][0].as_py() == pytest.approx(49.5)


@pytest.mark.parametrize("speed", [1e-10, 5e-324])
def test_a_replay_of_centuries_is_refused(run, speed):
    with pytest.raises(ValueError, match="would last"):
        fg.Monitor(f"replay:{run}", speed=speed)


def test_a_replay_faster_than_numbers_go_keeps_within_them(run):
    with fg.Monitor(f"replay:{run}", speed=1e17) as monitor:
        monitor.wait(10)
    assert 0 <= monitor.result.energy_low_j <= monitor.result.energy_high_j < math.inf


# ---- other versions of this format ----


def change_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        batches, schema = list(reader), reader.schema
    tables = [change(pa.Table.from_batches([batch], schema=schema)) for batch in batches]
    metadata = schema.metadata
    with pa.ipc.new_stream(path, tables[0].schema.with_metadata(metadata)) as writer:
        for table in tables:
            for batch in table.replace_schema_metadata(metadata).to_batches():
                writer.write_batch(batch)


@pytest.mark.parametrize("name", run_folder.FILES)
@pytest.mark.parametrize("place", [0, 2, None])
def test_columns_that_a_later_version_adds_are_passed_over_wherever_they_stand(run, name, place):
    before = ask(run)

    def add(table: pa.Table) -> pa.Table:
        nulls = pa.nulls(table.num_rows, pa.list_(pa.float64()))
        return table.add_column(table.num_columns if place is None else place, "quality", nulls)

    change_table(run / name, add)
    after = ask(run)
    assert after.to_dict() == before.to_dict()
    assert after.windows().equals(before.windows())
    assert after.samples().equals(before.samples())


@pytest.mark.parametrize("name", run_folder.FILES)
def test_columns_in_another_order_are_the_same_columns(run, name):
    before = ask(run)
    change_table(run / name, lambda table: table.select(table.schema.names[::-1]))
    assert ask(run).to_dict() == before.to_dict()


@pytest.mark.parametrize(
    ("name", "column"),
    [("channels", "id"), ("channels", "traits"), ("channels", "counted"), ("channels", "unit"), ("channels", "report"),
     ("samples", "raw"), ("samples", "channel"), ("windows", "end_ns"), ("windows", "handle")],
)  # fmt: skip
def test_a_column_that_numbers_hang_on_must_be_there_once(run, name, column):
    whole = {file: (run / file).read_bytes() for file in run_folder.FILES}
    twice = lambda table: table.append_column(table.schema.field(column), table[column])  # noqa: E731
    for change in (lambda table: table.drop_columns([column]), twice):
        (run / f"{name}.arrow").write_bytes(whole[f"{name}.arrow"])
        change_table(run / f"{name}.arrow", change)
        with pytest.raises(TraceError, match=rf"{name}\.arrow"):
            ask(run)


def test_a_column_of_another_type_is_refused(run):
    whole = {file: (run / file).read_bytes() for file in run_folder.FILES}
    refused = 0
    for file, schema in (("samples.arrow", run_folder.SAMPLES), ("windows.arrow", run_folder.WINDOWS)):
        for field in schema:
            for kind in (pa.float64(), pa.string(), pa.int16(), pa.list_(pa.int64())):
                (run / file).write_bytes(whole[file])
                change_table(
                    run / file,
                    lambda t, n=field.name, k=kind: t.drop_columns([n]).append_column(n, pa.nulls(len(t), k)),
                )
                with pytest.raises(TraceError, match=file):
                    ask(run)
                refused += 1
        (run / file).write_bytes(whole[file])
    assert refused == 48


def test_text_columns_of_channels_may_be_of_any_type_that_holds_the_same(run):
    before = ask(run)
    names = ["id", "traits", "report", "unit"]

    def change(table: pa.Table) -> pa.Table:
        for name in names:
            kind = pa.large_string() if name != "unit" else pa.dictionary(pa.int8(), pa.string())
            table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
        return table

    change_table(run / "channels.arrow", change)
    assert ask(run).to_dict() == before.to_dict()


@pytest.mark.parametrize("name", run_folder.FILES)
def test_what_is_no_file_or_cannot_be_opened_is_refused_and_not_waited_for(run, name):
    whole = (run / name).read_bytes()
    for make, words in (
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to(name), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), "leads out of .*run: links"),
    ):
        (run / name).unlink()
        make(run / name)
        with pytest.raises(TraceError, match=rf"{name} {words}"):
            fg.load(run)
    (run / name).unlink()
    (run / "elsewhere").write_bytes(whole)
    (run / name).symlink_to("elsewhere")
    assert ask(run).notes[0] == "a note"
