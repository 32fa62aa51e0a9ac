"""Objectives through physics: recordings focused pixel by pixel."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting import tuned
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import ReducedPhysics
from radarbook.radar.layer import Layer
from radarbook.threads import divide


@dataclass(frozen=True, eq=False, kw_only=True)
class Target:
    """What one face is compared with. ``focus`` are its pixels."""

    focus: RangeFocus


T = TypeVar("T", bound=Target)


class Changes(Protocol):
    """How range profiles change about a face: rendered by a
    :class:`~radarbook.fitting.forward.ReducedPhysics`, or to first order by a
    :class:`~radarbook.fitting.facet_motion.FacetMotion`."""

    def profiles(
        self, parameters: FaceParameters, moved: FaceParameters, focus: RangeFocus
    ) -> Tensor:
        """(P, f, V) of versions ``moved`` (P) less those of ``parameters`` (1)."""
        ...

    def frozen_at(self, face: FaceParameters) -> Self: ...

    def with_layer(self, layer: Layer | None) -> Self: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Pixels:
    """A square image of pixels, ``pixel`` m apart, up to ``half_width`` m from its middle."""

    pixel: float = tuned.PIXEL
    half_width: float = tuned.HALF_WIDTH

    @property
    def axis(self) -> Tensor:
        """(N,) m, from the middle."""
        count = round(self.half_width / self.pixel)
        return torch.arange(-count, count + 1, dtype=torch.float64) * self.pixel

    def focused(self, signal: Tensor, centre: Tensor, physics: ReducedPhysics) -> RangeFocus:
        """The pixels about a centre (3,), each at the depth of the recording (rx, tx, f) there,
        smoothed over a few centimetres."""
        centre, side = centre.to(signal.device), self.axis.to(signal.device)
        y, x = torch.meshgrid(centre[1] + side, centre[0] + side, indexing="ij")
        z = torch.full_like(x, float(centre[2]))
        for _ in range(2):  # the first focus, all at one depth, is not quite sharp
            points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
            focus = RangeFocus(physics, points)
            planes = focus.power_and_lag(signal).reshape(3, *x.shape)
            # A little power at the centre's depth fills dark pixels.
            planes = smooth(planes, 2.0)
            lag = torch.complex(planes[1], planes[2])
            offset = focus.range_difference(lag, torch.ones_like(lag)).double().clamp(-0.05, 0.05)
            weight = (planes[0] / (planes[0] + 1e-4 * planes[0].max())).double()
            z = centre[2] + weight * (z + offset - centre[2])
        return RangeFocus(physics, torch.stack([x, y, z], dim=-1).reshape(-1, 3))

    def focus_all(
        self, signal: Tensor, physics: ReducedPhysics, centres: Tensor
    ) -> list[RangeFocus]:
        """:meth:`focused` for recordings (B, rx, tx, f) and centres (B, 3)."""
        with torch.no_grad():
            pairs = zip(signal, centres.double(), strict=True)
            return [self.focused(s, centre, physics) for s, centre in pairs]


@dataclass(frozen=True, eq=False, kw_only=True)
class FocusedObjective(ABC, Generic[T]):
    """What the objectives through physics share: rows of residuals of focused signals.

    Each pixel is focused at the depth of the target (:class:`~radarbook.fitting.focus.RangeFocus`).
    The coefficients have a standard normal prior, whose residuals end each row.

    Attributes
    ----------
    physics : ReducedPhysics
        Through which faces are rendered.
    targets : tuple of Target
        One per face.
    changes : Changes, optional
        A cheaper way to how range profiles *change* about a face (:meth:`jacobian`).
    prior : float
        Weight of the prior against the mean square residual.
    independent : float, optional
        Number of independent residuals in a recording. The prior then follows the residual, Eq.
        (P6.12): near a face (:meth:`frozen_at`) a coefficient of 1 counts as much as one of them,
        at least ``prior``. For models of many coefficients, which would otherwise explain the
        phases of a wrong face.
    noise : float
        Root mean square that the residuals of a row would have for the correct face, noise and
        approximations together; ensembles use it.
    """

    one_thread: ClassVar[bool] = True

    physics: ReducedPhysics
    targets: tuple[T, ...]
    changes: Changes | None = None
    prior: float = tuned.PRIOR
    noise: float = tuned.SIGNAL_NOISE
    independent: float | None = None

    @property
    def faces(self) -> int:
        return len(self.targets)

    @property
    def priors(self) -> int:
        return self.physics.model.n_shape + self.physics.model.n_expression

    @property
    def focus(self) -> list[RangeFocus]:
        """Pixels of each target; other objectives of the same recordings can use them."""
        return [target.focus for target in self.targets]

    def recorded(self, signal: Tensor) -> Tensor:
        """(B, rx, tx, f) complex64 of whole recordings (B, rx, tx, f): the antennas, frequencies
        and ranges that the targets are of."""
        centres = torch.stack([target.focus.points.mean(0) for target in self.targets])
        renderer = self.physics.renderer
        own = renderer.array.own()
        part = self.physics.decimation.gated(signal, own, renderer.waveform, centres)
        return part.to(torch.complex64)

    def residuals(self, parameters: FaceParameters) -> Tensor:
        targets = [self.target(parameters[b], b) for b in range(len(parameters))]
        signal = self.physics.signal(parameters)

        def row(b: int) -> Tensor:
            constant = self._constant(parameters[b], targets[b])
            profiles = targets[b].focus.profiles(signal[b : b + 1])
            return self._rows(profiles, parameters[b], targets[b], constant)[0]

        return torch.stack(list(divide(row, len(signal))))

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        both = FaceParameters.cat([parameters, moved])
        target = self.target(parameters, face)
        if self.changes is None or len(moved) == 0:
            profiles = target.focus.each(self.physics.signal(both, like=parameters))
        else:
            here = target.focus.profiles(self.physics.signal(parameters))
            change = self.changes.profiles(parameters, moved, target.focus)
            profiles = torch.cat([here, here + change])
        constant = self._constant(parameters, target)

        def rows(some: slice) -> Tensor:
            return self._rows(profiles[some], both[some], target, constant)

        if self.physics.together:
            return torch.cat([rows(some) for some in self._parts(len(both), target)])
        one = [slice(b, b + 1) for b in range(len(both))]
        return torch.cat(list(divide(lambda b: rows(one[b]), len(both))))

    def frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        """The same for versions of one face, within a millimetre or so of ``parameters`` (1), as
        :meth:`~radarbook.fitting.forward.ReducedPhysics.frozen_at`: smooth, and in less time. A
        prior that follows the residual stays as it is for ``parameters``, too."""
        frozen = self._frozen_at(parameters, face)
        if self.independent is None:
            return frozen
        row = frozen.jacobian(parameters, parameters[:0], face)[0]
        loss = float(row[: len(row) - self.priors].square().sum())
        return replace(frozen, prior=max(self.prior, self.priors * loss / self.independent))

    @property
    def prior_follows(self) -> bool:
        """Whether the prior, which losses include, follows the residual."""
        return self.independent is not None

    def _frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        """:meth:`frozen_at`, with the prior as it is."""
        return replace(
            self,
            physics=self.physics.frozen_at(parameters),
            changes=None if self.changes is None else self.changes.frozen_at(parameters),
        )

    def with_layer(self, layer: Layer | None) -> Self:
        """The same with another layer between array and faces, or with none."""
        return replace(
            self,
            physics=self.physics.with_layer(layer),
            changes=None if self.changes is None else self.changes.with_layer(layer),
        )

    def comparison(
        self, rendered: Tensor, parameters: FaceParameters
    ) -> Callable[[Tensor], Tensor]:
        """A function that gives the residuals (M,) of the first face if a signal (rx, tx, f) were
        its target, where ``rendered`` (rx, tx, f) is the signal of ``parameters`` (1). Weights are
        those of the target."""
        constant = self._constant(parameters, self.targets[0])
        there = self.target(parameters, 0)
        profiles = there.focus.profiles(rendered[None])

        def against(signal: Tensor) -> Tensor:
            target = self._retargeted(signal, there)
            return self._rows(profiles, parameters, target, constant)[0]

        return against

    def target(self, parameters: FaceParameters, face: int) -> T:
        """What ``parameters`` (1) are compared with as one face."""
        return self.targets[face]

    def diffuse_power(self, parameters: FaceParameters, target: T) -> Tensor:
        """(3, V) mean diffuse power and lag of one face in the pixels of a target, for material
        1."""
        focus = target.focus
        # Rows of pixels are as long as columns.
        side = math.isqrt(len(focus.points))
        return self.physics.diffuse_power(parameters, focus.lattice(side), focus.phase_per_metre)

    @abstractmethod
    def _retargeted(self, signal: Tensor, target: T) -> T:
        """The target that a signal (rx, tx, f) makes, with the weights of ``target``."""

    def _constant(self, parameters: FaceParameters, target: T) -> Tensor | None:
        """What is computed once for a face and all versions of it."""
        return None

    @abstractmethod
    def _data(
        self, profiles: Tensor, parameters: FaceParameters, target: T, constant: Tensor | None
    ) -> Tensor:
        """(B, M) residuals that are data, of range profiles (B, f, V) against one target."""

    def _rows(
        self, profiles: Tensor, parameters: FaceParameters, target: T, constant: Tensor | None
    ) -> Tensor:
        """(B, M) residuals, the prior's at the end; float64, where the physics is computed."""
        coefficients = torch.cat([parameters.shape, parameters.expression], dim=1).double()
        prior = coefficients * math.sqrt(self.prior / coefficients.shape[1])
        data = self._data(profiles, parameters, target, constant).double()
        return torch.cat([data, prior.to(data.device)], dim=1)

    def _parts(self, count: int, target: T) -> list[slice]:
        """Groups of profiles whose residuals stay within the renderer's working memory."""
        each = 64 * len(target.focus.points) * len(self.physics.waveform)
        size = max(1, self.physics.memory // each)
        return [slice(first, first + size) for first in range(0, count, size)]


def smooth(images: Tensor, sigma: float) -> Tensor:
    """(..., H, W) under a Gaussian of ``sigma`` pixels, zero outside; 0 leaves them as they are.

    Examples
    --------
    >>> image = torch.zeros(9, 9)
    >>> image[4, 4] = 1.0
    >>> blurred = smooth(image, 1.0)
    >>> round(float(blurred.sum()), 5), bool(blurred[4, 4] < 0.2)
    (1.0, True)
    """
    if sigma <= 0:
        return images
    reach = math.ceil(2.5 * sigma)
    t = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-(t**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    flat = F.conv2d(flat, weights[None, None, :, None], padding=(reach, 0))
    return F.conv2d(flat, weights[None, None, None], padding=(0, reach)).reshape(images.shape)
