"""A dielectric layer: the slab against closed forms, a point behind it against traced rays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.files import digest
from radarbook.radar import meshes
from radarbook.radar.array import Array
from radarbook.radar.bounces import multiple_bounces
from radarbook.radar.image import image_from_volume
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.layer import Layer, LegTable
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.scattering import fresnel
from radarbook.radar.simulate import simulate
from radarbook.radar.waveform import C0, Waveform, qar50_waveform

#: Nominal: dry cotton is mostly air.
COTTON = 1.6 - 0.05j
BLANKET = Layer(0.20, 3e-3, COTTON)


def _relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module")
def k():
    return qar50_waveform(5).wavenumbers


@pytest.fixture(scope="module")
def cosine():
    return torch.linspace(0.3, 1.0, 36, dtype=torch.float64)


# -- the slab --------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [COTTON, 2.5 - 0.3j, 4.0])
def test_slab_equals_the_transmission_line(eps, k, cosine):
    """The other way to write it: a line of impedance Z_TE = 1/q or Z_TM = q/ε and length t."""
    thickness = 4e-3
    layer = Layer(0.2, thickness, eps)
    transmitted, reflected = layer.transmission(k, cosine), layer.reflection(k, cosine)
    c = cosine.numpy()
    q = np.sqrt(eps - 1 + c**2 + 0j)
    for p, (z, z0) in enumerate([(1 / q, 1 / c), (q / eps, c)]):
        delta = k.numpy()[:, None] * thickness * q
        a, b, d = np.cos(delta), 1j * z * np.sin(delta), 1j * np.sin(delta) / z
        total = 2 * a + b / z0 + d * z0
        air = np.exp(1j * k.numpy()[:, None] * thickness * c)
        np.testing.assert_allclose(transmitted[p].numpy(), 2 / total * air, rtol=1e-10)
        np.testing.assert_allclose(reflected[p].numpy(), (b / z0 - d * z0) / total, atol=1e-12)
    wanted = transmitted.mean(0)
    assert torch.allclose(layer.leg_factor(k, cosine), wanted, rtol=1e-12)


def test_lossless_slab_keeps_energy_and_a_lossy_one_does_not(k, cosine):
    for eps, kept in ((2.2, True), (2.2 - 0.02j, False)):
        layer = Layer(0.2, 7e-3, eps)
        power = layer.transmission(k, cosine).abs().square()
        power = power + layer.reflection(k, cosine).abs().square()
        if kept:
            np.testing.assert_allclose(power, 1, rtol=1e-12)
        else:
            assert float(power.max()) < 0.995


def test_half_wave_window_and_quarter_wave(k):
    """Half a wavelength inside (any angle, both polarisations): no reflection, |T| = 1. A quarter
    at normal incidence: R = (1 - n²)/(1 + n²)."""
    eps, wavenumber = 3.0, k[2:3]
    for angle in (0.0, 0.5, 1.0):
        inside = math.sqrt(eps - math.sin(angle) ** 2)
        window = Layer(0.2, math.pi / (float(wavenumber) * inside), eps)
        cosine = torch.tensor([math.cos(angle)], dtype=torch.float64)
        assert float(window.reflection(wavenumber, cosine).abs().max()) < 1e-12
        np.testing.assert_allclose(window.transmission(wavenumber, cosine).abs(), 1, rtol=1e-12)
    mirror = Layer(0.2, math.pi / (2 * float(wavenumber) * math.sqrt(eps)), eps)
    reflected = mirror.reflection(wavenumber, torch.ones(1, dtype=torch.float64))
    wanted = torch.full_like(reflected, (1 - eps) / (1 + eps))
    assert torch.allclose(reflected, wanted, atol=1e-12)


def test_brewster_angle(k):
    cosine = torch.tensor([math.cos(math.atan(math.sqrt(2.5)))], dtype=torch.float64)
    te, tm = Layer(0.2, 2e-3, 2.5).reflection(k, cosine).abs().amax((1, 2))
    assert tm < 1e-12 < 0.2 < te


def test_thin_slab(k, cosine):
    """First order in the thickness: a sheet of polarisation currents along (ε - 1) and across
    (ε - 1)/ε the field. What is left is of the second order, (kt|ε|)² ~ 1e-5 for 1 µm."""
    thickness, eps = 1e-6, 2.0 - 0.5j
    transmitted = Layer(0.2, thickness, eps).transmission(k, cosine)
    sine = 1 - cosine**2
    te = (eps - 1) / (2 * cosine)
    tm = ((eps - 1) * cosine**2 + (eps - 1) / eps * sine) / (2 * cosine)
    for value, slope in zip(transmitted, (te, tm), strict=True):
        change = -1j * k[:, None] * thickness * slope
        assert float((value - 1 - change).abs().max()) < 1e-4
        assert float((value - 1 - change).abs().max() / change.abs().max()) < 1e-2


def test_thick_lossy_slab_reflects_like_a_half_space(k, cosine):
    eps = 6.6 - 8.9j
    reflected = Layer(0.2, 0.05, eps).reflection(k, cosine).mean(0)
    assert torch.allclose(reflected, fresnel(cosine, eps).expand_as(reflected), atol=1e-12)


def test_attenuation_and_delay_of_a_weak_slab(k):
    """ε near 1: no reflection to speak of, so |T| = e^{-k t |Im n|} and a delay of (Re n - 1) t."""
    index = complex(1.02 - 0.01j)
    layer = Layer(0.2, 0.01, index**2)
    factor = layer.leg_factor(k, torch.ones(1, dtype=torch.float64))[:, 0]
    np.testing.assert_allclose(factor.abs(), np.exp(-0.01 * 0.01 * k.numpy()), rtol=1e-3)
    slope = np.polyfit(k, np.unwrap(factor.angle()), 1)[0]
    assert slope == pytest.approx(-0.02 * 0.01, rel=0.03)


@pytest.mark.parametrize(("eps", "thickness"), [(COTTON, 3e-3), (COTTON, 2e-2), (4 - 0.1j, 1e-2)])
def test_leg_table_is_the_formula(eps, thickness, k, cosine):
    """Cosines down to 0.6: a facet 0.2 m beside an antenna 0.15 m in front of it. What an
    interpolated factor may miss is a fraction of the skeletons' 4e-4."""
    layer, steep = Layer(0.2, thickness, eps), cosine[cosine >= 0.6]
    table = LegTable.of(layer, k, 0.6, torch.float64)
    assert float((table(steep) - layer.leg_factor(k, steep)).abs().max()) < 1e-4


