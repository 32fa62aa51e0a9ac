"""A common delay in a fit: the physics with it, the score that notices it, and its fit."""

from __future__ import annotations

import pytest
import torch

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.acceptance import delay_score
from radarbook.fitting.decimation import decimate
from radarbook.fitting.delay import DelayedPhysics, at_true_range, delay_of, with_delay
from radarbook.fitting.delay_fit import fit_with_delay
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.plan import final_objective
from radarbook.fitting.schedule import Level
from radarbook.fitting.tuned import DELAY_SCORE
from radarbook.radar.delay import range_of_delay, without_delay
from tests.fitting.scenes import face, renderer


def test_a_delayed_face_is_a_nearer_one_heard_late() -> None:
    physical = renderer()
    decimation = decimate(physical.array, physical.waveform)
    plain, late = ReducedPhysics(physical, decimation), DelayedPhysics(physical, decimation)
    p = with_delay(face((0.5, -0.3), 0.2, (0.001, 0.0, 0.004)), 5e-11)
    assert float(delay_of(p)) == pytest.approx(5e-11)
    there = at_true_range(p)
    assert float(there.translation[0, 2]) == pytest.approx(0.004 - range_of_delay(5e-11))
    expected = plain.signal(there)
    found = without_delay(late.signal(p), late.waveform, 5e-11)
    # The carrier's phase is left out.
    gain = (expected.conj() * found).sum() / expected.abs().square().sum()
    assert float(gain.abs()) == pytest.approx(1.0, abs=1e-4)
    assert float((found - gain * expected).norm() / expected.norm()) < 1e-4
    # So is that of its mean diffuse power, seen from where the face seems to be.
    points = torch.zeros(3, 3, 3, dtype=torch.float64)
    points[..., 0], points[..., 1] = torch.meshgrid(
        *[torch.linspace(-0.02, 0.02, 3).double()] * 2, indexing="xy"
    )
    points[..., 2] = 0.31
    power = late.diffuse_power(p, points, 200.0)
    assert float(power[0].min()) > 0
    same = late.diffuse_power(with_delay(p, 0.0), points, 200.0)
    assert torch.allclose(power[0], same[0], rtol=0.25)


@pytest.fixture(scope="module")
def smooth() -> FaceParameters:
    return face((0.5, -0.5), 0.3, (0.0, 0.0, 0.002), material=0.0)


def _recorded(truth: FaceParameters, delay: float) -> torch.Tensor:
    physical = renderer(64)
    with torch.no_grad():
        signal = physical.signal(truth.to(dtype=torch.float32))
    return without_delay(signal, physical.waveform, -delay)


def _apparent(truth: FaceParameters, delay: float) -> FaceParameters:
    moved = truth.translation.clone()
    moved[:, 2] += range_of_delay(delay)
    return truth.replace(translation=moved)


def test_a_delay_left_in_a_recording_is_noticed(smooth: FaceParameters) -> None:
    """Of a right face the score is that of chance; a delay of 0.03 ns (4.5 mm) stands out."""
    physical = renderer(64)
    rough = smooth.replace(rendering=face(material=0.2).rendering)
    right = delay_score(final_objective(_recorded(rough, 0.0), physical, delay=True), rough)
    assert not right.noticed
    signal, seen = _recorded(smooth, 3e-11), _apparent(smooth, 3e-11)
    found = delay_score(final_objective(signal, physical, delay=True), seen)
    assert found.score > 10 * DELAY_SCORE
    # The step's size is right to a tenth or so: three modes hide little of a delay.
    assert found.delay == pytest.approx(3e-11, rel=0.15)


@pytest.mark.slow
def test_a_delay_is_fitted(smooth: FaceParameters) -> None:
    """From a face that is a little wrong, at the range where the delay puts it.

    1 ps is 0.15 mm of range, below which the fit takes no other step.
    """
    physical = renderer(64)
    signal = _recorded(smooth, 3e-11)[0]
    start = _apparent(smooth, 3e-11)
    start = start.replace(shape=start.shape + 0.05)
    schedule = (Level("phase, all pixels", steps=3),)
    fitted = fit_with_delay(signal, physical, start=start, schedule=schedule, refined=schedule)
    assert fitted.delay == pytest.approx(3e-11, abs=1e-12)
    found = fitted.result.parameters
    assert 1e3 * float(found.translation[0, 2]) == pytest.approx(2.0, abs=0.2)
    assert found.shape[0].tolist() == pytest.approx([0.5, -0.5], abs=0.1)
    assert fitted.result.steps >= 3
    # Stopped, it says so.
    stopped = fit_with_delay(signal, physical, start=start, schedule=schedule, steps=1)
    assert stopped.result.reason == "limit"
    assert stopped.result.steps == 1
