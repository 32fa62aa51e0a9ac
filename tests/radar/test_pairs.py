"""Arrays other than a full product: signals, images and their adjoints."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from radarbook.errors import InputError
from radarbook.radar import meshes
from radarbook.radar.array import Array, qar50
from radarbook.radar.imaging import Grid, back_project, imaging_method, project
from radarbook.radar.layer import Layer
from radarbook.radar.pieces import Pieces
from radarbook.radar.simulate import simulate, simulate_points
from radarbook.radar.waveform import Waveform

WAVEFORM = Waveform(torch.linspace(24e9, 30e9, 6, dtype=torch.float64))


def raster(nx, ny, step=4e-3):
    x, y = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * step for n in (nx, ny))
    places = torch.cartesian_prod(x, y)
    return torch.cat([places, torch.zeros(len(places), 1, dtype=torch.float64)], 1)


def turn(degrees):
    a = math.radians(degrees)
    return torch.tensor(
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]],
        dtype=torch.float64,
    )


def arc(count, height):
    """On a cylinder about the scene: no plane holds it."""
    angle = torch.linspace(-1.2, 1.2, count, dtype=torch.float64)
    ring = torch.stack([0.3 * angle.sin(), 0 * angle, 0.3 - 0.3 * angle.cos()], 1)
    rows = torch.linspace(-0.05, 0.05, height, dtype=torch.float64)
    lift = torch.stack([0 * rows, rows, 0 * rows], 1)
    return (ring[:, None] + lift).reshape(-1, 3)


def few():
    array = qar50()
    return array.subset(tx=torch.arange(0, 94, 7), rx=torch.arange(0, 94, 8))


ARRAYS = {
    "product": few,
    "pairs": lambda: few().subset(
        channels=torch.rand(few().channels, generator=torch.Generator().manual_seed(1)) > 0.5
    ),
    "monostatic": lambda: Array.monostatic(raster(24, 18)),
    "synthetic aperture": lambda: Array.of_pairs(
        raster(90, 1), raster(90, 1) + torch.tensor([0.02, 0.01, 0.0], dtype=torch.float64)
    ),
    "one far transmitter": lambda: Array.of_pairs(
        torch.tensor([[300.0, 0.0, -950.0]]), raster(20, 22), unit="m"
    ),
    "tilted": lambda: few().moved(turn(35), torch.tensor([-0.17, 0.0, 0.05])),
    "tilted monostatic": lambda: Array.monostatic(raster(20, 20)).moved(
        turn(-30), torch.tensor([0.15, 0.02, 0.04])
    ),
    "not in one plane": lambda: Array.monostatic(arc(60, 9)),
}
GRID = Grid(
    torch.linspace(-0.06, 0.05, 23, dtype=torch.float64),
    torch.linspace(-0.04, 0.06, 21, dtype=torch.float64),
    torch.linspace(0.25, 0.33, 15, dtype=torch.float64),
)


@pytest.fixture(params=ARRAYS, name="case")
def case_(request):
    return ARRAYS[request.param]()


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


def test_points_are_the_closed_form(case):
    """Each sample of one point is e^{-jk(d_tx + d_rx)}: 1e-9 for float64 phases of a kilometre
    (1e6 rad times 1e-16, and a margin for the square roots)."""
    point = torch.tensor([[0.02, -0.01, 0.29]], dtype=torch.float64)
    signal = simulate_points(point, torch.ones(1, dtype=torch.float64), case, WAVEFORM)
    assert tuple(signal.shape) == case.signal_shape(6)
    tx, rx = case.every_pair().numpy().T
    path = sum(
        np.linalg.norm(p.numpy()[i] - point.numpy(), axis=1)
        for p, i in ((case.tx, tx), (case.rx, rx))
    )
    wanted = np.exp(-1j * path[:, None] * WAVEFORM.wavenumbers.numpy())
    np.testing.assert_allclose(signal.reshape(-1, 6).numpy(), wanted, atol=1e-9)


def test_fast_is_direct(case):
    """Of noise, the hardest signal, in complex64 against float64: the methods' bound, 1e-3 of the
    largest voxel."""
    signal = noise(*case.signal_shape(6))
    wanted = back_project(signal, case, WAVEFORM, GRID, method="direct")
    for method in ("fast", "clusters", None):
        volume = back_project(signal.to(torch.complex64), case, WAVEFORM, GRID, method=method)
        assert volume.dtype == torch.complex64
        assert float((volume - wanted).abs().max()) < 1e-3 * float(wanted.abs().max()), method


def test_direct_is_single_sums(case):
    """Against NumPy's sum over pairs and frequencies at 20 voxels, float64 against compiled
    complex64: 2e-5 of the largest, some hundred roundings of 6e-8 each."""
    signal = noise(*case.signal_shape(6))
    volume = back_project(signal.to(torch.complex64), case, WAVEFORM, GRID, method="direct")
    tx, rx = case.every_pair().numpy().T
    k, samples = WAVEFORM.wavenumbers.numpy(), signal.reshape(-1, 6).numpy()
    for z, y, x in np.random.default_rng(0).integers(0, GRID.shape, (20, 3)):
        v = np.array([GRID.x[x], GRID.y[y], GRID.z[z]])
        path = np.linalg.norm(case.tx.numpy()[tx] - v, axis=1)
        path = path + np.linalg.norm(case.rx.numpy()[rx] - v, axis=1)
        total = (samples * np.exp(1j * path[:, None] * k)).sum()
        assert abs(volume[z, y, x].item() - total) < 2e-5 * float(volume.abs().max())


def test_imaging_is_the_adjoint_of_simulation(case):
    """⟨A u, s⟩ = ⟨u, Aᴴ s⟩ with A the simulation of one point per voxel, float64: 1e-9 for the
    sums themselves (phases of 1e6 rad), 1e-3 for what interpolates."""
    some = Grid(GRID.x[::4], GRID.y[::4], GRID.z[::5])
    places = some.points().reshape(-1, 3)
    signal, values = noise(*case.signal_shape(6)), noise(len(places), seed=1)
    simulated = simulate_points(places, values, case, WAVEFORM)
    left = (simulated.conj() * signal).sum()
    scale = float(simulated.norm() * signal.norm())
    for method, bound in (("direct", 1e-9), ("clusters", 1e-3)):
        image = back_project(signal, case, WAVEFORM, some, method=method)
        right = (values.conj() * image.flatten()).sum()
        assert float((left - right).abs()) < bound * scale, method


@pytest.mark.parametrize("method", ["direct", "clusters"])
def test_project_is_the_exact_adjoint(case, method):
    """Of the same operator in float64, to rounding; the gradient is the adjoint, too."""
    signal = noise(2, *case.signal_shape(6)).requires_grad_()
    grid = Grid(GRID.x[::2], GRID.y[::3], GRID.z[::5])
    volume = noise(2, *grid.shape, seed=1)
    image = back_project(signal, case, WAVEFORM, grid, method=method, window="hann")
    back = project(volume, case, WAVEFORM, grid, method=method, window="hann")
    left, right = (volume.conj() * image).sum(), (back.conj() * signal).sum()
    assert float((left - right).detach().abs()) < 1e-9 * float(
        image.detach().norm() * volume.norm()
    )
    (gradient,) = torch.autograd.grad(image, signal, volume)
    torch.testing.assert_close(gradient, back, rtol=0, atol=1e-8 * float(back.abs().max()))


def test_positions_carry_gradients():
    """Of pairs by the direct sum, against a central difference of 1 µm: 1e-5, its own error."""
    tx, rx = raster(4, 3).requires_grad_(), raster(4, 3) + 0.01
    grid, signal = (
        Grid(torch.tensor([0.01]), torch.tensor([0.02]), torch.tensor([0.3])),
        noise(12, 6),
    )

    def value(tx):
        array = Array.of_pairs(tx, rx)
        return back_project(signal, array, WAVEFORM, grid).abs().sum()

    (gradient,) = torch.autograd.grad(value(tx), tx)
    step = torch.zeros_like(tx.detach())
    step[5, 1] = 1e-6
    with torch.no_grad():
        wanted = (value(tx + step) - value(tx - step)) / 2e-6
    assert float(gradient[5, 1]) == pytest.approx(float(wanted), rel=1e-5)


def test_raster_with_a_transmitter_a_kilometre_away():
    """96 x 96 positions: a point is where it is, at full strength (every pair and frequency in
    phase; 1e-3 is the method's bound)."""
    array = Array.of_pairs(torch.tensor([[0.0, 100.0, -995.0]]), raster(96, 96), unit="m")
    point = torch.tensor([[0.03, -0.02, 0.3]])
    signal = simulate_points(point, torch.ones(1), array, WAVEFORM)
    grid = Grid(
        torch.linspace(-0.1, 0.1, 41), torch.linspace(-0.1, 0.1, 41), torch.linspace(0.25, 0.35, 21)
    )
    assert imaging_method(array, WAVEFORM, grid) == "clusters"
    for given in (array, Array(array.tx, array.rx, unit="m")):  # as pairs, and as a product
        shaped = signal.reshape(given.signal_shape(6))
        volume = back_project(shaped, given, WAVEFORM, grid, method="fast").abs()
        z, y, x = np.unravel_index(int(volume.argmax()), grid.shape)
        found = [float(grid.x[x]), float(grid.y[y]), float(grid.z[z])]
        np.testing.assert_allclose(found, point[0].numpy(), atol=1e-6)
        assert float(volume.max()) == pytest.approx(96 * 96 * 6, rel=1e-3)


def test_memory_is_kept():
    """A grid is cut into boxes whose clusters fit, with the same result to the methods' bound."""
    array = ARRAYS["monostatic"]()
    signal = noise(*array.signal_shape(6)).to(torch.complex64)
    fine = Grid.regular(0.2, 80, 0.22, 0.34, 30)
    whole = back_project(signal, array, WAVEFORM, fine, method="clusters")
    small = back_project(signal, array, WAVEFORM, fine, method="clusters", memory=2**20)
    assert float((whole - small).abs().max()) < 2e-3 * float(whole.abs().max())


def test_threads_do_not_change_it():
    array = ARRAYS["monostatic"]()
    signal = noise(*array.signal_shape(6)).to(torch.complex64)
    known, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.no_grad():
                results.append(back_project(signal, array, WAVEFORM, GRID, method="clusters"))
    finally:
        torch.set_num_threads(known)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_plane_anywhere_is_the_same_voxels():
    """An oblique plane's voxels are the direct sum at its points."""
    array = ARRAYS["monostatic"]()
    signal = noise(*array.signal_shape(6))
    plane = Grid.plane((0.01, 0.0, 0.3), (0.08, 0.0, 0.06), (0.0, 0.1, 0.0), (9, 7))
    image = back_project(signal, array, WAVEFORM, plane, method="direct")
    points = plane.points()[0]
    for y, x in ((0, 0), (3, 8), (6, 2)):
        p = points[y, x]
        one = Grid(p[0:1], p[1:2], p[2:3])
        wanted = back_project(signal, array, WAVEFORM, one, method="direct")
        torch.testing.assert_close(image[0, y, x], wanted[0, 0, 0])
    np.testing.assert_allclose(points.mean((0, 1)), [0.01, 0, 0.3], atol=1e-12)


# -- signals of meshes -------------------------------------------------------------------------


@pytest.fixture(scope="module", name="ball")
def ball_():
    return meshes.sphere((0.01, -0.02, 0.33), radius=0.03, facet=2e-3)


def test_channels_are_those_of_the_product(ball):
    """Missing channels are entries of the product, to rounding: 1e-6 of complex64 sums."""
    vertices, triangles = ball
    product, some = few(), ARRAYS["pairs"]()
    whole = simulate(vertices.float(), triangles, product, WAVEFORM)
    tx, rx = some.pairs.unbind(1)
    signal = simulate(vertices.float(), triangles, some, WAVEFORM)
    torch.testing.assert_close(signal, whole[rx, tx], rtol=0, atol=1e-6 * float(whole.abs().max()))


@pytest.mark.parametrize("method", ["direct", None])
def test_sparse_pairs_are_those_of_the_product(ball, method):
    """24 of 168 pairs, simulated by neighbours. Facets of at most 1 mm answer towards the
    neighbours' middle instead of the array's. That is 2 % of their second-order phase, and another
    angle of incidence for the reflection coefficient, by up to 13 degrees: 1e-2 of the signal."""
    vertices, triangles = ball
    product = few()
    chosen = product.every_pair()[::7]
    options = {"facet_size": 1e-3, "method": method}
    whole = simulate(vertices.float(), triangles, product, WAVEFORM, **options)
    signal = simulate(
        vertices.float(), triangles, product.replace(pairs=chosen), WAVEFORM, **options
    )
    tx, rx = chosen.unbind(1)
    error = (signal - whole[rx, tx]).norm() / whole[rx, tx].norm()
    assert float(error) < 1e-2


def test_gradients_of_pairs(ball):
    """Derivative along a random displacement of the vertices against a central difference of
    0.1 µm in float64: 1e-6, whose error is (2k · 1e-7)² and rounding."""
    vertices, triangles = meshes.sphere((0.01, -0.02, 0.33), radius=0.03, facet=8e-3)
    array = Array.monostatic(raster(5, 4, 0.02))
    generator = torch.Generator().manual_seed(2)
    towards = torch.randn(vertices.shape, dtype=torch.float64, generator=generator)
    weights = noise(*array.signal_shape(6))
    shared = Pieces.of(vertices, triangles, array)

    def value(v):
        signal = simulate(v, triangles, array, WAVEFORM, pieces=shared, method="direct")
        return (signal * weights).sum().real

    start = vertices.double().requires_grad_()
    (gradient,) = torch.autograd.grad(value(start), start)
    with torch.no_grad():
        ahead, behind = (value(vertices + s * 1e-7 * towards) for s in (1, -1))
    assert float((gradient * towards).sum()) == pytest.approx(
        float(ahead - behind) / 2e-7, rel=1e-5
    )


@pytest.mark.parametrize("name", ARRAYS)
def test_a_small_ball_is_where_it_is(name):
    """A conducting ball of 2 mm radius, imaged on planes every 5.7 mm: its peak is within a voxel
    and a fifth of the range resolution (25 mm), 5 mm, in range and within a voxel across. A line
    cannot tell directions about itself apart: only x is looked at."""
    vertices, triangles = meshes.sphere((0.02, 0.0, 0.3), radius=2e-3, facet=1e-3)
    array = ARRAYS[name]()
    signal = simulate(
        vertices.float(), triangles, array, WAVEFORM, permittivity=None, antenna_size=0.0
    )
    assert tuple(signal.shape) == array.signal_shape(6)
    volume = back_project(signal, array, WAVEFORM, GRID).abs()
    z, y, x = np.unravel_index(int(volume.argmax()), GRID.shape)
    assert float(GRID.x[x]) == pytest.approx(0.02, abs=0.006)
    if name != "synthetic aperture":
        assert float(GRID.y[y]) == pytest.approx(0.0, abs=0.006)
        assert float(GRID.z[z]) == pytest.approx(0.3, abs=0.011)


def test_a_layer_needs_an_array_at_home(ball):
    vertices, triangles = ball
    with pytest.raises(InputError, match="not moved"):
        simulate(
            vertices.float(), triangles, ARRAYS["tilted"](), WAVEFORM,
            layer=Layer(0.1, 2e-3, 3.0 - 0.1j),
        )  # fmt: skip
