"""A face that is not one: a dome of a thousand facets with three modes, quick to simulate."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.radar.array import Array, qar50
from radarbook.radar.image import RadarImage
from radarbook.radar.imaging import Grid
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import qar50_waveform


def dome(count: int = 22) -> MorphableModel:
    """A 60 mm wide dome; its shape modes raise and tilt the top, its expression dents a side."""
    side = torch.linspace(-30, 30, count)
    y, x = torch.meshgrid(side, side, indexing="ij")
    x, y = x.flatten(), y.flatten()
    mean = torch.stack([x, y, -(x**2 + y**2) / 90], dim=1)
    zero = torch.zeros_like(x)

    def along_z(height: Tensor) -> Tensor:
        return torch.stack([zero, zero, height], dim=1)

    bump = torch.exp(-(x**2 + y**2) / 400)
    shape = torch.stack([along_z(1.5 * bump), along_z(2.0 * bump * x / 20)])
    dent = torch.exp(-((x - 12) ** 2 + (y + 10) ** 2) / 200)
    corner = torch.arange(count - 1)[:, None] * count + torch.arange(count - 1)
    a = corner.flatten()
    b, c, d = a + 1, a + count, a + count + 1
    triangles = torch.cat([torch.stack([a, b, d], 1), torch.stack([a, d, c], 1)])
    return MorphableModel(
        "dome", mean, torch.zeros_like(mean), shape, -1.5 * along_z(dent)[None], triangles
    )


def trough(count: int = 22) -> MorphableModel:
    """The dome's plan and modes on two walls at a right angle, open towards the array: what one
    wall mirrors to the other goes back where it came from."""
    model = dome(count)
    mean = model.shape_mean.clone()
    # A little blunt, so that no facet stands on its edge.
    mean[:, 2] = (mean[:, 0].square() + 4).sqrt() - 30
    return replace(model, name="trough", shape_mean=mean)


def renderer(
    steps: int = 24,
    layer: Layer | None = None,
    model: MorphableModel | None = None,
    bounces: int = 1,
) -> PhysicalRenderer:
    return PhysicalRenderer(
        model or dome(),
        layer=layer,
        bounces=bounces,
        array=qar50(),
        waveform=qar50_waveform(steps),
        grid=Grid.regular(0.1, 16, 0.27, 0.35, 9),
    )


def face(
    shape: tuple[float, float] = (0.0, 0.0),
    expression: float = 0.0,
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0),
    material: float = 0.1,
) -> FaceParameters:
    p = FaceParameters.neutral(n_shape=2, n_expression=1, dtype=torch.float64)
    rendering = p.rendering.clone()
    rendering[:, 1] = material
    return p.replace(
        shape=torch.tensor([shape], dtype=torch.float64),
        expression=torch.tensor([[expression]], dtype=torch.float64),
        translation=torch.tensor([translation], dtype=torch.float64),
        rendering=rendering,
    )


def aside(degrees: float) -> Array:
    """The QAR50 on a circle about a face at 0.3 m, turned towards it."""
    a = math.radians(degrees)
    turn = torch.tensor(
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]],
        dtype=torch.float64,
    )
    centre = torch.tensor([0.0, 0.0, 0.3], dtype=torch.float64)
    return qar50().moved(turn, centre - turn @ centre)


class Blob:
    """A renderer in closed form: a Gaussian spot where the face is, as deep as it is."""

    def __init__(self) -> None:
        self.axis = torch.linspace(-0.1, 0.1, 16)

    def render(self, parameters: FaceParameters) -> RadarImage:
        x, y, z = (parameters.translation[:, i, None, None] for i in range(3))
        width = 0.04 * (1 + 0.1 * parameters.shape[:, 0, None, None])
        axis = self.axis.to(x)
        r2 = (axis - x).square() + (axis[:, None] - y).square()
        level = parameters.dynamic_range_db[:, None, None]
        amplitude = -10 * r2 / width.square()
        depth = (0.3 + z).expand_as(amplitude)
        return RadarImage(
            torch.maximum(amplitude, level),
            depth,
            amplitude.detach() > level,
            axis,
            axis,
            parameters.dynamic_range_db,
        )
