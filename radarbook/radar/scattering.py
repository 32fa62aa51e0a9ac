"""How a facet, flat or bent, scatters: physical optics (book, :ref:`physics`, section 2).

Everything here is differentiable with respect to every tensor that comes in, works in the dtype
of its input, and is per facet: how facets meet antennas is :mod:`radarbook.radar.simulate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.radar.speckle import CELL

#: Relative permittivity of human skin near 77 GHz (Gabriel 1996), time factor e^{+jωt}.
SKIN_PERMITTIVITY = 6.6 - 8.9j


@dataclass(frozen=True)
class Facets:
    """N triangles: corners (N, 3, 3) m, centre (N, 3) m, unit normal (N, 3), area (N,) m².

    Of a bent facet ``parts`` (N, S, 3, 3) are the corners of S flat parts, and ``share`` (N, S)
    their shares of the area; None: the triangle is flat.
    """

    corners: Tensor
    centre: Tensor
    normal: Tensor
    area: Tensor
    parts: Tensor | None = None
    share: Tensor | None = None

    @classmethod
    def bent(cls, corners: Tensor, middle: Tensor) -> Facets:
        """Of corners (N, 3, 3) and the middles (N, 3, 3) of the bent edges 01, 12 and 20: four flat
        parts. The normal is the mean one, the centre that of the quadratic patch, and the parts are
        moved together so that it is theirs, too: the patch's mean bulge over each of them is the
        same, a twelfth of the sum of its edges' bulges."""
        a, b, c = corners.unbind(1)
        ab, bc, ca = middle.unbind(1)
        centre = (ab + bc + ca) / 3
        missing = (centre - (a + b + c) / 3) / 4
        parts = torch.stack([a, ab, ca, ab, b, bc, ca, bc, c, bc, ca, ab], 1).unflatten(1, (4, 3))
        parts = parts + missing[:, None, None]
        one, two, three = parts.unbind(2)
        cross = torch.linalg.cross(two - one, three - one, dim=-1)
        floor = torch.finfo(cross.dtype).tiny
        twice = cross.square().sum(-1).clamp(min=floor).sqrt()
        total, whole = twice.sum(1), cross.sum(1)
        normal = whole / whole.square().sum(1, keepdim=True).clamp(min=floor).sqrt()
        return cls(corners, centre, normal, total / 2, parts, twice / total[:, None])

    def __len__(self) -> int:
        return len(self.area)

    def __getitem__(self, index: Tensor) -> Facets:
        parts, share = (None if v is None else v[index] for v in (self.parts, self.share))
        return Facets(
            self.corners[index],
            self.centre[index],
            self.normal[index],
            self.area[index],
            parts,
            share,
        )

    def about_centre(self, dtype: torch.dtype) -> Facets:
        """The same seen from their own centres, in a real precision: numbers so small that single
        precision is enough."""
        parts = self.parts
        return Facets(
            (self.corners - self.centre[:, None]).to(dtype),
            torch.zeros_like(self.centre, dtype=dtype),
            self.normal.to(dtype),
            self.area.to(dtype),
            None if parts is None else (parts - self.centre[:, None, None]).to(dtype),
            None if self.share is None else self.share.to(dtype),
        )


def facets(vertices: Tensor, triangles: Tensor) -> Facets:
    """The facets of a mesh: vertices (N, 3) m, triangles (F, 3). A zero-area facet scatters 0."""
    corners = vertices[triangles]
    a, b, c = corners.unbind(1)
    cross = torch.linalg.cross(b - a, c - a, dim=1)
    # The floor keeps a degenerate facet's normal, and its gradient, finite.
    twice = cross.square().sum(1).clamp(min=torch.finfo(cross.dtype).tiny).sqrt()
    return Facets(corners, middles(corners), cross / twice[:, None], twice / 2)


def middles(corners: Tensor) -> Tensor:
    """(N, 3) of triangles (N, 3, 3). ``mean`` over so few takes three times as long."""
    a, b, c = corners.unbind(1)
    return (a + b + c) / 3


def facet_response(
    f: Facets,
    toward: Tensor,
    wavenumbers: Tensor,
    material: Tensor,
    permittivity: complex | None,
    diffuse_phase: Tensor | None,
) -> Tensor:
    """(k, N) complex scattering length of each facet, metres, without obliquity: Eq. (P2.3).

    Coherent part (jk/2π) Γ A times the mean over the facet, or over the flat parts of a bent one,
    of its own two-way phase; diffuse part
    |Γ| √(A/π) with the phases ``diffuse_phase`` (N,), or none; below the area of a speckle cell
    (:mod:`radarbook.radar.speckle`) in proportion to A. ``toward`` (N, 3) is the mean of
    the unit vectors to transmitter and receiver, which stands for all antennas. ``material`` is
    the diffuse fraction m of the amplitude: 1 - m² of the power stays coherent.
    """
    gamma = fresnel((toward * f.normal).sum(-1), permittivity)
    # Two-way path of a corner beyond the centre's.
    if f.parts is None or f.share is None:
        slope = -2 * ((f.corners - f.centre[:, None]) @ toward[:, :, None])[..., 0]
        aperture = phase_integral(wavenumbers[:, None, None] * slope)
    else:
        offset = f.parts - f.centre[:, None, None]
        slope = -2 * (offset * toward[:, None, None]).sum(-1)
        each = phase_integral(wavenumbers[:, None, None, None] * slope)
        aperture = (f.share * each).sum(-1)
    coherent = (1j / (2 * math.pi)) * wavenumbers[:, None] * (gamma * f.area) * aperture
    # The floor keeps the gradient finite at a perfectly rough surface.
    smooth = (1 - material.square()).clamp(min=1e-12).sqrt()
    if diffuse_phase is None:
        return smooth * coherent
    # Smaller facets share the phase of a cell, and their amplitudes add up.
    single = (f.area / CELL**2).clamp(max=1).sqrt()
    diffuse = wave(gamma.abs() * (f.area / math.pi).sqrt() * single, diffuse_phase)
    return smooth * coherent + material * diffuse


