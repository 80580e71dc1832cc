"""Sweeps from strangers: a file that is no sweep, or whose metadata do not fit, is an error that says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

import fastgreen as fg
from fastgreen.errors import TraceError
from fastgreen.metrics import sweep_writer
from tests.metrics.test_sweep import small


def _described(path: Path, **changes: object) -> None:
    """A sweep whose metadata are changed."""
    table = pa.ipc.open_file(path).read_all()
    known = json.loads(table.schema.metadata[sweep_writer.KEY])
    changed = table.replace_schema_metadata({sweep_writer.KEY: json.dumps({**known, **changes}).encode()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, changed.schema) as writer:
        writer.write_table(changed)


@pytest.mark.parametrize("changes", [{"metric": 0}, {"metric": 5}, {"metric": None}, {"unit": 3}, {"unit": ["J"]}])
def test_a_sweep_whose_names_are_no_texts_is_damaged(tmp_path, changes):
    path = tmp_path / "grid.arrow"
    small().write(path)
    _described(path, **changes)
    with pytest.raises(TraceError, match="is damaged"):
        fg.open_sweep(path)


def test_a_sweep_of_longer_rows_than_its_axes_is_damaged(tmp_path):
    path = tmp_path / "grid.arrow"
    fg.Sweep("apc", consumption=[1.0, 2, 3, 4], accuracy=[0.5, 0.6, 0.7], alpha=[0.1]).write(path)
    known = json.loads(pa.ipc.open_file(path).schema.metadata[sweep_writer.KEY])
    _described(path, axes={**known["axes"], "consumption": [1.0, 2, 3]})
    with pytest.raises(TraceError, match="is damaged"):
        fg.open_sweep(path)


def test_a_pipe_is_no_sweep(tmp_path):
    os.mkfifo(tmp_path / "grid.arrow")
    with pytest.raises(TraceError, match="not a regular file"):
        fg.open_sweep(tmp_path / "grid.arrow")
