# SPDX-License-Identifier: Apache-2.0
"""Machines drawn at random: the truth lies within the bounds of each, and only lies widen them."""

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen._light_dataclass import replace
from fastgreen.results import settled_samples
from fastgreen.results.false_readings import _may_restart, false_readings, restart_places
from fastgreen.results.lies import lies as sentences
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel
from tests.oracles import simulation as sim
from tests.oracles.machines import Machine

DRAWS = [0, 10_000, 20_000]
MACHINES = 300  # of each draw
BATCH = 50
WINDOWS = 2_000  # of each machine


def traced(machine):
    traits = machine.traits | {"period_ns": 1_000_000}
    channel = Channel("rapl:x", "rapl", "energy", "x", "uJ", ceiling_w=machine.limit_w, traits=traits)
    trace = Trace(channel, True, machine.tally, lambda: [machine.samples])
    if machine.kind == "still":
        trace.tally["still_ns"] = settled_samples.still_stretches(trace.chunks(), sim.SECOND)
    return trace


def windows_of(machine, count):
    rng = np.random.default_rng(machine.scenario.seed)
    first, last = machine.tally["first_at_ns"], machine.tally["last_at_ns"]
    for length in np.logspace(6, 10.3, 10).astype(np.int64):
        begin = np.sort(rng.integers(first, last - length, count // 10))
        yield begin, begin + length


def stands_out(machine):
    """Whether every jump is larger than twice the growth that can be plausible between two readings."""
    if machine.kind == "zero":
        return not machine.wraps  # just before and after a wrap, 0 is near
    least_j = machine.size_uj * (1e-6 if machine.kind == "same" else 1e-7)
    return least_j > 9 * machine.limit_w * (2 / machine.hz + 0.06)


def holds(machine, trace, count=WINDOWS):
    """What is wrong, in words, or None."""
    for begin, end in windows_of(machine, count):
        true, found = machine.true_j(begin, end), trace.windows(begin, end)
        wrong = np.flatnonzero((true < found.low_j - 1e-9) | (true > found.high_j + 1e-9))
        if wrong.size:
            i = wrong[0]
            return f"{machine.scenario}: {true[i]} J of [{found.low_j[i]}, {found.high_j[i]}] at {begin[i]}, {end[i]}"
        if not np.all((found.low_j <= found.energy_j + 1e-9) & (found.energy_j <= found.high_j + 1e-9)):
            return f"{machine.scenario}: an estimate outside its bounds"
    total, end_ns = trace.total(), machine.tally["end_at_ns"]
    true = machine.true_j(machine.tally["first_at_ns"], end_ns)
    return None if total.low_j - 1e-9 <= true <= total.high_j + 1e-9 else f"{machine.scenario}: total {true} {total}"


@pytest.mark.statistical
@pytest.mark.parametrize("first", range(0, MACHINES, BATCH))
@pytest.mark.parametrize("draw", DRAWS)
def test_the_truth_lies_within_the_bounds_of_every_machine(draw, first):
    for seed in range(draw + first, draw + first + BATCH):
        machine = Machine(seed)
        trace = traced(machine)
        assert holds(machine, trace) is None
        if machine.kind in ("same", "each stretch", "zero") and stands_out(machine):
            assert not trace.unknown, machine.scenario


@pytest.mark.parametrize("seed", range(60))
def test_a_sound_counter_is_known_and_never_jumps(seed):
    machine = Machine(seed, "sound")
    trace = traced(machine)
    assert (trace.jumps, trace.restarts, trace.unknown, sentences(trace)) == (0, 0, [], [])
    # Capped to half of the limit at the start, which its power still fits, the counter is as sound.
    capped = replace(trace.channel, traits=machine.traits | {"plausible_per_s": machine.traits["plausible_per_s"] // 2})
    assert Trace.recounted(capped, True, trace.chunks).jumps == 0


def outside(instants, stretches, margin_ns):
    begin, end = stretches[:, 0] - margin_ns, stretches[:, 1] + margin_ns
    return np.searchsorted(begin, instants) == np.searchsorted(end, instants)


@pytest.mark.parametrize("kind", ["same", "each stretch", "zero"])
@pytest.mark.parametrize("hz", [10, *(pytest.param(hz, marks=pytest.mark.statistical) for hz in (1, 100, 1000))])
def test_outside_lies_that_stand_out_the_bounds_are_those_of_a_sound_counter(kind, hz):
    checked = 0
    for seed in range(40):
        machine, sound = Machine(seed, kind, hz), Machine(seed, "sound", hz)
        if not stands_out(machine):
            continue
        apart_ns = machine.stretches[1:, 0] - machine.stretches[:-1, 1]
        if len(apart_ns) and apart_ns.min() < 6 * sim.SECOND // hz:  # two lies in so few readings are taken for one
            continue
        checked += 1
        trace, best = traced(machine), traced(sound)
        margin_ns = 3 * sim.SECOND // hz + 200_000_000
        for begin, end in windows_of(machine, WINDOWS):
            found, least = trace.windows(begin, end), best.windows(begin, end)
            far = outside(begin, machine.stretches, margin_ns) & outside(end, machine.stretches, margin_ns)
            width, bar = found.high_j - found.low_j, 1.5 * (least.high_j - least.low_j) + 1e-6
            assert np.all(width[far] <= bar[far]), machine.scenario
    assert checked >= 5 or hz == 1


# ---- readings by hand ----

TRAITS = {"kind": "energy", "modulus": 10_000_000_000, "quantum": 1, "period_ns": 1_000_000}
TRAITS |= {"tick_ns": sim.SECOND, "plausible_per_s": 216_000_000}  # four times 54 W, in uJ


def read(*joules, modulus=10_000):
    """Readings once a second, in J."""
    samples = np.zeros(len(joules), _resolver.SAMPLE)
    samples["at_ns"] = np.arange(1, len(joules) + 1) * sim.SECOND
    samples["raw"] = np.round(np.array(joules) * 1e6).astype(np.int64) % (modulus * 1_000_000)
    return samples


def doubtful(samples):
    account = _resolver.Account(TRAITS)
    fed = samples.copy()
    account.feed(fed)
    tally = account.tally()
    return false_readings(lambda: [fed], TRAITS) if tally["jumps"] or tally["resets"] else []


@pytest.mark.parametrize(
    ("readings", "false"),
    [
        ((100, 140, 880, 220, 260), [(2, 3)]),  # a spike
        ((100, 140, 180, 880, 920, 300, 340), [(3, 5)]),  # ... of two readings
        ((500, 540, 20, 620, 660), [(2, 3)]),  # a dip
        ((500, 540, 0, 620, 660), [(2, 3)]),  # a moment's 0
        ((9900, 9940, 0, 10020, 10060), [(2, 3)]),  # ... just before a wrap
        ((9900, 9940, 10000, 10020, 10060), [(2, 3)]),  # ... in the second of the wrap
        ((9900, 9950, 10700, 10050, 10100), [(2, 3)]),  # a spike over the wrap
        ((100, 140, 320, 220, 260), [(2, 3)]),  # a spike below the plausible growth
        ((100, 140, 180, 220), []),  # sound
        ((9900, 9960, 10020, 10080), []),  # sound, and wraps
        ((500, 540, 20, 60, 100, 140), []),  # a restart
        ((500, 540, 3, 3, 3, 3), []),  # ... and rest
    ],
)
def test_false_readings(readings, false):
    assert doubtful(read(*readings)) == false


def test_false_readings_across_chunks_are_those_of_one():
    for seed in (0, 1, 2, 9, 16):
        machine = Machine(seed, hz=1000)
        whole = false_readings(lambda machine=machine: [machine.samples], machine.traits)
        parts = np.array_split(machine.samples, 7)
        assert false_readings(lambda parts=parts: parts, machine.traits) == whole


def test_a_lie_that_leaves_no_trace_cannot_be_known():
    """The counter shows 20 J too much once: 100, 140, [200], 220, 260 instead of 100, 140, 180, 220, 260.

    A sound counter of a machine that draws 60 W in that second and 20 W in the next shows the very same. So no rule
    finds the lie: bounds that hold both histories hold, of every counter, whatever the limit allows, and no longer say
    anything. What is proven here is that the samples are equal, and that the sound history lies within the bounds.
    """
    lying = read(100, 140, 180 + 20, 220, 260)
    sound = read(100, 140, 140 + 60, 200 + 20, 260)
    assert np.array_equal(lying, sound)
    assert doubtful(lying) == []
    channel = Channel("rapl:x", "rapl", "energy", "x", "uJ", ceiling_w=54.0, traits=TRAITS)
    found = Trace.recounted(channel, True, lambda: [sound]).windows(
        np.array([2, 3]) * sim.SECOND, np.array([3, 4]) * sim.SECOND
    )
    assert np.all((found.low_j <= [60, 20]) & (found.high_j >= [60, 20]))


def test_a_value_near_0_in_the_second_of_a_wrap_holds_both_histories_only_if_it_is_0():
    """9940, [0], 10020: the counter wrapped and drew 60 and 20 J, or it shows 0 where 9980 is true.

    0 is hardly ever the value at a wrap, so it tells nothing, and the bounds hold both.
    """
    channel = Channel("rapl:x", "rapl", "energy", "x", "uJ", ceiling_w=54.0, traits=TRAITS)
    edges = np.array([2, 3]) * sim.SECOND, np.array([3, 4]) * sim.SECOND
    found = Trace.recounted(channel, True, lambda: [read(9900, 9940, 10000, 10020, 10060)]).windows(*edges)
    for history in ([60, 20], [40, 40]):
        assert np.all((found.low_j <= history) & (history <= found.high_j))


def test_restart_places_are_the_same_in_any_chunks():
    """Against a twin that sees each range at once."""
    rng = np.random.default_rng(1)
    traits = {"kind": "energy", "modulus": 0, "quantum": 1, "period_ns": 1_000_000, "plausible_per_s": 100}
    for _ in range(1000):
        count = int(rng.integers(1, 60))
        samples = np.zeros(count, _resolver.SAMPLE)
        samples["at_ns"], samples["raw"] = np.cumsum(rng.integers(1, 10**9, count)), rng.integers(0, 60, count)
        edges = np.sort(rng.choice(count + 1, 2 * int(rng.integers(0, (count + 1) // 2 + 1)), replace=False)).tolist()
        false = list(zip(edges[::2], edges[1::2], strict=True))
        chunks = np.split(samples, np.sort(rng.integers(0, count + 1, int(rng.integers(0, 8)))))
        at_once = {e for b, e in false if b > 0 and e < count and _may_restart([samples[b - 1 : e + 1]], traits)}
        assert restart_places(chunks, traits, false) == at_once
