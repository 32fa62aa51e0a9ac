"""Basel Face Model files: the HDF5 layout of BFM 2017 and 2019, read and written.

Layout (statismo's, as in ``model2019_face12.h5``), lengths in millimetres::

    {shape,expression}/model/mean          (3N,)    interleaved x0 y0 z0 x1 …
    {shape,expression}/model/pcaBasis      (3N, K)  orthonormal columns
    {shape,expression}/model/pcaVariance   (K,)     mm², largest first
    {shape,expression}/model/noiseVariance          read by nobody here, written as 0
    shape/representer/points               (3, N)   the reference mesh (not the mean), planar
    shape/representer/cells                (3, F)   0-based vertex indices
    metadata/landmarks/json                [{id, coordinates}] on the reference mesh
    version/{majorVersion,minorVersion}

Facts that decide how files are read:

- The expression mean of BFM 2019 is not zero; the neutral face is the sum of both means.
- Files of layout version 0.8 hold the basis already multiplied by the standard deviations. Which
  kind a file holds is measured on its columns rather than believed from its version.
- ``cells`` may be (3, F) or (F, 3), of any integer (or integral float) type, in either winding.
- BFM 2009 is in micrometres and lies in MATLAB files; both are recognised and refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from scipy.spatial import cKDTree

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel, require_modes
from radarbook.faces.regions import regions_from_landmarks
from radarbook.hdf5 import new_hdf5, open_hdf5

#: The published variants by their number of vertices.
VARIANTS = {
    27657: "BFM 2019 face12",
    47439: "BFM 2019 bfm",
    58203: "BFM 2019 fullHead",
    28588: "BFM 2017 face12_nomouth",
    53149: "BFM 2017 bfm_nomouth",
    53490: "BFM 2009",
}
#: Landmarks farther than this from the mesh (ears, on a cropped face) are left out.
LANDMARK_REACH_MM = 10.0


def variant(n_vertices: int) -> str:
    """``"27657 vertices (BFM 2019 face12)"``: a size with the published model it belongs to."""
    known = VARIANTS.get(n_vertices)
    return f"{n_vertices} vertices" + (f" ({known})" if known else "")


# -- reading ------------------------------------------------------------------------------------


def read_bfm(
    path: str | os.PathLike[str], n_shape: int = 10, n_expression: int = 7
) -> MorphableModel:
    """Read the first modes of a file in BFM 2017/2019 layout; the other modes stay on disk.

    Returns a float32 CPU :class:`~radarbook.faces.model.MorphableModel`. Raises
    :class:`~radarbook.errors.InputError` if the file is missing, not HDF5, lacks a dataset of the
    layout, mixes variants, is not in millimetres, holds fewer modes than asked for, or holds
    values that are not finite, cells out of range or landmarks of another kind.
    """
    path = Path(path)
    with _open(path) as file:
        shape_mean, shape_modes = _read_part(path, file, "shape", n_shape)
        expression_mean, expression_modes = _read_part(path, file, "expression", n_expression)
        n = len(shape_mean)
        _require_size(path, "expression/model/mean", len(expression_mean), n)
        _require_millimetres(path, shape_mean)
        points = _read_points(path, file, n)
        triangles = _read_cells(path, file, n)
        mean = shape_mean + expression_mean
        landmarks = _read_landmarks(path, file, points)
        regions = _read_regions(path, file, n) or regions_from_landmarks(mean, landmarks)
    if _points_inwards(mean, triangles):
        triangles = triangles[:, ::-1].copy()
    return MorphableModel(
        name=path.name,
        shape_mean=torch.from_numpy(shape_mean),
        expression_mean=torch.from_numpy(expression_mean),
        shape_modes=torch.from_numpy(shape_modes),
        expression_modes=torch.from_numpy(expression_modes),
        triangles=torch.from_numpy(triangles),
        landmarks=landmarks,
        regions={name: torch.from_numpy(mask) for name, mask in regions.items()},
    )


def held_modes(path: str | os.PathLike[str]) -> tuple[int, int]:
    """How many shape and expression modes a file in BFM layout holds."""
    path = Path(path)
    with _open(path) as file:
        counts = [
            _dataset(path, file, f"{part}/model/pcaVariance").size
            for part in ("shape", "expression")
        ]
    return counts[0], counts[1]


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise InputError(f"{path}: model file not found")
    with open(path, "rb") as start:
        if start.read(6) == b"MATLAB":
            raise InputError(
                f"{path}: not an HDF5 file, it is a MATLAB file as BFM 2009's; "
                "expected BFM 2017 or 2019"
            )
    return open_hdf5(path)


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{path}: no dataset '{name}', expected the layout of BFM 2017/2019")
    return found


def _read_part(path: Path, file: h5py.File, part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (N, 3) and the first ``count`` modes (count, N, 3), mm per standard deviation."""
    mean = _floats(path, f"{part}/model/mean", _dataset(path, file, f"{part}/model/mean")[()])
    variance = _floats(
        path, f"{part}/model/pcaVariance", _dataset(path, file, f"{part}/model/pcaVariance")[()]
    )
    basis_set = _dataset(path, file, f"{part}/model/pcaBasis")
    if mean.size % 3:
        raise InputError(f"{path}: {part}/model/mean has {mean.size} values, expected 3 per vertex")
    if basis_set.ndim != 2 or basis_set.shape[0] != mean.size:
        raise InputError(
            f"{path}: {part}/model/pcaBasis is {basis_set.shape}, expected ({mean.size}, modes)"
        )
    require_modes(str(path), part, count, min(basis_set.shape[1], variance.size))
    basis = _floats(path, f"{part}/model/pcaBasis", basis_set[:, :count])
    variance = variance.reshape(-1)[:count]
    if (variance < 0).any():
        raise InputError(f"{path}: {part}/model/pcaVariance has negative values")
    deviation = np.sqrt(variance)
    norms = np.linalg.norm(basis, axis=0)
    scaled = np.isclose(norms, deviation, rtol=0.05).all()
    if not (np.isclose(norms, 1, rtol=0.05) | (deviation == 0)).all() and not scaled:
        worst = int(np.abs(norms - 1).argmax())
        raise InputError(
            f"{path}: column {worst} of {part}/model/pcaBasis has length {norms[worst]:.4g}, "
            f"expected 1 or, in files of version 0.8, its standard deviation {deviation[worst]:.4g}"
        )
    # Unit columns whatever the file held, so the variance alone is the scale.
    modes = basis * (deviation / np.where(norms > 0, norms, 1))
    return (
        mean.reshape(-1, 3).astype(np.float32),
        np.ascontiguousarray(modes.T, dtype=np.float32).reshape(count, -1, 3),
    )


