# SPDX-License-Identifier: Apache-2.0
"""Reports of recordings in one pass, compared with a twin that reads the whole file for every question."""

from __future__ import annotations

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.results import following, questions, result_tables, run_folder
from fastgreen.results.durations import Durations
from fastgreen.results.run_reader import channel_table
from fastgreen.results.sample_file import SampleFile
from fastgreen.results.together import TogetherQuestion
from fastgreen.results.trace import Trace, Windows, learn
from fastgreen.sensors.channel import Channel, traits
from tests.oracles.slow_report import SlowTrace, checked, slow_chunks

MS, SECOND = 1_000_000, 1_000_000_000
START_NS = 6 * SECOND
METADATA = {"format": 1, "version": "0", "host": "h", "realtime_ns": 10**18, "monotonic_ns": 5 * SECOND}
COUNT = 3000
WRAP_UJ = 20_000_000


def channels(rng):
    plain = traits("energy", "uJ", period_ns=MS)
    doubtful = {**plain, "plausible_per_s": 400_000_000}
    known = {"ceiling_w": 125.0, "floor_w": 1.0}
    found = [
        Channel("rapl:package-0", "rapl", "energy", "package-0", "uJ", **known, traits={**plain, "modulus": WRAP_UJ}),
        Channel("rapl:dräm", "rapl", "energy", "dram", "uJ", traits={**plain, "modulus": WRAP_UJ}),
        Channel("rapl:lies", "rapl", "energy", "lies", "uJ", ceiling_w=300.0, traits=doubtful),
        Channel("rapl:still", "rapl", "energy", "still", "uJ", ceiling_w=300.0, traits=doubtful),
        Channel("procstat:cpu", "procstat", "energy", "cpu", "uJ", estimated=True, **known, traits=plain),
        Channel("hwmon:x", "hwmon", "power", "x", "uW", delay_s=0.01, traits=traits("power", "uW", period_ns=50 * MS)),
        Channel("nvml:0", "nvml", "energy", "board", "mJ", traits=traits("energy", "mJ", period_ns=20 * MS)),
    ]
    return [found[i] for i in sorted(rng.choice(len(found), int(rng.integers(1, len(found) + 1)), replace=False))]


