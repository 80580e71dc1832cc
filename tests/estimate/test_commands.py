"""The commands: from a model to joules in one, errors in one sentence, tables as JSON, pictures."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import fastgreen
from fastgreen.cli import main
from fastgreen.estimate.modelfile import default_models
from fastgreen.estimate.subsets import ablation, feature_names
from fastgreen.estimate.tables import Table
from tests.oracles.layer_data import ROOT, needs_data, tables
from tests.oracles.places import ROOT as PROJECT


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


def run_json(*arguments):
    result = CliRunner().invoke(main, [*(str(a) for a in arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_network_is_priced_with_a_range_warnings_and_whose_joules_they_are():
    text = run("estimate", "vgg16", "--batch", 32)
    assert "per inference" in text
    assert "predicted, not measured" in text
    assert "Xeon Gold 5120" in text
    assert "fastgreen collect" in text
    assert "warning: 3 of 39 layers are outside the range" in text
    found = run_json("estimate", "vgg16", "--batch", 32)
    assert found["energy_low_j"] < found["energy_j"] < found["energy_high_j"]
    assert len(found["layers"]) == 39
    assert found["energy_per_inference_j"] == pytest.approx(found["energy_j"] / 32)
    assert len(found["warnings"]) == 2


def test_estimating_needs_neither_scikit_learn_nor_torch():
    script = (
        "import sys\n"
        "for name in ('sklearn', 'scipy', 'joblib', 'torch', 'onnx', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "from fastgreen.cli import main\n"
        "main(['estimate', 'alexnet', '--batch', '4'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "per inference" in done.stdout


@pytest.mark.parametrize(
    ("module", "extra", "call"),
    [
        (
            "sklearn",
            "estimate",
            "from fastgreen.estimate.linear import FeatureSet, build_pipeline; build_pipeline(FeatureSet())",
        ),
        ("scipy", "estimate", "from fastgreen.estimate.prices import fit_prices; fit_prices(0, 1)"),
        ("joblib", "estimate", "from fastgreen.estimate.subsets import _run; _run([], [], [], 1)"),
        ("torch", "torch", "from fastgreen.estimate import from_torch; from_torch(None, (1,))"),
        ("torch", "torch", "from fastgreen.estimate.workload import torch_workload; torch_workload()"),
        ("onnx", "onnx", "from fastgreen.estimate import from_onnx; from_onnx('x.onnx')"),
        ("matplotlib", "plot", "from fastgreen.estimate.pictures import _figure; _figure(1, 1, 1, 1)"),
    ],
)
def test_a_missing_extra_is_named(module, extra, call):
    script = (
        f"import sys; sys.modules['{module}'] = None\ntry:\n    {call}\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert f"pip install 'fastgreen[{extra}]'" in done.stdout, done.stderr


def test_from_an_onnx_file_to_joules_per_inference_in_one_command(tmp_path):
    onnx = pytest.importorskip("onnx")
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    weights = {"w": (8, 3, 3, 3), "v": (5, 8 * 16 * 16)}
    graph = onnx.helper.make_graph(
        [node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
         node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", ["p"], ["f"]),
         node("Gemm", ["f", "v"], ["y"], transB=1)],
        "g", [info("x", 1, ["N", 3, "H", "W"])], [info("y", 1, None)],
        [onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    assert "--input-shape" in run("estimate", path, code=1)
    found = run_json("estimate", path, "--batch", 32, "--input-shape", "3,32,32")
    assert found["energy_per_inference_j"] > 0
    assert [layer["kind"] for layer in found["layers"]] == ["Conv2d", "ReLU", "MaxPool2d", "Reshape", "Linear"]


def test_a_grid_goes_to_arrow_and_opens_elsewhere(tmp_path):
    path = tmp_path / "grid.arrow"
    text = run("estimate", "alexnet", "--grid", "1:100", "-o", path)
    assert "80 more" in text
    with pa.ipc.open_file(path) as reader:
        table = reader.read_all()
    assert table["batch_size"].to_pylist() == list(range(1, 101))
    assert table.schema.field("energy_j").metadata == {b"unit": b"J"}
    assert b"Xeon" in table.schema.metadata[b"machine"]
    assert [row["batch_size"] for row in run_json("estimate", "alexnet", "--grid", "8,16")] == [8, 16]


def test_a_grid_says_whose_joules_it_holds_and_what_in_it_is_a_guess(tmp_path):
    path = tmp_path / "net.json"
    path.write_text('[{"kind": "Linear", "input_size": 9000, "output_size": 8}, {"kind": "Wavelet"}]')
    text = run("estimate", path, "--grid", "1:3", "-o", tmp_path / "g.arrow")
    assert "predicted, not measured" in text
    assert "100.0% to 100.0% of the energy is in layers outside the range" in text
    assert "1 layer is of an unknown kind (Wavelet); it counts as 0 J" in text
    with pa.ipc.open_file(tmp_path / "g.arrow") as reader:
        assert b"Wavelet" in reader.schema.metadata[b"warnings"]
    result = CliRunner().invoke(main, ["estimate", str(path), "--grid", "1:3", "--json"])
    assert len(json.loads(result.stdout)) == 3
    assert "Wavelet" in result.stderr


def test_a_grid_is_drawn_by_batch_size(tmp_path):
    pytest.importorskip("matplotlib")
    run("estimate", "alexnet", "--grid", "1:9", "--picture", tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("given", "why"), [
    (("--grid", "1:99999999999"), "more than 1000000 numbers"), (("--grid", "1:9:0"), "is not a range"),
    (("--grid", "1:99999999999999999999999"), "is not a range"), (("--grid", "5:1"), "STOP must be at least START"),
    (("--grid", "0:3"), "must be from 1 to"), (("--grid", "1,9999999999"), "must be from 1 to"),
    (("--grid", "1,x"), "is not a range"), (("--grid", "1:2:3:4"), "is not a range"),
    (("--batch", "0"), "not in the range"), (("--batch", "99999999999999999999"), "not in the range"),
    (("--accuracy", "nan"), "nan is not in the range"), (("--accuracy", "71"), "not in the range"),
    (("--input-shape", "3,x"), "must be whole numbers"), (("--input-shape", "0,3,3"), "must have sizes from 1"),
    (("--input-shape", "3,99999999999,3"), "not 99999999999"), (("--sweep", "a.arrow"), "needs --grid"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_is_done(given, why):
    assert why in run("estimate", "alexnet", *given, code=2)


def test_further_inputs_have_shapes_of_their_own(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    (tmp_path / "two_inputs.py").write_text(
        "import torch\n\nclass Two(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.words = torch.nn.Embedding(9, 4)\n"
        "    def forward(self, ids, scale):\n        return self.words(ids) * scale\n"
    )
    monkeypatch.chdir(tmp_path)
    found = run_json("estimate", "two_inputs:Two", "--input-shape", "5:int64", "--input-shape", "scale=5,4")
    assert [layer["kind"] for layer in found["layers"]] == ["Embedding", "Elementwise"]


def test_what_a_reader_warns_of_is_among_the_warnings(tmp_path):
    path = tmp_path / "net.json"
    path.write_text('[{"kind": "Lineal", "input_size": 9, "output_size": 8}, {"kind": "ReLU", "input_size": 8}]')
    assert "did you mean Linear?" in run_json("estimate", path)["warnings"][0]


def test_apc_by_accuracy_and_batch_size_goes_through_a_sweep(tmp_path):
    found = run_json("estimate", "alexnet", "--batch", 32, "--accuracy", 0.565)
    assert found["apc"] == pytest.approx(fastgreen.apc(found["consumption_wh"], 0.565))
    run("estimate", "alexnet", "--grid", "1:40", "--sweep", tmp_path / "apc.arrow")
    sweep = fastgreen.open_sweep(tmp_path / "apc.arrow")
    assert sweep.to_numpy().shape == (1, 1, 100, 40)
    assert sweep.axes["consumption"][31] == pytest.approx(found["consumption_wh"])
    assert "apc" in run("estimate", "alexnet", "--grid", "1:3", "--accuracy", 0.565)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["resnet1000"], 2, "model must be a file"), (["alexnet", "--batch", "0"], 2, "0 is not in the range"),
        (["alexnet", "--grid", "0:3"], 2, "must be from 1"),
        (["alexnet", "--grid", "x"], 2, "not a range"), (["alexnet", "--input-shape", "a,b"], 2, "whole numbers"),
        (["alexnet", "--accuracy", "76"], 2, "76"), (["alexnet", "--models", "no.json"], 1, "no.json"),
        (["alexnet", "--sweep", "x"], 2, "needs --grid"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(arguments, code, message):
    text = run("estimate", *arguments, code=code)
    assert message in text
    assert "Traceback" not in text


def test_an_impossible_layer_and_a_strict_unknown_one_are_named(tmp_path):
    path = tmp_path / "net.json"
    path.write_text('[{"kind": "Conv2d", "image_size": 3, "kernel_size": 5, "in_channels": 1, "out_channels": 1}]')
    assert "kernel of 5" in run("estimate", path, code=1)
    path.write_text('[{"kind": "Wavelet"}, {"kind": "ReLU", "input_size": 8}]')
    assert "counted as 0 J" in run("estimate", path)
    assert "Wavelet" in run("estimate", path, "--strict", code=1)


def test_models_of_another_version_are_refused(tmp_path):
    path = tmp_path / "models.json"
    default_models().save(path)
    assert "forward pass" in run("estimate", "alexnet", "--models", path)
    path.write_text(path.read_text().replace('"version": 1', '"version": 7'))
    assert "version 7" in run("estimate", "alexnet", "--models", path, code=1)


@needs_data
def test_fit_says_how_good_the_models_are_and_writes_them(tmp_path):
    found = run_json(
        "fit", ROOT, "-o", tmp_path / "models.json", "--machine", "that one", "--pictures", tmp_path / "pictures"
    )
    scores = {row["what"]: row for row in found["scores"]}
    assert scores["networks, all files"]["rows"] == 167
    assert scores["networks, all files"]["mape"] < 0.03
    assert round(scores["networks, layer-wise files"]["mac_r2"], 3) == 0.996
    assert round(scores["networks, layer-wise files"]["mac_mape"], 3) == 0.063
    assert scores["networks, their Conv2d"]["mac_mape"] > 0.25 > 0.05 > scores["networks, their Conv2d"]["mape"]
    assert all(scores[f"networks, their {kind}"]["in_range"] >= 0.85 for kind in ("Conv2d", "Linear", "ReLU"))
    assert next(iter(scores)).startswith("networks, their")
    assert found["terms"]["Conv2d"] == "library"
    assert scores["Conv2d, test rows"]["r2"] > 0.99
    assert found["machine"] == "that one"
    assert sorted(os.listdir(tmp_path / "pictures")) == ["layers.png", "networks.png"]
    assert run_json("estimate", "vgg11", "--models", tmp_path / "models.json")["machine"] == "that one"


@needs_data
def test_fit_says_that_one_price_per_product_is_nearly_as_good_for_networks():
    text = run("fit", ROOT, "--preset", "kernel")
    assert "One price per multiply-accumulate gives R² 0.996 and 6.3% over whole networks" in text
    assert "terms: Conv2d kernel" in text
    assert "by MACs alone" in text


@needs_data
def test_fit_of_the_published_preset_prints_the_published_figures():
    scores = {row["what"]: row["r2"] for row in run_json("fit", ROOT, "--preset", "published")["scores"]}
    assert round(scores["Conv2d, test rows"], 4) == 0.9977
    assert round(scores["networks, layer-wise files"], 3) == 0.352


def test_fit_of_a_folder_without_tables_is_one_sentence(tmp_path):
    assert "must hold layers.arrow" in run("fit", tmp_path, code=1)


def test_collect_measures_fits_and_estimates_end_to_end(tmp_path):
    pytest.importorskip("torch")
    plan = tmp_path / "plan.toml"
    plan.write_text(
        '[collect]\nseconds = 0.02\nrepeats = 1\nchannels = ["procstat:*"]\nthreads = 1\n'
        "[layer.Linear]\ncount = 12\nbatch_size = [1, 64]\ninput_size = [8, 512]\noutput_size = [8, 512]\n"
    )
    assert "12 configurations" in run("collect", plan, "-o", tmp_path / "layers", "--dry-run")
    assert not (tmp_path / "layers").exists()
    text = run("collect", plan, "-o", tmp_path / "layers")
    assert "12 rows" in text
    assert "estimated" in text
    assert "estimated" in run("fit", tmp_path / "layers", "-o", tmp_path / "models.json")
    (tmp_path / "net.json").write_text('[{"kind": "Linear", "input_size": 100, "output_size": 50}]')
    found = run_json("estimate", tmp_path / "net.json", "--models", tmp_path / "models.json", "--batch", 16)
    assert found["energy_j"] >= 0
    assert any("estimated energies" in warning for warning in found["warnings"])


def small_table(rows=120):
    rng = np.random.default_rng(4)
    sizes = {name: rng.integers(1, 60, rows) for name in ("batch_size", "input_size", "output_size")}
    energy = np.prod(list(sizes.values()), axis=0) * 1e-6 + 0.01 * rng.random(rows) + 0.01
    return Table("Linear", sizes, energy)


@pytest.mark.parametrize("degree", [1, 2])
def test_ablation_equals_fitting_each_subset_with_scikit_learn(degree):
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    from fastgreen.estimate.evaluate import score
    from fastgreen.estimate.linear import SETS, features
    from fastgreen.estimate.prices import folds

    table = small_table()
    names = feature_names(table)
    x = features(table.sizes, "Linear", tuple(table.sizes), SETS)
    found = ablation(table, degree=degree, most=3, jobs=1)
    assert found.num_rows == 7 + 21 + 35
    fold = folds(len(table))
    for row in found.to_pylist()[::7]:
        columns = x[:, [names.index(name) for name in row["features"]]]
        predicted = np.empty(len(table))
        for part in range(5):
            model = make_pipeline(StandardScaler(), PolynomialFeatures(degree), LinearRegression())
            predicted[fold == part] = model.fit(columns[fold != part], table.energy_j[fold != part]).predict(
                columns[fold == part]
            )
        assert row["r2"] == pytest.approx(score(table.energy_j, predicted).r2, abs=1e-8)
        assert row["size"] == len(row["features"])
    r2 = found["r2"].to_numpy()
    assert (np.diff(r2) <= 0).all()


def test_ablation_is_the_same_on_one_process_and_on_two():
    one, two = (ablation(small_table(), jobs=jobs) for jobs in (1, 2))
    assert one.equals(two)


def test_ablation_is_bounded():
    table = small_table()
    with pytest.raises(ValueError, match="most"):
        ablation(table, most=0)
    with pytest.raises(ValueError, match="degree"):
        ablation(table, degree=3)
    constant = Table("ReLU", {"batch_size": np.full(20, 3), "input_size": np.full(20, 4)}, np.arange(1.0, 21))
    with pytest.raises(ValueError, match=r"a feature of .* must vary"):
        ablation(constant)


@needs_data
def test_ablation_command_tries_every_subset(tmp_path):
    found = run_json("ablation", ROOT, "--kind", "Linear", "-o", tmp_path, "--picture", tmp_path / "a.png")
    assert found["Linear"][0]["r2"] > 0.998
    with pa.ipc.open_file(tmp_path / "linear.arrow") as reader:
        assert reader.read_all().num_rows == 127
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert "Wavelet" in run("ablation", ROOT, "--kind", "Wavelet", code=2)
    assert len(tables()) == 7


def test_pictures_show_what_they_were_given(tmp_path):
    from fastgreen.estimate.builtin import zoo
    from fastgreen.estimate.network import Network
    from fastgreen.estimate.pictures import draw_ablation, draw_predicted, draw_shares

    measured = np.array([1.0, 2.0, 4.0])
    figure = draw_predicted({"good": (measured, measured), "bad": (measured, np.array([-1.0, 2.0, 4.0]))})
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title().splitlines()[0] for axis in panels] == ["good", "bad"]
    assert "R² 1.0000" in panels[0].get_title()
    assert panels[1].texts[0].get_text() == "1 predicted below 0 J"
    shares = draw_shares({name: Network(zoo(name)).estimate(8) for name in ("alexnet", "vgg11")})
    widths = [
        sum(bar.get_width() for bar in bars if round(bar.get_y() + 0.35) == 0) for bars in shares.axes[0].containers
    ]
    assert sum(widths) == pytest.approx(1)
    assert len(draw_ablation({"Linear": ablation(small_table(), jobs=1)}).axes) == 2
    for empty in (draw_predicted, draw_shares, draw_ablation):
        with pytest.raises(ValueError, match="must have at least one entry"):
            empty({})


@pytest.mark.parametrize("spread", [0.01, 1.0, 1e4])
def test_numbers_on_the_axes_of_an_ablation_do_not_run_into_each_other(spread):
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from fastgreen.estimate.pictures import draw_ablation

    left = 0.3 / (1 + spread) ** np.linspace(0, 1, 4)
    table = pa.table({"features": [["macs"] * n for n in range(4, 0, -1)], "size": [4, 3, 2, 1], "r2": 1 - left[::-1]})
    figure = draw_ablation({"Tanh": table})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axis in figure.axes:
        low, high = axis.get_xlim()
        shown = [(at, text) for at, text in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
                 if low <= at <= high and text.get_text()]  # fmt: skip
        boxes = [text.get_window_extent(canvas.get_renderer()) for _, text in sorted(shown, key=lambda pair: pair[0])]
        assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))
        assert not any(text.get_text() for text in axis.get_xticklabels(minor=True))
