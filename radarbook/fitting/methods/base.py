"""What every method of a fit has: frozen options, a problem, and a running state.

A :class:`Method` is a value: it can be compared, kept in a schedule and used for several fits. What
changes from step to step is in the :class:`Iteration` that it begins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.objectives.base import Objective
from radarbook.fitting.space import ParameterSpace


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """What a method makes small, and by which parameters.

    Attributes
    ----------
    objective : Objective
        Residuals of B faces.
    space : ParameterSpace
        Of the normalised vectors (B, width).
    free : Tensor (K,) int64
        Columns that may change.
    """

    objective: Objective
    space: ParameterSpace
    free: Tensor

    def parameters(self, vectors: Tensor) -> FaceParameters:
        """The faces of vectors (B, width)."""
        return self.space.unpack(vectors)

    def losses(self, vectors: Tensor) -> Tensor:
        """(B,) sums of squared residuals; differentiable where the objective is."""
        rows = self.objective.residuals(self.parameters(vectors))
        return rows.double().square().sum(1).to(vectors.device)

    def inside(self, vectors: Tensor) -> Tensor:
        """The vectors, moved into the bounds of the space."""
        bounds = self.space.bounds()
        return torch.maximum(torch.minimum(vectors, bounds), -bounds)


class Iteration(ABC):
    """A method at work: the vectors of B faces, and what the method remembers between steps.

    Attributes
    ----------
    vectors : Tensor (B, width) float64
        Normalised parameters.
    done : Tensor (B,) bool
        Faces that are finished; a step leaves them where they are.
    """

    def __init__(self, problem: Problem, vectors: Tensor) -> None:
        self.problem = problem
        self.vectors = vectors.double().clone()
        self.done = torch.zeros(len(vectors), dtype=torch.bool)

    @abstractmethod
    def step(self) -> tuple[Tensor, Tensor]:
        """Move every face that is not finished.

        Returns losses (B,) and vectors (B, width), both from *before* the move.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a continued fit needs; :meth:`load_state_dict` restores it."""
        return {"vectors": self.vectors.clone(), "done": self.done.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.vectors, self.done = state["vectors"].clone(), state["done"].clone()


class FaceByFace(Iteration):
    """Moves one face at a time, without gradients. ``rounds`` counts the steps."""

    def __init__(self, problem: Problem, vectors: Tensor) -> None:
        super().__init__(problem, vectors)
        self.rounds = 0

    @torch.no_grad()
    def step(self) -> tuple[Tensor, Tensor]:
        base = self.vectors.clone()
        losses = torch.zeros(len(base), dtype=torch.float64)
        for b in range(len(base)):
            if not bool(self.done[b]):
                losses[b] = self.step_face(b)
        self.rounds += 1
        return losses, base

    @abstractmethod
    def step_face(self, face: int) -> Tensor:
        """Move one face; its loss () before the move."""

    def rows(self, face: int, versions: Tensor) -> Tensor:
        """(1 + P, M) float64 on the CPU: residuals of a face, then of versions (P, width) of it."""
        here = self.problem.parameters(self.vectors[face : face + 1])
        moved = self.problem.parameters(versions)
        return self.problem.objective.jacobian(here, moved, face).double().cpu()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rounds = state["rounds"]


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Options of a method.

    Class attributes
    ----------------
    monotone : bool
        Whether the iterate of lowest loss is the result. Otherwise it is the last one.
    converges_fast : bool
        Whether a last step of small gain shows convergence, as it does near a minimum of second
        order.
    """

    monotone: ClassVar[bool] = True
    converges_fast: ClassVar[bool] = False

    @abstractmethod
    def begin(self, problem: Problem, vectors: Tensor) -> Iteration:
        """The running state of this method on a problem, from vectors (B, width)."""

    def seeded(self, seed: int) -> Self:
        """The same with other random samples; itself where nothing is random."""
        return self

    def description(self) -> dict[str, Any]:
        """Name and options, JSON-able."""
        return {"name": type(self).__name__, **asdict(self)}
