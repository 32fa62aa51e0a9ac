"""Pieces of triangles that radiate: which of a mesh are lit, seen, and how they are divided."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from radarbook.radar.scattering import Facets, facets, middles
from radarbook.radar.simulate import all_triangles


@dataclass(frozen=True)
class Pieces:
    """Pieces of the triangles of a mesh, wherever its vertices are.

    Attributes
    ----------
    triangles : Tensor (F, 3)
        Of the mesh.
    parent : Tensor (P,)
        The triangle that each piece is of.
    corners, share : Tensor (P, 3, 3) and (P,), optional
        A piece's corners in terms of its triangle's, and its share of the area; None: whole
        triangles.
    seen : list of Tensor (P, T) and (P, R), optional
        By each transmitter and each receiver.
    weight : Tensor (P,), or (B, P) of as many faces, optional
    """

    triangles: Tensor
    parent: Tensor
    corners: Tensor | None
    share: Tensor | None
    seen: list[Tensor | None]
    weight: Tensor | None

    def only(self, keep: Tensor | slice, weight: Tensor | None) -> Pieces:
        """Some of them, with this weight."""

        def part(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[keep]

        seen = [part(value) for value in self.seen]
        return Pieces(
            self.triangles, self.parent[keep], part(self.corners), part(self.share), seen, weight
        )

    def facets(self, vertices: Tensor) -> Facets:
        """Of vertices (N, 3), or of several faces' (B, N, 3): (B · P), face after face.
        Differentiable."""
        whole = facets(
            vertices.reshape(-1, 3), all_triangles(vertices, self.triangles[self.parent])
        )
        if self.corners is None or self.share is None:
            return whole
        shape = vertices.shape[:-2].numel(), len(self.parent)
        corners = (self.corners @ whole.corners.unflatten(0, shape)).flatten(0, 1)
        area = (whole.area.unflatten(0, shape) * self.share).flatten()
        return Facets(corners, middles(corners), whole.normal, area)
