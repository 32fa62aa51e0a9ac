"""Augmentation that respects the physics: image and label change together.

Every function takes parameters and their images and gives both back. Draws come from a CPU
generator (a named stream) and are then moved, so they are the same on every device.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from radarbook.faces.parameters import RANGES, FaceParameters
from radarbook.faces.pose import rotation_matrix
from radarbook.radar.image import RadarImage

Pair = tuple[FaceParameters, RadarImage]


def uniform(
    count: int, low: float, high: float, generator: torch.Generator, like: Tensor
) -> Tensor:
    """(count,) uniform samples of [low, high), moved to the device and dtype of ``like``."""
    return (low + (high - low) * torch.rand(count, generator=generator)).to(like)


def with_dynamic_range(
    parameters: FaceParameters, image: RadarImage, dynamic_range_db: float | Tensor
) -> Pair:
    """Image clipped at ``dynamic_range_db`` (scalar or (B,)), and the label that says so.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> parameters, image = with_dynamic_range(face, Pipeline("smoke").physical.render(face), -15.0)
    >>> float(image.amplitude_db.min()), float(parameters.rendering[0, 0])
    (-15.0, -15.0)
    """
    image = image.with_dynamic_range(dynamic_range_db)
    rendering = parameters.rendering.clone()
    rendering[:, 0] = image.dynamic_range_db.to(rendering)
    return parameters.replace(rendering=rendering), image


def random_dynamic_range(
    parameters: FaceParameters, image: RadarImage, generator: torch.Generator
) -> Pair:
    """Each image clipped at its own dynamic range, uniform over the physical range (the paper's
    −15 … −30 dB)."""
    low, high = RANGES["rendering"][0]
    sampled = uniform(len(image), low, high, generator, image.dynamic_range_db)
    return with_dynamic_range(parameters, image, sampled)


def random_depth_shift(
    parameters: FaceParameters, image: RadarImage, generator: torch.Generator, metres: float
) -> Pair:
    """All depths and the translation's z moved by the same distance, within ±``metres``.

    Approximate: a face that really moved would also turn its highlights a little. Over a
    centimetre at 30 cm that is under 2°.
    """
    shift = uniform(len(image), -metres, metres, generator, image.depth)
    translation = parameters.translation.clone()
    translation[:, 2] += shift
    moved = replace(image, depth=image.depth + shift[:, None, None])
    return parameters.replace(translation=translation), moved


def random_lateral_shift(
    parameters: FaceParameters, image: RadarImage, generator: torch.Generator, metres: float
) -> Pair:
    """Image and translation moved in x and y by the same sub-pixel distances, within ±``metres``.

    Approximate as :func:`random_depth_shift`.
    """
    shift = _random_shift(image, generator, metres)
    translation = parameters.translation.clone()
    translation[:, :2] += shift
    return parameters.replace(translation=translation), moved(image, shift)


def random_move(
    parameters: FaceParameters,
    image: RadarImage,
    generator: torch.Generator,
    metres: float,
    radians: float,
    pivot: Tensor,
) -> Pair:
    """Image and label turned about the array's axis and then shifted, in one interpolation.

    The turn lies within ±``radians``, and so that the roll stays in its physical range; the shift
    is :func:`random_lateral_shift`'s. Looking along its axis a square array sees nearly the same
    from every side, so the image of a turned face is nearly the turned image: only the point
    response, wider along the diagonals, does not turn along. ``pivot`` is
    :attr:`~radarbook.training.facts.ModelFacts.pivot`.
    """
    shift = _random_shift(image, generator, metres)
    low, high = RANGES["rotation"][2]
    roll = parameters.rotation[:, 2]
    least, most = (low - roll).clamp(-radians, 0), (high - roll).clamp(0, radians)
    turn = least + (most - least) * uniform(len(image), 0.0, 1.0, generator, roll)
    parameters = turned(parameters, turn, pivot)
    translation = parameters.translation.clone()
    translation[:, :2] += shift
    return parameters.replace(translation=translation), moved(image, shift, turn)


def _random_shift(image: RadarImage, generator: torch.Generator, metres: float) -> Tensor:
    like = image.amplitude_db
    samples = [uniform(len(image), -metres, metres, generator, like) for _ in range(2)]
    return torch.stack(samples, dim=1)


def turned(parameters: FaceParameters, turn: Tensor, pivot: Tensor) -> FaceParameters:
    """The faces turned about the array's axis by ``turn`` (B,) radians, the head towards radar +x.

    Exact: the new pose places every vertex where the turn takes it. A head turns about its pivot
    and not about the axis, so its translation changes too, by the way of ``pivot`` (2,), metres.

    Examples
    --------
    >>> import radarbook as rb
    >>> quarter, pivot = torch.tensor([torch.pi / 2]), torch.zeros(2)
    >>> face = turned(rb.FaceParameters.neutral(1), quarter, pivot)
    >>> round(float(face.rotation.norm()), 3)
    1.571
    """
    cos, sin = turn.cos(), turn.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    # A turn of the radar frame by -turn is one of the model frame by +turn: their z are opposed.
    z = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).reshape(-1, 3, 3)
    matrix = z @ rotation_matrix(parameters.rotation)
    rotation = torch.stack(
        [
            torch.atan2(matrix[:, 0, 2], matrix[:, 2, 2]),
            -torch.asin(matrix[:, 1, 2].clamp(-1, 1)),
            torch.atan2(matrix[:, 1, 0], matrix[:, 1, 1]),
        ],
        dim=1,
    )
    x, y = (parameters.translation[:, :2] + pivot.to(turn)).unbind(1)
    place = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=1) - pivot.to(turn)
    translation = torch.cat([place, parameters.translation[:, 2:]], dim=1)
    return parameters.replace(rotation=rotation, translation=translation)


def mirrored(parameters: FaceParameters, image: RadarImage, matrix: Tensor) -> Pair:
    """Faces and images seen in a mirror in the plane x = 0; exact for a symmetric face model with
    smooth skin.

    The array is its own mirror image, so the mirrored image is the image of the mirrored face.
    What rough skin scatters has a random phase on each facet, and the mirrored facets have other
    phases: of that part it is another realisation. Coefficients go by ``matrix``
    (:func:`~radarbook.training.facts.mirror_matrix`); x, yaw and roll change sign.
    """
    found = mirrored_parameters(parameters, matrix)
    return found, replace(
        image,
        amplitude_db=image.amplitude_db.flip(2),
        depth=image.depth.flip(2),
        mask=image.mask.flip(2),
    )


def mirrored_parameters(parameters: FaceParameters, matrix: Tensor) -> FaceParameters:
    """The faces' part of :func:`mirrored`."""
    count = parameters.shape.shape[1]
    both = (
        torch.cat([parameters.shape, parameters.expression], dim=1) @ matrix.to(parameters.shape).T
    )
    sign = parameters.translation.new_tensor
    return parameters.replace(
        shape=both[:, :count],
        expression=both[:, count:],
        translation=parameters.translation * sign([-1.0, 1.0, 1.0]),
        rotation=parameters.rotation * sign([-1.0, 1.0, -1.0]),
    )