def phase_integral(phases: Tensor) -> Tensor:
    """Mean of e^{-jφ} over a triangle whose corner phases φ are given: Eq. (P2.4) of the book.

    ``phases`` (..., 3) radians, φ linear over the triangle; returns (...) complex. It is twice the
    second divided difference of exp at -jφ (Hermite-Genocchi). Closed form where the corner
    phases differ, its Taylor series about the mean phase where they nearly agree, so value and
    gradient are exact to rounding everywhere.

    Examples
    --------
    >>> float(phase_integral(torch.zeros(3)).abs())  # equal phases add up
    1.0
    """
    a, b, c = phases.unbind(-1)
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    # In order, without a sort: their sum is zero.
    low, high = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    middle = -(low + high)
    spread = high - low
    small = spread < 2.0
    # Closed form, its denominator kept from zero where the series is taken instead.
    safe = torch.where(small, torch.ones_like(spread), spread)
    first, second = _edge_mean(low, middle), _edge_mean(middle, high)
    closed = torch.complex(
        2 * (first.imag - second.imag) / safe, -2 * (first.real - second.real) / safe
    )
    # Series 2 Σ (-j)^n h_n / (n + 2)!, h_n the complete symmetric polynomials of phases whose sum
    # is zero; 16 terms leave 1e-13 at a spread of 2.
    zero = torch.zeros_like(low)
    clip = [torch.where(small, value, zero) for value in (low, middle, high)]
    e2 = clip[0] * clip[1] + clip[1] * clip[2] + clip[2] * clip[0]
    e3 = clip[0] * clip[1] * clip[2]
    h = [torch.ones_like(low), zero, -e2]
    for _ in range(3, 16):
        h.append(-e2 * h[-2] + e3 * h[-3])
    even = sum(h[n] * (2 * (-1) ** (n // 2) / math.factorial(n + 2)) for n in range(0, 16, 2))
    odd = sum(h[n] * (-2 * (-1) ** (n // 2) / math.factorial(n + 2)) for n in range(1, 16, 2))
    value = torch.where(small, torch.complex(even + zero, odd + zero), closed)
    return value * wave(torch.ones_like(low), -mean)


def _edge_mean(a: Tensor, b: Tensor) -> Tensor:
    """Mean of e^{-jφ} along an edge whose end phases are a and b."""
    return wave(torch.sinc((a - b) / (2 * math.pi)), -(a + b) / 2)


def wave(amplitude: Tensor, phase: Tensor) -> Tensor:
    """amplitude · e^{j·phase}. The gradient of ``torch.polar`` is wrong for negative amplitudes."""
    return torch.complex(amplitude * phase.cos(), amplitude * phase.sin())


def fresnel(cosine: Tensor, permittivity: complex | None) -> Tensor:
    """Reflection coefficient of a half-space, the mean of both polarisations: Eq. (P2.5).

    Parameters and dtype as :func:`fresnel_pair`'s.

    Examples
    --------
    >>> round(float(fresnel(torch.tensor(1.0), 4.0).real), 3)  # (1 - 2) / (1 + 2)
    -0.333
    """
    te, tm = fresnel_pair(cosine, permittivity)
    return (te + tm) / 2


def fresnel_pair(cosine: Tensor, permittivity: complex | None) -> tuple[Tensor, Tensor]:
    """Reflection coefficients of a half-space, field across and in the plane of incidence.

    ``cosine`` of the angle of incidence, any shape; ``None`` is a perfect conductor (-1). Both
    polarisations are signed to agree at normal incidence. Complex of the matching precision;
    differentiable.

    Examples
    --------
    >>> te, tm = fresnel_pair(torch.tensor(0.5), 4.0)
    >>> round(float(te.real), 3), round(float(tm.real), 3)
    (-0.566, -0.052)
    """
    if permittivity is None:
        whole = torch.complex(-torch.ones_like(cosine), torch.zeros_like(cosine))
        return whole, whole
    refracted = torch.sqrt(permittivity - (1 - cosine.square()) + 0j)
    te = (cosine - refracted) / (cosine + refracted)
    tm = (refracted - permittivity * cosine) / (refracted + permittivity * cosine)
    return te, tm


def element_pattern(direction: Tensor, size: Tensor | float, wavelength: float) -> Tensor:
    """Field pattern of a uniformly lit square aperture that looks along +z: Eq. (P2.6).

    ``direction`` (..., 3) from the antenna, unit; ``size`` the aperture's side, m. 1 on the axis,
    isotropic for size 0.

    Examples
    --------
    >>> ahead = torch.tensor([0.0, 0.0, 1.0])
    >>> float(element_pattern(ahead, 2e-3, 3.9e-3))
    1.0
    """
    return aperture_pattern(direction[..., 0], direction[..., 1], size / wavelength)


def aperture_pattern(x: Tensor, y: Tensor, size: Tensor | float) -> Tensor:
    """Eq. (P2.6) from a direction's components ``x`` and ``y`` and the side in wavelengths."""
    return torch.sinc(x * size) * torch.sinc(y * size)
