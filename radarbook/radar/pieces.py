"""Facets that radiate: which triangles of a mesh are lit and seen, and how they are divided.

Triangles are flat, or patches of the smooth surface through the vertices
(:mod:`radarbook.radar.surface`), which are divided on the surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.spatial
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.imaging import MEMORY_BUDGET
from radarbook.radar.scattering import Facets, facets, middles
from radarbook.radar.skeleton import shadow_groups
from radarbook.radar.speckle import cell_phases, seeds_of
from radarbook.radar.surface import SmoothSurface

#: Edges longer than this are divided before a facet radiates, m: with their own phase integrals
#: such facets give a -30 dB image that correlates 0.999 with the converged one (book, section 3).
FACET_SIZE = 3e-3
#: Facets take one direction for all antennas. Where these lie in more different ones than seen from
#: this distance, in terms of their own extent, pieces get smaller: 0.3 m of the QAR50.
NEAR = 3.85
#: Pieces of a smooth surface whose edges bulge by more are divided, too, m, at :data:`FACET_SIZE`:
#: their four flat parts then lie within a hundredth of a wavelength. Few do. It falls as the facet
#: size's square, as the bulges of pieces do.
BULGE = 160e-6
#: Extent of antennas across a plane or a line, relative to that along it, that is a rounding error.
_FLAT = 1e-9
#: Divisions of a triangle into four, at most: a million pieces.
_MAX_LEVEL = 10


@dataclass(frozen=True)
class Pieces:
    """Pieces of triangles that radiate towards an array, wherever the vertices are.

    Lighting, visibility and division are decided by the geometry in :meth:`of` and are not
    differentiated. The facets themselves follow the vertices (:meth:`facets`), so that pieces of
    one mesh serve meshes that differ a little from it: they are then frozen.

    Attributes
    ----------
    triangles : Tensor (F, 3)
        Of the mesh.
    parent : Tensor (P,)
        The triangle that each piece is of.
    corners, share : Tensor (P, 3, 3) and (P,), optional
        A piece's corners in terms of its triangle's, and its share of the area; None: whole
        triangles.
    mesh : Tensor (P,), optional
        The mesh of a batch that each piece belongs to, ascending; None: all are of one mesh.
    phase : Tensor (P,), optional
        Of the diffuse part, radians; None: there is no diffuse part, the rest of the power is lost.
    seen : Tensor (P, G), optional
        0 … 1, how the groups of antennas see the pieces; None: nothing is hidden.
    columns : tuple of Tensor (T,) and (R,), optional
        The column of ``seen`` that is each antenna's group.
    weight : Tensor (P,), or (B, P) of B meshes, optional
        Factors of the responses.
    edge : float, optional
        Longest edge, m, where it is known.
    surface : SmoothSurface, optional
        That the triangles are patches of; None: they are flat.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.meshes import sphere
    >>> vertices, triangles = sphere((0.0, 0.0, 0.35), radius=0.03, facet=5e-3)
    >>> pieces = Pieces.of(vertices, triangles, qar50(), facet_size=5e-3)
    >>> len(pieces) < len(triangles)  # the far side is not lit
    True
    >>> pieces.facets(vertices + 1e-3).area.shape == (len(pieces),)
    True
    """

    triangles: Tensor
    parent: Tensor
    corners: Tensor | None = None
    share: Tensor | None = None
    mesh: Tensor | None = None
    phase: Tensor | None = None
    seen: Tensor | None = None
    columns: tuple[Tensor, Tensor] | None = None
    weight: Tensor | None = None
    edge: float | None = None
    surface: SmoothSurface | None = None

    @classmethod
    def whole(cls, triangles: Tensor, surface: SmoothSurface | None = None) -> Pieces:
        """All triangles as they are, lit or not."""
        every = torch.arange(len(triangles), device=triangles.device)
        return cls(triangles, every, surface=surface)

    @classmethod
    def of(
        cls,
        vertices: Tensor,
        triangles: Tensor,
        array: Array,
        *,
        visibility: Tensor | None = None,
        facet_size: float = FACET_SIZE,
        surface: SmoothSurface | None = None,
        near: bool = True,
        seed: int | Sequence[int] | None = 0,
        rest: Tensor | None = None,
        memory: int = MEMORY_BUDGET,
    ) -> Pieces:
        """Of vertices (N, 3) or (B, N, 3), with visibility (F, G) or (B, F, G) or None; float64.

        Parameters are those of :func:`~radarbook.radar.simulate.simulate`; of ``seed`` None there
        are no diffuse phases. With ``near`` pieces are smaller than ``facet_size`` where the
        antennas lie in very different directions (:data:`NEAR`).
        Raises :class:`~radarbook.errors.InputError` for edges that more than ten divisions would
        leave too long.
        """
        points, device = vertices.detach().double(), vertices.device
        triangles = triangles.to(device)
        meshes = points.shape[:-2].numel()
        every = facets(points.reshape(-1, 3), all_triangles(points, triangles))
        antennas = torch.cat([array.tx, array.rx]).detach().to(device)
        item = torch.arange(len(every), device=device)  # triangles of all meshes in a row
        seen = visibility
        if seen is not None:
            seen = seen.to(points).expand(meshes, *seen.shape[-2:]).flatten(0, 1)
            item = (seen > 0).any(1).nonzero()[:, 0]
        # Lit by any antenna: n · (a - c) > 0 for the antenna a farthest along n, an outermost one.
        outer = outermost(antennas)
        lit = [
            (every.normal[some] @ outer.T).amax(1)
            > (every.normal[some] * every.centre[some]).sum(1)
            for some in item.split(max(1, memory // (16 * len(outer))))
        ]
        item = item[torch.cat(lit)] if lit else item
        edges = every.corners[item] - every.corners[item].roll(1, dims=1)
        longest = edges.square().sum(-1).amax(1).sqrt()
        largest = torch.full_like(longest, facet_size)
        if near:
            largest = facet_size * _nearness(every.centre[item], antennas.to(points))
        level = torch.log2(longest / largest).ceil()
        if surface is not None:
            bulges = surface.bulges(points).flatten(0, -3)[item]
            most = bulges.square().sum(-1).amax(1).sqrt()
            limit = BULGE * (facet_size / FACET_SIZE) ** 2
            level = torch.maximum(level, (torch.log2(most / limit) / 2).ceil())
        level = level.clamp(min=0).long()
        deepest = int(level.max()) if len(level) else 0
        if deepest > _MAX_LEVEL:
            raise InputError(
                f"triangles: expected edges of at most {2**_MAX_LEVEL} facet sizes "
                f"({2**_MAX_LEVEL * facet_size:.3g} m), found {float(longest.max()):.3g} m; divide "
                "them or state a larger facet_size"
            )
        tables = _division(deepest).to(points)
        first = torch.tensor([(4**i - 1) // 3 for i in range(_MAX_LEVEL + 1)], device=device)
        pieces = 4**level
        owner = torch.repeat_interleave(torch.arange(len(item), device=device), pieces)
        rank = torch.arange(len(owner), device=device) - (pieces.cumsum(0) - pieces)[owner]
        child = first[level[owner]] + rank
        item = item[owner]
        mesh = item.div(len(triangles), rounding_mode="floor")
        parent = item - mesh * len(triangles)
        phase = None
        if seed is not None:
            corners = every.corners[item]
            if rest is not None:
                corners = rest.detach().double().to(device)[triangles[parent]]
            places = (tables[child] @ corners).mean(1)
            phase = cell_phases(places, seeds_of(seed, meshes), mesh)
        return cls(
            triangles,
            parent,
            tables[child],
            0.25 ** level[owner].double(),
            None if meshes == 1 else mesh,
            phase,
            None if seen is None else seen[item],
            group_columns(array),
            edge=float((longest * 0.5**level).max()) if len(level) else 0.0,
            surface=surface,
        )

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def _arrays(self) -> dict[str, Tensor]:
        """What has one row per piece, but for ``weight``."""
        values = {name: getattr(self, name) for name in ("parent", "mesh", *_REAL)}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, dtype: torch.dtype) -> Pieces:
        """The same with real numbers of this precision; itself where they are."""
        values = {name: value for name, value in self._arrays.items() if name in _REAL}
        if all(value.dtype == dtype for value in values.values()):
            return self
        changed: dict[str, Any] = {name: value.to(dtype) for name, value in values.items()}
        return replace(self, **changed)

    def only(self, keep: Tensor | slice) -> Pieces:
        """Some of them."""
        weight = None if self.weight is None else self.weight[..., keep]
        some: dict[str, Any] = {name: value[keep] for name, value in self._arrays.items()}
        return replace(self, **some, weight=weight)

    def weighted(self, weight: Tensor) -> Pieces:
        """The same with these weights; without the pieces that weigh nothing."""
        keep = (weight.reshape(-1, len(self)) > 0).any(0).nonzero()[:, 0]
        return replace(self.only(keep), weight=weight[..., keep])

    def each(self, count: int) -> Pieces:
        """For ``count`` meshes: pieces of one mesh are repeated for all of them."""
        if self.mesh is not None:
            return self
        rows = torch.arange(len(self), device=self.parent.device).repeat(count)
        mesh = torch.arange(count, device=rows.device).repeat_interleave(len(self))
        weight = self.weight
        flat = None if weight is None else weight.expand(count, -1).flatten()
        return replace(replace(self, weight=None).only(rows), mesh=mesh, weight=flat)

    @cached_property
    def seen_by(self) -> tuple[Tensor | None, Tensor | None]:
        """(P, T) and (P, R): how each transmitter and each receiver sees them."""
        return self.seen_from(None, None)

    def seen_from(
        self, tx: Tensor | None, rx: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """As :attr:`seen_by`, of the antennas ``tx`` and ``rx`` (numbers)."""
        if self.seen is None or self.columns is None:
            return None, None
        by_tx, by_rx = (
            self.seen[:, (column if some is None else column[some]).to(self.seen.device)]
            for column, some in zip(self.columns, (tx, rx), strict=True)
        )
        return by_tx, by_rx

    def flat(self) -> Pieces:
        """The same of flat triangles."""
        return self if self.surface is None else replace(self, surface=None)

    def points(self, vertices: Tensor) -> Tensor:
        """What :meth:`facets` takes, of vertices (N, 3) or (B, N, 3): the same, and of a smooth
        surface its bulges after them; differentiable."""
        return vertices if self.surface is None else self.surface.points(vertices, self.parent)

    def facets(self, vertices: Tensor, index: Tensor | None = None) -> Facets:
        """The facets, or those numbered ``index``; differentiable, in the vertices' precision.

        Of vertices (N, 3), or (B, N, 3), as :meth:`points` gives them: pieces with ``mesh`` are
        each of their mesh (P), others of all meshes, one after the other (B · P).
        """
        pieces = self if index is None else self.only(index)
        corners = pieces._rows(vertices.shape[-2])
        repeated = 1
        if pieces.mesh is not None and vertices.ndim == 3:
            corners = corners + (pieces.mesh * vertices.shape[1])[:, None]
        elif vertices.ndim == 3:
            corners, repeated = all_triangles(vertices, corners), len(vertices)
        if pieces.surface is not None:
            control = vertices.reshape(-1, 3)[corners].unflatten(0, (repeated, len(pieces)))
            nodes = (pieces._patch_weights().to(vertices.dtype) @ control).flatten(0, 1)
            return Facets.bent(nodes[:, :3], nodes[:, 3:])
        whole = facets(vertices.reshape(-1, 3), corners)
        if pieces.corners is None or pieces.share is None:
            return whole
        shape = repeated, len(pieces)
        parts = pieces.corners.to(vertices.dtype) @ whole.corners.unflatten(0, shape)
        area = whole.area.unflatten(0, shape) * pieces.share.to(vertices.dtype)
        parts = parts.flatten(0, 1)
        return Facets(parts, middles(parts), whole.normal, area.flatten())

    def _rows(self, count: int) -> Tensor:
        """(P, 3) rows of the triangles' corners among a mesh's ``count`` points, or (P, 6) with
        those of their edges' bulges."""
        corners = self.triangles[self.parent]
        if self.surface is None:
            return corners
        first = count - 3 * len(self.triangles) + 3 * self.parent
        edges = torch.arange(3, device=first.device) + first[:, None]
        return torch.cat([corners, edges], 1)

    def _patch_weights(self) -> Tensor:
        """(P, 6, 6), or (6, 6) of whole triangles: corners and middles of edges of the pieces, in
        terms of corners and bulges of the triangles."""
        corners = self.corners
        if corners is None:
            corners = torch.eye(3, dtype=torch.float64, device=self.parent.device)
        b = torch.cat([corners, (corners + corners.roll(-1, -2)) / 2], -2)
        return torch.cat([b, 4 * b * b.roll(-1, -1)], -1)

    @torch.no_grad()
    def centres(self, vertices: Tensor) -> Tensor:
        """(P, 3) of vertices (N, 3), or (B, N, 3) where pieces are each of their mesh, as
        :meth:`points` gives them."""
        corners = self._rows(vertices.shape[-2])
        if self.mesh is not None and vertices.ndim == 3:
            corners = corners + (self.mesh * vertices.shape[1])[:, None]
        places = vertices.detach().reshape(-1, 3)[corners]
        if self.surface is not None:
            weights = self._patch_weights().to(places)
            middle = weights[..., 3:, :].sum(-2) / 3
            return (middle[..., None] * places).sum(-2)
        if self.corners is None:
            return middles(places)
        return torch.einsum("pc,pcx->px", self.corners.to(places).mean(1), places)


