"""Names from anywhere reach a terminal as printable text, files as text, and spreadsheets as no formula."""

from __future__ import annotations

import csv
import json
import time
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.guards.printable import encodable, printable
from fastgreen.results.console import PrintableConsole, plain_table
from fastgreen.results.result import Result
from fastgreen.results.trace import Trace, Windows
from fastgreen.table_files import save_table
from tests.fuzz.saved import METADATA, save_a_run

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "a\rb",
    "back\b\b\b\bspace",
    "\u202egnp.exe",
    "\u2066a\u2069",
    "zero\u200bwidth\ufeff",
    "tag\U000e0041",
    "line\nof another",
    "\u2028",
    "bell\x07",
    "nul\x00",
    "half\udce9",
    "\x7f",
]
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def harmless(text: str) -> bool:
    return all(unicodedata.category(c) not in OBEYED or c in "\n\t" for c in text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_becomes_its_escapes(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown


@given(st.text(st.characters(exclude_categories=())))
def test_printable_text_is_printable_and_ordinary_text_is_left_alone(text):
    shown = printable(text)
    assert harmless(shown)
    assert "\n" not in shown
    assert harmless(printable(text, lines=True))
    assert encodable(text).encode().decode() == encodable(text)
    if text.isprintable():
        assert shown == text
        assert encodable(text) == text


def test_the_names_of_all_the_world_stay_as_they_are():
    for name in ("Größe", "模型 推理", "модель", "résumé\u00a0x", "😀", "مرحبا", "f(x) = [a]"):
        assert printable(name) == name


def test_a_very_long_text_is_cut():
    assert printable("x" * 10**6) == "x" * 4000 + "..."


@pytest.mark.parametrize("name", HOSTILE)
def test_a_window_of_any_name_is_counted_printed_and_saved(tmp_path, name):
    with fg.Monitor() as monitor:
        with monitor.window(name):
            time.sleep(0.001)
        with monitor.window(name):
            time.sleep(0.001)
    result = monitor.result
    assert result.summary()["count"].to_pylist() == [2]
    assert result.windows(name).num_rows == 2
    assert harmless(str(result))
    json.dumps(result.to_dict())
    result.save(tmp_path / "run")
    loaded = fg.load(tmp_path / "run")
    assert loaded.windows(name).num_rows == 2
    assert harmless(str(loaded))
    assert harmless(loaded._repr_html_())


def test_a_checkpoint_of_any_column_name_is_a_table():
    with fg.Monitor() as monitor:
        monitor.checkpoint(0.5, **{"half\udce9": 1.0})
    assert monitor.training_log.table()["half\\udce9"].to_pylist() == [1.0]


def hostile_result() -> Result:
    begin = np.array([6_000_000_000])
    windows = [Windows(encodable(name), i, begin, begin + 1000) for i, name in enumerate(HOSTILE)]
    return Result([], windows, METADATA, 6_000_000_000, 7_000_000_000, list(map(encodable, HOSTILE)))


def test_report_prints_names_and_notes_of_a_strangers_run_as_text(tmp_path):
    hostile_result().save(tmp_path / "run")
    done = CliRunner().invoke(main, ["report", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert harmless(done.output)
    assert r"\x1b]0;owned\x07" in done.output


def test_a_column_header_a_title_and_a_bare_print_are_printable_too():
    import io

    out = io.StringIO()
    console = PrintableConsole(file=out, width=300, color_system="truecolor", force_terminal=True, highlight=False)
    table = plain_table("title \x1b[2J", "a\x1b[3J", "b")
    table.add_row("c\x1b[4J", "[bold]")
    console.print(table)
    console.print("plain \x1b[5J", markup=False)
    other = Table(title="t\x9b6J")
    other.add_column("u\x9b7J")
    console.print(other)
    said = out.getvalue()
    assert not any(f"\x1b[{n}J" in said or f"\x9b{n}J" in said for n in range(2, 8))
    assert all(rf"\x1b[{n}J" in said for n in range(2, 6))
    assert "\x1b[1m" in said  # its own styles stay


def test_compile_prints_a_strangers_names_as_text_and_writes_no_formula(tmp_path):
    study = tmp_path / "study"
    place = study / "input_=cmd()\x1b[2J" / "run_0"
    place.mkdir(parents=True)
    (study / "study.json").write_text(json.dumps({"protocol": "\x1b]0;owned\x07", "size_unit": "\u202e$x_{$"}))
    run_with_window_inference(place / "run")
    (place / "status.json").write_text(
        json.dumps({"size": "\x1b[3J", "repeat": 0, "state": "done", "iterations": 1, "error": ""})
    )
    bad = study / "input_2" / "run_0"
    bad.mkdir(parents=True)
    (bad / "status.json").write_text(
        json.dumps({"size": "2", "repeat": 0, "state": "failed", "iterations": 0, "error": "@SUM(\x1b[4J)"})
    )
    done = CliRunner().invoke(main, ["compile", str(study)])
    assert done.exit_code == 0, done.output
    assert harmless(done.output)
    for file in (study / "compiled").glob("*.csv"):
        for row in csv.reader(file.open(encoding="utf-8", newline="")):
            assert not any(cell[:1] in tuple("=+-@") and not is_number(cell) for cell in row), row


def run_with_window_inference(path) -> None:
    save_a_run(path.with_name("other"))
    loaded = fg.load(path.with_name("other"))
    traces = [Trace(t.channel, t.counted, t.report, t.chunks) for t in loaded.traces]
    lanes = [Windows("inference", 0, w.begin_ns, w.end_ns) for w in loaded._windows[:1]]
    Result(traces, lanes, loaded.metadata, loaded.start_ns, loaded.end_ns).save(path)


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_an_error_that_names_a_strangers_file_is_printable(tmp_path):
    done = CliRunner().invoke(main, ["report", str(tmp_path / "no\x1b[2Jrun")])
    assert done.exit_code == 1
    assert harmless(done.output)


@given(
    st.lists(st.one_of(st.text(max_size=6), st.sampled_from(["=1+1", "-3", "+2.5e3", "@x", "-", "=", "\t=1", "-x"])))
)
def test_csv_cells_are_inert_and_numbers_stay_numbers(tmp_path_factory, cells):
    cells = [encodable(cell).replace("\x00", "") for cell in cells]
    table = pa.table(
        {
            "=name": pa.array(cells, pa.string()),
            "coded": pa.array(cells, pa.string()).dictionary_encode(),
            "number": pa.array([-float(i) for i in range(len(cells))]),
        }
    )
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    save_table(table, path)
    with path.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream, strict=True)
    assert head == ["'=name", "coded", "number"]
    for (text, coded, number), cell, i in zip(rows, cells, range(len(cells)), strict=True):
        assert text == coded
        assert text in (cell, "'" + cell)
        if cell[:1] in tuple("=+-@\t\r"):
            assert text == cell if is_number(cell) else text == "'" + cell
        assert float(number) == -i
