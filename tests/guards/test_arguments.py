"""Arguments of the wrong type: a sentence that names the argument, from every door of the package."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.guards.arguments import number, path_text
from tests.fuzz.saved import save_a_run

ODD = [None, b"x", 3, 2.5, math.nan, -1, [1], {}, object(), True, 10**400, lambda: 0, 1j, np.array([1, 2])]
SWEEP = {"consumption": [1.0], "accuracy": [0.5]}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arguments") / "run"
    save_a_run(folder)
    return fg.load(folder)


PATHS = {
    "path of load": lambda result, v: fg.load(v),
    "path of save": lambda result, v: result.save(v),
    "path of open_sweep": lambda result, v: fg.open_sweep(v),
    "path of write": lambda result, v: fg.Sweep("apc", **SWEEP).write(v),
    "record": lambda result, v: fg.Monitor(record=v if v is not None else 3),
    "powercap_root": lambda result, v: fg.Monitor(powercap_root=v if v is not None else 3),
}


@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("door", PATHS)
def test_what_is_no_path_is_said_by_the_arguments_name(result, door, value):
    with pytest.raises(TypeError, match=f"^{door.split()[0]} must be a path, not "):
        PATHS[door](result, value)


NO_NUMBERS = [None, b"x", "x", [1], {}, object(), lambda: 0, 1j, np.array([1, 2])]
NUMBERS = {
    "timeout": lambda monitor, v: monitor.wait(v if v is not None else "x"),
    "accuracy": lambda monitor, v: monitor.checkpoint(v),
    "loss": lambda monitor, v: monitor.checkpoint(0.5, loss=v),
    "seen": lambda monitor, v: monitor.checkpoint(0.5, seen=v if v is not None else "x"),
    "epoch": lambda monitor, v: monitor.checkpoint(0.5, epoch=v if v is not None else "x"),
    "low": lambda monitor, v: fg.Sweep("apc", **SWEEP).where(v, 1.0),
    "high": lambda monitor, v: fg.Sweep("apc", **SWEEP).where(0.0, v),
}


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_said_by_the_arguments_name(name, value):
    with fg.Monitor() as monitor, pytest.raises(TypeError, match=f"^{name} must be a number, not "):
        NUMBERS[name](monitor, value)


@pytest.mark.parametrize("name", NUMBERS)
def test_an_integer_that_no_float_can_hold_is_a_sentence(name):
    with fg.Monitor() as monitor, pytest.raises(ValueError, match=f"^{name} must be a number that a float can hold"):
        NUMBERS[name](monitor, 10**5000)


def test_huge_integers_are_sentences_everywhere(result):
    for call in (
        lambda v: result.power(v),
        lambda v: fg.Monitor(speed=v),
        lambda v: fg.Monitor(estimate=(v, v)),
        lambda v: fg.apc(v, 0.5),
        lambda v: fg.closest_apc(1.0, 0.5, consumption_delta=v),
    ):
        with pytest.raises(ValueError, match="must"):
            call(10**400)


@pytest.mark.parametrize("metric", [[1], {}, None, np.array([1, 2])])
def test_a_metric_that_is_no_text_is_a_sentence(metric):
    with pytest.raises(ValueError, match="metric must be one of"):
        fg.Sweep(metric, **SWEEP)


@pytest.mark.parametrize("backend", [None, 3, object()])
def test_a_backend_without_its_methods_is_a_sentence(backend):
    with fg.Monitor() as monitor, pytest.raises(TypeError, match="backend must have the methods create, record"):
        monitor.gpu_window("w", backend)


def test_numbers_of_numpy_and_paths_of_pathlib_are_taken(tmp_path):
    assert number("x", np.float32(2)) == 2.0
    assert number("x", np.array(3)) == 3.0
    assert number("x", True) == 1.0
    assert math.isnan(number("x", math.nan))
    assert path_text("x", tmp_path) == str(tmp_path)
    assert path_text("x", Path("a")) == "a"
