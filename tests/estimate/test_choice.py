"""The set of work terms is chosen by cross-validation on the table itself, on made-up machines of several makes."""

import numpy as np
import pytest

from fastgreen.estimate.builtin import zoo
from fastgreen.estimate.choice import candidates, choose_terms, held_out_errors
from fastgreen.estimate.modelfile import ModelSet, fit_physical
from fastgreen.estimate.network import Network
from fastgreen.estimate.physical import PhysicalModel
from fastgreen.estimate.prices import alike_folds
from fastgreen.estimate.tables import Table
from tests.oracles.layer_data import needs_data, tables
from tests.oracles.made_up_laws import BOARD, LAWS, SERVER, measured, network_j


def error(model, law, ranges):
    """Mean error on 300 layers that were not fitted on, without noise."""
    fresh = measured(law, model.kind, ranges, seed=6, noise=0)
    return float(np.mean(np.abs(model.predict_j(fresh.sizes) / fresh.energy_j - 1)))


@pytest.mark.parametrize(("law", "most"), [
    ("products, bytes and calls", 0.02), ("dear bytes", 0.02), ("cheap bytes", 0.02), ("two caches", 0.07),
    ("GPU with a launch", 0.02), ("GPU with a launch floor", 0.10),
])  # fmt: skip
def test_small_convolutions_of_any_machine_are_predicted_though_the_longest_set_errs(law, most):
    table = measured(law, "Conv2d", BOARD)
    longest = max(candidates(table), key=lambda which: len(PhysicalModel.fit(table, which).prices))
    chosen = PhysicalModel.fit(table)
    assert error(chosen, law, BOARD) < most
    assert error(chosen, law, BOARD) < error(PhysicalModel.fit(table, longest), law, BOARD)


def test_kernel_terms_are_far_off_where_another_library_convolves():
    table = measured("cheap bytes", "Conv2d", BOARD)
    assert error(PhysicalModel.fit(table, "kernel"), "cheap bytes", BOARD) > 0.3
    assert error(PhysicalModel.fit(table), "cheap bytes", BOARD) < 0.01


@pytest.mark.parametrize("law", list(LAWS))
def test_a_network_on_any_machine_is_within_a_tenth_by_layers_measured_there(law):
    models = fit_physical({kind: measured(law, kind, SERVER) for kind in SERVER})
    layers = [layer for layer in zoo("vgg11") if layer.kind in SERVER]
    energy = Network(layers, "vgg11", models).energy_j([1, 16, 64])[0].sum(axis=0)
    truth = np.array([network_j(law, "vgg11", batch) for batch in (1, 16, 64)])
    np.testing.assert_allclose(energy, truth, rtol=0.10)


def test_the_set_that_was_taken_for_its_length_is_15_percent_off_on_vgg11():
    law = "dear bytes"
    measured_tables = {kind: measured(law, kind, SERVER) for kind in SERVER}
    layers = [layer for layer in zoo("vgg11") if layer.kind in SERVER]
    by_length = ModelSet({kind: PhysicalModel.fit(table, "kernel") for kind, table in measured_tables.items()})
    energy = Network(layers, "vgg11", by_length).estimate(64).energy_j
    assert energy / network_j(law, "vgg11", 64) - 1 == pytest.approx(-0.154, abs=0.005)


@pytest.mark.parametrize("rows", [12, 25, 60, 150])
def test_short_tables_get_a_set_that_holds_for_layers_not_measured(rows):
    law = "products, bytes and calls"
    model = PhysicalModel.fit(measured(law, "Linear", SERVER, count=rows))
    assert error(model, law, SERVER) < 0.06


def test_the_choice_is_the_same_each_time_and_for_rows_in_another_unit():
    table = measured("two caches", "Conv2d", SERVER)
    in_kwh = Table(table.kind, table.sizes, table.energy_j / 3.6e6)
    assert choose_terms(table) == choose_terms(table) == choose_terms(in_kwh) == "caches"


def test_the_simplest_set_within_one_standard_error_of_the_best_is_taken():
    for law in LAWS:
        table = measured(law, "MaxPool2d", SERVER)
        errors = {which: held_out_errors(table, which) for which in candidates(table)}
        best = min(errors.values(), key=np.mean)
        for which, found in errors.items():
            more = found - best
            within = more.mean() <= more.std(ddof=1) / np.sqrt(len(more))
            if which == choose_terms(table):
                assert within
                break
            assert not within


def test_folds_of_alike_layers_are_of_one_size_and_hold_neighbours_together():
    table = measured("dear bytes", "Conv2d", SERVER)
    fold = alike_folds(table)
    counts = np.bincount(fold)
    assert len(counts) == 8
    assert counts.max() - counts.min() <= 1
    sizes = np.log1p(table.matrix())
    within = np.mean([sizes[fold == part].var(axis=0).sum() for part in range(8)])
    assert within < 0.8 * sizes.var(axis=0).sum()


def test_equal_layers_and_layers_of_one_size_are_folded_too():
    same = {"batch_size": np.full(50, 4), "input_size": np.full(50, 9)}
    assert set(alike_folds(Table("ReLU", same, np.linspace(1, 2, 50)))) == set(range(5))
    one = {"batch_size": np.arange(1, 51), "input_size": np.full(50, 9)}
    for seed in range(8):
        table = Table("ReLU", one, 1e-3 * np.arange(1.0, 51) * np.random.default_rng(seed).normal(1, 0.01, 50))
        assert choose_terms(table) == "basic"


@needs_data
def test_the_published_tables_get_the_terms_of_the_library_that_they_were_measured_with():
    found = {kind: choose_terms(table) for kind, table in tables().items()}
    assert found == {
        "Conv2d": "library", "Linear": "library", "MaxPool2d": "kernel", "ReLU": "kernel", "Sigmoid": "kernel",
        "Tanh": "kernel", "Softmax": "kernel",
    }  # fmt: skip
