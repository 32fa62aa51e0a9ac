"""What a network sees of a radar image: channels of about unit size."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.profiles import Inputs
from radarbook.radar.image import RadarImage

#: A face reaches from its nose tip (at the scene's distance) some 12 cm back: depths are measured
#: from the middle of that, in units of its half.
FACE_MIDDLE = 0.06
DEPTH_UNIT = 0.06


def check_inputs(inputs: str) -> None:
    """Raise :class:`InputError` unless ``inputs`` is amplitude, depth or both."""
    if inputs not in get_args(Inputs):
        raise InputError(f"inputs: expected amplitude, depth or both, found '{inputs}'")


def unit_amplitude(image: RadarImage) -> Tensor:
    """(B, H, W): 0 at the image's dynamic range, 1 at its maximum; differentiable."""
    return 1 - image.amplitude_db / image.dynamic_range_db[:, None, None]


def image_channels(
    image: RadarImage,
    inputs: str = "both",
    *,
    distance: float = 0.30,
    paper: bool = False,
    window: int | None = None,
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
    x, y
        Where the mask's centre is, in half image sides, the same in every pixel: the other
        channels are moved by whole pixels so that this centre is in the middle.

    ``amplitude`` gives [amplitude, mask, x, y], ``depth`` [depth, relief, mask, x, y], ``both``
    [amplitude, depth, relief, mask, x, y]. A face anywhere in the image then looks alike, and
    where it was is not lost. Of the moved channels only the middle ``window`` × ``window`` pixels
    are given (None: all): a face fills no more of the image than that. With ``paper`` only the
    paper's own one or two images are given, as they are. Differentiable with respect to amplitude
    and depth.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> image = Pipeline("smoke").physical.render(face)
    >>> image_channels(image, "both").shape[1]
    6
    """
    check_inputs(inputs)
    valid = image.mask.to(image.depth.dtype)
    channels: list[Tensor] = []
    if inputs != "depth":
        channels.append(unit_amplitude(image))
    if inputs != "amplitude":
        depth = (image.depth - distance - FACE_MIDDLE) / DEPTH_UNIT * valid
        channels.append(depth)
        if not paper:
            count = valid.sum(dim=(1, 2), keepdim=True).clamp(min=1)
            mean = depth.sum(dim=(1, 2), keepdim=True) / count
            channels.append(4 * (depth - mean) * valid)
    if paper:
        return torch.stack(channels, dim=1)
    height, width = valid.shape[1:]
    size = (height, width) if window is None else (min(window, height), min(window, width))
    return _centred(torch.stack([*channels, valid], dim=1), valid, size)


def _centred(channels: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle ``size`` pixels of channels moved by whole pixels to the centre of ``valid``
    (B, H, W), and where that was."""
    height, width = valid.shape[1:]
    count = valid.sum(dim=(1, 2)).clamp(min=1)
    places, steps = [], []
    # sums over x give rows, over y columns
    for axis, whole, part in ((2, height, size[0]), (1, width, size[1])):
        coordinate = torch.arange(whole, device=valid.device) - (whole - 1) / 2
        off = ((valid.sum(dim=axis) * coordinate).sum(dim=1) / count).round()
        steps.append(off)
        first = off.long()[:, None] + (whole - part) // 2
        places.append(torch.arange(part, device=valid.device) + first)
    rows, columns = places
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    sample = torch.arange(len(channels), device=valid.device)[:, None, None]
    moved = channels.permute(0, 2, 3, 1)[
        sample, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ].permute(0, 3, 1, 2)
    centre = torch.stack([2 * steps[1] / width, 2 * steps[0] / height], dim=1).to(channels)
    planes = centre[:, :, None, None].expand(-1, -1, *size)
    return torch.cat([moved * inside[:, None], planes], dim=1)


def channel_names(inputs: str, *, paper: bool = False) -> tuple[str, ...]:
    """What the channels of :func:`image_channels` are, in their order.

    Examples
    --------
    >>> channel_names("amplitude")
    ('amplitude', 'mask', 'x', 'y')
    """
    check_inputs(inputs)
    amplitude = () if inputs == "depth" else ("amplitude",)
    if paper:
        return amplitude + (() if inputs == "amplitude" else ("depth",))
    depth = () if inputs == "amplitude" else ("depth", "relief")
    return (*amplitude, *depth, "mask", "x", "y")
