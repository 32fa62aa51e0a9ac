"""Smooth faces of a model, from parameters alone.

The procedural model is a formula, and is sampled as one: its mesh only tells how its modes are
mixed. A model from a file is known at its vertices; patches go through them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.referee.surface import Parametric, Patches, Real, Shape
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import place
from radarbook.faces.procedural import EXPRESSION_MODES, SHAPE_MODES, displacement
from radarbook.faces.sculpture import surface


@dataclass(frozen=True)
class Draw:
    """A set of faces that no other set shares: numbers from ``first`` on, with ``seed``."""

    seed: int
    first: int

    def indices(self, count: int) -> range:
        return range(self.first, self.first + count)


#: Settings are chosen on ``tuning``; ``test`` is for final figures alone.
DRAWS = {"tuning": Draw(seed=71, first=3_000_000), "test": Draw(seed=72, first=4_000_000)}


def smooth_face(
    model: MorphableModel, parameters: FaceParameters, distance: float, shift: float = 0.0
) -> Shape:
    """The face of one set of parameters (batch of 1) in the radar frame, m.

    ``shift`` m moves it away from the array.
    """
    if model.name in ("procedural", "procedural-refined"):
        return procedural_face(model, parameters, distance, shift)
    turn, offset = _pose(model, parameters, distance)
    coefficients = torch.cat([parameters.shape, parameters.expression], dim=1)[0].double().numpy()
    modes = torch.cat([model.shape_modes, model.expression_modes]).double().numpy()
    points = model.mean.double().numpy() + np.einsum("k,knc->nc", coefficients, modes)
    moved = points @ turn.T + offset + np.array([0.0, 0.0, shift])
    return Patches(moved, model.triangles.numpy().astype(np.int64))


def procedural_face(
    model: MorphableModel, parameters: FaceParameters, distance: float, shift: float = 0.0
) -> Parametric:
    """The formula of a face of the procedural model, deformed and placed."""
    turn, offset = _pose(model, parameters, distance)
    offset = offset + np.array([0.0, 0.0, shift])
    amounts, linear, constant = _field(model, parameters)

    def position(u: Real, v: Real) -> Real:
        neutral = surface(2 * u - 1, v).reshape(-1, 3)
        moved = neutral + neutral @ linear + constant
        for amount, mode in zip(amounts, (*SHAPE_MODES, *EXPRESSION_MODES), strict=False):
            moved = moved + amount * displacement(neutral, mode)
        return (moved @ turn.T + offset).reshape(*u.shape, 3)

    # v runs down and u towards the subject's left: their cross product points out of the face.
    return Parametric(position, flipped=True)


def _field(model: MorphableModel, parameters: FaceParameters) -> tuple[Real, Real, Real]:
    """The displacement of a face as Σ amount · designed mode + x · linear + constant.

    The model's modes are designed ones without their rigid motion, mixed; at the vertices they
    are such sums exactly but for the rounding of vertices to 0.1 µm, so least squares finds the
    factors.
    """
    mean = model.mean.double().numpy()
    basis = [displacement(mean, mode) for mode in (*SHAPE_MODES, *EXPRESSION_MODES)]
    moves = [np.zeros_like(mean) for _ in range(6)]
    turns = []
    for axis in range(3):
        moves[axis][:, axis] = 1.0
        turn = np.cross(np.eye(3), np.eye(3)[axis])
        turns.append(turn)
        moves[3 + axis] = mean @ turn
    table = np.stack([b.ravel() for b in (*basis, *moves)], axis=1)
    modes = torch.cat([model.shape_modes, model.expression_modes]).double().numpy()
    coefficients = torch.cat([parameters.shape, parameters.expression], dim=1)[0].double().numpy()
    wanted = np.einsum("k,knc->nc", coefficients, modes)
    factors = np.linalg.lstsq(table, wanted.ravel(), rcond=None)[0]
    amounts, constant, spin = factors[: len(basis)], factors[-6:-3], factors[-3:]
    return amounts, sum(s * t for s, t in zip(spin, turns, strict=True)), constant


def _pose(model: MorphableModel, parameters: FaceParameters, distance: float) -> tuple[Real, Real]:
    """Matrix (3, 3) and offset (3,) m from the model frame, mm, to the radar frame."""
    corners = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()[None]
    double = model.to(dtype=torch.float64)
    there = place(double, corners, parameters.to(dtype=torch.float64), distance)[0].numpy()
    return (there[1:] - there[0]).T, there[0]
