"""The linear model: vertices against a loop, linearity, gradients, moves, hash."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel


@pytest.fixture(scope="module")
def model():
    return load_model("procedural").to(dtype=torch.float64)


def draw(seed, batch, count):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, generator=stream, dtype=torch.float64)


def test_vertices_against_a_loop_over_modes(model):
    shape, expression = draw(0, 2, 10), draw(1, 2, 7)
    got = model.vertices(shape, expression)
    for b in range(2):
        wanted = model.shape_mean + model.expression_mean
        for k in range(10):
            wanted = wanted + shape[b, k] * model.shape_modes[k]
        for k in range(7):
            wanted = wanted + expression[b, k] * model.expression_modes[k]
        torch.testing.assert_close(got[b], wanted, rtol=0, atol=1e-10)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_vertices_are_linear_in_the_coefficients(model, seed, a, b):
    s, e = draw(seed, 2, 10), draw(seed + 1, 2, 7)
    (first,), (second,) = (
        (model.vertices(s[k : k + 1], e[k : k + 1]) - model.mean).unbind(0) for k in range(2)
    )
    both = model.vertices(a * s[:1] + b * s[1:], a * e[:1] + b * e[1:])[0] - model.mean
    torch.testing.assert_close(both, a * first + b * second, rtol=0, atol=1e-9)


def test_gradients_against_finite_differences(model):
    few = torch.arange(0, model.n_vertices, 3000)
    assert torch.autograd.gradcheck(
        lambda s, e: model.vertices(s, e)[:, few],
        (draw(2, 2, 10).requires_grad_(), draw(3, 2, 7).requires_grad_()),
    )


def test_modes_and_matrix_share_memory(model):
    """Nothing is held twice: 299 modes of a full model are 100 MB."""
    assert model.shape_modes.data_ptr() != model.expression_modes.data_ptr()
    storage = model.mean.untyped_storage().data_ptr()
    assert model.shape_modes.untyped_storage().data_ptr() == storage
    assert model.expression_modes.untyped_storage().data_ptr() == storage


def test_float32_follows_the_model(model):
    single = model.to(dtype=torch.float32)
    vertices = single.vertices(draw(0, 1, 10), draw(1, 1, 7))
    assert vertices.dtype == torch.float32
    assert single.triangles.dtype == torch.int64
    assert all(mask.dtype == torch.bool for mask in single.regions.values())


def test_fingerprint_is_of_the_content():
    model = load_model("procedural")
    assert model.to(dtype=torch.float64).fingerprint == model.fingerprint
    assert load_model("procedural", 9, 7).fingerprint != model.fingerprint
    moved = MorphableModel(
        model.name,
        model.shape_mean + 0.001,
        model.expression_mean,
        model.shape_modes,
        model.expression_modes,
        model.triangles,
        model.landmarks,
        model.regions,
    )
    assert moved.fingerprint != model.fingerprint


def test_first_modes(model):
    few = model.truncated(3, 2)
    assert (few.n_shape, few.n_expression) == (3, 2)
    torch.testing.assert_close(few.shape_modes, model.shape_modes[:3])
    with pytest.raises(InputError, match=r"11 shape modes asked for.*10"):
        load_model("procedural", n_shape=11)
    with pytest.raises(InputError, match=r"8 expression modes asked for.*7"):
        load_model("procedural", n_expression=8)


def test_wrong_number_of_coefficients(model):
    with pytest.raises(InputError, match=r"shape coefficients: expected \(batch, 10\)"):
        model.vertices(draw(0, 1, 9), draw(0, 1, 7))
    with pytest.raises(InputError, match=r"expression coefficients: expected \(batch, 7\)"):
        model.vertices(draw(0, 1, 10), draw(0, 1, 7)[0])


def test_parts_that_do_not_fit():
    n = torch.zeros(5, 3)
    with pytest.raises(InputError, match=r"shape_modes expected \(2, 5, 3\), found \(2, 4, 3\)"):
        MorphableModel("m", n, n, torch.zeros(2, 4, 3), torch.zeros(1, 5, 3), torch.zeros(1, 3))
