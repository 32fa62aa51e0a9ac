"""Acceptance of a fitted face: does its material predict the residual of the recording?

Three tests do not depend on the agreement of runs: the residual of the whole recording, that of its
highlights, and a common delay that may be left in the recording. The physics page states how they
work and how they were measured (Eq. (P6.8)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy.special import chdtri
from torch import Tensor

from radarbook.faces.parameters import (
    COEFFICIENT_BOUND,
    VISIBLE_POSE,
    FaceParameters,
    PoseRange,
)
from radarbook.fitting import tuned
from radarbook.fitting.delay import COLUMN, with_delay
from radarbook.fitting.methods import Problem
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.objectives import Phases
from radarbook.fitting.space import UNKNOWN, ParameterSpace
from radarbook.radar.waveform import C0


@dataclass(frozen=True)
class DelayScore:
    """Evidence from one Gauss-Newton step for a delay that was left in one recording or in all.

    Attributes
    ----------
    delay : float
        The delay after the step, s. The step is linear: its sign is right, its size is not.
    score : float
        Decrease of the loss by the step, in units of its decrease by a parameter without effect.
        Without a delay it has approximately a χ² distribution with one degree of freedom.
    recording : int, optional
        Which recording of a joint fit the delay is in, from 0; None: all of them.
    """

    delay: float
    score: float
    recording: int | None = None

    @property
    def noticed(self) -> bool:
        return self.score > tuned.DELAY_SCORE


@dataclass(frozen=True)
class Verdict:
    """Whether one fitted face is accepted, and why; its ``str`` states both in one line.

    Attributes
    ----------
    residual : float
        Normalised residual power, 0 to 1: the share of the recording's weighted power that the face
        does not explain, ℒ of Eq. (P6.3).
    diffuse : float
        The part of it that the fitted material predicts: its diffuse share.
    highlight_residual, highlight_diffuse : float
        The same two of the highlights alone: normalised by the power of those pixels.
    noise : float
        Stated normalised power of the recording's noise and channel errors.
    agreed : bool
        Two runs came to this face.
    plausible : bool
        At least one face in a thousand is as far from the mean.
    bounds : tuple of str
        Parameters that ended at a bound of their range, in words.
    pose_at_bound : bool
        Position or orientation is among them.
    delay : DelayScore, optional
        Of a common delay that may be left in the recording.
    unlike : str, optional
        In what the recording's image is not that of a face; nothing was fitted then.
    """

    residual: float
    diffuse: float
    highlight_residual: float = 0.0
    highlight_diffuse: float = 0.0
    noise: float = 0.0
    agreed: bool = False
    plausible: bool = True
    bounds: tuple[str, ...] = ()
    pose_at_bound: bool = False
    delay: DelayScore | None = None
    unlike: str | None = None

    @property
    def predicted(self) -> float:
        """The residual of a correct face of this material."""
        return self.diffuse + (1 - self.diffuse) * self.noise

    @property
    def excess(self) -> float:
        """The residual beyond :attr:`predicted`, as a share of the power that is not predicted to
        remain; below 0 where less is left."""
        return (self.residual - self.predicted) / max(1 - self.predicted, 1e-9)

    @property
    def level_explained(self) -> bool:
        """The residual is no higher than the fitted material and the noise predict."""
        return self.residual <= _allowed(
            self.diffuse, tuned.RESIDUAL_TOLERANCE, self.noise + tuned.RESIDUAL_FLOOR
        )

    @property
    def highlights_explained(self) -> bool:
        """The residual of the highlights is no higher than predicted. A fitted material can absorb
        the residual of a wrong face as a whole, but does not raise the diffuse power there."""
        floor = self.noise + tuned.HIGHLIGHT_FLOOR
        allowed = _allowed(self.highlight_diffuse, tuned.HIGHLIGHT_TOLERANCE, floor)
        return self.highlight_residual <= allowed

    @property
    def phases_fit(self) -> bool:
        """Whether the phases of the recording are those of a face near this one. Where the model
        lacks the face they are not: they then move the fit away from the face that smoothed power
        gives [0036]."""
        return self.excess < tuned.PHASES_FIT

    @property
    def explained(self) -> bool:
        return self.level_explained and self.highlights_explained

    @property
    def accepted(self) -> bool:
        """Whether the residual is explained, the face is plausible and no delay is noticed. In a
        recording with a large diffuse share the residual of a wrong minimum may be as low. Two
        runs must then agree on the face, too."""
        sure = self.diffuse < tuned.LARGEST_DIFFUSE_SHARE or self.agreed
        delayed = self.delay is not None and self.delay.noticed
        return self.unlike is None and self.explained and self.plausible and sure and not delayed

    @property
    def face_found(self) -> bool:
        """False if the recording is probably not of a face: its image has other highlights
        (:mod:`radarbook.fitting.recognise`), the residual is far above the predicted level, or
        position or orientation ended at a bound."""
        if self.accepted:
            return True
        if self.unlike is not None:
            return False
        return self.excess < tuned.NO_FACE and not self.pose_at_bound

    def at(self, parameters: FaceParameters, pose_range: PoseRange = VISIBLE_POSE) -> Verdict:
        """The same with the bounds of another face (1)."""
        bounds = at_bounds(parameters, pose_range)
        return replace(
            self,
            bounds=tuple(words for _, words in bounds),
            pose_at_bound=any(field in ("translation", "rotation") for field, _ in bounds),
        )

    @property
    def power_text(self) -> str:
        text = f"normalised residual power {100 * self.residual:.1f} %"
        source = "the fitted material" + (" and the stated noise" if self.noise else "")
        return f"{text}, predicted from {source} {100 * self.predicted:.1f} %"

    def __str__(self) -> str:
        if self.accepted:
            return f"face accepted: {self.power_text}"
        if self.unlike is not None:
            return f"no face found: {self.unlike}"
        reasons = []
        if not self.level_explained:
            reasons.append("the residual is too high")
        elif not self.highlights_explained:
            found, most = 100 * self.highlight_residual, 100 * self.highlight_diffuse
            reasons.append(
                f"the residual of its highlights is too high, {found:.1f} %, predicted {most:.1f} %"
            )
        if self.explained and self.diffuse >= tuned.LARGEST_DIFFUSE_SHARE and not self.agreed:
            reasons.append("no two runs agree, which so rough a face requires")
        if self.delay is not None and self.delay.noticed:
            size, which = f"about {1e9 * self.delay.delay:+.3f} ns", self.delay.recording
            reasons.append(
                f"a common delay of {size} seems to be left in the recording (fit it with "
                "--fit-delay)"
                if which is None
                else f"a delay of {size} seems to be left in recording {which + 1} alone "
                "(calibrate its array)"
            )
        if not self.plausible:
            reasons.append("fewer than one face in a thousand is so far from the mean")
        if not self.face_found and self.pose_at_bound:
            reasons.append("its pose is at the end of its range")
        begins = "face not accepted" if self.face_found else "no face found"
        return f"{begins}: {'; '.join(reasons)} ({self.power_text})"


def _allowed(diffuse: float, tolerance: float, floor: float) -> float:
    most = min(1.0, diffuse * (1 + tolerance))
    return most + (1 - most) * floor


def plausible(parameters: FaceParameters) -> Tensor:
    """(B,) whether at least one face in a thousand is as far from the mean as these.

    Examples
    --------
    >>> mean = FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> plausible(mean).tolist(), plausible(mean.replace(shape=mean.shape + 2.5)).tolist()
    ([True], [False])
    """
    coefficients = torch.cat([parameters.shape, parameters.expression], dim=1).double().cpu()
    return coefficients.square().sum(1) < float(chdtri(coefficients.shape[1], tuned.RARE))


def at_bounds(
    parameters: FaceParameters, pose_range: PoseRange = VISIBLE_POSE
) -> list[tuple[str, str]]:
    """(field, words) of each parameter of the first face that is at a bound of its range.

    A material at 0 is left out: skin may be smooth.
    """
    vector = parameters.normalised()[0].double().cpu()
    space = ParameterSpace.of(parameters, pose_range)
    found = []
    for field in ("shape", "expression"):
        for i, value in enumerate(vector[list(space.span(field))].tolist()):
            if abs(value) >= COEFFICIENT_BOUND - tuned.AT_BOUND:
                words = f"{field} coefficient {i + 1} ({value:+.0f} standard deviations)"
                found.append((field, words))
    rest = (vector / space.bounds())[space.coefficients :].tolist()
    for i, known in enumerate(_POSE_AND_RENDERING):
        if known is None or abs(rest[i]) < 1 - tuned.AT_BOUND:
            continue
        field, name, text = known
        if name != "material" or rest[i] > 0:
            found.append((field, f"{name} ({text(float(getattr(parameters, field)[0, i % 3]))})"))
    return found


_POSE_AND_RENDERING: tuple[tuple[str, str, Callable[[float], str]] | None, ...] = (
    *(("translation", f"translation {a}", lambda v: f"{1e3 * v:+.0f} mm") for a in "xyz"),
    *(
        ("rotation", name, lambda v: f"{math.degrees(v):+.0f} degrees")
        for name in ("yaw", "pitch", "roll")
    ),
    None,  # the dynamic range, which is no unknown
    ("rendering", "material", lambda v: f"{v:.2f}"),
    ("rendering", "antenna size", lambda v: f"{1e3 * v:.1f} mm"),
)


def residual_power(
    objective: Phases, parameters: FaceParameters, losses: Tensor | None = None
) -> Tensor:
    """(B,) normalised residual power of faces, whose losses (B,) may be known. Losses include the
    prior on the coefficients, which is no residual of the recording."""
    if losses is None:
        with torch.no_grad():
            losses = objective.residuals(parameters).double().square().sum(1)
    coefficients = torch.cat([parameters.shape, parameters.expression], dim=1).to(losses)
    return losses - objective.prior * coefficients.square().mean(1)


def of_highlights(residual: Tensor, coherent: Tensor, diffuse: Tensor) -> tuple[float, float]:
    """Normalised residual power of the highlights, and its prediction by the diffuse power there,
    from power maps (V,) (:meth:`~radarbook.fitting.objectives.Phases.power_maps`)."""
    order = coherent.argsort(descending=True)
    inside = coherent[order].cumsum(0) - coherent[order] < tuned.HIGHLIGHTS * coherent.sum()
    bright = order[inside]
    face = float(coherent[bright].sum())
    found, predicted = float(residual[bright].sum()), float(diffuse[bright].sum())
    return found / max(found + face, 1e-30), predicted / max(predicted + face, 1e-30)


def judge(
    objective: Phases,
    parameters: FaceParameters,
    losses: Tensor | None = None,
    agreed: Tensor | None = None,
    noise: float = 0.0,
    pose_range: PoseRange = VISIBLE_POSE,
) -> list[Verdict]:
    """A verdict for each face (B), from the phases of its whole recording.

    Parameters
    ----------
    objective : Phases
        Of the recordings; that of the last stage of the fit.
    parameters : FaceParameters
    losses : Tensor (B,), optional
        The objective's, if they are known.
    agreed : Tensor (B,) bool, optional
        For which faces two runs agreed.
    noise : float
        Expected normalised power of noise and channel errors.
    pose_range : PoseRange
        The fit's bounds of position and orientation.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> from radarbook.fitting.acceptance import judge
    >>> from radarbook.fitting.plan import final_objective
    >>> objective = final_objective(renderer.signal(face), renderer)
    >>> (verdict,) = judge(objective, face)
    >>> verdict.accepted
    True
    """
    power = residual_power(objective, parameters, losses).cpu().tolist()
    shares = objective.diffuse_share(parameters).double().tolist()
    likely, planes = plausible(parameters).tolist(), objective.power_maps(parameters)
    verdicts = []
    for b, (residual, diffuse, maps) in enumerate(zip(power, shares, planes, strict=True)):
        bounds = at_bounds(parameters[b], pose_range)
        verdicts.append(
            Verdict(
                residual,
                diffuse,
                *of_highlights(*maps),
                noise,
                agreed is not None and bool(agreed[b]),
                likely[b],
                tuple(words for _, words in bounds),
                any(field in ("translation", "rotation") for field, _ in bounds),
            )
        )
    return verdicts


@torch.no_grad()
def delay_score(objective: Phases, parameters: FaceParameters) -> DelayScore:
    """Score of a common delay in the recording of one fitted face; of several recordings, of a
    delay common to all or in one of them alone, whichever is likelier.

    ``objective`` is that of a fit with a delay (:class:`~radarbook.fitting.delay.DelayedPhysics`).
    A delay bends the face and hardly raises the residual: 0.03 ns move the mean face's vertices by
    0.8 mm and raise its residual by a tenth, no more than speckle does. The component of the
    delay's derivative outside the span of the face's Jacobian detects it.
    """
    here = with_delay(parameters.to(dtype=torch.float64), 0.0)
    vector, space = here.normalised(), ParameterSpace.of(here, VISIBLE_POSE)
    names = [name for name in UNKNOWN if name != "material"]
    columns = space.columns([*names, COLUMN])
    problem = Problem(objective=objective, space=space, free=columns)
    face = OneFace.of(problem, 0, vector[0])
    residual, jacobian = (value.cpu() for value in face.linearised(vector[0, columns]))
    delay = columns == space.span(COLUMN).start
    q, _ = torch.linalg.qr(jacobian[:, ~delay])
    rest = residual - q @ (q.T @ residual)
    # At a constant true range: in one recording alone, the face does not move with the delay.
    z = space.span("translation").start + 2
    step = torch.zeros_like(vector)
    step[:, z] = 1e-3
    metres = float((space.unpack(vector + step).translation - here.translation)[0, 2]) / 1e-3
    moved = 0.5 * C0 * tuned.LARGEST_DELAY / metres
    slope = jacobian[:, delay][:, 0] + moved * jacobian[:, columns == z][:, 0]
    loss = float(rest.square().sum())

    def score(of: int | None, rows: slice) -> DelayScore:
        own = torch.zeros_like(slope)
        own[rows] = slope[rows]
        own = own - q @ (q.T @ own)
        along, power = float(own @ rest), float(own.square().sum())
        seconds = -along / power * tuned.LARGEST_DELAY
        return DelayScore(seconds, along**2 / power / (loss / tuned.INDEPENDENT), of)

    scores, first = [score(None, slice(None))], 0
    counts = objective.sample_counts(0)
    for number, count in enumerate(counts if len(counts) > 1 else ()):
        rows = slice(first, first + 2 * count)  # real and imaginary parts
        scores.append(score(number, rows))
        first = rows.stop
    return max(scores, key=lambda one: one.score)


def accepted(
    objective: Phases,
    noise: float,
    parameters: FaceParameters,
    losses: Tensor,
    agreed: Tensor,
) -> Tensor:
    """(B,) whether faces are accepted, as a :class:`~radarbook.fitting.restarts.Plan` asks."""
    # Of a prior that follows the residual, losses do not tell their share.
    known = None if objective.prior_follows else losses
    found = judge(objective, parameters, known, agreed, noise)
    return torch.tensor([verdict.accepted for verdict in found])
