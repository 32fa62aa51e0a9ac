"""Volumes as pictures: slices with a slider, projections with a scale bar, several arrays.

Axes are as in :mod:`radarbook.figures.images`: +y up and +x to the left, as the radar sees it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray

from radarbook.errors import InputError
from radarbook.figures import theme
from radarbook.figures.images import (
    NOTHING,
    X_TITLE,
    Y_TITLE,
    _equal_axes,
    _heatmap,
    _levels,
    _panels,
    _where,
)
from radarbook.radar.imaging import Grid
from radarbook.radar.volume import projections

#: Slices that a slider holds at most: each is an image in the page.
MOST_SLICES = 41
#: A scale bar and the plate under it: read on bright and dark pixels, and on both themes.
_BAR, _PLATE = "#1A1A1A", "rgba(255,255,255,0.85)"


def slices_viewer(
    volume: Any,
    x: Any,
    y: Any,
    z: Any,
    *,
    along: str = "z",
    floor_db: float = -30.0,
    title: str = "",
) -> go.Figure:
    """Slices of a volume ``[z, y, x]`` (complex or magnitude) that a slider moves through, in dB.

    Coordinates in metres. ``along`` is the axis the slider moves on, ``"z"``, ``"y"`` or ``"x"``.
    A volume of more than 41 slices shows every n-th, and always the brightest, at which it opens.
    plotly frames, no kernel; the static picture is the brightest slice.

    Examples
    --------
    >>> volume = torch.rand(5, 8, 8)
    >>> axis = torch.linspace(-0.1, 0.1, 8)
    >>> len(slices_viewer(volume, axis, axis, torch.linspace(0.2, 0.3, 5)).frames)
    5
    """
    if along not in ("z", "y", "x"):
        raise InputError(f"parameter 'along': expected z, y or x, found {along!r}")
    level, (mx, my, mz) = _levels(volume, x, y, z)
    level = _where(level >= floor_db, level)
    which = ("z", "y", "x").index(along)
    stack = np.moveaxis(level, which, 0)
    position = (mz, my, mx)[which]
    across, up = ((mx, my), (mx, mz), (my, mz))[which]
    top = int(np.unravel_index(int(np.nanargmax(level)), level.shape)[which])
    step = math.ceil(len(stack) / MOST_SLICES)
    shown = list(range(top % step, len(stack), step))
    bar = {"thickness": 12, "outlinewidth": 0, "title": {"text": "amplitude (dB)", "side": "right"}}
    figure = theme.new_figure(
        _heatmap(
            stack[top], across, up, "dB",
            colorscale=theme.AMPLITUDE_SCALE, zmin=floor_db, zmax=0.0, colorbar=bar,
        )
    )  # fmt: skip
    figure.frames = [
        go.Frame(name=str(n), data=[go.Heatmap(z=stack[n])], traces=[0]) for n in shown
    ]
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {}}
    names = {
        "z": (X_TITLE, Y_TITLE),
        "y": (X_TITLE, "z (mm), away"),
        "x": ("y (mm)", "z (mm), away"),
    }
    x_title, y_title = names[along]
    figure.update_xaxes(title_text=x_title, constrain="domain")
    if along != "x":
        figure.update_xaxes(autorange="reversed")
    figure.update_yaxes(title_text=y_title, scaleanchor="x", constrain="domain")
    figure.update_layout(
        plot_bgcolor=NOTHING,
        height=560,
        width=620,
        title={"text": title},
        margin={"b": 140, "t": 60 if title else 30, "r": 90},
        sliders=[
            {
                "active": shown.index(top),
                "currentvalue": {"prefix": f"{along} (mm): "},
                "pad": {"t": 50, "r": 25},  # room for half of the last label
                "steps": [
                    {
                        "method": "animate",
                        "label": f"{position[n]:.1f}",
                        "args": [[str(n)], still],
                    }
                    for n in shown
                ],
            }
        ],
    )
    return figure


def scale_bar(figure: go.Figure, row: int = 1, column: int = 1) -> None:
    """Adds a bar of a round length, about a fifth of the width, to the lower corner of a panel.

    Bar and length are dark on a light plate, so that they are read over any pixel. The panel's
    first heatmap has coordinates in mm. Where x runs to the left, so does the bar.
    """
    panel = figure.get_subplot(row, column) if figure._grid_ref is not None else figure.layout
    anchor = panel.yaxis.anchor or "x"
    trace = next(t for t in figure.data if t.type == "heatmap" and (t.xaxis or "x") == anchor)
    x, y = (np.asarray(v, np.float64) for v in (trace.x, trace.y))
    width, height = float(np.ptp(x)), float(np.ptp(y))
    length = theme.round_length(width / 5)
    backwards = panel.xaxis.autorange == "reversed"
    towards = -1.0 if backwards else 1.0
    # Room for the length's text, which is wider than a short bar.
    plate = max(length, 0.24 * width) + 0.04 * width
    corner = (x.max() if backwards else x.min()) + towards * 0.03 * width
    start = corner + towards * (plate - length) / 2
    low, high = y.min() + 0.03 * height, y.min() + 0.17 * height
    where = {"row": row, "col": column} if figure._grid_ref is not None else {}
    still: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False}
    ends = [corner, corner + towards * plate]
    figure.add_trace(
        go.Scatter(
            x=[*ends, *reversed(ends), ends[0]],
            y=[low, low, high, high, low],
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=_PLATE,
            **still,
        ),
        **where,
    )
    figure.add_trace(
        go.Scatter(
            x=[start, start + towards * length / 2, start + towards * length],
            y=[low + 0.03 * height] * 3,
            mode="lines+text",
            text=["", f"{length:g} mm", ""],
            textposition="top center",
            textfont={"color": _BAR, "size": 11},
            line={"color": _BAR, "width": 3},
            **still,
        ),
        **where,
    )


def volume_projections(
    volume: Any, grid: Grid, *, floor_db: float = -30.0, title: str = ""
) -> go.Figure:
    """Maximum projections of a volume ``[z, y, x]``: from the front, from above, from the side;
    each in dB relative to the volume's maximum, with a scale bar.

    Examples
    --------
    >>> figure = volume_projections(torch.rand(5, 8, 8), Grid.regular(0.2, 8, 0.2, 0.3, 5))
    >>> [trace.type for trace in figure.data].count("heatmap")
    3
    """
    along_z, along_y, along_x = (
        p.cpu().numpy().astype(np.float32) for p in projections(torch.as_tensor(volume), floor_db)
    )
    mx, my, mz = (a.cpu().numpy().astype(np.float32) * 1e3 for a in (grid.x, grid.y, grid.z))
    panels: list[tuple[str, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]] = [
        ("from the front", along_z, mx, my),
        ("from above", along_y, mx, mz),
        ("from the side", along_x, my, mz),
    ]
    figure = _panels(1, 3, [p[0] for p in panels], horizontal_spacing=0.11)
    titles = [(X_TITLE, Y_TITLE), (X_TITLE, "z (mm), away"), ("y (mm)", "z (mm), away")]
    bar = {"thickness": 12, "outlinewidth": 0, "title": {"text": "amplitude (dB)", "side": "right"}}
    for n, ((_, image, across, up), (x_title, y_title)) in enumerate(
        zip(panels, titles, strict=True), start=1
    ):
        figure.add_trace(
            _heatmap(
                _where(image > floor_db, image), across, up, "dB",
                colorscale=theme.AMPLITUDE_SCALE, zmin=floor_db, zmax=0.0,
                showscale=n == 3, colorbar=bar,
            ),
            row=1,
            col=n,
        )  # fmt: skip
        _equal_axes(figure, 1, n)
        figure.update_xaxes(
            title_text=x_title.split(",")[0],
            autorange="reversed" if x_title == X_TITLE else True,
            row=1,
            col=n,
        )
        figure.update_yaxes(title_text=y_title, row=1, col=n)
        scale_bar(figure, 1, n)
    figure.update_layout(
        plot_bgcolor=NOTHING,
        height=360,
        title={"text": title},
        margin={"t": 70 if title else 40, "r": 90},
    )
    return figure


def array_views(
    images: Sequence[Any],
    x: Any,
    y: Any,
    labels: Sequence[str],
    *,
    floor_db: float = -30.0,
    title: str = "",
) -> go.Figure:
    """Amplitude images (H, W) of one scene by several arrays, on one scale: what one sees that
    another does not.

    ``images`` are magnitudes, ``x`` and ``y`` metres; dB are relative to the largest of all.

    Examples
    --------
    >>> axis = torch.linspace(-0.1, 0.1, 8)
    >>> figure = array_views([torch.rand(8, 8)] * 3, axis, axis, ["one", "other", "both"])
    >>> [trace.type for trace in figure.data].count("heatmap")
    3
    """
    values = [torch.as_tensor(v).detach().cpu().abs().double().numpy() for v in images]
    if len(values) != len(labels) or not values:
        raise InputError(f"labels: expected {len(values)}, one per image, found {len(labels)}")
    top = max(float(v.max()) for v in values)
    if not top > 0:
        raise InputError("images: expected a maximum above zero")
    mx, my = (np.asarray(a, np.float32) * np.float32(1e3) for a in (x, y))
    figure = _panels(1, len(values), labels, horizontal_spacing=0.24 / len(values))
    bar = {"thickness": 12, "outlinewidth": 0, "title": {"text": "amplitude (dB)", "side": "right"}}
    for n, value in enumerate(values, start=1):
        level = 20 * np.log10(np.maximum(value / top, 1e-12))
        figure.add_trace(
            _heatmap(
                _where(level >= floor_db, level), mx, my, "dB",
                colorscale=theme.AMPLITUDE_SCALE, zmin=floor_db, zmax=0.0,
                showscale=n == len(values), colorbar=bar,
            ),
            row=1,
            col=n,
        )  # fmt: skip
        _equal_axes(figure, 1, n, y_title=n == 1)
        figure.update_xaxes(title_text="x (mm)", row=1, col=n)
    scale_bar(figure, 1, 1)
    figure.update_layout(
        plot_bgcolor=NOTHING,
        height=340,
        title={"text": title},
        margin={"t": 70 if title else 40, "r": 90},
    )
    return figure
