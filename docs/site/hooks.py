# SPDX-License-Identifier: Apache-2.0
"""Hooks of MkDocs. The pages are written for a code host, where links lead to any file of the repository.

The site takes in the pages of the root and every file that a page links to, makes the reference, and links names of the
package in the text to it.
"""

from __future__ import annotations

import importlib.util
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"^(?:```|~~~~).*?^(?:```|~~~~)$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".yml": "yaml", ".yaml": "yaml", ".service": "ini"}


def _reference() -> ModuleType:
    """`reference.py`, which is beside this file and not in a package."""
    if "reference" not in sys.modules:
        spec = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["reference"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["reference"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in the folder of the pages."""
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for name, text in _reference().pages():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    linked = {path for page in files.documentation_pages() for path in _files_linked(page)}
    for path in sorted(linked):
        files.append(File.generated(config, _source_page(path), content=_source(ROOT / path)))
    return files


def _home(uri: str) -> str:
    """The folder in the repository that links of a page start from."""
    return "." if uri in ROOT_PAGES else posixpath.dirname(f"docs/{uri}")


def _target(uri: str, link: str) -> str:
    """Where in the repository a link leads."""
    return posixpath.normpath(posixpath.join(_home(uri), link))


def _files_linked(file: File) -> Iterator[str]:
    if file.src_uri.startswith("reference/"):
        return
    for found in _LINK.finditer(_FENCE.sub("", file.content_string)):
        target = _target(file.src_uri, found[2])
        if "://" not in found[2] and _place(target) is None and (ROOT / target).exists():
            yield target


def _place(target: str) -> str | None:
    """The page of the site that a file of the repository is; None if it has none of its own."""
    if target in ROOT_PAGES:
        return target
    if target == "README.md":
        return "index.md"
    return target.removeprefix("docs/") if target.startswith("docs/") else None


def _source_page(path: str) -> str:
    return f"source/{path.replace('.', '-')}.md"


def _source(path: Path) -> str:
    """A page with a file of the repository, or with all files of a folder."""
    names = sorted(path.iterdir()) if path.is_dir() else [path]
    text = f"# {path.relative_to(ROOT)}\n\n"
    for name in names:
        heading = f"## {name.name}\n\n" if path.is_dir() else ""
        text += f"{heading}~~~~{_LANGUAGES.get(name.suffix, 'text')}\n{name.read_text(encoding='utf-8')}~~~~\n\n"
    return text


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site, and names of the package into links to the reference."""
    uri = page.file.src_uri
    if uri.startswith(("reference/", "source/")):
        return markdown
    parts, last = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_linked(markdown[last : fence.start()], uri), fence[0]]
        last = fence.end()
    return "".join([*parts, _linked(markdown[last:], uri)])


def _linked(text: str, uri: str) -> str:
    here = posixpath.dirname(uri) or "."

    def moved(found: re.Match[str]) -> str:
        link, heading = found[2], found[3] or ""
        if "://" in link:
            return found[0]
        target = _target(uri, link)
        place = _place(target) or (_source_page(target) if (ROOT / target).exists() else link)
        return f"{found[1]}{posixpath.relpath(place, here)}{heading}"

    text = _LINK.sub(moved, text)
    return "".join(line if line.startswith("#") else _names_linked(line) for line in text.splitlines(keepends=True))


def _names_linked(line: str) -> str:
    """A line in which `fg.load(...)`, `Result.windows` and `keras_callback(log)` are links to the reference."""
    known = _reference().anchors()

    def link(found: re.Match[str]) -> str:
        name = found[2].removeprefix("fastgreen.")
        full = found[1] or name != found[2] or "." in name
        place = known.get(name) if full else _reference().short_names().get(name)
        return f"[{found[0]}][{place}]" if place else found[0]

    return re.sub(r"(?<![\[`\w])`(fg\.|)([A-Za-z_][\w.]*)(?:\([^`]*)?`(?![\]\w`])", link, line)
