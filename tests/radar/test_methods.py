"""One forward model: every method of ``simulate`` is the direct sum, whatever is asked of it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.radar import cells, simulate
from radarbook.radar.array import Array, qar50
from radarbook.radar.kernels import launch
from radarbook.radar.layer import Layer
from radarbook.radar.meshes import sphere
from radarbook.radar.pieces import Pieces
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform, qar50_waveform

BLANKET = Layer(0.2, 3e-3, 1.6 - 0.05j)
ARRAY = qar50().subset(tx=torch.arange(0, 94, 4), rx=torch.arange(1, 94, 4))
WAVEFORM = qar50_waveform(9)
#: Of signals, relative to their norm: what :func:`~radarbook.radar.simulate.simulate` states.
BOUND = 5e-4
#: Of gradients.
GRADIENT_BOUND = 4e-3
METHODS = [method for method in get_args(simulate.Method) if method != "direct"]
methods = pytest.mark.parametrize("method", METHODS)
CASES = {
    "plain": {},
    "layer": {"layer": BLANKET},
    "layer with its echo": {"layer": Layer(0.2, 3e-3, 1.6 - 0.05j, echo=True)},
    "material": {"material": 0.4},
    "rough": {"material": 1.0},
    "coherent part": {"material": 0.4, "seed": None},
    "conductor": {"permittivity": None},
    "large antennas": {"antenna_size": 4e-3},
    "large facets": {"facet_size": 1.0},
}


def _bodies() -> tuple[Tensor, Tensor]:
    """A ball and a smaller one before it, which hides a part of it."""
    first, triangles = sphere((0.015, -0.01, 0.33), 0.045, 6e-3)
    second, others = sphere((-0.01, 0.015, 0.27), 0.012, 4e-3)
    return torch.cat([first, second]).float(), torch.cat([triangles, others + len(first)])


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _signal(method: str | None, vertices: Tensor, triangles: Tensor, **options: Any) -> Tensor:
    return simulate.simulate(
        vertices,
        triangles,
        ARRAY,
        WAVEFORM,
        method=method,  # type: ignore[arg-type]
        **options,
    )


@methods
@pytest.mark.parametrize("hidden", [False, True], ids=["all seen", "visibility"])
@pytest.mark.parametrize("case", CASES)
def test_every_method_is_the_direct_sum(method: str, case: str, hidden: bool) -> None:
    vertices, triangles = _bodies()
    options = {**CASES[case], "visibility": None}
    if hidden:
        options["visibility"] = visibility(vertices, triangles, ARRAY)
    wanted = _signal("direct", vertices.double(), triangles, **options)
    assert _relative(_signal(method, vertices, triangles, **options), wanted) < BOUND


@methods
@pytest.mark.parametrize("material", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("body", ["face", "sphere"])
def test_every_method_is_the_direct_sum_on_a_body(method: str, body: str, material: float) -> None:
    """At the antennas and frequencies of a fit. Facets near the outline are lit by a part of the
    array; the rougher they are, the more they count."""
    array = qar50().subset(tx=torch.arange(0, 94, 2), rx=torch.arange(0, 94, 2))
    if body == "face":
        model = load_model()
        triangles = model.triangles
        vertices = to_radar(model, FaceParameters.neutral(1), 0.30)[0].float()
    else:
        points, triangles = sphere((0.0, 0.0, 0.33), 0.05, 4e-3)
        vertices = points.float()
    pieces = Pieces.of(
        vertices, triangles, array, visibility=visibility(vertices, triangles, array)
    )
    wanted, found = (
        simulate.simulate(
            points, triangles, array, WAVEFORM, pieces=pieces, material=material, method=way
        )
        for points, way in ((vertices.double(), "direct"), (vertices, method))
    )
    assert _relative(found, wanted) < BOUND


@pytest.mark.parametrize("material", [0.0, 1.0])
def test_cells_are_the_direct_sum_of_a_face_without_visibility(material: float) -> None:
    """The most facets seen edge-on: those of the whole outline, at few antennas."""
    model = load_model()
    points = to_radar(model, FaceParameters.neutral(1), 0.30)[0]
    pieces = Pieces.of(points.float(), model.triangles, ARRAY)
    wanted, found = (
        _signal(way, vertices, model.triangles, pieces=pieces, material=material)
        for vertices, way in ((points, "direct"), (points.float(), "cells"))
    )
    assert _relative(found, wanted) < BOUND


@methods
@pytest.mark.parametrize("layer", [False, True], ids=["bare", "layer"])
@pytest.mark.parametrize("memory", [2**29, 2**22], ids=["stored", "recomputed"])
def test_gradients_of_every_method_are_those_of_the_direct_sum(
    method: str, layer: bool, memory: int
) -> None:
    """Of the inner product with the signal of the bodies a fraction of a wavelength away, as a fit
    compares signals: the hand-written gradient in single precision, against torch's own of the
    direct sum in double precision. What moves a facet changes single samples more than their
    sum."""
    vertices, triangles = _bodies()
    probe = _signal("direct", vertices.double() + 3e-4, triangles)

    def gradients(method: str, points: Tensor) -> list[Tensor]:
        real = points.dtype
        leaves = [
            points.clone(),
            torch.tensor(0.3, dtype=real),
            torch.tensor(3e-3, dtype=real),
            torch.tensor(3e-3, dtype=torch.float64),
            torch.tensor(1.6 - 0.05j, dtype=torch.complex128),
        ]
        leaves = [leaf.requires_grad_() for leaf in (leaves if layer else leaves[:3])]
        slab = Layer(0.2, leaves[3], leaves[4]) if layer else None
        signal = _signal(
            method,
            leaves[0],
            triangles,
            material=leaves[1],
            antenna_size=leaves[2],
            layer=slab,
            memory=memory,
        )
        return list(torch.autograd.grad((signal * probe.conj()).real.sum(), leaves))

    found, wanted = gradients(method, vertices), gradients("direct", vertices.double())
    for mine, exact in zip(found, wanted, strict=True):
        assert _relative(mine, exact) < GRADIENT_BOUND


@methods
def test_frozen_pieces_follow_the_vertices(method: str) -> None:
    """Lighting, visibility and division of one mesh serve meshes that are moved a little: of each
    the signal is the direct sum over the same pieces, with the same weights."""
    vertices, triangles = _bodies()
    seen = visibility(vertices, triangles, ARRAY)
    pieces = Pieces.of(vertices, triangles, ARRAY, visibility=seen)
    weight = torch.rand(len(pieces), generator=torch.Generator().manual_seed(1))
    pieces = pieces.weighted(weight.double())
    batch = torch.stack([vertices, vertices + torch.tensor([1e-4, 0.0, 2e-4])])
    options = {"pieces": pieces, "material": torch.tensor([0.1, 0.3])}
    wanted = _signal("direct", batch.double(), triangles, **options)
    assert _relative(_signal(method, batch, triangles, **options), wanted) < BOUND
    apart = _signal(method, vertices, triangles, visibility=seen, material=0.1)
    assert _relative(apart, wanted[0]) > 0.05  # the weights count


def test_batches_of_layers_are_layers_one_by_one() -> None:
    vertices, triangles = _bodies()
    batch = torch.stack([vertices, vertices + 1e-3])
    layers = Layer(0.2, torch.tensor([2e-3, 4e-3]), torch.tensor([1.6 - 0.05j, 2.0 - 0.1j]))
    for method in METHODS:
        together = _signal(method, batch, triangles, layer=layers)
        for b in range(2):
            alone = _signal(method, batch[b], triangles, layer=layers[b])
            assert _relative(together[b], alone) < 1e-5


def test_the_number_of_samples_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels for few, cells for many or where kernels lack something, direct for gradients of
    positions."""
    vertices, triangles = sphere((0.0, 0.0, 0.33), 0.01, 6e-3)
    taken: list[str] = []
    for module, name in ((launch, "kernels"), (cells, "cells")):
        real = module.signal

        def noted(problem: Any, memory: int, real: Any = real, name: str = name) -> Tensor:
            taken.append(name)
            return real(problem, memory)  # type: ignore[no-any-return]

        monkeypatch.setattr(module, "signal", noted)
    single = vertices.float()
    uneven = Waveform(torch.tensor([72e9, 73e9, 80e9]))
    for points, array, waveform in (
        (single, ARRAY, WAVEFORM),  # 24 · 24 · 9 samples
        (single, qar50(), qar50_waveform(24)),
        (vertices, ARRAY, WAVEFORM),  # float64
        (single, ARRAY, uneven),
        (single, Array(ARRAY.tx.clone().requires_grad_(), ARRAY.rx), WAVEFORM),
    ):
        simulate.simulate(points, triangles, array, waveform)
    assert taken == ["kernels", "cells", "cells", "cells"]


