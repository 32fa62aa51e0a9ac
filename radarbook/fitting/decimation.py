"""The antennas and frequencies of a recording that a fit uses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.clusters import neighbours
from radarbook.radar.gate import AngleGate, RangeGate
from radarbook.radar.waveform import C0, Waveform

#: Pairs of an array without a product that a fit of every second antenna uses at most: as many as
#: of the QAR50.
PAIRS = 48 * 48


@dataclass(frozen=True)
class Decimation:
    """Indices of the antennas and frequency steps of a recording that a fit uses.

    ``pairs``: of an array with pairs, those that are used; ``tx`` and ``rx`` are then their
    antennas. A signal of such an array is (B, pair, f) in what follows.
    """

    tx: Tensor
    rx: Tensor
    steps: Tensor
    pairs: Tensor | None = None

    def __call__(self, signal: Tensor) -> Tensor:
        """(B, rx, tx, f) or (rx, tx, f) of a whole recording -> (B, rx, tx, f) of this part."""
        return self._channels(signal)[..., self.steps]

    def antennas(self, array: Array) -> Array:
        """The part of a whole array."""
        if self.pairs is not None:
            array = array.replace(pairs=array.every_pair()[self.pairs.to(array.tx.device)])
        return array.subset(tx=self.tx, rx=self.rx)

    def _channels(self, signal: Tensor) -> Tensor:
        """Of all frequencies, with a batch axis."""
        axes = 4 if self.pairs is None else 3
        whole = signal if signal.ndim == axes else signal[None]
        if self.pairs is not None:
            return whole[:, self.pairs]
        return whole[:, self.rx][:, :, self.tx]

    def gated(
        self,
        signal: Tensor,
        array: Array,
        waveform: Waveform,
        centres: Tensor,
        gate: RangeGate | None = None,
    ) -> Tensor:
        """The same of the ranges about ``centres`` (B, 3) m alone, for recordings (B, rx, tx, f) or
        (rx, tx, f) by an array and waveform. ``gate`` None: :class:`RangeGate` as it is, and where
        antennas are left out of an array without pairs :class:`AngleGate`, too."""
        ranges, kept = gate or RangeGate(), self.antennas(array)
        whole = len(self.tx) == len(array.tx) and len(self.rx) == len(array.rx)
        if gate is not None or self.pairs is not None or whole:
            part = self._channels(signal)
            pairs = zip(part, centres, strict=True)
            return torch.stack([ranges(s, kept, waveform, c, self.steps) for s, c in pairs])
        all_channels = signal if signal.ndim == 4 else signal[None]
        reduced, found = Waveform(waveform.frequencies[self.steps]), []
        for one, centre in zip(all_channels, centres, strict=True):
            near = ranges(one, array, waveform, centre, self.steps)
            found.append(AngleGate()(near, array, reduced, centre, tx=self.tx, rx=self.rx))
        return torch.stack(found)


def decimate(
    array: Array, waveform: Waveform, *, antennas: int = 2, depth: float = 0.12
) -> Decimation:
    """Every ``antennas``-th antenna, and equal frequency steps unambiguous over ``depth`` metres.

    An even number of antennas is taken for two lines (the QAR50's columns and rows), each thinned
    by itself so that ends and symmetry stay. Of a list of pairs that are few of a product, such as
    a raster, evenly chosen ones among neighbours in space are kept: at most :data:`PAIRS` if
    ``antennas`` is 2, and (2 / ``antennas``)² times as many otherwise. Raises
    :class:`~radarbook.errors.InputError` where the waveform's steps are not equal.

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
    tx, rx = every(len(array.tx)), every(len(array.rx))
    if array.pairs is None:
        return Decimation(tx, rx, used)
    of_tx, of_rx = array.pairs.cpu().unbind(1)
    if array.is_nearly_product:
        kept = (torch.isin(of_tx, tx) & torch.isin(of_rx, rx)).nonzero()[:, 0]
    else:
        order = neighbours(array.tx.detach().cpu()[of_tx], array.rx.detach().cpu()[of_rx])
        at_most = max(1, round(PAIRS * (2 / antennas) ** 2))
        kept = order[:: math.ceil(len(order) / at_most)].sort().values
    return Decimation(of_tx[kept].unique(), of_rx[kept].unique(), used, kept)
