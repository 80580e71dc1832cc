"""Plans of a collection: which configurations are drawn, and which plans cannot be."""

import itertools
import math
import time

import numpy as np
import pytest

from fastgreen.errors import TraceError
from fastgreen.estimate.layers import complete
from fastgreen.estimate.plain import from_file
from fastgreen.estimate.sampling import allowed, configurations, plan_from, read_plan

CONV = {
    "count": 200, "batch_size": [1, 256], "image_size": [4, 40], "kernel_size": [1, 11], "in_channels": [1, 8],
    "out_channels": [1, 8], "stride": [1, 5], "padding": [0, 3],
    "rules": ["kernel_size <= image_size", "stride <= image_size"],
}  # fmt: skip


def draw(kind, section, seed=1, **options):
    return configurations(kind, section, np.random.default_rng(seed), **options)


def test_random_configurations_are_possible_distinct_and_within_ranges_and_rules():
    found = draw("Conv2d", CONV)
    assert len({tuple(one.values()) for one in found}) == 200
    for one in found:
        complete("Conv2d", one)
        assert one["kernel_size"] <= one["image_size"]
        assert all(CONV[name][0] <= one[name] <= CONV[name][1] for name in one)
    assert found == draw("Conv2d", CONV)
    assert found != draw("Conv2d", CONV, seed=2)


def test_a_grid_has_every_combination_that_is_possible():
    section = {"sample": "grid", "batch_size": {"values": [1, 4]}, "input_size": [7, 9], "output_size": 3}
    found = draw("Linear", section)
    assert [tuple(one.values()) for one in found] == list(itertools.product([1, 4], [7, 8, 9], [3]))
    pool = {"sample": "grid", "batch_size": 1, "image_size": [1, 4], "in_channels": 2, "kernel_size": [1, 4]}
    assert len(draw("MaxPool2d", pool)) == 10


def test_layers_larger_than_the_limit_are_left_out():
    section = {"count": 50, "batch_size": [1, 512], "input_size": [1, 5000], "output_size": [1, 5000]}
    for one in draw("Linear", section, most_bytes=1e7):
        b, i, o = one["batch_size"], one["input_size"], one["output_size"]
        assert 4 * (b * i + b * o + i * o) <= 1e7


def test_a_logarithmic_range_draws_each_decade_alike():
    section = {"count": 3000, "batch_size": 1, "input_size": {"low": 1, "high": 99_999, "log": True}}
    decades = np.bincount([int(math.log10(one["input_size"])) for one in draw("ReLU", {**section, "count": 2000})])
    assert decades[2:].min() > 0.6 * decades[2:].max()


@pytest.mark.parametrize(
    ("rule", "sizes", "truth"),
    [
        ("a <= b + 2 * c", {"a": 5, "b": 1, "c": 2}, True),
        ("1 < a < 3", {"a": 3}, False),
        ("a % 2 == 0 or a // 4 == 1", {"a": 5}, True),
    ],
)
def test_a_rule_compares_whole_number_expressions(rule, sizes, truth):
    assert allowed(rule, sizes) is truth


