"""What a fit makes small: residuals between a rendering and the target, squared and summed.

An objective turns parameters of B faces into residuals (B, M); the loss of a face is their sum of
squares. Residuals rather than the loss alone, because Gauss-Newton methods and the covariance of
the result need them.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.physics import LeanImaging, LeanPhysics
from radarbook.networks.channels import DEPTH_SCALE
from radarbook.radar.image import RadarImage
from radarbook.radar.imaging import Grid
from radarbook.radar.renderer import Renderer
from radarbook.training.losses import AMPLITUDE_SCALE, amplitude_error, depth_error

#: Residuals are scaled to these: half a neper of power and 2 mm of mean depth count alike.
NEPER, DEPTH = 2.0, 2e-3


class Objective(Protocol):
    """Residuals of parameters; the target is the objective's own."""

    #: Faces in the target.
    faces: int

    def residuals(self, parameters: FaceParameters) -> Tensor:
        """(B, M), face b against target b; differentiable where the renderer is."""
        ...

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        """(1 + P, M): residuals of one face and of P versions of it, moved a little."""
        ...


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
    """

    def __init__(self, target: RadarImage, renderer: Renderer, inputs: str = "both") -> None:
        if inputs not in ("both", "amplitude", "depth"):
            raise InputError(f"loss inputs: expected both, amplitude or depth, found {inputs!r}")
        self.target, self.renderer, self.inputs = target.detach(), renderer, inputs
        self.faces = len(target)

    def residuals(self, parameters: FaceParameters) -> Tensor:
        return self._residuals(parameters, self.target)

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved])
        index = torch.full((len(both),), face, dtype=torch.long)
        return self._residuals(both, self.target[index])

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
    """Smoothed power and mean depth of back-projected volumes, through physics.

    Of the power |I|², smoothed laterally, the logarithm of its sum over depth and its
    power-weighted mean depth are compared with the target's. Both vary slowly with the face where
    the raw images oscillate, the slower the wider the smoothing; a factor common to the whole
    signal (gain, unknown in most recordings) drops out.

    Parameters
    ----------
    signal : Tensor (B, rx, tx, f)
        Recordings, already reduced to ``physics``' antennas and frequencies.
    physics : LeanPhysics
    centres : Tensor (B, 3)
        About where each face is: the middle of its image, m, radar frame.
    smoothing : float
        σ of the lateral Gaussian, m.
    pixel, plane : float
        Sampling of the volume, m.
    floor_db, mask_db : float
        Power is compared down to the floor, depth where the target's power is above the mask,
        both below the target's maximum.
    prior : float
        Weight of a standard normal prior on the coefficients against the mean square residual.
    """

    def __init__(
        self,
        signal: Tensor,
        physics: LeanPhysics,
        centres: Tensor,
        *,
        smoothing: float = 0.0,
        pixel: float = 4.5e-3,
        plane: float = 7.5e-3,
        half_width: float = 0.09,
        floor_db: float = -30.0,
        mask_db: float = -20.0,
        prior: float = 2e-3,
    ) -> None:
        self.physics, self.faces, self.prior = physics, len(signal), prior
        self._smoothing = smoothing / pixel
        count = round(half_width / pixel)
        side = torch.arange(-count, count + 1, dtype=torch.float64) * pixel
        # From before the foremost point that may be off by some centimetres to behind the cheeks.
        depth = torch.arange(-0.05, 0.075, plane, dtype=torch.float64)
        self._imaging = [
            LeanImaging(physics, Grid(c[0] + side, c[1] + side, c[2] + depth))
            for c in centres.double()
        ]
        with torch.no_grad():
            pairs = [self._features(s[None], b) for b, s in enumerate(signal)]
        self._power, self._depth = (torch.cat(values) for values in zip(*pairs, strict=True))
        top = self._power.amax((1, 2), keepdim=True)
        self._floor = top * 10 ** (floor_db / 10)
        self._mask = self._power > top * 10 ** (mask_db / 10)

    def residuals(self, parameters: FaceParameters) -> Tensor:
        signal = self.physics.signal(parameters)
        rows = [self._compare(s[None], parameters[b], b) for b, s in enumerate(signal)]
        return torch.cat(rows)

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved])
        return self._compare(self.physics.signal(both, like=parameters), both, face)

    def _compare(self, signal: Tensor, parameters: FaceParameters, face: int) -> Tensor:
        power, depth = self._features(signal, face)
        floor = self._floor[face]
        amplitude = (torch.log(power + floor) - torch.log(self._power[face] + floor)) / NEPER
        amplitude = amplitude - amplitude.mean((1, 2), keepdim=True)
        behind = (depth - self._depth[face]) / DEPTH * self._mask[face]
        # A pixel whose strongest scatterer is another one is off by centimetres: bounded, it does
        # not outweigh the pixels that can be told apart.
        behind = 10 * torch.tanh(behind / 10)
        data = torch.cat([amplitude.flatten(1), behind.flatten(1)], dim=1).double()
        coefficients = torch.cat([parameters.shape, parameters.expression], dim=1).double()
        return torch.cat(
            [
                data / math.sqrt(data.shape[1]),
                coefficients * math.sqrt(self.prior / coefficients.shape[1]),
            ],
            dim=1,
        )

    def _features(self, signal: Tensor, face: int) -> tuple[Tensor, Tensor]:
        """(B, y, x) each: power summed over depth, and its mean depth."""
        imaging = self._imaging[face]
        power = smooth(imaging.power(signal), self._smoothing)
        total = power.sum(1).clamp(min=torch.finfo(power.dtype).tiny)
        z = imaging.grid.z.to(power.dtype)
        depth = (power * z[:, None, None]).sum(1) / total
        # By its own mean, so that the floor means the same whatever the gain.
        return total / total.mean((1, 2), keepdim=True), depth


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
