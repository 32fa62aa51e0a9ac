"""The refined procedural face: the even one's parameters, and its formula's grooves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from radarbook.datasets.distribution import random_parameters
from radarbook.faces.model import REGIONS
from radarbook.faces.pose import to_radar
from radarbook.faces.procedural import procedural_model
from radarbook.faces.refined import refined_procedural_model
from radarbook.faces.sculpture import surface


@pytest.fixture(scope="module")
def even():
    return procedural_model()


@pytest.fixture(scope="module")
def refined():
    return refined_procedural_model()


def _mesh(model):
    return trimesh.Trimesh(model.mean.numpy(), model.triangles.numpy(), process=False)


def _distance(mesh, points):
    """Of points (P, 3) mm from a mesh: the least distance from the triangles' own points."""
    near = abs(mesh.triangles_center - points.mean(0)).max(1) < 25
    share = np.array([(i, j, 30 - i - j) for i in range(31) for j in range(31 - i)]) / 30
    samples = np.einsum("pk,fkc->fpc", share, mesh.triangles[near]).reshape(-1, 3)
    return cKDTree(samples).query(points)[0]


def test_equal_parameters_are_equal_faces(even, refined):
    face = random_parameters([0, 1], 3, 10, 7)
    n = even.n_vertices
    wanted, found = (to_radar(model, face, 0.3) for model in (even, refined))
    # Products of float32 matrices of other sizes round differently: 1 µm of 0.3 m.
    torch.testing.assert_close(found[:, :n], wanted, rtol=0, atol=1e-6)
    assert refined.fingerprint != even.fingerprint
    # Every added vertex moves as its neighbours do: edges of a face 2 σ off are stretched as the
    # even mesh's are.
    coefficients = torch.full((1, 10), 2.0), torch.zeros(1, 7)
    stretched = []
    for model in (even, refined):
        edges = _mesh(model).edges_unique
        before, after = (
            np.linalg.norm(np.diff(v[edges], axis=1)[:, 0], axis=1)
            for v in (model.mean.numpy(), model.vertices(*coefficients)[0].numpy())
        )
        stretched.append(np.quantile(after / before, [0.001, 0.999]))
    np.testing.assert_allclose(stretched[1], stretched[0], atol=0.15)


def test_mesh_is_one_disc(even, refined):
    mesh = _mesh(refined)
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 1
    assert set(np.unique(refined.triangles)) == set(range(refined.n_vertices))
    # A fit pays for its triangles.
    assert len(refined.triangles) < 1.2 * len(even.triangles)
    assert set(refined.regions) == set(REGIONS)
    assert refined.landmarks == even.landmarks


def test_grooves_are_as_deep_as_the_formula(even, refined):
    """Points of the formula around the mouth, and how far the meshes are from them. Flat triangles
    of 1.7 mm are up to 50 µm from round skin, samples of them 60 µm apart; the groove between the
    lips is 1 mm deeper than the even mesh."""
    u, v = np.meshgrid(np.linspace(-0.2, 0.2, 81), np.linspace(0, 1, 1601))
    points = surface(u, v).reshape(-1, 3)
    mouth = points[(abs(points[:, 1] + 33) < 4) & (abs(points[:, 0]) < 18)]
    far = [_distance(_mesh(model), mouth) for model in (even, refined)]
    assert far[0].max() > 0.5
    assert far[1].max() < 0.2
