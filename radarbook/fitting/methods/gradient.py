"""Methods that follow the gradient: Adam and L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.fitting import tuned
from radarbook.fitting.methods.base import Iteration, Method, Problem


@dataclass(frozen=True, kw_only=True)
class Adam(Method):
    r"""Gradient steps of nearly constant length (Kingma and Ba 2015), all faces in one batch.

    Each free parameter θ moves by :math:`-\text{rate}\; \hat m / \sqrt{\hat v}`, with running means
    m̂ and v̂ of its gradient and of the squared gradient.

    Attributes
    ----------
    rate : float
        Length of a step, normalised units per parameter.

    Examples
    --------
    >>> from radarbook.fitting.methods import Adam
    >>> Adam(rate=0.02)
    Adam(rate=0.02)
    """

    rate: float = tuned.ADAM_RATE

    def begin(self, problem: Problem, vectors: Tensor) -> Iteration:
        return _AdamIteration(self, problem, vectors)


class _AdamIteration(Iteration):
    def __init__(self, options: Adam, problem: Problem, vectors: Tensor) -> None:
        super().__init__(problem, vectors)
        self.variable = self.vectors[:, problem.free].clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.variable], lr=options.rate)

    def step(self) -> tuple[Tensor, Tensor]:
        base, problem = self.vectors.clone(), self.problem
        self.optimizer.zero_grad()
        losses = problem.losses(base.index_copy(1, problem.free, self.variable))
        losses.sum().backward()
        self.optimizer.step()
        with torch.no_grad():
            moved = base.index_copy(1, problem.free, self.variable)
            self.vectors = torch.where(self.done[:, None], base, problem.inside(moved))
            self.variable.copy_(self.vectors[:, problem.free])
        return losses.detach(), base

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self.variable.copy_(self.vectors[:, self.problem.free])


@dataclass(frozen=True, kw_only=True)
class LBFGS(Method):
    """Limited-memory BFGS with a strong-Wolfe line search (Nocedal and Wright 2006), for one face.

    The inverse Hessian is estimated from the last ``history`` steps and gradients.

    Attributes
    ----------
    rate : float
        First length that the line search tries, relative to the quasi-Newton step.
    history : int
        Steps that the Hessian is estimated from.
    evaluations : int
        Evaluations of the loss per line search, at most.

    Examples
    --------
    >>> from radarbook.fitting.methods import LBFGS
    >>> LBFGS(history=5)
    LBFGS(rate=1.0, history=5, evaluations=20)
    """

    rate: float = 1.0
    history: int = tuned.LBFGS_HISTORY
    evaluations: int = tuned.LBFGS_EVALUATIONS

    def begin(self, problem: Problem, vectors: Tensor) -> Iteration:
        if len(vectors) != 1:
            raise InputError(f"L-BFGS: expected one face at a time, found {len(vectors)}")
        return _LBFGSIteration(self, problem, vectors)


class _LBFGSIteration(Iteration):
    def __init__(self, options: LBFGS, problem: Problem, vectors: Tensor) -> None:
        super().__init__(problem, vectors)
        self.variable = self.vectors[0, problem.free].clone().requires_grad_()
        self.optimizer = torch.optim.LBFGS(
            [self.variable],
            lr=options.rate,
            max_iter=1,
            max_eval=options.evaluations,
            history_size=options.history,
            line_search_fn="strong_wolfe",
        )

    def step(self) -> tuple[Tensor, Tensor]:
        base, problem = self.vectors.clone(), self.problem

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = problem.losses(self._moved(base)).sum()
            loss.backward()
            return loss

        first = self.optimizer.step(closure)
        with torch.no_grad():
            self.vectors = self._moved(base)
        return torch.as_tensor(first).detach().reshape(1), base

    def _moved(self, base: Tensor) -> Tensor:
        free = self.problem.free
        return self.problem.inside(base.index_copy(1, free, self.variable[None]))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "variable": self.variable.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self.variable.copy_(state["variable"])
