"""Faces outside the range of poses that networks are trained on."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import radarbook as rb
from radarbook.faces.parameters import TRAINED_POSE, VISIBLE_POSE
from radarbook.fitting.schedule import Level
from radarbook.pipeline import Pipeline

POSE = Level("14 mm", smoothing=(0.0135,), steps=8, fidelity="coarse")


@pytest.fixture(scope="module")
def recording():
    """The mean face, turned down by 16 degrees, at (60, 0, 20) mm."""
    renderer = Pipeline("smoke").physical
    mean = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7, dtype=torch.float64)
    truth = mean.replace(
        translation=torch.tensor([[0.06, 0.0, 0.02]], dtype=torch.float64),
        rotation=torch.tensor([[0.0, math.radians(16.0), 0.0]], dtype=torch.float64),
    )
    signal = renderer.signal(truth.to(dtype=torch.float32))[0]
    return renderer, truth, rb.Recording(signal, renderer.array, renderer.waveform)


def fitted(recording, pose_range):
    renderer, truth, recorded = recording
    near = truth.replace(
        rotation=truth.rotation - math.radians(3.0), translation=truth.translation + 0.002
    )
    return rb.reconstruct(
        recorded, renderer.model, start=near, schedule=(POSE,), pose_range=pose_range
    )


def test_a_fit_goes_where_the_array_sees(recording):
    """To within a degree and two millimetres, by power smoothed to 14 mm with coarse facets."""
    result = fitted(recording, VISIBLE_POSE)
    assert result.bounds == ()
    assert abs(float(result.parameters.rotation[0, 1].rad2deg()) - 16.0) < 1.5
    assert abs(float(result.parameters.translation[0, 0]) - 0.06) < 3e-3


@pytest.mark.slow
def test_a_parameter_at_a_bound_is_said(recording):
    result = fitted(recording, TRAINED_POSE)
    words = "pitch (+10 degrees)"
    assert words in result.bounds
    assert "translation x (+50 mm)" in result.bounds
    assert words in str(result)


@pytest.mark.slow
def test_a_face_of_many_modes_is_stated_in_the_papers(recording):
    """A model with further modes; an unmoved fit is the mean face, so all coefficients are 0."""
    renderer, _, recorded = recording
    model = renderer.model
    more = replace(model, shape_modes=torch.cat([model.shape_modes, model.shape_modes[:2]]))
    result = rb.reconstruct(recorded, more, schedule=(POSE,), steps=0)
    found = result.as_modes()
    assert (found.shape.shape[1], found.expression.shape[1]) == (10, 7)
    assert float(found.shape.abs().max()) < 1e-4
    assert "as 10 + 7 coefficients: shape " in str(result)


def test_the_start_is_found_in_the_whole_volume(recording):
    """The mean face, frontal: its image is moved onto the recording's within two centimetres."""
    renderer, truth, recorded = recording
    result = rb.reconstruct(recorded, renderer.model, schedule=(POSE,), steps=0)
    off = (result.parameters.translation - truth.translation)[0]
    assert float(off.norm()) < 0.03
    assert float(result.parameters.translation[0, 0]) > 0.045
