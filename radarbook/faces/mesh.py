"""Triangle meshes from and to files: PLY, OBJ, STL in; PLY, OBJ, STL out, units stated."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import trimesh
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.obj import parse_obj
from radarbook.faces.ply import parse_ply
from radarbook.faces.polygons import triangulated
from radarbook.faces.stl import parse_stl
from radarbook.files import is_stream, write_bytes

#: "µm" with either of Unicode's two signs, or "um".
Units = Literal["m", "cm", "mm", "um", "µm", "μm"]
METRES: dict[str, float] = {"m": 1.0, "cm": 1e-2, "mm": 1e-3} | dict.fromkeys(
    ("um", "µm", "μm"), 1e-6
)
_READERS = {".ply": parse_ply, ".obj": parse_obj, ".stl": parse_stl}
SUFFIXES = tuple(_READERS)


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in metres.

    Attributes
    ----------
    vertices : (N, 3) float64 array
        Metres.
    triangles : (F, 3) int64 array
        Vertex indices, counter-clockwise seen from outside.
    """

    vertices: np.ndarray
    triangles: np.ndarray


def read_mesh(path: str | os.PathLike[str], units: Units = "m") -> Mesh:
    """Read a PLY, OBJ or STL file whose coordinates are in ``units``; the result is in metres.

    Polygons and strips are split into triangles, STL corners that coincide are merged; else the
    mesh is the file's (:func:`~radarbook.radar.scene_file.read_scene` mends and checks a scene).
    Raises :class:`~radarbook.errors.InputError` if the file is missing, of another kind, ends
    early, is unreadable or empty, or has NaN or a face index out of range.

    Examples
    --------
    >>> import torch
    >>> corners = torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0], [0.0, 100.0, 0.0]])
    >>> write_mesh("plate.ply", corners, torch.tensor([[0, 1, 2]]))  # millimetres
    >>> read_mesh("plate.ply", "mm").vertices[1].tolist()  # metres
    [0.1, 0.0, 0.0]
    """
    path = Path(path)
    if units not in METRES:
        raise InputError(f"units: expected {', '.join(get_args(Units))}, found '{units}'")
    if not path.is_file():
        found = "is no file" if path.exists() else "not found"
        raise InputError(f"{path}: mesh file {found}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a mesh as {', '.join(SUFFIXES)}")
    data = path.read_bytes()
    for start, kind in _OTHER_CONTENT.items():
        if data.startswith(start):
            raise InputError(f"{path}: expected a {suffix[1:]} mesh, found {kind}")
    if not data.strip():
        raise InputError(f"{path}: the file is empty")
    stated = _STATED.search(data[:1000])
    if stated and METRES[stated[1].decode()] != METRES[units]:
        raise InputError(
            f"{path}: its header states units {stated[1].decode()}, but it is read in {units}: "
            f"pass --units {stated[1].decode()}"
        )
    # NaN, infinite and huge values are found by the checks, here and of the scene.
    with np.errstate(invalid="ignore", over="ignore"):
        try:
            polygons = _READERS[suffix](data)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        require_mesh(str(path), polygons.points, polygons.corners)
        vertices, triangles = polygons.points, triangulated(polygons)
    if suffix == ".stl":
        vertices, corner = welded(vertices)
        triangles = corner[triangles]
    return Mesh(vertices * METRES[units], triangles)


#: What :func:`write_mesh` states.
_NOTE = "units {units}, written by radarbook"
_STATED = re.compile(rb"units (m|cm|mm|um), written by radarbook")
_OTHER_CONTENT = {
    b"\x1f\x8b": "gzip-compressed data: decompress the file first",
    b"PK\x03\x04": "a zip archive: decompress it first",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself (git lfs pull)",
}


