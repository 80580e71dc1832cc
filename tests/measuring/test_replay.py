"""A recorded run as a source: in real time, faster, as fast as it can; its totals are the original's."""

from __future__ import annotations

import shutil
import threading
import time

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.results.run_metadata import run_metadata
from fastgreen.results.run_reader import save_run
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel, traits
from tests.fakes.hwmon import amdgpu
from tests.fakes.powercap import RANGE_61UJ, PowercapTree, Zone
from tests.fuzz.saved import SECOND, save_a_run
from tests.oracles.honest import Honest


@pytest.fixture
def counters(powercap) -> PowercapTree:
    return powercap(Zone("package-0", 80.0, RANGE_61UJ - 20_000_000, children=(Zone("dram", 5.0),)), move=True)


@pytest.fixture
def original(counters, hwmon, tmp_path):
    """A recorded run of 0.6 s over a wrap, with a power channel beside it, and its result."""
    tree = hwmon(amdgpu(average_uw=20_000_000))
    with fg.Monitor(["rapl:*", "hwmon:*"], hz=200, record=tmp_path / "run") as monitor, monitor.window("then"):
        time.sleep(0.3)
        tree.set(0, "power1_average", 60_000_000)
        time.sleep(0.3)
    return monitor.result, f"replay:{tmp_path / 'run'}"


def totals(result: fg.Result) -> dict[str, float]:
    return {row["id"]: row["energy_j"] for row in result.channels.to_pylist()}


def test_as_fast_as_it_can_totals_and_samples_are_the_originals(original):
    recorded, path = original
    with fg.Monitor(path, speed=0) as monitor:
        pass
    replayed = monitor.result
    assert totals(replayed) == totals(recorded)
    assert replayed.energy_j == recorded.energy_j
    assert replayed.duration_s == pytest.approx(recorded.duration_s, abs=1e-6)
    for identity in totals(recorded):
        ours, theirs = replayed.samples(identity), recorded.samples(identity)
        assert ours["raw"].equals(theirs["raw"])
        steps = np.diff(ours["monotonic_ns"].to_numpy()) - np.diff(theirs["monotonic_ns"].to_numpy())
        assert np.all(steps == 0)
    assert replayed.channels["counted"].equals(recorded.channels["counted"])
    assert replayed.channels["method"].equals(recorded.channels["method"])


