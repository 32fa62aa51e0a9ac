"""Shape beyond a model: smooth displacements of its surface as further modes.

A model of K modes knows the faces that its modes make. A Gaussian process on its mean face knows
how far other faces may be from them, and how smoothly (Gaussian process morphable models: Lüthi,
Gerig, Jud, Vetter, IEEE PAMI 40(8), 2018). Here space is deformed by a smooth random field u, and
a point x of the mean face with unit normal n moves along n by

    d(x) = n(x) · u(x),   E[d(x) d(y)] = n(x) · n(y) Σ_s σ_s² e^{-|x - y|² / 2 l_s²}

with a deviation σ_s and a length l_s for each scale s. Small rigid motions along the normals are
projected out, for they belong to the pose, and so are the directions in which the model's own modes
move faces farther than d does: there the model's prior stays as it is. A hundred modes of a model
span nearly all smooth displacements, most of them by hundredths of a millimetre; in those
directions the prior is d's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.compare import vertex_areas
from radarbook.faces.model import MorphableModel
from radarbook.threads import alone

#: Part of the left-over share that the low-rank factor of the kernel may leave.
_FACTOR_SHARE = 0.1
#: Decimals of the modes, mm: processors differ in the last bits, fingerprints must not.
_DECIMALS = 4
#: Values this close to the largest are as large: a symmetric face has them in pairs, and rounding
#: must not choose between them.
_AS_LARGE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Displacements:
    """The prior of displacements along a face's normals.

    Attributes
    ----------
    lengths : tuple of float
        l_s, mm.
    deviations : tuple of float
        σ_s, mm: one for each length.
    left_over : float
        Share of the field's mean variance over the surface, less what is projected out, that the
        modes may leave out.

    The deviation at 10 mm is what the ICT model, with all its modes, leaves over of procedural
    faces (0.43 mm; the reverse 0.82 mm; ``python -m benchmarks.displacements``). A fit in vertex
    space hands longer displacements to weak modes of the model, beyond their deviations; those of
    the longer scales are a choice, not measured.

    Raises :class:`~radarbook.errors.InputError` for lengths and deviations of different number,
    for values that are not positive, and for a share outside (0, 1).

    Examples
    --------
    >>> Displacements(lengths=(30.0, 12.0), deviations=(1.0, 0.5)).variance
    1.25
    """

    lengths: tuple[float, ...] = (40.0, 20.0, 10.0)
    deviations: tuple[float, ...] = (0.8, 0.6, 0.4)
    left_over: float = 0.05

    def __post_init__(self) -> None:
        if len(self.lengths) != len(self.deviations) or not self.lengths:
            raise InputError(
                "displacements: expected a deviation for each length, found "
                f"{len(self.lengths)} lengths and {len(self.deviations)} deviations"
            )
        for what, values in (("lengths", self.lengths), ("deviations", self.deviations)):
            if not all(np.isfinite(value) and value > 0 for value in values):
                raise InputError(f"displacements: expected positive {what} in mm, found {values}")
        if not 0 < self.left_over < 1:
            raise InputError(
                f"displacements: expected a left-over share between 0 and 1, found {self.left_over}"
            )

    @property
    def variance(self) -> float:
        """mm²: of one point, before anything is projected out."""
        return sum(deviation**2 for deviation in self.deviations)

    def kernel(
        self,
        points: NDArray[np.float64],
        normals: NDArray[np.float64],
        others: NDArray[np.float64],
        other_normals: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(N, M) mm²: covariance of the displacements of points (N, 3) and others (M, 3), mm, with
        their unit normals."""
        square = ((points**2).sum(1)[:, None] + (others**2).sum(1) - 2 * points @ others.T).clip(0)
        scales = zip(self.lengths, self.deviations, strict=True)
        smooth = sum(s**2 * np.exp(-square / (2 * length**2)) for length, s in scales)
        product: NDArray[np.float64] = (normals @ other_normals.T) * smooth
        return product


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """(N, 3) unit normals of vertices (N, 3), the mean of their triangles', weighted by area.

    Zero for vertices of no triangle.

    Examples
    --------
    >>> corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> vertex_normals(corners, torch.tensor([[0, 1, 2]]))[0].tolist()
    [0.0, 0.0, 1.0]
    """
    a, b, c = vertices[triangles].unbind(1)
    facing = torch.linalg.cross(b - a, c - a, dim=-1)
    total = torch.zeros_like(vertices)
    for corner in triangles.unbind(1):
        total = total.index_add(0, corner, facing)
    return torch.nn.functional.normalize(total, dim=1)


