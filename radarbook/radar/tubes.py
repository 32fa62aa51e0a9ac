"""Paths with three reflections and more: shooting and bouncing rays (book, :ref:`physics`).

Every lit facet starts a tube of rays from the array's middle; the tube is reflected by the laws of
mirrors until its last hit, where the lit footprint radiates by physical optics as a facet of its
own. The transmitters' mirror images take the transmitters' place, so each path keeps its exact
length for every antenna. Between two hits nothing is in the way, and a path counts for those
transmitters that see its first facet and those receivers that see its last. Which facets a tube
meets is found by embree on the CPU; everything after that is differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import trimesh
from torch import Tensor
from trimesh.ray.ray_pyembree import RayMeshIntersector

from radarbook.radar.array import Array
from radarbook.radar.layer import Layer
from radarbook.radar.legs import leg_gain
from radarbook.radar.pieces import FACET_SIZE, Pieces, group_columns, middle
from radarbook.radar.polarisation import Polarisation, across, reflect
from radarbook.radar.scattering import (
    SKIN_PERMITTIVITY,
    Facets,
    facet_response,
    facets,
    middles,
    wave,
)
from radarbook.radar.waveform import Waveform
from radarbook.threads import alone

_LIFT = 1e-6


@alone()
def ray_tubes(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    bounces: int = 3,
    material: Tensor | float = 0.0,
    antenna_size: Tensor | float = 2e-3,
    permittivity: complex | None = SKIN_PERMITTIVITY,
    polarisation: Polarisation = Polarisation(),  # noqa: B008  (frozen)
    visibility: Tensor | None = None,
    layer: Layer | None = None,
    facet_size: float = FACET_SIZE,
    chunk: int = 2048,
) -> Tensor:
    """Signal of all paths with 3 … ``bounces`` reflections.

    Parameters are :func:`~radarbook.radar.bounces.multiple_bounces`'; ``chunk`` tubes are summed at
    a time. The mean of tubes from the transmitters and of tubes from the receivers, so reciprocal.
    Walls between two hits are flat mirrors: a curved surface that has coarse facets spreads the
    tubes too little.

    Returns (rx, tx, f) complex; differentiable with respect to vertices, material and
    antenna_size for the paths found.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.meshes import corner
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> tuple(ray_tubes(*corner((0.0, 0.0, 0.35), 0.03, 5e-3), qar50(), qar50_waveform(2)).shape)
    (94, 94, 2)
    """
    dtype = torch.complex64 if vertices.dtype == torch.float32 else torch.complex128
    rough, size = (
        torch.as_tensor(v, device=vertices.device).double() for v in (material, antenna_size)
    )
    array, points = array.to(vertices.device), vertices.double()
    seen = None if visibility is None else visibility.to(points)
    back = None
    if seen is not None:
        transmitters = int(group_columns(array)[0].max()) + 1
        back = seen.roll(-transmitters, dims=1)
    ways = (
        (array, polarisation, seen),
        (array.swapped(), Polarisation(polarisation.rx, polarisation.tx), back),
    )
    signals = []
    for sender, sent, weights in ways:
        pieces = Pieces.of(
            points,
            triangles,
            sender,
            visibility=weights,
            facet_size=facet_size,
            near=False,
            seed=None,
        )
        total = torch.zeros(
            len(waveform), len(sender.rx), len(sender.tx), dtype=dtype, device=vertices.device
        )
        for chains, starts in _chains(points.detach(), pieces, sender, bounces)[1:]:
            for chain, start in zip(chains.split(chunk), starts.split(chunk), strict=True):
                tube = _Tube.follow(points, pieces, sender, chain, start, rough, sent, permittivity)
                ends = _seen(sender, weights, chain[:, [0, -1]])
                total = total + _radiate(tube, sender, waveform, ends, rough, size, layer, dtype)
        signals.append(total.permute(1, 2, 0))
    return (signals[0] + signals[1].transpose(0, 1)) / 2


def _seen(array: Array, visibility: Tensor | None, ends: Tensor) -> list[Tensor | None]:
    """Of paths from and to the facets ``ends`` (P, 2): how every transmitter sees the first (P, T)
    and every receiver the last (P, R)."""
    if visibility is None:
        return [None, None]
    groups = group_columns(array)
    return [
        visibility[end][:, group.to(visibility.device)]
        for end, group in zip(ends.unbind(1), groups, strict=True)
    ]


def _chains(
    vertices: Tensor, pieces: Pieces, array: Array, bounces: int
) -> list[tuple[Tensor, Tensor]]:
    """For 2, 3, … hits: the triangles met (paths, hits), and the piece each path starts with."""
    points, triangles = vertices.cpu(), pieces.triangles.cpu()
    every = facets(points, triangles)
    embree = RayMeshIntersector(trimesh.Trimesh(points.numpy(), triangles.numpy(), process=False))
    starts, chain = torch.arange(len(pieces)), pieces.parent.cpu()[:, None]
    at = pieces.centres(vertices).cpu()
    heading = torch.nn.functional.normalize(at - middle(array).detach().cpu(), dim=1)
    lit = (heading * every.normal[chain[:, 0]]).sum(1) < 0
    chain, at, heading, starts = chain[lit], at[lit], heading[lit], starts[lit]
    found = []
    for _ in range(bounces - 1):
        if len(at) == 0:
            break
        normal = every.normal[chain[:, -1]]
        heading = heading - 2 * (heading * normal).sum(1, keepdim=True) * normal
        start = at + _LIFT * normal
        hit = torch.from_numpy(embree.intersects_first(start.numpy(), heading.numpy())).long()
        struck = hit.clamp(min=0)
        slope = (heading * every.normal[struck]).sum(1)
        kept = (hit >= 0) & (slope < -1e-3)
        gap = ((every.centre[struck] - start) * every.normal[struck]).sum(1)
        at = start + heading * (gap / torch.where(kept, slope, -1.0))[:, None]
        chain = torch.cat([chain, hit[:, None]], dim=1)[kept]
        at, heading, starts = at[kept], heading[kept], starts[kept]
        found.append((chain.to(vertices.device), starts.to(vertices.device)))
    return found


@dataclass(frozen=True)
class _Tube:
    """Footprints at the last hit, the transmitters' images (P, T, 3), that of the array's middle
    (P, 3), the reflections so far as matrices (P, 3, 3), and what the receivers take of the
    field after all reflections, times what is smooth before the last (P,)."""

    footprint: Facets
    tx: Tensor
    image: Tensor
    turned: Tensor
    gain: Tensor

    @classmethod
    def follow(
        cls,
        vertices: Tensor,
        pieces: Pieces,
        array: Array,
        chain: Tensor,
        start: Tensor,
        rough: Tensor,
        polarisation: Polarisation,
        permittivity: complex | None,
    ) -> _Tube:
        """Along ``chain`` (P, hits), triangles, from the pieces numbered ``start`` (P,)."""
        every = facets(vertices, pieces.triangles)
        foot = pieces.facets(vertices, start)
        tx = array.tx.expand(len(chain), -1, -1)
        image = middle(array).expand(len(chain), 3)
        turned = torch.eye(3, dtype=torch.float64, device=vertices.device).expand(len(chain), 3, 3)
        heading = torch.nn.functional.normalize(foot.centre - image, dim=1)
        field = across(polarisation.tx, heading).to(torch.complex128)
        smooth = (1 - rough.square()).clamp(min=1e-12).sqrt()
        for hit in range(chain.shape[1] - 1):
            normal = foot.normal
            leaving = heading - 2 * (heading * normal).sum(1, keepdim=True) * normal
            field = smooth * reflect(field, heading, leaving, permittivity)
            heading = leaving
            height = ((tx - foot.centre[:, None]) * normal[:, None]).sum(-1, keepdim=True)
            tx = tx - 2 * height * normal[:, None]
            image = image - 2 * ((image - foot.centre) * normal).sum(1, keepdim=True) * normal
            turned = turned - 2 * normal[:, :, None] * (normal[:, None] @ turned)
            # The tube's corner rays, from the middle's image, cut the next triangle's plane.
            n, q = every.normal[chain[:, hit + 1]], every.centre[chain[:, hit + 1]]
            rays = foot.corners - image[:, None]
            along = ((q - image) * n).sum(1)[:, None] / (rays * n[:, None]).sum(-1)
            # A mirror turns the corners' order round; put it right.
            corners = (image[:, None] + rays * along[..., None]).flip(1)
            a, b, c = corners.unbind(1)
            twice = torch.linalg.cross(b - a, c - a, dim=1).square().sum(1)
            area = twice.clamp(min=1e-30).sqrt() / 2
            foot = Facets(corners, middles(corners), n, area)
        back = torch.nn.functional.normalize(middle(array) - foot.centre, dim=1)
        taken = across(polarisation.rx, -back)
        gain = (reflect(field, heading, back, permittivity) * taken).sum(1)
        return cls(foot, tx, image, turned, gain)


def _radiate(
    tube: _Tube,
    array: Array,
    waveform: Waveform,
    seen: list[Tensor | None],
    rough: Tensor,
    size: Tensor,
    layer: Layer | None,
    dtype: torch.dtype,
) -> Tensor:
    """(f, rx, tx) of the tubes' footprints."""
    foot = tube.footprint
    k = waveform.wavenumbers.to(foot.area.device)
    legs = []
    sides = ((tube.tx, True), (array.rx[None], False))
    for (antennas, mirrored), weight in zip(sides, seen, strict=True):
        path = foot.centre[:, None] - antennas
        length = path.square().sum(-1).sqrt()
        direction = path / length[..., None]
        cosine = -(direction * foot.normal[:, None]).sum(-1)
        # What left a transmitter is this direction with the reflections undone.
        outward = direction @ tube.turned if mirrored else direction
        gain = leg_gain(cosine, outward, length, size, waveform.wavelength)
        if weight is not None:
            gain = gain * weight
        # The layer is crossed on the way in and on the way out, as each antenna sees it.
        legs.append((gain, length, outward[..., 2]))
    here, there = (
        torch.nn.functional.normalize(m - foot.centre, dim=1) for m in (tube.image, middle(array))
    )
    # The tube knows its last reflection's coefficient; a perfect conductor's is -1.
    response = facet_response(foot, (here + there) / 2, k, rough, None, None)
    response = -response * tube.gain
    out = []
    for step, weight in zip(k, response, strict=True):
        right, left = (wave(g, (-step * d) % (2 * math.pi)).to(dtype) for g, d, _ in legs)
        if layer is not None:
            crossed = [
                layer.leg_factor(step[None], cosine.clamp(min=0))[0].to(dtype)
                for _, _, cosine in legs
            ]
            right, left = right * crossed[0], left * crossed[1]
        out.append((weight.to(dtype)[:, None] * left).T @ right)
    return torch.stack(out)
