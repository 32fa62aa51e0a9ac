"""Losses on parameters and on images."""

from __future__ import annotations

import torch
from torch import Tensor

from radarbook.networks.channels import DEPTH_UNIT
from radarbook.radar.image import RadarImage

#: Amplitude errors are counted in units of this (dB): the middle of the dynamic ranges.
AMPLITUDE_SCALE = 20.0


def parameter_loss(predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error of normalised parameters (B, P): the paper's L2.

    ``weights`` (P,), if given, weighs the parameters; they are used as they are.
    """
    squared = (predicted - target).square()
    return (squared if weights is None else squared * weights).mean()


def amplitude_error(amplitude_db: Tensor, target: RadarImage) -> Tensor:
    """(B, H, W): unclipped amplitudes (dB) minus the target's, clipped where both are below.

    A clipped pixel of the target says only "below the dynamic range": a rendered value below it is
    right, one above is wrong by how much it is above. Where the target is above, the unclipped
    image is compared, so one that is too dark still has a gradient that brightens it.
    """
    level = target.dynamic_range_db[:, None, None]
    above = amplitude_db - target.amplitude_db
    return torch.where(target.mask, above, torch.relu(amplitude_db - level))


def depth_error(depth: Tensor, target: RadarImage) -> Tensor:
    """(B, H, W): depth minus the target's, metres, zero where the target has none."""
    return (depth - target.depth) * target.mask


def image_loss(
    amplitude_db: Tensor, depth: Tensor, target: RadarImage, inputs: str = "both"
) -> Tensor:
    """L2 image loss of an unclipped rendered image (B, H, W) against a target; a scalar.

    Amplitudes: mean square over all pixels, in units of 20 dB. Depths: mean square over the
    target's valid pixels, in units of 6 cm, times the share of pixels a face fills (a tenth), so
    that neither image outweighs the other. ``inputs`` says which images count.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> image = Pipeline("smoke").physical.render(face)
    >>> float(image_loss(image.amplitude_db, image.depth, image))
    0.0
    """
    total = amplitude_db.new_zeros(())
    if inputs != "depth":
        total = total + (amplitude_error(amplitude_db, target) / AMPLITUDE_SCALE).square().mean()
    if inputs != "amplitude":
        squared = (depth_error(depth, target) / DEPTH_UNIT).square()
        # clamped: an image without one valid pixel has no depth error.
        total = total + 0.1 * squared.sum() / target.mask.sum().clamp(min=1)
    return total
