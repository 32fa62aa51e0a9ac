"""A face from a recording through physics: start, fit by the schedule, and its uncertainty."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting import tuned
from radarbook.fitting.checkpoint import FitFile, tensor_digest
from radarbook.fitting.delay import COLUMN as DELAY
from radarbook.fitting.delay import with_delay
from radarbook.fitting.descend import Callback, FitResult, FitState, Record
from radarbook.fitting.plan import final_objective, physical_plan
from radarbook.fitting.restarts import restarts
from radarbook.fitting.schedule import SCHEDULE, Level
from radarbook.fitting.space import UNKNOWN, ParameterSpace
from radarbook.fitting.start import CoarseImager, centroid, mean_face_at
from radarbook.fitting.uncertainty import Uncertainty, uncertainty
from radarbook.radar.array import Array
from radarbook.radar.imaging import Grid
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import Waveform
from radarbook.threads import alone


def physical_renderer(
    model: MorphableModel,
    array: Array,
    waveform: Waveform,
    distance: float,
    *,
    bounces: int = tuned.BOUNCES,
) -> PhysicalRenderer:
    """A physical renderer with a recording's array and waveform (its grid is not used here)."""
    return PhysicalRenderer(
        model,
        array=array,
        waveform=waveform,
        grid=Grid.regular(0.3, 64, distance - 0.07, distance + 0.17, 33),
        distance=distance,
        bounces=bounces,
    )


def mean_face_start(
    signal: Tensor, renderer: PhysicalRenderer, mean: FaceParameters | None = None
) -> FaceParameters:
    """The mean face, frontal, moved to where each recording's (B, rx, tx, f) image is."""
    imager = CoarseImager(renderer)
    image = imager.image(signal)
    return mean_face_at(image, imager, mean or _mean_faces(renderer.model, len(image)))


def _mean_faces(model: MorphableModel, count: int) -> FaceParameters:
    return FaceParameters.neutral(
        count, n_shape=model.n_shape, n_expression=model.n_expression, dtype=torch.float64
    )


@alone()
def uncertainty_through_physics(
    signal: Tensor,
    renderer: PhysicalRenderer,
    found: FaceParameters,
    *,
    fit_delay: bool = False,
) -> Uncertainty:
    """Uncertainty of the one face that :func:`reconstruct_through_physics` found in a recording.

    ``signal`` and ``renderer`` as it has them; all that was unknown counts, as
    :func:`~radarbook.fitting.uncertainty.uncertainty` states it for the phases of all. With
    ``fit_delay`` a common delay was unknown, too, and has been removed from the signal. It holds
    for a face in the right minimum: of a face that is not accepted it says nothing.
    """
    whole = signal if signal.ndim == 4 else signal[None]
    objective = final_objective(whole, renderer, delay=fit_delay)
    part = objective.recorded(whole)
    unknown = [*UNKNOWN, DELAY] if fit_delay else [*UNKNOWN]
    free = tuple(name for name in unknown if name != "material")
    found = with_delay(found, 0.0) if fit_delay else found
    return uncertainty(objective, part, found, free=free)


@alone()
def reconstruct_through_physics(
    signal: Tensor,
    array: Array,
    waveform: Waveform,
    model: MorphableModel,
    *,
    distance: float = 0.30,
    start: FaceParameters | None = None,
    steps: int | None = None,
    schedule: Sequence[Level] = SCHEDULE,
    free: Sequence[str] = UNKNOWN,
    noise: float = 0.0,
    runs: int = tuned.RUNS,
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
    signal : Tensor (rx, tx, f) or (B, rx, tx, f), complex
        On ``array`` and ``waveform``; any common gain.
    model : MorphableModel
        Whose faces are fitted.
    distance : float
        Where an untranslated face would be, m; the translation is counted from it.
    steps : int
        At most so many steps in this call, 0 for none; None: as many as the schedule has.
    schedule : sequence of Level
        Coarse to fine; :data:`ENCODED` for a start some 2 mm off, :data:`NEAR` for one that is
        nearly correct.
    noise : float
        Normalised power of noise and channel errors that an accepted face may leave in addition to
        its diffuse reflection.
    runs : int
        From the start, at most.
    resume : FitState
        Of an interrupted fit with the same arguments; the fit continues there.
    state_file : path
        Where the fit's state is kept: read if the file exists, written every ten seconds or so
        and at the end, so that the same call continues a fit that was stopped in whatever way.
    renderer : PhysicalRenderer
        Whose settings (permittivity, diffuse seed, layer) the fit assumes, if not the usual ones.

    Raises :class:`~radarbook.errors.InputError` for a signal that does not fit, for a layer that is
    not in front of the face, and for a ``state_file`` that holds another fit.
    """
    array.require_signal(signal, len(waveform))
    if not bool(torch.isfinite(torch.view_as_real(signal)).all()):
        raise InputError("signal: expected finite values, found NaN or infinity")
    whole = signal if signal.ndim == 4 else signal[None]
    physical = renderer or physical_renderer(model, array, waveform, distance)
    kept = None
    if state_file is not None:
        if resume is not None:
            raise InputError("fit: expected resume or state_file, found both")
        problem = _problem(whole, physical, schedule, free, start) | {"noise": noise, "runs": runs}
        kept = FitFile(state_file, problem)
        resume = kept.load()
    imager = CoarseImager(physical)
    image = imager.image(whole)
    centres = centroid(image)
    if physical.layer is not None:
        back = float(torch.as_tensor(physical.layer.distance + physical.layer.thickness).max())
        if back >= float(centres[:, 2].min()):
            raise InputError(
                f"layer: expected in front of the face, whose image is {centres[:, 2].min():.3f} m "
                f"from the array, found its back at {back:.3f} m"
            )
    plan = physical_plan(
        whole, physical, schedule=schedule, free=free, centres=centres, runs=runs, noise=noise
    )
    if resume is not None:
        start = ParameterSpace(model.n_shape, model.n_expression).unpack(resume.vectors)
    elif start is None:
        start = mean_face_at(image, imager, _mean_faces(model, len(whole)))
    state = resume or FitState.at(start)

    def keeping(record: Record) -> bool | None:
        if kept is not None:
            kept.keep(state)
        return callback(record) if callback is not None else None

    result = restarts(plan, start, limit=steps, callback=keeping, progress=progress, resume=state)
    if kept is not None:
        kept.save(result.state)
        result = replace(result, kept=kept.failed is None)
    return result


def _problem(
    signal: Tensor,
    renderer: PhysicalRenderer,
    schedule: Sequence[Level],
    free: Sequence[str],
    start: FaceParameters | None,
) -> dict[str, Any]:
    """What decides a fit through physics, for the file of its state; JSON-able."""
    array, layer = renderer.array, renderer.layer
    return {
        "model": renderer.model.fingerprint,
        "signal": tensor_digest(signal),
        "array": tensor_digest(array.tx, array.rx),
        "waveform": tensor_digest(renderer.waveform.frequencies),
        "distance": renderer.distance,
        "permittivity": str(renderer.permittivity),
        "layer": None if layer is None else repr(layer),
        "bounces": renderer.bounces,
        "seed": renderer.seed,
        "free": list(free),
        "start": "mean face" if start is None else tensor_digest(start.normalised()),
        "schedule": {f"{i + 1}": level.description() for i, level in enumerate(schedule)},
    }