def test_powers_are_the_table_for_kernels(k):
    """What is left out is a millionth; of that many terms each adds at most one."""
    steep = torch.linspace(0.6, 1.0, 30, dtype=torch.float64)
    for layer, most in ((BLANKET, 9), (Layer(0.2, 0.02, 2.2 - 0.05j), 13), (Layer(0.2, 0, 3), 1)):
        table = LegTable.of(layer, k, 0.6, torch.float64)
        powers, slope, offset = table.powers()
        assert powers.shape[0] == len(k)
        assert powers.shape[1] <= most
        x = slope * steep + offset
        assert torch.allclose(x[[0, -1]], x.new_tensor([-1.0, 1.0]))
        found = sum(c[:, None] * x**n for n, c in enumerate(powers.T))
        assert float((found - table(steep)).abs().max()) < 1e-5


# -- behind the slab -------------------------------------------------------------------------------


def _ray(lateral, distance, thickness, index, trip):
    """A ray of ``trip`` internal round trips from an antenna to a point: its optical path, the
    sine of its angle, and its amplitude by the widening of a tube of rays. Snell by bisection."""
    inside = (2 * trip + 1) * thickness

    def reach(sine):
        return (distance - thickness) * sine / math.sqrt(1 - sine**2) + inside * sine / math.sqrt(
            index**2 - sine**2
        )

    low, high = 0.0, 0.999999
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if reach(middle) < lateral else (low, middle)
    sine, cosine = low, math.sqrt(1 - low**2)
    within = math.sqrt(1 - (sine / index) ** 2)
    path = (distance - thickness) / cosine + index * inside / within
    step = 1e-6
    widening = (reach(sine + step) - reach(sine - step)) / (2 * step) * cosine  # d lateral / dθ
    return path, sine, math.sqrt(sine / (lateral * widening * cosine))


