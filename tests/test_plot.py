"""Pictures: what is drawn is what was computed, nothing lies outside the picture, and grey alone tells things apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main
from tests.oracles.places import ROOT

pytest.importorskip("matplotlib")

from fastgreen import plot, published_figures
from fastgreen.results.picture_style import mark
from tests.oracles import reference


def sweep(**changes: object) -> fg.Sweep:
    axes = {"consumption": np.arange(0, 10, 0.1), "accuracy": np.linspace(0, 1, 51), "alpha": [0.1, 0.5], "unit": "Wh"}
    return fg.Sweep("apc", **{**axes, **changes})


def drawn_values(figure):
    (mesh,) = figure.axes[0].collections[:1]
    return np.asarray(mesh.get_array())


def test_a_heat_map_shows_the_computed_values_and_units(tmp_path):
    grid = sweep().compute()
    assert np.array_equal(drawn_values(plot.heat_map(sweep(), alpha=0.5)), grid[0, 1])
    sweep().write(tmp_path / "grid.arrow")
    stored = fg.open_sweep(tmp_path / "grid.arrow")
    figure = plot.heat_map(stored, alpha=0.5, path=tmp_path / "grid.png")
    assert np.array_equal(drawn_values(figure), grid[0, 1])
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Energy consumption (Wh)"
    assert axes.get_ylabel() == "Accuracy (fraction)"
    assert "alpha = 0.5, beta = 1" in axes.get_title()
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_a_heat_map_of_unordered_axes_and_of_huge_ones_stays_a_picture():
    shuffled = sweep(consumption=[3.0, 1.0, 2.0, 1.0])
    assert np.array_equal(drawn_values(plot.heat_map(shuffled)), sweep(consumption=[1.0, 2.0, 3.0]).compute()[0, 0])
    huge = fg.Sweep("apc", consumption=np.linspace(0, 1, 100_000), accuracy=np.linspace(0, 1, 50_000))
    assert drawn_values(plot.heat_map(huge)).shape == (1000, 1000)


def test_a_coarse_heat_map_ends_where_accuracy_and_consumption_end(tmp_path):
    sweep = fg.Sweep("apc", consumption=[10.0, 5.0, 0.0], accuracy=[0.0, 0.5, 1.0])
    figure = fg.plot.heat_map(sweep, models=[("corner", 0.0, 1.0), ("far", 30.0, 0.2)], path=tmp_path / "x.png")
    axes = figure.axes[0]
    assert axes.get_ylim() == (0.0, 1.0)
    assert axes.get_xlim()[0] == 0.0
    assert axes.get_xlim()[1] >= 30.0


def test_isolines_of_two_points_are_labelled_in_their_middle():
    sweep = fg.Sweep("apc", consumption=[0.0, 10.0], accuracy=[0.0, 1.0])
    axes = fg.plot.heat_map(sweep).axes[0]
    heights = [text.get_position()[1] for text in axes.texts]
    assert len(heights) > 3
    assert all(0.01 < height < 0.99 for height in heights)


def test_a_picture_has_the_name_that_was_asked_for_and_stays_what_it_was_where_it_cannot_be_drawn(tmp_path):
    sweep = fg.Sweep("apc", consumption=[0.0, 10.0], accuracy=[0.0, 1.0])
    fg.plot.heat_map(sweep, path=tmp_path / "no-ending")
    before = (tmp_path / "no-ending").read_bytes()
    assert before.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="cannot draw to"):
        fg.plot.heat_map(sweep, path=tmp_path / "x.grue")
    (tmp_path / "old.png").write_bytes(b"old")
    limited = "ulimit -f 1; trap '' XFSZ; exec"
    grid = "fg.Sweep('apc', consumption=[0, 1], accuracy=[0, 1])"
    code = f"import sys, fastgreen as fg; fg.plot.heat_map({grid}, path=sys.argv[1])"
    line = f'{limited} {sys.executable} -c "{code}" {tmp_path / "old.png"}'
    assert subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True).returncode != 0
    assert (tmp_path / "old.png").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no-ending", "old.png"]


def test_models_are_points_with_a_shape_and_a_name_each():
    models = [("a", 1.0, 0.9), ("b", 2.0, 0.8), ("a", 1.5, 0.9)]
    figure = plot.heat_map(sweep(), models=models)
    a, b = figure.axes[0].lines[-2:]
    assert a.get_xydata().tolist() == [[1.0, 0.9], [1.5, 0.9]]
    assert b.get_xydata().tolist() == [[2.0, 0.8]]
    assert a.get_marker() != b.get_marker()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.heat_map(sweep(), alpha=0.3), r"no alpha of 0.3; it has 0.1, 0.5"),
        (lambda: plot.heat_map(sweep(accuracy=[0.5])), r"two values of consumption and of accuracy"),
        (
            lambda: plot.heat_map(fg.Sweep("ttcapc", time=[1.0], accuracy=[0.5], consumption=[1.0])),
            r"shows apc or apec, not ttcapc",
        ),
        (lambda: plot.curves([1, 2], [0.5], alpha=[0, 1], beta=[1, 2]), r"only one of alpha and beta"),
        (lambda: plot.curves([-1, 2], [0.5]), r"consumption .* not -1"),
        (lambda: plot.curves([-1, 2], [0.5], metric="apec"), r"cost .* not -1"),
        (lambda: plot.curves([1, 2], [0.5], metric="ttcapc"), r"metric must be apc or apec, not 'ttcapc'"),
        (lambda: plot.models([("a", 1, 0.5)], metric="acp"), r"metric must be apc or apec, not 'acp'"),
        (lambda: plot.models([]), r"table of models is empty"),
        (lambda: plot.models([("a", 1, 95)]), r"accuracy .* percent"),
        (lambda: plot.heat_map(sweep(), path="x.nonsense"), r"cannot draw to x.nonsense"),
    ],
)
def test_what_cannot_be_drawn_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_matplotlib_it_is_said_how_to_get_it(python):
    done = python("""
        import sys
        sys.modules["matplotlib"] = None
        import fastgreen as fg
        sweep = fg.Sweep("apc", consumption=[1.0, 2.0], accuracy=[0.5, 0.6])
        for draw in (
            lambda: fg.plot.models([("a", 1, 0.9)]),
            lambda: fg.plot.curves([1.0, 2.0], [0.9]),
            lambda: fg.plot.heat_map(sweep),
        ):
            try:
                draw()
            except ModuleNotFoundError as error:
                print(error)
    """)
    assert done.stdout == 3 * "pictures need matplotlib: pip install 'fastgreen[plot]'\n", done.stderr


def test_curves_are_the_metric_and_differ_in_dashes_and_lightness():
    c = np.linspace(0, 5, 50)
    figure = plot.curves(c, [0.7, 0.9, 0.99], beta=(1, 10), unit="Wh")
    assert len(figure.axes) == 2
    for axes, beta in zip(figure.axes, (1, 10), strict=True):
        for line, accuracy in zip(axes.lines, (0.7, 0.9, 0.99), strict=True):
            assert np.array_equal(line.get_ydata(), fg.apc(c, accuracy, 0.1, beta))
        assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in axes.lines}) == 3
        grey = [np.dot(line.get_color()[:3], [0.299, 0.587, 0.114]) for line in axes.lines]
        assert (np.diff(grey) > 0.1).all()
        assert "Wh" in axes.get_xlabel()


def test_models_lie_on_the_curves_of_their_accuracy():
    figure = plot.models([("a", [1.0, 2.0], 0.9), ("b", 3.0, 0.8)], beta=0.5)
    points = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert np.array_equal(points[0].get_ydata(), fg.apc([1.0, 2.0], 0.9, 0.1, 0.5))
    assert np.array_equal(points[1].get_ydata(), [fg.apc(3.0, 0.8, 0.1, 0.5)])


@pytest.mark.parametrize("name", published_figures.FIGURES)
def test_every_published_figure_has_units_and_nothing_outside_its_edges(name):
    figure = published_figures.FIGURES[name]()
    figure.draw_without_rendering()
    edges = figure.bbox.padded(1)
    for axes in figure.axes:
        texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
        for text in (one for one in texts if one.get_visible() and one.get_text()):
            box = text.get_window_extent()
            x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
            if axes.get_window_extent().padded(200).contains(x, y) and box.width:
                assert edges.contains(box.x0, box.y0) or text in axes.get_xticklabels() + axes.get_yticklabels(), text
                assert edges.contains(box.x1, box.y1) or text in axes.get_xticklabels() + axes.get_yticklabels(), text
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert edges.contains(box.x0, box.y0)
        assert edges.contains(box.x1, box.y1)
        for axes in figure.axes:
            assert not axes.get_window_extent().overlaps(box)
    assert "(" in figure.axes[0].get_xlabel()


ACCURACIES = (0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999)
MODELS = {"VGG-19": 0.9056, "InceptionV3": 0.9341, "ResNet-50": 0.9349, "MobileNetV2": 0.9454}
TX2, GTX1060 = (10.4, 10.6, 9.8, 8.88), (52.58, 55.06, 54.35, 50.51)
SINGLE = [(0.9056, wh) for wh in (11.07, 9.92, 10.67, 8, 12.58)] + [(0.9341, wh) for wh in (10.5, 9.73, 11.82)]
SINGLE += [(0.9341, wh) for wh in (10.68, 10.29)] + [(0.9349, wh) for wh in (9.74, 9.34, 9.91, 10.1)]
SINGLE += [(0.9454, wh) for wh in (8.78, 8.77, 8.95, 8.96)]
APC, APEC = np.arange(0, 10, 0.01), np.arange(0, 5, 0.05)
CURVES = {
    "apc-default": (APC, [(0.1, 1)]),
    "apec-default": (APEC, [(0.1, 10)]),
    "apc-by-alpha": (APC, [(0, 1), (0.25, 1), (0.5, 1)]),
    "apec-by-alpha": (APEC, [(0, 10), (0.25, 10), (0.5, 10)]),
    "apc-by-beta": (APC, [(0.1, 5), (0.1, 100), (0.1, 1000)]),
    "apec-by-beta": (APEC, [(0.1, 5), (0.1, 100), (0.1, 1000)]),
}
ON_TX2, ON_GTX = list(zip(MODELS.values(), TX2, strict=True)), list(zip(MODELS.values(), GTX1060, strict=True))
OF_MODELS = {
    "apc-models-tx2": (np.arange(0, 20, 0.1), 0.1, ON_TX2),
    "apc-models-tx2-gtx1060": (np.arange(0, 60, 0.1), 0.1, ON_TX2 + ON_GTX),
    "apec-models-grid-solar": (
        np.arange(0, 0.035, 0.001),
        50,
        [(a, wh * 0.00305) for a, wh in ON_TX2] + [(a, 0.0) for a in MODELS.values()],
    ),
    "apc-measurements": (np.arange(0, 20, 0.1), 0.1, SINGLE),
    "apec-measurements": (np.arange(0, 0.045, 0.001), 50, [(a, wh * 0.00305) for a, wh in SINGLE]),
}


def test_the_published_figures_are_all_there():
    assert set(published_figures.FIGURES) == {*CURVES, *OF_MODELS, "apc-grid"}


@pytest.mark.parametrize("name", CURVES)
def test_the_published_curves_have_their_axes_parameters_and_values(name):
    along, panels = CURVES[name]
    figure = published_figures.FIGURES[name]()
    assert len(figure.axes) == len(panels)
    for axes, (alpha, beta) in zip(figure.axes, panels, strict=True):
        assert len(axes.lines) == len(ACCURACIES)
        for line, accuracy in zip(axes.lines, ACCURACIES, strict=True):
            assert np.array_equal(line.get_xdata(), along)
            assert np.array_equal(line.get_ydata(), reference.apc(along, accuracy, alpha, beta))


@pytest.mark.parametrize("name", OF_MODELS)
def test_the_published_models_stand_where_they_were_measured(name):
    along, beta, rows = OF_MODELS[name]
    (axes,) = published_figures.FIGURES[name]().axes
    lines = [line for line in axes.lines if line.get_linestyle() != "None"]
    assert len(lines) == 4
    for line, accuracy in zip(lines, MODELS.values(), strict=True):
        assert np.array_equal(line.get_xdata(), along)
        assert np.array_equal(line.get_ydata(), reference.apc(along, accuracy, 0.1, beta))
    drawn = [tuple(point) for line in axes.lines if line.get_linestyle() == "None" for point in line.get_xydata()]
    assert sorted(drawn) == sorted((wh, reference.apc(wh, accuracy, 0.1, beta)) for accuracy, wh in rows)


def test_the_published_grid_has_the_values_of_the_centres_of_its_cells():
    values = drawn_values(published_figures.FIGURES["apc-grid"]())
    assert values.shape == (100, 101)
    assert values.sum() == pytest.approx(2205.3501743037255, rel=1e-14)


def test_the_commands_draw(tmp_path):
    run = CliRunner().invoke
    sweep().write(tmp_path / "grid.arrow")
    (tmp_path / "models.csv").write_text("model,accuracy,consumption\nmine,0.9,2\n")
    result = run(main, ["plot", str(tmp_path / "grid.arrow"), "--models", str(tmp_path / "models.csv")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "grid.png").stat().st_size > 10_000
    result = run(main, ["plot", str(tmp_path / "models.csv")])
    assert (result.exit_code, result.output[:7]) == (1, "Error: ")
    names = ["apc-grid", "apc-models-tx2"]
    result = run(main, ["figures", "-o", str(tmp_path / "out"), *[f"--only={name}" for name in names]])
    assert result.exit_code == 0, result.output
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == names
    result = run(main, ["figures", "-o", str(tmp_path / "out"), "--only=none"])
    assert (result.exit_code, result.output.startswith("Error: there is no figure 'none'. There are apc-default")) == (
        2,
        True,
    )


def test_the_metrics_command_scores_a_table(tmp_path):
    path = tmp_path / "models.csv"
    path.write_text("model,accuracy,consumption\nVGG-19,0.9056,10.4\nMobileNetV2,0.9454,8.88\n")
    run = CliRunner().invoke
    result = run(main, ["metrics", str(path), "--beta", "0.1", "--price", "0.00305", "--cost-beta", "50"])
    assert "0.759503" in result.output
    assert "0.786545" in result.output
    result = run(main, ["metrics", str(path), "--json"])
    assert '"model": "VGG-19"' in result.output
    # Without options alpha and beta are those of the metric, and costs are weighed as consumption is.
    assert [row["apc"] for row in json.loads(result.output)] == [fg.apc(10.4, 0.9056), fg.apc(8.88, 0.9454)]
    result = run(main, ["metrics", str(path), "--json", "--beta", "2", "--price", "0.5"])
    assert json.loads(result.output)[0]["apec"] == fg.apec(5.2, 0.9056, beta=2)
    for text, message in (
        ("model,accuracy,consumption\na,93.5,1\n", "percent"),
        ("model,consumption\na,1\n", "no column accuracy"),
        ("model,accuracy\na,0.5\n", "neither a column consumption nor cost"),
        ("model,accuracy,consumption\na,high,1\n", "accuracy must be numbers"),
        ("", "not a table"),
    ):
        path.write_text(text)
        result = run(main, ["metrics", str(path)])
        assert result.exit_code == 1
        assert message in result.output


TABLES = {
    "twice": ("model,accuracy,accuracy,consumption\nx,0.9,0.8,1\n", "two columns are called 'accuracy'"),
    "text": ("model,accuracy,consumption\nx,high,1\n", "accuracy must be numbers, and table.csv has string"),
    "truth": ("accuracy,consumption\n0.5,true\n", "consumption must be numbers, and table.csv has bool"),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("command", [["metrics", "table.csv"], ["plot", "grid.arrow", "--models", "table.csv"]])
def test_a_table_of_models_that_is_none_is_one_sentence(tmp_path, monkeypatch, kind, command):
    monkeypatch.chdir(tmp_path)
    text, words = TABLES[kind]
    Path("table.csv").write_text(text)
    fg.Sweep("apc", consumption=[0, 1], accuracy=[0, 1]).write("grid.arrow")
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1, done.exception
    assert words in done.output
    assert len(done.output.splitlines()) == 1


def test_models_without_numbers_are_shown_as_such_and_are_json(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("model,accuracy,consumption\nx,0.9,\ny,,nan\n")
    people = CliRunner().invoke(main, ["metrics", str(table)]).output
    assert [line.split() for line in people.splitlines()[1:]] == [["x", "0.9", "-", "nan"], ["y", "-", "-", "nan"]]
    rows = json.loads(CliRunner().invoke(main, ["metrics", str(table), "--json"]).output, parse_constant=pytest.fail)
    assert rows[0] == {"model": "x", "accuracy": 0.9, "consumption": None, "apc": None}
    table.write_text("accuracy,consumption\n")
    assert CliRunner().invoke(main, ["metrics", str(table), "--json"]).output == "[]\n"


def test_a_name_that_the_locale_cannot_write_is_escaped(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("model,accuracy,consumption\n\u00fcml,0.9,1\n")
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fastgreen", "metrics", str(table)]
    done = subprocess.run(command, env=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\\xfcml" in done.stdout


@pytest.mark.parametrize("option", ["alpha", "beta", "cost-beta", "price"])
def test_the_metrics_command_refuses_what_is_no_number(tmp_path, option):
    (tmp_path / "models.csv").write_text("model,accuracy,consumption\na,0.9,1\n")
    result = CliRunner().invoke(main, ["metrics", str(tmp_path / "models.csv"), f"--{option}", "nan"])
    assert result.exit_code == 2
    assert result.output == f"Error: {option} must be a number, not nan\n"


def test_no_two_of_many_points_look_the_same():
    for light, count in ((False, 500), (True, 390)):
        looks = [mark(place, light) for place in range(count)]
        assert len({tuple(look.values()) for look in looks}) == count
    with_fills = {(look["color"], look["marker"]) for look in map(mark, range(91))}
    assert len(with_fills) == 91, "colour and shape alone tell 91 apart"
    figure = plot.heat_map(sweep(), models=[(f"m{i}", 0.1 * i, 0.5) for i in range(40)])
    drawn = {(line.get_marker(), line.get_color(), line.get_fillstyle()) for line in figure.axes[0].lines}
    assert len(drawn) == 40


def test_a_model_keeps_its_shape_on_every_board():
    def shapes(name: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for line in published_figures.FIGURES[name]().axes[0].lines:
            if line.get_linestyle() == "None":
                found.setdefault(line.get_label().split(",")[0], set()).add((line.get_marker(), line.get_color()))
        return found

    alone, both = shapes("apc-models-tx2"), shapes("apc-models-tx2-gtx1060")
    assert alone == both
    assert len({look for looks in both.values() for look in looks}) == len(MODELS)
    axes = published_figures.FIGURES["apc-models-tx2-gtx1060"]().axes[0]
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert len({(line.get_marker(), line.get_fillstyle()) for line in points}) == 2 * len(MODELS)
    with pytest.raises(ValueError, match="kinds must be 1 names, one for each row, not 2"):
        plot.models([("a", 1.0, 0.5)], kinds=["a", "b"])


def test_the_backend_of_a_notebook_does_not_stop_a_file(tmp_path):
    code = (
        "import os, numpy, fastgreen as fg\n"
        "from fastgreen.experiment.statistics import dunn_holm\n"
        "from fastgreen.results.picture_style import load_matplotlib; load_matplotlib()\n"
        "assert os.environ['MPLBACKEND'] == 'no_such_backend'\n"
        f"fg.plot.curves([0, 1, 2], [0.5], path={str(tmp_path / 'a.png')!r})\n"
        "print(len(dunn_holm({'a': [1, 2, 3, 4], 'b': [7, 8, 9, 10]})))\n"
    )
    environment = {**os.environ, "MPLBACKEND": "no_such_backend"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, cwd=ROOT, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("seconds", "hz"), [(10, 100), (60, 100), (600, 100), (30, 1000), (2, 10)])
def test_the_bounds_of_a_picture_are_a_narrow_band(seconds, hz):
    from fastgreen.results.result_tables import picture_step_s
    from tests.oracles.long_runs import long_run

    run = long_run(seconds, hz=hz)
    step_s = picture_step_s(run)
    assert seconds / 500 <= step_s <= seconds / 2
    table = run.power(step_s)
    width = np.median(
        (table["power_high_w"].to_numpy() - table["power_low_w"].to_numpy()) / table["power_w"].to_numpy()
    )
    assert width < (0.5 if seconds * hz >= 1000 else 4)
    figure = fg.plot.power(run)
    assert len(figure.axes) == 2  # power, and the windows below


def test_a_window_at_the_very_end_is_drawn_and_wide_letters_take_little_room():
    from fastgreen.results.bounded import Windows
    from tests.oracles.long_runs import METADATA, long_run

    run = long_run(10, windows=0, names=())
    last = np.array([run.end_ns - 300])
    names = ("end", "\U0001f600" * 60, "\u5bc6" * 60, "a" * 24)
    windows = [Windows(name, place, last, last + 300) for place, name in enumerate(names)]
    figure = fg.plot.power(fg.Result(run.traces, windows, METADATA, run.start_ns, run.end_ns))
    below = figure.axes[1]
    for bars in below.collections:
        (box,) = (path.get_extents() for path in bars.get_paths())
        assert box.x1 <= 10.0 + 1e-9
        assert box.width >= 0.0099
    words = [text.get_text() for text in below.get_yticklabels()]
    assert words == ["end", "\U0001f600" * 12 + "...", "\u5bc6" * 12 + "...", "a" * 24]
