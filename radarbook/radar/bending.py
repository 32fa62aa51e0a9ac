"""Bulges of a smooth surface and their gradient on a CPU, compiled by Numba at first use.

The formulas of :mod:`radarbook.radar.surface`, triangle by triangle. One by one, torch's operations
take ten times as long, which is more than a fit's whole signal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radarbook.radar.kernels.cpu import _cross, compiled

_ONE, _EIGHTH = np.float32(1), np.float32(0.125)
_TWO, _TINY = np.float32(2), np.finfo(np.float32).tiny


@compiled(inline="always")
def _edges(points, triangles, f, at, edge, square):  # type: ignore[no-untyped-def]
    """Corners, edges 01, 12, 20 and their squared lengths of the triangle ``f``."""
    for i in range(3):
        for x in range(3):
            at[i, x] = points[triangles[f, i], x]
    for i in range(3):
        j = (i + 1) % 3
        for x in range(3):
            edge[i, x] = at[j, x] - at[i, x]
        square[i] = edge[i, 0] ** 2 + edge[i, 1] ** 2 + edge[i, 2] ** 2


@compiled(nogil=True)
def _normals(points, triangles, groups, used, normal, inverse):  # type: ignore[no-untyped-def]
    """Unit normals (G, 3) of groups of corners, and 1 / the length that their sum had (G,); 0
    where no triangle that is ``used`` (F,) has a corner."""
    needed = np.zeros(len(normal), np.bool_)
    for f in range(len(triangles)):
        if used[f]:
            for i in range(3):
                needed[groups[f, i]] = True
    at, edge = np.empty((3, 3), points.dtype), np.empty((3, 3), points.dtype)
    square = np.empty(3, points.dtype)
    normal[:] = 0
    for f in range(len(triangles)):
        if not (needed[groups[f, 0]] or needed[groups[f, 1]] or needed[groups[f, 2]]):
            continue
        _edges(points, triangles, f, at, edge, square)
        cx, cy, cz = _cross(at, 0, 1, 2)
        for i in range(3):
            w, g = _ONE / max(square[i] * square[i - 1], _TINY), groups[f, i]
            normal[g, 0] += w * cx
            normal[g, 1] += w * cy
            normal[g, 2] += w * cz
    for g in range(len(normal)):
        if not needed[g]:
            inverse[g] = 0
            continue
        total = normal[g, 0] ** 2 + normal[g, 1] ** 2 + normal[g, 2] ** 2
        inverse[g] = _ONE / math.sqrt(max(total, _TINY))
        for x in range(3):
            normal[g, x] *= inverse[g]


@compiled(nogil=True)
def _bulges(points, triangles, groups, used, normal, flat, out):  # type: ignore[no-untyped-def]
    """Of the triangles that are ``used`` (F,), ``out`` (F, 3, 3), 0 of others; below the share
    ``flat`` of the edge they are 0."""
    at, edge = np.empty((3, 3), points.dtype), np.empty((3, 3), points.dtype)
    square = np.empty(3, points.dtype)
    for f in range(len(triangles)):
        if not used[f]:
            out[f] = 0
            continue
        _edges(points, triangles, f, at, edge, square)
        for i in range(3):
            a, b = groups[f, i], groups[f, (i + 1) % 3]
            first, after = points.dtype.type(0), points.dtype.type(0)
            for x in range(3):
                first += edge[i, x] * normal[a, x]
                after += edge[i, x] * normal[b, x]
            height = points.dtype.type(0)
            for x in range(3):
                out[f, i, x] = _EIGHTH * (after * normal[b, x] - first * normal[a, x])
                height += out[f, i, x] ** 2
            if height <= flat * flat * square[i]:
                for x in range(3):
                    out[f, i, x] = 0


@compiled(nogil=True)
def _gradient(  # type: ignore[no-untyped-def]
    points, triangles, groups, normal, inverse, back, turn, out
):
    """Gradients ``out`` (N, 3) of points, of those ``back`` (F, 3, 3) of bulges; ``turn`` (G, 3) is
    room for those of normals."""
    kind = points.dtype
    at, edge, slope = np.empty((3, 3), kind), np.empty((3, 3), kind), np.empty((3, 3), kind)
    square, longer, cross, along = (
        np.empty(3, kind), np.empty(3, kind), np.empty(3, kind), np.empty(3, kind),
    )  # fmt: skip
    zero = kind.type(0)
    out[:] = 0
    turn[:] = 0
    for f in range(len(triangles)):
        _edges(points, triangles, f, at, edge, square)
        for i in range(3):
            j = (i + 1) % 3
            a, b = groups[f, i], groups[f, j]
            first, after, on_a, on_b = zero, zero, zero, zero
            for x in range(3):
                first += edge[i, x] * normal[a, x]
                after += edge[i, x] * normal[b, x]
                on_a += back[f, i, x] * normal[a, x]
                on_b += back[f, i, x] * normal[b, x]
            for x in range(3):
                turn[a, x] -= _EIGHTH * (on_a * edge[i, x] + first * back[f, i, x])
                turn[b, x] += _EIGHTH * (on_b * edge[i, x] + after * back[f, i, x])
                moved = _EIGHTH * (on_b * normal[b, x] - on_a * normal[a, x])
                out[triangles[f, i], x] -= moved
                out[triangles[f, j], x] += moved
    for g in range(len(normal)):
        part = turn[g, 0] * normal[g, 0] + turn[g, 1] * normal[g, 1] + turn[g, 2] * normal[g, 2]
        for x in range(3):
            turn[g, x] = (turn[g, x] - part * normal[g, x]) * inverse[g]
    for f in range(len(triangles)):
        _edges(points, triangles, f, at, edge, square)
        cross[0], cross[1], cross[2] = _cross(at, 0, 1, 2)
        along[:] = 0
        longer[:] = 0
        for i in range(3):
            g = groups[f, i]
            weight = _ONE / max(square[i] * square[i - 1], _TINY)
            change = zero
            for x in range(3):
                along[x] += weight * turn[g, x]
                change += weight * turn[g, x] * cross[x]
            longer[i] -= change / max(square[i], _TINY)
            longer[i - 1] -= change / max(square[i - 1], _TINY)
        for i in range(3):
            for x in range(3):
                slope[i, x] = _TWO * longer[i] * edge[i, x]
        # The cross product is that of the edges 01 and 12.
        for x in range(3):
            y, z = (x + 1) % 3, (x + 2) % 3
            slope[0, x] += edge[1, y] * along[z] - edge[1, z] * along[y]
            slope[1, x] += along[y] * edge[0, z] - along[z] * edge[0, y]
        for i in range(3):
            for x in range(3):
                out[triangles[f, i], x] -= slope[i, x]
                out[triangles[f, (i + 1) % 3], x] += slope[i, x]


class _Bulges(torch.autograd.Function):
    """(F, 3, 3) of vertices (N, 3) on a CPU, triangles and groups (F, 3), for autograd."""

    @staticmethod
    def forward(
        ctx: Any, vertices: Tensor, triangles: Tensor, groups: Tensor, used: Tensor, flat: float
    ) -> Tensor:
        points = vertices.detach().contiguous()
        count = 3 * len(triangles)
        normal, inverse = points.new_empty(count, 3), points.new_empty(count)
        out = points.new_empty(len(triangles), 3, 3)
        given = [points.numpy(), *(v.contiguous().numpy() for v in (triangles, groups, used))]
        _normals(*given, normal.numpy(), inverse.numpy())
        _bulges(*given, normal.numpy(), np.float32(flat), out.numpy())
        ctx.save_for_backward(points, triangles, groups, normal, inverse)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        points, triangles, groups, normal, inverse = ctx.saved_tensors
        out, turn = torch.empty_like(points), torch.empty_like(normal)
        _gradient(
            *(value.contiguous().numpy() for value in (points, triangles, groups, normal, inverse)),
            gradient.contiguous().numpy(),
            turn.numpy(),
            out.numpy(),
        )
        return out, None, None, None, None


def bulges(
    vertices: Tensor, triangles: Tensor, groups: Tensor, used: Tensor, flat: float
) -> Tensor:
    """Bulges of the edges of one mesh on a CPU: as
    :meth:`~radarbook.radar.surface.SmoothSurface.bulges`, compiled and differentiable once.

    Parameters
    ----------
    vertices : Tensor (N, 3), float32 or float64, m
    triangles : Tensor (F, 3), int64
    groups : Tensor (F, 3), int64
        Which normal each corner has.
    used : Tensor (F,), bool
        Which triangles have bulges; those of others are 0.
    flat : float
        Bulges below this part of an edge are 0.

    Returns a Tensor (F, 3, 3) of the vertices' dtype: edges 01, 12 and 20 of each triangle.
    """
    found: Tensor = _Bulges.apply(vertices, triangles, groups, used, flat)
    return found
