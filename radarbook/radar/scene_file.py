"""A user's mesh file as a scene in front of the array: position, checks, repair of winding."""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.mesh import METRES, Units, read_mesh, require_mesh
from radarbook.radar.array import qar50
from radarbook.radar.limits import LARGEST_REACH
from radarbook.radar.meshes import SceneMesh
from radarbook.radar.winding import repaired

#: A scene reaches at least this far: 10 wavelengths, less than the array's own width of 144 mm.
SMALLEST_REACH = 0.04
#: And is at least this wide or deep, m: half a wavelength, below which the physics does not hold.
SMALLEST_SIZE = 2e-3
#: Reach and size of the scenes that the array is made for, m: a likely unit gives about these.
_USUAL_REACH = 0.22
#: Beyond these another unit is a likely reason, m: reach of a scene, size of a placed mesh.
_USUAL_REACHES, _USUAL_SIZES = (0.1, 2.0), (0.05, 1.0)


def read_scene(
    path: str | os.PathLike[str], units: Units = "m", *, model_frame: float | None = None
) -> tuple[SceneMesh, list[str]]:
    """A PLY, OBJ or STL file as a scene that :func:`~radarbook.radar.simulate.simulate` takes.

    Parameters
    ----------
    path
        The file; coordinates in ``units``, in the radar frame.
    units
        Of the file's coordinates.
    model_frame : float, optional
        The file is in the model frame instead (+y up, +z out of the nose): its middle is moved to
        x = y = 0, and its foremost point to this distance from the array, m.

    Returns
    -------
    mesh
        Vertices (N, 3) float64, metres, and triangles (F, 3) int64.
    notes : list of str
        Repairs (:func:`~radarbook.radar.winding.repaired`) and doubts, one sentence each; empty
        for a sound mesh.

    Raises :class:`~radarbook.errors.InputError` for a file that cannot be read, a scene that is
    behind the array or implausibly large or small, and one without a triangle that faces it.
    """
    read = read_mesh(path, units)
    source, points = str(path), read.vertices
    if model_frame is not None:
        points = in_radar_frame(points, read.triangles, model_frame)
    check_scene(points, read.triangles, source, units)
    try:
        triangles, notes = repaired(points, read.triangles)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    if not _facing(points, triangles).any():
        raise InputError(f"{source}: no triangle faces the array, so none reflects to it")
    return (torch.from_numpy(points), torch.from_numpy(triangles)), [
        *notes,
        *_unit_doubt(points[triangles], units, placed=model_frame is not None),
    ]


def _unit_doubt(corners: NDArray[np.float64], units: Units, placed: bool) -> list[str]:
    """A note if another unit explains the reach of a scene, or the size of a placed mesh, better
    than the unit given."""
    reach = float(np.abs(corners).max())
    size = float(np.ptp(corners, axis=(0, 1)).max())
    measure, usual, found = reach, _USUAL_REACHES, f"reaches {reach:.3g} m from the array"
    if placed:
        measure, usual, found = size, _USUAL_SIZES, f"is {size:.3g} m in size"
    likely = likely_unit(measure, units)
    if usual[0] <= measure <= usual[1] or METRES[likely] == METRES[units]:
        return []
    return [f"the mesh {found}; if this is wrong, its unit may be {likely} (--units {likely})"]


def in_radar_frame(
    points: NDArray[np.float64], triangles: NDArray[np.int64], distance: float
) -> NDArray[np.float64]:
    """(N, 3) m: points of the model frame (metres) in the radar frame, the mesh's foremost point
    ``distance`` in front of the array and its bounding box centred in x and y."""
    used = points[np.unique(triangles)]
    low, high = used.min(axis=0), used.max(axis=0)
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2]])
    return (points - origin) * [-1.0, 1.0, -1.0] + [0.0, 0.0, distance]


def likely_unit(reach: float, units: Units = "m") -> Units:
    """The unit in which coordinates up to ``reach`` (m, as read in ``units``) are a usual scene.

    Examples
    --------
    >>> likely_unit(220.0)
    'mm'
    """
    in_file = max(reach, 1e-300) / METRES[units]
    candidates: tuple[Units, ...] = ("m", "cm", "mm", "um")
    return min(candidates, key=lambda unit: abs(math.log(in_file * METRES[unit] / _USUAL_REACH)))


