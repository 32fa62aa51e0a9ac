"""One leg of a path: its amplitude between an antenna and a facet (book, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from radarbook.radar.scattering import element_pattern

#: Cosine of incidence up to which a facet does not radiate: it is seen edge-on.
GRAZING = 1e-4


def leg_gain(
    cosine: Tensor, direction: Tensor, length: Tensor, size: Tensor, wavelength: float
) -> Tensor:
    """Amplitude of a leg: obliquity, element pattern and spreading, Eq. (3.2).

    The obliquity is √(cos_tx · cos_rx), one factor for each leg. At the specular point it equals
    the Kirchhoff mean of the cosines, and it is reciprocal.

    Parameters
    ----------
    cosine : Tensor
        Between the facet's normal and the leg, towards the antenna; negative behind the facet.
    direction : Tensor (..., 3)
        Unit vectors from the antenna, where its aperture has x and y as sides.
    length : Tensor
        Metres.
    size : Tensor
        Side of the antenna's square aperture, metres.
    wavelength : float
        Metres.

    Returns the gain in 1/m, 0 where ``cosine`` is not above :data:`GRAZING`. Differentiable with
    respect to every tensor.

    Examples
    --------
    >>> ahead = torch.tensor([0.0, 0.0, 1.0])
    >>> gain = leg_gain(torch.tensor(1.0), ahead, torch.tensor(0.5), torch.tensor(2e-3), 3.9e-3)
    >>> float(gain)
    2.0
    """
    lit = cosine > GRAZING
    # The inner choice keeps the square root's gradient finite where nothing is lit.
    obliquity = torch.where(lit, torch.where(lit, cosine, 1.0).sqrt(), 0.0)
    return obliquity * element_pattern(direction, size, wavelength) / length
