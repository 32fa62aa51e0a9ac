"""Range profiles of pixels: what a fit compares of two signals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radarbook.fitting.forward import ReducedPhysics
from radarbook.radar.skeleton import unit
from radarbook.threads import divide


class RangeFocus:
    """Range profiles of pixels: signals focused at one depth a pixel, frequency by frequency.

    I_f(x, y) = Σ S[rx, tx, f] e^{+jk_f (d_tx + d_rx)} at the point (x, y, depth(x, y)). Within the
    depth of focus, some 2 λ (R/D)² = ±18 mm for the QAR50 at 0.3 m, a scatterer δ behind that point
    multiplies I_f by e^{-2jk_f δ}: the power over f is the power over range (Parseval), and the
    phase from one frequency to the next gives its range.

    Parameters
    ----------
    points : Tensor (V, 3), metres
    """

    def __init__(self, physics: ReducedPhysics, points: Tensor) -> None:
        self.points = points = points.to(physics.device)
        array, wavenumbers = physics.array, physics.waveform.wavenumbers.to(points.device)
        legs = [
            torch.cdist(
                points.double(),
                antennas.detach().to(points.device),
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            for antennas in (array.tx, array.rx)
        ]
        #: Numbers of transmitter and receiver of each pair, of an array that has pairs.
        self._pairs, self._sides = array.pairs, array.replace(pairs=None).channels
        if not array.is_nearly_product:
            tx, rx = array.every_pair().to(points.device).unbind(1)
            legs = [legs[0][:, tx] + legs[1][:, rx]]
        #: Conjugate waves (f, V, T) and (f, V, R), or (f, V, P) of pairs that are few of a product.
        self.tables = [
            unit(torch.remainder(wavenumbers[:, None, None] * leg, 2 * math.pi).float())
            for leg in legs
        ]
        #: Phase of the lag per metre behind a pixel's point, radians.
        self.phase_per_metre = 2 * float(physics.waveform.wavenumbers.diff().mean())

    def lattice(self, columns: int) -> Tensor:
        """(H, W, 3) the points, where they were given row by row with so many columns."""
        return self.points.reshape(-1, columns, 3)

    def profiles(self, signal: Tensor) -> Tensor:
        """([B,] f, V) complex64 of signals ([B,] rx, tx, f), or ([B,] pair, f)."""
        if len(self.tables) == 1:
            return (self.tables[0] @ signal.movedim(-1, -2)[..., None])[..., 0]
        tx, rx = self.tables
        return ((rx @ self._product(signal).movedim(-1, -3)) * tx).sum(-1)

    def _product(self, signal: Tensor) -> Tensor:
        """([B,] rx, tx, f) of signals of all pairs; 0 where there is no pair."""
        if self._pairs is None:
            return signal
        of_tx, of_rx = self._pairs.to(signal.device).unbind(1)
        whole = signal.new_zeros(*signal.shape[:-2], *self._sides, signal.shape[-1])
        whole[..., of_rx, of_tx, :] = signal
        return whole

    def by_antenna(self, signal: Tensor) -> tuple[Tensor, Tensor] | None:
        """(f, V, R) and (f, V, T): what each receiver, and each transmitter, alone contributes to
        :meth:`profiles` of a signal (rx, tx, f) or (pair, f).

        None for an array with pairs that are few of a product: one pair of antennas that moves has
        one gain, whatever the number of its positions.
        """
        if len(self.tables) == 1:
            return None
        tx, rx = self.tables
        each = self._product(signal).movedim(-1, 0)
        return rx * (tx @ each.mT), tx * (rx @ each)

    def each(self, signals: Tensor) -> Tensor:
        """:meth:`profiles` of signals (B, rx, tx, f), one by one: divided among threads, and in
        little memory."""
        return torch.stack(list(divide(lambda b: self.profiles(signals[b]), len(signals))))

    def power_and_lag(self, signal: Tensor) -> Tensor:
        """([B,] 3, V) real: Σ_f |I_f|², and real and imaginary part of Σ_f I_{f+1} conj(I_f).

        Quadratic, so they may be smoothed over pixels.
        """
        return self.lag(self.profiles(signal))

    @staticmethod
    def lag(profile: Tensor) -> Tensor:
        """The same of range profiles ([B,] f, V)."""
        lag = (profile[..., 1:, :] * profile[..., :-1, :].conj()).sum(-2)
        return torch.stack([profile.abs().square().sum(-2), lag.real, lag.imag], dim=-2)

    def range_difference(self, lag: Tensor, reference: Tensor) -> Tensor:
        """Range (m) of a lag (complex) less that of a reference: -angle / 2Δk, unambiguous within
        ±c/4Δf."""
        return -torch.angle(lag * reference.conj()) / self.phase_per_metre
