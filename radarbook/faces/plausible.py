"""Checks of a face model's file: whether its values agree with its layout.

Units, the order of coordinates, vertex numbers, winding, variances. Each check compares the file as
it is with its probable meaning, or with properties of every human face. Certain errors raise
:class:`~radarbook.errors.InputError`, doubtful ones are returned as notes, one sentence each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from radarbook.errors import InputError
from radarbook.faces.regions import anchors_from_landmarks

#: A face or head measures 100 to 400 mm.
SIZE_MM = (60.0, 600.0)
#: Root mean square displacement of a vertex over all modes of a part, mm. Faces of adults differ
#: by 3 to 6 mm, expressions by 2 to 4 mm. Outside of the limits the modes are doubted, outside of
#: ten times (below: a seventh) of them they cannot be of faces.
SPREAD_MM = {"shape": (0.7, 40.0), "expression": (0.3, 40.0)}
CERTAIN_BELOW, CERTAIN_ABOVE = 1 / 7, 10.0
#: Edges this much longer than those of an even mesh of as many vertices over the bounding box join
#: vertices that are no neighbours: 0.6 to 0.75 for face models, over 3 for any wrong numbering of
#: more than a few hundred vertices.
EDGE_EXCESS = 3.0
#: Two unit columns with this cosine are one mode stored twice; orthonormal columns in float32 have
#: cosines below 1e-5.
SAME_MODE, SLANTED_MODES = 0.99, 0.02
#: Models of fewer vertices are made up: smoothness and size of their modes are not judged.
FEW_VERTICES = 500

_UNITS = {-1: "centimetres", -3: "metres", 3: "micrometres, as BFM 2009"}


# -- geometry -----------------------------------------------------------------------------------


def surface_area(points: np.ndarray, triangles: np.ndarray) -> float:
    """Area of a surface, in the square of the unit of ``points`` (N, 3)."""
    return float(np.linalg.norm(_doubled_normals(points, triangles), axis=1).sum() / 2)


def edge_length(points: np.ndarray, triangles: np.ndarray) -> float:
    """Mean length of the sides of all triangles, in the unit of ``points`` (N, 3)."""
    corners = points[triangles].astype(np.float64)
    return float(np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2).mean())


def points_inwards(mean: np.ndarray, triangles: np.ndarray) -> bool:
    """Whether most of the surface's area faces the inside of the head."""
    normals = _doubled_normals(mean, triangles)
    # The inside is behind the centroid for a mask and around it for a whole head.
    inside = mean.mean(axis=0, dtype=np.float64)
    inside[2] = mean[:, 2].min()
    centres = mean[triangles].astype(np.float64).mean(axis=1)
    return float((normals * (centres - inside)).sum()) < 0


def _doubled_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    corners = points[triangles].astype(np.float64)
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def require_millimetres(source: str, mean: np.ndarray, points: np.ndarray | None = None) -> None:
    """Raise unless the mean face (N, 3) is as long as a face or head in millimetres.

    ``points`` is the reference mesh: if it has the size of a face and the mean has not, the file
    probably holds displacements.
    """
    size = float(np.ptp(mean, axis=0).max())
    if SIZE_MM[0] <= size <= SIZE_MM[1]:
        return
    power = round(float(np.log10(max(size, 1e-12) / 200.0)))
    hint = f" (is it in {_UNITS[power]}?)" if power in _UNITS else ""
    if not hint and points is not None:
        reference = float(np.ptp(points, axis=0).max())
        if SIZE_MM[0] <= reference <= SIZE_MM[1]:
            hint = (
                f" (the reference mesh is {reference:.0f} mm long: does the file hold the mean's "
                "displacement from it?)"
            )
    raise InputError(
        f"{source}: the mean face is {size:.4g} long, expected "
        f"{SIZE_MM[0]:.0f} to {SIZE_MM[1]:.0f} mm{hint}"
    )


