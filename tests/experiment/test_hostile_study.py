"""A study from a stranger: nothing in its folder hangs `compile`, reads or writes elsewhere, or ends in a traceback."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import feather

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.experiment.compile import compile_study
from fastgreen.guards import untrusted
from fastgreen.guards.untrusted import check_inside, open_regular, read_object, read_small
from fastgreen.recordings.readers import read
from fastgreen.results.result import Result
from fastgreen.results.trace import Windows
from tests.fuzz.saved import save_a_run

STATUS = {"size": "1", "repeat": 0, "state": "done", "iterations": 1, "error": ""}
ABOUT = {"protocol": "model", "size_unit": "px", "batch": 2}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One size with a saved run, and three with a published run each, which take less time to compile."""
    outside = tmp_path_factory.mktemp("study")
    folder = outside / "study"
    save_a_run(outside / "other")
    loaded = fg.load(outside / "other")
    lanes = [Windows("inference", 0, loaded._windows[0].begin_ns, loaded._windows[0].end_ns)]
    saved, *published = (folder / f"input_{size}" / "run_0" for size in (1, 2, 3, 4))
    saved.mkdir(parents=True)
    Result(loaded.traces, lanes, loaded.metadata, loaded.start_ns, loaded.end_ns).save(saved / "run")
    (saved / "status.json").write_text(json.dumps(STATUS))
    (saved / "gauges.json").write_text(json.dumps({"cpu_use": 0.5}))
    lines = [
        {"date": f"2024-01-01 00:00:0{i}.000000", "metrics": {"cpu": {"intel_power": 50.0, "total_dram_power": 5.0}}}
        for i in range(5)
    ]
    for place in published:
        place.mkdir(parents=True)
        (place / "power_metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (place / "latency.csv").write_text("0.5\n0.5\n")
    (folder / "study.json").write_text(json.dumps(ABOUT))
    return folder


@pytest.fixture
def study(made_once: Path, tmp_path: Path) -> Path:
    """A copy of it for this test."""
    return Path(shutil.copytree(made_once, tmp_path / "study"))


def compiled(study: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of `fastgreen compile`, within a few seconds of CPU time and without a traceback."""
    begun = time.process_time()
    done = CliRunner().invoke(main, ["compile", str(study), "--no-pictures", *options])
    assert time.process_time() - begun < 5
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


SMALL_FILES = ["study.json", "input_1/run_0/status.json", "input_1/run_0/gauges.json"]
READ = [
    *SMALL_FILES,
    "input_4/run_0/power_metrics.json",
    "input_4/run_0/latency.csv",
    "input_4/run_0/latency.json",
    "input_4/run_0/model_summary.json",
    "input_1/run_0/run/channels.arrow",
    "input_1/run_0/run/samples.arrow",
]
KINDS = {
    "fifo": os.mkfifo,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "loop": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: path.symlink_to("/nowhere/at/all"),
    "elsewhere": lambda path: path.symlink_to("/etc/hostname"),
    "sparse": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 36),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READ)
def test_what_is_no_file_is_neither_waited_for_nor_read(study, name, kind):
    (study / name).unlink(missing_ok=True)
    KINDS[kind](study / name)
    code, said = compiled(study)
    assert code == 0, said
    assert "Traceback" not in said
    sizes = {row["size"]: row for row in feather.read_table(study / "compiled" / "sizes.arrow").to_pylist()}
    assert {s for s, row in sizes.items() if row["runs"]} >= {2.0, 3.0, 1.0 if "input_4" in name else 2.0}
    if name.endswith(("status.json", "run/channels.arrow", "run/samples.arrow")):
        assert sizes[1.0]["failed"] == 1


def test_a_link_out_of_the_study_is_said_and_not_followed(study, tmp_path):
    for part in ("input_1/run_0/run", "input_2/run_0", "input_3"):
        shutil.move(study / part, tmp_path / part.replace("/", "-"))
        (study / part).symlink_to(tmp_path / part.replace("/", "-"))
    code, said = compiled(study)
    assert code == 0
    assert " ".join(said.split()).count("leads out of") >= 3
    assert compile_study(study).sizes.column("runs").to_pylist() == [0, 0, 0, 1]


def test_a_link_inside_the_study_is_followed(study):
    shutil.move(study / "input_1" / "run_0", study / "kept")
    (study / "input_1" / "run_0").symlink_to(study / "kept")
    assert compile_study(study).sizes.column("runs").to_pylist() == [1, 1, 1, 1]


@pytest.mark.parametrize("how", ["folder", "link", "hard link", "fifo"])
def test_compile_writes_nothing_outside_of_its_folder(study, tmp_path, how):
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("sizes.arrow", "runs.csv", "energy_by_size.png"):
        (victim / name).write_text("precious")
    target = study / "compiled"
    if how == "folder":
        target.symlink_to(victim)
    else:
        target.mkdir()
        for name in ("sizes.arrow", "runs.csv", "energy_by_size.png"):
            if how == "link":
                (target / name).symlink_to(victim / name)
            elif how == "hard link":
                os.link(victim / name, target / name)
            else:
                os.mkfifo(target / name)
    before = sorted(p.name for p in victim.iterdir())
    done = CliRunner().invoke(main, ["compile", str(study)])
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    assert sorted(p.name for p in victim.iterdir()) == before
    assert {p.read_text() for p in victim.iterdir()} == {"precious"}
    assert compiled(study, "-o", str(tmp_path / "mine"))[0] == 0


def test_compile_twice_overwrites_its_own_tables(study):
    assert compiled(study)[0] == 0
    assert compiled(study)[0] == 0


ABSURD = ["x", -3, 0, 1.5, float("inf"), float("nan"), None, [], {}, True, "n" * 100_000, 10**400, "\ud800", "$\\frac"]


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize("key", ["batch", "protocol", "size_unit"])
def test_absurd_values_of_study_json_are_sentences(study, key, value):
    (study / "study.json").write_text(json.dumps({**ABOUT, key: value}))
    code, said = compiled(study)
    assert code == 0
    assert len(said) < 20_000
    if key == "batch" and value not in (1, 2):
        assert "batch must be a whole number above 0" in said


DRAWN = [
    pytest.param(keys, value, marks=[] if isinstance(value, str) and len(keys) > 1 else pytest.mark.slow)
    for keys in (tuple(ABOUT), *((key,) for key in ABOUT))
    for value in ABSURD
]


@pytest.mark.parametrize(("keys", "value"), DRAWN)
def test_absurd_values_of_study_json_are_drawn(study, keys, value):
    (study / "study.json").write_text(json.dumps({**ABOUT, **dict.fromkeys(keys, value)}))
    done = CliRunner().invoke(main, ["compile", str(study)])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize("key", [*STATUS, "exit_code"])
def test_absurd_values_of_status_json_are_sentences(study, key, value):
    (study / "input_1/run_0/status.json").write_text(json.dumps({**STATUS, key: value}))
    code, said = compiled(study)
    assert code == 0
    assert len(said) < 20_000


@pytest.mark.parametrize("value", ABSURD)
def test_absurd_values_of_gauges_json_are_left_out(study, value):
    (study / "input_1/run_0/gauges.json").write_text(json.dumps({"cpu_use": value, "memory_b": 1e300}))
    assert compiled(study)[0] == 0
    table = compile_study(study).sizes
    assert "memory_b" not in table.column_names
    known = table["cpu_use"].to_pylist() if "cpu_use" in table.column_names else []
    assert all(v is None or np.isfinite(v) for v in known)
    assert any(v is not None for v in known) == (isinstance(value, (int, float)) and abs(value) < 10)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "\x00" * 1000, "", "null", "\ufeff{}"]
)
@pytest.mark.parametrize("name", SMALL_FILES)
def test_text_that_is_no_json_is_a_sentence(study, name, text):
    (study / name).write_text(text)
    assert compiled(study)[0] == 0


def test_names_of_folders_that_are_no_text_are_compiled(study):
    os.rename(study / "input_1", os.fsencode(study) + b"/input_\xff\x1b[2J")
    code, said = compiled(study)
    assert code == 0, said
    assert not CliRunner().invoke(main, ["compile", str(study)]).exception


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(SMALL_FILES), st.binary(max_size=300), st.integers(0, 10**6), st.booleans())
@example("study.json", b'{"batch": 1e999}', 0, True)
def test_damaged_bytes_anywhere_are_never_a_traceback(study, name, noise, place, whole):
    before = (study / name).read_bytes()
    at = place % (len(before) + 1)
    (study / name).write_bytes(noise if whole else before[:at] + noise + before[at + len(noise) :])
    try:
        assert compiled(study)[0] in (0, 1)
    finally:
        (study / name).write_bytes(before)


@pytest.mark.parametrize("kind", ["fifo", "zero"])
def test_readers_of_recordings_do_not_wait_for_a_pipe(tmp_path, kind):
    KINDS[kind](tmp_path / "log.csv")
    for format in (None, "aipowermeter", "nvidia-smi", "codecarbon", "omegawatt"):
        with pytest.raises(TraceError):
            read(tmp_path / "log.csv", format)


def test_small_files_are_small_and_objects(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[1]")
    with pytest.raises(TraceError, match="is not a JSON object"):
        read_object(file)
    file.write_bytes(b"x" * 101)
    assert read_small(file, most=101) == b"x" * 101
    with pytest.raises(TraceError, match="larger than 100 bytes"):
        read_small(file, most=100)
    with pytest.raises(TraceError, match="not a regular file"):
        open_regular(tmp_path)
    link = tmp_path / "sub" / "link"
    link.parent.mkdir()
    link.symlink_to(file)
    os.close(open_regular(link))
    os.close(open_regular(link, tmp_path))
    with pytest.raises(TraceError, match="leads out of"):
        open_regular(link, link.parent)
    with pytest.raises(TraceError, match="leads out of"):
        check_inside(link.parent / ".." / "x", link.parent)


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors as Linux does")
def test_refused_files_leave_no_descriptor_open(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with pytest.raises(TraceError):
            open_regular(tmp_path / "pipe")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_that_takes_a_folders_place_after_the_look_is_not_followed(tmp_path):
    """The look and the opening are two steps: the folder between becomes a link."""
    inside, outside = tmp_path / "study" / "part", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        (folder / "x.json").write_text("{}")
    real = str(inside / "x.json")
    shutil.move(inside, tmp_path / "moved")
    inside.symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        untrusted._open_below(str(tmp_path / "study"), ("part", Path(real).name))
