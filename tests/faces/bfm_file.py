"""A small file in the real layout of BFM 2019, and ways to spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

VERTICES, SHAPES, EXPRESSIONS = 48, 6, 5


def cap(n: int = VERTICES) -> tuple[np.ndarray, np.ndarray]:
    """A bulging 6 x (n / 6) patch of face size, mm, triangles counter-clockwise seen from +z."""
    across = n // 6
    y, x = np.meshgrid(np.linspace(-90, 90, 6), np.linspace(-70, 70, across), indexing="ij")
    z = 120 - (x**2 + y**2) / 150
    index = np.arange(n).reshape(6, across)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    return np.stack([x, y, z], axis=-1).reshape(-1, 3), triangles


def write(path: Path, spoil: Callable[[h5py.File], None] | None = None) -> Path:
    """Write a file as BFM 2019 is, with a reference mesh that is not the mean and an expression
    mean that is not zero; ``spoil`` may change it afterwards."""
    stream = np.random.default_rng(7)
    mean, triangles = cap()
    landmarks = [
        {"id": "center.nose.tip", "coordinates": (mean[20] + 5.2).tolist()},
        {"id": "left.ear.tragus.tip", "coordinates": [90.0, 20.0, -60.0]},
    ]
    with h5py.File(path, "w") as file:
        for part, count in (("shape", SHAPES), ("expression", EXPRESSIONS)):
            model = file.create_group(f"{part}/model")
            basis, _ = np.linalg.qr(stream.normal(size=(3 * VERTICES, count)))
            values = mean if part == "shape" else stream.normal(scale=2, size=mean.shape)
            model["mean"] = values.reshape(-1).astype(np.float32)
            model["pcaBasis"] = basis.astype(np.float32)
            model["pcaVariance"] = (400.0 / np.arange(1, count + 1) ** 2).astype(np.float32)
            model["noiseVariance"] = np.zeros(1, np.float32)
            representer = file.create_group(f"{part}/representer")
            representer["points"] = (mean + 5.0).T.astype(np.float32)
            representer["cells"] = triangles.T.astype(np.int32)
        file["metadata/landmarks/json"] = np.array(
            [json.dumps(landmarks)], dtype=h5py.string_dtype()
        )
        file["version/majorVersion"], file["version/minorVersion"] = 0, 9
        if spoil:
            spoil(file)
    return path


def replace(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    """Spoil one dataset."""

    def spoil(file: h5py.File) -> None:
        value = change(file[name][()])
        del file[name]
        file[name] = value

    return spoil
