"""The procedural default: a face model built by code, so that everything runs without a download.

The neutral face is the surface of :mod:`radarbook.faces.sculpture`, meshed evenly; the modes are
smooth displacement fields that each move one measure of the face. Translation and infinitesimal
rotation are taken out of them (pose has its own parameters), then each set is made orthogonal by
the smallest change (symmetric orthogonalisation) and all are scaled by one factor close to 1
(:data:`SCALE`) so that the mean-face distance is the paper's 4.4 mm.

What a shape mode moves, and how much that measure varies among adults (standard deviation within a
sex, mm, rounded, after the surveys named in :doc:`/face_models`; the designed change of one
standard deviation is of that size, not fitted to it):

====================================  =======================================  ==============
shape mode                            measure                                  population SD
====================================  =======================================  ==============
face width                            bizygomatic breadth                      6 to 7
face height                           menton to sellion                        6 to 7
face depth                            tragion to subnasale, forward            5 to 6
jaw width                             bigonial breadth                         9 to 10
chin projection, facial convexity     pogonion to subnasale, forward           3 to 4
cheek fullness                        soft tissue over the cheek               2 to 3
nose projection                       subnasale to pronasale                   2.5 to 3
nose width                            breadth over the wings                   4
eye distance and depth                interpupillary distance                  3.5
lip fullness                          vermilion height, both lips              2 to 3
====================================  =======================================  ==============

Expression modes (one standard deviation is about a third of a full expression): jaw open, smile,
pucker, brow raise, brow furrow, cheek puff, nose sneer. Nobody has measured their standard
deviations in a population; they are chosen so that ±3 stays a face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from radarbook.faces.model import MorphableModel
from radarbook.faces.regions import regions_from_landmarks
from radarbook.faces.rigid import without_rigid_motion
from radarbook.faces.sculpture import surface

#: No edge of the neutral mesh is longer than this, mm.
LONGEST = 2.5
#: Distance between vertices along a row and between rows, mm.
SPACING = 1.69
ROW_POWER = 12.0
SMOOTHINGS = 5
FLIPS = 4
SCALE = 1.012


@dataclass(frozen=True)
class Handle:
    """A smooth pull at (±x, y) of the frontal plane, mirrored in x.

    ``pull`` is the displacement (sideways away from the middle, up, forward) in mm at the centre;
    it falls off as a Gaussian of radii ``reach``.
    """

    x: float
    y: float
    reach: tuple[float, float]
    pull: tuple[float, float, float]


@dataclass(frozen=True)
class Mode:
    """A displacement field: linear stretches about a centre plus handles.

    ``stretch`` (x, y, z) is the change per mm from the middle plane, from the eyes' height and
    from the depth of the cheeks.
    """

    name: str
    handles: tuple[Handle, ...] = ()
    stretch: tuple[float, float, float] = (0.0, 0.0, 0.0)


SHAPE_MODES = (
    Mode("face width", stretch=(0.050, 0.0, 0.0)),
    Mode("face height", stretch=(0.0, 0.054, 0.0)),
    Mode("face depth", (Handle(0, -10, (45, 60), (0, 0, 2.2)),), stretch=(0.0, 0.0, 0.068)),
    Mode(
        "jaw width",
        (Handle(54, -36, (30, 36), (3.7, 0, 0.7)), Handle(28, -68, (24, 18), (1.4, 0, 0.6))),
    ),
    Mode(
        "chin projection and facial convexity",
        (
            Handle(0, -64, (34, 26), (0, -1.6, 4.4)),
            Handle(0, 88, (62, 32), (0, 0.6, 3.4)),
            Handle(0, 4, (34, 28), (0, 0, -1.0)),
        ),
    ),
    Mode(
        "cheek fullness",
        (Handle(48, -14, (24, 28), (2.0, 0, 2.4)), Handle(26, -70, (28, 16), (0.8, -1.2, 0.6))),
    ),
    Mode(
        "nose projection",
        (Handle(0, 2, (15, 16), (0, -0.8, 3.0)), Handle(0, 24, (10, 15), (0, 0, 2.0))),
    ),
    Mode(
        "nose width",
        (Handle(13, -4, (11, 10), (1.8, 0, 0)), Handle(9, 18, (11, 18), (0.9, 0, -0.3))),
    ),
    Mode(
        "eye distance and depth",
        (Handle(32, 36, (20, 15), (1.9, 0, -1.5)), Handle(28, 55, (26, 10), (0.4, 0.6, 1.4))),
    ),
    Mode(
        "lip fullness",
        (Handle(0, -26, (24, 6), (0, 1.1, 1.7)), Handle(0, -41, (22, 7), (0, -1.3, 1.9))),
    ),
)

EXPRESSION_MODES = (
    Mode(
        "jaw open",
        (Handle(0, -48, (54, 14), (0, -3.6, -0.8)), Handle(0, -74, (60, 24), (0, -4.8, -2.2))),
    ),
    Mode(
        "smile",
        (Handle(27, -34, (15, 14), (2.6, 2.4, -1.4)), Handle(42, 2, (20, 18), (0.8, 1.6, 1.8))),
    ),
    Mode(
        "pucker",
        (Handle(23, -34, (14, 14), (-2.6, 0, 0.8)), Handle(0, -34, (17, 14), (0, 0, 2.6))),
    ),
    Mode("brow raise", (Handle(28, 57, (30, 14), (0, 3.0, 0.3)),)),
    Mode("brow furrow", (Handle(15, 54, (14, 11), (-1.5, -2.0, 0.7)),)),
    Mode("cheek puff", (Handle(44, -22, (21, 22), (2.4, 0, 2.8)),)),
    Mode(
        "nose sneer",
        (Handle(13, 3, (12, 14), (0.6, 2.0, 0.6)), Handle(15, -24, (12, 9), (0, 1.5, 0.4))),
    ),
)

#: Frontal coordinates (x, y) mm of the landmarks on the midline and the subject's right (negative
#: x) of the neutral face, by their number in the 68-point mark-up.
RIGHT_LANDMARKS: dict[int, tuple[float, float]] = {
    # jaw, from the ear to the chin
    0: (-74, 35),
    1: (-73, 16),
    2: (-70, -4),
    3: (-66, -23),
    4: (-58, -43),
    5: (-46, -59),
    6: (-31, -70),
    7: (-15, -76),
    8: (0, -78),
    # brow, from its outer end
    17: (-56, 50),
    18: (-48, 57),
    19: (-37, 60),
    20: (-25, 59),
    21: (-13, 55),
    # ridge of the nose, and below it from the wing to the middle
    27: (0, 38),
    28: (0, 27),
    29: (0, 16),
    30: (0, 2),
    31: (-12, -11),
    32: (-6, -12),
    33: (0, -13),
    # eye, from the outer corner over the upper lid
    36: (-45, 33.5),
    37: (-38, 38),
    38: (-26, 38),
    39: (-18, 32.5),
    40: (-26, 30),
    41: (-38, 30),
    # lips' outer and inner border, from the corner over the upper lip
    48: (-25, -35.5),
    49: (-16, -28),
    50: (-6, -24),
    51: (0, -25),
    57: (0, -43),
    58: (-10, -42),
    59: (-18, -40),
    60: (-21, -34.5),
    61: (-10, -33.8),
    62: (0, -33.4),
    66: (0, -33.6),
    67: (-10, -34),
}
#: (left, right) indices of the mark-up's mirror images.
MIRROR = (
    *((16 - i, i) for i in range(8)),
    *((26 - i, 17 + i) for i in range(5)),
    *((35, 31), (34, 32)),
    *((45, 36), (44, 37), (43, 38), (42, 39), (47, 40), (46, 41)),
    *((54, 48), (53, 49), (52, 50), (56, 58), (55, 59), (64, 60), (63, 61), (65, 67)),
)


@lru_cache(maxsize=1)
def procedural_model() -> MorphableModel:
    """The procedural face with all its 10 shape and 7 expression modes (float32, CPU).

    Deterministic, to the last bit on whatever processor; built once in a process.
    """
    mean, triangles, _ = neutral_mesh()
    landmarks = _landmarks(mean)
    zeros = np.zeros_like(mean)
    regions = regions_from_landmarks(mean, landmarks)
    parts = {
        "shape_mean": mean,
        "expression_mean": zeros,
        "shape_modes": SCALE * orthogonal_modes(mean, SHAPE_MODES),
        "expression_modes": SCALE * orthogonal_modes(mean, EXPRESSION_MODES),
    }
    tensors: dict[str, Any] = {
        name: torch.from_numpy(rounded(value)) for name, value in parts.items()
    }
    return MorphableModel(
        name="procedural",
        triangles=torch.from_numpy(triangles),
        landmarks=landmarks,
        regions={name: torch.from_numpy(mask) for name, mask in regions.items()},
        **tensors,
    )


def rounded(value: np.ndarray) -> np.ndarray:
    """float32, to a tenth of a micrometre: sines and exponentials differ from processor to
    processor in their last bits, and the model's fingerprint must not."""
    # Adding zero makes one of 0 and -0.
    return np.asarray(np.round(value, 4) + 0.0, dtype=np.float32)


