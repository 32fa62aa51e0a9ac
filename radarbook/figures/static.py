"""Static pictures of our plotly figures, made without a browser.

plotly's own image export starts a Chrome; a library should not. This module plots the trace types
that the project uses (heatmap, scatter, bar, mesh3d, scatter3d) with matplotlib; meshes are
ray-cast (:mod:`radarbook.figures.raycast`). It reads a figure as plotly writes it, so a figure
restored from a notebook can be plotted as well. It shows the figure's first state: a slider stands
where it is set.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import plotly.colors
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from radarbook.figures import theme
from radarbook.figures.raycast import Camera, Surface, cast

_DPI = 100
#: Bytes of a picture that is worth fewer colours, and the change of a colour, of 255, that is seen:
#: at 17 an error map showed steps, at 11 nothing was seen.
_LARGE, _VISIBLE = 200_000, 12
_DASHES = {"dot": ":", "dash": "--", "dashdot": "-.", "solid": "-", None: "-"}
_SYMBOLS = {"square": "s", "circle": "o", "x": "x", "diamond": "D", "cross": "+", None: "o"}


def png(figure: Any, *, scale: float = 1.6) -> bytes:
    """A PNG of a plotly figure (or its dictionary), ``scale`` pixels for each layout pixel."""
    spec = figure.to_plotly_json() if hasattr(figure, "to_plotly_json") else figure
    layout = _Layout(spec.get("layout", {}))
    canvas = Figure(figsize=(layout.width / _DPI, layout.height / _DPI), dpi=_DPI * scale)
    FigureCanvasAgg(canvas)
    with mpl.rc_context({"font.size": 9.0, "axes.linewidth": 0.6, "axes.edgecolor": "#666666"}):
        _draw(canvas, spec.get("data", []), layout)
        file = io.BytesIO()
        # Tight: what reaches over the layout's edge (long tick labels, a bar's title) stays whole.
        canvas.savefig(file, format="png", facecolor="white", bbox_inches="tight", pad_inches=0.1)
    return _smaller(file.getvalue())


def _smaller(picture: bytes) -> bytes:
    """A large PNG in 256 colours, if hardly a pixel changes visibly; otherwise as it is.

    Shaded faces of one colour keep their looks and half of their size. Error maps do not keep their
    looks: their shading would show steps.
    """
    if len(picture) < _LARGE:
        return picture
    whole = Image.open(io.BytesIO(picture)).convert("RGB")
    few = whole.quantize(256, kmeans=1, dither=Image.Dither.NONE)
    change = np.abs(np.asarray(few.convert("RGB"), np.int16) - np.asarray(whole, np.int16)).max(2)
    if np.quantile(change, 0.999) > _VISIBLE:
        return picture
    file = io.BytesIO()
    few.save(file, format="png")
    return file.getvalue()


class _Layout:
    """A figure's layout with the template behind it, and its places in figure fractions."""

    def __init__(self, layout: Mapping[str, Any]) -> None:
        self.own = layout
        self.base = layout.get("template", {}).get("layout", {})
        self.width = float(self.get("width") or theme.WIDTH)
        self.height = float(self.get("height") or theme.HEIGHT)
        margin = {"l": 80, "r": 80, "t": 100, "b": 80}
        margin |= dict(self.base.get("margin", {})) | dict(layout.get("margin", {}))
        self.left = margin["l"] / self.width
        self.bottom = margin["b"] / self.height
        self.inner_width = 1 - self.left - margin["r"] / self.width
        self.inner_height = 1 - self.bottom - margin["t"] / self.height

    def get(self, name: str) -> Any:
        value = self.own.get(name)
        return self.base.get(name) if value is None else value

    def axis(self, kind: str, reference: str) -> Mapping[str, Any]:
        """The layout's entry for a trace's reference: ("x", "x2") is ``xaxis2``."""
        axis: Mapping[str, Any] = self.own.get(f"{kind}axis{reference[1:]}", {})
        return axis

    def place(self, x: Any = (0, 1), y: Any = (0, 1)) -> tuple[float, float, float, float]:
        """A paper-fraction rectangle as (left, bottom, width, height) of the figure."""
        return (
            self.left + x[0] * self.inner_width,
            self.bottom + y[0] * self.inner_height,
            (x[1] - x[0]) * self.inner_width,
            (y[1] - y[0]) * self.inner_height,
        )


