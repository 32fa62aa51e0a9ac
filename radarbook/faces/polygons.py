"""Polygons of mesh files, and the triangles that they are split into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Polygons:
    """A surface as a file holds it.

    Attributes
    ----------
    points : (N, 3) float64 array
        Vertices in the file's unit.
    counts : (P,) int64 array
        Corners of each polygon, 3 or more.
    corners : (counts.sum(),) int64 array
        Vertex indices of all polygons in a row, from 0.
    """

    points: NDArray[np.float64]
    counts: NDArray[np.int64]
    corners: NDArray[np.int64]


def triangulated(polygons: Polygons) -> NDArray[np.int64]:
    """(F, 3) triangles in the order of their polygons, with the polygons' winding.

    A polygon becomes a fan about the first corner from which the fan lies within it. A polygon
    without such a corner is divided by clipping ears. Indices must be in range, vertices finite.
    """
    counts, start = polygons.counts, np.cumsum(polygons.counts) - polygons.counts
    pieces, owners = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    for n in np.unique(counts):
        which = np.flatnonzero(counts == n)
        rings = polygons.corners[start[which][:, None] + np.arange(n)]
        triangles = rings[:, None] if n == 3 else _divided(polygons.points, rings)
        pieces.append(triangles.reshape(-1, 3))
        owners.append(np.repeat(which, n - 2))
    order = np.argsort(np.concatenate(owners), kind="stable")
    return np.concatenate(pieces)[order]


def _divided(points: NDArray[np.float64], rings: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P, n - 2, 3) triangles of polygons (P, n)."""
    n = rings.shape[1]
    spread = points[rings]
    spread = spread - spread.mean(axis=1, keepdims=True)
    # Newell's normal: twice the polygon's area vector, also of a concave or slightly bent one.
    normal = np.cross(spread, np.roll(spread, -1, axis=1)).sum(axis=1)
    fan = np.stack([np.zeros(n - 2, np.int64), np.arange(1, n - 1), np.arange(2, n)], axis=1)
    out = rings[:, fan]
    left = np.arange(len(rings))
    for first in range(n):
        corners = (fan + first) % n
        a, b, c = (spread[left][:, corners[:, k]] for k in range(3))
        inside = np.einsum("pfx,px->pf", np.cross(b - a, c - a), normal[left]) >= 0
        good = inside.all(axis=1)
        out[left[good]] = rings[left[good]][:, corners]
        left = left[~good]
    for polygon in left:
        out[polygon] = rings[polygon][_ears(_flat(spread[polygon], normal[polygon]))]
    return out


def _flat(ring: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2): a polygon seen along its normal, counter-clockwise."""
    drop = int(np.abs(normal).argmax())
    u, v = (drop + 1) % 3, (drop + 2) % 3
    return ring[:, [u, v]] if normal[drop] >= 0 else ring[:, [v, u]]


def _ears(ring: NDArray[np.float64]) -> list[tuple[int, int, int]]:
    """Triangles of a counter-clockwise polygon (n, 2) by clipping ears, as corner numbers."""
    left, triangles, k = np.arange(len(ring)), [], 0
    while len(left) > 3:
        # From the last ear on, once round. A polygon that crosses itself may have no ear: its next
        # corner is cut off then.
        turns = ((k + step) % len(left) for step in range(len(left)))
        k = next((at for at in turns if _is_ear(ring[np.roll(left, 1 - at)])), k % len(left))
        a, b, c = np.roll(left, 1 - k)[:3].tolist()
        triangles.append((a, b, c))
        left = np.delete(left, k)
    return [*triangles, (int(left[0]), int(left[1]), int(left[2]))]


def _is_ear(ring: NDArray[np.float64]) -> bool:
    """Whether the first three corners of a polygon (n, 2) form a triangle within it."""
    a, b, c = ring[:3]
    if _twice(a, b, c) <= 0:
        return False
    others = ring[3:]
    # Corners at the same place, as along a bridge to a hole, are not in the way.
    others = others[~(others[:, None] == ring[:3]).all(axis=2).any(axis=1)]
    within = [_twice(p, q, others) >= 0 for p, q in ((a, b), (b, c), (c, a))]
    return not np.all(within, axis=0).any()


def _twice(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> Any:
    """Twice the signed area of triangles whose third corners are ``c`` (..., 2)."""
    along, across = b - a, c - a
    return along[0] * across[..., 1] - along[1] * across[..., 0]
