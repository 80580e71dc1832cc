"""A study goes on after anything: damaged runs, a wrong channel, a full disk; and what is not the model's fault is not
laid to the model.
"""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

import fastgreen
from fastgreen.errors import ChannelNotFound, FastgreenWarning, TraceError
from fastgreen.experiment.compile import compile_study
from fastgreen.experiment.protocols import for_callable, for_torch
from fastgreen.experiment.runner import Study
from fastgreen.measuring.monitor import Monitor

CPU = {"channels": ["procstat:*"], "hz": 50}


def summing(sizes=(1000, 2000), **options):
    return for_callable(lambda n: sum(range(n)), sizes, iterations=3, name="sum", **options)


def cut(path, size=100):
    os.truncate(path, size)


DAMAGES = {
    "an empty status": lambda run: cut(run / "status.json", 0),
    "a status that is no object": lambda run: (run / "status.json").write_text("[1]"),
    "a status without its words": lambda run: (run / "status.json").write_text('{"size": "1000"}'),
    "a status of no known kind": lambda run: (run / "status.json").write_text(
        '{"size": "1000", "repeat": 0, "state": "maybe", "iterations": 3}'
    ),
    "cut windows": lambda run: cut(run / "run" / "windows.arrow"),
    "cut channels": lambda run: cut(run / "run" / "channels.arrow"),
    "no samples": lambda run: cut(run / "run" / "samples.arrow", 0),
    "no saved run": lambda run: (run / "run").rename(run / "elsewhere"),
    "windows of another run": lambda run: _fewer_windows(run / "run"),
}


def _fewer_windows(folder):
    with Monitor(["procstat:*"], hz=50) as monitor, monitor.window("inference"):
        pass
    shutil.rmtree(folder)
    monitor.result.save(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_run_that_was_damaged_is_told_and_run_anew(tmp_path, damage):
    Study(tmp_path, summing(), repeats=2, **CPU).run(progress=False)
    DAMAGES[damage](tmp_path / "input_1000" / "run_0")
    written = {
        p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*/status.json") if p.parent.parent.name != "input_1000"
    }
    with pytest.warns(FastgreenWarning, match="run_0.*is damaged and is repeated"):
        statuses = Study(tmp_path, summing(), repeats=2, **CPU).run(progress=False)
    assert [s.state for s in statuses] == ["done"] * 4
    compiled = compile_study(tmp_path)
    assert compiled.notes == []
    assert compiled.sizes.column("iterations").to_pylist() == [6, 6]
    assert all(p.stat().st_mtime_ns == at for p, at in written.items())


def test_a_study_whose_own_page_is_damaged_says_what_to_do(tmp_path):
    Study(tmp_path, summing(), repeats=1, **CPU).run(progress=False)
    (tmp_path / "study.json").write_text("garbage")
    with pytest.raises(TraceError, match="the runs beside it are complete; delete it"):
        Study(tmp_path, summing(), repeats=1, **CPU)
    (tmp_path / "study.json").unlink()
    assert Study(tmp_path, summing(), repeats=1, **CPU).pending() == []


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"channels": ["nonsense"]}, ChannelNotFound, "no channel matches 'nonsense'"),
        ({"channels": ["procstat:*"], "hz": 0}, ValueError, "hz must be"),
    ],
)
def test_a_meter_that_cannot_be_made_is_told_before_anything_is_written(tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        Study(tmp_path / "s", summing(), repeats=1, **options)
    assert not (tmp_path / "s").exists()


def test_runs_with_other_channels_or_another_rate_are_another_study(tmp_path):
    Study(tmp_path, summing(), repeats=1, **CPU)
    with pytest.raises(ValueError, match="holds a study with hz = 50, not 25"):
        Study(tmp_path, summing(), repeats=1, channels=["procstat:*"], hz=25)
    with pytest.raises(ValueError, match="holds a study with channels"):
        Study(tmp_path, summing(), repeats=1, channels=["procstat:cpu"], hz=50)


def test_a_model_on_another_device_is_another_study(tmp_path):
    on = [for_torch(tmp_path / "m.pt2", [1], device=device, trust=True) for device in (None, "cpu", "cuda:1")]
    assert len({protocol.what for protocol in on}) == 3


class BrokenResult:
    """A result whose disk is full."""

    def __init__(self, result):
        self.result = result

    def windows(self, name):
        return self.result.windows(name)

    def save(self, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class FullDisk:
    """A monitor that measures, and cannot write."""

    def __init__(self, **options):
        self.monitor = fastgreen.Monitor(**options)
        self.window = self.monitor.window

    def __enter__(self):
        self.monitor.start()

    def __exit__(self, *exc):
        self.monitor.stop()

    @property
    def result(self):
        return BrokenResult(self.monitor.result)


def test_a_full_disk_ends_the_study_and_is_no_failure_of_the_model(tmp_path):
    study = Study(tmp_path, summing(), repeats=1, monitor=FullDisk, **CPU)
    with pytest.raises(OSError, match="No space left on device"):
        study.run(progress=False)
    assert list(study.statuses()) == []
    assert [s.state for s in Study(tmp_path, summing(), repeats=1, **CPU).run(progress=False)] == ["done", "done"]


def test_what_a_model_said_is_kept_in_any_alphabet(tmp_path):
    def model(size):
        raise ValueError("größe \ud800 日本")

    made = for_callable(model, [1], iterations=1, name="says")
    (status,) = Study(tmp_path, made, repeats=1, **CPU).run(progress=False)
    assert status.state == "failed"
    assert "größe" in (tmp_path / "input_1" / "run_0" / "error.txt").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "input_1" / "run_0" / "status.json").read_text())["error"] == status.error