def random_mirror(
    parameters: FaceParameters, image: RadarImage, generator: torch.Generator, matrix: Tensor
) -> Pair:
    """Every second sample or so as :func:`mirrored` gives it."""
    chosen = (torch.rand(len(image), generator=generator) < 0.5).to(image.mask.device)
    other, flipped = mirrored(parameters, image, matrix)

    def pick(name: str) -> Tensor:
        ours, theirs = getattr(image, name), getattr(flipped, name)
        return torch.where(chosen[:, None, None], theirs, ours)

    picked = parameters.replace(
        **{
            name: torch.where(chosen[:, None], getattr(other, name), value)
            for name, value in parameters.as_dict().items()
        }
    )
    planes = {name: pick(name) for name in ("amplitude_db", "depth", "mask")}
    return picked, replace(image, **planes)


def moved(image: RadarImage, shift: Tensor, turn: Tensor | None = None) -> RadarImage:
    """The image turned by ``turn`` (B,) radians about x = y = 0, the top towards +x, and then
    moved by ``shift`` (B, 2) metres in x and y.

    Amplitudes are interpolated linearly in dB. Depths are averaged with the neighbours' power
    as weight: across an edge the stronger side decides, as the maximum along depth does. What
    enters from outside the image is empty.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> image = Pipeline("smoke").physical.render(face)
    >>> same = moved(image, torch.zeros(1, 2))
    >>> bool(torch.allclose(same.amplitude_db, image.amplitude_db, atol=1e-3))
    True
    """
    floor = image.dynamic_range_db[:, None, None]
    power = 10 ** (image.amplitude_db / 10)
    planes = torch.stack([image.amplitude_db - floor, power, power * image.depth], dim=1)
    half_x = (image.x[-1] - image.x[0]) / 2 * len(image.x) / (len(image.x) - 1)
    half_y = (image.y[-1] - image.y[0]) / 2 * len(image.y) / (len(image.y) - 1)
    angle = torch.zeros_like(shift[:, 0]) if turn is None else turn.to(shift)
    cos, sin = angle.cos(), angle.sin()
    # Where an output point is found in the input, in metres; then in halves of the image.
    back = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    offset = -(back @ shift[:, :, None])
    half = torch.stack([half_x, half_y]).to(shift)
    theta = torch.cat([back * half / half[:, None], offset / half[:, None]], dim=2)
    grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
    above, power, moment = F.grid_sample(
        planes, grid, padding_mode="zeros", align_corners=False
    ).unbind(1)
    inside = power > 0
    depth = torch.where(inside, moment / power.where(inside, power.new_ones(())), image.depth)
    return replace(image, amplitude_db=above + floor, depth=depth, mask=above > 0)