def _floats(path: Path, name: str, value: Any) -> np.ndarray:
    value = np.asarray(value)
    if value.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name} is {value.dtype}, expected numbers")
    if not np.isfinite(value).all():
        raise InputError(f"{path}: {name} has values that are not finite")
    return value.astype(np.float32, copy=False)


def _require_size(path: Path, name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise InputError(
            f"{path}: {name} has {variant(found)}, but shape/model/mean has {variant(wanted)}: "
            "model variants are mixed"
        )


def _require_millimetres(path: Path, mean: np.ndarray) -> None:
    """A face or head measures 100 to 400 mm; other units are out by 10, 1000 or 1/1000."""
    size = float(np.ptp(mean, axis=0).max())
    if 60 <= size <= 600:
        return
    guess = {
        -1: "centimetres",
        -3: "metres",
        3: "micrometres, as BFM 2009",
    }.get(round(float(np.log10(max(size, 1e-12) / 200.0))))
    hint = f" (is it in {guess}?)" if guess else ""
    raise InputError(f"{path}: the mean face is {size:.4g} long, expected 60 to 600 mm{hint}")


def _read_points(path: Path, file: h5py.File, n: int) -> np.ndarray:
    """(N, 3) the reference mesh, on which landmarks are given."""
    name = "shape/representer/points"
    points = _floats(path, name, _dataset(path, file, name)[()])
    if points.ndim == 2 and points.shape[0] == 3:
        points = points.T
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"{path}: {name} is {points.shape}, expected (3, {n})")
    _require_size(path, name, len(points), n)
    return points


def _read_cells(path: Path, file: h5py.File, n: int) -> np.ndarray:
    """(F, 3) int64 vertex indices."""
    name = "shape/representer/cells"
    cells = np.asarray(_dataset(path, file, name)[()])
    if cells.ndim == 2 and cells.shape[0] == 3:
        cells = cells.T
    if cells.ndim != 2 or cells.shape[1] != 3 or cells.size == 0:
        raise InputError(f"{path}: {name} is {cells.shape}, expected (3, triangles)")
    triangles = cells.astype(np.int64)
    if cells.dtype.kind not in "fiu" or (cells.dtype.kind == "f" and (triangles != cells).any()):
        raise InputError(f"{path}: {name} is {cells.dtype}, expected integers")
    if triangles.min() < 0 or triangles.max() >= n:
        hint = ""
        if triangles.min() == 1 and triangles.max() == n:
            hint = " (it counts from 1, expected 0)"
        elif triangles.max() + 1 in VARIANTS:
            hint = f": cells of a model with {variant(int(triangles.max()) + 1)}"
        raise InputError(
            f"{path}: {name} refers to vertex {triangles.max()}, expected at most {n - 1} for "
            f"{variant(n)}{hint}"
        )
    return triangles


def _points_inwards(mean: np.ndarray, triangles: np.ndarray) -> bool:
    """Whether most of the surface's area faces the inside of the head."""
    corners = mean[triangles].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # The inside is behind the centroid for a mask and around it for a whole head.
    inside = mean.mean(axis=0, dtype=np.float64)
    inside[2] = mean[:, 2].min()
    return float((normals * (corners.mean(axis=1) - inside)).sum()) < 0