def _draw(canvas: Figure, traces: list[Mapping[str, Any]], layout: _Layout) -> None:
    flat: dict[tuple[str, str], Axes] = {}
    scenes: dict[str, list[Mapping[str, Any]]] = {}
    legend: dict[tuple[str, str], int] = {}
    for number, trace in enumerate(traces):
        kind = trace.get("type", "scatter")
        if kind in ("mesh3d", "scatter3d"):
            scenes.setdefault(trace.get("scene", "scene"), []).append(trace)
            continue
        key = (trace.get("xaxis", "x"), trace.get("yaxis", "y"))
        if key not in flat:
            x_domain = layout.axis("x", key[0]).get("domain", (0, 1))
            y_domain = layout.axis("y", key[1]).get("domain", (0, 1))
            flat[key] = canvas.add_axes(layout.place(x_domain, y_domain))
            flat[key].set_facecolor(_rgb(layout.get("plot_bgcolor") or "#FFFFFF"))
        colour = layout.get("colorway") or theme.COLOURS
        colour = colour[number % len(colour)]
        if kind == "heatmap":
            _heatmap(canvas, flat[key], trace, layout)
        elif kind in ("scatter", "scattergl"):
            _scatter(flat[key], trace, colour)
            legend[key] = legend.get(key, 0) + 1
        elif kind == "bar":
            same = [t for t in traces if t.get("type") == "bar"]
            _bar(flat[key], trace, colour, same.index(trace), len(same))
            legend[key] = legend.get(key, 0) + 1
        else:
            raise NotImplementedError(f"no static picture of a '{kind}' trace")
    below = layout.own.get("legend", {}).get("orientation") == "h"
    entries: list[tuple[Any, str]] = []
    for key, axes in flat.items():
        _axes(axes, layout, *key)
        wanted = layout.own.get("showlegend")
        if key in legend and (len(traces) > 1 if wanted is None else wanted):
            handles, labels = axes.get_legend_handles_labels()
            if labels and below:
                entries += zip(handles, labels, strict=True)
            elif labels:
                axes.legend(handles, labels, fontsize=8, framealpha=0.8, edgecolor="#DDDDDD")
    if entries:
        handles = [handle for handle, _ in entries]
        names = [name for _, name in entries]
        canvas.legend(handles, names, loc="lower center", ncols=3, fontsize=8, frameon=False)
    for name, members in scenes.items():
        scene = layout.own.get(name, {})
        domain = scene.get("domain", {})
        place = layout.place(domain.get("x", (0, 1)), domain.get("y", (0, 1)))
        _scene(canvas, canvas.add_axes(place), members, scene, layout)
    for note in layout.own.get("annotations", ()):
        if note.get("xref") == "paper" and note.get("yref") == "paper":
            x, y, _, _ = layout.place((note["x"], 1), (note["y"], 1))
            canvas.text(x, y, _plain(note.get("text")), ha="center", va="bottom", fontsize=9.5)
    title = _title(layout.own)
    if title:
        canvas.text(0.5, 1 - 14 / layout.height, title, ha="center", va="top", fontsize=11)
    for slider in layout.own.get("sliders", ()):
        prefix = slider.get("currentvalue", {}).get("prefix", "")
        stop = slider["steps"][slider.get("active", 0)]["label"]
        # Where plotly has the slider: its padding below the tick labels and the axis title.
        low = max(10.0, layout.bottom * layout.height - 90) / layout.height
        canvas.text(0.5, low, f"{prefix}{stop}", ha="center", va="bottom", color="#333333")


# -- reading plotly's values ---------------------------------------------------------------------


def _values(value: Any) -> NDArray[Any]:
    """An array from a list, an array, or plotly's typed array {dtype, bdata, shape}."""
    if isinstance(value, Mapping) and "bdata" in value:
        flat = np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]))
        shape = value.get("shape")
        return flat.reshape([int(n) for n in str(shape).split(",")]) if shape else flat
    return np.asarray(value)


def _plain(text: Any) -> str:
    """Text without plotly's small HTML."""
    return re.sub(r"<[^>]+>", "", str(text or "").replace("<br>", "\n"))


def _title(owner: Mapping[str, Any]) -> str:
    title = owner.get("title", "")
    return _plain(title.get("text", "") if isinstance(title, Mapping) else title)


