"""The antennas and frequencies of a recording that a fit uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.gate import RangeGate
from radarbook.radar.waveform import C0, Waveform


@dataclass(frozen=True)
class Decimation:
    """Indices of the antennas and frequency steps of a recording that a fit uses."""

    tx: Tensor
    rx: Tensor
    steps: Tensor

    def __call__(self, signal: Tensor) -> Tensor:
        """(B, rx, tx, f) or (rx, tx, f) of a whole recording -> (B, rx, tx, f) of this part."""
        whole = signal if signal.ndim == 4 else signal[None]
        return whole[:, self.rx][:, :, self.tx][..., self.steps]

    def gated(
        self,
        signal: Tensor,
        array: Array,
        waveform: Waveform,
        centres: Tensor,
        gate: RangeGate | None = None,
    ) -> Tensor:
        """The same of the ranges about ``centres`` (B, 3) m alone, for recordings (B, rx, tx, f) or
        (rx, tx, f) by an array and waveform. ``gate`` None: :class:`RangeGate` as it is."""
        whole = signal if signal.ndim == 4 else signal[None]
        part = whole[:, self.rx][:, :, self.tx]
        kept = array.subset(tx=self.tx, rx=self.rx)
        gate = gate or RangeGate()
        gated = [gate(s, kept, waveform, c, self.steps) for s, c in zip(part, centres, strict=True)]
        return torch.stack(gated)


def decimate(
    array: Array, waveform: Waveform, *, antennas: int = 2, depth: float = 0.12
) -> Decimation:
    """Every ``antennas``-th antenna, and equal frequency steps unambiguous over ``depth`` metres.

    An even number of antennas is taken for two lines (the QAR50's columns and rows), each thinned
    by itself so that ends and symmetry stay. Raises :class:`~radarbook.errors.InputError` where
    the waveform's steps are not equal.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> part = decimate(qar50(), qar50_waveform(128))
    >>> tuple(part(torch.zeros(94, 94, 128)).shape)
    (1, 48, 48, 9)
    """
    gaps = waveform.frequencies.diff()
    if len(gaps) == 0 or float((gaps - gaps.mean()).abs().max()) > 1e-6 * float(gaps.mean()):
        raise InputError("fit through physics: expected at least two, equal frequency steps")

    def every(count: int) -> Tensor:
        lines = [range(count // 2), range(count // 2, count)] if count % 2 == 0 else [range(count)]
        return torch.tensor([i for line in lines for i in line[::antennas]])

    stride = max(1, int(C0 / (2 * depth * float(gaps.mean()))))
    used = torch.arange(0, len(waveform), min(stride, len(waveform) - 1))
    # The steps left over are shared by both ends of the band.
    used = used + (len(waveform) - 1 - int(used[-1])) // 2
    return Decimation(every(len(array.tx)), every(len(array.rx)), used)
