"""What every objective of a fit offers.

An objective turns parameters of B faces into residuals (B, M); the loss of a face is their sum of
squares. Residuals rather than the loss alone, because Gauss-Newton methods and the covariance of
the result need them.
"""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from radarbook.faces.parameters import FaceParameters


class Objective(Protocol):
    """Residuals of parameters; the target is the objective's own."""

    @property
    def faces(self) -> int:
        """Faces in the target."""
        ...

    @property
    def priors(self) -> int:
        """Residuals at the end of each row that are a prior on the parameters, not data."""
        ...

    @property
    def noise(self) -> float:
        """Root mean square that a row of residuals would have for the correct face."""
        ...

    @property
    def one_thread(self) -> bool:
        """Whether each of its operations is fastest on one thread; large networks use more."""
        ...

    def residuals(self, parameters: FaceParameters) -> Tensor:
        """(B, M), face b against target b; differentiable where the renderer is."""
        ...

    def jacobian(self, parameters: FaceParameters, moved: FaceParameters, face: int) -> Tensor:
        """(1 + P, M): residuals of one face and of P versions of it, moved a little."""
        ...

    def frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        """The same for versions of one face within a millimetre or so of ``parameters`` (1), with
        visibility and subdivision frozen: smooth, and in less time. Itself where that makes no
        difference."""
        ...


@runtime_checkable
class Phases(Objective, Protocol):
    """An objective on the phases of one or several recordings, which can judge a face."""

    @property
    def prior(self) -> float:
        """Weight of the prior against the normalised residual power."""
        ...

    @property
    def prior_follows(self) -> bool:
        """Whether the prior, which losses include, follows the residual."""
        ...

    @property
    def double_bounce(self) -> bool:
        """Whether reflections after the first are still to be subtracted from the targets."""
        ...

    def diffuse_share(self, parameters: FaceParameters) -> Tensor:
        """(B,) normalised residual power that a correct face leaves without noise."""
        ...

    def power_maps(self, parameters: FaceParameters) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each face the power (V,) of residual, face and predicted diffuse reflection."""
        ...

    def coherence(self, one: FaceParameters, other: FaceParameters) -> Tensor:
        """(B,) 0 to 1: coherence of two faces."""
        ...

    def enough(self, parameters: FaceParameters, face: int) -> float:
        """Loss below which a search among minima ends; 0 where nothing decides."""
        ...

    def target_samples(self, face: int) -> Tensor:
        """(M,) complex; residuals are these less the face, real and imaginary parts side by
        side."""
        ...

    def sample_counts(self, face: int) -> tuple[int, ...]:
        """Samples of each recording, in their order; those of one share a complex gain."""
        ...
