# SPDX-License-Identifier: Apache-2.0
"""The tables for people: what comes first, what is left out and said, and what fits a narrow screen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.results.console import known_lines, known_to, quantity, render
from fastgreen.results.trace import Windows
from tests.oracles.long_runs import METADATA, SECOND, START_NS, long_run, with_spans


@pytest.mark.parametrize("width", [80, 100, 120])
def test_tables_fit_the_screen_and_fold_no_name(width):
    names = ("infer", "load", "a name of a window that is rather long and has words")
    text = render(with_spans(long_run(30, names=names), 20), width)
    lines = text.splitlines()
    assert max(map(len, [line for line in lines if not line.startswith(("note", *names))])) <= width
    tables = [line for line in lines if line.startswith(" ")]
    for start in ("rapl:package-0", "rapl:dram", "infer", "load", "a name of", "chat  ", "chat decode, per tokens"):
        (row,) = (line for line in tables if line.strip().startswith(start))
        assert " .. " in row  # bounds are not folded either
    for label in ("time p50", "energy p50"):
        assert label in text


def test_the_most_expensive_come_first_and_the_rest_is_counted():
    run = long_run(60, windows=200, names=[f"name {i}" for i in range(100)])
    text = render(run)
    rows = [line for line in text.splitlines() if line.strip().startswith("name ") and " known to" not in line]
    assert len([r for r in rows if "J" in r and "has no" not in r]) == 40
    best = max(run.summary().to_pylist(), key=lambda row: row["energy_j"])
    assert rows[0].split("  ")[0].strip() == best["name"]
    assert "... 60 more names, " in text


def test_a_window_below_what_is_resolved_has_only_an_upper_bound():
    run = long_run(10)
    short = Windows("short", 0, np.array([START_NS + SECOND]), np.array([START_NS + SECOND + 1000]))
    text = render(fg.Result(run.traces, [short], METADATA, run.start_ns, run.end_ns))
    (row,) = (line for line in text.splitlines() if line.startswith(" short"))
    assert " < " in row
    assert " 0 .. " in row


def test_the_estimated_part_is_said_with_its_joules():
    run = long_run(10)
    guessed = run.traces[1]
    guessed.channel = dataclasses.replace(guessed.channel, estimated=True, floor_w=1.0, ceiling_w=20.0)
    text = render(fg.Result(run.traces, [], METADATA, run.start_ns, run.end_ns))
    assert "J (rapl:dram), from a model of the CPU, not a measurement" in text
    assert "estimated: 6" in text


def test_how_many_more_repeats_bring_a_name_to_five_per_cent():
    row = {"name": "x", "count": 10, "mean_energy_j": 1.0, "mean_energy_ci_low_j": 0.901, "interval_note": None}
    assert (
        known_to({**row, "mean_energy_ci_high_j": 1.099})
        == "x is known to 9.9 % (95 %); 30 more give 5 %, 970 more give 1 %"
    )
    row |= {"mean_energy_ci_low_j": 1 - 0.05001}
    assert known_to({**row, "mean_energy_ci_high_j": 1.05001}) == "x is known to 5 % (95 %); 240 more give 1 %"
    row |= {"mean_energy_ci_low_j": 1 - 0.0520}
    assert (
        known_to({**row, "mean_energy_ci_high_j": 1.0520})
        == "x is known to 5.2 % (95 %); 1 more gives 5 %, 260 more give 1 %"
    )


def test_names_without_an_interval_for_one_reason_share_a_sentence():
    note = "x:y cannot tell: a longer run would help"
    row = {"mean_energy_j": 1.0, "mean_energy_ci_low_j": None, "mean_energy_ci_high_j": None, "interval_note": note}
    many = [{**row, "name": name} for name in ("a", "b", "c", "d", "\U0001f600" * 10_000)]
    why = " no 95 % interval: x:y cannot tell:\n  a longer run would help"
    assert known_lines(many) == ["a, b, c and 2 more have" + why]
    (line,) = known_lines(many[4:])
    assert line.endswith("... has" + why)
    assert len(line) < 150
    assert known_lines([{**row, "name": "a", "interval_note": "too few updates"}]) == []


def test_seconds_have_no_prefix_above_one():
    assert quantity(18_260.4, "s") == "18260 s"
    assert quantity(1234.56, "s", 2) == "1200 s"
    assert quantity(0.0123, "s") == "12.30 ms"
    assert quantity(18_260.4, "J") == "18.26 kJ"
