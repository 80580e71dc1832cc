"""Learning sensors: from scripted series, and end to end from the fakes."""

from __future__ import annotations

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _resolver
from fastgreen._light_dataclass import replace
from fastgreen.sensors.catalog import discover
from fastgreen.sensors.sensor_facts import (
    Averaging,
    SensorFacts,
    averaging,
    cache_file,
    learn,
    recall,
    remember,
    with_averaging,
)
from tests.fakes.powercap import Zone

MS = 1_000_000


def series(at_ns, raw, half_ns=200):
    samples = np.zeros(len(at_ns), _resolver.SAMPLE)
    samples["at_ns"], samples["raw"], samples["half_ns"] = at_ns, raw, half_ns
    return samples


def counter(update_ns, watts, sample_ns, seconds, quantum=1):
    """A counter in uJ that updates at `update_ns` (an array) and is read every `sample_ns`."""
    at = np.arange(0, int(seconds * 1e9), sample_ns)
    shown = update_ns[np.clip(np.searchsorted(update_ns, at, "right") - 1, 0, None)]
    return series(at, (watts * shown / 1000 / quantum).astype(np.int64) * quantum)


def test_period_jitter_and_quantum_of_a_jittered_counter_are_found():
    rng = np.random.default_rng(1)
    intervals = rng.uniform(0.9, 1.1, 4000) * 1e6
    samples = counter(np.cumsum(intervals).astype(np.int64), 50.0, 50_000, 3.5, quantum=61)
    facts = learn(samples, "uJ")
    assert facts.period_s == pytest.approx(1e-3, rel=0.02)
    assert facts.jitter_s == pytest.approx(0.18e-3, rel=0.2)
    assert 1.1e-3 <= facts.period_longest_s <= 1.25e-3
    assert facts.quantum == pytest.approx(61e-6)
    assert facts.read_s == pytest.approx(400e-9)


def test_the_longest_period_bounds_every_interval():
    rng = np.random.default_rng(2)
    updates = np.cumsum(rng.exponential(20e6, 300) + 5e6).astype(np.int64)
    facts = learn(counter(updates, 100.0, 1_000_000, updates[-1] / 1e9), "uJ")
    assert facts.period_longest_s * 1e9 >= np.diff(updates)[1:-1].max()


@pytest.mark.parametrize("samples", [series([], []), series([0], [5]), series([0, 10], [5, 5])])
def test_too_little_teaches_nothing(samples):
    facts = learn(samples, "uJ")
    assert facts.period_s is None
    assert facts.quantum is None


def power_of(counter_samples, window_ns, delay_ns, every_ns):
    """Readings in mW: the mean over `window_ns` of the counter's energy, `delay_ns` old, refreshed every `every_ns`."""
    at = np.arange(0, counter_samples["at_ns"][-1], every_ns // 4)
    shown = at // every_ns * every_ns - delay_ns
    energy = lambda t: np.interp(t, counter_samples["at_ns"], counter_samples["raw"].astype(float))  # noqa: E731
    return series(at, ((energy(shown) - energy(shown - window_ns)) / window_ns * 1e6).astype(np.int64))


@pytest.mark.parametrize(("window_ms", "delay_ms"), [(1000, 0), (500, 100), (250, 50)])
def test_the_length_and_the_age_of_a_running_mean_are_found(window_ms, delay_ms):
    at = np.arange(0, 14_000_000_000, 5 * MS)
    watts = np.where(at // (700 * MS) % 2 == 0, 300.0, 60.0)
    raw = np.cumsum(watts * 5 * MS / 1000).astype(np.int64)  # uJ
    energy = series(at, raw // 20_000 * 20_000)
    fit = averaging(power_of(series(at, raw), window_ms * MS, delay_ms * MS, 100 * MS), "mW", energy, "uJ")
    assert fit.window_s == pytest.approx(window_ms / 1000, rel=0.2)
    assert fit.delay_s == pytest.approx(delay_ms / 1000, abs=0.06)
    assert fit.residual < 0.2


def test_a_steady_load_says_nothing_about_averaging():
    at = np.arange(0, 10_000_000_000, 5 * MS)
    energy = series(at, at // 10)
    assert averaging(power_of(energy, 500 * MS, 0, 100 * MS), "mW", energy, "uJ") is None


def test_facts_survive_the_cache_and_set_the_period_for_bounds(powercap, tmp_path):
    powercap(Zone("package-0"))
    channel = discover()[0][0]
    facts = SensorFacts(0.002, 0.0035, 0.001, 61e-6, 1e-6, 2e-6, 100, 50)
    assert remember(channel, facts, tmp_path) == cache_file(tmp_path)
    again = recall([channel], tmp_path)[0]
    assert again.period_s == 0.002
    assert again.traits["period_ns"] == 3_500_000
    other_driver = recall([fg.Channel(**{**channel.__dict__, "driver": "another"})], tmp_path)[0]
    assert other_driver.period_s is None, "facts belong to a driver"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', "\x00", "[" * 100_000], ids=lambda text: text[:8])
def test_a_damaged_cache_is_as_good_as_none(text, tmp_path, powercap):
    powercap(Zone("package-0"))
    cache_file(tmp_path).write_text(text)
    channel = discover()[0][0]
    assert recall([channel], tmp_path) == [channel]


@pytest.mark.parametrize("name", ["period_s", "period_longest_s", "delay_s", "coverage"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300, "x", True, []])
def test_a_remembered_number_that_no_sensor_has_is_forgotten(name, value, tmp_path, powercap):
    powercap(Zone("package-0"))
    channel = discover()[0][0]
    known = {"period_s": 0.1, "period_longest_s": 0.1, "delay_s": 0.0, "coverage": 1.0}
    facts = SensorFacts(jitter_s=0.0, quantum=1.0, read_s=0.0, read_p99_s=0.0, samples=9, updates=9, **known)
    remember(channel, facts, tmp_path)
    assert recall([channel], tmp_path)[0].period_s == 0.1
    remember(channel, replace(facts, **{name: value}), tmp_path)
    assert recall([channel], tmp_path) == [channel]


def test_a_mean_shorter_than_the_counter_resolves_counts_as_instant():
    facts = SensorFacts(0.1, 0.11, 0.0, 1e-3, 1e-6, 1e-6, 100, 50)
    fit = Averaging(0.03, 0.0, 0.1)
    assert with_averaging(facts, fit, 0.1).averaging_s == 0.0
    assert with_averaging(facts, None, 0.1).averaging_s is None
