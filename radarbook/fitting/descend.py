"""The stages of one run: objectives that follow one another, from coarse to fine.

:func:`descend` moves faces through stages; :mod:`radarbook.fitting.restarts` makes several runs of
it. Both keep everything that they know in a :class:`FitState`, from which they continue bit for
bit.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import TRAINED_POSE, FaceParameters, PoseRange
from radarbook.fitting import tuned
from radarbook.fitting.methods.base import Iteration, Method, Problem
from radarbook.fitting.objectives.base import Objective
from radarbook.fitting.space import UNKNOWN, ParameterSpace
from radarbook.progress import Progress
from radarbook.threads import alone

#: Called with every record; returning False interrupts the fit, as Ctrl-C does.
Callback = Callable[["Record"], bool | None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """One objective, followed until it stops falling.

    Attributes
    ----------
    objective : Objective
        What to make small.
    method : Method
        How (:mod:`radarbook.fitting.methods`).
    steps : int
        At most.
    free : tuple of str
        Unknowns: fields of the parameters, or parts of rendering
        (:meth:`~radarbook.fitting.space.ParameterSpace.columns`).
    modes : tuple of int, optional
        Leading coefficients of shape and expression that may change; None: all.
    patience, tolerance : int, float
        A face is finished when its loss has not fallen by a relative ``tolerance`` for ``patience``
        steps.
    name : str

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.descend import Stage, descend
    >>> from radarbook.fitting.methods import LevenbergMarquardt
    >>> from radarbook.fitting.objectives import ImageObjective
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> truth = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> start = truth.replace(translation=truth.translation + 0.002)
    >>> objective = ImageObjective(target=renderer.render(truth), renderer=renderer)
    >>> stage = Stage(
    ...     objective=objective, method=LevenbergMarquardt(), steps=1, free=("translation",)
    ... )
    >>> result = descend([stage], start)
    >>> bool(result.losses < result.history[0].losses)
    True
    """

    objective: Objective
    method: Method
    steps: int
    free: tuple[str, ...] = UNKNOWN
    modes: tuple[int, int] | None = None
    patience: int = tuned.PATIENCE
    tolerance: float = tuned.TOLERANCE
    name: str = ""


@dataclass(frozen=True)
class Record:
    """One step: the losses (B,) of the vectors (B, P), normalised, before it moved them."""

    stage: int
    losses: Tensor
    vectors: Tensor
    seconds: float


@dataclass
class StageState:
    """Within a stage: steps done, the method's own state, and the best iterate of each face;
    ``fell`` (B,) is the share by which the last step lowered the best loss."""

    best: Tensor
    vectors: Tensor
    stale: Tensor
    step: int = 0
    first: Tensor | None = None
    method: dict[str, Any] | None = None
    fell: Tensor | None = None


@dataclass(frozen=True)
class Best:
    """Losses (B,) and vectors (B, P) of the best run of each face that has ended."""

    losses: Tensor
    vectors: Tensor

    def or_better(self, losses: Tensor, vectors: Tensor) -> Best:
        """Face by face the better of these and another run."""
        take = losses < self.losses
        return Best(
            torch.where(take, losses, self.losses),
            torch.where(take[:, None], vectors, self.vectors),
        )


@dataclass
class RunsState:
    """Between runs (:mod:`radarbook.fitting.restarts`).

    ``start`` (B, P) is where every run begins, ``number`` the run under way. ``agreed`` (B,) states
    on which faces two runs agreed, ``ready`` (B,) which faces need no other run. ``over`` is True
    once the runs have been compared for the last time.
    """

    start: Tensor
    agreed: Tensor
    ready: Tensor
    number: int = 0
    best: Best | None = None
    over: bool = False

    @classmethod
    def at(cls, start: Tensor) -> RunsState:
        """Before the first run, from vectors (B, P)."""
        none = torch.zeros(len(start), dtype=torch.bool)
        return cls(start.clone(), none, none.clone())


@dataclass
class FitState:
    """Where a fit stands: pass it back as ``resume`` to continue, or keep it in a file
    (:mod:`radarbook.fitting.checkpoint`).

    It is updated after every step, also while the fit runs. ``steps`` counts them. ``losses``,
    ``diverged``, ``converged`` and ``reason`` are as in :class:`FitResult`, of the last stage that
    ended; ``runs`` is there where there are several.
    """

    vectors: Tensor
    losses: Tensor
    diverged: Tensor
    converged: Tensor
    reason: str = "finished"
    stage: int = 0
    steps: int = 0
    within: StageState | None = None
    runs: RunsState | None = None
    history: list[Record] = field(default_factory=list)

    @classmethod
    def at(cls, start: FaceParameters, pose_range: PoseRange = TRAINED_POSE) -> FitState:
        """The beginning of a fit from ``start``, inside the ranges."""
        vectors = start.detach().to(dtype=torch.float64).clamped(pose_range).normalised()
        none = torch.zeros(len(start), dtype=torch.bool)
        unknown = torch.full((len(start),), float("nan"), dtype=torch.float64)
        return cls(vectors, unknown, none, none)


@dataclass(frozen=True)
class FitResult:
    """What a fit found.

    Attributes
    ----------
    parameters : FaceParameters
        The best iterate of each face in the last stage it was in, inside the ranges.
    losses : Tensor (B,)
        Its losses under the last objective.
    converged : Tensor (B,) bool
        The last stage that ran met its criterion, or its last Levenberg-Marquardt step lowered the
        loss by less than :data:`~radarbook.fitting.tuned.CONVERGED`. False where the fit was
        stopped.
    diverged : Tensor (B,) bool
        The loss ended far above where the stage began
        (:data:`~radarbook.fitting.tuned.DIVERGED`), or was not finite. The best iterate is kept in
        any case.
    reason : str
        ``"finished"`` (every stage met its criterion), ``"steps"`` (the last stage took all its
        steps), ``"limit"`` (as many steps as the call allowed) or ``"interrupted"``.
    history : list of Record
        Every step, for curves, and what each stage ended with.
    state : FitState
        To continue with.
    stages : tuple of str
        Names of the stages.
    steps, resumed : int
        Steps in all, and those that were done before this call.
    runs : int
        Runs that were begun.
    accepted : Tensor (B,) bool, optional
        Which faces the plan accepts (:class:`~radarbook.fitting.restarts.Plan`). None where it does
        not decide, or where the fit was stopped before its end.
    agreed : Tensor (B,) bool, optional
        On which faces two runs agreed. None where there was one run.
    kept : bool, optional
        Whether the state file holds this end of the fit. None without a state file.
    smoothed : FaceParameters, optional
        The faces of smoothed power, before phases moved them
        (:func:`~radarbook.fitting.plan.smoothed_faces`). None where there are none.
    """

    parameters: FaceParameters
    losses: Tensor
    converged: Tensor
    diverged: Tensor
    reason: str
    history: list[Record]
    state: FitState
    stages: tuple[str, ...]
    space: ParameterSpace
    steps: int
    resumed: int = 0
    runs: int = 1
    accepted: Tensor | None = None
    agreed: Tensor | None = None
    kept: bool | None = None
    smoothed: FaceParameters | None = None

    @property
    def stopped(self) -> bool:
        """Whether the fit was stopped before its end; it can be resumed."""
        return self.reason in ("limit", "interrupted")

    @property
    def seconds(self) -> float:
        """Wall clock of all steps."""
        return self.history[-1].seconds if self.history else 0.0

    def at(self, step: int) -> FaceParameters:
        """The parameters of record ``step`` of :attr:`history`."""
        return self.space.unpack(self.history[step].vectors)


def descend(
    stages: Sequence[Stage],
    start: FaceParameters,
    *,
    pose_range: PoseRange = TRAINED_POSE,
    limit: int | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    resume: FitState | None = None,
) -> FitResult:
    """Move faces through stages, each from where the one before ended.

    Parameters
    ----------
    stages : sequence of Stage
        Their objectives are of B faces.
    start : FaceParameters
        B faces. Parameters that a stage does not free keep their values.
    pose_range : PoseRange
        Bounds of position and orientation.
    limit : int
        Steps in this call, at most; the result can be resumed.
    callback
        Called with every :class:`Record`; returning False interrupts the fit, as Ctrl-C does.
    resume : FitState
        Of an interrupted fit with the same arguments; ``start`` then gives the numbers of
        coefficients alone. Of a finished one: its result again.

    Returns :class:`FitResult`. Every iterate stays inside the physical ranges and ±3 standard
    deviations. Raises :class:`~radarbook.errors.InputError` for objectives of another number of
    faces, and for unknown names of parameters. :class:`Stage` has an example.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> from radarbook.fitting.descend import Stage, descend
    >>> from radarbook.fitting.methods import Adam
    >>> from radarbook.fitting.objectives import ImageObjective
    >>> objective = ImageObjective(target=renderer.render(face), renderer=renderer)
    >>> stage = Stage(objective=objective, method=Adam(), steps=1, free=("translation",))
    >>> descend([stage], face.replace(translation=face.translation + 0.002)).steps
    1
    """
    walk = Walk.of(
        stages, start, pose_range=pose_range, limit=limit, callback=callback, resume=resume
    )
    with walk.progress(progress):
        walk.through(stages)
    return walk.result(walk.losses, walk.state.vectors)


@dataclass(kw_only=True)
class Walk:
    """A fit under way: its state, and what one call of it allows."""

    state: FitState
    stages: Sequence[Stage]
    space: ParameterSpace
    dtype: torch.dtype
    last: int | None
    callback: Callback | None
    reason: str = field(init=False)
    resumed: int = field(init=False)
    began: float = field(init=False)
    bar: Progress = field(init=False)

    @classmethod
    def of(
        cls,
        stages: Sequence[Stage],
        start: FaceParameters,
        *,
        pose_range: PoseRange,
        limit: int | None,
        callback: Callback | None,
        resume: FitState | None,
    ) -> Walk:
        """Through all stages of a fit, in their order."""
        for stage in stages:
            if stage.objective.faces != len(start):
                raise InputError(
                    f"start: expected {stage.objective.faces} faces as the target, "
                    f"found {len(start)}"
                )
        state = resume or FitState.at(start, pose_range)
        return cls(
            state=state,
            stages=stages,
            space=ParameterSpace.of(start, pose_range),
            dtype=start.shape.dtype,
            last=None if limit is None else state.steps + limit,
            callback=callback,
        )

    def __post_init__(self) -> None:
        self.reason, self.resumed = self.state.reason, self.state.steps
        earlier = self.state.history[-1].seconds if self.state.history else 0.0
        self.began = time.perf_counter() - earlier
        # Of the stage in which the fit is stopped, if it is: the state holds those of ended stages.
        self.losses, self.diverged = self.state.losses, self.state.diverged
        self.converged = self.state.converged

    @contextmanager
    def progress(self, shown: bool) -> Iterator[None]:
        """The bar of the fit; steps are made within."""
        with Progress(sum(stage.steps for stage in self.stages), "fit", shown=shown) as self.bar:
            self.bar.update(sum(stage.steps for stage in self.stages[: self.state.stage]))
            yield

    @property
    def stopped(self) -> bool:
        return self.reason in ("limit", "interrupted")

    def through(self, stages: Sequence[Stage], first: int = 0, ready: Tensor | None = None) -> bool:
        """From where the state stands to the end of ``stages``, which are numbered from ``first``
        on. Faces that are ``ready`` (B,) do not move. False if stopped."""
        for number, stage in enumerate(stages, first):
            if number < self.state.stage:
                continue
            self._through_one(stage, ready)
            if self.stopped:
                return False
        return True

    def _through_one(self, stage: Stage, ready: Tensor | None) -> None:
        state = self.state
        free = self.space.columns(stage.free, stage.modes)
        problem = Problem(objective=stage.objective, space=self.space, free=free)
        with alone() if stage.objective.one_thread else nullcontext():
            work = stage.method.begin(problem, state.vectors)
            if ready is not None:
                work.done = ready.clone()
            if state.within is None:
                infinite = torch.full((len(state.vectors),), float("inf"), dtype=torch.float64)
                never = torch.zeros(len(state.vectors), dtype=torch.long)
                state.within = StageState(infinite, state.vectors.clone(), never)
            within = state.within
            self.reason = self._steps(stage, work, within)
        state.vectors = within.vectors
        if within.first is not None and within.fell is not None:  # else not one step was done
            self.losses, last = within.best, state.history[-1].losses
            finite = torch.isfinite(last)
            self.diverged, self.converged = ~finite, work.done & finite
            if stage.method.monotone:
                self.diverged = self.diverged | (last > tuned.DIVERGED * within.first)
            if stage.method.converges_fast:
                self.converged = self.converged | (within.fell < tuned.CONVERGED)
            self.converged = self.converged & ~self.diverged
        if self.stopped:
            self.converged = torch.zeros_like(self.diverged)
            return
        self.bar.update(stage.steps - within.step)
        state.losses, state.diverged = self.losses, self.diverged
        state.converged, state.reason = self.converged, self.reason
        state.stage, state.within = state.stage + 1, None

    def _steps(self, stage: Stage, work: Iteration, within: StageState) -> str:
        """Steps of one stage, and why they end; the fit can be continued after any of them."""
        state = self.state
        if within.method is not None:
            work.load_state_dict(within.method)
        self.bar.update(within.step)
        try:
            while within.step < stage.steps and not bool(work.done.all()):
                if self.last is not None and state.steps >= self.last:
                    return "limit"
                finished = work.done.clone()
                losses, vectors = work.step()
                # A face that was finished before this step was not evaluated again.
                losses = torch.where(finished, within.best, losses)
                record = self._recorded(stage, work, within, losses, vectors)
                stale = within.stale >= stage.patience
                work.done = work.done | stale | ~torch.isfinite(losses)
                within.step += 1
                state.steps += 1
                # A copy: optimizers move their own tensors, and may be interrupted while they do.
                within.method = copy.deepcopy(work.state_dict())
                self.bar.update(1)
                self.bar.note(loss=f"{float(losses.mean()):.4g}")
                if self.callback is not None and self.callback(record) is False:
                    return "interrupted"
        except KeyboardInterrupt:
            return "interrupted"
        # The last move has not been evaluated yet.
        with torch.no_grad():
            losses = work.problem.losses(work.vectors).double()
            self._recorded(stage, work, within, losses, work.vectors.clone())
        return "finished" if bool(work.done.all()) else "steps"

    def _recorded(
        self, stage: Stage, work: Iteration, within: StageState, losses: Tensor, vectors: Tensor
    ) -> Record:
        """Note losses (B,) of vectors (B, P) in the state."""
        seconds = time.perf_counter() - self.began
        record = Record(self.state.stage, losses, vectors, seconds)
        self.state.history.append(record)
        if within.first is None:
            within.first = losses.clone()
        before = within.best
        gained = losses < before * (1 - stage.tolerance)
        within.stale = torch.where(gained, 0, within.stale + 1)
        better = losses < before if stage.method.monotone else ~work.done
        within.vectors = torch.where(better[:, None], vectors, within.vectors)
        within.best = torch.where(better, losses, before)
        # Infinite before the first record, of which nothing is known yet.
        fell = 1 - within.best / before.clamp(min=1e-300)
        within.fell = torch.where(torch.isfinite(before), fell, torch.inf)
        return record

    def result(self, losses: Tensor, vectors: Tensor) -> FitResult:
        """With losses (B,) and vectors (B, P) of the end."""
        state = self.state
        return FitResult(
            self.space.faces_inside(vectors).to(dtype=self.dtype),
            losses,
            self.converged,
            self.diverged,
            self.reason,
            list(state.history),
            state,
            tuple(stage.name or str(i) for i, stage in enumerate(self.stages)),
            self.space,
            state.steps,
            self.resumed,
        )
