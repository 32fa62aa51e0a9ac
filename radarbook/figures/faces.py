"""Faces as pictures: one mesh, several side by side, values on the surface, a slider of faces.

Everything here is plotted in the model frame (millimetres; +x the subject's left, +y up, +z out of
the nose) and seen from in front of the face, so the subject's left is on the viewer's right.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from radarbook.errors import InputError
from radarbook.figures import theme

# Light from the upper left in front, as in a portrait. plotly places it in data units.
_LIGHT_POSITION = {"x": -900.0, "y": 1200.0, "z": 1500.0}
# Under an orthographic camera plotly.js turns the direction of the light round.
_LIGHT_POSITION_ORTHOGRAPHIC = {axis: -value for axis, value in _LIGHT_POSITION.items()}
_LIGHTING = {
    "ambient": 0.32,
    "diffuse": 0.72,
    "specular": 0.10,
    "roughness": 0.6,
    "fresnel": 0.05,
    "vertexnormalsepsilon": 0,
    "facenormalsepsilon": 0,
}
#: Camera directions by name (plotly's units: 1 is about half the scene).
VIEWS = {
    "front": {"x": 0.0, "y": 0.0, "z": 1.9},
    "half-left": {"x": 1.2, "y": 0.15, "z": 1.5},
    "half-right": {"x": -1.2, "y": 0.15, "z": 1.5},
    "left": {"x": 1.9, "y": 0.0, "z": 0.1},
}
#: Scene units that an orthographic plotly camera shows over the height of its panel.
_SHEET_HEIGHT = 1.9
#: Pixels: the height of a sheet of faces at most, and of one line of a label.
_HIGHEST_SHEET, _LABEL = 900, 17


def _array(value: Any, dtype: type) -> NDArray[Any]:
    """A NumPy array of a NumPy array, list or (possibly differentiable) tensor."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.ascontiguousarray(value, dtype=dtype)


def _vertices(vertices: Any, name: str = "vertices_mm") -> NDArray[np.float32]:
    points = _array(vertices, np.float32)
    if points.ndim == 3 and len(points) == 1:
        points = points[0]
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"{name}: expected (N, 3) coordinates, found shape {points.shape}")
    return points


def _indices(triangles: Any, count: int) -> NDArray[Any]:
    faces = _array(triangles, np.int64)
    # The smallest type that holds the indices: plotly writes typed arrays as they are.
    return faces.astype(np.uint16 if count <= 2**16 else np.uint32)


def _scene(view: str | dict[str, float]) -> dict[str, Any]:
    if isinstance(view, str) and view not in VIEWS:
        raise InputError(f"view: expected one of {', '.join(VIEWS)}, found '{view}'")
    axes = {
        f"{axis}axis": {
            "title": {"text": f"{axis} (mm)", "font": {"size": 11}},
            "tickfont": {"size": 10},
            "nticks": 5,
        }
        for axis in "xyz"
    }
    return {
        "aspectmode": "data",
        "camera": {
            "up": {"x": 0, "y": 1, "z": 0},
            "eye": VIEWS[view] if isinstance(view, str) else view,
        },
        **axes,
    }


