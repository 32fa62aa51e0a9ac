"""How a fit moves: Adam, L-BFGS, Levenberg-Marquardt, ensembles, draws, one step at a time.

A method holds normalised parameters (B, P) of B faces, of which the columns ``free`` may change,
inside ``bounds``. ``step()`` moves every face that is not finished and returns the losses (B,)
*before* the move together with the vectors they belong to; ``state_dict()`` holds everything a
continued fit needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.objectives import Objective
from radarbook.fitting.space import ParameterSpace
from radarbook.seeds import torch_stream

MethodName = Literal["adam", "lbfgs", "lm", "ensemble", "search", "ambiguity"]


class Method(ABC):
    """Common ground of the methods; float64 throughout."""

    #: Whether lower losses are better iterates. Where the objective is looked at smoothed, the last
    #: iterate counts.
    monotone = True
    #: Default step size.
    RATE = 1.0

    def __init__(
        self,
        objective: Objective,
        vector: Tensor,
        free: Tensor,
        bounds: Tensor,
        space: ParameterSpace,
        rate: float | None = None,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        self.rate = self.RATE if rate is None else rate
        self.objective, self.free, self.bounds = objective, free, bounds
        self.space = space
        self.vector = vector.double().clone()
        self.done = torch.zeros(len(vector), dtype=torch.bool)

    @abstractmethod
    def step(self) -> tuple[Tensor, Tensor]:
        """(losses (B,), vectors (B, P) they belong to); then the vectors have moved."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def parameters(self, vector: Tensor) -> FaceParameters:
        return self.space.unpack(vector)

    def losses(self, vector: Tensor) -> Tensor:
        """(B,) sums of squares."""
        rows = self.objective.residuals(self.parameters(vector))
        return rows.double().square().sum(1).to(vector.device)

    def inside(self, vector: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(vector, self.bounds), -self.bounds)


