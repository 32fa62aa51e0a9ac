"""How far apart two faces are: vertex to vertex, by area, by region, scan to surface.

All lengths in the unit of the input (millimetres, in the book). Faces that are to be compared
without pose and size go through :func:`aligned` first; parameters' errors need no alignment.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import trimesh
import trimesh.registration
from scipy.spatial import cKDTree
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.seeds import torch_stream


def vertex_areas(vertices: Tensor, triangles: Tensor) -> Tensor:
    """(..., N) area around each vertex: a third of each triangle it belongs to."""
    a, b, c = (vertices[..., triangles[:, k], :] for k in range(3))
    areas = torch.linalg.vector_norm(torch.linalg.cross(b - a, c - a), dim=-1) / 2
    total = vertices.new_zeros(vertices.shape[:-1])
    for k in range(3):
        total = total.index_add(-1, triangles[:, k], areas / 3)
    return total


def area_weighted_error(ours: Tensor, theirs: Tensor, triangles: Tensor) -> Tensor:
    """(...,) mean distance over the surface of ``theirs`` instead of over its vertices.

    A mesh has more vertices around eyes and mouth than on cheeks; this mean does not care.
    """
    areas = vertex_areas(theirs, triangles)
    return (areas * (ours - theirs).norm(dim=-1)).sum(dim=-1) / areas.sum(dim=-1)


def region_errors(distances: Tensor, regions: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean of vertex distances (..., N) within each region, and in ``"all"`` of them."""
    means = {name: float(distances[..., mask].mean()) for name, mask in regions.items()}
    return {**means, "all": float(distances.mean())}


def scan_to_surface(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(M,) distance of each scan point (M, 3) to the nearest point of a mesh's surface.

    Unlike vertex distances this needs no correspondence, so a scan of any mesh can be compared.
    Exact: a triangle is examined if its centre is close enough for the triangle to be nearer than
    the nearest vertex.
    """
    if not len(points) or not len(triangles):
        raise InputError(
            f"scan to surface: expected points and triangles, found {len(points)} and "
            f"{len(triangles)}"
        )
    points = np.asarray(points, dtype=np.float64)
    corners = np.asarray(vertices, dtype=np.float64)[triangles]
    centres = corners.mean(axis=1)
    radius = np.linalg.norm(corners - centres[:, None], axis=2).max()
    used = np.unique(triangles)
    bound, _ = cKDTree(np.asarray(vertices, dtype=np.float64)[used]).query(points)
    near = cKDTree(centres).query_ball_point(points, np.asarray(bound) + radius)
    counts = np.array([len(found) for found in near])
    which = np.repeat(np.arange(len(points)), counts)
    candidates = np.concatenate([np.asarray(found, dtype=np.int64) for found in near])
    closest = trimesh.triangles.closest_point(corners[candidates], points[which])
    distance = np.linalg.norm(closest - points[which], axis=1)
    result = np.asarray(bound, dtype=np.float64).copy()
    np.minimum.at(result, which, distance)
    return result


def aligned(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``source`` (N, 3) moved rigidly onto corresponding ``target`` by least squares.

    Its size is kept: fitting it would hide errors of size. Raises
    :class:`~radarbook.errors.InputError` if the shapes differ.

    Examples
    --------
    >>> corners = np.eye(3)
    >>> bool(np.allclose(aligned(corners, corners + [0.0, 0.0, 5.0]), corners + [0.0, 0.0, 5.0]))
    True
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise InputError(
            f"alignment: expected two (N, 3) point sets, found {source.shape} and {target.shape}"
        )
    fit = trimesh.registration.procrustes(source, target, reflection=False, scale=False)
    return np.asarray(fit[1])


def truncation_error(model: MorphableModel, n_shape: int, n_expression: int, faces: int) -> float:
    """Mean vertex distance, mm, of faces of all the model's modes to their first modes' part.

    What is lost by keeping ``n_shape`` + ``n_expression`` modes; coefficients are N(0, 1) from a
    fixed stream. Modes are orthogonal, so the first coefficients are the best ones to keep (in
    squared distance).
    """
    stream = torch_stream(0, "faces/truncation")
    shape = torch.randn(faces, model.n_shape, generator=stream)
    expression = torch.randn(faces, model.n_expression, generator=stream)
    shape[:, :n_shape] = 0
    expression[:, :n_expression] = 0
    lost = model.vertices(shape.to(model.mean), expression.to(model.mean)) - model.mean
    return float(torch.linalg.vector_norm(lost, dim=-1).mean())


def variance_held(modes: Tensor) -> Tensor:
    """(K,) share of the total variance in the first 1, 2, … K modes (K, N, 3)."""
    power = modes.double().square().sum(dim=(1, 2))
    return power.cumsum(0) / power.sum()
