# SPDX-License-Identifier: Apache-2.0
"""Trees as no kernel makes them: what is found stays right, bounded in time, and fit to be printed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import fastgreen as fg
from tests.fakes.hwmon import Chip, amdgpu, ina3221


def zone(folder: Path, name: str, energy: str = "1000\n", span: str = "262143328850\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(energy)
    (folder / "max_energy_range_uj").write_text(span)
    return folder


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """An empty powercap root, to be filled by hand."""
    root = tmp_path / "powercap"
    root.mkdir()
    monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(root))
    return root


def found(source: str = "rapl") -> dict[str, fg.Channel]:
    return {c.id: c for c in fg.channels() if c.source == source}


def test_links_that_lead_back_hide_no_zone_and_show_none_twice(tree):
    for n in range(5):
        zone(tree / f"intel-rapl:{n}", f"package-{n}", energy=f"{1000 * (n + 1)}\n")
    for n in range(5):
        for m in range(5):
            (tree / f"intel-rapl:{n}" / f"intel-rapl:{m}").symlink_to(tree)
        (tree / f"intel-rapl:{n}:9").symlink_to(tree / f"intel-rapl:{n}")
    assert {i: c.readable for i, c in found().items()} == {f"rapl:package-{n}": True for n in range(5)}


def test_a_thousand_zones_are_listed_in_a_moment_and_mirrors_among_them_found(tree):
    for n in range(1000):
        zone(tree / f"intel-rapl:{n:x}", f"package-{n}", energy=f"{1000 + 7919 * (n % 999)}\n")
    begun = time.process_time()
    channels = found()
    assert time.process_time() - begun < 10  # comparing each with each took minutes
    assert len(channels) == 1000
    assert [i for i, c in channels.items() if not c.root] == ["rapl:package-999"]
    assert channels["rapl:package-999"].note == "mirrors rapl:package-0"


@pytest.mark.parametrize("file", ["energy_uj", "name", "max_energy_range_uj"])
def test_a_file_without_an_end_is_left_before_it_fills_the_memory(tree, file, python):
    (zone(tree / "intel-rapl:0", "package-0") / file).unlink()
    (tree / "intel-rapl:0" / file).symlink_to("/dev/zero")
    code = """
        import os, resource
        if "FASTGREEN_SANITIZED" not in os.environ:  # a sanitizer reserves more than any machine has
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        import fastgreen as fg
        import json
        print(json.dumps([(c.readable, c.reason, c.wrap_j) for c in fg.channels() if c.source == "rapl"]))
        """
    done = python(code)
    [(readable, reason, wrap_j)] = json.loads(done.stdout)
    assert readable == (file != "energy_uj")
    assert readable or "File too large" in reason
    assert (wrap_j is None) == (file == "max_energy_range_uj")


UGLY = ["pack\nage", "\x1b[31mred\x1b[0m", "left\u202eright", "nul\0nul", "bell\a", "x" * 5000]


@pytest.mark.parametrize("name", UGLY)
def test_a_name_is_fit_to_be_printed(tree, hwmon, name):
    zone(tree / "intel-rapl:0", name)
    hwmon(Chip("amdgpu", {"power1_input": 5, "power1_label": name}), Chip(name, {"power1_input": 5}))
    for channel in fg.channels():
        assert channel.id.isprintable()
        assert channel.name.isprintable()
        assert channel.device.isprintable()
        assert len(channel.id) < 250
    only = [c for c in fg.channels() if c.source == "rapl"]
    assert len(only) == 1
    assert only[0].readable


@pytest.mark.parametrize("text", ["1000\n", "19999999\n", "1_000_000_000_000\n", "٣٤٥٦٧٨٩٠١٢\n", "9" * 30])
def test_a_range_that_no_counter_has_is_not_believed_and_stops_no_monitor(tree, text):
    zone(tree / "intel-rapl:0", "package-0", span=text)
    with fg.Monitor() as monitor:
        pass
    (channel,) = (c for c in monitor.channels if c.source == "rapl")
    assert channel.wrap_j is None
    assert "range is not known" in channel.note


@pytest.mark.parametrize("text", ["9223372036854775808\n", "9999999999999999999\n", "+5\n", "٣٤\n", "1_000\n"])
def test_what_the_engine_cannot_read_is_not_listed_as_readable(tree, text):
    zone(tree / "intel-rapl:0", "package-0", energy=text)
    (channel,) = found().values()
    assert not channel.readable
    assert "does not hold an integer" in channel.reason


def test_both_factors_of_a_product_must_be_readable(hwmon):
    made = hwmon(ina3221({"VDD_IN": (5000, 1000)}))
    voltage = made.path(0, "in1_input")
    voltage.unlink()
    voltage.mkdir()
    (channel,) = found("hwmon").values()
    assert not channel.readable
    assert "in1_input" in channel.reason


def test_hundreds_of_chips_are_listed_in_a_moment(hwmon):
    card = Chip("amdgpu", {f"power{n}_input": 5_000_000 for n in range(1, 11)}, "platform/card")
    hwmon(*(Chip(card.name, card.files, f"platform/card.{n}") for n in range(300)))
    begun = time.process_time()
    assert len(found("hwmon")) == 3000
    assert time.process_time() - begun < 10


LINES = ["cpu  1 2 3\n", "cpu  -1 0 0 0\n", "cpu  1 2 x 4\n", f"cpu  {'9' * 20} 0 0 0\n", "cpux 1 2 3 4\n", "cpu\n"]


@pytest.mark.parametrize("line", LINES)
def test_a_stat_file_that_the_engine_cannot_read_offers_no_estimate(only_fakes, line):
    (only_fakes / "proc" / "stat").write_text(line)
    assert not any(c.source == "procstat" and c.readable for c in fg.channels())


def test_zones_that_come_and_go_and_rights_that_change_disturb_nobody(tree):
    zone(tree / "intel-rapl:0", "package-0")
    with fg.Monitor("rapl:package-0", hz=200) as monitor:
        zone(tree / "intel-rapl:1", "package-1")
        os.chmod(tree / "intel-rapl:0" / "energy_uj", 0)
        os.rename(tree / "intel-rapl:0" / "energy_uj", tree / "gone")
        before = monitor.energy_j()
        time.sleep(0.05)
        with (tree / "gone").open("r+") as file:  # not emptied first: it may be read at any moment
            file.write("2001000\n")
        time.sleep(0.05)
    assert before == {"rapl:package-0": 0.0}
    assert monitor.result.energy_j == 2.0
    assert monitor.result.notes == []
    assert set(found()) == {"rapl:package-0", "rapl:package-1"}


def test_many_starts_leave_no_descriptor_and_no_thread_behind(tree, hwmon, python):
    zone(tree / "intel-rapl:0", "package-0")
    hwmon(amdgpu())
    done = python("""
        import os, time
        import fastgreen as fg

        def open_now():
            return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

        names = ["rapl:package-0", "hwmon:amdgpu/PPT", "procstat:cpu"]
        with fg.Monitor(names):
            pass
        before = open_now()
        for _ in range(40):
            with fg.Monitor(names, hz=1000):
                pass
        until = time.monotonic() + 60
        more = lambda: any(now > then for now, then in zip(open_now(), before, strict=True))
        while more() and time.monotonic() < until:
            time.sleep(0.01)  # the kernel forgets a joined thread a moment later, maybe one of `before` too
        print(more(), before, open_now())
    """)
    assert done.stderr == ""
    assert done.stdout.startswith("False"), done.stdout


def test_a_cache_of_facts_that_is_no_file_hangs_nobody(only_fakes, tree, python):
    zone(tree / "intel-rapl:0", "package-0")
    (only_fakes / "cache").mkdir()
    os.mkfifo(only_fakes / "cache" / "sensors.json")
    assert "rapl:package-0" in python("import fastgreen as fg; print(fg.channels())").stdout
