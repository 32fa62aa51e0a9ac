"""A fit of many coefficients: its schedule, and which of its faces it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import radarbook as rb
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.fitting import tuned
from radarbook.fitting.acceptance import Verdict
from radarbook.fitting.plan import physical_plan, smoothed_faces
from radarbook.fitting.reconstruct import physical_renderer, uncertainty_through_physics
from radarbook.fitting.restarts import restarts
from radarbook.fitting.schedule import SCHEDULE, Level
from radarbook.radar.renderer import mesh_signal
from tests.fitting.scenes import dome, face, renderer

MANY = tuned.MANY_MODES + 1
LEVELS = (
    Level("smooth", smoothing=(0.0135,), steps=2, fidelity="coarse", prior=1e-6, independent=100.0),
    Level("phases", steps=1, independent=1500.0),
)


def rippled() -> MorphableModel:
    """The dome with many modes: ripples of all lengths and directions."""
    model = dome(14)
    x, y = model.shape_mean[:, 0], model.shape_mean[:, 1]
    stream = torch.Generator().manual_seed(3)
    waves = 0.25 * torch.rand(MANY - 1, 2, generator=stream)
    shift = 6.3 * torch.rand(MANY - 1, 1, generator=stream)
    height = 0.3 * torch.sin(waves[:, :1] * x + waves[:, 1:] * y + shift)
    modes = torch.zeros(MANY - 1, len(x), 3)
    modes[..., 2] = height
    return replace(model, shape_modes=modes)


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return rippled()


def recorded(model: MorphableModel, height: float) -> rb.Recording:
    """Of the mean, with a wave of this height (mm) that is in no mode."""
    physical = renderer(model=model)
    mean = rb.FaceParameters.neutral(1, n_shape=MANY - 1, n_expression=1)
    points = to_radar(model, mean, physical.distance)[0]
    points[:, 2] += 1e-3 * height * torch.sin(700 * points[:, 0]) * torch.cos(500 * points[:, 1])
    with torch.no_grad():
        signal = mesh_signal(points, model.triangles, physical.array, physical.waveform)
    return rb.Recording(signal, physical.array, physical.waveform)


@pytest.mark.slow
def test_the_usual_fit_of_many_coefficients_has_their_schedule(model: MorphableModel) -> None:
    recording = recorded(model, 0.0)
    stages = rb.reconstruct(recording, model, steps=0).fit.stages
    assert "3 and 0 mm, all" in stages
    few = model.truncated(3, 1)
    assert rb.reconstruct(recording, few, steps=0).fit.stages[0] == SCHEDULE[0].name


@pytest.mark.slow
def test_the_face_of_smoothed_power_is_kept_where_phases_do_not_fit(model: MorphableModel) -> None:
    start = FaceParameters.neutral(1, n_shape=MANY - 1, n_expression=1, dtype=torch.float64)
    found = rb.reconstruct(recorded(model, 1.5), model, start=start, schedule=LEVELS, bounces=1)
    assert not found.verdict.phases_fit
    assert found.smoothed
    assert found.fit.smoothed is not None
    assert torch.equal(found.parameters.shape, found.fit.smoothed.shape)
    assert not torch.equal(found.parameters.shape, found.fit.parameters.shape)
    assert "the face is that of smoothed power" in str(found)
    # It is not accepted, and has a deviation all the same: that of its own objective.
    assert not found.accepted
    stated = found.vertex_deviation()
    assert stated is not None
    physical = physical_renderer(
        model, renderer(model=model).array, renderer(model=model).waveform, 0.30, bounces=1
    )
    signal = recorded(model, 1.5).signal
    same = uncertainty_through_physics(signal, physical, found.parameters, smoothed=True).outside()
    other = uncertainty_through_physics(signal, physical, found.parameters).outside()
    # It includes shapes that the model lacks, as this wave.
    assert "for shapes that the model may lack" in str(found)
    assert torch.allclose(stated, same.vertex_deviation(model), rtol=1e-6)
    assert not torch.allclose(stated, other.vertex_deviation(model), rtol=0.05)


def test_the_face_of_phases_is_kept_where_they_fit(model: MorphableModel) -> None:
    start = FaceParameters.neutral(1, n_shape=MANY - 1, n_expression=1, dtype=torch.float64)
    found = rb.reconstruct(recorded(model, 0.0), model, start=start, schedule=LEVELS, bounces=1)
    assert found.verdict.phases_fit
    assert not found.smoothed
    assert torch.equal(found.parameters.shape, found.fit.parameters.shape)


def test_the_faces_of_smoothed_power_are_those_of_the_best_run() -> None:
    physical = renderer()
    truth = face((0.5, -0.5), 0.3).to(dtype=torch.float32)
    with torch.no_grad():
        signal = physical.signal(truth)
    plan = physical_plan(signal, physical, schedule=LEVELS)
    found = restarts(plan, face((0.0, 0.0), 0.0))
    mine = smoothed_faces(plan, found)
    assert mine is not None
    ends = [record.vectors for record in found.history if record.stage == 0]
    assert torch.allclose(mine.normalised().double(), ends[-1], atol=1e-6)
    # A second run that ends better has the faces; one that ends worse has not.
    twice = replace(plan, runs=plan.runs * 2)
    for better in (True, False):
        history = list(found.history)
        for record in found.history:
            losses = record.losses * (0.5 if better else 2.0)
            history.append(
                replace(record, stage=record.stage + 2, losses=losses, vectors=record.vectors + 0.1)
            )
        mine = smoothed_faces(twice, replace(found, history=history))
        assert mine is not None
        expected = ends[-1] + (0.1 if better else 0.0)
        assert torch.allclose(mine.normalised().double(), expected, atol=1e-6)
    # Phases alone have no face before them.
    alone = physical_plan(signal, physical, schedule=LEVELS[1:])
    assert smoothed_faces(alone, restarts(alone, truth)) is None


def test_the_excess_decides_whether_phases_fit() -> None:
    # 0.37 of a rough face in the model, 0.52 of one outside of it.
    assert Verdict(residual=0.37, diffuse=0.36).phases_fit
    outside = Verdict(residual=0.52, diffuse=0.36)
    assert outside.excess == pytest.approx(0.16 / 0.64)
    assert not outside.phases_fit
    # Stated noise is no excess.
    assert replace(outside, noise=0.2).phases_fit