def require_interleaved(source: str, mean: np.ndarray, triangles: np.ndarray) -> None:
    """Raise if the mean (N, 3) makes a surface only when it is read as all x, all y, all z."""
    planar = mean.reshape(3, -1).T
    if edge_length(planar, triangles) < 0.5 * edge_length(mean, triangles):
        stored, meant = (surface_area(p, triangles) / 100 for p in (mean, planar))
        raise InputError(
            f"{source}: shape/model/mean is stored as all x, all y, all z (a surface of "
            f"{stored:,.0f} cm² as it is, {meant:,.0f} cm² reordered), expected x0 y0 z0 x1 y1 z1"
        )


def require_counted_from_zero(source: str, mean: np.ndarray, triangles: np.ndarray) -> None:
    """Raise if the triangles make a clearly smaller surface with all numbers less by one."""
    if triangles.min() < 1:
        return
    stored, meant = (surface_area(mean, t) / 100 for t in (triangles, triangles - 1))
    if meant < 0.8 * stored:
        raise InputError(
            f"{source}: shape/representer/cells counts vertices from 1 (a surface of "
            f"{stored:,.0f} cm² as it is, {meant:,.0f} cm² counted from 0), expected from 0"
        )


def require_neighbours(source: str, mean: np.ndarray, triangles: np.ndarray) -> None:
    """Raise if the triangles join vertices that are far apart."""
    x, y, z = np.ptp(mean, axis=0).astype(np.float64)
    expected = float(np.sqrt(2 * (x * y + y * z + z * x) / len(mean)))
    found = edge_length(mean, triangles)
    if found > EDGE_EXCESS * expected:
        raise InputError(
            f"{source}: the mean face's edges are {found:.3g} mm long on average, expected about "
            f"{0.7 * expected:.2g} mm for {len(mean)} vertices: shape/representer/cells are of "
            "another mesh, or the vertices are in another order"
        )


def require_frame(source: str, mean: np.ndarray, landmarks: Mapping[str, int]) -> None:
    """Raise if the model's own landmarks contradict +x the subject's left, +y up, +z forward."""
    at = {name: mean[index] for name, index in anchors_from_landmarks(landmarks).items()}
    for axis, meaning, high, low in (
        (0, "+x to the subject's left", "left_eye_outer", "right_eye_outer"),
        (0, "+x to the subject's left", "mouth_left", "mouth_right"),
        (1, "+y up", "right_eye_outer", "chin"),
        (2, "+z out of the nose", "nose_tip", "right_eye_outer"),
    ):
        if high in at and low in at and at[high][axis] < at[low][axis]:
            raise InputError(
                f"{source}: expected {meaning}, but the landmark {high.replace('_', ' ')} has a "
                f"smaller {'xyz'[axis]} than {low.replace('_', ' ')} "
                f"({at[high][axis]:.1f} and {at[low][axis]:.1f} mm)"
            )


# -- modes --------------------------------------------------------------------------------------


def spread(variance: np.ndarray, n_vertices: int) -> np.ndarray:
    """(K,) root mean square displacement of a vertex, mm, of modes with ``variance`` (K,) mm²."""
    return np.sqrt(np.asarray(variance, dtype=np.float64).clip(min=0) / n_vertices)


