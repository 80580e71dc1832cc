# SPDX-License-Identifier: Apache-2.0
"""Spans of several hosts pay for the energy of their own host, and the sums of all hosts are the meters'."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

import fastgreen as fg
from tests.results.test_run_set import SECOND, run, saved

WALL_NS = 10**18 + 1020 * SECOND  # host b began at this second of its own wall clock, host a 0.25 s later


@pytest.fixture
def both(tmp_path):
    """Two hosts of 50 W for 10 s each; b booted 500 s later than a."""
    one = run(520.25, 530.25, 0, host="a", boot="a", offset_s=500.0)
    return fg.load(saved(tmp_path, one, run(20, 30, 1, host="b", boot="b")))


def spans(*rows):
    names = ("host", "begin_ns", "end_ns")
    at = [(host, WALL_NS + round(begin * SECOND), WALL_NS + round(end * SECOND)) for host, begin, end in rows]
    return pa.table({name: [row[i] for row in at] for i, name in enumerate(names)})


def test_spans_at_the_same_time_on_two_hosts_do_not_share(both):
    table = both.share(spans(("b", 1, 3), ("a", 1, 3), (None, 1, 3), ("b", 2, 3)), clock="realtime")
    assert table.column("host").to_pylist() == ["b", "a", None, "b"]
    energies = table.column("energy_j").to_pylist()
    assert energies[2] is None
    assert [energies[0], energies[1], energies[3]] == pytest.approx([75, 100, 25], rel=0.01)
    said = table.schema.metadata
    assert float(said[b"drawn_j"]) == pytest.approx(1000, rel=1e-3)
    assert float(said[b"unattributed_j"]) == pytest.approx(800, rel=1e-3)
    assert json.loads(said[b"channels"]) == ["a/rapl:package-0", "b/rapl:package-0"]


def test_the_time_axis_of_the_set_gives_the_same(both):
    wall = both.share(spans(("a", 1, 3), ("b", 2, 4)), clock="realtime")
    to_axis = both.metadata["realtime_ns"] - both.metadata["monotonic_ns"]
    rows = spans(("a", 1, 3), ("b", 2, 4)).to_pydict()
    axis = {
        **rows,
        "begin_ns": [t - to_axis for t in rows["begin_ns"]],
        "end_ns": [t - to_axis for t in rows["end_ns"]],
    }
    assert both.share(axis).column("energy_j").to_pylist() == wall.column("energy_j").to_pylist()


def test_a_row_per_span_and_channel_stays_beside_its_span(both):
    table = both.share(spans(("b", 1, 3), ("a", 1, 3), ("b", 2, 3)), clock="realtime", per_channel=True)
    assert table.column("channel").to_pylist() == ["b/rapl:package-0", "a/rapl:package-0", "b/rapl:package-0"]


def test_a_baseline_names_its_channel(both):
    table = both.share(spans(("a", 1, 3), ("b", 1, 3)), clock="realtime", baseline_w={"a/rapl:package-0": 10.0})
    assert table.column("baseline_j").to_pylist() == pytest.approx([20, 0], rel=0.01)
    assert float(table.schema.metadata[b"baseline_j"]) == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ({"begin_ns": [1], "end_ns": [2]}, {}, "needs a column host"),
        ({"host": ["c"], "begin_ns": [1], "end_ns": [2]}, {}, "must be one of a, b, not 'c'"),
        ({"host": ["a"], "begin_ns": [1], "end_ns": [2]}, {}, "rows of host a: .* must lie within the run"),
        ({"host": ["a"], "begin_ns": [2], "end_ns": [1]}, {}, "rows of host a"),
        (spans(("a", 1, 3)), {"baseline_w": 5.0}, "a power for each channel"),
        (spans(("a", 1, 3)), {"baseline_w": {"c/x": 5.0}}, "must name channels that are shared"),
    ],
)
def test_bad_tables_are_refused_with_the_reason(both, rows, options, words):
    with pytest.raises(ValueError, match=words):
        both.share(rows, clock="realtime", **options)
