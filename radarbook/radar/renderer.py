"""The protocol that runs through the project: parameters in, radar image out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from radarbook.faces.parameters import FaceParameters
from radarbook.radar.image import RadarImage


@runtime_checkable
class Renderer(Protocol):
    """Anything that turns face parameters into radar images.

    ``render`` is batched and differentiable with respect to every field of the parameters, runs
    on the parameters' device, and clips each image at its own ``dynamic_range_db``. Data
    generation, autoencoder, test-time optimization and figures accept any renderer.
    """

    def render(self, parameters: FaceParameters) -> RadarImage:
        """Radar images (B, H, W) of B faces."""
        ...
