"""The smooth surface through the vertices of a mesh: one quadratic patch per triangle.

Vertex normals bend each triangle's edges; the patch is the surface through three corners and three
bent edges (book, :ref:`physics`, section 2):

    x(b) = Σ_i b_i p_i + 4 Σ_{i<j} b_i b_j m_ij,
    m_ij = ((d · n_j) n_j - (d · n_i) n_i) / 8,   d = p_j - p_i.

b are barycentric coordinates, p corners, n their unit normals, m the *bulge* of an edge: from the
middle of the chord to the middle of the curve. An edge's curve depends on its ends alone, so that
neighbours meet without a gap. Edges sharper than :data:`CREASE` stay sharp: each side has normals
of its own. The normals' weights are those of Max (Journal of Graphics Tools 4(2), 1999), which are
exact for vertices on a sphere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from radarbook.radar.scattering import facets

#: Triangles that meet at more than this angle have an edge between them, radians. Lips and nostrils
#: of face models meet at up to 60° and are round: 45° loses 0.15 % of coherence with the fine face.
CREASE = math.radians(70.0)
#: Bulges below this part of the edge are rounding, not curvature, and are 0: 3 nm of 3 mm.
_FLAT = 1e-6


@dataclass(frozen=True)
class SmoothSurface:
    """Which corners of a mesh share a normal; the surface itself follows the vertices.

    Creases are decided by the geometry in :meth:`of` and are not differentiated.

    Attributes
    ----------
    triangles : Tensor (F, 3)
    groups : Tensor (F, 3), or (B, F, 3) of B meshes; int64
        Number of each corner's normal. Corners of one vertex share it unless a crease parts them.

    Examples
    --------
    >>> from radarbook.radar.meshes import sphere
    >>> vertices, triangles = sphere((0.0, 0.0, 0.35), radius=0.03, facet=5e-3)
    >>> surface = SmoothSurface.of(vertices, triangles)
    >>> bulges = surface.bulges(vertices)
    >>> tuple(bulges.shape) == (len(triangles), 3, 3)
    True
    >>> chord = vertices[triangles].roll(-1, 1) - vertices[triangles]
    >>> sagitta = 0.03 - (0.03**2 - chord.norm(dim=-1) ** 2 / 4).sqrt()
    >>> bool(((bulges.norm(dim=-1) / sagitta - 1).abs() < 0.01).all())
    True
    """

    triangles: Tensor
    groups: Tensor

    @classmethod
    def of(cls, vertices: Tensor, triangles: Tensor, *, crease: float = CREASE) -> SmoothSurface:
        """Of a mesh, vertices (N, 3), or of several that share their triangles, (B, N, 3).

        Normals are shared over edges of exactly two triangles of the same winding that meet at less
        than ``crease`` radians. At the border of a mesh the triangles that are there decide: their
        normals are one-sided.
        """
        batch = vertices.detach().reshape(-1, *vertices.shape[-2:])
        pairs = _pairs(triangles)
        found = [pairs.groups(_smooth(mesh, triangles, pairs, crease)) for mesh in batch]
        if all(groups is found[0] for groups in found):
            return cls(triangles, found[0].to(triangles.device))
        return cls(triangles, torch.stack(found).to(triangles.device))

    def normals(self, vertices: Tensor) -> Tensor:
        """Unit normals (F, 3, 3) of the corners of a mesh (N, 3), or (B, F, 3, 3) of (B, N, 3)."""
        corners = vertices[..., self.triangles, :]
        to_next = corners.roll(-1, -2) - corners
        to_last = -to_next.roll(1, -2)
        cross = torch.linalg.cross(to_next, to_last, dim=-1)
        floor = torch.finfo(vertices.dtype).tiny
        lengths = to_next.square().sum(-1) * to_last.square().sum(-1)
        weighted = cross / lengths.clamp(min=floor)[..., None]
        shape = weighted.shape
        flat = weighted.reshape(*shape[:-3], -1, 3)
        groups = self.groups.flatten(-2)[..., None].expand_as(flat)
        total = flat.new_zeros(flat.shape).scatter_add(-2, groups, flat)
        normal = total / total.square().sum(-1, keepdim=True).clamp(min=floor).sqrt()
        return normal.gather(-2, groups).reshape(shape)

    def bulges(self, vertices: Tensor, some: Tensor | None = None) -> Tensor:
        """(F, 3, 3) m, or (B, F, 3, 3): bulges of the edges 01, 12 and 20 of each triangle.

        With ``some``, numbers of triangles, of those alone: of others they may be 0.
        Differentiable, in the vertices' precision. Exactly 0 where the surface is flat. On a CPU by
        compiled code (:mod:`radarbook.radar.bending`), differentiable once.
        """
        if vertices.device.type != "cpu":
            return self._bulges(vertices)
        used = torch.full((len(self.triangles),), some is None)
        if some is not None:
            used[some] = True
        from radarbook.radar.bending import bulges  # compiles, which takes seconds at first

        batch = vertices.reshape(-1, *vertices.shape[-2:])
        groups = self.groups.expand(len(batch), *self.triangles.shape)
        found = [
            bulges(mesh, self.triangles, own, used, _FLAT)
            for mesh, own in zip(batch, groups, strict=True)
        ]
        bulged = found[0] if len(found) == 1 else torch.stack(found)
        return bulged.reshape(*vertices.shape[:-2], *self.triangles.shape, 3)

    def _bulges(self, vertices: Tensor) -> Tensor:
        """As :meth:`bulges`, by torch's operations."""
        corners = vertices[..., self.triangles, :]
        normal = self.normals(vertices)
        chord = corners.roll(-1, -2) - corners
        first = (chord * normal).sum(-1, keepdim=True) * normal
        after = normal.roll(-1, -2)
        bulge = ((chord * after).sum(-1, keepdim=True) * after - first) / 8
        flat = bulge.detach().square().sum(-1) <= _FLAT**2 * chord.detach().square().sum(-1)
        # The value is 0, the gradient is not: a flat mesh bends when a vertex moves.
        return bulge - torch.where(flat[..., None], bulge.detach(), 0)

    def points(self, vertices: Tensor, some: Tensor | None = None) -> Tensor:
        """(N + 3F, 3), or (B, N + 3F, 3): the vertices, then the bulges of all triangles in a row.

        What depends on the vertices and is needed to compute any piece of the surface, or of its
        triangles ``some``.
        """
        return torch.cat([vertices, self.bulges(vertices, some).flatten(-3, -2)], dim=-2)


