"""What the residuals must and must not see."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.decimation import decimate
from radarbook.fitting.fit import fit
from radarbook.fitting.forward import STEEP, ReducedPhysics
from radarbook.fitting.methods import LevenbergMarquardt, Problem
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.objectives import Anchor, ImageObjective, PhaseObjective, PowerObjective
from radarbook.fitting.objectives.focused import Pixels, smooth
from radarbook.fitting.space import ParameterSpace
from radarbook.fitting.tuned import (
    DEPTH_ERROR,
    DEPTH_SCALE,
    LARGEST_DIFFUSE_SHARE,
    LOG_ERROR,
    LOG_SCALE,
    RESIDUAL_ALLOWED,
)
from radarbook.radar.kernels import launch
from tests.fitting.scenes import Blob, face, renderer, trough

#: A small image.
SMALL = Pixels(pixel=0.005, half_width=0.04)


def _power(target: FaceParameters, gain: complex = 1.0, prior: float = 0.0) -> PowerObjective:
    physical = renderer()
    reduced = ReducedPhysics(
        physical, decimate(physical.array, physical.waveform), facet_size=math.inf
    )
    with torch.no_grad():
        signal = gain * reduced.signal(target)
    return PowerObjective.of(
        signal,
        reduced,
        torch.tensor([[0.0, 0.0, 0.30]]),
        smoothing=(0.015, 0.006),
        pixels=SMALL,
        prior=prior,
    )


def test_the_truth_leaves_no_residual_whatever_the_gain() -> None:
    # Smooth: what is diffuse has its mean added, which no one recording has.
    truth = face((0.5, -0.5), 0.3, material=0.0)
    other = face((0.0, 0.5), 0.0, (0.002, 0.0, 0.001), material=0.0)
    plain, scaled = _power(truth), _power(truth, gain=-3.0 + 4.0j)
    assert plain.residuals(truth).norm() < 1e-5
    # Recordings carry an unknown gain: neither the truth nor another face may feel it. The bound
    # is complex64's rounding through a logarithm. Only the draws of noise, which weigh the
    # residuals, fall otherwise on a turned recording.
    assert scaled.residuals(truth).norm() < 1e-4
    change = plain.residuals(other) - scaled.residuals(other)
    assert change.norm() < 0.3 * plain.residuals(other).norm()
    assert plain.residuals(other).norm() > 0.03
    # Two sets of residuals, the wider smoothing looked at in every pixel but one, and the prior.
    assert plain.residuals(other).shape == (1, 2 * 9**2 + 2 * 17**2 + 3)


def test_a_prior_that_follows_weighs_a_coefficient_as_one_residual() -> None:
    other = face((1.0, 0.5), 0.5, (0.002, 0.0, 0.001), material=0.0)
    plain = _power(face((0.5, -0.5), 0.3, material=0.0), prior=1e-9)
    follows = replace(plain, independent=50.0)
    row = follows.frozen_at(other, 0).jacobian(other, other[:0], 0)[0].double()
    data, prior = row[:-3].square().sum(), row[-3:].square().sum()
    # Σ c² L / N: of 50 residuals of the loss L each has a fiftieth.
    assert float(prior) == pytest.approx(float(data) / 50 * (1.0 + 0.25 + 0.25), rel=1e-5)
    # Data are not changed by it, and at the truth the stated prior is left.
    assert torch.equal(
        data,
        plain.frozen_at(other, 0).jacobian(other, other[:0], 0)[0][:-3].double().square().sum(),
    )
    truth = face((0.5, -0.5), 0.3, material=0.0)
    assert follows.frozen_at(truth, 0).prior == pytest.approx(1e-9)
    assert plain.frozen_at(other, 0).prior == 1e-9


@pytest.mark.parametrize("kind", [PowerObjective, PhaseObjective])
def test_rows_of_one_batch_are_the_rows_one_by_one(
    kind: type[PowerObjective] | type[PhaseObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU takes them; sums of single precision in another order."""
    truth, p = face((0.5, -0.5), 0.3), face((0.2, 0.1), 0.0, (0.001, 0.0, 0.0))
    power = _power(truth, prior=0.01)
    objective: PowerObjective | PhaseObjective = power
    reduced = power.physics
    if kind is PhaseObjective:
        signal = reduced.signal(truth).detach()
        objective = PhaseObjective.of(
            signal, reduced, torch.tensor([[0.0, 0.0, 0.30]]), pixels=SMALL
        )
    moved = FaceParameters.cat(
        [face((0.2 + n / 10, 0.1), n / 5, material=0.2 * n) for n in range(3)]
    )
    with torch.no_grad():
        alone = objective.jacobian(p, moved, 0)
        monkeypatch.setattr(launch, "batched", lambda device: True)
        together = objective.jacobian(p, moved, 0)
    assert alone.shape == together.shape == (4, alone.shape[1])
    assert (together - alone).norm() < 1e-4 * alone.norm()


