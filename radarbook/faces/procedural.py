"""The procedural default: a face model built by code, so that everything runs without a download.

The neutral face is the surface of :mod:`radarbook.faces.sculpture`, meshed evenly; the modes are
smooth displacement fields that each move one measure of the face (:data:`SHAPE_MODES`,
:data:`EXPRESSION_MODES`). Translation and infinitesimal rotation are taken out of them (pose has
its own parameters), then each set is made orthogonal by the smallest change (symmetric
orthogonalisation) and scaled as a whole so that the mean-face distance is the paper's 4.4 mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from radarbook.faces.model import MorphableModel
from radarbook.faces.regions import regions_from_landmarks
from radarbook.faces.sculpture import surface

COLUMNS, LINES = 119, 125
RELAXATIONS = 24
SCALE = 0.912


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
    Mode("face height", stretch=(0.0, 0.064, 0.0)),
    Mode(
        "face depth",
        (Handle(0, -10, (45, 60), (0.0, 0.0, 2.5)),),
        stretch=(0.0, 0.0, 0.05),
    ),
    Mode(
        "jaw width",
        (Handle(52, -42, (24, 30), (4.5, 0.0, 0.0)), Handle(28, -66, (18, 14), (2.0, 0.0, 0.0))),
    ),
    Mode("chin projection", (Handle(0, -64, (22, 20), (0.0, -1.5, 4.0)),)),
    Mode(
        "cheek fullness",
        (
            Handle(48, -16, (20, 26), (2.2, 0.0, 2.6)),
            Handle(26, -72, (24, 14), (1.0, -1.5, 0.6)),
        ),
    ),
    Mode(
        "nose projection",
        (Handle(0, 2, (14, 16), (0.0, -0.8, 3.4)), Handle(0, 24, (9, 14), (0.0, 0.0, 2.2))),
    ),
    Mode(
        "nose width",
        (Handle(13, -4, (9, 9), (2.4, 0.0, 0.0)), Handle(9, 18, (9, 16), (1.2, 0.0, -0.4))),
    ),
    Mode(
        "eye distance and depth",
        (Handle(31, 36, (18, 14), (2.0, 0.0, -1.6)), Handle(28, 54, (22, 8), (0.4, 0.6, 1.4))),
    ),
    Mode(
        "lip fullness",
        (Handle(0, -26, (22, 5), (0.0, 1.4, 2.0)), Handle(0, -41, (20, 6), (0.0, -1.6, 2.2))),
    ),
)

EXPRESSION_MODES = (
    Mode(
        "jaw open",
        (
            Handle(0, -50, (46, 15), (0.0, -7.0, -2.0)),
            Handle(0, -72, (46, 18), (0.0, -6.0, -3.5)),
        ),
    ),
    Mode(
        "smile",
        (
            Handle(26, -34, (14, 12), (4.0, 4.0, -2.2)),
            Handle(42, 2, (18, 16), (1.0, 2.2, 2.2)),
        ),
    ),
    Mode(
        "pucker",
        (
            Handle(24, -34, (13, 12), (-4.5, 0.0, 1.0)),
            Handle(0, -34, (14, 11), (0.0, 0.0, 4.0)),
        ),
    ),
    Mode("brow raise", (Handle(28, 56, (26, 12), (0.0, 4.0, 0.4)),)),
    Mode("brow furrow", (Handle(14, 54, (12, 9), (-2.4, -2.6, 1.0)),)),
    Mode("cheek puff", (Handle(42, -24, (17, 17), (3.2, 0.0, 3.6)),)),
    Mode(
        "nose sneer",
        (Handle(13, 2, (10, 12), (0.8, 2.6, 1.0)), Handle(14, -24, (10, 7), (0.0, 2.2, 0.4))),
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

    Deterministic; built once in a process.
    """
    mean, triangles = neutral_mesh()
    landmarks = _landmarks(mean)
    zeros = np.zeros_like(mean)
    regions = regions_from_landmarks(mean, landmarks)
    parts = {
        "shape_mean": mean,
        "expression_mean": zeros,
        "shape_modes": SCALE * _orthogonal(mean, SHAPE_MODES),
        "expression_modes": SCALE * _orthogonal(mean, EXPRESSION_MODES),
    }
    return MorphableModel(
        name="procedural",
        triangles=torch.from_numpy(triangles),
        landmarks=landmarks,
        regions={name: torch.from_numpy(mask) for name, mask in regions.items()},
        **{name: torch.from_numpy(value.astype(np.float32)) for name, value in parts.items()},
    )


