"""Converter: ICT-FaceKit's OBJ files to a model in Basel Face Model 2019 layout.

ICT-FaceKit Light (Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020;
MIT licence) gives a neutral head, identity modes and expression blendshapes as OBJ files of one
topology, in centimetres and quads. What is made of them:

- the front of the face, cropped like BFM's face12 mask, in millimetres and triangles;
- eyes closed by a surface across the lids, bulging like the eyeball: a radar sees skin there;
- shape: the identities are displacements of one standard deviation each and independent, so
  their principal axes are those of the matrix of displacements itself;
- expression: principal axes of sampled activations (:func:`sample_activations`), about the
  neutral face, which stays the model's zero (expression mean 0);
- translation and infinitesimal rotation are removed from all displacements first: pose has its
  own parameters.

The slit between the lips stays open, as in the original: it is closed in the neutral face and
opens with the jaw.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from radarbook.errors import InputError
from radarbook.faces.bfm import write_bfm
from radarbook.faces.landmarks import LANDMARK_REACH_MM
from radarbook.faces.model import MorphableModel
from radarbook.faces.obj import parse_obj
from radarbook.faces.polygons import Polygons
from radarbook.faces.regions import regions_from_landmarks
from radarbook.faces.rigid import without_rigid_motion
from radarbook.seeds import numpy_stream

#: The first vertices of every file are the skin of the face; sockets, teeth, eyes, lashes follow.
FACE_VERTICES = 9409
NEUTRAL = "generic_neutral_mesh"
MM_PER_CM = 10.0
#: The crop, mm in the file's own frame: a rounded box as wide and high as BFM's face12 mask
#: (centre, half sizes and exponent in x and y), in front of the ears.
CROP_CENTRE, CROP_HALF, CROP_EXPONENT, CROP_BACK = (0.0, 4.0), (77.0, 92.0), 4.0, 24.0
#: How far the closed lids bulge over the plane of the lid margins, mm, and the rings that carry it.
LID_BULGE = 4.5
LID_RINGS = (0.8, 0.6, 0.4, 0.2)

#: How far one file moves the vertices of the face, mm (root mean square): an identity at least, and
#: any file at most. The kit's files at hand move them by 0.27 to 13 mm; a file in another unit than
#: the neutral face would move them by 0.9 times their 110 mm from the origin or more.
LEAST_MOVED, MOST_MOVED = 1e-3, 40.0
#: Rounds of taking away polygons that stick out of the cropped edge.
TEETH = 3
#: The rule of :func:`sample_activations`. With the kit's 30 or so expressions, two to three are
#: active at a time.
SAMPLES = 20000
ACTIVE = 0.075
TOGETHER = 0.85


def convert_ict(
    folder: str | os.PathLike[str], output: str | os.PathLike[str], seed: int = 0
) -> MorphableModel:
    """Convert the OBJ files in ``folder`` (``FaceXModel`` or the clone above it), all modes kept.

    Works with any subset of identities and expressions. ``seed`` fixes the sampled activations. The
    written model is also returned. Raises :class:`~radarbook.errors.InputError` naming what is
    missing or does not fit.
    """
    model = read_ict(folder, seed)
    write_bfm(output, model)
    return model


def read_ict(folder: str | os.PathLike[str], seed: int = 0) -> MorphableModel:
    """The model that :func:`convert_ict` writes."""
    folder = _face_folder(Path(folder))
    neutral = read_obj(folder / f"{NEUTRAL}.obj")
    head = neutral.points
    ends = zip(np.cumsum(neutral.counts), neutral.counts, strict=True)
    polygons = [neutral.corners[end - count : end].tolist() for end, count in ends]
    names = sorted(path.stem for path in folder.glob("*.obj") if path.stem != NEUTRAL)
    identities = [name for name in names if name.startswith("identity")]
    expressions = [
        # Where the eyes look moves nothing under closed lids.
        name
        for name in names
        if not name.startswith(("identity", "eyeLook"))
    ]
    for what, found in (("identity", identities), ("expression", expressions)):
        if not found:
            raise InputError(f"{folder}: no {what} OBJ file next to {NEUTRAL}.obj")

    triangles, kept = _crop(head, polygons)
    fill = _closed_eyes(head[kept], triangles)
    triangles = np.concatenate([triangles, fill.triangles])
    mean = np.concatenate([head[kept], fill.weights @ head[kept] + fill.bulge])

    def displacements(of: Sequence[str]) -> np.ndarray:
        fields = np.empty((len(of), *mean.shape))
        for field, name in zip(fields, of, strict=True):
            moved = read_obj(folder / f"{name}.obj").points
            if moved.shape != head.shape:
                raise InputError(
                    f"{folder / name}.obj: {len(moved)} vertices, expected the neutral head's "
                    f"{len(head)}"
                )
            skin = (moved - head)[kept]
            size = float(np.sqrt((skin**2).sum(axis=1).mean()))
            least = LEAST_MOVED if name.startswith("identity") else 0.0
            if not least <= size <= MOST_MOVED:
                raise InputError(
                    f"{folder / name}.obj: moves the face's vertices by {size:.3g} mm (root mean "
                    f"square), expected {least:g} to {MOST_MOVED:.0f} mm: another unit than "
                    f"{NEUTRAL}.obj's, or another neutral face?"
                )
            field[:] = without_rigid_motion(mean, np.concatenate([skin, fill.weights @ skin]))
        return fields

    activations = sample_activations(expressions, SAMPLES, seed)
    spread = np.linalg.cholesky(_covariance(activations)).T
    shape_modes = principal_modes(displacements(identities))
    fields = displacements(expressions)
    expression_modes = principal_modes(np.einsum("jk,knc->jnc", spread, fields))
    landmarks = _landmarks(folder, head, kept)
    regions = regions_from_landmarks(mean, landmarks)
    parts = {
        "shape_mean": mean,
        "expression_mean": np.zeros_like(mean),
        "shape_modes": shape_modes,
        "expression_modes": expression_modes,
    }
    tensors: dict[str, Any] = {
        name: torch.from_numpy(value.astype(np.float32)) for name, value in parts.items()
    }
    return MorphableModel(
        name="ict",
        triangles=torch.from_numpy(triangles),
        landmarks=landmarks,
        regions={name: torch.from_numpy(mask) for name, mask in regions.items()},
        **tensors,
    )


# -- statistics ---------------------------------------------------------------------------------


def sample_activations(names: Sequence[str], count: int, seed: int) -> np.ndarray:
    """(count, len(names)) in [0, 1]: random activations of the named blendshapes.

    The rule: an expression (left and right together one) is active with probability
    :data:`ACTIVE`, uniformly between 0 and 1; with probability :data:`TOGETHER` its two sides
    share their activation, else each side samples its own. ``mouthClose`` closes the lips of an
    open jaw, so it follows ``jawOpen``: a uniform part of its activation, and none without it.
    """
    stream = numpy_stream(seed, "faces/ict/activations")
    values = np.zeros((count, len(names)))
    for base in sorted({_base(name) for name in names}):
        sides = [k for k, name in enumerate(names) if _base(name) == base]
        sampled = stream.uniform(size=(count, 3)) * (stream.uniform(size=(count, 3)) < ACTIVE)
        together = stream.uniform(size=count) < TOGETHER
        for n, k in enumerate(sides):
            values[:, k] = np.where(together, sampled[:, 0], sampled[:, 1 + n])
    if "mouthClose" in names:
        part = stream.uniform(size=count)
        jaw = values[:, list(names).index("jawOpen")] if "jawOpen" in names else 0.0
        values[:, list(names).index("mouthClose")] = part * jaw
    return values


def principal_modes(fields: np.ndarray) -> np.ndarray:
    """(K, N, 3): orthogonal modes with the covariance of Σ c_k fields_k, c independent N(0, 1).

    Largest variance first; directions without variance are dropped. The sign is such that the
    largest component is positive.
    """
    flat = fields.reshape(len(fields), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    order = np.argsort(values)[::-1]
    order = order[values[order] > 1e-9 * values.max()]
    modes = vectors[:, order].T @ flat
    peak = np.take_along_axis(modes, np.abs(modes).argmax(axis=1)[:, None], axis=1)
    return (modes * np.sign(peak)).reshape(-1, *fields.shape[1:])


def _covariance(activations: np.ndarray) -> np.ndarray:
    """Covariance, with a breath on the diagonal so that dependent columns still factorise."""
    covariance = np.atleast_2d(np.cov(activations, rowvar=False))
    return covariance + 1e-12 * np.eye(len(covariance))


def _base(name: str) -> str:
    return name[:-2] if name.endswith(("_L", "_R")) else name


# -- geometry -----------------------------------------------------------------------------------


def _crop(head: np.ndarray, polygons: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of the cropped face, renumbered, and the (N,) vertices of the head they use."""
    across, up = ((head[:, k] - CROP_CENTRE[k]) / CROP_HALF[k] for k in range(2))
    inside = np.abs(across) ** CROP_EXPONENT + np.abs(up) ** CROP_EXPONENT <= 1
    inside &= head[:, 2] >= CROP_BACK
    inside[FACE_VERTICES:] = False
    faces = [p for p in polygons if all(inside[v] for v in p)]
    if not faces:
        raise InputError(f"{NEUTRAL}.obj: no face within the crop; expected centimetres")
    for _ in range(TEETH):
        faces = _without_teeth(faces, len(head))
    triangles = np.array(
        [(p[0], p[k], p[k + 1]) for p in faces for k in range(1, len(p) - 1)],
        dtype=np.int64,
    ).reshape(-1, 3)
    # One piece: corners that the box cuts off are dropped.
    links = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(links)), links.T), shape=(len(head),) * 2)
    part = connected_components(graph, directed=False)[1][triangles[:, 0]]
    triangles = triangles[part == np.bincount(part).argmax()]
    kept, renumbered = np.unique(triangles, return_inverse=True)
    return renumbered.reshape(-1, 3), kept


