"""Random search over position and orientation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

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
