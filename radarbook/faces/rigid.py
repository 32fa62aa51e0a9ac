"""Rigid motion: taken out of displacement fields, and fitted between point sets."""

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


def align(
    source: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray | None = None,
    with_scale: bool = False,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation R (3, 3), translation t (3,) and scale s minimising Σ w |s·R·x + t - y|².

    ``source`` and ``target`` are corresponding points (N, 3). Without ``with_scale`` s is 1. The
    rotation is proper. Umeyama, IEEE PAMI 13(4), 1991, equations 34 to 42.
    """
    weights = np.ones(len(source)) if weights is None else weights
    weights = weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    x, y = source - source_mean, target - target_mean
    u, values, vt = np.linalg.svd(y.T @ (weights[:, None] * x))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((values * sign).sum() / (weights @ (x**2).sum(axis=1))) if with_scale else 1.0
    return rotation, target_mean - scale * rotation @ source_mean, scale
