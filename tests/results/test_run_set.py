# SPDX-License-Identifier: Apache-2.0
"""Runs of several ranks and hosts as one: each counter once, windows and spans of all, whatever is missing."""

from __future__ import annotations

import shutil

import numpy as np
import polars
import pytest

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.results.result import Result
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel, traits

MS, SECOND = 1_000_000, 1_000_000_000
WRAP = 40_000_000


def counter(at_ns):
    """A counter of 50 W in uJ at these instants, which wraps."""
    return at_ns // 20 % WRAP


def trace(begin_s, end_s, identity="rapl:package-0", device="", factor=1.0, counted=True):
    samples = np.zeros(round((end_s - begin_s) * 1000) + 1, _resolver.SAMPLE)
    samples["at_ns"] = round(begin_s * SECOND) + np.arange(len(samples)) * MS
    samples["raw"] = counter((samples["at_ns"] * factor).astype(np.int64))
    channel = Channel(
        identity, identity.split(":")[0], "energy", "package-0", "uJ", device=device, ceiling_w=200.0,
        traits={**traits("energy", "uJ", period_ns=MS), "modulus": WRAP},
    )  # fmt: skip
    account = _resolver.Account(channel.traits)
    account.feed(samples)
    ends = {"missed": 0, "lost": 0, "read_errors": 0, "why_ended": None, "last_error": None}
    tally = account.tally()
    tally = {**tally, **ends, "end_at_ns": tally["last_at_ns"], "end_total": tally["total"]}
    return Trace(channel, counted, tally, lambda: iter([samples]))


def run(begin_s, end_s, rank=0, size=2, host="a", boot="boot-a", offset_s=1000.0, job="7", traces=None, error_s=0.01):
    """A run of a rank with one window and one span over its second second; the wall clock is `offset_s` ahead."""
    launcher = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(size), "SLURM_JOB_ID": job}
    at = round((begin_s + 1) * SECOND)
    metadata = {
        "format": 1, "version": "0", "host": host, "monotonic_ns": round(begin_s * SECOND), "boot": boot,
        "realtime_ns": round((begin_s + offset_s) * SECOND) + 10**18, "launcher": launcher, "clock_error_s": error_s,
    }  # fmt: skip
    windows = [Windows("step", 0, np.array([at]), np.array([at + SECOND]))]
    return Result(
        [trace(begin_s, end_s)] if traces is None else traces,
        windows,
        metadata,
        round(begin_s * SECOND),
        round(end_s * SECOND),
    )


def saved(folder, *runs):
    for i, one in enumerate(runs):
        one.save(folder / f"{one.metadata['host']}-{one.metadata['launcher']['RANK']}-{i}")
    return folder


def joules(begin_s, end_s):
    return 50.0 * (end_s - begin_s)


def test_two_ranks_of_a_host_read_a_counter_that_counts_once(tmp_path):
    both = fg.load(saved(tmp_path, run(10, 16, 0), run(12, 20, 1)))
    assert both.energy_j == pytest.approx(joules(10, 20), rel=1e-3)
    assert both.energy_low_j <= joules(10, 20) <= both.energy_high_j
    assert both.duration_s == pytest.approx(10)
    rows = both.windows().to_pylist()
    assert [(row["host"], row["rank"], row["name"]) for row in rows] == [("a", "0", "step"), ("a", "1", "step")]
    assert all(row["energy_low_j"] <= 50 <= row["energy_high_j"] for row in rows)
    assert not [note for note in both.notes if "left no run" in note or "read" in note]


def test_a_hole_between_two_runs_is_not_counted(tmp_path):
    restarted = fg.load(saved(tmp_path, run(10, 14, 0, 1), run(18, 20, 0, 1)))
    assert restarted.energy_j == pytest.approx(joules(10, 14) + joules(18, 20), rel=1e-3)
    assert [row["id"] for row in restarted.channels.to_pylist()] == ["rapl:package-0", "rapl:package-0#2"]
    assert [row["energy_j"] for row in restarted.windows().to_pylist()] == pytest.approx([50, 50], rel=0.01)