def test_near_a_face_its_residual_is_the_same_and_the_diffuse_power_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = _power(face((0.5, -0.5), 0.3))
    here, there = face((0.1, 0.2), -0.2), face((0.12, 0.2), -0.2)
    with torch.no_grad():
        own = objective.jacobian(here, there, 0)
        near = objective.frozen_at(here, 0)
        monkeypatch.setattr(ReducedPhysics, "diffuse_power", None)
        assert torch.equal(near.jacobian(here, there, 0), own)
        # A try of its own is what a version of the face was.
        alone = near.jacobian(there, there[:0], 0)
    assert (alone[0] - own[1]).norm() < 1e-5 * own[1].norm()
    assert (own[1] - own[0]).norm() > 1e-3 * own[1].norm()


def test_gradient_and_jacobian_agree() -> None:
    objective = _power(face((0.5, -0.5), 0.3), prior=0.01)
    p = face((0.1, 0.2), -0.2, (0.001, 0.0, -0.001), material=0.0)
    vector = p.normalised()[0]
    free = torch.arange(9)
    problem = Problem(objective=objective, space=ParameterSpace(2, 1), free=free)
    residual, jacobian = OneFace.of(problem, 0, vector).linearised(vector[free])
    variable = vector.clone().requires_grad_()
    loss = objective.residuals(FaceParameters.from_normalised(variable[None], 2, 1)).square().sum()
    loss.backward()
    assert variable.grad is not None
    # Forward differences of complex64 signals: a per cent.
    difference = 2 * jacobian.T @ residual - variable.grad[free]
    assert difference.norm() < 2e-2 * variable.grad[free].norm()


def test_noise_of_the_stated_level_leaves_unit_errors() -> None:
    """Residuals are scaled by what noise does to them: few are beyond it, most are not below."""
    truth = face((0.5, -0.5), 0.3, material=0.0)
    objective = _power(truth)
    signal = objective.physics.signal(truth)[0]
    focus = objective.focus[0]
    power = focus.profiles(signal).abs().square().sum(0)
    # White noise in the recording that puts the stated -15 dB into the brightest pixel's profile.
    pairs = signal[..., 0].numel()
    level = math.sqrt(10**-1.5 * float(power.max()) / (signal.shape[-1] * pairs))
    against, rows = objective.comparison(signal, truth), []
    for n in range(6):
        noise = torch.randn(
            signal.shape, generator=torch.Generator().manual_seed(n), dtype=signal.dtype
        )
        rows.append(against(signal + level * noise)[:-3])
    parts = torch.stack(rows).square().sum(0).split([9 * 9, 9 * 9, 17 * 17, 17 * 17])
    for part, (scale, base) in zip(
        parts, [(LOG_SCALE, LOG_ERROR), (DEPTH_SCALE, DEPTH_ERROR)] * 2, strict=True
    ):
        # In units of the error that is there in any case, averaged over pixels: nearly one where
        # noise decides, less where it does not; draws of eight and smoothing leave a half.
        mean = float(part.sum()) / 6 * (scale / base) ** 2
        assert 0.05 < mean < 1.6


