# SPDX-License-Identifier: Apache-2.0
"""The perf road to RAPL: discovery from a folder, groups read from files, and real (software) events where allowed."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _core, _resolver
from fastgreen.errors import ChannelPermission, FastgreenError
from fastgreen.sensors.catalog import channels, discover, select
from fastgreen.sensors.channel import Seams, traits
from tests.fakes.events import GroupFile, GroupStream, event_source
from tests.fakes.permissions import CAP_PERFMON, CAP_SYS_ADMIN, without, without_dac_override
from tests.fakes.powercap import PowercapTree, Zone
from tests.faults.model import soon

UNIT = "J/2^32"
SOFTWARE = 1  # PERF_TYPE_SOFTWARE: event 0 is the CPU clock, in ns; every kernel has it


def sensors(fd: int, *slots: int) -> list[dict]:
    return [
        {"path": f"power/{slot}", "fd": fd, "event": {"type": 0, "config": 0, "cpu": 0, "slot": slot}} for slot in slots
    ]


def sampler(given: list[dict], hz: float = 1000.0) -> _core.Sampler:
    known = [traits("energy", UNIT, period_ns=1_000_000) for _ in given]
    return _core.Sampler("perf", given, known, period_ns=round(1e9 / hz), ring_capacity=1 << 14)


def run(given: list[dict], reads: int = 8) -> tuple[list[np.ndarray], list[dict]]:
    """Until there were so many reads, good or bad, or the end of all."""
    engine = sampler(given)
    engine.start(60 * 10**9)
    live = lambda: engine.live(0)  # noqa: E731
    soon(lambda: live()["samples"] + live()["read_errors"] >= reads or live()["ended"])
    engine.stop(0)
    return [_resolver.samples(engine.drain(i)) for i in range(len(given))], [engine.tally(i) for i in range(len(given))]


def counted_by_the_kernel(cpu: int = 0) -> None:
    try:
        _core.Sampler(
            "perf",
            [{"path": "software", "event": {"type": SOFTWARE, "config": 0, "cpu": cpu}}],
            [traits("energy", UNIT, period_ns=1_000_000)],
            period_ns=10**6,
            ring_capacity=2,
        )
    except FastgreenError as error:
        pytest.skip(f"this kernel lets nobody here count events on a CPU: {error}")


# ---- the group read ----


def test_all_values_of_a_group_come_from_one_read():
    with GroupStream((n, n * 10, n * 100) for n in itertools.count(1)) as stream:
        (hundred, one, ten), _ = run(sensors(stream.fd, 2, 0, 1))
    assert len(one) > 5
    np.testing.assert_array_equal(one["raw"], np.arange(1, len(one) + 1))
    np.testing.assert_array_equal(one["raw"] * 10, ten["raw"])
    np.testing.assert_array_equal(one["raw"] * 100, hundred["raw"])
    np.testing.assert_array_equal(one["at_ns"], ten["at_ns"])
    np.testing.assert_array_equal(one["half_ns"], ten["half_ns"])
    assert (np.diff(one["at_ns"]) > 0).all()


def test_a_group_that_the_kernel_gave_up_ends_its_channels_with_the_reason():
    with GroupStream([(5, 50), (6, 60)]) as stream:
        _, tallies = run(sensors(stream.fd, 0, 1))
    assert [r["total"] for r in tallies] == [1, 10]
    assert all("the kernel no longer counts" in r["why_ended"] for r in tallies)


def test_a_total_is_exact_beyond_what_a_double_can_count(tmp_path):
    start = (1 << 62) + 1
    with GroupFile(tmp_path / "group", start) as group:
        engine = sampler(sensors(group.fd, 0))
        engine.start(60 * 10**9)
        group.write(start + 12345)
        engine.stop(0)
    assert engine.tally(0)["total"] == 12345


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 bytes are not a group"),
        (b"\1", "1 bytes are not a group"),
        (np.array([2, 5], "u8").tobytes(), "16 bytes are not a group"),
        (np.array([1 << 40, 5], "u8").tobytes(), "16 bytes are not a group"),
        (np.array([0], "u8").tobytes(), "has no value 0"),
        (np.array([1, 1 << 63], "u8").tobytes(), "value of more than 63 bits"),
    ],
    ids=["empty", "short", "fewer than said", "absurd number", "no values", "64 bits"],
)
def test_what_is_no_group_is_a_failed_read_with_its_reason(tmp_path, content, said):
    path = tmp_path / "group"
    path.write_bytes(content)
    with open(path, "rb") as file:
        samples, tallies = run(sensors(file.fileno(), 0))
    assert len(samples[0]) == 0
    assert tallies[0]["read_errors"] > 0
    assert said in tallies[0]["last_error"]


def test_a_failed_group_read_leaves_a_gap_and_the_rest_goes_on(tmp_path):
    with GroupFile(tmp_path / "group", 7, 70) as group:
        engine = sampler(sensors(group.fd, 0, 1))
        engine.start(60 * 10**9)
        group.damage()
        soon(lambda: engine.live(0)["read_errors"] > 0 and engine.live(1)["read_errors"] > 0)
        group.write(9, 90)
        engine.stop(0)
    for i, growth in enumerate((2, 20)):
        tally = engine.tally(i)
        assert tally["total"] == growth
        assert tally["read_errors"] > 0
        assert tally["gaps"] >= 1


def test_a_slot_that_no_group_has_is_refused():
    with pytest.raises(ValueError, match="more than 32 perf events"):
        sampler(sensors(0, 32))


def test_closing_gives_every_descriptor_back(tmp_path):
    with GroupFile(tmp_path / "group", 1, 2) as group:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            run(sensors(group.fd, 0, 1), reads=1)
        assert len(os.listdir("/proc/self/fd")) <= before  # others may have closed some meanwhile


def test_an_event_that_no_kernel_knows_is_not_found():
    given = [{"path": "power/energy-pkg", "event": {"type": 4_000_000_000, "config": 2, "cpu": 0}}]
    with pytest.raises(FastgreenError, match="perf_event_open power/energy-pkg on CPU 0"):
        sampler(given)


def test_real_events_are_counted_as_one_group():
    counted_by_the_kernel()
    given = [{"path": f"clock {i}", "event": {"type": SOFTWARE, "config": 0, "cpu": 0}} for i in range(3)]
    apart_ns = []
    while not apart_ns or min(apart_ns) >= 1_000_000:
        assert len(apart_ns) < 10, apart_ns
        samples, tallies = run(given, reads=100)
        first, second, third = samples
        # Enabled together: less than a tick between them at the first read, unless their CPU was taken from the kernel.
        apart_ns.append(abs(int(first["raw"][0]) - int(third["raw"][0])))
    np.testing.assert_array_equal(first["at_ns"], third["at_ns"])
    # The CPU clock counts ns of that CPU: as many as passed between the first and the last read.
    passed_ns = int(first["at_ns"][-1] - first["at_ns"][0])
    for s, tally in zip((first, second, third), tallies, strict=True):
        assert tally["total"] == pytest.approx(passed_ns, rel=0.2, abs=2 * tally["read_longest_ns"])
        assert s["raw"][0] >= 0


# ---- discovery ----


def test_every_event_becomes_a_channel_with_its_unit(tmp_path):
    counted_by_the_kernel()
    root = event_source(tmp_path / "events", kind=SOFTWARE, config="event=0x00")
    found = {c.id: c for c in channels(event_source_root=root) if c.source == "perf"}
    assert list(found) == [
        "perf:package-0",
        "perf:package-0/dram",
        "perf:package-0/core",
        "perf:package-0/uncore",
        "perf:psys",
    ]
    assert {c.unit for c in found.values()} == {UNIT}
    assert [c.id for c in found.values() if c.root] == ["perf:package-0", "perf:package-0/dram"]
    assert found["perf:package-0/dram"].parent == "perf:package-0"
    assert "0.27 %" in found["perf:package-0/dram"].note
    assert "1 J" in found["perf:psys"].note
    assert all(c.wrap_j is None for c in found.values())
    assert found["perf:psys"].traits["quantum"] == 1 << 32
    assert found["perf:package-0"].traits["quantum"] == 1 << 18


def test_each_package_is_asked_on_its_own_cpu(tmp_path):
    counted_by_the_kernel()
    root = event_source(tmp_path / "events", kind=SOFTWARE, config="event=0x00", cpumask="0,1")
    found = [c for c in channels(event_source_root=root) if c.source == "perf"]
    assert {(c.id.partition("/")[0], c.sensor["event"]["cpu"]) for c in found} == {
        ("perf:package-0", 0),
        ("perf:package-1", 1),
        ("perf:psys-0", 0),
        ("perf:psys-1", 1),
    }


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("events/energy-pkg.scale", "1e-6", "not a binary fraction of a joule"),
        ("events/energy-pkg.scale", "nan", "not a binary fraction of a joule"),
        ("events/energy-pkg.scale", "much", "could not convert"),
        ("events/energy-pkg.unit", "Watts", "not a binary fraction of a joule"),
        ("events/energy-pkg.scale", str(2.0**-60), "not a binary fraction of a joule"),
        ("events/energy-pkg", "config1=3", "does not hold an event number"),
        ("events/energy-pkg", f"event={1 << 64:#x}", "out of range"),
    ],
)
def test_an_event_that_cannot_be_understood_is_listed_with_its_reason(tmp_path, file, text, said):
    root = event_source(tmp_path / "events", kind=SOFTWARE)
    (root / "power" / file).write_text(text)
    found = {c.id: c for c in channels(event_source_root=root)}
    assert not found["perf:package-0"].readable
    assert said in found["perf:package-0"].reason


@pytest.mark.parametrize(
    ("file", "text"),
    [("type", "x"), ("type", "-1"), ("type", "4294967296"), ("cpumask", "a-b"), ("cpumask", "0-99999999999")],
)
def test_a_source_that_cannot_be_understood_says_so(tmp_path, file, text):
    root = event_source(tmp_path / "events", kind=SOFTWARE)
    (root / "power" / file).write_text(text)
    found, states = discover(Seams.of(event_source_root=root))
    assert not [c for c in found if c.source == "perf"]
    assert "power" in next(s.reason for s in states if s.source == "perf")


def test_an_event_the_kernel_lacks_is_listed_and_not_counted(tmp_path):
    root = event_source(tmp_path / "events", kind=4_000_000_000)
    found = {c.id: c for c in channels(event_source_root=root)}
    assert not found["perf:package-0"].readable
    assert "perf_event_open power/energy-pkg" in found["perf:package-0"].reason
    assert found["procstat:cpu"].root


# ---- one road or the other, never both ----


def test_perf_repeats_powercap_where_both_can_be_read(tmp_path):
    counted_by_the_kernel()
    tree = PowercapTree(tmp_path / "tree", [Zone(children=[Zone("dram")])])
    root = event_source(tmp_path / "events", kind=SOFTWARE, config="event=0x00")
    found = channels(event_source_root=root, powercap_root=tree.root)
    assert {c.id for c in found if c.root} == {"rapl:package-0", "rapl:package-0/dram"}
    assert "the same counters as rapl" in next(c.note for c in found if c.id == "perf:package-0")


def test_perf_stands_in_where_powercap_is_not_permitted(tmp_path):
    counted_by_the_kernel()
    tree = PowercapTree(tmp_path / "tree", [Zone(children=[Zone("dram")])])
    root = event_source(tmp_path / "events", kind=SOFTWARE, config="event=0x00")
    for zone in tree.placed:
        zone.energy.chmod(0)
    with without_dac_override():
        found = channels(event_source_root=root, powercap_root=tree.root)
    assert {c.id for c in found if c.root} == {"perf:package-0", "perf:package-0/dram"}
    unreadable = next(c for c in found if c.id == "rapl:package-0")
    assert not unreadable.readable
    assert unreadable.remedy.startswith("sudo chmod")
    chosen, complaints = select(found, None)
    assert [c.id for c in chosen] == ["perf:package-0", "perf:package-0/dram"]
    assert complaints == []


def test_powercap_stays_the_root_where_neither_can_be_read(tmp_path):
    tree = PowercapTree(tmp_path / "tree", [Zone()])
    root = event_source(tmp_path / "events", kind=4_000_000_000)
    tree["package-0"].energy.chmod(0)
    with without_dac_override():
        found = channels(event_source_root=root, powercap_root=tree.root)
    assert {c.id for c in found if c.root} == {"rapl:package-0", "procstat:cpu"}


def test_a_refusal_names_the_setting_and_the_remedy(tmp_path):
    level = Path("/proc/sys/kernel/perf_event_paranoid")
    if not level.exists() or int(level.read_text()) < 1:
        pytest.skip("this kernel lets everybody count events on a CPU")
    root = event_source(tmp_path / "events", SOFTWARE, "event=0x00")
    options = {"event_source_root": root, "proc_root": "/proc"}
    with without(CAP_PERFMON, CAP_SYS_ADMIN):
        found = {c.id: c for c in channels(**options)}
        with pytest.raises(ChannelPermission, match="CAP_PERFMON"):
            fg.Monitor("perf:package-0", **options)
    refused = found["perf:package-0"]
    assert not refused.readable
    assert refused.reason.startswith("permission denied: perf_event_open power/energy-pkg")
    assert f"perf_event_paranoid is {level.read_text().strip()}" in refused.reason
    assert "sysctl kernel.perf_event_paranoid=0" in refused.remedy


# ---- the whole way ----


def test_a_monitor_measures_through_perf_and_bounds_hold(tmp_path):
    counted_by_the_kernel()
    root = event_source(tmp_path / "events", kind=SOFTWARE, config="event=0x00")
    with fg.Monitor("perf:package-0*", hz=1000, event_source_root=root) as monitor:
        work = monitor.window("work")
        for _ in range(5):
            with work:
                time.sleep(0.02)
    result = monitor.result
    # One count per ns of 2^-32 J each: a fake that draws 0.2328 W on each of the four domains.
    expected_w = 1e9 * 2.0**-32
    table = result.channels.to_pylist()
    assert {row["id"] for row in table} == {c.id for c in monitor.channels}
    row = next(r for r in table if r["id"] == "perf:package-0")
    tally = monitor.result.trace("perf:package-0").tally
    span_s, read_s = (tally["end_at_ns"] - tally["first_at_ns"]) * 1e-9, tally["read_longest_ns"] * 1e-9
    assert row["energy_j"] == pytest.approx(expected_w * span_s, rel=0.1, abs=expected_w * read_s)
    assert row["mean_power_w"] == pytest.approx(row["energy_j"] / span_s, rel=1e-6)
    assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
    assert row["method"] == "counter"


def test_a_recorded_run_through_perf_is_read_back_the_same(tmp_path):
    counted_by_the_kernel()
    root = event_source(tmp_path / "events", kind=SOFTWARE, config="event=0x00")
    with fg.Monitor("perf:package-0", hz=500, record=tmp_path / "run", event_source_root=root) as monitor:
        time.sleep(0.1)
    loaded = fg.load(tmp_path / "run")
    assert loaded.energy_j == monitor.result.energy_j
    assert loaded.channels.to_pylist() == monitor.result.channels.to_pylist()