@pytest.mark.parametrize("speed", [0, 4])
def test_a_stall_of_the_sampler_is_no_slow_sensor_when_it_is_played_either(tmp_path, speed):
    channel = Channel("rapl:package-0", "rapl", "energy", "p", "uJ", traits=traits("energy", "uJ", period_ns=SECOND))
    samples = np.zeros(200, _resolver.SAMPLE)
    at = np.arange(len(samples))
    samples["at_ns"] = SECOND + at * SECOND // 100 + (at >= 100) * SECOND  # read every 10 ms, but once for 1 s not
    samples["raw"] = (samples["at_ns"] // (SECOND // 20)) * 1000  # updated every 50 ms
    live = _resolver.Account({**channel.traits, "tick_ns": SECOND // 100})
    live.feed(samples)
    tally = live.tally()
    ends = {"end_at_ns": tally["last_at_ns"], "end_total": tally["total"], "why_ended": None, "last_error": None}
    faults = {"missed": 0, "lost": 0, "read_errors": 0}
    trace = Trace(channel, True, {**tally, **ends, **faults}, lambda: [samples])
    save_run(tmp_path / "run", [trace], [], run_metadata(), [], (SECOND, int(samples["at_ns"][-1])))
    with fg.Monitor(f"replay:{tmp_path / 'run'}", speed=speed) as monitor:
        assert monitor.wait(timeout=60)
    replayed_ns = monitor.result.trace("rapl:package-0").tally["period_ns"]
    assert replayed_ns == pytest.approx(tally["period_ns"] / (speed or 1), rel=0.001 if speed else 1e-12)


def test_as_fast_as_it_can_an_hour_is_no_hour(tmp_path):
    save_a_run(tmp_path / "run", step_ns=36 * SECOND)
    begin = time.monotonic()
    with fg.Monitor(f"replay:{tmp_path / 'run'}", speed=0) as monitor:
        pass
    assert monitor.result.duration_s == pytest.approx(3564)
    assert time.monotonic() - begin < 60


def test_in_real_time_it_takes_its_time_and_gives_the_same_totals(original):
    recorded, path = original
    counter = recorded.trace("rapl:package-0")
    begin = time.monotonic_ns()
    with fg.Monitor(path) as monitor:
        monitor.wait(timeout=0.1)
        early_j = monitor.energy_j()["rapl:package-0"]
        passed_ns = time.monotonic_ns() - begin
        assert monitor.wait(timeout=120)
    assert time.monotonic_ns() - begin >= recorded.duration_s * SECOND
    first_ns = counter.tally["first_at_ns"]
    assert early_j <= counter.windows([first_ns], [first_ns + passed_ns]).high_j[0]  # nothing comes before its time
    assert totals(monitor.result) == totals(recorded)


def test_twice_as_fast_takes_half_the_time_and_counters_keep_their_energy(original):
    recorded, path = original
    begin = time.monotonic()
    with fg.Monitor(path, speed=2) as monitor:
        assert monitor.wait(timeout=120)
    took = time.monotonic() - begin
    assert recorded.duration_s / 2 <= took
    replayed = totals(monitor.result)
    for identity, energy_j in totals(recorded).items():
        if identity.startswith("rapl"):
            assert replayed[identity] == energy_j
        assert replayed[identity] == pytest.approx(energy_j, rel=1e-6)
    assert monitor.result.duration_s == pytest.approx(recorded.duration_s / 2, rel=0.01)


def test_windows_of_now_fall_on_the_power_of_then(original, counters):
    recorded, path = original
    shown = recorded.samples("hwmon:amdgpu/PPT").to_pylist()
    risen_ns = next(row["monotonic_ns"] for row in shown if row["raw"] == 60_000_000)
    until_risen_s = (risen_ns - recorded.start_ns) / SECOND
    missed_s: list[float] = []  # by how much the windows fell beside their halves, on a busy machine
    while not missed_s or (missed_s[-1] > 0 and len(missed_s) < 10):
        with fg.Monitor(path) as monitor:
            with monitor.window("first"):
                time.sleep(until_risen_s - 0.05)
            time.sleep(0.1)
            with monitor.window("second"):
                time.sleep(0.2)
            monitor.wait()
        later_ns = monitor.result.start_ns - recorded.start_ns
        rows = {row["name"]: row for row in monitor.result.windows().to_pylist()}
        begin = {name: row["start_ns"] - later_ns for name, row in rows.items()}
        end = {name: begin[name] + round(row["duration_s"] * SECOND) for name, row in rows.items()}
        beside_ns = max(end["first"] - risen_ns, risen_ns - begin["second"], end["second"] - recorded.end_ns)
        missed_s.append(beside_ns / SECOND)
    assert missed_s[-1] <= 0, missed_s
    truth = Honest(monitor.result, counters)
    power = {}
    for row in truth.result.windows(per_channel=True).to_pylist():
        edges = begin[row["name"]], end[row["name"]]
        if row["channel"] == "rapl:package-0":
            assert truth.holds(["package-0"], [edges], row["energy_low_j"], row["energy_high_j"])
    for row in monitor.result.windows(per_channel=True).to_pylist():
        then = recorded.trace(row["channel"]).windows([begin[row["name"]]], [end[row["name"]]])
        assert row["energy_low_j"] == pytest.approx(then.low_j[0], rel=1e-6)
        assert row["energy_high_j"] == pytest.approx(then.high_j[0], rel=1e-6)
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        power[row["channel"], row["name"]] = row["energy_j"] / row["duration_s"]
    assert power["hwmon:amdgpu/PPT", "first"] < power["hwmon:amdgpu/PPT", "second"]


def test_a_run_that_settled_replays_to_its_own_total(nvml, tmp_path):
    nvml()
    with fg.Monitor("nvml:*", settle=True, record=tmp_path / "run") as monitor:
        time.sleep(0.3)
    with fg.Monitor(f"replay:{tmp_path / 'run'}", speed=0) as replayed:
        pass
    assert totals(replayed.result) == totals(monitor.result)


@pytest.mark.parametrize("speed", [0, 1, 4])
def test_an_estimate_stays_an_estimate_and_keeps_its_energy(proc, tmp_path, speed):
    with fg.Monitor(hz=100, record=tmp_path / "run", estimate=(10.0, 50.0)) as monitor:
        for _ in range(10):
            time.sleep(0.03)
            proc.advance(user=0.01, idle=0.02)
    with fg.Monitor(f"replay:{tmp_path / 'run'}", speed=speed) as replayed:
        assert replayed.wait(120)
    assert replayed.result.estimated
    assert replayed.result.energy_j == pytest.approx(monitor.result.energy_j, rel=1e-9)


def test_a_replay_can_be_recorded_and_replayed_again(original, tmp_path):
    recorded, path = original
    for n in range(2):
        with fg.Monitor(path, speed=0, record=tmp_path / f"copy{n}") as monitor:
            pass
        assert totals(monitor.result) == totals(recorded)
        path = f"replay:{tmp_path / f'copy{n}'}"
    assert totals(fg.load(tmp_path / "copy1")) == totals(recorded)


def test_a_long_recording_passes_through_rings_that_are_smaller(powercap, tmp_path, soon):
    powercap(Zone("package-0", 80.0), move=True)
    with fg.Monitor(hz=10_000, record=tmp_path / "run") as monitor:
        soon(lambda: monitor._groups[0].sampler.live(0)["samples"] > 20_000)
    with fg.Monitor(f"replay:{tmp_path / 'run'}", speed=0, hz=100) as replayed:  # rings of 1600 samples
        pass
    row = replayed.result.channels.to_pylist()[0]
    assert row["samples"] == monitor.result.channels["samples"][0].as_py() > 10_000
    assert row["lost"] == 0
    assert replayed.result.energy_j == monitor.result.energy_j


def test_a_replay_of_nothing_or_beside_others_is_refused(original, tmp_path):
    _, path = original
    with pytest.raises(TraceError, match="not a folder"):
        fg.Monitor("replay:/nowhere/at/all")
    with pytest.raises(ValueError, match="alone"):
        fg.Monitor([path, "rapl:*"])
    with fg.Monitor([], record=tmp_path / "empty"):
        pass
    with pytest.raises(TraceError, match="no samples"):
        fg.Monitor(f"replay:{tmp_path / 'empty'}")


def test_a_replay_stopped_early_has_what_was_played(original, soon):
    recorded, path = original
    monitor = fg.Monitor(path, speed=0.02).start()  # half a minute
    soon(lambda: monitor.energy_j()["rapl:package-0"] > 0)
    monitor.stop()
    assert 0 < monitor.result.energy_j < recorded.energy_j * 0.8


def test_the_recording_may_vanish_while_it_is_played(original):
    recorded, path = original
    expected = totals(recorded)
    monitor = fg.Monitor(path, speed=0)
    shutil.rmtree(path.removeprefix("replay:"))
    with monitor:
        pass
    assert totals(monitor.result) == expected


def test_a_replay_judges_standstills_by_what_was_recorded(powercap, proc, tmp_path):
    powercap(Zone("package-0", counter_start_uj=123_456_789))
    done = threading.Event()

    def work():
        while not done.wait(0.05):
            proc.advance(user=0.05)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with fg.Monitor(["rapl:package-0", "procstat:cpu"]) as monitor:
            time.sleep(1.5)
    finally:
        done.set()
        worker.join()
    live = monitor.result
    assert live.channels["standstills"].to_pylist()[0] == 1
    live.save(tmp_path / "run")
    for speed in (0, 2.0):
        with fg.Monitor(f"replay:{tmp_path / 'run'}", speed=speed) as replayed:
            replayed.wait()
        counter = replayed.result.channels.to_pylist()[0]
        assert (counter["id"], counter["standstills"]) == ("rapl:package-0", 1)
        assert counter["energy_high_j"] == pytest.approx(live.channels["energy_high_j"][0].as_py(), rel=0.1)
        assert "showed" in " ".join(replayed.result.notes)


def test_a_replay_of_a_counter_at_rest_is_a_measurement(powercap, proc, tmp_path):
    powercap(Zone("package-0", counter_start_uj=123_456_789))
    with fg.Monitor("rapl:package-0", record=tmp_path / "run") as monitor:
        deadline = time.monotonic() + 1.4
        while time.monotonic() < deadline:
            proc.advance(idle=0.05)
            time.sleep(0.05)
    assert monitor.result.known
    with fg.Monitor(f"replay:{tmp_path / 'run'}", speed=0) as replayed:
        replayed.wait()
    assert replayed.result.known
    assert replayed.result.channels["standstills"].to_pylist() == [0]
