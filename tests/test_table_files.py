"""Tables that users give: one reader for every format, whatever the name of the file ends with."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

import fastgreen as fg
from fastgreen.errors import TraceError
from fastgreen.estimate.plain import from_file
from fastgreen.table_files import load_table, save_arrow, save_table

TABLE = pa.table({"name": ["a", "b"], "count": [1, 2], "energy_j": [0.5, 1.5]})


def _stream(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "csv": lambda table, path: csv.write_csv(table, path),
    "parquet": lambda table, path: parquet.write_table(table, path),
    "arrow file": save_arrow,
    "arrow stream": _stream,
}


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.arrow", "x"])
@pytest.mark.parametrize("written", WRITERS)
def test_the_content_decides_the_format_and_not_the_name(tmp_path, written, name):
    WRITERS[written](TABLE, tmp_path / name)
    assert load_table(tmp_path / name).equals(TABLE)
    assert load_table(str(tmp_path / name)).equals(TABLE)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.arrow", "x"])
def test_what_is_saved_is_read_back(tmp_path, name):
    save_table(TABLE, tmp_path / name)
    assert load_table(tmp_path / name).equals(TABLE)


def test_a_tsv_is_separated_by_tabs(tmp_path):
    (tmp_path / "x.TSV").write_text("a\tb\n1\t2\n")
    assert load_table(tmp_path / "x.TSV").to_pylist() == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a table"), (b"PAR1 and no more", "not a table"), (b"ARROW1\0\0", "not a table"),
        (b"\xff\xff\xff\xff", "not a table"), (b"a,a\n1,2\n", "two columns are called 'a'"),
        (b"a,b\n1,2,3\n", "not a table"), (b"\xfe,b\n1,2\n", "not a table"), (None, "No such file"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused_with_its_name(tmp_path, data, words):
    path = tmp_path / "x.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(TraceError, match=words) as raised:
        load_table(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("kind", ["fifo", "zero", "folder"])
def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path, kind):
    path = tmp_path / "x.csv"
    {"fifo": os.mkfifo, "zero": lambda p: p.symlink_to("/dev/zero"), "folder": os.mkdir}[kind](path)
    for read in (load_table, fg.open_sweep):
        with pytest.raises(TraceError, match="not a regular file"):
            read(path)


def test_a_packed_table_is_read(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert load_table(tmp_path / "x.csv.gz").to_pylist() == [{"a": 1, "b": 2}]


def test_a_list_of_layers_may_lack_cells_and_be_named_by_numbers(tmp_path):
    path = tmp_path / "net.csv"
    path.write_text("\ufeffkind,name,input_size,output_size\nLinear,1,3,4\nReLU,,5,\n", encoding="utf-8")
    linear, relu = from_file(path)
    assert (linear.name, linear.sizes["input_size"], linear.sizes["output_size"]) == ("1", 3, 4)
    assert relu.sizes["input_size"] == 5
    assert "output_size" not in relu.sizes


@pytest.mark.parametrize("write", [WRITERS["arrow file"], WRITERS["arrow stream"]])
def test_an_offset_outside_its_buffer_is_damage(tmp_path, write):
    path = tmp_path / "t"
    write(pa.table({"name": ["aaaa", "bbbb", "cccc"]}), path)
    content = path.read_bytes()
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 4, 8, 12))
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, offsets[:8] + (1 << 30).to_bytes(4, "little") + offsets[12:]))
    with pytest.raises(TraceError, match="is not a table"):
        load_table(path)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(TraceError, match="not a regular file"):
        load_table(tmp_path / "t.csv")


def test_a_hundred_thousand_columns_are_read_in_seconds(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",".join(f"c{i}" for i in range(100_000)) + "\n" + "1," * 99_999 + "1\n")
    began = time.process_time()
    assert load_table(path).num_columns == 100_000
    assert time.process_time() - began < 5