@alone(divided=1)
def with_displacements(
    model: MorphableModel, displacements: Displacements | None = None
) -> MorphableModel:
    """The model with smooth displacements of its mean face as further shape modes.

    Parameters
    ----------
    model : MorphableModel
    displacements : Displacements, optional
        None: those with their defaults.

    Returns a model in the same dtype and on the same device. Its first shape modes are the
    model's; the others, by falling variance, are scaled to a standard normal prior. Along the
    normals they are orthogonal to each other, to small rigid motions, and to the directions that
    are the model's own, each point weighted by its area. The sign of a mode is such that its first
    large value points outwards, and modes are rounded to 1e-4 mm, so that they do not depend on the
    processor. Takes a second for 15,000 vertices and 200 modes.

    Examples
    --------
    >>> from radarbook.faces.load import load_model
    >>> model = load_model("procedural")
    >>> smooth = Displacements(lengths=(40.0,), deviations=(1.0,), left_over=0.1)
    >>> more = with_displacements(model, smooth)
    >>> more.n_shape > model.n_shape, more.n_expression == model.n_expression
    (True, True)
    """
    prior = displacements or Displacements()
    mean = model.mean.detach().cpu().double()
    triangles = model.triangles.cpu()
    normals = vertex_normals(mean, triangles)
    weights = vertex_areas(mean, triangles)
    points, n = mean.numpy(), normals.numpy()
    moves = torch.cat([model.shape_modes, model.expression_modes]).detach().cpu().double()
    own = (moves * normals).sum(-1).numpy()
    root = (weights / weights.sum()).sqrt().numpy()
    fields = _fields(prior, _factor(prior, points, n, root), _rigid(points, n) * root, own * root)
    fields /= np.where(root > 0, root, np.inf)
    modes = torch.from_numpy(np.round(fields[:, :, None] * n, _DECIMALS) + 0.0)
    return replace(
        model,
        name=f"{model.name} with displacements",
        shape_modes=torch.cat([model.shape_modes, modes.to(model.shape_modes)]),
    )


def _rigid(points: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6, N): translations and small rotations about the points' centroid, along the normals."""
    moment = np.cross(points - points.mean(0), normals)
    return np.concatenate([normals.T, moment.T])


def _fields(
    prior: Displacements,
    factor: NDArray[np.float64],
    rigid: NDArray[np.float64],
    own: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(M, N): the modes along the normals. All rows are weighted by the root of the area, so that
    orthogonality is the usual one: ``factor`` (R, N) of the kernel, rigid motions (6, N), and the
    model's modes (K, N)."""
    motions = _directions(rigid)[0]
    factor, own = factor - (factor @ motions) @ motions.T, own - (own @ motions) @ motions.T
    directions, deviations = _directions(own)
    strong = directions[:, deviations >= np.linalg.norm(factor @ directions, axis=0)]
    factor = factor - (factor @ strong) @ strong.T
    values, vectors = np.linalg.eigh(factor @ factor.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    # What all later modes hold together, and the factor of the kernel leaves.
    after = values.sum() - values.cumsum() + _FACTOR_SHARE * prior.left_over * prior.variance
    count = min(1 + int((after > prior.left_over * values.sum()).sum()), len(values))
    found = vectors[:, :count].T @ factor
    largest = np.abs(found).max(axis=1, keepdims=True)
    first = (np.abs(found) >= 0.5 * largest).argmax(axis=1)
    signed: NDArray[np.float64] = found * np.sign(found[np.arange(count), first])[:, None]
    return signed


def _directions(
    rows: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, R) orthonormal directions of rows (K, N), and the deviation (R,) along each where the
    rows have standard normal factors."""
    directions, sizes, _ = np.linalg.svd(rows.T, full_matrices=False)
    there = sizes > 1e-9 * sizes[0]
    return directions[:, there], sizes[there]


def _factor(
    prior: Displacements,
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    root: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(R, N): the rows L of a pivoted Cholesky factor, Lᵀ L ≈ the kernel between points, both sides
    weighted by ``root`` (Harbrecht, Peters, Schneider 2012)."""
    left = prior.variance * (root * np.linalg.norm(normals, axis=1)) ** 2
    enough = _FACTOR_SHARE * prior.left_over * prior.variance
    rows = np.empty((64, len(points)))
    count = 0
    while left.sum() > enough and count < len(points):
        pivot = int((left >= (1 - _AS_LARGE) * left.max()).argmax())
        column = prior.kernel(points[[pivot]], normals[[pivot]], points, normals)[0]
        column *= root[pivot] * root
        column -= rows[:count, pivot] @ rows[:count]
        if count == len(rows):
            rows = np.concatenate([rows, np.empty_like(rows)])
        rows[count] = column / np.sqrt(left[pivot])
        left = (left - rows[count] ** 2).clip(0)
        left[pivot] = 0
        count += 1
    return rows[:count].copy()
