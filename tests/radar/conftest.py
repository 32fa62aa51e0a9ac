"""What the radar's tests share: the array, a few frequencies, and scenes no model of ours made."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from radarbook.faces.mesh import read_mesh
from radarbook.radar import meshes
from radarbook.radar.array import Array, qar50
from radarbook.radar.waveform import Waveform, qar50_waveform

ICT = Path(__file__).resolve().parents[3] / "shared/models/ict_face.h5"


@pytest.fixture(scope="session")
def array() -> Array:
    return qar50()


@pytest.fixture(scope="session")
def waveform() -> Waveform:
    return qar50_waveform(16)


@pytest.fixture(scope="session")
def ellipsoid() -> meshes.SceneMesh:
    """A head-sized ellipsoid, 30 cm away: smooth, curved differently along x and y."""
    vertices, triangles = meshes.sphere((0.0, 0.0, 0.0), 1.0, 0.12)
    scale = torch.tensor([0.07, 0.09, 0.08], dtype=torch.float64)
    return vertices * scale + torch.tensor([0.005, -0.01, 0.38], dtype=torch.float64), triangles


@pytest.fixture(scope="session")
def ict_face() -> meshes.SceneMesh:
    """The mean face of the ICT model in the radar frame, nose tip 30 cm away."""
    if not ICT.exists():
        pytest.skip(f"needs the open face model {ICT.name} in ../shared/models, which is absent")
    with h5py.File(ICT) as file:
        points = file["shape/model/mean"][:].reshape(-1, 3).astype(np.float64)
        points += file["expression/model/mean"][:].reshape(-1, 3)
        triangles = file["shape/representer/cells"][:].T.astype(np.int64)
    low, high = points.min(0), points.max(0)
    points = (points - [*((low + high) / 2)[:2], high[2]]) * 1e-3
    vertices = np.stack([-points[:, 0], points[:, 1], 0.30 - points[:, 2]], axis=1)
    return torch.from_numpy(vertices), torch.from_numpy(triangles)


@pytest.fixture(scope="session")
def shared_head() -> tuple[np.ndarray, np.ndarray]:
    """A scanned face in front of the array: vertices (N, 3) metres, triangles (F, 3)."""
    path = ICT.parents[1] / "faces/james_face_frontal.ply"
    if not path.exists():
        pytest.skip(f"needs the scan {path.name} in ../shared/faces, which is absent")
    mesh = read_mesh(path)
    return mesh.vertices, mesh.triangles
