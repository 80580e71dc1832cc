# SPDX-License-Identifier: Apache-2.0
"""The site that `make docs` builds: its check finds faults, and a browser opens its pages without a network.

`make docs` names the built site in FASTGREEN_SITE; without it, only the check itself is tested.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.oracles.browser import chromium, photograph, requests, resize
from tests.oracles.places import ROOT

SITE = Path(os.environ.get("FASTGREEN_SITE", "")).resolve() if os.environ.get("FASTGREEN_SITE") else None
built = pytest.mark.skipif(SITE is None, reason="needs the built site: `make docs` tests it")


def tool(name: str) -> ModuleType:
    """A file of docs/site, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "site" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference():
    return tool("reference")


@pytest.fixture(scope="module")
def check(reference):
    return tool("check")


def test_each_public_name_has_one_entry_in_the_reference(reference):
    names = reference.listed()
    entries = [n for _, text in reference.pages() for n in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    assert len(entries) == len(set(entries))
    assert {reference.anchor(name) for name in names} == set(entries)


def test_each_attribute_without_an_entry_is_described_by_its_class(reference):
    for name, members in reference.listed().items():
        owner = reference.public_object(name)
        for member in members:
            if not reference.has_entry(owner, member):
                assert re.search(rf"\b{member}\b", owner.__doc__), f"{name}.{member}"


def test_each_entry_with_members_has_a_docstring(reference):
    for name, members in reference.listed().items():
        owner = reference.public_object(name)
        for member in members:
            if reference.has_entry(owner, member):
                assert inspect.getattr_static(owner, member).__doc__, f"{name}.{member}"


def test_a_name_without_a_page_is_an_error(reference, monkeypatch):
    monkeypatch.setitem(reference.listed(), "fastgreen.unheard_of", [])
    with pytest.raises(LookupError, match=r"no page of the reference has \['fastgreen.unheard_of'\]"):
        list(reference.pages())


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="nowhere.html">x</a>', "page.html: nowhere.html leads nowhere"),
        ('<a href="#nothing">x</a>', "page.html: #nothing has no place of that name"),
        ('<a href="other.html#nothing">x</a>', "page.html: other.html#nothing has no place of that name"),
        ('<img src="https://example.org/x.png">', "page.html loads https://example.org/x.png from another host"),
        ('<script src="//example.org/x.js"></script>', "page.html loads //example.org/x.js from another host"),
        ('<link rel="stylesheet" href="https://example.org/x.css">', "page.html loads https://example.org/x.css"),
        ('<p style="background: url(https://example.org/x.png)">', "page.html loads https://example.org/x.png"),
    ],
)
def test_the_check_finds_a_fault(check, tmp_path, body, fault):
    (tmp_path / "other.html").write_text('<h1 id="here">x</h1>')
    (tmp_path / "page.html").write_text(f'{body}<a href="other.html#here">x</a><a href="https://example.org">x</a>')
    found = [line for line in check.faults(tmp_path) if not line.startswith("the reference has no")]
    assert [line for line in found if line.startswith(fault)] == found != []


def test_the_check_finds_missing_names_and_styles_of_other_hosts(check, tmp_path):
    (tmp_path / "style.css").write_text('@import "https://example.org/x.css";')
    found = check.faults(tmp_path)
    assert f"{tmp_path} has no page" in found
    assert "style.css loads https://example.org/x.css from another host" in found
    assert "the reference has no fastgreen.Monitor.energy_j" in found
    assert "the reference has no command run" in found
    assert "the reference has no option -r/--repeat of run" in found


# ---- the built site


@built
def test_every_link_place_and_public_name_of_the_site_is_there(check):
    assert check.faults(SITE) == []


@built
def test_no_mark_list_or_table_of_a_page_is_shown_as_its_source():
    for page in SITE.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"&lt;!--|^::: ", text, re.MULTILINE), page
        for paragraph in re.findall(r"<p>(.*?)</p>", text, re.DOTALL):
            assert not re.search(r"^ *([-*|]|\d+\.) |```", paragraph, re.MULTILINE), f"{page}: {paragraph}"


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        opened.execute_cdp_cmd("Network.enable", {})
        yield opened


@built
@pytest.mark.parametrize("width", [360, 1440])
def test_pages_open_from_files_without_a_network_and_fit_the_screen(browser, width):
    resize(browser, width)
    requests(browser)
    for page in sorted(SITE.rglob("*.html")):
        if page.name == "404.html":
            continue
        browser.get(page.as_uri())
        name = str(page.relative_to(SITE))
        assert [asked for asked in requests(browser) if not asked.startswith(("file:", "data:", "about:"))] == [], name
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == [], name
        photograph(browser, f"{name.removesuffix('.html').replace('/', '-')}-{width}")


@built
def test_the_search_works_without_a_server(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    resize(browser, 1440)
    browser.get((SITE / "start.html").as_uri())
    field = browser.find_element(By.CSS_SELECTOR, ".md-search__input")
    field.click()
    field.send_keys("ledger")
    results = WebDriverWait(browser, 20).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, ".md-search-result__item")
    )
    assert any("ledger" in result.text for result in results)
