"""The paper's image loss, through any renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting import tuned
from radarbook.networks.channels import DEPTH_UNIT
from radarbook.radar.image import RadarImage
from radarbook.radar.renderer import Renderer
from radarbook.training.losses import AMPLITUDE_SCALE, amplitude_error, depth_error

Inputs = Literal["both", "amplitude", "depth"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Anchor:
    """A Gaussian prior about a prediction, for B faces.

    Attributes
    ----------
    predicted : Tensor (B, P)
        Normalised parameters.
    deviation : Tensor (P,)
        Standard deviations of the prediction's errors, normalised; infinite where nothing is known.
    weight : Tensor (B,)
        Of one squared standard deviation, in units of the loss.
    """

    predicted: Tensor
    deviation: Tensor
    weight: Tensor

    def residuals(self, vector: Tensor, face: int | None = None) -> Tensor:
        """(B, P) of normalised parameters (B, P), each face about its own prediction, or all about
        that of one ``face``."""
        here = slice(None) if face is None else slice(face, face + 1)
        off = (vector - self.predicted[here].to(vector)) / self.deviation.to(vector)
        return off * self.weight[here, None].to(vector).sqrt()


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageObjective:
    """Differences of dB amplitude and depth, pixel by pixel, between a rendering and an image.

    Differentiable where the renderer is. Raises :class:`~radarbook.errors.InputError` for unknown
    ``inputs``, and when residuals are computed for a renderer of other pixels.

    Attributes
    ----------
    target : RadarImage
        B images; the rendering is compared at the target's own dynamic ranges.
    renderer : Renderer
        On the same pixels as the target.
    inputs : {"both", "amplitude", "depth"}
        Which images count. Scaled as in training (:mod:`radarbook.training.losses`).
    anchor : Anchor, optional
        Of the B faces; its squared residuals are added to the image loss.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.objectives import ImageObjective
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.random_parameters([0], 0, 10, 7)
    >>> target = renderer.render(face)
    >>> objective = ImageObjective(target=target, renderer=renderer, inputs="depth")
    >>> float(objective.image_losses(face))
    0.0
    """

    one_thread: ClassVar[bool] = False
    noise: ClassVar[float] = tuned.IMAGE_NOISE

    target: RadarImage
    renderer: Renderer
    inputs: Inputs = "both"
    anchor: Anchor | None = None

    def __post_init__(self) -> None:
        if self.inputs not in get_args(Inputs):
            raise InputError(
                f"loss inputs: expected both, amplitude or depth, found {self.inputs!r}"
            )

    @property
    def faces(self) -> int:
        return len(self.target)

    @property
    def priors(self) -> int:
        return 0 if self.anchor is None else self.anchor.predicted.shape[1]

    def residuals(self, parameters: FaceParameters) -> Tensor:
        return self._with_prior(self._residuals(parameters, self.target), parameters)

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved])
        index = torch.full((len(both),), face, dtype=torch.long)
        return self._with_prior(self._residuals(both, self.target[index]), both, face)

    def frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        return self

    @torch.no_grad()
    def image_losses(self, parameters: FaceParameters) -> Tensor:
        """(B,) the image loss alone, without the anchor."""
        return self._residuals(parameters, self.target).double().square().sum(1)

    def _with_prior(
        self, rows: Tensor, parameters: FaceParameters, face: int | None = None
    ) -> Tensor:
        if self.anchor is None:
            return rows
        prior = self.anchor.residuals(parameters.normalised(), face)
        return torch.cat([rows.to(prior), prior], dim=1)

    def _residuals(self, parameters: FaceParameters, target: RadarImage) -> Tensor:
        target = target.detach()
        # The learned renderer is float32; the target's dynamic range is not an unknown.
        rendering = torch.cat(
            [
                target.dynamic_range_db[:, None].to(parameters.rendering),
                parameters.rendering[:, 1:],
            ],
            dim=1,
        )
        image = self.renderer.render(
            parameters.replace(rendering=rendering).to(dtype=target.amplitude_db.dtype)
        )
        if image.amplitude_db.shape != target.amplitude_db.shape:
            raise InputError(
                f"target image: expected {tuple(image.amplitude_db.shape[1:])} pixels as the "
                f"renderer's, found {tuple(target.amplitude_db.shape[1:])}"
            )
        parts = []
        if self.inputs != "depth":
            error = amplitude_error(image.amplitude_db, target) / AMPLITUDE_SCALE
            parts.append(error.flatten(1) / math.sqrt(error[0].numel()))
        if self.inputs != "amplitude":
            # A tenth: about the share of an image that a face fills (as in training).
            share = 0.1 / target.mask.flatten(1).sum(1, keepdim=True).clamp(min=1)
            parts.append(depth_error(image.depth, target).flatten(1) / DEPTH_UNIT * share.sqrt())
        return torch.cat(parts, dim=1)
