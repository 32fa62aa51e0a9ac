"""Several frames of one person: one shape in all of them, expression and pose in each.

A frame's residuals depend on the shape α, which all frames share, and on what is its own,
p_i: expression, position, orientation and antenna size. The loss is

    ℒ = Σ_i w_i (|r_i(α, p_i)|² + prior of p_i) + prior of α,                         Eq. (P7.2)

with the prior of the shape counted once, and weights w_i that are inverse to the residuals that
the frames' own fits left, of mean 1. The Jacobian has an arrow's shape: a frame is differentiated
by α and its own p_i alone, so n frames cost n times one frame, not n² times. With the blocks A_i,
B_i, D_i of a frame's normal equations M and its gradients a_i, d_i, the step of the shape solves

    (Σ_i A_i - B_i D_i⁻¹ B_iᵀ) δ_α = -Σ_i (a_i - B_i D_i⁻¹ d_i),                      Eq. (P7.3)

and that of a frame is δ_i = -D_i⁻¹ (d_i + B_iᵀ δ_α): memory and time are linear in n, too. (The
book writes Mᵅᵅ, Mᵅᵖ, Mᵖᵖ, ∇ᵅ and ∇ᵖ for A, B, D, a and d.)

A frame's own fit may have ended in a wrong minimum, with the shape α_i. Near it its loss rises by

    (α - α_i)ᵀ (A_i - B_i D_i⁻¹ B_iᵀ) (α - α_i)                                       Eq. (P7.4)

for another shape α. Frames agree if the loss of each rises little for the shape of one of them. The
others are fitted again with the shape of those that agree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from radarbook.datasets.recordings import Recording
from radarbook.errors import InputError
from radarbook.faces.mesh import write_mesh
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters, PoseRange
from radarbook.fitting import tuned
from radarbook.fitting.acceptance import Verdict, judge
from radarbook.fitting.methods import Problem
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.objectives import PhaseObjective
from radarbook.fitting.plan import final_objective
from radarbook.fitting.reconstruct import physical_renderer, reconstruct_through_physics
from radarbook.fitting.schedule import REFINE
from radarbook.fitting.space import UNKNOWN, ParameterSpace
from radarbook.fitting.uncertainty import Information, Uncertainty, information
from radarbook.progress import Progress
from radarbook.threads import alone

#: Unknowns of phases: the material is none.
_FREE = tuple(name for name in UNKNOWN if name != "material")


@dataclass(frozen=True, eq=False)
class Arrow:
    """Normal equations of frames: Hessians (S + Q, S + Q) and gradients (S + Q,) of each, its own Q
    columns last, and the prior's precision (S,) of the shape.

    Examples
    --------
    Two frames of one shape column and one own column each, against the dense system.

    >>> blocks = [torch.tensor([[2.0, 0.5], [0.5, 1.0]]), torch.tensor([[1.0, 0.2], [0.2, 3.0]])]
    >>> arrow = Arrow(blocks, [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])], torch.ones(1))
    >>> shape, own = arrow.solved(torch.zeros(1))
    >>> dense = torch.tensor([[4.0, 0.5, 0.2], [0.5, 1.0, 0.0], [0.2, 0.0, 3.0]])
    >>> wanted = -torch.linalg.solve(dense, torch.tensor([1.0, 0.0, 1.0]))
    >>> torch.allclose(torch.cat([shape, *own]), wanted)
    True
    """

    hessians: Sequence[Tensor]
    gradients: Sequence[Tensor]
    precision: Tensor

    def solved(self, shape: Tensor, damping: float = 0.0) -> tuple[Tensor, list[Tensor]]:
        """Step of the shape (S,), now at ``shape``, and of each frame's own columns; ``damping``
        times the diagonal is added to it."""
        width = len(self.precision)
        total = torch.diag(self.precision)
        right = self.precision * shape
        parts = []
        diagonal = self.precision.clone()
        for hessian, gradient in zip(self.hessians, self.gradients, strict=True):
            diagonal = diagonal + hessian.diagonal()[:width]
            own = hessian[width:, width:]
            own = own + torch.diag(damping * own.diagonal() + 1e-12 * own.diagonal().max())
            cross = hessian[:width, width:]
            inner = torch.linalg.solve(own, torch.cat([cross.T, gradient[width:, None]], dim=1))
            total = total + hessian[:width, :width] - cross @ inner[:, :-1]
            right = right + gradient[:width] - cross @ inner[:, -1]
            parts.append(inner)
        step = -torch.linalg.solve(total + torch.diag(damping * diagonal), right)
        return step, [-(inner[:, -1] + inner[:, :-1] @ step) for inner in parts]


@dataclass(frozen=True, eq=False)
class _Frame:
    """One recording: its objective, its part of the recording, and its weight."""

    problem: Problem
    part: Tensor
    weight: float
    shapes: int

    def rows(self, rows: Tensor) -> Tensor:
        """Rows without those of the shape's prior, which is counted once, weighted."""
        assert isinstance(self.problem.objective, PhaseObjective)
        data = len(rows) - self.problem.objective.priors
        kept = torch.cat([rows[:data], rows[data + self.shapes :]])
        return self.weight**0.5 * kept


