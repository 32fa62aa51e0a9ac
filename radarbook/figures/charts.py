"""Curves, bars and matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from radarbook.errors import InputError
from radarbook.figures import theme
from radarbook.figures.faces import _array

#: Bars whose names are written small and upright, so that all of them have room.
_MANY_BARS = 12


def curves(
    series: Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]],
    *,
    x_title: str = "epoch",
    y_title: str = "loss",
    log_y: bool = False,
    title: str = "",
    references: Mapping[str, float] | None = None,
) -> go.Figure:
    """Named curves: y values counted from 1, or (x, y) pairs; ``references`` are dotted levels.

    Examples
    --------
    >>> figure = curves({"training": [1.0, 0.5, 0.3]}, references={"mean face": 1.0})
    >>> [trace.name for trace in figure.data]
    ['training', 'mean face']
    """
    figure = theme.new_figure()
    low, high = np.inf, -np.inf
    for name, values in series.items():
        if isinstance(values, tuple):
            x, y = (_array(part, np.float64) for part in values)
        else:
            y = _array(values, np.float64)
            x = np.arange(1, len(y) + 1, dtype=np.float64)
        if x.shape != y.shape or x.ndim != 1:
            raise InputError(f"curve '{name}': expected as many x as y, found {x.shape}, {y.shape}")
        few = len(x) <= 40
        mode = "lines+markers" if few else "lines"
        figure.add_trace(
            go.Scatter(x=np.float32(x), y=np.float32(y), mode=mode, name=name, marker={"size": 5})
        )
        if len(x):
            low, high = min(low, float(x.min())), max(high, float(x.max()))
    for name, level in (references or {}).items():
        figure.add_trace(
            go.Scatter(
                x=[low, high],
                y=[level, level],
                mode="lines",
                name=name,
                line={"dash": "dot", "width": 1.5, "color": "#777777"},
            )
        )
    figure.update_layout(
        xaxis_title=x_title, yaxis_title=y_title, title={"text": title}, showlegend=True
    )
    if log_y:
        figure.update_yaxes(type="log")
    return figure


def bars(
    groups: Mapping[str, Mapping[str, float]],
    *,
    y_title: str,
    x_title: str = "",
    title: str = "",
) -> go.Figure:
    """Grouped bars: ``{series: {category: value}}``.

    Examples
    --------
    >>> len(bars({"fit": {"nose": 0.2, "chin": 0.4}}, y_title="error (mm)").data)
    1
    """
    figure = theme.new_figure(barmode="group")
    for name, values in groups.items():
        figure.add_trace(
            go.Bar(
                x=list(values),
                y=np.array(list(values.values()), np.float64),
                name=name,
                hovertemplate="%{x}: %{y:.3g}<extra></extra>",
            )
        )
    figure.update_layout(
        xaxis_title=x_title,
        yaxis_title=y_title,
        title={"text": title},
        showlegend=len(groups) > 1,
    )
    if max(map(len, groups.values()), default=0) > _MANY_BARS:
        # On a narrow page plotly would leave out every second name.
        figure.update_xaxes(dtick=1, tickangle=-90, tickfont={"size": 9})
    return figure


def similarity_matrix(
    matrix: ArrayLike,
    labels: Sequence[str],
    *,
    column_labels: Sequence[str] | None = None,
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    bar_title: str = "cosine similarity",
) -> go.Figure:
    """A matrix of values in −1 … 1, its first row on top.

    Examples
    --------
    >>> similarity_matrix([[1.0, 0.2], [0.2, 1.0]], ["a", "b"]).data[0].type
    'heatmap'
    """
    values = _array(matrix, np.float32)
    columns = list(labels if column_labels is None else column_labels)
    if values.shape != (len(labels), len(columns)):
        raise InputError(
            f"matrix: expected ({len(labels)}, {len(columns)}) to match the labels, "
            f"found {values.shape}"
        )
    figure = theme.new_figure(
        go.Heatmap(
            z=values,
            x=columns,
            y=list(labels),
            colorscale=theme.SIGNED_SCALE,
            reversescale=True,
            zmin=-1.0,
            zmax=1.0,
            colorbar={"title": {"text": bar_title, "side": "right"}, "thickness": 12},
            hovertemplate="%{y} · %{x}: %{z:.2f}<extra></extra>",
        ),
        title={"text": title},
        width=620,
        height=560,
    )
    figure.update_xaxes(title_text=x_title, type="category", constrain="domain")
    figure.update_yaxes(
        title_text=y_title,
        type="category",
        autorange="reversed",
        scaleanchor="x",
        constrain="domain",
    )
    return figure


def histogram(
    series: Mapping[str, ArrayLike],
    *,
    x_title: str,
    bins: int = 40,
    title: str = "",
    limits: tuple[float, float] | None = None,
) -> go.Figure:
    """Counts of values on common bins, as outlines (counted here, so the figure stays small).

    Examples
    --------
    >>> int(histogram({"errors": [0.1, 0.2, 0.2]}, x_title="mm", bins=2).data[0].y.max())
    2
    """
    values = {name: _array(v, np.float64).reshape(-1) for name, v in series.items()}
    everything = np.concatenate(list(values.values()))
    edges = np.histogram_bin_edges(everything, bins=bins, range=limits)
    figure = theme.new_figure()
    for name, numbers in values.items():
        counts, _ = np.histogram(numbers, edges)
        figure.add_trace(
            go.Scatter(
                x=np.float32(np.repeat(edges, 2)[1:-1]),
                y=np.float32(np.repeat(counts, 2)),
                mode="lines",
                name=name,
                fill="tozeroy",
            )
        )
    figure.update_layout(
        xaxis_title=x_title, yaxis_title="count", title={"text": title}, showlegend=len(series) > 1
    )
    return figure