def samples_of(channel, rng):
    out = np.zeros(COUNT, _resolver.SAMPLE)
    steps = rng.integers(MS // 2, 2 * MS, COUNT) + (rng.random(COUNT) < 0.002) * rng.integers(0, SECOND, COUNT)
    out["at_ns"], out["half_ns"] = START_NS + np.cumsum(steps), rng.integers(100, 40_000, COUNT)
    out["flags"] = (rng.random(COUNT) < 0.005) * _resolver.GAP
    if channel.kind == "power":
        out["raw"] = rng.integers(5_000_000, 90_000_000, COUNT)
        return out
    scale = 1 if channel.unit == "uJ" else 1000
    counts = np.cumsum(steps // 1000 * rng.integers(1, 100, COUNT) * (rng.random(COUNT) < 0.5)) // scale
    if channel.traits["modulus"]:
        counts %= channel.traits["modulus"]
    if channel.name in ("lies", "still"):
        for begin in rng.integers(50, COUNT - 60, 4).tolist():
            counts[begin : begin + int(rng.integers(1, 50))] += int(rng.integers(500_000_000, 10**10))
    if channel.unit == "mJ":
        counts[COUNT // 2 :] -= counts[COUNT // 2]  # it restarts
    out["raw"] = counts
    return out


def record(folder, rng, closed):
    """A recording as a monitor writes it, its batches of any size and in any order of channels."""
    found = channels(rng)
    columns = [samples_of(channel, rng) for channel in found]
    file = run_folder.RunFolder(folder, METADATA, channel_table([Trace(c, True, {}, list) for c in found], []))
    traces, places = [], [0] * len(found)
    for channel, samples in zip(found, columns, strict=True):
        account = _resolver.Account(channel.traits)
        account.feed(samples)
        tally = account.tally()
        if channel.name == "still":
            at_ns = samples["at_ns"]
            tally["still_ns"] = [[int(at_ns[i]), int(at_ns[i + 40]) + 1] for i in range(100, COUNT - 100, 700)]
        ends = {"end_at_ns": tally["last_at_ns"], "end_total": tally["total"], "why_ended": None, "last_error": None}
        faults = {"missed": 0, "lost": 0, "read_errors": 0}
        traces.append(Trace(channel, True, {**tally, **ends, **faults}, list))
    while any(place < COUNT for place in places):
        i = int(rng.integers(len(found)))
        count = int(rng.choice([1, 3, 40, 700]))
        if places[i] < COUNT:
            file.add_samples(found[i].id, columns[i][places[i] : places[i] + count])
            places[i] += count
    for handle in range(3):
        w = windows(rng, 200)
        file.add_windows("ab"[handle % 2], handle, w.begin_ns, w.end_ns)
    file.close()
    if closed:
        file.write_channels(channel_table(traces, [], (START_NS, int(columns[0]["at_ns"][-1]))))
    file.leave()


def windows(rng, count):
    edges = np.sort(rng.integers(START_NS - 100 * MS, START_NS + 7 * SECOND, 2 * count))
    return Windows("w", 0, edges[::2].copy(), edges[1::2].copy())


def twin(trace, samples_file):
    """The same trace, whose every question reads the file again; its samples are looked at by the first reader."""
    return SlowTrace(trace.channel, trace.counted, trace.tally, lambda: slow_chunks(samples_file, trace.channel.id))


def bits(bounded):
    return [np.asarray(column).tobytes() for column in (bounded.energy_j, bounded.low_j, bounded.high_j)]


SEEDS = [0, 1, *(pytest.param(n, marks=pytest.mark.statistical) for n in range(2, 12))]


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_report_in_one_pass_has_the_bits_of_the_slow_one(tmp_path, seed, closed):
    rng = np.random.default_rng(seed)
    record(tmp_path / "run", rng, closed)
    path = tmp_path / "run" / "samples.arrow"
    loaded, again = fg.load(tmp_path / "run"), fg.load(tmp_path / "run")
    slow = [twin(t, path) for t in again.traces]
    if not closed:
        for trace, found in zip(slow, loaded.traces, strict=True):
            account = _resolver.Account(trace.channel.traits)
            for chunk in checked(path, trace.channel, None):
                account.feed(chunk)
            assert account.tally().items() <= found.tally.items()
    wanted = [t.total() for t in slow]
    assert list(map(bits, loaded.totals.values())) == list(map(bits, wanted))
    handles = loaded._windows
    for trace, other in zip(loaded.traces, slow, strict=True):
        assert trace.pauses == other.pauses
        assert trace.learnt == other.learnt
        for w in (*handles, windows(rng, 1), windows(rng, 500)):
            assert bits(trace.windows(w.begin_ns, w.end_ns)) == bits(other.windows(w.begin_ns, w.end_ns))
    rows = {row["name"]: row for row in loaded.summary().to_pylist()}
    for name in "ab":
        parts = [t.together(w) for t in slow for w in handles if w.name == name]
        low_j, high_j = (sum(getattr(p, column) for p in parts) for column in ("low_j", "high_j"))
        assert rows[name]["energy_low_j"] == pytest.approx(low_j, rel=1e-12)
        assert rows[name]["energy_high_j"] == pytest.approx(high_j, rel=1e-12)
        assert low_j <= rows[name]["energy_j"] <= high_j  # it follows the load


@pytest.mark.parametrize("seed", SEEDS)
def test_windows_taken_together_in_blocks_are_those_taken_together_at_once(tmp_path, seed):
    rng = np.random.default_rng(100 + seed)
    record(tmp_path / "run", rng, True)
    loaded = fg.load(tmp_path / "run")
    slow = [twin(t, tmp_path / "run" / "samples.arrow") for t in loaded.traces]
    learn(loaded.traces)
    for trace, other in zip(loaded.traces, slow, strict=True):
        for count in (1, 2, 7, 64, 400):
            w = windows(rng, count)
            wanted = other.together(w)
            exact = not trace.learnt["resets"] > 0  # else an edge in a restart rounds in another order
            asked = [TogetherQuestion(trace, w), *(TogetherQuestion(trace, w, block) for block in (1, 3, 50))]
            questions.ask(asked)
            for n, question in enumerate(asked):
                found = question.answer()
                if n == 0 and exact:
                    assert bits(found) == bits(wanted)
                for column in ("energy_j", "low_j", "high_j"):
                    assert getattr(found, column) == pytest.approx(getattr(wanted, column), rel=1e-11, abs=1e-9)


def parts_of(file, names):
    """The samples by channel, and the error that ended them."""
    out, error = {name: [] for name in names}, None
    try:
        for i, samples in file.parts(names):
            out[names[i]].append(samples.copy())
    except TraceError as found:
        error = found
    return {name: np.concatenate(v) if v else np.empty(0, _resolver.SAMPLE) for name, v in out.items()}, error


class SlowFile(SampleFile):
    def _scan(self, data, names):
        return None


@pytest.mark.parametrize("seed", range(40))
def test_damaged_and_cut_files_are_read_as_far_as_by_a_general_reader(tmp_path, seed):
    rng = np.random.default_rng(seed)
    record(tmp_path / "run", rng, bool(seed % 2))
    path = tmp_path / "run" / "samples.arrow"
    names = [t.channel.id for t in fg.load(tmp_path / "run").traces]
    whole = path.read_bytes()
    for _ in range(12):
        data = bytearray(whole)
        if rng.random() < 0.6:
            at = int(rng.integers(len(data)))
            data[at : at + int(rng.choice([1, 8, 100]))] = rng.bytes(1) * int(rng.choice([1, 8, 100]))
        if rng.random() < 0.5:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
        found, error = parts_of(SampleFile(path), names)
        wanted, slow_error = parts_of(SlowFile(path), names)
        assert (error is None) == (slow_error is None)
        for name in names:
            assert found[name].tobytes() == wanted[name].tobytes()


def test_a_recording_is_read_by_the_fast_reader(tmp_path):
    record(tmp_path / "run", np.random.default_rng(0), True)
    file = SampleFile(tmp_path / "run" / "samples.arrow")
    with file._mapped() as data:
        assert file._scan(data, ["rapl:package-0"]) is not None


def test_durations_of_many_windows_have_the_percentiles_of_numpy():
    rng = np.random.default_rng(0)
    for spread in (1, 1000, 10**12):
        begin = np.arange(700_000, dtype=np.int64) * 10**12
        lengths = rng.integers(0, spread, len(begin)) + (rng.random(len(begin)) < 0.01) * 10**11
        parts = [slice(0, 300_000), slice(300_000, 700_000)]
        durations = Durations([Windows("w", i, begin[p], begin[p] + lengths[p]) for i, p in enumerate(parts)])
        percents = [0, 1, 50, 95, 99, 99.99, 100]
        assert durations.percentiles_s(percents) == np.percentile(lengths / SECOND, percents).tolist()
        assert durations.total_s() == pytest.approx(float(np.sum(lengths / SECOND)), rel=1e-12)


def test_channels_in_groups_have_the_energies_of_channels_at_once(tmp_path):
    record(tmp_path / "run", np.random.default_rng(5), True)
    loaded = fg.load(tmp_path / "run")
    sizes = [len(g) for g in result_tables._groups(loaded.traces, 1 << 21)]
    assert sizes == [1] * len(loaded.traces)


class CountedFile(SampleFile):
    reads = 0

    def parts(self, names):
        self.reads += 1
        return super().parts(names)


@pytest.mark.parametrize("count", [1, 9])
def test_a_summary_reads_the_file_as_often_for_nine_channels_as_for_one(tmp_path, count):
    board = traits("energy", "mJ", period_ns=20 * MS)
    boards = [Channel(f"nvml:{i}", "nvml", "energy", "board", "mJ", traits=board) for i in range(count)]
    accounts = [_resolver.Account(c.traits) for c in boards]
    file = run_folder.RunFolder(
        tmp_path / "run", METADATA, channel_table([Trace(c, True, {}, list) for c in boards], [])
    )
    samples = np.zeros(COUNT, _resolver.SAMPLE)
    begin = START_NS + np.arange(COUNT // 37) * 37 * MS
    samples["at_ns"] = START_NS + np.arange(COUNT) * MS
    updated_ns = samples["at_ns"] // (20 * MS) * (20 * MS)
    inside_ns = np.clip(updated_ns[:, None] - begin, 0, 10 * MS).sum(axis=1)
    samples["raw"] = (10 * (updated_ns - START_NS) + 290 * inside_ns) // 1_000_000  # 10 W, and 300 W inside
    for channel, account in zip(boards, accounts, strict=True):
        own = samples.copy()
        account.feed(own)
        file.add_samples(channel.id, own)
    file.add_windows("infer", 0, begin, begin + 10 * MS)
    file.samples.file.close()
    file.windows.file.close()
    result = fg.load(tmp_path / "run")
    counted = CountedFile(result.traces[0].source.file.path)
    for trace in result.traces:
        trace.source.file = counted
    (row,) = result.summary().to_pylist()
    assert row["method"] == "followed"
    assert counted.reads == 2  # how the growth follows the load; the windows


def test_too_many_updates_or_windows_are_not_followed(tmp_path):
    board = Channel("nvml:0", "nvml", "energy", "board", "mJ", traits=traits("energy", "mJ", period_ns=MS))
    samples = np.zeros(following.MOST_UPDATES + 10, _resolver.SAMPLE)
    samples["at_ns"], samples["raw"] = START_NS + np.arange(len(samples)) * MS, np.arange(len(samples)) * 10
    account = _resolver.Account(board.traits)
    account.feed(samples)
    trace = Trace(board, True, {**account.tally(), "end_at_ns": int(samples["at_ns"][-1])}, lambda: iter([samples]))
    begin = START_NS + np.arange(following.MOST_WINDOWS + 1) * 100
    few, many = Windows("few", 0, begin[:100], begin[:100] + 50), Windows("many", 0, begin, begin + 50)
    assert "updated more than 1,048,576 times" in following.Following([trace], [few]).reasons["nvml:0"]
    assert "more than 2,097,152 windows" in following.Following([trace], [many]).reasons["nvml:0"]
