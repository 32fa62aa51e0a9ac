"""The procedural face: an even mesh, orthogonal modes that mean what they say, BFM's distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from radarbook.faces import procedural
from radarbook.faces.model import REGIONS
from radarbook.faces.procedural import EXPRESSION_MODES, SHAPE_MODES, procedural_model


@pytest.fixture(scope="module")
def model():
    return procedural_model()


@pytest.fixture(scope="module")
def mesh(model):
    return trimesh.Trimesh(model.mean.numpy(), model.triangles.numpy(), process=False)


def test_mesh_is_a_disc_facing_forward(model, mesh):
    assert 15_000 <= len(model.triangles) <= 30_000
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 1  # one piece, one border, no holes
    assert mesh.area_faces.min() > 0.05
    assert (mesh.face_normals * mesh.area_faces[:, None]).sum(0)[2] > 0
    assert set(np.unique(model.triangles)) == set(range(model.n_vertices))


def test_edges_are_even(mesh):
    lengths = mesh.edges_unique_length
    assert np.median(lengths) < 1.8
    assert lengths.max() <= 2.5
    # bisection of the longest edge leaves no slivers
    assert np.degrees(trimesh.triangles.angles(mesh.triangles)).min() > 12


def test_face_is_symmetric(model):
    mean = model.mean.numpy()
    distance, _ = cKDTree(mean).query(mean * [-1, 1, 1])
    # where a quad can be cut along either diagonal the two sides may be smoothed a little apart
    assert np.percentile(distance, 99) < 0.6


def test_building_is_deterministic(model):
    procedural_model.cache_clear()
    again = procedural_model()
    assert again.fingerprint == model.fingerprint


def test_another_processor_builds_the_same_bits(model, monkeypatch):
    """Shipped weights and datasets know their face by its fingerprint.

    Sines differ from processor to processor in the last bit or two; here by ten times as much.
    """
    draw = np.random.default_rng(0)
    surface = procedural.surface

    def elsewhere(u, v):
        points = surface(u, v)
        return points * (1 + 2e-15 * draw.standard_normal(points.shape))

    monkeypatch.setattr(procedural, "surface", elsewhere)
    assert procedural_model.__wrapped__().fingerprint == model.fingerprint


@pytest.mark.parametrize("part", ["shape", "expression"])
def test_modes_are_orthogonal_and_free_of_rigid_motion(model, part):
    modes = getattr(model, f"{part}_modes").double()
    flat = modes.reshape(len(modes), -1)
    unit = flat / flat.norm(dim=1, keepdim=True)
    # 45,000 numbers of some 0.2 mm, rounded to 1e-4 mm: two modes' rounding adds up to some 3e-6.
    torch.testing.assert_close(unit @ unit.T, torch.eye(len(modes)).double(), rtol=0, atol=1e-5)
    arms = model.mean.double() - model.mean.double().mean(0)
    size = modes.norm(dim=2).mean(dim=1)
    assert (modes.mean(dim=1).norm(dim=1) < 1e-5 * size).all()
    moment = torch.linalg.cross(arms.expand_as(modes), modes).mean(dim=1).norm(dim=1)
    assert (moment < 1e-5 * size * arms.norm(dim=1).mean()).all()


def test_distances_are_those_of_the_basel_face_model(model):
    """The paper's baselines, 4.42 and 6.28 mm, so that errors in mm compare."""
    stream = torch.Generator().manual_seed(0)
    shape, expression = (torch.randn(1500, k, generator=stream) for k in (10, 7))
    faces = model.vertices(shape, expression)
    mean_face = (faces - model.mean).norm(dim=2).mean()
    random_face = (faces[:750] - faces[750:]).norm(dim=2).mean()
    assert mean_face == pytest.approx(4.4, abs=0.3)
    assert random_face == pytest.approx(6.3, abs=0.4)