def neutral_mesh() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 3) float64 mm, (F, 3) int64 and (N, 2): the neutral face in even triangles, and u and v
    of its vertices.

    Rows of points at equal arc length, as many in each as its length asks for, joined row to row;
    then smoothed along the surface.
    """
    fine = np.linspace(-1, 1, 121)
    v = _row_parameters(fine)
    sections = surface(*np.broadcast_arrays(fine, v[:, None]))
    arc = np.zeros(sections.shape[:2])
    arc[:, 1:] = np.cumsum(np.linalg.norm(np.diff(sections, axis=1), axis=2), axis=1)
    # An odd number of points, so that one lies on the midline.
    counts = 2 * np.round(arc[:, -1] / (2 * SPACING)).astype(int) + 1
    rows = [
        np.interp(np.linspace(0, length[-1], n), length, fine)
        for length, n in zip(arc, counts, strict=True)
    ]
    first = np.concatenate([[0], np.cumsum(counts)])
    triangles = np.concatenate(
        [_strip(rows[i], rows[i + 1], first[i], first[i + 1]) for i in range(len(rows) - 1)]
    )
    grid = np.stack([np.concatenate(rows), np.repeat(v, counts)], axis=1)
    grid, points = _smoothed(grid, triangles)
    return _split(points, grid, _flipped(points, grid, triangles))


def _row_parameters(u: np.ndarray) -> np.ndarray:
    """Parameters v of rows :data:`SPACING` apart where the face is steepest, less elsewhere."""
    v = np.linspace(0, 1, 241)
    steps = np.linalg.norm(np.diff(surface(*np.broadcast_arrays(u, v[:, None])), axis=0), axis=2)
    # Between the mean and the greatest step of a row: smoothing evens out what is left.
    step = (steps**ROW_POWER).mean(axis=1) ** (1 / ROW_POWER)
    length = np.concatenate([[0.0], np.cumsum(step)])
    return np.interp(np.linspace(0, length[-1], round(length[-1] / SPACING) + 1), length, v)


def _strip(upper: np.ndarray, lower: np.ndarray, a0: int, b0: int) -> np.ndarray:
    """Triangles between two rows of ascending u whose vertices are numbered from a0 and b0."""
    middles = np.concatenate([(upper[:-1] + upper[1:]) / 2, (lower[:-1] + lower[1:]) / 2])
    on_upper = np.arange(len(middles)) < len(upper) - 1
    on_upper = on_upper[np.argsort(middles, kind="stable")]
    a = a0 + np.cumsum(on_upper) - on_upper  # the corners before each step along one of the rows
    b = b0 + np.cumsum(~on_upper) - ~on_upper
    third = np.where(on_upper, a + 1, b + 1)
    return np.stack([a, b, third], axis=1).astype(np.int64)


def _smoothed(grid: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid (N, 2) and surface points (N, 3) after moving vertices between their neighbours.

    Each step goes towards the neighbours' weighted mean, split along the surface's two tangents
    by a 2 × 2 least squares; vertices on the border stay.
    """
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    keys, count = np.unique(sides.min(1) * len(grid) + sides.max(1), return_counts=True)
    edges = np.stack(np.divmod(keys, len(grid)), axis=1)
    border = np.unique(edges[count == 1])
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    points = surface(grid[:, 0], grid[:, 1])
    h = 1e-3
    for number in range(SMOOTHINGS):
        # The longer an edge, the more it pulls.
        links = points[j] - points[i]
        weight = np.sqrt((links**2).sum(axis=1))
        total = np.bincount(i, weight)
        pull = np.stack([np.bincount(i, weight * links[:, k]) / total for k in range(3)], axis=1)
        if number % 2 == 0:  # tangents change little from one step to the next
            along_u = (surface(grid[:, 0] + h, grid[:, 1]) - points) / h
            along_v = (surface(grid[:, 0], grid[:, 1] + h) - points) / h
        uu, vv = (along_u**2).sum(1), (along_v**2).sum(1)
        uv, pu, pv = (along_u * along_v).sum(1), (pull * along_u).sum(1), (pull * along_v).sum(1)
        step = np.stack([vv * pu - uv * pv, uu * pv - uv * pu], axis=1) / (uu * vv - uv**2)[:, None]
        step[border] = 0
        grid = grid + 0.7 * step
        points = surface(grid[:, 0], grid[:, 1])
    return grid, points