def _phase(target: FaceParameters, gain: complex = 1.0, noise: float = 0.0) -> PhaseObjective:
    physical = renderer()
    reduced = ReducedPhysics(
        physical, decimate(physical.array, physical.waveform), facet_size=math.inf
    )
    signal = gain * reduced.signal(target)
    drawn = torch.randn(
        signal.shape, generator=torch.Generator().manual_seed(0), dtype=signal.dtype
    )
    signal = signal + noise * signal.abs().square().mean().sqrt() * drawn
    centres = torch.tensor([[0.0, 0.0, 0.30]]).expand(len(target), -1)
    return PhaseObjective.of(signal, reduced, centres, pixels=SMALL, prior=0.0)


def test_phases_leave_the_share_that_a_face_does_not_explain() -> None:
    truth = face((0.5, -0.5), 0.3)
    for gain in (1.0, -3.0 + 4.0j):
        objective = _phase(truth, gain)
        assert objective.residuals(truth).norm() < 1e-3
        # A millimetre is half a turn: nothing agrees that is not at the same depth as before.
        bent = objective.residuals(face((1.5, -0.5), 0.3)).square().sum()
        assert 0.3 < float(bent) <= 1.0
        # Closer or farther as a whole by a wavelength's quarter, the gain takes most of it up.
        moved = face((0.5, -0.5), 0.3, (0.0, 0.0, 5e-4))
        assert float(objective.residuals(moved).square().sum()) < 0.05
    # Noise is left over, by its power. Focusing adds 2,304 pairs in phase, but dark pixels count.
    quiet, loud = (
        float(_phase(truth, noise=level).residuals(truth).square().sum()) for level in (0.05, 0.1)
    )
    assert 1e-4 < quiet < 0.05
    assert loud == pytest.approx(4 * quiet, rel=0.05)


def test_the_diffuse_share_is_what_speckle_leaves() -> None:
    """Against recordings of the simulator, whose diffuse part has phases of its own."""
    physical = renderer()
    decimation = decimate(physical.array, physical.waveform)
    reduced = ReducedPhysics(physical, decimation)
    truth = face((0.5, -0.5), 0.3, material=0.4)
    found, stated = [], []
    for seed in range(6):
        signal = decimation(physical.replace(seed=seed).signal(truth.to(dtype=torch.float32)))
        objective = PhaseObjective.of(
            signal,
            reduced,
            torch.tensor([[0.0, 0.0, 0.30]]),
            pixels=Pixels(half_width=0.04),
            prior=0.0,
        )
        found.append(float(objective.residuals(truth).square().sum()))
        stated.append(float(objective.diffuse_share(truth)))
    # Six draws of a few dozen speckles; the point-spread function as a Gaussian.
    assert sum(found) == pytest.approx(sum(stated), rel=0.35)


def test_coherence_is_what_the_loss_leaves() -> None:
    """Of a recording of one face, another leaves 1 - γ²: the gain is the best there is."""
    truth = face((0.5, -0.5), 0.3)
    objective = _phase(truth)
    assert float(objective.coherence(truth, truth)) == pytest.approx(1.0, abs=1e-5)
    for other in (face((0.45, -0.5), 0.3), face((0.2, -0.3), 0.1), face((-1.0, 0.5), -0.5)):
        coherence = float(objective.coherence(truth, other))
        left = objective.residuals(other)[:, : -objective.priors].square().sum()
        assert float(left) == pytest.approx(1 - coherence**2, abs=1e-3)


