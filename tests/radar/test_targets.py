"""Targets whose echo is known in closed form: plate, sphere, corner, and the spreading law."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn, spherical_yn

from radarbook.radar import meshes
from radarbook.radar.array import Array
from radarbook.radar.bounces import multiple_bounces
from radarbook.radar.pieces import group_columns
from radarbook.radar.simulate import simulate
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import C0, Waveform, qar50_waveform

#: One isotropic antenna that sends and receives: what a radar cross-section is defined for.
MONOSTATIC = Array(torch.zeros(1, 3), torch.zeros(1, 3))
IDEAL = {"antenna_size": 0.0, "permittivity": None}


def _waveform(*frequencies: float) -> Waveform:
    return Waveform(torch.tensor(frequencies, dtype=torch.float64))


def _cross_section(signal, distance):
    return 4 * math.pi * signal[0, 0].abs().square() * distance**4


def test_plate():
    """σ = 4πA²/λ². At 200 m the wave over the 5 cm plate is plane to 3e-5 of a wavelength."""
    side, distance = 0.05, 200.0
    mesh = meshes.plate((0, 0, distance), side, side, 0.01)
    waveform = _waveform(72e9, 82e9)
    sigma = _cross_section(simulate(*mesh, MONOSTATIC, waveform, **IDEAL), distance)
    wanted = 4 * math.pi * side**4 / (C0 / waveform.frequencies) ** 2
    np.testing.assert_allclose(sigma, wanted, rtol=1e-3)


def test_plate_pattern():
    """A tilted plate follows the aperture's sinc, through its first null."""
    side, distance = 0.03, 200.0
    waveform = _waveform(75e9)
    wavelength = C0 / 75e9
    for tilt in (0.3 * wavelength / side, 0.5 * wavelength / side, 0.8 * wavelength / side):
        mesh = meshes.plate((0, 0, distance), side, side, 0.01, tilt=(tilt, 0))
        sigma = _cross_section(simulate(*mesh, MONOSTATIC, waveform, **IDEAL), distance)
        pattern = np.sinc(2 * side * math.sin(tilt) / wavelength) * math.cos(tilt)
        wanted = 4 * math.pi * (side**2 * pattern / wavelength) ** 2
        # Against the peak, so that the null (0.5) is held too.
        assert abs(float(sigma) - wanted) < 2e-3 * 4 * math.pi * side**4 / wavelength**2


@pytest.mark.parametrize("radius", [0.02, 0.04])
def test_sphere_optical_region(radius):
    """σ = πa², independent of frequency; 2 % for edges of light at the sphere's rim (~1/ka)."""
    distance = 20.0
    mesh = meshes.sphere((0, 0, distance), radius, 1.5e-3)
    signal = simulate(*mesh, MONOSTATIC, qar50_waveform(16), **IDEAL)
    sigma = _cross_section(signal, distance - radius)
    np.testing.assert_allclose(sigma.mean(), math.pi * radius**2, rtol=0.02)


def _mie_backscatter(k, radius):
    """Scattering length of a conducting sphere towards the source, e^{+jωt}, phase to its centre.

    Bohren & Huffman's S₁(180°) with perfectly conducting coefficients, conjugated for our time
    factor.
    """
    x = k * radius
    n = np.arange(1, int(x + 4 * x ** (1 / 3) + 10))
    j, y = spherical_jn(n, x), spherical_yn(n, x)
    dj, dy = spherical_jn(n, x, True), spherical_yn(n, x, True)
    h, dh = j + 1j * y, dj + 1j * dy
    a = (j + x * dj) / (h + x * dh)
    b = j / h
    return np.conj((1j / k) * ((2 * n + 1) / 2 * (-1.0) ** n * (b - a)).sum())


def test_mie_series_reaches_geometrical_optics():
    """The yardstick itself: -a/2 e^{2jka} for a sphere of many wavelengths."""
    k, radius = 1600.0, 0.2
    wanted = -radius / 2 * np.exp(2j * k * radius)
    assert abs(_mie_backscatter(k, radius) / wanted - 1) < 3e-3


