"""A radar image: amplitude, depth and mask on a lateral grid, and its file.

This module holds the container that every renderer returns; how a volume becomes one is in
:func:`image_from_volume`.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.hdf5 import new_hdf5, read_hdf5
from radarbook.radar.imaging import Grid


@dataclass(frozen=True)
class RadarImage:
    """A batch of radar images (B images of H × W pixels), images indexed ``[b, y, x]``.

    Attributes
    ----------
    amplitude_db : Tensor (B, H, W)
        Amplitude in dB relative to each image's maximum (0 dB), clipped at the dynamic range.
    depth : Tensor (B, H, W)
        Radar-frame z of the strongest voxel along depth, metres. Finite everywhere; it means
        something only where ``mask`` is true.
    mask : Tensor (B, H, W), bool
        True where the amplitude is above the dynamic range.
    x, y : Tensor (W,), (H,)
        Pixel centres in the radar frame, metres, ascending.
    dynamic_range_db : Tensor (B,)
        Negative dB; where ``amplitude_db`` is clipped.

    Examples
    --------
    >>> grid = Grid.regular(0.30, 8, 0.28, 0.32, 5)
    >>> image = image_from_volume(torch.ones(5, 8, 8, dtype=torch.complex64), grid)
    >>> len(image), tuple(image.with_dynamic_range(-20.0).amplitude_db.shape)
    (1, (1, 8, 8))
    """

    amplitude_db: Tensor
    depth: Tensor
    mask: Tensor
    x: Tensor
    y: Tensor
    dynamic_range_db: Tensor

    def __len__(self) -> int:
        return len(self.amplitude_db)

    def __getitem__(self, index: int | slice | Tensor) -> RadarImage:
        """A batch again, also for a single integer index."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return replace(
            self,
            amplitude_db=self.amplitude_db[index],
            depth=self.depth[index],
            mask=self.mask[index],
            dynamic_range_db=self.dynamic_range_db[index],
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> RadarImage:
        """On another device or, but for the mask, in another dtype."""
        moved = {
            name: getattr(self, name).to(device=device, dtype=dtype)
            for name in ("amplitude_db", "depth", "x", "y", "dynamic_range_db")
        }
        return RadarImage(mask=self.mask.to(device=device), **moved)

    def detach(self) -> RadarImage:
        """The same values without their graph."""
        return replace(self, amplitude_db=self.amplitude_db.detach(), depth=self.depth.detach())

    def with_dynamic_range(self, dynamic_range_db: float | Tensor) -> RadarImage:
        """The same image clipped at another, smaller dynamic range (negative dB, scalar or (B,)).

        A wider range than the image holds cannot be restored: the result keeps the narrower one.
        """
        wanted = torch.as_tensor(dynamic_range_db).to(self.dynamic_range_db)
        floor = torch.maximum(wanted.expand_as(self.dynamic_range_db), self.dynamic_range_db)
        level = floor[:, None, None]
        return replace(
            self,
            amplitude_db=torch.maximum(self.amplitude_db, level),
            mask=self.mask & (self.amplitude_db > level),
            dynamic_range_db=floor,
        )


#: How far from the strongest plane a sharper volume's peak may lie, m: half the QAR50's c/2B.
_NEAR = 7.5e-3


def image_from_volume(
    volume: Tensor,
    grid: Grid,
    dynamic_range_db: float | Tensor = -60.0,
    *,
    sharp: Tensor | None = None,
) -> RadarImage:
    """Amplitude, depth and mask of a volume by maximum projection along depth, Eqs. (P5.1)-(P5.3).

    Parameters
    ----------
    volume : Tensor (z, y, x) or (B, z, y, x), complex
        On ``grid``, whose depth planes must be equally spaced.
    dynamic_range_db : float or Tensor (B,)
        Negative dB below each image's maximum at which amplitude is clipped.
    sharp : Tensor, as ``volume``
        The same scene with a narrower lobe in depth, ``back_project(…, window="edges")``. Depth is
        then its peak near the strongest plane of ``volume``, which its higher side lobes cannot
        pull away; amplitude and mask stay ``volume``'s. The depth of a face is better by a quarter
        (book, section 5), and imaging costs twice as much.

    Returns
    -------
    RadarImage
        B images (one for a single volume). The peak along depth is refined to a fraction of a
        plane by the parabola through the logarithms of the strongest plane and its neighbours.
        Amplitude and depth are differentiable with respect to the volume and to the range.

    Examples
    --------
    >>> grid = Grid.regular(0.30, 2, 0.28, 0.32, 5)
    >>> volume = torch.ones(5, 2, 2, dtype=torch.complex64)
    >>> volume[2] *= 4
    >>> image = image_from_volume(volume, grid, dynamic_range_db=-20.0)
    >>> round(float(image.depth[0, 0, 0]), 3)
    0.3
    """
    batch = volume if volume.ndim == 4 else volume[None]
    if batch.ndim != 4 or tuple(batch.shape[-3:]) != grid.shape:
        raise InputError(f"volume: expected (z, y, x) = {grid.shape}, found {tuple(volume.shape)}")
    z = grid.z.to(device=batch.device)
    level = _level(batch)
    index = level.detach().argmax(1, keepdim=True)
    peak, depth = _peak(level, index, z)
    if sharp is not None:
        finer = sharp if sharp.ndim == 4 else sharp[None]
        if finer.shape != batch.shape:
            raise InputError(f"sharp: expected {tuple(batch.shape)}, found {tuple(finer.shape)}")
        level = _level(finer)
        reach = max(1, int(_NEAR / float(grid.z[1] - grid.z[0]))) if len(z) > 1 else 0
        steps = torch.arange(-reach, reach + 1, device=batch.device)[:, None, None]
        nearby = (index + steps).clamp(0, len(z) - 1)
        best = level.detach().gather(1, nearby).argmax(1, keepdim=True)
        _, depth = _peak(level, nearby.gather(1, best), z)
    decibel = peak[:, 0] * (10 / math.log(10))
    decibel = decibel - decibel.amax((1, 2), keepdim=True)
    floor = torch.as_tensor(dynamic_range_db).to(decibel).expand(len(decibel))
    return RadarImage(
        amplitude_db=torch.maximum(decibel, floor[:, None, None]),
        depth=depth[:, 0],
        mask=decibel.detach() > floor.detach()[:, None, None],
        x=grid.x.to(decibel),
        y=grid.y.to(decibel),
        dynamic_range_db=floor,
    )


