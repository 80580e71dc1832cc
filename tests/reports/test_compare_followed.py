# SPDX-License-Identifier: Apache-2.0
"""Windows of two saved runs whose energies follow the load: the ratio rests on their intervals."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.reports.compare import compare
from fastgreen.reports.ratio import student_t, unpaired
from tests.oracles.loops import Loop
from tests.oracles.servers import Server


def page_of(result, tmp_path):
    fg.to_html(result, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text()


def run(watts, seed, **options):
    loop = Loop({"infer": (5, watts)}, 20, 100, 25, seed=seed, length_jitter=0.2, **options)
    result = loop.result()
    result.metadata["host"] = "here"
    return result, loop.true_j("infer")


def test_two_windows_of_5_ms_on_a_counter_of_100_ms_are_told_apart():
    held = 0
    for seed in range(0, 12, 2):
        (a, true_a), (b, true_b) = run(300.0, 800 + seed), run(400.0, 801 + seed)
        found = compare(a, b)
        ratio = found.ratio("infer")
        held += ratio.low <= true_b / true_a <= ratio.high
        assert ratio.verdict == "more"
        assert ratio.high / ratio.low < 1.2
        assert "rests on the 95 % intervals" in str(found)
        assert "no difference" not in str(found)
    assert held >= 5


def test_the_same_window_twice_shows_no_difference():
    (a, _), (b, _) = run(300.0, 1), run(300.0, 2)
    assert compare(a, b).ratio("infer").verdict == "no difference"


def test_windows_without_an_interval_keep_their_bounds_and_the_reason():
    (a, _), (b, _) = run(300.0, 1), run(20.0, 2)  # the second draws as at rest
    found = compare(a, b)
    assert found.ratio("infer").verdict == "sensors cannot tell"
    assert any("of B has no 95 % interval: nvml:0 cannot tell its power" in note for note in found.notes)


def test_errors_of_intervals_and_scatter_add_as_squares():
    blocks = np.array([9.0, 11.0] * 10)
    scatter = unpaired((10, 10, 10), (10, 10, 10), blocks, blocks).scatter
    both = unpaired((10, 0, 20), (10, 0, 20), blocks, blocks, (0.5, 0.5))
    assert both.meter == 0
    fit = np.sqrt(2) * 0.05 / student_t(29)
    freedom = 38  # of two sides alike with 20 blocks
    assert both.scatter == pytest.approx(student_t(freedom) * np.hypot(scatter / student_t(freedom), fit), rel=1e-9)


def test_the_page_says_how_well_windows_and_ledgers_are_known(tmp_path):
    result, _ = run(300.0, 3)
    result.metadata |= {"format": 1, "version": "0"}
    html = page_of(result, tmp_path)
    assert re.search(r"infer is known to [\d.]+ % \(95 %\); [\d,]+ more give 1 %\.", html)
    server = Server(seconds=60.0, seed=5, rate_per_s=10, lengths_s=(0.003, 0.01)).result()
    assert re.search(r"chat is known to [\d.]+ % \(95 %\); [\d,]+ more give 1 %\.", page_of(server, tmp_path))
