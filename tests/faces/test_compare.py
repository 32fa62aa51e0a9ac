"""Errors between faces, against closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from radarbook.errors import InputError
from radarbook.faces.compare import (
    aligned,
    area_weighted_error,
    region_errors,
    scan_to_surface,
    truncation_error,
    variance_held,
    vertex_areas,
)
from radarbook.faces.load import load_model


@pytest.fixture(scope="module")
def model():
    return load_model("procedural")


def test_areas_sum_to_the_surface(model):
    mesh = trimesh.Trimesh(model.mean.numpy(), model.triangles.numpy(), process=False)
    areas = vertex_areas(model.mean.double(), model.triangles)
    assert areas.sum() == pytest.approx(mesh.area, rel=1e-6)


def test_area_weight_does_not_see_density():
    """Two squares side by side, one a hundred times finer; only the coarse one is off by 1."""

    def square(x, n):
        u = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        across, up = torch.meshgrid(x + u, u, indexing="ij")
        points = torch.stack([across, up, 0 * up], -1).reshape(-1, 3)
        i = torch.arange((n + 1) ** 2).reshape(n + 1, n + 1)
        a, b, c, d = (part.reshape(-1) for part in (i[:-1, :-1], i[1:, :-1], i[:-1, 1:], i[1:, 1:]))
        return points.reshape(-1, 3), torch.cat(
            [torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)]
        )

    (coarse, f0), (fine, f1) = square(0.0, 2), square(2.0, 20)
    truth = torch.cat([coarse, fine])
    ours = torch.cat([coarse + torch.tensor([0, 0, 1.0]), fine])
    triangles = torch.cat([f0, f1 + len(coarse)])
    assert area_weighted_error(ours, truth, triangles) == pytest.approx(0.5)
    assert (ours - truth).norm(dim=-1).mean() == pytest.approx(9 / (9 + 441))
    both = area_weighted_error(torch.stack([ours, truth]), torch.stack([truth, truth]), triangles)
    torch.testing.assert_close(both, torch.tensor([0.5, 0.0], dtype=torch.float64))


def test_scan_to_surface_against_a_plane_and_a_sphere():
    plane = np.array([[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    points = np.array([[3, 4, 7], [60, 0, 0], [53, 54, 0], [-20, 30, -2.0]])
    np.testing.assert_allclose(scan_to_surface(points, plane, faces), [7, 10, 5, 2], atol=1e-12)
    ball = trimesh.creation.icosphere(subdivisions=4, radius=80)
    scan = 90 * trimesh.creation.icosphere(subdivisions=2, radius=1).vertices
    distance = scan_to_surface(scan, ball.vertices, ball.faces)
    # a facet of a ball of 80 mm with 5.6 mm edges lies at most 0.15 mm inside it
    assert distance.min() > 10 - 1e-9
    assert distance.max() < 10.15


def test_scan_to_surface_against_brute_force(model):
    stream = np.random.default_rng(0)
    vertices, triangles = model.mean.numpy().astype(float), model.triangles.numpy()
    points = vertices[stream.integers(len(vertices), size=20)] + stream.normal(
        scale=4, size=(20, 3)
    )
    corners = vertices[triangles]
    wanted = [
        np.linalg.norm(
            trimesh.triangles.closest_point(corners, np.tile(p, (len(corners), 1))) - p, axis=1
        ).min()
        for p in points
    ]
    np.testing.assert_allclose(scan_to_surface(points, vertices, triangles), wanted, atol=1e-9)


def test_scan_to_surface_needs_both():
    with pytest.raises(InputError, match="found 0 and 1"):
        scan_to_surface(np.zeros((0, 3)), np.zeros((3, 3)), np.zeros((1, 3), int))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_alignment_undoes_a_rigid_motion(seed):
    stream = np.random.default_rng(seed)
    points = stream.normal(size=(20, 3)) * [30, 60, 20]
    turn = Rotation.random(random_state=seed % 2**31).as_matrix()
    moved = points @ turn.T + stream.normal(size=3) * 100
    np.testing.assert_allclose(aligned(points, moved), moved, atol=1e-7)


def test_alignment_keeps_a_difference_of_size():
    points = np.random.default_rng(0).normal(size=(100, 3)) * 50
    left = np.linalg.norm(aligned(points, 1.1 * points) - 1.1 * points, axis=1)
    centred = np.linalg.norm(points - points.mean(axis=0), axis=1)
    np.testing.assert_allclose(left, 0.1 * centred, atol=1e-9)


def test_alignment_is_no_reflection():
    points = np.random.default_rng(0).normal(size=(30, 3))
    edges = np.diff(aligned(points, points * [-1, 1, 1])[:4], axis=0)
    before = np.diff(points[:4], axis=0)
    assert np.linalg.det(edges) == pytest.approx(np.linalg.det(before))


def test_alignment_of_other_shapes():
    with pytest.raises(InputError, match="two"):
        aligned(np.zeros((3, 3)), np.zeros((4, 3)))


def test_region_errors(model):
    distances = torch.zeros(2, model.n_vertices)
    distances[:, model.regions["nose"]] = torch.tensor([[1.0], [3.0]])
    errors = region_errors(distances, model.regions)
    assert errors["nose"] == pytest.approx(2)
    assert errors["chin"] == 0
    share = float(model.regions["nose"].double().mean())
    assert errors["all"] == pytest.approx(2 * share, rel=1e-5)


def test_what_fewer_modes_lose(model):
    held = variance_held(model.shape_modes)
    assert held[-1] == pytest.approx(1)
    assert (held.diff() > 0).all()
    assert truncation_error(model, 10, 7, 50) == 0
    losses = [truncation_error(model, k, 7, 200) for k in (1, 3, 6, 9)]
    assert losses == sorted(losses, reverse=True)
    # one mode left out: the mean of |c|·|mode| is sqrt(2 / pi) of its mean length; 200 draws
    last = model.shape_modes[9].norm(dim=1).mean() * math.sqrt(2 / math.pi)
    assert losses[-1] == pytest.approx(float(last), rel=0.2)