# ---- the order of the runs ----


class Noted:
    """A model that notes what was built and run, in order."""

    def __init__(self, bad=()):
        self.built, self.bad = [], bad

    def __call__(self, size):
        if size in self.bad:
            raise ValueError("bad")
        self.built.append(size)
        return lambda: None


def noted_study(folder, order, model=None, **options):
    model = model or Noted()
    made = for_callable(model, [1, 2, 3], iterations=1, factory=True, name="noted")
    statuses = Study(folder, made, repeats=3, order=order, **CPU, **options).run(progress=False)
    return model, statuses


def test_in_rounds_each_size_has_its_turn_before_any_has_a_second(tmp_path):
    """So that a machine that warms up, or that others begin to use, does not look like an effect of size."""
    model, statuses = noted_study(tmp_path / "rounds", "rounds")
    assert model.built == [1, 2, 3] * 3
    assert [(s.size, s.repeat) for s in statuses] == [(size, k) for size in "123" for k in range(3)]
    began = [
        (tmp_path / "rounds" / f"input_{s}" / f"run_{k}" / "status.json").stat().st_mtime_ns
        for k in range(3)
        for s in (1, 2, 3)
    ]
    assert began == sorted(began)
    model, _ = noted_study(tmp_path / "sizes", "sizes")
    assert model.built == [1, 2, 3]


def test_a_size_that_fails_is_tried_once_in_rounds_too(tmp_path):
    model, statuses = noted_study(tmp_path, "rounds", Noted(bad=(2,)))
    assert model.built == [1, 3] * 3
    assert [s.error for s in statuses if s.size == "2"] == ["ValueError: bad", *["not tried: ValueError: bad"] * 2]


def test_an_order_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="order must be sizes or rounds, not 'random'"):
        Study(tmp_path / "s", summing(), order="random", **CPU)


def test_a_finished_study_takes_more_repeats_and_keeps_its_runs(tmp_path):
    Study(tmp_path, summing(), repeats=1, **CPU).run(progress=False)
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/run_0/status.json")}
    more = Study(tmp_path, summing(), repeats=3, **CPU)
    assert more.pending() == [(size, repeat) for size in (1000, 2000) for repeat in (1, 2)]
    assert [s.state for s in more.run(progress=False)] == ["done"] * 6
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert compile_study(tmp_path).sizes["runs"].to_pylist() == [3, 3]
    assert json.loads((tmp_path / "study.json").read_text())["repeats"] == 3
    with pytest.raises(ValueError, match="repeats = 3, not 2"):
        Study(tmp_path, summing(), repeats=2, **CPU)


def test_more_repeats_do_not_hide_another_difference(tmp_path):
    Study(tmp_path, summing(), repeats=1, **CPU).run(progress=False)
    with pytest.raises(ValueError, match="holds a study with iterations"):
        Study(tmp_path, summing(sizes=(1000, 3000)), repeats=2, **CPU)
    assert json.loads((tmp_path / "study.json").read_text())["repeats"] == 1
