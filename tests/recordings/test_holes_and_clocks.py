"""A stretch in which nothing was recorded, and a clock that jumps: no energy is made of them, in any reader."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fastgreen.recordings.conversion import result_of
from fastgreen.recordings.readers import read, read_aipowermeter, read_nvidia_smi, read_omegawatt
from fastgreen.recordings.readers.timestamps import ABSENT_NS, to_utc_ns
from fastgreen.recordings.recording import RecordingBuilder
from tests.oracles.places import CASES, ROOT

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def smi(path, points):
    moments = ((NOON + timedelta(seconds=t)).strftime("%Y/%m/%d %H:%M:%S.%f") for t, _ in points)
    path.write_text(
        "timestamp, index, power.draw [W]\n" + "".join(f"{m}, 0, {w} W\n" for m, (_, w) in _with(moments, points))
    )


def omegawatt(path, points):
    start = NOON.timestamp()
    path.write_text("#timestamp,#frame_is_ok,#activepow1\n" + "".join(f"{start + t:.3f},True,{w}\n" for t, w in points))


def aipowermeter(path, points):
    moments = ((NOON + timedelta(seconds=t)).strftime("%Y-%m-%d %H:%M:%S.%f") for t, _ in points)
    path.write_text(
        "".join(
            json.dumps({"date": m, "metrics": {"cpu": {"intel_power": w}}}) + "\n"
            for m, (_, w) in _with(moments, points)
        )
    )


def _with(moments, points):
    return zip(moments, points, strict=True)


READERS = [(smi, read_nvidia_smi), (omegawatt, read_omegawatt), (aipowermeter, read_aipowermeter)]
HOLES = [
    ([0, 1, 28801, 28802], 200.0, 28800.0),
    ([0, 2, 4, 6, 60, 62, 64, 1000, 1002], 1200.0, 54.0 + 936.0),
    ([0, 1, 2, 3, 4, 15, 16], 500.0, 11.0),
    ([0, 0.1, 0.2, 0.3, 5.3, 5.4], 40.0, 5.0),
    ([0, 60, 120, 180, 86580, 86640], 24000.0, 86400.0),
]


@pytest.mark.parametrize(("write", "reader"), READERS)
@pytest.mark.parametrize(("moments", "joules", "missing_s"), HOLES)
def test_no_line_is_drawn_over_a_hole(tmp_path, write, reader, moments, joules, missing_s):
    file = tmp_path / "log"
    write(file, [(t, 100.0) for t in moments])
    recording = reader(file)
    assert recording.total_j == pytest.approx(joules)
    row = next(row for row in recording.channels.to_pylist() if row["root"])
    assert row["missing_s"] == pytest.approx(missing_s)
    assert any("longer than" in note and "not integrated" in note for note in recording.notes)
    assert result_of(recording).energy_j == pytest.approx(joules)
    whole = reader(file, max_gap_s=math.inf)
    assert whole.total_j == pytest.approx(100.0 * (moments[-1] - moments[0]))
    assert not any("hole" in note for note in whole.notes)
    with pytest.raises(ValueError, match="max_gap_s must be above 0, not 0"):
        reader(file, max_gap_s=0)


@pytest.mark.parametrize("moments", [[0, 10], [0, 1, 2, 11, 12], [0, 10, 20, 95, 105], [0, 0.01, 0.02, 0.9, 0.91]])
def test_a_late_sample_is_no_hole(tmp_path, moments):
    smi(tmp_path / "log", [(t, 100.0) for t in moments])
    recording = read_nvidia_smi(tmp_path / "log")
    assert recording.total_j == pytest.approx(100.0 * moments[-1])
    assert recording.notes == []


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_holes_are_the_same_in_pieces_of_any_size_and_in_a_file(size):
    rng = np.random.default_rng(size)
    steps = rng.choice([1, 1, 1, 1, 40], 100)
    stamps, watts = np.cumsum(steps) * 10**9, rng.uniform(0, 100, 100)
    twin = sum(0.5 * (watts[i - 1] + watts[i]) for i in range(1, 100) if steps[i] == 1)
    for limit in (1 << 22, 10):
        builder = RecordingBuilder("test", "test", limit_points=limit)
        for name in ("a", "b"):
            builder.channel(name, root=True)
        for i in range(0, 100, size):
            for name in ("a", "b"):
                part = slice(i, i + size)
                builder.add(name, stamps[part], np.zeros(stamps[part].size), watts[part])
        recording = builder.finish()
        assert recording.energy_j() == {"a": pytest.approx(twin), "b": pytest.approx(twin)}
        assert recording.notes == [f"{int((steps[1:] == 40).sum())} holes longer than 10 s: not integrated"]
        segment = recording.points("b")[1]
        assert np.array_equal(np.diff(segment), steps[1:] == 40)


def test_time_that_goes_back_inside_a_segment_makes_no_negative_energy():
    builder = RecordingBuilder("test", "test")
    builder.channel("a", root=True)
    builder.add("a", np.array([0, 1, 2, 1, 2, 3]) * 10**9, np.zeros(6), np.full(6, 10.0))
    recording = builder.finish()
    assert recording.total_j == pytest.approx(40.0)
    assert recording.notes == ["time goes back 1 time; a new segment begins at each"]


@pytest.mark.parametrize(
    ("points", "mean"),
    [
        ([(0, 100), (9, 100), (10, 0)], 95.0),
        ([(0, 0), (1, 100), (2, 100), (10, 100)], 95.0),
        ([(0, 10), (0.5, 10), (1, 30), (5, 30)], 27.0),
    ],
)
def test_a_mean_is_over_time_and_not_over_samples(tmp_path, points, mean):
    smi(tmp_path / "log", points)
    row = read_nvidia_smi(tmp_path / "log", max_gap_s=1000).channels.to_pylist()[0]
    assert row["mean"] == pytest.approx(mean)
    assert row["mean_power_w"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("zone", "before", "inside", "after"),
    [
        ("Europe/Paris", "2026-03-29 01:59:59", "2026-03-29 02:30:00", "2026-03-29 03:00:00"),
        ("America/New_York", "2026-03-08 01:59:59", "2026-03-08 02:00:00", "2026-03-08 03:00:00"),
        ("Australia/Lord_Howe", "2026-10-04 01:59:59", "2026-10-04 02:29:59", "2026-10-04 02:30:00"),
    ],
)
def test_the_hour_that_spring_leaves_out_makes_no_energy(tmp_path, zone, before, inside, after):
    for texts in ([before, inside, after], [before, inside, after, "no time"]):
        moments = to_utc_ns(texts, zone)
        assert moments[1] == ABSENT_NS
        assert moments[2] - moments[0] == 10**9
    text = "timestamp, power.draw [W]\n" + "".join(f"{moment}, 100 W\n" for moment in (before, inside, after))
    (tmp_path / "log.csv").write_text(text)
    recording = read(tmp_path / "log.csv", timezone=zone)
    assert recording.total_j == pytest.approx(100.0)
    assert recording.notes == ["1 of 3 rows could not be used"]


def test_utc_needs_no_database_of_zones():
    code = (
        "import sys; sys.modules['tzdata'] = None\n"
        "from fastgreen.recordings.readers.timestamps import check_zone, to_utc_ns\n"
        "check_zone('UTC')\n"
        "print(*to_utc_ns(['1970-01-01 00:00:01', 'no time']))"
    )
    environment = os.environ | {"PYTHONTZPATH": "/nowhere", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(10**9), str(ABSENT_NS)], done.stderr


@pytest.mark.skipif(not CASES.exists(), reason=f"the cases are not at {CASES}")
def test_the_hole_of_eight_hours():
    recording = read(CASES / "smi-hole.csv")
    assert (recording.total_j, recording.duration_s) == pytest.approx((200.0, 2.0))
    assert recording.notes == ["1 hole longer than 10 s: not integrated"]
