"""A face behind a layer whose thickness and permittivity are known roughly.

A blanket delays and attenuates every path. The delay is nearly the same for all, so for a fit that
ignores the layer the face lies some tenths of a millimetre too far back. Two effects distinguish a
layer from a face that *is* farther back: slanting paths are delayed a little more, and internal
reflections ripple the spectrum, by the optical thickness n·t modulo half a wavelength. So along the
thickness the loss has minima a fraction of a wavelength apart. A scan finds them, in which the face
follows by linear theory, at one rendering per layer (variable projection, Golub and Pereyra 1973).
From the best of them thickness, permittivity and face are fitted together by Levenberg-Marquardt.

The unknowns of a face are at *constant apparent range*: a face behind a layer with more delay is
nearer by as much. They are then nearly independent of those of the layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters, PoseRange
from radarbook.faces.pose import to_radar
from radarbook.fitting import tuned
from radarbook.fitting.methods import LevenbergMarquardt, Problem
from radarbook.fitting.methods.levenberg import Damped, OneFace
from radarbook.fitting.objectives import PhaseObjective
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.schedule import SCHEDULE
from radarbook.fitting.space import ParameterSpace
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import Waveform
from radarbook.threads import alone


@dataclass(frozen=True)
class LayerFit:
    """What :func:`fit_layer` found.

    Attributes
    ----------
    parameters : FaceParameters
        The face (1).
    layer : Layer
    loss : float
        Normalised residual power of the recording's phases.
    minima : tuple of (Layer, float)
        All that were reached, with their residual power and the cost of the permittivity's prior.
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
        """Layers that the recording hardly distinguishes from the best one, which is the first of
        them. Where much of the recording is speckle they may be several: a layer that is a quarter
        of a wavelength thicker ripples the spectrum in much the same way."""
        least = min(loss for _, loss in self.minima)
        most = (1 + tuned.LAYER_LIKELY / tuned.INDEPENDENT) * least
        likely = sorted((pair for pair in self.minima if pair[1] < most), key=lambda pair: pair[1])
        return tuple(layer for layer, _ in likely)


