"""The public interface as an outsider holds it: names, arguments, defaults, types; copies that travel; measuring."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest

import fastgreen as fg

from .conftest import ROOT
from .fakes.powercap import Zone

SCORE = "accuracy, alpha=0.1, beta=1.0"
SEARCH = "alpha=0.1, beta=1.0, quantize=True)"
# Arguments may be added behind these, and as keywords.
PROMISED = {
    fg.channels: "(*, estimate=None, **seams)",
    fg.Monitor: "(channels=None, hz=None, record=None, sync=None, *",
    fg.Monitor.window: "(self, name)",
    fg.Monitor.energy_j: "(self)",
    fg.Result.samples: "(self, channel=None)",
    fg.Result.windows: "(self, name=None, per_channel=False)",
    fg.Result.summary: "(self)",
    fg.Result.save: "(self, path)",
    fg.load: "(path)",
    fg.measure: "(function=None, /, **options)",
    fg.apc: f"(consumption, {SCORE}, *, out=None)",
    fg.apec: f"(cost, {SCORE}, *, out=None)",
    fg.weighted_consumption: "(consumption, accuracy, alpha=0.1, *, out=None)",
    fg.closest_apc: "(consumption, accuracy, *, consumption_delta=0.1, accuracy_delta=0.01, alpha=0.1, beta=1.0)",
    fg.closest_apec: "(cost, accuracy, *, cost_delta=0.1, accuracy_delta=0.01, alpha=0.1, beta=1.0)",
    fg.ttcapc: f"(time, accuracy, consumption, *, target=None, accuracy_delta=0.01, consumption_delta=0.1, {SEARCH}",
    fg.ttcapec: f"(time, accuracy, cost, *, target=None, accuracy_delta=0.01, cost_delta=0.1, {SEARCH}",
    fg.Sweep: "(metric, *, consumption=None, cost=None, accuracy=None, alpha=0.1, beta=1.0, ",
    fg.Sweep.compute: "(self, dtype=None, threads=None, out=None)",
    fg.Sweep.write: "(self, path, *, dtype='float64', layout='dense', compression=None, threads=None, progress=False",
    fg.Sweep.best: "(self, k=10)",
    fg.Sweep.where: "(self, low=-inf, high=inf)",
    fg.open_sweep: "(path)",
    fg.metrics.edp: "(energy_j, time_s)",
    fg.metrics.ed2p: "(energy_j, time_s)",
    fg.metrics.accuracy_per_joule: "(accuracy, energy_j)",
    fg.metrics.time_to_accuracy: "(time, accuracy, target)",
    fg.metrics.energy_to_accuracy: "(energy, accuracy, target)",
    fg.metrics.zeus_cost: "(energy_j, time_s, *, eta=0.5, max_power_w)",
    fg.metrics.sci: "(energy_kwh, intensity_g_per_kwh, embodied_g=0.0, functional_units=1.0)",
    fg.metrics.carbon: "(energy_j, intensity_g_per_kwh)",
    fg.metrics.netscore: "(accuracy_percent, parameters_millions, macs_billions)",
}


def signature(function: object) -> str:
    """A signature without its annotations."""
    found = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))


@pytest.mark.parametrize("function", PROMISED, ids=lambda function: function.__qualname__)
def test_every_call_takes_the_promised_arguments_with_their_defaults(function):
    assert signature(function).startswith(PROMISED[function])


def test_the_published_names_are_the_same_functions():
    assert fg.ttcapc is fg.time_to_closest_apc
    assert fg.ttcapec is fg.time_to_closest_apec
    assert fg.Closest._fields == ("time", "index", "apc", "accuracy_cell", "consumption_cell")


def test_the_ufuncs_take_all_inputs_by_position():
    for name, inputs in (("apc", 4), ("apec", 4), ("weighted_consumption", 3)):
        ufunc = getattr(fg.ufuncs, name)
        assert isinstance(ufunc, np.ufunc)
        assert (ufunc.nin, ufunc.nout) == (inputs, 1)


def test_a_channel_says_all_that_is_promised(powercap):
    powercap(Zone("package-0", children=(Zone("core"),)))
    found = {channel.id: channel for channel in fg.channels()}
    core = found["rapl:package-0/core"]
    assert (core.source, core.kind, core.name, core.unit) == ("rapl", "energy", "core", "uJ")
    assert (core.parent, core.root, core.readable, core.estimated) == ("rapl:package-0", False, True, False)
    assert core.reason is core.remedy is None
    assert core.wrap_j == pytest.approx(262_143.328_851)


def test_the_package_has_a_type_for_every_public_name():
    homes = {}
    for node in ast.parse((ROOT / "fastgreen" / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            (name,) = node.names
            assert name.asname == name.name  # else it is none of the names that others may take from here
            homes[name.name] = None if node.module == "fastgreen" else node.module.removeprefix("fastgreen.")
    assert homes == fg._HOME
