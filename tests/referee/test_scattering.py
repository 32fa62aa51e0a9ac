"""First reflection: closed forms of physical optics, convergence, reciprocity, speckle's law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.referee import Body, Referee
from benchmarks.referee.scattering import LIGHT, SKIN, fresnel, phased
from benchmarks.referee.simulator import blocks
from benchmarks.referee.surface import Surface, ellipsoid, plate

MIDDLE = np.array([77e9])
K = 2 * np.pi * 77e9 / LIGHT
HERE = np.zeros((1, 3))
POINTS = Referee(antenna_size=0.0, shadows=False)


def conductor(shape, **options):
    return Body(shape, 0.0, None, **options)


@dataclass(frozen=True)
class Known:
    """A shape that was sampled already."""

    surface: Surface

    def sampled(self, spacing: float) -> Surface:
        return self.surface


def pairs(seed=0, count=6):
    """Transmitters and receivers at random in the array's square."""
    draw = np.random.default_rng(seed)
    flat = np.array([0.07, 0.07, 0.0])
    return draw.uniform(-1, 1, (count, 3)) * flat, draw.uniform(-1, 1, (count, 3)) * flat


def test_fresnel():
    """Normal incidence, a dielectric's Brewster angle, grazing, and energy at a lossless one."""
    te, tm = fresnel(np.array([1.0]), SKIN)
    index = np.sqrt(SKIN)
    assert te[0] == pytest.approx((1 - index) / (1 + index))
    assert tm[0] == pytest.approx(te[0])
    brewster = np.cos(np.arctan(np.sqrt(2.5)))
    assert abs(fresnel(np.array([brewster]), 2.5)[1][0]) < 1e-15
    np.testing.assert_allclose(np.array(fresnel(np.array([0.0]), SKIN))[:, 0], [-1, 1], atol=1e-12)
    np.testing.assert_allclose(np.array(fresnel(np.array([0.3]), None)), -1)


def test_polarisations_agree_at_highlights():
    """What a scalar first reflection leaves out below 14°: 0.03 of |Γ| (half the difference)."""
    te, tm = fresnel(np.cos(np.radians(np.linspace(0, 14, 15))), SKIN)
    assert (abs(te - tm) / 2 / abs(te[0])).max() < 0.03


def test_plate_from_afar():
    """|S| = A/λd² on its axis, where distance makes its phases equal: 4πA²/λ² is its section."""
    distance, side = 200.0, 0.02
    shape = plate([0.0, 0.0, distance], [0.0, side, 0.0], [side, 0.0, 0.0])
    found = POINTS.replace(spacing=1e-3).signal([conductor(shape)], HERE, HERE, MIDDLE)[0, 0, 0]
    wanted = -1j * K / (2 * np.pi) * side**2 / distance**2 * np.exp(-2j * K * distance)
    # The plate is 1 µm deep as seen from there: k·1e-6 m.
    assert found == pytest.approx(wanted, rel=2e-3)


def test_plate_aside():
    """Off its axis the pattern of a plate is a sinc of the two-way phase over it."""
    distance, side, angle = 200.0, 0.02, np.radians(7.0)
    normal = distance * np.array([0.0, 0.0, 1.0])
    across = side * np.array([np.cos(angle), 0.0, np.sin(angle)])
    shape = plate(normal, [0.0, side, 0.0], across)
    found = POINTS.signal([conductor(shape)], HERE, HERE, MIDDLE)[0, 0, 0]
    pattern = np.sinc(K * side * np.sin(angle) / np.pi)
    wanted = K / (2 * np.pi) * side**2 * np.cos(angle) / distance**2 * pattern
    assert abs(found) == pytest.approx(abs(wanted), rel=5e-3)


