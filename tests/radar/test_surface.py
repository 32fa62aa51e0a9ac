"""Smooth surfaces through meshes: geometry against known bodies, signals against fine meshes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from benchmarks.referee.surface import Patches, _divided
from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.radar import meshes
from radarbook.radar.array import Array, qar50
from radarbook.radar.layer import Layer
from radarbook.radar.pieces import Pieces
from radarbook.radar.simulate import simulate
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.waveform import qar50_waveform
from tests.fitting.scenes import face, renderer

ARRAY = qar50().subset(tx=torch.arange(0, 94, 8), rx=torch.arange(0, 94, 8))
WAVEFORM = qar50_waveform(5)
FLAT = {"method": "direct", "facet_size": 1.0}


def _smooth(mesh):
    """The surface through a mesh, as an option of the simulation."""
    return {"surface": SmoothSurface.of(*mesh)}


def _coherence(a, b):
    return float((a.conj() * b).sum().abs() / (a.norm() * b.norm()))


def _relative(a, b):
    return float((a - b).norm() / b.norm())


def _wavy(edge: float) -> meshes.Mesh:
    """A patch of 14 cm with ripples of some 8 cm, whose smallest radius is about 20 mm."""
    x = torch.arange(-0.07, 0.07 + 1e-9, edge, dtype=torch.float64)
    x, y = torch.meshgrid(x, x, indexing="ij")
    z = 0.3 + x**2 / 0.14 + y**2 / 0.18 + 0.004 * torch.cos(x / 0.012) * torch.cos(y / 0.015)
    number = torch.arange(x.numel()).reshape(x.shape)
    a, b, c, d = (
        part.flatten()
        for part in (number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:])
    )
    triangles = torch.cat([torch.stack([a, c, b], 1), torch.stack([b, c, d], 1)])
    return torch.stack([x, y, z], -1).reshape(-1, 3), triangles


def _ellipsoid(edge: float) -> meshes.Mesh:
    """Half axes 40, 55 and 30 mm: vertices on it at any fineness."""
    vertices, triangles = meshes.sphere((0.0, 0.0, 0.0), 1.0, edge / 0.045)
    place = torch.tensor([0.01, -0.02, 0.33], dtype=torch.float64)
    return vertices * torch.tensor([0.040, 0.055, 0.030], dtype=torch.float64) + place, triangles


def _sphere(edge: float) -> meshes.Mesh:
    return meshes.sphere((0.01, -0.02, 0.33), 0.04, edge)


def _mesh_of(mesh: trimesh.Trimesh) -> meshes.Mesh:
    return (
        torch.tensor(np.array(mesh.vertices), dtype=torch.float64),
        torch.tensor(np.array(mesh.faces), dtype=torch.int64),
    )


def test_bulges_are_exact_on_a_sphere():
    """The parabola through a chord's ends along the circle's tangents: to (edge / radius)²."""
    vertices, triangles = _sphere(5e-3)
    bulges = SmoothSurface.of(vertices, triangles).bulges(vertices)
    corners = vertices[triangles]
    middle = (corners + corners.roll(-1, 1)) / 2 + bulges
    radius = (middle - vertices.mean(0)).norm(dim=-1)
    assert float((radius - 0.04).abs().max()) < 0.04 * (5e-3 / 0.04) ** 4
    flat = ((corners + corners.roll(-1, 1)) / 2 - vertices.mean(0)).norm(dim=-1)
    assert float((flat - 0.04).abs().max()) > 25e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_box_stays_a_box(dtype):
    """All its edges are creases and its faces flat: to the last bit, in its own precision."""
    box = trimesh.creation.box((0.05, 0.04, 0.03)).subdivide().subdivide()
    vertices, triangles = _mesh_of(box)
    turn = torch.from_numpy(trimesh.transformations.rotation_matrix(0.4, [1, 2, 3])[:3, :3])
    vertices = (vertices @ turn.T + torch.tensor([0.0, 0.0, 0.3])).to(dtype)
    surface = SmoothSurface.of(vertices, triangles)
    assert not surface.bulges(vertices).any() or dtype == torch.float32
    assert float(surface.bulges(vertices).abs().max()) < 1e-7
    # Three normals at each corner of the box.
    corner = int(vertices.norm(dim=1).argmax())
    normals = surface.normals(vertices)[triangles == corner]
    assert len(torch.unique((normals * 1e3).round(), dim=0)) == 3


def test_an_edge_between_smooth_sheets_stays_sharp():
    """A cylinder's side is round and its caps are flat, up to the rim."""
    radius = 0.03
    cylinder = trimesh.creation.cylinder(radius, 0.06, sections=40)
    vertices, triangles = _mesh_of(cylinder)
    surface = SmoothSurface.of(vertices, triangles)
    normals, bulges = surface.normals(vertices), surface.bulges(vertices)
    cap = (cylinder.face_normals[:, 2] ** 2 > 0.5).copy()
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert torch.allclose((normals[cap] @ axis).abs(), torch.ones(1, dtype=torch.float64))
    assert not bulges[cap].any()
    assert float((normals[~cap] @ axis).abs().max()) < 1e-12
    outward = torch.nn.functional.normalize(vertices[triangles][~cap][..., :2], dim=-1)
    # Max's weights are exact on a sphere; on a cylinder's long triangles to 2 %.
    assert float((normals[~cap][..., :2] - outward).norm(dim=-1).max()) < 0.08
    height = bulges[~cap][..., :2].norm(dim=-1).amax(1)
    sagitta = radius * (1 - math.cos(math.pi / 40))
    assert float(height.min()) > 0.7 * sagitta
    assert float(height.max()) < 1.3 * sagitta