def welded(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct points (M, 3) of (N, 3) in ascending order, and which of them each one is (N,)."""
    points = points + 0.0  # -0 is 0
    order = np.lexsort(points.T)
    ranked = points[order]
    new = np.ones(len(points), dtype=bool)
    new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    number = np.empty(len(points), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    return ranked[new], number


def require_mesh(source: str, vertices: np.ndarray, triangles: np.ndarray) -> None:
    """Raise unless there are triangles, finite vertices (N, 3) and whole indices in range."""
    if len(vertices) == 0 or len(triangles) == 0:
        raise InputError(
            f"{source}: expected a mesh, found {len(vertices)} vertices and "
            f"{len(triangles)} triangles"
        )
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise InputError(f"{source}: expected vertices (count, 3), found {vertices.shape}")
    bad = ~np.isfinite(vertices).all(axis=1)
    if bad.any():
        raise InputError(
            f"{source}: {bad.sum()} vertices are not finite, first vertex {bad.argmax()}"
        )
    if not np.issubdtype(triangles.dtype, np.integer):
        raise InputError(f"{source}: expected integer triangles, found dtype {triangles.dtype}")
    low, high = int(triangles.min()), int(triangles.max())
    if low < 0 or high >= len(vertices):
        raise InputError(
            f"{source}: face index {low if low < 0 else high} out of range, expected 0 to "
            f"{len(vertices) - 1}"
        )


def require_mesh_name(path: Path) -> str:
    """The suffix of a file name that :func:`write_mesh` can write; other names raise.

    A device or pipe without a suffix (``/dev/stdout``) gets PLY.
    """
    suffix = path.suffix.lower()
    if not suffix and is_stream(path):
        return ".ply"
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a mesh name ending in {', '.join(SUFFIXES)}")
    return suffix


def write_mesh(
    path: str | os.PathLike[str],
    vertices: np.ndarray | Tensor,
    triangles: np.ndarray | Tensor,
    units: Literal["m", "mm"] = "mm",
    *,
    values: Mapping[str, np.ndarray | Tensor] | None = None,
) -> None:
    """Write a PLY, OBJ or STL file; ``units`` (those of ``vertices``) are stated in its header.

    Nothing is converted: pass what you want in the file. Face models are in mm. PLY and STL are
    binary float32. Written atomically.

    ``values`` (N,) by name become properties of the vertices, which PLY alone has; mesh viewers
    colour by them. Raises :class:`~radarbook.errors.InputError` for another suffix, a mesh that is
    none, and values that are not one for each vertex.

    Examples
    --------
    >>> import torch
    >>> write_mesh("face.obj", torch.eye(3), torch.tensor([[0, 1, 2]]))
    >>> len(read_mesh("face.obj", "mm").vertices)
    3
    """
    path = Path(path)
    suffix = require_mesh_name(path)
    points, faces = _numpy(vertices).astype(np.float64), _numpy(triangles).astype(np.int64)
    require_mesh(str(path), points, faces)
    mesh = trimesh.Trimesh(points, faces, process=False)
    for name, value in (values or {}).items():
        column = _numpy(value).astype(np.float32)
        if suffix != ".ply" or column.shape != (len(points),):
            raise InputError(
                f"{path}: expected a PLY file and {len(points)} values of '{name}', one for each "
                f"vertex, found {suffix[1:].upper()} and {column.shape}"
            )
        mesh.vertex_attributes[name] = column
    note = _NOTE.format(units=units)
    if suffix == ".obj":
        data: Any = mesh.export(file_type="obj", header=note, include_normals=False)
    else:
        data = mesh.export(file_type=suffix[1:])
    blob = data.encode() if isinstance(data, str) else data
    if suffix == ".ply":
        # A PLY comment belongs after the format line; trimesh writes none of its own there.
        head, line, rest = blob.partition(b"format binary_little_endian 1.0\n")
        blob = head + line + f"comment {note}\n".encode() + rest
    elif suffix == ".stl":
        blob = note.encode().ljust(80) + blob[80:]  # the 80-byte header of a binary STL
    write_bytes(path, blob)


def coarser(
    vertices: np.ndarray | Tensor, triangles: np.ndarray | Tensor, size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which vertices (M,) a coarser mesh keeps, and its triangles (G, 3) over those.

    Vertices (N, 3) within the same cube of side ``size`` (their unit) become the one nearest the
    cube's mean. The kept ones are vertices of the original, so every face of a model can be shown
    through one choice: ``faces[:, kept]``. Triangles that merging turned over are left out: others
    lie over the same place, and a fold would be lit from behind. Contact sheets use it; nothing is
    computed on it.

    Examples
    --------
    >>> import radarbook as rb
    >>> model = rb.load_model()
    >>> kept, triangles = coarser(model.mean, model.triangles, size=5.0)
    >>> len(kept) < len(model.mean) / 2, triangles.shape[1]
    (True, 3)
    """
    points, faces = _numpy(vertices).astype(np.float64), _numpy(triangles).astype(np.int64)
    _, cube = np.unique(np.floor(points / size), axis=0, return_inverse=True)
    cube = cube.reshape(-1)
    counts = np.bincount(cube)
    middle = np.stack([np.bincount(cube, points[:, k]) / counts for k in range(3)], axis=1)
    off = ((points - middle[cube]) ** 2).sum(axis=1)
    order = np.lexsort((off, cube))
    kept = order[np.unique(cube[order], return_index=True)[1]]
    merged = cube[faces]
    a, b, c = merged.T
    merged = merged[(a != b) & (b != c) & (a != c)]
    # Each triangle once, whichever corner it starts at.
    turned = np.take_along_axis(merged, (merged.argmin(axis=1)[:, None] + np.arange(3)) % 3, axis=1)
    triangles = np.unique(turned, axis=0)
    original = trimesh.Trimesh(points, faces, process=False).vertex_normals[kept]
    a, b, c = (points[kept][triangles[:, k]] for k in range(3))
    along = (np.cross(b - a, c - a) * original[triangles].sum(axis=1)).sum(axis=1)
    return kept, triangles[along > 0]


def _numpy(value: np.ndarray | Tensor) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
