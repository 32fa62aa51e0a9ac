"""Antennas of a recording that stand in each other's place: two cables, or two rows of a table."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radarbook.datasets.recordings.recording import Recording
from radarbook.radar.imaging import Grid, back_project, frequency_window

#: Bright places at which antennas are compared, and pixels of the image that finds them.
_PLACES, _PIXELS = 6, 64
#: Samples at most that are compared, 16 bytes each; of more, every n-th frequency.
_MOST = 2**24
#: Fewer antennas on a side are not compared.
_FEWEST = 8
#: What the exchange of two antennas must add to the image, in contributions of the median antenna.
#: Of 20 sides of a QAR50 before simulated faces, a quarter of their power in noise, it is 0.92 at
#: most where no antenna is swapped, and 0.76 to 4.6 for two swapped ones, -0.5 in one case.
_GAIN = 1.4
#: The tenth of the antennas that add least must add this part of the median, or the image has no
#: focus and says nothing: it is 0.35 to 0.8 for faces, a ball and the MIMO board, and negative for
#: a plate and for noise.
_FEW, _IN_PHASE = 0.1, 0.2


def swapped_antennas(recording: Recording) -> list[tuple[str, int, int]]:
    """Pairs of antennas whose channels are likely swapped: ("rx" or "tx", number, number).

    An image adds all channels in phase at a bright place. An antenna in another one's place adds
    little there, and adds its part when both are exchanged. Antennas so close together that their
    phases hardly differ are not distinguished, nor is an order that mirrors the array. Empty for an
    array with pairs, for fewer than eight antennas on a side, and where the image has no focus.

    Examples
    --------
    >>> import radarbook as rb
    >>> array, waveform = rb.qar50().subset(tx=torch.arange(0, 94, 8)), rb.qar50_waveform(32)
    >>> points = torch.tensor([[0.02, -0.01, 0.30], [-0.03, 0.02, 0.32]])
    >>> signal = rb.simulate_points(points, torch.ones(2), array, waveform)
    >>> order = torch.arange(94)
    >>> order[3], order[60] = 60, 3
    >>> swapped_antennas(rb.Recording(signal[order], array, waveform))
    [('rx', 3, 60)]
    """
    array = recording.array
    if array.pairs is not None or len(recording.waveform) < 2:
        return []
    every = math.ceil(recording.signal.numel() / _MOST)
    k = recording.waveform.wavenumbers.cpu()[::every]
    window = frequency_window("hann", len(k))
    signal = recording.signal.detach().cpu()[..., ::every].to(torch.complex128) * window
    rx, tx = array.rx.detach().cpu(), array.tx.detach().cpu()
    places = _bright(recording)
    found: list[tuple[str, int, int]] = []
    for name, own, other, samples in (
        ("rx", rx, tx, signal),
        ("tx", tx, rx, signal.transpose(0, 1)),
    ):
        if len(own) >= _FEWEST:
            fit = torch.stack([_fit(samples, own, other, k, place) for place in places]).sum(0)
            found += [(name, i, j) for i, j in _exchanged(fit)]
    return found


def _bright(recording: Recording) -> Tensor:
    """(N, 3) m of the brightest places of the image, each found on a finer grid, too."""
    volume, grid = recording.volume(_PIXELS)
    power, points, places = volume.abs(), grid.points(), []
    for _ in range(_PLACES):
        z, y, x = (int(n) for n in torch.unravel_index(power.argmax(), power.shape))
        if not float(power[z, y, x]) > 0:
            break
        around = [
            axis[max(0, n - 1)]
            + torch.linspace(0, 1, 9) * (axis[min(len(axis) - 1, n + 1)] - axis[max(0, n - 1)])
            for axis, n in ((grid.x, x), (grid.y, y), (grid.z, z))
        ]
        fine = Grid(*(a.unique() for a in around))
        with torch.no_grad():
            image = back_project(recording.signal, recording.array, recording.waveform, fine).abs()
        places.append(fine.points().reshape(-1, 3)[image.argmax()])
        near = (points - points[z, y, x]).abs()[..., :2].amax(-1) < 3 * float(grid.x.diff().mean())
        power = power.masked_fill(near, 0.0)
    return torch.stack(places)


def _fit(samples: Tensor, own: Tensor, other: Tensor, k: Tensor, place: Tensor) -> Tensor:
    """(A, A): what antenna i adds in phase to the image at ``place``, if it stood at position j."""
    there, back = (torch.linalg.norm(p - place, dim=1)[:, None] * k for p in (own, other))
    summed = (samples * torch.exp(1j * back)).sum(1)  # (A, F)
    added = summed @ torch.exp(1j * there).T
    whole = added.diagonal().sum()
    return (added * whole.conj()).real


def _exchanged(fit: Tensor) -> list[tuple[int, int]]:
    """Pairs whose exchange adds most to the image; none where most antennas do not add in phase."""
    own = fit.diagonal()
    usual = own.median()
    if not float(own.quantile(_FEW)) > _IN_PHASE * float(usual) > 0:
        return []
    gain = ((fit + fit.T - own[:, None] - own) / usual).triu(1)
    found: list[tuple[int, int]] = []
    for n in gain.flatten().argsort(descending=True).tolist():
        i, j = divmod(n, len(own))
        if float(gain[i, j]) < _GAIN:
            break
        if not {i, j} & {antenna for pair in found for antenna in pair}:
            found.append((i, j))
    return sorted(found)