def check_scene(
    vertices: NDArray[np.float64] | Tensor,
    triangles: NDArray[np.int64] | Tensor,
    source: str = "mesh",
    units: Units = "m",
) -> None:
    """Raise unless a mesh is a scene in front of the array: vertices (N, 3) m, triangles (F, 3).

    Raises :class:`~radarbook.errors.InputError` for an invalid mesh
    (:func:`~radarbook.faces.mesh.require_mesh`), a part behind the array (z ≤ 0), and a size or
    distance that is implausible; the message names the likely cause. ``units`` is the unit of the
    file. Vertices of no triangle do not count.
    """
    points, faces = np.asarray(vertices, dtype=np.float64), np.asarray(triangles)
    require_mesh(source, points, faces)
    used = points[np.unique(faces)]
    reach, size = float(np.abs(used).max()), float(np.ptp(used, axis=0).max())
    nearest, farthest = float(used[:, 2].min()), float(used[:, 2].max())
    frame = ""
    if nearest <= 0:
        frame = (
            "; a mesh in the model frame (nose along +z, as 'radarbook model export' writes) is "
            "placed by --model-frame 0.3"
        )
    if reach > LARGEST_REACH or reach < SMALLEST_REACH:
        raise InputError(
            f"{source}: expected a scene that reaches {SMALLEST_REACH:g} to {LARGEST_REACH:g} m "
            f"from the array, found {reach:.3g} m{_unit_advice(reach, units)}{frame}"
        )
    if size < SMALLEST_SIZE:
        raise InputError(
            f"{source}: expected a scene of at least {SMALLEST_SIZE:g} m, found {size:.3g} m"
            f"{_unit_advice(size, units)}"
        )
    if nearest <= 0:
        raise InputError(
            f"{source}: expected every vertex in front of the array (z > 0 in the radar frame), "
            f"found z from {nearest:.3g} to {farthest:.3g} m{frame}"
        )


def _unit_advice(reach: float, units: Units) -> str:
    likely = likely_unit(reach, units)
    meant = reach / METRES[units] * METRES[likely]
    if METRES[likely] == METRES[units] or not SMALLEST_REACH < meant < LARGEST_REACH:
        return ""
    return f"; read in {units}, but this looks like {likely}: pass --units {likely}"


def check_in_image(
    mesh: SceneMesh,
    extent: float,
    depth: tuple[float, float],
    source: str = "mesh",
    units: Units = "m",
) -> list[str]:
    """Notes on how a scene fits an image ``extent`` wide with depths (nearest, farthest), all m.

    Raises :class:`~radarbook.errors.InputError` if none of the triangles that face the array lies
    in the image, which would show sidelobes only.
    """
    points, faces = mesh[0].numpy(), mesh[1].numpy()
    lit = faces[_facing(points, faces)]
    a, b, c = (points[lit[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    low, high = points[lit].min(axis=1), points[lit].max(axis=1)
    nearest, farthest = depth
    deep = (low[:, 2] <= farthest) & (high[:, 2] >= nearest)
    across = ((low[:, :2] <= extent / 2) & (high[:, :2] >= -extent / 2)).all(axis=1)
    low, high = low.min(axis=0), high.max(axis=0)
    place = (
        f"x {low[0]:.3g} to {high[0]:.3g} m, y {low[1]:.3g} to {high[1]:.3g} m, "
        f"z {low[2]:.3g} to {high[2]:.3g} m"
    )
    image = f"the image's ±{extent / 2:g} m and depths {nearest:g} to {farthest:g} m"
    if not (deep & across).any():
        causes = ["--extent" if deep.any() else "--depth"]
        likely = likely_unit(float(np.abs(points[lit]).max()), units)
        if METRES[likely] != METRES[units]:
            causes.append(f"--units {likely}")
        if low[2] < nearest:
            causes.append("--model-frame 0.3 for a mesh in the model frame")
        raise InputError(
            f"{source}: nothing that faces the array lies in {image}, found {place}; pass "
            f"{' or '.join(causes)}"
        )
    outside = 1 - area[deep & across].sum() / area.sum()
    if outside > 0.5:
        return [
            f"{100 * outside:.0f} % of the area that faces the array lies outside {image} ({place})"
        ]
    return []


def _facing(points: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(F,) whether any antenna is in front of a triangle."""
    array = qar50()
    antennas = torch.cat([array.tx, array.rx]).double().numpy()
    a, b, c = (points[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    # The antennas lie on the outline of a rectangle, whose corners decide.
    low, high = antennas.min(axis=0), antennas.max(axis=0)
    corners = np.array([[x, y, 0] for x in (low[0], high[0]) for y in (low[1], high[1])])
    level = (normal * a).sum(axis=1)
    return (normal @ corners.T).max(axis=1) > level
