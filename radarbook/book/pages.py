"""Permitted content of the book's pages: nothing that loads from another server.

A widget's state is only shown by scripts from elsewhere, and progress says nothing to a reader;
both are taken out of executed notebooks before the build. After it, every page is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from radarbook.progress import PROGRESS_MARK

_WIDGET = "application/vnd.jupyter.widget"
#: Attributes that make a browser fetch what they name.
_FETCHED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "video": ("src", "poster"),
}
#: A link that only names a page: nothing is fetched.
_NAMES_ONLY = {"canonical", "author", "license", "next", "prev", "search", "index", "alternate"}
_OUTSIDE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s;]+)", re.IGNORECASE)
_MODULE = re.compile(r"\bimport\s*\(?\s*[\"'](https?://[^\"']+)|\bfrom\s+[\"'](https?://[^\"']+)")


def strip_outputs(notebook: Any) -> None:
    """Take widgets and progress out of a notebook's outputs, in place."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _kept(output)]


def _kept(output: Any) -> bool:
    if output.get("metadata", {}).get("radarbook") == PROGRESS_MARK["radarbook"]:
        return False
    data = output.get("data")
    if data is None:
        return True
    widgets = [mime for mime in data if mime.startswith(_WIDGET)]
    for mime in widgets:
        del data[mime]
    # A widget's plain text is only the name of its class.
    return not widgets or set(data) - {"text/plain"} != set()


def outside_addresses(html: Path) -> dict[str, list[str]]:
    """Addresses that pages and styles below a folder would load from other servers, by page.

    Links that a reader follows are no matter. Widget states count, whatever they name.
    """
    found = {}
    for page in sorted([*html.rglob("*.html"), *html.rglob("*.css")]):
        text = page.read_text(encoding="utf-8", errors="replace")
        asked = list(_STYLE.findall(text) if page.suffix == ".css" else _of_page(text))
        if asked:
            found[str(page.relative_to(html))] = sorted(set(asked))
    return found


def _of_page(text: str) -> Iterator[str]:
    reader = _Reader()
    reader.feed(text)
    yield from reader.asked


class _Reader(HTMLParser):
    """Collects the addresses that a page fetches from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._inside = tag if tag in ("script", "style") else ""
        if values.get("type", "").startswith(_WIDGET):
            self.asked.append(f"a widget ({values['type']})")
        relations = set(values.get("rel", "").lower().split())
        if tag == "link" and relations and relations <= _NAMES_ONLY:
            return
        for name in _FETCHED.get(tag, ()):
            self.asked += [
                part.strip()
                for part in values.get(name, "").split(",")
                if _OUTSIDE.match(part) and "data:" not in values[name]
            ]
        self.asked += _STYLE.findall(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.asked += _STYLE.findall(data)
        elif self._inside == "script":
            self.asked += [a or b for a, b in _MODULE.findall(data)]
