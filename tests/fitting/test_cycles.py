"""The search among the minima of a loss on phases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.fitting import tuned
from radarbook.fitting.decimation import decimate
from radarbook.fitting.descend import Stage, descend
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.methods import CycleSearch, LevenbergMarquardt, Problem
from radarbook.fitting.methods.cycles import (
    CoherenceModel,
    CycleIteration,
    _Place,
    rotated,
)
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.objectives import PhaseObjective, PowerObjective
from radarbook.fitting.space import ParameterSpace
from radarbook.seeds import torch_stream
from tests.fitting.scenes import face, renderer


def _linear(move: Tensor, count: int = 60) -> tuple[CoherenceModel, Tensor, Tensor]:
    """Samples whose phases are linear, of a target that is the face moved by ``move`` (K,)."""
    stream = torch_stream(0, "test/ambiguity")
    slopes = 6.0 * torch.randn(count, len(move), generator=stream, dtype=torch.float64)
    size = 1 + torch.rand(count, generator=stream, dtype=torch.float64)
    start = torch.polar(size, torch.rand(count, generator=stream, dtype=torch.float64) * 6)
    # Another gain, and phases of a tenth of a radian that no move explains.
    noise = 0.1 * torch.randn(count, generator=stream, dtype=torch.float64)
    target = 2j * start * torch.polar(torch.ones(count).double(), slopes @ move + noise)
    jacobian = 1j * start[:, None] * slopes
    width = torch.ones(len(move), dtype=torch.float64)
    return CoherenceModel(start, target, jacobian, width, 0 * width), slopes, start.conj() * target


def test_the_coherence_is_that_of_linear_phases() -> None:
    """γ after a climb of no steps against the formula, summed in float64."""
    model, slopes, product = _linear(torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64))
    moves = torch.randn(7, 3, generator=torch_stream(1, "test/ambiguity"), dtype=torch.float64)
    _, found = model.climb(moves, steps=0)
    sums = (product * torch.exp(-1j * (moves @ slopes.T))).sum(1)
    expected = sums.abs() / product.abs().sum() - 0.5 * tuned.COHERENCE_PRIOR * moves.square().sum(
        1
    )
    # Phases of some tens of radians in float32.
    assert torch.allclose(found, expected, atol=1e-4)
    assert float(model.coherence(moves[:1], moves[:1])) == pytest.approx(1.0, abs=1e-5)


def test_climbing_never_descends_and_the_best_maximum_is_the_grid_s() -> None:
    """In two dimensions every maximum can be looked for by brute force."""
    truth = torch.tensor([1.3, -0.9], dtype=torch.float64)
    model, slopes, product = _linear(truth)
    draws = torch.randn(256, 2, generator=torch_stream(2, "test/ambiguity"), dtype=torch.float64)
    moves, values = draws, None
    for _ in range(4):
        moves, after = model.climb(moves, steps=10)
        assert values is None or bool((after >= values - 1e-5).all())
        values = after
    assert values is not None
    side = torch.linspace(-3, 3, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    sums = (product * torch.exp(-1j * (grid @ slopes.T))).sum(1).abs() / product.abs().sum()
    brute = grid[(sums - 0.5 * tuned.COHERENCE_PRIOR * grid.square().sum(1)).argmax()]
    # The grid's spacing is 0.02; the move is several cycles of most samples away.
    assert torch.allclose(moves[values.argmax()], brute, atol=0.02)
    assert torch.allclose(brute, truth, atol=0.03)
    assert float(values.max()) > 0.98
    # There are many others, and none is as coherent.
    others = model.coherence(moves, moves[values.argmax()][None])[:, 0] < 0.9
    assert int(others.sum()) > 20
    assert float(values[others].max()) < 0.8


def _scene() -> tuple[PhaseObjective, ReducedPhysics, Tensor]:
    physical = renderer()
    decimation = decimate(physical.array, physical.waveform)
    reduced = ReducedPhysics(physical, decimation)
    with torch.no_grad():
        signal = reduced.signal(face((0.5, -0.5), 0.3))
    centres = torch.tensor([[0.0, 0.0, 0.31]])
    return PhaseObjective.of(signal, reduced, centres, contrast=3.0, prior=1e-6), reduced, signal


FREE = ("shape", "expression", "translation")


def test_wrong_cycles_are_left() -> None:
    """From a face none of whose phases agree, the truth is found."""
    objective, _, _ = _scene()
    truth = face((0.5, -0.5), 0.3)
    start = face((-0.6, 0.3), -0.6)
    with torch.no_grad():
        assert float(objective.residuals(start).square().sum()) > 0.9
    stages = [
        Stage(objective=objective, method=CycleSearch(), steps=6, free=FREE),
        Stage(objective=objective, method=LevenbergMarquardt(), steps=20, free=FREE),
    ]
    found = descend(stages, start)
    # Target and fit are one physics: what is left are the prior and rounding.
    assert float(found.losses) < 1e-3
    off = (found.parameters.normalised() - truth.normalised())[0, :6]
    assert float(off.abs().max()) < 0.05


def test_candidates_of_least_loss_are_gone_on_from() -> None:
    """Against losses of whole renderings; those foretold from leaner physics may be wrong by some
    hundredths, and the second of these six is farther from the third than that."""
    objective, _, _ = _scene()
    here = face((-0.6, 0.3), -0.6).normalised()
    space = ParameterSpace(2, 1)
    free = space.columns(FREE)
    problem = Problem(objective=objective, space=space, free=free)
    search = CycleIteration(CycleSearch(), problem, here)
    shares = torch.tensor([-0.4, 1.0, 0.3, 0.85, -0.8, 0.93], dtype=torch.float64)
    truth = face((0.5, -0.5), 0.3).normalised()
    vectors = [(here + share * (truth - here))[0] for share in shares]
    losses = torch.tensor([float(problem.losses(v[None])) for v in vectors], dtype=torch.float64)
    assert losses.argsort()[:2].tolist() == [1, 5]
    phases = objective.frozen_at(problem.parameters(here), 0)
    one, x = OneFace(problem, phases, 0, here[0]), here[0, free]
    taken = search._least(_Place(one, phases, x, *one.linearised(x)), vectors)
    assert [next(n for n, v in enumerate(vectors) if v is t) for t in taken] == [1, 5]
    assert len(taken) == tuned.CYCLE_TRIED


def test_what_moves_samples_turns_with_them() -> None:
    """Exact where phases are linear: about the best gain by finite differences, in float64, of a
    face many cycles away whose own gain is a hundred times smaller."""
    stream = torch_stream(3, "test/ambiguity")
    slopes = 6.0 * torch.randn(60, 4, generator=stream, dtype=torch.float64)
    size = 1 + torch.rand(60, generator=stream, dtype=torch.float64)
    truth = torch.tensor([0.8, -0.5, 1.2, 0.1], dtype=torch.float64)

    def samples(at: Tensor) -> Tensor:
        return torch.polar(size, slopes @ at)

    target = (3 - 2j) * samples(truth)

    def best(at: Tensor) -> Tensor:
        face = samples(at)
        return face * (face.conj() @ target) / face.abs().square().sum()

    def derivatives(at: Tensor) -> Tensor:
        shift = 1e-6 * torch.eye(4, dtype=torch.float64)
        return torch.stack([(best(at + h) - best(at - h)) / 2e-6 for h in shift])

    far = torch.zeros(4, dtype=torch.float64)
    assert float(best(far).norm()) < 0.2 * float(target.norm())
    found = rotated(derivatives(far), best(far), best(truth))
    expected = derivatives(truth)
    assert float((found - expected).norm() / expected.norm()) < 1e-6


def test_it_needs_phases() -> None:
    _, reduced, signal = _scene()
    power = PowerObjective.of(signal, reduced, torch.tensor([[0.0, 0.0, 0.31]]))
    with pytest.raises(InputError, match="loss on phases"):
        descend([Stage(objective=power, method=CycleSearch(), steps=1)], face())