def _level(volume: Tensor) -> Tensor:
    """ln |I|², finite for nothing too."""
    power = volume.real.square() + volume.imag.square() if volume.is_complex() else volume.square()
    return torch.log(power.clamp(min=torch.finfo(power.dtype).tiny))


def _peak(level: Tensor, index: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Level and depth (B, 1, H, W) of the parabola through the planes about ``index``."""
    peak = level.gather(1, index)
    depth = z.to(level.dtype)[index]
    if len(z) >= 3:
        # At the volume's ends there is no parabola: the plane itself is the answer.
        inner = index.clamp(1, len(z) - 2)
        before, here, after = (level.gather(1, inner + i) for i in (-1, 0, 1))
        bend = (before - 2 * here + after).clamp(max=-1e-6)
        offset = (0.5 * (before - after) / bend).clamp(-0.5, 0.5)
        inside = inner == index
        depth = depth + torch.where(inside, offset, 0.0) * (z[1] - z[0]).to(depth.dtype)
        peak = peak + torch.where(inside, -0.25 * (before - after) * offset, 0.0)
    return peak, depth


_UNITS = {"amplitude_db": "dB", "depth": "m", "mask": "1", "x": "m", "y": "m"}


def save_image(path: str | os.PathLike[str], image: RadarImage) -> None:
    """Write a radar image to HDF5, atomically.

    Datasets ``amplitude_db``, ``depth``, ``mask`` ((H, W) for one image, (B, H, W) for more),
    ``x``, ``y``, each with its unit as attribute ``units``; attribute ``dynamic_range_db``.

    Examples
    --------
    >>> grid = Grid.regular(0.30, 8, 0.28, 0.32, 5)
    >>> image = image_from_volume(torch.ones(5, 8, 8, dtype=torch.complex64), grid)
    >>> save_image("image.h5", image)
    >>> bool((load_image("image.h5").depth == image.depth).all())
    True
    """
    with new_hdf5(path) as file:
        file.attrs["kind"] = "radarbook radar image"
        file.attrs["dynamic_range_db"] = image.dynamic_range_db.detach().cpu().numpy()
        for name, unit in _UNITS.items():
            value = getattr(image, name).detach().cpu().numpy()
            if value.ndim == 3 and len(value) == 1:
                value = value[0]
            file.create_dataset(name, data=value).attrs["units"] = unit


def load_image(path: str | os.PathLike[str]) -> RadarImage:
    """Read what :func:`save_image` wrote. Raises :class:`~radarbook.errors.InputError`.

    Examples
    --------
    >>> load_image("missing.h5")
    Traceback (most recent call last):
        ...
    radarbook.errors.InputError: missing.h5: no such file
    """
    with read_hdf5(path, f"an HDF5 radar image with {', '.join(_UNITS)}") as file:
        values = {name: torch.from_numpy(file[name][()]) for name in _UNITS}
        floor = torch.from_numpy(file.attrs["dynamic_range_db"])
    for name in ("amplitude_db", "depth", "mask"):
        if values[name].ndim == 2:
            values[name] = values[name][None]
        wanted = (len(floor), len(values["y"]), len(values["x"]))
        if tuple(values[name].shape) != wanted:
            raise InputError(
                f"{path}: expected {name} of shape {wanted}, found {tuple(values[name].shape)}"
            )
    return RadarImage(dynamic_range_db=floor, **values)
