"""Gates: what of a recording comes from a place, before frequencies and antennas are dropped."""

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
        return _wiener(covariance, self.floor, steps)

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


@dataclass(frozen=True)
class AngleGate:
    """Keeps what lies in a box about one point, at fewer antennas.

    Of every second antenna alone, what is outside the box returns as a ghost inside it: shoulders
    below a face fall onto its forehead. So the samples at the antennas that are kept are estimated
    from all of them, as :class:`RangeGate` does it for frequencies. After the phase is referred to
    the path over ``centre``, a source off it by δ turns with e^{-jk e·δ} from antenna to
    antenna, e the direction from the antenna to ``centre``. With sources spread evenly over the
    box the covariance of two antennas is Π sinc(k Δe_a reach_a) over the three axes.

    Attributes
    ----------
    reach : (float, float, float)
        Half of the sides of the box, m, along x, y and z.
    floor : float
        Power per sample of what is not in the box, relative to what is.

    Raises :class:`~radarbook.errors.InputError` for values that are not above 0.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> signal = torch.randn(94, 94, 9, dtype=torch.complex64)
    >>> kept = torch.arange(0, 94, 2)
    >>> wave = qar50_waveform(9)
    >>> tuple(AngleGate()(signal, qar50(), wave, (0.0, 0.0, 0.33), tx=kept, rx=kept).shape)
    (47, 47, 9)
    """

    reach: tuple[float, float, float] = (0.10, 0.10, 0.05)
    floor: float = 1e-3

    def __post_init__(self) -> None:
        if not (min(self.reach) > 0 and self.floor > 0):
            raise InputError(
                f"angle gate: expected values > 0, found reach {self.reach}, floor {self.floor}"
            )

    def weights(
        self,
        antennas: Tensor,
        kept: Tensor,
        centre: Tensor | tuple[float, float, float],
        waveform: Waveform,
    ) -> Tensor:
        """(f, kept, A) complex128: the filter from antennas (A, 3) m to those of indices ``kept``,
        at each frequency."""
        point = torch.as_tensor(centre, dtype=torch.float64, device="cpu")
        away = point - antennas.detach().cpu().double()
        length = torch.linalg.vector_norm(away, dim=1)
        toward, kept = away / length[:, None], kept.cpu()
        k = waveform.wavenumbers.double().cpu()
        apart = (toward[:, None] - toward) * torch.tensor(self.reach, dtype=torch.float64)
        covariance = torch.sinc(k[:, None, None, None] * apart / math.pi).prod(-1)
        weights = _wiener(covariance, self.floor, kept)
        path = torch.polar(
            torch.ones_like(length), torch.remainder(k[:, None] * length, 2 * math.pi)
        )
        return path[:, kept, None].conj() * weights * path[:, None]

    def __call__(
        self,
        signal: Tensor,
        array: Array,
        waveform: Waveform,
        centre: Tensor | tuple[float, float, float],
        *,
        tx: Tensor,
        rx: Tensor,
    ) -> Tensor:
        """Samples of the box alone.

        Parameters
        ----------
        signal : Tensor (rx, tx, f), complex
        array, waveform
            Of the signal; an array without a list of pairs.
        centre : Tensor (3,) or three floats
            Middle of the box, m, radar frame.
        tx, rx : Tensor (kept,), int64
            Indices of the antennas to keep.

        Returns a Tensor (kept rx, kept tx, f) of the signal's dtype.
        """
        of_rx, of_tx = (
            self.weights(antennas, kept, centre, waveform).to(signal.device, signal.dtype)
            for antennas, kept in ((array.rx, rx), (array.tx, tx))
        )
        return (of_rx @ signal.movedim(-1, 0) @ of_tx.mT).movedim(0, -1)


def _wiener(covariance: Tensor, floor: float, kept: Tensor) -> Tensor:
    """(..., kept, N) float64: the filter that estimates the samples of indices ``kept`` from all N,
    whose covariance is (..., N, N), in white noise of the power ``floor``."""
    noisy = covariance + floor * torch.eye(covariance.shape[-1], dtype=torch.float64)
    return torch.linalg.solve(noisy, covariance[..., kept.cpu()]).mT
