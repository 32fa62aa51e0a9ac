"""A common delay of a recording, as a fit sees it.

A delay τ makes a face appear farther away by cτ/2. The two differ at 0.3 m, because the curvature
of the wavefronts over the array and the size of the image depend on the true distance. So the
unknowns here are the apparent range and the delay at a *constant apparent range*, which are nearly
independent: a face whose delay grows by τ comes nearer by cτ/2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting import tuned
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.space import ParameterSpace
from radarbook.fitting.uncertainty import Uncertainty
from radarbook.radar.waveform import C0

#: The delay takes the place of this parameter in a fit. A recording has no dynamic range.
COLUMN = "dynamic_range"


def delay_of(parameters: FaceParameters) -> Tensor:
    """(B,) s, of parameters of a fit with a delay."""
    column = ParameterSpace.of(parameters).span(COLUMN).start
    return parameters.normalised()[:, column] * tuned.LARGEST_DELAY


def with_delay(parameters: FaceParameters, seconds: float) -> FaceParameters:
    """Parameters of a fit with a delay: the same faces at the same apparent range.

    Examples
    --------
    >>> face = with_delay(FaceParameters.neutral(1, n_shape=10, n_expression=7), 1e-11)
    >>> round(1e12 * float(delay_of(face)))  # ps
    10
    """
    vectors, space = parameters.normalised().clone(), ParameterSpace.of(parameters)
    vectors[:, space.span(COLUMN).start] = seconds / tuned.LARGEST_DELAY
    return space.unpack(vectors)


def at_true_range(parameters: FaceParameters, dynamic_range_db: float = -20.0) -> FaceParameters:
    """Faces of a fit with a delay at their true range, as if the delay were removed, with a
    dynamic range again."""
    translation = parameters.translation.clone()
    translation[:, 2] -= 0.5 * C0 * delay_of(parameters)
    rendering = parameters.rendering.clone()
    rendering[:, 0] = dynamic_range_db
    return parameters.replace(translation=translation, rendering=rendering)


class DelayedPhysics(ReducedPhysics):
    """Signals of faces with a delay (:func:`delay_of`), which are at an apparent range."""

    def located(self, parameters: FaceParameters) -> FaceParameters:
        return at_true_range(parameters)

    def signal(self, parameters: FaceParameters, *, like: FaceParameters | None = None) -> Tensor:
        made, factor = super().signal(parameters, like=like), self.factor(parameters)
        return made * factor.reshape(len(factor), *[1] * (made.ndim - 2), -1)

    def reflections(self, face: FaceParameters) -> Tensor | None:
        made = super().reflections(face)
        return None if made is None else made * self.factor(face)[0]

    def speckle_samples(self, face: FaceParameters, count: int) -> list[Tensor]:
        factor = self.factor(face)[0]
        return [sample * factor for sample in super().speckle_samples(face, count)]

    def diffuse_power(self, face: FaceParameters, points: Tensor, phase_per_metre: float) -> Tensor:
        # The true place of a point is nearer than its apparent one, in the same direction.
        nearer = 0.5 * C0 * float(delay_of(face))
        size = 1 - nearer / float(points[..., 2].mean())
        there = torch.cat([points[..., :2] * size, points[..., 2:] - nearer], dim=-1)
        return super().diffuse_power(face, there, phase_per_metre)

    def factor(self, parameters: FaceParameters) -> Tensor:
        """(B, f) phase factors of the delays. The carrier's phase is left out, because the complex
        gain of a recording is unknown."""
        f = self.waveform.frequencies
        tau = delay_of(parameters).detach().double().cpu()
        phase = -2 * math.pi * tau[:, None] * (f - f.mean())
        return torch.polar(torch.ones_like(phase), phase).to(self.device, torch.complex64)


def delay_deviation(uncertainty: Uncertainty, parameters: FaceParameters) -> float:
    """Standard deviation, s, of the delay, from the uncertainty of a fit with one."""
    column = ParameterSpace.of(parameters).span(COLUMN).start
    place = int((uncertainty.columns == column).nonzero()[0, 0])
    return float(uncertainty.deviations()[place]) * tuned.LARGEST_DELAY