@dataclass(frozen=True)
class FramesReconstruction:
    """Result of :func:`reconstruct_frames`.

    Attributes
    ----------
    model : MorphableModel
    parameters : FaceParameters
        One face per frame (K), all of one shape.
    verdicts : tuple of Verdict
        Of each frame.
    uncertainties : tuple of Uncertainty
        Of each frame's face in the joint fit; empty if not asked for, and where the prior follows
        the residual.
    joined : tuple of bool
        Frames whose own fits agreed on the shape; the others were fitted again.
    alone : FaceParameters
        The faces (K) that the frames' own fits found.
    seconds : float
        Of the joint fit.
    steps : int
    """

    model: MorphableModel
    parameters: FaceParameters
    verdicts: tuple[Verdict, ...]
    uncertainties: tuple[Uncertainty, ...]
    joined: tuple[bool, ...]
    alone: FaceParameters
    seconds: float
    steps: int

    def __len__(self) -> int:
        return len(self.verdicts)

    @property
    def accepted(self) -> tuple[bool, ...]:
        """Of each frame."""
        return tuple(verdict.accepted for verdict in self.verdicts)

    def vertices(self) -> Tensor:
        """(K, N, 3) mm, model frame, without pose."""
        p = self.parameters
        return self.model.vertices(p.shape.float(), p.expression.float())

    def identity(self) -> Tensor:
        """(N, 3) mm: the face without expression."""
        p = self.parameters[:1]
        return self.model.vertices(p.shape.float(), torch.zeros_like(p.expression).float())[0]

    def save(self, folder: str | os.PathLike[str], names: Sequence[str] | None = None) -> None:
        """Write the mesh of each frame, and ``identity.ply``, into a folder (mm, model frame)."""
        names = names or [f"frame{n + 1:03d}" for n in range(len(self))]
        for name, vertices in zip(
            [*names, "identity"], [*self.vertices(), self.identity()], strict=True
        ):
            write_mesh(Path(folder) / f"{name}.ply", vertices, self.model.triangles)

    def __str__(self) -> str:
        lines = [
            f"{len(self)} frames of one shape, {sum(self.accepted)} accepted; "
            f"{sum(self.joined)} agreed on it before; "
            f"{self.steps} joint steps in {self.seconds:.0f} s"
        ]
        for n, verdict in enumerate(self.verdicts):
            line = f"frame {n + 1}: {verdict}"
            if self.uncertainties:
                mean = float(self.uncertainties[n].vertex_deviation(self.model).mean())
                line += f"; stated deviation of a vertex {mean:.2f} mm on average"
            lines.append(line)
        return "\n".join(lines)


