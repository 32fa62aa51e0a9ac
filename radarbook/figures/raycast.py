"""Pictures of triangle meshes by casting one ray per pixel with embree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Surface:
    """A mesh: points (n, 3), triangles (f, 3), colours (n, 3) from 0 to 1."""

    points: NDArray[Any]
    triangles: NDArray[Any]
    colours: NDArray[Any]


class Camera:
    """An orthographic camera, framed on points (n, 3) in a picture of a given aspect.

    ``eye`` (3,) points from the scene to the camera, ``up`` (3,) upwards on the picture.
    """

    def __init__(
        self, eye: NDArray[Any], up: NDArray[Any], points: NDArray[Any], aspect: float
    ) -> None:
        self.back = eye / np.linalg.norm(eye)
        right = np.cross(up, self.back)
        self.right = right / np.linalg.norm(right)
        self.up = np.cross(self.back, self.right)
        flat = points @ np.stack([self.right, self.up], axis=1)
        low, high = flat.min(0), flat.max(0)
        self.centre = (low + high) / 2
        half = np.maximum((high - low) / 2 * 1.06, 1e-9)
        # Grow the shorter side so that one unit is equally long both ways on the picture.
        half = np.array([max(half[0], half[1] * aspect), max(half[1], half[0] / aspect)])
        self.half = half
        self.far = float(np.abs(points @ self.back).max()) * 2 + 1.0

    def project(self, points: NDArray[Any]) -> NDArray[Any]:
        """(n, 3) of points (n, 3): right, up, and towards the camera."""
        return points @ np.stack([self.right, self.up, self.back], axis=1)

    def rays(self, width: int, height: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Origins and directions of one ray a pixel, top row first, as float32 (n, 3)."""
        u = self.centre[0] + self.half[0] * ((np.arange(width) + 0.5) / width * 2 - 1)
        v = self.centre[1] + self.half[1] * (1 - (np.arange(height) + 0.5) / height * 2)
        plane = u[None, :, None] * self.right + v[:, None, None] * self.up
        origins = (plane + self.far * self.back).reshape(-1, 3).astype(np.float32)
        return origins, np.broadcast_to(-self.back, origins.shape).astype(np.float32)


def cast(
    surfaces: Sequence[Surface], camera: Camera, width: int, height: int, opacity: float = 1.0
) -> NDArray[np.float32]:
    """A picture of meshes, (height, width, 4) RGBA, transparent where no mesh is.

    Each pixel shows the nearest hit, with smooth normals, a key light and a fill light.
    """
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    corners, normals, colours = [], [], []
    for surface in surfaces:
        corners.append(surface.points[surface.triangles])
        smooth = _vertex_normals(surface.points, surface.triangles)
        normals.append(smooth[surface.triangles])
        colours.append(surface.colours[surface.triangles])
    triangles = np.concatenate(corners).astype(np.float32)
    scene = EmbreeScene()
    TriangleMesh(scene, triangles)
    hits = scene.run(*camera.rays(width, height), output=True)
    index = np.asarray(hits["primID"])
    seen = index >= 0
    index = index[seen]
    u, v = (np.asarray(hits[name])[seen, None] for name in ("u", "v"))
    weights = np.stack([1 - u - v, u, v], axis=1)
    normal = (np.concatenate(normals)[index] * weights).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    # A surface seen from behind is lit as if it were turned round.
    normal *= np.where(normal @ camera.back < 0, -1.0, 1.0)[:, None]
    colour = (np.concatenate(colours)[index] * weights).sum(1)
    key = camera.back * 0.75 + camera.up * 0.5 - camera.right * 0.45
    fill = camera.back * 0.8 + camera.right * 0.6
    light = np.full(len(normal), 0.25)
    for direction, strength in ((key, 0.68), (fill, 0.18)):
        light += strength * np.clip(normal @ (direction / np.linalg.norm(direction)), 0, None)
    half = key / np.linalg.norm(key) + camera.back
    shine = 0.10 * np.clip(normal @ (half / np.linalg.norm(half)), 0, None) ** 24
    picture = np.zeros((height * width, 4), np.float32)
    picture[seen, :3] = np.clip(colour * light[:, None] + shine[:, None], 0, 1)
    picture[seen, 3] = opacity
    return picture.reshape(height, width, 4)


def _vertex_normals(points: NDArray[Any], faces: NDArray[Any]) -> NDArray[Any]:
    a, b, c = (points[faces[:, n]] for n in range(3))
    facing = np.cross(b - a, c - a)  # twice the area long: larger triangles weigh more
    total = np.zeros_like(points)
    for n in range(3):
        np.add.at(total, faces[:, n], facing)
    return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12)
