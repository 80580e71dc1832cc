"""Every table, picture and print of every run that can be saved: none of them raises, whatever the sensors did."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fastgreen as fg
from fastgreen import _resolver, plot
from fastgreen.results.result import Result
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel, traits

MS = 1_000_000
METADATA = {"format": 1, "version": "0", "host": "here", "realtime_ns": 10**18, "monotonic_ns": 5 * 10**9}
WRAP = 1 << 32


def counts_of(dice: np.random.Generator, samples: int, still: float) -> np.ndarray:
    """A counter that stands still for a part of the steps, and may wrap."""
    steps = dice.integers(0, WRAP // 4, samples) * (dice.random(samples) >= still)
    return (dice.integers(0, WRAP) + np.cumsum(steps)) % WRAP


def trace_of(number: int, kind: str, samples: int, still: float, step_ns: int, start_ns: int, seed: int) -> Trace:
    dice = np.random.default_rng(seed)
    unit = "uJ" if kind == "energy" else "uW"
    given = traits(kind, unit, modulus=WRAP if kind == "energy" else 0, period_ns=MS)
    channel = Channel(
        f"rapl:{number}", "rapl", kind, f"zone {number}", unit, root=number != 2, traits=given, estimated=number == 3
    )
    if number == 3:
        channel = Channel(
            "procstat:cpu", "procstat", kind, "cpu", unit, traits=given, estimated=True, ceiling_w=9.0, floor_w=1.0
        )
    column = np.zeros(samples, _resolver.SAMPLE)
    column["at_ns"] = start_ns + np.cumsum(dice.integers(0, 2 * step_ns + 1, samples))
    column["half_ns"] = dice.integers(0, 1000)
    column["raw"] = counts_of(dice, samples, still) if kind == "energy" else dice.integers(-5, 10**8, samples)
    if kind == "energy" and samples:
        column["wraps"][1:] = np.diff(column["raw"]) < 0
    account = _resolver.Account({**given, "tick_ns": step_ns})
    account.feed(column)
    tally = account.tally()
    ends = {"end_at_ns": tally["last_at_ns"], "end_total": tally["total"]}
    said = {"why_ended": None, "last_error": None if samples else "no such device"}
    return Trace(
        channel,
        channel.root,
        {**tally, **ends, **said, "missed": 0, "lost": 0, "read_errors": 0},
        lambda: [column] if samples else [],
    )


channel = st.tuples(
    st.sampled_from(["energy", "power"]),
    st.one_of(st.integers(0, 4), st.integers(0, 300)),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.sampled_from([0, 1, MS, 3_600_000 * MS]),
)
windows = st.lists(st.tuples(st.text(max_size=4), st.integers(0, 3), st.integers(0, 400 * MS)), max_size=4)


def everything(result: Result, picture: Path) -> None:
    """Ask a result for all that it can show."""
    named = result.names
    for table in (
        result.channels,
        result.samples(),
        result.windows(),
        result.windows(per_channel=True),
        result.power(),
        result.power(per_channel=True),
        result.summary(),
    ):
        table.validate(full=True)
        table.to_pylist()
    assert result.summary().num_rows == len(named)
    json.dumps(result.to_dict())
    for text in (str(result), repr(result), result._repr_html_()):
        text.encode()
    assert math.isfinite(result.energy_j)
    assert result.energy_low_j <= result.energy_j <= result.energy_high_j
    if result.known and result.power().num_rows:
        plot.power(result, path=picture)
    else:
        with pytest.raises(ValueError, match="no power to draw"):
            plot.power(result, path=picture)


@pytest.mark.statistical
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(channel, max_size=4), windows, st.sampled_from([0, 6 * 10**9, 10**18, -(10**17)]), st.integers(0, 99))
@example([("energy", 1, 1.0, MS), ("energy", 300, 0.0, MS)], [("w", 2, MS)], 6 * 10**9, 1)  # one never updates again
@example([("power", 2, 0.0, MS), ("energy", 40, 0.0, MS)], [], 6 * 10**9, 2)
@example([("energy", 3, 1.0, 0)], [("", 1, 0)], 0, 3)  # no time passes
@example([("energy", 40, 0.0, MS)], [("$x_{$", 1, MS), ("$$", 1, MS), ("_", 1, MS)], 0, 4)  # no formulas
def test_every_table_picture_and_print_of_every_run_that_can_be_saved(channels, stretches, start_ns, seed):
    traces = [trace_of(n, *parts, start_ns, seed + n) for n, parts in enumerate(channels)]
    lanes = []
    for handle, (name, count, step_ns) in enumerate(stretches):
        begin = start_ns + np.arange(count, dtype=np.int64) * step_ns
        lanes.append(Windows(name, handle, begin, begin + step_ns // 2))
    end_ns = max((t.tally["end_at_ns"] for t in traces if t.has_data), default=start_ns)
    measured = Result(traces, lanes, METADATA, start_ns, end_ns, ["a note"])
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "power.svg"
        everything(measured, picture)
        measured.save(Path(folder) / "run")
        loaded = fg.load(Path(folder) / "run")
        everything(loaded, picture)
        assert json.dumps(loaded.to_dict()) == json.dumps(measured.to_dict())
