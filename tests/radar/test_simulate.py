"""The simulated signal against brute force, and its gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from radarbook.errors import InputError
from radarbook.radar import meshes
from radarbook.radar.array import Array
from radarbook.radar.simulate import simulate, simulate_points
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import C0, qar50_waveform

SKIN = 6.6 - 8.9j


def _relative(a, b):
    return float((a - b).norm() / b.norm())


def _reference(vertices, triangles, array, waveform, size, eps=SKIN, quadrature=1):
    """Float64 loops over facets and frequencies, from the book's formulas and numpy alone.

    ``quadrature=1``: what :func:`simulate` states (facet centre, linear phase towards the array's
    middle, its integral by a fine midpoint rule). Larger: the Kirchhoff integral itself over
    quadrature² points a facet, with every point's own paths; no linear phase at all.
    """
    tx, rx = array.tx.numpy(), array.rx.numpy()
    f = waveform.frequencies.numpy()
    wavelength = C0 / ((f[0] + f[-1]) / 2)
    out = np.zeros((len(rx), len(tx), len(f)), dtype=complex)
    n = 160 if quadrature == 1 else quadrature
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    up, down = i + j < n, i + j < n - 1
    u, v = (
        np.concatenate(
            [
                np.stack([i[up] + 1 / 3, j[up] + 1 / 3]),
                np.stack([i[down] + 2 / 3, j[down] + 2 / 3]),
            ],
            1,
        )
        / n
    )
    for corners in vertices.numpy()[triangles.numpy()]:
        a, b, c = corners
        cross = np.cross(b - a, c - a)
        area, normal = np.linalg.norm(cross) / 2, cross / np.linalg.norm(cross)
        points = a + np.outer(u, b - a) + np.outer(v, c - a)
        places = corners.mean(0)[None] if quadrature == 1 else points
        toward = -places / np.linalg.norm(places, axis=1, keepdims=True)
        cosine = toward @ normal
        root = np.sqrt(eps - 1 + cosine**2 + 0j)
        gamma = (
            (cosine - root) / (cosine + root) + (root - eps * cosine) / (root + eps * cosine)
        ) / 2
        legs = []
        for antennas in (tx, rx):
            path = places[:, None] - antennas
            d = np.linalg.norm(path, axis=-1)
            way = path / d[..., None]
            lit = np.maximum(-(way @ normal), 0)
            gain = np.sqrt(lit) * np.sinc(way[..., 0] * size / wavelength)
            legs.append((d, gain * np.sinc(way[..., 1] * size / wavelength) / d))
        (dt, gt), (dr, gr) = legs
        for s, frequency in enumerate(f):
            k = 2 * np.pi * frequency / C0
            weight = 1j * k / (2 * np.pi) * gamma * area
            if quadrature == 1:
                weight = weight * np.exp(2j * k * (points - places) @ toward[0]).mean()
            else:
                weight = weight / len(places)
            out[:, :, s] += (weight[:, None] * gr * np.exp(-1j * k * dr)).T @ (
                gt * np.exp(-1j * k * dt)
            )
    return torch.from_numpy(out)


@pytest.fixture(scope="module")
def ball():
    """320 facets of a 4 cm ball, off axis."""
    return meshes.sphere((0.02, -0.01, 0.33), 0.04, 0.012)


@pytest.mark.parametrize("size", [0.0, 3e-3])
def test_equals_a_double_loop(ball, array, size):
    """Within 1e-3 in complex64: ``cells`` interpolates within 4e-4, the reference's phase
    integral is a midpoint rule good to 1e-4, single precision adds 1e-5."""
    waveform = qar50_waveform(12)
    vertices, triangles = ball
    vertices = vertices.float()
    reference = _reference(vertices.double(), triangles, array, waveform, size)
    for method in ("cells", "direct"):
        signal = simulate(
            vertices,
            triangles,
            array,
            waveform,
            antenna_size=size,
            facet_size=1.0,
            method=method,
        )
        assert signal.dtype == torch.complex64
        assert _relative(signal.to(torch.complex128), reference) < 1e-3, method


def test_converges_to_the_kirchhoff_integral(array):
    """Against the integral with every point's own paths: the error falls with the facet's size,
    and at the default size it is what the approximation (one direction a facet) leaves."""
    few = Array(array.tx[::12], array.rx[::12])
    waveform = qar50_waveform(3)
    mesh = meshes.sphere((0.0, 0.01, 0.32), 0.03, 0.009)
    reference = _reference(*mesh, few, waveform, 2e-3, quadrature=24)
    errors = [
        _relative(simulate(*mesh, few, waveform, facet_size=size, method="direct"), reference)
        for size in (1.0, 6e-3, 3e-3, 1.5e-3)
    ]
    assert errors == sorted(errors, reverse=True), errors
    assert errors[2] < 0.06, errors
    assert errors[3] < 0.02, errors


def test_cells_are_direct_on_a_face(ict_face, array, waveform):
    vertices, triangles = ict_face
    seen = visibility(vertices, triangles, array)
    cells, direct = (
        simulate(
            vertices.float(), triangles, array, waveform,
            material=0.2, visibility=seen, facet_size=0.01, method=method,
        )
        for method in ("cells", "direct")
    )  # fmt: skip
    assert _relative(cells, direct) < 1e-3


@pytest.mark.parametrize("memory", [2**29, 2**20])
def test_batch_equals_loop(ellipsoid, array, waveform, memory):
    """One problem for all meshes, or, on little memory, a few at a time; the last one stands in
    another box of space and has a skeleton of its own. The same sums, perhaps in another order:
    matrix products of other sizes may be summed otherwise."""
    vertices, triangles = ellipsoid
    batch = torch.stack([vertices, vertices + 0.01, vertices * 0.9, vertices + 0.2]).float()
    # The third one's cells would not be seen at all, and it must not disturb the others.
    seen = torch.ones(4, len(triangles), 4)
    seen[2] = 0
    options = {
        "material": torch.tensor([0.1, 0.4, 0.0, 0.2]),
        "antenna_size": torch.tensor([1e-3, 4e-3, 2e-3, 2e-3]),
        "visibility": seen,
    }
    together = simulate(batch, triangles, array, waveform, facet_size=1.0, memory=memory, **options)
    assert (together[2] == 0).all()
    for b in range(4):
        alone = {name: value[b] for name, value in options.items()}
        single = simulate(batch[b], triangles, array, waveform, facet_size=1.0, **alone)
        assert _relative(together[b], single) < 1e-5 or b == 2


def test_gradient_of_a_batch_equals_those_of_its_meshes(ellipsoid, array):
    """Vertices, material and antenna size of three meshes, two of which share a skeleton."""
    waveform = qar50_waveform(4)
    vertices, triangles = ellipsoid
    values = {
        "vertices": torch.stack([vertices, vertices + 0.2, vertices + 0.01]),
        "material": torch.tensor([0.1, 0.4, 0.2], dtype=torch.float64),
        "antenna_size": torch.tensor([1e-3, 4e-3, 2e-3], dtype=torch.float64),
    }
    probe = torch.randn(
        (3, 94, 94, 4), generator=torch.Generator().manual_seed(5), dtype=torch.complex128
    )

    def gradients(b):
        leaves = {name: value[b].clone().requires_grad_() for name, value in values.items()}
        points = leaves.pop("vertices")
        signal = simulate(points, triangles, array, waveform, facet_size=1.0, **leaves)
        value = (signal * probe[b].conj()).real.sum()
        return torch.autograd.grad(value, [points, *leaves.values()])

    together = gradients(slice(None))
    for b in range(3):
        for all_of_them, one in zip(together, gradients(b), strict=True):
            assert _relative(all_of_them[b], one) < 1e-10


def test_memory_budget_changes_nothing(ellipsoid, array, waveform):
    vertices, triangles = ellipsoid
    signals = [
        simulate(vertices, triangles, array, waveform, facet_size=1.0, memory=memory)
        for memory in (2**20, 2**29)
    ]
    # Chunks change the order of sums only.
    assert _relative(*signals) < 1e-12


def test_reciprocity(ellipsoid, array, waveform):
    """Swapping transmitters and receivers transposes the signal.

    Direct: to rounding. Cells: the skeletons of both sides differ, so to their tolerance.
    """
    vertices, triangles = ellipsoid
    for method, bound in (("direct", 1e-12), ("cells", 1e-3)):
        there, back = (
            simulate(vertices, triangles, a, waveform, material=0.3, facet_size=1.0, method=method)
            for a in (array, array.swapped())
        )
        assert _relative(back.transpose(0, 1), there) < bound


def test_facets_seen_from_behind_do_not_radiate(array, waveform):
    vertices, triangles = meshes.plate((0, 0, 0.3), 0.05, 0.05, 0.01)
    back = simulate(vertices, triangles.flip(1), array, waveform)
    assert (back == 0).all()
    assert simulate(vertices, triangles, array, waveform).abs().max() > 0.1


def test_translation_along_z_is_the_translation_of_the_array(ellipsoid, array, waveform):
    vertices, triangles = ellipsoid
    shift = torch.tensor([0, 0, 0.05], dtype=torch.float64)
    moved = simulate(vertices + shift, triangles, array, waveform, facet_size=1.0)
    other = Array(array.tx - shift, array.rx - shift)
    reference = simulate(vertices, triangles, other, waveform, facet_size=1.0, method="direct")
    assert _relative(moved, reference) < 1e-3


def test_points_obey_their_formula(array, waveform):
    position = torch.tensor([[0.01, -0.03, 0.31]], dtype=torch.float64)
    signal = simulate_points(position, torch.tensor([2.0 - 1j]), array, waveform)
    d = (position - array.tx).norm(dim=1) + (position - array.rx).norm(dim=1)[:, None]
    wanted = (2 - 1j) * torch.exp(-1j * d[..., None] * waveform.wavenumbers)
    assert _relative(signal, wanted) < 1e-12
    single = simulate_points(position.float(), torch.ones(1), array, waveform)
    assert single.dtype == torch.complex64


def test_vertex_gradient_equals_finite_differences(array):
    """Every differentiable input in float64, against central differences along random lines.

    The functional is an inner product with a fixed random signal: linear, so what is tested is
    the simulation. 1e-5 is the differences' own error at a step of a nanometre.
    """
    waveform = qar50_waveform(6)
    few = Array(array.tx[::6], array.rx[::6])
    vertices, triangles = meshes.sphere((0.0, 0.0, 0.33), 0.03, 0.012)
    generator = torch.Generator().manual_seed(2)
    shape = (len(few.rx), len(few.tx), 6)
    probe = torch.randn(shape, generator=generator, dtype=torch.complex128)
    values = {
        "vertices": vertices,
        "material": torch.tensor(0.3, dtype=torch.float64),
        "size": torch.tensor(3e-3, dtype=torch.float64),
    }
    steps = {"vertices": 1e-9, "material": 1e-5, "size": 1e-8}

    def functional(method, vertices, material, size):
        signal = simulate(
            vertices, triangles, few, waveform,
            material=material, antenna_size=size, facet_size=6e-3, method=method,
        )  # fmt: skip
        return (signal * probe.conj()).real.sum()

    for method in ("cells", "direct"):
        inputs = {name: v.clone().requires_grad_() for name, v in values.items()}
        gradients = torch.autograd.grad(functional(method, **inputs), list(inputs.values()))
        for (name, value), gradient in zip(values.items(), gradients, strict=True):
            line = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            ends = [
                functional(method, **{**values, name: value + sign * steps[name] * line})
                for sign in (1, -1)
            ]
            difference = float(ends[0] - ends[1]) / (2 * steps[name])
            slope = float((gradient * line).sum())
            assert math.isclose(slope, difference, rel_tol=1e-4), (method, name, slope, difference)


def test_antenna_gradient_equals_finite_differences(array):
    waveform = qar50_waveform(4)
    vertices, triangles = meshes.sphere((0.0, 0.0, 0.33), 0.03, 0.012)
    tx = array.tx[::12].clone().requires_grad_()
    rx = array.rx[::12]

    def power(tx):
        few = Array(tx, rx)
        signal = simulate(vertices, triangles, few, waveform, facet_size=1.0, method="direct")
        return (signal.real * torch.linspace(0, 1, 4)).sum()

    (gradient,) = torch.autograd.grad(power(tx), tx)
    line = torch.randn(tx.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-8
    with torch.no_grad():
        difference = float(power(tx + step * line) - power(tx - step * line)) / (2 * step)
    assert math.isclose(float((gradient * line).sum()), difference, rel_tol=1e-4)
    with pytest.raises(InputError, match="direct"):
        simulate(vertices, triangles, Array(tx, rx), waveform, method="cells")


@pytest.mark.parametrize(
    ("vertices", "triangles", "words"),
    [
        (torch.zeros(3), torch.zeros(1, 3, dtype=torch.int64), "vertices"),
        (torch.zeros(3, 3), torch.zeros(3, dtype=torch.int64), "triangles"),
        (torch.zeros(3, 3, dtype=torch.float16), torch.zeros(1, 3, dtype=torch.int64), "float32"),
    ],
)
def test_bad_input(vertices, triangles, words, array, waveform):
    with pytest.raises(InputError, match=words):
        simulate(vertices, triangles, array, waveform)
