"""Which cycle? A search among the minima of a loss on phases.

A phase repeats every half wavelength, so a fit by phases has a minimum for each way to count the
cycles of its highlights, and a face that starts half a millimetre off may end in a wrong one. Other
minima are not found by chance, in some twenty dimensions, but they need not be: a highlight's phase
is nearly linear in the parameters, over a cycle or two. With Φ the phases' derivatives and
c = conj(face) target, sample by sample, a face moved by δ is as coherent with the target as

    γ(δ) = |Σ c exp(-i Φ δ)| / Σ |c|,                       (physics page, Eq. (6.4))

which costs no rendering. Its maxima are climbed to from hundreds of starts at once; the few that
are coherent enough are rendered, and the loss decides among them. It is what integer ambiguity
resolution is to satellite navigation (Teunissen 1995): first a real-valued estimate and how far
off it may be, then a search over the cycles that this allows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.fitting.methods import FaceByFace, LevenbergMarquardt
from radarbook.fitting.objectives import PhaseObjective
from radarbook.seeds import torch_stream


class CoherenceModel:
    """γ of Eq. (6.4) about one face, less a weak prior on the move.

    Parameters
    ----------
    face, target : Tensor (M,) complex
        Samples of the face as it is, and of the target; a common factor does not matter.
    jacobian : Tensor (M, K) complex
        Derivatives of ``face``.
    width, middle : Tensor (K,)
        Of the prior: standard deviations, and the move that is likeliest.
    """

    #: Samples whose product is below this share of the largest are left out: their phases are side
    #: lobes'. And what half a squared standard deviation costs, in units of γ.
    LEVEL, PRIOR = 0.05, 2e-4
    STEPS = 40

    def __init__(
        self, face: Tensor, target: Tensor, jacobian: Tensor, width: Tensor, middle: Tensor
    ) -> None:
        product = face.conj() * target
        kept = product.abs() > self.LEVEL * product.abs().max()
        self._angle = product[kept].angle().float()
        self._weight = (product[kept].abs() / product[kept].abs().sum()).float()
        self._slopes = (jacobian[kept] / face[kept, None]).imag.float()
        self._width, self._middle = width.to(self._slopes), middle.to(self._slopes)

    def climb(self, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Moves (B, K) to the maxima above them, and γ less the prior (B,) there.

        Along any line a cosine curves by no more than at its top. So the curvature with all phases
        agreed bounds that of Σ|c| cos(...) everywhere, and Newton steps with this one matrix never
        descend (minorization and maximization, Hunter and Lange 2004).
        """
        strength = self.PRIOR / self._width.square()
        curvature = self._slopes.T @ (self._slopes * self._weight[:, None])
        factor = torch.linalg.cholesky((curvature + torch.diag(strength)).double().cpu())
        inverse = torch.cholesky_inverse(factor).to(curvature)
        moves = moves.to(curvature)
        for _ in range(self.STEPS):
            cosine, sine, sums = self._sums(moves)
            sums = sums / sums.norm(dim=1, keepdim=True).clamp(min=1e-12)
            gradient = (sine * sums[:, :1] - cosine * sums[:, 1:]) @ self._slopes
            gradient = gradient - strength * (moves - self._middle)
            moves = moves + gradient @ inverse
        _, _, sums = self._sums(moves)
        apart = (strength * (moves - self._middle).square()).sum(1)
        return moves.double().cpu(), (sums.norm(dim=1) - 0.5 * apart).double().cpu()

    def alike(self, moves: Tensor, others: Tensor) -> Tensor:
        """(B, O): how coherent faces moved by (B, K) and by (O, K) are, 0 to 1."""
        mine, theirs = (
            torch.polar(torch.ones_like(phase), phase)
            for phase in (m.to(self._slopes) @ self._slopes.T for m in (moves, others))
        )
        return ((mine * self._weight) @ theirs.conj().T).abs().cpu()

    def _sums(self, moves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted cosines and sines (B, M) of the phases that are left, and their sums (B, 2)."""
        phase = self._angle - moves @ self._slopes.T
        cosine, sine = torch.cos(phase) * self._weight, torch.sin(phase) * self._weight
        return cosine, sine, torch.stack([cosine.sum(1), sine.sum(1)], dim=1)


class AmbiguitySearch(FaceByFace):
    """Steps from minimum to minimum of a :class:`~radarbook.fitting.objectives.PhaseObjective`.

    Each step linearises the phases of the best face so far, draws moves about where the fit began,
    climbs to the maxima of their coherence, renders the most coherent of them, and takes from the
    few of least loss some Levenberg-Marquardt steps. Minima that have been seen are not tried
    again. A face is finished when none of them is better, or when its residual is at the level
    predicted for a correct face (:meth:`~radarbook.fitting.objectives.PhaseObjective.enough`).
    ``rate`` multiplies the width of the draws.
    """

    #: Moves drawn, minima rendered and tried a step, and how much less coherent than the best one
    #: may be.
    DRAWS, RENDERED, TRIED, BEHIND = 512, 12, 2, 0.04
    #: Two moves more coherent than this are one minimum.
    SAME = 0.995
    #: Levenberg-Marquardt steps from each, and the share by which the loss must fall.
    STEPS, GAIN = 3, 2e-3
    #: A descent is given up that is at so many times the best loss and has not halved its own.
    HOPELESS = 1.5

    def __init__(self, *problem: Any) -> None:
        super().__init__(*problem)
        if not isinstance(self.objective, PhaseObjective):
            raise InputError("method 'ambiguity': expected a loss on phases (PhaseObjective)")
        self.phases = self.objective
        self.begun = self.vector.clone()
        #: Minima that were tried and left, face by face (S, P).
        self.seen = dict.fromkeys(range(len(self.vector)), self.vector[:0])
        # How far off fits on smoothed power end, normalised: a third of a standard deviation of
        # each coefficient, half a millimetre, and half a degree.
        off = self.space.vector(0.25, 0.4, [0.008] * 3, [0.08] * 3, [0.3] * 3)
        self.width = self.rate * off[self.free]

    def _step_face(self, b: int) -> Tensor:
        here = self.vector[b].clone()
        # All that is tried lies within a millimetre of here.
        near = self.phases.near(self.parameters(here[None]), b)
        descent = self._descent(near)
        loss = descent.residual(b, here).square().sum().cpu()
        if self._right(near, here, loss):
            self.done[b] = True
            return loss
        known = descent.linearised(b, here)
        tried: list[tuple[Tensor, Tensor]] = []
        right = -1  # which of them, if any
        candidates = self._candidates(b, here, self._model(b, here, near, *known))
        for start in self._least(b, here, candidates, near):
            least = min((float(end) for end, _ in tried), default=math.inf)
            tried.append(self._descended(b, start, least, near, known))
            if self._right(near, tried[-1][1], tried[-1][0]):
                right = len(tried) - 1
                break
        best = min(range(len(tried)), key=lambda n: float(tried[n][0]))
        found, vector = tried[best]
        left = [v for n, (_, v) in enumerate(tried) if n != best]
        if bool(found < loss):
            self.vector[b] = vector
            # Where a search begins is no minimum.
            left += [here] if self.rounds > 0 else []
        else:
            left.append(vector)
        self.seen[b] = torch.cat([self.seen[b], *(v[None] for v in left)])
        fell = float(found) < (1 - self.GAIN) * float(loss)
        self.done[b] = not fell or best == right
        return loss

    def _right(self, near: PhaseObjective, vector: Tensor, loss: Tensor) -> bool:
        """Whether the residual of a face is at the level predicted for a correct one."""
        return bool(loss < near.enough(self.parameters(vector[None]))[0])

    def _model(
        self, b: int, vector: Tensor, near: PhaseObjective, residual: Tensor, jacobian: Tensor
    ) -> CoherenceModel:
        """Coherence about a face whose residual (M,) and Jacobian (M, K) are known."""
        face, target = self._samples(b, near, residual)
        columns = jacobian[: 2 * len(face)].T.reshape(len(self.free), -1, 2)
        slopes = -torch.view_as_complex(columns.contiguous()).T
        middle = (self.begun[b] - vector)[self.free]
        return CoherenceModel(face, target, slopes, self.width, middle)

    def _samples(self, b: int, near: PhaseObjective, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Complex samples of a face of this residual, gain and all, and of its target."""
        data = len(residual) - near.priors
        target = near.target(b)
        # The residual is the target less the face.
        return target - torch.view_as_complex(residual[:data].reshape(-1, 2)), target

    def _candidates(self, b: int, here: Tensor, model: CoherenceModel) -> list[Tensor]:
        """Vectors (P,) near coherent minima that have not been left yet, best first."""
        stream = torch_stream(b, f"fitting/ambiguity/{self.seed}", self.rounds)
        draws = torch.randn(self.DRAWS, len(self.free), generator=stream, dtype=torch.float64)
        moves = (self.begun[b] - here)[self.free] + draws * self.width
        moves[0] = 0.0
        moves, coherence = model.climb(moves)
        # Other minima that were seen are not tried again; the present one may be gone on from.
        left = (self.seen[b] - here)[:, self.free]
        left = left[model.alike(left, torch.zeros_like(moves[:1]))[:, 0] < self.SAME]
        order = coherence.argsort(descending=True)
        order = order[coherence[order] > coherence.max() - self.BEHIND]
        best, rest = moves[:1], moves[order]
        rest = rest[(model.alike(left, rest) < self.SAME).all(0)]
        taken: list[Tensor] = []
        while len(rest) > 0 and len(taken) < self.RENDERED:
            taken.append(rest[0])
            rest = rest[model.alike(rest[:1], rest)[0] < self.SAME]
        return [self.inside(here.index_add(0, self.free, move)) for move in taken or best]

    def _least(
        self, b: int, here: Tensor, vectors: list[Tensor], near: PhaseObjective
    ) -> list[Tensor]:
        """The few (P,) of least loss: phases that are foretold wrongly, and amplitudes, of which
        coherence knows nothing, tell before a descent does."""
        if len(vectors) <= self.TRIED:
            return vectors
        moved = self.parameters(torch.stack(vectors))
        rows = near.jacobian(self.parameters(here[None]), moved, b)[1:]
        order = rows.double().square().sum(1).argsort().tolist()
        return [vectors[n] for n in order[: self.TRIED]]

    def _descended(
        self,
        b: int,
        start: Tensor,
        least: float,
        near: PhaseObjective,
        known: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Loss and vector after a few steps of descent from ``start``; ``least`` is the best loss
        that is to be beaten, ``known`` the residual and the Jacobian of the face nearby."""
        descent = self._descent(near)
        # With updates the Jacobian does for all steps, as long as they go as foretold.
        descent.reuse = self.STEPS + 1
        descent.vector[b] = start
        residual = descent.residual(b, start)
        descent.known[b] = residual, self._turned(b, near, residual, *known), 1
        before = math.inf
        for _ in range(self.STEPS):
            loss = float(descent._step_face(b))  # before the step
            if bool(descent.done[b]) or (loss > self.HOPELESS * least and loss > 0.5 * before):
                break
            before = loss
        end = descent.vector[b]
        if self.phases.several:
            # A minimum is judged by its own reflections, not by those of the face nearby.
            descent = self._descent(self.phases.near(self.parameters(end[None]), b))
        return descent.residual(b, end).square().sum().cpu(), end.clone()

    def _turned(
        self, b: int, near: PhaseObjective, there: Tensor, here: Tensor, jacobian: Tensor
    ) -> Tensor:
        """(M, K) the Jacobian of a face of residual ``there``, from that of a face nearby."""
        (now, _), (before, _) = (self._samples(b, near, residual) for residual in (there, here))
        data = 2 * len(now)
        columns = jacobian[:data].T.reshape(len(self.free), -1, 2)
        rows = turned(torch.view_as_complex(columns.contiguous()), before, now)
        return torch.cat([torch.view_as_real(rows).flatten(1).T, jacobian[data:]])

    def _descent(self, near: PhaseObjective) -> LevenbergMarquardt:
        return LevenbergMarquardt(near, self.vector, self.free, self.bounds, self.space)

    def state_dict(self) -> dict[str, Any]:
        return {
            "vector": self.vector.clone(),
            "rounds": self.rounds,
            "begun": self.begun.clone(),
            "seen": {b: rows.clone() for b, rows in self.seen.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.vector, self.done = state["vector"].clone(), state["done"].clone()
        self.rounds, self.begun = state["rounds"], state["begun"].clone()
        self.seen = dict(state["seen"])


def turned(derivatives: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """(K, M) derivatives of a face ``now`` (M,), of those of a face ``before`` nearby.

    Samples turn in phase, and what moves them turns with them (Eq. (6.4)). Both faces have the
    gain that brings them closest to a target: what a parameter does along the face is then of no
    account, and what the rest does to the gain is left out (variable projection as Kaufman 1975 has
    it).
    """
    turn = torch.sgn(now * before.conj()) * (now.norm() / before.norm())
    return _across(_across(derivatives, before) * turn, now)


def _across(rows: Tensor, face: Tensor) -> Tensor:
    """What is not along a face (M,) of rows (K, M), complex."""
    return rows - (rows @ face.conj())[:, None] * (face / face.abs().square().sum())
