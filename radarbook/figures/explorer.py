"""Explorers for a running notebook: ipywidgets sliders that move a face model.

They need a kernel. Published pages use :func:`radarbook.figures.faces_slider` instead, whose frames
are computed beforehand.
"""

from __future__ import annotations

from typing import Any

import ipywidgets
import plotly.graph_objects as go
import torch

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.figures.faces import face


def face_explorer(
    model: MorphableModel,
    *,
    shape: int | None = None,
    expression: int | None = None,
    bound: float = 3.0,
) -> ipywidgets.Widget:
    """Sliders for the first coefficients of a model next to its face, and a button to start over.

    ``shape`` and ``expression`` are how many coefficients get a slider (None: five, or as many as
    the model has), ``bound`` the slider's ends in standard deviations. The widget's ``sliders``
    (list) and ``figure`` can be driven from code as well.
    """
    shape = min(5, model.n_shape) if shape is None else shape
    expression = min(5, model.n_expression) if expression is None else expression
    for name, wanted, known in (
        ("shape", shape, model.n_shape),
        ("expression", expression, model.n_expression),
    ):
        if not 0 <= wanted <= known:
            raise InputError(f"{name}: expected 0 to {known} sliders, found {wanted}")
    figure = go.FigureWidget(face(model.mean, model.triangles, view="half-left"))
    figure.update_layout(width=520, height=480)
    sliders = [
        ipywidgets.FloatSlider(
            value=0.0,
            min=-bound,
            max=bound,
            step=0.1,
            description=f"{kind} {number + 1}",
            continuous_update=True,
            readout_format=".1f",
        )
        for kind, count in (("shape", shape), ("expression", expression))
        for number in range(count)
    ]

    def redraw(_: Any = None) -> None:
        values = torch.tensor([slider.value for slider in sliders], dtype=model.mean.dtype)
        coefficients = [
            torch.zeros(1, n, dtype=values.dtype) for n in (model.n_shape, model.n_expression)
        ]
        coefficients[0][0, :shape] = values[:shape]
        coefficients[1][0, :expression] = values[shape:]
        points = model.vertices(*coefficients)[0].detach().cpu().numpy()
        with figure.batch_update():
            for number, axis in enumerate("xyz"):
                figure.data[0][axis] = points[:, number].copy()

    def start_over(_: Any) -> None:
        for slider in sliders:
            slider.value = 0.0

    for slider in sliders:
        slider.observe(redraw, "value")
    button = ipywidgets.Button(description="mean face")
    button.on_click(start_over)
    box = ipywidgets.HBox([ipywidgets.VBox([*sliders, button]), figure])
    box.sliders, box.figure = sliders, figure
    return box