def _rgb(colour: Any) -> tuple[float, float, float]:
    found = re.match(r"rgba?\(([^)]*)\)", str(colour))
    if found:
        red, green, blue = (float(part) / 255 for part in found[1].split(",")[:3])
        return red, green, blue
    return to_rgb(str(colour))


def _colour_map(trace: Mapping[str, Any]) -> LinearSegmentedColormap:
    scale = trace.get("colorscale") or theme.DEPTH_COLOURS
    if isinstance(scale, str):
        scale = plotly.colors.get_colorscale(scale)
    stops = [(float(where), _rgb(colour)) for where, colour in scale]
    if trace.get("reversescale"):
        stops = [(1 - where, colour) for where, colour in reversed(stops)]
    return LinearSegmentedColormap.from_list("plotly", stops)


def _colour_bar(canvas: Figure, trace: Mapping[str, Any], norm: Normalize, layout: _Layout) -> None:
    bar = trace.get("colorbar", {})
    x, y, length = bar.get("x", 1.02), bar.get("y", 0.5), bar.get("len", 1.0)
    left, bottom, _, height = layout.place((x, x), (y - length / 2, y + length / 2))
    width = bar.get("thickness", 14) / layout.width
    left = min(left, 1 - width - 52 / layout.width)
    axes = canvas.add_axes((left, bottom, width, height))
    scale = mpl.cm.ScalarMappable(norm, _colour_map(trace))
    canvas.colorbar(scale, cax=axes).outline.set_linewidth(0.4)
    axes.set_ylabel(_title(bar), fontsize=9)


# -- flat traces ---------------------------------------------------------------------------------


def _positions(axes: Axes, which: str, value: Any) -> NDArray[Any]:
    """Coordinates along an axis; categories become 0, 1, 2 … with their names as ticks."""
    array = _values(value)
    if array.dtype.kind not in "US":
        return array
    known: list[str] = getattr(axes, f"radarbook_{which}", [])
    known += [name for name in dict.fromkeys(array.tolist()) if name not in known]
    setattr(axes, f"radarbook_{which}", known)
    slant = which == "x" and max(len(name) for name in known) * len(known) > 80
    getattr(axes, f"set_{which}ticks")(
        range(len(known)),
        [_plain(name) for name in known],
        **({"rotation": 40, "ha": "right"} if slant else {}),
    )
    return np.array([known.index(name) for name in array.tolist()], np.float64)


def _edges(centres: NDArray[Any]) -> tuple[float, float]:
    """The outer edges of equally spaced cells, from their centres."""
    half = (centres[-1] - centres[0]) / max(len(centres) - 1, 1) / 2 or 0.5
    return float(centres[0] - half), float(centres[-1] + half)


def _heatmap(canvas: Figure, axes: Axes, trace: Mapping[str, Any], layout: _Layout) -> None:
    z = _values(trace["z"]).astype(np.float64)
    x = _positions(axes, "x", trace.get("x", np.arange(z.shape[1])))
    y = _positions(axes, "y", trace.get("y", np.arange(z.shape[0])))
    low = trace.get("zmin", np.nanmin(z) if np.isfinite(z).any() else 0.0)
    high = trace.get("zmax", np.nanmax(z) if np.isfinite(z).any() else 1.0)
    norm = Normalize(low, high)
    axes.imshow(
        z,
        cmap=_colour_map(trace),
        norm=norm,
        origin="lower",
        extent=(*_edges(x), *_edges(y)),
        aspect="auto",
        interpolation="nearest",
    )
    if trace.get("showscale", True):
        _colour_bar(canvas, trace, norm, layout)


def _scatter(axes: Axes, trace: Mapping[str, Any], colour: str) -> None:
    line, marker = trace.get("line", {}), trace.get("marker", {})
    mode = trace.get("mode", "lines")
    x, y = (_positions(axes, which, trace[which]) for which in "xy")
    shade = marker.get("color") or line.get("color") or colour
    if not isinstance(shade, str):
        shade = colour
    symbol = marker.get("symbol") if isinstance(marker.get("symbol"), str) else None
    size = marker.get("size", 6)
    axes.plot(
        x,
        y,
        color=_rgb(line.get("color") or shade),
        linestyle=_DASHES.get(line.get("dash"), "-") if "lines" in mode else "none",
        linewidth=0.75 * line.get("width", 2),
        marker=_SYMBOLS.get(symbol, "o") if "markers" in mode else None,
        markersize=0.72 * (size if isinstance(size, int | float) else 6),
        markeredgewidth=0,
        markerfacecolor=_rgb(shade),
        label=_plain(trace.get("name")) if trace.get("showlegend", True) else None,
    )
    if trace.get("fill") == "tozeroy":
        axes.fill_between(x, y, color=_rgb(shade), alpha=0.35, linewidth=0)
    elif trace.get("fill") == "toself":
        axes.fill(x, y, color=_rgb(trace["fillcolor"]), alpha=0.85, linewidth=0)
    if "text" in mode:
        for where, what, word in zip(x, y, trace.get("text", ()), strict=False):
            axes.annotate(
                _plain(word),
                (where, what),
                fontsize=8,
                ha="center",
                va="bottom",
                color=_rgb(trace.get("textfont", {}).get("color") or "#000000"),
            )


