"""Faces of many modes as coefficients of few."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import radarbook as rb
from radarbook.errors import InputError
from radarbook.faces.compare import aligned
from radarbook.faces.projection import projected

ICT = Path(__file__).parents[3] / "shared" / "models" / "ict_face.h5"


@pytest.fixture(scope="module")
def model():
    return rb.load_model()


def sample(model, seed=0):
    stream = torch.Generator().manual_seed(seed)
    shape = torch.randn(1, model.n_shape, generator=stream)
    return shape, torch.randn(1, model.n_expression, generator=stream)


@pytest.mark.parametrize("degrees", [0.0, 70.0])
def test_a_face_of_the_model_comes_back_wherever_it_is(model, degrees):
    """With a narrow deviation the prior moves a coefficient by σ²/|b|² of itself, below 1e-6."""
    shape, expression = sample(model)
    face = model.vertices(shape, expression)[0].double().numpy()
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.8, 0.0]))
    moved = turn.apply(face) + np.array([10.0, -20.0, 300.0])
    found = projected(model, torch.from_numpy(moved), deviation=1e-3)
    torch.testing.assert_close(found.shape, shape.double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.expression, expression.double(), atol=1e-4, rtol=0)
    assert float(found.distances.max()) < 1e-3


def test_a_wide_deviation_leaves_the_mean_face(model):
    face = model.vertices(*sample(model))[0]
    found = projected(model, face, deviation=1e6)
    assert float(found.shape.abs().max()) < 1e-3
    mean = model.mean.double().numpy()
    off = np.linalg.norm(aligned(face.double().numpy(), mean) - mean, axis=1)
    assert float(found.distances.mean()) == pytest.approx(off.mean(), rel=1e-3)


def test_no_other_coefficients_fit_better(model):
    """The objective, with its best rigid motion, is least at the result, along every mode."""
    face = model.vertices(*sample(model, 3))[0].double().numpy()
    few = model.truncated(4, 3)
    found = projected(few, torch.from_numpy(face), deviation=2.0)

    def objective(c):
        one = few.to(dtype=torch.float64).vertices(c[None, :4], c[None, 4:])[0].numpy()
        return ((aligned(face, one) - one) ** 2).sum() / 4.0 + float(c.square().sum())

    best = torch.cat([found.shape, found.expression], dim=1)[0]
    least = objective(best)
    for k in range(7):
        for side in (-0.01, 0.01):
            moved = best.clone()
            moved[k] += side
            assert objective(moved) > least


@pytest.mark.skipif(not ICT.is_file(), reason="the ICT face model is not at hand")
def test_all_modes_as_the_papers(model):
    """Shape modes are orthogonal: the ten are those of the face, up to expressions and motion."""
    rich = rb.load_model(ICT, 80, 40)
    shape, expression = sample(rich, 1)
    face = rich.vertices(shape, expression)[0]
    found = projected(rich.truncated(10, 7), face)
    mean = (face - rich.mean).norm(dim=1).mean()
    assert float(found.distances.mean()) < 0.8 * float(mean)
    neutral = projected(rich.truncated(10, 7), rich.vertices(shape, 0 * expression)[0])
    error = (neutral.shape - shape[:, :10]).abs().mean()
    assert float(error) < 0.35
    assert "as 10 + 7 coefficients: shape " in str(neutral)


def test_bad_input(model):
    with pytest.raises(InputError, match="deviation above 0"):
        projected(model, model.mean, deviation=0.0)
    with pytest.raises(InputError, match="finite vertices"):
        projected(model, model.mean[:-1])
    with pytest.raises(InputError, match="finite vertices"):
        projected(model, model.mean * math.nan)
