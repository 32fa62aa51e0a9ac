"""Meshes in the radar frame: the primitives that physics knows.

All meshes are ``(vertices (N, 3) metres, triangles (F, 3) int64)``, counter-clockwise seen from
outside, so that a closed body's normals point away from it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import trimesh
from numpy.typing import ArrayLike
from torch import Tensor

#: Vertices and triangles, as the simulation takes them.
SceneMesh = tuple[Tensor, Tensor]


def sphere(centre: tuple[float, float, float], radius: float, facet: float) -> SceneMesh:
    """A sphere of icosahedral facets about ``facet`` metres on a side; vertices on the sphere.

    Examples
    --------
    >>> vertices, triangles = sphere((0.0, 0.0, 0.35), radius=0.03, facet=0.01)
    >>> radii = (vertices - torch.tensor([0, 0, 0.35])).norm(dim=1)
    >>> bool((radii - 0.03).abs().max() < 1e-6)
    True
    """
    edge = 1.05 * radius  # of the icosahedron that the subdivision starts from
    levels = max(0, math.ceil(math.log2(edge / facet)))
    ball = trimesh.creation.icosphere(subdivisions=levels, radius=radius)
    return _tensors(ball.vertices + np.asarray(centre), ball.faces)


def plate(
    centre: tuple[float, float, float],
    width: float,
    height: float,
    facet: float,
    tilt: tuple[float, float] = (0.0, 0.0),
) -> SceneMesh:
    """A flat rectangle that faces the array: its normal is -z, then turned by ``tilt``.

    ``tilt`` is (about y, about x), radians, right-handed in the radar frame.

    Examples
    --------
    >>> vertices, triangles = plate((0.0, 0.0, 0.3), 0.1, 0.05, facet=0.05)
    >>> len(vertices), len(triangles), vertices[0].tolist()
    (6, 4, [-0.05, -0.025, 0.3])
    """
    nx, ny = (max(1, round(side / facet)) for side in (width, height))
    x, y = np.linspace(-width / 2, width / 2, nx + 1), np.linspace(-height / 2, height / 2, ny + 1)
    points = np.stack([*np.meshgrid(x, y), np.zeros((ny + 1, nx + 1))], axis=-1).reshape(-1, 3)
    corner = (np.arange(ny)[:, None] * (nx + 1) + np.arange(nx)).ravel()
    a, b, c, d = corner, corner + 1, corner + nx + 2, corner + nx + 1
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)])
    about = trimesh.transformations.rotation_matrix
    rotation = (about(tilt[0], [0, 1, 0]) @ about(tilt[1], [1, 0, 0]))[:3, :3]
    return _tensors(points @ rotation.T + np.asarray(centre), faces)


def corner(apex: tuple[float, float, float], edge: float, facet: float) -> SceneMesh:
    """A triangular trihedral corner reflector that opens towards the array (its axis is -z).

    ``edge`` is the length of the three edges that meet at the apex, metres.

    Examples
    --------
    >>> vertices, triangles = corner((0.0, 0.0, 0.35), edge=0.03, facet=0.05)
    >>> len(triangles), round(float(vertices[:, 2].max()), 9)  # the apex is the farthest point
    (12, 0.35)
    """
    # Three mutually orthogonal edges, symmetric about -z.
    ring = np.radians([90, 210, 330])
    axes = np.stack([np.cos(ring), np.sin(ring), np.full(3, -math.sqrt(0.5))], axis=1)
    axes *= edge / np.linalg.norm(axes, axis=1, keepdims=True)
    points = np.concatenate([np.zeros((1, 3)), axes])
    faces = np.array([[0, 1, 3], [0, 3, 2], [0, 2, 1]])
    inside = np.cross(points[faces[:, 1]], points[faces[:, 2]]) @ axes.sum(0)
    faces[inside < 0] = faces[inside < 0][:, ::-1]
    pieces = max(1, math.ceil(math.log2(edge * math.sqrt(2) / facet)))
    mesh = trimesh.Trimesh(points, faces, process=False)
    for _ in range(pieces):
        mesh = mesh.subdivide()
    return _tensors(mesh.vertices + np.asarray(apex), mesh.faces)


def join(*meshes: SceneMesh) -> SceneMesh:
    """Several meshes as one.

    Examples
    --------
    >>> one = plate((0.0, 0.0, 0.3), 0.1, 0.1, facet=0.1)
    >>> vertices, triangles = join(one, plate((0.0, 0.0, 0.4), 0.1, 0.1, facet=0.1))
    >>> len(vertices), triangles.max().item()
    (8, 7)
    """
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in meshes])
    faces = [t + int(o) for (_, t), o in zip(meshes, offsets[:-1], strict=True)]
    return torch.cat([vertices for vertices, _ in meshes]), torch.cat(faces)


def _tensors(vertices: ArrayLike, faces: ArrayLike) -> SceneMesh:
    return (
        torch.from_numpy(np.array(vertices, dtype=np.float64)),
        torch.from_numpy(np.array(faces, dtype=np.int64)),
    )