def measure(model, name):
    """A measure (mm) of a face (N, 3), from landmarks' vertices."""
    at = {int(key[-2:]): index for key, index in model.landmarks.items()}

    def along(axis, a, b):
        return lambda v: float(v[at[b], axis] - v[at[a], axis])

    def mean_depth(*points):
        return lambda v: float(v[[at[p] for p in points], 2].mean())

    def bulge(front, *back):
        return lambda v: mean_depth(front)(v) - mean_depth(*back)(v)

    return {
        "face width": along(0, 1, 15),
        "face height": along(1, 8, 27),
        "face depth": bulge(33, 0, 16),
        "jaw width": along(0, 4, 12),
        "chin projection and facial convexity": bulge(8, 33),
        "cheek fullness": along(0, 3, 13),
        "nose projection": bulge(30, 31, 35),
        "nose width": along(0, 31, 35),
        "eye distance and depth": along(0, 39, 42),
        "lip fullness": along(1, 57, 51),
        "jaw open": along(1, 57, 51),
        "smile": along(0, 48, 54),
        "pucker": along(0, 54, 48),
        "brow raise": along(1, 37, 19),
        "brow furrow": along(0, 22, 21),
        "cheek puff": along(0, 3, 13),
        "nose sneer": lambda v: float(v[at[31], 1] - v[at[27], 1]),
    }[name]


@pytest.mark.parametrize("part", ["shape", "expression"])
def test_every_mode_moves_its_measure(model, part):
    """More of the coefficient, more of the measure; and for shape by more than any other does,
    relative to the fields as designed (orthogonalisation must not swap meanings)."""
    table = SHAPE_MODES if part == "shape" else EXPRESSION_MODES
    modes = getattr(model, f"{part}_modes").numpy()
    mean = model.mean.numpy()
    for mode, field in zip(table, modes, strict=True):
        value = measure(model, mode.name)
        assert value(mean + 2 * field) - value(mean - 2 * field) > 0.4, mode.name
    designed = np.stack([procedural.displacement(mean.astype(float), m) for m in table])
    likeness = np.abs(
        np.einsum("inc,jnc->ij", modes, designed)
        / np.linalg.norm(modes, axis=(1, 2))[:, None]
        / np.linalg.norm(designed, axis=(1, 2))
    )
    assert (likeness.argmax(axis=1) == np.arange(len(table))).all()


def test_no_mode_folds_the_face(model):
    """At ±3 standard deviations hardly a triangle turns round against the neutral face."""
    triangles = model.triangles.numpy()

    def normals(points):
        a, b, c = (points[triangles[:, k]] for k in range(3))
        n = np.cross(b - a, c - a)
        return n / np.linalg.norm(n, axis=1, keepdims=True)

    mean = model.mean.numpy()
    neutral = normals(mean)
    for modes in (model.shape_modes, model.expression_modes):
        for field in modes.numpy():
            for sign in (-3, 3):
                turned = (normals(mean + sign * field) * neutral).sum(axis=1) < -0.2
                assert turned.mean() < 0.003


def test_landmarks_and_regions(model):
    at = {int(name[-2:]): model.mean[index] for name, index in model.landmarks.items()}
    assert len(at) == 68
    for left, right in procedural.MIRROR:
        mirrored = at[right] * torch.tensor([-1.0, 1.0, 1.0])
        # to the nearest vertex, so within an edge or so
        assert (at[left] - mirrored).norm() < 3.5
    assert at[30][2] > model.mean[:, 2].max() - 1.0
    assert at[8][1] < at[57][1] < at[51][1] < at[33][1] < at[30][1] < at[39][1] < at[19][1]
    assert set(model.regions) == set(REGIONS)
    covered = torch.stack(list(model.regions.values())).sum(0)
    assert (covered == 1).all()  # every vertex in one region
    assert model.regions["nose"][model.landmarks["multipie68.30"]]
    assert model.regions["mouth"][model.landmarks["multipie68.51"]]
    assert model.regions["chin"][model.landmarks["multipie68.08"]]
    for k in (37, 44):
        assert model.regions["eyes"][model.landmarks[f"multipie68.{k}"]]