def test_wraps_at_the_joint_are_counted_once(tmp_path):
    starts = np.random.default_rng(0).uniform(10.0, 15.9, 6)
    runs = [run(float(start), float(start) + 6, rank, 6) for rank, start in enumerate(starts)]
    total = fg.load(saved(tmp_path, *runs))
    true = joules(starts.min(), starts.max() + 6)
    assert total.energy_low_j <= true <= total.energy_high_j
    assert total.energy_j == pytest.approx(true, rel=1e-3)


def test_boards_are_known_by_their_uuid_and_not_by_their_number(tmp_path):
    first = [trace(10, 20, "nvml:0", "GPU-1"), trace(10, 20, "nvml:1", "GPU-2")]
    second = [trace(10, 20, "nvml:0", "GPU-2")]
    merged = fg.load(saved(tmp_path, run(10, 20, 0, traces=first), run(10, 20, 1, traces=second)))
    assert merged.energy_j == pytest.approx(2 * joules(10, 20), rel=1e-3)
    other = fg.load(saved(tmp_path / "two", run(10, 20, 0, traces=first[:1]), run(10, 20, 1, traces=second)))
    assert other.energy_j == pytest.approx(2 * joules(10, 20), rel=1e-3)
    assert sorted(other.channels.column("id").to_pylist()) == ["nvml:0", "nvml:0#2"]


def test_containers_of_one_host_share_its_counters_though_they_have_other_names(tmp_path):
    merged = fg.load(saved(tmp_path, run(10, 20, 0, host="pod-a"), run(10, 20, 1, host="pod-b")))
    assert merged.energy_j == pytest.approx(joules(10, 20), rel=1e-3)
    assert len(merged.hosts) == 1


def test_without_a_boot_id_the_name_of_the_host_stands_for_it(tmp_path):
    runs = [run(10, 20, 0), run(10, 20, 1)]
    for one in runs:
        one.metadata["boot"] = ""
    assert fg.load(saved(tmp_path, *runs)).energy_j == pytest.approx(joules(10, 20), rel=1e-3)


def test_two_hosts_add_up_and_keep_their_order_within_the_uncertainty(tmp_path):
    # b booted 500 s later: its monotonic clock is behind; its wall clock is 3 s ahead of the truth.
    runs = [run(510, 520, 0, host="a", boot="a"), run(10, 20, 1, host="b", boot="b", offset_s=1503.0)]
    both = fg.load(saved(tmp_path, *runs))
    assert both.energy_j == pytest.approx(2 * joules(10, 20), rel=1e-3)
    assert [row["id"] for row in both.channels.to_pylist()] == ["a/rapl:package-0", "b/rapl:package-0"]
    begins = {row["host"]: row["start_ns"] / SECOND for row in both.windows().to_pylist()}
    assert both.clock_uncertainty_s == pytest.approx(3.02, abs=1e-6)
    assert abs(begins["b"] - begins["a"]) <= both.clock_uncertainty_s
    assert all(row["energy_j"] == pytest.approx(50, rel=0.01) for row in both.windows().to_pylist())
    assert any("can be apart by 3.02 s" in note for note in both.notes)
    assert {(row["host"], row["count"]) for row in both.summary().to_pylist()} == {("a", 1), ("b", 1)}


def test_a_clock_that_reports_no_error_is_said(tmp_path):
    runs = [run(10, 20, 0, host="a", boot="a"), run(10, 20, 1, host="b", boot="b", error_s=None)]
    both = fg.load(saved(tmp_path, *runs))
    assert both.clock_uncertainty_s is None
    assert any("unknown time" in note for note in both.notes)


def test_copies_that_disagree_are_noted_with_both_figures(tmp_path):
    merged = fg.load(saved(tmp_path, run(10, 20, 0), run(10, 20, 1, traces=[trace(10, 20, factor=1.1)])))
    (note,) = [note for note in merged.notes if "the first counts" in note]
    assert "rank 0 read 500" in note
    assert "rank 1 550" in note


