"""Smoothed power and mean depth of a recording."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting import tuned
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.objectives.focused import FocusedObjective, Pixels, Target, smooth
from radarbook.seeds import torch_stream


@dataclass(frozen=True, eq=False, kw_only=True)
class Smoothing:
    """Smoothed features of an image of focused pixels.

    Attributes
    ----------
    sigmas : tuple of float
        Of the lateral Gaussians, pixels.
    """

    sigmas: tuple[float, ...]

    def features(self, planes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each smoothing: power ([B,] y, x), relative to its mean, and lag ([B,] y, x), of
        power and lag ([B,] 3, V). The smoothed image is subsampled to every n-th pixel."""
        side = math.isqrt(planes.shape[-1])
        # Relative to its own mean, so that the floor is independent of the gain.
        planes = planes / planes[..., :1, :].mean(-1, keepdim=True)
        planes = planes.unflatten(-1, (side, side))
        out = []
        for sigma in self.sigmas:
            stride = max(1, int(0.8 * sigma))
            smoothed = smooth(planes, sigma)[..., ::stride, ::stride]
            power, real, imag = smoothed.unbind(-3)
            out.append((power, torch.complex(real, imag)))
        return out


@dataclass(frozen=True, eq=False)
class Feature:
    """One smoothing of a target: power and lag (y, x), and the variances of the logarithm of the
    power and of the depth (m²)."""

    power: Tensor
    lag: Tensor
    log_variance: Tensor
    depth_variance: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class PowerTarget(Target):
    """Smoothed power and lag of one recording."""

    features: tuple[Feature, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class PowerObjective(FocusedObjective[PowerTarget]):
    """Smoothed power and mean depth of range profiles, through physics.

    The power over range is smoothed laterally, and its logarithm compared with the target's. The
    phase of the smoothed product of neighbouring frequencies is the power-weighted mean depth. Both
    vary slowly with the face where the raw images oscillate, the slower the wider the smoothing. A
    factor common to the whole signal (the gain, unknown in most recordings) drops out. The mean
    diffuse power is added to the coherent power, in proportion to the squared material factor. Each
    residual is divided by its noise standard deviation, because depths of dark pixels are
    unreliable. Build one with :meth:`of`.

    Attributes
    ----------
    smoothing : Smoothing
    floor, mask : float
        Power is compared down to the floor, depth where the target's power is above the mask, both
        relative to the target's maximum.
    diffuse : Tensor (3, V), optional
        Mean diffuse power and lag of all versions of a face (:meth:`frozen_at`).

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.decimation import decimate
    >>> from radarbook.fitting.objectives import PowerObjective
    >>> from radarbook.fitting.forward import ReducedPhysics
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> physics = ReducedPhysics(renderer, decimate(renderer.array, renderer.waveform))
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> face = face.replace(rendering=face.rendering * torch.tensor([1.0, 0.0, 1.0]))
    >>> centre = torch.tensor([[0.0, 0.0, 0.3]])
    >>> objective = PowerObjective.of(physics.signal(face), physics, centre, smoothing=0.0068)
    >>> bool(objective.residuals(face).square().sum() < 1e-8)
    True
    """

    smoothing: Smoothing
    floor: float
    mask: float
    diffuse: Tensor | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        signal: Tensor,
        physics: ReducedPhysics,
        centres: Tensor,
        *,
        smoothing: float | tuple[float, ...] = 0.0,
        pixels: Pixels | None = None,
        floor_db: float = tuned.FLOOR_DB,
        mask_db: float = tuned.MASK_DB,
        speckle_db: float = tuned.SPECKLE_DB,
        focus: list[RangeFocus] | None = None,
        **common: Any,
    ) -> Self:
        """The objective of recordings.

        Parameters
        ----------
        signal : Tensor (B, rx, tx, f)
            Recordings, already reduced to ``physics``' antennas and frequencies.
        physics : ReducedPhysics
        centres : Tensor (B, 3)
            About where each face is: the middle of its image, m, radar frame.
        smoothing : float or several
            σ of the lateral Gaussian, m; each gives a set of residuals.
        pixels : Pixels
            Of the image.
        floor_db, mask_db : float
            As the attributes, dB.
        speckle_db : float
            Power that is not coherent (noise, speckle, side lobes of channel errors), dB relative
            to the image's maximum: logarithms that it makes uncertain have less weight.
        focus : list of RangeFocus
            Of another objective of the same recordings, antennas and pixels: saves computing it and
            holding its tables twice.
        changes, prior, noise
            As the attributes of :class:`FocusedObjective`.
        """
        pixels = pixels or Pixels()
        sigmas = smoothing if isinstance(smoothing, tuple) else (smoothing,)
        features = Smoothing(sigmas=tuple(sigma / pixels.pixel for sigma in sigmas))
        floor, mask, speckle = (10 ** (db / 10) for db in (floor_db, mask_db, speckle_db))
        focus = focus or pixels.focus_all(signal, physics, centres)
        with torch.no_grad():
            targets = tuple(
                _target(s, f, features, floor, speckle) for s, f in zip(signal, focus, strict=True)
            )
        return cls(
            physics=physics, targets=targets, smoothing=features, floor=floor, mask=mask, **common
        )

    def _frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        """The diffuse power stays the same, too."""
        diffuse = self.diffuse_power(parameters, self.targets[face])
        return replace(super()._frozen_at(parameters, face), diffuse=diffuse)

    def _constant(self, parameters: FaceParameters, target: PowerTarget) -> Tensor:
        return self.diffuse_power(parameters, target) if self.diffuse is None else self.diffuse

    def _retargeted(self, signal: Tensor, target: PowerTarget) -> PowerTarget:
        found = self.smoothing.features(target.focus.power_and_lag(signal))
        features = (
            replace(feature, power=power, lag=lag)
            for feature, (power, lag) in zip(target.features, found, strict=True)
        )
        return replace(target, features=tuple(features))

    def _data(
        self,
        profiles: Tensor,
        parameters: FaceParameters,
        target: PowerTarget,
        constant: Tensor | None,
    ) -> Tensor:
        focus = target.focus
        planes = focus.lag(profiles)
        if constant is not None:
            planes = planes + constant * parameters.material.to(constant).square()[:, None, None]
        parts = []
        found = self.smoothing.features(planes)
        for (power, lag), wanted in zip(found, target.features, strict=True):
            floor, mask = (level * wanted.power.max() for level in (self.floor, self.mask))
            amplitude = torch.log(power + floor) - torch.log(wanted.power + floor)
            amplitude = amplitude / tuned.LOG_SCALE
            amplitude = amplitude * (1 + wanted.log_variance / tuned.LOG_ERROR**2).rsqrt()
            depth = focus.range_difference(lag, wanted.lag) * (wanted.power / (wanted.power + mask))
            depth = depth * (1 + wanted.depth_variance / tuned.DEPTH_ERROR**2).rsqrt()
            # A pixel whose strongest scatterer is another one has an error of centimetres: bounded,
            # it does not outweigh the others.
            depth = 10 * torch.tanh(depth / (10 * tuned.DEPTH_SCALE))
            scale = math.sqrt(wanted.power.numel())
            parts += [amplitude.flatten(1) / scale, depth.flatten(1) / scale]
        return torch.cat(parts, dim=1)


