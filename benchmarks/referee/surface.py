"""Smooth surfaces, sampled by points with normals and areas.

A shape is sampled at any spacing, so that convergence can be tested. :class:`Parametric` is a
formula x(u, v); :class:`Patches` is the smooth surface through the vertices of a mesh (curved
point-normal triangles, Vlachos et al., I3D 2001). Metres, float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Real = NDArray[np.float64]
Index = NDArray[np.int64]

#: m, of the triangles that cast shadows. A surface of 5 mm radius is 25 µm off them.
OCCLUDER = 1.0e-3


@dataclass(frozen=True)
class Surface:
    """Samples of a surface, and a fine mesh of it that casts shadows.

    Attributes
    ----------
    points, normals : (P, 3)
        Positions, m, and outward unit normals.
    areas : (P,)
        Area that each point stands for, m². They add up to the surface's area.
    vertices, triangles : (V, 3), (F, 3) int64
        Occluder mesh.
    """

    points: Real
    normals: Real
    areas: Real
    vertices: Real
    triangles: Index

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, kept: NDArray[np.bool_] | Index) -> Surface:
        """Some of the points; the occluder stays whole."""
        return Surface(
            self.points[kept], self.normals[kept], self.areas[kept], self.vertices, self.triangles
        )


class Shape(Protocol):
    """Anything that can be sampled at a spacing."""

    def sampled(self, spacing: float) -> Surface:
        """Points about ``spacing`` metres apart."""
        ...


@dataclass(frozen=True)
class Parametric:
    """A surface x(u, v) over the unit square.

    Attributes
    ----------
    position
        (..., 3) m for u and v of one shape (...). ∂x/∂u × ∂x/∂v points inwards if ``flipped``.
    flipped : bool
    """

    position: Callable[[Real, Real], Real]
    flipped: bool = False

    def sampled(self, spacing: float) -> Surface:
        """Midpoints of a grid that is regular along u and along v, with x_u × x_v as density.

        The grid is spaced evenly by arc length where the surface is widest (90 % of the rows are
        not longer), so spacings are at most about the stated one. The midpoint rule on a regular
        grid converges faster than any power of the spacing for a smooth integrand, except at the
        border.
        """
        u, v = self._lines(spacing)
        mid_u, mid_v = (u[1:] + u[:-1]) / 2, (v[1:] + v[:-1]) / 2
        uu, vv = (a.ravel() for a in np.meshgrid(mid_u, mid_v))
        step = 1e-5
        along_u = (self.position(uu + step, vv) - self.position(uu - step, vv)) / (2 * step)
        along_v = (self.position(uu, vv + step) - self.position(uu, vv - step)) / (2 * step)
        cross = np.cross(along_u, along_v) * (-1 if self.flipped else 1)
        density = np.linalg.norm(cross, axis=1)
        cell = np.outer(np.diff(v), np.diff(u)).ravel()
        normals = cross / np.maximum(density, 1e-300)[:, None]
        vertices, triangles = self._occluder(max(spacing, OCCLUDER))
        return Surface(self.position(uu, vv), normals, density * cell, vertices, triangles)

    def _lines(self, spacing: float) -> tuple[Real, Real]:
        """Grid lines along u and along v."""
        fine = np.linspace(0, 1, 301)
        grid = self.position(*np.meshgrid(fine, fine))
        lines = []
        for axis in (1, 0):
            steps = np.linalg.norm(np.diff(grid, axis=axis), axis=2)
            length = np.concatenate([[0], np.cumsum(np.quantile(steps, 0.9, axis=1 - axis))])
            count = max(2, int(np.ceil(length[-1] / spacing - 1e-9)))
            lines.append(np.interp(np.linspace(0, length[-1], count + 1), length, fine))
        return lines[0], lines[1]

    def _occluder(self, spacing: float) -> tuple[Real, Index]:
        u, v = self._lines(spacing)
        vertices = self.position(*np.meshgrid(u, v)).reshape(-1, 3)
        number = np.arange(len(vertices)).reshape(len(v), len(u))
        a, b = number[:-1, :-1].ravel(), number[:-1, 1:].ravel()
        c, d = number[1:, :-1].ravel(), number[1:, 1:].ravel()
        return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])


def plate(centre: Real, side_u: Real, side_v: Real) -> Parametric:
    """A rectangle with sides (3,) m; ``side_u`` × ``side_v`` is its normal."""
    centre, side_u, side_v = (np.asarray(a, dtype=np.float64) for a in (centre, side_u, side_v))
    return Parametric(
        lambda u, v: centre + (u - 0.5)[..., None] * side_u + (v - 0.5)[..., None] * side_v
    )


def ellipsoid(centre: Real, radii: Real) -> Parametric:
    """A whole ellipsoid with half axes ``radii`` (3,) m, its poles on the y axis."""
    centre, radii = np.asarray(centre, dtype=np.float64), np.asarray(radii, dtype=np.float64)

    def position(u: Real, v: Real) -> Real:
        turn, fall = 2 * np.pi * u, np.pi * v
        unit = [np.sin(fall) * np.sin(turn), np.cos(fall), -np.sin(fall) * np.cos(turn)]
        return centre + radii * np.stack(unit, axis=-1)

    return Parametric(position)


@dataclass(frozen=True)
class Patches:
    """The smooth surface through a mesh's vertices: one cubic patch per triangle.

    Attributes
    ----------
    vertices, triangles : (V, 3), (F, 3)
        Metres; corners counter-clockwise seen from outside.
    crease : float
        Edges whose triangles meet at more than this angle stay sharp, radians.

    Corner normals are means over the triangles around a vertex that no crease separates, with
    weights sin(angle)/(product of the two sides), exact for vertices on a sphere (Max, J. Graphics
    Tools 4(2), 1999). There the patch follows the surface to fourth order in the edge.
    """

    vertices: Real
    triangles: Index
    crease: float = np.radians(50.0)

    def sampled(self, spacing: float) -> Surface:
        """Centroids of n² equal parts of each triangle's parameter plane, placed on its patch."""
        corners = self.vertices[self.triangles]
        sides = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2)
        area = np.linalg.norm(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
        )
        control = self._control(corners)
        count = np.maximum(np.sqrt(area / 2) / spacing, sides.max(axis=1) / (2 * spacing))
        found = []
        for n in np.unique(number := np.ceil(np.maximum(count, 1)).astype(int)):
            some = control[number == n]
            u, v = _centroids(n)
            x, along_u, along_v = (_patch(some, w) for w in _weights(u, v))
            cross = np.cross(along_u, along_v).reshape(-1, 3)
            twice = np.linalg.norm(cross, axis=1)
            found.append((x.reshape(-1, 3), cross / twice[:, None], twice / (2 * n * n)))
        points, normals, areas = (np.concatenate(part) for part in zip(*found, strict=True))
        parts = int(np.ceil(np.median(sides) / max(spacing, OCCLUDER)))
        return Surface(points, normals, areas, *_divided(control, max(parts, 1)))

    def _control(self, corners: Real) -> Real:
        """(F, 10, 3) control points in the order of :data:`_POWERS`."""
        normals, sharp = self._corner_normals(corners)
        edges = []
        for i in range(3):
            j = (i + 1) % 3
            span = corners[:, j] - corners[:, i]
            for a, along in ((i, span), (j, -span)):
                lift = (along * normals[:, a]).sum(1, keepdims=True) * normals[:, a]
                lift[sharp[:, i]] = 0  # a crease stays straight, the same from both sides
                edges.append(corners[:, a] + (along - lift) / 3)
        middle = sum(edges) / 6
        middle = middle + (middle - corners.mean(axis=1)) / 2
        ab, ba, bc, cb, ca, ac = edges
        a, b, c = corners.swapaxes(0, 1)
        return np.stack([a, b, c, ab, ba, bc, cb, ca, ac, middle], axis=1)

    def _corner_normals(self, corners: Real) -> tuple[Real, NDArray[np.bool_]]:
        """(F, 3, 3) unit normals at corners, and (F, 3) whether edge i, i + 1 is a crease."""
        following, before = np.roll(corners, -1, axis=1), np.roll(corners, 1, axis=1)
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        flat /= np.maximum(np.linalg.norm(flat, axis=1), 1e-300)[:, None]
        p, q = following - corners, before - corners
        weight = np.linalg.norm(np.cross(p, q), axis=2) / (
            np.maximum((p * p).sum(axis=2) * (q * q).sum(axis=2), 1e-300)
        )
        # Half-edges by undirected key; the two of an inner edge are neighbours after sorting.
        start, end = self.triangles.ravel(), np.roll(self.triangles, -1, axis=1).ravel()
        key = np.minimum(start, end) * len(self.vertices) + np.maximum(start, end)
        order = np.argsort(key, kind="stable")
        pair = np.flatnonzero(key[order[:-1]] == key[order[1:]])
        one, two = order[pair], order[pair + 1]
        bend = (flat[one // 3] * flat[two // 3]).sum(axis=1)
        smooth = bend > np.cos(self.crease)
        sharp = np.zeros(len(key), dtype=bool)
        sharp[one[~smooth]] = sharp[two[~smooth]] = True
        # Corners of one vertex share a normal if smooth edges connect their triangles.
        one, two = one[smooth], two[smooth]
        same = start[one] == start[two]  # triangles of opposite sense
        links = [
            (one, np.where(same, two, _next(two))),
            (_next(one), np.where(same, _next(two), two)),
        ]
        group = _connected(len(key), links)
        total = np.zeros((group.max() + 1, 3))
        np.add.at(total, group, np.repeat(flat, 3, axis=0) * weight.ravel()[:, None])
        total /= np.maximum(np.linalg.norm(total, axis=1), 1e-300)[:, None]
        return total[group].reshape(-1, 3, 3), sharp.reshape(-1, 3)


def _next(half_edge: Index) -> Index:
    """The half-edge that follows in its triangle; its start is the corner at this one's end."""
    return half_edge - half_edge % 3 + (half_edge + 1) % 3


def _connected(count: int, links: list[tuple[Index, Index]]) -> Index:
    i, j = (np.concatenate(side) for side in zip(*links, strict=True))
    graph = coo_array((np.ones(len(i), dtype=bool), (i, j)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


#: Powers of the barycentric coordinates (of corners a, b, c) at the ten control points.
_POWERS = np.array(
    [
        *((3, 0, 0), (0, 3, 0), (0, 0, 3)),
        *((2, 1, 0), (1, 2, 0), (0, 2, 1), (0, 1, 2), (1, 0, 2), (2, 0, 1)),
        (1, 1, 1),
    ]
)
_COUNTS = np.array([1, 1, 1, 3, 3, 3, 3, 3, 3, 6])


def _weights(u: Real, v: Real) -> list[Real]:
    """Cubic Bernstein weights (M, 10) of a patch at (u, v), and their derivatives by u and by v."""
    bary = np.stack([1 - u - v, u, v])[:, :, None]  # (3, M, 1)
    powers = _POWERS.T[:, None]  # (3, 1, 10)
    plain = bary**powers
    slope = powers * bary ** np.maximum(powers - 1, 0)
    by = [
        _COUNTS * np.prod([slope[j] if j == i else plain[j] for j in range(3)], axis=0)
        for i in range(3)
    ]
    return [_COUNTS * plain.prod(axis=0), by[1] - by[0], by[2] - by[0]]


def _patch(control: Real, weights: Real) -> Real:
    """(F, M, 3)."""
    return np.einsum("mk,fkc->fmc", weights, control)


def _corners(n: int) -> tuple[Real, Index]:
    """Grid points (M, 2) of a triangle divided into n² parts, and the parts' corners (n², 3)."""
    rows = [[(i, j) for i in range(n + 1 - j)] for j in range(n + 1)]
    grid = [place for row in rows for place in row]
    number = {place: k for k, place in enumerate(grid)}
    parts = []
    for i, j in grid:
        if i + j < n:
            parts.append([number[i, j], number[i + 1, j], number[i, j + 1]])
        if i + j < n - 1:
            parts.append([number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]])
    return np.array(grid, dtype=np.float64) / n, np.array(parts, dtype=np.int64)


def _centroids(n: int) -> tuple[Real, Real]:
    grid, parts = _corners(n)
    u, v = grid[parts].mean(axis=1).T
    return u, v


def _divided(control: Real, n: int) -> tuple[Real, Index]:
    """Vertices and triangles of all patches in n² flat parts each."""
    grid, parts = _corners(n)
    vertices = _patch(control, _weights(grid[:, 0], grid[:, 1])[0])
    first = len(grid) * np.arange(len(control))[:, None, None]
    return vertices.reshape(-1, 3), (parts + first).reshape(-1, 3)
