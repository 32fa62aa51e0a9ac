"""Bodies that are no faces: spheres, plates, hands and heads without features, at random.

All are meshes in the radar frame, m, some :data:`DISTANCE` in front of the array, with random size,
position, tilt, material and speckle. A sample depends on its seed and index alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from torch import Tensor

from radarbook.faces.parameters import RANGES
from radarbook.radar.meshes import SceneMesh, plate, sphere
from radarbook.seeds import numpy_stream

KINDS = ("sphere", "plate", "hand", "head without features")
#: Metres: the nearest point of a body is so far away, and up to so much nearer or farther and
#: aside.
DISTANCE, APART = 0.30, 0.05
#: Largest tilt, degrees, and roughest material.
TILT, MATERIAL = 20.0, 0.4
#: Longest edge, m: bodies are smooth surfaces through vertices so far apart.
FACET = 4e-3


@dataclass(frozen=True)
class Body:
    """One body: mesh (N, 3) m and (F, 3), material factor, side of the antennas that see it, m, and
    seed of its speckle."""

    kind: str
    vertices: Tensor
    triangles: Tensor
    material: float
    antenna_size: float
    seed: int


def hand(stream: np.random.Generator) -> SceneMesh:
    """A flat hand, fingers up and palm towards -z, of rounded bones; about its middle."""
    size = stream.uniform(0.85, 1.15)
    spread = stream.uniform(0.0, 1.0)
    parts = []
    palm = trimesh.creation.icosphere(subdivisions=5, radius=1.0)
    # A rounded slab: a ball whose coordinates are pushed outwards.
    points = np.sign(palm.vertices) * np.abs(palm.vertices) ** 0.6
    parts.append((points * [0.042, 0.048, 0.013], palm.faces))
    across = np.array([-0.033, -0.011, 0.011, 0.032])
    lengths = np.array([0.060, 0.075, 0.080, 0.070])
    for x, length in zip(across, lengths, strict=True):
        angle = math.radians(-4.0 - 14.0 * spread) * x / 0.033
        curl = math.radians(stream.uniform(0.0, 20.0))
        parts.append(_finger([x, 0.040, 0.0], length, 0.0085, angle, curl))
    parts.append(_finger([-0.038, -0.015, 0.0], 0.065, 0.010, math.radians(45.0), 0.3))
    vertices, faces, count = [], [], 0
    for points, triangles in parts:
        vertices.append(points)
        faces.append(triangles + count)
        count += len(points)
    every = np.concatenate(vertices) * size
    every[:, 0] *= stream.choice([-1.0, 1.0])
    triangles = np.concatenate(faces)
    if trimesh.Trimesh(every, triangles, process=False).volume < 0:
        triangles = triangles[:, ::-1]
    return torch.from_numpy(every), torch.from_numpy(np.array(triangles, dtype=np.int64))


def _finger(
    root: list[float], length: float, radius: float, aside: float, curl: float
) -> tuple[np.ndarray, np.ndarray]:
    """A capsule from ``root`` upwards, turned about z by ``aside`` and towards -z by ``curl``."""
    capsule = trimesh.creation.capsule(height=length, radius=radius, count=[24, 24])
    points = capsule.vertices[:, [0, 2, 1]] * [1.0, 1.0, -1.0]  # along y
    points[:, 1] -= points[:, 1].min()
    # Long sides are divided, so that smooth surfaces follow them.
    mesh = trimesh.Trimesh(points, capsule.faces, process=False)
    vertices, faces = trimesh.remesh.subdivide_to_size(mesh.vertices, mesh.faces, 0.012)
    about = trimesh.transformations.rotation_matrix
    turn = about(aside, [0, 0, 1])[:3, :3] @ about(-curl, [1, 0, 0])[:3, :3]
    return vertices @ turn.T + np.asarray(root), faces


def blank_head(stream: np.random.Generator) -> SceneMesh:
    """An egg with its blunt end up, with a blunt nose or, one in three times, with none."""
    ball = trimesh.creation.icosphere(subdivisions=5, radius=1.0)
    x, y, z = ball.vertices.T
    half = np.array([0.075, 0.115, 0.095]) * stream.uniform(0.85, 1.15, 3)
    narrow = 1.0 + stream.uniform(0.05, 0.25) * y
    points = np.stack([x * narrow, y, z * narrow], 1) * half
    if stream.uniform() > 1 / 3:
        height, width = stream.uniform(0.005, 0.020), stream.uniform(0.010, 0.018)
        up, front = points[:, 1] + 0.01, points[:, 2] < 0
        bump = np.exp(-0.5 * ((points[:, 0] / width) ** 2 + (up / (1.6 * width)) ** 2))
        points[:, 2] -= height * bump * front
    return torch.from_numpy(points), torch.from_numpy(np.array(ball.faces, dtype=np.int64))


def body(kind: str, index: int, seed: int = 0) -> Body:
    """One random body of a kind (:data:`KINDS`)."""
    stream = numpy_stream(seed, f"bodies/{kind}", index)
    origin = (0.0, 0.0, 0.0)
    if kind == "sphere":
        vertices, triangles = sphere(origin, stream.uniform(0.03, 0.11), FACET)
    elif kind == "plate":
        width, height = stream.uniform(0.06, 0.25, 2)
        vertices, triangles = plate(origin, width, height, facet=FACET)
    elif kind == "hand":
        vertices, triangles = hand(stream)
    elif kind == "head without features":
        vertices, triangles = blank_head(stream)
    else:
        raise ValueError(kind)
    vertices = vertices.double()
    vertices = vertices - (vertices.amin(0) + vertices.amax(0)) / 2
    turn = np.eye(3)
    for axis, most in zip(np.eye(3), (TILT, TILT, 2 * TILT), strict=True):
        angle = math.radians(stream.uniform(-most, most))
        turn = turn @ trimesh.transformations.rotation_matrix(angle, axis)[:3, :3]
    vertices = vertices @ torch.from_numpy(turn.T)
    place = torch.from_numpy(stream.uniform(-APART, APART, 3))
    place[2] += DISTANCE - vertices[:, 2].min()
    material = float(stream.uniform(0.0, MATERIAL))
    size = float(stream.uniform(*RANGES["rendering"][2]))
    return Body(kind, vertices + place, triangles, material, size, int(stream.integers(2**31)))
