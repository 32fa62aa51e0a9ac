"""Polarisation of antennas and what a reflection makes of it (book, :ref:`physics`, section 2).

A path carries its field as a Jones vector: three components, across its direction. Each reflection
splits it into the part perpendicular to the plane of incidence and the part in it, which have
Fresnel's two coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.scattering import fresnel_pair

Vector = tuple[float, float, float]
#: Below this squared sine between two directions there is no plane of incidence.
_PARALLEL = 1e-20


@dataclass(frozen=True)
class Polarisation:
    """Directions of the electric field on the antennas' axis.

    Parameters
    ----------
    tx, rx : (x, y, z)
        Of transmitters and receivers, in the array's frame; any length, not along z. Default:
        vertical, y. A receiver takes the part of the field along its own direction.

    Raises :class:`~radarbook.errors.InputError` for a vector that is zero, not finite or along z.

    Examples
    --------
    >>> Polarisation().tx
    (0.0, 1.0, 0.0)
    >>> [round(v, 3) for v in Polarisation.linear(45).rx]
    [0.707, 0.707, 0.0]
    """

    tx: Vector = (0.0, 1.0, 0.0)
    rx: Vector = (0.0, 1.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("tx", "rx"):
            value = getattr(self, name)
            if len(value) != 3 or not all(math.isfinite(v) for v in value):
                raise InputError(f"polarisation {name}: expected 3 finite numbers, found {value}")
            if math.hypot(value[0], value[1]) < 1e-6 * max(abs(value[2]), 1e-300):
                raise InputError(
                    f"polarisation {name}: expected a direction across z, found {value}"
                )

    @classmethod
    def named(cls, name: str) -> Polarisation:
        """``"vertical"`` or ``"horizontal"``, of transmitters and receivers."""
        vectors = {"vertical": (0.0, 1.0, 0.0), "horizontal": (1.0, 0.0, 0.0)}
        if name not in vectors:
            raise InputError(f"polarisation: expected {' or '.join(vectors)}, found {name!r}")
        return cls(vectors[name], vectors[name])

    @classmethod
    def linear(cls, tx: float, rx: float | None = None) -> Polarisation:
        """Linear, at angles from x towards y in degrees: 0 horizontal, 90 vertical. ``rx`` None:
        the transmitters'."""
        one, two = (
            (math.cos(math.radians(a)), math.sin(math.radians(a)), 0.0)
            for a in (tx, tx if rx is None else rx)
        )
        return cls(one, two)


def across(vector: Vector, direction: Tensor) -> Tensor:
    """(..., 3) unit: the field of an antenna polarised along ``vector`` in ``direction`` (..., 3),
    unit, from it. Differentiable."""
    along = direction.new_tensor(vector)
    part = along - (direction * along).sum(-1, keepdim=True) * direction
    return torch.nn.functional.normalize(part, dim=-1)


def reflect(
    field: Tensor, incoming: Tensor, outgoing: Tensor, permittivity: complex | None
) -> Tensor:
    """The field after a reflection from one direction into another.

    Parameters
    ----------
    field : Tensor (..., 3)
        Complex, across ``incoming``.
    incoming, outgoing : Tensor (..., 3)
        Unit, as the wave travels. The surface is taken as the mirror between them: its normal
        halves their angle, so that the reflection is reciprocal in every direction.
    permittivity : complex or None
        Of the reflecting half-space; None is a perfect conductor.

    Returns (..., 3) complex, across ``outgoing``; 0 where both directions are parallel.
    Differentiable.

    Examples
    --------
    A perfect conductor at 45° turns the field that lies in the plane of incidence.

    >>> along_z, along_x = torch.eye(3, dtype=torch.float64)[[2, 0]]
    >>> field = torch.tensor([1.0, 0.0, 0.0], dtype=torch.complex128)
    >>> reflect(field, along_z, along_x, None).real.add(0.0).tolist()
    [0.0, 0.0, -1.0]
    """
    cosine = ((1 - (incoming * outgoing).sum(-1)) / 2).clamp(min=1e-12).sqrt()
    te, tm = fresnel_pair(cosine, permittivity)
    cross = torch.linalg.cross(incoming, outgoing, dim=-1)
    square = cross.square().sum(-1, keepdim=True)
    plane = square > _PARALLEL
    side = torch.where(plane, cross, 0) / torch.where(plane, square, 1).sqrt()
    before, after = (torch.linalg.cross(s, side, dim=-1) for s in (incoming, outgoing))
    perpendicular = (field * side).sum(-1, keepdim=True)
    parallel = (field * before).sum(-1, keepdim=True)
    return te[..., None] * perpendicular * side - tm[..., None] * parallel * after


def mirrored(
    field: Tensor, incoming: Tensor, normal: Tensor, permittivity: complex | None
) -> Tensor:
    """The field after a reflection into the mirror image of its direction.

    Parameters
    ----------
    field : Tensor (..., 3)
        Real or complex, across ``incoming``.
    incoming : Tensor (..., 3)
        Unit, as the wave travels.
    normal : Tensor (..., 3)
        Unit, of the surface, against ``incoming``.
    permittivity : complex or None
        As :func:`reflect`'s, which gives the same for both directions.

    Returns (..., 3) complex, across the mirror image. Differentiable.

    Examples
    --------
    >>> along_z, along_y = torch.eye(3, dtype=torch.float64)[[2, 1]]
    >>> wall = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    >>> mirrored(along_y, along_z, wall, None).real.tolist()
    [0.0, -1.0, 0.0]
    """
    # Both parts of reflect's sum written with the normal: no plane of incidence is needed, and at
    # normal incidence, where TE and TM agree, nothing is divided by zero.
    cosine = -(incoming * normal).sum(-1, keepdim=True)
    te, tm = fresnel_pair(cosine.clamp(0, 1), permittivity)
    apart = (te - tm) / (1 - cosine.square()).clamp(min=1e-8)
    upward = (field * normal).sum(-1, keepdim=True)
    return te * field - (upward * apart * cosine) * incoming - (upward * (apart + 2 * tm)) * normal
