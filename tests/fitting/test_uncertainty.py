"""The stated uncertainty is the one that fits to noisy recordings have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.displacements import Displacements, vertex_normals
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.decimation import decimate
from radarbook.fitting.descend import descend
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.methods import Problem
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.objectives import FocusedObjective, PhaseObjective, PowerObjective
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.schedule import REFINE
from radarbook.fitting.space import ParameterSpace
from radarbook.fitting.tuned import UNMODELLED
from radarbook.fitting.uncertainty import Uncertainty, slopes, uncertainty
from radarbook.seeds import torch_stream
from tests.fitting.scenes import face, renderer

FREE = ("shape", "expression", "translation")


def _fitted(
    truth: FaceParameters, noise: float, prior: float, seed: int, level: int = -1
) -> tuple[FaceParameters, Uncertainty]:
    """A face fitted to its recording, from the truth, and how sure it is; speckle and noise are
    those of the seed."""
    physical = renderer().replace(seed=seed)
    decimation = decimate(physical.array, physical.waveform)
    with torch.no_grad():
        clean = physical.signal(truth.to(dtype=torch.float32))
    drawn = torch.randn(clean.shape, generator=torch_stream(seed, "test"), dtype=clean.dtype)
    strength = noise * float(clean.abs().square().mean().sqrt())
    signal = clean + strength * drawn
    stages = physical_plan(
        signal,
        physical,
        schedule=[replace(REFINE[level], prior=prior)],
        free=FREE,
        centres=torch.tensor([[0.0, 0.0, 0.31]]),
    ).stages
    objective = stages[0].objective
    assert isinstance(objective, FocusedObjective)
    assert isinstance(objective, PowerObjective) == (level == 0)
    found = descend(stages, truth).parameters
    return found, uncertainty(objective, decimation(signal), found, strength, free=FREE)


FACES, FALSE_ALARM = 8, 1e-6


def _scores(level: int, noise: float) -> tuple[Tensor, int]:
    """eᵀP⁻¹e of eight faces, each with speckle and noise of its own, and the number of parameters:
    of errors with covariance P they are chi-square distributed with so many degrees of freedom."""
    stream = torch_stream(0, "test/faces")
    scores = []
    for number in range(FACES):
        a, b, c, x, y, z = torch.randn(6, generator=stream).tolist()
        truth = face((a / 2, b / 2), c / 2, (x * 3e-3, y * 3e-3, z * 3e-3))
        found, sure = _fitted(truth, noise, 1e-5, number, level)
        off = (found.normalised() - truth.normalised())[0, sure.columns]
        scores.append(float(off @ torch.linalg.solve(sure.covariance, off)))
    return torch.tensor(scores), len(off)


def test_errors_of_independent_recordings_have_the_stated_covariance() -> None:
    """By phases: the sum over the faces lies outside these bounds once in a million."""
    scores, each = _scores(-1, 0.3)
    total, freedom = float(scores.sum()), FACES * each
    low, high = chi2.ppf(FALSE_ALARM / 2, freedom), chi2.isf(FALSE_ALARM / 2, freedom)
    assert low < total < high
    # Deviations of half or three times the size would be refused on these very errors.
    assert total / 0.5**2 > high
    assert total / 3.0**2 < low


def test_errors_by_power_have_the_stated_covariance_on_half_of_the_faces() -> None:
    """The median of the faces. The sum is too large: of two of these eight recordings the errors
    of several parameters together are 3 and 4 times the stated ones (45 and 88 of 6), since a
    logarithm of power is not linear in the speckle of dark pixels.

    The median of eight is above a bound if four are: C(8, 4) p⁴ = 5e-7 at p = 0.0092.
    """
    scores, each = _scores(0, 0.1)
    low, high = chi2.ppf(0.0092, each), chi2.isf(0.0092, each)
    middle = float(scores.quantile(0.5))
    assert low < middle < high
    # Deviations of half or four times the size would be refused: a median of eight tells less than
    # their sum.
    assert middle / 0.5**2 > high
    assert middle / 4.0**2 < low


class Step:
    """A residual that is linear in the first coefficient and jumps at 0, and one of the second."""

    faces, priors, noise, one_thread = 1, 0, 0.02, True

    def residuals(self, parameters: FaceParameters) -> Tensor:
        return self.jacobian(parameters, parameters[:0], 0)

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved]).shape.double()
        jump = 20.0 * (both[:, :1] > 0)
        return torch.cat([3 * both[:, :1] + jump, 2 * both[:, 1:]], dim=1)

    def frozen_at(self, parameters: FaceParameters, face: int) -> Step:
        return self


@pytest.mark.parametrize("place", [-1e-4, 1e-4])
def test_a_jump_next_to_the_minimum_is_no_slope(place: float) -> None:
    vector = face((place, 0.5)).normalised()
    free = torch.tensor([0, 1])
    space = ParameterSpace(2, 1)
    one = OneFace.of(Problem(objective=Step(), space=space, free=free), 0, vector[0])
    jacobian = slopes(one)[1]
    assert torch.allclose(jacobian, torch.diag(torch.tensor([3.0, 2.0]).double()), atol=1e-6)
    # The quotient to one side would be the jump's.
    side = -1.0 if place > 0 else 1.0
    assert float(one.linearised(vector[0, free], side)[1][0, 0]) > 1000


def test_more_noise_is_less_sure_and_a_strong_prior_returns_to_the_population() -> None:
    # Without speckle, which no silence of the receiver takes away.
    truth = face((0.5, -0.3), 0.2, material=0.0)
    quiet, loud = (_fitted(truth, noise, 1e-5, 1)[1] for noise in (0.01, 0.04))
    # Errors grow with the noise's amplitude, here by 4.
    ratio = (loud.noise.diagonal() / quiet.noise.diagonal()).sqrt()
    assert ((ratio > 2.5) & (ratio < 6)).all()
    model = renderer().model
    map_quiet, map_loud = (u.vertex_deviation(model) for u in (quiet, loud))
    assert map_loud.shape == (model.n_vertices,)
    assert (map_loud >= map_quiet).all()
    held = _fitted(truth, 0.05, 1e4, 1)[1]
    # Coefficients that the prior holds are as uncertain as the population is wide.
    assert held.deviations()[:3] == pytest.approx([1.0, 1.0, 1.0], abs=0.02)
    assert held.noise.diagonal()[:3].max() < 1e-3


def test_speckle_adds_to_the_noise() -> None:
    smooth, rough = (face((0.5, -0.3), 0.2, material=m) for m in (0.0, 0.4))
    silent, speckled = (_fitted(truth, 0.01, 1e-5, 1)[1] for truth in (smooth, rough))
    assert (speckled.noise.diagonal() > 4 * silent.noise.diagonal()).all()


def test_unexplained_power_counts_as_speckle() -> None:
    physical = renderer()
    part = decimate(physical.array, physical.waveform)

    def sure(signal: Tensor, material: float, noise: float | None) -> Tensor:
        plan = physical_plan(signal, physical, schedule=REFINE[-1:], free=FREE)
        objective = plan.stages[0].objective
        assert isinstance(objective, FocusedObjective)
        found = face((0.5, -0.3), 0.2, material=material)
        return uncertainty(objective, part(signal), found, noise, free=FREE).noise.diagonal()

    clean, rough = (
        physical.signal(face((0.5, -0.3), 0.2, material=m).to(dtype=torch.float32))
        for m in (0.0, 0.3)
    )
    # Left to itself, and told that the face is smooth, it finds how rough it is. What it then
    # states is wider by a known factor, as it cannot know that it is speckle.
    ratio = (sure(rough, 0.0, None) / sure(rough, 0.3, 0.0)).sqrt() / UNMODELLED
    assert ((ratio > 0.8) & (ratio < 1.25)).all()
    # White noise is averaged over channels and frequencies, which speckle is not: taken for speckle
    # it is not thought to be less than it is.
    drawn = torch.randn(clean.shape, generator=torch_stream(1, "test"), dtype=clean.dtype)
    level = 0.05 * float(clean.abs().square().mean().sqrt())
    noisy = clean + level * drawn
    ratio = (sure(noisy, 0.0, None) / sure(noisy, 0.0, level)).sqrt()
    assert (ratio > 0.9).all()


def test_what_makes_no_sense_is_refused() -> None:
    physical = renderer()
    signal = physical.signal(face().to(dtype=torch.float32))
    objective = physical_plan(signal, physical, schedule=REFINE[-1:], free=FREE).stages[0].objective
    assert isinstance(objective, FocusedObjective)
    two = FaceParameters.cat([face(), face()])
    with pytest.raises(InputError, match="expected one face, found 2"):
        uncertainty(objective, signal, two, 0.1)
    with pytest.raises(InputError, match="noise level of 0 or more, found -1"):
        uncertainty(objective, signal, face(), -1.0)


def test_a_prior_that_follows_gives_the_posterior_of_its_weights() -> None:
    """(L / N) (JᵀJ + P)⁻¹, from differences of the objective's own rows."""
    truth = face((0.5, -0.5), 0.3, material=0.0)
    aside = face((0.4, -0.5), 0.3, (0.0, 0.0, 2e-4), material=0.0)
    physical = renderer()
    physics = ReducedPhysics(physical, decimate(physical.array, physical.waveform))
    with torch.no_grad():
        signal = physics.signal(truth)
        centre = torch.tensor([[0.0, 0.0, 0.30]])
        objective = PhaseObjective.of(signal, physics, centre, prior=1e-12, independent=40.0)
        found = uncertainty(objective, signal, aside, free=("shape", "translation"))
        frozen = objective.frozen_at(aside.to(dtype=torch.float64), 0)
        loss = float(frozen.residuals(aside).square().sum())
    assert frozen.prior > 1e-6
    weight = frozen.prior / objective.priors
    variances = found.covariance.diagonal()
    # No coefficient is known worse than a priori, and the data have made some known better.
    assert bool((variances[:2] <= 1 + 1e-9).all())
    assert float(variances[:2].min()) < 0.5
    # Its weight is a fortieth of the data's loss.
    prior = float(aside.normalised()[0, : objective.priors].square().sum()) * weight
    assert weight == pytest.approx((loss - prior) / 40, rel=1e-3)


