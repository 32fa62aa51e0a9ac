"""Which points see which antennas, and which points see each other: rays cast by embree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from benchmarks.referee.surface import Real, Surface

#: m along the normal, so that a ray starts outside the flat triangles below its point.
LIFT = 1.0e-4


class Occluders:
    """The occluder meshes of all surfaces of a scene, ready for rays (single precision)."""

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        corners = np.concatenate([s.vertices[s.triangles] for s in surfaces])
        self._scene: Any = EmbreeScene()
        TriangleMesh(self._scene, corners.astype(np.float32))

    def free(self, start: Real, end: Real) -> NDArray[np.bool_]:
        """(M,): whether nothing is between the points ``start`` and ``end`` (M, 3) m."""
        path = end - start
        length = np.linalg.norm(path, axis=1)
        hit = self._scene.run(
            start.astype(np.float32),
            (path / length[:, None]).astype(np.float32),
            dists=(length * (1 - 1e-6)).astype(np.float32),
            query="OCCLUDED",
        )
        return np.asarray(hit) == -1


def visibility(
    surface: Surface, antennas: Real, occluders: Occluders | None, chunk: int = 16384
) -> NDArray[np.bool_]:
    """(P, A): which points of a surface each antenna (A, 3) sees.

    One ray per point and antenna in front of it: hard shadows, no diffraction. About 0.1 µs per
    ray. ``occluders`` None: every point whose normal faces the antenna.
    """
    seen = np.zeros((len(surface), len(antennas)), dtype=bool)
    for first in range(0, len(surface), chunk):
        part = slice(first, first + chunk)
        points, normals = surface.points[part], surface.normals[part]
        facing = normals @ antennas.T > (points * normals).sum(1)[:, None]
        if occluders is not None:
            i, a = np.nonzero(facing)
            facing[i, a] = occluders.free((points + LIFT * normals)[i], antennas[a])
        seen[part] = facing
    return seen
