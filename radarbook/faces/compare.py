"""How far apart two faces are: vertex to vertex, by area, by region, scan to surface.

All lengths in the unit of the input (millimetres, in the book). Faces that are to be compared
without pose and size go through :func:`aligned` first; parameters' errors need no alignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import numpy as np
import torch
import trimesh
import trimesh.registration
from scipy.spatial import cKDTree
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.seeds import torch_stream

#: Pairs of a point and a triangle that are examined at once: some 300 MB.
_CANDIDATES = 1_000_000


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

    Examples
    --------
    >>> import radarbook as rb
    >>> mean = rb.load_model().mean
    >>> moved = mean + torch.tensor([0.0, 0.0, 1.0])
    >>> float(area_weighted_error(moved, mean, rb.load_model().triangles))
    1.0
    """
    areas = vertex_areas(theirs, triangles)
    return (areas * (ours - theirs).norm(dim=-1)).sum(dim=-1) / areas.sum(dim=-1)


def region_errors(distances: Tensor, regions: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean of vertex distances (..., N) within each region, and in ``"all"`` of them.

    Examples
    --------
    >>> region_errors(torch.tensor([1.0, 3.0]), {"nose": torch.tensor([False, True])})
    {'nose': 3.0, 'all': 2.0}
    """
    means = {name: float(distances[..., mask].mean()) for name, mask in regions.items()}
    return {**means, "all": float(distances.mean())}


def closest_on_surface(
    points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The point of a mesh's surface nearest to each of some points.

    Exact: a triangle is examined if its centre is close enough for the triangle to be nearer than
    those of the eight nearest centres.

    Parameters
    ----------
    points : (M, 3) array
    vertices, triangles : (N, 3) float and (F, 3) int arrays
        Of the mesh, in the unit of the points.

    Returns the nearest points (M, 3), their distances (M,), both float64 in the unit of the input,
    and the triangle (M,) int64 that each lies on. Raises :class:`~radarbook.errors.InputError`
    without points or triangles.

    Examples
    --------
    >>> corners, triangle = np.eye(3), np.array([[0, 1, 2]])
    >>> closest, distance, which = closest_on_surface(np.ones((1, 3)), corners, triangle)
    >>> closest.round(3).tolist(), distance.round(3).tolist(), which.tolist()
    ([[0.333, 0.333, 0.333]], [1.155], [0])
    """
    if not len(points) or not len(triangles):
        raise InputError(
            f"scan to surface: expected points and triangles, found {len(points)} and "
            f"{len(triangles)}"
        )
    points = np.asarray(points, dtype=np.float64)
    corners = np.asarray(vertices, dtype=np.float64)[triangles]
    centres = corners.mean(axis=1)
    radius = np.linalg.norm(corners - centres[:, None], axis=2).max(axis=1)
    # An upper bound of each distance: to the eight triangles whose centres are nearest.
    tree, few = cKDTree(centres), min(8, len(centres))
    _, first = tree.query(points, few)
    first = np.asarray(first).reshape(len(points), few)
    closest = trimesh.triangles.closest_point(
        corners[first.reshape(-1)], np.repeat(points, few, axis=0)
    )
    apart = np.linalg.norm(closest.reshape(-1, few, 3) - points[:, None], axis=2)
    bound = apart.min(axis=1) * (1 + 1e-9) + 1e-12 * np.abs(points).max()
    # Triangles of like size together: one large triangle does not make all others candidates.
    usual = max(float(np.median(radius)), 1e-300)
    size = np.ceil(np.log2(np.maximum(radius / usual, 1.0))).astype(np.int64)
    nearest, squared = np.zeros_like(points), np.full(len(points), np.inf)
    which = np.full(len(points), len(corners))
    for number in np.unique(size):
        mine = np.flatnonzero(size == number)
        tree, most = cKDTree(centres[mine]), radius[mine].max()
        # In blocks: of points that are far away, nearly every triangle is a candidate.
        ends = np.cumsum(tree.query_ball_point(points, bound + most, return_length=True))
        cuts = np.flatnonzero(np.diff(ends // _CANDIDATES)) + 1
        for some in np.split(np.arange(len(points)), cuts):
            owner, closest, far, found = _closest(
                points[some], corners[mine], radius[mine], bound[some], tree
            )
            owner, found = some[owner], mine[found]
            # The first triangle of those that are nearest.
            nearer = (far < squared[owner]) | ((far == squared[owner]) & (found < which[owner]))
            owner = owner[nearer]
            nearest[owner], squared[owner] = closest[nearer], far[nearer]
            which[owner] = found[nearer]
    return nearest, np.sqrt(squared), which


def _closest(
    points: np.ndarray, corners: np.ndarray, radius: np.ndarray, bound: np.ndarray, tree: cKDTree
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of some points (M, 3), whose distances are at most ``bound`` (M,), those that have candidates
    among triangles of corners (F, 3, 3), whose centres are in ``tree`` and which extend ``radius``
    (F,) about them: their numbers (K,), nearest points (K, 3), squared distances (K,) and triangles
    (K,)."""
    near = tree.query_ball_point(points, bound + radius.max(), return_sorted=True)
    counts = np.array([len(found) for found in near])
    candidates = np.fromiter(chain.from_iterable(near), dtype=np.int64, count=int(counts.sum()))
    owner = np.repeat(np.arange(len(points)), counts)
    middle = np.linalg.norm(tree.data[candidates] - points[owner], axis=1)
    kept = middle <= bound[owner] + radius[candidates]
    candidates, owner = candidates[kept], owner[kept]
    if not len(owner):
        none = np.zeros(0, dtype=np.int64)
        return none, np.zeros((0, 3)), np.zeros(0), none
    closest = trimesh.triangles.closest_point(corners[candidates], points[owner])
    squared = ((closest - points[owner]) ** 2).sum(axis=1)
    some, begin, counts = np.unique(owner, return_index=True, return_counts=True)
    least = np.minimum.reduceat(squared, begin)
    # The first of those that are nearest.
    hits = np.flatnonzero(squared == np.repeat(least, counts))
    best = hits[np.unique(owner[hits], return_index=True)[1]]
    return some, closest[best], squared[best], candidates[best]


def scan_to_surface(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(M,) distance of each scan point (M, 3) to the nearest point of a mesh's surface.

    Unlike vertex distances this needs no correspondence, so a scan of any mesh can be compared.
    See :func:`closest_on_surface`.
    """
    return closest_on_surface(points, vertices, triangles)[1]


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

    Examples
    --------
    >>> import radarbook as rb
    >>> model = rb.load_model()
    >>> truncation_error(model, 10, 7, faces=2) > truncation_error(model, 11, 7, faces=2) - 1e-6
    True
    """
    stream = torch_stream(0, "faces/truncation")
    shape = torch.randn(faces, model.n_shape, generator=stream)
    expression = torch.randn(faces, model.n_expression, generator=stream)
    shape[:, :n_shape] = 0
    expression[:, :n_expression] = 0
    lost = model.vertices(shape.to(model.mean), expression.to(model.mean)) - model.mean
    return float(torch.linalg.vector_norm(lost, dim=-1).mean())


def variance_held(modes: Tensor) -> Tensor:
    """(K,) share of the total variance in the first 1, 2, … K modes (K, N, 3).

    Examples
    --------
    >>> variance_held(torch.tensor([2.0, 1.0])[:, None, None].expand(2, 1, 3)).tolist()
    [0.8, 1.0]
    """
    power = modes.double().square().sum(dim=(1, 2))
    return power.cumsum(0) / power.sum()