@alone()
def reconstruct_frames(
    recordings: Sequence[Recording],
    model: MorphableModel,
    starts: FaceParameters,
    *,
    distance: float = 0.30,
    noise: float = 0.0,
    bounces: int = tuned.BOUNCES,
    pose_range: PoseRange = VISIBLE_POSE,
    steps: int = tuned.FRAME_STEPS,
    deviations: bool = True,
    progress: bool = False,
) -> FramesReconstruction:
    """Fit several frames of one person together: one shape, and expression and pose of each.

    Parameters
    ----------
    recordings : sequence of Recording
        One per frame.
    model : MorphableModel
    starts : FaceParameters (K)
        What the frames' own fits found (:func:`~radarbook.fitting.reconstruction.reconstruct`).
        Frames in a wrong minimum are fitted again, with the shape of those that agree.
    distance, noise, bounces, pose_range
        As in :func:`~radarbook.fitting.reconstruction.reconstruct`.
    steps : int
        Damped Gauss-Newton steps, at most.
    deviations : bool
        Whether to compute the uncertainty of each frame's face.
    progress : bool

    Speckle and noise are taken to be independent between frames. Errors of the radar's channels are
    not, if it is the same radar: they do not average out, and the stated deviations do not contain
    this.

    Raises :class:`~radarbook.errors.InputError` for less than two frames, or for other numbers of
    starts than of recordings.

    Examples
    --------
    Two frames of a face, whose own fits found its shape with errors of either sign.

    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> model = renderer.model.truncated(2, 1)
    >>> renderer = renderer.replace(model=model)
    >>> faces = rb.random_parameters([0, 1], 0, 2, 1)
    >>> faces = faces.replace(shape=faces.shape[:1].expand(2, -1))
    >>> recordings = [
    ...     rb.Recording(signal, renderer.array, renderer.waveform)
    ...     for signal in renderer.signal(faces)
    ... ]
    >>> starts = faces.replace(shape=faces.shape + torch.tensor([[0.02], [-0.02]]))
    >>> found = rb.reconstruct_frames(
    ...     recordings, model, starts, bounces=1, steps=0, deviations=False
    ... )
    >>> bool((found.parameters.shape[0] == found.parameters.shape[1]).all())
    True
    """
    if len(recordings) < 2 or len(starts) != len(recordings):
        raise InputError(
            "frames: expected at least two, each with a start, found "
            f"{len(recordings)} recordings and {len(starts)} starts"
        )
    began = time.perf_counter()
    start = starts.detach().to(dtype=torch.float64).clamped(pose_range)
    vectors = start.normalised()
    space = ParameterSpace.of(start, pose_range)
    frames = _frames(recordings, model, vectors, space, distance, bounces)
    arrow = _linearised(frames, list(vectors))[0]
    joined = agreeing(arrow, vectors[:, frames[0].problem.free])
    shape, _ = _start(frames, vectors, arrow, joined)
    for n in range(len(frames)):
        if not joined[n]:
            vectors[n] = _again(recordings[n], model, vectors[n], shape, space, distance, bounces)
    if not all(joined):
        arrow = _linearised(frames, list(vectors))[0]
    shape, own = _start(frames, vectors, arrow, [True] * len(frames))
    taken = 0
    with Progress(steps, "frames", "step", shown=progress) as bar:
        shape, own, taken = _descend(frames, vectors, shape, own, steps, bar)
    rows = torch.stack(
        [_whole(f, v, shape, o) for f, v, o in zip(frames, vectors, own, strict=True)]
    )
    found = space.faces_inside(rows)
    verdicts = tuple(
        judge(frame.problem.objective, found[n], noise=noise, pose_range=pose_range)[0]  # type: ignore[arg-type]
        for n, frame in enumerate(frames)
    )
    return FramesReconstruction(
        model,
        found.to(dtype=starts.shape.dtype),
        verdicts,
        tuple(_uncertainties(frames, rows)) if deviations else (),
        tuple(joined),
        starts,
        time.perf_counter() - began,
        taken,
    )


def _frames(
    recordings: Sequence[Recording],
    model: MorphableModel,
    vectors: Tensor,
    space: ParameterSpace,
    distance: float,
    bounces: int,
) -> list[_Frame]:
    frames, losses = [], []
    for recording, vector in zip(recordings, vectors, strict=True):
        renderer = physical_renderer(
            model, recording.array, recording.waveform, distance, bounces=bounces
        )
        whole = recording.signal[None]
        objective = final_objective(whole, renderer)
        assert isinstance(objective, PhaseObjective)
        problem = Problem(objective=objective, space=space, free=space.columns(_FREE))
        frames.append(_Frame(problem, objective.recorded(whole), 1.0, space.n_shape))
        with torch.no_grad():
            losses.append(float(problem.losses(vector[None])))
    inverse = torch.tensor(losses, dtype=torch.float64).reciprocal()
    weights = (inverse / inverse.mean()).tolist()
    return [replace(frame, weight=weight) for frame, weight in zip(frames, weights, strict=True)]