def check_variances(source: str, part: str, variance: np.ndarray, n_vertices: int) -> list[str]:
    """Notes on variances (K,) mm² of all modes of a part; impossible ones raise."""
    name = f"{part}/model/pcaVariance"
    if not len(variance):
        return []
    size = float(np.sqrt((spread(variance, n_vertices) ** 2).sum()))
    low, high = SPREAD_MM[part]
    if low <= size <= high:
        return _order_note(name, variance)
    squared = float(np.sqrt((np.asarray(variance, dtype=np.float64) ** 2).sum() / n_vertices))
    causes = {
        "variances in m²": 1e3 * size,
        "variances in cm²": 10 * size,
        "variances in µm²": 1e-3 * size,
        "standard deviations in place of variances": squared,
    }
    likely = [cause for cause, meant in causes.items() if low <= meant <= high]
    text = (
        f"{name} moves a vertex by {size:.2g} mm (root mean square over all modes), expected "
        f"{low} to {high:.0f} mm"
    )
    if likely:
        text += f": {' or '.join(likely)}?"
    certain = size < CERTAIN_BELOW * low or size > CERTAIN_ABOVE * high
    # A part that hardly moves may still be meant: one expression, a blink; a small made-up model.
    if certain or (part == "shape" and likely and n_vertices >= FEW_VERTICES):
        raise InputError(f"{source}: {text}")
    return [text]


def _order_note(name: str, variance: np.ndarray) -> list[str]:
    first = 10
    best = np.sort(variance)[::-1][:first].sum()
    if len(variance) > first and variance[:first].sum() < 0.5 * best:
        return [f"{name} is not in descending order: the first modes are not the largest"]
    return []


def check_smoothness(source: str, part: str, basis: np.ndarray, triangles: np.ndarray) -> list[str]:
    """Notes on unit columns (3N, K); raises if they are smooth only when read as all x, y, z."""
    if not basis.shape[1]:
        return []
    first = basis[:, :3].astype(np.float64)
    stored = roughness(first.reshape(-1, 3, first.shape[1]), triangles)
    planar = roughness(first.reshape(3, -1, first.shape[1]).transpose(1, 0, 2), triangles)
    name = f"{part}/model/pcaBasis"
    if planar < 0.25 * stored:
        raise InputError(
            f"{source}: the rows of {name} are all x, all y, all z, expected x0 y0 z0 x1 y1 z1"
        )
    if stored > 0.5 and len(basis) >= 3 * FEW_VERTICES:
        return [
            f"{name}: the first modes move neighbouring vertices independently, as noise does: "
            "random modes, or vertices in another order than the mean's"
        ]
    return []


def roughness(modes: np.ndarray, triangles: np.ndarray) -> float:
    """How much modes (N, 3, K) differ along edges: near 0 if smooth, 1 if neighbours are
    independent (mean squared difference over twice the mean square)."""
    along = modes[triangles[:, 0]] - modes[triangles[:, 1]]
    power = 2 * float((modes**2).sum(axis=1).mean())
    return float((along**2).sum(axis=1).mean()) / power if power else 0.0


def check_directions(source: str, part: str, basis: np.ndarray) -> list[str]:
    """Notes on unit (or zero) columns (3N, K) that are not orthogonal; a repeated one raises."""
    cosines = np.abs(basis.T @ basis)
    np.fill_diagonal(cosines, 0)
    if not cosines.size or cosines.max() < SLANTED_MODES:
        return []
    worst = int(cosines.argmax())
    a, b = sorted(divmod(worst, len(cosines)))
    text = f"columns {a} and {b} of {part}/model/pcaBasis"
    if cosines.max() > SAME_MODE:
        raise InputError(
            f"{source}: {text} are the same mode (cosine {cosines.max():.3f}), expected "
            "orthonormal columns"
        )
    return [
        f"{text} are not orthogonal (cosine {cosines.max():.2f}); the modes are used as they are, "
        "so variances of modes do not add up"
    ]


def check_parts(shape_basis: np.ndarray, expression_basis: np.ndarray) -> list[str]:
    """A note if a shape mode and an expression mode, unit columns (3N, K), are the same."""
    if not shape_basis.shape[1] or not expression_basis.shape[1]:
        return []
    cosines = np.abs(shape_basis.T @ expression_basis)
    if cosines.max() <= SAME_MODE:
        return []
    a, b = divmod(int(cosines.argmax()), cosines.shape[1])
    return [
        f"shape mode {a} and expression mode {b} are the same (cosine {cosines.max():.3f}): "
        "a fit cannot distinguish them"
    ]
