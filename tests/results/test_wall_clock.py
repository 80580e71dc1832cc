# SPDX-License-Identifier: Apache-2.0
"""Instants since 1970: the pairs of both clocks convert them, and what the pairs disagree by widens the bounds."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.errors import TraceError
from fastgreen.measuring.clock_pairs import ClockPairs
from fastgreen.results.wall_clock import WallClock, checked_pairs, shifted_clock
from tests.fakes.powercap import Zone

S = 10**9
ABOUT = {"realtime_ns": 1000 * S, "monotonic_ns": 10 * S}


def test_one_pair_is_a_constant_difference():
    found, unsure = WallClock(ABOUT).monotonic(np.array([1000 * S, 1007 * S]))
    assert found.tolist() == [10 * S, 17 * S]
    assert unsure.tolist() == [0, 0]


def test_between_two_pairs_the_drift_is_interpolated():
    pairs = [[1000 * S, 10 * S], [1060 * S + 6_000_000, 70 * S]]
    clock = WallClock({**ABOUT, "clock": pairs})
    found, unsure = clock.monotonic(np.array([990 * S, 1030 * S + 3_000_000, 1060 * S + 6_000_000, 2000 * S]))
    assert found.tolist() == [0, 40 * S, 70 * S, 1010 * S - 6_000_000]
    assert np.all(np.abs(unsure - 6_000_000) <= 1000)
    assert clock.apart_s == pytest.approx(0.006)


def test_a_clock_that_was_set_back_and_a_machine_that_slept_stay_within_what_is_said():
    rng = np.random.default_rng(0)
    monotonic = 10 * S + 60 * S * np.arange(20)
    offset = 990 * S + np.cumsum(rng.normal(0, 1e6, 20)).astype(np.int64)
    offset[7:] -= 5 * S  # set back
    offset[13:] += 3600 * S  # slept
    pairs = np.stack([monotonic + offset, monotonic], 1).tolist()
    clock = WallClock({"realtime_ns": pairs[0][0], "monotonic_ns": pairs[0][1], "clock": pairs[1:]})
    at = rng.integers(monotonic[0], monotonic[-1], 500)
    # Where each step happened within its minute is not known: one possible truth.
    when = np.searchsorted(monotonic, at, side="right") - 1
    found, unsure = clock.monotonic(at + offset[when])
    assert np.all(np.abs(found - at) <= unsure + 5 * S * (np.abs(when - 6) <= 1))


def test_pairs_thin_out_and_a_jump_is_noted(monkeypatch):
    import fastgreen.measuring.clock_pairs as module

    now = {"monotonic": 0, "realtime": 10**18}
    fake = type("time", (), {"monotonic_ns": lambda: now["monotonic"], "time_ns": lambda: now["realtime"]})
    monkeypatch.setattr(module, "time", fake)
    pairs = ClockPairs()
    for _ in range(5000):
        pairs.look()
        now["monotonic"] += 61 * S
        now["realtime"] += 61 * S + 1000
    assert len(pairs.pairs) <= 2001
    assert pairs.note is None
    now["realtime"] += 3 * S
    pairs.look(last=True)
    assert "moved apart by 3 s" in pairs.note


@pytest.mark.parametrize("wrong", [1, [1], [[1, 2, 3]], [["a", 1]], [[1, 2**63]], [[5, 5], [4, 4]], [[1, 1]] * 5000])
def test_damaged_pairs_are_refused(wrong):
    with pytest.raises(ValueError, match=r"pair|is "):
        checked_pairs(wrong)


def test_a_run_keeps_its_pairs_and_shares_by_them(powercap, tmp_path):
    powercap(Zone("package-0", 80.0), move=True)
    import time

    with fg.Monitor("rapl:*", hz=200, record=tmp_path / "run") as monitor:
        begin = time.time_ns()
        time.sleep(0.2)
        end = time.time_ns()
    loaded = fg.load(tmp_path / "run")
    assert loaded.metadata["clock"] == monitor.result.metadata["clock"]
    assert len(loaded.metadata["clock"]) == 2
    table = {"begin_ns": [begin], "end_ns": [end]}
    share = loaded.share(table, clock="realtime")
    assert share["energy_j"][0].as_py() == pytest.approx(16, rel=0.4)
    assert any("each edge is known to" in note for note in json.loads(share.schema.metadata[b"notes"]))
    # A minute's drift of 10 ms widens by 2 edges of 20 ms at most, at the ceiling.
    first = loaded.metadata["clock"][0]
    loaded.metadata["clock"] = [[first[0] + 60 * S + 10_000_000, first[1] + 60 * S]]
    wide = loaded.share(table, clock="realtime")
    more_j = loaded.traces[0].ceiling_w * 0.02
    assert wide["energy_high_j"][0].as_py() - share["energy_high_j"][0].as_py() == pytest.approx(more_j, rel=0.2)
    assert wide["energy_low_j"][0].as_py() < share["energy_low_j"][0].as_py()
    loaded.save(tmp_path / "again")
    assert fg.load(tmp_path / "again").metadata["clock"] == loaded.metadata["clock"]
    moved = shifted_clock(loaded.metadata, 5)
    assert moved["clock"][0][1] == loaded.metadata["clock"][0][1] + 5


def test_a_file_with_damaged_pairs_is_one_sentence(powercap, tmp_path):
    powercap(Zone("package-0", 80.0))
    with fg.Monitor("rapl:*", record=tmp_path / "run"):
        pass
    path = tmp_path / "run" / "channels.arrow"
    path.write_bytes(path.read_bytes().replace(b'"clock": [[', b'"clock": [{', 1))
    with pytest.raises(TraceError):
        fg.load(tmp_path / "run")
