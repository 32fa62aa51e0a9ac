"""Levenberg-Marquardt: damped Gauss-Newton steps on a nonlinear least-squares problem."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from radarbook.fitting import tuned
from radarbook.fitting.methods.base import FaceByFace, Iteration, Method, Problem
from radarbook.fitting.objectives.base import Objective


class LeastSquares(Protocol):
    """min |r(x)|² over vectors x (K,) inside bounds."""

    def residual(self, x: Tensor) -> Tensor:
        """r(x), (M,) float64."""
        ...

    def linearised(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """r(x) (M,) and its Jacobian (M, K), float64."""
        ...

    def inside(self, x: Tensor) -> Tensor:
        """x, moved into the bounds."""
        ...

    def local(self, x: Tensor) -> Self:
        """The same for trial steps from x: smooth there, and in less time."""
        ...


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(Method):
    """Damped Gauss-Newton steps, face by face, with Jacobians by finite differences.

    With residuals r and Jacobian J a step solves

        (JᵀJ + μ diag(JᵀJ)) δ = -Jᵀr                      (Marquardt 1963).

    It is taken if it lowers |r|², and the damping μ then falls by ``factor``; otherwise μ rises by
    ``factor`` and the step is tried again. Parameters that would leave their range stop at its end,
    and the others are solved for again. Up to ``reuse`` steps share one Jacobian, which follows by
    Broyden's rank-one update as long as a step gains at least half of what the linear model
    predicts. Trial steps keep visibility and subdivision frozen where the Jacobian was computed
    (:meth:`~radarbook.fitting.objectives.base.Objective.frozen_at`), so that the loss is smooth.

    Attributes
    ----------
    damping : float
        μ at the start.
    gain : float
        A face is finished when a step with a true Jacobian lowers its loss by a smaller share.
    factor : float
        By which μ falls and rises.
    tries : int
        Values of μ per step, at most.
    reuse : int
        Steps per Jacobian.
    reach : float
        Longest step of one parameter, normalised.

    Examples
    --------
    >>> from radarbook.fitting.methods import LevenbergMarquardt
    >>> LevenbergMarquardt(damping=1e-4, gain=2e-5).reuse
    3
    """

    converges_fast: ClassVar[bool] = True

    damping: float = tuned.LM_DAMPING
    gain: float = tuned.LM_GAIN
    factor: float = tuned.LM_FACTOR
    tries: int = tuned.LM_TRIES
    reuse: int = tuned.LM_REUSE
    reach: float = tuned.LM_REACH

    def begin(self, problem: Problem, vectors: Tensor) -> Iteration:
        return LevenbergMarquardtIteration(self, problem, vectors)


@dataclass(frozen=True, eq=False)
class OneFace:
    """The least-squares problem of one face: its free columns, the others fixed.

    ``objective`` may already be frozen at a face.
    """

    problem: Problem
    objective: Objective
    face: int
    vector: Tensor

    @classmethod
    def of(cls, problem: Problem, face: int, vector: Tensor) -> OneFace:
        """Of one face of a problem; ``vector`` (width,) holds the fixed columns."""
        return cls(problem, problem.objective, face, vector)

    def whole(self, x: Tensor) -> Tensor:
        """(width,) the vector with free columns x."""
        return self.vector.index_copy(0, self.problem.free, x)

    def residual(self, x: Tensor) -> Tensor:
        one = self.problem.parameters(self.whole(x)[None])
        return self.objective.jacobian(one, one[:0], self.face)[0].double()

    def linearised(self, x: Tensor, side: float = 1.0) -> tuple[Tensor, Tensor]:
        """Residual and Jacobian, by differences to one ``side`` (1 or -1); where the objective
        computes them."""
        free, space = self.problem.free, self.problem.space
        shift = side * space.vector(*tuned.DIFFERENCES)
        vector = self.whole(x)[None]
        moved = self.problem.parameters(vector + torch.diag(shift)[free])
        rows = self.objective.jacobian(self.problem.parameters(vector), moved, self.face).double()
        return rows[0], ((rows[1:] - rows[0]) / shift[free, None].to(rows.device)).T

    def inside(self, x: Tensor) -> Tensor:
        bounds = self.problem.space.bounds()[self.problem.free]
        return torch.maximum(torch.minimum(x, bounds), -bounds)

    def local(self, x: Tensor) -> OneFace:
        place = self.problem.parameters(self.whole(x)[None])
        return replace(self, objective=self.objective.frozen_at(place, self.face))


@dataclass
class Known:
    """Residual and Jacobian at the present place, and the number of updates since the Jacobian was
    computed."""

    residual: Tensor
    jacobian: Tensor
    updates: int = 0

    def values(self) -> tuple[Tensor, Tensor, int]:
        return self.residual, self.jacobian, self.updates


@dataclass
class Damped:
    """Levenberg-Marquardt on one least-squares problem, step by step.

    Attributes
    ----------
    options : LevenbergMarquardt
    problem : LeastSquares
    x : Tensor (K,)
    damping : float
    known : Known, optional
        None where the next step computes a Jacobian.
    origin : Tensor (K,), optional
        Where the last Jacobian was computed.
    done : bool
    """

    options: LevenbergMarquardt
    problem: LeastSquares
    x: Tensor
    damping: float
    known: Known | None = None
    origin: Tensor | None = None
    done: bool = False
    _local: LeastSquares | None = field(default=None, repr=False)

    @property
    def local(self) -> LeastSquares:
        """The problem for trial steps: frozen where the last Jacobian was computed."""
        if self._local is None:
            self._local = self.problem if self.origin is None else self.problem.local(self.origin)
        return self._local

    def step(self) -> Tensor:
        """Take one step, and return the loss () before it."""
        if self.known is None:
            self.origin, self._local = self.x.clone(), None
            self.known = Known(*self.local.linearised(self.x))
        residual, jacobian = self.known.residual, self.known.jacobian
        # Rows may be tens of thousands and lie on a GPU; the normal equations are small.
        loss = residual.square().sum().cpu()
        hessian, gradient = (jacobian.T @ jacobian).cpu(), (jacobian.T @ residual).cpu()
        diagonal = hessian.diagonal() + 1e-9 * hessian.diagonal().max() + 1e-30
        true = self.known.updates == 0
        for _ in range(self.options.tries):
            trial = self._trial(hessian, gradient, diagonal)
            after = self.local.residual(trial)
            gain = loss - after.square().sum().cpu()
            if bool(gain > 0):
                move, self.x = trial - self.x, trial
                self.damping = max(self.damping / self.options.factor, tuned.LM_LEAST_DAMPING)
                self.done |= true and float(gain) < self.options.gain * float(loss)
                self.known = self._updated(self.known, after, move, gain, diagonal)
                return loss
            self.damping = min(self.damping * self.options.factor, tuned.LM_MOST_DAMPING)
        if true:
            self.done = True
        else:
            # Perhaps the updated Jacobian was wrong: the next step computes one.
            self.known, self.damping = None, self.options.damping
        return loss

    def _trial(self, hessian: Tensor, gradient: Tensor, diagonal: Tensor) -> Tensor:
        """End of the damped step, inside the bounds."""
        x, reach = self.x, self.options.reach
        matrix = hessian + torch.diag(self.damping * diagonal)
        trial = x - torch.linalg.solve(matrix, gradient)
        # A parameter of little effect would be sent to the end of its range at once.
        short = torch.maximum(torch.minimum(trial, x + reach), x - reach)
        inside = self.problem.inside(short)
        # The step of the others, given those that stop at a bound.
        stuck = inside != trial
        if bool(stuck.any()) and not bool(stuck.all()):
            free = ~stuck
            pinned = (inside - x) * stuck
            right = -(gradient + matrix @ pinned)[free]
            inside[free] = x[free] + torch.linalg.solve(matrix[free][:, free], right)
        return self.problem.inside(inside)

    def _updated(
        self, known: Known, after: Tensor, move: Tensor, gain: Tensor, scale: Tensor
    ) -> Known | None:
        """Broyden's update of the Jacobian, where the step went as predicted."""
        # A state that was read from a file lies on the CPU.
        residual, jacobian = (v.to(after.device) for v in (known.residual, known.jacobian))
        there = residual + jacobian @ move.to(after.device)
        predicted = (residual.square().sum() - there.square().sum()).cpu()
        if known.updates + 1 >= self.options.reuse or not bool(gain > 0.5 * predicted):
            return None
        weight = scale * move
        weight = (weight / (weight @ move)).to(after.device)
        jacobian = jacobian + torch.outer(after - there, weight)
        return Known(after, jacobian, known.updates + 1)


class LevenbergMarquardtIteration(FaceByFace):
    """One :class:`Damped` for each face."""

    def __init__(self, options: LevenbergMarquardt, problem: Problem, vectors: Tensor) -> None:
        super().__init__(problem, vectors)
        self.faces = [
            Damped(options, OneFace.of(problem, b, vector), vector[problem.free], options.damping)
            for b, vector in enumerate(self.vectors)
        ]

    def step_face(self, face: int) -> Tensor:
        damped = self.faces[face]
        loss = damped.step()
        self.vectors[face, self.problem.free] = damped.x
        self.done[face] = damped.done
        return loss

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "damping": [d.damping for d in self.faces],
            "origin": [d.origin for d in self.faces],
            "known": [None if d.known is None else d.known.values() for d in self.faces],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for b, damped in enumerate(self.faces):
            damped.x = self.vectors[b, self.problem.free]
            damped.damping, damped.origin = state["damping"][b], state["origin"][b]
            known = state["known"][b]
            damped.known = None if known is None else Known(*known)
            damped.done = bool(self.done[b])