@pytest.mark.parametrize("radius", [0.015, 0.03])
def test_sphere_equals_mie_over_the_band(radius):
    """Signal against signal, magnitude and phase, 72-82 GHz.

    Physical optics leaves out creeping waves and cuts the current at the shadow's edge: an error
    of the order 1/(ka) (0.04 and 0.02 here) that the bound follows.
    """
    distance = 30.0
    waveform = qar50_waveform(24)
    mesh = meshes.sphere((0, 0, distance), radius, 1e-3)
    signal = simulate(*mesh, MONOSTATIC, waveform, **IDEAL)[0, 0].numpy()
    k = waveform.wavenumbers.numpy()
    mie = np.array([_mie_backscatter(value, radius) for value in k])
    wanted = mie * np.exp(-2j * k * distance) / distance**2
    # Spreading to the front of the sphere rather than to its centre: (R / (R - a))² - 1 < 0.2 %.
    error = np.linalg.norm(signal - wanted) / np.linalg.norm(wanted)
    assert error < 1.5 / (1620 * radius), error


def test_spreading_law():
    """Power falls as R⁻⁴ once the target is in the far field of its own size."""
    waveform = _waveform(77e9)
    powers = []
    for distance in (10.0, 20.0):
        mesh = meshes.plate((0, 0, distance), 0.01, 0.01, 2e-3)
        powers.append(simulate(*mesh, MONOSTATIC, waveform, **IDEAL).abs().square().item())
    assert powers[0] / powers[1] == pytest.approx(16, rel=1e-3)


def test_corner_reflector():
    """Triangular trihedral on its axis: σ = 4πl⁴/(3λ²), all of it from three reflections."""
    edge, distance = 0.05, 20.0
    waveform = _waveform(72e9, 77e9, 82e9)
    mesh = meshes.corner((0, 0, distance), edge, 0.012)
    signal = multiple_bounces(*mesh, MONOSTATIC, waveform, bounces=3, facet_size=3e-3, **IDEAL)
    wanted = 4 * math.pi * edge**4 / (3 * (C0 / waveform.frequencies) ** 2)
    # Tubes cover the aperture's rim in steps of their own size: 3 mm of 50 mm.
    np.testing.assert_allclose(_cross_section(signal, distance), wanted, rtol=0.05)
    # Two reflections return nothing along the axis, and the wrong formula (a plate) is far off.
    two = multiple_bounces(*mesh, MONOSTATIC, waveform, bounces=2, **IDEAL)
    assert (_cross_section(two, distance) < 1e-3 * wanted).all()


def _dihedral(distance, side, facet=4e-3):
    """Two square walls at right angles that open towards the array; their edge is along y."""
    reach, slant = side / math.sqrt(8), math.pi / 4
    return [
        meshes.plate((sign * reach, 0, distance - reach), side, side, facet, tilt=(turn, 0))
        for sign, turn in ((-1, -slant), (1, slant))
    ]


