"""What a network sees of a radar image: channels of about unit size."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.image import RadarImage

Inputs = Literal["amplitude", "depth", "both"]

#: A face reaches from its nose tip (at the scene's distance) some 12 cm back: depths are measured
#: from the middle of that, in units of its half.
FACE_MIDDLE = 0.06
DEPTH_SCALE = 0.06


def check_inputs(inputs: str) -> None:
    """Raise :class:`InputError` unless ``inputs`` is amplitude, depth or both."""
    if inputs not in get_args(Inputs):
        raise InputError(f"inputs: expected amplitude, depth or both, found '{inputs}'")


def unit_amplitude(image: RadarImage) -> Tensor:
    """(B, H, W): 0 at the image's dynamic range, 1 at its maximum; differentiable."""
    return 1 - image.amplitude_db / image.dynamic_range_db[:, None, None]


def image_channels(
    image: RadarImage, inputs: str = "both", *, distance: float = 0.30, paper: bool = False
) -> Tensor:
    """Channels (B, C, H, W) of a radar image, in its dtype and on its device.

    amplitude
        Scaled to [0, 1] by the image's own dynamic range.
    depth
        About the middle of a face at ``distance`` (metres), in units of 6 cm, zero outside the
        mask; and the same about the mean of the image's own mask, four times larger: the face's
        relief without its translation.
    mask
        1 where the amplitude is above the dynamic range.

    ``amplitude`` gives [amplitude, mask], ``depth`` [depth, relief, mask], ``both`` [amplitude,
    depth, relief, mask]. With ``paper`` only the paper's own one or two images are given.
    Differentiable with respect to amplitude and depth.
    """
    check_inputs(inputs)
    valid = image.mask.to(image.depth.dtype)
    channels: list[Tensor] = []
    if inputs != "depth":
        channels.append(unit_amplitude(image))
    if inputs != "amplitude":
        depth = (image.depth - distance - FACE_MIDDLE) / DEPTH_SCALE * valid
        channels.append(depth)
        if not paper:
            count = valid.sum(dim=(1, 2), keepdim=True).clamp(min=1)
            mean = depth.sum(dim=(1, 2), keepdim=True) / count
            channels.append(4 * (depth - mean) * valid)
    if not paper:
        channels.append(valid)
    return torch.stack(channels, dim=1)


def channel_count(inputs: str, *, paper: bool = False) -> int:
    """How many channels :func:`image_channels` gives."""
    check_inputs(inputs)
    if paper:
        return 2 if inputs == "both" else 1
    return {"amplitude": 2, "depth": 3, "both": 4}[inputs]
