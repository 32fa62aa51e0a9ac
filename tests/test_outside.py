"""What a page would fetch from elsewhere, found in its source."""

from __future__ import annotations

import pytest

from radarbook.book.pages import outside_addresses

FETCHED = [
    ('<script src="https://unpkg.com/require"></script>', "https://unpkg.com/require"),
    ('<script src="//cdn.org/a.js"></script>', "//cdn.org/a.js"),
    ('<SCRIPT SRC=" HTTP://cdn.org/a"></SCRIPT>', "HTTP://cdn.org/a"),
    ('<script type="module">import x from "https://esm.sh/x"</script>', "https://esm.sh/x"),
    ('<script>import("https://esm.sh/y")</script>', "https://esm.sh/y"),
    ('<link rel="stylesheet" href="https://a.org/s.css">', "https://a.org/s.css"),
    ('<link rel="preload icon" href="https://a.org/i.ico">', "https://a.org/i.ico"),
    ('<img src="https://a.org/badge.svg">', "https://a.org/badge.svg"),
    ('<img srcset="a.png 1x, https://a.org/b.png 2x">', "https://a.org/b.png 2x"),
    ('<iframe src="https://a.org/"></iframe>', "https://a.org/"),
    ("<style>@import url('https://a.org/f.css');</style>", "https://a.org/f.css"),
    ('<p style="background: url(//a.org/p.png)">x</p>', "//a.org/p.png"),
    (
        '<script type="application/vnd.jupyter.widget-state+json">{}</script>',
        "a widget (application/vnd.jupyter.widget-state+json)",
    ),
]
HARMLESS = [
    '<a href="https://doi.org/10.1">paper</a>',
    '<link rel="canonical" href="https://a.org/page">',
    '<img src="data:image/png;base64,//aa,//bb">',
    '<img src="../_images/a.png"><script src="_static/a.js"></script>',
    "<code>&lt;script src='https://a.org'&gt;</code>",
    '<script type="application/json">{"import": "https://a.org"}</script>',
    "<!-- <script src='https://a.org/a.js'></script> -->",
]


@pytest.mark.parametrize(("text", "address"), FETCHED)
def test_what_a_browser_would_fetch_is_found(tmp_path, text, address):
    page = tmp_path / "notebooks" / "page.html"
    page.parent.mkdir()
    page.write_text(f"<html><body>{text}</body></html>")
    assert outside_addresses(tmp_path) == {"notebooks/page.html": [address]}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_not_fetched_is_no_matter(tmp_path, text):
    (tmp_path / "page.html").write_text(f"<html><body>{text}</body></html>")
    assert outside_addresses(tmp_path) == {}


def test_styles_are_read_too(tmp_path):
    (tmp_path / "a.css").write_text("@font-face { src: url(https://a.org/f.woff2) }")
    assert outside_addresses(tmp_path) == {"a.css": ["https://a.org/f.woff2"]}
