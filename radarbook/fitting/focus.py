"""Range profiles of pixels: what a fit compares of two signals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radarbook.fitting.forward import ReducedPhysics
from radarbook.radar.skeleton import unit


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
        self._tables = []
        wavenumbers = physics.waveform.wavenumbers.to(points.device)
        for antennas in (physics.array.tx, physics.array.rx):
            distance = torch.cdist(
                points.double(),
                antennas.detach().to(points.device),
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            phase = torch.remainder(wavenumbers[:, None, None] * distance, 2 * math.pi)
            self._tables.append(unit(phase.float()))
        #: Phase of the lag per metre behind a pixel's point, radians.
        self.phase_per_metre = 2 * float(physics.waveform.wavenumbers.diff().mean())

    def lattice(self, columns: int) -> Tensor:
        """(H, W, 3) the points, where they were given row by row with so many columns."""
        return self.points.reshape(-1, columns, 3)

    def profiles(self, signal: Tensor) -> Tensor:
        """([B,] f, V) complex64 of signals ([B,] rx, tx, f)."""
        tx, rx = self._tables
        return ((rx @ signal.movedim(-1, -3)) * tx).sum(-1)

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
