"""From a schedule of levels to the runs of a fit to recordings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters, PoseRange
from radarbook.fitting import tuned
from radarbook.fitting.acceptance import accepted, plausible
from radarbook.fitting.decimation import decimate
from radarbook.fitting.delay import DelayedPhysics
from radarbook.fitting.descend import FitResult, Stage
from radarbook.fitting.facet_motion import FacetMotion
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import STEEP, STEEPEST, ReducedPhysics
from radarbook.fitting.methods import LevenbergMarquardt
from radarbook.fitting.objectives import (
    JointObjective,
    JointPhaseObjective,
    Objective,
    PhaseObjective,
    Phases,
    PowerObjective,
)
from radarbook.fitting.objectives.joint import joint, require_same_faces
from radarbook.fitting.restarts import Plan
from radarbook.fitting.schedule import WEIGHTS, Fidelity, Level, usual_schedule
from radarbook.fitting.space import UNKNOWN
from radarbook.fitting.start import CoarseImager, centroid
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.threads import alone


@alone()
def physical_plan(
    signal: Tensor | Sequence[Tensor],
    renderer: PhysicalRenderer | Sequence[PhysicalRenderer],
    *,
    schedule: Sequence[Level] | None = None,
    free: Sequence[str] = UNKNOWN,
    centres: Tensor | Sequence[Tensor] | None = None,
    antennas: int = tuned.ANTENNAS,
    depth: float = tuned.DEPTH,
    runs: int = tuned.RUNS,
    delay: bool = False,
    noise: float = 0.0,
    pose_range: PoseRange = VISIBLE_POSE,
) -> Plan:
    """The coarse-to-fine stages of a fit to whole recordings, and its runs.

    A run ends with the last search among minima by all phases; phases decide whether a face is
    accepted. What comes after continues the best run: by highlights alone a wrong face sometimes
    has the lower residual. With ensembles, a face that is not accepted is fitted again with other
    samples.

    Parameters
    ----------
    signal : Tensor (B, rx, tx, f), complex, or a sequence of them
        Recordings with the renderer's array and waveform. Several: of the same faces by several
        arrays, which are fitted together
        (:class:`~radarbook.fitting.objectives.JointObjective`).
    renderer : PhysicalRenderer, or a sequence
        For each recording the one with its array and waveform.
    schedule : sequence of Level
    free : names
        Unknowns of the fit; each stage has those that it can determine.
    centres : Tensor (B, 3), or a sequence, optional
        About where the faces' images are, m, in the array's own frame; None: their centroids. What
        is more than 0.08 m nearer or farther is removed before frequencies are left out
        (:class:`RangeGate`).
    antennas, depth
        As in :func:`~radarbook.fitting.decimation.decimate`. With fewer samples ghosts of the face
        enter its image. Target and fit share them, so a third of the antennas is enough for a near
        start; from the mean face such a fit stops in local minima.
    runs : int
        At most.
    delay : bool
        Signals have a common delay (:mod:`radarbook.fitting.delay`).
    noise : float
        Normalised power of noise and channel errors that an accepted face may leave.
    pose_range : PoseRange
        Bounds of position and orientation.

    Raises :class:`~radarbook.errors.InputError` for other numbers of recordings than renderers, or
    of faces in one than in another.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.plan import physical_plan
    >>> from radarbook.fitting.restarts import restarts
    >>> from radarbook.fitting.schedule import Level
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.random_parameters([0], 0, 10, 7)
    >>> level = Level("14 mm", smoothing=(0.0135,), steps=1, fidelity="coarse")
    >>> plan = physical_plan(renderer.signal(face), renderer, schedule=[level])
    >>> [stage.name for stage in plan.stages]
    ['14 mm']
    >>> restarts(plan, face).steps
    1
    """
    recordings = paired(signal, renderer)
    model = recordings[0][1].model
    schedule = schedule or usual_schedule(model.n_shape + model.n_expression)
    middles: Sequence[Tensor | None] = [None] * len(recordings)
    if centres is not None:
        middles = listed(centres, Tensor)
    each = [
        _objectives(one, its, schedule, centre, decimate_by=(antennas, depth), delay=delay)
        for (one, its), centre in zip(recordings, middles, strict=True)
    ]
    objectives = [
        [joint(way) for way in zip(*ways, strict=True)] for ways in zip(*each, strict=True)
    ]
    # The number of levels of a run.
    samples = any(level.samples_faces for level in schedule)
    decisive = [i for i, level in enumerate(schedule) if level.searches_cycles]
    if samples and not decisive:
        decisive = [i for i, level in enumerate(schedule) if not level.smoothing][:1]
    judge = objectives[decisive[-1]][0] if decisive and set(free) != {"material"} else None
    count = decisive[-1] + 1 if judge is not None else len(schedule)
    pairs = list(zip(schedule, objectives, strict=True))
    tried = []
    for run in range(runs if samples and judge is not None else 1):
        # Both ways to weight from the centroid, then both from the pose that a search finds.
        levels = [p for p in pairs[:count] if run >= len(WEIGHTS) or not p[0].searches_pose]
        tried.append(_stages(levels, free, run))
    last = _stages(pairs[count:], free)
    if judge is None:
        return Plan(runs=tuple(tried), last=last, pose_range=pose_range)
    assert isinstance(judge, Phases)
    return Plan(
        runs=tuple(tried),
        last=last,
        accept=partial(accepted, judge, noise),
        same=_same(judge),
        pose_range=pose_range,
    )


def smoothed_faces(plan: Plan, result: FitResult) -> FaceParameters | None:
    """(B) the faces of smoothed power, before phases moved them, in the best run of each.

    None where a plan has no stage of smoothed power before one of phases, or where the fit did not
    come to the end of a run.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.plan import physical_plan, smoothed_faces
    >>> from radarbook.fitting.restarts import restarts
    >>> from radarbook.fitting.schedule import Level
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.random_parameters([0], 0, 10, 7)
    >>> levels = [Level("14 mm", smoothing=(0.0135,), fidelity="coarse"), Level("phases")]
    >>> plan = physical_plan(renderer.signal(face), renderer, schedule=levels)
    >>> found = smoothed_faces(plan, restarts(plan, face))
    >>> found.shape.shape
    torch.Size([1, 10])
    """
    losses, vectors = [], []
    first = 0
    # Stages that continue the best run belong to it, where there is one run.
    runs = plan.runs if len(plan.runs) > 1 else (plan.runs[0] + plan.last,)
    for stages in runs:
        phases = [n for n, stage in enumerate(stages) if isinstance(stage.objective, Phases)]
        if not phases or phases[0] == 0:
            return None
        last = first + len(stages) - 1
        ends = [r.losses for r in result.history if r.stage == last]
        before = [r.vectors for r in result.history if r.stage == first + phases[0] - 1]
        first = last + 1
        if ends and before:
            finite = torch.stack(ends).nan_to_num(float("inf"))
            losses.append(finite.amin(0))
            vectors.append(before[-1])
    if not losses:
        return None
    best = torch.stack(losses).argmin(0)
    mine = torch.stack(vectors)[best, torch.arange(len(best))]
    return result.space.faces_inside(mine).to(dtype=result.parameters.shape.dtype)


T = TypeVar("T")


def listed(value: T | Sequence[T], kind: type[T]) -> list[T]:
    """What may be one or several, as a list."""
    return [value] if isinstance(value, kind) else list(cast("Sequence[T]", value))


def paired(
    signal: Tensor | Sequence[Tensor], renderer: PhysicalRenderer | Sequence[PhysicalRenderer]
) -> list[tuple[Tensor, PhysicalRenderer]]:
    """Recordings (B, rx, tx, f), one or several, each with its renderer.

    Raises :class:`~radarbook.errors.InputError` as :func:`physical_plan`.
    """
    signals, renderers = listed(signal, Tensor), listed(renderer, PhysicalRenderer)
    if len(signals) != len(renderers) or not signals:
        raise InputError(
            f"joint fit: expected a renderer for each recording, found {len(signals)} recordings "
            f"and {len(renderers)} renderers"
        )
    whole = [its.array.batched(one) for one, its in zip(signals, renderers, strict=True)]
    require_same_faces([len(one) for one in whole])
    return list(zip(whole, renderers, strict=True))


def _objectives(
    signal: Tensor,
    renderer: PhysicalRenderer,
    schedule: Sequence[Level],
    centres: Tensor | None,
    *,
    decimate_by: tuple[int, float],
    delay: bool,
) -> list[list[PowerObjective | PhaseObjective]]:
    """Of each level; of power, one for each way to weight it."""
    made = DelayedPhysics if delay else ReducedPhysics
    device = renderer.model.triangles.device
    whole = signal.to(device, torch.complex64)
    antennas, depth = decimate_by
    decimation = decimate(renderer.array, renderer.waveform, antennas=antennas, depth=depth)
    if centres is None:
        centres = centroid(CoarseImager(renderer).image(whole))
    everything = made(renderer, decimation)
    reduced, steep = (everything.tilted(t) for t in (STEEP, STEEPEST))
    physics: dict[Fidelity, ReducedPhysics] = {
        "coarse": made(renderer, decimation, facet_size=math.inf, tilts=STEEPEST, coarse=True),
        "reduced": reduced,
        "full": everything,
        "exact": everything,
    }
    modes = renderer.model.n_shape + renderer.model.n_expression
    many = modes > tuned.FIRST_ORDER_MODES and renderer.array.pairs is None
    part = decimation.gated(whole, renderer.array.own(), renderer.waveform, centres)
    focus: list[RangeFocus] | None = None
    objectives: list[list[PowerObjective | PhaseObjective]] = []
    for level in schedule:
        # Smoothed features need less exact derivatives than phases do.
        rendered = steep if level.smoothing else reduced
        changes = FacetMotion(rendered) if many else rendered
        common: dict[str, Any] = {
            "prior": level.prior,
            "noise": tuned.NOISE,
            "changes": changes if level.fidelity == "full" else None,
            "independent": level.independent,
        }
        through = part, physics[level.fidelity], centres
        ways: list[PowerObjective | PhaseObjective] = []
        if level.smoothing:
            for weights in WEIGHTS:
                weighted = {"speckle_db": level.speckle_db, **weights, **common}
                ways.append(
                    PowerObjective.of(*through, smoothing=level.smoothing, focus=focus, **weighted)
                )
                focus = ways[-1].focus
        else:
            ways.append(PhaseObjective.of(*through, contrast=level.contrast, focus=focus, **common))
            focus = ways[-1].focus
        objectives.append(ways)
    return objectives


def _stages(
    levels: Sequence[tuple[Level, Sequence[Objective]]],
    free: Sequence[str],
    run: int = 0,
) -> tuple[Stage, ...]:
    """Of one run; levels without unknowns are left out."""
    stages = []
    for level, ways in levels:
        unknown = set(UNKNOWN) if level.smoothing else set(UNKNOWN) - {"material"}
        if level.moves_pose_alone:
            unknown = {"translation", "rotation"}
        mine = tuple(name for name in free if name in unknown)
        if mine:
            stages.append(
                Stage(
                    objective=ways[run % len(ways)],
                    method=level.method.seeded(run),
                    steps=level.steps,
                    free=mine,
                    modes=level.modes,
                    patience=level.steps,
                    name=level.name if run == 0 else f"{level.name}, run {run + 1}",
                )
            )
    return tuple(stages)


def _same(objective: Phases) -> Callable[[FaceParameters, FaceParameters], Tensor]:
    """Whether two faces are in the same minimum: no phase cycle of a highlight is between them."""

    def same(one: FaceParameters, other: FaceParameters) -> Tensor:
        coherent = objective.coherence(one, other) > tuned.SAME_MINIMUM
        return coherent & plausible(one)

    return same


def smoothed_objective(
    signal: Tensor | Sequence[Tensor],
    renderer: PhysicalRenderer | Sequence[PhysicalRenderer],
    schedule: Sequence[Level] | None = None,
) -> PowerObjective | JointObjective[PowerObjective]:
    """The last smoothed power of a schedule, of recordings (B, rx, tx, f) of one or several arrays:
    what a fit through physics knows before phases.

    Raises :class:`~radarbook.errors.InputError` for a schedule without smoothed power.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> from radarbook.fitting.plan import smoothed_objective
    >>> smoothed_objective(renderer.signal(face), renderer).faces
    1
    """
    model = listed(renderer, PhysicalRenderer)[0].model
    schedule = schedule or usual_schedule(model.n_shape + model.n_expression)
    last = [level for level in schedule if level.smoothing][-1:]
    if not last:
        raise InputError("schedule: expected a level of smoothed power, found none")
    plain = replace(last[0], method=LevenbergMarquardt())
    objective = physical_plan(signal, renderer, schedule=[plain]).stages[0].objective
    assert isinstance(objective, PowerObjective | JointObjective)
    return objective


def final_objective(
    signal: Tensor | Sequence[Tensor],
    renderer: PhysicalRenderer | Sequence[PhysicalRenderer],
    *,
    delay: bool = False,
) -> PhaseObjective | JointPhaseObjective:
    """The phases of all pixels, of recordings (B, rx, tx, f) of one or several arrays: what a fit
    through physics ends with.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> from radarbook.fitting.plan import final_objective
    >>> objective = final_objective(renderer.signal(face), renderer)
    >>> aside = face.replace(translation=face.translation + 1e-3)
    >>> here, there = (objective.residuals(f).square().sum() for f in (face, aside))
    >>> bool(here < there)
    True
    """
    model = listed(renderer, PhysicalRenderer)[0].model
    last = usual_schedule(model.n_shape + model.n_expression)[-1:]
    plan = physical_plan(signal, renderer, schedule=last, delay=delay)
    objective = plan.stages[-1].objective
    assert isinstance(objective, PhaseObjective | JointPhaseObjective)
    return objective
