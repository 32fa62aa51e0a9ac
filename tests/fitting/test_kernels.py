"""One kernel makes the waves that operations one by one make."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from radarbook.fitting import forward
from radarbook.fitting.decimation import decimate
from radarbook.fitting.forward import STEEPEST, ReducedPhysics
from radarbook.radar.kernels import launch
from radarbook.radar.layer import Layer, LegTable
from radarbook.radar.legs import gain_and_length
from radarbook.radar.pieces import Pieces
from radarbook.radar.scattering import SKIN_PERMITTIVITY, facet_response
from radarbook.radar.waveform import qar50_waveform
from radarbook.seeds import torch_stream
from tests.fitting.scenes import face, renderer

GPU = torch.cuda.is_available() and launch.available(torch.device("cuda"))
gpu = pytest.mark.skipif(not GPU, reason="needs a GPU and Triton")
COTTON = Layer(0.2, 3e-3, 1.6 - 0.05j)
layers = pytest.mark.parametrize("layer", [None, COTTON], ids=["bare", "covered"])
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])


def test_a_processor_has_a_kernel() -> None:
    assert launch.available(torch.device("cpu"))
    assert not launch.available(torch.device("meta"))


@pytest.mark.parametrize(("edge", "degree"), [(None, 2), (3e-3, 2), (12e-3, 4)])
def test_weights_are_the_polynomial_through_few_responses(edge: float | None, degree: int) -> None:
    k = qar50_waveform(9).wavenumbers
    nodes, weights = launch._interpolation(k, edge)
    assert len(nodes) == degree + 1

    def polynomial(k: torch.Tensor) -> torch.Tensor:
        t = (k - 1600) / 100
        return 2 - t + 3 * t.square() - t**degree

    assert torch.allclose(weights @ polynomial(nodes), polynomial(k))


@devices
@layers
@pytest.mark.parametrize("seen", [False, True])
def test_waves_are_the_closed_form(seen: bool, layer: Layer | None, device: str) -> None:
    """float64, leg by leg. Single precision leaves 3e-5: phases of some 500 radians."""
    stream = torch_stream(0, "test/fused")
    n, a, f = 90, 47, 10
    centre = torch.rand(n, 3, generator=stream) * 0.1 + torch.tensor([-0.05, -0.05, 0.28])
    tilt = 0.3 * torch.randn(n, 3, generator=stream) - torch.tensor([0.0, 0.0, 1.0])
    normal = torch.nn.functional.normalize(tilt, dim=1)
    antennas = (torch.rand(a, 3, generator=stream) - 0.5) * torch.tensor([0.14, 0.14, 0.0])
    size = 3 * torch.rand(n, generator=stream)
    sight = (torch.rand(n // 2, a, generator=stream) > 0.3).float() if seen else None
    weight = torch.randn(f, n, generator=stream, dtype=torch.complex64) if seen else None
    first, step = 1500.0, 3.1

    def there(value: torch.Tensor | None) -> torch.Tensor | None:
        return None if value is None else value.to(device)

    apart = centre.double()[:, None] - antennas.double()
    length = apart.norm(dim=-1)
    upright = apart[..., 2] / length
    k = first + step * torch.arange(f, dtype=torch.float64)
    crossing = None
    if layer is not None:
        powers, *line = LegTable.of(layer, k, float(upright.min()), torch.float32).powers()
        crossing = launch.Crossing(powers.to(device, torch.complex64), *line)
    on = [value.to(device) for value in (centre, normal, antennas, size)]
    found = launch.waves(launch.Leg(*on, there(sight), there(weight), crossing), (first, step, f))
    cosine = -(normal.double()[:, None] * apart).sum(-1) / length
    gain = torch.where(cosine > 1e-4, cosine.clamp(min=1e-4).sqrt(), 0.0) / length
    for axis in (0, 1):
        gain = gain * torch.sinc(apart[..., axis] / length * size.double()[:, None])
    if sight is not None:
        gain = gain * sight.repeat(2, 1)
    exact = torch.stack([torch.polar(gain, -number * length) for number in k.tolist()])
    if layer is not None:
        exact = exact * layer.leg_factor(k, upright)
    if weight is not None:
        exact = exact * weight[..., None]
    assert float((found.cpu() - exact).norm() / exact.norm()) < 1e-4


@devices
def test_gains_of_kernels_are_those_of_the_one_formula(device: str) -> None:
    """At wavenumber 0 a wave is its gain. float64 there; grazing and hidden facets included. Single
    precision leaves 1e-6 of the largest gain."""
    stream = torch_stream(3, "test/kernels")
    n, a = 200, 21
    centre = torch.rand(n, 3, generator=stream) * 0.1 + torch.tensor([-0.05, -0.05, 0.28])
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=stream), dim=1)
    antennas = (torch.rand(a, 3, generator=stream) - 0.5) * torch.tensor([0.14, 0.14, 0.02])
    size = 3 * torch.rand(n, generator=stream)
    on = launch.Leg(*(value.to(device) for value in (centre, normal, antennas, size)))
    found = launch.waves(on, (0.0, 0.0, 1))[0].cpu()
    exact, _ = gain_and_length(*(v.double() for v in (centre, normal, antennas, size[:, None])))
    assert bool((exact == 0).any())
    assert bool((exact > 0).any())
    assert float((found - exact).abs().max()) < 1e-6 * float(exact.max())


@pytest.mark.parametrize("antennas", [1, 8, 47])
def test_sums_are_those_of_all_legs(antennas: int) -> None:
    """Block by block, the last one not full; antennas that fill up vector registers do not show."""
    stream = torch_stream(1, "test/fused")
    n, f = 2 * launch.BLOCK + 3, 4
    centre = torch.rand(n, 3, generator=stream) * 0.1 + torch.tensor([-0.05, -0.05, 0.28])
    normal = torch.tensor([[0.0, 0.0, -1.0]]).expand(n, 3)
    where = [(torch.rand(antennas + i, 3, generator=stream) - 0.5) * 0.1 for i in range(2)]
    size = torch.full((n,), 1.5)
    seen = [None, (torch.rand(n, antennas + 1, generator=stream) > 0.3).float()]
    weight = torch.randn(f, n, generator=stream, dtype=torch.complex64)
    places = 1500.0, 3.1, f
    legs = [
        launch.Leg(centre, normal, a, size, sight) for a, sight in zip(where, seen, strict=True)
    ]
    found = launch.signal_on_cpu(legs[0], replace(legs[1], weight=weight), places)
    near, far = (launch.waves(leg, places).to(torch.complex128) for leg in legs)
    expected = torch.einsum("fn,fnr,fnt->frt", weight.to(torch.complex128), far, near)
    assert float((found - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.parametrize("permittivity", [None, SKIN_PERMITTIVITY])
@pytest.mark.parametrize("edge", [1e-3, 8e-3])
def test_radiators_are_the_facets_and_their_response(
    edge: float, permittivity: complex | None
) -> None:
    """float64 operations: whole triangles with weights, and pieces. Large facets at all tilts take
    the closed form of the phase integral, small ones its series."""
    stream = torch_stream(2, "test/fused")
    vertices = torch.randn(300, 3, generator=stream) * edge + torch.tensor([0.0, 0.0, 0.3])
    triangles = torch.arange(300).reshape(100, 3)
    parent = torch.randint(100, (250,), generator=stream)
    corners = torch.rand(250, 3, 3, generator=stream)
    corners = corners / corners.sum(2, keepdim=True)
    share, weight = torch.rand(250, generator=stream), torch.rand(100, generator=stream)
    three = torch.tensor([1500.0, 1600.0, 1700.0])
    parabola = torch.randn(4, 3, generator=stream)
    middle, material = torch.tensor([0.01, -0.02, 0.0]), 0.4
    response = launch.Response(middle, three, parabola, permittivity)
    every = torch.arange(100)
    for pieces in (
        Pieces(triangles, every, weight=weight),
        Pieces(triangles, parent, corners, share),
    ):
        centre, normal, lengths = launch.radiators_on_cpu(vertices, pieces, response, material)
        double = replace(
            pieces,
            corners=None if pieces.corners is None else pieces.corners.double(),
            share=None if pieces.share is None else pieces.share.double(),
        )
        f = double.facets(vertices.double())
        toward = torch.nn.functional.normalize(middle.double() - f.centre, dim=1)
        factor = torch.tensor(material, dtype=torch.float64)
        found = facet_response(f, toward, three.double(), factor, permittivity, None)
        if pieces.weight is not None:
            found = found * pieces.weight
        found = parabola.to(torch.complex128) @ found
        assert torch.allclose(centre.double(), f.centre, atol=1e-7)
        # Triangles that are nearly a line have a normal that rounding turns.
        fat = f.area > 0.02 * f.area.mean()
        assert torch.allclose(normal[fat].double(), f.normal[fat], atol=3e-5)
        # Corners are known to 3e-8 m, their phases to 1e-4.
        assert float((lengths - found).norm() / found.norm()) < 3e-4


@devices
@layers
@pytest.mark.parametrize("coarse", [False, True])
def test_signals_are_those_of_step_by_step(
    coarse: bool, layer: Layer | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    physical = renderer(layer=layer)
    physical = physical.replace(model=physical.model.to(device))
    options = {"facet_size": math.inf, "tilts": STEEPEST, "coarse": True} if coarse else {}
    reduced = ReducedPhysics(physical, decimate(physical.array, physical.waveform), **options)  # type: ignore[arg-type]
    frugal = reduced.replace(renderer=physical.replace(memory=1))
    one = face((0.5, -0.5), 0.3)
    several = type(one).cat([one, face((0.6, -0.5), 0.3), face((0.5, -0.5), 0.3, (1e-3, 0, 0))])
    with torch.no_grad():
        found = reduced.signal(several, like=one)
        with monkeypatch.context() as patch:
            patch.setattr(launch, "available", lambda device: False)
            expected = reduced.signal(several, like=one)
        monkeypatch.setattr(forward, "MEMORY", 1)
        single = frugal.signal(several, like=one)
    assert float((found - expected).norm() / expected.norm()) < 2e-4
    assert float((found - single).norm() / expected.norm()) < 1e-6


def test_one_face_is_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, as a fit may be resumed on a machine with other cores."""
    monkeypatch.setattr(launch, "PART", 200)
    physical = renderer()
    reduced = ReducedPhysics(physical, decimate(physical.array, physical.waveform))
    one = face((0.5, -0.5), 0.3)
    found, known = [], torch.get_num_threads()
    with torch.no_grad():
        assert len(reduced.lit(reduced.vertices(one)[0])) > 3 * launch.PART
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.append(reduced.replace().signal(one))
        finally:
            torch.set_num_threads(known)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
