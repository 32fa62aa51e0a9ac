"""Every page of the built book, opened in headless Chromium: no error on its console.

Runs on the book under ``build/PROFILE/book/html`` (RADARBOOK_BOOK names another folder) and is
skipped, with the reason, where there is no book or no Chromium.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from radarbook.book.pages import outside_addresses

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HTML = Path(os.environ.get("RADARBOOK_BOOK", ROOT / "build" / "smoke" / "book" / "html"))
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1300,2400",
    "--virtual-time-budget=8000",
]
# What counts as an error: an uncaught exception, a failed request, a lost WebGL scene.
TROUBLE = re.compile(r"Uncaught|Failed to load|net::ERR|Too many active WebGL|CONSOLE.*[Ee]rror")
PAGES = sorted(HTML.rglob("*.html")) if CHROMIUM and HTML.is_dir() else []
PAGES = [p for p in PAGES if "_static" not in p.parts and "_modules" not in p.parts]


def opened(page: Path) -> str:
    """The page's address, at the section of its first figure: figures out of view are not drawn."""
    before, figure, _ = page.read_text(encoding="utf-8").partition('class="radarbook-figure')
    sections = re.findall(r'<section id="([^"]+)"', before)
    return page.as_uri() + (f"#{sections[-1]}" if figure and sections else "")


def console(page: Path, profile: Path) -> tuple[str, str]:
    """The page's document after its scripts ran, and what the browser logged."""
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", opened(page)],
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.mark.skipif(not HTML.is_dir(), reason=f"no built book: {HTML.name} is absent")
def test_no_page_asks_another_server():
    assert outside_addresses(HTML) == {}


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
@pytest.mark.skipif(not HTML.is_dir(), reason=f"no built book: {HTML.name} is absent")
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page_opens_without_a_console_error(page, tmp_path):
    document, log = console(page, tmp_path)
    assert [line for line in log.splitlines() if TROUBLE.search(line)] == []
    if 'class="radarbook-figure' in document:
        assert "js-plotly-plot" in document  # at least the figures in view were drawn


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_check_sees_an_error(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>undefined_function()</script><script src='nowhere.js'></script>")
    _, log = console(page, tmp_path / "profile")
    assert TROUBLE.search(log)