@pytest.mark.slow
def test_several_reflections_are_taken_off_the_target_as_far_as_they_agree() -> None:
    """Recordings of two walls at a right angle, made with the second reflection and without."""
    once, twice = (renderer(model=trough(), bounces=n) for n in (1, 2))
    decimation = decimate(once.array, once.waveform)
    truth = face((0.5, -0.5), 0.3, material=0.0)
    reduced = ReducedPhysics(twice, decimation)
    clean = reduced.signal(truth)
    extra = reduced.reflections(truth)
    assert extra is not None

    def objective(signal: Tensor, physics: ReducedPhysics = reduced) -> PhaseObjective:
        centres = torch.tensor([[0.0, 0.0, 0.33]])
        return PhaseObjective.of(
            signal, physics, centres, pixels=Pixels(half_width=0.04), prior=0.0
        )

    def losses(of: PhaseObjective, p: FaceParameters) -> list[float]:
        """As itself, of a Jacobian's base, and near the face: the same."""
        rows = [
            of.residuals(p)[0],
            of.jacobian(p, p[:0], 0)[0],
            of.frozen_at(p, 0).jacobian(p, p[:0], 0)[0],
        ]
        return [float(row.square().sum()) for row in rows]

    plain = ReducedPhysics(once, decimation)
    for gain in (1.0, -3.0 + 4.0j):
        full, bare = gain * (clean + extra), gain * clean
        # A part of them looks like one reflection, and goes into the gain: what is left is that.
        left = losses(objective(full, plain), truth)
        assert min(left) > 0.1
        assert losses(objective(full), truth) == pytest.approx([0.0] * 3, abs=0.05 * left[0])
        # Where there are none, none are found.
        assert losses(objective(bare), truth) == pytest.approx([0.0] * 3, abs=1e-6)
    # A face that is not right does not lose by them.
    for other in (face((0.2, -0.3), 0.1), face((-1.0, 0.5), -0.5), face(translation=(0, 0, 1e-3))):
        without = losses(objective(full, plain), other)[0]
        assert max(losses(objective(full), other)) <= without * (1 + 1e-4)
    # Near a face they stay, while others' are their own.
    moved, whole = face((0.45, -0.5), 0.3, material=0.0), objective(full)
    rows = [of.jacobian(truth, moved, 0) for of in (whole.frozen_at(truth, 0), whole)]
    assert (rows[0] - rows[1]).norm() < 1e-5 * rows[1].norm()
    assert (rows[0][1] - whole.residuals(moved)[0]).norm() > 1e-3


def test_a_face_is_right_if_its_diffuse_share_is_all_that_is_left() -> None:
    objective = _phase(face((0.5, -0.5), 0.3))
    smooth, skin, felt = (face((0.5, -0.5), 0.3, material=m) for m in (0.0, 0.1, 0.9))
    assert objective.enough(smooth, 0) == pytest.approx(RESIDUAL_ALLOWED)
    share = float(objective.diffuse_share(skin))
    assert 0 < share < LARGEST_DIFFUSE_SHARE
    assert objective.enough(skin, 0) == pytest.approx(
        RESIDUAL_ALLOWED + (1 - RESIDUAL_ALLOWED) * share
    )
    # So rough a face explains everything, and so nothing.
    assert float(objective.diffuse_share(felt)) > LARGEST_DIFFUSE_SHARE
    assert objective.enough(felt, 0) == 0


def test_each_face_of_a_batch_has_its_own_level() -> None:
    """A recording's weights decide how much of a face is diffuse."""
    skin, other = face((0.5, -0.5), 0.3), face((-1.0, 1.0), -0.5)
    alone = [_phase(target).enough(skin, 0) for target in (skin, other)]
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    both = _phase(FaceParameters.cat([skin, other]))
    assert [both.enough(skin, b) for b in range(2)] == pytest.approx(alone, rel=1e-5)


