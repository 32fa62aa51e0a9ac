"""From the raw signal to a volume and back: back-projection and its adjoint (book, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.profiles import Profile
from radarbook.radar.array import Array
from radarbook.radar.waveform import Waveform

Window = Literal["rectangular", "hann", "hamming"]
#: Bytes that one call may hold beside its input and output, unless the caller says otherwise.
MEMORY_BUDGET = 512 * 2**20


@dataclass(frozen=True)
class Grid:
    """A volume's voxel centres: ascending x (W,), y (H,), z (D,), float64, metres, radar frame."""

    x: Tensor
    y: Tensor
    z: Tensor

    def __post_init__(self) -> None:
        for name in ("x", "y", "z"):
            value = torch.as_tensor(getattr(self, name)).to(torch.float64)
            if value.ndim != 1 or len(value) == 0 or not bool(torch.isfinite(value).all()):
                raise InputError(f"grid {name}: expected finite coordinates (count,)")
            if bool((value.diff() <= 0).any()):
                raise InputError(f"grid {name}: expected ascending coordinates")
            object.__setattr__(self, name, value)

    @classmethod
    def regular(
        cls,
        extent: float,
        pixels: int,
        depth_start: float,
        depth_stop: float,
        depth_planes: int,
    ) -> Grid:
        """A square of ``pixels`` pixel centres on ``extent`` metres; planes start … stop."""
        side = (torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2) * (extent / pixels)
        z = torch.linspace(depth_start, depth_stop, depth_planes, dtype=torch.float64)
        return cls(side, side.clone(), z)

    @classmethod
    def for_profile(cls, profile: Profile) -> Grid:
        """The grid of a profile's images."""
        return cls.regular(
            profile.extent,
            profile.pixels,
            profile.depth_start,
            profile.depth_stop,
            profile.depth_planes,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return len(self.z), len(self.y), len(self.x)

    def points(self) -> Tensor:
        """(z, y, x, 3) float64 voxel centres."""
        z, y, x = torch.meshgrid(self.z, self.y, self.x, indexing="ij")
        return torch.stack([x, y, z], dim=-1)


def frequency_window(kind: Window, count: int) -> Tensor:
    """(F,) float64 weights along frequency, mean 1."""
    if kind == "rectangular":
        weights = torch.ones(count, dtype=torch.float64)
    elif kind == "hann":
        # Sampled inside the band, so no step is thrown away.
        weights = torch.hann_window(count + 2, periodic=False, dtype=torch.float64)[1:-1]
    elif kind == "hamming":
        weights = torch.hamming_window(count, periodic=False, dtype=torch.float64)
    else:
        raise InputError(
            f"parameter 'window': expected rectangular, hann or hamming, found {kind!r}"
        )
    return weights / weights.mean()


def back_project(
    signal: Tensor,
    array: Array,
    waveform: Waveform,
    grid: Grid,
    *,
    window: Window = "rectangular",
    memory: int = MEMORY_BUDGET,
) -> Tensor:
    """Volume I(v) = Σ S[rx, tx, f] · w(f) · e^{+jk(d_tx(v) + d_rx(v))}, Eq. (4.1).

    Parameters
    ----------
    signal : Tensor (rx, tx, f) or (B, rx, tx, f), complex
    window
        Weights along frequency: less skirt in depth for a wider main lobe.
    memory : int
        Bytes of working memory to stay within (the volume itself not counted).

    Returns
    -------
    Tensor (z, y, x) or (B, z, y, x), complex, of the signal's dtype and on its device
        Differentiable with respect to the signal (linear) and the array's positions.

    Raises :class:`~radarbook.errors.InputError` where the signal does not fit array and waveform.
    """
    wanted = (len(array.rx), len(array.tx), len(waveform))
    if signal.ndim not in (3, 4) or tuple(signal.shape[-3:]) != wanted or not signal.is_complex():
        raise InputError(
            f"signal: expected complex (rx, tx, frequency) = {wanted}, "
            f"found {signal.dtype} {tuple(signal.shape)}"
        )
    batch = signal if signal.ndim == 4 else signal[None]
    weights = frequency_window(window, len(waveform)).to(signal.device)
    slices = (batch * weights.to(signal.dtype)).permute(3, 0, 2, 1).contiguous()  # (f, B, tx, rx)
    volumes = []
    for near, far in _steering(array, waveform, grid, signal.dtype, signal.device, memory):
        part = sum(((n @ s) * r).sum(-1) for n, s, r in zip(near, slices, far, strict=True))
        assert isinstance(part, Tensor)
        volumes.append(part)
    volume = torch.cat(volumes, dim=1).reshape(len(batch), *grid.shape)
    return volume if signal.ndim == 4 else volume[0]


def project(
    volume: Tensor,
    array: Array,
    waveform: Waveform,
    grid: Grid,
    *,
    window: Window = "rectangular",
    memory: int = MEMORY_BUDGET,
) -> Tensor:
    """The exact adjoint of :func:`back_project`: the signal of one point per voxel, Eq. (4.2).

    ``volume`` (z, y, x) or (B, z, y, x) complex reflectivities; returns (rx, tx, f) or
    (B, rx, tx, f). Differentiable with respect to volume and the array's positions.
    """
    if volume.ndim not in (3, 4) or tuple(volume.shape[-3:]) != grid.shape:
        raise InputError(f"volume: expected (z, y, x) = {grid.shape}, found {tuple(volume.shape)}")
    batch = (volume if volume.ndim == 4 else volume[None]).flatten(1)
    weights = frequency_window(window, len(waveform)).to(volume.device)
    parts: list[Tensor] = []
    start = 0
    for near, far in _steering(array, waveform, grid, volume.dtype, volume.device, memory):
        stop = start + near.shape[1]
        values = batch[:, start:stop, None]
        # (f, B, rx, tx)
        signal = torch.stack(
            [(values * r.conj()).transpose(1, 2) @ n.conj() for n, r in zip(near, far, strict=True)]
        )
        parts = [parts[0] + signal] if parts else [signal]
        start = stop
    out = parts[0].permute(1, 2, 3, 0) * weights.to(volume.dtype)
    return out if volume.ndim == 4 else out[0]


def _steering(
    array: Array,
    waveform: Waveform,
    grid: Grid,
    dtype: torch.dtype,
    device: torch.device,
    memory: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of e^{+jkd}: ((f, V, tx), (f, V, rx)) for successive voxels, z slowest."""
    tx, rx = array.tx.to(device), array.rx.to(device)
    k = waveform.wavenumbers.to(device)
    points = grid.points().reshape(-1, 3).to(device)
    per_voxel = (len(tx) + len(rx)) * len(k) * 3 * dtype.itemsize
    for chunk in points.split(max(1, memory // per_voxel)):
        pair = []
        for antennas in (tx, rx):
            distance = (chunk[:, None] - antennas).square().sum(-1).sqrt()
            phase = (k[:, None, None] * distance) % (2 * math.pi)
            phase = phase.to(dtype.to_real())
            pair.append(torch.polar(torch.ones_like(phase), phase))
        yield pair[0], pair[1]
