# SPDX-License-Identifier: Apache-2.0
"""The page of a run, opened in a real browser: it shows the run, works by click and key, and asks for nothing."""

from __future__ import annotations

import json
import re
import time
from html import escape

import numpy as np
import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.cli import main
from fastgreen.results.console import known_lines, with_bounds
from fastgreen.results.trace import Trace, Windows
from tests.oracles.browser import chromium, photograph, requests, resize
from tests.oracles.long_runs import METADATA, SECOND, START_NS, long_run, with_spans

HOSTILE = (
    "<script>document.title='hacked'</script>",
    "</script><img src=x onerror=\"document.title='hacked'\">",
    "<!--<script>",
    "%%DATA%%",
    "😀" * 2500,
)
SIZES = [1440, 360]


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


def page_of(result, tmp_path, browser=None, width=1440):
    path = tmp_path / "page.html"
    fg.to_html(result, path)
    if browser is not None:
        resize(browser, width)
        browser.get_log("browser")
        requests(browser)
        browser.get(path.as_uri())
    return path


def run_data(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="run">(.*?)</script>', text, re.DOTALL)[1])


def quiet(browser, path):
    """Nothing in the console, and no request but for the page."""
    assert browser.get_log("browser") == []
    assert set(requests(browser)) == {path.as_uri()}
    assert browser.title == "Energy of a run"


def range_of(browser):
    return browser.find_element("id", "range").text


@pytest.mark.parametrize("width", SIZES)
def test_a_page_opens_without_errors_or_requests_and_fits_the_screen(tmp_path, browser, width):
    result = long_run(60, names=("infer", "load", "<script>alert(1)</script>"), spike_w=180.0)
    path = page_of(result, tmp_path, browser, width)
    quiet(browser, path)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    text = browser.find_element("tag name", "body").text
    energy, between = with_bounds(result.energy_j, result.energy_low_j, result.energy_high_j, "J")
    for said in (
        energy,
        between.replace(" .. ", " and "),
        "all counted channels",
        "rapl:package-0",
        "infer × 100",
        "<script>alert(1)</script>",
    ):
        assert said in text
    assert len(browser.find_elements("css selector", ".chart canvas")) == 3
    photograph(browser, f"page-{width}")


@pytest.mark.parametrize("width", SIZES)
def test_zoom_by_button_key_and_mouse(tmp_path, browser, width):
    from selenium.webdriver import ActionChains, Keys

    path = page_of(long_run(600), tmp_path, browser, width)
    whole = range_of(browser)
    assert whole.startswith("0 s to 600 s")
    button = {b.get_attribute("data-zoom"): b for b in browser.find_elements("css selector", "[data-zoom]")}
    button["in"].click()
    assert range_of(browser).startswith("150 s to 450 s")
    button["left"].click()
    assert range_of(browser).startswith("75 s to 375 s")
    button["all"].click()
    charts = browser.find_element("id", "charts")
    charts.send_keys("+")
    assert range_of(browser).startswith("150 s to 450 s")
    charts.send_keys(Keys.ARROW_RIGHT)
    assert range_of(browser).startswith("225 s to 525 s")
    charts.send_keys("0")
    assert range_of(browser) == whole
    area = browser.find_element("css selector", ".u-over")
    ActionChains(browser).move_to_element_with_offset(area, -60, 0).click_and_hold().move_by_offset(
        100, 0
    ).release().perform()
    dragged = range_of(browser)
    assert dragged != whole
    ActionChains(browser).double_click(area).perform()
    assert range_of(browser) == whole
    for _ in range(20):
        button["in"].click()
    step_s = run_data(path)["levels"][-1]["step_s"]
    assert f"steps of {step_s * 1000:g} ms" in range_of(browser)
    quiet(browser, path)


@pytest.mark.parametrize("width", SIZES)
def test_hover_shows_numbers_of_the_curve_and_of_a_window(tmp_path, browser, width):
    from selenium.webdriver import ActionChains

    path = page_of(long_run(60, windows=1, names=("only",)), tmp_path, browser, width)
    area = browser.find_element("css selector", ".u-over")
    ActionChains(browser).move_to_element(area).perform()
    said = [p.text for p in browser.find_elements("css selector", ".chart .readout")]
    assert len(said) == 3
    for text in said:
        assert re.match(r"[\d.]+ s: [\d.]+ W, between [\d.]+ W and [\d.]+ W; peaks [\d.]+ W to [\d.]+ W$", text), text
    window = long_run(60, windows=1, names=("only",)).windows().to_pylist()[0]
    lane = browser.find_element("css selector", ".lane canvas")
    middle = (window["start_ns"] - START_NS) / SECOND + window["duration_s"] / 2
    ActionChains(browser).move_to_element_with_offset(lane, (middle / 60 - 0.5) * lane.size["width"], 0).perform()
    said = browser.find_element("id", "window").text
    assert said.startswith("only, window 0: began at ")
    assert f"{window['energy_j']:.4g} J" in said.replace("k", "")
    quiet(browser, path)


@pytest.mark.parametrize("width", SIZES)
def test_tables_sort_by_value_and_the_theme_changes(tmp_path, browser, width):
    path = page_of(long_run(60, windows=400, names=("b", "a", "d", "c")), tmp_path, browser, width)
    table = browser.find_elements("css selector", "table")[0]

    def names():
        return [row.find_element("css selector", "td").text for row in table.find_elements("css selector", "tbody tr")]

    heads = {head.text: head for head in table.find_elements("css selector", "th button")}
    by_energy = names()
    heads["name"].click()
    assert names() == ["d", "c", "b", "a"]
    heads["name"].click()
    assert names() == ["a", "b", "c", "d"]
    heads["energy"].click()
    assert names() == by_energy
    assert table.find_elements("css selector", "th")[2].get_attribute("aria-sort") == "descending"
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(colour)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(colour) != light
    photograph(browser, f"dark-{width}")
    browser.find_element("id", "theme").click()
    assert browser.execute_script(colour) == light
    quiet(browser, path)


@pytest.mark.parametrize("place", [0.34, 0.9])
def test_a_curve_is_drawn_and_a_peak_shows_above_the_line(tmp_path, browser, place):
    """Pixels above the middle of the chart are coloured only where the peak is."""
    page_of(long_run(600, spike_w=500.0), tmp_path, browser)
    rows = browser.execute_script(
        """const c = document.querySelector('.chart canvas'), at = Math.round(56 + arguments[0] * (c.width - 64));
        const pixels = c.getContext('2d').getImageData(at - 20, 10, 40, c.height / 2 - 20).data;
        let blue = 0;
        for (let i = 0; i < pixels.length; i += 4) blue += pixels[i + 3] > 0 && pixels[i + 2] > pixels[i] + 60;
        return blue;""",
        place,
    )
    assert (rows > 0) == (place == 0.34)


def test_channels_of_the_total_are_stacked_with_a_key(tmp_path, browser):
    path = page_of(long_run(60), tmp_path, browser)
    data = run_data(path)
    assert data["stack"] == [1, 2]
    key = [found.text for found in browser.find_elements("css selector", ".key span")]
    assert key == [data["titles"][place] for place in data["stack"]]
    colors = browser.execute_script(
        """const c = document.querySelector('.chart canvas'), x = Math.round(c.width / 2);
        const column = c.getContext('2d').getImageData(x, 0, 1, c.height).data, out = {};
        for (let i = 0; i < column.length; i += 4) {
          const k = [...column.slice(i, i + 4)].join();
          out[k] = (out[k] || 0) + 1;
        }
        return Object.values(out).filter((n) => n > 3).length"""
    )
    assert colors >= 3  # paper and two layers at least
    quiet(browser, path)


def test_names_and_notes_of_a_run_are_text(tmp_path, browser):
    metadata = {**METADATA, "host": HOSTILE[1], "version": HOSTILE[0]}
    run = long_run(5, windows=50, names=HOSTILE)
    result = fg.Result(run.traces, run._windows, metadata, run.start_ns, run.end_ns, list(HOSTILE))
    path = page_of(result, tmp_path, browser)
    assert [lane["name"] for lane in run_data(path)["lanes"]]
    quiet(browser, path)
    assert browser.find_elements("css selector", "img") == []
    assert len(browser.find_elements("css selector", "script")) == 3
    assert HOSTILE[0] in browser.find_element("tag name", "body").text
    assert path.stat().st_size < 300_000


def over(plain, traces=None, windows=None, metadata=METADATA):
    """The run with other parts."""
    traces, windows = (
        given if other is None else other for given, other in ((plain.traces, traces), (plain._windows, windows))
    )
    return fg.Result(traces, windows, metadata, plain.start_ns, plain.end_ns)


def with_gaps(trace):
    """Half of the readings lost in long stretches, and gaps noted."""
    samples = np.concatenate(list(trace.chunks()))
    kept = samples[(samples["at_ns"] - START_NS) // (3 * SECOND) % 2 == 0].copy()
    kept["flags"][1:][np.diff(kept["at_ns"]) > SECOND] |= _resolver.GAP
    return Trace.recounted(trace.channel, trace.counted, lambda: [kept.copy()])


def unread():
    """A counted channel that was never read: its energy is no number."""
    return Trace.recounted(long_run(2).traces[1].channel, True, list)


NOW = np.array([START_NS + SECOND], np.int64)
ODD = {
    "no channel": lambda: fg.Result([], [], METADATA, 0, 0),
    "no channel but windows": lambda: over(long_run(2, windows=4), traces=[]),
    "windows of 0 ns": lambda: over(long_run(2), windows=[Windows("x", 0, NOW, NOW)]),
    "no window": lambda: long_run(2, windows=0, names=()),
    "a channel without a reading": lambda: over(long_run(2), traces=[*long_run(2).traces[:1], unread()]),
    "NaN in the metadata": lambda: over(
        long_run(2), metadata={**METADATA, "realtime_ns": float("nan"), "host": float("nan"), "version": float("inf")}
    ),
    "200 names": lambda: long_run(5, windows=200, names=[f"name {i}" for i in range(200)]),
    "many windows": lambda: long_run(60, windows=30_000, names=("a", "b", "c")),
    "spans": lambda: with_spans(long_run(60, windows=30), 300, ids=[*HOSTILE, "r1"]),
    "many spans": lambda: with_spans(long_run(600), 25_000, phases=False),
    "gaps": lambda: over(long_run(20), traces=[with_gaps(t) for t in long_run(20).traces]),
    "no clock": lambda: over(long_run(2), metadata={"realtime_ns": 10**40, "monotonic_ns": 0, "host": None}),
    "one reading": lambda: fg.Result(long_run(0.001).traces[:1], [], METADATA, START_NS, START_NS),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_run_has_a_page(tmp_path, browser, name):
    result = ODD[name]()
    path = page_of(result, tmp_path, browser, 360)
    quiet(browser, path)
    photograph(browser, name.replace(" ", "-"))
    data = run_data(path)
    stretches = sum(map(len, result._windows)) + sum(result.spans(n).num_rows for n in result.ledger_names)
    assert sum(lane["count"] for lane in data["lanes"]) == stretches or not data["duration_s"]


def test_how_well_a_window_is_known_is_said_once(tmp_path):
    run = long_run(60, windows=30, names=("a", "b", "c", "d"))
    fg.to_html(run, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    lines = known_lines(sorted(run.summary().to_pylist(), key=lambda row: -row["energy_j"]))
    assert lines
    for line in lines:
        assert text.count(escape(" ".join(line.split()))) == 1
    assert "interval note" not in text


def test_faults_without_a_note_are_not_called_none(tmp_path):
    run = long_run(5)
    fg.to_html(run, tmp_path / "whole.html")
    assert "No faults, gaps or doubts were noted." in (tmp_path / "whole.html").read_text()
    run.traces[1].tally["missed"] = 2
    fg.to_html(over(run), tmp_path / "late.html")
    text = (tmp_path / "late.html").read_text()
    assert "No faults, gaps or doubts were noted." not in text
    assert "Some readings came late or failed" in text


def test_densities_show_every_part_of_a_run_that_had_a_window(tmp_path, browser):
    page_of(long_run(60, windows=30_000, names=("a",)), tmp_path, browser)  # they begin in the first 90 %
    empty = browser.execute_script(
        """const c = document.querySelector('.lane canvas');
        const pixels = c.getContext('2d').getImageData(0, 2, 0.89 * c.width, 1).data;
        let empty = 0;
        for (let i = 3; i < pixels.length; i += 4) empty += pixels[i] === 0;
        return empty;"""
    )
    assert empty == 0


def test_a_span_is_shown_with_its_id_and_the_most_expensive_are_in_a_table(tmp_path, browser):
    from selenium.webdriver import ActionChains

    run = with_spans(long_run(60, windows=4), 30)
    path = page_of(run, tmp_path, browser)
    lanes = browser.find_elements("css selector", ".lane canvas")
    assert lanes[-1].get_attribute("aria-label") == "chat: 30 spans"
    row = max(run.spans("chat").to_pylist(), key=lambda r: r["energy_j"])
    middle = (row["start_ns"] - START_NS) / SECOND + 0.01
    ActionChains(browser).move_to_element_with_offset(
        lanes[-1], int((middle / 60 - 0.5) * lanes[-1].size["width"]), 0
    ).perform()
    assert re.match(r"chat, span request \d+: began at", browser.find_element("id", "window").text)
    (table,) = (t for t in browser.find_elements("css selector", "table") if t.text.startswith("Spans of chat"))
    rows = table.find_elements("css selector", "tbody tr")
    assert len(rows) == 20
    assert rows[0].text.startswith(row["id"])
    assert "10 more spans took" in browser.find_element("tag name", "body").text
    quiet(browser, path)


def test_an_hour_at_100_hz_is_a_small_page_and_soon_written(tmp_path):
    result = long_run(3600, windows=10_000, names=("a", "b", "c", "d", "e"))
    fg.to_html(result, tmp_path / "first.html")
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        fg.to_html(result, tmp_path / "page.html")
        seconds.append(time.process_time() - begin)
    assert min(seconds) <= 1.0
    assert (tmp_path / "page.html").stat().st_size <= 1_000_000
    assert 0.2 <= run_data(tmp_path / "page.html")["levels"][-1]["step_s"] <= 0.5


def test_a_part_of_a_run_is_drawn_in_full(tmp_path, browser):
    run = with_spans(long_run(3600, windows=10_000), 100)
    fg.to_html(run, tmp_path / "whole.html")
    assert "--from S --to S" in (tmp_path / "whole.html").read_text()
    path = tmp_path / "page.html"
    fg.to_html(run, path, from_s=1800, to_s=1860)
    data = run_data(path)
    assert data["duration_s"] == 60
    assert data["levels"][-1]["step_s"] <= 0.2 < run_data(tmp_path / "whole.html")["levels"][-1]["step_s"]
    requests(browser)
    browser.get(path.as_uri())
    quiet(browser, path)
    assert range_of(browser).startswith("1800 s to 1860 s (0:30:00 to 0:31:00), steps of ")
    assert "Curves and lanes show 1800 s to 1860 s of the run" in browser.find_element("tag name", "body").text
    for wrong in ((5, 5), (7, 6), (4000, None), (4000, 5000)):
        with pytest.raises(ValueError, match="must be a stretch within the run"):
            fg.to_html(run, path, from_s=wrong[0], to_s=wrong[1])
    long_run(5).save(tmp_path / "run")
    call = lambda *more: CliRunner().invoke(main, ["report", str(tmp_path / "run"), *more])  # noqa: E731
    assert call("--html", str(path), "--from", "1", "--to", "2").exit_code == 0
    assert run_data(path)["begin_s"] == 1
    assert call("--from", "1").exit_code == 2
    assert call("--html", str(path), "--from", "9").exit_code == 2


def test_the_command_writes_a_page_and_replaces_an_older_one(tmp_path):
    long_run(2).save(tmp_path / "my <run>")
    out = tmp_path / "out.html"
    out.write_text("old")
    done = CliRunner().invoke(main, ["report", str(tmp_path / "my <run>"), "--html", str(out)])
    assert done.exit_code == 0, done.output
    assert "<h1>Energy of my &lt;run&gt;</h1>" in out.read_text(encoding="utf-8")
    done = CliRunner().invoke(main, ["report", str(tmp_path / "my <run>"), "--html", str(tmp_path / "no" / "x.html")])
    assert done.exit_code == 1
    assert "no such folder" in done.output
    (tmp_path / "my <run>" / "samples.arrow").write_bytes(b"damaged")
    done = CliRunner().invoke(main, ["report", str(tmp_path / "my <run>"), "--html", str(tmp_path / "new.html")])
    assert done.exit_code == 1
    assert "samples.arrow" in done.output
    assert not (tmp_path / "new.html").exists()


def test_the_vendored_library_comes_with_its_licence():
    from importlib.resources import files

    vendored = files("fastgreen.reports") / "vendor" / "uplot"
    assert "MIT License" in (vendored / "LICENSE").read_text()
    assert "uPlot" in (vendored / "uPlot.iife.min.js").read_text()[:100]
