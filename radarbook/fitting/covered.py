"""A face behind a layer of which little is known.

A blanket delays and attenuates every path. The delay is nearly the same for all, so to a fit that
ignores the layer the face lies some tenths of a millimetre too far back. What tells a layer from a
face that *is* farther back: slanting paths are delayed a little more, and internal reflections
ripple the spectrum, by the optical thickness n·t modulo half a wavelength. So along the thickness
the loss has minima a fraction of a wavelength apart. They are found by a scan in which the face
follows by linear theory, at one rendering for each layer (variable projection, Golub and Pereyra
1973); from the best of them thickness, permittivity and face go on together, by Gauss-Newton steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.fitting.fit import UNKNOWN
from radarbook.fitting.methods import LevenbergMarquardt
from radarbook.fitting.objectives import PhaseObjective
from radarbook.fitting.reconstruct import SCHEDULE, physical_stages
from radarbook.fitting.space import ParameterSpace
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.threads import alone

#: Steps of the scan over optical thickness, in wavelengths.
SCAN = 1 / 16
#: Minima of one scan that are descended from, how far from others' ends they are at least, in
#: wavelengths, and by what share the loss may be above where the face followed from.
MINIMA, APART, BEHIND = 3, 1 / 12, 0.01
#: Gauss-Newton steps from each at most, and the share of the loss that is still worth one.
STEPS, GAIN = 8, 2e-5
#: Independent residuals of a recording: at the truth of ten covered faces, smooth and rough ones,
#: each parameter takes between one part in 1100 and in 2500 of the loss with it. And by how many
#: parts another layer's loss may be above the best one's to be likely still: two standard
#: deviations' square.
INDEPENDENT, LIKELY = 1500, 4.0
#: Damping relative to the Hessian's diagonal at the start, and how often it is raised in a step.
DAMPING, TRIES = 1e-3, 5
#: Of the layer's derivatives: optical thickness, m, and permittivity, a share.
SHIFT = 1e-5, 3e-3


@dataclass(frozen=True)
class CoveredFit:
    """What :func:`fit_layer` found.

    Attributes
    ----------
    parameters : FaceParameters
        The face (1).
    layer : Layer
    loss : float
        Normalised residual power of the recording's phases.
    minima : tuple of (Layer, float)
        All that were reached, with their residual power and what the permittivity's prior adds.
    tried : int
        Layers that were rendered.
    """

    parameters: FaceParameters
    layer: Layer
    loss: float
    minima: tuple[tuple[Layer, float], ...]
    tried: int

    @property
    def likely(self) -> tuple[Layer, ...]:
        """Layers of the minima that the recording hardly tells from the best one, itself among
        them, best first. Where much of it is speckle they may be several: a layer that is a
        quarter of a wavelength thicker ripples the spectrum much alike."""
        least = min(loss for _, loss in self.minima)
        near = [pair for pair in self.minima if pair[1] < (1 + LIKELY / INDEPENDENT) * least]
        return tuple(layer for layer, _ in sorted(near, key=lambda pair: pair[1]))


@alone()
def fit_layer(
    signal: Tensor,
    renderer: PhysicalRenderer,
    layer: Layer,
    start: FaceParameters,
    *,
    thickest: float,
    wrong: float = 0.1,
    rounds: int = 3,
) -> CoveredFit:
    """Face, thickness and permittivity of the layer in one recording (1, rx, tx, f), from a fit
    that is near.

    A round scans all thicknesses, the face following, and descends from the best minima that have
    not been seen; it is the last if none of them is better than what is known.

    Parameters
    ----------
    renderer : PhysicalRenderer
        With the recording's array and waveform; its own layer is not looked at.
    layer : Layer
        Its thickness is where ``start`` was found (0: by a fit that ignored it), its permittivity
        about what is expected, its place is taken as it is.
    start : FaceParameters
        One face, right within half a millimetre or so, by a fit with ``layer``.
    thickest : float
        Thicknesses between 0 and this, m.
    wrong : float
        By what share the permittivity may be wrong: the standard deviation of a normal prior, up to
        thrice that; the loss tangent is taken as it is, since attenuation shows in little but the
        gain. 0 takes the permittivity as it is, too.
    rounds : int
        At most so many.

    Raises :class:`~radarbook.errors.InputError` for several faces, a ``thickest`` not above 0 or
    that reaches the face, and a ``wrong`` not from 0 to 0.3.
    """
    if len(start) != 1:
        raise InputError(f"fit of a layer: expected one face, found {len(start)}")
    if not thickest > 0:
        raise InputError(f"fit of a layer: expected thickest > 0 m, found {thickest}")
    if not 0 <= wrong <= 0.3:
        raise InputError(f"fit of a layer: expected wrong from 0 to 0.3, found {wrong}")
    nearest = float(to_radar(renderer.model, start, renderer.distance)[..., 2].min())
    if not float(torch.as_tensor(layer.distance)) + thickest < nearest:
        raise InputError(
            f"fit of a layer: expected it in front of the face, {nearest:.3f} m from the array, "
            f"found its front at {float(torch.as_tensor(layer.distance)):.3f} m and a thickness of "
            f"up to {thickest} m"
        )
    family = _Family(layer, thickest, wrong)
    problem = _Problem(signal, renderer, family)
    best = _Covered(start.to(dtype=torch.float64), family.place(layer), math.inf)
    seen: list[_Covered] = []
    for _ in range(rounds):
        linear = problem.linearised(best)
        found = [problem.descended(end) for end in problem.minima(linear, seen)]
        seen += found
        better = min(found, key=lambda end: end.loss, default=best)
        if not better.loss < (1 - GAIN) * best.loss:
            break
        best = better
    seen = seen or [problem.descended(best)]
    minima = tuple((family.layer(end.place), end.loss) for end in seen)
    best = min(seen, key=lambda end: end.loss)
    loss = best.loss / (1 + family.penalty(best.place))
    return CoveredFit(best.face, family.layer(best.place), loss, minima, problem.tried)


@dataclass(frozen=True)
class _Covered:
    """A face, the place of the layer before it in its family, and their loss, prior and all."""

    face: FaceParameters
    place: Tensor
    loss: float


class _Family:
    """Layers by optical thickness n·t, m, and by what their permittivity is a multiple of."""

    def __init__(self, layer: Layer, thickest: float, wrong: float) -> None:
        self._layer, self._thickest = layer, thickest
        self._permittivity = complex(torch.as_tensor(layer.permittivity))
        self._wrong = wrong
        #: Range of the multiple.
        self.scales = max(1 - 3 * wrong, 1 / self._permittivity.real), 1 + 3 * wrong
        #: How many of the two are unknown.
        self.unknown = 2 if wrong > 0 else 1

    def layer(self, place: Tensor) -> Layer:
        path, scale = place.tolist()
        thickness = path / self.index(scale)
        return Layer(self._layer.distance, thickness, self._permittivity * scale, self._layer.echo)

    def place(self, layer: Layer) -> Tensor:
        """(2,) float64 of a layer of this permittivity."""
        thickness = float(torch.as_tensor(layer.thickness))
        return torch.tensor([thickness * self.index(1.0), 1.0], dtype=torch.float64)

    def penalty(self, place: Tensor) -> float:
        """What the prior on the permittivity adds to a loss, as a share of it: squared standard
        deviations, where each independent residual has one."""
        return self.off(place) ** 2 / INDEPENDENT

    def off(self, place: Tensor) -> float:
        """Standard deviations of the permittivity from what is expected."""
        return float(place[1] - 1) / self._wrong if self._wrong > 0 else 0.0

    def inside(self, place: Tensor) -> Tensor:
        path, scale = place.tolist()
        scale = min(max(scale, self.scales[0]), self.scales[1])
        path = min(max(path, 0.0), self._thickest * self.index(scale))
        return torch.tensor([path, scale], dtype=torch.float64)

    def paths(self, step: float) -> Tensor:
        """All optical thicknesses of the expected permittivity."""
        return torch.arange(0.0, self._thickest * self.index(1.0), step, dtype=torch.float64)

    def steps(self) -> Tensor:
        """Multiples of the permittivity: as expected, and a standard deviation to either side."""
        scales = [1 - self._wrong, 1.0, 1 + self._wrong] if self._wrong > 0 else [1.0]
        return torch.tensor([s for s in scales if s >= self.scales[0]], dtype=torch.float64)

    def index(self, scale: float) -> float:
        """Of refraction."""
        return ((self._permittivity * scale) ** 0.5).real


class _Problem:
    """The phases of one recording, face and layer unknown."""

    def __init__(self, signal: Tensor, renderer: PhysicalRenderer, family: _Family) -> None:
        self.family = family
        self.waveform = renderer.waveform
        # Derivatives of all facets: layer and face are told apart by little.
        stage = physical_stages(signal, renderer.replace(layer=None), schedule=SCHEDULE[-1:])[0]
        assert isinstance(stage.objective, PhaseObjective)
        self._objective, self.free = stage.objective, stage.free or UNKNOWN
        #: Layers that were rendered.
        self.tried = 0

    def linearised(self, here: _Covered) -> _Linear:
        return _Linear(self, here, self._objective.behind(self.family.layer(here.place)))

    def minima(self, linear: _Linear, seen: list[_Covered]) -> list[_Covered]:
        """The best faces and layers of a scan that are not near those seen, the face followed."""
        family = self.family
        paths = family.paths(SCAN * self.waveform.wavelength)
        places = torch.stack(torch.meshgrid(family.steps(), paths, indexing="ij")[::-1], dim=-1)
        losses = torch.tensor([[self._followed(linear, place) for place in row] for row in places])
        least = -torch.nn.functional.max_pool2d(-losses[None], 3, 1, 1)[0]
        lowest = (losses == least) & (losses < (1 + BEHIND) * linear.loss)
        places, losses = places[lowest], losses[lowest]
        chosen: list[_Covered] = []
        for place in places[losses.argsort()]:
            if not any(self._close(place, end.place) for end in seen) and len(chosen) < MINIMA:
                chosen.append(_Covered(linear.followed(place)[1], place, math.inf))
        return chosen

    def _followed(self, linear: _Linear, place: Tensor) -> float:
        return linear.followed(place)[0] * (1 + self.family.penalty(place))

    def _close(self, one: Tensor, other: Tensor) -> bool:
        apart = (one - other).abs()
        return bool(apart[0] < APART * self.waveform.wavelength) and self.family.off(apart + 1) < 1

    def descended(self, here: _Covered) -> _Covered:
        """After damped Gauss-Newton steps of face and layer together."""
        damping = DAMPING
        for _ in range(STEPS):
            before = here.loss
            here, damping = self.linearised(here).stepped(damping)
            if not here.loss < (1 - GAIN) * before:
                break
        return here


class _Linear:
    """Residuals about one face and layer: the face's Jacobian J, and exact ones of other layers.

    A face that follows a layer goes nearer by what the layer delays more, which is large, and for
    the rest by J: with residuals r there, |r + J δ|² is least at |r|² - |Qᵀ r|², J = Q R.
    """

    def __init__(self, problem: _Problem, here: _Covered, objective: PhaseObjective) -> None:
        self._problem, self.here = problem, here
        self._near = objective.near(here.face, 0)
        self._vector = here.face.normalised()[0]
        self._space = ParameterSpace.of(here.face)
        self._columns = self._space.columns(problem.free)
        unbounded = torch.full_like(self._vector, torch.inf)
        with torch.no_grad():
            self._residual, self._jacobian = LevenbergMarquardt(
                objective, self._vector[None], self._columns, unbounded, self._space
            ).linearised(0, self._vector)
        #: Residual power here.
        self.loss = float(self._residual.square().sum())
        self._q, self._r = torch.linalg.qr(self._jacobian)
        self._delay = problem.family.layer(here.place).delay(problem.waveform)

    def followed(self, place: Tensor) -> tuple[float, FaceParameters]:
        """Residual power behind another layer, and the face that has followed."""
        residual = self._behind(place, self.here.face)
        along = self._q.T @ residual
        move = -torch.linalg.solve_triangular(self._r, along[:, None], upper=True)[:, 0]
        loss = float(residual.square().sum() - along.square().sum())
        return loss, self._moved(place, move)

    def stepped(self, damping: float) -> tuple[_Covered, float]:
        """After one step of face and layer, damped until it helps, and the next one's damping."""
        family, here = self._problem.family, self.here
        columns = [self._jacobian]
        for i in range(family.unknown):
            other = here.place.clone()
            other[i] += SHIFT[i]
            change = self._behind(other, here.face) - self._residual
            columns.append(change[:, None] / SHIFT[i])
        jacobian = torch.cat(columns, dim=1)
        loss = self.loss * (1 + family.penalty(here.place))
        # The prior on the permittivity is one more residual.
        each_one = math.sqrt(self.loss / INDEPENDENT)
        prior = torch.zeros_like(jacobian[:1])
        if family.unknown > 1:
            prior[0, -1] = each_one * (family.off(here.place + 1) - family.off(here.place))
        residual = torch.cat(
            [self._residual, prior.new_tensor([each_one * family.off(here.place)])]
        )
        jacobian = torch.cat([jacobian, prior])
        scale = jacobian.norm(dim=0)
        hessian = (jacobian / scale).T @ (jacobian / scale)
        gradient = (jacobian / scale).T @ residual
        count = len(self._columns)
        for _ in range(TRIES):
            damped = hessian + damping * torch.eye(len(scale)).to(hessian)
            move = -torch.linalg.solve(damped, gradient) / scale
            place = here.place.clone()
            place[: family.unknown] += move[count:].to(place)
            place = family.inside(place)
            face = self._moved(place, move[:count])
            after = float(self._behind(place, face, follow=False).square().sum())
            after *= 1 + family.penalty(place)
            if after < loss:
                return _Covered(face, place, after), damping / 10
            damping *= 10
        return _Covered(here.face, here.place, loss), damping

    def _moved(self, place: Tensor, move: Tensor) -> FaceParameters:
        """The face here nearer by the layer's delay, and moved by (K,) of its free columns."""
        vector = self._nearer(place).normalised()
        vector[0, self._columns] += move.to(vector)
        return self._space.unpack(vector).clamped()

    def _nearer(self, place: Tensor) -> FaceParameters:
        # What a thicker layer delays more need not be so far away.
        face, layer = self.here.face, self._problem.family.layer(place)
        more = layer.delay(self._problem.waveform) - self._delay
        return face.replace(
            translation=face.translation - torch.tensor([0.0, 0.0, more]).to(face.translation)
        )

    @torch.no_grad()
    def _behind(self, place: Tensor, face: FaceParameters, follow: bool = True) -> Tensor:
        self._problem.tried += 1
        there = self._nearer(place) if follow else face
        return self._near.behind(self._problem.family.layer(place)).residuals(there)[0]