@pytest.mark.parametrize(("index", "thickness"), [(1.265, 3e-3), (1.265, 0.01), (2.0, 5e-3)])
def test_point_behind_the_slab_equals_traced_rays(array, index, thickness):
    """One small facet, signal with the slab over signal without, against rays refracted by Snell
    with Fresnel's coefficients, each number of internal reflections a ray of its own.

    Phase: the error stated in :meth:`Layer.leg_factor`, k s²/2d a leg. Amplitude: two legs'
    spreading, t (1 - 1/n)/d each, which the straight legs leave out.
    """
    point = np.array([0.03, -0.02, 0.33])
    few = Array(array.tx[::23], array.rx[::23])
    waveform = qar50_waveform(5)
    vertices, triangles = meshes.plate(tuple(point), 1e-4, 1e-4, 1e-4)
    layer = Layer(0.15, thickness, index**2)
    through, free = (
        simulate(vertices, triangles, few, waveform, layer=x, antenna_size=0.0, method="direct")
        for x in (layer, None)
    )
    legs = []
    for antennas in (few.tx.numpy(), few.rx.numpy()):
        factors = np.zeros((len(antennas), len(waveform)), dtype=complex)
        for i, antenna in enumerate(antennas):
            straight = np.linalg.norm(point - antenna)
            lateral = np.linalg.norm((point - antenna)[:2])
            for trip in range(12):
                path, sine, amplitude = _ray(lateral, point[2], thickness, index, trip)
                c, q = math.sqrt(1 - sine**2), math.sqrt(index**2 - sine**2)
                te, tm = (c - q) / (c + q), (q - index**2 * c) / (q + index**2 * c)
                weight = sum((1 - r**2) * r ** (2 * trip) for r in (te, tm)) / 2
                phase = -waveform.wavenumbers.numpy() * (path - straight)
                factors[i] += weight * amplitude * straight * np.exp(1j * phase)
        legs.append(factors)
    wanted = torch.from_numpy(legs[1][:, None] * legs[0][None])
    ratio = through / free / wanted
    sideways = thickness * 0.45 * (1 - 1 / index)  # tangents up to 0.45 here
    assert float(ratio.angle().abs().max()) < 2 * 1720 * sideways**2 / (2 * 0.33) + 2e-3
    assert float((ratio.abs() - 1).abs().max()) < 2.5 * thickness * (1 - 1 / index) / 0.33


def test_layer_moves_the_image_away_by_its_delay(array):
    """(n - 1) t deeper, and darker by the two crossings; n t is taken to be no half-wave, so that
    ripple over the band bends the delay by little: 6 %."""
    thickness, eps = 6e-3, 1.5 - 0.03j
    vertices, triangles = meshes.sphere((0, 0, 0.32), 0.02, 4e-3)
    waveform = qar50_waveform(24)
    line = torch.zeros(1, dtype=torch.float64)
    grid = Grid(line, line, torch.linspace(0.28, 0.33, 51, dtype=torch.float64))
    volumes = [
        back_project(simulate(vertices, triangles, array, waveform, layer=x), array, waveform, grid)
        for x in (None, Layer(0.2, thickness, eps))
    ]
    free, behind = (float(image_from_volume(v, grid).depth) for v in volumes)
    index = complex(eps) ** 0.5
    assert behind - free == pytest.approx((index.real - 1) * thickness, rel=0.06)
    loss = float(volumes[1].abs().max() / volumes[0].abs().max())
    assert loss == pytest.approx(math.exp(2 * 1613 * thickness * index.imag), rel=0.06)


@pytest.mark.parametrize(
    "layer", [BLANKET, Layer(0.2, 0.02, COTTON), Layer(0.2, 5e-3, 4 - 0.1j)], ids=str
)
def test_cells_are_direct_behind_a_layer(ellipsoid, array, waveform, layer):
    vertices, triangles = ellipsoid
    signals = [
        simulate(
            vertices.float(), triangles, array, waveform,
            layer=layer, material=0.2, facet_size=0.01, method=method,
        )
        for method in ("cells", "direct")
    ]  # fmt: skip
    assert _relative(*signals) < 1e-3


def test_a_layer_of_nothing_changes_nothing(ellipsoid, array, waveform):
    vertices, triangles = ellipsoid
    free = simulate(vertices, triangles, array, waveform, facet_size=1.0)
    for layer in (Layer(0.2, 0.0, COTTON), Layer(0.2, 0.01, 1.0)):
        assert _relative(
            simulate(vertices, triangles, array, waveform, layer=layer, facet_size=1.0), free
        ) < (1e-12 if float(layer.thickness) == 0 else 1e-9)


def test_batch_of_layers_equals_loop(ellipsoid, array, waveform):
    vertices, triangles = ellipsoid
    batch = torch.stack([vertices, vertices + 0.01])
    eps = torch.tensor([COTTON, 2.0 - 0.1j])
    layers = Layer(0.2, torch.tensor([2e-3, 4e-3]), eps, echo=True)
    together = simulate(batch, triangles, array, waveform, layer=layers, facet_size=1.0)
    for b in range(2):
        alone = simulate(batch[b], triangles, array, waveform, layer=layers[b], facet_size=1.0)
        # Both skeletons hold 4e-4; the batch's is the one of its thickest layer.
        assert _relative(together[b], alone) < 1e-3


