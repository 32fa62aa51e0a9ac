"""What a fit makes small: residuals between a rendering and the target, squared and summed.

An objective turns parameters of B faces into residuals (B, M); the loss of a face is their sum of
squares. Residuals rather than the loss alone, because Gauss-Newton methods and the covariance of
the result need them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import ReducedPhysics
from radarbook.networks.channels import DEPTH_UNIT
from radarbook.radar.image import RadarImage
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import Renderer
from radarbook.seeds import torch_stream
from radarbook.threads import divide
from radarbook.training.losses import AMPLITUDE_SCALE, amplitude_error, depth_error

#: Residuals are scaled to these: 3 nepers of power and 2 mm of mean depth count alike.
NEPER, DEPTH = 3.0, 2e-3
#: Errors of a logarithm of power and of a depth (m) that are there in any case.
LOG_ERROR, DEPTH_ERROR = 0.3, 1e-4
#: Draws of noise for the weights.
DRAWS = 8
#: Normalised residual power that a correct face may leave in addition to the diffuse share, for a
#: search among minima to end: correct faces leave 0.002, wrong ones 0.01 and more. And the largest
#: diffuse share for which it ends so: a wrong face takes its residual for diffuse reflection, and
#: from one speckle to another the share varies by a thirtieth of itself.
UNEXPLAINED, DIFFUSE = 0.005, 0.15


class Objective(Protocol):
    """Residuals of parameters; the target is the objective's own."""

    #: Faces in the target.
    faces: int
    #: Residuals at the end of each row that are a prior on the coefficients, not data.
    priors: int
    #: Root mean square that a row of residuals would have if the face were right.
    noise: float

    def residuals(self, parameters: FaceParameters) -> Tensor:
        """(B, M), face b against target b; differentiable where the renderer is."""
        ...

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        """(1 + P, M): residuals of one face and of P versions of it, moved a little."""
        ...

    def near(self, parameters: FaceParameters, face: int) -> Self:
        """The same for versions of one face, within a millimetre or so of ``parameters`` (1), and
        in less time; itself where that makes no difference."""
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
        self.faces, self.noise = len(target), 0.02
        self.priors = 0 if anchor is None else anchor.predicted.shape[1]

    def residuals(self, parameters: FaceParameters) -> Tensor:
        return self._with_prior(self._residuals(parameters, self.target), parameters)

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved])
        index = torch.full((len(both),), face, dtype=torch.long)
        return self._with_prior(self._residuals(both, self.target[index]), both, face)

    def near(self, parameters: FaceParameters, face: int) -> Self:
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