# -- landmarks and regions ----------------------------------------------------------------------


def _read_landmarks(path: Path, file: h5py.File, points: np.ndarray) -> dict[str, int]:
    """Vertex index of each landmark: its own ``index``, or the vertex nearest its coordinates.

    The JSON text may be bytes or str, a scalar or an array of one; a list of ``{id, coordinates}``
    or a dictionary from names to coordinates, to indices or to such records.
    """
    name = "metadata/landmarks/json"
    if name not in file:
        return {}
    text = np.asarray(_dataset(path, file, name)[()]).reshape(-1)
    try:
        raw = text[0].decode() if isinstance(text[0], bytes) else str(text[0])
        records = _records(json.loads(raw))
    except (IndexError, UnicodeDecodeError, TypeError, KeyError, ValueError, AttributeError):
        raise InputError(
            f"{path}: {name} is not a JSON list of {{id, coordinates}} or a dictionary by name"
        ) from None
    tree = cKDTree(points)
    landmarks: dict[str, int] = {}
    for label, (index, coordinates) in records.items():
        if index is not None:
            if not 0 <= index < len(points):
                raise InputError(
                    f"{path}: landmark '{label}' is vertex {index}, expected 0 to {len(points) - 1}"
                )
            landmarks[label] = index
            continue
        if coordinates.shape != (3,) or not np.isfinite(coordinates).all():
            raise InputError(
                f"{path}: landmark '{label}' has coordinates {coordinates.tolist()}, "
                "expected three finite numbers"
            )
        distance, nearest = tree.query(coordinates)
        if distance <= LANDMARK_REACH_MM:
            landmarks[label] = int(nearest)
    return landmarks


def _records(value: Any) -> dict[str, tuple[int | None, np.ndarray]]:
    """``{name: (vertex index or None, coordinates)}`` from any of the forms found in files."""
    if isinstance(value, Mapping):
        named = [(str(key), item) for key, item in value.items()]
    else:
        named = [(str(item["id"]), item) for item in value]
    records: dict[str, tuple[int | None, np.ndarray]] = {}
    for label, item in named:
        index, coordinates = None, np.empty(0)
        if isinstance(item, int):
            index = item
        elif isinstance(item, Mapping):
            if item.get("index") is not None:
                index = int(item["index"])
            else:
                coordinates = np.asarray(item["coordinates"], dtype=np.float64)
        else:
            coordinates = np.asarray(item, dtype=np.float64)
        records[label] = (index, coordinates)
    return records


def _read_regions(path: Path, file: h5py.File, n: int) -> dict[str, np.ndarray]:
    """Region masks, which only files written here carry."""
    group = file.get("metadata/regions")
    if not isinstance(group, h5py.Group):
        return {}
    regions = {name: np.asarray(item[()]).astype(bool) for name, item in group.items()}
    for name, mask in regions.items():
        _require_size(path, f"metadata/regions/{name}", len(mask), n)
    return regions


# -- writing ------------------------------------------------------------------------------------


def write_bfm(path: str | os.PathLike[str], model: MorphableModel) -> None:
    """Write a model in BFM 2019 layout (float32, millimetres), atomically.

    Modes become unit columns and variances. Modes of length zero keep variance 0. Landmarks are
    written with their vertex ``index`` beside ``coordinates``, regions under ``metadata/regions``:
    readers of the original layout ignore both. Reading the file back gives the same model.
    """
    points = model.mean.detach().cpu().numpy().astype(np.float32)
    landmarks = [
        {"id": name, "index": int(index), "coordinates": [float(c) for c in points[index]]}
        for name, index in model.landmarks.items()
    ]
    with new_hdf5(path) as file:
        for part, mean, modes in (
            ("shape", model.shape_mean, model.shape_modes),
            ("expression", model.expression_mean, model.expression_modes),
        ):
            flat = modes.detach().cpu().double().numpy().reshape(len(modes), -1)
            lengths = np.linalg.norm(flat, axis=1)
            basis = (flat / np.where(lengths > 0, lengths, 1)[:, None]).T
            group = file.create_group(f"{part}/model")
            group["mean"] = mean.detach().cpu().numpy().astype(np.float32).reshape(-1)
            group["pcaBasis"] = basis.astype(np.float32)
            group["pcaVariance"] = (lengths**2).astype(np.float32)
            group["noiseVariance"] = np.zeros(1, np.float32)
            representer = file.create_group(f"{part}/representer")
            representer["points"] = np.ascontiguousarray(points.T)
            representer["cells"] = model.triangles.cpu().numpy().T.astype(np.int32)
        text = json.dumps(landmarks)
        file["metadata/landmarks/json"] = np.array([text], dtype=h5py.string_dtype())
        for name, mask in model.regions.items():
            file[f"metadata/regions/{name}"] = mask.cpu().numpy()
        file["version/majorVersion"], file["version/minorVersion"] = np.int32(0), np.int32(9)
