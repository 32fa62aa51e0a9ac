"""Test-time optimization: the parameters of a face that explain a radar image or recording.

Everything but the parameters is frozen. The same loop serves any renderer: what differs is the
objective (:mod:`radarbook.fitting.objectives`) and the method (:mod:`radarbook.fitting.methods`),
and, through physics, that several objectives follow one another from coarse to fine.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.ambiguity import AmbiguitySearch
from radarbook.fitting.methods import (
    LBFGS,
    Adam,
    Ensemble,
    LevenbergMarquardt,
    Method,
    MethodName,
    PoseSearch,
)
from radarbook.fitting.objectives import ImageObjective, Objective
from radarbook.fitting.space import ParameterSpace
from radarbook.progress import Progress
from radarbook.radar.image import RadarImage
from radarbook.radar.renderer import Renderer
from radarbook.threads import alone

#: What is unknown in a recording; the dynamic range is a matter of display.
UNKNOWN = ("shape", "expression", "translation", "rotation", "material", "antenna_size")

#: Two runs agree if their losses differ by less than this share and the stage's ``alike`` holds; a
#: stage without one compares the coefficients (root mean square, in standard deviations).
ALIKE, CLOSE = 0.02, 0.1
#: A face has converged if the last step lowered its loss by less than this share. And it has
#: diverged if its loss ended this many times above where the stage began: which facets are visible
#: is decided again at the end, which alone moves a small loss by some per cent.
CONVERGED, DIVERGED = 1e-2, 1.5


@dataclass(frozen=True)
class Stage:
    """One objective, followed until it stops falling.

    ``steps`` at most; ``patience`` steps without the loss falling by a relative ``tolerance``
    finish a face. ``rate`` is the method's step size (None: its default), ``seed`` that of its
    random draws.

    ``accept`` begins another run. It is given parameters and losses (B,) of the best run so far and
    whether two runs agreed on it (B,), and returns which faces are accepted (B,). Accepted faces
    and faces on which two runs agree (``alike``, given both, returns it, (B,)) keep what they have;
    the others begin from the start once more. In the end each face has the run of lowest loss, so
    the last stages of all runs must have one objective.
    ``concludes`` marks the first stage after the runs, which goes on from the best of them. Its
    ``accept`` also decides about the face that the whole fit ends with
    (:attr:`FitResult.accepted`). Agreement alone never accepts a face.
    """

    objective: Objective
    steps: int
    method: MethodName = "adam"
    rate: float | None = None
    patience: int = 20
    tolerance: float = 1e-3
    free: tuple[str, ...] | None = None
    name: str = ""
    seed: int = 0
    accept: Callable[[FaceParameters, Tensor, Tensor], Tensor] | None = None
    alike: Callable[[FaceParameters, FaceParameters], Tensor] | None = None
    concludes: bool = False


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


@dataclass
class FitState:
    """Where a fit stands: pass it back to :func:`fit` to go on, or keep it in a file
    (:mod:`radarbook.fitting.state_file`).

    It is brought up to date after every step, also while :func:`fit` runs. ``steps`` counts them.
    ``losses``, ``diverged``, ``converged`` and ``reason`` are as in :class:`FitResult`, of the last
    stage that ended. ``start`` is where it began; ``best`` the losses and vectors of the best of
    the runs that have ended, ``agreed`` (B,) on which faces two runs agreed, and ``ready`` (B,)
    which faces need no other run (:class:`Stage`).
    """

    vectors: Tensor
    stage: int = 0
    within: StageState | None = None
    history: list[Record] = field(default_factory=list)
    losses: Tensor | None = None
    diverged: Tensor | None = None
    reason: str = "finished"
    start: Tensor | None = None
    best: tuple[Tensor, Tensor] | None = None
    ready: Tensor | None = None
    agreed: Tensor | None = None
    converged: Tensor | None = None
    steps: int = 0

    @classmethod
    def at(cls, start: FaceParameters) -> FitState:
        """The beginning of a fit from ``start``, inside the ranges."""
        vectors = start.detach().to(dtype=torch.float64).clamped().normalised()
        return cls(vectors, start=vectors.clone())

    def begin_again(self, stage: Stage, space: ParameterSpace) -> bool:
        """Compare the run that ended with the best one, and begin another with the faces that need
        it, if there are any."""
        self._compare(stage, space)
        assert self.start is not None
        assert self.best is not None
        assert self.ready is not None
        self.vectors = torch.where(self.ready[:, None], self.best[1], self.start)
        return not bool(self.ready.all())

    def conclude(self, stage: Stage, space: ParameterSpace) -> None:
        """Go on from the best run of each face; there will be no others."""
        assert self.losses is not None
        if stage.accept is not None and (self.ready is None or not bool(self.ready.all())):
            self._compare(stage, space)
        _, self.vectors = self._better(self.losses, self.vectors)
        self.best = self.ready = None

    def _compare(self, stage: Stage, space: ParameterSpace) -> None:
        """Keep the better run of each face, and note which faces need no other."""
        assert self.losses is not None
        assert stage.accept is not None
        # Losses alone do not show that two runs agree: where much of a recording is speckle, they
        # are nearly the same for all faces.
        if self.agreed is None:
            self.agreed = torch.zeros(len(self.vectors), dtype=torch.bool)
        if self.best is not None:
            alike = (self.losses - self.best[0]).abs() < ALIKE * self.best[0]
            if stage.alike is not None:
                alike &= stage.alike(space.unpack(self.vectors), space.unpack(self.best[1]))
            else:
                coefficients = (self.vectors - self.best[1])[:, : self.vectors.shape[1] - 9]
                alike &= coefficients.square().mean(1).sqrt() < CLOSE
            # A better run that resembles none before it is not the one that two agreed on. Faces
            # that needed no other run have not moved since.
            better = self.losses < self.best[0]
            agreed = torch.where(better, alike, self.agreed | alike)
            unmoved = torch.zeros_like(agreed) if self.ready is None else self.ready
            self.agreed = torch.where(unmoved, self.agreed, agreed)
        losses, vectors = self.best = self._better(self.losses, self.vectors)
        accepted = stage.accept(space.unpack(vectors), losses, self.agreed)
        self.ready = accepted | self.agreed

    def _better(self, losses: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Face by face the better of these and the best so far."""
        if self.best is None:
            return losses, vectors
        known, earlier = self.best
        take = losses < known
        return torch.where(take, losses, known), torch.where(take[:, None], vectors, earlier)


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
        loss by less than :data:`CONVERGED`. False where the fit was stopped.
    diverged : Tensor (B,) bool
        The loss ended far above where the stage began (:data:`DIVERGED`), or was not finite. The
        best iterate is kept in any case.
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
    accepted : Tensor (B,) bool, optional
        Which faces the concluding stage accepts (:class:`Stage`). None where no stage decides, or
        where the fit was stopped before its end.
    agreed : Tensor (B,) bool, optional
        On which faces two runs agreed. None where there was one run.
    kept : bool, optional
        Whether the state file holds this end of the fit. None without a state file.
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
    accepted: Tensor | None = None
    agreed: Tensor | None = None
    kept: bool | None = None

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