def _flipped(points: np.ndarray, grid: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Triangles with inner edges exchanged for the other diagonal where that is shorter."""
    triangles = triangles.copy()
    n = len(points)
    for _ in range(FLIPS):
        start, end = triangles.ravel(), triangles[:, [1, 2, 0]].ravel()
        apex = triangles[:, [2, 0, 1]].ravel()
        # Half-edges sorted so that the two of an inner edge are neighbours.
        order = np.argsort(np.minimum(start, end) * n + np.maximum(start, end), kind="stable")
        same = start[order[:-1]] == end[order[1:]]
        same &= end[order[:-1]] == start[order[1:]]
        first, second = order[:-1][same], order[1:][same]
        a, b, c, d = start[first], end[first], apex[first], apex[second]
        gain = np.linalg.norm(points[a] - points[b], axis=1)
        gain -= np.linalg.norm(points[c] - points[d], axis=1)
        # Both new triangles (c, a, d) and (d, b, c) must keep the old ones' sense.
        fits = (_turn(grid, c, a, d) > 0) & (_turn(grid, d, b, c) > 0) & (gain > 1e-6)
        # No slivers, as three vertices of the border would make.
        new = np.minimum(_area(points, c, a, d), _area(points, d, b, c))
        fits &= new > 0.5 * np.minimum(_area(points, a, b, c), _area(points, b, a, d))
        first, second, gain = first[fits] // 3, second[fits] // 3, gain[fits]
        a, b, c, d = a[fits], b[fits], c[fits], d[fits]
        # A triangle takes part in one flip a round, that of the greatest gain.
        best = np.zeros(len(triangles))
        np.maximum.at(best, first, gain)
        np.maximum.at(best, second, gain)
        chosen = (best[first] == gain) & (best[second] == gain)
        _, once = np.unique(first[chosen], return_index=True)
        chosen = np.flatnonzero(chosen)[once]
        chosen = chosen[np.unique(second[chosen], return_index=True)[1]]
        triangles[first[chosen]] = np.stack([c, a, d], axis=1)[chosen]
        triangles[second[chosen]] = np.stack([d, b, c], axis=1)[chosen]
    return triangles


def _split(
    points: np.ndarray, grid: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, triangles and grid with the few edges above :data:`LONGEST` cut between their ends.

    Cut is an edge that is the longest of every triangle it belongs to, so each round's cuts do not
    touch each other and no sliver arises (longest-edge bisection).
    """
    while True:
        start, end = triangles.ravel(), triangles[:, [1, 2, 0]].ravel()
        length = np.linalg.norm(points[start] - points[end], axis=1)
        longest = length.reshape(-1, 3).argmax(axis=1) + 3 * np.arange(len(triangles))
        key = np.minimum(start, end) * len(points) + np.maximum(start, end)
        sides, uses = np.unique(key, return_counts=True)
        wanted, votes = np.unique(key[longest[length[longest] > LONGEST]], return_counts=True)
        if len(wanted) == 0:
            return points, triangles, grid
        cut = wanted[votes == uses[np.searchsorted(sides, wanted)]]
        halves = longest[np.isin(key[longest], cut)]
        middle = len(points) + np.searchsorted(cut, key[halves])
        a, b = np.divmod(cut, len(points))
        grid = np.concatenate([grid, (grid[a] + grid[b]) / 2])
        points = np.concatenate([points, surface(*grid[len(points) :].T)])
        first, second, apex = start[halves], end[halves], triangles[:, [2, 0, 1]].ravel()[halves]
        triangles = triangles.copy()
        triangles[halves // 3] = np.stack([first, middle, apex], axis=1)
        triangles = np.concatenate([triangles, np.stack([middle, second, apex], axis=1)])


def _turn(grid: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles in (u, v), positive where they face outwards."""
    (pu, pv), (qu, qv) = (grid[b] - grid[a]).T, (grid[c] - grid[a]).T
    return pv * qu - pu * qv


def _area(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    cross = np.cross(points[b] - points[a], points[c] - points[a])
    return np.asarray(np.linalg.norm(cross, axis=1) / 2)


# -- modes --------------------------------------------------------------------------------------


def displacement(mean: np.ndarray, mode: Mode) -> np.ndarray:
    """(N, 3) mm: the field of one mode on the neutral face, before orthogonalisation."""
    x, y, z = mean.T
    field = np.stack([x, y - 36.0, z - 80.0], axis=1) * mode.stretch
    for handle in mode.handles:
        height = np.exp(-(((y - handle.y) / handle.reach[1]) ** 2))
        left, right = (
            height * np.exp(-(((x - centre) / handle.reach[0]) ** 2))
            for centre in (handle.x, -handle.x)
        )
        both = left if handle.x == 0 else left + right
        sideways, up, forward = handle.pull
        field += np.stack([sideways * (left - right), up * both, forward * both], axis=1)
    return field


def orthogonal_modes(
    mean: np.ndarray, modes: Sequence[Mode], points: np.ndarray | None = None
) -> np.ndarray:
    """(K, N, 3) mm per standard deviation: orthogonal fields without rigid motion.

    They are orthogonal on ``mean`` (N, 3); with ``points`` (M, 3) of the same surface, (K, M, 3)
    are the same fields there.

    Symmetric (Löwdin) orthogonalisation gives the orthonormal set nearest to the unit fields, so
    that every mode keeps its meaning; each then gets back its own length. Sums are NumPy's own
    rather than BLAS's: the result does not depend on the number of threads.
    """
    fields = np.stack([without_rigid_motion(mean, displacement(mean, mode)) for mode in modes])
    lengths = np.sqrt((fields**2).sum(axis=(1, 2)))
    unit = fields / lengths[:, None, None]
    gram = np.array([[(p * q).sum() for q in unit] for p in unit])
    values, vectors = np.linalg.eigh(gram)
    root = (vectors / np.sqrt(values)) @ vectors.T
    if points is not None:
        # What was taken out is one rigid motion per field, known from its values at the vertices.
        unit = np.stack(
            [
                (
                    displacement(points, mode)
                    - _rigid(mean, displacement(mean, mode) - field)(points)
                )
                / length
                for mode, field, length in zip(modes, fields, lengths, strict=True)
            ]
        )
    return np.einsum("jk,knc->jnc", root, unit) * lengths[:, None, None]


def _rigid(points: np.ndarray, field: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The translation and infinitesimal rotation whose values at points (N, 3) are a field."""
    middle, shift = points.mean(axis=0), field.mean(axis=0)
    # Of x -> shift + spin · (x - middle), the matrix is exact: any least squares finds it.
    spin = np.linalg.lstsq(points - middle, field - shift, rcond=None)[0]
    return lambda other: shift + (other - middle) @ spin


def _landmarks(mean: np.ndarray) -> dict[str, int]:
    """The vertex nearest each landmark's frontal position, named as the 68-point mark-up."""
    places = dict(RIGHT_LANDMARKS)
    for left, right in MIRROR:
        places[left] = (-places[right][0], places[right][1])
    found = {}
    for number, (x, y) in sorted(places.items()):
        found[f"multipie68.{number:02d}"] = int(np.hypot(mean[:, 0] - x, mean[:, 1] - y).argmin())
    return found
