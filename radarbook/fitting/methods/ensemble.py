"""Gauss-Newton steps with a Jacobian regressed on an ensemble of faces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from radarbook.fitting import tuned
from radarbook.fitting.methods.base import FaceByFace, Iteration, Method, Problem
from radarbook.seeds import torch_stream


@dataclass(frozen=True, kw_only=True)
class Ensemble(Method):
    """Gauss-Newton steps on the objective as a Gaussian ensemble of faces samples it, per face.

    A radar image has a local minimum wherever one highlight can be mistaken for another, so a
    derivative at a point says little about a face that is millimetres away. Here faces are sampled
    about the present one, and all residuals are regressed on the parameters: slope and mean of the
    residuals over the ensemble take the place of Jacobian and residual. The residuals of the
    regression are treated as noise, with their correlations. So residuals that oscillate within the
    ensemble have little weight, and those that change steadily have much. With ever narrower
    ensembles this becomes Gauss-Newton. Cf. iterated posterior linearisation (García-Fernández et
    al. 2015) and ensemble Kalman inversion (Iglesias et al. 2013).

    Attributes
    ----------
    width : float
        Standard deviation of the ensemble, in units of how much faces differ.
    faces : float
        Faces per unknown, for widths up to 0.4; wider ensembles take more.
    fewest : int
        Faces, at least.
    inflation : float
        Factor of the variance of the regression's residuals, because they depend on the parameters.
    white : float
        Share of white noise that their correlations are mixed with.
    reach : float
        Longest step, root mean square in units of the ensemble.
    seed : int
        Of the samples.

    Examples
    --------
    >>> from radarbook.fitting.methods import Ensemble
    >>> Ensemble(width=0.5).seeded(2).seed
    2
    """

    monotone: ClassVar[bool] = False

    width: float = tuned.ENSEMBLE_WIDTH
    faces: float = tuned.ENSEMBLE_FACES
    fewest: int = tuned.ENSEMBLE_FEWEST
    inflation: float = tuned.ENSEMBLE_INFLATION
    white: float = tuned.ENSEMBLE_WHITE
    reach: float = tuned.ENSEMBLE_REACH
    seed: int = 0

    def begin(self, problem: Problem, vectors: Tensor) -> Iteration:
        return _EnsembleIteration(self, problem, vectors)

    def seeded(self, seed: int) -> Self:
        return replace(self, seed=seed)


class _EnsembleIteration(FaceByFace):
    def __init__(self, options: Ensemble, problem: Problem, vectors: Tensor) -> None:
        super().__init__(problem, vectors)
        self.options = options
        space = problem.space
        self.population = space.vector(*tuned.POPULATION)[problem.free]
        self.spread = options.width * self.population
        # Coefficients are standard normal a priori; the pose is about where it is.
        self.anchor = self.vectors.clone()
        self.anchor[:, : space.coefficients] = 0.0

    def step_face(self, face: int) -> Tensor:
        options, free = self.options, self.problem.free
        vector, spread = self.vectors[face], self.spread
        ensemble = self._sampled(face)
        rows = self.rows(face, ensemble)
        residuals = rows[1:, : rows.shape[1] - self.problem.objective.priors]
        # In units of the ensemble.
        places = (ensemble - vector)[:, free] / spread
        middle, centred = places.mean(0), places - places.mean(0)
        mean = residuals.mean(0)
        eye = torch.eye(len(spread), dtype=torch.float64)
        normal = centred.T @ centred + 1e-4 * len(ensemble) * eye
        slope = torch.linalg.solve(normal, centred.T @ (residuals - mean))  # (K, M)
        freedom = len(ensemble) / max(1, len(ensemble) - len(spread) - 1)
        rest = (residuals - mean - centred @ slope) * (options.inflation * freedom) ** 0.5
        noise = self.problem.objective.noise
        scale = (rest.square().mean(0) + noise**2 / rest.shape[1]).sqrt()
        rest, jacobian = rest / scale / len(ensemble) ** 0.5, (slope / scale).T
        weighted = self._whitened(rest, jacobian)
        # The prior, relative to the mean of the ensemble.
        offset = (self.anchor[face] - vector)[free] / self.population
        pull = options.width * (offset - options.width * middle)
        hessian = jacobian.T @ weighted + options.width**2 * eye
        move = torch.linalg.solve(hessian, pull - weighted.T @ (mean / scale))
        length = float(move.square().mean().sqrt())
        move = move * min(1.0, options.reach / max(length, 1e-12))
        self.vectors[face] = self.problem.inside(
            vector.index_add(0, free, spread * (middle + move))
        )
        return rows[0].square().sum()

    def _sampled(self, face: int) -> Tensor:
        """(P, width) vectors about the present one, in opposite pairs."""
        options, count = self.options, len(self.spread)
        size = max(options.fewest, options.faces * count * max(1.0, 2.5 * options.width))
        half = round(size / 2)
        name = f"fitting/ensemble/{options.width:.6f}/{options.seed}"
        stream = torch_stream(face, name, self.rounds)
        samples = torch.randn(half, count, generator=stream, dtype=torch.float64)
        ensemble = self.vectors[face].repeat(2 * half, 1)
        ensemble[:, self.problem.free] += torch.cat([samples, -samples]) * self.spread
        return self.problem.inside(ensemble)

    def _whitened(self, rest: Tensor, jacobian: Tensor) -> Tensor:
        """C⁻¹ J for C = white · 1 + (1 - white) · restᵀ rest, by Woodbury's identity."""
        white, eye = self.options.white, torch.eye(len(rest), dtype=torch.float64)
        inner = eye + rest @ rest.T * ((1 - white) / white)
        correction = rest.T @ torch.linalg.solve(inner, rest @ jacobian)
        return jacobian / white - correction * ((1 - white) / white**2)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"anchor": self.anchor.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.anchor = state["anchor"].clone()
