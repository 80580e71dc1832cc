# SPDX-License-Identifier: Apache-2.0
"""Amounts of windows: tokens of a plain loop, and joules for each of them, wherever a run goes."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

import fastgreen as fg
from fastgreen.errors import TraceError
from tests.fakes.powercap import Zone

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")


@pytest.fixture(params=[False, True], ids=["memory", "recorded"])
def monitor(powercap, tmp_path, request):
    powercap(Zone("package-0", 80.0), move=True)
    return fg.Monitor("rapl:*", hz=500, record=tmp_path / "run" if request.param else None)


def measured(monitor):
    with monitor:
        infer, other = monitor.window("infer"), monitor.window("other")
        for i in range(6):
            with infer as window:
                time.sleep(0.005)
                if i % 2:
                    window.add(tokens=3, images=1)
                    window.add(tokens=0.5)
            with other:
                pass
            if i == 3:
                time.sleep(0.3)  # the recording writes what there is
    return monitor.result


def test_windows_and_summary_have_the_amounts_and_joules_for_each(monitor, tmp_path):
    result = measured(monitor)
    table = result.windows("infer")
    assert table["tokens"].to_pylist() == [None, 3.5] * 3
    assert table["images"].to_pylist() == [None, 1.0] * 3
    assert "tokens" not in result.windows("other").schema.names
    rows = {row["name"]: row for row in result.summary().to_pylist()}
    row = rows["infer"]
    assert row["total_tokens"] == 10.5
    assert row["total_images"] == 3
    assert row["energy_per_tokens_j"] == pytest.approx(row["energy_j"] / 10.5)
    assert row["energy_per_tokens_low_j"] == pytest.approx(row["energy_low_j"] / 10.5)
    assert row["energy_per_tokens_high_j"] == pytest.approx(row["energy_high_j"] / 10.5)
    assert rows["other"]["total_tokens"] is None
    assert "infer, per tokens" in str(result)
    assert "energy per tokens" in result._repr_html_()
    if not (tmp_path / "run").exists():
        result.save(tmp_path / "run")
    loaded = fg.load(tmp_path / "run")
    assert loaded.windows().equals(result.windows())
    assert loaded.summary().equals(result.summary())
    loaded.save(tmp_path / "again")
    assert fg.load(tmp_path / "again").windows().equals(result.windows())


def test_what_a_window_cannot_take_is_refused(monitor):
    with monitor:
        window = monitor.window("w")
        with pytest.raises(RuntimeError, match="add of window 'w', which is not open"):
            window.add(tokens=1)
        with window:
            for value in (float("nan"), float("inf")):
                with pytest.raises(ValueError, match="tokens must be a finite number, not"):
                    window.add(tokens=value)
            with pytest.raises(TypeError):
                window.add(tokens="x")
            window.add(**{"energy_j": 2, "\ud800": 1})
        with pytest.raises(RuntimeError, match="not open"):
            window.add(tokens=1)
    table = monitor.result.windows()
    assert table["energy_j_amount"].to_pylist() == [2.0]
    assert table["\\ud800"].to_pylist() == [1.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_damaged_amounts_are_an_error(monitor, tmp_path, value):
    if not monitor._record:
        pytest.skip("without a folder")
    measured(monitor)
    path = tmp_path / "run" / "windows.arrow"
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        batches, schema = list(reader), reader.schema
    with pa.ipc.new_stream(path, schema) as writer:
        for batch in batches:
            place = batch.schema.get_field_index("amounts")
            column = pa.array([[("tokens", value)]] * len(batch), batch.schema.field(place).type)
            writer.write_batch(batch.set_column(place, batch.schema.field(place), column))
    with pytest.raises(TraceError, match="an amount of a window is not a number"):
        fg.load(tmp_path / "run")
