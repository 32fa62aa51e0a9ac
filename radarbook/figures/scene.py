"""The measurement as a picture: the array, a face in front of it, and both frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from radarbook.errors import InputError
from radarbook.figures import theme
from radarbook.figures.faces import _array, mesh_trace
from radarbook.radar.array import Array

#: Length of the arrows of a frame, mm.
_ARROW = 70.0


def array_and_face(array: Array, vertices: Any, triangles: Any, *, title: str = "") -> go.Figure:
    """The antennas of an array and a face in front of it, in the radar frame, in millimetres.

    ``vertices`` (N, 3) in metres in the radar frame, ``triangles`` (F, 3). Arrows show the radar
    frame in the array's centre, and the model frame: its axes at the face's foremost vertex.

    Examples
    --------
    >>> import radarbook as rb
    >>> model = rb.load_model()
    >>> face = rb.to_radar(model, rb.FaceParameters.neutral(1), 0.3)[0]
    >>> figure = array_and_face(rb.qar50(), face, model.triangles)
    >>> [trace.name for trace in figure.data[:3]]
    ['face', 'transmit', 'receive']
    """
    points = 1e3 * _array(vertices, np.float32)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"vertices: expected (N, 3) coordinates, found shape {points.shape}")
    figure = theme.new_figure(mesh_trace(points, triangles, name="face"))
    for name, antennas, colour in (
        ("transmit", array.tx, theme.COLOURS[1]),
        ("receive", array.rx, theme.COLOURS[0]),
    ):
        x, y, z = (1e3 * _array(antennas, np.float32)).T
        figure.add_trace(
            go.Scatter3d(
                x=x.copy(), y=y.copy(), z=z.copy(), name=name, mode="markers",
                marker={"size": 3, "color": colour},
            )
        )  # fmt: skip
    _frame(figure, np.zeros(3), np.eye(3), "xyz", "", theme.COLOURS[7])
    nose = points[points[:, 2].argmin()].astype(np.float64)
    # The model frame looks back at the radar: half a turn about y.
    turned = np.diag([-1.0, 1.0, -1.0])
    _frame(figure, nose, turned, "xyz", "face ", theme.COLOURS[2])
    axis = {"visible": False}
    figure.update_layout(
        scene={
            "aspectmode": "data",
            "camera": {"up": {"x": 0, "y": 1, "z": 0}, "eye": {"x": -1.5, "y": 0.75, "z": -0.9}},
            "xaxis": axis, "yaxis": axis, "zaxis": axis,
        },
        title={"text": title},
        height=440,
        margin={"l": 0, "r": 0, "t": 40 if title else 10, "b": 0},
        legend={"orientation": "h", "y": 0.02, "x": 0.5, "xanchor": "center"},
    )  # fmt: skip
    return figure


def _frame(figure: go.Figure, origin: Any, axes: Any, names: str, prefix: str, colour: str) -> None:
    """Three lines from ``origin`` along the rows of ``axes``, each with its name at its end."""
    for axis, name in zip(axes, names, strict=True):
        x, y, z = np.array([origin, origin + _ARROW * axis], np.float32).T
        figure.add_trace(
            go.Scatter3d(
                x=x.copy(), y=y.copy(), z=z.copy(), mode="lines",
                line={"color": colour, "width": 4}, hoverinfo="skip", showlegend=False,
            )
        )  # fmt: skip
        x, y, z = np.array([origin + 1.18 * _ARROW * axis], np.float32).T
        figure.add_trace(
            go.Scatter3d(
                x=x, y=y, z=z, mode="text", text=[f"{prefix}{name}"],
                textfont={"size": 13, "color": colour}, hoverinfo="skip", showlegend=False,
            )
        )  # fmt: skip