def mesh_trace(
    vertices_mm: Any,
    triangles: Any,
    *,
    values: ArrayLike | None = None,
    colour: str = theme.FACE,
    scale: str = theme.ERROR_SCALE,
    limits: tuple[float, float] | None = None,
    title: str = "",
    name: str = "",
    opacity: float = 1.0,
) -> go.Mesh3d:
    """A lit mesh in one colour, or coloured by ``values`` per vertex (N,) with a colour bar."""
    points = _vertices(vertices_mm)
    i, j, k = _indices(triangles, len(points)).T.copy()
    trace = go.Mesh3d(
        x=points[:, 0].copy(),
        y=points[:, 1].copy(),
        z=points[:, 2].copy(),
        i=i,
        j=j,
        k=k,
        name=name,
        opacity=opacity,
        flatshading=False,
        lighting=_LIGHTING,
        lightposition=_LIGHT_POSITION,
        hoverinfo="x+y+z" if values is None else "x+y+z+text",
    )
    if values is None:
        trace.update(color=colour)
        return trace
    numbers = _array(values, np.float32).reshape(-1)
    if len(numbers) != len(points):
        raise InputError(f"values: expected one per vertex ({len(points)}), found {len(numbers)}")
    low, high = limits or (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    trace.update(
        intensity=numbers,
        colorscale=scale,
        cmin=low,
        cmax=high if high > low else low + 1e-6,
        showscale=True,
        colorbar={"title": {"text": title, "side": "right"}, "thickness": 14, "len": 0.8},
        hoverinfo="x+y+z",
        hovertemplate="%{intensity:.3g}<extra></extra>",
    )
    return trace


def face(
    vertices_mm: Any,
    triangles: Any,
    *,
    values: ArrayLike | None = None,
    colour: str = theme.FACE,
    colorbar_title: str = "",
    scale: str = theme.ERROR_SCALE,
    limits: tuple[float, float] | None = None,
    title: str = "",
    view: str | dict[str, float] = "front",
) -> go.Figure:
    """One face: vertices (N, 3) mm in the model frame, triangles (F, 3).

    With ``values`` (N,) the surface carries a quantity, its unit in ``colorbar_title``.

    Examples
    --------
    >>> import radarbook as rb
    >>> model = rb.load_model()
    >>> len(face(model.mean, model.triangles, title="mean face").data)
    1
    """
    trace = mesh_trace(
        vertices_mm,
        triangles,
        values=values,
        colour=colour,
        scale=scale,
        limits=limits,
        title=colorbar_title,
    )
    return theme.new_figure(
        trace,
        scene=_scene(view),
        title={"text": title},
        height=480,
        margin={"l": 0, "r": 0, "t": 40 if title else 10, "b": 0},
    )


def face_regions(
    vertices_mm: Any, triangles: Any, regions: Mapping[str, ArrayLike], *, title: str = ""
) -> go.Figure:
    """A face with each region in a colour of its own and its name in front of it.

    ``regions`` are masks (N,) of the vertices. A triangle belongs to a region if two of its
    vertices do; the rest stays in the colour of skin.

    Examples
    --------
    >>> import radarbook as rb
    >>> model = rb.load_model()
    >>> figure = face_regions(model.mean, model.triangles, model.regions)
    >>> [trace.name for trace in figure.data[1:4]]
    ['eyes', 'nose', 'mouth']
    """
    points = _vertices(vertices_mm)
    faces = _array(triangles, np.int64)
    masks = {name: _array(mask, bool) for name, mask in regions.items()}
    left = np.ones(len(faces), bool)
    parts: list[go.Mesh3d] = []
    for (name, mask), colour in zip(masks.items(), itertools.cycle(theme.COLOURS), strict=False):
        if mask.shape != (len(points),):
            raise InputError(
                f"regions['{name}']: expected ({len(points)},) flags, found shape {mask.shape}"
            )
        own = (mask[faces].sum(axis=1) >= 2) & left
        left &= ~own
        parts.append(_submesh(points, faces[own], colour, name))
    figure = theme.new_figure(
        _submesh(points, faces[left], theme.FACE, ""),
        *parts,
        scene=_scene("front"),
        title={"text": title},
        height=480,
        margin={"l": 0, "r": 0, "t": 40 if title else 10, "b": 0},
    )
    # A region on both sides is named on the subject's left.
    places = [points[mask & (points[:, 0] >= 0)].mean(axis=0) for mask in masks.values()]
    x, y, _ = np.array(places, np.float32).T
    figure.add_trace(
        go.Scatter3d(
            x=x.copy(),
            y=y.copy(),
            z=np.full(len(places), points[:, 2].max() + 15, np.float32),
            text=list(masks),
            mode="text",
            textfont={"size": 13},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    return figure


def _submesh(points: NDArray[np.float32], faces: NDArray[Any], colour: str, name: str) -> go.Mesh3d:
    """A part of a mesh with its own vertices only."""
    used, numbers = np.unique(faces, return_inverse=True)
    return mesh_trace(points[used], numbers.reshape(faces.shape), colour=colour, name=name)


def error_map(
    vertices_mm: Any,
    triangles: Any,
    errors_mm: ArrayLike,
    *,
    title: str = "",
    limit: float | None = None,
    view: str | dict[str, float] = "front",
) -> go.Figure:
    """A face coloured by its vertex distance to another, in millimetres from zero."""
    high = float(np.nanmax(_array(errors_mm, np.float32))) if limit is None else limit
    return face(
        vertices_mm,
        triangles,
        values=errors_mm,
        colorbar_title="distance (mm)",
        limits=(0.0, high),
        title=title,
        view=view,
    )


def faces_row(
    faces: Sequence[Any],
    triangles: Any,
    labels: Sequence[str],
    *,
    values: Sequence[ArrayLike] | None = None,
    colorbar_title: str = "",
    limits: tuple[float, float] | None = None,
    columns: int = 4,
    title: str = "",
    colour: str = theme.FACE,
) -> go.Figure:
    """A contact sheet: several faces (N, 3) mm of one mesh, side by side with a label each.

    All share one scene (moved apart by whole widths, so sizes compare), because a browser keeps
    only about sixteen WebGL scenes alive on a page.

    Examples
    --------
    >>> import radarbook as rb
    >>> model = rb.load_model()
    >>> faces = [model.mean, model.mean + 1.0]
    >>> faces_row(faces, model.triangles, ["mean", "moved"]).data[0].type
    'mesh3d'
    """
    shapes = [_vertices(f, f"faces[{n}]") for n, f in enumerate(faces)]
    if len(labels) != len(shapes):
        raise InputError(f"labels: expected {len(shapes)}, one per face, found {len(labels)}")
    span = np.max([s.max(0) - s.min(0) for s in shapes], axis=0)
    # Faces in profile are narrow: what stands below each needs room too.
    step_x = max(1.12 * span[0], 0.75 * span[1])
    columns = min(columns, len(shapes))
    rows = -(-len(shapes) // columns)
    margin = {"l": 0, "r": 0 if values is None else 70, "t": 40 if title else 10, "b": 20}
    # Labels have their size in pixels, so the room for them depends on the sheet's scale (mm per
    # pixel): the one that fills its width, or the one of the highest sheet.
    tall, below = 1.06 * span[1], 14 + _LABEL * (1 + max(label.count("<br>") for label in labels))
    scale = max(
        columns * step_x / (theme.WIDTH - margin["r"]),
        rows * tall / (_HIGHEST_SHEET - margin["t"] - margin["b"] - rows * below),
    )
    step_y = tall + below * scale
    if values is not None and limits is None:
        stacked = np.concatenate([_array(v, np.float32).reshape(-1) for v in values])
        limits = (float(np.nanmin(stacked)), float(np.nanmax(stacked)))
    figure = theme.new_figure(title={"text": title})
    texts: list[tuple[float, float, float, str]] = []
    for n, (points, label) in enumerate(zip(shapes, labels, strict=True)):
        row, column = divmod(n, columns)
        middle = (points.max(0) + points.min(0)) / 2
        shift = np.array([column * step_x - middle[0], -row * step_y - middle[1], -middle[2]])
        trace = mesh_trace(
            points + shift.astype(np.float32),
            triangles,
            values=None if values is None else values[n],
            colour=colour,
            limits=limits,
            title=colorbar_title,
            name=label,
        )
        trace.update(showscale=values is not None and n == 0)
        figure.add_trace(trace)
        texts.append((shift[0] + middle[0], -row * step_y - 0.53 * span[1], span[2] / 2, label))
    x, y, z, words = zip(*texts, strict=True)
    figure.add_trace(
        go.Scatter3d(
            x=np.array(x, np.float32),
            y=np.array(y, np.float32),
            z=np.array(z, np.float32),
            text=words,
            mode="text",
            textposition="bottom center",  # two lines stay clear of the chin
            textfont={"size": 12},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    height = round(rows * step_y / scale) + margin["t"] + margin["b"]
    # Orthographic, or the outer faces would be seen from their sides. Its zoom is the aspect:
    # fit the sheet's height or its width, whichever fills the panel first.
    extent = np.array([columns * step_x, rows * step_y, span[2]])
    panel = (theme.WIDTH - margin["r"]) / (height - margin["t"] - margin["b"])
    ratio = extent * _SHEET_HEIGHT * min(1 / extent[1], panel / extent[0])
    figure.update_traces(selector={"type": "mesh3d"}, lightposition=_LIGHT_POSITION_ORTHOGRAPHIC)
    ends = {
        "x": [-step_x / 2, (columns - 0.5) * step_x],
        "y": [tall / 2 - rows * step_y, tall / 2],
        "z": [-span[2] / 2, span[2] / 2],
    }
    scene = _scene("front") | {
        f"{axis}axis": {"visible": False, "range": [float(end) for end in pair]}
        for axis, pair in ends.items()
    }
    scene["camera"]["projection"] = {"type": "orthographic"}
    scene["aspectmode"] = "manual"
    scene["aspectratio"] = dict(zip("xyz", ratio.tolist(), strict=True))
    # A narrow page puts fewer faces into a row (radarbook/book/figures.js): what it needs to know.
    sheet = {
        "count": len(shapes),
        "columns": columns,
        "step": [float(step_x), float(step_y), float(span[2])],
        "tall": float(tall),  # mm: a face without its label
        "below": below,  # pixels: its label
        "height": _SHEET_HEIGHT,
    }
    figure.update_layout(scene=scene, height=height, margin=margin, meta={"sheet": sheet})
    return figure


def faces_slider(
    faces: Sequence[Any],
    triangles: Any,
    labels: Sequence[str],
    *,
    parameter: str = "",
    title: str = "",
    view: str | dict[str, float] = "half-left",
) -> go.Figure:
    """One mesh that a slider moves through ``faces``: plotly's own frames, so no kernel is needed.

    ``labels`` are the slider's stops and ``parameter`` what they count.

    Examples
    --------
    >>> import radarbook as rb
    >>> model = rb.load_model()
    >>> slider = faces_slider([model.mean, model.mean + 1.0], model.triangles, ["0", "1"])
    >>> len(slider.frames)
    2
    """
    shapes = [_vertices(f, f"faces[{n}]") for n, f in enumerate(faces)]
    middle = len(shapes) // 2
    figure = face(shapes[middle], triangles, title=title, view=view)
    figure.frames = [
        go.Frame(
            name=str(n),
            data=[go.Mesh3d(x=s[:, 0].copy(), y=s[:, 1].copy(), z=s[:, 2].copy())],
            traces=[0],
        )
        for n, s in enumerate(shapes)
    ]
    everything = np.concatenate(shapes)
    low, high = everything.min(0) - 5, everything.max(0) + 5
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {}}
    figure.update_layout(
        # Fixed axes, or the face would seem to stand still while the box changes.
        scene={
            f"{axis}axis": {"range": [float(low[n]), float(high[n])]}
            for n, axis in enumerate("xyz")
        },
        height=560,
        margin={"b": 110},
        sliders=[
            {
                "active": middle,
                "currentvalue": {"prefix": f"{parameter}: "},
                "pad": {"t": 10, "r": 25},  # room for half of the last label
                "steps": [
                    {"method": "animate", "label": str(label), "args": [[str(n)], still]}
                    for n, label in enumerate(labels)
                ],
            }
        ],
    )
    return figure
