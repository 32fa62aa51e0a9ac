"""A face from a recording through physics: start, fit by the schedule, and its uncertainty."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters, PoseRange
from radarbook.fitting import tuned
from radarbook.fitting.checkpoint import FitFile, tensor_digest
from radarbook.fitting.delay import COLUMN as DELAY
from radarbook.fitting.delay import with_delay
from radarbook.fitting.descend import Callback, FitResult, FitState, Record
from radarbook.fitting.objectives import JointObjective, PhaseObjective, PowerObjective
from radarbook.fitting.plan import (
    final_objective,
    listed,
    paired,
    physical_plan,
    smoothed_faces,
    smoothed_objective,
)
from radarbook.fitting.restarts import restarts
from radarbook.fitting.schedule import Level, usual_schedule
from radarbook.fitting.space import UNKNOWN, ParameterSpace
from radarbook.fitting.start import CoarseImager, centroid, mean_face_between
from radarbook.fitting.uncertainty import Uncertainty, uncertainty
from radarbook.radar.array import Array
from radarbook.radar.channel_errors import ChannelErrors
from radarbook.radar.imaging import Grid
from radarbook.radar.polarisation import Polarisation
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import Waveform
from radarbook.threads import alone

#: Antennas lie in a plane if they extend by less than this share of its width across it; and it is
#: not the array's own x-y plane if it is tilted by more, degrees.
_FLAT, _TILTED = 0.05, 5.0


def physical_renderer(
    model: MorphableModel,
    array: Array,
    waveform: Waveform,
    distance: float,
    *,
    bounces: int = tuned.BOUNCES,
    channels: ChannelErrors | None = None,
) -> PhysicalRenderer:
    """A physical renderer with a recording's array and waveform (its grid is not used here)."""
    return PhysicalRenderer(
        model,
        array=array,
        waveform=waveform,
        grid=Grid.regular(0.3, 64, distance - 0.07, distance + 0.17, 33),
        distance=distance,
        bounces=bounces,
        channels=channels,
    )


def mean_face_start(
    signal: Tensor | Sequence[Tensor],
    renderer: PhysicalRenderer | Sequence[PhysicalRenderer],
    mean: FaceParameters | None = None,
) -> FaceParameters:
    """The mean face, frontal, moved to where each recording's (B, rx, tx, f) image is; with
    several arrays, to the mean of where they see it.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> from radarbook.fitting.reconstruct import mean_face_start
    >>> start = mean_face_start(renderer.signal(face), renderer)
    >>> bool(start.translation.norm() < 0.02)  # the face is in its usual place
    True
    """
    recordings = paired(signal, renderer)
    imagers = [CoarseImager(its) for _, its in recordings]
    images = [imager.image(one) for imager, (one, _) in zip(imagers, recordings, strict=True)]
    mean = mean or _mean_faces(recordings[0][1].model, len(images[0]))
    return mean_face_between(images, imagers, mean)


def _mean_faces(model: MorphableModel, count: int) -> FaceParameters:
    return FaceParameters.neutral(
        count, n_shape=model.n_shape, n_expression=model.n_expression, dtype=torch.float64
    )


@alone()
def uncertainty_through_physics(
    signal: Tensor | Sequence[Tensor],
    renderer: PhysicalRenderer | Sequence[PhysicalRenderer],
    found: FaceParameters,
    *,
    fit_delay: bool = False,
    smoothed: bool = False,
) -> Uncertainty:
    """Uncertainty of the one face that :func:`reconstruct_through_physics` found in a recording.

    ``signal`` and ``renderer`` as it has them; all that was unknown counts, as
    :func:`~radarbook.fitting.uncertainty.uncertainty` states it for the phases of all. With
    ``fit_delay`` a common delay was unknown, too, and has been removed from the signal. A face of
    ``smoothed`` power has the uncertainty of that objective instead, which is of models of many
    coefficients alone (:func:`~radarbook.fitting.plan.smoothed_objective`). It holds for a face in
    the right minimum: of a face of few coefficients that is not accepted it says nothing.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> from radarbook.fitting.reconstruct import uncertainty_through_physics
    >>> sure = uncertainty_through_physics(renderer.signal(face), renderer, face)
    >>> bool((sure.vertex_deviation(renderer.model) > 0).all())
    True
    """
    recordings = paired(signal, renderer)
    whole, renderers = [one for one, _ in recordings], [its for _, its in recordings]
    objective: PhaseObjective | PowerObjective | JointObjective[Any]
    if smoothed:
        objective = smoothed_objective(whole, renderers)
    else:
        objective = final_objective(whole, renderers, delay=fit_delay)
    parts = objective.parts if isinstance(objective, JointObjective) else (objective,)
    part = [one.recorded(signal) for one, signal in zip(parts, whole, strict=True)]
    unknown = [*UNKNOWN, DELAY] if fit_delay else [*UNKNOWN]
    free = tuple(name for name in unknown if name != "material")
    found = with_delay(found, 0.0) if fit_delay else found
    return uncertainty(objective, part, found, free=free)


