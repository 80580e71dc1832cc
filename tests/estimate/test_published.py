"""The published predictors: their split, their figures, and why they must be scaled."""

import json

import numpy as np
import pytest

from fastgreen.errors import TraceError
from fastgreen.estimate.evaluate import cross_validate, networks, networks_by_layer, score, split_scores
from fastgreen.estimate.linear import FeatureSet, LinearModel, build_pipeline, features
from fastgreen.estimate.modelfile import ModelSet, load_models
from fastgreen.estimate.physical import PhysicalModel
from fastgreen.estimate.published import PRESET, fit_published, split
from fastgreen.estimate.tables import Table, read_networks, read_table, read_tables
from tests.oracles.layer_data import ALL_NETWORKS, LAYERWISE, ROOT, needs_data, tables

# Test R^2 as published, four decimals.
PUBLISHED_R2 = {
    "Conv2d": 0.9977, "MaxPool2d": 0.9995, "Linear": 0.9992, "ReLU": 0.9812, "Sigmoid": 0.9905, "Tanh": 0.9761,
    "Softmax": 0.9913,
}  # fmt: skip


@needs_data
@pytest.mark.parametrize("kind", list(PUBLISHED_R2))
def test_the_split_is_that_of_pandas(kind):
    pandas = pytest.importorskip("pandas")
    table = tables()[kind]
    shuffled = pandas.read_csv(table.source).sample(frac=1, random_state=1234)
    cuts = int(0.7 * len(table)), int(0.9 * len(table))
    expected = np.split(shuffled["cpu_energy"].to_numpy() * 3.6e6, cuts)
    for part, energy in zip(split(table), expected, strict=True):
        np.testing.assert_array_equal(part.energy_j, energy)


@needs_data
def test_published_test_r2_to_four_decimals_for_all_seven():
    found = split_scores(tables())
    assert {kind: round(one.r2, 4) for kind, one in found.items()} == PUBLISHED_R2


@needs_data
def test_published_models_fail_on_real_networks_as_published():
    models = ModelSet(fit_published(tables()))
    measured = read_networks(*LAYERWISE)
    found = networks(measured, models, stand_ins=False)
    assert len(measured) == 62
    assert round(score(found["measured_j"], found["predicted_j"]).r2, 3) == 0.352
    by_layer = {
        kind: score(*pair).r2 for kind, pair in networks_by_layer(measured, models).items() if kind in models.models
    }
    assert {kind: float(f"{r2:.3g}") for kind, r2 in by_layer.items()} == {
        "Conv2d": 0.314, "MaxPool2d": 0.559, "Linear": 0.977, "ReLU": -21.5,
    }  # fmt: skip


@needs_data
def test_networks_are_gathered_over_files_and_repeats():
    assert len(read_networks(*ALL_NETWORKS)) == 167
    every = {(n.name, n.batch_size): n for n in read_networks(*LAYERWISE, repeats="all")}
    agreeing = {(n.name, n.batch_size): n for n in read_networks(*LAYERWISE)}
    assert sum(n.dropped for n in every.values()) == 0
    assert sum(n.dropped for n in agreeing.values()) == 50
    # One repeat of three lost more than half of its energy to a counter wrap.
    assert every["vgg11", 22].energy_j < 0.85 * agreeing["vgg11", 22].energy_j


@needs_data
def test_raw_columns_are_ill_conditioned_and_the_pipelines_are_not():
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import PolynomialFeatures

    for kind in ("Sigmoid", "Tanh", "Softmax"):
        train, _, test = split(tables()[kind])
        names, chosen = tuple(train.sizes), PRESET[kind]
        x = features(train.sizes, kind, names, chosen.sets)
        expand = PolynomialFeatures(2, interaction_only=chosen.interaction_only)
        scaled = build_pipeline(chosen).fit(x, train.energy_j)[:-1].transform(x)
        raw = expand.fit_transform(x)
        assert raw.max() / raw[raw > 0].min() > 1e9
        assert np.linalg.cond(raw) > 1e9
        assert np.linalg.cond(np.column_stack([np.ones(len(x)), scaled])) < 20
        unscaled = LinearRegression().fit(raw, train.energy_j)
        predicted = unscaled.predict(expand.transform(features(test.sizes, kind, names, chosen.sets)))
        # Least squares on the raw columns cuts off small singular values and so gives another fit.
        assert round(score(test.energy_j, predicted).r2, 4) != PUBLISHED_R2[kind]