@pytest.mark.parametrize("method", ["cells", "direct"])
def test_gradients_equal_finite_differences(array, method):
    """Vertices and the layer's every number, in float64 along random lines; the functional is
    linear in the signal. Nanometre steps leave 1e-5 or so."""
    waveform = qar50_waveform(6)
    few = Array(array.tx[::6], array.rx[::6])
    vertices, triangles = meshes.sphere((0.0, 0.0, 0.33), 0.03, 0.012)
    generator = torch.Generator().manual_seed(3)
    probe = torch.randn((len(few.rx), len(few.tx), 6), generator=generator, dtype=torch.complex128)
    values = {
        "vertices": vertices,
        "distance": torch.tensor(0.2, dtype=torch.float64),
        "thickness": torch.tensor(3e-3, dtype=torch.float64),
        "real": torch.tensor(1.6, dtype=torch.float64),
        "loss": torch.tensor(0.05, dtype=torch.float64),
    }
    steps = {"vertices": 1e-9, "distance": 1e-8, "thickness": 1e-8, "real": 1e-6, "loss": 1e-6}

    def functional(vertices, distance, thickness, real, loss):
        layer = Layer(distance, thickness, torch.complex(real, -loss), echo=True)
        signal = simulate(
            vertices, triangles, few, waveform,
            layer=layer, material=0.3, antenna_size=3e-3, facet_size=6e-3, method=method,
        )  # fmt: skip
        return (signal * probe.conj()).real.sum()

    leaves = {name: v.clone().requires_grad_() for name, v in values.items()}
    gradients = torch.autograd.grad(functional(**leaves), list(leaves.values()))
    for (name, value), gradient in zip(values.items(), gradients, strict=True):
        line = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        ends = [
            functional(**{**values, name: value + sign * steps[name] * line}) for sign in (1, -1)
        ]
        difference = float(ends[0] - ends[1]) / (2 * steps[name])
        slope = float((gradient * line).sum())
        assert math.isclose(slope, difference, rel_tol=2e-4), (name, slope, difference)


def test_echo_equals_a_large_plate():
    """A slab that is opaque echoes like a plate of its material by physical optics. The plate's
    edges answer 8 cm and more behind the mirror point and are gated out along range. An array so
    small that the one direction which stands for all its antennas does."""
    places = torch.tensor([[-10, 2, 0], [0, 1, 0], [10, -2, 0]], dtype=torch.float64) * 1e-3
    few = Array(places, places[:, [1, 0, 2]])
    waveform = qar50_waveform(32)
    eps, distance = 6.6 - 8.9j, 0.15
    plate = meshes.plate((0, 0, distance), 0.44, 0.44, 2.2e-3)
    wanted = simulate(
        *plate, few, waveform, permittivity=eps, antenna_size=2e-3, facet_size=1.0, method="direct"
    )
    echo = Layer(distance, 0.05, eps, echo=True).echo_signal(few, waveform, 2e-3)
    image = few.tx * few.tx.new_tensor([1, 1, -1]) + few.tx.new_tensor([0, 0, 2 * distance])
    path = (few.rx[:, None] - image).norm(dim=-1)[..., None]
    focus = torch.exp(1j * waveform.wavenumbers * path) * torch.hann_window(33)[1:]
    peaks = [(signal * focus).sum(-1) for signal in (wanted, echo)]
    # 1.4 % measured, twice that with facets of twice the size: their phase taken as linear.
    assert float((peaks[0] / peaks[1] - 1).abs().max()) < 0.02


def test_echo_is_added_to_the_signal(ellipsoid, array, waveform):
    vertices, triangles = ellipsoid
    values, size = (0.2, 3e-3, COTTON), torch.tensor(3e-3, dtype=torch.float64)
    quiet, loud = (
        simulate(
            vertices, triangles, array, waveform,
            layer=Layer(*values, echo=echo), antenna_size=size, facet_size=1.0,
        )
        for echo in (False, True)
    )  # fmt: skip
    alone = Layer(*values).echo_signal(array, waveform, size)
    assert _relative(loud - quiet, alone) < 1e-12
    # Reciprocal, as everything passive is.
    swapped = Layer(*values).echo_signal(array.swapped(), waveform, size)
    assert _relative(swapped.transpose(0, 1), alone) < 1e-12


