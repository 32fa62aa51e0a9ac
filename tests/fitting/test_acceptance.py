"""Whether a face is accepted, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from radarbook.fitting.acceptance import Verdict, accepted, at_bounds, judge, residual_power
from radarbook.fitting.plan import final_objective
from tests.fitting.scenes import face, renderer

RIGHT = Verdict(residual=0.065, diffuse=0.065)


def test_the_material_must_explain_the_residual() -> None:
    assert RIGHT.accepted
    assert str(RIGHT) == (
        "face accepted: normalised residual power 6.5 %, predicted from the fitted material 6.5 %"
    )
    # Residuals of the mean face's recording with delays of 0.1 and 0.3 ns left in it. Runs that
    # agree do not make them right.
    for residual, diffuse in ((0.122, 0.077), (0.397, 0.185)):
        for agreed in (False, True):
            wrong = Verdict(residual, diffuse, agreed=agreed)
            assert not wrong.accepted
            assert "the residual is too high" in str(wrong)


def test_a_rough_face_needs_two_runs() -> None:
    rough = Verdict(residual=0.40, diffuse=0.41)
    assert rough.explained
    assert not rough.accepted
    assert str(rough).startswith("face not accepted: no two runs agree")
    assert replace(rough, agreed=True).accepted


def test_a_face_hardly_anyone_has_is_not_accepted() -> None:
    rare = replace(RIGHT, plausible=False, agreed=True)
    assert not rare.accepted
    assert "one face in a thousand" in str(rare)


def test_stated_noise_may_be_left_too() -> None:
    noisy = Verdict(residual=0.09, diffuse=0.065)
    assert not noisy.accepted
    stated = replace(noisy, noise=0.03)
    assert stated.accepted
    assert stated.predicted == pytest.approx(0.065 + 0.935 * 0.03)
    assert "the fitted material and the stated noise 9.3 %" in str(stated)


def test_what_is_no_face_is_said_first() -> None:
    assert RIGHT.face_found
    far = Verdict(residual=0.93, diffuse=0.12)
    assert not far.face_found
    assert str(far).startswith("no face found: the residual is too high (normalised residual power")
    bound = Verdict(
        0.2, 0.1, bounds=("translation z (+50 mm)",), pose_at_bound=True, plausible=False
    )
    assert not bound.face_found
    assert "its pose is at the end of its range" in str(bound)
    # A face in a wrong minimum is a face.
    assert Verdict(residual=0.13, diffuse=0.03).face_found


def test_parameters_at_a_bound_are_named() -> None:
    p = face((3.0, 0.5), -3.0, (0.01, 0.05, -0.1), material=0.0)
    assert at_bounds(p) == [
        ("shape", "shape coefficient 1 (+3 standard deviations)"),
        ("expression", "expression coefficient 1 (-3 standard deviations)"),
        ("translation", "translation z (-100 mm)"),
    ]
    turned = p.rotation.clone()
    turned[0, 0] = -math.radians(40)
    rough = p.rendering.clone()
    rough[0, 1] = 0.5
    q = face((0.0, 0.0)).replace(rotation=turned, rendering=rough)
    assert at_bounds(q) == [("rotation", "yaw (-40 degrees)"), ("rendering", "material (0.50)")]
    assert at_bounds(face()) == []


@pytest.fixture(scope="module")
def scene():  # type: ignore[no-untyped-def]
    """The truth of a recording, and the phases of all of it."""
    truth = face((0.5, -0.5), 0.3, (0.0, 0.0, 0.002), material=0.15)
    physical = renderer()
    with torch.no_grad():
        signal = physical.signal(truth.to(dtype=torch.float32))
    return truth, final_objective(signal, physical)


def test_the_truth_is_accepted_and_another_face_is_not(scene) -> None:  # type: ignore[no-untyped-def]
    truth, objective = scene
    verdict = judge(objective, truth)[0]
    assert verdict.residual == pytest.approx(verdict.diffuse, rel=0.25, abs=0.005)
    assert not verdict.bounds
    wrong = truth.replace(shape=truth.shape + torch.tensor([[0.6, 0.0]]).double())
    agreed = torch.ones(1, dtype=torch.bool)
    other = judge(objective, wrong, agreed=agreed)[0]
    assert other.residual > 1.5 * other.diffuse
    assert other.highlight_residual > 3 * other.highlight_diffuse
    assert not other.accepted
    losses = objective.residuals(wrong).double().square().sum(1)
    assert not bool(accepted(objective, 0.0, wrong, losses, agreed))
    # So much noise would explain it.
    assert bool(accepted(objective, other.residual, wrong, losses, agreed))


def test_the_prior_is_no_residual_power(scene) -> None:  # type: ignore[no-untyped-def]
    truth, objective = scene
    rows = objective.residuals(truth).double()
    expected = float(rows[0, : rows.shape[1] - objective.priors].square().sum())
    assert float(residual_power(objective, truth)) == pytest.approx(expected, rel=1e-6)
