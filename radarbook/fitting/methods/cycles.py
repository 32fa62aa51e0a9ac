"""Search among the minima of a loss on phases: which phase cycle does each highlight have?

A phase repeats every half wavelength. So a fit by phases has a minimum for each assignment of
cycles to highlights, and a face that starts half a millimetre off may end in a wrong one. In some
twenty dimensions other minima are not found by chance. But the phase of a highlight is nearly
linear in the parameters, over a cycle or two. With Φ the derivatives of the phases and
ζ = conj(face) target, sample by sample, a face moved by δ is as coherent with the target as

    coh(δ) = |Σ ζ exp(-j Φ δ)| / Σ |ζ|,                     (physics page, Eq. (P6.4))

which needs no rendering. Of several recordings, each with a complex gain of its own, the moduli of
their sums are added. Its maxima are climbed to from hundreds of starts at once; the few that
are coherent enough are rendered, and the loss decides among them. Integer ambiguity resolution in
satellite navigation is the same (Teunissen 1995): a real-valued estimate and its uncertainty, then
a search over the cycles that these allow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.fitting import tuned
from radarbook.fitting.methods.base import FaceByFace, Iteration, Method, Problem
from radarbook.fitting.methods.levenberg import Damped, Known, LevenbergMarquardt, OneFace
from radarbook.fitting.objectives.base import Phases
from radarbook.seeds import torch_stream


class CoherenceModel:
    """Coherence, Eq. (P6.4), about one face, less a weak prior on the move.

    Parameters
    ----------
    face, target : Tensor (M,) complex
        Samples of the face as it is, and of the target; a common factor does not matter.
    jacobian : Tensor (M, K) complex
        Derivatives of ``face``.
    width, middle : Tensor (K,)
        Of the prior: standard deviations, and the most probable move.
    counts : tuple of int, optional
        Samples of each recording, in their order; None: all are of one.
    """

    def __init__(
        self,
        face: Tensor,
        target: Tensor,
        jacobian: Tensor,
        width: Tensor,
        middle: Tensor,
        counts: tuple[int, ...] | None = None,
    ) -> None:
        product = face.conj() * target
        # Phases of weaker samples are those of side lobes.
        kept = product.abs() > tuned.COHERENCE_LEVEL * product.abs().max()
        self._angle = product[kept].angle().float()
        self._weight = (product[kept].abs() / product[kept].abs().sum()).float()
        self._slopes = (jacobian[kept] / face[kept, None]).imag.float()
        self._width, self._middle = width.to(self._slopes), middle.to(self._slopes)
        self._counts = [int(some.sum()) for some in kept.split(counts or len(kept))]

    def climb(self, moves: Tensor, steps: int = tuned.COHERENCE_STEPS) -> tuple[Tensor, Tensor]:
        """Moves (B, K) to the maxima above them, and the coherence less the prior (B,) there.

        Along any line a cosine curves by no more than at its top. So the curvature with all phases
        agreed bounds that of Σ|c| cos(...) everywhere, and Newton steps with this one matrix never
        descend (minorization and maximization, Hunter and Lange 2004).
        """
        strength = tuned.COHERENCE_PRIOR / self._width.square()
        curvature = self._slopes.T @ (self._slopes * self._weight[:, None])
        factor = torch.linalg.cholesky((curvature + torch.diag(strength)).double().cpu())
        inverse = torch.cholesky_inverse(factor).to(curvature)
        moves = moves.to(curvature)
        for _ in range(steps):
            cosine, sine, sums = self._sums(moves)
            sums = sums / sums.norm(dim=2, keepdim=True).clamp(min=1e-12)
            along, across = self._of_samples(sums)
            gradient = (sine * along - cosine * across) @ self._slopes
            gradient = gradient - strength * (moves - self._middle)
            moves = moves + gradient @ inverse
        _, _, sums = self._sums(moves)
        penalty = (strength * (moves - self._middle).square()).sum(1)
        return moves.double().cpu(), (sums.norm(dim=2).sum(1) - 0.5 * penalty).double().cpu()

    def coherence(self, moves: Tensor, others: Tensor) -> Tensor:
        """(B, O): how coherent faces moved by (B, K) and by (O, K) are, 0 to 1."""
        mine, theirs = (
            torch.polar(torch.ones_like(phase), phase)
            for phase in (m.to(self._slopes) @ self._slopes.T for m in (moves, others))
        )
        parts = zip(
            *((x.split(self._counts, 1)) for x in (mine * self._weight, theirs)), strict=True
        )
        return torch.stack([(x @ y.conj().T).abs() for x, y in parts]).sum(0).cpu()

    def _of_samples(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Two columns (B, M), or (B, 1) of one recording, of what (B, G, 2) each has."""
        if len(self._counts) > 1:
            counts = torch.tensor(self._counts, device=sums.device)
            sums = sums.repeat_interleave(counts, dim=1)
        return sums[..., 0], sums[..., 1]

    def _sums(self, moves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted cosines and sines (B, M) of the remaining phases, and their sums (B, G, 2) over
        each recording."""
        phase = self._angle - moves @ self._slopes.T
        cosine, sine = torch.cos(phase) * self._weight, torch.sin(phase) * self._weight
        sums = [
            torch.stack([x.sum(1) for x in wave.split(self._counts, 1)], dim=1)
            for wave in (cosine, sine)
        ]
        return cosine, sine, torch.stack(sums, dim=2)


@dataclass(frozen=True, kw_only=True)
class CycleSearch(Method):
    """Steps from minimum to minimum of a :class:`~radarbook.fitting.objectives.PhaseObjective`.

    Each step linearises the phases of the best face so far, samples moves about where the fit
    began, climbs to the maxima of their coherence coh(δ), renders the most coherent of them, and
    takes a few Levenberg-Marquardt steps from those of least loss. Minima that have been visited
    are not tried again. A face is finished when none of them is better, or when its residual is at
    the level predicted for a correct face
    (:meth:`~radarbook.fitting.objectives.PhaseObjective.enough`).

    Attributes
    ----------
    width : float
        Factor of the samples' standard deviation.
    samples, rendered, tried : int
        Moves sampled, minima rendered, and minima descended from, per step.
    margin : float
        The coherence of a rendered minimum is at most so much below the highest.
    descent : LevenbergMarquardt
        Of the descents. Its Jacobian is that of the face nearby, rotated with the phases.
    steps : int
        Per descent.
    hopeless : float
        A descent ends early at so many times the best loss if it has not halved its own.
    gain : float
        A face is finished when a step lowers its loss by a smaller share.
    seed : int
        Of the samples.

    Examples
    --------
    >>> from radarbook.fitting.methods import CycleSearch
    >>> CycleSearch().seeded(1).seed
    1
    """

    width: float = 1.0
    samples: int = tuned.CYCLE_SAMPLES
    rendered: int = tuned.CYCLE_RENDERED
    tried: int = tuned.CYCLE_TRIED
    margin: float = tuned.CYCLE_MARGIN
    # One Jacobian serves all steps, as long as they go as predicted.
    descent: LevenbergMarquardt = field(
        default_factory=lambda: LevenbergMarquardt(reuse=tuned.CYCLE_STEPS + 1)
    )
    steps: int = tuned.CYCLE_STEPS
    hopeless: float = tuned.CYCLE_HOPELESS
    gain: float = tuned.CYCLE_GAIN
    seed: int = 0

    def begin(self, problem: Problem, vectors: Tensor) -> Iteration:
        return CycleIteration(self, problem, vectors)

    def seeded(self, seed: int) -> Self:
        return replace(self, seed=seed)


@dataclass(frozen=True, eq=False)
class _Place:
    """The best face of a step: the objective frozen at it, its residual and Jacobian."""

    face: OneFace
    phases: Phases
    x: Tensor
    residual: Tensor
    jacobian: Tensor

    def samples(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Complex samples of a face of this residual, its gain included, and of its target."""
        target = self.phases.target_samples(self.face.face)
        # The residual is the target less the face.
        data = residual[: 2 * len(target)].reshape(-1, 2)
        return target - torch.view_as_complex(data), target

    @property
    def derivatives(self) -> Tensor:
        """(K, M) complex, of the samples of the residual."""
        data = len(self.residual) - self.phases.priors
        columns = self.jacobian[:data].T.reshape(len(self.x), -1, 2)
        return torch.view_as_complex(columns.contiguous())

    def rotated(self, residual: Tensor) -> Tensor:
        """(M, K) the Jacobian of a face of this residual nearby."""
        (now, _), (before, _) = self.samples(residual), self.samples(self.residual)
        counts = self.phases.sample_counts(self.face.face)
        columns = zip(
            self.derivatives.split(counts, 1), before.split(counts), now.split(counts), strict=True
        )  # each recording has its own gain
        rows = torch.cat([rotated(*some) for some in columns], dim=1)
        return torch.cat([torch.view_as_real(rows).flatten(1).T, self.jacobian[2 * len(now) :]])


class CycleIteration(FaceByFace):
    def __init__(self, options: CycleSearch, problem: Problem, vectors: Tensor) -> None:
        super().__init__(problem, vectors)
        if not isinstance(problem.objective, Phases):
            raise InputError("cycle search: expected a loss on phases (PhaseObjective)")
        self.options, self.phases = options, problem.objective
        self.begun = self.vectors.clone()
        #: Minima that were tried and left, face by face (S, width).
        self.seen = dict.fromkeys(range(len(self.vectors)), self.vectors[:0])
        self.spread = options.width * problem.space.vector(*tuned.CYCLE_WIDTH)[problem.free]

    def step_face(self, face: int) -> Tensor:
        free, here = self.problem.free, self.vectors[face].clone()
        # All that is tried lies within a millimetre of here.
        phases = self.phases.frozen_at(self.problem.parameters(here[None]), face)
        one, x = OneFace(self.problem, phases, face, here), here[free]
        loss = one.residual(x).square().sum().cpu()
        if self._correct(phases, face, here, loss):
            self.done[face] = True
            return loss
        place = _Place(one, phases, x, *one.linearised(x))
        tried: list[tuple[Tensor, Tensor]] = []
        correct = -1  # which of them, if any
        for start in self._least(place, self._candidates(place)):
            least = min((float(end) for end, _ in tried), default=math.inf)
            tried.append(self._descended(place, start, least))
            if self._correct(phases, face, tried[-1][1], tried[-1][0]):
                correct = len(tried) - 1
                break
        best = min(range(len(tried)), key=lambda n: float(tried[n][0]))
        found, vector = tried[best]
        left = [v for n, (_, v) in enumerate(tried) if n != best]
        if bool(found < loss):
            self.vectors[face] = vector
            # Where a search begins is no minimum.
            left += [here] if self.rounds > 0 else []
        else:
            left.append(vector)
        self.seen[face] = torch.cat([self.seen[face], *(v[None] for v in left)])
        fell = float(found) < (1 - self.options.gain) * float(loss)
        self.done[face] = not fell or best == correct
        return loss

    def _correct(self, phases: Phases, face: int, vector: Tensor, loss: Tensor) -> bool:
        """Whether the residual of a face is at the level predicted for a correct one."""
        return float(loss) < phases.enough(self.problem.parameters(vector[None]), face)

    def _candidates(self, place: _Place) -> list[Tensor]:
        """Vectors (width,) near coherent minima that have not been left yet, best first."""
        face, free = place.face.face, self.problem.free
        middle = (self.begun[face] - place.face.vector)[free]
        samples = place.samples(place.residual)
        counts = place.phases.sample_counts(face)
        model = CoherenceModel(*samples, -place.derivatives.T, self.spread, middle, counts)
        name = f"fitting/ambiguity/{self.options.seed}"
        stream = torch_stream(face, name, self.rounds)
        size = self.options.samples, len(free)
        moves = middle + torch.randn(size, generator=stream, dtype=torch.float64) * self.spread
        moves[0] = 0.0
        moves, coherence = model.climb(moves)
        # Other minima that were visited are not tried again; the present one may be continued.
        left = (self.seen[face] - place.face.vector)[:, free]
        left = left[model.coherence(left, torch.zeros_like(moves[:1]))[:, 0] < tuned.SAME_MINIMUM]
        order = coherence.argsort(descending=True)
        order = order[coherence[order] > coherence.max() - self.options.margin]
        best, rest = moves[:1], moves[order]
        rest = rest[(model.coherence(left, rest) < tuned.SAME_MINIMUM).all(0)]
        taken: list[Tensor] = []
        while len(rest) > 0 and len(taken) < self.options.rendered:
            taken.append(rest[0])
            rest = rest[model.coherence(rest[:1], rest)[0] < tuned.SAME_MINIMUM]
        here = place.face.vector
        return [self.problem.inside(here.index_add(0, free, move)) for move in taken or best]

    def _least(self, place: _Place, vectors: list[Tensor]) -> list[Tensor]:
        """The few (width,) of least loss. Coherence predicts some phases wrongly and knows nothing
        of amplitudes: one rendering shows both, before a descent does."""
        if len(vectors) <= self.options.tried:
            return vectors
        parameters, here = self.problem.parameters, place.face.vector[None]
        moved = parameters(torch.stack(vectors))
        rows = place.phases.jacobian(parameters(here), moved, place.face.face)[1:]
        order = rows.double().square().sum(1).argsort().tolist()
        return [vectors[n] for n in order[: self.options.tried]]

    def _descended(self, place: _Place, start: Tensor, least: float) -> tuple[Tensor, Tensor]:
        """Loss and vector after a few steps of descent from ``start``; ``least`` is the best loss
        so far."""
        options, one = self.options, place.face
        x = start[self.problem.free]
        residual = one.residual(x)
        # The rotated Jacobian counts as an updated one.
        known = Known(residual, place.rotated(residual), 1)
        descent = Damped(options.descent, one, x, options.descent.damping, known)
        before = math.inf
        for _ in range(options.steps):
            loss = float(descent.step())  # before the step
            if descent.done or (loss > options.hopeless * least and loss > 0.5 * before):
                break
            before = loss
        vector, judge = one.whole(descent.x), descent.local
        if self.phases.double_bounce:
            # A minimum is judged by its own double bounce, not by that of the face nearby.
            end = self.problem.parameters(vector[None])
            judge = replace(one, objective=self.phases.frozen_at(end, one.face))
        return judge.residual(descent.x).square().sum().cpu(), vector

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "begun": self.begun.clone(),
            "seen": {b: rows.clone() for b, rows in self.seen.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.begun, self.seen = state["begun"], dict(state["seen"])


def rotated(derivatives: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """(K, M) derivatives of a face ``now`` (M,), from those of a face ``before`` nearby.

    The derivatives rotate in phase with the samples (Eq. (P6.4)). Both faces have the gain that
    brings them closest to a target: so the component of a derivative along the face does not count,
    and the effect of the rest on the gain is neglected (variable projection after Kaufman 1975).
    """
    factor = torch.sgn(now * before.conj()) * (now.norm() / before.norm())
    return _across(_across(derivatives, before) * factor, now)


def _across(rows: Tensor, face: Tensor) -> Tensor:
    """The component of rows (K, M), complex, perpendicular to a face (M,)."""
    return rows - (rows @ face.conj())[:, None] * (face / face.abs().square().sum())