def _without_teeth(faces: list[list[int]], n: int) -> list[list[int]]:
    """The polygons but those that hang on the rest by one side only: the crop's saw teeth."""
    sides = np.array([(a, b) for p in faces for a, b in zip(p, p[1:] + p[:1], strict=True)])
    owner = np.repeat(np.arange(len(faces)), [len(p) for p in faces])
    keys = sides.min(axis=1) * n + sides.max(axis=1)
    _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
    shared = np.bincount(owner, weights=count[inverse] == 2)
    return [p for p, number in zip(faces, shared, strict=True) if number > 1]


class _Fill:
    """Vertices that close holes: linear weights on the others, a bulge, and their triangles."""

    def __init__(self, weights: np.ndarray, bulge: np.ndarray, triangles: np.ndarray) -> None:
        self.weights, self.bulge, self.triangles = weights, bulge, triangles


def _closed_eyes(points: np.ndarray, triangles: np.ndarray) -> _Fill:
    """Fill the two holes of the eyes with rings shrinking to a centre.

    A new vertex is ``centre + s·(margin - centre)`` with s from the margin's 1 to 0, so it moves
    with the lids under every mode, plus a fixed bulge ``LID_BULGE·(1 - s²)`` forward.
    """
    n = len(points)
    weights, bulges, faces = [], [], []
    start = n
    for loop in boundary_loops(triangles):
        centre = points[loop].mean(axis=0)
        # The eyes' margins lie next to the middle; the outline and the lips are centred on it.
        if abs(centre[0]) < 10:
            continue
        m = len(loop)
        mean_row = np.zeros(n)
        mean_row[loop] = 1 / m
        previous = np.asarray(loop)
        for s in LID_RINGS:
            rows = np.tile((1 - s) * mean_row, (m, 1))
            rows[np.arange(m), loop] += s
            ring = start + np.arange(m)
            following, ring_following = np.roll(previous, -1), np.roll(ring, -1)
            # The hole lies to the other side of its border's half-edges.
            faces += [
                np.stack([following, previous, ring], 1),
                np.stack([following, ring, ring_following], 1),
            ]
            weights.append(rows)
            bulges += [LID_BULGE * (1 - s**2)] * m
            previous, start = ring, start + m
        weights.append(mean_row[None])
        bulges.append(LID_BULGE)
        faces.append(np.stack([np.roll(previous, -1), previous, np.full(m, start)], 1))
        start += 1
    if not weights:
        return _Fill(np.zeros((0, n)), np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    bulge = np.stack([np.zeros(len(bulges)), np.zeros(len(bulges)), bulges], axis=1)
    return _Fill(np.concatenate(weights), bulge, np.concatenate(faces))


def boundary_loops(triangles: np.ndarray) -> list[list[int]]:
    """The closed loops of half-edges that have no twin, each as its vertices in order."""
    half = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    present = {(int(a), int(b)) for a, b in half}
    following = {a: b for a, b in present if (b, a) not in present}
    loops = []
    while following:
        first = min(following)
        loop, current = [first], following.pop(first)
        while current != first and current in following:
            loop.append(current)
            current = following.pop(current)
        loops.append(loop)
    return loops


# -- files --------------------------------------------------------------------------------------


def _face_folder(folder: Path) -> Path:
    for candidate in (folder, folder / "FaceXModel"):
        if (candidate / f"{NEUTRAL}.obj").is_file():
            return candidate
    raise InputError(f"{folder}: no {NEUTRAL}.obj here or in FaceXModel, expected ICT-FaceKit")


def read_obj(path: Path) -> Polygons:
    """The file's surface in mm, in its own order of vertices, which all files of the kit share."""
    try:
        found = parse_obj(path.read_bytes())
    except (OSError, InputError) as error:
        raise InputError(f"{path}: not a readable OBJ file ({error})") from None
    if len(found.points) < FACE_VERTICES or not np.isfinite(found.points).all():
        raise InputError(
            f"{path}: {len(found.points)} vertices, expected at least {FACE_VERTICES}, all finite"
        )
    return replace(found, points=found.points * MM_PER_CM)


def _landmarks(folder: Path, head: np.ndarray, kept: np.ndarray) -> dict[str, int]:
    """The kit's 68 landmarks, at the nearest vertex where the crop took theirs."""
    path = folder / "vertex_indices.json"
    try:
        indices = json.loads(path.read_text(encoding="utf-8"))["idx_to_landmark_verts"]
        places = head[np.asarray(indices, dtype=np.int64)]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path}: no landmarks 'idx_to_landmark_verts' ({error})") from None
    distance, nearest = (np.asarray(value) for value in cKDTree(head[kept]).query(places))
    return {
        f"multipie68.{k:02d}": int(nearest[k])
        for k in np.flatnonzero(distance <= LANDMARK_REACH_MM)
    }
