"""The commands of studies as a user types them: answers, exit codes, one sentence for each mistake. And the
pictures.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastgreen
from fastgreen.cli import main
from fastgreen.experiment import compile_study, pareto_front, power_over_time, tradeoff, write_run
from fastgreen.experiment.pictures import draw_study, energy_by_size, latency_against_energy
from fastgreen.recordings.recording import RecordingBuilder
from tests.oracles.places import SHARED

RUNS = SHARED / "training-runs" / "runs.parquet"
TRACE = SHARED / "training-runs" / "gpu-power-cloud-mobilenet_v2.csv"
EPOCH_NS = 1_700_000_000 * 10**9


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words], env={"COLUMNS": "200"})


def recording(watts: dict[str, float], seconds=10):
    builder = RecordingBuilder("test", "test")
    stamps = EPOCH_NS + np.arange(seconds) * 10**9
    for name, value in watts.items():
        builder.channel(name, root=True)
        builder.add(name, stamps, np.zeros(seconds), value * (1 + 0.05 * np.sin(np.arange(seconds))))
    return builder.finish()


def published_study(folder):
    """A study in the published layout: package, memory and a GPU that draws ten times as much."""
    for k, size in enumerate((112, 224, 336, 448, 560)):
        for repeat in range(3):
            scale = (1 + 0.02 * repeat) * (k + 1)
            watts = {"package": 8.0 * scale, "dram": 1.0 * scale, "gpu": 80.0 * scale}
            write_run(folder, size, repeat, recording(watts), [0.01 * scale] * 20)
    return folder


def test_bench_of_a_command_then_compile(tmp_path):
    options = ["--sizes", "1,2", "--repeats", 2, "-o", tmp_path / "s", "--channel", "procstat:*", "--quiet"]
    done = call("bench", "command", *options, "--", sys.executable, "-c", "print({size})")
    assert done.exit_code == 0, done.output
    assert "4 runs done, 0 failed" in done.output
    table = call("compile", tmp_path / "s", "--json")
    assert table.exit_code == 0, table.output
    answer = json.loads(table.stdout)
    assert [row["size"] for row in answer["sizes"]] == [1.0, 2.0]
    assert answer["estimated"] is True
    for name in (
        "sizes.csv",
        "sizes.arrow",
        "pearson.csv",
        "energy_by_size.png",
        "power_over_time.png",
        "twin_axes.png",
    ):
        assert (tmp_path / "s" / "compiled" / name).stat().st_size > 0
    assert "ESTIMATED" in call("compile", tmp_path / "s", "--no-pictures").output


def test_a_study_has_money_and_carbon_in_units_of_speech(tmp_path):
    study = published_study(tmp_path / "s")
    options = ["compile", study, "--no-pictures", "--price", "0.5 EUR", "--carbon", 360, "--pue", 2, "--embodied", 1e6]
    done = call(*options)
    assert done.exit_code == 0, done.output
    first = next(line for line in done.output.splitlines() if line.startswith("112"))
    assert re.search(r"[\d.]+ J .* [\d.]+ ms .* /s +[\d.]+ W +0\.00\d+ EUR +[\d.]+ mg", first), first
    row = json.loads(call(*options, "--json").stdout)["sizes"][0]
    assert row["carbon_g"] == pytest.approx(row["energy_j"] / 3.6e6 * 2 * 360)
    assert row["cost_low"] == pytest.approx(row["energy_low_j"] / 3.6e6 * 2 * 0.5)
    assert row["sci_g"] > row["carbon_g"]
    (tmp_path / "grid.csv").write_text("time (UTC),g/kWh\n2025-01-01 00:00,100\n")
    done = call("compile", study, "--no-pictures", "--carbon", tmp_path / "grid.csv")
    assert (
        "cost and carbon of some runs are unknown: the recording has no date, so grid.csv cannot be used" in done.output
    )


def test_bench_of_a_function_in_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def build(size):\n    return lambda: sum(range(size))\n")
    done = call(
        "bench",
        f"{file}:build",
        "--sizes",
        "10:30:10",
        "--repeats",
        1,
        "--iterations",
        3,
        "-o",
        tmp_path / "s",
        "--quiet",
    )
    assert done.exit_code == 0, done.output
    assert compile_study(tmp_path / "s").sizes.column("iterations").to_pylist() == [3, 3, 3]
    assert call("bench", f"{file}:nothing", "--sizes", "1", "-o", tmp_path / "t").exit_code == 2


def test_a_study_in_which_everything_fails_ends_with_1(tmp_path):
    done = call(
        "bench",
        "command",
        "--sizes",
        "3",
        "--repeats",
        1,
        "-o",
        tmp_path / "s",
        "--quiet",
        "--",
        sys.executable,
        "-c",
        "exit({size})",
    )
    assert done.exit_code == 1
    assert "0 runs done, 1 failed" in done.output
    assert "ended with 3" in done.output
    assert "next:" not in done.output
    done = call("compile", tmp_path / "s")
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert "0 of 1 run succeeded; size 3, run 0: failed" in done.output
    assert not (tmp_path / "s" / "compiled").exists()


@pytest.mark.parametrize("sizes", ["x", "1,x", "1,,2", "", "1.5", "1:2:", "1:x:1", "1:9:0"])
def test_sizes_that_are_no_numbers_are_refused(tmp_path, sizes):
    done = call("bench", "command", "--sizes", sizes, "-o", tmp_path / "s", "--", "true")
    assert done.exit_code == 2
    assert "--sizes" in done.output
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["bench", "alexnot", "--sizes", "1"],
            "'alexnot' is not a series (alexnet, resnet50, bert, convnets, summary)",
        ),
        (["bench", "alexnet", "--sizes", "1"], "the series alexnet has its own sizes"),
        (["bench", "bert", "--scale", "0"], "scale must be above 0"),
        (["bench", "m.onnx"], "--sizes is missing"),
        (["bench", "m.onnx", "--sizes", "1:2:3:4"], "'1:2:3:4' is not a range"),
        (["bench", "m.onnx", "--sizes", "1", "--repeats", "0"], "repeats must be at least 1, not 0"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence_and_code_2(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").touch()
    done = call(*words, "-o", tmp_path / "s")
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize("command", ["compile", "import", "tradeoff"])
def test_what_is_not_there_is_one_sentence_and_code_1(tmp_path, command):
    done = call(command, tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "nowhere" in done.output
    assert "Traceback" not in done.output


def test_import_tells_energy_absent_channels_and_notes(tmp_path):
    folder = write_run(tmp_path, 1, 0, recording({"package": 10.0}))
    done = call("import", folder, "-o", tmp_path / "saved")
    assert done.exit_code == 0, done.output
    assert "absent: core" in done.output
    shown = json.loads(call("import", folder, "--json").stdout)
    assert shown["total_j"] == pytest.approx(90.0, rel=0.01)
    assert fastgreen.load(tmp_path / "saved").energy_j == pytest.approx(shown["total_j"], rel=1e-9)
    empty = call("import", write_run(tmp_path, 2, 0, recording({})))
    assert empty.exit_code == 1
    assert "it contains no recording" in empty.output


def test_import_compares_two_meters(tmp_path):
    folder = write_run(tmp_path, 1, 0, recording({"package": 10.0}))
    wall = tmp_path / "omegawatt.csv"
    lines = [f"{1_700_000_000 + i / 10:.2f},true,20" for i in range(90)]
    wall.write_text("#timestamp,#frame_is_ok,#activepow1\n" + "\n".join(lines) + "\n")
    done = call("import", folder, "--against", wall, "--json")
    assert json.loads(done.stdout)["comparison"]["missing_share"] == pytest.approx(0.5, abs=0.02)
    bad = call("import", folder, "--against", wall, "--timezone", "Europe/Paris")
    assert bad.exit_code == 2
    assert "do not overlap" in bad.output


@pytest.mark.skipif(not TRACE.exists(), reason=f"the published trace is not at {TRACE}")
def test_import_of_the_published_trace_prints_its_joules():
    assert "together 416474.893 J" in call("import", TRACE, "--drop", 3).output


@pytest.mark.skipif(not RUNS.exists(), reason=f"the published table is not at {RUNS}")
def test_tradeoff_of_the_published_table_prints_its_largest_reduction(tmp_path):
    done = call("tradeoff", RUNS, "--repeats", 30, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "largest reduction: 0.8138637397" in done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {
        "groups.csv",
        "changes.csv",
        "dunn.csv",
        "pareto_front.png",
    }
    assert json.loads(call("tradeoff", RUNS, "--json").stdout)["left_out"] == 0


def test_a_change_without_any_difference_in_correctness_has_no_doubt_about_it(tmp_path):
    rows = [f"{name},{energy},0.9" for name, energies in (("a", (4, 5, 6)), ("b", (1, 2, 3))) for energy in energies]
    (tmp_path / "t.csv").write_text("\n".join(["architecture,energy_j,accuracy", *rows]))
    done = call("tradeoff", tmp_path / "t.csv")
    (line,) = [
        line.split() for line in done.output.splitlines() if line.startswith("architecture  ") and "60.0%" in line
    ]
    assert line == ["architecture", "a", "b", "60.0%", "0", "large"]


def test_tradeoff_names_the_columns_there_are(tmp_path):
    (tmp_path / "t.csv").write_text("model,joules\na,1\n")
    done = call("tradeoff", tmp_path / "t.csv")
    assert done.exit_code == 2
    assert "energy must be given: one of 'model', 'joules'" in " ".join(done.output.split())


# ---- pictures ----


def words_of(figure):
    figure.canvas.draw()
    texts = [t for axes in figure.axes for t in axes.texts]
    return [(t.get_text(), t.get_window_extent()) for t in texts]


def test_the_pictures_of_a_study_have_units_and_a_line_per_device(tmp_path):
    compiled = compile_study(published_study(tmp_path / "study"))
    (axes,) = energy_by_size(compiled).axes
    assert axes.get_ylabel() == "energy per inference (J)"
    assert axes.get_xlabel() == "input size"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["package", "dram", "gpu"]
    files = draw_study(compiled, tmp_path / "out", sample=recording({"package": 5.0}))
    assert [f.name for f in files] == [
        "energy_by_size.png",
        "latency_against_energy.png",
        "twin_axes.png",
        "power_over_time.png",
    ]


def test_labels_hide_no_other_label(tmp_path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    rows = {
        "architecture": [f"network_{i}" for i in range(10)],
        "energy_j": [1.0, 1.01, 1.02, 1.5, 1.51, 2.0, 2.01, 2.0, 3.0, 3.01],
        "accuracy": [0.9, 0.901, 0.9, 0.92, 0.921, 0.95, 0.951, 0.949, 0.97, 0.6],
    }
    figure = pareto_front(tradeoff(rows))
    FigureCanvasAgg(figure)
    boxes = [box for word, box in words_of(figure) if word.startswith("network_")]
    assert len(boxes) == 10
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = figure.axes[0].get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_sizes_that_are_whole_numbers_have_whole_numbers_on_their_axis(tmp_path):
    for folder, sizes, whole in (("whole", (1, 2, 3), True), ("parts", (1, 1.5, 2), False)):
        for size in sizes:
            write_run(tmp_path / folder, size, 0, recording({"package": 5.0}), [0.5])
        (axes,) = energy_by_size(compile_study(tmp_path / folder)).axes
        assert all(float(place).is_integer() for place in axes.get_xticks()) is whole


def test_pictures_of_little_do_not_fail(tmp_path):
    write_run(tmp_path, "only", 0, recording({"package": 1e-5}), [0.5])
    (tmp_path / "input_other" / "run_0").mkdir(parents=True)
    compiled = compile_study(tmp_path)
    assert [t.get_text() for t in latency_against_energy(compiled).axes[0].texts] == ["only"]
    assert "µJ" in energy_by_size(compiled).axes[0].get_ylabel()
    assert draw_study(compiled, tmp_path / "out")
    assert power_over_time(recording({})).axes