@alone()
def reconstruct_through_physics(
    signal: Tensor | Sequence[Tensor],
    array: Array | Sequence[Array],
    waveform: Waveform | Sequence[Waveform],
    model: MorphableModel,
    *,
    distance: float = 0.30,
    start: FaceParameters | None = None,
    steps: int | None = None,
    schedule: Sequence[Level] | None = None,
    free: Sequence[str] = UNKNOWN,
    noise: float = 0.0,
    runs: int = tuned.RUNS,
    pose_range: PoseRange = VISIBLE_POSE,
    progress: bool = False,
    callback: Callback | None = None,
    resume: FitState | None = None,
    state_file: str | os.PathLike[str] | None = None,
    renderer: PhysicalRenderer | None = None,
) -> FitResult:
    """Shape, expression, pose, material and antenna size of the faces in raw recordings.

    No trained weights: from the mean face at the image's centroid (or ``start``), over samples of
    its pose, over ensembles of faces and by Levenberg-Marquardt on smoothed power and mean depth,
    coarse to fine, and in the last stage on the phases of the recording.
    :func:`~radarbook.fitting.reconstruction.reconstruct` adds layer, delay, deviations and text.

    Parameters
    ----------
    signal : Tensor (rx, tx, f) or (B, rx, tx, f), complex, or a sequence of them
        On ``array`` and ``waveform``; any common gain. Several recordings are of the same faces by
        arrays whose poses in the radar frame are known (:meth:`Array.moved
        <radarbook.radar.array.Array.moved>`); they are fitted together, each with its own gain.
    array, waveform
        Of the recording, or one each of several.
    model : MorphableModel
        Whose faces are fitted.
    distance : float
        Where an untranslated face would be, m; the translation is counted from it.
    steps : int
        At most so many steps in this call, 0 for none; None: as many as the schedule has.
    schedule : sequence of Level
        Coarse to fine; :data:`ENCODED` for a start some 2 mm off, :data:`REFINE` for one that is
        nearly correct.
    noise : float
        Normalised power of noise and channel errors that an accepted face may leave in addition to
        its diffuse reflection.
    runs : int
        From the start, at most.
    pose_range : PoseRange
        Bounds of position and orientation: how far a face may be from the frontal one at
        ``distance``. Its image is searched in as large a volume.
    resume : FitState
        Of an interrupted fit with the same arguments; the fit continues there.
    state_file : path
        Where the fit's state is kept: read if the file exists, written every ten seconds or so
        and at the end, so that the same call continues a fit that was stopped in whatever way.
    renderer : PhysicalRenderer
        Whose settings (permittivity, diffuse seed, layer) the fit assumes, if not the usual ones.
        Its array and waveform are those of the recording, if it is one.

    Raises :class:`~radarbook.errors.InputError` for a signal that does not fit, for recordings of
    different numbers of faces, for an array that lacks its pose, for a layer that is not in front
    of the face, and for a ``state_file`` that holds another fit.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> from radarbook.fitting.reconstruct import reconstruct_through_physics
    >>> from radarbook.fitting.schedule import SCHEDULE
    >>> found = reconstruct_through_physics(
    ...     renderer.signal(face), renderer.array, renderer.waveform, renderer.model,
    ...     schedule=SCHEDULE[-1:], steps=0,
    ... )
    >>> found.parameters.shape.shape
    torch.Size([1, 10])
    """
    schedule = schedule or usual_schedule(model.n_shape + model.n_expression)
    signals, arrays = listed(signal, Tensor), listed(array, Array)
    waveforms = listed(waveform, Waveform)
    if not len(signals) == len(arrays) == len(waveforms):
        raise InputError(
            "joint fit: expected an array and a waveform for each recording, found "
            f"{len(signals)}, {len(arrays)} and {len(waveforms)}"
        )
    for one, its, steps_of in zip(signals, arrays, waveforms, strict=True):
        its.require_signal(one, len(steps_of))
        if not bool(torch.isfinite(torch.view_as_real(one)).all()):
            raise InputError("signal: expected finite values, found NaN or infinity")
    if len(signals) > 1:
        require_poses(arrays)
    usual = renderer or physical_renderer(model, arrays[0], waveforms[0], distance)
    renderers = [usual]
    if len(signals) > 1:
        pairs = zip(arrays, waveforms, strict=True)
        renderers = [usual.replace(array=a, waveform=w) for a, w in pairs]
    recordings = paired(signals, renderers)
    whole = [one for one, _ in recordings]
    kept = None
    if state_file is not None:
        if resume is not None:
            raise InputError("fit: expected resume or state_file, found both")
        problem = _problem(recordings, schedule, free, start) | {
            "noise": noise,
            "runs": runs,
            "pose range": [*pose_range.translation, *pose_range.rotation],
        }
        kept = FitFile(state_file, problem)
        resume = kept.load()
    imagers = [CoarseImager(its, pose_range) for its in renderers]
    images = [imager.image(one) for imager, one in zip(imagers, whole, strict=True)]
    centres = [centroid(image) for image in images]
    if usual.layer is not None:
        back = float(torch.as_tensor(usual.layer.distance + usual.layer.thickness).max())
        nearest = min(float(centre[:, 2].min()) for centre in centres)
        if back >= nearest:
            raise InputError(
                f"layer: expected in front of the face, whose image is {nearest:.3f} m "
                f"from the array, found its back at {back:.3f} m"
            )
    plan = physical_plan(
        whole,
        renderers,
        schedule=schedule,
        free=free,
        centres=centres,
        runs=runs,
        noise=noise,
        pose_range=pose_range,
    )
    if resume is not None:
        start = ParameterSpace(model.n_shape, model.n_expression).unpack(resume.vectors)
    elif start is None:
        start = mean_face_between(images, imagers, _mean_faces(model, len(whole[0])), pose_range)
    else:
        start = start.to(dtype=torch.float64)  # as a resumed fit's
    state = resume or FitState.at(start, pose_range)

    def keeping(record: Record) -> bool | None:
        if kept is not None:
            kept.keep(state)
        return callback(record) if callback is not None else None

    result = restarts(plan, start, limit=steps, callback=keeping, progress=progress, resume=state)
    if kept is not None:
        kept.save(result.state)
        result = replace(result, kept=kept.failed is None)
    return replace(result, smoothed=smoothed_faces(plan, result))


