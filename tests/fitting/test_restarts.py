"""Several runs from one start: which faces have another one, and which run counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import pytest
import torch

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.descend import Stage
from radarbook.fitting.methods import Adam, Ensemble, LevenbergMarquardt
from radarbook.fitting.restarts import Plan, restarts
from tests.fitting.scenes import face

FREE = ("shape",)


class TwoWells:
    """The first coefficient's distance from 1, and a ripple of it: only near 1 both are small."""

    priors, noise, one_thread = 0, 0.02, True

    def __init__(self, faces: int) -> None:
        self.faces = faces

    def residuals(self, parameters: FaceParameters) -> torch.Tensor:
        off = parameters.shape[:, :1].double() - 1.0
        return torch.cat([torch.sin(2 * off), 0.2 * off], dim=1)

    def jacobian(
        self, parameters: FaceParameters, moved: FaceParameters, face: int
    ) -> torch.Tensor:
        return self.residuals(FaceParameters.cat([parameters, moved]))

    def frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        return self


TWO = TwoWells(2)
START = FaceParameters.cat([face((-0.6, 0.0)), face((0.9, 0.0))])
CLOSE = Stage(objective=TWO, method=LevenbergMarquardt(), steps=1, free=FREE, name="close")


class Accept:
    """Accepts faces of small loss, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[torch.Tensor] = []

    def __call__(
        self, parameters: FaceParameters, losses: torch.Tensor, agreed: torch.Tensor
    ) -> torch.Tensor:
        self.asked.append(losses)
        return losses < 0.01


def _plan(count: int, *last: Stage) -> Plan:
    """So narrow an ensemble never leaves the well at -0.57."""
    runs = tuple(
        (
            Stage(objective=TWO, method=Ensemble(width=0.02, seed=seed), steps=1, free=FREE),
            Stage(objective=TWO, method=LevenbergMarquardt(), steps=20, free=FREE),
        )
        for seed in range(count)
    )
    return Plan(runs=runs, last=last, accept=Accept())


def test_two_runs_that_end_alike_are_enough() -> None:
    plan = _plan(3)
    stuck = restarts(plan, START)
    assert stuck.runs == 2
    assert max(r.stage for r in stuck.history) == 3
    assert stuck.parameters.shape[:, 0].tolist() == pytest.approx([-0.54, 1.0], abs=0.02)
    assert isinstance(plan.accept, Accept)
    lowest = min(float(losses[0]) for losses in plan.accept.asked)
    assert stuck.losses[0] == pytest.approx(lowest, rel=1e-3)
    # Agreement does not make a face accepted. The second face had one run alone.
    assert stuck.accepted is not None
    assert stuck.agreed is not None
    assert stuck.accepted.tolist() == [False, True]
    assert stuck.agreed.tolist() == [True, False]
    # It was accepted at once and has not been touched since.
    done = next(i for i, r in enumerate(stuck.history) if r.stage == 2)
    assert all(
        torch.equal(r.vectors[1], stuck.history[done].vectors[1]) for r in stuck.history[done:]
    )
    # If the plan finds the minima different, there is a third.
    unlike = replace(plan, same=lambda one, _: torch.zeros(len(one), dtype=torch.bool))
    assert restarts(unlike, START).runs == 3


def test_no_other_run_begins_where_every_face_is_accepted() -> None:
    plan, start = _plan(3), START.replace(shape=START.shape * 0 + 0.9)
    easy = restarts(plan, start)
    assert easy.reason == "finished"
    assert easy.runs == 1
    assert max(r.stage for r in easy.history) == 1
    again = restarts(plan, start, resume=easy.state)
    assert torch.equal(again.parameters.shape, easy.parameters.shape)
    assert again.reason == "finished"
    # The last stages begin at once, from where the run ended.
    late = restarts(_plan(3, CLOSE), start.replace(shape=easy.parameters.shape))
    assert [r.stage for r in late.history][-2:] == [6, 6]
    assert torch.equal(late.history[-2].vectors, late.history[-3].vectors)


def test_the_best_run_of_each_face_counts() -> None:
    """The second run is worse here, and is dropped."""
    astray = Stage(objective=TWO, method=Adam(rate=2.0), steps=1, free=FREE)
    plan = Plan(runs=(_plan(1).runs[0][1:], (astray,)), last=(CLOSE,), accept=Accept())
    found = restarts(plan, START)
    last = {r.stage: r for r in found.history}
    assert last[1].losses[0] > last[0].losses[0]
    assert torch.equal(next(r for r in found.history if r.stage == 2).vectors, last[0].vectors)
    assert found.accepted is not None
    assert found.agreed is not None
    assert found.accepted.tolist() == [False, True]
    assert found.agreed.tolist() == [False, False]
    # Without last stages, too.
    bare = restarts(replace(plan, last=()), START)
    assert torch.equal(bare.losses, last[0].losses)
    # Without a criterion nothing is accepted.
    assert restarts(replace(plan, accept=None), START).accepted is None


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_stopped_fit_continues_where_it_was(after: int) -> None:
    plan = _plan(3, CLOSE)
    whole = restarts(plan, START)
    part = restarts(plan, START, callback=lambda r: r.stage < after)
    assert part.reason == "interrupted"
    assert part.accepted is None
    rest = restarts(plan, START, resume=part.state)
    assert torch.equal(rest.parameters.shape, whole.parameters.shape)
    assert rest.steps == whole.steps
    for ours, theirs in zip(rest.history, whole.history, strict=True):
        assert torch.equal(ours.vectors, theirs.vectors)
    # Step by step, too.
    pieces = restarts(plan, START, limit=1)
    while pieces.stopped:
        pieces = restarts(plan, START, limit=1, resume=pieces.state)
    assert torch.equal(pieces.parameters.shape, whole.parameters.shape)
    assert torch.equal(pieces.losses, whole.losses)
    assert pieces.agreed is not None
    assert whole.agreed is not None
    assert torch.equal(pieces.agreed, whole.agreed)
