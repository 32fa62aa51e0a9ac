"""A page as a reader's browser shows it: what is wrong with it, in one line each.

Playwright drives an installed Chromium, whatever its version (Selenium would need a driver of the
same one); axe-core, from axe-playwright-python, judges accessibility. Both are installed from the
package index when the checks are asked for, since they are larger than the rest of the tools.

``python -m tests.browser FOLDER PAGE…`` lists the faults of pages below a folder of HTML files.
"""

from __future__ import annotations

import io
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import numpy as np
from bs4 import BeautifulSoup
from PIL import Image

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
#: Milliseconds that a figure may take to be plotted.
PATIENCE = 60_000
#: Findings of axe-core that count.
SERIOUS = ("serious", "critical")


@dataclass(frozen=True)
class View:
    """How a page is looked at: a window's width in pixels, and the theme its reader prefers."""

    width: int
    theme: str

    def __str__(self) -> str:
        return f"{self.width} px {self.theme}"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: the tests report what failed."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves a folder on this machine; gives the address of its root, ending with a slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()


@contextmanager
def started() -> Iterator[Any]:
    """A running Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, address: str, view: View, found: list[str]) -> Iterator[Any]:
    """The page at an address; what goes wrong while it is open is added to ``found``."""
    context = browser.new_context(
        viewport={"width": view.width, "height": 900},
        color_scheme=view.theme,
        reduced_motion="reduce",  # or a colour may be judged on its way to another
    )
    page = context.new_page()
    home = urljoin(address, "/")

    def said(message: Any) -> None:
        if message.type == "error" and "Failed to load" not in message.text:
            found.append(f"console: {message.text}")

    def asked(request: Any) -> None:
        if not request.url.startswith((home, "data:", "blob:")):
            found.append(f"asks another server: {request.url}")

    def answered(response: Any) -> None:
        if response.status >= 400:
            found.append(f"not there ({response.status}): {response.url}")

    page.on("console", said)
    page.on("response", answered)
    page.on("pageerror", lambda error: found.append(f"uncaught: {error}"))
    page.on("request", asked)
    page.on("requestfailed", lambda request: found.append(f"not loaded: {request.url}"))
    page.goto(address, wait_until="load")
    try:
        yield page
    finally:
        context.close()


def faults(browser: Any, address: str, view: View) -> list[str]:
    """What is wrong with a page in one view: scripts, images, widths, figures, accessibility."""
    found: list[str] = []
    with opened(browser, address, view, found) as page:
        found += images(page) + too_wide(page) + accessibility(page)
        for number in range(page.locator(".radarbook-figure").count()):
            found += figure(page, number)
        if page.locator(".radarbook-figure").count():
            found += too_wide(page)
    return [f"{view}: {line}" for line in dict.fromkeys(found)]


_IMAGES = """async () => {
  const shown = [...document.images];
  shown.forEach((image) => (image.loading = "eager"));
  await Promise.all(shown.map((image) => image.decode().catch(() => null)));
  return shown.filter((image) => !image.naturalWidth).map((image) => image.src)
    .map((address) => "image not shown: " + address)
    .concat(shown.filter((image) => !image.hasAttribute("alt")).map((i) => "no alt: " + i.src));
}"""


def images(page: Any) -> list[str]:
    """Images that are not there or cannot be decoded, or have no alternative text."""
    return list(page.evaluate(_IMAGES))


_TOO_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  const found = [];
  if (document.documentElement.scrollWidth > room)
    found.push("the page is " + document.documentElement.scrollWidth + " px wide");
  const scrolls = (e) => getComputedStyle(e).overflowX !== "visible";
  const main = document.querySelector("main") || document.body;
  for (const element of main.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (!box.width || box.right <= room + 1) continue;
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    let outer = element;
    const free = (e) => getComputedStyle(e).position === "fixed";  // a drawer waits outside
    while (outer !== main && !free(outer) && (outer === element || !scrolls(outer)))
      outer = outer.parentElement;
    if (outer !== main) continue;
    found.push("reaches to " + Math.round(box.right) + " px: " + element.outerHTML.slice(0, 90));
  }
  // A word that does not break has no box of its own.
  for (const block of main.querySelectorAll("p, li, td, th, dt, dd, h1, h2, h3, figcaption"))
    if (block.clientWidth && block.scrollWidth > room && !scrolls(block) && !block.closest("table"))
      found.push("a word is too wide: " + block.textContent.slice(0, 90));
  for (const box of document.querySelectorAll(".radarbook-figure"))
    if (box.scrollWidth > box.clientWidth + 1) found.push("a figure is cut and scrolls");
  return found.slice(0, 5);
}"""


