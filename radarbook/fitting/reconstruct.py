"""A face from a recording through physics, or from an image through trained networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.fit import UNKNOWN, FitResult, FitState, Record, Stage, fit
from radarbook.fitting.objectives import PowerObjective
from radarbook.fitting.physics import LeanPhysics, decimate
from radarbook.fitting.start import CoarseImager, centroid, mean_face_at
from radarbook.radar.array import Array
from radarbook.radar.image import RadarImage
from radarbook.radar.imaging import Grid
from radarbook.radar.renderer import PhysicalRenderer, Renderer
from radarbook.radar.simulate import FACET_SIZE
from radarbook.radar.waveform import Waveform

POSE = ("translation", "rotation")


@dataclass(frozen=True)
class Level:
    """One stage of a fit through physics: lengths in metres, see :class:`PowerObjective`.

    ``free`` None: all that the fit leaves free. ``facet_size``: how finely the model's facets are
    divided; infinite takes them as they are.
    """

    name: str
    smoothing: float
    pixel: float
    plane: float
    steps: int
    prior: float
    facet_size: float = math.inf
    free: tuple[str, ...] | None = None


#: From a start that is right within a millimetre or three and a degree or two.
NEAR = (
    Level("6 mm", 0.006, 0.0060, 0.0100, 8, 0.01),
    Level("3 mm", 0.003, 0.0045, 0.0075, 8, 0.005),
    Level("0 mm", 0.000, 0.0045, 0.0075, 6, 0.002),
    Level("0 mm, fine facets", 0.000, 0.0045, 0.0075, 8, 0.002, FACET_SIZE),
)
#: From the mean face at the image's centroid: the pose first.
SCHEDULE = (
    Level("20 mm, pose", 0.020, 0.0075, 0.0120, 8, 0.05, free=POSE),
    Level("13 mm", 0.013, 0.0060, 0.0100, 8, 0.05),
    *NEAR,
)


class Predictor(Protocol):
    """An encoder or autoencoder."""

    def predict(self, image: RadarImage) -> FaceParameters: ...


def physical_renderer(
    model: MorphableModel, array: Array, waveform: Waveform, distance: float
) -> PhysicalRenderer:
    """A physical renderer with a recording's array and waveform (its grid is not used here)."""
    grid = Grid.regular(0.3, 64, distance - 0.07, distance + 0.17, 33)
    return PhysicalRenderer(model, array=array, waveform=waveform, grid=grid, distance=distance)


def mean_face_start(
    signal: Tensor, renderer: PhysicalRenderer, mean: FaceParameters | None = None
) -> FaceParameters:
    """The mean face, frontal, moved to where each recording's (B, rx, tx, f) image is."""
    imager = CoarseImager(renderer)
    image = imager.image(signal)
    if mean is None:
        mean = FaceParameters.neutral(
            len(image),
            n_shape=renderer.model.n_shape,
            n_expression=renderer.model.n_expression,
            dtype=torch.float64,
        )
    return mean_face_at(image, imager, mean)


def physical_stages(
    signal: Tensor,
    renderer: PhysicalRenderer,
    *,
    schedule: Sequence[Level] = SCHEDULE,
    free: Sequence[str] = UNKNOWN,
    centres: Tensor | None = None,
    antennas: int = 2,
    depth: float = 0.165,
) -> list[Stage]:
    """The coarse-to-fine stages of a fit to whole recordings (B, rx, tx, f).

    ``centres`` (B, 3) m is about where the faces' images are; None: their centroids. ``antennas``
    and ``depth`` as in :func:`~radarbook.fitting.physics.decimate`: with fewer samples ghosts of
    the face enter its image, but target and fit have them alike, so a noiseless fit loses little.
    """
    whole = (signal if signal.ndim == 4 else signal[None]).to(torch.complex64)
    decimation = decimate(renderer.array, renderer.waveform, antennas=antennas, depth=depth)
    if centres is None:
        centres = centroid(CoarseImager(renderer).image(whole))
    physics = {
        size: LeanPhysics(renderer, decimation, facet_size=size)
        for size in {level.facet_size for level in schedule}
    }
    stages = []
    for level in schedule:
        unknown = tuple(n for n in free if level.free is None or n in level.free)
        if not unknown:
            continue
        objective = PowerObjective(
            decimation(whole),
            physics[level.facet_size],
            centres,
            smoothing=level.smoothing,
            pixel=level.pixel,
            plane=level.plane,
            prior=level.prior,
        )
        stages.append(
            Stage(objective, level.steps, "lm", patience=level.steps, free=unknown, name=level.name)
        )
    return stages


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
    progress: bool = False,
    callback: Callable[[Record], bool | None] | None = None,
    resume: FitState | None = None,
    renderer: PhysicalRenderer | None = None,
) -> FitResult:
    """Shape, expression, pose, material and antenna size of the faces in raw recordings.

    No trained weights: from the mean face at the image's centroid (or ``start``), by
    Levenberg-Marquardt on smoothed power and mean depth, coarse to fine.

    Parameters
    ----------
    signal : Tensor (rx, tx, f) or (B, rx, tx, f), complex
        On ``array`` and ``waveform``; any common gain.
    model : MorphableModel
        Whose faces are looked for.
    distance : float
        Where an untranslated face would be, m; the translation is counted from it.
    steps : int
        At most so many steps in all; None: as many as the schedule has.
    schedule : sequence of Level
        Coarse to fine; :data:`NEAR` for a start that is nearly right.
    renderer : PhysicalRenderer
        Whose settings (permittivity, diffuse seed) the fit assumes, if not the usual ones.

    Raises :class:`~radarbook.errors.InputError` for a signal that does not fit.
    """
    wanted = (len(array.rx), len(array.tx), len(waveform))
    if signal.ndim not in (3, 4) or tuple(signal.shape[-3:]) != wanted or not signal.is_complex():
        raise InputError(
            f"signal: expected complex (rx, tx, frequency) = {wanted}, "
            f"found {signal.dtype} {tuple(signal.shape)}"
        )
    if not bool(torch.isfinite(torch.view_as_real(signal)).all()):
        raise InputError("signal: expected finite values, found NaN or infinity")
    whole = signal if signal.ndim == 4 else signal[None]
    physical = renderer or physical_renderer(model, array, waveform, distance)
    stages = physical_stages(whole, physical, schedule=schedule, free=free)
    if start is None:
        start = mean_face_start(whole, physical)
    count = 0

    def limited(record: Record) -> bool | None:
        nonlocal count
        count += 1
        go_on = callback(record) if callback is not None else None
        return False if steps is not None and count >= steps else go_on

    return fit(None, None, start, loss=stages, callback=limited, progress=progress, resume=resume)


def reconstruct_through_learned(
    image: RadarImage,
    encoder: Predictor,
    renderer: Renderer,
    steps: int = 100,
    *,
    rate: float = 0.02,
    free: Sequence[str] = UNKNOWN,
    loss: str = "both",
    progress: bool = False,
    callback: Callable[[Record], bool | None] | None = None,
) -> FitResult:
    """As in the paper: from the encoder's prediction along the gradient of the image loss.

    The networks' weights are frozen; the parameters alone move, by Adam. Returns the iterate of
    lowest image loss, which is never above the start's.
    """
    for network in (encoder, renderer):
        if isinstance(network, torch.nn.Module):
            network.eval().requires_grad_(False)
    start = encoder.predict(image)
    return fit(
        image,
        renderer,
        start,
        free=free,
        loss=loss,
        method="adam",
        steps=steps,
        rate=rate,
        progress=progress,
        callback=callback,
    )
