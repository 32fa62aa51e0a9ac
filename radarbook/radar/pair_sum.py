"""The sum over antenna pairs and frequencies at points, and its adjoint (book, section 4).

    g(v) = Σ_p Σ_f S[p, f] e^{+j(k_f d_p(v) - φ(v))}
    S[p, f] = Σ_v g(v) e^{-j(k_f d_p(v) - φ(v))}

with d_p = d_tx + d_rx of the pair p and a carrier φ that the caller may take out. On a CPU in
single precision both are loops compiled by Numba: path lengths and phases in float64, brought to
one turn before they become float32. Everywhere else they are torch's operations, in the precision
of the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radarbook.radar import pair_kernels
from radarbook.radar.array import Array
from radarbook.radar.skeleton import CACHE, unit
from radarbook.radar.waveform import Waveform

_TURN = 2 * math.pi
#: Largest part of a step by which frequencies may differ from equal steps, relative to the last.
_EVEN = 1e-9


@dataclass(frozen=True)
class Pairs:
    """Antenna positions of each pair and the wavenumbers of their samples.

    ``tx``, ``rx`` (P, 3) float64 metres; ``wavenumbers`` (F,) float64 rad/m. Pairs in the order in
    which they are computed: neighbours that share an antenna are computed faster.
    """

    tx: Tensor
    rx: Tensor
    wavenumbers: Tensor

    @classmethod
    def of(cls, array: Array, waveform: Waveform, device: torch.device) -> Pairs:
        """All channels of an array, in the order of its signal."""
        tx, rx = array.every_pair().to(array.tx.device).unbind(1)
        return cls(
            array.tx[tx].to(device), array.rx[rx].to(device), waveform.wavenumbers.to(device)
        )

    def __len__(self) -> int:
        return len(self.tx)

    def __getitem__(self, index: slice | Tensor) -> Pairs:
        return Pairs(self.tx[index], self.rx[index], self.wavenumbers)

    def lengths(self, points: Tensor) -> Tensor:
        """(V, P) float64 path lengths by way of points (V, 3)."""
        there, back = (
            (points[:, None] - side).square().sum(-1).sqrt() for side in (self.tx, self.rx)
        )
        return there + back

    def at_points(self, samples: Tensor, points: Tensor, carrier: Tensor | None = None) -> Tensor:
        """g (2, V), real and imaginary part, of samples (P, F) complex at points (V, 3) float64.

        ``carrier`` (V,) float64 is φ in turns; none is 0. By torch differentiable with respect to
        the antenna positions as well as to the samples.
        """
        if compiled(samples):
            out = np.zeros((2, len(points)), dtype=np.float32)
            pair_kernels.at_points(
                points.numpy(), self.tx.numpy(), self.rx.numpy(), *_steps(self.wavenumbers),
                torch.view_as_real(samples.contiguous()).numpy(), _turns(carrier, points), out,
            )  # fmt: skip
            return torch.from_numpy(out)
        turns = carrier if carrier is not None else points.new_zeros(len(points))
        parts = []
        for some in torch.arange(len(points)).split(self._together(samples)):
            path = self.lengths(points[some])
            total = torch.zeros((), dtype=samples.dtype, device=samples.device)
            for f, k in enumerate(self.wavenumbers):
                phase = (k * path - _TURN * turns[some, None]) % _TURN
                total = total + unit(phase.to(samples.dtype.to_real())) @ samples[:, f]
            parts.append(torch.stack([total.real, total.imag]))
        return torch.cat(parts, dim=1)

    def from_points(self, values: Tensor, points: Tensor, carrier: Tensor | None = None) -> Tensor:
        """The adjoint: samples (P, F), complex, of values (2, V) at points (V, 3)."""
        if compiled(values):
            shape = len(self), len(self.wavenumbers), 2
            out = np.zeros(shape, dtype=np.float32)
            pair_kernels.from_points(
                points.T.contiguous().numpy(), self.tx.numpy(), self.rx.numpy(),
                *_steps(self.wavenumbers), values.contiguous().numpy(), _turns(carrier, points),
                out,
            )  # fmt: skip
            return torch.view_as_complex(torch.from_numpy(out))
        turns = carrier if carrier is not None else points.new_zeros(len(points))
        whole = torch.complex(values[0], values[1])
        totals = [torch.zeros((), dtype=whole.dtype, device=whole.device)] * len(self.wavenumbers)
        for some in torch.arange(len(points)).split(self._together(whole)):
            path = self.lengths(points[some])
            for f, k in enumerate(self.wavenumbers):
                phase = (k * path - _TURN * turns[some, None]) % _TURN
                wave = unit(-phase.to(values.dtype))
                totals[f] = totals[f] + wave.transpose(0, 1) @ whole[some]
        return torch.stack(totals, dim=1)

    def _together(self, like: Tensor) -> int:
        """Points at a time that keep torch's intermediate arrays in a cache."""
        return max(1, CACHE // (len(self) * (3 * 8 + 2 * like.itemsize)))


def compiled(values: Tensor) -> bool:
    """Whether these values are computed by the compiled loops: single precision on a CPU, of which
    no gradient is recorded."""
    single = values.dtype in (torch.complex64, torch.float32)
    return single and values.device.type == "cpu"


def _steps(wavenumbers: Tensor) -> tuple[Any, bool]:
    """Turns a metre of each wavenumber (F,), and whether they are equal steps."""
    turns = (wavenumbers / _TURN).numpy()
    even = np.linspace(turns[0], turns[-1], len(turns))
    return turns, bool(np.abs(turns - even).max() <= _EVEN * abs(turns[-1]))


def _turns(carrier: Tensor | None, points: Tensor) -> Any:
    return (torch.zeros(len(points), dtype=torch.float64) if carrier is None else carrier).numpy()
