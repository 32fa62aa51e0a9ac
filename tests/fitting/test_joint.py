"""Fits of one face to the recordings of several arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from radarbook.datasets.recordings import Recording
from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.acceptance import delay_score, judge
from radarbook.fitting.decimation import decimate
from radarbook.fitting.descend import FitResult
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.methods.cycles import CoherenceModel
from radarbook.fitting.objectives import JointObjective, JointPhaseObjective, PhaseObjective
from radarbook.fitting.plan import final_objective, physical_plan
from radarbook.fitting.reconstruct import (
    mean_face_start,
    reconstruct_through_physics,
    uncertainty_through_physics,
)
from radarbook.fitting.reconstruction import reconstruct
from radarbook.fitting.restarts import restarts
from radarbook.fitting.schedule import DESCENT, REFINE, SCHEDULE, Level
from radarbook.radar.array import Array, qar50
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.seeds import torch_stream
from tests.fitting.scenes import aside, face, renderer

FREE = ("shape", "expression", "translation", "rotation")
TRUTH = face((0.5, -0.5), 0.3, (0.002, -0.001, 0.001))
START = face((0.35, -0.4), 0.15, (0.0018, -0.0012, 0.0012))


def recorded(
    arrays: Sequence[Array], truth: FaceParameters = TRUTH, noise: float = 0.0
) -> tuple[list[Tensor], list[PhysicalRenderer]]:
    """One recording of a face by each array, each with a gain of its own."""
    signals, renderers = [], []
    for number, array in enumerate(arrays):
        one = renderer().replace(array=array, seed=number)
        with torch.no_grad():
            signal = one.signal(truth.to(dtype=torch.float32))
        stream = torch_stream(number, "test/joint")
        white = torch.randn(signal.shape, generator=stream, dtype=signal.dtype)
        signal = signal + noise * signal.abs().square().mean().sqrt() * white
        signals.append((1 + number) * (0.6 + 0.8j) ** number * signal)
        renderers.append(one)
    return signals, renderers


def distance_mm(one: FaceParameters, other: FaceParameters) -> float:
    """Mean distance of the vertices of two faces."""
    model = renderer().model
    a, b = (model.vertices(p.shape.float(), p.expression.float())[0] for p in (one, other))
    return float((a - b).norm(dim=1).mean())


Pair = tuple[list[Tensor], list[PhysicalRenderer]]


@pytest.fixture(scope="module")
def pair() -> Pair:
    """A face seen by two arrays 40 degrees apart."""
    return recorded([aside(-20), aside(20)])


def test_a_moved_array_sees_the_renderer_s_signal() -> None:
    """The reduced physics in the array's own frame against the renderer in the radar frame."""
    smooth = face((0.5, -0.5), 0.3, (0.002, -0.001, 0.001), material=0.0)
    signals, renderers = recorded([aside(25)], smooth)
    decimation = decimate(renderers[0].array, renderers[0].waveform)
    with torch.no_grad():
        mine = ReducedPhysics(renderers[0], decimation).signal(smooth)
    wanted = decimation(signals[0])
    # Single precision throughout, as for an array that is not moved.
    assert float((mine - wanted).norm() / wanted.norm()) < 1e-3


def test_the_loss_is_the_mean_over_recordings_and_their_gains_do_not_matter(pair: Pair) -> None:
    signals, renderers = pair
    both = final_objective(signals, renderers)
    each = [final_objective(s, r) for s, r in zip(signals, renderers, strict=True)]
    assert isinstance(both, JointPhaseObjective)
    assert both.priors == each[0].priors == 3
    with torch.no_grad():
        joint, *alone = (o.residuals(START).square() for o in (both, *each))
        again = final_objective([signals[0], (3 - 1j) * signals[1]], renderers)
        regained = again.residuals(START).square()
    data = [float(rows[0, :-3].sum()) for rows in alone]
    assert float(joint[0, :-3].sum()) == pytest.approx(sum(data) / 2, rel=1e-6)
    assert torch.equal(joint[0, -3:], alone[0][0, -3:])
    # A gain is a rounding of the samples in single precision.
    assert float(regained.sum()) == pytest.approx(float(joint.sum()), rel=1e-4)


