"""One facet: phase integral, Fresnel reflection, element pattern, roughness."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from radarbook.radar.scattering import (
    SKIN_PERMITTIVITY,
    element_pattern,
    facet_response,
    facets,
    fresnel,
    phase_integral,
)


def _brute_phase_integral(phases, n=400):
    """Midpoint rule over n² equal subtriangles' centres, none of the closed form's ideas."""
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    up = i + j < n
    down = i + j < n - 1
    centres = np.concatenate(
        [np.stack([i[up] + 1 / 3, j[up] + 1 / 3]), np.stack([i[down] + 2 / 3, j[down] + 2 / 3])],
        axis=1,
    )
    u, v = centres / n
    return np.exp(-1j * (phases[0] * u + phases[1] * v + phases[2] * (1 - u - v))).mean()


@pytest.mark.parametrize(
    "phases",
    [(0, 0, 0), (1e-9, 0, -1e-9), (0.3, -0.1, 0.5), (2, 0, 1e-7), (5, 5, 0), (7, -3, 1), (9, 9, 9)],
)
def test_phase_integral_equals_quadrature(phases):
    # The midpoint rule's own error is about (spread / n)² / 24 < 3e-5 at the widest spread.
    value = phase_integral(torch.tensor(phases, dtype=torch.float64)).item()
    assert abs(value - _brute_phase_integral(phases)) < 5e-5


def test_phase_integral_is_continuous_between_series_and_closed_form():
    spread = torch.tensor([2 - 1e-9, 2 + 1e-9], dtype=torch.float64)
    phases = torch.stack([spread, 0.3 * spread, 0 * spread], dim=1)
    value = phase_integral(phases)
    assert (value[0] - value[1]).abs() < 1e-8


@pytest.mark.parametrize("scale", [0, 1e-9, 1e-3, 1.0, 3.0, 40.0])
def test_phase_integral_gradient(scale):
    generator = torch.Generator().manual_seed(1)
    phases = scale * torch.randn(20, 3, generator=generator, dtype=torch.float64)
    phases[0, 1] = phases[0, 0]  # two corners in phase: where naive formulas divide by zero
    assert torch.autograd.gradcheck(phase_integral, (phases.requires_grad_(),))


def test_fresnel():
    normal = fresnel(torch.ones(1, dtype=torch.float64), SKIN_PERMITTIVITY)[0]
    n = np.sqrt(SKIN_PERMITTIVITY)
    assert abs(normal - (1 - n) / (1 + n)) < 1e-12
    assert 0.55 < abs(normal) < 0.65  # "mostly a mirror": DESIGN's figure for skin at 77 GHz
    assert fresnel(torch.ones(3), None).tolist() == [-1, -1, -1]
    # Lossless dielectric at Brewster's angle: only TE is left, half the mean.
    eps = 4.0
    brewster = torch.tensor([math.cos(math.atan(math.sqrt(eps)))], dtype=torch.float64)
    te = (1 - eps) / (1 + eps)
    assert abs(fresnel(brewster, eps)[0] - te / 2) < 1e-12


def test_element_pattern_has_its_null():
    size, wavelength = 8e-3, 4e-3
    sine = wavelength / size
    null = torch.tensor([[sine, 0, math.sqrt(1 - sine**2)], [0, 0, 1.0]], dtype=torch.float64)
    pattern = element_pattern(null, size, wavelength)
    assert pattern[0].abs() < 1e-12
    assert pattern[1] == 1
    assert (element_pattern(null, 0.0, wavelength) == 1).all()


@pytest.mark.parametrize("material", [0.0, 0.3, 1.0])
def test_roughness_keeps_energy(material):
    """A conducting facet sends back all the power that meets it, whatever its roughness.

    The scattered power is integrated over the half-space: the beam solid angle of a uniformly
    lit aperture is λ²/A (textbook), that of a Lambert surface π.
    """
    wavelength = 4e-3
    k = torch.tensor([2 * math.pi / wavelength], dtype=torch.float64)
    side = 6 * wavelength  # large against the wavelength, so physical optics conserves power
    corners = side * torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, 0.0]], dtype=torch.float64)
    f = facets(corners + torch.tensor([0, 0, 1.0]), torch.arange(3)[None])
    back = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    m = torch.tensor(material, dtype=torch.float64)
    parts = [
        facet_response(f, back, k, torch.tensor(v, dtype=torch.float64), None, torch.zeros(1))
        for v in (0.0, 1.0)
    ]
    smooth, rough = (p.abs().item() for p in parts)
    area = side**2 / 2
    # Power scattered over power met: ∫|ℓ|²dΩ / A. Coherent: |ℓ| = A/λ, beam solid angle λ²/A.
    coherent = (1 - m**2) * smooth**2 * (wavelength**2 / area) / area
    # Lambert: |ℓ|² cos θ over the half-space, ∫ cos θ dΩ = π.
    diffuse = m**2 * rough**2 * math.pi / area
    assert (coherent + diffuse).item() == pytest.approx(1, abs=1e-6)
