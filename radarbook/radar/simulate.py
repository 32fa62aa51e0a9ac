"""From a mesh to the raw signal of an array: physical optics, factorised (book, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.scattering import (
    SKIN_PERMITTIVITY,
    Facets,
    element_pattern,
    facets,
    fresnel,
    phase_integral,
    wave,
)
from radarbook.radar.waveform import Waveform
from radarbook.seeds import torch_stream


def simulate(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    material: Tensor | float = 0.0,
    antenna_size: Tensor | float = 2e-3,
    permittivity: complex | None = SKIN_PERMITTIVITY,
    seed: int = 0,
) -> Tensor:
    """Signal of a mesh: S[rx, tx, f] = Σ_facets a · e^{-jk(d_tx + d_rx)} / (d_tx d_rx), Eq. (3.1).

    Parameters
    ----------
    vertices : Tensor (N, 3) or (B, N, 3)
        Metres, radar frame. float32 gives complex64, float64 complex128; phases are reduced in
        float64 either way.
    triangles : Tensor (F, 3)
        Counter-clockwise seen from outside; a facet seen from behind does not radiate.
    array, waveform
        Antennas and frequency steps.
    material : Tensor (B,) or float
        0 smooth … 1 rough: the part of the reflected amplitude that is diffuse. Power is kept:
        1 - m² stays coherent, m² leaves by Lambert's law with a phase drawn per facet.
    antenna_size : Tensor (B,) or float
        Side of each antenna's square aperture, metres.
    permittivity : complex or None
        Relative permittivity (e^{+jωt}: negative imaginary part); None is a perfect conductor.
    seed : int
        Of the diffuse part's phases, which belong to the facets and do not move with them.

    Returns
    -------
    Tensor (rx, tx, f) or (B, rx, tx, f), complex
        In 1/m: |S|² d_tx² d_rx² 4π is the radar cross-section where antennas are isotropic.

    Differentiable with respect to vertices, material, antenna_size and the array's positions.
    Which facets radiate is decided by the geometry and not differentiated.
    Raises :class:`~radarbook.errors.InputError` for ill-shaped input.
    """
    if vertices.ndim not in (2, 3) or vertices.shape[-1] != 3:
        raise InputError(f"vertices: expected (N, 3) or (B, N, 3), found {tuple(vertices.shape)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(f"triangles: expected (F, 3), found {tuple(triangles.shape)}")
    batch = vertices if vertices.ndim == 3 else vertices[None]
    size, rough = (
        torch.as_tensor(value).to(batch).expand(len(batch)) for value in (antenna_size, material)
    )
    signals = torch.stack(
        [
            _simulate_one(v, triangles, array, waveform, m, a, permittivity, seed)
            for v, m, a in zip(batch, rough, size, strict=True)
        ]
    )
    return signals if vertices.ndim == 3 else signals[0]


def _simulate_one(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    material: Tensor,
    antenna_size: Tensor,
    permittivity: complex | None,
    seed: int,
) -> Tensor:
    tx, rx = array.tx.to(vertices.device), array.rx.to(vertices.device)
    # Positions in float64, so that phases keep their accuracy whatever the working dtype.
    every = facets(vertices.double(), triangles)
    middle = (tx.mean(0) + rx.mean(0)) / 2
    facing = ((middle - every.centre) * every.normal).sum(1) > 0
    kept = facing.nonzero()[:, 0]
    f = every[kept]
    phase = torch.rand(len(every), generator=torch_stream(seed, "radar/diffuse"))[kept.cpu()]
    phase = (2 * math.pi * phase).to(f.area)
    response = facet_response(f, middle, waveform, material, permittivity, phase)
    legs = [_leg(f, antennas, antenna_size, waveform) for antennas in (tx, rx)]
    out = []
    for k, weight in zip(waveform.wavenumbers.to(vertices.device), response, strict=True):
        near, far = (
            wave(gain, (-k * d) % (2 * math.pi)).to(_complex(vertices.dtype)) for gain, d in legs
        )
        out.append((weight.to(far.dtype)[:, None] * far).T @ near)
    return torch.stack(out, dim=-1)


def _leg(f: Facets, antennas: Tensor, size: Tensor, waveform: Waveform) -> tuple[Tensor, Tensor]:
    """Gain and length of every path facet-antenna, both (F, A) float64.

    The obliquity is √(cos_tx · cos_rx), one factor to each leg: it equals the Kirchhoff mean of
    the cosines at the specular point, and is reciprocal.
    """
    path = f.centre[:, None] - antennas
    distance = path.square().sum(-1).sqrt()
    direction = path / distance[..., None]
    cosine = -(direction * f.normal[:, None]).sum(-1)
    lit = cosine > 1e-6
    oblique = torch.where(lit, torch.where(lit, cosine, 1.0).sqrt(), 0.0)
    return oblique * element_pattern(
        direction, size.double(), waveform.wavelength
    ) / distance, distance


def facet_response(
    f: Facets,
    middle: Tensor,
    waveform: Waveform,
    material: Tensor,
    permittivity: complex | None,
    diffuse_phase: Tensor,
) -> Tensor:
    """(frequency, F) complex scattering length of each facet, m: Eqs. (2.1)-(2.7).

    Coherent: (j/λ) Γ A times the mean of the facet's two-way phase as seen from the array's
    middle; diffuse: |Γ| √(A/π) with a phase of its own.
    """
    to_array = middle - f.centre
    toward = to_array / to_array.square().sum(1, keepdim=True).sqrt()
    gamma = fresnel((toward * f.normal).sum(1), permittivity)
    # Two-way path of a corner relative to the centre's: -2 (corner - centre) · toward.
    slope = -2 * ((f.corners - f.centre[:, None]) * toward[:, None]).sum(-1)
    k = waveform.wavenumbers.to(f.area.device)
    aperture = phase_integral(k[:, None, None] * slope)
    coherent = (1j / (2 * math.pi)) * k[:, None] * gamma * f.area * aperture
    rough = material.double()
    # The floor keeps the gradient finite at a perfectly rough surface.
    smooth = (1 - rough.square()).clamp(min=1e-12).sqrt()
    diffuse = (
        gamma.abs()
        * (f.area / math.pi).sqrt()
        * torch.polar(torch.ones_like(f.area), diffuse_phase)
    )
    return smooth * coherent + rough * diffuse


def simulate_points(
    positions: Tensor,
    amplitudes: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    spreading: bool = False,
) -> Tensor:
    """Signal of isotropic points: S[rx, tx, f] = Σ_p a_p e^{-jk(d_tx + d_rx)}, Eq. (1.1).

    Parameters
    ----------
    positions : Tensor (P, 3) or (B, P, 3)
        Metres, radar frame.
    amplitudes : Tensor (P,) or (B, P)
        Real or complex. With ``spreading`` each leg also divides by its length.

    Returns
    -------
    Tensor (rx, tx, f) or (B, rx, tx, f)
        complex64 for float32 positions, complex128 for float64. Differentiable with respect to
        positions, amplitudes and the array's positions.
    """
    if positions.ndim not in (2, 3) or positions.shape[-1] != 3:
        raise InputError(f"positions: expected (P, 3) or (B, P, 3), found {tuple(positions.shape)}")
    if amplitudes.shape != positions.shape[:-1]:
        raise InputError(
            f"amplitudes: expected {tuple(positions.shape[:-1])}, found {tuple(amplitudes.shape)}"
        )
    dtype = _complex(positions.dtype)
    legs = []
    for antennas in (array.tx, array.rx):
        path = positions.double()[..., None, :] - antennas.to(positions.device)
        legs.append(path.square().sum(-1).sqrt())
    out = []
    for k in waveform.wavenumbers.to(positions.device):
        near, far = (
            torch.polar(1 / d if spreading else torch.ones_like(d), (-k * d) % (2 * math.pi))
            for d in legs
        )
        weighted = amplitudes.to(dtype)[..., None] * far.to(dtype)
        out.append(weighted.transpose(-1, -2) @ near.to(dtype))
    return torch.stack(out, dim=-1)


def _complex(dtype: torch.dtype) -> torch.dtype:
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"expected float32 or float64 positions, found {dtype}")
    return torch.complex64 if dtype == torch.float32 else torch.complex128