def fit(
    target: RadarImage | None,
    renderer: Renderer | None,
    start: FaceParameters,
    *,
    free: Sequence[str] = UNKNOWN,
    loss: str | Objective | list[Stage] = "both",
    method: MethodName = "adam",
    steps: int = 100,
    rate: float | None = None,
    patience: int = 20,
    tolerance: float = 1e-3,
    limit: int | None = None,
    callback: Callable[[Record], bool | None] | None = None,
    progress: bool = False,
    resume: FitState | None = None,
) -> FitResult:
    """Fit faces to targets, from ``start``, through a renderer.

    Parameters
    ----------
    target : RadarImage, optional
        B images to explain, with ``loss`` one of ``"both"``, ``"amplitude"``, ``"depth"``.
    renderer : Renderer, optional
        Through which; anything that renders, learned or physical.
    start : FaceParameters
        B faces. What is not ``free`` keeps its value.
    free : names
        Of fields (``shape``, ``expression``, ``translation``, ``rotation``, ``rendering``) or of
        parts of rendering (``dynamic_range``, ``material``, ``antenna_size``).
    loss : str, Objective or list of Stage
        What to make small; an objective brings its own target, and stages follow one another
        (their own ``free``, ``method``, ``steps`` then count).
    method : {"adam", "lbfgs", "lm", "ensemble", "search", "ambiguity"}
        Of :mod:`radarbook.fitting.methods`, or :mod:`radarbook.fitting.ambiguity`. ``"ensemble"``
        returns its last iterate, the others the one of lowest loss.
    steps, patience, tolerance
        A face is finished when its loss has not fallen by a relative ``tolerance`` for
        ``patience`` steps; the fit stops when all are, or after ``steps``.
    limit : int
        At most so many steps in this call; the result can be resumed.
    callback
        Called with every :class:`Record`; returning False interrupts the fit, as Ctrl-C does.
    resume : FitState
        Of an interrupted fit with the same arguments; ``start`` is then not looked at. Of a
        finished one: its result again.

    Returns :class:`FitResult`. Every iterate stays inside the physical ranges and ±3 standard
    deviations. Raises :class:`~radarbook.errors.InputError` for unknown names.
    """
    space = ParameterSpace.of(start)
    if isinstance(loss, str):
        if target is None or renderer is None:
            raise InputError("fit: an image loss needs a target image and a renderer")
        image_loss = ImageObjective(target, renderer, loss)
        stages = [Stage(image_loss, steps, method, rate, patience, tolerance)]
    elif isinstance(loss, list):
        stages = loss
    else:
        stages = [Stage(loss, steps, method, rate, patience, tolerance)]
    for stage in stages:
        if stage.objective.faces != len(start):
            raise InputError(
                f"start: expected {stage.objective.faces} faces as the target, found {len(start)}"
            )
    state = resume or FitState.at(start)
    resumed = state.steps
    last = None if limit is None else state.steps + limit
    bounds = space.bounds()
    reason = state.reason
    if state.losses is None or state.diverged is None or state.converged is None:
        state.losses = torch.full((len(start),), float("nan"), dtype=torch.float64)
        state.diverged = state.converged = torch.zeros(len(start), dtype=torch.bool)
    losses, diverged, converged = state.losses, state.diverged, state.converged
    began = time.perf_counter() - (state.history[-1].seconds if state.history else 0.0)
    with Progress(sum(stage.steps for stage in stages), "fit", shown=progress) as bar:
        bar.update(sum(stage.steps for stage in stages[: state.stage]))
        while state.stage < len(stages):
            stage = stages[state.stage]
            begins = state.within is None
            if begins and stage.concludes:
                state.conclude(stage, space)
            elif begins and stage.accept is not None and not state.begin_again(stage, space):
                # No face needs another run: on with what comes after them.
                rest = range(state.stage, len(stages))
                state.stage = next((i for i in rest if stages[i].concludes), len(stages))
                reason = "finished"
                continue
            columns = space.columns(stage.free or free)
            with _threads_of(stage.objective):
                work = make_method(
                    stage.method,
                    stage.objective,
                    state.vectors,
                    columns,
                    bounds,
                    space,
                    stage.rate,
                    stage.seed,
                )
            if state.ready is not None:
                work.done = state.ready.clone()
            within = state.within or StageState(
                torch.full((len(start),), float("inf"), dtype=torch.float64),
                state.vectors.clone(),
                torch.zeros(len(start), dtype=torch.long),
            )
            state.within = within
            with _threads_of(stage.objective):
                reason = _run(stage, work, state, within, began, last, callback, bar)
            state.vectors = within.vectors
            if within.first is not None and within.fell is not None:  # else not one step was done
                losses = within.best
                finite = torch.isfinite(state.history[-1].losses)
                diverged, converged = ~finite, work.done & finite
                if work.monotone:
                    diverged |= state.history[-1].losses > DIVERGED * within.first
                if isinstance(work, LevenbergMarquardt):
                    converged |= within.fell < CONVERGED
                converged &= ~diverged
            if reason in ("interrupted", "limit"):
                converged = torch.zeros_like(diverged)
                break
            bar.update(stage.steps - within.step)
            state.losses, state.diverged, state.converged = losses, diverged, converged
            state.reason = reason
            state.stage, state.within = state.stage + 1, None
    vector, stopped = state.vectors, state.stage < len(stages)
    if state.best is not None:
        # A run that was stopped has no loss that could be compared.
        losses, vector = state.best if stopped else state._better(losses, vector)
    found = space.unpack(vector).clamped()
    deciding = [s.accept for s in stages if s.concludes and s.accept is not None]
    accepted = None
    if deciding and not stopped:
        agreed = torch.zeros(len(start), dtype=torch.bool) if state.agreed is None else state.agreed
        accepted = deciding[-1](found, losses, agreed)
    return FitResult(
        found.to(dtype=start.shape.dtype),
        losses,
        converged,
        diverged,
        reason,
        list(state.history),
        state,
        tuple(stage.name or str(i) for i, stage in enumerate(stages)),
        space,
        state.steps,
        resumed,
        accepted,
        state.agreed,
    )


