"""What a writer of a recording writes, its reader reads: every quantity, with the same energy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fastgreen import load
from fastgreen.recordings.published_layout import _KEYS, write_run
from fastgreen.recordings.readers import read_aipowermeter
from fastgreen.recordings.recording import RecordingBuilder

QUANTITIES = [*_KEYS, "gpu:0", "gpu:3"]
EPOCH_NS = 1_700_000_000 * 10**9
WATTS = st.one_of(st.floats(0, 1e4), st.just(math.nan))


def recording(steps_s, watts, segments):
    builder = RecordingBuilder("test", "test", max_gap_s=math.inf)
    stamps = EPOCH_NS + np.rint(np.cumsum(steps_s) * 1e6).astype(np.int64) * 1000
    for name, values in watts.items():
        builder.channel(name, root="/" not in name)
        builder.add(name, stamps, np.cumsum(segments), np.array(values))
    return builder.finish()


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.data())
def test_every_quantity_of_the_published_layout_comes_back(tmp_path_factory, data):
    size = data.draw(st.integers(2, 12))
    names = data.draw(st.lists(st.sampled_from(QUANTITIES), min_size=1, unique=True))
    rows = st.lists(WATTS, min_size=size, max_size=size)
    source = recording(
        data.draw(st.lists(st.floats(0.01, 100), min_size=size, max_size=size)),
        {name: data.draw(rows) for name in names},
        data.draw(st.lists(st.booleans(), min_size=size, max_size=size)),
    )
    folder = write_run(tmp_path_factory.mktemp("run"), 1, 0, source)
    again = read_aipowermeter(folder, max_gap_s=math.inf)
    assert all(joules >= 0 for joules in again.energy_j().values())
    read_back = again.energy_j()
    for name, joules in source.energy_j().items():
        assert read_back[name] == pytest.approx(joules, rel=1e-9, abs=1e-6), name
    row = {row["id"]: row for row in again.channels.to_pylist()}
    for name in names:
        values = source.points(name)[2]
        if np.isfinite(values).any():
            back = again.points(name)[2]
            np.testing.assert_array_equal(back[np.isfinite(back)], values[np.isfinite(values)])
            assert row[name]["samples"] == np.isfinite(values).sum()


@pytest.mark.parametrize("name", QUANTITIES)
def test_each_quantity_alone_keeps_its_energy(tmp_path, name):
    source = recording([1.0] * 4, {name: [100.0, 50.0, 60.0, 50.0]}, [0] * 4)
    again = read_aipowermeter(write_run(tmp_path, 1, 0, source))
    assert again.energy_j()[name] == pytest.approx(185.0)
    assert again.notes == []


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.tuples(st.floats(0.01, 100), WATTS, st.booleans()), min_size=2, max_size=12))
def test_a_saved_run_keeps_the_energy_of_its_recording(tmp_path_factory, rows):
    steps, watts, segments = zip(*rows, strict=True)
    source = recording(steps, {"package": watts, "gpu": watts[::-1]}, segments)
    source.to_result().save(folder := tmp_path_factory.mktemp("run") / "saved")
    assert load(folder).energy_j == pytest.approx(source.total_j, rel=1e-9, abs=1e-6)
