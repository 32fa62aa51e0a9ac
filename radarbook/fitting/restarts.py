"""Several runs from one start: accept a face, or begin again with other samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from radarbook.faces.parameters import TRAINED_POSE, FaceParameters, PoseRange
from radarbook.fitting import tuned
from radarbook.fitting.descend import (
    Best,
    Callback,
    FitResult,
    FitState,
    RunsState,
    Stage,
    Walk,
)
from radarbook.fitting.space import ParameterSpace


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """Runs from one start, and the stages that continue the best of them.

    Attributes
    ----------
    runs : tuple of runs, each a tuple of Stage
        Run after run; a face begins another one unless it is accepted or two runs agreed on it. All
        runs end with the same objective, whose losses are compared.
    last : tuple of Stage
        From the best run of each face.
    accept : callable, optional
        Given parameters, losses (B,) of the best run so far and whether two runs agreed on it (B,),
        returns which faces are accepted (B,). It decides about the end of the fit, too
        (:attr:`~radarbook.fitting.descend.FitResult.accepted`). Agreement alone accepts no face.
    same : callable, optional
        Given two faces of B recordings, returns (B,) whether they are in the same minimum. None:
        their coefficients are compared.
    pose_range : PoseRange
        Bounds of position and orientation.
    """

    runs: tuple[tuple[Stage, ...], ...]
    last: tuple[Stage, ...] = ()
    accept: Callable[[FaceParameters, Tensor, Tensor], Tensor] | None = None
    same: Callable[[FaceParameters, FaceParameters], Tensor] | None = None
    pose_range: PoseRange = TRAINED_POSE

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, as :attr:`~radarbook.fitting.descend.Record.stage` counts them."""
        return tuple(stage for run in self.runs for stage in run) + self.last

    def first(self, run: int) -> int:
        """Number of the first stage of a run; of the last stages, for as many runs as there are."""
        return sum(len(stages) for stages in self.runs[:run])


def restarts(
    plan: Plan,
    start: FaceParameters,
    *,
    limit: int | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    resume: FitState | None = None,
) -> FitResult:
    """Fit faces by a plan: runs until every face needs no other, then the last stages.

    ``start`` and the options are as in :func:`~radarbook.fitting.descend.descend`. In the end each
    face has the run of lowest loss.

    Examples
    --------
    Without ``accept`` only agreement of two runs ends the restarts, so that a second run is made:

    >>> import radarbook as rb
    >>> from radarbook.fitting.methods import Adam
    >>> from radarbook.fitting.objectives import ImageObjective
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> truth = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> start = truth.replace(translation=truth.translation + 0.002)
    >>> objective = ImageObjective(target=renderer.render(truth), renderer=renderer)
    >>> stage = Stage(objective=objective, method=Adam(), steps=1, free=("translation",))
    >>> restarts(Plan(runs=((stage,), (stage,))), start).runs
    2
    """
    walk = Walk.of(
        plan.stages,
        start,
        pose_range=plan.pose_range,
        limit=limit,
        callback=callback,
        resume=resume,
    )
    state, space = walk.state, walk.space
    runs = state.runs = state.runs or RunsState.at(state.vectors)
    end = plan.first(len(plan.runs))
    with walk.progress(progress):
        for number in range(runs.number, len(plan.runs)):
            if number > runs.number:
                best = _compare(plan, state, space)
                runs.ready = runs.agreed
                if plan.accept is not None:
                    parameters = space.unpack(best.vectors)
                    runs.ready = runs.agreed | plan.accept(parameters, best.losses, runs.agreed)
                if bool(runs.ready.all()):
                    walk.reason = state.reason = "finished"
                    break
                runs.number, state.stage = number, plan.first(number)
                state.vectors = torch.where(runs.ready[:, None], best.vectors, runs.start)
            if runs.over or not walk.through(plan.runs[number], plan.first(number), runs.ready):
                break
        if not walk.stopped and not runs.over:
            best = _compare(plan, state, space)
            runs.over, state.stage, state.vectors = True, end, best.vectors
        if runs.over:
            walk.through(plan.last, end)
    losses, vectors = walk.losses, state.vectors
    if runs.best is not None and not (runs.over and plan.last):
        # A run that was stopped has no loss that could be compared.
        losses, vectors = runs.best.losses, runs.best.vectors
    accepted: Tensor | None = None
    if plan.accept is not None and not walk.stopped:
        accepted = plan.accept(space.faces_inside(vectors), losses, runs.agreed)
    agreed = None if plan.accept is None else runs.agreed
    return replace(
        walk.result(losses, vectors), runs=runs.number + 1, accepted=accepted, agreed=agreed
    )


def _compare(plan: Plan, state: FitState, space: ParameterSpace) -> Best:
    """Note on which faces the run that ended agrees with the best one, and keep the better."""
    runs, losses, vectors = state.runs, state.losses, state.vectors
    assert runs is not None
    if runs.best is not None and not bool(runs.ready.all()):
        # Losses alone do not show that two runs agree: where much of a recording is speckle, they
        # are nearly the same for all faces.
        best = runs.best
        same = (losses - best.losses).abs() < tuned.SAME_LOSS * best.losses
        if plan.same is not None:
            same &= plan.same(space.unpack(vectors), space.unpack(best.vectors))
        else:
            coefficients = (vectors - best.vectors)[:, : space.coefficients]
            same &= coefficients.square().mean(1).sqrt() < tuned.SAME_COEFFICIENTS
        # A better run that resembles none before it is not the one that two agreed on. Faces that
        # needed no other run have not moved since.
        agreed = torch.where(losses < best.losses, same, runs.agreed | same)
        runs.agreed = torch.where(runs.ready, runs.agreed, agreed)
    runs.best = Best(losses, vectors) if runs.best is None else runs.best.or_better(losses, vectors)
    return runs.best
