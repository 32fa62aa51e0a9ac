"""A gate around the face in a radar image: what of it belongs to the face."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from radarbook.errors import InputError
from radarbook.radar.image import RadarImage

#: Images are clipped at this before a gate, dB: it may take away what is brighter than the face.
DEEP_DB = -45.0


@dataclass(frozen=True)
class FaceGate:
    """Keeps the nearest surface of an image, within an ellipse about its middle.

    Ears, neck and shoulders lie farther from the array than the face that looks into it. The face's
    depth is taken from the pixels above ``level_db``: ``share`` of them are nearer. Pixels that lie
    from ``before`` in front of that depth to ``behind`` it are kept, if they are in an upright
    ellipse about the mean place of those among them that are above ``level_db``. Amplitudes are
    then counted from the brightest pixel that is kept, which the shoulders may have outshone.

    Attributes
    ----------
    share : float
        Between 0 and 1.
    before, behind : float
        m.
    half : (float, float)
        Half axes of the ellipse, x and y, m.
    level_db : float
        Negative dB below the brightest pixel, of the image for the depth and of what is near
        enough for the ellipse.

    The numbers were chosen by the error of the shipped encoder on scenes for training
    (:mod:`radarbook.training.scenes`; ``python -m benchmarks.gap tune``). Raises
    :class:`~radarbook.errors.InputError` for other values than these.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> image = Pipeline("smoke").physical.render(face)
    >>> gated = FaceGate()(image)
    >>> bool((gated.mask <= image.mask).all())
    True
    """

    share: float = 0.1
    before: float = 0.03
    behind: float = 0.04
    half: tuple[float, float] = (0.09, 0.12)
    level_db: float = -20.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"face gate: expected share from 0 to 1, found {self.share}")
        if min(self.before, self.behind, *self.half) <= 0:
            raise InputError("face gate: expected lengths above 0 m")
        if not self.level_db < 0:
            raise InputError(f"face gate: expected level_db below 0, found {self.level_db}")

    def __call__(self, image: RadarImage) -> RadarImage:
        """The gated image (B, H, W): the same grid; what is not kept is below the dynamic range.

        The dynamic range shrinks by what the kept pixels are darker than the image's brightest. An
        image without a pixel above ``level_db`` is given back as it is.
        """
        amplitude, depth = image.amplitude_db, image.depth
        bright = image.mask & (amplitude > self.level_db)
        known = torch.where(bright, depth, torch.nan).flatten(1)
        first = torch.nanquantile(known.double(), self.share, dim=1).to(depth)[:, None, None]
        near = image.mask & (depth > first - self.before) & (depth < first + self.behind)
        dark = torch.full_like(amplitude, -torch.inf)
        top = torch.where(near, amplitude, dark).amax((1, 2), keepdim=True)
        counted = near & (amplitude > top + self.level_db)
        count = counted.sum((1, 2)).clamp(min=1)
        x = (counted * image.x.to(depth)).sum((1, 2)) / count
        y = (counted * image.y.to(depth)[:, None]).sum((1, 2)) / count
        across = (image.x.to(depth) - x[:, None]) / self.half[0]
        up = (image.y.to(depth) - y[:, None]) / self.half[1]
        kept = near & (across.square()[:, None, :] + up.square()[:, :, None] < 1)
        top = torch.where(kept, amplitude, dark).amax((1, 2), keepdim=True)
        found = kept.any(dim=2).any(dim=1)
        top = torch.where(found[:, None, None], top, torch.zeros_like(top))
        kept = torch.where(found[:, None, None], kept, image.mask)
        floor = image.dynamic_range_db - top[:, 0, 0]
        level = floor[:, None, None]
        return replace(
            image,
            amplitude_db=torch.where(kept, torch.maximum(amplitude - top, level), level),
            mask=kept,
            dynamic_range_db=floor,
        )


def seen_by_networks(
    image: RadarImage, gate: FaceGate | None, dynamic_range_db: float = -20.0
) -> RadarImage:
    """What a network is given of an image (B, H, W): gated if there is a gate, then clipped.

    ``image`` should reach down to :data:`DEEP_DB`, since its brightest pixel may be gated away.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> image = Pipeline("smoke").physical.render(face)
    >>> float(seen_by_networks(image, FaceGate()).dynamic_range_db)
    -20.0
    """
    return (image if gate is None else gate(image)).with_dynamic_range(dynamic_range_db)
