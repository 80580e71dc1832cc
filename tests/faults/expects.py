# SPDX-License-Identifier: Apache-2.0
"""What must come out of a fault, each as a check with its own words."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tests.oracles.honest import Honest
from tests.oracles.interpreter import without_fork_warning

from .model import Expect, Scene, expect

GAP, RESET = 1, 2


def _holds(
    scene: Scene, honest: Honest | None, channel: str, edges: tuple[int, int], low_j: float, high_j: float
) -> bool:
    """Whether the channel's true energy between the edges lies within low_j to high_j."""
    low_j, high_j = low_j - 1e-9, high_j + 1e-9
    if honest is not None and channel.startswith("rapl:"):
        return honest.holds([channel.removeprefix("rapl:")], [edges], low_j, high_j)
    return low_j <= scene.true_j(channel, *edges) <= high_j


@expect("the true energy is within the bounds of the run and of every window")
def bounds_hold(scene: Scene) -> None:
    # A powercap tree is moved by a process that a busy machine keeps waiting: it is held to the T that it kept.
    honest = Honest(scene.result, scene.tree) if scene.tree is not None and scene.tree.moving else None
    result = honest.result if honest else scene.result
    known = {
        t.channel.id: t.tally
        for t in result.traces
        if t.channel.kind == "energy"
        and scene.true_j(t.channel.id, t.tally["first_at_ns"], t.tally["end_at_ns"]) is not None
    }
    for channel, tally in known.items():
        total, edges = result.totals[channel], (tally["first_at_ns"], tally["end_at_ns"])
        assert _holds(scene, honest, channel, edges, total.low_j, total.high_j), (total, scene.true_j(channel, *edges))
    for row in result.windows(per_channel=True).to_pylist():
        if row["channel"] in known:
            edges = (row["start_ns"], row["start_ns"] + round(row["duration_s"] * 1e9))
            assert _holds(scene, honest, row["channel"], edges, row["energy_low_j"], row["energy_high_j"]), row
    assert known, "no channel has a known truth"


@expect("exactly {joules} J")
def energy(scene: Scene, joules: float, channel: str | None = None) -> None:
    seen_j = scene.result.energy_j if channel is None else scene.row(channel)["energy_j"]
    assert seen_j == pytest.approx(joules, rel=1e-9), seen_j


@expect("the window's {joules} J are within its bounds, and its estimate is never negative")
def window_energy(scene: Scene, name: str, joules: float) -> None:
    (row,) = scene.result.windows(name).to_pylist()
    assert 0 <= row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
    assert row["energy_low_j"] - 1e-9 <= joules <= row["energy_high_j"] + 1e-9, row


def _within(value: float, least: float, most: float | None) -> bool:
    return value >= least and (most is None or value <= most)


def counted(what: str, least: int, most: int | None = None, channel: str | None = None) -> Expect:
    """A count of the channel's row: read_errors, missed, lost, restarts, samples."""
    names = {"read_errors": "failed reading", "missed": "missed deadline", "lost": "lost point"}
    noun = names.get(what, what.removesuffix("s"))
    amount = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"

    def check(scene: Scene) -> None:
        value = scene.row(channel)[what]
        assert _within(value, least, most), f"{what} is {value}, wanted {amount}"

    return Expect(f"{amount} {noun}{'' if amount == '1' else 's'} counted", check)


@expect("wraps undone: {count}")
def wraps(scene: Scene, count: int) -> None:
    assert sum(scene.result.samples(scene.row(None)["id"])["wraps"].to_pylist()) == count


@expect("a gap in the curve")
def gap(scene: Scene, channel: str | None = None) -> None:
    flags = np.array(scene.result.samples(channel or scene.row(None)["id"])["flags"].to_pylist())
    assert (flags & GAP).any()


@expect('a note: "{pattern}"')
def note(scene: Scene, pattern: str) -> None:
    assert any(re.search(pattern, text) for text in scene.result.notes), scene.result.notes


@expect("no note")
def no_note(scene: Scene) -> None:
    assert scene.result.notes == []


@expect('{channel} ends: "{pattern}"')
def ended(scene: Scene, channel: str, pattern: str) -> None:
    assert re.search(pattern, scene.row(channel)["status"]), scene.row(channel)["status"]
    assert any(channel in text and "ended early" in text for text in scene.result.notes), scene.result.notes


@expect("{channel} continues")
def goes_on(scene: Scene, channel: str) -> None:
    row = scene.row(channel)
    assert row["status"] == "ok"
    assert row["samples"] >= 6
    assert row["read_errors"] == 0


@expect('a warning: "{pattern}"')
def warns(scene: Scene, pattern: str) -> None:
    assert any(re.search(pattern, text) for text in scene.warned), scene.warned


def raises(kind: type[BaseException], pattern: str) -> Expect:
    def check(scene: Scene) -> None:
        assert isinstance(scene.raised, kind), f"{kind.__name__} was wanted, there was {scene.raised!r}"
        assert re.search(pattern, str(scene.raised)), str(scene.raised)

    return Expect(f'raises {kind.__name__}: "{pattern}"', check)


@expect("no sample is lost, and every deadline is met or counted")
def nothing_lost(scene: Scene) -> None:
    for trace in scene.result.traces:
        tally = trace.tally
        kept = scene.result.samples(trace.channel.id).num_rows
        assert tally["lost"] == 0
        assert kept == tally["samples"]
        assert math.isfinite(scene.result.totals[trace.channel.id].energy_j)


@expect("samples plus missed deadlines equal all deadlines, without a burst")
def no_burst(scene: Scene, hz: float, channel: str) -> None:
    row, trace = scene.row(channel), scene.result.trace(channel)
    at_ns = np.concatenate([chunk["at_ns"] for chunk in trace.chunks()])
    ticks = (at_ns[-1] - at_ns[0]) * 1e-9 * hz
    # A tick is read somewhere within its period or, blocked, later; the last reading comes out of turn.
    allowed = 3 + 0.02 * ticks
    assert len(at_ns) - 1 + row["missed"] == pytest.approx(
        ticks, abs=allowed + 1e-9 * hz * trace.tally["read_longest_ns"]
    )
    walk = 4 * 0.29 * ticks**0.5  # dithered ticks are one apart on average, give or take 0.29
    assert len(at_ns) - 1 <= ticks + 3 + walk


@expect("sampling continued")
def sampled_meanwhile(scene: Scene, hz: float) -> None:
    begun_ns, ended_ns = scene.value
    at_ns = np.concatenate([chunk["at_ns"] for chunk in scene.result.traces[0].chunks()])
    inside = ((at_ns > begun_ns) & (at_ns < ended_ns)).sum()
    # A quarter, because the machine may be busy; a sampler that needs the interpreter would have none.
    assert inside >= 0.25 * hz * (ended_ns - begun_ns) * 1e-9


@expect("exit code {code}")
def exits(scene: Scene, code: int) -> None:
    assert scene.program.returncode == code, (scene.program.returncode, scene.program.stderr)


@expect('it prints "{pattern}"')
def says(scene: Scene, pattern: str) -> None:
    assert re.search(pattern, scene.program.stdout + without_fork_warning(scene.program.stderr)), scene.program


@expect("no output on stderr")
def silent(scene: Scene) -> None:
    assert without_fork_warning(scene.program.stderr) == ""


def value(words: str, check) -> Expect:
    """What an act left as the scene's value (or anything else of the scene) satisfies `check`."""

    def run(scene: Scene) -> None:
        assert check(scene), (words, scene.value)

    return Expect(words, run)
