"""Uncertainty of a fitted face: covariance of its parameters, and of each vertex in millimetres.

Near its minimum a fit is linear. For the objective |r|² + pᵀμp with Jacobian J, the estimate has
the error M⁻¹ (Jᵀ n - μ p), M = JᵀJ + μ. Here n is the effect of noise on the residuals, and p are
the true parameters, which the prior pulls to zero. The mean of n counts as its spread does: noise
adds power, and a logarithm of power has another mean. So

    Σ = M⁻¹ (⟨Jᵀn nᵀJ⟩ + μ C μ) M⁻¹,                                                  Eq. (P7.1)

with C the covariance of the population. The first term is the radar's noise, the second the prior:
in directions that the recording does not show, Σ returns to C. ⟨nnᵀ⟩ is computed from samples of
noise and of speckle that pass through the features, because logarithms and smoothing leave them
neither white nor Gaussian. Σ does *not* include a wrong minimum, physics that the fit does not
model, and noise so strong that a logarithm is no longer linear in it. For faces fitted by smoothed
power with noise of a tenth of the recording's amplitude, errors have the stated covariance on most
faces; on some, and at three tenths on more, errors of several parameters together are larger than
stated, while single 90 % intervals hold 90 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.displacements import Displacements, vertex_normals
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters
from radarbook.fitting import tuned
from radarbook.fitting.methods import Problem
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.objectives import FocusedObjective, JointObjective, PowerObjective
from radarbook.fitting.space import UNKNOWN, ParameterSpace
from radarbook.seeds import torch_stream
from radarbook.threads import alone

#: Half of a 90 % interval, in standard deviations.
NINETY = 1.645


@dataclass(frozen=True)
class Uncertainty:
    """Covariance of a fitted face.

    Attributes
    ----------
    columns : Tensor (K,)
        Of the normalised vector, that were unknown.
    covariance, noise, prior : Tensor (K, K), float64
        Of the normalised parameters: the sum, and its two terms.
    beyond : Displacements, optional
        Of the surface along its normals, where the model may lack the recorded shape
        (:meth:`outside`). None: the face is one of the model.

    Examples
    --------
    Of a face whose one unknown is known, and of one that the model may lack, mm.

    >>> from radarbook.faces.load import load_model
    >>> model, nothing = load_model("procedural"), torch.zeros(1, 1).double()
    >>> sure = Uncertainty(torch.tensor([0]), nothing, nothing)
    >>> wider = replace(sure, beyond=Displacements(lengths=(20.0,), deviations=(0.5,)))
    >>> [round(float(one.vertex_deviation(model).max()), 3) for one in (sure, wider)]
    [0.0, 0.5]
    """

    columns: Tensor
    noise: Tensor
    prior: Tensor
    beyond: Displacements | None = None

    @property
    def covariance(self) -> Tensor:
        return self.noise + self.prior

    def deviations(self) -> Tensor:
        """(K,) standard deviations of the normalised parameters."""
        return self.covariance.diagonal().sqrt()

    def vertex_deviation(self, model: MorphableModel) -> Tensor:
        """(N,) mm: root mean square distance of each vertex from where it should be, face frame.

        Square root of the trace of the vertex's 3 × 3 covariance; pose does not enter.
        """
        basis, part = self._of_modes(model)
        square = torch.einsum("knx,kl,lnx->n", basis, part, basis).clamp(min=0)
        return (square + (0.0 if self.beyond is None else self.beyond.variance)).sqrt()

    def normal_covariance(
        self, model: MorphableModel, vertices: Tensor, which: Tensor | None = None
    ) -> Tensor:
        """(M, M) mm²: covariance of the errors of vertices along the normals of a face.

        Parameters
        ----------
        model : MorphableModel
        vertices : Tensor (N, 3)
            Of the fitted face, mm, in the model's frame.
        which : Tensor (M,), int64, optional
            The vertices in question; None: all, of which there are too many in most models.

        Returns float64 on the CPU. Not differentiable.
        """
        points = vertices.detach().cpu().double()
        normals = vertex_normals(points, model.triangles.cpu())
        which = torch.arange(len(points)) if which is None else which
        points, normals = points[which], normals[which]
        basis, part = self._of_modes(model)
        along = torch.einsum("knx,nx->nk", basis[:, which].cpu(), normals)
        found = along @ part.cpu() @ along.T
        if self.beyond is not None:
            one = points.numpy(), normals.numpy()
            found = found + torch.from_numpy(self.beyond.kernel(*one, *one))
        return found

    def outside(self) -> Uncertainty:
        """The same of a face that the model may lack: one that is not accepted [0044]."""
        return replace(
            self,
            beyond=Displacements(lengths=tuned.BEYOND_LENGTHS, deviations=tuned.BEYOND_DEVIATIONS),
        )

    def _of_modes(self, model: MorphableModel) -> tuple[Tensor, Tensor]:
        """Modes (K', N, 3) that were unknown, mm, and the covariance (K', K') of their factors."""
        modes = torch.cat([model.shape_modes, model.expression_modes]).double()
        mine = self.columns < len(modes)
        return modes[self.columns[mine]], self.covariance[mine][:, mine]


@alone()
def uncertainty(
    objective: FocusedObjective[Any] | JointObjective[Any],
    signal: Tensor | Sequence[Tensor],
    parameters: FaceParameters,
    noise: float | None = None,
    *,
    free: Sequence[str] = UNKNOWN,
    samples: int = tuned.UNCERTAINTY_SAMPLES,
    seed: int = 0,
    wider: float | None = None,
) -> Uncertainty:
    """Of the face ``parameters`` (1), fitted to ``signal`` by ``objective``.

    Each sample adds two things to a recording: the diffuse reflection of a rough face with phases
    of its own, and white noise of the stated level.

    Parameters
    ----------
    objective : FocusedObjective or JointObjective
        Of one face: the last stage's, whose minimum the parameters are.
    signal : Tensor (1, rx, tx, f), or a sequence
        The recording, reduced to the objective's antennas and frequencies; of a joint objective
        the recording of each part. White noise is independent in each, and so is the speckle that
        arrays see from different directions.
    noise : float
        Root mean square of the noise in one sample of the recording, in its own units, if it
        holds only a face of the fitted material and that noise. None: the whole residual is treated
        as diffuse reflection, as if the face were rougher than it is. Errors of channels, double
        bounce and other errors of the model lie on the face in an image, in all frequencies and
        channels alike, as speckle does. Treated as white noise they would average out, and
        deviations would be half as large as they are.
    samples : int
        Number of samples; more than the unknowns.

    wider : float, optional
        Of an objective whose prior follows the residual: factor f of the deviation of a residual.
        None: that for which 90 % intervals were right on tuning faces [0036],
        :data:`~radarbook.fitting.tuned.SMOOTHED_WIDER` or
        :data:`~radarbook.fitting.tuned.PHASES_WIDER`.

    Of such an objective no samples are drawn. Each of its N independent residuals has the variance
    v = f² L / N, so the covariance is v (JᵀJ + v I)⁻¹, with I for coefficients alone: in directions
    that the recording does not show, that of the population.

    Raises :class:`~radarbook.errors.InputError` for several faces or a negative noise level.
    """
    if len(parameters) != 1 or objective.faces != 1:
        raise InputError(f"uncertainty: expected one face, found {len(parameters)}")
    if noise is not None and not noise >= 0:
        raise InputError(f"uncertainty: expected a noise level of 0 or more, found {noise}")
    p = parameters.detach().to(dtype=torch.float64)
    vector = p.normalised()
    space = ParameterSpace.of(p, VISIBLE_POSE)
    columns = space.columns(free)
    problem = Problem(objective=objective, space=space, free=columns)
    with torch.no_grad():
        if objective.prior_follows:
            first = objective.parts[0] if isinstance(objective, JointObjective) else objective
            smoothed = isinstance(first, PowerObjective)
            usual = tuned.SMOOTHED_WIDER if smoothed else tuned.PHASES_WIDER
            frozen = objective.frozen_at(p, 0)
            return _posterior(frozen, problem, vector[0], usual if wider is None else wider)
    one = information(problem, vector[0], signal, noise, samples=samples, seed=seed)
    inverse = torch.linalg.inv(one.hessian + one.precision)
    return Uncertainty(
        columns,
        inverse @ one.spread @ inverse,
        # The population's covariance is 1 for coefficients; others have no prior.
        inverse @ one.precision @ one.precision @ inverse,
    )


@dataclass(frozen=True, eq=False)
class Information:
    """What a recording states about one face: the terms of Eq. (P7.1), all (K, K) float64.

    Attributes
    ----------
    hessian : Tensor
        JᵀJ of the data.
    precision : Tensor
        Λ, of the prior.
    spread : Tensor
        ⟨Jᵀn nᵀJ⟩.
    """

    hessian: Tensor
    precision: Tensor
    spread: Tensor


def information(
    problem: Problem,
    vector: Tensor,
    signal: Tensor | Sequence[Tensor],
    noise: float | None = None,
    *,
    samples: int = tuned.UNCERTAINTY_SAMPLES,
    seed: int = 0,
) -> Information:
    """Of the free columns of a face (width,), the minimum of a problem of one face; ``signal``,
    ``noise`` and ``samples`` as :func:`uncertainty` has them."""
    objective = problem.objective
    assert isinstance(objective, FocusedObjective | JointObjective)
    p = problem.parameters(vector[None])
    with torch.no_grad():
        residual, jacobian = slopes(OneFace.of(problem, 0, vector))
        data = len(residual) - objective.priors
        hessian, precision = ((j.T @ j).cpu() for j in (jacobian[:data], jacobian[data:]))
        stream = torch_stream(seed, "fitting/uncertainty")
        parts = objective.parts if isinstance(objective, JointObjective) else (objective,)
        signals = [signal] if isinstance(signal, Tensor) else signal
        pairs = zip(parts, signals, strict=True)
        seen = [_Seen.of(part, one[0], p, samples) for part, one in pairs]
        material, wider = float(p.material), 1.0
        if noise is None:
            rough = _roughness(seen, residual[:data])
            known = min(1.0, (material / rough) ** 2)
            material, wider = rough, known * tuned.KNOWN**2 + (1 - known) * tuned.UNMODELLED**2
        pushes = []
        for n in range(samples):
            extra = []
            for one in seen:
                white = torch.randn(one.own.shape, generator=stream, dtype=torch.complex64)
                extra.append(material * one.speckle[n] + (noise or 0.0) * white.to(one.own.device))
            # Residuals of the true face, their mean included: noise adds power that the face's
            # features do not have, and moves each fit the same way.
            pushes.append((jacobian[:data].T @ _compared(seen, extra)).cpu())
        pushed = torch.stack(pushes)
    return Information(hessian, precision, wider * pushed.T @ pushed / samples)


def _posterior(
    frozen: FocusedObjective[Any] | JointObjective[Any],
    problem: Problem,
    vector: Tensor,
    wider: float,
) -> Uncertainty:
    """Of an objective frozen at a face (width,), whose prior is that of its residual, with
    deviations of residuals that are so many times wider."""
    residual, jacobian = slopes(OneFace.of(replace(problem, objective=frozen), 0, vector))
    data = len(residual) - frozen.priors
    hessian, precision = ((j.T @ j).cpu() for j in (jacobian[:data], jacobian[data:]))
    precision = wider**2 * precision
    inverse = torch.linalg.inv(hessian + precision)
    scaled = wider**2 * frozen.prior / frozen.priors * inverse
    return Uncertainty(problem.free, scaled @ hessian @ inverse, scaled @ precision @ inverse)


@dataclass(frozen=True, eq=False)
class _Seen:
    """One recording's share of the samples.

    The face is rendered once: what changes is the target, about what the face itself sends.
    """

    #: Residuals (M,) if a signal (rx, tx, f) were the target.
    against: Callable[[Tensor], Tensor]
    #: (rx, tx, f) of the face, with the recording's gain.
    own: Tensor
    #: The same of the diffuse part, for material 1.
    speckle: list[Tensor]
    priors: int

    @classmethod
    def of(
        cls, part: FocusedObjective[Any], signal: Tensor, face: FaceParameters, samples: int
    ) -> _Seen:
        rendered = part.physics.signal(face, like=face)[0]
        signal = signal.to(rendered.device)
        gain = (rendered.conj() * signal).sum() / rendered.abs().square().sum()
        speckle = [gain * s for s in part.physics.speckle_samples(face, samples)]
        return cls(part.comparison(rendered, face), gain * rendered, speckle, part.priors)


def _compared(seen: Sequence[_Seen], extra: Sequence[Tensor]) -> Tensor:
    """(M,) residuals, without a prior, if the recordings were the face's signals and ``extra``; of
    several as :class:`~radarbook.fitting.objectives.JointObjective` joins them."""
    rows = [one.against(one.own + more) for one, more in zip(seen, extra, strict=True)]
    data = [row[: len(row) - one.priors] for one, row in zip(seen, rows, strict=True)]
    return torch.cat([d / len(data) ** 0.5 for d in data])


def slopes(face: OneFace) -> tuple[Tensor, Tensor]:
    """Residual (M,) and Jacobian (M, K) of a face, by differences to both sides.

    Residuals have jumps: a phase wraps, a facet turns out of sight. Over one of them a difference
    quotient is enormous, and one such residual would make its parameter look known to a tenth of
    its deviation. A jump lies on one side alone: where the quotients of both sides differ, the
    smaller counts, and elsewhere their mean.
    """
    problem = face.problem
    x = face.vector[problem.free]
    residual, forward = face.linearised(x)
    _, backward = face.linearised(x, side=-1.0)
    smooth = (forward - backward).abs() < 0.5 * (forward.abs() + backward.abs())
    smaller = torch.where(forward.abs() < backward.abs(), forward, backward)
    jacobian = torch.where(smooth, (forward + backward) / 2, smaller)
    # The material enters by its square: the other side may be the same material.
    material = torch.isin(problem.free, problem.space.columns(("material",)))
    jacobian[:, material] = forward[:, material]
    return residual, jacobian


def _roughness(seen: Sequence[_Seen], residual: Tensor) -> float:
    """The material factor whose diffuse reflection leaves as large a residual (M,) as the fit."""
    few = min(6, len(seen[0].speckle))
    # Small enough for the loss to grow as the diffuse power.
    probe = 0.05
    losses = (
        float(_compared(seen, [probe * one.speckle[n] for one in seen]).square().sum())
        for n in range(few)
    )
    each = sum(losses) / few / probe**2
    return math.sqrt(float(residual.square().sum()) / each)
