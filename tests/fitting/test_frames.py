"""Frames of one person: a shape that all share, expression and pose of each."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from radarbook.datasets.recordings import Recording
from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.frames import Arrow, FramesReconstruction, agreeing, reconstruct_frames
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.reconstruct import reconstruct_through_physics
from radarbook.fitting.schedule import REFINE
from radarbook.seeds import torch_stream
from tests.fitting.scenes import dome, face, renderer

SHAPE = (0.5, -0.4)
OWN = (
    (0.3, (0.002, -0.001, 0.001)),
    (-0.5, (-0.001, 0.002, -0.001)),
    (0.8, (0.0, 0.001, 0.002)),
    (-0.1, (0.001, 0.0, -0.002)),
)
TRUTH = FaceParameters.cat([face(SHAPE, one, place, material=0.02) for one, place in OWN])
#: Root mean square of the noise of one sample over that of the signal.
NOISE = 1.0


def blocks(count: int, shapes: int, owns: int) -> tuple[list[Tensor], list[Tensor]]:
    stream = torch_stream(0, "test/frames/arrow")
    hessians, gradients = [], []
    for _ in range(count):
        jacobian = torch.randn(40, shapes + owns, generator=stream, dtype=torch.float64)
        hessians.append(jacobian.T @ jacobian)
        gradients.append(torch.randn(shapes + owns, generator=stream, dtype=torch.float64))
    return hessians, gradients


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_the_blocks_solve_the_dense_system(damping: float) -> None:
    count, shapes, owns = 5, 3, 4
    hessians, gradients = blocks(count, shapes, owns)
    precision = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    shape = torch.tensor([0.1, -0.7, 0.4], dtype=torch.float64)
    step, own = Arrow(hessians, gradients, precision).solved(shape, damping)
    total = shapes + count * owns
    dense, right = torch.zeros(total, total).double(), torch.zeros(total).double()
    dense[:shapes, :shapes] = torch.diag(precision)
    right[:shapes] = precision * shape
    for n in range(count):
        first = shapes + n * owns
        place = torch.cat([torch.arange(shapes), torch.arange(first, first + owns)])
        dense[place[:, None], place] += hessians[n]
        right[place] += gradients[n]
    dense += damping * torch.diag(dense.diagonal())
    assert torch.allclose(torch.cat([step, *own]), -torch.linalg.solve(dense, right), atol=1e-8)


def test_frames_that_do_not_agree_are_found_by_what_each_knows() -> None:
    """A shape far off along what a frame does not know is no disagreement."""
    known = torch.diag(torch.tensor([1.0, 1e-4, 1.0], dtype=torch.float64))
    minima = torch.tensor(
        [[0.0, 0.0, 5.0], [0.01, 3.0, -5.0], [0.4, 0.0, 0.0], [0.02, -2.0, 1.0]]
    ).double()
    arrow = Arrow([known] * 4, [torch.zeros(3)] * 4, torch.ones(2))
    assert agreeing(arrow, minima) == [True, True, False, True]


@dataclass(frozen=True)
class Fitted:
    recordings: list[Recording]
    alone: FaceParameters
    together: FramesReconstruction


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    """Four noisy frames, each fitted by its phases alone, and all of them together."""
    model, recordings, alone = renderer(24), [], []
    for n in range(len(TRUTH)):
        with torch.no_grad():
            signal = model.replace(seed=n).signal(TRUTH[n].to(dtype=torch.float32))[0]
        stream = torch_stream(n, "test/frames/noise")
        white = torch.randn(signal.shape, generator=stream, dtype=signal.dtype)
        signal = signal + NOISE * signal.abs().square().mean().sqrt() * white
        recordings.append(Recording(signal, model.array, model.waveform))
        found = reconstruct_through_physics(
            signal, model.array, model.waveform, model.model,
            start=TRUTH[n], schedule=REFINE[3:4], renderer=model,
        )  # fmt: skip
        alone.append(found.parameters)
    starts = FaceParameters.cat(alone)
    return Fitted(recordings, starts, reconstruct_frames(recordings, dome(), starts, bounces=1))


def shape_error(found: FaceParameters) -> Tensor:
    """(K,) root mean square error of the coefficients of shape."""
    return (found.shape.double() - TRUTH.shape[:1]).square().mean(1).sqrt()


@pytest.mark.slow
def test_a_common_shape_has_a_smaller_error_than_a_frame_s_own(fitted: Fitted) -> None:
    found = fitted.together
    assert bool((found.parameters.shape == found.parameters.shape[:1]).all())
    assert found.joined == (True,) * 4
    # Four independent frames: half the error, here with the luck of one draw.
    ratio = float(shape_error(found.parameters)[0] / shape_error(fitted.alone).mean())
    assert ratio < 0.75
    # Expressions and positions stay each frame's own.
    assert torch.allclose(found.parameters.expression.double(), TRUTH.expression, atol=0.1)
    assert torch.allclose(found.parameters.translation.double(), TRUTH.translation, atol=2e-4)


@pytest.mark.slow
def test_stated_deviations_shrink_and_hold_the_truth(fitted: Fitted) -> None:
    found = fitted.together
    pair = reconstruct_frames(fitted.recordings[:2], dome(), fitted.alone[:2], bounces=1, steps=0)
    four, two = (one.uncertainties[0].deviations()[:2] for one in (found, pair))
    # As one over the root of the number of frames, of about equal content.
    assert torch.allclose(four / two, torch.full((2,), 0.5**0.5).double(), rtol=0.35)
    off = (found.parameters.shape[0].double() - TRUTH.shape[0]).abs()
    assert bool((off < 4 * four).all())
    for n, sure in enumerate(found.uncertainties):
        assert torch.equal(sure.deviations()[:2], four)
        own = (found.parameters.expression[n].double() - TRUTH.expression[n]).abs()
        assert bool((own < 4 * sure.deviations()[2:3]).all())


@pytest.mark.slow
def test_a_frame_is_differentiated_by_its_own_columns_alone(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is rendered grows with the number of frames, not with its square."""
    widths: list[int] = []
    linearised = OneFace.linearised

    def counted(self: OneFace, x: Tensor, side: float = 1.0) -> tuple[Tensor, Tensor]:
        widths.append(len(x))
        return linearised(self, x, side)

    monkeypatch.setattr(OneFace, "linearised", counted)
    few = fitted.recordings[:3], dome(), fitted.alone[:3]
    reconstruct_frames(*few, bounces=1, steps=1, deviations=False)
    # Shape, expression, position, orientation and antenna size; at the minima, and once more.
    assert widths == [2 + 1 + 3 + 3 + 1] * 6


@pytest.mark.slow
def test_a_frame_in_a_wrong_minimum_is_fitted_again(fitted: Fitted) -> None:
    shape = fitted.alone.shape.clone()
    shape[1] += torch.tensor([1.2, 0.8])
    wrong = fitted.alone.replace(shape=shape)
    found = reconstruct_frames(
        fitted.recordings[:3], dome(), wrong[:3], bounces=1, steps=3, deviations=False
    )
    assert found.joined == (True, False, True)
    assert float(shape_error(found.parameters)[0]) < 0.3 * float(shape_error(wrong)[1])
    assert "2 agreed on it before" in str(found)


@pytest.mark.slow
def test_frames_and_starts_go_together(fitted: Fitted) -> None:
    with pytest.raises(InputError, match=r"frames: expected at least two, .* found 1 recordings"):
        reconstruct_frames(fitted.recordings[:1], dome(), fitted.alone[:1])
    with pytest.raises(InputError, match="found 3 recordings and 2 starts"):
        reconstruct_frames(fitted.recordings[:3], dome(), fitted.alone[:2])