def _bar(axes: Axes, trace: Mapping[str, Any], colour: str, number: int, count: int) -> None:
    x, y = (_positions(axes, which, trace[which]) for which in "xy")
    width = 0.8 / count
    errors = trace.get("error_y", {}).get("array")
    axes.bar(
        x + (number - (count - 1) / 2) * width,
        y.astype(np.float64),
        width,
        color=_rgb(trace.get("marker", {}).get("color") or colour),
        label=_plain(trace.get("name")),
        yerr=None if errors is None else _values(errors),
    )


def _axes(axes: Axes, layout: _Layout, x_reference: str, y_reference: str) -> None:
    """Titles, scales, direction and aspect of one panel."""
    for which, reference in (("x", x_reference), ("y", y_reference)):
        spec = layout.axis(which, reference)
        getattr(axes, f"set_{which}label")(_title(spec))
        if spec.get("type") == "log":
            getattr(axes, f"set_{which}scale")("log")
        limits = spec.get("range")
        if limits is not None:
            power = spec.get("type") == "log"
            getattr(axes, f"set_{which}lim")(*((10.0**v if power else v) for v in limits))
        elif spec.get("autorange") == "reversed":
            getattr(axes, f"invert_{which}axis")()
    if layout.axis("y", y_reference).get("scaleanchor"):
        axes.set_aspect("equal", adjustable="box")
    if axes.images:
        # No tick label at a picture's very edge: it would run into the colour bar next to it.
        if not hasattr(axes, "radarbook_x"):  # which has the names of categories as ticks
            axes.xaxis.set_major_locator(MaxNLocator(6, prune="both"))
    else:
        axes.grid(color="#E6E6E6", linewidth=0.6)
        axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, width=0.6, length=3)


# -- scenes --------------------------------------------------------------------------------------