def test_the_derivatives_are_those_of_the_loss(pair: Pair) -> None:
    """Rows of a Jacobian are the residuals of moved faces, frozen or not, array by array."""
    signals, renderers = pair
    both = final_objective(signals, renderers)
    moved = face((0.352, -0.4), 0.15, (0.0018, -0.0012, 0.0012))
    with torch.no_grad():
        rows = both.frozen_at(START, 0).jacobian(START, moved, 0)
        each = [
            final_objective(s, r).frozen_at(START, 0).jacobian(START, moved, 0)
            for s, r in zip(signals, renderers, strict=True)
        ]
    data = torch.cat([e[:, :-3] for e in each], dim=1) / math.sqrt(2)
    assert torch.equal(rows, torch.cat([data, each[0][:, -3:]], dim=1))


def _fit(
    signals: list[Tensor], renderers: list[PhysicalRenderer], schedule: Sequence[Level] = REFINE
) -> FitResult:
    return restarts(physical_plan(signals, renderers, schedule=schedule, free=FREE), START)


@pytest.mark.slow
def test_the_same_recording_twice_is_one_recording() -> None:
    """Normal equations and verdict are equal but for rounding of sums, so descents take the same
    steps. The search among minima climbs in single precision, and of the many samples that end in
    one minimum, rounding decides which stands for it: the end is the same minimum."""
    signals, renderers = recorded([aside(20)])
    once, twice = (_fit(signals * n, renderers * n, DESCENT[:2]) for n in (1, 2))
    assert len(once.history) == len(twice.history)
    # Rounding of 1e-7, times the condition of the normal equations of a nearly flat valley.
    for one, two in zip(once.history, twice.history, strict=True):
        assert torch.allclose(one.vectors, two.vectors, atol=1e-5)
        assert torch.allclose(one.losses, two.losses, rtol=1e-5)
    once, twice = (_fit(signals * n, renderers * n, REFINE[1:3]) for n in (1, 2))
    objective = final_objective(signals, renderers)
    assert float(objective.coherence(once.parameters, twice.parameters)) > 0.999
    assert float(twice.losses) == pytest.approx(float(once.losses), rel=1e-2)
    one, two = (
        judge(final_objective(signals * n, renderers * n), once.parameters)[0] for n in (1, 2)
    )
    assert two.residual == pytest.approx(one.residual, rel=1e-6)
    assert two.diffuse == pytest.approx(one.diffuse, rel=1e-6)
    assert two.highlight_residual == pytest.approx(one.highlight_residual, rel=0.01)
    assert two.accepted == one.accepted
    # The speckle is the same one, too, so it does not average out. Difference quotients of single
    # precision are equal to some 1e-3 where sums are divided otherwise.
    sure = [
        uncertainty_through_physics(signals * n, renderers * n, once.parameters).deviations()
        for n in (1, 2)
    ]
    assert torch.allclose(sure[0], sure[1], rtol=2e-3)


@pytest.mark.slow
def test_two_arrays_know_more_than_one() -> None:
    """Noise of a fifth of the signal in each: deviations shrink, and the face is found."""
    signals, renderers = recorded([aside(-20), aside(20)], noise=0.2)
    both = _fit(signals, renderers)
    found = both.parameters
    assert bool(both.converged)
    assert distance_mm(found, TRUTH) < 0.5 * distance_mm(START, TRUTH)
    joint = uncertainty_through_physics(signals, renderers, found)
    for s, r in zip(signals, renderers, strict=True):
        alone = uncertainty_through_physics(s, r, found)
        assert torch.equal(alone.columns, joint.columns)
        model = renderer().model
        mine, its = (float(u.vertex_deviation(model).mean()) for u in (joint, alone))
        assert mine < 0.9 * its
    verdict = judge(final_objective(signals, renderers), found, noise=0.05)[0]
    assert verdict.explained
    wrong = found.replace(shape=found.shape + torch.tensor([[0.6, 0.0]]))
    assert not judge(final_objective(signals, renderers), wrong, noise=0.05)[0].explained