def test_uneven_frequencies_are_the_direct_sum() -> None:
    vertices, triangles = _bodies()
    uneven = Waveform(torch.tensor([72e9, 73e9, 80e9]))
    found, wanted = (
        simulate.simulate(vertices, triangles, ARRAY, uneven, method=method)
        for method in ("cells", "direct")
    )
    assert _relative(found, wanted) < BOUND


def test_what_a_method_lacks_is_said_in_one_line() -> None:
    vertices, triangles = sphere((0.0, 0.0, 0.33), 0.01, 6e-3)
    uneven = Waveform(torch.tensor([72e9, 73e9, 80e9]))
    moving = Array(ARRAY.tx.clone().requires_grad_(), ARRAY.rx)
    for points, array, waveform, method, words in (
        (vertices, ARRAY, WAVEFORM, "kernels", "kernels need float32 vertices, found float64"),
        (vertices.float(), ARRAY, uneven, "kernels", "kernels need equal frequency steps"),
        (vertices.float(), moving, WAVEFORM, "kernels", "need method='direct'"),
        (vertices.float(), moving, WAVEFORM, "cells", "need method='direct'"),
        (vertices.float(), ARRAY, WAVEFORM, "fast", "expected direct, cells or kernels"),
    ):
        with pytest.raises(InputError, match=words):
            simulate.simulate(points, triangles, array, waveform, method=method)  # type: ignore[arg-type]