def neutral_mesh() -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) float64 mm and (F, 3) int64: the neutral face on an even grid of triangles."""
    u, v = np.meshgrid(np.linspace(-1, 1, COLUMNS), np.linspace(0, 1, LINES))
    grid = np.stack([u, v], axis=-1)
    points = surface(u, v)
    for _ in range(RELAXATIONS):
        grid = _relaxed(grid, points)
        points = surface(grid[..., 0], grid[..., 1])
    index = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    flat = points.reshape(-1, 3)
    # Each quad (a b / c d) is cut along its shorter diagonal.
    falling = np.linalg.norm(flat[a] - flat[d], axis=1) < np.linalg.norm(flat[b] - flat[c], axis=1)
    first = np.where(falling[:, None], np.stack([a, c, d], 1), np.stack([a, c, b], 1))
    second = np.where(falling[:, None], np.stack([a, d, b], 1), np.stack([b, c, d], 1))
    return flat, np.concatenate([first, second]).astype(np.int64)


def _relaxed(grid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The (u, v) grid moved so that each vertex nears the middle of its neighbours on the surface.

    The step towards the neighbours' mean is split along the two grid directions by a 2 × 2 least
    squares on the surface's tangents; vertices on the border slide along it.
    """
    down, across = np.gradient(points, axis=(0, 1))
    grid_down, grid_across = np.gradient(grid, axis=(0, 1))
    pad = np.pad(points, ((1, 1), (1, 1), (0, 0)), mode="reflect", reflect_type="odd")
    middle = (pad[:-2, 1:-1] + pad[2:, 1:-1] + pad[1:-1, :-2] + pad[1:-1, 2:]) / 4
    pull = middle - points
    dd, aa, da = (np.sum(p * q, -1) for p, q in ((down, down), (across, across), (down, across)))
    pd, pa = np.sum(pull * down, -1), np.sum(pull * across, -1)
    det = dd * aa - da**2
    step_down, step_across = (aa * pd - da * pa) / det, (dd * pa - da * pd) / det
    step_down[[0, -1]] = 0
    step_across[:, [0, -1]] = 0
    step_down, step_across = np.clip(step_down, -0.4, 0.4), np.clip(step_across, -0.4, 0.4)
    return grid + step_down[..., None] * grid_down + step_across[..., None] * grid_across


# -- modes --------------------------------------------------------------------------------------


def displacement(mean: np.ndarray, mode: Mode) -> np.ndarray:
    """(N, 3) mm: the field of one mode on the neutral face, before orthogonalisation."""
    x, y, z = mean.T
    sign, side = np.tanh(x / 3.0), np.abs(x)
    field = np.stack([x, y - 36.0, z - 80.0], axis=1) * mode.stretch
    for handle in mode.handles:
        weight = np.exp(
            -(((side - handle.x) / handle.reach[0]) ** 2) - ((y - handle.y) / handle.reach[1]) ** 2
        )
        pull = np.array(handle.pull)
        field += weight[:, None] * np.stack(
            [sign * pull[0], np.full_like(x, pull[1]), np.full_like(x, pull[2])], axis=1
        )
    return field


def _orthogonal(mean: np.ndarray, modes: Sequence[Mode]) -> np.ndarray:
    """(K, N, 3) mm per standard deviation: orthogonal fields without rigid motion.

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
    return np.einsum("jk,knc->jnc", root, unit) * lengths[:, None, None]


def without_rigid_motion(mean: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A field (N, 3) less its translation and infinitesimal rotation (least squares)."""
    arms = mean - mean.mean(axis=0)
    field = field - field.mean(axis=0)
    torque = np.cross(arms, field).sum(axis=0)
    products = np.array([[(arms[:, i] * arms[:, j]).sum() for j in range(3)] for i in range(3)])
    inertia = np.trace(products) * np.eye(3) - products
    return field - np.cross(np.linalg.solve(inertia, torque), arms)


def _landmarks(mean: np.ndarray) -> dict[str, int]:
    """The vertex nearest each landmark's frontal position, named as the 68-point mark-up."""
    places = dict(RIGHT_LANDMARKS)
    for left, right in MIRROR:
        places[left] = (-places[right][0], places[right][1])
    found = {}
    for number, (x, y) in sorted(places.items()):
        found[f"multipie68.{number:02d}"] = int(np.hypot(mean[:, 0] - x, mean[:, 1] - y).argmin())
    return found