def test_counters_that_begin_with_each_process_go_on_at_the_joint(tmp_path):
    def own(begin_s, end_s):
        found = trace(begin_s, end_s, "perf:package-0")
        (samples,) = found.chunks()
        samples = samples.copy()
        samples["raw"] = (samples["at_ns"] - samples["at_ns"][0]) // 20
        samples["wraps"] = 0
        found.channel = Channel(
            "perf:package-0", "perf", "energy", "package-0", "uJ", ceiling_w=200.0,
            traits=traits("energy", "uJ", period_ns=MS),
        )  # fmt: skip
        found.source = lambda: iter([samples])
        found.tally = {**found.tally, "wraps": 0}
        return found

    merged = fg.load(
        saved(tmp_path, run(10, 16, 0, traces=[own(10, 16)]), run(12.0003, 20, 1, traces=[own(12.0003, 20)]))
    )
    assert merged.energy_j == pytest.approx(joules(10, 20), rel=1e-3)
    assert merged.energy_low_j <= joules(10, 20) <= merged.energy_high_j


def test_a_model_is_not_added_to_counters_that_another_rank_could_read(tmp_path):
    model = trace(10, 20, "procstat:cpu")
    model.channel = Channel(
        "procstat:cpu", "procstat", "energy", "cpu", "uJ", estimated=True, ceiling_w=100.0, floor_w=10.0,
        traits=model.channel.traits,
    )  # fmt: skip
    merged = fg.load(saved(tmp_path, run(10, 20, 0), run(10, 20, 1, traces=[model])))
    assert merged.energy_j == pytest.approx(joules(10, 20), rel=1e-3)
    assert not merged.estimated


def test_missing_damaged_repeated_and_foreign_runs_are_said(tmp_path):
    saved(tmp_path, run(10, 20, 0, size=4), run(10, 20, 3, size=4, job="8"))
    shutil.copytree(tmp_path / "a-0-0", tmp_path / "copy")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "channels.arrow").write_bytes(b"ARROW1 of another kind")
    merged = fg.merge([tmp_path, tmp_path / "a-0-0", tmp_path / "absent"])
    assert merged.energy_j == pytest.approx(joules(10, 20), rel=1e-3)
    said = "\n".join(merged.notes)
    for part in ("given twice", "is a copy of another run", "broken is left out", "absent is left out",
                 "ranks 1, 2 of 4", "2 jobs: Slurm job 7, Slurm job 8"):  # fmt: skip
        assert part in said
    with pytest.raises(TraceError, match="no run can be read"):
        fg.load([tmp_path / "broken"])
    with pytest.raises(ValueError, match="at least one folder"):
        fg.load([])


def test_a_saved_set_and_its_dataset_hold_the_same(tmp_path):
    runs = [
        run(510, 520, 0, 3, host="a", boot="a"),
        run(10, 18, 1, 3, host="b", boot="b", offset_s=1500.0),
        run(510, 525, 2, 3, host="a", boot="a"),
    ]
    both = fg.load(saved(tmp_path / "in", *runs))
    both.save(tmp_path / "out")
    again = fg.load(tmp_path / "out")
    for name in ("energy_j", "energy_low_j", "energy_high_j"):
        assert getattr(again, name) == pytest.approx(getattr(both, name), rel=1e-9)
    assert again.windows().to_pydict() == both.windows().to_pydict()
    both.write_dataset(tmp_path / "data")
    table = polars.read_parquet(tmp_path / "data/windows", hive_partitioning=True)
    assert table["energy_j"].sum() == pytest.approx(150, rel=0.01)
    assert set(map(tuple, table.select("host", "rank").rows())) == {("a", 0), ("b", 1), ("a", 2)}
    with pytest.raises(FileExistsError):
        both.write_dataset(tmp_path / "data")


def test_spans_of_all_ranks_share_the_energy_of_their_host(tmp_path, monkeypatch):
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        with fg.Monitor("procstat:cpu", record=tmp_path / "job") as monitor, monitor.ledger("chat").span("same id"):
            sum(range(2_000_000))
    both = fg.load(tmp_path / "job")
    table = both.spans("chat")
    assert table.column("rank").to_pylist() == ["0", "1"]
    assert table.column("id").to_pylist() == ["same id", "same id"]
    assert both.ledger_names == ["chat"]
    assert "chat" in str(both)