def too_wide(page: Any) -> list[str]:
    """What reaches over the window's right edge without a bar to scroll it by."""
    return list(page.evaluate(_TOO_WIDE))


def accessibility(page: Any) -> list[str]:
    """Serious and critical findings of axe-core."""
    from axe_playwright_python.sync_playwright import Axe

    # plotly's own drawing is described as a whole, by the label of its stage.
    context = {"exclude": [[".radarbook-stage"]]}
    # Preloading would ask for imported styles at wrong addresses.
    options = {"resultTypes": ["violations"], "preload": False}
    results = Axe().run(page, context=context, options=options)
    return [
        f"axe {rule['id']}: {node['html'][:120]}"
        for rule in results.response["violations"]
        if rule["impact"] in SERIOUS
        for node in rule["nodes"][:3]
    ]


_DRAWN = """(box) => {
  const found = [];
  const stage = box.querySelector(".radarbook-stage");
  const svg = stage && stage.querySelector(".main-svg");
  if (!svg || !svg.getBoundingClientRect().height) return ["not plotted"];
  const size = stage.getBoundingClientRect();
  if (size.width < 150 || size.height < 150) found.push("smaller than 150 px");
  if (stage.layout.width > box.clientWidth + 1) found.push("wider than its column");
  const on_canvas = stage._fullData.some((trace) => trace.type === "scattergl");
  for (const plot of stage.querySelectorAll(".cartesianlayer .subplot"))
    if (!on_canvas && !plot.querySelector(".trace, .hm, image")) found.push("an empty panel");
  const paper = getComputedStyle(svg).backgroundColor;
  const page = getComputedStyle(document.body).backgroundColor;
  const entries = stage.querySelectorAll(".legend .traces").length;
  if (entries > 6) found.push("a legend of " + entries + " entries");
  if (paper !== page) found.push("on " + paper + ", the page on " + page);
  return found;
}"""


def figure(page: Any, number: int) -> list[str]:
    """What is wrong with one figure of a page, after it was scrolled to."""
    box = page.locator(".radarbook-figure").nth(number)
    box.evaluate("element => element.scrollIntoView({block: 'center', behavior: 'instant'})")
    try:
        page.wait_for_function(
            "n => document.querySelectorAll('.radarbook-figure')[n].dataset.state === 'drawn'",
            arg=number,
            timeout=PATIENCE,
        )
    except Exception as error:  # playwright's own, which exists only where it is installed
        return [f"figure {number + 1}: not plotted ({type(error).__name__})"]
    found = box.evaluate(_DRAWN)
    scenes = box.locator(".gl-container [id^='scene']")
    for place in range(scenes.count()):
        share = _painted(page, scenes.nth(place))
        if share < 0.03:
            found.append(f"nothing is seen in its scene ({share:.1%} of the pixels)")
    return [f"figure {number + 1}: {line}" for line in found]


def _painted(page: Any, scene: Any) -> float:
    """The share of an element's pixels in the window that differ from its upper edge."""
    scene.evaluate("element => element.scrollIntoView({block: 'center', behavior: 'instant'})")
    clip = scene.bounding_box()
    if not clip or not clip["width"] or not clip["height"]:
        return 0.0
    shot = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    pixels = np.asarray(shot, np.float64)
    background = np.median(pixels[:4].reshape(-1, 3), axis=0)
    # A face takes a good part of its scene; an empty one has a few labels at most.
    return float((np.abs(pixels - background).max(axis=2) > 12).mean())


def dead_links(folder: Path) -> list[str]:
    """Links within a folder of pages whose page, file or section does not exist."""
    documents = {
        path.resolve(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.relative_to(folder).parts
    }
    names = {
        path: {tag["id"] for tag in page.select("[id]")} | {""} for path, page in documents.items()
    }
    found = []
    for path, page in documents.items():
        for link in page.select("a[href]"):
            address, section = urldefrag(str(link["href"]))
            if urlparse(address).scheme or address.startswith("//"):
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                found.append(f"{path.relative_to(folder.resolve())}: no page {address}")
            elif target in names and unquote(section) not in names[target]:
                found.append(f"{path.relative_to(folder.resolve())}: no section {link['href']}")
    return sorted(set(found))


def main(folder: str, *pages: str) -> None:
    """Print the faults of pages."""
    for line in dead_links(Path(folder)):
        print(line)
    with served(Path(folder)) as home, started() as browser:
        for page in pages:
            for view in (View(390, "dark"), View(1400, "light")):
                for line in faults(browser, home + page, view):
                    print(f"{page}: {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
