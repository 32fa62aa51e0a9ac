"""Polygons to triangles: area, winding and order, also of concave polygons."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from radarbook.faces.polygons import Polygons, triangulated


def ring(*corners, z=1.0):
    return np.array([[x, y, z] for x, y in corners], dtype=float)


SHAPES = {
    "square": (ring((0, 0), (1, 0), (1, 1), (0, 1)), 1.0),
    # The corner at (0.2, 0.2) is re-entrant: the usual fan from the first corner leaves the shape.
    "arrow": (ring((1, 0), (0.2, 0.2), (0, 1), (0, 0)), 0.2),
    "arrow, from another corner": (ring((0.2, 0.2), (0, 1), (0, 0), (1, 0)), 0.2),
    "ell": (ring((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)), 3.0),
    "octagon with a corner on a side": (
        ring((1, 0), (2, 0), (3, 1), (3, 2), (2, 3), (1.5, 3), (1, 3), (0, 2), (0, 1)),
        7.0,
    ),
}  # fmt: skip


def comb(teeth):
    """Teeth of 1 by 2 on a back of height 1, with gaps of 1 between: corners and area."""
    width = 2 * teeth - 1
    corners = [(0, 0), (width, 0)]
    for k in reversed(range(teeth)):
        corners += [(2 * k + 1, 3), (2 * k, 3)] + ([(2 * k, 1), (2 * k - 1, 1)] if k else [])
    return ring(*corners), width + 2 * teeth


# No corner of a comb sees all the others: no fan lies within it.
SHAPES |= {"comb of 3 teeth": comb(3), "comb of 60 teeth": comb(60)}


@pytest.mark.parametrize("turn", ["front", "back", "upright"])
@pytest.mark.parametrize("name", SHAPES)
def test_area_and_winding(name, turn):
    points, area = SHAPES[name]
    towards = np.array([0.0, 0.0, 1.0])
    if turn == "back":
        points, towards = points[::-1], -towards
    if turn == "upright":
        points, towards = points[:, [2, 0, 1]], towards[[2, 0, 1]]
    n = len(points)
    triangles = triangulated(Polygons(points, np.array([n]), np.arange(n)))
    assert triangles.shape == (n - 2, 3)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    along = np.cross(b - a, c - a) @ towards / 2
    # All in the polygon's sense, so that the areas can only add up to it without an overlap.
    assert (along >= 0).all()
    assert along.sum() == pytest.approx(area, rel=1e-12)


def test_order_of_mixed_polygons_is_kept():
    points = np.concatenate([SHAPES["square"][0] + [2 * k, 0, 0] for k in range(3)])
    polygons = Polygons(points, np.array([4, 3, 4]), np.array([0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]))
    triangles = triangulated(polygons)
    assert (triangles // 4).tolist() == [[0] * 3] * 2 + [[1] * 3] + [[2] * 3] * 2
    assert trimesh.Trimesh(points, triangles, process=False).area == pytest.approx(2.5)


def test_none():
    assert triangulated(Polygons(np.zeros((3, 3)), *np.zeros((2, 0), int))).shape == (0, 3)
