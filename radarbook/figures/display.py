"""Showing and saving figures: interactive and static at once.

A figure goes into a notebook twice: as plotly's own JSON, which JupyterLab and the book plot with
plotly.js, and as a PNG, for every reader that has no JavaScript (a code host's preview, a printed
page, a mail).
"""

from __future__ import annotations

import base64
import json
from os import PathLike
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from plotly.io.base_renderers import MimetypeRenderer

from radarbook.figures import static
from radarbook.files import write_bytes

PLOTLY_MIME = "application/vnd.plotly.v1+json"
#: Entries of a figure's ``layout.meta``: its alternative text and its name.
ALT = "alt"
NAME = "name"


def mime_bundle(figure: go.Figure) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of the notebook output of a figure; the PNG as base64 text."""
    spec = json.loads(figure.to_json())
    width = int(figure.layout.width or figure.layout.template.layout.width or 700)
    data = {PLOTLY_MIME: spec, "image/png": base64.b64encode(static.png(spec)).decode()}
    return data, {"image/png": {"width": width}}


def show(figure: go.Figure, *, alt: str = "", caption: str = "", name: str = "") -> None:
    """Display a figure in the running notebook, interactive and static.

    ``alt`` says in words what is seen, for readers who do not see it: the book gives it to the
    picture and to the interactive figure. ``caption`` (Markdown) stands below the figure. With a
    ``name`` the book numbers the figure, and text refers to it by ``{numref}`name```.
    """
    from IPython.display import Markdown, display

    data, metadata = mime_bundle(figure)
    words = {key: value for key, value in ((ALT, alt), (NAME, name)) if value}
    if words:
        layout = data[PLOTLY_MIME]["layout"]
        layout["meta"] = {**layout.get("meta", {}), **words}
    if alt:
        metadata["image/png"]["alt"] = alt
    display(data, raw=True, metadata=metadata)
    if caption:
        display(Markdown(f"*{caption}*"))


def save_png(figure: go.Figure, path: str | PathLike[str], *, scale: float = 2.0) -> None:
    """Write a figure as a PNG file, atomically."""
    write_bytes(path, static.png(figure, scale=scale))


class BothRenderer(MimetypeRenderer):
    """plotly's hook for figures that end a cell: the same two representations as :func:`show`."""

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, Any]:
        return mime_bundle(go.Figure(fig_dict, skip_invalid=True))[0]


def use() -> None:
    """Make a bare figure at the end of a notebook cell appear as :func:`show` would."""
    pio.renderers["radarbook"] = BothRenderer()
    pio.renderers.default = "radarbook"