class FocusedObjective:
    """Common ground of the objectives through physics: the recording, focused pixel by pixel.

    Each pixel is focused at the depth where the target is (:class:`RangeFocus`).

    Parameters
    ----------
    signal : Tensor (B, rx, tx, f)
        Recordings, already reduced to ``physics``' antennas and frequencies.
    physics : ReducedPhysics
    centres : Tensor (B, 3)
        About where each face is: the middle of its image, m, radar frame.
    pixel, half_width : float
        Sampling and half the side of the image, m.
    prior : float
        Weight of a standard normal prior on the coefficients against the mean square residual.
    noise : float
        Root mean square that the residuals of a row would have if the face were right, noise and
        approximations together; ensembles use it.
    focus : list of RangeFocus
        ``focus`` of another objective of the same recordings, antennas and pixels, which saves
        finding it and holding its tables again.
    changes : ReducedPhysics
        A cheaper physics for how the signal *changes* about a face (:meth:`jacobian`).
    """

    def __init__(
        self,
        signal: Tensor,
        physics: ReducedPhysics,
        centres: Tensor,
        *,
        pixel: float = 4.5e-3,
        half_width: float = 0.09,
        prior: float = 2e-3,
        noise: float = 0.02,
        focus: list[RangeFocus] | None = None,
        changes: ReducedPhysics | None = None,
    ) -> None:
        self.physics, self.faces = physics, len(signal)
        self.changes = changes
        self.prior, self.noise = prior, noise
        self.priors = physics.model.n_shape + physics.model.n_expression
        count = round(half_width / pixel)
        self._side = torch.arange(-count, count + 1, dtype=torch.float64) * pixel
        with torch.no_grad():
            self.focus = focus or [
                self._focused(s, c) for s, c in zip(signal, centres.double(), strict=True)
            ]

    def residuals(self, parameters: FaceParameters) -> Tensor:
        once, signal = self._once(parameters), self.physics.signal(parameters)

        def row(b: int) -> Tensor:
            one = slice(b, b + 1)
            aside = once._aside(parameters[b], b)
            return once._rows(signal[one], parameters[one], b, aside)[0]

        return torch.stack(list(divide(row, len(signal))))

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved])
        if self.changes is None or len(moved) == 0:
            signal = self.physics.signal(both, like=parameters)
        else:
            change = self.changes.signal(both, like=parameters)
            signal = self.physics.signal(parameters) + (change - change[:1])
        once = self._once(parameters, face)
        aside = once._aside(parameters, face)

        def rows(some: slice) -> Tensor:
            return once._rows(signal[some], both[some], face, aside)

        if self.physics.together:
            return torch.cat([rows(some) for some in self._parts(len(signal))])
        one = [slice(b, b + 1) for b in range(len(signal))]
        return torch.cat(list(divide(lambda b: rows(one[b]), len(signal))))

    def near(self, parameters: FaceParameters, face: int) -> Self:
        """The same for versions of one face, within a millimetre or so of ``parameters`` (1), as
        :meth:`~radarbook.fitting.forward.ReducedPhysics.near`: smooth, and in less time. What is
        reflected several times stays, too."""
        other = copy.copy(self._once(parameters, face))
        other.physics = self.physics.near(parameters)
        other.changes = None if self.changes is None else self.changes.near(parameters)
        return other

    def behind(self, layer: Layer | None) -> Self:
        """The same with another layer between array and faces, or with none."""
        other = copy.copy(self)
        other.physics = self.physics.behind(layer)
        other.changes = None if self.changes is None else self.changes.behind(layer)
        return other

    def _once(self, parameters: FaceParameters, face: int | None = None) -> Self:
        """With targets of one reflection, as these faces (B) tell, or one ``face`` (1): a class's
        own. Itself where reflections make no difference."""
        return self

    def _parts(self, count: int) -> list[slice]:
        """So many signals at a time: what their focused pixels take stays within the renderer's
        working memory."""
        pixels = len(self._side) ** 2 * len(self.physics.waveform)
        each_one = 32 * pixels * len(self.physics.array.tx)
        size = max(1, self.physics.memory // each_one)
        return [slice(first, first + size) for first in range(0, count, size)]

    def comparison(
        self, rendered: Tensor, parameters: FaceParameters
    ) -> Callable[[Tensor], Tensor]:
        """What gives (M,) residuals of the first face as they were if a signal (rx, tx, f) were its
        target, where ``rendered`` (rx, tx, f) is the signal of ``parameters`` (1). Weights stay."""
        aside = self._aside(parameters, 0)

        def against(signal: Tensor) -> Tensor:
            kept, self._target[0] = self._target[0], self._like(signal, self._target[0])
            try:
                return self._rows(rendered[None], parameters, 0, aside)[0]
            finally:
                self._target[0] = kept

        return against

    #: What is compared with, face by face: a class's own.
    _target: list[Any]

    def _like(self, signal: Tensor, target: Any) -> Any:
        """Another signal's target, weighted as ``target`` of the first face."""
        raise NotImplementedError

    def _aside(self, parameters: FaceParameters, face: int) -> Tensor | None:
        """What is computed once for a face and all versions of it."""
        return None

    def _diffuse(self, parameters: FaceParameters, face: int) -> Tensor:
        """(3, V) mean diffuse power and lag of one face in its pixels, for material 1."""
        focus = self.focus[face]
        return self.physics.diffuse_power(parameters, focus.lattice(len(self._side)), focus.turn)

    def _data(
        self, signal: Tensor, parameters: FaceParameters, face: int, aside: Tensor | None
    ) -> Tensor:
        """(B, M) residuals that are data, of signals (B, rx, tx, f) against one face's target."""
        raise NotImplementedError

    def _rows(
        self, signal: Tensor, parameters: FaceParameters, face: int, aside: Tensor | None
    ) -> Tensor:
        """(B, M) residuals, the prior's at the end; float64, where the physics is computed."""
        coefficients = torch.cat([parameters.shape, parameters.expression], dim=1).double()
        prior = coefficients * math.sqrt(self.prior / coefficients.shape[1])
        data = self._data(signal, parameters, face, aside).double()
        return torch.cat([data, prior.to(data.device)], dim=1)

    def _focused(self, signal: Tensor, centre: Tensor) -> RangeFocus:
        """Pixels at the target's own depth, smoothed over a few centimetres."""
        centre, side = centre.to(signal.device), self._side.to(signal.device)
        y, x = torch.meshgrid(centre[1] + side, centre[0] + side, indexing="ij")
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


class PowerObjective(FocusedObjective):
    """Smoothed power and mean depth of range profiles, through physics.

    Of the power over range, smoothed laterally, the logarithm is compared with the target's, and of
    the smoothed product of neighbouring frequencies the phase, which is the power-weighted mean
    depth. Both vary slowly with the face where the raw images oscillate, the slower the wider the
    smoothing; a factor common to the whole signal (gain, unknown in most recordings) drops out.
    To the coherent power the mean of the diffuse one is added, after the material factor.

    Parameters beside :class:`FocusedObjective`'s
    ---------------------------------------------
    smoothing : float or several
        σ of the lateral Gaussian, m; of several, each gives a set of residuals.
    floor_db, mask_db : float
        Power is compared down to the floor, depth where the target's power is above the mask,
        both below the target's maximum.
    speckle_db : float
        Power that is not the face's coherent one (noise, speckle, side lobes of channel errors)
        below the image's maximum: a logarithm that it makes uncertain counts for less.
    """

    def __init__(
        self,
        signal: Tensor,
        physics: ReducedPhysics,
        centres: Tensor,
        *,
        smoothing: float | tuple[float, ...] = 0.0,
        pixel: float = 4.5e-3,
        floor_db: float = -30.0,
        mask_db: float = -20.0,
        speckle_db: float = -15.0,
        **common: Any,
    ) -> None:
        super().__init__(signal, physics, centres, pixel=pixel, **common)
        sigmas = smoothing if isinstance(smoothing, tuple) else (smoothing,)
        self._sigmas = [sigma / pixel for sigma in sigmas]
        # Smoothed images are subsampled to every n-th pixel.
        self._strides = [max(1, int(0.8 * sigma)) for sigma in self._sigmas]
        self._floors = 10 ** (floor_db / 10), 10 ** (mask_db / 10)
        self._speckle = 10 ** (speckle_db / 10)
        # Mean diffuse power and lag of all faces (:meth:`near`).
        self._spread: Tensor | None = None
        with torch.no_grad():
            self._target = [self._wanted(s, b) for b, s in enumerate(signal)]

    def near(self, parameters: FaceParameters, face: int) -> Self:
        """As :meth:`FocusedObjective.near`; the diffuse power stays, too."""
        other = super().near(parameters, face)
        other._spread = self._diffuse(parameters, face)
        return other

    def _aside(self, parameters: FaceParameters, face: int) -> Tensor | None:
        return self._diffuse(parameters, face) if self._spread is None else self._spread

    def _wanted(self, signal: Tensor, face: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The target's features, and the variances of its logarithms and depths (m²).

        Variances are those that noise of the stated level gives, from a few draws of it.
        """
        focus = self.focus[face]
        profile = focus.profiles(signal)
        power = profile.abs().square().sum(0)
        scale = (self._speckle * power.max() / len(profile)).sqrt()
        clean = self._features(focus.lag(profile))
        spreads = [p.new_zeros(2, *p.shape) for p, _ in clean]
        for n in range(DRAWS):
            noise = torch.randn(
                profile.shape, generator=torch_stream(n, "fitting/noise"), dtype=profile.dtype
            ).to(profile.device)
            noisy = self._features(focus.lag(profile + scale * noise))
            for spread, (p, lag), (q, other) in zip(spreads, clean, noisy, strict=True):
                floor = self._floors[0] * p.max()
                spread[0] += (torch.log(q + floor) - torch.log(p + floor)).square() / DRAWS
                spread[1] += focus.behind(other, lag).square() / DRAWS
        out = []
        for (p, lag), spread in zip(clean, spreads, strict=True):
            # Neighbours' draws are draws of nearly the same.
            log, depth = smooth(spread, 1.0)
            out.append((p, lag, log, depth))
        return out

    def _like(self, signal: Tensor, target: Any) -> Any:
        features = self._features(self.focus[0].power_and_lag(signal))
        return [(*f, *variances) for f, (_, _, *variances) in zip(features, target, strict=True)]

    def _features(self, planes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each smoothing: power ([B,] y, x), by the mean of all, and lag ([B,] y, x)."""
        side = len(self._side)
        # By its own mean, so that the floor means the same whatever the gain.
        planes = planes / planes[..., :1, :].mean(-1, keepdim=True)
        planes = planes.unflatten(-1, (side, side))
        out = []
        for sigma, stride in zip(self._sigmas, self._strides, strict=True):
            smoothed = smooth(planes, sigma)[..., ::stride, ::stride]
            power, real, imaginary = smoothed.unbind(-3)
            out.append((power, torch.complex(real, imaginary)))
        return out

    def _data(
        self, signal: Tensor, parameters: FaceParameters, face: int, aside: Tensor | None
    ) -> Tensor:
        planes = self.focus[face].power_and_lag(signal)
        if aside is not None:
            planes = planes + aside * parameters.material.to(aside).square()[:, None, None]
        parts = []
        for (power, lag), (wanted, reference, log, depth) in zip(
            self._features(planes), self._target[face], strict=True
        ):
            floor, mask = (level * wanted.max() for level in self._floors)
            amplitude = (torch.log(power + floor) - torch.log(wanted + floor)) / NEPER
            amplitude = amplitude * (1 + log / LOG_ERROR**2).rsqrt()
            behind = self.focus[face].behind(lag, reference)
            behind = behind * (wanted / (wanted + mask)) * (1 + depth / DEPTH_ERROR**2).rsqrt()
            # A pixel whose strongest scatterer is another one is off by centimetres: bounded, it
            # does not outweigh the pixels that can be told apart.
            behind = 10 * torch.tanh(behind / (10 * DEPTH))
            scale = math.sqrt(wanted.numel())
            parts += [amplitude.flatten(1) / scale, behind.flatten(1) / scale]
        return torch.cat(parts, dim=1)


class PhaseObjective(FocusedObjective):
    """The complex range profiles themselves, phase and all: for a face that is nearly right.

    The residual is target less face, after the complex gain that makes it least, over the target's
    norm: the loss is the normalised residual power, the share of the recording's weighted power
    that the face does not explain, 0 for a perfect fit and 1 where nothing agrees. Phases turn once
    in half a wavelength of depth, 2 mm, so highlights must be right to some half of a millimetre
    first; then they are known to hundredths. Diffuse reflection and noise are what is left over.

    A pixel counts by one over the root of its power, smoothed, plus ``contrast`` times the largest.
    Large, the brightest highlights decide, which are few and can be brought into phase one by one;
    small, everything that is above the noise has its say.

    Where the renderer follows paths of several reflections, what they add to a face is taken off
    the target first. It is weak, and stays as it is while derivatives are taken: they know of one
    reflection alone.
    """

    def __init__(
        self,
        signal: Tensor,
        physics: ReducedPhysics,
        centres: Tensor,
        *,
        contrast: float = 0.3,
        **common: Any,
    ) -> None:
        super().__init__(signal, physics, centres, **common)
        side = len(self._side)
        self._weights: list[Tensor] = []
        self._target: list[Tensor] = []
        with torch.no_grad():
            for b, s in enumerate(signal):
                profiles = self.focus[b].profiles(s)
                power = profiles.abs().square().sum(0).reshape(1, side, side)
                power = smooth(power, 2.0).flatten()
                weight = (power + contrast * power.max()).rsqrt()
                self._weights.append(weight / (profiles * weight).norm())
                self._target.append(profiles * self._weights[-1])
        #: Whether several reflections are still to be taken off the targets.
        self.several = physics.renderer.bounces > 1

    @torch.no_grad()
    def _once(self, parameters: FaceParameters, face: int | None = None) -> Self:
        """With the targets less what these faces' paths of several reflections add to them."""
        if not self.several:
            return self
        other = copy.copy(self)
        other._target, other.several = list(self._target), False
        for n, b in enumerate(range(self.faces) if face is None else [face]):
            other._target[b] = self._less_reflections(parameters[n], b)
        return other

    def _less_reflections(self, parameters: FaceParameters, face: int) -> Tensor:
        """The target of one face (1), as these parameters have its reflections.

        By the part, between none and all, that leaves the least residual (Eq. (6.5)): a recording
        may have none, and a face that is not right has some of them with wrong phases.
        """
        extra, target = self.physics.reflections(parameters), self._target[face]
        if extra is None:
            return target
        mine = self._weighted(self.physics.signal(parameters)[0], face)
        power = mine.abs().square().sum().clamp(min=1e-30)
        gain = (mine.conj() * target).sum() / power
        more = gain * self._weighted(extra, face)
        # What of them looks like the face itself is in the gain already.
        across = more - mine * ((mine.conj() * more).sum() / power)
        alike = (across.conj() * (target - gain * mine)).sum().real
        part = (alike / across.abs().square().sum().clamp(min=1e-30)).clamp(0, 1)
        return target - part * more

    @torch.no_grad()
    def diffuse_share(self, parameters: FaceParameters) -> Tensor:
        """(B,) share of the weighted power that is diffuse for the faces' material: the normalised
        residual power that a correct face leaves of a recording without noise."""
        shares = []
        for b, s in enumerate(self.physics.signal(parameters)):
            diffuse = self._diffuse_power(parameters[b], b).sum()
            shares.append(diffuse / (diffuse + self._weighted(s, b).abs().square().sum()))
        return torch.stack(shares).cpu()

    @torch.no_grad()
    def power_maps(self, parameters: FaceParameters) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each face the weighted power (V,) of its pixels, over the target's: of the residual,
        of the face, and of the diffuse reflection that its material predicts."""
        once, maps = self._once(parameters), []
        for b, s in enumerate(self.physics.signal(parameters)):
            mine, wanted = self._weighted(s, b), once._target[b]
            gain = (mine.conj() * wanted).sum() / mine.abs().square().sum().clamp(min=1e-30)
            diffuse = gain.abs().square() * self._diffuse_power(parameters[b], b)
            found = (
                (wanted - gain * mine).abs().square().sum(0),
                (gain * mine).abs().square().sum(0),
            )
            maps.append((found[0].cpu(), found[1].cpu(), diffuse.cpu()))
        return maps

    def _diffuse_power(self, parameters: FaceParameters, face: int) -> Tensor:
        """(V,) mean diffuse power of one face (1) in its pixels, as they count for it."""
        spread = self._diffuse(parameters, face)[0]
        return spread * parameters.material.to(spread).square() * self._weights[face].square()

    @torch.no_grad()
    def coherence(self, one: FaceParameters, other: FaceParameters) -> Tensor:
        """(B,) 0 to 1: how coherent the weighted range profiles of two faces are. 1 where one
        recording could be of either."""
        found = []
        for b in range(len(one)):
            # One face at a time: the physics may still know its signal.
            x, y = (self._weighted(self.physics.signal(p[b])[0], b) for p in (one, other))
            found.append((x.conj() * y).sum().abs() / (x.norm() * y.norm()).clamp(min=1e-30))
        return torch.stack(found).cpu()

    def enough(self, parameters: FaceParameters) -> Tensor:
        """(B,) the loss below which a search among minima ends: noise and the diffuse share of
        these faces leave as much. 0 where that share is too large to tell (:data:`DIFFUSE`)."""
        diffuse = self.diffuse_share(parameters).double()
        return torch.where(diffuse < DIFFUSE, UNEXPLAINED + (1 - UNEXPLAINED) * diffuse, 0.0)

    def target(self, face: int) -> Tensor:
        """(M,) complex: what the face is compared with, weighted; residuals are this less the face,
        real and imaginary parts side by side."""
        return self._target[face].flatten().to(torch.complex128)

    def _like(self, signal: Tensor, target: Any) -> Any:
        return self._weighted(signal, 0)

    def _weighted(self, signal: Tensor, face: int) -> Tensor:
        """([B,] f, V) range profiles of signals ([B,] rx, tx, f), as they count for one face."""
        return self.focus[face].profiles(signal) * self._weights[face]

    def _data(
        self, signal: Tensor, parameters: FaceParameters, face: int, aside: Tensor | None
    ) -> Tensor:
        mine = self._weighted(signal, face)
        wanted = self._target[face]
        power = mine.abs().square().sum((1, 2)).clamp(min=1e-30)
        gain = (mine.conj() * wanted).sum((1, 2)) / power
        return torch.view_as_real(wanted - gain[:, None, None] * mine).flatten(1)


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
