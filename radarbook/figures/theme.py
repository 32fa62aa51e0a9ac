"""One look for every figure: the plotly template, colours, and colour scales."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import plotly.io as pio

#: Colours of series, in order; readable on white and distinguished by the colour-blind (Okabe-Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6C6C6C", "#000000")
FACE = "#C9A58C"
AMPLITUDE_SCALE = "Inferno"
DEPTH_COLOURS = "Viridis"
ERROR_SCALE = "YlOrRd"
SIGNED_SCALE = "RdBu"
#: Pixels: the text column of the book, and the height of a single panel.
WIDTH, HEIGHT = 760, 420
FONT = "system-ui, Helvetica, Arial, sans-serif"


def _template() -> go.layout.Template:
    axis = {
        "showgrid": True,
        "gridcolor": "#E6E6E6",
        "zeroline": False,
        "linecolor": "#666666",
        "showline": True,
        "ticks": "outside",
        "tickcolor": "#666666",
        "ticklen": 4,
        "automargin": True,
        "title": {"standoff": 8},
    }
    axis3d = {
        "backgroundcolor": "#FFFFFF",
        "gridcolor": "#E0E0E0",
        "showbackground": True,
        "zerolinecolor": "#CCCCCC",
    }
    return go.layout.Template(
        layout={
            "width": WIDTH,
            "height": HEIGHT,
            "font": {"family": FONT, "size": 13, "color": "#222222"},
            "colorway": COLOURS,
            "paper_bgcolor": "#FFFFFF",
            "plot_bgcolor": "#FFFFFF",
            "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
            "title": {"x": 0.5, "xanchor": "center", "font": {"size": 15}},
            "legend": {"bgcolor": "rgba(255,255,255,0.8)"},
            "xaxis": axis,
            "yaxis": axis,
            "scene": {"xaxis": axis3d, "yaxis": axis3d, "zaxis": axis3d},
            "hovermode": "closest",
        },
    )


TEMPLATE = _template()
pio.templates["radarbook"] = TEMPLATE


def new_figure(*traces: object, **layout: object) -> go.Figure:
    """An empty or filled figure in the project's look; keywords go to the layout."""
    figure = go.Figure(data=list(traces))
    figure.update_layout(template="radarbook", **layout)
    return figure


def round_length(longest: float) -> float:
    """Of a scale bar: the largest 1, 2 or 5 times a power of ten that is not longer.

    Examples
    --------
    >>> round_length(56.0), round_length(0.02)
    (50.0, 0.02)
    """
    power = 10.0 ** math.floor(math.log10(longest))
    return max(n * power for n in (1, 2, 5) if n * power <= longest * (1 + 1e-9))