def test_dihedral_and_a_screen_between_its_walls():
    """σ → 8πw²h²/λ² from two reflections. Waves from wall to wall spread beyond the walls' rims, so
    that the amplitude falls short by the width of a Fresnel zone over the wall's: as 1/√side, by a
    seventh at 0.06 m. A screen along the axis, which hides neither wall from the antenna, stops
    every ray from wall to wall; what it sends on leaves by other ways."""
    distance, waveform = 20.0, _waveform(77e9)
    sides = (0.015, 0.03, 0.06)
    short = []
    for side in sides:
        free = meshes.join(*_dihedral(distance, side))
        signal = multiple_bounces(*free, MONOSTATIC, waveform, bounces=2, **IDEAL)
        wanted = 8 * math.pi * side**4 / (C0 / waveform.frequencies) ** 2
        short.append(1 - math.sqrt(float(_cross_section(signal, distance) / wanted)))
    assert 0.08 < short[-1] < 0.18
    for wide, narrow in itertools.pairwise(short):
        # 1/√2 to first order.
        assert 0.6 < narrow / wide < 0.8
    side = 0.05
    wanted = 8 * math.pi * side**4 / (C0 / waveform.frequencies) ** 2
    walls = _dihedral(distance, side)
    # Walls and screen do not meet, so that no ray starts on an edge they share.
    screen = meshes.plate((1e-4, 0, distance - 0.03), 0.056, 0.06, 4e-3, tilt=(math.pi / 2, 0))
    other = screen[0], screen[1].flip(1)
    mesh = meshes.join(*walls, screen, other)
    blocked = multiple_bounces(*mesh, MONOSTATIC, waveform, bounces=2, **IDEAL)
    assert (_cross_section(blocked, distance) < 0.01 * wanted).all()


def test_corner_partly_hidden_from_a_column(array):
    """A screen in front of the left column of transmitters, which all others look past: paths from
    that column are gone, every other pair's are what they were. Then one that hides half of the
    corner from it: what is left equals the sum over paths that start on the other half."""
    few = Array(array.tx[::4], array.rx[::4])
    waveform = _waveform(72e9, 78e9)
    corner = meshes.corner((0.0, 0.0, 0.4), 0.04, 0.005)
    left = few.tx[:, 0] < 0
    column = int(group_columns(few)[0][left][0])
    options = {"bounces": 3, "facet_size": 0.01}
    free = multiple_bounces(*corner, few, waveform, **options)
    # On the way from (-70.5, 0, 0) to the corner; the others pass 50 mm away from it.
    wide = meshes.join(corner, meshes.plate((-0.053, 0, 0.1), 0.04, 0.06, 0.01))
    seen = visibility(*wide, few)
    behind = multiple_bounces(*wide, few, waveform, visibility=seen, **options)
    assert (behind[:, left] == 0).all()
    assert behind[:, ~left].abs().min() > 0
    assert (behind - free)[:, ~left].abs().max() < 1e-9 * free.abs().max()
    # Half of it: the line from the group's middle through the corner's axis is the screen's rim.
    half = meshes.join(corner, meshes.plate((-0.053, -0.032, 0.1), 0.04, 0.06, 0.01))
    seen = visibility(*half, few)
    hidden = seen[: len(corner[1]), column] == 0
    assert 0.3 < hidden.double().mean() < 0.7
    partly = multiple_bounces(*half, few, waveform, visibility=seen, **options)
    mask = torch.ones(len(corner[1]), 4)
    mask[hidden, column] = 0
    wanted = multiple_bounces(*corner, few, waveform, visibility=mask, **options)
    assert (partly - wanted).abs().max() < 1e-9 * free.abs().max()
    change = (partly - free).norm(dim=(0, 2))
    assert (change[left] > 0.1 * free.norm(dim=(0, 2))[left]).all()
    assert change[~left].max() < 1e-9 * free.abs().max()


def test_bounce_gradient_equals_finite_differences():
    waveform = _waveform(72e9, 76e9)
    vertices, triangles = meshes.corner((0.002, 0.001, 0.4), 0.04, 0.02)
    antennas = torch.tensor([[0.02, 0, 0], [0, -0.03, 0], [-0.02, 0.01, 0]], dtype=torch.float64)
    array = Array(antennas, antennas + 0.005)

    def real(v):
        return multiple_bounces(
            v, triangles, array, waveform, bounces=3, facet_size=0.02
        ).real.sum()

    leaf = vertices.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(real(leaf), leaf)
    generator = torch.Generator().manual_seed(0)
    line = torch.randn(vertices.shape, generator=generator, dtype=torch.float64)
    difference = float(real(vertices + 1e-9 * line) - real(vertices - 1e-9 * line)) / 2e-9
    assert float((gradient * line).sum()) == pytest.approx(difference, rel=1e-4)
