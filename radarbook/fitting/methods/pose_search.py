"""Searches over position and orientation: near a pose, and over all that an array sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from radarbook.fitting import tuned
from radarbook.fitting.methods.base import FaceByFace, Iteration, Method, Problem
from radarbook.seeds import torch_stream


@dataclass(frozen=True, kw_only=True)
class PoseSearch(Method):
    """Samples of position and orientation about the best so far, narrower from step to step.

    Highlights move when a face rotates. So the centroid of an image gives the position of a face of
    unknown orientation to 1 or 2 cm, sometimes to 3: beyond the reach of an ensemble about the
    start. A pose has few dimensions, and smoothed power changes little between samples: some two
    hundred halve the error, or reduce it more if it is large. Other parameters keep their values.

    Attributes
    ----------
    samples : tuple of int
        Per step; the last number holds for all that follow.
    narrower : float
        Width of a step relative to the one before.
    width : float
        Factor of the first step's width.
    seed : int
        Of the samples.

    Examples
    --------
    >>> from radarbook.fitting.methods import PoseSearch
    >>> PoseSearch().samples
    (96, 64, 32)
    """

    samples: tuple[int, ...] = tuned.POSE_SAMPLES
    narrower: float = tuned.POSE_NARROWER
    width: float = 1.0
    seed: int = 0

    def begin(self, problem: Problem, vectors: Tensor) -> Iteration:
        return _PoseIteration(self, problem, vectors)

    def seeded(self, seed: int) -> Self:
        return replace(self, seed=seed)


class _PoseIteration(FaceByFace):
    def __init__(self, options: PoseSearch, problem: Problem, vectors: Tensor) -> None:
        super().__init__(problem, vectors)
        self.options = options
        free, pose = problem.free, problem.space.columns(("translation", "rotation"))
        self.columns = free[torch.isin(free, pose)]
        self.spread = problem.space.vector(*tuned.POSE_WIDTH)[self.columns]

    def step_face(self, face: int) -> Tensor:
        options, vector = self.options, self.vectors[face]
        count = options.samples[min(self.rounds, len(options.samples) - 1)]
        stream = torch_stream(face, f"fitting/pose/{options.seed}", self.rounds)
        samples = torch.randn(count, len(self.columns), generator=stream, dtype=torch.float64)
        versions = vector.repeat(count, 1)
        width = options.width * options.narrower**self.rounds * self.spread
        versions[:, self.columns] += samples * width
        versions = self.problem.inside(versions)
        losses = self.rows(face, versions).square().sum(1)
        best = int(losses.argmin())
        if best > 0:
            self.vectors[face] = versions[best - 1]
        return losses[0]


@dataclass(frozen=True, kw_only=True)
class OrientationSearch(Method):
    """Orientations over a wide range, then Gauss-Newton steps on the pose from the best of them.

    A face that is turned by more than ten degrees has other highlights than the frontal one. No
    derivative leads from one to the other, and an ensemble about the frontal face does not hold it.
    Smoothed power has a few minima over orientation, one of which is the face's. The first step
    takes evenly spread yaws and pitches (Sobol, 1967) with the position kept; further ones move the
    start and the best of them to their own minima, by Gauss-Newton steps on finite differences. As
    the shape is not known yet, yaw and shape can be mistaken for each other. So a face stays where
    it started, unless another pose has a far smaller loss than the start's own minimum. Other
    parameters keep their values.

    Attributes
    ----------
    samples, tried : int
        Orientations of the first step, and how many of them are followed.
    yaw, pitch, roll : float
        Largest angle, either way, rad.
    seed : int
        Of the samples.

    Examples
    --------
    >>> import math
    >>> from radarbook.fitting.methods import OrientationSearch
    >>> round(math.degrees(OrientationSearch().yaw))
    30
    """

    #: The pose of lowest loss is not always taken.
    monotone: ClassVar[bool] = False

    samples: int = tuned.ORIENTATIONS
    tried: int = tuned.ORIENTATIONS_TRIED
    yaw: float = tuned.ORIENTATION_MOST[0]
    pitch: float = tuned.ORIENTATION_MOST[1]
    roll: float = tuned.ORIENTATION_MOST[2]
    seed: int = 0

    def begin(self, problem: Problem, vectors: Tensor) -> Iteration:
        return _OrientationIteration(self, problem, vectors)

    def seeded(self, seed: int) -> Self:
        return replace(self, seed=seed)


#: What a search knows of the poses that it follows.
_FOLLOWED = ("start", "owners", "followed", "losses")


class _OrientationIteration(FaceByFace):
    def __init__(self, options: OrientationSearch, problem: Problem, vectors: Tensor) -> None:
        super().__init__(problem, vectors)
        self.options, space = options, problem.space
        pose = space.columns(("translation", "rotation"))
        self.columns = problem.free[torch.isin(problem.free, pose)]
        steps = space.vector(0.0, 0.0, *tuned.ORIENTATION_STEPS, [0.0] * 3)
        self.steps = steps[self.columns]
        self.start = self.vectors.clone()
        #: Poses that are followed: numbers of their faces, vectors and losses.
        self.owners = torch.zeros(0, dtype=torch.int64)
        self.followed = torch.zeros(0, vectors.shape[1], dtype=torch.float64)
        self.losses = torch.zeros(0, dtype=torch.float64)

    def step_face(self, face: int) -> Tensor:
        if self.rounds == 0:
            return self._spread(face)
        before = self.rows(face, self.vectors[:0])[0].square().sum()
        mine = (self.owners == face).nonzero()[:, 0]
        hopeless = tuned.ORIENTATION_HOPELESS * self.losses[mine].min()
        for n in mine.tolist():
            if n == mine[0] or self.losses[n] <= hopeless:
                self._descend(face, n)
        self._take_best(face)
        return before

    def _spread(self, face: int) -> Tensor:
        """Orientations over the whole range, with the position kept."""
        options, vector = self.options, self.vectors[face]
        sobol = torch.quasirandom.SobolEngine(3, scramble=True, seed=options.seed)
        angles = 2 * sobol.draw(options.samples).double() - 1
        angles *= torch.tensor([options.yaw, options.pitch, options.roll], dtype=torch.float64)
        space = self.problem.space
        faces = space.unpack(vector.repeat(options.samples, 1)).replace(rotation=angles)
        versions = vector.repeat(options.samples, 1)
        versions[:, self.columns] = faces.normalised().double()[:, self.columns]
        versions = torch.cat([vector[None], self.problem.inside(versions)])
        losses = self.rows(face, versions[1:]).square().sum(1)
        best = torch.cat([losses.new_zeros(1).long(), 1 + losses[1:].argsort()[: options.tried]])
        self.owners = torch.cat([self.owners, torch.full((len(best),), face)])
        self.followed = torch.cat([self.followed, versions[best]])
        self.losses = torch.cat([self.losses, losses[best]])
        self._take_best(face)
        return losses[0]

    def _descend(self, face: int, n: int) -> None:
        """One Gauss-Newton step of a pose that is followed, the best of three dampings."""
        here = self.followed[n]
        versions = here.repeat(len(self.columns), 1)
        versions[:, self.columns] += torch.diag(self.steps)
        rows = self._rows_at(here, versions, face)
        slope, loss = rows[1:] - rows[0], rows[0].square().sum()
        hessian, pull = slope @ slope.T, slope @ rows[0]
        # What does not show is not moved.
        scale = torch.diag(hessian.diag() + 1e-6 * hessian.diag().max() + 1e-12)
        moves = [
            torch.linalg.solve(hessian + damping * scale, pull)
            for damping in tuned.ORIENTATION_DAMPING
        ]
        most = tuned.ORIENTATION_REACH
        moved = here.repeat(len(moves), 1)
        moved[:, self.columns] -= torch.stack(moves).clamp(-most, most) * self.steps
        moved = self.problem.inside(moved)
        losses = self._rows_at(here, moved, face)[1:].square().sum(1)
        best = int(losses.argmin())
        if losses[best] < loss:
            self.followed[n], self.losses[n] = moved[best], losses[best]

    def _rows_at(self, here: Tensor, versions: Tensor, face: int) -> Tensor:
        one, moved = self.problem.parameters(here[None]), self.problem.parameters(versions)
        return self.problem.objective.jacobian(one, moved, face).double().cpu()

    def _take_best(self, face: int) -> None:
        """A pose of far smaller loss than the minimum that the start leads to, or the start."""
        mine = (self.owners == face).nonzero()[:, 0]
        best = mine[self.losses[mine].argmin()]
        far = self.losses[best] < tuned.ORIENTATION_GAIN * self.losses[mine[0]]
        self.vectors[face] = self.followed[best] if far else self.start[face]

    def state_dict(self) -> dict[str, Any]:
        more = {name: getattr(self, name) for name in _FOLLOWED}
        return super().state_dict() | {name: value.clone() for name, value in more.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name in _FOLLOWED:
            setattr(self, name, state[name].clone())