@dataclass(frozen=True)
class _Pairs:
    """Edges of exactly two triangles of the same winding: triangles (E, 2), corners (2E, 2) that
    meet there, ``count`` corners in all, and the groups where every such edge is smooth."""

    triangles: NDArray[np.int64]
    corners: NDArray[np.int64]
    count: int
    whole: Tensor
    version: int

    def groups(self, smooth: NDArray[np.bool_]) -> Tensor:
        """(F, 3) of the edges that are smooth (E,)."""
        if smooth.all():
            return self.whole
        return _groups(self.corners[np.concatenate([smooth, smooth])], self.count)


#: Of each tensor of triangles that lives.
_KNOWN: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _pairs(triangles: Tensor) -> _Pairs:
    known: _Pairs | None = _KNOWN.get(triangles)
    if known is not None and known.version == triangles._version:
        return known
    t = triangles.cpu().numpy().astype(np.int64)
    start, end = t.ravel(), np.roll(t, -1, axis=1).ravel()
    low, high = np.minimum(start, end), np.maximum(start, end)
    key = low * (int(t.max(initial=0)) + 1) + high
    order = np.argsort(key, kind="stable")
    _, first, count = np.unique(key[order], return_index=True, return_counts=True)
    first = first[count == 2]
    one, other = order[first], order[first + 1]
    alike = start[one] == end[other]  # of the same winding
    one, other = one[alike], other[alike]

    def after(corner: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(corner % 3 == 2, corner - 2, corner + 1)

    ends = [np.stack([one, after(other)], 1), np.stack([after(one), other], 1)]
    corners = np.concatenate(ends)
    found = _Pairs(
        np.stack([one // 3, other // 3], 1),
        corners,
        t.size,
        _groups(corners, t.size),
        triangles._version,
    )
    _KNOWN[triangles] = found
    return found


def _groups(corners: NDArray[np.int64], count: int) -> Tensor:
    graph = coo_array((np.ones(len(corners), bool), corners.T), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    return torch.from_numpy(labels.astype(np.int64).reshape(-1, 3))


def _smooth(vertices: Tensor, triangles: Tensor, pairs: _Pairs, crease: float) -> NDArray[np.bool_]:
    """(E,) of the edges of ``pairs``."""
    normal = facets(vertices.double(), triangles.to(vertices.device)).normal.cpu().numpy()
    one, other = pairs.triangles.T
    cosine: NDArray[np.float64] = np.einsum("ei,ei->e", normal[one], normal[other])
    return cosine >= math.cos(crease)