def test_paths_with_several_reflections_cross_it_twice():
    """A corner on the axis of one antenna: all paths cross at nearly normal incidence."""
    antenna = Array(torch.zeros(1, 3), torch.zeros(1, 3))
    waveform = Waveform(torch.tensor([72e9, 77e9], dtype=torch.float64))
    mesh = meshes.corner((0, 0, 2.0), 0.02, 0.012)
    options = {"bounces": 3, "antenna_size": 0.0, "permittivity": None}
    layer = Layer(0.2, 4e-3, 2.0 - 0.1j)
    free, behind = (
        multiple_bounces(*mesh, antenna, waveform, layer=x, **options) for x in (None, layer)
    )
    once = layer.leg_factor(waveform.wavenumbers, torch.ones(1, dtype=torch.float64))[:, 0]
    assert _relative(behind, free * once**2) < 1e-3


# -- the renderer, and what is refused -------------------------------------------------------------


def test_renderer_takes_a_layer():
    model = load_model("procedural")
    grid = Grid.regular(0.20, 16, 0.29, 0.37, 8)
    face = FaceParameters.neutral()
    thickness = torch.tensor(3e-3, dtype=torch.float64, requires_grad=True)
    free = PhysicalRenderer(model, grid=grid, waveform=qar50_waveform(12))
    behind = PhysicalRenderer(
        model, grid=grid, waveform=qar50_waveform(12), layer=Layer(0.2, thickness, COTTON)
    )
    volumes = [r.volume(face).abs() for r in (free, behind)]
    (gradient,) = torch.autograd.grad(volumes[1].square().sum(), thickness)
    assert volumes[1].detach().max() < 0.95 * volumes[0].max()
    # Thicker is darker.
    assert float(gradient) < 0
    assert "layer" not in free.settings()
    assert behind.settings()["layer"]["thickness"] == 3e-3
    assert digest(free.settings()) != digest(behind.settings())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.0, 3e-3, 2.0), "distance"),
        ((0.2, -1e-3, 2.0), "thickness"),
        ((0.2, math.nan, 2.0), "finite"),
        ((0.2, 3e-3, 0.5), "permittivity"),
        ((0.2, 3e-3, 2.0 + 0.1j), "permittivity"),
        ((0.2, 3e-3 + 0j, 2.0), "thickness"),
        ((torch.full((2, 2), 0.2), 3e-3, 2.0), "distance"),
    ],
)
def test_bad_layers(values, words):
    with pytest.raises(InputError, match=words):
        Layer(*values)


def test_layer_must_lie_in_between(ellipsoid, array, waveform):
    vertices, triangles = ellipsoid  # from 0.30 m
    for layer in (Layer(0.299, 5e-3, COTTON), Layer(0.2, torch.full((3,), 3e-3), COTTON)):
        with pytest.raises(InputError, match="layer"):
            simulate(vertices, triangles, array, waveform, layer=layer)


def test_wavelength_of_the_bound():
    """The wavenumber that the bounds above are written with is the band's."""
    assert 2 * math.pi * 77e9 / C0 == pytest.approx(1613, rel=1e-3)


def test_the_physics_page_states_the_delay_of_the_blanket():
    """Its table, against the slab's own closed form sampled finely enough not to lose a turn."""
    wave = qar50_waveform(33)
    k = wave.wavenumbers

    def group_delay(degrees):
        q = (COTTON - math.sin(math.radians(degrees)) ** 2) ** 0.5
        cosine = math.cos(math.radians(degrees))
        phase = np.exp(-1j * k.numpy() * q * 3e-3)
        total = 0
        for r in ((cosine - q) / (cosine + q), (q - COTTON * cosine) / (q + COTTON * cosine)):
            total = total + (1 - r**2) * phase / (1 - r**2 * phase**2) / 2
        factor = total * np.exp(1j * k.numpy() * 3e-3 * cosine)
        turns = np.angle(factor[1:] / factor[:-1]).sum()
        return -1e3 * turns / float(k[-1] - k[0]), float(np.abs(factor).mean())

    straight, attenuation = group_delay(0.0)
    assert 1e3 * BLANKET.delay(wave) == pytest.approx(straight, abs=1e-4)
    # Half of the last digit that the page states.
    assert straight == pytest.approx(0.87, abs=0.005)
    assert group_delay(15.0)[0] == pytest.approx(0.89, abs=0.005)
    assert 3 * ((COTTON**0.5).real - 1) == pytest.approx(0.80, abs=0.005)
    assert attenuation == pytest.approx(0.905, abs=5e-4)