def _view(scene: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """plotly's eye and up of a scene, (3,) each."""
    camera = scene.get("camera", {})
    eye, up = (
        np.array([float(camera.get(name, {}).get(axis, default)) for axis, default in pairs])
        for name, pairs in (
            ("eye", (("x", 1.25), ("y", 1.25), ("z", 1.25))),
            ("up", (("x", 0.0), ("y", 0.0), ("z", 1.0))),
        )
    )
    return eye, up


def _points(trace: Mapping[str, Any]) -> NDArray[Any]:
    return np.stack([_values(trace[axis]).astype(np.float64) for axis in "xyz"], axis=1)


def _scene(
    canvas: Figure,
    axes: Axes,
    traces: list[Mapping[str, Any]],
    scene: Mapping[str, Any],
    layout: _Layout,
) -> None:
    place = axes.get_position()
    width = int(place.width * canvas.get_figwidth() * canvas.dpi)
    height = int(place.height * canvas.get_figheight() * canvas.dpi)
    eye, up = _view(scene)
    camera = Camera(eye, up, np.concatenate([_points(t) for t in traces]), width / height)
    extent = (-camera.half[0], camera.half[0], -camera.half[1], camera.half[1])
    left, right, low, high = (e + camera.centre[n // 2] for n, e in enumerate(extent))
    axes.axis("off")
    # Opaque meshes together, so that they hide each other; see-through ones over them.
    meshes = [t for t in traces if t["type"] == "mesh3d"]
    opaque = [t for t in meshes if t.get("opacity", 1.0) >= 1]
    layers = ([opaque] if opaque else []) + [[t] for t in meshes if t.get("opacity", 1.0) < 1]
    for layer in layers:
        opacity = layer[0].get("opacity", 1.0)
        picture = cast([_surface(t) for t in layer], camera, width, height, opacity)
        axes.imshow(picture, extent=(left, right, low, high), aspect="auto", interpolation="none")
    for trace in traces:
        if trace["type"] == "scatter3d":
            _scatter3d(axes, trace, camera)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    for trace in meshes:
        if "intensity" in trace and trace.get("showscale", True):
            _colour_bar(canvas, trace, Normalize(trace["cmin"], trace["cmax"]), layout)
    lines = max((str(w).count("<br>") + 1 for t in traces for w in t.get("text") or ()), default=0)
    _scale_and_axes(axes, scene, camera, below=lines * 15 * canvas.dpi / _DPI / height)


def _surface(trace: Mapping[str, Any]) -> Surface:
    """A mesh's vertices, triangles and one colour per vertex."""
    points = _points(trace)
    triangles = np.stack([_values(trace[c]).astype(np.int64) for c in "ijk"], axis=1)
    if "intensity" in trace:
        norm = Normalize(trace["cmin"], trace["cmax"], clip=True)
        colours = _colour_map(trace)(norm(_values(trace["intensity"])))[:, :3]
    else:
        colours = np.tile(_rgb(trace.get("color", theme.FACE)), (len(points), 1))
    return Surface(points, triangles, colours)


def _scatter3d(axes: Axes, trace: Mapping[str, Any], camera: Camera) -> None:
    flat = camera.project(_points(trace))
    mode = trace.get("mode", "markers")
    if "text" in mode:
        for (x, y, _), word in zip(flat, trace.get("text", ()), strict=True):
            hangs = str(trace.get("textposition", "")).startswith("bottom")
            va = "top" if hangs else "center"
            axes.annotate(_plain(word), (x, y), fontsize=8.5, ha="center", va=va)
    if "lines" in mode:
        line = trace.get("line", {})
        axes.plot(flat[:, 0], flat[:, 1], color=_rgb(line.get("color", theme.COLOURS[0])))
    if "markers" in mode:
        marker = trace.get("marker", {})
        colour = marker.get("color")
        size = 0.72 * marker.get("size", 6)
        order = np.argsort(flat[:, 2])  # nearest plotted last
        if colour is None or isinstance(colour, str):
            shade: Any = _rgb(colour or theme.COLOURS[0])
            axes.scatter(flat[order, 0], flat[order, 1], s=size**2, color=shade, linewidths=0)
        else:
            axes.scatter(
                flat[order, 0],
                flat[order, 1],
                s=size**2,
                c=_values(colour)[order],
                cmap=_colour_map(marker),
                linewidths=0,
            )


def _scale_and_axes(
    axes: Axes, scene: Mapping[str, Any], camera: Camera, below: float = 0.0
) -> None:
    """A scale bar and the axes' directions, in place of plotly's labelled box.

    The bar stands lower by the share ``below`` of the height, which the names of faces take.
    """
    hidden = all(scene.get(f"{a}axis", {}).get("visible") is False for a in "xyz")
    named = "" if hidden else "xyz"
    width, height = 2 * camera.half
    unit = "mm"
    for axis in "xyz":
        found = re.search(r"\((\w+)\)", _title(scene.get(f"{axis}axis", {})))
        unit = found[1] if found else unit
    length = theme.round_length(width / 5)
    x = camera.centre[0] - camera.half[0] + 0.03 * width
    # The bar stands below the picture, where it hides no face and no label.
    y = camera.centre[1] - camera.half[1] - (0.02 + below) * height
    axes.plot(
        [x, x + length],
        [y, y],
        color="#333333",
        linewidth=2,
        solid_capstyle="butt",
        clip_on=False,
    )
    axes.text(
        x + length / 2, y - 0.012 * height, f"{length:g} {unit}", ha="center", va="top", size=8
    )
    start = np.array([camera.centre[0] + camera.half[0] - 0.14 * width, y + 0.08 * height])
    size = 0.09 * min(width, height)
    for number, name in enumerate(named):
        arrow = np.array([camera.right[number], camera.up[number]]) * size
        if np.linalg.norm(arrow) < 0.15 * size:
            continue  # along the line of sight
        axes.annotate(
            "",
            tuple(start + arrow),
            tuple(start),
            arrowprops={"arrowstyle": "->", "color": "#333333", "lw": 0.9},
        )
        axes.text(
            start[0] + 1.35 * arrow[0],
            start[1] + 1.35 * arrow[1],
            name,
            ha="center",
            va="center",
            size=8,
        )