def test_a_common_delay_is_noticed() -> None:
    signals, renderers = recorded([aside(-20), aside(20)], face((0.5, -0.5), 0.3, material=0.02))
    truth = face((0.5, -0.5), 0.3, material=0.02)
    right = delay_score(final_objective(signals, renderers, delay=True), truth)
    frequencies = renderers[0].waveform.frequencies
    turn = torch.polar(torch.ones(len(frequencies)).double(), -2 * math.pi * 1e-11 * frequencies)
    late = [s * turn.to(s.dtype) for s in signals]
    found = delay_score(final_objective(late, renderers, delay=True), truth)
    assert not right.noticed
    assert found.noticed
    assert found.delay > 0
    # In the second recording alone, where it is searched too.
    late = [signals[0], late[1]]
    found = delay_score(final_objective(late, renderers, delay=True), truth)
    assert found.noticed
    assert found.recording == 1
    assert found.delay > 0


@pytest.mark.slow
def test_the_start_lies_between_what_the_arrays_see(pair: Pair) -> None:
    signals, renderers = pair
    starts = [mean_face_start(s, r, face()) for s, r in zip(signals, renderers, strict=True)]
    both = mean_face_start(signals, renderers, face())
    # In the radar frame, a few millimetres from the truth, as with one array in front.
    for start in (*starts, both):
        assert float((start.translation - TRUTH.translation).norm()) < 0.008
    off = [float((s.translation - TRUTH.translation).norm()) for s in (*starts, both)]
    assert off[2] <= max(off[:2])


def test_recordings_have_gains_of_their_own_in_the_search_among_minima() -> None:
    """γ of two recordings is the sum of the moduli, against the formula in float64."""
    stream = torch_stream(0, "test/joint/coherence")
    slopes = 6.0 * torch.randn(50, 3, generator=stream, dtype=torch.float64)
    move = torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64)
    start = torch.polar(
        1 + torch.rand(50, generator=stream, dtype=torch.float64),
        6 * torch.rand(50, generator=stream, dtype=torch.float64),
    )
    target = start * torch.polar(torch.ones(50).double(), slopes @ move)
    target[20:] *= 1j  # the other clock
    jacobian, width = 1j * start[:, None] * slopes, 1e3 * torch.ones(3, dtype=torch.float64)
    both = CoherenceModel(start, target, jacobian, width, 0 * width, (20, 30))
    moves = torch.randn(7, 3, generator=stream, dtype=torch.float64)
    product = (start.conj() * target) * torch.exp(-1j * (moves @ slopes.T))
    expected = sum(part.sum(1).abs() for part in product.split([20, 30], 1))
    expected = expected / product[0].abs().sum()
    # Phases of some tens of radians in float32.
    assert torch.allclose(both.climb(moves, steps=0)[1], expected, atol=1e-4)
    assert float(both.coherence(move[None], move[None])) == pytest.approx(1.0, abs=1e-5)
    # At the right move all agree, which one gain for both would not see.
    assert float(both.climb(move[None], steps=0)[1]) == pytest.approx(1.0, abs=1e-3)
    one = CoherenceModel(start, target, jacobian, width, 0 * width)
    assert float(one.climb(move[None], steps=0)[1]) < 0.8
    values = None
    for _ in range(4):
        moves, after = both.climb(moves, steps=5)
        assert values is None or bool((after >= values - 1e-5).all())
        values = after