@needs_data
@pytest.mark.parametrize("kind", list(PUBLISHED_R2))
def test_a_saved_model_predicts_as_the_pipeline_it_came_from(kind, tmp_path):
    train, _, test = split(tables()[kind])
    names, chosen = tuple(train.sizes), PRESET[kind]
    pipeline = build_pipeline(chosen).fit(features(train.sizes, kind, names, chosen.sets), train.energy_j)
    expected = pipeline.predict(features(test.sizes, kind, names, chosen.sets))
    path = tmp_path / "models.json"
    ModelSet({kind: LinearModel.fit(train, chosen)}, machine="here").save(path)
    loaded = load_models(path)
    assert loaded.machine == "here"
    np.testing.assert_allclose(loaded.models[kind].predict_j(test.sizes), expected, rtol=1e-9, atol=1e-9)
    assert loaded.models[kind].ranges["batch_size"][0] >= 1


def a_table(rows=40, **change):
    rng = np.random.default_rng(3)
    sizes = {
        "batch_size": rng.integers(1, 64, rows),
        "input_size": rng.integers(1, 99, rows),
        "output_size": rng.integers(1, 99, rows),
    }
    energy = 1e-9 * sizes["batch_size"] * sizes["input_size"] * sizes["output_size"] + 1e-6
    return Table("Linear", **{"sizes": sizes, "energy_j": energy, **change})


@pytest.mark.parametrize(
    "chosen", [FeatureSet(("macs",)), FeatureSet(("parameters",), 3), FeatureSet(("parameters", "log1p", "macs"), 2)]
)
def test_cross_validation_scores_every_row_once(chosen):
    found = cross_validate(a_table(), chosen)
    assert found.rows == 40
    assert found.r2 <= 1


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
def test_a_model_file_of_another_version_is_refused(tmp_path, version):
    path = tmp_path / "models.json"
    ModelSet({"Linear": LinearModel.fit(a_table(), FeatureSet())}).save(path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "version": version}))
    with pytest.raises(TraceError, match="reads version 1"):
        load_models(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "fastgreen-estimate", "version": 1}', "\x80\x04pickle"])
def test_a_damaged_model_file_is_a_trace_error(tmp_path, text):
    path = tmp_path / "models.json"
    path.write_text(text)
    with pytest.raises(TraceError, match="models"):
        load_models(path)


def physical_document():
    return ModelSet({"Linear": PhysicalModel.fit(a_table(), "basic")}, "here")


def linear_document():
    return ModelSet({"Linear": LinearModel.fit(a_table(), FeatureSet(("parameters",), 2))}, "here")


@pytest.mark.parametrize(("make", "change", "why"), [
    (physical_document, {"machine": 3}, "machine must be text, not '3'"),
    (physical_document, {"estimated": "false"}, "estimated must be true or false, not 'false'"),
    (physical_document, {"models": {}}, "models must have at least one"),
    (physical_document, {"models.Lineal": {}}, "models must be of .* not 'Lineal'"),
    (physical_document, {"models.LSTM": {}}, "models must be of .* not 'LSTM'"),
    (physical_document, {"models.Linear.prices.macs": "1"}, "macs must be a number .* not 1"),
    (physical_document, {"models.Linear.prices.macs": True}, "macs must be a number .* not True"),
    (physical_document, {"models.Linear.prices.macs": -1.0}, "macs must be .* not -1"),
    (physical_document, {"models.Linear.prices.macs": 1e308}, "macs must be .* not 1e\\+308"),
    (physical_document, {"models.Linear.prices.macs": float("nan")}, "macs must be .* not nan"),
    (physical_document, {"models.Linear.terms": ["kernel"]}, "TypeError|terms"),
    (physical_document, {"models.Linear.terms": "mine"}, "terms must be one of basic, .*, library, not 'mine'"),
    (physical_document, {"models.Linear.ranges.input_size": [5, 1]}, "input_size must be a number from 5 .* not 1"),
    (physical_document, {"models.Linear.ranges.input_size": [1, float("inf")]}, "input_size must be .* not inf"),
    (physical_document, {"models.Linear.ranges.input_size": [10**400, 10**400]}, "input_size must be .* not 1000"),
    (physical_document, {"models.Linear.ranges.depth": [1, 2]}, "sizes of Linear, not 'depth'"),
    (physical_document, {"models.Linear.ranges": {}}, "ranges of Linear must include batch_size"),
    (physical_document, {"models.Linear.residual": [2.0, 1.0]}, "residual must be .* not 2"),
    (physical_document, {"models.Linear.residual": [1.0]}, "not enough values"),
    (physical_document, {"models.Linear.rows": 1e400}, "rows must be .* not inf"),
    (linear_document, {"models.Linear.names": ["batch_size"]}, "names must be .* not batch_size"),
    (linear_document, {"models.Linear.coefficients": [float("inf")]}, "coefficients must be .* not inf"),
    (linear_document, {"models.Linear.coefficients": []}, "powers must have the shape"),
    (linear_document, {"models.Linear.scale": [0, 0, 0]}, "scale must not be 0"),
    (linear_document, {"models.Linear.mean": []}, "powers must have the shape"),
    (linear_document, {"models.Linear.degree": 99}, "degree must be .* not 99"),
    (linear_document, {"models.Linear.powers": [[10**9] * 3] * 9}, "powers must be .* not 1000000000"),
    (linear_document, {"models.Linear.intercept": None}, "intercept must be .* not None"),
    (linear_document, {"models.Linear.spread_j": -1}, "spread_j must be .* not -1"),
])  # fmt: skip
def test_a_model_file_that_was_tampered_with_is_refused_with_what_is_wrong(tmp_path, make, change, why):
    path = tmp_path / "models.json"
    make().save(path)
    document = json.loads(path.read_text())
    for place, value in change.items():
        *parents, last = place.split(".")
        inner = document
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    path.write_text(json.dumps(document))
    with pytest.raises(TraceError, match=f"damaged model file .*({why})"):
        load_models(path)


