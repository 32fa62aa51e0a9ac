"""Pose: from a face in the model frame to points in front of the array.

Model frame: +x the subject's left, +y up, +z out of the nose, millimetres. Radar frame:
right-handed, origin in the array's centre, antennas in z = 0, +z into the scene, +y up, metres.
A frontal face looks back at the array, so ``(x, y, z)_radar = (-x, y, R - z)_model``, a half turn
about +y (determinant +1: triangles keep their orientation and their normals point at the array).
"""

from __future__ import annotations

import torch
from torch import Tensor

from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters

MM = 1.0e-3


def rotation_matrix(rotation: Tensor) -> Tensor:
    """(B, 3, 3) rotations of the model frame for (B, 3) angles yaw, pitch, roll in radians.

    ``R = R_y(yaw) · R_x(pitch) · R_z(roll)``, each right-handed: positive yaw turns the nose to
    the subject's left (+x), positive pitch turns it down, positive roll tilts the head towards
    the subject's right shoulder (the top of the head moves to -x). Differentiable.

    Examples
    --------
    >>> quarter = rotation_matrix(torch.tensor([[torch.pi / 2, 0.0, 0.0]]))[0]
    >>> round(float((quarter @ torch.tensor([0.0, 0.0, 1.0]))[0]), 3)  # the nose, to the left
    1.0
    """
    (cy, cp, cr), (sy, sp, sr) = rotation.cos().unbind(1), rotation.sin().unbind(1)
    rows = [
        torch.stack([cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp], dim=1),
        torch.stack([cp * sr, cp * cr, -sp], dim=1),
        torch.stack([cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp], dim=1),
    ]
    return torch.stack(rows, dim=1)


def pivot_and_origin(model: MorphableModel) -> tuple[Tensor, Tensor]:
    """(3,), (3,) mm: the point heads turn about, and the model point that lies at z = R.

    The pivot is the centroid of the neutral face's vertices. The origin is the neutral face's
    bounding-box centre in x and y and its foremost point (the nose tip's side) in z. Both are of
    the vertices that a pose refers to (:attr:`MorphableModel.posed_by`).
    """
    mean = model.mean[: model.posed_by]
    low, high = mean.amin(0), mean.amax(0)
    origin = torch.stack([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2]])
    return mean.mean(0), origin


def to_radar(model: MorphableModel, parameters: FaceParameters, distance: float) -> Tensor:
    """(B, N, 3) metres in the radar frame: B faces, turned, placed at ``distance`` and moved.

    ``distance`` is from the array's plane to the foremost point (the nose tip's side) of the
    untransformed mean face, metres. Differentiable with respect to shape, expression, translation
    and rotation; in the model's dtype and on its device.

    Examples
    --------
    >>> from radarbook.faces.load import load_model
    >>> model = load_model("procedural")
    >>> vertices = to_radar(model, FaceParameters.neutral(1), distance=0.30)
    >>> round(float(vertices[0, :, 2].min()), 3)  # the nose tip's side
    0.3
    """
    faces = model.vertices(parameters.shape, parameters.expression)
    return place(model, faces, parameters, distance)


def place(
    model: MorphableModel, faces: Tensor, parameters: FaceParameters, distance: float
) -> Tensor:
    """(B, M, 3) m: points (B, M, 3) mm of the model frame under the parameters' pose."""
    pivot, origin = pivot_and_origin(model)
    turn = rotation_matrix(parameters.rotation.to(faces.dtype))
    # Everything but the product with the faces is a matter of 3-vectors: fold the turn, the half
    # turn to the radar frame and the scale into one 3 × 3 matrix and one offset per face.
    half_turn = faces.new_tensor([-1.0, 1.0, -1.0])
    matrix = MM * half_turn[:, None] * turn
    offset = MM * half_turn * (pivot - origin) - matrix @ pivot
    offset = offset + faces.new_tensor([0.0, 0.0, distance]) + parameters.translation.to(faces)
    return torch.baddbmm(offset[:, None, :], faces, matrix.transpose(1, 2))