def _whole(frame: _Frame, vector: Tensor, shape: Tensor, own: Tensor) -> Tensor:
    """(width,) the vector of a frame with this shape and these own columns, inside the bounds."""
    face = OneFace.of(frame.problem, 0, vector)
    return face.whole(face.inside(torch.cat([shape, own])))


def _precision(frames: Sequence[_Frame]) -> Tensor:
    """(S,) of the shape's prior, counted once: the mean of the frames' own."""
    each = []
    for frame in frames:
        assert isinstance(frame.problem.objective, PhaseObjective)
        each.append(frame.problem.objective.prior / frame.problem.objective.priors)
    return torch.full((frames[0].shapes,), sum(each) / len(each), dtype=torch.float64)


def _linearised(
    frames: Sequence[_Frame], rows: Sequence[Tensor]
) -> tuple[Arrow, list[OneFace], Tensor]:
    """Normal equations at the vectors of the frames, what trial steps take, and the loss."""
    hessians, gradients, local, loss = [], [], [], torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for frame, vector in zip(frames, rows, strict=True):
            x = vector[frame.problem.free]
            face = OneFace.of(frame.problem, 0, vector).local(x)
            residual, jacobian = face.linearised(x)
            residual = frame.rows(residual)
            jacobian = frame.rows(jacobian)
            hessians.append((jacobian.T @ jacobian).cpu())
            gradients.append((jacobian.T @ residual).cpu())
            loss = loss + residual.square().sum().cpu()
            local.append(face)
    return Arrow(hessians, gradients, _precision(frames)), local, loss


def agreeing(arrow: Arrow, minima: Tensor) -> list[bool]:
    """Which frames agree on a shape, by Eq. (P7.4); minima (K, S + Q), each frame's own.

    The shape of the frame for which the losses of all rise least, each by no more than
    :data:`~radarbook.fitting.tuned.FRAMES_AGREE`, decides.

    Examples
    --------
    >>> arrow = Arrow([torch.eye(2)] * 3, [torch.zeros(2)] * 3, torch.ones(1))
    >>> agreeing(arrow, torch.tensor([[0.1, 0.0], [0.9, 0.0], [0.12, 0.3]]))
    [True, False, True]
    """
    width = len(arrow.precision)
    shapes = minima[:, :width]
    rises = []
    for hessian, mine in zip(arrow.hessians, shapes, strict=True):
        cross, own = hessian[:width, width:], hessian[width:, width:]
        known = hessian[:width, :width] - cross @ torch.linalg.solve(own, cross.T)
        off = shapes - mine
        rises.append(((off @ known) * off).sum(1))
    table = torch.stack(rises)  # of each frame (row) for the shape of each (column)
    best = int(table.clamp(max=tuned.FRAMES_AGREE).sum(0).argmin())
    found: list[bool] = (table[:, best] < tuned.FRAMES_AGREE).tolist()
    return found


def _again(
    recording: Recording,
    model: MorphableModel,
    vector: Tensor,
    shape: Tensor,
    space: ParameterSpace,
    distance: float,
    bounces: int,
) -> Tensor:
    """(width,) of a frame that is fitted again, with a given shape, which stays as it is."""
    begin = torch.cat([shape, vector[len(shape) :]])
    found = reconstruct_through_physics(
        recording.signal,
        recording.array,
        recording.waveform,
        model,
        distance=distance,
        start=space.unpack(begin[None]),
        schedule=REFINE,
        free=tuple(name for name in UNKNOWN if name != "shape"),
        pose_range=space.pose_range,
        renderer=physical_renderer(
            model, recording.array, recording.waveform, distance, bounces=bounces
        ),
    )
    return found.parameters.to(dtype=torch.float64).normalised()[0]


