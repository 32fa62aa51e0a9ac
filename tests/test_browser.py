"""The browser's checks see planted faults, and our figures pass them at both widths and themes."""

from __future__ import annotations

import importlib.util
import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import radarbook.book
from radarbook import figures
from tests import browser
from tests.figures.test_figures import SQUARE, TRIANGLES, image

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not browser.CHROMIUM, reason="no Chromium on this machine"),
    pytest.mark.skipif(not importlib.util.find_spec("playwright"), reason="no playwright here"),
]

NARROW, WIDE = browser.View(390, "dark"), browser.View(1400, "light")


@pytest.fixture(scope="module")
def chromium():
    with browser.started() as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that is served, with the scripts and styles of the book in it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(str(files("plotly") / "package_data" / "plotly.min.js"), folder)
    for name in ("figures.js", "figures.css"):
        shutil.copy(Path(radarbook.book.__file__).parent / name, folder)
    with browser.served(folder) as home:
        yield folder, home


def write(folder: Path, name: str, body: str) -> str:
    # The theme that the reader prefers is set as the book's theme does it.
    (folder / name).write_text(
        "<!doctype html><html lang='en'><head><title>A page</title><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><link rel='icon' href='data:,'>"
        "<link rel='stylesheet' href='figures.css'><script>const dark = "
        "matchMedia('(prefers-color-scheme: dark)').matches;"
        "document.documentElement.dataset.theme = dark ? 'dark' : 'light';</script>"
        "<style>html[data-theme=dark] body { background: #14181e; color: #ced6dd }"
        "html[data-theme=dark] { --pst-color-background: #14181e }"
        f"body {{ background: #fff }}</style></head><body><main><h1>Page</h1>{body}</main>"
        "<script src='plotly.min.js'></script><script src='figures.js'></script></body></html>",
        encoding="utf-8",
    )
    return name


def box(figure) -> str:
    spec = json.loads(figure.to_json())
    text = json.dumps(spec).replace("<", "\\u003c")
    return (
        '<div class="radarbook-figure"><script type="application/json" class="radarbook-spec">'
        f"{text}</script></div>"
    )


PLANTED = {
    "<script>undefined_function()</script>": "uncaught",
    "<script>console.error('lost')</script>": "console: lost",
    "<script src='nowhere.js'></script>": "not there (404)",
    "<img alt='' src='http://example.org/a.png'>": "asks another server",
    "<img alt='a' src='nothing.png'>": "image not shown",
    "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>": "no alt",
    "<p style='width: 500px'>wide</p>": "reaches to",
    f"<p>{'word' * 30}</p>": "a word is too wide",
    "<button></button>": "axe button-name",
    "<p style='color: #bbb; background: #fff'>pale</p>": "axe color-contrast",
    box(figures.face(SQUARE * 0, TRIANGLES)): "figure 1: nothing is seen",
    box(figures.face(SQUARE, TRIANGLES)).replace("{", "", 1): "figure 2: not plotted",
}


def test_planted_faults_are_found(chromium, site, monkeypatch):
    monkeypatch.setattr(browser, "PATIENCE", 3_000)
    folder, home = site
    page = write(folder, "planted.html", "".join(PLANTED))
    found = browser.faults(chromium, home + page, NARROW)
    for body, words in PLANTED.items():
        assert any(words in line for line in found), (body[:90], found)


def test_a_plain_page_has_no_fault(chromium, site):
    folder, home = site
    page = write(folder, "plain.html", "<p>Text.</p>")
    assert browser.faults(chromium, home + page, NARROW) == []


def test_dead_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        "<a href='b.html#here'>1</a><a href='b.html#there'>2</a><a href='c.html'>3</a>"
        "<a href='https://example.org/x'>4</a><a href='#'>5</a>"
    )
    (tmp_path / "b.html").write_text("<p id='here'>text</p><a href='a.html'>back</a>")
    assert browser.dead_links(tmp_path) == [
        "a.html: no page c.html",
        "a.html: no section b.html#there",
    ]


ROW = [SQUARE] * 7
VOLUME = np.random.default_rng(0).random((4, 5, 6))
GALLERY = {
    "face": lambda: figures.error_map(SQUARE, TRIANGLES, [0.0, 1.0, 2.0, 3.0]),
    "row": lambda: figures.faces_row(ROW, TRIANGLES, [f"face {n}" for n in range(7)], columns=7),
    "images": lambda: figures.radar_images(image(2), ["first", "second"]),
    "slider": lambda: figures.image_slider(image(3), list("abc"), parameter="p"),
    "slices": lambda: figures.volume_slices(VOLUME, np.arange(6), np.arange(5), np.arange(4)),
    "views": lambda: figures.array_views([VOLUME[0]] * 3, np.arange(6), np.arange(5), list("abc")),
    "curves": lambda: figures.curves({f"curve {n}": [3, 2, n] for n in range(6)}),
    "matrix": lambda: figures.similarity_matrix(np.eye(4), list("abcd")),
}


def test_figures_are_plotted_whole_at_both_widths_and_themes(chromium, site):
    folder, home = site
    page = write(folder, "gallery.html", "".join(box(make()) for make in GALLERY.values()))
    for view in (NARROW, WIDE):
        assert browser.faults(chromium, home + page, view) == []


def test_panels_and_faces_stand_one_below_the_other_where_it_is_narrow(chromium, site):
    folder, home = site
    page = write(folder, "stack.html", box(GALLERY["images"]()) + box(GALLERY["row"]()))
    read = """n => { const s = document.querySelectorAll('.radarbook-stage')[n];
      return [s.layout.width, s.layout.height, s.layout.xaxis2 && s.layout.xaxis2.domain,
        [...s.layout.annotations || []].map((a) => [a.x, a.y]),
        s._fullData.filter((t) => t.type === 'mesh3d')
          .map((t) => [Math.min(...t.x), Math.min(...t.y)])]
    }"""
    shown = {}
    for view in (NARROW, WIDE):
        with browser.opened(chromium, home + page, view, []) as tab:
            assert browser.figure(tab, 0) + browser.figure(tab, 1) == []
            shown[view.width] = [tab.evaluate(read, n) for n in (0, 1)]
    (images, row), (wide_images, wide_row) = shown[390], shown[1400]
    assert images[0] <= 390 < wide_images[0]
    assert images[1] > 1.5 * wide_images[1]
    assert images[2] == [0, 1] != wide_images[2]
    # Four panels of one column: each heading in the middle, above the one that follows.
    assert [x for x, _ in images[3]] == [0.5] * 4
    heights = [y for _, y in images[3]]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 4
    # Faces keep their distance: moved by whole steps, none over another.
    places = {(round(x), round(y)) for x, y in row[4]}
    assert len(places) == 7
    assert len({x for x, _ in places}) < 7 == len({round(x) for x, _ in wide_row[4]})
    step = wide_row[4][1][0] - wide_row[4][0][0]
    assert row[4][1][0] - row[4][0][0] == pytest.approx(step)


def test_figures_follow_the_theme_when_it_is_switched(chromium, site):
    folder, home = site
    page = write(folder, "theme.html", box(GALLERY["curves"]()))
    with browser.opened(chromium, home + page, WIDE, found := []) as tab:
        assert browser.figure(tab, 0) == []
        paper = "getComputedStyle(document.querySelector('.main-svg')).backgroundColor"
        assert tab.evaluate(paper) == "rgb(255, 255, 255)"
        tab.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert browser.figure(tab, 0) == []
        assert tab.evaluate(paper) == "rgb(20, 24, 30)"
    assert found == []
