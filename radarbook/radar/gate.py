"""Range gate: what of a recording comes from a given depth, before frequencies are dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.skeleton import unit
from radarbook.radar.waveform import Waveform


@dataclass(frozen=True)
class RangeGate:
    """Keeps what lies within ``reach`` of the ranges of one point, at fewer frequencies.

    A recording of F frequencies distinguishes ranges over c/2Δf, 1.9 m for the QAR50. Of every
    n-th frequency alone, the unambiguous range is n times shorter, and a wall, a second person or
    noise from beyond it falls onto the face. So the samples at the frequencies that are kept are
    estimated from all of them. Each pair's phase is first referred to the path over ``centre``.
    What is behind that point by a range r then turns with e^{-2jkr}, and with ranges spread evenly
    over ±``reach`` the samples' covariance is

        K(k, k') = sinc(2 (k - k') reach),    sinc x = sin(x) / x.

    Everything else is taken for white, with ``floor`` times that power per sample. The estimate
    of least mean square error at the kept frequencies is K_kept (K + floor · 1)⁻¹ times the
    samples (Wiener filter; Rasmussen and Williams 2006, Eq. 2.25). Frequencies need not be equally
    spaced. Its matrix is real, and the gate is symmetric in range, so that what lies in the gate
    has no mean phase error.

    Attributes
    ----------
    reach : float
        Half of the depth of the gate, m. What a face reflects lies within 0.03 m before and 0.07 m
        behind the centre of its image.
    floor : float
        Power per sample of what is not in the gate, relative to what is. A thousandth changes the
        samples of the gate by 0.2 % and lets 4 % of the amplitude pass from elsewhere, most of it
        from next to the gate and at the ends of the band (128 steps of 10 GHz, every fifteenth
        kept). More would distort the ripple that a layer before the face has over frequency.

    Raises :class:`~radarbook.errors.InputError` for values that are not above 0.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> steps = torch.arange(3, 128, 15)
    >>> signal = torch.randn(94, 94, 128, dtype=torch.complex64)
    >>> gated = RangeGate()(signal, qar50(), qar50_waveform(128), (0.0, 0.0, 0.33), steps)
    >>> tuple(gated.shape), bool(gated.abs().square().mean() < 0.2 * signal.abs().square().mean())
    ((94, 94, 9), True)
    """

    reach: float = 0.08
    floor: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("reach", "floor"):
            if not getattr(self, name) > 0:
                raise InputError(f"range gate {name}: expected > 0, found {getattr(self, name)}")

    def weights(self, waveform: Waveform, steps: Tensor) -> Tensor:
        """(kept, F) float64: the filter, from all frequencies to those of indices ``steps``."""
        k = waveform.wavenumbers.double().cpu()
        covariance = torch.sinc(2 * (k[:, None] - k) * self.reach / math.pi)
        noisy = covariance + self.floor * torch.eye(len(k), dtype=torch.float64)
        return torch.linalg.solve(noisy, covariance[:, steps.cpu()]).T

    def __call__(
        self,
        signal: Tensor,
        array: Array,
        waveform: Waveform,
        centre: Tensor | tuple[float, float, float],
        steps: Tensor | None = None,
    ) -> Tensor:
        """Samples of the gate alone.

        Parameters
        ----------
        signal : Tensor (..., rx, tx, f) or, of an array with pairs, (..., pair, f), complex
        array, waveform
            Of the signal.
        centre : Tensor (3,) or three floats
            The point whose ranges the gate is about, m, radar frame.
        steps : Tensor (kept,), int64, optional
            Indices of the frequencies to keep; None keeps all of them.

        Returns a Tensor (..., rx, tx, kept) or (..., pair, kept) of the signal's dtype. Linear in
        the signal, and differentiable with respect to it.
        """
        steps = torch.arange(len(waveform)) if steps is None else steps
        device = signal.device
        point = torch.as_tensor(centre, dtype=torch.float64, device="cpu")
        legs = [
            torch.linalg.vector_norm(antennas.detach().cpu() - point, dim=1)
            for antennas in (array.rx, array.tx)
        ]
        k = waveform.wavenumbers.double().cpu()
        # Phases of the path over the centre, from float64 lengths: (rx, f) and (tx, f).
        rx, tx = (unit(torch.remainder(leg[:, None] * k, 2 * math.pi)) for leg in legs)
        if array.pairs is None:
            path = rx[:, None] * tx
        else:
            path = tx[array.pairs[:, 0].cpu()] * rx[array.pairs[:, 1].cpu()]
        path = path.to(device, signal.dtype)
        weights = self.weights(waveform, steps).to(device, signal.dtype)
        return ((signal * path) @ weights.T) * path[..., steps.to(device)].conj()
