"""Measured layers from strangers: a damaged `layers.arrow` is an error that names it, and never a crash."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

from fastgreen.errors import TraceError
from fastgreen.estimate.layerfile import SCHEMA, read_rows
from fastgreen.estimate.tables import read_tables

ROW = {"kind": "Linear", "sizes": [("batch_size", 1), ("input_size", 2), ("output_size", 3)], "repeat": 0, "passes": 2,
       "duration_s": 0.1, "energy_j": 1.0, "channels": [{"id": "a", "energy_j": 1.0}], "estimated": False}  # fmt: skip


def collection(folder, rows):
    path = folder / "layers.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return path


def test_a_sound_collection_is_read(tmp_path):
    collection(tmp_path, [ROW, {**ROW, "passes": 0, "energy_j": None}, {**ROW, "passes": None}])
    assert list(read_tables(tmp_path)["Linear"].energy_j) == [0.5]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Flux"},
        {"kind": None},
        {"sizes": None},
        {"sizes": [("batch_size", None)]},
        {"energy_j": None},
        {"channels": None},
        {"channels": [None]},
        {"channels": [{"id": "a", "energy_j": None}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("channel", [None, "a"])
def test_a_row_that_no_collection_writes_is_damage(tmp_path, change, channel):
    path = collection(tmp_path, [ROW, {**ROW, **change}])
    with pytest.raises(TraceError, match=str(path)):
        read_tables(tmp_path, channel)


def test_an_offset_outside_its_buffer_does_not_crash(tmp_path):
    path = collection(tmp_path, [{**ROW, "failure": "x" * 7}] * 3)
    content = path.read_bytes()
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 7, 14, 21))
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, offsets[:8] + (1 << 30).to_bytes(4, "little") + offsets[12:]))
    assert read_rows(path).num_rows == 0  # a batch that is not whole is left out


@pytest.mark.parametrize("head", [b"\xff\xff\xff\xff\xf0\xff\xff\xff", b"\xff\xff\xff\xff\x08\0\0\0abcdefgh"])
def test_bytes_that_are_no_stream_are_damage(tmp_path, head):
    path = tmp_path / "layers.arrow"
    path.write_bytes(head)
    with pytest.raises(TraceError, match="not an Arrow stream"):
        read_rows(path)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "layers.arrow")
    with pytest.raises(TraceError, match="not a regular file"):
        read_tables(tmp_path)
