# SPDX-License-Identifier: Apache-2.0
"""CPUs that share a counter are read once, whatever list of CPUs an event source shows (Linux before 7.0, from 7.0)."""

from __future__ import annotations

import random
import time

import pytest

import fastgreen as fg
from fastgreen.sensors import topology
from fastgreen.sensors.catalog import channels, discover
from fastgreen.sensors.channel import Seams
from fastgreen.sensors.perf_mirrors import same_counter
from tests.fakes.cpus import cpu_folder
from tests.fakes.events import event_source
from tests.fakes.proc import ProcRoot
from tests.sensors.test_perf import SOFTWARE, counted_by_the_kernel

CLOCK = "event=0x00"  # counts ns of one CPU
DUMMY = "event=0x09"  # never counts


def perf_channels(**seams) -> dict[str, fg.Channel]:
    return {c.id: c for c in channels(**seams) if c.source == "perf"}


def grouped(root, mask, *, dies=True) -> dict[str, tuple[int, ...]]:
    return {g.name: g.cpus for g in topology.groups(str(root), mask, dies=dies)}


# ---- the list ----


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", [0]),
        ("0,18", [0, 18]),
        ("0-3,8", [0, 1, 2, 3, 8]),
        ("3,1,1-2", [1, 2, 3]),
        (" 0 , 2-3\n", [0, 2, 3]),
        ("", []),
        (",,", []),
        ("65535", [65535]),
        (",".join(["0-65535"] * 60000), list(range(65536))),
    ],
)
def test_a_list_of_cpus_gives_each_number_once(text, cpus):
    assert topology.cpu_list(text) == cpus


BAD_LISTS = ["a", "0-", "-1", "3-1", "0--2", "0-1-2", "1_0", "٣", "0x1", "65536", "0-99999999999", "9" * 40, "0;1"]


@pytest.mark.parametrize("text", [*BAD_LISTS, "0," * 70000])
def test_a_list_that_no_kernel_writes_is_refused_in_a_moment(text):
    begun = time.process_time()
    with pytest.raises(ValueError, match="CPUs"):
        topology.cpu_list(text)
    assert time.process_time() - begun < 1


# ---- groups ----


def test_every_cpu_of_a_package_is_one_group(tmp_path):
    root = cpu_folder(tmp_path / "cpu", packages=2, cpus=4)
    assert grouped(root, list(range(8))) == {"package-0": (0, 1, 2, 3), "package-1": (4, 5, 6, 7)}
    assert grouped(root, [0, 4]) == {"package-0": (0,), "package-1": (4,)}


def test_intels_dies_are_apart_only_where_the_list_holds_one_cpu_for_each(tmp_path):
    root = cpu_folder(tmp_path / "cpu", packages=2, dies=2, cpus=4)
    dies = {"package-0-die-0": (0,), "package-0-die-1": (4,), "package-1-die-0": (8,), "package-1-die-1": (12,)}
    assert grouped(root, [0, 4, 8, 12]) == dies
    assert set(grouped(root, list(range(16)))) == {"package-0", "package-1"}
    assert set(grouped(root, [0, 8])) == {"package-0", "package-1"}


def test_amds_dies_are_never_apart(tmp_path):
    root = cpu_folder(tmp_path / "cpu", packages=1, dies=8, cpus=2)
    assert grouped(root, list(range(0, 16, 2)), dies=False) == {"package-0": tuple(range(0, 16, 2))}


def test_a_package_whose_other_die_is_offline_keeps_its_plain_name(tmp_path):
    root = cpu_folder(tmp_path / "cpu", packages=2, dies=2, cpus=2, offline=(2, 3))
    assert set(grouped(root, [0, 4, 6])) == {"package-0", "package-1-die-0", "package-1-die-1"}


def test_cpus_that_are_offline_or_gone_are_left_out(tmp_path):
    root = cpu_folder(tmp_path / "cpu", packages=2, cpus=4, offline=(0, 4, 5))
    (root / "cpu0" / "online").write_text("0\n")
    assert grouped(root, [0, 1, 4, 5, 6, 99]) == {"package-0": (1,), "package-1": (6,)}


def test_dies_with_one_cpu_each_left_online_are_doubtful(tmp_path):
    root = cpu_folder(tmp_path / "cpu", packages=1, dies=2, cpus=2, offline=(1, 3))
    assert [g.doubtful for g in topology.groups(str(root), [0, 2], dies=True)] == [True, True]


