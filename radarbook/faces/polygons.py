"""Polygons of mesh files, and the triangles that they are split into."""

from __future__ import annotations

from dataclasses import dataclass

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

    def twice(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = ring[a], ring[b], ring[c]
        return float((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))

    def is_ear(k: int) -> bool:
        a, b, c = left[k - 1], left[k], left[(k + 1) % len(left)]
        if twice(a, b, c) <= 0:
            return False
        return not any(
            twice(a, b, p) >= 0 and twice(b, c, p) >= 0 and twice(c, a, p) >= 0
            for p in left
            if p not in (a, b, c) and not (ring[p] == ring[[a, b, c]]).all(axis=1).any()
        )

    left, triangles = list(range(len(ring))), []
    while len(left) > 3:
        # A polygon that crosses itself may have no ear: its first corner is cut off then.
        k = next((k for k in range(len(left)) if is_ear(k)), 0)
        triangles.append((left[k - 1], left[k], left[(k + 1) % len(left)]))
        del left[k]
    return [*triangles, (left[0], left[1], left[2])]
