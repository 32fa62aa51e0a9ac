"""Unknown complex gains of an array's antennas, removed from what a fit compares.

A recording of a face with the signal S has the samples

    S̃[r, t, f] = ξ (1 + ξ_r)(1 + ξ_t) S[r, t, f] + noise,                                Eq. (P6.13)

with a common gain ξ and small deviations ξ_r, ξ_t of receivers and transmitters: one complex number
each, whose parts have the standard deviation σ of :class:`ChannelErrors`. To first order the
deviations add Y ξ to the weighted range profiles, where each column of Y is what one antenna alone
contributes and the vector ξ holds all ξ_r and ξ_t. For a fixed Y the loss that is least over them,

    min |r - Y ξ|² + μ |ξ|² = |W r|²,    W = 1 - U (1 - √(μ / (ς² + μ))) Uᴴ,             Eq. (P6.14)

is the power of the residuals r after a linear map. U and ς are the left singular vectors and
singular values of Y, and μ is the variance of one independent residual over σ². So the deviations
are no parameters of the fit: target and face pass through W, and steps, searches and deviations
hold with them unknown. Y has no component along the face itself, whose gain is ξ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.fitting import tuned
from radarbook.radar.channel_errors import ChannelErrors

#: Fixed-point steps for the variance of a residual after the gains' removal.
_ROUNDS = 6


@dataclass(frozen=True, eq=False, kw_only=True)
class ChannelGains:
    """The map W of Eq. (P6.14) about one face.

    Attributes
    ----------
    basis : Tensor (M, N) complex64
        U: orthonormal columns.
    removed : Tensor (N,)
        1 - √(μ / (ς² + μ)), 0 to 1.
    deviations : Tensor (R + T,) complex128
        The most probable ξ_r, then ξ_t, about the face.
    receivers : int
        R.
    """

    basis: Tensor
    removed: Tensor
    deviations: Tensor
    receivers: int

    def without(self, profiles: Tensor) -> Tensor:
        """W r of weighted range profiles ([B,] f, V)."""
        rows = profiles.flatten(-2)
        along = rows @ self.basis.conj()
        return profiles - ((along * self.removed) @ self.basis.T).reshape(profiles.shape)

    @property
    def of_receivers(self) -> Tensor:
        """(R,) complex: ξ_r."""
        return self.deviations[: self.receivers]

    @property
    def of_transmitters(self) -> Tensor:
        """(T,) complex: ξ_t."""
        return self.deviations[self.receivers :]


@torch.no_grad()
def channel_gains(
    parts: tuple[Tensor, Tensor],
    mine: Tensor,
    wanted: Tensor,
    errors: ChannelErrors,
    independent: float = tuned.INDEPENDENT,
) -> ChannelGains:
    """Gains of antennas, from weighted range profiles.

    Parameters
    ----------
    parts : (Tensor (f, V, R), Tensor (f, V, T)) complex
        What each receiver and each transmitter alone contributes to ``mine``
        (:meth:`~radarbook.fitting.focus.RangeFocus.by_antenna`).
    mine, wanted : Tensor (f, V) complex
        Of the face, and of the recording.
    errors : ChannelErrors
        The prior.
    independent : float
        Number of independent residuals: v is the residual power over it.

    Examples
    --------
    Two receivers, one transmitter, one frequency and two pixels; the first receiver has 1.02.

    >>> receivers = torch.tensor([[[1.0 + 0j, 0.0], [0.0, 1.0]]])
    >>> mine = receivers.sum(-1)
    >>> wanted = torch.tensor([[1.02 + 0j, 1.0]])
    >>> found = channel_gains((receivers, mine[..., None]), mine, wanted, ChannelErrors())
    >>> [round(float(v), 3) for v in found.of_receivers.real]
    [0.01, -0.01]
    """
    receivers = parts[0].shape[-1]
    columns = torch.cat([part.flatten(0, 1) for part in parts], dim=1)
    face, target = mine.flatten(), wanted.flatten()
    power = face.abs().square().sum().clamp(min=1e-30)
    gain = (face.conj() @ target) / power
    columns = gain * (columns - torch.outer(face, (face.conj() @ columns) / power))
    values, vectors = torch.linalg.eigh((columns.mH @ columns).to(torch.complex128).cpu())
    # The common gain of all receivers, and that of all transmitters, are no columns.
    kept = values > 1e-6 * values.max().clamp(min=1e-30)
    values, vectors = values[kept], vectors[:, kept]
    basis = columns @ (vectors / values.sqrt()).to(columns)
    along = (basis.mH @ target).to(torch.complex128).cpu()
    loss = float((target - gain * face).abs().square().sum())
    found, strength = along.abs().square(), 0.0
    left = loss
    for _ in range(_ROUNDS):
        left = max(left, tuned.RESIDUAL_FLOOR * float(target.abs().square().sum()))
        strength = left / independent / errors.deviation**2
        left = loss - float((found * values / (values + strength)).sum())
    deviations = vectors @ (values.sqrt() / (values + strength) * along)
    removed = 1 - (strength / (values + strength)).sqrt()
    return ChannelGains(
        basis=basis,
        removed=removed.to(basis.device, basis.real.dtype),
        deviations=deviations,
        receivers=receivers,
    )
