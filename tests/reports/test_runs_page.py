# SPDX-License-Identifier: Apache-2.0
"""Several runs on one page, in a real browser: curves on one axis, differences with bounds, hostile names as text."""

from __future__ import annotations

import io

import numpy as np
import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.reports.runs_page import comparison_html, runs_to_html
from fastgreen.results.console import PrintableConsole
from tests.oracles.browser import chromium, photograph, requests, resize
from tests.oracles.long_runs import METADATA, long_run


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.mark.parametrize("width", [1440, 360])
def test_runs_stand_below_each_other_with_their_differences(tmp_path, browser, width):
    one, two = long_run(60, names=("infer", "only a")), long_run(120, names=("infer", "only b"), seed=1)
    hostile = "<script>document.title='hacked'</script>"
    path = tmp_path / "page.html"
    runs_to_html({"one": one, hostile: two, "third": long_run(0.5, windows=0, names=())}, path)
    resize(browser, width)
    browser.get_log("browser")
    requests(browser)
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    assert set(requests(browser)) == {path.as_uri()}
    assert browser.title == "Energy of several runs"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    text = browser.find_element("tag name", "body").text
    comparison = fg.compare(one, two)
    ratio = comparison.ratio("infer")
    for said in (hostile, f"{ratio.low:.4g} .. {ratio.high:.4g}", "window 'only a' is only in one", "0 s to 120 s"):
        assert said in text
    assert len(browser.find_elements("css selector", ".chart canvas")) == 3
    lanes = [found.text for found in browser.find_elements("css selector", ".lane span")]
    assert [lane.split(" ×")[0] for lane in lanes[:2]] in (["one: infer", "one: only a"], ["one: only a", "one: infer"])
    assert any(lane.startswith(hostile) for lane in lanes)
    drawn = browser.execute_script(
        """const c = document.querySelectorAll('.lane canvas')[0];
        const pixels = c.getContext('2d').getImageData(0, 5, c.width, 1).data;
        let last = 0; for (let i = 3; i < pixels.length; i += 4) if (pixels[i]) last = i / 4; return last / c.width"""
    )
    assert 0.3 < drawn <= 0.51  # the shorter run, on the axis of the longer one
    tops = "return [...document.querySelectorAll('.uplot')].map((c) => c.clientHeight)"
    assert len(set(browser.execute_script(tops))) == 1  # one scale, so that equal powers are equally high
    ends = browser.execute_script(
        """return [...document.querySelectorAll('.chart canvas')].map((c) => {
        const pixels = c.getContext('2d').getImageData(0, 0, c.width - 22, c.height - 40).data;
        let last = 0;
        for (let i = 0; i < pixels.length; i += 4) {
          if (pixels[i + 3] > 200 && pixels[i + 2] > pixels[i] + 60) last = Math.max(last, (i / 4) % (c.width - 22));
        }
        return last / c.width;})"""
    )
    assert ends[0] < 0.65 < 0.8 < ends[1]  # on one axis, the run of half the length takes half of the width
    photograph(browser, f"runs-{width}")


def test_an_energy_that_is_not_resolved_has_no_ratio_and_numbers_sort():
    from fastgreen.results.bounded import Windows
    from tests.oracles.long_runs import SECOND, START_NS

    begin = np.array([START_NS + SECOND])
    runs = []
    for seed in (0, 1):
        run = long_run(10, seed=seed)
        tiny = Windows("tiny" * 100, 9, begin, begin + 300)
        runs.append(fg.Result(run.traces, [*run._windows, tiny], METADATA, run.start_ns, run.end_ns))
    comparison = fg.compare(*runs)
    _, rows = comparison.cells()
    (base, other) = (row for row in rows if row[0].startswith("tiny"))
    assert base[3].startswith("< ")
    assert other[3].startswith("< ")
    assert other[-2:] == ["-", "-"]
    (sentence,) = (s for s in comparison.sentences if s.startswith("tiny"))
    assert len(sentence) < 200
    narrow = io.StringIO()
    PrintableConsole(file=narrow, width=80, color_system=None).print(comparison.to_table())
    lines = [line for line in narrow.getvalue().splitlines() if line.strip()]
    assert len(lines) == 2 + len(rows)  # no cell is folded
    assert max(map(len, lines)) <= 80
    html = comparison_html(comparison)
    ratio = comparison.ratio("infer").ratio
    assert f'<td class="n" data-v="{ratio!r}">{ratio:.4g}</td>' in html
    assert html.count('<td class="n">-</td>') == 2


def test_the_command_takes_several_folders_and_names_them(tmp_path):
    for name, seconds in (("a", 5), ("b", 6)):
        long_run(seconds).save(tmp_path / name)
    call = lambda *args: CliRunner().invoke(main, ["report", *map(str, args)])  # noqa: E731
    out = tmp_path / "out.html"
    assert call(tmp_path / "a", tmp_path / "b", "--html", out).exit_code == 0
    assert "<h1>Energy of 2 runs</h1>" in out.read_text()
    assert "<caption>b and a</caption>" in out.read_text()
    assert call(tmp_path / "a", tmp_path / "a", "--html", out).exit_code == 0
    assert call(tmp_path / "a", tmp_path / "b").exit_code == 2
    assert call(tmp_path / "a", tmp_path / "b", "--html", out, "--json").exit_code == 2
    assert call(tmp_path / "a", tmp_path / "none", "--html", out).exit_code == 1


def test_runs_without_readings_have_a_page_that_says_so(tmp_path):
    nothing = fg.Result([], [], METADATA, 0, 0)
    runs_to_html({"a": long_run(2), "b": nothing}, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "energy unknown" in text
    assert "no channel gave a reading" in text
    runs_to_html({"a": nothing, "b": nothing}, tmp_path / "page.html")
