# SPDX-License-Identifier: Apache-2.0
"""Files of prices and carbon intensities: real layouts, clocks that change, holes and impossible numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fastgreen.costs.hourly import read_hourly
from fastgreen.costs.rate import CARBON, PRICE
from fastgreen.errors import TraceError


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture
def file(tmp_path):
    def make(text: str):
        path = tmp_path / "grid.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return make


ELECTRICITYMAPS = """\
Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),Carbon intensity gCO₂eq/kWh (Life cycle),\
Carbon-free energy percentage (CFE%),Data source
2025-03-01 00:00:00,Germany,Germany,DE,210.5,262.1,61.2,entsoe.eu
2025-03-01 01:00:00,Germany,Germany,DE,220.5,272.1,60.2,entsoe.eu
2025-03-01 03:00:00,Germany,Germany,DE,240.5,292.1,58.2,entsoe.eu
"""


def test_an_export_of_electricitymaps_gives_the_life_cycle_intensity_and_a_hole_has_no_value(file):
    path = file(ELECTRICITYMAPS)
    rate = read_hourly(path, CARBON)
    assert rate.at(at("2025-03-01T00:30")) == 262.1
    assert rate.at(at("2025-03-01T01:00")) == 272.1
    assert rate.at(at("2025-03-01T03:59")) == 292.1
    for moment in ("2025-03-01T02:30", "2025-03-01T04:30", "2025-02-28T23:59"):
        with pytest.raises(TraceError, match="has no value for"):
            rate.at(at(moment))
    with pytest.raises(TraceError, match="02:00:00 UTC to 2025-03-01 03:00:00 UTC"):
        rate.check_covers(at("2025-03-01T00:30"), at("2025-03-01T03:30"))
    direct = read_hourly(path, CARBON, "carbon intensity gCO₂eq/kWh (direct)")
    assert direct.at(at("2025-03-01T00:30")) == 210.5


def test_an_empty_row_is_a_hole_even_where_rows_with_values_are_further_apart(file):
    text = "time (UTC),carbon\n2026-11-27T13:00,200\n2026-11-27T14:00,\n2026-11-27T15:00,300\n"
    rate = read_hourly(file(text), CARBON)
    assert rate.at(at("2026-11-27T13:59")) == 200
    assert rate.at(at("2026-11-27T15:59")) == 300
    for moment in ("2026-11-27T14:30", "2026-11-27T16:00"):
        with pytest.raises(TraceError, match="has no value for"):
            rate.at(at(moment))
    # The first row of an hour that is there twice may be empty; a value beside it is that hour's.
    text = "time (UTC),carbon\n2026-11-27T13:00,\n2026-11-27T13:00,7\n2026-11-27T14:00,8\n"
    twice = read_hourly(file(text), CARBON)
    assert twice.at(at("2026-11-27T13:30")) == 7


def test_an_export_of_entsoe_is_in_local_time_and_per_megawatt_hour(file):
    """The day of 23 hours, and the day of 25: the second 02:00 is that of winter."""
    header = "MTU (CET/CEST),Day-ahead Price [EUR/MWh],Currency,BZN|DE-LU\n"
    spring = "".join(
        f"30.03.2025 {h:02}:00 - 30.03.2025 {h + 1:02}:00,{'' if h == 2 else 100 + h},EUR,\n" for h in range(23)
    )
    rate = read_hourly(file(header + spring), PRICE)
    assert rate.currency == "EUR"
    assert rate.at(at("2025-03-30T00:30")) == pytest.approx(0.101)  # 01:30 CET
    assert rate.at(at("2025-03-30T01:30")) == pytest.approx(0.103)  # 03:30 CEST
    rate.check_covers(at("2025-03-29T23:00"), at("2025-03-30T21:00"))
    hours = [0, 1, 2, 2, 3, 4]
    autumn = "".join(f"26.10.2025 {h:02}:00 - 26.10.2025 {h + 1:02}:00,{-5 + n},EUR,\n" for n, h in enumerate(hours))
    for text in (autumn, "".join(reversed(autumn.splitlines(keepends=True)))):
        rate = read_hourly(file(header + text), PRICE)
        found = [rate.at(at("2025-10-25T22:30") + 3600 * n) for n in range(6)]
        assert found == pytest.approx([(-5 + n) / 1000 for n in range(6)])
    once = "".join(f"26.10.2025 {h:02}:00 - 26.10.2025 {h + 1:02}:00,{h + 1},EUR,\n" for h in (0, 1, 2, 3))
    rate = read_hourly(file(header + once), PRICE)
    with pytest.raises(TraceError, match="no value"):
        rate.at(at("2025-10-26T00:30"))  # it could be either of the two hours


def test_the_newer_export_of_entsoe_marks_the_zone_of_each_time(file):
    text = "MTU (CET/CEST),Area,Sequence,Day-ahead Price (EUR/MWh),Intraday Price (EUR/MWh)\n"
    text += "26/10/2025 01:00:00 - 26/10/2025 02:00:00,BZN|FR,,10,\n"
    text += "26/10/2025 02:00:00 (CEST) - 26/10/2025 02:00:00 (CET),BZN|FR,,20,\n"
    text += "26/10/2025 02:00:00 (CET) - 26/10/2025 03:00:00 (CET),BZN|FR,,30,\n"
    rate = read_hourly(file(text), PRICE)
    assert [rate.at(at(f"2025-10-{x}:30")) for x in ("25T23", "26T00", "26T01")] == [0.01, 0.02, 0.03]


def test_any_zone_offset_separator_and_unit(file):
    rate = read_hourly(file("time (America/New_York);lb CO2/MWh\n2025-07-01 00:00;1000,5\n"), CARBON)
    assert rate.at(at("2025-07-01T04:30")) == pytest.approx(1000.5 * 453.59237 / 1000)
    rate = read_hourly(file("start,price\n2025-07-01T00:00:00+02:00,0.25\n2025-07-01T00:15:00+02:00,0.26\n"), PRICE)
    assert rate.at(at("2025-06-30T22:20")) == 0.26
    with pytest.raises(TraceError, match="no value"):
        rate.at(at("2025-06-30T22:31"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a header and a row"),
        ("time (UTC),carbon intensity\n", "a header and a row"),
        ("a,b\n1,2\n", "a column must have times"),
        ("time,carbon intensity\n2025-01-01 00:00,5\n", "must have a time zone"),
        ("time (Nowhere/Land),carbon intensity\n2025-01-01 00:00,5\n", "'Nowhere/Land' is not known"),
        ("time (UTC),x,y\n2025-01-01 00:00,5,6\n", "FILE::COLUMN"),
        ("time (UTC),g/kWh a,g/kWh b\n2025-01-01 00:00,5,6\n", "more than one column"),
        ("time (UTC),g/kWh\n01/02/25,5\n", "a time must have the form"),
        ("time (UTC),g/kWh\n2025-01-01 00:00,abc\n", "must be a number, not 'abc'"),
        ("time (UTC),g/kWh\n2025-01-01 00:00,-1\n", "0..10000 g/kWh, not -1"),
        ("time (UTC),g/kWh\n2025-01-01 00:00,inf\n", "not inf"),
        ("time (UTC),g/kWh\n2025-01-01 00:00,232000\n", "not 232000"),
        ("time (UTC),g/kWh\n2025-01-01 00:00,nan\n", "has no values"),
        ("time (UTC),g/kWh\n2025-01-01 00:00,1\n2025-01-01 00:00,2\n", "one area and one sequence"),
        ("time (UTC),g/kWh\n2025-01-01 00:00\n", "must have 2 cells"),
        ("time (UTC),g/kWh\n2024-01-01,1\n2025-01-01,2\n", "at most a month apart"),
        ("time (CET/CEST),g/kWh\n2025-03-30 02:30,7\n2025-03-30 03:30,7\n", "does not exist in its zone"),
        ("time (UTC),g/kWh\n2025-01-01 00:00 (XYZ),1\n", "'XYZ' is not known"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_name(file, text, words):
    with pytest.raises(TraceError) as caught:
        read_hourly(file(text), CARBON)
    assert words in str(caught.value)
    assert "grid.csv" in str(caught.value)


def test_the_mean_over_stretches_equals_a_slow_sum(file):
    import random

    draw = random.Random(4)
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    values = [draw.uniform(10, 900) for _ in range(48)]
    rows = "".join(f"{(begin + timedelta(hours=n)).isoformat()},{v!r}\n" for n, v in enumerate(values))
    rate = read_hourly(file("time,g/kWh\n" + rows), CARBON)
    start = begin.timestamp()
    for _ in range(50):
        a, b = sorted(draw.uniform(0, 48 * 3600) for _ in range(2))
        slow = sum(
            values[h] * max(0.0, min(b, 3600 * (h + 1)) - max(a, 3600 * h)) for h in range(48)
        ) / (b - a)  # fmt: skip
        import numpy as np

        assert rate.mean(np.array([start + a]), np.array([start + b]))[0] == pytest.approx(slow, rel=1e-6)