@pytest.mark.parametrize("text", ["-1", "", "x", "9" * 30])
def test_a_package_number_that_is_not_one_is_no_topology(tmp_path, text):
    root = cpu_folder(tmp_path / "cpu", cpus=2)
    (root / "cpu1" / "topology" / "physical_package_id").write_text(f"{text}\n")
    found = topology.groups(str(root), [0, 1], dies=True)
    assert [(g.name, g.cpus, g.doubtful) for g in found] == [("package-0", (0,), False), ("", (1,), True)]


def slow_groups(places: dict[int, tuple[int, int]], mask: list[int], dies: bool) -> set[frozenset[int]]:
    """The rule said once more, without any bookkeeping."""
    online = [cpu for cpu in mask if cpu in places]
    by_die = {frozenset(c for c in online if places[c] == place) for place in {places[c] for c in online}}
    packages = {places[c][0] for c in online}
    by_package = {frozenset(c for c in online if places[c][0] == package) for package in packages}
    return by_die if dies and len(by_die) > len(by_package) and all(len(g) == 1 for g in by_die) else by_package


def test_random_machines_are_grouped_as_the_rule_says(tmp_path):
    rng = random.Random(7)
    for n in range(60):
        packages, dies, cpus = rng.randint(1, 4), rng.randint(1, 3), rng.randint(1, 4)
        everything = range(packages * dies * cpus)
        offline = [cpu for cpu in everything if cpu and rng.random() < 0.2]
        root = cpu_folder(tmp_path / f"{n}", packages, dies, cpus, offline=offline)
        places = {c: (c // (dies * cpus), c % (dies * cpus) // cpus) for c in everything if c not in offline}
        intel = rng.random() < 0.5
        masks = [list(places), sorted({p: c for c, p in reversed(places.items())}.values()), [0]]
        for mask in masks:
            found = {frozenset(g.cpus) for g in topology.groups(str(root), mask, dies=intel)}
            assert found == slow_groups(places, mask, intel), (packages, dies, cpus, offline, mask)


# ---- the mirror test ----


def counter(rng: random.Random, watts: float, reads: int = 64) -> list[int]:
    """Readings of a register of 61 uJ in steps of 2^-32 J, once a millisecond, from its opening on."""
    total, out = rng.random() * 300, []
    for _ in range(reads):
        total += watts * 1e-3 / 2**-14 * rng.uniform(0.9, 1.1)
        out.append(int(total) << 18)
    return out


def test_one_register_opened_twice_is_one_counter():
    rng = random.Random(3)
    for _ in range(200):
        first = counter(rng, 40.0)
        opened_later = rng.randrange(1000) << 18
        torn = {i for i in range(1, 64) if rng.random() < 0.2}  # an update falls between the two reads
        second = [first[min(i + (i in torn), 63)] - opened_later for i in range(64)]
        assert same_counter(first, second)


def test_two_packages_of_the_same_power_are_two_counters():
    rng = random.Random(4)
    assert not any(same_counter(counter(rng, 20.0), counter(rng, 20.0)) for _ in range(500))


def test_counters_that_both_stand_still_are_not_counted_twice():
    assert same_counter([5] * 64, [9] * 64)
    assert same_counter([], [])
    assert not same_counter([5] * 64, counter(random.Random(5), 10.0))


# ---- discovery ----


def test_eight_cpus_of_one_package_are_one_package(tmp_path):
    counted_by_the_kernel()
    root = event_source(tmp_path / "events", SOFTWARE, CLOCK, cpumask="0-7")
    cpus = cpu_folder(tmp_path / "cpu", packages=1, cpus=8)
    found = perf_channels(event_source_root=root, cpu_root=cpus)
    assert [i for i, c in found.items() if c.root] == ["perf:package-0", "perf:package-0/dram"]
    assert "perf:psys" in found
    with fg.Monitor(event_source_root=root, cpu_root=cpus) as monitor:
        time.sleep(0.1)
    rows = [row for row in monitor.result.channels.to_pylist() if row["id"] == "perf:package-0"]
    expected_w = 1e9 * 2.0**-32  # that of one CPU's clock, once
    assert len(rows) == 1
    assert rows[0]["mean_power_w"] == pytest.approx(expected_w, rel=0.3)


def test_the_first_cpu_of_a_package_that_opens_is_read(tmp_path):
    counted_by_the_kernel()
    root = event_source(tmp_path / "events", SOFTWARE, CLOCK, cpumask="0,4000-4002", events=("energy-pkg",))
    cpus = cpu_folder(tmp_path / "cpu", cpus=1)
    for cpu in (4000, 4001, 4002):  # listed in the same package, and gone since
        (cpus / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (cpus / f"cpu{cpu}" / "topology" / "physical_package_id").write_text("0\n")
    found = perf_channels(event_source_root=root, cpu_root=cpus)
    assert found["perf:package-0"].readable
    (root / "power" / "cpumask").write_text("4000-4002\n")
    found = perf_channels(event_source_root=root, cpu_root=cpus)
    assert not found["perf:package-0"].readable
    assert "on CPU 4000" in found["perf:package-0"].reason


def test_without_a_topology_counters_tell_which_cpus_share_one(tmp_path):
    counted_by_the_kernel(1)
    clocks = event_source(tmp_path / "clocks", SOFTWARE, CLOCK, cpumask="0,1", events=("energy-pkg",))
    assert list(perf_channels(event_source_root=clocks)) == ["perf:package-0", "perf:package-1"]
    still = event_source(tmp_path / "still", SOFTWARE, DUMMY, cpumask="0-1", events=("energy-pkg",))
    assert list(perf_channels(event_source_root=still)) == ["perf:package-0"]


def test_an_unknown_cpu_beside_a_known_package_is_not_counted_twice(tmp_path):
    counted_by_the_kernel(1)
    root = event_source(tmp_path / "events", SOFTWARE, DUMMY, cpumask="0-1,9000", events=("energy-pkg",))
    cpus = cpu_folder(tmp_path / "cpu", cpus=2)
    (cpus / "cpu1" / "topology" / "physical_package_id").unlink()
    assert list(perf_channels(event_source_root=root, cpu_root=cpus)) == ["perf:package-0"]


def test_amd_and_intel_differ_in_what_a_die_is(tmp_path):
    root = event_source(tmp_path / "events", 4_000_000_000, cpumask="0,2", events=("energy-pkg",))
    cpus = cpu_folder(tmp_path / "cpu", packages=1, dies=2, cpus=2)
    for vendor, names in {
        "GenuineIntel": ["perf:package-0-die-0", "perf:package-0-die-1"],
        "AuthenticAMD": ["perf:package-0"],
        "HygonGenuine": ["perf:package-0"],
    }.items():
        ProcRoot(tmp_path / vendor, vendor=vendor)
        found = perf_channels(event_source_root=root, cpu_root=cpus, proc_root=tmp_path / vendor)
        assert list(found) == names


@pytest.mark.parametrize(
    ("mask", "said"), [("", "no CPU"), ("\n", "no CPU"), ("0-", "not a range"), ("9" * 9, "range")]
)
def test_a_cpumask_that_names_no_cpu_is_said(tmp_path, mask, said):
    root = event_source(tmp_path / "events", SOFTWARE, CLOCK, cpumask=mask)
    found, states = discover(Seams.of(event_source_root=root))
    assert not [c for c in found if c.source == "perf"]
    assert said in next(s.reason for s in states if s.source == "perf")


def test_cores_of_amd_lie_inside_their_package_and_never_count(tmp_path):
    counted_by_the_kernel()
    root = event_source(tmp_path / "events", SOFTWARE, CLOCK, cpumask="0", events=("energy-pkg",))
    more = event_source(tmp_path / "more", SOFTWARE, CLOCK, cpumask="0-3", events=("energy-core",))
    (more / "power").rename(root / "power_core")
    cpus = cpu_folder(tmp_path / "cpu", cpus=4, threads=2)
    found = perf_channels(event_source_root=root, cpu_root=cpus)
    assert list(found) == ["perf:package-0", "perf:package-0/core-0", "perf:package-0/core-1"]
    assert [c.root for c in found.values()] == [True, False, False]
    assert found["perf:package-0/core-1"].parent == "perf:package-0"
    alone = perf_channels(event_source_root=root)  # no topology
    assert [c.root for c in alone.values()] == [True, False, False, False, False]
    assert all("inside" in c.note for c in alone.values() if not c.root)


@pytest.mark.parametrize("damage", ["type", "cpumask", "events"])
def test_damaged_cores_leave_the_package(tmp_path, damage):
    counted_by_the_kernel()
    root = event_source(tmp_path / "events", SOFTWARE, CLOCK, cpumask="0", events=("energy-pkg",))
    more = event_source(tmp_path / "more", SOFTWARE, CLOCK, cpumask="0-3", events=("energy-core",))
    (more / "power").rename(root / "power_core")
    (root / "power_core" / damage).rename(root / "gone")
    assert list(perf_channels(event_source_root=root)) == ["perf:package-0"]
