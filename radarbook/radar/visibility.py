"""Which facets an antenna group can see: the nose hides cheek, the chin neck (book, section 2.4).

Two ways to the same answer: ray casting by embree on the CPU, and a depth buffer in torch that
runs on any device. Both ask once a group of antennas, from the group's middle: for the QAR50 two
columns of transmitters and two rows of receivers. Visibility is a step and carries no gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
import trimesh
from torch import Tensor
from trimesh.ray.ray_pyembree import RayMeshIntersector

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.skeleton import antenna_groups

Way = Literal["embree", "buffer"]
#: A ray starts this far from its facet, so that it does not meet the facet itself, m.
_LIFT = 1e-5


def group_centres(array: Array) -> Tensor:
    """(G, 3) middle of each antenna group: transmitter groups first, then receiver groups."""
    centres = []
    for antennas in (array.tx.detach(), array.rx.detach()):
        labels = antenna_groups(antennas).to(antennas.device)
        centres += [antennas[labels == g].mean(0) for g in range(int(labels.max()) + 1)]
    return torch.stack(centres)


def visibility(
    vertices: Tensor, triangles: Tensor, array: Array, *, way: Way | None = None
) -> Tensor:
    """(F, G) float32: 1 where the group's middle sees the facet's centre from its front, else 0.

    Parameters
    ----------
    vertices : Tensor (N, 3) or (B, N, 3), metres; a batch gives (B, F, G)
    triangles : Tensor (F, 3)
    way
        ``"embree"`` casts exact rays on the CPU; ``"buffer"`` draws the mesh into a depth buffer
        on the vertices' device and differs in a few facets along the rims of shadows. Default:
        embree on a CPU, the buffer elsewhere.
    """
    if vertices.ndim == 3:
        return torch.stack([visibility(v, triangles, array, way=way) for v in vertices])
    if way is None:
        way = "embree" if vertices.device.type == "cpu" else "buffer"
    points = vertices.detach()
    centres = group_centres(array).to(points.device)
    corners = points[triangles.to(points.device)].double()
    a, b, c = corners.unbind(1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a, dim=1), dim=1)
    middle = corners.mean(1)
    front = ((centres - middle[:, None]) * normal[:, None]).sum(-1) > 0  # (F, G)
    if way == "embree":
        seen = _cast(points, triangles, middle + _LIFT * normal, front, centres)
    elif way == "buffer":
        drawn = [_draw(corners, middle, normal, centre) for centre in centres]
        seen = torch.stack(drawn, dim=1) & front
    else:
        raise InputError(f"parameter 'way': expected embree or buffer, found {way!r}")
    return seen.float()


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


def _draw(
    corners: Tensor, middle: Tensor, normal: Tensor, centre: Tensor, pixels: int = 256
) -> Tensor:
    """(F,) whether a perspective depth buffer from ``centre`` leaves a facet's middle in front.

    Each facet is drawn as a lattice of points on it, fine enough to leave no pixel of it out
    where facets are smaller than a dozen pixels.
    """
    steps = torch.arange(9, device=corners.device, dtype=corners.dtype) / 8
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    inside = u + v <= 1
    weights = torch.stack([u[inside], v[inside], 1 - u[inside] - v[inside]], dim=1)
    cloud = torch.einsum("pc,fcx->fpx", weights, corners).reshape(-1, 3) - centre
    tangent, depth = cloud[:, :2] / cloud[:, 2:], cloud[:, 2]
    low = tangent.amin(0)
    scale = (pixels - 1) / (tangent.amax(0) - low).amax()

    def cell(at: Tensor) -> Tensor:
        place = ((at - low) * scale).round().long().clamp(0, pixels - 1)
        return place[:, 1] * pixels + place[:, 0]

    buffer = torch.full((pixels * pixels,), torch.inf, dtype=depth.dtype, device=depth.device)
    buffer.scatter_reduce_(0, cell(tangent), depth, "amin")
    mine = middle - centre
    # Within a pixel a facet's own depth varies by the pixel's width times its slope.
    toward = torch.nn.functional.normalize(mine, dim=1)
    cosine = (toward * normal).sum(1).abs().clamp(min=0.05)
    slack = 2e-3 + mine[:, 2] / scale * ((1 - cosine.square()).clamp(min=0).sqrt() / cosine)
    return mine[:, 2] <= buffer[cell(mine[:, :2] / mine[:, 2:])] + slack
