"""Rigid motion taken out of displacement fields."""

from __future__ import annotations

import numpy as np


def without_rigid_motion(mean: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A field (N, 3) on points (N, 3), less its translation and infinitesimal rotation.

    Least squares: the rest has no mean and no moment about the points' centroid.
    """
    arms = mean - mean.mean(axis=0)
    field = field - field.mean(axis=0)
    torque = np.cross(arms, field).sum(axis=0)
    products = np.array([[(arms[:, i] * arms[:, j]).sum() for j in range(3)] for i in range(3)])
    inertia = np.trace(products) * np.eye(3) - products
    return field - np.cross(np.linalg.solve(inertia, torque), arms)