def _threads_of(objective: Objective) -> AbstractContextManager[None]:
    """One thread for each of an objective's operations; networks have large ones, and use more."""
    return nullcontext() if isinstance(objective, ImageObjective) else alone()


def _run(
    stage: Stage,
    work: Method,
    state: FitState,
    within: StageState,
    began: float,
    last: int | None,
    callback: Callable[[Record], bool | None] | None,
    bar: Progress,
) -> str:
    """Steps of one stage; ``state`` is such that the fit can be continued after any of them."""
    if within.method is not None:
        work.load_state_dict(within.method)
    bar.update(within.step)

    def note(losses: Tensor, vectors: Tensor) -> Record:
        record = Record(state.stage, losses, vectors, time.perf_counter() - began)
        state.history.append(record)
        if within.first is None:
            within.first = losses.clone()
        before = within.best
        gained = losses < before * (1 - stage.tolerance)
        within.stale = torch.where(gained, 0, within.stale + 1)
        better = losses < within.best if work.monotone else ~work.done
        within.vectors = torch.where(better[:, None], vectors, within.vectors)
        within.best = torch.where(better, losses, before)
        # Of the first record nothing is known yet: infinite before.
        fell = 1 - within.best / before.clamp(min=1e-300)
        within.fell = torch.where(torch.isfinite(before), fell, torch.inf)
        return record

    try:
        while within.step < stage.steps and not bool(work.done.all()):
            if last is not None and state.steps >= last:
                return "limit"
            finished = work.done.clone()
            losses, vectors = work.step()
            # A face that was finished before this step was not looked at again.
            record = note(torch.where(finished, within.best, losses), vectors)
            work.done = work.done | (within.stale >= stage.patience) | ~torch.isfinite(losses)
            within.step += 1
            state.steps += 1
            # A copy: optimizers move their own tensors, and may be interrupted while they do.
            within.method = copy.deepcopy(work.state_dict() | {"done": work.done})
            bar.update(1)
            bar.note(loss=f"{float(losses.mean()):.4g}")
            if callback is not None and callback(record) is False:
                return "interrupted"
    except KeyboardInterrupt:
        return "interrupted"
    # The last move has not been looked at yet.
    with torch.no_grad():
        note(work.losses(work.vector).double(), work.vector.clone())
    return "finished" if bool(work.done.all()) else "steps"


METHODS: dict[str, type[Method]] = {
    "adam": Adam,
    "lbfgs": LBFGS,
    "lm": LevenbergMarquardt,
    "ensemble": Ensemble,
    "search": PoseSearch,
    "ambiguity": AmbiguitySearch,
}


def make_method(name: str, *problem: Any) -> Method:
    """The method ``name`` for a problem: what :class:`~radarbook.fitting.methods.Method` takes."""
    if name not in METHODS:
        raise InputError(f"method: expected one of {', '.join(METHODS)}, found {name!r}")
    return METHODS[name](*problem)