@pytest.mark.slow
def test_every_level_is_of_all_recordings() -> None:
    signals, renderers = recorded([qar50(), aside(40)])
    plan = physical_plan(signals, renderers, schedule=SCHEDULE)
    for stage in plan.stages:
        assert isinstance(stage.objective, JointObjective)
        kinds = {isinstance(part, PhaseObjective) for part in stage.objective.parts}
        assert kinds == {isinstance(stage.objective, JointPhaseObjective)}
    alone = physical_plan(signals[:1], renderers[:1], schedule=DESCENT)
    assert not any(isinstance(stage.objective, JointObjective) for stage in alone.stages)


@pytest.mark.slow
def test_a_joint_fit_is_resumed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    signals, renderers = recorded([qar50(), aside(40)])
    arrays, waveforms = [r.array for r in renderers], [r.waveform for r in renderers]
    arguments = signals, arrays, waveforms, renderers[0].model
    options = {"schedule": DESCENT[1:2], "start": START, "renderer": renderers[0]}
    whole = reconstruct_through_physics(*arguments, **options)
    path = tmp_path / "fit.safetensors"
    reconstruct_through_physics(*arguments, **options, state_file=path, steps=2)
    rest = reconstruct_through_physics(*arguments, **options, state_file=path)
    assert torch.equal(rest.parameters.normalised(), whole.parameters.normalised())
    # The same antennas, looking elsewhere.
    turned = [arrays[0], arrays[1].replace(origin=torch.zeros(3))]
    with pytest.raises(InputError, match="the state of another fit"):
        reconstruct_through_physics(
            signals, turned, waveforms, renderers[0].model, **options, state_file=path
        )


def test_what_cannot_be_fitted_together_is_refused_in_one_line() -> None:
    signals, renderers = recorded([qar50(), aside(40)])
    arrays, waveforms = [r.array for r in renderers], [r.waveform for r in renderers]
    model = renderers[0].model
    several = [signals[0], signals[1].repeat(2, 1, 1, 1)]
    with pytest.raises(InputError, match="of the same faces, found 1 and 2 faces"):
        reconstruct_through_physics(several, arrays, waveforms, model)
    with pytest.raises(InputError, match="a renderer for each recording, found 2 recordings and 1"):
        physical_plan(signals, renderers[0])
    with pytest.raises(InputError, match="an array and a waveform for each recording"):
        reconstruct_through_physics(signals, arrays[0], waveforms, model)
    # Turned antennas, whose frame was lost.
    lost = [arrays[0], arrays[1].replace(rotation=torch.eye(3), origin=torch.zeros(3))]
    with pytest.raises(InputError, match=r"recording 2: expected an array with its pose.* by 40 d"):
        reconstruct_through_physics(signals, lost, waveforms, model)
    away = [arrays[0], qar50().moved(translation=torch.tensor([0.0, 0.0, 0.6]))]
    with pytest.raises(InputError, match="in front of the face"):
        reconstruct_through_physics(signals, away, waveforms, model)
    slab = renderers[0].replace(layer=Layer(0.2, 0.005, 1.5))
    with pytest.raises(InputError, match="layer: expected an array that is not moved"):
        reconstruct_through_physics(signals, arrays, waveforms, model, renderer=slab)
    recordings = [Recording(s[0], a, w) for s, a, w in zip(signals, arrays, waveforms, strict=True)]
    with pytest.raises(InputError, match="fit of a delay: expected one recording, found 2"):
        reconstruct(recordings, model, fit_delay=True)
    with pytest.raises(InputError, match="at least one"):
        reconstruct([], model)


@pytest.mark.slow
def test_a_joint_reconstruction_states_what_it_is_of(pair: Pair) -> None:
    signals, renderers = pair
    recordings = [
        Recording(s[0], r.array, r.waveform) for s, r in zip(signals, renderers, strict=True)
    ]
    near, model = (*DESCENT[1:2], *REFINE[2:4]), renderers[0].model
    found = reconstruct(recordings, model, start=START, schedule=near, bounces=1)
    assert found.recordings == 2
    assert "2 recordings were fitted together" in str(found)
    assert found.accepted
    deviation = found.vertex_deviation()
    assert deviation is not None
    assert distance_mm(found.parameters, TRUTH) < 3 * float(deviation.mean())