def test_sphere_by_its_closed_form():
    """Physical optics of a sphere, both antennas in one far place:
    ∫ cosθ e^{j2ka cosθ} sinθ dθ = e^{jx}/(jx) + (e^{jx} - 1)/x², x = 2ka."""
    distance, radius = 500.0, 0.02
    shape = ellipsoid([0.0, 0.0, distance], [radius] * 3)
    x = 2 * K * radius
    integral = np.exp(1j * x) / (1j * x) + (np.exp(1j * x) - 1) / x**2
    wanted = -1j * K * radius**2 * integral / distance**2 * np.exp(-2j * K * distance)
    errors = []
    for spacing in (1e-3, 5e-4):
        referee = POINTS.replace(spacing=spacing)
        found = referee.signal([conductor(shape)], HERE, HERE, MIDDLE)[0, 0, 0]
        errors.append(abs(found / wanted - 1))
    # Curved wave fronts: radius / distance. The rest is the midpoint rule at the shadow's edge.
    assert errors[1] < 2e-3
    assert errors[1] < errors[0] < 1e-2


def test_wide_plate_is_a_mirror():
    """A plate of many Fresnel zones shows each receiver the transmitter's image, -e^{-jkD}/D, but
    for its edges' diffraction, which falls with √(1/side) or faster."""
    tx, rx = pairs()
    distance = np.linalg.norm(rx[:, None] - (tx * [1, 1, -1] + [0, 0, 0.6]), axis=2)
    wanted = -np.exp(-1j * K * distance) / distance
    errors = []
    for side in (0.3, 0.9):
        shape = plate([0.0, 0.0, 0.3], [0.0, side, 0.0], [side, 0.0, 0.0])
        found = POINTS.replace(spacing=1.9e-3).signal([conductor(shape)], tx, rx, MIDDLE)[..., 0]
        errors.append(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    assert errors[0] < 0.2
    assert errors[1] < errors[0] / 1.7


def test_reciprocal():
    """Exchanged transmitters and receivers transpose the signal, to rounding."""
    tx, rx = pairs()
    body = Body(ellipsoid([0.01, 0.0, 0.3], [0.03, 0.04, 0.02]), 0.3)
    referee = Referee(spacing=1e-3)
    one, two = (referee.signal([body], a, b, MIDDLE)[..., 0] for a, b in ((tx, rx), (rx, tx)))
    np.testing.assert_allclose(one, two.T, atol=1e-13 * abs(one).max())


def test_all_steps_from_few_nodes():
    """The interpolation over the band is exact to 1e-6 of the largest sample."""
    tx, rx = pairs(count=3)
    body = conductor(ellipsoid([0.0, 0.0, 0.35], [0.05, 0.07, 0.05]))
    sweep = np.linspace(72e9, 82e9, 64)
    referee = Referee(spacing=2e-3)
    found = referee.signal([body], tx, rx, sweep)
    # Band's middle and element pattern are the same for three steps around it.
    some = [0, 31, 63]
    wanted = referee.signal([body], tx, rx, sweep[some])
    np.testing.assert_allclose(found[..., some], wanted, atol=1e-6 * abs(wanted).max())


@pytest.mark.parametrize(("single", "bound"), [(False, 3e-8), (True, 1e-5)])
def test_blocks_and_single_precision_change_nothing_that_counts(single, bound):
    """A sweep, summed block by block about an origin each, against the same three steps summed at
    once in double precision: rough skin with shadows, more points than one block holds."""
    tx, rx = pairs(count=4)
    body = Body(ellipsoid([0.01, 0.0, 0.35], [0.06, 0.08, 0.05]), 0.4)
    sweep = np.linspace(72e9, 82e9, 32)
    some = [0, 13, 31]
    referee = Referee(spacing=1.2e-3, seed=3)
    points = body.shape.sampled(referee.spacing).points
    assert len(blocks(points, np.arange(len(points)))) > 4
    found = referee.replace(single=single).signal([body], tx, rx, sweep)[..., some]
    wanted = referee.signal([body], tx, rx, sweep[some])
    # Not the same by construction: bits differ.
    assert 0 < abs(found - wanted).max() < bound * abs(wanted).max()


def test_blocks_hold_every_point_once():
    """And none is larger than a block, nor wider than the whole."""
    points = np.random.default_rng(0).uniform(0, 1, (10_000, 3)) * [0.2, 0.1, 0.02]
    parts = blocks(points, np.arange(10_000))
    assert sorted(np.concatenate(parts)) == list(range(10_000))
    assert max(len(p) for p in parts) <= 3000
    assert max(np.ptp(points[p], axis=0).max() for p in parts) < 0.11
    assert blocks(points, np.arange(0)) == []


@pytest.mark.parametrize(("number", "bound"), [(np.float64, 2e-9), (np.float32, 3e-7)])
def test_phases_by_series(number, bound):
    """e^{-jkd} of paths up to 20 m, of either sign."""
    length = np.random.default_rng(1).uniform(-20, 20, (50, 7))
    gains = np.random.default_rng(2).standard_normal((2, 50, 7, 2)) @ [1, 1j]
    found = phased(gains, length, K, number)
    wanted = (gains * np.exp(-1j * K * length)).reshape(100, 7)
    assert found.dtype == number
    assert abs(found[0] + 1j * found[1] - wanted).max() < bound * abs(gains).max()


def test_material_divides_the_power():
    """Coherent √(1 - m²), diffuse m: parts scale as stated, and speckle's seed moves the latter."""
    tx, rx = pairs(count=3)
    shape = ellipsoid([0.0, 0.0, 0.3], [0.02] * 3)
    referee = Referee(spacing=1e-3)
    smooth, rough = (referee.parts([Body(shape, m)], tx, rx, MIDDLE) for m in (0.0, 0.6))
    np.testing.assert_allclose(rough["coherent"], 0.8 * smooth["coherent"], rtol=1e-12)
    other = referee.replace(seed=1).parts([Body(shape, 0.6)], tx, rx, MIDDLE)
    assert abs(other["diffuse"] - rough["diffuse"]).max() > 0.1 * abs(rough["diffuse"]).max()


@pytest.mark.parametrize("spacing", [4e-4, 8e-4])
def test_speckle_is_lambert(spacing):
    """Mean |S|² of a rough conducting plate: m² A cos²θ / (π d⁴) whatever the spacing, here for
    |Γ| = 1. 400 draws of independent signals: 5 % of one standard deviation, bound at four."""
    distance, side, angle = 5.0, 0.01, 0.5
    across = side * np.array([np.cos(angle), 0.0, np.sin(angle)])
    surface = plate([0.0, 0.0, distance], [0.0, side, 0.0], across).sampled(spacing)
    body = Body(Known(surface), 1.0, None)
    signals = [POINTS.replace(seed=n).parts([body], HERE, HERE, MIDDLE) for n in range(400)]
    power = [abs(parts["diffuse"].item()) ** 2 for parts in signals]
    wanted = side**2 * np.cos(angle) ** 2 / (np.pi * distance**4)
    assert np.mean(power) == pytest.approx(wanted, rel=0.2)


def test_shadow_of_a_screen():
    """A screen before half of a plate takes away what the shadowed points alone give."""
    tx, rx = pairs(count=3)
    back = plate([0.0, 0.0, 0.5], [0.0, 0.2, 0.0], [0.2, 0.0, 0.0])
    screen = plate([0.0, 0.3, 0.25], [0.0, 0.6, 0.0], [1.0, 0.0, 0.0])  # above the axis
    referee = Referee(spacing=2e-3, antenna_size=0.0)
    both = referee.signal([conductor(back), conductor(screen)], tx, rx, MIDDLE)
    alone = referee.signal([conductor(screen)], tx, rx, MIDDLE)
    surface = back.sampled(2e-3)
    total = np.zeros((len(rx), len(tx)), dtype=complex)
    for r, b in enumerate(rx):
        for t, a in enumerate(tx):
            crossing = [(surface.points[:, 1] + x[1]) / 2 for x in (a, b)]
            free = (crossing[0] < 0) & (crossing[1] < 0)
            legs = [surface.points - x for x in (a, b)]
            length = [np.linalg.norm(leg, axis=1) for leg in legs]
            oblique = sum(leg[:, 2] / d for leg, d in zip(legs, length, strict=True)) / 2
            field = oblique * np.exp(-1j * K * sum(length)) / np.prod(length, axis=0)
            total[r, t] = -1j * K / (2 * np.pi) * (field * surface.areas)[free].sum()
    # 1e-3: the few points whose ray passes within 0.1 mm, where rays start, of the screen's edge.
    np.testing.assert_allclose((both - alone)[..., 0], total, atol=2e-3 * abs(total).max())
