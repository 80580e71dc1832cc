# SPDX-License-Identifier: Apache-2.0
"""The fake powercap, hwmon and proc trees: laid out as the kernel's, moving exactly, failing as told."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes import hwmon
from tests.fakes.build import compiler
from tests.fakes.hwmon import HwmonTree
from tests.fakes.permissions import drop_dac_override, without_dac_override
from tests.fakes.powercap import FAULTS, RANGE_61UJ, PowercapTree, Zone, moving
from tests.fakes.proc import ProcRoot
from tests.fakes.wave import Square
from tests.oracles.places import ROOT

needs_compiler = pytest.mark.skipif(compiler() is None, reason="the mover is built from C, and there is no compiler")
MODES = ["kernel", "file"]


def moving_or_skip(tree: PowercapTree) -> PowercapTree:
    try:
        return tree.start()
    except RuntimeError as error:
        pytest.skip(f"this mode is not allowed here: {error}")


def test_the_tree_is_laid_out_as_the_kernels(tmp_path: Path):
    package = Zone(
        "package-0-die-1", number=10, children=[Zone("core", limit_uw=None, max_power_uw=None), Zone("dram")]
    )
    tree = PowercapTree(tmp_path, [package, Zone("psys", number=11), Zone("package-0", control="intel-rapl-mmio")])
    assert sorted(os.listdir(tree.root)) == [
        "intel-rapl",
        "intel-rapl-mmio",
        "intel-rapl-mmio:0",
        "intel-rapl:a",
        "intel-rapl:a:0",
        "intel-rapl:a:1",
        "intel-rapl:b",
    ]
    assert all((tree.root / name).is_symlink() for name in os.listdir(tree.root))
    assert (tree.root / "intel-rapl:a" / "intel-rapl:a:1" / "name").read_text() == "dram\n"
    assert (tree.root / "intel-rapl:a:1").resolve().parent == (tree.root / "intel-rapl:a").resolve()
    assert int((tree.root / "intel-rapl:a" / "max_energy_range_uj").read_text()) == RANGE_61UJ
    assert (tree.root / "intel-rapl:b" / "constraint_0_max_power_uw").read_text() == "125000000\n"
    assert not (tree.root / "intel-rapl:a:0" / "constraint_0_max_power_uw").exists()
    assert tree["package-0-die-1/dram"] is tree["intel-rapl:a:1"] is tree["dram"]
    with pytest.raises(KeyError, match="0 zones"):
        tree["uncore"]


def test_values_set_by_hand_are_seen_through_open_descriptors(tmp_path: Path):
    tree = PowercapTree(tmp_path, [Zone(counter_start_uj=262_143_000_000)])
    fd = os.open(tree["package-0"].energy, os.O_RDONLY)
    assert os.pread(fd, 64, 0) == b"262143000000\n"
    for value in (RANGE_61UJ, 5, 123_456):
        tree.set_uj("package-0", value)
        assert os.pread(fd, 64, 0) == f"{value}\n".encode()
        assert tree.read_uj("package-0") == value
    os.close(fd)


@needs_compiler
@pytest.mark.parametrize("mode", MODES)
def test_a_moving_counter_shows_the_exact_integral(tmp_path: Path, mode: str):
    wave = Square(20, 200, 0.1)
    tree = PowercapTree(tmp_path, [Zone(watts=wave, children=[Zone("dram", watts=5)])], mode=mode)
    with moving_or_skip(tree):
        looks, late_s, until = [], [1.0], time.monotonic() + 60
        while statistics.median(late_s[-200:]) >= 0.02 and time.monotonic() < until:  # in the best stretch of a minute
            for _ in range(200):
                time.sleep(0.002)
                for zone in ("dram", "package-0"):
                    begin_ns, value = time.monotonic_ns(), tree.read_uj(zone)
                    looks.append((zone, begin_ns, value, time.monotonic_ns()))
                    assert value <= tree.counter_uj(zone, looks[-1][3])  # never ahead of the truth
                late_s.append((tree.counter_uj("dram", looks[-2][3]) - looks[-2][2]) * 1e-6 / 5)
        assert statistics.median(late_s[-200:]) < 0.02
        age_ns, _ = tree.punctuality_ns()
        for zone, begin_ns, value, _ in looks:
            assert value >= tree.counter_uj(zone, max(begin_ns - age_ns, tree.epoch_ns))  # nor older than it says
    assert tree.read_uj("package-0") >= value


@needs_compiler
@pytest.mark.parametrize("mode", MODES)
def test_no_read_is_torn(tmp_path: Path, mode: str):
    """A quick mover and 1.5 s of preads: each value is a number, at least the last and at most the truth.

    At 3 MW every step changes digits in both halves of a file's sixteen bytes.
    """
    zone = Zone(watts=3e6, counter_start_uj=99_999_000_000, range_uj=10**14)
    tree = PowercapTree(tmp_path, [zone], period_s=20e-6, mode=mode)
    with moving_or_skip(tree):
        fd = os.open(tree["package-0"].energy, os.O_RDONLY)
        begun, last, changes = time.monotonic(), 0, 0
        while (took := time.monotonic() - begun) < 1.5 or (changes <= 100 and took < 60):
            text = os.pread(fd, 64, 0)
            value = int(text)
            assert text.endswith(b"\n")
            assert last <= value
            changes += value != last
            last = value
        assert last <= tree.counter_uj("package-0", time.monotonic_ns())
        os.close(fd)
    assert changes > 100


@needs_compiler
@pytest.mark.parametrize("mode", MODES)
def test_a_moving_counter_wraps_at_its_range(tmp_path: Path, mode: str):
    modulus = 61 * 10**9
    for ahead_s in (0.061, 0.61, 6.1):
        zone = Zone(watts=1000, counter_start_uj=modulus - round(ahead_s * 1e9), range_uj=modulus - 61, unit_uj=61)
        tree = PowercapTree(tmp_path / str(ahead_s), [zone], mode=mode)
        with moving_or_skip(tree):
            values = [tree.read_uj("package-0")]
            until = time.monotonic() + 60
            while values[-1] > modulus // 2 and time.monotonic() < until:
                values.append(tree.read_uj("package-0"))
            now = time.monotonic_ns()
            assert values[-1] <= tree.counter_uj("package-0", now) < modulus // 2
        if len(values) > 1:
            break  # else the machine was too busy to look before it wrapped
    assert max(values) <= modulus - 61
    assert all(value % 61 == 0 or value == 1 for value in values)
    descents = [b for a, b in itertools.pairwise(values) if b < a]
    assert descents == values[-1:]


@needs_compiler
def test_a_mirrored_zone_shows_the_same_number(tmp_path: Path):
    zones = [Zone("package-0", watts=150), Zone("package-0-die-1", mirror_of="intel-rapl:0"), Zone("psys", watts=200)]
    with moving(tmp_path, *zones) as tree:
        time.sleep(0.05)
        before = tree.read_uj("package-0")
        assert before <= tree.counter_uj("package-0-die-1", time.monotonic_ns())
    assert tree.read_uj("package-0") == tree.read_uj("package-0-die-1") >= before
    assert tree.read_uj("psys") > tree.read_uj("package-0")


@needs_compiler
def test_a_moving_zone_can_be_held_at_a_value_and_a_stopped_tree_goes_on_from_there(tmp_path: Path):
    tree = PowercapTree(tmp_path, [Zone(watts=100), Zone("psys", watts=100)])
    with tree:
        tree.set_uj("psys", 77)
        time.sleep(0.02)
        assert tree.read_uj("psys") == 77
    stopped = tree.read_uj("package-0")
    assert (tree.read_uj("psys"), stopped > 1) == (77, True)
    with tree:
        assert tree.read_uj("package-0") >= stopped
        with pytest.raises(RuntimeError, match="already moving"):
            tree.start()


@needs_compiler
def test_the_mover_costs_little_and_ends_with_its_parent(tmp_path: Path):
    program = (
        "import sys, time, pathlib\nfrom tests.fakes.powercap import PowercapTree, Zone\n"
        "tree = PowercapTree(pathlib.Path(sys.argv[1]), [Zone(watts=10, children=[Zone('dram', watts=1)])]).start()\n"
        "least = 1.0\n"
        "for _ in range(20):\n"  # what a machine takes from its guest can pass for work of theirs
        "    cpu, begun = tree.mover_cpu_s(), time.monotonic(); time.sleep(1)\n"
        "    least = min(least, (tree.mover_cpu_s() - cpu) / (time.monotonic() - begun))\n"
        "    if least < 0.3: break\n"
        "print(tree._mover.pid, least, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid, cpu_s = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
    assert float(cpu_s) < 0.3
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_counter_holds_what_it_is_told(tmp_path: Path, fault: str):
    tree = PowercapTree(tmp_path, [Zone(counter_start_uj=9)])
    fd = os.open(tree["package-0"].energy, os.O_RDONLY)
    tree.spoil("package-0", fault)
    assert os.pread(fd, 64, 0) == FAULTS[fault]
    tree.break_file("package-0", fault)
    assert tree["package-0"].energy.read_bytes() == FAULTS[fault]
    tree.mend("package-0")
    assert tree.read_uj("package-0") == 9
    assert os.pread(fd, 64, 0) == FAULTS[fault]
    os.close(fd)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("missing", errno.ENOENT),
        ("dangling", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("directory", errno.EISDIR),
        ("unreadable", errno.EACCES),
    ],
)
def test_a_broken_file_fails_to_open_while_an_open_one_goes_on(tmp_path: Path, fault: str, code: int):
    tree = PowercapTree(tmp_path, [Zone(counter_start_uj=9)])
    fd = os.open(tree["package-0"].energy, os.O_RDONLY)
    tree.break_file("package-0", fault)
    with without_dac_override(), pytest.raises(OSError, match=rf"\[Errno {code}\]"):
        tree["package-0"].energy.read_bytes()
    assert os.pread(fd, 64, 0) == b"9\n"
    os.close(fd)
    tree.mend("package-0")
    assert tree.read_uj("package-0") == 9


def test_file_modes_bind_in_a_program_run_as_root(tmp_path: Path):
    tree = PowercapTree(tmp_path)
    tree.break_file("package-0", "unreadable")
    command = ["cat", str(tree["package-0"].energy)]
    done = subprocess.run(command, preexec_fn=drop_dac_override, capture_output=True, text=True)
    assert "denied" in done.stderr
    if os.geteuid() == 0:  # the helper took the privilege from that program only
        assert tree.read_uj("package-0") == 1


def test_ranges_can_be_missing_or_malformed_and_zones_go(tmp_path: Path):
    zones = [Zone(range_text="0"), Zone("package-1", range_text=None), Zone("psys", range_text="many")]
    tree = PowercapTree(tmp_path, [*zones, Zone("package-2", children=[Zone("dram")])])
    assert (tree["package-0"].folder / "max_energy_range_uj").read_text() == "0\n"
    assert not (tree["package-1"].folder / "max_energy_range_uj").exists()
    assert (tree["psys"].folder / "max_energy_range_uj").read_text() == "many\n"
    tree.remove_zone("package-2")
    assert sorted(os.listdir(tree.root)) == ["intel-rapl", "intel-rapl:0", "intel-rapl:1", "intel-rapl:2"]


def test_hwmon_chips_have_the_files_of_their_drivers(tmp_path: Path):
    rails = {"VDD_IN": (19_000, 500), "VDD_CPU": (5_000, 1_000)}
    chips = [
        hwmon.amdgpu(),
        hwmon.amd_energy(cores=2),
        hwmon.i915(5),
        hwmon.xe(7, 6),
        hwmon.ina3221(rails),
        hwmon.power_meter(),
        hwmon.amdgpu(average_uw=None, input_uw=9, bus="0000:83:00.0"),
    ]
    tree = HwmonTree(tmp_path, chips)
    names = [tree.path(i, "name").read_text().strip() for i in range(len(chips))]
    assert names == ["amdgpu", "amd_energy", "i915", "xe", "ina3221", "power_meter", "amdgpu"]
    assert tree.path(1, "energy3_label").read_text() == "Esocket0\n"
    assert tree.path(4, "in2_label").read_text() == "VDD_CPU\n"
    assert (tree.path(4, "in1_input").read_text(), tree.path(4, "curr1_input").read_text()) == ("19000\n", "500\n")
    assert not tree.path(6, "power1_average").exists()
    assert (tree.root / "hwmon6").is_symlink()
    assert tree.path(6, "device").resolve().name == "0000:83:00.0"
    with tree.path(2, "energy1_input").open() as file:
        tree.set(2, "energy1_input", 1_234_567)
        assert file.read() == "1234567\n"
    tree.remove(2, "energy1_input")
    assert not tree.path(2, "energy1_input").exists()


def test_proc_stat_advances_by_the_seconds_given(tmp_path: Path):
    psutil = pytest.importorskip("psutil")
    proc = ProcRoot(tmp_path, cpus=2)
    psutil.PROCFS_PATH, before = str(tmp_path), psutil.PROCFS_PATH
    try:
        proc.advance(user=1.5, idle=2.5)
        proc.advance(cpu=1, system=10)
        assert psutil.cpu_times().user == pytest.approx(3.0)
        assert psutil.cpu_times(percpu=True)[1].system == pytest.approx(10.0)
    finally:
        psutil.PROCFS_PATH = before
    assert (tmp_path / "stat").read_text().startswith("cpu  300 0 1000 500 ")
    assert "sgx" not in (tmp_path / "cpuinfo").read_text()
    assert " sgx " in (ProcRoot(tmp_path / "sgx", sgx=True).root / "cpuinfo").read_text()
