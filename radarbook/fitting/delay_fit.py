"""Fit of a common delay together with the face.

A fit that ignores a delay bends the face until the wavefronts agree as well as they can. From there
one Gauss-Newton step of delay and face together (:func:`~radarbook.fitting.acceptance.delay_score`)
estimates most of the delay. It is removed from the recording and the face is fitted again, until
the step is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters, PoseRange
from radarbook.fitting import tuned
from radarbook.fitting.acceptance import delay_score
from radarbook.fitting.descend import FitResult
from radarbook.fitting.plan import final_objective
from radarbook.fitting.reconstruct import reconstruct_through_physics
from radarbook.fitting.schedule import ENCODED, REFINE, SCHEDULE, Level
from radarbook.radar.delay import range_of_delay, without_delay
from radarbook.radar.renderer import PhysicalRenderer


@dataclass(frozen=True)
class DelayFit:
    """A common delay, s, and the fit to the recording without it.

    ``removed`` are the delays removed by the successive steps.
    """

    delay: float
    result: FitResult
    removed: tuple[float, ...]


def fit_with_delay(
    signal: Tensor,
    renderer: PhysicalRenderer,
    *,
    start: FaceParameters | None = None,
    schedule: Sequence[Level] = SCHEDULE,
    refined: Sequence[Level] | None = None,
    steps: int | None = None,
    noise: float = 0.0,
    pose_range: PoseRange = VISIBLE_POSE,
    progress: bool = False,
) -> DelayFit:
    """Delay and face of one recording (rx, tx, f), through physics.

    Parameters
    ----------
    signal : Tensor (rx, tx, f)
        Its delay is up to :data:`~radarbook.fitting.tuned.LARGEST_DELAY`, of either sign.
    renderer : PhysicalRenderer
        With the recording's array and waveform.
    refined : sequence of Level
        Schedule of the fits after the first. None: :data:`~radarbook.fitting.schedule.ENCODED`
        after a large step of the delay, :data:`~radarbook.fitting.schedule.REFINE` otherwise.
    start, schedule, steps, noise, pose_range, progress
        As in :func:`~radarbook.fitting.reconstruct.reconstruct_through_physics`; ``schedule`` for
        the first fit, in one run. ``steps`` limits all fits together.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> from radarbook.fitting.delay_fit import fit_with_delay
    >>> from radarbook.fitting.schedule import SCHEDULE
    >>> found = fit_with_delay(
    ...     renderer.signal(face)[0], renderer, start=face, schedule=SCHEDULE[-1:], steps=0
    ... )
    >>> abs(found.delay) < 1e-10
    True
    """
    removed: list[float] = []
    done = 0
    while True:
        plain = without_delay(signal, renderer.waveform, sum(removed))
        result = reconstruct_through_physics(
            plain,
            renderer.array,
            renderer.waveform,
            renderer.model,
            distance=renderer.distance,
            start=start,
            schedule=schedule,
            steps=None if steps is None else steps - done,
            noise=noise,
            runs=1,
            pose_range=pose_range,
            progress=progress,
            renderer=renderer,
        )
        done += result.steps
        result = replace(result, steps=done)
        if result.stopped or len(removed) == tuned.DELAY_ROUNDS:
            break
        late = final_objective(plain[None], renderer, delay=True)
        step = delay_score(late, result.parameters).delay
        total = sum(removed)
        step = min(max(total + step, -tuned.LARGEST_DELAY), tuned.LARGEST_DELAY) - total
        if abs(step) < tuned.DELAY_SMALL:
            break
        removed.append(step)
        start = _nearer(result.parameters, step).clamped(pose_range)
        schedule = refined or (ENCODED if abs(step) > tuned.DELAY_LARGE else REFINE)
    return DelayFit(sum(removed), result, tuple(removed))


def _nearer(parameters: FaceParameters, seconds: float) -> FaceParameters:
    """The faces, moved to their apparent range after ``seconds`` of delay are removed."""
    translation = parameters.translation.clone()
    translation[:, 2] -= range_of_delay(seconds)
    return parameters.replace(translation=translation)
