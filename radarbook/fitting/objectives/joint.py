"""One face in the recordings of several arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.objectives.focused import FocusedObjective
from radarbook.fitting.objectives.phase import PhaseObjective, allowed_residual

P = TypeVar("P", bound=FocusedObjective[Any])


def require_same_faces(faces: Sequence[int]) -> None:
    """Raise :class:`~radarbook.errors.InputError` unless all recordings have as many faces."""
    if len(set(faces)) != 1:
        raise InputError(
            "joint fit: expected recordings of the same faces, found "
            f"{' and '.join(map(str, faces))} faces"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class JointObjective(Generic[P]):
    """The residuals of several arrays' recordings of the same faces.

    Each recording has an objective with its own array, pixels and complex gain, so neither the
    phase between the arrays' clocks nor their levels need to be known. The loss is the mean of
    their losses, with the prior counted once:

        ℒ = (1 / n) Σ |rᵢ|² + prior                                                      Eq. (P6.10)

    So every array has the same weight, n recordings of equal content have the loss of one, and a
    loss on phases remains a normalised residual power. Rows are the data of one recording after
    the other, each over √n, and the prior.

    Attributes
    ----------
    parts : tuple of FocusedObjective
        One per recording, all of the same faces, model and prior.

    Raises :class:`~radarbook.errors.InputError` for recordings of different numbers of faces.

    Examples
    --------
    Two recordings of one face, whose gains differ.

    >>> import radarbook as rb
    >>> from radarbook.fitting.decimation import decimate
    >>> from radarbook.fitting.forward import ReducedPhysics
    >>> from radarbook.fitting.objectives import JointPhaseObjective, PhaseObjective
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> side = torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64)
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> parts = []
    >>> for array, gain in ((renderer.array, 1.0), (renderer.array.moved(translation=side), 2j)):
    ...     one = renderer.replace(array=array)
    ...     physics = ReducedPhysics(one, decimate(array, one.waveform))
    ...     centre = array.to_own(torch.tensor([[0.0, 0.0, 0.3]]))
    ...     parts.append(PhaseObjective.of(gain * physics.signal(face), physics, centre))
    >>> objective = JointPhaseObjective(parts=tuple(parts))
    >>> bool(objective.residuals(face).square().sum() < 1e-8)
    True
    """

    one_thread: ClassVar[bool] = True

    parts: tuple[P, ...]

    def __post_init__(self) -> None:
        require_same_faces([part.faces for part in self.parts])

    @property
    def faces(self) -> int:
        return self.parts[0].faces

    @property
    def priors(self) -> int:
        return self.parts[0].priors

    @property
    def prior(self) -> float:
        """Weight of the prior."""
        return self.parts[0].prior

    @property
    def prior_follows(self) -> bool:
        return self.parts[0].prior_follows

    @property
    def noise(self) -> float:
        return self.parts[0].noise

    def residuals(self, parameters: FaceParameters) -> Tensor:
        return self._joined([part.residuals(parameters) for part in self.parts])

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        return self._joined([part.jacobian(parameters, moved, face) for part in self.parts])

    def frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        """As :meth:`FocusedObjective.frozen_at`, for each array."""
        parts = tuple(part.frozen_at(parameters, face) for part in self.parts)
        return replace(self, parts=parts)

    def _joined(self, rows: Sequence[Tensor]) -> Tensor:
        """(B, M) of rows of each recording: their data, and the prior of the first."""
        data = [r[:, : r.shape[1] - self.priors].to(rows[0].device) for r in rows]
        prior = rows[0][:, rows[0].shape[1] - self.priors :]
        return torch.cat([*(d / len(rows) ** 0.5 for d in data), prior], dim=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class JointPhaseObjective(JointObjective[PhaseObjective]):
    """The complex range profiles of several recordings, each with its own complex gain.

    What acceptance and the search among minima ask for follows from the parts: powers and shares
    of them are means over the recordings, maps and samples lie one after the other.
    """

    @property
    def double_bounce(self) -> bool:
        return any(part.double_bounce for part in self.parts)

    @torch.no_grad()
    def diffuse_share(self, parameters: FaceParameters) -> Tensor:
        """(B,) as :meth:`PhaseObjective.diffuse_share`, mean over recordings."""
        return torch.stack([part.diffuse_share(parameters) for part in self.parts]).mean(0)

    @torch.no_grad()
    def power_maps(self, parameters: FaceParameters) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each face the maps of :meth:`PhaseObjective.power_maps` of all recordings, one after
        the other."""
        each = [part.power_maps(parameters) for part in self.parts]
        share = 1 / len(self.parts)
        joined = []
        for maps in zip(*each, strict=True):
            residual, coherent, diffuse = (
                torch.cat([share * m for m in kind]) for kind in zip(*maps, strict=True)
            )
            joined.append((residual, coherent, diffuse))
        return joined

    @torch.no_grad()
    def coherence(self, one: FaceParameters, other: FaceParameters) -> Tensor:
        """(B,) as :meth:`PhaseObjective.coherence`, mean over recordings."""
        return torch.stack([part.coherence(one, other) for part in self.parts]).mean(0)

    @torch.no_grad()
    def enough(self, parameters: FaceParameters, face: int) -> float:
        """As :meth:`PhaseObjective.enough`, for the mean of the diffuse shares."""
        shares = [part.diffuse_share_of(parameters, face) for part in self.parts]
        return allowed_residual(sum(shares) / len(shares))

    def target_samples(self, face: int) -> Tensor:
        """(M,) complex, of all recordings; residuals are these less the face's."""
        scale = len(self.parts) ** 0.5
        return torch.cat([part.target_samples(face) / scale for part in self.parts])

    def sample_counts(self, face: int) -> tuple[int, ...]:
        """How many of the samples are of each recording, which share a complex gain."""
        return tuple(n for part in self.parts for n in part.sample_counts(face))


def joint(parts: Sequence[FocusedObjective[Any]]) -> FocusedObjective[Any] | JointObjective[Any]:
    """One objective of those of several recordings; of a single one, itself."""
    if len(parts) == 1:
        return parts[0]
    phases = tuple(part for part in parts if isinstance(part, PhaseObjective))
    if len(phases) == len(parts):
        return JointPhaseObjective(parts=phases)
    return JointObjective(parts=tuple(parts))
