"""Where a fit starts: the mean face where the image is, or what an encoder says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import (
    TRAINED_POSE,
    VISIBLE_POSE,
    FaceParameters,
    PoseRange,
)
from radarbook.fitting import tuned
from radarbook.fitting.decimation import decimate
from radarbook.fitting.forward import STEEPEST, ReducedPhysics
from radarbook.radar.gate import RangeGate
from radarbook.radar.image import RadarImage, image_from_volume
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.renderer import PhysicalRenderer, Renderer
from radarbook.radar.waveform import C0


def centroid(image: RadarImage) -> Tensor:
    """(B, 3) m, radar frame: mean position of the pixels above -20 dB, weighted by dB above it.

    Weighted by decibels because by power one highlight would be all there is.
    """
    weight = _weight(image)
    weight = weight / weight.sum((1, 2), keepdim=True).clamp(min=1e-12)
    x = (weight * image.x).sum((1, 2))
    y = (weight * image.y[:, None]).sum((1, 2))
    z = (weight * image.depth).sum((1, 2))
    return torch.stack([x, y, z], dim=1)


def _weight(image: RadarImage) -> Tensor:
    """(B, H, W) of pixels, for a centroid."""
    level = torch.clamp(image.dynamic_range_db, min=tuned.CENTROID_DB)[:, None, None]
    return (image.amplitude_db - level).clamp(min=0) * image.mask


def foreground(image: RadarImage, reach: float = tuned.FOREGROUND) -> RadarImage:
    """The image without pixels that are more than ``reach`` m behind the nearest ones.

    A face is nearer than the neck and the shoulders below it, which would draw a centroid down by
    as much as 12 cm. The nearest pixels hold the first tenth
    (:data:`~radarbook.fitting.tuned.NEAREST`) of the weight of a centroid, counted by depth: single
    pixels in front are side lobes.

    Examples
    --------
    >>> import radarbook as rb
    >>> level, depth = torch.zeros(1, 1, 3), torch.tensor([[[0.30, 0.33, 0.40]]])
    >>> three = torch.arange(3.0)
    >>> image = rb.RadarImage(level, depth, level == 0, three, three[:1], torch.tensor([-30.0]))
    >>> foreground(image).mask.tolist()
    [[[True, True, False]]]
    """
    depth, order = image.depth.flatten(1).sort(dim=1)
    sums = _weight(image).flatten(1).gather(1, order).cumsum(1)
    first = (sums < tuned.NEAREST * sums[:, -1:]).sum(1, keepdim=True)
    nearest = depth.gather(1, first.clamp(max=depth.shape[1] - 1))
    return replace(image, mask=image.mask & (image.depth <= nearest[..., None] + reach))


def mean_face_at(target: RadarImage, renderer: Renderer, mean: FaceParameters) -> FaceParameters:
    """The face ``mean`` moved to where ``target`` is, as ``renderer`` sees both.

    Its own image's centroid is brought to the target's; three rounds, as the image changes when
    it moves. No weights are needed, only that the renderer renders a face about where it is.
    """
    wanted = centroid(target)
    return _moved(mean, lambda found: wanted - centroid(renderer.render(found)), TRAINED_POSE)


def mean_face_between(
    images: Sequence[RadarImage],
    imagers: Sequence[CoarseImager],
    mean: FaceParameters,
    pose_range: PoseRange = VISIBLE_POSE,
) -> FaceParameters:
    """The face ``mean`` moved to where the images of several arrays are.

    As :func:`mean_face_at`; a step is the mean of those that the arrays' images ask for.
    """
    pairs = list(zip(images, imagers, strict=True))
    return _moved(
        mean,
        lambda found: torch.stack([i.offset(image, found) for image, i in pairs]).mean(0),
        pose_range,
    )


def _moved(
    mean: FaceParameters, step: Callable[[FaceParameters], Tensor], pose_range: PoseRange
) -> FaceParameters:
    """Faces after three steps (B, 3), m, radar frame, each of the faces so far."""
    found = mean
    with torch.no_grad():
        for _ in range(3):
            found = found.replace(translation=found.translation + step(found).to(found.translation))
            found = found.clamped(pose_range)
    return found


def _ghost_free(renderer: PhysicalRenderer, grid: Grid) -> bool:
    """Whether ghosts of a face in the middle lie outside a grid, or nearly: those of antennas at
    λz/spacing aside, and those of frequencies at c/2Δf behind."""
    array, wavelength = renderer.array, renderer.waveform.wavelength
    if array.pairs is not None or min(len(array.tx), len(array.rx)) < 2:
        return False
    spacing = 0.0
    for antennas in (array.tx, array.rx):
        apart = torch.cdist(antennas.detach(), antennas.detach())
        apart.fill_diagonal_(math.inf)
        spacing = max(spacing, float(apart.amin(1).median()))
    width = float(grid.x[-1] - grid.x[0])
    aside = wavelength * float(grid.z.mean()) / spacing
    ranges = C0 / (2 * float(renderer.waveform.frequencies.diff().mean()))
    return aside > tuned.GHOSTS * width and ranges > float(grid.z[-1] - grid.z[0])


class CoarseImager:
    """Coarse images of whole recordings, on 1 cm pixels: where the face is, in the array's frame.

    A :class:`~radarbook.radar.renderer.Renderer` for :func:`mean_face_at`. All antennas are used:
    with fewer, ghosts of the face would lie inside the range of positions.
    """

    def __init__(self, renderer: PhysicalRenderer, pose_range: PoseRange = VISIBLE_POSE) -> None:
        if renderer.array.pairs is not None:
            # Few pairs show ghosts of a face: only positions of sampled faces are searched.
            pose_range = TRAINED_POSE
        # A face is 18 cm wide, and lies from 3 cm before its foremost point to 14 cm behind it.
        x_most, y_most, z_most = pose_range.translation
        near, far = -0.03 - z_most, 0.14 + z_most
        face = torch.tensor([0.0, 0.0, renderer.distance], dtype=torch.float64)
        self._rotation = renderer.array.rotation
        x, y, z = renderer.array.to_own(face).tolist()
        near = max(near, min(0.02 - z, -0.03))  # in front of the antennas
        # Frequencies enough for the depth of the whole range of positions.
        whole = decimate(renderer.array, renderer.waveform, antennas=1, depth=far - near)
        self._physics = ReducedPhysics(renderer, whole, facet_size=math.inf, tilts=STEEPEST)
        half = 0.09 + max(x_most, y_most)
        side = torch.arange(-half, half + 1e-9, 0.01, dtype=torch.float64)
        depth = torch.arange(near, far, 0.0125, dtype=torch.float64)
        if z + float(depth[0]) <= 0:
            raise InputError(
                "array: expected in front of the face, towards which its z axis looks, found a "
                f"face at z = {z:.3f} m in its frame"
            )
        depth = depth + z
        self._grid = Grid(side + x, side + y, depth)
        # What is nearest is a ghost of sparse samples, or a layer's own echo.
        self._clear = renderer.layer is None and _ghost_free(renderer, self._grid)
        # All ranges of the image, for antennas beside it, too.
        self._middle = torch.tensor([x, y, float(depth.mean())], dtype=torch.float64)
        self._gate = RangeGate(reach=float(depth[-1] - depth[0]) / 2 + 0.03)
        self._whole = renderer.array.own(), renderer.waveform

    def image(self, signal: Tensor) -> RadarImage:
        """Images of whole recordings (B, rx, tx, f)."""
        whole = self._whole[0].batched(signal)
        centres = self._middle.expand(len(whole), 3)
        part = self._physics.decimation.gated(whole, *self._whole, centres, self._gate)
        return self._image(part.to(self._physics.device, torch.complex64))

    def offset(self, image: RadarImage, parameters: FaceParameters) -> Tensor:
        """(B, 3) m, radar frame: from the centroids of faces' images to those of ``image``."""
        step = centroid(image) - centroid(self.render(parameters))
        return step @ self._rotation.to(step).T

    def render(self, parameters: FaceParameters) -> RadarImage:
        return self._image(self._physics.signal(parameters))

    def _image(self, signal: Tensor) -> RadarImage:
        volume = back_project(signal, self._physics.array, self._physics.waveform, self._grid)
        image = image_from_volume(volume, self._grid, -30.0)
        return foreground(image) if self._clear else image
