# SPDX-License-Identifier: Apache-2.0
"""The true energy lies within the bounds every time though the counter lies, and outside its lies they stay tight."""

import functools

import numpy as np
import pytest

from fastgreen import Monitor, _resolver
from fastgreen.results import settled_samples
from fastgreen.results.lies import lies as sentences
from fastgreen.results.loading import load
from fastgreen.results.result import Result
from fastgreen.results.run_metadata import run_metadata
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel, plausible_w
from tests.oracles import lies
from tests.oracles import simulation as sim

LIMIT_W = 54.0
MODULUS = 65_532_610_987
WRAPPING = 33_000_000_000  # it wraps in mid-run
SEEDS = range(4)
WINDOWS = 25_000  # of each seed
KNOWN = {
    "spikes": lies.Spikes,
    "jumps": lies.RandomJumps,
    "dips": lies.Dips,
    "zeros": lies.Zeros,
}
UNKNOWN = {
    "in turn": lies.InTurn,
    "still": lies.Still,
    "still, and loses": functools.partial(lies.Still, loses=True),
}
RATES = [1, 10, 100, 1000]


def played(kind, hz, seed, modulus=MODULUS):
    """Truth, what the lie was, the trace of the lying counter and that of a sound one that was read at once."""
    seconds = 240 if hz <= 100 else 60
    traces = []
    lie = kind(seconds, seed)
    for how in (lie, lambda at_ns, value: value + lies.START_UJ):
        scenario = sim.Scenario("", seconds=seconds, tick_ns=sim.SECOND // hz, modulus=modulus, seed=seed)
        truth = sim.Truth(scenario)
        samples, traits, report = sim.record(scenario, truth, how, plausible_w(LIMIT_W) * 1e6)
        channel = Channel(
            "rapl:x", "rapl", "energy", "x", "uJ", ceiling_w=LIMIT_W, traits=traits | {"period_ns": 1_000_000}
        )
        traces.append(Trace(channel, True, report, lambda samples=samples: [samples]))
    return scenario, truth, lie, *traces


def windows_of(scenario, trace, count):
    first, last = trace.tally["first_at_ns"], trace.tally["last_at_ns"]
    for length in np.logspace(6, 10.5, 10).astype(np.int64):
        begin = np.sort(scenario.rng.integers(first, last - length, count // 10))
        yield begin, begin + length


def outside(instants, lie, margin_ns):
    begin, end = lie.stretches[:, 0] - margin_ns, lie.stretches[:, 1] + margin_ns
    return np.searchsorted(begin, instants) == np.searchsorted(end, instants)


def check(kind, hz, seed, modulus=MODULUS, tight=True):
    scenario, truth, lie, trace, sound = played(kind, hz, seed, modulus)
    if issubclass(getattr(kind, "func", kind), lies.Still):
        trace.tally["still_ns"] = settled_samples.still_stretches(trace.chunks(), sim.SECOND)
    margin_ns = 3 * sim.SECOND // hz + 200_000_000  # a lie that was believed at first is known to 0.1 s
    for begin, end in windows_of(scenario, trace, WINDOWS):
        true = (truth.until(end) - truth.until(begin)) * 1e-6
        found, best = trace.windows(begin, end), sound.windows(begin, end)
        wrong = np.flatnonzero((true < found.low_j - 1e-9) | (true > found.high_j + 1e-9))
        assert wrong.size == 0, (hz, seed, wrong.size, *(float(x[wrong[0]]) for x in (true, found.low_j, found.high_j)))
        assert np.all((found.low_j - 1e-9 <= found.energy_j) & (found.energy_j <= found.high_j + 1e-9))
        if tight:
            far = outside(begin, lie, margin_ns) & outside(end, lie, margin_ns)
            width, least = (x.high_j - x.low_j for x in (found, best))
            assert np.all(width[far] <= 1.5 * least[far] + 1e-6), (hz, seed, float(np.max((width - 1.5 * least)[far])))
            assert far.any()
    return trace


@pytest.mark.parametrize("hz", RATES)
@pytest.mark.parametrize("kind", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("seed", SEEDS)
def test_jumps_are_undone_counted_and_bounded(kind, hz, seed):
    trace = check(kind, hz, seed)
    assert not trace.unknown
    assert trace.tally["resets"] == 0
    assert trace.tally["jumps"] > 0
    assert "jumped and came back" in sentences(trace)[0]


@pytest.mark.parametrize("hz", RATES)
@pytest.mark.parametrize("kind", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("seed", SEEDS)
def test_jumps_of_a_counter_that_wraps_are_bounded(kind, hz, seed):
    trace = check(kind, hz, seed, WRAPPING)
    assert not trace.unknown
    assert trace.tally["jumps"] > 0


@pytest.mark.parametrize("hz", RATES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_sound_counter_never_jumps(hz, seed):
    *_, sound = played(lies.Spikes, hz, seed, WRAPPING)
    assert (sound.tally["jumps"], sound.tally["resets"], sound.unknown) == (0, 0, [])


def test_a_saved_run_with_jumps_is_read_back_and_replayed(tmp_path):
    _, _, _, trace, _ = played(lies.Spikes, 100, 0)
    metadata = run_metadata()
    first_ns, last_ns = trace.tally["first_at_ns"], trace.tally["last_at_ns"]
    trace.tally |= {"missed": 0, "lost": 0, "read_errors": 0, "why_ended": None, "last_error": None}
    result = Result([trace], [], metadata, first_ns, last_ns)
    result.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert (again.energy_j, again.energy_low_j, again.energy_high_j) == (
        result.energy_j,
        result.energy_low_j,
        result.energy_high_j,
    )
    assert again.channels["jumps"].to_pylist() == [trace.tally["jumps"]]
    with Monitor(f"replay:{tmp_path / 'run'}", speed=0) as replayed:
        pass
    assert replayed.result.energy_j == pytest.approx(result.energy_j, rel=1e-12)
    assert replayed.result.channels["jumps"].to_pylist() == [trace.tally["jumps"]]


@pytest.mark.parametrize("hz", RATES)
@pytest.mark.parametrize("kind", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_cannot_be_known_is_open(kind, hz, seed):
    trace = check(kind, hz, seed, tight=False)
    assert trace.unknown
    assert "is not known" in sentences(trace)[0]


@pytest.mark.parametrize("offset_s", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("modulus", [0, 262_143_328_851])
def test_two_counters_in_turn_at_every_reading_are_not_believed(offset_s, modulus):
    """Each reading is doubtful: the energy is open, and the truth within."""
    at_s = np.arange(11) + offset_s
    first = np.where(at_s.astype(int) % 2 == 0, 194_127_997_354, 45_766_381_128)
    samples = np.zeros(11, _resolver.SAMPLE)
    samples["at_ns"], samples["raw"] = (at_s * 1e9).astype(np.int64) + 10**12, first + (65e6 * at_s).astype(np.int64)
    traits = {"kind": "energy", "modulus": modulus, "quantum": 61, "period_ns": 1_000_000}
    channel = Channel("rapl:x", "rapl", "energy", "x", "uJ", traits=traits | {"plausible_per_s": 4_000_000_000})
    trace = Trace.recounted(channel, True, lambda: [samples])
    total = trace.total()
    assert total.low_j <= 650.0 <= total.high_j
    assert trace.in_turn is not None or trace.restarts