def _target(
    signal: Tensor, focus: RangeFocus, smoothing: Smoothing, floor: float, speckle: float
) -> PowerTarget:
    """Features of a recording (rx, tx, f), and the variances that noise of relative power
    ``speckle`` gives them, from a few samples of it."""
    profile = focus.profiles(signal)
    power = profile.abs().square().sum(0)
    scale = (speckle * power.max() / len(profile)).sqrt()
    clean = smoothing.features(focus.lag(profile))
    variances = [p.new_zeros(2, *p.shape) for p, _ in clean]
    for n in range(tuned.NOISE_SAMPLES):
        noise = torch.randn(
            profile.shape, generator=torch_stream(n, "fitting/noise"), dtype=profile.dtype
        ).to(profile.device)
        noisy = smoothing.features(focus.lag(profile + scale * noise))
        for variance, (p, lag), (q, other) in zip(variances, clean, noisy, strict=True):
            least = floor * p.max()
            change = torch.log(q + least) - torch.log(p + least)
            variance[0] += change.square() / tuned.NOISE_SAMPLES
            variance[1] += focus.range_difference(other, lag).square() / tuned.NOISE_SAMPLES
    # Samples of neighbouring pixels are samples of nearly the same distribution.
    features = (
        Feature(p, lag, *smooth(variance, 1.0))
        for (p, lag), variance in zip(clean, variances, strict=True)
    )
    return PowerTarget(focus=focus, features=tuple(features))