def test_the_border_of_a_mesh_is_smooth_along_it():
    """A dome that is cut off: its rim's edges bulge as those inside do."""
    vertices, triangles = _sphere(5e-3)
    kept = (vertices[triangles][..., 2] < 0.32).all(1)
    triangles = triangles[kept]
    used, rows = triangles.unique(return_inverse=True)
    vertices, triangles = vertices[used], rows
    count = torch.zeros(len(vertices), len(vertices), dtype=torch.int64)
    for i in range(3):
        a, b = triangles[:, i], triangles[:, (i + 1) % 3]
        count.index_put_((a, b), torch.ones_like(a), accumulate=True)
    border = torch.stack(
        [(count + count.T)[triangles[:, i], triangles[:, (i + 1) % 3]] == 1 for i in range(3)],
        1,
    )
    bulges = SmoothSurface.of(vertices, triangles).bulges(vertices)
    chord = vertices[triangles].roll(-1, 1) - vertices[triangles]
    curvature = 8 * bulges.norm(dim=-1) / chord.square().sum(-1) * 0.04
    assert border.any()
    # One-sided normals are first order in the edge: an eighth of the radius here.
    assert 0.75 < float(curvature[border].min()) < float(curvature[border].max()) < 1.25


def test_neighbours_meet_without_a_gap():
    vertices, triangles = _wavy(5e-3)
    bulges = SmoothSurface.of(vertices, triangles).bulges(vertices)
    known: dict[tuple[int, int], torch.Tensor] = {}
    for t, bulge in zip(triangles.tolist(), bulges, strict=True):
        for i in range(3):
            ends = min(t[i], t[(i + 1) % 3]), max(t[i], t[(i + 1) % 3])
            # To rounding of a bulge of 50 µm.
            assert torch.allclose(known.setdefault(ends, bulge[i]), bulge[i], rtol=0, atol=1e-18)


def test_neither_order_nor_batch_matters():
    vertices, triangles = _sphere(8e-3)
    box, faces = _mesh_of(trimesh.creation.box((0.05, 0.04, 0.03)))
    turned = SmoothSurface.of(vertices, triangles.roll(1, 1)).bulges(vertices)
    bulges = SmoothSurface.of(vertices, triangles).bulges(vertices)
    assert torch.allclose(turned, bulges.roll(1, 1), atol=1e-18)
    # Of two meshes with one list of triangles, one has creases.
    spiky = box * torch.tensor([1.0, 1.0, 1e-3], dtype=torch.float64)
    both = SmoothSurface.of(torch.stack([box, spiky]), faces).bulges(torch.stack([box, spiky]))
    for mesh, found in zip((box, spiky), both, strict=True):
        assert torch.equal(SmoothSurface.of(mesh, faces).bulges(mesh), found)


