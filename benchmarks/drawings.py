"""The drawings of the architecture page.

    python -m benchmarks.drawings [FOLDER]

Writes ``packages.svg`` (the imports between packages, from the source), ``data_flow.svg`` (from
parameters to a face) and ``overview.svg`` (the same for newcomers, with the chapters) into
``jupyter_book/images``. Pages include them as inline SVG, so that lines
and letters take the page's colour in a light and in a dark theme. They are 360 units wide: on a
narrow screen a letter is as large as the page's small print.
"""

from __future__ import annotations

import ast
import html
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from radarbook.book.library import library_packages
from radarbook.errors import InputError
from radarbook.files import PACKAGE, write_text

IMAGES = Path(__file__).resolve().parents[1] / "jupyter_book" / "images"
WIDTH = 360
BASE = "base modules"


@dataclass(frozen=True)
class Box:
    """A rectangle with a name and lines of small print."""

    name: str
    left: float
    right: float
    top: float
    height: float
    small: tuple[str, ...] = ()

    @property
    def bottom(self) -> float:
        return self.top + self.height


# -- the packages --------------------------------------------------------------------------------


def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """The imports of each package and each top-level module, also those inside functions.

    The modules that everything may use are one, ``"base modules"``.
    """
    groups = {module.removeprefix("radarbook."): BASE for module in library_packages()["base"]}
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").parts[0]
        if name.startswith("__"):
            continue
        own = groups.get(name, name)
        used = {groups.get(m, m) for m in _imported(ast.parse(path.read_text("utf-8")))}
        found.setdefault(own, set()).update(m for m in used - {own} if not m.startswith("__"))
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    """Packages and modules of radarbook's top level that a source names in its imports."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = (
                [f"{module}.{a.name}" for a in node.names] if module == "radarbook" else [module]
            )
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("radarbook."))


def direct(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that no chain of other arrows replaces. Raises InputError for a circle."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph.get(start, ()))
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph.get(name, ())
        return seen

    below = {name: reached(name) for name in graph}
    for name, names in below.items():
        if name in names:
            raise InputError(f"imports: expected no circle, found one through '{name}'")
    return sorted(
        (name, other)
        for name, others in graph.items()
        for other in others
        if not any(other in below.get(between, ()) for between in others)
    )


_ROWS: tuple[tuple[tuple[str, float, float], ...], ...] = (
    (("cli", 0, 360),),
    (("batch", 0, 176), ("book", 184, 360)),
    (("fitting", 0, 84), ("pipeline", 184, 360)),
    (("reports", 92, 360),),
    (("evaluation", 92, 268), ("figures", 276, 360)),
    (("training", 0, 268),),
    (("networks", 0, 130), ("datasets", 138, 268)),
    (("radar", 0, 360),),
    (("faces", 0, 360),),
    ((BASE, 0, 360),),
)
_SMALL = {
    "cli": ("command line",),
    "radar": ("array, simulation, imaging, renderer",),
    "faces": ("morphable models, parameters, pose",),
    BASE: ("errors, files, threads, progress, profiles, …",),
}


def packages(graph: Mapping[str, set[str]] | None = None) -> str:
    """The drawing of the packages, row by row."""
    arrows = direct(imports() if graph is None else graph)
    boxes: dict[str, Box] = {}
    top = 1.0
    for row in _ROWS:
        height = 26.0 + 14 * max(len(_SMALL.get(name, ())) for name, _, _ in row)
        for name, left, right in row:
            inner = max(left, 1.0), min(right, WIDTH - 1.0)
            boxes[name] = Box(name, *inner, top, height, _SMALL.get(name, ()))
        top += height + 26
    parts = [_box(box) for box in boxes.values()]
    for upper, lower in arrows:
        x = _free_place(boxes, upper, lower)
        parts.append(_line([(x, boxes[upper].bottom), (x, boxes[lower].top)]))
    about = "; ".join(f"{upper} imports from {lower}" for upper, lower in arrows)
    return _svg("packages", "Packages of radarbook and their imports", about, top - 25, parts)


def _free_place(boxes: Mapping[str, Box], upper: str, lower: str) -> float:
    """The x of a vertical arrow from one box to another that meets no third one."""
    if upper not in boxes or lower not in boxes:
        missing = upper if upper not in boxes else lower
        raise InputError(f"packages: expected a place for '{missing}', found none")
    a, b = boxes[upper], boxes[lower]
    left, right = max(a.left, b.left) + 6, min(a.right, b.right) - 6
    between = [box for box in boxes.values() if a.bottom < box.top and box.bottom < b.top]
    middle = (left + right) / 2
    places = [left + n for n in range(int(right - left) + 1)] if a.bottom < b.top else []
    free = [x for x in places if all(not box.left - 6 < x < box.right + 6 for box in between)]
    if not free:
        raise InputError(f"packages: expected space for an arrow from '{upper}' to '{lower}'")
    return min(free, key=lambda x: abs(x - middle))


# -- the data flow -------------------------------------------------------------------------------


def data_flow() -> str:
    """The drawing of what is computed from what."""
    row, height = 68.0, 38.0

    def box(number: int, name: str, small: str, left: float = 60, right: float = 250) -> Box:
        return Box(name, left, right, 1 + row * number, height, (small,))

    parameters = box(0, "parameters", "shape, expression, pose, rendering", right=270)
    mesh = box(1, "mesh", "(B, N, 3) m, radar frame")
    signal = box(2, "signal", "(B, rx, tx, f), complex")
    recording = box(2, "recording", "measured", 280, 359)
    volume = box(3, "volume", "(B, z, y, x), complex")
    image = box(4, "image", "amplitude (dB), depth, mask")
    encoder = box(5, "encoder", "or autoencoder", 60, 224)
    fit = box(5, "fit", "through physics", 262, 359)
    found = box(6, "estimated parameters", "with uncertainty, if fitted", 60, 359)
    face = box(7, "face", "vertices (N, 3) mm, PLY file", 60, 359)
    boxes = [parameters, mesh, signal, recording, volume, image, encoder, fit, found, face]

    x = 100.0
    steps = [
        (parameters, mesh, "model.vertices, to_radar"),
        (mesh, signal, "simulate"),
        (signal, volume, "back_project"),
        (volume, image, "image_from_volume"),
        (image, encoder, "predict"),
        (encoder, found, ""),
        (found, face, "model.vertices"),
    ]
    parts = [_box(b) for b in boxes]
    for upper, lower, name in steps:
        parts.append(_line([(x, upper.bottom), (x, lower.top)]))
        parts.append(_text(x + 9, (upper.bottom + lower.top) / 2 + 4, name, code=True))
    level = signal.top + height / 2
    parts.append(_line([(recording.left, level), (signal.right, level)]))
    middle = (fit.left + fit.right) / 2
    turn = signal.bottom + 12
    parts.append(_line([(236, signal.bottom), (236, turn), (middle, turn), (middle, fit.top)]))
    parts.append(_line([(middle, fit.bottom), (middle, found.top)]))
    level = encoder.top + height / 2
    parts.append(_line([(encoder.right, level), (fit.left, level)], dashed=True))
    parts.append(_text((encoder.right + fit.left) / 2, level - 6, "start", anchor="middle"))
    first, last = parameters.top + height / 2, image.top + height / 2
    parts.append(_line([(60, first), (30, first), (30, last), (60, last)], dashed=True))
    parts.append(
        f'<text x="0" y="0" transform="translate(22 {(first + last) / 2:g}) rotate(-90)" '
        'text-anchor="middle" font-size="12">learned renderer</text>'
    )
    about = (
        "Parameters give a mesh, the mesh a signal, the signal a volume, the volume an image. A "
        "measured recording is a signal, too. The learned renderer leads from parameters to an "
        "image directly. An encoder estimates parameters from the image, a fit from the signal, "
        "if asked from the encoder's estimate. Estimated parameters give the face."
    )
    title = "From parameters to an image, and from a recording to a face"
    return _svg("data-flow", title, about, face.bottom + 1, parts)


# -- the overview --------------------------------------------------------------------------------


def overview() -> str:
    """The drawing of the introduction: what each chapter adds."""

    def box(name: str, small: str, left: float, right: float, top: float) -> Box:
        return Box(name, left, right, top, 38, (small,))

    model = box("face model", "17 numbers and a pose (1)", 1, 176, 1)
    physics = box("physical renderer", "simulation, imaging (2)", 1, 176, 75)
    recording = box("recording", "of any radar (6)", 240, 359, 75)
    image = box("radar image", "amplitude and depth", 60, 300, 149)
    encoder = box("encoder", "image to face (3)", 1, 112, 223)
    fit = box("fit", "by gradients (8, 7)", 240, 359, 223)
    learned = box("learned renderer", "face to image (4)", 1, 176, 320)
    face = box("face", "shape, expression, pose", 200, 359, 320)
    boxes = [model, physics, recording, image, encoder, fit, learned, face]
    parts = [_box(b) for b in boxes]
    for x, upper, lower in (
        (88, model, physics),
        (88, physics, image),
        (275, recording, image),
        (80, image, encoder),
        (275, image, fit),
        (275, fit, face),
    ):
        parts.append(_line([(x, upper.bottom), (x, lower.top)]))
    turn = encoder.bottom + 22
    parts.append(_line([(98, encoder.bottom), (98, turn), (220, turn), (220, face.top)]))
    level = encoder.top + 19
    parts.append(_line([(encoder.right, level), (fit.left, level)], dashed=True))
    parts.append(_text((encoder.right + fit.left) / 2, level - 6, "start", anchor="middle"))
    back = learned.top + 19
    parts.append(_line([(face.left, back), (learned.right, back)], dashed=True))
    parts.append(_line([(40, learned.top), (40, encoder.bottom)], dashed=True))
    parts.append(_text(46, 304, "compare: autoencoder (5)"))
    about = (
        "A face model (chapter 1) gives a face, the physical renderer (2) its radar image. A "
        "recording (6) gives an image, too. The encoder (3) estimates the face from the image, a "
        "fit (8, 7) finds it by gradients, if asked from the encoder's estimate. The learned "
        "renderer (4) gives the image of an estimated face; the autoencoder (5) compares it."
    )
    title = "What each chapter adds; numbers in brackets are chapters"
    return _svg("overview", title, about, face.bottom + 1, parts)


# -- SVG -----------------------------------------------------------------------------------------


def _svg(name: str, title: str, about: str, height: float, parts: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-labelledby="{name}-title {name}-about" fill="currentColor" '
        'font-family="system-ui, sans-serif" '
        'style="display: block; width: 100%; max-width: 30rem; margin: 1rem auto">\n'
        f'<title id="{name}-title">{html.escape(title)}</title>\n'
        f'<desc id="{name}-about">{html.escape(about)}</desc>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _box(box: Box) -> str:
    middle = (box.left + box.right) / 2
    lines = [_text(middle, box.top + 18, box.name, size=14, anchor="middle", bold=True)]
    for n, text in enumerate(box.small, start=1):
        lines.append(_text(middle, box.top + 18 + 14 * n, text, anchor="middle", size=11))
    return (
        f'<rect x="{box.left:g}" y="{box.top:g}" width="{box.right - box.left:g}" '
        f'height="{box.height:g}" rx="5" fill-opacity="0.07" stroke="currentColor" '
        'stroke-opacity="0.6"/>' + "".join(lines)
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    anchor: str = "start",
    bold: bool = False,
    code: bool = False,
) -> str:
    more = ' font-weight="600"' if bold else ""
    more += ' font-family="ui-monospace, monospace"' if code else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{more}>'
        f"{html.escape(text)}</text>"
    )


def _line(points: list[tuple[float, float]], dashed: bool = False) -> str:
    """A line along the points with an arrow's head at its end."""
    (x0, y0), (x, y) = points[-2:]
    length = abs(x - x0) + abs(y - y0)  # every part is horizontal or vertical
    dx, dy = (x - x0) / length, (y - y0) / length
    path = "M" + " L".join(f"{px:g} {py:g}" for px, py in [*points[:-1], (x - 6 * dx, y - 6 * dy)])
    wings = [(x - 8 * dx - 4 * dy, y - 8 * dy + 4 * dx), (x - 8 * dx + 4 * dy, y - 8 * dy - 4 * dx)]
    head = f"M{x:g} {y:g} " + " ".join(f"L{px:g} {py:g}" for px, py in wings) + " Z"
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="currentColor"{dash}/><path d="{head}"/>'


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    drawings = {"packages": packages(), "data_flow": data_flow(), "overview": overview()}
    for name, drawing in drawings.items():
        write_text(folder / f"{name}.svg", drawing)
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
