"""Files of CodeCarbon of all versions: runs, flushes, tasks, second headers, and lines that lost their end."""

from __future__ import annotations

import pytest

from fastgreen.recordings.readers import read, read_codecarbon
from tests.oracles.places import CASES

KWH_J = 3.6e6
PLAIN = "timestamp,run_id,duration,cpu_energy,gpu_energy,ram_energy,energy_consumed,country_name"
NEWER = "timestamp,run_id,experiment_id,duration,cpu_energy,gpu_energy,ram_energy,energy_consumed,water,country_name"
TASKS = f"task_name,{PLAIN}"


def row(run, minute, *, task=None, newer=False, duration=10, kwh=0.001):
    cells = [f"2026-11-20T10:{minute:02d}:10", run, *(["e"] if newer else []), duration]
    cells += [kwh / 4, kwh / 2, kwh / 4, kwh, *([0] if newer else []), "Germany"]
    return ",".join(map(str, [task, *cells] if task is not None else cells))


@pytest.mark.parametrize(
    ("lines", "kwh", "segments", "note"),
    [
        ([PLAIN, row("a", 0), row("b", 1)], 0.002, 2, None),
        ([PLAIN, row("a", 0, duration=10), row("a", 1, duration=20, kwh=0.003)], 0.003, 1, "1 row of a run that has"),
        ([PLAIN, row("a", 0), PLAIN, row("b", 1)], 0.002, 2, None),
        ([PLAIN, row("a", 0), NEWER, row("b", 1, newer=True)], 0.002, 2, "the columns change 1 time"),
        (
            [NEWER, row("a", 0, newer=True), PLAIN, row("b", 1), NEWER, row("c", 2, newer=True)],
            0.003,
            3,
            "change 2 times",
        ),
        ([PLAIN, row("a", 0), TASKS, row("b", 1, task="t"), row("b", 2, task="u")], 0.003, 3, "2 tasks"),
        ([PLAIN, row("a", 0) + row("b", 1), row("c", 2)], 0.003, 3, "1 row without a line of its own"),
        ([PLAIN, row("a", 0) + row("b", 1) + row("c", 2)], 0.003, 3, "2 rows without a line of their own"),
        ([PLAIN, row("a", 0, newer=True), row("b", 1)], 0.001, 1, "1 row wider than the header: left out"),
        ([PLAIN, row("a", 0), row("b", 1)[:30]], 0.001, 1, "1 of 2 rows could not be used"),
        ([TASKS, row("r", 0, task="a"), row("r", 1, task="b", kwh=0.002)], 0.003, 2, "2 tasks: a 3600 J, b 7200 J"),
        ([TASKS, row("r", 0, task="a"), row("r", 1, task="a"), row("r", 2, task="a")], 0.003, 3, "3 tasks"),
        ([TASKS, row("r", 0, task="a"), row("r", 0, task="a")], 0.001, 1, "1 row repeated: counted once"),
        ([TASKS, row("r", 0, task=""), row("r", 1, task="b")], 0.002, 2, "2 tasks"),
        ([TASKS, row("r", 0, task="a") + row("r", 1, task="b"), row("r", 2, task="c")], 0.001, 1, "wider"),
    ],
)
def test_every_row_counts_or_is_reported(tmp_path, lines, kwh, segments, note):
    (tmp_path / "emissions.csv").write_text("\n".join(lines) + "\n")
    recording = read(tmp_path)
    assert recording.total_j == pytest.approx(kwh * KWH_J)
    assert recording.to_result().energy_j == pytest.approx(kwh * KWH_J)
    assert recording.channels.to_pylist()[0]["segments"] == segments
    if note is None:
        assert recording.notes == []
    else:
        assert any(note.replace("their own", "its own") in said for said in recording.notes), recording.notes


def test_tasks_are_told_apart(tmp_path):
    file = tmp_path / "emissions.csv"
    file.write_text("\n".join([TASKS, row("r", 0, task="load"), row("r", 1, task="train", duration=30, kwh=0.002)]))
    tasks = read_codecarbon(file).extra["tasks"]
    assert [(task["name"], task["seconds"], task["energy_j"]) for task in tasks] == [
        ("load", 10.0, pytest.approx(3600.0)),
        ("train", 30.0, pytest.approx(7200.0)),
    ]


@pytest.mark.skipif(not CASES.exists(), reason=f"the cases are not at {CASES}")
@pytest.mark.parametrize(("name", "joules"), [("glued-row", 3780), ("second-header", 2520), ("tasks", 5040)])
def test_cases(name, joules):
    assert read(CASES / f"codecarbon-{name}.csv").total_j == pytest.approx(joules)