def test_gradient_equals_finite_differences():
    vertices, triangles = _sphere(15e-3)
    surface = SmoothSurface.of(vertices, triangles)
    leaf = vertices.clone().requires_grad_()
    assert torch.autograd.gradcheck(surface.bulges, leaf, eps=1e-8, atol=1e-7, fast_mode=True)
    # A flat mesh bends when a vertex moves.
    plate, squares = meshes.plate((0.0, 0.0, 0.3), 0.04, 0.04, 0.01)
    flat = SmoothSurface.of(plate, squares)
    assert not flat.bulges(plate).any()
    leaf = plate.clone().requires_grad_()
    (slope,) = torch.autograd.grad(flat.bulges(leaf)[..., 2].square().sum() * 0, leaf)
    assert not slope.any()
    (slope,) = torch.autograd.grad(flat.bulges(leaf)[0, 0, 2], leaf)
    step = torch.zeros_like(plate)
    step[squares[0, 0], 2] = 1e-4
    found = flat.bulges(plate + step)[0, 0, 2] / 1e-4
    assert float(slope[squares[0, 0], 2]) == pytest.approx(float(found), rel=1e-3)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_compiled_bulges_are_those_of_torch(dtype, error):
    """Values and gradients, as a GPU takes them; of a mesh with creases."""
    box, faces = _mesh_of(trimesh.creation.cylinder(0.03, 0.06, sections=40).subdivide())
    bulged = box * (1 + 0.1 * torch.sin(40 * box.roll(1, 1))) + torch.tensor([0.0, 0.0, 0.3])
    surface = SmoothSurface.of(bulged, faces)
    probe = torch.randn(*faces.shape, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    found = []
    for way in (surface.bulges, surface._bulges):
        leaf = bulged.to(dtype).requires_grad_()
        value = way(leaf)
        found.append((value.detach(), *torch.autograd.grad((value * probe).sum(), leaf)))
    for compiled, expected in zip(*found, strict=True):
        assert _relative(compiled, expected) < error


@pytest.mark.parametrize("body", [_sphere, _ellipsoid, _wavy])
def test_coarse_mesh_is_coherent_with_a_fine_one(body):
    """2.5 mm edges against vertices of the body itself 0.6 mm apart; flat, the coarse one loses."""
    reference = simulate(*body(0.6e-3), ARRAY, WAVEFORM, **FLAT)
    coarse = body(2.5e-3)
    smooth = simulate(*coarse, ARRAY, WAVEFORM, method="direct", **_smooth(coarse))
    flat = simulate(*coarse, ARRAY, WAVEFORM, method="direct")
    assert _coherence(smooth, reference) > 0.9995
    assert _coherence(smooth, reference) > _coherence(flat, reference)


@pytest.mark.parametrize("edge", [4e-3, 6e-3])
def test_sphere_is_nearer_to_its_closed_form(edge):
    """Physical optics of a conducting sphere: -a/2 e^{2jka} to 1/ka, with a phase that tells where
    its surface is; a flat mesh lies within."""
    radius, distance = 0.04, 20.0
    one = Array(torch.zeros(1, 3), torch.zeros(1, 3))
    mesh = meshes.sphere((0.0, 0.0, distance), radius, edge)
    k = WAVEFORM.wavenumbers
    ideal = {"antenna_size": 0.0, "permittivity": None}
    fine = meshes.sphere((0.0, 0.0, distance), radius, 0.7e-3)
    errors = {}
    for name, (body, smooth) in {
        "smooth": (mesh, True), "flat": (mesh, False), "fine": (fine, False)
    }.items():  # fmt: skip
        bent = _smooth(body) if smooth else {}
        signal = simulate(*body, one, WAVEFORM, method="direct", **bent, **ideal)[0, 0]
        wanted = -radius / 2 * torch.exp(-2j * k * (distance - radius)) / distance**2
        errors[name] = _relative(signal, wanted)
    # What the shadow's edge adds is in all of them.
    assert errors["smooth"] < errors["fine"] + 0.01
    assert errors["flat"] > 3 * abs(errors["smooth"] - errors["fine"]) + errors["fine"]


def _face(path: str | None = None, dtype=torch.float64) -> meshes.Mesh:
    model = load_model(path or "procedural")
    p = FaceParameters.neutral(1, n_shape=model.n_shape, n_expression=model.n_expression)
    return to_radar(model, p, 0.3)[0].to(dtype), model.triangles


def test_face_is_coherent_with_an_independent_refinement():
    """The referee's cubic patches through the same vertices, each in 16 parts."""
    vertices, triangles = _face()
    # Without creases, which the two treat differently: straight there, of two sides here.
    control = Patches(vertices.numpy(), triangles.numpy(), crease=math.pi)._control(
        vertices.numpy()[triangles.numpy()]
    )
    fine, parts = (torch.from_numpy(a) for a in _divided(control, 4))
    reference = simulate(fine, parts, ARRAY, WAVEFORM, **FLAT)
    bent = _smooth((vertices, triangles))
    smooth = simulate(vertices, triangles, ARRAY, WAVEFORM, method="direct", **bent)
    flat = simulate(vertices, triangles, ARRAY, WAVEFORM, method="direct")
    assert _coherence(smooth, reference) > 0.9995
    assert _coherence(flat, reference) < 0.993


def test_pieces_converge_as_they_get_smaller():
    vertices, triangles = _wavy(8e-3)
    bent = _smooth((vertices, triangles))
    sizes = (8e-3, 4e-3, 2e-3, 1e-3)
    signals = [
        simulate(vertices, triangles, ARRAY, WAVEFORM, method="direct", facet_size=s, **bent)
        for s in sizes
    ]
    errors = [_relative(signal, signals[-1]) for signal in signals[:-1]]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("layer", [None, Layer(0.2, 4e-3, 1.9 - 0.08j)], ids=["bare", "covered"])
def test_every_method_gives_the_same(layer):
    vertices, triangles = _wavy(4e-3)
    options = {**_smooth((vertices, triangles)), "material": 0.3, "layer": layer}
    reference = simulate(vertices, triangles, ARRAY, WAVEFORM, method="direct", **options)
    single = vertices.float()
    for method in ("cells", "kernels"):
        with torch.no_grad():
            found = simulate(single, triangles, ARRAY, WAVEFORM, method=method, **options)
        assert _relative(found, reference) < 5e-4, method
    leaf = single.clone().requires_grad_()
    found = simulate(leaf, triangles, ARRAY, WAVEFORM, method="kernels", **options)
    assert _relative(found, reference) < 5e-4
    two = simulate(torch.stack([single, single]), triangles, ARRAY, WAVEFORM, **options)
    assert _relative(two[1], reference) < 5e-4


@pytest.mark.parametrize("method", ["direct", "cells", "kernels"])
def test_gradient_of_a_signal(method):
    """Along a smooth deformation, against float64 central differences of the direct sum; pieces
    stay as they are."""
    vertices, triangles = _wavy(7e-3)
    bent = _smooth((vertices, triangles))
    pieces = Pieces.of(vertices, triangles, ARRAY, seed=None, **bent)
    stream = torch.Generator().manual_seed(3)
    shape = len(ARRAY.rx), len(ARRAY.tx), len(WAVEFORM)
    probe = torch.randn(*shape, dtype=torch.complex128, generator=stream)

    def value(points, method="direct"):
        signal = simulate(points, triangles, ARRAY, WAVEFORM, pieces=pieces, method=method)
        return (signal.to(probe.dtype) * probe).sum().real

    deformation = torch.zeros_like(vertices)
    deformation[:, 2] = torch.sin(vertices[:, 0] / 0.02) * torch.cos(vertices[:, 1] / 0.015)
    step = 1e-7
    expected = (value(vertices + step * deformation) - value(vertices - step * deformation)) / (
        2 * step
    )
    leaf = (vertices.float() if method == "kernels" else vertices).clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(leaf, method), leaf)
    found = float((slope.double() * deformation).sum())
    # In single precision phases are known to 1e-4, whose sum over facets cancels.
    assert found == pytest.approx(float(expected), rel=5e-3 if method == "kernels" else 2e-4)