#: Attributes of :class:`Pieces` that are real numbers, a row per piece.
_REAL = ("corners", "share", "phase", "seen")


def all_triangles(vertices: Tensor, triangles: Tensor) -> Tensor:
    """(B · F, 3): triangles (F, 3) of each mesh of (B, N, 3) or of the one (N, 3), for its vertices
    in a row."""
    if vertices.ndim == 2:
        return triangles
    first = torch.arange(len(vertices), device=triangles.device) * vertices.shape[1]
    return (triangles + first[:, None, None]).flatten(0, 1)


def group_columns(array: Array) -> tuple[Tensor, Tensor]:
    """(T,) and (R,) int64: the column of a visibility (F, G) that is each antenna's group."""
    tx, rx = shadow_groups(array.tx), shadow_groups(array.rx)
    return tx, rx + int(tx.max()) + 1


def _nearness(places: Tensor, antennas: Tensor) -> Tensor:
    """(P,) 0 … 1: how much smaller than elsewhere pieces at ``places`` (P, 3) are.

    The error of one direction for all of a piece grows as the square of its size times the angle
    between antennas; a power of 3/2 keeps it below 0.02 down to 0.05 m from the QAR50.
    """
    middle = antennas.mean(0)
    extent = (antennas - middle).square().sum(1).mean()
    distance = (places - middle).square().sum(1) + extent
    return (distance / (NEAR**2 * extent).clamp(min=1e-12)).pow(0.75).clamp(max=1)


