"""The public interface as an outsider holds it: names, arguments, defaults, types; copies that travel; measuring."""

from __future__ import annotations

import ast
import asyncio
import copy
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT

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
    fg.Result.power: "(self, step_s=None, per_channel=False)",
    fg.Result.save: "(self, path)",
    fg.load: "(path)",
    fg.compare: "(a, b, *, force=False)",
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


ANSWERS = [f for f in PROMISED if inspect.isfunction(f) and not f.__module__.endswith((".monitor", ".result"))]


@pytest.mark.parametrize("function", ANSWERS, ids=lambda function: function.__qualname__)
def test_every_answer_is_documented_with_its_arguments_value_and_errors(function):
    text = inspect.getdoc(function)
    assert "Raises\n------" in text
    if function is not fg.Sweep.write:
        assert "Returns\n-------" in text
    section = text.partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    heads = [line.partition(" :")[0] for line in section.splitlines() if not line.startswith(" ")]
    named = {name.strip(" *") for head in heads for name in head.split(",")}
    assert inspect.signature(function).parameters.keys() - {"self"} <= named


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


PROGRAM = """
import fastgreen as fg
import numpy as np

def watched() -> dict[str, float]:
    with fg.Monitor(channels=["rapl:*"], hz=100, record=None, sync=None) as monitor:
        work = monitor.window("work")
        with work:
            pass
        work.begin()
        work.end()
        live: dict[str, float] = monitor.energy_j()
    result: fg.Result = monitor.result
    total: float = result.energy_j + result.energy_low_j + result.energy_wh + result.duration_s + result.mean_power_w
    assert result.estimated is False and total > 0
    result.save("run")
    return live if fg.load("run").windows("work", per_channel=True) else {}

@fg.measure
def whole(x: int) -> int:
    return x

@fg.measure(hz=10)
def often(x: str) -> str:
    return x

number: int = whole(3)
text: str = often("a")
last: fg.Result | None = whole.result
with fg.measure() as m:
    joules: float = m.energy_j
remedies: list[str | None] = [channel.remedy for channel in fg.channels() if not channel.readable]
found: fg.Closest = fg.ttcapc([1.0], [0.5], [1.0], target=(0.5, 1.0))
sweep = fg.Sweep("apc", consumption=[1.0], accuracy=[0.5])
grid: np.ndarray = sweep.compute(dtype="float32", threads=1)
sweep.write("grid.arrow", layout="long", compression="lz4")
for first, values in fg.open_sweep("grid.arrow").tiles():
    fg.ufuncs.apc(values, 0.5, 0.1, 1.0)
try:
    print(fg.apc(1.0, 0.5) + fg.metrics.edp(1.0, 2.0))
except fg.errors.FastgreenError as error:
    print(error.code)
"""


@pytest.mark.slow
def test_a_users_program_passes_a_strict_type_checker_which_finds_its_mistakes(tmp_path):
    pytest.importorskip("mypy")
    wrong = ["whole('three')", "often(3)", "fg.Monitor(chanels=1)", "fg.load(3)", "sweep.compute(thread=1)", "fg.apcc"]
    (tmp_path / "right.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text("\n".join(["import fastgreen as fg", "from right import *", *wrong]))
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports"]
    done = subprocess.run(
        [*command, "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    found = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert not [line for line in found if not line.startswith("wrong.py")], done.stdout + done.stderr
    assert {int(line.split(":")[1]) for line in found} == {3 + i for i in range(len(wrong))}, done.stdout


# ---- copies that travel to another process


def travelled(value: object) -> object:
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("copied", [travelled, copy.deepcopy], ids=["pickled", "copied"])
def test_sweeps_channels_and_answers_travel(tmp_path: Path, copied):
    runs = {"time": [1.0, 2.0], "accuracy": [0.5, 0.6], "consumption": [1.0, 2.0]}
    for sweep in (fg.Sweep("apc", consumption=[1.0, 2.0], accuracy=[0.5]), fg.Sweep("ttcapc", **runs)):
        for dtype in ("float64", "float32"):
            sweep.compute(dtype)  # what was made for it must not hold it back
        twin = copied(sweep)
        assert twin.metric == sweep.metric
        assert np.array_equal(twin.compute(), sweep.compute())
        assert np.array_equal(twin.compute("float32"), sweep.compute("float32"))
        sweep.write(tmp_path / sweep.metric)
        assert np.array_equal(copied(fg.open_sweep(tmp_path / sweep.metric)).to_numpy(), sweep.compute())
    assert copied(fg.ttcapc(**runs)) == fg.ttcapc(**runs)
    assert copied(fg.channels()) == fg.channels()
    assert copied(fg.ufuncs.closest_apc) is fg.ufuncs.closest_apc


def test_errors_travel_with_their_message_and_code():
    for name in ("FastgreenError", "ChannelNotFound", "ChannelPermission", "ChannelReadError", "TraceError"):
        error = travelled(getattr(fg.errors, name)("what went wrong", code=13))
        assert (type(error).__name__, str(error), error.code) == (name, "what went wrong", 13)


# ---- measured calls


def test_a_coroutine_is_measured_until_it_has_been_awaited():
    @fg.measure
    async def waits(seconds: float) -> float:
        """Waits."""
        await asyncio.sleep(seconds)
        return seconds

    assert (waits.__name__, waits.__doc__, waits.result) == ("waits", "Waits.", None)
    assert asyncio.run(waits(0.1)) == 0.1
    assert waits.result.duration_s >= 0.1


def test_a_generator_whose_call_does_nothing_is_refused():
    def counts():
        yield 1

    async def counts_later():
        yield 1

    for function in (counts, counts_later):
        with pytest.raises(TypeError, match=r"counts.* does no work: .* around the loop"):
            fg.measure(function)
        with pytest.raises(TypeError, match="does no work"):
            fg.measure(hz=100)(function)


def test_a_measured_method_is_a_method():
    class Model:
        @fg.measure
        def predict(self, x: int) -> int:
            return x + 1

    assert Model().predict(2) == 3
    assert Model.predict.result.duration_s >= 0
