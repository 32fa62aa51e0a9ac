"""Errors of rendered radar images against physical ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from radarbook.faces.parameters import FaceParameters
from radarbook.networks.renderer import LearnedRenderer
from radarbook.radar.image import RadarImage
from radarbook.training.augmentation import with_dynamic_range
from radarbook.training.data import Samples, resident
from radarbook.training.losses import amplitude_error, depth_error, image_loss
from radarbook.training.tasks import EVALUATION_DB


def rendering_errors(amplitude_db: Tensor, depth: Tensor, target: RadarImage) -> dict[str, float]:
    """Errors of unclipped rendered images (B, H, W) of ``target``.

    ``image_loss``; ``amplitude_db``, root mean square over all pixels, clipped where both are
    below the dynamic range; ``correlation`` of the clipped amplitudes, mean over images;
    ``depth_mm``, median over the target's valid pixels.
    """
    level = target.dynamic_range_db[:, None, None]
    clipped = torch.maximum(amplitude_db, level).flatten(1)
    pairs = zip(clipped, target.amplitude_db.flatten(1), strict=True)
    correlation = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])
    return {
        "image_loss": float(image_loss(amplitude_db, depth, target)),
        "amplitude_db": float(amplitude_error(amplitude_db, target).square().mean().sqrt()),
        "correlation": float(correlation.nanmean()),
        "depth_mm": 1e3 * float(depth_error(depth, target)[target.mask].abs().median()),
    }


def evaluate_renderer(
    renderer: LearnedRenderer, samples: Samples, *, dynamic_range_db: float = EVALUATION_DB
) -> dict[str, float]:
    """:func:`rendering_errors` of a learned renderer on all samples, and ``ms`` per image when
    faces are rendered one at a time."""
    data = resident(samples)
    truth, target = with_dynamic_range(data.parameters, data.image, dynamic_range_db)
    with torch.no_grad():
        rendered = [renderer(vector) for vector in truth.normalised().split(64)]
    amplitude_db, depth = (torch.cat(part) for part in zip(*rendered, strict=True))
    seconds = seconds_per_image(renderer.render, truth[0])
    return rendering_errors(amplitude_db, depth, target) | {"ms": 1e3 * seconds}


def seconds_per_image(
    render: Callable[[FaceParameters], Any], parameters: FaceParameters, repeats: int = 5
) -> float:
    """Mean time of a call that renders images or signals, per image, without gradients and a first
    call.

    Examples
    --------
    >>> import radarbook as rb
    >>> seconds_per_image(lambda face: None, rb.FaceParameters.neutral(4)) < 0.1
    True
    """
    with torch.no_grad():
        render(parameters)
        began = time.perf_counter()
        for _ in range(repeats):
            render(parameters)
    return (time.perf_counter() - began) / repeats / len(parameters)
