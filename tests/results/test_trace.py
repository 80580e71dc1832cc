"""The most that a channel can draw, which bounds the gaps between windows."""

from __future__ import annotations

import pytest

from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel, traits

PEAK_UJ_PER_NS = 0.05  # 50 W


def trace(ceiling_w: float | None, peak_per_ns: float = PEAK_UJ_PER_NS, **changes: object) -> Trace:
    known = {"ceiling_w": ceiling_w, "traits": traits("energy", "uJ", period_ns=1_000_000), **changes}
    channel = Channel("rapl:package-0", "rapl", "energy", "package-0", "uJ", **known)
    return Trace(channel, True, {"samples": 2, "peak_per_ns": peak_per_ns}, list)


def test_the_ceiling_is_the_channels_own_and_never_below_what_was_seen():
    assert trace(125.0).ceiling_w == 125.0
    assert trace(30.0).ceiling_w == pytest.approx(50.0)


def test_without_one_it_is_twice_the_highest_power_seen_between_updates():
    assert trace(None).ceiling_w == pytest.approx(100.0)
    assert trace(None, peak_per_ns=0.0).ceiling_w == 1000.0


def test_the_ceiling_of_an_estimate_is_its_full_power_whatever_was_seen():
    assert trace(30.0, estimated=True).ceiling_w == 30.0


def test_a_trace_says_how_its_energy_comes_about():
    assert (trace(None).method, trace(None, estimated=True).method) == ("counter", "estimate")