class Adam(Method):
    """Gradient steps of about ``rate`` a parameter, all faces in one batch."""

    RATE = 0.05

    def __init__(self, *problem: Any) -> None:
        super().__init__(*problem)
        self.variable = self.vector[:, self.free].clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.variable], lr=self.rate)

    def step(self) -> tuple[Tensor, Tensor]:
        base = self.vector.clone()
        self.optimizer.zero_grad()
        losses = self.losses(base.index_copy(1, self.free, self.variable))
        losses.sum().backward()
        self.optimizer.step()
        with torch.no_grad():
            moved = base.index_copy(1, self.free, self.variable)
            self.vector = torch.where(self.done[:, None], base, self.inside(moved))
            self.variable.copy_(self.vector[:, self.free])
        return losses.detach(), base

    def state_dict(self) -> dict[str, Any]:
        return {"vector": self.vector.clone(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.vector, self.done = state["vector"].clone(), state["done"].clone()
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self.variable.copy_(self.vector[:, self.free])


class LBFGS(Method):
    """Limited-memory BFGS with a strong-Wolfe line search, face by face."""

    def __init__(self, *problem: Any) -> None:
        super().__init__(*problem)
        self.variables = [row.clone().requires_grad_() for row in self.vector[:, self.free]]
        self.optimizers = [
            torch.optim.LBFGS(
                [variable],
                lr=self.rate,
                max_iter=1,
                max_eval=20,
                history_size=10,
                line_search_fn="strong_wolfe",
            )
            for variable in self.variables
        ]
        if self.objective.faces != 1:
            raise InputError("method 'lbfgs': expected one face at a time")

    def step(self) -> tuple[Tensor, Tensor]:
        base = self.vector.clone()
        variable, optimizer = self.variables[0], self.optimizers[0]

        def closure() -> Tensor:
            optimizer.zero_grad()
            inside = self.inside(base.index_copy(1, self.free, variable[None]))
            loss = self.losses(inside).sum()
            loss.backward()
            return loss

        first = optimizer.step(closure)
        with torch.no_grad():
            self.vector = self.inside(base.index_copy(1, self.free, variable[None]))
        return torch.as_tensor(first).detach().reshape(1), base

    def state_dict(self) -> dict[str, Any]:
        return {
            "vector": self.vector.clone(),
            "variable": self.variables[0].detach().clone(),
            "optimizer": self.optimizers[0].state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.vector, self.done = state["vector"].clone(), state["done"].clone()
        self.optimizers[0].load_state_dict(state["optimizer"])
        with torch.no_grad():
            self.variables[0].copy_(state["variable"])


class FaceByFace(Method):
    """A method that moves one face at a time and needs no gradients."""

    def __init__(self, *problem: Any) -> None:
        super().__init__(*problem)
        #: Steps that were made: random draws differ from one to the next.
        self.rounds = 0

    @torch.no_grad()
    def step(self) -> tuple[Tensor, Tensor]:
        base = self.vector.clone()
        losses = torch.zeros(len(base), dtype=torch.float64)
        for b in range(len(base)):
            if not bool(self.done[b]):
                losses[b] = self._step_face(b)
        self.rounds += 1
        return losses, base

    @abstractmethod
    def _step_face(self, b: int) -> Tensor:
        """Moves face ``b``; its loss () before the move."""


class LevenbergMarquardt(FaceByFace):
    """Damped Gauss-Newton steps, face by face, with Jacobians by forward differences.

    With some 25 unknowns a Jacobian is 25 more renderings of nearly the same face, which a lean
    renderer does in one batch; ten such steps do the work of hundreds of gradient steps. The
    damping is lessened after a step that helped, raised after one that did not (which is then not
    taken). Between true Jacobians Broyden's rank-one update serves, as long as steps bring at
    least half of what they promise. What steps from one Jacobian come to is looked at as near the
    face that it is of (:meth:`~radarbook.fitting.objectives.Objective.near`): no jump of the loss
    is then taken for a gain. ``rate`` multiplies the damping at the start and the gain that is
    still worth a step: small ones follow a valley to its end.
    """

    #: Damping relative to the Hessian's diagonal at the start, and its range.
    START, LEAST, MOST = 1e-2, 1e-6, 1e4
    #: A face is finished when the damping is at its most or a step helps less than this.
    RELATIVE_GAIN = 2e-3
    TRIES = 5
    #: Steps that one Jacobian serves, with Broyden's updates between; ``reuse`` of one object.
    REUSE = 3
    #: Longest step of one parameter, normalised.
    REACH = 1.0

    def __init__(self, *problem: Any) -> None:
        super().__init__(*problem)
        self.start, self.reuse = self.rate * self.START, self.REUSE
        self.damping = torch.full((len(self.vector),), self.start, dtype=torch.float64)
        # Residual and Jacobian at the present vector of a face, and the updates since it was true.
        self.known: dict[int, tuple[Tensor, Tensor, int]] = {}
        # Where it was true, and the objective as near there.
        self.origin: dict[int, Tensor] = {}
        self.nearby: dict[int, Objective] = {}
        # Some microns: over one of them rounding to complex64 is a tenth of the change, and over
        # ten a phase turns by two degrees, which is small. Poses move whole faces by centimetres.
        # The material enters by its square, whose slope at 0 says nothing of what lies ahead.
        self.shift = self.space.vector(5e-3, 5e-3, [2e-4] * 3, [5e-4] * 3, [1e-2, 0.2, 1e-2])

    def linearised(self, face: int, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Residual (M,), and Jacobian (M, K) with respect to the free columns, of one face; where
        the objective computes them."""
        here, moved = vector[None], vector[None] + torch.diag(self.shift)[self.free]
        both = self.parameters(here), self.parameters(moved)
        rows = self._near(face).jacobian(*both, face).double()
        jacobian = ((rows[1:] - rows[0]) / self.shift[self.free, None].to(rows.device)).T
        return rows[0], jacobian

    def _step_face(self, b: int) -> Tensor:
        vector = self.vector[b]
        if b not in self.known:
            self.origin[b] = vector.clone()
            self.nearby.pop(b, None)
            self.known[b] = *self.linearised(b, vector), 0
        residual, jacobian, age = self.known[b]
        # Rows may be tens of thousands and lie on a GPU; what is left of them here is small.
        loss = residual.square().sum().cpu()
        hessian, gradient = (jacobian.T @ jacobian).cpu(), (jacobian.T @ residual).cpu()
        diagonal = hessian.diagonal() + 1e-9 * hessian.diagonal().max() + 1e-30
        for _ in range(self.TRIES):
            trial = self._trial(b, hessian, gradient, diagonal)
            move = (trial - vector)[self.free]
            after = self.residual(b, trial)
            gain = loss - after.square().sum().cpu()
            if bool(gain > 0):
                self.vector[b] = trial
                self.damping[b] = (self.damping[b] / 5).clamp(min=self.LEAST)
                if age == 0 and float(gain) < self.rate * self.RELATIVE_GAIN * float(loss):
                    self.done[b] = True
                self._learn(b, after, move, gain, diagonal)
                return loss
            self.damping[b] = (self.damping[b] * 5).clamp(max=self.MOST)
        if age == 0:
            self.done[b] = True
        else:
            # The guessed Jacobian was at fault, perhaps: the next step takes a true one.
            del self.known[b]
            self.damping[b] = self.start
        return loss

    def _trial(self, b: int, hessian: Tensor, gradient: Tensor, diagonal: Tensor) -> Tensor:
        """The damped step's end, inside the bounds."""
        vector, matrix = self.vector[b], hessian + torch.diag(self.damping[b] * diagonal)
        trial = vector.index_add(0, self.free, -torch.linalg.solve(matrix, gradient))
        # A parameter that hardly shows would be sent to the end of its range at once.
        near = torch.maximum(torch.minimum(trial, vector + self.REACH), vector - self.REACH)
        inside = self.inside(near)
        # Parameters that would leave the range stop at its end; the others step as they do then.
        stuck = (inside != trial)[self.free]
        if bool(stuck.any()) and not bool(stuck.all()):
            free = ~stuck
            pinned = (inside - vector)[self.free] * stuck
            right = -(gradient + matrix @ pinned)[free]
            inside[self.free[free]] = vector[self.free[free]] + torch.linalg.solve(
                matrix[free][:, free], right
            )
        return self.inside(inside)

    def residual(self, face: int, vector: Tensor) -> Tensor:
        """(M,) of one face alone."""
        one = self.parameters(vector[None])
        return self._near(face).jacobian(one, one[:0], face)[0].double()

    def _near(self, face: int) -> Objective:
        """The objective, as near the place where a face's Jacobian was true, if there is one."""
        if face in self.origin and face not in self.nearby:
            place = self.parameters(self.origin[face][None])
            self.nearby[face] = self.objective.near(place, face)
        return self.nearby.get(face, self.objective)

    def _learn(self, b: int, after: Tensor, move: Tensor, gain: Tensor, scale: Tensor) -> None:
        """Broyden's update: the Jacobian that the step itself showed, where it went as foretold."""
        *known, age = self.known.pop(b)
        # A state that was read from a file lies on the CPU.
        residual, jacobian = (value.to(after.device) for value in known)
        there = residual + jacobian @ move.to(after.device)
        foretold = (residual.square().sum() - there.square().sum()).cpu()
        if age + 1 < self.reuse and bool(gain > 0.5 * foretold):
            weight = scale * move
            weight = (weight / (weight @ move)).to(after.device)
            jacobian = jacobian + torch.outer(after - there, weight)
            self.known[b] = after, jacobian, age + 1

    def state_dict(self) -> dict[str, Any]:
        return {
            "vector": self.vector.clone(),
            "damping": self.damping.clone(),
            "known": dict(self.known),
            "origin": dict(self.origin),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.vector = state["vector"].clone()
        self.damping, self.done = state["damping"].clone(), state["done"].clone()
        self.known, self.origin = dict(state["known"]), dict(state["origin"])


class Ensemble(FaceByFace):
    """Gauss-Newton steps on the objective as a Gaussian ensemble of faces samples it, per face.

    A radar image has a local minimum wherever two highlights can be taken for each other, so a
    derivative at a point says little about the way to a face that is millimetres away. Here faces
    are sampled about the present one, ``rate`` times as widely as faces differ, and all residuals
    are regressed on the parameters: slope and mean of the residuals over the ensemble take the
    place of Jacobian and residual. The residuals of the regression are treated as noise, with
    their correlations. So residuals that oscillate within the ensemble have little weight, and
    those that change steadily have much. With narrower and narrower ensembles this ends as
    Gauss-Newton. Cf. iterated posterior linearisation (García-Fernández et al. 2015) and ensemble
    Kalman inversion (Iglesias et al. 2013).
    """

    monotone = False
    RATE = 0.3
    #: Faces of an ensemble per unknown, for ensembles narrower than 0.4; wider ones take more. And
    #: the fewest of all.
    FACES, FEWEST = 3.2, 40
    #: Residuals of the regression count for more than their variance, because they depend on the
    #: parameters. Their correlations are mixed with this share of white noise.
    INFLATION, WHITE = 3.0, 0.3
    #: Longest step, root mean square in units of the ensemble.
    REACH = 1.5

    def __init__(self, *problem: Any) -> None:
        super().__init__(*problem)
        # How widely faces differ, in normalised units: the pose uniformly, and the position as
        # well as the image's centroid tells it, 9 mm.
        uniform = [3**-0.5] * 3
        self.width = self.space.vector(1.0, 1.0, [0.18] * 3, uniform, uniform)[self.free]
        k = self.space.coefficients
        # Coefficients are standard normal a priori; the pose is about where it is.
        self.anchor = torch.cat([torch.zeros_like(self.vector[:, :k]), self.vector[:, k:]], dim=1)

    def _step_face(self, b: int) -> Tensor:
        vector, spread = self.vector[b], self.rate * self.width
        count = max(self.FEWEST, self.FACES * len(spread) * max(1.0, 2.5 * self.rate))
        half = round(count / 2)
        name = f"fitting/ensemble/{self.rate:.6f}/{self.seed}"
        stream = torch_stream(b, name, self.rounds)
        draws = torch.randn(half, len(spread), generator=stream, dtype=torch.float64)
        ensemble = vector.repeat(2 * half, 1)
        ensemble[:, self.free] += torch.cat([draws, -draws]) * spread
        ensemble = self.inside(ensemble)
        rows = self.objective.jacobian(self.parameters(vector[None]), self.parameters(ensemble), b)
        rows = rows.double().cpu()
        residuals = rows[1:, : rows.shape[1] - self.objective.priors]
        # In units of the ensemble.
        places = (ensemble - vector)[:, self.free] / spread
        middle, centred = places.mean(0), places - places.mean(0)
        mean = residuals.mean(0)
        eye = torch.eye(len(spread), dtype=torch.float64)
        normal = centred.T @ centred + 1e-4 * len(ensemble) * eye
        slope = torch.linalg.solve(normal, centred.T @ (residuals - mean))  # (K, M)
        freedom = len(ensemble) / max(1, len(ensemble) - len(spread) - 1)
        rest = (residuals - mean - centred @ slope) * (self.INFLATION * freedom) ** 0.5
        scale = (rest.square().mean(0) + self.objective.noise**2 / rest.shape[1]).sqrt()
        rest, jacobian = rest / scale / len(ensemble) ** 0.5, (slope / scale).T
        weighted = self._whiten(rest, jacobian)
        # The prior, seen from the cloud's middle.
        apart = (self.anchor[b] - vector)[self.free] / self.width
        pull = self.rate * (apart - self.rate * middle)
        hessian = jacobian.T @ weighted + self.rate**2 * eye
        move = torch.linalg.solve(hessian, pull - weighted.T @ (mean / scale))
        length = float(move.square().mean().sqrt())
        move = move * min(1.0, self.REACH / max(length, 1e-12))
        self.vector[b] = self.inside(vector.index_add(0, self.free, spread * (middle + move)))
        return rows[0].square().sum()

    def _whiten(self, rest: Tensor, jacobian: Tensor) -> Tensor:
        """C⁻¹ J for C = white · 1 + (1 - white) · restᵀ rest, by Woodbury's identity."""
        white, eye = self.WHITE, torch.eye(len(rest), dtype=torch.float64)
        inner = eye + rest @ rest.T * ((1 - white) / white)
        correction = rest.T @ torch.linalg.solve(inner, rest @ jacobian)
        return jacobian / white - correction * ((1 - white) / white**2)

    def state_dict(self) -> dict[str, Any]:
        return {"vector": self.vector.clone(), "rounds": self.rounds, "anchor": self.anchor.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.vector, self.done = state["vector"].clone(), state["done"].clone()
        self.rounds, self.anchor = state["rounds"], state["anchor"].clone()


class PoseSearch(FaceByFace):
    """Position and orientation alone, by samples about the best so far, each step narrower.

    Highlights move as a face turns, so an image's centroid gives the position of a face of unknown
    orientation to 1 or 2 cm, and at times to 3: farther than an ensemble about the start reaches.
    A pose has few dimensions, and smoothed power changes little between samples: some two hundred
    halve the error, or reduce it more if it is large.
    """

    #: Samples of each step; the last number holds for all that follow.
    DRAWS = (96, 64, 32)
    #: Each step's width in terms of the one before.
    NARROWER = 0.5

    def __init__(self, *problem: Any) -> None:
        super().__init__(*problem)
        k = self.space.coefficients
        # Normalised: 10, 17 and 10 mm; pitch, which goes with y, has twice the range of yaw.
        width = torch.tensor([0.2, 0.35, 0.2, 0.7, 0.7, 0.7], dtype=torch.float64)
        pose = (self.free >= k) & (self.free < k + 6)
        self.columns, self.width = self.free[pose], width[self.free[pose] - k]

    def _step_face(self, b: int) -> Tensor:
        vector, count = self.vector[b], self.DRAWS[min(self.rounds, len(self.DRAWS) - 1)]
        stream = torch_stream(b, f"fitting/pose/{self.seed}", self.rounds)
        draws = torch.randn(count, len(self.columns), generator=stream, dtype=torch.float64)
        ensemble = vector.repeat(count, 1)
        ensemble[:, self.columns] += draws * (self.rate * self.NARROWER**self.rounds * self.width)
        ensemble = self.inside(ensemble)
        rows = self.objective.jacobian(self.parameters(vector[None]), self.parameters(ensemble), b)
        rows = rows.double().cpu()
        losses = rows.square().sum(1)
        best = int(losses.argmin())
        if best > 0:
            self.vector[b] = ensemble[best - 1]
        return losses[0]

    def state_dict(self) -> dict[str, Any]:
        return {"vector": self.vector.clone(), "rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.vector, self.done = state["vector"].clone(), state["done"].clone()
        self.rounds = state["rounds"]
