"""How range profiles change with a face, to first order in the motion of its facets.

A surface that moves tangentially stays the same surface. So a change of a face is a field of small
motions along its normals, and to first order the range profile of a pixel at frequency f changes by

    dI_f = Σ_i H_i(tx) H_i(rx) Σ_j (∂a_i / ∂δ_j) δ_j                                       (P6.11)

with the waves H_i of both legs of facet i, focused to the pixel, the facet's response a_i
(Eq. (P2.3)) and the motion δ_j of its corners along their normals. What a facet's motion does is
computed once and summed to the vertices; any number of changes then costs one matrix product. Rigid
motions and changes of size also move the rim of what is lit and seen, which (P6.11) leaves out, and
where they move a face along itself, errors of its facets do not cancel. So the part of a change
that is linear in the position is rendered instead: twelve signals.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import ReducedPhysics
from radarbook.radar.layer import Layer
from radarbook.radar.pieces import Pieces
from radarbook.radar.scattering import Facets, facet_response
from radarbook.threads import divide

#: Largest displacement, m, of the rendered changes: between rounding of complex64 and curvature.
_STEP = 1e-5
#: Wavenumbers over the band at which derivatives of responses are computed; between them they are
#: parabolas, as responses of pieces of up to 3 mm are (:mod:`radarbook.radar.kernels.launch`).
_NODES = 3


@dataclass(frozen=True, eq=False)
class FacetMotion:
    """Changes of the range profiles of a face with its parameters, to first order.

    Attributes
    ----------
    physics : ReducedPhysics
        Whose facets move; of ``tilts`` as in its own changes.

    Raises :class:`~radarbook.errors.InputError` for an array with pairs.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.decimation import decimate
    >>> from radarbook.fitting.forward import STEEP
    >>> from radarbook.fitting.objectives import PhaseObjective
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> physics = ReducedPhysics(renderer, decimate(renderer.array, renderer.waveform))
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> bent = face.replace(shape=torch.full((1, 10), 1e-3))
    >>> signal = physics.signal(face)
    >>> focus = PhaseObjective.of(signal, physics, torch.tensor([[0.0, 0.0, 0.3]])).focus[0]
    >>> change = FacetMotion(physics.tilted(STEEP)).profiles(face, bent, focus)
    >>> tuple(change.shape) == (1, len(physics.waveform), len(focus.points))
    True
    """

    physics: ReducedPhysics

    def __post_init__(self) -> None:
        if self.physics.array.pairs is not None:
            raise InputError(
                "facet motion: expected an array of which every receiver measures with every "
                f"transmitter, found {len(self.physics.array.pairs)} pairs"
            )

    def frozen_at(self, parameters: FaceParameters) -> Self:
        """The same near a face (1): what is lit and seen stays."""
        return replace(self, physics=self.physics.frozen_at(parameters))

    def with_layer(self, layer: Layer | None) -> Self:
        """The same with another layer between array and faces, or with none."""
        return replace(self, physics=self.physics.with_layer(layer))

    @torch.no_grad()
    def profiles(
        self, parameters: FaceParameters, moved: FaceParameters, focus: RangeFocus
    ) -> Tensor:
        """(P, f, V) complex64: profiles of versions ``moved`` (P) less those of ``parameters`` (1).

        Linear in the motion of the surface; versions that differ in material or antenna size are
        rendered. Where the surface is smooth, curvature within a facet moves with its corners.
        """
        p = parameters.to(dtype=torch.float64)
        versions = moved.to(dtype=torch.float64)
        same = torch.isclose(versions.rendering, p.rendering, rtol=1e-9, atol=0.0)
        rendered = ~same.all(1)
        pieces = self.physics.lit(self.physics.vertices(parameters)[0])
        motions = self._motions(p, versions, pieces)
        change = self._linear(parameters, motions, pieces, focus)
        if bool(rendered.any()):
            both = FaceParameters.cat([parameters, moved[rendered.nonzero()[:, 0]]])
            found = focus.each(self.physics.signal(both, like=parameters))
            change[rendered.to(change.device)] = found[1:] - found[0]
        return change

    @torch.no_grad()
    def depth_variance(
        self, parameters: FaceParameters, moved: FaceParameters, root: Tensor, focus: RangeFocus
    ) -> Tensor:
        """(V,) m²: variance of the depth of the surface that each pixel sees.

        Parameters
        ----------
        parameters, moved : FaceParameters
            A face (1), and versions (P) of it, each moved by a small step of one parameter.
        root : Tensor (P, R)
            Of the covariance L Lᵀ of the parameters, in units of those steps.
        focus : RangeFocus

        The mean, over facets that a pixel resolves, of the variances of their depths; a pixel
        without any has that of the nearest ones. Depth that all pixels have in common, which the
        unknown complex gain absorbs, is left out: of each sample the mean over the facets.
        """
        p, versions = parameters.to(dtype=torch.float64), moved.to(dtype=torch.float64)
        pieces = self.physics.lit(self.physics.vertices(parameters)[0])
        motions = self._motions(p, versions, pieces)
        depths = motions.along.T @ root.to(motions.along)  # (n, R)
        weight = motions.weight[:, None]
        depths = depths - (weight * depths).sum(0) / weight.sum()
        variance = depths.square().sum(1)
        square = torch.cdist(focus.points[:, :2].to(motions.places), motions.places[:, :2]).square()
        # About a resolution cell, as a Gaussian; the nearest vertex always counts.
        antennas = self.physics.array.tx
        extent = float((antennas.amax(0) - antennas.amin(0)).max())
        distance = float((motions.places - self.physics.middle).norm(dim=1).mean())
        null = self.physics.waveform.wavelength * distance / (2 * extent)
        size = null / math.sqrt(2 * math.pi)
        near = torch.exp(-(square - square.amin(1, keepdim=True)) / (2 * size**2)) * motions.weight
        return (near @ variance.double()) / near.sum(1)

    def _motions(
        self, parameters: FaceParameters, versions: FaceParameters, pieces: Pieces
    ) -> _Motions:
        """How the vertices of lit pieces move from a face to its versions, in float64."""
        physics = self.physics
        corners = pieces.triangles[pieces.parent]
        used, index = corners.unique(return_inverse=True)
        both = FaceParameters.cat([parameters, versions]).to(physics.device)
        places = physics.places(both, used)
        moves = places[1:] - places[0]
        f = pieces.facets(pieces.points(physics.vertices(parameters)[0]))
        area = f.area if pieces.weight is None else f.area * pieces.weight
        facing = torch.zeros(len(used), 3, device=area.device)
        weight = torch.zeros(len(used), device=area.device)
        for corner in index.unbind(1):
            facing.index_add_(0, corner, f.normal * area[:, None])
            weight.index_add_(0, corner, area / 3)
        normals = torch.nn.functional.normalize(facing, dim=1).double()
        basis = _linear_basis(places[0], places[0])
        share = torch.linalg.lstsq(basis, moves.transpose(0, 1).flatten(1)).solution
        share = share.unflatten(1, (-1, 3))  # (4, P, 3)
        left = moves - torch.einsum("nb,bpx->pnx", basis, share)
        every = physics.vertices(parameters)[0].double()
        return _Motions(
            index=index,
            places=places[0],
            normals=normals,
            along=(moves * normals).sum(-1).float(),
            left=(left * normals).sum(-1).float(),
            weight=weight,
            basis=_linear_basis(every, places[0]),
            share=share.permute(1, 0, 2).flatten(1).float(),
        )

    def _linear(
        self, parameters: FaceParameters, motions: _Motions, pieces: Pieces, focus: RangeFocus
    ) -> Tensor:
        """(P, f, V) of all motions."""
        physics = self.physics
        sent, received, f = physics.legs(parameters, pieces)
        weights = self._corner_weights(parameters, pieces, f, motions.normals[motions.index])
        factor = physics.factor(parameters)[0]
        tables = [table.transpose(1, 2) for table in focus.tables]
        count = len(motions.places)

        def at(i: int) -> Tensor:
            waves = (sent[i] @ tables[0][i]) * (received[i] @ tables[1][i])  # (P, V)
            summed = _to_vertices(waves, weights[i] * factor[i], motions.index, count)
            product = motions.left @ torch.view_as_real(summed).flatten(1)
            return torch.view_as_complex(product.unflatten(1, (-1, 2)).contiguous())

        change = self._rendered(parameters, motions, pieces, focus)
        for i, found in enumerate(divide(at, len(sent))):
            change[:, i] += found
        return change

    def _rendered(
        self, parameters: FaceParameters, motions: _Motions, pieces: Pieces, focus: RangeFocus
    ) -> Tensor:
        """(P, f, V) of the parts of the motions that are linear in the place, from differences of
        rendered signals."""
        physics = self.physics
        base = physics.vertices(parameters)[0]
        fields = torch.zeros(4, 3, *base.shape, dtype=torch.float64, device=base.device)
        for axis in range(3):
            fields[:, axis, :, axis] = motions.basis.T
        fields = fields.flatten(0, 1)
        step = _STEP / fields.abs().amax((1, 2))
        moved = base.double() + step[:, None, None] * fields
        vertices = torch.cat([base[None], moved.float()])
        same = torch.zeros(len(vertices), dtype=torch.long)
        p = parameters.to(physics.device, torch.float32)[same]
        signals = physics.simulated(vertices, p, pieces) * physics.factor(p)[:, None, None]
        found = focus.each(signals)
        slopes = (found[1:] - found[0]) / step.float()[:, None, None]
        product = motions.share @ torch.view_as_real(slopes).flatten(1)
        shape = len(motions.share), *slopes.shape[1:]
        return torch.view_as_complex(product.reshape(*shape, 2))

    def _corner_weights(
        self, parameters: FaceParameters, pieces: Pieces, f: Facets, normals: Tensor
    ) -> Tensor:
        """(f, P, 3) complex64: change of each facet's response per metre that the corners of its
        triangle move along their ``normals`` (P, 3, 3)."""
        physics = self.physics
        k = physics.waveform.wavenumbers.to(f.centre.device)
        nodes = torch.linspace(float(k[0]), float(k[-1]), _NODES if len(k) > 1 else 1)
        local = f.about_centre(torch.float32)
        toward = torch.nn.functional.normalize(physics.middle - f.centre, dim=1)
        material = parameters.material.to(f.centre)

        def response(shift: Tensor) -> Tensor:
            return facet_response(
                _moved(local, shift),
                toward,
                nodes.to(f.centre),
                material,
                physics.renderer.permittivity,
                None,
            )

        zero = torch.zeros_like(local.corners)
        corners = torch.eye(3, device=zero.device) if pieces.corners is None else pieces.corners
        slopes = []
        for corner in range(3):
            # How the piece's corners move with this one of the triangle.
            tangent = corners[..., corner, None].to(zero) * normals[:, corner, None].to(zero)
            slopes.append(torch.func.jvp(response, (zero,), (tangent,))[1])
        slope = torch.stack(slopes, dim=-1)  # (nodes, P, 3)
        slope = torch.tensordot(_through(nodes.double(), k).to(slope), slope, dims=1)
        return slope if pieces.weight is None else slope * pieces.weight[:, None]


@dataclass(frozen=True, eq=False)
class _Motions:
    """Of the n vertices of lit pieces in P versions of a face.

    ``index`` (pieces, 3) are the vertices of each piece's triangle, ``places`` (n, 3) m, with
    their ``normals``; ``along``
    and ``left`` (P, n) m, motions along the normals, of all and less what is linear in the place:
    that is ``share`` (P, 12) of ``basis`` (N, 4) of all vertices of the mesh, along x, y and z in
    turn. ``weight`` (n,) m² is the lit area about each vertex.
    """

    index: Tensor
    places: Tensor
    normals: Tensor
    along: Tensor
    left: Tensor
    weight: Tensor
    basis: Tensor
    share: Tensor


def _linear_basis(places: Tensor, about: Tensor) -> Tensor:
    """(N, 4) linear functions of places (N, 3), of the size of 1 over those of ``about`` (n, 3)."""
    scaled = (places - about.mean(0)) / about.std(0)
    return torch.cat([torch.ones_like(scaled[:, :1]), scaled], 1)


def _moved(local: Facets, shift: Tensor) -> Facets:
    """Facets about their centres, their corners moved by ``shift`` (N, 3, 3); the centre, which
    phases refer to, stays."""
    zero = torch.zeros_like(local.centre)
    if local.parts is None:
        corners = local.corners + shift
        a, b, c = corners.unbind(1)
        cross = torch.linalg.cross(b - a, c - a, dim=-1)
        twice = cross.square().sum(1).sqrt()
        return Facets(corners, zero, cross / twice[:, None], twice / 2)
    first, second, third = local.parts[:, 0], local.parts[:, 1], local.parts[:, 2]
    corners = torch.stack([first[:, 0], second[:, 1], third[:, 2]], 1)
    edges = torch.stack([first[:, 1], second[:, 2], third[:, 0]], 1)
    bent = Facets.bent(corners + shift, edges + (shift + shift.roll(-1, 1)) / 2)
    return replace(bent, centre=zero)


def _through(nodes: Tensor, k: Tensor) -> Tensor:
    """(f, n) weights of the polynomial through values at ``nodes`` (n,), at k (f,)."""
    gaps = nodes[:, None] - nodes
    others = ~torch.eye(len(nodes), dtype=torch.bool)
    parts = (k.cpu().double()[:, None, None] - nodes) / torch.where(others, gaps, 1.0)
    return torch.where(others, parts, 1.0).prod(-1).to(k.device)


def _to_vertices(waves: Tensor, weights: Tensor, index: Tensor, count: int) -> Tensor:
    """(n, V) complex: waves (P, V) of pieces, each times its three weights (P, 3), summed to the
    vertices ``index`` (P, 3)."""
    rows = index.T.flatten()
    order = rows.argsort(stable=True)
    pieces = torch.arange(len(index), device=index.device).repeat(3)[order]
    starts = torch.zeros(count + 1, dtype=torch.long, device=index.device)
    starts[1:] = rows.bincount(minlength=count).cumsum(0)
    values = weights.T.flatten()[order]
    with warnings.catch_warnings():  # that the layout is in beta
        warnings.simplefilter("ignore", UserWarning)
        matrix = torch.sparse_csr_tensor(starts, pieces, values, size=(count, len(index)))
        return matrix @ waves
