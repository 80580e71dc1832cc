# SPDX-License-Identifier: Apache-2.0
"""Numbers for people stay within their own printed bounds, and tables of a notebook are inert HTML."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgreen as fg
from fastgreen.results.console import with_bounds
from fastgreen.results.html_tables import MOST_ROWS, html_table
from tests.fakes.powercap import Zone

PREFIXES = {"G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def read(text: str, unit: str) -> float:
    """The number that a printed quantity means."""
    number, _, shown = text.partition(" ")
    return float(number) * PREFIXES[shown.removesuffix(unit)]


def read_bounds(text: str, unit: str) -> tuple[float, float]:
    low, high = text.split(" .. ")
    return read(low if unit in low else f"{low} {high.split(' ')[1]}", unit), read(high, unit)


class Tables(HTMLParser):
    """Rows of cells of every table, and the names of all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.elements: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@given(
    st.floats(1e-7, 1e8, allow_nan=False),
    st.floats(0, 1),
    st.floats(1e-7, 0.9),
)
def test_a_printed_estimate_lies_within_its_printed_bounds(high, part, width):
    low = high * (1 - width)
    value = min(max(low + part * (high - low), low), high)
    shown, between = with_bounds(value, low, high, "J")
    first, last = read_bounds(between, "J")
    if shown.startswith("< "):  # nothing proves that any energy was used
        assert low == first == 0
        assert read(shown.removeprefix("< "), "J") == last
        shown = f"{value} J"
    close = 1e-12 * high  # of reading the decimal text back
    assert first - close <= read(shown, "J") <= last + close
    assert first - close <= low
    assert last + close >= high
    assert first < last
    assert last - first <= 1.5 * (high - low) + 2e-8 * high


@pytest.mark.parametrize(
    ("value", "low", "high", "texts"),
    [
        (100.06, 99.51, 100.4, ("100.1 J", "99.51 .. 100.4 J")),
        (55.0, 54.9999, 55.0001, ("55.0000 J", "54.9999 .. 55.0001 J")),
        (0.0, 0.0, 0.4375, ("< 438 mJ", "0 .. 438 mJ")),
        (0.2, 0.0, 0.4375, ("< 438 mJ", "0 .. 438 mJ")),
        (0.2, 0.0, float("inf"), ("200.0 mJ", "0 .. inf J")),
        (2.0, 2.0, 2.0, ("2.000 J", "2.000 .. 2.000 J")),
        (1.0, 0.5, float("inf"), ("1.000 J", "500 mJ .. inf J")),
        (None, None, None, ("-", "-")),
    ],
)
def test_estimates_and_bounds_as_text(value, low, high, texts):
    assert with_bounds(value, low, high, "J") == texts


def test_a_table_has_new_columns_and_leaves_empty_ones_out():
    unit = {"unit": "J"}
    schema = pa.schema(
        [
            pa.field("name", pa.string()),
            pa.field("energy_j", pa.float64(), metadata=unit),
            pa.field("energy_low_j", pa.float64(), metadata=unit),
            pa.field("energy_high_j", pa.float64(), metadata=unit),
            pa.field("mean_energy_ci_low_j", pa.float64(), metadata=unit),
            pa.field("never", pa.float64()),
        ]
    )
    rows = [("a", 1.0, 0.5, 2.0, 0.7, None), ("b", 3.0, 2.5, 4.0, 0.9, None)]
    table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema)
    head, first, second = Tables(html_table(table, "x")).rows
    assert head == ["name", "energy", "energy between", "mean energy ci low"]
    assert first == ["b", "3.000 J", "2.50 .. 4.00 J", "900.0 mJ"]
    assert second[0] == "a"
    assert 'data-v="3.0"' in html_table(table, "x")


def test_a_table_of_many_rows_keeps_the_most_expensive_and_counts_the_rest():
    count = MOST_ROWS + 7
    table = pa.table({"name": [str(i) for i in range(count)], "energy_j": [float(i) for i in range(count)]})
    text = html_table(table, "many")
    assert len(Tables(text).rows) == MOST_ROWS + 1
    assert Tables(text).rows[1][0] == str(count - 1)
    assert "7 more rows" in text


HOSTILE = (
    "<script>alert(1)</script>",
    "</table><img src=x onerror=alert(1)>",
    "\"' &amp; \x1b]0;x\x07 \u202e",
    "😀" * 9000,
)


def test_a_notebook_shows_tables_in_which_names_are_text(powercap):
    powercap(Zone("package-0", watts=50.0), move=True)
    with fg.Monitor("rapl:*", hz=100) as monitor:
        for name in HOSTILE:
            with monitor.window(name):
                time.sleep(0.05)
    text = monitor.result._repr_html_()
    assert set(Tables(text).elements) <= {"div", "p", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert not re.search(r"on\w+=[^;]*<", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert len(text) < 20_000
    assert "rapl:package-0" in text


def test_a_notebook_shows_a_run_that_measured_nothing():
    result = fg.Result([], [], {"realtime_ns": 0, "monotonic_ns": 0}, 0, 0)
    text = result._repr_html_()
    assert "energy unknown" in text
    assert Tables(text).rows == []
