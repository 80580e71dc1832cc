# SPDX-License-Identifier: Apache-2.0
"""The live page in a real browser: it follows a run by itself, asks only its own origin, and refuses strangers."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.reports.live_page import LivePage
from tests.oracles.browser import chromium, photograph, requests, resize
from tests.oracles.long_runs import long_run, with_spans


@contextmanager
def served(host="127.0.0.1"):
    page = LivePage(host, 0, "Energy of <b>this</b>")
    try:
        yield page
    finally:
        page.close()


def ask(page, path="/", host=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    body = answer.read() if answer.getheader("Content-Type", "") != "text/event-stream" else answer
    return answer.status, body


def until(check, seconds=20):
    end = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("width", [1440, 360])
def test_a_browser_follows_the_run(width):
    with chromium() as browser, served() as page:
        resize(browser, width)
        browser.get(page.address)
        assert "No reading yet." in browser.find_element("tag name", "body").text
        page.show(long_run(10))
        title = lambda: browser.find_element("id", "range").text  # noqa: E731
        assert until(lambda: title().startswith("0 s to 10 s"))
        assert len(browser.find_elements("css selector", ".chart canvas")) == 3
        page.show(with_spans(long_run(20, names=("<script>alert(1)</script>", "b")), 20))
        assert until(lambda: title().startswith("0 s to 20 s"))
        assert len(browser.find_elements("css selector", ".chart canvas")) == 3
        assert len(browser.find_elements("css selector", ".lane canvas")) == 3
        # a part that someone looks at stays, and so does the order of a table
        browser.find_element("css selector", "[data-zoom=in]").click()
        browser.execute_script("document.querySelectorAll('table')[0].querySelectorAll('th button')[0].click()")
        browser.execute_script("document.activeElement.blur()")
        page.show(long_run(30, names=("a", "b")))
        assert until(lambda: "30.00 s" in browser.find_element("css selector", "[data-part=IDENTITY]").text)
        assert title().startswith("5 s to 15 s")
        head = browser.find_elements("css selector", "table th")[0]
        assert head.get_attribute("aria-sort") == "descending"
        browser.find_element("id", "theme").click()
        assert browser.find_element("id", "live").text == "live"
        photograph(browser, f"live-{width}")
        page.close()
        assert until(lambda: browser.find_element("id", "live").text == "the run has ended")
        assert browser.get_log("browser") == []
        assert {re.sub(r"^(http://[^/]+/).*", r"\1", url) for url in requests(browser)} == {page.address}
        assert browser.title == "Energy of <b>this</b>"


def test_strangers_are_refused_and_nothing_can_be_changed():
    with served() as page:
        page.show(long_run(2))
        port = page.port
        for host in ("localhost", "127.0.0.1", "[::1]"):
            assert ask(page, host=f"{host}:{port}")[0] == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1:1", ""):
            assert ask(page, host=host)[0] == 403
            assert ask(page, "/events", host=host)[0] == 403
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(page, method=method)[0] == 501
        assert ask(page, "/../../etc/passwd")[0] == 404
        status, stream = ask(page, "/events")
        assert status == 200
        news = json.loads(stream.readline().removeprefix(b"data: "))
        assert set(news) == {"html", "data"}


def test_any_other_address_needs_the_token():
    with served("0.0.0.0") as page:
        assert page.token is not None
        assert page.address.endswith(f"/?token={page.token}")
        for path in ("/", "/?token=", "/?token=x", "/events", "/?token=%C3%A9"):
            assert ask(page, path)[0] == 403
        assert ask(page, f"/?token={page.token}", host="lab.example")[0] == 200


def test_a_taken_port_and_a_wrong_address_are_sentences():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ["watch", "--web", "--listen", f"127.0.0.1:{port}", "--seconds", "1"])
        assert done.exit_code == 1
        assert f"cannot serve on 127.0.0.1:{port}: Address already in use" in done.output
    for listen in ("nowhere", "host:99999", "127.0.0.1:"):
        assert CliRunner().invoke(main, ["watch", "--web", "--listen", listen]).exit_code == 2
    assert CliRunner().invoke(main, ["watch", "--listen", "127.0.0.1:0"]).exit_code == 2
