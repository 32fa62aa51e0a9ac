"""Every page of the built book as Chromium shows it, at both widths and in both themes.

Run by ``make browse`` after a build, on the book under ``build/smoke/book/html`` (RADARBOOK_BOOK
names another folder), and skipped with the reason where there is no book, Chromium or Playwright.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from radarbook.book.pages import outside_addresses
from tests import browser

ROOT = Path(__file__).resolve().parents[1]
HTML = Path(os.environ.get("RADARBOOK_BOOK", ROOT / "build" / "smoke" / "book" / "html"))
PAGES = [
    str(path.relative_to(HTML))
    # The longest first, so that two processes end together.
    for path in sorted(HTML.rglob("*.html"), key=lambda path: -path.stat().st_size)
    if not {"_static", "_modules"} & set(path.relative_to(HTML).parts)
    and 'http-equiv="Refresh"' not in path.read_text(encoding="utf-8")  # leads to another page
]
#: A phone at night and a desk by day.
VIEWS = (browser.View(390, "dark"), browser.View(1400, "light"))

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not HTML.is_dir(), reason=f"no built book: {HTML.name} is absent"),
]
with_chromium = [
    pytest.mark.skipif(not browser.CHROMIUM, reason="no Chromium on this machine"),
    pytest.mark.skipif(not importlib.util.find_spec("playwright"), reason="no playwright here"),
]


def test_no_page_asks_another_server():
    assert outside_addresses(HTML) == {}


def test_every_link_within_the_book_leads_somewhere():
    assert browser.dead_links(HTML) == []


@pytest.fixture(scope="session")
def home():
    with browser.served(HTML) as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    with browser.started() as running:
        yield running


@pytest.mark.parametrize("page", [pytest.param(page, marks=with_chromium) for page in PAGES])
def test_page_has_no_fault(page, chromium, home):
    assert [line for view in VIEWS for line in browser.faults(chromium, home + page, view)] == []