def test_constant_energy_is_refused():
    table = a_table(energy_j=np.full(40, 0.25))
    for fit in (PhysicalModel.fit, lambda t: LinearModel.fit(t, FeatureSet())):
        with pytest.raises(ValueError, match=r"0\.25 J in every row"):
            fit(table)


def test_too_few_rows_and_energies_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="at least 10 rows to fit on, not 3"):
        LinearModel.fit(a_table(rows=3), FeatureSet())
    with pytest.raises(ValueError, match="must be finite, unlike row 4"):
        a_table(energy_j=np.where(np.arange(40) == 4, np.nan, np.arange(40.0)))


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "linear.csv"
    path.write_text("batch_size,input_size,cpu_energy\n" + "1,2,0.1\n" * 12)
    with pytest.raises(ValueError, match="must have a column 'output_size'"):
        read_table(path)


def test_a_folder_without_tables_and_a_network_file_that_is_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"conv2d\.csv"):
        read_tables(tmp_path)
    path = tmp_path / "x.csv"
    path.write_text("project_name,cpu_energy\nhello,1.0\n")
    with pytest.raises(TraceError, match="hello"):
        read_networks(path)


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import mean_absolute_percentage_error, mean_squared_error, r2_score

    rng = np.random.default_rng(5)
    y, p = rng.uniform(1, 9, 50), rng.uniform(1, 9, 50)
    found = score(y, p)
    assert found.r2 == pytest.approx(r2_score(y, p))
    assert found.mse == pytest.approx(mean_squared_error(y, p))
    assert found.mape == pytest.approx(mean_absolute_percentage_error(y, p))


@needs_data
def test_no_published_row_is_left_out():
    assert {path.name for path in ROOT.glob("*.csv")} >= {"conv2d.csv", "02_architectures-raw.csv"}
    assert [len(t) for t in tables().values()] == [976, 985, 992, 988, 489, 491, 493]


@pytest.mark.parametrize(("text", "why"), [
    ("", "not a table"), ("\xff\xfe", "not a table"), ("batch_size,input_size,cpu_energy\n1,2\n", "not a table"),
    ("batch_size,input_size,cpu_energy\n1,x,3\n", "input_size must be a whole number, not 'x'"),
    ("batch_size,input_size,cpu_energy\n1,1.5,3\n", "input_size must be a whole number, not 1.5"),
    ("batch_size,input_size,cpu_energy\n1,99999999999999999999,3\n", "input_size must be"),
    ("batch_size,input_size,cpu_energy\n1,,3\n", "input_size must be"),
    ("batch_size,input_size,cpu_energy\n1,2,x\n", "'cpu_energy' must hold numbers"),
    ("batch_size,input_size,cpu_energy\n1,2,\n", "must be finite, unlike row 0"),
])  # fmt: skip
def test_a_table_that_is_damaged_is_refused_with_its_file_and_column(tmp_path, text, why):
    path = tmp_path / "relu.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=rf"relu\.csv.*{why}"):
        read_table(path)


@pytest.mark.parametrize(("row", "why"), [
    ("module:ReLU,rep_no:1,macs:1,batch_size:1,freeText:architecture=a;layer_idx=0,forward_passes:0\",1",
     "cannot be parsed"),
    ("module:ReLU,rep_no:1,macs:1,batch_size:1,freeText:architecture=a;layer_idx=0,forward_passes:2\",",
     "must be finite"),
    ("\",1", "cannot be parsed"),
])  # fmt: skip
def test_a_row_of_a_network_that_cannot_be_is_refused_with_its_file(tmp_path, row, why):
    path = tmp_path / "01_architectures-raw.csv"
    path.write_text(f'project_name,cpu_energy\n"{row}\n')
    with pytest.raises(ValueError, match=rf"architectures-raw\.csv.*{why}"):
        read_networks(path)
