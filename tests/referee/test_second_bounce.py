"""Second reflection: corner, mirror images, reciprocity and convergence."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.referee import Body, Referee
from benchmarks.referee.scattering import LIGHT, SKIN, first_reflection, fresnel
from benchmarks.referee.surface import ellipsoid, plate

MIDDLE = np.array([77e9])
WAVELENGTH = LIGHT / 77e9
K = 2 * np.pi / WAVELENGTH
HERE = np.zeros((1, 3))
ALONG, ACROSS = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
ROOT = np.sqrt(0.5)


def corner(side, permittivity, distance=50.0):
    """Two square plates at a right angle, their edge along y, open towards the array."""
    edge, up = np.array([0.0, 0.0, distance]), np.array([0.0, side, 0.0])
    left, right = side * np.array([-ROOT, 0.0, -ROOT]), side * np.array([ROOT, 0.0, -ROOT])
    shapes = plate(edge + left / 2, left, up), plate(edge + right / 2, up, right)
    return [Body(shape, 0.0, permittivity) for shape in shapes]


def corner_signal(side, permittivity, polarisation, spacing=1.5e-3, distance=50.0):
    """Second reflection over √(σ/4π)/d² of the closed form σ = 8π side⁴/λ², without its path."""
    referee = Referee(
        antenna_size=0.0,
        spacing=5e-3,
        second_spacing=spacing,
        shadows=False,
        polarisations=(polarisation, polarisation),
    )
    bodies = corner(side, permittivity, distance)
    found = referee.parts(bodies, HERE, HERE, MIDDLE)["second"][0, 0, 0]
    wanted = np.sqrt(2) * side**2 / WAVELENGTH / distance**2
    return found / wanted * np.exp(2j * K * distance)


def test_corner_approaches_its_closed_form():
    """The closed form (geometrical optics on the first plate) leaves out the diffraction between
    the plates. Its share falls with the number of Fresnel zones on a plate, λ/side: from side 4λ
    to 16λ the double integral comes nearer to 1 j by a factor of 2.5, at 45° phase."""
    errors = [corner_signal(side, None, ALONG) - 1j for side in (0.015, 0.03, 0.06)]
    assert abs(errors[2]) < 0.22
    assert 1.35 < abs(errors[0] / errors[1]) < 2
    assert 1.35 < abs(errors[1] / errors[2]) < 2


def test_corner_by_polarisation():
    """A conductor's corner turns the sign of what is across the edge; skin multiplies it by
    (Γ_TM/Γ_TE)² of 45°: 0.47 along and 0.22 across. Diffraction between plates sees other angles:
    a tenth at this size."""
    along, across = (corner_signal(0.03, None, p) for p in (ALONG, ACROSS))
    assert across / along == pytest.approx(-1, abs=1e-6)
    skin_along, skin_across = (corner_signal(0.03, SKIN, p) for p in (ALONG, ACROSS))
    te, tm = (value[0] for value in fresnel(np.array([ROOT]), SKIN))
    assert skin_along / along == pytest.approx(te**2, abs=0.1 * abs(te) ** 2)
    assert skin_across / skin_along == pytest.approx(-((tm / te) ** 2), abs=0.1)


def test_corner_converges():
    """1.5 mm against 1 mm: 2 %, of a second reflection that is a few per cent of a face."""
    coarse, fine = (corner_signal(0.02, SKIN, ALONG, spacing) for spacing in (1.5e-3, 1.0e-3))
    assert coarse == pytest.approx(fine, rel=0.03)


def sparse_array():
    """Sixteen of each, as the QAR50 has them: columns of transmitters, rows of receivers."""
    line = np.linspace(-0.069, 0.069, 8)
    side = np.repeat([-0.0705, 0.0705], 8)
    tx = np.stack([side, np.tile(line, 2), 0 * side], axis=1)
    return tx, tx[:, [1, 0, 2]]


@pytest.fixture(scope="module")
def ball_and_plate():
    """A conducting ball, and a plate at 45° beside it that sends waves to and from it."""
    normal = np.array([-ROOT, 0.0, -ROOT])
    place = np.array([0.045, 0.0, 0.3])
    ball = ellipsoid([0.0, 0.0, 0.3], [0.015] * 3)
    mirror = plate(place, 0.09 * np.array([-ROOT, 0.0, ROOT]), [0.0, 0.09, 0.0])
    return ball, mirror, place, normal


def test_ball_and_plate_is_seen_in_the_mirror(ball_and_plate):
    """A wide plate shows the ball the transmitters' images, and the receivers the ball's: the
    double integral is the single one with mirrored antennas, twice. Left is the plate's finite
    size (its edges diffract 5 % of the amplitude) and the turning of polarisation."""
    ball, mirror, place, normal = ball_and_plate
    tx, rx = sparse_array()
    surface = ball.sampled(5e-4)
    wanted = np.zeros((len(rx), len(tx)), dtype=complex)
    for side in (0, 1):
        antennas = [tx.copy(), rx.copy()]
        antennas[side] -= 2 * ((antennas[side] - place) @ normal)[:, None] * normal
        toward = (surface.points * surface.normals).sum(axis=1)[:, None]
        seen = tuple(surface.normals @ a.T > toward for a in antennas)
        once, _ = first_reflection(
            surface, *antennas, np.array([K]), seen,
            permittivity=None, antenna_size=0.0, wavelength=WAVELENGTH, speckle=None,
        )  # fmt: skip
        wanted -= once[..., 0]
    referee = Referee(antenna_size=0.0, spacing=5e-3, second_spacing=1.5e-3, shadows=False)
    bodies = [Body(ball, 0.0, None), Body(mirror, 0.0, None)]
    found = referee.parts(bodies, tx, rx, MIDDLE)["second"][..., 0]
    gain = np.vdot(wanted, found) / np.vdot(wanted, wanted)
    coherence = abs(np.vdot(wanted, found)) / np.linalg.norm(wanted) / np.linalg.norm(found)
    assert coherence > 0.95
    assert abs(gain) == pytest.approx(1, abs=0.12)
    assert abs(np.angle(gain)) < 0.15


def test_reciprocal(ball_and_plate):
    """Transmitters and receivers exchanged, polarisations with them: the transpose. Single
    precision of the sum: 1e-6 of a sample each."""
    ball, mirror, _, _ = ball_and_plate
    tx, rx = sparse_array()
    bodies = [Body(ball, 0.2), Body(mirror, 0.0)]
    one = Referee(spacing=5e-3, second_spacing=2e-3, polarisations=(ALONG, ACROSS))
    two = one.replace(polarisations=(ACROSS, ALONG))
    there = one.parts(bodies, tx, rx, MIDDLE)["second"][..., 0]
    back = two.parts(bodies, rx, tx, MIDDLE)["second"][..., 0]
    assert abs(there).max() > 0
    np.testing.assert_allclose(there, back.T, atol=2e-5 * abs(there).max())


def test_a_convex_body_has_none():
    tx, rx = sparse_array()
    body = Body(ellipsoid([0.0, 0.0, 0.3], [0.02, 0.03, 0.02]), 0.0)
    second = Referee(spacing=5e-3, second_spacing=2e-3).parts([body], tx, rx, MIDDLE)["second"]
    assert abs(second).max() == 0


def test_a_wall_between_stops_it():
    """A screen between ball and plate leaves nothing of their common paths."""
    tx, rx = sparse_array()
    ball = ellipsoid([-0.02, 0.0, 0.3], [0.01] * 3)
    mirror = plate([0.04, 0.0, 0.3], [-0.02, 0.0, 0.02], [0.0, 0.03, 0.0])
    # Edge-on to the array: a plane at x = 0 that shadows neither body from most antennas.
    screen = plate([0.0, 0.0, 0.3], [0.0, 0.2, 0.0], [0.0, 0.0, 0.2])
    referee = Referee(spacing=5e-3, second_spacing=2e-3)
    bodies = [Body(ball, 0.0, None), Body(mirror, 0.0, None)]
    free = referee.parts(bodies, tx, rx, MIDDLE)["second"]
    stopped = referee.parts([*bodies, Body(screen, 0.0, second=False)], tx, rx, MIDDLE)["second"]
    assert abs(free).max() > 0
    assert abs(stopped).max() == 0
