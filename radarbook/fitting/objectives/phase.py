"""The complex range profiles of a recording."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting import tuned
from radarbook.fitting.channel_gains import ChannelGains, channel_gains
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.objectives.focused import FocusedObjective, Pixels, Target, smooth
from radarbook.radar.channel_errors import ChannelErrors


@dataclass(frozen=True, eq=False, kw_only=True)
class PhaseTarget(Target):
    """Weighted range profiles (f, V) of one recording, and the weights (V,) of the pixels.

    ``gains``: those of antennas, which were removed from the profiles.
    """

    weights: Tensor
    profiles: Tensor
    gains: ChannelGains | None = None

    def weighted(self, signal: Tensor) -> Tensor:
        """([B,] f, V) range profiles of signals ([B,] rx, tx, f), with these weights."""
        return self.compared(self.focus.profiles(signal))

    def compared(self, profiles: Tensor) -> Tensor:
        """([B,] f, V) range profiles with these weights, without the gains of antennas."""
        weighted = profiles * self.weights
        return weighted if self.gains is None else self.gains.without(weighted)


@dataclass(frozen=True, eq=False, kw_only=True)
class PhaseObjective(FocusedObjective[PhaseTarget]):
    """The complex range profiles themselves, for a face that is nearly correct.

    The residual is target less face, after the complex gain that makes it least, over the target's
    norm. So the loss is the normalised residual power: the share of the recording's weighted power
    that the face does not explain, 0 for a perfect fit and 1 where nothing agrees. Half a
    wavelength of depth, 2 mm, is a cycle of the phase, so highlights must be right to
    about half a millimetre first; then they are known to
    hundredths. Diffuse reflection and noise remain in the residual.

    Where the renderer follows paths of several reflections, what they add to a face is subtracted
    from the target first. It is weak, and stays the same while derivatives are taken: those are of
    the first reflection alone. Where the renderer states errors of channels, the gains of antennas
    are removed from target and face in the same way (:mod:`radarbook.fitting.channel_gains`). Build
    one with :meth:`of`.

    Attributes
    ----------
    double_bounce : bool
        Whether reflections after the first are still to be subtracted from the targets.
    channels : ChannelErrors, optional
        Of the antennas, whose gains are still to be removed from the targets.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.decimation import decimate
    >>> from radarbook.fitting.objectives import PhaseObjective
    >>> from radarbook.fitting.forward import ReducedPhysics
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> physics = ReducedPhysics(renderer, decimate(renderer.array, renderer.waveform))
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> centre = torch.tensor([[0.0, 0.0, 0.3]])
    >>> objective = PhaseObjective.of((2 - 1j) * physics.signal(face), physics, centre)
    >>> bool(objective.residuals(face).square().sum() < 1e-8)
    True
    """

    double_bounce: bool = False
    channels: ChannelErrors | None = None

    @classmethod
    def of(
        cls,
        signal: Tensor,
        physics: ReducedPhysics,
        centres: Tensor,
        *,
        contrast: float = tuned.CONTRAST,
        pixels: Pixels | None = None,
        focus: list[RangeFocus] | None = None,
        **common: Any,
    ) -> Self:
        """The objective of recordings.

        Parameters
        ----------
        signal, physics, centres, pixels, focus
            As :meth:`PowerObjective.of <radarbook.fitting.objectives.power.PowerObjective.of>`.
        contrast : float
            A pixel has the weight 1 / √(P + contrast · max P), P its smoothed power. If it is
            large, the brightest highlights decide: these are few, and can be brought into phase one
            by one. If it is small, every pixel above the noise counts.
        changes, prior, noise
            As the attributes of :class:`FocusedObjective`.
        """
        pixels = pixels or Pixels()
        focus = focus or pixels.focus_all(signal, physics, centres)
        with torch.no_grad():
            targets = tuple(_target(s, f, contrast) for s, f in zip(signal, focus, strict=True))
        double = physics.renderer.bounces > 1
        # Few pairs of a product have no gain of their own.
        channels = physics.renderer.channels if physics.array.is_nearly_product else None
        return cls(
            physics=physics, targets=targets, double_bounce=double, channels=channels, **common
        )

    def _frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        """Reflections after the first, and gains of antennas, stay the same, too."""
        targets = list(self.targets)
        targets[face] = self.target(parameters, face)
        frozen = super()._frozen_at(parameters, face)
        return replace(frozen, targets=tuple(targets), double_bounce=False, channels=None)

    @torch.no_grad()
    def target(self, parameters: FaceParameters, face: int) -> PhaseTarget:
        """The target of one face, less its reflections after the first as ``parameters`` (1) have
        them, and without the gains of antennas about this face.

        Reflections are scaled by the factor, between 0 and 1, that leaves the least residual
        (Eq. (P6.5)): a recording may have none, and those of a wrong face have partly wrong phases.
        """
        target = self.targets[face]
        extra = self.physics.reflections(parameters) if self.double_bounce else None
        if extra is not None:
            wanted, mine = target.profiles, target.weighted(self.physics.signal(parameters)[0])
            more = target.weighted(extra)
            gain, part = _gain_and_part(mine, more, wanted)
            target = replace(target, profiles=wanted - gain * part * more)
        if self.channels is not None:
            target = self._without_gains(target, parameters, self.channels)
        return target

    def _without_gains(
        self, target: PhaseTarget, parameters: FaceParameters, errors: ChannelErrors
    ) -> PhaseTarget:
        signal = self.physics.signal(parameters)[0]
        each = target.focus.by_antenna(signal)
        assert each is not None
        weights = target.weights[:, None]
        gains = channel_gains(
            (each[0] * weights, each[1] * weights),
            target.weighted(signal),
            target.profiles,
            errors,
        )
        return replace(target, profiles=gains.without(target.profiles), gains=gains)

    @torch.no_grad()
    def diffuse_share(self, parameters: FaceParameters) -> Tensor:
        """(B,) share of the weighted power that is diffuse for the faces' material: the normalised
        residual power that a correct face leaves of a recording without noise. What gains of
        antennas absorb of it is not counted."""
        signals, shares = self.physics.signal(parameters), []
        for b, signal in enumerate(signals):
            target = self.targets[b]
            if self.channels is not None:
                target = self._without_gains(target, parameters[b], self.channels)
            left = self._diffuse_left(parameters[b], target)
            shares.append(left * self._diffuse_share(signal, parameters[b], b))
        return torch.stack(shares).cpu()

    def _diffuse_share(self, signal: Tensor, parameters: FaceParameters, face: int) -> Tensor:
        target = self.targets[face]
        diffuse = self._weighted_diffuse(parameters, target).sum()
        return diffuse / (diffuse + target.weighted(signal).abs().square().sum())

    def _diffuse_left(self, parameters: FaceParameters, target: PhaseTarget) -> float:
        """Share of the diffuse power of ``parameters`` (1) that the gains' removal leaves."""
        if target.gains is None:
            return 1.0
        before = after = 0.0
        for speckle in self.physics.speckle_samples(parameters, tuned.GAIN_SAMPLES):
            whole = target.focus.profiles(speckle) * target.weights
            before += float(whole.abs().square().sum())
            after += float(target.gains.without(whole).abs().square().sum())
        return after / max(before, 1e-30)

    @torch.no_grad()
    def power_maps(self, parameters: FaceParameters) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each face the weighted power (V,) of its pixels, over the target's: of the residual,
        of the face, and of the diffuse reflection that its material predicts."""
        targets = [self.target(parameters[b], b) for b in range(len(parameters))]
        maps = []
        for b, s in enumerate(self.physics.signal(parameters)):
            mine, wanted = targets[b].weighted(s), targets[b].profiles
            gain = (mine.conj() * wanted).sum() / mine.abs().square().sum().clamp(min=1e-30)
            left = self._diffuse_left(parameters[b], targets[b])
            diffuse = gain.abs().square() * self._weighted_diffuse(parameters[b], targets[b]) * left
            residual = (wanted - gain * mine).abs().square().sum(0)
            coherent = (gain * mine).abs().square().sum(0)
            maps.append((residual.cpu(), coherent.cpu(), diffuse.cpu()))
        return maps

    def _weighted_diffuse(self, parameters: FaceParameters, target: PhaseTarget) -> Tensor:
        """(V,) mean diffuse power of one face (1) in its pixels, weighted."""
        spread = self.diffuse_power(parameters, target)[0]
        return spread * parameters.material.to(spread).square() * target.weights.square()

    @torch.no_grad()
    def coherence(self, one: FaceParameters, other: FaceParameters) -> Tensor:
        """(B,) 0 to 1: coherence of the weighted range profiles of two faces; 1 where they are
        indistinguishable in a recording."""
        found = []
        for b in range(len(one)):
            # One face at a time: the physics may still know its signal.
            x, y = (self.targets[b].weighted(self.physics.signal(p[b])[0]) for p in (one, other))
            found.append((x.conj() * y).sum().abs() / (x.norm() * y.norm()).clamp(min=1e-30))
        return torch.stack(found).cpu()

    @torch.no_grad()
    def enough(self, parameters: FaceParameters, face: int) -> float:
        """The loss of ``parameters`` (1), as one face, below which a search among minima ends:
        noise and the diffuse share leave as much. 0 where that share is too large to decide
        (:data:`~radarbook.fitting.tuned.LARGEST_DIFFUSE_SHARE`)."""
        return allowed_residual(self.diffuse_share_of(parameters, face))

    @torch.no_grad()
    def diffuse_share_of(self, parameters: FaceParameters, face: int) -> float:
        """:meth:`diffuse_share` of ``parameters`` (1), as one face. The few per cent of it that
        gains of antennas absorb are left in."""
        signal = self.physics.signal(parameters)[0]
        return float(self._diffuse_share(signal, parameters, face))

    def target_samples(self, face: int) -> Tensor:
        """(M,) complex weighted samples of a target. Residuals are these less the face, real and
        imaginary parts side by side."""
        return self.targets[face].profiles.flatten().to(torch.complex128)

    def sample_counts(self, face: int) -> tuple[int, ...]:
        """How many samples share a complex gain: all of them."""
        return (self.targets[face].profiles.numel(),)

    def _retargeted(self, signal: Tensor, target: PhaseTarget) -> PhaseTarget:
        return replace(target, profiles=target.weighted(signal))

    def _data(
        self,
        profiles: Tensor,
        parameters: FaceParameters,
        target: PhaseTarget,
        constant: Tensor | None,
    ) -> Tensor:
        mine, wanted = target.compared(profiles), target.profiles
        power = mine.abs().square().sum((1, 2)).clamp(min=1e-30)
        gain = (mine.conj() * wanted).sum((1, 2)) / power
        return torch.view_as_real(wanted - gain[:, None, None] * mine).flatten(1)


def allowed_residual(diffuse: float) -> float:
    """The loss that a correct face may have, whose diffuse share is this; 0 where that is too large
    to decide (:data:`~radarbook.fitting.tuned.LARGEST_DIFFUSE_SHARE`)."""
    if diffuse >= tuned.LARGEST_DIFFUSE_SHARE:
        return 0.0
    return tuned.RESIDUAL_ALLOWED + (1 - tuned.RESIDUAL_ALLOWED) * diffuse


def _target(signal: Tensor, focus: RangeFocus, contrast: float) -> PhaseTarget:
    profiles = focus.profiles(signal)
    power = profiles.abs().square().sum(0)
    side = round(len(power) ** 0.5)
    power = smooth(power.reshape(1, side, side), 2.0).flatten()
    weights = (power + contrast * power.max()).rsqrt()
    weights = weights / (profiles * weights).norm()
    return PhaseTarget(focus=focus, weights=weights, profiles=profiles * weights)


def _gain_and_part(mine: Tensor, extra: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The complex gain and the part, 0 to 1, of ``extra`` for which gain · (mine + part · extra) is
    nearest to ``target``: all complex, of one shape.

    For one part the gain is a projection, whose power is a quotient of two parabolas in the part;
    it is largest at 0, at 1 or where the quotient's derivative, a parabola too, is 0.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a.conj() * b).sum().to(torch.complex128)

    alike = dot(mine, target), dot(extra, target)
    power, cross, more = (dot(a, b).real for a, b in ((mine, mine), (mine, extra), (extra, extra)))
    top = alike[0].abs().square(), 2 * (alike[0].conj() * alike[1]).real, alike[1].abs().square()
    a = 2 * top[2] * cross - top[1] * more
    b = 2 * (top[2] * power - top[0] * more)
    c = top[1] * power - 2 * top[0] * cross
    root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
    # Both roots without cancellation.
    half = -0.5 * (b + torch.where(b < 0, -root, root))
    parts = torch.stack([torch.zeros_like(a), torch.ones_like(a), half / a, c / half])
    parts = parts.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)
    size = (power + 2 * cross * parts + more * parts.square()).clamp(min=1e-30)
    best = int(((top[0] + top[1] * parts + top[2] * parts.square()) / size).argmax())
    gain = (alike[0] + alike[1] * parts[best]) / size[best]
    return gain.to(target.dtype), parts[best].to(target.real.dtype)
