# SPDX-License-Identifier: Apache-2.0
"""Bounds of power sensors: what is called a bound holds the truth every time, and the rest is called sampled."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.results.result import Result
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel, least_certain
from tests.fakes.nvml import Gpu, Rule, Sensor
from tests.fakes.powercap import Zone
from tests.fakes.wave import Square, Updates
from tests.oracles import simulation as sim

MS, SECOND = 1_000_000, 1_000_000_000
NOT_BOUNDED = "sampled, not bounded"
LOOKS = {"25 of 100 ms": 25 * MS, "an instant": 1000, "all 100 ms": 100 * MS, "the last 1 s": SECOND}
NO_COUNTER = Rule("nvmlDeviceGetTotalEnergyConsumption", code=3)


def channel(kind="power", **facts):
    return Channel("nvml:0", "nvml", kind, "board", "mW" if kind == "power" else "mJ", **facts)


def board(waveform, look_ns, seconds=60):
    """Truth, and a run of a power sensor that shows each 100 ms its mean over the last `look_ns`, read each 25 ms."""
    scenario = sim.Scenario("board", waveform, rest=0.2, seconds=seconds, update_ns=100 * MS, unit_per_s=600e3, seed=3)
    truth, update_ns = sim.Truth(scenario), 100 * MS
    updates = np.arange(SECOND, seconds * SECOND, update_ns)
    shown_mw = (truth.until(updates) - truth.until(updates - look_ns)) / (look_ns / SECOND)
    at_ns = np.arange(SECOND + 7 * MS, seconds * SECOND, 25 * MS)
    samples = np.zeros(len(at_ns), _resolver.SAMPLE)
    samples["at_ns"] = at_ns
    samples["raw"] = shown_mw[np.searchsorted(updates, at_ns, side="right") - 1].astype(np.int64)
    traits = {"kind": "power", "modulus": 0, "quantum": 1, "period_ns": update_ns, "plausible_per_s": 0}
    sensor = channel(ceiling_w=700.0, traits=traits, coverage=min(1.0, look_ns / update_ns))
    begin = np.sort(scenario.rng.integers(at_ns[0], at_ns[-1] - SECOND, 500))
    windows = Windows("infer", 0, begin, begin + scenario.rng.integers(5 * MS, SECOND, 500))
    windows.end_ns = np.sort(windows.end_ns)
    trace = Trace.recounted(sensor, True, lambda: [samples])
    metadata = {"realtime_ns": 0, "monotonic_ns": 0}
    return truth, Result([trace], [windows], metadata, int(at_ns[0]), int(at_ns[-1])), windows


@pytest.mark.parametrize(
    ("facts", "bounds"),
    [
        ({"kind": "energy"}, "certain"),
        ({"kind": "power"}, "sampled"),
        ({"kind": "power", "coverage": 0.25, "averaging_s": 0.025}, "sampled"),
        ({"kind": "power", "coverage": 1.0, "averaging_s": 1.0}, "sampled"),
        ({"kind": "power", "estimated": True}, "modelled"),
    ],
)
def test_a_channel_says_how_certain_its_bounds_are(facts, bounds):
    assert channel(**facts).bounds == bounds


def test_a_sum_is_as_certain_as_its_least_certain_part():
    counter, power, model = channel("energy"), channel(), channel(estimated=True)
    assert least_certain([]) == least_certain([counter, counter]) == "certain"
    assert least_certain([counter, model]) == "modelled"
    assert least_certain([power, counter, model]) == least_certain([model, power]) == "sampled"


@pytest.mark.parametrize("waveform", ["steps", "bursts", "rests", "sine"])
@pytest.mark.parametrize("look", LOOKS)
def test_energies_that_can_lie_outside_are_never_called_bounded(look, waveform):
    truth, result, windows = board(waveform, LOOKS[look])
    found = result.windows("infer")
    true_j = (truth.until(windows.end_ns) - truth.until(windows.begin_ns)) * 1e-3
    low_j, high_j = (found[name].to_numpy() for name in ("energy_low_j", "energy_high_j"))
    outside = np.mean((true_j < low_j - 1e-6) | (true_j > high_j + 1e-6))
    assert outside > 0.05  # full coverage does not help a window that is shorter than the mean
    assert result.bounds == result.to_dict()["bounds"] == "sampled"
    for table in (found, result.windows("infer", per_channel=True), result.power(1.0), result.power(1.0, True)):
        assert table.schema.metadata[b"bounds"] == b"sampled"
    assert result.channels["bounds"].to_pylist() == result.summary()["bounds"].to_pylist() == ["sampled"]
    text = str(result)
    assert text.count(NOT_BOUNDED) == 3  # the total, the channel, the window
    assert ".." not in text


def test_a_picture_of_sampled_power_does_not_speak_of_bounds():
    _, result, _ = board("steps", 25 * MS)
    figure = fg.plot.power(result)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == [f"between readings ({NOT_BOUNDED})", "power"]
    assert NOT_BOUNDED in figure.get_suptitle()


def measured(soon, *names):
    with fg.Monitor(*names, hz=100) as monitor, monitor.window("infer"):
        soon(lambda: monitor.readings()["nvml:0"].at_ns > 0)
        time.sleep(0.3)
    return monitor.result


def test_a_board_without_a_counter_is_sampled_and_so_is_every_total_with_it(nvml, powercap, soon, tmp_path):
    looks = Sensor(Updates(0.1), window=0.025)
    nvml(Gpu(Square(60.0, 600.0, 0.04), instant=looks, average=looks, usage=looks), rules=[NO_COUNTER])
    powercap(Zone("package-0", 30.0), move=True)
    result = measured(soon)
    assert dict(zip(*(result.channels[n].to_pylist() for n in ("id", "bounds")), strict=True)) == {
        "rapl:package-0": "certain",
        "nvml:0": "sampled",
    }
    result.save(tmp_path / "run")
    for one in (result, fg.load(tmp_path / "run")):
        assert one.bounds == "sampled"
        assert one.summary()["bounds"].to_pylist() == ["sampled"]
        assert json.loads(json.dumps(one.to_dict()))["bounds"] == "sampled"
        assert str(one).count(NOT_BOUNDED) == 3
        assert str(one).count("..") == 1  # the package is a counter


def test_a_counter_replaces_the_power_of_its_board(nvml, soon):
    nvml(Gpu(Square(60.0, 600.0, 0.04), instant=Sensor(Updates(0.1), window=0.025)))
    result = measured(soon, "nvml:*")
    rows = {row["id"]: (row["bounds"], row["counted"]) for row in result.channels.to_pylist()}
    assert rows == {"nvml:0": ("certain", True), "nvml:0/power": ("sampled", False)}
    assert result.bounds == result.summary()["bounds"][0].as_py() == "certain"
    assert result.windows(per_channel=True).schema.metadata[b"bounds"] == b"sampled"
    assert str(result).count(NOT_BOUNDED) == 1


def test_an_estimate_is_modelled():
    with fg.Monitor() as monitor:
        time.sleep(0.05)
    assert monitor.result.estimated
    assert monitor.result.bounds == "modelled"
    assert NOT_BOUNDED not in str(monitor.result)
