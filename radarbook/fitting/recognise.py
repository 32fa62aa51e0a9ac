"""Whether a recording is of a face at all, by the highlights of its image.

Skin is a mirror. A face mirrors into the array at a dozen places, along its middle line and on the
cheeks; a ball does so at one place, a plate everywhere, a hand along its fingers. So seven
statistics of the power image tell them apart before any fit: how many maxima it has, how large the
area is that its power fills, and how far power and level extend in height and width. They are
compared with those of simulated faces by the squared Mahalanobis distance [0037].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from radarbook.faces.parameters import VISIBLE_POSE, PoseRange
from radarbook.fitting import tuned
from radarbook.fitting.objectives import PowerObjective
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.schedule import Level
from radarbook.fitting.start import CoarseImager, centroid
from radarbook.radar.array import Array
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.threads import alone


@dataclass(frozen=True)
class Highlights:
    """Statistics of the power image of one recording.

    Attributes
    ----------
    bright, maxima : int
        Local maxima within 12 and 20 dB of the largest.
    area : float
        (Σ P)² / Σ P² of the power P in the pixels, cm²: the area that it fills.
    height, width : float
        Root mean square distance of the power from its centroid, mm.
    level_height, level_width : float
        The same of the level in dB above -20 dB.
    """

    bright: int
    maxima: int
    area: float
    height: float
    width: float
    level_height: float
    level_width: float

    @classmethod
    def of(cls, power: Tensor, pixel: float) -> Highlights:
        """Of an image (y, x) of smoothed power, with pixels ``pixel`` m apart.

        Examples
        --------
        Two points of equal power, 40 mm apart in height.

        >>> import torch
        >>> from radarbook.fitting.recognise import Highlights
        >>> image = torch.zeros(21, 21)
        >>> image[5, 10] = image[15, 10] = 1.0
        >>> found = Highlights.of(image, 4e-3)
        >>> found.bright, round(found.area, 2), round(found.height, 1), round(found.width, 1)
        (2, 0.32, 20.0, 0.0)
        """
        p = power.double() / float(power.max().clamp(min=1e-30))
        reach = 2 * max(1, round(tuned.HIGHLIGHT_REACH / pixel)) + 1
        largest = F.max_pool2d(p[None, None], reach, stride=1, padding=reach // 2)[0, 0]
        peak = p == largest
        counts = (int((peak & (p > 10 ** (db / 10))).sum()) for db in (-12.0, -20.0))
        y = 1e3 * pixel * torch.arange(p.shape[0], dtype=torch.float64)[:, None]
        x = 1e3 * pixel * torch.arange(p.shape[1], dtype=torch.float64)

        def extent(weight: Tensor) -> tuple[float, float]:
            share = weight / weight.sum()
            away = (((s - (share * s).sum()).square() * share).sum().sqrt() for s in (y, x))
            height, width = (float(one) for one in away)
            return height, width

        level = (10 * torch.log10(p + 1e-12) + 20).clamp(min=0)
        area = float(p.sum().square() / p.square().sum()) * (100 * pixel) ** 2
        return cls(*counts, area, *extent(p), *extent(level))

    def vector(self) -> Tensor:
        """(7,) float64 logarithms, in the order of the attributes; of the numbers plus 1, of
        lengths plus 1 mm."""
        plus = 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0
        values = vars(self).values()
        return torch.tensor([math.log(v + p) for v, p in zip(values, plus, strict=True)]).double()

    @property
    def distance(self) -> float:
        """Squared Mahalanobis distance from the highlights of faces
        (:data:`~radarbook.fitting.tuned.FACE_HIGHLIGHTS`)."""
        mean, root = (torch.tensor(v, dtype=torch.float64) for v in tuned.FACE_HIGHLIGHTS)
        return float((root @ (self.vector() - mean)).square().sum())

    @property
    def of_a_face(self) -> bool:
        """Whether a face may have these highlights."""
        return self.distance < tuned.NO_FACE_HIGHLIGHTS

    def __str__(self) -> str:
        return (
            f"its highlights are not those of a face: {self.bright} within 12 dB over "
            f"{self.area:.0f} cm², {self.height:.0f} mm high and {self.width:.0f} mm wide (distance "
            f"{self.distance:.0f}, of faces below {tuned.NO_FACE_HIGHLIGHTS:.0f})"
        )


def resolves_highlights(array: Array, wavelength: float, distance: float) -> bool:
    """Whether an array's images have the resolution of those whose highlights are known: the first
    null of its point-spread function at ``distance`` (m) between 3 and 6 mm aside, both ways.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.recognise import resolves_highlights
    >>> array, waveform = rb.qar50(), rb.qar50_waveform(24)
    >>> [resolves_highlights(array, waveform.wavelength, d) for d in (0.3, 0.6)]
    [True, False]
    """
    if array.pairs is not None:
        return False
    own = array.own()
    widths = [
        min(float((a[:, k].amax() - a[:, k].amin()).abs()) for a in (own.tx, own.rx))
        for k in range(2)
    ]
    nulls = [wavelength * distance / max(2 * width, 1e-9) for width in widths]
    low, high = tuned.HIGHLIGHT_RESOLUTION
    return all(low <= null <= high for null in nulls)


@alone()
@torch.no_grad()
def highlights(
    signal: Tensor, renderer: PhysicalRenderer, pose_range: PoseRange = VISIBLE_POSE
) -> Highlights | None:
    """The highlights of one recording (rx, tx, f) or (1, rx, tx, f), or None for an array of other
    resolution (:func:`resolves_highlights`). Takes a second and no fit.

    Parameters
    ----------
    signal : Tensor
        With the renderer's array and waveform.
    renderer : PhysicalRenderer
    pose_range : PoseRange
        In which a face is looked for.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.recognise import highlights
    >>> from radarbook.pipeline import Pipeline
    >>> from radarbook.radar.simulate import simulate_points
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> point = torch.tensor([[0.0, 0.0, 0.3]])
    >>> recordings = (
    ...     renderer.signal(face),
    ...     simulate_points(point, torch.ones(1), renderer.array, renderer.waveform),
    ... )
    >>> [highlights(one, renderer).of_a_face for one in recordings]
    [True, False]
    """
    whole = renderer.array.batched(signal)
    centre = centroid(CoarseImager(renderer, pose_range).image(whole))
    if not resolves_highlights(renderer.array, renderer.waveform.wavelength, float(centre[0, 2])):
        return None
    level = Level("", smoothing=(tuned.HIGHLIGHT_SMOOTHING,), fidelity="coarse")
    plan = physical_plan(whole, renderer, schedule=[level], centres=centre)
    objective = plan.stages[0].objective
    assert isinstance(objective, PowerObjective)
    power = objective.targets[0].features[0].power.cpu()
    points = objective.targets[0].focus.lattice(len(power))
    return Highlights.of(power, float(points[0, 1, 0] - points[0, 0, 0]))