def test_a_cheaper_physics_for_changes_changes_little() -> None:
    physical = renderer()
    decimation = decimate(physical.array, physical.waveform)
    whole, reduced = (
        ReducedPhysics(physical, decimation),
        ReducedPhysics(physical, decimation, tilts=STEEP),
    )
    truth, p = face((0.5, -0.5), 0.3), face((0.4, -0.4), 0.2)
    moved = FaceParameters.cat([face((0.401, -0.4), 0.2), face((0.4, -0.4), 0.2, (1e-5, 0.0, 0.0))])
    rows = []
    for changes in (None, reduced):
        objective = PhaseObjective.of(
            whole.signal(truth),
            whole,
            torch.tensor([[0.0, 0.0, 0.30]]),
            pixels=Pixels(half_width=0.04),
            changes=changes,
        )
        jacobian = objective.jacobian(p, moved, 0)
        assert jacobian.shape[0] == 3
        rows.append(jacobian)
    # The face itself is drawn by the whole physics, to the last digit.
    assert torch.allclose(rows[0][0], rows[1][0], atol=1e-6)
    exact, cheap = (row[1:] - row[0] for row in rows)
    assert (exact - cheap).norm() < 0.2 * exact.norm()


def test_image_objective_sees_only_its_inputs() -> None:
    p, deeper = face(), face(translation=(0.0, 0.0, 0.02))
    target = Blob().render(p)
    assert (
        ImageObjective(target=target, renderer=Blob(), inputs="amplitude").residuals(deeper).norm()
        == 0
    )
    assert (
        ImageObjective(target=target, renderer=Blob(), inputs="depth").residuals(deeper).norm() > 0
    )
    # The target's dynamic range is used, whatever the face says: it is a matter of display.
    bright = deeper.replace(rendering=deeper.rendering * torch.tensor([1.2, 1.0, 1.0]))
    both = ImageObjective(target=target, renderer=Blob())
    assert torch.equal(both.residuals(bright), both.residuals(deeper))


def test_an_anchored_fit_ends_where_image_and_prediction_agree() -> None:
    """The depth of a blob is linear in its distance: the minimum has a closed form."""
    two = FaceParameters.cat([face(translation=(0.0, 0.0, 0.02)), face()])
    target, predicted = Blob().render(two), FaceParameters.cat([face(), face()])
    deviation = torch.full((12,), 0.1, dtype=torch.float64)
    deviation[3:5] = math.inf  # nothing is known of x and y
    weight = torch.tensor([0.002, 0.001], dtype=torch.float64)
    anchor = Anchor(predicted=predicted.normalised(), deviation=deviation, weight=weight)
    objective = ImageObjective(target=target, renderer=Blob(), inputs="depth", anchor=anchor)
    found = fit(
        target, Blob(), predicted, inputs="depth", anchor=anchor,
        method=LevenbergMarquardt(), free=("translation",), steps=30,
    )  # fmt: skip
    # A tenth of ((z - 2 cm) / 6 cm)² against weight · (z / 5 cm / deviation)².
    data, prior = 0.1 / 0.06**2, 0.002 / (0.05 * 0.1) ** 2
    expected = 0.02 * data / (data + prior)
    assert float(found.parameters.translation[0, 2]) == pytest.approx(expected, rel=1e-3)
    # Of a face and versions of it, all are held to that face's prediction.
    rows = objective.jacobian(two[1], two, 1)
    assert rows.shape == (3, 16**2 + 12)
    assert objective.priors == 12
    assert torch.allclose(rows[0], objective.residuals(two)[1], rtol=1e-6, atol=1e-9)
    assert rows[1, -12:].square().sum() == pytest.approx(0.001 * (0.4 / 0.1) ** 2)
    plain = ImageObjective(target=target, renderer=Blob(), inputs="depth")
    assert torch.equal(objective.image_losses(two), plain.residuals(two).double().square().sum(1))


def test_smoothing_keeps_the_sum_and_spreads_as_a_gaussian() -> None:
    image = torch.zeros(1, 41, 41, dtype=torch.float64)
    image[0, 20, 20] = 1
    wide = smooth(image, 3.0)
    t = torch.arange(41) - 20.0
    # Cut at 2.5 σ (8 of 7.5 pixels), a Gaussian loses some 5 % of its variance.
    assert abs(float(wide.sum()) - 1) < 1e-12
    assert abs(float((wide[0].sum(0) * t**2).sum()) / 9 - 0.95) < 0.03
    assert smooth(image, 0.0) is image
