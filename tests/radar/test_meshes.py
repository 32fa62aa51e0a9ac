"""The primitives' geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from radarbook.radar import meshes


def test_sphere():
    vertices, triangles = meshes.sphere((0.1, 0, 0.5), 0.05, 0.004)
    body = trimesh.Trimesh(vertices.numpy(), triangles.numpy())
    # Positive volume: normals point outwards. An inscribed polyhedron is a little smaller.
    assert body.volume == pytest.approx(4 / 3 * math.pi * 0.05**3, rel=0.01)
    edges = np.linalg.norm(np.diff(body.vertices[body.edges_unique], axis=1), axis=2)
    assert 0.002 < edges.max() < 0.005


def test_plate_faces_the_array_and_tilts():
    body = trimesh.Trimesh(*(v.numpy() for v in meshes.plate((0, 0, 0.3), 0.1, 0.05, 0.01)))
    assert body.area == pytest.approx(0.005)
    np.testing.assert_allclose(body.face_normals, np.tile([0, 0, -1], (len(body.faces), 1)))
    tilted = meshes.plate((0, 0, 0.3), 0.1, 0.05, 0.01, tilt=(0.1, 0))
    normal = trimesh.Trimesh(*(v.numpy() for v in tilted)).face_normals[0]
    np.testing.assert_allclose(normal, [-math.sin(0.1), 0, -math.cos(0.1)], atol=1e-12)


def test_corner_opens_towards_the_array():
    body = trimesh.Trimesh(*(v.numpy() for v in meshes.corner((0, 0, 0.4), 0.1, 0.02)))
    assert body.area == pytest.approx(3 * 0.1**2 / 2)
    normals = np.unique(body.face_normals.round(6), axis=0)
    assert len(normals) == 3
    np.testing.assert_allclose(normals @ normals.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(normals[:, 2], -math.sqrt(1 / 3), atol=1e-5)
    assert body.bounds[1, 2] == pytest.approx(0.4)


def test_join():
    a, b = meshes.plate((0, 0, 0.3), 0.1, 0.1, 0.1), meshes.sphere((0, 0, 0.5), 0.05, 0.05)
    vertices, triangles = meshes.join(a, b)
    assert len(vertices) == len(a[0]) + len(b[0])
    assert torch.equal(vertices[triangles[len(a[1]) :]], b[0][b[1]])
