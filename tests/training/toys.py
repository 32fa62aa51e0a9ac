"""Toy samples for tests of training: a blob that the parameters move, brighten and tilt."""

from __future__ import annotations

import torch

from radarbook.faces.parameters import RANGES, FaceParameters
from radarbook.radar.image import RadarImage
from radarbook.training.data import ResidentSamples


def toy_parameters(count: int, seed: int, n_shape: int = 3, n_expression: int = 2):
    """Random faces: standard normal coefficients, pose and rendering uniform in their ranges."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name in ("translation", "rotation", "rendering"):
        low, high = torch.tensor(RANGES[name]).unbind(1)
        parts.append(low + (high - low) * torch.rand(count, 3, generator=generator))
    shape = torch.randn(count, n_shape, generator=generator)
    expression = torch.randn(count, n_expression, generator=generator)
    return FaceParameters(shape, expression, *parts)


def toy_image(parameters: FaceParameters, pixels: int) -> RadarImage:
    """A Gaussian blob at the translation; width by shape 0, slope of its depth by expression 0."""
    step = 0.30 / pixels
    x = (torch.arange(pixels) - (pixels - 1) / 2) * step
    dx = x - parameters.translation[:, 0, None, None]
    dy = x[:, None] - parameters.translation[:, 1, None, None]
    width = (0.04 * torch.exp(0.15 * parameters.shape[:, 0]))[:, None, None]
    amplitude_db = -8.69 * (dx**2 + dy**2) / (2 * width**2)
    amplitude_db = (amplitude_db - amplitude_db.amax(dim=(1, 2), keepdim=True)).clamp(min=-60)
    depth = 0.36 + parameters.translation[:, 2, None, None]
    depth = depth + 0.3 * parameters.expression[:, 0, None, None] * dx + 0 * dy
    floor = torch.full((len(parameters),), -60.0)
    return RadarImage(amplitude_db, depth, amplitude_db > -60, x, x.clone(), floor)


def toy_samples(count: int, pixels: int = 32, seed: int = 0, fingerprint: str = "toy"):
    """``count`` blobs held in memory."""
    parameters = toy_parameters(count, seed)
    return ResidentSamples(parameters, toy_image(parameters, pixels), fingerprint)