def test_flat_meshes_radiate_as_they_did():
    """A smooth surface through a flat mesh is that mesh, to rounding."""
    mesh = meshes.plate((0.0, 0.0, 0.3), 0.05, 0.06, 0.004, tilt=(0.05, 0.02))
    flat, smooth = (
        simulate(*mesh, ARRAY, WAVEFORM, method="direct", **bent) for bent in ({}, _smooth(mesh))
    )
    assert _relative(smooth, flat) < 1e-10


def test_a_renderer_states_that_it_is_smooth():
    """So that flat and smooth images never lie in one dataset; flat ones keep their fingerprint."""
    smooth = renderer()
    flat = smooth.replace(smooth=False)
    assert smooth.smooth  # unless told
    assert flat.surface is None
    assert "smooth" not in flat.settings()
    assert smooth.settings() == {**flat.settings(), "smooth": True}
    p = face((0.5, -0.5))
    assert _relative(smooth.signal(p), flat.signal(p)) > 0.01


def test_edges_that_cannot_be_divided_are_refused():
    wall = torch.tensor([[-4.0, -4, 5], [4, -4, 5], [0, 4, 5]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"edges of at most 1024 facet sizes \(3\.07 m\), found 8"):
        Pieces.of(wall, torch.tensor([[0, 2, 1]]), ARRAY)