def _start(
    frames: Sequence[_Frame], vectors: Tensor, arrow: Arrow, joined: Sequence[bool]
) -> tuple[Tensor, list[Tensor]]:
    """The shape that the minima of the joined frames state together, and the own columns of all of
    them.

    Each frame is linearised at its minimum, so that Eq. (P7.3) has the mean of the shapes, weighted
    by what each frame knows of them.
    """
    width = frames[0].shapes
    chosen = [n for n, one in enumerate(joined) if one]
    frees = [vectors[n][frames[n].problem.free] for n in chosen]
    # Of moves from the mean shape and from each frame's own columns.
    middle = torch.stack(frees).mean(0)[:width]
    hessians = [arrow.hessians[n] for n in chosen]
    gradients = [
        arrow.gradients[n] + arrow.hessians[n][:, :width] @ (middle - free[:width])
        for n, free in zip(chosen, frees, strict=True)
    ]
    shape, own = Arrow(hessians, gradients, arrow.precision).solved(middle)
    return middle + shape, [free[width:] + o for free, o in zip(frees, own, strict=True)]


def _descend(
    frames: Sequence[_Frame],
    vectors: Tensor,
    shape: Tensor,
    own: list[Tensor],
    steps: int,
    bar: Progress,
) -> tuple[Tensor, list[Tensor], int]:
    """Damped Gauss-Newton steps of all frames; also returns how many were taken."""
    damping, taken = tuned.EXACT_DAMPING, 0
    precision = _precision(frames)
    for _ in range(steps):
        pairs = zip(frames, vectors, own, strict=True)
        rows = [_whole(frame, vector, shape, o) for frame, vector, o in pairs]
        arrow, local, loss = _linearised(frames, rows)
        loss = loss + (precision * shape.square()).sum()
        gain = torch.zeros(())
        for _ in range(tuned.LM_TRIES):
            move, moves = arrow.solved(shape, damping)
            there = [o + m for o, m in zip(own, moves, strict=True)]
            after = (precision * (shape + move).square()).sum()
            with torch.no_grad():
                for frame, face, o in zip(frames, local, there, strict=True):
                    x = face.inside(torch.cat([shape + move, o]))
                    after = after + frame.rows(face.residual(x)).square().sum().cpu()
            gain = loss - after
            if bool(gain > 0):
                shape, own = shape + move, there
                damping = max(damping / tuned.LM_FACTOR, tuned.LM_LEAST_DAMPING)
                taken += 1
                break
            damping = min(damping * tuned.LM_FACTOR, tuned.LM_MOST_DAMPING)
        bar.update()
        bar.note(loss=f"{float(loss) / len(frames):.4g}")
        if float(gain) < tuned.EXACT_GAIN * float(loss):
            break
    return shape, own, taken


def _uncertainties(frames: Sequence[_Frame], rows: Tensor) -> list[Uncertainty]:
    """Of each frame's face: Eq. (P7.1) of the joint loss, whose frames are independent."""
    objectives = [frame.problem.objective for frame in frames]
    if any(isinstance(o, PhaseObjective) and o.prior_follows for o in objectives):
        return []
    known: list[Information] = [
        information(frame.problem, row, frame.part, seed=n)
        for n, (frame, row) in enumerate(zip(frames, rows, strict=True))
    ]
    shapes = frames[0].shapes
    owns = len(known[0].hessian) - shapes
    total = shapes + owns * len(frames)
    hessian, spread = (torch.zeros(total, total, dtype=torch.float64) for _ in range(2))
    precision = torch.zeros(total, dtype=torch.float64)
    places = []
    for n, (frame, one) in enumerate(zip(frames, known, strict=True)):
        first = shapes + n * owns
        place = torch.cat([torch.arange(shapes), torch.arange(first, first + owns)])
        places.append(place)
        grid = place[:, None], place[None, :]
        hessian[grid] += frame.weight * one.hessian
        spread[grid] += frame.weight**2 * one.spread
        precision[place[shapes:]] = frame.weight * one.precision.diagonal()[shapes:]
    precision[:shapes] = _precision(frames)
    inverse = torch.linalg.inv(hessian + torch.diag(precision))
    noise = inverse @ spread @ inverse
    prior = inverse @ torch.diag(precision.square()) @ inverse
    return [
        Uncertainty(frame.problem.free, noise[place][:, place], prior[place][:, place])
        for frame, place in zip(frames, places, strict=True)
    ]
