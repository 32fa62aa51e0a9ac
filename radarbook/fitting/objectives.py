"""What a fit makes small: residuals between a rendering and the target, squared and summed.

An objective turns parameters of B faces into residuals (B, M); the loss of a face is their sum of
squares. Residuals rather than the loss alone, because Gauss-Newton methods and the covariance of
the result need them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.physics import LeanPhysics, RangeFocus
from radarbook.networks.channels import DEPTH_SCALE
from radarbook.radar.image import RadarImage
from radarbook.radar.renderer import Renderer
from radarbook.training.losses import AMPLITUDE_SCALE, amplitude_error, depth_error

#: Residuals are scaled to these: 3 nepers of power and 2 mm of mean depth count alike.
NEPER, DEPTH = 3.0, 2e-3


class Objective(Protocol):
    """Residuals of parameters; the target is the objective's own."""

    #: Faces in the target.
    faces: int
    #: Residuals at the end of each row that are a prior on the coefficients, not data.
    priors: int

    def residuals(self, parameters: FaceParameters) -> Tensor:
        """(B, M), face b against target b; differentiable where the renderer is."""
        ...

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        """(1 + P, M): residuals of one face and of P versions of it, moved a little."""
        ...


@dataclass(frozen=True)
class Anchor:
    """A Gaussian prior about a prediction, for B faces: how sure its maker is of each parameter.

    Attributes
    ----------
    predicted : Tensor (B, P)
        Normalised parameters.
    deviation : Tensor (P,)
        Standard deviations of the prediction's errors, normalised; infinite where nothing is known.
    weight : Tensor (B,)
        What one squared standard deviation counts for in units of the loss.
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


class ImageObjective:
    """The paper's image loss through any renderer: dB amplitude and depth, pixel by pixel.

    Parameters
    ----------
    target : RadarImage
        B images; the rendering is compared at the target's own dynamic ranges.
    renderer : Renderer
        On the same pixels as the target.
    inputs : {"both", "amplitude", "depth"}
        Which images count. Scaled as in training (:mod:`radarbook.training.losses`).
    anchor : Anchor, optional
        Of the B faces; its squared residuals are added to the image loss.
    """

    def __init__(
        self,
        target: RadarImage,
        renderer: Renderer,
        inputs: str = "both",
        anchor: Anchor | None = None,
    ) -> None:
        if inputs not in ("both", "amplitude", "depth"):
            raise InputError(f"loss inputs: expected both, amplitude or depth, found {inputs!r}")
        self.target, self.renderer, self.inputs = target.detach(), renderer, inputs
        self.anchor = anchor
        self.faces = len(target)
        self.priors = 0 if anchor is None else anchor.predicted.shape[1]

    def residuals(self, parameters: FaceParameters) -> Tensor:
        return self._with_prior(self._residuals(parameters, self.target), parameters)

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved])
        index = torch.full((len(both),), face, dtype=torch.long)
        return self._with_prior(self._residuals(both, self.target[index]), both, face)

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
            parts.append(depth_error(image.depth, target).flatten(1) / DEPTH_SCALE * share.sqrt())
        return torch.cat(parts, dim=1)


class PowerObjective:
    """Smoothed power and mean depth of range profiles, through physics.

    Each pixel is focused at the depth where the target is (:class:`RangeFocus`). Of the power over
    range, smoothed laterally, the logarithm is compared with the target's, and of the smoothed
    product of neighbouring frequencies the phase, which is the power-weighted mean depth. Both vary
    slowly with the face where the raw images oscillate, the slower the wider the smoothing; a
    factor common to the whole signal (gain, unknown in most recordings) drops out.

    Parameters
    ----------
    signal : Tensor (B, rx, tx, f)
        Recordings, already reduced to ``physics``' antennas and frequencies.
    physics : LeanPhysics
    centres : Tensor (B, 3)
        About where each face is: the middle of its image, m, radar frame.
    smoothing : float or several
        σ of the lateral Gaussian, m; of several, each gives a set of residuals.
    pixel, half_width : float
        Sampling and half the side of the image, m.
    floor_db, mask_db : float
        Power is compared down to the floor, depth where the target's power is above the mask,
        both below the target's maximum.
    prior : float
        Weight of a standard normal prior on the coefficients against the mean square residual.
    focus : list of RangeFocus
        ``focus`` of another objective of the same recordings, antennas and pixels, which saves
        finding it and holding its tables again.
    """

    def __init__(
        self,
        signal: Tensor,
        physics: LeanPhysics,
        centres: Tensor,
        *,
        smoothing: float | tuple[float, ...] = 0.0,
        pixel: float = 4.5e-3,
        half_width: float = 0.09,
        floor_db: float = -30.0,
        mask_db: float = -20.0,
        prior: float = 2e-3,
        focus: list[RangeFocus] | None = None,
    ) -> None:
        self.physics, self.faces, self.prior = physics, len(signal), prior
        self.priors = physics.model.n_shape + physics.model.n_expression
        sigmas = smoothing if isinstance(smoothing, tuple) else (smoothing,)
        self._sigmas = [sigma / pixel for sigma in sigmas]
        # Smoothed images are looked at in every so manieth pixel only.
        self._strides = [max(1, int(0.8 * sigma)) for sigma in self._sigmas]
        count = round(half_width / pixel)
        self._side = torch.arange(-count, count + 1, dtype=torch.float64) * pixel
        self._floors = 10 ** (floor_db / 10), 10 ** (mask_db / 10)
        with torch.no_grad():
            self.focus = focus or [
                self._focused(s, c) for s, c in zip(signal, centres.double(), strict=True)
            ]
            self._target = [self._features(s, b) for b, s in enumerate(signal)]

    def residuals(self, parameters: FaceParameters) -> Tensor:
        signal = self.physics.signal(parameters)
        rows = [self._compare(s, parameters[b], b) for b, s in enumerate(signal)]
        return torch.stack(rows)

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved])
        signal = self.physics.signal(both, like=parameters)
        return torch.stack([self._compare(s, both[b], face) for b, s in enumerate(signal)])

    def against(self, signal: Tensor, rendered: Tensor, parameters: FaceParameters) -> Tensor:
        """(M,) residuals of the first face as they were if ``signal`` (rx, tx, f) were its target,
        where ``rendered`` (rx, tx, f) is the signal of ``parameters`` (1)."""
        return self._compare(rendered, parameters, 0, self._features(signal, 0))

    def _focused(self, signal: Tensor, centre: Tensor) -> RangeFocus:
        """Pixels at the target's own depth, smoothed over a few centimetres."""
        y, x = torch.meshgrid(centre[1] + self._side, centre[0] + self._side, indexing="ij")
        z = torch.full_like(x, float(centre[2]))
        for _ in range(2):  # the first look, all at one depth, is a little out of focus
            points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
            focus = RangeFocus(self.physics, points)
            planes = focus.power_and_lag(signal).reshape(3, *x.shape)
            # A little power at the centre's depth fills what is dark.
            planes = smooth(planes, 2.0)
            lag = torch.complex(planes[1], planes[2])
            behind = focus.behind(lag, torch.ones_like(lag)).double().clamp(-0.05, 0.05)
            weight = (planes[0] / (planes[0] + 1e-4 * planes[0].max())).double()
            z = centre[2] + weight * (z + behind - centre[2])
        return RangeFocus(self.physics, torch.stack([x, y, z], dim=-1).reshape(-1, 3))

    def _features(self, signal: Tensor, face: int) -> list[tuple[Tensor, Tensor]]:
        """For each smoothing: power (y, x), by its own mean, and lag (y, x)."""
        side = len(self._side)
        planes = self.focus[face].power_and_lag(signal).reshape(3, side, side)
        out = []
        for sigma, stride in zip(self._sigmas, self._strides, strict=True):
            power, real, imaginary = smooth(planes, sigma)[:, ::stride, ::stride]
            # By its own mean, so that the floor means the same whatever the gain.
            out.append((power / power.mean(), torch.complex(real, imaginary)))
        return out

    def _compare(
        self,
        signal: Tensor,
        parameters: FaceParameters,
        face: int,
        target: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """(M,) residuals of one face."""
        parts = []
        for (power, lag), (wanted, reference) in zip(
            self._features(signal, face), target or self._target[face], strict=True
        ):
            floor, mask = (level * wanted.max() for level in self._floors)
            amplitude = (torch.log(power + floor) - torch.log(wanted + floor)) / NEPER
            behind = self.focus[face].behind(lag, reference) * (wanted / (wanted + mask))
            # A pixel whose strongest scatterer is another one is off by centimetres: bounded, it
            # does not outweigh the pixels that can be told apart.
            behind = 10 * torch.tanh(behind / (10 * DEPTH))
            scale = math.sqrt(wanted.numel())
            parts += [amplitude.flatten() / scale, behind.flatten() / scale]
        coefficients = torch.cat([parameters.shape, parameters.expression], dim=1)[0].double()
        prior = coefficients * math.sqrt(self.prior / len(coefficients))
        return torch.cat([torch.cat(parts).double(), prior])


def smooth(images: Tensor, sigma: float) -> Tensor:
    """(..., H, W) under a Gaussian of ``sigma`` pixels, zero outside; 0 leaves them as they are."""
    if sigma <= 0:
        return images
    reach = math.ceil(2.5 * sigma)
    t = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-(t**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    flat = F.conv2d(flat, weights[None, None, :, None], padding=(reach, 0))
    return F.conv2d(flat, weights[None, None, None], padding=(0, reach)).reshape(images.shape)
