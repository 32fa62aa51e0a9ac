"""Whether a recording is of a face at all, by the highlights of its image.

Skin is a mirror. A face mirrors into the array at a dozen places, along its middle line and on the
cheeks, and it is round; a ball mirrors at one place, a plate everywhere, a hand along its fingers,
which lie in a plane. So eleven statistics of power and depth tell them apart before any fit: how
many maxima the image has, how large the area is that its power fills, how far power and level
extend in height and width, and the parabola through its depth. They are compared with those of
simulated faces by the squared Mahalanobis distance. Hands are the nearest of other bodies; a linear
discriminant separates them from faces [0038].
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
    across, along : float
        Curvature of the depth in x and in y, 1/m: of the parabola through it, weighted by level
        about the middle, robustly.
    rest, relief : float
        Root mean square distance of the depth from that parabola, up to 15 mm, and from its median,
        up to 30 mm; mm.
    """

    bright: int
    maxima: int
    area: float
    height: float
    width: float
    level_height: float
    level_width: float
    across: float
    along: float
    rest: float
    relief: float

    @classmethod
    def of(cls, power: Tensor, depth: Tensor, pixel: float) -> Highlights:
        """Of an image (y, x) of smoothed power and its depth (y, x), m, with pixels ``pixel`` m
        apart.

        Examples
        --------
        Two points of equal power, 40 mm apart in height.

        >>> import torch
        >>> from radarbook.fitting.recognise import Highlights
        >>> image = torch.zeros(21, 21)
        >>> image[5, 10] = image[15, 10] = 1.0
        >>> found = Highlights.of(image, torch.full((21, 21), 0.3), 4e-3)
        >>> found.bright, round(found.area, 2), round(found.height, 1), round(found.width, 1)
        (2, 0.32, 20.0, 0.0)
        """
        p = power.double() / float(power.max().clamp(min=1e-30))
        reach = 2 * max(1, round(tuned.HIGHLIGHT_REACH / pixel)) + 1
        largest = F.max_pool2d(p[None, None], reach, stride=1, padding=reach // 2)[0, 0]
        peak = p == largest
        bright, maxima = (int((peak & (p > 10 ** (db / 10))).sum()) for db in (-12.0, -20.0))
        sides = [1e3 * pixel * torch.arange(n, dtype=torch.float64) for n in p.shape]
        y, x = torch.meshgrid(*sides, indexing="ij")

        def spread(values: Tensor, weight: Tensor) -> float:
            share = weight / weight.sum()
            return float(((values - (share * values).sum()).square() * share).sum().sqrt())

        level = (10 * torch.log10(p + 1e-12) + 20).clamp(min=0)
        area = float(p.sum().square() / p.square().sum()) * (100 * pixel) ** 2
        extents = {
            "height": spread(y, p),
            "width": spread(x, p),
            "level_height": spread(y, level),
            "level_width": spread(x, level),
        }
        share = level / level.sum()
        x, y = x - (share * x).sum(), y - (share * y).sum()
        # About the middle: at the rim of an image lie side lobes, at depths of their own.
        share = share * torch.exp(-0.5 * (x * x + y * y) / (1e3 * tuned.HIGHLIGHT_MIDDLE) ** 2)
        share = (share / share.sum()).flatten()
        z = 1e3 * depth.double().flatten()
        columns = torch.stack([torch.ones_like(x), x, y, x * x / 2, y * y / 2, x * y], -1)
        shape, rest = _robust(columns.flatten(0, 1), z, share)
        relief = z - z[share > 0.2 * share.max()].median()

        def size(part: Tensor, most: float) -> float:
            return float((share * part.abs().clamp(max=most).square()).sum().sqrt())

        return cls(
            bright,
            maxima,
            area,
            **extents,
            across=1e3 * float(shape[3]),
            along=1e3 * float(shape[4]),
            rest=size(rest, 15.0),
            relief=size(relief, 30.0),
        )

    def vector(self) -> Tensor:
        """(11,) float64 in the order of the attributes: logarithms, of numbers plus 1 and of
        lengths plus 1 mm, and the curvatures themselves."""
        counts = math.log(self.bright + 1.0), math.log(self.maxima + 1.0)
        sizes = (self.height, self.width, self.level_height, self.level_width)
        values = [*counts, math.log(self.area + 0.01), *(math.log(mm + 1.0) for mm in sizes)]
        values += [self.across, self.along]
        values += [math.log(mm + 1.0) for mm in (self.rest, self.relief)]
        return torch.tensor(values, dtype=torch.float64)

    @property
    def distance(self) -> float:
        """Squared Mahalanobis distance from the highlights of faces (:func:`distance`)."""
        return distance(self.vector())

    @property
    def like_a_hand(self) -> float:
        """Discriminant of faces and hands (:func:`like_a_hand`): below 0 for faces."""
        return like_a_hand(self.vector())

    @property
    def of_a_face(self) -> bool:
        """Whether a face may have these highlights."""
        return of_a_face(self.vector())

    def __str__(self) -> str:
        return (
            f"its highlights are not those of a face: {self.bright} within 12 dB over "
            f"{self.area:.0f} cm², {self.height:.0f} mm high and {self.width:.0f} mm wide, "
            f"curvature {self.across:.0f} and {self.along:.0f} per metre (distance "
            f"{self.distance:.0f}, of faces below {tuned.NO_FACE_HIGHLIGHTS:.0f}; discriminant of "
            f"hands {self.like_a_hand:+.1f}, of faces below {tuned.HAND_HIGHLIGHTS_LIMIT:g})"
        )


def distance(vector: Tensor) -> float:
    """Squared Mahalanobis distance of :meth:`Highlights.vector` (11,) from those of simulated faces
    (:data:`~radarbook.fitting.tuned.FACE_HIGHLIGHTS`).

    Examples
    --------
    >>> import torch
    >>> from radarbook.fitting import tuned
    >>> from radarbook.fitting.recognise import distance
    >>> distance(torch.tensor(tuned.FACE_HIGHLIGHTS[0], dtype=torch.float64))
    0.0
    """
    mean, root = (torch.tensor(v, dtype=torch.float64) for v in tuned.FACE_HIGHLIGHTS)
    return float((root @ (vector - mean)).square().sum())


def like_a_hand(vector: Tensor) -> float:
    """Linear discriminant of :meth:`Highlights.vector` (11,) between faces and hands
    (:data:`~radarbook.fitting.tuned.HAND_HIGHLIGHTS`), in standard deviations: 0 midway between
    their means, above 0 towards hands.

    Examples
    --------
    >>> import torch
    >>> from radarbook.fitting import tuned
    >>> from radarbook.fitting.recognise import like_a_hand
    >>> like_a_hand(torch.tensor(tuned.FACE_HIGHLIGHTS[0], dtype=torch.float64)) < 0
    True
    """
    slope = torch.tensor(tuned.HAND_HIGHLIGHTS[0], dtype=torch.float64)
    return float(slope @ vector) - tuned.HAND_HIGHLIGHTS[1]


def of_a_face(vector: Tensor) -> bool:
    """Whether a face may have the highlights of :meth:`Highlights.vector` (11,): they are near
    those of faces, and not nearer to a hand's.

    Examples
    --------
    >>> import torch
    >>> from radarbook.fitting import tuned
    >>> from radarbook.fitting.recognise import of_a_face
    >>> mean = torch.tensor(tuned.FACE_HIGHLIGHTS[0], dtype=torch.float64)
    >>> of_a_face(mean), of_a_face(mean + 2)
    (True, False)
    """
    near = distance(vector) < tuned.NO_FACE_HIGHLIGHTS
    return near and like_a_hand(vector) < tuned.HAND_HIGHLIGHTS_LIMIT


def _robust(columns: Tensor, values: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (K,) of columns (M, K) that give values (M,), mm, with weights (M,), and what
    remains (M,); what is more than millimetres off counts little (Geman and McClure)."""
    weight = share
    for _ in range(8):
        root = weight.sqrt()
        rows = root[:, None] * columns
        # In units of each other's size, whatever pixels there are.
        scale = rows.norm(dim=0).clamp(min=1e-12)
        found = torch.linalg.pinv(rows / scale, rtol=1e-6) @ (root * values) / scale
        rest = values - columns @ found
        weight = share / (1 + (rest / (1e3 * tuned.HIGHLIGHT_OFF)).square()).square()
    return found, rest


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
        In which a face is searched.

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
    if not resolves_highlights(renderer.array, renderer.waveform.wavelength, renderer.distance):
        return None
    whole = renderer.array.batched(signal)
    centre = centroid(CoarseImager(renderer, pose_range).image(whole))
    level = Level("", smoothing=(tuned.HIGHLIGHT_SMOOTHING,), fidelity="coarse")
    # Of an array that is as sparse already all antennas: ghosts would be further highlights.
    channels = min(len(renderer.array.tx), len(renderer.array.rx))
    every = tuned.ANTENNAS if channels > tuned.HIGHLIGHT_ANTENNAS else 1
    plan = physical_plan(whole, renderer, schedule=[level], centres=centre, antennas=every)
    objective = plan.stages[0].objective
    assert isinstance(objective, PowerObjective)
    focus, feature = objective.targets[0].focus, objective.targets[0].features[0]
    points = focus.lattice(len(feature.power))
    behind = focus.range_difference(feature.lag, torch.ones_like(feature.lag))
    depth = (points[..., 2] + behind).cpu()
    return Highlights.of(feature.power.cpu(), depth, float(points[0, 1, 0] - points[0, 0, 0]))
