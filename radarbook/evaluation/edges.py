"""Size of a hole in a panel, from a complex image of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radarbook.errors import InputError

#: Of the half width of an image that is centred on the hole: what is certainly in it, and a ring
#: about it that is certainly panel.
_INSIDE, _AROUND = 0.2, (0.69, 0.97)


def hole_side(plane: Tensor, pixel: float) -> float:
    """Side, m, of a square hole in a panel: the root of the area up to half amplitude at its edges.

    An image is the reflectivity under the aperture's point-spread function, complex values under a
    symmetric one. Over a straight edge such an image passes through the middle between both sides'
    values exactly at the edge, however wide the function is. So the hole is where the image, over
    that of a smooth panel, has gone half of the way from the panel's value, 1, to the value in the
    hole's middle. The smooth panel is a cubic polynomial fitted to a ring around the hole.

    Parameters
    ----------
    plane : Tensor (N, N), complex
        In the panel's plane, centred on the hole, which is 0.25 to 0.65 of its width.
    pixel : float
        m.

    Raises :class:`~radarbook.errors.InputError` for a plane that is not square.

    Examples
    --------
    >>> u = (torch.arange(80) - 39.5).abs()
    >>> panel = 1 - ((u < 20) & (u[:, None] < 20)).to(torch.complex64)
    >>> round(hole_side(panel, 2e-3), 3)
    0.08
    """
    if plane.ndim != 2 or plane.shape[0] != plane.shape[1]:
        raise InputError(f"plane: expected (N, N), found {tuple(plane.shape)}")
    count = len(plane)
    u = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) / (count / 2)
    ring = torch.maximum(u.abs()[:, None], u.abs())
    around = (ring > _AROUND[0]) & (ring < _AROUND[1])
    powers = [(a, b) for a in range(4) for b in range(4 - a)]
    terms = torch.stack([u[:, None] ** b * u**a for a, b in powers], -1).to(torch.complex128)
    values = plane.detach().cpu().to(torch.complex128)
    smooth = torch.linalg.lstsq(terms[around], values[around][:, None]).solution[:, 0]
    departure = 1 - values / (terms @ smooth)
    middle = departure[ring < _INSIDE].mean()
    inside = (departure * middle.conj()).real > 0.5 * middle.abs().square()
    return math.sqrt(float((inside & (ring < _AROUND[0])).sum())) * pixel
