"""Triangle meshes from and to files: PLY, OBJ, STL in; PLY, OBJ, STL out, units stated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import trimesh
from torch import Tensor

from radarbook.errors import InputError
from radarbook.files import is_stream, write_bytes

Units = Literal["mm", "m"]
SUFFIXES = (".ply", ".obj", ".stl")
#: A scene wider than this is taken for millimetres read as metres.
LARGEST_SCENE = 10.0


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

    Polygons are split into triangles, STL corners that coincide are merged. Raises
    :class:`~radarbook.errors.InputError` if the file is missing, of another kind, unreadable,
    empty, or has NaN or a face index out of range.
    """
    path = Path(path)
    if units not in ("mm", "m"):
        raise InputError(f"units: expected mm or m, found '{units}'")
    if not path.is_file():
        raise InputError(f"{path}: mesh file not found")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a mesh as {', '.join(SUFFIXES)}")
    try:
        loaded: Any = trimesh.load_mesh(path, process=False, maintain_order=True)
    except Exception as error:  # each of trimesh's readers fails in its own way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable {path.suffix[1:]} mesh ({reason})") from error
    vertices = np.asarray(getattr(loaded, "vertices", np.empty((0, 3))), dtype=np.float64)
    triangles = np.asarray(getattr(loaded, "faces", np.empty((0, 3))), dtype=np.int64)
    require_mesh(str(path), vertices, triangles)
    if path.suffix.lower() == ".stl":
        vertices, corner = np.unique(vertices, axis=0, return_inverse=True)
        triangles = corner.reshape(-1)[triangles]
    return Mesh(vertices * (1e-3 if units == "mm" else 1.0), triangles)


def require_mesh(source: str, vertices: np.ndarray, triangles: np.ndarray) -> None:
    """Raise unless there are triangles, finite vertices and indices in range."""
    if len(vertices) == 0 or len(triangles) == 0:
        raise InputError(
            f"{source}: expected a mesh, found {len(vertices)} vertices and "
            f"{len(triangles)} triangles"
        )
    bad = ~np.isfinite(vertices).all(axis=1)
    if bad.any():
        raise InputError(
            f"{source}: {bad.sum()} vertices are not finite, first vertex {bad.argmax()}"
        )
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        wrong = triangles.min() if triangles.min() < 0 else triangles.max()
        raise InputError(
            f"{source}: face index {wrong} out of range, expected 0 to {len(vertices) - 1}"
        )


def require_in_front(source: str, mesh: Mesh) -> None:
    """Raise unless a mesh in the radar frame lies in front of the array, in believable metres."""
    span = float(np.ptp(mesh.vertices, axis=0).max())
    reach = float(np.abs(mesh.vertices).max())
    if max(span, reach) > LARGEST_SCENE:
        raise InputError(
            f"{source}: reaches {reach:.4g} m, expected a scene within {LARGEST_SCENE:.0f} m of "
            "the array; is it in millimetres (--units mm)?"
        )
    nearest = float(mesh.vertices[:, 2].min())
    if nearest <= 0:
        raise InputError(
            f"{source}: behind the radar (nearest z = {nearest:.4g} m), expected all z > 0 in the "
            "radar frame"
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
    units: Units = "mm",
    *,
    values: Mapping[str, np.ndarray | Tensor] | None = None,
) -> None:
    """Write a PLY, OBJ or STL file; ``units`` (those of ``vertices``) are stated in its header.

    Nothing is converted: pass what you want in the file. Face models are in mm. PLY and STL are
    binary float32. Written atomically.

    ``values`` (N,) by name become properties of the vertices, which PLY alone has; mesh viewers
    colour by them. Raises :class:`~radarbook.errors.InputError` for another suffix, a mesh that is
    none, and values that are not one for each vertex.
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
    note = f"units {units}, written by radarbook"
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
    through one choice: ``faces[:, kept]``. Contact sheets use it; nothing is computed on it.
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
    return kept, np.unique(turned, axis=0)


def _numpy(value: np.ndarray | Tensor) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
