"""A recording that loses its folder while it runs: nothing measured is lost, and nothing is written elsewhere."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import sys
import time

import pytest

import fastgreen as fg
from fastgreen.errors import TraceError
from tests.fakes.powercap import Zone


def remove(run, elsewhere):
    shutil.rmtree(run)


def move(run, elsewhere):
    run.rename(run.with_name("moved"))


def replace_by_a_link(run, elsewhere):
    shutil.rmtree(run)
    run.symlink_to(elsewhere)


def move_and_link(run, elsewhere):
    move(run, elsewhere)
    run.symlink_to(elsewhere)


def replace_by_a_file(run, elsewhere):
    shutil.rmtree(run)
    run.write_text("precious")


def replace_the_files_by_links(run, elsewhere):
    for name in ("samples.arrow", "windows.arrow", "channels.arrow", "channels.arrow.partial"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(elsewhere / name)


def remove_the_samples(run, elsewhere):
    (run / "samples.arrow").unlink()


LOSSES = [
    remove,
    move,
    replace_by_a_link,
    move_and_link,
    replace_by_a_file,
    replace_the_files_by_links,
    remove_the_samples,
]


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")
def test_a_recording_that_loses_its_folder_keeps_its_numbers_and_writes_nothing_elsewhere(
    powercap, tmp_path, soon, lose
):
    powercap(Zone("package-0", 90.0), move=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("channels.arrow", "windows.arrow"):
        (elsewhere / name).write_text("precious")
    with fg.Monitor(record=tmp_path / "run", hz=500) as monitor:
        with monitor.window("before"):
            soon(lambda: monitor.energy_j()["rapl:package-0"] > 5)
        time.sleep(0.3)  # some of it is written
        lose(tmp_path / "run", elsewhere)
        with monitor.window("after"):
            soon(lambda: monitor.energy_j()["rapl:package-0"] > 60)
    result = monitor.result
    assert result.energy_low_j <= result.energy_j <= result.energy_high_j
    assert result.energy_j > 60
    assert result.summary()["count"].to_pylist() == [1, 1]
    assert result.samples().num_rows == result.channels["samples"][0].as_py()
    assert "removed, moved or replaced" in str(result)
    assert {p.name: p.read_text() for p in elsewhere.iterdir()} == {
        "channels.arrow": "precious",
        "windows.arrow": "precious",
    }
    result.save(tmp_path / "saved")
    assert fg.load(tmp_path / "saved").energy_j == result.energy_j
    if lose in (move, move_and_link):
        assert fg.load(tmp_path / "moved").energy_j == result.energy_j
    assert copy.deepcopy(result).samples().num_rows == result.samples().num_rows
    if lose is not replace_the_files_by_links:
        with pytest.raises(TraceError, match=r"samples\.arrow"):
            pickle.loads(pickle.dumps(result)).samples()


def test_the_files_of_recordings_are_given_back(powercap, tmp_path):
    powercap(Zone("package-0", 90.0))
    for lost in (False, True):
        before = len(os.listdir("/proc/self/fd"))
        for n in range(4):
            run = tmp_path / f"{lost}-{n}"
            monitor = fg.Monitor("rapl:*", record=run).start()
            if lost:
                shutil.rmtree(run)
                with pytest.warns(fg.errors.FastgreenWarning):
                    result = monitor.stop()
            else:
                result = monitor.stop()
            assert result.samples().num_rows > 0
        held = len(os.listdir("/proc/self/fd")) - before
        assert held <= 3
        del monitor, result
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before


def test_a_planted_link_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    for name in ("samples.arrow", "channels.arrow"):
        run = tmp_path / f"run-{name}"
        run.mkdir()
        (run / name).symlink_to(victim)
        with pytest.raises(FileExistsError, match="holds a run already"):
            fg.Monitor(record=run).start()
    run = tmp_path / "partial"
    run.mkdir()
    (run / "channels.arrow.partial").symlink_to(victim)
    fg.Monitor(record=run).start().stop()
    assert fg.load(run).notes == []
    assert not victim.exists()


def test_a_link_to_a_folder_that_was_there_at_first_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    result = fg.Monitor(record=tmp_path / "run").start().stop()
    assert result.notes == []
    assert fg.load(tmp_path / "disk").notes == []


@pytest.mark.parametrize("act", ["rm -rf", "mv -t elsewhere"])
def test_fastgreen_run_gives_the_commands_own_exit_code_although_its_folder_is_gone(powercap, python, tmp_path, act):
    powercap(Zone("package-0", 90.0), move=True)
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-m", "fastgreen", "run", "-o", "run", "--", "sh", "-c", f"sleep 0.4; {act} run; exit 7"]
    done = python("import os, sys; os.execv(sys.argv[1], sys.argv[1:])", *command, cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    assert "rapl:package-0" in done.stderr
    assert "removed, moved or replaced" in done.stderr
    assert "Traceback" not in done.stderr
