"""Which facets an antenna group can see: the nose hides cheek, the chin neck (book, section 2.4).

Two ways to the same answer: ray casting by embree on the CPU, and a depth buffer in torch that
runs on any device. Both ask once a group of antennas, from the group's middle: for the QAR50 two
columns of transmitters and two rows of receivers. A wider aperture, such as a raster's, is several
groups (:func:`~radarbook.radar.skeleton.shadow_groups`). Visibility is a step and carries no
gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
import trimesh
from torch import Tensor
from trimesh.ray.ray_pyembree import RayMeshIntersector

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.imaging import MEMORY_BUDGET
from radarbook.radar.skeleton import CACHE, shadow_groups
from radarbook.threads import alone

Way = Literal["embree", "buffer"]
#: A ray starts this far from its facet, so that it does not meet the facet itself, m.
_LIFT = 1e-5
#: Bytes that a triangle takes next to the buffers: corners, normal, and which centres are in front.
_TRIANGLE = 512


def group_centres(array: Array) -> Tensor:
    """(G, 3) middle of each antenna group: transmitter groups first, then receiver groups."""
    centres = []
    for antennas in (array.tx.detach(), array.rx.detach()):
        labels = shadow_groups(antennas).to(antennas.device)
        centres += [antennas[labels == g].mean(0) for g in range(int(labels.max()) + 1)]
    return torch.stack(centres)


@alone()
def visibility(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    *,
    way: Way | None = None,
    memory: int = MEMORY_BUDGET,
) -> Tensor:
    """(F, G) float32: 1 where the group's middle sees the facet's centre from its front, else 0.

    Parameters
    ----------
    vertices : Tensor (N, 3) or (B, N, 3), metres; a batch gives (B, F, G)
    triangles : Tensor (F, 3)
    way
        ``"embree"`` casts exact rays on the CPU, mesh by mesh; ``"buffer"`` renders all meshes, as
        all groups see them, into depth buffers on the vertices' device and differs in a few facets
        along the rims of shadows. Default: embree on a CPU, the buffer elsewhere.
    memory : int
        Bytes of working memory to stay within: as many meshes and views at a time.

    Raises :class:`~radarbook.errors.InputError` for an unknown way.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.meshes import sphere
    >>> ball = sphere((0.0, 0.0, 0.35), radius=0.03, facet=5e-3)
    >>> seen = visibility(*ball, qar50())
    >>> bool(0.3 < seen.mean() < 0.5)  # less than half of a ball is seen from anywhere
    True
    """
    if way is None:
        way = "embree" if vertices.device.type == "cpu" else "buffer"
    if way not in ("embree", "buffer"):
        raise InputError(f"parameter 'way': expected embree or buffer, found {way!r}")
    together = max(1, memory // (_TRIANGLE * max(1, len(triangles))))
    if vertices.ndim == 3 and len(vertices) > together:
        parts = [
            visibility(some, triangles, array, way=way, memory=memory)
            for some in vertices.split(together)
        ]
        return torch.cat(parts)
    points = vertices.detach()
    batch = points if points.ndim == 3 else points[None]
    triangles = triangles.to(points.device)
    centres = group_centres(array).to(points.device)
    corners = batch[:, triangles].double()  # (B, F, 3, 3)
    a, b, c = corners.unbind(2)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a, dim=-1), dim=-1)
    middle = corners.mean(2)
    front = ((centres - middle[:, :, None]) * normal[:, :, None]).sum(-1) > 0  # (B, F, G)
    if way == "embree":
        start = middle + _LIFT * normal
        seen = torch.stack(
            [_cast(batch[i], triangles, start[i], front[i], centres) for i in range(len(batch))]
        )
    else:
        seen = _buffered(corners, middle, normal, centres, memory) & front
    return seen.float() if points.ndim == 3 else seen[0].float()


def _cast(
    points: Tensor, triangles: Tensor, start: Tensor, front: Tensor, centres: Tensor
) -> Tensor:
    mesh = trimesh.Trimesh(points.cpu().numpy(), triangles.cpu().numpy(), process=False)
    facet, group = front.cpu().nonzero(as_tuple=True)
    origin = start.cpu()[facet]
    # Antennas lie in front of everything, so whatever a ray meets is in between.
    blocked = RayMeshIntersector(mesh).intersects_any(
        origin.numpy(), (centres.cpu()[group] - origin).numpy()
    )
    seen = front.cpu().clone()
    seen[facet, group] = ~torch.from_numpy(blocked)
    return seen.to(front.device)


def _buffered(
    corners: Tensor,
    middle: Tensor,
    normal: Tensor,
    centres: Tensor,
    memory: int,
    pixels: int = 256,
) -> Tensor:
    """(B, F, G) whether a perspective depth buffer from each of ``centres`` (G, 3) leaves a facet's
    middle in front; ``corners`` (B, F, 3, 3), ``middle`` and ``normal`` (B, F, 3).

    Each facet is rendered as a lattice of points on it, fine enough to leave no pixel of it out
    where facets are smaller than a dozen pixels. A view is one mesh from one centre; as many are
    rendered at a time as the budget holds.
    """
    batch, facets = middle.shape[:2]
    steps = torch.arange(9, device=corners.device, dtype=corners.dtype) / 8
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    inside = u + v <= 1
    weights = torch.stack([u[inside], v[inside], 1 - u[inside] - v[inside]], dim=1)
    # A lattice point's three coordinates, two tangents, its pixel, and as much again on the way.
    each = facets * len(weights) * 12 * corners.element_size() + pixels**2 * 8
    if corners.device.type == "cpu":
        memory = min(memory, CACHE)
    views = torch.arange(batch * len(centres), device=corners.device)
    parts = []
    for some in views.split(max(1, memory // each)):
        mesh, group = some.div(len(centres), rounding_mode="floor"), some % len(centres)
        centre = centres[group][:, None]
        lattice = torch.einsum("pc,vfcx->vfpx", weights, corners[mesh]).flatten(1, 2) - centre
        tangent, depth = lattice[..., :2] / lattice[..., 2:], lattice[..., 2]
        low = tangent.amin(1, keepdim=True)
        scale = (pixels - 1) / (tangent.amax(1, keepdim=True) - low).amax(2, keepdim=True)

        def cell(at: Tensor, low: Tensor = low, scale: Tensor = scale) -> Tensor:
            place = ((at - low) * scale).round().long().clamp(0, pixels - 1)
            return place[..., 1] * pixels + place[..., 0]

        buffer = depth.new_full((len(some), pixels * pixels), torch.inf)
        buffer.scatter_reduce_(1, cell(tangent), depth, "amin")
        mine = middle[mesh] - centre
        # Within a pixel a facet's own depth varies by the pixel's width times its slope.
        toward = torch.nn.functional.normalize(mine, dim=-1)
        cosine = (toward * normal[mesh]).sum(-1).abs().clamp(min=0.05)
        slope = (1 - cosine.square()).clamp(min=0).sqrt() / cosine
        slack = 2e-3 + mine[..., 2] / scale[..., 0] * slope
        nearest = buffer.gather(1, cell(mine[..., :2] / mine[..., 2:]))
        parts.append(mine[..., 2] <= nearest + slack)
    return torch.cat(parts).unflatten(0, (batch, len(centres))).transpose(1, 2)
