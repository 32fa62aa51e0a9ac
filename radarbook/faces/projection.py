"""Any face with a model's vertices as coefficients of fewer modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.compare import aligned
from radarbook.faces.model import MorphableModel

#: Standard deviation of one coordinate of a vertex about the modelled face, mm: what the modes of
#: the paper leave out of a face of all modes is of that size.
DEVIATION_MM = 1.0
#: Rounds at most, and the change of a coefficient at which they end.
ROUNDS, CONVERGED = 50, 1e-10


@dataclass(frozen=True)
class Projection:
    """Result of :func:`projected`.

    Attributes
    ----------
    shape, expression : Tensor (1, S), (1, E) float64
        Coefficients, standard deviations.
    distances : Tensor (N,) float64
        Distance of each vertex of the given face to the modelled one after rigid alignment, mm.
    """

    shape: Tensor
    expression: Tensor
    distances: Tensor

    def __str__(self) -> str:
        parts = []
        for name, row in (("shape", self.shape), ("expression", self.expression)):
            if row.shape[1]:
                parts.append(f"{name} " + " ".join(f"{value:+.2f}" for value in row[0].tolist()))
        left = float(self.distances.mean())
        return (
            f"as {self.shape.shape[1]} + {self.expression.shape[1]} coefficients: "
            f"{'; '.join(parts)} (standard deviations; vertices {left:.2f} mm off on average)"
        )


def projected(
    model: MorphableModel, vertices: Tensor, deviation: float = DEVIATION_MM
) -> Projection:
    """Coefficients of a model's face nearest to given vertices, whatever made them.

    Minimises Σ|v_n - T(m_n + Σ c_k b_kn)|² / σ² + Σ c_k² over coefficients c and rigid motions T:
    least squares under the prior of the coefficients. Gauss-Newton: in each round the given face is
    aligned to the modelled one, and coefficients and a small rigid motion are solved for together.

    Parameters
    ----------
    model : MorphableModel
        With the wanted modes (:meth:`~radarbook.faces.model.MorphableModel.truncated`).
    vertices : Tensor (N, 3)
        Millimetres, one for each vertex of the model; any position and orientation.
    deviation : float
        σ, mm.

    Not differentiable. Raises :class:`~radarbook.errors.InputError` for another number of vertices,
    for vertices that are not finite, and for a deviation that is not above 0.

    Examples
    --------
    >>> import torch
    >>> from radarbook.faces.load import load_model
    >>> rich = load_model()
    >>> face = rich.vertices(torch.full((1, 10), 0.5), torch.zeros(1, 7))[0]
    >>> found = projected(rich.truncated(4, 0), face)
    >>> tuple(found.shape.shape), round(float(found.distances.mean()), 1)
    ((1, 4), 0.7)
    """
    if not deviation > 0:
        raise InputError(f"projection: expected a deviation above 0 mm, found {deviation:g}")
    points = vertices.detach().cpu().double().numpy()
    if points.shape != (model.n_vertices, 3) or not np.isfinite(points).all():
        raise InputError(
            f"projection: expected {model.n_vertices} finite vertices as model '{model.name}' has, "
            f"found {points.shape}"
        )
    mean = model.mean.detach().cpu().double().numpy()
    modes = torch.cat([model.shape_modes, model.expression_modes]).cpu().double().numpy()
    count = len(modes)
    shift = np.tile(np.eye(3), (len(mean), 1))
    prior = np.diag([deviation**2] * count + [0.0] * 6)
    coefficients = np.zeros(count)
    points = aligned(points, mean)
    for _ in range(ROUNDS):
        face = mean + np.tensordot(coefficients, modes, axes=1)
        points = aligned(points, face)
        arms = face - face.mean(axis=0)
        turns = np.stack([np.cross(axis, arms).reshape(-1) for axis in np.eye(3)], axis=1)
        columns = np.concatenate([modes.reshape(count, -1).T, turns, shift], axis=1)
        right = columns.T @ (points - face).reshape(-1)
        right[:count] -= deviation**2 * coefficients
        step = np.linalg.solve(columns.T @ columns + prior, right)
        coefficients = coefficients + step[:count]
        turn = Rotation.from_rotvec(-step[count : count + 3])
        points = turn.apply(points - face.mean(axis=0) - step[count + 3 :]) + face.mean(axis=0)
        if np.abs(step[:count]).max(initial=0.0) < CONVERGED:
            break
    face = mean + np.tensordot(coefficients, modes, axes=1)
    left = torch.from_numpy(np.linalg.norm(aligned(points, face) - face, axis=1))
    row = torch.from_numpy(coefficients)[None]
    return Projection(row[:, : model.n_shape], row[:, model.n_shape :], left)