def test_shapes_that_a_model_lacks_widen_the_deviation_of_every_vertex() -> None:
    """Independent route: 20,000 random faces of the stated covariance and smooth displacements of
    the kernel by its eigenvectors. A variance of so many has a relative error of 1 %; 4 vertices
    at 5 % are 5 deviations each."""
    model = renderer().model
    columns = torch.tensor([0, 2, 5])
    root = torch.tensor([[0.3, 0.0, 0.0], [0.2, 0.1, 0.0], [0.1, 0.0, 0.2]], dtype=torch.float64)
    known = Uncertainty(columns, root @ root.T, torch.zeros(3, 3, dtype=torch.float64))
    prior = Displacements(lengths=(30.0, 10.0), deviations=(0.6, 0.3))
    sure = replace(known, beyond=prior)
    vertices = model.mean.double()
    which = torch.arange(0, len(vertices), len(vertices) // 4)[:4]
    stated = sure.normal_covariance(model, vertices, which)
    normals = vertex_normals(vertices, model.triangles)[which]
    stream = torch_stream(0, "test/beyond")
    modes = torch.cat([model.shape_modes, model.expression_modes]).double()[columns[:2]][:, which]
    drawn = torch.randn(20_000, 3, generator=stream, dtype=torch.float64) @ root.T
    one = vertices[which].numpy(), normals.numpy()
    field = prior.kernel(*one, *one)
    values, vectors = torch.linalg.eigh(torch.from_numpy(field))
    smooth = (
        torch.randn(20_000, 4, generator=stream, dtype=torch.float64)
        @ (vectors * values.clamp(min=0).sqrt()).T
    )
    # The third column is of the pose, which does not deform a face.
    moved = torch.einsum("sk,knx,nx->sn", drawn[:, :2], modes, normals) + smooth
    measured = moved.T @ moved / len(moved)
    assert torch.allclose(measured, stated, atol=0.05 * float(stated.diagonal().min()))
    # And of all directions: what is along the normals alone is the field's.
    wide, narrow = (one.vertex_deviation(model) for one in (sure, known))
    assert torch.allclose(wide.square() - narrow.square(), torch.tensor(prior.variance).double())
    assert torch.equal(replace(sure, beyond=None).vertex_deviation(model), narrow)
    # Without a model's own, nothing but the field is left; the tuned one is wider than none.
    assert known.outside().beyond is not None
    assert bool((known.outside().vertex_deviation(model) > narrow).all())