def outermost(antennas: Tensor) -> Tensor:
    """(n, 3) of antennas (A, 3), the corners of their convex hull: in any direction one of them is
    the farthest.

    Examples
    --------
    >>> line = torch.zeros(9, 3)
    >>> line[:, 0] = torch.linspace(-0.2, 0.2, 9)
    >>> outermost(line)[:, 0].sort().values
    tensor([-0.2000,  0.2000])
    """
    points = antennas.detach().cpu().numpy().astype(np.float64)
    return antennas[torch.from_numpy(_hull(points.tobytes()).copy()).to(antennas.device)]


@lru_cache(maxsize=64)
def _hull(positions: bytes) -> NDArray[np.int64]:
    points = np.frombuffer(positions).reshape(-1, 3)
    offsets = points - points.mean(0)
    _, extents, axes = np.linalg.svd(offsets, full_matrices=False)
    # A hull exists in the space that the antennas span: on a plane, a line or in a point.
    spanned = offsets @ axes[extents > _FLAT * max(extents.max(), 1e-300)].T
    if len(points) < 4 or spanned.shape[1] == 0:
        return np.arange(len(points))
    if spanned.shape[1] == 1:
        return np.array([spanned[:, 0].argmin(), spanned[:, 0].argmax()])
    return np.asarray(scipy.spatial.ConvexHull(spanned).vertices, dtype=np.int64)


def middle(array: Array) -> Tensor:
    """(3,) of an array: facets take their response towards it."""
    return (array.tx.mean(0) + array.rx.mean(0)) / 2


def _division(deepest: int) -> Tensor:
    """(pieces, 3, 3) corners of the 1 + 4 + 16 + … pieces of a triangle divided 0, 1, 2, … times,
    as weights of its own corners. Orientation is kept."""
    levels = [torch.eye(3, dtype=torch.float64)[None]]
    for _ in range(deepest):
        a, b, c = levels[-1].unbind(1)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (bc, ca, ab)]
        levels.append(torch.cat([torch.stack(part, 1) for part in parts]))
    return torch.cat(levels)
