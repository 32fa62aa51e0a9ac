"""Augmentation that respects the physics: image and label change together.

Every function takes parameters and their images and gives both back. Draws come from a CPU
generator (a named stream) and are then moved, so they are the same on every device.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from radarbook.faces.parameters import RANGES, FaceParameters
from radarbook.radar.image import RadarImage

Pair = tuple[FaceParameters, RadarImage]


def uniform(
    count: int, low: float, high: float, generator: torch.Generator, like: Tensor
) -> Tensor:
    """(count,) uniform draws in [low, high), moved to the device and dtype of ``like``."""
    return (low + (high - low) * torch.rand(count, generator=generator)).to(like)


def with_dynamic_range(
    parameters: FaceParameters, image: RadarImage, dynamic_range_db: float | Tensor
) -> Pair:
    """Image clipped at ``dynamic_range_db`` (scalar or (B,)), and the label that says so."""
    image = image.with_dynamic_range(dynamic_range_db)
    rendering = parameters.rendering.clone()
    rendering[:, 0] = image.dynamic_range_db.to(rendering)
    return parameters.replace(rendering=rendering), image


def random_dynamic_range(
    parameters: FaceParameters, image: RadarImage, generator: torch.Generator
) -> Pair:
    """Each image clipped at its own dynamic range, uniform over the physical range (the paper's
    −15 … −30 dB)."""
    low, high = RANGES["rendering"][0]
    drawn = uniform(len(image), low, high, generator, image.dynamic_range_db)
    return with_dynamic_range(parameters, image, drawn)


def random_depth_shift(
    parameters: FaceParameters, image: RadarImage, generator: torch.Generator, metres: float
) -> Pair:
    """All depths and the translation's z moved by the same distance, within ±``metres``.

    Approximate: a face that really moved would also turn its highlights a little. Over a
    centimetre at 30 cm that is under 2°.
    """
    shift = uniform(len(image), -metres, metres, generator, image.depth)
    translation = parameters.translation.clone()
    translation[:, 2] += shift
    moved = replace(image, depth=image.depth + shift[:, None, None])
    return parameters.replace(translation=translation), moved


def random_lateral_shift(
    parameters: FaceParameters, image: RadarImage, generator: torch.Generator, metres: float
) -> Pair:
    """Image and translation moved in x and y by the same sub-pixel distances, within ±``metres``.

    Approximate as :func:`random_depth_shift`.
    """
    like = image.amplitude_db
    shift = torch.stack(
        [uniform(len(image), -metres, metres, generator, like) for _ in range(2)], dim=1
    )
    translation = parameters.translation.clone()
    translation[:, :2] += shift
    return parameters.replace(translation=translation), shifted(image, shift)


def shifted(image: RadarImage, shift: Tensor) -> RadarImage:
    """The image with its content moved by ``shift`` (B, 2) metres in x and y.

    Amplitudes are interpolated linearly in dB. Depths are averaged with the neighbours' power
    as weight: across an edge the stronger side decides, as the maximum along depth does. What
    enters from outside the image is empty.
    """
    floor = image.dynamic_range_db[:, None, None]
    power = 10 ** (image.amplitude_db / 10)
    planes = torch.stack([image.amplitude_db - floor, power, power * image.depth], dim=1)
    half_x = (image.x[-1] - image.x[0]) / 2 * len(image.x) / (len(image.x) - 1)
    half_y = (image.y[-1] - image.y[0]) / 2 * len(image.y) / (len(image.y) - 1)
    offset = -shift / torch.stack([half_x, half_y])
    turn = torch.eye(2, dtype=shift.dtype, device=shift.device).expand(len(shift), 2, 2)
    theta = torch.cat([turn, offset[:, :, None]], dim=2)
    grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
    above, power, moment = F.grid_sample(
        planes, grid, padding_mode="zeros", align_corners=False
    ).unbind(1)
    inside = power > 0
    depth = torch.where(inside, moment / power.where(inside, power.new_ones(())), image.depth)
    return replace(image, amplitude_db=above + floor, depth=depth, mask=above > 0)


def random_noise(image: RadarImage, generator: torch.Generator, db: float) -> RadarImage:
    """Independent complex noise added to each pixel, its level drawn per image.

    The level lies uniformly between −50 dB and ``db`` below the maximum; the amplitude becomes
    that of signal plus circular complex Gaussian noise with a random phase between them. Depth
    is moved by what that phase error means in range for the weak pixels alone, which is below
    the depth grid here, so it stays.
    """
    like = image.amplitude_db
    level = uniform(len(image), -50.0, db, generator, like)[:, None, None]
    noise = torch.randn(2, *like.shape, generator=generator).to(like) / 2**0.5
    noise = noise * 10 ** (level / 20)
    signal = 10 ** (like / 20)
    amplitude = torch.hypot(signal + noise[0], noise[1])
    amplitude_db = 20 * torch.log10(amplitude.clamp(min=1e-6))
    amplitude_db = amplitude_db - amplitude_db.amax(dim=(1, 2), keepdim=True)
    floor = image.dynamic_range_db[:, None, None]
    return replace(
        image, amplitude_db=torch.maximum(amplitude_db, floor), mask=amplitude_db > floor
    )