@pytest.mark.parametrize(
    "rule", ["__import__('os')", "a", "a + 1", "a.b > 1", "a > 1.5", "'x' < a", "a >", "[a] == a", "(lambda: 1) == a"]
)
def test_a_rule_can_do_nothing_else(rule):
    with pytest.raises(ValueError, match=r"rule"):
        allowed(rule, {"a": 1})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "nothing to collect"),
        ({"collect": {"second": 1}, "layer": {"ReLU": {}}}, "no key 'second'"),
        ({"collect": {"seconds": 0}, "layer": {"ReLU": {}}}, "seconds must be more than 0"),
        ({"collect": {"repeats": 0}, "layer": {"ReLU": {}}}, "repeats must be"),
        ({"layer": {"Wavelet": {}}}, "kind must be one of .* not 'Wavelet'"),
        ({"colect": {}, "layer": {"ReLU": {}}}, r"not \[colect\]"),
        ({"collect": 3, "layer": {"ReLU": {}}}, r"\[collect\] must be a section, not 3"),
        ({"layer": 3}, r"\[layer.KIND\] must be a section"), ({"layer": {"ReLU": 3}}, r"\[layer.ReLU\] must be a"),
        *(({"collect": {"seconds": bad}, "layer": {"ReLU": {}}}, "seconds must be more than 0 and finite")
          for bad in ("abc", -1, float("inf"), float("nan"), True)),
        *(({"collect": {"repeats": bad}, "layer": {"ReLU": {}}}, "repeats must be") for bad in (True, 1.5, "3", 2**60)),
        *(({"collect": {"seed": bad}, "layer": {"ReLU": {}}}, "seed must be") for bad in (-1, "x")),
        *(({"collect": {"threads": bad}, "layer": {"ReLU": {}}}, "threads must be") for bad in (0, "x")),
        *(({"collect": {"channels": bad}, "layer": {"ReLU": {}}}, "channels must be") for bad in (3, [3])),
        *(({"collect": {"device": bad}, "layer": {"ReLU": {}}}, "device must be cpu") for bad in ("foo", 3, "cuda:x")),
        *(({"layer": {"ReLU": {"count": bad, "batch_size": 1, "input_size": [1, 9]}}}, "count of 1 to")
          for bad in (True, -1, "3", 99_999_999)),
        *(({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": bad}}}, "ReLU.input_size")
          for bad in (True, -4, 2**60, [1, 2**60], [1.5, 2], {"values": 3}, {"values": [1, "a"]}, {"values": [True]},
                      {"values": [1], "log": True}, {"low": 1, "high": 2, "log": "x"})),
        ({"layer": {"ReLU": {"sample": "grid", "count": "x", "batch_size": 1, "input_size": 3}}}, "count of 1 to"),
        ({"layer": {"ReLU": {"sample": "grid", "batch_size": 0, "input_size": 3}}}, "no point of the grid"),
        ({"layer": {"Tanh": {"count": 1, "batch_size": 1, "input_size": 3, "inplace": 1}}}, "no size 'inplace'"),
        *(({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": 3, "rules": bad}}}, why) for bad, why in (
            ("input_size > 3", "list of strings"), ([3], "list of strings"),
            (["input_size // 0 > 1"], "must not divide by 0"),
            (["(" * 5000 + "1" + ")" * 5000 + " > 0"], "at most 500 characters"),
            (["input_size > 1\x00"], "expression"), (["(" * 240 + "1" + ")" * 240 + " > 0"], "is not an expression"),
        )),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1}}}, "needs input_size"),
        ({"layer": {"ReLU": {"batch_size": 1, "input_size": 3}}}, "needs a count"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": [9, 3]}}}, "from 9 to 3"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": "many"}}}, "'many'"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": 3, "size": 3}}}, "no size 'size'"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": 3, "sample": "all"}}}, "random or grid"),
        ({"layer": {"ReLU": {"count": 5, "batch_size": 1, "input_size": [1, 3]}}}, "only 3 of 5"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": 3, "rules": ["width > 1"]}}},
         "not 'width'"),
        ({"layer": {"Linear": {"sample": "grid", "batch_size": 1, "input_size": [1, 999], "output_size": [1, 999]}}},
         "not 998001"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 0, "input_size": 3}}}, "only 0 of 1"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused_with_its_reason(document, message):
    with pytest.raises(ValueError, match=message):
        plan_from(document)


def test_a_file_that_is_not_toml_is_a_trace_error(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("[collect\n")
    with pytest.raises(TraceError, match="not a TOML file"):
        read_plan(path)


def test_a_number_beyond_a_double_and_a_rule_without_end_are_refused():
    layer = {"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": [1, 9]}}}
    with pytest.raises(ValueError, match="max_bytes must be more than 0 and finite"):
        plan_from({"collect": {"max_bytes": 10**400}, **layer})
    layer["layer"]["ReLU"]["rules"] = ["+".join(["input_size"] * 3000) + " < 1"]
    with pytest.raises(ValueError, match="rule must have at most 500 characters"):
        plan_from(layer)


@pytest.mark.parametrize("text", ["a" + ".a" * 400_000 + "=1\n", "[a" + ".a" * 400_000 + "]\n", "a=" + "[" * 900_000])
def test_a_megabyte_of_toml_is_refused_in_seconds(tmp_path, text):
    file = tmp_path / "plan.toml"
    file.write_text(text)
    began = time.process_time()
    for reader in (read_plan, from_file):
        with pytest.raises(TraceError, match=str(file)):
            reader(file)
    assert time.process_time() - began < 5