@alone()
def fit_layer(
    signal: Tensor,
    renderer: PhysicalRenderer,
    layer: Layer,
    start: FaceParameters,
    *,
    thickest: float,
    pose_range: PoseRange = VISIBLE_POSE,
) -> LayerFit:
    """Face, thickness and permittivity of the layer in one recording, from a fit of the face.

    A round scans all thicknesses, the face following, and descends from the best minima that have
    not been visited; it is the last if none of them is better than the best so far.

    Parameters
    ----------
    signal : Tensor (1, rx, tx, f), complex
        The recording.
    renderer : PhysicalRenderer
        With the recording's array and waveform; its own layer is ignored.
    layer : Layer
        Its thickness is the one with which ``start`` was found (0: by a fit that ignored it), its
        distance is known, and its permittivity has a normal prior about the given one with a
        standard deviation of a tenth. The loss tangent is known, since attenuation shows in little
        but the gain.
    start : FaceParameters
        One face, right within half a millimetre or so, by a fit with ``layer``.
    thickest : float
        Thicknesses are between 0 and this, m.
    pose_range : PoseRange
        Bounds of position and orientation.

    Raises :class:`~radarbook.errors.InputError` for several faces, and for a ``thickest`` not above
    0 or that reaches the face.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.layer_fit import fit_layer
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> fit_layer(renderer.signal(face), renderer, rb.Layer(0.2, 0.0, 1.6), face, thickest=0.2)
    Traceback (most recent call last):
    radarbook.errors.InputError: fit of a layer: expected it in front of the face, ...
    """
    if len(start) != 1:
        raise InputError(f"fit of a layer: expected one face, found {len(start)}")
    if not thickest > 0:
        raise InputError(f"fit of a layer: expected thickest > 0 m, found {thickest}")
    nearest = float(to_radar(renderer.model, start, renderer.distance)[..., 2].min())
    if not float(torch.as_tensor(layer.distance)) + thickest < nearest:
        raise InputError(
            f"fit of a layer: expected it in front of the face, {nearest:.3f} m from the array, "
            f"found its front at {float(torch.as_tensor(layer.distance)):.3f} m and a thickness of "
            f"up to {thickest} m"
        )
    family = _Family(expected=layer, thickest=thickest, waveform=renderer.waveform)
    problem = _FaceAndLayer.of(signal, renderer, family, start, pose_range)
    best = _End(problem.begin(start, layer), math.inf)
    visited: list[_End] = []
    for _ in range(tuned.LAYER_ROUNDS):
        reached = [_descended(problem, x) for x in _scan(problem, best.x, visited)]
        visited += reached
        better = min(reached, key=lambda end: end.loss, default=best)
        if not better.loss < (1 - tuned.LAYER_GAIN) * best.loss:
            break
        best = better
    minima = _distinct(problem, visited or [_descended(problem, best.x)])
    best = minima[0]
    place = problem.place(best.x)
    return LayerFit(
        problem.at(best.x),
        family.layer(place),
        best.loss / (1 + family.penalty(place)),
        tuple((family.layer(problem.place(end.x)), end.loss) for end in minima),
        problem.count.tried,
    )


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Layers by place (2,) float64: optical thickness n·t in wavelengths, and the deviation of the
    permittivity from the expected one in standard deviations."""

    expected: Layer
    thickest: float
    waveform: Waveform

    def layer(self, place: Tensor) -> Layer:
        path, off = place.tolist()
        expected, scale = self.expected, 1 + tuned.LAYER_DEVIATION * off
        thickness = path * self.waveform.wavelength / self.index(off)
        permittivity = complex(torch.as_tensor(expected.permittivity)) * scale
        return Layer(expected.distance, thickness, permittivity, expected.echo)

    def place(self, layer: Layer) -> Tensor:
        """Of a layer of the expected permittivity."""
        thickness = float(torch.as_tensor(layer.thickness))
        path = thickness * self.index(0.0) / self.waveform.wavelength
        return torch.tensor([path, 0.0], dtype=torch.float64)

    def delay(self, place: Tensor) -> float:
        """By which a layer delays, m of range."""
        return self.layer(place).delay(self.waveform)

    def penalty(self, place: Tensor) -> float:
        """Cost of the permittivity's prior, a share of the loss: squared standard deviations, where
        each independent residual has one."""
        return float(place[1]) ** 2 / tuned.INDEPENDENT

    def inside(self, place: Tensor) -> Tensor:
        """Permittivities within three standard deviations, and not below 1; thicknesses from 0 to
        the thickest."""
        path, off = place.tolist()
        off = min(max(off, self.least), 3.0)
        most = self.thickest * self.index(off) / self.waveform.wavelength
        return torch.tensor([min(max(path, 0.0), most), off], dtype=torch.float64)

    @property
    def least(self) -> float:
        """Least deviation of the permittivity."""
        real = complex(torch.as_tensor(self.expected.permittivity)).real
        return max(-3.0, (1 / real - 1) / tuned.LAYER_DEVIATION)

    def grid(self) -> Tensor:
        """(offs, paths, 2) places of a scan: all thicknesses, the permittivity as expected and a
        standard deviation to either side."""
        most = self.thickest * self.index(0.0) / self.waveform.wavelength
        paths = torch.arange(0.0, most, tuned.LAYER_SCAN, dtype=torch.float64)
        offs = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        offs = offs[offs >= self.least]
        return torch.stack(torch.meshgrid(offs, paths, indexing="ij")[::-1], dim=-1)

    def index(self, off: float) -> float:
        """Real part of the index of refraction."""
        scale = 1 + tuned.LAYER_DEVIATION * off
        return ((complex(torch.as_tensor(self.expected.permittivity)) * scale) ** 0.5).real


@dataclass
class _Count:
    """Layers that were rendered."""

    tried: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class _FaceAndLayer:
    """The least-squares problem of face and layer: unknowns x are the face's free columns, at
    constant apparent range, then the layer's place.

    ``vector`` (width,) holds the face's fixed columns, ``weight`` is that of the permittivity's
    prior, which is the last residual. ``objective`` may be frozen at a face.
    """

    objective: PhaseObjective
    family: _Family
    problem: Problem
    vector: Tensor
    weight: float = 0.0
    count: _Count = field(default_factory=_Count)

    @classmethod
    def of(
        cls,
        signal: Tensor,
        renderer: PhysicalRenderer,
        family: _Family,
        start: FaceParameters,
        pose_range: PoseRange,
    ) -> _FaceAndLayer:
        # The last stage has derivatives of all facets: layer and face differ by little.
        bare = renderer.replace(layer=None)
        stage = physical_plan(signal, bare, schedule=SCHEDULE[-1:]).stages[-1]
        objective, space = stage.objective, ParameterSpace.of(start, pose_range)
        assert isinstance(objective, PhaseObjective)
        problem = Problem(objective=objective, space=space, free=space.columns(stage.free))
        vector = start.to(dtype=torch.float64).normalised()[0]
        return cls(objective=objective, family=family, problem=problem, vector=vector)

    def begin(self, face: FaceParameters, layer: Layer) -> Tensor:
        """The unknowns of a face behind a layer of the expected permittivity."""
        place = self.family.place(layer)
        apparent = _moved_along_z(face.to(dtype=torch.float64), self.family.delay(place))
        return torch.cat([apparent.normalised()[0, self.problem.free], place])

    def place(self, x: Tensor) -> Tensor:
        return x[len(self.problem.free) :]

    def close(self, one: Tensor, other: Tensor) -> bool:
        """Whether the layers of two unknowns are of one minimum."""
        apart = (self.place(one) - self.place(other)).abs()
        return bool(apart[0] < tuned.LAYER_APART and apart[1] < 1)

    def at(self, x: Tensor) -> FaceParameters:
        """The face (1), at its true range."""
        vector = self.vector.index_copy(0, self.problem.free, x[: len(self.problem.free)])
        apparent = self.problem.parameters(vector[None])
        return _moved_along_z(apparent, -self.family.delay(self.place(x))).clamped(
            self.problem.space.pose_range
        )

    @torch.no_grad()
    def residual(self, x: Tensor) -> Tensor:
        self.count.tried += 1
        objective = self.objective.with_layer(self.family.layer(self.place(x)))
        rows = objective.residuals(self.at(x))[0]
        return torch.cat([rows, rows.new_tensor([self.weight * float(x[-1])])])

    @torch.no_grad()
    def linearised(self, x: Tensor) -> tuple[Tensor, Tensor]:
        objective = self.objective.with_layer(self.family.layer(self.place(x)))
        vector = self.at(x).normalised()[0]
        face = OneFace(self.problem, objective, 0, vector)
        rows, jacobian = face.linearised(vector[self.problem.free])
        residual = torch.cat([rows, rows.new_tensor([self.weight * float(x[-1])])])
        columns = [torch.cat([jacobian, torch.zeros_like(jacobian[:1])])]
        path, share = tuned.LAYER_DIFFERENCES
        shifts = path / self.family.waveform.wavelength, share / tuned.LAYER_DEVIATION
        for i, shift in enumerate(shifts):
            moved = x.clone()
            moved[len(x) - 2 + i] += shift
            columns.append(((self.residual(moved) - residual) / shift)[:, None])
        return residual, torch.cat(columns, dim=1)

    def inside(self, x: Tensor) -> Tensor:
        bounds = self.problem.space.bounds()[self.problem.free]
        face = torch.maximum(torch.minimum(x[:-2], bounds), -bounds)
        return torch.cat([face, self.family.inside(self.place(x))])

    def local(self, x: Tensor) -> _FaceAndLayer:
        objective = self.objective.with_layer(self.family.layer(self.place(x)))
        return replace(self, objective=objective.frozen_at(self.at(x), 0))


@dataclass(frozen=True)
class _End:
    """Unknowns of a minimum, and their loss, the prior included."""

    x: Tensor
    loss: float


def _scan(problem: _FaceAndLayer, x: Tensor, visited: Sequence[_End]) -> list[Tensor]:
    """The best minima over all layers that were not visited yet, the face following from x.

    With the face's Jacobian J = Q R and residuals r behind another layer, |r + J δ|² is least at
    |r|² - |Qᵀ r|².
    """
    local, family, count = problem.local(x), problem.family, len(problem.problem.free)
    residual, jacobian = local.linearised(x)
    q, r = torch.linalg.qr(jacobian[:-1, :count])

    def followed(place: Tensor) -> tuple[float, Tensor]:
        rows = local.residual(torch.cat([x[:count], place]))[:-1]
        along = q.T @ rows
        move = -torch.linalg.solve_triangular(r, along[:, None], upper=True)[:, 0].cpu()
        loss = float(rows.square().sum() - along.square().sum()) * (1 + family.penalty(place))
        return loss, torch.cat([x[:count] + move, place])

    places = family.grid()
    found = [[followed(place) for place in row] for row in places]
    losses = torch.tensor([[loss for loss, _ in row] for row in found])
    least = -torch.nn.functional.max_pool2d(-losses[None], 3, 1, 1)[0]
    lowest = (losses == least) & (
        losses < (1 + tuned.LAYER_MARGIN) * float(residual[:-1].square().sum())
    )
    minima = sorted((found[i][j] for i, j in lowest.nonzero().tolist()), key=lambda pair: pair[0])
    chosen = [end for _, end in minima if not any(problem.close(end, seen.x) for seen in visited)]
    return chosen[: tuned.LAYER_MINIMA]


def _distinct(problem: _FaceAndLayer, ends: Sequence[_End]) -> list[_End]:
    """The best end of each minimum, best first: several descents may come to one."""
    distinct: list[_End] = []
    for end in sorted(ends, key=lambda end: end.loss):
        if not any(problem.close(end.x, other.x) for other in distinct):
            distinct.append(end)
    return distinct


def _descended(problem: _FaceAndLayer, x: Tensor) -> _End:
    """After Levenberg-Marquardt steps of face and layer together."""
    method = LevenbergMarquardt(
        damping=tuned.LAYER_DAMPING, factor=tuned.LAYER_FACTOR, gain=tuned.LAYER_GAIN, reuse=1
    )
    # As many independent residuals as the recording has, each of one standard deviation.
    power = float(problem.residual(x)[:-1].square().sum())
    weighted = replace(problem, weight=math.sqrt(power / tuned.INDEPENDENT))
    descent = Damped(method, weighted, problem.inside(x), method.damping)
    for _ in range(tuned.LAYER_STEPS):
        descent.step()
        if descent.done:
            break
    power = float(descent.local.residual(descent.x)[:-1].square().sum())
    return _End(descent.x, power * (1 + problem.family.penalty(problem.place(descent.x))))


def _moved_along_z(face: FaceParameters, metres: float) -> FaceParameters:
    shift = torch.tensor([0.0, 0.0, metres]).to(face.translation)
    return face.replace(translation=face.translation + shift)
