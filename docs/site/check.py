# SPDX-License-Identifier: Apache-2.0
"""Checks a built site: every link and anchor, every public name, and that no page asks another host for anything.

    python docs/site/check.py build/site

Only the standard library is used.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent))
from reference import LIST, anchor

# Attributes through which a browser loads something on its own, by element. An <a> is a link that a reader follows.
LOADS = {
    **dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), ("src", "srcset")),
    "link": ("href",),
}

# Options that `--help` hides: they go on to work, and a new user does not need them.
OLD_OPTIONS = {"--channels"}


@dataclass
class PageFacts(HTMLParser):
    """Links, places and loads of a page, and its code in prose."""

    path: Path
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.places |= {known[name] for name in ("id", "name") if name in known}
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        if tag == "link" and known.get("rel", "") in ("canonical", "prev", "next"):
            return
        self.loads += [known[name] for name in LOADS.get(tag, ()) if known.get(name)]
        self.loads += re.findall(r"url\(([^)]*)\)", known.get("style", ""))


def is_foreign(link: str) -> bool:
    """Whether a link leads to another host."""
    return bool(urlsplit(link).netloc)


def faults(site: Path) -> list[str]:
    """One line for each fault of the site."""
    pages = {path: PageFacts(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    found = [f"{site} has no page"] if not pages else []
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where} loads {load} from another host" for load in page.loads if is_foreign(load)]
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data", "javascript", "mailto") or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{where}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                found.append(f"{where}: {link} has no place of that name")
    for style in site.rglob("*.css"):
        for load in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", style.read_text(encoding="utf-8")):
            if is_foreign(load):
                found.append(f"{style.relative_to(site)} loads {load} from another host")
    return found + missing_names(site, pages)


def missing_names(site: Path, pages: dict[Path, PageFacts]) -> list[str]:
    """Lines for the public names that the reference does not have."""
    places = {place for path, page in pages.items() if path.parent.name == "reference" for place in page.places}
    commands = site / "reference" / "commands.html"
    text = commands.read_text(encoding="utf-8") if commands.exists() else ""
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
    found = []
    for line in LIST.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if line.startswith("fastgreen."):
            name = re.match(r"[\w.]+", line)[0]  # type: ignore[index]
            if anchor(name) not in places:
                found.append(f"the reference has no {name}")
        elif words[0] == "command":
            if f"fastgreen-{words[1]}" not in places:
                found.append(f"the reference has no command {words[1]}")
            if words[2][0] == "-" and words[2] not in OLD_OPTIONS and not set(words[2].split("/")) <= options:
                found.append(f"the reference has no option {words[2]} of {words[1]}")
    return found


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) if wrong else f"{sys.argv[1]}: every link, place and public name is there.")
    sys.exit(bool(wrong))