def require_poses(arrays: Sequence[Array]) -> None:
    """Raise :class:`~radarbook.errors.InputError` for an array whose antennas lie in a plane, but
    not parallel to the x-y plane of its own frame: it was moved, and its pose is missing."""
    for number, array in enumerate(arrays):
        antennas = torch.cat([array.own().tx, array.own().rx]).detach()
        _, extent, axes = torch.linalg.svd(antennas - antennas.mean(0), full_matrices=False)
        flat = len(extent) == 3 and float(extent[2]) < _FLAT * float(extent[1])
        tilt = math.degrees(math.acos(min(1.0, float(axes[2, 2].abs())))) if flat else 0.0
        if tilt > _TILTED:
            raise InputError(
                f"joint fit: recording {number + 1}: expected an array with its pose (rotation, "
                f"origin), found antennas in a plane tilted by {tilt:.0f} degrees from its own "
                "x-y plane"
            )


def _problem(
    recordings: Sequence[tuple[Tensor, PhysicalRenderer]],
    schedule: Sequence[Level],
    free: Sequence[str],
    start: FaceParameters | None,
) -> dict[str, Any]:
    """What decides a fit through physics, for the file of its state; JSON-able."""
    renderer = recordings[0][1]
    layer, arrays = renderer.layer, [its.array for _, its in recordings]
    poses = [(a.rotation, a.origin) for a in arrays if a.is_moved]
    pairs = [a.pairs for a in arrays if a.pairs is not None]
    # Named only where it is not the usual one: states written before it was one stay readable.
    polarisation = renderer.polarisation
    named = {} if polarisation == Polarisation() else {"polarisation": repr(polarisation)}
    if renderer.channels is not None:
        named["channels"] = repr(renderer.channels)
    return {
        **named,
        "model": renderer.model.fingerprint,
        "signal": tensor_digest(*(one for one, _ in recordings)),
        "array": tensor_digest(*(x for a in arrays for x in (a.tx, a.rx)), *sum(poses, ()), *pairs),
        "waveform": tensor_digest(*(its.waveform.frequencies for _, its in recordings)),
        "distance": renderer.distance,
        "permittivity": str(renderer.permittivity),
        "layer": None if layer is None else repr(layer),
        "bounces": renderer.bounces,
        "smooth": renderer.smooth,
        "seed": renderer.seed,
        "free": list(free),
        "start": "mean face" if start is None else tensor_digest(start.normalised()),
        "schedule": {f"{i + 1}": level.description() for i, level in enumerate(schedule)},
    }
