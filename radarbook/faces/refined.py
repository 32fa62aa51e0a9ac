"""The procedural face with more vertices where its formula is finer than its even mesh.

Triangles of 1.7 mm follow the formula of :mod:`radarbook.faces.sculpture` within micrometres nearly
everywhere, if they are bent as their normals tell. Where the lips meet they do not: the groove is
1 mm deeper than the triangles that bridge it, and these face the array, where the formula has two
steep walls. The bridge is a highlight that the formula does not have. Lids and nostrils are off by
up to 0.3 mm [0043].

The refined mesh has the vertices of the even one, then more: edges are divided until bent edges
follow the formula. Modes are the same fields at more points, so equal parameters are equal faces.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from radarbook.faces.model import MorphableModel
from radarbook.faces.procedural import (
    EXPRESSION_MODES,
    SCALE,
    SHAPE_MODES,
    neutral_mesh,
    orthogonal_modes,
    procedural_model,
    rounded,
)
from radarbook.faces.regions import regions_from_landmarks
from radarbook.faces.sculpture import surface

#: Edges are divided that are farther than this from the formula, mm. Phases are then right to 6°.
TOLERANCE = 0.03
#: Shorter edges are left, mm; and how often all edges are looked at.
SHORTEST, ROUNDS = 0.6, 4
#: Where an edge is divided, in shares of it: at the farthest of these.
_SHARES = np.linspace(0.25, 0.75, 9)


@lru_cache(maxsize=1)
def refined_procedural_model() -> MorphableModel:
    """The procedural model on the refined mesh (float32, CPU), all modes.

    Deterministic; built once in a process.

    Examples
    --------
    >>> from radarbook.faces.procedural import procedural_model
    >>> even, refined = procedural_model(), refined_procedural_model()
    >>> n = even.n_vertices
    >>> bool((refined.mean[:n] == even.mean).all()), refined.posed_by == n
    (True, True)
    """
    even = procedural_model()
    mean, triangles, grid = neutral_mesh()
    points, triangles = divided(mean, triangles, grid)
    n = len(mean)

    def joined(known: torch.Tensor, more: np.ndarray) -> torch.Tensor:
        return torch.cat([known, torch.from_numpy(rounded(more))], dim=-2)

    new = points[n:]
    whole = joined(even.shape_mean, new)
    regions = regions_from_landmarks(whole.double().numpy(), even.landmarks)
    return MorphableModel(
        name="procedural-refined",
        shape_mean=whole,
        expression_mean=torch.zeros_like(whole),
        shape_modes=joined(even.shape_modes, SCALE * orthogonal_modes(mean, SHAPE_MODES, new)),
        expression_modes=joined(
            even.expression_modes, SCALE * orthogonal_modes(mean, EXPRESSION_MODES, new)
        ),
        triangles=torch.from_numpy(triangles),
        landmarks=even.landmarks,
        regions={name: torch.from_numpy(mask) for name, mask in regions.items()},
        posed_by=n,
    )


def divided(
    points: np.ndarray, triangles: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points (M, 3) mm and triangles of a mesh (N, 3), (F, 3) after edges were divided that are
    farther than :data:`TOLERANCE` from the formula; ``grid`` (N, 2) holds u and v."""
    for _ in range(ROUNDS):
        start, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
        key = np.minimum(start, end) * len(points) + np.maximum(start, end)
        sides, number = np.unique(key, return_inverse=True)
        a, b = np.divmod(sides, len(points))
        off, share = _distances(points, grid, a, b)
        length = np.linalg.norm(points[b] - points[a], axis=1)
        marked = (off > TOLERANCE) & (length > SHORTEST)
        if not marked.any():
            break
        added = np.where(marked, len(points) + np.cumsum(marked) - 1, -1)
        some = share[marked, None]
        grid = np.concatenate([grid, (1 - some) * grid[a[marked]] + some * grid[b[marked]]])
        points = np.concatenate([points, surface(*grid[len(points) :].T)])
        triangles = _divide(triangles, added[number].reshape(-1, 3), points)
    return points, triangles


def _distances(
    points: np.ndarray, grid: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(E,) mm: how far edges, bent as the formula's normals at their ends tell, are from the
    formula; and at which share of the edge (E,) the formula is farthest from the chord."""
    chord, normal = points[b] - points[a], _normals(grid)
    first = (chord * normal[a]).sum(1)[:, None] * normal[a]
    last = (chord * normal[b]).sum(1)[:, None] * normal[b]
    bulge = (last - first) / 8
    length = np.linalg.norm(chord, axis=1)[:, None]
    most, above, share = np.zeros(len(a)), np.zeros(len(a)), np.full(len(a), 0.5)
    for t in _SHARES:
        u, v = ((1 - t) * grid[a] + t * grid[b]).T
        there = surface(u, v) - points[a]
        # Along an edge the formula's parameters are not even: the nearest place of the chord.
        along = (there * chord).sum(1, keepdims=True) / length**2
        from_chord = there - along * chord
        bent = from_chord - 4 * along * (1 - along) * bulge
        most = np.maximum(most, np.linalg.norm(bent, axis=1))
        height = np.linalg.norm(from_chord, axis=1)
        share, above = np.where(height > above, t, share), np.maximum(above, height)
    return most, share


def _normals(grid: np.ndarray) -> np.ndarray:
    """(N, 3) unit normals of the formula."""
    h = 1e-5
    u, v = grid.T
    cross = np.cross(surface(u + h, v) - surface(u - h, v), surface(u, v + h) - surface(u, v - h))
    return np.asarray(cross / np.linalg.norm(cross, axis=1)[:, None])


def _divide(triangles: np.ndarray, added: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Triangles (F, 3) whose edges 01, 12 and 20 have a new vertex (F, 3), or -1 for none."""
    count = (added >= 0).sum(axis=1)
    # Turned so that the edge 01 is the one with a vertex, or the edge 20 the one without.
    first = np.where(count == 2, (added < 0).argmax(axis=1) + 1, (added >= 0).argmax(axis=1))
    order = (first[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(triangles, order, 1).T
    p, q, r = np.take_along_axis(added, order, 1).T

    one, two, three = (count == kind for kind in (1, 2, 3))
    # Of two divided edges, the quadrilateral a, p, q, c is cut along its shorter diagonal.
    short = two & (
        np.linalg.norm(points[a] - points[q], axis=1)
        < np.linalg.norm(points[p] - points[c], axis=1)
    )
    long = two & ~short
    parts = (
        (one, (a, p, c)), (one, (p, b, c)),
        (two, (p, b, q)), (short, (a, p, q)), (short, (a, q, c)),
        (long, (a, p, c)), (long, (p, q, c)),
        (three, (a, p, r)), (three, (p, b, q)), (three, (r, q, c)), (three, (p, q, r)),
    )  # fmt: skip
    new = [np.stack([corner[kept] for corner in part], axis=1) for kept, part in parts]
    return np.concatenate([triangles[count == 0], *new]).astype(np.int64)
